//! The report: a table in Markdown, all numbers in JSON, and charts.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::chart;
use crate::engines::Kind;
use crate::run::{Plan, Results};
use crate::works::{Group, Unit, WORKS, Work, three};
use crate::world::Scale;

/// Values of several rounds.
pub struct Summary {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    rounds: usize,
}

impl Summary {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Summary> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (least, most, rounds) = (*values.first()?, *values.last()?, values.len());
        let median = (values[rounds / 2] + values[(rounds - 1) / 2]) / 2.0;
        Some(Summary { median, least, most, rounds })
    }

    /// The median, and how far the others are from it.
    fn cell(&self, unit: Unit) -> String {
        let value = unit.show(self.median);
        if self.rounds == 1 || self.median == 0.0 {
            return value;
        }
        format!("{value} ±{:.0} %", 50.0 * (self.most - self.least) / self.median)
    }
}

pub fn write(out: &Path, plan: &Plan, results: &Results) -> Result<()> {
    fs::write(out.join("report.md"), markdown(plan, results)?)?;
    fs::write(out.join("report.json"), serde_json::to_string_pretty(&as_json(plan, results))?)?;
    for group in Group::ALL {
        let works: Vec<_> = WORKS.iter().filter(|work| work.group == group).collect();
        if let Some(svg) = chart::draw(group.title(), &works, &plan.kinds, results) {
            fs::write(out.join(format!("{}.svg", group.file())), svg)?;
        }
    }
    Ok(())
}

impl Results {
    pub fn summary(&self, work: &Work, kind: Kind) -> Option<Summary> {
        Summary::of(self.values.get(&(work.id, kind))?.values().copied())
    }

    /// How far chanlog is ahead of the best of the others, by round: 2 is twice as good. And who that was in the last one.
    fn lead(&self, work: &Work) -> Option<(Vec<f64>, Kind)> {
        let own = self.values.get(&(work.id, Kind::Chanlog))?;
        let (mut leads, mut best) = (Vec::new(), None);
        for (round, value) in own {
            let others = self.values.iter().filter(|((id, kind), _)| *id == work.id && !kind.is_chanlog());
            let others = others.filter_map(|((_, kind), values)| Some((*values.get(round)?, *kind)));
            let more = work.unit.more_is_better();
            let ahead = |other: f64| if more { value / other } else { other / value };
            let nearest =
                others.map(|(other, kind)| (ahead(other), kind)).filter(|(lead, _)| lead.is_finite());
            if let Some((lead, kind)) = nearest.min_by(|a, b| a.0.total_cmp(&b.0)) {
                leads.push(lead);
                best = Some(kind);
            }
        }
        Some((leads, best?))
    }
}

fn markdown(plan: &Plan, results: &Results) -> Result<String> {
    let mut text = String::new();
    let machine = &results.machine;
    writeln!(text, "# chanlog and other stores\n")?;
    let Scale { name, messages, channels, .. } = &plan.scale;
    let facts = [
        ("when", machine.date.clone()),
        ("command", format!("`{}`", machine.command)),
        ("machine", format!("{}, {} cores, {} of memory", machine.processor, machine.cores, machine.memory)),
        ("system", format!("Linux {}, {}", machine.kernel, machine.file_system)),
        (
            "load (1, 5, 15 minutes)",
            format!("{} at the beginning, {} in the end", results.load[0], results.load[1]),
        ),
        (
            "scale",
            format!("{name}: {messages} messages over {channels} channels by Zipf, and half as many again"),
        ),
        ("rounds, seed", format!("{}, {}", plan.rounds, plan.seed)),
        ("versions", format!("chanlog of commit {}; {}", machine.commit, machine.versions.join(", "))),
    ];
    writeln!(text, "| | |\n|---|---|")?;
    facts.iter().try_for_each(|(name, fact)| writeln!(text, "| {name} | {fact} |"))?;
    writeln!(text)?;
    match results.failures.is_empty() {
        true => writeln!(text, "All stores gave the same answers, in all rounds.\n")?,
        false => results.failures.iter().try_for_each(|failure| writeln!(text, "**{failure}**\n"))?,
    }
    writeln!(
        text,
        "Medians of the rounds; ± is half the range. *Lead*: how many times better chanlog is than the best of the others, the median \
         by round, and its range.\n"
    )?;
    for group in Group::ALL {
        table(&mut text, group, plan, results)?;
    }
    limits(&mut text, results)?;
    writeln!(text, "## Settings\n\n| store | settings |\n|---|---|")?;
    for kind in &plan.kinds {
        writeln!(text, "| {} | {} |", kind.name(), kind.settings())?;
    }
    Ok(text)
}

fn table(text: &mut String, group: Group, plan: &Plan, results: &Results) -> Result<()> {
    let works = || WORKS.iter().filter(|work| work.group == group);
    let has = |kind: &Kind| works().any(|work| results.values.contains_key(&(work.id, *kind)));
    let kinds: Vec<_> = plan.kinds.iter().copied().filter(has).collect();
    if kinds.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    writeln!(text, "## {}\n\n| | {} | lead |", group.title(), names.join(" | "))?;
    writeln!(text, "|---|{}---|", "---|".repeat(kinds.len()))?;
    for work in works() {
        let cell = |kind: &Kind| results.summary(work, *kind).map(|summary| summary.cell(work.unit));
        let cells: Vec<_> = kinds.iter().map(|kind| cell(kind).unwrap_or_else(|| "-".into())).collect();
        if cells.iter().all(|cell| cell == "-") {
            continue;
        }
        writeln!(text, "| {} | {} | {} |", work.title, cells.join(" | "), lead(work, results))?;
    }
    writeln!(text)?;
    Ok(())
}

fn lead(work: &Work, results: &Results) -> String {
    let found = results.lead(work).and_then(|(leads, kind)| Some((Summary::of(leads)?, kind)));
    found.map_or("-".into(), |(lead, kind)| {
        let [median, least, most] = [lead.median, lead.least, lead.most].map(three);
        match lead.rounds {
            1 => format!("{median} ({})", kind.name()),
            _ => format!("{median} [{least}, {most}] ({})", kind.name()),
        }
    })
}

fn limits(text: &mut String, results: &Results) -> Result<()> {
    writeln!(text, "## What the machine can do\n\n| | median | least | most |\n|---|---|---|---|")?;
    for limit in &results.limits {
        if let Some(Summary { median, least, most, .. }) = Summary::of(limit.values.iter().copied()) {
            let [median, least, most] = [median, least, most].map(three);
            writeln!(text, "| {} | {median} {} | {least} | {most} |", limit.title, limit.unit)?;
        }
    }
    writeln!(text)?;
    Ok(())
}

fn as_json(plan: &Plan, results: &Results) -> serde_json::Value {
    let works: Vec<_> = WORKS
        .iter()
        .map(|work| {
            let stores: BTreeMap<_, _> = results
                .values
                .iter()
                .filter(|((id, _), _)| *id == work.id)
                .map(|((_, kind), values)| (kind.name(), values.values().collect::<Vec<_>>()))
                .collect();
            let lead =
                results.lead(work).map(|(leads, kind)| json!({"by_round": leads, "over": kind.name()}));
            json!({
                "work": work.id, "title": work.title, "group": work.group, "unit": work.unit,
                "more_is_better": work.unit.more_is_better(), "stores": stores, "lead": lead,
            })
        })
        .collect();
    let settings: BTreeMap<_, _> = plan.kinds.iter().map(|kind| (kind.name(), kind.settings())).collect();
    json!({
        "machine": results.machine, "load": results.load, "scale": plan.scale, "rounds": plan.rounds, "seed": plan.seed,
        "settings": settings, "limits": results.limits, "works": works, "failures": results.failures,
    })
}
