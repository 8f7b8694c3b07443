//! Filling a store in batches of 256, buffered: messages to channels by chance, one to each channel that got none, half as many again,
//! and then members.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::seq::SliceRandom;
use rustix::time::ClockId;

use super::{Bench, FILLED, taken, used, worked, written};
use crate::engines::{Durability, Engine, Kind};
use crate::world::{Draft, Member, World};

const BATCH: usize = 256;
pub const JOINS: usize = 4096;

/// What appending cost.
#[derive(Default)]
struct Cost {
    messages: u64,
    given: u64,
    time: Duration,
    /// Microseconds of processors: of all threads, without what made the messages; of the calling thread.
    all: f64,
    caller: f64,
}

impl Cost {
    fn rate(&self) -> f64 {
        self.messages as f64 / self.time.as_secs_f64()
    }

    fn append(&mut self, engine: &dyn Engine, drafts: impl Iterator<Item = Draft>) -> Result<()> {
        let mut drafts = drafts.peekable();
        let (all, thread) = (worked(ClockId::ProcessCPUTime), worked(ClockId::ThreadCPUTime));
        let before = self.caller;
        while drafts.peek().is_some() {
            let batch: Vec<_> = drafts.by_ref().take(BATCH).collect();
            self.messages += batch.len() as u64;
            self.given += batch.iter().map(Draft::given).sum::<u64>();
            let (begin, called) = (Instant::now(), worked(ClockId::ThreadCPUTime));
            engine.append(&batch)?;
            self.caller += worked(ClockId::ThreadCPUTime) - called;
            self.time += begin.elapsed();
        }
        let making = worked(ClockId::ThreadCPUTime) - thread - (self.caller - before);
        self.all += worked(ClockId::ProcessCPUTime) - all - making;
        Ok(())
    }
}

pub fn run(bench: &mut Bench) -> Result<()> {
    let dir = bench.fresh(FILLED)?;
    let messages = bench.world.scale.messages;
    let mut engine = bench.kind.open(&dir, Durability::Buffered, bench.expected())?;
    let before = written()?;
    let (mut new, mut rest, mut old) = (Cost::default(), Cost::default(), Cost::default());
    let drafts = |range: Range<u64>| range.map(|n| bench.world.draft(n));
    let mut silent = vec![true; bench.world.scale.channels as usize];
    new.append(&*engine, drafts(0..messages).inspect(|draft| silent[draft.channel as usize] = false))?;
    let silent = (0..).zip(silent).filter_map(|(channel, silent)| silent.then_some(channel));
    rest.append(&*engine, (messages..).zip(silent).map(|(n, channel)| bench.world.draft_in(channel, n)))?;
    let next = messages + rest.messages;
    old.append(&*engine, drafts(next..next + messages / 2))?;
    engine.sync()?;
    let given = (new.given + rest.given + old.given) as f64;
    let wrote = (written()? - before) as f64;

    if bench.kind.has_rows() {
        join(&*engine, &bench.world, bench.world.members().collect())?;
    }
    let sum = Some(bench.ends(&*engine, bench.sample(300))?);
    engine.settle()?;
    engine.close()?;

    bench.note("append-new", new.rate(), sum.clone());
    bench.note("append-old", old.rate(), sum);
    bench.note("append-cpu", (new.all + old.all) / (new.messages + old.messages) as f64, None);
    bench.note("append-cpu-caller", (new.caller + old.caller) / (new.messages + old.messages) as f64, None);
    if bench.kind != Kind::ChanlogLog {
        bench.note("written", wrote / given, None);
        bench.note("disk", taken(&dir)? as f64 / given, None);
        bench.note("disk-used", used(&dir)? as f64 / given, None);
    }
    Ok(())
}

/// Makes them members, in an order by chance: what is made together should not lie together.
pub fn join(engine: &dyn Engine, world: &World, mut members: Vec<Member>) -> Result<()> {
    members.shuffle(&mut world.random("members", 0));
    members.chunks(JOINS).try_for_each(|members| engine.join(members, true))
}
