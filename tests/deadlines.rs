//! Waiting that has an end: for a commit, and for the lock of a store that somebody else has open.

#![cfg(feature = "sim")]

mod hooks;

use std::io::ErrorKind;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use chanlog::env::{Op as Disk, SimEnv};
use chanlog::{Batch, Commit, Draft, Error, Options, Store};
use hooks::{DIR, Gate, gated, options};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(20);

fn send(store: &Store) -> Commit {
    store.submit(Batch::new().append("c", Draft::new("u", 0, "x"))).unwrap()
}

#[test]
fn a_commit_outlives_a_wait_that_was_too_short() {
    let (sim, gate) = (SimEnv::new(1), Arc::new(Gate::default()));
    let store = options(gated(&sim, &gate, "log-")).background(true).open(DIR).unwrap();
    send(&store).wait().unwrap();
    gate.shut();
    let mut commit = send(&store);
    for timeout in [Duration::ZERO, SHORT, SHORT] {
        commit = commit.wait_timeout(timeout).unwrap().unwrap_err();
        assert!(!commit.is_done());
        assert_eq!(store.head("c").unwrap().last.seq, 1, "what is not acknowledged is not seen");
    }
    gate.open();
    let receipt = commit.wait_timeout(LONG).unwrap().unwrap();
    assert_eq!(receipt.outcomes()[0].seq(), Some(2));
    assert_eq!(store.head("c").unwrap().last.seq, 2);
}

#[test]
fn a_commit_that_nobody_waits_for_any_more_takes_effect() {
    let (sim, gate) = (SimEnv::new(1), Arc::new(Gate::default()));
    let store = options(gated(&sim, &gate, "log-")).background(true).open(DIR).unwrap();
    send(&store).wait().unwrap();
    gate.shut();
    drop(send(&store).wait_timeout(SHORT).unwrap().unwrap_err());
    gate.open();
    assert_eq!(send(&store).wait().unwrap().outcomes()[0].seq(), Some(3));
}

#[test]
fn many_threads_with_and_without_deadlines_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..100 {
                    let commit = send(store);
                    if (thread + n) % 2 == 0 {
                        assert!(commit.wait_timeout(LONG).unwrap().is_ok());
                    } else {
                        commit.wait().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(store.head("c").unwrap().last.seq, 400);
}

#[test]
fn without_background_threads_the_caller_syncs() {
    let store = options(SimEnv::new(1)).open(DIR).unwrap();
    let receipt = send(&store).wait_timeout(Duration::ZERO).unwrap().unwrap();
    assert_eq!(receipt.outcomes()[0].seq(), Some(1));
}

#[test]
fn a_failed_sync_is_told_before_time_runs_out() {
    let sim = SimEnv::new(1);
    let store = options(sim.clone()).background(true).open(DIR).unwrap();
    send(&store).wait().unwrap();
    sim.fail_nth(&[Disk::Sync], 1, ErrorKind::Other);
    let since = Instant::now();
    let told = send(&store).wait_timeout(LONG);
    assert!(matches!(told, Err(Error::Poisoned { .. })), "{told:?}");
    assert!(since.elapsed() < LONG);
}

#[test]
fn opening_waits_for_who_closes_soon() {
    for env in [None, Some(SimEnv::new(1))] {
        let dir = tempfile::tempdir().unwrap();
        let options = || match &env {
            Some(sim) => Options::new().env(sim.clone()),
            None => Options::new(),
        };
        let old = options().open(dir.path()).unwrap();
        send(&old).wait().unwrap();
        let closing = thread::spawn(move || {
            thread::sleep(SHORT * 3);
            old.close().unwrap();
        });
        let new = options().lock_timeout(LONG).open(dir.path()).unwrap();
        assert_eq!(new.head("c").unwrap().last.seq, 1);
        assert!(new.recovery().clean, "the old one had closed");
        closing.join().unwrap();
    }
}

#[test]
fn opening_waits_no_longer_than_it_was_told() {
    let sim = SimEnv::new(1);
    let _open = options(sim.clone()).open(DIR).unwrap();
    for timeout in [Duration::ZERO, SHORT] {
        let since = Instant::now();
        let refused = options(sim.clone()).lock_timeout(timeout).open(DIR);
        assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
        assert!(since.elapsed() >= timeout);
    }
}
