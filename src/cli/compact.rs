//! `compact`: seals and merges all of a store.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use chanlog::Options;
use indicatif::HumanBytes;

use crate::failure::Result;
use crate::open;
use crate::output::Output;
use crate::progress;

/// Seal and merge all of a store, which must not be open elsewhere
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Trim channels first by their retention policies, as of now
    #[arg(long)]
    retain: bool,
    /// Make the bytes of erased messages go, too
    #[arg(long)]
    erase: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The files afterwards, as JSON.
#[derive(serde::Serialize)]
struct Sealed {
    segments: u64,
    runs: u64,
    bytes: u64,
}

/// Does it.
pub fn run(args: &Args) -> Result {
    open::check(&args.store)?;
    let spinner = progress::spinner("merging");
    let store = Options::new().background(false).open(&args.store)?;
    if args.retain {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        store.enforce_retention(i64::try_from(now.as_millis()).unwrap_or(i64::MAX), usize::MAX)?;
    }
    store.compact()?;
    if args.erase {
        store.erase_now()?;
    }
    let stat = store.stat()?;
    store.close()?;
    spinner.finish_and_clear();
    let (segments, runs, bytes) =
        (stat.segments.count, stat.runs.count, stat.segments.bytes + stat.runs.bytes);
    let mut out = Output::new();
    match args.json {
        true => out.json(&Sealed { segments, runs, bytes })?,
        false => out.line(format!("{segments} segments, {runs} runs, {}", HumanBytes(bytes)))?,
    }
    Ok(out.flush()?)
}
