//! One schema for all ordered key-value stores, as an author of a server would lay it out:
//!
//! | table | key | value |
//! |---|---|---|
//! | messages | channel, seq | id, sender, time, payload |
//! | heads | channel | last seq, id of the last message |
//! | members | user, channel | read up to |
//!
//! All numbers are 8 bytes, big-endian, so that a channel's messages and a user's rows are neighbours. The head row spares an append
//! and a list the search for a channel's end. A list walks the user's rows, looks the heads up in ascending order, ranks them by the
//! id of the last message, and reads the last messages of those that are shown. What changed is told by the same walk.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};

use super::{Engine, Token, decode, encode, number};
use crate::digest::{self, Digest};
use crate::world::{Draft, Mark, Member};

#[derive(Clone, Copy)]
pub enum Table {
    Messages,
    Heads,
    Members,
}

impl Table {
    pub const ALL: [Table; 3] = [Table::Messages, Table::Heads, Table::Members];

    pub fn name(self) -> &'static str {
        ["messages", "heads", "members"][self as usize]
    }
}

/// Goes on with the next pair, or not.
pub type See<'s> = &'s mut dyn FnMut(&[u8], &[u8]) -> bool;

pub trait Get {
    /// Shows the value of a key, if there is one.
    fn get(&self, table: Table, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<()>;
}

/// What a snapshot can be asked.
pub trait Read: Get {
    /// Shows the values of keys that ascend, by their places.
    fn get_many(&self, table: Table, keys: &[[u8; 8]], see: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        keys.iter().enumerate().try_for_each(|(at, key)| self.get(table, key, &mut |value| see(at, value)))
    }

    /// Shows pairs from a key to another, both included, from the last one on if `reverse`.
    fn scan(&self, table: Table, from: &[u8], to: &[u8], reverse: bool, see: See<'_>) -> Result<()>;
}

/// What is done in one commit.
pub trait Txn: Get {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()>;
}

/// An ordered key-value store with atomic batches.
pub trait Kv: Send + Sync {
    type Snapshot<'a>: Read
    where
        Self: 'a;

    fn snapshot(&self) -> Result<Self::Snapshot<'_>>;

    /// One commit. `touched` are the channels or users whose rows it reads.
    fn write(
        &self,
        touched: &mut dyn Iterator<Item = u64>,
        work: &mut dyn FnMut(&mut dyn Txn) -> Result<()>,
    ) -> Result<()>;

    fn sync(&self) -> Result<()>;

    fn split(&self) -> Result<()> {
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy, Default)]
struct KvHead {
    seq: u64,
    id: u64,
}

impl KvHead {
    fn decode(value: &[u8]) -> KvHead {
        KvHead { seq: number(value), id: number(&value[8..]) }
    }

    fn encode(self) -> [u8; 16] {
        pair(self.seq, self.id)
    }
}

/// A conversation, before its last message is read.
struct Standing {
    channel: u64,
    read_seq: u64,
    head: KvHead,
}

pub struct KvEngine<K> {
    kv: K,
    /// How many commits there were since it was opened: if none was made, nothing changed.
    version: AtomicU64,
}

impl<K: Kv> KvEngine<K> {
    pub fn new(kv: K) -> KvEngine<K> {
        KvEngine { kv, version: AtomicU64::new(0) }
    }

    /// A user's conversations that have messages and that `wanted` takes.
    fn standings(
        &self,
        snapshot: &K::Snapshot<'_>,
        user: u64,
        wanted: impl Fn(&Standing) -> bool,
    ) -> Result<Vec<Standing>> {
        let (mut channels, mut read) = (Vec::new(), Vec::new());
        snapshot.scan(Table::Members, &pair(user, 0), &pair(user, u64::MAX), false, &mut |key, value| {
            channels.push(number(&key[8..]).to_be_bytes());
            read.push(number(value));
            true
        })?;
        let mut standings = Vec::with_capacity(channels.len());
        snapshot.get_many(Table::Heads, &channels, &mut |at, value| {
            let channel = u64::from_be_bytes(channels[at]);
            let standing = Standing { channel, read_seq: read[at], head: KvHead::decode(value) };
            if wanted(&standing) {
                standings.push(standing);
            }
        })?;
        Ok(standings)
    }

    fn show(&self, snapshot: &K::Snapshot<'_>, standings: &[Standing], digest: &mut Digest) -> Result<()> {
        for &Standing { channel, read_seq, head } in standings {
            let mut shown = false;
            snapshot.get(Table::Messages, &pair(channel, head.seq), &mut |value| {
                shown = true;
                digest.entry(digest::Entry {
                    channel,
                    last_seq: head.seq,
                    read_seq,
                    last: decode(head.seq, value),
                });
            })?;
            if !shown {
                bail!("the last message of channel {channel} is not there");
            }
        }
        Ok(())
    }
}

impl<K: Kv> Engine for KvEngine<K> {
    fn append(&self, drafts: &[Draft]) -> Result<()> {
        self.kv.write(&mut drafts.iter().map(|draft| draft.channel), &mut |txn| {
            let mut heads = HashMap::with_capacity(drafts.len());
            for draft in drafts {
                let head = read_once(&mut heads, txn, draft.channel)?;
                *head = KvHead { seq: head.seq + 1, id: draft.id };
                txn.put(Table::Messages, &pair(draft.channel, head.seq), &encode(draft))?;
            }
            heads
                .into_iter()
                .try_for_each(|(channel, head)| txn.put(Table::Heads, &channel.to_be_bytes(), &head.encode()))
        })?;
        self.version.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn last(&self, channel: u64, count: usize, digest: &mut Digest) -> Result<()> {
        let (from, to) = (pair(channel, 0), pair(channel, u64::MAX));
        self.messages(channel, &from, &to, true, count, digest)
    }

    fn range(&self, channel: u64, from: u64, count: usize, digest: &mut Digest) -> Result<()> {
        let (from, to) = (pair(channel, from), pair(channel, from + count as u64 - 1));
        self.messages(channel, &from, &to, false, count, digest)
    }

    fn last_seq(&self, channel: u64) -> Result<u64> {
        let mut seq = 0;
        self.kv.snapshot()?.get(Table::Heads, &channel.to_be_bytes(), &mut |value| seq = number(value))?;
        Ok(seq)
    }

    fn join(&self, members: &[Member], unread: bool) -> Result<()> {
        self.kv.write(&mut members.iter().map(|member| member.user), &mut |txn| {
            let mut heads = HashMap::new();
            for &Member { user, channel } in members {
                let read = if unread { 0 } else { read_once(&mut heads, txn, channel)?.seq };
                txn.put(Table::Members, &pair(user, channel), &read.to_be_bytes())?;
            }
            Ok(())
        })
    }

    fn mark(&self, marks: &[Mark]) -> Result<()> {
        self.kv.write(&mut marks.iter().map(|mark| mark.member.user), &mut |txn| {
            for &Mark { member: Member { user, channel }, seq } in marks {
                let key = pair(user, channel);
                let mut before = None;
                txn.get(Table::Members, &key, &mut |value| before = Some(number(value)))?;
                let seq = seq.min(head(txn, channel)?.seq);
                if seq > before.context("a mark of somebody who is no member")? {
                    txn.put(Table::Members, &key, &seq.to_be_bytes())?;
                }
            }
            Ok(())
        })
    }

    fn read_seq(&self, Member { user, channel }: Member) -> Result<Option<u64>> {
        let mut read = None;
        self.kv
            .snapshot()?
            .get(Table::Members, &pair(user, channel), &mut |value| read = Some(number(value)))?;
        Ok(read)
    }

    fn list(&self, user: u64, limit: usize, unread_only: bool, digest: &mut Digest) -> Result<()> {
        let snapshot = self.kv.snapshot()?;
        let unread = |standing: &Standing| standing.head.seq > standing.read_seq;
        let mut standings = self.standings(&snapshot, user, |standing| {
            standing.head.seq > 0 && (!unread_only || unread(standing))
        })?;
        let newest = |standing: &Standing| Reverse(standing.head.id);
        if standings.len() > limit {
            standings.select_nth_unstable_by_key(limit, newest);
            standings.truncate(limit);
        }
        standings.sort_unstable_by_key(newest);
        self.show(&snapshot, &standings, digest)
    }

    fn token(&self, user: u64) -> Result<Token> {
        let version = self.version.load(Ordering::Acquire);
        let standings = self.standings(&self.kv.snapshot()?, user, |_| true)?;
        let id = standings.iter().map(|standing| standing.head.id).max().unwrap_or_default();
        Ok(Token::Newest { id, version })
    }

    fn since(&self, user: u64, token: &Token, digest: &mut Digest) -> Result<()> {
        let Token::Newest { id, version } = *token else { bail!("a token of another store") };
        if version == self.version.load(Ordering::Acquire) {
            return Ok(());
        }
        let snapshot = self.kv.snapshot()?;
        let mut standings = self.standings(&snapshot, user, |standing| standing.head.id > id)?;
        standings.sort_unstable_by_key(|standing| standing.head.id);
        self.show(&snapshot, &standings, digest)
    }

    fn sync(&self) -> Result<()> {
        self.kv.sync()
    }

    fn split(&self) -> Result<()> {
        self.kv.split()
    }

    fn settle(&mut self) -> Result<()> {
        self.kv.settle()
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.kv.sync()
    }
}

impl<K: Kv> KvEngine<K> {
    fn messages(
        &self,
        channel: u64,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        count: usize,
        digest: &mut Digest,
    ) -> Result<()> {
        let mut left = count;
        self.kv.snapshot()?.scan(Table::Messages, from, to, reverse, &mut |key, value| {
            digest.message(channel, decode(number(&key[8..]), value));
            left -= 1;
            left > 0
        })
    }
}

fn head(txn: &dyn Txn, channel: u64) -> Result<KvHead> {
    let mut head = KvHead::default();
    txn.get(Table::Heads, &channel.to_be_bytes(), &mut |value| head = KvHead::decode(value))?;
    Ok(head)
}

/// A head as this commit leaves it.
fn read_once<'h>(heads: &'h mut HashMap<u64, KvHead>, txn: &dyn Txn, channel: u64) -> Result<&'h mut KvHead> {
    Ok(match heads.entry(channel) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(head(txn, channel)?),
    })
}

fn pair(first: u64, second: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&second.to_be_bytes());
    key
}
