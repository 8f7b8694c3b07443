//! Conversation lists of the filled store, and what changed since one.

use anyhow::Result;

use super::Bench;
use crate::engines::Engine;
use crate::world::{Draft, Mark, Member};

/// The size of the lists that are asked for changes.
const SIZE: u64 = 2000;
const CHANGED: u64 = 20;

pub fn run(bench: &mut Bench) -> Result<()> {
    let engine = bench.filled()?;
    let reads = bench.world.scale.reads;
    for (work, size, limit, count) in [
        ("list-200", 200, 100, reads / 20),
        ("list-2000", SIZE, 100, reads / 50),
        ("list-20000", 20_000, 50, reads / 200),
    ] {
        let users: Vec<_> = bench.world.users(size).collect();
        bench.questions(work, count.max(4), |n, digest| {
            engine.list(users[n as usize % users.len()], limit, false, digest)
        })?;
    }
    since(bench, &*engine)?;
    nothing_unread(bench, &*engine)?;
    engine.close()
}

fn since(bench: &mut Bench, engine: &dyn Engine) -> Result<()> {
    let reads = bench.world.scale.reads / 100;
    let user = bench.world.users(SIZE).next().unwrap_or_default();
    let token = engine.token(user)?;
    bench.questions("since-nothing", reads, |_, digest| engine.since(user, &token, digest))?;

    let own: Vec<_> = bench.world.channels_of(user, SIZE).collect();
    let others = (0..bench.world.scale.channels).filter(|channel| own.binary_search(channel).is_err());
    let others: Vec<_> = others.take(bench.world.scale.channels as usize / 10).collect();
    let drafts = drafts(bench, others.into_iter(), 0);
    drafts.chunks(256).try_for_each(|drafts| engine.append(drafts))?;
    bench.questions("since-others", reads, |_, digest| engine.since(user, &token, digest))?;

    let token = engine.token(user)?;
    let changed = (0..CHANGED).map(|n| own[(n * (SIZE / CHANGED)) as usize]);
    engine.append(&self::drafts(bench, changed, 1))?;
    bench.questions("since-20", reads, |_, digest| engine.since(user, &token, digest))
}

/// Messages after all others.
fn drafts(bench: &Bench, channels: impl Iterator<Item = u64>, part: u64) -> Vec<Draft> {
    let first = (part + 3) * (bench.world.scale.messages + bench.world.scale.channels);
    channels.zip(first..).map(|(channel, n)| bench.world.draft_in(channel, n)).collect()
}

fn nothing_unread(bench: &mut Bench, engine: &dyn Engine) -> Result<()> {
    let user = bench.world.users(SIZE).nth(1).unwrap_or_default();
    let all = |channel| Mark { member: Member { user, channel }, seq: u64::MAX };
    let marks: Vec<_> = bench.world.channels_of(user, SIZE).map(all).collect();
    marks.chunks(256).try_for_each(|marks| engine.mark(marks))?;
    let reads = bench.world.scale.reads / 100;
    bench.questions("unread-none", reads, |_, digest| engine.list(user, 100, true, digest))
}
