//! Which sends with a client id were done, so that repeating one finds the first.
//!
//! Owns the rules of an idempotent send: what is the same send, what is a conflict, and for how long an entry counts. That is
//! decided by versions and times alone, so that it never depends on whether a merge has dropped the entry.

use super::image::{Patch, image};
use super::key::ChannelSenderHash;
use super::message::NewMessage;
use super::outcome::Outcome;
use super::state::Transaction;
use crate::env::fault;
use crate::error::{Error, Result};

image! {
    /// A send with a client id. Every row may be dropped one day, and so has the tag of a tombstone.
    pub struct Sent: table 18 by ChannelSenderHash;
    marks {}
    fields {
        /// The seq of the message, whose version is the row's.
        seq: u64 = 1,
        /// The hash of the content.
        content: u64 = 2,
        /// Another hash of the client id, by which two of them with the same key are told apart.
        check: u64 = 3,
        /// When it was sent, by the store's clock, in Unix milliseconds.
        sent_at: Option<i64> = 4,
    }
    beside {}
    tombstone |_| true;
}

/// What a hash is of, so that none serves two uses.
const OF_KEY: u8 = 1;
const OF_CHECK: u8 = 2;
const OF_CONTENT: u8 = 3;

/// The hash of what tells a message from another one of its sender: payload and class, not timestamp or id.
pub(crate) fn content(silent: bool, quiet: bool, payload: &[u8], hash: impl FnOnce(&[&[u8]]) -> u64) -> u64 {
    hash(&[&[OF_CONTENT, u8::from(silent || quiet) + u8::from(quiet)], payload])
}

/// A send that is about to be done.
pub(crate) struct NamedSend {
    key: ChannelSenderHash,
    /// Its row, seq and version apart.
    row: Sent,
}

impl NamedSend {
    /// Of a message with a client id.
    pub fn new(txn: &impl Transaction, message: &NewMessage<'_>, client_id: &[u8]) -> NamedSend {
        let NewMessage { channel, sender, silent, quiet, payload, .. } = *message;
        let key = ChannelSenderHash { channel, sender, hash: txn.hash(&[&[OF_KEY], client_id]) };
        // Half of it is enough beside the key, and shorter.
        let check = u64::from(txn.hash(&[&[OF_CHECK], client_id]) as u32);
        let content = content(silent, quiet, payload, |parts| txn.hash(parts));
        NamedSend { key, row: Sent { check, content, sent_at: Some(txn.now()), ..Sent::default() } }
    }

    /// What was sent before with the same client id, if that counts. Other content is a conflict.
    pub fn first(&self, txn: &mut impl Transaction) -> Result<Option<Outcome>> {
        let window = txn.window();
        let first = txn.row::<Sent>(self.key)?.filter(|row| {
            // Two ids that have a hash in common don't know of each other.
            let same = row.check == self.row.check;
            same && window.holds((row.version, row.sent_at), txn.first_version(), txn.now())
        });
        match first {
            None => Ok(None),
            Some(row) if row.content == self.row.content || fault(102) => {
                Ok(Some(Outcome::Existed { seq: row.seq, version: row.version }))
            }
            Some(row) => Err(Error::Conflict { op: txn.index(), seq: row.seq, version: txn.version() }),
        }
    }

    /// Notes that the message was just appended.
    pub fn note(&self, txn: &mut impl Transaction, seq: u64) -> Result<()> {
        let patch = Patch::new()
            .set(field::seq, seq)
            .set(field::content, self.row.content)
            .set(field::check, self.row.check)
            .set(field::sent_at, self.row.sent_at);
        txn.patch_beside::<Sent>(self.key, patch)
    }
}
