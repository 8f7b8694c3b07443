//! The numbers that are kept in `paths.tsv`, and how those of now compare.
//!
//! A number that is more than [`TOLERANCE`] above the kept one is a failure; one that is as much below asks for new numbers. Another
//! compiler makes other instructions: then all is printed, and nothing is a failure.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::counted::{Counts, count_all};
use crate::paths::PATHS;

/// By how much a number may differ from the kept one, as a part of it.
const TOLERANCE: f64 = 0.05;
/// Beside that: of allocations and system calls there are few.
const LITTLE: f64 = 0.05;

/// What a path took for each unit.
struct Row {
    path: String,
    unit: String,
    counts: Counts,
}

/// Compares the numbers of now with those that are kept.
pub fn compare(file: &Path) -> Result<(), String> {
    let kept = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let same_compiler = kept.lines().any(|line| line.strip_prefix("# rustc\t") == Some(&compiler()));
    let kept = rows(&kept)?;
    let (mut more, mut renew) = (Vec::new(), Vec::new());
    print_line("", "for each", ["instructions", "allocations", "system calls", "log bytes"].map(Into::into));
    for Row { path, unit, counts } in all()? {
        let before = kept.iter().find(|kept| kept.path == path).map(|kept| kept.counts);
        let pairs = counts.pairs(before);
        print_line(&path, &unit, pairs.map(|(now, before)| column(now, before)));
        let beyond = |times: f64, now: f64, before: f64| (now - before) * times > before * TOLERANCE + LITTLE;
        if pairs.iter().any(|(now, before)| beyond(1.0, *now, *before)) {
            more.push(path);
        } else if before.is_none() || pairs.iter().any(|(now, before)| beyond(-1.0, *now, *before)) {
            renew.push(path);
        }
    }
    if !renew.is_empty() {
        println!("new, or quicker by more than 5 %: {}", renew.join("; "));
        println!("Renew the numbers, so that nobody loses that again.");
    }
    if more.is_empty() {
        return Ok(());
    }
    let told = format!("more than 5 % above the kept numbers: {}", more.join("; "));
    if same_compiler {
        return Err(format!("{told}\nCONTRIBUTING.md says how to renew the numbers, if that is meant."));
    }
    println!(
        "{told}\nThe kept numbers are another compiler's, so that is no failure; `.ci/instructions REVISION`"
    );
    println!("compares with those of a revision by one compiler.");
    Ok(())
}

fn print_line(path: &str, unit: &str, columns: [String; 4]) {
    let [instructions, allocations, calls, bytes] = columns;
    println!("{path:<42} {unit:>10} {instructions:>19} {allocations:>17} {calls:>17} {bytes:>17}");
}

/// Writes the numbers of now.
pub fn renew(file: &Path) -> Result<(), String> {
    let commit = output("git", &["describe", "--always", "--dirty=, changed"])?;
    let mut text = format!("# rustc\t{}\n# commit\t{commit}\n", compiler());
    text += "# what\teach\tinstructions\tallocations\tsystem calls\tbytes of the log\n";
    for Row { path, unit, counts: Counts { instructions, allocations, calls, bytes } } in all()? {
        let line = format!("{path}\t{unit}\t{instructions:.0}\t{allocations:.2}\t{calls:.2}\t{bytes:.1}");
        writeln!(text, "{line}").expect("room");
    }
    fs::write(file, &text).map_err(|e| format!("{}: {e}", file.display()))?;
    print!("{text}");
    Ok(())
}

/// Counts all paths.
fn all() -> Result<Vec<Row>, String> {
    let runs: Vec<_> = PATHS.iter().map(|(path, ..)| vec!["one".into(), (*path).into()]).collect();
    let counted = PATHS.iter().zip(count_all(&runs)?);
    let row = |((path, unit, _), works): (&(_, _, _), Vec<(String, Counts)>)| {
        let [(_, counts)] = works[..] else { return Err(format!("{path}: {} works", works.len())) };
        Ok(Row { path: String::from(*path), unit: String::from(*unit), counts })
    };
    counted.map(row).collect()
}

impl Counts {
    /// Each number beside the one before, or beside itself if there was none.
    fn pairs(self, before: Option<Counts>) -> [(f64, f64); 4] {
        let before = before.unwrap_or(self);
        [
            (self.instructions, before.instructions),
            (self.allocations, before.allocations),
            (self.calls, before.calls),
            (self.bytes, before.bytes),
        ]
    }
}

/// A number, and by how much it differs from the one before.
fn column(now: f64, before: f64) -> String {
    let number = if now < 1000.0 { format!("{now:.2}") } else { format!("{now:.0}") };
    match (now - before) / before {
        change if change.is_finite() => format!("{number} {:+6.1} %", change * 100.0),
        _ => format!("{number}         "),
    }
}

/// The rows of the table.
fn rows(text: &str) -> Result<Vec<Row>, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| row(line).ok_or(format!("{line:?} is no row of a table"))).collect()
}

fn row(line: &str) -> Option<Row> {
    let mut columns = line.split('\t');
    let (path, unit) = (columns.next()?.into(), columns.next()?.into());
    let mut number = || columns.next()?.parse().ok();
    let counts =
        Counts { instructions: number()?, allocations: number()?, calls: number()?, bytes: number()? };
    Some(Row { path, unit, counts })
}

/// The compiler, of which the instructions are.
fn compiler() -> String {
    output("rustc", &["--version"]).unwrap_or_default()
}

fn output(program: &str, args: &[&str]) -> Result<String, String> {
    let done = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// Where the numbers are kept.
pub fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("paths.tsv")
}
