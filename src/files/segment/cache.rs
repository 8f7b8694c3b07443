//! The cache of decoded blocks that all segments of a store share, bounded in bytes.
//!
//! It maps (segment id, block number) to the block. A segment leaves it when it is closed, as a block that is raw on disk
//! shares the file's map, and the file's space is free only once the map is gone. Concurrent misses of one block may both
//! decode it: that is cheaper than to wait for each other.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::block::Block;
use super::format::BLOCK;

/// A segment's id and the number of a block in it.
type Address = (u64, u64);

/// A bounded cache of blocks.
pub struct BlockCache {
    blocks: Cache<Address, Arc<Block>, Weight>,
}

/// Weighs a block by the memory it takes, with what the cache itself keeps for it.
#[derive(Clone)]
struct Weight;

impl Weighter<Address, Arc<Block>> for Weight {
    fn weight(&self, _: &Address, block: &Arc<Block>) -> u64 {
        const SLOT: u64 = 64;
        block.weight() + SLOT
    }
}

impl BlockCache {
    /// A cache of at most `capacity` bytes. A block that is larger than the share of one of its shards is never kept.
    pub fn new(capacity: u64) -> Self {
        let items = (capacity / BLOCK as u64).max(1) as usize;
        BlockCache { blocks: Cache::with_weighter(items, capacity, Weight) }
    }

    /// The bytes in use.
    pub fn weight(&self) -> u64 {
        self.blocks.weight()
    }

    /// How many bytes they may be.
    pub fn capacity(&self) -> u64 {
        self.blocks.capacity()
    }

    /// Lets it become larger, or makes it smaller.
    pub fn set_capacity(&self, capacity: u64) {
        self.blocks.set_capacity(capacity);
    }

    /// How often a block was asked for and there.
    pub fn hits(&self) -> u64 {
        self.blocks.hits()
    }

    /// How often one was not.
    pub fn misses(&self) -> u64 {
        self.blocks.misses()
    }

    /// A cached block.
    pub fn get(&self, segment: u64, block: u64) -> Option<Arc<Block>> {
        self.blocks.get(&(segment, block))
    }

    /// Keeps a block, if it fits.
    pub fn insert(&self, segment: u64, number: u64, block: Arc<Block>) {
        self.blocks.insert((segment, number), block);
    }

    /// Forgets the blocks of a segment.
    pub fn evict(&self, segment: u64) {
        self.blocks.retain(|(id, _), _| *id != segment);
    }
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockCache").field("weight", &self.weight()).finish()
    }
}
