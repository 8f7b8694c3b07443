//! Setting the number of unread messages.

use super::{member_with_own, set_cursor};
use crate::error::Result;
use crate::model::alteration::Alteration;
use crate::model::batch::Batch;
use crate::model::forgotten::{Forgotten, HiddenRanges};
use crate::model::ids::ChannelId;
use crate::model::key::ChannelSeq;
use crate::model::mark::Mark;
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

/// Marks are looked at by blocks of so many seqs, the last block as a whole: what was read before the writer's lock then
/// still serves when a few messages have come since.
const BLOCK: u64 = 16;

operation! {
    /// Sets the cursor so that so many messages are unread.
    SetUnread = 14 "set_unread" { channel: channel, user: user, count: number, }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (key, row) = member_with_own(txn, self.channel, self.user)?;
        let head = txn.head(key.channel);
        if head.last.seq == 0 {
            return Ok(Outcome::Unchanged);
        }
        let floor = row.floor_in(&head);
        let hidden = match row.forgot > floor.seq {
            true => txn.row::<Forgotten>(key)?.unwrap_or_default().ranges,
            false => HiddenRanges::default(),
        };
        let to = place(txn, key.channel, floor, self.count, &hidden)?;
        set_cursor(txn, key, &row, to)
    }
}

/// The seqs after `seq` of messages that counted when they were sent and no longer do, ascending, hidden ones apart.
fn uncounted(
    txn: &mut impl Transaction,
    channel: ChannelId,
    seq: u64,
    hidden: &HiddenRanges,
) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    if txn.head(channel).retracted > seq {
        txn.each_after::<Alteration>(ChannelSeq { channel, seq: seq + 1 }, &mut |key, row| {
            found.extend(Some(key.seq).filter(|_| row.uncounted()));
        })?;
        found.retain(|seq| hidden.before(*seq).is_none());
        found.sort_unstable();
    }
    Ok(found)
}

/// The last place that has `count` counted messages after it; `floor` if there are fewer above that.
fn place(
    txn: &mut impl Transaction,
    channel: ChannelId,
    floor: Mark,
    count: u64,
    hidden: &HiddenRanges,
) -> Result<Mark> {
    let end = txn.head(channel).last;
    if count == 0 {
        return Ok(end);
    }
    let uncounted = uncounted(txn, channel, floor.seq, hidden)?;
    let enough = |mark: &Mark| {
        let retracted = uncounted.len() - uncounted.partition_point(|seq| *seq <= mark.seq);
        let gone = retracted as u64 + hidden.counted_after(*mark);
        end.ordinal - mark.ordinal >= count.saturating_add(gone)
    };
    if !enough(&floor) {
        return Ok(floor);
    }
    // From here on `low` has at least `count` messages after it, and the place at `high` has fewer.
    let (mut low, mut high) = (floor, end.seq - count + 1);
    let (mut at, mut step) = (block(high - 1), BLOCK);
    while at > low.seq {
        let mark = txn.mark(channel, at)?;
        if enough(&mark) {
            low = mark;
            break;
        }
        high = at;
        (at, step) = (at.saturating_sub(step), 2 * step);
    }
    while let Some(at) = between(low.seq, high) {
        let mark = txn.mark(channel, at)?;
        if enough(&mark) { low = mark } else { high = at }
    }
    for seq in low.seq + 1..end.seq.min(block(low.seq) + BLOCK) {
        let mark = txn.mark(channel, seq)?;
        if enough(&mark) {
            low = mark;
        }
    }
    Ok(low)
}

/// The begin of a seq's block.
fn block(seq: u64) -> u64 {
    seq - seq % BLOCK
}

/// The begin of a block about half-way between two seqs, if there is one.
fn between(low: u64, high: u64) -> Option<u64> {
    let half = block(low + (high - low) / 2);
    let at = if half > low { half } else { half + BLOCK };
    (at < high).then_some(at)
}

impl Batch {
    /// Sets the cursor of this user so that `count` messages are unread, or as many as there are if they are fewer: at the
    /// last place of which that is so. On an empty channel it does nothing. What else it ends is told at [`Batch::read_at`].
    ///
    /// Costs a logarithmic number of look-ups of messages, about 20 where nothing in the unread part is silent, and a step for
    /// each altered message after what the user may not see.
    pub fn set_unread(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>, count: u64) -> &mut Self {
        self.push(SetUnread { channel: channel.as_ref(), user: user.as_ref(), count })
    }
}
