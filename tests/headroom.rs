//! A full disk can be emptied with the store alone: sends are refused, and what frees room still works, whatever crashes in
//! between.

#![cfg(feature = "sim")]

mod hooks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chanlog::env::SimEnv;
use chanlog::{Batch, Draft, Error, Options, Result, RetentionPolicy, Store};
use hooks::DIR;

const QUOTA: u64 = 600 << 10;
const CHANNELS: [&str; 4] = ["trimmed", "deleted", "erased", "kept"];

fn options(sim: &Arc<SimEnv>) -> Options {
    Options::new().env(sim.clone()).log_segment(32 << 10).background(false)
}

/// Bytes that do not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    };
    (0..700).map(next).collect()
}

fn is_full<T: std::fmt::Debug>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::OutOfSpace { .. }))
}

fn send(store: &Store, channel: &str, seed: u64) -> Result<u64> {
    let receipt = store.commit(Batch::new().append(channel, Draft::new("u", 0, noise(seed))))?;
    Ok(receipt.outcomes()[0].seq().unwrap())
}

/// What was acknowledged: the seed of each message of each channel, by seq.
type Sent = BTreeMap<&'static str, BTreeMap<u64, u64>>;

/// Sends until the disk is full. Channels take turns by runs of 40 messages, as they would with time.
fn fill(store: &Store) -> Sent {
    let mut sent = Sent::new();
    for seed in 0..100_000 {
        let channel = CHANNELS[(seed / 40 % 4) as usize];
        match send(store, channel, seed) {
            Ok(seq) => assert!(sent.entry(channel).or_default().insert(seq, seed).is_none()),
            full => {
                assert!(is_full(&full), "{full:?}");
                return sent;
            }
        }
        if seed % 10 == 9 {
            upkeep(store).unwrap();
        }
    }
    panic!("the disk was never full");
}

/// All there is to do, as the background does it. A full disk is not its end.
fn upkeep(store: &Store) -> Result<()> {
    loop {
        match store.maintain() {
            Ok(true) => {}
            full if full.is_ok() || is_full(&full) => return Ok(()),
            other => return other.map(drop),
        }
    }
}

/// Takes nearly everything away.
fn empty(store: &Store) -> Result<()> {
    let all = store.head("trimmed")?.last.seq;
    // In small steps, as upkeep by policies would.
    for seq in (0..all).step_by(10).chain([all]) {
        store.commit(Batch::new().trim("trimmed", seq))?;
    }
    store.commit(Batch::new().delete_channel("deleted"))?;
    let head = store.head("erased")?;
    let erased: Vec<_> = (head.trimmed.seq + 1..=head.last.seq).collect();
    for seqs in erased.chunks(20) {
        let mut batch = Batch::new();
        seqs.iter().for_each(|seq| _ = batch.erase("erased", *seq));
        store.commit(&batch)?;
    }
    store.commit(Batch::new().empty("erased").retention("kept", RetentionPolicy::new().max_count(3)))?;
    store.enforce_retention(0, usize::MAX)?;
    store.seal()?;
    while store.maintain()? {}
    Ok(())
}

fn check_kept(store: &Store, sent: &Sent) {
    let kept = store.history("kept").limit(100_000).list().unwrap();
    for message in &kept {
        assert_eq!(message.payload, noise(sent["kept"][&message.seq]), "message {}", message.seq);
    }
    let last = kept.last().map(|message| message.seq);
    assert_eq!(last.as_ref(), sent["kept"].keys().last());
}

fn full_store() -> (Arc<SimEnv>, Store, Sent) {
    let sim = SimEnv::new(1);
    sim.quota(Some(QUOTA));
    let store = options(&sim).open(DIR).unwrap();
    let sent = fill(&store);
    assert!(sent.len() == 4 && sent["kept"].len() > 40, "{sent:?}");
    if store.stat().unwrap().headroom > 0 {
        // Not a byte is left but those that are kept.
        let used = sim.files().into_iter().map(|path| sim.read_file(path).unwrap().len() as u64).sum();
        sim.quota(Some(used));
    }
    (sim, store, sent)
}

#[test]
fn a_full_disk_is_emptied_with_the_store_alone() {
    let (_sim, store, sent) = full_store();
    assert!(is_full(&send(&store, "kept", 0)));
    check_kept(&store, &sent);
    empty(&store).unwrap();
    assert_eq!(store.stat().unwrap().headroom, 48 << 10, "the room is kept again");
    check_kept(&store, &sent);
    assert_eq!(store.history("kept").list().unwrap().len(), 3);
    // And once more.
    let again = fill(&store);
    assert!(again["deleted"].len() > 40);
    assert!(is_full(&send(&store, "kept", 0)));
    empty(&store).unwrap();
    send(&store, "kept", 0).unwrap();
}

#[test]
fn only_what_frees_room_is_written_while_there_is_little() {
    let (_sim, store, _) = full_store();
    // The room is used by the first that needs it.
    for seq in 1..2000 {
        if store.stat().unwrap().headroom == 0 {
            break;
        }
        store
            .commit(
                Batch::new()
                    .trim("trimmed", 1)
                    .retention("kept", RetentionPolicy::new().max_count(100_000 + seq)),
            )
            .unwrap();
    }
    assert_eq!(store.stat().unwrap().headroom, 0);
    let refused = |build: &dyn Fn(&mut Batch) -> &mut Batch| {
        let mut batch = Batch::new();
        build(&mut batch);
        assert!(is_full(&store.commit(&batch)), "{batch:?}");
    };
    refused(&|b| b.append("kept", Draft::new("u", 0, "x")));
    refused(&|b| b.join("kept", "bob"));
    refused(&|b| b.trim("trimmed", 2).join("kept", "bob"));
    store.commit(Batch::new().trim("trimmed", 2).erase("kept", 1)).unwrap();
    assert_eq!(store.head("trimmed").unwrap().trimmed.seq, 2);
    // A server that replicates a log goes on with its entries that free room.
    let mut entry = Batch::new();
    entry.trim("trimmed", 3);
    assert!(matches!(store.apply(0, 1, "t", &entry).unwrap(), chanlog::Applied::Now(_)));
}

#[test]
fn a_crash_between_any_two_steps_leaves_a_store_that_can_be_emptied() {
    let mut cuts = 0;
    for n in (0..).step_by(3) {
        let (sim, store, sent) = full_store();
        sim.crash_after(n);
        let done = empty(&store);
        sim.crash_after(0);
        drop(store);
        sim.power_loss();
        let store = options(&sim).open(DIR).unwrap();
        check_kept(&store, &sent);
        empty(&store).unwrap();
        check_kept(&store, &sent);
        send(&store, "kept", 0).unwrap();
        if done.is_ok() {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 20, "{cuts} cuts");
}

#[test]
fn the_background_empties_it_after_a_trim() {
    let sim = SimEnv::new(1);
    sim.quota(Some(QUOTA));
    let store = options(&sim).background(true).open(DIR).unwrap();
    let mut seed = 0;
    while send(&store, "trimmed", seed).is_ok() {
        seed += 1;
    }
    let until = Instant::now() + Duration::from_secs(60);
    // The seals that are under way may have made room meanwhile; then it is full again.
    while !is_full(&store.commit(Batch::new().join("trimmed", "bob"))) {
        let _ = send(&store, "trimmed", 0);
        assert!(Instant::now() < until, "never full");
    }
    let all = store.head("trimmed").unwrap().last.seq;
    store.commit(Batch::new().trim("trimmed", all)).unwrap();
    while is_full(&send(&store, "trimmed", 0)) {
        assert!(Instant::now() < until, "no room came back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn without_headroom_no_room_is_kept() {
    let sim = SimEnv::new(1);
    let store = options(&sim).headroom(0).open(DIR).unwrap();
    send(&store, "c", 0).unwrap();
    assert_eq!(store.stat().unwrap().headroom, 0);
    assert!(sim.files().iter().all(|path| !path.ends_with("chanlog.reserve")));
    store.close().unwrap();
    // Other sizes are taken over.
    for bytes in [100_000, 50_000, 200_000] {
        let store = options(&sim).headroom(bytes).open(DIR).unwrap();
        send(&store, "c", 0).unwrap();
        assert_eq!(store.stat().unwrap().headroom, bytes);
        assert_eq!(sim.read_file("/store/chanlog.reserve").unwrap().len() as u64, bytes);
        store.close().unwrap();
    }
}
