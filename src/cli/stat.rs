//! `stat`: counts, sizes, and what opening found.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use chanlog::{Erasing, Files, Recovery, Stat};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use crate::failure::Result;
use crate::open;
use crate::output::{self, Output};
use crate::text;

/// Print counts and sizes of a store, and what opening it found
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Print JSON: one object
    #[arg(long)]
    json: bool,
    /// Look again every so many seconds, until somebody stops it
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    watch: Option<u64>,
}

/// Prints what `args` ask for.
pub fn run(args: &Args) -> Result {
    loop {
        // A reader sees the store as of its opening.
        let store = open::existing(&args.store)?;
        let (stat, recovery, erasing) = (store.stat()?, store.recovery(), store.erasing()?);
        let mut out = Output::new();
        match args.json {
            true => out.json(&Object::new(&stat, recovery, &erasing))?,
            false => out.line(people(&stat, recovery, &erasing))?,
        }
        let Some(seconds) = args.watch else { return Ok(out.flush()?) };
        if !args.json {
            out.line("")?;
        }
        out.flush()?;
        thread::sleep(Duration::from_secs(seconds.max(1)));
    }
}

/// The store as JSON.
#[derive(Serialize)]
struct Object {
    version: u64,
    channels: u64,
    users: u64,
    messages: u64,
    files: Kinds,
    bytes_written: Written,
    user_bytes: u64,
    write_amplification: f64,
    memory: Memory,
    erasing: Waiting,
    recovery: Opening,
}

/// What erased messages wait for.
#[derive(Serialize)]
struct Waiting {
    messages: u64,
    since: Option<i64>,
    files: Vec<String>,
}

/// The files of each kind.
#[derive(Serialize)]
struct Kinds {
    logs: Sizes,
    segments: Sizes,
    runs: Sizes,
}

#[derive(Serialize)]
struct Sizes {
    count: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Written {
    log: u64,
    sealed: u64,
    merged: u64,
}

/// What the store takes in memory as it is open, in bytes.
#[derive(Serialize)]
struct Memory {
    heads: u64,
    layers: u64,
    filters: u64,
}

/// What opening found.
#[derive(Serialize)]
struct Opening {
    created: bool,
    clean: bool,
    log_segments: u64,
    log_bytes: u64,
    commits: u64,
    torn_bytes: u64,
    gap: bool,
    orphans: u64,
    damaged: u64,
}

impl Object {
    fn new(stat: &Stat, recovery: &Recovery, erasing: &Erasing) -> Object {
        Object {
            version: stat.version,
            channels: stat.channels,
            users: stat.users,
            messages: stat.messages,
            files: Kinds { logs: stat.logs.into(), segments: stat.segments.into(), runs: stat.runs.into() },
            bytes_written: Written {
                log: stat.log_bytes,
                sealed: stat.sealed_bytes,
                merged: stat.merged_bytes,
            },
            user_bytes: stat.user_bytes,
            write_amplification: stat.write_amplification(),
            memory: Memory { heads: stat.heads, layers: stat.layers, filters: stat.filters },
            erasing: Waiting {
                messages: erasing.messages,
                since: erasing.since,
                files: erasing.files.clone(),
            },
            recovery: recovery.into(),
        }
    }
}

impl From<Files> for Sizes {
    fn from(files: Files) -> Sizes {
        Sizes { count: files.count, bytes: files.bytes }
    }
}

impl From<&Recovery> for Opening {
    fn from(recovery: &Recovery) -> Opening {
        Opening {
            created: recovery.created,
            clean: recovery.clean,
            log_segments: recovery.log_segments,
            log_bytes: recovery.log_bytes,
            commits: recovery.commits,
            torn_bytes: recovery.torn_bytes,
            gap: recovery.gap,
            orphans: recovery.orphans,
            damaged: recovery.damaged,
        }
    }
}

fn people(stat: &Stat, recovery: &Recovery, erasing: &Erasing) -> String {
    let mut tables = vec![counts(stat), files(stat), written(stat), memory(stat), opening(recovery)];
    if erasing.messages > 0 {
        tables.push(waiting(erasing));
    }
    tables.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}

fn waiting(erasing: &Erasing) -> comfy_table::Table {
    let mut table = output::table(&["erased messages in files", "since (UTC)", ">files"]);
    let since = erasing.since.map_or_else(|| "?".into(), text::time);
    table.add_row([erasing.messages.to_string(), since, erasing.files.len().to_string()]);
    table
}

fn counts(stat: &Stat) -> comfy_table::Table {
    let mut table = output::table(&[">messages", ">channels", ">users", ">version"]);
    table.add_row([stat.messages, stat.channels, stat.users, stat.version].map(HumanCount));
    table
}

fn files(stat: &Stat) -> comfy_table::Table {
    let mut table = output::table(&["files", ">count", ">bytes"]);
    let kinds = [("log segments", stat.logs), ("message segments", stat.segments), ("table runs", stat.runs)];
    for (kind, files) in kinds {
        table.add_row([kind.into(), files.count.to_string(), HumanBytes(files.bytes).to_string()]);
    }
    table
}

fn written(stat: &Stat) -> comfy_table::Table {
    let mut table = output::table(&["ever written", ">bytes"]);
    for (by, bytes) in [
        ("given by callers", stat.user_bytes),
        ("to the log", stat.log_bytes),
        ("by sealing", stat.sealed_bytes),
        ("by merging", stat.merged_bytes),
    ] {
        table.add_row([by.into(), HumanBytes(bytes).to_string()]);
    }
    table.add_row(["write amplification".into(), format!("{:.2}", stat.write_amplification())]);
    table
}

fn memory(stat: &Stat) -> comfy_table::Table {
    let mut table = output::table(&["memory", ">bytes"]);
    for (what, bytes) in
        [("heads of channels", stat.heads), ("what is not sealed", stat.layers), ("filters", stat.filters)]
    {
        table.add_row([what.into(), HumanBytes(bytes).to_string()]);
    }
    table
}

fn opening(recovery: &Recovery) -> comfy_table::Table {
    let mut table = output::table(&["opening found", ">"]);
    let yes = |b: bool| if b { "yes" } else { "no" }.to_string();
    for (what, value) in [
        ("closed cleanly", yes(recovery.clean)),
        ("made by this command", yes(recovery.created)),
        ("log segments read", recovery.log_segments.to_string()),
        ("log bytes read", HumanBytes(recovery.log_bytes).to_string()),
        ("commits in them", HumanCount(recovery.commits).to_string()),
        ("torn bytes at the end, cut", recovery.torn_bytes.to_string()),
        ("gap after lost buffered messages", yes(recovery.gap)),
        ("unfinished files removed", recovery.orphans.to_string()),
        ("damaged segments", recovery.damaged.to_string()),
    ] {
        table.add_row([what.to_string(), value]);
    }
    table
}
