//! Random batches against the model, with maintenance, reopening, crashes and losses of power among them.

#![cfg(feature = "sim")]

mod figures;
mod model;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chanlog::env::{Env, SimEnv};
use chanlog::{
    Condition, Durability, Fact, HistoryFrom, Import, Mark, Options, Store, SyncToken, Update, View,
};
use model::client::Client;
use model::witness::{End, Witness};
use model::{Model, Name, Op, Post, Range, check};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{FileFailurePersistence, RngSeed};

const DIR: &str = "/store";
const CHANNELS: u8 = 5;
const USERS: u8 = 5;

/// The tokens of whole lists that are kept for later questions.
const TOKENS: usize = 8;

/// So many tombstones of a user are more than any history here makes.
const TOMBSTONES: usize = 1000;

/// For so many versions a client id makes a send unique.
const WINDOW: u64 = 12;

/// The time at which the simulated clock begins.
const BEGIN: i64 = 1_700_000_000_000;

/// The views that are held at once.
const VIEWS: usize = 4;

/// A seq that is yet to be chosen: a share of the channel's length in 16 bits, a little beyond the end included.
type Place = u16;

/// An operation whose seqs depend on how long the channel is when it runs.
#[derive(Clone, Debug)]
enum Plan {
    Append {
        channel: u8,
        sender: u8,
        timestamp: i64,
        silent: bool,
        id: Option<u64>,
        client: u8,
        len: usize,
        /// Everybody, or users by their bits.
        mentions: Option<u8>,
        quiet: bool,
        /// After so many seconds from the begin.
        expires: Option<u8>,
    },
    /// A message at a seq: what is there, or another one; now and then without its client id.
    AppendAt {
        channel: u8,
        sender: u8,
        seq: Place,
        same: bool,
        client: bool,
    },
    SetBase {
        channel: u8,
        seq: u64,
        lag: u64,
    },
    Join {
        channel: u8,
        user: u8,
        from: Option<Place>,
        start: bool,
        read: Option<Place>,
        role: Option<u8>,
    },
    Leave {
        channel: u8,
        user: u8,
        keep: bool,
    },
    Read {
        channel: u8,
        user: u8,
        to: Place,
    },
    ReadAll {
        user: u8,
    },
    Deliver {
        channel: u8,
        user: u8,
        to: Place,
    },
    Clear {
        channel: u8,
        user: u8,
        to: Option<Place>,
    },
    Hide {
        channel: u8,
        user: u8,
    },
    Activate {
        channel: u8,
        user: u8,
    },
    Pin {
        channel: u8,
        user: u8,
        on: bool,
    },
    Mute {
        channel: u8,
        user: u8,
        on: bool,
    },
    Role {
        channel: u8,
        user: u8,
        role: u8,
    },
    Attributes {
        channel: u8,
        user: u8,
        len: usize,
    },
    FlagUnread {
        channel: u8,
        user: u8,
        on: bool,
    },
    ReadAt {
        channel: u8,
        user: u8,
        to: Place,
    },
    SetUnread {
        channel: u8,
        user: u8,
        count: u64,
    },
    Class {
        channel: u8,
        class: u8,
    },
    ChannelAttributes {
        channel: u8,
        len: usize,
    },
    UserAttributes {
        user: u8,
        len: usize,
    },
    AddToSet {
        channel: u8,
        user: u8,
        set: u8,
        len: Option<usize>,
    },
    RemoveFromSet {
        channel: u8,
        user: u8,
        set: u8,
    },
    /// A condition on a channel, or on a membership if there is a user. Of versions and attributes some are right.
    Require {
        channel: u8,
        user: Option<u8>,
        kind: u8,
        len: usize,
    },
    Retract {
        channel: u8,
        message: Place,
    },
    Annotate {
        channel: u8,
        message: Place,
        key: u8,
        len: usize,
    },
    Trim {
        channel: u8,
        to: Place,
    },
    DeleteChannel {
        channel: u8,
    },
    Erase {
        channel: u8,
        message: Place,
    },
    EraseUser {
        user: u8,
    },
    DeleteUser {
        user: u8,
    },
    Retention {
        channel: u8,
        age: Option<u64>,
        count: Option<u64>,
    },
    Forget {
        channel: u8,
        user: u8,
        from: Place,
        more: u8,
    },
    Edit {
        channel: u8,
        message: Place,
        len: usize,
    },
}

/// A batch to be: its operations, whether those that the model would refuse are left out, and its durability.
#[derive(Clone, Debug)]
struct Commit {
    plans: Vec<Plan>,
    allowed_only: bool,
    buffered: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Commit),
    /// Several batches are submitted before the first is waited for.
    Pipeline(Vec<Commit>),
    Maintain(u8),
    Seal,
    /// The bytes of what was erased go at once.
    EraseNow,
    /// Channels are trimmed by their policies, at a time.
    Enforce(i64),
    /// The memberships of deleted users end.
    FinishDeletions,
    /// Some seconds pass.
    Pass(u8),
    /// What is due expires, or what is due after so many seconds.
    ExpireDue(u8),
    Sync,
    Reopen,
    /// The last handle is dropped without a close.
    Drop,
    /// The process ends while some batches are on their way.
    Crash(Vec<Commit>),
    PowerLoss(Vec<Commit>),
    /// The process ends, and power is lost before the store is opened again.
    CrashThenPowerLoss(Vec<Commit>),
    History {
        channel: u8,
        from: Place,
        to: Place,
        limit: Option<u8>,
        bytes: Option<u16>,
        reverse: bool,
        viewer: Option<u8>,
        times: Option<(i64, i64)>,
        sender: Option<u8>,
    },
    Pages {
        user: u8,
        unread_only: bool,
        limit: u8,
    },
    /// Asks with a token of an earlier whole list.
    Since {
        token: u8,
        limit: u8,
    },
    Client {
        user: u8,
        unread_only: bool,
        act: Act,
        limit: u8,
    },
    /// Takes a view, in place of the oldest one if there are many.
    View,
    /// Asks everything of a view that was taken.
    Look(u8),
}

#[derive(Clone, Copy, Debug)]
enum Act {
    List,
    Update,
    Follow,
    Drain,
}

fn channel_name(i: u8) -> Name {
    match i {
        0 => b"general".to_vec(),
        1 => vec![0],
        2 => vec![0xff, 0xfe, b'/', 0],
        3 => vec![b'x'; 255],
        _ => format!("channel {i}").into_bytes(),
    }
}

fn user_name(i: u8) -> Name {
    match i {
        0 => b"alice".to_vec(),
        1 => b"../../etc/passwd".to_vec(),
        2 => vec![0xc3, 0x28],
        3 => vec![0xff; 255],
        _ => format!("user {i}").into_bytes(),
    }
}

fn plan() -> impl Strategy<Value = Plan> {
    let (c, u) = (0..CHANNELS, 0..USERS);
    let len = prop_oneof![1 => Just(0usize), 8 => 1usize..200, 2 => 200usize..3000, 1 => Just(20_000)];
    let append = (
        c.clone(),
        u.clone(),
        any::<i64>(),
        prop::bool::weighted(0.25),
        prop::option::of(prop_oneof![any::<u64>(), 0u64..16]),
        0u8..=80,
        len,
        prop_oneof![4 => Just(Some(0u8)), 2 => (1u8..1 << (USERS + 1)).prop_map(Some), 1 => Just(None)],
        (prop::bool::weighted(0.2), prop::option::weighted(0.2, 0u8..60)),
    )
        .prop_map(|(channel, sender, timestamp, silent, id, client, len, mentions, (quiet, expires))| {
            Plan::Append {
                channel,
                sender,
                timestamp,
                silent,
                id,
                client: client.saturating_sub(16),
                len,
                mentions,
                quiet,
                expires,
            }
        });
    let places = (any::<Option<Place>>(), any::<bool>(), any::<Option<Place>>());
    let join = (c.clone(), u.clone(), places, prop::option::weighted(0.2, 0u8..3)).prop_map(
        |(channel, user, (from, start, read), role)| Plan::Join { channel, user, from, start, read, role },
    );
    let pair = (c.clone(), u.clone());
    prop_oneof![
        8 => append,
        4 => (c.clone(), u.clone(), any::<Place>(), prop::bool::weighted(0.8), any::<bool>())
            .prop_map(|(channel, sender, seq, same, client)| Plan::AppendAt { channel, sender, seq, same, client }),
        1 => (c.clone(), select(vec![0u64, 1, 1000]), 0u64..3)
            .prop_map(|(channel, seq, lag)| Plan::SetBase { channel, seq, lag }),
        5 => join,
        2 => (pair.clone(), any::<bool>())
            .prop_map(|((channel, user), keep)| Plan::Leave { channel, user, keep }),
        4 => (c, u, any::<Place>()).prop_map(|(channel, user, to)| Plan::Read { channel, user, to }),
        1 => pair.clone().prop_map(|(_, user)| Plan::ReadAll { user }),
        2 => (pair.clone(), any::<Place>())
            .prop_map(|((channel, user), to)| Plan::Deliver { channel, user, to }),
        2 => (pair.clone(), any::<Option<Place>>())
            .prop_map(|((channel, user), to)| Plan::Clear { channel, user, to }),
        2 => pair.clone().prop_map(|(channel, user)| Plan::Hide { channel, user }),
        1 => pair.clone().prop_map(|(channel, user)| Plan::Activate { channel, user }),
        1 => (pair.clone(), any::<bool>()).prop_map(|((channel, user), on)| Plan::Pin { channel, user, on }),
        1 => (pair.clone(), any::<bool>()).prop_map(|((channel, user), on)| Plan::Mute { channel, user, on }),
        1 => (pair.clone(), 0u8..3).prop_map(|((channel, user), role)| Plan::Role { channel, user, role }),
        2 => (pair.clone(), any::<Place>())
            .prop_map(|((channel, user), to)| Plan::ReadAt { channel, user, to }),
        2 => (pair.clone(), 0u64..6)
            .prop_map(|((channel, user), count)| Plan::SetUnread { channel, user, count }),
        2 => (pair.clone(), prop::bool::weighted(0.8))
            .prop_map(|((channel, user), on)| Plan::FlagUnread { channel, user, on }),
        1 => (pair.clone(), 0u8..3).prop_map(|((channel, _), class)| Plan::Class { channel, class }),
        1 => (pair.clone(), select(vec![0usize, 1, 100, 1025, 65_536]))
            .prop_map(|((channel, _), len)| Plan::ChannelAttributes { channel, len }),
        1 => (pair.clone(), select(vec![0usize, 1, 100, 3000]))
            .prop_map(|((_, user), len)| Plan::UserAttributes { user, len }),
        3 => (pair.clone(), select(check::SETS.to_vec()), prop::option::of(select(vec![0usize, 1, 1024])))
            .prop_map(|((channel, user), set, len)| Plan::AddToSet { channel, user, set, len }),
        2 => (pair.clone(), select(check::SETS.to_vec()))
            .prop_map(|((channel, user), set)| Plan::RemoveFromSet { channel, user, set }),
        3 => (pair.clone(), any::<bool>(), 0u8..5, select(vec![0usize, 1, 100, 1025])).prop_map(
            |((channel, user), member, kind, len)| Plan::Require { channel, user: member.then_some(user), kind, len }
        ),
        4 => (pair.clone(), any::<Place>())
            .prop_map(|((channel, _), message)| Plan::Retract { channel, message }),
        1 => (pair.clone(), any::<Place>()).prop_map(|((channel, _), to)| Plan::Trim { channel, to }),
        1 => pair.clone().prop_map(|(channel, _)| Plan::DeleteChannel { channel }),
        2 => (pair.clone(), any::<Place>()).prop_map(|((channel, _), message)| Plan::Erase { channel, message }),
        1 => pair.clone().prop_map(|(_, user)| Plan::EraseUser { user }),
        1 => pair.clone().prop_map(|(_, user)| Plan::DeleteUser { user }),
        1 => (pair.clone(), prop::option::of(select(vec![1u64, 1 << 40, u64::MAX])), prop::option::of(1u64..5))
            .prop_map(|((channel, _), age, count)| Plan::Retention { channel, age, count }),
        4 => (pair.clone(), any::<Place>(), prop_oneof![0u8..4, Just(255)])
            .prop_map(|((channel, user), from, more)| Plan::Forget { channel, user, from, more }),
        4 => (pair.clone(), any::<Place>(), select(vec![0usize, 1, 100, 1024, 1025, 3000]))
            .prop_map(|((channel, _), message, len)| Plan::Edit { channel, message, len }),
        4 => (pair.clone(), any::<Place>(), 1u8..4, select(vec![0usize, 0, 1, 30, 2000]))
            .prop_map(|((channel, _), message, key, len)| Plan::Annotate { channel, message, key, len }),
        1 => (pair, select(vec![0usize, 1, 100, 1024, 1025, 4096]))
            .prop_map(|((channel, user), len)| Plan::Attributes { channel, user, len }),
    ]
}

fn commit() -> impl Strategy<Value = Commit> {
    (vec(plan(), 0..6), prop::bool::weighted(0.9), any::<bool>())
        .prop_map(|(plans, allowed_only, buffered)| Commit { plans, allowed_only, buffered })
}

fn step() -> impl Strategy<Value = Step> {
    let some = || vec(commit(), 0..4);
    let limit = || select(vec![1u8, 2, 3, 7, 255]);
    let act = select(vec![Act::List, Act::Update, Act::Update, Act::Follow, Act::Follow, Act::Drain]);
    let range = (
        0..CHANNELS,
        any::<Place>(),
        any::<Place>(),
        any::<Option<u8>>(),
        any::<Option<u16>>(),
        any::<Option<(i64, i64)>>(),
    );
    prop_oneof![
        20 => commit().prop_map(Step::Commit),
        3 => some().prop_map(Step::Pipeline),
        5 => (1u8..8).prop_map(Step::Maintain),
        3 => Just(Step::Seal),
        1 => Just(Step::EraseNow),
        3 => any::<i64>().prop_map(Step::Enforce),
        2 => Just(Step::FinishDeletions),
        4 => (1u8..12).prop_map(Step::Pass),
        3 => prop_oneof![4 => Just(0u8), 1 => 1u8..10].prop_map(Step::ExpireDue),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        1 => Just(Step::Drop),
        1 => some().prop_map(Step::Crash),
        2 => some().prop_map(Step::PowerLoss),
        1 => some().prop_map(Step::CrashThenPowerLoss),
        5 => (range, any::<bool>(), prop::option::of(0..USERS), prop::option::weighted(0.3, 0..USERS)).prop_map(
            |((channel, from, to, limit, bytes, times), reverse, viewer, sender)| Step::History { channel, from, to, limit, bytes, reverse, viewer, times, sender }
        ),
        3 => (0..USERS, any::<bool>(), limit()).prop_map(|(user, unread_only, limit)| Step::Pages { user, unread_only, limit }),
        4 => (any::<u8>(), limit()).prop_map(|(token, limit)| Step::Since { token, limit }),
        8 => (0..USERS, any::<bool>(), act, limit())
            .prop_map(|(user, unread_only, act, limit)| Step::Client { user, unread_only, act, limit }),
        2 => Just(Step::View),
        4 => any::<u8>().prop_map(Step::Look),
    ]
}

/// Steps that keep two clients busy while the store changes under them.
fn client_step() -> impl Strategy<Value = Step> {
    let act = select(vec![Act::List, Act::Update, Act::Follow, Act::Follow, Act::Drain]);
    let client = (0..2u8, prop::bool::weighted(0.2), act, select(vec![1u8, 2, 3, 255]));
    prop_oneof![
        10 => commit().prop_map(Step::Commit),
        14 => client.prop_map(|(user, unread_only, act, limit)| Step::Client { user, unread_only, act, limit }),
        1 => (1u8..8).prop_map(Step::Maintain),
        1 => (1u8..12).prop_map(Step::Pass),
        1 => Just(Step::ExpireDue(0)),
        1 => Just(Step::Seal),
        1 => Just(Step::Reopen),
        1 => some_loss(),
    ]
}

fn some_loss() -> impl Strategy<Value = Step> {
    let commits = || vec(commit(), 0..3);
    prop_oneof![commits().prop_map(Step::Crash), commits().prop_map(Step::PowerLoss)]
}

/// Chooses a seq from 0 to a little beyond the end.
fn choose(model: &Model, channel: &Name, place: Place) -> u64 {
    match place {
        Place::MAX => u64::MAX,
        _ => u64::from(place) * (model.end(channel) + 3) / u64::from(Place::MAX),
    }
}

/// Chooses a message, or now and then a seq that may have none.
fn choose_message(model: &Model, channel: &Name, place: Place) -> u64 {
    let seqs = model.seqs(channel);
    let at = usize::from(place) * seqs.len() / (usize::from(Place::MAX) + 1);
    match seqs.get(at) {
        Some(seq) if !place.is_multiple_of(16) => *seq,
        _ => choose(model, channel, place),
    }
}

fn settle(model: &Model, plan: &Plan) -> Op {
    match *plan {
        Plan::Append { channel, sender, timestamp, silent, id, client, len, mentions, quiet, expires } => {
            // Few client ids, and few contents with them, so that sends are repeated, and ids used again.
            let (client, len, timestamp) = match client {
                0 => (0, len, timestamp),
                _ => (1 + client % 3 * 31, len % 2, timestamp % 2),
            };
            let payload = (0..len).map(|i| (i as u8).wrapping_mul(timestamp as u8 | 1)).collect();
            let client_id = (client > 0).then(|| Bytes::from(vec![client; client.into()]));
            let members_only = id.is_some_and(|id| id % 4 == 0);
            let sender = user_name(sender);
            let unique_id =
                id.map(|id| id as u8).filter(|id| *id < 2 * check::IDS).map(|id| Bytes::from(vec![id]));
            let bits = mentions.unwrap_or(0);
            let named = (0..=USERS).filter(|user| bits & (1 << user) > 0).map(user_name).collect();
            let post = Post {
                sender,
                timestamp,
                silent,
                id,
                client_id,
                unique_id,
                payload,
                members_only,
                mentions: named,
                mention_all: mentions.is_none(),
                quiet,
                expires: expires.map(|seconds| BEGIN + i64::from(seconds) * 1000),
            };
            Op::Append { channel: channel_name(channel), post }
        }
        Plan::AppendAt { channel, sender, seq, same, client } => {
            let channel = channel_name(channel);
            let seq = match seq {
                // The next one.
                0..0x6000 => model.end(&channel) + 1,
                _ => choose_message(model, &channel, seq).max(1),
            };
            let mut post = model.sent_at(&channel, seq).filter(|_| same).unwrap_or_else(|| Post {
                sender: user_name(sender),
                timestamp: seq as i64,
                payload: vec![sender; 2 + sender as usize * 300].into(),
                ..Post::default()
            });
            if !client {
                (post.client_id, post.unique_id) = (None, None);
            }
            Op::AppendAt { channel, seq, post }
        }
        Plan::SetBase { channel, seq, lag } => {
            let base = Mark { seq, ordinal: seq.saturating_sub(lag) };
            Op::SetBase { channel: channel_name(channel), base }
        }
        Plan::Join { channel, user, from, start, read, role } => {
            let channel = channel_name(channel);
            let visible = match (from, start) {
                (Some(place), _) => HistoryFrom::Seq(choose(model, &channel, place)),
                (None, true) => HistoryFrom::Start,
                (None, false) => HistoryFrom::Now,
            };
            let read = read.map(|place| choose(model, &channel, place));
            Op::Join { channel, user: user_name(user), visible, read, role }
        }
        Plan::Leave { channel, user, keep } => {
            let (channel, user) = (channel_name(channel), user_name(user));
            if keep { Op::LeaveKeeping { channel, user } } else { Op::Leave { channel, user } }
        }
        Plan::Read { channel, user, to } => {
            let channel = channel_name(channel);
            let seq = choose(model, &channel, to);
            Op::Read { channel, user: user_name(user), seq }
        }
        Plan::Deliver { channel, user, to } => {
            let channel = channel_name(channel);
            let seq = choose(model, &channel, to);
            Op::Deliver { channel, user: user_name(user), seq }
        }
        Plan::ReadAll { user } => Op::ReadAll { user: user_name(user) },
        Plan::Clear { channel, user, to } => {
            let channel = channel_name(channel);
            let seq = to.map(|place| choose(model, &channel, place));
            Op::Clear { channel, user: user_name(user), seq }
        }
        Plan::Hide { channel, user } => Op::Hide { channel: channel_name(channel), user: user_name(user) },
        Plan::Activate { channel, user } => {
            Op::Activate { channel: channel_name(channel), user: user_name(user) }
        }
        Plan::Mute { channel, user, on } => {
            Op::Mute { channel: channel_name(channel), user: user_name(user), on }
        }
        Plan::Role { channel, user, role } => {
            Op::Role { channel: channel_name(channel), user: user_name(user), role }
        }
        Plan::FlagUnread { channel, user, on } => {
            Op::FlagUnread { channel: channel_name(channel), user: user_name(user), on }
        }
        Plan::ReadAt { channel, user, to } => {
            let channel = channel_name(channel);
            let seq = choose(model, &channel, to);
            Op::ReadAt { channel, user: user_name(user), seq }
        }
        Plan::SetUnread { channel, user, count } => {
            Op::SetUnread { channel: channel_name(channel), user: user_name(user), count }
        }
        Plan::Class { channel, class } => Op::Class { channel: channel_name(channel), class },
        Plan::ChannelAttributes { channel, len } => {
            Op::ChannelAttributes { channel: channel_name(channel), attributes: vec![channel; len].into() }
        }
        Plan::UserAttributes { user, len } => {
            Op::UserAttributes { user: user_name(user), attributes: vec![user; len].into() }
        }
        Plan::AddToSet { channel, user, set, len } => {
            let attributes = len.map(|len| vec![user; len].into());
            Op::AddToSet { channel: channel_name(channel), set, user: user_name(user), attributes }
        }
        Plan::RemoveFromSet { channel, user, set } => {
            Op::RemoveFromSet { channel: channel_name(channel), set, user: user_name(user) }
        }
        Plan::Require { channel, user, kind, len } => {
            let (name, user) = (channel_name(channel), user.map(user_name));
            let row = user.as_ref().map(|user| model.membership(&name, user));
            let version = row.map_or(model.head(&name).changed, |row| row.map_or(0, |row| row.version));
            let condition = match kind {
                0 => Condition::Absent,
                1 => Condition::Present,
                2 | 3 => Condition::Version(version + u64::from(kind) - 2),
                _ => Condition::Attributes(vec![channel; len].into()),
            };
            match user {
                Some(user) => Op::RequireMember { channel: name, user, condition },
                None => Op::RequireChannel { channel: name, condition },
            }
        }
        Plan::Retract { channel, message } => {
            let channel = channel_name(channel);
            let seq = choose_message(model, &channel, message);
            Op::Retract { channel, seq }
        }
        Plan::Trim { channel, to } => {
            let channel = channel_name(channel);
            let seq = choose(model, &channel, to);
            Op::Trim { channel, seq }
        }
        Plan::Retention { channel, age, count } => {
            Op::Retention { channel: channel_name(channel), age, count }
        }
        Plan::Erase { channel, message } => {
            let channel = channel_name(channel);
            let seq = choose_message(model, &channel, message);
            Op::Erase { channel, seq }
        }
        Plan::DeleteUser { user } => Op::DeleteUser { user: user_name(user) },
        Plan::EraseUser { user } => Op::EraseUser { user: user_name(user) },
        Plan::DeleteChannel { channel } => Op::DeleteChannel { channel: channel_name(channel) },
        Plan::Forget { channel, user, from, more } => {
            let channel = channel_name(channel);
            let from = choose_message(model, &channel, from);
            let to = if more == 255 { u64::MAX } else { from.saturating_add(more.into()) };
            Op::Forget { channel, user: user_name(user), from, to }
        }
        Plan::Edit { channel, message, len } => {
            let channel = channel_name(channel);
            let seq = choose_message(model, &channel, message);
            Op::Edit { channel, seq, payload: vec![(message % 3) as u8; len].into() }
        }
        Plan::Annotate { channel, message, key, len } => {
            let channel = channel_name(channel);
            let seq = choose_message(model, &channel, message);
            Op::Annotate {
                channel,
                seq,
                key: vec![key; key.into()].into(),
                value: vec![message as u8; len].into(),
            }
        }
        Plan::Attributes { channel, user, len } => {
            let attributes = vec![user; len].into();
            Op::Attributes { channel: channel_name(channel), user: user_name(user), attributes }
        }
        Plan::Pin { channel, user, on } => {
            Op::Pin { channel: channel_name(channel), user: user_name(user), on }
        }
    }
}

fn settle_all(model: &Model, commit: &Commit) -> (Vec<Op>, Durability) {
    let mut ops: Vec<Op> = commit.plans.iter().map(|plan| settle(model, plan)).collect();
    while let Some(refused) = model.refused(&ops).filter(|_| commit.allowed_only) {
        ops.remove(refused);
    }
    (ops, if commit.buffered { Durability::Buffered } else { Durability::Sync })
}

/// A token of a whole list.
struct Kept {
    user: Name,
    unread_only: bool,
    token: SyncToken,
    version: u64,
    /// Its state was lost with power: it must be answered with "start over".
    lost: bool,
    /// It survived a loss that took something else: "start over" is a fair answer.
    shaken: bool,
}

struct Machine {
    sim: Arc<SimEnv>,
    options: Options,
    store: Option<Store>,
    witness: Witness,
    tokens: Vec<Kept>,
    clients: BTreeMap<(u8, bool), Client>,
    /// Whether tombstones are dropped.
    forgets: bool,
    /// Views of this session, and the model as it was then.
    views: Vec<(View, Model)>,
}

impl Machine {
    fn new(seed: u64, tombstones: usize) -> Self {
        let sim = SimEnv::any(seed);
        let options = Options::new()
            .env(sim.clone())
            .log_segment(8 << 10)
            .memtable(4 << 10)
            .unsealed(1 << 20)
            .message_segment(64 << 10)
            .block_cache(16 << 10)
            .tombstones(tombstones)
            .client_id_window(WINDOW, Duration::ZERO)
            .background(false);
        let store = options.clone().open(DIR).unwrap();
        assert!(store.recovery().created);
        let mut model = Model::new(tombstones);
        (model.window, model.now) = (Some(WINDOW), BEGIN);
        let witness = Witness::new(model);
        let (tokens, clients, views) = (Vec::new(), BTreeMap::new(), Vec::new());
        let forgets = tombstones < TOMBSTONES;
        Machine { sim, options, store: Some(store), witness, tokens, clients, forgets, views }
    }

    fn store(&self) -> Store {
        self.store.clone().unwrap()
    }

    fn run(&mut self, step: &Step) {
        let store = self.store();
        match step {
            Step::Commit(commit) => self.commit(&store, commit),
            Step::Pipeline(commits) => {
                let pending = self.submit_all(&store, commits);
                pending.into_iter().for_each(|p| self.witness.wait(p));
            }
            Step::Maintain(steps) => drop((0..*steps).take_while(|_| store.maintain().unwrap()).count()),
            Step::Seal => store.seal().unwrap(),
            Step::EraseNow => store.erase_now().unwrap(),
            Step::Enforce(now) => {
                let trims = self.witness.visible().overdue(*now);
                let retained = store.enforce_retention(*now, usize::MAX).unwrap();
                assert_eq!((retained.trimmed, retained.done), (trims.len() as u64, true));
                if !trims.is_empty() {
                    self.witness.ask(&trims, Durability::Sync);
                    self.witness.acknowledge(Durability::Sync);
                }
            }
            Step::Pass(seconds) => {
                self.sim.advance(Duration::from_secs((*seconds).into()));
                self.witness.model.now = self.sim.unix_ms();
            }
            Step::ExpireDue(seconds) => {
                let now = self.sim.unix_ms() + i64::from(*seconds) * 1000;
                let due = self.witness.visible().due(now);
                assert_eq!(store.expire_due(now, usize::MAX).unwrap(), due.len() as u64);
                if !due.is_empty() {
                    self.witness.ask(&due, Durability::Sync);
                    self.witness.acknowledge(Durability::Sync);
                }
            }
            Step::FinishDeletions => {
                let endings = self.witness.visible().endings();
                let ended =
                    endings.iter().filter(|op| matches!(op, Op::End { channel: Some(_), .. })).count();
                assert_eq!(store.finish_deletions(usize::MAX).unwrap(), ended as u64);
                if !endings.is_empty() {
                    self.witness.ask(&endings, Durability::Sync);
                    self.witness.acknowledge(Durability::Sync);
                }
            }
            // Dropped tombstones are not seen as memberships that once were.
            Step::View if self.forgets => {}
            Step::View => {
                if self.views.len() == VIEWS {
                    self.views.remove(0);
                }
                self.views.push((store.view().unwrap(), self.witness.model.clone()));
            }
            Step::Look(pick) => {
                if let Some((view, model)) = self.views.get(usize::from(*pick) % self.views.len().max(1)) {
                    assert_eq!(view.version(), model.version());
                    check::reads(view, &model.at(self.sim.unix_ms()));
                }
            }
            Step::Sync => {
                store.sync().unwrap();
                self.witness.synced();
            }
            Step::Reopen => {
                store.close().unwrap();
                drop(store);
                self.reopen(End::Close);
            }
            Step::Drop => {
                drop(store);
                self.reopen(End::Close);
            }
            Step::Crash(commits) => self.end(store, commits, End::Crash, SimEnv::crash),
            Step::PowerLoss(commits) => self.end(store, commits, End::PowerLoss, SimEnv::power_loss),
            Step::CrashThenPowerLoss(commits) => self.end(store, commits, End::PowerLoss, |sim| {
                sim.crash();
                sim.power_loss();
            }),
            _ => self.question(&store, step),
        }
    }

    fn commit(&mut self, store: &Store, commit: &Commit) {
        let (ops, durability) = settle_all(&self.witness.model, commit);
        self.witness.commit(store, &ops, durability);
    }

    fn submit_all(&mut self, store: &Store, commits: &[Commit]) -> Vec<model::witness::Pending> {
        let submit = |commit| {
            let (ops, durability) = settle_all(&self.witness.model, commit);
            self.witness.submit(store, &ops, durability)
        };
        commits.iter().filter_map(submit).collect()
    }

    /// Ends the session while some batches are on their way.
    fn end(&mut self, store: Store, commits: &[Commit], end: End, how: impl Fn(&SimEnv)) {
        let pending = self.submit_all(&store, commits);
        self.sim.crash_after(0);
        drop(pending);
        drop(store);
        self.store = None;
        how(&self.sim);
        self.reopen(end);
    }

    fn reopen(&mut self, end: End) {
        self.views.clear();
        self.store = None;
        let store = self.options.clone().open(DIR).unwrap();
        assert!(!store.recovery().created, "an existing store is opened, not made anew");
        assert_eq!(store.recovery().damaged, 0, "no crash damages a segment");
        let before = self.witness.visible().version();
        let version = self.witness.reopened(&store, end);
        self.witness.model.now = self.sim.unix_ms();
        let shaken = version < before || store.recovery().gap;
        for kept in &mut self.tokens {
            kept.lost |= kept.version > version;
            kept.shaken |= shaken;
        }
        if end == End::PowerLoss {
            self.clients.values_mut().for_each(Client::drop_page);
        }
        self.store = Some(store);
    }

    fn question(&mut self, store: &Store, step: &Step) {
        let model = &self.witness.model;
        match *step {
            Step::History { channel, from, to, limit, bytes, reverse, viewer, times, sender } => {
                let channel = channel_name(channel);
                let range = Range {
                    from: choose(model, &channel, from),
                    to: choose(model, &channel, to),
                    limit: limit.map_or(usize::MAX, usize::from),
                    bytes: bytes.map_or(u64::MAX, u64::from),
                    reverse,
                    viewer: viewer.map(user_name),
                    times: times.unwrap_or((i64::MIN, i64::MAX)),
                    sender: sender.map(user_name),
                };
                check::history(store, model, &channel, &range);
            }
            Step::Pages { user, unread_only, limit } => {
                let (user, limit) = (user_name(user), usize::from(limit));
                check::list_in_pages(store, model, &user, unread_only, limit);
                check::listings_in_pages(store, model, limit);
                self.keep_token(store, user, unread_only);
            }
            Step::Since { token, limit } => self.since(store, usize::from(token), usize::from(limit)),
            Step::Client { user, unread_only, act, limit } => {
                let client = self.clients.entry((user, unread_only));
                let client = client.or_insert_with(|| Client::new(&user_name(user), unread_only));
                let limit = usize::from(limit);
                match act {
                    Act::List => client.list(store, limit),
                    Act::Update => drop(client.update(store, limit)),
                    Act::Follow => client.follow(store, limit),
                    Act::Drain => client.drain(store, model, limit),
                }
            }
            _ => unreachable!("not a question"),
        }
    }

    fn keep_token(&mut self, store: &Store, user: Name, unread_only: bool) {
        let token = check::list(store, &self.witness.model, &user, unread_only);
        if self.tokens.len() == TOKENS {
            self.tokens.remove(0);
        }
        let version = self.witness.model.version();
        self.tokens.push(Kept { user, unread_only, token, version, lost: false, shaken: false });
    }

    fn since(&self, store: &Store, pick: usize, limit: usize) {
        let Some(kept) = self.tokens.get(pick % self.tokens.len().max(1)) else { return };
        if kept.lost {
            let answer = store.conversations(&kept.user).with_attributes().since(&kept.token).unwrap();
            assert_eq!(answer, Update::Reset, "a token of a state that was lost");
            return;
        }
        let (user, model) = (&kept.user, &self.witness.model);
        if model.deleted_since(user, kept.version) {
            let answer = store.conversations(user).since(&kept.token).unwrap();
            assert_eq!(answer, Update::Reset, "a token of a deleted user");
            return;
        }
        let exact = check::since(store, model, user, &kept.token, kept.version, kept.unread_only, limit);
        let forgotten = model.may_have_forgotten(user, kept.version);
        assert!(exact || kept.shaken || forgotten, "told to start over without cause");
    }

    /// Makes a store of facts that were told before sealing: it is the model too, and tells the same.
    fn copy(&self, store: &Store, told: Vec<Fact>) {
        assert!(facts(store) == told, "files tell what the log told");
        let mut import = Import::new("/copy", self.options.clone()).unwrap();
        told.iter().for_each(|fact| import.put(fact.clone()).unwrap());
        import.finish().unwrap();
        let verification = chanlog::verify("/copy", &self.options).unwrap();
        assert!(verification.faults.is_empty(), "{:?}", verification.faults);
        let copy = self.options.clone().open("/copy").unwrap();
        check::everything(&copy, &self.witness.model);
        assert!(facts(&copy) == told, "the copy tells the same");
    }

    fn finish(&mut self) {
        let store = self.store();
        let now = self.sim.unix_ms();
        self.views.iter().for_each(|(view, model)| check::reads(view, &model.at(now)));
        for limit in [2, usize::MAX] {
            for client in self.clients.values_mut() {
                client.drain(&store, &self.witness.model, limit);
            }
        }
        let facts = facts(&store);
        store.seal().unwrap();
        self.copy(&store, facts);
        while store.maintain().unwrap() {}
        check::everything(&store, &self.witness.model);
        drop(store);
        self.reopen(End::Close);
        check::everything(&self.store(), &self.witness.model);
        self.store = None;
        let verification = chanlog::verify(DIR, &self.options).unwrap();
        assert!(verification.faults.is_empty(), "{:?}", verification.faults);
    }
}

/// All that a store tells of itself.
fn facts(store: &Store) -> Vec<Fact> {
    store.view().unwrap().export().map(Result::unwrap).collect()
}

/// So many cases, the same at each run. With `PROPTEST_CASES=n`, n new ones at each run.
fn cases(default: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    let cases = asked.unwrap_or(default);
    figures::figure("random histories", cases.into());
    let rng_seed = if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(1) };
    let failure_persistence = Some(Box::new(FileFailurePersistence::WithSource("regressions")) as _);
    ProptestConfig {
        cases,
        failure_persistence,
        rng_seed,
        max_shrink_iters: 5000,
        ..ProptestConfig::default()
    }
}

fn run(seed: u64, tombstones: usize, steps: &[Step]) {
    let mut machine = Machine::new(seed, tombstones);
    for step in steps {
        machine.run(step);
        check::everything(&machine.store(), &machine.witness.model);
    }
    machine.finish();
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn a_store_is_its_model(seed: u64, steps in vec(step(), 1..60)) {
        run(seed, TOMBSTONES, &steps);
    }

    #[test]
    fn a_client_that_follows_tokens_and_pages_misses_nothing(
        seed: u64, steps in vec(client_step(), 1..80), limit in 1usize..4,
    ) {
        let mut machine = Machine::new(seed, TOMBSTONES);
        for step in &steps {
            machine.run(step);
        }
        for client in machine.clients.values_mut() {
            client.drain(machine.store.as_ref().unwrap(), &machine.witness.model, limit);
        }
    }

    #[test]
    fn few_tombstones_lead_to_start_over_and_never_to_a_missing_removal(
        seed: u64, tombstones in 0usize..3, steps in vec(step(), 1..60),
    ) {
        // Dropped tombstones are not seen as memberships that once were, so only clients are compared in full.
        let mut machine = Machine::new(seed, tombstones);
        for step in &steps {
            machine.run(step);
        }
        for client in machine.clients.values_mut() {
            client.drain(machine.store.as_ref().unwrap(), &machine.witness.model, 2);
        }
    }
}

/// A user with many channels, most of which rest between two questions.
#[test]
fn a_long_list_is_kept_up_to_date() {
    const MANY: u64 = 600;
    let mut machine = Machine::new(7, TOMBSTONES);
    let store = machine.store();
    let (alice, bob) = (b"alice".to_vec(), b"bob".to_vec());
    let channel = |i: u64| format!("channel {:03}", i * 7919 % MANY).into_bytes();
    let post = |sender: &Name, i: u64| Post {
        members_only: false,
        sender: sender.clone(),
        timestamp: i as i64,
        silent: i % 5 == 4,
        id: None,
        client_id: None,
        unique_id: None,
        payload: format!("message {i}").into(),
        ..Post::default()
    };
    for i in 0..MANY {
        let join = |user: &Name| Op::Join {
            channel: channel(i),
            user: user.clone(),
            visible: HistoryFrom::Now,
            read: None,
            role: None,
        };
        let mut ops = vec![join(&alice), join(&bob)];
        ops.extend((0..i % 4).map(|n| Op::Append { channel: channel(i), post: post(&bob, n) }));
        machine.witness.commit(&store, &ops, Durability::Buffered);
    }
    let mut clients: Vec<(Client, usize)> = [(false, 7), (false, usize::MAX), (true, 50)]
        .map(|(unread, n)| (Client::new(&alice, unread), n))
        .into();
    for round in 0..12u64 {
        for i in 0..40 {
            let channel = channel(round * 131 + i * i);
            let (user, seq) = (alice.clone(), machine.witness.model.end(&channel));
            let op = match i % 8 {
                0 => Op::Read { channel, user, seq },
                1 => Op::Hide { channel, user },
                2 => Op::Activate { channel, user },
                3 if i == 3 => Op::Leave { channel, user },
                4 => Op::Append { post: post(&alice, i), channel },
                _ => Op::Append { post: post(&bob, i), channel },
            };
            if machine.witness.model.refused(std::slice::from_ref(&op)).is_none() {
                machine.witness.commit(&store, &[op], Durability::Buffered);
            }
        }
        machine.keep_token(&store, alice.clone(), round % 2 == 0);
        for (client, limit) in &mut clients {
            client.follow(&store, *limit);
            if round % 3 == 2 {
                client.drain(&store, &machine.witness.model, *limit);
            }
        }
        (0..machine.tokens.len()).for_each(|t| machine.since(&store, t, 13));
        check::list_in_pages(&store, &machine.witness.model, &alice, round % 2 == 0, 50);
        match round % 4 {
            1 => store.seal().unwrap(),
            2 => while store.maintain().unwrap() {},
            _ => {}
        }
    }
    assert!(
        clients.iter().all(|(client, _)| client.resets == 0),
        "a client was told to start over without cause"
    );
    check::everything(&store, &machine.witness.model);
}
