//! What is left of deleted channels: which rows of runs nobody reads any more.
//!
//! Every read passes by a channel whose head says that it was deleted, and nothing is written to it. So its rows go in any
//! merge, those of memberships apart: by them members are told that the channel is gone, and they go as tombstones do.
//!
//! Invariant: only a deletion counts that is sealed, and so durable. One that a loss of power could take back must not have
//! taken a row with it.

use std::collections::BTreeMap;

use crate::files::table::RunEntry;
use crate::kernel::Kernel;
use crate::model::ids::ChannelId;
use crate::model::image::Image;
use crate::model::key::{Key, TableKey};
use crate::model::membership::Membership;
use crate::model::message_id::MessageId;
use crate::model::{Table, WithTable, with_table};

/// The deleted channels, each with the version and the time of its deletion.
#[derive(Default)]
pub struct Dead {
    channels: BTreeMap<ChannelId, (u64, i64)>,
}

impl Dead {
    /// Those that were deleted up to a version, which is sealed.
    pub fn upto(kernel: &Kernel, version: u64) -> Dead {
        let mut channels = BTreeMap::new();
        kernel.each_further(ChannelId(0), usize::MAX, &mut |channel, head| {
            if head.dead() && head.deleted <= version {
                channels.insert(channel, (head.deleted, head.deleted_at.unwrap_or(0)));
            }
        });
        Dead { channels }
    }

    /// When a channel was deleted, as version and time; `None` if it was not.
    pub fn channel(&self, channel: ChannelId) -> Option<(u64, i64)> {
        self.channels.get(&channel).copied()
    }

    /// Whether nobody reads an entry of a table any more.
    pub fn has(&self, table: u8, entry: &RunEntry<'_>) -> bool {
        if self.channels.is_empty() || table == Membership::TABLE {
            return false;
        }
        let channel = match table {
            MessageId::TABLE => MessageId::decode(entry.version, entry.image).and_then(|row| row.channel()),
            // Heads are no table of rows: they tell for ever that the channel is dead.
            _ => with_table(table, ChannelOf(entry.key)).flatten(),
        };
        channel.is_some_and(|channel| self.channels.contains_key(&channel))
    }
}

/// The channel that a row's key names.
struct ChannelOf(Key);

impl WithTable for ChannelOf {
    type Out = Option<ChannelId>;

    fn table<T: Table>(self) -> Option<ChannelId> {
        T::Key::from_raw(self.0).ids().0
    }
}
