//! What each operation of a batch and each reading call takes, for the table in DESIGN.md. `counts calls` prints it.
//!
//! Operations are counted 256 in a commit, each on a place of its own, so that they show what one of them adds; what a commit takes by
//! itself is told apart. Reads are counted over a store in the log and again when it is sealed.

use std::hint::black_box;
use std::time::Duration;

use chanlog::{
    Batch, Condition, Draft, LeaveOptions, Mark, Outcome, Receipt, RetentionPolicy, Store, SyncToken,
};

use crate::counted::{Counts, Works, count_all, counted};
use crate::fixture::{Fixture, channel, user};
use crate::stores::{append_to, draft, id, options};

/// An operation by name, and what puts it into a batch for the `n`-th place.
type Operation = (&'static str, fn(&mut Batch, u64));

/// Places: channels with five messages, each of which has a member of its own, an empty channel and a set beside it.
const PLACES: u64 = 512;
/// The operations in a commit.
const SIZE: u64 = 256;

const OPERATIONS: [Operation; 49] = [
    ("append", |b, n| _ = b.append(channel(n), draft(n))),
    ("append: client id", |b, n| _ = b.append(channel(n), draft(n).client_id(id(n)))),
    ("append: unique id", |b, n| _ = b.append(channel(n), draft(n).unique_id(id(n)))),
    ("append: one mention", |b, n| _ = b.append(channel(n), draft(n).mentions([member(n)]))),
    ("append: mention of all", |b, n| _ = b.append(channel(n), draft(n).mention_all())),
    ("append: expires", |b, n| _ = b.append(channel(n), draft(n).expires(1_790_000_000_000))),
    ("append: quiet", |b, n| _ = b.append(channel(n), draft(n).quiet())),
    ("append: members only", |b, n| _ = b.append(channel(n), members_only(n))),
    ("append: new channel, new sender", |b, n| _ = b.append(fresh(n), Draft::new(fresh(n), 0, "hello"))),
    ("append_at, the next seq", |b, n| _ = b.append_at(channel(n), 6, draft(n))),
    ("append_at, one that is there", |b, n| _ = b.append_at(channel(n), 5, draft(4 * PLACES + n))),
    ("edit", |b, n| _ = b.edit(channel(n), 2, "what was meant, in about fifty bytes of payload ..")),
    ("retract", |b, n| _ = b.retract(channel(n), 2)),
    ("erase", |b, n| _ = b.erase(channel(n), 2)),
    ("erase_user", |b, n| _ = b.erase_user(member(n))),
    ("annotate", |b, n| _ = b.annotate(channel(n), 2, member(n), "+1")),
    ("forget", |b, n| _ = b.forget(channel(n), member(n), 4, 4)),
    ("join", |b, n| _ = b.join(channel(n), user(n))),
    ("leave", |b, n| _ = b.leave(channel(n), member(n))),
    ("leave_with kept history", |b, n| _ = b.leave_with(channel(n), member(n), keeping())),
    ("read", |b, n| _ = b.read(channel(n), member(n), u64::MAX)),
    ("read_at", |b, n| _ = b.read_at(channel(n), member(n), 4)),
    ("set_unread", |b, n| _ = b.set_unread(channel(n), member(n), 1)),
    ("read_all, of one channel", |b, n| _ = b.read_all(member(n))),
    ("deliver", |b, n| _ = b.deliver(channel(n), member(n), 5)),
    ("clear", |b, n| _ = b.clear(channel(n), member(n))),
    ("clear_to", |b, n| _ = b.clear_to(channel(n), member(n), 4)),
    ("hide", |b, n| _ = b.hide(channel(n), member(n))),
    ("activate", |b, n| _ = b.activate(channel(n), member(n))),
    ("pin", |b, n| _ = b.pin(channel(n), member(n), true)),
    ("mute", |b, n| _ = b.mute(channel(n), member(n), true)),
    ("flag_unread", |b, n| _ = b.flag_unread(channel(n), member(n), true)),
    ("role", |b, n| _ = b.role(channel(n), member(n), 2)),
    ("attributes, 32 bytes", |b, n| _ = b.attributes(channel(n), member(n), id(n))),
    ("attributes, 2 KiB", |b, n| _ = b.attributes(channel(n), member(n), id(n).repeat(64))),
    ("class", |b, n| _ = b.class(channel(n), 2)),
    ("channel_attributes, 32 bytes", |b, n| _ = b.channel_attributes(channel(n), id(n))),
    ("user_attributes, 32 bytes", |b, n| _ = b.user_attributes(member(n), id(n))),
    ("retention", |b, n| _ = b.retention(channel(n), RetentionPolicy::new().max_count(1000))),
    ("add_to_set", |b, n| _ = b.add_to_set(channel(n), 1, user(n))),
    ("remove_from_set", |b, n| _ = b.remove_from_set(channel(n), 2, member(n))),
    ("require_channel", |b, n| _ = b.require_channel(channel(n), Condition::Present)),
    ("require_member", |b, n| _ = b.require_member(channel(n), member(n), Condition::Present)),
    ("position", |b, n| _ = b.position(n as u32, 1, "term 1")),
    ("set_base", |b, n| _ = b.set_base(empty(n), Mark { seq: 7, ordinal: 7 })),
    ("trim", |b, n| _ = b.trim(channel(n), 4)),
    ("empty", |b, n| _ = b.empty(channel(n))),
    ("delete_channel", |b, n| _ = b.delete_channel(channel(n))),
    ("delete_user", |b, n| _ = b.delete_user(member(n))),
];

/// A call of a store by name, what its unit is, how many of them it takes in, and the call.
type Call = (&'static str, &'static str, u64, fn(&Asked, u64));

/// How many rows and messages lists and listings have.
const MANY: u64 = 200;

const CALLS: [Call; 41] = [
    ("version", "call", 1, |a, _| _ = black_box(a.store.version())),
    ("view, and its end", "call", 1, |a, _| _ = black_box(a.store.view())),
    ("has_channel", "call", 1, |a, n| _ = black_box(a.store.has_channel(channel(n)))),
    ("head", "call", 1, |a, n| _ = black_box(a.store.head(channel(n)))),
    ("heads", "channel", MANY, |a, _| _ = black_box(a.store.heads(&a.names))),
    ("channel", "call", 1, |a, n| _ = black_box(a.store.channel(channel(n)))),
    ("user", "call", 1, |a, n| _ = black_box(a.store.user(member(n)))),
    ("membership", "call", 1, |a, n| _ = black_box(a.store.membership(channel(n), member(n)))),
    ("kept_history", "call", 1, |a, n| _ = black_box(a.store.kept_history(channel(n), member(n)))),
    ("forgotten", "call", 1, |a, n| _ = black_box(a.store.forgotten(channel(n), member(n)))),
    ("set_member", "call", 1, |a, n| _ = black_box(a.store.set_member(channel(n), 2, member(n)))),
    ("has_memberships", "call", 1, |a, n| _ = black_box(a.store.has_memberships(member(n)))),
    ("position", "call", 1, |a, _| _ = black_box(a.store.position(0))),
    ("annotation", "call", 1, |a, _| _ = black_box(a.store.annotation(group(), 1, "+1"))),
    ("message_by_id", "call", 1, |a, n| _ = black_box(a.store.message_by_id(id(n)))),
    ("message_by_id, unknown", "call", 1, |a, n| _ = black_box(a.store.message_by_id(id(n + PLACES)))),
    ("history: last(1)", "call", 1, |a, _| _ = black_box(a.store.history(group()).last(1))),
    ("history: last(200)", "message", MANY, |a, _| _ = black_box(a.store.history(group()).last(200))),
    ("history: one from the middle", "call", 1, |a, _| _ = black_box(middle(a, 1))),
    ("history: 200 from the middle", "message", MANY, |a, _| _ = black_box(middle(a, 200))),
    ("annotations", "line", MANY, |a, _| _ = black_box(a.store.annotations(group()).list())),
    ("changes, all", "line", 2 * MANY, |a, _| _ = black_box(a.store.changes(group()).list())),
    ("changes, none since", "call", 1, |a, _| {
        _ = black_box(a.store.changes(group()).since(a.version).list())
    }),
    ("conversation", "call", 1, |a, n| _ = black_box(a.store.conversation("lister", channel(n)))),
    ("conversations: list, all", "entry", MANY, |a, _| _ = black_box(a.store.conversations("lister").list())),
    ("conversations: list, limit 1", "row", MANY, |a, _| _ = black_box(limited(a))),
    ("conversations: since, none", "call", 1, |a, _| {
        _ = black_box(a.store.conversations("lister").since(&a.token))
    }),
    ("conversations: since, of others", "row", MANY, |a, _| {
        _ = black_box(a.store.conversations("lister").since(&a.earlier));
    }),
    ("unread", "row", MANY, |a, _| _ = black_box(a.store.unread("lister"))),
    ("members: list", "name", MANY, |a, _| _ = black_box(a.store.members(group()).list())),
    ("members: rows", "row", MANY, |a, _| _ = black_box(a.store.members(group()).rows())),
    ("members: marks", "row", MANY, |a, _| _ = black_box(a.store.members(group()).marks())),
    ("members: marks, none since", "member", MANY, |a, _| {
        _ = black_box(a.store.members(group()).since(a.version).marks());
    }),
    ("channels_of: list", "name", MANY, |a, _| _ = black_box(a.store.channels_of("lister").list())),
    ("set: list", "line", 1, |a, n| _ = black_box(a.store.set(channel(n), 2).list())),
    ("sets_of: list", "line", 1, |a, n| _ = black_box(a.store.sets_of(member(n), 2).list())),
    ("channels: list", "name", MANY, |a, _| _ = black_box(a.store.channels().limit(MANY as usize).list())),
    ("users: list", "name", MANY, |a, _| _ = black_box(a.store.users().limit(MANY as usize).list())),
    ("feed, all of one channel", "event", MANY * 5, |a, _| _ = black_box(fed(a))),
    ("wait, no time", "call", 1, |a, _| _ = black_box(a.store.wait(a.version, Duration::ZERO))),
    ("stat", "call", 1, |a, _| _ = black_box(a.store.stat())),
];

/// Counts all, and prints the tables.
pub fn print() -> Result<(), String> {
    let runs = ["operations", "reads", "sealed reads"].map(|run| vec!["calls".into(), run.into()]);
    let [operations, reads, sealed] = &count_all(&runs)?[..] else { return Err("other runs".into()) };
    println!("| operation | instructions | allocations | bytes of the log |\n|---|---:|---:|---:|");
    for (name, Counts { instructions, allocations, bytes, .. }) in operations {
        println!("| `{name}` | {instructions:.0} | {allocations:.1} | {bytes:.0} |");
    }
    print_reads(reads, sealed);
    Ok(())
}

fn print_reads(reads: &Works, sealed: &Works) {
    println!("\n| call | for each | instructions, log | allocations | instructions, sealed | allocations |");
    println!("|---|---|---:|---:|---:|---:|");
    for (((name, log), (_, sealed)), (_, unit, ..)) in reads.iter().zip(sealed).zip(CALLS) {
        println!(
            "| `{name}` | {unit} | {:.0} | {:.1} | {:.0} | {:.1} |",
            log.instructions, log.allocations, sealed.instructions, sealed.allocations
        );
    }
}

/// Counts in this process.
pub fn run(what: &str) -> Result<(), String> {
    match what {
        "operations" => operations(),
        "reads" => reads(false),
        "sealed reads" => reads(true),
        _ => return Err(format!("nothing is called {what:?}")),
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

/// Counts a commit that changes nothing, and each operation in a store of its own.
fn operations() {
    let store = &places().store;
    let nothing = || (0..100).for_each(|_| _ = commit(store, &Batch::new()));
    nothing();
    counted(store, "an empty batch", 100, nothing);
    for (name, put) in OPERATIONS {
        let store = &places().store;
        let batches: Vec<_> = (0..PLACES / SIZE)
            .map(|batch| {
                let mut operations = Batch::new();
                (batch * SIZE..(batch + 1) * SIZE).for_each(|n| put(&mut operations, n));
                operations
            })
            .collect();
        let (first, counted_ones) = batches.split_first().expect("two batches");
        let receipt = commit(store, first);
        let idle = receipt.outcomes().iter().filter(|outcome| matches!(outcome, Outcome::Unchanged));
        assert!(idle.count() == 0 || name.contains("require"), "{name} does nothing");
        counted(store, name, PLACES - SIZE, || {
            counted_ones.iter().for_each(|batch| _ = commit(store, batch));
        });
    }
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
    asked.store.feed().channel(group()).map(|event| event.expect("an event")).count()
}

fn reads(sealed: bool) {
    let fixture = places();
    let asked = asked(&fixture);
    if sealed {
        fixture.seal();
    }
    for (name, _, units, call) in CALLS {
        let calls = if units == 1 { MANY } else { 3 };
        call(&asked, 0);
        (0..calls).for_each(|n| call(&asked, n));
        counted(&asked.store, name, calls * units, || (0..calls).for_each(|n| call(&asked, n)));
    }
}
