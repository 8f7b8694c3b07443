//! Reading what is kept with messages.

use super::At;
use crate::error::Result;
use crate::files::table;
use crate::kernel::View;
use crate::model::annotation::Annotation;
use crate::model::ids::ChannelId;
use crate::model::key::MessageSlot;

/// The annotations of a range of a channel's messages, to be read. Made by [`Store::annotations`](crate::Store::annotations).
///
/// They come by message, and those of one message in an order of their own, in which pages go on:
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let store = chanlog::Store::open(dir.path())?;
/// let of_message = |seq| store.annotations("general").from(seq).to(seq).limit(100);
/// let mut page = of_message(7).list()?;
/// while let Some(last) = page.last() {
///     page = of_message(7).after(last.seq, &last.key).list()?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Annotations<'a> {
    at: At<'a>,
    channel: Vec<u8>,
    from: u64,
    to: u64,
    limit: usize,
    after: Option<(u64, Vec<u8>)>,
}

impl<'a> Annotations<'a> {
    pub(crate) fn new(at: At<'a>, channel: &[u8]) -> Self {
        Annotations { at, channel: channel.into(), from: 1, to: u64::MAX, limit: usize::MAX, after: None }
    }

    /// The seq of the first message that is wanted; 1 by default.
    pub fn from(mut self, seq: u64) -> Self {
        self.from = seq;
        self
    }

    /// The seq of the last message that is wanted; the end by default.
    pub fn to(mut self, seq: u64) -> Self {
        self.to = seq;
        self
    }

    /// At most so many annotations.
    pub fn limit(mut self, annotations: usize) -> Self {
        self.limit = annotations;
        self
    }

    /// Begins after this one, the last one of the page before.
    pub fn after(mut self, seq: u64, key: impl AsRef<[u8]>) -> Self {
        self.after = Some((seq, key.as_ref().into()));
        self
    }

    /// The annotations. Costs a step for each, and for each removed one among them, and a look-up for each value above 1,024
    /// bytes.
    pub fn list(self) -> Result<Vec<Annotation>> {
        let view = self.at.view()?;
        let mut found = Vec::new();
        let Some(channel) = view.channel_id(&self.channel)? else { return Ok(found) };
        let Some(first) = self.first(&view, channel)? else { return Ok(found) };
        let mut rows = view.scan::<Annotation>(first, 0)?;
        while found.len() < self.limit
            && let Some((at, row)) = rows.next()?.filter(|(at, _)| at.seq <= self.to)
        {
            found.extend(told(&view, at, row)?);
        }
        Ok(found)
    }

    /// The first place that may be wanted; `None` if it would be after all there can be.
    fn first(&self, view: &View, channel: ChannelId) -> Result<Option<MessageSlot>> {
        let from = self.from.max(view.head_of(channel).trimmed.seq + 1);
        let first = MessageSlot { channel, seq: from, slot: 0 };
        let Some((seq, key)) = &self.after else { return Ok(Some(first)) };
        let (at, _) = view.annotation_at(channel, *seq, key)?;
        let next = match at.slot.checked_add(1) {
            Some(slot) => Some(MessageSlot { slot, ..at }),
            None => seq.checked_add(1).map(|seq| MessageSlot { channel, seq, slot: 0 }),
        };
        Ok(next.map(|next| next.max(first)))
    }
}

/// A row as readers get it; `None` if it was removed.
fn told(view: &View, at: MessageSlot, mut row: Annotation) -> Result<Option<Annotation>> {
    view.load(&mut row.value)?;
    Ok((!row.value.is_empty()).then_some(Annotation { seq: at.seq, ..row }))
}

impl View {
    /// The place of a key, and the row if there is one.
    fn annotation_at(
        &self,
        channel: ChannelId,
        seq: u64,
        key: &[u8],
    ) -> Result<(MessageSlot, Option<Annotation>)> {
        let slot = table::hash(&self.moment.files.key, key);
        Annotation::find(MessageSlot { channel, seq, slot }, key, |at| self.row(at))
    }

    /// As [`Store::annotations`](crate::Store::annotations), as of this view.
    pub fn annotations(&self, channel: impl AsRef<[u8]>) -> Annotations<'_> {
        Annotations::new(At::View(self), channel.as_ref())
    }

    /// As [`Store::annotation`](crate::Store::annotation), as of this view.
    pub fn annotation(
        &self,
        channel: impl AsRef<[u8]>,
        seq: u64,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Annotation>> {
        self.check()?;
        let Some(channel) = self.channel_id(channel.as_ref())? else { return Ok(None) };
        if seq <= self.head_of(channel).trimmed.seq {
            return Ok(None);
        }
        let (at, row) = self.annotation_at(channel, seq, key.as_ref())?;
        row.map_or(Ok(None), |row| told(self, at, row))
    }
}
