//! The hot paths: what a server does for each message, each row and each look at a list. Each makes its store, and does its work some
//! times in [`counted`].

use std::hint::black_box;

use bytes::Bytes;
use chanlog::{Batch, Draft, Store, Update};

use crate::counted::counted;
use crate::fixture::{Fixture, Operation, channel, random, user};
use crate::stores::{USERS, append_to, draft, id, options};

/// A path by name, what its unit is, and what makes a store and does the work.
type Path = (&'static str, &'static str, fn());

/// All paths.
pub const PATHS: [Path; 17] = [
    ("append, 256 in a commit", "message", || append(256, |draft, _| draft)),
    ("append, 1 in a commit", "message", || append(1, |draft, _| draft)),
    ("append, 256 with client ids", "message", || append(256, |draft, n| draft.client_id(id(n)))),
    ("append, 256 with unique ids", "message", || append(256, |draft, n| draft.unique_id(id(n)))),
    ("append, 16,384 in a commit", "message", || append(16_384, |draft, _| draft)),
    ("join, 4,096 in a commit", "row", || join(4096)),
    ("join, 1 in a commit", "row", || join(1)),
    ("join, 16,384 in a commit", "row", || join(16_384)),
    ("append and mark as read, 1 in a commit", "pair", || append_and_read(1)),
    ("append and mark as read, 256 in a commit", "pair", || append_and_read(256)),
    ("list, all of 200", "list", || list(200, usize::MAX)),
    ("list, first 50 of 2,000", "list", || list(2000, 50)),
    ("since, nothing changed of 200", "list", || since(0)),
    ("since, 5 changed of 200", "list", || since(5)),
    ("history, last 20, sealed", "page", last),
    ("history, 50 from the middle, sealed", "page", middle),
    ("head", "head", head),
];

/// How many channels a store has.
const CHANNELS: u64 = 1024;
/// How often a read is repeated.
const READS: u64 = 100;

/// Does the work of a path.
pub fn run(name: &str) -> Result<(), String> {
    let (_, _, work) = PATHS.iter().find(|path| path.0 == name).ok_or(format!("no path {name:?}"))?;
    work();
    Ok(())
}

/// A store whose channels and users are known, with two messages in each channel.
fn store() -> Fixture {
    let fixture = Fixture::new(options());
    fixture.fill((0..2 * CHANNELS).map(|n| append_to(n % CHANNELS, n)));
    fixture.fill((0..USERS).map(|n| Operation::Join(channel(CHANNELS), user(n))));
    fixture
}

/// Commits batches of so many operations for at least 4,096 of them, and one before that is not counted.
fn commit(store: &Store, size: u64, mut operation: impl FnMut(&mut Batch, u64)) {
    let count = (4096 / size).max(2);
    let batches = (0..=count).map(|batch| {
        let mut operations = Batch::new();
        (batch * size..(batch + 1) * size).for_each(|n| operation(&mut operations, n));
        operations
    });
    let batches: Vec<Batch> = batches.collect();
    let commit = |batch| drop(store.commit(batch).expect("a commit"));
    let (first, counted_ones) = batches.split_first().expect("a batch");
    commit(first);
    counted(store, "", count * size, || counted_ones.iter().for_each(commit));
}

fn append(size: u64, with: fn(Draft, u64) -> Draft) {
    commit(&store().store, size, |batch, n| {
        batch.append(channel(random(n) % CHANNELS), with(draft(n), n));
    });
}

/// New memberships: channels by turns, another user in each turn.
fn join(size: u64) {
    commit(&store().store, size, |batch, n| {
        batch.join(channel(n % CHANNELS), user((random(n / CHANNELS) + n) % USERS));
    });
}

/// Messages to the channel of all users, of which one reads each.
fn append_and_read(size: u64) {
    commit(&store().store, size, |batch, n| {
        let group = channel(CHANNELS);
        batch.append(&group, draft(n)).read(&group, user(n % USERS), u64::MAX);
    });
}

/// A store in which a user has so many conversations, spread over all channels, each with a message after the join.
fn conversations(count: u64) -> Fixture {
    let fixture = Fixture::new(options());
    fixture.fill((0..4 * count).map(|n| append_to(n, n)));
    fixture.fill((0..count).map(|n| Operation::Join(channel(4 * n), user(0))));
    fixture.fill((0..4 * count).map(|n| append_to(n, n)));
    fixture
}

fn list(count: u64, limit: usize) {
    let fixture = conversations(count);
    let ask = || fixture.store.conversations(user(0)).limit(limit).list().expect("a list");
    assert_eq!(ask().entries.len(), limit.min(count as usize));
    repeat(&fixture.store, |_| _ = black_box(ask()));
}

/// What changed since a token after which some of the user's 200 channels got a message, and twenty others.
fn since(changed: u64) {
    let fixture = conversations(200);
    let token = fixture.store.conversations(user(0)).list().expect("a list").as_of;
    fixture.fill((0..20).map(|n| append_to(40 * n + 1, n)));
    fixture.fill((0..changed).map(|n| append_to(4 * 40 * n, n)));
    let ask = || fixture.store.conversations(user(0)).since(&token).expect("an update");
    assert!(matches!(ask(), Update::Changes { changes, .. } if changes.len() as u64 == changed));
    repeat(&fixture.store, |_| _ = black_box(ask()));
}

/// How many channels and how many messages in each the histories have.
const HISTORIES: (u64, u64) = (64, 256);

/// A store of sealed histories, whose messages came in by turns.
fn histories() -> Fixture {
    let fixture = Fixture::new(options());
    let (channels, messages) = HISTORIES;
    fixture.fill((0..channels * messages).map(|n| append_to(n % channels, n)));
    fixture.seal();
    fixture
}

fn last() {
    let fixture = histories();
    pages(&fixture.store, 20, |channel| fixture.store.history(channel).last(20).expect("a page").len());
}

fn middle() {
    let fixture = histories();
    let from = HISTORIES.1 / 2;
    pages(&fixture.store, 50, |channel| {
        fixture.store.history(channel).from(from).limit(50).list().expect("a page").len()
    });
}

/// Reads pages of some channels, all of which were read before.
fn pages(store: &Store, size: usize, page: impl Fn(&str) -> usize) {
    let channels: Vec<String> = (0..READS).map(|n| channel(random(n) % HISTORIES.0)).collect();
    assert!(channels.iter().all(|channel| page(channel) == size));
    repeat(store, |n| _ = black_box(page(&channels[n as usize])));
}

fn head() {
    let fixture = store();
    let channels: Vec<Bytes> = (0..READS).map(|n| channel(random(n) % CHANNELS).into()).collect();
    repeat(&fixture.store, |n| _ = black_box(fixture.store.head(&channels[n as usize]).expect("a head")));
}

/// Does a read some times.
fn repeat(store: &Store, read: impl Fn(u64)) {
    read(0);
    counted(store, "", READS, || (0..READS).for_each(&read));
}
