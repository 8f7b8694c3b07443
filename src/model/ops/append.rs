//! Sending a message.

use super::member;
use crate::error::{Error, Result};
use crate::model::batch::Batch;
use crate::model::expiry::{self, Expiry};
use crate::model::ids::MAX_CLIENT_ID;
use crate::model::image::Patch;
use crate::model::key::TimeVersion;
use crate::model::mention::{self, MAX_MENTIONS, Mentions};
use crate::model::message::{Draft, NewMessage};
use crate::model::message_id;
use crate::model::names::names;
use crate::model::op::{Limits, operation};
use crate::model::outcome::Outcome;
use crate::model::sent::NamedSend;
use crate::model::state::Transaction;

operation! {
    /// Appends a message.
    Append = 1 "append" {
        channel: channel, sender: user, timestamp: time, silent: flag, id: maybe, client_id: maybe_bytes, payload: bytes,
        members_only: flag, unique_id: maybe_bytes, mentions: users, mention_all: flag, quiet: flag, expires: maybe,
    }

    fn check(&self, limits: &Limits) -> Result<()> {
        let (len, limit) = (self.payload.len() as u64, u64::from(limits.payload));
        if len > limit {
            return Err(Error::TooLarge { what: "a payload's number of bytes", len, limit, op: None });
        }
        let named = [("client", self.client_id), ("unique", self.unique_id)];
        for (kind, len) in named.into_iter().filter_map(|(kind, id)| Some((kind, id?.len()))) {
            if !(1..=MAX_CLIENT_ID).contains(&len) {
                let what = format!("a {kind} id of {len} bytes; 1 to {MAX_CLIENT_ID} are allowed");
                return Err(Error::invalid(what));
            }
        }
        let (len, limit) = (names(self.mentions).unwrap_or_default().len() as u64, MAX_MENTIONS as u64);
        if len > limit {
            return Err(Error::TooLarge { what: "the number of users in a message's mentions", len, limit, op: None });
        }
        Ok(())
    }

    fn reads(&self) -> bool {
        self.members_only || self.client_id.is_some() || self.unique_id.is_some()
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        self.send(txn, None)
    }
}

impl Append<'_> {
    /// Does it. The message gets the channel's next seq, or this one, which follows the last.
    pub fn send(&self, txn: &mut impl Transaction, at: Option<u64>) -> Result<Outcome> {
        let channel = txn.make_channel(self.channel)?;
        let sender = txn.make_user(self.sender)?;
        let message = NewMessage {
            channel,
            sender,
            timestamp: self.timestamp,
            silent: self.silent || self.quiet,
            quiet: self.quiet,
            at,
            id: self.id,
            client_id: self.client_id,
            unique_id: self.unique_id,
            expires: self.expires.map(|at| i64::try_from(at).unwrap_or(i64::MAX)),
            payload: self.payload,
        };
        let send = self.client_id.map(|client_id| NamedSend::new(txn, &message, client_id));
        // Who left since has the answer of the first try all the same.
        if let Some(send) = &send
            && let Some(first) = send.first(txn)?
        {
            return Ok(first);
        }
        if self.members_only {
            member(txn, self.channel, self.sender)?;
        }
        if let Some(id) = self.unique_id {
            message_id::check_free(txn, id)?;
        }
        let mentions = Mentions { all: self.mention_all, names: self.mentions }.users(txn, &message)?;
        let outcome = txn.append(message)?;
        let Outcome::Appended { seq, version, .. } = outcome else { return Ok(outcome) };
        if let Some(send) = send {
            send.note(txn, seq)?;
        }
        if let Some(id) = self.unique_id {
            message_id::note(txn, id, channel, seq)?;
        }
        if let Some(at) = message.expires {
            let row =
                Patch::new().set(expiry::field::channel, u64::from(channel.0)).set(expiry::field::seq, seq);
            txn.add_beside::<Expiry>(TimeVersion { time: expiry::time(at), version }, row)?;
        }
        mention::note(txn, (channel, seq), sender, &mentions)?;
        Ok(outcome)
    }
}

impl Batch {
    /// Appends a message to a channel. If the sender is a member, it counts as read for the sender, with all before it.
    ///
    /// Costs one record in the log, whatever the number of members, and a small row for each mention ([`Draft::mentions`]); no row and no file is read, unless the draft demands
    /// that the sender is a member, or has a client id or a unique id.
    ///
    /// # Errors
    /// Committing it is refused with [`Error::Conflict`] if the draft's client id was used for another content, and with
    /// [`Error::IdTaken`] if its unique id is that of another message.
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
            unique_id: draft.unique_id.as_deref(),
            mentions: &draft.mentions,
            mention_all: draft.mention_all,
            quiet: draft.quiet,
            expires: draft.expires.map(expiry::time),
        })
    }
}
