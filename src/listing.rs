//! Paged lists of names.

use bytes::Bytes;

use crate::error::Result;
use crate::store::Store;

/// Whose names are listed.
#[derive(Clone, Debug)]
pub(crate) enum Of {
    Channels,
    Users,
    Members(Vec<u8>),
    ChannelsOf(Vec<u8>),
}

/// A list of names, to be read page by page. Made by [`Store::channels`](crate::Store::channels) and its kin.
#[derive(Clone, Debug)]
#[must_use]
pub struct Listing<'a> {
    store: &'a Store,
    of: Of,
    after: Option<Vec<u8>>,
    limit: usize,
}

impl<'a> Listing<'a> {
    pub(crate) fn new(store: &'a Store, of: Of) -> Self {
        Listing { store, of, after: None, limit: usize::MAX }
    }

    /// Begins behind this name, the last one of the page before.
    pub fn after(mut self, name: impl AsRef<[u8]>) -> Self {
        self.after = Some(name.as_ref().into());
        self
    }

    /// At most so many names.
    pub fn limit(mut self, names: usize) -> Self {
        self.limit = names;
        self
    }

    /// The names.
    pub fn list(self) -> Result<Vec<Bytes>> {
        todo!()
    }
}
