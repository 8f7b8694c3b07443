//! Looking into one file of a store, for people: what it says of itself, and a table of its parts. Changes nothing.
//!
//! A file is read by its own header, so that one that was saved from somewhere can be looked at too; only a table run needs
//! the manifest beside it, which holds the key of its hashes.

use std::ffi::OsStr;
use std::path::Path;

use crate::env::sync::Arc;
use crate::env::{Access, Dir};
use crate::error::{Error, Result};
use crate::files::disk::Disk;
use crate::files::log::{self, LogFile};
use crate::files::manifest::{self, FileEntry, Manifest};
use crate::files::sealed::{Kind, StoreId};
use crate::files::segment::{BlockCache, Segment};
use crate::files::table::Run;
use crate::options::Options;

/// Where the store's id stands in every file but the manifest.
const STORE_AT: u64 = 16;

/// What a file of a store holds. Made by [`inspect`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Inspection {
    /// What the file says of itself: names and values.
    pub facts: Vec<(String, String)>,
    /// The names of the columns of `rows`.
    pub columns: Vec<String>,
    /// The file's parts: a manifest's files, a log's frames, a segment's blocks, a run's sections.
    pub rows: Vec<Vec<String>>,
}

impl Inspection {
    fn new(columns: &[&str]) -> Inspection {
        let columns = columns.iter().map(|column| (*column).into()).collect();
        Inspection { columns, ..Inspection::default() }
    }

    fn fact(&mut self, name: &str, value: impl ToString) {
        self.facts.push((name.into(), value.to_string()));
    }
}

/// A row of texts.
macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$($value.to_string()),*] };
}

/// Reads the parts of one file of a store, which may be open. Costs one read of a log; of sealed files the index alone.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use chanlog::{Options, Store};
/// Store::open(dir.path())?.close()?;
/// let found = chanlog::inspect(dir.path().join("chanlog.manifest"), &Options::new())?;
/// assert_eq!(found.facts[0], ("kind".into(), "manifest".into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::InvalidArgument`] if the name is none of a store's file; [`Error::Corruption`] where the file is damaged.
pub fn inspect(file: impl AsRef<Path>, options: &Options) -> Result<Inspection> {
    let path = file.as_ref();
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let unknown = || Error::invalid(format!("{} has no name that a store gives", path.display()));
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = options.env.open_dir(dir, false).map_err(|e| Error::io("open", dir, e))?;
    let disk = Disk::new(dir);
    if name == manifest::NAME {
        return Manifest::load(&disk)?.map(|manifest| of_manifest(&manifest)).ok_or_else(unknown);
    }
    let (prefix, number) = name.split_once('-').ok_or_else(unknown)?;
    let id = u64::from_str_radix(number, 16).map_err(|_| unknown())?;
    let (store, len) = identity(&disk, name)?;
    match prefix {
        "log" => of_log(&LogFile::open(&disk, store, id, Access::Read)?),
        "seg" => of_segment(&Segment::open(&disk, store, id, len, Arc::new(BlockCache::new(0)))?),
        "run" => {
            let manifest = Manifest::load(&disk)?;
            let lacking = || Error::invalid("a run needs the store's manifest beside it");
            of_run(&Run::open(&disk, store, id, len, manifest.ok_or_else(lacking)?.key, 0)?)
        }
        _ => Err(unknown()),
    }
}

/// The store that a file says it is of, and its length.
fn identity(disk: &Disk, name: &str) -> Result<(StoreId, u64)> {
    let path = disk.path().join(name);
    let file = disk.open(name, Access::Read).map_err(|e| Error::io("open", &path, e))?;
    let mut store = StoreId::default();
    let read = file.len().and_then(|len| file.read_at(&mut store, STORE_AT).map(|()| len));
    Ok((store, read.map_err(|e| Error::io("read", &path, e))?))
}

fn of_manifest(manifest: &Manifest) -> Inspection {
    let mut found = Inspection::new(&["file", "first version", "last version", "bytes", "level"]);
    found.fact("kind", "manifest");
    found.fact("required features", format_args!("{:#x}", manifest.required));
    found.fact("optional features", format_args!("{:#x}", manifest.optional));
    found.fact("store", hex(&manifest.store));
    found.fact("next file", manifest.next_file);
    found.fact("first log segment", manifest.first_log);
    found.fact("ended sessions", manifest.sessions.len());
    found.fact("losses", manifest.losses.len());
    found.fact("replica", manifest.replica.is_some());
    let mut add = |kind: Kind, entries: &[FileEntry]| {
        for FileEntry { id, versions, len, level } in entries {
            found.rows.push(row![kind.name(*id), versions.0, versions.1, len, level]);
        }
    };
    add(Kind::Segment, &manifest.segments);
    add(Kind::Run, &manifest.runs);
    found
}

fn of_log(file: &LogFile) -> Result<Inspection> {
    let mut found = Inspection::new(&["offset", "frame", "changes", "first version", "bytes", "durable"]);
    let header = &file.header;
    found.fact("kind", "log segment");
    found.fact("store", hex(&file.binding.store));
    found.fact("segment", header.segment);
    found.fact("session", format_args!("{:016x}", header.session));
    found.fact("buffered", header.buffered);
    found.fact("base version", header.base_version);
    found.fact("channels before", header.channels);
    found.fact("users before", header.users);
    found.fact("previous end", header.previous_end);
    found.fact("capacity", header.capacity);
    let bytes = file.read_all()?;
    let mut at = log::HEADER;
    let scan = log::scan(file, &bytes, None, &mut |frame| {
        let kind = format!("{:?}", frame.header.kind).to_lowercase();
        let header = &frame.header;
        let row = row![at, kind, header.count, header.first_version, frame.body.len(), header.durable];
        found.rows.push(row);
        at = frame.end;
        Ok(())
    })?;
    found.fact("end", scan.end);
    found.fact("torn bytes", scan.torn);
    Ok(found)
}

fn of_segment(segment: &Segment) -> Result<Inspection> {
    let columns = ["first channel", "first seq", "offset", "stored", "raw", "records", "versions", "times"];
    let mut found = Inspection::new(&columns);
    let (first, last) = segment.versions();
    found.fact("kind", "message segment");
    found.fact("file", segment.id());
    found.fact("versions", format_args!("{first} to {last}"));
    found.fact("messages", segment.messages());
    for handle in segment.handles() {
        let handle = handle?;
        let (versions, times) = (handle.summary.versions, handle.summary.times);
        found.rows.push(row![
            handle.first.0.0,
            handle.first.1,
            handle.offset,
            handle.stored_len,
            handle.raw_len,
            handle.summary.records,
            format_args!("{} to {}", versions.0, versions.1),
            format_args!("{} to {}", times.0, times.1),
        ]);
    }
    Ok(found)
}

fn of_run(run: &Run) -> Result<Inspection> {
    let mut found = Inspection::new(&["table", "entries", "newest version"]);
    let (first, last) = run.versions();
    found.fact("kind", "table run");
    found.fact("versions", format_args!("{first} to {last}"));
    for (named, names) in [("channels", run.channel_names()), ("users", run.user_names())] {
        found.fact(named, format_args!("{} from {}", names.count(), names.first()));
    }
    for table in run.tables() {
        let section = run.section(table);
        found.rows.push(row![table, section.entries(), section.newest()]);
    }
    Ok(found)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
