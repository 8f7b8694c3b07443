//! Between HTTP and the store: who asks, how handlers read and write, what went wrong, and answers as JSON.

use std::collections::HashMap;
use std::fmt::Display;

use axum::Json;
use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use chanlog::{Batch, Conversation, Error, Membership, Message, MessageState, Outcome, Receipt, View};
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;
use tokio::task::spawn_blocking;

use crate::App;

/// What a handler answers.
pub type Answer = Result<Json<Value>, Failure>;

/// What every handler is asked: by whom, and about what. It also is how they read and write the store.
pub struct Ask {
    pub app: App,
    /// Who asks. The header is believed: put whatever checks your users here.
    pub user: String,
    /// The channel that the path names.
    pub channel: String,
    /// All that the path names.
    pub path: HashMap<String, String>,
    /// Held until the write is submitted, if it is to be alone.
    turn: Option<OwnedMutexGuard<()>>,
}

impl FromRequestParts<App> for Ask {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Ask, Failure> {
        let Path(path) = Path::<HashMap<String, String>>::from_request_parts(parts, app)
            .await
            .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error))?;
        let user = parts.headers.get("x-user").and_then(|name| name.to_str().ok()).unwrap_or_default();
        // Names with this sign are the server's own.
        if user.is_empty() || user.starts_with('@') {
            return Err(Failure::new(StatusCode::UNAUTHORIZED, "the header x-user names who asks"));
        }
        let channel = path.get("channel").cloned().unwrap_or_default();
        Ok(Ask { app: app.clone(), user: user.into(), channel, path, turn: None })
    }
}

impl Ask {
    /// The seq of the message that the path names.
    pub fn seq(&self) -> Result<u64, Failure> {
        let seq = self.path.get("seq").and_then(|seq| seq.parse().ok());
        seq.ok_or_else(|| Failure::new(StatusCode::BAD_REQUEST, "a seq is a number"))
    }

    /// Waits until no other request is [in turn](App::turns).
    pub async fn in_turn(mut self) -> Ask {
        self.turn = Some(self.app.turns.clone().lock_owned().await);
        self
    }

    /// Reads from one moment, on the blocking pool.
    pub async fn read(
        self,
        read: impl FnOnce(&Ask, &View) -> Result<Value, Failure> + Send + 'static,
    ) -> Answer {
        let answer = spawn_blocking(move || read(&self, &self.app.store.view()?)).await??;
        Ok(Json(answer))
    }

    /// Adds to a batch and submits it on the blocking pool, then awaits it. It is on disk when this returns.
    pub async fn write(
        self,
        fill: impl FnOnce(&Ask, &mut Batch) -> Result<(), Failure> + Send + 'static,
    ) -> Result<Receipt, Failure> {
        let commit = spawn_blocking(move || {
            let mut batch = Batch::new();
            fill(&self, &mut batch)?;
            Ok::<_, Failure>(self.app.store.submit(&batch)?)
        });
        Ok(commit.await??.await?)
    }

    /// The membership of who asks; an error for who is no member.
    pub fn member(&self, view: &View) -> Result<Membership, Failure> {
        view.membership(&self.channel, &self.user)?.ok_or_else(|| Failure::forbidden("you are not a member"))
    }
}

/// The answer to a write that has nothing else to tell: the version of the last thing that it changed.
pub fn done(receipt: Receipt) -> Json<Value> {
    let version = receipt.outcomes().iter().filter_map(Outcome::version).max();
    Json(json!({ "version": version }))
}

/// Why a request failed.
pub struct Failure(StatusCode, Value);

impl Failure {
    pub fn new(status: StatusCode, why: impl Display) -> Failure {
        Failure(status, json!({ "error": why.to_string() }))
    }

    pub fn forbidden(why: &str) -> Failure {
        Failure::new(StatusCode::FORBIDDEN, why)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if self.0.is_server_error() {
            eprintln!("{}: {}", self.0, self.1);
        }
        (self.0, Json(self.1)).into_response()
    }
}

/// Each error of the store says what can be done about it, and so does its status code.
impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = match &error {
            Error::InvalidArgument { .. } => StatusCode::BAD_REQUEST,
            Error::NotMember { .. } => StatusCode::FORBIDDEN,
            Error::NoMessage { .. } => StatusCode::NOT_FOUND,
            Error::Conflict { .. } | Error::IdTaken { .. } => StatusCode::CONFLICT,
            Error::Retracted { .. } => StatusCode::GONE,
            Error::ConditionFailed { .. } => StatusCode::PRECONDITION_FAILED,
            Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Error::OutOfSpace { .. } => StatusCode::INSUFFICIENT_STORAGE,
            // Try again: at the server that comes after this one, or with a new view.
            Error::Closed | Error::ViewExpired => StatusCode::SERVICE_UNAVAILABLE,
            // The writer has stopped, or bytes are damaged: somebody has to look.
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut failure = Failure::new(status, &error);
        if let Error::Conflict { seq, .. } | Error::IdTaken { seq, .. } = error {
            failure.1["seq"] = seq.into();
        }
        failure
    }
}

/// The runtime stops, or a handler has a fault.
impl From<tokio::task::JoinError> for Failure {
    fn from(error: tokio::task::JoinError) -> Failure {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    }
}

/// Names and payloads are bytes; this server's clients send text.
pub fn text(bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(bytes.as_ref()).into_owned()
}

pub fn message(message: &Message) -> Value {
    let state = match message.state {
        MessageState::Edited { .. } => "edited",
        MessageState::Retracted { .. } => "retracted",
        _ => "sent",
    };
    json!({
        "seq": message.seq, "sender": text(&message.sender), "time": message.timestamp, "text": text(&message.payload),
        "state": state, "quiet": message.quiet, "client_id": message.client_id.as_deref().map(text),
        "id": message.unique_id.as_deref().map(text),
    })
}

pub fn membership(row: &Membership) -> Value {
    json!({
        "role": row.role, "pinned": row.pinned, "muted": row.muted, "flagged": row.flagged > 0,
        "attributes": row.attributes.bytes().map(text),
    })
}

/// An entry of a list. By `versions` a client knows what to fetch: messages, changes of them, or the channel itself.
pub fn conversation(entry: &Conversation) -> Value {
    let versions = &entry.versions;
    json!({
        "channel": text(&entry.channel), "last_seq": entry.last_seq, "read_seq": entry.read_seq, "unread": entry.unread,
        "mentions": entry.mentions, "last": entry.last.as_ref().map(message), "me": membership(&entry.membership),
        "versions": { "messages": versions.messages, "content": versions.content, "channel": versions.channel },
        "fault": entry.fault.as_ref().map(ToString::to_string),
    })
}
