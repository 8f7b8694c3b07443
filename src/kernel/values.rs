//! Values: the bytes of blobs that are too long for their rows (`model::blob`).
//!
//! A value is a record like any other in the log and in message segments, in a channel of its own whose seqs are versions.
//! It has no head, no chain and no sender: its version alone tells the file, and is its seq there. So sealing and merging
//! treat it as they treat messages, and merges of runs do not meet it.
//!
//! Invariant: a place that a row names leads to the value of that version, length and hash, or to an error.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::fileset::Place;
use super::layer::Layer;
use super::messages::Visit;
use super::view::View;
use crate::error::{Error, Result};
use crate::files::record::Record;
use crate::files::segment::{EVER, Segment};
use crate::files::table;
use crate::model::blob::Blob;
use crate::model::ids::{UserId, VALUES};
use crate::model::image::Stored;
use crate::model::mark::Mark;

/// The record of a value, written at `now`.
pub fn record(version: u64, now: i64, bytes: &[u8]) -> Record<'_> {
    Record {
        channel: VALUES,
        sender: UserId(0),
        mark: Mark { seq: version, ordinal: version },
        version,
        timestamp: now,
        silent: false,
        id: None,
        client_id: None,
        unique_id: None,
        quiet: 0,
        fields: &[],
        payload: bytes,
    }
}

/// Whether a record is a value's, and as [`record`] makes it.
pub fn is_value(found: &Record<'_>) -> bool {
    *found == record(found.version, found.timestamp, found.payload)
}

impl View {
    /// Loads a blob's bytes if they lie outside of its row. They are copied: who keeps a blob does not keep a file. Costs a
    /// look-up in one file; an error leaves the blob as it is.
    pub(crate) fn load(&self, blob: &mut Blob) -> Result<()> {
        if let Some(stored) = blob.stored().copied().filter(|_| blob.bytes().is_none()) {
            blob.fill(self.value(&stored)?);
        }
        Ok(())
    }

    /// The bytes of a blob, loaded if they lie outside of its row.
    pub(crate) fn bytes_of(&self, blob: &Blob) -> Result<Bytes> {
        match (blob.bytes(), blob.stored()) {
            (None, Some(stored)) => self.value(stored),
            (bytes, _) => Ok(bytes.cloned().unwrap_or_default()),
        }
    }

    fn value(&self, stored: &Stored) -> Result<Bytes> {
        let version = stored.version;
        let mut value = None;
        let mut see = |_: &Bytes, found: &Record<'_>| {
            if self.is_it(found, stored) {
                value = Some(Bytes::copy_from_slice(found.payload));
            }
            Ok(ControlFlow::Break(()))
        };
        let active = &self.moment.active;
        let none = if version > active.start.version {
            in_layer(active, version, &mut see)?
        } else {
            match self.moment.files.locate(version) {
                Some(Place::Frozen(layer)) => in_layer(layer, version, &mut see)?,
                Some(Place::Sealed(_, part)) => {
                    in_segment(part.segment.as_ref().map_err(Error::clone)?, version, &mut see)?
                }
                // No file can be named that should hold it; so the store's directory is.
                None => {
                    let log = &active.log.path;
                    Error::corrupt(log.parent().unwrap_or(log), 0, missing(version))
                }
            }
        };
        value.ok_or(none)
    }

    fn is_it(&self, found: &Record<'_>, stored: &Stored) -> bool {
        is_value(found)
            && found.version == stored.version
            && found.payload.len() == stored.len as usize
            && table::hash(&self.moment.files.key, found.payload) == stored.hash
    }
}

fn missing(version: u64) -> String {
    format!("a row names a value of version {version}, which is not there")
}

/// Shows what is in the place of a value, and returns the error if it is not the one.
fn in_layer(layer: &Layer, version: u64, see: &mut Visit<'_>) -> Result<Error> {
    let offset = layer.value(version);
    if let Some(offset) = offset {
        let _ = layer.log.record(offset, see)?;
    }
    Ok(layer.log.corrupt(offset.unwrap_or(0), missing(version)))
}

/// The same, in a message segment.
fn in_segment(segment: &Segment, version: u64, see: &mut Visit<'_>) -> Result<Error> {
    if let Some(entry) = segment.find(VALUES)? {
        let _ = segment.read(&entry, &(version..=version), &EVER, false, see)?;
    }
    Ok(segment.corrupt(missing(version)))
}
