//! Joining in bulk, and marking as read: rows a second, 4,096 or one in a commit.

mod fixture;

use std::sync::atomic::{AtomicU64, Ordering};

use chanlog::{Batch, Durability, Options};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fixture::{Fixture, Operation, channel, draft, random, user};

const CHANNELS: u64 = 10_000;
const USERS: u64 = 10_000;

/// The next `size` memberships, each new: users by chance, in channels by turns.
fn joins(next: &AtomicU64, size: u64) -> Batch {
    let first = next.fetch_add(size, Ordering::Relaxed);
    let mut batch = Batch::new();
    batch.durability(Durability::Buffered);
    for n in first..first + size {
        batch.join(channel(n % CHANNELS), user((random(n / CHANNELS) + n) % USERS));
    }
    batch
}

fn join(c: &mut Criterion) {
    let fixture = Fixture::new(Options::new());
    fixture.fill((0..CHANNELS).map(|n| Operation::Append(channel(n), draft(n))));
    fixture.fill((0..USERS).map(|n| Operation::Join(channel(CHANNELS), user(n))));
    let next = AtomicU64::new(0);
    let mut group = c.benchmark_group("join");
    for size in [1, 4096] {
        group.throughput(Throughput::Elements(size));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            let commit = |batch| fixture.store.commit(&batch).expect("a commit");
            b.iter_batched(|| joins(&next, size), commit, BatchSize::PerIteration);
        });
    }
    drop(group);
    let mut group = c.benchmark_group("read");
    for size in [1, 256] {
        group.throughput(Throughput::Elements(size));
        let mut seq = 0;
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            let batch = || {
                seq += 1;
                let mut batch = Batch::new();
                batch.durability(Durability::Buffered);
                for n in 0..size {
                    let channel = channel(CHANNELS);
                    batch.append(&channel, draft(seq)).read(&channel, user(n), u64::MAX);
                }
                batch
            };
            let commit = |batch| fixture.store.commit(&batch).expect("a commit");
            b.iter_batched(batch, commit, BatchSize::SmallInput);
        });
    }
}

criterion_group!(benches, join);
criterion_main!(benches);
