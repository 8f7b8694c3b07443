//! What one unsealed log segment says, indexed in memory: its rows, members, heads, names, and where its messages lie.
//!
//! Payloads stay in the log. Rows and heads are full after-images, so that the newest source that has a key is right.
//! Invariant: within one segment a channel's seqs are contiguous, because a loss of power begins a new segment.

use std::collections::BTreeMap;
use std::ops::{RangeBounds, RangeInclusive};

use bytes::Bytes;
use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::change::Key;
use crate::types::{ChannelId, Head, Mark, Row, UserId};

/// The index of one log segment.
#[derive(Debug)]
pub struct Memtable {
    pub rows: RowTable,
    pub members: BTreeMap<(ChannelId, UserId), bool>,
    /// The heads that changed, as of the segment's end.
    pub heads: HashMap<ChannelId, Head>,
    pub channels: Names,
    pub users: Names,
    pub messages: HashMap<ChannelId, Chain>,
    /// The last version that it covers.
    pub version: u64,
    /// Bytes of payloads and ids that were appended.
    pub user_bytes: u64,
    /// How many messages it indexes.
    pub count: u64,
}

/// Rows by user and channel. Most look-ups are of one key, and often of one that is not there: they cost one probe. The
/// tree knows the order.
#[derive(Debug, Default)]
pub struct RowTable {
    rows: Vec<Row>,
    places: HashMap<Key, u32>,
    order: BTreeMap<Key, u32>,
}

impl RowTable {
    /// The row of a key.
    pub fn get(&self, key: &Key) -> Option<&Row> {
        self.places.get(key).map(|place| &self.rows[*place as usize])
    }

    /// Sets a key's row.
    pub fn insert(&mut self, key: Key, row: Row) {
        let next = self.rows.len() as u32;
        let place = *self.places.entry(key).or_insert(next);
        if place == next {
            self.order.insert(key, place);
            self.rows.push(row);
        } else {
            self.rows[place as usize] = row;
        }
    }

    /// The rows of a range of keys, ascending.
    pub fn range(&self, keys: impl RangeBounds<Key>) -> impl Iterator<Item = (Key, &Row)> {
        self.order.range(keys).map(|(key, place)| (*key, &self.rows[*place as usize]))
    }
}

/// Names that were made in one log segment: a contiguous range of ids.
#[derive(Debug)]
pub struct Names {
    first: u32,
    by_id: Vec<Bytes>,
    by_name: BTreeMap<Bytes, u32>,
    /// The sum of the names' lengths.
    bytes: usize,
}

/// Where the messages of one channel lie in one log segment: about 4 bytes each.
#[derive(Clone, Debug)]
pub struct Chain {
    pub first_seq: u64,
    /// The version of the channel's last message before this segment, which leads to the file where it lies.
    pub previous: u64,
    offsets: SmallVec<[u32; 4]>,
}

impl Chain {
    /// The seq of the last message.
    pub fn last_seq(&self) -> u64 {
        self.first_seq + self.offsets.len() as u64 - 1
    }

    /// The offset of each message's record, in order of seq.
    pub fn offsets(&self) -> impl Iterator<Item = u64> + '_ {
        self.offsets.iter().map(|offset| u64::from(*offset))
    }

    /// The offsets of at most `limit` messages with a seq in `range`, from its first or its last on.
    pub fn range(&self, range: RangeInclusive<u64>, reverse: bool, limit: usize) -> Vec<u64> {
        let start = (*range.start()).max(self.first_seq);
        let end = (*range.end()).min(self.last_seq());
        if start > end {
            return Vec::new();
        }
        let part = &self.offsets[(start - self.first_seq) as usize..=(end - self.first_seq) as usize];
        if reverse {
            part.iter().rev().take(limit).map(|offset| u64::from(*offset)).collect()
        } else {
            part.iter().take(limit).map(|offset| u64::from(*offset)).collect()
        }
    }
}

impl Names {
    fn new(first: u32) -> Self {
        Names { first, by_id: Vec::new(), by_name: BTreeMap::new(), bytes: 0 }
    }

    /// The first id of the range.
    pub fn first(&self) -> u32 {
        self.first
    }

    /// The id behind the last one of the range.
    pub fn end(&self) -> u32 {
        self.first + self.by_id.len() as u32
    }

    /// The id of a name.
    pub fn find(&self, name: &[u8]) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The name of an id.
    pub fn get(&self, id: u32) -> Option<&Bytes> {
        self.by_id.get(id.checked_sub(self.first)? as usize)
    }

    /// Gives the next id to a name.
    pub fn push(&mut self, name: Bytes) {
        self.bytes += name.len();
        self.by_name.insert(name.clone(), self.end());
        self.by_id.push(name);
    }

    /// The names in order of their ids.
    pub fn names(&self) -> &[Bytes] {
        &self.by_id
    }

    /// At most `limit` names behind `name`, in byte order.
    pub fn after(&self, name: &[u8], limit: usize) -> Vec<(Bytes, u32)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let behind = self.by_name.range::<[u8], _>((Excluded(name), Unbounded));
        behind.take(limit).map(|(name, id)| (name.clone(), *id)).collect()
    }
}

impl Memtable {
    /// An empty index of a segment that begins behind `version`, with so many channels and users already named.
    pub fn new(version: u64, channels: u32, users: u32) -> Self {
        Memtable {
            rows: RowTable::default(),
            members: BTreeMap::new(),
            heads: HashMap::new(),
            channels: Names::new(channels),
            users: Names::new(users),
            messages: HashMap::new(),
            version,
            user_bytes: 0,
            count: 0,
        }
    }

    /// Indexes a message. `previous` is the version of the channel's message before it.
    pub fn push_message(&mut self, channel: ChannelId, mark: Mark, previous: u64, offset: u32) {
        let chain = self.messages.entry(channel).or_insert_with(|| Chain {
            first_seq: mark.seq,
            previous,
            offsets: SmallVec::new(),
        });
        chain.offsets.push(offset);
        self.count += 1;
        debug_assert_eq!(chain.last_seq(), mark.seq);
    }

    /// The rows of a user, ascending by channel.
    pub fn rows_of(&self, user: UserId, from: ChannelId) -> impl Iterator<Item = (ChannelId, &Row)> {
        let range = Key { user, channel: from }..=Key { user, channel: ChannelId(u32::MAX) };
        self.rows.range(range).map(|(key, row)| (key.channel, row))
    }

    /// The members of a channel that joined or left here, ascending.
    pub fn members_of(&self, channel: ChannelId, from: UserId) -> impl Iterator<Item = (UserId, bool)> + '_ {
        let range = (channel, from)..=(channel, UserId(u32::MAX));
        self.members.range(range).map(|((_, user), present)| (*user, *present))
    }

    /// About how much memory it takes, in bytes.
    pub fn memory(&self) -> usize {
        // An entry of a B-tree takes its size and about half as much again in slack, a row the slack of its vector; a name
        // stands twice.
        let names = |names: &Names| names.bytes + names.by_id.len() * 120;
        let (rows, members) = (self.rows.rows.len() * 160, self.members.len() * 20);
        rows + members
            + self.heads.len() * 64
            + self.messages.len() * 80
            + self.count as usize * 6
            + names(&self.channels)
            + names(&self.users)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.rows.rows.is_empty()
            && self.heads.is_empty()
            && self.channels.by_id.is_empty()
            && self.users.by_id.is_empty()
    }
}
