//! Message segments: sealed files of messages, sorted by channel and seq.
//!
//! A segment covers a contiguous range of versions. It is built from a log segment or by merging neighbours, and never
//! changes. A reader walks a channel from the newest segment to the oldest by `prev_version`, so that it opens only files
//! that hold the channel: there is no filter to ask.
//!
//! `format` owns the bytes, `block` the records of one block in memory, `reader` the lookups.

mod block;
mod builder;
mod cache;
mod format;
mod merge;
mod reader;
mod verify;

pub use builder::SegmentBuilder;
pub use cache::BlockCache;
pub use merge::merge;
pub use reader::Segment;

#[cfg(test)]
mod tests;
