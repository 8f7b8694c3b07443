//! Faults that the other tests let through once, each with the shortest history that shows it.

#![cfg(feature = "sim")]

mod hooks;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use chanlog::env::{Env, Op as Disk, PowerLoss, SimEnv};
use chanlog::{Batch, Draft, Durability, Error, HistoryFrom, JoinOptions, Options, Store};
use hooks::{DIR, Hooked, kill, options};

fn append(store: &Store, text: &str) -> Result<(), Error> {
    hooks::append(store, "c", text, Durability::Sync).map(drop)
}

fn texts(store: &Store) -> Vec<String> {
    hooks::texts(store, "c").into_values().collect()
}

#[test]
fn what_a_full_disk_left_behind_the_end_of_a_segment_is_not_read() {
    for seed in 0..200 {
        let sim = SimEnv::new(seed);
        let store = options(sim.clone()).open(DIR).unwrap();
        append(&store, "first").unwrap();
        sim.fail_nth(&[Disk::Write], 1, ErrorKind::StorageFull);
        append(&store, "refused").unwrap_err();
        // Too long for the segment, so that the log goes on in the next one.
        let long = "x".repeat(9000);
        append(&store, &long).unwrap();
        kill(&sim, store);
        let store = options(sim.clone()).open(DIR).unwrap();
        assert_eq!(texts(&store), ["first", &long], "seed {seed}");
    }
}

#[test]
fn a_commit_that_a_full_disk_refused_does_not_come_back() {
    for (seed, close, begun) in (0..800).map(|i| (i / 4, i % 2 == 0, i % 4 < 2)) {
        let sim = SimEnv::new(seed);
        let store = options(sim.clone()).open(DIR).unwrap();
        append(&store, "first").unwrap();
        store.close().unwrap();
        let store = options(sim.clone()).open(DIR).unwrap();
        // Else the write that fails is that of the segment with which the session begins.
        if begun {
            append(&store, "second").unwrap();
        }
        sim.fail_nth(&[Disk::Write], 1, ErrorKind::StorageFull);
        append(&store, "refused").unwrap_err();
        if close {
            store.close().unwrap();
        } else {
            kill(&sim, store);
        }
        let store = options(sim.clone()).open(DIR).unwrap();
        let kept = if begun { &["first", "second"][..] } else { &["first"] };
        assert_eq!(texts(&store), kept, "seed {seed}, close {close}");
    }
}

#[test]
fn verify_makes_no_file_in_a_store_whose_creation_was_cut() {
    let whole = SimEnv::new(1);
    options(whole.clone()).open(DIR).unwrap();
    for ops in 0..whole.ops() {
        let sim = SimEnv::new(1);
        sim.crash_after(ops);
        let _ = options(sim.clone()).open(DIR);
        sim.crash();
        let before = sim.files();
        if let Ok(verification) = chanlog::verify(DIR, &options(sim.clone())) {
            assert!(verification.faults.is_empty(), "{:?} after {ops} operations", verification.faults);
            assert_eq!(sim.files(), before, "after {ops} operations");
        }
        options(sim.clone()).open(DIR).unwrap();
    }
}

#[test]
fn a_log_segment_that_is_missing_is_told_even_if_it_was_the_only_one() {
    let sim = SimEnv::new(1);
    let store = options(sim.clone()).open(DIR).unwrap();
    append(&store, "first").unwrap();
    store.close().unwrap();
    drop(store);
    sim.open_dir(Path::new(DIR), false).unwrap().remove("log-0000000000000001").unwrap();
    let error = options(sim.clone()).open(DIR).unwrap_err();
    assert!(matches!(error, Error::Corruption { .. }), "{error}");
}

#[test]
fn a_seal_that_fails_leaves_no_file_behind() {
    let fails_at = |kind: Disk, n: u64| {
        let sim = SimEnv::new(1);
        // With headroom it would be done by the second try.
        let store = options(sim.clone()).headroom(0).open(DIR).unwrap();
        append(&store, "first").unwrap();
        sim.fail_nth(&[kind], n, ErrorKind::StorageFull);
        let failed = store.seal().is_err();
        let sealed = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with("seg-") || name.starts_with("run-")
        };
        let left = sim.files().iter().filter(|path| sealed(path)).count();
        assert!(!failed || left == 0, "{kind:?} {n} fails and {left} files stay");
        failed
    };
    for kind in [Disk::Create, Disk::Write, Disk::Open, Disk::Read] {
        assert!((1..30).filter(|n| fails_at(kind, *n)).count() > 0, "{kind:?}");
    }
}

#[test]
fn a_closed_store_changes_no_file_any_more() {
    let (arrived, arrives) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (arrived, released) = (Mutex::new(arrived), Mutex::new(released));
    let armed = Arc::new(AtomicBool::new(false));
    let trap = armed.clone();
    // Holds the seal where it is about to replace the manifest.
    let hook = move |op, name: &str| {
        if op == Disk::Create && name == "chanlog.manifest.tmp" && trap.swap(false, Ordering::SeqCst) {
            arrived.lock().unwrap().send(()).unwrap();
            let _ = released.lock().unwrap().recv();
        }
        Ok(())
    };
    let sim = SimEnv::new(1);
    let store = options(Hooked::new(&sim, hook)).open(DIR).unwrap();
    append(&store, "first").unwrap();
    armed.store(true, Ordering::SeqCst);
    let content =
        || sim.files().into_iter().map(|path| (sim.read_file(&path).unwrap(), path)).collect::<Vec<_>>();
    let closed = std::thread::scope(|scope| {
        scope.spawn(|| store.seal());
        arrives.recv().unwrap();
        let closer = scope.spawn(|| store.close().map(|()| content()));
        // Enough for a close that doesn't wait; one that does is not hurt by it.
        std::thread::sleep(Duration::from_millis(100));
        release.send(()).unwrap();
        closer.join().unwrap().unwrap()
    });
    assert!(closed == content(), "a seal replaced the manifest after the close");
}

#[test]
fn runs_are_merged_while_the_sealer_is_busy() {
    let store = Options::new().env(SimEnv::new(1)).log_segment(8 << 10).unsealed(1).open(DIR).unwrap();
    let long = "x".repeat(9000);
    for _ in 0..3000 {
        append(&store, &long).unwrap();
        if store.stat().unwrap().merged_bytes > 0 {
            return;
        }
    }
    panic!("{} runs, and none was merged", store.stat().unwrap().runs.count);
}

#[test]
fn a_long_batch_into_one_channel_is_no_burden_to_the_next() {
    let store = options(SimEnv::new(1)).log_segment(64 << 20).open(DIR).unwrap();
    let mut batch = Batch::new();
    (0..65_536).for_each(|_| _ = batch.append("c", Draft::new("u", 0, "x")));
    for round in 1..=3 {
        let last = store.commit(&batch).unwrap().outcomes()[65_535].seq();
        assert_eq!(last, Some(round * 65_536));
    }
    assert_eq!(store.history("c").from(65_530).limit(20).list().unwrap().len(), 20);
}

#[test]
fn a_membership_tells_its_cursor_with_the_right_ordinal() {
    let sim = SimEnv::new(1);
    let store = options(sim).open(DIR).unwrap();
    (0..5).for_each(|_| append(&store, "x").unwrap());
    store
        .commit(Batch::new().join_with("c", "alice", JoinOptions::new().history(HistoryFrom::Now).read(0)))
        .unwrap();
    let cursor = store.membership("c", "alice").unwrap().unwrap().cursor();
    assert_eq!(cursor, store.head("c").unwrap().last);
}

#[test]
fn done_means_that_a_wait_returns_at_once() {
    let sim = SimEnv::new(1);
    let store = options(sim.clone()).open(DIR).unwrap();
    let mut buffered = Batch::new();
    buffered.append("c", Draft::new("u", 0, "x")).durability(Durability::Buffered);
    (0..3).for_each(|_| drop(store.commit(&buffered).unwrap()));
    let nothing = store.submit(Batch::new().durability(Durability::Sync)).unwrap();
    let (done, syncs) = (nothing.is_done(), store.stat().unwrap().syncs);
    nothing.wait().unwrap();
    assert!(!done || store.stat().unwrap().syncs == syncs, "it was done, and its wait synced");
}

#[test]
fn the_longest_times_are_no_fault() {
    let panics = Arc::new(AtomicBool::new(false));
    let noted = panics.clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let ours = std::thread::current().name().is_some_and(|name| name.starts_with("chanlog-"));
        noted.fetch_or(ours, Ordering::SeqCst);
        before(info);
    }));
    let dir = tempfile::tempdir().unwrap();
    let options =
        Options::new().sync_interval(Duration::MAX).tombstone_age(Duration::MAX).tombstones(usize::MAX);
    let store = options.durability(Durability::Buffered).open(dir.path()).unwrap();
    (0..5).for_each(|_| append(&store, "x").unwrap());
    store.close().unwrap();
    assert!(!panics.load(Ordering::SeqCst), "a background thread panicked");
}

/// What was trimmed went with its file, and the next message came after a gap.
#[test]
fn a_place_in_a_gap_above_what_was_trimmed_is_found() {
    let sim = SimEnv::new(0);
    let store = options(sim.clone()).open(DIR).unwrap();
    hooks::append(&store, "c", "first", Durability::Buffered).unwrap();
    store.sync().unwrap();
    kill(&sim, store);
    let store = options(sim.clone()).open(DIR).unwrap();
    store.commit(Batch::new().trim("c", 1)).unwrap();
    append(&store, "second").unwrap();
    store.seal().unwrap();
    while store.maintain().unwrap() {}
    store.commit(Batch::new().join_with("c", "u", JoinOptions::new().history(HistoryFrom::Seq(3)))).unwrap();
    assert_eq!(texts(&store), ["second"]);
}

/// No view shows the gap, as the batch makes it; so the batch was prepared again and again.
#[test]
fn a_message_in_a_gap_that_its_own_batch_makes_is_known_to_be_missing() {
    let sim = SimEnv::new(0);
    let store = options(sim.clone()).open(DIR).unwrap();
    append(&store, "first").unwrap();
    hooks::append(&store, "c", "lost", Durability::Buffered).unwrap();
    sim.crash_after(0);
    drop(store);
    sim.power_loss_with(PowerLoss::Drop);
    let store = options(sim.clone()).open(DIR).unwrap();
    let mut batch = Batch::new();
    batch.append("c", Draft::new("u", 0, "second")).append_at("c", 3, Draft::new("u", 0, "third"));
    let refused = store.commit(&batch);
    assert!(matches!(refused, Err(Error::NoMessage { op: 1, seq: 3, .. })), "{refused:?}");
    assert_eq!(texts(&store), ["first"]);
}
