//! One channel whose messages lie in very many files, as those of a channel do that got one now and then for years.

use std::time::Instant;

use anyhow::Result;

use super::{Bench, micros};
use crate::world::{Mark, Member};

const CHANNEL: u64 = 1;
const BESIDE: u64 = 3;
const USERS: u64 = 200;

pub fn run(bench: &mut Bench) -> Result<()> {
    let engine = bench.kind.open_unmerged(&bench.fresh("spread")?)?;
    let segments = bench.world.scale.segments;
    let members: Vec<_> = (0..USERS).map(|user| Member { user, channel: CHANNEL }).collect();
    if bench.kind.has_rows() {
        engine.join(&members, true)?;
    }
    for segment in 0..segments {
        let first = segment * (BESIDE + 1);
        let mut drafts: Vec<_> = (first..first + BESIDE).map(|n| bench.world.draft(n)).collect();
        drafts.push(bench.world.draft_in(CHANNEL, first + BESIDE));
        engine.append(&drafts)?;
        engine.split()?;
    }
    let reads = bench.world.scale.reads / 10;
    bench.questions("spread-first", reads, |_, digest| engine.range(CHANNEL, 1, 20, digest))?;
    if bench.kind.has_rows() {
        let begin = Instant::now();
        for (member, n) in members.iter().zip(1..) {
            engine.mark(&[Mark { member: *member, seq: 1 + n % (segments / 2) }])?;
        }
        bench.note("spread-mark", micros(begin.elapsed()) / USERS as f64, None);
    }
    engine.close()
}
