//! Durable commits of one message each, from one thread and from many: each thread has channels of its own.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use super::Bench;
use crate::engines::{Durability, Engine};
use crate::world::Draft;

const THREADS: [u64; 4] = [1, 8, 64, 1000];
const CHANNELS: u64 = 1000;
const WINDOW: usize = 64;

pub fn run(bench: &mut Bench) -> Result<()> {
    let engine = bench.kind.open(&bench.fresh("durable")?, Durability::Durable, 64 << 20)?;
    let mut next = 0;
    let first: Vec<_> = (0..CHANNELS).map(|channel| draft(bench, channel, &mut next)).collect();
    engine.append(&first)?;
    for (threads, commits) in THREADS.into_iter().zip(bench.world.scale.durable) {
        let mut shares: Vec<Vec<Draft>> = (0..threads).map(|_| Vec::new()).collect();
        for n in 0..commits {
            let thread = n % threads;
            let channel = thread + threads * (n / threads % (CHANNELS / threads));
            shares[thread as usize].push(draft(bench, channel, &mut next));
        }
        let (time, waits) = together(&*engine, &shares)?;
        let sum = bench.ends(&*engine, 0..CHANNELS)?;
        bench.note(&format!("durable-{threads}"), commits as f64 / time.as_secs_f64(), Some(sum));
        if threads >= 64 {
            let p99 = waits.value_at_quantile(0.99) as f64 / 1e3;
            bench.note(&format!("durable-{threads}-p99"), p99, None);
        }
    }
    in_flight(bench, &*engine, next)?;
    engine.close()
}

fn draft(bench: &Bench, channel: u64, next: &mut u64) -> Draft {
    *next += 1;
    bench.world.draft_in(channel, *next)
}

/// The time that it takes all, and the waits of each commit in microseconds.
fn together(engine: &dyn Engine, shares: &[Vec<Draft>]) -> Result<(Duration, Histogram<u64>)> {
    let begin = Instant::now();
    let waits = thread::scope(|scope| {
        let start = |share| scope.spawn(move || one_by_one(engine, share));
        let threads: Vec<_> = shares.iter().map(Vec::as_slice).map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Result<Vec<_>>>()
    })?;
    let time = begin.elapsed();
    let mut all = Histogram::new(3)?;
    for waits in waits {
        all.add(waits)?;
    }
    Ok((time, all))
}

fn one_by_one(engine: &dyn Engine, drafts: &[Draft]) -> Result<Histogram<u64>> {
    let mut waits = Histogram::new(3)?;
    for draft in drafts {
        let begin = Instant::now();
        engine.append(std::slice::from_ref(draft))?;
        waits.record(begin.elapsed().as_micros() as u64)?;
    }
    Ok(waits)
}

fn in_flight(bench: &mut Bench, engine: &dyn Engine, mut next: u64) -> Result<()> {
    let commits = bench.world.scale.durable[2];
    let drafts: Vec<_> = (0..commits).map(|n| draft(bench, n % CHANNELS, &mut next)).collect();
    let begin = Instant::now();
    if engine.append_in_flight(&drafts, WINDOW)? {
        bench.note("in-flight-64", commits as f64 / begin.elapsed().as_secs_f64(), None);
    }
    Ok(())
}
