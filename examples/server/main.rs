//! A small IM server on chanlog: HTTP with JSON, and server-sent events for what is pushed.
//!
//! ```sh
//! cargo run --example server -- chat.store 127.0.0.1:8080
//! curl -H 'x-user: alice' --json '{"title":"General"}' 127.0.0.1:8080/channels/general
//! curl -H 'x-user: alice' --json '{"text":"hi","client_id":"c-1"}' 127.0.0.1:8080/channels/general/messages
//! curl -H 'x-user: alice' 127.0.0.1:8080/conversations
//! ```
//!
//! It is meant to be read. What a real one has besides: somebody who checks who a user is (here a header is believed), and
//! limits of what each may ask for.
//!
//! | file | what |
//! |---|---|
//! | `main.rs` | starts, routes, stops |
//! | `web.rs` | who asks; how handlers read and write the store; errors as HTTP status codes, answers as JSON |
//! | `channels.rs` | channels and who is in them: join, leave, kick, ban, roles; what users set for themselves |
//! | `messages.rs` | send, history, edit, retract, react, changes, receipts |
//! | `lists.rs` | the conversation list, sync by tokens, the badge |
//! | `live.rs` | what is pushed: a user's list, and the stream of a channel |
//! | `push.rs` | a worker that follows everything from where it was, for notifications |
//!
//! Three rules hold everywhere. **The store is called on the blocking pool**, since reads may touch the disk; a commit is
//! awaited, so that no thread sleeps for a sync. **What several reads must agree on is read from one view.** **What a write
//! rests on is a condition in its batch**, so that nothing can change between the look and the write.

mod channels;
mod lists;
mod live;
mod messages;
mod push;
mod web;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post, put};
use chanlog::{Options, Store};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;
use web::Answer;

/// What all handlers share.
#[derive(Clone)]
struct App {
    store: Store,
    backup: PathBuf,
    /// The newest version, told at most every few milliseconds. It ends when the server is to stop.
    news: watch::Receiver<u64>,
    /// Bans and joins come one after the other: a join rests on not being banned, and a batch has no condition on a set.
    turns: Arc<Mutex<()>>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().ok_or("usage: server DIRECTORY [ADDRESS]")?);
    let listener = TcpListener::bind(args.next().as_deref().unwrap_or("127.0.0.1:8080")).await?;

    // The next start need not read the log again.
    let store = Options::new().seal_on_close(true).open(&dir)?;
    let worker = std::thread::spawn({
        let store = store.clone();
        move || push::work(&store)
    });
    let (tell, news) = watch::channel(store.version()?);
    let bell = tokio::spawn(ring(store.clone(), tell));
    let app = App { store: store.clone(), backup: dir.with_extension("backup"), news, turns: Arc::default() };

    println!("listening on {}", listener.local_addr()?);
    let mut term = signal(SignalKind::terminate())?;
    let stop = async move {
        term.recv().await;
        // Without it the streams end, and so do their connections. Others may finish what they are at.
        bell.abort();
    };
    axum::serve(listener, routes(app)).with_graceful_shutdown(stop).await?;

    spawn_blocking(move || store.close()).await??;
    match worker.join().expect("the worker does not panic") {
        // It is how the worker learns that it is over.
        Err(chanlog::Error::Closed) => Ok(()),
        other => Ok(other?),
    }
}

fn routes(app: App) -> Router {
    Router::new()
        .route("/channels/{channel}", get(channels::show).post(channels::create).put(channels::change))
        .route("/channels/{channel}/join", post(channels::join))
        .route("/channels/{channel}/leave", post(channels::leave))
        .route("/channels/{channel}/members", get(channels::members))
        .route("/channels/{channel}/members/{member}/{action}", post(channels::moderate))
        .route("/channels/{channel}/bans", get(channels::bans))
        .route("/channels/{channel}/me/{operation}", post(channels::set_own))
        .route("/channels/{channel}/messages", get(messages::history).post(messages::send))
        .route("/channels/{channel}/messages/{seq}", put(messages::edit).delete(messages::retract))
        .route("/channels/{channel}/messages/{seq}/reaction", put(messages::react))
        .route("/channels/{channel}/changes", get(messages::changes))
        .route("/channels/{channel}/receipts", get(messages::receipts))
        .route("/channels/{channel}/stream", get(live::channel))
        .route("/messages/{id}", get(messages::by_id))
        .route("/conversations", get(lists::list))
        .route("/sync", get(lists::sync))
        .route("/sync/stream", get(live::list))
        .route("/unread", get(lists::unread).delete(lists::read_all))
        .route("/profile", put(channels::set_profile))
        .route("/users/{user}", get(channels::profile))
        .route("/admin/stat", get(stat))
        .route("/admin/backup", post(back_up))
        .with_state(app)
}

/// Tells connections that there is something new. One task awaits commits for all of them, and rests a little after each
/// publication, so that a busy store does not make everybody ask for each message.
async fn ring(store: Store, tell: watch::Sender<u64>) -> chanlog::Result<()> {
    let mut version = *tell.borrow();
    loop {
        version = store.changed(version).await?;
        tell.send_replace(version);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn stat(State(app): State<App>) -> Answer {
    let store = app.store.clone();
    let stat = spawn_blocking(move || store.stat()).await??;
    Ok(json!({
        "version": stat.version, "channels": stat.channels, "users": stat.users, "messages": stat.messages,
        "syncs": stat.syncs, "disk_bytes": stat.logs.bytes + stat.segments.bytes + stat.runs.bytes,
    })
    .into())
}

/// Makes a backup beside the store while it goes on. The next one goes into the same directory, and takes what is new.
async fn back_up(State(app): State<App>) -> Answer {
    let backup = app.backup.clone();
    let done = spawn_blocking(move || app.store.backup(&app.backup)).await??;
    let files = done.linked + done.copied + done.kept;
    Ok(json!({ "directory": backup, "version": done.version, "files": files }).into())
}
