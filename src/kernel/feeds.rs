//! How many feeds there are, and how much memory they take together.

use crate::env::sync::Arc;
use crate::env::sync::atomic::{AtomicU64, Ordering};

/// Counts feeds and their memory.
#[derive(Debug, Default)]
pub struct FeedMemory {
    feeds: AtomicU64,
    bytes: AtomicU64,
}

impl FeedMemory {
    /// The number of feeds, and their bytes together.
    pub fn now(&self) -> (u64, u64) {
        (self.feeds.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// The part of one feed, which counts until it is dropped.
#[derive(Debug)]
pub struct FeedPart {
    all: Arc<FeedMemory>,
    bytes: u64,
}

impl FeedPart {
    /// That of another feed.
    pub fn new(all: &Arc<FeedMemory>) -> FeedPart {
        all.feeds.fetch_add(1, Ordering::Relaxed);
        FeedPart { all: all.clone(), bytes: 0 }
    }

    /// Notes how much it takes from now on.
    pub fn set(&mut self, bytes: u64) {
        self.all.bytes.fetch_add(bytes.wrapping_sub(self.bytes), Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for FeedPart {
    fn drop(&mut self) {
        self.set(0);
        self.all.feeds.fetch_sub(1, Ordering::Relaxed);
    }
}
