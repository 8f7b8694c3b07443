//! A steady mixed load: two threads send batches of messages of many lengths, mark as read between them, and ask for lists. Each
//! thread has the channels whose numbers are even, or odd, so that what a channel holds in the end follows from the seed.

use std::thread;
use std::time::Instant;

use anyhow::Result;
use hdrhistogram::Histogram;
use rand::RngExt;

use super::build::join;
use super::{Bench, used, written};
use crate::digest::Digest;
use crate::engines::{Durability, Engine};
use crate::world::{Mark, Member, SIZES, World};

const THREADS: u64 = 2;
const BATCH: u64 = 16;
const MARKS: u64 = 4;
/// A list for so many batches.
const LIST_EACH: u64 = 4;
const SIZE: u64 = SIZES[0];

struct Waits {
    given: u64,
    /// In microseconds.
    sends: Histogram<u64>,
    lists: Histogram<u64>,
}

pub fn run(bench: &mut Bench) -> Result<()> {
    let messages = bench.world.scale.mixed;
    let dir = bench.fresh("mixed")?;
    let mut engine = bench.kind.open(&dir, Durability::Buffered, messages * 700)?;
    let users: Vec<_> = bench.world.users(SIZE).collect();
    let members = bench.world.members().filter(|member| users.contains(&member.user)).collect();
    join(&*engine, &bench.world, members)?;

    let (before, begin) = (written()?, Instant::now());
    let waits = thread::scope(|scope| {
        let start = |thread| {
            let (engine, world, users) = (&*engine, &bench.world, &users);
            scope.spawn(move || load(engine, world, users, thread))
        };
        let threads: Vec<_> = (0..THREADS).map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Result<Vec<_>>>()
    })?;
    let time = begin.elapsed();
    engine.sync()?;
    let wrote = (written()? - before) as f64;

    let (mut sends, mut lists) = (Histogram::new(3)?, Histogram::new(3)?);
    for waits in &waits {
        sends.add(&waits.sends)?;
        lists.add(&waits.lists)?;
    }
    let given = waits.iter().map(|waits| waits.given).sum::<u64>() as f64;
    let sum = bench.ends(&*engine, bench.sample(500))?;
    bench.note("mixed-rate", messages as f64 / time.as_secs_f64(), Some(sum));
    bench.note("mixed-send-p99", sends.value_at_quantile(0.99) as f64, None);
    bench.note("mixed-send-worst", sends.max() as f64 / 1e3, None);
    for (work, over) in [("mixed-over-1", 1_000), ("mixed-over-10", 10_000), ("mixed-over-100", 100_000)] {
        bench.note(work, sends.count_between(over, u64::MAX / 2) as f64, None);
    }
    bench.note("mixed-list-p50", lists.value_at_quantile(0.5) as f64, None);
    bench.note("mixed-written", wrote / given, None);
    engine.settle()?;
    engine.close()?;
    bench.note("mixed-disk", used(&dir)? as f64 / given, None);
    Ok(())
}

fn load(engine: &dyn Engine, world: &World, users: &[u64], thread: u64) -> Result<Waits> {
    let mut waits = Waits { given: 0, sends: Histogram::new(3)?, lists: Histogram::new(3)? };
    let mut random = world.random("load", thread);
    let mine = |channel: u64| channel / THREADS * THREADS + thread;
    for batch in 0..world.scale.mixed / THREADS / BATCH {
        let first = (batch * THREADS + thread) * BATCH;
        let drafts: Vec<_> =
            (first..first + BATCH).map(|n| world.mixed(mine(world.busy(&mut random)), n)).collect();
        waits.given += drafts.iter().map(|draft| draft.given()).sum::<u64>();
        let begin = Instant::now();
        engine.append(&drafts)?;
        waits.sends.record(begin.elapsed().as_micros() as u64)?;

        let user = users[random.random_range(0..users.len())];
        let own = (0..MARKS).map(|_| world.channel_of(user, SIZE, random.random_range(0..SIZE)));
        let own = own.filter(|channel| channel % THREADS == thread);
        let marks: Vec<_> =
            own.map(|channel| Mark { member: Member { user, channel }, seq: u64::MAX }).collect();
        if !marks.is_empty() {
            engine.mark(&marks)?;
        }
        if batch % LIST_EACH == 0 {
            let begin = Instant::now();
            engine.list(user, 50, false, &mut Digest::touching())?;
            waits.lists.record(begin.elapsed().as_micros() as u64)?;
        }
    }
    Ok(waits)
}
