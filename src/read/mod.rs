//! Reading: history, conversations, listings, and the tokens between answers.
//!
//! Every call is made on one view, so that what it reads belongs together. A question can be asked of now (through
//! `Store`), or of a view that the caller holds.

mod alterations;
mod annotations;
mod by_id;
mod changes;
mod conversation;
mod erasures;
mod feed;
mod history;
mod listing;
mod mentions;
mod point;
mod sets;
mod standing;
mod token;

pub use annotations::Annotations;
pub use by_id::Found;
pub use changes::{ChangeKind, ChannelChanges, MessageChange};
pub use conversation::{Conversation, Conversations, List, ListChange, Unread, Update, Versions};
pub use erasures::{ErasedPart, Erasure, Erasures};
pub use feed::{Event, Feed};
pub use history::History;
pub(crate) use listing::Of;
pub use listing::{Listing, MemberEntry, ReadMark};
pub(crate) use sets::SetSide;
pub use sets::{SetEntry, SetListing};
pub use token::{Continuation, SyncToken};

use bytes::Bytes;

use crate::env::sync::Arc;
use crate::error::Result;
use crate::files::record::{self, Record};
use crate::kernel::{Kernel, View};
use crate::model::alteration::Alteration;
use crate::model::head::Head;
use crate::model::ids::{Named, UserId};
use crate::model::message::Message;

/// Of which moment a question is asked.
#[derive(Clone, Debug)]
pub(crate) enum At<'a> {
    /// Of the moment when it is answered.
    Now(&'a Arc<Kernel>),
    /// Of a view's.
    View(&'a View),
}

impl At<'_> {
    /// What the store keeps of how long things took goes there.
    fn kernel(&self) -> Arc<Kernel> {
        match self {
            At::Now(kernel) => Arc::clone(kernel),
            At::View(view) => view.kernel.clone(),
        }
    }

    fn view(&self) -> Result<View> {
        match self {
            At::Now(kernel) => kernel.view(),
            At::View(view) => {
                view.check()?;
                Ok((*view).clone())
            }
        }
    }
}

/// The classes that a question is about.
#[derive(Clone, Debug, Default)]
struct Classes(Vec<u8>);

impl Classes {
    /// Also this one.
    fn add(&mut self, class: u8) {
        self.0.push(class);
    }

    /// Whether a channel with this head is meant. If no class was named, all are.
    fn have(&self, head: &Head) -> bool {
        self.0.is_empty() || self.0.contains(&head.class)
    }
}

/// How many names are remembered. A name costs little more to look up than to remember, so that a few do.
const NAMES: usize = 16;

/// Turns records into messages, and remembers the names of recent senders.
struct Senders<'a> {
    view: &'a View,
    /// Each in the place that its id gives it.
    names: [Option<(UserId, Bytes)>; NAMES],
}

impl<'a> Senders<'a> {
    /// Knows no name yet.
    fn new(view: &'a View) -> Self {
        Senders { view, names: Default::default() }
    }

    fn name(&mut self, sender: UserId) -> Result<Bytes> {
        let place = &mut self.names[sender.0 as usize % NAMES];
        if let Some((id, name)) = place
            && *id == sender
        {
            return Ok(name.clone());
        }
        let name = self.view.name(Named::User, sender.0)?;
        *place = Some((sender, name.clone()));
        Ok(name)
    }

    /// The message of a record that borrows a part of `bytes`; the message shares it. `altered` is what became of it.
    fn message(
        &mut self,
        bytes: &Bytes,
        record: &Record<'_>,
        altered: Option<&Alteration>,
    ) -> Result<Message> {
        let payload = match altered {
            Some(altered) if altered.withheld() => Bytes::new(),
            Some(altered) if altered.edited => self.view.bytes_of(&altered.payload)?,
            _ => record::share(bytes, record.payload),
        };
        Ok(Message {
            seq: record.mark.seq,
            ordinal: record.mark.ordinal,
            version: record.version,
            sender: self.name(record.sender)?,
            timestamp: record.timestamp,
            silent: record.silent,
            quiet: record.quiet > 0,
            id: record.id,
            client_id: record.client_id.map(|id| record::share(bytes, id)),
            unique_id: record.unique_id.map(|id| record::share(bytes, id)),
            payload,
            state: altered.map(Alteration::state).unwrap_or_default(),
        })
    }
}
