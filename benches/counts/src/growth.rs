//! How what calls take grows with what a store holds, for the tables in DESIGN.md. `counts growth` prints them: instructions of the
//! process for one call, by the number of channels, of members of a group, of messages in a channel, of users, of rows of a user, and
//! of sealed files that no merge has joined yet.

use std::hint::black_box;

use chanlog::{Batch, Store, SyncToken};

use crate::counted::{Works, count_all, counted, whole};
use crate::fixture::{Fixture, Operation, channel, random, user};
use crate::stores::{append_to, draft, id, options};

/// What grows, to which sizes, and what makes a store of a size and counts.
type Growth = (&'static str, [u64; 4], fn(u64));

const GROWTHS: [Growth; 6] = [
    ("channels", [1_000, 4_000, 16_000, 64_000], channels),
    ("members of a group", [2, 100, 5_000, 50_000], members),
    ("messages in a channel", [100, 1_000, 10_000, 100_000], messages),
    ("users", [1_000, 4_000, 16_000, 64_000], users),
    ("channels of a user", [16, 128, 1_024, 8_192], rows),
    ("sealed files of each kind", [1, 4, 16, 64], files),
];

/// How often a call is counted.
const TIMES: u64 = 64;

/// Counts all, and makes a table of each growth.
pub fn tables() -> Result<String, String> {
    let runs = GROWTHS.iter().flat_map(|(what, sizes, _)| {
        sizes.map(|size| vec!["growth".to_owned(), (*what).to_owned(), size.to_string()])
    });
    let counts = count_all(&runs.collect::<Vec<_>>())?;
    let tables =
        GROWTHS.iter().zip(counts.chunks(4)).map(|((what, sizes, _), works)| table(what, sizes, works));
    Ok(tables.collect::<Vec<_>>().join("\n"))
}

fn table(what: &str, sizes: &[u64; 4], works: &[Works]) -> String {
    let sizes = sizes.map(|size| whole(size as f64)).join(" | ");
    let mut text = format!("| {what} | {sizes} |\n|---|---:|---:|---:|---:|\n");
    for (at, (name, _)) in works[0].iter().enumerate() {
        let counts: Vec<_> = works.iter().map(|works| whole(works[at].1.instructions)).collect();
        text += &format!("| {name} | {} |\n", counts.join(" | "));
    }
    text
}

/// Counts a growth at a size, in this process.
pub fn run(what: &str, size: &str) -> Result<(), String> {
    let size = size.parse().map_err(|e| format!("{size}: {e}"))?;
    let growth = GROWTHS.iter().find(|growth| growth.0 == what);
    growth.ok_or(format!("nothing grows by {what:?}"))?.2(size);
    Ok(())
}

fn store() -> Fixture {
    Fixture::new(options())
}

/// Counts a call some times, after one that is not counted.
fn repeat(store: &Store, name: &str, call: impl Fn(u64)) {
    call(TIMES);
    counted(store, name, TIMES, || (0..TIMES).for_each(&call));
}

/// Counts commits of one operation each, or of more; the batches are made before.
fn commits(store: &Store, name: &str, put: impl Fn(&mut Batch, u64)) {
    let batches: Vec<Batch> = (0..=TIMES)
        .map(|n| {
            let mut batch = Batch::new();
            put(&mut batch, n);
            batch
        })
        .collect();
    repeat(store, name, |n| _ = store.commit(&batches[n as usize]).expect("a commit"));
}

fn token(store: &Store, user: &str) -> SyncToken {
    store.conversations(user).list().expect("a list").as_of
}

/// Counts a list, and what changed of it: nothing, and five channels of `places`.
fn lists(fixture: &Fixture, state: &str, lister: &str, places: impl Fn(u64) -> u64) {
    let store = &fixture.store;
    repeat(store, &format!("list, first 50{state}"), |_| {
        _ = black_box(store.conversations(lister).limit(50).list().expect("a list"));
    });
    for changed in [0, 5] {
        let before = token(store, lister);
        fixture.fill([append_to(1, 1)].into_iter().chain((0..changed).map(|n| append_to(places(n), n))));
        repeat(store, &format!("since, {changed} changed{state}"), |_| {
            _ = black_box(store.conversations(lister).since(&before).expect("an update"));
        });
    }
}

fn channels(size: u64) {
    let fixture = store();
    let store = &fixture.store;
    let spread = |n| n * (size / 200);
    fixture.fill((0..size).map(|n| append_to(n, n)));
    fixture.fill((0..200).map(|n| Operation::Join(channel(spread(n)), "lister".into())));
    fixture.fill((0..200).map(|n| append_to(spread(n), n)));
    for state in [", log", ", sealed"] {
        commits(store, &format!("append{state}"), |batch, n| {
            batch.append(channel(random(n) % size), draft(n));
        });
        repeat(store, &format!("head{state}"), |n| _ = black_box(store.head(channel(random(n) % size))));
        lists(&fixture, state, "lister", |n| spread(40 * n));
        fixture.seal();
    }
    open(fixture);
}

/// Counts opening a store of which all is sealed.
fn open(fixture: Fixture) {
    fixture.seal();
    fixture.store.close().expect("a close");
    let again = || options().open(fixture.path()).expect("an opening");
    let other = store();
    counted(&other.store, "open, all sealed", 1, again).close().expect("a close");
}

fn members(size: u64) {
    let fixture = store();
    let store = &fixture.store;
    let group = "group";
    fixture.fill((0..size).map(|n| Operation::Join(group.into(), user(n))));
    fixture.fill((0..TIMES + 2).map(|n| Operation::Append(group.into(), draft(n))));
    commits(store, "append", |batch, n| _ = batch.append(group, draft(n)));
    commits(store, "append, mention of all", |batch, n| _ = batch.append(group, draft(n).mention_all()));
    commits(store, "join", |batch, n| _ = batch.join(group, user(size + n)));
    commits(store, "mark as read", |batch, n| _ = batch.read(group, user(0), n + 1));
    commits(store, "leave", |batch, n| _ = batch.leave(group, user(size + n)));
    repeat(store, "a member's list", |_| _ = black_box(store.conversations(user(1)).list().expect("a list")));
    repeat(store, "last 20 as a member sees them", |_| {
        _ = black_box(store.history(group).seen_by(user(1)).last(20).expect("a page"));
    });
    repeat(store, "first 100 members", |_| _ = black_box(store.members(group).limit(100).list()));
}

fn messages(size: u64) {
    let fixture = store();
    let store = &fixture.store;
    // As many lie between them in others.
    fixture.fill((0..2 * size).map(|n| append_to(if n % 2 == 0 { 0 } else { n % 100 }, n)));
    for state in [", log", ", sealed"] {
        commits(store, &format!("append{state}"), |batch, n| _ = batch.append(channel(0), draft(n)));
        repeat(store, &format!("last 20{state}"), |_| {
            _ = black_box(store.history(channel(0)).last(20).expect("a page"));
        });
        repeat(store, &format!("50 from the middle{state}"), |_| {
            _ = black_box(store.history(channel(0)).from(size / 2).limit(50).list().expect("a page"));
        });
        fixture.seal();
    }
}

fn users(size: u64) {
    let fixture = store();
    let store = &fixture.store;
    fixture.fill((0..size).map(|n| Operation::Join(channel(n % 100), user(n))));
    for state in [", log", ", sealed"] {
        commits(store, &format!("append{state}"), |batch, n| {
            let known = chanlog::Draft::new(user(random(n) % size), 0, "a few words to others");
            batch.append(channel(n % 100), known);
        });
        commits(store, &format!("join{state}"), |batch, n| {
            batch.join(channel(100 + n + state.len() as u64 * TIMES), user(random(n) % size));
        });
        repeat(store, &format!("membership{state}"), |n| {
            let n = random(n) % size;
            _ = black_box(store.membership(channel(n % 100), user(n)).expect("a row"));
        });
        fixture.seal();
    }
}

fn rows(size: u64) {
    let fixture = store();
    let store = &fixture.store;
    fixture.fill((0..2 * size).map(|n| append_to(n, n)));
    fixture.fill((0..size).map(|n| Operation::Join(channel(2 * n), "lister".into())));
    fixture.fill((0..size).map(|n| append_to(2 * n, n)));
    for state in [", log", ", sealed"] {
        lists(&fixture, state, "lister", |n| 2 * (n * size / 5));
        repeat(store, &format!("unread{state}"), |_| _ = black_box(store.unread("lister").expect("sums")));
        commits(store, &format!("append and mark as read{state}"), |batch, n| {
            let channel = channel(2 * (n % size));
            batch.append(&channel, draft(n)).read(&channel, "lister", u64::MAX);
        });
        fixture.seal();
    }
    fixture.fill((0..size).map(|n| append_to(2 * n, n)));
    let mut all = Batch::new();
    all.read_all("lister");
    counted(store, "read_all", 1, || _ = store.commit(&all).expect("a commit"));
}

/// Each seal makes a message segment and a run, which nothing merges.
fn files(size: u64) {
    let fixture = store();
    let store = &fixture.store;
    for part in 0..size {
        fixture.fill((0..256).map(|n| append_to(n, 256 * part + n)));
        fixture.fill((0..200 / size + 1).map(|n| Operation::Join(channel(n * size + part), "lister".into())));
        let mut batch = Batch::new();
        batch.append(channel(0), draft(part).unique_id(id(part)).client_id(id(part)));
        store.commit(&batch).expect("a commit");
        store.seal().expect("a seal");
    }
    commits(store, "append", |batch, n| _ = batch.append(channel(n), draft(n)));
    commits(store, "append, new client id", |batch, n| {
        batch.append(channel(n), draft(n).client_id(id(1_000 + n)));
    });
    commits(store, "mark as read", |batch, n| _ = batch.read(channel(0), "lister", n + 1));
    lists(&fixture, "", "lister", |n| 40 * n);
    repeat(store, "membership", |n| _ = black_box(store.membership(channel(n), "lister").expect("a row")));
    repeat(store, "message by id", |n| _ = black_box(store.message_by_id(id(n % size)).expect("a message")));
    repeat(store, "last 20", |n| _ = black_box(store.history(channel(n)).last(20).expect("a page")));
    repeat(store, "the first 20", |n| {
        _ = black_box(store.history(channel(n)).limit(20).list().expect("a page"))
    });
}
