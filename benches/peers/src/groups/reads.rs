//! Messages of the filled store.

use anyhow::Result;

use super::{Bench, mean_time};
use crate::engines::Engine;

const LAST: usize = 20;
const MIDDLE: usize = 50;

pub fn run(bench: &mut Bench) -> Result<()> {
    let engine = bench.filled()?;
    let count = bench.world.scale.reads;
    let mut random = bench.world.random("reads", 0);
    let busy: Vec<_> = (0..count).map(|_| bench.world.busy(&mut random)).collect();
    let any: Vec<_> = (0..count).map(|_| bench.world.any(&mut random)).collect();
    for (work, channels) in [("last-busy", &busy), ("last-any", &any)] {
        bench.questions(work, count, |n, digest| engine.last(channels[n as usize], LAST, digest))?;
        keep(bench, &*engine, &format!("{work}-kept"), channels)?;
    }
    let middles: Vec<_> = busy
        .iter()
        .map(|channel| {
            let last = engine.last_seq(*channel)?;
            Ok((*channel, (last / 2).saturating_sub(MIDDLE as u64 / 2).max(1)))
        })
        .collect::<Result<_>>()?;
    bench.questions("middle", count, |n, digest| {
        let (channel, from) = middles[n as usize];
        engine.range(channel, from, MIDDLE, digest)
    })?;
    engine.close()
}

fn keep(bench: &mut Bench, engine: &dyn Engine, work: &str, channels: &[u64]) -> Result<()> {
    let mut sum = 0;
    for channel in channels {
        sum += engine.last_kept(*channel, LAST)?;
    }
    let ask = |n| engine.last_kept(channels[n as usize], LAST).map(drop);
    let time = mean_time(channels.len() as u64, ask)?;
    bench.note(work, time, Some(sum.to_string()));
    Ok(())
}
