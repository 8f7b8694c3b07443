//! The conversation list: page by page, and what changed since a token.

use axum::extract::Query;
use axum::http::StatusCode;
use chanlog::{ListChange, Update, View};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::web::{Answer, Ask, Failure, conversation, done, text};

#[derive(Deserialize)]
pub struct Page {
    after: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    unread: bool,
}

/// A token or continuation that a client sent.
pub fn parse<T: std::str::FromStr<Err = chanlog::Error>>(token: &str) -> Result<T, Failure> {
    token.parse().map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error))
}

/// The list, newest first. A client keeps the token of the last page that it asked for.
pub async fn list(ask: Ask, Query(page): Query<Page>) -> Answer {
    ask.read(move |ask, view| {
        let mut list = view.conversations(&ask.user).limit(page.limit.unwrap_or(50).min(500));
        if page.unread {
            list = list.unread_only();
        }
        if let Some(after) = &page.after {
            list = list.after(&parse(after)?);
        }
        let list = list.list()?;
        let entries: Value = list.entries.iter().map(conversation).collect();
        let next = list.next.map(|next| next.to_string());
        Ok(json!({ "entries": entries, "token": list.as_of.to_string(), "next": next }))
    })
    .await
}

#[derive(Deserialize)]
pub struct Since {
    pub since: String,
}

/// What changed since a token. `more` says that there is more than one answer holds: ask again with its token.
pub async fn sync(ask: Ask, Query(Since { since }): Query<Since>) -> Answer {
    ask.read(move |ask, view| changes(view, &ask.user, &since)).await
}

pub fn changes(view: &View, user: &str, token: &str) -> Result<Value, Failure> {
    match view.conversations(user).limit(100).since(&parse(token)?)? {
        Update::Changes { changes, as_of, next } => {
            let changes: Value = changes.iter().map(change).collect();
            Ok(json!({ "changes": changes, "token": as_of.to_string(), "more": next.is_some() }))
        }
        // Of another store, of a state that a restored backup does not hold, or too old: the client starts over.
        _ => Ok(json!({ "reset": true })),
    }
}

fn change(change: &ListChange) -> Value {
    match change {
        ListChange::Entry(entry) => json!({ "entry": conversation(entry) }),
        ListChange::Removed { channel, .. } => json!({ "removed": text(channel) }),
        _ => Value::Null,
    }
}

/// What a badge shows.
pub async fn unread(ask: Ask) -> Answer {
    ask.read(|ask, view| {
        let sums = view.unread(&ask.user)?;
        Ok(json!({
            "messages": sums.messages, "conversations": sums.conversations, "mentions": sums.mentions,
            "flagged": sums.flagged,
        }))
    })
    .await
}

/// Marks all as read, in one commit.
pub async fn read_all(ask: Ask) -> Answer {
    ask.write(|ask, batch| {
        batch.read_all(&ask.user);
        Ok(())
    })
    .await
    .map(done)
}
