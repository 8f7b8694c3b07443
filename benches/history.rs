//! Reading a channel's messages: a page from the middle, and the last twenty.

mod fixture;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fixture::{Fixture, Operation, channel, draft, random, unsealed};

const CHANNELS: u64 = 500;
/// Messages in each channel. They come in by turns, so that a channel's lie scattered over the log.
const MESSAGES: u64 = 600;

fn history(c: &mut Criterion) {
    let fixture = Fixture::new(unsealed());
    let message = |n| Operation::Append(channel(n % CHANNELS), draft(n));
    fixture.fill((0..CHANNELS * MESSAGES).map(message));
    read(c, &fixture, "unsealed");
    fixture.seal();
    read(c, &fixture, "sealed, warm");
}

fn read(c: &mut Criterion, fixture: &Fixture, state: &str) {
    let mut group = c.benchmark_group(format!("history/{state}"));
    let mut n = 0;
    let mut next = || {
        n += 1;
        channel(random(n) % CHANNELS)
    };
    group.throughput(Throughput::Elements(100));
    group.bench_function("100 from the middle", |b| {
        b.iter(|| {
            let page = fixture.store.history(next()).from(MESSAGES / 2).limit(100).list();
            assert_eq!(page.expect("a page").len(), 100);
        });
    });
    group.throughput(Throughput::Elements(20));
    group.bench_function("last 20", |b| {
        b.iter(|| assert_eq!(fixture.store.history(next()).last(20).expect("a page").len(), 20));
    });
}

criterion_group!(benches, history);
criterion_main!(benches);
