//! The importer is killed, over and over. What it said is safe is there afterwards, and what is there is a prefix of the
//! lines: each whole or not at all.
//!
//! The tool opens its store with the default sizes, in which a few thousand lines roll no segment. So between two sessions
//! a test leaves a small segment for the next one to begin with: it rolls and seals under way, and later merges.
#![cfg(all(feature = "cli", unix))]

mod figures;
mod model;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::mem::replace;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chanlog::{HistoryFrom, Options, Store, verify};
use model::{Model, Name, Op, Post, check};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How much is fed at once, in bytes. Whenever the import has to wait, it makes safe what it has.
const BURST: usize = 2000;

/// A seeded source of choices.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Lines, and what each of them asks of a store.
struct Script {
    lines: Vec<String>,
    ops: Vec<Vec<Op>>,
}

impl Script {
    /// `count` good lines with all operations.
    fn new(dice: &mut Dice, count: usize) -> Script {
        let mut script = Script { lines: Vec::new(), ops: Vec::new() };
        let mut model = Model::default();
        while script.lines.len() < count {
            let (line, ops) = line(dice, script.lines.len());
            if model.apply(&ops).is_ok() {
                script.lines.push(line);
                script.ops.push(ops);
            }
        }
        script
    }

    /// The model after the first `count` lines.
    fn model(&self, count: usize) -> Model {
        let mut model = Model::default();
        for ops in &self.ops[..count] {
            model.apply(ops).unwrap();
        }
        model
    }
}

fn line(dice: &mut Dice, number: usize) -> (String, Vec<Op>) {
    let names = (format!("channel {}", dice.below(9)), format!("user {}", dice.below(14)));
    let mut json = json!({ "channel": names.0, "user": names.1 });
    let (channel, user) = (names.0.into_bytes(), names.1.into_bytes());
    let ops = match dice.below(20) {
        0 => return ("  ".into(), Vec::new()),
        1 | 2 => {
            let all = dice.below(2) == 0;
            (json["op"], json["history"]) = ("join".into(), if all { "all" } else { "now" }.into());
            vec![join(channel, user, if all { HistoryFrom::Start } else { HistoryFrom::Now })]
        }
        3 => row(&mut json, "leave", Op::Leave { channel, user }),
        4 | 5 => {
            let seq = dice.below(200);
            json["seq"] = seq.into();
            row(&mut json, "read", Op::Read { channel, user, seq })
        }
        6 => row(&mut json, "read", Op::Read { channel, user, seq: u64::MAX }),
        7 => match dice.below(2) {
            0 => row(&mut json, "hide", Op::Hide { channel, user }),
            _ => row(&mut json, "clear", Op::Clear { channel, user, seq: None }),
        },
        8 => row(&mut json, "activate", Op::Activate { channel, user }),
        _ => {
            let post = post(dice, &mut json, number, &user);
            vec![join(channel.clone(), user, HistoryFrom::Now), Op::Append { channel, post }]
        }
    };
    (json.to_string(), ops)
}

fn row(json: &mut Value, name: &str, op: Op) -> Vec<Op> {
    json["op"] = name.into();
    vec![op]
}

fn join(channel: Name, user: Name, visible: HistoryFrom) -> Op {
    Op::Join { channel, user, visible, read: None, role: None }
}

fn post(dice: &mut Dice, json: &mut Value, number: usize, sender: &Name) -> Post {
    let len = if dice.below(40) == 0 { dice.below(6000) } else { dice.below(200) };
    let mut payload: Vec<u8> = (0..len).map(|_| dice.below(95) as u8 + b' ').collect();
    if dice.below(4) == 0 {
        payload.push(0xff);
        json["payload_base64"] = BASE64.encode(&payload).into();
    } else {
        json["text"] = std::str::from_utf8(&payload).unwrap().into();
    }
    let (silent, timestamp) = (dice.below(5) == 0, number as i64 - dice.below(100) as i64);
    json["silent"] = silent.into();
    json["ts"] = timestamp.into();
    let client_id = (dice.below(3) == 0).then(|| format!("id {number}"));
    if let Some(id) = &client_id {
        json["id"] = id.as_str().into();
    }
    let client_id = client_id.map(Into::into);
    Post {
        sender: sender.clone(),
        timestamp,
        silent,
        id: None,
        client_id,
        unique_id: None,
        payload: payload.into(),
        members_only: false,
        ..Post::default()
    }
}

/// A running import.
struct Import {
    child: Child,
    /// Feeds stdin, and keeps it open until it is joined.
    feeder: JoinHandle<Option<ChildStdin>>,
    reader: JoinHandle<()>,
    /// Each `{"lines":N}` as it comes.
    answers: Receiver<u64>,
    /// The last of them that was taken.
    safe: u64,
}

impl Import {
    /// Imports from a file, or from a pipe that stays open behind its last byte.
    fn start(store: &Path, input: &str, file: Option<&Path>) -> Import {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chanlog"));
        command.arg("import").arg("--json").arg("--store").arg(store).stdout(Stdio::piped());
        if let Some(file) = file {
            fs::write(file, input).unwrap();
            command.arg(file).stdin(Stdio::null());
        } else {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let input = input.to_owned();
        let feeder = thread::spawn(move || {
            let mut stdin = stdin?;
            // Whoever is killed reads no more, which is no fault of the writer.
            let _ = input.as_bytes().chunks(BURST).try_for_each(|burst| stdin.write_all(burst));
            Some(stdin)
        });
        let (sender, answers) = channel();
        let reader = thread::spawn(move || read(stdout, &|lines| sender.send(lines).unwrap_or_default()));
        Import { child, feeder, reader, answers, safe: 0 }
    }

    /// Waits until so many lines are safe, or the import ends.
    fn wait_for(&mut self, lines: u64) {
        while self.safe < lines
            && let Ok(answer) = self.answers.recv()
        {
            self.safe = answer;
        }
    }

    /// Kills the import, unless it came to its end before, and returns how many lines are safe.
    fn kill(mut self) -> u64 {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.signal() == Some(9) || status.success(), "{status}");
        self.end()
    }

    /// Ends the input, lets the import finish, and returns how many lines are safe.
    fn finish(mut self) -> u64 {
        drop(replace(&mut self.feeder, thread::spawn(|| None)).join().unwrap());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        self.end()
    }

    fn end(mut self) -> u64 {
        drop(self.feeder.join().unwrap());
        self.reader.join().unwrap();
        self.safe = self.answers.try_iter().last().unwrap_or(self.safe);
        self.safe
    }
}

/// Hands on what the import says is safe. A last line that was cut off says nothing.
fn read(stdout: ChildStdout, tell: &dyn Fn(u64)) {
    let mut before = 0;
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    while stdout.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
        let answer: Value = serde_json::from_str(&line).unwrap();
        let lines = answer["lines"].as_u64().unwrap();
        assert!(lines > before, "{lines} lines are safe after {before} were");
        before = lines;
        tell(lines);
        line.clear();
    }
}

fn options(dice: &mut Dice) -> Options {
    Options::new().log_segment(8 << dice.below(5) << 10).background(false)
}

/// A store that a script is imported into, in many sessions.
struct Series<'a> {
    script: &'a Script,
    dir: TempDir,
    /// How many lines are stored, and the model of them.
    stored: usize,
    model: Model,
    /// Sessions that began with a segment that they must roll.
    rolls: u64,
    /// Sessions whose end the store had to recover from.
    recoveries: u64,
}

impl<'a> Series<'a> {
    fn new(script: &'a Script) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Series { script, dir, stored: 0, model: Model::default(), rolls: 0, recoveries: 0 }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Imports what is not stored yet.
    fn start(&self, dice: &mut Dice) -> Import {
        let input: String = self.script.lines[self.stored..].iter().map(|line| format!("{line}\n")).collect();
        let file = self.dir.path().join("lines");
        Import::start(&self.store(), &input, (dice.below(4) == 0).then_some(&file))
    }

    /// Imports until a kill at some moment: a time after the start, or some time after a line is safe.
    fn session(&mut self, dice: &mut Dice) {
        let mut import = self.start(dice);
        let left = (self.script.lines.len() - self.stored) as u64;
        if dice.below(4) == 0 {
            thread::sleep(Duration::from_micros(dice.below(60_000)));
        } else {
            import.wait_for(dice.below(left.min(500) + 1));
            thread::sleep(Duration::from_micros(dice.below(2000)));
        }
        let safe = import.kill() as usize;
        self.check(dice, safe);
    }

    /// Checks what is stored after a session that said `safe` lines of its are safe.
    fn check(&mut self, dice: &mut Dice, safe: usize) {
        let safe = self.stored + safe;
        if !self.store().join("chanlog.manifest").exists() {
            assert_eq!(safe, 0, "lines are safe in no store");
            return;
        }
        // A copy leaves the recovery to the next session, which may be killed at it.
        let copied = dice.below(3) == 0;
        let looked_at = if copied { copy(&self.store(), &self.dir) } else { self.store() };
        let found = verify(&looked_at, &Options::new()).unwrap();
        assert!(found.faults.is_empty(), "{:?}", found.faults);
        let store = options(dice).open(&looked_at).unwrap();
        let recovery = store.recovery();
        assert!(!recovery.gap && recovery.damaged == 0, "{recovery:?}");
        self.recoveries += u64::from(!recovery.clean);
        self.follow(&store, safe);
        check::everything(&store, &self.model);
        if !copied && dice.below(3) > 0 {
            store.seal().unwrap();
            self.rolls += 1;
        }
        store.close().unwrap();
        if copied {
            fs::remove_dir_all(looked_at).unwrap();
        }
    }

    /// Finds out how many lines are stored: at least the first `safe`, and whole ones.
    fn follow(&mut self, store: &Store, safe: usize) {
        let version = store.stat().unwrap().version;
        while self.stored < safe || self.model.version() < version {
            assert!(self.stored < self.script.lines.len(), "more is stored than there was");
            self.model.apply(&self.script.ops[self.stored]).unwrap();
            self.stored += 1;
        }
        assert_eq!(self.model.version(), version, "{safe} lines are safe, {} are stored", self.stored);
    }

    /// Imports the rest.
    fn finish(&mut self, dice: &mut Dice) {
        let left = self.script.lines.len() - self.stored;
        let safe = self.start(dice).finish() as usize;
        assert_eq!(safe, left, "a whole import says that all is safe");
        self.check(dice, safe);
        assert_eq!(self.stored, self.script.lines.len());
        check::everything(&Store::open(self.store()).unwrap(), &self.script.model(self.stored));
    }
}

/// Copies a store's directory.
fn copy(store: &Path, dir: &TempDir) -> PathBuf {
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(store).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    copy
}

#[test]
fn a_killed_import_keeps_what_it_said_is_safe_and_goes_on_from_there() {
    let (mut rolls, mut recoveries) = (0, 0);
    for seed in 0..3 * figures::scale() {
        let mut dice = Dice(seed);
        let script = Script::new(&mut dice, 5000);
        let mut series = Series::new(&script);
        for _ in 0..8 {
            series.session(&mut dice);
        }
        series.finish(&mut dice);
        rolls += series.rolls;
        recoveries += series.recoveries;
    }
    figures::figure("kills of a process", 24 * figures::scale());
    println!("{rolls} rolls, {recoveries} recoveries");
    assert!(rolls > 0 && recoveries > 0, "{rolls} sessions that roll, {recoveries} that were cut");
}

#[test]
fn an_import_that_waits_for_more_has_said_that_all_is_safe() {
    let mut dice = Dice(99);
    let script = Script::new(&mut dice, 700);
    let mut series = Series::new(&script);
    let (whole, half) = (script.lines[..699].join("\n"), &script.lines[699][..20]);
    let mut import = Import::start(&series.store(), &format!("{whole}\n{half}"), None);
    import.wait_for(699);
    assert_eq!(import.kill(), 699);
    series.check(&mut dice, 699);
    assert_eq!(series.stored, 699, "half a line is no line");
    series.finish(&mut dice);
}
