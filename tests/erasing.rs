//! The bytes of erased messages are gone from all files in time, whatever happens meanwhile, and it is told what waits.

#![cfg(feature = "sim")]

mod hooks;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chanlog::env::SimEnv;
use chanlog::{Batch, Draft, Options, RetentionPolicy, Store};
use hooks::DIR;

const HOUR: Duration = Duration::from_secs(3600);

fn options(sim: &Arc<SimEnv>) -> Options {
    Options::new().env(sim.clone()).log_segment(64 << 10).background(false)
}

/// Bytes that do not compress, and are found again.
fn secret(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    };
    (0..len).map(next).collect()
}

/// The files that hold a part of a secret.
fn files_with(sim: &SimEnv, seed: u64) -> Vec<String> {
    let part = secret(seed, 40);
    let holds = |bytes: Vec<u8>| bytes.windows(part.len()).any(|window| window == part);
    let name = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let files = sim.files();
    // One that is gone by now holds nothing.
    let mut found: Vec<_> =
        files.iter().filter(|path| sim.read_file(path).is_ok_and(holds)).map(name).collect();
    found.sort();
    found
}

fn send(store: &Store, channel: &str, seed: u64) {
    store.commit(Batch::new().append(channel, Draft::new("u", 0, secret(seed, 100)))).unwrap();
}

fn maintain(store: &Store) {
    while store.maintain().unwrap() {}
}

#[test]
fn erased_bytes_go_in_time_and_are_told_until_then() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(DIR).unwrap();
    assert_eq!(store.erasing().unwrap(), chanlog::Erasing::default());
    (1..=3).for_each(|seed| send(&store, "sealed", seed));
    send(&store, "other", 4);
    store.seal().unwrap();
    send(&store, "other", 5);
    store.seal().unwrap();
    send(&store, "unsealed", 6);
    store.commit(Batch::new().erase("sealed", 2).erase("unsealed", 1)).unwrap();
    let told = store.erasing().unwrap();
    assert_eq!(told.messages, 2);
    let mut files = told.files.clone();
    files.sort();
    let mut holding = [files_with(&sim, 2), files_with(&sim, 6)].concat();
    holding.sort();
    assert_eq!((files, holding.len()), (holding, 2));
    // The upkeep that comes first notices, and from then on time counts.
    maintain(&store);
    let since = store.erasing().unwrap().since.unwrap();
    assert_eq!(store.erasing().unwrap().until, Some(since + 24 * 3_600_000));
    sim.advance(11 * HOUR);
    maintain(&store);
    assert_eq!(store.erasing().unwrap().messages, 2, "it begins when half of the time has passed");
    let untouched = files_with(&sim, 5);
    sim.advance(2 * HOUR);
    maintain(&store);
    for seed in [2, 6] {
        assert_eq!(files_with(&sim, seed), [""; 0], "{seed}");
    }
    let told = store.erasing().unwrap();
    assert_eq!((told.messages, told.since, told.until, told.files.len()), (0, None, None, 0));
    assert_eq!(files_with(&sim, 5), untouched, "what holds nothing of it is not written anew");
    for (channel, payloads) in [("sealed", vec![1, 0, 3]), ("other", vec![4, 5]), ("unsealed", vec![0])] {
        let found = store.history(channel).list().unwrap();
        let found: Vec<_> = found.iter().map(|message| &message.payload[..]).collect();
        let wanted: Vec<_> =
            payloads.iter().map(|seed| if *seed == 0 { Vec::new() } else { secret(*seed, 100) }).collect();
        assert_eq!(found, wanted);
    }
    assert!(chanlog::verify(DIR, &options(&sim)).unwrap().faults.is_empty());
    // An annotation of such a channel is no erasure.
    store.commit(Batch::new().annotate("sealed", 1, "key", "value")).unwrap();
    assert_eq!(store.erasing().unwrap().messages, 0);
    sim.advance(13 * HOUR);
    let logs = store.stat().unwrap().logs;
    maintain(&store);
    assert_eq!(store.stat().unwrap().logs, logs, "nothing was sealed for it");
}

#[test]
fn what_was_said_before_an_edit_goes_too() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(DIR).unwrap();
    send(&store, "c", 1);
    store.commit(Batch::new().edit("c", 1, secret(2, 300))).unwrap();
    store.seal().unwrap();
    store.commit(Batch::new().edit("c", 1, secret(3, 3000))).unwrap();
    store.seal().unwrap();
    store.commit(Batch::new().erase("c", 1)).unwrap();
    maintain(&store);
    sim.advance(13 * HOUR);
    maintain(&store);
    for seed in 1..=3 {
        assert_eq!(files_with(&sim, seed), [""; 0], "{seed}");
    }
    assert_eq!(store.erasing().unwrap().messages, 0);
}

#[test]
fn an_end_of_the_process_puts_nothing_off() {
    for power in [false, true] {
        let sim = SimEnv::new(1);
        let store = options(&sim).open(DIR).unwrap();
        send(&store, "c", 1);
        store.seal().unwrap();
        store.commit(Batch::new().erase("c", 1)).unwrap();
        maintain(&store);
        let since = store.erasing().unwrap().since;
        for round in 0..3 {
            sim.advance(3 * HOUR);
            sim.crash_after(0);
            if power {
                sim.power_loss()
            } else {
                sim.crash()
            };
            let store = options(&sim).open(DIR).unwrap();
            let told = store.erasing().unwrap();
            assert_eq!(told.messages, 1, "round {round}");
            // Where the note is gone nobody knows since when, and it is due at once.
            assert!(told.since == since || (power && told.since.is_none()), "{told:?}");
        }
        sim.advance(4 * HOUR);
        let store = options(&sim).open(DIR).unwrap();
        maintain(&store);
        assert_eq!(files_with(&sim, 1), [""; 0]);
        assert_eq!(store.erasing().unwrap().messages, 0);
        store.close().unwrap();
        let store = options(&sim).open(DIR).unwrap();
        assert_eq!(store.erasing().unwrap().messages, 0, "that it is gone is remembered");
    }
}

#[test]
fn a_crash_while_bytes_are_taken_out_loses_nothing_and_they_go_after_it() {
    for n in 0.. {
        let sim = SimEnv::new(n);
        let store = options(&sim).open(DIR).unwrap();
        (1..=3).for_each(|seed| send(&store, "c", seed));
        store.seal().unwrap();
        send(&store, "c", 4);
        store.commit(Batch::new().erase("c", 2).erase("c", 4)).unwrap();
        maintain(&store);
        sim.advance(13 * HOUR);
        sim.crash_after(n);
        let done = loop {
            match store.maintain() {
                Ok(true) => {}
                Ok(false) => break true,
                Err(_) => break false,
            }
        };
        sim.crash_after(0);
        drop(store);
        sim.power_loss();
        let store = options(&sim).open(DIR).unwrap();
        let payloads = |store: &Store| {
            store.history("c").list().unwrap().into_iter().map(|message| message.payload).collect::<Vec<_>>()
        };
        let wanted = [secret(1, 100), Vec::new(), secret(3, 100), Vec::new()];
        assert_eq!(payloads(&store), wanted);
        maintain(&store);
        sim.advance(13 * HOUR);
        maintain(&store);
        for seed in [2, 4] {
            assert_eq!(files_with(&sim, seed), [""; 0], "{seed} after a crash at {n}");
        }
        assert_eq!(payloads(&store), wanted);
        if done {
            return;
        }
    }
}

#[test]
fn a_segment_of_which_half_was_trimmed_is_written_anew() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(DIR).unwrap();
    for seed in 0..1500 {
        let channel = if seed % 3 == 0 { "kept" } else { "trimmed" };
        store.commit(Batch::new().append(channel, Draft::new("u", 0, secret(seed, 500)))).unwrap();
    }
    store.seal().unwrap();
    store.compact().unwrap();
    let before = store.stat().unwrap().segments;
    store.commit(Batch::new().retention("trimmed", RetentionPolicy::new().max_count(1))).unwrap();
    store.enforce_retention(0, usize::MAX).unwrap();
    store.commit(Batch::new().trim("trimmed", u64::MAX)).unwrap();
    store.seal().unwrap();
    maintain(&store);
    assert!(store.stat().unwrap().segments.bytes > before.bytes * 9 / 10);
    sim.advance(13 * HOUR);
    maintain(&store);
    let after = store.stat().unwrap().segments;
    assert!(after.bytes < before.bytes * 6 / 10, "{before:?} {after:?}");
    assert_eq!(store.history("kept").limit(1000).list().unwrap().len(), 500);
    sim.advance(13 * HOUR);
    let merged = store.stat().unwrap().merged_bytes;
    maintain(&store);
    assert_eq!(store.stat().unwrap().merged_bytes, merged, "once");
}

#[test]
fn files_that_a_view_holds_open_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().log_segment(64 << 10).background(false).open(dir.path()).unwrap();
    send(&store, "c", 1);
    store.seal().unwrap();
    let payload = store.history("c").list().unwrap().remove(0).payload;
    let view = store.view().unwrap();
    store.commit(Batch::new().erase("c", 1)).unwrap();
    store.erase_now().unwrap();
    let told = store.erasing().unwrap();
    assert_eq!((told.messages, told.files.len()), (0, 0));
    assert!(told.open.iter().any(|name| name.starts_with("seg-")), "{told:?}");
    drop(view);
    let told = store.erasing().unwrap();
    assert_eq!(told.open.len(), 1, "a payload shares its file's map: {told:?}");
    assert_eq!(payload, secret(1, 100));
    drop(payload);
    assert_eq!(store.erasing().unwrap().open, [""; 0]);
}

#[test]
fn the_background_erases() {
    let sim = SimEnv::new(1);
    let store = options(&sim).background(true).erase_within(Duration::from_secs(2)).open(DIR).unwrap();
    send(&store, "c", 1);
    store.commit(Batch::new().erase("c", 1)).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while !files_with(&sim, 1).is_empty() || store.erasing().unwrap().messages > 0 {
        sim.advance(Duration::from_millis(100));
        assert!(Instant::now() < until, "{:?}", store.erasing());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn zero_leaves_it_to_the_caller() {
    let sim = SimEnv::new(1);
    let store = options(&sim).erase_within(Duration::ZERO).open(DIR).unwrap();
    send(&store, "c", 1);
    store.commit(Batch::new().erase("c", 1)).unwrap();
    sim.advance(100 * HOUR);
    maintain(&store);
    assert_eq!(files_with(&sim, 1).len(), 1);
    let told = store.erasing().unwrap();
    assert_eq!((told.messages, told.until), (1, None));
    store.erase_now().unwrap();
    assert_eq!(files_with(&sim, 1), [""; 0]);
}
