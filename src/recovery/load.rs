//! Opening what is sealed, and the log segments that are not.

use std::path::Path;
use std::sync::Arc;

use crate::env::{Access, Env};
use crate::error::{Error, Result};
use crate::heads::Heads;
use crate::log::{self, LogFile};
use crate::manifest::{Entry, Manifest};
use crate::options::BUFFERED_WINDOW;
use crate::segment::{BlockCache, Segment};
use crate::state::{Base, Named, Part};
use crate::table::Run;

use super::survey::Survey;

/// Opens the runs and the message segments that the manifest names.
pub fn open_base(env: &dyn Env, dir: &Path, manifest: &Manifest, cache: &Arc<BlockCache>) -> Result<Base> {
    let open_run = |entry: &Entry| Run::open(env, dir, manifest.store, entry.id, entry.len, manifest.key);
    let runs = manifest.runs.iter().map(|entry| open_run(entry).map(Arc::new)).collect::<Result<_>>()?;
    let mut segments = Vec::with_capacity(manifest.segments.len());
    for entry in &manifest.segments {
        let segment = Segment::open(env, dir, manifest.store, entry.id, entry.len, cache.clone());
        match &segment {
            Ok(_) => {}
            // The rest of the store stays readable.
            Err(error @ Error::Corruption { .. }) => {
                tracing::error!(%error, "a message segment can't be read")
            }
            Err(error) => return Err(error.clone()),
        }
        segments.push(Part { entry: *entry, segment: segment.map(Arc::new) });
    }
    let losses = manifest.losses.as_slice().into();
    Ok(Base { runs, segments, frozen: Vec::new(), losses, key: manifest.key })
}

/// Opens the live log segments, oldest first, and checks that none is missing. There is at least one.
pub fn open_logs(
    env: &dyn Env,
    dir: &Path,
    manifest: &Manifest,
    survey: &Survey,
) -> Result<Vec<Arc<LogFile>>> {
    let live: Vec<u64> = survey.logs.range(manifest.first_log..).copied().collect();
    let missing = (manifest.first_log..).zip(&live).find(|(expected, id)| expected != *id);
    if live.is_empty() || missing.is_some() {
        let id = missing.map_or(manifest.first_log, |(expected, _)| expected);
        return Err(Error::corrupt(&log::path(dir, id), 0, "the log segment is missing"));
    }
    let access = |id: &u64| if live.last() == Some(id) { Access::Write } else { Access::Read };
    live.iter().map(|id| LogFile::open(env, dir, manifest.store, *id, access(id)).map(Arc::new)).collect()
}

/// The heads of all channels as of the last run, and the counts of versions, channels and users by then.
pub fn load_heads(base: &Base, manifest: &Manifest) -> Result<(Heads, (u64, u32, u32))> {
    let mut heads = Heads::default();
    let mut counts = (0, 0, 0);
    for run in &base.runs {
        let (channels, users) = (run.names(Named::Channel), run.names(Named::User));
        if (channels.first(), users.first()) != (counts.1, counts.2) {
            return Err(run.corrupt("its names don't follow those of the run before"));
        }
        counts.1 += channels.count();
        counts.2 += users.count();
        heads.grow(counts.1 as usize);
        run.heads(&mut |channel, head| {
            let versions = heads.get(channel).version..=run.versions().1;
            // Each message took a version, and each loss made at most one gap.
            let most = head.version + manifest.losses.len() as u64 * BUFFERED_WINDOW;
            if channel.0 >= counts.1 || !versions.contains(&head.version) || head.last.seq > most {
                return Err(run.corrupt(format!("the head of channel {} can't be", channel.0)));
            }
            heads.set(channel, head);
            Ok(())
        })?;
    }
    counts.0 = manifest.runs.last().map_or(0, |entry| entry.versions.1);
    Ok((heads, counts))
}
