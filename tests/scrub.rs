//! Scrubbing: sealed files are read again, and what is wrong in them is told.

#![cfg(feature = "sim")]

mod hooks;

use std::io::ErrorKind;
use std::time::Duration;

use chanlog::env::{Op as Disk, SimEnv};
use chanlog::{Durability, Options, Scrubbed, Store};
use hooks::{DIR, append, options};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A store with some sealed files, which are about to stay as they are.
fn sealed(options: Options) -> Store {
    let store = options.open(DIR).unwrap();
    for n in 0..3 {
        append(&store, "c", &format!("{n} {}", "x".repeat(20_000)), Durability::Sync).unwrap();
        store.seal().unwrap();
    }
    while store.maintain().unwrap() {}
    store
}

fn scrub(store: &Store) -> Scrubbed {
    while store.maintain().unwrap() {}
    store.stat().unwrap().scrubbed
}

fn bytes(store: &Store) -> u64 {
    let stat = store.stat().unwrap();
    stat.segments.bytes + stat.runs.bytes
}

fn files(sim: &SimEnv) -> Vec<String> {
    let files = sim.files().into_iter().map(|path| path.to_str().unwrap().to_owned());
    files.filter(|path| path.contains("seg-") || path.contains("run-")).collect()
}

#[test]
fn each_file_is_read_once_in_an_interval() {
    let sim = SimEnv::new(1);
    let store = sealed(options(sim.clone()));
    assert_eq!(scrub(&store).files, 0, "they were just written");
    let count = files(&sim).len() as u64;
    for day in 1..=60 {
        sim.advance(DAY);
        let found = scrub(&store);
        assert!(found.files <= day * count / 30 + count && found.damaged == 0, "{found:?}");
        if day % 30 == 0 {
            assert_eq!((found.files, found.bytes), (count * day / 30, bytes(&store) * day / 30));
        }
    }
}

#[test]
fn restarts_leave_no_file_out() {
    let sim = SimEnv::new(1);
    sealed(options(sim.clone())).close().unwrap();
    let mut read = 0;
    for _ in 0..15 {
        let store = options(sim.clone()).open(DIR).unwrap();
        sim.advance(2 * DAY);
        read += scrub(&store).files;
        store.close().unwrap();
    }
    assert_eq!(read, files(&sim).len() as u64);
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let sim = SimEnv::new(1);
    sealed(options(sim.clone())).close().unwrap();
    for path in files(&sim) {
        let len = sim.read_file(&path).unwrap().len() as u64;
        for offset in [0, 70, len / 2, len - 70, len - 20] {
            let sim = sim.fork(7);
            // Opening looks at a part of them; so the damage comes after it.
            let store = options(sim.clone()).open(DIR).unwrap();
            sim.corrupt(&path, offset, 4).unwrap();
            sim.advance(31 * DAY);
            let found = scrub(&store);
            assert_eq!(found.damaged, 1, "{path} at {offset}: {found:?}");
            assert!(found.faults[0].contains(path.rsplit('/').next().unwrap()), "{found:?}");
            assert_eq!(scrub(&store), found, "it is not read again at once");
        }
    }
}

#[test]
fn a_sector_that_can_not_be_read_is_told_and_the_rest_goes_on() {
    let sim = SimEnv::new(1);
    let store = sealed(options(sim.clone()));
    let count = files(&sim).len() as u64;
    sim.advance(31 * DAY);
    sim.fail_nth(&[Disk::Read], 3, ErrorKind::Other);
    let found = scrub(&store);
    assert_eq!((found.files, found.damaged), (count, 1), "{found:?}");
    assert_eq!(store.history("c").list().unwrap().len(), 3);
}

#[test]
fn it_may_be_turned_off() {
    let sim = SimEnv::new(1);
    let store = sealed(options(sim.clone()).scrub_interval(Duration::ZERO));
    sim.advance(400 * DAY);
    assert_eq!(scrub(&store), Scrubbed::default());
}

#[test]
fn a_thread_does_it_beside_everything_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().scrub_interval(Duration::from_millis(200)).open(dir.path()).unwrap();
    for n in 0..40 {
        append(&store, "c", &format!("{n}"), Durability::Sync).unwrap();
        store.seal().unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    let since = std::time::Instant::now();
    while store.stat().unwrap().scrubbed.files < 10 {
        assert!(since.elapsed() < Duration::from_secs(60), "{:?}", store.stat().unwrap().scrubbed);
        std::thread::sleep(Duration::from_millis(10));
    }
    let found = store.stat().unwrap().scrubbed;
    assert_eq!(
        (found.damaged, found.faults),
        (0, Vec::new()),
        "files that were merged meanwhile are no fault"
    );
    store.close().unwrap();
}
