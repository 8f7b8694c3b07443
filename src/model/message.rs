//! Messages: as a caller gives one, as the log places one, and as readers get one.

use bytes::Bytes;

use super::ids::{ChannelId, UserId};
use super::mark::Mark;
use super::names::add_name;

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Message {
    /// Its place in the channel, from 1.
    pub seq: u64,
    /// The number of counted (not silent) messages of the channel up to and with it.
    pub ordinal: u64,
    /// The number of its change in the whole store.
    pub version: u64,
    /// The name of its sender; empty if the sender was deleted ([`Batch::delete_user`](crate::Batch::delete_user)).
    pub sender: Bytes,
    /// The caller's timestamp, in Unix milliseconds.
    pub timestamp: i64,
    /// Not counted as unread.
    pub silent: bool,
    /// It is in histories alone ([`Draft::quiet`]), and silent too.
    pub quiet: bool,
    /// The caller's message id.
    pub id: Option<u64>,
    /// The client's id of the message.
    pub client_id: Option<Bytes>,
    /// The caller's id of the message, by which [`Store::message_by_id`](crate::Store::message_by_id) finds it.
    pub unique_id: Option<Bytes>,
    /// When it expires, in Unix milliseconds ([`Draft::expires`]).
    pub expires: Option<i64>,
    /// The payload. It shares the memory of a mapped file or a cached block, which lives as long as this does; copy it in
    /// order to keep it for long. Empty if the message was retracted or erased, or has expired.
    pub payload: Bytes,
    /// What became of it since it was sent.
    pub state: MessageState,
}

/// What became of a message since it was sent.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let store = chanlog::Store::open(dir.path())?;
/// use chanlog::{Batch, Draft, MessageState};
/// store.commit(Batch::new().append("general", Draft::new("alice", 0, "oops")).retract("general", 1))?;
/// let message = &store.history("general").list()?[0];
/// assert!(matches!(message.state, MessageState::Retracted { .. }) && message.payload.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum MessageState {
    /// It is as it was sent.
    #[default]
    Sent,
    /// Its payload is another than the one it was sent with ([`Batch::edit`](crate::Batch::edit)).
    #[non_exhaustive]
    Edited {
        /// The version of the last edit.
        version: u64,
    },
    /// It was retracted: it keeps its place, and its payload is withheld ([`Batch::retract`](crate::Batch::retract)).
    #[non_exhaustive]
    Retracted {
        /// The version of the retraction.
        version: u64,
    },
    /// Its time has come: it keeps its place, and its payload is withheld ([`Draft::expires`]).
    #[non_exhaustive]
    Expired {
        /// The time, in Unix milliseconds.
        at: i64,
    },
    /// It was erased: it keeps its place, its payload is withheld, and the bytes go from the store's files
    /// ([`Batch::erase`](crate::Batch::erase)).
    #[non_exhaustive]
    Erased {
        /// The version of the erasure.
        version: u64,
    },
}

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
    pub(crate) quiet: bool,
    pub(crate) members_only: bool,
    pub(crate) id: Option<u64>,
    pub(crate) client_id: Option<Bytes>,
    pub(crate) unique_id: Option<Bytes>,
    pub(crate) mentions: Vec<u8>,
    pub(crate) mention_all: bool,
    pub(crate) expires: Option<i64>,
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
            quiet: false,
            members_only: false,
            id: None,
            client_id: None,
            unique_id: None,
            mentions: Vec::new(),
            mention_all: false,
            expires: None,
            payload: payload.into(),
        }
    }

    /// Not counted as unread.
    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// The message mentions these users, at most 1,024, beside those of an earlier call. As long as it is unread for one of
    /// them it is one of [`Conversation::mentions`](crate::Conversation::mentions) and
    /// [`Unread::mentions`](crate::Unread::mentions); who is no member gets no notice of it. A sender who mentions themself
    /// mentions nobody, and neither does a silent message. Users whom the store never met become known by it.
    ///
    /// Whom it mentions is kept for these counts only: a message does not tell it, so let the payload say it too. It is no
    /// part of what a repeated send is compared by. Costs a row of about 12 bytes for each user who is named, which is written
    /// without reading any.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// let mut batch = Batch::new();
    /// batch.join("general", "bob").join("general", "carol");
    /// batch.append("general", Draft::new("alice", 0, "@bob: look!").mentions(["bob"]));
    /// batch.append("general", Draft::new("alice", 0, "@all: lunch").mention_all());
    /// store.commit(&batch)?;
    /// assert_eq!((store.unread("bob")?.mentions, store.unread("carol")?.mentions), (2, 1));
    /// store.commit(Batch::new().read("general", "bob", 1).retract("general", 2))?;
    /// assert_eq!((store.unread("bob")?.mentions, store.unread("carol")?.mentions), (0, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn mentions<N: AsRef<[u8]>>(mut self, users: impl IntoIterator<Item = N>) -> Self {
        users.into_iter().for_each(|user| add_name(&mut self.mentions, user.as_ref()));
        self
    }

    /// The message mentions everybody but its sender, as [`Draft::mentions`] says, whether named or not. Costs one row,
    /// whatever the number of members.
    pub fn mention_all(mut self) -> Self {
        self.mention_all = true;
        self
    }

    /// In histories alone: it has a seq like any, and is silent too, but it moves no mark, brings no hidden or cleared
    /// conversation back, and is not what lists show as last or order by. `since` tells of it where the conversation is in the
    /// list, at its old place, so that clients fetch it. Such as a call's signals, typing that is to be kept, or a server's
    /// notes.
    ///
    /// Costs a few bytes more than another message, and the channel about 100 bytes of memory. While such messages are the
    /// channel's last ones, a list may have to read a block in order to show the one before them.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// let mut batch = Batch::new();
    /// batch.join("general", "bob").append("general", Draft::new("alice", 0, "hello"));
    /// batch.append("general", Draft::new("alice", 0, "alice's phone rings").quiet());
    /// store.commit(&batch)?;
    /// let entry = store.conversation("bob", "general")?.expect("it is in the list");
    /// assert_eq!((entry.unread, entry.last_seq), (1, 2));
    /// assert_eq!(entry.last.expect("it is shown").payload, "hello");
    /// assert_eq!(store.history("general").list()?.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// The message expires at a time, in Unix milliseconds; what lies before 1970 counts as its begin. From then on, by the
    /// clock of whoever reads, its payload is withheld from readers: it is a stub that keeps its place
    /// ([`MessageState::Expired`]). That it no longer counts as unread, that lists' updates, feeds and
    /// [`Store::changes`](crate::Store::changes) tell of it, and that its bytes go, as those of an erased message, follows when
    /// upkeep commits it: in the background after each sealing, or by [`Store::expire_due`](crate::Store::expire_due). Order stays. The
    /// time is no part of what a repeated send is compared by.
    ///
    /// Costs a row of about 20 bytes, and another when it expires.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft, MessageState};
    /// let draft = Draft::new("alice", 0, "for a moment").expires(1_000);
    /// store.commit(Batch::new().join("general", "bob").append("general", draft))?;
    /// let message = &store.history("general").list()?[0];
    /// assert!(matches!(message.state, MessageState::Expired { at: 1_000, .. }) && message.payload.is_empty());
    /// assert_eq!(store.unread("bob")?.messages, 1);
    /// assert_eq!(store.expire_due(2_000, usize::MAX)?, 1);
    /// assert_eq!(store.unread("bob")?.messages, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn expires(mut self, at: i64) -> Self {
        self.expires = Some(at.max(0));
        self
    }

    /// Refused with [`Error::NotMember`](crate::Error::NotMember), and the whole batch with it, unless the sender is a
    /// member at that moment. Without it a stranger may send, and becomes a user by it.
    pub fn members_only(mut self) -> Self {
        self.members_only = true;
        self
    }

    /// The caller's own id of the message, 1 to 64 bytes, such as a Matrix event id or the bytes of a number: unique in the whole
    /// store, and [`Store::message_by_id`](crate::Store::message_by_id) finds the message by it. An id that another message has
    /// refuses the batch with [`Error::IdTaken`](crate::Error::IdTaken).
    ///
    /// Costs about 30 bytes in the log, as many in runs and 2.5 of memory for as long as the message is there,
    /// and a look-up in memory, which one in some thousand fresh ids follows up in a file.
    pub fn unique_id(mut self, id: impl AsRef<[u8]>) -> Self {
        self.unique_id = Some(Bytes::copy_from_slice(id.as_ref()));
        self
    }

    /// The caller's own number of the message. It is kept and given back; the store neither checks nor finds by it.
    pub fn id(mut self, id: u64) -> Self {
        self.id = Some(id);
        self
    }

    /// The sending client's own name of the message, 1 to 64 bytes. It makes the send idempotent: repeating it, in the same
    /// channel and by the same sender, appends nothing and answers [`Outcome::Existed`](crate::Outcome::Existed) with the seq
    /// of the first, after a crash with unknown outcome too. The same client id with another payload, or another `silent` or
    /// `quiet`,
    /// refuses the batch with [`Error::Conflict`](crate::Error::Conflict); timestamp and id may differ.
    ///
    /// That holds for a while: see [`Options::client_id_window`](crate::Options::client_id_window). Costs about 45 bytes in
    /// the log, as many in runs, and 2.5 of memory while it holds, and a look-up in memory, which one in some thousand
    /// fresh ids follows up in a file.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft, Error, Outcome};
    /// let send = |at, text: &'static str| {
    ///     let draft = Draft::new("alice", at, text).client_id("phone-1");
    ///     store.commit(Batch::new().append("general", draft))
    /// };
    /// let first = send(1_700_000_000_000, "hello")?;
    /// // The phone did not hear of it, and tries again.
    /// let again = send(1_700_000_009_000, "hello")?;
    /// assert!(matches!(again.outcomes()[0], Outcome::Existed { seq: 1, .. }));
    /// assert_eq!(again.outcomes()[0].seq(), first.outcomes()[0].seq());
    /// assert!(matches!(send(0, "something else"), Err(Error::Conflict { seq: 1, .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn client_id(mut self, id: impl AsRef<[u8]>) -> Self {
        self.client_id = Some(Bytes::copy_from_slice(id.as_ref()));
        self
    }
}

/// A message with its names resolved.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// Where it goes.
    pub channel: ChannelId,
    /// Who sends it.
    pub sender: UserId,
    /// The caller's timestamp.
    pub timestamp: i64,
    /// Not counted as unread.
    pub silent: bool,
    /// In histories alone. It is silent too.
    pub quiet: bool,
    /// Its seq, which follows the channel's last one, if the caller says it.
    pub at: Option<u64>,
    /// The caller's id.
    pub id: Option<u64>,
    /// The client's id.
    pub client_id: Option<&'a [u8]>,
    /// The caller's id, unique in the store.
    pub unique_id: Option<&'a [u8]>,
    /// When it expires, in Unix milliseconds.
    pub expires: Option<i64>,
    /// The payload.
    pub payload: &'a [u8],
}

/// What tells a message from another one.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// Its sender.
    pub sender: UserId,
    /// The hash of its content ([`super::sent::content`]), as it was sent.
    pub content: u64,
    /// Its version.
    pub version: u64,
}

/// Where a message is, and where it came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Its place.
    pub mark: Mark,
    /// Its version.
    pub version: u64,
    /// Its sender.
    pub sender: UserId,
    /// When it expires, in Unix milliseconds.
    pub expires: Option<i64>,
}

/// A message that has its place, and where its record lies in its log segment.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// Its channel.
    pub channel: ChannelId,
    /// Its sender.
    pub sender: UserId,
    /// Its seq and ordinal.
    pub mark: Mark,
    /// Whether it is quiet.
    pub quiet: bool,
    /// Its version.
    pub version: u64,
    /// The version of the channel's message before it, and its seq.
    pub previous: (u64, u64),
    /// The offset of its record.
    pub offset: u32,
}
