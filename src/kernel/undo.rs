//! Images that were replaced while somebody may still look at them.
//!
//! Rows and heads in memory are replaced in place. While a view older than a change is alive, or the change is not yet
//! published, what it replaced is kept here; otherwise nothing is copied. An old image holds until the version of the
//! change that replaced it. What was not there has no image: what is there now tells by its version that it is too new.

use std::collections::VecDeque;
use std::hash::Hash;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

/// Old images of one table in one layer.
#[derive(Debug)]
pub struct Undo<K, V> {
    /// For each key its old images.
    images: HashMap<K, Images<V>>,
    /// All of them in the order in which they ended, with the bytes that each holds beside itself.
    order: VecDeque<(u64, K, usize)>,
    /// The sum of those bytes.
    heap: usize,
}

/// The old images of a key, oldest first, with the version at which each ended. Nearly always there is one.
#[derive(Debug)]
enum Images<V> {
    One(u64, Box<V>),
    Many(VecDeque<(u64, Box<V>)>),
}

impl<V> Images<V> {
    /// The version at which the newest one ended.
    fn last(&self) -> Option<u64> {
        match self {
            Images::One(until, _) => Some(*until),
            Images::Many(many) => many.back().map(|(until, _)| *until),
        }
    }

    fn push(self, version: u64, image: Box<V>) -> Images<V> {
        let mut many = match self {
            Images::One(until, first) => VecDeque::from([(until, first)]),
            Images::Many(many) => many,
        };
        many.push_back((version, image));
        Images::Many(many)
    }

    /// The first one that ended after `version`.
    fn find(&self, version: u64) -> Option<&V> {
        match self {
            Images::One(until, image) => (*until > version).then_some(&**image),
            Images::Many(many) => {
                let after = many.partition_point(|(until, _)| *until <= version);
                many.get(after).map(|(_, image)| &**image)
            }
        }
    }

    /// Drops the oldest one. Returns whether it was the last.
    fn pop(&mut self) -> bool {
        match self {
            Images::One(..) => true,
            Images::Many(many) => {
                many.pop_front();
                many.is_empty()
            }
        }
    }
}

impl<K, V> Default for Undo<K, V> {
    fn default() -> Self {
        Undo { images: HashMap::new(), order: VecDeque::new(), heap: 0 }
    }
}

impl<K: Copy + Eq + Hash, V> Undo<K, V> {
    /// Keeps what a change of `version` replaced, which holds `heap` bytes beside itself. Within one change only the first
    /// image counts.
    pub fn push(&mut self, key: K, version: u64, image: V, heap: usize) {
        match self.images.entry(key) {
            Entry::Vacant(entry) => _ = entry.insert(Images::One(version, Box::new(image))),
            Entry::Occupied(entry) if entry.get().last() == Some(version) => return,
            Entry::Occupied(entry) => {
                _ = entry.replace_entry_with(|_, images| Some(images.push(version, Box::new(image))));
            }
        }
        self.order.push_back((version, key, heap));
        self.heap += heap;
    }

    /// The image of a key as of `version`, if a later change replaced it.
    pub fn find(&self, key: &K, version: u64) -> Option<&V> {
        if self.order.is_empty() {
            return None;
        }
        self.images.get(key)?.find(version)
    }

    /// Forgets what only views older than `version` need: at most so many images, so that no lock is held for long.
    pub fn trim(&mut self, version: u64, most: usize) {
        for _ in 0..most {
            let due = self.order.pop_front_if(|(until, ..)| *until <= version);
            let Some((_, key, heap)) = due else { return };
            self.heap -= heap;
            if let Entry::Occupied(mut entry) = self.images.entry(key)
                && entry.get_mut().pop()
            {
                entry.remove();
            }
        }
    }

    /// About how much memory it takes, in bytes.
    pub fn memory(&self) -> usize {
        self.order.len() * (size_of::<(u64, K, usize)>() + size_of::<V>() + 64) + self.heap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_finds_what_held_at_its_version() {
        let mut undo = Undo::default();
        undo.push(1, 5, "four", 4);
        undo.push(1, 5, "within the same change", 22);
        undo.push(1, 8, "five", 4);
        assert_eq!(undo.find(&1, 4), Some(&"four"));
        assert_eq!(undo.find(&1, 5), Some(&"five"));
        assert_eq!(undo.find(&1, 8), None);
        assert_eq!(undo.find(&2, 4), None);
        undo.trim(5, 9);
        assert_eq!(undo.find(&1, 5), Some(&"five"));
        undo.trim(8, 9);
        assert_eq!((undo.find(&1, 5), undo.memory()), (None, 0));
    }
}
