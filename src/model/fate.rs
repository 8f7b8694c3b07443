//! What became of a user: up to which version all that the user sent is erased, and whether the user was deleted. Most users
//! have no row.
//!
//! Rows are few, and all of them are kept in memory too, so that reads and commits look at them for free. They are never
//! removed.

use super::ids::UserId;
use super::image::image;

image! {
    /// What became of a user.
    pub struct UserFate: table 28 by UserId;
    marks {}
    fields {
        /// What the user sent up to this version is erased, or 0. It is the version of the change that erased it.
        erased: u64 = 1,
        /// The version at which the user was deleted, or 0. No name leads to a user who was, and nothing is written of one.
        deleted: u64 = 2,
        /// When that was, in Unix milliseconds.
        deleted_at: Option<i64> = 3,
        /// The version at which an earlier user of the same name was deleted, or 0: whoever asks what changed since before then
        /// has to start over.
        replaced: u64 = 4,
        /// Whether all memberships of the deleted user have ended.
        ended: bool = 5,
    }
    beside {}
    tombstone |_| false;
}

impl UserFate {
    /// The version of the last change that readers of a feed are told of, or 0.
    pub(crate) fn told_at(&self) -> u64 {
        self.erased.max(self.deleted)
    }

    /// Whether the row can be one, whatever changed it.
    pub(crate) fn fits(&self) -> bool {
        self.erased.max(self.deleted).max(self.replaced) <= self.version && (self.deleted > 0 || !self.ended)
    }
}
