//! Sending a message to a seq that the caller says: what a server does that gives seqs itself, or copies a channel.

use super::append::Append;
use crate::error::{Error, Result};
use crate::model::alteration::Alteration;
use crate::model::batch::Batch;
use crate::model::expiry;
use crate::model::fate::UserFate;
use crate::model::key::ChannelSeq;
use crate::model::message::Draft;
use crate::model::op::{Limits, operation};
use crate::model::outcome::Outcome;
use crate::model::sent;
use crate::model::state::Transaction;

operation! {
    /// Appends a message if its seq is the next one, and compares it with the one that is there if it is not.
    AppendAt = 72 "append_at" {
        channel: channel, seq: number, sender: user, timestamp: time, silent: flag, id: maybe, client_id: maybe_bytes, payload: bytes,
        members_only: flag, unique_id: maybe_bytes, mentions: users, mention_all: flag, quiet: flag, expires: maybe,
    }

    fn check(&self, limits: &Limits) -> Result<()> {
        match self.seq {
            0 => Err(Error::invalid("a message at seq 0; seqs begin with 1")),
            _ => self.append().check(limits),
        }
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        match self.existing(txn)? {
            Some(existed) => Ok(existed),
            None => self.append().send(txn, Some(self.seq)),
        }
    }
}

impl<'a> AppendAt<'a> {
    fn append(&self) -> Append<'a> {
        Append {
            channel: self.channel,
            sender: self.sender,
            timestamp: self.timestamp,
            silent: self.silent,
            id: self.id,
            client_id: self.client_id,
            payload: self.payload,
            members_only: self.members_only,
            unique_id: self.unique_id,
            mentions: self.mentions,
            mention_all: self.mention_all,
            quiet: self.quiet,
            expires: self.expires,
        }
    }

    /// The message that is there; `None` if the seq is the channel's next one.
    fn existing(&self, txn: &mut impl Transaction) -> Result<Option<Outcome>> {
        let seq = self.seq;
        let (op, version) = (txn.index(), txn.version());
        let channel = txn.find_channel(self.channel)?;
        let (last, trimmed) =
            channel.map(|channel| txn.head(channel)).map_or((0, 0), |head| (head.last.seq, head.trimmed.seq));
        let channel = match channel {
            _ if seq.checked_sub(1) == Some(last) => return Ok(None),
            Some(channel) if seq <= last => channel,
            _ => return Err(Error::Gap { op, seq, last, version }),
        };
        if seq <= trimmed {
            return Ok(Some(Outcome::Existed { seq, version: 0 }));
        }
        let withheld = txn.row::<Alteration>(ChannelSeq { channel, seq })?.is_some_and(|row| row.withheld());
        // A loss of buffered messages may have left it out.
        let Some(said) = txn.said(channel, seq)? else { return Err(Error::NoMessage { seq, op, version }) };
        let content = sent::content(self.silent, self.quiet, self.payload, |parts| txn.hash(parts));
        let fate = match txn.any_fates() {
            true => txn.row::<UserFate>(said.sender)?.unwrap_or_default(),
            false => UserFate::default(),
        };
        // No name leads to a sender who was deleted.
        let sender = fate.deleted > 0 || txn.find_user(self.sender)? == Some(said.sender);
        let same = said.content == content && sender;
        match same || withheld || fate.erased >= said.version {
            true => Ok(Some(Outcome::Existed { seq, version: said.version })),
            false => Err(Error::Conflict { op, seq, version }),
        }
    }
}

impl Batch {
    /// Appends a message if `seq` is the channel's next one: 1 in an empty channel, else the one after its last. For a server
    /// that gives seqs itself, copies a channel, or repeats what it does not know to have been done. Where the channel is
    /// longer already, nothing is appended: the message there has the same sender, payload and class (`silent`, `quiet`) as it
    /// was sent, or was trimmed, erased or retracted since, and the outcome is [`Outcome::Existed`](crate::Outcome::Existed),
    /// with version 0 if it was trimmed. All else is as of [`Batch::append`].
    ///
    /// The caller answers for the seq: after buffered messages were lost, it is given again if the caller says so. Costs a read
    /// of the message that is there, for which committing waits if it is still on its way, and else what `append` costs.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft, Error, Outcome};
    /// let send = |seq, text: &'static str| {
    ///     store.commit(Batch::new().append_at("general", seq, Draft::new("alice", 0, text)))
    /// };
    /// assert!(matches!(send(1, "hi")?.outcomes()[0], Outcome::Appended { seq: 1, .. }));
    /// assert!(matches!(send(1, "hi")?.outcomes()[0], Outcome::Existed { seq: 1, .. }));
    /// assert!(matches!(send(1, "ho"), Err(Error::Conflict { seq: 1, .. })));
    /// assert!(matches!(send(3, "hi"), Err(Error::Gap { seq: 3, last: 1, .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Committing it is refused with [`Error::Conflict`] if another message is there, [`Error::Gap`] if messages before it are
    /// missing, [`Error::NoMessage`] if the channel goes beyond `seq` and lost what was there, and with those of
    /// [`Batch::append`].
    pub fn append_at(&mut self, channel: impl AsRef<[u8]>, seq: u64, draft: Draft) -> &mut Self {
        self.push(AppendAt {
            channel: channel.as_ref(),
            seq,
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
