//! `verify`: reads and checks every byte of a store.

use std::path::PathBuf;

use chanlog::{Error, Options, Verification};
use indicatif::HumanBytes;

use crate::failure::{Failure, Result};
use crate::open;
use crate::output::{Object, Output};
use crate::progress;

/// Read and check every byte of a store; faults are named by file and offset, and give status 1
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Print JSON: one object for each fault, and one for the whole
    #[arg(long)]
    json: bool,
}

/// Prints what `args` ask for, and fails if the store has faults.
pub fn run(args: &Args) -> Result {
    open::check(&args.store)?;
    let spinner = progress::spinner("reading every byte");
    let found = chanlog::verify(&args.store, &Options::new());
    spinner.finish_and_clear();
    let found = found?;
    let mut out = Output::new();
    if args.json { json(&mut out, &found) } else { people(&mut out, &found) }?;
    out.flush()?;
    match found.faults.len() {
        0 => Ok(()),
        n => Err(Failure::told(format!("{n} fault(s) in {}", args.store.display()))),
    }
}

fn json(out: &mut Output, found: &Verification) -> Result {
    for fault in &found.faults {
        out.line(json_fault(fault))?;
    }
    let summary = Object::new().field("files", found.files).field("bytes", found.bytes);
    Ok(out.line(summary.field("torn_bytes", found.torn_bytes).field("faults", found.faults.len()))?)
}

fn json_fault(fault: &Error) -> Object {
    match fault {
        Error::Corruption { file, offset, what } => {
            let name = file.as_os_str().as_encoded_bytes();
            Object::new().name("file", name).field("offset", offset).field("what", what)
        }
        other => Object::new().field("what", other.to_string()),
    }
}

fn people(out: &mut Output, found: &Verification) -> Result {
    for fault in &found.faults {
        out.line(fault)?;
    }
    let (files, bytes, faults) = (found.files, HumanBytes(found.bytes), found.faults.len());
    out.line(format!("{files} files, {bytes}, {faults} faults"))?;
    if found.torn_bytes > 0 {
        out.line(format!("{} bytes of an unfinished commit at the log's end, no fault", found.torn_bytes))?;
    }
    Ok(())
}
