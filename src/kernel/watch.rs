//! Who waits for the store to change: threads and tasks, woken by every publication.
//!
//! A publication takes the lock once, after it let go of all others. Whoever waits looks at the version under it, so that no
//! publication is missed: this lock comes before those of the kernel.

use std::task::Waker;
use std::time::Instant;

use crate::env::sync::{Condvar, Mutex};

/// Threads and tasks that wait.
#[derive(Default)]
pub struct Watchers {
    tasks: Mutex<Vec<Waker>>,
    changed: Condvar,
}

impl Watchers {
    /// Wakes everybody.
    pub fn wake(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        self.changed.notify_all();
        tasks.into_iter().for_each(Waker::wake);
    }

    /// Waits until `ready` has an answer, which is asked after each publication, or until the deadline.
    pub fn wait<R>(&self, deadline: Option<Instant>, ready: impl Fn() -> Option<R>) -> Option<R> {
        let mut tasks = self.tasks.lock();
        loop {
            if let Some(answer) = ready() {
                return Some(answer);
            }
            match deadline {
                Some(deadline) if self.changed.wait_until(&mut tasks, deadline).timed_out() => {
                    return ready();
                }
                Some(_) => {}
                None => self.changed.wait(&mut tasks),
            }
        }
    }

    /// The answer of `ready`; if it has none, `waker` is woken by the next publication.
    pub fn poll<R>(&self, waker: &Waker, ready: impl Fn() -> Option<R>) -> Option<R> {
        let mut tasks = self.tasks.lock();
        let answer = ready();
        if answer.is_none() && !tasks.iter().any(|task| task.will_wake(waker)) {
            tasks.push(waker.clone());
        }
        answer
    }
}
