//! Opening what is sealed, and the log segments that are not.

use super::survey::Survey;
use super::{Damage, Opening};
use crate::env::Access;
use crate::env::sync::Arc;
use crate::error::{Error, Result};
use crate::files::log::{self, LogFile};
use crate::files::manifest::{FileEntry, Manifest};
use crate::files::segment::Segment;
use crate::files::table::{Run, RunEntry};
use crate::kernel::fates::Fates;
use crate::kernel::fileset::names;
use crate::kernel::heads::Heads;
use crate::kernel::{Counts, FileSet, Part};
use crate::model::channel::MAX_BASE;
use crate::model::fate::UserFate;
use crate::model::head::{BUFFERED_WINDOW, HEADS, Head, PackedHead};
use crate::model::ids::{ChannelId, Named, UserId};
use crate::model::image::Image;
use crate::model::position::Position;

/// Opens the runs and the message segments that the manifest names.
pub fn open_files(opening: &Opening<'_>, manifest: &Manifest, faults: &mut Damage) -> Result<FileSet> {
    let mut runs = Vec::with_capacity(manifest.runs.len());
    let mut left = opening.options.filters();
    for entry in &manifest.runs {
        let run = faults.forgive(open_run(opening, manifest, entry, left))?.map(Arc::new);
        if run.is_none() {
            faults.runs.push(*entry);
        }
        left = left.saturating_sub(run.as_ref().map_or(0, |run| run.filter_memory() as u64));
        runs.extend(run);
    }
    let mut segments = Vec::with_capacity(manifest.segments.len());
    for entry in &manifest.segments {
        segments.push(open_part(opening, manifest, entry, faults)?);
    }
    let losses = manifest.losses.as_slice().into();
    Ok(FileSet { runs, segments, frozen: Vec::new(), losses, key: manifest.key })
}

/// Opens a run, and checks that it is what the manifest says. Its filters may take so many bytes of memory.
pub fn open_run(opening: &Opening<'_>, manifest: &Manifest, entry: &FileEntry, memory: u64) -> Result<Run> {
    let run = Run::open(opening.disk, manifest.store, entry.id, entry.len, manifest.key, memory)?;
    match run.versions() == entry.versions {
        true => Ok(run),
        false => Err(run.corrupt("it covers other versions than the manifest says")),
    }
}

/// Opens a message segment, and checks that it is what the manifest says: a message's version tells the file.
pub fn open_segment(opening: &Opening<'_>, manifest: &Manifest, entry: &FileEntry) -> Result<Segment> {
    let cache = opening.cache.clone();
    let segment = Segment::open(opening.disk, manifest.store, entry.id, entry.len, cache)?;
    match segment.versions() == entry.versions {
        true => Ok(segment),
        false => Err(segment.corrupt("it covers other versions than the manifest says")),
    }
}

fn open_part(
    opening: &Opening<'_>,
    manifest: &Manifest,
    entry: &FileEntry,
    faults: &mut Damage,
) -> Result<Part> {
    let segment = open_segment(opening, manifest, entry);
    match &segment {
        Ok(_) => {}
        // The rest of the store stays readable, whoever opens it.
        Err(error @ Error::Corruption { .. }) => faults.note(error),
        Err(error) => return Err(error.clone()),
    }
    Ok(Part { entry: *entry, segment: segment.map(Arc::new) })
}

/// Opens the live log segments, oldest first, and checks that none is missing.
pub fn open_logs(
    opening: &Opening<'_>,
    manifest: &Manifest,
    survey: &Survey,
    faults: &mut Damage,
) -> Result<Vec<Arc<LogFile>>> {
    if manifest.unborn() {
        return Ok(Vec::new());
    }
    let last = survey.logs.last().copied().unwrap_or(0).max(manifest.first_log);
    let mut logs = Vec::new();
    for id in manifest.first_log..=last {
        let access = if id == last && opening.writable { Access::Write } else { Access::Read };
        let log = match survey.logs.contains(&id) {
            true => LogFile::open(opening.disk, manifest.store, id, access),
            false => {
                let path = crate::env::Dir::path(opening.disk).join(log::name(id));
                Err(Error::corrupt(&path, 0, "the log segment is missing"))
            }
        };
        match faults.forgive(log)? {
            Some(log) => {
                faults.open_end = false;
                logs.push(Arc::new(log));
            }
            None if faults.salvage => faults.open_end = true,
            // What comes later can't be understood without it.
            None => break,
        }
    }
    Ok(logs)
}

/// The heads of all channels as of the last run, and how far the store had come by then.
pub fn load_heads(files: &FileSet, manifest: &Manifest, faults: &mut Damage) -> Result<(Heads, Counts)> {
    let mut heads = Heads::default();
    let mut counts = Counts::default();
    let newest = manifest.runs.last().map_or(0, |entry| entry.versions.1);
    for run in &files.runs {
        let (channels, users) = (names(run, Named::Channel), names(run, Named::User));
        if (channels.first(), users.first()) != (counts.channels, counts.users) {
            faults.forgive(Err::<(), _>(run.corrupt("its names don't follow those of the run before")))?;
            // A name comes with a change. So no false id, which is let pass for the rest of a store, costs much memory.
            if u64::from(channels.first()) > newest {
                continue;
            }
        }
        counts.channels = channels.first() + channels.count();
        counts.users = users.first() + users.count();
        heads.grow(counts.channels as usize);
        load_run_heads(run, &mut heads, &counts, manifest, faults)?;
        if manifest.replica.is_some() {
            counts.time = faults.forgive(latest_time(run))?.unwrap_or_default().max(counts.time);
        }
    }
    counts.version = newest;
    Ok((heads, counts))
}

/// What became of users, as of the last run.
pub fn load_fates(files: &FileSet, counts: &Counts, faults: &mut Damage) -> Result<Fates> {
    let fates = Fates::default();
    for run in &files.runs {
        faults.forgive(load_run_fates(run, &fates, counts))?;
    }
    Ok(fates)
}

fn load_run_fates(run: &Run, fates: &Fates, counts: &Counts) -> Result<()> {
    let mut cursor = run.section(UserFate::TABLE).all();
    while let Some(entry) = cursor.next()? {
        let user = UserId(entry.key.a);
        let fault = || run.corrupt(format!("what became of user {} can't be", user.0));
        let fate = UserFate::decode(entry.version, entry.image).ok_or_else(fault)?;
        if user.0 >= counts.users || !fate.fits() || fate.version > run.versions().1 {
            return Err(fault());
        }
        fates.put(user, &fate);
    }
    Ok(())
}

/// The latest time that positions in a run tell of a replica, or 0.
pub fn latest_time(run: &Run) -> Result<i64> {
    let (mut latest, mut rows) = (0, run.section(Position::TABLE).all());
    while let Some(entry) = rows.next()? {
        let position = Position::decode(entry.version, entry.image);
        let position = position.ok_or_else(|| run.corrupt("a position does not decode"))?;
        latest = latest.max(position.time.unwrap_or_default());
    }
    Ok(latest)
}

fn load_run_heads(
    run: &Run,
    heads: &mut Heads,
    counts: &Counts,
    manifest: &Manifest,
    faults: &mut Damage,
) -> Result<()> {
    let mut cursor = run.section(HEADS).all();
    loop {
        let loaded = match cursor.next() {
            Ok(None) => return Ok(()),
            Ok(Some(entry)) => load_head(run, &entry, heads, counts, manifest),
            Err(fault) => {
                cursor.pass();
                Err(fault)
            }
        };
        if faults.forgive(loaded)?.is_none() && !faults.salvage {
            return Ok(());
        }
    }
}

fn load_head(
    run: &Run,
    entry: &RunEntry<'_>,
    heads: &mut Heads,
    counts: &Counts,
    manifest: &Manifest,
) -> Result<()> {
    let channel = ChannelId(entry.key.a);
    let fault = || run.corrupt(format!("the head of channel {} can't be", channel.0));
    let head = Head::decode(entry.version, entry.image).ok_or_else(fault)?;
    // Each message took a version, and each loss made at most one gap; what is before the base is trimmed. The sum is far
    // below 2^64, as the versions of a run are the manifest's.
    let base = head.trimmed.seq.min(MAX_BASE);
    let most = base + head.changed + manifest.losses.len() as u64 * BUFFERED_WINDOW;
    let grows = heads.get(channel).changed <= head.changed && head.changed <= run.versions().1;
    if channel.0 >= counts.channels || !grows || head.last.seq > most {
        return Err(fault());
    }
    heads.set(channel, &PackedHead::from(&head));
    Ok(())
}
