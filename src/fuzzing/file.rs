//! Sealed files: the frame around their content, message segments, and table runs.

use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::input::{Input, mutate};
use crate::codec::crc;
use crate::env::{Env, SimEnv};
use crate::error::Result;
use crate::record::Record;
use crate::sealed::{HEADER, Kind, Sealed, SealedWriter, StoreId, TRAILER};
use crate::segment::{self, BlockCache, Segment, SegmentBuilder};
use crate::table::{self, HashKey, Run, RunBuilder};
use crate::types::{ChannelId, Head, Mark, Row, UserId};

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
        let sim = SimEnv::new(0);
        let sealed = write(&*sim, Path::new(DIR), kind, STORE, 1, &self.content, &self.footer)
            .and_then(|len| Sealed::open(&*sim, Path::new(DIR), kind, STORE, 1, len));
        sealed.expect("nothing is wrong with the frame around it")
    }
}

/// Writes a sealed file and returns its length.
pub fn write(
    env: &dyn Env,
    dir: &Path,
    kind: Kind,
    store: StoreId,
    id: u64,
    content: &[u8],
    footer: &[u8],
) -> Result<u64> {
    let mut writer = SealedWriter::create(env, dir, kind, store, id)?;
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
        let written = write(&*sim, Path::new(DIR), Kind::Run, STORE, 1, &content, b"a footer");
        written.expect("the simulated disk has room");
        sim.read_file(Kind::Run.path(Path::new(DIR), 1)).expect("it was just written")
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
    let sim = SimEnv::new(0);
    let mut pace = |_| Ok(());
    let mut build = || {
        let mut builder = SegmentBuilder::create(&*sim, Path::new(DIR), STORE, 1, &mut pace)?;
        let mut version = 100;
        for channel in (0..IDS).filter(|channel| channel % 3 != 1).map(ChannelId) {
            builder.channel(channel, u64::from(channel.0))?;
            for seq in 3..3 + 40 / (1 + u64::from(channel.0)) {
                version += 1;
                builder.add(example_record(channel, seq, version))?;
            }
        }
        let len = builder.finish((100, version + 1))?;
        Sealed::open(&*sim, Path::new(DIR), Kind::Segment, STORE, 1, len)
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
        payload: &payload,
    };
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes.into()
}

/// Reads a channel in both directions, in ranges that the input chooses.
fn read_channel(segment: &Segment, channel: ChannelId, input: &mut Input<'_>) {
    let _ = (segment.extent(channel), segment.last(channel));
    for (from, to) in [(0, u64::MAX), (input.number(), input.number())] {
        let read = |reverse| {
            let mut seqs = Vec::new();
            let done = segment.read(channel, from, to, reverse, &mut |bytes| {
                let record = Record::decode(&bytes).expect("a segment hands out records only");
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
    let (sim, dir) = (SimEnv::new(0), Path::new(DIR));
    let mut pace = |_| Ok(());
    let len = segment::merge(&*sim, dir, STORE, 2, std::slice::from_ref(segment), &mut pace)?;
    Segment::open(&*sim, dir, STORE, 2, len, cache)
}

/// A table run behind right checksums.
pub fn run(data: &[u8]) {
    static VALID: OnceLock<Parts> = OnceLock::new();
    let mut input = Input::new(data);
    let parts = Parts::choose(VALID.get_or_init(example_run), &mut input);
    let Ok(run) = Run::parse(parts.seal(Kind::Run), KEY) else { return };
    let run = Arc::new(run);
    // Each walk ends at its first error, as those of the store do.
    let _ = (read_rows(&run, &mut input), read_members(&run, &mut input));
    let _ = (read_names(run.channel_names(), &mut input), read_names(run.user_names(), &mut input));
    let _ = run.heads(&mut |_, _| Ok(()));
    let _ = collect(&run);
    let mut sound = true;
    run.verify(&mut |_| sound = false);
    let merged = merge_run(&run);
    if sound {
        let merged = merged.expect("a sound run can be merged");
        merged.verify(&mut |fault| panic!("a merge of a sound run is damaged: {fault}"));
        let found = collect(&run).expect("a sound run can be read");
        assert_eq!(collect(&merged).expect("and its merge"), found);
        for ((user, channel), row) in found.0 {
            assert_eq!(run.row(UserId(user), ChannelId(channel)).expect("also by key"), Some(row));
        }
    }
}

fn example_run() -> Parts {
    let (sim, dir) = (SimEnv::new(0), Path::new(DIR));
    let build = || {
        let mut builder = RunBuilder::create(&*sim, dir, STORE, 1, KEY, |_| Ok(()))?;
        for user in 0..IDS {
            for channel in 0..IDS + 10 * u32::from(user == 3) {
                builder.row(UserId(user), ChannelId(channel), &example_row(user + channel))?;
            }
        }
        for channel in 0..IDS {
            for user in 0..IDS + 60 * u32::from(channel == 5) {
                builder.member(ChannelId(channel), UserId(user), user % 5 != 0)?;
            }
        }
        for channel in (0..IDS).step_by(2) {
            let last = Mark { seq: 50, ordinal: 40 };
            builder.head(ChannelId(channel), &Head { last, version: u64::from(channel) + 1, members: 3 })?;
        }
        builder.channels(0, (0..40).map(|i| format!("channel {i}")))?;
        builder.users(5, (0..20).map(|i| "u".repeat(i + 1)))?;
        let len = builder.finish((1, 100))?;
        Sealed::open(&*sim, dir, Kind::Run, STORE, 1, len)
    };
    Parts::of(&build().expect("the simulated disk has room"))
}

fn example_row(number: u32) -> Row {
    let number = u64::from(number);
    let mark = |seq| Mark { seq, ordinal: seq / 2 };
    Row {
        base: mark(number / 3),
        read: mark(number),
        own: if number % 4 == 0 { mark(number + 300) } else { Mark::default() },
        deleted: mark(number % 2 * 9),
        activated: if number % 7 == 0 { number + 2 } else { 0 },
        left_at: Some(1_700_000_000_000).filter(|_| number % 5 == 0),
        version: number + 3,
    }
}

fn read_rows(run: &Run, input: &mut Input<'_>) -> Result<()> {
    let (user, from, seek) = (input.number() as u32, input.number() as u32, input.number() as u32);
    run.row(UserId(user), ChannelId(from))?;
    let mut rows = run.rows(UserId(user), ChannelId(from), input.number());
    rows.next()?;
    rows.seek(ChannelId(seek))?;
    let mut last = None;
    while let Some((channel, _)) = rows.next()? {
        assert!(channel >= ChannelId(from.max(seek)) && last < Some(channel));
        last = Some(channel);
    }
    Ok(())
}

fn read_members(run: &Run, input: &mut Input<'_>) -> Result<()> {
    let (channel, from) = (ChannelId(input.number() as u32), UserId(input.number() as u32));
    let mut members = run.members(channel, from);
    while members.next()?.is_some() {}
    Ok(())
}

/// Everything in a run but its names, whose numbers stand for them.
type Collected = (Vec<((u32, u32), Row)>, Vec<((u32, u32), bool)>, Vec<(ChannelId, Head)>, (u32, u32));

fn collect(run: &Run) -> Result<Collected> {
    let (mut rows, mut members, mut heads) = (run.all_rows(), run.all_members(), run.all_heads());
    let names = (run.channel_names().count(), run.user_names().count());
    let mut all = (Vec::new(), Vec::new(), Vec::new(), names);
    while let Some(row) = rows.next()? {
        all.0.push(row);
    }
    while let Some(member) = members.next()? {
        all.1.push(member);
    }
    while let Some(head) = heads.next()? {
        all.2.push(head);
    }
    Ok(all)
}

fn read_names(names: table::Names<'_>, input: &mut Input<'_>) -> Result<()> {
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

fn merge_run(run: &Arc<Run>) -> Result<Run> {
    let (sim, dir) = (SimEnv::new(0), Path::new(DIR));
    let len = table::merge(&*sim, dir, STORE, 2, KEY, std::slice::from_ref(run), None, &mut |_| Ok(()))?;
    Run::open(&*sim, dir, STORE, 2, len, KEY)
}
