//! Recovery against logs and manifests that contradict themselves behind right checksums.

use super::*;
use crate::env::SimEnv;
use crate::files::change::Change;
use crate::files::log::{FrameHeader, FrameKind, finish_frame, start_frame};
use crate::files::record::Record;
use crate::files::sealed::{Kind, Sealed, SealedWriter};
use crate::files::table::{self, HashKey, RunBuilder};
use crate::kernel::values;
use crate::model::batch::Batch;
use crate::model::blob::Blob;
use crate::model::head::{BUFFERED_WINDOW, HEADS, Head};
use crate::model::ids::{ChannelId, Named, UserId, VALUES};
use crate::model::image::{Image, Patch, Stored};
use crate::model::key::{Key, TableKey, UserChannel};
use crate::model::mark::Mark;
use crate::model::membership::{Membership, field};
use crate::model::message::Draft;

const DIR: &str = "/store";
const KEY: UserChannel = UserChannel { user: UserId(0), channel: ChannelId(0) };

fn message(seq: u64, ordinal: u64, version: u64) -> Change<'static> {
    let (channel, sender, mark) = (KEY.channel, KEY.user, Mark { seq, ordinal });
    let record = Record {
        channel,
        sender,
        mark,
        version,
        timestamp: 0,
        silent: false,
        id: None,
        client_id: None,
        unique_id: None,
        quiet: 0,
        fields: &[],
        payload: b"x",
    };
    Change::Message(record)
}

/// A change of the row under [`KEY`].
fn patch(patch: &Patch) -> Change<'_> {
    Change::Patch { table: Membership::TABLE, wide: false, key: KEY.raw(), fields: patch.bytes() }
}

fn options(sim: &Arc<SimEnv>) -> Options {
    Options::new().env(sim.clone()).log_segment(8 << 10).background(false)
}

fn name(named: Named, id: u32, name: &[u8]) -> Change<'_> {
    Change::Name { named, id, name }
}

/// Writes one commit of these changes to a log segment that is empty.
fn write(log: &LogFile, first_version: u64, changes: &[Change<'_>]) -> Result<()> {
    let mut bytes = Vec::new();
    let at = start_frame(&mut bytes);
    changes.iter().for_each(|change| change.encode(&mut bytes));
    let count = changes.len() as u32;
    let header = FrameHeader { kind: FrameKind::Commit, count, first_version, durable: HEADER };
    finish_frame(&mut bytes, at, &log.binding, HEADER, &header);
    log.write(&bytes, HEADER)
}

/// Makes a store whose log holds one commit of these changes after the names of one channel and one user.
fn made_with(changes: &[Change<'_>]) -> Result<Arc<SimEnv>> {
    let sim = SimEnv::new(1);
    let made = open(&options(&sim), Path::new(DIR))?;
    let names = [name(Named::Channel, 0, b"c"), name(Named::User, 0, b"u")];
    write(&made.start.log, 1, &[&names, changes].concat())?;
    Ok(sim)
}

fn open_with(changes: &[Change<'_>]) -> Result<Opened> {
    open(&options(&made_with(changes)?), Path::new(DIR))
}

/// A store that was sealed three times, and its manifest. Each run has a channel and a user of its own.
fn sealed_thrice() -> (Arc<SimEnv>, Disk, Manifest) {
    let sim = SimEnv::new(0);
    let store = options(&sim).open(DIR).unwrap();
    for text in ["one", "two", "three"] {
        store.commit(Batch::new().append(text, Draft::new(text, 0, text))).unwrap();
        store.seal().unwrap();
    }
    store.close().unwrap();
    drop(store);
    let disk = Disk::new(sim.open_dir(Path::new(DIR), false).unwrap());
    let manifest = Manifest::load(&disk).unwrap().unwrap();
    assert_eq!(manifest.runs.len(), 3);
    (sim, disk, manifest)
}

/// Writes a run again with another footer, behind right checksums.
fn hurt_footer(disk: &Disk, manifest: &Manifest, run: usize, change: impl FnOnce(&mut [u8])) {
    let entry = manifest.runs[run];
    let file = Sealed::open(disk, Kind::Run, manifest.store, entry.id, entry.len).unwrap();
    let start = crate::files::sealed::HEADER as u64;
    let content = file.bytes(start, (file.content_end() - start) as usize).unwrap().to_vec();
    let mut footer = file.footer().to_vec();
    change(&mut footer);
    let mut writer = SealedWriter::create(disk, Kind::Run, manifest.store, entry.id).unwrap();
    writer.write(&content).unwrap();
    assert_eq!(writer.finish(&footer).unwrap(), entry.len);
}

#[test]
fn changes_that_contradict_the_rules_are_corruption_in_spite_of_a_good_checksum() {
    let (zero, far) = (Mark::default(), Mark { seq: u64::MAX, ordinal: 0 });
    let join = |base, read| Patch::reset().set(field::base, base).set(field::read, read);
    let joined = join(zero, Mark { seq: 2, ordinal: 2 });
    let good = [message(1, 1, 1), message(2, 2, 2), patch(&joined)];
    assert!(open_with(&good).is_ok());
    let (empty, base, read) = (join(zero, zero), join(far, zero), join(zero, far));
    let reads = Patch::new().set(field::read, far);
    let (cleared, hidden) = (Patch::new().set(field::cleared, far), Patch::new().set(field::hidden, 1u64));
    let wrong_type = Patch::new().set(field::read, 7u64);
    let unknown_user =
        Change::Patch { table: 1, wide: false, key: Key { a: 1, b: 0, c: 0 }, fields: empty.bytes() };
    let unknown_table = Change::Patch { table: 30, wide: false, key: KEY.raw(), fields: empty.bytes() };
    let wide = Change::Patch { table: 1, wide: true, key: KEY.raw(), fields: empty.bytes() };
    let bad: [&[Change<'_>]; 14] = [
        &[message(2, 1, 1)],
        &[message(1, 1, 1), message(3, 2, 2)],
        &[message(u64::MAX, 1, 1)],
        &[message(1, 0, 1)],
        &[message(1, 1, 2)],
        &[patch(&base)],
        &[patch(&read)],
        &[patch(&empty), patch(&reads)],
        &[patch(&empty), patch(&cleared)],
        &[patch(&empty), patch(&hidden)],
        &[patch(&wrong_type)],
        &[unknown_user],
        &[unknown_table],
        &[wide],
    ];
    for changes in bad {
        let opened = open_with(changes).map(drop);
        assert!(matches!(opened, Err(Error::Corruption { .. })), "{changes:?}: {opened:?}");
    }
}

#[test]
fn a_loss_that_no_segment_follows_is_corruption() {
    let sim = SimEnv::new(0);
    let options = || Options::new().env(sim.clone()).background(false);
    let store = options().open("/store").unwrap();
    store.commit(Batch::new().append("general", Draft::new("alice", 0, "hi"))).unwrap();
    store.close().unwrap();
    let dir = Path::new("/store");
    for (version, channels, open) in [(0, 0, true), (0, 1, false), (1, 1, false), (u64::MAX, 1, false)] {
        let handle = Disk::new(sim.open_dir(dir, false).unwrap());
        let mut manifest = Manifest::load(&handle).unwrap().unwrap();
        manifest.losses = vec![Loss { version, channels, session: 5 }];
        assert!(manifest.store(&handle).is_ok());
        let opened = options().open(dir).map(drop);
        assert!(matches!(opened, Ok(()) | Err(Error::Corruption { .. })), "{opened:?}");
        assert_eq!(opened.is_ok(), open, "a loss after version {version}");
    }
}

#[test]
fn a_segment_whose_name_could_not_be_synced_is_named_again() {
    let made = SimEnv::new(0);
    let mut send = Batch::new();
    send.append("general", Draft::new("alice", 0, "hi"));
    let first = Options::new().env(made.clone()).background(false).open(DIR).unwrap();
    first.commit(&send).unwrap();
    first.close().unwrap();
    drop(first);
    for seals in [false, true] {
        let sim = made.fork(1);
        let options = || Options::new().env(sim.clone()).background(false);
        let store = options().open(DIR).unwrap();
        // The first one is the manifest's.
        sim.fail_nth(&[crate::env::Op::SyncDir], 2, std::io::ErrorKind::Other);
        assert!(matches!(store.commit(&send), Err(Error::Poisoned { .. })));
        sim.crash_after(0);
        drop(store);
        // The process ends, and the name is still in the page cache.
        sim.crash();
        let named = |path: &std::path::PathBuf| path.ends_with(log::name(2));
        assert!(sim.files().iter().any(named));
        let store = options().open(DIR).unwrap();
        match seals {
            true => assert!(store.maintain().unwrap()),
            false => drop(store.commit(&send).unwrap()),
        }
        sim.crash_after(0);
        drop(store);
        sim.power_loss_with(crate::env::PowerLoss::Drop);
        let store = options().open(DIR).unwrap();
        assert_eq!(store.head("general").unwrap().last.seq, if seals { 1 } else { 2 });
    }
}

/// Where the first ids of channels and of users stand in a run's footer, counted from its end.
const FIRST_CHANNEL: usize = 24;
const FIRST_USER: usize = 8;

fn put_id(footer: &mut [u8], from_end: usize, id: u32) {
    let at = footer.len() - from_end;
    footer[at..at + 4].copy_from_slice(&id.to_le_bytes());
}

#[test]
fn a_false_id_in_a_run_stops_a_writer_and_costs_a_reader_no_memory() {
    // The later ones would take 160 GB of heads, if the first one did not fail before.
    for (hurt, id) in [(2, 1 << 20), (1, 1 << 20), (2, u32::MAX - 1), (1, u32::MAX - 1)] {
        let (sim, disk, manifest) = sealed_thrice();
        hurt_footer(&disk, &manifest, hurt, |footer| put_id(footer, FIRST_CHANNEL, id));
        let refused = open(&options(&sim), Path::new(DIR)).map(drop);
        let run = disk.path().join(Kind::Run.name(manifest.runs[hurt].id));
        assert!(matches!(&refused, Err(Error::Corruption { file, .. }) if *file == run), "{refused:?}");
        let faults = crate::verify(DIR, &options(&sim)).unwrap().faults;
        assert!(!faults.is_empty());
        let reader = options(&sim).read_only(true).open(DIR).unwrap();
        assert!(reader.stat().unwrap().channels <= 3, "{}", reader.stat().unwrap().channels);
        for whole in ["one", if hurt == 1 { "three" } else { "two" }] {
            assert_eq!(reader.history(whole).list().unwrap()[0].payload, whole);
        }
    }
}

/// A log may name more than it has changes, so a run may too.
#[test]
fn a_run_with_more_names_than_changes_is_as_good_as_the_log_that_it_was_made_from() {
    let users: Vec<String> = (1..20).map(|id| format!("user {id}")).collect();
    let names = users.iter().zip(1..).map(|(user, id)| name(Named::User, id, user.as_bytes()));
    let channels = [name(Named::Channel, 1, b"d"), name(Named::Channel, 2, b"e")];
    let changes: Vec<_> = names.chain(channels).chain([message(1, 1, 1)]).collect();
    let sim = made_with(&changes).unwrap();
    let store = options(&sim).open(DIR).unwrap();
    store.seal().unwrap();
    assert_eq!(store.stat().unwrap().runs.count, 1);
    store.close().unwrap();
    drop(store);
    assert!(crate::verify(DIR, &options(&sim)).unwrap().faults.is_empty());
    for read_only in [false, true] {
        let store = options(&sim).read_only(read_only).open(DIR).unwrap();
        assert_eq!(store.users().list().unwrap().len(), 20);
        assert_eq!(store.channels().list().unwrap().len(), 3);
        assert_eq!(store.recovery().damaged, 0);
    }
}

/// What is counted on from a head stays below 2^64, as no version is above its run's last, and that is the manifest's.
#[test]
fn a_head_that_is_newer_than_any_store_gets_is_corruption() {
    let (sim, disk, mut manifest) = sealed_thrice();
    let entry = &mut manifest.runs[2];
    let mut pace = |_| Ok(());
    let mut run = RunBuilder::create(&disk, manifest.store, entry.id, manifest.key, &mut pace).unwrap();
    run.section(HEADS, false).unwrap();
    let head = Head { changed: u64::MAX, order: u64::MAX, ..Head::default() };
    let mut image = Vec::new();
    head.encode(&mut image);
    let key = Key { a: 2, ..Key::default() };
    run.put(table::RunEntry { key, tag: 0, version: u64::MAX, image: &image }).unwrap();
    run.channels(2, ["three"]).unwrap();
    run.users(2, ["three"]).unwrap();
    entry.len = run.finish((entry.versions.0, u64::MAX)).unwrap();
    let (path, losses) =
        (disk.path().join(Kind::Run.name(entry.id)), vec![Loss { version: 1, channels: 1, session: 5 }]);
    manifest.losses = losses;
    manifest.store(&disk).unwrap();
    let refused = open(&options(&sim), Path::new(DIR)).map(drop);
    assert!(matches!(&refused, Err(Error::Corruption { file, .. }) if *file == path), "{refused:?}");
    let reader = options(&sim).read_only(true).open(DIR).unwrap();
    assert_eq!(reader.history("one").list().unwrap().len(), 1);
}

/// A reader goes on without a loss that can't be. With it, a channel could have a gap within a layer, which finds messages
/// by their distance from its first one.
#[test]
fn a_loss_within_a_log_segment_makes_no_gap_for_a_reader() {
    let sim = made_with(&[message(1, 1, 1), message(2 + BUFFERED_WINDOW, 2, 2)]).unwrap();
    let disk = Disk::new(sim.open_dir(Path::new(DIR), false).unwrap());
    let mut manifest = Manifest::load(&disk).unwrap().unwrap();
    manifest.losses = vec![Loss { version: 1, channels: 1, session: 5 }];
    manifest.store(&disk).unwrap();
    assert!(open(&options(&sim), Path::new(DIR)).is_err());
    let reader = options(&sim).read_only(true).open(DIR).unwrap();
    assert_eq!(reader.recovery().damaged, 2);
    assert!(reader.history("c").list().unwrap().is_empty());
}

/// The last id is no name's: it stands for none.
#[test]
fn a_name_beyond_the_last_id_is_corruption() {
    let (sim, disk, manifest) = sealed_thrice();
    hurt_footer(&disk, &manifest, 2, |footer| put_id(footer, FIRST_USER, u32::MAX - 1));
    let log = LogFile::open(&disk, manifest.store, manifest.first_log, crate::env::Access::Read).unwrap();
    let header = Header { users: u32::MAX, ..log.header };
    let log = LogFile::create(&disk, manifest.store, header).unwrap();
    let version = header.base_version + 1;
    write(&log, version, &[name(Named::User, u32::MAX, b"v"), message(2, 2, version)]).unwrap();
    assert!(open(&options(&sim), Path::new(DIR)).is_err());
    let reader = options(&sim).read_only(true).open(DIR).unwrap();
    assert_eq!(reader.recovery().damaged, 2);
    assert_eq!(reader.history("one").list().unwrap().len(), 1);
}

const LONG: [u8; 1500] = [7; 1500];

/// Makes a store with a message `x` (version 1), a value (2), a member (3), another value (4), and the member's attributes in
/// the place that is told (5).
fn made_with_place(place: impl Fn(&HashKey) -> Stored) -> Arc<SimEnv> {
    let sim = made_with(&[]).unwrap();
    let disk = Disk::new(sim.open_dir(Path::new(DIR), false).unwrap());
    let manifest = Manifest::load(&disk).unwrap().unwrap();
    let log = LogFile::open(&disk, manifest.store, 1, crate::env::Access::Write).unwrap();
    let attributes = Blob::elsewhere(place(&manifest.key));
    let (join, set) = (Patch::reset(), Patch::new().set(field::attributes, attributes));
    let value = |version, bytes| Change::Message(values::record(version, 1, bytes));
    let names = [name(Named::Channel, 0, b"c"), name(Named::User, 0, b"u")];
    let (first, second) = (value(2, &LONG[..]), value(4, &[8; 1500][..]));
    write(&log, 1, &[&names[..], &[message(1, 1, 1), first, patch(&join), second, patch(&set)]].concat())
        .unwrap();
    sim
}

fn stored(version: u64, bytes: &[u8], key: &HashKey) -> Stored {
    Stored { version, len: bytes.len() as u32, hash: table::hash(key, bytes) }
}

/// The attributes in the log, sealed, and after reopening; the rest of the row must be there in any case.
fn attributes_wherever(sim: &Arc<SimEnv>) -> Vec<Result<Blob>> {
    let mut store = options(sim).open(DIR).unwrap();
    let mut found = Vec::new();
    for step in 0..3 {
        match step {
            1 => store.seal().unwrap(),
            2 => {
                store.close().unwrap();
                drop(store);
                assert!(crate::verify(DIR, &options(sim)).unwrap().faults.is_empty());
                store = options(sim).open(DIR).unwrap();
            }
            _ => {}
        }
        let row = store.membership("c", "u").map(|row| row.unwrap().attributes.clone());
        let entry = store.conversations("u").with_attributes().list().unwrap().entries.remove(0);
        assert_eq!((entry.fault.is_some(), entry.last_seq), (row.is_err(), 1));
        assert_eq!(store.members("c").rows().unwrap()[0].fault.is_some(), row.is_err());
        assert!(store.conversations("u").list().unwrap().entries[0].fault.is_none());
        found.push(row);
    }
    found
}

#[test]
fn a_place_leads_to_its_value_or_to_an_error() {
    let sim = made_with_place(|key| stored(2, &LONG, key));
    attributes_wherever(&sim).into_iter().for_each(|found| assert_eq!(found.unwrap(), LONG));
    let forged: [fn(&HashKey) -> Stored; 6] = [
        // A message, a change of a row, and what is somebody else's.
        |key| stored(1, b"x", key),
        |key| stored(3, &LONG, key),
        |key| stored(4, &LONG, key),
        |key| Stored { len: 1499, ..stored(2, &LONG, key) },
        |key| Stored { len: 16 << 20, ..stored(2, &LONG, key) },
        |key| Stored { hash: 0, ..stored(2, &LONG, key) },
    ];
    for (number, place) in forged.into_iter().enumerate() {
        for found in attributes_wherever(&made_with_place(place)) {
            assert!(matches!(found, Err(Error::Corruption { .. })), "{number}: {found:?}");
        }
    }
}

#[test]
fn a_place_that_is_not_older_than_its_row_is_corruption() {
    for version in [5, 6, u64::MAX] {
        let sim = made_with_place(|key| stored(version, &LONG, key));
        assert!(matches!(options(&sim).open(DIR), Err(Error::Corruption { .. })));
        let reader = options(&sim).read_only(true).open(DIR).unwrap();
        assert_eq!(reader.recovery().damaged, 1);
    }
}

/// No name leads to the channel of values, and nothing but values stands in it.
#[test]
fn a_record_in_the_channel_of_values_is_a_value_or_corruption() {
    let value = values::record(1, 1, &LONG);
    assert!(open_with(&[Change::Message(value)]).is_ok());
    let mark = Mark { seq: 1, ordinal: 0 };
    for bad in [
        Record { version: 2, ..value },
        Record { sender: UserId(1), ..value },
        Record { mark, silent: true, ..value },
        Record { mark: Mark { seq: 2, ordinal: 2 }, ..value },
        Record { id: Some(1), ..value },
        Record { client_id: Some(b"c"), ..value },
        Record { fields: b"f", ..value },
        Record { quiet: 1, ..value },
        Record { channel: ChannelId(VALUES.0 - 1), ..value },
        Record { channel: ChannelId(u32::MAX), ..value },
    ] {
        let opened = open_with(&[Change::Message(bad)]).map(drop);
        assert!(matches!(opened, Err(Error::Corruption { .. })), "{bad:?}: {opened:?}");
    }
    let key = UserChannel { channel: VALUES, ..KEY };
    let join = Patch::reset();
    let row = Change::Patch { table: Membership::TABLE, wide: false, key: key.raw(), fields: join.bytes() };
    assert!(open_with(&[row]).is_err());
}

#[test]
fn a_value_whose_file_is_gone_is_the_fault_of_its_entry() {
    let made = made_with_place(|key| stored(2, &LONG, key));
    let store = options(&made).open(DIR).unwrap();
    store.seal().unwrap();
    store.close().unwrap();
    drop(store);
    for unnamed in [false, true] {
        let sim = made.fork(1);
        let disk = Disk::new(sim.open_dir(Path::new(DIR), false).unwrap());
        let mut manifest = Manifest::load(&disk).unwrap().unwrap();
        match unnamed {
            // Nothing covers its version.
            true => {
                manifest.segments.clear();
                manifest.store(&disk).unwrap();
            }
            false => {
                sim.write_file(disk.path().join(Kind::Segment.name(manifest.segments[0].id)), vec![]).unwrap()
            }
        }
        let reader = options(&sim).read_only(true).open(DIR).unwrap();
        assert!(matches!(reader.membership("c", "u"), Err(Error::Corruption { .. })));
        let entry = reader.members("c").rows().unwrap().remove(0);
        assert_eq!((entry.membership.attributes.len(), entry.membership.attributes.bytes()), (1500, None));
        assert!(entry.fault.is_some());
    }
}
