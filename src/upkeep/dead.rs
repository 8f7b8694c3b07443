//! What is left of deleted channels and users, and of what users sent that is erased: which rows of runs nobody reads any more.
//!
//! Every read passes by a channel whose head says that it was deleted, and nothing is written to it. So its rows go in any
//! merge, those of memberships apart: by them members are told that the channel is gone, and they go as tombstones do.
//!
//! It is the same with a deleted user, whose memberships go when all of them have ended: until then they tell which channels
//! count the user. A row that tells what a message was edited to goes with all else that its sender sent, once that is erased.
//!
//! Invariant: only a deletion or an erasure counts that is sealed, and so durable. One that a loss of power could take back must
//! not have taken a row with it.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::env::fault;
use crate::files::table::RunEntry;
use crate::kernel::Kernel;
use crate::model::alteration::Alteration;
use crate::model::expiry::Expiry;
use crate::model::fate::UserFate;
use crate::model::ids::{ChannelId, UserId};
use crate::model::image::Image;
use crate::model::key::{Key, TableKey};
use crate::model::membership::Membership;
use crate::model::message_id::MessageId;
use crate::model::{Table, WithTable, with_table};

/// What counts no more.
#[derive(Default)]
pub struct Dead {
    /// The deleted channels, each with the version and the time of its deletion.
    channels: BTreeMap<ChannelId, (u64, i64)>,
    /// The deleted users, and whether their memberships have ended.
    users: HashMap<UserId, bool>,
    /// Up to which version what users sent is erased.
    erased: HashMap<UserId, u64>,
}

impl Dead {
    /// What was deleted or erased up to a version, which is sealed.
    pub fn upto(kernel: &Kernel, version: u64) -> Dead {
        let mut channels = BTreeMap::new();
        kernel.each_further(ChannelId(0), usize::MAX, &mut |channel, head| {
            if head.dead() && head.deleted <= version {
                channels.insert(channel, (head.deleted, head.deleted_at.unwrap_or(0)));
            }
        });
        Dead { channels, ..Dead::of_users(kernel, version) }
    }

    /// The same without channels, for which all of them need not be looked through.
    pub fn of_users(kernel: &Kernel, version: u64) -> Dead {
        let (users, erased) = (kernel.fates.deleted_upto(version), kernel.fates.erased(version));
        Dead { users, erased, ..Dead::default() }
    }

    /// When a channel was deleted, as version and time; `None` if it was not.
    pub fn channel(&self, channel: ChannelId) -> Option<(u64, i64)> {
        self.channels.get(&channel).copied()
    }

    /// Whether nobody reads an entry of a table any more.
    pub fn has(&self, table: u8, entry: &RunEntry<'_>) -> bool {
        if table == Alteration::TABLE && !self.erased.is_empty() && self.is_erased_edit(entry) {
            return true;
        }
        if self.channels.is_empty() && self.users.is_empty() {
            return false;
        }
        // What became of a user tells for ever that the user is gone.
        let (channel, user) = with_table(table, IdsOfKey(entry.key)).unwrap_or_default();
        let ended = user.filter(|_| table != UserFate::TABLE).and_then(|user| self.users.get(&user));
        if table == Membership::TABLE && !fault(91) {
            return ended.is_some_and(|ended| *ended);
        }
        let channel = match table {
            Expiry::TABLE => Expiry::decode(entry.version, entry.image).and_then(|row| row.channel()),
            MessageId::TABLE => MessageId::decode(entry.version, entry.image).and_then(|row| row.channel()),
            // Heads are no table of rows: they tell for ever that the channel is dead.
            _ => channel,
        };
        ended.is_some() || channel.is_some_and(|channel| self.channels.contains_key(&channel))
    }

    fn is_erased_edit(&self, entry: &RunEntry<'_>) -> bool {
        let edit = Alteration::decode(entry.version, entry.image).and_then(|row| row.edit_of());
        edit.is_some_and(|(sender, sent)| self.erased.get(&sender).is_some_and(|erased| sent <= *erased))
    }
}

/// The channel and the user that a row's key names.
struct IdsOfKey(Key);

impl WithTable for IdsOfKey {
    type Out = (Option<ChannelId>, Option<UserId>);

    fn table<T: Table>(self) -> Self::Out {
        T::Key::from_raw(self.0).ids()
    }
}
