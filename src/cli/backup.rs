//! `backup`: makes a directory hold a store too. `restore`: makes a store of a backup.

use std::path::{Path, PathBuf};

use chanlog::{Backup, ErasedAgain, Erasure, Options};
use indicatif::{HumanBytes, HumanCount};

use crate::erasures;
use crate::failure::{Failure, Result};
use crate::open;
use crate::output::Output;
use crate::progress;

/// Make a directory hold a store too, which opens as one; a later backup into the same directory adds what is new
///
/// The store must not be open elsewhere: a running server makes its backups itself, by the library's call.
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The backup's directory, which is made if need be
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Check a backup and make a store of it in another directory; the backup stays as it is
#[derive(clap::Args)]
pub struct RestoreArgs {
    /// The backup's directory
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The directory of the store to be, which must be absent or empty
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// What was erased in the store since the backup, as `erasures` wrote it: it is erased here too, before anybody reads it
    #[arg(long, value_name = "FILE")]
    erasures: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Makes the backup that `args` ask for.
pub fn run(args: &Args) -> Result {
    open::check(&args.store)?;
    let spinner = progress::spinner("linking files");
    let store = Options::new().background(false).open(&args.store)?;
    let backup = store.backup(&args.to)?;
    store.close()?;
    spinner.finish_and_clear();
    tell(&backup, None, args.json)
}

/// Makes the store that `args` ask for.
pub fn restore(args: &RestoreArgs) -> Result {
    open::check(&args.from)?;
    absent_or_empty(&args.to)?;
    let erasures = args.erasures.as_deref().map(erasures::read).transpose()?;
    let spinner = progress::spinner("reading every byte");
    let found = chanlog::verify(&args.from, &Options::new())?;
    if let Some(fault) = found.faults.first() {
        return Err(Failure::told(format!("the backup is damaged: {fault}")));
    }
    let backup = Options::new().read_only(true).open(&args.from)?.backup(&args.to)?;
    let erased = erasures.map(|erasures| erase(&args.to, &erasures)).transpose()?;
    spinner.finish_and_clear();
    tell(&backup, erased, args.json)
}

/// Erases what was erased since. Nothing is left of a store in which that could not be done.
fn erase(dir: &Path, erasures: &[Erasure]) -> Result<ErasedAgain> {
    let erased = Options::new().background(false).open(dir).and_then(|store| {
        let erased = store.erase_again(erasures)?;
        store.close()?;
        Ok(erased)
    });
    erased.map_err(|error| match std::fs::remove_dir_all(dir) {
        Ok(()) => error.into(),
        Err(e) => Failure::told(format!(
            "{error}; {} holds what was erased, and can't be removed: {e}",
            dir.display()
        )),
    })
}

/// What is there may be worth more than what would take its place.
fn absent_or_empty(dir: &Path) -> Result {
    match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Failure::told(format!("{}: {e}", dir.display()))),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Failure::told(format!("{} is not empty", dir.display()))),
        },
    }
}

/// A backup as JSON.
#[derive(serde::Serialize)]
struct Files {
    version: u64,
    linked: u64,
    copied: u64,
    kept: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    erased: Option<u64>,
}

fn tell(backup: &Backup, erased: Option<ErasedAgain>, json: bool) -> Result {
    let mut out = Output::new();
    let Backup { version, linked, copied, kept, bytes, .. } = *backup;
    match json {
        true => {
            out.json(&Files { version, linked, copied, kept, bytes, erased: erased.map(|again| again.done) })?
        }
        false => {
            let (files, bytes) = (HumanCount(linked + copied + kept), HumanBytes(bytes));
            out.line(format!(
                "{files} files, {bytes}, up to version {version}: {linked} linked, {copied} copied, {kept} kept"
            ))?;
            if let Some(again) = erased {
                out.line(format!("{} erased again, {} not needed", again.done, again.needless))?;
            }
        }
    }
    Ok(out.flush()?)
}
