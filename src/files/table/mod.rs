//! Table runs: the small rows of a range of versions, in one sealed file. Several runs of neighbouring ranges form the
//! tables; the newest run that has a key wins, because each row is the whole state after its last change.
//!
//! ```text
//! sections  one a table, by its number: key -> tag, version, image    see `section`, `filter`
//! channels  name <-> id                                               see `names`
//! users     name <-> id
//! footer    versions, lengths, counts                                 see `footer`
//! ```
//!
//! What a table's image means is not known here.
//!
//! Invariants: a run never changes; every section is sorted by its key, each key once; the names of a run have the
//! contiguous ids `first .. first + count`. Readers check order and bounds as they go, even behind good checksums.

mod builder;
mod cursor;
mod filter;
mod footer;
mod merge;
mod names;
mod output;
mod run;
mod section;
#[cfg(test)]
mod tests;
mod writer;

pub use self::{
    builder::RunBuilder,
    cursor::Cursor,
    merge::{Filter, Last, Merge, merge},
    names::{Names, NamesCursor, hash, hash_parts},
    run::Run,
    section::{RunEntry, Section},
};

/// The key of SipHash-1-3 for names, one for each store and never told, so that nobody can craft names that collide.
pub type HashKey = [u8; 16];
