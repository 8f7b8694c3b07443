//! `erasures`: what was erased in a store since a backup, as lines of JSON. `restore` takes them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chanlog::{ErasedPart, Erasure};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::json::{self, Bytes};
use crate::open;

/// Write what was erased, trimmed or deleted as JSON lines, which `restore --erasures` does again in a backup from before
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Only what was erased after this version, such as the one that `backup` told
    #[arg(long, value_name = "VERSION", default_value_t = 0)]
    since: u64,
    /// The file; stdout if it is absent or "-"
    file: Option<PathBuf>,
}

/// A line that is written.
#[derive(Serialize)]
struct Line<'a> {
    op: &'static str,
    #[serde(flatten)]
    name: Bytes<'a>,
    id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    version: u64,
}

/// A line that is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    op: String,
    channel: Option<String>,
    channel_base64: Option<String>,
    user: Option<String>,
    user_base64: Option<String>,
    id: u32,
    seq: Option<u64>,
    version: u64,
}

/// Writes what `args` ask for.
pub fn run(args: &Args) -> Result {
    let store = open::existing(&args.store)?;
    let view = store.view()?;
    let out: Box<dyn Write> = match args.file.as_ref().filter(|path| path.as_os_str() != "-") {
        None => Box::new(io::stdout().lock()),
        Some(path) => {
            Box::new(File::create(path).map_err(|e| Failure::told(format!("{}: {e}", path.display())))?)
        }
    };
    let mut out = BufWriter::new(out);
    for erasure in view.erasures(args.since) {
        let Erasure { name, id, part, version, .. } = &erasure?;
        let name = match part {
            ErasedPart::Sent | ErasedPart::User => Bytes::user(name),
            _ => Bytes::channel(name),
        };
        let (op, seq) = match part {
            ErasedPart::Message(seq) => ("erase", Some(*seq)),
            ErasedPart::UpTo(seq) => ("trim", Some(*seq)),
            ErasedPart::Channel => ("delete_channel", None),
            ErasedPart::Sent => ("erase_user", None),
            ErasedPart::User => ("delete_user", None),
            _ => return Err(Failure::told("an erasure of a newer release")),
        };
        let line = Line { op, name, id: *id, seq, version: *version };
        json::write(&mut out, &line)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Reads the lines of a file.
pub fn read(path: &Path) -> Result<Vec<Erasure>> {
    let fail = |e: io::Error| Failure::told(format!("{}: {e}", path.display()));
    let mut erasures = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(File::open(path).map_err(fail)?).lines()) {
        let bad = |cause: String| Failure::told(format!("{}, line {number}: {cause}", path.display()));
        let line = line.map_err(|e| bad(e.to_string()))?;
        if !line.trim().is_empty() {
            erasures.push(parse(&line).map_err(bad)?);
        }
    }
    Ok(erasures)
}

fn parse(line: &str) -> std::result::Result<Erasure, String> {
    let given: Given = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let of_user = matches!(&given.op[..], "erase_user" | "delete_user");
    let (kind, name, base64) = match of_user {
        true => ("user", given.user, given.user_base64),
        false => ("channel", given.channel, given.channel_base64),
    };
    let name = match (name, base64) {
        (Some(name), None) => name.into_bytes(),
        (None, Some(name)) => BASE64.decode(name).map_err(|e| format!("{kind}_base64: {e}"))?,
        _ => return Err(format!("not one of {kind} and {kind}_base64")),
    };
    let part = match (&given.op[..], given.seq) {
        ("erase", Some(seq)) => ErasedPart::Message(seq),
        ("trim", Some(seq)) => ErasedPart::UpTo(seq),
        ("delete_channel", None) => ErasedPart::Channel,
        ("erase_user", None) => ErasedPart::Sent,
        ("delete_user", None) => ErasedPart::User,
        (op, _) => return Err(format!("no erasure: {op:?} with or without a seq")),
    };
    Ok(Erasure { name: name.into(), id: given.id, part, version: given.version })
}
