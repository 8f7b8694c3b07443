//! A message as readers get it.

use bytes::Bytes;

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Its place in the channel, from 1.
    pub seq: u64,
    /// The number of counted (not silent) messages of the channel up to and with it.
    pub ordinal: u64,
    /// The number of its change in the whole store.
    pub version: u64,
    /// The name of its sender.
    pub sender: Bytes,
    /// The caller's timestamp, in Unix milliseconds.
    pub timestamp: i64,
    /// Not counted as unread.
    pub silent: bool,
    /// The caller's message id.
    pub id: Option<u64>,
    /// The client's id of the message.
    pub client_id: Option<Bytes>,
    /// The payload. It shares the memory of a mapped file or a cached block, which lives as long as this does; copy it in
    /// order to keep it for long.
    pub payload: Bytes,
}
