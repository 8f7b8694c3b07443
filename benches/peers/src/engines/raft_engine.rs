//! raft-engine, the log of TiKV: a channel is a region, a seq an index. It keeps the places of all entries in memory, and knows nothing
//! but logs.
//!
//! Settings: its defaults, which compress batches from 8 KiB on with lz4. Entries are protobuf messages: one field of bytes, index first.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, LogBatch, MessageExt};

use super::stripes::Stripes;
use super::{Durability, Engine, decode, encode, number};
use crate::digest::Digest;
use crate::world::Draft;

pub struct RaftEngine {
    engine: raft_engine::Engine,
    durable: bool,
    stripes: Stripes,
}

struct Stored;

impl MessageExt for Stored {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        number(&entry.value)
    }
}

fn entry(seq: u64, draft: &Draft) -> BytesValue {
    let mut entry = BytesValue::new();
    entry.set_value([&seq.to_be_bytes()[..], &encode(draft)].concat());
    entry
}

impl RaftEngine {
    pub fn open(dir: &Path, durability: Durability) -> Result<RaftEngine> {
        let dir = dir.to_str().context("a path in UTF-8")?.to_owned();
        let engine = raft_engine::Engine::open(Config { dir, ..Config::default() })?;
        Ok(RaftEngine { engine, durable: durability == Durability::Durable, stripes: Stripes::new() })
    }

    /// Entries from a seq up to another, both included.
    fn entries(&self, channel: u64, from: u64, to: u64) -> Result<Vec<BytesValue>> {
        let mut entries = Vec::new();
        if from <= to {
            self.engine.fetch_entries_to::<Stored>(channel, from, to + 1, None, &mut entries)?;
        }
        Ok(entries)
    }
}

fn show<'e>(channel: u64, entries: impl Iterator<Item = &'e BytesValue>, digest: &mut Digest) {
    for entry in entries {
        digest.message(channel, decode(Stored::index(entry), &entry.value[8..]));
    }
}

impl Engine for RaftEngine {
    fn append(&self, drafts: &[Draft]) -> Result<()> {
        let _locks = self.stripes.lock(drafts.iter().map(|draft| draft.channel));
        let mut ends: HashMap<u64, u64> = HashMap::with_capacity(drafts.len());
        let mut batch = LogBatch::with_capacity(drafts.len());
        for draft in drafts {
            let end = || self.engine.last_index(draft.channel).unwrap_or_default();
            let seq = ends.entry(draft.channel).or_insert_with(end);
            *seq += 1;
            batch.add_entries::<Stored>(draft.channel, &[entry(*seq, draft)])?;
        }
        self.engine.write(&mut batch, self.durable)?;
        Ok(())
    }

    fn last(&self, channel: u64, count: usize, digest: &mut Digest) -> Result<()> {
        let end = self.last_seq(channel)?;
        let entries = self.entries(channel, (end + 1).saturating_sub(count as u64).max(1), end)?;
        show(channel, entries.iter().rev(), digest);
        Ok(())
    }

    fn range(&self, channel: u64, from: u64, count: usize, digest: &mut Digest) -> Result<()> {
        let to = self.last_seq(channel)?.min(from + count as u64 - 1);
        show(channel, self.entries(channel, from, to)?.iter(), digest);
        Ok(())
    }

    fn last_seq(&self, channel: u64) -> Result<u64> {
        Ok(self.engine.last_index(channel).unwrap_or_default())
    }

    fn sync(&self) -> Result<()> {
        Ok(self.engine.sync()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()
    }
}
