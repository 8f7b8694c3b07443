//! What a batch did, operation by operation.

/// What one operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Outcome {
    /// A message was appended.
    Appended {
        /// Its seq in the channel.
        seq: u64,
        /// The number of counted messages of the channel up to and with it.
        ordinal: u64,
        /// Its version in the store.
        version: u64,
    },
    /// The message was sent before, with the same client id ([`Draft::client_id`](crate::Draft::client_id)) or the same seq
    /// ([`Batch::append_at`](crate::Batch::append_at)), and is as durable as this batch was to be. Nothing was appended.
    Existed {
        /// The seq of the first one in the channel.
        seq: u64,
        /// The version of the first one in the store; 0 if it was trimmed.
        version: u64,
    },
    /// A row was changed.
    Changed {
        /// The row's new version in the store.
        version: u64,
    },
    /// There was nothing to change.
    Unchanged,
}

impl Outcome {
    /// The seq of an appended message, or of one that was sent before.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        match *self {
            Outcome::Appended { seq, .. } | Outcome::Existed { seq, .. } => Some(seq),
            _ => None,
        }
    }

    /// The version that was taken; `None` if nothing changed.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        match *self {
            Outcome::Appended { version, .. } | Outcome::Changed { version } => Some(version),
            Outcome::Existed { .. } | Outcome::Unchanged => None,
        }
    }
}

/// What a commit did, operation by operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Receipt {
    pub(crate) outcomes: Vec<Outcome>,
}

impl Receipt {
    /// One outcome for each operation of the batch, in its order.
    #[must_use]
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }
}
