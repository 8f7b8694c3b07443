//! One small test for each rule of the contract, and for each error that a caller can cause.
//!
//! A rule about reading is checked wherever the data may lie: in the log, sealed, merged, and after reopening.

use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytes::Bytes;
use chanlog::{
    Argument, Batch, Condition, Continuation, Conversation, Draft, Durability, Error, Event, Head,
    HistoryFrom, JoinOptions, LeaveOptions, List, ListChange, MAX_ATTRIBUTES, MAX_CHANNEL_ATTRIBUTES, Mark,
    MemberEntry, Membership, Message, Options, Outcome, Receipt, Store, SyncToken, Unread, Update,
};
use tempfile::TempDir;

/// A store in a directory of its own.
struct Fresh {
    store: Store,
    options: Options,
    dir: TempDir,
}

impl Deref for Fresh {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.store
    }
}

fn small() -> Options {
    Options::new().log_segment(1 << 20).background(false)
}

fn fresh() -> Fresh {
    fresh_with(small())
}

fn fresh_with(options: Options) -> Fresh {
    let dir = tempfile::tempdir().unwrap();
    let store = options.clone().open(dir.path()).unwrap();
    Fresh { store, options, dir }
}

impl Fresh {
    fn reopen(&mut self) {
        self.store.close().unwrap();
        self.store = self.options.clone().open(self.dir.path()).unwrap();
    }

    /// What opening finds after a crash at this moment: a copy of the files.
    fn crashed(&self) -> Fresh {
        let dir = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(self.dir.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
        let store = self.options.clone().open(dir.path()).unwrap();
        Fresh { store, options: self.options.clone(), dir }
    }

    /// Runs a check on the data as it lies now, then sealed, merged, and after reopening.
    fn wherever(mut self, check: impl Fn(&Store)) {
        check(&self);
        self.store.seal().unwrap();
        check(&self);
        while self.store.maintain().unwrap() {}
        check(&self);
        self.reopen();
        check(&self);
    }
}

fn commit(store: &Store, build: impl FnOnce(&mut Batch) -> &mut Batch) -> Receipt {
    try_commit(store, build).unwrap()
}

fn try_commit(store: &Store, build: impl FnOnce(&mut Batch) -> &mut Batch) -> Result<Receipt, Error> {
    let mut batch = Batch::new();
    build(&mut batch);
    store.commit(&batch)
}

fn draft(sender: &str) -> Draft {
    Draft::new(sender, 1_700_000_000_000, "hello")
}

/// Appends `count` messages of `sender`.
/// A head as a channel of messages has it.
fn head(last: Mark, order: u64, members: u32) -> Head {
    let mut head = Head::default();
    (head.last, head.order, head.changed, head.members) = (last, order, order, members);
    head
}

fn send(store: &Store, channel: &str, sender: &str, count: usize) {
    commit(store, |b| {
        (0..count).for_each(|i| _ = b.append(channel, Draft::new(sender, i as i64, format!("message {i}"))));
        b
    });
}

fn version(store: &Store) -> u64 {
    store.stat().unwrap().version
}

fn member(store: &Store, channel: &str, user: &str) -> Membership {
    store.membership(channel, user).unwrap().expect("a member")
}

fn list(store: &Store, user: &str) -> List {
    store.conversations(user).list().unwrap()
}

fn channels_in(entries: &[Conversation]) -> Vec<&str> {
    entries.iter().map(|e| std::str::from_utf8(&e.channel).unwrap()).collect()
}

fn listed(store: &Store, user: &str) -> Vec<String> {
    channels_in(&list(store, user).entries).into_iter().map(str::to_owned).collect()
}

fn entry(store: &Store, user: &str, channel: &str) -> Conversation {
    let entries = list(store, user).entries;
    entries.into_iter().find(|e| e.channel == channel).expect("an entry")
}

fn unread(store: &Store, user: &str, channel: &str) -> u64 {
    entry(store, user, channel).unread
}

fn seqs(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|m| m.seq).collect()
}

fn changes(store: &Store, user: &str, token: &SyncToken) -> (Vec<ListChange>, SyncToken) {
    match store.conversations(user).since(token).unwrap() {
        Update::Changes { changes, as_of, next, .. } => {
            assert_eq!(next, None);
            (changes, as_of)
        }
        update => panic!("expected changes, not {update:?}"),
    }
}

/// A change in a word: the channel, with a minus if it was removed.
fn brief(changes: &[ListChange]) -> Vec<String> {
    let text = |name: &Bytes| String::from_utf8(name.to_vec()).unwrap();
    let brief = |change: &ListChange| match change {
        ListChange::Entry(entry) => text(&entry.channel),
        ListChange::Removed { channel, .. } => format!("-{}", text(channel)),
        _ => unreachable!(),
    };
    changes.iter().map(brief).collect()
}

fn assert_invalid(result: Result<Receipt, Error>, at: usize) {
    match result {
        Err(Error::InvalidArgument { op, .. }) => assert_eq!(op, Some(at), "the operation at fault"),
        other => panic!("expected an invalid argument, not {other:?}"),
    }
}

mod names {
    use super::*;

    #[test]
    fn are_any_1_to_255_bytes() {
        let store = fresh();
        let all: Vec<Vec<u8>> = vec![
            vec![0],
            vec![0xff; 255],
            b"../../etc/passwd".to_vec(),
            b"NUL\0CON".to_vec(),
            (0..=254).collect(),
            "\u{202e}right to left".into(),
        ];
        for name in &all {
            commit(&store, |b| b.join(name, name).append(name, Draft::new(name, 0, "")));
        }
        store.wherever(|store| {
            let mut sorted = all.clone();
            sorted.sort();
            assert_eq!(store.channels().list().unwrap(), sorted);
            assert_eq!(store.users().list().unwrap(), sorted);
            for name in &all {
                assert_eq!(store.history(name).list().unwrap()[0].sender, name);
                assert_eq!(store.members(name).list().unwrap(), std::slice::from_ref(name));
            }
        });
    }

    #[test]
    fn of_no_bytes_are_refused() {
        let store = fresh();
        let bad = [
            try_commit(&store, |b| b.join("c", "u").append("", draft("u"))),
            try_commit(&store, |b| b.join("c", "u").append("c", draft(""))),
            try_commit(&store, |b| b.join("c", "u").join("", "u")),
            try_commit(&store, |b| b.join("c", "u").join("c", "")),
            try_commit(&store, |b| b.join("c", "u").leave("c", "")),
            try_commit(&store, |b| b.join("c", "u").read("", "u", 1)),
            try_commit(&store, |b| b.join("c", "u").clear("c", "")),
            try_commit(&store, |b| b.join("c", "u").activate("", "u")),
        ];
        bad.into_iter().for_each(|result| assert_invalid(result, 1));
        assert_eq!(version(&store), 0, "nothing of the refused batches was written");
    }

    #[test]
    fn of_256_bytes_are_refused() {
        let (store, long) = (fresh(), "x".repeat(256));
        assert_invalid(try_commit(&store, |b| b.append(&long, draft("u"))), 0);
        assert_invalid(try_commit(&store, |b| b.append("c", draft(&long))), 0);
        assert_invalid(try_commit(&store, |b| b.join("c", &long)), 0);
        assert_invalid(try_commit(&store, |b| b.leave(&long, "u")), 0);
    }

    #[test]
    fn that_are_unknown_read_as_empty_and_are_not_created() {
        let store = fresh();
        assert_eq!(store.head("c").unwrap(), Head::default());
        assert_eq!(store.history("c").list().unwrap(), []);
        assert_eq!(store.history("c").last(3).unwrap(), []);
        assert_eq!(store.membership("c", "u").unwrap(), None);
        assert_eq!(store.members("c").list().unwrap(), Vec::<Bytes>::new());
        assert_eq!(store.channels_of("u").list().unwrap(), Vec::<Bytes>::new());
        assert!(list(&store, "u").entries.is_empty());
        assert!(!store.has_memberships("u").unwrap());
        assert!(!store.has_channel("c").unwrap());
        let receipt = commit(&store, |b| b.leave("c", "u"));
        assert_eq!(receipt.outcomes(), [Outcome::Unchanged]);
        assert_eq!(store.channels().list().unwrap(), Vec::<Bytes>::new());
        assert_eq!(store.users().list().unwrap(), Vec::<Bytes>::new());
        assert_eq!(version(&store), 0);
    }

    #[test]
    fn are_listed_in_byte_order_page_by_page() {
        let store = fresh();
        for name in ["b", "a", "ab", "c", "B"] {
            commit(&store, |b| b.append(name, draft(&format!("user {name}"))));
        }
        store.wherever(|store| {
            assert_eq!(store.channels().list().unwrap(), ["B", "a", "ab", "b", "c"]);
            assert_eq!(store.channels().limit(2).list().unwrap(), ["B", "a"]);
            assert_eq!(store.channels().after("a").limit(2).list().unwrap(), ["ab", "b"]);
            assert_eq!(store.channels().after("aa").list().unwrap(), ["ab", "b", "c"], "any name is a place");
            assert_eq!(store.channels().after("c").list().unwrap(), Vec::<Bytes>::new());
            assert_eq!(store.users().after("user a").limit(1).list().unwrap(), ["user ab"]);
        });
    }

    #[test]
    fn of_senders_are_users_and_of_joined_channels_are_channels() {
        let store = fresh();
        commit(&store, |b| b.append("sent", draft("sender")).join("joined", "joiner"));
        assert_eq!(store.users().list().unwrap(), ["joiner", "sender"]);
        assert_eq!(store.channels().list().unwrap(), ["joined", "sent"]);
        assert!(store.has_memberships("joiner").unwrap());
        assert!(store.has_channel("joined").unwrap() && store.has_channel("sent").unwrap());
        assert!(!store.has_memberships("sender").unwrap(), "sending makes no membership");
    }
}

mod messages {
    use super::*;

    #[test]
    fn keep_every_field() {
        let store = fresh();
        let (client, payload) = ([0u8; 64], Bytes::from(vec![0xee; 5000]));
        commit(&store, |b| {
            b.append("c", Draft::new("a", i64::MIN, "").silent())
                .append("c", Draft::new("b", i64::MAX, payload.clone()).id(u64::MAX).client_id(client))
                .append("c", Draft::new("c", -1, "\0").id(0).client_id("1").silent())
        });
        store.wherever(|store| {
            let all = store.history("c").list().unwrap();
            assert_eq!(seqs(&all), [1, 2, 3]);
            let (first, middle, last) = (&all[0], &all[1], &all[2]);
            assert_eq!(
                (first.ordinal, first.version, &first.sender[..], first.timestamp),
                (0, 1, &b"a"[..], i64::MIN)
            );
            assert_eq!(
                (first.silent, first.id, &first.client_id, &first.payload[..]),
                (true, None, &None, &b""[..])
            );
            assert_eq!((middle.ordinal, middle.version, middle.timestamp), (1, 2, i64::MAX));
            assert_eq!((middle.silent, middle.id), (false, Some(u64::MAX)));
            assert_eq!((middle.client_id.as_deref(), &middle.payload), (Some(&client[..]), &payload));
            assert_eq!((last.ordinal, last.version, last.timestamp, last.silent), (1, 3, -1, true));
            assert_eq!(
                (last.id, last.client_id.as_deref(), &last.payload[..]),
                (Some(0), Some(&b"1"[..]), &b"\0"[..])
            );
        });
    }

    #[test]
    fn get_contiguous_seqs_in_each_channel_and_one_sequence_of_versions() {
        let store = fresh();
        let receipt = commit(&store, |b| {
            b.append("a", draft("u")).append("b", draft("u").silent()).append("a", draft("u"))
        });
        let appended = |seq, ordinal, version| Outcome::Appended { seq, ordinal, version };
        assert_eq!(receipt.outcomes(), [appended(1, 1, 1), appended(1, 0, 2), appended(2, 2, 3)]);
        let receipt = commit(&store, |b| b.append("b", draft("u")));
        assert_eq!(receipt.outcomes(), [appended(2, 1, 4)]);
        assert_eq!(receipt.outcomes()[0].seq(), Some(2));
        assert_eq!(receipt.outcomes()[0].version(), Some(4));
    }

    #[test]
    fn of_1_mib_are_accepted_and_one_byte_more_is_too_large() {
        let store = fresh();
        let full = vec![7; 1 << 20];
        commit(&store, |b| b.append("c", Draft::new("u", 0, full.clone())));
        let larger = vec![7; (1 << 20) + 1];
        let error = try_commit(&store, |b| b.append("c", draft("u")).append("c", Draft::new("u", 0, larger)))
            .unwrap_err();
        assert!(matches!(error, Error::TooLarge { len: 1_048_577, limit: 1_048_576, .. }), "{error}");
        store.wherever(|store| assert_eq!(store.history("c").list().unwrap()[0].payload, full));
    }

    #[test]
    fn may_be_limited_otherwise_up_to_16_mib() {
        let store = fresh_with(small().payload_limit(10));
        assert!(try_commit(&store, |b| b.append("c", Draft::new("u", 0, vec![0; 10]))).is_ok());
        let error = try_commit(&store, |b| b.append("c", Draft::new("u", 0, vec![0; 11]))).unwrap_err();
        assert!(matches!(error, Error::TooLarge { len: 11, limit: 10, .. }), "{error}");

        let store = fresh_with(small().log_segment(8 << 10).payload_limit(u32::MAX));
        let huge = vec![1; 16 << 20];
        commit(&store, |b| b.append("c", Draft::new("u", 0, huge.clone())));
        let error =
            try_commit(&store, |b| b.append("c", Draft::new("u", 0, vec![0; (16 << 20) + 1]))).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        store.wherever(|store| assert_eq!(store.history("c").list().unwrap()[0].payload, huge));
    }

    #[test]
    fn have_client_ids_of_1_to_64_bytes() {
        let store = fresh();
        assert_invalid(
            try_commit(&store, |b| b.append("c", draft("u")).append("c", draft("u").client_id(""))),
            1,
        );
        assert_invalid(try_commit(&store, |b| b.append("c", draft("u").client_id([1; 65]))), 0);
        commit(&store, |b| b.append("c", draft("u").client_id([1; 64])));
    }

    #[test]
    fn of_a_non_member_move_no_mark() {
        let store = fresh();
        commit(&store, |b| b.join("c", "alice").append("c", draft("system")));
        assert_eq!(store.membership("c", "system").unwrap(), None);
        assert_eq!(unread(&store, "alice", "c"), 1);
        commit(&store, |b| {
            b.join_with("c", "system", JoinOptions::new().history(HistoryFrom::Start).read(0))
        });
        assert_eq!(member(&store, "c", "system").own, Mark::default());
    }
}

mod idempotent_sends {
    use super::*;
    use std::time::Duration;

    fn named(sender: &str, id: &str, text: &str) -> Draft {
        Draft::new(sender, 1_700_000_000_000, text.to_owned()).client_id(id)
    }

    fn existed(receipt: &Receipt) -> Option<(u64, u64)> {
        match receipt.outcomes()[0] {
            Outcome::Existed { seq, version } => Some((seq, version)),
            _ => None,
        }
    }

    #[test]
    fn find_the_first_wherever_it_lies() {
        let store = fresh();
        send(&store, "c", "v", 3);
        let first = commit(&store, |b| b.append("c", named("u", "1", "hello")));
        assert_eq!(first.outcomes(), [Outcome::Appended { seq: 4, ordinal: 4, version: 4 }]);
        send(&store, "c", "v", 2);
        let before = version(&store);
        store.wherever(|store| {
            let again = named("u", "1", "hello").id(7);
            let mut batch = Batch::new();
            batch.append("c", again).append("c", named("u", "1", "hello"));
            let receipt = store.commit(&batch).unwrap();
            assert_eq!(receipt.outcomes(), [Outcome::Existed { seq: 4, version: 4 }; 2]);
            assert_eq!(receipt.outcomes()[0].version(), None, "it takes none");
            assert_eq!((version(store), store.head("c").unwrap().last.seq), (before, 6));
        });
    }

    #[test]
    fn survive_a_crash() {
        let store = fresh();
        commit(&store, |b| b.append("c", named("u", "1", "hello")));
        let crashed = store.crashed();
        assert_eq!(existed(&commit(&crashed, |b| b.append("c", named("u", "1", "hello")))), Some((1, 1)));
    }

    #[test]
    fn are_apart_by_channel_sender_and_id() {
        let store = fresh();
        commit(&store, |b| b.append("c", named("u", "1", "hello")));
        for (channel, sender, id) in [("d", "u", "1"), ("c", "v", "1"), ("c", "u", "2")] {
            let receipt = commit(&store, |b| b.append(channel, named(sender, id, "hello")));
            assert_eq!(existed(&receipt), None);
        }
        assert_eq!(existed(&commit(&store, |b| b.append("c", draft("u")))), None);
        assert_eq!(
            existed(&commit(&store, |b| b.append("c", draft("u")))),
            None,
            "without an id all are new"
        );
    }

    #[test]
    fn refuse_another_content() {
        let store = fresh();
        commit(&store, |b| b.append("c", named("u", "1", "hello")));
        store.wherever(|store| {
            let before = version(store);
            for other in [named("u", "1", "bye"), named("u", "1", "hello").silent()] {
                let refused = try_commit(store, |b| b.append("c", draft("v")).append("c", other));
                assert!(matches!(refused, Err(Error::Conflict { op: 1, seq: 1, .. })), "{refused:?}");
            }
            assert_eq!(version(store), before, "nothing of the batch is written");
        });
    }

    #[test]
    fn let_the_rest_of_their_batch_apply() {
        let store = fresh();
        commit(&store, |b| b.append("c", named("u", "1", "hello")));
        let receipt = commit(&store, |b| {
            b.append("c", named("u", "1", "hello")).join("c", "v").append("c", draft("v"))
        });
        assert_eq!(existed(&receipt), Some((1, 1)));
        assert_eq!(receipt.outcomes()[2].seq(), Some(2));
    }

    #[test]
    fn answer_a_member_who_left_since() {
        let store = fresh();
        commit(&store, |b| {
            b.join("c", "u").append("c", named("u", "1", "hello").members_only()).leave("c", "u")
        });
        let again = commit(&store, |b| b.append("c", named("u", "1", "hello").members_only()));
        assert_eq!(existed(&again), Some((1, 2)));
        let other = try_commit(&store, |b| b.append("c", named("u", "2", "hello").members_only()));
        assert!(matches!(other, Err(Error::NotMember { op: 0, .. })));
    }

    #[test]
    fn count_for_a_number_of_versions_whether_merged_or_not() {
        let store = fresh_with(small().client_id_window(4, Duration::ZERO));
        commit(&store, |b| b.append("c", named("u", "1", "hello")));
        // A batch that begins with version 5 is the last that it counts for.
        for step in 0..3 {
            send(&store, "d", "v", 1);
            store.seal().unwrap();
            while store.maintain().unwrap() {}
            let merged = existed(&commit(&store, |b| b.append("c", named("u", "1", "hello"))));
            assert_eq!(merged, Some((1, 1)), "step {step}");
        }
        send(&store, "d", "v", 1);
        store.seal().unwrap();
        while store.maintain().unwrap() {}
        assert_eq!(version(&store), 5);
        let receipt = commit(&store, |b| b.append("c", named("u", "1", "something else")));
        assert_eq!(receipt.outcomes()[0].seq(), Some(2), "the id is free again");
        assert_eq!(
            existed(&commit(&store, |b| b.append("c", named("u", "1", "something else")))),
            Some((2, 6))
        );
    }

    #[test]
    fn count_after_merges_of_all_rows() {
        let store = fresh();
        commit(&store, |b| b.append("c", named("u", "1", "hello")));
        for _ in 0..3 {
            send(&store, "d", "v", 1);
            store.compact().unwrap();
            let again = commit(&store, |b| b.append("c", named("u", "1", "hello")));
            assert_eq!(existed(&again), Some((1, 1)));
        }
    }

    #[test]
    fn cost_nothing_without_an_id() {
        let store = fresh();
        send(&store, "c", "u", 100);
        assert_eq!(version(&store), 100);
        store.seal().unwrap();
        assert_eq!(store.stat().unwrap().filters, 0);
        commit(&store, |b| (0..1000).fold(b, |b, i| b.append("c", named("u", &format!("{i}"), "hello"))));
        store.seal().unwrap();
        let filters = store.stat().unwrap().filters;
        assert!((2000..3000).contains(&filters), "{filters} bytes for 1000 ids");
    }
}

mod seqs_that_callers_say {
    use super::*;

    fn text(sender: &str, text: &str) -> Draft {
        Draft::new(sender, 0, text.to_owned())
    }

    fn at(store: &Store, seq: u64, draft: Draft) -> Result<Outcome, Error> {
        Ok(try_commit(store, |b| b.append_at("c", seq, draft))?.outcomes()[0])
    }

    #[test]
    fn append_the_next_message_and_find_the_one_that_is_there() {
        let store = fresh();
        for seq in 1..=3 {
            let outcome = at(&store, seq, text("u", "hello")).unwrap();
            assert_eq!(outcome, Outcome::Appended { seq, ordinal: seq, version: seq });
        }
        at(&store, 4, text("u", "psst").quiet()).unwrap();
        let before = version(&store);
        store.wherever(|store| {
            let again = Draft::new("u", 77, "hello").id(7);
            assert_eq!(at(store, 2, again).unwrap(), Outcome::Existed { seq: 2, version: 2 });
            assert_eq!(
                at(store, 4, text("u", "psst").quiet()).unwrap(),
                Outcome::Existed { seq: 4, version: 4 }
            );
            for (seq, other) in [
                (2, text("v", "hello")),
                (2, text("u", "hellp")),
                (2, text("u", "hello").silent()),
                (4, text("u", "psst").silent()),
            ] {
                let error = at(store, seq, other).unwrap_err();
                assert!(
                    matches!(error, Error::Conflict { op: 0, seq: found, .. } if found == seq),
                    "{error}"
                );
            }
            let gap = at(store, 6, text("u", "hello")).unwrap_err();
            assert!(matches!(gap, Error::Gap { op: 0, seq: 6, last: 4, .. }), "{gap}");
            assert!(gap.to_string().starts_with("message 6 does not follow 4"), "{gap}");
            let unknown = try_commit(store, |b| b.append_at("unheard of", 2, draft("u"))).unwrap_err();
            assert!(matches!(unknown, Error::Gap { seq: 2, last: 0, .. }), "{unknown}");
            assert_invalid(try_commit(store, |b| b.append_at("c", 0, draft("u"))), 0);
            assert_eq!((version(store), store.has_channel("unheard of").unwrap()), (before, false));
        });
    }

    #[test]
    fn see_what_came_before_in_the_batch() {
        let store = fresh();
        let mut batch = Batch::new();
        batch.append("c", text("u", "one")).append_at("c", 1, text("u", "one"));
        batch.append_at("c", 2, text("u", "two")).append_at("c", 2, text("u", "two"));
        let outcomes = store.commit(&batch).unwrap().outcomes().to_vec();
        assert_eq!(outcomes[1], Outcome::Existed { seq: 1, version: 1 });
        assert_eq!(outcomes[3], Outcome::Existed { seq: 2, version: 2 });
        let again =
            store.commit(batch.reset().append_at("c", 2, text("u", "two")).retract("c", 2).append_at(
                "c",
                2,
                text("v", "2"),
            ));
        assert_eq!(again.unwrap().outcomes()[2], Outcome::Existed { seq: 2, version: 2 });
        let refused =
            try_commit(&store, |b| b.append("c", text("u", "three")).append_at("c", 3, text("u", "3")));
        assert!(matches!(refused, Err(Error::Conflict { op: 1, seq: 3, .. })), "{refused:?}");
        assert_eq!(store.head("c").unwrap().last.seq, 2);
    }

    #[test]
    fn see_commits_that_nobody_waited_for() {
        let store = fresh();
        send(&store, "c", "u", 1);
        let mut batch = Batch::new();
        let pending: Vec<_> = (2..10)
            .map(|seq| store.submit(batch.reset().append_at("c", seq, text("u", "hello"))).unwrap())
            .collect();
        assert!(!pending[0].is_done());
        assert_eq!(at(&store, 5, text("u", "hello")).unwrap(), Outcome::Existed { seq: 5, version: 5 });
        assert!(matches!(at(&store, 6, text("u", "other")), Err(Error::Conflict { seq: 6, .. })));
        assert!(pending.iter().all(|commit| commit.is_done()), "told only when all before is durable");
    }

    #[test]
    fn are_given_once_among_threads() {
        let store = fresh();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let store = store.store.clone();
                std::thread::spawn(move || {
                    let mut batch = Batch::new();
                    let appended = (1..=60).filter(|seq| {
                        batch.reset().append_at("c", *seq, text("u", "hello"));
                        batch.durability(if thread % 2 == 0 {
                            Durability::Sync
                        } else {
                            Durability::Buffered
                        });
                        match store.commit(&batch).unwrap().outcomes()[0] {
                            Outcome::Appended { seq: at, .. } => at == *seq,
                            Outcome::Existed { .. } => false,
                            other => panic!("{other:?}"),
                        }
                    });
                    appended.count()
                })
            })
            .collect();
        let appended: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!((appended, store.head("c").unwrap().last.seq), (60, 60));
    }

    #[test]
    fn compare_what_was_sent_and_nothing_that_is_gone() {
        let store = fresh();
        send(&store, "c", "u", 5);
        commit(&store, |b| b.edit("c", 2, "edited").retract("c", 3).erase("c", 4).trim("c", 1));
        store.erase_now().unwrap();
        store.wherever(|store| {
            assert_eq!(at(store, 1, text("z", "any")).unwrap(), Outcome::Existed { seq: 1, version: 0 });
            assert_eq!(
                at(store, 2, text("u", "message 1")).unwrap(),
                Outcome::Existed { seq: 2, version: 2 }
            );
            assert!(matches!(at(store, 2, text("u", "edited")), Err(Error::Conflict { .. })));
            assert_eq!(at(store, 3, text("z", "any")).unwrap(), Outcome::Existed { seq: 3, version: 3 });
            assert_eq!(at(store, 4, text("z", "any")).unwrap(), Outcome::Existed { seq: 4, version: 4 });
            assert!(!store.users().list().unwrap().iter().any(|user| user == "z"));
        });
    }

    #[test]
    fn go_with_ids_and_conditions() {
        let store = fresh();
        let named = |id: &str| text("u", "hello").client_id(id).unique_id(id);
        at(&store, 1, named("a")).unwrap();
        assert_eq!(at(&store, 1, named("a")).unwrap(), Outcome::Existed { seq: 1, version: 1 });
        let taken = at(&store, 2, named("b").unique_id("a")).unwrap_err();
        assert!(matches!(taken, Error::IdTaken { seq: 1, channel, .. } if channel == "c"));
        let stranger = at(&store, 2, named("b").members_only()).unwrap_err();
        assert!(matches!(stranger, Error::NotMember { op: 0, .. }), "{stranger}");
        commit(&store, |b| b.delete_channel("c"));
        assert!(
            matches!(at(&store, 2, named("c")), Err(Error::Gap { last: 0, .. })),
            "a new one begins anew"
        );
        assert!(matches!(at(&store, 1, named("c")).unwrap(), Outcome::Appended { seq: 1, .. }));
    }

    #[test]
    fn may_begin_later() {
        let base = Mark { seq: 1000, ordinal: 990 };
        let store = fresh();
        commit(&store, |b| b.join("c", "early").set_base("c", base).join("c", "late").set_base("d", base));
        assert!(listed(&store, "early").is_empty() && listed(&store, "late").is_empty());
        assert_eq!(store.head("d").unwrap().last, base);
        commit(&store, |b| {
            b.append_at("c", 1001, text("u", "first")).append("c", text("u", "psst").silent())
        });
        assert!(matches!(at(&store, 1000, text("u", "any")).unwrap(), Outcome::Existed { version: 0, .. }));
        store.wherever(|store| {
            assert_eq!(seqs(&store.history("c").list().unwrap()), [1001, 1002]);
            assert_eq!(seqs(&store.history("c").reverse().list().unwrap()), [1002, 1001]);
            assert_eq!(store.head("c").unwrap().last, Mark { seq: 1002, ordinal: 991 });
            assert_eq!((unread(store, "early", "c"), unread(store, "late", "c")), (1, 1));
            let channel = store.channel("c").unwrap().unwrap();
            assert_eq!((channel.base, channel.trimmed), (base, base));
            let told: Vec<_> = store.feed().channel("c").map(Result::unwrap).collect();
            let seqs = told.iter().filter_map(|event| match event {
                Event::Message { message, .. } => Some(message.seq),
                _ => None,
            });
            assert_eq!(seqs.collect::<Vec<_>>(), [1001, 1002], "{told:?}");
            assert_eq!(store.history("c").by("u").last(5).unwrap().len(), 2);
            let same = commit(store, |b| b.set_base("c", base));
            assert_eq!(same.outcomes(), [Outcome::Unchanged]);
            let other = try_commit(store, |b| b.set_base("c", Mark { seq: 2000, ordinal: 0 })).unwrap_err();
            assert!(matches!(other, Error::ConditionFailed { op: 0, .. }), "{other}");
            let back = try_commit(store, |b| b.set_base("d", Mark { seq: 999, ordinal: 990 })).unwrap_err();
            assert!(matches!(back, Error::ConditionFailed { op: 0, .. }), "{back}");
        });
    }

    #[test]
    fn begin_within_bounds() {
        let store = fresh();
        for (seq, ordinal) in [(1, 2), ((1 << 56) + 1, 0), (u64::MAX, u64::MAX)] {
            assert_invalid(try_commit(&store, |b| b.set_base("c", Mark { seq, ordinal })), 0);
        }
        let far = Mark { seq: 1 << 56, ordinal: 1 << 56 };
        commit(&store, |b| {
            b.set_base("c", Mark { seq: 5, ordinal: 5 }).set_base("c", far).append("c", draft("u"))
        });
        assert_eq!(commit(&store, |b| b.set_base("d", Mark::default())).outcomes(), [Outcome::Unchanged]);
        store.wherever(|store| {
            assert_eq!(seqs(&store.history("c").list().unwrap()), [(1 << 56) + 1]);
            assert!(!store.has_channel("d").unwrap());
        });
    }
}

mod batches {
    use super::*;

    #[test]
    fn of_no_operations_change_nothing() {
        let store = fresh();
        assert_eq!(store.commit(&Batch::new()).unwrap().outcomes(), []);
        assert_eq!(version(&store), 0);
    }

    #[test]
    fn apply_in_order_each_operation_seeing_the_earlier() {
        let store = fresh();
        commit(&store, |b| {
            b.join("c", "alice").append("c", draft("bob")).read("c", "alice", 1).append("c", draft("bob"))
        });
        assert_eq!(member(&store, "c", "alice").read, Mark { seq: 1, ordinal: 1 });
        assert_eq!(unread(&store, "alice", "c"), 1);
    }

    #[test]
    fn are_all_or_nothing() {
        let store = fresh();
        let error =
            try_commit(&store, |b| b.append("c", draft("u")).join("d", "v").read("c", "v", 1)).unwrap_err();
        assert!(matches!(error, Error::NotMember { op: 2, .. }), "{error}");
        assert_eq!(store.head("c").unwrap(), Head::default());
        assert_eq!((version(&store), store.stat().unwrap().channels, store.stat().unwrap().users), (0, 0, 0));
        let receipt = commit(&store, |b| b.append("c", draft("u")));
        assert_eq!(receipt.outcomes(), [Outcome::Appended { seq: 1, ordinal: 1, version: 1 }]);
    }

    #[test]
    fn that_were_refused_leave_no_names() {
        let store = fresh();
        send(&store, "c", "u", 1);
        for i in 0..4 {
            let (ghost, real) = (format!("ghost {i}"), format!("real {i}"));
            let by = |name: &str| Draft::new(name, 0, "hi");
            let mut refused = Batch::new();
            assert!(store.commit(refused.append("c", by(&ghost)).retract("c", 99)).is_err());
            for name in [&ghost, &real] {
                store.commit(Batch::new().append("c", by(name))).unwrap();
                assert_eq!(store.history("c").last(1).unwrap()[0].sender, *name);
            }
        }
    }

    #[test]
    fn tell_which_operation_needs_a_membership() {
        let store = fresh();
        commit(&store, |b| b.join("c", "member"));
        let not_member = |result: Result<Receipt, Error>, at| match result {
            Err(Error::NotMember { op, .. }) => assert_eq!(op, at),
            other => panic!("expected NotMember, not {other:?}"),
        };
        not_member(try_commit(&store, |b| b.read("c", "stranger", 1)), 0);
        not_member(try_commit(&store, |b| b.clear("c", "member").clear("c", "stranger")), 1);
        not_member(try_commit(&store, |b| b.activate("nowhere", "member")), 0);
        not_member(try_commit(&store, |b| b.leave("c", "member").read("c", "member", 1)), 1);
        assert!(try_commit(&store, |b| b.join("c", "new").activate("c", "new")).is_ok());
    }

    #[test]
    fn can_be_committed_again() {
        let store = fresh();
        let mut batch = Batch::new();
        batch.append("c", draft("u")).durability(Durability::Buffered);
        assert_eq!((batch.len(), batch.is_empty()), (1, false));
        store.commit(&batch).unwrap();
        assert_eq!(store.commit(&batch).unwrap().outcomes()[0].seq(), Some(2));
        assert!(batch.reset().is_empty());
    }

    #[test]
    fn can_be_submitted_and_waited_for_later() {
        let store = fresh();
        let mut batch = Batch::new();
        batch.append("c", draft("u"));
        let commits: Vec<_> = (0..10).map(|_| store.submit(&batch).unwrap()).collect();
        for (i, commit) in commits.into_iter().enumerate() {
            assert_eq!(commit.wait().unwrap().outcomes()[0].seq(), Some(i as u64 + 1));
            assert!(store.head("c").unwrap().last.seq > i as u64, "an acknowledged commit is visible");
        }
        drop(store.submit(&batch).unwrap());
        let last = store.commit(&batch).unwrap();
        assert_eq!(last.outcomes()[0].seq(), Some(12), "a commit that nobody waits for happens too");
        let (first, second) = (store.submit(&batch).unwrap(), store.submit(&batch).unwrap());
        second.wait().unwrap();
        assert!(first.is_done(), "commits are done in order");
    }

    #[test]
    fn take_a_version_for_each_change_and_none_for_what_changes_nothing() {
        let store = fresh();
        let receipt = commit(&store, |b| {
            b.join("c", "u") // 1
                .join("c", "u")
                .append("c", draft("u")) // 2, and the own mark without one
                .read("c", "u", 0)
                .read("c", "u", 1) // 3, although the own mark is there already
                .read("c", "u", 1)
                .clear("c", "u") // 4
                .clear("c", "u")
                .activate("c", "u") // 5
                .activate("c", "u") // 6
                .clear("c", "u") // 7: it clears the activation
                .clear("c", "u")
                .leave("c", "u") // 8
                .leave("c", "u")
        });
        let versions: Vec<_> = receipt.outcomes().iter().map(Outcome::version).collect();
        let expected = [
            Some(1),
            None,
            Some(2),
            None,
            Some(3),
            None,
            Some(4),
            None,
            Some(5),
            Some(6),
            Some(7),
            None,
            Some(8),
            None,
        ];
        assert_eq!(versions, expected);
        assert_eq!(version(&store), 8);
        assert_eq!(store.head("c").unwrap().order, 2);
    }
}

mod conditions {
    use super::*;

    /// That a batch is refused by its operation `at`, at a version.
    fn fails(store: &Store, build: impl FnOnce(&mut Batch) -> &mut Batch, at: usize) {
        let before = version(store);
        match try_commit(store, build) {
            Err(Error::ConditionFailed { op, version, .. }) => {
                assert_eq!(op, at);
                assert!(version >= before, "{version} is older than what is there, {before}");
            }
            other => panic!("expected ConditionFailed, not {other:?}"),
        }
        assert_eq!(version(store), before, "nothing is written");
    }

    #[test]
    fn change_nothing_where_they_hold() {
        let store = fresh();
        let receipt = commit(&store, |b| {
            b.require_channel("c", Condition::Absent)
                .require_member("c", "u", Condition::Absent)
                .join("c", "u")
                .require_channel("c", Condition::Present)
                .require_member("c", "u", Condition::Present)
        });
        let unchanged = Outcome::Unchanged;
        assert_eq!(receipt.outcomes()[..2], [unchanged; 2]);
        assert_eq!(receipt.outcomes()[3..], [unchanged; 2]);
        assert_eq!((version(&store), store.has_channel("d").unwrap()), (1, false));
    }

    #[test]
    fn on_a_channel_tell_whether_it_is_there() {
        let store = fresh();
        fails(&store, |b| b.append("c", draft("u")).require_channel("d", Condition::Present), 1);
        assert!(!store.has_channel("c").unwrap(), "the whole batch is refused");
        commit(&store, |b| b.append("c", draft("u")));
        store.wherever(|store| {
            fails(store, |b| b.require_channel("c", Condition::Absent).class("c", 1), 0);
            fails(store, |b| b.require_channel("d", Condition::Version(0)), 0);
            commit(store, |b| b.require_channel("c", Condition::Version(0)));
            commit(store, |b| b.require_channel("c", Condition::Attributes("".into())));
        });
    }

    #[test]
    fn on_a_member_end_with_the_membership() {
        let store = fresh();
        commit(&store, |b| b.join("c", "u").join("c", "v").leave("c", "u"));
        store.wherever(|store| {
            fails(store, |b| b.require_member("c", "u", Condition::Present), 0);
            fails(store, |b| b.require_member("c", "u", Condition::Version(3)), 0);
            fails(store, |b| b.require_member("c", "v", Condition::Absent), 0);
            commit(store, |b| b.require_member("c", "u", Condition::Absent));
            commit(store, |b| b.require_member("c", "nobody", Condition::Absent));
            commit(store, |b| b.require_member("c", "v", Condition::Present));
        });
    }

    #[test]
    fn on_versions_hold_until_the_row_changes() {
        let store = fresh();
        commit(&store, |b| b.join("c", "u").class("c", 1));
        commit(&store, |b| b.append("c", draft("u")));
        store.wherever(|store| {
            commit(store, |b| b.require_member("c", "u", Condition::Version(1)));
            commit(store, |b| b.require_channel("c", Condition::Version(2)));
            fails(store, |b| b.role("c", "u", 9).require_member("c", "u", Condition::Version(1)), 1);
            fails(store, |b| b.class("c", 9).require_channel("c", Condition::Version(2)), 1);
        });
    }

    #[test]
    fn on_attributes_compare_all_of_them() {
        let store = fresh();
        commit(&store, |b| b.join("c", "u").attributes("c", "u", "a=1").channel_attributes("c", "b=2"));
        store.wherever(|store| {
            commit(store, |b| b.require_member("c", "u", Condition::Attributes("a=1".into())));
            commit(store, |b| b.require_channel("c", Condition::Attributes("b=2".into())));
            fails(store, |b| b.require_member("c", "u", Condition::Attributes("a=".into())), 0);
            fails(store, |b| b.require_channel("c", Condition::Attributes("".into())), 0);
        });
    }

    #[test]
    fn can_be_named() {
        let store = fresh();
        commit(&store, |b| b.join("c", "u"));
        let mut batch = Batch::new();
        let fields = &mut |field: &str| match field {
            "channel" => Some(Argument::Bytes(b"c")),
            "user" => Some(Argument::Bytes(b"u")),
            "absent" => Some(Argument::Flag(true)),
            _ => None,
        };
        batch.operation("require_member", fields).unwrap();
        let same = Batch::new().require_member("c", "u", Condition::Absent).as_bytes().to_vec();
        assert_eq!(batch.as_bytes(), same);
        assert!(matches!(store.commit(&batch), Err(Error::ConditionFailed { op: 0, .. })));
    }
}

mod sets {
    use super::*;
    use chanlog::{MAX_SET_ATTRIBUTES, SetListing};

    const DENY: u8 = 0;
    const BANNED: u8 = 255;

    fn names(listing: SetListing<'_>) -> Vec<String> {
        let entries = listing.list().unwrap();
        let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        entries
            .iter()
            .map(
                |entry| {
                    if entry.member.present() { name(&entry.name) } else { format!("-{}", name(&entry.name)) }
                },
            )
            .collect()
    }

    #[test]
    fn are_listed_from_both_sides() {
        let store = fresh();
        commit(&store, |b| {
            b.add_to_set("c", DENY, "u").add_to_set_with("c", DENY, "v", "why").add_to_set("d", DENY, "u");
            b.add_to_set("c", BANNED, "w")
        });
        store.wherever(|store| {
            assert_eq!(names(store.set("c", DENY)), ["u", "v"]);
            assert_eq!(names(store.set("c", BANNED)), ["w"]);
            assert_eq!(names(store.set("c", 1)), [""; 0]);
            assert_eq!(names(store.sets_of("u", DENY)), ["c", "d"]);
            assert_eq!(names(store.set("c", DENY).limit(1)), ["u"]);
            assert_eq!(names(store.set("c", DENY).after("u")), ["v"]);
            assert_eq!(store.sets_of("v", DENY).list().unwrap()[0].member.attributes, "why");
            assert_eq!(store.set_member("c", DENY, "v").unwrap().unwrap().version, 2);
            assert_eq!(store.set_member("c", BANNED, "v").unwrap(), None);
        });
    }

    #[test]
    fn are_no_memberships() {
        let store = fresh();
        commit(&store, |b| b.append("c", draft("m")).add_to_set("c", DENY, "u").add_to_set("c", DENY, "new"));
        let token = list(&store, "u").as_of;
        commit(&store, |b| b.remove_from_set("c", DENY, "u").append("c", draft("m")));
        store.wherever(|store| {
            assert_eq!(store.head("c").unwrap().members, 0);
            assert_eq!(store.members("c").list().unwrap().len(), 0);
            assert_eq!(store.channels_of("new").list().unwrap().len(), 0);
            assert!(list(store, "new").entries.is_empty());
            assert!(!store.has_memberships("new").unwrap());
            assert_eq!(changes(store, "u", &token).0, []);
        });
    }

    #[test]
    fn change_only_what_is_not_so() {
        let store = fresh();
        let receipt = commit(&store, |b| {
            b.add_to_set_with("c", DENY, "u", "a")
                .add_to_set("c", DENY, "u")
                .add_to_set_with("c", DENY, "u", "a")
                .add_to_set_with("c", DENY, "u", "")
                .remove_from_set("c", DENY, "u")
                .remove_from_set("c", DENY, "u")
                .remove_from_set("c", DENY, "nobody")
                .remove_from_set("nowhere", DENY, "u")
        });
        let versions: Vec<_> = receipt.outcomes().iter().map(Outcome::version).collect();
        assert_eq!(versions, [Some(1), None, None, Some(2), Some(3), None, None, None]);
        assert!(!store.has_channel("nowhere").unwrap());
        commit(&store, |b| b.add_to_set("c", DENY, "u"));
        assert_eq!(store.set_member("c", DENY, "u").unwrap().unwrap().attributes, "", "a removal ends them");
    }

    #[test]
    fn tell_what_changed_since_a_version() {
        let store = fresh();
        commit(&store, |b| {
            b.add_to_set("c", DENY, "u").add_to_set("c", DENY, "v").add_to_set("d", DENY, "u")
        });
        commit(&store, |b| b.remove_from_set("c", DENY, "u").add_to_set("c", DENY, "w"));
        store.wherever(|store| {
            assert_eq!(names(store.set("c", DENY).since(3)), ["-u", "w"]);
            assert_eq!(names(store.set("c", DENY).since(3).after("u")), ["w"]);
            assert_eq!(names(store.set("c", DENY).since(0)), ["-u", "v", "w"]);
            assert_eq!(names(store.sets_of("u", DENY).since(2)), ["-c", "d"]);
            assert_eq!(names(store.set("c", DENY).since(5)), [""; 0]);
        });
    }

    #[test]
    fn forget_removals_after_the_age_of_tombstones() {
        let store = fresh_with(small().tombstone_age(std::time::Duration::ZERO));
        commit(&store, |b| {
            b.add_to_set("c", DENY, "u").add_to_set("c", DENY, "v").remove_from_set("c", DENY, "u")
        });
        for _ in 0..4 {
            // Whether a merge came by or not.
            assert_eq!(names(store.set("c", DENY).since(0)), ["v"]);
            assert_eq!(names(store.sets_of("u", DENY).since(0)), [""; 0]);
            commit(&store, |b| b.append("c", draft("m")));
            store.seal().unwrap();
            while store.maintain().unwrap() {}
        }
        assert_eq!(store.stat().unwrap().runs.count, 1);
        commit(&store, |b| b.add_to_set("c", DENY, "u"));
        store.wherever(|store| assert_eq!(names(store.set("c", DENY)), ["u", "v"]));
    }

    #[test]
    fn are_bounded() {
        let store = fresh();
        let long = vec![1; MAX_SET_ATTRIBUTES + 1];
        commit(&store, |b| b.add_to_set_with("c", DENY, "u", &long[1..]));
        let refused = try_commit(&store, |b| b.add_to_set_with("c", DENY, "u", &long));
        assert!(matches!(refused, Err(Error::TooLarge { len: 1025, limit: 1024, op: Some(0), .. })));
        let mut batch = Batch::new();
        let fields = &mut |field: &str| match field {
            "set" => Some(Argument::Number(256)),
            "channel" | "user" => Some(Argument::Bytes(b"c")),
            _ => None,
        };
        batch.operation("remove_from_set", fields).unwrap();
        assert_invalid(store.commit(&batch), 0);
    }
}

mod memberships {
    use super::*;

    /// A channel "c" with five messages of bob, the third one silent, and what alice sees after joining it.
    fn joined(visible: HistoryFrom, read: Option<u64>) -> Fresh {
        let store = fresh();
        let how = JoinOptions::new().history(visible);
        let how = read.map_or(how, |seq| how.read(seq));
        commit(&store, |b| {
            for i in 0..5 {
                let draft = draft("bob");
                b.append("c", if i == 2 { draft.silent() } else { draft });
            }
            b.join_with("c", "alice", how)
        });
        store
    }

    fn seen(store: &Store) -> Vec<u64> {
        seqs(&store.history("c").seen_by("alice").list().unwrap())
    }

    #[test]
    fn from_now_show_nothing_of_the_past() {
        let store = joined(HistoryFrom::Now, None);
        assert_eq!((member(&store, "c", "alice").join_seq(), seen(&store).len()), (6, 0));
        assert!(listed(&store, "alice").is_empty(), "there is nothing to see yet");
        send(&store, "c", "bob", 1);
        assert_eq!((unread(&store, "alice", "c"), seen(&store)), (1, vec![6]));
    }

    #[test]
    fn from_the_start_show_all_and_count_it_as_read() {
        let store = joined(HistoryFrom::Start, None);
        let row = member(&store, "c", "alice");
        assert_eq!((row.join_seq(), row.read), (1, Mark { seq: 5, ordinal: 4 }));
        assert_eq!((unread(&store, "alice", "c"), seen(&store)), (0, vec![1, 2, 3, 4, 5]));
    }

    #[test]
    fn from_a_seq_show_that_one_and_what_follows() {
        let store = joined(HistoryFrom::Seq(3), Some(0));
        assert_eq!((member(&store, "c", "alice").join_seq(), seen(&store)), (3, vec![3, 4, 5]));
        assert_eq!(
            unread(&store, "alice", "c"),
            2,
            "what lies before the join and the silent one don't count"
        );
    }

    #[test]
    fn from_a_seq_out_of_range_start_at_the_nearest() {
        assert_eq!(member(&joined(HistoryFrom::Seq(0), None), "c", "alice").join_seq(), 1);
        assert_eq!(member(&joined(HistoryFrom::Seq(6), None), "c", "alice").join_seq(), 6);
        assert_eq!(member(&joined(HistoryFrom::Seq(u64::MAX), None), "c", "alice").join_seq(), 6);
    }

    #[test]
    fn begin_with_the_given_read_mark() {
        let store = joined(HistoryFrom::Start, Some(3));
        assert_eq!(member(&store, "c", "alice").read, Mark { seq: 3, ordinal: 2 });
        assert_eq!(unread(&store, "alice", "c"), 2);
        let store = joined(HistoryFrom::Start, Some(99));
        assert_eq!(member(&store, "c", "alice").read.seq, 5, "beyond the end means the end");
        assert_eq!(unread(&joined(HistoryFrom::Start, Some(0)), "alice", "c"), 4);
    }

    #[test]
    fn do_not_change_by_joining_again() {
        let store = joined(HistoryFrom::Seq(4), Some(4));
        let before = member(&store, "c", "alice");
        let receipt = commit(&store, |b| {
            b.join_with("c", "alice", JoinOptions::new().history(HistoryFrom::Start).read(0))
        });
        assert_eq!(receipt.outcomes(), [Outcome::Unchanged]);
        assert_eq!(member(&store, "c", "alice"), before);
    }

    #[test]
    fn end_with_a_leave_and_start_afresh_with_the_next_join() {
        let store = joined(HistoryFrom::Start, None);
        commit(&store, |b| b.append("c", draft("alice")).activate("c", "alice").leave("c", "alice"));
        assert_eq!(store.membership("c", "alice").unwrap(), None);
        assert!(listed(&store, "alice").is_empty());
        assert_eq!(seen(&store), [0u64; 0], "no member, no history");
        assert!(store.has_memberships("alice").unwrap(), "she was a member");
        commit(&store, |b| {
            b.append("c", draft("bob")).join_with(
                "c",
                "alice",
                JoinOptions::new().history(HistoryFrom::Start).read(0),
            )
        });
        store.wherever(|store| {
            let row = member(store, "c", "alice");
            let fresh = (row.read, row.own, row.cleared, row.activated);
            assert_eq!(fresh, (Mark::default(), Mark::default(), Mark::default(), 0));
            assert_eq!(seen(store).len(), 7);
        });
    }

    #[test]
    fn have_a_role_from_the_join_on_or_later() {
        let store = fresh();
        commit(&store, |b| b.join_with("c", "u", JoinOptions::new().role(7)).join("c", "v"));
        assert_eq!((member(&store, "c", "u").role, member(&store, "c", "v").role), (7, 0));
        let token = list(&store, "v").as_of;
        let receipt = commit(&store, |b| b.activate("c", "v").role("c", "v", 255).role("c", "v", 255));
        assert_eq!(receipt.outcomes()[2], Outcome::Unchanged);
        assert_eq!(brief(&changes(&store, "v", &token).0), ["c"]);
        store.wherever(|store| {
            assert_eq!((member(store, "c", "u").role, member(store, "c", "v").role), (7, 255));
            assert_eq!(entry(store, "v", "c").membership.role, 255);
        });
    }

    #[test]
    fn have_roles_of_one_byte() {
        let store = fresh();
        for name in ["join", "role"] {
            let mut batch = Batch::new();
            batch.join("c", "u");
            let added = batch.operation(name, &mut |field| match field {
                "role" => Some(Argument::Number(256)),
                "channel" => Some(Argument::Bytes(b"c")),
                "user" => Some(Argument::Bytes(b"u")),
                _ => None,
            });
            added.unwrap();
            assert_invalid(store.commit(&batch), 1);
        }
    }

    #[test]
    fn have_attributes_of_up_to_4096_bytes() {
        let store = fresh();
        let most = vec![0xee; MAX_ATTRIBUTES];
        commit(&store, |b| b.join("c", "u").attributes("c", "u", &most).activate("c", "u"));
        let token = list(&store, "u").as_of;
        let refused =
            try_commit(&store, |b| b.mute("c", "u", true).attributes("c", "u", [0; MAX_ATTRIBUTES + 1]));
        assert!(matches!(refused, Err(Error::TooLarge { len: 4097, limit: 4096, op: Some(1), .. })));
        assert_eq!(changes(&store, "u", &token).0, []);
        let receipt = commit(&store, |b| b.attributes("c", "u", &most).read("c", "u", 0));
        assert_eq!(receipt.outcomes(), [Outcome::Unchanged; 2]);
        commit(&store, |b| b.pin("c", "u", true));
        store.wherever(|store| {
            assert_eq!(member(store, "c", "u").attributes, most);
            let listed = store.conversations("u").with_attributes().list().unwrap();
            assert_eq!(listed.entries[0].membership.attributes, most);
        });
    }

    #[test]
    fn end_with_their_role_and_attributes() {
        let store = fresh();
        let options = JoinOptions::new().role(1);
        commit(&store, |b| b.join_with("c", "u", options).attributes("c", "u", "x").attributes("c", "u", ""));
        assert_eq!(member(&store, "c", "u").attributes, "");
        commit(&store, |b| b.attributes("c", "u", "x").leave("c", "u").join("c", "u"));
        store.wherever(|store| {
            let row = member(store, "c", "u");
            assert_eq!((row.role, row.attributes.len()), (0, 0));
            assert_eq!(row.attributes, "");
        });
    }

    #[test]
    fn are_listed_both_ways_in_order_of_first_meeting() {
        let store = fresh();
        commit(&store, |b| {
            b.join("c", "zoe").join("c", "adam").join("c", "mia").join("b", "zoe").join("a", "zoe")
        });
        commit(&store, |b| b.leave("c", "zoe").join("c", "bob").join("c", "zoe").leave("c", "adam"));
        store.wherever(|store| {
            assert_eq!(store.members("c").list().unwrap(), ["zoe", "mia", "bob"]);
            assert_eq!(store.head("c").unwrap().members, 3);
            assert_eq!(store.channels_of("zoe").list().unwrap(), ["c", "b", "a"]);
            assert_eq!(store.members("c").limit(2).list().unwrap(), ["zoe", "mia"]);
            assert_eq!(store.members("c").after("mia").limit(2).list().unwrap(), ["bob"]);
            assert_eq!(store.channels_of("zoe").after("c").limit(1).list().unwrap(), ["b"]);
            assert_eq!(
                store.members("c").after("adam").list().unwrap(),
                ["mia", "bob"],
                "a page goes on behind one who left"
            );
        });
    }

    #[test]
    fn are_listed_with_their_rows_in_pages() {
        let store = fresh();
        commit(&store, |b| b.join("c", "u1").join("c", "u2").join("c", "u3").join("d", "u3"));
        commit(&store, |b| b.append("c", draft("u1")).leave("c", "u2").role("c", "u3", 9));
        store.wherever(|store| {
            let rows = store.members("c").limit(1).rows().unwrap();
            assert_eq!((rows.len(), &rows[0].name[..]), (1, &b"u1"[..]));
            assert_eq!(rows[0].membership, member(store, "c", "u1"));
            assert_eq!(rows[0].membership.own.seq, 1);
            let rows = store.members("c").after("u1").rows().unwrap();
            assert_eq!((rows.len(), &rows[0].name[..], rows[0].membership.role), (1, &b"u3"[..], 9));
            let rows = store.channels_of("u3").rows().unwrap();
            assert_eq!((rows.len(), &rows[0].name[..], rows[0].membership.role), (2, &b"c"[..], 9));
            assert_eq!(store.members("nothing").rows().unwrap(), []);
            assert!(matches!(store.users().rows(), Err(Error::InvalidArgument { .. })));
        });
    }

    #[test]
    fn are_counted() {
        let store = fresh();
        commit(&store, |b| b.join("c", "a").join("c", "b").join("c", "b").leave("c", "a").leave("c", "a"));
        store.wherever(|store| assert_eq!(store.head("c").unwrap().members, 1));
    }
}

mod members {
    use super::*;
    use chanlog::Listing;

    fn names(listing: Listing<'_>) -> Vec<String> {
        listing.list().unwrap().iter().map(|name| String::from_utf8(name.to_vec()).unwrap()).collect()
    }

    fn four() -> Fresh {
        let store = fresh();
        commit(&store, |b| ["a", "b", "c", "d"].into_iter().fold(b, |b, user| b.join("x", user)));
        store
    }

    #[test]
    fn are_listed_by_role() {
        let store = four();
        commit(&store, |b| b.role("x", "b", 2).role("x", "d", 2).role("x", "a", 1).join("y", "b"));
        store.wherever(|store| {
            assert_eq!(names(store.members("x").role(2)), ["b", "d"]);
            assert_eq!(names(store.members("x").role(2).limit(1)), ["b"]);
            assert_eq!(names(store.members("x").role(2).after("b")), ["d"]);
            assert_eq!(names(store.members("x").role(1).role(0)), ["a", "c"]);
            assert_eq!(names(store.channels_of("b").role(2)), ["x"]);
        });
    }

    #[test]
    fn are_told_after_they_left() {
        let store = four();
        commit(&store, |b| b.leave("x", "b").leave("x", "c").join("x", "c").join("y", "a").leave("y", "a"));
        store.wherever(|store| {
            assert_eq!(names(store.members("x").left()), ["b"]);
            assert_eq!(names(store.members("x")), ["a", "c", "d"]);
            assert_eq!(names(store.channels_of("b").left()), ["x"]);
            assert_eq!(names(store.channels_of("a").left()), ["y"]);
            let row = &store.members("x").left().rows().unwrap()[0];
            assert!(!row.membership.present());
        });
    }

    #[test]
    fn are_not_told_after_the_age_of_tombstones() {
        let store = fresh_with(small().tombstone_age(std::time::Duration::ZERO));
        commit(&store, |b| b.join("x", "a").join("x", "b").leave("x", "a"));
        store.wherever(|store| {
            assert_eq!(names(store.members("x").left()), [""; 0]);
            assert_eq!(names(store.channels_of("a").left()), [""; 0]);
            assert_eq!(names(store.members("x").since(0)), ["b"]);
        });
    }

    #[test]
    fn are_listed_since_a_version() {
        let store = four();
        commit(&store, |b| b.role("x", "b", 2).leave("x", "c").append("x", draft("a")));
        store.wherever(|store| {
            assert_eq!(names(store.members("x").since(4)), ["b", "c"]);
            assert_eq!(names(store.members("x").since(4).limit(1)), ["b"]);
            assert_eq!(names(store.members("x").since(5).after("b")), ["c"]);
            assert_eq!(names(store.members("x").since(3).role(0)), ["c", "d"]);
            assert_eq!(names(store.members("x").since(7)), [""; 0]);
            assert_eq!(names(store.channels_of("b").since(4)), ["x"]);
            assert_eq!(names(store.channels_of("b").since(5)), [""; 0]);
        });
    }

    #[test]
    fn have_receipts() {
        let store = four();
        send(&store, "x", "stranger", 3);
        commit(&store, |b| b.read("x", "a", 2).append("x", draft("b")).leave("x", "d"));
        store.wherever(|store| {
            let marks = |listing: Listing<'_>| -> Vec<(String, u64)> {
                let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
                listing.marks().unwrap().iter().map(|mark| (name(&mark.name), mark.mark.seq)).collect()
            };
            let one = |name: &str, seq| (name.to_owned(), seq);
            assert_eq!(marks(store.members("x")), [one("a", 2), one("b", 4), one("c", 0)]);
            assert_eq!(marks(store.members("x").since(7)), [one("a", 2), one("b", 4)]);
            assert_eq!(marks(store.members("x").since(8)), [one("b", 4)]);
            assert_eq!(marks(store.members("x").since(7).limit(1)), [one("a", 2)]);
            assert_eq!(marks(store.members("x").after("a").limit(1)), [one("b", 4)]);
            assert_eq!(marks(store.channels_of("b")), [one("x", 4)]);
            assert!(matches!(store.users().marks(), Err(Error::InvalidArgument { .. })));
        });
    }
}

mod marks {
    use super::*;

    /// Alice is in "c", where bob sent five messages, the second one silent.
    fn five() -> Fresh {
        let store = fresh();
        commit(&store, |b| {
            b.join("c", "alice");
            for i in 0..5 {
                let draft = draft("bob");
                b.append("c", if i == 1 { draft.silent() } else { draft });
            }
            b
        });
        store
    }

    #[test]
    fn are_set_at_any_seq() {
        let store = five();
        for (seq, ordinal, left) in [(1, 1, 3), (2, 1, 3), (3, 2, 2), (5, 4, 0)] {
            commit(&store, |b| b.read("c", "alice", seq));
            assert_eq!(member(&store, "c", "alice").read, Mark { seq, ordinal });
            assert_eq!(unread(&store, "alice", "c"), left);
        }
    }

    #[test]
    fn are_set_at_any_seq_of_sealed_messages() {
        let store = five();
        store.seal().unwrap();
        commit(&store, |b| b.read("c", "alice", 3));
        assert_eq!(member(&store, "c", "alice").read, Mark { seq: 3, ordinal: 2 });
    }

    #[test]
    fn beyond_the_end_mean_the_end() {
        let store = five();
        commit(&store, |b| b.read("c", "alice", u64::MAX));
        assert_eq!(member(&store, "c", "alice").read, Mark { seq: 5, ordinal: 4 });
        send(&store, "c", "bob", 1);
        assert_eq!(unread(&store, "alice", "c"), 1, "the future is not read");
    }

    #[test]
    fn on_an_empty_channel_stay_at_the_start() {
        let store = fresh();
        let receipt =
            commit(&store, |b| b.join("c", "alice").read("c", "alice", u64::MAX).read("c", "alice", 0));
        assert_eq!(receipt.outcomes()[1..], [Outcome::Unchanged; 2]);
        send(&store, "c", "bob", 2);
        assert_eq!(unread(&store, "alice", "c"), 2);
    }

    #[test]
    fn never_move_back() {
        let store = five();
        commit(&store, |b| b.read("c", "alice", 4));
        let receipt = commit(&store, |b| b.read("c", "alice", 2).read("c", "alice", 0).read("c", "alice", 4));
        assert_eq!(receipt.outcomes(), [Outcome::Unchanged; 3]);
        assert_eq!(member(&store, "c", "alice").read.seq, 4);
    }

    fn read_seq_and_unread(store: &Store) -> (u64, u64) {
        let entry = entry(store, "alice", "c");
        (entry.read_seq, entry.unread)
    }

    #[test]
    fn of_all_channels_go_to_their_ends_in_one_commit() {
        let store = fresh();
        commit(&store, |b| {
            for c in ["unread", "flagged", "read", "own", "silent", "hidden", "set back"] {
                b.join(c, "alice").append(c, draft("bob"));
            }
            b.join("left", "alice").append("left", draft("bob")).leave("left", "alice");
            for c in ["flagged", "read", "silent"] {
                b.read(c, "alice", u64::MAX);
            }
            b.flag_unread("flagged", "alice", true).append("own", draft("alice"));
            b.append("silent", draft("bob").silent()).hide("hidden", "alice");
            b.append("set back", draft("alice")).read_at("set back", "alice", 0)
        });
        let rows = || store.channels_of("alice").rows().unwrap();
        let (before, version) = (rows(), store.stat().unwrap().version);
        let receipt = commit(&store, |b| b.read_all("nobody").read_all("alice").read_all("alice"));
        let (one, all) = (Outcome::Unchanged, Outcome::Changed { version: version + 4 });
        assert_eq!(receipt.outcomes(), [one, all, one]);
        let changed = |old: &&MemberEntry| !rows().contains(old);
        let changed: Vec<_> = before.iter().filter(changed).map(|row| row.name.clone()).collect();
        assert_eq!(changed, ["unread", "flagged", "hidden", "set back"], "what was read stays as it is");
        store.wherever(|store| {
            assert_eq!(store.unread("alice").unwrap(), Unread::default());
            let rows = store.channels_of("alice").rows().unwrap();
            assert!(rows.iter().all(|row| row.membership.flagged == 0 && row.membership.set_at == 0));
        });
    }

    #[test]
    fn of_what_was_delivered_go_forward_and_are_told_in_receipts_alone() {
        let store = five();
        let token = store.conversations("alice").list().unwrap().as_of;
        let (asked, before) = (store.view().unwrap().version(), member(&store, "c", "alice"));
        let receipt = commit(&store, |b| {
            b.deliver("c", "alice", 3)
                .deliver("c", "alice", 2)
                .deliver("c", "alice", 99)
                .deliver("c", "alice", 5)
        });
        let changed = |op: usize| matches!(receipt.outcomes()[op], Outcome::Changed { .. });
        assert_eq!([0, 1, 2, 3].map(changed), [true, false, true, false]);
        assert_eq!(member(&store, "c", "alice"), before);
        let update = store.conversations("alice").since(&token).unwrap();
        assert!(matches!(&update, Update::Changes { changes, .. } if changes.is_empty()), "{update:?}");
        store.wherever(|store| {
            let told = store.members("c").since(asked).marks().unwrap();
            let told: Vec<_> = told.iter().map(|m| (&m.name[..], m.delivered, m.mark.seq)).collect();
            assert_eq!(told, [(&b"alice"[..], 5, 0)]);
        });
        let store = five();
        let delivered = || store.members("c").marks().unwrap()[0].delivered;
        commit(&store, |b| b.deliver("c", "alice", 1).read("c", "alice", 4));
        assert_eq!(delivered(), 4, "what was read was delivered");
        commit(&store, |b| b.deliver("c", "alice", 5).leave("c", "alice"));
        let again = JoinOptions::new().history(HistoryFrom::Start).read(0);
        commit(&store, |b| b.join_with("c", "alice", again).deliver("c", "alice", 2));
        assert_eq!(delivered(), 2, "it ended with the membership");
        let error = try_commit(&store, |b| b.deliver("c", "nobody", 1)).unwrap_err();
        assert!(matches!(error, Error::NotMember { op: 0, .. }), "{error}");
    }

    #[test]
    fn of_all_channels_go_to_their_ends_beside_others_who_write() {
        const NAMES: usize = 60;
        let store = fresh_with(Options::new().log_segment(1 << 20));
        let name = |i: usize| format!("channel {}", i % 20);
        commit(&store, |b| (0..20).fold(b, |b, i| b.join(name(i), "alice")));
        std::thread::scope(|threads| {
            for writer in 0..3 {
                let store = &store.store;
                threads.spawn(move || {
                    for i in 0..200 {
                        let mentions = [format!("user {}", (i + writer) % NAMES), "alice".into()];
                        let draft = draft("bob").mentions(mentions);
                        let send = |b: &mut Batch| {
                            _ = b.durability(Durability::Buffered).append(name(i * 7 + writer), draft)
                        };
                        let mut batch = Batch::new();
                        send(&mut batch);
                        store.commit(&batch).unwrap();
                    }
                });
            }
            for _ in 0..50 {
                commit(&store, |b| b.read_all("alice"));
            }
        });
        let unread = store.unread("alice").unwrap();
        assert_eq!(unread.mentions, unread.messages);
        commit(&store, |b| b.read_all("alice"));
        store.wherever(|store| {
            assert_eq!(store.unread("alice").unwrap(), Unread::default());
            let users = store.users().list().unwrap();
            assert!(users.is_sorted_by(|a, b| a < b), "no name has two ids");
            assert_eq!(users.len(), NAMES + 2);
        });
    }

    #[test]
    fn are_set_outright_forward_and_back() {
        let store = five();
        commit(&store, |b| b.append("c", draft("alice")).append("c", draft("bob")));
        assert_eq!(read_seq_and_unread(&store), (6, 1));
        let receipt = commit(&store, |b| b.read_at("c", "alice", 5).read_at("c", "alice", 5));
        assert_eq!(receipt.outcomes()[1], Outcome::Unchanged);
        store.wherever(|store| {
            assert_eq!(read_seq_and_unread(store), (5, 2), "the own message counts like any");
            assert_eq!(member(store, "c", "alice").own, Mark::default());
        });
        let store = five();
        commit(&store, |b| b.read_at("c", "alice", 99));
        assert_eq!(read_seq_and_unread(&store), (5, 0));
        commit(&store, |b| b.clear_to("c", "alice", 2).read_at("c", "alice", 1));
        assert_eq!(read_seq_and_unread(&store).0, 2, "not below the floor");
    }

    #[test]
    fn that_were_set_outright_hold_until_an_own_message_or_a_read() {
        let store = five();
        commit(&store, |b| b.append("c", draft("alice")).append("c", draft("bob")).read_at("c", "alice", 1));
        assert_eq!(read_seq_and_unread(&store).0, 1);
        send(&store, "c", "bob", 1);
        assert_eq!(read_seq_and_unread(&store).0, 1);
        commit(&store, |b| b.read("c", "alice", 1));
        assert_eq!(read_seq_and_unread(&store), (6, 2), "the own message counts as read again");
        commit(&store, |b| b.read_at("c", "alice", 1).append("c", draft("alice")));
        store.wherever(|store| assert_eq!(read_seq_and_unread(store), (9, 0)));
    }

    #[test]
    fn are_set_by_a_number_of_unread_messages() {
        let store = fresh();
        commit(&store, |b| b.join("c", "alice").join("empty", "alice"));
        // Every third message is silent, and there are more than a few blocks of marks.
        commit(&store, |b| {
            (1..=300u64).for_each(|i| {
                _ = b.append("c", if i % 3 == 0 { draft("bob").silent() } else { draft("bob") })
            });
            b
        });
        for count in [0, 1, 2, 3, 31, 32, 33, 100, 199, 200, 201, u64::MAX] {
            commit(&store, |b| b.set_unread("c", "alice", count));
            let (read_seq, unread) = read_seq_and_unread(&store);
            assert_eq!(unread, count.min(200));
            let after = store.history("c").from(read_seq + 1).limit(1).list().unwrap();
            assert_eq!(after.first().map(|m| m.silent), (count > 0).then_some(false), "the last such place");
        }
        let receipt = commit(&store, |b| b.set_unread("empty", "alice", 3));
        assert_eq!(receipt.outcomes(), [Outcome::Unchanged]);
        commit(&store, |b| b.clear_to("c", "alice", 150).set_unread("c", "alice", 150));
        assert_eq!(read_seq_and_unread(&store), (150, 100), "not below the floor");
        commit(&store, |b| b.append("c", draft("alice")).set_unread("c", "alice", 2));
        store.wherever(|store| assert_eq!(read_seq_and_unread(store).1, 2, "the own message is one of them"));
    }

    #[test]
    fn that_are_set_outright_end_the_unread_flag() {
        let store = five();
        commit(&store, |b| b.read("c", "alice", 5).flag_unread("c", "alice", true).read_at("c", "alice", 5));
        assert_eq!(member(&store, "c", "alice").flagged, 0);
        commit(&store, |b| b.flag_unread("c", "alice", true).set_unread("c", "alice", 0));
        assert_eq!(member(&store, "c", "alice").flagged, 0);
    }

    #[test]
    fn of_an_own_message_cover_all_before_it() {
        let store = five();
        let before = member(&store, "c", "alice");
        commit(&store, |b| b.append("c", draft("alice")).append("c", draft("bob")));
        let row = member(&store, "c", "alice");
        assert_eq!((row.own, row.read), (Mark { seq: 6, ordinal: 5 }, before.read));
        assert_eq!(row.version, before.version, "an own message is the channel's change, not the row's");
        let entry = entry(&store, "alice", "c");
        assert_eq!((entry.read_seq, entry.unread, entry.last_seq), (6, 1, 7));
    }

    /// Sends before and after joins, with `between` after each commit.
    fn sends_around_joins(store: &Store, between: fn(&Store)) {
        let all = JoinOptions::new().history(HistoryFrom::Start).read(0);
        let do_all = |batches: &[&dyn Fn(&mut Batch)]| {
            for build in batches {
                commit(store, |batch| {
                    build(batch);
                    batch
                });
                between(store);
            }
        };
        let post = |channel: &'static str| {
            move |b: &mut Batch| _ = b.append(channel, draft("alice")).append(channel, draft("bob"))
        };
        let join = |channel: &'static str| move |b: &mut Batch| _ = b.join_with(channel, "alice", all);
        let leave = |channel: &'static str| move |b: &mut Batch| _ = b.leave(channel, "alice");
        let read = |channel: &'static str| move |b: &mut Batch| _ = b.read(channel, "alice", 1);
        do_all(&[&post("guest"), &join("guest")]);
        do_all(&[&post("touched"), &join("touched"), &read("touched")]);
        do_all(&[&join("back"), &post("back"), &leave("back"), &join("back")]);
        do_all(&[&join("back, read"), &post("back, read"), &leave("back, read"), &join("back, read")]);
        do_all(&[&read("back, read")]);
        do_all(&[&join("sent, read"), &post("sent, read"), &post("sent, read"), &read("sent, read")]);
        do_all(&[&post("sent again"), &join("sent again"), &read("sent again"), &post("sent again")]);
        do_all(&[&|b| _ = b.append("one batch", draft("alice")).join_with("one batch", "alice", all)]);
        do_all(&[&|b| {
            _ = b.join_with("one batch too", "alice", all).append("one batch too", draft("alice"))
        }]);
    }

    #[test]
    fn of_own_messages_count_from_the_join_on() {
        let own = |store: &Store, channel| {
            let row = member(store, channel, "alice");
            let unread = unread(store, "alice", channel);
            (row.own.seq, row.cursor().seq, unread)
        };
        let check = |store: &Store| {
            assert_eq!(own(store, "guest"), (0, 0, 2));
            assert_eq!(own(store, "touched"), (0, 1, 1), "a change of the row is no join");
            assert_eq!(own(store, "back"), (0, 0, 2));
            assert_eq!(own(store, "back, read"), (0, 1, 1));
            assert_eq!(own(store, "sent, read"), (3, 3, 1), "sent before the row's change, after the join");
            assert_eq!(own(store, "sent again"), (3, 3, 1));
            assert_eq!(own(store, "one batch"), (0, 0, 1));
            assert_eq!(own(store, "one batch too"), (1, 1, 0));
        };
        for between in [|_: &Store| {}, |store: &Store| store.seal().unwrap()] {
            let store = fresh();
            sends_around_joins(&store, between);
            store.crashed().wherever(check);
            store.wherever(check);
        }
    }

    #[test]
    fn below_the_floor_still_change_the_row() {
        let store = five();
        commit(&store, |b| b.clear("c", "alice"));
        let receipt = commit(&store, |b| b.read("c", "alice", 2));
        assert!(matches!(receipt.outcomes(), [Outcome::Changed { .. }]));
        let row = member(&store, "c", "alice");
        assert_eq!((row.read.seq, row.cleared.seq), (2, 5));
    }
}

mod lists {
    use super::*;

    /// Alice and bob are in three channels, in each of which bob sent one message, in this order.
    fn three() -> Fresh {
        let store = fresh();
        for channel in ["a", "b", "c"] {
            commit(&store, |b| b.join(channel, "alice").join(channel, "bob").append(channel, draft("bob")));
        }
        store
    }

    #[test]
    fn come_newest_first() {
        let store = three();
        assert_eq!(listed(&store, "alice"), ["c", "b", "a"]);
        send(&store, "a", "bob", 1);
        store.wherever(|store| assert_eq!(listed(store, "alice"), ["a", "c", "b"]));
    }

    #[test]
    fn are_not_reordered_by_reading_or_by_time() {
        let store = three();
        commit(&store, |b| b.read("a", "alice", 1).append("b", Draft::new("bob", -5, "from the past")));
        assert_eq!(listed(&store, "alice"), ["b", "c", "a"]);
    }

    #[test]
    fn tell_last_seq_read_seq_unread_version_and_the_last_message() {
        let store = three();
        commit(&store, |b| b.append("a", Draft::new("bob", 77, "last").silent().id(5)).read("a", "alice", 1));
        store.wherever(|store| {
            let entry = entry(store, "alice", "a");
            assert_eq!((entry.last_seq, entry.read_seq, entry.unread, entry.version), (2, 1, 0, 11));
            let last = entry.last.unwrap();
            assert_eq!((last.seq, last.ordinal, last.version, last.timestamp), (2, 1, 10, 77));
            assert_eq!(
                (&last.sender[..], &last.payload[..], last.silent, last.id),
                (&b"bob"[..], &b"last"[..], true, Some(5))
            );
            assert_eq!(self::entry(store, "bob", "a").version, 10, "another's row is not bob's change");
        });
    }

    #[test]
    fn do_not_count_silent_and_own_messages() {
        let store = three();
        commit(&store, |b| b.append("a", draft("bob").silent()).append("a", draft("bob")));
        assert_eq!(unread(&store, "alice", "a"), 2);
        assert_eq!(unread(&store, "bob", "a"), 0);
    }

    #[test]
    fn move_an_entry_up_for_a_silent_message() {
        let store = three();
        commit(&store, |b| b.append("a", draft("bob").silent()));
        assert_eq!(listed(&store, "alice"), ["a", "c", "b"]);
    }

    #[test]
    fn lose_a_hidden_entry_until_the_next_message() {
        let store = three();
        commit(&store, |b| b.append("a", draft("bob")).clear("a", "alice"));
        assert_eq!(listed(&store, "alice"), ["c", "b"]);
        assert_eq!(listed(&store, "bob"), ["a", "c", "b"], "hiding is one's own affair");
        send(&store, "a", "bob", 1);
        store.wherever(|store| {
            let entry = entry(store, "alice", "a");
            assert_eq!((entry.unread, entry.read_seq, entry.last.unwrap().seq), (1, 2, 3));
            assert_eq!(seqs(&store.history("a").seen_by("alice").list().unwrap()), [3]);
            assert_eq!(seqs(&store.history("a").seen_by("bob").list().unwrap()), [1, 2, 3]);
        });
    }

    #[test]
    fn lose_what_was_cleared_up_to_a_seq() {
        let store = three();
        send(&store, "a", "bob", 3);
        let token = list(&store, "alice").as_of;
        let receipt = commit(&store, |b| b.clear_to("a", "alice", 2).clear_to("a", "alice", 1));
        assert_eq!(receipt.outcomes()[1], Outcome::Unchanged, "what was cleared stays so");
        assert_eq!(brief(&changes(&store, "alice", &token).0), ["a"]);
        store.wherever(|store| {
            assert_eq!(listed(store, "alice"), ["a", "c", "b"], "there is more to see");
            let entry = entry(store, "alice", "a");
            assert_eq!((entry.unread, entry.read_seq, entry.last.unwrap().seq), (2, 2, 4));
            assert_eq!(seqs(&store.history("a").seen_by("alice").list().unwrap()), [3, 4]);
            assert_eq!(seqs(&store.history("a").seen_by("bob").list().unwrap()), [1, 2, 3, 4]);
        });
    }

    #[test]
    fn lose_the_entry_when_all_is_cleared() {
        let store = three();
        let token = list(&store, "alice").as_of;
        commit(&store, |b| b.clear_to("a", "alice", u64::MAX).clear_to("b", "alice", 1));
        assert_eq!(brief(&changes(&store, "alice", &token).0), ["-a", "-b"]);
        assert_eq!(listed(&store, "alice"), ["c"]);
        send(&store, "a", "bob", 1);
        assert_eq!(listed(&store, "alice"), ["a", "c"]);
        assert_eq!(seqs(&store.history("a").seen_by("alice").list().unwrap()), [2]);
    }

    #[test]
    fn show_an_activated_conversation_that_is_empty() {
        let store = three();
        commit(&store, |b| b.join("new", "alice").activate("new", "alice"));
        store.wherever(|store| {
            assert_eq!(listed(store, "alice"), ["new", "c", "b", "a"]);
            let entry = entry(store, "alice", "new");
            assert_eq!((entry.last, entry.last_seq, entry.unread, entry.version), (None, 0, 0, 11));
        });
    }

    #[test]
    fn order_an_activated_empty_conversation_by_its_activation() {
        let store = three();
        commit(&store, |b| b.clear("a", "alice").activate("a", "alice"));
        assert_eq!(listed(&store, "alice"), ["a", "c", "b"]);
        let hidden = entry(&store, "alice", "a");
        assert_eq!(
            (hidden.last, hidden.last_seq, hidden.read_seq),
            (None, 1, 1),
            "last_seq is the channel's even so"
        );
        send(&store, "b", "bob", 1);
        assert_eq!(listed(&store, "alice"), ["b", "a", "c"]);
        commit(&store, |b| b.read("a", "alice", 1));
        assert_eq!(listed(&store, "alice"), ["b", "a", "c"], "another change of the row is no activation");
        commit(&store, |b| b.activate("a", "alice"));
        assert_eq!(listed(&store, "alice"), ["a", "b", "c"], "activating again renews it");
        commit(&store, |b| b.activate("c", "alice"));
        assert_eq!(listed(&store, "alice"), ["a", "b", "c"], "one with messages is ordered by them");
        commit(&store, |b| b.clear("a", "alice"));
        assert_eq!(listed(&store, "alice"), ["b", "c"], "hiding clears the activation");
    }

    #[test]
    fn carry_what_is_pinned_and_keep_their_order() {
        let store = three();
        let token = list(&store, "alice").as_of;
        let receipt =
            commit(&store, |b| b.pin("a", "alice", true).pin("a", "alice", true).pin("b", "alice", false));
        assert_eq!(receipt.outcomes()[1..], [Outcome::Unchanged; 2]);
        assert_eq!(brief(&changes(&store, "alice", &token).0), ["a"]);
        store.wherever(|store| {
            assert_eq!(listed(store, "alice"), ["c", "b", "a"]);
            assert!(entry(store, "alice", "a").membership.pinned);
            assert!(!entry(store, "alice", "b").membership.pinned);
            assert!(!entry(store, "bob", "a").membership.pinned, "a pin is one's own affair");
        });
    }

    #[test]
    fn are_pinned_by_members_until_they_say_otherwise() {
        let store = three();
        let refused = try_commit(&store, |b| b.pin("a", "stranger", true));
        assert!(matches!(refused, Err(Error::NotMember { op: 0, .. })));
        commit(&store, |b| b.pin("a", "alice", true).pin("b", "alice", true));
        commit(&store, |b| b.pin("a", "alice", false).leave("b", "alice").join("b", "alice"));
        assert!(!member(&store, "a", "alice").pinned);
        assert!(!member(&store, "b", "alice").pinned, "a new membership has no pin");
    }

    #[test]
    fn carry_what_is_muted_and_count_all_the_same() {
        let store = three();
        let token = list(&store, "alice").as_of;
        let receipt = commit(&store, |b| b.mute("a", "alice", true).mute("a", "alice", true));
        assert_eq!(receipt.outcomes()[1], Outcome::Unchanged);
        assert_eq!(brief(&changes(&store, "alice", &token).0), ["a"]);
        send(&store, "a", "bob", 1);
        store.wherever(|store| {
            assert_eq!(listed(store, "alice"), ["a", "c", "b"]);
            let entry = entry(store, "alice", "a");
            assert_eq!((entry.unread, entry.membership.muted), (2, true));
            assert!(!member(store, "a", "bob").muted, "muting is one's own affair");
        });
    }

    #[test]
    fn of_the_unread_leave_out_the_others() {
        let store = three();
        commit(&store, |b| {
            b.read("b", "alice", 1).append("c", draft("alice")).join("d", "alice").activate("d", "alice")
        });
        store.wherever(|store| {
            let unread = store.conversations("alice").unread_only().list().unwrap();
            assert_eq!(channels_in(&unread.entries), ["a"]);
        });
    }

    #[test]
    fn can_be_asked_for_one_entry() {
        let store = three();
        commit(&store, |b| b.hide("b", "alice"));
        store.wherever(|store| {
            assert_eq!(store.conversation("alice", "a").unwrap(), Some(entry(store, "alice", "a")));
            assert_eq!(store.conversation("alice", "b").unwrap(), None, "it is not in the list");
            assert_eq!(store.conversation("alice", "unknown").unwrap(), None);
            assert_eq!(store.conversation("stranger", "a").unwrap(), None);
        });
    }

    #[test]
    fn can_be_asked_for_sums() {
        let store = three();
        send(&store, "a", "bob", 2);
        commit(&store, |b| {
            b.read("b", "alice", 1).flag_unread("a", "alice", true).flag_unread("b", "alice", true)
        });
        store.wherever(|store| {
            let unread = store.unread("alice").unwrap();
            assert_eq!((unread.messages, unread.conversations, unread.flagged), (4, 2, 2));
            assert_eq!(store.unread("stranger").unwrap(), Unread::default());
        });
        let store = three();
        commit(&store, |b| {
            b.flag_unread("a", "alice", true).flag_unread("b", "alice", true).hide("a", "alice")
        });
        let unread = store.unread("alice").unwrap();
        let sums = (unread.messages, unread.conversations, unread.flagged);
        assert_eq!(sums, (2, 2, 1), "what is not in the list does not count");
    }

    fn unread_only(store: &Store, user: &str) -> Vec<String> {
        let list = store.conversations(user).unread_only().list().unwrap();
        channels_in(&list.entries).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn of_the_unread_show_what_is_flagged() {
        let store = three();
        commit(&store, |b| b.read("a", "alice", 1).read("b", "alice", 1));
        let receipt = commit(&store, |b| b.flag_unread("a", "alice", true).flag_unread("a", "alice", true));
        assert_eq!(receipt.outcomes()[1], Outcome::Unchanged);
        store.wherever(|store| {
            assert_eq!(unread_only(store, "alice"), ["c", "a"]);
            let entry = entry(store, "alice", "a");
            assert_eq!((entry.unread, entry.read_seq), (0, 1), "the flag stands apart from the marks");
            assert!(entry.membership.flagged > 0);
            assert_eq!(unread_only(store, "bob"), Vec::<String>::new());
        });
    }

    #[test]
    fn lose_the_unread_flag_with_a_read_an_own_message_a_leave_or_on_request() {
        let store = three();
        let channels = ["a", "b", "c", "d"];
        commit(&store, |b| b.join("d", "alice").activate("d", "alice"));
        for channel in channels {
            commit(&store, |b| b.read(channel, "alice", 1).flag_unread(channel, "alice", true));
        }
        let token = match store.conversations("alice").unread_only().list() {
            Ok(list) => list.as_of,
            Err(error) => panic!("{error}"),
        };
        send(&store, "b", "bob", 1);
        assert_eq!(unread_only(&store, "alice").len(), 4, "another's message ends no flag");
        let receipt = commit(&store, |b| {
            b.read("a", "alice", 0).append("b", draft("alice").silent()).flag_unread("c", "alice", false)
        });
        assert!(receipt.outcomes()[0].version().is_some(), "a read of nothing new ends the flag");
        let receipt = commit(&store, |b| b.read("b", "alice", 0).leave("d", "alice").join("d", "alice"));
        assert_eq!(receipt.outcomes()[0], Outcome::Unchanged, "the message had ended it");
        let Update::Changes { changes, .. } =
            store.conversations("alice").unread_only().since(&token).unwrap()
        else {
            panic!("a known token")
        };
        assert_eq!(brief(&changes), ["-a", "-b", "-c", "-d"]);
        store.wherever(|store| {
            assert_eq!(unread_only(store, "alice"), Vec::<String>::new());
            for channel in channels {
                assert_eq!(member(store, channel, "alice").flagged, 0);
            }
        });
    }

    #[test]
    fn come_in_pages() {
        let store = three();
        store.wherever(|store| {
            let first = store.conversations("alice").limit(2).list().unwrap();
            assert_eq!(channels_in(&first.entries), ["c", "b"]);
            let page: Continuation = first.next.unwrap().to_string().parse().unwrap();
            let second = store.conversations("alice").limit(2).after(&page).list().unwrap();
            assert_eq!(channels_in(&second.entries), ["a"]);
            assert_eq!(second.next, None);
            assert_eq!(
                store.conversations("alice").limit(3).list().unwrap().next,
                None,
                "no page without entries"
            );
        });
    }

    #[test]
    fn in_pages_lose_nothing_that_changes_in_between() {
        let store = three();
        let first = store.conversations("alice").limit(1).list().unwrap();
        assert_eq!(channels_in(&first.entries), ["c"]);
        commit(&store, |b| b.append("a", draft("bob")).clear("c", "alice"));
        let second = store.conversations("alice").after(&first.next.unwrap()).list().unwrap();
        assert_eq!(second.next, None);
        let (changes, _) = changes(&store, "alice", &second.as_of);
        let brief = brief(&changes);
        assert!(brief.contains(&"a".into()) && brief.contains(&"-c".into()), "{brief:?}");
    }

    #[test]
    fn know_the_end_of_a_range_of_history() {
        let store = fresh();
        send(&store, "c", "u", 10);
        store.wherever(|store| {
            let at = |from, to| seqs(&store.history("c").from(from).to(to).list().unwrap());
            assert_eq!(at(0, 3), [1, 2, 3]);
            assert_eq!(at(9, 99), [9, 10]);
            assert_eq!(at(4, 4), [4]);
            assert_eq!(at(5, 4), [0u64; 0]);
            assert_eq!(at(11, u64::MAX), [0u64; 0]);
        });
    }
}

mod unique_ids {
    use super::*;

    fn identified(sender: &str, id: impl AsRef<[u8]>) -> Draft {
        draft(sender).unique_id(id)
    }

    #[test]
    fn find_their_message_wherever_it_lies() {
        let store = fresh();
        let number = 42u64.to_be_bytes();
        send(&store, "c", "v", 3);
        commit(&store, |b| b.append("c", identified("u", number)).append("d", identified("u", [0xff; 64])));
        send(&store, "c", "v", 3);
        store.wherever(|store| {
            let found = store.message_by_id(number).unwrap().unwrap();
            assert_eq!((&found.channel[..], found.message.seq), (&b"c"[..], 4));
            assert_eq!(found.message.unique_id.as_deref(), Some(&number[..]));
            assert_eq!(store.message_by_id([0xff; 64]).unwrap().unwrap().channel, "d");
            assert_eq!(store.message_by_id([0xff; 63]).unwrap(), None);
            assert_eq!(store.message_by_id("").unwrap(), None);
            let (all, plain) = (store.history("c").list().unwrap(), 2);
            assert_eq!((all[3].unique_id.as_deref(), &all[plain].unique_id), (Some(&number[..]), &None));
        });
    }

    #[test]
    fn are_unique_in_the_whole_store() {
        let store = fresh();
        commit(&store, |b| b.append("c", identified("u", "1")));
        store.wherever(|store| {
            let before = version(store);
            for (channel, sender) in [("c", "u"), ("d", "u"), ("c", "v")] {
                let refused =
                    try_commit(store, |b| b.join("d", "x").append(channel, identified(sender, "1")));
                match refused {
                    Err(Error::IdTaken { op: 1, channel, seq: 1, .. }) => assert_eq!(channel, "c"),
                    other => panic!("expected IdTaken, not {other:?}"),
                }
            }
            assert_eq!(version(store), before);
        });
    }

    #[test]
    fn are_unique_within_a_batch() {
        let store = fresh();
        let refused =
            try_commit(&store, |b| b.append("c", identified("u", "1")).append("c", identified("u", "1")));
        assert!(matches!(refused, Err(Error::IdTaken { op: 1, seq: 1, .. })), "{refused:?}");
        assert_eq!(store.message_by_id("1").unwrap(), None);
        commit(&store, |b| b.append("c", identified("u", "1")));
    }

    #[test]
    fn do_not_stand_in_the_way_of_a_repeated_send() {
        let store = fresh();
        let both = || identified("u", "1").client_id("a");
        let receipt = commit(&store, |b| b.append("c", both()).append("c", both()));
        assert_eq!(receipt.outcomes()[0], Outcome::Appended { seq: 1, ordinal: 1, version: 1 });
        assert_eq!(receipt.outcomes()[1], Outcome::Existed { seq: 1, version: 1 });
        assert_eq!(version(&store), 1);
    }

    #[test]
    fn have_1_to_64_bytes() {
        let store = fresh();
        assert_invalid(try_commit(&store, |b| b.append("c", identified("u", ""))), 0);
        assert_invalid(try_commit(&store, |b| b.append("c", identified("u", [1; 65]))), 0);
    }

    #[test]
    fn survive_a_crash() {
        let store = fresh();
        commit(&store, |b| b.append("c", identified("u", "1")));
        let crashed = store.crashed();
        assert_eq!(crashed.message_by_id("1").unwrap().unwrap().message.seq, 1);
        assert!(matches!(
            try_commit(&crashed, |b| b.append("c", identified("u", "1"))),
            Err(Error::IdTaken { .. })
        ));
    }
}

mod times {
    use super::*;

    fn at(store: &Store, times: &[i64]) {
        for time in times {
            commit(store, |b| b.append("c", Draft::new("u", *time, vec![7; 3000])));
        }
    }

    fn last(store: &Store, time: i64) -> Option<u64> {
        seqs(&store.history("c").to_time(time).last(1).unwrap()).first().copied()
    }

    fn first_after(store: &Store, time: i64) -> Option<u64> {
        seqs(&store.history("c").from_time(time + 1).limit(1).list().unwrap()).first().copied()
    }

    #[test]
    fn need_not_ascend() {
        let store = fresh();
        at(&store, &[100, 200, 150, 300, 250]);
        store.wherever(|store| {
            let found = [99, 100, 149, 150, 200, 249, 250, 299, 300].map(|time| last(store, time));
            assert_eq!(found, [None, Some(1), Some(1), Some(3), Some(3), Some(3), Some(5), Some(5), Some(5)]);
            let found = [99, 100, 150, 200, 250, 299, 300].map(|time| first_after(store, time));
            assert_eq!(found, [Some(1), Some(2), Some(2), Some(4), Some(4), Some(4), None]);
        });
    }

    #[test]
    fn of_a_far_future_hide_nothing() {
        let store = fresh();
        at(&store, &[100, i64::MAX, 200, i64::MIN]);
        at(&store, &(3..40).map(|i| i * 100).collect::<Vec<_>>());
        store.wherever(|store| {
            assert_eq!((last(store, 99), last(store, 250), last(store, 3900)), (Some(4), Some(4), Some(41)));
            assert_eq!((first_after(store, 200), first_after(store, 2000)), (Some(2), Some(2)));
            let after = store.history("c").from(3).from_time(2001).limit(1).list().unwrap();
            assert_eq!(seqs(&after), [23]);
        });
    }

    #[test]
    fn narrow_any_range() {
        let store = fresh();
        at(&store, &(0..60).map(|i| i % 10 * 10).collect::<Vec<_>>());
        store.wherever(|store| {
            let range = || store.history("c").from_time(30).to_time(40);
            assert_eq!(seqs(&range().limit(3).list().unwrap()), [4, 5, 14]);
            assert_eq!(seqs(&range().reverse().limit(3).list().unwrap()), [55, 54, 45]);
            assert_eq!(seqs(&range().from(10).to(25).list().unwrap()), [14, 15, 24, 25]);
            assert_eq!(seqs(&range().limit(0).list().unwrap()), [0u64; 0]);
            assert_eq!(seqs(&store.history("c").from_time(40).to_time(30).list().unwrap()), [0u64; 0]);
        });
    }
}

mod senders {
    use super::*;

    #[test]
    fn have_their_own_last_message_at_or_below_a_seq() {
        let store = fresh();
        for i in 0..30 {
            send(&store, "c", if i % 10 == 2 { "rare" } else { "u" }, 1);
        }
        commit(&store, |b| b.join("c", "silent one"));
        store.wherever(|store| {
            let last = |user: &str, seq| seqs(&store.history("c").to(seq).by(user).last(1).unwrap());
            assert_eq!(last("rare", u64::MAX), [23]);
            assert_eq!((last("rare", 22), last("rare", 13), last("rare", 2)), (vec![13], vec![13], vec![]));
            assert_eq!(last("u", 3), [2]);
            assert_eq!((last("silent one", 30), last("nobody", 30)), (vec![], vec![]));
            let all = store.history("c").by("rare").limit(2).list().unwrap();
            assert_eq!(seqs(&all), [3, 13]);
        });
    }
}

mod histories {
    use super::*;

    /// Ten messages with payloads of 100 bytes.
    fn ten() -> Fresh {
        let store = fresh();
        (0..10u8).for_each(|i| drop(commit(&store, |b| b.append("c", Draft::new("u", 0, vec![i; 100])))));
        store
    }

    #[test]
    fn are_read_forward_and_backward_with_a_limit() {
        ten().wherever(|store| {
            let range = || store.history("c").from(3).to(8);
            assert_eq!(seqs(&range().list().unwrap()), [3, 4, 5, 6, 7, 8]);
            assert_eq!(seqs(&range().reverse().list().unwrap()), [8, 7, 6, 5, 4, 3]);
            assert_eq!(seqs(&range().limit(2).list().unwrap()), [3, 4]);
            assert_eq!(seqs(&range().limit(2).reverse().list().unwrap()), [8, 7]);
            assert_eq!(seqs(&range().limit(0).list().unwrap()), [0u64; 0]);
        });
    }

    #[test]
    fn stop_at_a_limit_in_bytes_but_give_one_message() {
        ten().wherever(|store| {
            let bytes = |n| store.history("c").bytes(n);
            assert_eq!(seqs(&bytes(300).list().unwrap()), [1, 2, 3]);
            assert_eq!(seqs(&bytes(399).list().unwrap()), [1, 2, 3]);
            assert_eq!(seqs(&bytes(250).reverse().list().unwrap()), [10, 9]);
            assert_eq!(seqs(&bytes(1).list().unwrap()), [1]);
            assert_eq!(seqs(&bytes(0).reverse().list().unwrap()), [10]);
        });
    }

    #[test]
    fn give_the_last_ones_oldest_first() {
        ten().wherever(|store| {
            assert_eq!(seqs(&store.history("c").last(3).unwrap()), [8, 9, 10]);
            assert_eq!(seqs(&store.history("c").to(5).last(2).unwrap()), [4, 5]);
            assert_eq!(store.history("c").last(99).unwrap().len(), 10);
        });
    }

    #[test]
    fn are_clipped_to_what_a_member_may_see() {
        let store = ten();
        commit(&store, |b| {
            b.join_with("c", "alice", JoinOptions::new().history(HistoryFrom::Seq(4))).join("c", "bob")
        });
        commit(&store, |b| b.append("c", draft("bob")).clear("c", "bob").append("c", draft("bob")));
        store.wherever(|store| {
            let seen = |user: &str| seqs(&store.history("c").seen_by(user).list().unwrap());
            assert_eq!(seen("alice"), (4..=12).collect::<Vec<_>>());
            assert_eq!(seen("bob"), [12]);
            assert_eq!(seen("stranger"), [0u64; 0]);
            assert_eq!(seqs(&store.history("c").seen_by("alice").to(5).last(9).unwrap()), [4, 5]);
        });
    }

    #[test]
    fn have_heads_that_are_read_together() {
        let store = ten();
        commit(&store, |b| b.append("d", draft("u").silent()).join("e", "alice").join("e", "bob"));
        store.wherever(|store| {
            let heads = store.heads(["d", "nowhere", "c", "d", "e"]).unwrap();
            let d = head(Mark { seq: 1, ordinal: 0 }, 11, 0);
            let c = head(Mark { seq: 10, ordinal: 10 }, 10, 0);
            let e = head(Mark::default(), 0, 2);
            assert_eq!(heads, [d, Head::default(), c, d, e]);
            assert_eq!(store.head("c").unwrap(), c);
        });
    }
}

mod updates {
    use super::*;

    /// Alice has five channels with one message of bob each, and the token of her list.
    fn five() -> (Fresh, SyncToken) {
        let store = fresh();
        for channel in ["a", "b", "c", "d", "e"] {
            commit(&store, |b| b.join(channel, "alice").append(channel, draft("bob")));
        }
        let token = list(&store, "alice").as_of;
        (store, token)
    }

    #[test]
    fn are_empty_when_nothing_changed() {
        let (store, token) = five();
        commit(&store, |b| b.join("a", "bob").append("elsewhere", draft("bob")).read("a", "bob", 9));
        store.wherever(|store| assert_eq!(changes(store, "alice", &token).0, []));
    }

    #[test]
    fn come_oldest_change_first_and_each_once() {
        let (store, token) = five();
        commit(&store, |b| {
            b.append("c", draft("bob"))
                .read("a", "alice", 1)
                .append("b", draft("alice"))
                .append("c", draft("bob"))
                .join("new", "alice")
                .activate("new", "alice")
        });
        store.wherever(|store| {
            let (found, as_of) = changes(store, "alice", &token);
            assert_eq!(brief(&found), ["a", "b", "c", "new"]);
            assert_eq!(changes(store, "alice", &as_of).0, []);
            let ListChange::Entry(entry) = &found[2] else { panic!("an entry") };
            assert_eq!(*entry, super::entry(store, "alice", "c"), "as of now");
        });
    }

    #[test]
    fn tell_what_disappeared() {
        let (store, token) = five();
        let receipt = commit(&store, |b| b.clear("d", "alice").leave("b", "alice").append("b", draft("bob")));
        let version = |op: usize| receipt.outcomes()[op].version().unwrap();
        store.wherever(|store| {
            let (found, as_of) = changes(store, "alice", &token);
            let removed = |channel: &str, version| ListChange::Removed {
                channel: Bytes::copy_from_slice(channel.as_bytes()),
                version,
            };
            assert_eq!(found, [removed("d", version(0)), removed("b", version(1))]);
            assert_eq!(changes(store, "alice", &as_of).0, []);
        });
    }

    #[test]
    fn tell_of_a_leave_that_a_join_came_after() {
        let store = fresh();
        store
            .commit(Batch::new().join_with("c", "alice", JoinOptions::new().history(HistoryFrom::Start)))
            .unwrap();
        send(&store, "c", "bob", 1);
        let token = store.conversations("alice").list().unwrap().as_of;
        store.commit(Batch::new().leave("c", "alice")).unwrap();
        store.commit(Batch::new().join("c", "alice")).unwrap();
        let Update::Changes { changes, .. } = store.conversations("alice").since(&token).unwrap() else {
            panic!("told to start over")
        };
        assert!(matches!(&changes[..], [ListChange::Removed { .. }]), "there is nothing to see: {changes:?}");
    }

    #[test]
    fn tell_of_what_came_back() {
        let (store, token) = five();
        commit(&store, |b| b.leave("b", "alice").clear("d", "alice"));
        commit(&store, |b| {
            b.join_with("b", "alice", JoinOptions::new().history(HistoryFrom::Start))
                .append("d", draft("bob"))
        });
        assert_eq!(brief(&changes(&store, "alice", &token).0), ["b", "d"]);
    }

    #[test]
    fn of_the_unread_tell_what_was_read_as_removed() {
        let (store, token) = five();
        commit(&store, |b| {
            b.read("a", "alice", 1).append("b", draft("alice")).append("c", draft("bob")).leave("d", "alice")
        });
        store.wherever(|store| match store.conversations("alice").unread_only().since(&token).unwrap() {
            Update::Changes { changes, .. } => assert_eq!(brief(&changes), ["-a", "-b", "c", "-d"]),
            update => panic!("expected changes, not {update:?}"),
        });
    }

    #[test]
    fn that_a_limit_cut_go_on_by_page_or_by_token() {
        let (store, token) = five();
        commit(&store, |b| b.append("e", draft("bob")).append("a", draft("bob")).append("c", draft("bob")));
        store.wherever(|store| {
            let Update::Changes { changes, as_of, next, .. } =
                store.conversations("alice").limit(2).since(&token).unwrap()
            else {
                panic!("expected changes")
            };
            assert_eq!(brief(&changes), ["e", "a"]);
            let by_page = store.conversations("alice").after(&next.unwrap()).since(&token).unwrap();
            let Update::Changes { changes, next, .. } = by_page else { panic!("expected changes") };
            assert_eq!((brief(&changes), next), (vec!["c".to_owned()], None));
            assert_eq!(brief(&super::changes(store, "alice", &as_of).0), ["c"]);
        });
    }

    #[test]
    fn after_a_list_that_a_limit_cut_bring_the_rest() {
        let (store, _) = five();
        let cut = store.conversations("alice").limit(2).list().unwrap();
        assert_eq!(channels_in(&cut.entries), ["e", "d"]);
        let mut rest = brief(&changes(&store, "alice", &cut.as_of).0);
        rest.retain(|channel| !["e", "d"].contains(&channel.as_str()));
        rest.sort();
        assert_eq!(rest, ["a", "b", "c"]);
    }

    #[test]
    fn of_another_store_start_over() {
        let (store, token) = five();
        let other = fresh();
        commit(&other, |b| b.join("a", "alice"));
        assert_eq!(other.conversations("alice").since(&token).unwrap(), Update::Reset);
        let foreign = list(&other, "alice").as_of;
        assert_eq!(store.conversations("alice").since(&foreign).unwrap(), Update::Reset);
    }

    #[test]
    fn with_few_tombstones_start_over_rather_than_miss_a_removal() {
        let store = fresh_with(small().tombstones(1));
        for channel in ["a", "b", "c"] {
            commit(&store, |b| b.join(channel, "alice").append(channel, draft("bob")));
        }
        let old = list(&store, "alice").as_of;
        commit(&store, |b| b.leave("a", "alice").leave("b", "alice"));
        let late = list(&store, "alice").as_of;
        commit(&store, |b| b.leave("c", "alice"));
        store.wherever(|store| {
            assert_eq!(brief(&changes(store, "alice", &late).0), ["-c"], "the newest tombstone is kept");
            match store.conversations("alice").since(&old).unwrap() {
                Update::Reset => {}
                Update::Changes { changes, .. } => assert_eq!(brief(&changes), ["-a", "-b", "-c"]),
                update => panic!("unknown {update:?}"),
            }
        });
    }

    #[test]
    fn for_an_unknown_user_are_empty_until_there_is_something() {
        let store = fresh();
        let token = list(&store, "alice").as_of;
        assert_eq!(changes(&store, "alice", &token).0, []);
        commit(&store, |b| b.join("c", "alice").append("c", draft("bob")));
        assert_eq!(brief(&changes(&store, "alice", &token).0), ["c"]);
    }

    #[test]
    fn need_well_formed_tokens() {
        for text in ["", "x", "not a token", "AAAA", "🦀", &"A".repeat(10_000)] {
            let error = text.parse::<SyncToken>().unwrap_err();
            assert!(matches!(error, Error::InvalidArgument { op: None, .. }), "{text}: {error}");
            let error = text.parse::<Continuation>().unwrap_err();
            assert!(matches!(error, Error::InvalidArgument { op: None, .. }), "{text}: {error}");
        }
        let (_store, token) = five();
        let text = token.to_string();
        assert_eq!(text.parse::<SyncToken>().unwrap(), token);
        assert!(text[..text.len() - 1].parse::<SyncToken>().is_err(), "a token that lost its end");
    }
}

mod stores {
    use super::*;

    #[test]
    fn are_cheap_to_share() {
        fn shared<T: Clone + Send + Sync + 'static>() {}
        shared::<Store>();
        fn sent<T: Send + 'static>() {}
        sent::<chanlog::Commit>();
        shared::<Message>();
        shared::<Error>();
    }

    #[test]
    fn are_made_once_and_then_opened() {
        let mut store = fresh();
        assert!(store.recovery().created);
        send(&store, "c", "u", 3);
        store.reopen();
        let recovery = store.recovery();
        assert_eq!(
            (recovery.created, recovery.clean, recovery.gap, recovery.torn_bytes),
            (false, true, false, 0)
        );
        assert_eq!(store.head("c").unwrap().last.seq, 3);
        send(&store, "c", "u", 1);
        assert_eq!(store.head("c").unwrap().last.seq, 4);
    }

    #[test]
    fn close_with_their_last_handle() {
        let Fresh { store, options, dir } = fresh();
        commit(&store, |b| b.append("c", draft("u")).durability(Durability::Buffered));
        let clone = store.clone();
        drop(store);
        assert_eq!(clone.head("c").unwrap().last.seq, 1);
        drop(clone);
        let store = options.open(dir.path()).unwrap();
        assert!(store.recovery().clean);
        assert_eq!(store.head("c").unwrap().last.seq, 1);
    }

    #[test]
    fn that_are_closed_say_so_to_every_handle() {
        let store = fresh();
        let clone = store.store.clone();
        store.close().unwrap();
        let error = try_commit(&clone, |b| b.append("c", draft("u"))).unwrap_err();
        assert!(matches!(error, Error::Closed), "{error}");
        assert!(store.options.clone().open(store.dir.path()).is_ok(), "the lock went with the close");
    }

    #[test]
    fn that_are_open_are_locked() {
        let store = fresh();
        let error = store.options.clone().open(store.dir.path()).unwrap_err();
        assert!(matches!(error, Error::Locked { ref dir, .. } if dir == store.dir.path()), "{error}");
        commit(&store, |b| b.append("c", draft("u")));
    }

    #[test]
    fn are_not_made_where_something_else_is() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("holiday.jpg"), b"\xff\xd8").unwrap();
        let error = small().open(dir.path()).unwrap_err();
        assert!(
            matches!(error, Error::NotAStore { entry: Some(ref entry), .. } if entry == "holiday.jpg"),
            "{error}"
        );
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["holiday.jpg"]);
    }

    #[test]
    fn are_private_to_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("above").join("store");
        let store = small().open(&dir).unwrap();
        send(&store, "c", "u", 100);
        store.seal().unwrap();
        while store.maintain().unwrap() {}
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        for file in std::fs::read_dir(&dir).unwrap() {
            let path = file.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }

    #[test]
    fn count_what_they_hold() {
        let store = fresh();
        commit(&store, |b| b.join("c", "u").append("c", Draft::new("u", 0, "12345").id(1).client_id("xyz")));
        let stat = store.stat().unwrap();
        assert_eq!((stat.version, stat.channels, stat.users, stat.messages), (2, 1, 1, 1));
        assert_eq!((stat.logs.count, stat.segments.count, stat.runs.count), (1, 0, 0));
        assert!(stat.log_bytes > 5 && stat.syncs > 0);
        store.seal().unwrap();
        let stat = store.stat().unwrap();
        assert_eq!((stat.messages, stat.segments.count, stat.runs.count), (1, 1, 1));
        assert!(stat.sealed_bytes > 0 && stat.write_amplification() > 1.0);
    }

    #[test]
    fn write_the_same_bytes_for_few_and_many_members() {
        let cost = |members: usize| {
            let store = fresh();
            commit(&store, |b| {
                (0..members).for_each(|i| _ = b.join("c", format!("user {i}")));
                b
            });
            let before = store.stat().unwrap().log_bytes;
            commit(&store, |b| b.append("c", draft("user 0")));
            store.stat().unwrap().log_bytes - before
        };
        assert_eq!(cost(2), cost(2000));
    }

    #[test]
    fn without_fault_verify() {
        let Fresh { store, options, dir } = fresh();
        send(&store, "c", "u", 100);
        store.seal().unwrap();
        send(&store, "c", "u", 100);
        store.close().unwrap();
        let verification = chanlog::verify(dir.path(), &options).unwrap();
        assert!(
            verification.faults.is_empty() && verification.files > 0 && verification.bytes > 0,
            "{verification:?}"
        );
    }
}

/// What a server keeps with channels and users, beside memberships.
mod retracting {
    use super::*;
    use chanlog::MessageState;

    /// A channel of ten messages of alice, of which bob has read two.
    fn ten() -> Fresh {
        let store = fresh();
        commit(&store, |b| b.join("c", "alice").join("c", "bob").join("c", "eve"));
        send(&store, "c", "alice", 10);
        commit(&store, |b| b.read("c", "bob", 2));
        store
    }

    fn retracted(message: &Message) -> bool {
        assert!(message.payload.is_empty() || message.state == MessageState::Sent);
        matches!(message.state, MessageState::Retracted { .. })
    }

    #[test]
    fn withholds_the_payload_and_keeps_the_place() {
        let store = ten();
        let receipt = commit(&store, |b| b.retract("c", 4).retract("c", 10).retract("c", 4));
        assert_eq!(receipt.outcomes()[2], Outcome::Unchanged);
        let version = receipt.outcomes()[0].version().unwrap();
        store.wherever(|store| {
            let all = store.history("c").list().unwrap();
            assert_eq!(seqs(&all), (1..=10).collect::<Vec<_>>());
            let gone: Vec<u64> = all.iter().filter(|m| retracted(m)).map(|m| m.seq).collect();
            assert_eq!(gone, [4, 10]);
            assert!(matches!(all[3].state, MessageState::Retracted { version: v, .. } if v == version));
            assert_eq!((&all[3].sender[..], all[3].timestamp), (&b"alice"[..], 3));
            let mut down = store.history("c").reverse().seen_by("bob").list().unwrap();
            down.reverse();
            assert_eq!(down, all);
            // The last message stays the last one, as a stub.
            let entry = entry(store, "bob", "c");
            assert!(entry.last_seq == 10 && retracted(&entry.last.unwrap()));
            assert_eq!(store.conversation("eve", "c").unwrap().unwrap().last_seq, 10);
        });
    }

    #[test]
    fn is_seen_wherever_a_range_begins() {
        let store = fresh();
        send(&store, "c", "u", 200);
        commit(&store, |b| b.retract("c", 66).retract("c", 130).retract("c", 194));
        for from in 1..70 {
            for messages in
                [store.history("c").from(from).list(), store.history("c").from(from).reverse().list()]
            {
                let messages = messages.unwrap();
                let stubs = messages.iter().filter(|message| retracted(message)).count();
                assert_eq!(
                    (messages.len() as u64, stubs),
                    (201 - from, 2 + usize::from(from <= 66)),
                    "from {from}"
                );
            }
        }
    }

    #[test]
    fn takes_it_from_the_unread_of_those_who_had_not_read_it() {
        let store = ten();
        commit(&store, |b| b.append("c", draft("alice").silent()).retract("c", 11));
        commit(&store, |b| b.retract("c", 1).retract("c", 5).retract("c", 6));
        store.wherever(|store| {
            let counts = |user| {
                let only = store.conversations(user).unread_only().list().unwrap().entries;
                assert_eq!(only.len() as u64, store.unread(user).unwrap().conversations);
                (unread(store, user, "c"), store.unread(user).unwrap().messages)
            };
            assert_eq!((counts("bob"), counts("eve"), counts("alice")), ((6, 6), (7, 7), (0, 0)));
        });
    }

    #[test]
    fn of_all_that_is_unread_makes_it_read() {
        let store = ten();
        let token = store.conversations("bob").unread_only().list().unwrap().as_of;
        commit(&store, |b| {
            (3..=10).for_each(|seq| _ = b.retract("c", seq));
            b
        });
        store.wherever(|store| {
            assert!(store.conversations("bob").unread_only().list().unwrap().entries.is_empty());
            assert_eq!(store.unread("bob").unwrap(), Unread::default());
            let update = store.conversations("bob").unread_only().since(&token).unwrap();
            let Update::Changes { changes, .. } = update else { panic!("{update:?}") };
            assert_eq!(brief(&changes), ["-c"]);
            assert_eq!(listed(store, "bob"), ["c"]);
        });
    }

    #[test]
    fn is_told_to_members_at_the_old_place_of_the_list() {
        let store = ten();
        commit(&store, |b| b.join("later", "bob").append("later", draft("eve")));
        let token = list(&store, "bob").as_of;
        commit(&store, |b| b.retract("c", 10));
        store.wherever(|store| {
            assert_eq!(brief(&changes(store, "bob", &token).0), ["c"]);
            assert_eq!(listed(store, "bob"), ["later", "c"]);
        });
    }

    #[test]
    fn sets_unread_by_what_still_counts() {
        let store = ten();
        commit(&store, |b| b.retract("c", 9).retract("c", 7).retract("c", 3));
        for count in 0..9 {
            commit(&store, |b| b.set_unread("c", "bob", count));
            assert_eq!(unread(&store, "bob", "c"), count.min(7), "{count}");
        }
        // In one batch, on top of what is not written yet.
        commit(&store, |b| b.retract("c", 10).set_unread("c", "bob", 2).retract("c", 4));
        assert_eq!((unread(&store, "bob", "c"), member(&store, "c", "bob").cursor().seq), (2, 5));
        store.wherever(|store| assert_eq!(unread(store, "bob", "c"), 2));
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let store = ten();
        let version = version(&store);
        for (channel, seq) in [("c", 0), ("c", 11), ("c", u64::MAX), ("unheard of", 1)] {
            let refused = try_commit(&store, |b| b.join("c", "joe").retract(channel, seq)).unwrap_err();
            assert!(
                matches!(refused, Error::NoMessage { seq: s, op: 1, version: v, .. } if (s, v) == (seq, version + 1)),
                "{refused:?}"
            );
        }
        commit(&store, |b| b.append("new", draft("alice")).retract("new", 1));
        assert_eq!(store.channels().list().unwrap(), ["c", "new"]);
    }

    #[test]
    fn a_limit_in_bytes_counts_what_is_told() {
        let store = ten();
        commit(&store, |b| b.retract("c", 2).retract("c", 3));
        store.wherever(|store| {
            assert_eq!(seqs(&store.history("c").bytes(18).list().unwrap()), [1, 2, 3, 4]);
            assert_eq!(seqs(&store.history("c").to(4).reverse().bytes(18).list().unwrap()), [4, 3, 2, 1]);
        });
    }

    #[test]
    fn in_a_gap_is_refused() {
        let store = ten();
        store.commit(Batch::new().append("c", draft("eve")).durability(Durability::Buffered)).unwrap();
        let crashed = store.crashed();
        commit(&crashed, |b| b.append("c", draft("eve")));
        let end = crashed.head("c").unwrap().last.seq;
        assert!(end > 12, "a gap: {end}");
        for seq in [12, end - 1] {
            assert!(matches!(
                try_commit(&crashed, |b| b.retract("c", seq)),
                Err(Error::NoMessage { op: 0, .. })
            ));
        }
        commit(&crashed, |b| b.retract("c", end).retract("c", 11));
        crashed.wherever(|store| assert_eq!(unread(store, "bob", "c"), 8));
    }
}

mod editing {
    use super::*;
    use chanlog::{ChangeKind, MessageState};

    fn three() -> Fresh {
        let store = fresh();
        commit(&store, |b| b.join("c", "bob"));
        send(&store, "c", "alice", 3);
        store
    }

    fn edited(message: &Message) -> Option<u64> {
        match message.state {
            MessageState::Edited { version, .. } => Some(version),
            _ => None,
        }
    }

    #[test]
    fn gives_readers_the_newest_payload() {
        let store = three();
        let view = store.view().unwrap();
        let long = "long ".repeat(1000);
        commit(&store, |b| b.edit("c", 1, "once").edit("c", 3, &long));
        let receipt = commit(&store, |b| b.edit("c", 1, "twice").edit("c", 2, ""));
        assert_eq!(view.history("c").list().unwrap()[0].payload, "message 0");
        drop(view);
        store.wherever(|store| {
            let all = store.history("c").list().unwrap();
            let payloads: Vec<&[u8]> = all.iter().map(|m| &m.payload[..]).collect();
            assert_eq!(payloads, [b"twice", &b""[..], long.as_bytes()]);
            assert_eq!(edited(&all[0]), receipt.outcomes()[0].version());
            assert_eq!(edited(&all[1]), receipt.outcomes()[1].version());
            assert_eq!((all[0].seq, &all[0].sender[..], all[0].timestamp), (1, &b"alice"[..], 0));
            let entry = entry(store, "bob", "c");
            assert_eq!((entry.last.unwrap().payload, entry.unread), (Bytes::from(long.clone()), 3));
            assert_eq!(store.history("c").reverse().list().unwrap()[2], all[0]);
            assert_eq!(seqs(&store.history("c").bytes(5).list().unwrap()), [1, 2]);
            let changes = store.changes("c").list().unwrap();
            let told: Vec<_> = changes.iter().map(|change| (change.seq, &change.kind)).collect();
            assert!(matches!(
                &told[..],
                [(3, ChangeKind::Edited { .. }), (1, ChangeKind::Edited { payload, .. }), (2, _)] if payload == "twice"
            ));
        });
    }

    #[test]
    fn to_the_same_again_changes_nothing() {
        let store = three();
        let long = "x".repeat(2000);
        let receipt = commit(&store, |b| {
            b.edit("c", 1, "a").edit("c", 1, "a").edit("c", 2, &long).edit("c", 2, &long).edit(
                "c",
                3,
                "message 2",
            )
        });
        let changed: Vec<bool> = receipt.outcomes().iter().map(|o| *o != Outcome::Unchanged).collect();
        assert_eq!(changed, [true, false, true, false, true]);
    }

    #[test]
    fn is_told_at_the_old_place_and_is_unread_for_nobody_again() {
        let store = three();
        commit(&store, |b| b.read("c", "bob", 3).join("later", "bob").append("later", draft("eve")));
        let token = list(&store, "bob").as_of;
        commit(&store, |b| b.edit("c", 3, "changed"));
        store.wherever(|store| {
            assert_eq!(brief(&changes(store, "bob", &token).0), ["c"]);
            assert_eq!(listed(store, "bob"), ["later", "c"]);
            assert_eq!(unread(store, "bob", "c"), 0);
        });
    }

    #[test]
    fn is_refused_where_there_is_nothing_to_edit_and_a_retraction_withholds_all() {
        let store = three();
        commit(&store, |b| b.edit("c", 1, "y".repeat(3000)).retract("c", 1).retract("c", 2));
        let gone = try_commit(&store, |b| b.join("c", "joe").edit("c", 1, "again"));
        assert!(matches!(gone, Err(Error::Retracted { seq: 1, op: 1, .. })), "{gone:?}");
        let none = try_commit(&store, |b| b.edit("c", 4, "x"));
        assert!(matches!(none, Err(Error::NoMessage { seq: 4, op: 0, .. })));
        let long = try_commit(&store, |b| b.edit("c", 3, vec![0; (1 << 20) + 1]));
        assert!(matches!(long, Err(Error::TooLarge { op: Some(0), .. })));
        store.wherever(|store| {
            let all = store.history("c").list().unwrap();
            assert!(all[..2].iter().all(|m| m.payload.is_empty() && edited(m).is_none()));
            assert_eq!(unread(store, "bob", "c"), 1);
            assert!(matches!(store.changes("c").list().unwrap()[0].kind, ChangeKind::Retracted));
        });
    }
}

mod annotating {
    use super::*;
    use chanlog::{Annotation, ChangeKind, MAX_ANNOTATION, MessageChange};

    fn three() -> Fresh {
        let store = fresh();
        commit(&store, |b| b.join("c", "bob").join("c", "eve"));
        send(&store, "c", "alice", 3);
        store
    }

    fn kept(annotations: &[Annotation]) -> Vec<(u64, &[u8], &[u8])> {
        fn value(kept: &Annotation) -> &[u8] {
            kept.value.bytes().expect("it is loaded")
        }
        let mut kept: Vec<_> =
            annotations.iter().map(|kept| (kept.seq, &kept.key[..], value(kept))).collect();
        kept.sort();
        kept
    }

    #[test]
    fn keeps_values_by_key() {
        let store = three();
        let receipt = commit(&store, |b| {
            b.annotate("c", 1, "k", "one").annotate("c", 1, "l", "two").annotate("c", 2, "k", "three");
            b.annotate("c", 1, "k", "four").annotate("c", 1, "k", "four").annotate("c", 2, "nothing", "")
        });
        assert_eq!(receipt.outcomes()[4..], [Outcome::Unchanged, Outcome::Unchanged]);
        store.wherever(|store| {
            let all = store.annotations("c").list().unwrap();
            assert_eq!(kept(&all), [(1, &b"k"[..], &b"four"[..]), (1, b"l", b"two"), (2, b"k", b"three")]);
            assert_eq!(
                kept(&store.annotations("c").from(2).to(2).list().unwrap()),
                [(2, &b"k"[..], &b"three"[..])]
            );
            let one = store.annotation("c", 1, "k").unwrap().unwrap();
            assert_eq!((one.seq, Some(one.version)), (1, receipt.outcomes()[3].version()));
            assert_eq!(store.annotation("c", 3, "k").unwrap(), None);
            assert_eq!(store.annotations("unheard of").list().unwrap(), []);
        });
    }

    #[test]
    fn with_an_empty_value_removes() {
        let store = three();
        commit(&store, |b| b.annotate("c", 1, "k", "one").annotate("c", 1, "l", "two"));
        store.seal().unwrap();
        commit(&store, |b| b.annotate("c", 1, "k", ""));
        store.wherever(|store| {
            assert_eq!(kept(&store.annotations("c").list().unwrap()), [(1, &b"l"[..], &b"two"[..])]);
            assert_eq!(store.annotation("c", 1, "k").unwrap(), None);
            // A page may begin after what is gone.
            assert!(store.annotations("c").after(1, "k").list().unwrap().len() <= 1);
        });
    }

    #[test]
    fn many_are_read_in_pages() {
        let store = three();
        for part in 0..10 {
            commit(&store, |b| {
                (0..100).for_each(|i| _ = b.annotate("c", 2, format!("key {part} {i}"), "x"));
                b
            });
            if part % 3 == 1 {
                store.seal().unwrap();
            }
        }
        store.wherever(|store| {
            let mut keys = std::collections::BTreeSet::new();
            let mut page = store.annotations("c").limit(7).list().unwrap();
            while let Some(last) = page.last() {
                assert!(page.len() <= 7);
                keys.extend(page.iter().map(|kept| kept.key.clone()));
                page = store.annotations("c").after(last.seq, &last.key).limit(7).list().unwrap();
            }
            assert_eq!(keys.len(), 1000);
        });
    }

    #[test]
    fn is_told_to_members_and_moves_nothing_else() {
        let store = three();
        commit(&store, |b| b.join("later", "bob").append("later", draft("eve")));
        let before = entry(&store, "bob", "c");
        let token = list(&store, "bob").as_of;
        let version = commit(&store, |b| b.annotate("c", 3, "k", "v")).outcomes()[0].version().unwrap();
        store.wherever(|store| {
            assert_eq!(brief(&changes(store, "bob", &token).0), ["c"]);
            assert_eq!(listed(store, "bob"), ["later", "c"]);
            let entry = entry(store, "bob", "c");
            assert_eq!((entry.unread, &entry.last, entry.last_seq), (before.unread, &before.last, 3));
            let versions = (entry.versions.messages, entry.versions.content, entry.versions.row);
            assert_eq!(versions, (before.versions.messages, version, before.versions.row));
            assert_eq!(entry.version, version);
        });
    }

    #[test]
    fn changes_come_in_order_and_in_pages() {
        let store = three();
        commit(&store, |b| b.annotate("c", 3, "k", "v").retract("c", 1).annotate("c", 1, "by", "eve"));
        store.seal().unwrap();
        commit(&store, |b| b.annotate("c", 3, "k", "").retract("c", 2));
        store.wherever(|store| {
            let all = store.changes("c").list().unwrap();
            let told: Vec<_> = all.iter().map(|change| (change.seq, change.kind.clone())).collect();
            assert!(matches!(
                &told[..],
                [
                    (1, ChangeKind::Retracted),
                    (1, ChangeKind::Annotated { .. }),
                    (3, ChangeKind::Unannotated { .. }),
                    (2, ChangeKind::Retracted)
                ]
            ));
            assert!(all.is_sorted_by_key(|change| change.version));
            let mut pages: Vec<MessageChange> = Vec::new();
            loop {
                let since = pages.last().map_or(0, |last| last.version);
                let page = store.changes("c").since(since).limit(3).list().unwrap();
                if page.is_empty() {
                    break;
                }
                pages.extend(page);
            }
            assert_eq!(pages, all);
            assert_eq!(store.head("c").unwrap().content, all[3].version);
            assert_eq!(store.changes("c").since(all[3].version).list().unwrap(), []);
            assert_eq!(store.changes("unheard of").list().unwrap(), []);
        });
    }

    #[test]
    fn of_a_retracted_message_works_and_of_none_is_refused() {
        let store = three();
        commit(&store, |b| b.retract("c", 1).annotate("c", 1, "by", "eve"));
        assert_eq!(store.annotations("c").list().unwrap().len(), 1);
        for seq in [0, 4] {
            let refused = try_commit(&store, |b| b.annotate("c", seq, "k", "v"));
            assert!(matches!(refused, Err(Error::NoMessage { op: 0, .. })));
        }
        assert_invalid(try_commit(&store, |b| b.annotate("c", 1, "", "v")), 0);
        assert_invalid(try_commit(&store, |b| b.annotate("c", 1, [7; 256], "v")), 0);
        commit(&store, |b| b.annotate("c", 1, [7; 255], vec![7; MAX_ANNOTATION]));
        let long = try_commit(&store, |b| b.annotate("c", 1, "k", vec![7; MAX_ANNOTATION + 1]));
        assert!(matches!(long, Err(Error::TooLarge { op: Some(0), .. })));
        store.wherever(|store| {
            assert_eq!(store.annotation("c", 1, [7; 255]).unwrap().unwrap().value.len(), 65_536)
        });
    }
}

mod forgetting {
    use super::*;

    /// A channel of ten messages of alice, of which bob has read two, and a later one elsewhere.
    fn ten() -> Fresh {
        let store = fresh();
        commit(&store, |b| b.join("c", "alice").join("c", "bob").join("c", "eve"));
        send(&store, "c", "alice", 10);
        commit(&store, |b| b.read("c", "bob", 2).join("later", "bob").append("later", draft("eve")));
        store
    }

    fn seen(store: &Store, user: &str) -> Vec<u64> {
        seqs(&store.history("c").seen_by(user).list().unwrap())
    }

    fn last(store: &Store, user: &str) -> Option<u64> {
        entry(store, user, "c").last.map(|message| message.seq)
    }

    #[test]
    fn hides_messages_from_one_user_alone() {
        let store = ten();
        let eve = list(&store, "eve").as_of;
        let bob = list(&store, "bob").as_of;
        commit(&store, |b| b.forget("c", "bob", 4, 5).forget("c", "bob", 9, u64::MAX));
        store.wherever(|store| {
            assert_eq!(seen(store, "bob"), [1, 2, 3, 6, 7, 8]);
            let down = store.history("c").seen_by("bob").reverse().limit(4).list().unwrap();
            assert_eq!(seqs(&down), [8, 7, 6, 3]);
            assert_eq!(seqs(&store.history("c").seen_by("bob").from(5).limit(2).list().unwrap()), [6, 7]);
            assert_eq!(seqs(&store.history("c").seen_by("bob").from(4).to(5).list().unwrap()), [0u64; 0]);
            assert_eq!(seqs(&store.history("c").seen_by("bob").last(4).unwrap()), [3, 6, 7, 8]);
            assert_eq!((last(store, "bob"), unread(store, "bob", "c")), (Some(8), 4));
            assert_eq!(store.unread("bob").unwrap().messages, 5);
            assert_eq!(store.forgotten("c", "bob").unwrap(), [4..=5, 9..=10]);
            assert_eq!(listed(store, "bob"), ["later", "c"]);
            assert_eq!(brief(&changes(store, "bob", &bob).0), ["c"]);
            // Nobody else hears or sees anything of it.
            assert_eq!(
                (seen(store, "eve").len(), last(store, "eve"), unread(store, "eve", "c")),
                (10, Some(10), 10)
            );
            assert_eq!(changes(store, "eve", &eve).0, []);
            assert_eq!(store.history("c").list().unwrap().len(), 10);
        });
    }

    #[test]
    fn of_all_messages_leaves_the_entry_without_one() {
        let store = ten();
        commit(&store, |b| b.forget("c", "bob", 0, 10));
        store.wherever(|store| {
            assert_eq!((last(store, "bob"), unread(store, "bob", "c")), (None, 0));
            assert_eq!(listed(store, "bob"), ["later", "c"]);
            assert_eq!(seen(store, "bob"), [0u64; 0]);
        });
    }

    #[test]
    fn does_not_hide_what_comes_later() {
        let store = ten();
        commit(&store, |b| b.forget("c", "bob", 1, u64::MAX).append("c", draft("alice")));
        store.wherever(|store| {
            assert_eq!(
                (last(store, "bob"), unread(store, "bob", "c"), seen(store, "bob")),
                (Some(11), 1, vec![11])
            );
        });
    }

    #[test]
    fn and_retracting_the_same_message_takes_it_from_unread_once() {
        let store = ten();
        commit(&store, |b| b.forget("c", "bob", 4, 6).retract("c", 5).retract("c", 7).retract("c", 1));
        commit(&store, |b| b.forget("c", "bob", 8, 8).retract("c", 8));
        for count in 0..6 {
            commit(&store, |b| b.set_unread("c", "bob", count));
            assert_eq!(unread(&store, "bob", "c"), count.min(4), "{count}");
        }
        commit(&store, |b| b.read_at("c", "bob", 5));
        store.wherever(|store| assert_eq!((unread(store, "bob", "c"), unread(store, "eve", "c")), (2, 6)));
    }

    #[test]
    fn again_changes_nothing_and_ranges_that_touch_are_one() {
        let store = ten();
        commit(&store, |b| b.forget("c", "bob", 3, 4).forget("c", "bob", 8, 9).forget("c", "bob", 5, 7));
        assert_eq!(store.forgotten("c", "bob").unwrap(), [3..=9]);
        let again = commit(&store, |b| b.forget("c", "bob", 4, 8).forget("c", "bob", 11, 20));
        assert_eq!(again.outcomes(), [Outcome::Unchanged, Outcome::Unchanged]);
    }

    #[test]
    fn ends_with_the_membership() {
        let store = ten();
        let whole = JoinOptions::new().history(HistoryFrom::Start).read(0);
        commit(&store, |b| b.forget("c", "bob", 2, 9).leave("c", "bob").join_with("c", "bob", whole));
        assert_eq!(store.forgotten("c", "bob").unwrap(), []);
        assert_eq!((seen(&store, "bob").len(), unread(&store, "bob", "c")), (10, 10));
        commit(&store, |b| b.forget("c", "bob", 10, 10));
        store.wherever(|store| {
            assert_eq!(store.forgotten("c", "bob").unwrap(), [10..=10]);
            assert_eq!((seen(store, "bob").len(), unread(store, "bob", "c")), (9, 9));
        });
    }

    #[test]
    fn is_for_members_and_of_ranges() {
        let store = ten();
        let stranger = try_commit(&store, |b| b.forget("c", "joe", 1, 2));
        assert!(matches!(stranger, Err(Error::NotMember { op: 0, .. })));
        assert_invalid(try_commit(&store, |b| b.forget("c", "bob", 3, 2)), 0);
        assert_eq!(store.forgotten("c", "joe").unwrap(), []);
        assert_eq!(store.forgotten("unheard of", "bob").unwrap(), []);
    }

    #[test]
    fn of_more_than_1024_ranges_is_refused() {
        let store = fresh();
        commit(&store, |b| b.join_with("c", "bob", JoinOptions::new().history(HistoryFrom::Start)));
        send(&store, "c", "alice", 2100);
        commit(&store, |b| {
            (1..=1024).for_each(|i| _ = b.forget("c", "bob", 2 * i, 2 * i));
            b
        });
        let refused = try_commit(&store, |b| b.forget("c", "bob", 2060, 2060));
        assert!(
            matches!(refused, Err(Error::TooLarge { len: 1025, limit: 1024, op: Some(0), .. })),
            "{refused:?}"
        );
        // One that touches others makes them fewer, and what is cleared needs none.
        commit(&store, |b| b.forget("c", "bob", 3, 3).forget("c", "bob", 2060, 2060));
        commit(&store, |b| {
            b.clear_to("c", "bob", 10).forget("c", "bob", 2070, 2070).forget("c", "bob", 2080, 2080)
        });
        store.wherever(|store| {
            assert_eq!(unread(store, "bob", "c"), 2090 - 1022);
            assert_eq!(seen(store, "bob").len(), 2090 - 1022);
        });
    }
}

mod kept {
    use super::*;

    #[test]
    fn a_channel_is_there_once_something_is_kept_with_it() {
        let store = fresh();
        assert!(store.channel("general").unwrap().is_none());
        commit(&store, |batch| batch.class("general", 0));
        assert!(store.has_channel("general").unwrap());
        assert_eq!(store.channel("general").unwrap().unwrap().class, 0);
        assert_eq!(store.head("general").unwrap().last, Mark::default());
    }

    #[test]
    fn the_same_again_changes_nothing() {
        let store = fresh();
        let mut batch = Batch::new();
        batch.class("general", 3).channel_attributes("general", "a").user_attributes("bob", "b");
        store.commit(&batch).unwrap();
        let receipt = store.commit(&batch).unwrap();
        assert!(receipt.outcomes().iter().all(|outcome| *outcome == Outcome::Unchanged));
    }

    #[test]
    fn members_are_told_that_the_channel_changed_and_its_place_stays() {
        let store = fresh();
        commit(&store, |batch| batch.join("general", "bob").append("general", Draft::new("alice", 0, "one")));
        commit(&store, |batch| batch.join("random", "bob").append("random", Draft::new("alice", 0, "two")));
        let list = store.conversations("bob").list().unwrap();
        commit(&store, |batch| batch.channel_attributes("general", "title=General"));
        let Update::Changes { changes, .. } = store.conversations("bob").since(&list.as_of).unwrap() else {
            panic!("the token is good")
        };
        assert!(matches!(&changes[..], [ListChange::Entry(entry)] if entry.channel == "general"));
        let again = store.conversations("bob").list().unwrap();
        let names = |list: &List| list.entries.iter().map(|entry| entry.channel.clone()).collect::<Vec<_>>();
        assert_eq!(names(&again), names(&list));
    }

    #[test]
    fn what_a_user_keeps_is_in_nobodys_list() {
        let store = fresh();
        commit(&store, |batch| batch.join("general", "bob").activate("general", "bob"));
        let list = store.conversations("bob").list().unwrap();
        commit(&store, |batch| batch.user_attributes("bob", "device=1"));
        assert_eq!(store.user("bob").unwrap().unwrap().attributes, "device=1");
        let Update::Changes { changes, .. } = store.conversations("bob").since(&list.as_of).unwrap() else {
            panic!("the token is good")
        };
        assert!(changes.is_empty());
    }

    #[test]
    fn attributes_have_a_bound_and_a_class_has_one_byte() {
        let store = fresh();
        let longest = vec![1; MAX_CHANNEL_ATTRIBUTES];
        commit(&store, |batch| {
            batch.channel_attributes("general", &longest).user_attributes("bob", &longest)
        });
        let longer = vec![1; MAX_CHANNEL_ATTRIBUTES + 1];
        for batch in [
            Batch::new().channel_attributes("general", &longer).clone(),
            Batch::new().user_attributes("bob", &longer).clone(),
        ] {
            assert!(matches!(store.commit(&batch), Err(Error::TooLarge { op: Some(0), .. })));
        }
        let mut batch = Batch::new();
        let fields = &mut |field: &str| match field {
            "channel" => Some(Argument::Bytes(b"general")),
            _ => Some(Argument::Number(256)),
        };
        batch.operation("class", fields).unwrap();
        assert!(matches!(store.commit(&batch), Err(Error::InvalidArgument { op: Some(0), .. })));
        assert_eq!(store.channel("general").unwrap().unwrap().attributes, longest);
    }

    #[test]
    fn a_page_of_one_class_skips_the_others() {
        let store = fresh();
        for n in 0..20 {
            let name = format!("channel {n:02}");
            commit(&store, |batch| batch.class(&name, n % 4).join(&name, "bob"));
            if n == 9 {
                store.seal().unwrap();
            }
        }
        let page = store.channels().class(3).limit(2).list().unwrap();
        assert_eq!(page, ["channel 03", "channel 07"]);
        let page = store.channels().class(3).limit(2).after(&page[1]).list().unwrap();
        assert_eq!(page, ["channel 11", "channel 15"]);
        let page = store.channels_of("bob").class(3).class(1).limit(3).list().unwrap();
        assert_eq!(page, ["channel 01", "channel 03", "channel 05"]);
    }
}

/// Attributes longer than 1,024 bytes, which lie beside the rows.
mod values {
    use super::*;

    const LENS: [usize; 5] = [0, 1, 1024, 1025, MAX_ATTRIBUTES];

    fn channel(len: usize) -> String {
        format!("c{len}")
    }

    /// A member `u` of a channel for each length, whose attributes are that long.
    fn with_all_lens() -> Fresh {
        let store = fresh();
        for len in LENS {
            let channel = channel(len);
            commit(&store, |b| b.join(&channel, "u").activate(&channel, "u"));
            commit(&store, |b| b.attributes(&channel, "u", vec![len as u8; len]));
        }
        store
    }

    #[test]
    fn come_with_every_row_that_is_asked_for() {
        let store = with_all_lens();
        store.wherever(|store| {
            for len in LENS {
                let (channel, bytes) = (channel(len), vec![len as u8; len]);
                assert_eq!(member(store, &channel, "u").attributes, bytes);
                let one = store.conversation("u", &channel).unwrap().unwrap();
                assert_eq!(
                    (one.membership.attributes.clone(), one.fault.is_none()),
                    (member(store, &channel, "u").attributes.clone(), true)
                );
                let rows = store.members(&channel).rows().unwrap();
                assert_eq!(rows[0].membership.attributes, bytes);
                assert!(rows[0].fault.is_none());
            }
            let rows = store.channels_of("u").rows().unwrap();
            let lens: Vec<_> =
                rows.iter().map(|row| row.membership.attributes.bytes().unwrap().len()).collect();
            assert_eq!(lens, LENS);
        });
    }

    #[test]
    fn come_with_lists_and_changes_if_they_are_short_or_asked_for() {
        let store = fresh();
        let token = list(&store, "u").as_of;
        for len in LENS {
            let channel = channel(len);
            commit(&store, |b| b.join(&channel, "u").activate(&channel, "u"));
            commit(&store, |b| b.attributes(&channel, "u", vec![len as u8; len]));
        }
        store.wherever(|store| {
            for asked in [false, true] {
                let question = || match asked {
                    true => store.conversations("u").with_attributes(),
                    false => store.conversations("u"),
                };
                let mut entries = question().list().unwrap().entries;
                let Update::Changes { changes, .. } = question().since(&token).unwrap() else {
                    panic!("start over")
                };
                entries.extend(changes.into_iter().map(|change| match change {
                    ListChange::Entry(entry) => entry,
                    _ => panic!("all are in the list"),
                }));
                assert_eq!(entries.len(), 2 * LENS.len());
                for entry in entries {
                    let attributes = entry.membership.attributes.clone();
                    let len = attributes.len();
                    assert_eq!(entry.channel, channel(len));
                    assert_eq!(attributes.is_empty(), len == 0);
                    let expected = Bytes::from(vec![len as u8; len]);
                    assert_eq!(attributes.bytes(), Some(&expected).filter(|_| asked || len <= 1024));
                }
            }
        });
    }

    #[test]
    fn that_are_set_again_change_nothing_wherever_they_lie() {
        let mut store = with_all_lens();
        for place in 0..3 {
            for len in LENS {
                let bytes = vec![len as u8; len];
                let receipt = commit(&store, |b| b.attributes(channel(len), "u", &bytes));
                assert_eq!(receipt.outcomes(), [Outcome::Unchanged], "{len} bytes");
            }
            match place {
                0 => store.seal().unwrap(),
                _ => store.reopen(),
            }
        }
        // Others of the same length, twice in one batch, and back.
        let (other, before) = (vec![9; 2000], vec![8; 2000]);
        commit(&store, |b| b.attributes("c1", "u", &before));
        let receipt = commit(&store, |b| {
            b.attributes("c1", "u", &other).attributes("c1", "u", &other).attributes("c1", "u", &before)
        });
        let now = version(&store);
        let changed = |version| Outcome::Changed { version };
        assert_eq!(receipt.outcomes(), [changed(now - 2), Outcome::Unchanged, changed(now)]);
        store.wherever(|store| assert_eq!(member(store, "c1", "u").attributes, before));
    }

    #[test]
    fn take_a_version_of_their_own_and_are_no_messages() {
        let store = fresh();
        commit(&store, |b| b.join("c", "u").append("c", draft("u")));
        let (before, head) = (store.stat().unwrap(), store.head("c").unwrap());
        for (len, versions) in [(1024, 1), (1025, 2), (MAX_ATTRIBUTES as u64, 2)] {
            let at = version(&store);
            let receipt = commit(&store, |b| b.attributes("c", "u", vec![1; len as usize]));
            assert_eq!(receipt.outcomes(), [Outcome::Changed { version: at + versions }]);
            assert_eq!(member(&store, "c", "u").version, at + versions);
        }
        store.wherever(|store| {
            let after = store.stat().unwrap();
            assert_eq!((after.messages, after.user_bytes), (before.messages, before.user_bytes));
            assert_eq!((after.channels, after.users), (before.channels, before.users));
            assert_eq!(store.head("c").unwrap(), head);
            assert_eq!(store.history("c").list().unwrap().len(), 1);
        });
    }

    #[test]
    fn are_seen_by_a_view_as_they_were() {
        let store = fresh();
        commit(&store, |b| b.join("c", "u").attributes("c", "u", [1; 2000]));
        let view = store.view().unwrap();
        commit(&store, |b| b.attributes("c", "u", [2; 3000]));
        store.seal().unwrap();
        commit(&store, |b| b.leave("c", "u"));
        store.seal().unwrap();
        while store.maintain().unwrap() {}
        assert_eq!(view.membership("c", "u").unwrap().unwrap().attributes, [1; 2000]);
        assert_eq!(view.members("c").rows().unwrap()[0].membership.attributes, [1; 2000]);
        assert_eq!(store.membership("c", "u").unwrap(), None);
    }

    #[test]
    fn are_verified_and_read_beside_a_writer() {
        let store = with_all_lens();
        for seal in [false, true] {
            if seal {
                store.seal().unwrap();
                commit(&store, |b| b.append("c1", draft("u")).attributes("c0", "u", [5; 1500]));
                store.seal().unwrap();
            }
            let found = chanlog::verify(store.dir.path(), &store.options).unwrap();
            assert!(found.faults.is_empty(), "{:?}", found.faults);
            let reader = store.options.clone().read_only(true).open(store.dir.path()).unwrap();
            let most = vec![MAX_ATTRIBUTES as u8; MAX_ATTRIBUTES];
            assert_eq!(member(&reader, &channel(MAX_ATTRIBUTES), "u").attributes, most);
        }
    }

    /// Rows move with each merge of runs; long values stay where sealing wrote them.
    #[test]
    fn are_not_rewritten_by_merges_of_runs() {
        const MEMBERS: usize = 64;
        let merged = |len: usize| {
            let store = fresh();
            let user = |i: usize| format!("user {i}");
            for round in 0..8u8 {
                commit(&store, |b| {
                    (0..MEMBERS).for_each(|i| {
                        b.join("c", user(i));
                        if round == 0 {
                            b.attributes("c", user(i), vec![i as u8; len]);
                        }
                        b.pin("c", user(i), round % 2 == 0);
                    });
                    b
                });
                store.seal().unwrap();
                while store.maintain().unwrap() {}
            }
            assert!(store.stat().unwrap().runs.count < 8, "runs were merged");
            assert_eq!(member(&store, "c", "user 63").attributes, vec![63; len]);
            store.stat().unwrap().merged_bytes
        };
        let (none, short, long) = (merged(0), merged(1024), merged(MAX_ATTRIBUTES));
        assert!(short > none + (MEMBERS * 1024) as u64, "{short} bytes: short ones are a part of the rows");
        let places = (MEMBERS * 24 * 8) as u64;
        assert!(long < none + places, "{long} bytes, {none} without attributes");
    }

    #[test]
    fn that_are_damaged_are_the_fault_of_their_entry() {
        let mut store = with_all_lens();
        store.seal().unwrap();
        let file = std::fs::read_dir(store.dir.path()).unwrap().map(|file| file.unwrap().path());
        let segment = file.into_iter().find(|path| path.to_string_lossy().contains("seg-")).unwrap();
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        store.reopen();
        let hurt = channel(MAX_ATTRIBUTES);
        let corrupt = |error: Error| matches!(error, Error::Corruption { file, .. } if file == segment);
        assert!(corrupt(store.membership(&hurt, "u").unwrap_err()));
        assert_eq!(member(&store, &channel(1024), "u").attributes.len(), 1024);
        let rows = store.channels_of("u").rows().unwrap();
        let faults: Vec<_> = rows.iter().map(|row| row.fault.is_some()).collect();
        assert_eq!(faults, [false, false, false, true, true]);
        assert_eq!(rows[4].membership.attributes.len(), MAX_ATTRIBUTES);
        let entries = list(&store, "u").entries;
        assert!(entries.iter().all(|entry| entry.fault.is_none()));
        let entries = store.conversations("u").with_attributes().list().unwrap().entries;
        assert_eq!(entries.iter().filter(|entry| entry.fault.is_some()).count(), 2);
        assert!(corrupt(store.conversation("u", &hurt).unwrap().unwrap().fault.unwrap()));
        // It can be replaced, and the rest of the row be changed.
        commit(&store, |b| b.pin(&hurt, "u", true).attributes(&hurt, "u", [3; 1500]));
        assert_eq!(member(&store, &hurt, "u").attributes, [3; 1500]);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn survive_being_serialized() {
        let store = with_all_lens();
        let whole = store.conversations("u").with_attributes().list().unwrap();
        for list in [list(&store, "u"), whole] {
            let text = serde_json::to_string(&list).unwrap();
            assert_eq!(serde_json::from_str::<List>(&text).unwrap(), list, "{text}");
        }
    }
}

/// Channels and users that go with all that belongs to them.
mod deleting {
    use super::*;
    use chanlog::Event;

    /// A channel with all that one may have, and one that stays.
    fn filled() -> Fresh {
        let store = fresh();
        for channel in ["general", "random"] {
            send(&store, channel, "alice", 5);
            commit(&store, |b| b.join(channel, "alice").join(channel, "bob").add_to_set(channel, 1, "carol"));
            let id = format!("id in {channel}");
            commit(&store, |b| b.append(channel, draft("alice").client_id("once").unique_id(id)));
            commit(&store, |b| {
                b.edit(channel, 1, "edited").retract(channel, 2).annotate(channel, 3, "key", "value");
                b.class(channel, 7).channel_attributes(channel, "kept").forget(channel, "bob", 4, 4)
            });
        }
        store
    }

    fn is_empty(store: &Store, channel: &str) {
        assert_eq!(store.head(channel).unwrap().last.seq, 0);
        assert!(store.history(channel).list().unwrap().is_empty());
        assert!(store.members(channel).list().unwrap().is_empty());
        assert!(store.members(channel).left().list().unwrap().is_empty());
        assert!(store.set(channel, 1).list().unwrap().is_empty());
        assert!(store.annotations(channel).list().unwrap().is_empty());
        assert!(store.changes(channel).list().unwrap().is_empty());
        assert_eq!(store.membership(channel, "bob").unwrap(), None);
        assert!(
            store.channel(channel).unwrap().is_none_or(|row| row.class == 0 && row.attributes.is_empty())
        );
    }

    #[test]
    fn a_channel_takes_everything_with_it_at_once() {
        let store = filled();
        let receipt = commit(&store, |b| b.delete_channel("general"));
        assert!(receipt.outcomes()[0].version().is_some());
        store.wherever(|store| {
            is_empty(store, "general");
            assert!(!store.has_channel("general").unwrap());
            assert_eq!(store.channels().list().unwrap(), ["random"]);
            assert_eq!(store.channels().limit(1).list().unwrap(), ["random"]);
            assert_eq!(store.message_by_id("id in general").unwrap(), None);
            assert_eq!(listed(store, "bob"), ["random"]);
            assert_eq!(store.unread("bob").unwrap().conversations, 1);
            assert_eq!(store.channels_of("bob").list().unwrap(), ["random"]);
            assert_eq!(store.sets_of("carol", 1).list().unwrap().len(), 1);
            assert_eq!(store.stat().unwrap().channels, 1);
            // And nothing of the other.
            assert_eq!(store.history("random").list().unwrap().len(), 6);
            assert_eq!(store.message_by_id("id in random").unwrap().unwrap().channel, "random");
        });
    }

    #[test]
    fn a_channel_that_there_is_not_is_nothing() {
        let store = filled();
        commit(&store, |b| b.delete_channel("general"));
        for name in ["general", "nobody made it"] {
            assert_eq!(commit(&store, |b| b.delete_channel(name)).outcomes(), [Outcome::Unchanged]);
            assert!(!store.has_channel(name).unwrap());
            let refused = [
                try_commit(&store, |b| b.retract(name, 3)),
                try_commit(&store, |b| b.read(name, "bob", 3)),
                try_commit(&store, |b| b.require_channel(name, Condition::Present)),
            ];
            assert!(refused.iter().all(Result::is_err));
        }
    }

    #[test]
    fn a_name_that_is_used_again_begins_empty() {
        let store = filled();
        commit(&store, |b| b.delete_channel("general"));
        let again = || draft("alice").client_id("once").unique_id("id in general");
        let receipt = commit(&store, |b| {
            b.require_channel("general", Condition::Absent)
                .append("general", again())
                .join("general", "carol")
        });
        assert_eq!(receipt.outcomes()[1].seq(), Some(1), "the old client id counts no more");
        store.wherever(|store| {
            assert_eq!(store.history("general").list().unwrap()[0].payload, "hello");
            assert_eq!(store.members("general").list().unwrap(), ["carol"]);
            assert_eq!(store.members("general").rows().unwrap().len(), 1);
            assert_eq!(store.channels().list().unwrap(), ["general", "random"]);
            assert_eq!(store.message_by_id("id in general").unwrap().unwrap().message.seq, 1);
            assert_eq!(listed(store, "bob"), ["random"]);
            assert_eq!(store.membership("general", "bob").unwrap(), None);
            assert_eq!(
                (store.head("general").unwrap().members, store.head("general").unwrap().class),
                (1, 0)
            );
            assert!(store.set("general", 1).list().unwrap().is_empty());
        });
    }

    #[test]
    fn a_batch_may_delete_and_make_a_channel_several_times() {
        let store = filled();
        let receipt = commit(&store, |b| {
            b.append("general", draft("bob")).delete_channel("general").append("general", draft("bob"));
            b.delete_channel("general").delete_channel("general");
            b.append("general", draft("bob")).append("general", draft("bob"))
        });
        let told: Vec<_> = receipt.outcomes().iter().map(Outcome::seq).collect();
        assert_eq!(told, [Some(7), None, Some(1), None, None, Some(1), Some(2)]);
        assert_eq!(receipt.outcomes()[4], Outcome::Unchanged);
        store.wherever(|store| {
            assert_eq!(seqs(&store.history("general").list().unwrap()), [1, 2]);
            assert_eq!(store.stat().unwrap().channels, 2);
            assert_eq!(store.channels().list().unwrap(), ["general", "random"]);
        });
    }

    #[test]
    fn a_refused_batch_deletes_nothing() {
        let store = filled();
        let refused = try_commit(&store, |b| {
            b.delete_channel("general").append("general", draft("bob")).retract("general", 3)
        });
        assert!(matches!(refused, Err(Error::NoMessage { seq: 3, op: 2, .. })));
        assert_eq!(commit(&store, |b| b.append("general", draft("bob"))).outcomes()[0].seq(), Some(7));
    }

    #[test]
    fn members_are_told_and_a_new_channel_of_the_name_is_another_entry() {
        let mut store = filled();
        let (bob, carol) = (list(&store, "bob").as_of, list(&store, "carol").as_of);
        commit(&store, |b| b.delete_channel("general"));
        let (told, later) = changes(&store, "bob", &bob);
        assert_eq!(brief(&told), ["-general"]);
        assert!(changes(&store, "bob", &later).0.is_empty());
        assert!(changes(&store, "carol", &carol).0.is_empty());
        commit(&store, |b| b.join("general", "bob").append("general", draft("alice")));
        for round in 0..3 {
            assert_eq!(brief(&changes(&store, "bob", &bob).0), ["-general", "general"], "{round}");
            assert_eq!(brief(&changes(&store, "bob", &later).0), ["general"], "{round}");
            match round {
                0 => store.seal().unwrap(),
                1 => store.compact().unwrap(),
                _ => store.reopen(),
            }
        }
    }

    #[test]
    fn who_asks_too_late_starts_over_whether_or_not_a_merge_dropped_the_row() {
        let store = fresh_with(small().tombstone_age(std::time::Duration::ZERO));
        send(&store, "general", "alice", 3);
        commit(&store, |b| b.join("general", "bob").activate("general", "bob"));
        store.seal().unwrap();
        let before = list(&store, "bob").as_of;
        commit(&store, |b| b.delete_channel("general"));
        let after = list(&store, "bob").as_of;
        store.wherever(|store| {
            assert_eq!(store.conversations("bob").since(&before).unwrap(), Update::Reset);
            assert!(changes(store, "bob", &after).0.is_empty());
            store.compact().unwrap();
        });
    }

    #[test]
    fn rows_and_messages_of_a_channel_go_from_the_files() {
        let mut store = fresh_with(small().tombstone_age(std::time::Duration::ZERO));
        commit(&store, |b| b.join("random", "bob").append("random", draft("bob")));
        store.seal().unwrap();
        let small = store.stat().unwrap();
        commit(&store, |b| {
            (0..2000).for_each(|i| _ = b.join("general", format!("user {i}")));
            (0..2000).for_each(|i| _ = b.append("general", draft("alice").unique_id(format!("id {i}"))));
            (0..2000).for_each(|i| _ = b.add_to_set("general", 1, format!("user {i}")));
            b
        });
        store.seal().unwrap();
        let large = store.stat().unwrap();
        commit(&store, |b| b.delete_channel("general"));
        store.compact().unwrap();
        let left = store.stat().unwrap();
        // Names of users stay.
        assert!(left.runs.bytes < large.runs.bytes * 2 / 3, "{} of {}", left.runs.bytes, large.runs.bytes);
        assert_eq!((left.messages, left.runs.count), (small.messages, 1));
        for _ in 0..2 {
            is_empty(&store, "general");
            assert_eq!(listed(&store, "bob"), ["random"]);
            assert!(chanlog::verify(store.dir.path(), &store.options).unwrap().faults.is_empty());
            store.reopen();
        }
        assert_eq!(commit(&store, |b| b.append("general", draft("bob"))).outcomes()[0].seq(), Some(1));
    }

    #[test]
    fn a_view_from_before_reads_what_was_there() {
        let store = filled();
        let view = store.view().unwrap();
        commit(&store, |b| b.delete_channel("general"));
        commit(&store, |b| b.append("general", draft("bob")).join("general", "carol"));
        for _ in 0..2 {
            assert_eq!(view.history("general").list().unwrap().len(), 6);
            assert_eq!(view.members("general").list().unwrap(), ["alice", "bob"]);
            assert_eq!(view.conversation("bob", "general").unwrap().unwrap().last_seq, 6);
            assert_eq!(view.channels().list().unwrap(), ["general", "random"]);
            store.compact().unwrap();
        }
    }

    #[test]
    fn pages_go_on_after_a_channel_that_is_deleted_meanwhile() {
        let store = filled();
        let page = store.channels_of("bob").limit(1).list().unwrap();
        assert_eq!(page, ["general"]);
        commit(&store, |b| b.delete_channel("general"));
        assert_eq!(store.channels_of("bob").after(&page[0]).list().unwrap(), ["random"]);
        assert_eq!(store.sets_of("carol", 1).after("general").list().unwrap()[0].name, "random");
        assert_eq!(store.channels().after("general").list().unwrap(), ["random"]);
    }

    #[test]
    fn a_feed_tells_of_a_deletion_once_and_of_no_message_that_went() {
        let store = filled();
        commit(&store, |b| b.delete_channel("general"));
        commit(&store, |b| b.append("general", draft("bob")));
        let (mut channels, mut messages) = (Vec::new(), Vec::new());
        for event in store.feed() {
            match event.unwrap() {
                Event::Channel { channel, head, .. } => channels.push((channel, head.deleted > 0)),
                Event::Message { channel, message, .. } if channel == "general" => messages.push(message.seq),
                _ => {}
            }
        }
        assert_eq!(channels, [("random".into(), false), ("general".into(), true)]);
        assert_eq!(messages, [1]);
    }

    #[test]
    fn a_crash_keeps_a_deletion_that_was_acknowledged() {
        let store = filled();
        commit(&store, |b| b.delete_channel("general"));
        commit(&store, |b| b.append("general", draft("bob")));
        let store = store.crashed();
        assert_eq!(seqs(&store.history("general").list().unwrap()), [1]);
        assert_eq!(listed(&store, "bob"), ["random"]);
    }
}

/// Messages whose bytes go.
mod erasing {
    use super::*;
    use chanlog::{ChangeKind, MessageState};

    /// Bytes that no compression makes shorter, and that stand nowhere else.
    pub(super) fn secret(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    /// The files of a store that hold the first bytes of a secret.
    pub(super) fn files_with(store: &Fresh, seed: u64) -> Vec<String> {
        let wanted = secret(seed, 24);
        let holds = |path: &Path| std::fs::read(path).unwrap().windows(24).any(|bytes| bytes == wanted);
        let files = std::fs::read_dir(store.dir.path()).unwrap().map(|file| file.unwrap());
        let found = files.filter(|file| file.metadata().unwrap().is_file() && holds(&file.path()));
        found.map(|file| file.file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn nobody_reads_what_was_erased_and_all_else_stays() {
        let store = fresh();
        send(&store, "general", "alice", 3);
        commit(&store, |b| {
            b.join_with("general", "bob", JoinOptions::new().history(HistoryFrom::Start).read(0))
        });
        commit(&store, |b| b.annotate("general", 3, "key", "value").edit("general", 2, "edited"));
        let before = list(&store, "bob");
        let receipt = commit(&store, |b| b.erase("general", 2).erase("general", 3).erase("general", 3));
        assert_eq!(receipt.outcomes()[2], Outcome::Unchanged);
        store.wherever(|store| {
            let messages = store.history("general").list().unwrap();
            assert_eq!(messages[0].payload, "message 0");
            for message in &messages[1..] {
                assert!(matches!(message.state, MessageState::Erased { .. }) && message.payload.is_empty());
                assert_eq!(message.sender, "alice");
            }
            let now = entry(store, "bob", "general");
            assert_eq!((now.unread, now.last.unwrap().seq), (3, 3), "it counts, and stays the last one");
            assert_eq!(now.versions.messages, before.entries[0].versions.messages);
            assert_eq!(brief(&changes(store, "bob", &before.as_of).0), ["general"]);
            assert_eq!(store.annotations("general").list().unwrap().len(), 1);
            let kinds = store.changes("general").list().unwrap();
            assert_eq!(kinds.iter().filter(|change| change.kind == ChangeKind::Erased).count(), 2);
            store.erase_now().unwrap();
        });
    }

    #[test]
    fn a_stub_is_neither_edited_nor_retracted_and_a_retracted_message_may_be_erased() {
        let store = fresh();
        send(&store, "general", "alice", 2);
        commit(&store, |b| {
            b.join_with("general", "bob", JoinOptions::new().history(HistoryFrom::Start).read(0))
        });
        commit(&store, |b| b.retract("general", 1).erase("general", 1).erase("general", 2));
        let refused = try_commit(&store, |b| b.edit("general", 2, "again"));
        assert!(matches!(refused, Err(Error::Retracted { seq: 2, .. })));
        assert_eq!(commit(&store, |b| b.retract("general", 2)).outcomes(), [Outcome::Unchanged]);
        let refused = try_commit(&store, |b| b.erase("general", 3));
        assert!(matches!(refused, Err(Error::NoMessage { seq: 3, .. })));
        assert_eq!(unread(&store, "bob", "general"), 1, "retracted before");
    }

    #[test]
    fn no_file_holds_a_byte_of_it_once_that_was_asked_for() {
        let mut store = fresh();
        let message = |seed, len| Draft::new("alice", 0, secret(seed, len));
        let before = |store: &Fresh| {
            commit(store, |b| b.append("general", message(1, 100)).append("general", message(2, 100_000)));
            commit(store, |b| b.append("general", message(3, 100)).append("random", message(4, 100)));
            // Edited twice: once beside the row, once in it.
            commit(store, |b| b.append("general", draft("alice")).edit("general", 4, secret(5, 2000)));
            commit(store, |b| b.edit("general", 4, secret(6, 500)).edit("random", 1, secret(7, 3000)));
            commit(store, |b| b.channel_attributes("general", secret(8, 2000)));
        };
        before(&store);
        store.seal().unwrap();
        send(&store, "general", "alice", 30);
        commit(&store, |b| b.append("general", message(9, 100)));
        for seed in 1..=9 {
            assert!(!files_with(&store, seed).is_empty(), "{seed} is there");
        }
        commit(&store, |b| (1..=4).chain([35]).fold(b, |b, seq| b.erase("general", seq)));
        for round in 0..3 {
            store.erase_now().unwrap();
            for seed in [1, 2, 3, 5, 6, 9] {
                assert_eq!(files_with(&store, seed), Vec::<String>::new(), "{seed} in round {round}");
            }
            assert_eq!(store.history("random").list().unwrap()[0].payload, secret(7, 3000));
            let kept = store.channel("general").unwrap().unwrap().attributes;
            assert_eq!(kept.bytes().unwrap(), &secret(8, 2000));
            let messages = store.history("general").list().unwrap();
            assert_eq!((messages.len(), &messages[4].payload[..]), (35, &b"message 0"[..]));
            assert!(messages[..4].iter().chain([&messages[34]]).all(|message| message.payload.is_empty()));
            let verified = chanlog::verify(store.dir.path(), &store.options).unwrap();
            assert!(verified.faults.is_empty(), "{:?}", verified.faults);
            match round {
                0 => store.reopen(),
                _ => send(&store, "other", "bob", 3),
            }
        }
        // A second call has nothing to rewrite.
        let merged = store.stat().unwrap().segments;
        store.erase_now().unwrap();
        assert_eq!(store.stat().unwrap().segments.count, merged.count + 1);
    }

    #[test]
    fn merges_of_segments_leave_out_what_was_erased_trimmed_or_deleted() {
        let store = fresh();
        for (channel, seed) in [("erased", 11), ("trimmed", 12), ("deleted", 13), ("kept", 14)] {
            commit(&store, |b| {
                b.append(channel, Draft::new("alice", 0, secret(seed, 100))).append(channel, draft("alice"))
            });
        }
        store.seal().unwrap();
        commit(&store, |b| b.erase("erased", 1).trim("trimmed", 1).delete_channel("deleted"));
        store.seal().unwrap();
        send(&store, "kept", "alice", 1);
        store.compact().unwrap();
        for seed in 11..=13 {
            assert_eq!(files_with(&store, seed), Vec::<String>::new(), "{seed}");
        }
        assert_eq!(files_with(&store, 14).len(), 1);
        assert_eq!(store.history("kept").list().unwrap()[0].payload, secret(14, 100));
    }

    #[test]
    fn a_view_from_before_still_reads_it() {
        let store = fresh();
        commit(&store, |b| b.append("general", Draft::new("alice", 0, secret(1, 100))));
        commit(&store, |b| b.channel_attributes("general", secret(2, 2000)));
        store.seal().unwrap();
        let view = store.view().unwrap();
        commit(&store, |b| b.erase("general", 1).channel_attributes("general", ""));
        store.erase_now().unwrap();
        assert_eq!(view.history("general").list().unwrap()[0].payload, secret(1, 100));
        let kept = view.channel("general").unwrap().unwrap().attributes;
        assert_eq!(kept.bytes().unwrap(), &secret(2, 2000));
        assert!(store.history("general").list().unwrap()[0].payload.is_empty());
    }
}

/// All that a user sent goes at once.
mod erasing_users {
    use super::erasing::{files_with, secret};
    use super::*;
    use chanlog::{Event, MessageState};
    use std::collections::BTreeSet;

    fn stub(message: &Message, version: u64) -> bool {
        let erased = matches!(message.state, MessageState::Erased { version: at, .. } if at == version);
        erased && message.payload.is_empty()
    }

    #[test]
    fn all_that_was_sent_until_then_is_a_stub_and_what_comes_later_is_whole() {
        let store = fresh();
        commit(&store, |b| {
            b.join_with("general", "bob", JoinOptions::new().history(HistoryFrom::Start).read(0))
        });
        send(&store, "general", "alice", 2);
        send(&store, "random", "alice", 1);
        send(&store, "general", "bob", 1);
        commit(&store, |b| b.edit("general", 1, "edited").annotate("general", 2, "key", "value"));
        let (before, head) = (list(&store, "bob"), store.head("general").unwrap());
        let asked = store.version().unwrap();
        let receipt = commit(&store, |b| {
            b.append("general", draft("alice")).erase_user("alice").append("general", draft("alice"))
        });
        let Outcome::Changed { version, .. } = receipt.outcomes()[1] else { panic!("{receipt:?}") };
        store.wherever(|store| {
            let messages = store.history("general").list().unwrap();
            let stubs: Vec<bool> = messages.iter().map(|message| stub(message, version)).collect();
            assert_eq!(stubs, [true, true, false, true, false]);
            assert!(stub(&store.history("random").list().unwrap()[0], version));
            assert_eq!(messages[0].sender, "alice", "who sent it stays");
            assert!(!messages[4].payload.is_empty());
            let now = entry(store, "bob", "general");
            assert_eq!(now.last.as_ref().unwrap().seq, 5);
            assert_eq!(now.read_seq, before.entries[0].read_seq);
            let told = store.changes("general").since(0).list().unwrap();
            assert_eq!(told.len(), 1, "the edit is no more, the annotation stays: {told:?}");
            assert_eq!(store.head("general").unwrap().content, head.content);
            assert_eq!(store.annotations("general").list().unwrap().len(), 1);
            let payloads = store.history("general").bytes(1).list().unwrap();
            assert_eq!(payloads.len(), 2, "stubs have no bytes");
            let told = store.changes("general").since(asked).list().unwrap();
            assert!(told.is_empty(), "no channel names them one by one: {told:?}");
            store.erase_now().unwrap();
        });
    }

    #[test]
    fn its_messages_are_as_erased_ones_to_every_operation() {
        let store = fresh();
        let sent = Draft::new("alice", 0, "hello").client_id("one").unique_id("id");
        commit(&store, |b| b.append("general", sent.clone()).append("general", draft("alice")));
        commit(&store, |b| b.retract("general", 2).erase_user("alice"));
        // In one batch too.
        let refused = try_commit(&store, |b| {
            b.append("general", draft("bob")).erase_user("bob").edit("general", 3, "again")
        });
        assert!(matches!(refused, Err(Error::Retracted { seq: 3, op: 2, .. })), "{refused:?}");
        assert_eq!(commit(&store, |b| b.erase_user("nobody")).outcomes(), [Outcome::Unchanged]);
        store.wherever(|store| {
            for seq in 1..=2 {
                let refused = try_commit(store, |b| b.edit("general", seq, "again"));
                assert!(matches!(refused, Err(Error::Retracted { .. })), "{refused:?}");
                assert_eq!(commit(store, |b| b.retract("general", seq)).outcomes(), [Outcome::Unchanged]);
                assert_eq!(commit(store, |b| b.erase("general", seq)).outcomes(), [Outcome::Unchanged]);
            }
            let again = commit(store, |b| b.append("general", sent.clone()));
            assert!(matches!(again.outcomes(), [Outcome::Existed { seq: 1, .. }]), "{again:?}");
            let found = store.message_by_id("id").unwrap().expect("ids stay");
            assert!(matches!(found.message.state, MessageState::Erased { .. }));
        });
    }

    #[test]
    fn no_file_holds_a_byte_of_it_once_that_was_asked_for() {
        let mut store = fresh();
        let message = |user, seed, len| Draft::new(user, 0, secret(seed, len));
        commit(&store, |b| b.append("general", message("alice", 1, 100)));
        commit(&store, |b| {
            b.append("general", message("alice", 2, 100_000)).append("random", message("bob", 3, 100))
        });
        commit(&store, |b| b.append("random", message("alice", 4, 100)).edit("random", 2, secret(5, 3000)));
        commit(&store, |b| b.edit("general", 1, secret(6, 500)).edit("random", 1, secret(7, 3000)));
        store.seal().unwrap();
        send(&store, "general", "bob", 30);
        commit(&store, |b| b.append("general", message("alice", 8, 100)).edit("general", 33, secret(9, 300)));
        for seed in 1..=9 {
            assert!(!files_with(&store, seed).is_empty(), "{seed} is there");
        }
        let view = store.view().unwrap();
        commit(&store, |b| b.erase_user("alice").append("general", message("alice", 10, 100)));
        for round in 0..3 {
            store.erase_now().unwrap();
            for seed in [1, 2, 4, 5, 6, 8, 9] {
                assert_eq!(files_with(&store, seed), Vec::<String>::new(), "{seed} in round {round}");
            }
            assert_eq!(store.history("random").list().unwrap()[0].payload, secret(7, 3000));
            let last = store.history("general").last(1).unwrap();
            assert_eq!(last[0].payload, secret(10, 100));
            if round == 0 {
                assert_eq!(view.history("general").list().unwrap()[1].payload, secret(2, 100_000));
                assert_eq!(view.history("general").list().unwrap()[0].payload, secret(6, 500));
            }
            let verified = chanlog::verify(store.dir.path(), &store.options).unwrap();
            assert!(verified.faults.is_empty(), "{:?}", verified.faults);
            store.reopen();
        }
        // Once more, and what was kept goes.
        commit(&store, |b| b.erase_user("alice").erase_user("bob"));
        store.erase_now().unwrap();
        for seed in 1..=10 {
            assert_eq!(files_with(&store, seed), Vec::<String>::new(), "{seed}");
        }
    }

    #[test]
    fn one_run_and_one_segment_lose_it_too() {
        let store = fresh();
        let sent = Draft::new("alice", 0, secret(1, 100));
        commit(&store, |b| b.append("general", sent).edit("general", 1, secret(2, 100)).erase_user("alice"));
        store.erase_now().unwrap();
        for seed in 1..=2 {
            assert_eq!(files_with(&store, seed), Vec::<String>::new(), "{seed}");
        }
    }

    #[test]
    fn a_view_between_two_erasures_has_the_first() {
        let store = fresh();
        let mut views = Vec::new();
        for _ in 0..3 {
            send(&store, "general", "alice", 1);
            views.push(store.view().unwrap());
            commit(&store, |b| b.erase_user("alice"));
            store.seal().unwrap();
        }
        for (before, view) in views.iter().enumerate() {
            let messages = view.history("general").list().unwrap();
            let (last, others) = messages.split_last().unwrap();
            assert_eq!((others.len(), last.state), (before, MessageState::Sent));
            let states: BTreeSet<_> = others.iter().map(|message| format!("{:?}", message.state)).collect();
            assert_eq!(states.len(), before.min(1), "all tell one version");
        }
    }

    #[test]
    fn a_feed_tells_it_once() {
        let store = fresh();
        send(&store, "general", "alice", 1);
        let mut feed = store.feed().from_now().unwrap();
        let mut other = store.feed().channel("random").from_now().unwrap();
        commit(&store, |b| b.erase_user("alice"));
        commit(&store, |b| b.append("general", draft("alice")).erase_user("alice"));
        let told: Vec<_> = feed.by_ref().map(Result::unwrap).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        let version = store.version().unwrap();
        let Event::User { user, version: at, erased, .. } = &told[1] else { panic!("{told:?}") };
        assert_eq!((&user[..], *at, *erased), (&b"alice"[..], version, version));
        assert_eq!(other.next().unwrap().unwrap(), told[1]);
        store.wherever(|store| assert!(store.feed().any(|event| event.unwrap() == told[1])));
    }
}

/// Users who go with all but what they sent.
mod deleting_users {
    use super::*;
    use chanlog::Event;

    /// Bob has all that a user may have, in two channels.
    fn filled() -> Fresh {
        let store = fresh();
        for channel in ["general", "random"] {
            send(&store, channel, "alice", 3);
            commit(&store, |b| b.join(channel, "alice").join(channel, "bob").join(channel, "carol"));
            commit(&store, |b| b.add_to_set(channel, 1, "bob").add_to_set(channel, 1, "carol"));
            commit(&store, |b| b.append(channel, draft("bob").client_id("once").mentions(["carol"])));
            commit(&store, |b| {
                b.append(channel, draft("alice").mentions(["bob"])).deliver(channel, "bob", 2)
            });
            commit(&store, |b| {
                b.forget(channel, "bob", 2, 2).pin(channel, "bob", true).role(channel, "bob", 3)
            });
        }
        commit(&store, |b| b.user_attributes("bob", vec![7; 3000]));
        commit(&store, |b| b.join("left", "bob").append("left", draft("alice")));
        commit(&store, |b| b.leave_with("left", "bob", LeaveOptions::new().keep_history()));
        store
    }

    fn is_unknown(store: &Store, user: &str) {
        assert_eq!(store.user(user).unwrap(), None);
        assert!(!store.users().list().unwrap().iter().any(|name| name == user));
        assert!(!store.has_memberships(user).unwrap());
        assert!(store.conversations(user).list().unwrap().entries.is_empty());
        assert_eq!(store.unread(user).unwrap(), Unread::default());
        assert!(store.channels_of(user).list().unwrap().is_empty());
        assert!(store.channels_of(user).left().list().unwrap().is_empty());
        assert!(store.sets_of(user, 1).list().unwrap().is_empty());
        assert_eq!(store.kept_history("left", user).unwrap(), None);
        assert!(store.members("left").left().list().unwrap().is_empty());
        for channel in ["general", "random"] {
            assert_eq!(store.membership(channel, user).unwrap(), None);
            assert_eq!(store.set_member(channel, 1, user).unwrap(), None);
            assert!(store.forgotten(channel, user).unwrap().is_empty());
            assert!(store.history(channel).seen_by(user).list().unwrap().is_empty());
            assert!(store.history(channel).by(user).list().unwrap().is_empty());
        }
    }

    #[test]
    fn everything_of_a_user_goes_at_once_and_messages_have_no_sender() {
        let store = filled();
        let users = store.stat().unwrap().users;
        commit(&store, |b| b.delete_user("bob"));
        store.wherever(|store| {
            is_unknown(store, "bob");
            assert_eq!(store.stat().unwrap().users, users - 1);
            for channel in ["general", "random"] {
                for limit in [1, 2] {
                    let page = store.members(channel).limit(limit).list().unwrap();
                    assert_eq!(page, ["alice", "carol"][..limit]);
                }
                assert_eq!(store.members(channel).after("alice").limit(1).list().unwrap(), ["carol"]);
                assert_eq!(store.members(channel).since(0).rows().unwrap().len(), 2);
                assert_eq!(store.members(channel).marks().unwrap().len(), 2);
                assert_eq!(store.members(channel).role(3).list().unwrap(), Vec::<Bytes>::new());
                let set: Vec<_> = store.set(channel, 1).limit(1).list().unwrap();
                assert_eq!(set.iter().map(|line| &line.name[..]).collect::<Vec<_>>(), [b"carol"]);
                let senders: Vec<_> = store
                    .history(channel)
                    .list()
                    .unwrap()
                    .into_iter()
                    .map(|message| message.sender)
                    .collect();
                assert_eq!(senders, ["alice", "alice", "alice", "", "alice"]);
                assert_eq!(store.history(channel).list().unwrap()[3].payload, "hello");
                assert_eq!(entry(store, "carol", channel).mentions, 1, "who was mentioned still is");
            }
        });
    }

    #[test]
    fn members_are_counted_until_their_memberships_are_ended() {
        let store = filled();
        commit(&store, |b| b.delete_user("bob").delete_channel("random"));
        let members = || store.head("general").unwrap().members;
        assert_eq!(members(), 3);
        assert_eq!(store.finish_deletions(0).unwrap(), 0);
        while store.maintain().unwrap() {}
        store.compact().unwrap();
        assert_eq!(members(), 3, "merges drop no membership that was not ended");
        let version = store.version().unwrap();
        assert_eq!(store.finish_deletions(5).unwrap(), 1);
        assert_eq!((members(), store.version().unwrap()), (2, version + 2));
        assert_eq!(store.finish_deletions(5).unwrap(), 0);
        assert_eq!(store.version().unwrap(), version + 2);
        let store = store.crashed();
        store.compact().unwrap();
        assert_eq!(store.finish_deletions(5).unwrap(), 0);
        store.wherever(|store| {
            is_unknown(store, "bob");
            assert_eq!(store.head("general").unwrap().members, 2);
        });
    }

    #[test]
    fn the_name_used_again_is_another_user() {
        let store = filled();
        let before = list(&store, "bob").as_of;
        let others = list(&store, "carol").as_of;
        commit(&store, |b| {
            b.delete_user("bob").append("general", draft("bob").client_id("once").mentions(["bob", "carol"]))
        });
        let again = |store: &Store| {
            assert!(!store.has_memberships("bob").unwrap());
            assert_eq!(store.user("bob").unwrap().unwrap().attributes, "");
            assert_eq!(seqs(&store.history("general").by("bob").list().unwrap()), [6]);
            assert_eq!(store.users().list().unwrap(), ["alice", "bob", "carol"]);
        };
        again(&store);
        assert_eq!(store.finish_deletions(100).unwrap(), 2);
        let between = list(&store, "bob").as_of;
        commit(&store, |b| {
            b.join_with("general", "bob", JoinOptions::new().history(HistoryFrom::Start).read(0))
        });
        store.wherever(|store| {
            let now = entry(store, "bob", "general");
            assert_eq!((now.unread, now.mentions, now.membership.role), (6, 0, 0), "{now:?}");
            assert!(store.forgotten("general", "bob").unwrap().is_empty());
            assert_eq!(store.members("general").list().unwrap(), ["alice", "carol", "bob"]);
            assert_eq!(store.conversations("bob").since(&before).unwrap(), Update::Reset);
            assert_eq!(brief(&changes(store, "bob", &between).0), ["general"]);
            assert_ne!(store.conversations("carol").since(&others).unwrap(), Update::Reset);
            assert_eq!(store.history("general").list().unwrap()[5].sender, "bob");
        });
    }

    #[test]
    fn a_token_from_before_is_told_to_start_over() {
        let store = filled();
        let before = list(&store, "bob").as_of;
        commit(&store, |b| b.delete_user("bob"));
        let after = list(&store, "bob").as_of;
        store.wherever(|store| {
            assert_eq!(store.conversations("bob").since(&before).unwrap(), Update::Reset);
            assert!(changes(store, "bob", &after).0.is_empty());
        });
    }

    #[test]
    fn a_view_from_before_still_has_the_user() {
        let store = filled();
        let view = store.view().unwrap();
        commit(&store, |b| b.erase_user("bob").delete_user("bob"));
        store.finish_deletions(100).unwrap();
        store.seal().unwrap();
        store.compact().unwrap();
        assert_eq!(view.members("general").list().unwrap(), ["alice", "bob", "carol"]);
        assert_eq!(view.head("general").unwrap().members, 3);
        assert_eq!(view.history("general").list().unwrap()[3].sender, "bob");
        assert_eq!(view.users().list().unwrap(), ["alice", "bob", "carol"]);
        assert_eq!(view.user("bob").unwrap().unwrap().attributes.bytes().unwrap(), &vec![7; 3000]);
        assert_eq!(view.conversations("bob").list().unwrap().entries.len(), 2);
    }

    #[test]
    fn what_the_user_sent_goes_too_if_that_is_asked_for_before() {
        let store = filled();
        let mut feed = store.feed().from_now().unwrap();
        commit(&store, |b| b.erase_user("bob").delete_user("bob").erase_user("bob").delete_user("bob"));
        store.finish_deletions(100).unwrap();
        let told: Vec<_> = feed.by_ref().map(Result::unwrap).collect();
        let [Event::User { user, erased, deleted: true, version, .. }] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!((&user[..], *erased), (&b"bob"[..], version - 1));
        store.wherever(|store| {
            let message = &store.history("general").list().unwrap()[3];
            assert!(message.payload.is_empty() && message.sender.is_empty());
            assert!(store.feed().any(|event| event.unwrap() == told[0]));
        });
    }

    #[test]
    fn operations_take_the_user_for_unknown() {
        let store = filled();
        commit(&store, |b| b.delete_user("bob"));
        let refused = try_commit(&store, |b| b.read("general", "bob", 1));
        assert!(matches!(refused, Err(Error::NotMember { .. })));
        let refused = try_commit(&store, |b| b.delete_user("carol").pin("general", "carol", true));
        assert!(matches!(refused, Err(Error::NotMember { op: 1, .. })));
        let nothing = commit(&store, |b| {
            b.leave("general", "bob")
                .remove_from_set("general", 1, "bob")
                .read_all("bob")
                .erase_user("bob")
                .delete_user("bob")
        });
        assert!(nothing.outcomes().iter().all(|outcome| *outcome == Outcome::Unchanged));
    }

    #[test]
    fn rows_of_deleted_users_go_in_merges() {
        let store = fresh();
        for channel in 0..2000 {
            commit(&store, |b| b.durability(Durability::Buffered).join(format!("channel {channel}"), "bob"));
        }
        store.compact().unwrap();
        let before = store.stat().unwrap().runs.bytes;
        commit(&store, |b| b.delete_user("bob"));
        assert_eq!(store.finish_deletions(usize::MAX).unwrap(), 2000);
        store.compact().unwrap();
        let after = store.stat().unwrap().runs.bytes;
        assert!(after * 10 < before * 9, "{after} of {before}");
        assert!(chanlog::verify(store.dir.path(), &store.options).unwrap().faults.is_empty());
    }
}

/// Messages with a time at which they go.
#[cfg(feature = "sim")]
mod expiring {
    use super::erasing::{files_with, secret};
    use super::*;
    use chanlog::env::{Env, SimEnv};
    use chanlog::{ChangeKind, MessageState};
    use std::time::Duration;

    const BEGIN: i64 = 1_700_000_000_000;

    fn at_stake(store: &Store) {
        commit(store, |b| {
            b.join("general", "bob").append("general", Draft::new("alice", 0, "one").expires(BEGIN + 1000))
        });
        commit(store, |b| b.append("general", Draft::new("alice", 0, "two")));
        commit(store, |b| b.edit("general", 1, "edited"));
    }

    fn states(store: &Store) -> Vec<(MessageState, usize)> {
        let messages = store.history("general").list().unwrap();
        messages.iter().map(|message| (message.state, message.payload.len())).collect()
    }

    #[test]
    fn a_message_is_withheld_at_its_time_and_the_rest_follows() {
        let sim = SimEnv::new(1);
        let store = small().env(sim.clone()).open("/store").unwrap();
        at_stake(&store);
        let token = list(&store, "bob").as_of;
        assert!(matches!(states(&store)[0], (MessageState::Edited { .. }, 6)));
        assert_eq!(store.expire_due(sim.unix_ms(), 9).unwrap(), 0);
        sim.advance(Duration::from_secs(1));
        assert!(matches!(states(&store)[0], (MessageState::Expired { at, .. }, 0) if at == BEGIN + 1000));
        assert_eq!(store.changes("general").list().unwrap()[0].kind, ChangeKind::Expired, "no edit leaks");
        assert_eq!(unread(&store, "bob", "general"), 2);
        assert!(changes(&store, "bob", &token).0.is_empty());
        assert_eq!(store.expire_due(sim.unix_ms(), 9).unwrap(), 1);
        assert_eq!(store.expire_due(sim.unix_ms(), 9).unwrap(), 0);
        assert_eq!(unread(&store, "bob", "general"), 1);
        assert_eq!(brief(&changes(&store, "bob", &token).0), ["general"]);
        let told = store.feed().map(Result::unwrap).filter_map(|event| match event {
            chanlog::Event::Change { change, .. } => Some(change.kind),
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), [ChangeKind::Expired]);
        // A clock that steps back brings nothing back that was committed.
        sim.set_unix_ms(5);
        assert!(matches!(states(&store)[0], (MessageState::Expired { .. }, 0)));
        let refused = try_commit(&store, |b| b.edit("general", 1, "again"));
        assert!(matches!(refused, Err(Error::Retracted { .. })));
    }

    #[test]
    fn its_bytes_go_and_its_row_too() {
        let mut store = fresh();
        let sent = Draft::new("alice", 0, secret(1, 100)).expires(1000).unique_id("id");
        commit(&store, |b| b.append("general", sent).edit("general", 1, secret(2, 3000)));
        commit(&store, |b| b.append("general", Draft::new("alice", 0, secret(3, 100)).expires(i64::MAX)));
        store.seal().unwrap();
        assert_eq!(store.expire_due(999, 9).unwrap(), 0);
        assert_eq!(store.expire_due(1000, 9).unwrap(), 1);
        for _ in 0..2 {
            store.erase_now().unwrap();
            for seed in 1..=2 {
                assert_eq!(files_with(&store, seed), Vec::<String>::new(), "{seed}");
            }
            assert_eq!(store.history("general").list().unwrap()[1].payload, secret(3, 100));
            let found = store.message_by_id("id").unwrap().expect("ids stay");
            assert_eq!((found.message.expires, &found.message.payload[..]), (Some(1000), &b""[..]));
            assert_eq!(store.expire_due(1000, 9).unwrap(), 0);
            store.reopen();
        }
        assert!(chanlog::verify(store.dir.path(), &store.options).unwrap().faults.is_empty());
    }

    #[test]
    fn many_expire_in_parts_and_in_the_order_of_their_times() {
        let store = fresh();
        for at in (0..600).rev() {
            let draft = Draft::new("alice", 0, "x").expires(at);
            commit(&store, |b| {
                b.durability(Durability::Buffered).append(format!("channel {}", at % 7), draft)
            });
        }
        assert_eq!(store.expire_due(-5, usize::MAX).unwrap(), 1, "what lies before 1970 is its begin");
        assert_eq!(store.expire_due(299, 100).unwrap(), 100);
        commit(&store, |b| b.append("late", Draft::new("alice", 0, "x").expires(3)));
        assert_eq!(store.expire_due(100, usize::MAX).unwrap(), 1, "what came meanwhile is due too");
        store.seal().unwrap();
        commit(&store, |b| b.delete_channel("channel 1").trim("channel 2", u64::MAX));
        let store = store.crashed();
        let (left, of) = (600 - 101, |n: usize| (101..600).filter(|at| at % 7 == n).count());
        assert_eq!(store.expire_due(i64::MAX, usize::MAX).unwrap() as usize, left - of(1) - of(2));
        assert_eq!(store.expire_due(i64::MAX, usize::MAX).unwrap(), 0);
    }

    #[test]
    fn the_background_lets_messages_expire_after_a_seal() {
        let store = fresh_with(Options::new().log_segment(1 << 20));
        commit(&store, |b| {
            b.join("general", "bob").append("general", Draft::new("alice", 0, "x").expires(1))
        });
        store.seal().unwrap();
        for _ in 0..2000 {
            if unread(&store, "bob", "general") == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it still counts");
    }
}

/// Messages that go by policies.
mod retaining {
    use super::*;
    use chanlog::RetentionPolicy;
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Messages of a channel, one an hour, the first at hour 1.
    fn hourly(store: &Store, channel: &str, count: i64) {
        for hour in 1..=count {
            let at = hour * 3_600_000;
            commit(store, |b| b.append(channel, Draft::new("alice", at, format!("hour {hour}"))));
        }
    }

    fn kept(store: &Store, channel: &str) -> Vec<u64> {
        seqs(&store.history(channel).list().unwrap())
    }

    fn at(hour: i64) -> i64 {
        hour * 3_600_000
    }

    #[test]
    fn a_count_is_exact_and_an_age_keeps_what_is_younger() {
        let store = fresh();
        for channel in ["counted", "aged", "both", "free"] {
            hourly(&store, channel, 10);
        }
        let (count, age) = (RetentionPolicy::new().max_count(3), RetentionPolicy::new().max_age(4 * HOUR));
        commit(&store, |b| b.retention("counted", count).retention("aged", age));
        commit(&store, |b| b.retention("both", age.max_count(3)).join("counted", "bob"));
        let retained = store.enforce_retention(at(10), usize::MAX).unwrap();
        assert_eq!((retained.channels, retained.trimmed, retained.done), (3, 3, true));
        store.wherever(|store| {
            assert_eq!(kept(store, "counted"), [8, 9, 10]);
            assert_eq!(kept(store, "aged"), [6, 7, 8, 9, 10], "one is just four hours old");
            assert_eq!(kept(store, "both"), [8, 9, 10]);
            assert_eq!(kept(store, "free").len(), 10);
            assert_eq!(store.enforce_retention(at(10), usize::MAX).unwrap().trimmed, 0);
            let row = store.channel("both").unwrap().unwrap();
            assert_eq!(row.retention(), Some(age.max_count(3)));
        });
    }

    #[test]
    fn all_may_go_by_age_and_the_last_seq_stays() {
        let store = fresh();
        hourly(&store, "general", 3);
        commit(&store, |b| b.retention("general", RetentionPolicy::new().max_age(HOUR)));
        store.enforce_retention(at(100), usize::MAX).unwrap();
        assert!(kept(&store, "general").is_empty());
        hourly(&store, "general", 1);
        assert_eq!(kept(&store, "general"), [4]);
    }

    #[test]
    fn a_timestamp_in_the_future_keeps_what_follows_and_a_wrong_order_takes_nothing_too_early() {
        let store = fresh();
        for hour in [1, 900, 2, 8] {
            commit(&store, |b| b.append("general", Draft::new("alice", at(hour), "x")));
        }
        commit(&store, |b| b.retention("general", RetentionPolicy::new().max_age(4 * HOUR)));
        store.enforce_retention(at(10), usize::MAX).unwrap();
        assert_eq!(kept(&store, "general"), [2, 3, 4]);
    }

    #[test]
    fn a_policy_of_its_own_stands_in_place_of_the_default() {
        let store = fresh_with(small().retention(RetentionPolicy::new().max_count(2)));
        for channel in ["plain", "more", "all", "back"] {
            hourly(&store, channel, 5);
        }
        let policy = RetentionPolicy::new();
        commit(&store, |b| {
            b.retention("more", policy.max_count(4)).retention("all", policy.max_count(u64::MAX))
        });
        commit(&store, |b| b.retention("back", policy.max_count(4)).retention("back", policy));
        // A bound on work: two channels a call.
        for (trimmed, done) in [(2, false), (1, true), (0, false)] {
            let retained = store.enforce_retention(at(0), 2).unwrap();
            assert_eq!((retained.trimmed, retained.done), (trimmed, done));
        }
        assert_eq!(kept(&store, "plain"), [4, 5]);
        assert_eq!(kept(&store, "more"), [2, 3, 4, 5]);
        assert_eq!(kept(&store, "all").len(), 5);
        assert_eq!(kept(&store, "back"), [4, 5]);
    }

    /// A payload that does not compress, of 1,000 bytes.
    fn kilobyte(seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let next = |_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 56) as u8
        };
        (0..1000).map(next).collect()
    }

    /// Messages of a kilobyte, in channels by turns.
    fn kilobytes(store: &Store, channels: &[&str], rounds: u64) {
        for round in 0..rounds {
            commit(store, |b| {
                for channel in channels {
                    b.append(channel, Draft::new("alice", 0, kilobyte(round)));
                }
                b
            });
        }
    }

    /// A record of such a message is that long, at least and at most.
    const RECORD: (u64, u64) = (1_010, 1_030);

    #[test]
    fn bytes_keep_what_is_asked_and_less_than_a_block_more() {
        let store = fresh();
        let limits = [("few", 1), ("some", 40_000), ("many", 100_500), ("all", 1 << 30)];
        for (channel, bytes) in limits {
            commit(&store, |b| b.retention(channel, RetentionPolicy::new().max_bytes(bytes)));
        }
        commit(&store, |b| b.retention("both", RetentionPolicy::new().max_bytes(100_000).max_count(7)));
        let names = limits.map(|(name, _)| name);
        let check = |store: &Store, block: u64| {
            store.enforce_retention(0, usize::MAX).unwrap();
            for (channel, bytes) in limits {
                let kept = store.history(channel).limit(1000).list().unwrap().len() as u64;
                let all = store.head(channel).unwrap().last.seq;
                assert!(kept * RECORD.1 >= bytes.min(all * RECORD.0), "{channel}: {kept} of {all}");
                assert!(kept * RECORD.0 < bytes + block + RECORD.1, "{channel}: {kept} of {all}");
            }
        };
        // Exactly what is not sealed, then by blocks: all of a channel in one file, in several, and in one again.
        kilobytes(&store, &names, 150);
        check(&store, 0);
        kilobytes(&store, &["both"], 20);
        check(&store, 0);
        assert_eq!(kept(&store, "both").len(), 7, "the tighter limit decides");
        for _ in 0..5 {
            store.seal().unwrap();
            check(&store, 16 << 10);
            kilobytes(&store, &names, 25);
            check(&store, 16 << 10);
        }
        store.compact().unwrap();
        check(&store, 16 << 10);
        store.wherever(|store| {
            check(store, 16 << 10);
            assert_eq!(
                store.enforce_retention(0, usize::MAX).unwrap().trimmed,
                0,
                "there is nothing left to do"
            );
        });
    }

    #[test]
    fn a_default_by_bytes_is_for_channels_without_a_policy() {
        let store = fresh_with(small().retention(RetentionPolicy::new().max_bytes(10_000)));
        commit(&store, |b| b.retention("own", RetentionPolicy::new().max_bytes(20_000)));
        kilobytes(&store, &["plain", "own"], 50);
        let retained = store.enforce_retention(0, usize::MAX).unwrap();
        assert_eq!((retained.channels, retained.trimmed), (2, 2));
        assert_eq!([kept(&store, "plain").len(), kept(&store, "own").len()], [10, 20]);
        let row = store.channel("own").unwrap().unwrap();
        assert_eq!(
            (row.max_bytes, row.retention()),
            (20_000, Some(RetentionPolicy::new().max_bytes(20_000)))
        );
        let crashed = store.crashed();
        assert_eq!([kept(&crashed, "plain").len(), kept(&crashed, "own").len()], [10, 20]);
        let mut zero = Batch::new();
        zero.operation("retention", &mut |name| match name {
            "channel" => Some(Argument::Bytes(b"own")),
            "max_bytes" => Some(Argument::Number(0)),
            _ => None,
        })
        .unwrap();
        assert!(store.commit(&zero).unwrap_err().to_string().contains("a retention limit of 0"));
    }

    #[test]
    fn the_background_trims_after_a_sealing() {
        let policy = RetentionPolicy::new().max_count(2);
        let store = fresh_with(small().background(true).retention(policy));
        hourly(&store, "general", 5);
        store.seal().unwrap();
        for _ in 0..500 {
            if kept(&store, "general") == [4, 5] {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("kept {:?}", kept(&store, "general"));
    }
}

/// Messages that go for everybody.
mod trimming {
    use super::*;

    fn filled(store: &Store, count: u64) {
        for n in 1..=count {
            commit(store, |batch| {
                batch.append("general", Draft::new("alice", n as i64, format!("message {n}")))
            });
        }
    }

    fn seqs(store: &Store) -> Vec<u64> {
        store.history("general").list().unwrap().iter().map(|message| message.seq).collect()
    }

    #[test]
    fn what_was_trimmed_is_not_read_and_counts_as_read() {
        let store = fresh();
        commit(&store, |batch| batch.join("general", "bob"));
        filled(&store, 5);
        commit(&store, |batch| batch.trim("general", 3));
        store.wherever(|store| {
            assert_eq!(seqs(store), [4, 5]);
            assert_eq!(store.history("general").reverse().from(2).list().unwrap().len(), 2);
            assert_eq!(store.history("general").to(3).list().unwrap(), []);
            let entry = store.conversation("bob", "general").unwrap().unwrap();
            assert_eq!((entry.unread, entry.read_seq, entry.last_seq), (2, 3, 5));
            assert_eq!(entry.last.unwrap().payload, "message 5");
        });
    }

    #[test]
    fn seqs_and_places_in_lists_outlive_all_messages() {
        let store = fresh();
        commit(&store, |batch| batch.join("general", "bob").join("random", "bob"));
        commit(&store, |batch| batch.append("random", Draft::new("alice", 0, "older")));
        filled(&store, 3);
        commit(&store, |batch| batch.trim("general", u64::MAX));
        store.seal().unwrap();
        while store.maintain().unwrap() {}
        let list = store.conversations("bob").list().unwrap();
        let first = &list.entries[0];
        assert_eq!((&first.channel[..], first.unread, &first.last), (&b"general"[..], 0, &None));
        filled(&store, 1);
        assert_eq!(seqs(&store), [4]);
        assert_eq!(store.conversation("bob", "general").unwrap().unwrap().unread, 1);
    }

    #[test]
    fn it_goes_forward_only_and_an_unknown_channel_has_nothing_to_trim() {
        let store = fresh();
        let outcome = |receipt: Receipt| receipt.outcomes()[0];
        assert_eq!(outcome(commit(&store, |batch| batch.trim("general", 9))), Outcome::Unchanged);
        assert!(!store.has_channel("general").unwrap());
        filled(&store, 3);
        commit(&store, |batch| batch.trim("general", 2));
        for seq in [0, 1, 2] {
            assert_eq!(outcome(commit(&store, |batch| batch.trim("general", seq))), Outcome::Unchanged);
        }
        assert_eq!(store.head("general").unwrap().trimmed, Mark { seq: 2, ordinal: 2 });
    }

    #[test]
    fn a_trimmed_message_can_not_be_changed() {
        let store = fresh();
        filled(&store, 3);
        commit(&store, |batch| {
            batch.annotate("general", 1, "key", "value").annotate("general", 3, "key", "value")
        });
        commit(&store, |batch| batch.trim("general", 2));
        for build in [(|batch| batch.retract("general", 2)) as fn(&mut Batch) -> &mut Batch, |batch| {
            batch.annotate("general", 1, "key", "other")
        }] {
            assert!(matches!(try_commit(&store, build), Err(Error::NoMessage { .. })));
        }
        commit(&store, |batch| batch.retract("general", 3));
        assert_eq!(store.annotations("general").list().unwrap().len(), 1);
        assert_eq!(store.annotation("general", 1, "key").unwrap(), None);
        assert!(store.changes("general").list().unwrap().iter().all(|change| change.seq == 3));
    }

    #[test]
    fn a_unique_id_goes_with_its_message_and_a_client_id_outlives_it() {
        let store = fresh();
        let named = || Draft::new("alice", 0, "once").unique_id("the id").client_id("try 1");
        commit(&store, |batch| batch.append("general", named()));
        commit(&store, |batch| batch.trim("general", 1));
        assert_eq!(store.message_by_id("the id").unwrap(), None);
        let again = commit(&store, |batch| batch.append("general", named()));
        assert!(matches!(again.outcomes()[0], Outcome::Existed { seq: 1, .. }));
        commit(&store, |batch| batch.append("general", Draft::new("alice", 0, "other").unique_id("the id")));
        assert_eq!(store.message_by_id("the id").unwrap().unwrap().message.seq, 2);
    }

    #[test]
    fn who_joins_later_sees_what_is_left() {
        let store = fresh();
        filled(&store, 5);
        commit(&store, |batch| batch.trim("general", 3));
        let whole = JoinOptions::new().history(HistoryFrom::Start).read(0);
        commit(&store, |batch| batch.join_with("general", "bob", whole));
        let entry = store.conversation("bob", "general").unwrap().unwrap();
        assert_eq!((entry.unread, entry.membership.join_seq()), (2, 4));
        commit(&store, |batch| batch.set_unread("general", "bob", 4));
        assert_eq!(store.conversation("bob", "general").unwrap().unwrap().unread, 2);
        commit(&store, |batch| batch.read_at("general", "bob", 1));
        assert_eq!(store.conversation("bob", "general").unwrap().unwrap().read_seq, 3);
    }

    #[test]
    fn files_of_which_all_was_trimmed_are_removed_and_the_rest_is_whole() {
        let mut store = fresh();
        for part in 0..6 {
            filled(&store, 10);
            commit(&store, |batch| batch.append("random", Draft::new("bob", part, "stays")));
            store.seal().unwrap();
        }
        let before = store.stat().unwrap();
        commit(&store, |batch| batch.trim("general", 45));
        while store.maintain().unwrap() {}
        assert_eq!(
            store.stat().unwrap().segments.count,
            before.segments.count,
            "each holds a message of random"
        );
        commit(&store, |batch| batch.trim("random", 4));
        while store.maintain().unwrap() {}
        let after = store.stat().unwrap();
        assert_eq!((after.segments.count, after.messages), (2, 22));
        for _ in 0..2 {
            assert_eq!(seqs(&store), (46..=60).collect::<Vec<_>>());
            assert_eq!(store.history("random").list().unwrap().len(), 2);
            assert_eq!(store.history("general").last(20).unwrap().len(), 15);
            assert_eq!(chanlog::verify(store.dir.path(), &store.options).unwrap().faults.len(), 0);
            store.reopen();
        }
        store.compact().unwrap();
        assert_eq!(seqs(&store), (46..=60).collect::<Vec<_>>());
        commit(&store, |batch| batch.trim("general", u64::MAX).trim("random", u64::MAX));
        store.compact().unwrap();
        assert_eq!(store.stat().unwrap().segments.count, 0);
        filled(&store, 2);
        store.reopen();
        assert_eq!(seqs(&store), [61, 62]);
    }
}

mod mentions {
    use super::*;

    /// What an entry, the single entry and the sums tell of mentions of a user in "c".
    fn mentions(store: &Store, user: &str) -> u64 {
        let single = store.conversation(user, "c").unwrap().unwrap();
        assert_eq!(single, entry(store, user, "c"));
        assert_eq!(store.unread(user).unwrap().mentions, single.mentions);
        assert!(single.mentions <= single.unread);
        single.mentions
    }

    fn joined() -> Fresh {
        let store = fresh();
        commit(&store, |b| b.join("c", "alice").join("c", "bob").join("c", "carol"));
        store
    }

    #[test]
    fn are_counted_for_those_who_are_named_and_all_of_everybody_once() {
        let store = joined();
        commit(&store, |b| {
            b.append("c", draft("alice").mentions(["bob", "bob", "alice", "stranger"]));
            b.append("c", draft("alice").mentions(["bob"]).mention_all()).append("c", draft("alice"))
        });
        assert_eq!(store.head("c").unwrap().mentioned, 2);
        store.wherever(|store| {
            let found = ["alice", "bob", "carol"].map(|user| mentions(store, user));
            assert_eq!(found, [0, 2, 1]);
            assert!(store.users().list().unwrap().iter().any(|user| user == "stranger"));
        });
    }

    #[test]
    fn of_a_silent_message_are_none_and_name_nobody() {
        let store = joined();
        commit(&store, |b| {
            b.append("c", draft("alice").silent().mentions(["bob", "stranger"]));
            b.append("c", draft("alice").silent().mention_all())
        });
        assert_eq!(store.head("c").unwrap().mentioned, 0);
        assert_eq!((mentions(&store, "bob"), store.users().list().unwrap().len()), (0, 3));
    }

    #[test]
    fn are_subtracted_with_what_was_read_retracted_hidden_or_trimmed() {
        let store = joined();
        let eight = |b: &mut Batch| {
            (0..4).for_each(|_| {
                _ = b.append("c", draft("alice").mentions(["bob"])).append("c", draft("alice").mention_all())
            });
        };
        commit(&store, |b| {
            eight(b);
            b.read("c", "bob", 2).forget("c", "bob", 3, 4).retract("c", 4).retract("c", 5)
        });
        assert_eq!((mentions(&store, "bob"), mentions(&store, "carol")), (3, 3));
        commit(&store, |b| b.trim("c", 6));
        store.wherever(|store| assert_eq!((mentions(store, "bob"), mentions(store, "carol")), (2, 1)));
    }

    #[test]
    fn of_oneself_never_count_and_others_do_again_when_the_cursor_goes_back() {
        let store = joined();
        commit(&store, |b| {
            b.append("c", draft("alice").mention_all()).append("c", draft("bob").mention_all());
            b.append("c", draft("bob").mentions(["bob"])).append("c", draft("alice").mentions(["bob"]))
        });
        assert_eq!(mentions(&store, "bob"), 1);
        commit(&store, |b| b.read_at("c", "bob", 0));
        store.wherever(|store| {
            assert_eq!((mentions(store, "bob"), entry(store, "bob", "c").unread), (2, 4));
        });
    }

    #[test]
    fn from_before_a_join_count_only_if_its_history_is_unread() {
        let store = fresh();
        commit(&store, |b| {
            b.append("c", draft("alice").mentions(["bob"])).append("c", draft("alice").mention_all());
            let all = JoinOptions::new().history(HistoryFrom::Start).read(0);
            b.join("c", "bob").join_with("c", "carol", all).append("c", draft("alice"))
        });
        store.wherever(|store| assert_eq!((mentions(store, "bob"), mentions(store, "carol")), (0, 1)));
    }

    #[test]
    fn are_in_each_of_many_channels_and_in_what_changed() {
        let store = fresh();
        let name = |i: usize| format!("channel {}", i * 7 % 100);
        commit(&store, |b| (0..100).fold(b, |b, i| b.join(name(i), "bob")));
        let token = store.conversations("bob").list().unwrap().as_of;
        for i in (0..100).rev() {
            commit(&store, |b| match i % 4 {
                0 => b.append(name(i), draft("alice").mentions(["bob", "carol"])),
                1 => b.append(name(i), draft("alice").mention_all()).append(name(i), draft("alice")),
                2 => b.append(name(i), draft("alice").mentions(["carol"])),
                _ => b.append(name(i), draft("alice")),
            });
        }
        store.wherever(|store| {
            assert_eq!(store.unread("bob").unwrap().mentions, 50);
            let of = |entry: &Conversation| entry.mentions;
            let list = store.conversations("bob").list().unwrap().entries;
            assert_eq!((list.len(), list.iter().map(of).sum::<u64>()), (100, 50));
            // A reopened store knows no token of the session before a crash, but this one was closed.
            let Update::Changes { changes, .. } = store.conversations("bob").since(&token).unwrap() else {
                panic!("the token is good")
            };
            let told = changes.iter().map(|change| match change {
                ListChange::Entry(entry) => entry.mentions,
                _ => panic!("{change:?}"),
            });
            assert_eq!(told.sum::<u64>(), 50);
        });
    }

    #[test]
    fn of_a_repeated_send_count_once() {
        let store = joined();
        for _ in 0..3 {
            commit(&store, |b| b.append("c", draft("alice").client_id("x").mentions(["bob", "new"])));
        }
        assert_eq!(mentions(&store, "bob"), 1);
    }

    #[test]
    fn of_too_many_or_of_names_that_are_none_are_refused() {
        let store = joined();
        let many = |n: usize| (0..n).map(|i| format!("user {i}"));
        let error = try_commit(&store, |b| b.append("c", draft("alice").mentions(many(1025)))).unwrap_err();
        assert!(matches!(error, Error::TooLarge { len: 1025, limit: 1024, op: Some(0), .. }), "{error}");
        for name in [String::new(), "n".repeat(256)] {
            let error = try_commit(&store, |b| b.append("c", draft("alice").mentions([name]))).unwrap_err();
            assert!(matches!(error, Error::InvalidArgument { op: Some(0), .. }), "{error}");
        }
        let by_name = |list: &[u8]| {
            let mut batch = Batch::new();
            let added = batch.operation("append", &mut |field| match field {
                "channel" | "sender" | "payload" => Some(Argument::Bytes(b"c")),
                "timestamp" => Some(Argument::Number(0)),
                "mentions" => Some(Argument::Bytes(list)),
                _ => None,
            });
            added.map(drop).and_then(|()| store.commit(&batch))
        };
        assert!(matches!(by_name(b"\x09bob").unwrap_err(), Error::InvalidArgument { op: Some(0), .. }));
        assert_eq!(store.head("c").unwrap().last.seq, 0);
        by_name(b"\x03bob").unwrap();
        assert_eq!(mentions(&store, "bob"), 1);
        commit(&store, |b| b.append("c", draft("alice").mentions(many(1024))));
        store.wherever(|store| assert_eq!(store.users().list().unwrap().len(), 1024 + 4));
    }
}

mod quiet_messages {
    use super::*;

    fn quiet(sender: &str) -> Draft {
        draft(sender).quiet()
    }

    /// The seqs of what a user's list shows last, and of the channel's end.
    fn shown(store: &Store, user: &str) -> (Option<u64>, u64) {
        let entry = entry(store, user, "c");
        assert_eq!(store.conversation(user, "c").unwrap().unwrap(), entry);
        (entry.last.map(|m| m.seq), entry.last_seq)
    }

    fn listed(store: &Store, user: &str) -> Vec<String> {
        let entries = store.conversations(user).list().unwrap().entries;
        entries.iter().map(|entry| String::from_utf8(entry.channel.to_vec()).unwrap()).collect()
    }

    #[test]
    fn are_in_the_history_and_count_nothing() {
        let store = fresh();
        commit(&store, |b| {
            b.join("c", "alice").join("c", "bob").append("c", draft("alice"));
            b.append("c", quiet("alice").mention_all().mentions(["bob"])).append("c", quiet("bob"))
        });
        store.wherever(|store| {
            let history = store.history("c").list().unwrap();
            let told: Vec<_> = history.iter().map(|m| (m.seq, m.ordinal, m.silent, m.quiet)).collect();
            assert_eq!(told, [(1, 1, false, false), (2, 1, true, true), (3, 1, true, true)]);
            let entry = entry(store, "bob", "c");
            assert_eq!((entry.unread, entry.mentions, entry.read_seq), (1, 0, 0), "no mark was moved");
            assert_eq!(member(store, "c", "bob").own, Mark::default());
            assert_eq!(shown(store, "bob"), (Some(1), 3));
        });
    }

    #[test]
    fn move_no_order_and_bring_nothing_back() {
        let store = fresh();
        commit(&store, |b| {
            for c in ["c", "hidden", "cleared", "later"] {
                b.join(c, "alice").append(c, draft("bob"));
            }
            b.hide("hidden", "alice").clear("cleared", "alice")
        });
        let token = store.conversations("alice").list().unwrap().as_of;
        commit(&store, |b| ["c", "hidden", "cleared"].iter().fold(b, |b, c| b.append(c, quiet("bob"))));
        assert_eq!(listed(&store, "alice"), ["later", "c"]);
        let Update::Changes { changes, .. } = store.conversations("alice").since(&token).unwrap() else {
            panic!("the token is good")
        };
        let told = changes.iter().map(|change| match change {
            ListChange::Entry(entry) => (&entry.channel[..], entry.versions.messages == entry.version),
            other => panic!("{other:?}"),
        });
        assert_eq!(told.collect::<Vec<_>>(), [(&b"c"[..], true)], "what is listed changed, and only that");
        commit(&store, |b| b.append("hidden", draft("bob")));
        store.wherever(|store| assert_eq!(listed(store, "alice"), ["hidden", "later", "c"]));
    }

    #[test]
    fn alone_leave_a_channel_with_nothing_to_show() {
        let store = fresh();
        commit(&store, |b| b.join("c", "alice").append("c", quiet("bob")).append("c", quiet("alice")));
        assert_eq!(listed(&store, "alice"), [""; 0]);
        commit(&store, |b| b.activate("c", "alice"));
        store.wherever(|store| assert_eq!(shown(store, "alice"), (None, 2)));
    }

    #[test]
    fn give_way_to_the_message_before_them_wherever_that_lies() {
        let store = fresh();
        commit(&store, |b| b.join("c", "alice").append("c", draft("bob")));
        for round in 0..3 {
            commit(&store, |b| (0..200).fold(b, |b, _| b.append("c", quiet("bob"))));
            assert_eq!(shown(&store, "alice"), (Some(1), 1 + 200 * (round + 1)));
            store.seal().unwrap();
            assert_eq!(shown(&store, "alice").0, Some(1));
        }
        store.wherever(|store| {
            assert_eq!(shown(store, "alice"), (Some(1), 601));
            let head = store.head("c").unwrap();
            assert_eq!((head.quiet, head.loud_seq, head.last.ordinal), (601, 1, 1));
        });
    }

    #[test]
    fn are_passed_by_where_the_last_message_was_hidden_retracted_or_trimmed() {
        let store = fresh();
        commit(&store, |b| {
            b.join("c", "alice").append("c", draft("bob")).append("c", draft("bob"));
            b.append("c", quiet("bob")).append("c", quiet("bob")).append("c", draft("bob"));
            b.append("c", quiet("bob"))
        });
        commit(&store, |b| b.forget("c", "alice", 5, 5));
        assert_eq!(shown(&store, "alice"), (Some(2), 6));
        commit(&store, |b| b.forget("c", "alice", 2, 2).forget("c", "alice", 4, 4));
        assert_eq!(shown(&store, "alice"), (Some(1), 6));
        commit(&store, |b| b.retract("c", 1));
        assert!(entry(&store, "alice", "c").last.is_some_and(|m| m.seq == 1 && m.payload.is_empty()));
        commit(&store, |b| b.trim("c", 2));
        store.wherever(|store| assert_eq!(shown(store, "alice"), (None, 6)));
    }

    #[test]
    fn end_no_flag_and_are_found_by_their_sender() {
        let store = fresh();
        commit(&store, |b| {
            b.join("c", "alice").append("c", draft("alice")).flag_unread("c", "alice", true);
            b.append("c", quiet("alice")).append("c", draft("bob")).append("c", quiet("carol"))
        });
        store.wherever(|store| {
            assert!(member(store, "c", "alice").flagged > 0);
            let by =
                |user| store.history("c").by(user).list().unwrap().iter().map(|m| m.seq).collect::<Vec<_>>();
            assert_eq!((by("alice"), by("carol"), by("bob")), (vec![1, 2], vec![4], vec![3]));
        });
    }

    #[test]
    fn are_another_content_of_a_repeated_send() {
        let store = fresh();
        let send = |draft: Draft| try_commit(&store, |b| b.append("c", draft.client_id("x")));
        send(quiet("alice")).unwrap();
        assert!(matches!(send(quiet("alice")).unwrap().outcomes()[0], Outcome::Existed { seq: 1, .. }));
        for other in [draft("alice"), draft("alice").silent()] {
            assert!(matches!(send(other), Err(Error::Conflict { seq: 1, .. })));
        }
    }

    #[test]
    fn keep_their_place_after_a_crash() {
        let store = fresh();
        commit(&store, |b| b.join("c", "alice").append("c", draft("bob")).append("c", quiet("bob")));
        let crashed = store.crashed();
        assert_eq!(shown(&crashed, "alice"), (Some(1), 2));
        assert_eq!(crashed.head("c").unwrap(), store.head("c").unwrap());
        commit(&crashed, |b| b.append("c", draft("bob")));
        let head = crashed.head("c").unwrap();
        assert_eq!((head.quiet, head.loud_seq, head.loud_order), (2, 0, 0));
        assert_eq!(shown(&crashed, "alice"), (Some(3), 3));
    }
}

mod kept_histories {
    use super::*;

    fn keep() -> LeaveOptions {
        LeaveOptions::new().keep_history()
    }

    fn seen(store: &Store) -> Vec<u64> {
        store.history("c").seen_by("alice").list().unwrap().iter().map(|m| m.seq).collect()
    }

    /// Alice saw seqs 2 to 5 and left.
    fn left() -> Fresh {
        let store = fresh();
        send(&store, "c", "bob", 1);
        commit(&store, |b| b.join("c", "alice"));
        send(&store, "c", "bob", 4);
        commit(&store, |b| b.forget("c", "alice", 3, 3).leave_with("c", "alice", keep()));
        send(&store, "c", "bob", 3);
        store
    }

    #[test]
    fn end_where_the_user_left_and_are_in_no_list() {
        left().wherever(|store| {
            assert_eq!(seen(store), [2, 4, 5]);
            assert_eq!(store.history("c").seen_by("alice").last(1).unwrap()[0].seq, 5);
            assert_eq!(store.history("c").seen_by("alice").from(4).limit(1).list().unwrap()[0].seq, 4);
            assert_eq!(store.kept_history("c", "alice").unwrap(), Some(2..=5));
            assert_eq!(store.membership("c", "alice").unwrap(), None);
            assert!(store.conversations("alice").list().unwrap().entries.is_empty());
            assert_eq!(store.members("c").left().list().unwrap(), ["alice"]);
        });
    }

    #[test]
    fn outlive_the_tombstone() {
        let store = fresh_with(small().tombstones(0));
        commit(&store, |b| b.join("c", "alice").append("c", draft("bob")).leave_with("c", "alice", keep()));
        store.store.seal().unwrap();
        while store.maintain().unwrap() {}
        store.wherever(|store| assert_eq!(seen(store), [1]));
    }

    #[test]
    fn end_with_the_next_join_and_do_not_come_back() {
        let store = left();
        commit(&store, |b| b.join("c", "alice"));
        assert_eq!((seen(&store), store.kept_history("c", "alice").unwrap()), (vec![], None));
        send(&store, "c", "bob", 1);
        assert_eq!(seen(&store), [9]);
        commit(&store, |b| b.leave("c", "alice"));
        store.wherever(|store| {
            assert_eq!((seen(store), store.kept_history("c", "alice").unwrap()), (vec![], None))
        });
    }

    #[test]
    fn are_replaced_by_those_of_the_next_leave() {
        let store = left();
        commit(&store, |b| b.join("c", "alice"));
        send(&store, "c", "bob", 2);
        commit(&store, |b| b.leave_with("c", "alice", keep()));
        store.wherever(|store| {
            assert_eq!(seen(store), [9, 10], "nothing that an earlier membership hid is hidden")
        });
    }

    #[test]
    fn end_with_a_leave_of_a_non_member() {
        let store = left();
        let receipt = commit(&store, |b| {
            b.leave_with("c", "alice", keep()).leave("c", "alice").leave("c", "alice").leave("x", "alice")
        });
        let changed = receipt.outcomes().iter().map(|outcome| outcome.version().is_some());
        assert_eq!(changed.collect::<Vec<_>>(), [false, true, false, false]);
        store.wherever(|store| {
            assert_eq!((seen(store), store.kept_history("c", "alice").unwrap()), (vec![], None))
        });
    }

    #[test]
    fn are_bounded_by_what_is_trimmed_and_may_be_nothing() {
        let store = left();
        commit(&store, |b| b.trim("c", 4).join("new", "alice").leave_with("new", "alice", keep()));
        store.wherever(|store| {
            assert_eq!(seen(store), [5]);
            assert_eq!(store.kept_history("new", "alice").unwrap(), None);
        });
    }
}
