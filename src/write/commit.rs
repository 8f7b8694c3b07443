//! Group commit: from prepared batches to frames in the log.
//!
//! A caller prepares its batch without a lock, queues it, and takes the writer's lock to lead, unless another leader was
//! quicker and did its batch too. The leader stages all that is queued, one frame each, writes them with one call,
//! publishes what may be seen at once, and answers everybody. What was run on trial when it was prepared is adopted if
//! nothing was committed since, and what was run ahead ([`super::ahead`]) if nothing that it read was changed since. Syncing
//! happens after that, in [`Syncer`], while the next leader stages and writes.
//!
//! Invariants:
//! * C1. The log's end moves only over bytes whose write returned. What a failed write left after it is zeroed before
//!   anything is written again, so that no whole frame of it can ever follow a later one.
//! * C2. A segment gets a frame only after all before it is durable.
//! * C3. A commit is acknowledged before it is durable only in a segment whose durable header says so, and never if it
//!   makes a channel: after any end the log tells that seqs may be lost, and of which channels.
//! * C4. A refusal is told only after all that it rests on is durable, and not at all if that was not written.

use std::collections::VecDeque;
use std::time::Duration;

use super::ahead::{LARGE, Recent, RunAhead};
use super::overlay::Overlay;
use super::prepare::{Prepared, Slate, Staging, Trial, Wanted};
use super::queue::{Answer, Queue, Request, Submitted};
use super::sync::{Pending, Syncer, Wait};
use super::transaction::{BatchTime, Ran, Transact};
use crate::env::sync::atomic::{AtomicU64, Ordering};
use crate::env::sync::{self, Arc, Mutex, MutexGuard};
use crate::env::{fault, unless};
use crate::error::{Error, Result};
use crate::files::change::OVERHEAD;
use crate::files::disk::{Disk, PanicGuard};
use crate::files::log::{FrameHeader, FrameKind, GAP, HEADER, Header, LogFile, finish_frame, start_frame};
use crate::files::sealed::StoreId;
use crate::kernel::{Counts, Effects, Kernel, Layer};
use crate::model::batch::{Batch, Durability};
use crate::model::head::BUFFERED_WINDOW;
use crate::model::op::Limits;
use crate::model::outcome::Receipt;
use crate::options::Options;

/// The most operations in one batch.
pub const MAX_OPS: usize = 65_536;
/// The most bytes that one batch may take in the log.
pub const MAX_BATCH: u64 = 256 << 20;
/// The bytes that a group's buffer begins with: enough for a few messages without growing step by step.
const GROUP: usize = 4 << 10;
/// So often a caller looks for its answer before it sleeps.
const LOOKS: usize = 16;
/// The largest buffer that is kept for the next group.
const SPARE: usize = 1 << 20;
/// Room that is kept in each segment for a close and a next frame.
const RESERVE: u64 = 256;

/// Accepts batches and writes them to the log.
pub struct Committer {
    disk: Arc<Disk>,
    store: StoreId,
    options: Options,
    kernel: Arc<Kernel>,
    /// Makes written commits durable and visible.
    pub syncer: Arc<Syncer>,
    queue: Queue,
    writer: Mutex<Writer>,
    /// For the next trial.
    slate: Mutex<Option<Slate>>,
    adopted: AtomicU64,
}

/// Where and on top of what the next frame goes.
struct Writer {
    overlay: Box<Overlay>,
    log: Arc<LogFile>,
    /// Where the next frame begins.
    end: u64,
    lsn: u64,
    /// Commits that the overlay still holds.
    staged: VecDeque<(u64, Arc<Effects>)>,
    /// What was written while large batches are run ahead.
    recent: Recent,
    /// The number of this session.
    session: u64,
    /// Whether the log segment is this session's.
    begun: bool,
    /// Whether the log ends with a close frame.
    clean: bool,
    /// What a failed write may have left after the end.
    scrub: u64,
    closed: bool,
    /// An empty buffer for the next group.
    spare: Vec<u8>,
}

/// Where writing goes on.
pub struct Start {
    /// The last log segment.
    pub log: Arc<LogFile>,
    /// Where it ends, durably.
    pub end: u64,
    /// Whether this session made it.
    pub begun: bool,
    /// The number of this session.
    pub session: u64,
}

/// Frames that are staged and will be written together.
#[derive(Default)]
struct Group {
    buffer: Vec<u8>,
    pending: Vec<Pending>,
    written: Vec<(Arc<Request>, Submitted)>,
    refused: Vec<(Arc<Request>, Error)>,
    /// Messages that will be acknowledged early.
    early: u64,
}

/// What the writer asks of those who keep the files in shape. Called under the writer's lock.
pub trait Help {
    /// Makes room when too many log segments await sealing.
    fn make_room(&self) -> Result<()>;
    /// Makes the manifest durable as it was found, before a session builds on it.
    fn confirm_manifest(&self) -> Result<()>;
    /// How long the next log segment is to be, in bytes, unless a batch needs more.
    fn log_segment(&self) -> u64;
}

impl Committer {
    /// Goes on where `start` says.
    pub fn new(
        options: Options,
        disk: Arc<Disk>,
        store: StoreId,
        kernel: Arc<Kernel>,
        start: Start,
    ) -> Committer {
        let Start { log, end, begun, session } = start;
        let syncer = Arc::new(Syncer::new(kernel.clone(), disk.health().clone(), log.clone(), end, session));
        let writer = Writer {
            overlay: Box::new(Overlay::new(kernel.moment().counts)),
            log,
            end,
            lsn: 0,
            staged: VecDeque::new(),
            recent: Recent::default(),
            session,
            begun,
            clean: false,
            scrub: 0,
            closed: false,
            spare: Vec::with_capacity(GROUP),
        };
        Committer {
            disk,
            store,
            options,
            kernel,
            syncer,
            queue: Queue::default(),
            writer: Mutex::new(writer),
            slate: Mutex::default(),
            adopted: AtomicU64::new(0),
        }
    }

    /// How many requests wait for the writer.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// How many requests were adopted as they were prepared.
    pub fn adopted(&self) -> u64 {
        self.adopted.load(Ordering::Relaxed)
    }

    /// Checks, stages and writes a batch.
    pub fn submit(&self, batch: &Batch, help: &dyn Help) -> Result<Submitted> {
        let mut wanted = Wanted::default();
        let since = self.options.env.monotonic();
        loop {
            self.disk.health().check()?;
            let request = Arc::new(self.prepare(batch, &wanted, since)?);
            self.queue.push(request.clone());
            match self.turn(&request, help) {
                Answer::Written(submitted) => return Ok(submitted),
                Answer::Failed(error) => return Err(error),
                Answer::Refused(error, lsn) => {
                    unless(48, || self.syncer.wait(lsn, Wait::Durable))?;
                    return Err(error);
                }
                Answer::Again(more) => {
                    if more.unpublished {
                        self.syncer.publish_written()?;
                    }
                    wanted.extend(*more);
                }
            }
        }
    }

    fn prepare(&self, batch: &Batch, wanted: &Wanted, since: Duration) -> Result<Request> {
        if batch.len() > MAX_OPS {
            let (what, len, limit) = ("a batch's number of operations", batch.len() as u64, MAX_OPS as u64);
            return Err(Error::TooLarge { what, len, limit, op: None });
        }
        let bound = (batch.as_bytes().len() + batch.len() * OVERHEAD) as u64;
        if bound > MAX_BATCH {
            let what = "a batch's number of bytes";
            return Err(Error::TooLarge { what, len: bound, limit: MAX_BATCH, op: None });
        }
        let limits = Limits { payload: self.options.payload_limit };
        let time = match self.options.replica {
            true => BatchTime::Given(batch.time.unwrap_or(i64::MIN)),
            false => BatchTime::Clock(self.options.env.unix_ms()),
        };
        let ahead = (batch.len() > LARGE).then(|| self.run_ahead(batch.len()));
        let slate = || {
            let mut slate = self.slate.lock().take().unwrap_or_else(Slate::new);
            slate.frame.reserve(bound as usize);
            slate
        };
        let when = (time, ahead.as_ref().map(|ahead| ahead.base));
        let prepared = Prepared::new(self.kernel.view()?, batch, &limits, wanted, when, slate)?;
        let durability = batch.durability.unwrap_or(self.options.durability);
        Ok(Request::new(batch.clone(), durability, prepared, (bound, ahead), since))
    }

    /// A large batch is about to be run ahead. A view that is taken then shows all but what is remembered from now on.
    fn run_ahead(&self, ops: usize) -> RunAhead {
        let Writer { recent, overlay, staged, .. } = &mut *self.writer.lock();
        // Versions of a replica follow from its batches, and these come one after the other. Single commits take about five times
        // as long as an operation that is run ahead.
        let gap = if self.options.replica { 0 } else { GAP.min(ops as u64) };
        recent.begin(gap, overlay.counts().version, staged.iter().map(|(_, effects)| effects))
    }

    /// Waits for the answer, or leads to get it. A group takes about as long as a few looks at the lock, so that sleeping
    /// at once would cost more than it saves.
    fn turn(&self, request: &Request, help: &dyn Help) -> Answer {
        let mut looks = 0;
        loop {
            if let Some(answer) = request.answered() {
                return answer;
            }
            match self.writer.try_lock() {
                Some(writer) => self.lead(writer, request, help),
                None if looks < LOOKS => sync::yield_now(),
                None => self.lead(self.writer.lock(), request, help),
            }
            looks += 1;
        }
    }

    /// Stages and writes a group, and answers each of its requests, unless another did so for `request`.
    fn lead(&self, mut writer: MutexGuard<'_, Writer>, request: &Request, help: &dyn Help) {
        if request.is_answered() {
            return;
        }
        let _guard = PanicGuard::new(self.disk.health(), "commit");
        let lead = self.queue.lead();
        let garbage = self.forget_published(&mut writer);
        let mut group = Group { buffer: std::mem::take(&mut writer.spare), ..Group::default() };
        for request in &lead.requests {
            self.stage(&mut writer, &mut group, request, help);
        }
        self.write_group(&mut writer, &mut group);
        drop(writer);
        drop(garbage);
    }

    /// Writes the group, publishes what may be seen, and answers: nobody may be answered before their commit can be seen.
    fn write_group(&self, writer: &mut Writer, group: &mut Group) {
        let answers = self.flush(writer, group);
        self.syncer.settle();
        answers.into_iter().for_each(|(request, answer)| request.answer(answer));
    }

    /// Forgets in the overlay what is published by now. Returns what is to be freed without the lock.
    fn forget_published(&self, writer: &mut Writer) -> Vec<(u64, Box<Overlay>)> {
        let Some(last) = writer.staged.back() else { return Vec::new() };
        let published = self.syncer.published();
        let below = writer.overlay.laid_over();
        let garbage = writer.overlay.take_published(published);
        if last.0 <= published {
            writer.overlay.forget_all();
            writer.staged.clear();
            return garbage;
        }
        while let Some((lsn, effects)) = writer.staged.pop_front_if(|staged| staged.0 <= published) {
            if lsn > below {
                writer.overlay.forget(&effects);
            }
        }
        garbage
    }

    /// Adds a request's frame to the group, or answers it.
    fn stage(&self, writer: &mut Writer, group: &mut Group, request: &Arc<Request>, help: &dyn Help) {
        if writer.closed {
            return request.answer(Answer::Failed(Error::Closed));
        }
        if request.ahead.is_some() && self.stage_ahead(writer, group, request, help) {
            return;
        }
        let again = || request.answer(Answer::Again(Box::default()));
        let Some(mut staging) = Staging::new(&self.kernel, &request.prepared) else { return again() };
        if !self.may_go_on(writer, request) && !self.changes(writer, group, request, &mut staging) {
            // It writes nothing, and so needs no segment of its own kind.
        } else {
            match self.fit(writer, group, request, staging.weight(), help) {
                Ok(false) => {}
                Ok(true) => match Staging::new(&self.kernel, &request.prepared) {
                    Some(anew) => staging = anew,
                    None => return again(),
                },
                Err(error) => return request.answer(Answer::Failed(error)),
            }
        }
        if let Some(trial) = self.adoptable(writer, request) {
            return self.adopt(writer, group, request, trial);
        }
        let at = start_frame(&mut group.buffer);
        writer.overlay.begin_request();
        match self.run(writer, group, request, &mut staging) {
            Ok(ran) => self.finish(writer, group, request, at, ran, None),
            Err(error) => {
                writer.overlay.take_request_back();
                group.buffer.truncate(at);
                match staging.again {
                    true => request.answer(Answer::Again(Box::new(staging.wanted))),
                    false => group.refused.push((request.clone(), error)),
                }
            }
        }
    }

    /// Writes a request that was run ahead just as it is, in a group of its own. False if it has to run again.
    fn stage_ahead(
        &self,
        writer: &mut Writer,
        group: &mut Group,
        request: &Arc<Request>,
        help: &dyn Help,
    ) -> bool {
        // What is not adopted here must not be adopted elsewhere: its versions are for this.
        let Some(trial) = request.trial.lock().take() else { return false };
        let Trial { mut ran, own, slate } = *trial;
        if ran.count == 0 || self.is_overtaken(writer, request, &ran) {
            return false;
        }
        let moment = self.kernel.moment();
        let crowded = own.is_some() && moment.is_crowded();
        let weight = if crowded { usize::MAX } else { moment.written().map(|layer| layer.weight()).sum() };
        if let Err(error) = self.fit(writer, group, request, weight, help) {
            request.answer(Answer::Failed(error));
            return true;
        }
        self.write_group(writer, group);
        let (alone, end) = (writer.staged.is_empty(), writer.end);
        let start = Counts { version: ran.effects.first - 1, ..writer.overlay.counts() };
        let own = own.map(|content| Layer::of(writer.log.clone(), start, *content, end));
        if own.is_none() {
            ran.effects.move_records(end);
        }
        let mut large = Group { buffer: slate.frame, ..Group::default() };
        self.finish(writer, &mut large, request, 0, ran, own);
        let answers = self.flush(writer, &mut large);
        if writer.end > end {
            writer.overlay.lay_over(slate.overlay, writer.lsn, alone);
            self.adopted.fetch_add(1, Ordering::Relaxed);
        }
        self.syncer.settle();
        answers.into_iter().for_each(|(request, answer)| request.answer(answer));
        true
    }

    /// Whether a commit since its view changed what a request that was run ahead had read, or took its versions (A1).
    fn is_overtaken(&self, writer: &Writer, request: &Request, ran: &Ran) -> bool {
        let Prepared { reads, counts, .. } = &request.prepared;
        let overtaken =
            writer.overlay.counts().version >= ran.effects.first || writer.recent.meet(reads, counts.version);
        overtaken && !fault(108)
    }

    /// Whether a request may be written to the present segment, if there is room.
    fn may_go_on(&self, writer: &Writer, request: &Request) -> bool {
        writer.begun && (request.durability != Durability::Buffered || writer.log.header.buffered || fault(3))
    }

    /// Whether a request changes anything, found out by running it without a trace.
    fn changes(
        &self,
        writer: &mut Writer,
        group: &mut Group,
        request: &Request,
        staging: &mut Staging<'_>,
    ) -> bool {
        let at = group.buffer.len();
        writer.overlay.begin_request();
        let ran = self.run(writer, group, request, staging);
        writer.overlay.take_request_back();
        group.buffer.truncate(at);
        staging.rewind();
        ran.is_ok_and(|ran| ran.count > 0)
    }

    /// What came of a request on trial, if it would come of it now: nothing was committed since, published or not.
    fn adoptable(&self, writer: &Writer, request: &Request) -> Option<Box<Trial>> {
        let same = writer.overlay.counts() == request.prepared.counts || fault(69);
        let unchanged = writer.staged.is_empty() && same;
        if unchanged { request.trial.lock().take() } else { None }
    }

    /// Makes what came of a request on trial the next frame. Its overlay takes the place of the writer's, which is empty, and
    /// takes the request back by its own journal should the group not be written.
    fn adopt(&self, writer: &mut Writer, group: &mut Group, request: &Arc<Request>, trial: Box<Trial>) {
        let Trial { mut ran, mut slate, .. } = *trial;
        let at = group.buffer.len();
        if at == 0 {
            std::mem::swap(&mut group.buffer, &mut slate.frame);
        } else {
            group.buffer.extend_from_slice(&slate.frame);
            slate.frame.clear();
        }
        ran.effects.move_records(writer.end + at as u64);
        std::mem::swap(&mut writer.overlay, &mut slate.overlay);
        if slate.frame.capacity() <= SPARE {
            *self.slate.lock() = Some(slate);
        }
        self.adopted.fetch_add(1, Ordering::Relaxed);
        self.finish(writer, group, request, at, ran, None);
    }

    /// Runs a request's operations.
    fn run(
        &self,
        writer: &mut Writer,
        group: &mut Group,
        request: &Request,
        staging: &mut Staging<'_>,
    ) -> Result<Ran> {
        let Prepared { time, names, .. } = &request.prepared;
        let mut txn = Transact::new(staging, &mut writer.overlay, &mut group.buffer, *time);
        txn.origin = writer.end;
        txn.run(&request.batch, names)
    }

    /// Completes a request's frame, or drops it if nothing changed.
    fn finish(
        &self,
        writer: &mut Writer,
        group: &mut Group,
        request: &Arc<Request>,
        at: usize,
        ran: Ran,
        own: Option<Layer>,
    ) {
        let buffered = request.durability == Durability::Buffered;
        if ran.count == 0 {
            group.buffer.truncate(at);
        } else {
            let messages = ran.effects.messages.len() as u64;
            let early = buffered
                && (ran.effects.channels.is_empty() || fault(1))
                && self.syncer.window() + group.early + messages <= BUFFERED_WINDOW;
            self.finish_marker(writer, group, at, FrameKind::Commit, ran.count, ran.effects.first);
            writer.lsn += 1;
            let effects = Arc::new(ran.effects);
            writer.staged.push_back((writer.lsn, effects.clone()));
            writer.recent.push(&effects);
            group.early += if early { messages } else { 0 };
            group.pending.push(Pending {
                lsn: writer.lsn,
                effects,
                own: own.map(Arc::new),
                early,
                promised: !buffered,
                end: writer.end + group.buffer.len() as u64,
                since: request.since,
            });
        }
        let wait = if buffered { Wait::Published } else { Wait::Durable };
        let submitted = Submitted { receipt: Receipt { outcomes: ran.outcomes }, lsn: writer.lsn, wait };
        group.written.push((request.clone(), submitted));
    }

    fn finish_marker(
        &self,
        writer: &Writer,
        group: &mut Group,
        at: usize,
        kind: FrameKind,
        count: u32,
        first_version: u64,
    ) {
        let header = FrameHeader { kind, count, first_version, durable: self.syncer.durable_end() };
        finish_frame(&mut group.buffer, at, &writer.log.binding, writer.end + at as u64, &header);
    }

    /// Begins another segment if the request may not fit the present one, or may not go there. Returns whether it did.
    fn fit(
        &self,
        writer: &mut Writer,
        group: &mut Group,
        request: &Request,
        weight: usize,
        help: &dyn Help,
    ) -> Result<bool> {
        self.disk.health().check()?;
        let used = writer.end + group.buffer.len() as u64;
        let full = used + request.bound + RESERVE > writer.log.header.capacity;
        let buffered = request.durability == Durability::Buffered;
        if self.may_go_on(writer, request) && !full && weight <= self.options.memtable {
            return Ok(false);
        }
        self.write_group(writer, group);
        self.disk.health().check()?;
        self.roll(writer, request.bound, buffered, help)?;
        Ok(true)
    }

    /// Begins another segment, with room for a frame of `bound` bytes. Until the new file has its name nothing has changed.
    fn roll(&self, writer: &mut Writer, bound: u64, buffered: bool, help: &dyn Help) -> Result<()> {
        self.scrub(writer)?;
        unless(67, || self.syncer.sync())?;
        self.forget_published(writer);
        if self.kernel.moment().full().count() >= self.options.unsealed {
            help.make_room()?;
        }
        if !writer.begun && !fault(68) {
            help.confirm_manifest()?;
        }
        let mut random = [0; 8];
        let drawn = self.options.env.random(&mut random);
        drawn.map_err(|e| Error::io("draw a salt for", self.path(), e))?;
        let counts = self.kernel.moment().counts;
        let capacity = help.log_segment().max(HEADER + bound + RESERVE).next_multiple_of(4096);
        let header = Header {
            segment: writer.log.header.segment + 1,
            salt: u64::from_le_bytes(random),
            session: writer.session,
            buffered: (buffered || self.options.durability == Durability::Buffered) && !fault(2),
            base_version: counts.version,
            channels: counts.channels,
            users: counts.users,
            previous_end: writer.end,
            capacity,
        };
        let log = Arc::new(LogFile::create(&self.disk, self.store, header)?);
        unless(70, || self.announce_next(writer))?;
        self.kernel.roll(Arc::new(Layer::new(log.clone(), counts)));
        self.syncer.rolled(log.clone(), HEADER);
        writer.log = log;
        writer.end = HEADER;
        (writer.begun, writer.clean) = (true, false);
        Ok(())
    }

    fn path(&self) -> &std::path::Path {
        use crate::env::Dir;
        self.disk.path()
    }

    /// Says after the end of the full segment that another one follows.
    fn announce_next(&self, writer: &Writer) -> Result<()> {
        let frame = self.marker(writer, FrameKind::Next);
        match writer.log.write(&frame, writer.end) {
            // It only helps to notice that the next one was lost.
            Ok(()) | Err(Error::OutOfSpace { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn marker(&self, writer: &Writer, kind: FrameKind) -> Vec<u8> {
        let mut group = Group::default();
        let at = start_frame(&mut group.buffer);
        let first_version = writer.overlay.counts().version + 1;
        self.finish_marker(writer, &mut group, at, kind, 0, first_version);
        group.buffer
    }

    /// Writes the group. Returns the answers to its requests.
    fn flush(&self, writer: &mut Writer, group: &mut Group) -> Vec<(Arc<Request>, Answer)> {
        let mut group = std::mem::take(group);
        let written = match group.pending.is_empty() {
            true => Ok(()),
            false => self.write(writer, &group.buffer),
        };
        if group.buffer.capacity() <= SPARE {
            group.buffer.clear();
            writer.spare = group.buffer;
        }
        let mut answers = Vec::with_capacity(group.written.len() + group.refused.len());
        match written {
            Ok(()) => {
                self.syncer.wrote(group.pending, writer.end);
                writer.overlay.settle();
                let lsn = writer.lsn;
                let written = group.written.into_iter();
                answers.extend(written.map(|(request, submitted)| (request, Answer::Written(submitted))));
                let refused = group.refused.into_iter();
                answers.extend(refused.map(|(request, error)| (request, Answer::Refused(error, lsn))));
            }
            Err(error) => {
                self.take_back(writer, group.pending.len());
                let written = group.written.into_iter();
                answers.extend(written.map(|(request, _)| (request, Answer::Failed(error.clone()))));
                // What they rested on never was.
                let refused = group.refused.into_iter();
                let again =
                    |error| if fault(49) { Answer::Failed(error) } else { Answer::Again(Box::default()) };
                answers.extend(refused.map(|(request, error)| (request, again(error))));
            }
        }
        answers
    }

    /// Undoes the staging of a group that was not written.
    fn take_back(&self, writer: &mut Writer, commits: usize) {
        writer.overlay.take_group_back();
        writer.lsn -= commits as u64;
        let lsn = writer.lsn;
        while writer.staged.pop_back_if(|staged| staged.0 > lsn).is_some() {}
    }

    /// Writes bytes after the log's end, and moves it.
    fn write(&self, writer: &mut Writer, bytes: &[u8]) -> Result<()> {
        self.scrub(writer)?;
        match writer.log.append(bytes, writer.end) {
            Ok(()) => {
                writer.end += bytes.len() as u64;
                writer.clean = false;
                Ok(())
            }
            Err(full @ Error::OutOfSpace { .. }) => {
                // Some file systems tell of bytes that found the disk full by a later write, and tell it once.
                unless(45, || self.syncer.write_again(writer.end))?;
                writer.scrub = if fault(44) { 0 } else { bytes.len() as u64 };
                match self.scrub(writer) {
                    Err(error @ Error::Poisoned { .. }) => Err(error),
                    // If that failed too, it is tried again before anything else.
                    _ => Err(full),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Zeroes what a failed write left after the end (C1).
    fn scrub(&self, writer: &mut Writer) -> Result<()> {
        if writer.scrub == 0 {
            return Ok(());
        }
        writer.log.write(&vec![0; writer.scrub as usize], writer.end)?;
        unless(10, || self.syncer.sync_bytes())?;
        writer.scrub = 0;
        Ok(())
    }

    /// Begins another segment even though the present one is not full. Does nothing if it is empty.
    pub fn roll_now(&self, help: &dyn Help) -> Result<()> {
        let mut writer = self.writer.lock();
        if writer.closed {
            return Err(Error::Closed);
        }
        self.disk.health().check()?;
        self.syncer.sync()?;
        self.forget_published(&mut writer);
        if self.kernel.moment().written().all(|layer| layer.is_empty()) {
            return Ok(());
        }
        self.roll(&mut writer, 0, false, help)
    }

    /// Accepts no more batches, makes all durable and ends the log with a close frame.
    pub fn close(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        writer.closed = true;
        self.syncer.sync()?;
        unless(14, || self.disk.health().check())?;
        self.scrub(&mut writer)?;
        if !writer.begun || writer.clean {
            return Ok(());
        }
        let frame = self.marker(&writer, FrameKind::Close);
        self.write(&mut writer, &frame)?;
        self.syncer.sync_bytes()?;
        writer.clean = true;
        Ok(())
    }
}
