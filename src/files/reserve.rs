//! Room on the disk that is kept for emptying it: a file of zeros, which is given back when a step finds the disk full that
//! frees more than it takes. Until the file can be made anew nobody may write but who frees room.
//!
//! The file holds nothing and is never synced or read. One that was left by an earlier session is taken over.
//!
//! Invariant: while room is lent, the file is not made, so that it takes none from who borrowed.

use std::io;

use super::disk::Disk;
use crate::env::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::env::sync::{Arc, Mutex};
use crate::env::{Access, Dir};
use crate::error::{Error, Result};

/// The file's name.
pub const NAME: &str = "chanlog.reserve";

/// Nobody asked for it yet.
const UNASKED: u8 = 0;
/// It is kept.
const KEPT: u8 = 1;
/// It is not wanted, or can't be kept for another reason than a full disk.
const WITHOUT: u8 = 2;
/// It was given back, or there was no room for it.
const LOW: u8 = 3;

/// The room that is kept.
pub struct Reserve {
    disk: Arc<Disk>,
    bytes: u64,
    state: AtomicU8,
    /// How many steps use the room.
    lent: Mutex<usize>,
    /// Whether subscribers were not told yet that it was given back.
    untold: AtomicBool,
}

/// Room that a step uses.
#[must_use]
pub struct Lent<'a>(&'a Reserve);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        *self.0.lent.lock() -= 1;
    }
}

impl Reserve {
    /// To keep so many bytes; none are kept before somebody asks for them, and never if there are 0.
    pub fn new(disk: Arc<Disk>, bytes: u64) -> Reserve {
        let state = AtomicU8::new(if bytes == 0 { WITHOUT } else { UNASKED });
        Reserve { disk, bytes, state, lent: Mutex::default(), untold: AtomicBool::new(false) }
    }

    /// How many bytes are kept at the moment.
    pub fn kept(&self) -> u64 {
        if self.state.load(Ordering::Acquire) == KEPT { self.bytes } else { 0 }
    }

    fn is_settled(&self) -> bool {
        matches!(self.state.load(Ordering::Acquire), KEPT | WITHOUT)
    }

    /// Whether the room was given back, or never there.
    pub fn is_low(&self) -> bool {
        self.state.load(Ordering::Acquire) == LOW
    }

    /// Sees to it that the room is kept. An error if it can't be, as the disk is full.
    pub fn keep(&self) -> Result<()> {
        if self.is_settled() {
            return Ok(());
        }
        let lent = self.lent.lock();
        if self.is_settled() {
            return Ok(());
        }
        let made = if *lent > 0 { Err(io::ErrorKind::StorageFull.into()) } else { self.make() };
        let made = made.map_err(|error| Error::io("allocate", &self.disk.path().join(NAME), error));
        match made {
            Err(full @ Error::OutOfSpace { .. }) => {
                self.run_low();
                Err(full)
            }
            made => {
                self.state.store(if made.is_ok() { KEPT } else { WITHOUT }, Ordering::Release);
                Ok(())
            }
        }
    }

    fn make(&self) -> io::Result<()> {
        let file = match self.disk.open(NAME, Access::Write) {
            Ok(file) if file.len()? <= self.bytes => file,
            _ => self.disk.create(NAME)?,
        };
        file.allocate(self.bytes).inspect_err(|_| _ = self.disk.remove(NAME))
    }

    /// Gives the room to a step that will free more than it takes, for as long as that lasts. `None` if none is ever kept.
    pub fn lend(&self) -> Option<Lent<'_>> {
        if self.bytes == 0 {
            return None;
        }
        let mut lent = self.lent.lock();
        *lent += 1;
        if !self.is_low() {
            let _ = self.disk.remove(NAME);
            self.run_low();
        }
        Some(Lent(self))
    }

    fn run_low(&self) {
        if self.state.swap(LOW, Ordering::AcqRel) != LOW {
            self.untold.store(true, Ordering::Release);
        }
    }

    /// Whether the room was given back since this was asked.
    pub fn take_untold(&self) -> bool {
        self.untold.load(Ordering::Acquire) && self.untold.swap(false, Ordering::AcqRel)
    }
}
