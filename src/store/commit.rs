//! A commit that was submitted, and the ways to wait for it: by a thread, for a time, or as a task.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::engine::Engine;
use crate::env::sync::Arc;
use crate::error::Result;
use crate::model::outcome::Receipt;
use crate::write::Submitted;

/// A commit that was submitted. It may or may not be waited for; dropping it takes nothing back.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let store = chanlog::Store::open(dir.path())?;
/// use chanlog::{Batch, Draft};
/// let first = store.submit(Batch::new().append("general", Draft::new("alice", 0, "one")))?;
/// let second = store.submit(Batch::new().append("general", Draft::new("alice", 0, "two")))?;
/// second.wait()?; // One sync for both.
/// assert!(first.is_done());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a commit's outcome is known only after waiting for it"]
pub struct Commit {
    engine: Arc<Engine>,
    submitted: Submitted,
}

impl Commit {
    pub(super) fn new(engine: Arc<Engine>, submitted: Submitted) -> Commit {
        Commit { engine, submitted }
    }

    /// Whether [`Commit::wait`] would return at once.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.engine.syncer().is_done(self.submitted.lsn, self.submitted.wait)
    }

    /// Waits until the commit is as durable as was asked, and visible to readers.
    ///
    /// # Errors
    /// [`Error::Poisoned`](crate::Error::Poisoned) if the log can't be synced: whether the commit survives is unknown.
    pub fn wait(self) -> Result<Receipt> {
        let reached = self.engine.syncer().wait(self.submitted.lsn, self.submitted.wait);
        self.engine.tell();
        reached?;
        Ok(self.submitted.receipt)
    }

    /// Waits as [`Commit::wait`] does, but for `timeout` at most. If that is too short the commit comes back: it goes on by
    /// itself, takes effect as if nobody had asked, and may be waited for again, or dropped. Zero looks without waiting.
    ///
    /// A background thread syncs, as for a commit that is awaited, so that a slow disk does not keep the caller. (Without
    /// background threads the caller syncs first, however long that takes.)
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// use std::time::Duration;
    /// let commit = store.submit(Batch::new().append("general", Draft::new("alice", 0, "hi")))?;
    /// match commit.wait_timeout(Duration::from_secs(2))? {
    ///     Ok(receipt) => println!("seq {:?}", receipt.outcomes()[0].seq()),
    ///     Err(commit) => {
    ///         println!("the disk is slow: told later");
    ///         commit.wait()?;
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Commit::wait`]. That time ran out is none.
    pub fn wait_timeout(self, timeout: Duration) -> Result<std::result::Result<Receipt, Commit>> {
        let deadline = Instant::now().checked_add(timeout);
        let Submitted { lsn, wait, .. } = self.submitted;
        let reached = self.engine.syncer().wait_until(lsn, wait, deadline, || self.engine.sync_for_task());
        self.engine.tell();
        let reached = reached.transpose()?;
        Ok(if reached.is_some() { Ok(self.submitted.receipt) } else { Err(self) })
    }
}

/// Awaiting a commit is the same as [`Commit::wait`], under any runtime: no thread is blocked, and a background thread of
/// the store syncs for all that are awaited. (Without background threads, the task that polls syncs.)
///
/// The waker is called while the store holds locks: it may schedule its task, as wakers do, but not call the store.
impl Future for Commit {
    type Output = Result<Receipt>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Receipt>> {
        let this = self.get_mut();
        let (lsn, wait) = (this.submitted.lsn, this.submitted.wait);
        let mut reached = this.engine.syncer().poll(lsn, wait, context.waker());
        if reached.is_none() {
            this.engine.sync_for_task();
            reached = this.engine.syncer().poll(lsn, wait, context.waker());
        }
        match reached {
            Some(Ok(())) => Poll::Ready(Ok(std::mem::take(&mut this.submitted.receipt))),
            Some(Err(error)) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }
}
