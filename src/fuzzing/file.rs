//! Sealed files: the frame around their content, message segments, and table runs.

use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::input::{Input, mutate};
use super::row;
use crate::env::{Dir, Env, SimEnv};
use crate::error::Result;
use crate::files::disk::Disk;
use crate::files::record::Record;
use crate::files::sealed::{HEADER, Kind, Sealed, SealedWriter, StoreId, TRAILER};
use crate::files::segment::{self, BlockCache, Chain, EVER, Link, Segment, SegmentBuilder};
use crate::files::table::{self, Filter, HashKey, Last, Names, Run, RunBuilder, RunEntry};
use crate::model::codec::crc;
use crate::model::head::{HEADS, Head};
use crate::model::ids::{ChannelId, UserId};
use crate::model::key::Key;
use crate::model::mark::Mark;

const DIR: &str = "/";
const STORE: StoreId = [7; 16];
const KEY: HashKey = [9; 16];
/// The ids in the examples are below this.
const IDS: u32 = 12;

/// What of a sealed file a kind fills.
struct Parts {
    content: Vec<u8>,
    footer: Vec<u8>,
}

impl Parts {
    fn of(file: &Sealed) -> Parts {
        let content = file.bytes(HEADER as u64, (file.content_end() - HEADER as u64) as usize);
        Parts { content: content.expect("its own checksums are right").into(), footer: file.footer().into() }
    }

    /// The input's own parts, or a valid file's changed by the input.
    fn choose(valid: &Parts, input: &mut Input<'_>) -> Parts {
        if input.u8().is_multiple_of(2) {
            let len = input.u8();
            return Parts { footer: input.bytes(len.into()).into(), content: input.rest().into() };
        }
        let footer = mutate(valid.footer.clone(), input);
        Parts { footer, content: mutate(valid.content.clone(), input) }
    }

    /// A file with these parts and right checksums.
    fn seal(&self, kind: Kind) -> Sealed {
        let disk = open_dir(&SimEnv::new(0), DIR);
        let sealed = write(&disk, kind, STORE, 1, &self.content, &self.footer)
            .and_then(|len| Sealed::open(&disk, kind, STORE, 1, len));
        sealed.expect("nothing is wrong with the frame around it")
    }
}

/// Opens a directory that is there.
pub fn open_dir(sim: &SimEnv, path: &str) -> Disk {
    Disk::new(sim.open_dir(Path::new(path), false).expect("nothing is wrong with the simulated disk"))
}

/// Writes a sealed file and returns its length.
pub fn write(
    dir: &dyn Dir,
    kind: Kind,
    store: StoreId,
    id: u64,
    content: &[u8],
    footer: &[u8],
) -> Result<u64> {
    let mut writer = SealedWriter::create(dir, kind, store, id)?;
    writer.write(content)?;
    writer.finish(footer)
}

/// The frame around a sealed file's content: a valid file changed by the input, with the checksums of header, trailer and
/// footer put right. Those of the pages are not, so that wrong ones are met too.
pub fn sealed(data: &[u8]) {
    static VALID: OnceLock<Vec<u8>> = OnceLock::new();
    let valid = VALID.get_or_init(|| {
        let sim = SimEnv::new(0);
        let content: Vec<u8> = (0..9000u32).map(|i| (i / 7) as u8).collect();
        let written = write(&open_dir(&sim, DIR), Kind::Run, STORE, 1, &content, b"a footer");
        written.expect("the simulated disk has room");
        sim.read_file(Path::new(DIR).join(Kind::Run.name(1))).expect("it was just written")
    });
    let mut input = Input::new(data);
    let mut bytes = mutate(valid.clone(), &mut input);
    // The last step is on the fields of the trailer, so that they are met often.
    if bytes.len() >= HEADER + TRAILER {
        let trailer = mutate(bytes.split_off(bytes.len() - TRAILER), &mut input);
        bytes.extend(trailer);
    }
    reseal_frame(&mut bytes);
    let Ok(file) = Sealed::parse("run".into(), Kind::Run, STORE, 1, bytes.into()) else { return };
    let mut faults = 0;
    file.verify(|_| faults += 1);
    let len = file.content_end() as usize;
    let whole = file.bytes(0, len);
    assert_eq!(whole.is_ok(), faults == 0);
    assert!(file.bytes(file.content_end(), 1).is_err());
    let offset = input.number();
    assert!(
        file.slice(offset, input.number().min(1 << 40) as usize).is_err() || offset <= file.content_end()
    );
}

fn reseal_frame(bytes: &mut [u8]) {
    if bytes.len() < HEADER + TRAILER {
        return;
    }
    put_crc(&mut bytes[..HEADER]);
    let start = bytes.len() - TRAILER;
    let trailer = &bytes[start..];
    let footer = trailer[8..16].try_into().map_or(0, u64::from_le_bytes);
    let sum = usize::try_from(footer).ok().and_then(|at| bytes.get(at..start)).map(|f| crc(&[&STORE, f]));
    bytes[start + 24..start + 28].copy_from_slice(&sum.unwrap_or(0).to_le_bytes());
    put_crc(&mut bytes[start..]);
}

/// Puts the checksum of bytes into their last four.
pub fn put_crc(bytes: &mut [u8]) {
    let (fields, sum) = bytes.split_at_mut(bytes.len() - 4);
    sum.copy_from_slice(&crc(&[fields]).to_le_bytes());
}

/// A message segment behind right checksums.
pub fn segment(data: &[u8]) {
    static VALID: OnceLock<Parts> = OnceLock::new();
    let mut input = Input::new(data);
    let parts = Parts::choose(VALID.get_or_init(example_segment), &mut input);
    let cache = Arc::new(BlockCache::new(64 << 10));
    let Ok(segment) = Segment::new(parts.seal(Kind::Segment), cache.clone()) else { return };
    let segment = Arc::new(segment);
    for channel in (0..IDS).chain([input.number() as u32]) {
        read_channel(&segment, ChannelId(channel), &mut input);
    }
    let mut sound = true;
    segment.verify(&mut |_| sound = false);
    let merged = merge_segment(&segment, cache);
    if sound {
        let merged = merged.expect("a sound segment can be merged");
        merged.verify(&mut |fault| panic!("a merge of a sound segment is damaged: {fault}"));
        assert_eq!(merged.messages(), segment.messages());
    }
}

fn example_segment() -> Parts {
    let disk = open_dir(&SimEnv::new(0), DIR);
    let mut pace = |_| Ok(());
    let mut build = || {
        let mut builder = SegmentBuilder::create(&disk, STORE, 1, &mut pace)?;
        let mut version = 100;
        for channel in (0..IDS).filter(|channel| channel % 3 != 1).map(ChannelId) {
            let (prev, jump) =
                (Link { version: 30 + u64::from(channel.0), seq: 2 }, Link { version: 9, seq: 1 });
            let chain =
                if channel.0 == 0 { Chain::default() } else { Chain { prev, jump, depth: channel.0 } };
            builder.channel(channel, chain, channel.0 % 4 != 3)?;
            for seq in 3..3 + 40 / (1 + u64::from(channel.0)) {
                version += 1;
                builder.add(example_record(channel, seq, version))?;
            }
        }
        let len = builder.finish((100, version + 1))?;
        Sealed::open(&disk, Kind::Segment, STORE, 1, len)
    };
    Parts::of(&build().expect("the simulated disk has room"))
}

/// A record. In the first channel payloads hardly compress, so that its block is kept raw.
fn example_record(channel: ChannelId, seq: u64, version: u64) -> Bytes {
    let noise = |i: u64| (((i + 1) * (seq + 11) * 7919) >> 5) as u8;
    let payload: Vec<u8> = match channel.0 {
        0 => (0..400).map(noise).collect(),
        _ => (0..30 + seq).map(|i| b'a' + (i % 3) as u8).collect(),
    };
    let record = Record {
        channel,
        sender: UserId(channel.0 + 1),
        mark: Mark { seq, ordinal: seq / 2 },
        version,
        timestamp: -1,
        silent: seq % 2 == 1,
        id: Some(seq).filter(|seq| seq % 3 == 0),
        client_id: Some(&b"client"[..]).filter(|_| seq.is_multiple_of(5)),
        unique_id: None,
        quiet: if seq % 7 == 3 { seq.min(3) } else { 0 },
        fields: if seq.is_multiple_of(7) { b"fields" } else { b"" },
        payload: &payload,
    };
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes.into()
}

/// Reads a channel in both directions, in ranges that the input chooses.
fn read_channel(segment: &Segment, channel: ChannelId, input: &mut Input<'_>) {
    let last = &mut |_: &Bytes, record: &Record<'_>| {
        assert_eq!(record.channel, channel);
        Ok(ControlFlow::Continue(()))
    };
    let _ = (segment.extent(channel), segment.last(channel, last));
    let Ok(Some(entry)) = segment.find(channel) else { return };
    for (from, to) in [(0, u64::MAX), (input.number(), input.number())] {
        let read = |reverse| {
            let mut seqs = Vec::new();
            let done = segment.read(&entry, &(from..=to), &EVER, reverse, &mut |_, record| {
                assert!(record.channel == channel && (from..=to).contains(&record.mark.seq));
                seqs.push(record.mark.seq);
                Ok(ControlFlow::Continue(()))
            });
            done.map(|_| seqs)
        };
        if let (Ok(up), Ok(mut down)) = (read(false), read(true)) {
            down.reverse();
            assert_eq!(up, down);
        }
    }
}

fn merge_segment(segment: &Arc<Segment>, cache: Arc<BlockCache>) -> Result<Segment> {
    let disk = open_dir(&SimEnv::new(0), DIR);
    let mut pace = |_| Ok(());
    let is_last = |channel: ChannelId, _| channel.0.is_multiple_of(2);
    let ask = segment::Ask {
        is_last: &is_last,
        is_withheld: &|_, _| Ok(false),
        is_erased: &|record| record.sender.0.is_multiple_of(3),
        erased_upto: 40,
    };
    let len = segment::merge(&disk, STORE, 2, std::slice::from_ref(segment), ask, &mut pace)?;
    Segment::open(&disk, STORE, 2, len, cache)
}

/// A table run with right checksums. Its sections are those of the model's tables, and others.
pub fn run(data: &[u8]) {
    static VALID: OnceLock<Parts> = OnceLock::new();
    let mut input = Input::new(data);
    let parts = Parts::choose(VALID.get_or_init(example_run), &mut input);
    let Ok(run) = Run::parse(parts.seal(Kind::Run), KEY, u64::MAX) else { return };
    let run = Arc::new(run);
    // Each walk ends at its first error, as those of the store do.
    for table in run.tables().chain([input.u8()]) {
        let _ = read_section(&run, table, &mut input);
    }
    let _ = (read_names(run.channel_names(), &mut input), read_names(run.user_names(), &mut input));
    let _ = collect(&run);
    let mut sound = true;
    run.verify(&mut |_| sound = false);
    let (merged, thinned) = (merge_run(&run, false), merge_run(&run, true));
    if sound {
        let found = collect(&run).expect("a sound run can be read");
        for (table, entry) in &found.0 {
            let by_key = run.section(*table).get(entry.0).expect("also by key");
            assert_eq!(by_key.map(own), Some(entry.clone()));
        }
        for merged in [merged, thinned] {
            let merged = merged.expect("a sound run can be merged");
            merged.verify(&mut |fault| panic!("a merge of a sound run is damaged: {fault}"));
        }
        let merged = merge_run(&run, false).expect("a sound run can be merged");
        assert_eq!(collect(&merged).expect("its merge can be read"), found);
    }
}

/// An entry with bytes of its own.
type OwnEntry = (Key, u8, u64, Vec<u8>);

fn own(entry: RunEntry<'_>) -> OwnEntry {
    (entry.key, entry.tag, entry.version, entry.image.into())
}

fn example_run() -> Parts {
    let disk = open_dir(&SimEnv::new(0), DIR);
    let build = || {
        let mut builder = RunBuilder::create(&disk, STORE, 1, KEY, |_| Ok(()))?;
        builder.section(HEADS, false)?;
        for channel in (0..IDS).step_by(2) {
            let last = Mark { seq: 50, ordinal: 40 };
            let changed = u64::from(channel) + 1;
            let mut image = Vec::new();
            Head {
                last,
                order: changed / 2,
                changed,
                members: 3,
                class: (channel % 3) as u8,
                retracted: (channel % 4).into(),
                ..Head::default()
            }
            .encode(&mut image);
            let key = Key { a: channel, ..Key::default() };
            builder.put(RunEntry { key, tag: 0, version: changed, image: &image })?;
        }
        // Those of the model, and two that it does not have.
        let others = [(200, false), (201, true)];
        for (table, wide) in row::tables().chain(others) {
            builder.section(table, wide)?;
            if wide {
                builder.filtered();
            }
            example_section(&mut builder, table, wide)?;
        }
        builder.channels(0, (0..40).map(|i| format!("channel {i}")))?;
        builder.users(5, (0..20).map(|i| "u".repeat(i + 1)))?;
        let len = builder.finish((1, 1000))?;
        Sealed::open(&disk, Kind::Run, STORE, 1, len)
    };
    Parts::of(&build().expect("the simulated disk has room"))
}

fn example_section(builder: &mut RunBuilder<'_>, table: u8, wide: bool) -> Result<()> {
    let noise: Vec<u8> = (1..20_000u32).map(|n| (n.wrapping_mul(n).wrapping_mul(7919) >> 7) as u8).collect();
    let mut input = Input::new(&noise);
    for a in 0..IDS {
        for b in 0..IDS + 30 * u32::from(a == 3) {
            let version = u64::from((a * 7 + b * 5) % 100) + 1;
            let (tag, image) = row::row(table, version, &mut input);
            let cs = if wide { &[0, 1, u64::from(b) << 40][..] } else { &[0] };
            for (place, c) in cs.iter().enumerate().filter(|(place, _)| *place < 2 || b > 0) {
                let key = Key { a, b: b.into(), c: *c };
                builder.put(RunEntry { key, tag: tag ^ place as u8 & 1, version, image: &image })?;
            }
        }
    }
    Ok(())
}

/// Reads a section: all of it, a range of keys, and what is newer than a version there.
fn read_section(run: &Run, table: u8, input: &mut Input<'_>) -> Result<()> {
    let section = run.section(table);
    let mut key = || Key { a: input.number() as u32, b: input.number(), c: input.number() };
    let (from, to, seek) = (key(), key(), key());
    section.get(from)?;
    let newer_than = input.number();
    let mut entries = section.range(from, to, newer_than);
    let first = entries.next()?.map(|entry| entry.key);
    entries.seek(seek)?;
    let mut last = first;
    while let Some(entry) = entries.next()? {
        assert!(entry.key >= from.max(seek) && entry.key <= to && last < Some(entry.key));
        assert!(newer_than == 0 || entry.version > newer_than);
        last = Some(entry.key);
    }
    let mut entries = section.all();
    while let Some(entry) = entries.next()? {
        match table {
            HEADS => drop(Head::decode(entry.version, entry.image)),
            _ => drop(row::decodes(table, entry.version, entry.image)),
        }
    }
    Ok(())
}

/// Everything in a run but its names, whose numbers stand for them.
type Collected = (Vec<(u8, OwnEntry)>, [(u32, u32); 2]);

fn collect(run: &Run) -> Result<Collected> {
    let names = [run.channel_names(), run.user_names()].map(|names| (names.first(), names.count()));
    let mut all = (Vec::new(), names);
    for table in run.tables() {
        let mut entries = run.section(table).all();
        while let Some(entry) = entries.next()? {
            all.0.push((table, own(entry)));
        }
    }
    Ok(all)
}

fn read_names(names: Names<'_>, input: &mut Input<'_>) -> Result<()> {
    for id in [names.first(), input.number() as u32, names.first() + names.count()] {
        if let Some(name) = names.get(id)? {
            let _ = names.find(&name, table::hash(&KEY, &name))?;
        }
    }
    names.find(b"channel 7", input.number())?;
    let from = input.bytes(4);
    for bound in [Bound::Unbounded, Bound::Included(from), Bound::Excluded(from)] {
        let mut cursor = names.iter(bound)?;
        while cursor.next()?.is_some() {}
    }
    Ok(())
}

/// Merges a run with nothing else, and drops some of its tombstones if `thin`.
fn merge_run(run: &Arc<Run>, thin: bool) -> Result<Run> {
    let disk = open_dir(&SimEnv::new(0), DIR);
    let mut filters = |_| thin.then(|| Box::new(EverySecond::default()) as Box<dyn Filter>);
    let len = table::merge(
        &disk,
        (STORE, KEY),
        2,
        std::slice::from_ref(run),
        &mut filters,
        &|_, _| false,
        &mut |_| Ok(()),
    )?;
    Run::open(&disk, STORE, 2, len, KEY, u64::MAX)
}

/// Drops every second tombstone of a group, and checks that it is asked about those that it was shown.
#[derive(Default)]
struct EverySecond {
    shown: Vec<OwnEntry>,
    asked: usize,
}

impl Filter for EverySecond {
    fn group<'a>(&mut self, tombstones: &mut dyn Iterator<Item = RunEntry<'a>>) -> Option<()> {
        assert_eq!(self.asked, self.shown.len());
        self.asked = 0;
        self.shown = tombstones.map(own).collect();
        Some(())
    }

    fn keep(&mut self, tombstone: &RunEntry<'_>) -> Option<bool> {
        assert_eq!(self.shown.get(self.asked), Some(&own(*tombstone)));
        self.asked += 1;
        Some(self.asked.is_multiple_of(2))
    }

    fn last(&mut self) -> Option<Last> {
        None
    }
}
