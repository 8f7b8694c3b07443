//! Finding a message by the caller's id.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::Senders;
use super::alterations::Alterations;
use crate::error::Result;
use crate::files::table;
use crate::kernel::View;
use crate::model::ids::Named;
use crate::model::message::Message;
use crate::model::message_id::{self, MessageId};

/// A message that was found by its id, and where. Made by [`Store::message_by_id`](crate::Store::message_by_id).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Found {
    /// The channel's name.
    pub channel: Bytes,
    /// The message.
    pub message: Message,
}

impl View {
    /// As [`Store::message_by_id`](crate::Store::message_by_id), as of this view.
    pub fn message_by_id(&self, id: impl AsRef<[u8]>) -> Result<Option<Found>> {
        self.check()?;
        let id = id.as_ref();
        let hash = |parts: &[&[u8]]| table::hash_parts(&self.moment.files.key, parts);
        let Some(row) = self.row::<MessageId>(message_id::key(hash, id))? else { return Ok(None) };
        let Some(channel) = row.channel() else { return Ok(None) };
        let mut alterations = Alterations::new(self, channel, &self.head_of(channel), false);
        let mut message = None;
        self.messages(channel, row.seq..=row.seq, false, 1).read(&mut |bytes, record| {
            message = Some(Senders::new(self).message(bytes, record, alterations.of(record.mark.seq)?)?);
            Ok(ControlFlow::Break(()))
        })?;
        let Some(message) = message.filter(|message| message.unique_id.as_deref() == Some(id)) else {
            return Ok(None);
        };
        Ok(Some(Found { channel: self.name(Named::Channel, channel.0)?, message }))
    }
}
