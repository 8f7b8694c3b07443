//! Many threads write and read one store, while it seals and merges in the background.

mod model;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use chanlog::{Batch, Draft, Durability, ListChange, Options, Store, Update};
use model::client::Client;
use model::{Model, Name, check};

/// Each writer has two channels, and writes to both in every batch.
const WRITERS: u64 = 4;
const BATCHES: u64 = 300;

fn options() -> Options {
    Options::new()
        .log_segment(32 << 10)
        .memtable(64 << 10)
        .message_segment(256 << 10)
        .block_cache(64 << 10)
        .unsealed(4)
}

fn channels(writer: u64) -> [String; 2] {
    [format!("left {writer}"), format!("right {writer}")]
}

fn text(channel: &str, seq: u64) -> String {
    format!("{channel} {seq} {}", "x".repeat(seq as usize % 200))
}

/// The `seq`-th batch of a writer: the same seq in both channels.
fn both(writer: u64, seq: u64) -> Batch {
    let mut batch = Batch::new();
    for channel in channels(writer) {
        let draft = Draft::new(format!("writer {writer}"), seq as i64, text(&channel, seq)).id(seq);
        batch.append(&channel, if seq.is_multiple_of(3) { draft.silent() } else { draft });
    }
    batch.durability(if seq.is_multiple_of(4) { Durability::Sync } else { Durability::Buffered });
    batch
}

fn join_all(store: &Store) {
    let mut batch = Batch::new();
    for channel in (0..WRITERS).flat_map(channels) {
        batch.join(&channel, "reader");
        (0..WRITERS).for_each(|w| _ = batch.join(&channel, format!("writer {w}")));
    }
    store.commit(&batch).unwrap();
}

/// Writes all batches, some of them several at once, and looks for each after waiting for it.
fn write(store: &Store, writer: u64) {
    let [left, right] = channels(writer);
    let mut seq = 0;
    while seq < BATCHES {
        let some = (1 + seq % 5).min(BATCHES - seq);
        let pending: Vec<_> = (1..=some).map(|n| store.submit(&both(writer, seq + n)).unwrap()).collect();
        for commit in pending {
            seq += 1;
            let receipt = commit.wait().unwrap();
            assert!(receipt.outcomes().iter().all(|outcome| outcome.seq() == Some(seq)));
            for channel in [&left, &right] {
                assert!(store.head(channel).unwrap().last.seq >= seq, "an acknowledged commit is visible");
                assert_eq!(
                    store.history(channel).from(seq).to(seq).list().unwrap()[0].payload,
                    text(channel, seq)
                );
            }
        }
    }
}

/// Reads heads: those of one writer move together, and only forward.
fn watch_heads(store: &Store, done: &AtomicBool) {
    let names: Vec<String> = (0..WRITERS).flat_map(channels).collect();
    let mut before = store.heads(&names).unwrap();
    while !done.load(Ordering::Acquire) {
        let heads = store.heads(&names).unwrap();
        for pair in heads.chunks(2) {
            assert_eq!(pair[0].last, pair[1].last, "a batch is visible whole or not at all");
        }
        for (now, then) in heads.iter().zip(&before) {
            assert!(now.last.seq >= then.last.seq && now.order >= then.order, "a head moved back");
        }
        before = heads;
    }
}

/// Reads histories: contiguous, and never shorter than a head that was seen before.
fn watch_histories(store: &Store, done: &AtomicBool) {
    let mut turn = 0;
    while !done.load(Ordering::Acquire) {
        let channel = &channels(turn % WRITERS)[(turn / WRITERS % 2) as usize];
        let end = store.head(channel).unwrap().last.seq;
        let from = if turn % 3 == 0 { 1 } else { end.saturating_sub(30).max(1) };
        let messages = store.history(channel).from(from).list().unwrap();
        assert!(from + messages.len() as u64 > end, "a message of {channel} up to {end} is missing");
        for (message, seq) in messages.iter().zip(from..) {
            assert_eq!((message.seq, message.id), (seq, Some(seq)));
            assert_eq!(message.payload, text(channel, seq));
        }
        turn += 1;
    }
}

/// Reads lists and updates: entries agree with themselves, and seqs only move forward.
fn watch_lists(store: &Store, done: &AtomicBool) {
    let mut token = store.conversations("reader").list().unwrap().as_of;
    let mut last = std::collections::HashMap::new();
    while !done.load(Ordering::Acquire) {
        let Update::Changes { changes, as_of, .. } =
            store.conversations("reader").limit(3).since(&token).unwrap()
        else {
            panic!("told to start over without cause")
        };
        for change in changes {
            let ListChange::Entry(entry) = change else { panic!("nothing is removed: {change:?}") };
            let message = entry.last.expect("a message");
            assert_eq!(message.seq, entry.last_seq, "the last message is that of the head");
            assert_eq!(entry.unread, message.ordinal, "nothing was read");
            let before = last.insert(entry.channel, entry.last_seq).unwrap_or(0);
            assert!(before <= entry.last_seq, "an entry moved back");
        }
        token = as_of;
    }
}

/// The model of the same writes, in any order of the writers: the versions differ, the rest can't.
fn compare(store: &Store) {
    for channel in (0..WRITERS).flat_map(channels) {
        let messages = store.history(&channel).list().unwrap();
        let found: Vec<u64> = messages.iter().map(|m| m.seq).collect();
        assert_eq!(found, (1..=BATCHES).collect::<Vec<_>>(), "{channel}");
        assert!(messages.iter().all(|m| m.payload == text(&channel, m.seq)));
        assert!(messages.is_sorted_by(|a, b| a.version < b.version));
        assert_eq!(store.head(&channel).unwrap().members, WRITERS as u32 + 1);
    }
    let list = store.conversations("reader").list().unwrap();
    assert_eq!(list.entries.len() as u64, 2 * WRITERS);
    assert!(list.entries.iter().all(|e| (e.last_seq, e.unread) == (BATCHES, BATCHES - BATCHES / 3)));
    let list = store.conversations("writer 0").list().unwrap();
    let own = |e: &&chanlog::Conversation| e.channel.ends_with(b" 0");
    assert!(list.entries.iter().filter(own).all(|e| (e.read_seq, e.unread) == (BATCHES, 0)));
}

#[test]
fn writers_and_readers_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = options().open(dir.path()).unwrap();
    join_all(&store);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers = [
            scope.spawn(|| watch_heads(&store, &done)),
            scope.spawn(|| watch_histories(&store, &done)),
            scope.spawn(|| watch_lists(&store, &done)),
        ];
        let writers: Vec<_> = (0..WRITERS)
            .map(|w| {
                scope.spawn({
                    let store = &store;
                    move || write(store, w)
                })
            })
            .collect();
        let written: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Release);
        readers.into_iter().map(|reader| reader.join()).chain(written).for_each(Result::unwrap);
    });
    compare(&store);
    store.seal().unwrap();
    compare(&store);
    assert!(store.stat().unwrap().segments.count > 0);
    store.close().unwrap();
    drop(store);
    compare(&options().open(dir.path()).unwrap());
}

/// Threads that race to make the same names agree on one id each, and every join happens once.
#[test]
fn a_race_for_the_same_names_has_one_winner() {
    const THREADS: usize = 4;
    let dir = tempfile::tempdir().unwrap();
    let store = options().durability(Durability::Buffered).open(dir.path()).unwrap();
    let start = Barrier::new(THREADS);
    let joined: usize = thread::scope(|scope| {
        let race = || {
            start.wait();
            let join = |i: u32| store.commit(Batch::new().join(format!("channel {i}"), "alice")).unwrap();
            (0..200).filter(|i| join(*i).outcomes()[0].version().is_some()).count()
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(race)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(joined, 200);
    let stat = store.stat().unwrap();
    assert_eq!((stat.version, stat.channels, stat.users), (200, 200, 1));
}

/// Follows pages and updates until all is written.
fn live(store: &Store, mut client: Client, limit: usize, done: &AtomicBool) -> Client {
    while !done.load(Ordering::Acquire) {
        client.follow(store, limit);
    }
    client
}

/// A client that lives on updates alone, next to a writer, ends with the exact list.
#[test]
fn a_client_next_to_a_writer_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = options().durability(Durability::Buffered).open(dir.path()).unwrap();
    let alice: Name = b"alice".to_vec();
    let channel = |i: u64| format!("channel {}", i * i % 31).into_bytes();
    let done = AtomicBool::new(false);
    let (model, mut clients) = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut model = Model::default();
            for i in 0..3000 {
                let ops = changes(&channel(i), &alice, i);
                if let Ok(outcomes) = model.apply(&ops) {
                    let receipt = store.commit(&model::batch(&ops, Durability::Buffered)).unwrap();
                    assert_eq!(receipt.outcomes(), outcomes);
                }
            }
            model
        });
        let live = |limit, unread_only| {
            let (store, alice, done) = (&store, &alice, &done);
            scope.spawn(move || live(store, Client::new(alice, unread_only), limit, done))
        };
        let readers = [live(3, false), live(usize::MAX, false), live(2, true)];
        let model = writer.join();
        done.store(true, Ordering::Release);
        (model.unwrap(), readers.map(|reader| reader.join().unwrap()))
    });
    for client in &mut clients {
        assert_eq!(client.resets, 0, "told to start over without cause");
        client.drain(&store, &model, 5);
    }
    check::everything(&store, &model);
}

fn changes(channel: &Name, alice: &Name, i: u64) -> Vec<model::Op> {
    use model::{Op, Post};
    let (channel, user) = (channel.clone(), alice.clone());
    let post = |sender: &[u8]| Post {
        members_only: false,
        sender: sender.to_vec(),
        timestamp: i as i64,
        silent: i.is_multiple_of(7),
        id: None,
        client_id: None,
        unique_id: None,
        payload: vec![i as u8; 100].into(),
        ..Post::default()
    };
    let visible = chanlog::HistoryFrom::Now;
    let op = match i % 11 {
        0 | 5 => Op::Join { channel: channel.clone(), user, visible, read: None, role: None },
        1 if i.is_multiple_of(4) => Op::Leave { channel: channel.clone(), user },
        2 => Op::Hide { channel: channel.clone(), user },
        3 => Op::Read { channel: channel.clone(), user, seq: u64::MAX },
        4 => Op::Activate { channel: channel.clone(), user },
        6 => Op::Append { channel: channel.clone(), post: post(alice) },
        _ => Op::Append { channel: channel.clone(), post: post(b"bob") },
    };
    vec![op, Op::Append { channel, post: post(b"carol") }]
}

#[test]
fn a_commit_that_nobody_waits_for_is_synced_soon() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let commit = store.submit(Batch::new().append("general", Draft::new("alice", 0, "hi"))).unwrap();
    while !commit.is_done() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(store.head("general").unwrap().last.seq, 1);
}

/// A number of unread messages is looked up before the writer's lock, and the channel has moved on by then.
#[test]
fn a_number_of_unread_messages_can_be_set_in_a_busy_channel() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.commit(Batch::new().join("general", "alice")).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut batch = Batch::new();
            batch.durability(Durability::Buffered).append("general", Draft::new("bob", 0, "hi"));
            while !done.load(Ordering::Acquire) {
                store.commit(&batch).unwrap();
            }
        });
        while store.head("general").unwrap().last.seq < 1000 {
            thread::yield_now();
        }
        for count in 0..200 {
            store.commit(Batch::new().set_unread("general", "alice", count)).unwrap();
        }
        done.store(true, Ordering::Release);
    });
    store.commit(Batch::new().set_unread("general", "alice", 500)).unwrap();
    assert_eq!(store.unread("alice").unwrap().messages, 500);
}
