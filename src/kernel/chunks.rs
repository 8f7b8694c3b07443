//! A vector that never moves what it holds. It grows under a layer's lock, where copying all of it would stop readers for
//! tens of milliseconds.

use std::ops::{Index, IndexMut};

/// How many items a chunk has.
const CHUNK: usize = 512;

/// Items in the order in which they were added.
#[derive(Debug)]
pub struct Chunks<T> {
    /// All full but the last.
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Chunks { chunks: Vec::new() }
    }
}

impl<T> Chunks<T> {
    /// Adds an item.
    pub fn push(&mut self, item: T) {
        match self.chunks.last_mut().filter(|last| last.len() < CHUNK) {
            Some(last) => last.push(item),
            None => {
                // The first one grows, since many tables have a few rows only.
                let mut chunk = Vec::with_capacity(if self.chunks.is_empty() { 1 } else { CHUNK });
                chunk.push(item);
                self.chunks.push(chunk);
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// The item that was added after `place` others.
    pub fn get(&self, place: usize) -> Option<&T> {
        self.chunks.get(place / CHUNK)?.get(place % CHUNK)
    }
}

impl<T> Index<usize> for Chunks<T> {
    type Output = T;

    fn index(&self, place: usize) -> &T {
        &self.chunks[place / CHUNK][place % CHUNK]
    }
}

impl<T> IndexMut<usize> for Chunks<T> {
    fn index_mut(&mut self, place: usize) -> &mut T {
        &mut self.chunks[place / CHUNK][place % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_stay_where_they_are() {
        let mut chunks = Chunks::default();
        assert_eq!((chunks.len(), chunks.get(0)), (0, None));
        let mut places = Vec::new();
        for n in 0..3 * CHUNK {
            chunks.push(n);
            assert_eq!((chunks.len(), chunks[n], chunks.get(n + 1)), (n + 1, n, None));
            if n >= CHUNK {
                places.push(&raw const chunks[n]);
            }
        }
        chunks[CHUNK] = 7;
        assert_eq!((chunks.get(CHUNK), chunks.get(2 * CHUNK)), (Some(&7), Some(&(2 * CHUNK))));
        assert!(places.iter().enumerate().all(|(n, place)| *place == &raw const chunks[CHUNK + n]));
    }
}
