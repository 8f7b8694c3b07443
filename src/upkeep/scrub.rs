//! Scrubbing: each sealed file is read again once in an interval, so that damage is found while there still is a backup without
//! it (DESIGN 9.8). Whose turn it is stands in `turns`.

use super::files::{Pace, Upkeep};
use super::step::Done;
use super::turns::MOST;
use crate::env::skip;
use crate::error::Result;
use crate::files::manifest::Manifest;
use crate::files::sealed::{self, Kind};

impl Upkeep {
    /// Reads one sealed file again, if one is due, and tells whether it did. `pace` is called with the bytes read.
    pub fn scrub(&self, pace: &mut Pace<'_>) -> Result<bool> {
        let (interval, now) = (self.options.scrub_interval, self.options.env.unix_ms());
        if interval.is_zero() {
            return Ok(false);
        }
        self.check()?;
        let manifest = self.manifest();
        let Some((kind, id, len)) = self.scrubs.take_due(&manifest, now, interval) else { return Ok(false) };
        let (since, mut faults) = (self.now(), Vec::new());
        let report = &mut |fault| {
            if faults.len() < MOST {
                faults.push(fault);
            }
        };
        sealed::scrub(&*self.disk, (kind, id, len), &manifest.store, pace, report)?;
        self.check()?;
        let entry = |manifest: &Manifest| {
            let entries = if kind == Kind::Segment { &manifest.segments } else { &manifest.runs };
            entries.iter().find(|entry| entry.id == id).copied()
        };
        // What was replaced meanwhile is missing by right.
        let Some(entry) = entry(&self.manifest()) else { return Ok(true) };
        skip(92, || self.scrubs.note(len, &faults));
        self.did(Done::Scrubbed { file: id, kind, bytes: len }, since);
        for fault in faults {
            self.note_damage(&fault, kind, &[entry]);
            self.did(Done::Damaged { fault }, self.now());
        }
        Ok(true)
    }
}
