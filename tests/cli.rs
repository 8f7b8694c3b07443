//! The command-line tool from the outside: what it prints, its exit status, and what it leaves on disk.
#![cfg(all(feature = "cli", unix))]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chanlog::{Batch, Draft, Options, Store};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tempfile::TempDir;

/// What a run of the tool left behind.
#[derive(Debug)]
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl Ran {
    /// The lines of a run that succeeded.
    fn lines(&self) -> Vec<&str> {
        assert_eq!((self.status, &self.err[..]), (0, ""), "{self:?}");
        self.out.lines().collect()
    }

    fn json(&self) -> Vec<Value> {
        self.lines().into_iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The error of a run that failed with nothing on stdout.
    fn failed(&self, status: i32) -> &str {
        assert_eq!((self.status, &self.out[..]), (status, ""), "{self:?}");
        assert!(!self.err.is_empty() && !self.err.contains("panicked"), "{self:?}");
        &self.err
    }
}

fn start(args: &[&OsStr]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chanlog"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn run_with(args: &[&OsStr], input: &[u8]) -> Ran {
    let mut child = start(args);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A run that stops early closes its stdin, which is no fault of the writer.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { status: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn run(args: &[&str]) -> Ran {
    let args: Vec<_> = args.iter().map(OsStr::new).collect();
    run_with(&args, b"")
}

/// A directory for a store, which is not there yet.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    fn with(&self, command: &str, args: &[&OsStr], input: &[u8]) -> Ran {
        let store = self.store();
        let mut all: Vec<&OsStr> = vec![command.as_ref(), "--store".as_ref(), store.as_ref()];
        all.extend(args);
        run_with(&all, input)
    }

    /// Runs a command on the store.
    fn run(&self, command: &str, args: &[&str]) -> Ran {
        let args: Vec<_> = args.iter().map(OsStr::new).collect();
        self.with(command, &args, b"")
    }

    /// Runs a command on the store, and gives what it prints as JSON.
    fn json(&self, command: &str, args: &[&str]) -> Vec<Value> {
        self.run(command, &[args, &["--json"]].concat()).json()
    }

    /// Imports lines, all of which are good.
    fn import(&self, lines: &[&str]) {
        let input = lines.join("\n");
        let ran = self.with("import", &["--json".as_ref()], input.as_bytes());
        let expected = format!(r#"{{"lines":{}}}"#, lines.len());
        assert_eq!(ran.lines().last(), Some(&&expected[..]));
    }
}

/// Parts a user's answer into its entries and the token and page of its last line.
fn answer(ran: &Ran) -> (Vec<String>, String, Option<String>) {
    let mut lines = ran.lines();
    let end: Value = serde_json::from_str(lines.pop().unwrap()).unwrap();
    let text = |key: &str| end.get(key).map(|value| value.as_str().unwrap().to_string());
    (lines.into_iter().map(String::from).collect(), text("as_of").unwrap(), text("next"))
}

fn send(channel: &str, user: &str, text: &str) -> String {
    format!(r#"{{"channel":"{channel}","user":"{user}","ts":1,"text":"{text}"}}"#)
}

/// Three people in one channel. The comments name the versions that each line takes.
const SMALL: [&str; 4] = [
    r#"{"op":"join","channel":"c","user":"bob"}"#,           // 1
    r#"{"channel":"c","user":"ana","ts":1000,"text":"hi"}"#, // 2, 3
    r#"{"channel":"c","user":"ana","ts":-900,"text":"","silent":true,"id":"c-1","more":[1]}"#, // 4
    r#"{"channel":"c","user":"eve","ts":5,"payload_base64":"/w=="}"#, // 5, 6
];

const FIRST: &str = r#"{"seq":1,"sender":"ana","ts":1000,"silent":false,"text":"hi"}"#;
const SECOND: &str = r#"{"seq":2,"sender":"ana","ts":-900,"silent":true,"text":"","id":"c-1"}"#;
const THIRD: &str = r#"{"seq":3,"sender":"eve","ts":5,"silent":false,"payload_base64":"/w=="}"#;

#[test]
fn a_list_has_exactly_the_shape_of_the_contract() {
    let place = Place::new();
    place.import(&SMALL);
    for (user, read, unread) in [("bob", 0, 2), ("ana", 2, 1), ("eve", 3, 0)] {
        let ran = place.run("conversations", &["--user", user, "--json"]);
        let (entries, as_of, next) = answer(&ran);
        let entry = format!(
            r#"{{"user":"{user}","channel":"c","last_seq":3,"read_seq":{read},"unread":{unread},"version":6,"last":{THIRD}}}"#
        );
        assert_eq!(entries, [entry]);
        assert_eq!(ran.lines().last().unwrap(), &format!(r#"{{"user":"{user}","as_of":"{as_of}"}}"#));
        assert_eq!(next, None);
    }
    let (entries, ..) = answer(&place.run("conversations", &["--user", "eve", "--unread", "--json"]));
    assert!(entries.is_empty());
    let (entries, ..) = answer(&place.run("conversations", &["--user", "nobody", "--json"]));
    assert!(entries.is_empty());
}

#[test]
fn marks_hides_activations_and_leaves_show_up_in_updates() {
    let place = Place::new();
    place.import(&SMALL);
    let token = |user| answer(&place.run("conversations", &["--user", user, "--json"])).1;
    let since = |user, token: &str| {
        answer(&place.run("conversations", &["--user", user, "--since", token, "--json"])).0
    };
    let (bob, ana) = (token("bob"), token("ana"));
    assert!(since("bob", &bob).is_empty());

    place.import(&[r#"{"op":"read","channel":"c","user":"bob","seq":1}"#]);
    let entry = |user, read, unread, version, last| {
        format!(
            r#"{{"user":"{user}","channel":"c","last_seq":3,"read_seq":{read},"unread":{unread},"version":{version},"last":{last}}}"#
        )
    };
    assert_eq!(since("bob", &bob), [entry("bob", 1, 1, 7, THIRD)]);
    // To the end, and beyond it.
    place.import(&[r#"{"op":"read","channel":"c","user":"bob","text":7}"#]);
    place.import(&[r#"{"op":"read","channel":"c","user":"bob","seq":99}"#]);
    assert_eq!(since("bob", &bob), [entry("bob", 3, 0, 8, THIRD)]);

    place.import(&[r#"{"op":"clear","channel":"c","user":"ana"}"#]);
    let removed =
        |user, version| format!(r#"{{"user":"{user}","channel":"c","removed":true,"version":{version}}}"#);
    assert_eq!(since("ana", &ana), [removed("ana", 9)]);
    place.import(&[r#"{"op":"activate","channel":"c","user":"ana"}"#]);
    assert_eq!(since("ana", &ana), [entry("ana", 3, 0, 10, "null")]);
    place.import(&[r#"{"op":"hide","channel":"c","user":"ana"}"#]);
    assert_eq!(since("ana", &ana), [removed("ana", 11)]);

    place.import(&[r#"{"op":"leave","channel":"c","user":"bob"}"#]);
    assert_eq!(since("bob", &bob), [removed("bob", 12)]);
    place.import(&[r#"{"op":"join","channel":"c","user":"bob","history":"all"}"#]);
    assert_eq!(since("bob", &bob), [entry("bob", 3, 0, 13, THIRD)]);
    // Somebody who sees from now on sees nothing yet.
    place.import(&[r#"{"op":"join","channel":"c","user":"joe","history":"now"}"#]);
    assert!(answer(&place.run("conversations", &["--user", "joe", "--json"])).0.is_empty());
}

#[test]
fn a_token_of_another_store_says_start_over_and_a_broken_one_is_bad_input() {
    let (here, there) = (Place::new(), Place::new());
    here.import(&SMALL);
    there.import(&SMALL);
    let (_, token, _) = answer(&there.run("conversations", &["--user", "ana", "--json"]));
    let ran = here.run("conversations", &["--user", "ana", "--since", &token, "--json"]);
    assert_eq!(ran.lines(), [r#"{"user":"ana","reset":true}"#]);
    here.run("conversations", &["--user", "ana", "--since", "?"]).failed(1);
    here.run("conversations", &["--user", "ana", "--after", "?"]).failed(1);
}

#[test]
fn a_limit_cuts_a_list_into_pages_and_an_update_into_tokens() {
    let place = Place::new();
    let names = ["a", "b", "c", "d", "e"];
    let joins = names.map(|channel| format!(r#"{{"op":"join","channel":"{channel}","user":"ana"}}"#));
    place.import(&joins.each_ref().map(|line| &line[..]));
    let (_, start, _) = answer(&place.run("conversations", &["--user", "ana", "--json"]));
    place.import(&names.map(|channel| send(channel, "bob", "x")).each_ref().map(|line| &line[..]));

    let channels = |entries: &[String]| {
        let channel =
            |entry| serde_json::from_str::<Value>(entry).unwrap()["channel"].as_str().unwrap().into();
        entries.iter().map(|entry| channel(entry)).collect::<Vec<String>>()
    };
    let page = |args: &[&str]| {
        answer(&place.run("conversations", &[&["--user", "ana", "--json", "--limit", "2"], args].concat()))
    };
    let (first, _, next) = page(&[]);
    assert_eq!(channels(&first), ["e", "d"]);
    let (second, _, next) = page(&["--after", &next.unwrap()]);
    assert_eq!(channels(&second), ["c", "b"]);
    let (third, _, next) = page(&["--after", &next.unwrap()]);
    assert_eq!((channels(&third), next), (vec!["a".into()], None));

    let (mut token, mut seen) = (start.clone(), Vec::new());
    loop {
        let (entries, as_of, next) = page(&["--since", &token]);
        seen.extend(channels(&entries));
        token = as_of;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(seen, names);
    let (entries, _, next) = page(&["--since", &start]);
    assert_eq!(channels(&entries), ["a", "b"]);
    let (entries, ..) = page(&["--since", &start, "--after", &next.unwrap()]);
    assert_eq!(channels(&entries), ["c", "d"]);
}

#[test]
fn all_goes_through_everyone_who_ever_had_a_row() {
    let place = Place::new();
    place.import(&SMALL);
    place.import(&[
        r#"{"op":"leave","channel":"c","user":"bob"}"#,
        r#"{"channel":"d","user_base64":"/w==","ts":0,"text":"x"}"#,
    ]);
    // Someone who sends without being a member has no row.
    let store = Store::open(place.store()).unwrap();
    store.commit(Batch::new().append("c", Draft::new("aaa", 0, "notice"))).unwrap();
    drop(store);
    let lines = place.json("conversations", &["--all"]);
    let users: Vec<_> = lines
        .iter()
        .map(|line| {
            let user = line.get("user").or(line.get("user_base64")).unwrap().as_str().unwrap();
            (user, line.get("as_of").is_some())
        })
        .collect();
    let expected = [
        ("ana", false),
        ("ana", true),
        ("bob", true),
        ("eve", false),
        ("eve", true),
        ("/w==", false),
        ("/w==", true),
    ];
    assert_eq!(users, expected);
}

#[test]
fn history_answers_every_range_in_both_directions() {
    let place = Place::new();
    place.import(&SMALL);
    let history = |args: &[&str]| place.run("history", &[&["--channel", "c", "--json"], args].concat());
    for (args, expected) in [
        (&[][..], &[FIRST, SECOND, THIRD][..]),
        (&["--reverse"], &[THIRD, SECOND, FIRST]),
        (&["--from", "2"], &[SECOND, THIRD]),
        (&["--from", "2", "--to", "2"], &[SECOND]),
        (&["--to", "2", "--last", "1"], &[SECOND]),
        (&["--last", "2"], &[SECOND, THIRD]),
        (&["--last", "2", "--reverse"], &[THIRD, SECOND]),
        (&["--last", "9", "--from", "2"], &[SECOND, THIRD]),
        (&["--last", "0"], &[]),
        (&["--from", "4"], &[]),
        (&["--from", "3", "--to", "2"], &[]),
        (&["--from", "0", "--to", "18446744073709551615"], &[FIRST, SECOND, THIRD]),
    ] {
        assert_eq!(history(args).lines(), expected, "{args:?}");
    }
    assert!(place.json("history", &["--channel", "unknown"]).is_empty());
}

#[test]
fn messages_are_erased_and_channels_trimmed_emptied_kept_by_policies_and_deleted() {
    let place = Place::new();
    let messages: Vec<_> = (1..=4).map(|i| send("c", "ana", &format!("message {i}"))).collect();
    messages.iter().for_each(|line| place.import(&[line]));
    place.import(&[r#"{"op":"erase","channel":"c","seq":3}"#, r#"{"op":"trim","channel":"c","seq":1}"#]);
    place.import(&[r#"{"op":"retention","channel":"c","max_count":7}"#]);
    let lines = place.json("history", &["--channel", "c"]);
    assert_eq!((lines.len(), &lines[0]["seq"]), (3, &2.into()));
    assert_eq!((&lines[1]["text"], &lines[1]["state"]), (&"".into(), &"erased".into()));
    assert!(place.run("changes", &["--channel", "c"]).out.contains("erased"));
    let refused = place.with("import", &[], br#"{"op":"edit","channel":"c","seq":3,"text":""}"#);
    assert!(refused.failed(1).contains("message 3 was retracted or erased"), "{refused:?}");
    let refused = place.with("import", &[], br#"{"op":"retention","channel":"c","max_count":0}"#);
    assert!(refused.failed(1).contains("a retention limit of 0"), "{refused:?}");
    place.import(&[r#"{"op":"empty","channel":"c"}"#]);
    assert!(place.json("history", &["--channel", "c"]).is_empty());
    place.import(&[r#"{"op":"delete_channel","channel":"c"}"#, &messages[0]]);
    assert_eq!(place.json("history", &["--channel", "c"])[0]["seq"], 1);
}

#[test]
fn what_a_user_sent_is_erased_and_users_are_deleted() {
    let place = Place::new();
    let messages: Vec<_> = ["ana", "bob"].map(|user| send("c", user, "hello")).into();
    messages.iter().for_each(|line| place.import(&[line]));
    place.import(&[
        r#"{"op":"erase_user","user":"ana"}"#,
        r#"{"op":"delete_user","user":"bob","channel":"ignored"}"#,
    ]);
    let lines = place.json("history", &["--channel", "c"]);
    assert_eq!(
        (&lines[0]["sender"], &lines[0]["text"], &lines[0]["state"]),
        (&"ana".into(), &"".into(), &"erased".into())
    );
    assert_eq!(
        (&lines[1]["sender"], &lines[1]["text"], &lines[1]["state"]),
        (&"".into(), &"hello".into(), &Value::Null)
    );
    let members = place.json("members", &["--channel", "c"]);
    assert_eq!(members.len(), 1, "{members:?}");
    let told = place.json("follow", &["--once"]);
    let users: Vec<_> = told.iter().filter(|line| line["event"] == "user").collect();
    assert_eq!((users.len(), &users[0]["user"], &users[1]["deleted"]), (2, &"ana".into(), &true.into()));
    let told = place.run("follow", &["--once"]).out;
    assert!(told.contains("what ana sent up to version") && told.contains("bob was deleted"), "{told}");
}

#[test]
fn messages_expire() {
    let place = Place::new();
    place.import(&[
        r#"{"channel":"c","user":"ana","ts":0,"text":"gone","expires":1000}"#,
        r#"{"channel":"c","user":"ana","ts":0,"text":"later","expires":9000000000000}"#,
    ]);
    let lines = place.json("history", &["--channel", "c"]);
    assert_eq!(
        (&lines[0]["text"], &lines[0]["state"], &lines[0]["expires"]),
        (&"".into(), &"expired".into(), &1000.into())
    );
    assert_eq!((&lines[1]["text"], &lines[1]["state"]), (&"later".into(), &Value::Null));
    assert!(place.run("history", &["--channel", "c"]).out.contains("(expired)"));
    let refused =
        place.with("import", &[], br#"{"channel":"c","user":"ana","ts":0,"text":"x","expires":"soon"}"#);
    assert!(refused.failed(1).contains("expires is no whole number of milliseconds"), "{refused:?}");
}

#[test]
fn a_retracted_message_is_a_stub() {
    let place = Place::new();
    let (one, two) = (send("c", "ana", "hi"), send("c", "ana", "oops"));
    place.import(&[&one, &two, r#"{"op":"retract","channel":"c","seq":2}"#]);
    let lines = place.json("history", &["--channel", "c"]);
    assert_eq!((&lines[0]["state"], &lines[1]["state"]), (&Value::Null, &"retracted".into()));
    assert_eq!((&lines[1]["text"], &lines[1]["seq"]), (&"".into(), &2.into()));
    place.import(&[r#"{"op":"edit","channel":"c","seq":1,"text":"hello"}"#]);
    let line = &place.json("history", &["--channel", "c"])[0];
    assert_eq!((&line["text"], &line["state"]), (&"hello".into(), &"edited".into()));
    let refused = place.with("import", &[], br#"{"op":"edit","channel":"c","seq":2,"text":""}"#);
    assert!(refused.failed(1).contains("message 2 was retracted"), "{refused:?}");
    let refused = place.with("import", &[], br#"{"op":"retract","channel":"c","seq":3}"#);
    assert!(refused.failed(1).contains("line 1: the channel has no message 3"), "{refused:?}");
}

#[test]
fn changes_of_messages_come_oldest_first() {
    let place = Place::new();
    place.import(&[
        &send("c", "ana", "hi"),
        r#"{"op":"annotate","channel":"c","seq":1,"key":"like","text":"ana"}"#,
        r#"{"op":"annotate","channel":"c","seq":1,"key_base64":"/w==","payload_base64":"/wA="}"#,
        r#"{"op":"retract","channel":"c","seq":1}"#,
        r#"{"op":"annotate","channel":"c","seq":1,"key":"like","text":""}"#,
    ]);
    let all = place.run("changes", &["--channel", "c", "--json"]);
    let expected = [
        r#"{"version":4,"seq":1,"change":"annotated","key_base64":"/w==","payload_base64":"/wA="}"#,
        r#"{"version":5,"seq":1,"change":"retracted"}"#,
        r#"{"version":6,"seq":1,"change":"unannotated","key":"like"}"#,
    ];
    assert_eq!(all.lines(), expected);
    let since = place.run("changes", &["--channel", "c", "--since", "4", "--limit", "1", "--json"]);
    assert_eq!(since.lines(), expected[1..2]);
    assert!(place.run("changes", &["--channel", "c"]).out.contains("retracted"));
    let refused = place.with("import", &[], br#"{"op":"annotate","channel":"c","seq":1,"key":"k"}"#);
    assert!(refused.failed(1).contains("needs a field \"value\""), "{refused:?}");
}

#[test]
fn a_feed_is_followed_from_token_to_token() {
    let place = Place::new();
    place.import(&[
        &send("c", "ana", "hi"),
        &send("d", "bo", "ho"),
        r#"{"op":"annotate","channel":"c","seq":1,"key":"like","text":"ana"}"#,
        r#"{"op":"class","channel":"c","class":7}"#,
    ]);
    let all = place.run("follow", &["--once", "--json"]);
    let lines = all.lines();
    let expected = [
        r#"{"version":2,"event":"message","channel":"c","seq":1,"sender":"ana","ts":1,"silent":false,"text":"hi"}"#,
        r#"{"version":4,"event":"message","channel":"d","seq":1,"sender":"bo","ts":1,"silent":false,"text":"ho"}"#,
        r#"{"version":5,"event":"change","channel":"c","seq":1,"change":"annotated","key":"like","text":"ana"}"#,
        r#"{"version":6,"event":"channel","channel":"c","class":7,"trimmed_seq":0}"#,
    ];
    assert_eq!(lines[..4], expected);
    let token: serde_json::Value = serde_json::from_str(lines[4]).unwrap();
    let token = token["token"].as_str().unwrap();
    place.import(&[r#"{"op":"retract","channel":"c","seq":1}"#]);
    let rest = place.run("follow", &["--once", "--after", token]);
    let rest = rest.lines();
    assert!(rest[0] == "c 1 retracted" && rest[1].contains("--after "), "{rest:?}");
    assert_eq!(place.run("follow", &["--once", "--new"]).lines().len(), 1);
    assert_eq!(place.run("follow", &["--once", "--channel", "d"]).lines().len(), 2);
    place.run("follow", &["--once", "--after", "x"]).failed(1);
}

#[test]
fn a_history_longer_than_a_page_is_whole() {
    let place = Place::new();
    let lines: Vec<_> = (1..=2500).map(|n| send("c", "ana", &format!("m{n}"))).collect();
    place.import(&lines.iter().map(|line| &line[..]).collect::<Vec<_>>());
    let seqs = |args: &[&str]| -> Vec<u64> {
        let messages = place.json("history", &[&["--channel", "c"], args].concat());
        messages.iter().map(|message| message["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(seqs(&[]), (1..=2500).collect::<Vec<_>>());
    assert_eq!(seqs(&["--reverse"]), (1..=2500).rev().collect::<Vec<_>>());
    assert_eq!(seqs(&["--last", "1500"]), (1001..=2500).collect::<Vec<_>>());
    assert_eq!(seqs(&["--last", "1500", "--reverse"]), (1001..=2500).rev().collect::<Vec<_>>());
}

#[test]
fn members_show_their_cursors() {
    let place = Place::new();
    place.import(&SMALL);
    place.import(&[r#"{"op":"read","channel":"c","user":"bob","seq":1}"#]);
    let ran = place.run("members", &["--channel", "c", "--json"]);
    let expected = [
        r#"{"user":"bob","channel":"c","join_seq":1,"read_seq":1}"#,
        r#"{"user":"ana","channel":"c","join_seq":1,"read_seq":2}"#,
        r#"{"user":"eve","channel":"c","join_seq":3,"read_seq":3}"#,
    ];
    assert_eq!(ran.lines(), expected);
    assert!(place.json("members", &["--channel", "unknown"]).is_empty());
    place.import(&[r#"{"op":"leave","channel":"c","user":"bob"}"#]);
    assert_eq!(place.json("members", &["--channel", "c"]).len(), 2);
}

#[test]
fn names_may_be_any_bytes() {
    let place = Place::new();
    place.import(&[
        r#"{"op":"join","channel_base64":"/v8=","user":"ana"}"#,
        r#"{"channel_base64":"/v8=","user_base64":"/w==","ts":7,"text":"x","id_base64":"gA=="}"#,
    ]);
    let name = OsString::from_vec(vec![0xfe, 0xff]);
    let message = r#"{"seq":1,"sender_base64":"/w==","ts":7,"silent":false,"text":"x","id_base64":"gA=="}"#;
    let ran = place.with("history", &["--json".as_ref(), "--channel".as_ref(), &name], b"");
    assert_eq!(ran.lines(), [message]);
    let ran = place.with("members", &["--json".as_ref(), "--channel".as_ref(), &name], b"");
    let member = r#"{"user_base64":"/w==","channel_base64":"/v8=","join_seq":1,"read_seq":1}"#;
    assert_eq!(ran.lines()[1], member);
    let user = OsString::from_vec(vec![0xff]);
    let ran = place.with("conversations", &["--json".as_ref(), "--user".as_ref(), &user], b"");
    let entry = r#"{"user_base64":"/w==","channel_base64":"/v8=","last_seq":1,"read_seq":1,"unread":0,"version":3,"last":"#;
    assert_eq!(answer(&ran).0, [format!("{entry}{message}}}")]);
}

#[test]
fn a_line_with_a_client_id_is_sent_once() {
    let place = Place::new();
    let line = r#"{"channel":"c","user":"ana","ts":1,"text":"hi","client_id":"a"}"#;
    let later = r#"{"channel":"c","user":"ana","ts":9,"text":"hi","client_id":"a"}"#;
    place.import(&[line, later]);
    place.import(&[line]);
    assert_eq!(place.json("history", &["--channel", "c"]).len(), 1);
    let other = r#"{"channel":"c","user":"ana","ts":1,"text":"another","client_id":"a"}"#;
    let ran = place.with("import", &[], other.as_bytes());
    assert_eq!(ran.status, 1);
    assert!(ran.err.contains("line 1: ") && ran.err.contains("message 1"), "{}", ran.err);
}

#[test]
fn a_message_is_found_by_its_unique_id() {
    let place = Place::new();
    let line = r#"{"channel":"c","user":"ana","ts":1000,"text":"hi","unique_id":"$e1"}"#;
    place.import(&[line]);
    let found = place.run("message", &["--id", "$e1", "--json"]);
    let expected =
        r#"{"channel":"c","seq":1,"sender":"ana","ts":1000,"silent":false,"text":"hi","unique_id":"$e1"}"#;
    assert_eq!(found.lines(), [expected]);
    assert!(place.run("message", &["--id", "$e1"]).out.contains("hi"));
    place.run("message", &["--id", "$e2"]).failed(1);
    let again = place.with("import", &[], line.as_bytes());
    assert!(again.status == 1 && again.err.contains("message 1"), "{again:?}");
}

#[test]
fn sets_and_conditions_are_ops() {
    let place = Place::new();
    place.import(&[
        r#"{"op":"require_channel","channel":"c","absent":true}"#,
        r#"{"op":"add_to_set","channel":"c","user":"eve","set":3,"attributes":"by=ana"}"#,
        r#"{"op":"require_channel","channel":"c"}"#,
        r#"{"op":"require_member","channel":"c","user":"eve","absent":true}"#,
        r#"{"op":"add_to_set","channel":"c","user":"bob","set":3}"#,
        r#"{"op":"remove_from_set","channel":"c","user":"bob","set":3}"#,
    ]);
    let ran = place.with("import", &[], br#"{"op":"require_member","channel":"c","user":"eve"}"#);
    assert!(ran.status == 1 && ran.err.contains("condition"), "{ran:?}");
    let store = Store::open(place.store()).unwrap();
    let set = store.set("c", 3).list().unwrap();
    assert_eq!(
        (set.len(), &set[0].name[..], &set[0].member.attributes[..]),
        (1, &b"eve"[..], &b"by=ana"[..])
    );
}

#[test]
fn a_bad_line_stops_the_import_and_what_came_before_stays() {
    let large = format!(r#"{{"channel":"c","user":"u","ts":1,"text":"{}"}}"#, "x".repeat((1 << 20) + 1));
    let name = format!(r#"{{"op":"join","channel":"c","user":"{}"}}"#, "x".repeat(256));
    let id = format!(r#"{{"channel":"c","user":"u","ts":1,"text":"","id":"{}"}}"#, "x".repeat(65));
    for bad in [
        "nonsense",
        "[]",
        "7",
        r#"{"user":"u","ts":1,"text":"x"}"#,
        r#"{"channel":"c","ts":1,"text":"x"}"#,
        r#"{"channel":"","user":"u","ts":1,"text":"x"}"#,
        r#"{"channel":"c","user":"u","text":"x"}"#,
        r#"{"channel":"c","user":"u","ts":1}"#,
        r#"{"channel":"c","user":"u","ts":"1","text":"x"}"#,
        r#"{"channel":"c","user":"u","ts":1,"text":"x","id":""}"#,
        r#"{"channel":"c","user":"u","ts":1,"payload_base64":"*"}"#,
        r#"{"channel":"c","user":"u","op":"dance"}"#,
        r#"{"channel":"c","user":"stranger","op":"read"}"#,
        r#"{"channel":"c","user":"stranger","op":"hide"}"#,
        r#"{"channel":"unknown","user":"ana","op":"activate"}"#,
        r#"{"channel":"c","user":"ana","op":"read","seq":-1}"#,
        &large,
        &name,
        &id,
    ] {
        let place = Place::new();
        let good = [send("c", "ana", "1"), send("c", "ana", "2")].join("\n");
        // A blank line is skipped and counted.
        let input = format!("{good}\n\n{bad}\n{}\n", send("c", "ana", "3"));
        let ran = place.with("import", &["--json".as_ref()], input.as_bytes());
        assert_eq!(ran.status, 1, "{bad:.80}: {ran:?}");
        assert!(ran.err.contains("line 4: "), "{bad:.80}: {}", ran.err);
        assert_eq!(ran.out.lines().last(), Some(r#"{"lines":3}"#), "{bad:.80}");
        assert_eq!(place.json("history", &["--channel", "c"]).len(), 2, "{bad:.80}");
        assert_eq!(place.json("stat", &[])[0]["users"], 1, "{bad:.80}");

        let place = Place::new();
        let ran = place.with("import", &["--json".as_ref(), "--skip-bad".as_ref()], input.as_bytes());
        assert_eq!(ran.status, 0, "{bad:.80}: {ran:?}");
        assert!(ran.err.contains('1') && ran.err.contains("bad"), "{}", ran.err);
        assert_eq!(ran.out.lines().last(), Some(r#"{"lines":5}"#), "{bad:.80}");
        assert_eq!(place.json("history", &["--channel", "c"]).len(), 3, "{bad:.80}");
    }
}

#[test]
fn bytes_that_are_no_utf8_make_a_bad_line() {
    let place = Place::new();
    let ran = place.with("import", &[], b"{\"channel\":\"\xff\",\"user\":\"u\",\"ts\":1,\"text\":\"\"}");
    assert!(ran.failed(1).contains("line 1: "));
}

#[test]
fn leaving_as_a_stranger_and_joining_twice_are_good_lines() {
    let place = Place::new();
    place.import(&[
        r#"{"op":"leave","channel":"c","user":"ana"}"#,
        r#"{"op":"join","channel":"c","user":"ana"}"#,
        r#"{"op":"join","channel":"c","user":"ana","history":"all"}"#,
    ]);
    assert_eq!(place.json("stat", &[])[0]["version"], 1);
}

#[test]
fn files_are_plain_or_packed_whatever_their_name() {
    let text = SMALL.join("\r\n") + "\r\n";
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    for (name, bytes) in [("a.jsonl", text.as_bytes()), ("b.gz", text.as_bytes()), ("c.jsonl", &packed)] {
        let place = Place::new();
        let file = place.file(name, bytes);
        let ran = place.run("import", &[&file]);
        assert!(ran.lines()[0].starts_with("4 lines, 3 messages in "), "{ran:?}");
        assert_eq!(place.run("history", &["--channel", "c", "--json"]).lines(), [FIRST, SECOND, THIRD]);
    }
    for stdin in [text.as_bytes(), &packed] {
        let place = Place::new();
        assert_eq!(place.with("import", &["-".as_ref()], stdin).status, 0);
        assert_eq!(place.run("history", &["--channel", "c", "--json"]).lines(), [FIRST, SECOND, THIRD]);
    }
}

#[test]
fn an_input_that_is_not_there_or_cut_is_a_failure() {
    let place = Place::new();
    place.run("import", &["/nowhere/chat.jsonl"]).failed(1);
    assert!(!place.store().exists());
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(SMALL.join("\n").as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    let ran = place.with("import", &["--json".as_ref()], &packed[..packed.len() - 9]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.err.contains("can't be read"), "{ran:?}");
}

#[test]
fn what_is_told_to_be_safe_survives_a_kill() {
    let place = Place::new();
    let store = place.store();
    let mut child = start(&["import".as_ref(), "--json".as_ref(), "--store".as_ref(), store.as_ref()]);
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for n in 1..=3 {
        // With no further input in sight, each line is told on its own.
        writeln!(input, "{}", send("c", "ana", "x")).unwrap();
        input.flush().unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{{\"lines\":{n}}}\n"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(place.json("history", &["--channel", "c"]).len(), 3);
    assert_eq!(place.run("verify", &[]).status, 0);
}

#[test]
fn a_reader_that_goes_away_is_no_reason_to_panic() {
    let place = Place::new();
    let lines: Vec<_> = (0..2000).map(|_| send("c", "ana", &"x".repeat(200))).collect();
    place.import(&lines.iter().map(|line| &line[..]).collect::<Vec<_>>());
    let store = place.store();
    let args = ["history".as_ref(), "--channel".as_ref(), "c".as_ref(), "--store".as_ref(), store.as_ref()];
    let mut child = start(&args);
    let mut first = [0; 10];
    std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
}

#[test]
fn stat_is_one_object() {
    let place = Place::new();
    place.import(&SMALL);
    let objects = place.json("stat", &[]);
    let [stat] = &objects[..] else { panic!("{objects:?}") };
    for (key, value) in [("version", 6), ("channels", 1), ("users", 3), ("messages", 3)] {
        assert_eq!(stat[key], value, "{key}");
    }
    assert!(stat["write_amplification"].as_f64().unwrap() >= 1.0);
    assert!(stat["files"]["logs"]["bytes"].as_u64().unwrap() > 0);
    assert!(stat["bytes_written"]["log"].as_u64().unwrap() > 0);
    assert!(stat["memory"]["layers"].as_u64().unwrap() > 0);
    assert_eq!(stat["memory"]["filters"], 0);
    assert_eq!(stat["recovery"]["created"], false);
    assert_eq!(stat["recovery"]["gap"], false);
    let ran = place.run("stat", &[]);
    assert!(ran.lines().iter().any(|line| line.contains("message segments")));
}

#[test]
fn verify_names_each_fault_by_file_and_offset() {
    let place = Place::new();
    place.import(&SMALL);
    let text = "a sentence that is easily found";
    place.import(&[&send("c", "ana", text), &send("c", "ana", "1"), &send("c", "ana", "2")]);
    let ran = place.run("verify", &["--json"]);
    let summary: Value = serde_json::from_str(ran.lines()[0]).unwrap();
    assert!(summary["files"].as_u64().unwrap() > 0 && summary["bytes"].as_u64().unwrap() > 0);
    assert_eq!(summary["faults"], 0);
    assert!(place.run("verify", &[]).lines()[0].contains("0 faults"));

    let damaged = flip(&place.store(), text.as_bytes());
    let ran = place.run("verify", &[]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.out.lines().next().unwrap().contains(&damaged), "{ran:?}");
    assert!(!ran.err.is_empty());
    let ran = place.run("verify", &["--json"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    let fault: Value = serde_json::from_str(ran.out.lines().next().unwrap()).unwrap();
    assert!(fault["file"].as_str().unwrap().ends_with(&damaged));
    assert!(fault["offset"].is_u64() && fault["what"].is_string());
    let summary: Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    assert!(summary["faults"].as_u64().unwrap() > 0);
}

/// Damages the file of a store that holds `text`, in that place, and gives the file's name.
fn flip(store: &Path, text: &[u8]) -> String {
    for entry in fs::read_dir(store).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text) {
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            return path.file_name().unwrap().to_str().unwrap().into();
        }
    }
    panic!("no file holds the text");
}

const READING: [&[&str]; 11] = [
    &["conversations", "--user", "ana"],
    &["history", "--channel", "c"],
    &["changes", "--channel", "c"],
    &["follow", "--once"],
    &["members", "--channel", "c"],
    &["receipts", "--channel", "c"],
    &["unread", "--user", "ana"],
    &["set", "--channel", "c", "--set", "1"],
    &["annotations", "--channel", "c"],
    &["stat"],
    &["verify"],
];

#[test]
fn reading_makes_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let (absent, empty, foreign) =
        (dir.path().join("absent"), dir.path().join("empty"), dir.path().join("foreign"));
    fs::create_dir(&empty).unwrap();
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("notes.txt"), "mine").unwrap();
    for args in READING {
        for store in [&absent, &empty, &foreign] {
            run(&[args, &["--store", store.to_str().unwrap()]].concat()).failed(1);
        }
    }
    assert!(!absent.exists());
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);
    let import = ["import", "--store", foreign.to_str().unwrap()];
    run(&import).failed(1);
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);
}

#[test]
fn a_store_that_is_open_is_read_beside_its_writer_and_not_written() {
    let place = Place::new();
    place.import(&SMALL);
    let read = || READING.iter().map(|args| place.run(args[0], &args[1..]).lines().len()).collect::<Vec<_>>();
    let before = read();
    let store = Store::open(place.store()).unwrap();
    assert_eq!(read(), before);
    let history = |place: &Place| place.run("history", &["--channel", "c", "--json"]).lines().len();
    assert_eq!(history(&place), 3);
    store.commit(Batch::new().append("c", Draft::new("eve", 9, "beside"))).unwrap();
    // A few milliseconds later.
    let soon = Instant::now() + Duration::from_secs(20);
    while history(&place) < 4 {
        assert!(Instant::now() < soon, "what was committed is not seen");
    }
    let line = place.file("line", SMALL[0].as_bytes());
    assert!(place.run("import", &[&line]).failed(1).contains("open elsewhere"));
}

/// A copy that may not be written can be read and verified, and stays as it is.
#[test]
fn a_store_that_may_not_be_written_is_read_and_stays_as_it_is() {
    let place = Place::new();
    place.import(&SMALL);
    let files = || {
        let list = fs::read_dir(place.store()).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> = list
            .map(|entry| {
                let data = entry.metadata().unwrap();
                (entry.file_name(), data.len(), data.modified().unwrap(), fs::read(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    let before = files();
    fs::set_permissions(place.store(), fs::Permissions::from_mode(0o500)).unwrap();
    for args in READING {
        place.run(args[0], &args[1..]).lines();
    }
    place.run("verify", &[]).lines();
    assert_eq!(files(), before);
    fs::set_permissions(place.store(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn bad_usage_is_status_2() {
    for args in [
        &[][..],
        &["dance"],
        &["stat"],
        &["conversations", "--store", "x"],
        &["conversations", "--store", "x", "--user", "a", "--all"],
        &["conversations", "--store", "x", "--user", "a", "--limit", "many"],
        &["history", "--store", "x"],
        &["history", "--store", "x", "--channel", "c", "--from", "-1"],
        &["members", "--store", "x"],
        &["stat", "--store", "x", "--loud"],
    ] {
        run(args).failed(2);
    }
    assert_eq!(run(&["--help"]).status, 0);
    assert_eq!(run(&["--version"]).status, 0);
}

#[test]
fn people_get_tables_without_control_characters() {
    let place = Place::new();
    place.import(&[r#"{"channel":"c\u0007","user":"ana","ts":1000,"text":"\u001b[2Jboo\nboo"}"#]);
    for args in [
        &["conversations", "--user", "ana"][..],
        &["conversations", "--all"],
        &["history", "--channel", "c\u{7}"],
        &["members", "--channel", "c\u{7}"],
    ] {
        let ran = place.run(args[0], &args[1..]);
        assert!(ran.lines().iter().any(|line| line.contains("ana")), "{ran:?}");
        assert!(ran.out.chars().all(|c| c == '\n' || !c.is_control()), "{ran:?}");
    }
}

#[test]
fn the_demo_shows_a_list_and_the_costs() {
    let place = Place::new();
    let args = ["--messages", "300", "--groups", "2,100"];
    let objects = place.json("demo", &args);
    let costs: Vec<_> = objects.iter().filter(|object| object.get("mode").is_some()).collect();
    assert!(objects.len() > costs.len());
    let rows: Vec<_> = costs.iter().map(|cost| (cost["mode"].as_str().unwrap(), &cost["rows"])).collect();
    assert_eq!(
        rows,
        [("read", &0.into()), ("write", &2.into()), ("read", &0.into()), ("write", &100.into())]
    );
    // The size of the group makes no difference to an append.
    assert_eq!(costs[0]["bytes"], costs[2]["bytes"]);
    assert!(costs[3]["bytes"].as_u64() > costs[2]["bytes"].as_u64());
    assert!(place.json("stat", &[])[0]["messages"].as_u64().unwrap() >= 700);
    place.run("demo", &args).failed(1);

    let ran = run(&[&["demo"], &args[..]].concat());
    assert!(ran.lines().iter().any(|line| line.contains("Write mode")), "{ran:?}");
}

#[test]
fn a_bench_tells_each_work_and_compares_with_an_earlier_run() {
    let place = Place::new();
    let store = place.store().into_os_string().into_string().unwrap();
    let bench = |more: &[&str]| run(&[&["bench", "--messages", "2000"], more].concat());
    let first = bench(&["--dir", &store, "--json"]);
    let works = first.json();
    let names: Vec<_> = works.iter().map(|line| line["work"].as_str().unwrap()).collect();
    for name in [
        "append, 256 in a commit, buffered",
        "append, durable",
        "append, durable, 64 threads",
        "append and mark as read, buffered",
        "join, 4,096 in a commit, buffered",
        "list, first 50 of 200 conversations",
        "list, first 50 of 2,000 conversations",
        "since, 5 changed of 200 conversations",
        "history, last 20",
        "history, 50 from the middle",
        "open",
    ] {
        assert_eq!(names.iter().filter(|known| **known == name).count(), 1, "{name}");
    }
    for line in &works {
        assert!(
            line["units"].as_u64() > Some(0) && line["half_nanos"].as_u64() <= line["most_nanos"].as_u64(),
            "{line}"
        );
        assert_eq!((line["messages"].as_u64(), line.get("ratio")), (Some(2000), None));
    }
    // The store is kept, with what was said of it.
    assert!(place.json("stat", &[])[0]["messages"].as_u64().unwrap() > 2000);
    assert!(place.json("verify", &[]).iter().all(|line| line.get("file").is_none()));
    assert!(bench(&["--dir", &store]).failed(1).contains("not empty"));

    // What a run printed is compared with by the next, whose own lines serve one after it.
    let earlier = place.file("earlier.jsonl", first.out.as_bytes());
    let other = place.dir.path().join("other").into_os_string().into_string().unwrap();
    let second = bench(&["--dir", &other, "--json", "--against", &earlier]);
    for (line, before) in second.json().iter().zip(&works) {
        assert_eq!((&line["work"], &line["before"]), (&before["work"], &before["nanos"]));
        let [now, before] = [line, before].map(|line| line["nanos"].as_u64().unwrap());
        assert!((line["ratio"].as_f64().unwrap() - now as f64 / before.max(1) as f64).abs() < 1e-9);
    }
    let later = place.file("later.jsonl", second.out.as_bytes());
    let more = bench(&["--messages", "3000", "--against", &later]);
    assert_eq!(more.status, 2, "an option twice: {more:?}");
    let refused = run(&["bench", "--messages", "3000", "--against", &later]);
    assert!(refused.failed(1).contains("measured with --messages 2000"), "{refused:?}");
    let foreign = place.file("foreign", b"{\"lines\":1}\n");
    assert!(bench(&["--against", &foreign]).failed(1).contains("bench --json"));
}

#[test]
fn a_bench_without_a_directory_leaves_none() {
    let here = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_chanlog"));
    let ran = command.args(["bench", "--messages", "1000"]).current_dir(here.path()).output().unwrap();
    let (out, err) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
    assert!(ran.status.success() && err.is_empty(), "{err}");
    assert!(out.contains("history, last 20") && !out.contains("ratio"), "{out}");
    assert_eq!(fs::read_dir(here.path()).unwrap().count(), 0);
}

/// The most memory that a process that still runs has held, in MiB.
#[cfg(target_os = "linux")]
fn peak(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() >> 10
}

#[test]
#[cfg(target_os = "linux")]
fn a_long_line_costs_little_memory_whether_it_is_refused_or_not() {
    let bad = "x".repeat(32 << 20);
    let begin = r#"{"channel":"c","user":"ana","ts":1,"text":"x","more":["#;
    let refused = format!("{begin}{}1]}}", "1,".repeat(16 << 20));
    let ignored = format!("{begin}{}1]}}", "1,".repeat(3 << 20));
    let escaped = send("c", "ana", &"\\u0001".repeat(1 << 20));
    for (long, messages) in [(bad, 1), (refused, 1), (ignored, 2), (escaped, 2)] {
        let place = Place::new();
        let store = place.store();
        let mut child = start(&[
            "import".as_ref(),
            "--json".as_ref(),
            "--skip-bad".as_ref(),
            "--store".as_ref(),
            store.as_ref(),
        ]);
        let mut input = child.stdin.take().unwrap();
        write!(input, "{long}\n{}\n", send("c", "ana", "y")).unwrap();
        let told = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(told.into_iter().any(|line| line == r#"{"lines":2}"#));
        // The input has not ended, so the import is still there.
        let peak = peak(&child);
        drop(input);
        assert!(child.wait().unwrap().success());
        assert!(peak < 32, "{:.80}: {peak} MiB", long);
        assert_eq!(place.json("history", &["--channel", "c"]).len(), messages, "{long:.80}");
    }
}

#[test]
fn a_line_that_is_too_long_is_told_by_its_number_before_it_ends() {
    let place = Place::new();
    let store = place.store();
    let mut child = start(&["import".as_ref(), "--store".as_ref(), store.as_ref()]);
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{}", send("c", "ana", "x")).unwrap();
    // The import stops while there is more to come.
    let written = input.write_all(&vec![b'x'; 64 << 20]);
    drop(input);
    assert_eq!(written.unwrap_err().kind(), ErrorKind::BrokenPipe);
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("line 2: longer than"), "{told}");
}

#[test]
fn what_is_told_of_a_bad_line_is_short() {
    let place = Place::new();
    let long = "x\u{202e}".repeat(100_000);
    for bad in [format!(r#""{long}""#), format!(r#"{{"channel":"c","user":"u","op":"{long}"}}"#)] {
        let ran = place.with("import", &[], bad.as_bytes());
        let told = ran.failed(1);
        assert!(told.len() < 2000 && !told.contains('\u{202e}'), "{told:.3000}");
    }
}

/// Characters that drive a terminal, turn the text around them, or cannot be seen.
const HIDDEN: &str = "\u{1}\u{7f}\u{80}\u{9b}\u{9f}\u{61c}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{202a}\u{202b}\
    \u{202c}\u{202d}\u{202e}\u{2060}\u{2066}\u{2067}\u{2068}\u{2069}\u{feff}";

#[test]
fn hidden_characters_are_escaped_for_people_and_in_json() {
    let place = Place::new();
    let name = format!("c{HIDDEN}");
    let line = serde_json::json!({"channel": name, "user": HIDDEN, "ts": 1, "text": HIDDEN});
    place.import(&[&line.to_string()]);
    for args in [
        &["conversations", "--user", HIDDEN][..],
        &["conversations", "--all"],
        &["history", "--channel", &name],
        &["members", "--channel", &name],
    ] {
        let ran = place.run(args[0], &args[1..]);
        assert!(ran.lines().iter().any(|line| line.contains(r"\u{1}\u{7f}\u{80}\u{9b}")), "{ran:?}");
        assert!(ran.out.contains(r"\u{202e}") && ran.out.contains(r"\u{feff}"), "{ran:?}");
        assert!(!ran.out.contains(|c| c != '\n' && HIDDEN.contains(c)), "{ran:?}");

        let ran = place.run(args[0], &[&args[1..], &["--json"]].concat());
        assert!(ran.lines()[0].contains(r"\u0001\u007f\u0080\u009b\u009f"), "{ran:?}");
        assert!(!ran.out.contains(|c| HIDDEN.contains(c)), "{ran:?}");
    }
    let message = &place.json("history", &["--channel", &name])[0];
    assert_eq!((&message["sender"], &message["text"]), (&HIDDEN.into(), &HIDDEN.into()));
}

#[test]
fn an_input_that_cannot_be_read_makes_no_store() {
    let place = Place::new();
    let directory = place.dir.path().join("directory");
    fs::create_dir(&directory).unwrap();
    let told = place.run("import", &[directory.to_str().unwrap()]);
    assert!(told.failed(1).contains("directory"), "{told:?}");
    assert!(!place.store().exists());
}

/// Runs the tool with its stdout going to a file.
fn run_into(out: fs::File, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chanlog"));
    let output = command.args(args).stdin(Stdio::null()).stdout(out).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    Ran { status: output.status.code().unwrap(), out: String::new(), err }
}

/// Everything that prints, for the store of `SMALL`.
const PRINTING: [&[&str]; 11] = [
    &["--help"],
    &["--version"],
    &["import", "--help"],
    &["conversations", "--user", "ana"],
    &["conversations", "--all", "--json"],
    &["history", "--channel", "c"],
    &["members", "--channel", "c", "--json"],
    &["stat"],
    &["stat", "--json"],
    &["verify"],
    &["import", "-"],
];

/// Adds the store to the arguments of a command that takes one.
fn at<'a>(args: &[&'a str], store: &'a str) -> Vec<&'a str> {
    let mut all = args.to_vec();
    if !args.iter().any(|arg| matches!(*arg, "--help" | "--version")) {
        all.extend(["--store", store]);
    }
    all
}

#[test]
#[cfg(target_os = "linux")]
fn a_stdout_that_takes_nothing_is_a_failure() {
    let place = Place::new();
    place.import(&SMALL);
    let store = place.store().into_os_string().into_string().unwrap();
    for args in PRINTING {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ran = run_into(full, &at(args, &store));
        assert!(ran.failed(1).contains("stdout: No space left"), "{args:?}: {ran:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::new();
    place.import(&SMALL);
    let store = place.store().into_os_string().into_string().unwrap();
    for args in PRINTING {
        let mut child = start(&at(args, &store).iter().map(OsStr::new).collect::<Vec<_>>());
        drop((child.stdin.take(), child.stdout.take()));
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]), "{args:?}");
    }
}

#[test]
fn an_import_goes_on_when_nobody_reads_what_is_safe() {
    let place = Place::new();
    let store = place.store();
    let mut child = start(&["import".as_ref(), "--json".as_ref(), "--store".as_ref(), store.as_ref()]);
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    for _ in 0..600 {
        writeln!(input, "{}", send("c", "ana", "x")).unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
    assert_eq!(place.json("history", &["--channel", "c"]).len(), 600);
}

#[test]
fn faults_give_their_status_even_if_nobody_reads_them() {
    let place = Place::new();
    place.import(&SMALL);
    let text = "a sentence that is easily found";
    place.import(&[&send("c", "ana", text), &send("c", "ana", "1")]);
    flip(&place.store(), text.as_bytes());
    let store = place.store();
    let mut child = start(&["verify".as_ref(), "--store".as_ref(), store.as_ref()]);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("fault"));
}

mod backups {
    use super::*;

    fn filled(place: &Place) -> Store {
        let store = Store::open(place.store()).unwrap();
        for n in 0..3 {
            store.commit(Batch::new().append("general", Draft::new("alice", n, "hi"))).unwrap();
            store.seal().unwrap();
        }
        store
    }

    fn ran(args: &[&str], paths: &[(&str, &Path)]) -> Ran {
        let mut all: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        for (flag, path) in paths {
            all.extend([OsStr::new(*flag), path.as_os_str()]);
        }
        run_with(&all, b"")
    }

    #[test]
    fn a_backup_is_made_added_to_and_restored() {
        let place = Place::new();
        filled(&place).close().unwrap();
        let (store, backup, restored) =
            (place.store(), place.dir.path().join("backup"), place.dir.path().join("restored"));
        let to = [("--store", &*store), ("--to", &*backup)];
        let first = ran(&["backup", "--json"], &to).json();
        assert_eq!((&first[0]["version"], &first[0]["kept"]), (&Value::from(3), &Value::from(0)));
        let second = ran(&["backup", "--json"], &to).json();
        assert_eq!((&second[0]["linked"], &second[0]["kept"]), (&Value::from(0), &first[0]["linked"]));
        let back = [("--from", &*backup), ("--to", &*restored)];
        assert_eq!(ran(&["restore"], &back).lines().len(), 1);
        assert_eq!(Store::open(&restored).unwrap().head("general").unwrap().last.seq, 3);
        // What is there is not replaced.
        assert!(ran(&["restore"], &back).failed(1).contains("not empty"));
        // The backup stays one.
        ran(&["backup"], &to).lines();
    }

    #[test]
    fn what_was_erased_since_a_backup_does_not_come_back() {
        let place = Place::new();
        let store = filled(&place);
        store.close().unwrap();
        let (dir, backup, restored) =
            (place.store(), place.dir.path().join("backup"), place.dir.path().join("restored"));
        let made = ran(&["backup", "--json"], &[("--store", &dir), ("--to", &backup)]).json();
        place.import(&[
            r#"{"op":"erase","channel":"general","seq":2}"#,
            r#"{"op":"trim","channel":"general","seq":1}"#,
        ]);
        let lines = place.run("erasures", &["--since", &made[0]["version"].to_string()]).out;
        let expected = concat!(
            r#"{"op":"trim","channel":"general","id":0,"seq":1,"version":5}"#,
            "\n",
            r#"{"op":"erase","channel":"general","id":0,"seq":2,"version":4}"#,
            "\n",
        );
        assert_eq!(lines, expected);
        let file = PathBuf::from(place.file("erasures", lines.as_bytes()));
        let back = [("--from", &*backup), ("--to", &*restored), ("--erasures", &*file)];
        let told = ran(&["restore", "--json"], &back).json();
        assert_eq!(told[0]["erased"], 2);
        let payloads: Vec<_> = Store::open(&restored).unwrap().history("general").list().unwrap();
        let payloads: Vec<_> = payloads.into_iter().map(|message| (message.seq, message.payload)).collect();
        assert_eq!(payloads, [(2, "".into()), (3, "hi".into())]);
        // What can't be understood, or is another store's, leaves nothing behind.
        for (line, cause) in [
            ("{}", "missing field"),
            (r#"{"op":"erase","channel":"general","id":0,"version":4}"#, "seq"),
            (r#"{"op":"read","channel":"general","id":0,"seq":1,"version":4}"#, "read"),
            (r#"{"op":"erase","channel":"other","id":0,"seq":1,"version":4}"#, "no copy"),
        ] {
            let file = PathBuf::from(place.file("bad", line.as_bytes()));
            let to = place.dir.path().join("none");
            let ran = ran(&["restore"], &[("--from", &*backup), ("--to", &*to), ("--erasures", &*file)]);
            assert!(ran.failed(1).contains(cause), "{ran:?}");
            assert!(!to.exists(), "{cause}");
        }
    }

    #[test]
    fn a_damaged_backup_is_not_restored() {
        let place = Place::new();
        filled(&place).close().unwrap();
        let (store, backup) = (place.store(), place.dir.path().join("backup"));
        ran(&["backup"], &[("--store", &store), ("--to", &backup)]).lines();
        let segment = fs::read_dir(&backup).unwrap().map(|file| file.unwrap().path());
        let segment = segment.into_iter().find(|path| path.to_string_lossy().contains("seg-")).unwrap();
        let mut bytes = fs::read(&segment).unwrap();
        bytes[70] ^= 1;
        // A file of its own: the store has the other name.
        fs::remove_file(&segment).unwrap();
        fs::write(&segment, bytes).unwrap();
        let to = place.dir.path().join("restored");
        assert!(ran(&["restore"], &[("--from", &backup), ("--to", &to)]).failed(1).contains("damaged"));
        assert!(!to.exists());
    }

    #[test]
    fn a_store_that_is_open_is_not_backed_up_or_compacted_from_outside() {
        let place = Place::new();
        let _open = filled(&place);
        let backup = place.dir.path().join("backup");
        let store = place.store();
        assert!(
            ran(&["backup"], &[("--store", &store), ("--to", &backup)]).failed(1).contains("open elsewhere")
        );
        assert!(ran(&["compact"], &[("--store", &store)]).failed(1).contains("open elsewhere"));
    }

    #[test]
    fn compacting_leaves_few_files() {
        let place = Place::new();
        filled(&place).close().unwrap();
        let found = ran(&["compact", "--json"], &[("--store", &place.store())]).json();
        assert_eq!((&found[0]["segments"], &found[0]["runs"]), (&Value::from(1), &Value::from(1)));
    }
}

#[test]
fn shells_and_man_learn_the_arguments() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).lines().iter().any(|line| line.contains("conversations")));
    }
    assert!(run(&["man"]).lines().iter().any(|line| line.starts_with(".TH")));
    assert!(run(&["man", "import"]).lines().iter().any(|line| line.contains("skip")));
    assert!(run(&["man", "dance"]).failed(1).contains("no command"));
}

#[test]
fn every_file_of_a_store_can_be_looked_into() {
    let place = Place::new();
    let store = Store::open(place.store()).unwrap();
    for text in ["a block holds this", "and this is a tail"] {
        store.commit(Batch::new().append("general", Draft::new("alice", 0, text))).unwrap();
    }
    store.seal().unwrap();
    store.commit(Batch::new().append("general", Draft::new("alice", 1, "there"))).unwrap();
    let mut kinds = Vec::new();
    for file in fs::read_dir(place.store()).unwrap() {
        let path = file.unwrap().path();
        if path.ends_with("chanlog.published") || path.ends_with("chanlog.reserve") {
            continue;
        }
        let path = path.to_str().unwrap();
        let found = run(&["inspect", "--json", path]).json();
        kinds.push(found[0]["kind"].as_str().unwrap().to_owned());
        assert!(found.len() > 1, "{path}: {found:?}");
        assert!(run(&["inspect", path, "--limit", "0"]).lines().last().unwrap().contains("more"));
    }
    kinds.sort();
    assert_eq!(kinds, ["log segment", "manifest", "message segment", "table run"]);
    assert!(run(&["inspect", "/etc/passwd"]).failed(1).contains("no name that a store gives"));
    assert!(run(&["inspect", "/nowhere/log-0000000000000001"]).failed(1).contains("open"));
}

/// Waits until readers beside the writer see all: that it was published is noted a moment after.
fn until_noted(store: &Store, place: &Place) {
    let soon = Instant::now() + Duration::from_secs(20);
    let seen = || Options::new().read_only(true).open(place.store()).unwrap().version().unwrap();
    while seen() < store.version().unwrap() {
        assert!(Instant::now() < soon, "what was committed is not seen");
    }
}

#[test]
fn marks_and_sums_are_told() {
    let place = Place::new();
    let store = Store::open(place.store()).unwrap();
    let mut batch = Batch::new();
    batch.join("general", "alice").join("general", "bob").class("thread", 2).join("thread", "bob");
    batch.append("general", Draft::new("alice", 0, "hi")).append("thread", Draft::new("alice", 0, "there"));
    store.commit(&batch).unwrap();
    until_noted(&store, &place);
    let dir = place.store();
    let dir = dir.to_str().unwrap();
    let marks = run(&["receipts", "--store", dir, "--channel", "general", "--json"]).json();
    let told: Vec<_> = marks.iter().map(|mark| (mark["user"].as_str(), mark["read_seq"].as_u64())).collect();
    assert_eq!(told, [(Some("alice"), Some(1)), (Some("bob"), Some(0))]);
    let since = marks[1]["version"].to_string();
    let later = run(&["receipts", "--store", dir, "--channel", "general", "--since", &since]);
    assert!(later.lines().iter().any(|line| line.contains("alice")));
    let sums = |class: &[&str]| {
        let all = [&["unread", "--store", dir, "--user", "bob", "--json"], class].concat();
        let sums = &run(&all).json()[0];
        (sums["messages"].as_u64().unwrap(), sums["conversations"].as_u64().unwrap())
    };
    assert_eq!((sums(&[]), sums(&["--class", "2"])), ((2, 2), (1, 1)));
}

#[test]
fn mentions_come_in_with_a_send_and_all_can_be_marked_as_read() {
    let place = Place::new();
    place.import(&[
        r#"{"op":"join","channel":"c","user":"bob"}"#,
        r#"{"channel":"c","user":"ana","ts":1,"text":"@bob","mentions":["bob","x"],"mentions_base64":["/w=="]}"#,
        r#"{"channel":"c","user":"ana","ts":2,"text":"@all","mention_all":true}"#,
        r#"{"channel":"c","user":"ana","ts":3,"text":"nobody","mentions":[],"mention_all":null}"#,
        r#"{"channel":"c","user":"ana","ts":4,"text":"rings","quiet":true,"mention_all":true}"#,
    ]);
    let history = place.run("history", &["--channel", "c", "--json"]).json();
    assert_eq!((history[3]["quiet"].as_bool(), history[2].get("quiet")), (Some(true), None));
    let unread = || place.run("unread", &["--user", "bob", "--json"]).json()[0].clone();
    assert_eq!((unread()["messages"].as_u64(), unread()["mentions"].as_u64()), (Some(3), Some(2)));
    let entry = place.run("conversations", &["--user", "bob", "--json"]).json()[0].clone();
    assert_eq!(entry["mentions"].as_u64(), Some(2));
    place.import(&[r#"{"op":"deliver","channel":"c","user":"bob","seq":2}"#]);
    let receipts = place.run("receipts", &["--channel", "c", "--json"]).json();
    assert_eq!((receipts[0]["delivered_seq"].as_u64(), receipts[0]["read_seq"].as_u64()), (Some(2), Some(0)));
    place.import(&[r#"{"op":"read_all","user":"bob"}"#]);
    assert_eq!((unread()["messages"].as_u64(), unread()["mentions"].as_u64()), (Some(0), Some(0)));
}

mod exports {
    use super::*;

    fn filled(place: &Place) -> Store {
        let store = Store::open(place.store()).unwrap();
        let mut batch = Batch::new();
        batch
            .join("general", "bob")
            .append("general", Draft::new("ana", -5, "hi \u{202e}").client_id("c").id(u64::MAX));
        batch
            .append("general", Draft::new(b"\xff\x01", 6, vec![0xff, 0]).quiet())
            .pin("general", "bob", true);
        batch
            .attributes("general", "bob", [7; 2000])
            .annotate("general", 1, "k", "v")
            .user_attributes("ana", "text");
        store.commit(&batch).unwrap();
        store
    }

    fn import(place: &Place, to: &str, input: &[u8]) -> Ran {
        let to = place.dir.path().join(to);
        run_with(&["import".as_ref(), "--json".as_ref(), "--store".as_ref(), to.as_ref()], input)
    }

    #[test]
    fn an_export_makes_a_store_that_exports_the_same_bytes() {
        let place = Place::new();
        // Beside who writes it.
        let open = filled(&place);
        until_noted(&open, &place);
        let first = place.run("export", &[]);
        let lines = first.lines();
        let end: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
        assert_eq!(end["facts"], lines.len() - 1);
        let message = r#""channel":"general","channel_id":0,"seq":1,"ordinal":1,"version":2,"sender":"ana","sender_id":1,"ts":-5,"#;
        assert!(lines.iter().any(|line| line.contains(message)), "{}", first.out);
        assert!(
            first.out.contains(r#""table":"memberships","key":[0,0,0],"channel":"general","user":"bob""#),
            "{}",
            first.out
        );
        let told = import(&place, "copy", first.out.as_bytes());
        assert_eq!(told.out, format!("{{\"lines\":{}}}\n", lines.len()));
        let (copy, file) = (place.dir.path().join("copy"), place.dir.path().join("dump"));
        let args: [&OsStr; 4] = ["export".as_ref(), "--store".as_ref(), copy.as_ref(), file.as_ref()];
        assert_eq!(run_with(&args, b"").lines(), [""; 0]);
        assert_eq!(fs::read(&file).unwrap(), first.out.as_bytes());
        open.close().unwrap();
        assert_eq!(place.run("export", &["-"]).out, first.out);
        // What is there is not added to.
        assert!(import(&place, "copy", first.out.as_bytes()).failed(1).contains("empty"));
        // Packed, too.
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(first.out.as_bytes()).unwrap();
        assert_eq!(import(&place, "packed", &encoder.finish().unwrap()).status, 0);
    }

    #[test]
    fn a_bad_line_of_an_export_is_named_and_nothing_is_left() {
        let place = Place::new();
        filled(&place).close().unwrap();
        let good = place.run("export", &[]).out;
        let count = good.lines().count();
        let bad = |change: &dyn Fn(&mut Vec<String>)| {
            let mut lines: Vec<String> = good.lines().map(String::from).collect();
            change(&mut lines);
            lines.join("\n")
        };
        let replace = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}: {good}");
            good.replacen(from, to, 1)
        };
        let row = good.lines().position(|line| line.contains("memberships")).unwrap() + 1;
        let message = good.lines().position(|line| line.contains(r#""fact":"message""#)).unwrap() + 1;
        let cases = [
            (bad(&|lines| drop(lines.pop())), count, "ends without"),
            (bad(&|lines| lines.push("{}".into())), count + 1, "after the last line"),
            (bad(&|lines| lines[2] = "nonsense".into()), 3, "expected"),
            (bad(&|lines| lines[2] = r#"{"fact":"wonder"}"#.into()), 3, "wonder"),
            (bad(&|lines| lines[1] = lines[0].clone()), 2, "once"),
            (replace(r#""format":1"#, r#""format":9"#), 1, "format 9"),
            (replace(r#""hash_key":""#, r#""hash_key":"A"#), 1, "hash_key"),
            (replace(r#""losses":[]"#, r#""losses":[[1]]"#), 1, "losses"),
            (replace(r#""table":"memberships""#, r#""table":"members_of""#), row, "members_of"),
            (replace(r#""pinned":1"#, r#""pinned":7"#), row, "pinned"),
            (replace(r#""pinned":1"#, r#""pinned":1,"color":2"#), row, "color"),
            (replace(r#""pinned":1"#, r#""pinned":[]"#), row, "pinned"),
            (replace(r#""sender":"ana""#, r#""sender":"eve""#), message, "called"),
            (replace(r#""ordinal":1,"version""#, r#""ordinal":-1,"version""#), message, "ordinal"),
            (replace(r#","ts":-5"#, ""), message, "no ts"),
            (replace(r#","ts":-5"#, r#","ts":-5,"color":2"#), message, "color"),
        ];
        for (input, line, cause) in cases {
            let ran = import(&place, "copy", input.as_bytes());
            let told = ran.failed(1);
            assert!(told.contains(&format!("line {line}: ")), "line {line}, {cause}: {told}");
            assert!(told.contains(cause), "{cause}: {told}");
            assert!(!place.dir.path().join("copy").exists(), "{cause}");
        }
        assert_eq!(import(&place, "copy", good.as_bytes()).status, 0);
    }
}

mod repairs {
    use super::*;

    fn repair(place: &Place, flags: &[&str], to: &str) -> Ran {
        let (store, to) = (place.store(), place.dir.path().join(to));
        let mut all: Vec<&OsStr> =
            vec!["repair".as_ref(), "--store".as_ref(), store.as_ref(), "--to".as_ref(), to.as_ref()];
        all.extend(flags.iter().map(OsStr::new));
        run_with(&all, b"")
    }

    #[test]
    fn what_is_whole_is_saved_and_what_is_missing_is_listed() {
        let place = Place::new();
        let store = Store::open(place.store()).unwrap();
        for text in ["one", "two"] {
            store.commit(Batch::new().append("c", Draft::new("ana", 1, text))).unwrap();
            store.seal().unwrap();
        }
        store.close().unwrap();
        let whole = repair(&place, &["--json"], "whole").json();
        assert_eq!((whole.len(), &whole[0]["whole"], &whole[0]["messages"]), (1, &true.into(), &2.into()));
        let segments = fs::read_dir(place.store()).unwrap().map(|file| file.unwrap().path());
        let mut segments: Vec<_> = segments.filter(|path| path.to_string_lossy().contains("seg-")).collect();
        segments.sort();
        fs::remove_file(&segments[0]).unwrap();
        let told = repair(&place, &["--json"], "saved").json();
        assert_eq!(
            (&told[0]["missing"], told[0]["what"].as_str()),
            (&"bytes".into(), Some("the file is missing"))
        );
        let range = (&told[1]["missing"], &told[1]["channel"], &told[1]["from"], &told[1]["to"]);
        assert_eq!(range, (&"messages".into(), &"c".into(), &1.into(), &1.into()));
        assert_eq!((&told[2]["messages"], &told[2]["whole"]), (&1.into(), &false.into()));
        assert_eq!(
            Store::open(place.dir.path().join("saved")).unwrap().history("c").list().unwrap()[0].payload,
            "two"
        );
        let lines = repair(&place, &[], "again");
        assert!(lines.lines()[1].contains("messages 1 to 1 of channel c are missing"), "{}", lines.out);
        assert!(repair(&place, &[], "again").failed(1).contains("empty"));
        fs::remove_file(place.store().join("chanlog.manifest")).unwrap();
        fs::write(place.store().join("chanlog.lock"), "").unwrap();
        assert!(repair(&place, &[], "none").failed(1).contains("no manifest"));
        assert!(!place.dir.path().join("none").exists());
    }
}

#[test]
fn what_is_kept_with_channels_members_users_and_messages_is_told() {
    let place = Place::new();
    place.import(&[
        &send("c", "ana", "hi"),
        r#"{"op":"class","channel":"c","class":3}"#,
        r#"{"op":"attributes","channel":"c","attributes":"title"}"#,
        r#"{"op":"retention","channel":"c","max_count":9,"max_bytes":100000}"#,
        r#"{"op":"attributes","user":"ana","attributes":"card"}"#,
        r#"{"op":"join","channel":"c","user":"bob"}"#,
        r#"{"op":"role","channel":"c","user":"bob","role":2}"#,
        r#"{"op":"attributes","channel":"c","user":"bob","attributes":"nick"}"#,
        r#"{"op":"add_to_set","channel":"c","user":"eve","set":1,"attributes":"spam"}"#,
        r#"{"op":"add_to_set","channel":"d","user":"eve","set":1}"#,
        r#"{"op":"annotate","channel":"c","seq":1,"key":"ana","text":":)"}"#,
        r#"{"op":"join","channel":"c","user":"cat"}"#,
        r#"{"op":"leave","channel":"c","user":"cat"}"#,
    ]);
    let channel = &place.json("channel", &["--channel", "c"])[0];
    assert_eq!(
        (&channel["class"], &channel["attributes"], &channel["members"]),
        (&3.into(), &"title".into(), &2.into())
    );
    assert_eq!((&channel["max_count"], &channel["max_bytes"]), (&9.into(), &100_000.into()));
    assert!(channel.get("max_age_ms").is_none(), "{channel}");
    assert!(place.run("channel", &["--channel", "c"]).out.contains("most bytes"));
    assert!(place.run("channel", &["--channel", "unknown"]).failed(1).contains("no such channel"));
    assert_eq!(place.json("user", &["--user", "ana"])[0]["attributes"], "card");
    assert!(place.run("user", &["--user", "unknown"]).failed(1).contains("no such user"));

    let admins = place.json("members", &["--channel", "c", "--role", "2"]);
    assert_eq!(
        (admins.len(), &admins[0]["user"], &admins[0]["attributes"]),
        (1, &"bob".into(), &"nick".into())
    );
    let left = place.json("members", &["--channel", "c", "--left"]);
    assert_eq!((left.len(), &left[0]["user"], left[0]["left_ts"].is_i64()), (1, &"cat".into(), true));
    let version = place.json("stat", &[])[0]["version"].as_u64().unwrap();
    assert!(place.json("members", &["--channel", "c", "--since", &version.to_string()]).is_empty());

    let set = place.json("set", &["--channel", "c", "--set", "1"]);
    assert_eq!((set.len(), &set[0]["user"], &set[0]["attributes"]), (1, &"eve".into(), &"spam".into()));
    let sets = place.json("set", &["--user", "eve", "--set", "1"]);
    assert_eq!(sets.iter().map(|entry| &entry["channel"]).collect::<Vec<_>>(), ["c", "d"]);
    run(&["set", "--store", "x", "--set", "1"]).failed(2);
    let kept = place.json("annotations", &["--channel", "c"]);
    assert_eq!(
        (&kept[0]["seq"], &kept[0]["key"], &kept[0]["text"]),
        (&1.into(), &"ana".into(), &":)".into())
    );
    assert!(place.json("annotations", &["--channel", "c", "--from", "2"]).is_empty());
}

#[test]
fn a_line_that_a_condition_or_another_message_refused_is_told_with_what_it_was() {
    let place = Place::new();
    let line =
        |text: &str, more: &str| format!(r#"{{"channel":"c","user":"ana","ts":1,"text":"{text}",{more}}}"#);
    let lines = [
        line("one", r#""client_id":"a""#),
        line("two", r#""unique_id":"b""#),
        line("other", r#""client_id":"a""#),
        line("other", r#""unique_id":"b""#),
        line("one", r#""client_id":"a""#),
        r#"{"op":"require_channel","channel":"c","absent":true}"#.into(),
        "nonsense".into(),
    ];
    let ran = place.with("import", &["--json".as_ref(), "--skip-bad".as_ref()], lines.join("\n").as_bytes());
    let refused: Vec<_> = ran.out.lines().filter(|line| line.contains("refused")).collect();
    assert_eq!(
        refused,
        [
            r#"{"line":3,"refused":"conflict","seq":1}"#,
            r#"{"line":4,"refused":"id_taken","channel":"c","seq":2}"#,
            r#"{"line":6,"refused":"condition"}"#,
        ]
    );
    assert_eq!(place.json("history", &["--channel", "c"]).len(), 2);
    // The line at which an import stops is told too.
    let ran = place.with("import", &["--json".as_ref()], lines[2].as_bytes());
    assert_eq!((ran.status, &ran.out[..]), (1, "{\"line\":1,\"refused\":\"conflict\",\"seq\":1}\n"));
    let ran = place.with("import", &[], lines[2].as_bytes());
    assert!(ran.failed(1).contains("message 1 was sent before"));
}

#[test]
fn compacting_trims_by_policies_and_erases_where_it_is_asked_to() {
    let place = Place::new();
    let lines: Vec<_> = (0..5).map(|i| send("c", "ana", &format!("secret {i}"))).collect();
    lines.iter().for_each(|line| place.import(&[line]));
    place.import(&[
        r#"{"op":"retention","channel":"c","max_count":3}"#,
        r#"{"op":"erase","channel":"c","seq":4}"#,
    ]);
    let holds = |text: &str| {
        let files = fs::read_dir(place.store()).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap());
        files.into_iter().any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    };
    let waiting = &place.json("stat", &[])[0]["erasing"];
    assert_eq!((&waiting["messages"], waiting["files"].as_array().unwrap().len()), (&1.into(), 1));
    assert!(place.run("stat", &[]).out.contains("erased messages in files"));
    place.run("compact", &[]).lines();
    assert_eq!(place.json("history", &["--channel", "c"]).len(), 5);
    assert!(holds("secret 0"));
    place.run("compact", &["--retain", "--erase"]).lines();
    assert_eq!(place.json("history", &["--channel", "c"]).len(), 3);
    assert!(!holds("secret 0") && !holds("secret 3") && holds("secret 2"));
    assert_eq!(place.json("stat", &[])[0]["erasing"]["messages"], 0);
}
