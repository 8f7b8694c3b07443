//! From operations to changes to effects: the rules of the data model live here and nowhere else.
//!
//! A commit is staged on top of all commits before it, also those that are written but not yet published: the overlay
//! holds what they changed. `Transaction::stage` turns an operation into changes, which go to the log;
//! `Overlay::apply` turns a change into after-images. Recovery replays changes through the same `apply`.
//!
//! Invariants:
//! * S1. No effect of a message grows with the number of members: it is one head, one index entry, one row at most.
//! * S2. A seq that a reader may have seen is never assigned again: behind a loss of power each channel skips the window.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

use crate::batch::{Draft, Op, Outcome, Visible};
use crate::change::{Change, Key};
use crate::error::{Error, Result};
use crate::fetch::mark_at;
use crate::manifest::Loss;
use crate::options::BUFFERED_WINDOW;
use crate::record::Record;
use crate::state::{Effects, Named, Placed, Published};
use crate::types::{ChannelId, Head, MAX_CLIENT_ID, MAX_IDS, MAX_NAME, Mark, Row, UserId};

/// What is written but not yet published, laid over what is.
pub struct Overlay {
    published: Arc<Published>,
    losses: Arc<[Loss]>,
    heads: HashMap<ChannelId, (u64, Head)>,
    rows: HashMap<Key, (u64, Row)>,
    channels: HashMap<Bytes, u32>,
    users: HashMap<Bytes, u32>,
    /// The marks of unpublished messages, ascending.
    marks: HashMap<ChannelId, VecDeque<Mark>>,
    next_channel: u32,
    next_user: u32,
    version: u64,
}

/// A name, looked up before the writer's lock was taken.
#[derive(Clone, Debug)]
pub enum Name {
    Known(u32),
    /// Unknown at that time. The overlay or a later commit may know it by now.
    Unknown(Bytes),
}

/// An operation with its names looked up.
#[derive(Clone, Debug)]
pub struct Prepared {
    channel: Name,
    user: Name,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    Append(Draft),
    Join(Visible, Option<u64>),
    Leave,
    Read(u64),
    Hide,
    Activate,
}

/// A commit in the making.
pub struct Transaction<'a> {
    pub overlay: &'a mut Overlay,
    /// Tells this commit's entries in the overlay from later ones.
    pub lsn: u64,
    /// Where the changes are encoded.
    pub out: &'a mut Vec<u8>,
    /// What to add to a place in `out` to get an offset in the log segment.
    pub origin: u64,
    /// The time, in Unix milliseconds.
    pub now: i64,
    pub effects: Effects,
    pub count: u32,
}

impl Prepared {
    /// Checks an operation's fields and looks its names up.
    pub fn new(published: &Published, index: usize, op: &Op, payload_limit: u32) -> Result<Prepared> {
        let (channel, user, action) = match op {
            Op::Append { channel, draft } => {
                check_draft(index, draft, payload_limit)?;
                (channel, &draft.sender, Action::Append(draft.clone()))
            }
            Op::Join { channel, user, visible, read } => (channel, user, Action::Join(*visible, *read)),
            Op::Leave { channel, user } => (channel, user, Action::Leave),
            Op::Read { channel, user, seq } => (channel, user, Action::Read(*seq)),
            Op::Hide { channel, user } => (channel, user, Action::Hide),
            Op::Activate { channel, user } => (channel, user, Action::Activate),
        };
        let look_up = |named, name: &Bytes| {
            check_name(index, named, name)?;
            Ok(match published.find(named, name)? {
                Some(id) => Name::Known(id),
                None => Name::Unknown(name.clone()),
            })
        };
        Ok(Prepared { channel: look_up(Named::Channel, channel)?, user: look_up(Named::User, user)?, action })
    }

    /// The most bytes that its changes may take in the log.
    pub fn bound(&self) -> usize {
        let content = match &self.action {
            Action::Append(draft) => draft.payload.len() + crate::record::HEADER + MAX_CLIENT_ID + 8,
            _ => 0,
        };
        let name = |name: &Name| match name {
            Name::Known(_) => 0,
            Name::Unknown(bytes) => bytes.len() + 2,
        };
        content + name(&self.channel) + name(&self.user) + crate::change::OVERHEAD
    }
}

fn check_name(index: usize, named: Named, name: &[u8]) -> Result<()> {
    if (1..=MAX_NAME).contains(&name.len()) {
        return Ok(());
    }
    let what =
        format!("a {named:?} name of {} bytes; 1 to {MAX_NAME} are allowed", name.len()).to_lowercase();
    Err(Error::InvalidArgument { what, op: Some(index) })
}

fn check_draft(index: usize, draft: &Draft, payload_limit: u32) -> Result<()> {
    let len = draft.payload.len() as u64;
    if len > payload_limit.into() {
        return Err(Error::TooLarge { what: "a payload", len, limit: payload_limit.into() });
    }
    match draft.client_id.as_ref().map(Bytes::len) {
        None | Some(1..=MAX_CLIENT_ID) => Ok(()),
        Some(len) => {
            let what = format!("a client id of {len} bytes; 1 to {MAX_CLIENT_ID} are allowed");
            Err(Error::InvalidArgument { what, op: Some(index) })
        }
    }
}

impl Overlay {
    /// An overlay with nothing in it.
    pub fn new(published: Arc<Published>) -> Overlay {
        let (losses, next_channel, next_user, version) = {
            let state = published.0.read();
            let names = (state.names(Named::Channel), state.names(Named::User));
            (state.base.losses.clone(), names.0, names.1, state.version)
        };
        Overlay {
            published,
            losses,
            heads: HashMap::new(),
            rows: HashMap::new(),
            channels: HashMap::new(),
            users: HashMap::new(),
            marks: HashMap::new(),
            next_channel,
            next_user,
            version,
        }
    }

    /// The last version that was assigned.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many names of a kind there are.
    pub fn names(&self, named: Named) -> u32 {
        match named {
            Named::Channel => self.next_channel,
            Named::User => self.next_user,
        }
    }

    /// The head of a channel.
    pub fn head(&self, channel: ChannelId) -> Head {
        match self.heads.get(&channel) {
            Some((_, head)) => *head,
            None => self.published.0.read().heads.get(channel),
        }
    }

    /// A row, tombstones included.
    pub fn row(&self, key: Key) -> Result<Option<Row>> {
        match self.rows.get(&key) {
            Some((_, row)) => Ok(Some(*row)),
            None => self.published.row(key),
        }
    }

    fn find(&self, named: Named, name: &Name) -> Result<Option<u32>> {
        let bytes = match name {
            Name::Known(id) => return Ok(Some(*id)),
            Name::Unknown(bytes) => bytes,
        };
        let unpublished = match named {
            Named::Channel => self.channels.get(bytes),
            Named::User => self.users.get(bytes),
        };
        match unpublished {
            Some(id) => Ok(Some(*id)),
            None => self.published.find(named, bytes),
        }
    }

    /// The ordinal of the last message up to `seq`, which is not beyond the end.
    fn mark_at(&self, channel: ChannelId, seq: u64) -> Result<Mark> {
        let head = self.head(channel);
        if seq == head.last.seq {
            return Ok(head.last);
        }
        let unpublished = self.marks.get(&channel).and_then(|marks| {
            let after = marks.partition_point(|mark| mark.seq <= seq);
            marks.get(after.checked_sub(1)?).copied()
        });
        let mark = match unpublished {
            Some(mark) => mark,
            None => mark_at(&self.published, channel, seq)?,
        };
        Ok(Mark { seq, ordinal: mark.ordinal })
    }

    /// The seq of a channel's next message.
    pub fn next_seq(&self, channel: ChannelId, head: &Head) -> Result<u64> {
        // Recovery also replays what was written before the last losses.
        let later = |loss: &&Loss| loss.version > self.version;
        let hit = |loss: &&Loss| head.version <= loss.version && channel.0 < loss.channels;
        let losses = self.losses.iter().rev().skip_while(later).take_while(hit).count() as u64;
        let last = head.last.seq;
        let full = || Error::TooLarge { what: "a channel (messages)", len: last, limit: u64::MAX };
        last.checked_add(losses * BUFFERED_WINDOW + 1).ok_or_else(full)
    }

    /// Lays a change over the state. `offset` is where a message's record lies.
    pub fn apply(&mut self, change: &Change<'_>, offset: u32, lsn: u64, effects: &mut Effects) -> Result<()> {
        if change.versioned() {
            self.version += 1;
            effects.version = self.version;
        }
        match *change {
            Change::NameChannel(name) => {
                let name = Bytes::copy_from_slice(name);
                self.channels.insert(name.clone(), self.next_channel);
                self.next_channel += 1;
                effects.channels.push(name);
            }
            Change::NameUser(name) => {
                let name = Bytes::copy_from_slice(name);
                self.users.insert(name.clone(), self.next_user);
                self.next_user += 1;
                effects.users.push(name);
            }
            Change::Message(record) => self.apply_message(&record, offset, lsn, effects)?,
            Change::Join { key, base, read } => {
                let row = Row { base, read, version: self.version, ..Row::default() };
                self.set_row(key, row, lsn, effects);
                self.set_member(key, true, lsn, effects);
            }
            Change::Leave { key, at } => {
                self.edit_row(key, lsn, effects, |row, _| {
                    row.left_at = Some(at);
                    row.activated = 0;
                })?;
                self.set_member(key, false, lsn, effects);
            }
            Change::Read { key, mark } => self.edit_row(key, lsn, effects, |row, _| row.read = mark)?,
            Change::Hide { key, mark } => self.edit_row(key, lsn, effects, |row, _| {
                row.deleted = row.deleted.max(mark);
                row.activated = 0;
            })?,
            Change::Activate { key } => {
                self.edit_row(key, lsn, effects, |row, version| row.activated = version)?;
            }
        }
        Ok(())
    }

    fn apply_message(
        &mut self,
        record: &Record<'_>,
        offset: u32,
        lsn: u64,
        effects: &mut Effects,
    ) -> Result<()> {
        let (channel, mark) = (record.channel, record.mark);
        let before = self.head(channel);
        self.set_head(channel, Head { last: mark, version: record.version, ..before }, lsn, effects);
        effects.messages.push(Placed { channel, mark, previous: before.version, offset });
        effects.user_bytes += (record.encoded_len() - crate::record::HEADER) as u64;
        self.marks.entry(channel).or_default().push_back(mark);
        let key = Key { user: record.sender, channel };
        if let Some(row) = self.row(key)?.filter(Row::present) {
            self.set_row(key, Row { own: mark, ..row }, lsn, effects);
        }
        Ok(())
    }

    fn set_head(&mut self, channel: ChannelId, head: Head, lsn: u64, effects: &mut Effects) {
        self.heads.insert(channel, (lsn, head));
        effects.heads.push((channel, head));
    }

    fn set_row(&mut self, key: Key, row: Row, lsn: u64, effects: &mut Effects) {
        self.rows.insert(key, (lsn, row));
        effects.rows.push((key, row));
    }

    fn edit_row(
        &mut self,
        key: Key,
        lsn: u64,
        effects: &mut Effects,
        edit: impl FnOnce(&mut Row, u64),
    ) -> Result<()> {
        let mut row = self.row(key)?.unwrap_or_default();
        edit(&mut row, self.version);
        row.version = self.version;
        self.set_row(key, row, lsn, effects);
        Ok(())
    }

    fn set_member(&mut self, key: Key, present: bool, lsn: u64, effects: &mut Effects) {
        let mut head = self.head(key.channel);
        head.members = if present { head.members.saturating_add(1) } else { head.members.saturating_sub(1) };
        self.set_head(key.channel, head, lsn, effects);
        effects.members.push((key, present));
    }

    /// Forgets what commit `lsn` changed, once it is published.
    pub fn evict(&mut self, lsn: u64, effects: &Effects) {
        for (channel, _) in &effects.heads {
            if self.heads.get(channel).is_some_and(|entry| entry.0 == lsn) {
                self.heads.remove(channel);
            }
        }
        for (key, _) in &effects.rows {
            if self.rows.get(key).is_some_and(|entry| entry.0 == lsn) {
                self.rows.remove(key);
            }
        }
        for name in &effects.channels {
            self.channels.remove(name);
        }
        for name in &effects.users {
            self.users.remove(name);
        }
        for placed in &effects.messages {
            self.evict_mark(placed);
        }
    }

    fn evict_mark(&mut self, placed: &Placed) {
        let Some(marks) = self.marks.get_mut(&placed.channel) else { return };
        let published = marks.partition_point(|mark| mark.seq <= placed.mark.seq);
        marks.drain(..published);
        if marks.is_empty() {
            self.marks.remove(&placed.channel);
        }
    }

    /// Lays effects over the state that were staged before, when the overlay is made anew after a failure.
    pub fn restore(&mut self, lsn: u64, effects: &Effects) {
        self.heads.extend(effects.heads.iter().map(|(channel, head)| (*channel, (lsn, *head))));
        self.rows.extend(effects.rows.iter().map(|(key, row)| (*key, (lsn, *row))));
        let (channel, user) = effects.first;
        self.channels.extend(effects.channels.iter().cloned().zip(channel..));
        self.users.extend(effects.users.iter().cloned().zip(user..));
        self.next_channel = channel + effects.channels.len() as u32;
        self.next_user = user + effects.users.len() as u32;
        for placed in &effects.messages {
            self.marks.entry(placed.channel).or_default().push_back(placed.mark);
        }
        self.version = effects.version;
    }
}

impl Transaction<'_> {
    /// Stages one operation.
    pub fn stage(&mut self, index: usize, op: &Prepared) -> Result<Outcome> {
        match &op.action {
            Action::Append(draft) => self.append(op, draft),
            Action::Join(visible, read) => self.join(op, *visible, *read),
            Action::Leave => self.leave(op),
            Action::Read(seq) => self.read(index, op, *seq),
            Action::Hide => self.hide(index, op),
            Action::Activate => {
                let (key, _) = self.member(index, op)?;
                self.change(&Change::Activate { key })
            }
        }
    }

    fn append(&mut self, op: &Prepared, draft: &Draft) -> Result<Outcome> {
        let channel = ChannelId(self.intern(Named::Channel, &op.channel)?);
        let sender = UserId(self.intern(Named::User, &op.user)?);
        let head = self.overlay.head(channel);
        let mark = Mark {
            seq: self.overlay.next_seq(channel, &head)?,
            ordinal: head.last.ordinal + u64::from(!draft.silent),
        };
        let version = self.overlay.version + 1;
        self.change(&Change::Message(Record {
            channel,
            sender,
            mark,
            version,
            timestamp: draft.timestamp,
            silent: draft.silent,
            id: draft.id,
            client_id: draft.client_id.as_deref(),
            payload: &draft.payload,
        }))?;
        Ok(Outcome::Appended { seq: mark.seq, ordinal: mark.ordinal, version })
    }

    fn join(&mut self, op: &Prepared, visible: Visible, read: Option<u64>) -> Result<Outcome> {
        if let Some((_, row)) = self.find_row(op)?
            && row.present()
        {
            return Ok(Outcome::Unchanged);
        }
        let channel = ChannelId(self.intern(Named::Channel, &op.channel)?);
        let user = UserId(self.intern(Named::User, &op.user)?);
        let end = self.overlay.head(channel).last;
        let base = match visible {
            Visible::FromNow => end,
            Visible::FromStart => Mark::default(),
            Visible::FromSeq(seq) => self.overlay.mark_at(channel, seq.saturating_sub(1).min(end.seq))?,
        };
        let read = match read {
            None => end,
            Some(seq) => self.overlay.mark_at(channel, seq.min(end.seq))?,
        };
        self.change(&Change::Join { key: Key { user, channel }, base, read })
    }

    fn leave(&mut self, op: &Prepared) -> Result<Outcome> {
        match self.find_row(op)? {
            Some((key, row)) if row.present() => self.change(&Change::Leave { key, at: self.now }),
            _ => Ok(Outcome::Unchanged),
        }
    }

    fn read(&mut self, index: usize, op: &Prepared, seq: u64) -> Result<Outcome> {
        let (key, row) = self.member(index, op)?;
        let seq = seq.min(self.overlay.head(key.channel).last.seq);
        if seq <= row.read.seq {
            return Ok(Outcome::Unchanged);
        }
        let mark = self.overlay.mark_at(key.channel, seq)?;
        self.change(&Change::Read { key, mark })
    }

    fn hide(&mut self, index: usize, op: &Prepared) -> Result<Outcome> {
        let (key, row) = self.member(index, op)?;
        let mark = self.overlay.head(key.channel).last;
        if mark.seq <= row.deleted.seq && row.activated == 0 {
            return Ok(Outcome::Unchanged);
        }
        self.change(&Change::Hide { key, mark })
    }

    /// The row of an operation's user and channel, if both are known and it exists.
    fn find_row(&self, op: &Prepared) -> Result<Option<(Key, Row)>> {
        let channel = self.overlay.find(Named::Channel, &op.channel)?;
        let user = self.overlay.find(Named::User, &op.user)?;
        let (Some(channel), Some(user)) = (channel, user) else { return Ok(None) };
        let key = Key { user: UserId(user), channel: ChannelId(channel) };
        Ok(self.overlay.row(key)?.map(|row| (key, row)))
    }

    fn member(&self, index: usize, op: &Prepared) -> Result<(Key, Row)> {
        self.find_row(op)?.filter(|(_, row)| row.present()).ok_or(Error::NotMember { op: index })
    }

    /// The id of a name, which is made if need be.
    fn intern(&mut self, named: Named, name: &Name) -> Result<u32> {
        if let Some(id) = self.overlay.find(named, name)? {
            return Ok(id);
        }
        let id = self.overlay.names(named);
        let Name::Unknown(bytes) = name else { return Ok(id) };
        if id >= MAX_IDS - 1 {
            return Err(Error::TooLarge { what: "the number of names", len: id.into(), limit: id.into() });
        }
        match named {
            Named::Channel => self.change(&Change::NameChannel(bytes))?,
            Named::User => self.change(&Change::NameUser(bytes))?,
        };
        Ok(id)
    }

    /// Encodes a change and lays it over the state.
    fn change(&mut self, change: &Change<'_>) -> Result<Outcome> {
        // A message's record begins behind the change's tag.
        let offset = self.origin + self.out.len() as u64 + 1;
        change.encode(self.out);
        self.count += 1;
        self.overlay.apply(change, offset as u32, self.lsn, &mut self.effects)?;
        Ok(Outcome::Changed { version: self.overlay.version })
    }
}
