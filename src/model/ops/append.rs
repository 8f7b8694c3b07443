//! Sending a message.

use super::member;
use crate::error::{Error, Result};
use crate::model::batch::Batch;
use crate::model::ids::MAX_CLIENT_ID;
use crate::model::message::{Draft, NewMessage};
use crate::model::op::{Limits, operation};
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Appends a message.
    Append = 1 "append" {
        channel: channel, sender: user, timestamp: time, silent: flag, id: maybe, client_id: maybe_bytes, payload: bytes,
        members_only: flag,
    }

    fn check(&self, limits: &Limits) -> Result<()> {
        let (len, limit) = (self.payload.len() as u64, u64::from(limits.payload));
        if len > limit {
            return Err(Error::TooLarge { what: "a payload's number of bytes", len, limit, op: None });
        }
        match self.client_id.map(<[u8]>::len) {
            None | Some(1..=MAX_CLIENT_ID) => Ok(()),
            Some(len) => {
                Err(Error::invalid(format!("a client id of {len} bytes; 1 to {MAX_CLIENT_ID} are allowed")))
            }
        }
    }

    fn reads(&self) -> bool {
        self.members_only
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        if self.members_only {
            member(txn, self.channel, self.sender)?;
        }
        let channel = txn.make_channel(self.channel)?;
        let sender = txn.make_user(self.sender)?;
        txn.append(NewMessage {
            channel,
            sender,
            timestamp: self.timestamp,
            silent: self.silent,
            id: self.id,
            client_id: self.client_id,
            payload: self.payload,
        })
    }
}

impl Batch {
    /// Appends a message to a channel. If the sender is a member, it counts as read for the sender, with all before it.
    ///
    /// Costs one record in the log, whatever the number of members; no row and no file is read, unless the draft demands
    /// that the sender is a member.
    pub fn append(&mut self, channel: impl AsRef<[u8]>, draft: Draft) -> &mut Self {
        self.push(Append {
            channel: channel.as_ref(),
            sender: &draft.sender,
            timestamp: draft.timestamp,
            silent: draft.silent,
            id: draft.id,
            client_id: draft.client_id.as_deref(),
            payload: &draft.payload,
            members_only: draft.members_only,
        })
    }
}
