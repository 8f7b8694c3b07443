//! Removing message segments of which everything was trimmed (DESIGN 9.3).
//!
//! Whether that is so is asked often and seldom true. So for each segment one message is remembered that still counts: as
//! long as that is not trimmed, a look at a head answers. Otherwise the next one is looked for from there on, so that a
//! segment's directory is read about once in the segment's life.

use super::files::Upkeep;
use super::step::Done;
use crate::env::unless;
use crate::error::Result;
use crate::files::sealed::Kind;
use crate::files::segment::Segment;
use crate::kernel::Part;
use crate::model::ids::ChannelId;

impl Upkeep {
    /// Removes one message segment of which everything was trimmed, if there is one, and tells whether it did. `sync` makes
    /// durable what was published: a trim that is lost with power must not have taken a file with it.
    pub fn drop_trimmed(&self, sync: impl FnOnce() -> Result<()>) -> Result<bool> {
        let _alone = self.merging_segments.lock();
        self.check()?;
        let files = self.kernel.moment().files.clone();
        for part in &files.segments {
            let Ok(segment) = &part.segment else { continue };
            if self.is_damaged(&part.entry) {
                continue;
            }
            match self.is_trimmed(segment) {
                Ok(false) => {}
                Ok(true) => {
                    unless(53, sync)?;
                    self.drop_segment(part, segment.messages())?;
                    return Ok(true);
                }
                // It is remembered, and the others go on.
                Err(error) if self.note_damage(&error, Kind::Segment, &[part.entry]) => {
                    self.did(Done::Damaged { fault: error }, self.now());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Whether nothing in a segment counts any more. The values of rows lie under a channel that nobody trims.
    fn is_trimmed(&self, segment: &Segment) -> Result<bool> {
        let counts = |channel: ChannelId, seq: u64| self.kernel.newest_head(channel).trimmed.seq < seq;
        let known = self.counting.lock().get(&segment.id()).copied();
        if known.is_some_and(|(channel, seq)| counts(channel, seq)) {
            return Ok(false);
        }
        let from = known.map_or(ChannelId(0), |(channel, _)| channel);
        let found = segment.find_channel(from, counts)?;
        let mut counting = self.counting.lock();
        match found {
            Some(found) => _ = counting.insert(segment.id(), found),
            None => _ = counting.remove(&segment.id()),
        }
        Ok(found.is_none())
    }

    fn drop_segment(&self, part: &Part, messages: u64) -> Result<()> {
        let id = part.entry.id;
        self.edit(
            |manifest| {
                manifest.totals.messages = manifest.totals.messages.saturating_sub(messages);
                manifest.segments.retain(|entry| entry.id != id);
            },
            |files| files.segments.retain(|part| part.entry.id != id),
        )?;
        self.discard(Kind::Segment, id);
        self.did(Done::Dropped { file: id, messages }, self.now());
        Ok(())
    }
}
