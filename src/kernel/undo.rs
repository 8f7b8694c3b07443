//! Images that were replaced while somebody may still look at them.
//!
//! Rows and heads in memory are replaced in place. While a view older than a change is alive, or the change is not yet
//! published, what it replaced is kept here; otherwise nothing is copied. An old image holds until the version of the
//! change that replaced it; `None` stands for "was not there".

use std::collections::VecDeque;
use std::hash::Hash;

use hashbrown::HashMap;

/// Old images of one table in one layer.
#[derive(Debug)]
pub struct Undo<K, V> {
    /// For each key its old images, oldest first, with the version at which each ended.
    images: HashMap<K, VecDeque<(u64, Option<V>)>>,
    /// All of them in the order in which they ended.
    order: VecDeque<(u64, K)>,
}

impl<K, V> Default for Undo<K, V> {
    fn default() -> Self {
        Undo { images: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash, V> Undo<K, V> {
    /// Keeps what a change of `version` replaced. Within one change only the first image counts.
    pub fn push(&mut self, key: K, version: u64, image: Option<V>) {
        let images = self.images.entry(key).or_default();
        if images.back().is_some_and(|(until, _)| *until == version) {
            return;
        }
        images.push_back((version, image));
        self.order.push_back((version, key));
    }

    /// The image of a key as of `version`, if a later change replaced it.
    pub fn find(&self, key: &K, version: u64) -> Option<Option<&V>> {
        if self.order.is_empty() {
            return None;
        }
        let images = self.images.get(key)?;
        let after = images.partition_point(|(until, _)| *until <= version);
        images.get(after).map(|(_, image)| image.as_ref())
    }

    /// Forgets what only views older than `version` need: at most so many images, so that no lock is held for long.
    pub fn trim(&mut self, version: u64, most: usize) {
        for _ in 0..most {
            let Some((_, key)) = self.order.pop_front_if(|(until, _)| *until <= version) else { return };
            if let Some(images) = self.images.get_mut(&key) {
                images.pop_front();
                if images.is_empty() {
                    self.images.remove(&key);
                }
            }
        }
    }

    /// About how much memory it takes, in bytes.
    pub fn memory(&self) -> usize {
        self.order.len() * (size_of::<(u64, K)>() + size_of::<(u64, Option<V>)>() + 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_finds_what_held_at_its_version() {
        let mut undo = Undo::default();
        undo.push(1, 5, None);
        undo.push(1, 5, Some("within the same change"));
        undo.push(1, 8, Some("five"));
        assert_eq!(undo.find(&1, 4), Some(None));
        assert_eq!(undo.find(&1, 5), Some(Some(&"five")));
        assert_eq!(undo.find(&1, 8), None);
        assert_eq!(undo.find(&2, 4), None);
        undo.trim(5, 9);
        assert_eq!(undo.find(&1, 5), Some(Some(&"five")));
        undo.trim(8, 9);
        assert_eq!((undo.find(&1, 5), undo.memory()), (None, 0));
    }
}
