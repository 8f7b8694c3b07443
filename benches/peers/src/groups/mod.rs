//! How each group of works is done: in a process of its own, with one store.
//!
//! Where answers are read, the same questions are asked twice: first each answer is summed up, which warms the caches too, and then
//! the time is taken, of several passes if they are quick.

mod build;
mod durable;
mod lists;
mod mixed;
mod opening;
mod reads;
mod spread;
mod writes;

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::engines::{Durability, Engine, Kind};
use crate::works::{Group, Measure};
use crate::world::{Scale, World};

/// What a process has to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Task {
    pub kind: Kind,
    pub group: Group,
    /// Of [`Group::Kill`]: whether to fill the store and wait for the end.
    pub fill: bool,
    pub dir: PathBuf,
    pub scale: Scale,
    pub seed: u64,
}

/// The folder of the store that the group `Build` fills, and others use.
pub const FILLED: &str = "filled";

/// Quick questions are asked again until that much time has passed.
const LEAST_TIME: Duration = Duration::from_millis(200);

const PAGE: usize = 4096;

/// What a process says when it may be killed.
pub const READY: &str = "ready";

pub fn run(task: Task) -> Result<Vec<Measure>> {
    let Task { kind, group, fill, dir, scale, seed } = task;
    let mut bench = Bench { kind, dir, world: World::new(scale, seed), measures: Vec::new() };
    match group {
        Group::Build => build::run(&mut bench),
        Group::Open => opening::run(&mut bench),
        Group::Read => reads::run(&mut bench),
        Group::List => lists::run(&mut bench),
        Group::Write => writes::run(&mut bench),
        Group::Durable => durable::run(&mut bench),
        Group::Kill if fill => opening::fill_and_wait(&bench),
        Group::Kill => opening::after_kill(&mut bench),
        Group::Spread => spread::run(&mut bench),
        Group::Mixed => mixed::run(&mut bench),
    }?;
    Ok(bench.measures)
}

struct Bench {
    kind: Kind,
    dir: PathBuf,
    world: World,
    measures: Vec<Measure>,
}

impl Bench {
    /// The store that the group `Build` filled.
    fn filled(&self) -> Result<Box<dyn Engine>> {
        self.kind.open(&self.dir.join(FILLED), Durability::Buffered, self.expected())
    }

    /// About how many bytes the filled store is given.
    fn expected(&self) -> u64 {
        self.world.scale.messages * 3 / 2 * 280
    }

    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    fn note(&mut self, work: &str, value: f64, sum: Option<String>) {
        self.measures.push(Measure { work: work.to_owned(), value, sum });
    }

    /// Asks `count` questions: the mean time of one in microseconds.
    fn questions(
        &mut self,
        work: &str,
        count: u64,
        ask: impl Fn(u64, &mut Digest) -> Result<()>,
    ) -> Result<()> {
        let mut check = Digest::checking();
        (0..count).try_for_each(|n| ask(n, &mut check))?;
        let mut touch = Digest::touching();
        let time = mean_time(count, |n| ask(n, &mut touch))?;
        std::hint::black_box(touch.count());
        self.note(work, time, Some(check.sum()));
        Ok(())
    }

    /// The sum over the ends of some channels.
    fn ends(&self, engine: &dyn Engine, channels: impl Iterator<Item = u64>) -> Result<String> {
        let mut digest = Digest::checking();
        for channel in channels {
            digest.numbers(&[engine.last_seq(channel)?]);
            engine.last(channel, 20, &mut digest)?;
        }
        Ok(digest.sum())
    }

    /// Some channels, the same for each store.
    fn sample(&self, count: u64) -> impl Iterator<Item = u64> + use<> {
        let mut random = self.world.random("sample", 0);
        let channels: Vec<_> = (0..count).map(|_| self.world.busy(&mut random)).collect();
        channels.into_iter()
    }
}

/// How long one of `count` questions takes, in microseconds.
fn mean_time(count: u64, mut ask: impl FnMut(u64) -> Result<()>) -> Result<f64> {
    let (begin, mut rounds) = (Instant::now(), 0);
    while rounds == 0 || begin.elapsed() < LEAST_TIME {
        (0..count).try_for_each(&mut ask)?;
        rounds += 1;
    }
    Ok(micros(begin.elapsed()) / (count * rounds) as f64)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The time that a processor worked: for this process, or this thread.
fn worked(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// How many bytes this process gave to the disk, or will when pages are written back.
fn written() -> Result<u64> {
    let counts = fs::read_to_string("/proc/self/io")?;
    let line = counts.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.context("a count of written bytes")?.parse()?)
}

/// How many bytes of the disk a directory takes.
fn taken(dir: &Path) -> Result<u64> {
    each_file(dir, &|path| Ok(fs::metadata(path)?.blocks() * 512))
}

/// How many bytes of it are in pages that hold anything: the others are only reserved.
fn used(dir: &Path) -> Result<u64> {
    each_file(dir, &|path| {
        let mut file = fs::File::open(path)?;
        let (mut page, mut sum) = ([0; PAGE], 0);
        loop {
            let len = fill(&mut file, &mut page)?;
            sum += if page[..len].iter().any(|byte| *byte != 0) { len as u64 } else { 0 };
            if len < PAGE {
                return Ok(sum);
            }
        }
    })
}

/// Reads until the page is full or the file ends; returns how much.
fn fill(file: &mut fs::File, page: &mut [u8]) -> Result<usize> {
    let mut len = 0;
    while len < page.len() {
        match file.read(&mut page[len..])? {
            0 => break,
            more => len += more,
        }
    }
    Ok(len)
}

/// The sum over all files below a directory.
fn each_file(dir: &Path, of: &dyn Fn(&Path) -> Result<u64>) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        sum += if path.is_dir() { each_file(&path, of)? } else { of(&path)? };
    }
    Ok(sum)
}
