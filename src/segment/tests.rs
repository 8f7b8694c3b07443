//! Message segments: built, read and merged like the plain list they stand for; no damage goes unnoticed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::format::{Entry, Footer, Handle};
use super::*;
use crate::env::OsEnv;
use crate::error::{Error, Result};
use crate::record::Record;
use crate::sealed::{HEADER, Kind, SealedWriter, StoreId};
use crate::types::{ChannelId, Mark, UserId};

const STORE: StoreId = [3; 16];
const ID: u64 = 9;

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

/// Builds a segment of the messages at `range` of a history. Returns its length.
fn build(dir: &Path, id: u64, history: &[Message], range: std::ops::Range<usize>) -> u64 {
    let versions = (history[range.start].version, history[range.end - 1].version);
    let mut free = |_| Ok(());
    let mut builder = SegmentBuilder::create(&OsEnv::new(), dir, STORE, id, &mut free).unwrap();
    for (channel, records) in model(&history[range.clone()]) {
        let before = history[..range.start].iter().rfind(|m| m.channel == channel);
        builder.channel(ChannelId(channel), before.map_or(0, |m| m.version)).unwrap();
        for record in records.into_values() {
            builder.add(record).unwrap();
        }
    }
    builder.finish(versions).unwrap()
}

fn open(dir: &Path, id: u64, len: u64, cache: u64) -> Result<Segment> {
    Segment::open(&OsEnv::new(), dir, STORE, id, len, Arc::new(BlockCache::new(cache)))
}

fn open_file(dir: &Path, id: u64) -> Result<Segment> {
    open(dir, id, std::fs::metadata(Kind::Segment.path(dir, id)).unwrap().len(), 1 << 20)
}

/// A segment of a whole history, in a directory of its own.
fn segment(history: &[Message]) -> (tempfile::TempDir, Segment) {
    let dir = tempfile::tempdir().unwrap();
    let len = build(dir.path(), ID, history, 0..history.len());
    let segment = open(dir.path(), ID, len, 1 << 20).unwrap();
    (dir, segment)
}

fn read(segment: &Segment, channel: u32, from: u64, to: u64, reverse: bool) -> Result<Vec<Bytes>> {
    let mut records = Vec::new();
    let flow = segment.read(ChannelId(channel), from, to, reverse, &mut |record| {
        records.push(record);
        Ok(ControlFlow::Continue(()))
    })?;
    assert!(flow.is_continue());
    Ok(records)
}

fn faults(segment: &Segment) -> Vec<String> {
    let mut faults = Vec::new();
    segment.verify(&mut |fault| faults.push(fault.to_string()));
    faults
}

/// Compares all of a segment with a model.
fn check(segment: &Segment, model: &Model) {
    assert_eq!(segment.channels(), model.len() as u64);
    assert_eq!(segment.messages(), model.values().map(|records| records.len() as u64).sum::<u64>());
    for (&channel, records) in model {
        let extent = segment.extent(ChannelId(channel)).unwrap().unwrap();
        let (first, last) = (records.first_key_value().unwrap(), records.last_key_value().unwrap());
        assert_eq!((extent.first_seq, extent.last_seq), (*first.0, *last.0));
        assert_eq!(segment.last(ChannelId(channel)).unwrap().as_ref(), Some(last.1));
        let mut all: Vec<_> = records.values().cloned().collect();
        assert_eq!(read(segment, channel, 0, u64::MAX, false).unwrap(), all);
        all.reverse();
        assert_eq!(read(segment, channel, 0, u64::MAX, true).unwrap(), all);
    }
    for absent in [1, 2, 35, u32::MAX] {
        assert_eq!(segment.extent(ChannelId(absent)).unwrap(), None);
        assert_eq!(segment.last(ChannelId(absent)).unwrap(), None);
        assert!(read(segment, absent, 0, u64::MAX, false).unwrap().is_empty());
    }
    assert_eq!(faults(segment), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_built_is_read(
        history in histories(250),
        picks in vec((0..12u32, any::<(prop::sample::Index, prop::sample::Index)>(), 0..3u64), 20),
    ) {
        let (_dir, segment) = segment(&history);
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
        history in histories(200), cuts in vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let (inputs, outputs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(history.len())).collect();
        cuts.extend([0, history.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let mut segments = Vec::new();
        for (id, cut) in (1..).zip(cuts.windows(2)) {
            let len = build(inputs.path(), id, &history, cut[0]..cut[1]);
            segments.push(Arc::new(open(inputs.path(), id, len, 0).unwrap()));
        }
        let mut paced = 0;
        let mut pace = |bytes| {
            paced += bytes;
            Ok(())
        };
        let len = merge(&OsEnv::new(), outputs.path(), STORE, ID, &segments, &mut pace).unwrap();
        let (direct, merged) = (segment(&history), open(outputs.path(), ID, len, 0).unwrap());
        prop_assert_eq!(merged.sealed.content_end() - HEADER as u64, paced);
        let file = |dir: &tempfile::TempDir| std::fs::read(Kind::Segment.path(dir.path(), ID)).unwrap();
        prop_assert_eq!(file(&direct.0), file(&outputs));
        check(&merged, &model(&history));
    }
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

/// Reads all there is in every way, where each answer is an error or right.
fn probe(segment: &Segment, model: &Model) -> usize {
    let mut errors = 0;
    for (&channel, records) in model {
        match segment.last(ChannelId(channel)) {
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
    let path = Kind::Segment.path(dir.path(), ID);
    let good = std::fs::read(&path).unwrap();
    let other = tempfile::tempdir().unwrap();
    let ends = (0..HEADER).chain(segment.sealed.content_end() as usize..good.len());
    for at in ends.chain((HEADER..good.len()).step_by(499)) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        std::fs::write(Kind::Segment.path(other.path(), ID), bad).unwrap();
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
    let path = Kind::Segment.path(dir.path(), ID);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[victim.offset as usize + 10] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let damaged = open_file(dir.path(), ID).unwrap();
    let model = model(&history);
    for &channel in model.keys() {
        assert!(damaged.last(ChannelId(channel)).is_ok());
    }
    let errors = probe(&damaged, &model);
    assert!((1..model.len() / 2).contains(&errors), "{errors} errors");
    assert_eq!(faults(&damaged).len(), 1, "{:?}", faults(&damaged));
}

/// The content of a good file.
fn content(segment: &Segment) -> Vec<u8> {
    let len = segment.sealed.content_end() as usize - HEADER;
    segment.sealed.bytes(HEADER as u64, len).unwrap().to_vec()
}

/// Writes content and footer as a file with valid checksums, and opens it.
fn reseal(dir: &Path, content: &[u8], footer: &[u8]) -> Result<Segment> {
    let mut writer = SealedWriter::create(&OsEnv::new(), dir, Kind::Segment, STORE, ID)?;
    writer.write(content)?;
    let len = writer.finish(footer)?;
    open(dir, ID, len, 1 << 20)
}

/// Does everything that can be done with a segment, for it to end without a panic.
fn exercise(dir: &Path, segment: Segment) {
    let _ = faults(&segment);
    for channel in (0..40).chain([u32::MAX]) {
        let _ = segment.extent(ChannelId(channel));
        let _ = segment.last(ChannelId(channel));
        for (from, to) in [(0, u64::MAX), (5, 9), (9, 5), (u64::MAX, u64::MAX), (0, 0)] {
            let _ = read(&segment, channel, from, to, false);
            let _ = read(&segment, channel, from, to, true);
        }
    }
    let _ = merge(&OsEnv::new(), dir, STORE, ID + 1, &[Arc::new(segment)], &mut |_| Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn hostile_content_behind_good_checksums_does_no_harm(
        flips in vec((0..5usize, any::<prop::sample::Index>(), any::<u64>(), 1..9usize), 1..4),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let (dir, segment) = segment(&sample());
        let f = segment.footer;
        let sections = [HEADER as u64, f.tails, f.index, f.directory, segment.sealed.content_end()];
        let sections = sections.map(|offset| offset as usize - HEADER);
        let mut content = content(&segment);
        let mut footer = segment.sealed.footer().to_vec();
        for (section, at, value, len) in flips {
            let target = match section {
                4 => &mut footer[..],
                n => &mut content[sections[n]..sections[n + 1]],
            };
            let at = at.index(target.len());
            let end = (at + len).min(target.len());
            // Half of the values are small, or a small step beyond what is there.
            let value = if value % 2 == 0 { value } else { value >> 56 };
            target[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
        }
        if let Some(cut) = cut {
            content.truncate(cut.index(content.len()));
        }
        drop(segment);
        if let Ok(hostile) = reseal(dir.path(), &content, &footer) {
            exercise(dir.path(), hostile);
        }
    }

    #[test]
    fn any_content_and_footer_do_no_harm(content: Vec<u8>, footer: Vec<u8>, values: [u64; 5]) {
        let dir = tempfile::tempdir().unwrap();
        if let Ok(hostile) = reseal(dir.path(), &content, &footer) {
            exercise(dir.path(), hostile);
        }
        let [tails, index, directory, blocks, channels] = values;
        let footer = Footer { tails, index, directory, blocks, channels, messages: 1, versions: (1, 2) };
        prop_assert!(reseal(dir.path(), &content, &footer.encode()).is_err());
    }
}

/// A file of one block, whose index entry `mutate` changes.
fn with_handle(dir: &Path, mutate: impl Fn(&mut Handle)) -> Segment {
    let history: Vec<_> = (1..20).map(|seq| Message::new(0, seq, seq, &text(100))).collect();
    let (_dir, segment) = segment(&history);
    assert_eq!(segment.footer.blocks, 1);
    let mut content = content(&segment);
    let mut handle = segment.handle(0).unwrap();
    assert!(handle.compressed());
    mutate(&mut handle);
    let mut entry = Vec::new();
    handle.encode(&mut entry);
    content[segment.footer.index as usize - HEADER..][..Handle::LEN].copy_from_slice(&entry);
    reseal(dir, &content, segment.sealed.footer()).unwrap()
}

#[test]
fn a_block_with_wrong_lengths_is_refused_before_memory_is_taken() {
    let mutations: [fn(&mut Handle); 7] = [
        |h| h.raw_len = u32::MAX,
        |h| h.raw_len = 0,
        |h| h.raw_len = h.stored_len * 255 + 1,
        |h| h.raw_len += 1,
        |h| h.stored_len = h.raw_len,
        |h| h.offset += 1,
        |h| h.first.1 += 1,
    ];
    for mutate in mutations {
        let dir = tempfile::tempdir().unwrap();
        let hostile = with_handle(dir.path(), mutate);
        assert!(matches!(read(&hostile, 0, 0, u64::MAX, false), Err(Error::Corruption { .. })));
        assert!(!faults(&hostile).is_empty());
        assert!(hostile.last(ChannelId(0)).unwrap().is_some());
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(faults(&with_handle(dir.path(), |_| {})).is_empty());
}

#[test]
fn verify_sees_what_a_directory_hides() {
    let history = sample();
    let (dir, segment) = segment(&history);
    let f = segment.footer;
    let content = content(&segment);
    // Leaves out a channel, and says so in the footer: its records in blocks are then nobody's.
    let mut shorter = content.clone();
    shorter.truncate(content.len() - Entry::LEN);
    let footer = Footer { channels: f.channels - 1, ..f };
    assert!(!faults(&reseal(dir.path(), &shorter, &footer.encode()).unwrap()).is_empty());
    // A message less, or more, than there is.
    for messages in [f.messages - 1, f.messages + 1, u64::MAX, 0] {
        let footer = Footer { messages, ..f };
        let wrong = Arc::new(reseal(dir.path(), &content, &footer.encode()).unwrap());
        assert_eq!(faults(&wrong).len(), 1);
        let merged = merge(&OsEnv::new(), dir.path(), STORE, ID + 1, &[wrong], &mut |_| Ok(()));
        assert!(matches!(merged, Err(Error::Corruption { .. })));
    }
    // Versions that the records do not have.
    let footer = Footer { versions: (1, 100), ..f };
    assert!(!faults(&reseal(dir.path(), &content, &footer.encode()).unwrap()).is_empty());
}

/// Index, directory and footer of a segment, to be changed.
struct Parts {
    handles: Vec<Handle>,
    entries: Vec<Entry>,
    footer: Footer,
}

/// A segment of raw blocks whose parts were changed. Channel 1 fills several blocks, channels 2 to 4 have a message each.
fn forged(change: impl Fn(&mut Parts)) -> (tempfile::TempDir, Segment) {
    let mut history: Vec<_> = (2..31).map(|seq| Message::new(1, seq, 9 + seq, &noise(2000, seq))).collect();
    history
        .extend([2, 3, 4].map(|channel| Message::new(channel, 5, 37 + u64::from(channel), &noise(100, 1))));
    let (dir, segment) = segment(&history);
    let footer = segment.footer;
    let handles = (0..footer.blocks).map(|n| segment.handle(n).unwrap()).collect();
    let entries = (0..footer.channels).map(|n| segment.entry(n).unwrap()).collect();
    let mut parts = Parts { handles, entries, footer };
    change(&mut parts);
    let mut content = content(&segment);
    content.truncate(footer.index as usize - HEADER);
    parts.handles.iter().for_each(|handle| handle.encode(&mut content));
    parts.entries.iter().for_each(|entry| entry.encode(&mut content));
    let forged = reseal(dir.path(), &content, &parts.footer.encode()).unwrap();
    (dir, forged)
}

#[test]
fn an_index_that_contradicts_the_blocks_is_refused() {
    let (_dir, good) = forged(|_| {});
    assert_eq!(faults(&good), [""; 0]);
    assert_eq!(read(&good, 1, 0, u64::MAX, true).unwrap().len(), 29);
    // Reads of what only the first block holds see each of these.
    let changes: [fn(&mut Parts); 7] = [
        |p| p.handles[1].first.1 = 3,
        |p| p.handles[1].offset += 1,
        |p| p.handles[0].offset += 1,
        |p| p.handles[0].first.1 = 1,
        |p| p.handles[0].first.1 = 3,
        |p| p.handles[0].first.0 = ChannelId(0),
        |p| p.handles[0] = p.handles[1],
    ];
    for change in changes {
        let (_dir, bad) = forged(change);
        assert!(matches!(read(&bad, 1, 1, 2, false), Err(Error::Corruption { .. })));
        assert!(!faults(&bad).is_empty());
    }
    // The last block has to end where the tails begin.
    let (_dir, bad) = forged(|p| p.footer.tails -= 1);
    assert!(matches!(read(&bad, 1, 28, 28, false), Err(Error::Corruption { .. })));
}

#[test]
fn a_directory_that_contradicts_the_records_is_refused() {
    let changes: [fn(&mut Parts); 7] = [
        |p| p.entries[2].tail = p.entries[1].tail,
        |p| p.entries[2].tail = p.footer.tails - 1,
        |p| p.entries[2].tail_len += 1,
        |p| p.entries[2].tail_len = u32::MAX,
        |p| p.entries[2].extent.last_seq += 1,
        |p| p.entries[2].extent.first_seq = 0,
        |p| p.entries[2].extent.prev_version = p.footer.versions.0,
    ];
    for change in changes {
        let (_dir, bad) = forged(change);
        assert!(matches!(bad.last(ChannelId(3)), Err(Error::Corruption { .. })));
        assert!(bad.last(ChannelId(2)).is_ok() && bad.last(ChannelId(4)).is_ok());
        assert!(!faults(&bad).is_empty());
    }
    let (_dir, outside) = forged(|p| p.entries[2].tail = p.footer.tails - 1);
    assert!(outside.extent(ChannelId(3)).is_err());
}

#[test]
fn verify_sees_a_wrong_extent() {
    let changes: [fn(&mut Parts); 5] = [
        |p| p.entries[0].extent.first_seq = 1,
        |p| p.entries[0].extent.first_seq = 3,
        |p| p.entries[2].extent.first_seq = 4,
        |p| p.entries.swap(1, 2),
        |p| p.entries[0].channel = ChannelId(0),
    ];
    for change in changes {
        assert!(!faults(&forged(change).1).is_empty());
    }
}

#[test]
fn segments_that_contradict_each_other_are_not_merged() {
    let merged = |older: &[Message], newer: &[Message]| {
        let dir = tempfile::tempdir().unwrap();
        let history = [older, newer].concat();
        let cut = older.len();
        let open = |id, len| Arc::new(open(dir.path(), id, len, 0).unwrap());
        let older = open(1, build(dir.path(), 1, &history, 0..cut));
        let newer = open(2, build(dir.path(), 2, &history, cut..history.len()));
        merge(&OsEnv::new(), dir.path(), STORE, ID, &[older, newer], &mut |_| Ok(()))
    };
    let run = |channel, seqs: std::ops::Range<u64>, version: u64| -> Vec<_> {
        seqs.map(|seq| Message::new(channel, seq, version + seq, b"x")).collect()
    };
    assert!(merged(&run(1, 1..5, 0), &run(1, 5..9, 0)).is_ok());
    assert!(matches!(merged(&run(1, 1..6, 0), &run(1, 5..9, 1)), Err(Error::Corruption { .. })));
    assert!(matches!(merged(&run(1, 5..9, 0), &run(1, 1..5, 8)), Err(Error::Corruption { .. })));
    // A channel that is said to go on from a version of the older segment, which does not hold it.
    let (_older, older) = segment(&run(9, 1..5, 4));
    let (dir, newer) = forged(|p| p.entries[2].extent.prev_version = 7);
    let inputs = [Arc::new(older), Arc::new(newer)];
    let merged = merge(&OsEnv::new(), dir.path(), STORE, ID + 1, &inputs, &mut |_| Ok(()));
    assert!(matches!(merged, Err(Error::Corruption { .. })));
}

#[test]
fn a_newer_format_is_told_apart_from_damage() {
    let (dir, segment) = segment(&sample());
    let content = content(&segment);
    let mut footer = segment.sealed.footer().to_vec();
    footer[0] = 2;
    footer.truncate(10);
    let opened = reseal(dir.path(), &content, &footer);
    assert!(matches!(opened, Err(Error::Unsupported { version: 2, .. })));
}

#[test]
fn what_is_out_of_order_is_not_built() {
    let dir = tempfile::tempdir().unwrap();
    let message = |channel, seq| Message::new(channel, seq, seq, b"x").bytes;
    let mut free = |_| Ok(());
    let mut builder = SegmentBuilder::create(&OsEnv::new(), dir.path(), STORE, ID, &mut free).unwrap();
    assert!(builder.add(message(5, 1)).is_err());
    builder.channel(ChannelId(5), 0).unwrap();
    assert!(builder.add(message(6, 1)).is_err());
    builder.channel(ChannelId(5), 3).unwrap();
    builder.add(message(5, 4)).unwrap();
    assert!(builder.add(message(5, 4)).is_err());
    assert!(builder.add(message(6, 5)).is_err());
    assert!(builder.add(message(5, 5).slice(1..)).is_err());
    assert!(builder.channel(ChannelId(5), 0).is_err());
    assert!(builder.finish((3, 5)).is_err());
}

#[test]
fn an_empty_channel_leaves_no_trace_and_an_empty_segment_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut free = |_| Ok(());
    let mut builder = SegmentBuilder::create(&OsEnv::new(), dir.path(), STORE, ID, &mut free).unwrap();
    builder.channel(ChannelId(3), 0).unwrap();
    builder.channel(ChannelId(4), 0).unwrap();
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
    let merged = merge(&OsEnv::new(), dir.path(), STORE, ID, std::slice::from_ref(&input), &mut pace);
    assert!(matches!(merged, Err(Error::Closed)));
    assert_eq!(calls, 2);
    let swapped = merge(&OsEnv::new(), dir.path(), STORE, ID, &[input.clone(), input], &mut |_| Ok(()));
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
    let segment = Segment::open(&OsEnv::new(), dir.path(), STORE, ID, len, cache.clone()).unwrap();
    let mut count = 0;
    let flow = segment.read(ChannelId(1), 0, u64::MAX, true, &mut |_| {
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
