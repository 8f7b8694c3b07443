//! An embedded storage engine for instant-messaging servers.

#![allow(dead_code)]
mod batch;
mod change;
mod codec;
mod conversation;
pub mod env;
mod error;
mod heads;
mod history;
mod listing;
mod log;
mod message;
mod options;
mod record;
mod sealed;
mod stat;
mod store;
mod table;
mod types;
mod verify;

pub use batch::{Batch, Draft, Outcome, Receipt, Visible};
pub use conversation::{Change, Conversation, Conversations, List, Page, Token, Update};
pub use error::{Error, Result};
pub use history::History;
pub use listing::Listing;
pub use message::Message;
pub use options::{BUFFERED_WINDOW, Durability, MAX_PAYLOAD, Options};
pub use stat::{Files, Recovery, Stat};
pub use store::{Commit, Membership, Store};
pub use types::{Head, Mark};
pub use verify::{Verification, verify};
