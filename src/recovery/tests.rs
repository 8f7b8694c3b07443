//! Recovery against logs and manifests that contradict themselves behind right checksums.

use super::*;
use crate::batch::{Batch, Draft};
use crate::change::{Change, Key};
use crate::env::SimEnv;
use crate::record::Record;
use crate::types::{ChannelId, Mark, UserId};

const DIR: &str = "/store";
const KEY: Key = Key { user: UserId(0), channel: ChannelId(0) };

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
        payload: b"x",
    };
    Change::Message(record)
}

/// Opens a store whose log holds one commit of these changes behind the names of one channel and one user.
fn open_with(changes: &[Change<'_>]) -> Result<Opened> {
    let sim = SimEnv::new(1);
    let options = Options::new().env(sim.clone()).log_segment(8 << 10).background(false);
    let made = open(&options, Path::new(DIR))?;
    let mut bytes = Vec::new();
    let at = start_frame(&mut bytes);
    let names = [Change::NameChannel(b"c"), Change::NameUser(b"u")];
    names.iter().chain(changes).for_each(|change| change.encode(&mut bytes));
    let count = (names.len() + changes.len()) as u32;
    let header =
        FrameHeader { kind: FrameKind::Commit, buffered: false, count, first_version: 1, durable: HEADER };
    finish_frame(&mut bytes, at, &made.log.binding, HEADER, &header);
    made.log.write(&bytes, HEADER)?;
    drop(made);
    open(&options, Path::new(DIR))
}

#[test]
fn changes_that_contradict_the_rules_are_corruption_behind_a_good_checksum() {
    let zero = Mark::default();
    let far = Mark { seq: u64::MAX, ordinal: 0 };
    let join = |base, read| Change::Join { key: KEY, base, read };
    let good = [message(1, 1, 1), message(2, 2, 2), join(zero, Mark { seq: 2, ordinal: 2 })];
    assert!(open_with(&good).is_ok());
    let bad: [&[Change<'_>]; 9] = [
        &[message(2, 1, 1)],
        &[message(1, 1, 1), message(3, 2, 2)],
        &[message(u64::MAX, 1, 1)],
        &[message(1, 0, 1)],
        &[message(1, 1, 2)],
        &[join(far, zero)],
        &[join(zero, far)],
        &[join(zero, zero), Change::Read { key: KEY, mark: far }],
        &[join(zero, zero), Change::Hide { key: KEY, mark: far }],
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
        let mut manifest = Manifest::load(&*sim, dir).unwrap().unwrap();
        manifest.losses = vec![Loss { version, channels }];
        assert!(manifest.store(&*sim, dir).is_ok());
        let opened = options().open(dir).map(drop);
        assert!(matches!(opened, Ok(()) | Err(Error::Corruption { .. })), "{opened:?}");
        assert_eq!(opened.is_ok(), open, "a loss behind version {version}");
    }
}
