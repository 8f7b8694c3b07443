//! Many tasks that send at the same time, each awaiting its own commit, and sharing syncs.
//!
//! ```sh
//! cargo run --example await_commits
//! ```
//!
//! A commit is a future that needs no particular runtime. `submit` writes to the log and may wait for a moment, so it goes
//! to the blocking pool; awaiting blocks no thread.

use chanlog::{Batch, Draft, Store};

const SENDERS: usize = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path())?;
    let sends = (0..SENDERS).map(|n| tokio::spawn(send(store.clone(), format!("user {n}"))));
    let mut seqs = Vec::new();
    for send in sends.collect::<Vec<_>>() {
        seqs.push(send.await??);
    }
    seqs.sort_unstable();
    assert!(seqs.iter().copied().eq(1..=SENDERS as u64));
    println!("{SENDERS} messages are on disk, after {} syncs", store.stat()?.syncs);
    store.close()?;
    Ok(())
}

/// Sends one message and returns its seq once it is on disk.
async fn send(store: Store, user: String) -> chanlog::Result<u64> {
    let submit = move || {
        let draft = Draft::new(&user, 1_780_000_000_000, "hello");
        store.submit(Batch::new().append("general", draft))
    };
    let commit = tokio::task::spawn_blocking(submit).await.expect("submitting does not panic")?;
    let receipt = commit.await?;
    Ok(receipt.outcomes()[0].seq().expect("a message was appended"))
}
