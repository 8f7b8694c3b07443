//! The log: frames with right checksums whose fields and bodies the input chooses.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::input::Input;
use super::store::{DIR, Digest, open};
use crate::change::{Change, Key};
use crate::env::{Access, SimEnv};
use crate::log::{self, FrameHeader, FrameKind, HEADER, LogFile, finish_frame, start_frame};
use crate::manifest::Manifest;
use crate::record::Record;
use crate::types::{ChannelId, Mark, UserId};

/// The length of the segment.
const CAPACITY: usize = 32 << 10;

/// What would be right next, from which the input may stray.
#[derive(Default)]
struct Expected {
    version: u64,
    /// The last seq of the first few channels.
    seqs: [u64; 4],
    names: u8,
}

/// An empty store whose only log segment gets the input's frames: it is opened, read, closed and opened again.
pub fn log(data: &[u8]) {
    let sim = empty_store().fork(0);
    write(&sim, data);
    let Ok(store) = open(&sim) else { return };
    let found = Digest::read(&store);
    if store.close().is_err() {
        return;
    }
    drop(store);
    let again = open(&sim).expect("a store that was closed opens");
    assert_eq!(Digest::read(&again), found);
    if again.seal().is_ok() {
        assert_eq!(Digest::read(&again), found);
    }
}

fn empty_store() -> &'static Arc<SimEnv> {
    static EMPTY: OnceLock<Arc<SimEnv>> = OnceLock::new();
    EMPTY.get_or_init(|| {
        let sim = SimEnv::new(1);
        open(&sim).and_then(|store| store.close()).expect("an empty store is made");
        sim
    })
}

/// Writes the frames behind the segment's header.
fn write(sim: &Arc<SimEnv>, data: &[u8]) {
    let dir = Path::new(DIR);
    let manifest = Manifest::load(&**sim, dir).ok().flatten().expect("the store has a manifest");
    let file = LogFile::open(&**sim, dir, manifest.store, 1, Access::Read).expect("it has a log");
    let mut input = Input::new(data);
    let mut bytes = file.read(0, HEADER as usize).expect("the log has a header").to_vec();
    let mut expected = Expected::default();
    prelude(&mut bytes, &file, &mut expected);
    while !input.is_empty() && bytes.len() < CAPACITY {
        frame(&mut bytes, &file, &mut input, &mut expected);
    }
    bytes.resize(bytes.len().max(CAPACITY), 0);
    sim.write_file(log::path(dir, 1), bytes).expect("the simulated disk has room");
}

/// A frame that names two channels and two users, so that later ones have something to speak of.
fn prelude(bytes: &mut Vec<u8>, file: &LogFile, expected: &mut Expected) {
    let at = start_frame(bytes);
    let key = Key { channel: ChannelId(0), user: UserId(0) };
    let (base, read) = (Mark::default(), Mark::default());
    let (one, two) = (&b"one"[..], &b"two"[..]);
    let names =
        [Change::NameChannel(one), Change::NameChannel(two), Change::NameUser(one), Change::NameUser(two)];
    names.iter().chain([&Change::Join { key, base, read }]).for_each(|change| change.encode(bytes));
    let kind = FrameKind::Commit;
    let header = FrameHeader { kind, buffered: false, count: 5, first_version: 1, durable: HEADER };
    finish_frame(bytes, at, &file.binding, at as u64, &header);
    expected.version = 1;
}

fn frame(bytes: &mut Vec<u8>, file: &LogFile, input: &mut Input<'_>, expected: &mut Expected) {
    let choice = input.u8();
    let kind = match choice % 8 {
        6 => FrameKind::Open,
        7 => FrameKind::Close,
        _ => FrameKind::Commit,
    };
    let first_version = expected.version + 1;
    let at = start_frame(bytes);
    let mut count = 0;
    match kind {
        FrameKind::Commit => {
            for _ in 0..=choice / 8 % 4 {
                change(bytes, input, expected);
                count += 1;
            }
        }
        _ => bytes.extend_from_slice(input.bytes(16)),
    }
    let mut header = FrameHeader { kind, buffered: choice & 32 != 0, count, first_version, durable: HEADER };
    if choice & 64 != 0 {
        match input.u8() % 3 {
            0 => header.first_version = input.number(),
            1 => header.count = input.number() as u32,
            _ => header.durable = input.number(),
        }
    }
    finish_frame(bytes, at, &file.binding, at as u64, &header);
    if choice & 128 != 0 && input.u8().is_multiple_of(4) {
        bytes.extend_from_slice(&[0xee; 8]);
    }
}

/// Appends a change: mostly one that fits, or one with a field that does not, or any bytes.
fn change(out: &mut Vec<u8>, input: &mut Input<'_>, expected: &mut Expected) {
    let tag = input.u8();
    if tag >= 240 {
        let len = input.u8();
        out.extend_from_slice(input.bytes(len.into()));
        return;
    }
    let key = Key { channel: ChannelId(id(input)), user: UserId(id(input)) };
    let name = [b'n', expected.names];
    let change = match tag % 16 {
        0..=2 => {
            expected.names = expected.names.wrapping_add(1);
            match tag % 2 {
                0 => Change::NameChannel(&name),
                _ => Change::NameUser(&name),
            }
        }
        3..=7 => return message(out, key, input, expected),
        8..=10 => Change::Join { key, base: mark(input), read: mark(input) },
        11 => Change::Leave { key, at: input.number() as i64 },
        12 | 13 => Change::Read { key, mark: mark(input) },
        14 => Change::Hide { key, mark: mark(input) },
        _ => Change::Activate { key },
    };
    expected.version += u64::from(change.versioned());
    change.encode(out);
}

fn id(input: &mut Input<'_>) -> u32 {
    match input.u8() {
        small @ 0..=239 => u32::from(small % 4),
        _ => input.number() as u32,
    }
}

fn mark(input: &mut Input<'_>) -> Mark {
    let seq = input.number();
    Mark { seq, ordinal: input.number().min(seq) }
}

fn message(out: &mut Vec<u8>, key: Key, input: &mut Input<'_>, expected: &mut Expected) {
    expected.version += 1;
    let choice = input.u8();
    let last = &mut expected.seqs[key.channel.index() % 4];
    let seq = if choice & 0xf0 == 0xf0 { input.number() } else { last.saturating_add(1) };
    *last = (*last).max(seq);
    let ordinal = if choice & 8 == 0 { seq } else { input.number().min(seq) };
    let version = if choice & 7 == 7 { input.number() } else { expected.version };
    let len = input.u8();
    let change = Change::Message(Record {
        channel: key.channel,
        sender: key.user,
        mark: Mark { seq, ordinal },
        version,
        timestamp: 1,
        silent: choice & 1 != 0,
        id: None,
        client_id: None,
        payload: input.bytes(usize::from(len % 32)),
    });
    change.encode(out);
}
