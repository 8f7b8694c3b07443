//! Opaque tokens: which state of which store a client has seen, and where a list was cut.
//!
//! ```text
//! kind u8        1 = token, 2 = continuation of a list, 3 = of changes
//! store id 16 B
//! session u64                    the session that made the answer, or whose state it shares
//! version v                      v = varint; what changed up to it was told
//! at v                           the version of the state that the answer was made from, as the difference to version
//! gap u8         1 = a gap follows
//! below v, above v               of the list that was cut, what is ordered below, and changed after, was not delivered
//! crc u32
//! ```
//!
//! As text: the bytes in lower-case hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::model::codec::{Put, Reader, crc};

/// Names a state of a store that a client has seen: which store, which of its sessions, which version. Opaque; keep it
/// as text.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let store = chanlog::Store::open(dir.path())?;
/// let token = store.conversations("alice").list()?.as_of;
/// let kept: String = token.to_string();
/// assert_eq!(kept.parse::<chanlog::SyncToken>()?, token);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SyncToken(pub(crate) Seen);

/// Names the place where a limit cut an answer. Opaque; keep it as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Continuation(pub(crate) Cut);

/// What a client has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    pub store: [u8; 16],
    pub session: u64,
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
    out.put_u64(seen.session);
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
    let (store, session, version) = (r.id()?, r.u64()?, r.varint()?);
    let at = version.checked_add(r.varint()?)?;
    let gap = match r.u8()? {
        0 => None,
        _ => Some(Gap { below: r.varint()?, above: r.varint()? }),
    };
    r.is_empty().then_some((kind, Seen { store, session, version, at, gap }))
}

/// Text in human-readable formats, as [`fmt::Display`] gives it.
#[cfg(feature = "serde")]
mod as_text {
    use super::{Continuation, SyncToken};

    macro_rules! as_text {
        ($type:ty) => {
            impl serde::Serialize for $type {
                fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.collect_str(self)
                }
            }

            impl<'de> serde::Deserialize<'de> for $type {
                fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                }
            }
        };
    }

    as_text!(SyncToken);
    as_text!(Continuation);
}

impl fmt::Display for SyncToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(TOKEN, &self.0, f)
    }
}

impl FromStr for SyncToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<SyncToken> {
        match read(text) {
            Some((TOKEN, seen)) => Ok(SyncToken(seen)),
            _ => Err(Error::invalid("this is no token")),
        }
    }
}

impl fmt::Display for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cut::List(seen) => write(LIST, seen, f),
            Cut::Changes(seen) => write(CHANGES, seen, f),
        }
    }
}

impl FromStr for Continuation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Continuation> {
        match read(text) {
            Some((LIST, seen)) if seen.gap.is_some() => Ok(Continuation(Cut::List(seen))),
            Some((CHANGES, seen)) => Ok(Continuation(Cut::Changes(seen))),
            _ => Err(Error::invalid("this is no continuation")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tokens_round_trip(store: [u8; 16], session: u64, version in 0..u64::MAX / 2, ahead in 0..u64::MAX / 2, gap: Option<(u64, u64)>) {
            let gap = gap.map(|(below, above)| Gap { below, above });
            let seen = Seen { store, session, version, at: version + ahead, gap };
            prop_assert_eq!(SyncToken(seen).to_string().parse::<SyncToken>().unwrap(), SyncToken(seen));
            let page = Continuation(Cut::Changes(seen));
            prop_assert_eq!(page.to_string().parse::<Continuation>().unwrap(), page.clone());
            prop_assert!(page.to_string().parse::<SyncToken>().is_err());
        }

        #[test]
        fn any_text_is_parsed_without_panic(text: String) {
            let _ = (text.parse::<SyncToken>(), text.parse::<Continuation>());
        }
    }
}
