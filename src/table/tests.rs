//! Runs: built, read and merged like the plain maps they stand for; no damage goes unnoticed.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::env::OsEnv;
use crate::error::{Error, Result};
use crate::sealed::{HEADER, Kind, Sealed, SealedWriter, StoreId, TRAILER};
use crate::types::{Head, Mark, Row, UserId};

const STORE: StoreId = [3; 16];
const KEY: HashKey = [9; 16];

/// What a run holds, as maps. The model of all tests here.
#[derive(Clone, Debug, Default)]
struct Model {
    versions: (u64, u64),
    rows: BTreeMap<(u32, u32), Row>,
    members: BTreeMap<(u32, u32), bool>,
    heads: BTreeMap<u32, Head>,
    channels: (u32, Vec<Vec<u8>>),
    users: (u32, Vec<Vec<u8>>),
}

fn build(dir: &Path, id: u64, model: &Model) -> Result<u64> {
    let mut builder = RunBuilder::create(&OsEnv::new(), dir, STORE, id, KEY, |_| Ok(()))?;
    for (&(user, channel), row) in &model.rows {
        builder.row(UserId(user), ChannelId(channel), row)?;
    }
    for (&(channel, user), present) in &model.members {
        builder.member(ChannelId(channel), UserId(user), *present)?;
    }
    for (channel, head) in &model.heads {
        builder.head(ChannelId(*channel), head)?;
    }
    builder.channels(model.channels.0, &model.channels.1)?;
    builder.users(model.users.0, &model.users.1)?;
    builder.finish(model.versions)
}

fn open(dir: &Path, id: u64, len: u64) -> Result<Run> {
    Run::open(&OsEnv::new(), dir, STORE, id, len, KEY)
}

fn run_of(model: &Model) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let len = build(dir.path(), 1, model).unwrap();
    open(dir.path(), 1, len).unwrap()
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

fn mark() -> impl Strategy<Value = Mark> {
    let seq = prop_oneof![Just(0u64), 1..200u64, any::<u64>()];
    (seq, prop_oneof![Just(0u64), Just(3), any::<u64>()])
        .prop_map(|(seq, lag)| Mark { seq, ordinal: seq - lag.min(seq) })
}

fn row(versions: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Row> {
    let activated = prop_oneof![Just(0u64), any::<u64>()];
    let left_at =
        prop_oneof![3 => Just(None), 1 => (0..100i64).prop_map(Some), 1 => any::<i64>().prop_map(Some)];
    (vec(mark(), 4), 0..4usize, activated, left_at, versions).prop_map(
        |(mut marks, same, activated, left_at, version)| {
            marks[same] = marks[0];
            Row {
                base: marks[0],
                read: marks[1],
                own: marks[2],
                deleted: marks[3],
                activated,
                left_at,
                version,
            }
        },
    )
}

fn head(versions: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Head> {
    (mark(), versions, any::<u32>()).prop_map(|(last, version, members)| Head { last, version, members })
}

/// Few enough that keys repeat, with the borders.
fn id() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0..6u32, 2 => 0..300u32, 1 => any::<u32>(), 1 => Just(u32::MAX - 1)]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(b'a'..b'd', 1..8), 1 => vec(any::<u8>(), 1..20), 1 => vec(any::<u8>(), 255..=255)]
}

fn names(most: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
    btree_set(name(), 0..most).prop_map(|names| names.into_iter().collect::<Vec<_>>()).prop_shuffle()
}

/// A model without names.
fn tables(versions: (u64, u64), most: usize) -> impl Strategy<Value = Model> {
    let range = versions.0..=versions.1;
    (
        btree_map((id(), id()), row(range.clone()), 0..most),
        btree_map((id(), id()), any::<bool>(), 0..most),
        btree_map(id(), head(range), 0..20),
    )
        .prop_map(move |(rows, members, heads)| Model {
            versions,
            rows,
            members,
            heads,
            ..Model::default()
        })
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
        assert_eq!(names.find(name, hash(&KEY, name))?, Some(*id));
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
    let (mut rows, mut members, mut heads) = (run.all_rows(), run.all_members(), run.all_heads());
    assert_eq!(all(|| rows.next())?, model.rows.clone().into_iter().collect::<Vec<_>>());
    assert_eq!(all(|| members.next())?, model.members.clone().into_iter().collect::<Vec<_>>());
    let expected: Vec<_> = model.heads.iter().map(|(channel, head)| (ChannelId(*channel), *head)).collect();
    assert_eq!(all(|| heads.next())?, expected);
    check_names(&run.channel_names(), model.channels.0, &model.channels.1, b"b")?;
    check_names(&run.user_names(), model.users.0, &model.users.1, b"ca")?;
    assert_eq!(run.versions(), model.versions);
    Ok(())
}

/// Reads everything in every way, whatever the bytes are. Only order is promised.
fn exercise(run: &Run) {
    let mut rows = run.all_rows();
    let mut last = None;
    while let Ok(Some((key, row))) = rows.next() {
        assert!(last < Some(key));
        last = Some(key);
        for mark in [row.base, row.read, row.own, row.deleted] {
            assert!(mark.ordinal <= mark.seq);
        }
        let _ = run.row(UserId(key.0), ChannelId(key.1));
        let mut user = run.rows(UserId(key.0), ChannelId(0), row.version / 2);
        let _ = user.next();
        let _ = user.seek(ChannelId(key.1));
        let _ = all(|| user.next());
    }
    let mut members = run.all_members();
    let _ = all(|| members.next());
    let _ = run.heads(&mut |_, _| Ok(()));
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
    fn rows_are_found(model in tables((1, 50), 500), keys in vec((id(), id(), id()), 20), newer_than in 0..60u64) {
        let run = run_of(&model);
        for (user, from, seek) in keys {
            prop_assert_eq!(run.row(UserId(user), ChannelId(from))?, model.rows.get(&(user, from)).copied());
            let wanted = |least: u32| model.rows.range((user, least)..=(user, u32::MAX))
                .filter(|(_, row)| newer_than == 0 || row.version > newer_than)
                .map(|((_, channel), row)| (ChannelId(*channel), *row)).collect::<Vec<_>>();
            let mut cursor = run.rows(UserId(user), ChannelId(from), newer_than);
            prop_assert_eq!(all(|| cursor.next())?, wanted(from));
            // A seek back changes nothing, a seek forward drops what lies before.
            let mut cursor = run.rows(UserId(user), ChannelId(from), newer_than);
            let first = cursor.next()?;
            prop_assert_eq!(first, wanted(from).first().copied());
            cursor.seek(ChannelId(seek))?;
            let mut rest = wanted(from.max(seek));
            rest.retain(|(channel, _)| first.is_some_and(|(first, _)| *channel > first));
            prop_assert_eq!(all(|| cursor.next())?, rest);
            let mut cursor = run.members(ChannelId(user), UserId(from));
            let expected = model.members.range((user, from)..=(user, u32::MAX));
            prop_assert_eq!(all(|| cursor.next())?, expected.map(|(k, v)| (UserId(k.1), *v)).collect::<Vec<_>>());
        }
    }
}

// What a merge must give.

/// The model of a merge, by brute force.
fn merged(inputs: &[Model], tombstones: Option<Tombstones>) -> Model {
    let mut sum = Model { versions: (inputs[0].versions.0, 0), ..Model::default() };
    (sum.channels.0, sum.users.0) = (inputs[0].channels.0, inputs[0].users.0);
    for input in inputs.iter().cloned() {
        sum.versions.1 = input.versions.1;
        sum.rows.extend(input.rows);
        sum.members.extend(input.members);
        sum.heads.extend(input.heads);
        sum.channels.1.extend(input.channels.1);
        sum.users.1.extend(input.users.1);
    }
    if let Some(limits) = tombstones {
        sum.members.retain(|_, present| *present);
        let users: Vec<u32> = sum.rows.keys().map(|(user, _)| *user).collect();
        for user in users {
            trim(&mut sum.rows, user, limits);
        }
    }
    sum
}

fn trim(rows: &mut BTreeMap<(u32, u32), Row>, user: u32, limits: Tombstones) {
    let of_user = rows.range((user, 0)..(user, FLOOR.0));
    let mut gone: Vec<(u64, u32, i64)> =
        of_user.filter_map(|((_, channel), row)| Some((row.version, *channel, row.left_at?))).collect();
    gone.sort();
    let surplus = gone.len().saturating_sub(limits.keep);
    let mut floor = rows.get(&(user, FLOOR.0)).map(|row| row.version);
    for (place, (version, channel, left_at)) in gone.into_iter().enumerate() {
        if place < surplus || left_at <= limits.before_ms {
            rows.remove(&(user, channel));
            floor = floor.max(Some(version));
        }
    }
    if let Some(version) = floor {
        rows.insert((user, FLOOR.0), Row { version, left_at: Some(i64::MIN), ..Row::default() });
    }
}

fn run_merge(dir: &Path, id: u64, inputs: &[Arc<Run>], tombstones: Option<Tombstones>) -> Result<Arc<Run>> {
    let len = merge(&OsEnv::new(), dir, STORE, id, KEY, inputs, tombstones, &mut |_| Ok(()))?;
    Ok(Arc::new(open(dir, id, len)?))
}

/// Gives each row a version of its own, as in a store, so that "the newest few" is one answer only.
fn number_rows(model: &mut Model) {
    model.versions.1 = model.versions.0 + 999;
    for (version, row) in (model.versions.0..).zip(model.rows.values_mut()) {
        // A permutation of 0..997, so that versions do not follow the keys.
        row.version = model.versions.0 + (version - model.versions.0) * 367 % 997;
    }
}

fn neighbours() -> impl Strategy<Value = Vec<Model>> {
    let runs = vec(tables((1, 10), 250), 1..5);
    (runs, names(120), names(20), vec(any::<Index>(), 5)).prop_map(
        |(mut runs, mut channels, mut users, cuts)| {
            let (mut channel, mut user) = (3, 0);
            let last = runs.len() - 1;
            for (i, run) in runs.iter_mut().enumerate() {
                run.versions.0 = 1 + 1000 * i as u64;
                number_rows(run);
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

fn limits() -> impl Strategy<Value = Option<Tombstones>> {
    let keep = prop_oneof![0..5usize, Just(usize::MAX)];
    proptest::option::of((0..120i64, keep).prop_map(|(before_ms, keep)| Tombstones { before_ms, keep }))
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
        // In two steps, so that the floor of the first one lives on in the second.
        let half = models.len().div_ceil(2);
        let older = run_merge(dir.path(), 21, &runs[..half], first)?;
        let mut inputs = vec![older];
        inputs.extend_from_slice(&runs[half..]);
        let mut expected = vec![merged(&models[..half], first)];
        expected.extend_from_slice(&models[half..]);
        check(&*run_merge(dir.path(), 22, &inputs, second)?, &merged(&expected, second))?;
    }
}

#[test]
fn dropped_tombstones_leave_a_floor_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    let left = |version, at| Row { version, left_at: Some(at), ..Row::default() };
    let rows = [((1, 1), left(5, 10)), ((1, 2), left(6, 90)), ((1, 3), Row { version: 7, ..Row::default() })];
    let first = Model { versions: (1, 9), rows: rows.into(), ..Model::default() };
    let second = Model { versions: (10, 19), rows: [((2, 1), left(12, 95))].into(), ..Model::default() };
    let runs: Vec<_> = [(1, &first), (2, &second)]
        .map(|(id, model)| Arc::new(open(dir.path(), id, build(dir.path(), id, model).unwrap()).unwrap()))
        .into();
    let old = Some(Tombstones { before_ms: 50, keep: 10 });
    let run = run_merge(dir.path(), 3, &runs, old).unwrap();
    let mut rows = run.rows(UserId(1), ChannelId(0), 0);
    let rows = all(|| rows.next()).unwrap();
    let floor = (FLOOR, Row { version: 5, left_at: Some(i64::MIN), ..Row::default() });
    assert_eq!(rows, [(ChannelId(2), left(6, 90)), (ChannelId(3), first.rows[&(1, 3)]), floor]);
    // Nothing more to drop: the floor stays, with or without a limit.
    for (id, limits) in [(4, old), (5, None)] {
        let again = run_merge(dir.path(), id, std::slice::from_ref(&run), limits).unwrap();
        assert_eq!(again.row(UserId(1), FLOOR).unwrap(), Some(floor.1));
    }
    assert_eq!(run.row(UserId(2), FLOOR).unwrap(), None);
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
    for other in [gap, twice] {
        let refused = run_merge(dir.path(), 9, &[a.clone(), other], None);
        assert!(matches!(refused, Err(Error::Corruption { .. })), "{refused:?}");
    }
    assert!(matches!(run_merge(dir.path(), 9, &[a, before], None), Err(Error::InvalidArgument { .. })));
    assert!(matches!(run_merge(dir.path(), 9, &[], None), Err(Error::InvalidArgument { .. })));
}

#[test]
fn a_merge_stops_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let rows = (0..40_000).map(|i| ((i / 7, i % 7), Row { version: 1, ..Row::default() })).collect();
    let model = Model { versions: (1, 1), rows, ..Model::default() };
    let run = Arc::new(open(dir.path(), 1, build(dir.path(), 1, &model).unwrap()).unwrap());
    let mut left = 2;
    let stopped = merge(&OsEnv::new(), dir.path(), STORE, 2, KEY, &[run], None, &mut |bytes| {
        assert!(bytes > 0);
        left -= 1;
        if left == 0 { Err(Error::Closed) } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(Error::Closed)));
}

#[test]
fn the_builder_refuses_what_is_out_of_order() {
    let dir = tempfile::tempdir().unwrap();
    let create = || RunBuilder::create(&OsEnv::new(), dir.path(), STORE, 1, KEY, |_| Ok(())).unwrap();
    let (user, channel) = (UserId(4), ChannelId(4));
    let mut builder = create();
    builder.row(user, channel, &Row::default()).unwrap();
    assert!(builder.row(user, channel, &Row::default()).is_err());
    assert!(builder.row(user, ChannelId(3), &Row::default()).is_err());
    let mark = Mark { seq: 1, ordinal: 2 };
    assert!(builder.row(UserId(5), channel, &Row { own: mark, ..Row::default() }).is_err());
    builder.head(channel, &Head::default()).unwrap();
    assert!(builder.head(channel, &Head::default()).is_err());
    assert!(builder.head(ChannelId(9), &Head { last: mark, ..Head::default() }).is_err());
    assert!(builder.member(channel, user, true).is_err());
    builder.users(0, ["a"]).unwrap();
    assert!(builder.users(1, ["b"]).is_err());
    assert!(builder.channels(0, ["b"]).is_err());
    for names in [vec!["a".into(), "a".into()], vec![String::new()], vec!["a".repeat(256)]] {
        assert!(create().channels(0, &names).is_err());
    }
    assert!(create().channels(u32::MAX, ["a"]).is_err());
    assert!(create().channels(u32::MAX, ["a", "b"]).is_err());
    assert!(create().channels(u32::MAX - 1, ["a"]).is_ok());
}

// Bytes that nobody wrote.

/// A run with a few blocks in every section.
fn sample() -> Model {
    let mark = |i: u32| Mark { seq: u64::from(i) * 3, ordinal: u64::from(i) };
    let row = |i: u32| Row {
        base: mark(i / 2),
        read: mark(i),
        own: mark(i % 5),
        version: u64::from(i) + 1,
        activated: u64::from(i.is_multiple_of(3)),
        left_at: i.is_multiple_of(4).then_some(1_700_000_000_000),
        ..Row::default()
    };
    Model {
        versions: (1, 1000),
        rows: (0..300).map(|i| ((i / 90, i % 90 * 5), row(i))).collect(),
        members: (0..300).map(|i| ((i % 3, i), i % 7 > 0)).collect(),
        heads: (0..30).map(|i| (i * 2, Head { last: mark(i), version: u64::from(i), members: i })).collect(),
        channels: (5, (0..100).map(|i| format!("channel {}", i * 37 % 100).into_bytes()).collect()),
        users: (0, (0..40).map(|i| format!("{i}").into_bytes()).collect()),
    }
}

fn bytes_of(model: &Model) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path(), 1, model).unwrap();
    std::fs::read(Kind::Run.path(dir.path(), 1)).unwrap()
}

fn parse(bytes: Vec<u8>) -> Result<Run> {
    Run::parse(Sealed::parse("run".into(), Kind::Run, STORE, 1, Bytes::from(bytes))?, KEY)
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
    let mut writer = SealedWriter::create(&OsEnv::new(), dir.path(), Kind::Run, STORE, 1).unwrap();
    writer.write(content).unwrap();
    writer.finish(footer).unwrap();
    std::fs::read(Kind::Run.path(dir.path(), 1)).unwrap()
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
            let limits = Some(Tombstones { before_ms: 0, keep: 1 });
            let _ = run_merge(dir.path(), 2, &[Arc::new(run)], limits);
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
fn a_newer_format_and_a_wrong_key_are_refused() {
    let (content, mut footer) = unseal(bytes_of(&sample()));
    let sealed = |bytes| Sealed::parse("run".into(), Kind::Run, STORE, 1, Bytes::from(bytes)).unwrap();
    let wrong_key = Run::parse(sealed(seal(&content, &footer)), [0; 16]);
    assert!(matches!(wrong_key, Err(Error::Corruption { .. })));
    footer[0] = 2;
    let newer = Run::parse(sealed(seal(&content, &footer)), KEY);
    assert!(matches!(newer, Err(Error::Unsupported { version: 2, .. })));
}
