//! Message segments: built, read and merged like the plain list they stand for; no damage goes unnoticed.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::directory::{Directory, Entry};
use super::format::{BLOCK, Extent, Handle};
use super::*;
use crate::env::{Dir, Env, OsEnv};
use crate::error::{Error, Result};
use crate::files::record::Record;
use crate::files::sealed::{HEADER, Kind, StoreId};
use crate::model::ids::{ChannelId, UserId};
use crate::model::mark::Mark;

mod hostile_tests;

/// The open directory at a path.
fn open_dir(path: &Path) -> Arc<dyn Dir> {
    OsEnv::new().open_dir(path, false).unwrap()
}

const STORE: StoreId = [3; 16];
const ID: u64 = 9;

/// What merges ask here: nothing is withheld.
fn ask<'a>(is_last: &'a super::merge::IsLast<'a>) -> Ask<'a> {
    Ask { is_last, is_withheld: &|_, _| Ok(false), is_erased: &|_| false, erased_upto: 0 }
}

/// A record without its payload.
fn stub(bytes: &Bytes) -> Bytes {
    let mut stub = Vec::new();
    Record { payload: &[], ..Record::read(bytes).unwrap().0 }.encode(&mut stub);
    stub.into()
}

/// A message in the order of arrival: its version is its place, from 1.
#[derive(Clone, Debug)]
struct Message {
    channel: u32,
    seq: u64,
    version: u64,
    bytes: Bytes,
}

impl Message {
    fn new(channel: u32, seq: u64, version: u64, payload: &[u8]) -> Message {
        let record = Record {
            channel: ChannelId(channel),
            sender: UserId(version as u32 % 50),
            mark: Mark { seq, ordinal: seq },
            version,
            timestamp: 1_700_000_000_000 + version as i64 * 700,
            silent: false,
            id: None,
            client_id: None,
            unique_id: None,
            quiet: 0,
            fields: &[],
            payload,
        };
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        Message { channel, seq, version, bytes: bytes.into() }
    }
}

/// Bytes that do not compress.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    };
    (0..len).map(next).collect()
}

fn text(len: usize) -> Vec<u8> {
    b"how are you today, and what is for dinner? ".iter().copied().cycle().take(len).collect()
}

fn payloads() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => Just(Vec::new()),
        8 => (0..400usize).prop_map(text),
        4 => (0..4000usize, any::<u64>()).prop_map(|(len, seed)| noise(len, seed)),
        1 => (10_000..70_000usize).prop_map(text),
        1 => (10_000..70_000usize, any::<u64>()).prop_map(|(len, seed)| noise(len, seed)),
    ]
}

fn histories(max: usize) -> impl Strategy<Value = Vec<Message>> {
    let gap = prop_oneof![9 => Just(1u64), 1 => 2..100_000u64];
    vec((0..12u32, gap, payloads()), 1..max).prop_map(|drafts| {
        let mut seqs = BTreeMap::new();
        let message = |(version, (channel, gap, payload)): (u64, (u32, u64, Vec<u8>))| {
            let seq = seqs.entry(channel).and_modify(|seq| *seq += gap).or_insert(gap);
            Message::new(channel * 3, *seq, version, &payload)
        };
        (1..).zip(drafts).map(message).collect()
    })
}

/// The records of each channel by seq.
type Model = BTreeMap<u32, BTreeMap<u64, Bytes>>;

fn model(messages: &[Message]) -> Model {
    let mut model = Model::new();
    for m in messages {
        model.entry(m.channel).or_default().insert(m.seq, m.bytes.clone());
    }
    model
}

/// The link to a message.
fn link(message: Option<&Message>) -> Link {
    message.map_or(Link::default(), |m| Link { version: m.version, seq: m.seq })
}

/// The chain of a channel at a place of a history: its jump leads to about the middle of what comes before.
fn chain(history: &[Message], at: usize, channel: u32) -> Chain {
    let before: Vec<_> = history[..at].iter().filter(|m| m.channel == channel).collect();
    let jump = link(before.get(before.len() / 2).copied());
    Chain { prev: link(before.last().copied()), jump, depth: before.len() as u32 }
}

/// Whether the last message of a channel is to be a tail. Most are.
fn is_last(channel: ChannelId, seq: u64) -> bool {
    !(u64::from(channel.0) / 3 + seq).is_multiple_of(4)
}

/// Builds a segment of the messages at `range` of a history. Returns its length.
fn build(dir: &Path, id: u64, history: &[Message], range: std::ops::Range<usize>) -> u64 {
    build_with(dir, id, history, range, &|_, _| true)
}

fn build_with(
    dir: &Path,
    id: u64,
    history: &[Message],
    range: std::ops::Range<usize>,
    tail: &dyn Fn(ChannelId, u64) -> bool,
) -> u64 {
    let versions = (history[range.start].version, history[range.end - 1].version);
    let mut free = |_| Ok(());
    let mut builder = SegmentBuilder::create(&*open_dir(dir), STORE, id, &mut free).unwrap();
    for (channel, records) in model(&history[range.clone()]) {
        let last = *records.last_key_value().unwrap().0;
        let channel_id = ChannelId(channel);
        builder.channel(channel_id, chain(history, range.start, channel), tail(channel_id, last)).unwrap();
        for record in records.into_values() {
            builder.add(record).unwrap();
        }
    }
    builder.finish(versions).unwrap()
}

fn open(dir: &Path, id: u64, len: u64, cache: u64) -> Result<Segment> {
    Segment::open(&*open_dir(dir), STORE, id, len, Arc::new(BlockCache::new(cache)))
}

fn open_file(dir: &Path, id: u64) -> Result<Segment> {
    open(dir, id, std::fs::metadata(dir.join(Kind::Segment.name(id))).unwrap().len(), 1 << 20)
}

/// A segment of a whole history, in a directory of its own.
fn segment(history: &[Message]) -> (tempfile::TempDir, Segment) {
    segment_with(history, &|_, _| true)
}

fn segment_with(history: &[Message], tail: &dyn Fn(ChannelId, u64) -> bool) -> (tempfile::TempDir, Segment) {
    let dir = tempfile::tempdir().unwrap();
    let len = build_with(dir.path(), ID, history, 0..history.len(), tail);
    let segment = open(dir.path(), ID, len, 1 << 20).unwrap();
    (dir, segment)
}

fn read(segment: &Segment, channel: u32, from: u64, to: u64, reverse: bool) -> Result<Vec<Bytes>> {
    let mut records = Vec::new();
    let Some(entry) = segment.find(ChannelId(channel))? else { return Ok(records) };
    let flow = segment.read(&entry, &(from..=to), &EVER, reverse, &mut |bytes, record| {
        records.push(encoded(bytes, record));
        Ok(ControlFlow::Continue(()))
    })?;
    assert!(flow.is_continue());
    Ok(records)
}

/// The part of `bytes` where a record lies, which ends with its payload. There is one form of its bytes only.
fn encoded(bytes: &Bytes, record: &Record<'_>) -> Bytes {
    let mut expected = Vec::new();
    record.encode(&mut expected);
    let end = record.payload.as_ptr().addr() + record.payload.len() - bytes.as_ptr().addr();
    let encoded = bytes.slice(end - expected.len()..end);
    assert_eq!(encoded, expected);
    encoded
}

fn last_of(segment: &Segment, channel: u32) -> Result<Option<Bytes>> {
    let mut found = None;
    let _ = segment.last(ChannelId(channel), &mut |bytes, record| {
        assert!(found.replace(encoded(bytes, record)).is_none());
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

fn faults(segment: &Segment) -> Vec<String> {
    let mut faults = Vec::new();
    segment.verify(&mut |fault| faults.push(fault.to_string()));
    faults
}

/// Compares all of a segment with a model.
fn check(segment: &Segment, model: &Model) {
    assert_eq!(segment.footer.channels, model.len() as u64);
    assert_eq!(segment.messages(), model.values().map(|records| records.len() as u64).sum::<u64>());
    for (&channel, records) in model {
        let extent = segment.extent(ChannelId(channel)).unwrap().unwrap();
        let (first, last) = (records.first_key_value().unwrap(), records.last_key_value().unwrap());
        assert_eq!((extent.first_seq, extent.last_seq), (*first.0, *last.0));
        assert_eq!(last_of(segment, channel).unwrap().as_ref(), Some(last.1));
        let mut all: Vec<_> = records.values().cloned().collect();
        assert_eq!(read(segment, channel, 0, u64::MAX, false).unwrap(), all);
        all.reverse();
        assert_eq!(read(segment, channel, 0, u64::MAX, true).unwrap(), all);
        check_bytes(segment, channel, records);
    }
    for absent in [1, 2, 35, u32::MAX] {
        assert_eq!(segment.extent(ChannelId(absent)).unwrap(), None);
        assert_eq!(last_of(segment, absent).unwrap(), None);
        assert!(read(segment, absent, 0, u64::MAX, false).unwrap().is_empty());
    }
    assert_eq!(faults(segment), [""; 0]);
}

/// What the last bytes of a channel are: never less than is asked for, and less than a block more.
fn check_bytes(segment: &Segment, channel: u32, records: &BTreeMap<u64, Bytes>) {
    let entry = segment.find(ChannelId(channel)).unwrap().unwrap();
    let total: u64 = records.values().map(|record| record.len() as u64).sum();
    assert_eq!(entry.bytes(), total);
    // A merge may close a block of up to 18 KiB; a larger record has its own.
    let block = records.values().map(Bytes::len).max().unwrap().max(18 << 10) as u64;
    let mut sum = 0;
    for record in records.values().rev() {
        sum += record.len() as u64;
        for keep in [sum - 1, sum, sum + 1].into_iter().filter(|keep| (1..=total).contains(keep)) {
            let seq = segment.beyond(&entry, keep, 0).unwrap();
            let kept: u64 = records.range(seq + 1..).map(|(_, record)| record.len() as u64).sum();
            assert!((keep..keep + block).contains(&kept), "channel {channel}: {kept} bytes kept of {keep}");
            assert!(segment.beyond(&entry, keep, seq).unwrap() <= seq);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_built_is_read(
        history in histories(250),
        picks in vec((0..12u32, any::<(prop::sample::Index, prop::sample::Index)>(), 0..3u64), 20),
    ) {
        let (_dir, segment) = segment_with(&history, &is_last);
        let model = model(&history);
        check(&segment, &model);
        for (channel, (a, b), off) in picks {
            let channel = channel * 3;
            let Some(records) = model.get(&channel) else { continue };
            let seqs: Vec<u64> = records.keys().copied().collect();
            let from = (*a.get(&seqs)).saturating_sub(off);
            let to = *b.get(&seqs) + off;
            let within = records.iter().filter(|(seq, _)| (from..=to).contains(*seq));
            let mut expected: Vec<_> = within.map(|(_, bytes)| bytes.clone()).collect();
            prop_assert_eq!(read(&segment, channel, from, to, false).unwrap(), expected.clone());
            expected.reverse();
            prop_assert_eq!(read(&segment, channel, from, to, true).unwrap(), expected);
        }
    }

    #[test]
    fn a_merge_equals_a_build_of_all(
        history in histories(200), cuts in vec(any::<prop::sample::Index>(), 0..4), skip: bool,
    ) {
        let (inputs, outputs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(history.len())).collect();
        cuts.extend([0, history.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let mut segments = Vec::new();
        // Or a build of all but the first part, which the links then lead to.
        cuts.drain(..usize::from(skip && cuts.len() > 2));
        let start = cuts[0];
        for (id, cut) in (1..).zip(cuts.windows(2)) {
            // Every other input has all tails.
            let tail = |channel, seq| id % 2 == 0 || is_last(channel, seq);
            let len = build_with(inputs.path(), id, &history, cut[0]..cut[1], &tail);
            segments.push(Arc::new(open(inputs.path(), id, len, 0).unwrap()));
        }
        let mut paced = 0;
        let mut pace = |bytes| {
            paced += bytes;
            Ok(())
        };
        let len = merge(&*open_dir(outputs.path()), STORE, ID, &segments, ask(&is_last), &mut pace).unwrap();
        let merged = open(outputs.path(), ID, len, 0).unwrap();
        let len = build_with(inputs.path(), ID, &history, start..history.len(), &is_last);
        let direct = open(inputs.path(), ID, len, 0).unwrap();
        prop_assert_eq!(merged.sealed.content_end() - HEADER as u64, paced);
        check(&merged, &model(&history[start..]));
        // Copied blocks end elsewhere; all else is the same, byte by byte.
        let (f, g) = (direct.footer, merged.footer);
        prop_assert_eq!((f.channels, f.messages, f.versions), (g.channels, g.messages, g.versions));
        let section = |segment: &Segment, from: u64, to: u64| {
            segment.sealed.bytes(from, (to - from) as usize).unwrap().to_vec()
        };
        prop_assert_eq!(section(&direct, f.tails, f.index), section(&merged, g.tails, g.index));
        let end = |segment: &Segment| segment.sealed.content_end();
        prop_assert_eq!(section(&direct, f.entries, end(&direct)), section(&merged, g.entries, end(&merged)));
    }

    #[test]
    fn a_merge_copies_blocks_and_leaves_no_small_ones(
        lens in vec(1..600usize, 1..5), channels in 1..4u32, seed: u64,
    ) {
        // Text compresses and noise does not.
        let payload = |n: u64| match (n ^ seed) % 3 { 0 => noise(300, n), _ => text(n as usize * 7 % 300) };
        let mut seqs = BTreeMap::new();
        let mut message = |version| {
            let channel = (version * version / 3) as u32 % channels * 3;
            let seq = seqs.entry(channel).and_modify(|seq| *seq += 1).or_insert(1);
            Message::new(channel, *seq, version, &payload(version))
        };
        let history: Vec<_> = (1..=lens.iter().sum::<usize>() as u64).map(&mut message).collect();
        let (inputs, mut segments, mut start) = (tempfile::tempdir().unwrap(), Vec::new(), 0);
        for (id, len) in (1..).zip(&lens) {
            let file = build(inputs.path(), id, &history, start..start + len);
            segments.push(Arc::new(open(inputs.path(), id, file, 0).unwrap()));
            start += len;
        }
        let outputs = tempfile::tempdir().unwrap();
        let all = |_, _| true;
        let len = merge(&*open_dir(outputs.path()), STORE, ID, &segments, ask(&all), &mut |_| Ok(())).unwrap();
        let merged = open(outputs.path(), ID, len, 0).unwrap();
        check(&merged, &model(&history));
        let handles: Vec<_> = (0..merged.footer.blocks).map(|n| merged.handle(n).unwrap()).collect();
        if let Some((_last, others)) = handles.split_last() {
            prop_assert!(others.iter().all(|handle| handle.raw_len as usize >= BLOCK / 4));
        }
        // Once more, without the payloads of every fifth seq.
        let is_withheld = |_, mut seqs: RangeInclusive<u64>| Ok(seqs.any(|seq| seq % 5 == 0));
        let without = |message: &Message| match message.seq % 5 {
            0 => Message { bytes: stub(&message.bytes), ..message.clone() },
            _ => message.clone(),
        };
        let asked = Ask { is_withheld: &is_withheld, ..ask(&all) };
        let len = merge(&*open_dir(outputs.path()), STORE, ID + 1, &segments, asked, &mut |_| Ok(())).unwrap();
        let left: Vec<_> = history.iter().map(without).collect();
        check(&open(outputs.path(), ID + 1, len, 0).unwrap(), &model(&left));
        // And without those of some senders, up to a version.
        let upto = history.len() as u64 / 2;
        let is_erased = |record: &Record<'_>| record.sender.0.is_multiple_of(3);
        let without = |message: &Message| match message.version <= upto && (message.version % 50).is_multiple_of(3) {
            true => Message { bytes: stub(&message.bytes), ..message.clone() },
            false => message.clone(),
        };
        let asked = Ask { is_erased: &is_erased, erased_upto: upto, ..ask(&all) };
        let len = merge(&*open_dir(outputs.path()), STORE, ID + 2, &segments, asked, &mut |_| Ok(())).unwrap();
        let left: Vec<_> = history.iter().map(without).collect();
        check(&open(outputs.path(), ID + 2, len, 0).unwrap(), &model(&left));
    }
}

/// All entries of a segment's directory.
fn entries(segment: &Segment) -> Vec<Entry> {
    (0..segment.footer.groups()).flat_map(|n| segment.entries(n).unwrap()).collect()
}

/// A history in a dozen channels of very different sizes, with raw and with compressed blocks.
fn sample() -> Vec<Message> {
    let mut seqs = [0; 12];
    let message = |version: u64| {
        let channel = (version * version % 71 % 12) as usize;
        seqs[channel] += 1;
        let payload = if channel == 7 { noise(900, version) } else { text(version as usize % 90) };
        Message::new(channel as u32 * 3, seqs[channel], version, &payload)
    };
    (1..1500).map(message).collect()
}

#[test]
fn a_merge_copies_the_inner_blocks_of_a_long_channel() {
    let message =
        |n: u64| Message::new(3 * (n % 2) as u32, 1 + n / 2, 1 + n, &noise(200 + n as usize % 90, n));
    let history: Vec<_> = (0..2000).map(message).collect();
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let inputs: Vec<_> = [(1, 0..900), (2, 900..2000)]
        .map(|(id, range)| Arc::new(open(dir.path(), id, build(dir.path(), id, &history, range), 0).unwrap()))
        .into();
    let all = |_, _| true;
    let len = merge(&*open_dir(out.path()), STORE, ID, &inputs, ask(&all), &mut |_| Ok(())).unwrap();
    let merged = open(out.path(), ID, len, 0).unwrap();
    check(&merged, &model(&history));
    let handles = |segment: &Segment| -> Vec<Handle> {
        (0..segment.footer.blocks).map(|n| segment.handle(n).unwrap()).collect()
    };
    let blocks = |handles: &[Handle]| handles.iter().map(|h| (h.first, h.raw_len)).collect::<Vec<_>>();
    let (here, there) = (blocks(&handles(&merged)), inputs.iter().flat_map(|input| blocks(&handles(input))));
    let (copied, packed): (Vec<_>, Vec<_>) = there.partition(|block| here.contains(block));
    assert!(packed.len() <= 4 && copied.len() > 20, "{} copied, {} packed", copied.len(), packed.len());
}

/// Reads all there is in every way, where each answer is an error or right.
fn probe(segment: &Segment, model: &Model) -> usize {
    let mut errors = 0;
    for (&channel, records) in model {
        match last_of(segment, channel) {
            Ok(last) => assert_eq!(last.as_ref(), records.values().last()),
            Err(_) => errors += 1,
        }
        let expected: Vec<_> = records.values().rev().cloned().collect();
        match read(segment, channel, 0, u64::MAX, true) {
            Ok(read) => assert_eq!(read, expected),
            Err(_) => errors += 1,
        }
    }
    errors
}

#[test]
fn any_damaged_byte_is_found_and_none_is_taken_for_good() {
    let history = sample();
    let (dir, segment) = segment(&history);
    let model = model(&history);
    let path = dir.path().join(Kind::Segment.name(ID));
    let good = std::fs::read(&path).unwrap();
    let other = tempfile::tempdir().unwrap();
    let ends = (0..HEADER).chain(segment.sealed.content_end() as usize..good.len());
    for at in ends.chain((HEADER..good.len()).step_by(499)) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        std::fs::write(other.path().join(Kind::Segment.name(ID)), bad).unwrap();
        let Ok(damaged) = open_file(other.path(), ID) else { continue };
        assert!(!faults(&damaged).is_empty(), "damage at {at} went unseen");
        probe(&damaged, &model);
    }
}

#[test]
fn a_damaged_block_hides_no_other_channel() {
    let history = sample();
    let (dir, segment) = segment(&history);
    let victim = segment.handle(1).unwrap();
    let path = dir.path().join(Kind::Segment.name(ID));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[victim.offset as usize + 10] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let damaged = open_file(dir.path(), ID).unwrap();
    let model = model(&history);
    for &channel in model.keys() {
        assert!(last_of(&damaged, channel).is_ok());
    }
    let errors = probe(&damaged, &model);
    assert!((1..model.len() / 2).contains(&errors), "{errors} errors");
    assert_eq!(faults(&damaged).len(), 1, "{:?}", faults(&damaged));
}

#[test]
fn a_directory_of_any_entries_round_trips_and_is_small() {
    let mut history: Vec<Message> = Vec::new();
    for n in 1..=4000u64 {
        let channel = (n * n % 1999) as u32;
        let seq = 1 + history.iter().filter(|m| m.channel == channel).count() as u64;
        history.push(Message::new(channel, seq, n, b"x"));
    }
    let dir = tempfile::tempdir().unwrap();
    let len = build_with(dir.path(), ID, &history, 2000..4000, &is_last);
    let segment = open(dir.path(), ID, len, 1 << 20).unwrap();
    assert_eq!(faults(&segment), [""; 0]);
    for entry in entries(&segment) {
        assert_eq!(entry.extent.chain, chain(&history, 2000, entry.channel.0));
        assert_eq!(entry.tail.is_some(), is_last(entry.channel, entry.extent.last_seq));
        assert_eq!(segment.extent(entry.channel).unwrap(), Some(entry.extent));
    }
    let f = segment.footer;
    assert!(segment.sealed.content_end() - f.entries < 15 * f.channels);
    // As many as make the last group full, one more, or one.
    for count in [1, 16, 17] {
        let mut directory = Directory::default();
        (0..count).for_each(|n| {
            let extent = Extent { first_seq: 1, last_seq: 1, bytes: 20, chain: Chain::default() };
            directory.push(ChannelId(n), extent, None);
        });
        directory.flush();
        assert_eq!(directory.index.len(), 12 * (count as usize).div_ceil(16));
    }
}

#[test]
fn what_is_out_of_order_is_not_built() {
    let dir = tempfile::tempdir().unwrap();
    let message = |channel, seq| Message::new(channel, seq, seq, b"x").bytes;
    let mut free = |_| Ok(());
    let mut builder = SegmentBuilder::create(&*open_dir(dir.path()), STORE, ID, &mut free).unwrap();
    assert!(builder.add(message(5, 1)).is_err());
    let none = Chain::default();
    let prev = Link { version: 3, seq: 3 };
    builder.channel(ChannelId(5), none, true).unwrap();
    assert!(builder.add(message(6, 1)).is_err());
    let ahead = Link { version: 2, seq: 4 };
    for bad in [
        Chain { jump: prev, ..none },
        Chain { depth: 1, ..none },
        Chain { prev, jump: ahead, depth: 1 },
        Chain { prev: ahead, jump: prev, depth: 1 },
        Chain { prev: Link { version: 3, seq: 0 }, ..none },
        Chain { prev: Link { version: 0, seq: 3 }, ..none },
    ] {
        assert!(builder.channel(ChannelId(5), bad, true).is_err(), "{bad:?}");
    }
    builder.channel(ChannelId(5), Chain { prev, ..none }, true).unwrap();
    assert!(builder.add(message(5, 3)).is_err());
    builder.add(message(5, 4)).unwrap();
    assert!(builder.add(message(5, 4)).is_err());
    assert!(builder.add(message(6, 5)).is_err());
    assert!(builder.add(message(5, 5).slice(1..)).is_err());
    assert!(builder.channel(ChannelId(5), none, true).is_err());
    assert!(builder.finish((3, 5)).is_err());
}

#[test]
fn an_empty_channel_leaves_no_trace_and_an_empty_segment_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut free = |_| Ok(());
    let mut builder = SegmentBuilder::create(&*open_dir(dir.path()), STORE, ID, &mut free).unwrap();
    builder.channel(ChannelId(3), Chain::default(), true).unwrap();
    builder.channel(ChannelId(4), Chain::default(), false).unwrap();
    let len = builder.finish((7, 9)).unwrap();
    let segment = open(dir.path(), ID, len, 0).unwrap();
    assert_eq!(segment.versions(), (7, 9));
    check(&segment, &Model::new());
}

#[test]
fn a_merge_stops_when_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let history: Vec<_> = (1..9).map(|seq| Message::new(1, seq, seq, &noise(100_000, seq))).collect();
    let len = build(dir.path(), 1, &history, 0..8);
    let input = Arc::new(open(dir.path(), 1, len, 0).unwrap());
    let mut calls = 0;
    let mut pace = |_| {
        calls += 1;
        if calls == 2 { Err(Error::Closed) } else { Ok(()) }
    };
    let merged =
        merge(&*open_dir(dir.path()), STORE, ID, std::slice::from_ref(&input), ask(&is_last), &mut pace);
    assert!(matches!(merged, Err(Error::Closed)));
    assert_eq!(calls, 2);
    let swapped =
        merge(&*open_dir(dir.path()), STORE, ID, &[input.clone(), input], ask(&is_last), &mut |_| Ok(()));
    assert!(matches!(swapped, Err(Error::InvalidArgument { .. })));
}

#[test]
fn what_lies_raw_is_shared_and_what_is_cached_is_not_read_again() {
    let mut history: Vec<_> = (1..40).map(|seq| Message::new(30, seq, seq, &noise(2000, seq))).collect();
    history.extend((1..400).map(|seq| Message::new(60, seq, 39 + seq, &text(100))));
    history.push(Message::new(90, 1, 439, &vec![0; 1 << 20]));
    history.push(Message::new(90, 2, 440, b""));
    let (dir, cached) = segment(&history);
    check(&cached, &model(&history));
    let uncached = open(dir.path(), ID, cached.sealed.len(), 0).unwrap();
    let places = |segment: &Segment, channel, upto| {
        let records = read(segment, channel, 0, upto, false).unwrap();
        records.iter().map(|record| record.as_ptr()).collect::<Vec<_>>()
    };
    // The last block of channel 30 goes on with channel 60, and so may be compressed.
    assert_eq!(places(&uncached, 30, 20), places(&uncached, 30, 20));
    let held = read(&uncached, 60, 0, 398, false).unwrap();
    assert_ne!(places(&uncached, 60, 398), held.iter().map(|record| record.as_ptr()).collect::<Vec<_>>());
    assert_eq!(places(&cached, 60, 398), places(&cached, 60, 398));
}

#[test]
fn the_cache_is_bounded_and_forgets_a_closed_segment() {
    let history: Vec<_> = (1..20_000).map(|seq| Message::new(1, seq, seq, &text(100))).collect();
    let dir = tempfile::tempdir().unwrap();
    let len = build(dir.path(), ID, &history, 0..history.len());
    let cache = Arc::new(BlockCache::new(1 << 20));
    let segment = Segment::open(&*open_dir(dir.path()), STORE, ID, len, cache.clone()).unwrap();
    let mut count = 0;
    let entry = segment.find(ChannelId(1)).unwrap().unwrap();
    let flow = segment.read(&entry, &(0..=u64::MAX), &EVER, true, &mut |_, _| {
        count += 1;
        Ok(if count == 15_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    assert_eq!((flow.unwrap(), count), (ControlFlow::Break(()), 15_000));
    assert!((1..=1 << 20).contains(&cache.weight()));
    drop(segment);
    assert_eq!(cache.weight(), 0);
}

#[test]
fn many_small_channels_cost_little() {
    let history: Vec<_> = (1..20_001u64)
        .map(|n| Message::new((n % 10_000) as u32, 1 + n / 10_000, n, &text(n as usize % 80)))
        .collect();
    let (_dir, segment) = segment(&history);
    assert!(segment.footer.blocks < 100);
    assert_eq!(faults(&segment), [""; 0]);
}
