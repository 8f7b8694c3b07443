//! The heads of all channels, in memory, and the index that answers "which channels changed since version V".
//!
//! Owns an array of 40 bytes a channel, beside it a map of what few channels have besides, and above it a tree of fan-out 64 that holds, for each group, the greatest version
//! of a change in it. Invariant: an inner value is never below any value under it, and equals their maximum. An append
//! touches one value a level; a range of channels in which nothing changed is skipped at the highest level that covers it.

use std::collections::BTreeMap;

use super::undo::Undo;
use crate::model::head::{Further, Head, PackedHead, PlainHead};
use crate::model::ids::ChannelId;

/// Channels or groups under one value of the tree.
const FANOUT: usize = 64;

/// Heads by channel id.
#[derive(Debug, Default)]
pub struct Heads {
    heads: Vec<PlainHead>,
    /// The further fields of the heads that have any. Adding one moves few others: the writer's readers wait meanwhile.
    further: BTreeMap<ChannelId, Further>,
    /// `levels[0]` covers groups of heads, `levels[1]` groups of those, and so on to a level of one group.
    levels: Vec<Vec<u64>>,
    undo: Undo<ChannelId, Head>,
    /// The greatest version of a change of content in a channel with an erased message.
    erased: u64,
    /// How many channels were deleted.
    dead: u64,
}

impl Heads {
    /// The newest head of a channel; an unknown channel's is empty.
    pub fn get(&self, channel: ChannelId) -> Head {
        let plain = self.heads.get(channel.index());
        plain.map_or_else(Head::default, |plain| plain.head(|| self.further.get(&channel)))
    }

    /// The same as it is kept.
    pub fn packed(&self, channel: ChannelId) -> PackedHead {
        let plain = self.heads.get(channel.index()).copied().unwrap_or_default();
        let further = if plain.more { self.further.get(&channel) } else { None };
        PackedHead { plain, further: further.map(|further| Box::new(*further)) }
    }

    /// The head of a channel as of `version`.
    pub fn at(&self, channel: ChannelId, version: u64) -> Head {
        match self.undo.find(&channel, version) {
            Some(old) => *old,
            None => self.get(channel),
        }
    }

    /// Makes room for `count` channels in all.
    pub fn grow(&mut self, count: usize) {
        if count > self.heads.len() {
            self.heads.resize(count, PlainHead::default());
        }
    }

    /// Sets a head, in a change of `version`. With `keep`, older views find what was there before.
    pub fn put(&mut self, channel: ChannelId, head: &PackedHead, version: u64, keep: bool) {
        if keep {
            self.undo.push(channel, version, self.get(channel), 0);
        }
        self.set(channel, head);
    }

    /// Sets a head. It must not have changed earlier than the one before.
    pub fn set(&mut self, channel: ChannelId, head: &PackedHead) {
        let index = channel.index();
        self.grow(index + 1);
        let PackedHead { plain, further } = head;
        debug_assert!(self.heads[index].changed <= plain.changed);
        let before = std::mem::replace(&mut self.heads[index], *plain);
        let further_before = match further {
            Some(further) => self.further.insert(channel, **further),
            None if before.more => self.further.remove(&channel),
            None => None,
        };
        if let Some(further) = further {
            self.dead += u64::from(further.dead() && !further_before.is_some_and(|before| before.dead()));
            self.erased = self.erased.max(further.erased_content().unwrap_or(0));
        }
        if before.changed != plain.changed {
            self.raise(index, plain.changed);
        }
    }

    fn raise(&mut self, mut index: usize, version: u64) {
        let mut depth = 0;
        let mut width = self.heads.len();
        while width > FANOUT || depth < self.levels.len() {
            index /= FANOUT;
            width = width.div_ceil(FANOUT);
            if depth == self.levels.len() {
                let level = self.build(depth, width);
                self.levels.push(level);
            }
            let level = &mut self.levels[depth];
            if level.len() <= index {
                level.resize(width.max(index + 1), 0);
            }
            level[index] = level[index].max(version);
            depth += 1;
        }
    }

    /// Computes a level that the tree did not have while it was smaller.
    fn build(&self, depth: usize, width: usize) -> Vec<u64> {
        let max = |group: usize| match depth {
            0 => slice(&self.heads, group).iter().map(|head| head.changed).max(),
            _ => slice(&self.levels[depth - 1], group).iter().copied().max(),
        };
        (0..width).map(|group| max(group).unwrap_or(0)).collect()
    }

    /// The first channel from `from` on that changed after `version`, as of now.
    pub fn next_changed(&self, from: ChannelId, version: u64) -> Option<ChannelId> {
        self.next_above(0, from.index(), version).map(|index| ChannelId(index as u32))
    }

    /// The first value from `from` on that is above `version`, at a height: 0 for heads. Looks at the rest of a group, then
    /// for the next group that has one, and into that.
    fn next_above(&self, height: usize, from: usize, version: u64) -> Option<usize> {
        let above = |index: &usize| match height {
            0 => self.heads[*index].changed > version,
            _ => self.levels[height - 1][*index] > version,
        };
        let len = if height == 0 { self.heads.len() } else { self.levels[height - 1].len() };
        let end = if height == self.levels.len() { len } else { (from / FANOUT + 1) * FANOUT };
        if let Some(found) = (from..end.min(len)).find(above) {
            return Some(found);
        }
        if end >= len {
            return None;
        }
        let group = self.next_above(height + 1, end / FANOUT, version)?;
        (group * FANOUT..((group + 1) * FANOUT).min(len)).find(above)
    }

    /// No message was erased after this version.
    pub fn erased(&self) -> u64 {
        self.erased
    }

    /// How many channels were deleted.
    pub fn dead(&self) -> u64 {
        self.dead
    }

    /// Shows the newest heads that have further fields, from `from` on, at most so many. Returns where to go on.
    pub fn each_further(
        &self,
        from: ChannelId,
        most: usize,
        visit: &mut dyn FnMut(ChannelId, &Head),
    ) -> Option<ChannelId> {
        let mut rest = self.further.range(from..);
        rest.by_ref().take(most).for_each(|(channel, _)| visit(*channel, &self.get(*channel)));
        rest.next().map(|(channel, _)| *channel)
    }

    /// Forgets what only views older than `version` need.
    pub fn trim(&mut self, version: u64, most: usize) {
        self.undo.trim(version, most);
    }

    /// About how much memory the newest heads take, in bytes.
    pub fn memory(&self) -> usize {
        let levels: usize = self.levels.iter().map(Vec::capacity).sum();
        self.heads.capacity() * size_of::<PlainHead>()
            + levels * size_of::<u64>()
            + self.further.len() * (size_of::<(ChannelId, Further)>() + 8)
    }

    /// About how much memory old heads take, in bytes.
    pub fn undo_memory(&self) -> usize {
        self.undo.memory()
    }
}

fn slice<T>(values: &[T], group: usize) -> &[T] {
    let start = (group * FANOUT).min(values.len());
    &values[start..(start + FANOUT).min(values.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn next_changed_finds_what_a_scan_finds(
            channels in 1usize..9000, touched in proptest::collection::vec(any::<u32>(), 0..60), from: u32, since in 0u64..80,
        ) {
            let mut heads = Heads::default();
            for (version, at) in touched.iter().enumerate() {
                let channel = ChannelId(at % channels as u32);
                let changed = version as u64 + 1;
                let head = Head { changed, retracted: changed % 3, ..heads.get(channel) };
                heads.set(channel, &PackedHead::from(&head));
                prop_assert_eq!(heads.get(channel), head);
                if version == touched.len() / 2 {
                    heads.grow(channels);
                }
            }
            let from = from % channels as u32;
            let scanned = (from..heads.heads.len() as u32).map(ChannelId).find(|c| heads.get(*c).changed > since);
            prop_assert_eq!(heads.next_changed(ChannelId(from), since), scanned);
        }
    }
}
