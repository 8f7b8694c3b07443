//! The footer of a run.
//!
//! ```text
//! format u32    newer ones are refused
//! versions      first u64, last u64: the changes that the run covers
//! key u64       the hash of the empty name, by which a wrong hash key is noticed
//! rows, members, heads, channels, users: each its lengths and counts, see the sections' `Place`
//! ```
//!
//! Sections lie one after another from the file's header to the end of its content, so that a footer holds lengths only
//! and can't place two of them in the same bytes.

use super::{HashKey, heads, list, names};
use crate::codec::{Put, Reader};
use crate::error::{Error, Result};
use crate::sealed::{HEADER, Sealed};

/// The format that this release writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// What lies where in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    pub versions: (u64, u64),
    pub rows: list::Place,
    pub members: list::Place,
    pub heads: heads::Place,
    pub channels: names::Place,
    pub users: names::Place,
}

impl Footer {
    /// The footer's bytes.
    pub fn encode(&self, key: &HashKey) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32(FORMAT);
        out.put_u64(self.versions.0);
        out.put_u64(self.versions.1);
        out.put_u64(names::hash(key, b""));
        self.rows.encode(&mut out);
        self.members.encode(&mut out);
        self.heads.encode(&mut out);
        self.channels.encode(&mut out);
        self.users.encode(&mut out);
        out
    }

    /// Reads the footer of a file. Afterwards all sections are known to lie within its content.
    pub fn decode(file: &Sealed, key: &HashKey) -> Result<Footer> {
        let mut r = Reader::new(file.footer());
        let at = file.len() - crate::sealed::TRAILER as u64 - r.remaining() as u64;
        match r.u32() {
            Some(FORMAT) => {}
            Some(version) if version > FORMAT => {
                return Err(Error::Unsupported { file: file.path().into(), version });
            }
            _ => return Err(file.corrupt(at, "no run's footer")),
        }
        let footer = Footer::decode_known(&mut r, key, file.content_end());
        footer
            .filter(|_| r.is_empty())
            .ok_or_else(|| file.corrupt(at, "the footer contradicts itself, or the hash key"))
    }

    fn decode_known(r: &mut Reader<'_>, key: &HashKey, content_end: u64) -> Option<Footer> {
        let versions = (r.u64()?, r.u64()?);
        let good = versions.0 <= versions.1.saturating_add(1) && r.u64()? == names::hash(key, b"");
        let rows = list::Place::decode(r, HEADER as u64)?;
        let members = list::Place::decode(r, rows.end()?)?;
        let heads = heads::Place::decode(r, members.end()?)?;
        let channels = names::Place::decode(r, heads.end()?)?;
        let users = names::Place::decode(r, channels.end()?)?;
        (good && users.end()? == content_end).then_some(Footer {
            versions,
            rows,
            members,
            heads,
            channels,
            users,
        })
    }
}
