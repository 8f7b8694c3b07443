//! What readers are told next to a writer, after a crash, and around damage.

#![cfg(feature = "sim")]

mod hooks;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use chanlog::env::{Env, SimEnv};
use chanlog::{BUFFERED_WINDOW, Batch, Draft, Durability, Error, Message, Options, Store, Update, verify};
use hooks::{DIR, append, files, kill, noise};

fn options(sim: &Arc<SimEnv>) -> Options {
    Options::new().env(sim.clone()).log_segment(256 << 10).background(false)
}

fn fresh() -> (Arc<SimEnv>, Store) {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(DIR).unwrap();
    (sim, store)
}

/// Bob joins a channel, in which there is a message then.
fn join_and_send(store: &Store, channel: &str) {
    let mut batch = Batch::new();
    batch.join(channel, "bob").append(channel, Draft::new("x", 0, "hi"));
    store.commit(&batch).unwrap();
}

fn seqs(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.seq).collect()
}

/// Steps until there is nothing to do. Returns how many steps failed.
fn maintain(store: &Store) -> usize {
    let failed = (0..100).map_while(|_| match store.maintain() {
        Ok(true) => Some(0),
        Ok(false) => None,
        Err(_) => Some(1),
    });
    failed.sum()
}

mod next_to_a_writer {
    use super::*;

    const ROUNDS: usize = 20_000;

    /// The rounds that a writer and a reader go through together.
    #[derive(Default)]
    struct Rounds {
        begun: AtomicUsize,
        done: AtomicUsize,
    }

    impl Rounds {
        fn wait(&self, counter: &AtomicUsize, round: usize) {
            let mut turns = 0;
            while counter.load(Ordering::Acquire) < round {
                turns += 1;
                // The other thread may need this processor.
                if turns % 10_000 == 0 { thread::yield_now() } else { std::hint::spin_loop() }
            }
        }

        fn is_done(&self, round: usize) -> bool {
            self.done.load(Ordering::Acquire) >= round
        }

        fn wait_until_done(&self, round: usize) {
            self.wait(&self.done, round);
        }
    }

    /// Frees the other thread if this one fails.
    struct End<'a>(&'a Rounds);

    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.begun.store(usize::MAX, Ordering::Release);
            self.0.done.store(usize::MAX, Ordering::Release);
        }
    }

    /// In each round `write` comes a short while after `watch` began, which tells whether it saw what must not be. Returns in
    /// how many rounds it did. Before a round comes `prepare`.
    fn race(
        prepare: impl Fn(usize),
        write: impl Fn(usize),
        watch: impl Fn(usize, &Rounds) -> bool + Sync,
    ) -> usize {
        let rounds = Rounds::default();
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let wrong = |round: &usize| {
                    rounds.wait(&rounds.begun, *round);
                    let wrong = watch(*round, &rounds);
                    rounds.wait_until_done(*round);
                    wrong
                };
                (1..=ROUNDS).filter(wrong).count()
            });
            let end = End(&rounds);
            for round in 1..=ROUNDS {
                prepare(round);
                rounds.begun.store(round, Ordering::Release);
                (0..round % 700).for_each(|_| std::hint::spin_loop());
                write(round);
                rounds.done.store(round, Ordering::Release);
            }
            drop(end);
            reader.join().unwrap()
        })
    }

    /// A client asks for the list of a user whom the store meets at that moment. If the answer is empty, its token must tell
    /// of the join later.
    #[test]
    fn the_first_token_of_a_new_user_misses_nothing() {
        let (_sim, store) = fresh();
        let write = |round| {
            let user = format!("user {round}");
            store.commit(Batch::new().join("c", &user).append("c", Draft::new("x", 0, "hi"))).unwrap();
        };
        let missed = race(
            |_| {},
            write,
            |round, rounds| {
                let question = || store.conversations(format!("user {round}"));
                let mut empty = None;
                loop {
                    let list = question().list().unwrap();
                    if !list.entries.is_empty() {
                        break;
                    }
                    empty = Some(list.as_of);
                }
                rounds.wait_until_done(round);
                let later = empty.map(|token| question().since(&token).unwrap());
                matches!(later, Some(Update::Changes { changes, .. }) if changes.is_empty())
            },
        );
        assert_eq!(missed, 0, "so many tokens of {ROUNDS} cover a join that the answer had not");
    }

    /// A batch that makes two channels is seen whole or not at all.
    #[test]
    fn heads_are_of_one_moment() {
        let (_sim, store) = fresh();
        let write = |round| {
            let mut batch = Batch::new();
            for side in ["left", "right"] {
                batch.append(format!("{side} {round}"), Draft::new("x", 0, "1"));
            }
            store.commit(&batch).unwrap();
        };
        let torn = race(
            |_| {},
            write,
            |round, _| {
                loop {
                    let heads = store.heads([format!("left {round}"), format!("right {round}")]).unwrap();
                    match [heads[0].last.seq, heads[1].last.seq] {
                        [0, 0] => {}
                        seqs => return seqs != [1, 1],
                    }
                }
            },
        );
        assert_eq!(torn, 0, "so many answers of {ROUNDS} have half of a batch");
    }

    /// A batch that ends a membership and then sends is seen whole or not at all, so that who left never gets the message.
    #[test]
    fn who_left_sees_no_message_that_came_after() {
        let (_sim, store) = fresh();
        let join = |_| drop(store.commit(Batch::new().join("c", "eve")).unwrap());
        let write = |_| {
            let mut batch = Batch::new();
            batch.leave("c", "eve").append("c", Draft::new("x", 0, "eve is out"));
            store.commit(&batch).unwrap();
        };
        let leaked = race(join, write, |round, rounds| {
            let leaks = || !store.history("c").seen_by("eve").last(1).unwrap().is_empty();
            while !rounds.is_done(round) {
                if leaks() {
                    return true;
                }
            }
            leaks()
        });
        assert_eq!(leaked, 0, "so many messages of {ROUNDS} were shown to who had left");
    }
}

mod tokens {
    use super::*;

    /// The session ends without a close, but nothing is lost: what a client has seen stays valid, and so do the answers that
    /// begin there.
    #[test]
    fn of_a_list_that_a_limit_cut_can_be_followed_over_an_unclean_end() {
        let (sim, store) = fresh();
        (0..6).for_each(|i| join_and_send(&store, &format!("channel {i}")));
        let cut = store.conversations("bob").limit(2).list().unwrap();
        kill(&sim, store);
        let store = options(&sim).open(DIR).unwrap();
        append(&store, "channel 0", "again", Durability::Sync).unwrap();

        let rest = store.conversations("bob").after(&cut.next.unwrap()).list().unwrap();
        let paged = store.conversations("bob").since(&rest.as_of).unwrap();
        assert!(matches!(paged, Update::Changes { .. }), "the token of the last page is void at once");

        let (mut token, mut told) = (cut.as_of, 0);
        for _ in 0..10 {
            match store.conversations("bob").limit(2).since(&token).unwrap() {
                Update::Changes { changes, as_of, next, .. } => {
                    told += changes.len();
                    token = as_of;
                    if next.is_none() {
                        assert!(told >= 4, "four were not on the first page, and {told} were told");
                        return;
                    }
                }
                update => panic!("told to start over after {told} changes: {update:?}"),
            }
        }
        panic!("the changes do not end");
    }

    /// One tombstone is kept. Bob left two channels, but went back to the first, so that there is only one.
    #[test]
    fn are_too_old_or_not_whether_files_were_merged_or_not() {
        let resets = [true, false].map(|merge| {
            let sim = SimEnv::new(1);
            let store = options(&sim).tombstones(1).open(DIR).unwrap();
            ["a", "b"].iter().for_each(|channel| join_and_send(&store, channel));
            let token = store.conversations("bob").list().unwrap().as_of;
            store.commit(Batch::new().leave("a", "bob").leave("b", "bob")).unwrap();
            store.seal().unwrap();
            for _ in 0..3 {
                append(&store, "other", "hi", Durability::Sync).unwrap();
                store.seal().unwrap();
            }
            if merge {
                assert!(store.maintain().unwrap(), "the runs are merged");
                maintain(&store);
            }
            store.commit(Batch::new().join("a", "bob")).unwrap();
            store.conversations("bob").since(&token).unwrap() == Update::Reset
        });
        assert_eq!(resets[0], resets[1]);
    }

    /// A backup of a store that was closed is put back. A token of what came after it names versions that the store gives to
    /// other changes now.
    #[test]
    fn of_what_a_restored_backup_took_back_are_void() {
        let (sim, store) = fresh();
        store.commit(Batch::new().join("a", "bob").join("b", "bob")).unwrap();
        append(&store, "a", "hi", Durability::Sync).unwrap();
        store.close().unwrap();
        drop(store);
        let backup = hooks::content(&sim);
        let store = options(&sim).open(DIR).unwrap();
        append(&store, "a", "lost with the restore", Durability::Sync).unwrap();
        let token = store.conversations("bob").list().unwrap().as_of;
        store.close().unwrap();
        drop(store);
        let dir = sim.open_dir(DIR.as_ref(), false).unwrap();
        for path in sim.files() {
            dir.remove(path.file_name().unwrap().to_str().unwrap()).unwrap();
        }
        backup.iter().for_each(|(path, bytes)| sim.write_file(path, bytes).unwrap());
        let store = options(&sim).open(DIR).unwrap();
        append(&store, "b", "never told", Durability::Sync).unwrap();
        assert_eq!(store.conversations("bob").since(&token).unwrap(), Update::Reset);
    }

    /// In another store the place at which a list was cut means nothing.
    #[test]
    fn of_a_cut_list_are_not_followed_in_another_store() {
        let filled = |seed, channels| {
            let sim = SimEnv::new(seed);
            let store = options(&sim).open(DIR).unwrap();
            (0..channels).for_each(|i| join_and_send(&store, &format!("channel {i}")));
            (sim, store)
        };
        let ((_one, one), (_two, two)) = (filled(1, 5), filled(2, 20));
        let next = one.conversations("bob").limit(2).list().unwrap().next.unwrap();
        let error = two.conversations("bob").after(&next).list().unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { op: None, .. }), "{error}");
    }
}

mod around_damage {
    use super::*;

    /// A manifest that was restored by itself names files that a merge has replaced since. What the merge made holds their
    /// messages, and must stay.
    #[test]
    fn an_older_manifest_does_not_cost_the_messages() {
        let sim = SimEnv::new(1);
        let options = || options(&sim).message_segment(12 << 10);
        let store = options().open(DIR).unwrap();
        for part in 0..2 {
            for i in 0..60 {
                let draft = Draft::new("x", i, noise(part * 100 + i as u64, 100));
                store.commit(Batch::new().append("c", draft)).unwrap();
            }
            store.seal().unwrap();
        }
        let manifest = "/store/chanlog.manifest";
        let old = sim.read_file(manifest).unwrap();
        maintain(&store);
        assert_eq!(store.stat().unwrap().segments.count, 1, "the segments are merged");
        let expected = store.history("c").list().unwrap();
        store.close().unwrap();
        drop(store);
        let new = sim.read_file(manifest).unwrap();

        sim.write_file(manifest, &old).unwrap();
        // It may refuse, or open with what is there.
        if let Ok(store) = options().open(DIR) {
            assert!(store.recovery().damaged > 0, "two segments are missing");
            drop(store);
        }
        sim.write_file(manifest, &new).unwrap();
        let store = options().open(DIR).unwrap();
        assert_eq!(store.history("c").list().unwrap(), expected);
    }

    #[test]
    fn what_is_older_or_newer_than_a_damaged_segment_is_served() {
        let (sim, store) = fresh();
        store.commit(Batch::new().join("c", "bob")).unwrap();
        for part in 0..3 {
            (0..10).for_each(|i| _ = append(&store, "c", &format!("{part} {i}"), Durability::Sync).unwrap());
            store.seal().unwrap();
        }
        store.close().unwrap();
        drop(store);
        let segments = files(&sim, "seg-");
        assert_eq!(segments.len(), 3);
        let len = sim.read_file(&segments[1]).unwrap().len() as u64;
        sim.corrupt(&segments[1], len - 10, 1).unwrap();
        let store = options(&sim).open(DIR).unwrap();
        assert_eq!(store.recovery().damaged, 1);
        let seqs = |from, to| {
            let list = store.history("c").from(from).to(to).list();
            list.map(|messages| messages.iter().map(|m| m.seq).collect::<Vec<_>>())
        };
        assert_eq!(seqs(21, 30).unwrap(), (21..=30).collect::<Vec<_>>());
        for range in [(11, 20), (20, 21), (10, 11), (1, 30)] {
            let error = seqs(range.0, range.1).unwrap_err();
            assert!(
                matches!(&error, Error::Corruption { file, .. } if *file == segments[1]),
                "{range:?}: {error}"
            );
        }
        assert_eq!(seqs(1, 10).unwrap(), (1..=10).collect::<Vec<_>>());
        assert_eq!(store.history("c").to(10).last(3).unwrap().len(), 3);
        store.commit(Batch::new().read("c", "bob", 5)).unwrap();
        let unread = store.conversations("bob").list().unwrap().entries[0].unread;
        assert_eq!(unread, 25);
    }

    #[test]
    fn a_damaged_page_is_the_fault_of_its_own_entry() {
        let (sim, store) = fresh();
        let token = store.conversations("bob").list().unwrap().as_of;
        for channel in ["a", "b"] {
            join_and_send(&store, channel);
            store.seal().unwrap();
        }
        store.close().unwrap();
        drop(store);
        let segment = &files(&sim, "seg-")[0];
        sim.corrupt(segment, 70, 1).unwrap();
        let store = options(&sim).open(DIR).unwrap();
        assert_eq!(store.recovery().damaged, 0, "the segment opens");
        let entries = store.conversations("bob").list().unwrap().entries;
        let channels: Vec<_> = entries.iter().map(|entry| &entry.channel[..]).collect();
        assert_eq!(channels, [b"b", b"a"]);
        assert!(entries[0].fault.is_none() && entries[0].last.is_some());
        assert_eq!((entries[1].unread, entries[1].last_seq, &entries[1].last), (1, 1, &None));
        let fault = entries[1].fault.as_ref().expect("the last message of a can't be read");
        assert!(matches!(fault, Error::Corruption { file, .. } if file == segment), "{fault}");
        let Update::Changes { changes, .. } = store.conversations("bob").since(&token).unwrap() else {
            panic!("expected changes")
        };
        assert_eq!(changes.len(), 2);
    }

    #[test]
    fn verify_names_the_log_segment_that_is_missing() {
        let sim = SimEnv::new(1);
        let options = || options(&sim).log_segment(8 << 10).unsealed(100);
        let store = options().open(DIR).unwrap();
        (0..9).for_each(|_| _ = append(&store, "c", &"x".repeat(1500), Durability::Sync).unwrap());
        store.close().unwrap();
        drop(store);
        let logs = files(&sim, "log-");
        assert!(logs.len() >= 3, "{logs:?}");
        let dir = sim.open_dir(DIR.as_ref(), false).unwrap();
        dir.remove(logs[1].file_name().unwrap().to_str().unwrap()).unwrap();
        let faults = verify(DIR, &options()).unwrap().faults;
        assert!(!faults.is_empty());
        let names = |fault: &Error| matches!(fault, Error::Corruption { file, .. } if *file == logs[1]);
        assert!(faults.iter().all(names), "{faults:?}");
    }

    /// A store in which each part is a segment of its own, about half of what a merge makes.
    fn part(store: &Store, channel: &str, part: u64) {
        for i in 0..60 {
            let draft = Draft::new("x", 0, noise(part * 100 + i, 100));
            store.commit(Batch::new().append(channel, draft)).unwrap();
        }
    }

    #[test]
    fn a_page_in_a_segment_does_not_stop_the_merges_of_the_others() {
        let sim = SimEnv::new(1);
        let options = || options(&sim).message_segment(14 << 10);
        let store = options().open(DIR).unwrap();
        part(&store, "c", 0);
        store.seal().unwrap();
        store.close().unwrap();
        drop(store);
        sim.corrupt(&files(&sim, "seg-")[0], 5000, 1).unwrap();
        let store = options().open(DIR).unwrap();
        assert_eq!(store.recovery().damaged, 0, "the segment opens");
        let mut failed = 0;
        for n in 1..40 {
            part(&store, "d", n);
            store.seal().unwrap();
            failed += maintain(&store);
        }
        let count = store.stat().unwrap().segments.count;
        assert!(count < 30, "{count} segments of 40, {failed} steps failed: nothing is merged any more");
    }

    #[test]
    fn a_page_in_a_run_does_not_stop_all_merges() {
        let sim = SimEnv::new(1);
        let options = || options(&sim).message_segment(14 << 10);
        let store = options().open(DIR).unwrap();
        let join = |store: &Store, channel: &str, kind: &str, users: usize| {
            let mut batch = Batch::new();
            (0..users).for_each(|i| _ = batch.join(channel, format!("{kind} {i}")));
            store.commit(&batch).unwrap();
            store.seal().unwrap();
        };
        join(&store, "c", "user", 1200);
        store.close().unwrap();
        drop(store);
        let run = files(&sim, "run-").remove(0);
        let len = sim.read_file(&run).unwrap().len() as u64;
        // A page of rows, which neither an opening reads nor what is written below.
        let rows = |at: &u64| {
            let copy = sim.fork(1);
            copy.corrupt(&run, *at, 1).unwrap();
            let Ok(store) = self::options(&copy).open(DIR) else { return false };
            let written = store.commit(Batch::new().join("channel 0", "guest 0"));
            written.is_ok() && store.members("c").list().is_err()
        };
        let at = (100..len).step_by(4096).find(rows).expect("the rows fill a page");
        sim.corrupt(&run, at, 1).unwrap();
        let store = options().open(DIR).unwrap();
        let mut failed = 0;
        for n in 1..40 {
            part(&store, "d", n);
            join(&store, &format!("channel {n}"), "guest", 300);
            failed += maintain(&store);
        }
        let stat = store.stat().unwrap();
        let (runs, segments) = (stat.runs.count, stat.segments.count);
        assert!(runs < 20 && segments < 30, "{runs} runs, {segments} segments, {failed} steps failed");
    }
}

/// An end of a session that may have taken messages leaves a gap. Ranges that end in it, or before it, or begin there.
#[test]
fn ranges_around_a_gap_hold_each_message_once() {
    for (parts_before, parts_after, cap) in
        (0..27usize).map(|n| (1 + n / 9, 1 + n / 3 % 3, 500 + n as u64 % 3 * 500))
    {
        let sim = SimEnv::new(1);
        // Of merges of several sizes some make a file that has the gap in it.
        let options = || options(&sim).message_segment(cap);
        let mut store = options().open(DIR).unwrap();
        for _ in 0..parts_before {
            append(&store, "c", "before", Durability::Buffered).unwrap();
            store.seal().unwrap();
        }
        append(&store, "c", "before", Durability::Buffered).unwrap();
        kill(&sim, store);
        store = options().open(DIR).unwrap();
        assert!(store.recovery().gap);
        for _ in 0..parts_after {
            append(&store, "c", "after", Durability::Sync).unwrap();
            store.seal().unwrap();
        }
        append(&store, "c", "after", Durability::Sync).unwrap();
        for merged in [false, true] {
            if merged {
                store.seal().unwrap();
                maintain(&store);
            }
            let all = seqs(&store.history("c").list().unwrap());
            let (first, last) = (all[parts_before], all[parts_before + 1]);
            assert_eq!((all.len(), last - first), (parts_before + parts_after + 2, BUFFERED_WINDOW + 1));
            let edges = [0, 1, first - 1, first, first + 1, first + 1000, last - 1, last, last + 1, u64::MAX];
            for (from, to) in edges.iter().flat_map(|from| edges.iter().map(move |to| (*from, *to))) {
                let wanted: Vec<_> = all.iter().copied().filter(|seq| (from..=to).contains(seq)).collect();
                let found = seqs(&store.history("c").from(from).to(to).list().unwrap());
                assert_eq!(found, wanted, "{parts_before} and {parts_after} parts, from {from} to {to}");
                let mut found = seqs(&store.history("c").from(from).to(to).reverse().list().unwrap());
                found.reverse();
                assert_eq!(found, wanted, "{parts_before} and {parts_after} parts, from {to} down to {from}");
            }
        }
    }
}

#[test]
fn a_block_cache_may_have_any_size() {
    for bytes in [0, 1, 1 << 20, 1 << 40, u64::MAX] {
        let sim = SimEnv::new(1);
        let store = options(&sim).block_cache(bytes).open(DIR).unwrap();
        (0..50).for_each(|_| _ = append(&store, "c", "hi hi hi hi hi hi hi", Durability::Sync).unwrap());
        store.seal().unwrap();
        assert_eq!(store.history("c").list().unwrap().len(), 50, "a cache of {bytes} bytes");
    }
}
