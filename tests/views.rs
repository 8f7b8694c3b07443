//! Views: several questions, answered as of one moment, whatever happens meanwhile.

#![cfg(feature = "sim")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use chanlog::env::SimEnv;
use chanlog::{
    Annotation, Batch, Draft, Durability, Error, Head, List, Membership, Message, MessageChange, Options,
    Store, View,
};

const DIR: &str = "/store";
const CHANNELS: [&str; 3] = ["left", "right", "later"];
const USERS: [&str; 3] = ["alice", "bob", "late"];

fn options(sim: &Arc<SimEnv>) -> Options {
    Options::new().env(sim.clone()).log_segment(8 << 10).unsealed(1 << 20).background(false)
}

/// Alice and bob are in two channels, each of which has a message of bob.
fn fresh(options: Options) -> Store {
    let store = options.open(DIR).unwrap();
    let mut batch = Batch::new();
    for channel in ["left", "right"] {
        batch.join(channel, "alice").join(channel, "bob").append(channel, Draft::new("bob", 0, "first"));
    }
    store.commit(&batch).unwrap();
    store
}

/// The same into both channels, always.
fn both(store: &Store, text: &str) {
    let mut batch = Batch::new();
    for channel in ["left", "right"] {
        batch.append(channel, Draft::new("bob", 0, text.to_owned())).durability(Durability::Buffered);
    }
    store.commit(&batch).unwrap();
}

/// All that can be asked of a view.
#[derive(Debug, PartialEq)]
struct Answers {
    version: u64,
    heads: Vec<Head>,
    histories: Vec<Vec<Message>>,
    ranges: Vec<Vec<Message>>,
    seen: Vec<Vec<Message>>,
    lists: Vec<List>,
    unread: Vec<List>,
    memberships: Vec<Option<Membership>>,
    annotations: Vec<Vec<Annotation>>,
    changes: Vec<Vec<MessageChange>>,
    members: Vec<Vec<Bytes>>,
    channels_of: Vec<Vec<Bytes>>,
    names: [Vec<Bytes>; 2],
    known: Vec<bool>,
}

fn ask(view: &View) -> Answers {
    let pairs = || CHANNELS.iter().flat_map(|channel| USERS.map(|user| (*channel, user)));
    let range = |channel: &&str| view.history(channel).from(2).limit(5).reverse().list().unwrap();
    Answers {
        version: view.version(),
        heads: view.heads(CHANNELS).unwrap(),
        histories: CHANNELS.iter().map(|channel| view.history(channel).list().unwrap()).collect(),
        ranges: CHANNELS.iter().map(range).collect(),
        seen: pairs().map(|(channel, user)| view.history(channel).seen_by(user).list().unwrap()).collect(),
        lists: USERS.iter().map(|user| view.conversations(user).list().unwrap()).collect(),
        unread: USERS.iter().map(|user| view.conversations(user).unread_only().list().unwrap()).collect(),
        memberships: pairs().map(|(channel, user)| view.membership(channel, user).unwrap()).collect(),
        annotations: CHANNELS.iter().map(|channel| view.annotations(channel).list().unwrap()).collect(),
        changes: CHANNELS.iter().map(|channel| view.changes(channel).list().unwrap()).collect(),
        members: CHANNELS.iter().map(|channel| view.members(channel).list().unwrap()).collect(),
        channels_of: USERS.iter().map(|user| view.channels_of(user).list().unwrap()).collect(),
        names: [view.channels().list().unwrap(), view.users().list().unwrap()],
        known: USERS.iter().map(|user| view.has_memberships(user).unwrap()).collect(),
    }
}

/// Changes of every kind, old rows and new names among them.
fn change_all(store: &Store) {
    let mut batch = Batch::new();
    batch.append("later", Draft::new("late", 0, "new names")).join("later", "late").join("left", "late");
    batch.read("left", "alice", u64::MAX).clear("right", "alice").hide("left", "bob").leave("right", "bob");
    batch.append("left", Draft::new("alice", 0, "after")).activate("right", "alice");
    batch.edit("left", 2, "edited later").edit("right", 1, "x".repeat(2000));
    batch.retract("left", 1).retract("right", 1).annotate("left", 2, "alice", "kept later");
    batch.forget("left", "alice", 1, 2).forget("right", "alice", 3, 90);
    store.commit(&batch).unwrap();
}

#[test]
fn a_view_answers_as_the_store_did_when_it_was_made() {
    let store = fresh(options(&SimEnv::new(1)));
    (0..10).for_each(|i| both(&store, &i.to_string()));
    let view = store.view().unwrap();
    let answers = ask(&view);
    assert_eq!(answers.version, store.stat().unwrap().version);
    assert_eq!(answers.heads, store.heads(CHANNELS).unwrap());
    assert_eq!(answers.histories[0], store.history("left").list().unwrap());
    assert_eq!(answers.lists[0], store.conversations("alice").list().unwrap());
    assert_eq!(answers.memberships[0], store.membership("left", "alice").unwrap());
    assert_eq!(answers.names[0], store.channels().list().unwrap());
}

#[test]
fn all_reads_through_a_view_are_of_one_moment() {
    let store = fresh(options(&SimEnv::new(1)));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            (0..3000).for_each(|i| both(&store, &format!("{i} {}", "x".repeat(i % 50))));
            done.store(true, Ordering::Release);
        });
        let mut last = 0;
        while !done.load(Ordering::Acquire) && !writer.is_finished() {
            let view = store.view().unwrap();
            let left = view.head("left").unwrap();
            let list = view.conversations("alice").list().unwrap().entries;
            thread::yield_now();
            let right = view.head("right").unwrap();
            assert_eq!(left.last, right.last, "channels that are always written together");
            let end = left.last.seq;
            assert!(end >= last, "a later view shows an earlier moment");
            last = end;
            let history = view.history("right").from(end.saturating_sub(5)).list().unwrap();
            assert_eq!(history.last().map(|message| message.seq), Some(end), "the head and the history");
            let entry = |entry: &chanlog::Conversation| (entry.last_seq, entry.unread, entry.last.is_some());
            assert_eq!(
                list.iter().map(entry).collect::<Vec<_>>(),
                [(end, end, true); 2],
                "the list and the head"
            );
            assert_eq!(list[1].last.as_ref().unwrap().payload, history.last().unwrap().payload);
        }
        writer.join().unwrap();
    });
}

#[test]
fn names_that_are_made_later_are_unknown_to_a_view() {
    let store = fresh(options(&SimEnv::new(1)));
    let view = store.view().unwrap();
    change_all(&store);
    for sealed in [false, true] {
        if sealed {
            store.seal().unwrap();
            while store.maintain().unwrap() {}
        }
        assert_eq!(view.head("later").unwrap(), Head::default());
        assert_eq!(view.history("later").list().unwrap(), []);
        assert_eq!(view.membership("left", "late").unwrap(), None);
        assert_eq!(view.channels().list().unwrap(), ["left", "right"]);
        assert_eq!(view.users().list().unwrap(), ["alice", "bob"]);
        assert!(!view.has_memberships("late").unwrap());
        assert_eq!(view.channels_of("late").list().unwrap(), [""; 0]);
        assert_eq!(view.members("left").list().unwrap(), ["alice", "bob"]);
        assert!(view.conversations("late").list().unwrap().entries.is_empty());
    }
}

#[test]
fn a_view_outlives_commits_seals_and_merges() {
    let sim = SimEnv::new(1);
    let store = fresh(options(&sim).message_segment(16 << 10));
    (0..20).for_each(|i| both(&store, &format!("{i} {}", "x".repeat(300))));
    store.seal().unwrap();
    (0..20).for_each(|i| both(&store, &format!("{i} {}", "y".repeat(300))));
    let view = store.view().unwrap();
    let (answers, clone) = (ask(&view), view.clone());
    change_all(&store);
    assert_eq!(ask(&view), answers, "after changes of every kind");
    for i in 0..100 {
        both(&store, &format!("{i} {}", "z".repeat(200)));
        if i % 20 == 10 {
            store.seal().unwrap();
            assert_eq!(ask(&view), answers, "after a seal at commit {i}");
        }
    }
    store.seal().unwrap();
    while store.maintain().unwrap() {
        assert_eq!(ask(&view), answers, "amid merges");
    }
    assert!(store.stat().unwrap().merged_bytes > 0, "files were merged");
    assert_eq!(ask(&clone), answers, "at the end, through a clone");
    assert_ne!(ask(&store.view().unwrap()), answers, "the store went on");
}

#[test]
fn each_view_has_its_own_moment() {
    let store = fresh(options(&SimEnv::new(1)));
    let mut views = Vec::new();
    for i in 0..50 {
        both(&store, &i.to_string());
        let view = store.view().unwrap();
        let answers = ask(&view);
        views.push((view, answers));
        // Others go in the meantime, so that what was kept for them goes too.
        if i % 3 == 0 {
            views.remove(views.len() / 2);
        }
        if i == 25 {
            store.seal().unwrap();
        }
    }
    for (view, answers) in &views {
        assert_eq!(ask(view), *answers);
    }
}

#[test]
fn a_token_from_a_view_tells_what_came_after_it() {
    let store = fresh(options(&SimEnv::new(1)));
    let view = store.view().unwrap();
    store.commit(Batch::new().append("right", Draft::new("bob", 0, "after"))).unwrap();
    let list = view.conversations("alice").list().unwrap();
    let update = store.conversations("alice").since(&list.as_of).unwrap();
    let chanlog::Update::Changes { changes, .. } = update else { panic!("told to start over") };
    let channels = changes.iter().map(|change| match change {
        chanlog::ListChange::Entry(entry) => entry.channel.clone(),
        other => panic!("{other:?}"),
    });
    assert_eq!(channels.collect::<Vec<_>>(), ["right"]);
}

/// Commits until a view needs more memory than it may have.
fn outgrow(store: &Store, view: &View) {
    for i in 0..1000 {
        both(store, &i.to_string());
        if i % 100 == 99 {
            store.seal().unwrap();
        }
        if view.head("left").is_err() {
            return;
        }
    }
    panic!("the view never expires");
}

#[test]
fn a_view_that_needs_too_much_memory_expires_and_the_store_goes_on() {
    let store = fresh(options(&SimEnv::new(1)).view_memory(1 << 10));
    let view = store.view().unwrap();
    outgrow(&store, &view);
    let refused = [
        view.head("left").map(drop),
        view.heads(CHANNELS).map(drop),
        view.history("left").list().map(drop),
        view.annotations("left").list().map(drop),
        view.annotation("left", 1, "alice").map(drop),
        view.changes("left").list().map(drop),
        view.membership("left", "alice").map(drop),
        view.conversations("alice").list().map(drop),
        view.members("left").list().map(drop),
        view.channels_of("alice").list().map(drop),
        view.channels().list().map(drop),
        view.users().list().map(drop),
        view.has_memberships("alice").map(drop),
    ];
    assert!(refused.iter().all(|answer| matches!(answer, Err(Error::ViewExpired))), "{refused:?}");
    both(&store, "and on");
    let now = store.view().unwrap();
    assert_eq!(now.head("left").unwrap(), store.head("left").unwrap());
    assert_eq!(store.conversations("alice").list().unwrap().entries.len(), 2);
    assert_eq!(store.history("right").last(1).unwrap()[0].payload, "and on");
}

#[test]
fn a_view_that_is_dropped_takes_its_memory_with_it() {
    let store = fresh(options(&SimEnv::new(1)).view_memory(1 << 10));
    for i in 0..500 {
        let view = store.view().unwrap();
        both(&store, &i.to_string());
        assert_eq!(view.head("left").expect("so little is kept for one commit").last.seq, i + 1);
    }
}

#[test]
fn old_images_of_large_commits_do_not_pile_up() {
    let store = fresh(options(&SimEnv::new(1)).log_segment(16 << 20).memtable(1 << 30).view_memory(1 << 20));
    for _ in 0..12 {
        let mut batch = Batch::new();
        for i in 0..4000 {
            batch.append(format!("channel {i}"), Draft::new(format!("user {i}"), 0, "many"));
        }
        store.commit(&batch).unwrap();
    }
    // Else they are counted against a view that needs none of them.
    let view = store.view().unwrap();
    both(&store, "one more");
    assert_eq!(view.head("channel 1").expect("next to nothing is kept for this view").last.seq, 12);
}

#[test]
fn a_view_ends_with_its_store() {
    let store = fresh(options(&SimEnv::new(1)));
    let view = store.view().unwrap();
    store.close().unwrap();
    assert!(matches!(view.head("left"), Err(Error::Closed)));
    assert!(matches!(view.history("left").list(), Err(Error::Closed)));
    assert!(matches!(store.view(), Err(Error::Closed)));
}

/// Files of this process below a directory that have no name any more.
fn removed_and_open(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = open.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    targets.filter(|to| to.starts_with(dir) && to.to_string_lossy().ends_with("(deleted)")).collect()
}

#[test]
fn what_only_views_of_the_past_held_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().background(false).open(dir.path()).unwrap();
    let send = |n: i64| drop(store.commit(Batch::new().append("c", Draft::new("u", n, "text"))).unwrap());
    for n in 0..10 {
        send(n);
        let view = store.view().unwrap();
        store.seal().unwrap();
        assert!(!removed_and_open(dir.path()).is_empty(), "the view holds the log that was sealed");
        drop(view);
        send(n);
        store.seal().unwrap();
    }
    // Nothing more happens than one change of files, which the last view does not see.
    assert_eq!(removed_and_open(dir.path()), [""; 0].map(std::path::PathBuf::from));
}
