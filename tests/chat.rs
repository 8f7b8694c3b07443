//! A real chat of 121,061 messages, imported and compared with the model in full: every user's list, every channel's
//! history; unsealed, sealed, merged and reopened.
//!
//! The file is `../shared/data/chat.jsonl.gz`, or what `CHANLOG_CHAT` names. Where it is absent, a generated chat is
//! checked in the same way.

mod model;

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use chanlog::{Durability, HistoryFrom, Options, Store, Update};
use flate2::read::GzDecoder;
use model::{Entry, Model, Name, Op, Post, Range, batch, check};

/// Messages in a commit.
const TOGETHER: usize = 500;

/// One sent message.
struct Sent {
    channel: Name,
    user: Name,
    timestamp: i64,
    text: String,
}

fn chat() -> Vec<Sent> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/chat.jsonl.gz");
    let path = std::env::var_os("CHANLOG_CHAT").map_or_else(default, PathBuf::from);
    match File::open(&path) {
        Ok(file) => BufReader::new(GzDecoder::new(file)).lines().map(|line| parse(&line.unwrap())).collect(),
        Err(error) => {
            println!("{}: {error}; checking a generated chat instead", path.display());
            (0..5000).map(generated).collect()
        }
    }
}

fn parse(line: &str) -> Sent {
    let json: serde_json::Value = serde_json::from_str(line).unwrap();
    let text = |key: &str| json[key].as_str().unwrap().to_owned();
    Sent {
        channel: text("channel").into(),
        user: text("user").into(),
        timestamp: json["ts"].as_i64().unwrap(),
        text: text("text"),
    }
}

fn generated(i: u64) -> Sent {
    let dice = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    Sent {
        channel: format!("channel {}", dice % 6).into(),
        user: format!("user {}", dice / 6 % 300).into(),
        timestamp: i as i64,
        text: "words and 🙂 \r\n".repeat(dice as usize % 20),
    }
}

/// The batches of an import: a sender who is no member joins just before the first message.
fn batches(chat: &[Sent]) -> Vec<Vec<Op>> {
    let mut joined = HashSet::new();
    let mut ops = |sent: &Sent| {
        let (channel, user) = (sent.channel.clone(), sent.user.clone());
        let join = joined.insert((channel.clone(), user.clone())).then(|| Op::Join {
            channel: channel.clone(),
            user: user.clone(),
            visible: HistoryFrom::Now,
            read: None,
            role: None,
        });
        let post = Post {
            members_only: false,
            sender: user,
            timestamp: sent.timestamp,
            silent: false,
            id: None,
            client_id: None,
            unique_id: None,
            payload: sent.text.clone().into(),
            ..Post::default()
        };
        join.into_iter().chain([Op::Append { channel, post }])
    };
    chat.chunks(TOGETHER).map(|part| part.iter().flat_map(&mut ops).collect()).collect()
}

/// Every user's list, computed once.
fn lists(model: &Model) -> Vec<(Name, Vec<Entry>)> {
    model.users().into_iter().map(|user| (user.clone(), model.conversations(&user, false))).collect()
}

fn compare(store: &Store, model: &Model, lists: &[(Name, Vec<Entry>)], state: &str) {
    check::counts(store, model);
    assert_eq!(check::names(store.channels().list().unwrap()), model.channels(), "{state}");
    assert_eq!(check::names(store.users().list().unwrap()), model.users(), "{state}");
    for channel in model.channels() {
        assert_eq!(store.head(&channel).unwrap(), model.head(&channel), "{state}");
        assert_eq!(check::names(store.members(&channel).list().unwrap()), model.members(&channel), "{state}");
        check::history(store, model, &channel, &Range::default());
        check::history(store, model, &channel, &Range { limit: 1000, reverse: true, ..Range::default() });
    }
    for (user, expected) in lists {
        let list = store.conversations(user).list().unwrap();
        assert_eq!(check::entries(&list.entries), *expected, "list of {}, {state}", check::text(user));
    }
}

#[test]
fn every_list_and_history_of_a_real_chat_equals_the_models() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        Options::new().log_segment(512 << 10).message_segment(16 << 20).unsealed(1000).background(false);
    let store = options.clone().open(dir.path()).unwrap();
    let mut model = Model::default();
    for ops in batches(&chat()) {
        let receipt = store.commit(&batch(&ops, Durability::Buffered)).unwrap();
        assert_eq!(receipt.outcomes(), model.apply(&ops).unwrap());
    }
    let lists = lists(&model);
    compare(&store, &model, &lists, "in the log");
    let tokens: Vec<_> = lists
        .iter()
        .step_by(97)
        .map(|(user, _)| (user, store.conversations(user).list().unwrap().as_of))
        .collect();

    assert!(store.maintain().unwrap(), "there is a segment to seal");
    compare(&store, &model, &lists, "partly sealed");
    store.seal().unwrap();
    compare(&store, &model, &lists, "sealed");
    while store.maintain().unwrap() {}
    compare(&store, &model, &lists, "merged");
    store.close().unwrap();
    drop(store);
    let store = options.open(dir.path()).unwrap();
    compare(&store, &model, &lists, "reopened");
    for (user, token) in tokens {
        match store.conversations(user).since(&token).unwrap() {
            Update::Changes { changes, .. } => assert_eq!(changes, [], "nothing changed"),
            update => panic!("expected no changes, not {update:?}"),
        }
    }
}
