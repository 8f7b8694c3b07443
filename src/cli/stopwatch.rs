//! How long works take: measuring, and what is printed of it.
//!
//! Each call is timed by itself, so that a work has a mean and a bound for nearly all of its calls. A work ends after its calls or
//! after [`MOST`], so that a slow disk makes fewer calls and not a long wait.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use comfy_table::Table;
use indicatif::HumanCount;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::{output, progress};

/// How long a work may take.
const MOST: Duration = Duration::from_secs(3);
/// After how many calls a progress bar moves.
const SHOWN: u64 = 64;

/// How long the units of a work took. Its fields are the keys of its JSON.
#[derive(Serialize)]
pub struct Measured {
    /// What was done.
    work: &'static str,
    /// What a unit of it is.
    unit: &'static str,
    /// How many units were done.
    units: u64,
    /// The time of a unit, in ns.
    nanos: u64,
    /// The times within which half of the calls and 99 of 100 ended, in ns.
    half_nanos: u64,
    most_nanos: u64,
    /// The option of the command.
    messages: u64,
    /// The time of a unit in an earlier run.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<u64>,
    /// The time beside that, as a quotient.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

/// A work: its name, its unit, how many units a call does, and how many calls there are to be.
pub struct Work {
    pub name: &'static str,
    pub unit: &'static str,
    pub units: u64,
    pub calls: u64,
}

/// Measures works, and compares them with earlier ones if there are any.
pub struct Stopwatch {
    messages: u64,
    earlier: Option<Earlier>,
    /// What was measured so far.
    pub measured: Vec<Measured>,
}

/// The times of units in an earlier run, by the names of the works.
type Earlier = HashMap<String, u64>;

/// What is needed of a line of an earlier run.
#[derive(Deserialize)]
struct Line {
    work: String,
    nanos: u64,
    messages: u64,
}

impl Stopwatch {
    /// One for a run with so many messages, to be compared with what that file tells.
    pub fn new(messages: u64, against: Option<&Path>) -> Result<Stopwatch> {
        let earlier = against.map(|file| earlier(file, messages)).transpose()?;
        Ok(Stopwatch { messages, earlier, measured: Vec::new() })
    }

    /// Measures a work by one thread. A call gets its number, and says when its time begins: what it does before is not its time.
    pub fn measure(&mut self, work: &Work, mut call: impl FnMut(u64) -> Result<Duration>) -> Result {
        let bar = progress::count(work.name, work.calls);
        let (begin, mut times) = (Instant::now(), Vec::new());
        for number in 0..work.calls {
            times.push(call(number)?);
            if number % SHOWN == 0 {
                bar.set_position(number);
                if begin.elapsed() > MOST {
                    break;
                }
            }
        }
        bar.finish_and_clear();
        let total = times.iter().sum();
        self.add(work, times, total);
        Ok(())
    }

    /// Measures a work by many threads at once. The time of a unit is a part of the time in which all threads did theirs.
    pub fn together(
        &mut self,
        work: &Work,
        threads: u64,
        call: impl Fn(u64) -> Result<Duration> + Sync,
    ) -> Result {
        let bar = progress::count(work.name, work.calls);
        let begin = Instant::now();
        let part = |thread: u64| {
            let mut times = Vec::new();
            for number in (thread..work.calls).step_by(threads as usize) {
                times.push(call(number)?);
                bar.inc(1);
                if begin.elapsed() > MOST {
                    break;
                }
            }
            Ok(times)
        };
        let parts: Vec<Result<Vec<Duration>>> = std::thread::scope(|scope| {
            let begun: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
            begun.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let total = begin.elapsed();
        bar.finish_and_clear();
        let times = parts.into_iter().collect::<Result<Vec<_>>>()?.concat();
        self.add(work, times, total);
        Ok(())
    }

    fn add(&mut self, work: &Work, mut times: Vec<Duration>, total: Duration) {
        times.sort_unstable();
        let within =
            |part: usize| times.get(times.len().saturating_sub(1) * part / 100).copied().map_or(0, nanos);
        let units = times.len() as u64 * work.units;
        let each = nanos(total) / units.max(1);
        let before = self.earlier.as_ref().and_then(|earlier| earlier.get(work.name)).copied();
        self.measured.push(Measured {
            work: work.name,
            unit: work.unit,
            units,
            nanos: each,
            half_nanos: within(50),
            most_nanos: within(99),
            messages: self.messages,
            before,
            ratio: before.map(|before| each as f64 / before.max(1) as f64),
        });
    }

    /// What was measured, for people.
    pub fn table(&self) -> Table {
        let heads = ["work", ">of", "", ">each", ">a second", ">half of calls", ">99 %", ">before", ">ratio"];
        let columns = if self.earlier.is_some() { heads.len() } else { heads.len() - 2 };
        let mut table = output::table(&heads[..columns]);
        for measured in &self.measured {
            let mut row = vec![
                measured.work.to_owned(),
                HumanCount(measured.units).to_string(),
                measured.unit.to_owned(),
                time(measured.nanos),
                HumanCount(1_000_000_000 / measured.nanos.max(1)).to_string(),
                time(measured.half_nanos),
                time(measured.most_nanos),
                measured.before.map(time).unwrap_or_default(),
                measured.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            ];
            row.truncate(columns);
            table.add_row(row);
        }
        table
    }
}

/// Times a call that commits or reads.
pub fn timed<T>(call: impl FnOnce() -> chanlog::Result<T>) -> Result<Duration> {
    let begin = Instant::now();
    let done = call();
    let time = begin.elapsed();
    done?;
    Ok(time)
}

/// Reads what an earlier run printed as JSON. Stores of other sizes are no comparison.
fn earlier(file: &Path, messages: u64) -> Result<Earlier> {
    let bad = |what: &str| Failure::told(format!("{}: {what}", file.display()));
    let text = fs::read_to_string(file).map_err(|e| bad(&e.to_string()))?;
    let mut earlier = Earlier::new();
    for line in text.lines() {
        let line: Line = serde_json::from_str(line).map_err(|_| bad("not what `bench --json` printed"))?;
        if line.messages != messages {
            return Err(bad(&format!("measured with --messages {}", line.messages)));
        }
        earlier.insert(line.work, line.nanos);
    }
    if earlier.is_empty() { Err(bad("nothing was measured")) } else { Ok(earlier) }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn time(nanos: u64) -> String {
    let (unit, parts) = match nanos {
        0..1_000 => return format!("{nanos} ns"),
        1_000..1_000_000 => ("µs", 1e3),
        1_000_000..1_000_000_000 => ("ms", 1e6),
        _ => ("s", 1e9),
    };
    let number = nanos as f64 / parts;
    if number < 10.0 { format!("{number:.1} {unit}") } else { format!("{number:.0} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_two_digits_or_three() {
        let told = [999, 1_000, 9_940, 123_456, 2_500_000, 12_000_000_000].map(time);
        assert_eq!(told, ["999 ns", "1.0 µs", "9.9 µs", "123 µs", "2.5 ms", "12 s"]);
    }

    #[test]
    fn a_mean_is_of_units_and_a_bound_of_calls() {
        let mut stopwatch = Stopwatch::new(1, None).unwrap();
        let work = Work { name: "work", unit: "row", units: 10, calls: 100 };
        let calls = (0..work.calls).map(|n| Duration::from_nanos(if n == 7 { 11_000 } else { 1_000 }));
        let calls: Vec<_> = calls.collect();
        stopwatch.measure(&work, |number| Ok(calls[number as usize])).unwrap();
        stopwatch.together(&work, 3, |number| Ok(calls[number as usize])).unwrap();
        let [one, many] = &stopwatch.measured[..] else { panic!() };
        assert_eq!((one.units, one.nanos, one.most_nanos), (1_000, 110, 1_000));
        assert_eq!((many.units, many.half_nanos), (1_000, 1_000));
    }
}
