//! Checks every byte of a segment and names each fault once.
//!
//! Damage to one block or entry does not hide another. What only follows from a fault, such as totals that are then off,
//! is not reported.

use std::collections::HashSet;

use super::block::Block;
use super::format::{Entry, Extent, Key};
use super::reader::Segment;
use crate::error::Error;
use crate::record::Record;
use crate::sealed::HEADER;

impl Segment {
    /// Checks every page, block, tail and entry, and hands each fault to `report`.
    pub fn verify(&self, report: &mut dyn FnMut(Error)) {
        let mut audit = Audit::new(self, report);
        audit.pages();
        audit.blocks();
        audit.directory();
        audit.totals();
    }
}

/// A check in progress.
struct Audit<'a> {
    segment: &'a Segment,
    report: &'a mut dyn FnMut(Error),
    /// The offsets of what was reported. A bad page shows up again with everything that lies on it.
    faults: HashSet<u64>,
    /// The entry of the last record's channel, and that record's key.
    entry: Option<Entry>,
    last: Option<Key>,
    /// Records in blocks, channels with records in blocks, and channels that should have some.
    records: u64,
    runs: u64,
    expected_runs: u64,
}

impl<'a> Audit<'a> {
    fn new(segment: &'a Segment, report: &'a mut dyn FnMut(Error)) -> Self {
        let faults = HashSet::new();
        Audit { segment, report, faults, entry: None, last: None, records: 0, runs: 0, expected_runs: 0 }
    }

    fn fault(&mut self, fault: Error) {
        let fresh = match &fault {
            Error::Corruption { offset, .. } => self.faults.insert(*offset),
            _ => true,
        };
        if fresh {
            (self.report)(fault);
        }
    }

    fn corrupt(&mut self, offset: u64, what: &str) {
        self.fault(self.segment.sealed.corrupt(offset, what));
    }

    fn pages(&mut self) {
        let segment = self.segment;
        segment.sealed.verify(|fault| self.fault(fault));
    }

    /// Checks each block by itself, and that its records belong to the directory's channels.
    fn blocks(&mut self) {
        for n in 0..self.segment.footer.blocks {
            let loaded = self.segment.handle(n).and_then(|handle| Ok((handle.offset, self.segment.load(n)?)));
            match loaded {
                Ok((offset, block)) => self.block(n, offset, &block),
                // What the next block follows is unknown.
                Err(fault) => {
                    self.fault(fault);
                    self.last = None;
                }
            }
        }
    }

    fn block(&mut self, n: u64, offset: u64, block: &Block) {
        if n == 0 && offset != HEADER as u64 {
            self.corrupt(offset, "bytes before the first block belong to nothing");
        }
        for record in 0..block.len() {
            let bytes = block.record(record);
            let Some(record) = Record::decode(&bytes) else { continue };
            self.version(offset, record.version);
            self.record(offset, (record.channel, record.mark.seq), n == 0);
        }
    }

    /// Checks a record of a block against the directory.
    fn record(&mut self, offset: u64, key: Key, first_block: bool) {
        self.records += 1;
        let begins = self.entry.is_none_or(|entry| entry.channel != key.0);
        if begins {
            self.runs += 1;
            match self.segment.find(key.0) {
                Ok(entry) => self.entry = entry,
                Err(fault) => return self.fault(fault),
            }
        }
        let known = first_block || self.last.is_some();
        self.last = Some(key);
        let Some(entry) = self.entry else {
            return self.corrupt(offset, "a record of a channel that is not in the directory");
        };
        let Extent { first_seq, last_seq, .. } = entry.extent;
        if !(first_seq..last_seq).contains(&key.1) || (begins && known && key.1 != first_seq) {
            self.corrupt(offset, "a record contradicts the directory's extent of its channel");
        }
    }

    fn version(&mut self, offset: u64, version: u64) {
        let (first, last) = self.segment.versions();
        if !(first..=last).contains(&version) {
            self.corrupt(offset, "a record's version is not one of the segment");
        }
    }

    /// Checks each entry by itself, that they ascend, and that the tails fill their section.
    fn directory(&mut self) {
        let footer = self.segment.footer;
        let (mut channel, mut end) = (None, Some(footer.tails));
        for n in 0..footer.channels {
            let entry = match self.segment.entry(n) {
                Ok(entry) => entry,
                Err(fault) => {
                    self.fault(fault);
                    end = None;
                    continue;
                }
            };
            let offset = footer.directory + n * Entry::LEN as u64;
            if channel.replace(entry.channel).is_some_and(|before| before >= entry.channel) {
                self.corrupt(offset, "the channels do not ascend");
            }
            if end.is_some_and(|end| end != entry.tail) {
                self.corrupt(offset, "the tails do not follow each other");
            }
            end = Some(entry.tail + u64::from(entry.tail_len));
            self.expected_runs += u64::from(entry.extent.first_seq < entry.extent.last_seq);
            self.tail(&entry);
        }
        if end.is_some_and(|end| end != footer.index) {
            self.corrupt(footer.index, "the tails do not end where the index begins");
        }
    }

    fn tail(&mut self, entry: &Entry) {
        match self.segment.tail(entry) {
            Ok(bytes) => {
                let version = Record::decode(&bytes).map_or(0, |record| record.version);
                self.version(entry.tail, version);
            }
            Err(fault) => self.fault(fault),
        }
    }

    /// Checks what is only true of a segment without a fault.
    fn totals(&mut self) {
        let footer = self.segment.footer;
        if !self.faults.is_empty() {
            return;
        }
        if footer.blocks == 0 && footer.tails != HEADER as u64 {
            self.corrupt(HEADER as u64, "bytes before the tails belong to nothing");
        }
        if self.runs != self.expected_runs {
            self.corrupt(footer.directory, "a channel's records are missing");
        }
        if self.records.checked_add(footer.channels) != Some(footer.messages) {
            self.corrupt(self.segment.sealed.content_end(), "not as many messages as the footer says");
        }
    }
}
