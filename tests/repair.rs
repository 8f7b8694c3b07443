//! Repair: each file of a small store in turn is hurt, cut or gone. What is whole is saved, what is missing is told, nothing is
//! invented, and the damaged store stays as it is.

#![cfg(unix)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use chanlog::{Batch, Draft, Error, Fact, MessageFact, Options, Repair, Store, repair};

type Files = BTreeMap<String, Vec<u8>>;

/// Where the frames of a log segment begin.
const FRAMES: usize = 4096;
const PAGE: usize = 4096;

fn options() -> Options {
    Options::new().log_segment(64 << 10).unsealed(100).background(false)
}

fn read(dir: &Path) -> Files {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().into(), fs::read(path).unwrap())).collect()
}

fn write(dir: &Path, files: &Files) {
    fs::create_dir(dir).unwrap();
    files.iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).unwrap());
}

/// Some hours of life in four channels.
fn hours(store: &Store, hours: std::ops::Range<u64>) {
    for i in hours {
        let (channel, user) = (format!("channel {}", i % 4), format!("user {}", i % 7));
        let mut batch = Batch::new();
        batch.join(&channel, &user);
        batch.append(
            &channel,
            Draft::new(&user, i as i64, noise(i, 300 + i % 5 * 400)).client_id(format!("id {i}")),
        );
        match i % 8 {
            1 => batch.attributes(&channel, &user, noise(i, 2000)),
            2 => batch.read(&channel, &user, u64::MAX),
            3 if i > 8 => batch.erase(&channel, i / 8),
            4 if i > 8 => batch.edit(&channel, i / 8 + 1, noise(i, 1500)),
            5 => batch.annotate(&channel, 1, &user, ":)"),
            6 if i > 16 => batch.leave(&channel, format!("user {}", (i + 3) % 7)),
            _ => &mut batch,
        };
        store.commit(&batch).unwrap();
    }
}

/// Bytes that don't compress.
fn noise(seed: u64, len: u64) -> Vec<u8> {
    (0..len)
        .map(|n| ((seed + 1).wrapping_mul(n + 7).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8)
        .collect()
}

/// A store with two sealed files of each kind and a log, that was closed.
fn example() -> Files {
    let dir = tempfile::tempdir().unwrap();
    let store = options().open(dir.path()).unwrap();
    hours(&store, 0..40);
    store.seal().unwrap();
    hours(&store, 40..80);
    store.seal().unwrap();
    hours(&store, 80..100);
    store.close().unwrap();
    read(dir.path())
}

fn facts(dir: &Path) -> Vec<Fact> {
    let store = options().read_only(true).open(dir).unwrap();
    store.view().unwrap().export().map(Result::unwrap).collect()
}

fn messages(facts: &[Fact]) -> BTreeMap<(u32, u64), MessageFact> {
    let message = |fact: &Fact| match fact {
        Fact::Message(message) => Some(((message.channel_id, message.mark.seq), message.clone())),
        _ => None,
    };
    facts.iter().filter_map(message).collect()
}

/// What became of damaged files.
struct Saved {
    repair: Repair,
    facts: Vec<Fact>,
    messages: BTreeMap<(u32, u64), MessageFact>,
}

/// Repairs a store of these files, and checks what is true of any repair. `whole` is what the store told before.
fn saved(files: &Files, whole: &[Fact], what: &str) -> Saved {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    write(&from, files);
    let repair = repair(&from, &to, &options()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(read(&from) == *files, "{what}: the damaged store was changed");
    assert_eq!(chanlog::verify(&to, &options()).unwrap().faults.len(), 0, "{what}");
    let facts = facts(&to);
    let (before, after) = (messages(whole), messages(&facts));
    let hides = |seen: &MessageFact| MessageFact { channel: "".into(), sender: "".into(), ..seen.clone() };
    for (place, message) in &after {
        let was = before.get(place).unwrap_or_else(|| panic!("{what}: message {place:?} was invented"));
        let same = |payload: &bytes::Bytes| {
            hides(&MessageFact { payload: payload.clone(), ..was.clone() }) == hides(message)
        };
        // Where the erasure itself is lost, the message is not erased.
        let other = message.payload.is_empty() || was.payload.is_empty() && !repair.commits.is_empty();
        assert!(same(&was.payload) || other && same(&message.payload), "{what}: {place:?}");
    }
    let told = |channel: u32, seq: u64| {
        let names = [format!("channel {channel}"), format!("lost channel {channel}")];
        let covers = |range: &chanlog::MissingMessages| {
            names.iter().any(|name| range.channel == *name) && (range.from..=range.to).contains(&seq)
        };
        repair.messages.iter().any(covers)
    };
    for place in before.keys().filter(|place| !after.contains_key(place)) {
        // The end of a channel is not known if both its head and its messages are gone.
        let later = after.keys().any(|other| other.0 == place.0 && other.1 > place.1);
        assert!(
            told(place.0, place.1) || !later,
            "{what}: message {place:?} is missing and not told: {repair:?}"
        );
    }
    for range in &repair.messages {
        let there =
            |place: &&(u32, u64)| told(place.0, place.1) && (range.from..=range.to).contains(&place.1);
        assert_eq!(after.keys().find(there), None, "{what}: told to be missing");
    }
    let store = options().open(&to).unwrap();
    for n in 0..4 {
        let channel = format!("channel {n}");
        let last = before.keys().filter(|place| place.0 == n).map(|place| place.1).max().unwrap();
        let receipt = store.commit(Batch::new().append(&channel, Draft::new("eve", 0, "on"))).unwrap();
        let known = !repair.names.iter().any(|name| name.channel);
        assert!(!known || receipt.outcomes()[0].seq().unwrap() > last, "{what}: a seq was given twice");
        store.conversations(format!("user {n}")).list().unwrap();
        let listed = store.history(&channel).list();
        assert!(listed.is_ok() || !repair.values.is_empty(), "{what}: {listed:?}");
    }
    Saved { repair, messages: after, facts }
}

fn rows(facts: &[Fact]) -> Vec<&Fact> {
    facts.iter().filter(|fact| matches!(fact, Fact::Row(row) if row.table != 0)).collect()
}

fn named<'f>(files: &'f Files, prefix: &str) -> Vec<&'f String> {
    files.keys().filter(|name| name.starts_with(prefix)).collect()
}

fn whole(files: &Files) -> Vec<Fact> {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("whole"), files);
    facts(&dir.path().join("whole"))
}

#[test]
fn a_sound_store_is_saved_whole() {
    let files = example();
    let told = whole(&files);
    let saved = saved(&files, &told, "sound");
    assert!(saved.repair.is_whole(), "{:?}", saved.repair);
    assert!(saved.facts == told);
}

#[test]
fn a_message_segment_that_is_hurt_costs_what_lies_there() {
    let files = example();
    let told = whole(&files);
    let all = messages(&told);
    for name in named(&files, "seg-") {
        let mut gone = files.clone();
        let bytes = gone.remove(name).unwrap();
        let left = saved(&gone, &told, &format!("{name} removed"));
        assert!(
            left.messages.len() < all.len() && left.messages.len() >= all.len() / 2,
            "{}",
            left.messages.len()
        );
        assert_eq!(rows(&left.facts), rows(&told));
        for page in 0..bytes.len() / PAGE {
            let mut hurt = files.clone();
            hurt.get_mut(name).unwrap()[page * PAGE + 1000] ^= 1;
            let what = format!("{name}, page {page}");
            let some = saved(&hurt, &told, &what);
            assert!(left.messages.keys().all(|place| some.messages.contains_key(place)), "{what}");
            // A page holds few of these messages, unless it is one of the directory.
            assert!(some.messages.len() > left.messages.len() || page + 1 >= bytes.len() / PAGE, "{what}");
            assert_eq!(rows(&some.facts), rows(&told), "{what}");
            assert!(!some.repair.faults.is_empty(), "{what}");
        }
        for len in [0, 100, bytes.len() / 2, bytes.len() - 1] {
            let mut cut = files.clone();
            cut.get_mut(name).unwrap().truncate(len);
            let some = saved(&cut, &told, &format!("{name} cut to {len}"));
            assert_eq!(some.messages.len(), left.messages.len());
        }
    }
}

#[test]
fn a_run_that_is_hurt_costs_no_message() {
    let files = example();
    let told = whole(&files);
    let all: BTreeSet<_> = messages(&told).into_keys().collect();
    for name in named(&files, "run-") {
        let bytes = &files[name];
        let mut cases = vec![(format!("{name} removed"), None)];
        for len in [0, 100, bytes.len() / 2, bytes.len() - 1] {
            cases.push((format!("{name} cut to {len}"), Some(bytes[..len].to_vec())));
        }
        for page in 0..bytes.len() / PAGE {
            let mut hurt = bytes.clone();
            hurt[page * PAGE + 1000] ^= 1;
            cases.push((format!("{name}, page {page}"), Some(hurt)));
        }
        for (what, bytes) in cases {
            let mut hurt = files.clone();
            hurt.remove(name);
            hurt.extend(bytes.map(|bytes| (name.clone(), bytes)));
            let some = saved(&hurt, &told, &what);
            assert!(
                some.messages.keys().copied().collect::<BTreeSet<_>>() == all,
                "{what}: {:?}",
                some.repair
            );
            assert!(!some.repair.faults.is_empty(), "{what}");
            let same = rows(&some.facts) == rows(&told);
            assert!(same || !some.repair.rows.is_empty(), "{what}: rows are missing and none is told");
        }
    }
}

#[test]
fn a_hurt_frame_in_the_log_costs_that_commit() {
    let files = example();
    let told = whole(&files);
    let all = messages(&told);
    let logs = named(&files, "log-");
    let name = logs.last().unwrap().to_string();
    let end = files[&name].iter().rposition(|byte| *byte != 0).unwrap();
    let mut lost = 0;
    for at in (FRAMES + 20..end).step_by(1777) {
        let mut hurt = files.clone();
        hurt.get_mut(&name).unwrap()[at] ^= 1;
        let what = format!("{name} at {at}");
        let some = saved(&hurt, &told, &what);
        assert!(some.messages.len() + 1 >= all.len(), "{what}: {} of {}", some.messages.len(), all.len());
        lost += all.len() - some.messages.len();
        assert!(!some.repair.faults.is_empty(), "{what}");
        assert!(
            !some.repair.commits.is_empty() || some.messages.len() == all.len(),
            "{what}: {:?}",
            some.repair
        );
    }
    assert!(lost > 3, "{lost}");
    // A header of the log tells how to read it.
    let mut hurt = files.clone();
    hurt.get_mut(&name).unwrap()[30] ^= 1;
    let some = saved(&hurt, &told, "the log's header");
    assert!(some.messages.len() < all.len() && !some.repair.is_whole());
}

#[test]
fn what_came_after_the_commit_that_made_a_channel_is_saved_under_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let store = options().open(&from).unwrap();
    store.commit(Batch::new().append("c", Draft::new("u", 0, "first"))).unwrap();
    store.commit(Batch::new().append("lost channel 1", Draft::new("u", 0, "taken"))).unwrap();
    store.commit(Batch::new().append("made", Draft::new("ana", 0, "hurt here").mentions(["bob"]))).unwrap();
    store
        .commit(
            Batch::new()
                .append("made", Draft::new("ana", 0, "saved"))
                .append("c", Draft::new("eve", 0, "on")),
        )
        .unwrap();
    store.close().unwrap();
    let log = from.join(named(&read(&from), "log-")[0]);
    let mut bytes = fs::read(&log).unwrap();
    let at = bytes.windows(9).position(|part| part == b"hurt here").unwrap();
    bytes[at] ^= 1;
    fs::write(&log, bytes).unwrap();
    let repaired = repair(&from, &to, &options()).unwrap();
    let names: Vec<_> = repaired.names.iter().map(|name| (name.channel, name.name.clone())).collect();
    assert_eq!(
        names,
        [(false, "lost user 1".into()), (false, "lost user 2".into()), (true, "lost channel 2".into())]
    );
    let missing: Vec<_> =
        repaired.messages.iter().map(|range| (range.channel.clone(), range.from, range.to)).collect();
    assert_eq!(missing, [("lost channel 2".into(), 1, 1)]);
    assert_eq!(repaired.commits, [(3, Some(3))]);
    let store = options().open(&to).unwrap();
    let saved = store.history("lost channel 2").list().unwrap();
    assert_eq!(
        (saved[0].seq, &saved[0].sender[..], &saved[0].payload[..]),
        (2, &b"lost user 1"[..], &b"saved"[..])
    );
    assert_eq!(store.history("c").last(1).unwrap()[0].sender, "eve");
    assert_eq!(store.history("lost channel 1").list().unwrap()[0].payload, "taken");
}

#[test]
fn a_log_segment_that_is_gone_costs_its_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = options().log_segment(16 << 10).open(dir.path()).unwrap();
    hours(&store, 0..100);
    store.close().unwrap();
    let files = read(dir.path());
    let (told, logs) = (whole(&files), named(&files, "log-"));
    assert!(logs.len() > 4, "{logs:?}");
    let all = messages(&told);
    let mut left = 0;
    for name in &logs {
        let mut gone = files.clone();
        gone.remove(*name);
        let some = saved(&gone, &told, &format!("{name} removed"));
        assert!(!some.repair.commits.is_empty() && some.messages.len() < all.len(), "{name}");
        left += some.messages.len();
    }
    assert_eq!(left, all.len() * (logs.len() - 1), "each message lies in one of them");
}

#[test]
fn a_long_value_that_is_lost_is_told_by_its_row_and_can_be_set_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let store = options().open(&from).unwrap();
    store.commit(Batch::new().join("c", "u").append("c", Draft::new("u", 0, "short"))).unwrap();
    store.commit(Batch::new().edit("c", 1, noise(1, 3000)).attributes("c", "u", noise(2, 3000))).unwrap();
    store.seal().unwrap();
    store.close().unwrap();
    let segment = named(&read(&from), "seg-")[0].clone();
    fs::remove_file(from.join(segment)).unwrap();
    let repaired = repair(&from, &to, &options()).unwrap();
    let values: Vec<_> =
        repaired.values.iter().map(|value| (&value.table[..], value.channel.clone().unwrap())).collect();
    assert_eq!(values, [("memberships", "c".into()), ("alterations", "c".into())]);
    assert_eq!(repaired.values[1].key, [0, 1, 0]);
    let store = options().open(&to).unwrap();
    assert!(matches!(store.membership("c", "u"), Err(Error::Corruption { .. })));
    store.commit(Batch::new().attributes("c", "u", "anew")).unwrap();
    assert_eq!(store.membership("c", "u").unwrap().unwrap().attributes, "anew");
}

#[test]
fn erased_messages_stay_erased_when_what_tells_it_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = options().open(dir.path().join("from")).unwrap();
    store
        .commit(
            Batch::new().append("c", Draft::new("u", 0, "kept")).append("c", Draft::new("u", 0, "secret")),
        )
        .unwrap();
    store.seal().unwrap();
    store.commit(Batch::new().erase("c", 2)).unwrap();
    store.seal().unwrap();
    store.close().unwrap();
    let repaired = repair(dir.path().join("from"), dir.path().join("to"), &options()).unwrap();
    assert!(repaired.is_whole());
    let payloads: Vec<_> =
        messages(&facts(&dir.path().join("to"))).into_values().map(|m| m.payload).collect();
    assert_eq!(payloads, ["kept", ""]);
}

#[test]
fn without_its_manifest_a_store_is_not_repaired() {
    let mut files = example();
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    files.get_mut("chanlog.manifest").unwrap()[50] ^= 1;
    write(&from, &files);
    assert!(matches!(repair(&from, &to, &options()), Err(Error::Corruption { .. })));
    fs::remove_file(from.join("chanlog.manifest")).unwrap();
    assert!(matches!(repair(&from, &to, &options()), Err(Error::NotAStore { .. })));
    assert!(!to.exists());
    assert!(matches!(repair(dir.path().join("nowhere"), &to, &options()), Err(Error::NotAStore { .. })));
    // Nor into a directory that holds something.
    fs::create_dir(&to).unwrap();
    fs::write(to.join("file"), "mine").unwrap();
    write(&dir.path().join("sound"), &example());
    assert!(matches!(repair(dir.path().join("sound"), &to, &options()), Err(Error::NotAStore { .. })));
}

#[test]
fn a_log_that_claims_more_names_than_there_was_room_for_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let store = options().open(&from).unwrap();
    hours(&store, 0..9);
    store.close().unwrap();
    let whole = facts(&from);
    let log = from.join(named(&read(&from), "log-")[0]);
    let mut bytes = fs::read(&log).unwrap();
    for claim in [72, 76] {
        bytes[claim..claim + 4].copy_from_slice(&4_000_000u32.to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes[..92]);
    bytes[92..96].copy_from_slice(&crc.to_le_bytes());
    fs::write(&log, bytes).unwrap();
    let repaired = repair(&from, &to, &options()).unwrap();
    assert!(repaired.names.len() < 1_000_000, "{}", repaired.names.len());
    let saved = messages(&facts(&to));
    assert_eq!(saved.len(), messages(&whole).len());
}
