//! How long it takes to open a store and to read a first message: an empty one, one that was closed, one whose process was killed.

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Bench, FILLED, READY, median, millis};
use crate::digest::Digest;
use crate::engines::{Durability, Engine};

const TIMES: usize = 5;

pub fn run(bench: &mut Bench) -> Result<()> {
    let (mut make, mut tiny, mut filled) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let dir = bench.fresh("tiny")?;
        let (time, engine) = open(bench, &dir, 0)?;
        make.push(millis(time));
        engine.append(&[bench.world.draft_in(1, 0)])?;
        engine.close()?;
        let (time, engine) = open(bench, &dir, 0)?;
        tiny.push(millis(time));
        engine.close()?;
    }
    for _ in 0..TIMES {
        let (time, engine) = open(bench, &bench.dir.join(FILLED), bench.expected())?;
        filled.push(millis(time));
        engine.close()?;
    }
    for (work, times) in [("make", make), ("open-tiny", tiny), ("open-clean", filled)] {
        bench.note(work, median(times), None);
    }
    Ok(())
}

fn open(bench: &Bench, dir: &Path, expected: u64) -> Result<(Duration, Box<dyn Engine>)> {
    let begin = Instant::now();
    let engine = bench.kind.open(dir, Durability::Buffered, expected)?;
    engine.last(1, 1, &mut Digest::touching())?;
    Ok((begin.elapsed(), engine))
}

/// Fills a store, and waits to be killed.
pub fn fill_and_wait(bench: &Bench) -> Result<()> {
    let dir = bench.fresh("killed")?;
    let engine = bench.kind.open(&dir, Durability::Buffered, bench.expected())?;
    let drafts: Vec<_> = (0..bench.world.scale.killed).map(|n| bench.world.draft(n)).collect();
    drafts.chunks(256).try_for_each(|drafts| engine.append(drafts))?;
    engine.sync()?;
    println!("{READY}");
    std::io::stdout().flush()?;
    // Should the parent die, so does this.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

pub fn after_kill(bench: &mut Bench) -> Result<()> {
    let (time, engine) = open(bench, &bench.dir.join("killed"), bench.expected())?;
    let sum = bench.ends(&*engine, bench.sample(1000))?;
    bench.note("open-killed", millis(time), Some(sum));
    engine.close()
}
