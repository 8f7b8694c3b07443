//! Marks and joins in the filled store, and how long appends wait: under a quiet load, and beside a large batch. All buffered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rand::seq::SliceRandom;

use super::build::JOINS;
use super::{Bench, median, micros, millis};
use crate::digest::Digest;
use crate::engines::Engine;
use crate::world::{Mark, Member, SIZES};

const MARKS: usize = 256;
const PAUSE: Duration = Duration::from_millis(1);
const LARGE_BATCHES: u64 = 3;

pub fn run(bench: &mut Bench) -> Result<()> {
    let engine = bench.filled()?;
    if bench.kind.has_rows() {
        marks(bench, &*engine)?;
        joins(bench, &*engine)?;
    }
    quiet(bench, &*engine)?;
    if bench.kind.has_rows() {
        beside_joins(bench, &*engine)?;
    }
    engine.close()
}

/// Marks each membership once, in an order by chance, half of them one by one.
fn marks(bench: &mut Bench, engine: &dyn Engine) -> Result<()> {
    // The user whose list was read to its end is left out.
    let read = bench.world.users(SIZES[1]).nth(1);
    let mut marks: Vec<_> = bench.world.members().filter(|member| Some(member.user) != read).collect();
    marks.shuffle(&mut bench.world.random("marks", 0));
    marks.truncate(2 * bench.world.scale.reads as usize);
    let marks: Vec<_> = marks.into_iter().map(|member| Mark { member, seq: 1 }).collect();
    let (one, many) = marks.split_at(marks.len() / 2);
    for (work, marks, size) in [("mark-1", one, 1), ("mark-256", many, MARKS)] {
        let begin = Instant::now();
        marks.chunks(size).try_for_each(|marks| engine.mark(marks))?;
        let time = micros(begin.elapsed()) / marks.len() as f64;
        let sum = read_seqs(engine, marks.iter().map(|mark| mark.member))?;
        bench.note(work, time, Some(sum));
    }
    Ok(())
}

fn read_seqs(engine: &dyn Engine, members: impl Iterator<Item = Member>) -> Result<String> {
    let mut digest = Digest::checking();
    for member in members {
        let Some(seq) = engine.read_seq(member)? else { bail!("a member is not there") };
        digest.numbers(&[member.user, member.channel, seq]);
    }
    Ok(digest.sum())
}

fn joins(bench: &mut Bench, engine: &dyn Engine) -> Result<()> {
    let members: Vec<_> = (0..bench.world.scale.joins).map(|n| bench.world.joiner(n)).collect();
    let begin = Instant::now();
    members.chunks(JOINS).try_for_each(|members| engine.join(members, false))?;
    let rate = members.len() as f64 / begin.elapsed().as_secs_f64();
    let sum = read_seqs(engine, members.into_iter().step_by(50))?;
    bench.note("join", rate, Some(sum));
    Ok(())
}

/// One message a millisecond.
fn quiet(bench: &mut Bench, engine: &dyn Engine) -> Result<()> {
    let begin = Instant::now();
    let mut worst = Duration::ZERO;
    for n in 0..bench.world.scale.quiet * 1000 {
        let draft = bench.world.draft((10 << 40) + n);
        let due = begin + PAUSE * n as u32;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let sent = Instant::now();
        engine.append(&[draft])?;
        worst = worst.max(sent.elapsed());
    }
    bench.note("quiet-worst", millis(worst), None);
    Ok(())
}

fn beside_joins(bench: &mut Bench, engine: &dyn Engine) -> Result<()> {
    let mut longest = Vec::new();
    for part in 0..LARGE_BATCHES {
        // Groups that nobody joined yet.
        let first = 2 * bench.world.scale.joins + part * bench.world.scale.large;
        let members: Vec<_> =
            (first..first + bench.world.scale.large).map(|n| bench.world.joiner(n)).collect();
        longest.push(millis(beside(bench, engine, &members, part)?));
    }
    bench.note("beside-joins", median(longest), None);
    Ok(())
}

/// The longest append while members join in one commit.
fn beside(bench: &Bench, engine: &dyn Engine, members: &[Member], part: u64) -> Result<Duration> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let joining = scope.spawn(|| {
            thread::sleep(Duration::from_millis(20));
            let joined = engine.join(members, false);
            done.store(true, Ordering::Release);
            joined
        });
        let mut worst = Duration::ZERO;
        for n in (11 << 40) + (part << 32).. {
            let draft = bench.world.draft(n);
            let sent = Instant::now();
            engine.append(&[draft])?;
            worst = worst.max(sent.elapsed());
            if done.load(Ordering::Acquire) {
                break;
            }
        }
        joining.join().expect("no panic")?;
        Ok(worst)
    })
}
