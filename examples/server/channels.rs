//! Channels, who is in them, and what users set for themselves.

use axum::Json;
use axum::extract::Query;
use axum::http::StatusCode;
use chanlog::{Argument, Batch, Condition, HistoryFrom, JoinOptions, LeaveOptions, MemberEntry};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::web::{Answer, Ask, Failure, done, membership, text};

/// Roles and sets are numbers that mean what the server says.
const ADMIN: u8 = 2;
const BANNED: u8 = 1;

/// What users may set of their own rows, each by the name of its operation ([`Batch::operation`]).
const OWN: [&str; 12] = [
    "read",
    "read_at",
    "deliver",
    "pin",
    "mute",
    "flag_unread",
    "hide",
    "activate",
    "clear",
    "forget",
    "set_unread",
    "attributes",
];

/// Makes a channel, if there is none of this name, with whoever asks as its first admin.
pub async fn create(ask: Ask, Json(attributes): Json<Value>) -> Answer {
    ask.write(move |Ask { channel, user, .. }, batch| {
        batch.require_channel(channel, Condition::Absent);
        batch.channel_attributes(channel, attributes.to_string());
        batch.join_with(channel, user, JoinOptions::new().role(ADMIN)).activate(channel, user);
        Ok(())
    })
    .await
    .map(done)
}

/// What is kept with a channel, with the version that a change of it rests on.
pub async fn show(ask: Ask) -> Answer {
    ask.read(|ask, view| {
        ask.member(view)?;
        let (head, row) = (view.head(&ask.channel)?, view.channel(&ask.channel)?.unwrap_or_default());
        let attributes = row.attributes.bytes().map(text);
        Ok(json!({
            "last_seq": head.last.seq, "members": head.members, "attributes": attributes, "version": row.version,
        }))
    })
    .await
}

#[derive(Deserialize)]
pub struct Change {
    attributes: Value,
    version: u64,
}

/// Replaces what is kept with a channel, unless somebody else did meanwhile.
pub async fn change(ask: Ask, Json(change): Json<Change>) -> Answer {
    ask.write(move |ask, batch| {
        require_admin(ask, batch)?;
        batch.require_channel(&ask.channel, Condition::Version(change.version));
        batch.channel_attributes(&ask.channel, change.attributes.to_string());
        Ok(())
    })
    .await
    .map(done)
}

/// Lets a batch be refused unless who asks is still the admin that they are now.
fn require_admin(ask: &Ask, batch: &mut Batch) -> Result<(), Failure> {
    let row = ask.member(&ask.app.store.view()?)?;
    if row.role < ADMIN {
        return Err(Failure::forbidden("you are no admin here"));
    }
    batch.require_member(&ask.channel, &ask.user, Condition::Version(row.version));
    Ok(())
}

/// Joins, and sees what was said before. Who is banned does not.
pub async fn join(ask: Ask) -> Answer {
    ask.in_turn()
        .await
        .write(|Ask { app, channel, user, .. }, batch| {
            if app.store.set_member(channel, BANNED, user)?.is_some() {
                return Err(Failure::forbidden("you are banned"));
            }
            batch.require_channel(channel, Condition::Present);
            batch.join_with(channel, user, JoinOptions::new().history(HistoryFrom::Start));
            Ok(())
        })
        .await
        .map(done)
}

/// Leaves, and may go on to read what was said until then.
pub async fn leave(ask: Ask) -> Answer {
    ask.write(|ask, batch| {
        batch.leave_with(&ask.channel, &ask.user, LeaveOptions::new().keep_history());
        Ok(())
    })
    .await
    .map(done)
}

#[derive(Deserialize)]
pub struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

/// The members, page by page.
pub async fn members(ask: Ask, Query(page): Query<Page>) -> Answer {
    ask.read(move |ask, view| {
        ask.member(view)?;
        let mut members = view.members(&ask.channel).limit(page.limit.unwrap_or(100).min(1000));
        if let Some(after) = &page.after {
            members = members.after(after);
        }
        let tell =
            |entry: &MemberEntry| json!({ "user": text(&entry.name), "row": membership(&entry.membership) });
        Ok(members.rows()?.iter().map(tell).collect())
    })
    .await
}

#[derive(Deserialize)]
pub struct Role {
    role: Option<u8>,
}

/// What an admin does about a user: kick, ban, unban, or give a role.
pub async fn moderate(ask: Ask, Json(Role { role }): Json<Role>) -> Answer {
    ask.in_turn()
        .await
        .write(move |ask, batch| {
            require_admin(ask, batch)?;
            let (channel, user) = (&ask.channel, &ask.path["member"]);
            match (&ask.path["action"][..], role) {
                ("kick", _) => batch.leave(channel, user),
                // In one commit: who is in the set is no member, and only members send.
                ("ban", _) => batch.leave(channel, user).add_to_set_with(channel, BANNED, user, &ask.user),
                ("unban", _) => batch.remove_from_set(channel, BANNED, user),
                ("role", Some(role)) => batch.role(channel, user, role),
                _ => {
                    return Err(Failure::new(
                        StatusCode::BAD_REQUEST,
                        "kick, ban, unban, or role with a role",
                    ));
                }
            };
            Ok(())
        })
        .await
        .map(done)
}

/// Who is banned, and by whom.
pub async fn bans(ask: Ask) -> Answer {
    ask.read(|ask, view| {
        ask.member(view)?;
        let banned = view.set(&ask.channel, BANNED).list()?;
        let tell = banned
            .iter()
            .map(|entry| json!({ "user": text(&entry.name), "by": text(&entry.member.attributes) }));
        Ok(tell.collect())
    })
    .await
}

/// Changes the user's own row: a dozen operations in one handler, since a batch takes them by name.
pub async fn set_own(ask: Ask, Json(body): Json<Value>) -> Answer {
    ask.write(move |ask, batch| {
        let operation = &ask.path["operation"][..];
        if !OWN.contains(&operation) {
            return Err(Failure::new(StatusCode::NOT_FOUND, format!("one of {OWN:?}")));
        }
        batch.operation(operation, &mut |field| match field {
            "channel" => Some(Argument::Bytes(ask.channel.as_bytes())),
            "user" => Some(Argument::Bytes(ask.user.as_bytes())),
            other => match &body[other] {
                Value::Bool(flag) => Some(Argument::Flag(*flag)),
                Value::Number(number) => Some(Argument::Number(number.as_u64()?.into())),
                Value::String(text) => Some(Argument::Bytes(text.as_bytes())),
                _ => None,
            },
        })?;
        Ok(())
    })
    .await
    .map(done)
}

/// Keeps something with the user who asks: a name, a picture, devices.
pub async fn set_profile(ask: Ask, Json(profile): Json<Value>) -> Answer {
    ask.write(move |ask, batch| {
        batch.user_attributes(&ask.user, profile.to_string());
        Ok(())
    })
    .await
    .map(done)
}

pub async fn profile(ask: Ask) -> Answer {
    ask.read(|ask, view| {
        let row = view.user(&ask.path["user"])?;
        let row = row.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "nobody of this name"))?;
        Ok(json!({ "attributes": row.attributes.bytes().map(text) }))
    })
    .await
}
