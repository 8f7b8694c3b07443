//! What a merge leaves of rows and members, compared with a map that is trimmed by brute force.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::env::{Dir, Env, OsEnv};
use crate::error::Result;
use crate::files::table::{HashKey, Run, RunBuilder, merge};
use crate::model::key::Key;

const STORE: [u8; 16] = [3; 16];
const KEY: HashKey = [9; 16];
const SENDS: SendsOver = SendsOver { window: SendWindow { versions: 0, ms: 0 }, last: 0, now: 0 };

/// What a run holds of rows and members, as maps.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    versions: (u64, u64),
    rows: BTreeMap<(u32, u32), Membership>,
    members: BTreeMap<(u32, u32), Member>,
}

impl Model {
    fn run(&self, dir: &Path, id: u64) -> Result<Arc<Run>> {
        let mut builder = RunBuilder::create(&*open_dir(dir), STORE, id, KEY, |_| Ok(()))?;
        builder.section(Membership::TABLE, false)?;
        for ((user, channel), row) in &self.rows {
            put(&mut builder, (*user, *channel), row)?;
        }
        builder.section(Member::TABLE, false)?;
        for ((channel, user), member) in &self.members {
            put(&mut builder, (*channel, *user), member)?;
        }
        let len = builder.finish(self.versions)?;
        Ok(Arc::new(Run::open(&*open_dir(dir), STORE, id, len, KEY, u64::MAX)?))
    }

    /// Reads a run back.
    fn of(run: &Run) -> Result<Model> {
        let mut model = Model { versions: run.versions(), ..Model::default() };
        let mut rows = run.section(Membership::TABLE).all();
        while let Some(entry) = rows.next()? {
            let row = Membership::decode(entry.version, entry.image).unwrap();
            model.rows.insert((entry.key.a, entry.key.b as u32), row);
        }
        let mut members = run.section(Member::TABLE).all();
        while let Some(entry) = members.next()? {
            let member = Member::decode(entry.version, entry.image).unwrap();
            model.members.insert((entry.key.a, entry.key.b as u32), member);
        }
        Ok(model)
    }
}

fn open_dir(path: &Path) -> Arc<dyn Dir> {
    OsEnv::new().open_dir(path, false).unwrap()
}

fn put(builder: &mut RunBuilder<'_>, (a, b): (u32, u32), row: &impl Image) -> Result<()> {
    let mut image = Vec::new();
    row.encode(&mut image);
    builder.put(RunEntry {
        key: Key { a, b: b.into(), c: 0 },
        tag: row.tag(),
        version: row.version(),
        image: &image,
    })
}

/// The model of a merge.
fn merged(inputs: &[Model], limits: Option<Keep>) -> Model {
    let mut sum = Model { versions: (inputs[0].versions.0, 0), ..Model::default() };
    for input in inputs.iter().cloned() {
        sum.versions.1 = input.versions.1;
        sum.rows.extend(input.rows);
        sum.members.extend(input.members);
    }
    if let Some(limits) = limits {
        let old = |member: &Member| member.left_at.is_none_or(|at| at <= limits.before_ms);
        sum.members.retain(|_, member| !member.left || !old(member));
        let users: Vec<u32> = sum.rows.keys().map(|(user, _)| *user).collect();
        for user in users {
            trim(&mut sum.rows, user, limits);
        }
    }
    sum
}

fn trim(rows: &mut BTreeMap<(u32, u32), Membership>, user: u32, limits: Keep) {
    let of_user = rows.range((user, 0)..(user, FLOOR.0));
    let mut gone: Vec<(u64, u32, i64)> =
        of_user.filter_map(|((_, channel), row)| Some((row.version, *channel, row.left_at?))).collect();
    gone.sort();
    let surplus = gone.len().saturating_sub(limits.count);
    let mut floor = rows.get(&(user, FLOOR.0)).map(|row| row.version);
    for (place, (version, channel, left_at)) in gone.into_iter().enumerate() {
        if place < surplus || left_at <= limits.before_ms {
            rows.remove(&(user, channel));
            floor = floor.max(Some(version));
        }
    }
    if let Some(version) = floor {
        rows.insert((user, FLOOR.0), Membership::tombstone(version, 0));
    }
}

fn run_merge(dir: &Path, id: u64, inputs: &[Arc<Run>], limits: Option<Keep>) -> Result<Arc<Run>> {
    let dead = Dead::default();
    let mut filters = |table| limits.and_then(|limits| filter(table, Some(limits), SENDS, &dead));
    let len = merge(&*open_dir(dir), (STORE, KEY), id, inputs, &mut filters, &|_, _| false, &mut |_| Ok(()))?;
    Ok(Arc::new(Run::open(&*open_dir(dir), STORE, id, len, KEY, u64::MAX)?))
}

fn row() -> impl Strategy<Value = Membership> {
    let left_at =
        prop_oneof![3 => Just(None), 1 => (0..100i64).prop_map(Some), 1 => any::<i64>().prop_map(Some)];
    (left_at, 0..3u64).prop_map(|(left_at, activated)| {
        let mut row = Membership::default();
        (row.left_at, row.activated) = (left_at, activated);
        row
    })
}

/// A member, or one who left, at a time that older releases did not tell.
fn member() -> impl Strategy<Value = Member> {
    let left_at = proptest::option::weighted(0.8, 0..120i64);
    (any::<bool>(), left_at).prop_map(|(left, left_at)| {
        let left_at = left_at.filter(|_| left);
        Member { left, left_at, ..Member::default() }
    })
}

/// Gives each row a version of its own, as in a store, so that "the newest few" is one answer only.
fn number_rows(model: &mut Model) {
    model.versions.1 = model.versions.0 + 999;
    for (version, row) in (0..).zip(model.rows.values_mut()) {
        // A permutation of 0..997, so that versions do not follow the keys.
        row.version = model.versions.0 + version * 367 % 997;
    }
}

fn neighbours() -> impl Strategy<Value = Vec<Model>> {
    // Few enough that keys repeat.
    let id = || prop_oneof![8 => 0..6u32, 2 => 0..300u32];
    let rows = btree_map((id(), id()), row(), 0..250);
    let members = btree_map((id(), id()), member(), 0..250);
    vec((rows, members), 1..5).prop_map(|tables| {
        let model = |(first, (rows, members))| {
            let mut model = Model { versions: (first, first), rows, members };
            number_rows(&mut model);
            model
        };
        (0..).map(|place| 1 + 1000 * place).zip(tables).map(model).collect()
    })
}

fn limits() -> impl Strategy<Value = Option<Keep>> {
    let keep = prop_oneof![0..5usize, Just(usize::MAX)];
    proptest::option::of((0..120i64, keep).prop_map(|(before_ms, count)| Keep { before_ms, count }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_merge_drops_what_the_limits_say(models in neighbours(), first in limits(), second in limits()) {
        let dir = tempfile::tempdir()?;
        let runs = (2..).zip(&models).map(|(id, model)| model.run(dir.path(), id)).collect::<Result<Vec<_>>>()?;
        let whole = run_merge(dir.path(), 20, &runs, first)?;
        prop_assert_eq!(Model::of(&whole)?, merged(&models, first));
        // In two steps, so that the floor of the first one lives on in the second.
        let half = models.len().div_ceil(2);
        let older = run_merge(dir.path(), 21, &runs[..half], first)?;
        let mut inputs = vec![older];
        inputs.extend_from_slice(&runs[half..]);
        let mut expected = vec![merged(&models[..half], first)];
        expected.extend_from_slice(&models[half..]);
        let whole = run_merge(dir.path(), 22, &inputs, second)?;
        prop_assert_eq!(Model::of(&whole)?, merged(&expected, second));
    }
}

#[test]
fn dropped_tombstones_leave_a_floor_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    let left = Membership::tombstone;
    let rows = [
        ((1, 1), left(5, 10)),
        ((1, 2), left(6, 90)),
        ((1, 3), Membership { version: 7, ..Membership::default() }),
    ];
    let first = Model { versions: (1, 9), rows: rows.into(), ..Model::default() };
    let second = Model { versions: (10, 19), rows: [((2, 1), left(12, 95))].into(), ..Model::default() };
    let runs = [first.run(dir.path(), 1).unwrap(), second.run(dir.path(), 2).unwrap()];
    let old = Some(Keep { before_ms: 50, count: 10 });
    let run = run_merge(dir.path(), 3, &runs, old).unwrap();
    let rows = Model::of(&run).unwrap().rows.into_iter().filter(|((user, _), _)| *user == 1);
    let floor = left(5, 0);
    let expected =
        [((1, 2), left(6, 90)), ((1, 3), first.rows[&(1, 3)].clone()), ((1, FLOOR.0), floor.clone())];
    assert_eq!(rows.collect::<Vec<_>>(), expected);
    // Nothing more to drop: the floor stays, with or without a limit.
    for (id, limits) in [(4, old), (5, None)] {
        let again = run_merge(dir.path(), id, std::slice::from_ref(&run), limits).unwrap();
        assert_eq!(Model::of(&again).unwrap().rows.get(&(1, FLOOR.0)), Some(&floor));
    }
    assert_eq!(Model::of(&run).unwrap().rows.get(&(2, FLOOR.0)), None);
}

/// Whether a merge with these limits keeps a row.
fn keeps<T: Image>(row: &T) -> bool {
    let (keep, dead) = (Keep { before_ms: 50, count: usize::MAX }, Dead::default());
    let mut filter = filter(T::TABLE, Some(keep), SENDS, &dead).unwrap();
    let mut image = Vec::new();
    row.encode(&mut image);
    let key = Key { a: 1, b: 2, c: 3 };
    filter.keep(&RunEntry { key, tag: row.tag(), version: row.version(), image: &image }).unwrap()
}

#[test]
fn rows_that_follow_from_others_go_at_the_same_age() {
    for (at, kept) in [(49, false), (50, false), (51, true)] {
        assert_eq!(keeps(&Member { left: true, left_at: Some(at), ..Member::default() }), kept, "{at}");
        assert_eq!(keeps(&SetMember { removed_at: Some(at), ..SetMember::default() }), kept, "{at}");
        assert_eq!(keeps(&InSet { removed_at: Some(at), ..InSet::default() }), kept, "{at}");
    }
    assert!(!keeps(&Member { left: true, ..Member::default() }), "of an older release");
}

#[test]
fn rows_of_messages_that_have_expired_go() {
    assert!(!keeps(&Expiry { done: true, ..Expiry::default() }));
    assert!(keeps(&Expiry::default()));
}
