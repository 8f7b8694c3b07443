//! No append writes anything per member: its bytes and its syncs are those of the message.

#![cfg(feature = "sim")]

use std::sync::Arc;

use chanlog::env::{Op, SimEnv};
use chanlog::{Batch, Draft, Durability, Options, Store};

const LARGE: u32 = 1_000_000;
const BATCH: u32 = 10_000;

/// What one append costs on the disk: bytes written, writes, and syncs.
type Cost = (u64, u64, u64);

fn append(sim: &SimEnv, store: &Store, channel: &str) -> Cost {
    let before = sim.stats();
    store.commit(Batch::new().append(channel, Draft::new("user 0", 1, "Same words to all of you"))).unwrap();
    let after = sim.stats();
    let count = |op| after.count(op) - before.count(op);
    (after.bytes_written - before.bytes_written, count(Op::Write), count(Op::Sync))
}

fn fill(store: &Store) {
    store.commit(Batch::new().join("small", "user 0").join("small", "user 1")).unwrap();
    for first in (0..LARGE).step_by(BATCH as usize) {
        let mut batch = Batch::new();
        batch.durability(Durability::Buffered);
        for user in first..first + BATCH {
            batch.join("large", format!("user {user}"));
        }
        store.commit(&batch).unwrap();
    }
    assert_eq!(store.head("small").unwrap().members, 2);
    assert_eq!(store.head("large").unwrap().members, LARGE);
}

fn costs(sim: &SimEnv, store: &Store) -> [Cost; 2] {
    // A segment's first commit also says who writes it.
    append(sim, store, "another");
    [append(sim, store, "small"), append(sim, store, "large")]
}

#[test]
fn an_append_writes_the_same_into_a_group_of_two_and_of_a_million() {
    let sim: Arc<SimEnv> = SimEnv::new(0);
    let options = Options::new().env(sim.clone()).memtable(4 << 30).background(false);
    let store = options.open("/store").unwrap();
    fill(&store);
    let [small, large] = costs(&sim, &store);
    assert_eq!(small, large, "while the rows are in memory");
    store.seal().unwrap();
    let [small, large] = costs(&sim, &store);
    assert_eq!(small, large, "after they were sealed");
    // A frame, its change's tag, its record, and at most seven bytes of padding, in one write and one sync.
    let message = 40 + 1 + 15 + 24;
    assert!((message..message + 8).contains(&small.0), "{small:?}");
    assert_eq!((small.1, small.2), (1, 1));
    store.close().unwrap();
}
