//! The numbers that a store tells of itself: counts, queues, the cache, and how long things took.

#![cfg(feature = "sim")]

mod hooks;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use chanlog::env::{Op as Disk, SimEnv};
use chanlog::{Batch, Draft, Durability, Stat, Store};
use hooks::{DIR, Gate, Hooked, append, gated, long, options, wait_until};

fn send(store: &Store, durability: Durability) -> chanlog::Commit {
    store.submit(Batch::new().append("c", Draft::new("u", 0, "x")).durability(durability)).unwrap()
}

/// How many of each were counted.
fn counts(stat: &Stat) -> Vec<(&str, u64)> {
    stat.latencies.each().iter().map(|(name, histogram)| (*name, histogram.count)).collect()
}

#[test]
fn all_that_took_time_is_counted_once() {
    let store = options(SimEnv::new(1)).open(DIR).unwrap();
    let commits = 8;
    for n in 0..commits {
        append(&store, "c", &format!("{n}"), Durability::Sync).unwrap();
        store.seal().unwrap();
    }
    // These change nothing, or are refused.
    store.commit(Batch::new().leave("c", "nobody")).unwrap();
    store.commit(Batch::new().append("c", Draft::new("", 0, "x"))).unwrap_err();
    let (mut merges, before) = (0, store.stat().unwrap());
    while store.maintain().unwrap() {
        merges += 1;
    }
    let list = store.conversations("u").list().unwrap();
    store.conversations("u").since(&list.as_of).unwrap();
    store.view().unwrap().conversations("u").since(&list.as_of).unwrap();
    store.history("c").list().unwrap();
    store.history("c").last(2).unwrap();
    store.history("unheard of").list().unwrap();
    let stat = store.stat().unwrap();
    assert!(merges > 0);
    let wanted = [
        ("commit", commits),
        ("sync", stat.syncs),
        ("seal", commits),
        ("merge", merges),
        ("list", 1),
        ("since", 2),
        ("history", 3),
    ];
    assert_eq!(counts(&stat), wanted);
    assert_eq!(counts(&before)[3], ("merge", 0), "what was told before stays");
    store.close().unwrap();
    let again = options(SimEnv::new(1)).open(DIR).unwrap();
    assert!(counts(&again.stat().unwrap()).iter().all(|(_, count)| *count == 0), "since the opening");
}

#[test]
fn times_are_those_of_the_clock() {
    let sim = SimEnv::new(1);
    let slow = sim.clone();
    let env = Hooked::new(&sim, move |op, name| {
        if op == Disk::Sync && name.starts_with("log-") {
            slow.advance(Duration::from_millis(20));
        }
        Ok(())
    });
    let store = options(env).log_segment(1 << 20).durability(Durability::Buffered).open(DIR).unwrap();
    // The first one begins a segment and makes a channel.
    send(&store, Durability::Sync).wait().unwrap();
    let before = store.stat().unwrap().latencies;
    (0..98).for_each(|_| _ = send(&store, Durability::Buffered).wait().unwrap());
    send(&store, Durability::Sync).wait().unwrap();
    let after = store.stat().unwrap().latencies;
    assert_eq!(after.commit.count - before.commit.count, 99);
    assert_eq!(after.sync.count - before.sync.count, 1);
    assert_eq!(after.commit.percentile(50.0), Duration::from_nanos(256), "it took no time");
    assert_eq!(after.commit.percentile(100.0), after.commit.max());
    assert!(after.commit.max() >= Duration::from_millis(20));
    assert_eq!(after.sync.percentile(1.0), Duration::from_millis(20));
    assert_eq!(after.sync.mean(), Duration::from_millis(20));
}

#[test]
fn queues_tell_who_waits_and_what_is_held() {
    let (sim, gate) = (SimEnv::new(1), Arc::new(Gate::default()));
    let store = options(gated(&sim, &gate, "log-")).log_segment(1 << 20).open(DIR).unwrap();
    send(&store, Durability::Sync).wait().unwrap();
    assert_eq!(store.stat().unwrap().queues, Default::default());
    gate.shut();
    let commits = [send(&store, Durability::Sync), send(&store, Durability::Sync)];
    assert_eq!(store.stat().unwrap().queues.unacknowledged, 2);
    thread::scope(|scope| {
        commits.into_iter().for_each(|commit| drop(scope.spawn(move || commit.wait().unwrap())));
        gate.wait_for_one();
        // One leads the sync, and the other one waits for it.
        wait_until(|| store.stat().unwrap().queues.waiters == 1);
        gate.open();
    });
    let queues = store.stat().unwrap().queues;
    assert_eq!((queues.unacknowledged, queues.waiters), (0, 0));

    let view = store.view().unwrap();
    send(&store, Durability::Sync).wait().unwrap();
    let queues = store.stat().unwrap().queues;
    assert_eq!(queues.views, 1);
    assert!(queues.view_memory > 0, "{queues:?}");
    drop(view);
    send(&store, Durability::Sync).wait().unwrap();
    let queues = store.stat().unwrap().queues;
    assert_eq!((queues.views, queues.view_memory), (0, 0));
}

#[test]
fn segments_that_await_sealing_and_their_memory_are_told() {
    let store = options(SimEnv::new(1)).open(DIR).unwrap();
    (0..4).for_each(|_| _ = append(&store, "c", &long(), Durability::Sync).unwrap());
    let stat = store.stat().unwrap();
    assert_eq!(stat.queues.unsealed, stat.logs.count - 1);
    assert!(stat.queues.unsealed > 0 && stat.layers > 0, "{stat:?}");
    while store.maintain().unwrap() {}
    let sealed = store.stat().unwrap();
    assert_eq!(sealed.queues.unsealed, 0);
    assert!(sealed.layers < stat.layers);
}

#[test]
fn a_wait_that_ended_leaves_nobody_waiting() {
    let (sim, gate) = (SimEnv::new(1), Arc::new(Gate::default()));
    let store = options(gated(&sim, &gate, "log-")).background(true).open(DIR).unwrap();
    send(&store, Durability::Sync).wait().unwrap();
    gate.shut();
    let mut commit = send(&store, Durability::Sync);
    for _ in 0..20 {
        commit = commit.wait_timeout(Duration::from_millis(1)).unwrap().unwrap_err();
    }
    assert_eq!(store.stat().unwrap().queues.waiters, 0);
    gate.open();
    commit.wait().unwrap();
}

#[test]
fn the_cache_tells_how_it_is_used() {
    let store = options(SimEnv::new(1)).block_cache(1 << 20).open(DIR).unwrap();
    for _ in 0..40 {
        append(&store, "c", &"words ".repeat(200), Durability::Sync).unwrap();
    }
    store.compact().unwrap();
    let read = || assert_eq!(store.history("c").list().unwrap().len(), 40);
    let uses = || store.stat().unwrap().cache;
    let empty = uses();
    read();
    let first = uses();
    read();
    let second = uses();
    assert_eq!(first.capacity, 1 << 20);
    assert!(first.misses > empty.misses && first.bytes > empty.bytes, "{empty:?} {first:?}");
    assert_eq!((second.misses, second.bytes), (first.misses, first.bytes));
    assert!(second.hits >= first.hits + (first.misses - empty.misses), "{first:?} {second:?}");
}

#[cfg(feature = "serde")]
#[test]
fn numbers_are_serialized_whole() {
    let store = options(SimEnv::new(1)).open(DIR).unwrap();
    append(&store, "c", "x", Durability::Sync).unwrap();
    let stat = store.stat().unwrap();
    let json = serde_json::to_string(&stat).unwrap();
    assert_eq!(serde_json::from_str::<Stat>(&json).unwrap(), stat);
}

#[test]
fn one_budget_is_shared_by_filters_blocks_views_and_feeds() {
    let store = options(SimEnv::new(1)).memory(256 << 10).open(DIR).unwrap();
    let stat = store.stat().unwrap();
    assert_eq!((stat.budget, stat.cache.capacity, stat.filters), (256 << 10, 192 << 10, 0));
    assert_eq!((stat.queues.feeds, stat.queues.feed_memory), (0, 0));
    let heads = stat.heads;
    let mut unique = 0..;
    let mut fill = |channels: u32, messages: u32| {
        let mut batch = Batch::new();
        for channel in 0..channels {
            for id in unique.by_ref().take(messages as usize) {
                let draft = Draft::new("u", 0, "x").unique_id(u64::to_be_bytes(id));
                batch.append(channel.to_string(), draft);
            }
        }
        store.commit(&batch).unwrap();
        store.seal().unwrap();
    };
    fill(1000, 5);
    let some = store.stat().unwrap();
    assert!(some.heads > heads + 1000 * 40, "{some:?}");
    assert!(some.filters > 10_000 && some.cache.capacity < stat.cache.capacity, "{some:?}");
    let rest = (192 << 10) - some.filters;
    assert!(some.cache.capacity.abs_diff(rest) <= rest / 16, "{some:?}");
    // More than a quarter stays in the files.
    for _ in 0..4 {
        fill(100, 80);
    }
    store.compact().unwrap();
    let full = store.stat().unwrap();
    assert!(full.filters <= 64 << 10, "{full:?}");
    assert!(full.cache.capacity >= 120 << 10, "{full:?}");
    let found = store.message_by_id(u64::to_be_bytes(36_999)).unwrap().unwrap();
    assert_eq!((&found.channel[..], &found.message.payload[..]), (&b"99"[..], &b"x"[..]));
    assert!(store.message_by_id(u64::to_be_bytes(37_000)).unwrap().is_none());
    // A feed counts while it has noted what it will tell.
    let mut feed = store.feed();
    assert_eq!(store.stat().unwrap().queues.feed_memory, 0);
    feed.next().unwrap().unwrap();
    let queues = store.stat().unwrap().queues;
    assert!(queues.feeds == 1 && queues.feed_memory >= 1000 * 40, "{queues:?}");
    assert!(feed.by_ref().all(|event| event.is_ok()));
    assert_eq!(store.stat().unwrap().queues.feed_memory, 0);
    drop(feed);
    assert_eq!(store.stat().unwrap().queues.feeds, 0);
}
