//! Heads, rows and members read back as they were written, and nothing else is taken for one.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::env::OsEnv;
use crate::files::table::HashKey;

const STORE: [u8; 16] = [3; 16];
const KEY: HashKey = [9; 16];

type Rows = BTreeMap<(u32, u32), Row>;
type Members = BTreeMap<(u32, u32), bool>;
type Heads = BTreeMap<u32, Head>;

fn create(dir: &Path) -> RunBuilder<'static> {
    RunBuilder::create(&OsEnv::new(), dir, STORE, 1, KEY, |_| Ok(())).unwrap()
}

fn run_of(heads: &Heads, rows: &Rows, members: &Members) -> Result<Run> {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = create(dir.path());
    for (channel, head) in heads {
        builder.head(ChannelId(*channel), head)?;
    }
    for ((user, channel), row) in rows {
        builder.row(UserId(*user), ChannelId(*channel), row)?;
    }
    for ((channel, user), present) in members {
        builder.member(ChannelId(*channel), UserId(*user), *present)?;
    }
    let len = builder.finish((1, u64::MAX))?;
    Run::open(&OsEnv::new(), dir.path(), STORE, 1, len, KEY)
}

/// Calls `next` until it answers `None`.
fn all<T>(mut next: impl FnMut() -> Result<Option<T>>) -> Result<Vec<T>> {
    std::iter::from_fn(|| next().transpose()).collect()
}

fn mark() -> impl Strategy<Value = Mark> {
    let seq = prop_oneof![Just(0u64), 1..200u64, any::<u64>()];
    (seq, prop_oneof![Just(0u64), Just(3), any::<u64>()])
        .prop_map(|(seq, lag)| Mark { seq, ordinal: seq - lag.min(seq) })
}

fn version() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..50u64, 1 => any::<u64>()]
}

fn row() -> impl Strategy<Value = Row> {
    let activated = prop_oneof![Just(0u64), any::<u64>()];
    let left_at =
        prop_oneof![3 => Just(None), 1 => (0..100i64).prop_map(Some), 1 => any::<i64>().prop_map(Some)];
    (vec(mark(), 4), 0..4usize, activated, left_at, version()).prop_map(
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

fn head() -> impl Strategy<Value = Head> {
    (mark(), version(), any::<u32>()).prop_map(|(last, version, members)| Head { last, version, members })
}

/// Few enough that keys repeat, with the borders.
fn id() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0..6u32, 2 => 0..300u32, 1 => any::<u32>(), 1 => Just(u32::MAX - 1)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn values_are_found(
        heads in btree_map(id(), head(), 0..60), rows in btree_map((id(), id()), row(), 0..500),
        members in btree_map((id(), id()), any::<bool>(), 0..500), keys in vec((id(), id(), id()), 20),
        newer_than in 0..60u64,
    ) {
        let run = run_of(&heads, &rows, &members)?;
        run.verify_values()?;
        let mut found = Heads::new();
        run.heads(&mut |channel, head| { found.insert(channel.0, head); Ok(()) })?;
        prop_assert_eq!(found, heads);
        for (a, from, seek) in keys {
            prop_assert_eq!(run.row(UserId(a), ChannelId(from))?, rows.get(&(a, from)).copied());
            let wanted = |least: u32| rows.range((a, least)..=(a, u32::MAX))
                .filter(|(_, row)| newer_than == 0 || row.version > newer_than)
                .map(|((_, channel), row)| (ChannelId(*channel), *row)).collect::<Vec<_>>();
            let mut cursor = run.rows(UserId(a), ChannelId(from), newer_than);
            prop_assert_eq!(all(|| cursor.next())?, wanted(from));
            let mut cursor = run.rows(UserId(a), ChannelId(from), newer_than);
            let first = cursor.next()?;
            cursor.seek(ChannelId(seek))?;
            let mut rest = wanted(from.max(seek));
            rest.retain(|(channel, _)| first.is_some_and(|(first, _)| *channel > first));
            prop_assert_eq!(all(|| cursor.next())?, rest);
            let mut cursor = run.members(ChannelId(a), UserId(from));
            let expected = members.range((a, from)..=(a, u32::MAX));
            prop_assert_eq!(all(|| cursor.next())?, expected.map(|(k, v)| (UserId(k.1), *v)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn any_image_is_a_valid_value_or_none(tag in 0..4u8, version in version(), image in vec(any::<u8>(), 0..30)) {
        let entry = Entry { key: Key::default(), tag, version, image: &image };
        if let Some(row) = decode_row(&entry) {
            prop_assert!([row.base, row.read, row.own, row.deleted].into_iter().all(valid));
            prop_assert_eq!(row.left_at.is_some(), tag & TOMBSTONE != 0);
        }
        if let Some(head) = decode_head(&entry) {
            prop_assert!(valid(head.last));
        }
        prop_assert_eq!(decode_member(&entry).is_some(), image.is_empty() && (tag == 1 || tag == 2));
    }
}

#[test]
fn a_mark_that_is_not_valid_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = create(dir.path());
    let (channel, mark) = (ChannelId(4), Mark { seq: 1, ordinal: 2 });
    builder.head(channel, &Head::default()).unwrap();
    assert!(builder.head(ChannelId(9), &Head { last: mark, ..Head::default() }).is_err());
    builder.row(UserId(4), channel, &Row::default()).unwrap();
    assert!(builder.row(UserId(5), channel, &Row { own: mark, ..Row::default() }).is_err());
    assert!(builder.head(ChannelId(9), &Head::default()).is_err(), "heads come before rows");
}

#[test]
fn a_value_that_is_not_valid_is_corruption() {
    for (table, image) in [(HEADS, &[1, 2, 0][..]), (ROWS, &[2, 1]), (MEMBERS, &[0])] {
        let dir = tempfile::tempdir().unwrap();
        let mut builder = create(dir.path());
        builder.section(table, false).unwrap();
        builder.put(Entry { key: Key::default(), tag: 1, version: 1, image }).unwrap();
        let len = builder.finish((1, 1)).unwrap();
        let run = Run::open(&OsEnv::new(), dir.path(), STORE, 1, len, KEY).unwrap();
        run.verify(&mut |fault| panic!("{fault}"));
        assert!(matches!(run.verify_values(), Err(Error::Corruption { .. })), "table {table}");
    }
}
