//! Which tombstones a merge of runs drops: rows of users who left long ago, or beyond the newest few of a user, and
//! members who left, users who were taken out of sets, sends whose client ids count no more, and messages that have expired. What makes a row a
//! tombstone, and what a dropped one leaves, stands in `model::membership`.
//!
//! Invariant: only a merge with the oldest run drops any, as a tombstone hides what older runs say. The greatest version of
//! a user's dropped rows becomes the user's floor; the floor of an earlier merge counts as dropped, and so lives on in the
//! new one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::dead::Dead;
use crate::env::fault;
use crate::files::table::{Filter, Last, RunEntry};
use crate::model::expiry::Expiry;
use crate::model::ids::{ChannelId, UserId};
use crate::model::image::Image;
use crate::model::key::TableKey;
use crate::model::member::Member;
use crate::model::membership::{FLOOR, Keep, Membership, key};
use crate::model::sent::Sent;
use crate::model::set::SetMember;
use crate::model::set::by_user::InSet;
use crate::model::window::SendWindow;

/// The filter of a table, by its number. Without limits of tombstones all of these are kept.
pub fn filter<'d>(
    table: u8,
    keep: Option<Keep>,
    sends: SendsOver,
    dead: &'d Dead,
) -> Option<Box<dyn Filter + 'd>> {
    if table == Sent::TABLE {
        return Some(Box::new(sends));
    }
    let keep = keep?;
    match table {
        Membership::TABLE => {
            Some(Box::new(LeftRows { keep, dead, surplus: Surplus::new(keep.count), user: 0, floor: None }))
        }
        Expiry::TABLE => Some(Box::new(Expired)),
        Member::TABLE => Some(Box::new(LeftMembers { keep })),
        SetMember::TABLE => Some(Box::new(OldRemovals { keep, removed_at: |row: SetMember| row.removed_at })),
        InSet::TABLE => Some(Box::new(OldRemovals { keep, removed_at: |row: InSet| row.removed_at })),
        _ => None,
    }
}

/// Drops rows by the limits.
struct LeftRows<'d> {
    keep: Keep,
    dead: &'d Dead,
    surplus: Surplus,
    user: u32,
    /// The greatest version of the user's dropped rows.
    floor: Option<u64>,
}

impl Filter for LeftRows<'_> {
    fn group<'a>(&mut self, tombstones: &mut dyn Iterator<Item = RunEntry<'a>>) -> Option<()> {
        self.surplus = Surplus::new(self.keep.count);
        let left = tombstones.filter(|entry| entry.key.b != FLOOR.0.into());
        left.for_each(|entry| self.surplus.add(entry.version));
        Some(())
    }

    fn keep(&mut self, tombstone: &RunEntry<'_>) -> Option<bool> {
        let row = Membership::decode(tombstone.version, tombstone.image)?;
        let (gone, version) = match self.deleted(tombstone) {
            // The deletion ended it.
            Some((version, at)) if row.present() => (at <= self.keep.before_ms, version),
            _ => (row.left_at? <= self.keep.before_ms || self.surplus.holds(row.version), row.version),
        };
        if gone || tombstone.key.b == FLOOR.0.into() {
            self.user = tombstone.key.a;
            self.floor = self.floor.max(Some(version));
            return Some(false);
        }
        Some(true)
    }

    fn minds(&self, entry: &RunEntry<'_>) -> bool {
        self.deleted(entry).is_some()
    }

    fn last(&mut self) -> Option<Last> {
        let row = Membership::dropped(self.floor.take().filter(|_| !fault(54))?);
        let mut image = Vec::new();
        row.encode(&mut image);
        Some(Last { key: key(FLOOR, UserId(self.user)).raw(), tag: row.tag(), version: row.version, image })
    }
}

impl LeftRows<'_> {
    /// When the channel of a row was deleted.
    fn deleted(&self, entry: &RunEntry<'_>) -> Option<(u64, i64)> {
        self.dead.channel(ChannelId(u32::try_from(entry.key.b).ok()?))
    }
}

/// Drops the rows of messages that have expired.
struct Expired;

impl Filter for Expired {
    fn group<'a>(&mut self, _: &mut dyn Iterator<Item = RunEntry<'a>>) -> Option<()> {
        Some(())
    }

    fn keep(&mut self, tombstone: &RunEntry<'_>) -> Option<bool> {
        Expiry::decode(tombstone.version, tombstone.image).map(|row| !row.done || fault(115))
    }
}

/// Drops members who left long ago.
struct LeftMembers {
    keep: Keep,
}

impl Filter for LeftMembers {
    fn group<'a>(&mut self, _: &mut dyn Iterator<Item = RunEntry<'a>>) -> Option<()> {
        Some(())
    }

    fn keep(&mut self, tombstone: &RunEntry<'_>) -> Option<bool> {
        let row = Member::decode(tombstone.version, tombstone.image)?;
        Some(row.left_at.is_some_and(|at| at > self.keep.before_ms) || fault(112))
    }
}

/// Drops rows of users who were taken out of a set long ago. Who asks for changes is told of none that is so old, whether it
/// was dropped or not.
struct OldRemovals<T> {
    keep: Keep,
    removed_at: fn(T) -> Option<i64>,
}

impl<T: Image> Filter for OldRemovals<T> {
    fn group<'a>(&mut self, _: &mut dyn Iterator<Item = RunEntry<'a>>) -> Option<()> {
        Some(())
    }

    fn keep(&mut self, tombstone: &RunEntry<'_>) -> Option<bool> {
        let row = T::decode(tombstone.version, tombstone.image)?;
        Some((self.removed_at)(row)? > self.keep.before_ms || fault(114))
    }
}

/// Drops sends whose client ids make nothing unique any more.
#[derive(Clone, Copy)]
pub struct SendsOver {
    /// How long they do.
    pub window: SendWindow,
    /// A version that is durable.
    pub last: u64,
    /// The time, in Unix milliseconds.
    pub now: i64,
}

impl Filter for SendsOver {
    fn group<'a>(&mut self, _: &mut dyn Iterator<Item = RunEntry<'a>>) -> Option<()> {
        Some(())
    }

    fn keep(&mut self, send: &RunEntry<'_>) -> Option<bool> {
        let row = Sent::decode(send.version, send.image)?;
        Some(!fault(64) && !self.window.is_over((row.version, row.sent_at), self.last, self.now))
    }
}

/// Tells which of many versions are beyond the newest few.
struct Surplus {
    keep: usize,
    newest: BinaryHeap<Reverse<u64>>,
    /// The greatest one that is beyond them.
    bound: Option<u64>,
}

impl Surplus {
    fn new(keep: usize) -> Self {
        Surplus { keep, newest: BinaryHeap::new(), bound: None }
    }

    fn add(&mut self, version: u64) {
        self.newest.push(Reverse(version));
        if self.newest.len() > self.keep {
            let oldest = self.newest.pop().map(|Reverse(oldest)| oldest);
            self.bound = self.bound.max(oldest);
        }
    }

    fn holds(&self, version: u64) -> bool {
        Some(version) <= self.bound
    }
}

#[cfg(test)]
mod tests;
