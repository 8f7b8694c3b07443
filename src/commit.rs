//! Group commit: from batches to frames in the log.
//!
//! Callers queue their request and then take the writer's lock. Whoever gets it first is the leader: it stages all that is
//! queued, one frame each, writes them with one call, and answers everybody. The rest find their answer when the lock is
//! theirs. Syncing happens behind, in [`Syncer`], while the next leader stages and writes.
//!
//! Invariants:
//! * C1. The log's end moves only over bytes whose write returned. What a failed write left behind is zeroed before
//!   anything is written again, so that no whole frame of it can ever follow a later one.
//! * C2. A segment gets a frame only after all before it is durable.
//! * C3. The first buffered commit of a session in a segment, and each that makes a channel, is acknowledged only when
//!   durable: after any crash the log tells that seqs may be lost, and of which channels.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::batch::{Batch, Outcome, Receipt};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::log::{FrameHeader, FrameKind, HEADER, LogFile, finish_frame, start_frame};
use crate::options::{BUFFERED_WINDOW, Durability, Options};
use crate::sealed::StoreId;
use crate::stage::{Overlay, Prepared, Transaction};
use crate::state::{Effects, Named, Published};
use crate::sync::{Pending, Syncer, Wait};

/// The most operations in one batch.
pub const MAX_OPS: usize = 65_536;
/// The most bytes that one batch may take in the log.
pub const MAX_BATCH: usize = 256 << 20;
/// The bytes that a group's buffer begins with: enough for a few messages without growing step by step.
const GROUP: usize = 4 << 10;
/// Room that is kept in each segment for an open and a close frame.
const RESERVE: u64 = 256;

/// Accepts batches and writes them to the log.
pub struct Committer {
    env: Arc<dyn Env>,
    dir: PathBuf,
    store: StoreId,
    options: Options,
    published: Arc<Published>,
    pub syncer: Arc<Syncer>,
    queue: Mutex<Vec<Arc<Request>>>,
    writer: Mutex<Writer>,
}

/// Where and on top of what the next frame goes.
struct Writer {
    overlay: Overlay,
    log: Arc<LogFile>,
    /// Where the next frame begins.
    end: u64,
    lsn: u64,
    /// Commits that the overlay still holds.
    staged: VecDeque<(u64, Arc<Effects>)>,
    /// Whether this session wrote an open frame to this segment.
    opened: bool,
    /// Whether this session wrote a frame that says "buffered" to this segment.
    declared: bool,
    /// Whether the log ends with a close frame.
    clean: bool,
    /// What a failed write may have left behind the end.
    scrub: u64,
    closed: bool,
}

struct Request {
    ops: Vec<Prepared>,
    durability: Durability,
    answer: Mutex<Option<Result<Submitted>>>,
}

/// A commit that is written.
#[derive(Debug)]
pub struct Submitted {
    pub receipt: Receipt,
    pub lsn: u64,
    pub wait: Wait,
}

/// Frames that are staged and will be written together.
#[derive(Default)]
struct Group {
    buffer: Vec<u8>,
    pending: Vec<Pending>,
    answers: Vec<(Arc<Request>, Submitted)>,
    /// Messages that will be acknowledged early.
    early: u64,
    /// Whether it holds the session's open frame.
    opens: bool,
}

/// Makes room when too many log segments await sealing. Called under the writer's lock.
pub type MakeRoom<'a> = &'a dyn Fn() -> Result<()>;

impl Committer {
    /// Goes on behind `end` of `log`, which is durable.
    pub fn new(
        options: Options,
        dir: PathBuf,
        store: StoreId,
        published: Arc<Published>,
        log: Arc<LogFile>,
        (end, clean): (u64, bool),
    ) -> Committer {
        let overlay = Overlay::new(published.clone());
        let syncer = Arc::new(Syncer::new(published.clone(), log.clone(), end));
        let writer = Writer {
            overlay,
            log,
            end,
            lsn: 0,
            staged: VecDeque::new(),
            opened: false,
            declared: false,
            clean,
            scrub: 0,
            closed: false,
        };
        Committer {
            env: options.env.clone(),
            dir,
            store,
            options,
            published,
            syncer,
            queue: Mutex::new(Vec::new()),
            writer: Mutex::new(writer),
        }
    }

    /// Checks, stages and writes a batch.
    pub fn submit(&self, batch: &Batch, make_room: MakeRoom<'_>) -> Result<Submitted> {
        self.syncer.check()?;
        let request = Arc::new(self.prepare(batch)?);
        self.queue.lock().push(request.clone());
        let mut writer = self.writer.lock();
        let answered = request.answer.lock().take();
        let answer = match answered {
            Some(answer) => answer,
            None => {
                let requests = std::mem::take(&mut *self.queue.lock());
                self.lead(&mut writer, requests, make_room);
                let led = request.answer.lock().take();
                led.unwrap_or(Err(Error::Closed))
            }
        };
        drop(writer);
        answer
    }

    fn prepare(&self, batch: &Batch) -> Result<Request> {
        if batch.ops.len() > MAX_OPS {
            let (len, limit) = (batch.ops.len() as u64, MAX_OPS as u64);
            return Err(Error::TooLarge { what: "a batch (operations)", len, limit });
        }
        let limit = self.options.payload_limit;
        let prepare = |(index, op)| Prepared::new(&self.published, index, op, limit);
        let ops: Vec<_> = batch.ops.iter().enumerate().map(prepare).collect::<Result<_>>()?;
        let len: usize = ops.iter().map(Prepared::bound).sum();
        if len > MAX_BATCH {
            return Err(Error::TooLarge { what: "a batch", len: len as u64, limit: MAX_BATCH as u64 });
        }
        let durability = batch.durability.unwrap_or(self.options.durability);
        Ok(Request { ops, durability, answer: Mutex::new(None) })
    }

    /// Stages and writes a group, and answers each of its requests.
    fn lead(&self, writer: &mut Writer, requests: Vec<Arc<Request>>, make_room: MakeRoom<'_>) {
        self.evict(writer);
        let mut group = Group { buffer: Vec::with_capacity(GROUP), ..Group::default() };
        for request in requests {
            if let Err(error) = self.stage(writer, &mut group, &request, make_room) {
                *request.answer.lock() = Some(Err(error));
            }
        }
        self.flush(writer, &mut group);
    }

    /// Forgets in the overlay what is published by now.
    fn evict(&self, writer: &mut Writer) {
        let published = self.syncer.published();
        while let Some((lsn, effects)) = writer.staged.pop_front_if(|staged| staged.0 <= published) {
            writer.overlay.evict(lsn, &effects);
        }
    }

    /// Makes the overlay anew from what is written, when something staged will not be.
    fn rebuild(&self, writer: &mut Writer) {
        writer.overlay = Overlay::new(self.published.clone());
        for (lsn, effects) in &writer.staged {
            writer.overlay.restore(*lsn, effects);
        }
    }

    /// Adds a request's frame to the group.
    fn stage(
        &self,
        writer: &mut Writer,
        group: &mut Group,
        request: &Arc<Request>,
        make_room: MakeRoom<'_>,
    ) -> Result<()> {
        if writer.closed {
            return Err(Error::Closed);
        }
        self.syncer.check()?;
        self.fit(writer, group, request, make_room)?;
        if !writer.opened {
            self.open_session(writer, group);
        }
        let at = start_frame(&mut group.buffer);
        let body = group.buffer.len();
        match self.run(writer, group, request) {
            Ok((outcomes, effects, count)) => {
                self.finish(writer, group, request, at, outcomes, effects, count);
                Ok(())
            }
            Err(error) => {
                // Most refused batches are refused before they changed anything.
                if group.buffer.len() > body {
                    self.rebuild(writer);
                }
                group.buffer.truncate(at);
                Err(error)
            }
        }
    }

    /// Runs a request's operations.
    fn run(
        &self,
        writer: &mut Writer,
        group: &mut Group,
        request: &Request,
    ) -> Result<(Vec<Outcome>, Effects, u32)> {
        let first = (writer.overlay.names(Named::Channel), writer.overlay.names(Named::User));
        let mut transaction = Transaction {
            lsn: writer.lsn + 1,
            overlay: &mut writer.overlay,
            out: &mut group.buffer,
            origin: writer.end,
            now: self.env.unix_ms(),
            effects: Effects { first, ..Effects::default() },
            count: 0,
        };
        let mut outcomes = Vec::with_capacity(request.ops.len());
        for (index, op) in request.ops.iter().enumerate() {
            outcomes.push(transaction.stage(index, op)?);
        }
        Ok((outcomes, transaction.effects, transaction.count))
    }

    /// Completes a request's frame, or drops it if nothing changed.
    #[allow(clippy::too_many_arguments)]
    fn finish(
        &self,
        writer: &mut Writer,
        group: &mut Group,
        request: &Arc<Request>,
        at: usize,
        outcomes: Vec<Outcome>,
        effects: Effects,
        count: u32,
    ) {
        let buffered = request.durability == Durability::Buffered;
        if count == 0 {
            group.buffer.truncate(at);
        } else {
            let versions = outcomes.iter().filter(|outcome| outcome.version().is_some()).count() as u64;
            let messages = effects.messages.len() as u64;
            let early = buffered
                && writer.declared
                && effects.channels.is_empty()
                && self.syncer.window() + group.early + messages <= BUFFERED_WINDOW;
            let header = FrameHeader {
                kind: FrameKind::Commit,
                buffered,
                count,
                first_version: effects.version - versions + 1,
                durable: self.syncer.durable_end(),
            };
            let offset = writer.end + at as u64;
            finish_frame(&mut group.buffer, at, &writer.log.binding, offset, &header);
            writer.declared |= buffered;
            writer.lsn += 1;
            let effects = Arc::new(effects);
            writer.staged.push_back((writer.lsn, effects.clone()));
            group.early += if early { messages } else { 0 };
            group.pending.push(Pending { lsn: writer.lsn, effects, early });
        }
        let wait = if buffered { Wait::Published } else { Wait::Durable };
        let submitted = Submitted { receipt: Receipt { outcomes }, lsn: writer.lsn, wait };
        group.answers.push((request.clone(), submitted));
    }

    /// Begins another segment if the request may not fit the present one.
    fn fit(
        &self,
        writer: &mut Writer,
        group: &mut Group,
        request: &Request,
        make_room: MakeRoom<'_>,
    ) -> Result<()> {
        let bound = request.ops.iter().map(Prepared::bound).sum::<usize>() as u64 + RESERVE;
        let used = writer.end + group.buffer.len() as u64;
        let full = used + bound > writer.log.capacity;
        let heavy = self.published.0.read().active.table.memory() > self.options.memtable;
        if !full && !heavy {
            return Ok(());
        }
        self.flush(writer, group);
        self.syncer.check()?;
        self.roll(writer, bound, make_room)
    }

    /// Begins another segment, with room for a frame of `bound` bytes.
    fn roll(&self, writer: &mut Writer, bound: u64, make_room: MakeRoom<'_>) -> Result<()> {
        self.scrub(writer)?;
        self.syncer.sync()?;
        if self.published.base().frozen.len() >= self.options.unsealed {
            make_room()?;
        }
        let capacity = self.options.log_segment.max(HEADER + bound + RESERVE).next_multiple_of(4096);
        let versions = (writer.overlay.version(), writer.end);
        let log = LogFile::create(&*self.env, &self.dir, self.store, writer.log.id + 1, versions, capacity);
        let log = Arc::new(match log {
            Err(full @ Error::OutOfSpace { .. }) => return Err(full),
            Err(error) => return Err(self.syncer.poison(error)),
            Ok(log) => log,
        });
        self.announce_next(writer)?;
        self.evict(writer);
        self.published.0.write().roll(log.clone());
        self.syncer.rolled(log.clone(), HEADER);
        tracing::debug!(segment = log.id, "a log segment begins");
        writer.log = log;
        writer.end = HEADER;
        (writer.opened, writer.declared, writer.clean) = (false, false, false);
        Ok(())
    }

    /// Says behind the end of the full segment that another one follows.
    fn announce_next(&self, writer: &Writer) -> Result<()> {
        let mut frame = Vec::new();
        let at = start_frame(&mut frame);
        self.finish_marker(writer, &mut frame, at, FrameKind::Next);
        match writer.log.write(&frame, writer.end) {
            // It only helps to notice that the next one was lost.
            Ok(()) | Err(Error::OutOfSpace { .. }) => Ok(()),
            Err(error) => Err(self.syncer.poison(error)),
        }
    }

    /// Adds the frame that names the running system.
    fn open_session(&self, writer: &mut Writer, group: &mut Group) {
        let at = start_frame(&mut group.buffer);
        group.buffer.extend_from_slice(&self.env.boot().unwrap_or_default());
        self.finish_marker(writer, &mut group.buffer, at, FrameKind::Open);
        writer.opened = true;
        group.opens = true;
    }

    fn finish_marker(&self, writer: &Writer, buffer: &mut Vec<u8>, at: usize, kind: FrameKind) {
        let header = FrameHeader {
            kind,
            buffered: false,
            count: 0,
            first_version: writer.overlay.version() + 1,
            durable: self.syncer.durable_end(),
        };
        finish_frame(buffer, at, &writer.log.binding, writer.end + at as u64, &header);
    }

    /// Writes the group and answers its requests.
    fn flush(&self, writer: &mut Writer, group: &mut Group) {
        let group = std::mem::take(group);
        let written = if group.pending.is_empty() {
            writer.opened &= !group.opens;
            Ok(())
        } else {
            self.write(writer, &group.buffer)
        };
        match written {
            Ok(()) => {
                self.syncer.wrote(group.pending, writer.end);
                for (request, submitted) in group.answers {
                    *request.answer.lock() = Some(Ok(submitted));
                }
            }
            Err(error) => {
                self.discard(writer, &group);
                for (request, _) in group.answers {
                    *request.answer.lock() = Some(Err(error.clone()));
                }
            }
        }
    }

    /// Writes bytes behind the log's end, and moves it.
    fn write(&self, writer: &mut Writer, bytes: &[u8]) -> Result<()> {
        self.scrub(writer)?;
        match writer.log.write(bytes, writer.end) {
            Ok(()) => {
                writer.end += bytes.len() as u64;
                writer.clean = false;
                Ok(())
            }
            Err(full @ Error::OutOfSpace { .. }) => {
                writer.scrub = bytes.len() as u64;
                match self.scrub(writer) {
                    Err(error @ Error::Poisoned { .. }) => Err(error),
                    // If that failed too, it is tried again before anything else.
                    _ => Err(full),
                }
            }
            Err(error) => Err(self.syncer.poison(error)),
        }
    }

    /// Zeroes what a failed write left behind the end (C1).
    fn scrub(&self, writer: &mut Writer) -> Result<()> {
        if writer.scrub == 0 {
            return Ok(());
        }
        let zeros = vec![0; writer.scrub as usize];
        match writer.log.write(&zeros, writer.end).and_then(|()| writer.log.sync()) {
            Ok(()) => {
                writer.scrub = 0;
                Ok(())
            }
            Err(full @ Error::OutOfSpace { .. }) => Err(full),
            Err(error) => Err(self.syncer.poison(error)),
        }
    }

    /// Undoes the staging of a group that was not written.
    fn discard(&self, writer: &mut Writer, group: &Group) {
        writer.lsn -= group.pending.len() as u64;
        let lsn = writer.lsn;
        writer.staged.retain(|staged| staged.0 <= lsn);
        // The next commit declares anew; a frame too many does no harm.
        writer.opened = false;
        writer.declared = false;
        self.rebuild(writer);
    }

    /// Begins another segment even though the present one is not full. Does nothing if it is empty.
    pub fn roll_now(&self, make_room: MakeRoom<'_>) -> Result<()> {
        let mut writer = self.writer.lock();
        self.evict(&mut writer);
        if writer.closed {
            return Err(Error::Closed);
        }
        self.syncer.check()?;
        self.syncer.sync()?;
        if self.published.0.read().active.table.is_empty() {
            return Ok(());
        }
        self.roll(&mut writer, 0, make_room)
    }

    /// Accepts no more batches, makes all durable and ends the log with a close frame.
    pub fn close(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        if std::mem::replace(&mut writer.closed, true) {
            return Ok(());
        }
        self.syncer.sync()?;
        self.syncer.check()?;
        self.scrub(&mut writer)?;
        if writer.clean {
            return Ok(());
        }
        let mut frame = Vec::new();
        let at = start_frame(&mut frame);
        self.finish_marker(&writer, &mut frame, at, FrameKind::Close);
        self.write(&mut writer, &frame)?;
        writer.log.sync()
    }
}
