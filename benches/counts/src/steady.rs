//! The operating system's files with a clock that stands still and numbers that are drawn alike at each run, so that two runs of
//! one piece of work do the same.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chanlog::env::{Dir, Env, OsEnv};

use crate::fixture::random;

/// That environment.
#[derive(Default)]
pub struct SteadyEnv {
    os: OsEnv,
    drawn: AtomicU64,
}

impl Env for SteadyEnv {
    fn open_dir(&self, path: &Path, make: bool) -> io::Result<Arc<dyn Dir>> {
        self.os.open_dir(path, make)
    }

    fn unix_ms(&self) -> i64 {
        1_780_000_000_000
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        for byte in bytes {
            *byte = random(self.drawn.fetch_add(1, Ordering::Relaxed)) as u8;
        }
        Ok(())
    }
}
