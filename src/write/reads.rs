//! What was read for a batch before the writer's lock was taken.

use hashbrown::HashSet;

use crate::model::ids::ChannelId;
use crate::model::message::{Origin, Said};
use crate::model::{Family, SomeOf, Table};

/// What a batch read, in the order of reading.
#[derive(Default)]
pub struct Reads {
    /// Rows by key.
    pub rows: SomeOf<Read>,
    /// Rows of a group from a key on.
    pub ranges: SomeOf<ReadRanges>,
    /// The last messages up to a seq.
    pub messages: Vec<((ChannelId, u64), Origin)>,
    /// What messages were sent with.
    pub said: Vec<((ChannelId, u64), Option<Said>)>,
    /// Heads; only for a batch that is run ahead.
    pub heads: HashSet<ChannelId>,
    /// Whether a name was looked for that was unknown, or that a channel had that was deleted.
    pub names: bool,
}

/// Rows that were read, by table, in the order of reading; `None` for those that don't exist.
pub struct Read;

impl Family for Read {
    type Of<T: Table> = Vec<(T::Key, Option<T>)>;
}

/// Ranges of rows that were read, by table: each from a key on.
pub struct ReadRanges;

impl Family for ReadRanges {
    type Of<T: Table> = Vec<(T::Key, Vec<(T::Key, T)>)>;
}

/// Finds what was read. It is wanted again in nearly the same order, so that it nearly always stands at `next`.
pub fn find_again<'r, K: PartialEq, V>(read: &'r [(K, V)], next: &mut usize, key: &K) -> Option<&'r V> {
    let from = (*next).min(read.len());
    let at = (from..read.len()).chain(0..from).find(|at| read[*at].0 == *key)?;
    *next = at + 1;
    Some(&read[at].1)
}
