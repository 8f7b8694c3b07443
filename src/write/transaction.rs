//! A batch in the making: operations run in it, changes go to a buffer for the log, and effects on top of an overlay.

use bytes::Bytes;

use super::overlay::Overlay;
use crate::error::{Error, Result};
use crate::files::change::Change;
use crate::files::record::Record;
use crate::files::table::{self, HashKey};
use crate::kernel::{Effects, values};
use crate::model::batch::Batch;
use crate::model::expiry;
use crate::model::fate::{self, UserFate};
use crate::model::follow::follow_message;
use crate::model::head::{Head, Loss, PackedHead};
use crate::model::ids::{ChannelId, LogId, MAX_IDS, Named, UserId};
use crate::model::image::{Patch, Stored, patched};
use crate::model::key::TableKey;
use crate::model::mark::Mark;
use crate::model::message::{NewMessage, Origin, Placed, Said};
use crate::model::outcome::Outcome;
use crate::model::position::Position;
use crate::model::sent;
use crate::model::state::{State, Transaction};
use crate::model::window::SendWindow;
use crate::model::{Family, Op, SomeOf, Table};

/// A name that was looked up.
#[derive(Clone, Copy, Debug)]
pub enum Name {
    /// Its id.
    Known(u32),
    /// No view knew it so far. The overlay or a later commit may know it by now.
    Unknown,
}

/// What a batch takes its time from, in Unix milliseconds.
#[derive(Clone, Copy, Debug)]
pub enum BatchTime {
    /// The clock.
    Clock(i64),
    /// The batch, in a replica: no earlier one was later.
    Given(i64),
}

/// The names of an operation.
#[derive(Clone, Copy, Debug)]
pub struct OpNames {
    /// The channel's.
    pub channel: Name,
    /// The user's.
    pub user: Name,
}

/// What lies below the overlay.
pub trait Source {
    /// Ends that may have taken buffered messages.
    fn losses(&self) -> &[Loss];
    /// The key of the store's hashes.
    fn hash_key(&self) -> &HashKey;
    /// How long client ids make sends unique.
    fn window(&self) -> SendWindow;
    /// A head.
    fn head(&self, channel: ChannelId) -> PackedHead;
    /// The newest id of a name that was unknown when it was looked up, or stands in a list, or whose owner was deleted. It may be
    /// that of the deleted one.
    fn find(&mut self, named: Named, name: &[u8]) -> Result<Option<u32>>;
    /// A row.
    fn row<T: Table>(&mut self, key: T::Key) -> Result<Option<T>>;
    /// Visits the rows of `from`'s group from there on, in any order.
    fn each_after<T: Table>(&mut self, from: T::Key, visit: &mut dyn FnMut(T::Key, &T)) -> Result<()>;
    /// The last message up to `seq`.
    fn origin(&mut self, channel: ChannelId, seq: u64) -> Result<Origin>;
    /// What a published message was sent with.
    fn said(&mut self, channel: ChannelId, seq: u64) -> Result<Option<Said>>;
    /// What is answered where a message is needed that an unpublished commit made.
    fn unpublished(&mut self) -> Error;
    /// Whether anything became of any user.
    fn any_fates(&self) -> bool;
    /// What became of a user.
    fn fate(&self, user: UserId) -> Option<UserFate>;
}

/// What running the operations of a batch gave.
pub struct Ran {
    /// The outcome of each.
    pub outcomes: Vec<Outcome>,
    /// What they change.
    pub effects: Effects,
    /// How many changes they wrote.
    pub count: u32,
}

/// A row as it was read, by table.
struct LastRow;

impl Family for LastRow {
    type Of<T: Table> = Option<(T::Key, Option<T>)>;
}

/// A transaction.
pub struct Transact<'a, S> {
    source: S,
    overlay: &'a mut Overlay,
    out: &'a mut Vec<u8>,
    /// What to add to a place in `out` to get an offset in the log segment.
    pub origin: u64,
    now: i64,
    /// Whether the time is the batch's.
    replica: bool,
    index: usize,
    names: OpNames,
    /// The last row of each table that came from the source: a change follows a look at the same row.
    last: SomeOf<LastRow>,
    /// The head that was looked at or set last, for the same reason.
    last_head: Option<(ChannelId, PackedHead)>,
    effects: Effects,
    count: u32,
}

impl<'a, S: Source> Transact<'a, S> {
    /// Begins one.
    pub fn new(source: S, overlay: &'a mut Overlay, out: &'a mut Vec<u8>, time: BatchTime) -> Self {
        let (now, replica) = match time {
            BatchTime::Clock(now) => (now, false),
            BatchTime::Given(time) => (time.max(overlay.counts().time), true),
        };
        let names = OpNames { channel: Name::Unknown, user: Name::Unknown };
        let effects = Effects { first: overlay.counts().version + 1, ..Effects::default() };
        let last = SomeOf::default();
        Transact {
            source,
            overlay,
            out,
            origin: 0,
            now,
            replica,
            index: 0,
            names,
            last,
            last_head: None,
            effects,
            count: 0,
        }
    }

    /// Runs the operations of a batch, up to the first one that is refused.
    pub fn run(&mut self, batch: &Batch, names: &[OpNames]) -> Result<Ran> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for (index, op) in batch.ops().enumerate() {
            outcomes.push(self.run_one(index, &op, names[index])?);
        }
        Ok(self.end(outcomes))
    }

    /// Runs the next operation.
    pub fn run_one(&mut self, index: usize, op: &Op<'_>, names: OpNames) -> Result<Outcome> {
        (self.index, self.names) = (index, names);
        op.run(self)
    }

    /// What all operations gave. There are no more.
    pub fn end(&mut self, outcomes: Vec<Outcome>) -> Ran {
        Ran { outcomes, effects: std::mem::take(&mut self.effects), count: self.count }
    }

    /// The newest id of a name, and whether its owner was deleted.
    fn find(&mut self, named: Named, name: &[u8]) -> Result<Option<(u32, bool)>> {
        let looked_up = match named {
            Named::Channel => self.names.channel,
            Named::User => self.names.user,
        };
        let known = match looked_up {
            Name::Known(id) if !self.is_dead(named, id) => return Ok(Some((id, false))),
            // What had the name was deleted, and perhaps another has it by now.
            Name::Known(id) => Some(id),
            Name::Unknown => None,
        };
        let newest = self.look_for(named, name)?.or(known);
        Ok(newest.map(|id| (id, self.is_dead(named, id))))
    }

    /// The newest id of a name that is none of those that were looked up by their place, or whose owner was deleted.
    fn look_for(&mut self, named: Named, name: &[u8]) -> Result<Option<u32>> {
        match self.overlay.find(named, name) {
            Some(id) => Ok(Some(id)),
            None => self.source.find(named, name),
        }
    }

    /// Those of a name whose owner was not deleted.
    fn find_live(&mut self, named: Named, name: &[u8]) -> Result<Option<u32>> {
        Ok(self.find(named, name)?.filter(|(_, dead)| !dead).map(|(id, _)| id))
    }

    /// What became of a user.
    fn fate(&self, user: UserId) -> Option<UserFate> {
        self.overlay.row::<UserFate>(user).cloned().or_else(|| self.source.fate(user))
    }

    /// Whether a channel or a user was deleted.
    fn is_dead(&mut self, named: Named, id: u32) -> bool {
        match named {
            Named::Channel => self.head_of(ChannelId(id)).dead(),
            Named::User => {
                Transaction::any_fates(self) && self.fate(UserId(id)).is_some_and(|fate| fate.deleted > 0)
            }
        }
    }

    /// The head of a channel, kept at hand for the next look.
    fn head_of(&mut self, channel: ChannelId) -> &PackedHead {
        if self.last_head.as_ref().is_none_or(|(last, _)| *last != channel) {
            let head = self.overlay.head(channel).unwrap_or_else(|| self.source.head(channel));
            self.last_head = Some((channel, head));
        }
        &self.last_head.get_or_insert_default().1
    }

    /// The id of a name, which is made if need be.
    fn intern(&mut self, named: Named, name: &[u8]) -> Result<u32> {
        let newest = self.find(named, name)?;
        self.or_add(named, name, newest)
    }

    /// The newest id of a name, or the next one if there is none, or its owner was deleted.
    fn or_add(&mut self, named: Named, name: &[u8], newest: Option<(u32, bool)>) -> Result<u32> {
        let Some((before, dead)) = newest else { return self.add_name(named, name) };
        if !dead {
            return Ok(before);
        }
        let id = self.add_name(named, name)?;
        if named == Named::User {
            let replaced = self.fate(UserId(before)).map_or(0, |fate| fate.deleted);
            self.patch::<UserFate>(UserId(id), Patch::new().set(fate::field::replaced, replaced))?;
        }
        Ok(id)
    }

    fn add_name(&mut self, named: Named, name: &[u8]) -> Result<u32> {
        let id = self.overlay.counts().names(named);
        if id >= MAX_IDS - 1 {
            let what = "the number of names";
            return Err(Error::TooLarge { what, len: id.into(), limit: id.into(), op: Some(self.index) });
        }
        self.encode(&Change::Name { named, id, name });
        let name = Bytes::copy_from_slice(name);
        self.overlay.add_name(named, name.clone());
        match named {
            Named::Channel => self.effects.channels.push(name),
            Named::User => self.effects.users.push(name),
        }
        Ok(id)
    }

    fn encode(&mut self, change: &Change<'_>) {
        change.encode(self.out);
        self.count += 1;
    }

    fn take_version(&mut self) -> u64 {
        self.effects.version = self.overlay.take_version();
        self.effects.version
    }
}

/// What tells a record's message from another one.
pub fn said(key: &HashKey, record: &Record<'_>) -> Said {
    let Record { sender, version, silent, quiet, payload, .. } = *record;
    let content = sent::content(silent, quiet > 0, payload, |parts| table::hash_parts(key, parts));
    Said { sender, content, version }
}

/// The length of an id that there may be.
fn named_len(id: Option<&[u8]>) -> usize {
    id.map_or(0, <[u8]>::len)
}

impl<S: Source> State for Transact<'_, S> {
    fn head(&self, channel: ChannelId) -> Head {
        match &self.last_head {
            Some((last, head)) if *last == channel => head.head(),
            _ => self.overlay.head(channel).unwrap_or_else(|| self.source.head(channel)).head(),
        }
    }

    fn set_head(&mut self, channel: ChannelId, head: Head) {
        let packed = PackedHead::from(&head);
        self.last_head = Some((channel, packed.clone()));
        self.overlay.set_head(channel, packed.clone(), self.effects.first);
        self.effects.set_head(channel, packed);
    }

    fn put<T: Table>(&mut self, key: T::Key, row: T) {
        self.overlay.put(key, row.clone(), self.effects.first);
        self.effects.put(key, row);
    }

    fn advance(&mut self, log: LogId, before: Option<&Position>, after: &Position) {
        self.effects.time = after.time.unwrap_or_default();
        self.overlay.set_time(self.effects.time);
        self.effects.positions.push((log, before.cloned()));
    }
}

impl<S: Source> Transaction for Transact<'_, S> {
    fn index(&self) -> usize {
        self.index
    }

    fn now(&self) -> i64 {
        self.now
    }

    fn replica(&self) -> bool {
        self.replica
    }

    fn version(&self) -> u64 {
        self.overlay.counts().version
    }

    fn first_version(&self) -> u64 {
        self.effects.first
    }

    fn window(&self) -> SendWindow {
        self.source.window()
    }

    fn hash(&self, parts: &[&[u8]]) -> u64 {
        table::hash_parts(self.source.hash_key(), parts)
    }

    fn find_channel(&mut self, name: &[u8]) -> Result<Option<ChannelId>> {
        Ok(self.find_live(Named::Channel, name)?.map(ChannelId))
    }

    fn find_user(&mut self, name: &[u8]) -> Result<Option<UserId>> {
        Ok(self.find_live(Named::User, name)?.map(UserId))
    }

    fn make_channel(&mut self, name: &[u8]) -> Result<ChannelId> {
        self.intern(Named::Channel, name).map(ChannelId)
    }

    fn make_user(&mut self, name: &[u8]) -> Result<UserId> {
        self.intern(Named::User, name).map(UserId)
    }

    fn make_listed(&mut self, name: &[u8]) -> Result<UserId> {
        let newest = self.look_for(Named::User, name)?;
        let newest = newest.map(|id| (id, self.is_dead(Named::User, id)));
        self.or_add(Named::User, name, newest).map(UserId)
    }

    fn head(&mut self, channel: ChannelId) -> Head {
        self.head_of(channel).head()
    }

    fn row<T: Table>(&mut self, key: T::Key) -> Result<Option<T>> {
        if let Some(row) = self.overlay.row::<T>(key) {
            return Ok(Some(row.clone()));
        }
        match self.last.get::<T>() {
            Some(Some((last, row))) if *last == key => Ok(row.clone()),
            _ => {
                let row = self.source.row::<T>(key)?;
                *self.last.get_mut::<T>() = Some((key, row.clone()));
                Ok(row)
            }
        }
    }

    fn place(&mut self, channel: ChannelId, seq: u64) -> Result<Mark> {
        let head = self.head_of(channel).head();
        if seq == head.last.seq || seq <= head.trimmed.seq {
            return Ok(if seq == head.last.seq { head.last } else { head.trimmed });
        }
        Transaction::origin(self, channel, seq).map(|origin| origin.mark)
    }

    fn origin(&mut self, channel: ChannelId, seq: u64) -> Result<Origin> {
        match self.overlay.origin_at(channel, seq) {
            Some(origin) => Ok(origin),
            None => self.source.origin(channel, seq),
        }
    }

    fn said(&mut self, channel: ChannelId, seq: u64) -> Result<Option<Said>> {
        match self.overlay.origin_at(channel, seq) {
            None => self.source.said(channel, seq),
            Some(origin) if origin.mark.seq != seq => Ok(None),
            // It is the batch's own.
            Some(origin) if origin.version >= self.effects.first => {
                let messages = &self.effects.messages;
                let found = messages.binary_search_by_key(&origin.version, |placed| placed.version);
                let offset = found.ok().map(|at| messages[at].offset.wrapping_sub(self.origin as u32));
                let record = offset.and_then(|at| self.out.get(at as usize..)).and_then(Record::decode);
                Ok(record.map(|record| said(self.source.hash_key(), &record)))
            }
            // It is in the log, or about to be: no place to read from under the lock.
            Some(_) => Err(self.source.unpublished()),
        }
    }

    fn any_fates(&self) -> bool {
        self.source.any_fates() || self.overlay.any::<UserFate>()
    }

    fn each_after<T: Table>(&mut self, from: T::Key, visit: &mut dyn FnMut(T::Key, &T)) -> Result<()> {
        let overlay = &*self.overlay;
        self.source.each_after::<T>(from, &mut |key, row| {
            if overlay.row::<T>(key).is_none() {
                visit(key, row);
            }
        })?;
        overlay.each_after::<T>(from, visit);
        Ok(())
    }

    fn append(&mut self, message: NewMessage<'_>) -> Result<Outcome> {
        let NewMessage {
            channel, sender, timestamp, silent, id, client_id, unique_id, expires, payload, ..
        } = message;
        let head = self.head_of(channel).head();
        let version = self.overlay.counts().version + 1;
        let next = || head.next_seq(channel, version, self.source.losses());
        let seq = message.at.map_or_else(next, Ok).map_err(|error| error.at(self.index))?;
        let mark = head.next_mark(seq, silent);
        let quiet = if message.quiet { seq - head.loud().seq } else { 0 };
        let version = self.take_version();
        // A message's record begins after the change's tag.
        let offset = (self.origin + self.out.len() as u64 + 1) as u32;
        let fields = &expiry::record_fields(expires);
        self.encode(&Change::Message(Record {
            channel,
            sender,
            mark,
            version,
            timestamp,
            silent,
            id,
            client_id,
            unique_id,
            quiet,
            fields,
            payload,
        }));
        let previous = head.previous();
        let placed = Placed { channel, sender, mark, quiet: quiet > 0, version, previous, offset };
        self.overlay.add_message(channel, Origin { mark, version, sender, expires });
        self.effects.messages.push(placed);
        self.effects.user_bytes +=
            (payload.len() + named_len(client_id) + named_len(unique_id) + id.map_or(0, |_| 8)) as u64;
        follow_message(&placed, self);
        Ok(Outcome::Appended { seq: mark.seq, ordinal: mark.ordinal, version })
    }

    fn store(&mut self, bytes: &[u8], hash: u64) -> Result<Stored> {
        let version = self.take_version();
        let stored = u32::try_from(bytes.len()).ok().and_then(|len| Stored::new(version, len, hash));
        let stored = stored.ok_or_else(|| Error::invalid("an operation made a value that is not valid"))?;
        let offset = (self.origin + self.out.len() as u64 + 1) as u32;
        self.encode(&Change::Message(values::record(version, self.now, bytes)));
        self.effects.values.push((version, offset));
        Ok(stored)
    }

    fn patch<T: Table>(&mut self, key: T::Key, patch: Patch) -> Result<Outcome> {
        let before = Transaction::row::<T>(self, key)?;
        let version = self.take_version();
        let fields = patch.bytes();
        self.encode(&Change::Patch { table: T::TABLE, wide: T::Key::WIDE, key: key.raw(), fields });
        self.change_row(key, before, fields, version)?;
        Ok(Outcome::Changed { version })
    }

    fn patch_beside<T: Table>(&mut self, key: T::Key, patch: Patch) -> Result<()> {
        let before = Transaction::row::<T>(self, key)?;
        let fields = patch.bytes();
        self.encode(&Change::Beside { table: T::TABLE, key: key.raw(), fields });
        self.change_row(key, before, fields, self.overlay.counts().version)
    }

    fn add_beside<T: Table>(&mut self, key: T::Key, patch: Patch) -> Result<()> {
        let fields = patch.bytes();
        self.encode(&Change::Beside { table: T::TABLE, key: key.raw(), fields });
        self.change_row::<T>(key, None, fields, self.overlay.counts().version)
    }
}

impl<S: Source> Transact<'_, S> {
    /// Changes a row, which was `before`, at a version.
    fn change_row<T: Table>(
        &mut self,
        key: T::Key,
        before: Option<T>,
        fields: &[u8],
        version: u64,
    ) -> Result<()> {
        let after = patched(before.clone(), fields, version);
        let after = after.ok_or_else(|| Error::invalid("an operation made a patch that is not valid"))?;
        T::follow(before.as_ref(), &after, key, self);
        self.put(key, after);
        Ok(())
    }
}
