//! Erasing again, in a copy of a store from before, what was erased in the store since.

use super::Store;
use crate::error::{Error, Result};
use crate::kernel::View;
use crate::model::batch::Batch;
use crate::model::ids::{ChannelId, Named};
use crate::model::outcome::Outcome;
use crate::read::{ErasedPart, Erasure};

/// How many are committed together.
const TOGETHER: usize = 1000;

/// What [`Store::erase_again`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ErasedAgain {
    /// How many were done.
    pub done: u64,
    /// How many had nothing to do: what they are about is not in this store, or gone already.
    pub needless: u64,
}

impl Store {
    /// Erases, trims and deletes what was so elsewhere: in the store of which this one is a copy from before
    /// ([`View::erasures`]). What this copy does not have is passed by. Afterwards the bytes go from the files too, as by
    /// [`Store::erase_now`]. Call it before anybody reads the store.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if a channel's number and name don't go together here, as then this is no copy of that store; those
    /// of [`Store::commit`] and [`Store::erase_now`]. What was erased by then stays so, and the call can be made again.
    pub fn erase_again<'e>(&self, erasures: impl IntoIterator<Item = &'e Erasure>) -> Result<ErasedAgain> {
        let (mut again, mut batch, mut count) = (ErasedAgain::default(), Batch::new(), 0);
        let view = self.view()?;
        for erasure in erasures {
            add(&view, erasure, &mut batch)?;
            count += 1;
            if count % TOGETHER == 0 {
                again.done += self.erase_all(&mut batch)?;
            }
        }
        again.done += self.erase_all(&mut batch)?;
        again.needless = count as u64 - again.done;
        drop(view);
        self.erase_now()?;
        Ok(again)
    }

    /// Commits a batch, and tells how many of its operations changed anything.
    fn erase_all(&self, batch: &mut Batch) -> Result<u64> {
        let receipt = self.commit(&std::mem::take(batch))?;
        Ok(receipt.outcomes().iter().filter(|outcome| **outcome != Outcome::Unchanged).count() as u64)
    }
}

/// Adds to a batch what erases the same in this store, if anything does.
fn add(view: &View, erasure: &Erasure, batch: &mut Batch) -> Result<()> {
    let Erasure { name, id, part, .. } = erasure;
    let named = match part {
        ErasedPart::Sent | ErasedPart::User => Named::User,
        _ => Named::Channel,
    };
    if *id >= view.moment.counts.names(named) {
        // It was made later.
        return Ok(());
    }
    let known = view.name(named, *id)?;
    if known != *name {
        let (kind, known, name) = (named.word(), known.escape_ascii(), name.escape_ascii());
        let what = format!(
            "{kind} {id} is called \"{known}\" here and not \"{name}\": this is no copy of that store"
        );
        return Err(Error::invalid(what));
    }
    let head = view.head_of(ChannelId(*id));
    let here = |seq: u64| head.trimmed.seq < seq && seq <= head.last.seq;
    match part {
        ErasedPart::Sent | ErasedPart::User if view.find(Named::User, name)? != Some(*id) => {}
        ErasedPart::Sent => _ = batch.erase_user(name),
        ErasedPart::User => _ = batch.delete_user(name),
        _ if head.dead() => {}
        ErasedPart::Message(seq) if here(*seq) => _ = batch.erase(name, *seq),
        ErasedPart::UpTo(seq) => _ = batch.trim(name, *seq),
        ErasedPart::Channel => _ = batch.delete_channel(name),
        ErasedPart::Message(_) => {}
    }
    Ok(())
}
