//! The queue of requests. Whoever takes the writer's lock leads: it takes all that is queued by then, and answers each of
//! them before it lets go of the lock. So a caller that queued its request and then gets the lock finds either its answer
//! or its request still in the queue, and nobody sleeps but for the lock.

use std::time::Duration;

use super::ahead::RunAhead;
use super::prepare::{Prepared, Trial, Wanted};
use super::sync::Wait;
use crate::env::sync::{Arc, Mutex};
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
    /// What came of it on trial, until it is adopted.
    pub trial: Mutex<Option<Box<Trial>>>,
    /// The most bytes that it takes in the log.
    pub bound: u64,
    /// Set if it was run ahead.
    pub ahead: Option<RunAhead>,
    /// When it was submitted, by the monotonic clock.
    pub since: Duration,
    slot: Mutex<Option<Answer>>,
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
    Again(Box<Wanted>),
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

impl Request {
    /// A request without an answer.
    pub fn new(
        batch: Batch,
        durability: Durability,
        (prepared, trial): (Prepared, Option<Box<Trial>>),
        (bound, ahead): (u64, Option<RunAhead>),
        since: Duration,
    ) -> Request {
        Request {
            batch,
            durability,
            prepared,
            trial: Mutex::new(trial),
            bound,
            ahead,
            since,
            slot: Mutex::default(),
        }
    }

    /// Gives the answer; the first one counts.
    pub fn answer(&self, answer: Answer) {
        self.slot.lock().get_or_insert(answer);
    }

    /// Whether there is an answer.
    pub fn is_answered(&self) -> bool {
        self.slot.lock().is_some()
    }

    /// Takes the answer, if there is one.
    pub fn answered(&self) -> Option<Answer> {
        self.slot.lock().take()
    }
}

/// The queue.
#[derive(Default)]
pub struct Queue {
    requests: Mutex<Vec<Arc<Request>>>,
}

impl Queue {
    /// Adds a request. Its caller has to take the writer's lock then.
    pub fn push(&self, request: Arc<Request>) {
        self.requests.lock().push(request);
    }

    /// How many requests nobody took yet.
    pub fn len(&self) -> usize {
        self.requests.lock().len()
    }

    /// Takes all requests, under the writer's lock.
    pub fn lead(&self) -> Lead {
        Lead { requests: std::mem::take(&mut self.requests.lock()) }
    }
}

/// The requests of the group. Whatever way it ends, each request gets an answer.
pub struct Lead {
    /// The group.
    pub requests: Vec<Arc<Request>>,
}

impl Drop for Lead {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let fault = || Answer::Failed(Error::Panicked { what: "commit" }.poison());
            self.requests.iter().for_each(|request| request.answer(fault()));
        }
    }
}
