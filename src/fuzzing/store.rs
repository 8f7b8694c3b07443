//! A whole store: a small valid one, of which one file is changed behind right checksums.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::file::{open_dir, put_crc, write};
use super::input::{Input, mutate};
use crate::env::{Access, Dir, SimEnv};
use crate::error::{Error, Result};
use crate::files::disk::Disk;
use crate::files::log::{
    self, FrameHeader, FrameKind, HEADER as LOG_HEADER, LogFile, finish_frame, start_frame,
};
use crate::files::manifest::{self, FileEntry, Manifest};
use crate::files::sealed::{HEADER, Kind, Sealed};
use crate::model::annotation::Annotation;
use crate::model::batch::{Batch, Durability};
use crate::model::head::Head;
use crate::model::message::{Draft, Message};
use crate::model::ops::join::{HistoryFrom, JoinOptions};
use crate::options::Options;
use crate::read::{Conversation, ListChange, MemberEntry, MessageChange, SyncToken, Update};
use crate::store::Store;
use crate::upkeep::transfer::repair::repair;

/// Where stores lie on their simulated disks.
pub const DIR: &str = "/store";
/// How many channels and users are read at most, each with each.
const NAMES: usize = 12;

/// Opens a store of tiny files whose maintenance runs only when it is told to.
pub fn open(sim: &Arc<SimEnv>) -> Result<Store> {
    options(sim).open(DIR)
}

/// What [`open`] uses.
pub fn options(sim: &Arc<SimEnv>) -> Options {
    Options::new()
        .env(sim.clone())
        .log_segment(8 << 10)
        .memtable(4 << 10)
        .message_segment(8 << 10)
        .block_cache(16 << 10)
        .background(false)
}

/// Changes one file of a store; then it is verified, opened, read, written to, maintained, closed and opened again.
pub fn store(data: &[u8]) {
    let sim = example().fork(0);
    let mut input = Input::new(data);
    let disk = open_dir(&sim, DIR);
    let manifest = Manifest::load(&disk).ok().flatten().expect("the example has a manifest");
    let damaged = damage(&sim, &disk, manifest, &mut input);
    damaged.expect("the simulated disk has room, and the example is sound");
    let sound = crate::verify(DIR, &options(&sim)).is_ok_and(|found| found.faults.is_empty());
    read_only(&sim, sound);
    save(&sim, sound);
    let store = match open(&sim) {
        Ok(store) => store,
        Err(error) => {
            assert!(!sound, "verified, but does not open: {error}");
            return;
        }
    };
    let found = Digest::read(&store);
    assert!(live_on(&sim, store, &found) || !sound, "verified, but does not work");
}

/// A reader gets what is whole, and changes nothing.
fn read_only(sim: &Arc<SimEnv>, sound: bool) {
    let before = sim.ops();
    match options(sim).read_only(true).open(DIR) {
        Ok(store) => drop(Digest::read(&store)),
        Err(error) => assert!(!sound, "verified, but can't be read: {error}"),
    }
    assert_eq!(sim.ops(), before, "a reader changed something");
}

/// What is whole is saved into a store in which nothing is wrong; of a sound one that is all.
fn save(sim: &Arc<SimEnv>, sound: bool) {
    const SAVED: &str = "/saved";
    match repair(DIR, SAVED, &options(sim)) {
        Ok(repair) => {
            assert!(!sound || repair.is_whole(), "verified, but not whole: {repair:?}");
            let faults = crate::verify(SAVED, &options(sim)).map(|found| found.faults);
            assert!(
                faults.as_ref().is_ok_and(Vec::is_empty),
                "a store that was saved has faults: {faults:?}"
            );
            let saved = options(sim).open(SAVED).expect("a store that was saved opens");
            drop(Digest::read(&saved));
        }
        Err(error) => assert!(!sound, "verified, but can't be saved: {error}"),
    }
}

/// Goes on with an open store, and tells whether all of it worked and what was found there was found to the end. A store in
/// which `verify` finds faults may fail here, and may answer otherwise once the damaged file was merged; it may not panic.
fn live_on(sim: &Arc<SimEnv>, store: Store, found: &Digest) -> bool {
    let mut works = store.seal().is_ok();
    while store.maintain().is_ok_and(|worked| worked) {}
    works &= Digest::read(&store) == *found;
    works &= store.close().is_ok();
    drop(store);
    let Ok(store) = open(sim) else { return false };
    works &= Digest::read(&store) == *found;
    works &= store.commit(&hour(7)).is_ok();
    let after = Digest::read(&store);
    works &= store.close().is_ok();
    drop(store);
    let Ok(store) = open(sim) else { return false };
    works && Digest::read(&store) == after
}

/// A store with sealed and merged files, frozen logs, an active one that was not closed, and a loss of power.
fn example() -> &'static Arc<SimEnv> {
    static EXAMPLE: OnceLock<Arc<SimEnv>> = OnceLock::new();
    EXAMPLE.get_or_init(|| build().expect("nothing is wrong with the simulated disk"))
}

fn build() -> Result<Arc<SimEnv>> {
    let sim = SimEnv::new(2);
    let store = open(&sim)?;
    for i in 0..30 {
        store.commit(&hour(i))?;
        if i % 6 == 5 {
            store.seal()?;
            store.maintain()?;
        }
    }
    store.commit(hour(30).durability(Durability::Buffered))?;
    sim.crash_after(0);
    drop(store);
    sim.power_loss();
    let store = open(&sim)?;
    for i in 31..42 {
        store.commit(&hour(i))?;
    }
    sim.crash_after(0);
    drop(store);
    sim.crash();
    Ok(sim)
}

/// What a store is told in the course of an hour.
pub fn hour(i: u64) -> Batch {
    let channel = format!("channel {}", i % 7);
    let user = |i: u64| format!("user {}", i % 5);
    let noise: Vec<u8> = (1..60 + i * 13 % 200).map(|n| (((n * n + i) * 7919) >> 4) as u8).collect();
    let mut batch = Batch::new();
    batch
        .join_with(&channel, user(i), JoinOptions::new().history(HistoryFrom::Start).read(0))
        .join(&channel, user(i + 1))
        .append(&channel, Draft::new(user(i), 0, noise).id(i).members_only())
        .append(&channel, Draft::new(user(i + 2), 1, "a text that compresses".repeat(9)).client_id("c"))
        .append("general", Draft::new("nobody", 2, "psst").silent())
        .read(&channel, user(i + 1), i / 2);
    match i {
        36 => _ = batch.erase_user(user(i + 3)),
        39 => _ = batch.delete_user(user(i + 4)),
        _ => {}
    }
    match i % 5 {
        0 => batch.clear(&channel, user(i)),
        1 => batch.leave(&channel, user(i + 1)).annotate(&channel, 1, user(i), "x".repeat(i as usize % 40)),
        2 => batch.activate(&channel, user(i)).forget(&channel, user(i), i / 9, i / 8 + 1),
        3 => batch.hide(&channel, user(i + 1)).edit("general", 1 + i / 2, vec![i as u8; 60 * i as usize]),
        _ => {
            batch.attributes(&channel, user(i), vec![i as u8; 1020 + i as usize]).retract(&channel, 1 + i / 8)
        }
    };
    batch
}

/// Changes the file that the input chooses.
fn damage(sim: &Arc<SimEnv>, disk: &Disk, manifest: Manifest, input: &mut Input<'_>) -> Result<()> {
    let logs: Vec<PathBuf> = sim.files().into_iter().filter(|path| is_log(path)).collect();
    let (segments, runs) = (manifest.segments.len(), manifest.runs.len());
    let mut choice = input.below(1 + segments + runs + logs.len());
    if choice == 0 {
        return damage_manifest(sim, disk, &manifest, input);
    }
    choice -= 1;
    if choice < segments {
        return damage_sealed(sim, disk, manifest, Kind::Segment, choice, input);
    }
    choice -= segments;
    if choice < runs {
        return damage_sealed(sim, disk, manifest, Kind::Run, choice, input);
    }
    let oldest = (logs.len() - 1) as u64;
    damage_log(sim, disk, &manifest, manifest.first_log + oldest - (choice - runs) as u64, input)
}

fn is_log(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log-"))
}

fn damage_manifest(sim: &Arc<SimEnv>, disk: &Disk, manifest: &Manifest, input: &mut Input<'_>) -> Result<()> {
    let mut bytes = mutate(manifest.encode(), input);
    if bytes.len() >= 4 {
        put_crc(&mut bytes);
    }
    replace(sim, disk.path().join(manifest::NAME), bytes)
}

fn damage_sealed(
    sim: &Arc<SimEnv>,
    disk: &Disk,
    mut manifest: Manifest,
    kind: Kind,
    index: usize,
    input: &mut Input<'_>,
) -> Result<()> {
    let entries = if kind == Kind::Segment { &mut manifest.segments } else { &mut manifest.runs };
    let entry: &mut FileEntry = &mut entries[index];
    let file = Sealed::open(disk, kind, manifest.store, entry.id, entry.len)?;
    let content = file.bytes(HEADER as u64, (file.content_end() - HEADER as u64) as usize)?.to_vec();
    let footer = mutate(file.footer().to_vec(), input);
    let content = mutate(content, input);
    entry.len = write(disk, kind, manifest.store, entry.id, &content, &footer)?;
    replace(sim, disk.path().join(manifest::NAME), manifest.encode())
}

fn damage_log(
    sim: &Arc<SimEnv>,
    disk: &Disk,
    manifest: &Manifest,
    id: u64,
    input: &mut Input<'_>,
) -> Result<()> {
    let file = LogFile::open(disk, manifest.store, id, Access::Read)?;
    let mut bytes = file.read(0, LOG_HEADER as usize)?.to_vec();
    let choice = input.u8();
    if choice.is_multiple_of(8) {
        // From the session on, and the checksum.
        let fields = mutate(bytes[48..88].to_vec(), input);
        bytes[48..88].iter_mut().zip(fields).for_each(|(old, new)| *old = new);
        put_crc(&mut bytes[..96]);
    }
    let mut frames = Vec::new();
    log::scan(&file, &file.read_all()?, None, &mut |frame| {
        frames.push((frame.header, frame.body.to_vec()));
        Ok(())
    })?;
    let hit = input.below(frames.len());
    for (number, (mut header, mut body)) in frames.into_iter().enumerate() {
        if number == hit {
            damage_header(&mut header, choice, input);
            body = mutate(body, input);
        }
        let at = start_frame(&mut bytes);
        bytes.extend_from_slice(&body);
        finish_frame(&mut bytes, at, &file.binding, at as u64, &header);
    }
    bytes.resize(bytes.len().max(file.header.capacity as usize), 0);
    replace(sim, file.path.clone(), bytes)
}

fn damage_header(header: &mut FrameHeader, choice: u8, input: &mut Input<'_>) {
    match choice % 16 {
        1 => header.count = input.number() as u32,
        2 => header.first_version = input.number(),
        3 => header.durable = input.number(),
        5 => header.kind = FrameKind::Close,
        6 => header.kind = FrameKind::Next,
        _ => {}
    }
}

fn replace(sim: &Arc<SimEnv>, path: PathBuf, bytes: Vec<u8>) -> Result<()> {
    sim.write_file(&path, bytes).map_err(|e| Error::io("replace", &path, e))
}

/// What a store answers to every kind of question. A question that fails has no answer here.
#[derive(Debug, Default, PartialEq)]
pub struct Digest {
    channels: Vec<(Bytes, Channel)>,
    users: Vec<(Bytes, User)>,
}

#[derive(Debug, PartialEq)]
struct Channel {
    head: Option<Head>,
    history: Option<Vec<Message>>,
    annotations: Option<Vec<Annotation>>,
    changes: Option<Vec<MessageChange>>,
    members: Option<Vec<Bytes>>,
    rows: Option<Vec<MemberEntry>>,
}

#[derive(Debug, PartialEq)]
struct User {
    list: Option<Vec<Conversation>>,
    channels: Option<Vec<Bytes>>,
    rows: bool,
}

impl Digest {
    /// Asks everything, also what the digest does not keep.
    pub fn read(store: &Store) -> Digest {
        let mut channels = store.channels().list().unwrap_or_default();
        let mut users = store.users().list().unwrap_or_default();
        channels.truncate(NAMES);
        users.truncate(NAMES);
        let _ = store.stat();
        for channel in &channels {
            for user in &users {
                let membership = store.membership(channel, user);
                let _ = membership.map(|found| found.map(|row| row.cursor()));
                let _ = store.history(channel).seen_by(user).limit(3).list();
                let _ = store.forgotten(channel, user);
            }
        }
        let channel = |name: Bytes| (name.clone(), Channel::read(store, &name));
        let user = |name: Bytes| (name.clone(), User::read(store, &name));
        Digest {
            channels: channels.into_iter().map(channel).collect(),
            users: users.into_iter().map(user).collect(),
        }
    }
}

impl Channel {
    fn read(store: &Store, name: &Bytes) -> Channel {
        let history = store.history(name).list().ok();
        let reverse = store.history(name).reverse().list();
        if let (Some(up), Ok(mut down)) = (&history, reverse) {
            down.reverse();
            assert_eq!(*up, down);
        }
        let middle = history.as_ref().and_then(|found| found.get(found.len() / 2)).map(|message| message.seq);
        if let (Some(seq), Some(all)) = (middle, &history) {
            let mut from = all.clone();
            from.retain(|message| message.seq >= seq);
            if let Ok(found) = store.history(name).from(seq).list() {
                assert_eq!(found, from);
            }
        }
        let _ = store.history(name).last(2);
        let members = store.members(name).list().ok();
        let first = members.as_ref().and_then(|members| members.first());
        let _ = first.map(|first| store.members(name).after(first).limit(2).list());
        let rows = store.members(name).rows().ok();
        let annotations = store.annotations(name).list().ok();
        let last = annotations.as_ref().and_then(|annotations| annotations.last());
        let _ = last.map(|last| store.annotations(name).after(last.seq, &last.key).list());
        let changes = store.changes(name).list().ok();
        let _ = store.changes(name).since(9).limit(2).list();
        Channel { head: store.head(name).ok(), history, annotations, changes, members, rows }
    }
}

impl User {
    fn read(store: &Store, name: &Bytes) -> User {
        let list = store.conversations(name).list();
        let pages = User::pages(store, name);
        if let (Ok(list), Ok(pages)) = (&list, pages) {
            // A fault that strikes once is in one of the two.
            let whole = !list.entries.iter().chain(&pages).any(|entry| entry.fault.is_some());
            assert!(
                !whole || list.entries.len() > 99 || list.entries == pages,
                "{list:?}, by pages {pages:?}"
            );
        }
        let _ = store.conversations(name).unread_only().with_attributes().list();
        if let Ok(first) = store.conversations(name).limit(1).list() {
            User::follow(store, name, &first.as_of);
        }
        User {
            list: list.ok().map(|list| list.entries),
            channels: store.channels_of(name).list().ok(),
            rows: store.has_memberships(name).unwrap_or_default(),
        }
    }

    /// The list, page by page, as far as a hundred pages.
    fn pages(store: &Store, name: &Bytes) -> Result<Vec<Conversation>> {
        let mut entries = Vec::new();
        let mut next = None;
        for _ in 0..100 {
            let asked = store.conversations(name).limit(2);
            let page = match &next {
                Some(next) => asked.after(next).list()?,
                None => asked.list()?,
            };
            entries.extend(page.entries);
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        Ok(entries)
    }

    /// Follows a list that was cut until nothing is left to be told, which must be so after some steps.
    fn follow(store: &Store, name: &Bytes, token: &SyncToken) {
        let mut token = token.clone();
        for _ in 0..200 {
            let update = store.conversations(name).limit(1).since(&token);
            let Ok(Update::Changes { changes, as_of, .. }) = update else { return };
            if changes.is_empty() {
                return;
            }
            let told = changes
                .iter()
                .all(|change| matches!(change, ListChange::Entry(_) | ListChange::Removed { .. }));
            assert!(told);
            token = as_of;
        }
        panic!("an update never ends");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain that passes by the segment of a message would answer that it is not there.
    #[test]
    fn a_link_that_does_not_lead_to_its_message_is_told() {
        let sim = SimEnv::new(3);
        let store = open(&sim).unwrap();
        for _ in 0..3 {
            (0..5)
                .for_each(|_| drop(store.commit(Batch::new().append("c", Draft::new("u", 0, "x"))).unwrap()));
            store.seal().unwrap();
        }
        store.close().unwrap();
        drop(store);
        let disk = open_dir(&sim, DIR);
        let mut manifest = Manifest::load(&disk).unwrap().unwrap();
        let [oldest, middle, newest] = &mut manifest.segments[..] else { panic!("three were sealed") };
        let file = Sealed::open(&disk, Kind::Segment, manifest.store, newest.id, newest.len).unwrap();
        let len = (file.content_end() - HEADER as u64) as usize;
        let mut content = file.bytes(HEADER as u64, len).unwrap().to_vec();
        let footer = file.footer().to_vec();
        // In the only group of entries, after a number of one byte, the version of the message to which the link leads.
        let entries = u64::from_le_bytes(footer[24..32].try_into().unwrap()) as usize;
        let version = &mut content[entries - HEADER + 1];
        assert_eq!(u64::from(*version), middle.versions.1);
        *version = oldest.versions.1 as u8;
        newest.len = write(&disk, Kind::Segment, manifest.store, newest.id, &content, &footer).unwrap();
        replace(&sim, disk.path().join(manifest::NAME), manifest.encode()).unwrap();

        let store = open(&sim).unwrap();
        let told = |found: Result<Vec<Message>>| matches!(found, Err(Error::Corruption { .. }));
        assert!(told(store.history("c").from(7).limit(2).list()));
        assert!(told(store.history("c").reverse().list()));
        assert_eq!(store.history("c").from(12).list().unwrap().len(), 4);
    }
}
