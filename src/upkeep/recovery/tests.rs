//! Recovery against logs and manifests that contradict themselves behind right checksums.

use super::*;
use crate::env::SimEnv;
use crate::files::change::Change;
use crate::files::log::{FrameHeader, FrameKind, finish_frame, start_frame};
use crate::files::record::Record;
use crate::model::batch::Batch;
use crate::model::ids::{ChannelId, Named, UserId};
use crate::model::image::{Image, Patch};
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
        fields: &[],
        payload: b"x",
    };
    Change::Message(record)
}

/// A change of the row under [`KEY`].
fn patch(patch: &Patch) -> Change<'_> {
    Change::Patch { table: Membership::TABLE, wide: false, key: KEY.raw(), fields: patch.bytes() }
}

/// Opens a store whose log holds one commit of these changes after the names of one channel and one user.
fn open_with(changes: &[Change<'_>]) -> Result<Opened> {
    let sim = SimEnv::new(1);
    let options = Options::new().env(sim.clone()).log_segment(8 << 10).background(false);
    let made = open(&options, Path::new(DIR))?;
    let mut bytes = Vec::new();
    let at = start_frame(&mut bytes);
    let name = |named, name| Change::Name { named, id: 0, name };
    let names = [name(Named::Channel, b"c"), name(Named::User, b"u")];
    names.iter().chain(changes).for_each(|change| change.encode(&mut bytes));
    let count = (names.len() + changes.len()) as u32;
    let header = FrameHeader { kind: FrameKind::Commit, count, first_version: 1, durable: HEADER };
    finish_frame(&mut bytes, at, &made.start.log.binding, HEADER, &header);
    made.start.log.write(&bytes, HEADER)?;
    drop(made);
    open(&options, Path::new(DIR))
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
        sim.power_loss_with(crate::env::Loss::Drop);
        let store = options().open(DIR).unwrap();
        assert_eq!(store.head("general").unwrap().last.seq, if seals { 1 } else { 2 });
    }
}
