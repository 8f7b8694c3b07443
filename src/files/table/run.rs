//! Reads a run.

use std::path::Path;

use super::HashKey;
use super::filter::RunFilter;
use super::footer::RunFooter;
use super::names::Names;
use super::section::{Section, SectionPlace};
use crate::env::Dir;
use crate::error::{Error, Result};
use crate::files::sealed::{Kind, Sealed, StoreId};

/// An open run.
#[derive(Debug)]
pub struct Run {
    file: Sealed,
    footer: RunFooter,
    /// The filters of filtered sections, by table.
    filters: Vec<(u8, RunFilter)>,
    key: HashKey,
}

impl Run {
    /// Opens run `id` of a store. `len` is what the manifest says, `key` what the run was built with. Its filters are held in
    /// memory as far as they take no more than `memory` bytes together.
    pub fn open(dir: &dyn Dir, store: StoreId, id: u64, len: u64, key: HashKey, memory: u64) -> Result<Run> {
        Run::parse(Sealed::open(dir, Kind::Run, store, id, len)?, key, memory)
    }

    /// Reads a sealed file as a run.
    pub fn parse(file: Sealed, key: HashKey, mut memory: u64) -> Result<Run> {
        let footer = RunFooter::decode(&file, &key)?;
        let mut filters = Vec::new();
        for place in &footer.sections {
            let filter = Section::new(&file, place, None).open_filter(memory)?;
            memory = memory.saturating_sub(filter.as_ref().map_or(0, |filter| filter.memory() as u64));
            filters.extend(filter.map(|filter| (place.table, filter)));
        }
        Ok(Run { file, footer, filters, key })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The first and the last version that the run covers.
    pub fn versions(&self) -> (u64, u64) {
        self.footer.versions
    }

    /// The section of a table; an empty one if the run has none.
    pub fn section(&self, table: u8) -> Section<'_> {
        let place = self.footer.sections.iter().find(|place| place.table == table);
        let filter = self.filters.iter().find(|(filtered, _)| *filtered == table);
        Section::new(&self.file, place.unwrap_or(&SectionPlace::NONE), filter.map(|(_, filter)| filter))
    }

    /// How many bytes of memory its filters take.
    pub fn filter_memory(&self) -> usize {
        self.filters.iter().map(|(_, filter)| filter.memory()).sum()
    }

    /// The tables that have a section here, ascending.
    pub fn tables(&self) -> impl Iterator<Item = u8> {
        self.footer.sections.iter().map(|place| place.table)
    }

    /// The names of the channels that are new in this run.
    pub fn channel_names(&self) -> Names<'_> {
        Names::new(&self.file, self.footer.channels)
    }

    /// The names of the users that are new in this run.
    pub fn user_names(&self) -> Names<'_> {
        Names::new(&self.file, self.footer.users)
    }

    /// An error that names this run's file.
    pub fn corrupt(&self, what: impl Into<String>) -> Error {
        self.file.corrupt(0, what)
    }

    /// Reads and checks every byte but the images, and hands each fault to `report`.
    pub fn verify(&self, report: &mut dyn FnMut(Error)) {
        let mut bad_pages = false;
        self.file.verify(|fault| {
            bad_pages = true;
            report(fault);
        });
        // Whatever is read through a bad page is the same fault again.
        if bad_pages {
            return;
        }
        let sections = self.tables().map(|table| verify_section(self.section(table)));
        let names = [self.channel_names(), self.user_names()].map(|names| names.verify(&self.key));
        sections.chain(names).filter_map(Result::err).for_each(report);
    }
}

/// Checks order, count and newest version. That nothing is newer than that is checked whenever it is read, and that it is
/// not newer than the run when the run is opened.
fn verify_section(section: Section<'_>) -> Result<()> {
    let (mut entries, mut newest) = (0, 0);
    let mut cursor = section.all();
    while let Some(entry) = cursor.next()? {
        newest = entry.version.max(newest);
        entries += 1;
        if !section.may_hold(entry.key)? {
            return Err(section.corrupt("the filter denies a key that is there"));
        }
    }
    if (entries, newest) != (section.entries(), section.newest()) {
        return Err(section.corrupt(format!(
            "{entries} entries up to version {newest}, not {} up to {}",
            section.entries(),
            section.newest()
        )));
    }
    Ok(())
}
