//! What became of messages, as readers of a range or of one message need it, and how many no longer count.
//!
//! Rows are looked up only at and below the greatest seq that has one, which the head tells: a channel in which nothing was
//! altered costs a comparison.

use crate::env::fault;
use crate::error::Result;
use crate::kernel::View;
use crate::model::alteration::Alteration;
use crate::model::forgotten::HiddenRanges;
use crate::model::head::Head;
use crate::model::ids::ChannelId;
use crate::model::key::ChannelSeq;

/// So many seqs are looked at together.
const WINDOW: u64 = 64;

/// The alterations of a channel's messages, asked for in order of seqs, up or down.
pub(super) struct Alterations<'v> {
    view: &'v View,
    channel: ChannelId,
    /// The greatest seq that has one.
    last: u64,
    reverse: bool,
    /// The rows of seqs from `from` to before `to`, ascending.
    rows: Vec<(u64, Alteration)>,
    from: u64,
    to: u64,
}

impl<'v> Alterations<'v> {
    /// Those of a channel whose head is `head`.
    pub(super) fn new(view: &'v View, channel: ChannelId, head: &Head, reverse: bool) -> Self {
        Alterations { view, channel, last: head.altered, reverse, rows: Vec::new(), from: 0, to: 0 }
    }

    /// What became of a message; `None` if it is as it was sent.
    #[inline]
    pub(super) fn of(&mut self, seq: u64) -> Result<Option<&Alteration>> {
        if seq > self.last {
            return Ok(None);
        }
        if !(self.from..self.to.saturating_add(fault(60).into())).contains(&seq) {
            self.load(seq)?;
        }
        let found = self.rows.binary_search_by_key(&seq, |(seq, _)| *seq);
        Ok(found.ok().map(|at| &self.rows[at].1))
    }

    /// Loads the rows of some seqs, of which this is the first that is wanted.
    fn load(&mut self, seq: u64) -> Result<()> {
        self.from = if self.reverse { seq.saturating_sub(WINDOW - 1) } else { seq };
        self.to = self.from.saturating_add(WINDOW);
        self.rows.clear();
        let mut rows = self.view.scan::<Alteration>(self.key(self.from), 0)?;
        while let Some((key, row)) = rows.next()?.filter(|(key, _)| key.seq < self.to) {
            self.rows.push((key.seq, row));
        }
        Ok(())
    }

    fn key(&self, seq: u64) -> ChannelSeq {
        ChannelSeq { channel: self.channel, seq }
    }
}

/// What became of one message.
pub(super) fn of_one(view: &View, channel: ChannelId, head: &Head, seq: u64) -> Result<Option<Alteration>> {
    if seq <= head.altered { view.row(ChannelSeq { channel, seq }) } else { Ok(None) }
}

/// Whether a row of a changed message tells nothing any more: what it was edited to was erased with all that its sender sent.
pub(super) fn is_erased_edit(view: &View, row: &Alteration) -> Result<bool> {
    match row.edit_of() {
        Some((sender, sent)) => Ok(sent <= view.erased_upto(sender)?),
        None => Ok(false),
    }
}

/// Whether the time of a message that was edited has come, though nothing was committed about it yet.
pub(super) fn has_expired(view: &View, row: &Alteration) -> bool {
    !row.withheld() && row.expires.is_some_and(|at| at <= view.time())
}

/// How many messages after `seq` counted when they were sent, and no longer do, hidden ones apart. Costs a step for each
/// altered message there.
pub(super) fn uncounted(
    view: &View,
    channel: ChannelId,
    head: &Head,
    seq: u64,
    hidden: &HiddenRanges,
) -> Result<u64> {
    if head.retracted <= seq {
        return Ok(0);
    }
    let mut rows = view.scan::<Alteration>(ChannelSeq { channel, seq: seq + 1 }, 0)?;
    let (mut row, mut count) = (Alteration::default(), 0);
    while let Some(key) = rows.next_into(&mut row)? {
        count += u64::from(row.uncounted() && hidden.before(key.seq).is_none());
    }
    Ok(count)
}
