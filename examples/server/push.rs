//! A worker that follows all messages and notifies who may not have seen them. A search index or a webhook is fed the same way.

use std::time::Duration;

use chanlog::{Batch, Event, Message, Store};

use crate::web::text;

/// The user in whose attributes the worker keeps how far it is.
const WORKER: &str = "@push";

/// Works until the store is closed. What it did before it noted how far it was is done again after a crash: each message is
/// notified at least once. Where what a worker makes lies in the store too, one batch with both makes that exactly once.
pub fn work(store: &Store) -> chanlog::Result<()> {
    let mut feed = store.feed();
    let kept = store.user(WORKER)?.unwrap_or_default().attributes;
    if let Some(token) = kept.bytes().filter(|token| !token.is_empty()) {
        feed = feed.after(&text(token).parse()?);
    }
    loop {
        feed.wait(Duration::from_secs(60))?;
        let mut told = 0;
        for event in feed.by_ref().take(256) {
            if let Event::Message { channel, message, .. } = event? {
                notify(store, &channel, &message)?;
            }
            told += 1;
        }
        // Noting it is a commit too, after which there is nothing to tell: without the question this would never rest.
        if told > 0 {
            store.commit(Batch::new().user_attributes(WORKER, feed.token()?.to_string()))?;
        }
    }
}

/// Notifies the members of a message, but for its sender, who muted the channel, and who has read it meanwhile.
fn notify(store: &Store, channel: &[u8], message: &Message) -> chanlog::Result<()> {
    if message.silent || message.payload.is_empty() {
        return Ok(());
    }
    let mut page = store.members(channel).limit(1000).rows()?;
    while let Some(last) = page.last() {
        for entry in &page {
            let row = &entry.membership;
            if entry.name != message.sender && !row.muted && row.cursor().seq < message.seq {
                // Here a real server calls the gateway of the user's devices.
                println!("push {} {} {}", text(&entry.name), text(channel), message.seq);
            }
        }
        page = store.members(channel).after(&last.name).limit(1000).rows()?;
    }
    Ok(())
}
