//! Writing: from batches to frames in the log, and from there to the published state.
//!
//! `prepare` reads what a batch needs (`reads`), without a lock. `queue` forms groups. `commit` stages a group ([`transaction`] on top
//! of `overlay`), writes it and answers. `ahead` does most of that for large batches before their turn. `sync` makes it durable and publishes it.
//!
//! Locks, in the order in which they are taken: the writer's (`commit`), the syncer's (`sync`), those of the kernel. Under
//! the writer's lock the log is written, and no file is read. Under the others no file is touched.

pub mod ahead;
pub mod commit;
mod overlay;
mod prepare;
mod queue;
mod reads;
pub mod sync;
mod transaction;

pub use commit::{Committer, Help, Start};
pub use queue::Submitted;
