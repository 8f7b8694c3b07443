//! What each operation of a batch and each reading call takes, for the table in DESIGN.md. `counts calls` prints it.
//!
//! Operations are counted 256 in a commit, each on a place of its own, so that they show what one of them adds; what a commit takes by
//! itself is told apart. Reads are counted over a store in the log and again when it is sealed.

use std::hint::black_box;
use std::time::Duration;

use chanlog::{
    Batch, Condition, Draft, LeaveOptions, Mark, Outcome, Receipt, RetentionPolicy, Store, SyncToken,
};

use crate::counted::{Counts, Works, count_all, counted, whole};
use crate::fixture::{Fixture, channel, user};
use crate::stores::{append_to, draft, id, options};

/// An operation by name, what it looks up and grows with, and what puts it into a batch for the `n`-th place.
type Operation = (&'static str, &'static str, fn(&mut Batch, u64));

/// Places: channels with five messages, each of which has a member of its own, an empty channel and a set beside it.
const PLACES: u64 = 512;
/// The commit that has no operation.
const NOTHING: &str = "an empty batch";
/// The operations in a commit.
const SIZE: u64 = 256;

const OPERATIONS: [Operation; 49] = [
    ("append", "bytes of the payload", |b, n| _ = b.append(channel(n), draft(n))),
    ("append: client id", "a row, by a filter in files", |b, n| {
        _ = b.append(channel(n), draft(n).client_id(id(n)))
    }),
    ("append: unique id", "a row, by a filter in files", |b, n| {
        _ = b.append(channel(n), draft(n).unique_id(id(n)))
    }),
    ("append: one mention", "users who are named", |b, n| {
        _ = b.append(channel(n), draft(n).mentions([member(n)]))
    }),
    ("append: mention of all", "nothing", |b, n| _ = b.append(channel(n), draft(n).mention_all())),
    ("append: expires", "nothing", |b, n| _ = b.append(channel(n), draft(n).expires(1_790_000_000_000))),
    ("append: quiet", "nothing", |b, n| _ = b.append(channel(n), draft(n).quiet())),
    ("append: members only", "a row", |b, n| _ = b.append(channel(n), members_only(n))),
    ("append: new channel, new sender", "two names in each file", |b, n| {
        _ = b.append(fresh(n), Draft::new(fresh(n), 0, "hello"))
    }),
    ("append_at, the next seq", "nothing", |b, n| _ = b.append_at(channel(n), 6, draft(n))),
    ("append_at, one that is there", "a message", |b, n| {
        _ = b.append_at(channel(n), 5, draft(4 * PLACES + n))
    }),
    ("edit", "a message; bytes of the payload", |b, n| {
        _ = b.edit(channel(n), 2, "what was meant, in about fifty bytes of payload ..")
    }),
    ("retract", "two messages", |b, n| _ = b.retract(channel(n), 2)),
    ("erase", "a message", |b, n| _ = b.erase(channel(n), 2)),
    ("erase_user", "nothing, whatever the user sent", |b, n| _ = b.erase_user(member(n))),
    ("annotate", "a row; bytes", |b, n| _ = b.annotate(channel(n), 2, member(n), "+1")),
    ("forget", "two rows, two messages; ranges that are hidden already", |b, n| {
        _ = b.forget(channel(n), member(n), 4, 4)
    }),
    ("join", "a row", |b, n| _ = b.join(channel(n), user(n))),
    ("leave", "a row", |b, n| _ = b.leave(channel(n), member(n))),
    ("leave_with kept history", "a row", |b, n| _ = b.leave_with(channel(n), member(n), keeping())),
    ("read", "a row; a message unless it is the last", |b, n| _ = b.read(channel(n), member(n), u64::MAX)),
    ("read_at", "a row, a message", |b, n| _ = b.read_at(channel(n), member(n), 4)),
    ("set_unread", "a row; the logarithm of the unread messages", |b, n| {
        _ = b.set_unread(channel(n), member(n), 1)
    }),
    ("read_all, of one channel", "all rows of the user", |b, n| _ = b.read_all(member(n))),
    ("deliver", "two rows", |b, n| _ = b.deliver(channel(n), member(n), 5)),
    ("clear", "a row", |b, n| _ = b.clear(channel(n), member(n))),
    ("clear_to", "a row, a message", |b, n| _ = b.clear_to(channel(n), member(n), 4)),
    ("hide", "a row", |b, n| _ = b.hide(channel(n), member(n))),
    ("activate", "a row", |b, n| _ = b.activate(channel(n), member(n))),
    ("pin", "a row", |b, n| _ = b.pin(channel(n), member(n), true)),
    ("mute", "a row", |b, n| _ = b.mute(channel(n), member(n), true)),
    ("flag_unread", "a row", |b, n| _ = b.flag_unread(channel(n), member(n), true)),
    ("role", "a row", |b, n| _ = b.role(channel(n), member(n), 2)),
    ("attributes, 32 bytes", "a row; bytes", |b, n| _ = b.attributes(channel(n), member(n), id(n))),
    ("attributes, 2 KiB", "a row; bytes, as a record", |b, n| {
        _ = b.attributes(channel(n), member(n), id(n).repeat(64))
    }),
    ("class", "a row", |b, n| _ = b.class(channel(n), 2)),
    ("channel_attributes, 32 bytes", "a row; bytes", |b, n| _ = b.channel_attributes(channel(n), id(n))),
    ("user_attributes, 32 bytes", "a row; bytes", |b, n| _ = b.user_attributes(member(n), id(n))),
    ("retention", "a row", |b, n| _ = b.retention(channel(n), RetentionPolicy::new().max_count(1000))),
    ("add_to_set", "a row", |b, n| _ = b.add_to_set(channel(n), 1, user(n))),
    ("remove_from_set", "a row", |b, n| _ = b.remove_from_set(channel(n), 2, member(n))),
    ("require_channel", "a row for a version or attributes", |b, n| {
        _ = b.require_channel(channel(n), Condition::Present)
    }),
    ("require_member", "a row", |b, n| _ = b.require_member(channel(n), member(n), Condition::Present)),
    ("position", "a row", |b, n| _ = b.position(n as u32, 1, "term 1")),
    ("set_base", "nothing", |b, n| _ = b.set_base(empty(n), Mark { seq: 7, ordinal: 7 })),
    ("trim", "a row, a message", |b, n| _ = b.trim(channel(n), 4)),
    ("empty", "a row", |b, n| _ = b.empty(channel(n))),
    ("delete_channel", "a row, whatever the channel holds", |b, n| _ = b.delete_channel(channel(n))),
    ("delete_user", "nothing, whatever the user has", |b, n| _ = b.delete_user(member(n))),
];

/// A call of a store by name, what it grows with, what its unit is, how many of them it takes in, and the call.
type Call = (&'static str, &'static str, &'static str, u64, fn(&Asked, u64));

/// How many rows and messages lists and listings have.
const MANY: u64 = 200;

const CALLS: [Call; 42] = [
    ("version", "nothing", "call", 1, |a, _| _ = black_box(a.store.version())),
    ("view, and its end", "nothing; what changes while it is held", "call", 1, |a, _| {
        _ = black_box(a.store.view())
    }),
    ("has_channel", "a name", "call", 1, |a, n| _ = black_box(a.store.has_channel(channel(n)))),
    ("head", "a name", "call", 1, |a, n| _ = black_box(a.store.head(channel(n)))),
    ("heads", "channels that are asked for", "channel", MANY, |a, _| _ = black_box(a.store.heads(&a.names))),
    ("channel", "a name, a row", "call", 1, |a, n| _ = black_box(a.store.channel(channel(n)))),
    ("user", "a name, a row", "call", 1, |a, n| _ = black_box(a.store.user(member(n)))),
    ("membership", "two names, two rows", "call", 1, |a, n| {
        _ = black_box(a.store.membership(channel(n), member(n)))
    }),
    ("kept_history", "two names, two rows", "call", 1, |a, n| {
        _ = black_box(a.store.kept_history(channel(n), member(n)))
    }),
    ("forgotten", "two names, two rows; hidden ranges", "call", 1, |a, n| {
        _ = black_box(a.store.forgotten(channel(n), member(n)))
    }),
    ("set_member", "two names, a row", "call", 1, |a, n| {
        _ = black_box(a.store.set_member(channel(n), 2, member(n)))
    }),
    ("has_memberships", "a name, the user's first row", "call", 1, |a, n| {
        _ = black_box(a.store.has_memberships(member(n)))
    }),
    ("position", "a row", "call", 1, |a, _| _ = black_box(a.store.position(0))),
    ("annotation", "a name, a row", "call", 1, |a, _| _ = black_box(a.store.annotation(group(), 1, "+1"))),
    ("message_by_id", "a row, a message", "call", 1, |a, n| {
        _ = black_box(a.store.message_by_id(id(MANY / 2 + n % 100)))
    }),
    ("message_by_id, among edited ones", "64 rows, a message", "call", 1, |a, n| {
        _ = black_box(a.store.message_by_id(id(n % 100)))
    }),
    ("message_by_id, unknown", "a filter in each run", "call", 1, |a, n| {
        _ = black_box(a.store.message_by_id(id(n + PLACES)))
    }),
    ("history: last(1)", "a name, a message", "call", 1, |a, _| {
        _ = black_box(a.store.history(group()).last(1))
    }),
    ("history: last(200)", "messages that are told", "message", MANY, |a, _| {
        _ = black_box(a.store.history(group()).last(200))
    }),
    (
        "history: one from the middle",
        "a name; the logarithm of the files with the channel",
        "call",
        1,
        |a, _| _ = black_box(middle(a, 1)),
    ),
    ("history: 200 from the middle", "messages that are told", "message", MANY, |a, _| {
        _ = black_box(middle(a, 200))
    }),
    ("annotations", "annotations of the range", "line", MANY, |a, _| {
        _ = black_box(a.store.annotations(group()).list())
    }),
    ("changes, all", "changes since the version", "line", 2 * MANY, |a, _| {
        _ = black_box(a.store.changes(group()).list())
    }),
    ("changes, none since", "a name", "call", 1, |a, _| {
        _ = black_box(a.store.changes(group()).since(a.version).list())
    }),
    ("conversation", "two names, two rows, a message", "call", 1, |a, n| {
        _ = black_box(a.store.conversation("lister", channel(n)))
    }),
    ("conversations: list, all", "rows of the user; messages of the entries told", "entry", MANY, |a, _| {
        _ = black_box(a.store.conversations("lister").list())
    }),
    ("conversations: list, limit 1", "rows of the user", "row", MANY, |a, _| _ = black_box(limited(a))),
    ("conversations: since, none", "nothing where nothing at all was committed", "call", 1, |a, _| {
        _ = black_box(a.store.conversations("lister").since(&a.token))
    }),
    (
        "conversations: since, of others",
        "channels of the user near which something changed",
        "row",
        MANY,
        |a, _| {
            _ = black_box(a.store.conversations("lister").since(&a.earlier));
        },
    ),
    ("unread", "rows of the user; unread mentions", "row", MANY, |a, _| {
        _ = black_box(a.store.unread("lister"))
    }),
    ("members: list", "members that are told", "name", MANY, |a, _| {
        _ = black_box(a.store.members(group()).list())
    }),
    ("members: rows", "members that are told", "row", MANY, |a, _| {
        _ = black_box(a.store.members(group()).rows())
    }),
    ("members: marks", "members that are told", "row", MANY, |a, _| {
        _ = black_box(a.store.members(group()).marks())
    }),
    ("members: marks, none since", "members", "member", MANY, |a, _| {
        _ = black_box(a.store.members(group()).since(a.version).marks());
    }),
    ("channels_of: list", "rows of the user", "name", MANY, |a, _| {
        _ = black_box(a.store.channels_of("lister").list())
    }),
    ("set: list", "users in the set", "line", 1, |a, n| _ = black_box(a.store.set(channel(n), 2).list())),
    ("sets_of: list", "channels with the user in a set", "line", 1, |a, n| {
        _ = black_box(a.store.sets_of(member(n), 2).list())
    }),
    ("channels: list", "names that are told", "name", MANY, |a, _| {
        _ = black_box(a.store.channels().limit(MANY as usize).list())
    }),
    ("users: list", "names that are told", "name", MANY, |a, _| {
        _ = black_box(a.store.users().limit(MANY as usize).list())
    }),
    ("feed, all of one channel", "events", "event", MANY * 5, |a, _| _ = black_box(fed(a))),
    ("wait, no time", "nothing", "call", 1, |a, _| _ = black_box(a.store.wait(a.version, Duration::ZERO))),
    ("stat", "files", "call", 1, |a, _| _ = black_box(a.store.stat())),
];

/// Counts all, and makes the tables.
pub fn tables() -> Result<String, String> {
    // Each operation in a process of its own: callgrind loses its way among numbers of calls in long ones.
    let names = ["reads", "sealed reads", NOTHING].into_iter().chain(OPERATIONS.map(|operation| operation.0));
    let runs: Vec<_> = names.map(|name| vec!["calls".to_owned(), name.to_owned()]).collect();
    let mut counts = count_all(&runs)?;
    let operations = counts.split_off(2).concat();
    let mut text =
        "| operation | looks up, and grows with | instructions | allocations | log bytes |\n".to_owned();
    text += "|---|---|---:|---:|---:|\n";
    let grows = ["nothing"].into_iter().chain(OPERATIONS.map(|operation| operation.1));
    for ((name, counts), grows) in operations.iter().zip(grows) {
        let Counts { instructions, allocations, bytes, .. } = counts;
        text +=
            &format!("| `{name}` | {grows} | {} | {allocations:.1} | {bytes:.0} |\n", whole(*instructions));
    }
    Ok(text + "\n" + &reads_table(&counts[0], &counts[1]))
}

fn reads_table(reads: &Works, sealed: &Works) -> String {
    let mut text = "| call | grows with | for each | instructions | allocations | sealed |\n".to_owned();
    text += "|---|---|---|---:|---:|---:|\n";
    for (((name, log), (_, sealed)), (_, grows, unit, ..)) in reads.iter().zip(sealed).zip(CALLS) {
        let (instructions, sealed) = (whole(log.instructions), whole(sealed.instructions));
        let allocations = log.allocations;
        text += &format!("| `{name}` | {grows} | {unit} | {instructions} | {allocations:.1} | {sealed} |\n");
    }
    text
}

/// Counts in this process.
pub fn run(what: &str) -> Result<(), String> {
    match what {
        "reads" => reads(false),
        "sealed reads" => reads(true),
        NOTHING => nothing(),
        _ => {
            let operation = OPERATIONS.iter().find(|operation| operation.0 == what);
            let (name, _, put) = operation.ok_or(format!("nothing is called {what:?}"))?;
            add(name, *put);
        }
    }
    Ok(())
}

/// The member of a place.
fn member(n: u64) -> String {
    format!("member-{n:08}")
}

/// A channel that was joined, and has no messages.
fn empty(n: u64) -> String {
    format!("empty-{n:08}")
}

/// A name that the store does not know.
fn fresh(n: u64) -> String {
    format!("fresh-{n:08}")
}

/// A channel of many.
fn group() -> &'static str {
    "group"
}

fn keeping() -> LeaveOptions {
    LeaveOptions::new().keep_history()
}

fn members_only(n: u64) -> Draft {
    Draft::new(member(n), 0, "of a member").members_only()
}

/// The places, in the log.
fn places() -> Fixture {
    let fixture = Fixture::new(options());
    let store = &fixture.store;
    fixture.fill((0..2 * PLACES).map(|n| append_to(n % PLACES, n)));
    let mut batch = Batch::new();
    for n in 0..PLACES {
        batch.join(channel(n), member(n)).join(empty(n), member(n)).add_to_set(channel(n), 2, member(n));
    }
    commit(store, &batch);
    fixture.fill((2 * PLACES..5 * PLACES).map(|n| append_to(n % PLACES, n)));
    fixture
}

fn commit(store: &Store, batch: &Batch) -> Receipt {
    store.commit(batch).expect("a commit")
}

/// Counts a commit that changes nothing.
fn nothing() {
    let store = &places().store;
    let nothing = || (0..100).for_each(|_| _ = commit(store, &Batch::new()));
    nothing();
    counted(store, NOTHING, 100, nothing);
}

/// Counts what an operation adds to a commit.
fn add(name: &str, put: fn(&mut Batch, u64)) {
    let store = &places().store;
    let batch = |places: std::ops::Range<u64>| {
        let mut operations = Batch::new();
        places.for_each(|n| put(&mut operations, n));
        operations
    };
    let (first, second) = (batch(0..SIZE), batch(SIZE..PLACES));
    let receipt = commit(store, &first);
    let idle = receipt.outcomes().iter().filter(|outcome| matches!(outcome, Outcome::Unchanged));
    assert!(idle.count() == 0 || name.contains("require"), "{name} does nothing");
    counted(store, name, SIZE, || commit(store, &second));
}

/// A store that is asked.
struct Asked {
    store: Store,
    /// Of [`MANY`] channels.
    names: Vec<String>,
    /// Of now, and of a moment before messages to channels that the lister is not in.
    token: SyncToken,
    earlier: SyncToken,
    version: u64,
}

/// A user with many conversations, and a group of many members with many messages, of which each has an annotation and was edited.
fn asked(fixture: &Fixture) -> Asked {
    let store = fixture.store.clone();
    let mut batch = Batch::new();
    for n in 0..MANY {
        batch.join(channel(n), "lister").append(channel(n), draft(n)).join(group(), member(n));
        batch.append(group(), draft(n)).append(group(), draft(n).unique_id(id(n)));
    }
    for seq in 1..=MANY {
        batch.edit(group(), seq, "what was meant").annotate(group(), seq, "+1", "bob");
    }
    batch.position(0, 1, "");
    commit(&store, &batch);
    // Of a list that was cut the token stands for what was not told, too.
    let token = |store: &Store| store.conversations("lister").list().expect("a list").as_of;
    let earlier = token(&store);
    fixture.fill((0..20).map(|n| append_to(MANY + n, n)));
    let names = (0..MANY).map(channel).collect();
    Asked { names, earlier, token: token(&store), version: store.version().expect("a version"), store }
}

fn middle(asked: &Asked, limit: usize) -> usize {
    asked.store.history(group()).from(MANY + 1).limit(limit).list().expect("a page").len()
}

fn limited(asked: &Asked) -> usize {
    asked.store.conversations("lister").limit(1).list().expect("a list").entries.len()
}

fn fed(asked: &Asked) -> usize {
    let events = asked.store.feed().channel(group()).collect::<chanlog::Result<Vec<_>>>();
    events.expect("events").len()
}

fn reads(sealed: bool) {
    let fixture = places();
    let asked = asked(&fixture);
    if sealed {
        fixture.seal();
    }
    for (name, _, _, units, call) in CALLS {
        let calls = if units == 1 { MANY } else { 3 };
        call(&asked, 0);
        (0..calls).for_each(|n| call(&asked, n));
        counted(&asked.store, name, calls * units, || (0..calls).for_each(|n| call(&asked, n)));
    }
}
