//! The example server from the outside: as a process, over loopback, and killed again and again. What it acknowledged is
//! there once, whatever clients had to send again; lists that are kept up to date by tokens alone are right; and who follows a
//! channel has each message once.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How often the server is killed.
const KILLS: u64 = 6;

const CHANNELS: [&str; 3] = ["general", "lunch", "news"];
const WRITERS: [&str; 4] = ["alice", "bob", "dave", "erin"];
/// Follows the channels, and never reads.
const READER: &str = "carol";

/// The server's program. A whole `cargo test` builds it; a run of this file alone may have to.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap();
        let program = profile.join("examples/server");
        let built = fs::metadata(&program).and_then(|program| program.modified());
        let sources =
            ["src", "examples/server"].map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
        if built.is_err() || built.unwrap() < sources.iter().map(|folder| newest(folder)).max().unwrap() {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--quiet", "--all-features", "--example", "server"]);
            if profile.ends_with("release") {
                build.arg("--release");
            }
            assert!(build.status().unwrap().success());
        }
        program
    })
}

/// When anything in a folder was changed last.
fn newest(folder: &Path) -> SystemTime {
    let changed = |entry: fs::DirEntry| match entry.path().is_dir() {
        true => newest(&entry.path()),
        false => entry.metadata().unwrap().modified().unwrap(),
    };
    fs::read_dir(folder).unwrap().map(|entry| changed(entry.unwrap())).max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A running server, which ends with it: also when a test fails.
#[derive(Default)]
struct Running(Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// A server that may be killed and started again. Clients share it.
#[derive(Clone)]
struct Server {
    dir: PathBuf,
    address: Arc<Mutex<String>>,
    child: Arc<Mutex<Running>>,
    /// What all runs printed.
    printed: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(dir: &Path) -> Server {
        let server = Server {
            dir: dir.join("store"),
            address: Arc::default(),
            child: Arc::default(),
            printed: Arc::default(),
        };
        server.start_again();
        server
    }

    fn start_again(&self) {
        let mut command = Command::new(program());
        let mut child = command.arg(&self.dir).arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        self.child.lock().unwrap().0 = Some(child);
        let printed = self.printed.clone();
        // The worker may print something before.
        let mut take = move || {
            let line = lines.next()?.unwrap();
            printed.lock().unwrap().push(line.clone());
            Some(line)
        };
        let address = loop {
            let line = take().expect("it tells where it listens");
            if let Some(address) = line.strip_prefix("listening on ") {
                break address.to_owned();
            }
        };
        *self.address.lock().unwrap() = address;
        thread::spawn(move || while take().is_some() {});
    }

    fn kill(&self) {
        *self.child.lock().unwrap() = Running::default();
    }

    /// Asks it to stop, and waits until it has.
    fn stop(&self) {
        let mut child = self.child.lock().unwrap().0.take().unwrap();
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        assert!(child.wait().unwrap().success());
    }

    fn connect(&self, user: &str, request: &str, headers: &str, body: &str) -> Result<BufReader<TcpStream>> {
        let address = self.address.lock().unwrap().clone();
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        // With this version the answer is neither cut into chunks nor followed by another one.
        write!(
            stream,
            "{request} HTTP/1.0\r\nx-user: {user}\r\ncontent-type: application/json\r\n{headers}"
        )?;
        write!(stream, "content-length: {}\r\n\r\n{body}", body.len())?;
        Ok(BufReader::new(stream))
    }

    /// The status and the answer, or that the server is gone.
    fn try_ask(&self, user: &str, request: &str, body: &Value) -> Result<(u16, Value)> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut answer = String::new();
        self.connect(user, request, "", &body)?.read_to_string(&mut answer)?;
        let cut = || Error::from(ErrorKind::UnexpectedEof);
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(cut)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map(str::parse);
        if length != Some(Ok(body.len())) {
            return Err(cut());
        }
        Ok((status, serde_json::from_str(body).unwrap_or_else(|_| body.into())))
    }

    /// Asks until there is an answer.
    fn ask(&self, user: &str, request: &str, body: &Value) -> (u16, Value) {
        let begin = Instant::now();
        loop {
            match self.try_ask(user, request, body) {
                // It is about to stop.
                Ok((503, _)) | Err(_) if begin.elapsed() < Duration::from_secs(20) => {
                    thread::sleep(Duration::from_millis(10));
                }
                answer => return answer.unwrap(),
            }
        }
    }

    /// The answer, which is to have this status.
    fn expect(&self, status: u16, user: &str, request: &str, body: &Value) -> Value {
        let (found, answer) = self.ask(user, request, body);
        assert_eq!(found, status, "{user}: {request} {body}: {answer}");
        answer
    }

    fn get(&self, user: &str, path: &str) -> Value {
        self.expect(200, user, &format!("GET {path}"), &Value::Null)
    }

    /// The whole list of a user, by channel.
    fn list(&self, user: &str) -> BTreeMap<String, Value> {
        let list = self.get(user, "/conversations?limit=500");
        let entries = list["entries"].as_array().unwrap().iter();
        entries.map(|entry| (entry["channel"].as_str().unwrap().into(), entry.clone())).collect()
    }
}

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

/// A client's list, kept by tokens alone.
struct Synced {
    entries: BTreeMap<String, Value>,
    token: String,
}

impl Synced {
    fn start(server: &Server, user: &str) -> Synced {
        let list = server.get(user, "/conversations?limit=0");
        Synced { entries: BTreeMap::new(), token: list["token"].as_str().unwrap().into() }
    }

    fn update(&mut self, server: &Server, user: &str) {
        loop {
            let update = server.get(user, &format!("/sync?since={}", self.token));
            self.apply(&update);
            if update["more"] != true {
                break;
            }
        }
    }

    fn apply(&mut self, update: &Value) {
        for change in update["changes"].as_array().expect("no list starts over") {
            match change["removed"].as_str() {
                Some(removed) => drop(self.entries.remove(removed)),
                None => {
                    let entry = &change["entry"];
                    self.entries.insert(entry["channel"].as_str().unwrap().into(), entry.clone());
                }
            }
        }
        self.token = update["token"].as_str().unwrap().into();
    }
}

/// A message as its sender knows it: channel and text, and the seq that was acknowledged.
type Sent = BTreeMap<(String, String), u64>;

/// Sends and does other things until told to stop; returns what was acknowledged, and the list as it became by tokens.
fn write(server: &Server, user: &'static str, done: &AtomicBool) -> (Sent, Synced) {
    let mut dice = Dice(user.len() as u64 * 1000 + u64::from(user.as_bytes()[0]));
    let mut synced = Synced::start(server, user);
    let mut sent = Sent::new();
    let mut last = BTreeMap::new();
    while !done.load(Ordering::Relaxed) {
        let channel = CHANNELS[dice.below(3) as usize];
        let at = format!("/channels/{channel}");
        let own = |operation: &str, body: Value| {
            server.expect(200, user, &format!("POST {at}/me/{operation}"), &body)
        };
        match dice.below(12) {
            0 => drop(own("read", json!({ "seq": dice.below(1 << 20) }))),
            1 => drop(own("mute", json!({ "on": dice.below(2) == 0 }))),
            2 => drop(own("hide", json!({}))),
            3 => synced.update(server, user),
            4 if last.contains_key(channel) => {
                let seq: u64 = last[channel];
                let request = format!("PUT {at}/messages/{seq}/reaction");
                server.expect(200, user, &request, &json!({ "text": ":)" }));
            }
            _ => {
                let text = format!("{user} {}", sent.len());
                let body =
                    json!({ "text": text, "client_id": text, "mentions": [WRITERS[dice.below(4) as usize]] });
                let (status, answer) = server.ask(user, &format!("POST {at}/messages"), &body);
                assert!(status == 201 || status == 200, "{answer}");
                let seq = answer["seq"].as_u64().unwrap();
                last.insert(channel, seq);
                sent.insert((channel.into(), text), seq);
            }
        }
    }
    synced.update(server, user);
    (sent, synced)
}

/// Follows a channel from a token on, and comes back with the last one whenever it is cut off, until it has heard a message
/// with the text "end". Returns what it heard, in order.
fn follow(server: &Server, channel: &str, mut token: String) -> Vec<(u64, String)> {
    let mut heard = Vec::new();
    let begin = Instant::now();
    while heard.last().is_none_or(|(_, text)| text != "end") {
        assert!(begin.elapsed() < Duration::from_secs(60), "{channel} ended with {:?}", heard.last());
        let ended = follow_once(server, channel, &mut token, &mut heard);
        if ended.is_err() {
            thread::sleep(Duration::from_millis(10));
        }
    }
    heard
}

fn follow_once(
    server: &Server,
    channel: &str,
    token: &mut String,
    heard: &mut Vec<(u64, String)>,
) -> Result<()> {
    let request = format!("GET /channels/{channel}/stream");
    let mut stream = server.connect(READER, &request, &format!("last-event-id: {token}\r\n"), "")?;
    let (mut line, mut id) = (String::new(), None);
    loop {
        line.clear();
        // What is not a whole line was cut off.
        if stream.read_line(&mut line)? == 0 || !line.ends_with('\n') {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if let Some(next) = line.strip_prefix("id: ") {
            id = Some(next.trim_end().to_owned());
        } else if let (Some(data), Some(id)) = (line.strip_prefix("data: "), id.take()) {
            *token = id;
            let message = serde_json::from_str::<Value>(data).unwrap()["message"].take();
            if let (Some(seq), Some(text)) = (message["seq"].as_u64(), message["text"].as_str()) {
                heard.push((seq, text.into()));
                if text == "end" {
                    return Ok(());
                }
            }
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_kills() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path());
    for channel in CHANNELS {
        server.expect(200, "admin", &format!("POST /channels/{channel}"), &json!({ "title": channel }));
        for user in WRITERS.into_iter().chain([READER]) {
            server.expect(200, user, &format!("POST /channels/{channel}/join"), &Value::Null);
        }
    }
    let done = Arc::new(AtomicBool::new(false));
    let spawn = |user| {
        let (server, done) = (server.clone(), done.clone());
        thread::spawn(move || write(&server, user, &done))
    };
    let writers: Vec<JoinHandle<_>> = WRITERS.into_iter().map(spawn).collect();
    let followers: Vec<JoinHandle<_>> =
        CHANNELS.into_iter().map(|channel| begin_following(&server, channel)).collect();

    let mut dice = Dice(7);
    for _ in 0..KILLS {
        thread::sleep(Duration::from_millis(300 + dice.below(500)));
        server.kill();
        server.start_again();
    }
    thread::sleep(Duration::from_millis(300));
    done.store(true, Ordering::Relaxed);

    let mut sent = Sent::new();
    let mut lists = Vec::new();
    for (writer, user) in writers.into_iter().zip(WRITERS) {
        let (acknowledged, synced) = writer.join().unwrap();
        sent.extend(acknowledged);
        lists.push((user, synced));
    }
    for channel in CHANNELS {
        let answer = server.expect(
            201,
            "admin",
            &format!("POST /channels/{channel}/messages"),
            &json!({ "text": "end" }),
        );
        sent.insert((channel.into(), "end".into()), answer["seq"].as_u64().unwrap());
    }
    println!("{} messages over {KILLS} kills", sent.len());
    let (mut kept, mut count) = (Sent::new(), 0);
    for (channel, follower) in CHANNELS.into_iter().zip(followers) {
        let history = history(&server, channel);
        assert!(history.iter().map(|(seq, _)| *seq).eq(1..=history.len() as u64), "{channel} has gaps");
        assert_eq!(follower.join().unwrap(), history, "{channel} as it was followed");
        count += history.len();
        kept.extend(history.iter().map(|(seq, text)| ((channel.into(), text.clone()), *seq)));
        check_pushes(&server, channel, history.len() as u64);
    }
    assert_eq!((count, kept.len()), (sent.len(), sent.len()), "kept, kept once, acknowledged");
    assert!(kept == sent, "a message has another seq than was acknowledged");
    for (user, mut synced) in lists {
        synced.update(&server, user);
        let anew = server.list(user);
        assert_eq!(synced.entries, anew, "{user}'s list");
        let unread: u64 = anew.values().filter_map(|entry| entry["unread"].as_u64()).sum();
        assert_eq!(server.get(user, "/unread")["messages"], unread);
    }
    server.stop();
}

fn begin_following(server: &Server, channel: &'static str) -> JoinHandle<Vec<(u64, String)>> {
    let token =
        server.get(READER, &format!("/channels/{channel}/messages"))["token"].as_str().unwrap().to_owned();
    let mut heard = history(server, channel);
    let server = server.clone();
    thread::spawn(move || {
        // What is in the page may be told once more.
        let known = heard.len() as u64;
        heard.extend(follow(&server, channel, token).into_iter().filter(|(seq, _)| *seq > known));
        heard
    })
}

/// All messages of a channel, page by page.
fn history(server: &Server, channel: &str) -> Vec<(u64, String)> {
    let mut all: Vec<(u64, String)> = Vec::new();
    loop {
        let after = all.last().map_or(0, |(seq, _)| *seq);
        let page = server.get(READER, &format!("/channels/{channel}/messages?after={after}&limit=200"));
        let page = page["messages"].as_array().unwrap().clone();
        if page.is_empty() {
            return all;
        }
        all.extend(page.iter().map(|m| (m["seq"].as_u64().unwrap(), m["text"].as_str().unwrap().to_owned())));
    }
}

/// The worker notified who never reads of each message, whatever it had to do again.
fn check_pushes(server: &Server, channel: &str, last: u64) {
    let begin = Instant::now();
    loop {
        let printed = server.printed.lock().unwrap();
        let wanted =
            |seq: &u64| !printed.iter().any(|line| *line == format!("push {READER} {channel} {seq}"));
        match (1..=last).find(wanted) {
            None => return,
            Some(seq) => assert!(begin.elapsed() < Duration::from_secs(20), "no push of {channel} {seq}"),
        }
        drop(printed);
        thread::sleep(Duration::from_millis(20));
    }
}

/// Status and request, who asks, and what.
type Step<'a> = (u16, &'a str, &'a str, Value);

fn steps(server: &Server, steps: &[Step<'_>]) {
    for (status, user, request, body) in steps {
        server.expect(*status, user, request, body);
    }
}

/// A server with a channel that alice made and bob joined, in which alice said hello.
fn begin(dir: &TempDir) -> Server {
    let server = Server::start(dir.path());
    let hello = json!({ "text": "hello @bob", "client_id": "c1", "id": "$1", "mentions": ["bob"] });
    steps(
        &server,
        &[
            (200, "alice", "POST /channels/general", json!({ "title": "General" })),
            (412, "bob", "POST /channels/general", json!({ "title": "mine" })),
            (412, "bob", "POST /channels/unheard/join", Value::Null),
            (200, "bob", "POST /channels/general/join", Value::Null),
            (201, "alice", "POST /channels/general/messages", hello.clone()),
            (200, "alice", "POST /channels/general/messages", hello),
        ],
    );
    server
}

#[test]
fn messages_are_sent_read_and_changed() {
    let dir = TempDir::new().unwrap();
    let server = begin(&dir);
    assert_eq!(
        server.get("bob", "/unread"),
        json!({ "messages": 1, "conversations": 1, "mentions": 1, "flagged": 0 })
    );
    let messages = "POST /channels/general/messages";
    let conflict = server.expect(409, "alice", messages, &json!({ "text": "other", "client_id": "c1" }));
    assert_eq!(conflict["seq"], 1);
    steps(
        &server,
        &[
            (409, "bob", messages, json!({ "text": "same id", "id": "$1" })),
            (403, "eve", messages, json!({ "text": "let me in" })),
            (413, "bob", messages, json!({ "text": "x".repeat(1_100_000) })),
            (422, "bob", messages, json!({})),
            (401, "", messages, json!({ "text": "nobody" })),
            (401, "@push", messages, json!({ "text": "not a user" })),
            (201, "bob", messages, json!({ "text": "helo" })),
            (201, "bob", messages, json!({ "text": "a call began", "quiet": true })),
            (200, "bob", "PUT /channels/general/messages/2", json!({ "text": "hello" })),
            (403, "alice", "PUT /channels/general/messages/2", json!({ "text": "mine" })),
            (404, "bob", "PUT /channels/general/messages/9", json!({ "text": "nothing" })),
            (200, "bob", "PUT /channels/general/messages/1/reaction", json!({ "text": ":)" })),
            (400, "bob", "PUT /channels/general/messages/one/reaction", json!({ "text": ":)" })),
        ],
    );
    let page = server.get("bob", "/channels/general/messages?limit=2&around=1");
    assert_eq!(page["messages"][0]["reactions"], json!({ "bob": ":)" }));
    let texts = |path: &str| -> Vec<Value> {
        let page = server.get("bob", &format!("/channels/general/messages?{path}"));
        page["messages"].as_array().unwrap().iter().map(|message| message["seq"].clone()).collect()
    };
    assert_eq!((texts("limit=2"), texts("before=3&limit=1")), (vec![json!(2), json!(3)], vec![json!(2)]));
    assert_eq!((texts("after=1&limit=1"), texts("from_time=0&limit=1")), (vec![json!(2)], vec![json!(1)]));
    assert_eq!(server.get("bob", "/messages/$1")["message"]["text"], "hello @bob");
    server.expect(404, "eve", "GET /messages/$1", &Value::Null);
    server.expect(404, "bob", "GET /messages/$2", &Value::Null);

    let changes = server.get("alice", "/channels/general/changes");
    assert_eq!(
        (&changes[0]["change"]["text"], &changes[1]["change"]["reaction"]),
        (&json!("hello"), &json!(":)"))
    );
    steps(
        &server,
        &[
            (200, "alice", "DELETE /channels/general/messages/1", Value::Null),
            (410, "alice", "PUT /channels/general/messages/1", json!({ "text": "too late" })),
            (200, "bob", "POST /channels/general/me/deliver", json!({ "seq": 2 })),
            (200, "alice", "POST /channels/general/me/read", json!({ "seq": 2 })),
        ],
    );
    let since = format!("/channels/general/changes?since={}", changes[1]["version"]);
    assert_eq!(server.get("alice", &since)[0]["change"], json!({ "retracted": true }));
    assert_eq!(server.get("bob", "/unread")["mentions"], 0);
    let receipts = server.get("bob", "/channels/general/receipts");
    assert_eq!(receipts["receipts"][0], json!({ "user": "alice", "read": 2, "delivered": 2 }));
    server.stop();
}

#[test]
fn members_come_and_go() {
    let dir = TempDir::new().unwrap();
    let server = begin(&dir);
    let channel = server.get("alice", "/channels/general");
    let change = json!({ "attributes": { "title": "All" }, "version": channel["version"] });
    steps(
        &server,
        &[
            (403, "bob", "PUT /channels/general", change.clone()),
            (200, "alice", "PUT /channels/general", change.clone()),
            (412, "alice", "PUT /channels/general", change),
            (403, "eve", "GET /channels/general", Value::Null),
            (403, "bob", "POST /channels/general/members/alice/kick", json!({})),
            (200, "eve", "POST /channels/general/join", Value::Null),
            (200, "alice", "POST /channels/general/members/bob/role", json!({ "role": 2 })),
            (200, "bob", "POST /channels/general/members/eve/ban", json!({})),
            (403, "eve", "POST /channels/general/messages", json!({ "text": "banned" })),
            (403, "eve", "POST /channels/general/join", Value::Null),
            (400, "bob", "POST /channels/general/members/eve/praise", json!({})),
        ],
    );
    assert_eq!(server.get("bob", "/channels/general/bans"), json!([{ "user": "eve", "by": "bob" }]));
    steps(
        &server,
        &[
            (200, "bob", "POST /channels/general/members/eve/unban", json!({})),
            (200, "eve", "POST /channels/general/join", Value::Null),
            (200, "bob", "POST /channels/general/members/eve/kick", json!({})),
            (200, "bob", "POST /channels/general/leave", Value::Null),
            (201, "alice", "POST /channels/general/messages", json!({ "text": "he is gone" })),
            (403, "eve", "GET /channels/general/messages", Value::Null),
            (200, "bob", "PUT /profile", json!({ "name": "Bob" })),
            (404, "bob", "GET /users/unheard", Value::Null),
        ],
    );
    // Who left by themself may go on to read what was said until then.
    assert_eq!(server.get("bob", "/channels/general/messages")["messages"].as_array().unwrap().len(), 1);
    assert_eq!(server.get("alice", "/users/bob")["attributes"], r#"{"name":"Bob"}"#);
    let members = server.get("alice", "/channels/general/members?limit=1");
    assert_eq!((&members[0]["user"], &members[0]["row"]["role"]), (&json!("alice"), &json!(2)));
    assert_eq!(server.get("alice", "/channels/general/members?after=alice"), json!([]));
    server.stop();
}

#[test]
fn lists_follow_what_users_set() {
    let dir = TempDir::new().unwrap();
    let server = begin(&dir);
    let mut synced = Synced::start(&server, "bob");
    let mut stream =
        server.connect("bob", &format!("GET /sync/stream?after={}", synced.token), "", "").unwrap();
    let me = "POST /channels/general/me";
    let on = json!({ "on": true });
    steps(
        &server,
        &[
            (200, "bob", &format!("{me}/pin"), on.clone()),
            (200, "bob", &format!("{me}/mute"), on.clone()),
            (200, "bob", &format!("{me}/flag_unread"), on),
            (200, "bob", &format!("{me}/attributes"), json!({ "attributes": "nick" })),
            (400, "bob", &format!("{me}/pin"), json!({ "on": "yes" })),
            (404, "bob", &format!("{me}/trim"), json!({ "seq": 9 })),
            (403, "eve", &format!("{me}/hide"), json!({})),
        ],
    );
    let row = json!({ "role": 0, "pinned": true, "muted": true, "flagged": true, "attributes": "nick" });
    assert_eq!(server.list("bob")["general"]["me"], row);
    let unread = server.get("bob", "/conversations?unread=true&limit=1");
    assert_eq!(unread["entries"][0]["unread"], 1);
    steps(
        &server,
        &[
            (200, "bob", "DELETE /unread", Value::Null),
            (200, "bob", &format!("{me}/set_unread"), json!({ "count": 1 })),
            (200, "bob", &format!("{me}/hide"), json!({})),
        ],
    );
    synced.update(&server, "bob");
    assert!(synced.entries.is_empty() && server.list("bob").is_empty());
    server.expect(
        201,
        "alice",
        "POST /channels/general/messages",
        &json!({ "text": "back", "mention_all": true }),
    );
    synced.update(&server, "bob");
    assert_eq!(synced.entries, server.list("bob"));

    // What is pushed comes to the same.
    let mut pushed = Synced { entries: BTreeMap::new(), token: String::new() };
    let mut line = String::new();
    while pushed.entries != synced.entries {
        line.clear();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0);
        if let Some(update) = line.strip_prefix("data: ") {
            pushed.apply(&serde_json::from_str(update).unwrap());
        }
    }
    let stat = server.get("alice", "/admin/stat");
    assert_eq!((&stat["channels"], &stat["messages"]), (&json!(1), &json!(2)));
    server.expect(400, "bob", "GET /sync?since=nonsense", &Value::Null);
    let token = server.get("bob", "/conversations?limit=0")["token"].take();

    // A backup opens as a store, and knows the tokens of what it holds.
    server.expect(200, "alice", "POST /admin/backup", &Value::Null);
    server.stop();
    let restored = TempDir::new().unwrap();
    fs::rename(dir.path().join("store.backup"), restored.path().join("store")).unwrap();
    let server = Server::start(restored.path());
    assert_eq!(server.list("bob"), synced.entries);
    let update = server.get("bob", &format!("/sync?since={}", token.as_str().unwrap()));
    assert_eq!(update["changes"][0]["entry"], synced.entries["general"]);
    server.stop();
}
