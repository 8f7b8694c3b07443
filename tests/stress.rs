//! Many threads at once, next to closes, crashes and a full disk. What was acknowledged must be there, and nothing else.

#![cfg(feature = "sim")]

mod figures;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chanlog::env::{Op as Disk, SimEnv};
use chanlog::{Batch, Draft, Durability, Error, Options, Result, Store, verify};

const DIR: &str = "/store";
const WRITERS: usize = 3;

/// The texts of a channel by seq.
type Texts = BTreeMap<u64, String>;

fn options(sim: &Arc<SimEnv>) -> Options {
    let options = Options::new().env(sim.clone()).log_segment(8 << 10).memtable(16 << 10);
    options.message_segment(64 << 10).unsealed(2).sync_interval(Duration::from_millis(1))
}

fn own(writer: usize) -> String {
    format!("own {writer}")
}

fn texts(store: &Store, writer: usize) -> Texts {
    let text = |message: &chanlog::Message| String::from_utf8(message.payload.to_vec()).unwrap();
    store.history(own(writer)).list().unwrap().iter().map(|message| (message.seq, text(message))).collect()
}

/// Appends the `i`-th message of a writer, of a length that changes.
fn append(store: &Store, writer: usize, i: usize, durability: Durability) -> Result<(u64, String)> {
    let text = format!("{writer} {i} {}", "y".repeat((i * 97 + writer * 11) % 900));
    let mut batch = Batch::new();
    batch.append(own(writer), Draft::new("user", 0, text.clone())).durability(durability);
    Ok((store.commit(&batch)?.outcomes()[0].seq().unwrap(), text))
}

fn alternating(i: usize) -> Durability {
    if i.is_multiple_of(3) { Durability::Buffered } else { Durability::Sync }
}

/// Calls `step` until the store is closed.
fn until_closed(step: impl Fn() -> Result<()>) {
    loop {
        match step() {
            Ok(()) => {}
            Err(Error::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Writes until the store is closed. Returns the last seq.
fn write_until_closed(store: &Store, writer: usize, mut last: u64) -> u64 {
    for i in 0.. {
        match append(store, writer, i, alternating(i)) {
            Ok((seq, _)) => last = seq,
            Err(Error::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    last
}

fn content(sim: &SimEnv) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    sim.files().into_iter().map(|path| (path.clone(), sim.read_file(path).unwrap())).collect()
}

/// One session in which everything is called at once, until a close. Returns the last seq of each writer.
fn busy_session(sim: &Arc<SimEnv>, store: &Store, last: &[u64; WRITERS], time: Duration) -> [u64; WRITERS] {
    std::thread::scope(|scope| {
        let writers: [_; WRITERS] =
            std::array::from_fn(|w| scope.spawn(move || write_until_closed(store, w, last[w])));
        scope.spawn(|| until_closed(|| store.seal()));
        scope.spawn(|| until_closed(|| store.maintain().map(drop)));
        scope.spawn(|| until_closed(|| store.sync().and_then(|()| store.stat().map(drop))));
        scope.spawn(|| until_closed(|| store.history(own(0)).last(5).map(drop)));
        std::thread::sleep(time);
        store.close().unwrap();
        let closed = content(sim);
        let last = writers.map(|writer| writer.join().unwrap());
        assert!(closed == content(sim), "a file changed after the close");
        last
    })
}

#[test]
fn a_close_comes_between_anything() {
    figures::figure("seeds with threads", 120 * figures::scale());
    for seed in 0..40 * figures::scale() {
        let sim = SimEnv::new(seed);
        let options = || options(&sim).background(seed % 4 != 0);
        let mut last = [0; WRITERS];
        for _ in 0..3 {
            let store = options().open(DIR).unwrap();
            last = busy_session(&sim, &store, &last, Duration::from_millis(2 + seed % 5));
        }
        assert!(verify(DIR, &options()).unwrap().faults.is_empty(), "seed {seed}");
        let store = options().open(DIR).unwrap();
        assert!(store.recovery().clean, "seed {seed}");
        assert_eq!(last, std::array::from_fn(|w| store.head(own(w)).unwrap().last.seq), "seed {seed}");
    }
}

/// What one channel's clients know over all crashes.
#[derive(Default)]
struct Known {
    /// Whatever anybody was shown.
    shown: Texts,
    /// What must never be lost.
    kept: Texts,
}

impl Known {
    fn check(&mut self, found: Texts) {
        for (seq, text) in &self.kept {
            assert_eq!(found.get(seq), Some(text), "seq {seq} is lost");
        }
        for (seq, text) in found {
            let before = self.shown.insert(seq, text.clone());
            assert!(before.is_none_or(|before| before == text), "seq {seq} was given twice");
            self.kept.insert(seq, text);
        }
    }

    fn acknowledge(&mut self, seq: u64, text: String, kept: bool) {
        let before = self.shown.insert(seq, text.clone());
        assert!(before.is_none_or(|before| before == text), "seq {seq} was given twice");
        if kept {
            self.kept.insert(seq, text);
        }
    }
}

#[test]
fn a_crash_under_many_writers_loses_nothing_acknowledged_and_gives_no_seq_twice() {
    for seed in 0..60 * figures::scale() {
        let sim = SimEnv::new(seed);
        let mut known: [Known; WRITERS] = Default::default();
        for session in 0..6u64 {
            let power = (seed + session) % 3 != 0;
            let store = options(&sim).open(DIR).unwrap();
            known.iter_mut().enumerate().for_each(|(w, known)| known.check(texts(&store, w)));
            sim.crash_after(20 + (seed * 7919 + session * 104_729) % 400);
            std::thread::scope(|scope| {
                for (w, known) in known.iter_mut().enumerate() {
                    let store = &store;
                    scope.spawn(move || {
                        for i in 0.. {
                            // Runs of both, so that both end sessions.
                            let durability = alternating(i / 16 + w + session as usize);
                            let i = session as usize * 1_000_000 + i;
                            let Ok((seq, text)) = append(store, w, i, durability) else { break };
                            known.acknowledge(seq, text, !power || durability == Durability::Sync);
                        }
                    });
                }
            });
            drop(store);
            if power { sim.power_loss() } else { sim.crash() }
        }
    }
}

#[test]
fn a_disk_that_is_full_at_times_takes_all_or_nothing_of_a_commit() {
    for seed in 0..20 * figures::scale() {
        let sim = SimEnv::new(seed);
        let options = || options(&sim).unsealed(1 << 20).background(false);
        let store = options().open(DIR).unwrap();
        let done = AtomicBool::new(false);
        let taken: [Texts; WRITERS] = std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in (1..17).cycle().take_while(|_| !done.load(Ordering::SeqCst)) {
                    // One at a time, however slow the writers are: a disk that is full for long stops a writer that has
                    // bytes to write again.
                    sim.clear_faults();
                    sim.fail_nth(&[Disk::Write, Disk::Allocate, Disk::Create], n, ErrorKind::StorageFull);
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
            let writers: [_; WRITERS] = std::array::from_fn(|w| {
                let store = &store;
                scope.spawn(move || (0..200).filter_map(|i| append_or_full(store, w, i)).collect())
            });
            let taken = writers.map(|writer| writer.join());
            done.store(true, Ordering::SeqCst);
            taken.map(|texts| texts.unwrap())
        });
        sim.clear_faults();
        let all = |store: &Store| std::array::from_fn(|w| texts(store, w));
        assert_eq!(all(&store), taken, "seed {seed}");
        store.sync().unwrap();
        sim.crash_after(0);
        drop(store);
        sim.power_loss();
        assert_eq!(all(&options().open(DIR).unwrap()), taken, "seed {seed}");
    }
}

/// Appends a message, and another that must be refused after it changed something.
fn append_or_full(store: &Store, writer: usize, i: usize) -> Option<(u64, String)> {
    let mut refused = Batch::new();
    refused.append(own(writer), Draft::new("user", 0, "no")).read(own(writer), "nobody", 1);
    let error = store.commit(&refused).unwrap_err();
    assert!(matches!(error, Error::NotMember { .. } | Error::OutOfSpace { .. }), "{error}");
    match append(store, writer, i, alternating(i)) {
        Err(Error::OutOfSpace { .. }) => None,
        appended => Some(appended.unwrap()),
    }
}
