//! Appending: messages a second, by messages a commit and by durability, from one thread and from eight.

mod fixture;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chanlog::{Batch, Durability, Options, Store};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fixture::{Fixture, Operation, channel, draft, random};

const CHANNELS: u64 = 1000;
const THREADS: u64 = 8;

/// The next `size` messages, in channels by chance.
fn batch(next: &AtomicU64, size: u64, durability: Durability) -> Batch {
    let first = next.fetch_add(size, Ordering::Relaxed);
    let mut batch = Batch::new();
    batch.durability(durability);
    for n in first..first + size {
        batch.append(channel(random(n) % CHANNELS), draft(n));
    }
    batch
}

fn append(c: &mut Criterion) {
    for durability in [Durability::Sync, Durability::Buffered] {
        let fixture = Fixture::new(Options::new());
        // A commit that makes a channel waits for the disk, whatever its durability: here all exist.
        fixture.fill((0..CHANNELS).map(|n| Operation::Append(channel(n), draft(n))));
        let next = AtomicU64::new(0);
        let mut group = c.benchmark_group(format!("append/{durability:?}").to_lowercase());
        for size in [1, 32, 256] {
            group.throughput(Throughput::Elements(size));
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                let commit = |batch| fixture.store.commit(&batch).expect("a commit");
                b.iter_batched(|| batch(&next, size, durability), commit, BatchSize::SmallInput);
            });
        }
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{THREADS} threads"), |b| {
            b.iter_custom(|commits| together(&fixture.store, &next, commits, durability));
        });
    }
}

/// The time in which threads make so many commits of one message each.
fn together(store: &Store, next: &AtomicU64, commits: u64, durability: Durability) -> Duration {
    let begin = Instant::now();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let share = (commits + thread) / THREADS;
            scope.spawn(move || {
                for _ in 0..share {
                    store.commit(&batch(next, 1, durability)).expect("a commit");
                }
            });
        }
    });
    begin.elapsed()
}

criterion_group!(benches, append);
criterion_main!(benches);
