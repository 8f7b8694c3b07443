//! Deleting a user with everything but what the user sent.

use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::fate::{UserFate, field};
use crate::model::ids::{ChannelId, UserId};
use crate::model::image::Patch;
use crate::model::membership::{self, Membership, key};
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Deletes a user. `only` is upkeep's, which ends the memberships of the deleted user of this number: that in the channel
    /// of the number `place`, or if there is none, all of them have ended.
    DeleteUser = 62 "delete_user" { user: user, only: maybe, place: maybe, }

    fn makes_room(&self) -> bool {
        true
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let id = |number: u64| u32::try_from(number).ok();
        match (self.only.map(id), self.place.map(id)) {
            (None, _) => delete(txn, self.user),
            (Some(Some(user)), Some(Some(channel))) => end(txn, UserId(user), ChannelId(channel)),
            (Some(Some(user)), None) => end_all(txn, UserId(user)),
            _ => Ok(Outcome::Unchanged),
        }
    }
}

fn delete(txn: &mut impl Transaction, name: &[u8]) -> Result<Outcome> {
    let Some(user) = txn.find_user(name)? else { return Ok(Outcome::Unchanged) };
    let (version, now) = (txn.version() + 1, txn.now());
    txn.patch::<UserFate>(user, Patch::new().set(field::deleted, version).set(field::deleted_at, Some(now)))
}

/// Whether a user was deleted who may still have memberships.
fn unended(txn: &mut impl Transaction, user: UserId) -> Result<bool> {
    Ok(txn.row::<UserFate>(user)?.is_some_and(|fate| fate.deleted > 0 && !fate.ended))
}

/// Ends the membership of a deleted user, by which the channel's number of members becomes right.
fn end(txn: &mut impl Transaction, user: UserId, channel: ChannelId) -> Result<Outcome> {
    let key = key(channel, user);
    let present = unended(txn, user)? && txn.row::<Membership>(key)?.is_some_and(|row| row.present());
    if !present || txn.head(channel).dead() {
        return Ok(Outcome::Unchanged);
    }
    let left_at = Some(txn.now());
    txn.patch::<Membership>(key, Patch::new().set(membership::field::left_at, left_at))
}

/// Notes that no membership of a deleted user is left.
fn end_all(txn: &mut impl Transaction, user: UserId) -> Result<Outcome> {
    let mut present = Vec::new();
    if unended(txn, user)? {
        let first = key(ChannelId(0), user);
        txn.each_after::<Membership>(first, &mut |key, row| present.extend(row.present().then_some(key)))?;
        // Those in deleted channels count nowhere.
        if present.into_iter().all(|key| txn.head(key.channel).dead()) {
            return txn.patch::<UserFate>(user, Patch::new().set(field::ended, true));
        }
    }
    Ok(Outcome::Unchanged)
}

impl Batch {
    /// Deletes a user with everything that is kept of the user: memberships, marks, sets, mentions, attributes, hidden ranges,
    /// kept histories and client ids. From then on every call takes the user for one whom the store never met, and no list
    /// of members or of a set tells of the user. The name may be used again, by the same batch too: that is another user,
    /// who begins with nothing. Deleting a user whom the store never met changes nothing.
    ///
    /// Messages stay, and have no sender: [`Message::sender`](crate::Message::sender) is empty. Whoever wants what they say to
    /// go puts [`Batch::erase_user`] before this into the batch: later the user can't be named any more. A feed tells it
    /// ([`Event::User`](crate::Event::User)); members of the user's channels are not told, and [`Head::members`](crate::Head::members)
    /// counts the user until upkeep has ended the memberships ([`Store::finish_deletions`](crate::Store::finish_deletions)).
    /// A client of the user is told to start over, as long as it asks.
    ///
    /// Costs one row, whatever the user has, and later one for each membership. The rows go when runs are merged; 100 bytes
    /// of memory for the user's number, and the name in runs, stay for ever.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// store.commit(Batch::new().join("general", "alice").append("general", Draft::new("alice", 0, "hi")))?;
    /// store.commit(Batch::new().delete_user("alice"))?;
    /// assert!(store.members("general").list()?.is_empty() && store.user("alice")?.is_none());
    /// let message = &store.history("general").list()?[0];
    /// assert_eq!((&message.sender[..], &message.payload[..]), (&b""[..], &b"hi"[..]));
    /// assert_eq!((store.finish_deletions(1000)?, store.head("general")?.members), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn delete_user(&mut self, user: impl AsRef<[u8]>) -> &mut Self {
        self.push(DeleteUser { user: user.as_ref(), only: None, place: None })
    }

    /// Ends the membership of a deleted user in a channel, or tells that all have ended.
    pub(crate) fn end_membership(&mut self, name: &[u8], user: UserId, channel: Option<ChannelId>) {
        let place = channel.map(|channel| channel.0.into());
        self.push(DeleteUser { user: name, only: Some(user.0.into()), place });
    }
}
