//! The handle that callers hold.

mod apply;
mod commit;
mod engine;
mod erasures;
mod keeping;
mod threads;
mod workers;

use std::future::Future;
use std::ops::RangeInclusive;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::env::sync::Arc;
use crate::error::{Error, Result};
use crate::kernel::{Kernel, View};
use crate::model::annotation::Annotation;
use crate::model::batch::Batch;
use crate::model::channel::Channel;
use crate::model::head::Head;
use crate::model::ids::Named;
use crate::model::membership::Membership;
use crate::model::outcome::Receipt;
use crate::model::set::SetMember;
use crate::model::user::User;
use crate::options::Options;
use crate::read::{
    Annotations, At, ChannelChanges, Conversation, Conversations, Feed, Found, History, Listing, Of,
    SetListing, SetSide, Unread,
};
use crate::upkeep::backup::Backup;
use crate::upkeep::erasures::Erasing;
use crate::upkeep::report::{Recovery, Stat};
use crate::upkeep::retention::Retained;
pub use apply::Applied;
pub use commit::Commit;
use engine::Engine;
pub use erasures::ErasedAgain;

/// An open store. Cheap to clone; all clones are one store, which closes when the last one goes.
#[derive(Clone, Debug)]
pub struct Store {
    handle: Arc<CloseOnDrop>,
}

/// Closes the store when the last clone of [`Store`] goes.
#[derive(Debug)]
struct CloseOnDrop {
    engine: Arc<Engine>,
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        // Subscribers are told of an error; nobody else can be.
        let _ = self.engine.close();
    }
}

/// A publication that is newer than a version, to be awaited. Made by [`Store::changed`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct NextVersion {
    kernel: Arc<Kernel>,
    version: u64,
}

impl Future for NextVersion {
    type Output = Result<u64>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<u64>> {
        self.kernel.poll_for(self.version, context.waker()).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Options {
    /// Opens the store in `dir`, or makes one if the directory is absent or empty.
    ///
    /// # Errors
    /// [`Error::Locked`] if it is open elsewhere, after [`Options::lock_timeout`]; [`Error::NotAStore`] if the directory holds something else,
    /// [`Error::Unsupported`] if a newer release wrote it, [`Error::Corruption`] if it is damaged; in all these cases
    /// nothing was changed.
    ///
    /// [`Error::Locked`]: crate::Error::Locked
    /// [`Error::NotAStore`]: crate::Error::NotAStore
    /// [`Error::Unsupported`]: crate::Error::Unsupported
    /// [`Error::Corruption`]: crate::Error::Corruption
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Store> {
        let engine = Engine::open(self, dir.as_ref())?;
        if engine.has_background() {
            workers::begin(&engine)?;
        }
        Ok(Store { handle: Arc::new(CloseOnDrop { engine }) })
    }
}

impl Store {
    /// Opens the store in `dir` with the default options, or makes one. See [`Options::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Store> {
        Options::new().open(dir)
    }

    /// A view of now, on which several questions get answers of one moment.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn view(&self) -> Result<View> {
        self.handle.engine.kernel.held_view()
    }

    fn at(&self) -> At<'_> {
        At::Now(&self.handle.engine.kernel)
    }

    /// A view for one call.
    fn now(&self) -> Result<View> {
        self.handle.engine.kernel.view()
    }

    /// Writes a batch and waits for it: [`Store::submit`] and [`Commit::wait`] in one.
    ///
    /// A message costs one record in the log and one sync, which concurrent commits share. Neither grows with the number
    /// of members of its channel.
    ///
    /// # Errors
    /// As for both.
    pub fn commit(&self, batch: &Batch) -> Result<Receipt> {
        self.submit(batch)?.wait()
    }

    /// Checks and writes a batch, and returns without waiting for its durability. Later batches of any thread come after
    /// it. Blocks when sealing is too far behind.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::NotMember`], [`Error::ConditionFailed`], [`Error::Conflict`],
    /// [`Error::IdTaken`] and [`Error::TooLarge`]: the batch is refused, and nothing of it was written.
    /// [`Error::NoPosition`]: the same, by a replica. [`Error::OutOfSpace`]: the same; try again when there is room. [`Error::Poisoned`]: the writer has stopped.
    /// [`Error::Closed`].
    ///
    /// [`Error::InvalidArgument`]: crate::Error::InvalidArgument
    /// [`Error::NotMember`]: crate::Error::NotMember
    /// [`Error::ConditionFailed`]: crate::Error::ConditionFailed
    /// [`Error::Conflict`]: crate::Error::Conflict
    /// [`Error::IdTaken`]: crate::Error::IdTaken
    /// [`Error::TooLarge`]: crate::Error::TooLarge
    /// [`Error::NoPosition`]: crate::Error::NoPosition
    /// [`Error::OutOfSpace`]: crate::Error::OutOfSpace
    /// [`Error::Poisoned`]: crate::Error::Poisoned
    /// [`Error::Closed`]: crate::Error::Closed
    pub fn submit(&self, batch: &Batch) -> Result<Commit> {
        let submitted = self.handle.engine.submit(batch).map_err(|error| self.complete(error, batch))?;
        Ok(Commit::new(self.handle.engine.clone(), submitted))
    }

    /// Fills in what a refusal could not tell under the writer's lock: the channel of the message that has an id.
    fn complete(&self, mut error: Error, batch: &Batch) -> Error {
        if let Error::IdTaken { op, channel, .. } = &mut error
            && let Some(id) = batch.ops().nth(*op).and_then(|op| op.unique_id())
            && let Ok(Some(found)) = self.message_by_id(id)
        {
            *channel = found.channel;
        }
        error
    }

    /// The message to which its caller gave this id ([`Draft::unique_id`](crate::Draft::unique_id)), and its channel. Costs two
    /// look-ups and the message.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "hi").unique_id("$event-1")))?;
    /// let found = store.message_by_id("$event-1")?.expect("it was sent");
    /// assert_eq!((&found.channel[..], found.message.seq), (&b"general"[..], 1));
    /// assert!(store.message_by_id("$event-2")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn message_by_id(&self, id: impl AsRef<[u8]>) -> Result<Option<Found>> {
        self.now()?.message_by_id(id)
    }

    /// The head of a channel; an unknown one is empty. Costs a look-up of the name and a read of memory.
    pub fn head(&self, channel: impl AsRef<[u8]>) -> Result<Head> {
        self.now()?.head(channel)
    }

    /// What a server keeps with a channel; `None` if there is no such channel, and defaults if nothing was ever kept. Costs
    /// two look-ups.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// # use chanlog::Batch;
    /// store.commit(Batch::new().channel_attributes("general", "title=General").join("random", "bob"))?;
    /// assert_eq!(store.channel("general")?.expect("it is there").attributes, "title=General");
    /// assert_eq!(store.channel("random")?.expect("it is there").class, 0);
    /// assert!(store.channel("unheard of")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn channel(&self, channel: impl AsRef<[u8]>) -> Result<Option<Channel>> {
        self.now()?.channel(channel)
    }

    /// What a server keeps with a user; `None` if there is no such user, and defaults if nothing was ever kept. Costs two
    /// look-ups.
    pub fn user(&self, user: impl AsRef<[u8]>) -> Result<Option<User>> {
        self.now()?.user(user)
    }

    /// Whether there is a channel of this name: whether anybody ever joined it, sent to it, or kept
    /// something with it. Tells an empty channel from an
    /// unknown one, whose heads are alike. Costs a look-up of the name.
    pub fn has_channel(&self, channel: impl AsRef<[u8]>) -> Result<bool> {
        self.now()?.has_channel(channel)
    }

    /// The heads of many channels, all of one moment.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// # use chanlog::{Batch, Draft};
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "hi")).join("general", "bob"))?;
    /// let heads = store.heads(["general", "unheard of"])?;
    /// assert_eq!((heads[0].last.seq, heads[0].members), (1, 1));
    /// assert_eq!(heads[1], chanlog::Head::default());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn heads<N: AsRef<[u8]>>(&self, channels: impl IntoIterator<Item = N>) -> Result<Vec<Head>> {
        self.now()?.heads(channels)
    }

    /// A range of a channel's messages, to be narrowed and read. An unknown channel has none.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// # use chanlog::{Batch, Draft};
    /// # for text in ["one", "two", "three"] {
    /// #     store.commit(Batch::new().append("general", Draft::new("alice", 0, text)))?;
    /// # }
    /// let page = store.history("general").from(2).limit(20).list()?;
    /// assert_eq!(page[0].payload, "two");
    /// let last = store.history("general").last(1)?;
    /// assert_eq!(last[0].payload, "three");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn history(&self, channel: impl AsRef<[u8]>) -> History<'_> {
        History::new(self.at(), channel.as_ref())
    }

    /// What is kept with the messages of a channel ([`Batch::annotate`](crate::Batch::annotate)), to be narrowed and read. An
    /// unknown channel has nothing.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// # use chanlog::{Batch, Draft};
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "hi")).annotate("general", 1, "bob", ":)"))?;
    /// let of_page = store.annotations("general").from(1).to(20).limit(1000).list()?;
    /// assert_eq!((of_page[0].seq, &of_page[0].key[..]), (1, &b"bob"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn annotations(&self, channel: impl AsRef<[u8]>) -> Annotations<'_> {
        Annotations::new(self.at(), channel.as_ref())
    }

    /// What is kept with a message under a key; `None` if nothing is. Costs a look-up, whatever else is kept with it.
    pub fn annotation(
        &self,
        channel: impl AsRef<[u8]>,
        seq: u64,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Annotation>> {
        self.now()?.annotation(channel, seq, key)
    }

    /// What changed in a channel after its messages were sent: edits, retractions, and annotations that were set or removed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// # use chanlog::{Batch, ChangeKind, Draft};
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "hi")).join("general", "bob"))?;
    /// let seen = store.head("general")?.content;
    /// store.commit(Batch::new().annotate("general", 1, "bob", ":)").retract("general", 1))?;
    /// let changes = store.changes("general").since(seen).limit(100).list()?;
    /// assert!(matches!(&changes[0].kind, ChangeKind::Annotated { key, .. } if key == "bob"));
    /// assert_eq!((changes[1].seq, &changes[1].kind), (1, &ChangeKind::Retracted));
    /// let rest = store.changes("general").since(changes[1].version).list()?;
    /// assert!(rest.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn changes(&self, channel: impl AsRef<[u8]>) -> ChannelChanges<'_> {
        ChannelChanges::new(self.at(), channel.as_ref())
    }

    /// All that happens in the store's channels, in the order in which it was committed: from the beginning, or after a token.
    /// What a search index, a push service or a copy elsewhere is fed from.
    ///
    /// Rows of members and users are not told: [`Conversations::since`](crate::Conversations::since) and
    /// [`Listing::since`](crate::Listing::since) tell of those. Costs nothing until it is read.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft, Event};
    /// use std::time::Duration;
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "hi")).join("general", "bob"))?;
    /// let mut feed = store.feed();
    /// let Some(Ok(Event::Message { channel, message, .. })) = feed.next() else { panic!() };
    /// assert_eq!((&channel[..], &message.payload[..]), (&b"general"[..], &b"hi"[..]));
    /// assert!(feed.next().is_none());
    /// let kept: String = feed.token()?.to_string();
    ///
    /// // Later, or in another process.
    /// store.commit(Batch::new().retract("general", 1))?;
    /// let mut feed = store.feed().after(&kept.parse()?);
    /// while feed.wait(Duration::from_millis(10))? {
    ///     for event in &mut feed {
    ///         assert!(matches!(event?, Event::Change { change, .. } if change.seq == 1));
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn feed(&self) -> Feed {
        Feed::new(self.handle.engine.kernel.clone())
    }

    /// The version of the last change that is published, by which [`Store::wait`] waits for the next one.
    pub fn version(&self) -> Result<u64> {
        Ok(self.now()?.version())
    }

    /// Waits, at most so long, until something newer than a version is published, and tells the version then, or the same
    /// version if nothing came. No thread and no memory is kept for who waits. To follow a user's list, wait, and ask
    /// [`Conversations::since`](crate::Conversations::since) again.
    ///
    /// A read-only store shows the moment of its opening, and nothing comes.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// use std::time::Duration;
    /// let seen = store.version()?;
    /// assert_eq!(store.wait(seen, Duration::from_millis(1))?, seen);
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "hi")))?;
    /// assert!(store.wait(seen, Duration::from_secs(60))? > seen);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed), also when the store is closed meanwhile.
    pub fn wait(&self, version: u64, timeout: Duration) -> Result<u64> {
        let deadline = Instant::now().checked_add(timeout);
        Ok(self.handle.engine.kernel.wait_for(version, deadline).transpose()?.unwrap_or(version))
    }

    /// The same for a task, under any runtime: awaits a publication that is newer than a version, and tells the version then.
    ///
    /// The waker is called while the store holds locks: it may schedule its task, as wakers do, but not call the store.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// let seen = store.version()?;
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "hi")))?;
    /// assert!(store.changed(seen).await? > seen);
    /// # Ok(())
    /// # }
    /// ```
    pub fn changed(&self, version: u64) -> NextVersion {
        NextVersion { kernel: self.handle.engine.kernel.clone(), version }
    }

    /// One membership; `None` for a non-member.
    pub fn membership(
        &self,
        channel: impl AsRef<[u8]>,
        user: impl AsRef<[u8]>,
    ) -> Result<Option<Membership>> {
        self.now()?.membership(channel, user)
    }

    /// The part of a channel that somebody who left may still read ([`Batch::leave_with`](crate::Batch::leave_with)), what was
    /// trimmed since and what the user had hidden included; `None` for a member, and if nothing was kept.
    pub fn kept_history(
        &self,
        channel: impl AsRef<[u8]>,
        user: impl AsRef<[u8]>,
    ) -> Result<Option<RangeInclusive<u64>>> {
        self.now()?.kept_history(channel, user)
    }

    /// What a member hid of a channel from themself ([`Batch::forget`](crate::Batch::forget)), as ranges of seqs in order.
    /// [`Versions::row`](crate::Versions::row) of the user's entry tells whether it may have changed.
    pub fn forgotten(
        &self,
        channel: impl AsRef<[u8]>,
        user: impl AsRef<[u8]>,
    ) -> Result<Vec<RangeInclusive<u64>>> {
        self.now()?.forgotten(channel, user)
    }

    /// A user's conversation list, to be narrowed and read. An unknown user's is empty.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// # use chanlog::{Batch, Draft, ListChange, Update};
    /// store.commit(Batch::new().join("general", "bob").append("general", Draft::new("alice", 0, "hi")))?;
    /// let list = store.conversations("bob").limit(20).list()?;
    /// assert_eq!((list.entries[0].unread, list.next), (1, None));
    ///
    /// store.commit(Batch::new().read("general", "bob", u64::MAX))?;
    /// let Update::Changes { changes, .. } = store.conversations("bob").since(&list.as_of)? else { panic!() };
    /// assert!(matches!(&changes[..], [ListChange::Entry(entry)] if entry.unread == 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn conversations(&self, user: impl AsRef<[u8]>) -> Conversations<'_> {
        Conversations::new(self.at(), user.as_ref())
    }

    /// One entry of a user's conversation list; `None` if the channel is not in it. Costs what one entry of a list costs,
    /// whatever the number of the user's channels.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// # use chanlog::{Batch, Draft};
    /// store.commit(Batch::new().join("general", "bob").append("general", Draft::new("alice", 0, "hi")))?;
    /// let entry = store.conversation("bob", "general")?.expect("it is in the list");
    /// assert_eq!(entry.unread, 1);
    /// assert_eq!(store.conversation("bob", "random")?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn conversation(
        &self,
        user: impl AsRef<[u8]>,
        channel: impl AsRef<[u8]>,
    ) -> Result<Option<Conversation>> {
        self.now()?.conversation(user, channel)
    }

    /// How much of a user's conversation list is unread, in sums: what a badge shows. Costs one step for each row of the
    /// user; no message is read. [`Conversations::unread`] counts some classes of channels only.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// # use chanlog::{Batch, Draft};
    /// store.commit(Batch::new().join("general", "bob").append("general", Draft::new("alice", 0, "hi")))?;
    /// let unread = store.unread("bob")?;
    /// assert_eq!((unread.messages, unread.conversations, unread.flagged), (1, 1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unread(&self, user: impl AsRef<[u8]>) -> Result<Unread> {
        self.now()?.unread(user)
    }

    /// The members of a channel, in the order in which the store first met them.
    pub fn members(&self, channel: impl AsRef<[u8]>) -> Listing<'_> {
        Listing::new(self.at(), Of::Members(channel.as_ref().into()))
    }

    /// The channels that a user is a member of, in the order in which the store first met them.
    pub fn channels_of(&self, user: impl AsRef<[u8]>) -> Listing<'_> {
        Listing::new(self.at(), Of::Channels(user.as_ref().into()))
    }

    /// The users in a set of a channel ([`Batch::add_to_set`](crate::Batch::add_to_set)), in the order in which the store
    /// first met them.
    pub fn set(&self, channel: impl AsRef<[u8]>, set: u8) -> SetListing<'_> {
        SetListing::new(self.at(), SetSide::Users(channel.as_ref().into()), set)
    }

    /// The channels that have a user in such a set, in the order in which the store first met them.
    pub fn sets_of(&self, user: impl AsRef<[u8]>, set: u8) -> SetListing<'_> {
        SetListing::new(self.at(), SetSide::Channels(user.as_ref().into()), set)
    }

    /// The row of a user in a set of a channel; `None` for who is not in it. Costs a look-up.
    pub fn set_member(
        &self,
        channel: impl AsRef<[u8]>,
        set: u8,
        user: impl AsRef<[u8]>,
    ) -> Result<Option<SetMember>> {
        self.now()?.set_member(channel, set, user)
    }

    /// All channels, by name.
    pub fn channels(&self) -> Listing<'_> {
        Listing::new(self.at(), Of::Names(Named::Channel))
    }

    /// All users, by name: whoever joined or sent.
    pub fn users(&self) -> Listing<'_> {
        Listing::new(self.at(), Of::Names(Named::User))
    }

    /// Whether a user is or ever was a member of a channel.
    pub fn has_memberships(&self, user: impl AsRef<[u8]>) -> Result<bool> {
        self.now()?.has_memberships(user)
    }

    /// What opening found and did.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.handle.engine.recovery
    }

    /// Counts and sizes.
    pub fn stat(&self) -> Result<Stat> {
        self.handle.engine.stat()
    }

    /// Makes all that was written durable, buffered commits included.
    pub fn sync(&self) -> Result<()> {
        self.handle.engine.sync()
    }

    /// Does one step of sealing, merging, scrubbing or erasing, if there is one to do, and tells whether it did. Background threads do the
    /// same unless [`Options::background`] turned them off.
    pub fn maintain(&self) -> Result<bool> {
        self.handle.engine.maintain()
    }

    /// Ends the present log segment and seals all there is, whatever its size.
    pub fn seal(&self) -> Result<()> {
        self.handle.engine.seal()
    }

    /// Seals all there is and merges all that may be merged, without rest, in the caller's thread: before a backup, or when
    /// there is time for it. Reads are quicker by that and take less memory, and tombstones that are old enough go. Costs up
    /// to a rewrite of all rows, and of all messages that were not yet merged.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// # use chanlog::{Batch, Draft};
    /// for text in ["one", "two", "three"] {
    ///     store.commit(Batch::new().append("general", Draft::new("alice", 0, text)))?;
    ///     store.seal()?;
    /// }
    /// store.compact()?;
    /// let stat = store.stat()?;
    /// assert_eq!((stat.segments.count, stat.runs.count), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compact(&self) -> Result<()> {
        self.handle.engine.compact()
    }

    /// Trims channels that hold more than their retention policies say ([`Batch::retention`](crate::Batch::retention),
    /// [`Options::retention`](crate::Options::retention)), by ordinary commits of at most 256 channels each. `now` is the time, in
    /// Unix milliseconds, from which ages count: who calls answers for it. Looks at the next `most` channels that may have a
    /// policy, and goes on from there when called again. Background threads do the same after each sealing, by the clock; but
    /// a clock more than an hour beyond the process's last commit is taken for that hour, so that one that jumps takes nothing.
    ///
    /// Costs a head for each channel that has a policy, with an age limit one message more, with one of bytes a look-up in each
    /// file with messages that stay, its unsealed messages and at most one block, and what [`Batch::trim`] costs
    /// for each that is trimmed. Where the store once lost buffered messages, a count costs reading as many messages as it keeps,
    /// in a channel that may hold more.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use chanlog::{Batch, Draft, Options, RetentionPolicy};
    /// let keep = RetentionPolicy::new().max_age(std::time::Duration::from_secs(60));
    /// let store = Options::new().retention(keep).open(dir.path())?;
    /// store.commit(Batch::new().append("general", Draft::new("alice", 1_000, "old")))?;
    /// store.commit(Batch::new().append("general", Draft::new("alice", 90_000, "new")))?;
    /// let retained = store.enforce_retention(100_000, usize::MAX)?;
    /// assert_eq!((retained.channels, retained.trimmed, retained.done), (1, 1, true));
    /// assert_eq!(store.history("general").list()?[0].payload, "new");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Store::commit`] and of reading a message; what was trimmed by then stays so.
    pub fn enforce_retention(&self, now: i64, most: usize) -> Result<Retained> {
        self.handle.engine.enforce_retention(now, most)
    }

    /// Ends up to `most` memberships of users who were deleted ([`Batch::delete_user`](crate::Batch::delete_user)), by ordinary
    /// commits of at most 256 each, and tells how many it ended: fewer than `most` if none is left. Until then
    /// [`Head::members`](crate::Head::members) counts such users; nothing else tells of them. Background threads do the same
    /// before they merge. Costs a walk over the rows of each such user, and a row for each membership.
    ///
    /// # Errors
    /// Those of [`Store::commit`]; what was ended by then stays so.
    pub fn finish_deletions(&self, most: usize) -> Result<u64> {
        self.handle.engine.finish_deletions(most)
    }

    /// Lets messages expire whose time has come ([`Draft::expires`](crate::Draft::expires)), at most `most`, by ordinary commits of at
    /// most 256 each, and tells how many did: fewer than `most` if no more are due. `now` is the time, in Unix milliseconds: who
    /// calls answers for it. Background threads do the same before they merge, by the clock; but a clock more than an hour
    /// beyond the process's last commit is taken for that hour. Costs two rows and three look-ups of messages for each.
    ///
    /// # Errors
    /// Those of [`Store::commit`] and of reading a message; what expired by then stays so.
    pub fn expire_due(&self, now: i64, most: usize) -> Result<u64> {
        self.handle.engine.expire_due(now, most)
    }

    /// Makes the bytes of erased messages go from the directory, now and in the caller's thread: when it returns, no file there
    /// holds a payload that an erased message ever had, by [`Batch::erase`](crate::Batch::erase) before this call. The same goes
    /// for messages that were trimmed or deleted with their channel, and for long values that were replaced since.
    ///
    /// Seals all there is, merges all runs, and writes anew each message segment that still holds such a payload. Costs a
    /// rewrite of all rows, a look at each channel of each segment, a read of the messages that are withheld in it, and the
    /// rewriting. Without this call erased bytes go within [`Options::erase_within`](crate::Options::erase_within), and others as
    /// segments are merged.
    ///
    /// What is not in the directory is not reached: backups, copies, free blocks of the disk, and views and messages that this
    /// process still holds. A damaged file can't be written anew. [`Batch::erase`](crate::Batch::erase) has an example.
    ///
    /// # Errors
    /// Those of [`Store::compact`]; what was rewritten by then stays so, and the call can be made again.
    pub fn erase_now(&self) -> Result<()> {
        self.handle.engine.erase_now()
    }

    /// What erased messages still wait for: how many have bytes in files of the directory, since when, by when these are to go
    /// ([`Options::erase_within`](crate::Options::erase_within)), which files that are, and which files this process still has open
    /// though they were removed. Backups, copies and free blocks of the disk are not known. Costs a look-up for each message that
    /// waits, in each file with its channel.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "my address")))?;
    /// store.commit(Batch::new().erase("general", 1))?;
    /// assert_eq!(store.erasing()?.messages, 1);
    /// store.erase_now()?;
    /// assert_eq!(store.erasing()?.messages, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn erasing(&self) -> Result<Erasing> {
        self.handle.engine.erasing()
    }

    /// Makes `dir` hold the store as it is now, while it goes on: a directory that opens as a store, for a backup, or for a
    /// copy to look at. It is made if absent, and must be empty or hold an earlier backup of this store, of which the files
    /// that are still used stay.
    ///
    /// The backup of a [replica](Options::replica) installs another one: it has its lineage, and its positions, which are durable
    /// there ([`Store::durable_position`]).
    ///
    /// All that was committed is sealed first. Sealed files never change, so they get a second name in `dir`, which costs
    /// neither time nor space; on another file system they are copied. To restore, open `dir`, or a copy of it; a backup
    /// that was opened for writing is a store of its own, and no backup goes into it any more.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let (path, backup) = (dir.path().join("store"), dir.path().join("backup"));
    /// use chanlog::{Batch, Draft, Options, Store};
    /// let store = Store::open(&path)?;
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "hi")))?;
    /// store.backup(&backup)?;
    /// let copy = Options::new().read_only(true).open(&backup)?;
    /// assert_eq!(copy.head("general")?.last.seq, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotAStore`](crate::Error::NotAStore) and [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a
    /// directory that holds anything else, [`Error::Locked`](crate::Error::Locked) for one that is open; nothing was changed.
    /// After any other error the directory holds the earlier backup, or this one; that of a first one may hold files that
    /// make no store, to be removed.
    pub fn backup(&self, dir: impl AsRef<Path>) -> Result<Backup> {
        self.handle.engine.back_up(dir.as_ref())
    }

    /// Closes the store for all handles and tells of errors. Dropping the last handle does the same, but can't tell.
    /// Nothing that was acknowledged depends on either.
    pub fn close(&self) -> Result<()> {
        self.handle.engine.close()
    }
}
