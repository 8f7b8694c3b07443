//! Finding messages. A channel's messages lie in several files; each file knows the version of the channel's last
//! message before it, and a version tells the file. So a reader walks from the newest file to the oldest that it needs,
//! and touches no other: no filter is needed to skip files that lack the channel.

use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::log::LogFile;
use crate::message::Message;
use crate::record::{self, Record};
use crate::segment::Segment;
use crate::state::{Base, Named, Place, Published, Unsealed};
use crate::types::{ChannelId, Head, Mark, UserId};

/// Called with each encoded record in turn; breaks in order to stop.
pub type Visit<'a> = dyn FnMut(&Bytes, &Record<'_>) -> Result<ControlFlow<()>> + 'a;

/// A moment's view of one channel: enough to read its messages later without the lock.
pub struct Snapshot {
    channel: ChannelId,
    head: Head,
    base: Arc<Base>,
    /// The offsets of the wanted messages in the active segment, in the wanted direction.
    active: Option<Active>,
    range: RangeInclusive<u64>,
    reverse: bool,
    limit: usize,
}

struct Active {
    log: Arc<LogFile>,
    offsets: Vec<u64>,
    first_seq: u64,
    previous: u64,
}

/// A file that holds some of the channel's messages.
enum Source {
    Frozen(Arc<Unsealed>),
    Segment(Arc<Segment>),
}

/// What a file holds of a channel.
struct Extent {
    first_seq: u64,
    previous: u64,
}

impl Snapshot {
    /// Takes the view. At most `limit` messages will be read.
    pub fn take(
        published: &Published,
        channel: ChannelId,
        range: RangeInclusive<u64>,
        reverse: bool,
        limit: usize,
    ) -> Snapshot {
        let state = published.0.read();
        let active = state.active.table.messages.get(&channel).map(|chain| Active {
            log: state.active.log.clone(),
            offsets: chain.range(range.clone(), reverse, limit),
            first_seq: chain.first_seq,
            previous: chain.previous,
        });
        Snapshot {
            channel,
            head: state.heads.get(channel),
            base: state.base.clone(),
            active,
            range,
            reverse,
            limit,
        }
    }

    /// Visits the messages of the range, in its direction.
    pub fn read(&self, visit: &mut Visit<'_>) -> Result<()> {
        if self.range.is_empty() || *self.range.start() > self.head.last.seq {
            return Ok(());
        }
        if self.reverse { self.read_down(visit) } else { self.read_up(visit) }
    }

    fn read_down(&self, visit: &mut Visit<'_>) -> Result<()> {
        if self.read_active(visit)?.is_break() {
            return Ok(());
        }
        let mut files = self.files();
        while let Some((source, _)) = files.next()? {
            if source.read(self, visit)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn read_up(&self, visit: &mut Visit<'_>) -> Result<()> {
        let mut stack = Vec::new();
        let mut files = self.files();
        while let Some((source, extent)) = files.next()? {
            if extent.first_seq <= *self.range.end() {
                stack.push(source);
            }
        }
        for source in stack.iter().rev() {
            if source.read(self, visit)?.is_break() {
                return Ok(());
            }
        }
        self.read_active(visit).map(drop)
    }

    /// Visits the one message of the range, which was the channel's last when it had `version`.
    fn read_last(&self, version: u64, visit: &mut Visit<'_>) -> Result<()> {
        if self.active.as_ref().is_some_and(|active| !active.offsets.is_empty()) {
            return self.read_active(visit).map(drop);
        }
        let (source, _) = open_extent(&self.base, self.channel, version)?;
        // Unless a merge or a later message came between, it is the file's last of the channel, which is stored apart.
        if let Source::Segment(segment) = &source
            && let Some(bytes) = segment.last(self.channel)?
            && let Some(record) = Record::decode(&bytes)
            && record.version == version
        {
            return visit(&bytes, &record).map(drop);
        }
        source.read(self, visit).map(drop)
    }

    fn read_active(&self, visit: &mut Visit<'_>) -> Result<ControlFlow<()>> {
        match &self.active {
            Some(active) => read_log(&active.log, &active.offsets, visit),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    /// The files behind the active one that hold messages of the range or newer, newest first.
    fn files(&self) -> Files<'_> {
        let next = match &self.active {
            Some(active) if active.first_seq <= *self.range.start() => 0,
            Some(active) => active.previous,
            None => self.head.version,
        };
        Files { snapshot: self, next }
    }
}

/// Walks a channel's files from new to old.
struct Files<'a> {
    snapshot: &'a Snapshot,
    /// The version of the last message that is not yet covered; 0 at the end.
    next: u64,
}

impl Files<'_> {
    fn next(&mut self) -> Result<Option<(Source, Extent)>> {
        if self.next == 0 {
            return Ok(None);
        }
        let snapshot = self.snapshot;
        let (source, extent) = open_extent(&snapshot.base, snapshot.channel, self.next)?;
        // Older files only: a damaged link must not lead in circles.
        let older = extent.previous < self.next;
        self.next = if extent.first_seq <= *snapshot.range.start() || !older { 0 } else { extent.previous };
        Ok(Some((source, extent)))
    }
}

/// The file where the message of `version` lies, and what it holds of the channel.
fn open_extent(base: &Base, channel: ChannelId, version: u64) -> Result<(Source, Extent)> {
    match base.locate(version) {
        Some(Place::Frozen(frozen)) => {
            let chain = frozen.table.messages.get(&channel);
            let chain = chain.ok_or_else(|| frozen.log.corrupt(0, missing(channel, version)))?;
            let extent = Extent { first_seq: chain.first_seq, previous: chain.previous };
            Ok((Source::Frozen(frozen.clone()), extent))
        }
        Some(Place::Sealed(part)) => {
            let segment = part.segment.clone()?;
            let extent = segment.extent(channel)?;
            let extent = extent.ok_or_else(|| segment.corrupt(missing(channel, version)))?;
            let extent = Extent { first_seq: extent.first_seq, previous: extent.prev_version };
            Ok((Source::Segment(segment), extent))
        }
        None => Err(Error::corrupt(std::path::Path::new("manifest"), 0, missing(channel, version))),
    }
}

fn missing(channel: ChannelId, version: u64) -> String {
    format!("holds no message of channel {} though version {version} lies here", channel.0)
}

impl Source {
    fn read(&self, snapshot: &Snapshot, visit: &mut Visit<'_>) -> Result<ControlFlow<()>> {
        let (channel, range) = (snapshot.channel, snapshot.range.clone());
        match self {
            Source::Frozen(frozen) => {
                let chain = frozen.table.messages.get(&channel);
                let offsets = chain.map(|chain| chain.range(range, snapshot.reverse, snapshot.limit));
                read_log(&frozen.log, &offsets.unwrap_or_default(), visit)
            }
            Source::Segment(segment) => {
                let mut each = |bytes: Bytes| match Record::decode(&bytes) {
                    Some(record) => visit(&bytes, &record),
                    None => Err(segment.corrupt("a record does not decode")),
                };
                segment.read(channel, *range.start(), *range.end(), snapshot.reverse, &mut each)
            }
        }
    }
}

fn read_log(log: &LogFile, offsets: &[u64], visit: &mut Visit<'_>) -> Result<ControlFlow<()>> {
    for offset in offsets {
        let bytes = log.record(*offset)?;
        let record =
            Record::decode(&bytes).ok_or_else(|| log.corrupt(*offset, "a record does not decode"))?;
        if visit(&bytes, &record)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The mark at `seq`, or at the last message before it, of what is published.
pub fn mark_at(published: &Published, channel: ChannelId, seq: u64) -> Result<Mark> {
    let mut mark = Mark::default();
    if seq > 0 {
        Snapshot::take(published, channel, 1..=seq, true, 1).read(&mut |_, record| {
            mark = record.mark;
            Ok(ControlFlow::Break(()))
        })?;
    }
    Ok(mark)
}

/// The last message of a channel, as of `head`.
pub fn message_at(published: &Published, channel: ChannelId, head: &Head) -> Result<Message> {
    let seq = head.last.seq;
    let mut found = None;
    let mut names = Senders::new(published);
    let snapshot = Snapshot::take(published, channel, seq..=seq, true, 1);
    snapshot.read_last(head.version, &mut |bytes, record| {
        found = Some(names.message(bytes, record)?);
        Ok(ControlFlow::Break(()))
    })?;
    let lost = || Error::corrupt(std::path::Path::new("store"), 0, missing(channel, head.version));
    found.ok_or_else(lost)
}

/// Turns records into messages, looking up each sender's name once.
pub struct Senders<'a> {
    published: &'a Published,
    names: HashMap<UserId, Bytes>,
}

impl<'a> Senders<'a> {
    /// Knows no name yet.
    pub fn new(published: &'a Published) -> Self {
        Senders { published, names: HashMap::new() }
    }

    /// The message of a record, which shares the record's bytes.
    pub fn message(&mut self, bytes: &Bytes, record: &Record<'_>) -> Result<Message> {
        let sender = match self.names.get(&record.sender) {
            Some(name) => name.clone(),
            None => {
                let name = self.published.name(Named::User, record.sender.0)?;
                self.names.insert(record.sender, name.clone());
                name
            }
        };
        Ok(Message {
            seq: record.mark.seq,
            ordinal: record.mark.ordinal,
            version: record.version,
            sender,
            timestamp: record.timestamp,
            silent: record.silent,
            id: record.id,
            client_id: record.client_id.map(|id| record::share(bytes, id)),
            payload: record::share(bytes, record.payload),
        })
    }
}
