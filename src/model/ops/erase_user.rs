//! Erasing all that a user sent.

use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::fate::{UserFate, field};
use crate::model::image::Patch;
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Withholds the payloads of all messages that a user sent so far, and gives their bytes up.
    EraseUser = 61 "erase_user" { user: user, }

    fn makes_room(&self) -> bool {
        true
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let Some(user) = txn.find_user(self.user)? else { return Ok(Outcome::Unchanged) };
        let version = txn.version() + 1;
        txn.patch::<UserFate>(user, Patch::new().set(field::erased, version))
    }
}

impl Batch {
    /// Erases what all messages say that a user sent so far, in every channel, and what they said before their edits: as
    /// [`Batch::erase`] does for each, but in one change, whose version is the outcome's. From then on each of these
    /// messages is a stub ([`MessageState::Erased`](crate::MessageState::Erased)) that tells this version; the operations
    /// before it in the batch count as sent. Unread counts, orders and what is in lists stay. What the user sends later is
    /// whole. Erasing again erases what was sent meanwhile. An unknown user sent nothing: that changes nothing.
    ///
    /// A feed tells it once ([`Event::User`](crate::Event::User)), and so do servers to the clients that keep copies: no
    /// channel's [`changes`](crate::Store::changes) and no list's updates name the messages one by one. What is kept with them under keys
    /// ([`Batch::annotate`]) stays.
    ///
    /// Costs a row of a few bytes, whatever the user sent, and about 100 bytes of memory for each such user. While there
    /// are any, edits, retractions and erasures look up their message's sender. The bytes go from the store's files when
    /// files are merged, or at once by [`Store::erase_now`](crate::Store::erase_now).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft, MessageState};
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "my address")))?;
    /// store.commit(Batch::new().append("random", Draft::new("alice", 0, "my number")))?;
    /// store.commit(Batch::new().erase_user("alice").append("general", Draft::new("alice", 0, "hello again")))?;
    /// let messages = store.history("general").list()?;
    /// assert!(matches!(messages[0].state, MessageState::Erased { .. }) && messages[0].payload.is_empty());
    /// assert_eq!(messages[1].payload, "hello again");
    /// store.erase_now()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn erase_user(&mut self, user: impl AsRef<[u8]>) -> &mut Self {
        self.push(EraseUser { user: user.as_ref() })
    }
}
