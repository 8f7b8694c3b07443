//! Writes a run: its sections, then its names.

use super::HashKey;
use super::footer::RunFooter;
use super::names::{NamesPlace, NamesWriter};
use super::output::Output;
use super::section::RunEntry;
use super::writer::SectionWriter;
use crate::env::Dir;
use crate::error::{Error, Result};
use crate::files::sealed::{Kind, SealedWriter, StoreId};

/// The parts, in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum RunPart {
    /// The section of a table.
    Section(u8),
    Channels,
    Users,
    End,
}

/// A run in the making. Feed sections by their tables, then names; what is empty may be left out.
pub struct RunBuilder<'p> {
    out: Output<'p>,
    key: HashKey,
    /// The part that is written; `None` before the first.
    part: Option<RunPart>,
    section: Option<SectionWriter>,
    footer: RunFooter,
}

impl<'p> RunBuilder<'p> {
    /// Makes the file. `pace` is told of written bytes every now and then; it may wait, and an error from it stops the
    /// build.
    pub fn create(
        dir: &dyn Dir,
        store: StoreId,
        id: u64,
        key: HashKey,
        pace: impl FnMut(u64) -> Result<()> + 'p,
    ) -> Result<Self> {
        let out = Output::new(SealedWriter::create(dir, Kind::Run, store, id)?, pace);
        Ok(RunBuilder { out, key, part: None, section: None, footer: RunFooter::default() })
    }

    /// Begins a part, and ends the section before it.
    fn begin(&mut self, part: RunPart) -> Result<()> {
        if self.part >= Some(part) {
            return Err(Error::invalid("a part of a run is out of order"));
        }
        self.part = Some(part);
        if let Some(section) = self.section.take() {
            self.footer.sections.extend(section.finish(&mut self.out)?);
        }
        Ok(())
    }

    /// Begins the section of a table, whose number must be greater than the last one's. Only in a wide section keys have a
    /// third part.
    pub fn section(&mut self, table: u8, wide: bool) -> Result<()> {
        self.begin(RunPart::Section(table))?;
        self.section = Some(SectionWriter::new(table, wide));
        Ok(())
    }

    /// Gives the section that was begun a filter, by which look-ups of keys that are not there cost nothing.
    pub fn filtered(&mut self) {
        if let Some(section) = &mut self.section {
            section.with_filter();
        }
    }

    /// Appends an entry to the section. Keys strictly ascend.
    pub fn put(&mut self, entry: RunEntry<'_>) -> Result<()> {
        let section = self.section.as_mut();
        section.ok_or_else(|| Error::invalid("an entry of no section"))?.push(&mut self.out, entry)
    }

    /// The names of new channels, in the order of their ids, which begin with `first`.
    pub fn channels<N: AsRef<[u8]>>(&mut self, first: u32, names: impl IntoIterator<Item = N>) -> Result<()> {
        let (count, mut sorted) = sort(first, names)?;
        self.sorted_channels(first, count, &mut || Ok(sorted.next()))
    }

    /// The names of new users, in the order of their ids, which begin with `first`.
    pub fn users<N: AsRef<[u8]>>(&mut self, first: u32, names: impl IntoIterator<Item = N>) -> Result<()> {
        let (count, mut sorted) = sort(first, names)?;
        self.sorted_users(first, count, &mut || Ok(sorted.next()))
    }

    /// Like [`RunBuilder::channels`], from a source that gives them in byte order, and those of one name by id.
    pub(super) fn sorted_channels<N: AsRef<[u8]>>(
        &mut self,
        first: u32,
        count: u32,
        source: &mut dyn FnMut() -> Result<Option<(N, u32)>>,
    ) -> Result<()> {
        self.begin(RunPart::Channels)?;
        self.footer.channels = self.names(first, count, source)?;
        Ok(())
    }

    /// Like [`RunBuilder::users`], from a source that gives them in byte order.
    pub(super) fn sorted_users<N: AsRef<[u8]>>(
        &mut self,
        first: u32,
        count: u32,
        source: &mut dyn FnMut() -> Result<Option<(N, u32)>>,
    ) -> Result<()> {
        self.begin(RunPart::Users)?;
        self.footer.users = self.names(first, count, source)?;
        Ok(())
    }

    fn names<N: AsRef<[u8]>>(
        &mut self,
        first: u32,
        count: u32,
        source: &mut dyn FnMut() -> Result<Option<(N, u32)>>,
    ) -> Result<NamesPlace> {
        let mut names = NamesWriter::new(&self.out, self.key, first, count)?;
        while let Some((name, id)) = source()? {
            names.push(&mut self.out, name.as_ref(), id)?;
        }
        names.finish(&mut self.out)
    }

    /// Ends the run, which covers the versions from the first to the second, and syncs it. Returns its length.
    pub fn finish(mut self, versions: (u64, u64)) -> Result<u64> {
        self.begin(RunPart::End)?;
        self.footer.versions = versions;
        if !self.footer.covers() {
            return Err(Error::invalid("an entry of a run is newer than the run"));
        }
        self.out.finish(&self.footer.encode(&self.key))
    }
}

/// Gives names their ids, and sorts them. Returns their number too.
fn sort<N: AsRef<[u8]>>(
    first: u32,
    names: impl IntoIterator<Item = N>,
) -> Result<(u32, impl Iterator<Item = (N, u32)>)> {
    let mut sorted: Vec<(N, u32)> = names.into_iter().zip(first..=u32::MAX).collect();
    let count = u32::try_from(sorted.len()).map_err(|_| Error::invalid("there are no ids left"))?;
    sorted.sort_unstable_by(|(a, one), (b, two)| (a.as_ref(), one).cmp(&(b.as_ref(), two)));
    Ok((count, sorted.into_iter()))
}
