//! Applying a replicated log: each entry takes effect once, wherever the store was killed and however much is applied again.

#![cfg(feature = "sim")]

mod hooks;

use std::sync::Arc;

use chanlog::env::SimEnv;
use chanlog::{Applied, Batch, Draft, Durability, Error, Options, Store};
use hooks::{DIR, kill, options, texts};

/// The entry of an index: every fifth is refused by a rule, and every seventh changes nothing.
fn entry(index: u64) -> Batch {
    let mut batch = Batch::new();
    match index {
        _ if index.is_multiple_of(5) => {
            batch.append("c", Draft::new("eve", 0, "never")).read("c", "nobody", 1)
        }
        _ if index.is_multiple_of(7) => batch.leave("c", "nobody"),
        _ => batch.append("c", Draft::new("alice", 0, format!("{index}"))).join("d", format!("user {index}")),
    };
    batch
}

const ENTRIES: u64 = 24;

/// Applies all entries from one on, up to the first failure.
fn apply(store: &Store, from: u64, durability: Durability) -> chanlog::Result<()> {
    for index in from..=ENTRIES {
        let applied =
            store.apply(0, index, format!("term {}", index / 10), entry(index).durability(durability))?;
        match applied {
            Applied::Refused(error) => {
                assert!(
                    index % 5 == 0 && matches!(error, Error::NotMember { op: 1, .. }),
                    "{index}: {error}"
                );
            }
            Applied::Now(receipt) => assert_eq!(receipt.outcomes().len(), entry(index).len(), "{index}"),
            Applied::Before => {}
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

/// What any store has that applied all of them.
fn check(store: &Store) {
    let at = store.position(0).unwrap().unwrap();
    assert_eq!((at.index, &at.tag[..]), (ENTRIES, &b"term 2"[..]));
    let expected: Vec<String> =
        (1..=ENTRIES).filter(|i| i % 5 > 0 && i % 7 > 0).map(|index| index.to_string()).collect();
    assert_eq!(texts(store, "c").into_values().collect::<Vec<_>>(), expected);
    assert_eq!(store.head("d").unwrap().members as usize, expected.len());
}

#[test]
fn what_was_applied_is_not_applied_again() {
    let sim = SimEnv::new(1);
    let mut store = options(sim.clone()).open(DIR).unwrap();
    assert_eq!(store.position(0).unwrap(), None);
    for round in 0..4 {
        apply(&store, 1, Durability::Sync).unwrap();
        check(&store);
        let version = store.version().unwrap();
        apply(&store, 1, Durability::Sync).unwrap();
        assert_eq!(store.version().unwrap(), version, "nothing was written");
        match round {
            0 => store.seal().unwrap(),
            1 => store.compact().unwrap(),
            _ => {
                kill(&sim, store);
                store = options(sim.clone()).open(DIR).unwrap();
            }
        }
    }
    let missing = store.apply(0, ENTRIES + 2, "", &entry(1)).unwrap_err();
    assert!(
        matches!(missing, Error::OutOfOrder { index, applied: ENTRIES, diverged: false, .. } if index == ENTRIES + 2),
        "{missing}"
    );
    let other = store.apply(0, ENTRIES, "term 3", &entry(1)).unwrap_err();
    assert!(matches!(other, Error::OutOfOrder { diverged: true, .. }), "{other}");
    assert!(other.to_string().contains("another"), "{other}");
    check(&store);
}

#[test]
fn logs_have_positions_of_their_own_and_may_begin_anywhere() {
    let store = options(SimEnv::new(2)).open(DIR).unwrap();
    let view = store.view().unwrap();
    assert!(matches!(store.apply(7, 1000, "a", &entry(1)).unwrap(), Applied::Now(_)));
    assert!(matches!(store.apply(u32::MAX, 1, "b", &entry(2)).unwrap(), Applied::Now(_)));
    assert_eq!(store.position(7).unwrap().unwrap().index, 1000);
    assert_eq!(store.position(u32::MAX).unwrap().unwrap().index, 1);
    assert_eq!((store.position(0).unwrap(), view.position(7).unwrap()), (None, None));
    let long = store.commit(Batch::new().position(1, 1, [0; 65])).unwrap_err();
    assert!(matches!(long, Error::TooLarge { .. }), "{long}");
    let last =
        store.commit(Batch::new().position(2, u64::MAX, "x")).and_then(|_| store.apply(2, 0, "", &entry(1)));
    assert!(matches!(last, Ok(Applied::Before)), "{last:?}");
    assert!(matches!(store.apply(2, u64::MAX, "y", &entry(1)), Err(Error::OutOfOrder { .. })));
}

#[test]
fn a_loss_of_power_takes_back_nothing_before_the_durable_position() {
    let options = |sim: &Arc<SimEnv>| options(sim.clone()).durability(Durability::Buffered);
    let index = |at: Option<chanlog::Position>| at.map_or(0, |at| at.index);
    for at in 0..40 {
        let sim = SimEnv::new(at);
        let store = options(&sim).open(DIR).unwrap();
        let mut known = 0;
        for index_of in 1..=ENTRIES {
            let durability = if index_of % 9 == at % 9 { Durability::Sync } else { Durability::Buffered };
            let _ = store.apply(0, index_of, "", entry(index_of).durability(durability)).unwrap();
            let _ = store.apply(1, 100 + index_of, "", entry(7).durability(durability)).unwrap();
            match index_of % 13 {
                5 => store.sync().unwrap(),
                9 => store.seal().unwrap(),
                _ => {}
            }
            let durable = index(store.durable_position(0).unwrap());
            assert!(known <= durable && durable <= index_of, "{known}, {durable}, {index_of}");
            known = durable;
            if index_of == ENTRIES - at % 7 {
                break;
            }
        }
        let other = index(store.durable_position(1).unwrap());
        sim.crash_after(0);
        drop(store);
        sim.power_loss();
        let store = options(&sim).open(DIR).unwrap();
        assert!(index(store.position(0).unwrap()) >= known, "{at}");
        assert!(index(store.position(1).unwrap()) >= other, "{at}");
        assert_eq!(store.durable_position(0).unwrap(), store.position(0).unwrap());
        let reader = options(&sim).read_only(true).open(DIR).unwrap();
        assert!(matches!(reader.durable_position(0), Err(Error::ReadOnly)));
    }
}

/// The server applies again from the store's position, after any crash, and from the beginning too.
fn crash_everywhere(durability: Durability, recover: fn(&SimEnv), again: fn(&Store) -> u64) {
    let options = |sim: &Arc<SimEnv>| -> Options { options(sim.clone()).durability(durability) };
    let mut crashes = 0;
    for at in 0.. {
        let sim = SimEnv::new(at);
        let store = options(&sim).open(DIR).unwrap();
        sim.crash_after(at);
        let done = apply(&store, 1, durability).is_ok();
        sim.crash_after(0);
        drop(store);
        recover(&sim);
        let store = options(&sim).open(DIR).unwrap();
        apply(&store, again(&store), durability).unwrap();
        check(&store);
        if done {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 20, "{crashes}");
}

#[test]
fn each_entry_takes_effect_once_whatever_a_crash_takes() {
    let from_position = |store: &Store| store.position(0).unwrap().map_or(1, |at| at.index);
    crash_everywhere(Durability::Sync, SimEnv::power_loss, from_position);
    crash_everywhere(Durability::Buffered, SimEnv::power_loss, from_position);
    crash_everywhere(Durability::Buffered, SimEnv::crash, |_| 1);
}
