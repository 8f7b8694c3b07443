//! Locks, atomics and threads. All code of the engine takes them from here and nowhere else, so that a test can put its
//! own in their place, such as ones that try every order in which threads may run.

use std::io;
use std::thread::{Builder, JoinHandle};

pub use std::thread::yield_now;

pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use std::sync::atomic;
pub use std::sync::atomic::{AtomicU64, Ordering};
pub use std::sync::{Arc, Weak};

/// A thread that was started by [`Env::spawn`](super::Env::spawn). It goes on if this is dropped.
pub trait Thread: Send {
    /// Waits until the thread has ended, by a panic or otherwise.
    fn join(self: Box<Self>);
}

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
