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
//! - `serde`: `Serialize` and `Deserialize` for what the store answers.
//! - `metrics`: `Stat::publish`, for the `metrics` facade.
//! - `cli`: the `chanlog` binary.

#[doc = include_str!("../COVERAGE.md")]
pub mod coverage {}

#[doc = include_str!("../EVENTS.md")]
pub mod events {}

pub mod env;
mod error;
mod files;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod kernel;
mod model;
mod options;
mod read;
mod store;
mod upkeep;
mod write;

pub use error::{Error, Result};
pub use kernel::View;
pub use kernel::measures::{Histogram, Latencies};
pub use model::annotation::{Annotation, MAX_ANNOTATION};
pub use model::batch::{Argument, Batch, Durability};
pub use model::blob::Blob;
pub use model::channel::{Channel, MAX_CHANNEL_ATTRIBUTES};
pub use model::head::{BUFFERED_WINDOW, Head};
pub use model::mark::Mark;
pub use model::membership::{MAX_ATTRIBUTES, Membership, MembershipExtras};
pub use model::message::{Draft, Message, MessageState};
pub use model::ops::join::{HistoryFrom, JoinOptions};
pub use model::ops::leave::LeaveOptions;
pub use model::ops::require::Condition;
pub use model::outcome::{Outcome, Receipt};
pub use model::position::{MAX_POSITION_TAG, Position};
pub use model::retention::RetentionPolicy;
pub use model::set::{MAX_SET_ATTRIBUTES, SetMember};
pub use model::user::User;
pub use options::{MAX_PAYLOAD, Options};
pub use read::{
    Annotations, ChangeKind, ChannelChanges, Continuation, Conversation, Conversations, ErasedPart, Erasure,
    Erasures, Event, Feed, Found, History, List, ListChange, Listing, MemberEntry, MessageChange, ReadMark,
    SetEntry, SetListing, SyncToken, Unread, Update, Versions,
};
pub use store::{Applied, Commit, ErasedAgain, NextVersion, Store};
pub use upkeep::backup::Backup;
pub use upkeep::erasures::Erasing;
pub use upkeep::inspect::{Inspection, inspect};
pub use upkeep::report::{CacheUse, Files, Queues, Recovery, Scrubbed, Stat};
pub use upkeep::retention::Retained;
pub use upkeep::transfer::export::Export;
pub use upkeep::transfer::import::{Import, Imported};
pub use upkeep::transfer::repair::{MissingRows, Repair, StandIn, repair};
pub use upkeep::transfer::{
    Fact, FieldFact, MessageFact, MissingMessages, MissingValue, RowFact, StoreFact, UnknownTable, ValueFact,
};
pub use upkeep::verify::{Verification, verify};

/// The examples of README.md, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
