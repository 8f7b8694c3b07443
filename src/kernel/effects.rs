//! What a commit changes, as images, ready to be put into the newest layer.

use bytes::Bytes;

use crate::model::head::PackedHead;
use crate::model::ids::{ChannelId, LogId};
use crate::model::message::Placed;
use crate::model::position::Position;
use crate::model::{EachTable, Family, SomeOf, Table};

/// Changed rows, by table.
pub struct Changed;

impl Family for Changed {
    type Of<T: Table> = Vec<(T::Key, T)>;
}

/// The effects of one commit.
#[derive(Default)]
pub struct Effects {
    /// The first version of the commit, which tells it from others.
    pub first: u64,
    /// The last version of the commit.
    pub version: u64,
    /// New names, in the order of their ids.
    pub channels: Vec<Bytes>,
    /// The same, of users.
    pub users: Vec<Bytes>,
    /// Changed heads.
    pub heads: Vec<(ChannelId, PackedHead)>,
    /// Changed rows.
    pub rows: SomeOf<Changed>,
    /// New messages.
    pub messages: Vec<Placed>,
    /// The version of each new value, and where its record lies.
    pub values: Vec<(u64, u32)>,
    /// In a replica, the batch's time.
    pub time: i64,
    /// How far logs were applied before, by each of their changes.
    pub positions: Vec<(LogId, Option<Position>)>,
    /// Bytes of payloads and ids.
    pub user_bytes: u64,
}

impl Effects {
    /// Notes a head; the last one of a channel counts.
    pub fn set_head(&mut self, channel: ChannelId, head: PackedHead) {
        match self.heads.last_mut().filter(|last| last.0 == channel) {
            Some(last) => last.1 = head,
            None => self.heads.push((channel, head)),
        }
    }

    /// Notes a row.
    pub fn put<T: Table>(&mut self, key: T::Key, row: T) {
        self.rows.get_mut::<T>().push((key, row));
    }

    /// Moves the places of its records in the log.
    pub fn move_records(&mut self, by: u64) {
        let by = by as u32;
        self.messages.iter_mut().for_each(|placed| placed.offset = placed.offset.wrapping_add(by));
        self.values.iter_mut().for_each(|(_, offset)| *offset = offset.wrapping_add(by));
    }

    /// How many images it holds: what putting it into a layer costs.
    pub fn len(&self) -> usize {
        struct Count(usize);
        impl EachTable<Changed> for Count {
            fn table<T: Table>(&mut self, rows: &Vec<(T::Key, T)>) -> crate::error::Result<()> {
                self.0 += rows.len();
                Ok(())
            }
        }
        let mut count =
            Count(self.channels.len() + self.users.len() + self.heads.len() + self.messages.len());
        count.0 += self.values.len();
        let _ = self.rows.each(&mut count);
        count.0
    }
}

impl std::fmt::Debug for Effects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Effects").field("version", &self.version).finish_non_exhaustive()
    }
}
