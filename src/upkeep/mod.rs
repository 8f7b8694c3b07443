//! What keeps a store in shape: opening it, sealing, merging, and checking every byte.
//!
//! `backup` makes a second directory of a store; `files` owns the set of files and the manifest; `seal` and `merge` are its steps; `tombstones` and `dead` say what a merge drops; `deletions` ends the memberships of deleted users; `expiry` finds messages whose time has come; `trimmed` removes
//! segments that nobody reads any more, `withheld` takes bytes out of others, `erasures` knows what waits for that, and `overdue` since when; `scrub` reads sealed files again, whose turn it is by `turns`; `step` is what was done, to be told; `publish` gives numbers to the `metrics` facade;
//! `recovery` opens a store; `verify` reads all of one; `inspect` shows the parts of one file; `report` holds the numbers that are told about a store.

pub mod backup;
mod dead;
mod deletions;
pub mod erasures;
mod expiry;
mod files;
pub mod inspect;
mod merge;
pub mod overdue;
#[cfg(feature = "metrics")]
mod publish;
pub mod recovery;
pub mod report;
pub mod retention;
mod scrub;
mod seal;
mod step;
mod tombstones;
pub mod transfer;
mod trimmed;
mod turns;
pub mod verify;
mod withheld;

pub use files::Upkeep;
pub use merge::Merges;
