//! Counts what calls take: machine instructions, allocations and system calls, which are the same at each run, however loaded the
//! machine is. `cargo run --release -p chanlog-counts -- paths` compares the hot paths with the numbers in `paths.tsv`, and with
//! `--renew` it writes that file; `.ci/instructions` does both. Needs `valgrind`.
//! `-- calls` prints what each call takes, and `-- growth` how that grows with a store, for DESIGN.md.
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

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["paths"] => table::compare(&table::kept()),
        ["paths", "--table", file] => table::compare(file.as_ref()),
        ["paths", "--renew"] => table::renew(&table::kept()),
        ["paths", "--renew", "--table", file] => table::renew(file.as_ref()),
        ["calls"] => calls::print(),
        ["calls", what] => calls::run(what),
        ["growth"] => growth::print(),
        ["growth", what, size] => growth::run(what, size),
        ["one", name] => paths::run(name),
        _ => Err("usage: counts paths [--renew] [--table FILE] | calls | growth".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
