//! Emptying a channel: a trim of all there is.

use super::trim::Trim;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Takes all messages of a channel from everybody.
    Empty = 58 "empty" { channel: channel, }

    fn makes_room(&self) -> bool {
        true
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        Trim { channel: self.channel, seq: u64::MAX, only: None }.run(txn)
    }
}

impl Batch {
    /// Takes all messages of a channel from everybody, and what is kept with them: a [`trim`](Batch::trim) of all there is by
    /// then. Members, their rows, sets and what is kept with the channel stay, and so do its last seq and its place in lists.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// store.commit(Batch::new().join("general", "bob").append("general", Draft::new("alice", 0, "hi")))?;
    /// store.commit(Batch::new().empty("general"))?;
    /// assert!(store.history("general").list()?.is_empty());
    /// assert_eq!(store.members("general").list()?, ["bob"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn empty(&mut self, channel: impl AsRef<[u8]>) -> &mut Self {
        self.push(Empty { channel: channel.as_ref() })
    }
}
