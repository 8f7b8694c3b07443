//! Threads in very many orders. Where a lock is taken, an atomic looked at or a thread started, shuttle decides who goes on, and
//! an engine in which everybody waits is a failure too. Empty but for builds with `--cfg shuttle`, in which the engine's
//! locks and threads are shuttle's (`src/env/sync_shuttle.rs`).
//!
//! A schedule that fails is kept as a file, whose name is printed; `CHANLOG_SCHEDULE=FILE` runs it again, of that one test.

#![cfg(all(shuttle, feature = "sim"))]

mod figures;
mod hooks;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chanlog::env::{Op as Disk, PowerLoss, SimEnv};
use chanlog::{Batch, Draft, Durability, Error, Message, Options, Result, Store};
use hooks::{DIR, Hooked};
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner, future, thread};

/// Schedules of each test and of each way to choose them.
const SCHEDULES: usize = 200;
/// More than any schedule takes that comes to an end.
const STEPS: usize = 2_000_000;

/// Runs a scenario under many schedules: random ones, and ones with few changes of who goes first, which find what needs a long
/// wait at one place.
fn explore(scenario: impl Fn() + Copy + Send + Sync + 'static) {
    explore_some(SCHEDULES, scenario);
}

/// The same with another number of schedules.
fn explore_some(schedules: usize, scenario: impl Fn() + Copy + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    config.silence_warnings = true;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config.failure_persistence = FailurePersistence::File(Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR"))));
    if let Some(kept) = std::env::var_os("CHANLOG_SCHEDULE") {
        let replay = ReplayScheduler::new_from_file(kept).expect("a file of a schedule");
        Runner::new(replay, config).run(scenario);
        return;
    }
    let count = schedules * figures::scale() as usize;
    let random = std::env::var_os("CHANLOG_RANDOM").is_some();
    let run = |fixed: Box<dyn Scheduler + Send>, drawn: Box<dyn Scheduler + Send>| {
        Runner::new(if random { drawn } else { fixed }, config.clone()).run(scenario)
    };
    let random =
        run(Box::new(RandomScheduler::new_from_seed(1, count)), Box::new(RandomScheduler::new(count)));
    let few = run(Box::new(PctScheduler::new_from_seed(1, 3, count)), Box::new(PctScheduler::new(3, count)));
    figures::figure("schedules of threads", (random + few) as u64);
}

/// Small files, and no thread that wakes by the clock alone.
fn options(sim: &Arc<SimEnv>) -> Options {
    Options::new()
        .env(sim.clone())
        .log_segment(8 << 10)
        .message_segment(8 << 10)
        .block_cache(0)
        .headroom(0)
        .scrub_interval(Duration::ZERO)
        .erase_within(Duration::ZERO)
        .background(false)
}

fn message(channel: &str, text: &str, durability: Durability) -> Batch {
    let mut batch = Batch::new();
    batch.append(channel, Draft::new("u", 0, text.to_owned())).durability(durability);
    batch
}

fn text(message: &Message) -> String {
    String::from_utf8(message.payload.to_vec()).unwrap().trim_start().to_owned()
}

/// The texts of a channel, each of which must be there once.
fn texts(store: &Store, channel: &str) -> BTreeSet<String> {
    let messages = store.history(channel).list().unwrap();
    let texts: BTreeSet<_> = messages.iter().map(text).collect();
    assert_eq!(texts.len(), messages.len(), "a message is there twice");
    texts
}

/// What became of commits.
#[derive(Default)]
struct Told {
    /// Those that were answered with `Ok`.
    done: BTreeSet<String>,
    /// Those that were answered with an error.
    failed: BTreeMap<String, Error>,
}

/// Commits in as many threads as there are texts what `batch` makes of them. Each sees its own commit once it is acknowledged.
fn commit_all(store: &Arc<Store>, texts: &[&'static str], batch: fn(usize, &str) -> Batch) -> Told {
    let writers = texts.iter().copied().enumerate().map(|(number, sent)| {
        let store = store.clone();
        let work = move || -> Result<()> {
            let receipt = store.commit(&batch(number, sent))?;
            let seq = receipt.outcomes()[0].seq().unwrap();
            match store.history("c").from(seq).limit(1).list() {
                Ok(seen) => assert_eq!(text(&seen[0]), sent, "what is acknowledged is seen"),
                Err(error) => assert!(matches!(error, Error::Closed), "{error}"),
            }
            Ok(())
        };
        (sent, thread::spawn(work))
    });
    let mut told = Told::default();
    for (sent, writer) in writers.collect::<Vec<_>>() {
        match writer.join().unwrap() {
            Ok(()) => _ = told.done.insert(sent.to_owned()),
            Err(error) => _ = told.failed.insert(sent.to_owned(), error),
        }
    }
    told
}

/// Ends the process and cuts the power, which takes all that is not durable.
fn lose(sim: &Arc<SimEnv>, store: Arc<Store>) -> Store {
    sim.crash_after(0);
    drop(Arc::into_inner(store).expect("nobody else has the store"));
    sim.power_loss_with(PowerLoss::Drop);
    // Where all came together, no operation was left to fail.
    sim.clear_faults();
    options(sim).open(DIR).unwrap()
}

const EIGHT: [&str; 8] = ["one", "two", "three", "four", "five", "six", "seven", "eight"];
const FOUR: [&str; 4] = ["one", "two", "three", "four"];

fn sync(_: usize, text: &str) -> Batch {
    message("c", text, Durability::Sync)
}

fn mixed(number: usize, text: &str) -> Batch {
    message("c", text, if number.is_multiple_of(2) { Durability::Sync } else { Durability::Buffered })
}

/// So wide that each needs a log segment of its own.
fn wide(number: usize, text: &str) -> Batch {
    mixed(number, &format!("{text:>2500}"))
}

/// Commits are queued, led, synced and woken so that each is answered, in one order for all, and with few syncs.
#[test]
fn each_of_many_writers_is_answered_and_durable() {
    explore(|| {
        let sim = SimEnv::new(1);
        let store = Arc::new(options(&sim).open(DIR).unwrap());
        let told = commit_all(&store, &EIGHT, sync);
        assert_eq!(told.done, EIGHT.map(String::from).into());
        assert!(store.stat().unwrap().syncs <= 10);
        assert_eq!(texts(&lose(&sim, store), "c"), told.done);
    });
}

/// Of those who wait for a sync that fails, and of all later ones, nobody is told that all is well; nobody waits for ever;
/// what was acknowledged before is there.
#[test]
fn a_sync_that_fails_among_writers_acknowledges_nothing_that_is_lost() {
    explore(|| {
        let sim = SimEnv::new(1);
        let store = Arc::new(options(&sim).open(DIR).unwrap());
        store.commit(&message("c", "zero", Durability::Sync)).unwrap();
        // Some have to come together for the second one.
        sim.fail_nth(&[Disk::Sync], 2, ErrorKind::Other);
        let told = commit_all(&store, &EIGHT, sync);
        assert!(told.failed.values().all(|error| matches!(error, Error::Poisoned { .. })));
        assert!(!told.done.is_empty(), "the first sync went well");
        let shown = texts(&store, "c");
        let kept = texts(&lose(&sim, store), "c");
        assert!(told.done.is_subset(&kept), "{:?} of {kept:?}", told.done);
        assert!(
            shown.is_subset(&kept),
            "who asked for a sync is shown when it is durable: {shown:?} of {kept:?}"
        );
    });
}

/// The same with buffered ones among them, which may be lost, and are still published in order.
#[test]
fn a_sync_that_fails_keeps_what_asked_for_it_among_buffered_ones() {
    explore(|| {
        let sim = SimEnv::new(1);
        let store = Arc::new(options(&sim).open(DIR).unwrap());
        store.commit(&message("c", "zero", Durability::Buffered)).unwrap();
        sim.fail_nth(&[Disk::Sync], 2, ErrorKind::Other);
        let told = commit_all(&store, &FOUR, mixed);
        let shown = texts(&store, "c");
        let kept = texts(&lose(&sim, store), "c");
        for asked in ["one", "three"] {
            let seen = told.done.contains(asked) || shown.contains(asked);
            assert!(!seen || kept.contains(asked), "{asked} of {kept:?}");
        }
    });
}

/// A write that fails is of unknown outcome: nobody commits after it, also not what was prepared before.
#[test]
fn a_write_that_fails_among_writers_stops_all_of_them() {
    explore(|| {
        let sim = SimEnv::new(1);
        let store = Arc::new(options(&sim).open(DIR).unwrap());
        store.commit(&message("c", "zero", Durability::Sync)).unwrap();
        sim.fail_nth(&[Disk::Write], 2, ErrorKind::Other);
        let told = commit_all(&store, &FOUR, sync);
        assert!(told.failed.values().all(|error| matches!(error, Error::Poisoned { .. })));
        let after = store.commit(&message("c", "after", Durability::Sync));
        assert!(told.failed.is_empty() || matches!(after, Err(Error::Poisoned { .. })));
        assert!(told.done.is_subset(&texts(&lose(&sim, store), "c")));
    });
}

/// A send that is tried again by several threads at once is one message, and a user who joins at once in several is one member.
#[test]
fn the_same_of_several_writers_is_done_once() {
    explore(|| {
        let sim = SimEnv::new(1);
        let store = Arc::new(options(&sim).open(DIR).unwrap());
        let writers = (0..3).map(|_| {
            let store = store.clone();
            thread::spawn(move || {
                let mut batch = Batch::new();
                batch.append("c", Draft::new("u", 0, "once").client_id("one")).join("c", "u");
                store.commit(&batch).unwrap().outcomes()[0].seq()
            })
        });
        let seqs = writers.collect::<Vec<_>>().into_iter().map(|writer| writer.join().unwrap());
        assert!(seqs.collect::<Vec<_>>().iter().all(|seq| *seq == Some(1)));
        assert_eq!(store.head("c").unwrap().members, 1);
        assert_eq!(texts(&lose(&sim, store), "c"), ["once".to_owned()].into());
    });
}

/// A batch that is run ahead of its turn comes whole, and before or after each commit that is written meanwhile.
#[test]
fn a_large_batch_is_one_commit_among_others() {
    explore_some(10, || {
        const LARGE: usize = 4200;
        let sim = SimEnv::new(1);
        let store = Arc::new(options(&sim).log_segment(4 << 20).open(DIR).unwrap());
        (0..2).for_each(|n| drop(store.commit(&message("c", &n.to_string(), Durability::Buffered)).unwrap()));
        let large = thread::spawn({
            let store = store.clone();
            move || {
                let mut batch = Batch::new();
                batch.join("c", "v").durability(Durability::Buffered);
                (0..LARGE).for_each(|_| _ = batch.append("large", Draft::new("u", 0, "x")));
                store.commit(&batch).unwrap();
            }
        });
        let small = thread::spawn({
            let store = store.clone();
            move || {
                // One beside it, and one in its way.
                store.commit(&message("apart", "x", Durability::Buffered)).unwrap();
                store.commit(Batch::new().join("c", "v").durability(Durability::Buffered)).unwrap();
            }
        });
        for _ in 0..4 {
            let view = store.view().unwrap();
            let (last, members) = (view.head("large").unwrap().last.seq, view.head("c").unwrap().members);
            assert!(last == 0 || last == LARGE as u64 && members == 1, "{last} messages, {members} members");
            thread::yield_now();
        }
        large.join().unwrap();
        small.join().unwrap();
        let seen = |store: &Store| {
            ["c", "apart", "large"]
                .map(|channel| store.head(channel).unwrap())
                .map(|head| (head.last.seq, head.members))
        };
        assert_eq!(seen(&store), [(2, 1), (1, 0), (LARGE as u64, 0)]);
        store.sync().unwrap();
        assert_eq!(seen(&lose(&sim, store)), [(2, 1), (1, 0), (LARGE as u64, 0)]);
    });
}

/// A write that finds the disk full takes its whole group back; the others are written, at the places of those.
#[test]
fn a_full_disk_among_writers_costs_its_group_alone() {
    explore(|| {
        let sim = SimEnv::new(1);
        let store = Arc::new(options(&sim).open(DIR).unwrap());
        store.commit(&message("c", "zero", Durability::Sync)).unwrap();
        sim.fail_nth(&[Disk::Write], 2, ErrorKind::StorageFull);
        let mut told = commit_all(&store, &FOUR, mixed);
        assert!(told.failed.values().all(|error| matches!(error, Error::OutOfSpace { .. })));
        told.done.insert("zero".into());
        assert_eq!(texts(&store, "c"), told.done);
        store.sync().unwrap();
        assert_eq!(texts(&lose(&sim, store), "c"), told.done);
    });
}

/// Tasks and threads with a deadline leave the sync to a thread of the store, and each is woken.
#[test]
fn who_awaits_a_commit_is_woken() {
    explore(|| {
        let sim = SimEnv::new(1);
        let store = Arc::new(options(&sim).background(true).open(DIR).unwrap());
        let next = store.changed(store.version().unwrap());
        let send = |sent: &str| store.submit(&message("c", sent, Durability::Sync)).unwrap();
        let (first, second, third) = (send("one"), send("two"), send("three"));
        let awaiting = thread::spawn(move || future::block_on(first).unwrap());
        let waiting = thread::spawn(move || {
            let mut commit = second;
            while let Err(later) = commit.wait_timeout(Duration::from_millis(1)).unwrap() {
                commit = later;
            }
        });
        third.wait().unwrap();
        awaiting.join().unwrap();
        waiting.join().unwrap();
        assert!(future::block_on(next).unwrap() > 0);
        assert_eq!(texts(&store, "c").len(), 3);
        store.close().unwrap();
    });
}

/// What a view shows stays as it was and is whole while batches are published, sealed and merged, and files removed.
#[test]
fn a_view_is_of_one_moment_while_files_are_made_and_removed() {
    explore(|| {
        let sim = SimEnv::new(1);
        let store = Arc::new(options(&sim).open(DIR).unwrap());
        let both = |n: u64| {
            let mut batch = message("a", &n.to_string(), Durability::Buffered);
            batch.append("b", Draft::new("u", 0, n.to_string())).join("a", format!("user {n}"));
            batch
        };
        (0..2).for_each(|n| drop(store.commit(&both(n)).unwrap()));
        let done = Arc::new(AtomicBool::new(false));
        let writer = thread::spawn({
            let (store, done) = (store.clone(), done.clone());
            move || {
                (2..5).for_each(|n| drop(store.commit(&both(n)).unwrap()));
                done.store(true, Ordering::SeqCst);
            }
        });
        let upkeep = thread::spawn({
            let store = store.clone();
            move || {
                for _ in 0..2 {
                    store.seal().unwrap();
                    store.compact().unwrap();
                }
            }
        });
        let mut last = 0;
        loop {
            let end = done.load(Ordering::SeqCst);
            let view = store.view().unwrap();
            let read = || {
                let texts =
                    |channel| view.history(channel).list().unwrap().iter().map(text).collect::<Vec<_>>();
                (texts("a"), texts("b"), view.members("a").list().unwrap().len())
            };
            let seen = read();
            assert!(seen.0 == seen.1 && seen.0.len() == seen.2, "a part of a batch is seen: {seen:?}");
            assert!(seen.2 >= last, "a later view shows less");
            last = seen.2;
            assert_eq!(read(), seen, "a view changed");
            if end {
                break;
            }
            thread::yield_now();
        }
        writer.join().unwrap();
        upkeep.join().unwrap();
        assert_eq!(last, 5);
    });
}

/// Writers fill log segments faster than they are sealed, wait for room, and get it.
#[test]
fn writers_wait_for_the_thread_that_seals() {
    explore(|| {
        let sim = SimEnv::new(1);
        let store = options(&sim).unsealed(1).background(true);
        let store = Arc::new(store.open(DIR).unwrap());
        let told = commit_all(&store, &FOUR, wide);
        assert_eq!(told.done, FOUR.map(String::from).into());
        store.close().unwrap();
        drop(Arc::into_inner(store).unwrap());
        assert_eq!(texts(&options(&sim).open(DIR).unwrap(), "c"), told.done);
    });
}

/// Where sealing fails, who waits for room is told so, and nobody waits for ever.
#[test]
fn writers_who_wait_are_told_that_sealing_fails() {
    explore(|| {
        let sim = SimEnv::new(1);
        let refuse = |op: Disk, name: &str| match op == Disk::Create && name.starts_with("run-") {
            true => Err(io::Error::other("no file for rows")),
            false => Ok(()),
        };
        let store = options(&sim).env(Hooked::new(&sim, refuse));
        let store = store.unsealed(1).background(true);
        let store = Arc::new(store.open(DIR).unwrap());
        let told = commit_all(&store, &FOUR, wide);
        assert!(!told.done.is_empty() && !told.failed.is_empty());
        assert!(told.failed.values().all(|error| matches!(error, Error::Io { .. })), "{:?}", told.failed);
        assert_eq!(texts(&store, "c"), told.done);
        store.close().unwrap();
        drop(Arc::into_inner(store).unwrap());
        assert_eq!(texts(&options(&sim).open(DIR).unwrap(), "c"), told.done);
    });
}

/// A sync that fails wakes tasks, threads with a deadline, and who leads, each with an error, if it acknowledges nothing.
#[test]
fn who_awaits_a_commit_is_told_that_its_sync_failed() {
    explore(|| {
        let sim = SimEnv::new(1);
        let store = Arc::new(options(&sim).background(true).open(DIR).unwrap());
        store.commit(&message("c", "zero", Durability::Sync)).unwrap();
        sim.fail_each(&[Disk::Sync], 1, ErrorKind::Other);
        let send = |sent: &str| store.submit(&message("c", sent, Durability::Sync));
        let commits: Vec<_> = ["one", "two", "three"].map(send).into_iter().flatten().collect();
        let waiters = commits.into_iter().enumerate().map(|(number, commit)| {
            thread::spawn(move || match number {
                0 => future::block_on(commit).unwrap_err(),
                1 => commit.wait().unwrap_err(),
                _ => {
                    let mut commit = commit;
                    loop {
                        match commit.wait_timeout(Duration::from_millis(1)) {
                            Ok(later) => commit = later.expect_err("nothing is durable"),
                            Err(error) => return error,
                        }
                    }
                }
            })
        });
        for waiter in waiters.collect::<Vec<_>>() {
            let error = waiter.join().unwrap();
            assert!(matches!(error, Error::Poisoned { .. }), "{error}");
        }
        assert_eq!(texts(&store, "c"), ["zero".to_owned()].into());
        assert!(store.close().is_err());
    });
}

/// A commit beside a close is done or refused, and what is done is there; the log ends in order.
#[test]
fn a_close_beside_commits_takes_all_or_nothing_of_each() {
    explore(|| {
        let sim = SimEnv::new(1);
        let store = Arc::new(options(&sim).background(true).open(DIR).unwrap());
        let closer = thread::spawn({
            let store = store.clone();
            move || store.close()
        });
        let again = thread::spawn({
            let store = store.clone();
            move || store.close()
        });
        let next = store.changed(u64::MAX - 1);
        let watcher = thread::spawn(move || future::block_on(next));
        let told = commit_all(&store, &FOUR, mixed);
        assert!(matches!(watcher.join().unwrap(), Err(Error::Closed)), "who waits for changes is told too");
        closer.join().unwrap().unwrap();
        again.join().unwrap().unwrap();
        assert!(told.failed.values().all(|error| matches!(error, Error::Closed)), "{:?}", told.failed);
        drop(Arc::into_inner(store).unwrap());
        sim.power_loss_with(PowerLoss::Drop);
        let store = options(&sim).open(DIR).unwrap();
        assert_eq!(texts(&store, "c"), told.done);
        assert!(store.recovery().clean, "{:?}", store.recovery());
    });
}
