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
use crate::model::ids::{EVERYBODY, Named, UserId};
use crate::model::message::{Message, MessageState};

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

/// The length of the payload that a message in a state has for who reads it.
fn payload_len(state: MessageState, record: &Record<'_>, altered: Option<&Alteration>) -> usize {
    match (state, altered) {
        (MessageState::Sent, _) => record.payload.len(),
        (MessageState::Edited { .. }, Some(altered)) => altered.payload.len(),
        _ => 0,
    }
}

/// Turns records into messages, and remembers recent senders.
struct Senders<'a> {
    view: &'a View,
    /// Each in the place that its id gives it.
    known: [KnownSender; NAMES],
    /// The time, once a message was met that expires.
    now: Option<i64>,
}

/// A sender; nobody's to begin with.
struct KnownSender {
    id: UserId,
    name: Bytes,
    /// What the sender sent up to this version is erased.
    erased: u64,
}

impl<'a> Senders<'a> {
    /// Knows no name yet.
    fn new(view: &'a View) -> Self {
        const NOBODY: KnownSender = KnownSender { id: EVERYBODY, name: Bytes::new(), erased: 0 };
        Senders { view, known: [NOBODY; NAMES], now: None }
    }

    fn sender(&mut self, id: UserId) -> Result<&KnownSender> {
        let known = &mut self.known[id.0 as usize % NAMES];
        if known.id != id {
            let name = match self.view.is_dead(Named::User, id.0) {
                true => Bytes::new(),
                false => self.view.name(Named::User, id.0)?,
            };
            let erased = self.view.erased_upto(id)?;
            *known = KnownSender { id, name, erased };
        }
        Ok(known)
    }

    /// The time of the call.
    fn now(&mut self) -> i64 {
        *self.now.get_or_insert_with(|| self.view.time())
    }

    /// What became of a message, to who reads it: `altered` is what became of it alone.
    fn state(&mut self, record: &Record<'_>, altered: Option<&Alteration>) -> Result<MessageState> {
        if let Some(at) = record.expires()
            && (altered.is_some_and(|altered| altered.expired) || at <= self.now())
        {
            return Ok(MessageState::Expired { at });
        }
        let state = altered.map(Alteration::state).unwrap_or_default();
        let erased = self.sender(record.sender)?.erased;
        Ok(match state {
            MessageState::Erased { .. } => state,
            _ if record.version <= erased => MessageState::Erased { version: erased },
            _ => state,
        })
    }

    /// The message of a record that borrows a part of `bytes`; the message shares it. `altered` is what became of it.
    fn message(
        &mut self,
        bytes: &Bytes,
        record: &Record<'_>,
        altered: Option<&Alteration>,
    ) -> Result<Message> {
        let state = self.state(record, altered)?;
        self.message_in(state, bytes, record, altered)
    }

    /// The same, given its state.
    fn message_in(
        &mut self,
        state: MessageState,
        bytes: &Bytes,
        record: &Record<'_>,
        altered: Option<&Alteration>,
    ) -> Result<Message> {
        let payload = match (state, altered) {
            (MessageState::Sent, _) => record::share(bytes, record.payload),
            (MessageState::Edited { .. }, Some(altered)) => self.view.bytes_of(&altered.payload)?,
            _ => Bytes::new(),
        };
        Ok(Message {
            seq: record.mark.seq,
            ordinal: record.mark.ordinal,
            version: record.version,
            sender: self.sender(record.sender)?.name.clone(),
            timestamp: record.timestamp,
            silent: record.silent,
            quiet: record.quiet > 0,
            id: record.id,
            client_id: record.client_id.map(|id| record::share(bytes, id)),
            unique_id: record.unique_id.map(|id| record::share(bytes, id)),
            expires: record.expires(),
            payload,
            state,
        })
    }
}
