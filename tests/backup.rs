//! Backups: what they hold, what they leave alone, and what a crash leaves of them.

#![cfg(feature = "sim")]

mod model;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use chanlog::env::{Env, Op as Disk, SimEnv};
use chanlog::{Batch, Draft, ErasedPart, Error, Options, Store, Update};
use model::{Model, Op, Post, batch, check};

const STORE: &str = "/store";
const BACKUP: &str = "/backup";

fn options(sim: &Arc<SimEnv>) -> Options {
    Options::new().env(sim.clone()).background(false).log_segment(64 << 10)
}

/// A day's operations; `day` makes them differ.
fn day(day: u64) -> Vec<Op> {
    let (channel, user) = (format!("channel {}", day % 3).into_bytes(), format!("user {day}").into_bytes());
    let post = Post {
        sender: user.clone(),
        timestamp: day as i64,
        silent: false,
        id: None,
        client_id: None,
        unique_id: None,
        payload: vec![day as u8; 300].into(),
        members_only: false,
        ..Post::default()
    };
    vec![
        Op::Join {
            channel: channel.clone(),
            user: user.clone(),
            visible: Default::default(),
            read: None,
            role: None,
        },
        Op::Append { channel: channel.clone(), post },
        Op::Class { channel: channel.clone(), class: day as u8 % 4 },
        Op::Read { channel, user, seq: u64::MAX },
    ]
}

fn live(store: &Store, model: &mut Model, days: std::ops::Range<u64>) {
    for n in days {
        let ops = day(n);
        store.commit(&batch(&ops, chanlog::Durability::Sync)).unwrap();
        model.apply(&ops).unwrap();
    }
}

fn holds(sim: &Arc<SimEnv>, dir: &str, model: &Model) {
    let store = options(sim).read_only(true).open(dir).unwrap();
    check::everything(&store, model);
    assert_eq!(chanlog::verify(dir, &options(sim)).unwrap().faults.len(), 0);
}

#[test]
fn a_backup_is_the_store_of_that_moment() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(STORE).unwrap();
    let mut model = Model::default();
    live(&store, &mut model, 0..20);
    let first = store.backup(BACKUP).unwrap();
    assert_eq!((first.version, first.kept, first.copied), (model.version(), 0, 0));
    let then = model.clone();
    live(&store, &mut model, 20..30);
    holds(&sim, BACKUP, &then);
    check::everything(&store, &model);
    // Of the moment, whatever the store does with its files later.
    while store.maintain().unwrap() {}
    holds(&sim, BACKUP, &then);
}

#[test]
fn a_later_backup_adds_what_is_new_and_drops_what_is_not_named_any_more() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(STORE).unwrap();
    let mut model = Model::default();
    live(&store, &mut model, 0..5);
    let first = store.backup(BACKUP).unwrap();
    let second = store.backup(BACKUP).unwrap();
    assert_eq!((second.linked, second.kept), (0, first.linked), "nothing changed");
    for n in 1..6 {
        live(&store, &mut model, 5 * n..5 * n + 5);
        store.backup(BACKUP).unwrap();
        holds(&sim, BACKUP, &model);
    }
    while store.maintain().unwrap() {}
    let last = store.backup(BACKUP).unwrap();
    holds(&sim, BACKUP, &model);
    let files = sim.files().iter().filter(|path| path.starts_with(BACKUP)).count() as u64;
    assert_eq!(files, last.linked + last.kept + 1, "sealed files and the manifest");
}

#[test]
fn tokens_from_before_a_backup_are_good_in_it_and_later_ones_are_not() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(STORE).unwrap();
    let mut model = Model::default();
    live(&store, &mut model, 0..3);
    let before = store.conversations("user 0").list().unwrap().as_of;
    live(&store, &mut model, 3..6);
    store.backup(BACKUP).unwrap();
    live(&store, &mut model, 6..9);
    let after = store.conversations("user 0").list().unwrap().as_of;
    let copy = options(&sim).open(BACKUP).unwrap();
    let told = copy.conversations("user 0").since(&before).unwrap();
    assert!(matches!(told, Update::Changes { changes, .. } if changes.len() == 1));
    assert_eq!(copy.conversations("user 0").since(&after).unwrap(), Update::Reset);
    // Each goes on for itself: what one gave a version is nothing to the other.
    copy.commit(Batch::new().append("channel 0", Draft::new("eve", 0, "elsewhere"))).unwrap();
    let elsewhere = copy.conversations("user 0").list().unwrap().as_of;
    assert_eq!(store.conversations("user 0").since(&elsewhere).unwrap(), Update::Reset);
    check::everything(&store, &model);
}

#[test]
fn a_file_of_the_same_length_and_other_bytes_is_no_part_of_an_earlier_backup() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(STORE).unwrap();
    let mut model = Model::default();
    live(&store, &mut model, 0..5);
    store.backup(BACKUP).unwrap();
    let sealed =
        |path: &std::path::PathBuf| path.starts_with(BACKUP) && path.to_string_lossy().contains("seg-");
    let part = sim.files().into_iter().find(sealed).unwrap();
    let bytes = sim.read_file(&part).unwrap();
    // Another file under that name: the store's own stays as it is.
    sim.open_dir(BACKUP.as_ref(), false)
        .unwrap()
        .remove(part.file_name().unwrap().to_str().unwrap())
        .unwrap();
    sim.write_file(&part, vec![7; bytes.len()]).unwrap();
    store.backup(BACKUP).unwrap();
    assert!(sim.read_file(&part).unwrap() == bytes);
    check::everything(&options(&sim).open(BACKUP).unwrap(), &model);
}

#[test]
fn what_is_no_backup_of_this_store_is_left_alone() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(STORE).unwrap();
    let mut model = Model::default();
    live(&store, &mut model, 0..5);
    let invalid = |error: Error| matches!(error, Error::InvalidArgument { .. });
    assert!(matches!(store.backup(STORE), Err(Error::Locked { .. })));
    sim.write_file("/other/file", "not ours").unwrap();
    assert!(matches!(store.backup("/other"), Err(Error::NotAStore { .. })));
    options(&sim).open("/second").unwrap().close().unwrap();
    assert!(invalid(store.backup("/second").unwrap_err()));
    store.backup(BACKUP).unwrap();
    let copy = options(&sim).open(BACKUP).unwrap();
    assert!(matches!(store.backup(BACKUP), Err(Error::Locked { .. })));
    copy.commit(Batch::new().append("channel 0", Draft::new("eve", 0, "precious"))).unwrap();
    copy.close().unwrap();
    assert!(invalid(store.backup(BACKUP).unwrap_err()));
    let copy = options(&sim).open(BACKUP).unwrap();
    assert_eq!(copy.history("channel 0").last(1).unwrap()[0].payload, "precious");
    copy.seal().unwrap();
    copy.close().unwrap();
    assert!(invalid(store.backup(BACKUP).unwrap_err()));
    check::everything(&store, &model);
}

#[test]
fn without_links_files_are_copied() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(STORE).unwrap();
    let mut model = Model::default();
    live(&store, &mut model, 0..20);
    sim.fail_nth(&[Disk::Link], 1, ErrorKind::CrossesDevices);
    let backup = store.backup(BACKUP).unwrap();
    assert_eq!(backup.copied, 1);
    holds(&sim, BACKUP, &model);
    assert_eq!(store.backup(BACKUP).unwrap().kept, backup.copied + backup.linked, "a copy counts as there");
}

/// What a directory holds: one of the models, or, if `none` is allowed, no store.
fn holds_one_of(sim: &Arc<SimEnv>, models: &[&Model], none: bool, at: u64) {
    let store = match options(sim).read_only(true).open(BACKUP) {
        Err(Error::NotAStore { .. }) if none => return,
        opened => opened.unwrap_or_else(|e| panic!("after {at} operations: {e}")),
    };
    let version = store.stat().unwrap().version;
    let model = models.iter().find(|model| model.version() == version);
    check::everything(&store, model.unwrap_or_else(|| panic!("version {version} after {at} operations")));
}

#[test]
fn a_crash_at_any_operation_leaves_the_earlier_backup_or_the_new_one() {
    for earlier in [false, true] {
        for cut in 0.. {
            let sim = SimEnv::new(7 + cut);
            let store = options(&sim).open(STORE).unwrap();
            let mut model = Model::default();
            live(&store, &mut model, 0..6);
            if earlier {
                store.backup(BACKUP).unwrap();
            }
            let before = model.clone();
            live(&store, &mut model, 6..9);
            sim.crash_after(cut);
            let done = store.backup(BACKUP).is_ok();
            drop(store);
            if cut % 2 == 0 {
                sim.crash()
            } else {
                sim.power_loss()
            }
            holds_one_of(&sim, &[&before, &model], !earlier, cut);
            // The store is whole, and the next backup is too.
            let store = options(&sim).open(STORE).unwrap();
            check::everything(&store, &model);
            if earlier {
                store.backup(BACKUP).unwrap();
                holds(&sim, BACKUP, &model);
            }
            if done {
                break;
            }
        }
    }
}

#[test]
fn a_failed_operation_leaves_the_store_as_it_was() {
    for op in [Disk::Create, Disk::Write, Disk::Sync, Disk::SyncDir, Disk::Rename, Disk::Remove, Disk::List] {
        let sim = SimEnv::new(3);
        let store = options(&sim).open(STORE).unwrap();
        let mut model = Model::default();
        live(&store, &mut model, 0..6);
        store.seal().unwrap();
        store.backup(BACKUP).unwrap();
        for nth in 1..12 {
            live(&store, &mut model, 6 + nth..7 + nth);
            // Else the fault would strike the log.
            store.seal().unwrap();
            let before = model.clone();
            sim.fail_nth(&[op], nth, ErrorKind::Other);
            let backup = store.backup(BACKUP);
            sim.clear_faults();
            check::everything(&store, &model);
            if backup.is_ok() {
                holds(&sim, BACKUP, &before);
            }
        }
        store.backup(BACKUP).unwrap();
        holds(&sim, BACKUP, &model);
    }
}

#[test]
fn writers_go_on_beside_a_backup() {
    let dir = tempfile::tempdir().unwrap();
    let (path, backup) = (dir.path().join("store"), dir.path().join("backup"));
    let store = Options::new().log_segment(256 << 10).open(&path).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..400i64 {
                    let draft = Draft::new(format!("user {writer}"), n, vec![b'x'; 500]);
                    store.commit(Batch::new().append("general", draft)).unwrap();
                }
            });
        }
        for _ in 0..8 {
            let before = store.head("general").unwrap().last.seq;
            store.backup(&backup).unwrap();
            let after = store.head("general").unwrap().last.seq;
            let copy = Options::new().read_only(true).open(&backup).unwrap();
            let seqs: Vec<u64> = copy.history("general").list().unwrap().iter().map(|m| m.seq).collect();
            assert!((before..=after).contains(&(seqs.len() as u64)));
            assert!(seqs.iter().zip(1..).all(|(seq, expected)| *seq == expected));
        }
    });
    assert!(Path::new(&backup).join("chanlog.manifest").exists());
}

#[test]
fn what_was_erased_since_is_erased_again_in_a_copy_from_before() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(STORE).unwrap();
    let post = |batch: &mut Batch, channel: &str, text: &str| {
        batch.append(channel, Draft::new("ana", 0, text.to_owned()));
    };
    let mut batch = Batch::new();
    for text in ["before", "secret-erased", "secret-edited", "kept"] {
        post(&mut batch, "c", text);
    }
    batch.edit("c", 3, "secret-again").erase("c", 1);
    for text in ["secret-trimmed", "rest"] {
        post(&mut batch, "t", text);
    }
    post(&mut batch, "gone", "secret-gone");
    post(&mut batch, "again", "secret-first");
    for (sender, text) in [("eve", "secret-of eve"), ("dan", "of dan"), ("zoe", "secret-of zoe")] {
        batch.append("u", Draft::new(sender, 0, text));
    }
    batch.join("u", "dan");
    store.commit(&batch).unwrap();
    let backup = store.backup(BACKUP).unwrap();
    let mut batch = Batch::new();
    batch.erase_user("eve").delete_user("dan").join("u", "dan").erase_user("zoe").delete_user("zoe");
    batch.erase("c", 2).erase("c", 3).trim("t", 1).delete_channel("gone").delete_channel("again");
    post(&mut batch, "again", "second");
    post(&mut batch, "new", "later");
    batch.erase("again", 1).erase("new", 1).delete_channel("new");
    store.commit(&batch).unwrap();
    for sealed in [false, true] {
        if sealed {
            store.seal().unwrap();
            store.erase_now().unwrap();
        }
        let told: Vec<_> = store.view().unwrap().erasures(backup.version).map(Result::unwrap).collect();
        let parts: Vec<_> = told.iter().map(|erasure| (&erasure.name[..], erasure.part)).collect();
        let expected = [
            (&b"c"[..], ErasedPart::Message(2)),
            (b"c", ErasedPart::Message(3)),
            (b"t", ErasedPart::UpTo(1)),
            (b"gone", ErasedPart::Channel),
            (b"again", ErasedPart::Channel),
            (b"again", ErasedPart::Message(1)),
            (b"new", ErasedPart::Channel),
            (b"eve", ErasedPart::Sent),
            (b"dan", ErasedPart::User),
            (b"zoe", ErasedPart::Sent),
            (b"zoe", ErasedPart::User),
        ];
        assert_eq!(parts, expected);
    }
    let told: Vec<_> = store.view().unwrap().erasures(backup.version).map(Result::unwrap).collect();
    assert_eq!(store.view().unwrap().erasures(store.version().unwrap()).count(), 0);
    let copy = options(&sim).open(BACKUP).unwrap();
    let again = copy.erase_again(&told).unwrap();
    assert_eq!((again.done, again.needless), (9, 2));
    let of_users = copy.history("u").list().unwrap();
    let of_users: Vec<_> =
        of_users.iter().map(|message| (&message.sender[..], &message.payload[..])).collect();
    assert_eq!(of_users, [(&b"eve"[..], &b""[..]), (b"", b"of dan"), (b"", b"")]);
    assert_eq!(copy.membership("u", "dan").unwrap(), None);
    let payloads: Vec<_> =
        copy.history("c").list().unwrap().into_iter().map(|message| message.payload).collect();
    assert_eq!(payloads, ["", "", "", "kept"]);
    assert_eq!(copy.history("t").list().unwrap().len(), 1);
    assert!(!copy.has_channel("gone").unwrap() && !copy.has_channel("again").unwrap());
    copy.close().unwrap();
    for path in sim.files().into_iter().filter(|path| path.starts_with(BACKUP)) {
        let bytes = sim.read_file(&path).unwrap();
        assert!(!bytes.windows(7).any(|part| part == b"secret-"), "{} holds what was erased", path.display());
    }
    // Again, there is nothing to do, but for what eve may have sent meanwhile.
    let copy = options(&sim).open(BACKUP).unwrap();
    assert_eq!(copy.erase_again(&told).unwrap().done, 1);
    // In another store the same number is another channel.
    let other = options(&sim).open("/other").unwrap();
    other.commit(Batch::new().append("x", Draft::new("ana", 0, "mine"))).unwrap();
    assert!(matches!(other.erase_again(&told), Err(Error::InvalidArgument { .. })));
    assert_eq!(other.history("x").list().unwrap()[0].payload, "mine");
}
