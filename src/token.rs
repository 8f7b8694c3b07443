//! Opaque tokens: which state of which store a client has seen, and where a list was cut.
//!
//! ```text
//! kind u8        1 = token, 2 = page of a list, 3 = page of changes
//! store id 16 B
//! incarnation v                  v = varint
//! version v                      what changed up to it was told
//! at v                           the version of the state that the answer was made from, as the difference to version
//! gap u8         1 = a gap follows
//! below v, above v               of the list that was cut, what is ordered below, and changed after, was not delivered
//! crc u32
//! ```
//!
//! As text: the bytes in lower-case hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use crate::codec::{Put, Reader, crc};
use crate::error::{Error, Result};

/// Names a state of a store that a client has seen: which store, which of its incarnations, which version. Opaque; keep it
/// as text.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let store = chanlog::Store::open(dir.path())?;
/// let token = store.conversations("alice").list()?.as_of;
/// let kept: String = token.to_string();
/// assert_eq!(kept.parse::<chanlog::Token>()?, token);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub(crate) Seen);

/// Names the place where a limit cut an answer. Opaque; keep it as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Page(pub(crate) Cut);

/// What a client has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    pub store: [u8; 16],
    pub incarnation: u32,
    /// What changed up to this version was told.
    pub version: u64,
    /// The version of the state that the answer was made from. If that state is lost, so is what was told of it.
    pub at: u64,
    pub gap: Option<Gap>,
}

/// What of a list was not delivered because a limit cut it: the entries ordered below `below` and changed after `above`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gap {
    pub below: u64,
    pub above: u64,
}

/// Where an answer was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// A list, whose gap says where it goes on.
    List(Seen),
    /// A list of changes, which goes on as if asked anew.
    Changes(Seen),
}

const TOKEN: u8 = 1;
const LIST: u8 = 2;
const CHANGES: u8 = 3;

fn write(kind: u8, seen: &Seen, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut out = Vec::with_capacity(48);
    out.put_u8(kind);
    out.put(&seen.store);
    out.put_varint(seen.incarnation.into());
    out.put_varint(seen.version);
    out.put_varint(seen.at.saturating_sub(seen.version));
    out.put_u8(seen.gap.is_some().into());
    if let Some(gap) = seen.gap {
        out.put_varint(gap.below);
        out.put_varint(gap.above);
    }
    let crc = crc(&[&out]);
    out.put_u32(crc);
    out.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn read(text: &str) -> Option<(u8, Seen)> {
    let digits = text.as_bytes();
    if digits.len() > 256 || !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = digits.chunks(2).map(byte).collect::<Option<_>>()?;
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    if crc(&[body]).to_le_bytes() != sum {
        return None;
    }
    let mut r = Reader::new(body);
    let kind = r.u8()?;
    let (store, incarnation, version) = (r.id()?, r.varint32()?, r.varint()?);
    let at = version.checked_add(r.varint()?)?;
    let gap = match r.u8()? {
        0 => None,
        _ => Some(Gap { below: r.varint()?, above: r.varint()? }),
    };
    r.is_empty().then_some((kind, Seen { store, incarnation, version, at, gap }))
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(TOKEN, &self.0, f)
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Token> {
        match read(text) {
            Some((TOKEN, seen)) => Ok(Token(seen)),
            _ => Err(Error::invalid("not a token")),
        }
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cut::List(seen) => write(LIST, seen, f),
            Cut::Changes(seen) => write(CHANGES, seen, f),
        }
    }
}

impl FromStr for Page {
    type Err = Error;

    fn from_str(text: &str) -> Result<Page> {
        match read(text) {
            Some((LIST, seen)) if seen.gap.is_some() => Ok(Page(Cut::List(seen))),
            Some((CHANGES, seen)) => Ok(Page(Cut::Changes(seen))),
            _ => Err(Error::invalid("not a page")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tokens_round_trip(store: [u8; 16], incarnation: u32, version in 0..u64::MAX / 2, ahead in 0..u64::MAX / 2, gap: Option<(u64, u64)>) {
            let gap = gap.map(|(below, above)| Gap { below, above });
            let seen = Seen { store, incarnation, version, at: version + ahead, gap };
            prop_assert_eq!(Token(seen).to_string().parse::<Token>().unwrap(), Token(seen));
            let page = Page(Cut::Changes(seen));
            prop_assert_eq!(page.to_string().parse::<Page>().unwrap(), page.clone());
            prop_assert!(page.to_string().parse::<Token>().is_err());
        }

        #[test]
        fn any_text_is_parsed_without_panic(text: String) {
            let _ = (text.parse::<Token>(), text.parse::<Page>());
        }
    }
}
