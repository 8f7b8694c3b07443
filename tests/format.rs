//! The files of a store as bytes: newer formats, hurt, cut, missing, foreign and swapped files, links, and copies.
//!
//! The layouts are those that the sources document; they are written down here a second time, so that a change of format
//! shows. Whatever is done to a file, a store either refuses to open and changes nothing, or answers each question as the
//! model does or with an error that names the file.
#![cfg(unix)]

mod model;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use chanlog::{Durability, Error, HistoryFrom, Options, Result, Store, verify};
use model::{Model, Msg, Name, Op, Post, batch, check};
use tempfile::TempDir;

/// The bytes of each file of a directory, by name.
type Files = BTreeMap<String, Vec<u8>>;

const MANIFEST: &str = "chanlog.manifest";
/// The header of a sealed file, checksum included, and the same of a log segment. Everywhere magic and kind come first.
const HEADER: usize = 64;
const LOG_HEADER: usize = 96;
const FORMAT: usize = 12;
/// The format of every part of a store.
const PRESENT: u32 = 2;
/// That of a message segment's footer.
const SEGMENT_FOOTER: u32 = 3;
/// In the manifest, the features that a reader must know, those that it may ignore, and the first live log segment.
const REQUIRED: usize = 16;
const OPTIONAL: usize = 24;
const FIRST_LOG: std::ops::Range<usize> = 72..80;
/// There too, where the list of sessions begins, and the length of a sealed file's entry: id, first and last version, length,
/// level.
const SESSIONS: usize = 120;
const ENTRY: usize = 36;
/// Where the frames of a log segment begin.
const FRAMES: usize = 4096;
/// The trailer of a sealed file, counted from its start.
const TRAILER: usize = 64;
const FOOTER_CRC: usize = 24;
const TRAILER_FORMAT: usize = 32;

/// A small store that has two of each sealed kind, two unsealed log segments, and was closed.
struct Example {
    files: Files,
    model: Model,
}

fn options() -> Options {
    Options::new().log_segment(16 << 10).unsealed(100).background(false)
}

fn example() -> &'static Example {
    static EXAMPLE: OnceLock<Example> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let model = fill(dir.path());
        let files = read(dir.path());
        for kind in ["seg-", "run-", "log-"] {
            assert_eq!(named(&files, kind).len(), 2, "{kind}: {:?}", files.keys());
        }
        Example { files, model }
    })
}

/// Makes the store of the example, and its model.
fn fill(dir: &Path) -> Model {
    let store = options().log_segment(64 << 10).open(dir).unwrap();
    let mut model = Model::default();
    let mut commit = |store: &Store, ops: Vec<Op>| {
        store.commit(&batch(&ops, Durability::Sync)).unwrap();
        model.apply(&ops).unwrap();
    };
    (0..24).for_each(|i| commit(&store, hour(i)));
    store.seal().unwrap();
    (24..48).for_each(|i| commit(&store, hour(i)));
    store.close().unwrap();
    // What follows the second seal is a small segment, which soon rolls.
    let store = options().open(dir).unwrap();
    store.seal().unwrap();
    let mut hours = (48..).map(hour);
    while store.stat().unwrap().logs.count < 2 {
        commit(&store, hours.next().unwrap());
    }
    hours.take(3).for_each(|ops| commit(&store, ops));
    store.close().unwrap();
    model
}

/// What happens in hour `i`: a message, and often a change of a row.
fn hour(i: u64) -> Vec<Op> {
    let channel = |n: u64| format!("channel {}", n % 5).into_bytes();
    let user = |n: u64| format!("user {}", n % 7).into_bytes();
    let (c, u) = (channel(i * 3), user(i));
    let noise = |n: u64| (i * 131 + n * n * 7 + ((n * i) >> 3)) as u8;
    let payload = (0..700 + i * 53 % 900).map(noise).collect();
    let client_id = (i % 4 == 1).then(|| format!("id {i}").into());
    let post = Post {
        sender: u.clone(),
        timestamp: i as i64,
        silent: i % 5 == 4,
        id: Some(i),
        client_id,
        unique_id: None,
        payload,
        members_only: false,
        ..Post::default()
    };
    let join = Op::Join {
        channel: c.clone(),
        user: u.clone(),
        visible: HistoryFrom::Start,
        read: Some(0),
        role: None,
    };
    let mut ops = vec![join, Op::Append { channel: c.clone(), post }];
    match i % 6 {
        1 => ops.push(Op::Read { channel: c, user: u, seq: i / 4 }),
        2 => ops.push(Op::Hide { channel: c, user: u }),
        3 => ops.push(Op::Activate { channel: c, user: u }),
        4 => ops.push(Op::Leave { channel: c, user: u }),
        _ => {}
    }
    ops
}

/// What a directory holds. Whatever is no regular file counts as empty.
fn read(dir: &Path) -> Files {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
    let bytes = |entry: &fs::DirEntry| match entry.file_type().unwrap().is_file() {
        true => fs::read(entry.path()).unwrap(),
        false => Vec::new(),
    };
    entries.map(|entry| (name(&entry), bytes(&entry))).collect()
}

/// A directory that holds these files.
fn place(files: &Files) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn named(files: &Files, prefix: &str) -> Vec<String> {
    files.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
}

/// The files that hold data, one name of each kind first.
fn parts(files: &Files) -> Vec<String> {
    let empty = ["chanlog.lock", "chanlog.reserve"];
    files.keys().filter(|name| !empty.contains(&&***name)).cloned().collect()
}

/// The example with one file changed.
fn hurt(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Files {
    let mut files = example().files.clone();
    change(files.get_mut(name).unwrap());
    files
}

/// The checksum of `parts`, as every file uses it.
fn crc(parts: &[&[u8]]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().to_le_bytes()
}

/// Puts the checksum of the bytes from `from` into the four bytes at `at`.
fn seal(bytes: &mut [u8], from: usize, at: usize) {
    let crc = crc(&[&bytes[from..at]]);
    bytes[at..at + 4].copy_from_slice(&crc);
}

fn number(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

/// Where the footer of a sealed file begins.
fn footer(bytes: &[u8]) -> usize {
    number(bytes, bytes.len() - TRAILER + 8)
}

fn content_end(bytes: &[u8]) -> usize {
    number(bytes, bytes.len() - TRAILER)
}

/// Tells which case failed, also when it is the library that panics.
struct Case(String);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the case at fault: {}", self.0);
        }
    }
}

/// Asks everything of a store with one hurt file. An answer is what the model says, or an error that names the file.
struct Judge<'a> {
    file: PathBuf,
    model: &'a Model,
    refusals: usize,
}

impl Judge<'_> {
    fn answer<T: PartialEq + Debug>(&mut self, answer: Result<T>, expected: &T) {
        match answer {
            Ok(answer) => assert_eq!(answer, *expected, "a wrong answer"),
            Err(error) => self.error(&error),
        }
    }

    fn error(&mut self, error: &Error) {
        self.refusals += 1;
        assert!(matches!(error, Error::Corruption { file, .. } if *file == self.file), "{error}");
    }

    fn everything(&mut self, store: &Store) {
        let model = self.model;
        let (channels, users) = (model.channels(), model.users());
        assert_eq!(store.stat().unwrap().version, model.version(), "commits are missing");
        assert_eq!(store.stat().unwrap().messages, model.messages(), "messages are missing");
        self.answer(store.channels().list().map(check::names), &channels);
        self.answer(store.users().list().map(check::names), &users);
        for channel in &channels {
            self.channel(store, channel);
        }
        for user in &users {
            self.answer(store.channels_of(user).list().map(check::names), &model.channels_of(user));
            let list = store
                .conversations(user)
                .with_attributes()
                .list()
                .and_then(|list| check::whole(&list.entries));
            self.answer(list, &model.conversations(user, false));
            for channel in &channels {
                let found =
                    store.membership(channel, user).map(|m| m.map(|m| (m.join_seq(), m.read, m.version)));
                let expected = model.membership(channel, user).map(|m| (m.join_seq, m.read, m.version));
                self.answer(found, &expected);
            }
        }
    }

    fn channel(&mut self, store: &Store, channel: &Name) {
        let model = self.model;
        self.answer(store.head(channel), &model.head(channel));
        self.answer(store.members(channel).list().map(check::names), &model.members(channel));
        let expected = model.history(channel, &model::Range::default());
        let messages = |found: Vec<chanlog::Message>| found.iter().map(Msg::from).collect::<Vec<_>>();
        self.answer(store.history(channel).list().map(messages), &expected);
        // One by one, so that what is not hurt is seen to be readable.
        for message in &expected {
            let found = store.history(channel).from(message.seq).limit(1).list();
            self.answer(found.map(messages), &vec![message.clone()]);
        }
    }
}

/// What became of a store with a hurt file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It did not open.
    Refused,
    /// It answered some questions with errors.
    Partial,
    /// It answered everything.
    Whole,
}

/// Judges a store with one hurt file, and whether `verify` names that file.
fn judge(files: &Files, name: &str, case: &Case) -> (Fate, bool) {
    let dir = place(files);
    let path = dir.path().join(name);
    let names = |error: &Error| matches!(error, Error::Corruption { file, .. } if *file == path);
    let faults = verify(dir.path(), &options()).unwrap().faults;
    assert!(faults.iter().all(&names), "{}: verify blames another file: {faults:?}", case.0);
    let mut judge = Judge { file: path.clone(), model: &example().model, refusals: 0 };
    let fate = match options().open(dir.path()) {
        Err(error) => {
            judge.error(&error);
            assert_eq!(read(dir.path()), *files, "a store that does not open is changed");
            Fate::Refused
        }
        Ok(store) => {
            judge.everything(&store);
            if judge.refusals > 0 { Fate::Partial } else { Fate::Whole }
        }
    };
    (fate, !faults.is_empty())
}

/// Opening must refuse the store and name the file as of another format; `verify` must name it too, and neither may change
/// anything.
fn assert_unsupported(name: &str, what: &str, format: u32, files: &Files) {
    let _case = Case(format!("{what} of {name}, format {format}"));
    let dir = place(files);
    let path = dir.path().join(name);
    let other = |error: &Error| matches!(error, Error::Unsupported { file, version, .. } if *file == path && *version == format);
    let error = options().open(dir.path()).unwrap_err();
    assert!(other(&error), "{error}");
    let faults = verify(dir.path(), &options()).unwrap().faults;
    assert!(faults.len() == 1 && other(&faults[0]), "{faults:?}");
    assert_eq!(read(dir.path()), *files);
}

/// Where the checksum of a file's header ends.
fn header_end(name: &str, bytes: &[u8]) -> usize {
    match &name[..4] {
        "log-" => LOG_HEADER,
        "seg-" | "run-" => HEADER,
        _ => bytes.len(),
    }
}

#[test]
fn another_format_of_any_file_is_refused_with_nothing_changed() {
    for (name, format) in parts(&example().files).iter().flat_map(|name| [(name, 1), (name, PRESENT + 1)]) {
        let number = format.to_le_bytes();
        let put_over = |present: u32, bytes: &mut Vec<u8>, at: usize, number: [u8; 4]| {
            assert_eq!(bytes[at..at + 4], present.to_le_bytes(), "the place of a format");
            bytes[at..at + 4].copy_from_slice(&number);
        };
        let put = |bytes: &mut Vec<u8>, at: usize| put_over(PRESENT, bytes, at, number);
        let head = hurt(name, |bytes| {
            put(bytes, FORMAT);
            let end = header_end(name, bytes);
            seal(bytes, 0, end - 4);
        });
        assert_unsupported(name, "the header", format, &head);
        if !name.starts_with("seg-") && !name.starts_with("run-") {
            continue;
        }
        let trailer = hurt(name, |bytes| {
            let start = bytes.len() - TRAILER;
            put(bytes, start + TRAILER_FORMAT);
            seal(bytes, start, start + TRAILER - 4);
        });
        assert_unsupported(name, "the trailer", format, &trailer);
        let present = if name.starts_with("seg-") { SEGMENT_FOOTER } else { PRESENT };
        let format = if format > PRESENT { present + 1 } else { present - 1 };
        let footer = hurt(name, |bytes| {
            let (at, start) = (footer(bytes), bytes.len() - TRAILER);
            put_over(present, bytes, at, format.to_le_bytes());
            let crc = crc(&[&bytes[16..32], &bytes[at..start]]);
            bytes[start + FOOTER_CRC..start + FOOTER_CRC + 4].copy_from_slice(&crc);
            seal(bytes, start, start + TRAILER - 4);
        });
        assert_unsupported(name, "the footer", format, &footer);
    }
}

#[test]
fn a_feature_that_a_reader_must_know_is_refused_and_one_that_it_may_ignore_is_kept() {
    // The highest bits are those that will be given last.
    let with = |place: usize| {
        hurt(MANIFEST, |bytes| {
            bytes[place + 7] |= 0x80;
            let end = bytes.len() - 4;
            seal(bytes, 0, end);
        })
    };
    assert_unsupported(MANIFEST, "a required feature", PRESENT, &with(REQUIRED));
    let dir = place(&with(OPTIONAL));
    let store = options().open(dir.path()).unwrap();
    store.seal().unwrap();
    store.close().unwrap();
    let manifest = read(dir.path()).remove(MANIFEST).unwrap();
    assert_ne!(manifest, example().files[MANIFEST], "the seal wrote it anew");
    assert_eq!(manifest[OPTIONAL + 7], 0x80, "another release may need it");
    check::everything(&options().open(dir.path()).unwrap(), &example().model);
    assert!(verify(dir.path(), &options()).unwrap().faults.is_empty());
}

/// Where each frame of a log segment begins and ends.
fn frames(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut frames = Vec::new();
    let mut at = FRAMES;
    while bytes[at + 12] != 0 {
        let len = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        let end = at + (40 + len).next_multiple_of(8);
        frames.push((at, end));
        at = end;
    }
    frames
}

/// The regions of a file, each by its name and range.
fn regions(name: &str, bytes: &[u8]) -> Vec<(&'static str, usize, usize)> {
    let len = bytes.len();
    if name == MANIFEST {
        return vec![
            ("header", 0, REQUIRED),
            ("features", REQUIRED, 32),
            ("ids", 32, 64),
            ("totals", 64, 120),
            ("lists", 120, len - 4),
            ("crc", len - 4, len),
        ];
    }
    if name.starts_with("log-") {
        let (last, end) = *frames(bytes).last().unwrap();
        return vec![
            ("header", 0, LOG_HEADER),
            ("padding", LOG_HEADER, FRAMES),
            ("frames", FRAMES, last),
            ("last frame", last, end),
            ("zeros", end, len),
        ];
    }
    let (pages, footer) = (content_end(bytes), footer(bytes));
    vec![
        ("header", 0, HEADER),
        ("content", HEADER, pages),
        ("pages", pages, footer),
        ("footer", footer, len - TRAILER),
        ("trailer", len - TRAILER, len),
    ]
}

/// Places in a range: its ends, and some between.
fn places(start: usize, end: usize) -> impl Iterator<Item = usize> {
    let step = ((end - start) / 12).max(1);
    (start..end).step_by(step).chain([end - 1])
}

#[test]
fn a_flipped_bit_is_named_or_means_nothing_and_never_changes_an_answer() {
    let mut fates: BTreeMap<(String, &str), Vec<(Fate, bool)>> = BTreeMap::new();
    for name in parts(&example().files) {
        let bytes = &example().files[&name];
        for (region, start, end) in regions(&name, bytes) {
            for at in places(start, end) {
                let case = Case(format!("{region} of {name} at {at}, {start}..{end}"));
                let files = hurt(&name, |bytes| bytes[at] ^= 1 << (at % 8));
                let (fate, named) = judge(&files, &name, &case);
                let meaning = match region {
                    "padding" => named && fate == Fate::Whole,
                    "zeros" => fate == Fate::Whole,
                    // The newest segment's is the close frame, which nothing behind it speaks for; any other's is the
                    // next frame, which is for a missing successor.
                    "last frame" => fate == Fate::Whole,
                    "content" | "pages" => named,
                    _ => named && fate != Fate::Whole,
                };
                assert!(meaning, "{}: {fate:?}, named by verify: {named}", case.0);
                fates.entry((name.clone(), region)).or_default().push((fate, named));
            }
        }
    }
    // A message segment that is hurt leaves the rest readable; any other file is needed to open.
    let segment = named(&example().files, "seg-").remove(0);
    assert!(fates[&(segment, "header")].iter().all(|(fate, _)| *fate == Fate::Partial), "{fates:?}");
    assert!(fates[&(MANIFEST.into(), "lists")].iter().all(|(fate, _)| *fate == Fate::Refused), "{fates:?}");
}

#[test]
fn a_cut_file_is_named_and_never_changes_an_answer() {
    for name in parts(&example().files) {
        let bytes = &example().files[&name];
        let len = bytes.len();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let cuts =
            [0, 1, 15, HEADER - 1, HEADER, LOG_HEADER, FRAMES - 1, FRAMES, used / 2, used - 200, len - 1];
        for cut in cuts.into_iter().filter(|cut| *cut < len) {
            let case = Case(format!("{name} cut to {cut} of {len}, {used} used"));
            let files = hurt(&name, |bytes| bytes.truncate(cut));
            let (fate, named) = judge(&files, &name, &case);
            assert!(named && fate != Fate::Whole, "{}: {fate:?}, named by verify: {named}", case.0);
        }
        if !name.starts_with("log-") {
            let case = Case(format!("{name} with a byte more"));
            let (fate, named) = judge(&hurt(&name, |bytes| bytes.push(0)), &name, &case);
            assert!(named && fate != Fate::Whole, "{}: {fate:?}, named by verify: {named}", case.0);
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    for name in parts(&example().files) {
        let mut files = example().files.clone();
        files.remove(&name);
        let case = Case(format!("{name} is missing"));
        if name == MANIFEST {
            let dir = place(&files);
            let error = options().open(dir.path()).unwrap_err();
            assert!(matches!(error, Error::NotAStore { .. }), "{error}");
            assert_eq!(read(dir.path()), files);
            continue;
        }
        let (fate, named) = judge(&files, &name, &case);
        let expected = if name.starts_with("seg-") { Fate::Partial } else { Fate::Refused };
        assert_eq!((fate, named), (expected, true), "{}", case.0);
    }
}

#[test]
fn a_file_of_another_store_or_another_place_is_noticed() {
    let other = tempfile::tempdir().unwrap();
    fill(other.path());
    let others = read(other.path());
    assert_eq!(parts(&others), parts(&example().files), "the same files, of another store");
    for name in parts(&others).into_iter().filter(|name| name != MANIFEST) {
        let case = Case(format!("{name} of another store"));
        let (fate, named) = judge(&hurt(&name, |bytes| bytes.clone_from(&others[&name])), &name, &case);
        assert!(named && fate != Fate::Whole, "{}: {fate:?}", case.0);
    }
    let dir = place(&hurt(MANIFEST, |bytes| bytes.clone_from(&others[MANIFEST])));
    let error = options().open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Corruption { .. }), "{error}");
    for kind in ["seg-", "run-", "log-"] {
        let [one, two] = named(&example().files, kind).try_into().unwrap();
        let case = Case(format!("{two} in place of {one}"));
        let (fate, named) = judge(&hurt(&one, |bytes| bytes.clone_from(&example().files[&two])), &one, &case);
        assert!(named && fate != Fate::Whole, "{}: {fate:?}", case.0);
    }
}

#[test]
fn links_are_not_followed() {
    let elsewhere = tempfile::tempdir().unwrap();
    for name in &parts(&example().files) {
        let _case = Case(name.clone());
        let dir = place(&example().files);
        let (link, target) = (dir.path().join(name), elsewhere.path().join(name));
        fs::rename(&link, &target).unwrap();
        symlink(&target, &link).unwrap();
        let before = read(dir.path());
        let error = options().open(dir.path()).unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if *path == link), "{error}");
        assert_eq!((read(dir.path()), fs::read(&target).unwrap()), (before, example().files[name].clone()));
    }
    // Nor is what a link in the place of an unfinished file points to overwritten.
    let dir = place(&example().files);
    let target = elsewhere.path().join("precious");
    fs::write(&target, b"bytes").unwrap();
    symlink(&target, dir.path().join("chanlog.manifest.tmp")).unwrap();
    let store = options().open(dir.path()).unwrap();
    assert!(store.seal().is_err(), "the manifest can't be written");
    check::everything(&store, &example().model);
    assert_eq!(fs::read(&target).unwrap(), b"bytes");
}

#[test]
fn names_never_become_paths() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a/store");
    let names = [
        "../../x",
        "..",
        ".",
        "/etc/x",
        "a\0b",
        "\0",
        MANIFEST,
        "log-0000000000000001",
        "seg-0000000000000003",
    ];
    let mut model = Model::default();
    let store = options().open(&dir).unwrap();
    for (i, name) in names.iter().enumerate() {
        let name: Name = (*name).into();
        let sender = names[(i + 1) % names.len()].into();
        let (timestamp, payload) = (0, name.clone().into());
        let post = Post {
            sender,
            timestamp,
            silent: false,
            id: None,
            client_id: None,
            unique_id: None,
            payload,
            members_only: false,
            ..Post::default()
        };
        let join = Op::Join {
            channel: name.clone(),
            user: name.clone(),
            visible: HistoryFrom::Now,
            read: None,
            role: None,
        };
        let ops = [join, Op::Append { channel: name, post }];
        store.commit(&batch(&ops, Durability::Sync)).unwrap();
        model.apply(&ops).unwrap();
        store.seal().unwrap();
    }
    while store.maintain().unwrap() {}
    check::everything(&store, &model);
    store.close().unwrap();
    let ours = |name: &str| {
        let numbered = ["log-", "seg-", "run-"].iter().find_map(|kind| name.strip_prefix(kind));
        let digits = numbered.is_some_and(|id| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        digits || [MANIFEST, "chanlog.lock", "chanlog.reserve"].contains(&name)
    };
    assert!(read(&dir).keys().all(|name| ours(name)), "{:?}", read(&dir).keys());
    assert_eq!(read(root.path()).into_keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(read(&root.path().join("a")).into_keys().collect::<Vec<_>>(), ["store"]);
    check::everything(&options().open(&dir).unwrap(), &model);
}

#[test]
fn a_foreign_file_in_a_store_is_left_alone_and_an_orphan_goes() {
    let mut files = example().files.clone();
    let foreign =
        ["notes.txt", "log-1", "seg-zzzzzzzzzzzzzzzz", "run-0000000000000009.bak", "chanlog.manifest.old"];
    for name in foreign {
        files.insert(name.into(), b"something else".to_vec());
    }
    let orphan = "seg-00000000000000ff";
    files.insert(orphan.into(), b"half a segment".to_vec());
    let dir = place(&files);
    fs::create_dir(dir.path().join("folder")).unwrap();
    let store = options().open(dir.path()).unwrap();
    assert_eq!(store.recovery().orphans, 1);
    store.seal().unwrap();
    while store.maintain().unwrap() {}
    store.close().unwrap();
    check::everything(&options().open(dir.path()).unwrap(), &example().model);
    let left = read(dir.path());
    assert!(foreign.iter().all(|name| left[*name] == files[*name]) && left.contains_key("folder"));
    assert!(!left.contains_key(orphan));
    assert!(verify(dir.path(), &options()).unwrap().faults.is_empty());
}

#[test]
fn an_unfinished_creation_opens_as_an_empty_store() {
    let manifest = {
        let dir = tempfile::tempdir().unwrap();
        options().open(dir.path()).unwrap().close().unwrap();
        let mut bytes = read(dir.path()).remove(MANIFEST).unwrap();
        // The first live log segment is 0 until the first one is there.
        bytes[FIRST_LOG].fill(0);
        let end = bytes.len() - 4;
        seal(&mut bytes, 0, end);
        bytes
    };
    let (lock, half) = (("chanlog.lock", vec![]), ("chanlog.manifest.tmp", b"chan".to_vec()));
    let whole = (MANIFEST, manifest);
    let log = ("log-0000000000000001.tmp", vec![0; 100]);
    let stages = [
        vec![],
        vec![lock.clone()],
        vec![lock.clone(), half],
        vec![lock.clone(), whole.clone()],
        vec![lock, whole, log],
    ];
    for stage in stages {
        let _case = Case(format!("{:?}", stage.iter().map(|(name, _)| name).collect::<Vec<_>>()));
        let dir = place(&stage.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect());
        let store = options().open(dir.path()).unwrap();
        check::everything(&store, &Model::default());
        let ops = hour(1);
        store.commit(&batch(&ops, Durability::Sync)).unwrap();
        store.close().unwrap();
        let mut model = Model::default();
        model.apply(&ops).unwrap();
        check::everything(&options().open(dir.path()).unwrap(), &model);
        assert!(verify(dir.path(), &options()).unwrap().faults.is_empty());
    }
}

#[test]
fn a_copy_of_a_closed_store_is_a_store() {
    let (one, two) = (place(&example().files), place(&example().files));
    for dir in [&one, &two] {
        let mut model = example().model.clone();
        let store = options().open(dir.path()).unwrap();
        assert!(store.recovery().clean, "{:?}", store.recovery());
        check::everything(&store, &model);
        for i in 500..520 {
            let ops = hour(i);
            store.commit(&batch(&ops, Durability::Sync)).unwrap();
            model.apply(&ops).unwrap();
        }
        store.seal().unwrap();
        while store.maintain().unwrap() {}
        check::everything(&store, &model);
    }
}

#[test]
fn an_older_manifest_is_no_way_back() {
    let dir = place(&example().files);
    let old = fs::read(dir.path().join(MANIFEST)).unwrap();
    let store = options().open(dir.path()).unwrap();
    store.seal().unwrap();
    store.close().unwrap();
    fs::write(dir.path().join(MANIFEST), old).unwrap();
    let before = read(dir.path());
    let error = options().open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Corruption { .. }), "{error}");
    assert_eq!(read(dir.path()), before);
}

/// Where the entries of message segments and of runs begin in a manifest.
fn lists(manifest: &[u8]) -> (usize, usize) {
    let count = |at: usize| u32::from_le_bytes(manifest[at..at + 4].try_into().unwrap()) as usize;
    let losses = SESSIONS + 4 + 16 * count(SESSIONS);
    let segments = losses + 4 + 20 * count(losses);
    (segments + 4, segments + 4 + ENTRY * count(segments) + 4)
}

/// The example with another manifest, whose checksum is right.
fn with_manifest(change: impl FnOnce(&mut Vec<u8>)) -> Files {
    hurt(MANIFEST, |bytes| {
        change(bytes);
        let end = bytes.len() - 4;
        seal(bytes, 0, end);
    })
}

/// The manifest with another boundary between the versions of the first entry at `at` and those of the second.
fn move_boundary(at: usize) -> Files {
    with_manifest(|bytes| {
        let (last, first) = (at + 16, at + ENTRY + 8);
        for place in [last, first] {
            let moved = number(bytes, place) as u64 - 9;
            bytes[place..place + 8].copy_from_slice(&moved.to_le_bytes());
        }
    })
}

/// A message's version tells its file. Where a manifest divides the versions otherwise, a history would give messages twice
/// and others not at all.
#[test]
fn a_file_that_covers_other_versions_than_the_manifest_says_is_named() {
    let (segments, runs) = lists(&example().files[MANIFEST]);
    for (kind, at) in [("seg-", segments), ("run-", runs)] {
        let _case = Case(kind.into());
        let files = move_boundary(at);
        let dir = place(&files);
        let names: Vec<_> = named(&files, kind).iter().map(|name| dir.path().join(name)).collect();
        let other = |error: &Error| matches!(error, Error::Corruption { file, .. } if names.contains(file));
        let faults = verify(dir.path(), &options()).unwrap().faults;
        assert!(faults.len() == 2 && faults.iter().all(other), "{faults:?}");
        let store = match options().open(dir.path()) {
            // A message segment that is not what it should be leaves the rest readable; a run is needed.
            Ok(store) if kind == "seg-" => store,
            opened => {
                let error = opened.unwrap_err();
                assert!(other(&error), "{error}");
                assert_eq!(read(dir.path()), files);
                options().read_only(true).open(dir.path()).unwrap()
            }
        };
        assert!(store.recovery().damaged > 0);
        for channel in store.channels().list().unwrap() {
            let expected = example().model.history(&channel, &model::Range::default());
            let known = |message: &chanlog::Message| expected.contains(&Msg::from(message));
            match store.history(&channel).list() {
                Ok(found) => assert!(found.iter().all(known) && found.len() == expected.len()),
                Err(error) => assert!(matches!(error, Error::Corruption { .. }), "{error}"),
            }
        }
    }
}

/// What lies in a segment that the manifest does not name any more is missing, and is never passed over.
#[test]
fn a_manifest_that_forgot_a_segment_is_named_and_what_was_in_it_is_missed() {
    let (at, _) = lists(&example().files[MANIFEST]);
    for forgotten in [0, 1] {
        let _case = Case(format!("segment {forgotten}"));
        let files = with_manifest(|bytes| {
            bytes[at - 4] -= 1;
            drop(bytes.drain(at + ENTRY * forgotten..at + ENTRY * (forgotten + 1)));
        });
        let dir = place(&files);
        let faults = verify(dir.path(), &options()).unwrap().faults;
        let manifest = dir.path().join(MANIFEST);
        let told = |error: &Error| matches!(error, Error::Corruption { file, .. } if *file == manifest);
        assert!(faults.len() == 1 && told(&faults[0]), "{faults:?}");
        let mut judge = Judge { file: dir.path().into(), model: &example().model, refusals: 0 };
        judge.everything(&options().read_only(true).open(dir.path()).unwrap());
        assert!(judge.refusals > 0);
    }
}

#[test]
fn a_log_segment_far_beyond_the_last_one_is_one_fault() {
    let last = named(&example().files, "log-").pop().unwrap();
    let id = u64::from_str_radix(&last["log-".len()..], 16).unwrap();
    for stray in [id + 1000, u64::MAX] {
        let mut files = example().files.clone();
        files.insert(format!("log-{stray:016x}"), Vec::new());
        let dir = place(&files);
        let missing = dir.path().join(format!("log-{:016x}", id + 1));
        // The stray one is no log segment.
        let both = [&missing, &dir.path().join(format!("log-{stray:016x}"))];
        let told = |error: &Error| matches!(error, Error::Corruption { file, .. } if both.contains(&file));
        let faults = verify(dir.path(), &options()).unwrap().faults;
        assert!(faults.len() == 2 && faults.iter().all(told), "{} faults", faults.len());
        let error = options().open(dir.path()).unwrap_err();
        assert!(matches!(&error, Error::Corruption { file, .. } if *file == missing), "{error}");
        assert_eq!(read(dir.path()), files);
        let reader = options().read_only(true).open(dir.path()).unwrap();
        check::everything(&reader, &example().model);
    }
}
