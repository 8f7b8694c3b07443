//! Compares chanlog with what servers would be built on instead: `README.md` beside this tells what and how.

mod chart;
mod digest;
mod engines;
mod groups;
mod limits;
mod machine;
mod report;
mod run;
#[cfg(test)]
mod tests;
mod text;
mod works;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use engines::Kind;
use run::Plan;
use works::Group;
use world::Scale;

/// Measures chanlog and other stores by the same work, and compares their answers and their times.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    worker: Option<Worker>,

    /// How large it all is: small takes about a minute, medium a quarter of an hour, full some hours
    #[arg(long, default_value = "medium", value_parser = ["small", "medium", "full"])]
    scale: String,

    /// How often each work is measured, with fresh stores
    #[arg(long, default_value_t = 3)]
    rounds: u32,

    /// Stores to measure, all if absent
    #[arg(long, value_enum, value_delimiter = ',')]
    engines: Vec<Kind>,

    /// What to measure, all if absent
    #[arg(long, value_enum, value_delimiter = ',')]
    groups: Vec<Group>,

    /// Messages of the mixed load, in place of the scale's
    #[arg(long)]
    messages: Option<u64>,

    /// What all names, texts and choices follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Where the report goes
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    out: PathBuf,

    /// Where the stores are made, and removed again: in a folder of the report's directory if absent
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Worker {
    /// Does one task; used by the program itself
    #[command(hide = true)]
    Worker { task: String },
}

fn main() -> ExitCode {
    match begin(Arguments::parse()) {
        Ok(failures) if failures.is_empty() => ExitCode::SUCCESS,
        Ok(failures) => {
            failures.iter().for_each(|failure| eprintln!("error: {failure}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn begin(arguments: Arguments) -> Result<Vec<String>> {
    if let Some(Worker::Worker { task }) = arguments.worker {
        let measures = groups::run(serde_json::from_str(&task)?)?;
        println!("{}", serde_json::to_string(&measures)?);
        return Ok(Vec::new());
    }
    let mut scale = Scale::named(&arguments.scale).context("a scale")?;
    scale.mixed = arguments.messages.unwrap_or(scale.mixed);
    let plan = Plan {
        scale,
        rounds: arguments.rounds,
        seed: arguments.seed,
        kinds: if arguments.engines.is_empty() { Kind::all() } else { arguments.engines },
        groups: if arguments.groups.is_empty() { Group::ALL.to_vec() } else { arguments.groups },
        dir: arguments.dir.unwrap_or_else(|| arguments.out.join("stores")),
    };
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("{}", arguments.out.display()))?;
    let results = run::run(&plan, |results| report::write(&arguments.out, &plan, results))?;
    println!("{}", std::fs::read_to_string(arguments.out.join("report.md"))?);
    Ok(results.failures)
}
