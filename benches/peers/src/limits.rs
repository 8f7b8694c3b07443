//! What the machine can do at best, measured beside the stores.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::world::{Scale, World};

const LARGE: usize = 64 << 20;
const TEXT: usize = 8 << 20;
const BLOCK: usize = 16 << 10;
const PAGE: usize = 4 << 10;
const SYNCS: usize = 200;
const READS: usize = 100_000;

#[derive(Serialize)]
pub struct Limit {
    pub title: &'static str,
    pub unit: &'static str,
    /// By round.
    pub values: Vec<f64>,
}

type Value = (&'static str, &'static str, f64);

/// Puts the values of a round to those of the rounds before.
pub fn add(limits: &mut Vec<Limit>, values: Vec<Value>) {
    for (title, unit, value) in values {
        match limits.iter_mut().find(|limit| limit.title == title) {
            Some(limit) => limit.values.push(value),
            None => limits.push(Limit { title, unit, values: vec![value] }),
        }
    }
}

pub fn measure(dir: &Path, seed: u64) -> Result<Vec<Value>> {
    let mut values = memory();
    let text = World::new(Scale::named("small").expect("a scale"), seed).text(TEXT);
    values.extend(compression(&text)?);
    let path = dir.join("limits");
    values.extend(disk(&path)?);
    std::fs::remove_file(path)?;
    Ok(values)
}

/// Gigabytes a second, the best of three.
fn rate(bytes: usize, mut work: impl FnMut()) -> f64 {
    let mut once = || {
        let begin = Instant::now();
        work();
        begin.elapsed()
    };
    let best = (0..3).map(|_| once()).min().unwrap_or_default();
    bytes as f64 / best.as_secs_f64() / 1e9
}

fn memory() -> Vec<Value> {
    let from = vec![1_u8; LARGE];
    let mut to = vec![0_u8; LARGE];
    vec![
        ("copy memory", "GB/s", rate(LARGE, || black_box(&mut to).copy_from_slice(black_box(&from)))),
        ("CRC-32 (crc32fast)", "GB/s", rate(LARGE, || _ = black_box(crc32fast::hash(black_box(&from))))),
    ]
}

fn compression(text: &[u8]) -> Result<Vec<Value>> {
    use lz4_flex::block::{compress, decompress};
    let blocks: Vec<_> = text.chunks_exact(BLOCK).map(compress).collect();
    let compressed: usize = blocks.iter().map(Vec::len).sum();
    let pack = || text.chunks_exact(BLOCK).for_each(|block| drop(black_box(compress(block))));
    let unpack = || blocks.iter().for_each(|block| drop(black_box(decompress(block, BLOCK))));
    Ok(vec![
        ("lz4 (lz4_flex), compress blocks of 16 KiB", "GB/s", rate(text.len(), pack)),
        ("lz4, decompress", "GB/s", rate(text.len(), unpack)),
        ("lz4, compressed / text", "", compressed as f64 / text.len() as f64),
    ])
}

fn disk(path: &Path) -> Result<Vec<Value>> {
    let chunk = vec![7_u8; BLOCK];
    let mut file = File::create(path)?;
    let begin = Instant::now();
    for _ in 0..LARGE / BLOCK {
        file.write_all(&chunk)?;
    }
    let wrote = LARGE as f64 / begin.elapsed().as_secs_f64() / 1e9;
    file.sync_all()?;

    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut syncs = Vec::with_capacity(SYNCS);
    for n in 0..SYNCS {
        let begin = Instant::now();
        file.write_all_at(&chunk[..PAGE], (n % 16 * PAGE) as u64)?;
        file.sync_data()?;
        syncs.push(begin.elapsed());
    }
    syncs.sort();

    let mut page = vec![0; PAGE];
    let begin = Instant::now();
    for n in 0..READS {
        file.read_exact_at(&mut page, (n * 7919 % (LARGE / PAGE) * PAGE) as u64)?;
    }
    let read = begin.elapsed() / READS as u32;
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    Ok(vec![
        ("write to a file, 16 KiB a call, without sync", "GB/s", wrote),
        ("overwrite 4 KiB and fdatasync, median", "µs", micros(syncs[SYNCS / 2])),
        ("read 4 KiB of a file in memory (pread)", "µs", micros(read)),
    ])
}
