//! The command-line tool: arguments, dispatch and exit codes.
//!
//! Status 0: done. 1: bad input or a failure, told on stderr. 2: bad usage. With `--json` stdout carries JSON objects
//! only, one a line; whatever else there is to say goes to stderr. Each command is one module with its arguments and a
//! `run`; below them lie `output` (what stdout looks like), `open` (finding a store) and `failure`.

mod conversations;
mod demo;
mod experiment;
mod failure;
mod history;
mod import;
mod lines;
mod members;
mod open;
mod output;
mod progress;
mod stat;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A storage engine for instant messaging: look into a store, fill one, or see a demonstration.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Import(import::Args),
    Conversations(conversations::Args),
    History(history::Args),
    Members(members::Args),
    Stat(stat::Args),
    Verify(verify::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Conversations(args) => conversations::run(&args),
        Command::History(args) => history::run(&args),
        Command::Members(args) => members::run(&args),
        Command::Stat(args) => stat::run(&args),
        Command::Verify(args) => verify::run(&args),
    };
    let Err(failure) = done else { return ExitCode::SUCCESS };
    // Whoever closed our stdout knows it, and needs no message.
    if !failure.is_broken_pipe() {
        output::say(failure);
    }
    ExitCode::FAILURE
}
