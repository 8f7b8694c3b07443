//! Messages: sent, read, and changed afterwards.

use std::time::SystemTime;

use axum::Json;
use axum::extract::Query;
use axum::http::StatusCode;
use chanlog::{Batch, ChangeKind, Condition, Draft, Message, MessageChange, Outcome, View};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::web::{Answer, Ask, Failure, done, message, text};

#[derive(Deserialize)]
pub struct NewMessage {
    text: String,
    /// Makes the send idempotent: a client that got no answer sends the same again.
    client_id: Option<String>,
    /// Unique in the whole store, for [`by_id`].
    id: Option<String>,
    #[serde(default)]
    mentions: Vec<String>,
    #[serde(default)]
    mention_all: bool,
    /// In the history alone.
    #[serde(default)]
    quiet: bool,
}

impl NewMessage {
    fn draft(self, sender: &str) -> Draft {
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as i64);
        let mut draft = Draft::new(sender, now, self.text).members_only().mentions(&self.mentions);
        if let Some(id) = self.client_id {
            draft = draft.client_id(id);
        }
        if let Some(id) = self.id {
            draft = draft.unique_id(id);
        }
        if self.mention_all {
            draft = draft.mention_all();
        }
        if self.quiet {
            draft = draft.quiet();
        }
        draft
    }
}

/// Sends. Only members do, and who was kicked or banned a moment ago is none.
pub async fn send(ask: Ask, Json(new): Json<NewMessage>) -> Result<(StatusCode, Json<Value>), Failure> {
    let receipt = ask.write(move |ask, batch| {
        batch.append(&ask.channel, new.draft(&ask.user));
        Ok(())
    });
    let outcome = receipt.await?.outcomes()[0];
    let status = match outcome {
        Outcome::Existed { .. } => StatusCode::OK,
        _ => StatusCode::CREATED,
    };
    Ok((status, Json(json!({ "seq": outcome.seq() }))))
}

#[derive(Deserialize)]
pub struct Range {
    before: Option<u64>,
    after: Option<u64>,
    around: Option<u64>,
    /// Unix milliseconds.
    from_time: Option<i64>,
    limit: Option<usize>,
}

/// A page of what the user may see, oldest first, with reactions: the newest page unless another is asked for. With the token
/// the channel's stream goes on where the page ends.
pub async fn history(ask: Ask, Query(range): Query<Range>) -> Answer {
    // Before the page, so that nothing can fall between them; a client knows by the seq what it has already.
    let token = ask.app.store.feed().from_now()?.token()?;
    ask.read(move |ask @ Ask { channel, user, .. }, view| {
        if view.kept_history(channel, user)?.is_none() {
            ask.member(view)?;
        }
        let limit = range.limit.unwrap_or(50).min(1000);
        let page = || view.history(channel).seen_by(user).bytes(1 << 20);
        let messages = match range {
            Range { before: Some(seq), .. } => page().to(seq.saturating_sub(1)).last(limit)?,
            Range { after: Some(seq), .. } => page().from(seq.saturating_add(1)).limit(limit).list()?,
            Range { around: Some(seq), .. } => {
                let mut messages = page().to(seq).last(limit.div_ceil(2))?;
                messages.extend(page().from(seq.saturating_add(1)).limit(limit / 2).list()?);
                messages
            }
            Range { from_time: Some(time), .. } => page().from_time(time).limit(limit).list()?,
            _ => page().last(limit)?,
        };
        Ok(json!({ "messages": with_reactions(view, channel, &messages)?, "token": token.to_string() }))
    })
    .await
}

/// A page of messages as JSON, each with who reacted how.
fn with_reactions(view: &View, channel: &str, messages: &[Message]) -> Result<Vec<Value>, Failure> {
    let mut page: Vec<_> = messages.iter().map(message).collect();
    if let (Some(first), Some(last)) = (messages.first(), messages.last()) {
        for reaction in view.annotations(channel).from(first.seq).to(last.seq).limit(10_000).list()? {
            if let Ok(at) = messages.binary_search_by_key(&reaction.seq, |message| message.seq) {
                page[at]["reactions"][text(&reaction.key)] = reaction.value.bytes().map(text).into();
            }
        }
    }
    Ok(page)
}

/// A message by its unique id, for who may see it.
pub async fn by_id(ask: Ask) -> Answer {
    ask.read(|ask, view| {
        if let Some(found) = view.message_by_id(&ask.path["id"])? {
            let seq = found.message.seq;
            let seen = view.history(&found.channel).seen_by(&ask.user).from(seq).to(seq).list()?;
            if let Some(seen) = seen.first() {
                return Ok(json!({ "channel": text(&found.channel), "message": message(seen) }));
            }
        }
        Err(Failure::new(StatusCode::NOT_FOUND, "there is no such message"))
    })
    .await
}

/// Lets a batch be refused unless who asks is a member, and sent the message. Who sent it never changes, so that a look is
/// enough for that.
fn require_own(ask: &Ask, batch: &mut Batch, seq: u64) -> Result<(), Failure> {
    let found = ask.app.store.history(&ask.channel).from(seq).limit(1).list()?;
    if found.first().is_some_and(|message| message.seq == seq && message.sender != ask.user) {
        return Err(Failure::forbidden("that is not your message"));
    }
    batch.require_member(&ask.channel, &ask.user, Condition::Present);
    Ok(())
}

#[derive(Deserialize)]
pub struct Text {
    text: String,
}

pub async fn edit(ask: Ask, Json(Text { text }): Json<Text>) -> Answer {
    ask.write(move |ask, batch| {
        let seq = ask.seq()?;
        require_own(ask, batch, seq)?;
        batch.edit(&ask.channel, seq, text);
        Ok(())
    })
    .await
    .map(done)
}

pub async fn retract(ask: Ask) -> Answer {
    ask.write(|ask, batch| {
        let seq = ask.seq()?;
        require_own(ask, batch, seq)?;
        batch.retract(&ask.channel, seq);
        Ok(())
    })
    .await
    .map(done)
}

/// One reaction for each user and message: an annotation under the user's name. An empty one takes it back.
pub async fn react(ask: Ask, Json(Text { text }): Json<Text>) -> Answer {
    ask.write(move |ask, batch| {
        batch.require_member(&ask.channel, &ask.user, Condition::Present);
        batch.annotate(&ask.channel, ask.seq()?, &ask.user, text);
        Ok(())
    })
    .await
    .map(done)
}

#[derive(Deserialize)]
pub struct Since {
    #[serde(default)]
    since: u64,
}

/// What became of messages since a version: what a client asks when an entry's `versions.content` moved.
pub async fn changes(ask: Ask, Query(Since { since }): Query<Since>) -> Answer {
    ask.read(move |ask, view| {
        let first = ask.member(view)?.floor().seq + 1;
        let mut changes = view.changes(&ask.channel).since(since).limit(1000).list()?;
        changes.retain(|change| change.seq >= first);
        Ok(changes.iter().map(change).collect())
    })
    .await
}

pub fn change(change: &MessageChange) -> Value {
    let what = match &change.kind {
        ChangeKind::Edited { payload, .. } => json!({ "text": text(payload) }),
        ChangeKind::Annotated { key, value, .. } => json!({ "by": text(key), "reaction": text(value) }),
        ChangeKind::Unannotated { key, .. } => json!({ "by": text(key), "reaction": null }),
        _ => json!({ "retracted": true }),
    };
    json!({ "seq": change.seq, "version": change.version, "change": what })
}

/// How far each member got and read, and the version to ask with the next time.
pub async fn receipts(ask: Ask, Query(Since { since }): Query<Since>) -> Answer {
    ask.read(move |ask, view| {
        ask.member(view)?;
        let marks = view.members(&ask.channel).since(since).marks()?;
        let marks = marks.iter().map(
            |mark| json!({ "user": text(&mark.name), "read": mark.mark.seq, "delivered": mark.delivered }),
        );
        Ok(json!({ "version": view.version(), "receipts": marks.collect::<Value>() }))
    })
    .await
}
