//! The experiment of this project: what one message into a group costs, when its members' lists are computed as they are
//! read, and when a row is changed for each member as it is written.
//!
//! Both modes use the same store and tables. Read mode is one append. Write mode changes the row of every member, in
//! commits of 10,000 rows, and then appends. Each message is waited for until it is on disk. Bytes are those that were
//! written to the log; write mode's rows cost more later, when they are sealed and merged.

use std::time::{Duration, Instant};

use chanlog::{Batch, Draft, Outcome, Receipt, Store};
use indicatif::{HumanBytes, HumanCount};
use serde::{Serialize, Serializer};

use crate::failure::Result;
use crate::output::{self, Output};
use crate::progress;

/// How many rows are changed in one commit.
const ROWS: u32 = 10_000;
/// How many messages are averaged over, unless that means very many rows.
const MESSAGES: u32 = 100;
const MOST_ROWS: u32 = 100_000;
const TEXT: &str =
    "The fire drill is at three. Leave by the stairs, and meet at the fountain, not at the gate.";

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Read,
    Write,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Read => "read",
            Mode::Write => "write",
        }
    }
}

/// What a message cost, on average over `messages`. Its fields are the keys of its JSON.
#[derive(Serialize)]
struct Cost {
    members: u32,
    mode: Mode,
    messages: u32,
    #[serde(rename = "micros", serialize_with = "micros")]
    time: Duration,
    rows: u64,
    bytes: u64,
}

/// Measures groups of these sizes in both modes, and prints the costs.
pub fn run(store: &Store, groups: &[u32], out: &mut Output, json: bool) -> Result {
    let mut costs = Vec::new();
    for members in groups {
        let group = format!("group/{members}");
        fill(store, &group, *members)?;
        for mode in [Mode::Read, Mode::Write] {
            costs.push(measure(store, &group, *members, mode)?);
        }
    }
    if json { print_json(out, &costs) } else { print_people(out, &costs) }
}

/// Members are the same people in all groups.
fn member(number: u32) -> String {
    format!("member/{number}")
}

fn fill(store: &Store, group: &str, members: u32) -> Result {
    let bar = progress::count("members join", members.into());
    rows(members, |batch, number| {
        batch.join(group, member(number));
    })
    .try_for_each(|batch| {
        bar.inc(batch.len() as u64);
        store.commit(&batch).map(drop)
    })?;
    bar.finish_and_clear();
    Ok(())
}

/// Batches with one operation for each member.
fn rows(members: u32, add: impl Fn(&mut Batch, u32)) -> impl Iterator<Item = Batch> {
    (0..members).step_by(ROWS as usize).map(move |first| {
        let mut batch = Batch::new();
        (first..members.min(first + ROWS)).for_each(|number| add(&mut batch, number));
        batch
    })
}

fn measure(store: &Store, group: &str, members: u32, mode: Mode) -> Result<Cost> {
    let messages = match mode {
        Mode::Read => MESSAGES,
        Mode::Write => (MOST_ROWS / members).clamp(1, MESSAGES),
    };
    let bar = progress::count("messages are sent", messages.into());
    // What the joins left to be written is not the messages' cost.
    store.sync()?;
    let (bytes, started) = (store.stat()?.log_bytes, Instant::now());
    let mut changed = 0;
    for _ in 0..messages {
        changed += send(store, group, members, mode)?;
        bar.inc(1);
    }
    let (time, bytes) = (started.elapsed() / messages, store.stat()?.log_bytes - bytes);
    bar.finish_and_clear();
    let each = u64::from(messages);
    Ok(Cost { members, mode, messages, time, rows: changed / each, bytes: bytes / each })
}

/// Sends one message, and tells how many rows were changed for it.
fn send(store: &Store, group: &str, members: u32, mode: Mode) -> Result<u64> {
    let mut changed = 0;
    if mode == Mode::Write {
        let activate = |batch: &mut Batch, number| {
            batch.activate(group, member(number));
        };
        for batch in rows(members, activate) {
            changed += rows_of(&store.commit(&batch)?);
        }
    }
    let mut batch = Batch::new();
    batch.append(group, Draft::new(member(0), 1_772_463_600_000, TEXT));
    Ok(changed + rows_of(&store.commit(&batch)?))
}

fn rows_of(receipt: &Receipt) -> u64 {
    receipt.outcomes().iter().filter(|outcome| matches!(outcome, Outcome::Changed { .. })).count() as u64
}

fn micros<S: Serializer>(time: &Duration, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_u64(time.as_micros() as u64)
}

fn print_json(out: &mut Output, costs: &[Cost]) -> Result {
    Ok(costs.iter().try_for_each(|cost| out.json(cost))?)
}

fn print_people(out: &mut Output, costs: &[Cost]) -> Result {
    out.line(format!(
        "\nOne message of {} bytes into a group. Read mode: the message is appended, and lists are computed when they\n\
         are read. Write mode: a row of each member is changed too, {} rows a commit. Averages over up to {MESSAGES}\n\
         messages, one after the other, each waited for until it is on disk. Bytes are those written to the log.",
        TEXT.len(),
        HumanCount(ROWS.into()),
    ))?;
    let mut table = output::table(&[">members", "mode", ">messages", ">time", ">rows", ">bytes"]);
    for cost in costs {
        let (members, rows) = (HumanCount(cost.members.into()), HumanCount(cost.rows));
        let (messages, bytes) = (cost.messages.to_string(), HumanCount(cost.bytes).to_string());
        let mode = cost.mode.name().to_string();
        table.add_row([members.to_string(), mode, messages, time(cost.time), rows.to_string(), bytes]);
    }
    out.line(table)?;
    chart(out, "Time a message", costs, |cost| (cost.time.as_micros() as u64, time(cost.time)))?;
    chart(out, "Bytes a message", costs, |cost| (cost.bytes, HumanBytes(cost.bytes).to_string()))
}

fn time(time: Duration) -> String {
    match time.as_micros() {
        micros @ 0..1_000 => format!("{micros} µs"),
        1_000..10_000_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// Bars on a logarithmic scale: on any other, all but the longest would vanish.
fn chart(out: &mut Output, title: &str, costs: &[Cost], of: impl Fn(&Cost) -> (u64, String)) -> Result {
    out.line(format!("\n{title}; each block doubles"))?;
    for cost in costs {
        let (value, label) = of(cost);
        let bar = "█".repeat(value.checked_ilog2().unwrap_or_default() as usize + 1);
        let members = HumanCount(cost.members.into()).to_string();
        out.line(format!("{members:>10}  {:<5}  {bar} {label}", cost.mode.name()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_has_one_row_and_no_commit_is_too_large() {
        let sizes = |members| {
            let add = |batch: &mut Batch, number| {
                batch.leave("group", member(number));
            };
            rows(members, add).map(|batch| batch.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(2), [2]);
        assert_eq!(sizes(10_000), [10_000]);
        assert_eq!(sizes(25_001), [10_000, 10_000, 5_001]);
    }
}
