//! Names that were made in one layer: a contiguous range of ids.
//!
//! A name may be given to several ids, one after another: what had it before was deleted, and the greatest id counts.
//!
//! A name is found by its hash, keyed anew in each process, so that nobody can choose names that collide. Their order is
//! made when somebody lists names, and when the layer is sealed.

use bytes::Bytes;
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use std::hash::BuildHasher;

use crate::env::sync::{Arc, Mutex};

/// Names and their ids, by the bytes of the names.
pub type NameOrder = Vec<(Bytes, u32)>;

/// The names of one kind in one layer.
#[derive(Debug, Default)]
pub struct LayerNames {
    first: u32,
    by_id: Vec<Bytes>,
    /// The newest place of each name.
    by_hash: HashTable<u32>,
    /// The place that a name had before it got another one.
    before: HashMap<u32, u32>,
    hasher: DefaultHashBuilder,
    /// The sum of the names' lengths.
    bytes: usize,
    /// Names in byte order, of those that there were when it was made.
    sorted: Mutex<Arc<NameOrder>>,
}

impl LayerNames {
    /// No names so far; the first one will have the id `first`.
    pub fn new(first: u32) -> Self {
        LayerNames { first, ..LayerNames::default() }
    }

    /// The newest id of a name, of those below `end`.
    pub fn find(&self, name: &[u8], end: u32) -> Option<u32> {
        let same = |place: &u32| self.by_id[*place as usize] == name;
        let mut place = self.by_hash.find(self.hasher.hash_one(name), same)?;
        while self.first + place >= end {
            place = self.before.get(place)?;
        }
        Some(self.first + place)
    }

    /// The name of an id.
    pub fn get(&self, id: u32) -> Option<&Bytes> {
        self.by_id.get(id.checked_sub(self.first)? as usize)
    }

    /// Gives the next id to a name.
    pub fn push(&mut self, name: Bytes) {
        self.bytes += name.len();
        let (hash, place) = (self.hasher.hash_one(&name[..]), self.by_id.len() as u32);
        self.by_id.push(name);
        let (by_id, hasher) = (&self.by_id, &self.hasher);
        let same = |other: &u32| by_id[*other as usize] == by_id[place as usize];
        let hash_of = |place: &u32| hasher.hash_one(&by_id[*place as usize][..]);
        match self.by_hash.entry(hash, same, hash_of) {
            Entry::Occupied(mut entry) => {
                let before = std::mem::replace(entry.get_mut(), place);
                self.before.insert(place, before);
            }
            Entry::Vacant(entry) => _ = entry.insert(place),
        }
    }

    /// The names in order of their ids.
    pub fn names(&self) -> &[Bytes] {
        &self.by_id
    }

    /// The order as it was made last, and the names that are missing there.
    pub fn unsorted(&self) -> (Arc<NameOrder>, NameOrder) {
        let sorted = self.sorted.lock().clone();
        let missing = self.by_id[sorted.len().min(self.by_id.len())..].iter().cloned();
        let missing = missing.zip(self.first + sorted.len() as u32..).collect();
        (sorted, missing)
    }

    /// Keeps an order that is newer than the one before.
    pub fn keep_sorted(&self, order: Arc<NameOrder>) {
        let mut sorted = self.sorted.lock();
        if sorted.len() < order.len() {
            *sorted = order;
        }
    }

    /// About how much memory they take, in bytes.
    pub fn memory(&self) -> usize {
        self.bytes + self.by_id.len() * 56
    }
}
