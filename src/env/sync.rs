//! Locks, atomics, channels and threads. All code of the engine takes them from here and nowhere else, so that others can
//! stand in their place: with `--cfg shuttle` this module is `sync_shuttle.rs`, under which a test decides the order in
//! which threads run.

use std::io;
use std::thread::{Builder, JoinHandle};

use super::Thread;

pub use std::thread::{sleep, yield_now};

pub use crossbeam_channel as channel;
pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use std::sync::atomic;
pub use std::sync::atomic::{AtomicU64, Ordering};
pub use std::sync::{Arc, Weak};

impl Thread for JoinHandle<()> {
    fn join(self: Box<Self>) {
        // Whoever must know of a panic catches it in the thread itself.
        let _ = JoinHandle::join(*self);
    }
}

/// Starts a thread of the operating system.
pub fn spawn(name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Thread>> {
    Ok(Box::new(Builder::new().name(name.into()).spawn(work)?))
}
