//! How long a small commit and a read wait at most while batches of 65,536 operations are committed, beside the same alone.
//!
//! Not a measurement of criterion's: what counts is the longest wait, not a mean. One thread commits large batches and one
//! measures, so two cores are enough; the waits alone show what the machine itself adds.

mod fixture;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chanlog::{Batch, Durability, Options, Store};
use fixture::{Fixture, Operation, channel, draft, random, user};

/// The operations of a large batch: the most that one may have.
const LARGE: u64 = 65_536;
const CHANNELS: u64 = 10_000;
const USERS: u64 = 10_000;
/// Channels that no large batch names.
const APART: u64 = 100;
/// How many large batches come while something is measured.
const BATCHES: u64 = 8;
const WARM_UP: u64 = 2;

fn main() {
    let fixture = Fixture::new(Options::new());
    fixture.fill((0..CHANNELS).map(|n| Operation::Append(channel(n), draft(n))));
    fixture.fill((0..USERS).map(|n| Operation::Join(channel(n % 100), user(n))));
    let store = &fixture.store;
    fixture.fill((0..APART).map(|n| Operation::Append(channel(CHANNELS + n), draft(n))));
    let mut sent = CHANNELS;
    let mut send = |store: &Store, channels: std::ops::Range<u64>| {
        sent += 1;
        let mut batch = Batch::new();
        let place = channels.start + random(sent) % (channels.end - channels.start);
        batch.append(channel(place), draft(sent)).durability(Durability::Buffered);
        store.commit(&batch).expect("a commit");
    };
    measure("a commit of one message", store, |store| send(store, 0..CHANNELS));
    measure("one to another channel", store, |store| send(store, CHANNELS..CHANNELS + APART));
    measure("a head", store, |store| _ = store.head(channel(7)).expect("a head"));
    measure("a list", store, |store| _ = store.conversations(user(7)).list().expect("a list"));
}

/// Prints the waits of an operation, alone and beside large batches of joins and of messages.
fn measure(what: &str, store: &Store, mut operation: impl FnMut(&Store)) {
    let mut alone = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        alone.push(time(store, &mut operation));
    }
    report(what, "alone", alone);
    for (kind, large) in [("joins", joins as fn(u64) -> Batch), ("messages", messages)] {
        // The first ones make channels and memory that later ones find.
        (0..WARM_UP).for_each(|n| drop(store.commit(&large(n)).expect("a commit")));
        let batches: Vec<Batch> = (WARM_UP..WARM_UP + BATCHES).map(large).collect();
        let done = AtomicBool::new(false);
        let mut waits = Vec::new();
        let took = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let begin = Instant::now();
                batches.iter().for_each(|batch| drop(store.commit(batch).expect("a commit")));
                done.store(true, Ordering::Release);
                begin.elapsed() / BATCHES as u32
            });
            while !done.load(Ordering::Acquire) {
                waits.push(time(store, &mut operation));
            }
            writer.join().expect("a writer")
        });
        report(what, &format!("beside {LARGE} {kind} ({took:.1?} each)"), waits);
    }
}

fn time(store: &Store, operation: &mut impl FnMut(&Store)) -> Duration {
    let begin = Instant::now();
    operation(store);
    begin.elapsed()
}

fn report(what: &str, beside: &str, mut waits: Vec<Duration>) {
    waits.sort_unstable();
    let at = |of: f64| waits[((waits.len() - 1) as f64 * of) as usize];
    let (median, high, most) = (at(0.5), at(0.999), at(1.0));
    println!(
        "{what}, {beside}: median {median:.1?}, 99.9 % {high:.1?}, longest {most:.1?}, of {}",
        waits.len()
    );
}

/// New memberships.
fn joins(n: u64) -> Batch {
    let mut batch = Batch::new();
    batch.durability(Durability::Buffered);
    for at in n * LARGE..(n + 1) * LARGE {
        batch.join(channel(at % CHANNELS), user((random(at / CHANNELS) + at) % USERS));
    }
    batch
}

/// Messages of 100 bytes.
fn messages(n: u64) -> Batch {
    let mut batch = Batch::new();
    batch.durability(Durability::Buffered);
    for at in n * LARGE..(n + 1) * LARGE {
        let draft = chanlog::Draft::new(user(at % 50), at as i64, vec![b'x'; 100]);
        batch.append(channel(random(at) % CHANNELS), draft);
    }
    batch
}
