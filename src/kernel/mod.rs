//! Tables, layers, views and merges: what lies between files and meaning. Nothing here knows what a membership is.
//!
//! `rows`, `names`, `chains`: what a layer holds in memory. `layer`: one unsealed log segment. `heads`: the end of every
//! channel. `fates`: what became of users. `fileset`: sealed files and frozen layers. `view`: the published state and views of it. `scan`: the one merge.
//! `values`: long bytes of rows, which lie beside them. `measures`: how long things took. `feeds`: how much memory feeds take.

pub mod chains;
mod chunks;
pub mod effects;
pub mod fates;
pub mod feeds;
pub mod fileset;
pub mod heads;
pub mod layer;
pub mod measures;
pub mod messages;
pub mod names;
pub mod rows;
pub mod scan;
mod undo;
pub mod values;
pub mod view;
pub mod watch;

pub use effects::Effects;
pub use fileset::{FileSet, Part, Place};
pub use layer::{Counts, Layer};
pub use view::{Kernel, Moment, View};
