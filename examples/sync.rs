//! A client that keeps its conversation list up to date by tokens: it asks what changed since its last answer, and not
//! for the whole list again. The server may stop and start meanwhile; the token stays good.
//!
//! Run it with `cargo run --example sync`.

use std::collections::BTreeMap;

use bytes::Bytes;
use chanlog::{Batch, Draft, ListChange, Store, Update};

/// What a client keeps. The token is text, so that it can travel and be stored.
struct Client {
    user: &'static str,
    unread: BTreeMap<Bytes, u64>,
    token: String,
}

impl Client {
    /// Begins with the whole list.
    fn start(store: &Store, user: &'static str) -> chanlog::Result<Client> {
        let list = store.conversations(user).list()?;
        let unread = list.entries.into_iter().map(|entry| (entry.channel, entry.unread)).collect();
        Ok(Client { user, unread, token: list.as_of.to_string() })
    }

    /// Takes in what changed. A token that this store can't answer, say after a backup was restored, says start over.
    fn update(&mut self, store: &Store) -> chanlog::Result<()> {
        match store.conversations(self.user).since(&self.token.parse()?)? {
            Update::Changes { changes, as_of, .. } => {
                println!("{} change(s)", changes.len());
                changes.into_iter().for_each(|change| self.apply(change));
                self.token = as_of.to_string();
            }
            _ => *self = Client::start(store, self.user)?,
        }
        Ok(())
    }

    fn apply(&mut self, change: ListChange) {
        match change {
            ListChange::Entry(entry) => self.unread.insert(entry.channel, entry.unread),
            ListChange::Removed { channel, .. } => self.unread.remove(&channel),
            other => unreachable!("a change of a newer release: {other:?}"),
        };
    }

    fn print(&self) {
        println!("{}: {:?}\n", self.user, self.unread);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path())?;
    let mut batch = Batch::new();
    for channel in ["general", "lunch", "news"] {
        batch.join(channel, "alice").join(channel, "bob");
        batch.append(channel, Draft::new("alice", 1_780_300_800_000, "hello"));
    }
    store.commit(&batch)?;

    let mut bob = Client::start(&store, "bob")?;
    bob.print();

    // Two channels change, and the third is not mentioned.
    let mut batch = Batch::new();
    batch.append("general", Draft::new("alice", 1_780_300_801_000, "anybody there?"));
    batch.read("lunch", "bob", u64::MAX);
    store.commit(&batch)?;
    bob.update(&store)?;
    bob.print();

    // The server stops and starts; what happens then is told by the same token.
    store.close()?;
    let store = Store::open(dir.path())?;
    store.commit(Batch::new().leave("news", "bob"))?;
    bob.update(&store)?;
    bob.print();

    // Whatever happened, a client that passes the last token it got holds the list that a new client would see.
    assert_eq!(bob.unread, Client::start(&store, "bob")?.unread);
    store.close()?;
    Ok(())
}
