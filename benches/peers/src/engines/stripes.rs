//! Locks by channel or user, for stores whose batches can't read: what a batch rests on must stay until it is written.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many that 1,000 threads seldom meet.
const STRIPES: u64 = 4096;

pub struct Stripes(Vec<Mutex<()>>);

impl Stripes {
    pub fn new() -> Stripes {
        Stripes((0..STRIPES).map(|_| Mutex::default()).collect())
    }

    /// Locks all that are named, in one order for everybody.
    pub fn lock(&self, numbers: impl Iterator<Item = u64>) -> Vec<MutexGuard<'_, ()>> {
        let mut stripes: Vec<_> = numbers.map(|number| (number % STRIPES) as usize).collect();
        stripes.sort_unstable();
        stripes.dedup();
        let lock = |stripe: usize| self.0[stripe].lock().unwrap_or_else(PoisonError::into_inner);
        stripes.into_iter().map(lock).collect()
    }
}
