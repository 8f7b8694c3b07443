//! Counts what calls take: machine instructions, allocations and system calls, which are the same at each run, however loaded the
//! machine is. `cargo run --release -p chanlog-counts -- paths` compares the hot paths with the numbers in `paths.tsv`, and with
//! `--renew` it writes that file; `.ci/instructions` does both. Needs `valgrind`.
//! `-- calls` prints what each call takes, `-- growth` how that grows with a store, and `-- design` puts both into DESIGN.md.
//!
//! A piece of work is counted by running this program again under callgrind with `one NAME` as arguments: it makes a store, and does
//! the work inside of `counted`, where callgrind collects.

mod calls;
mod counted;
mod growth;
mod paths;
mod steady;
mod stores;
mod table;

#[path = "../../fixture/mod.rs"]
mod fixture;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["paths"] => table::compare(&table::kept()),
        ["paths", "--table", file] => table::compare(file.as_ref()),
        ["paths", "--renew"] => table::renew(&table::kept()),
        ["paths", "--renew", "--table", file] => table::renew(file.as_ref()),
        ["calls"] => calls::tables().map(|tables| print!("{tables}")),
        ["calls", what] => calls::run(what),
        ["growth"] => growth::tables().map(|tables| print!("{tables}")),
        ["design"] => design(),
        ["growth", what, size] => growth::run(what, size),
        ["one", name] => paths::run(name),
        _ => Err("usage: counts paths [--renew] [--table FILE] | calls | growth | design".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Puts new tables between the marks in DESIGN.md.
fn design() -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../DESIGN.md");
    let told = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut text = fs::read_to_string(&path).map_err(told)?;
    for (what, tables) in [("calls", calls::tables()?), ("growth", growth::tables()?)] {
        let (begin, end) = (format!("<!-- counts: {what} -->\n"), format!("<!-- end of {what} -->\n"));
        let (before, rest) = text.split_once(&begin).ok_or(format!("no {begin}"))?;
        let (_, after) = rest.split_once(&end).ok_or(format!("no {end}"))?;
        text = [before, &begin, &tables, &end, after].concat();
    }
    fs::write(&path, text).map_err(told)
}
