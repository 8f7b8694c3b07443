//! Finding the messages whose time has come (DESIGN 9.3). Their expiry is an ordinary commit.

use super::files::Upkeep;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::expiry::{self, Expiry};
use crate::model::ids::Named;
use crate::model::key::TimeVersion;

/// What is due.
pub struct DueExpiries {
    /// The operations that let messages expire.
    pub batch: Batch,
    /// No message that is left is due before this time.
    pub next: u64,
}

impl Upkeep {
    /// Up to `most` messages that are due at a time in Unix milliseconds, of those that are not due before `from`.
    pub fn due_expiries(&self, from: u64, now: i64, most: usize) -> Result<DueExpiries> {
        let view = self.kernel.view()?;
        let mut due = DueExpiries { batch: Batch::new(), next: u64::MAX };
        let mut rows = view.scan::<Expiry>(TimeVersion { time: from, version: 0 }, 0)?;
        while let Some((at, row)) = rows.next()? {
            let head = row.channel().map(|channel| (channel, view.head_of(channel)));
            let Some((channel, head)) = head.filter(|_| !row.done) else { continue };
            // Those that went otherwise have nothing to expire.
            if head.dead() || row.seq <= head.trimmed.seq {
                continue;
            }
            if at.time > expiry::time(now) || due.batch.len() >= most {
                due.next = at.time;
                break;
            }
            due.batch.expire(&view.name(Named::Channel, channel.0)?, at);
        }
        Ok(due)
    }
}
