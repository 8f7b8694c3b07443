//! The rows of one table in one layer, in memory.
//!
//! A look-up costs one probe for the group and a search in it. A group keeps its keys in order: small ones in a sorted
//! array, large ones in a tree. Groups themselves are sorted only when the layer is sealed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::chunks::Chunks;
use super::undo::Undo;
use crate::model::key::TableKey;
use crate::model::{Family, Table};

/// A group of more rows becomes a tree.
const FEW: usize = 64;

/// The rows of a table.
#[derive(Debug)]
pub struct Rows<T: Table> {
    rows: Chunks<T>,
    /// How many bytes they hold beside themselves.
    heap: usize,
    groups: HashMap<u32, RowGroup<<T::Key as TableKey>::Minor>>,
    undo: Undo<T::Key, T>,
}

impl<T: Table> Default for Rows<T> {
    fn default() -> Self {
        Rows { rows: Chunks::default(), heap: 0, groups: HashMap::new(), undo: Undo::default() }
    }
}

/// All tables' rows of a layer.
pub struct AllRows;

impl Family for AllRows {
    type Of<T: Table> = Rows<T>;
}

/// The rows of one group, in order: their places in the array of rows.
#[derive(Debug)]
struct RowGroup<M> {
    order: Order<M>,
    /// The greatest version in it.
    newest: u64,
}

#[derive(Debug)]
enum Order<M> {
    Few(SmallVec<[(M, u32); 2]>),
    Many(BTreeMap<M, u32>),
}

impl<M: Copy + Ord> Order<M> {
    fn get(&self, minor: &M) -> Option<u32> {
        match self {
            Order::Few(few) => few.binary_search_by(|(other, _)| other.cmp(minor)).ok().map(|at| few[at].1),
            Order::Many(many) => many.get(minor).copied(),
        }
    }

    /// The place of `minor`, which is `next` if it is new; and whether it is.
    fn place(&mut self, minor: M, next: u32) -> (u32, bool) {
        match self {
            Order::Few(few) => match few.binary_search_by(|(other, _)| other.cmp(&minor)) {
                Ok(at) => (few[at].1, false),
                Err(at) => {
                    few.insert(at, (minor, next));
                    if few.len() > FEW {
                        *self = Order::Many(few.drain(..).collect());
                    }
                    (next, true)
                }
            },
            Order::Many(many) => match many.entry(minor) {
                Entry::Occupied(entry) => (*entry.get(), false),
                Entry::Vacant(entry) => (*entry.insert(next), true),
            },
        }
    }

    /// Visits the places from `minor` on, until `visit` says stop.
    fn visit(&self, minor: M, mut visit: impl FnMut(M, u32) -> bool) {
        match self {
            Order::Few(few) => {
                let from = few.partition_point(|(other, _)| *other < minor);
                let _ = few[from..].iter().all(|(minor, place)| visit(*minor, *place));
            }
            Order::Many(many) => {
                let _ = many.range(minor..).all(|(minor, place)| visit(*minor, *place));
            }
        }
    }
}

impl<T: Table> Rows<T> {
    /// The row of a key as of `version`.
    pub fn get(&self, key: T::Key, version: u64) -> Option<&T> {
        let row = self.undo.find(&key, version).or_else(|| self.newest(key));
        row.filter(|row| row.version() <= version)
    }

    /// The newest row of a key, published or not.
    pub fn newest(&self, key: T::Key) -> Option<&T> {
        let place = self.groups.get(&key.group())?.order.get(&key.minor())?;
        self.rows.get(place as usize)
    }

    /// Sets a key's row. With `keep`, views older than `version` find what was there before.
    pub fn put(&mut self, key: T::Key, row: T, version: u64, keep: bool) {
        let newest = row.version();
        self.heap += row.heap();
        let next = self.rows.len() as u32;
        let group = self
            .groups
            .entry(key.group())
            .or_insert_with(|| RowGroup { order: Order::Few(SmallVec::new()), newest: 0 });
        group.newest = group.newest.max(newest);
        match group.order.place(key.minor(), next) {
            (_, true) => self.rows.push(row),
            (place, false) => {
                let old = std::mem::replace(&mut self.rows[place as usize], row);
                let heap = old.heap();
                self.heap -= heap;
                if keep {
                    self.undo.push(key, version, old, heap);
                }
            }
        }
    }

    /// Visits the rows of `from`'s group from there on, as of `version`, until `visit` says stop. With `newer_than` above 0
    /// a group without a newer row costs nothing.
    pub fn visit(
        &self,
        from: T::Key,
        version: u64,
        newer_than: u64,
        mut visit: impl FnMut(T::Key, &T) -> bool,
    ) {
        let Some(group) = self.groups.get(&from.group()) else { return };
        if newer_than > 0 && group.newest <= newer_than {
            return;
        }
        group.order.visit(from.minor(), |minor, place| {
            let key = T::Key::of(from.group(), minor);
            let row = self.undo.find(&key, version).or_else(|| self.rows.get(place as usize));
            row.is_none_or(|row| row.version() > version || visit(key, row))
        });
    }

    /// All rows in order of their keys.
    pub fn sorted(&self) -> impl Iterator<Item = (T::Key, &T)> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_unstable_by_key(|(group, _)| **group);
        groups.into_iter().flat_map(move |(id, group)| {
            let mut places = Vec::new();
            match &group.order {
                Order::Few(few) => places.extend(few.iter().copied()),
                Order::Many(many) => places.extend(many.iter().map(|(minor, place)| (*minor, *place))),
            }
            places.into_iter().map(move |(minor, place)| (T::Key::of(*id, minor), &self.rows[place as usize]))
        })
    }

    /// The groups that have rows, ascending.
    pub fn group_numbers(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = self.groups.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Forgets what only views older than `version` need.
    pub fn trim(&mut self, version: u64, most: usize) {
        self.undo.trim(version, most);
    }

    /// About how much memory old images take, in bytes.
    pub fn undo_memory(&self) -> usize {
        self.undo.memory()
    }

    /// About how much memory the rows take, in bytes: a row, its place, what it holds, a group of its own at
    /// worst, and slack.
    pub fn memory(&self) -> usize {
        self.rows.len() * (size_of::<T>() * 5 / 4 + 16) + self.heap + self.groups.len() * 96
    }
}
