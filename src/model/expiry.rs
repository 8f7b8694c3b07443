//! Which messages are to expire, and when: what upkeep looks at. Readers need no look here, as a message's record holds its time.
//!
//! Rows are by time, so that what is due comes first. One whose message has expired is a tombstone.

use super::ids::ChannelId;
use super::image::{Value, image, put_field, take_field};
use super::key::TimeVersion;
use super::state::State;
use crate::model::codec::Reader;

image! {
    /// A message that is to expire.
    pub struct Expiry: table 29 by TimeVersion;
    marks {}
    fields {
        /// The number of its channel.
        channel: u64 = 1,
        /// Its seq.
        seq: u64 = 2,
        /// Whether it has expired.
        done: bool = 3,
    }
    beside {}
    tombstone |row| row.done;
}

impl Expiry {
    /// The message's channel; `None` if it can't be one.
    pub(crate) fn channel(&self) -> Option<ChannelId> {
        u32::try_from(self.channel).ok().map(ChannelId)
    }

    /// Whether the row leads to a message that there is.
    pub(crate) fn leads(&self, state: &impl State) -> bool {
        let known = self.channel().filter(|channel| state.knows(*channel));
        known.is_some_and(|channel| (1..=state.head(channel).last.seq).contains(&self.seq))
    }
}

/// The number of a record's further field that says when the message expires, in Unix milliseconds.
const EXPIRES: u8 = 1;

/// The further fields of a record.
pub(crate) fn record_fields(expires: Option<i64>) -> Vec<u8> {
    let mut fields = Vec::new();
    if let Some(at) = expires {
        put_field(&mut fields, EXPIRES, Value::Signed(at));
    }
    fields
}

/// When a message expires, by the further fields of its record.
pub(crate) fn expires(fields: &[u8]) -> Option<i64> {
    let mut r = Reader::new(fields);
    while !r.is_empty() {
        if let (EXPIRES, Value::Signed(at)) = take_field(&mut r)? {
            return Some(at);
        }
    }
    None
}

/// The time of a row, by that of a message.
pub(crate) fn time(expires: i64) -> u64 {
    u64::try_from(expires).unwrap_or(0)
}
