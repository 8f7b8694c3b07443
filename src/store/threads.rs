//! The handles of the background threads, and what they and writers tell each other. What they do stands in `workers`.

use std::time::Duration;

use crate::env::Thread;
use crate::env::fault;
use crate::env::sync::channel::Sender;
use crate::env::sync::{Condvar, Mutex};
use crate::error::{Error, Result};

/// What threads and writers tell each other.
#[derive(Default)]
pub struct Signals {
    state: Mutex<SealerState>,
    changed: Condvar,
}

#[derive(Default)]
struct SealerState {
    closed: bool,
    /// Why sealing fails at present.
    failure: Option<Error>,
}

impl Signals {
    /// Tells everybody that the store closes. False if it was told before.
    pub fn close(&self) -> bool {
        let first = !std::mem::replace(&mut self.state.lock().closed, true);
        self.changed.notify_all();
        first
    }

    /// Whether the store closes.
    pub fn closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Tells how sealing went.
    pub fn sealed(&self, failure: Option<Error>) {
        self.state.lock().failure = failure;
        self.changed.notify_all();
    }

    /// Waits until there is room, sealing fails, or the store closes.
    pub fn wait_for_room(&self, room: impl Fn() -> Result<bool>) -> Result<()> {
        let mut state = self.state.lock();
        while !room()? {
            if state.closed {
                return Err(Error::Closed);
            }
            if let Some(failure) = state.failure.as_ref().filter(|_| !fault(107)) {
                return Err(failure.clone());
            }
            self.changed.wait(&mut state);
        }
        Ok(())
    }

    /// Waits for a time, or until the store closes.
    pub fn doze(&self, time: Duration) {
        let mut state = self.state.lock();
        let deadline = std::time::Instant::now().checked_add(time);
        while !state.closed {
            match deadline {
                Some(deadline) if self.changed.wait_until(&mut state, deadline).timed_out() => return,
                Some(_) => {}
                None => self.changed.wait(&mut state),
            }
        }
    }
}

/// The threads and how to wake them.
pub struct Threads {
    pub seal: Sender<()>,
    pub merges: [Sender<()>; 2],
    pub sync: Sender<()>,
    pub note: Sender<()>,
    pub scrub: Sender<()>,
    pub handles: Vec<Box<dyn Thread>>,
}

impl Threads {
    /// There may be something to seal.
    pub fn wake_sealer(&self) {
        let _ = self.seal.try_send(());
    }

    /// There may be something to merge.
    pub fn wake_mergers(&self) {
        self.merges.iter().for_each(|merge| _ = merge.try_send(()));
    }

    /// There is something to sync.
    pub fn wake_syncer(&self) {
        let _ = self.sync.try_send(());
    }

    /// Something was written: it is published, or soon will be.
    pub fn wake_noter(&self) {
        let _ = self.note.try_send(());
    }

    /// Waits for all of them to end.
    pub fn join(self) {
        let Threads { seal, merges, sync, note, scrub, handles } = self;
        drop((seal, merges, sync, note, scrub));
        handles.into_iter().for_each(Thread::join);
    }
}
