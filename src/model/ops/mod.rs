//! The operations, one file each. What an operation is stands in [`super::op`]; the list of them in [`super`].

pub mod activate;
pub mod annotate;
pub mod append;
pub mod append_at;
pub mod attributes;
pub mod channel_attributes;
pub mod class;
pub mod clear;
pub mod delete_channel;
pub mod delete_user;
pub mod deliver;
pub mod edit;
pub mod empty;
pub mod erase;
pub mod erase_user;
pub mod expire;
pub mod flag_unread;
pub mod forget;
pub mod hide;
pub mod join;
pub mod leave;
pub mod mute;
pub mod pin;
pub mod position;
pub mod read;
pub mod read_all;
pub mod read_at;
pub mod require;
pub mod retention;
pub mod retract;
pub mod role;
pub mod set_base;
pub mod set_unread;
pub mod sets;
pub mod trim;
pub mod user_attributes;

use super::fate::UserFate;
use super::head::Head;
use super::ids::ChannelId;
use super::image::Patch;
use super::key::{ChannelSeq, UserChannel};
use super::member::own::Own;
use super::membership::{Membership, field, key};
use super::outcome::Outcome;
use super::state::Transaction;
use crate::error::{Error, Result};

/// The row of a user and a channel, if both are known and it exists.
fn find_row(
    txn: &mut impl Transaction,
    channel: &[u8],
    user: &[u8],
) -> Result<Option<(UserChannel, Membership)>> {
    let (Some(channel), Some(user)) = (txn.find_channel(channel)?, txn.find_user(user)?) else {
        return Ok(None);
    };
    let key = key(channel, user);
    Ok(txn.row::<Membership>(key)?.map(|row| (key, row)))
}

/// The row of a member; a refusal for anybody else.
fn member(txn: &mut impl Transaction, channel: &[u8], user: &[u8]) -> Result<(UserChannel, Membership)> {
    match find_row(txn, channel, user)? {
        Some((key, row)) if row.present() => Ok((key, row)),
        _ => Err(txn.not_member()),
    }
}

/// The row of a member as it counts: a message of the user's own may have ended what the row says.
fn member_with_own(
    txn: &mut impl Transaction,
    channel: &[u8],
    user: &[u8],
) -> Result<(UserChannel, Membership)> {
    let (key, mut row) = member(txn, channel, user)?;
    row.set_own(&txn.row::<Own>(key)?.unwrap_or_default());
    Ok((key, row))
}

/// Sets a member's cursor, given the row as it counts. It ends the unread flag and the force of the own mark.
fn set_cursor(
    txn: &mut impl Transaction,
    key: UserChannel,
    row: &Membership,
    to: super::mark::Mark,
) -> Result<Outcome> {
    if row.cursor() == to && row.flagged == 0 {
        return Ok(Outcome::Unchanged);
    }
    let mut patch = Patch::new().set(field::read, to).set(field::set_at, txn.version() + 1);
    if row.flagged > 0 {
        patch = patch.set(field::flagged, 0u64);
    }
    txn.patch::<Membership>(key, patch)
}

/// The key of a message, which there is; a refusal if there is none of this seq.
fn message(txn: &mut impl Transaction, channel: &[u8], seq: u64) -> Result<ChannelSeq> {
    if let Some(channel) = txn.find_channel(channel)?
        && kept_seqs(&txn.head(channel)).contains(&seq)
        && txn.place(channel, seq)?.seq == seq
    {
        return Ok(ChannelSeq { channel, seq });
    }
    Err(Error::NoMessage { seq, op: txn.index(), version: txn.version() })
}

/// Whether a message, which there is, was erased with all that its sender had sent.
fn erased_with_sender(txn: &mut impl Transaction, key: ChannelSeq) -> Result<bool> {
    if !txn.any_fates() {
        return Ok(false);
    }
    let origin = txn.origin(key.channel, key.seq)?;
    Ok(txn.row::<UserFate>(origin.sender)?.is_some_and(|fate| origin.version <= fate.erased))
}

/// The seqs of a channel's messages, those that were trimmed apart.
fn kept_seqs(head: &Head) -> std::ops::RangeInclusive<u64> {
    head.trimmed.seq + 1..=head.last.seq
}

/// The mark at a seq, or at the channel's end if the seq lies beyond it; where trimming ended if it lies below that.
fn mark_within(txn: &mut impl Transaction, channel: ChannelId, seq: u64) -> Result<super::mark::Mark> {
    let head = txn.head(channel);
    match seq {
        _ if seq >= head.last.seq => Ok(head.last),
        _ if seq <= head.trimmed.seq => Ok(head.trimmed),
        _ => txn.mark(channel, seq),
    }
}
