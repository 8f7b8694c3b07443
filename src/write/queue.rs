//! The queue of requests. One caller at a time leads: it takes all that is queued, and hands the lead on when it is done.
//! Everybody else sleeps until there is an answer, or until the lead is theirs. No lock is held while anybody works.

use super::prepare::{Prepared, Wanted};
use super::sync::Wait;
use crate::env::sync::{Arc, Condvar, Mutex};
use crate::error::Error;
use crate::model::batch::{Batch, Durability};
use crate::model::outcome::Receipt;

/// A batch that waits to be written.
pub struct Request {
    /// What is asked for.
    pub batch: Batch,
    /// How it is to be acknowledged.
    pub durability: Durability,
    /// What was read for it.
    pub prepared: Prepared,
    /// The most bytes that it takes in the log.
    pub bound: u64,
    slot: Mutex<Slot>,
    changed: Condvar,
}

#[derive(Default)]
struct Slot {
    answer: Option<Answer>,
    leads: bool,
}

/// What became of a request.
pub enum Answer {
    /// It is written.
    Written(Submitted),
    /// It broke a rule, given all commits up to that lsn.
    Refused(Error, u64),
    /// It could not be written.
    Failed(Error),
    /// Something was needed that had not been read, or its group was not written.
    Again(Wanted),
}

/// A commit that is written.
#[derive(Debug)]
pub struct Submitted {
    /// What it did.
    pub receipt: Receipt,
    /// Its number.
    pub lsn: u64,
    /// What its caller waits for.
    pub wait: Wait,
}

/// What a queued caller wakes up to.
pub enum Turn {
    /// The answer.
    Answered(Answer),
    /// The lead.
    Lead,
}

impl Request {
    /// A request without an answer.
    pub fn new(batch: Batch, durability: Durability, prepared: Prepared, bound: u64) -> Request {
        Request { batch, durability, prepared, bound, slot: Mutex::default(), changed: Condvar::new() }
    }

    /// Gives the answer.
    pub fn answer(&self, answer: Answer) {
        self.slot.lock().answer.get_or_insert(answer);
        self.changed.notify_one();
    }

    fn lead(&self) {
        self.slot.lock().leads = true;
        self.changed.notify_one();
    }

    /// Sleeps until it is answered or has to lead.
    pub fn turn(&self) -> Turn {
        let mut slot = self.slot.lock();
        loop {
            if let Some(answer) = slot.answer.take() {
                return Turn::Answered(answer);
            }
            if std::mem::take(&mut slot.leads) {
                return Turn::Lead;
            }
            self.changed.wait(&mut slot);
        }
    }
}

/// The queue.
#[derive(Default)]
pub struct Queue {
    state: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    requests: Vec<Arc<Request>>,
    led: bool,
}

impl Queue {
    /// Adds a request. Its caller leads if nobody does.
    pub fn push(&self, request: Arc<Request>) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.led, true) {
            request.lead();
        }
        state.requests.push(request);
    }

    /// Takes the lead, which lasts until the guard goes, and all requests.
    pub fn lead(&self) -> Lead<'_> {
        let requests = std::mem::take(&mut self.state.lock().requests);
        Lead { queue: self, requests }
    }
}

/// The lead, and the requests of the group. Whatever way it ends, each request gets an answer, and the lead goes on.
pub struct Lead<'q> {
    queue: &'q Queue,
    /// The group.
    pub requests: Vec<Arc<Request>>,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let fault = || Answer::Failed(Error::Panicked { what: "commit" }.poison());
            self.requests.iter().for_each(|request| request.answer(fault()));
        }
        let mut state = self.queue.state.lock();
        match state.requests.first() {
            Some(next) => next.lead(),
            None => state.led = false,
        }
    }
}
