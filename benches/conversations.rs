//! Conversation lists of users with few and with many channels, in a store of 100,000 channels: the first fifty entries,
//! and what changed since a token after which five of the user's channels got a message.

mod fixture;

use std::hint::black_box;

use chanlog::{SyncToken, Update};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fixture::{Fixture, Operation, channel, draft, random, unsealed, user};

const CHANNELS: u64 = 100_000;
const USERS: [u64; 3] = [20, 200, 2000];
const CHANGED: u64 = 5;

/// The `n`-th channel of the user who has `count`: they are spread over all ids.
fn joined(count: u64, n: u64) -> String {
    channel(n * (CHANNELS / count) + count % 7)
}

fn conversations(c: &mut Criterion) {
    let fixture = Fixture::new(unsealed());
    // In order, as ids are given by first use.
    fixture.fill((0..CHANNELS).map(|n| Operation::Append(channel(n), draft(n))));
    for count in USERS {
        fixture.fill((0..count).map(|n| Operation::Join(joined(count, n), user(count))));
    }
    let messages = 0..CHANNELS / 2;
    fixture.fill(messages.map(|n| Operation::Append(channel(random(n) % CHANNELS), draft(n))));
    list(c, &fixture, "unsealed");
    fixture.seal();
    list(c, &fixture, "sealed");
}

fn list(c: &mut Criterion, fixture: &Fixture, state: &str) {
    let mut group = c.benchmark_group(format!("conversations/{state}"));
    for count in USERS {
        // Some were joined with nothing new in them, and don't show.
        fixture.fill((0..60).map(|n| Operation::Append(joined(count, random(n) % count), draft(n))));
        let ask = || fixture.store.conversations(user(count)).limit(50).list().expect("a list");
        assert!(!ask().entries.is_empty());
        group.bench_function(BenchmarkId::new("first 50", count), |b| b.iter(|| black_box(ask())));
    }
    for count in USERS {
        let token = fixture.store.conversations(user(count)).list().expect("a list").as_of;
        let spread = |n| joined(count, n * (count / CHANGED));
        fixture.fill((0..CHANGED).map(|n| Operation::Append(spread(n), draft(n))));
        assert_eq!(since(fixture, count, &token), CHANGED as usize);
        group.bench_function(BenchmarkId::new("5 changed of", count), |b| {
            b.iter(|| since(fixture, count, &token))
        });
    }
}

fn since(fixture: &Fixture, count: u64, token: &SyncToken) -> usize {
    match fixture.store.conversations(user(count)).since(token).expect("an update") {
        Update::Changes { changes, .. } => black_box(changes).len(),
        _ => panic!("the token is of this store"),
    }
}

criterion_group!(benches, conversations);
criterion_main!(benches);
