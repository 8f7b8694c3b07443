//! Runs all tasks, one after the other, each in a process of its own, and compares the answers.
//!
//! In each round every group goes through all stores before the next group begins, so that what slows the machine for a while slows all
//! of them; which store is first rotates.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::engines::Kind;
use crate::groups::{FILLED, READY, Task};
use crate::limits::{self, Limit};
use crate::machine::Machine;
use crate::works::{Group, Measure, WORKS};
use crate::world::Scale;

pub struct Plan {
    pub scale: Scale,
    pub rounds: u32,
    pub seed: u64,
    pub kinds: Vec<Kind>,
    pub groups: Vec<Group>,
    /// Where the stores are.
    pub dir: PathBuf,
}

/// What came out, of each work and store by round; a round that failed is left out.
#[derive(Default)]
pub struct Results {
    pub machine: Machine,
    /// The load of the machine at the beginning and in the end.
    pub load: [String; 2],
    pub limits: Vec<Limit>,
    pub values: BTreeMap<(&'static str, Kind), BTreeMap<u32, f64>>,
    pub failures: Vec<String>,
}

impl Plan {
    /// Which groups are done for a store, in order.
    pub fn groups_of(&self, kind: Kind) -> Vec<Group> {
        let asked = |group: &Group| self.groups.contains(group);
        let fills = self.groups.iter().any(|group| group.needs_build());
        let all = Group::ALL.into_iter().filter(|group| asked(group) || *group == Group::Build && fills);
        all.filter(|group| does(kind, *group)).collect()
    }

    fn task(&self, kind: Kind, group: Group, fill: bool) -> Task {
        Task { kind, group, fill, dir: self.dir_of(kind), scale: self.scale.clone(), seed: self.seed }
    }

    fn dir_of(&self, kind: Kind) -> PathBuf {
        self.dir.join(format!("{kind:?}").to_lowercase())
    }

    /// Makes room on the disk: only the filled store is used by other groups.
    fn remove_all_but_filled(&self, kind: Kind) -> Result<()> {
        let Ok(stores) = std::fs::read_dir(self.dir_of(kind)) else { return Ok(()) };
        for store in stores {
            let store = store?;
            if store.file_name() != FILLED {
                std::fs::remove_dir_all(store.path())?;
            }
        }
        Ok(())
    }
}

/// Whether a group makes sense for a store.
pub fn does(kind: Kind, group: Group) -> bool {
    match kind {
        Kind::ChanlogSealed => matches!(group, Group::Build | Group::Open | Group::Read | Group::List),
        Kind::ChanlogLog => matches!(group, Group::Build | Group::Read | Group::List | Group::Kill),
        Kind::RaftEngine => !matches!(group, Group::List | Group::Mixed),
        _ => true,
    }
}

/// Does all of the plan; `report` is called after each round, so that a run that is stopped told what it knows.
pub fn run(plan: &Plan, report: impl Fn(&Results) -> Result<()>) -> Result<Results> {
    std::fs::create_dir_all(&plan.dir).with_context(|| format!("{}", plan.dir.display()))?;
    let steps = plan.kinds.iter().map(|kind| plan.groups_of(*kind).len() as u64).sum::<u64>();
    let progress = Progress::new((steps + 1) * u64::from(plan.rounds));
    let mut answers = Answers::default();
    let mut results = Results {
        machine: Machine::of(&plan.dir)?,
        load: [Machine::load()?, String::new()],
        ..Results::default()
    };
    for round in 0..plan.rounds {
        progress.step(format!("round {}: the machine's limits", round + 1));
        limits::add(&mut results.limits, limits::measure(&plan.dir, plan.seed)?);
        for (at, group) in Group::ALL.into_iter().enumerate() {
            let mut kinds: Vec<_> =
                plan.kinds.iter().copied().filter(|kind| plan.groups_of(*kind).contains(&group)).collect();
            let first = (round as usize + at) % kinds.len().max(1);
            kinds.rotate_left(first);
            for kind in kinds {
                progress.step(format!("round {}: {}, {}", round + 1, group.file(), kind.name()));
                match measure(plan, kind, group) {
                    Ok(measures) => results.add(round, kind, measures, &mut answers),
                    Err(error) => {
                        let failure = format!("{}, {}: {error:#}", kind.name(), group.file());
                        progress.say(&failure);
                        results.failures.push(failure);
                    }
                }
                plan.remove_all_but_filled(kind)?;
            }
        }
        std::fs::remove_dir_all(&plan.dir)?;
        std::fs::create_dir_all(&plan.dir)?;
        results.load[1] = Machine::load()?;
        report(&results)?;
    }
    std::fs::remove_dir_all(&plan.dir)?;
    Ok(results)
}

/// What each work was answered first, and by whom.
#[derive(Default)]
pub struct Answers(BTreeMap<&'static str, (Kind, String)>);

impl Results {
    pub fn add(&mut self, round: u32, kind: Kind, measures: Vec<Measure>, answers: &mut Answers) {
        for measure in measures {
            let Some(work) = WORKS.iter().find(|work| work.id == measure.work) else {
                self.failures.push(format!("{}: there is no work {}", kind.name(), measure.work));
                continue;
            };
            if let Some(sum) = measure.sum {
                let (first, expected) = answers.0.entry(work.id).or_insert((kind, sum.clone()));
                if *expected != sum {
                    self.failures.push(format!(
                        "{} answers {} ({}) otherwise than {}: {sum}, not {expected}",
                        kind.name(),
                        work.id,
                        work.title,
                        first.name(),
                    ));
                }
            }
            self.values.entry((work.id, kind)).or_default().insert(round, measure.value);
        }
    }
}

fn measure(plan: &Plan, kind: Kind, group: Group) -> Result<Vec<Measure>> {
    if group == Group::Kill {
        fill_and_kill(&plan.task(kind, group, true))?;
    }
    let output = worker(&plan.task(kind, group, false))?.stdout(Stdio::piped()).output()?;
    if !output.status.success() {
        bail!("{}", output.status);
    }
    let output = String::from_utf8(output.stdout)?;
    serde_json::from_str(output.lines().last().unwrap_or_default()).context("no measures")
}

fn fill_and_kill(task: &Task) -> Result<()> {
    let mut child = worker(task)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let ready = lines.map_while(Result::ok).any(|line| line == READY);
    child.kill()?;
    let status = child.wait()?;
    if !ready {
        bail!("the process that was to be killed ended by itself: {status}");
    }
    Ok(())
}

fn worker(task: &Task) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("worker").arg(serde_json::to_string(task)?).stdin(Stdio::null());
    Ok(command)
}

/// A bar where somebody looks, else a line for each step.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn new(steps: u64) -> Progress {
        let bar = || {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
            ProgressBar::new(steps).with_style(style.expect("a template"))
        };
        Progress(std::io::stderr().is_terminal().then(bar))
    }

    fn step(&self, what: String) {
        match &self.0 {
            Some(bar) => {
                bar.inc(1);
                bar.set_message(what);
            }
            None => eprintln!("{what}"),
        }
    }

    fn say(&self, what: &str) {
        match &self.0 {
            Some(bar) => bar.println(what),
            None => eprintln!("{what}"),
        }
    }
}
