//! Conditions: operations that change nothing and refuse the whole batch unless something holds.

use bytes::Bytes;

use super::find_row;
use crate::error::{Error, Result};
use crate::model::batch::Batch;
use crate::model::blob::Blob;
use crate::model::channel::Channel;
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Refuses the batch unless there is a channel, or there is none; also unless its row has a version or attributes.
    RequireChannel = 40 "require_channel" {
        channel: channel, absent: flag, version: maybe, attributes: maybe_bytes,
    }

    fn reads(&self) -> bool {
        self.version.is_some() || self.attributes.is_some()
    }

    fn makes_room(&self) -> bool {
        true
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let found = match txn.find_channel(self.channel)? {
            Some(channel) if self.reads() => Some(txn.row::<Channel>(channel)?.unwrap_or_default()),
            Some(_) => Some(Channel::default()),
            None => None,
        };
        let found = found.map(|row| (row.version, row.attributes));
        require(txn, found, (self.absent, self.version, self.attributes))
    }
}

operation! {
    /// Refuses the batch unless a user is a member, or is none; also unless the membership has a version or attributes.
    RequireMember = 41 "require_member" {
        channel: channel, user: user, absent: flag, version: maybe, attributes: maybe_bytes,
    }

    fn makes_room(&self) -> bool {
        true
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let found = find_row(txn, self.channel, self.user)?.filter(|(_, row)| row.present());
        let found = found.map(|(_, row)| (row.version, row.attributes.clone()));
        require(txn, found, (self.absent, self.version, self.attributes))
    }
}

/// Refuses the batch unless what was found (version and attributes) is as it is wanted: absent, or with these.
fn require(
    txn: &mut impl Transaction,
    found: Option<(u64, Blob)>,
    (absent, version, attributes): (bool, Option<u64>, Option<&[u8]>),
) -> Result<Outcome> {
    let holds = match &found {
        None => absent,
        Some((found, kept)) => {
            !absent
                && version.is_none_or(|version| version == *found)
                && attributes.is_none_or(|wanted| same(txn, kept, wanted))
        }
    };
    match holds {
        true => Ok(Outcome::Unchanged),
        false => Err(Error::ConditionFailed { op: txn.index(), version: txn.version() }),
    }
}

/// Whether attributes are these. Of long ones length and hash are compared, and none are read.
fn same(txn: &impl Transaction, kept: &Blob, wanted: &[u8]) -> bool {
    match kept.stored() {
        Some(stored) => (stored.len as usize, stored.hash) == (wanted.len(), txn.hash(&[wanted])),
        None => *kept == *wanted,
    }
}

/// What must hold of a channel or a membership for a batch to be written. See [`Batch::require_member`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// There is no such channel, or the user is no member.
    Absent,
    /// There is such a channel, or the user is a member.
    Present,
    /// It is there, and its row was last changed at this version. That of a channel with which nothing was ever kept is 0.
    Version(u64),
    /// It is there, and its attributes are these.
    Attributes(Bytes),
}

impl Condition {
    fn fields(&self) -> (bool, Option<u64>, Option<&[u8]>) {
        match self {
            Condition::Absent => (true, None, None),
            Condition::Present => (false, None, None),
            Condition::Version(version) => (false, Some(*version), None),
            Condition::Attributes(attributes) => (false, None, Some(attributes)),
        }
    }
}

impl Batch {
    /// Refuses the whole batch unless a condition on a channel holds at this place of it. Changes nothing itself.
    ///
    /// A channel is there once anybody joined it, sent to it or kept something with it. Its version and its attributes
    /// are those of [`Store::channel`](crate::Store::channel), so that a change can rest on what was read. Costs a look-up
    /// of the name, and one of the row for a version or attributes.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Condition, Error};
    /// let mut create = Batch::new();
    /// create.require_channel("general", Condition::Absent).class("general", 1).join("general", "alice");
    /// store.commit(&create)?;
    /// assert!(matches!(store.commit(&create), Err(Error::ConditionFailed { op: 0, .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Committing it is refused with [`Error::ConditionFailed`] if it does not hold.
    pub fn require_channel(&mut self, channel: impl AsRef<[u8]>, condition: Condition) -> &mut Self {
        let (absent, version, attributes) = condition.fields();
        self.push(RequireChannel { channel: channel.as_ref(), absent, version, attributes })
    }

    /// Refuses the whole batch unless a condition on a membership holds at this place of it. Changes nothing itself.
    ///
    /// The version is [`Membership::version`](crate::Membership::version): what the user sends does not change it. Costs a
    /// look-up of the row.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Condition, Error};
    /// store.commit(Batch::new().join("general", "alice"))?;
    /// let row = store.membership("general", "alice")?.expect("alice joined");
    /// let mut promote = Batch::new();
    /// promote.require_member("general", "alice", Condition::Version(row.version)).role("general", "alice", 2);
    /// store.commit(&promote)?;
    /// // The row has changed since it was read.
    /// assert!(matches!(store.commit(&promote), Err(Error::ConditionFailed { op: 0, .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Committing it is refused with [`Error::ConditionFailed`] if it does not hold.
    pub fn require_member(
        &mut self,
        channel: impl AsRef<[u8]>,
        user: impl AsRef<[u8]>,
        condition: Condition,
    ) -> &mut Self {
        let (absent, version, attributes) = condition.fields();
        let (channel, user) = (channel.as_ref(), user.as_ref());
        self.push(RequireMember { channel, user, absent, version, attributes })
    }
}
