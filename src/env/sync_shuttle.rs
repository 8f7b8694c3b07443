//! What `sync.rs` gives, for builds with `--cfg shuttle`: there each lock, each atomic and each start of a thread is a place
//! where the schedule may go another way, and `tests/shuttle.rs` tries very many schedules. No other build has this file.
//!
//! Locks have the interface of those in `sync.rs`. There is no time: one who waits for a while goes on whenever the schedule
//! lets it, and whether time had run out by then is drawn.
//!
//! All of this works within a run of shuttle alone.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, TryLockError};
use std::time::Instant;

use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{
    Condvar as FreeCondvar, Mutex as FreeMutex, MutexGuard as FreeGuard, RwLock as FreeRwLock,
    RwLockWriteGuard as FreeWriteGuard,
};
use shuttle::thread::{Builder, JoinHandle};

use super::Thread;

pub use shuttle::sync::RwLockReadGuard;
pub use shuttle::sync::atomic;
pub use shuttle::sync::atomic::{AtomicU64, Ordering};
pub use shuttle::thread::{sleep, yield_now};
pub use std::sync::{Arc, Weak};

/// Channels that hold so many at most.
pub mod channel {
    pub use shuttle::sync::mpsc::{Receiver, SyncSender as Sender, sync_channel as bounded};
}

/// As that of `parking_lot`: a panic of who holds it is none for others.
#[derive(Debug, Default)]
pub struct Mutex<T> {
    lock: FreeMutex<T>,
}

impl<T> Mutex<T> {
    /// A lock around a value.
    pub const fn new(value: T) -> Self {
        Mutex { lock: FreeMutex::new(value) }
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { lock: &self.lock, held: Some(locked(&self.lock)) }
    }

    /// Takes the lock if nobody has it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = match self.lock.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { lock: &self.lock, held: Some(held) })
    }
}

fn locked<T>(lock: &FreeMutex<T>) -> FreeGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds a lock, but for the time within [`MutexGuard::unlocked`] and [`Condvar::wait`].
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    lock: &'a FreeMutex<T>,
    held: Option<FreeGuard<'a, T>>,
}

impl<T> MutexGuard<'_, T> {
    /// Does something without the lock.
    pub fn unlocked<R>(guard: &mut Self, work: impl FnOnce() -> R) -> R {
        guard.held = None;
        // A panic must not leave it without its lock.
        let relock = Relock(guard);
        let done = work();
        drop(relock);
        done
    }
}

struct Relock<'g, 'a, T>(&'g mut MutexGuard<'a, T>);

impl<T> Drop for Relock<'_, '_, T> {
    fn drop(&mut self) {
        self.0.held = Some(locked(self.0.lock));
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().expect("it is held again before anybody can ask")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("it is held again before anybody can ask")
    }
}

/// Where threads wait to be told of a change.
#[derive(Debug, Default)]
pub struct Condvar {
    told: FreeCondvar,
}

/// How a wait for some time ended.
pub struct Waited {
    out: bool,
}

impl Waited {
    /// Whether time ran out.
    pub fn timed_out(&self) -> bool {
        self.out
    }
}

impl Condvar {
    /// Waits to be told, without the lock.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        if let Some(held) = guard.held.take() {
            guard.held = Some(self.told.wait(held).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Lets others go on, as if for some time; whether it was enough for the deadline is drawn.
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> Waited {
        MutexGuard::unlocked(guard, yield_now);
        Waited { out: thread_rng().r#gen() }
    }

    /// Tells one who waits.
    pub fn notify_one(&self) {
        self.told.notify_one();
    }

    /// Tells all who wait.
    pub fn notify_all(&self) {
        self.told.notify_all();
    }
}

/// As that of `parking_lot`.
#[derive(Debug, Default)]
pub struct RwLock<T> {
    lock: FreeRwLock<T>,
}

impl<T> RwLock<T> {
    /// A lock around a value.
    pub const fn new(value: T) -> Self {
        RwLock { lock: FreeRwLock::new(value) }
    }

    /// Waits until nobody writes.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.lock.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else has it.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard { lock: &self.lock, held: Some(written(&self.lock)) }
    }
}

fn written<T>(lock: &FreeRwLock<T>) -> FreeWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Holds a lock for writing, but for the time within [`RwLockWriteGuard::bump`].
#[derive(Debug)]
pub struct RwLockWriteGuard<'a, T> {
    lock: &'a FreeRwLock<T>,
    held: Option<FreeWriteGuard<'a, T>>,
}

impl<T> RwLockWriteGuard<'_, T> {
    /// Lets others have the lock in between.
    pub fn bump(guard: &mut Self) {
        guard.held = None;
        guard.held = Some(written(guard.lock));
    }

    /// Lets go of the lock.
    pub fn unlock_fair(guard: Self) {
        drop(guard);
    }
}

impl<T> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().expect("it is held again before anybody can ask")
    }
}

impl<T> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("it is held again before anybody can ask")
    }
}

impl Thread for JoinHandle<()> {
    fn join(self: Box<Self>) {
        let _ = JoinHandle::join(*self);
    }
}

/// Starts a thread of the schedule.
pub fn spawn(name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Thread>> {
    Ok(Box::new(Builder::new().name(name.into()).spawn(work)?))
}
