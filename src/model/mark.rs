//! Marks: places in a channel between which messages can be counted by one subtraction.

/// A place in a channel: a seq, and the number of counted (not silent) messages up to and with it.
///
/// Two marks of one channel give an exact count of the messages between them by one subtraction of ordinals. The default
/// mark lies before the first message.
///
/// ```
/// let read = chanlog::Mark { seq: 7, ordinal: 6 };
/// let end = chanlog::Mark { seq: 12, ordinal: 9 };
/// assert_eq!(end.ordinal - read.ordinal, 3); // Two of the five messages after `read` are silent.
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Mark {
    /// The seq of a message, or 0 for the place before the first one.
    pub seq: u64,
    /// The number of counted messages with a seq up to `seq`.
    pub ordinal: u64,
}

impl Mark {
    /// The later of two marks of one channel.
    #[must_use]
    pub fn max(self, other: Mark) -> Mark {
        if other.seq > self.seq { other } else { self }
    }

    /// How many messages up to this mark are not counted.
    pub(crate) fn lag(self) -> u64 {
        self.seq.saturating_sub(self.ordinal)
    }

    /// The mark of a seq and its lag; `None` if the lag is greater than the seq.
    pub(crate) fn with_lag(seq: u64, lag: u64) -> Option<Mark> {
        Some(Mark { seq, ordinal: seq.checked_sub(lag)? })
    }

    /// Whether this mark can lie in a channel that ends at `end`.
    pub(crate) fn within(self, end: Mark) -> bool {
        self.ordinal <= self.seq && self.seq <= end.seq && self.ordinal <= end.ordinal
    }
}
