//! `stat`: counts, sizes, and what opening found.

use std::path::PathBuf;

use chanlog::{Files, Recovery, Stat};
use indicatif::{HumanBytes, HumanCount};

use crate::failure::Result;
use crate::open;
use crate::output::{self, Object, Output};

/// Print counts and sizes of a store, and what opening it found
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

/// Prints what `args` ask for.
pub fn run(args: &Args) -> Result {
    let store = open::existing(&args.store)?;
    let (stat, recovery) = (store.stat()?, store.recovery());
    let mut out = Output::new();
    if args.json { out.line(json(&stat, recovery)) } else { out.line(people(&stat, recovery)) }?;
    Ok(out.flush()?)
}

fn json(stat: &Stat, recovery: &Recovery) -> Object {
    Object::new()
        .field("version", stat.version)
        .field("channels", stat.channels)
        .field("users", stat.users)
        .field("messages", stat.messages)
        .object("files", Some(json_files(stat)))
        .object("bytes_written", Some(json_written(stat)))
        .field("user_bytes", stat.user_bytes)
        .field("write_amplification", stat.write_amplification())
        .object("recovery", Some(json_recovery(recovery)))
}

fn json_files(stat: &Stat) -> Object {
    let files = |files: Files| Some(Object::new().field("count", files.count).field("bytes", files.bytes));
    Object::new()
        .object("logs", files(stat.logs))
        .object("segments", files(stat.segments))
        .object("runs", files(stat.runs))
}

fn json_written(stat: &Stat) -> Object {
    Object::new()
        .field("log", stat.log_bytes)
        .field("sealed", stat.sealed_bytes)
        .field("merged", stat.merged_bytes)
}

fn json_recovery(recovery: &Recovery) -> Object {
    Object::new()
        .field("created", recovery.created)
        .field("clean", recovery.clean)
        .field("log_segments", recovery.log_segments)
        .field("log_bytes", recovery.log_bytes)
        .field("commits", recovery.commits)
        .field("torn_bytes", recovery.torn_bytes)
        .field("gap", recovery.gap)
        .field("orphans", recovery.orphans)
        .field("damaged", recovery.damaged)
}

fn people(stat: &Stat, recovery: &Recovery) -> String {
    [counts(stat), files(stat), written(stat), opening(recovery)].map(|table| table.to_string()).join("\n\n")
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
