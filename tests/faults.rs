//! Faults that the tests once let through, each planted on purpose, and the shortest history that shows it.

#![cfg(feature = "sim")]

mod hooks;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use chanlog::env::{Op as Disk, PowerLoss, SimEnv};
use chanlog::{
    Batch, Commit, Draft, Durability, Error, ListChange, MessageState, Options, Receipt, Store, SyncToken,
    Update,
};
use hooks::{
    DIR, Gate, Hooked, append, content, files, gated, kill, long, noise, options, texts, wait_for_queued,
};

/// Ends the process without a close, and cuts the power.
fn lose(sim: &SimEnv, store: Store, loss: PowerLoss) {
    sim.crash_after(0);
    drop(store);
    sim.power_loss_with(loss);
}

fn submit(store: &Store, text: &str, durability: Durability) -> Commit {
    let mut batch = Batch::new();
    batch.append("c", Draft::new("u", 0, text.to_owned())).durability(durability);
    store.submit(&batch).unwrap()
}

fn values(store: &Store) -> Vec<String> {
    texts(store, "c").into_values().collect()
}

fn is_poisoned<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Poisoned { .. }))
}

mod acknowledgements {
    use super::*;

    /// The fault: a buffered commit that makes a channel is acknowledged before it is durable. No loss tells of a channel
    /// that is not kept, so its seqs would be given twice (C3).
    #[test]
    fn of_a_buffered_commit_that_makes_a_channel_come_when_it_is_durable() {
        let sim = SimEnv::new(1);
        let store = options(sim.clone()).open(DIR).unwrap();
        append(&store, "other", "the segment allows for early ones", Durability::Buffered).unwrap();
        let seen = append(&store, "c", "seen", Durability::Buffered).unwrap();
        lose(&sim, store, PowerLoss::Drop);
        let store = options(sim).open(DIR).unwrap();
        assert_eq!(values(&store), ["seen"]);
        assert!(append(&store, "c", "next", Durability::Sync).unwrap() > seen);
    }

    /// The fault: a `Sync` commit is published with an early one that stands before it (D1).
    #[test]
    fn of_an_early_commit_publish_no_later_one_that_asked_for_a_sync() {
        let (sim, gate) = (SimEnv::new(1), Arc::new(Gate::default()));
        let at = gate.clone();
        let env = Hooked::new(&sim, move |op, name| {
            if op == Disk::Write && name.starts_with("log-") {
                at.pass();
            }
            Ok(())
        });
        let store = options(env).open(DIR).unwrap();
        append(&store, "c", "makes the channel", Durability::Buffered).unwrap();
        gate.shut();
        let promised = thread::scope(|scope| {
            let holder = scope.spawn(|| submit(&store, "holds the writer up", Durability::Buffered));
            gate.wait_for_one();
            // These two are one group.
            let early = scope.spawn(|| submit(&store, "early", Durability::Buffered));
            wait_for_queued(&store, 1);
            let promised = scope.spawn(|| submit(&store, "promised", Durability::Sync));
            wait_for_queued(&store, 2);
            gate.open();
            assert!(holder.join().unwrap().is_done() && early.join().unwrap().is_done());
            promised.join().unwrap()
        });
        assert!(!promised.is_done(), "nothing was synced");
        assert_eq!(values(&store), ["makes the channel", "holds the writer up", "early"]);
        promised.wait().unwrap();
        assert_eq!(values(&store).last().unwrap(), "promised");
    }

    /// The fault: a sync that was under way when the store was poisoned publishes what it reached (D3).
    #[test]
    fn do_not_come_from_a_sync_that_ends_after_another_thread_failed() {
        let (sim, gate) = (SimEnv::new(1), Arc::new(Gate::default()));
        let env = gated(&sim, &gate, "log-");
        let store = options(env).open(DIR).unwrap();
        append(&store, "c", "first", Durability::Sync).unwrap();
        append(&store, "c", &long(), Durability::Sync).unwrap();
        gate.shut();
        let answer = thread::scope(|scope| {
            let writer = scope.spawn(|| append(&store, "c", "in doubt", Durability::Sync));
            gate.wait_for_one();
            sim.fail_nth(&[Disk::SyncDir], 1, ErrorKind::Other);
            store.maintain().unwrap_err();
            gate.open();
            writer.join().unwrap()
        });
        assert!(is_poisoned(&answer), "{answer:?}");
        assert_eq!(values(&store), ["first", &long()], "nothing is published any more");
    }
}

mod trials {
    use super::*;

    /// Commits two batches, of which the second is prepared while the first is written.
    fn one_beside_another(first: &Batch, second: &Batch) -> (Store, Receipt) {
        let (sim, gate) = (SimEnv::new(1), Arc::new(Gate::default()));
        let at = gate.clone();
        let env = Hooked::new(&sim, move |op, name| {
            if op == Disk::Write && name.starts_with("log-") {
                at.pass();
            }
            Ok(())
        });
        // So that the first is published when the second's turn comes.
        let store = options(env).durability(Durability::Buffered).open(DIR).unwrap();
        store.commit(Batch::new().join("c", "u").append("c", Draft::new("u", 0, "before"))).unwrap();
        gate.shut();
        let receipt = thread::scope(|scope| {
            let holder = scope.spawn(|| store.commit(first).unwrap());
            gate.wait_for_one();
            let other = scope.spawn(|| store.commit(second).unwrap());
            // It is prepared when it waits for the writer.
            wait_for_queued(&store, 1);
            gate.open();
            holder.join().unwrap();
            other.join().unwrap()
        });
        (store, receipt)
    }

    /// The fault: what came of a batch on trial is taken though another was committed since.
    #[test]
    fn count_only_if_nothing_was_committed_since() {
        let send = |text: &str| Draft::new("u", 0, text.to_owned());
        let second = Batch::new().join("c", "v").append("c", send("second")).clone();
        let (store, _) = one_beside_another(Batch::new().append("c", send("first")), &second);
        assert_eq!(values(&store), ["before", "first", "second"]);
    }

    /// The fault: a row that another commit changed since is taken as it was when the batch was prepared.
    #[test]
    fn look_again_at_rows_that_changed_since() {
        let join = Batch::new().join("c", "v").clone();
        let (store, receipt) = one_beside_another(&join, &join);
        assert_eq!(receipt.outcomes()[0].version(), None, "v was a member already");
        assert_eq!(store.head("c").unwrap().members, 2);
    }

    /// The fault: a batch goes on though the layer that it was prepared at was sealed, so that what changed since is looked for
    /// in vain.
    #[test]
    fn begin_anew_if_what_they_rest_on_was_sealed_since() {
        let sim = SimEnv::new(1);
        // So that places in the log are read by calls.
        sim.maps(false);
        let due: Arc<Mutex<Option<Arc<Store>>>> = Arc::default();
        let once = due.clone();
        let env = Hooked::new(&sim, move |op, name| {
            let read = op == Disk::Read && name.starts_with("log-");
            let store = if read { once.lock().unwrap().take() } else { None };
            if let Some(store) = store {
                store.commit(Batch::new().join("c", "v")).unwrap();
                store.seal().unwrap();
            }
            Ok(())
        });
        let store = Arc::new(options(env).open(DIR).unwrap());
        let mut first = Batch::new();
        first.join("c", "u");
        (0..3).for_each(|at| _ = first.append("c", Draft::new("w", at, "a message")));
        store.commit(&first).unwrap();
        *due.lock().unwrap() = Some(store.clone());
        // The place of the second message stands in the log alone.
        let receipt = store.commit(Batch::new().read("c", "u", 2).join("c", "v")).unwrap();
        assert!(due.lock().unwrap().is_none(), "nothing happened while it was prepared");
        assert_eq!(receipt.outcomes()[1].version(), None, "v was a member already");
        assert_eq!(store.head("c").unwrap().members, 2);
    }
}

mod recoveries {
    use super::*;

    /// The fault: what lies after a torn end is not zeroed (R3).
    #[test]
    fn leave_zeros_after_a_torn_end() {
        let mut torn = 0;
        for seed in 0..40 {
            let sim = SimEnv::new(seed);
            let store = options(sim.clone()).open(DIR).unwrap();
            append(&store, "c", "first", Durability::Sync).unwrap();
            sim.crash_after(0);
            append(&store, "c", &"x".repeat(2500), Durability::Sync).unwrap_err();
            drop(store);
            sim.crash();
            let store = options(sim.clone()).open(DIR).unwrap();
            torn += u64::from(store.recovery().torn_bytes > 0);
            lose(&sim, store, PowerLoss::Drop);
            let store = options(sim).open(DIR).unwrap();
            assert_eq!(store.recovery().torn_bytes, 0, "seed {seed}: it was cut, durably");
        }
        assert!(torn > 0, "no write was torn");
    }

    /// The fault: orphans are removed while the manifest that does not name them may still be lost. Then the one before
    /// comes back, and names what is gone. The same of the first commit of a session, which builds upon the manifest.
    #[test]
    fn make_the_manifest_durable_before_orphans_go() {
        for ops in 0.. {
            let sim = SimEnv::new(ops);
            let store = options(sim.clone()).open(DIR).unwrap();
            append(&store, "c", "first", Durability::Sync).unwrap();
            sim.crash_after(ops);
            let sealed = store.seal();
            drop(store);
            sim.crash();
            for seed in 0..40 {
                let sim = sim.fork(seed);
                let store = options(sim.clone()).open(DIR).unwrap();
                let mut kept = vec!["first"];
                if seed % 2 == 1 {
                    append(&store, "c", "next", Durability::Sync).unwrap();
                    kept.push("next");
                }
                lose(&sim, store, PowerLoss::Sectors);
                let store = options(sim).open(DIR);
                let store = store.unwrap_or_else(|e| panic!("{ops} operations, seed {seed}: {e}"));
                assert_eq!(values(&store), kept, "{ops} operations, seed {seed}");
            }
            if sealed.is_ok() {
                return;
            }
        }
    }
}

mod openings {
    use super::*;

    /// The fault: a session's first commit rests on a manifest that was found, and whose name could not be made durable.
    #[test]
    fn make_what_they_found_durable_before_commits_rest_on_it() {
        for n in 1.. {
            let sim = SimEnv::new(n);
            sim.fail_nth(&[Disk::SyncDir], n, ErrorKind::Other);
            let failed = options(sim.clone()).open(DIR).map(drop).is_err();
            sim.crash();
            sim.clear_faults();
            for seed in 0..20 {
                let sim = sim.fork(seed);
                let store = options(sim.clone()).open(DIR).unwrap();
                append(&store, "c", "first", Durability::Sync).unwrap();
                let loss = if seed % 2 == 0 { PowerLoss::Drop } else { PowerLoss::Sectors };
                lose(&sim, store, loss);
                let store = options(sim).open(DIR).unwrap_or_else(|e| panic!("sync {n}, seed {seed}: {e}"));
                assert_eq!(values(&store), ["first"], "sync {n}, seed {seed}");
            }
            if !failed {
                assert!(n > 3, "some syncs failed");
                return;
            }
        }
    }
}

mod refusals {
    use super::*;

    /// The fault: what a full disk left is zeroed, and the zeros are not synced (C1). The file system may have written the
    /// refused commit and not the zeros.
    #[test]
    fn by_a_full_disk_outlast_a_loss_of_power() {
        for seed in 0..300 {
            let sim = SimEnv::new(seed);
            let store = options(sim.clone()).open(DIR).unwrap();
            append(&store, "c", "first", Durability::Sync).unwrap();
            sim.fail_nth(&[Disk::Write], 1, ErrorKind::StorageFull);
            append(&store, "c", "refused", Durability::Sync).unwrap_err();
            lose(&sim, store, PowerLoss::Sectors);
            let store = options(sim).open(DIR).unwrap();
            assert_eq!(values(&store), ["first"], "seed {seed}");
        }
    }

    /// The fault: the marks of messages stay in the overlay when their group could not be written, and a later commit reads
    /// them.
    #[test]
    fn by_a_full_disk_leave_no_marks() {
        let sim = SimEnv::new(1);
        let store = options(sim.clone()).open(DIR).unwrap();
        let message = || Draft::new("u", 0, "x");
        store.commit(Batch::new().join("c", "bob").append("c", message())).unwrap();
        // Silent ones, whose ordinals are lower than those of the messages that get their seqs.
        let silent = || message().silent();
        sim.fail_nth(&[Disk::Write], 1, ErrorKind::StorageFull);
        let refused = Batch::new().append("c", silent()).append("c", silent()).append("c", silent()).clone();
        store.commit(&refused).unwrap_err();
        let mut batch = Batch::new();
        batch.append("c", message()).append("c", message()).read("c", "bob", 2);
        store.commit(&batch).unwrap();
        let read = store.membership("c", "bob").unwrap().unwrap().read;
        assert_eq!((read.seq, read.ordinal), (2, 2));
        assert_eq!(store.conversations("bob").list().unwrap().entries[0].unread, 1);
        // The overlay of the refused batch is used again.
        let mut batch = Batch::new();
        batch.append("c", message()).append("c", message()).read("c", "bob", 4);
        store.commit(&batch).unwrap();
        let read = store.membership("c", "bob").unwrap().unwrap().read;
        assert_eq!((read.seq, read.ordinal), (4, 4));
    }
}

mod upkeep {
    use super::*;

    /// A store with a full segment to seal.
    fn with_work(sim: &Arc<SimEnv>) -> Store {
        let store = options(sim.clone()).open(DIR).unwrap();
        append(&store, "c", "first", Durability::Sync).unwrap();
        append(&store, "c", &long(), Durability::Sync).unwrap();
        store
    }

    /// The faults: a step whose outcome on disk is unknown, since a manifest or the directory failed, stops no writer; or no
    /// later step, which would build upon it.
    #[test]
    fn of_unknown_outcome_stops_writers_and_upkeep() {
        for op in [Disk::Rename, Disk::SyncDir] {
            let mut failed = 0;
            for n in 1.. {
                let sim = SimEnv::new(1);
                let store = with_work(&sim);
                sim.fail_nth(&[op], n, ErrorKind::Other);
                let Err(error) = store.maintain() else { break };
                failed += 1;
                let (before, what) = (content(&sim), format!("{op:?} {n}: {error}"));
                let answer = append(&store, "c", "next", Durability::Sync);
                assert!(is_poisoned(&answer), "{what}, and a commit: {answer:?}");
                let answer = store.maintain();
                assert!(is_poisoned(&answer), "{what}, and the next step: {answer:?}");
                store.seal().unwrap_err();
                assert!(content(&sim) == before, "{what}, and the disk was changed");
                assert_eq!(values(&store), ["first", &long()], "reading goes on");
            }
            assert!(failed > 0, "{op:?} did not fail");
        }
    }

    /// The fault: closing does not look whether the store was poisoned, if there is nothing to write.
    #[test]
    fn that_failed_is_told_by_a_close_that_writes_nothing() {
        let sim = SimEnv::new(1);
        kill(&sim, with_work(&sim));
        let store = options(sim.clone()).open(DIR).unwrap();
        sim.fail_nth(&[Disk::SyncDir], 1, ErrorKind::Other);
        store.maintain().unwrap_err();
        let before = content(&sim);
        let closed = store.close();
        assert!(is_poisoned(&closed), "{closed:?}");
        assert!(content(&sim) == before, "nothing was written");
    }
}

mod pages {
    use super::*;

    const PAGE: u64 = 4096;

    fn with_large_log(sim: &Arc<SimEnv>) -> Options {
        options(sim.clone()).log_segment(1 << 20)
    }

    /// Messages that nothing compresses.
    fn fill(store: &Store, count: u64) {
        for i in 0..count {
            store.commit(Batch::new().append("c", Draft::new("u", 0, noise(i, 6000)))).unwrap();
        }
    }

    /// Reading all is told of damage in this page of this file.
    fn assert_told(store: &Store, file: &Path, page: u64) {
        let history = store.history("c").list().map(|messages| messages.len());
        match &history {
            Err(Error::Corruption { file: found, offset, .. }) => {
                assert_eq!((found.as_path(), offset / PAGE), (file, page));
            }
            _ => panic!("a damaged page {page} of {} was not noticed: {history:?}", file.display()),
        }
    }

    /// The fault: the bits that remember checked pages of a sealed file are shared by pages that lie 32 apart.
    #[test]
    fn of_a_sealed_file_are_each_checked() {
        let sim = SimEnv::new(1);
        let store = with_large_log(&sim).open(DIR).unwrap();
        fill(&store, 40);
        store.seal().unwrap();
        store.close().unwrap();
        drop(store);
        let file = &files(&sim, "seg-")[0];
        // Pages 4 and 36 are read in this order.
        sim.corrupt(file, 36 * PAGE + 1000, 1).unwrap();
        let store = with_large_log(&sim).open(DIR).unwrap();
        assert_eq!(store.recovery().damaged, 0, "the segment opens");
        assert_told(&store, file, 36);
    }

    /// The fault: the same in an unsealed log.
    #[test]
    fn of_an_unsealed_log_are_each_checked() {
        let sim = SimEnv::new(1);
        let store = with_large_log(&sim).open(DIR).unwrap();
        fill(&store, 40);
        let file = &files(&sim, "log-")[0];
        sim.corrupt(file, 36 * PAGE + 1000, 1).unwrap();
        assert_told(&store, file, 36);
    }

    /// The fault: a payload that changed on the disk under an open store is served from the unsealed log as it is.
    #[test]
    fn of_an_unsealed_log_are_checked_when_they_are_first_read() {
        let sim = SimEnv::new(1);
        let store = with_large_log(&sim).open(DIR).unwrap();
        // The log's header takes page 0; the payload covers page 1 and some of page 2.
        fill(&store, 2);
        let file = &files(&sim, "log-")[0];
        let (bytes, payload) = (sim.read_file(file).unwrap(), noise(0, 6000));
        let at = bytes.windows(payload.len()).position(|window| *window == payload).unwrap() as u64 + 100;
        assert_eq!(at / PAGE, 1);
        sim.corrupt(file, at, 1).unwrap();
        assert_told(&store, file, 1);
        let again = store.history("c").list();
        assert!(matches!(again, Err(Error::Corruption { .. })), "it is told each time: {again:?}");
        let second = store.history("c").last(1).unwrap();
        assert_eq!(second[0].payload, noise(1, 6000), "all else is served");
    }
}

mod answers {
    use super::*;

    fn fresh(sim: &Arc<SimEnv>) -> Store {
        let store = options(sim.clone()).tombstone_age(Duration::from_secs(3600)).open(DIR).unwrap();
        let mut batch = Batch::new();
        for channel in ["left", "right"] {
            batch.join(channel, "alice").append(channel, Draft::new("bob", 0, "first"));
        }
        store.commit(&batch).unwrap();
        store
    }

    fn told(update: Update) -> (Vec<String>, SyncToken) {
        let Update::Changes { changes, as_of, .. } = update else { panic!("told to start over") };
        let name = |change: &ListChange| match change {
            ListChange::Entry(entry) => String::from_utf8(entry.channel.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        (changes.iter().map(name).collect(), as_of)
    }

    /// The faults: a token, of a whole answer or of one that a limit cut, reaches beyond the moment of its answer.
    #[test]
    fn have_tokens_that_are_no_newer_than_their_view() {
        let store = fresh(&SimEnv::new(1));
        let begin = store.conversations("alice").list().unwrap().as_of;
        let send = |channel: &str| _ = append(&store, channel, "x", Durability::Sync).unwrap();
        send("left");
        send("right");
        let view = store.view().unwrap();
        send("left");
        for (limit, seen) in [(usize::MAX, vec!["left", "right"]), (1, vec!["left"])] {
            let (channels, as_of) = told(view.conversations("alice").limit(limit).since(&begin).unwrap());
            assert_eq!(channels, seen);
            let (rest, _) = told(store.conversations("alice").since(&as_of).unwrap());
            let missing = if limit == 1 { vec!["right", "left"] } else { vec!["left"] };
            assert_eq!(rest, missing, "after an answer of at most {limit}");
        }
    }

    /// The fault: a question about changes since a token is answered although a tombstone in question is so old that a merge
    /// may drop it, so that the answer depends on merges.
    #[test]
    fn about_changes_end_with_the_age_of_tombstones() {
        let sim = SimEnv::new(1);
        let store = fresh(&sim);
        let token = store.conversations("alice").list().unwrap().as_of;
        store.commit(Batch::new().leave("left", "alice")).unwrap();
        sim.advance(Duration::from_secs(3599));
        let update = store.conversations("alice").since(&token).unwrap();
        assert!(
            matches!(&update, Update::Changes { changes, .. } if matches!(&changes[..], [ListChange::Removed { .. }])),
            "{update:?}"
        );
        sim.advance(Duration::from_secs(1));
        assert_eq!(store.conversations("alice").since(&token).unwrap(), Update::Reset);
    }
}

#[test]
fn a_trim_that_is_lost_with_power_took_no_file_with_it() {
    let sim = SimEnv::new(5);
    let options = || Options::new().env(sim.clone()).background(false);
    let store = options().open("/store").unwrap();
    for n in 0..5 {
        store.commit(Batch::new().append("general", Draft::new("alice", n, "hi"))).unwrap();
    }
    store.seal().unwrap();
    store.commit(Batch::new().append("general", Draft::new("alice", 5, "there"))).unwrap();
    store.commit(Batch::new().trim("general", 5).durability(Durability::Buffered)).unwrap();
    while store.maintain().unwrap() {}
    sim.power_loss_with(PowerLoss::Drop);
    drop(store);
    let store = options().open("/store").unwrap();
    let from = store.head("general").unwrap().trimmed.seq + 1;
    let seqs: Vec<u64> = store.history("general").list().unwrap().iter().map(|message| message.seq).collect();
    assert_eq!(seqs, (from..=6).collect::<Vec<_>>());
    assert_eq!(store.stat().unwrap().messages, if from == 1 { 6 } else { 1 });
}

#[test]
fn an_erasure_that_is_lost_with_power_took_no_payload_with_it() {
    let sim = SimEnv::new(5);
    let options = || options(sim.clone()).log_segment(64 << 10).message_segment(8000);
    let store = options().open(DIR).unwrap();
    for i in 0..2 {
        store.commit(Batch::new().append("c", Draft::new("u", 0, noise(i, 4500)))).unwrap();
        store.seal().unwrap();
    }
    append(&store, "c", "opens a segment", Durability::Buffered).unwrap();
    store.commit(Batch::new().erase("c", 1).durability(Durability::Buffered)).unwrap();
    while store.maintain().unwrap() {}
    assert_eq!(store.stat().unwrap().segments.count, 1, "the two were merged");
    lose(&sim, store, PowerLoss::Drop);
    let store = options().open(DIR).unwrap();
    let message = store.history("c").to(1).list().unwrap().remove(0);
    let whole = message.state == MessageState::Sent && message.payload == noise(0, 4500);
    assert!(
        whole || message.payload.is_empty() && message.state != MessageState::Sent,
        "{:?}",
        message.state
    );
}
