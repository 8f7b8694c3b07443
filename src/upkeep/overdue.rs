//! When erased bytes are to be taken out of files (DESIGN 9.5). What they are, and where, stands in `erasures`.
//!
//! Whether anything was erased after the version up to which all is gone is known from the heads; since when it waits, from the
//! moment at which that was noticed. The note in `files/erased` carries both over an end of the process.

use std::time::Duration;

use crate::env::sync::{Arc, Mutex};
use crate::files::disk::Disk;
use crate::files::erased::Gone;
use crate::files::sealed::StoreId;
use crate::kernel::Kernel;

/// The time of an erasure of which the time is not known: long ago.
pub const UNKNOWN: i64 = 1;
/// How far erased bytes are gone, and since when others wait.
pub struct ErasureClock {
    disk: Arc<Disk>,
    store: StoreId,
    state: Mutex<ErasureTimes>,
}

struct ErasureTimes {
    gone: Gone,
    /// Up to this version they are being taken out.
    doing: u64,
    /// When segments are looked at next for what else nobody reads, in Unix milliseconds.
    look: i64,
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl ErasureClock {
    /// As the note says, if it can be about this store as it is.
    pub fn new(disk: Arc<Disk>, kernel: &Kernel, now: i64, within: Duration) -> ErasureClock {
        let version = kernel.moment().counts.version;
        let note = Gone::read(&disk, &kernel.store).filter(|note| note.version <= version);
        let mut gone = note.unwrap_or_default();
        if kernel.erased() > gone.version && gone.since == 0 {
            gone.since = UNKNOWN;
        }
        let state = ErasureTimes { gone, doing: 0, look: now.saturating_add(millis(within / 2)) };
        ErasureClock { disk, store: kernel.store, state: Mutex::new(state) }
    }

    /// Notes that something was erased up to a version, by now at the latest.
    pub fn notice(&self, erased: u64, now: i64) {
        let mut state = self.state.lock();
        if erased > state.gone.version.max(state.doing) && state.gone.since == 0 {
            state.gone.since = now;
            state.gone.write(&self.disk, &self.store);
        }
    }

    /// How far erased bytes are gone, and since when others wait, if they do.
    pub fn gone(&self, erased: u64) -> (u64, Option<i64>) {
        let state = self.state.lock();
        (state.gone.version, (erased > state.gone.version).then_some(state.gone.since))
    }

    /// Whether files are to be written anew: half of the time has passed, and the other half is for the work.
    pub fn is_due(&self, erased: u64, now: i64, within: Duration) -> bool {
        let half = millis(within / 2);
        let state = self.state.lock();
        let waits = erased > state.gone.version && now >= state.gone.since.saturating_add(half);
        // A clock that was far ahead must not put it off.
        waits || now >= state.look || state.look > now.saturating_add(half)
    }

    /// Begins to take out all that was erased up to a version. Returns since when that waited.
    pub fn begin(&self, upto: u64) -> i64 {
        let mut state = self.state.lock();
        state.doing = upto;
        std::mem::take(&mut state.gone.since)
    }

    /// Notes that all up to a version is out, or with `since`, that it waits on.
    pub fn end(&self, upto: u64, failed: Option<i64>, next_look: i64) {
        let mut state = self.state.lock();
        state.doing = 0;
        match failed {
            Some(since) if since > 0 => state.gone.since = since,
            Some(_) => {}
            None => (state.gone.version, state.look) = (state.gone.version.max(upto), next_look),
        }
        state.gone.write(&self.disk, &self.store);
    }
}
