//! `verify`: reads and checks every byte of a store.

use std::fmt;
use std::path::PathBuf;

use chanlog::{Error, Options, Verification};
use indicatif::HumanBytes;
use serde::Serialize;

use crate::failure::{self, Failure, Result};
use crate::json::Bytes;
use crate::open;
use crate::output::Output;
use crate::progress;
use crate::text;

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
    // Whoever reads only the beginning still learns by the status that there are faults.
    failure::unless_unread(print(args, &found))?;
    match found.faults.len() {
        0 => Ok(()),
        n => Err(Failure::told(format!("{n} fault(s) in {}", args.store.display()))),
    }
}

fn print(args: &Args, found: &Verification) -> Result {
    let mut out = Output::new();
    if args.json { objects(&mut out, found) } else { people(&mut out, found) }?;
    Ok(out.flush()?)
}

/// A fault as JSON: damage has a place, other errors have none.
#[derive(Serialize)]
pub struct Fault<'a> {
    #[serde(flatten)]
    file: Option<Bytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    what: String,
}

/// What was checked, as JSON.
#[derive(Serialize)]
struct Summary {
    files: u64,
    bytes: u64,
    torn_bytes: u64,
    faults: usize,
}

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(file), Some(offset)) = (&self.file, self.offset) {
            write!(f, "{} at {offset}: ", String::from_utf8_lossy(file.bytes()))?;
        }
        f.write_str(&self.what)
    }
}

impl<'a> From<&'a Error> for Fault<'a> {
    fn from(fault: &'a Error) -> Self {
        match fault {
            Error::Corruption { file, offset, what, .. } => Fault {
                file: Some(Bytes::file(file.as_os_str().as_encoded_bytes())),
                offset: Some(*offset),
                what: what.clone(),
            },
            other => Fault { file: None, offset: None, what: other.to_string() },
        }
    }
}

fn objects(out: &mut Output, found: &Verification) -> Result {
    for fault in &found.faults {
        out.json(&Fault::from(fault))?;
    }
    let (files, bytes, torn_bytes) = (found.files, found.bytes, found.torn_bytes);
    Ok(out.json(&Summary { files, bytes, torn_bytes, faults: found.faults.len() })?)
}

fn people(out: &mut Output, found: &Verification) -> Result {
    for fault in &found.faults {
        out.line(text::visible(&fault.to_string()))?;
    }
    let (files, bytes, faults) = (found.files, HumanBytes(found.bytes), found.faults.len());
    out.line(format!("{files} files, {bytes}, {faults} faults"))?;
    if found.torn_bytes > 0 {
        out.line(format!("{} bytes of an unfinished commit at the log's end, no fault", found.torn_bytes))?;
    }
    Ok(())
}
