//! The records of a view in order of their versions.
//!
//! Files and layers part the versions among them, so that they are read one after another. A segment is sorted otherwise: as
//! many of its records as fit in a window, those of the least versions, are taken out by a walk over it, and then the next.
//! So memory is bounded, and a segment is read once for each window that it fills.

use std::collections::BTreeMap;
use std::collections::btree_map;

use super::pardon::Pardon;
use crate::env::sync::Arc;
use crate::error::{Error, Result};
use crate::files::record::Record;
use crate::files::segment::Walker;
use crate::kernel::{Layer, View};

/// How many bytes of records are held at most.
const WINDOW: usize = 32 << 20;
/// What a record takes beside its bytes, about.
const ENTRY: usize = 64;

/// Hands out the records of a view.
pub struct Records<'v> {
    view: &'v View,
    /// The segment that is read, and the least version there that was not taken out.
    segment: (usize, u64),
    /// The layers that are left, oldest last.
    layers: Vec<&'v Arc<Layer>>,
    /// Where records lie in the layer that is read.
    offsets: std::vec::IntoIter<u64>,
    ready: btree_map::IntoIter<u64, Vec<u8>>,
    /// How many bytes are held.
    most: usize,
}

impl<'v> Records<'v> {
    /// All of a view.
    pub fn new(view: &'v View) -> Records<'v> {
        let most = (WINDOW as u64).min(view.kernel.options.message_segment) as usize;
        let (layers, offsets) = (view.layers().collect(), Vec::new().into_iter());
        Records { view, segment: (0, 0), layers, offsets, ready: BTreeMap::new().into_iter(), most }
    }

    /// The next encoded record. What can't be read is an error, unless that is pardoned.
    pub fn next(&mut self, pardon: &mut Pardon) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some((version, bytes)) = self.ready.next() {
                return Ok(Some(bytes).filter(|_| version <= self.view.version()));
            }
            if !self.next_window(pardon)? && !self.next_of_layers(pardon)? {
                return Ok(None);
            }
        }
    }

    /// Takes the next records out of a segment. False if there are no more segments.
    fn next_window(&mut self, pardon: &mut Pardon) -> Result<bool> {
        let (at, from) = self.segment;
        let Some(part) = self.view.moment.files.segments.get(at) else { return Ok(false) };
        let segment = match &part.segment {
            Ok(segment) => segment,
            Err(fault) => {
                pardon.note(fault.clone())?;
                self.segment = (at + 1, 0);
                return Ok(true);
            }
        };
        let most = self.most;
        let mut window = Window { from, upto: u64::MAX, records: BTreeMap::new(), bytes: 0, most, pardon };
        segment.walk(&mut window)?;
        self.segment = if window.upto == u64::MAX { (at + 1, 0) } else { (at, window.upto + 1) };
        self.ready = window.records.into_iter();
        Ok(true)
    }

    /// Reads the next records of a layer. False if there are no more layers.
    fn next_of_layers(&mut self, pardon: &mut Pardon) -> Result<bool> {
        let Some(layer) = self.layers.last() else { return Ok(false) };
        if self.offsets.as_slice().is_empty() {
            self.offsets = layer.records().into_iter();
        }
        let (mut records, mut bytes) = (BTreeMap::new(), 0);
        for offset in self.offsets.by_ref() {
            let read = layer.log.record(offset, |_, record| {
                let mut encoded = Vec::new();
                record.encode(&mut encoded);
                bytes += encoded.len() + ENTRY;
                records.insert(record.version, encoded);
                Ok(())
            });
            read.or_else(|fault| pardon.note(fault))?;
            if bytes > self.most {
                break;
            }
        }
        if self.offsets.as_slice().is_empty() {
            self.layers.pop();
        }
        self.ready = records.into_iter();
        Ok(true)
    }
}

/// The records of the least versions from a first one on.
struct Window<'p> {
    from: u64,
    /// Records beyond this version don't fit.
    upto: u64,
    records: BTreeMap<u64, Vec<u8>>,
    bytes: usize,
    most: usize,
    pardon: &'p mut Pardon,
}

impl Walker for Window<'_> {
    fn wants(&self, (least, greatest): (u64, u64)) -> bool {
        greatest >= self.from && least <= self.upto
    }

    fn record(&mut self, bytes: &[u8], record: &Record<'_>) -> Result<()> {
        if !(self.from..=self.upto).contains(&record.version) {
            return Ok(());
        }
        self.records.insert(record.version, bytes.to_vec());
        self.bytes += bytes.len() + ENTRY;
        while self.bytes > self.most
            && self.records.len() > 1
            && let Some((version, gone)) = self.records.pop_last()
        {
            self.bytes -= gone.len() + ENTRY;
            self.upto = version - 1;
        }
        Ok(())
    }

    fn unreadable(&mut self, fault: Error) -> Result<()> {
        // Once for all windows.
        if self.from == 0 { self.pardon.note(fault) } else { Ok(()) }
    }
}
