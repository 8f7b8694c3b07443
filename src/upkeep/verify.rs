//! Reads and checks every byte of a store.

use std::path::Path;

use super::recovery::{self, Opening, Reading, Survey};
use crate::env::sync::Arc;
use crate::env::{Access, Dir};
use crate::error::{Error, Result};
use crate::files::disk::Disk;
use crate::files::log::{self, LogFile};
use crate::files::manifest::{self, FileEntry, Manifest};
use crate::files::sealed::Kind;
use crate::files::segment::BlockCache;
use crate::files::table::{Run, RunEntry};
use crate::model::head::{HEADS, Head};
use crate::model::ids::VALUES;
use crate::model::image::Image;
use crate::model::key::TableKey;
use crate::model::{Table, WithTable, with_table};
use crate::options::Options;

/// What [`verify`] found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Verification {
    /// Files that were read.
    pub files: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes of an unfinished commit at the log's end. A crash leaves them, and they are no fault.
    pub torn_bytes: u64,
    /// What is wrong, each with file and offset.
    pub faults: Vec<Error>,
}

/// Reads and checks every byte of the store in `dir`, changing nothing, and without a lock: the directory may be read-only,
/// and the store may be open.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use chanlog::{Options, Store};
/// Store::open(dir.path())?.close()?;
/// assert!(chanlog::verify(dir.path(), &Options::new())?.faults.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::NotAStore`] if there is none. What is wrong inside the store is no error of this function but a fault in its
/// answer.
pub fn verify(dir: impl AsRef<Path>, options: &Options) -> Result<Verification> {
    let path = dir.as_ref();
    let absent = || Error::NotAStore { dir: path.into(), entry: None };
    let dir = options.env.open_dir(path, false).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => absent(),
        _ => Error::io("open", path, e),
    })?;
    let disk = Disk::new(dir);
    // Strict, so that the first thing that does not fit is told.
    let options = options.clone().read_only(false);
    let mut tries = 10;
    loop {
        let survey = recovery::survey(&disk)?;
        if !survey.manifest {
            return Err(absent());
        }
        let opening =
            Opening { options: &options, disk: &disk, cache: Arc::new(BlockCache::new(0)), writable: false };
        let mut check = Check { opening, found: Verification::default() };
        let manifest = Manifest::load(&disk);
        match manifest.clone() {
            Ok(Some(manifest)) => check.store(manifest, &survey),
            Ok(None) => return Err(absent()),
            Err(fault) => check.found.faults.push(fault),
        }
        // A writer may have replaced files meanwhile: what is missing now was there, and is elsewhere.
        let moved = matches!((Manifest::load(&disk), manifest), (Ok(now), Ok(then)) if now != then);
        tries -= 1;
        if check.found.faults.is_empty() || !moved || tries == 0 {
            return Ok(check.found);
        }
    }
}

struct Check<'a> {
    opening: Opening<'a>,
    found: Verification,
}

impl Check<'_> {
    fn store(&mut self, manifest: Manifest, survey: &Survey) {
        self.count(manifest::NAME);
        for entry in &manifest.runs {
            self.run(&manifest, entry);
        }
        let messages: u64 = manifest.segments.iter().map(|entry| self.segment(&manifest, entry)).sum();
        match manifest.unborn() {
            true => self.found.faults.extend(recovery::check_unborn(self.opening.disk, survey).err()),
            false => self.logs(&manifest, survey),
        }
        // What every file says by itself is right; now whether they fit together.
        if self.found.faults.is_empty() && messages != manifest.totals.messages {
            let path = self.opening.disk.path().join(manifest::NAME);
            let what = format!("{} messages were sealed, {messages} are there", manifest.totals.messages);
            self.found.faults.push(Error::corrupt(&path, 0, what));
        }
        if self.found.faults.is_empty() {
            match Reading::read(&self.opening, manifest, survey, None) {
                Ok(reading) => self.found.torn_bytes = reading.torn(),
                Err(fault) => self.found.faults.push(fault),
            }
        }
    }

    fn count(&mut self, name: &str) {
        let len = self.opening.disk.open(name, Access::Read).and_then(|file| file.len());
        self.found.files += 1;
        self.found.bytes += len.unwrap_or(0);
    }

    fn run(&mut self, manifest: &Manifest, entry: &FileEntry) {
        self.count(&Kind::Run.name(entry.id));
        let faults = &mut self.found.faults;
        let run = recovery::open_run(&self.opening, manifest, entry, 0);
        let before = faults.len();
        match run {
            Ok(run) => {
                run.verify(&mut |fault| faults.push(fault));
                // What is read where bytes are wrong would be the same fault again.
                if faults.len() == before {
                    faults.extend(check_images(&run).err());
                }
            }
            Err(fault) => faults.push(fault),
        }
    }

    /// Checks a segment, and tells how many messages it holds, values apart.
    fn segment(&mut self, manifest: &Manifest, entry: &FileEntry) -> u64 {
        self.count(&Kind::Segment.name(entry.id));
        let faults = &mut self.found.faults;
        let before = faults.len();
        let segment = recovery::open_segment(&self.opening, manifest, entry);
        match &segment {
            Ok(segment) => segment.verify(&mut |fault| faults.push(fault)),
            Err(fault) => faults.push(fault.clone()),
        }
        // A number that no check bears out is none.
        let Some(segment) = segment.ok().filter(|_| faults.len() == before) else { return 0 };
        let values = segment.count(VALUES).unwrap_or_else(|fault| {
            faults.push(fault);
            0
        });
        segment.messages().saturating_sub(values)
    }

    /// Checks the live log segments. Of those that are missing one after another the first is told: a stray file may have
    /// any number.
    fn logs(&mut self, manifest: &Manifest, survey: &Survey) {
        let mut due = manifest.first_log;
        for id in survey.logs.range(manifest.first_log..) {
            if *id > due {
                self.log(manifest, survey, due);
            }
            self.log(manifest, survey, *id);
            due = id.saturating_add(1);
        }
        if due == manifest.first_log {
            self.log(manifest, survey, due);
        }
    }

    fn log(&mut self, manifest: &Manifest, survey: &Survey, id: u64) {
        self.count(&log::name(id));
        let open = |id| LogFile::open(self.opening.disk, manifest.store, id, Access::Read);
        // Where the next one is missing or bad, this one's end is not known.
        let next =
            id.checked_add(1).filter(|next| survey.logs.contains(next)).and_then(|next| open(next).ok());
        let end = next.map(|next| next.header.previous_end);
        let checked = open(id).and_then(|log| log::check(&log, end));
        self.found.faults.extend(checked.err());
    }
}

/// Checks that every image of a run decodes.
fn check_images(run: &Run) -> Result<()> {
    for table in run.tables() {
        let mut cursor = run.section(table).all();
        while let Some(entry) = cursor.next()? {
            let good = match table {
                HEADS => Head::decode(entry.version, entry.image).is_some(),
                // A table of a newer release that may be ignored.
                _ => with_table(table, Decode(entry)).unwrap_or(true),
            };
            if !good {
                return Err(cursor.corrupt(format!("a row of table {table} does not decode")));
            }
        }
    }
    Ok(())
}

struct Decode<'a>(RunEntry<'a>);

impl WithTable for Decode<'_> {
    type Out = bool;

    fn table<T: Table>(self) -> bool {
        let row = <T as Image>::decode(self.0.version, self.0.image);
        T::Key::from_raw(self.0.key).raw() == self.0.key && row.is_some_and(|row| row.tag() == self.0.tag)
    }
}
