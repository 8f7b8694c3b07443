//! Message segments: sealed files of messages, sorted by channel and seq.
//!
//! A segment covers a contiguous range of versions. It is built from a log segment or by merging neighbours, and never
//! changes. A reader walks a channel from the newest segment to older ones by the links of its `Chain`, so that it opens only
//! files that hold the channel: there is no filter to ask.
//!
//! `format` and `directory` own the bytes, `chain` the links, `block` the records of one block in memory, `reader` the
//! lookups, `walk` a walk over all there is, `size` how far back a channel's bytes reach.

mod block;
mod builder;
mod cache;
mod chain;
mod directory;
mod format;
mod merge;
mod reader;
mod size;
mod verify;
mod walk;

pub use builder::SegmentBuilder;
pub use cache::BlockCache;
pub use chain::{Chain, Link};
pub use directory::Entry;
pub use format::{EVER, Extent};
pub use merge::{Ask, merge};
pub use reader::Segment;
pub use walk::Walker;

#[cfg(test)]
mod tests;
