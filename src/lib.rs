//! An embedded storage engine for instant-messaging servers.
//!
//! chanlog keeps messages by (channel, seq), a cursor for each user in each channel, and an index that answers which of a
//! user's channels changed. A message is written once, whatever the number of members; a conversation list is computed when
//! it is asked for.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path();
//! use chanlog::{Batch, Draft, Store};
//!
//! let store = Store::open(path)?;
//! let mut batch = Batch::new();
//! batch.join("general", "alice").join("general", "bob");
//! batch.append("general", Draft::new("alice", 1_780_000_000_000, "hello, bob"));
//! store.commit(&batch)?;
//!
//! let list = store.conversations("bob").limit(20).list()?;
//! assert_eq!(list.entries[0].unread, 1);
//! store.commit(Batch::new().read("general", "bob", u64::MAX))?;
//! # Ok::<(), chanlog::Error>(())
//! ```
//!
//! Start with [`Store`]; [`Options`] opens one with other settings. `DESIGN.md` in the repository tells how it works: file
//! formats, write path, visibility, recovery, merging, invariants and limits.
//!
//! # Features
//!
//! - `sim`: `env::SimEnv`, a simulated disk that crashes, tears, fails and fills up, for tests.
//! - `cli`: the `chanlog` binary.

mod batch;
mod change;
mod codec;
mod commit;
mod conversation;
mod engine;
pub mod env;
mod error;
mod fetch;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod heads;
mod history;
mod listing;
mod log;
mod maintenance;
mod manifest;
mod memtable;
mod message;
mod options;
mod record;
mod recovery;
mod rows;
mod sealed;
mod segment;
mod stage;
mod stat;
mod state;
mod store;
mod sync;
mod table;
mod token;
mod types;
mod verify;

pub use batch::{Batch, Draft, Outcome, Receipt, Visible};
pub use conversation::{Change, Conversation, Conversations, List, Update};
pub use error::{Error, Result};
pub use history::History;
pub use listing::Listing;
pub use message::Message;
pub use options::{BUFFERED_WINDOW, Durability, MAX_PAYLOAD, Options};
pub use stat::{Files, Recovery, Stat};
pub use store::{Commit, Membership, Store};
pub use token::{Page, Token};
pub use types::{Head, Mark};
pub use verify::{Verification, verify};

/// The examples of README.md, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
