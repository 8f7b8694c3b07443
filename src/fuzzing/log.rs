//! The log: frames with right checksums whose fields and bodies the input chooses.

use std::sync::{Arc, OnceLock};

use super::file::open_dir;
use super::file::put_crc;
use super::input::Input;
use super::row;
use super::store::{DIR, Digest, hour, options};
use crate::env::{Access, Dir, SimEnv};
use crate::error::Result;
use crate::files::change::Change;
use crate::files::log::{self, FrameHeader, FrameKind, HEADER, LogFile, finish_frame, start_frame};
use crate::files::manifest::Manifest;
use crate::files::record::Record;
use crate::files::table::{self, HashKey};
use crate::kernel::values;
use crate::model::blob::Blob;
use crate::model::ids::{ChannelId, Named, UserId};
use crate::model::image::{Image, Patch, Stored};
use crate::model::key::{Key, TableKey};
use crate::model::mark::Mark;
use crate::model::membership::{Membership, field};
use crate::store::Store;

/// The length of the segment.
const CAPACITY: usize = 32 << 10;
/// The place of session and flags in a segment's header, and that of its checksum.
const SESSION: usize = 48;
const FLAGS: usize = 56;
const HEADER_END: usize = 96;

/// What would be right next, from which the input may stray.
#[derive(Default)]
struct Expected {
    version: u64,
    /// The ends of the first few channels.
    ends: [Mark; 4],
    /// How many channels and users have names.
    names: [u32; 2],
    /// The store's.
    key: HashKey,
}

/// An empty store whose only log segment gets the input's frames: it is opened, read, closed, opened again and written to.
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
    if again.commit(&hour(3)).is_err() {
        return;
    }
    let found = Digest::read(&again);
    again.close().expect("a store without a fault closes");
    drop(again);
    let again = open(&sim).expect("what was written opens");
    assert_eq!(Digest::read(&again), found);
}

fn open(sim: &Arc<SimEnv>) -> Result<Store> {
    options(sim).log_segment(CAPACITY as u64).open(DIR)
}

fn empty_store() -> &'static Arc<SimEnv> {
    static EMPTY: OnceLock<Arc<SimEnv>> = OnceLock::new();
    EMPTY.get_or_init(|| {
        let sim = SimEnv::new(1);
        open(&sim).and_then(|store| store.close()).expect("an empty store is made");
        sim
    })
}

/// Writes the frames after the segment's header, which may say that its commits are buffered.
fn write(sim: &Arc<SimEnv>, data: &[u8]) {
    let disk = open_dir(sim, DIR);
    let manifest = Manifest::load(&disk).ok().flatten().expect("the store has a manifest");
    let file = LogFile::open(&disk, manifest.store, 1, Access::Read).expect("it has a log");
    let mut input = Input::new(data);
    let mut bytes = file.read(0, HEADER as usize).expect("the log has a header").to_vec();
    let choice = input.u8();
    bytes[SESSION] ^= choice / 2;
    bytes[FLAGS] = choice & 1;
    put_crc(&mut bytes[..HEADER_END]);
    let mut expected = Expected { key: manifest.key, ..Expected::default() };
    prelude(&mut bytes, &file, &mut expected);
    while !input.is_empty() && bytes.len() < CAPACITY {
        frame(&mut bytes, &file, &mut input, &mut expected);
    }
    bytes.resize(bytes.len().max(CAPACITY), 0);
    sim.write_file(disk.path().join(log::name(1)), bytes).expect("the simulated disk has room");
}

/// A frame that names two channels and two users, one of whom is a member, so that later ones have something to speak of.
fn prelude(bytes: &mut Vec<u8>, file: &LogFile, expected: &mut Expected) {
    let at = start_frame(bytes);
    for name in [&b"one"[..], b"two"] {
        next_name(Named::Channel, name, bytes, expected);
        next_name(Named::User, name, bytes, expected);
    }
    let (table, wide, key) = (Membership::TABLE, <Membership as Image>::Key::WIDE, Key::default());
    Change::Patch { table, wide, key, fields: Patch::reset().bytes() }.encode(bytes);
    let header = FrameHeader { kind: FrameKind::Commit, count: 5, first_version: 1, durable: HEADER };
    finish_frame(bytes, at, &file.binding, at as u64, &header);
    expected.version = 1;
}

fn frame(bytes: &mut Vec<u8>, file: &LogFile, input: &mut Input<'_>, expected: &mut Expected) {
    let choice = input.u8();
    let kind = match choice % 8 {
        6 => FrameKind::Next,
        7 => FrameKind::Close,
        _ => FrameKind::Commit,
    };
    let first_version = expected.version + 1;
    let at = start_frame(bytes);
    let mut count = 0;
    if kind == FrameKind::Commit {
        for _ in 0..=choice / 8 % 4 {
            count += change(bytes, input, expected);
        }
    } else if choice & 8 != 0 {
        bytes.extend_from_slice(input.bytes(16));
    }
    let mut header = FrameHeader { kind, count, first_version, durable: HEADER };
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

/// Appends a change: mostly one that fits, or one with a field that does not, or any bytes. A value brings a second one. Tells
/// how many there are.
fn change(out: &mut Vec<u8>, input: &mut Input<'_>, expected: &mut Expected) -> u32 {
    let tag = input.u8();
    if tag >= 240 {
        let len = input.u8();
        out.extend_from_slice(input.bytes(len.into()));
        return 1;
    }
    match tag % 16 {
        0..=2 => {
            let named = if tag.is_multiple_of(2) { Named::Channel } else { Named::User };
            let [channels, users] = expected.names;
            next_name(named, &[b'n', channels as u8, users as u8], out, expected);
        }
        3..=6 => message(out, input, expected),
        7 => return value(out, input, expected),
        _ => patch(out, input, expected),
    }
    1
}

/// Appends a name with the next id.
fn next_name(named: Named, name: &[u8], out: &mut Vec<u8>, expected: &mut Expected) {
    let next = &mut expected.names[usize::from(named == Named::User)];
    Change::Name { named, id: *next, name }.encode(out);
    *next += 1;
}

/// Appends a patch of a row, mostly in a table that there is.
fn patch(out: &mut Vec<u8>, input: &mut Input<'_>, expected: &mut Expected) {
    let choice = input.u8();
    let tables: Vec<_> = row::tables().collect();
    let (table, wide) = match choice {
        0..=239 => tables[usize::from(choice) % tables.len()],
        _ => (input.u8() % 32, choice.is_multiple_of(2)),
    };
    let mut key = Key { a: id(input), b: id(input).into(), c: 0 };
    if wide {
        (key.b, key.c) = (input.number(), input.number());
    }
    let fields = row::patch(table, input);
    expected.version += 1;
    Change::Patch { table, wide, key, fields: &fields }.encode(out);
}

/// Appends a value, mostly of the next version, and mostly a patch that names it.
fn value(out: &mut Vec<u8>, input: &mut Input<'_>, expected: &mut Expected) -> u32 {
    expected.version += 1;
    let choice = input.u8();
    let version = if choice & 15 == 15 { input.number() } else { expected.version };
    let payload = input.bytes((choice / 16).into());
    let record = values::record(version, 1, payload);
    let record = if choice & 7 == 7 { Record { silent: true, ..record } } else { record };
    Change::Message(record).encode(out);
    let hash = table::hash(&expected.key, payload);
    let stored = Stored::new(version, payload.len() as u32, hash).filter(|_| choice & 3 != 3);
    let Some(stored) = stored else { return 1 };
    expected.version += 1;
    let patch = Patch::new().set(field::attributes, Blob::elsewhere(stored));
    let (table, wide, key) = (Membership::TABLE, <Membership as Image>::Key::WIDE, Key::default());
    Change::Patch { table, wide, key, fields: patch.bytes() }.encode(out);
    2
}

fn id(input: &mut Input<'_>) -> u32 {
    match input.u8() {
        small @ 0..=239 => u32::from(small % 4),
        _ => input.number() as u32,
    }
}

fn message(out: &mut Vec<u8>, input: &mut Input<'_>, expected: &mut Expected) {
    expected.version += 1;
    let (channel, sender) = (ChannelId(id(input)), UserId(id(input)));
    let choice = input.u8();
    let silent = choice & 1 != 0;
    let end = &mut expected.ends[channel.index() % 4];
    let mut mark =
        Mark { seq: end.seq.saturating_add(1), ordinal: end.ordinal.saturating_add((!silent).into()) };
    if choice & 0xf0 == 0xf0 {
        mark.seq = input.number();
    }
    if choice & 8 != 0 {
        mark.ordinal = input.number();
    }
    mark.ordinal = mark.ordinal.min(mark.seq);
    *end = end.max(mark);
    let version = if choice & 7 == 7 { input.number() } else { expected.version };
    let len = input.u8();
    let change = Change::Message(Record {
        channel,
        sender,
        mark,
        version,
        timestamp: 1,
        silent,
        id: None,
        client_id: None,
        unique_id: None,
        quiet: if silent && choice & 2 != 0 { 1 } else { 0 },
        fields: &[],
        payload: input.bytes(usize::from(len % 32)),
    });
    change.encode(out);
}
