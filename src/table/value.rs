//! The values of lists.
//!
//! ```text
//! row       tag 1 = activated, 2 = left
//!   codes   u8       two bits for each mark, lowest first: base, read, own, deleted
//!                    0 = the zero mark, 1 = the mark before it, 2 = a seq, 3 = a seq and a lag
//!   marks   signed   seq as the difference to the mark before; with code 3 then the lag (seq - ordinal) likewise
//!   version varint   the block's newest version - version
//!   active  signed   version - activated, with tag 1
//!   left_at signed   with tag 2
//! present   tag 1 = present; no bytes
//! ```
//!
//! The mark before is the last one that is not zero. Invariant: no mark has an ordinal above its seq.

use super::list::Value;
use crate::codec::{Put, Reader};
use crate::types::{Mark, Row};

const ACTIVATED: u8 = 1;
const LEFT: u8 = 2;

const ZERO: u8 = 0;
const SAME: u8 = 1;
const SEQ: u8 = 2;
const SEQ_AND_LAG: u8 = 3;

/// Whether a mark can be written.
pub fn valid(mark: Mark) -> bool {
    mark.ordinal <= mark.seq
}

fn lag(mark: Mark) -> u64 {
    mark.seq - mark.ordinal
}

/// The code of `mark` behind `before`.
fn code(mark: Mark, before: Mark) -> u8 {
    match mark {
        _ if mark == Mark::default() => ZERO,
        _ if mark == before => SAME,
        _ if lag(mark) == lag(before) => SEQ,
        _ => SEQ_AND_LAG,
    }
}

fn put_difference(out: &mut Vec<u8>, value: u64, before: u64) {
    out.put_signed(value.wrapping_sub(before) as i64);
}

fn difference(r: &mut Reader<'_>, before: u64) -> Option<u64> {
    Some(before.wrapping_add(r.signed()? as u64))
}

fn decode_mark(code: u8, before: Mark, r: &mut Reader<'_>) -> Option<Mark> {
    match code {
        ZERO => return Some(Mark::default()),
        SAME => return Some(before),
        _ => {}
    }
    let seq = difference(r, before.seq)?;
    let lag = if code == SEQ { lag(before) } else { difference(r, lag(before))? };
    Some(Mark { seq, ordinal: seq.checked_sub(lag)? })
}

impl Value for Row {
    fn tag(&self) -> u8 {
        (u8::from(self.activated > 0) * ACTIVATED) | (u8::from(self.left_at.is_some()) * LEFT)
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn encode(&self, newest: u64, out: &mut Vec<u8>) {
        let codes_at = out.len();
        out.put_u8(0);
        let mut before = Mark::default();
        for (place, mark) in [self.base, self.read, self.own, self.deleted].into_iter().enumerate() {
            let code = code(mark, before);
            out[codes_at] |= code << (2 * place);
            if code >= SEQ {
                put_difference(out, mark.seq, before.seq);
            }
            if code == SEQ_AND_LAG {
                put_difference(out, lag(mark), lag(before));
            }
            if code != ZERO {
                before = mark;
            }
        }
        out.put_varint(newest - self.version);
        if self.activated > 0 {
            put_difference(out, self.version, self.activated);
        }
        if let Some(at) = self.left_at {
            out.put_signed(at);
        }
    }

    fn decode(tag: u8, newest: u64, r: &mut Reader<'_>) -> Option<Self> {
        let codes = r.u8()?;
        let mut before = Mark::default();
        let mut marks = [before; 4];
        for (place, mark) in marks.iter_mut().enumerate() {
            let code = (codes >> (2 * place)) & 3;
            *mark = decode_mark(code, before, r)?;
            if code != ZERO {
                before = *mark;
            }
        }
        let version = newest.checked_sub(r.varint()?)?;
        let activated = if tag & ACTIVATED == 0 { 0 } else { version.wrapping_sub(r.signed()? as u64) };
        let left_at = if tag & LEFT == 0 { None } else { Some(r.signed()?) };
        let [base, read, own, deleted] = marks;
        Some(Row { base, read, own, deleted, activated, left_at, version })
    }
}

impl Value for bool {
    fn tag(&self) -> u8 {
        u8::from(*self)
    }

    fn version(&self) -> u64 {
        0
    }

    fn encode(&self, _: u64, _: &mut Vec<u8>) {}

    fn decode(tag: u8, _: u64, _: &mut Reader<'_>) -> Option<Self> {
        (tag < 2).then_some(tag == 1)
    }
}
