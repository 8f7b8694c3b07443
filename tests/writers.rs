//! What is acknowledged or refused, whatever fails: the disk, another thread, a subscriber of events.

#![cfg(feature = "sim")]

mod hooks;

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use chanlog::env::{Access, Env, Op as Disk, PowerLoss, SimEnv};
use chanlog::{Batch, Draft, Durability, Error, Options, Store, Update};
use hooks::{
    DIR, Gate, Hooked, a_moment, append, content, files, gated, kill, long, noise, options, texts,
    wait_for_queued, wait_until,
};

/// Ends the machine with all that was not synced lost.
fn lose(sim: &SimEnv, store: Store) {
    sim.crash_after(0);
    drop(store);
    sim.power_loss_with(PowerLoss::Drop);
}

mod closes {
    use super::*;

    fn buffered(env: Arc<dyn Env>) -> Store {
        let store = options(env).open(DIR).unwrap();
        append(&store, "c", "makes the channel", Durability::Buffered).unwrap();
        append(&store, "c", "not synced yet", Durability::Buffered).unwrap();
        store
    }

    #[test]
    fn that_come_second_wait_for_the_first() {
        let (sim, gate) = (SimEnv::new(1), Arc::new(Gate::default()));
        let env = gated(&sim, &gate, "");
        let store = buffered(env);
        gate.shut();
        thread::scope(|scope| {
            let first = scope.spawn(|| store.close());
            gate.wait_for_one();
            let second = scope.spawn(|| store.close().map(|()| options(sim.clone()).open(DIR).map(drop)));
            a_moment();
            let early = second.is_finished();
            gate.open();
            first.join().unwrap().unwrap();
            let again = second.join().unwrap();
            assert!(!early, "the first close was still syncing: {again:?}");
            again.unwrap().expect("a store that was closed can be opened");
        });
    }

    #[test]
    fn that_failed_are_told_to_whoever_closes_again() {
        let sim = SimEnv::new(1);
        let store = buffered(sim.clone());
        sim.fail_nth(&[Disk::Sync], 1, ErrorKind::Other);
        let first = store.close().unwrap_err();
        let second = store.close().unwrap_err();
        assert_eq!(first.to_string(), second.to_string());
    }
}

mod refusals {
    use super::*;

    /// A store in which bob is a member.
    fn with_bob(env: Arc<dyn Env>) -> Store {
        let store = options(env).open(DIR).unwrap();
        store.commit(Batch::new().join("c", "bob").append("c", Draft::new("u", 0, "x"))).unwrap();
        store
    }

    /// Bob leaves, and then wants to mark something as read: both commits come while the writer is held up at `gate` by what
    /// `hold` does, which may be held up at its second gate until they have ended. How the two end.
    fn leave_and_read(
        store: &Store,
        [gate, until_then]: [&Gate; 2],
        hold: impl FnOnce() + Send,
        armed: &AtomicBool,
    ) -> (Result<(), Error>, Result<(), Error>) {
        gate.shut();
        thread::scope(|scope| {
            let holder = scope.spawn(hold);
            gate.wait_for_one();
            let leave = scope.spawn(|| store.commit(Batch::new().leave("c", "bob")).map(drop));
            wait_for_queued(store, 1);
            let read = scope.spawn(|| store.commit(Batch::new().read("c", "bob", 1)).map(drop));
            wait_for_queued(store, 2);
            armed.store(true, Ordering::SeqCst);
            gate.open();
            let ends = (leave.join().unwrap(), read.join().unwrap());
            until_then.open();
            holder.join().unwrap();
            ends
        })
    }

    #[test]
    fn do_not_rest_on_a_commit_that_was_not_written() {
        let (sim, gate, armed) =
            (SimEnv::new(1), Arc::new(Gate::default()), Arc::new(AtomicBool::new(false)));
        let (at, trap, made, writes) =
            (gate.clone(), armed.clone(), Mutex::new(String::new()), AtomicU64::new(0));
        // What is sealed meanwhile makes who was prepared before begin anew, each by itself.
        let sealing = Arc::new(Gate::default());
        sealing.shut();
        let sealer = sealing.clone();
        let env = Hooked::new(&sim, move |op, name| {
            if op == Disk::Create && name.starts_with("run-") {
                sealer.pass();
            }
            if op == Disk::Create && name.starts_with("log-") {
                *made.lock().unwrap() = name.into();
                at.pass();
            }
            // After the header of the segment that was held up comes the group's write.
            let ours = op == Disk::Write && *made.lock().unwrap() == name && trap.load(Ordering::SeqCst);
            if ours && writes.fetch_add(1, Ordering::SeqCst) == 1 {
                return Err(ErrorKind::StorageFull.into());
            }
            Ok(())
        });
        let store = with_bob(env);
        let (leave, read) = leave_and_read(&store, [&gate, &sealing], || store.seal().unwrap(), &armed);
        assert!(matches!(leave, Err(Error::OutOfSpace { .. })), "{leave:?}");
        assert!(store.membership("c", "bob").unwrap().is_some(), "he never left");
        read.expect("a member may mark what is read");
    }

    #[test]
    fn do_not_rest_on_a_commit_that_failed_after_one_that_is_not_durable() {
        let (sim, gate, armed) =
            (SimEnv::new(1), Arc::new(Gate::default()), Arc::new(AtomicBool::new(false)));
        let (at, trap, writes) = (gate.clone(), armed.clone(), AtomicU64::new(0));
        let env = Hooked::new(&sim, move |op, name| {
            if op == Disk::Write && name.starts_with("log-") {
                at.pass();
                // The write that was held up passes, that of the next group does not.
                if trap.load(Ordering::SeqCst) && writes.fetch_add(1, Ordering::SeqCst) == 1 {
                    return Err(ErrorKind::StorageFull.into());
                }
            }
            Ok(())
        });
        let store = with_bob(env);
        let hold = || _ = append(&store, "c", "holds the writer up", Durability::Sync);
        let (leave, read) = leave_and_read(&store, [&gate, &Gate::default()], hold, &armed);
        let member = store.membership("c", "bob").unwrap().is_some();
        let refused = matches!(read, Err(Error::NotMember { .. }));
        assert!(!(member && refused), "leave: {leave:?}; bob is still a member, and yet: {read:?}");
    }

    #[test]
    fn do_not_rest_on_what_a_loss_of_power_takes_back() {
        let sim = SimEnv::new(1);
        let store = with_bob(sim.clone());
        let leave = store.submit(Batch::new().leave("c", "bob")).unwrap();
        assert!(!leave.is_done() && store.membership("c", "bob").unwrap().is_some(), "nobody sees it yet");
        let refused = store.commit(Batch::new().read("c", "bob", 1)).unwrap_err();
        assert!(matches!(refused, Error::NotMember { op: 0, .. }), "{refused}");
        drop(leave);
        lose(&sim, store);
        let store = options(sim).open(DIR).unwrap();
        assert_eq!(store.membership("c", "bob").unwrap(), None, "his mark was refused because he had left");
    }
}

mod failures {
    use super::*;

    #[test]
    fn to_make_a_file_are_over_when_they_are_over() {
        let (sim, armed) = (SimEnv::new(1), Arc::new(AtomicBool::new(false)));
        let trap = armed.clone();
        let env = Hooked::new(&sim, move |op, name| {
            let log = op == Disk::Create && name.starts_with("log-");
            match log && trap.swap(false, Ordering::SeqCst) {
                true => Err(io::Error::from_raw_os_error(24)), // Too many open files.
                false => Ok(()),
            }
        });
        let store = options(env).open(DIR).unwrap();
        append(&store, "c", "first", Durability::Sync).unwrap();
        armed.store(true, Ordering::SeqCst);
        let error = append(&store, "c", &long(), Durability::Sync).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        append(&store, "c", "second", Durability::Sync).unwrap();
        append(&store, "c", &long(), Durability::Sync).unwrap();
        lose(&sim, store);
        let store = options(sim).open(DIR).unwrap();
        assert_eq!(texts(&store, "c").into_values().collect::<Vec<_>>(), ["first", "second", &long()]);
    }

    #[test]
    fn to_write_back_that_the_next_write_tells_of_are_failures_of_what_came_before() {
        // As on NFS: earlier bytes could not be written back, which the next write tells as a full disk, and only once.
        let sim = SimEnv::new(1);
        sim.tell_by_write(true);
        let store = options(sim.clone()).open(DIR).unwrap();
        append(&store, "c", "earlier", Durability::Sync).unwrap();
        // Longer than a sector, so that no sector that is written later holds all of it.
        let mut batch = Batch::new();
        batch.append("c", Draft::new("u", 0, "x".repeat(1500)));
        let first = store.submit(&batch).unwrap();
        sim.fail_write_back_at(&[Disk::Write], 1, ErrorKind::StorageFull);
        append(&store, "c", "second", Durability::Sync).unwrap_err();
        let first = first.wait();
        lose(&sim, store);
        let kept = texts(&options(sim).open(DIR).unwrap(), "c").len();
        assert!(first.is_err() || kept == 2, "acknowledged as durable, and lost: {first:?}");
    }

    #[test]
    fn to_write_back_beside_a_sync_are_not_proved_away_by_it() {
        // The write takes the only word of what was lost, so that the sync that is under way hears of nothing.
        let (sim, gate) = (SimEnv::new(1), Arc::new(Gate::default()));
        sim.tell_by_write(true);
        let store = options(gated(&sim, &gate, "log-")).open(DIR).unwrap();
        append(&store, "c", "earlier", Durability::Sync).unwrap();
        gate.shut();
        let answer = thread::scope(|scope| {
            let writer = scope.spawn(|| append(&store, "c", &"x".repeat(1500), Durability::Sync));
            gate.wait_for_one();
            sim.fail_write_back_at(&[Disk::Write], 1, ErrorKind::StorageFull);
            let writes = sim.stats().count(Disk::Write);
            let refused = scope.spawn(|| append(&store, "c", "refused", Durability::Sync));
            wait_until(|| sim.stats().count(Disk::Write) > writes);
            a_moment();
            gate.open();
            refused.join().unwrap().unwrap_err();
            writer.join().unwrap()
        });
        lose(&sim, store);
        let kept = texts(&options(sim).open(DIR).unwrap(), "c").len();
        assert!(answer.is_err() || kept == 2, "acknowledged as {answer:?}, and lost");
    }

    /// The pages of a file that were not synced can't be written back, and are clean from now on.
    fn lose_pages(sim: &SimEnv, name: &str) {
        sim.fail_nth(&[Disk::Sync], 1, ErrorKind::StorageFull);
        let dir = sim.open_dir(DIR.as_ref(), false).unwrap();
        dir.open(name.trim_end_matches(".tmp"), Access::Write).unwrap().sync().unwrap_err();
    }

    #[test]
    fn of_a_sync_are_not_told_to_another_one_that_runs_beside_it() {
        let (sim, gate) = (SimEnv::new(1), Arc::new(Gate::default()));
        let (armed, full) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let env = {
            let (sim, gate, armed, full) = (sim.clone(), gate.clone(), armed.clone(), full.clone());
            let syncs = AtomicU64::new(0);
            Hooked::new(&sim.clone(), move |op, name| {
                if op == Disk::Write && name.starts_with("log-") && full.swap(false, Ordering::SeqCst) {
                    return Err(ErrorKind::StorageFull.into());
                }
                if op != Disk::Sync || !armed.load(Ordering::SeqCst) {
                    return Ok(());
                }
                if syncs.fetch_add(1, Ordering::SeqCst) == 0 {
                    gate.pass();
                    return Ok(());
                }
                // One open file tells of a failed write-back once: here to whoever syncs second, so that the first one hears
                // of nothing.
                lose_pages(&sim, name);
                gate.open();
                a_moment();
                Err(ErrorKind::Other.into())
            })
        };
        let store = options(env).open(DIR).unwrap();
        append(&store, "c", "first", Durability::Sync).unwrap();
        gate.shut();
        armed.store(true, Ordering::SeqCst);
        let answer = thread::scope(|scope| {
            let writer = scope.spawn(|| append(&store, "c", &"x".repeat(1500), Durability::Sync));
            gate.wait_for_one();
            full.store(true, Ordering::SeqCst);
            let refused = scope.spawn(|| append(&store, "c", "refused", Durability::Sync));
            wait_until(|| !full.load(Ordering::SeqCst));
            a_moment();
            gate.open();
            refused.join().unwrap().unwrap_err();
            writer.join().unwrap()
        });
        armed.store(false, Ordering::SeqCst);
        lose(&sim, store);
        let kept = texts(&options(sim).open(DIR).unwrap(), "c").len();
        assert!(answer.is_err() || kept == 2, "acknowledged as {answer:?}, and lost");
    }

    #[test]
    fn to_find_room_beside_a_sync_do_not_make_the_log_sync_for_ever() {
        let (sim, gate) = (SimEnv::new(1), Arc::new(Gate::default()));
        let (full, syncs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let env = {
            let (gate, full, syncs) = (gate.clone(), full.clone(), syncs.clone());
            Hooked::new(&sim, move |op, name| match op {
                Disk::Write if name.starts_with("log-") && full.swap(false, Ordering::SeqCst) => {
                    Err(ErrorKind::StorageFull.into())
                }
                Disk::Sync => {
                    gate.pass();
                    match syncs.fetch_add(1, Ordering::SeqCst) {
                        // What would never end ends as a failure.
                        1000.. => Err(ErrorKind::Other.into()),
                        _ => Ok(()),
                    }
                }
                _ => Ok(()),
            })
        };
        let store = options(env).open(DIR).unwrap();
        append(&store, "c", "first", Durability::Sync).unwrap();
        let before = syncs.load(Ordering::SeqCst);
        gate.shut();
        thread::scope(|scope| {
            let writer = scope.spawn(|| append(&store, "c", "second", Durability::Sync));
            gate.wait_for_one();
            full.store(true, Ordering::SeqCst);
            let refused = scope.spawn(|| append(&store, "c", "refused", Durability::Sync));
            wait_until(|| !full.load(Ordering::SeqCst));
            a_moment();
            gate.open();
            assert!(matches!(refused.join().unwrap(), Err(Error::OutOfSpace { .. })));
            assert_eq!(writer.join().unwrap().unwrap(), 2);
        });
        let syncs = syncs.load(Ordering::SeqCst) - before;
        assert!(
            syncs <= 3,
            "{syncs} syncs: the one that proves nothing, one of what is written again, one of zeroes"
        );
        assert_eq!(append(&store, "c", "third", Durability::Sync).unwrap(), 3);
    }

    #[test]
    fn of_a_rolls_directory_sync_stop_the_sealer_too() {
        let (sim, gate) = (SimEnv::new(1), Arc::new(Gate::default()));
        let env = gated(&sim, &gate, "run-");
        let store = options(env).open(DIR).unwrap();
        append(&store, "c", "first", Durability::Sync).unwrap();
        append(&store, "c", &long(), Durability::Sync).unwrap();
        gate.shut();
        let (rolled, sealed) = thread::scope(|scope| {
            let sealer = scope.spawn(|| store.maintain());
            // The run is written, and its name is not durable.
            gate.wait_for_one();
            sim.fail_nth(&[Disk::SyncDir], 1, ErrorKind::Other);
            let rolled = append(&store, "c", &long(), Durability::Sync);
            gate.open();
            (rolled, sealer.join().unwrap())
        });
        assert!(rolled.is_err() && sealed.is_err(), "the roll said {rolled:?}, the seal {sealed:?}");
        lose(&sim, store);
        let store = options(sim).open(DIR).expect("nothing rests on names that may be lost");
        assert_eq!(texts(&store, "c").len(), 2);
    }

    #[test]
    fn of_a_sync_give_no_seq_twice() {
        // After a failed sync the pages are clean, so that the system may drop them or keep them.
        for loss in [PowerLoss::Drop, PowerLoss::Keep] {
            let sim = SimEnv::new(1);
            let store = options(sim.clone()).open(DIR).unwrap();
            append(&store, "c", "makes the channel", Durability::Buffered).unwrap();
            let seen = append(&store, "c", "seen by readers", Durability::Buffered).unwrap();
            assert_eq!(texts(&store, "c").len(), 2);
            sim.fail_nth(&[Disk::Sync], 1, ErrorKind::Other);
            store.sync().unwrap_err();
            sim.crash_after(0);
            drop(store);
            sim.power_loss_with(loss);
            let store = options(sim).open(DIR).unwrap();
            let next = append(&store, "c", "another", Durability::Sync).unwrap();
            assert!(next > seen, "{loss:?}: seq {seen} is given twice");
        }
    }

    #[test]
    fn to_write_the_log_stop_writers_and_not_readers() {
        let sim = SimEnv::new(1);
        let store = options(sim.clone()).open(DIR).unwrap();
        append(&store, "c", "first", Durability::Sync).unwrap();
        sim.fail_nth(&[Disk::Write], 1, ErrorKind::Other);
        append(&store, "c", "in doubt", Durability::Sync).unwrap_err();
        let answer = append(&store, "c", "next", Durability::Sync);
        assert!(matches!(answer, Err(Error::Poisoned { .. })), "{answer:?}");
        assert_eq!(texts(&store, "c").into_values().collect::<Vec<_>>(), ["first"]);
    }

    #[test]
    fn to_seal_are_told_to_who_waits_for_room() {
        let sim = SimEnv::new(1);
        let env = Hooked::new(&sim, |op, name| match op == Disk::Create && name.starts_with("run-") {
            true => Err(ErrorKind::Other.into()),
            false => Ok(()),
        });
        let store = options(env).background(true).unsealed(1).open(DIR).unwrap();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let failed = (0..8).find_map(|_| append(&store, "c", &long(), Durability::Sync).err());
            tell.send(failed).unwrap();
        });
        let failed = told.recv_timeout(Duration::from_secs(20)).expect("nobody waits for ever");
        assert!(matches!(failed, Some(Error::Io { .. })), "{failed:?}");
    }

    #[test]
    fn of_a_caller_that_panics_half_way_are_told_to_the_others() {
        for op in [Disk::Write, Disk::Sync] {
            let (sim, armed) = (SimEnv::new(1), Arc::new(AtomicBool::new(false)));
            let trap = armed.clone();
            let env = Hooked::new(&sim, move |at, name| {
                let now = at == op && name.starts_with("log-") && trap.swap(false, Ordering::SeqCst);
                assert!(!now, "a panic on purpose");
                Ok(())
            });
            let store = options(env).open(DIR).unwrap();
            append(&store, "c", "first", Durability::Sync).unwrap();
            armed.store(true, Ordering::SeqCst);
            let send = || append(&store, "c", "in doubt", Durability::Sync);
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(send)).unwrap_err();
            let (tell, told) = mpsc::channel();
            thread::spawn(move || tell.send(append(&store, "c", "next", Durability::Sync)));
            let answer = told.recv_timeout(Duration::from_secs(20)).expect("nobody waits for ever");
            assert!(matches!(answer, Err(Error::Poisoned { .. })), "{op:?}: {answer:?}");
        }
    }

    #[test]
    fn of_a_background_thread_are_told_to_writers() {
        let env = Hooked::new(&SimEnv::new(1), |op, name| {
            assert!(!(op == Disk::Create && name.starts_with("run-")), "a fault on purpose");
            Ok(())
        });
        let store = Options::new().env(env).log_segment(8 << 10).unsealed(1).open(DIR).unwrap();
        let (done, answers) = mpsc::channel();
        thread::spawn(move || {
            for _ in 0..4 {
                done.send(append(&store, "c", &long(), Durability::Sync).map(drop)).unwrap();
            }
        });
        let answers: Vec<_> =
            (0..4).map_while(|_| answers.recv_timeout(Duration::from_secs(20)).ok()).collect();
        assert_eq!(answers.len(), 4, "a commit hangs after {answers:?}");
        assert!(matches!(&answers[3], Err(Error::Poisoned { .. } | Error::Panicked { .. })), "{answers:?}");
    }
}

mod disks {
    use super::*;

    #[test]
    fn that_are_full_let_a_store_open_and_be_read() {
        let sim = SimEnv::new(1);
        let store = options(sim.clone()).open(DIR).unwrap();
        append(&store, "c", "first", Durability::Buffered).unwrap();
        kill(&sim, store);
        sim.quota(Some(content(&sim).values().map(|bytes| bytes.len() as u64).sum()));
        let store = options(sim.clone()).open(DIR).unwrap();
        assert_eq!(texts(&store, "c").into_values().collect::<Vec<_>>(), ["first"]);
        let error = append(&store, "c", "no room", Durability::Sync).unwrap_err();
        assert!(matches!(error, Error::OutOfSpace { .. }), "{error}");
        sim.quota(None);
        append(&store, "c", "room", Durability::Sync).unwrap();
        assert_eq!(texts(&store, "c").into_values().collect::<Vec<_>>(), ["first", "room"]);
    }

    #[test]
    fn that_may_only_be_read_are_not_changed() {
        let sim = SimEnv::new(1);
        let store = options(sim.clone()).open(DIR).unwrap();
        store.commit(Batch::new().join("c", "bob").append("c", Draft::new("u", 0, "sealed"))).unwrap();
        store.seal().unwrap();
        append(&store, "c", "in the log", Durability::Buffered).unwrap();
        kill(&sim, store);
        let (before, ops) = (content(&sim), sim.ops());
        let store = options(sim.clone()).read_only(true).open(DIR).unwrap();
        assert_eq!(texts(&store, "c").into_values().collect::<Vec<_>>(), ["sealed", "in the log"]);
        assert_eq!(store.conversations("bob").list().unwrap().entries[0].unread, 2);
        let refused = [
            append(&store, "c", "no", Durability::Sync).map(drop),
            store.seal(),
            store.sync(),
            store.maintain().map(drop),
        ];
        assert!(refused.iter().all(|answer| matches!(answer, Err(Error::ReadOnly))), "{refused:?}");
        store.close().unwrap();
        assert_eq!((content(&sim), sim.ops()), (before, ops));
    }

    #[test]
    fn are_not_filled_by_one_crash_after_another() {
        let sim = SimEnv::new(1);
        let options = || options(sim.clone()).log_segment(1 << 20).unsealed(2);
        for _ in 0..40 {
            let store = options().open(DIR).unwrap();
            append(&store, "c", "x", Durability::Buffered).unwrap();
            kill(&sim, store);
        }
        let store = options().open(DIR).unwrap();
        let logs = store.stat().unwrap().logs;
        assert!(
            logs.count <= 4,
            "{} log segments of {} bytes, and two may await sealing",
            logs.count,
            logs.bytes
        );
        assert_eq!(texts(&store, "c").len(), 40);
    }
}

mod merges {
    use super::*;

    /// Steps until there is nothing to do. Returns how many steps failed.
    fn maintain(store: &Store) -> usize {
        let mut failed = 0;
        for _ in 0..100 {
            match store.maintain() {
                Ok(true) => {}
                Ok(false) => return failed,
                Err(_) => failed += 1,
            }
        }
        panic!("there is always something to do, and {failed} steps failed");
    }

    #[test]
    fn go_on_around_a_damaged_page() {
        let sim = SimEnv::new(1);
        let options = || options(sim.clone()).message_segment(40 << 10);
        let store = options().open(DIR).unwrap();
        let seal = |store: &Store, i: u64| {
            for payload in [noise(2 * i, 6000), noise(2 * i + 1, 6000)] {
                store.commit(Batch::new().append("c", Draft::new("u", 0, payload))).unwrap();
            }
            store.seal().unwrap();
        };
        (0..3).for_each(|i| seal(&store, i));
        store.close().unwrap();
        drop(store);
        sim.corrupt(&files(&sim, "seg-")[0], 4096 + 100, 1).unwrap();
        let store = options().open(DIR).unwrap();
        assert_eq!(store.recovery().damaged, 0, "the segment opens");
        let mut failed = 0;
        for i in 3..43 {
            seal(&store, i);
            failed += maintain(&store);
        }
        let stat = store.stat().unwrap();
        assert!(stat.segments.count < 20, "{} segments, {failed} steps failed", stat.segments.count);
        assert!(failed <= 1, "{failed} steps failed, and one would do to know the page");
        let before = sim.stats().bytes_written;
        assert!(!store.maintain().unwrap());
        assert_eq!(sim.stats().bytes_written, before, "nothing is written for a merge that can't be");
    }

    #[test]
    fn of_long_channels_leave_out_what_was_erased_in_a_block_of_its_own() {
        let sim = SimEnv::new(1);
        let store = options(sim.clone()).log_segment(1 << 20).open(DIR).unwrap();
        for i in 0..40 {
            store.commit(Batch::new().append("c", Draft::new("u", 0, noise(i, 6000)))).unwrap();
        }
        store.seal().unwrap();
        store.commit(Batch::new().erase("c", 20)).unwrap();
        store.erase_now().unwrap();
        let gone = &noise(19, 6000)[100..164];
        for (path, bytes) in content(&sim) {
            assert!(!bytes.windows(gone.len()).any(|part| part == gone), "{}", path.display());
        }
        assert_eq!(store.history("c").list().unwrap().len(), 40);
    }

    #[test]
    fn of_young_runs_keep_what_hides_the_rows_of_old_ones() {
        let sim = SimEnv::new(1);
        let age = Duration::from_secs(60);
        let store = options(sim.clone()).log_segment(4 << 20).tombstone_age(age).open(DIR).unwrap();
        let mut batch = Batch::new();
        (0..10_000).for_each(|i| _ = batch.join("c", format!("user {i}")));
        store.commit(&batch).unwrap();
        store.seal().unwrap();
        store.commit(Batch::new().leave("c", "user 7")).unwrap();
        store.seal().unwrap();
        sim.advance(age * 60);
        for _ in 0..3 {
            append(&store, "d", "x", Durability::Sync).unwrap();
            store.seal().unwrap();
        }
        maintain(&store);
        assert_eq!(store.stat().unwrap().runs.count, 2, "the young ones were merged");
        assert_eq!(store.membership("c", "user 7").unwrap(), None);
    }

    #[test]
    fn of_segments_go_on_beside_a_damaged_run() {
        let sim = SimEnv::new(1);
        let options = || options(sim.clone()).message_segment(40 << 10);
        let store = options().open(DIR).unwrap();
        for i in 0..3 {
            let mut batch = Batch::new();
            (0..3000).for_each(|n| _ = batch.join(format!("channel {i} {n}"), format!("user {}", n % 50)));
            store.commit(&batch).unwrap();
            append(&store, "c", &"x".repeat(3000), Durability::Sync).unwrap();
            store.seal().unwrap();
        }
        store.close().unwrap();
        drop(store);
        // A byte of the rows, which neither an opening reads nor any commit below: heads lie before them, names after them.
        let run = &files(&sim, "run-")[0];
        let len = sim.read_file(run).unwrap().len() as u64;
        sim.corrupt(run, len / 4, 1).unwrap();
        let store = options().open(DIR).unwrap();
        for i in 0..40 {
            append(&store, "c", &i.to_string().repeat(900), Durability::Sync).unwrap();
            store.seal().unwrap();
            maintain(&store);
        }
        let stat = store.stat().unwrap();
        assert!(stat.segments.count < 20 && stat.runs.count < 20, "{stat:?}");
    }
}

mod tokens {
    use super::*;

    /// A backup is restored, and the store goes on from there: a token of the time that is gone names a state that this store
    /// never went through.
    #[test]
    fn of_a_lost_time_line_are_void() {
        for clean in [true, false] {
            let sim = SimEnv::new(1);
            let store = options(sim.clone()).open(DIR).unwrap();
            store.commit(Batch::new().join("c", "alice").join("d", "alice")).unwrap();
            append(&store, "c", "x", Durability::Sync).unwrap();
            if clean {
                store.close().unwrap();
                drop(store);
            } else {
                kill(&sim, store);
            }
            let backup = sim.fork(2);
            let store = options(sim).open(DIR).unwrap();
            (0..5).for_each(|_| _ = append(&store, "c", "lost", Durability::Sync).unwrap());
            let token = store.conversations("alice").list().unwrap().as_of;
            drop(store);
            let store = options(backup).open(DIR).unwrap();
            // With as many versions as the other line had.
            (0..5).for_each(|_| _ = append(&store, "d", "never told", Durability::Sync).unwrap());
            let answer = store.conversations("alice").since(&token).unwrap();
            assert_eq!(answer, Update::Reset, "clean {clean}");
        }
    }
}

mod lost_versions {
    use super::*;

    #[test]
    fn make_tokens_void_also_when_the_log_that_told_of_it_is_sealed() {
        let sim = SimEnv::new(1);
        let store = options(sim.clone()).open(DIR).unwrap();
        store.commit(Batch::new().join("c", "alice").append("c", Draft::new("u", 0, "kept"))).unwrap();
        append(&store, "d", "makes a channel", Durability::Sync).unwrap();
        append(&store, "c", "opens a segment", Durability::Buffered).unwrap();
        store.sync().unwrap();
        append(&store, "c", "lost", Durability::Buffered).unwrap();
        let token = store.conversations("alice").list().unwrap().as_of;
        lose(&sim, store);
        let store = options(sim.clone()).open(DIR).unwrap();
        assert_eq!(texts(&store, "c").len(), 2);
        // It takes the version that was lost.
        append(&store, "d", "never told", Durability::Sync).unwrap();
        append(&store, "d", "never told", Durability::Sync).unwrap();
        for _ in 0..2 {
            assert_eq!(store.conversations("alice").since(&token).unwrap(), Update::Reset);
            store.seal().unwrap();
            while store.maintain().unwrap() {}
        }
        kill(&sim, store);
        let store = options(sim).open(DIR).unwrap();
        assert_eq!(store.conversations("alice").since(&token).unwrap(), Update::Reset);
    }
}

mod subscribers {
    use super::*;

    /// A subscriber of events that does something at each.
    struct Subscriber<F>(F);

    impl<F: Fn() + Send + Sync + 'static> tracing::Subscriber for Subscriber<F> {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {
            (self.0)();
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    /// Commits, rolls, seals, merges and a close, with a failed sync before commit `fails` (0 = none), each of which may
    /// panic. Returns what was acknowledged.
    fn session(sim: &Arc<SimEnv>, fails: usize) -> Vec<String> {
        let mut acknowledged = Vec::new();
        let try_out =
            |step: &mut dyn FnMut()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(step)).is_ok();
        let mut opened = None;
        try_out(&mut || opened = options(sim.clone()).open(DIR).ok());
        let Some(store) = opened else { return acknowledged };
        for i in 1..=6 {
            if i == fails {
                sim.fail_nth(&[Disk::Sync], 1, ErrorKind::Other);
            }
            // Longer than a sector, so that no later message's sector holds all of it; every other one rolls.
            let text = format!("{i} {}", "x".repeat(if i % 2 == 0 { 9000 } else { 2000 }));
            let mut answer = None;
            try_out(&mut || answer = append(&store, "c", &text, Durability::Sync).ok());
            acknowledged.extend(answer.map(|_| text));
            try_out(&mut || _ = store.maintain());
        }
        try_out(&mut || _ = store.seal());
        try_out(&mut || _ = store.close());
        sim.crash_after(0);
        let mut store = Some(store);
        try_out(&mut || drop(store.take()));
        acknowledged
    }

    #[test]
    fn that_panic_at_any_event_cost_no_acknowledged_commit() {
        for fails in 0..=6 {
            for n in 1.. {
                let sim = SimEnv::new(1);
                let (left, panicked) = (AtomicU64::new(n), Arc::new(AtomicBool::new(false)));
                let noted = panicked.clone();
                let subscriber = Subscriber(move || {
                    if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                        noted.store(true, Ordering::SeqCst);
                        panic!("the subscriber's own fault");
                    }
                });
                let acknowledged = tracing::subscriber::with_default(subscriber, || session(&sim, fails));
                sim.power_loss_with(PowerLoss::Drop);
                let store = options(sim).open(DIR).unwrap();
                let kept: Vec<String> = texts(&store, "c").into_values().collect();
                let lost = acknowledged.iter().filter(|text| !kept.contains(text)).count();
                assert_eq!(lost, 0, "sync {fails} fails and event {n} panics");
                if !panicked.load(Ordering::SeqCst) {
                    assert!(n > 1, "there were events");
                    break;
                }
            }
        }
    }

    #[test]
    fn may_ask_the_store() {
        let (done, finished) = mpsc::channel();
        thread::spawn(move || {
            let sim = SimEnv::new(1);
            let (store, asked) = (options(sim.clone()).open(DIR).unwrap(), Arc::new(AtomicU64::new(0)));
            let (handle, count) = (store.clone(), asked.clone());
            let subscriber = Subscriber(move || {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = (handle.stat(), handle.head("c"), handle.history("c").list(), handle.view());
                let _ = handle.conversations("u").list();
            });
            tracing::subscriber::with_default(subscriber, || {
                append(&store, "c", &long(), Durability::Sync).unwrap();
                store.seal().unwrap();
                sim.fail_nth(&[Disk::Sync], 1, ErrorKind::Other);
                append(&store, "c", "x", Durability::Sync).unwrap_err();
                store.close().unwrap_err();
            });
            done.send(asked.load(Ordering::SeqCst)).unwrap();
        });
        let asked = finished.recv_timeout(Duration::from_secs(20)).expect("a subscriber waits for ever");
        assert!(asked > 0, "there were events");
    }
}
