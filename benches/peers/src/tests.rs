//! All stores, with very little to do: they answer alike, and one that doesn't is named.

use std::collections::BTreeMap;

use crate::digest::{Digest, Shown};
use crate::engines::Kind;
use crate::groups::{self, Task};
use crate::run::{Plan, Results, does};
use crate::works::{Group, Measure, WORKS};
use crate::world::Scale;

fn tiny() -> Scale {
    Scale {
        messages: 3000,
        reads: 400,
        users: [2, 2, 1],
        joins: 1000,
        durable: [8, 16, 64, 1000],
        killed: 500,
        segments: 4,
        quiet: 0,
        large: 500,
        mixed: 2000,
        ..Scale::named("small").unwrap()
    }
}

/// What a store answers to each work.
fn sums(kind: Kind, groups: &[Group]) -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let does = groups.iter().filter(|group| does(kind, **group));
    let task = |group| Task { kind, group, fill: false, dir: dir.path().into(), scale: tiny(), seed: 3 };
    let measures = does.flat_map(|group| groups::run(task(*group)).unwrap());
    let known = measures.inspect(|measure| assert!(WORKS.iter().any(|work| work.id == measure.work)));
    known.filter_map(|measure| Some((measure.work, measure.sum?))).collect()
}

#[test]
fn all_stores_answer_alike() {
    let groups =
        [Group::Build, Group::Read, Group::List, Group::Write, Group::Durable, Group::Spread, Group::Mixed];
    let expected = sums(Kind::Chanlog, &groups);
    assert!(expected.len() > 20, "{expected:?}");
    for kind in Kind::all() {
        for (work, sum) in sums(kind, &groups) {
            assert_eq!(sum, expected[&work], "{}, {work}", kind.name());
        }
    }
}

#[test]
fn a_digest_sees_each_byte_and_the_order() {
    let message = |seq, payload| Shown { seq, id: 7, sender: 8, at: 9, payload };
    let sum = |messages: &[Shown<'_>]| {
        let mut digest = Digest::checking();
        messages.iter().for_each(|message| digest.message(1, *message));
        digest.sum()
    };
    let both = sum(&[message(1, b"one"), message(2, b"two")]);
    assert_eq!(both, sum(&[message(1, b"one"), message(2, b"two")]));
    for other in [
        sum(&[message(2, b"two"), message(1, b"one")]),
        sum(&[message(1, b"one")]),
        sum(&[message(1, b"one"), message(2, b"twp")]),
    ] {
        assert_ne!(both, other);
    }
}

#[test]
fn a_store_that_answers_otherwise_is_named() {
    let (mut results, mut answers) = (Results::default(), Default::default());
    let measure = |sum: &str| vec![Measure { work: "middle".into(), value: 1.0, sum: Some(sum.into()) }];
    results.add(0, Kind::Chanlog, measure("1:a"), &mut answers);
    results.add(0, Kind::Lmdb, measure("1:a"), &mut answers);
    assert!(results.failures.is_empty());
    results.add(1, Kind::Redb, measure("1:b"), &mut answers);
    let [failure] = &results.failures[..] else { panic!("{:?}", results.failures) };
    assert!(failure.contains("redb") && failure.contains("middle") && failure.contains("1:b"), "{failure}");
}

#[test]
fn the_world_follows_from_the_seed() {
    let world = |seed| crate::world::World::new(tiny(), seed);
    let drafts = |seed| (0..50).map(|n| world(seed).draft(n).payload).collect::<Vec<_>>();
    assert_eq!(drafts(1), drafts(1));
    assert_ne!(drafts(1), drafts(2));
    let mean = (0..5000).map(|n| world(1).draft(n).payload.len()).sum::<usize>() / 5000;
    assert!((200..240).contains(&mean), "a mean of {mean} bytes");
    let members: Vec<_> = world(1).members().map(|member| (member.user, member.channel)).collect();
    assert_eq!(members.len(), members.iter().collect::<std::collections::HashSet<_>>().len());
}

#[test]
fn groups_that_need_a_filled_store_fill_one() {
    let plan = Plan {
        scale: tiny(),
        rounds: 1,
        seed: 1,
        kinds: vec![Kind::Lmdb],
        groups: vec![Group::Read],
        dir: "none".into(),
    };
    assert_eq!(plan.groups_of(Kind::Lmdb), [Group::Build, Group::Read]);
}
