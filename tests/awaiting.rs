//! Commits as futures: woken once they are as durable as was asked, with any runtime or none.

#![cfg(feature = "sim")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use chanlog::{Batch, Commit, Draft, Options, Receipt, Result, Store};

/// Wakes a thread, and counts how often.
struct Alarm(Thread, AtomicUsize);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.unpark();
    }
}

/// Runs a commit's future to its end. Returns how often it was woken.
fn block_on(commit: Commit) -> (Result<Receipt>, usize) {
    let alarm = Arc::new(Alarm(thread::current(), AtomicUsize::new(0)));
    let waker = Waker::from(alarm.clone());
    let mut commit = pin!(commit);
    loop {
        if let Poll::Ready(receipt) = commit.as_mut().poll(&mut Context::from_waker(&waker)) {
            return (receipt, alarm.1.load(Ordering::SeqCst));
        }
        thread::park_timeout(Duration::from_secs(10));
    }
}

fn send(store: &Store) -> Commit {
    store.submit(Batch::new().append("c", Draft::new("u", 0, "x"))).unwrap()
}

#[test]
fn a_commit_is_awaited_and_woken_once() {
    for background in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let store = Options::new().background(background).open(dir.path()).unwrap();
        for seq in 1..50 {
            let (receipt, woken) = block_on(send(&store));
            assert_eq!(receipt.unwrap().outcomes()[0].seq(), Some(seq));
            assert!(woken <= 1, "woken {woken} times");
            assert_eq!(store.head("c").unwrap().last.seq, seq, "what is acknowledged is seen");
        }
    }
}

/// Without anybody who waits, a Sync commit is done long before the interval of buffered ones.
#[test]
fn a_commit_that_nobody_waits_for_is_synced_soon() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().sync_interval(Duration::from_secs(3600)).open(dir.path()).unwrap();
    let commit = send(&store);
    while !commit.is_done() {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(store.head("c").unwrap().last.seq, 1);
}

#[test]
fn awaiting_ends_with_an_error_when_the_store_is_poisoned() {
    let sim = chanlog::env::SimEnv::new(1);
    let store = Options::new().env(sim.clone()).background(false).open("/store").unwrap();
    block_on(send(&store)).0.unwrap();
    let commit = send(&store);
    sim.fail_nth(&[chanlog::env::Op::Sync], 1, std::io::ErrorKind::Other);
    let (receipt, _) = block_on(commit);
    assert!(matches!(receipt, Err(chanlog::Error::Poisoned { .. })), "{receipt:?}");
}

#[test]
fn many_tasks_share_syncs_under_a_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..64).map(|_| tokio::spawn(send(&store))).collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    });
    let syncs = store.stat().unwrap().syncs;
    assert!(syncs <= 66, "{syncs} syncs for 64 commits");
    assert_eq!(store.head("c").unwrap().last.seq, 64);
}
