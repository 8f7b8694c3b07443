//! Taking bytes out of message segments that nobody reads any more: of messages that were erased, by themselves or with all that
//! their sender sent, trimmed, or deleted with their channel, and of values that no row names (DESIGN 9.5).
//!
//! A record keeps all but its payload, so that chains, seqs and ordinals stay as they are. Any merge of segments leaves such
//! payloads out, values apart; [`Upkeep::take_out`] rewrites the segments that hold one.
//!
//! Invariant: what made a payload withheld is durable before a file without it takes the place of one with it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashSet};
use std::ops::{ControlFlow, RangeInclusive};

use hashbrown::HashMap;

use super::files::{Pace, Upkeep};
use super::step::Done;
use crate::env::sync::Arc;
use crate::error::Result;
use crate::files::manifest::FileEntry;
use crate::files::record::Record;
use crate::files::sealed::Kind;
use crate::files::segment::{self, Ask, EVER, Segment};
use crate::files::table::Run;
use crate::kernel::{FileSet, Kernel, Part};
use crate::model::alteration::Alteration;
use crate::model::head::HEADS;
use crate::model::ids::{ChannelId, UserId, VALUES};
use crate::model::key::ChannelSeq;
use crate::model::{Table, WithTable, with_table};

/// Tells which payloads nobody gets any more. Channels are asked about one after another.
pub struct Withheld<'k> {
    kernel: &'k Arc<Kernel>,
    /// The versions of the values that rows name; `None` if all values stay.
    values: Option<HashSet<u64>>,
    /// Up to which version what users sent is erased.
    users: HashMap<UserId, u64>,
    channel: RefCell<Option<InChannel>>,
    /// Whether anything was.
    any: Cell<bool>,
}

/// What is withheld in a channel.
struct InChannel {
    channel: ChannelId,
    /// All up to this seq.
    upto: u64,
    erased: BTreeSet<u64>,
}

impl<'k> Withheld<'k> {
    /// As of when each channel is asked about.
    pub fn new(kernel: &'k Arc<Kernel>) -> Withheld<'k> {
        let users = kernel.fates.erased(u64::MAX);
        Withheld { kernel, values: None, users, channel: RefCell::new(None), any: Cell::new(false) }
    }

    /// Whether anything was withheld of what was asked about.
    pub fn any(&self) -> bool {
        self.any.get()
    }

    /// Whether some of a channel's seqs in a range are.
    pub fn holds(&self, channel: ChannelId, seqs: RangeInclusive<u64>) -> Result<bool> {
        let found = if channel == VALUES { self.holds_value(&seqs) } else { self.holds_seq(channel, seqs)? };
        self.any.set(self.any.get() || found);
        Ok(found)
    }

    /// Whether what a message's sender sent is erased, up to that message.
    pub fn is_erased(&self, record: &Record<'_>) -> bool {
        let upto = self.users.get(&record.sender).filter(|_| record.channel != VALUES);
        let found = upto.is_some_and(|upto| record.version <= *upto);
        self.any.set(self.any.get() || found);
        found
    }

    /// Nothing that was sent after this version is erased because of its sender.
    pub fn erased_upto(&self) -> u64 {
        self.users.values().copied().max().unwrap_or(0)
    }

    fn holds_value(&self, versions: &RangeInclusive<u64>) -> bool {
        let one = versions.start() == versions.end();
        self.values.as_ref().is_some_and(|named| !one || !named.contains(versions.start()))
    }

    fn holds_seq(&self, channel: ChannelId, seqs: RangeInclusive<u64>) -> Result<bool> {
        let mut known = self.channel.borrow_mut();
        if known.as_ref().is_none_or(|known| known.channel != channel) {
            *known = Some(self.load(channel)?);
        }
        let hit =
            |known: &InChannel| *seqs.start() <= known.upto || known.erased.range(seqs).next().is_some();
        Ok(known.as_ref().is_some_and(hit))
    }

    fn load(&self, channel: ChannelId) -> Result<InChannel> {
        let head = self.kernel.newest_head(channel);
        let (upto, mut erased) = (head.trimmed.seq, BTreeSet::new());
        if head.erased > upto {
            let view = self.kernel.view()?;
            let mut rows = view.scan::<Alteration>(ChannelSeq { channel, seq: upto + 1 }, 0)?;
            while let Some((key, row)) = rows.next()? {
                if row.erased {
                    erased.insert(key.seq);
                }
            }
        }
        Ok(InChannel { channel, upto, erased })
    }
}

impl Upkeep {
    /// Rewrites each message segment that holds a payload which nobody gets any more, or of a set of them those that are there;
    /// values are then left alone. `sync` makes durable what was published.
    pub fn take_out(
        &self,
        only: Option<&BTreeSet<u64>>,
        sync: impl Fn() -> Result<()>,
        pace: &mut Pace<'_>,
    ) -> Result<()> {
        let _alone = self.merging_segments.lock();
        self.check()?;
        let moment = self.kernel.moment();
        let files = moment.files.clone();
        let sealed = files.frozen.first().unwrap_or(&moment.active).start.version;
        drop(moment);
        let values = if only.is_some() { None } else { named_values(&files)? };
        let mut withheld = Withheld { values, ..Withheld::new(&self.kernel) };
        // What was taken out before does not come back, if it was sealed.
        let (newest, mut erased) =
            (self.kernel.fates.erased(sealed).values().copied().max(), self.erased.lock());
        withheld.users.retain(|_, upto| *upto > *erased);
        for part in &files.segments {
            // One that is damaged can't be written anew.
            let Ok(segment) = &part.segment else { continue };
            let wanted = match only {
                Some(ids) => ids.contains(&segment.id()),
                None => holds_any(segment, &withheld)?,
            };
            if wanted {
                self.rewrite(part, segment, &withheld, &sync, pace)?;
            }
        }
        if only.is_none() {
            *erased = newest.unwrap_or(0).max(*erased);
        }
        Ok(())
    }

    fn rewrite(
        &self,
        part: &Part,
        segment: &Arc<Segment>,
        withheld: &Withheld<'_>,
        sync: &dyn Fn() -> Result<()>,
        pace: &mut Pace<'_>,
    ) -> Result<()> {
        let since = self.now();
        let is_last = |channel, seq| self.kernel.newest_head(channel).last.seq == seq;
        let is_withheld = |channel, seqs| withheld.holds(channel, seqs);
        let is_erased = |record: &Record<'_>| withheld.is_erased(record);
        let ask = Ask {
            is_last: &is_last,
            is_withheld: &is_withheld,
            is_erased: &is_erased,
            erased_upto: withheld.erased_upto(),
        };
        let (store, inputs) = (self.kernel.store, std::slice::from_ref(segment));
        let (id, len) = self.write(Kind::Segment, |id| {
            segment::merge(&*self.disk, store, id, inputs, ask, &mut |bytes| pace(bytes))
        })?;
        let (old, entry) = (part.entry.id, FileEntry { id, len, ..part.entry });
        let install = || {
            sync()?;
            let part = self.open_part(entry)?;
            self.edit(
                |manifest| {
                    manifest.totals.merged += len;
                    manifest.segments.iter_mut().filter(|other| other.id == old).for_each(|it| *it = entry);
                },
                |files| {
                    let replaced = files.segments.iter_mut().filter(|other| other.entry.id == old);
                    replaced.for_each(|it| *it = part.clone());
                },
            )
        };
        install().inspect_err(|error| self.discard_refused(error, Kind::Segment, Some(entry)))?;
        self.discard(Kind::Segment, old);
        self.did(Done::Rewritten { file: old }, since);
        Ok(())
    }
}

/// Whether a segment holds a payload that is withheld.
fn holds_any(segment: &Segment, withheld: &Withheld<'_>) -> Result<bool> {
    let mut found = false;
    let erased = segment.versions().0 <= withheld.erased_upto();
    segment.each_channel(&mut |entry| {
        let (channel, seqs) = (entry.channel, entry.extent.first_seq..=entry.extent.last_seq);
        if !withheld.holds(channel, seqs.clone())? && !erased {
            return Ok(ControlFlow::Continue(()));
        }
        segment.read(&entry, &seqs, &EVER, false, &mut |_, record| {
            let seq = record.mark.seq;
            found = !record.payload.is_empty()
                && (withheld.is_erased(record) || withheld.holds(channel, seq..=seq)?);
            Ok(if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
    })?;
    Ok(found)
}

/// The versions of the values that rows in runs name. A row and its value are sealed together, so that no value in a segment
/// is named by younger rows alone. `None` if there are no values, or tables that this release does not know.
fn named_values(files: &FileSet) -> Result<Option<HashSet<u64>>> {
    let segments = files.segments.iter().filter_map(|part| part.segment.as_ref().ok());
    let mut with_values = segments.map(|segment| Ok(segment.find(VALUES)?.is_some()));
    if !with_values.any(|found: Result<bool>| found.unwrap_or(true)) {
        return Ok(None);
    }
    let mut named = HashSet::new();
    for run in &files.runs {
        for table in run.tables().filter(|table| *table != HEADS) {
            if !add_named(run, table, &mut named)? {
                return Ok(None);
            }
        }
    }
    Ok(Some(named))
}

/// Adds those of a table in a run. False if the table is not known.
fn add_named(run: &Run, table: u8, named: &mut HashSet<u64>) -> Result<bool> {
    let mut cursor = run.section(table).all();
    while let Some(entry) = cursor.next()? {
        match with_table(table, NamedIn { image: entry.image, named }) {
            Some(Some(())) => {}
            Some(None) => return Err(cursor.corrupt(format!("a row of table {table} does not decode"))),
            None => return Ok(false),
        }
    }
    Ok(true)
}

/// Adds the values that an image names.
struct NamedIn<'i, 'n> {
    image: &'i [u8],
    named: &'n mut HashSet<u64>,
}

impl WithTable for NamedIn<'_, '_> {
    type Out = Option<()>;

    fn table<T: Table>(self) -> Option<()> {
        T::values(self.image, &mut |version| _ = self.named.insert(version))
    }
}
