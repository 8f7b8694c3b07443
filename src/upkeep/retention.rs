//! Finding what channels need not keep: the seqs up to which their policies let them be trimmed (DESIGN 9.4). The trimming
//! itself is an ordinary commit.

use std::ops::ControlFlow;

use super::files::Upkeep;
use crate::error::Result;
use crate::kernel::View;
use crate::kernel::messages::Visit;
use crate::model::batch::Batch;
use crate::model::channel::Channel;
use crate::model::head::Head;
use crate::model::ids::{ChannelId, Named};
use crate::model::retention::RetentionPolicy;

/// What a look at channels' policies did. Made by [`Store::enforce_retention`](crate::Store::enforce_retention).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Retained {
    /// Channels with a policy that were looked at.
    pub channels: u64,
    /// Those of them that were trimmed.
    pub trimmed: u64,
    /// Whether the last channel was reached, so that the next call begins with the first one again.
    pub done: bool,
}

/// A part of the channels that was looked at.
pub struct Overdue {
    /// Trims of those that hold more than they need to.
    pub trims: Batch,
    /// Where the next part begins; `None` after the last one.
    pub next: Option<ChannelId>,
    /// How many with a policy there were.
    pub looked: u64,
}

impl Upkeep {
    /// Looks at `most` channels from `from` on, at a time in Unix milliseconds.
    pub fn overdue(&self, from: ChannelId, most: usize, now: i64) -> Result<Overdue> {
        let view = self.kernel.view()?;
        let (channels, next) = self.limited(&view, from, most);
        let mut trims = Batch::new();
        for channel in &channels {
            let head = view.head_of(*channel);
            let policy = self.policy(&view, *channel, &head)?;
            let seq = beyond_count(&view, *channel, &head, policy)?
                .max(beyond_age(&view, *channel, &head, policy, now)?)
                .max(beyond_bytes(&view, *channel, &head, policy)?);
            if seq > head.trimmed.seq {
                trims.trim_only(&view.name(Named::Channel, channel.0)?, *channel, seq);
            }
        }
        Ok(Overdue { trims, next, looked: channels.len() as u64 })
    }

    /// Channels that have a policy, and where to go on.
    fn limited(&self, view: &View, from: ChannelId, most: usize) -> (Vec<ChannelId>, Option<ChannelId>) {
        let mut found = Vec::new();
        if self.options.retention.is_empty() {
            let next = self.kernel.each_further(from, most, &mut |channel, head| {
                if head.limited && !head.dead() {
                    found.push(channel);
                }
            });
            return (found, next);
        }
        let count = view.moment.counts.channels;
        let end = u32::try_from(most).unwrap_or(u32::MAX).saturating_add(from.0).min(count);
        found.extend((from.0..end).map(ChannelId).filter(|channel| !view.head_of(*channel).dead()));
        (found, (end < count).then_some(ChannelId(end)))
    }

    fn policy(&self, view: &View, channel: ChannelId, head: &Head) -> Result<RetentionPolicy> {
        let own =
            if head.limited { view.row::<Channel>(channel)?.and_then(|row| row.retention()) } else { None };
        Ok(own.unwrap_or(self.options.retention))
    }
}

/// The seq up to which a channel holds more messages than it is to keep, or 0.
fn beyond_count(view: &View, channel: ChannelId, head: &Head, policy: RetentionPolicy) -> Result<u64> {
    let Some(most) = policy.max_count else { return Ok(0) };
    let surplus = head.last.seq.saturating_sub(most);
    // Seqs are without a gap, unless buffered messages were lost once; then messages are counted.
    if surplus <= head.trimmed.seq || view.moment.files.losses.is_empty() {
        return Ok(surplus);
    }
    let limit = usize::try_from(most).unwrap_or(usize::MAX).saturating_add(1);
    let (mut count, mut seq) = (0, 0);
    let see: &mut Visit<'_> = &mut |_, record| {
        count += 1;
        let beyond = count > most;
        seq = if beyond { record.mark.seq } else { 0 };
        Ok(if beyond { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    view.messages(channel, 1..=head.last.seq, true, limit).read(see)?;
    Ok(seq)
}

/// The seq up to which all messages of a channel are older than they are to become, or 0. Costs one message where the oldest
/// one is not.
fn beyond_age(
    view: &View,
    channel: ChannelId,
    head: &Head,
    policy: RetentionPolicy,
    now: i64,
) -> Result<u64> {
    let Some(age) = policy.max_age_ms else { return Ok(0) };
    let oldest = now.saturating_sub(i64::try_from(age).unwrap_or(i64::MAX));
    let mut seq = head.last.seq;
    let messages = view.messages(channel, 1..=head.last.seq, false, 1).of_times(oldest..=i64::MAX);
    messages.read(&mut |_, record| {
        seq = record.mark.seq - 1;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(seq)
}

/// The seq up to which a channel holds more bytes than it is to keep, or 0.
fn beyond_bytes(view: &View, channel: ChannelId, head: &Head, policy: RetentionPolicy) -> Result<u64> {
    let Some(keep) = policy.max_bytes else { return Ok(0) };
    view.messages(channel, 1..=head.last.seq, true, usize::MAX).beyond(keep)
}
