//! Table runs: the small rows of a range of versions, in one sealed file. Several runs of neighbouring ranges form the
//! table; the newest run that has a key wins, because each row is the whole state after its last change.
//!
//! ```text
//! rows      (user, channel) -> row        a list, see `list`; the values, see `value`
//! members   (channel, user) -> present    a list
//! heads     channel -> head               see `heads`
//! channels  name <-> id                   see `names`
//! users     name <-> id
//! footer    versions, extents, counts     see `footer`
//! ```
//!
//! Invariants: a run never changes; every section is sorted by its key, each key once; the names of a run have the
//! contiguous ids `first .. first + count`. Readers check order and bounds as they go, even behind good checksums.

mod builder;
mod footer;
mod heads;
mod list;
mod merge;
mod names;
mod output;
mod run;
#[cfg(test)]
mod tests;
mod value;

pub use self::{
    builder::RunBuilder,
    merge::{Tombstones, merge},
    names::{Names, NamesCursor, hash},
    run::{MemberCursor, RowCursor, Run},
};

use crate::types::ChannelId;

/// The key of SipHash-1-3 for names, one for each store and never told, so that nobody can craft names that collide.
pub type HashKey = [u8; 16];

/// Under this channel a user has a row whose `version` is a floor: tombstones of the user up to it were dropped, so
/// that a question about changes since an older version can't be answered. No channel ever has this id.
pub const FLOOR: ChannelId = ChannelId(u32::MAX);
