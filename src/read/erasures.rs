//! What was erased since a version: what a copy of the store from before has to erase too.
//!
//! The changed index names the channels in which something happened; their heads tell whether they were deleted or trimmed, and
//! rows of alterations which messages were erased. What became of users comes last. Nothing is kept but the present channel's walk.

use bytes::Bytes;

use crate::error::Result;
use crate::kernel::View;
use crate::kernel::scan::Scan;
use crate::model::alteration::Alteration;
use crate::model::fate::UserFate;
use crate::model::head::Head;
use crate::model::ids::{ChannelId, Named, UserId};
use crate::model::key::ChannelSeq;

/// Something that was erased. Told by [`View::erasures`](crate::View::erasures), taken by
/// [`Store::erase_again`](crate::Store::erase_again).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Erasure {
    /// The name of the channel, or of the user if `part` says so.
    pub name: Bytes,
    /// The number of the channel or the user in this store and its copies: a name may have been used again.
    pub id: u32,
    /// What went.
    pub part: ErasedPart,
    /// The version at which it did, or at which the channel or message changed last.
    pub version: u64,
}

/// What of a channel or a user was erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum ErasedPart {
    /// The message of a seq.
    Message(u64),
    /// All messages up to a seq: they were trimmed.
    UpTo(u64),
    /// All of the channel: it was deleted.
    Channel,
    /// All that the user had sent.
    Sent,
    /// The user: it was deleted.
    User,
}

/// What was erased, channel by channel. Made by [`View::erasures`].
pub struct Erasures<'v> {
    view: &'v View,
    since: u64,
    /// The first channel that was not looked at.
    next: ChannelId,
    /// The present channel, and its messages.
    messages: Option<(ChannelId, Scan<'v, Alteration>)>,
    /// Users who were not looked at, and what is still to be told of one; `None` before all channels were.
    users: Option<(Vec<UserId>, Option<Erasure>)>,
}

impl View {
    /// What was erased, trimmed or deleted after a version, each as of now: keep it beside a backup of that version
    /// ([`Backup::version`](crate::Backup::version)), so that who restores it can erase the same
    /// ([`Store::erase_again`](crate::Store::erase_again)).
    ///
    /// Costs a step for each channel that changed since, and one for each change of a message in those that ever had an erased one.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let (path, backup) = (dir.path().join("store"), dir.path().join("backup"));
    /// use chanlog::{Batch, Draft, Store};
    /// let store = Store::open(&path)?;
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "regretted")))?;
    /// let kept = store.backup(&backup)?;
    /// store.commit(Batch::new().erase("general", 1))?;
    /// let erasures: Vec<_> = store.view()?.erasures(kept.version).collect::<Result<_, _>>()?;
    ///
    /// let restored = Store::open(&backup)?;
    /// assert_eq!(restored.history("general").list()?[0].payload, "regretted");
    /// assert_eq!(restored.erase_again(&erasures)?.done, 1);
    /// assert_eq!(restored.history("general").list()?[0].payload, "");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn erasures(&self, since: u64) -> Erasures<'_> {
        Erasures { view: self, since, next: ChannelId(0), messages: None, users: None }
    }
}

impl Erasures<'_> {
    fn step(&mut self) -> Result<Option<Erasure>> {
        self.view.check()?;
        loop {
            if let Some((channel, rows)) = &mut self.messages {
                let channel = *channel;
                match rows.next()? {
                    Some((key, row)) if row.erased => {
                        return self.erasure(channel, ErasedPart::Message(key.seq), row.version).map(Some);
                    }
                    Some(_) => continue,
                    None => self.messages = None,
                }
            }
            let Some(channel) = self.view.next_changed(self.next, self.since) else { return self.user() };
            self.next = ChannelId(channel.0 + 1);
            let head = self.view.head_of(channel);
            if head.deleted > self.since {
                return self.erasure(channel, ErasedPart::Channel, head.deleted).map(Some);
            }
            if head.dead() {
                continue;
            }
            self.look_at_messages(channel, &head)?;
            if head.trimmed.seq > 0 && head.kept > self.since {
                return self.erasure(channel, ErasedPart::UpTo(head.trimmed.seq), head.kept).map(Some);
            }
        }
    }

    fn look_at_messages(&mut self, channel: ChannelId, head: &Head) -> Result<()> {
        if head.erased > head.trimmed.seq && head.content > self.since {
            let from = ChannelSeq { channel, seq: head.trimmed.seq + 1 };
            self.messages = Some((channel, self.view.scan::<Alteration>(from, self.since)?));
        }
        Ok(())
    }

    fn erasure(&self, channel: ChannelId, part: ErasedPart, version: u64) -> Result<Erasure> {
        Ok(Erasure { name: self.view.name(Named::Channel, channel.0)?, id: channel.0, part, version })
    }

    /// What is to be told next of a user.
    fn user(&mut self) -> Result<Option<Erasure>> {
        let (users, rest) = self.users.get_or_insert_with(|| {
            let told = self.view.kernel.fates.told(self.since, self.view.version());
            (told.into_iter().rev().map(|(_, user)| user).collect(), None)
        });
        if let Some(rest) = rest.take() {
            return Ok(Some(rest));
        }
        while let Some(user) = users.pop() {
            let fate = self.view.row::<UserFate>(user)?.unwrap_or_default();
            let name = self.view.name(Named::User, user.0)?;
            let erasure = |part, version| Erasure { name: name.clone(), id: user.0, part, version };
            let sent = (fate.erased > self.since).then(|| erasure(ErasedPart::Sent, fate.erased));
            let deleted = (fate.deleted > self.since).then(|| erasure(ErasedPart::User, fate.deleted));
            match sent {
                Some(_) => *rest = deleted,
                None if deleted.is_none() => continue,
                None => return Ok(deleted),
            }
            return Ok(sent);
        }
        Ok(None)
    }
}

impl Iterator for Erasures<'_> {
    type Item = Result<Erasure>;

    fn next(&mut self) -> Option<Result<Erasure>> {
        let next = self.step();
        if next.is_err() {
            // Nothing comes after an error.
            (self.next, self.messages) = (ChannelId(u32::MAX), None);
            self.users = Some((Vec::new(), None));
        }
        next.transpose()
    }
}

impl std::fmt::Debug for Erasures<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Erasures").field("since", &self.since).finish_non_exhaustive()
    }
}
