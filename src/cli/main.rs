//! The command-line tool: arguments, dispatch and exit codes.
//!
//! Status 0: done, or the reader of stdout went away. 1: bad input or a failure, told on stderr; a stdout that can't be
//! written is one. 2: bad usage. With `--json` stdout carries JSON objects only, one a line; whatever else there is to say
//! goes to stderr. Each command is one module with its arguments and a `run`; below them lie `output` (stdout), `json` and
//! `text` (how things are written there), `open` (finding a store) and `failure`.

mod annotations;
mod backup;
mod bench;
mod changes;
mod channel;
mod compact;
mod conversations;
mod demo;
mod erasures;
mod experiment;
mod export;
mod facts;
mod failure;
mod follow;
mod history;
mod import;
mod inspect;
mod json;
mod lines;
mod members;
mod message;
mod open;
mod output;
mod progress;
mod random;
mod receipts;
mod repair;
mod set;
mod shell;
mod stat;
mod stopwatch;
mod text;
mod unread;
mod user;
mod verify;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::{Failure, Result};

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
    Bench(bench::Args),
    Import(import::Args),
    Export(export::Args),
    Conversations(conversations::Args),
    History(history::Args),
    Changes(changes::Args),
    Annotations(annotations::Args),
    Follow(follow::Args),
    Members(members::Args),
    Set(set::Args),
    Channel(channel::Args),
    User(user::Args),
    Message(message::Args),
    Receipts(receipts::Args),
    Unread(unread::Args),
    Stat(stat::Args),
    Verify(verify::Args),
    Backup(backup::Args),
    Restore(backup::RestoreArgs),
    Erasures(erasures::Args),
    Repair(repair::Args),
    Compact(compact::Args),
    Inspect(inspect::Args),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => end(run(&cli.command)),
        // Bad usage, which is told on stderr, with status 2.
        Err(usage) if usage.use_stderr() => usage.exit(),
        Err(help) => end(help.print().and_then(|()| io::stdout().flush()).map_err(Failure::from)),
    }
}

fn run(command: &Command) -> Result {
    match command {
        Command::Demo(args) => demo::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Import(args) => import::run(args),
        Command::Export(args) => export::run(args),
        Command::Conversations(args) => conversations::run(args),
        Command::History(args) => history::run(args),
        Command::Changes(args) => changes::run(args),
        Command::Annotations(args) => annotations::run(args),
        Command::Follow(args) => follow::run(args),
        Command::Members(args) => members::run(args),
        Command::Set(args) => set::run(args),
        Command::Channel(args) => channel::run(args),
        Command::User(args) => user::run(args),
        Command::Message(args) => message::run(args),
        Command::Receipts(args) => receipts::run(args),
        Command::Unread(args) => unread::run(args),
        Command::Stat(args) => stat::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Backup(args) => backup::run(args),
        Command::Restore(args) => backup::restore(args),
        Command::Erasures(args) => erasures::run(args),
        Command::Repair(args) => repair::run(args),
        Command::Compact(args) => compact::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Completions(args) => shell::completions::<Cli>(args),
        Command::Man(args) => shell::man::<Cli>(args),
    }
}

/// The status of a command that ended like this, after what there is to say.
fn end(done: Result) -> ExitCode {
    match failure::unless_unread(done) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::say(failure);
            ExitCode::FAILURE
        }
    }
}
