//! Finding a channel by its name, among a million that are sealed.

mod fixture;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use fixture::{Fixture, Operation, channel, random, unsealed};

use chanlog::Draft;

const CHANNELS: u64 = 1_000_000;

fn names(c: &mut Criterion) {
    let fixture = Fixture::new(unsealed());
    fixture.fill((0..CHANNELS).map(|n| Operation::Append(channel(n), Draft::new("someone", 0, ""))));
    fixture.seal();
    let mut group = c.benchmark_group("names/1,000,000 channels");
    let known: Vec<_> = (0..100_000).map(|n| channel(random(n) % CHANNELS)).collect();
    let unknown: Vec<_> = (0..100_000).map(|n| channel(CHANNELS + random(n) % CHANNELS)).collect();
    for (label, names, seq) in [("known", &known, 1), ("unknown", &unknown, 0)] {
        let mut name = names.iter().cycle();
        group.bench_function(label, |b| {
            b.iter(|| {
                let head = fixture.store.head(name.next().expect("it never ends")).expect("a head");
                assert_eq!(black_box(head).last.seq, seq);
            });
        });
    }
}

criterion_group!(benches, names);
criterion_main!(benches);
