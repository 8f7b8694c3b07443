//! What is pushed, as server-sent events. Each has a token as its id: a client that was cut off comes back with the last one,
//! in the header `last-event-id` as browsers do by themselves, and misses nothing and has nothing twice.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Query;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use chanlog::{Event, Feed, Store};
use futures_util::stream::unfold;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::App;
use crate::lists::{self, parse};
use crate::messages;
use crate::web::{Ask, Failure, message};

#[derive(Deserialize)]
pub struct After {
    after: Option<String>,
}

impl After {
    fn token(self, headers: &HeaderMap) -> Option<String> {
        let last = headers.get("last-event-id").and_then(|last| last.to_str().ok());
        last.map(Into::into).or(self.after)
    }
}

/// The user's list: what changed, whenever something did.
pub async fn list(ask: Ask, Query(after): Query<After>, headers: HeaderMap) -> Result<Response, Failure> {
    let now = || Ok::<_, chanlog::Error>(ask.app.store.feed().from_now()?.token()?.to_string());
    let mut token = after.token(&headers).map_or_else(now, Ok)?;
    Ok(push(&ask.app, move |store| {
        let update = lists::changes(&store.view()?, &ask.user, &token)?;
        let over = update["reset"] == true;
        if let Some(next) = update["token"].as_str() {
            token = next.into();
        }
        let nothing = update["changes"].as_array().is_some_and(Vec::is_empty);
        let events = if nothing { String::new() } else { sse(&token, &update) };
        Ok(More { events, over })
    }))
}

/// The messages of a channel and what becomes of them, in the order of commits.
pub async fn channel(ask: Ask, Query(after): Query<After>, headers: HeaderMap) -> Result<Response, Failure> {
    let feed = ask.app.store.feed().channel(&ask.channel);
    let mut feed = match after.token(&headers) {
        Some(token) => feed.after(&parse(&token)?),
        None => feed.from_now()?,
    };
    let app = ask.app.clone();
    Ok(push(&app, move |store| next_events(store, &mut feed, &ask)))
}

/// The next events of a channel that a user may see. A feed tells all, so the membership is looked at for each: who leaves, or
/// is kicked, hears nothing more.
fn next_events(store: &Store, feed: &mut Feed, ask: &Ask) -> Result<More, Failure> {
    let mut events = String::new();
    for _ in 0..100 {
        let Some(event) = feed.next().transpose()? else { break };
        let Some(row) = store.membership(&ask.channel, &ask.user)? else {
            return Ok(More { events, over: true });
        };
        let (seq, data) = match &event {
            Event::Message { message: sent, .. } => (sent.seq, json!({ "message": message(sent) })),
            Event::Change { change, .. } => (change.seq, messages::change(change)),
            _ => (u64::MAX, json!({ "channel": ask.channel })),
        };
        if seq > row.floor().seq {
            events += &sse(&feed.token()?.to_string(), &data);
        }
    }
    Ok(More { events, over: false })
}

fn sse(token: &str, data: &Value) -> String {
    format!("id: {token}\ndata: {data}\n\n")
}

/// What there is to be told by now.
struct More {
    /// Whole events; empty if there is nothing.
    events: String,
    /// Whether nothing follows.
    over: bool,
}

/// An answer that goes on: asks for more as long as there is some, and then again after each commit. Nothing is kept for a
/// client that is slow or away but what `next` holds, and nobody waits for it.
fn push(app: &App, next: impl FnMut(&Store) -> Result<More, Failure> + Send + 'static) -> Response {
    let state = (next, app.store.clone(), app.news.clone(), false);
    let stream = unfold(state, |(mut next, mut store, mut news, over)| async move {
        // The server stops, and the client comes back to the next one.
        while !over && news.has_changed().is_ok() {
            // Before asking, so that what comes meanwhile makes us ask again.
            news.borrow_and_update();
            let more;
            (more, next, store) = spawn_blocking(move || (next(&store), next, store)).await.ok()?;
            let More { events, over } = more.ok()?;
            if over || !events.is_empty() {
                return Some((Ok::<_, Infallible>(events), (next, store, news, over)));
            }
            if timeout(Duration::from_secs(15), news.changed()).await.is_err() {
                // A comment, which tells whether the client is still there.
                return Some((Ok(":\n\n".into()), (next, store, news, over)));
            }
        }
        None
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream)).into_response()
}
