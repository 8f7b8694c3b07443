//! `export`: a whole store as lines of JSON. `import` takes them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use chanlog::{Import, Imported, Options, View};

use crate::facts::{self, Line};
use crate::failure::{Failure, Result};
use crate::json;
use crate::lines::{Lines, Next};
use crate::open;
use crate::text;

/// Write all that a store holds as JSON lines, of which `import` makes a store that holds the same
///
/// The first line says what is true of the whole store; then come the names of channels and of users by their ids, rows by table and
/// key, messages and long values by version, and a last line with the number of facts. Equal stores give equal lines, whatever
/// their files are. What was trimmed, retracted, erased or deleted is left out. A line has everything that the store knows,
/// numbers of 64 bits and the secret key of the store's hashes among it: keep it as you keep the store.
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The file; stdout if it is absent or "-"
    file: Option<PathBuf>,
}

/// The longest line, in bytes: JSON takes six at most for one of the largest payload.
const LINE: usize = 6 * chanlog::MAX_PAYLOAD as usize + (1 << 20);
/// How much of the cause is told for a bad line, in characters.
const CAUSE: usize = 200;

/// Writes what `args` ask for.
pub fn run(args: &Args) -> Result {
    let store = open::existing(&args.store)?;
    let damaged = store.recovery().damaged;
    if damaged > 0 {
        return Err(Failure::told(format!(
            "{damaged} fault(s) in {}: see verify and repair",
            args.store.display()
        )));
    }
    let view = store.view()?;
    match args.file.as_ref().filter(|path| path.as_os_str() != "-") {
        None => write(&view, io::stdout().lock()),
        Some(path) => {
            let fail = |e: io::Error| Failure::told(format!("{}: {e}", path.display()));
            let mut file = File::create(path).map_err(fail)?;
            write(&view, &mut file)?;
            file.sync_all().map_err(fail)
        }
    }
}

fn write(view: &View, out: impl Write) -> Result {
    let mut out = BufWriter::with_capacity(256 << 10, out);
    let mut facts = 0;
    for fact in view.export() {
        line(&mut out, &Line::Fact(Box::new(fact?)))?;
        facts += 1;
    }
    line(&mut out, &Line::End(facts))?;
    Ok(out.flush()?)
}

fn line(out: &mut impl Write, line: &Line) -> Result {
    json::write(&mut *out, line)?;
    Ok(out.write_all(b"\n")?)
}

/// Makes a store of the lines of an export, and tells how many there were. Nothing is left of one that failed.
pub fn import(dir: &Path, mut lines: Lines) -> Result<(u64, Imported)> {
    lines.allow(LINE);
    let fresh = !dir.exists();
    let mut number = 0;
    let made = Import::new(dir, Options::new()).map_err(Failure::from).and_then(|import| {
        take(import, &mut lines, &mut number).map_err(|cause| match cause {
            Stop::Line(what) => Failure::told(format!("line {number}: {}", text::cut(&what, CAUSE))),
            Stop::Input(what) => Failure::told(what),
            Stop::Store(error) => error.into(),
        })
    });
    if made.is_err() && fresh {
        // Only if it is empty, as it was made here.
        let _ = std::fs::remove_dir(dir);
    }
    Ok((number, made?))
}

/// Why an import stopped.
enum Stop {
    Line(String),
    Input(String),
    Store(chanlog::Error),
}

impl From<chanlog::Error> for Stop {
    fn from(error: chanlog::Error) -> Stop {
        match error {
            chanlog::Error::InvalidArgument { what, .. } => Stop::Line(what),
            error => Stop::Store(error),
        }
    }
}

fn take(mut import: Import, lines: &mut Lines, number: &mut u64) -> std::result::Result<Imported, Stop> {
    let mut facts = 0;
    loop {
        let next = lines.next(true).map_err(|e| Stop::Input(format!("the input can't be read: {e}")))?;
        *number += 1;
        match next {
            Next::Line(line) => match facts::parse(&line).map_err(Stop::Line)? {
                Line::Fact(fact) => import.put(*fact)?,
                Line::End(told) if told == facts => break,
                Line::End(told) => return Err(Stop::Line(format!("{told} facts were told, {facts} came"))),
            },
            Next::TooLong => return Err(Stop::Line(format!("longer than {LINE} bytes"))),
            Next::Pending => *number -= 1,
            Next::End => return Err(Stop::Line("the export ends without its last line".into())),
        }
        facts += 1;
    }
    match lines.next(true) {
        Ok(Next::End) => Ok(import.finish()?),
        _ => {
            *number += 1;
            Err(Stop::Line("there is something after the last line of the export".into()))
        }
    }
}
