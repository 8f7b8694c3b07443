//! Saves what is whole of a damaged store: an export that passes damage by, into an import.
//!
//! The damaged store is only read. Its sealed files are read block by block, its log frame by frame, and what can't be read is
//! noted and passed by. Invariant: what the new store holds was in the damaged one, names that stand for lost ones apart; what is
//! missing is told, as far as what is left can tell.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;

use super::export::Export;
use super::import::{Import, Imported};
use super::mend::{Mend, named};
use super::pardon::Pardon;
use super::rows::key_fact;
use super::{Fact, MissingMessages, MissingValue, RowFact};
use crate::error::{Error, Result};
use crate::kernel::scan::{LostNotes, LostRows};
use crate::model::ids::{ChannelId, Named};
use crate::model::key::Key;
use crate::options::Options;
use crate::upkeep::recovery::{Damage, Salvage, open_damaged};

/// What a repair saved, and what is missing. Made by [`repair`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Repair {
    /// What the new store holds.
    pub saved: Imported,
    /// What was found to be damaged, with file and offset.
    pub faults: Vec<Error>,
    /// Messages that are missing, by channel and seq.
    pub messages: Vec<MissingMessages>,
    /// Rows that are missing, or older than they were.
    pub rows: Vec<MissingRows>,
    /// The first and the last version of commits in the log that are lost; the last one if what is left tells.
    pub commits: Vec<(u64, Option<u64>)>,
    /// Long values that are missing, by the rows that name them.
    pub values: Vec<MissingValue>,
    /// Names that are lost, and those that stand for them.
    pub names: Vec<StandIn>,
}

/// Rows that a damaged store should hold and does not, or of which only an earlier state is left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct MissingRows {
    /// The name of their table; `None` if they may be of any.
    pub table: Option<String>,
    /// The greatest key before them, and the least after them. Of a single row, its key.
    pub between: ([u64; 3], [u64; 3]),
    /// What is wrong, and where.
    pub fault: String,
}

/// A name that stands for one that is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct StandIn {
    /// Whether it is a channel's, or a user's.
    pub channel: bool,
    /// The name that stands for it.
    pub name: Bytes,
}

impl Repair {
    /// Whether nothing is missing, and nothing was found to be damaged.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let Repair { saved: _, faults, messages, rows, commits, values, names } = self;
        let lists = [faults.len(), messages.len(), rows.len(), commits.len(), values.len(), names.len()];
        lists.iter().sum::<usize>() == 0
    }
}

/// Makes a store in `to`, which must be absent or empty, of all that is whole in the damaged one in `from`, which stays as it is.
///
/// What is whole: each block of a sealed file, each frame of the log. Where newer rows are lost older ones may come up, and where
/// commits are lost the later ones are applied as if those had never been. Messages are sound in any case: a record says all.
/// A message that may have been erased, as what tells it is lost, is taken for erased. If rows or commits are lost, channels go
/// on behind a gap, as after a loss of buffered messages, so that no seq is given twice.
///
/// The manifest must be whole, as it alone has the secret key of the hashes in rows. Costs two reads and a write of all, and the
/// memory of an import.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let (path, new) = (dir.path().join("store"), dir.path().join("new"));
/// use chanlog::{Batch, Draft, Options, Store};
/// let store = Store::open(&path)?;
/// store.commit(Batch::new().append("general", Draft::new("alice", 0, "hi")))?;
/// store.close()?;
/// let repair = chanlog::repair(&path, &new, &Options::new())?;
/// assert!(repair.is_whole() && repair.saved.messages == 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of [`Import::new`], [`Error::NotAStore`] if there is no store, [`Error::Locked`] if it is open for writing, [`Error::Corruption`] if its manifest is damaged, and those
/// of reading and writing files. Nothing is left in `to` then.
pub fn repair(from: impl AsRef<Path>, to: impl AsRef<Path>, options: &Options) -> Result<Repair> {
    let Salvage { kernel, damage } = open_damaged(options, from.as_ref())?;
    let mut import = Import::new(to, options.clone())?;
    import.open_ends = true;
    let view = kernel.view()?;
    let (mut mend, lost) = (Mend::new(&view), LostNotes::default());
    mend.look_at_rows(&lost)?;
    let rows_lost = !damage.runs.is_empty() || !lost.lock().is_empty() || !damage.commits.is_empty();
    if !damage.found.is_empty() || rows_lost {
        mend.heads_by_rows()?;
    }
    let mut pardon = Pardon { lenient: true, faults: damage.found.clone() };
    mend.heads_by_records(&mut pardon)?;
    kernel.replayed(mend.ends());
    let missing = std::mem::take(&mut mend.missing);
    let view = kernel.view()?;
    let lost = LostNotes::default();
    lost.lock().extend(lost_runs(&damage));
    let mut export = Export::new(&view, pardon, Some(lost.clone()));
    while let Some(mut fact) = export.next_fact()? {
        if let Fact::Store(store) = &mut fact
            && rows_lost
        {
            store.losses.push((store.version, store.channels));
        }
        let may_be_left_out = matches!(fact, Fact::Row(_) | Fact::Message(_) | Fact::Value(_));
        match import.put(fact) {
            Err(refused @ Error::InvalidArgument { .. }) if may_be_left_out => {
                export.pardon.faults.push(refused)
            }
            put => put?,
        }
    }
    let saved = import.finish()?;
    let messages = named(&missing, |ChannelId(channel)| export.name(Named::Channel, channel))?;
    let rows = lost.lock().iter().map(missing_rows).collect();
    let values = export.missing_values();
    let stand_in = |((channel, _), name)| StandIn { channel, name };
    let names = std::mem::take(&mut export.unnamed).into_iter().map(stand_in).collect();
    Ok(Repair {
        saved,
        messages,
        rows,
        commits: damage.commits,
        values,
        names,
        faults: once(std::mem::take(&mut export.pardon.faults)),
    })
}

/// The rows of runs that can't be opened: any.
fn lost_runs(damage: &Damage) -> impl Iterator<Item = LostRows> {
    let faults = damage.found.iter().filter(|fault| {
        let Error::Corruption { file, .. } = fault else { return false };
        let name = |id| crate::files::sealed::Kind::Run.name(id);
        damage.runs.iter().any(|run| file.file_name().is_some_and(|file| *file == *name(run.id)))
    });
    faults.map(|fault| LostRows { table: None, between: (Key::default(), Key::MAX), fault: fault.clone() })
}

fn missing_rows(lost: &LostRows) -> MissingRows {
    let name = |table| RowFact { table, ..RowFact::default() }.table_name().map(str::to_owned);
    let table = lost.table.map(|table| name(table).unwrap_or_else(|| table.to_string()));
    let between = (key_fact(lost.between.0), key_fact(lost.between.1));
    MissingRows { table, between, fault: lost.fault.to_string() }
}

/// Each fault once: a file is read several times.
fn once(faults: Vec<Error>) -> Vec<Error> {
    let mut told = BTreeSet::new();
    faults.into_iter().filter(|fault| told.insert(fault.to_string())).collect()
}
