//! How far logs were applied: what a server that replicates its writes keeps, so that each entry takes effect once.

use bytes::Bytes;

use super::ids::LogId;
use super::image::image;

image! {
    /// How far a log of the server's was applied to the store. Made by [`Store::position`](crate::Store::position).
    pub struct Position: table 27 by LogId;
    marks {}
    fields {
        /// The index of the last entry that was applied.
        index: u64 = 1,
        /// What tells that entry from another one of the same index, such as the term of its leader.
        tag: Bytes = 2,
        /// In a replica ([`Options::replica`](crate::Options::replica)), its time by then, in Unix milliseconds: the greatest
        /// [`Batch::time`](crate::Batch::time) so far.
        time: Option<i64> = 3,
    }
    beside {}
    tombstone |_| false;
}

/// The longest tag of a position, in bytes.
pub const MAX_POSITION_TAG: usize = 64;
