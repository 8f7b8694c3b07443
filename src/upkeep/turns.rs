//! When each sealed file is read again, and what was found in it (DESIGN 9.8).
//!
//! Whose turn it is needs no memory beyond the process: each file has a place of its own in the interval, by its number, and is
//! due when the wall clock has passed that place. So the reading is spread over the interval, and a restart neither begins anew
//! nor leaves any file out, unless its very turn came while the store was closed; then it waits for the next one.

use std::collections::BTreeMap;
use std::time::Duration;

use super::report::Scrubbed;
use crate::env::sync::Mutex;
use crate::error::Error;
use crate::files::manifest::Manifest;
use crate::files::sealed::Kind;

/// So many faults of a file are told one by one, and so many are kept to be told by `stat`.
pub const MOST: usize = 16;

/// When files were read, and what was found.
#[derive(Default)]
pub struct Scrubs {
    state: Mutex<Turns>,
}

#[derive(Default)]
struct Turns {
    /// For each file the turn that it last had.
    turns: BTreeMap<u64, i64>,
    found: Scrubbed,
}

impl Scrubs {
    /// As of the opening: every file has had the turn that came last.
    pub fn new(manifest: &Manifest, now_ms: i64, interval: Duration) -> Scrubs {
        let turns = files(manifest).map(|(_, id, _)| (id, turn(id, now_ms, interval))).collect();
        Scrubs { state: Mutex::new(Turns { turns, ..Turns::default() }) }
    }

    /// The first file that is due, which has had its turn by that.
    pub fn take_due(&self, manifest: &Manifest, now_ms: i64, interval: Duration) -> Option<(Kind, u64, u64)> {
        let mut state = self.state.lock();
        let named: BTreeMap<u64, ()> = files(manifest).map(|(_, id, _)| (id, ())).collect();
        state.turns.retain(|id, _| named.contains_key(id));
        files(manifest).find(|(_, id, _)| {
            let now = turn(*id, now_ms, interval);
            // One that is seen for the first time was just written.
            let last = state.turns.entry(*id).or_insert(now);
            std::mem::replace(last, now.max(*last)) < now
        })
    }

    /// What was found since the opening.
    pub fn found(&self) -> Scrubbed {
        self.state.lock().found.clone()
    }

    /// Notes what was found in a file.
    pub fn note(&self, bytes: u64, faults: &[Error]) {
        let found = &mut self.state.lock().found;
        found.files += 1;
        found.bytes += bytes;
        found.damaged += u64::from(!faults.is_empty());
        let left = MOST.saturating_sub(found.faults.len());
        found.faults.extend(faults.iter().take(left).map(ToString::to_string));
    }
}

fn files(manifest: &Manifest) -> impl Iterator<Item = (Kind, u64, u64)> {
    let segments = manifest.segments.iter().map(|entry| (Kind::Segment, entry.id, entry.len));
    segments.chain(manifest.runs.iter().map(|entry| (Kind::Run, entry.id, entry.len)))
}

/// The number of turns that a file has had since the clock's begin. Its place in the interval is by its number, well spread.
fn turn(id: u64, now_ms: i64, interval: Duration) -> i64 {
    let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    let spread = u128::from(id.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let place = ((spread * interval as u128) >> 64) as i64;
    now_ms.saturating_add(place).div_euclid(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_one_turn_in_an_interval_and_they_are_spread() {
        let (interval, ms) = (Duration::from_secs(1000), 1_000_000);
        let mut turns = [0; 10];
        for id in 1..=1000 {
            let first = turn(id, 5_000_000, interval);
            assert_eq!(turn(id, 5_000_000 + ms, interval), first + 1);
            let due = (0..10).find(|tenth| turn(id, 5_000_000 + (tenth + 1) * ms / 10, interval) > first);
            turns[due.unwrap() as usize] += 1;
        }
        assert!(turns.iter().all(|count| (80..120).contains(count)), "{turns:?}");
    }
}
