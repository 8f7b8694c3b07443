//! The users of whom something became, in memory: about 100 bytes for each, and a look at a flag where there are none.
//!
//! Holds the newest row of each such user, which is put in before the commit that changed it is published. So a view finds
//! here what is as new as itself or newer; where it is newer, the row as of the view is looked up.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use crate::env::sync::RwLock;
use crate::env::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::model::fate::UserFate;
use crate::model::ids::UserId;
use crate::model::image::Image;

/// What became of users.
#[derive(Default)]
pub struct Fates {
    any: AtomicBool,
    /// How many users were deleted.
    dead: AtomicU64,
    known: RwLock<KnownFates>,
}

#[derive(Default)]
struct KnownFates {
    rows: HashMap<UserId, UserFate>,
    /// The users, by the versions of what a feed tells of them.
    order: BTreeMap<u64, UserId>,
    /// Deleted users who may have memberships.
    unended: BTreeSet<UserId>,
    /// The version of the last change that erased what a user sent.
    erased: u64,
}

impl Fates {
    /// Whether nothing became of anybody.
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// The newest row of a user.
    pub fn get(&self, user: UserId) -> Option<UserFate> {
        if self.is_empty() { None } else { self.known.read().rows.get(&user).cloned() }
    }

    /// Puts in the newest row of a user.
    pub fn put(&self, user: UserId, fate: &UserFate) {
        let known = &mut *self.known.write();
        let before = known.rows.insert(user, fate.clone()).unwrap_or_default();
        known.order.remove(&before.told_at());
        known.erased = known.erased.max(fate.erased);
        if fate.deleted > 0 && before.deleted == 0 {
            self.dead.fetch_add(1, Ordering::Release);
        }
        match fate.deleted > 0 && !fate.ended {
            true => _ = known.unended.insert(user),
            false => _ = known.unended.remove(&user),
        }
        if fate.told_at() > 0 {
            known.order.insert(fate.told_at(), user);
        }
        self.any.store(true, Ordering::Release);
    }

    /// How many users were deleted.
    #[inline]
    pub fn dead(&self) -> u64 {
        self.dead.load(Ordering::Acquire)
    }

    /// The version at which a user was deleted, or 0.
    #[inline]
    pub fn deleted(&self, user: UserId) -> u64 {
        if self.dead() == 0 { 0 } else { self.get(user).map_or(0, |fate| fate.deleted) }
    }

    /// Some deleted users who may have memberships, at most so many.
    pub fn unended(&self, most: usize) -> Vec<UserId> {
        if self.dead() == 0 {
            return Vec::new();
        }
        self.known.read().unended.iter().take(most).copied().collect()
    }

    /// The users who were deleted up to a version, and whether their memberships had ended by then.
    pub fn deleted_upto(&self, upto: u64) -> HashMap<UserId, bool> {
        if self.dead() == 0 {
            return HashMap::new();
        }
        let known = self.known.read();
        let dead = known.rows.iter().filter(|(_, fate)| (1..=upto).contains(&fate.deleted));
        dead.map(|(user, fate)| (*user, fate.ended && fate.version() <= upto)).collect()
    }

    /// Of whom a feed has to tell something that happened after a version, up to another, by the versions of that.
    pub fn told(&self, after: u64, upto: u64) -> Vec<(u64, UserId)> {
        if self.is_empty() || after >= upto {
            return Vec::new();
        }
        let known = self.known.read();
        known.order.range(after + 1..=upto).map(|(version, user)| (*version, *user)).collect()
    }

    /// The version of the last change that erased what a user sent, or 0.
    pub fn last_erased(&self) -> u64 {
        if self.is_empty() { 0 } else { self.known.read().erased }
    }

    /// Up to which version what users sent is erased, as far as erasing it is one of the changes up to `upto`.
    pub fn erased(&self, upto: u64) -> HashMap<UserId, u64> {
        if self.is_empty() {
            return HashMap::new();
        }
        let known = self.known.read();
        let erased = known.rows.iter().filter(|(_, fate)| (1..=upto).contains(&fate.erased));
        erased.map(|(user, fate)| (*user, fate.erased)).collect()
    }
}
