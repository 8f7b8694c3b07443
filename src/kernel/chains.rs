//! What a layer knows of each channel that was touched in it: its head at the layer's end, and where its messages lie.
//!
//! Invariant: within one layer a channel's seqs are contiguous, because a loss begins a new log segment.

use std::ops::RangeInclusive;

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::model::head::{Further, PackedHead};
use crate::model::ids::ChannelId;
use crate::model::message::Placed;

/// The touched channels of a layer.
#[derive(Debug, Default)]
pub struct Chains {
    channels: HashMap<ChannelId, Touched>,
    messages: u64,
    /// How many heads have further fields.
    further: usize,
}

/// One channel.
#[derive(Debug, Default)]
pub struct Touched {
    /// The head after the last change in the layer.
    pub head: PackedHead,
    /// Where its messages lie; empty if only its members changed.
    pub chain: LayerChain,
}

/// Where the messages of a channel lie in a log segment: about 4 bytes each.
#[derive(Debug, Default)]
pub struct LayerChain {
    /// The seq of the first message here.
    pub first_seq: u64,
    /// The version and the seq of the channel's last message before this segment.
    pub previous: (u64, u64),
    offsets: SmallVec<[u32; 4]>,
}

impl LayerChain {
    /// Whether it holds no message.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The seq of the last message.
    pub fn last_seq(&self) -> u64 {
        self.first_seq + self.offsets.len() as u64 - 1
    }

    /// The offset of each message's record, in order of seq.
    pub fn offsets(&self) -> impl Iterator<Item = u64> + '_ {
        self.offsets.iter().map(|offset| u64::from(*offset))
    }

    /// The offset of the message with a seq.
    pub fn offset(&self, seq: u64) -> Option<u64> {
        let place = usize::try_from(seq.checked_sub(self.first_seq)?).ok()?;
        self.offsets.get(place).map(|offset| u64::from(*offset))
    }

    /// The offsets of at most `limit` messages with a seq in `range`, from its first or its last on.
    pub fn range(&self, range: RangeInclusive<u64>, reverse: bool, limit: usize) -> Vec<u64> {
        if self.is_empty() {
            return Vec::new();
        }
        let start = (*range.start()).max(self.first_seq);
        let end = (*range.end()).min(self.last_seq());
        if start > end {
            return Vec::new();
        }
        let part = &self.offsets[(start - self.first_seq) as usize..=(end - self.first_seq) as usize];
        if reverse {
            part.iter().rev().take(limit).map(|offset| u64::from(*offset)).collect()
        } else {
            part.iter().take(limit).map(|offset| u64::from(*offset)).collect()
        }
    }
}

impl Chains {
    /// Notes a channel's head.
    pub fn set_head(&mut self, channel: ChannelId, head: PackedHead) {
        self.further += usize::from(head.further.is_some());
        let before = std::mem::replace(&mut self.channels.entry(channel).or_default().head, head);
        self.further -= usize::from(before.further.is_some());
    }

    /// Notes a message.
    pub fn push(&mut self, placed: &Placed) {
        let chain = &mut self.channels.entry(placed.channel).or_default().chain;
        if chain.is_empty() {
            (chain.first_seq, chain.previous) = (placed.mark.seq, placed.previous);
        }
        chain.offsets.push(placed.offset);
        self.messages += 1;
        debug_assert_eq!(chain.last_seq(), placed.mark.seq);
    }

    /// The messages of a channel, if there are any.
    pub fn get(&self, channel: ChannelId) -> Option<&LayerChain> {
        self.channels.get(&channel).map(|touched| &touched.chain).filter(|chain| !chain.is_empty())
    }

    /// The touched channels in order.
    pub fn sorted(&self) -> Vec<(ChannelId, &Touched)> {
        let mut sorted: Vec<_> = self.channels.iter().map(|(channel, touched)| (*channel, touched)).collect();
        sorted.sort_unstable_by_key(|(channel, _)| *channel);
        sorted
    }

    /// How many messages there are.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// About how much memory they take, in bytes.
    pub fn memory(&self) -> usize {
        let further = self.further * (size_of::<Further>() + 16);
        self.channels.len() * (size_of::<Touched>() + 24) + self.messages as usize * 6 + further
    }
}
