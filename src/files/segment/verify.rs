//! Checks every byte of a segment and names each fault once, by its offset.
//!
//! Damage to one block or entry does not hide another. What only follows from a fault, such as totals that are then off,
//! is not reported.

use std::collections::HashSet;

use super::block::Block;
use super::directory::{Entry, Tail};
use super::format::Key;
use super::reader::Segment;
use crate::error::Error;
use crate::files::record::Record;
use crate::files::sealed::HEADER;
use crate::model::ids::ChannelId;

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
    /// The bytes of that channel's records so far.
    bytes: u64,
    /// Records in blocks and tails, channels with records in blocks, and channels that should have some.
    records: u64,
    runs: u64,
    expected_runs: u64,
}

impl<'a> Audit<'a> {
    fn new(segment: &'a Segment, report: &'a mut dyn FnMut(Error)) -> Self {
        let faults = HashSet::new();
        Audit {
            segment,
            report,
            faults,
            entry: None,
            last: None,
            bytes: 0,
            records: 0,
            runs: 0,
            expected_runs: 0,
        }
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
        self.run_ends(self.segment.footer.index);
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
            self.bytes += bytes.len() as u64;
        }
    }

    /// Checks a record of a block against the directory.
    fn record(&mut self, offset: u64, key: Key, first_block: bool) {
        self.records += 1;
        let begins = self.entry.is_none_or(|entry| entry.channel != key.0);
        if begins {
            self.run_ends(offset);
            self.runs += 1;
            match self.segment.find(key.0) {
                Ok(entry) => self.entry = entry,
                Err(fault) => {
                    self.entry = None;
                    return self.fault(fault);
                }
            }
        }
        let known = first_block || self.last.is_some();
        self.last = Some(key);
        let Some(entry) = self.entry else {
            return self.corrupt(offset, "a record of a channel that is not in the directory");
        };
        let within = entry.blocks().is_some_and(|(first, last)| (first..=last).contains(&key.1));
        if !within || (begins && known && key.1 != entry.extent.first_seq) {
            self.corrupt(offset, "a record contradicts the directory's extent of its channel");
        }
    }

    /// Checks that the blocks hold the last record of the channel that ends, unless that is a tail.
    fn run_ends(&mut self, offset: u64) {
        if let (Some(entry), Some(last)) = (self.entry, self.last)
            && entry.tail.is_none()
            && last != (entry.channel, entry.extent.last_seq)
        {
            self.corrupt(offset, "a channel's last record is missing");
        }
        let bytes = std::mem::take(&mut self.bytes);
        if self.faults.is_empty() && self.entry.is_some_and(|entry| entry.extent.bytes != bytes) {
            self.corrupt(offset, "a channel has not as many bytes as the directory says");
        }
    }

    fn version(&mut self, offset: u64, version: u64) {
        let (first, last) = self.segment.versions();
        if !(first..=last).contains(&version) {
            self.corrupt(offset, "a record's version is not one of the segment");
        }
    }

    /// Checks each entry by itself, that they ascend, and that entries and tails fill their sections.
    fn directory(&mut self) {
        let footer = self.segment.footer;
        if footer.groups() == 0 && footer.entries != footer.directory {
            self.corrupt(footer.entries, "bytes before the directory belong to nothing");
        }
        let (mut channel, mut end) = (None, Some(footer.tails));
        for n in 0..footer.groups() {
            if n == 0 && self.segment.guide(0).is_ok_and(|(_, offset)| offset != 0) {
                self.corrupt(footer.entries, "bytes before the first group belong to nothing");
            }
            match self.segment.entries(n) {
                Ok(entries) => {
                    for entry in entries {
                        self.entry(entry, &mut channel, &mut end);
                    }
                }
                Err(fault) => {
                    self.fault(fault);
                    end = None;
                }
            }
        }
        if end.is_some_and(|end| end != footer.index) {
            self.corrupt(footer.index, "the tails do not end where the index begins");
        }
    }

    /// Checks an entry. Its channel follows `channel`, and its tail begins at `end` if that is known.
    fn entry(&mut self, entry: Entry, channel: &mut Option<ChannelId>, end: &mut Option<u64>) {
        let directory = self.segment.footer.directory;
        if channel.replace(entry.channel).is_some_and(|before| before >= entry.channel) {
            self.corrupt(directory, "the channels do not ascend");
        }
        self.expected_runs += u64::from(entry.blocks().is_some());
        if let Err(fault) = self.segment.checked(entry) {
            *end = None;
            return self.fault(fault);
        }
        if let Some(tail) = entry.tail {
            if end.is_some_and(|end| end != tail.offset) {
                self.corrupt(directory, "the tails do not follow each other");
            }
            *end = Some(tail.offset + u64::from(tail.len));
            self.tail(&entry, tail);
        }
    }

    fn tail(&mut self, entry: &Entry, place: Tail) {
        self.records += 1;
        match self.segment.tail(entry) {
            Ok(tail) => self.version(place.offset, tail.map_or(0, |record| record.version)),
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
        if self.records != footer.messages {
            self.corrupt(self.segment.sealed.content_end(), "not as many messages as the footer says");
        }
    }
}
