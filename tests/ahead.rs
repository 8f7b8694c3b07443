//! Large batches, which are run ahead of their turn: what is committed meanwhile, failures, crashes, and who looks on.

#![cfg(feature = "sim")]

mod hooks;

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use chanlog::env::{Op as Disk, SimEnv};
use chanlog::{Batch, Draft, Durability, Error, Event, Fact, Options, Store, repair};
use hooks::{DIR, Hooked, files, kill, texts};

/// A batch of so many operations and one more is a large one, and so many images make it a layer of its own.
const LARGE: u64 = 16384;
const CHANNELS: u64 = 64;

/// What is done once, while a batch is prepared.
type Meanwhile = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A disk on which something is done before the log is read next: [`large`] asks for the place of a message in it.
fn disk(sim: &Arc<SimEnv>) -> (Arc<Hooked>, Meanwhile) {
    let meanwhile = Meanwhile::default();
    let next = meanwhile.clone();
    let hooked = Hooked::new(sim, move |op, name| {
        let due = (op == Disk::Read && name.starts_with("log-")).then(|| next.lock().unwrap().take());
        due.flatten().into_iter().for_each(|work| work());
        Ok(())
    });
    (hooked, meanwhile)
}

fn options(env: Arc<dyn chanlog::env::Env>) -> Options {
    Options::new().env(env).log_segment(32 << 20).background(false).durability(Durability::Buffered)
}

fn channel(n: u64) -> String {
    format!("channel {:02}", n % CHANNELS)
}

fn user(n: u64) -> String {
    format!("user {:03}", n % 200)
}

/// A batch that makes the names that others use, and channels that none does.
fn names() -> Batch {
    let mut batch = Batch::new();
    (0..CHANNELS).for_each(|n| _ = batch.append(channel(n), Draft::new(user(n), 0, format!("first of {n}"))));
    (0..200).for_each(|n| _ = batch.join(channel(n), user(n)).join("apart", user(n)));
    batch
}

/// Appends and joins, each of which reads a head, and rows.
fn large(round: u64) -> Batch {
    let mut batch = Batch::new();
    batch.read("still", user(0), 2);
    for n in 0..LARGE / 2 {
        batch.append(channel(n), Draft::new(user(n * 7), n as i64, format!("{n} of round {round}")));
        batch.join(channel(n * 5 + round), user(n));
    }
    batch
}

/// A store with sealed names, of which nothing was read yet since it was opened.
fn cold(sim: &Arc<SimEnv>) -> (Arc<Store>, Meanwhile) {
    // So the log is read by calls.
    sim.maps(false);
    let store = options(sim.clone()).open(DIR).unwrap();
    store.commit(&names()).unwrap();
    store.seal().unwrap();
    store.close().unwrap();
    drop(store);
    let (disk, meanwhile) = disk(sim);
    let store = options(disk).open(DIR).unwrap();
    store.commit(&still()).unwrap();
    (Arc::new(store), meanwhile)
}

/// A channel of three messages, of which the second can be found in the log only.
fn still() -> Batch {
    let mut batch = Batch::new();
    batch.join("still", user(0));
    (0..3).for_each(|n| _ = batch.append("still", Draft::new(user(1), n, "of those who are still")));
    batch
}

/// Does something while the next batch is prepared.
fn during(store: &Arc<Store>, meanwhile: &Meanwhile, work: impl FnOnce(&Store) + Send + 'static) {
    let store = store.clone();
    *meanwhile.lock().unwrap() = Some(Box::new(move || work(&store)));
}

/// All that callers see, but for versions and what tells of the session.
fn seen(store: &Store) -> String {
    let mut seen = String::new();
    for name in (0..CHANNELS).map(channel).chain(["apart".into(), "still".into(), "new".into()]) {
        let head = store.head(&name).unwrap();
        seen += &format!("{name} {:?} {} {:?}\n", head.last, head.members, texts(store, &name));
    }
    for name in (0..200).map(user).chain(["newcomer", "other newcomer"].map(String::from)) {
        let list = store.conversations(&name).limit(1000).list().unwrap();
        let entry =
            |e: &chanlog::Conversation| format!("{:?} {} {:?}", e.channel, e.unread, e.membership.read);
        let mut entries: Vec<_> = list.entries.iter().map(entry).collect();
        entries.sort();
        seen += &format!("{name} {entries:?}\n");
    }
    seen
}

/// What comes of batches when no part of them is large, in this order.
fn expected(batches: &[Batch]) -> String {
    let store = options(SimEnv::new(2)).open(DIR).unwrap();
    store.commit(&names()).unwrap();
    store.commit(&still()).unwrap();
    for batch in batches {
        store.commit(batch).unwrap();
    }
    seen(&store)
}

/// The large batch of a round, in pieces that are not large.
fn pieces(round: u64) -> Vec<Batch> {
    let piece = |from: u64| {
        let mut batch = Batch::new();
        for n in from..from + 512 {
            batch.append(channel(n), Draft::new(user(n * 7), n as i64, format!("{n} of round {round}")));
            batch.join(channel(n * 5 + round), user(n));
        }
        batch
    };
    let mut read = Batch::new();
    read.read("still", user(0), 2);
    [read].into_iter().chain((0..LARGE / 2).step_by(512).map(piece)).collect()
}

fn small(to: &str, text: &str) -> Batch {
    let mut batch = Batch::new();
    batch.append(to, Draft::new(user(3), 0, text.to_owned()));
    batch
}

/// All that a store tells, but for what is true of the whole: the end of a process is told there.
fn facts(store: &Store) -> Vec<Fact> {
    store.view().unwrap().export().map(Result::unwrap).skip(1).collect()
}

/// Each message and each change is told once, in order of versions, and reopening shows the same.
fn check(sim: &Arc<SimEnv>, store: Arc<Store>, expected: &str) {
    assert_eq!(seen(&store), expected);
    let versions: Vec<u64> = store.feed().map(|event| event.unwrap().version()).collect();
    assert!(versions.is_sorted_by(|a, b| a < b));
    let messages = store.feed().filter(|event| matches!(event, Ok(Event::Message { .. }))).count();
    assert_eq!(messages as u64, store.stat().unwrap().messages);
    let exported = facts(&store);
    kill(sim, Arc::into_inner(store).unwrap());
    // The gap before a large batch is nothing that is missing.
    let saved = repair(DIR, "/saved", &options(sim.clone())).unwrap();
    assert!(saved.is_whole(), "{saved:?}");
    assert_eq!(seen(&options(sim.clone()).open("/saved").unwrap()), expected, "repaired");
    let store = options(sim.clone()).open(DIR).unwrap();
    assert_eq!(seen(&store), expected, "replayed");
    assert!(facts(&store) == exported, "what was told is not what is replayed");
    store.seal().unwrap();
    assert_eq!(seen(&store), expected, "sealed");
    store.commit(&small("apart", "goes on")).unwrap();
    store.close().unwrap();
    assert!(chanlog::verify(DIR, &options(sim.clone())).unwrap().faults.is_empty());
}

fn adopted(store: &Store) -> u64 {
    store.stat().unwrap().adopted
}

#[test]
fn commits_elsewhere_come_before_it_and_it_is_written_as_it_was_run() {
    let sim = SimEnv::new(1);
    let (store, meanwhile) = cold(&sim);
    during(&store, &meanwhile, |store| {
        (0..100).for_each(|n| _ = store.commit(&small("apart", &format!("{n}"))).unwrap());
    });
    let before = adopted(&store);
    store.commit(&large(0)).unwrap();
    assert!(meanwhile.lock().unwrap().is_none(), "nothing came between");
    assert_eq!(adopted(&store), before + 1);
    let mut all: Vec<_> = (0..100).map(|n| small("apart", &format!("{n}"))).collect();
    all.extend(pieces(0));
    check(&sim, store, &expected(&all));
}

#[test]
fn a_commit_that_changes_what_it_read_comes_before_it() {
    type Change = fn() -> Batch;
    let changes: [(&str, Change); 6] = [
        ("a head", || small(&channel(9), "between")),
        ("a row", || {
            let mut batch = Batch::new();
            batch.join(channel(0), user(8));
            batch
        }),
        ("a name", || {
            let mut batch = Batch::new();
            batch.append("new", Draft::new("newcomer", 0, "between"));
            batch
        }),
        ("another name", || {
            let mut batch = Batch::new();
            batch.join("apart", "newcomer");
            batch
        }),
        ("a row alone", || {
            let mut batch = Batch::new();
            batch.pin(channel(16), user(16), true);
            batch
        }),
        ("a row that was only looked at", || {
            let mut batch = Batch::new();
            batch.leave("apart", user(0));
            batch
        }),
    ];
    for (what, change) in changes {
        let sim = SimEnv::new(1);
        let (store, meanwhile) = cold(&sim);
        during(&store, &meanwhile, move |store| drop(store.commit(&change()).unwrap()));
        let (mut batch, mut after) = (large(0), Batch::new());
        if what == "a name" {
            after.append("new", Draft::new("newcomer", 0, "after"));
            batch.append("new", Draft::new("newcomer", 0, "after"));
        }
        if what == "another name" {
            // Of a user who gets the same number on trial, in a channel that the other commit leaves alone.
            after.join(channel(9), "other newcomer");
            batch.join(channel(9), "other newcomer");
        }
        if what == "a row that was only looked at" {
            batch.append("apart", Draft::new(user(0), 0, "refused").members_only());
            let refused = store.commit(&batch).unwrap_err();
            assert!(matches!(refused, Error::NotMember { op, .. } if op as u64 == LARGE + 1), "{refused}");
            let kept = expected(&[change()]);
            check(&sim, store, &kept);
            continue;
        }
        let before = adopted(&store);
        store.commit(&batch).unwrap();
        assert!(meanwhile.lock().unwrap().is_none(), "{what}");
        // The commit between was adopted itself, if it was run on trial.
        assert!(adopted(&store) <= before + 1, "{what}");
        let mut all = vec![change()];
        all.extend(pieces(0));
        all.extend((!after.is_empty()).then_some(after));
        check(&sim, store, &expected(&all));
    }
}

#[test]
fn it_lies_between_commits_that_are_not_published_yet() {
    let sim = SimEnv::new(1);
    let (store, meanwhile) = cold(&sim);
    let sync = |mut batch: Batch| {
        batch.durability(Durability::Sync);
        batch
    };
    let first = store.submit(&sync(small("apart", "before"))).unwrap();
    let between = Arc::new(Mutex::new(Vec::new()));
    let kept = between.clone();
    during(&store, &meanwhile, move |store| {
        let mut batch = small("apart", "between");
        batch.durability(Durability::Sync);
        kept.lock().unwrap().push(store.submit(&batch).unwrap());
    });
    let before = adopted(&store);
    let middle = store.submit(&sync(large(0))).unwrap();
    assert_eq!(adopted(&store), before + 1);
    assert_eq!(store.head(channel(1)).unwrap().last.seq, 1, "nothing is durable yet");
    // What comes after sees what is written and not published: rows, heads and places of the large one.
    let mut after = small(&channel(9), "after");
    after.append("apart", Draft::new(user(4), 0, "after too"));
    after.read(channel(0), user(0), u64::MAX).read(channel(0), user(64), 5);
    let last = store.submit(&sync(after.clone())).unwrap();
    let more = store.submit(&sync(large(1))).unwrap();
    let end = store.submit(&sync(small(&channel(9), "the end"))).unwrap();
    end.wait().unwrap();
    [first, middle, last, more].into_iter().for_each(|commit| drop(commit.wait().unwrap()));
    between.lock().unwrap().drain(..).for_each(|commit| drop(commit.wait().unwrap()));
    let mut all = vec![small("apart", "before"), small("apart", "between")];
    all.extend(pieces(0));
    all.push(after);
    all.extend(pieces(1));
    all.push(small(&channel(9), "the end"));
    check(&sim, store, &expected(&all));
}

#[test]
fn one_that_can_not_be_written_leaves_no_trace() {
    let sim = SimEnv::new(1);
    let (store, meanwhile) = cold(&sim);
    during(&store, &meanwhile, |store| drop(store.commit(&small("apart", "between")).unwrap()));
    // The begin of this session's log segment, then the commit between, then the large one.
    store.commit(&small("apart", "before")).unwrap();
    sim.fail_nth(&[Disk::Write], 2, ErrorKind::StorageFull);
    let full = store.commit(&large(0)).unwrap_err();
    assert!(matches!(full, Error::OutOfSpace { .. }), "{full}");
    let all = [small("apart", "before"), small("apart", "between")];
    assert_eq!(seen(&store), expected(&all));
    store.commit(&large(0)).unwrap();
    let all: Vec<_> = all.into_iter().chain(pieces(0)).collect();
    check(&sim, store, &expected(&all));
}

#[test]
fn a_view_that_is_held_sees_nothing_of_it() {
    let sim = SimEnv::new(1);
    let (store, _) = cold(&sim);
    store.commit(&small("apart", "before")).unwrap();
    let view = store.view().unwrap();
    let head = |n| view.head(channel(n)).unwrap().last.seq;
    let of_a_user = || view.conversations(user(5)).limit(1000).list().unwrap();
    let before = (head(5), of_a_user());
    for round in 0..3 {
        store.commit(&large(round)).unwrap();
        assert_eq!((head(5), of_a_user()), before);
        assert_eq!(view.history(channel(5)).list().unwrap().len(), 1);
    }
    drop(view);
    let mut all = vec![small("apart", "before")];
    all.extend((0..3).flat_map(pieces));
    check(&sim, store, &expected(&all));
}

#[test]
fn a_segment_of_several_large_ones_is_sealed_as_one() {
    let sim = SimEnv::new(1);
    let (store, _) = cold(&sim);
    store.seal().unwrap();
    let sealed = files(&sim, "seg-").len();
    let mut all = Vec::new();
    for round in 0..2 {
        let between = small("apart", &format!("{round}"));
        store.commit(&between).unwrap();
        store.commit(&large(round)).unwrap();
        all.push(between);
        all.extend(pieces(round));
    }
    let stat = store.stat().unwrap();
    assert_eq!((stat.logs.count, stat.queues.unsealed), (1, 0), "one log segment, which is not full");
    assert_eq!(files(&sim, "log-").len(), 1);
    store.seal().unwrap();
    assert_eq!(files(&sim, "seg-").len(), sealed + 1);
    check(&sim, store, &expected(&all));
}

#[test]
fn a_crash_keeps_all_of_it_or_nothing() {
    let run = |sim: &Arc<SimEnv>| -> chanlog::Result<()> {
        let store = options(sim.clone()).log_segment(1 << 20).open(DIR)?;
        store.commit(&names())?;
        store.commit(&still())?;
        let mut batch = large(0);
        store.commit(batch.durability(Durability::Sync))?;
        store.commit(small("apart", "after").durability(Durability::Sync))?;
        store.seal()?;
        store.commit(batch.durability(Durability::Buffered))?;
        store.close()
    };
    let whole = SimEnv::new(1);
    run(&whole).unwrap();
    for crash in 0..whole.ops() {
        let sim = SimEnv::new(crash);
        sim.crash_after(crash);
        assert!(run(&sim).is_err(), "{crash}");
        sim.power_loss();
        let store = options(sim.clone()).open(DIR).unwrap();
        let messages: Vec<u64> =
            (0..CHANNELS).map(|n| store.head(channel(n)).unwrap().last.ordinal).collect();
        let each = LARGE / 2 / CHANNELS;
        let (first, whole) = (messages[0], messages.iter().all(|count| *count == messages[0]));
        assert!(whole && [0, 1, 1 + each, 1 + 2 * each].contains(&first), "{crash}: {messages:?}");
        if store.head("apart").unwrap().last.seq > 0 {
            assert!(first > each, "{crash}: what was acknowledged is lost");
        }
        store.commit(&still()).unwrap();
        store.commit(&large(2)).unwrap();
        store.seal().unwrap();
        assert_eq!(store.head(channel(7)).unwrap().last.ordinal, first + each, "{crash}");
    }
}

#[test]
fn among_threads_it_is_seen_whole_or_not_at_all() {
    let sim = SimEnv::new(1);
    let (store, _) = cold(&sim);
    let (store, done) = (&store, &AtomicBool::new(false));
    let rounds = 6;
    thread::scope(|scope| {
        let apart = scope.spawn(|| {
            let mut sent = 0u64;
            while !done.load(Ordering::Relaxed) {
                store.commit(&small("apart", "between")).unwrap();
                sent += 1;
            }
            sent
        });
        let within = scope.spawn(|| {
            (0..40).for_each(|_| {
                store.commit(&small(&channel(5), "between")).unwrap();
                thread::sleep(Duration::from_millis(5));
            });
        });
        let reader = scope.spawn(|| {
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let view = store.view().unwrap();
                let heads = view.heads((6..CHANNELS).map(channel)).unwrap();
                assert!(heads.iter().all(|head| head.last == heads[0].last), "a part of a batch is seen");
                assert!(heads[0].last.seq >= last);
                last = heads[0].last.seq;
                let shown = view.history(channel(7)).limit(1000).list().unwrap();
                assert_eq!(shown.last().map(|message| message.seq), Some(last));
            }
        });
        (0..rounds).for_each(|round| drop(store.commit(&large(round)).unwrap()));
        done.store(true, Ordering::Relaxed);
        within.join().unwrap();
        reader.join().unwrap();
        let (sent, each) = (apart.join().unwrap(), rounds * LARGE / 2 / CHANNELS);
        assert_eq!(store.head("apart").unwrap().last.seq, sent);
        assert_eq!(store.head(channel(5)).unwrap().last.seq, 1 + each + 40);
        assert_eq!(store.head(channel(6)).unwrap().last.seq, 1 + each);
    });
    let before = seen(store);
    store.seal().unwrap();
    assert_eq!(seen(store), before);
}

#[test]
fn a_segment_of_very_many_is_not_cut_into_ever_more_layers() {
    let sim = SimEnv::new(1);
    let store = options(sim.clone()).open(DIR).unwrap();
    store.commit(&names()).unwrap();
    store.commit(&still()).unwrap();
    for round in 0..10 {
        store.commit(&large(round)).unwrap();
        store.commit(&small("apart", "between")).unwrap();
    }
    assert_eq!(store.head(channel(1)).unwrap().last.seq, 1 + 10 * LARGE / 2 / CHANNELS);
    let before = seen(&store);
    store.seal().unwrap();
    assert_eq!(seen(&store), before);
    assert_eq!(store.feed().filter(Result::is_ok).count() as u64, store.stat().unwrap().messages);
}
