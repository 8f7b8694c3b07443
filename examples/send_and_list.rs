//! Two people and two channels: send messages, list conversations, mark one as read.
//!
//! Run it with `cargo run --example send_and_list`.

use chanlog::{Batch, Draft, Store};

/// When the first message is sent: Unix milliseconds, which are the caller's to choose.
const MONDAY: i64 = 1_780_300_800_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path())?;

    // A batch is one commit: all of it or nothing. It is on disk when `commit` returns.
    let mut batch = Batch::new();
    batch.join("general", "alice").join("general", "bob").join("lunch", "alice").join("lunch", "bob");
    batch.append("general", Draft::new("alice", MONDAY, "good morning"));
    batch.append("lunch", Draft::new("alice", MONDAY + 1_000, "noodles or rice?"));
    batch.append("lunch", Draft::new("alice", MONDAY + 2_000, "noodles, then"));
    let receipt = store.commit(&batch)?;
    println!("{} operations were written", receipt.outcomes().len());

    print_list(&store, "bob")?;

    // Up to the end of the channel; a seq would do as well.
    store.commit(Batch::new().read("lunch", "bob", u64::MAX))?;
    println!("bob has read lunch");
    print_list(&store, "bob")?;

    // An answer moves its channel to the top of everybody's list, and is unread by all but its sender.
    store.commit(Batch::new().append("general", Draft::new("bob", MONDAY + 3_000, "good morning!")))?;
    println!("bob answers in general");
    print_list(&store, "alice")?;

    store.close()?;
    Ok(())
}

/// Prints a user's conversations, newest first.
fn print_list(store: &Store, user: &str) -> chanlog::Result<()> {
    println!("\n{user}'s conversations");
    for entry in store.conversations(user).limit(20).list()?.entries {
        let channel = String::from_utf8_lossy(&entry.channel);
        let last = entry.last.map(|message| message.payload).unwrap_or_default();
        println!("  {channel:<8} {} unread   {}", entry.unread, String::from_utf8_lossy(&last));
    }
    println!();
    Ok(())
}
