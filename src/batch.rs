//! What a caller asks to be written, and what the store answers.

use bytes::Bytes;

use crate::options::Durability;

/// A message that is yet to be written: all but what the store assigns.
///
/// ```
/// use chanlog::Draft;
/// let draft = Draft::new("alice", 1_700_000_000_000, "hello").id(42).client_id("c-1").silent();
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Draft {
    pub(crate) sender: Bytes,
    pub(crate) timestamp: i64,
    pub(crate) silent: bool,
    pub(crate) id: Option<u64>,
    pub(crate) client_id: Option<Bytes>,
    pub(crate) payload: Bytes,
}

impl Draft {
    /// A message from `sender` (1 to 255 bytes), which need not be a member, at `timestamp` (Unix milliseconds; the store
    /// never orders by it).
    pub fn new(sender: impl AsRef<[u8]>, timestamp: i64, payload: impl Into<Bytes>) -> Self {
        Draft {
            sender: Bytes::copy_from_slice(sender.as_ref()),
            timestamp,
            silent: false,
            id: None,
            client_id: None,
            payload: payload.into(),
        }
    }

    /// Not counted as unread.
    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// The caller's own message id.
    pub fn id(mut self, id: u64) -> Self {
        self.id = Some(id);
        self
    }

    /// The client's id of the message, 1 to 64 bytes.
    pub fn client_id(mut self, id: impl AsRef<[u8]>) -> Self {
        self.client_id = Some(Bytes::copy_from_slice(id.as_ref()));
        self
    }
}

/// What of a channel's past a new member may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Visible {
    /// What comes after the join.
    #[default]
    FromNow,
    /// Everything.
    FromStart,
    /// From this seq on; beyond the end means from now.
    FromSeq(u64),
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Append { channel: Bytes, draft: Draft },
    Join { channel: Bytes, user: Bytes, visible: Visible, read: Option<u64> },
    Leave { channel: Bytes, user: Bytes },
    Read { channel: Bytes, user: Bytes, seq: u64 },
    Hide { channel: Bytes, user: Bytes },
    Activate { channel: Bytes, user: Bytes },
}

/// Operations that are written together or not at all, in order, each seeing the ones before it.
///
/// Names are 1 to 255 bytes, any bytes. A batch can be committed several times.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use chanlog::{Batch, Draft, Store};
/// let store = Store::open(dir.path())?;
/// let mut batch = Batch::new();
/// batch.join("general", "alice").join("general", "bob");
/// batch.append("general", Draft::new("alice", 1_700_000_000_000, "hello"));
/// let receipt = store.commit(&batch)?;
/// assert_eq!(receipt.outcomes()[2].seq(), Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) ops: Vec<Op>,
    pub(crate) durability: Option<Durability>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Batch::default()
    }

    /// How many operations it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether it holds no operation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Removes all operations.
    pub fn clear(&mut self) -> &mut Self {
        self.ops.clear();
        self
    }

    /// Chooses the durability of this batch, in place of the store's.
    pub fn durability(&mut self, durability: Durability) -> &mut Self {
        self.durability = Some(durability);
        self
    }

    /// Appends a message to a channel. If the sender is a member, it counts as read for the sender, with all before it.
    pub fn append(&mut self, channel: impl AsRef<[u8]>, draft: Draft) -> &mut Self {
        let channel = name(channel);
        self.push(Op::Append { channel, draft })
    }

    /// Makes a user a member who sees what comes from now on. Joining again as a member changes nothing.
    pub fn join(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>) -> &mut Self {
        self.join_with(channel, user, Visible::FromNow, None)
    }

    /// Makes a user a member who sees the given part of the past, and has read up to `read`; the end if `None`.
    pub fn join_with(
        &mut self,
        channel: impl AsRef<[u8]>,
        user: impl AsRef<[u8]>,
        visible: Visible,
        read: Option<u64>,
    ) -> &mut Self {
        let (channel, user) = (name(channel), name(user));
        self.push(Op::Join { channel, user, visible, read })
    }

    /// Ends a membership. Leaving as a non-member changes nothing.
    pub fn leave(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>) -> &mut Self {
        let (channel, user) = (name(channel), name(user));
        self.push(Op::Leave { channel, user })
    }

    /// Marks a channel as read up to `seq`; beyond the end means to the end, so `u64::MAX` marks all of it.
    pub fn read(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>, seq: u64) -> &mut Self {
        let (channel, user) = (name(channel), name(user));
        self.push(Op::Read { channel, user, seq })
    }

    /// Deletes a conversation from the user's list up to its present end. A later message brings it back.
    pub fn hide(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>) -> &mut Self {
        let (channel, user) = (name(channel), name(user));
        self.push(Op::Hide { channel, user })
    }

    /// Shows a conversation in the user's list even while it is empty.
    pub fn activate(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>) -> &mut Self {
        let (channel, user) = (name(channel), name(user));
        self.push(Op::Activate { channel, user })
    }

    fn push(&mut self, op: Op) -> &mut Self {
        self.ops.push(op);
        self
    }
}

fn name(bytes: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(bytes.as_ref())
}

/// What one operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// A row was changed.
    Changed {
        /// The row's new version in the store.
        version: u64,
    },
    /// There was nothing to change.
    Unchanged,
}

impl Outcome {
    /// The seq of an appended message.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        match *self {
            Outcome::Appended { seq, .. } => Some(seq),
            _ => None,
        }
    }

    /// The version that was taken; `None` if nothing changed.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        match *self {
            Outcome::Appended { version, .. } | Outcome::Changed { version } => Some(version),
            Outcome::Unchanged => None,
        }
    }
}

/// What a commit did, operation by operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
