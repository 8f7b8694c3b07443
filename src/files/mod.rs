//! Bytes on disk: the log, sealed files of both kinds, the manifest, and the directory that they lie in.
//!
//! Nothing here knows what is published, and which file is needed when. Bytes are hostile: every length is checked before
//! anything is allocated, and what is wrong is told with file and offset.

pub mod change;
pub mod disk;
pub mod erased;
pub mod log;
pub mod manifest;
pub mod note;
pub mod record;
pub mod reserve;
pub mod sealed;
pub mod segment;
pub mod table;
