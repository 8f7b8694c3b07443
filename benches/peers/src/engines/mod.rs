//! What is asked of every store, and which stores there are.
//!
//! A store is opened for one durability: *buffered*, where a commit is with the operating system when it returns, or *durable*,
//! where it is on disk. How each store is set up stands at the head of its file, and in a word in [`Kind::settings`].

mod chanlog;
mod fjall;
mod kv;
mod lmdb;
mod raft_engine;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod sqlite;
mod stripes;

use std::hint::black_box;
use std::path::Path;

use ::chanlog::SyncToken;
use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Kept};
use crate::world::{Draft, Mark, Member};
use kv::KvEngine;

/// The memory that every store may take for its caches, as far as it can be told.
const CACHE: usize = 256 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    Buffered,
    Durable,
}

/// A moment to ask for changes since.
pub enum Token {
    /// The greatest id of a message in the user's conversations, and the number of commits.
    Newest {
        id: u64,
        version: u64,
    },
    Chanlog(SyncToken),
}

/// A store. Calls of several threads are allowed.
pub trait Engine: Send + Sync {
    /// Appends messages, in one commit.
    fn append(&self, drafts: &[Draft]) -> Result<()>;

    /// Appends messages from one thread, each in a commit of its own, at most so many of them unacknowledged; `false` if
    /// the store can't.
    fn append_in_flight(&self, _drafts: &[Draft], _window: usize) -> Result<bool> {
        Ok(false)
    }

    /// Shows the last messages, newest first.
    fn last(&self, channel: u64, count: usize, digest: &mut Digest) -> Result<()>;

    /// Makes a list of the last messages that the caller may keep; returns the sum of their seqs and lengths.
    fn last_kept(&self, channel: u64, count: usize) -> Result<u64> {
        let mut digest = Digest::keeping(count);
        self.last(channel, count, &mut digest)?;
        let kept: Vec<Kept> = black_box(digest.kept());
        Ok(kept.iter().map(|kept| kept.numbers[0] + kept.payload.len() as u64).sum())
    }

    /// Shows messages from a seq on, oldest first.
    fn range(&self, channel: u64, from: u64, count: usize, digest: &mut Digest) -> Result<()>;

    /// The seq of the channel's last message, or 0.
    fn last_seq(&self, channel: u64) -> Result<u64>;

    /// Makes users members, in one commit. What there is already counts as read, or nothing of it.
    fn join(&self, _members: &[Member], _unread: bool) -> Result<()> {
        only_a_log()
    }

    /// Marks as read, in one commit. No mark goes back, or beyond the channel's end.
    fn mark(&self, _marks: &[Mark]) -> Result<()> {
        only_a_log()
    }

    /// Up to where a member has read.
    fn read_seq(&self, _member: Member) -> Result<Option<u64>> {
        only_a_log()
    }

    /// Shows a user's conversations that have messages, the one with the newest message first, each with its last message.
    fn list(&self, _user: u64, _limit: usize, _unread_only: bool, _digest: &mut Digest) -> Result<()> {
        only_a_log()
    }

    /// The moment that [`Engine::since`] can be asked about.
    fn token(&self, _user: u64) -> Result<Token> {
        only_a_log()
    }

    /// Shows a user's conversations that got messages since then, the one with the oldest message first.
    fn since(&self, _user: u64, _token: &Token, _digest: &mut Digest) -> Result<()> {
        only_a_log()
    }

    /// Makes durable what was buffered.
    fn sync(&self) -> Result<()>;

    /// Begins a new file, if the store has such; leaves the rest as it is.
    fn split(&self) -> Result<()> {
        Ok(())
    }

    /// Does the upkeep that would be done sooner or later, so that it is not done while somebody measures.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()>;
}

fn only_a_log<T>() -> Result<T> {
    bail!("this store is only a log")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// As it comes.
    Chanlog,
    /// All sealed and merged before it is read.
    ChanlogSealed,
    /// All in one log segment that is not sealed.
    ChanlogLog,
    #[cfg(feature = "rocksdb")]
    Rocksdb,
    Lmdb,
    Redb,
    Fjall,
    Sqlite,
    RaftEngine,
}

impl Kind {
    /// All that were built.
    pub fn all() -> Vec<Kind> {
        Kind::value_variants().to_vec()
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Chanlog => "chanlog",
            Kind::ChanlogSealed => "chanlog, sealed",
            Kind::ChanlogLog => "chanlog, log",
            #[cfg(feature = "rocksdb")]
            Kind::Rocksdb => "RocksDB",
            Kind::Lmdb => "LMDB",
            Kind::Redb => "redb",
            Kind::Fjall => "fjall",
            Kind::Sqlite => "SQLite",
            Kind::RaftEngine => "raft-engine",
        }
    }

    pub fn is_chanlog(self) -> bool {
        matches!(self, Kind::Chanlog | Kind::ChanlogSealed | Kind::ChanlogLog)
    }

    /// Whether it has memberships and lists.
    pub fn has_rows(self) -> bool {
        self != Kind::RaftEngine
    }

    /// How it is set up, in a word.
    pub fn settings(self) -> &'static str {
        match self {
            Kind::Chanlog => "the defaults",
            Kind::ChanlogSealed => "the defaults; `seal` and `compact` when it is filled",
            Kind::ChanlogLog => "a log segment that holds everything, no background threads",
            #[cfg(feature = "rocksdb")]
            Kind::Rocksdb => {
                "three column families, 16 KiB blocks, bloom filters of 10 bits, 256 MiB of cache, lz4; locks striped by channel; \
                 all compacted when it is filled"
            }
            Kind::Lmdb => "three databases, no read-ahead; buffered: `MDB_NOSYNC`",
            Kind::Redb => {
                "three tables, 256 MiB of cache; buffered: `Durability::None`, and each 100 ms one `Immediate`; compacted when it \
                 is filled"
            }
            Kind::Fjall => {
                "three keyspaces, 256 MiB of cache, lz4; buffered: `PersistMode::Buffer`, durable: `SyncData`; locks striped by \
                 channel; all compacted when it is filled"
            }
            Kind::Sqlite => {
                "WAL, tables `WITHOUT ROWID`, 256 MiB of cache, a memory map; buffered: `synchronous=NORMAL`, durable: `FULL`; one \
                 connection writes; a checkpoint when it is filled"
            }
            Kind::RaftEngine => {
                "a region for each channel, the defaults, batches from 8 KiB compressed by lz4"
            }
        }
    }

    /// Opens the store in a directory, or makes one. `expected` bytes will be given to it.
    pub fn open(self, dir: &Path, durability: Durability, expected: u64) -> Result<Box<dyn Engine>> {
        std::fs::create_dir_all(dir)?;
        Ok(match self {
            Kind::Chanlog | Kind::ChanlogSealed | Kind::ChanlogLog => {
                Box::new(chanlog::Chanlog::open(dir, durability, self, expected)?)
            }
            #[cfg(feature = "rocksdb")]
            Kind::Rocksdb => Box::new(KvEngine::new(rocksdb::RocksDb::open(dir, durability)?)),
            Kind::Lmdb => Box::new(KvEngine::new(lmdb::Lmdb::open(dir, durability)?)),
            Kind::Redb => Box::new(KvEngine::new(redb::Redb::open(dir, durability)?)),
            Kind::Fjall => Box::new(KvEngine::new(fjall::Fjall::open(dir, durability)?)),
            Kind::Sqlite => Box::new(sqlite::Sqlite::open(dir, durability)?),
            Kind::RaftEngine => Box::new(raft_engine::RaftEngine::open(dir, durability)?),
        })
    }

    /// Opens the store so that it leaves small files alone, if it can be told to.
    pub fn open_unmerged(self, dir: &Path) -> Result<Box<dyn Engine>> {
        let kind = if self == Kind::Chanlog { Kind::ChanlogLog } else { self };
        kind.open(dir, Durability::Buffered, 0)
    }
}

/// The bytes of a message in stores that take any bytes: id, sender, time, payload.
fn encode(draft: &Draft) -> Vec<u8> {
    let mut value = Vec::with_capacity(24 + draft.payload.len());
    value.extend_from_slice(&draft.id.to_be_bytes());
    value.extend_from_slice(&draft.sender.to_be_bytes());
    value.extend_from_slice(&draft.at.to_be_bytes());
    value.extend_from_slice(&draft.payload);
    value
}

fn decode(seq: u64, value: &[u8]) -> crate::digest::Shown<'_> {
    crate::digest::Shown {
        seq,
        id: number(value),
        sender: number(&value[8..]),
        at: number(&value[16..]) as i64,
        payload: &value[24..],
    }
}

/// The number that bytes begin with.
fn number(bytes: &[u8]) -> u64 {
    let (first, _) = bytes.split_first_chunk().expect("8 bytes");
    u64::from_be_bytes(*first)
}
