//! Runs: built, read and merged like the plain maps they stand for; no damage goes unnoticed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::env::{Dir, Env, OsEnv};
use crate::error::{Error, Result};
use crate::files::sealed::{HEADER, Kind, Sealed, SealedWriter, StoreId, TRAILER};
use crate::model::image::TOMBSTONE;
use crate::model::key::Key;

/// The open directory at a path.
fn open_dir(path: &std::path::Path) -> std::sync::Arc<dyn Dir> {
    OsEnv::new().open_dir(path, false).unwrap()
}

const STORE: StoreId = [3; 16];
const KEY: HashKey = [9; 16];
/// So much memory filters may take; larger ones are read through the map.
const FILTERS: u64 = 200 << 10;

/// What stands for a key: tag, version and image.
type Value = (u8, u64, Vec<u8>);

/// What a section holds, as a map.
#[derive(Clone, Debug, Default, PartialEq)]
struct Table {
    wide: bool,
    entries: BTreeMap<Key, Value>,
}

/// What a run holds, as maps. The model of all tests here.
#[derive(Clone, Debug, Default)]
struct Model {
    versions: (u64, u64),
    tables: BTreeMap<u8, Table>,
    channels: (u32, Vec<Vec<u8>>),
    users: (u32, Vec<Vec<u8>>),
}

fn key(a: u32, b: u32, c: u64) -> Key {
    Key { a, b: b.into(), c }
}

/// The key of a wide section, where great second parts take more than 32 bits.
fn wide_key(a: u32, b: u32, c: u64) -> Key {
    Key { a, b: if b < 300 { b.into() } else { u64::from(b) << 8 }, c }
}

fn entry<'a>((key, (tag, version, image)): (&Key, &'a Value)) -> RunEntry<'a> {
    RunEntry { key: *key, tag: *tag, version: *version, image }
}

fn value(entry: RunEntry<'_>) -> (Key, Value) {
    (entry.key, (entry.tag, entry.version, entry.image.to_vec()))
}

fn build(dir: &Path, id: u64, model: &Model) -> Result<u64> {
    let mut builder = RunBuilder::create(&*open_dir(dir), STORE, id, KEY, |_| Ok(()))?;
    for (number, table) in &model.tables {
        builder.section(*number, table.wide)?;
        if table.wide {
            builder.filtered();
        }
        for put in &table.entries {
            builder.put(entry(put))?;
        }
    }
    builder.channels(model.channels.0, &model.channels.1)?;
    builder.users(model.users.0, &model.users.1)?;
    builder.finish(model.versions)
}

fn open(dir: &Path, id: u64, len: u64) -> Result<Run> {
    Run::open(&*open_dir(dir), STORE, id, len, KEY, FILTERS)
}

fn run_of(model: &Model) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let len = build(dir.path(), 1, model).unwrap();
    open(dir.path(), 1, len).unwrap()
}

/// What a cursor still gives.
fn rest(cursor: &mut Cursor<'_>) -> Result<Vec<(Key, Value)>> {
    all(|| Ok(cursor.next()?.map(value)))
}

/// Calls `next` until it answers `None`.
fn all<T>(mut next: impl FnMut() -> Result<Option<T>>) -> Result<Vec<T>> {
    std::iter::from_fn(|| next().transpose()).collect()
}

fn no_faults(run: &Run) {
    run.verify(&mut |fault| panic!("{fault}"));
}

fn faults(run: &Run) -> usize {
    let mut faults = 0;
    run.verify(&mut |_| faults += 1);
    faults
}

/// Few enough that keys repeat, with the borders.
fn id() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0..6u32, 2 => 0..300u32, 1 => any::<u32>(), 1 => Just(u32::MAX - 1)]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(b'a'..b'd', 1..8), 1 => vec(any::<u8>(), 1..20), 1 => vec(any::<u8>(), 255..=255)]
}

/// Names in the order of their ids, some of them more than once.
fn names(most: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let again = (btree_set(name(), 0..most - most / 4), vec(any::<Index>(), 0..most / 4));
    let names = again.prop_map(|(names, again)| {
        let names: Vec<_> = names.into_iter().collect();
        let more: Vec<_> =
            again.iter().filter(|_| !names.is_empty()).map(|at| at.get(&names).clone()).collect();
        [names, more].concat()
    });
    names.prop_shuffle()
}

/// A table. Some have images that are far longer than a block of others.
fn table(versions: (u64, u64), most: usize) -> impl Strategy<Value = Table> {
    let c = prop_oneof![4 => 0..4u64, 1 => any::<u64>()];
    let image =
        prop_oneof![20 => vec(any::<u8>(), 0..12), 2 => vec(any::<u8>(), 130), 1 => vec(any::<u8>(), 3000)];
    let value = (0..4u8, versions.0..=versions.1, image);
    (any::<bool>(), btree_map((id(), id(), c), value, 0..most)).prop_map(|(wide, entries)| {
        let key = |(a, b, c)| if wide { wide_key(a, b, c) } else { key(a, b, 0) };
        Table { wide, entries: entries.into_iter().map(|(of, value)| (key(of), value)).collect() }
    })
}

/// A model without names.
fn tables(versions: (u64, u64), most: usize) -> impl Strategy<Value = Model> {
    btree_map(prop_oneof![4 => 0..4u8, 1 => any::<u8>()], table(versions, most), 0..4)
        .prop_map(move |tables| Model { versions, tables, ..Model::default() })
}

fn model() -> impl Strategy<Value = Model> {
    (tables((100, 10_000), 500), names(150), names(20)).prop_map(|(model, channels, users)| Model {
        channels: (7, channels),
        users: (u32::MAX - 20, users),
        ..model
    })
}

fn check_names(names: &Names<'_>, first: u32, expected: &[Vec<u8>], from: &[u8]) -> Result<()> {
    assert_eq!((names.first(), names.count()), (first, expected.len() as u32));
    let by_id: Vec<(&[u8], u32)> = expected.iter().map(|name| &name[..]).zip(first..).collect();
    for (name, id) in &by_id {
        let newest = by_id.iter().filter(|(other, _)| other == name).map(|(_, id)| *id).max();
        assert_eq!(names.find(name, hash(&KEY, name))?, newest);
        assert_eq!(names.get(*id)?.as_deref(), Some(*name));
    }
    let outside = [first.wrapping_sub(1), first.wrapping_add(expected.len() as u32)];
    for id in outside {
        assert_eq!(names.get(id)?, None);
    }
    let mut sorted = by_id;
    sorted.sort();
    for bound in [Bound::Unbounded, Bound::Included(from), Bound::Excluded(from)] {
        let mut cursor = names.iter(bound)?;
        let got = all(|| cursor.next())?;
        let got: Vec<(&[u8], u32)> = got.iter().map(|(name, id)| (&name[..], *id)).collect();
        let behind = |name: &[u8]| match bound {
            Bound::Included(from) => name >= from,
            Bound::Excluded(from) => name > from,
            Bound::Unbounded => true,
        };
        assert_eq!(got, sorted.iter().copied().filter(|(name, _)| behind(name)).collect::<Vec<_>>());
    }
    Ok(())
}

/// Checks that the run holds exactly what the model holds.
fn check(run: &Run, model: &Model) -> Result<()> {
    no_faults(run);
    let filled = model.tables.iter().filter(|(_, table)| !table.entries.is_empty());
    assert_eq!(run.tables().collect::<Vec<_>>(), filled.map(|(number, _)| *number).collect::<Vec<_>>());
    for (number, table) in &model.tables {
        let section = run.section(*number);
        assert_eq!(rest(&mut section.all())?, table.entries.clone().into_iter().collect::<Vec<_>>());
        assert_eq!(section.entries(), table.entries.len() as u64);
        assert_eq!(section.newest(), table.entries.values().map(|value| value.1).max().unwrap_or(0));
    }
    check_names(&run.channel_names(), model.channels.0, &model.channels.1, b"b")?;
    check_names(&run.user_names(), model.users.0, &model.users.1, b"ca")?;
    assert_eq!(run.versions(), model.versions);
    Ok(())
}

/// Reads everything in every way, whatever the bytes are. Only order is promised.
fn exercise(run: &Run) {
    for table in run.tables() {
        let section = run.section(table);
        let mut entries = section.all();
        let mut last = None;
        while let Ok(Some(entry)) = entries.next() {
            assert!(last < Some(entry.key) && entry.version <= section.newest());
            assert!(section.newest() <= run.versions().1);
            last = Some(entry.key);
            let _ = section.get(entry.key);
            let mut group = section.range(Key { b: 0, c: 0, ..entry.key }, entry.key, entry.version / 2);
            let _ = group.next();
            let _ = group.seek(Key { b: entry.key.b, ..Key::default() });
            let _ = rest(&mut group);
        }
        // After an error there is nothing more.
        assert!(matches!(entries.next(), Ok(None)));
    }
    for names in [run.channel_names(), run.user_names()] {
        let _ = names.iter(Bound::Included(b"b")).and_then(|mut cursor| all(|| cursor.next()));
        let _ = names.iter(Bound::Unbounded).and_then(|mut cursor| all(|| cursor.next()));
        for place in 0..names.count().min(300) {
            if let Ok(Some(name)) = names.get(names.first() + place) {
                let _ = names.find(&name, hash(&KEY, &name));
            }
        }
    }
    run.verify(&mut |_| ());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_run_holds_what_was_fed(model in model()) {
        check(&run_of(&model), &model)?;
    }

    #[test]
    fn entries_are_found(
        table in table((0, 50), 500), keys in vec((id(), id(), 0..4u64), 20), seeks in vec((id(), id(), 0..4u64), 20),
        to in (id(), id(), any::<u64>()), newer_than in 0..60u64,
    ) {
        let run = run_of(&Model { versions: (1, 50), tables: [(9, table.clone())].into(), ..Model::default() });
        let (section, to) = (run.section(9), wide_key(to.0, to.1, to.2));
        for (seek, (a, b, c)) in seeks.into_iter().zip(keys) {
            let (from, seek) = (wide_key(a, b, c), wide_key(seek.0, seek.1, seek.2));
            let known = table.entries.get(&from).map(|value| (from, value.clone()));
            prop_assert_eq!(section.get(from)?.map(value), known);
            for to in [to, Key::MAX, Key { c: u64::MAX, ..from }].into_iter().filter(|to| *to >= from) {
                let wanted = |least: Key| table.entries.range(least..)
                    .filter(|(key, value)| **key <= to && (newer_than == 0 || value.1 > newer_than))
                    .map(|(key, value)| (*key, value.clone())).collect::<Vec<_>>();
                prop_assert_eq!(rest(&mut section.range(from, to, newer_than))?, wanted(from));
                // A seek back changes nothing, a seek forward drops what lies before.
                let mut cursor = section.range(from, to, newer_than);
                let first = cursor.next()?.map(value);
                prop_assert_eq!(first.clone(), wanted(from).into_iter().next());
                cursor.seek(seek)?;
                let mut left = wanted(from.max(seek));
                left.retain(|(key, _)| first.as_ref().is_some_and(|(first, _)| key > first));
                prop_assert_eq!(rest(&mut cursor)?, left);
            }
        }
        prop_assert_eq!(run.section(8).get(to)?, None);
    }

    #[test]
    fn a_cursor_leaps_from_seek_to_seek(table in table((1, 50), 900), seeks in btree_set((id(), id(), 0..4u64), 0..60)) {
        let run = run_of(&Model { versions: (1, 50), tables: [(0, table.clone())].into(), ..Model::default() });
        let mut cursor = run.section(0).all();
        let mut last = None;
        for (a, b, c) in seeks {
            cursor.seek(wide_key(a, b, c))?;
            let expected = table.entries.range(wide_key(a, b, c)..).find(|(key, _)| Some(**key) > last);
            let found = cursor.next()?;
            prop_assert_eq!(found, expected.map(entry));
            last = found.map_or(last, |entry| Some(entry.key));
        }
    }
}

// What a merge must give.

/// A filter of tombstones: of each group's only the newest `keep` stay, and a last one tells that some went.
#[derive(Clone, Copy, Debug)]
struct Newest {
    keep: usize,
    /// The least version that stays.
    bound: u64,
    /// The group, if some went.
    gone: Option<u32>,
    /// Whether the section is wide.
    wide: bool,
}

impl Newest {
    fn new(keep: usize, wide: bool) -> Self {
        Newest { keep, bound: u64::MAX, gone: None, wide }
    }

    /// The least version that stays.
    fn bound(self, versions: impl Iterator<Item = u64>) -> u64 {
        let mut versions: Vec<u64> = versions.collect();
        versions.sort_by_key(|version| std::cmp::Reverse(*version));
        self.keep.checked_sub(1).map_or(u64::MAX, |place| versions.get(place).copied().unwrap_or(0))
    }
}

/// The key of the entry that the filter appends. Nothing else has it.
fn end_of(a: u32, wide: bool) -> Key {
    Key { a, b: if wide { u64::MAX } else { u32::MAX.into() }, c: 0 }
}

impl Filter for Newest {
    fn group<'a>(&mut self, tombstones: &mut dyn Iterator<Item = RunEntry<'a>>) -> Option<()> {
        if self.keep > 0 {
            let tombstones: Vec<RunEntry<'a>> = tombstones.collect();
            assert!(tombstones.iter().all(|entry| entry.tag & TOMBSTONE != 0));
            let left = tombstones.iter().filter(|entry| entry.key != end_of(entry.key.a, self.wide));
            self.bound = self.bound(left.map(|entry| entry.version));
        }
        Some(())
    }

    fn keep(&mut self, tombstone: &RunEntry<'_>) -> Option<bool> {
        assert!(tombstone.tag & TOMBSTONE != 0);
        let a = tombstone.key.a;
        let stays = tombstone.version >= self.bound && tombstone.key != end_of(a, self.wide);
        self.gone = if stays { self.gone } else { Some(a) };
        Some(stays)
    }

    fn last(&mut self) -> Option<Last> {
        let key = end_of(self.gone.take()?, self.wide);
        Some(Last { key, tag: TOMBSTONE, version: 1, image: vec![7] })
    }
}

/// The model of a merge, by brute force. Even tables are filtered.
fn merged(inputs: &[Model], keep: Option<usize>) -> Model {
    let mut sum = Model { versions: (inputs[0].versions.0, 0), ..Model::default() };
    (sum.channels.0, sum.users.0) = (inputs[0].channels.0, inputs[0].users.0);
    for input in inputs.iter().cloned() {
        sum.versions.1 = input.versions.1;
        for (number, table) in input.tables.into_iter().filter(|(_, table)| !table.entries.is_empty()) {
            let into = sum.tables.entry(number).or_default();
            into.wide |= table.wide;
            into.entries.extend(table.entries);
        }
        sum.channels.1.extend(input.channels.1);
        sum.users.1.extend(input.users.1);
    }
    for (_, table) in sum.tables.iter_mut().filter(|(number, _)| *number % 2 == 0) {
        keep.into_iter().for_each(|keep| trim(&mut table.entries, Newest::new(keep, table.wide)));
    }
    sum
}

fn trim(entries: &mut BTreeMap<Key, Value>, filter: Newest) {
    let groups: BTreeSet<u32> = entries.keys().map(|key| key.a).collect();
    for a in groups {
        let tombstone = |key: &Key, value: &Value| key.a == a && value.0 & TOMBSTONE != 0;
        let had = entries.remove(&end_of(a, filter.wide)).is_some();
        let left = entries.iter().filter(|(key, value)| tombstone(key, value));
        let bound = filter.bound(left.map(|(_, value)| value.1));
        let before = entries.len();
        entries.retain(|key, value| !tombstone(key, value) || value.1 >= bound);
        if had || entries.len() < before {
            entries.insert(end_of(a, filter.wide), (TOMBSTONE, 1, vec![7]));
        }
    }
}

fn run_merge(dir: &Path, id: u64, inputs: &[Arc<Run>], keep: Option<usize>) -> Result<Arc<Run>> {
    let wide = |table| inputs.iter().any(|run| run.section(table).is_wide());
    let filter = |table: u8, keep| {
        table.is_multiple_of(2).then(|| Box::new(Newest::new(keep, wide(table))) as Box<dyn Filter>)
    };
    let mut filters = |table| keep.and_then(|keep| filter(table, keep));
    let len = merge(&*open_dir(dir), (STORE, KEY), id, inputs, &mut filters, &|_, _| false, &mut |_| Ok(()))?;
    Ok(Arc::new(open(dir, id, len)?))
}

fn neighbours() -> impl Strategy<Value = Vec<Model>> {
    let runs = vec(tables((1, 10), 250), 1..5);
    (runs, names(120), names(20), vec(any::<Index>(), 5)).prop_map(
        |(mut runs, mut channels, mut users, cuts)| {
            let (mut channel, mut user) = (3, 0);
            let last = runs.len() - 1;
            for (i, run) in runs.iter_mut().enumerate() {
                run.versions.0 = 1 + 1000 * i as u64;
                run.versions.1 = run.versions.0 + 999;
                let cut = |names: &Vec<Vec<u8>>| {
                    if i == last { names.len() } else { cuts[i].index(names.len() + 1) }
                };
                run.channels = (channel, channels.drain(..cut(&channels)).collect());
                run.users = (user, users.drain(..cut(&users)).collect());
                channel += run.channels.1.len() as u32;
                user += run.users.1.len() as u32;
            }
            runs
        },
    )
}

fn limits() -> impl Strategy<Value = Option<usize>> {
    proptest::option::of(prop_oneof![0..5usize, Just(usize::MAX)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_merge_is_the_sum(models in neighbours(), first in limits(), second in limits()) {
        let dir = tempfile::tempdir()?;
        let runs = (2..).zip(&models)
            .map(|(id, model)| Ok(Arc::new(open(dir.path(), id, build(dir.path(), id, model)?)?)))
            .collect::<Result<Vec<_>>>()?;
        let expected = merged(&models, first);
        check(&*run_merge(dir.path(), 20, &runs, first)?, &expected)?;
        // In two steps.
        let half = models.len().div_ceil(2);
        let older = run_merge(dir.path(), 21, &runs[..half], first)?;
        let mut inputs = vec![older];
        inputs.extend_from_slice(&runs[half..]);
        let mut expected = vec![merged(&models[..half], first)];
        expected.extend_from_slice(&models[half..]);
        check(&*run_merge(dir.path(), 22, &inputs, second)?, &merged(&expected, second))?;
    }
}

/// A filter that finds no image valid, either when it looks ahead or when it is asked.
struct Never {
    ahead: bool,
}

impl Filter for Never {
    fn group<'a>(&mut self, tombstones: &mut dyn Iterator<Item = RunEntry<'a>>) -> Option<()> {
        (!self.ahead || tombstones.count() == 0).then_some(())
    }

    fn keep(&mut self, _: &RunEntry<'_>) -> Option<bool> {
        None
    }
}

#[test]
fn a_merge_names_the_run_of_a_bad_image() {
    let dir = tempfile::tempdir().unwrap();
    let run_with = |id, tag| {
        let entries = [(key(1, id as u32, 0), (tag, 1, vec![])), (key(2, 0, 0), (1, 1, vec![]))].into();
        let tables = [(0, Table { wide: false, entries })].into();
        let model = Model { versions: (id * 10, id * 10 + 9), tables, ..Model::default() };
        Arc::new(open(dir.path(), id, build(dir.path(), id, &model).unwrap()).unwrap())
    };
    let inputs = [run_with(1, 1), run_with(2, TOMBSTONE)];
    for ahead in [true, false] {
        let mut filters = |_| Some(Box::new(Never { ahead }) as Box<dyn Filter>);
        let merged =
            merge(&*open_dir(dir.path()), (STORE, KEY), 9, &inputs, &mut filters, &|_, _| false, &mut |_| {
                Ok(())
            });
        assert!(matches!(merged, Err(Error::Corruption { file, .. }) if file == inputs[1].path()));
    }
}

#[test]
fn a_merge_refuses_what_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let model = |versions, first, names: &[&str]| Model {
        versions,
        channels: (first, names.iter().map(|name| name.as_bytes().to_vec()).collect()),
        ..Model::default()
    };
    let open_as =
        |id, model: Model| Arc::new(open(dir.path(), id, build(dir.path(), id, &model).unwrap()).unwrap());
    let a = open_as(1, model((1, 5), 0, &["x", "y"]));
    let gap = open_as(2, model((6, 9), 3, &["z"]));
    let twice = open_as(3, model((6, 9), 2, &["y"]));
    let before = open_as(4, model((5, 9), 2, &["z"]));
    let refused = run_merge(dir.path(), 9, &[a.clone(), gap], None);
    assert!(matches!(refused, Err(Error::Corruption { .. })), "{refused:?}");
    let again = run_merge(dir.path(), 10, &[a.clone(), twice], None).unwrap();
    assert_eq!(again.channel_names().find(b"y", hash(&KEY, b"y")).unwrap(), Some(2), "given again");
    assert!(matches!(run_merge(dir.path(), 9, &[a, before], None), Err(Error::InvalidArgument { .. })));
    assert!(matches!(run_merge(dir.path(), 9, &[], None), Err(Error::InvalidArgument { .. })));
}

#[test]
fn a_merge_stops_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let entries = (0..40_000).map(|i| (key(i / 7, i % 7, 0), (0, 1, vec![0]))).collect();
    let tables = [(1, Table { wide: false, entries })].into();
    let model = Model { versions: (1, 1), tables, ..Model::default() };
    let run = Arc::new(open(dir.path(), 1, build(dir.path(), 1, &model).unwrap()).unwrap());
    let mut left = 2;
    let stopped =
        merge(&*open_dir(dir.path()), (STORE, KEY), 2, &[run], &mut |_| None, &|_, _| false, &mut |bytes| {
            assert!(bytes > 0);
            left -= 1;
            if left == 0 { Err(Error::Closed) } else { Ok(()) }
        });
    assert!(matches!(stopped, Err(Error::Closed)));
}

#[test]
fn the_builder_refuses_what_is_out_of_order() {
    let dir = tempfile::tempdir().unwrap();
    let create = || RunBuilder::create(&*open_dir(dir.path()), STORE, 1, KEY, |_| Ok(())).unwrap();
    let at = |key, tag, version| RunEntry { key, tag, version, image: b"x" };
    let mut builder = create();
    assert!(builder.put(at(Key::default(), 0, 1)).is_err(), "there is no section");
    builder.section(3, false).unwrap();
    builder.put(at(key(4, 4, 0), 3, 1)).unwrap();
    for key in [key(4, 4, 0), key(4, 3, 0), key(3, 9, 0), key(5, 0, 1)] {
        assert!(builder.put(at(key, 0, 1)).is_err(), "{key:?}");
    }
    assert!(builder.put(at(key(5, 0, 0), 4, 1)).is_err());
    assert!(builder.section(3, false).is_err() && builder.section(2, true).is_err());
    builder.section(4, true).unwrap();
    builder.put(at(key(5, 0, 1), 0, 7)).unwrap();
    assert!(builder.put(at(key(5, 0, 1), 0, 7)).is_err());
    builder.users(0, ["a"]).unwrap();
    assert!(builder.users(1, ["b"]).is_err());
    assert!(builder.channels(0, ["b"]).is_err());
    assert!(builder.section(5, false).is_err());
    assert!(builder.finish((1, 6)).is_err(), "an entry is newer");
    // A name may come again, with a greater id.
    assert!(create().channels(0, ["a", "b", "a"]).is_ok());
    for names in [vec![String::new()], vec!["a".repeat(256)]] {
        assert!(create().channels(0, &names).is_err());
    }
    assert!(create().channels(u32::MAX, ["a"]).is_err());
    assert!(create().channels(u32::MAX, ["a", "b"]).is_err());
    assert!(create().channels(u32::MAX - 1, ["a"]).is_ok());
}

// Bytes that nobody wrote.

/// A run with a few blocks in every section.
fn sample() -> Model {
    let value = |i: u32| ((i % 4) as u8, u64::from(i) + 1, vec![i as u8; i as usize % 9]);
    let narrow = (0..300).map(|i| (key(i / 90, i % 90 * 5, 0), value(i))).collect();
    let wide = (0..300).map(|i| (key(i / 90, i % 90 / 5, u64::from(i) << (i % 30)), value(i))).collect();
    let few = (0..30).map(|i| (key(i * 2, 0, 0), value(i))).collect();
    let table = |wide, entries| Table { wide, entries };
    Model {
        versions: (1, 1000),
        tables: [(0, table(false, few)), (1, table(false, narrow)), (200, table(true, wide))].into(),
        channels: (5, (0..100).map(|i| format!("channel {}", i * 37 % 100).into_bytes()).collect()),
        users: (0, (0..40).map(|i| format!("{i}").into_bytes()).collect()),
    }
}

fn bytes_of(model: &Model) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path(), 1, model).unwrap();
    std::fs::read(dir.path().join(Kind::Run.name(1))).unwrap()
}

fn parse(bytes: Vec<u8>) -> Result<Run> {
    Run::parse(Sealed::parse("run".into(), Kind::Run, STORE, 1, Bytes::from(bytes))?, KEY, FILTERS)
}

/// The content and the footer of a run.
fn unseal(bytes: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let sealed = Sealed::parse("run".into(), Kind::Run, STORE, 1, Bytes::from(bytes)).unwrap();
    let content = sealed.bytes(HEADER as u64, sealed.content_end() as usize - HEADER).unwrap();
    (content.to_vec(), sealed.footer().to_vec())
}

/// Puts good checksums on any content and footer.
fn seal(content: &[u8], footer: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SealedWriter::create(&*open_dir(dir.path()), Kind::Run, STORE, 1).unwrap();
    writer.write(content).unwrap();
    writer.finish(footer).unwrap();
    std::fs::read(dir.path().join(Kind::Run.name(1))).unwrap()
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let good = bytes_of(&sample());
    for at in (0..good.len()).step_by(11).chain(good.len() - TRAILER - 200..good.len()) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        if let Ok(run) = parse(bad) {
            exercise(&run);
            assert!(faults(&run) > 0, "a flip at {at} went unseen");
        }
    }
}

#[test]
fn hostile_bytes_behind_good_checksums_do_no_harm() {
    let (content, footer) = unseal(bytes_of(&sample()));
    let good = seal(&content, &footer);
    check(&parse(good).unwrap(), &sample()).unwrap();
    let mut state = 1u64;
    for round in 0..400 {
        let (mut content, mut footer) = (content.clone(), footer.clone());
        for _ in 0..=round % 4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (at, value) =
                ((state >> 20) as usize, [0, 1, 0x7f, 0x80, 0xff, (state >> 56) as u8][round % 6]);
            let target = if round % 5 == 0 { &mut footer } else { &mut content };
            let len = target.len();
            target[at % len] = value;
        }
        if let Ok(run) = parse(seal(&content, &footer)) {
            exercise(&run);
            let dir = tempfile::tempdir().unwrap();
            let _ = run_merge(dir.path(), 2, &[Arc::new(run)], Some(1));
        }
    }
}

proptest! {
    #[test]
    fn any_footer_and_content_do_no_harm(content: Vec<u8>, cut: Index, tail: Vec<u8>) {
        let (_, mut footer) = unseal(bytes_of(&Model::default()));
        footer.truncate(cut.index(footer.len() + 1));
        footer.extend(tail);
        if let Ok(run) = parse(seal(&content, &footer)) {
            exercise(&run);
        }
    }
}

#[test]
fn another_format_and_a_wrong_key_are_refused() {
    let (content, mut footer) = unseal(bytes_of(&sample()));
    let sealed = |bytes| Sealed::parse("run".into(), Kind::Run, STORE, 1, Bytes::from(bytes)).unwrap();
    let wrong_key = Run::parse(sealed(seal(&content, &footer)), [0; 16], FILTERS);
    assert!(matches!(wrong_key, Err(Error::Corruption { .. })));
    for format in [0, 1, 3] {
        footer[0] = format;
        let other = Run::parse(sealed(seal(&content, &footer)), KEY, FILTERS);
        let named = |version| version == u32::from(format);
        assert!(matches!(other, Err(Error::Unsupported { version, .. }) if named(version)));
    }
}

#[test]
fn a_key_that_is_not_there_is_hardly_ever_looked_for() {
    let some = |n: u64| Key { a: 7, b: n % 5, c: n.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
    let entries = (0..60_000).map(|n| (some(2 * n), (0, 1, Vec::new()))).collect();
    let table = Table { wide: true, entries };
    let run = run_of(&Model { versions: (1, 1), tables: [(9, table)].into(), ..Model::default() });
    let section = run.section(9);
    assert!((0..60_000).all(|n| section.may_hold(some(2 * n)).unwrap()));
    let looked = (0..300_000).filter(|n| section.may_hold(some(2 * n + 1)).unwrap()).count();
    assert!(looked < 30, "{looked} of 300,000 keys were looked for");
    no_faults(&run);
}
