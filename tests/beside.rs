//! Reading a store beside its writer, or where nothing may be written.

#![cfg(feature = "sim")]

mod hooks;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chanlog::env::{Op, SimEnv};
use chanlog::{Batch, Draft, Durability, Error, Options, Store};
use hooks::Hooked;

fn send(store: &Store, channel: &str, text: &str) -> u64 {
    store.commit(Batch::new().append(channel, Draft::new("u", 0, text.to_owned()))).unwrap().outcomes()[0]
        .seq()
        .unwrap()
}

fn reader(dir: &Path) -> Store {
    Options::new().read_only(true).open(dir).unwrap()
}

fn last(store: &Store, channel: &str) -> u64 {
    store.head(channel).unwrap().last.seq
}

/// Waits until a new reader sees a seq.
fn until_seen(dir: &Path, channel: &str, seq: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while last(&reader(dir), channel) < seq {
        assert!(Instant::now() < deadline, "{seq} is not seen");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_reader_sees_what_is_published_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    let store = Options::new().sync_interval(hour).open(dir.path()).unwrap();
    send(&store, "c", "one");
    until_seen(dir.path(), "c", 1);
    // Written, and not durable: the commit before it was made in this way, and nobody may see it.
    let mut unpublished = Batch::new();
    unpublished.append("made later", Draft::new("u", 0, "x")).durability(Durability::Buffered);
    let pending = store.submit(&unpublished).unwrap();
    assert_eq!((last(&reader(dir.path()), "made later"), pending.is_done()), (0, false));
    pending.wait().unwrap();
    until_seen(dir.path(), "made later", 1);
}

#[test]
fn a_reader_stays_at_its_moment_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    send(&store, "c", "one");
    until_seen(dir.path(), "c", 1);
    let held = reader(dir.path());
    send(&store, "c", "two");
    store.seal().unwrap();
    assert_eq!(held.history("c").list().unwrap().len(), 1);
    let refused = held.commit(Batch::new().append("c", Draft::new("u", 0, "no")));
    assert!(matches!(refused, Err(Error::ReadOnly)), "{refused:?}");
    assert!(matches!(held.seal(), Err(Error::ReadOnly)));
    assert!(matches!(held.sync(), Err(Error::ReadOnly)));
    held.close().unwrap();
    drop(held);
    send(&store, "c", "three");
    until_seen(dir.path(), "c", 3);
}

/// A copy of a directory, as of a store whose process ended.
fn copy(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// Ends the threads that look at it, also if the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The note of what is published, once it says that all is, up to a seq of channel "c".
fn settled(dir: &Path, seq: u64) -> Vec<u8> {
    until_seen(dir, "c", seq);
    std::fs::read(dir.join("chanlog.published")).unwrap()
}

#[test]
fn a_note_that_lags_shows_no_newer_log_segment() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().durability(Durability::Buffered).open(dir.path()).unwrap();
    for text in ["one", "two"] {
        send(&store, "c", text);
    }
    let early = settled(dir.path(), 2);
    store.seal().unwrap();
    for text in ["three", "four"] {
        send(&store, "c", text);
    }
    let late = settled(dir.path(), 4);
    assert_eq!(last(&reader(dir.path()), "c"), 4);
    // As in the moment before the note was written: what is sealed is published, and no more.
    std::fs::write(dir.path().join("chanlog.published"), early).unwrap();
    assert_eq!(last(&reader(dir.path()), "c"), 2);
    std::fs::write(dir.path().join("chanlog.published"), late).unwrap();
    assert_eq!(last(&reader(dir.path()), "c"), 4);
}

#[test]
fn a_writer_that_opens_ends_what_the_note_before_said() {
    for background in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let store = Options::new().open(dir.path()).unwrap();
        send(&store, "c", "one");
        let early = settled(dir.path(), 1);
        send(&store, "c", "two");
        store.close().unwrap();
        drop(store);
        // As if the process had ended before it could write its last note.
        std::fs::write(dir.path().join("chanlog.published"), early).unwrap();
        assert_eq!(last(&reader(dir.path()), "c"), 2, "nobody writes");
        let store = Options::new().background(background).open(dir.path()).unwrap();
        assert_eq!(last(&reader(dir.path()), "c"), 2, "nothing is written yet");
        send(&store, "c", "three");
        until_seen(dir.path(), "c", 3);
    }
}

#[test]
fn readers_beside_a_writer_that_rolls_seals_and_merges_see_prefixes() {
    let dir = tempfile::tempdir().unwrap();
    let small = Options::new().log_segment(16 << 10).message_segment(64 << 10);
    let store = small.durability(Durability::Buffered).open(dir.path()).unwrap();
    send(&store, "c", "first");
    let (done, acknowledged) = (AtomicBool::new(false), AtomicU64::new(1));
    thread::scope(|scope| {
        let _ends = Ends(&done);
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let seq = send(&store, "c", &"x".repeat(300));
                acknowledged.store(seq, Ordering::SeqCst);
            }
        });
        let mut before = 0;
        for _ in 0..150 {
            let Ok(reader) = Options::new().read_only(true).open(dir.path()) else { continue };
            let seen = last(&reader, "c");
            assert!(seen >= before, "{seen} after {before}");
            let list = reader.history("c").last(50).unwrap();
            assert!(list.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1));
            assert!(list.is_empty() || list.last().unwrap().seq == seen);
            before = seen;
        }
        assert!(before > 0);
    });
}

#[test]
fn where_nobody_writes_all_of_the_log_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().background(false).open(dir.path()).unwrap();
    send(&store, "c", "one");
    // As if the process had ended here: the note is of an earlier moment, or of none.
    std::fs::write(dir.path().join("chanlog.published"), b"nonsense").unwrap();
    let copy = copy(dir.path());
    assert_eq!(last(&reader(copy.path()), "c"), 1);
    assert!(chanlog::verify(copy.path(), &Options::new()).unwrap().faults.is_empty());
}

/// What an opening says of ends that may have taken buffered messages.
fn losses(store: &Store) -> (bool, u64) {
    (store.recovery().gap, store.recovery().losses)
}

#[test]
fn a_session_that_goes_on_has_lost_nothing_and_one_whose_process_ended_may_have() {
    let dir = tempfile::tempdir().unwrap();
    let buffered = Options::new().durability(Durability::Buffered);
    let store = buffered.clone().open(dir.path()).unwrap();
    send(&store, "c", "one");
    settled(dir.path(), 1);
    assert_eq!(losses(&reader(dir.path())), (false, 0));
    // Also with a log segment that the note does not know of yet.
    store.seal().unwrap();
    send(&store, "c", "two");
    assert_eq!(losses(&reader(dir.path())), (false, 0));
    let seen = settled(dir.path(), 2);
    let dead = copy(dir.path());
    assert_eq!(losses(&reader(dead.path())), (true, 1));
    assert_eq!(std::fs::read(dead.path().join("chanlog.published")).unwrap(), seen);
    // The next writer's session is not in the log yet, and the one before has ended.
    let next = buffered.open(dead.path()).unwrap();
    assert_eq!(losses(&next), (true, 1));
    assert_eq!(losses(&reader(dead.path())), (true, 1));
    let seq = send(&next, "c", "three");
    until_seen(dead.path(), "c", seq);
    assert_eq!(losses(&reader(dead.path())), (false, 1));
    next.close().unwrap();
    drop(next);
    assert_eq!(losses(&reader(dead.path())), (false, 1));
}

/// A reader takes the lock for a moment. Another one must not take it for a writer, and believe an old note.
#[test]
fn a_reader_is_no_writer_to_another_reader() {
    let sim = SimEnv::new(1);
    let store = Options::new().env(sim.clone()).durability(Durability::Buffered).open("/store").unwrap();
    send(&store, "c", "one");
    let deadline = Instant::now() + Duration::from_secs(20);
    let beside = || Options::new().env(sim.clone()).read_only(true).open("/store").unwrap();
    while losses(&beside()).0 || last(&beside(), "c") < 1 {
        assert!(Instant::now() < deadline, "there is no note");
        thread::sleep(Duration::from_millis(1));
    }
    sim.crash_after(0);
    drop(store);
    sim.crash();
    for tries in 0..2 {
        let met = AtomicU64::new(0);
        let hooked = Hooked::new(&sim, move |op, _| match op {
            Op::Lock if met.fetch_add(1, Ordering::SeqCst) < tries => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        });
        let reader = Options::new().env(hooked).read_only(true).open("/store").unwrap();
        assert_eq!(losses(&reader), (true, 1), "the lock was taken {tries} times");
    }
}

#[test]
fn a_reader_makes_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let absent = Options::new().read_only(true).open(dir.path().join("absent")).map(drop);
    let empty = Options::new().read_only(true).open(dir.path()).map(drop);
    for opened in [absent, empty] {
        assert!(matches!(opened, Err(Error::NotAStore { .. })), "{opened:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// What stops an opening for writing is left out by a reader: the rest is served.
#[test]
fn no_bad_byte_stops_a_reader_from_what_is_whole() {
    let sim = SimEnv::new(1);
    let options = |sim: &Arc<SimEnv>| Options::new().env(sim.clone()).background(false).log_segment(8 << 10);
    let store = options(&sim).open("/store").unwrap();
    for part in 0..3 {
        for i in 0..3 {
            store
                .commit(
                    Batch::new()
                        .join("c", format!("user {part} {i}"))
                        .append("c", Draft::new("u", 0, "x".repeat(500))),
                )
                .unwrap();
        }
        if part < 2 {
            store.seal().unwrap();
        }
    }
    store.close().unwrap();
    drop(store);
    let whole: Vec<_> = sim.files();
    for path in &whole {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with("manifest") || name.ends_with("published") {
            continue;
        }
        let bytes = sim.read_file(path).unwrap();
        for at in [0, 5, 200, 4096, 4200, bytes.len() - 3] {
            if at >= bytes.len() {
                continue;
            }
            let sim = sim.fork(1);
            sim.corrupt(path, at as u64, 1).unwrap();
            let before = sim.stats();
            let store = options(&sim).read_only(true).open("/store");
            let store = store.unwrap_or_else(|error| panic!("{name} at {at}: {error}"));
            // Whatever is read is right, or an error.
            for seq in 1..=9 {
                if let Ok(list) = store.history("c").from(seq).to(seq).list() {
                    assert!(list.iter().all(|m| m.payload == "x".repeat(500)), "{name} at {at}");
                }
            }
            drop(store);
            assert_eq!(sim.stats().bytes_written, before.bytes_written, "{name} at {at}");
        }
    }
}
