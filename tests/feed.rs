//! Feeds: who reads one and does what it tells has what the store has, wherever the store was sealed, merged, reopened or
//! killed meanwhile, and however often and slowly they read. And waiting for what comes.

#![cfg(feature = "sim")]

mod hooks;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chanlog::env::SimEnv;
use chanlog::{
    Batch, ChangeKind, Draft, Durability, Error, Event, Feed, Message, MessageState, Options, Store,
    SyncToken,
};
use hooks::{DIR, a_moment, append, files, kill, long, options};

/// Numbers that look random, the same for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What a reader of the feed made of it.
#[derive(Default, PartialEq, Debug)]
struct Mirror {
    channels: BTreeMap<Bytes, Content>,
    /// The version of the last event.
    version: u64,
    told: usize,
}

#[derive(Default, PartialEq, Debug)]
struct Content {
    messages: BTreeMap<u64, Said>,
    annotations: BTreeMap<(u64, Bytes), Bytes>,
    class: u8,
    trimmed: u64,
}

#[derive(PartialEq, Debug)]
struct Said {
    payload: Bytes,
    retracted: bool,
    erased: bool,
    sender: Bytes,
    version: u64,
}

impl From<&Message> for Said {
    fn from(message: &Message) -> Said {
        let (payload, sender) = (message.payload.clone(), message.sender.clone());
        let erased = matches!(message.state, MessageState::Erased { .. });
        Said { payload, retracted: retracted(message), erased, sender, version: message.version }
    }
}

fn retracted(message: &Message) -> bool {
    matches!(message.state, MessageState::Retracted { .. })
}

impl Mirror {
    fn apply(&mut self, event: Event) {
        assert!(event.version() > self.version, "{event:?} after {}", self.version);
        self.version = event.version();
        self.told += 1;
        match event {
            Event::Message { channel, message, .. } => {
                let content = self.channels.entry(channel).or_default();
                let told = content.messages.insert(message.seq, Said::from(&message));
                assert_eq!(told, None, "told twice");
            }
            Event::Change { channel, change, .. } => {
                let content = self.channels.entry(channel).or_default();
                let seq = change.seq;
                match change.kind {
                    ChangeKind::Edited { payload, .. } => {
                        content.messages.get_mut(&seq).expect("it was told").payload = payload;
                    }
                    ChangeKind::Retracted => {
                        let said = content.messages.get_mut(&seq).expect("it was told");
                        // One that is erased by now was told as that.
                        (said.payload, said.retracted) = (Bytes::new(), !said.erased);
                    }
                    ChangeKind::Annotated { key, value, .. } => {
                        _ = content.annotations.insert((seq, key), value);
                    }
                    ChangeKind::Unannotated { key, .. } => _ = content.annotations.remove(&(seq, key)),
                    other => panic!("{other:?}"),
                }
            }
            Event::Channel { channel, head, .. } => {
                let content = self.channels.entry(channel).or_default();
                (content.class, content.trimmed) = (head.class, head.trimmed.seq);
                content.messages.retain(|seq, _| *seq > head.trimmed.seq);
                content.annotations.retain(|(seq, _), _| *seq > head.trimmed.seq);
            }
            Event::User { user, version, erased, deleted, .. } => self.user(&user, version, erased, deleted),
            other => panic!("{other:?}"),
        }
    }

    /// What all messages are told that a user sent.
    fn user(&mut self, user: &Bytes, version: u64, erased: u64, deleted: bool) {
        for message in self.channels.values_mut().flat_map(|content| content.messages.values_mut()) {
            let sent = message.sender == user && message.version <= version;
            if sent && message.version <= erased {
                (message.payload, message.retracted, message.erased) = (Bytes::new(), false, true);
            }
            if sent && deleted {
                message.sender = Bytes::new();
            }
        }
    }

    fn follow(&mut self, feed: &mut Feed, most: usize) {
        feed.take(most).for_each(|event| self.apply(event.unwrap()));
        assert!(feed.version() >= self.version);
    }

    /// Compares with what the store says.
    fn check(&self, store: &Store) {
        for channel in store.channels().list().unwrap() {
            let head = store.head(&channel).unwrap();
            let mut content = Content { class: head.class, trimmed: head.trimmed.seq, ..Content::default() };
            for message in store.history(&channel).list().unwrap() {
                content.messages.insert(message.seq, Said::from(&message));
            }
            for annotation in store.annotations(&channel).list().unwrap() {
                let value = annotation.value.bytes().expect("it is short");
                content.annotations.insert((annotation.seq, annotation.key.clone()), value.clone());
            }
            let empty = Content::default();
            assert_eq!(self.channels.get(&channel).unwrap_or(&empty), &content, "{channel:?}");
        }
    }
}

const CHANNELS: u64 = 6;

/// Some operation that is not refused.
fn add(batch: &mut Batch, store: &Store, numbers: &mut Numbers) {
    let channel = format!("channel {}", numbers.below(CHANNELS));
    let head = store.head(&channel).unwrap();
    let (last, floor) = (head.last.seq, head.trimmed.seq);
    let seq = || floor + 1 + head.order % (last - floor).max(1);
    let sender = ["alice", "carol", "dave"][numbers.below(3) as usize];
    match numbers.below(14) {
        0 if last > floor && live(store, &channel, seq()) => {
            _ = batch.edit(&channel, seq(), format!("edited {}", head.order))
        }
        1 if last > floor => _ = batch.retract(&channel, seq()),
        2 if last > floor => {
            let value = if numbers.below(3) == 0 { "" } else { "value" };
            batch.annotate(&channel, seq(), format!("key {}", numbers.below(3)), value);
        }
        3 if numbers.below(4) == 0 && last > floor => _ = batch.trim(&channel, seq()),
        4 => _ = batch.class(&channel, numbers.below(3) as u8),
        5 => _ = batch.join(&channel, "bob"),
        6 if numbers.below(3) == 0 => _ = batch.erase_user(sender),
        7 if numbers.below(3) == 0 => _ = batch.delete_user(sender),
        _ => {
            let text = format!("{} {}", last, "x".repeat(numbers.below(300) as usize));
            let draft = Draft::new(sender, 0, text);
            batch.append(&channel, if numbers.below(5) == 0 { draft.silent() } else { draft });
        }
    };
}

fn live(store: &Store, channel: &str, seq: u64) -> bool {
    let found = store.history(channel).from(seq).to(seq).list().unwrap();
    let live = |state| matches!(state, MessageState::Sent | MessageState::Edited { .. });
    found.first().is_some_and(|message| live(message.state))
}

/// Commits some operations, one a batch, as each looks at the store.
fn work(store: &Store, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(30) {
        let mut batch = Batch::new();
        add(&mut batch, store, numbers);
        store.commit(&batch).unwrap();
    }
}

#[test]
fn who_follows_a_feed_has_what_the_store_has() {
    for seed in 0..40 {
        let sim = SimEnv::new(seed);
        let mut numbers = Numbers(seed);
        let mut store = options(sim.clone()).open(DIR).unwrap();
        // One keeps its feed while the store is open, the other keeps a token only.
        let (mut stays, mut comes) = (Mirror::default(), Mirror::default());
        let (mut feed, mut token): (Feed, Option<String>) = (store.feed(), None);
        for _ in 0..30 {
            work(&store, &mut numbers);
            match numbers.below(8) {
                0 => store.seal().unwrap(),
                1 => store.compact().unwrap(),
                2 => {
                    let kept = feed.token().unwrap();
                    drop(feed);
                    match numbers.below(2) {
                        0 => drop(store),
                        _ => kill(&sim, store),
                    }
                    store = options(sim.clone()).open(DIR).unwrap();
                    feed = store.feed().after(&kept);
                }
                3 => {
                    let mut again = store.feed();
                    if let Some(token) = &token {
                        again = again.after(&token.parse::<SyncToken>().unwrap());
                    }
                    comes.follow(&mut again, numbers.below(40) as usize);
                    token = Some(again.token().unwrap().to_string());
                }
                4 => {
                    stays.follow(&mut feed, usize::MAX);
                    stays.check(&store);
                    assert_eq!(feed.version(), store.version().unwrap());
                }
                _ => stays.follow(&mut feed, numbers.below(30) as usize),
            }
        }
        let mut again = store.feed();
        if let Some(token) = &token {
            again = again.after(&token.parse::<SyncToken>().unwrap());
        }
        comes.follow(&mut again, usize::MAX);
        stays.follow(&mut feed, usize::MAX);
        comes.check(&store);
        stays.check(&store);
        assert!(feed.next().is_none() && again.next().is_none());
        let mut late = Mirror::default();
        late.follow(&mut store.feed(), usize::MAX);
        late.check(&store);
    }
}

#[test]
fn a_feed_of_one_channel_tells_of_no_other() {
    let store = options(SimEnv::new(1)).open(DIR).unwrap();
    let mut feed = store.feed().channel("later");
    append(&store, "other", "x", Durability::Sync).unwrap();
    assert!(feed.next().is_none());
    for text in ["one", "two"] {
        append(&store, "later", text, Durability::Sync).unwrap();
        append(&store, "other", text, Durability::Sync).unwrap();
    }
    store.seal().unwrap();
    store.commit(Batch::new().retract("later", 1).class("later", 3)).unwrap();
    let told: Vec<Event> = feed.by_ref().map(Result::unwrap).collect();
    assert!(
        matches!(
            &told[..],
            [Event::Message { message: first, .. }, Event::Message { .. }, Event::Change { .. }, Event::Channel { head, .. }]
                if retracted(first) && head.class == 3
        ),
        "{told:?}"
    );
}

/// The place where a channel goes on is found whatever the number of its messages, of gaps and of files.
#[test]
fn a_feed_begins_after_any_version() {
    let sim = SimEnv::new(3);
    let mut store = options(sim.clone()).open(DIR).unwrap();
    let mut tokens: Vec<(SyncToken, Vec<(u64, u64)>)> = Vec::new();
    let mut all = Vec::new();
    for round in 0..60u64 {
        tokens.push((store.conversations("nobody").list().unwrap().as_of, all.clone()));
        for n in 0..=round % 7 {
            let seq = append(&store, "c", &format!("{round} {n}"), Durability::Sync).unwrap();
            all.push((seq, store.head("c").unwrap().order));
        }
        match round % 12 {
            5 => store.seal().unwrap(),
            8 => {
                // A buffered message that was perhaps lost leaves a gap.
                append(&store, "c", &long(), Durability::Sync).unwrap();
                let last = store.head("c").unwrap();
                all.push((last.last.seq, last.order));
                append(&store, "other", "x", Durability::Buffered).unwrap();
                kill(&sim, store);
                store = options(sim.clone()).open(DIR).unwrap();
            }
            _ => {}
        }
    }
    assert!(all.last().unwrap().0 > all.len() as u64, "there is a gap");
    for (token, before) in &tokens {
        let told: Vec<_> = store.feed().channel("c").after(token).map(Result::unwrap).collect();
        let told: Vec<_> = told.iter().filter(|event| !matches!(event, Event::Rewound { .. })).collect();
        let seqs: Vec<_> = told
            .iter()
            .map(|event| match event {
                Event::Message { message, .. } => (message.seq, message.version),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(seqs, all[before.len()..]);
    }
}

#[test]
fn what_a_crash_took_is_taken_back() {
    let mut lost = 0;
    for seed in 0..20 {
        let sim = SimEnv::new(seed);
        let buffered = || options(sim.clone()).durability(Durability::Buffered);
        let store = buffered().open(DIR).unwrap();
        append(&store, "c", "kept", Durability::Sync).unwrap();
        let kept = store.version().unwrap();
        append(&store, "c", "at risk", Durability::Buffered).unwrap();
        let mut feed = store.feed();
        assert_eq!(feed.by_ref().count(), 2);
        let token = feed.token().unwrap();
        drop(feed);
        // What is not synced may go.
        sim.crash_after(0);
        drop(store);
        sim.power_loss();
        let store = buffered().open(DIR).unwrap();
        let went = store.history("c").list().unwrap().len() == 1;
        append(&store, "c", "new", Durability::Sync).unwrap();
        let told: Vec<Event> = store.feed().after(&token).map(Result::unwrap).collect();
        let rest = match &told[..] {
            [Event::Rewound { version, .. }, rest @ ..] if went && *version == kept => rest,
            rest => rest,
        };
        assert!(matches!(rest, [Event::Message { message, .. }] if message.payload == "new"), "{told:?}");
        lost += usize::from(went);
        let other = options(SimEnv::new(100)).open(DIR).unwrap();
        let refused = other.feed().after(&token).next().unwrap().unwrap_err();
        assert!(matches!(refused, Error::InvalidArgument { .. }), "{refused}");
    }
    assert!((1..20).contains(&lost), "{lost}");
}

#[test]
fn damage_takes_the_messages_that_it_hit_and_no_more() {
    let sim = SimEnv::new(6);
    let store = options(sim.clone()).open(DIR).unwrap();
    for n in 0..40 {
        for channel in ["a", "b", "c"] {
            append(&store, channel, &format!("{channel} {n} {}", "y".repeat(3000)), Durability::Sync)
                .unwrap();
        }
    }
    store.seal().unwrap();
    drop(store);
    let path = files(&sim, "seg-").pop().unwrap();
    let bytes = sim.read_file(&path).unwrap();
    sim.corrupt(&path, bytes.len() as u64 / 2, 1).unwrap();
    let store = options(sim.clone()).open(DIR).unwrap();
    append(&store, "b", "after", Durability::Sync).unwrap();
    let (mut good, mut bad) = (0, 0);
    for event in store.feed() {
        match event {
            Ok(Event::Message { .. }) => good += 1,
            Err(Error::Corruption { .. }) => bad += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(bad > 0 && bad < 20, "{bad}");
    assert_eq!(good + bad, 121);
}

#[test]
fn a_slow_follower_beside_writers_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().log_segment(64 << 10).open(dir.path()).unwrap();
    let done = AtomicBool::new(false);
    let (mut mirror, mut feed) = (Mirror::default(), store.feed());
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3u64)
            .map(|seed| {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..400 {
                        let mut batch = Batch::new();
                        for k in 0..=n % 5 {
                            let channel = format!("channel {}", (n * 7 + k + seed) % 9);
                            batch.append(&channel, Draft::new("alice", 0, format!("{seed} {n}")));
                        }
                        batch.durability(Durability::Buffered);
                        store.commit(&batch).unwrap();
                    }
                })
            })
            .collect();
        let follower = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) || feed.wait(Duration::ZERO).unwrap() {
                feed.wait(Duration::from_millis(5)).unwrap();
                mirror.follow(&mut feed, 100);
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::SeqCst);
        follower.join().unwrap();
    });
    assert_eq!(mirror.told, 3 * 400 * 3);
    mirror.check(&store);
}

#[test]
fn who_waits_is_woken_by_what_comes_and_by_the_end() {
    let store = options(SimEnv::new(7)).open(DIR).unwrap();
    let seen = store.version().unwrap();
    let began = Instant::now();
    assert_eq!(store.wait(seen, Duration::from_millis(20)).unwrap(), seen);
    assert!(began.elapsed() >= Duration::from_millis(20));
    let hour = Duration::from_secs(3600);
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| store.wait(seen, hour).unwrap())).collect();
        a_moment();
        append(&store, "c", "x", Durability::Buffered).unwrap();
        waiting.into_iter().for_each(|waiting| assert!(waiting.join().unwrap() > seen));
    });
    assert!(store.wait(seen, Duration::ZERO).unwrap() > seen, "what is there is not waited for");
    let seen = store.version().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| store.wait(seen, hour));
        a_moment();
        store.close().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Closed)));
    });
}

struct Alarm(Thread);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn a_task_is_woken_by_what_comes() {
    let store = options(SimEnv::new(8)).open(DIR).unwrap();
    let seen = store.version().unwrap();
    thread::scope(|scope| {
        let task = scope.spawn(|| {
            let waker = Waker::from(Arc::new(Alarm(thread::current())));
            let mut changed = pin!(store.changed(seen));
            loop {
                match changed.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(version) => return version.unwrap(),
                    Poll::Pending => thread::park_timeout(Duration::from_secs(3600)),
                }
            }
        });
        a_moment();
        append(&store, "c", "x", Durability::Sync).unwrap();
        assert!(task.join().unwrap() > seen);
    });
}
