//! Batches that are run before the writer's lock is taken, and what becomes of that when they get it.

#![cfg(feature = "sim")]

mod hooks;

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use chanlog::env::{Op as Disk, SimEnv};
use chanlog::{Batch, Draft, Durability, Error, Result, Store};
use hooks::{DIR, Gate, Hooked, append, kill, options, texts, wait_for_queued};

fn adopted(store: &Store) -> u64 {
    store.stat().unwrap().adopted
}

/// A batch that makes names, changes rows, appends, and reads what it did itself.
fn busy(round: u64) -> Batch {
    let (channel, user) = (format!("channel {round}"), format!("user {round}"));
    let mut batch = Batch::new();
    batch.join("c", &user).join(&channel, &user).append("c", Draft::new("bob", 0, format!("{round}")));
    batch.append("c", Draft::new(&user, 0, format!("of a member, {round}")).members_only());
    batch
        .read("c", "bob", u64::MAX)
        .append("c", Draft::new("bob", 0, "last").silent())
        .leave(&channel, &user);
    batch
}

/// All that callers see of what [`busy`] did.
fn seen(store: &Store, rounds: u64) -> String {
    let mut seen = format!("{:?} {:?}\n", store.head("c"), texts(store, "c"));
    for user in (0..rounds).map(|round| format!("user {round}")).chain(["bob".into()]) {
        seen +=
            &format!("{:?} {:?}\n", store.conversations(&user).list().unwrap(), store.membership("c", &user));
        seen += &format!("{:?}\n", store.membership(user.replace("user", "channel"), &user));
    }
    seen
}

/// Drops what is told of the session and the store, which differ.
fn states(seen: &str) -> String {
    seen.split("as_of").map(|part| part.split_once('}').map_or(part, |(_, rest)| rest)).collect()
}

fn with_bob(env: Arc<dyn chanlog::env::Env>) -> Store {
    let store = options(env).open(DIR).unwrap();
    store.commit(Batch::new().join("c", "bob").append("c", Draft::new("u", 0, "x"))).unwrap();
    store
}

#[test]
fn what_nothing_came_between_is_written_as_it_was_prepared() {
    let sim = SimEnv::new(1);
    let store = with_bob(sim.clone());
    for durability in [Durability::Sync, Durability::Buffered] {
        for round in 0..40 {
            let before = adopted(&store);
            store.commit(busy(round).durability(durability)).unwrap();
            assert_eq!(adopted(&store), before + 1, "round {round}");
        }
        // A refusal is decided under the lock.
        let before = adopted(&store);
        let refused = store.commit(Batch::new().join("c", "eve").read("c", "nobody", 1)).unwrap_err();
        assert!(matches!(refused, Error::NotMember { op: 1, .. }), "{refused}");
        assert_eq!((adopted(&store), store.membership("c", "eve").unwrap()), (before, None));
    }
    let before = seen(&store, 40);
    kill(&sim, store);
    let store = options(sim).open(DIR).unwrap();
    assert_eq!(states(&seen(&store, 40)), states(&before), "replay gives the same");
    append(&store, "c", "goes on", Durability::Sync).unwrap();
}

#[test]
fn what_is_not_published_yet_comes_between() {
    let sim = SimEnv::new(1);
    let store = with_bob(sim.clone());
    let before = adopted(&store);
    let leave = store.submit(Batch::new().leave("c", "bob")).unwrap();
    let read = store.commit(Batch::new().read("c", "bob", 1)).unwrap_err();
    assert!(matches!(read, Error::NotMember { .. }), "{read}");
    leave.wait().unwrap();
    assert_eq!(adopted(&store), before + 1, "the leave alone");
    let again = store.submit(Batch::new().join("c", "bob")).unwrap();
    store.submit(Batch::new().read("c", "bob", u64::MAX)).unwrap().wait().unwrap();
    again.wait().unwrap();
    assert_eq!(adopted(&store), before + 2);
}

/// What stops a store while two batches come together.
#[derive(Default)]
struct HoldUp {
    /// Stops the making of a log segment, under the writer's lock.
    roll: Gate,
    /// Stops the sealing that comes after: a batch that was prepared before it would have to be prepared again.
    seal: Gate,
    /// Whether the disk is full, once, for the first write to the next log segment after its header.
    full: AtomicBool,
}

/// Two batches, prepared one after the other while the writer is held up by a roll, are staged together; the write of both
/// fails if the disk is full then. Their answers, and how many were adopted.
fn together(store: &Store, hold_up: &HoldUp, first: &Batch, second: &Batch) -> ([Result<()>; 2], u64) {
    let before = adopted(store);
    hold_up.roll.shut();
    hold_up.seal.shut();
    let answers = thread::scope(|scope| {
        let holder = scope.spawn(|| store.seal().unwrap());
        hold_up.roll.wait_for_one();
        let first = scope.spawn(|| store.commit(first).map(drop));
        wait_for_queued(store, 1);
        let second = scope.spawn(|| store.commit(second).map(drop));
        wait_for_queued(store, 2);
        hold_up.roll.open();
        let answers = [first.join().unwrap(), second.join().unwrap()];
        hold_up.seal.open();
        holder.join().unwrap();
        answers
    });
    (answers, adopted(store) - before)
}

/// A disk that is held up.
fn held_up(sim: &Arc<SimEnv>, hold_up: &Arc<HoldUp>) -> Arc<Hooked> {
    let (hold_up, made, writes) = (hold_up.clone(), Mutex::new(String::new()), AtomicU64::new(0));
    Hooked::new(sim, move |op, name| {
        if op == Disk::Create && name.starts_with("log-") {
            *made.lock().unwrap() = name.into();
            writes.store(0, Ordering::SeqCst);
            hold_up.roll.pass();
        }
        if op == Disk::Create && name.starts_with("run-") {
            hold_up.seal.pass();
        }
        let ours = op == Disk::Write && *made.lock().unwrap() == name && hold_up.full.load(Ordering::SeqCst);
        if ours && writes.fetch_add(1, Ordering::SeqCst) == 1 {
            hold_up.full.store(false, Ordering::SeqCst);
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    })
}

#[test]
fn of_a_group_the_first_is_adopted_and_the_others_run_on_top_of_it() {
    let (sim, hold_up) = (SimEnv::new(1), Arc::new(HoldUp::default()));
    let store = with_bob(held_up(&sim, &hold_up));
    // Who leaves first can't mark as read: the second was prepared when that was still right.
    let (answers, adopted) =
        together(&store, &hold_up, Batch::new().leave("c", "bob"), Batch::new().read("c", "bob", u64::MAX));
    assert!(matches!(answers, [Ok(()), Err(Error::NotMember { .. })]), "{answers:?}");
    assert_eq!(adopted, 1);
    // Both make the same names, and each appends.
    let (answers, adopted) = together(&store, &hold_up, &busy(1), &busy(1));
    assert!(matches!(answers, [Err(Error::NotMember { .. }), Err(Error::NotMember { .. })]), "{answers:?}");
    assert_eq!(adopted, 0, "what was refused is not adopted");
    store.commit(Batch::new().join("c", "bob")).unwrap();
    let (answers, adopted) = together(&store, &hold_up, &busy(1), &busy(1));
    assert!(matches!(answers, [Ok(()), Ok(())]), "{answers:?}");
    assert_eq!((adopted, store.head("c").unwrap().last.seq), (1, 7));
    let before = seen(&store, 2);
    kill(&sim, store);
    assert_eq!(states(&seen(&options(sim).open(DIR).unwrap(), 2)), states(&before), "replay gives the same");
}

#[test]
fn what_is_adopted_and_not_written_leaves_no_trace() {
    let (sim, hold_up) = (SimEnv::new(1), Arc::new(HoldUp::default()));
    let store = with_bob(held_up(&sim, &hold_up));
    let before = seen(&store, 2);
    hold_up.full.store(true, Ordering::SeqCst);
    let (answers, adopted) = together(&store, &hold_up, &busy(1), Batch::new().join("c", "eve"));
    assert!(answers.iter().all(|answer| matches!(answer, Err(Error::OutOfSpace { .. }))), "{answers:?}");
    assert!(!hold_up.full.load(Ordering::SeqCst) && adopted == 1);
    assert_eq!(states(&seen(&store, 2)), states(&before));
    // Its versions, names and seqs are given anew.
    let version = store.stat().unwrap().version;
    store.commit(Batch::new().join("c", "eve")).unwrap();
    assert_eq!(store.membership("c", "eve").unwrap().unwrap().version, version + 1);
    store.commit(&busy(1)).unwrap();
    assert_eq!(store.head("c").unwrap().last.seq, 4);
    let before = seen(&store, 2);
    kill(&sim, store);
    assert_eq!(states(&seen(&options(sim).open(DIR).unwrap(), 2)), states(&before), "replay gives the same");
}
