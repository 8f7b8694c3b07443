//! Replicas of one lineage: whatever was sealed, merged, lost and applied again, and however each of them came to be, they give
//! the same answers, byte for byte.

#![cfg(feature = "sim")]

mod hooks;

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::Arc;
use std::time::Duration;

use chanlog::env::{PowerLoss, SimEnv};
use chanlog::{
    Applied, Argument, Batch, Draft, Durability, Error, Event, Options, Outcome, RetentionPolicy, Store,
    Update,
};
use hooks::{DIR, kill, options};

const LINEAGE: u128 = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;

/// The names of channels and of users; some are nobody's for long.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn name(&mut self) -> &'static [u8] {
        NAMES[self.below(5) as usize].as_bytes()
    }

    /// A seq of a short channel, or one beyond.
    fn number(&mut self) -> i128 {
        match self.below(12) {
            0 => u64::MAX.into(),
            1 => i128::from(self.below(1000)),
            _ => i128::from(self.below(9)),
        }
    }

    fn payload(&mut self) -> Vec<u8> {
        let len = [0, 1, 30, 30, 300, 1500, 6000][self.below(7) as usize];
        vec![b'a' + self.below(3) as u8; len]
    }
}

/// What kind of value each field of an operation takes, as far as that was found out.
#[derive(Default)]
struct Kinds(BTreeMap<(String, String), u8>);

impl Kinds {
    /// Adds an operation with fields that the dice choose. So operations that come later are here without a line of theirs.
    fn add(&mut self, batch: &mut Batch, op: &str, dice: &mut Dice) {
        let (payload, seed) = (dice.payload(), dice.below(u64::MAX));
        loop {
            let (mut dice, kinds) = (Dice(seed), &self.0);
            let mut field = |label: &str| {
                let maybe_absent = label.ends_with("id")
                    || label == "mentions"
                    || op == "join" && label != "channel" && label != "user";
                match (label, kinds.get(&(op.into(), label.into())).copied().unwrap_or(0)) {
                    ("only", _) => None,
                    _ if maybe_absent && dice.below(2) == 0 => None,
                    (_, 1) => Some(Argument::Flag(dice.below(3) > 0)),
                    ("channel" | "user" | "sender" | "key", 2) => Some(Argument::Bytes(dice.name())),
                    ("client_id" | "unique_id", 2) => Some(Argument::Bytes(dice.name())),
                    ("mentions", 2) => Some(Argument::Bytes(b"\x01a\x01b")),
                    (_, 2) => Some(Argument::Bytes(&payload)),
                    ("set" | "class" | "role" | "kind", _) => Some(Argument::Number(dice.below(3).into())),
                    ("timestamp", _) => Some(Argument::Number(dice.below(50).into())),
                    _ => Some(Argument::Number(dice.number())),
                }
            };
            let added = batch.operation(op, &mut field).map(drop);
            let Err(error) = added else { return };
            let text = error.to_string();
            let label = text.split('"').nth(3).unwrap_or_else(|| panic!("{text}")).to_owned();
            let kind = self.0.entry((op.into(), label)).or_default();
            *kind += 1;
            assert!(*kind < 3, "{text}");
        }
    }
}

/// The entries of a log.
fn entries(seed: u64, count: usize) -> Vec<Batch> {
    let (mut dice, mut kinds, mut time) = (Dice(seed), Kinds::default(), 1000);
    let entry = |_| {
        let mut batch = Batch::new();
        for _ in 0..=dice.below(4) {
            let ops = Batch::OPERATIONS;
            match dice.below(10) {
                0..4 => {
                    let mut draft = Draft::new(dice.name(), dice.below(50) as i64, dice.payload());
                    if dice.below(3) == 0 {
                        // Few of them, with few contents, so that sends are repeated.
                        draft = Draft::new("a", 0, "again").client_id(dice.name());
                    }
                    batch.append(dice.name(), draft);
                }
                4..6 => _ = batch.join(dice.name(), dice.name()),
                6 => _ = batch.leave(dice.name(), dice.name()),
                _ => match ops[dice.below(ops.len() as u64) as usize] {
                    // Those are the log's own, and others do not mean this store.
                    "position" => {}
                    // Most of them would refuse the batch.
                    op if op.starts_with("require") && dice.below(3) > 0 => {}
                    op => kinds.add(&mut batch, op, &mut dice),
                },
            }
        }
        // Clocks step back, stand still and leap.
        time += [-30, 0, 5, 20, 70, 1000][dice.below(6) as usize];
        if dice.below(8) > 0 {
            batch.time(time);
        }
        batch
    };
    (0..count).map(entry).collect()
}

/// What decides, small enough to be met.
fn settings(sim: &Arc<SimEnv>) -> Options {
    options(sim.clone())
        .replica(LINEAGE)
        .tombstone_age(Duration::from_millis(120))
        .tombstones(3)
        .client_id_window(6, Duration::from_millis(50))
        .payload_limit(5000)
}

/// A replica, with a way of its own to keep the same.
struct Replica {
    sim: Arc<SimEnv>,
    dir: String,
    options: Options,
    store: Option<Store>,
    backups: u64,
}

impl Replica {
    fn new(seed: u64, number: u64) -> Replica {
        let sim = SimEnv::new(seed * 8 + number);
        sim.set_unix_ms([0, 1_000_000_000_000, -77][number as usize % 3]);
        let durability = if number == 0 { Durability::Sync } else { Durability::Buffered };
        let options = settings(&sim).durability(durability).memtable(4 << 10 << number);
        let mut replica = Replica { sim, dir: DIR.into(), options, store: None, backups: 0 };
        replica.open();
        replica
    }

    fn open(&mut self) {
        self.store = Some(self.options.clone().open(&self.dir).unwrap());
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn index(&self) -> u64 {
        self.store().position(0).unwrap().map_or(0, |at| at.index)
    }

    /// Applies entries up to one, from some place that was applied before on. What comes of each is what came of it
    /// elsewhere.
    fn apply(&self, entries: &[Batch], to: u64, dice: &mut Dice, outcomes: &mut BTreeMap<u64, String>) {
        let (store, done) = (self.store(), self.index());
        for index in 1 + done.saturating_sub(dice.below(3))..=to {
            let mut entry = entries[index as usize - 1].clone();
            if dice.below(4) == 0 {
                entry.durability(Durability::Sync);
            }
            let outcome = match store.apply(0, index, format!("term {}", index / 7), &entry).unwrap() {
                Applied::Before => {
                    assert!(index <= done, "{index} was not applied");
                    continue;
                }
                Applied::Now(receipt) => format!("{receipt:?}"),
                Applied::Refused(error) => format!("{error:?}"),
                other => panic!("{other:?}"),
            };
            assert!(index > done, "{index} was applied twice");
            let before = outcomes.entry(index).or_insert_with(|| outcome.clone());
            assert_eq!(*before, outcome, "entry {index}");
        }
    }

    /// Does something that no answer may show.
    fn disturb(&mut self, dice: &mut Dice) {
        self.sim.advance(Duration::from_millis(dice.below(500)));
        let store = self.store().clone();
        match dice.below(9) {
            0 | 1 => store.seal().unwrap(),
            2 => drop((0..3).map(|_| store.maintain().unwrap()).collect::<Vec<_>>()),
            3 => store.compact().unwrap(),
            4 => store.erase_now().unwrap(),
            5 => store.sync().unwrap(),
            6 => {
                store.close().unwrap();
                drop(store);
                self.store = None;
                self.open();
            }
            end => {
                let durable = store.durable_position(0).unwrap().map_or(0, |at| at.index);
                drop(store);
                kill(&self.sim, self.store.take().unwrap());
                if end == 8 {
                    self.sim.power_loss();
                }
                self.open();
                assert!(!self.store().recovery().gap && self.index() >= durable);
            }
        }
    }

    /// Another replica, from a backup of this one.
    fn install(&mut self) -> Replica {
        self.backups += 1;
        let dir = format!("{}-{}", self.dir, self.backups);
        let backup = self.store().backup(&dir).unwrap();
        let sim = self.sim.fork(self.backups);
        let options = self.options.clone().env(sim.clone()).durability(Durability::Buffered);
        let mut replica = Replica { sim, dir, options, store: None, backups: 0 };
        replica.open();
        assert_eq!((replica.index(), backup.version), (self.index(), self.store().version().unwrap()));
        assert_eq!(replica.store().durable_position(0).unwrap(), replica.store().position(0).unwrap());
        replica
    }
}

/// A token that a replica gave, and to whom.
type Given = (&'static str, String);

fn note(out: &mut String, what: impl Debug, answer: impl Debug) {
    writeln!(out, "{what:?}: {answer:?}").unwrap();
}

/// All that a store answers, and the tokens that it gives.
fn answers(store: &Store, tokens: &[Given], out: &mut String) -> Vec<Given> {
    note(out, "version", (store.version(), store.position(0), store.position(1)));
    note(out, "channels", (store.channels().list(), store.channels().class(1).list(), store.users().list()));
    note(out, "heads", store.heads(NAMES));
    for name in NAMES {
        channel_answers(store, name, out);
    }
    let mut given = Vec::new();
    for name in NAMES {
        user_answers(store, name, &mut given, out);
        note(out, ("id", name), store.message_by_id(name));
    }
    for (name, token) in tokens {
        since_answers(store, name, token, out);
        let mut feed = store.feed().after(&token.parse().unwrap());
        let events: Vec<_> = feed.by_ref().collect();
        note(out, ("after", token), (events, feed.token().map(|token| token.to_string())));
    }
    let mut feed = store.feed();
    let events: Vec<chanlog::Result<Event>> = feed.by_ref().collect();
    note(out, "feed", (events, feed.token().map(|token| token.to_string())));
    given
}

fn channel_answers(store: &Store, name: &str, out: &mut String) {
    let history = || store.history(name);
    let mut note = |what: &str, answer: &dyn Debug| note(out, (name, what), answer);
    note("channel", &(store.channel(name), store.has_channel(name), store.head(name)));
    note("history", &(history().list(), history().reverse().limit(3).list(), history().last(2)));
    note("part", &(history().from(2).to(5).bytes(400).list(), history().from_time(10).to_time(30).list()));
    note(
        "annotations",
        &(store.annotations(name).list(), store.annotations(name).after(2, "b").limit(2).list()),
    );
    note("changes", &(store.changes(name).list(), store.changes(name).since(20).limit(3).list()));
    let members = || store.members(name);
    note("members", &(members().list(), members().rows(), members().left().rows(), members().role(1).list()));
    note("members since", &(members().since(9).rows(), members().marks(), members().since(20).marks()));
    note("feed", &store.feed().channel(name).collect::<Vec<_>>());
    for set in 0..3 {
        note("set", &(store.set(name, set).list(), store.set(name, set).since(0).list()));
    }
    for user in NAMES {
        note("by", &(history().by(user).list(), history().seen_by(user).list()));
        note("member", &(store.membership(name, user), store.conversation(user, name)));
        note("kept", &(store.kept_history(name, user), store.forgotten(name, user)));
        note("in set", &(store.set_member(name, 1, user), store.annotation(name, 2, user)));
    }
}

fn user_answers(store: &Store, name: &'static str, given: &mut Vec<Given>, out: &mut String) {
    let list = || store.conversations(name);
    let whole = list().with_attributes().list().unwrap();
    note(out, (name, "list"), (&whole.entries, whole.as_of.to_string()));
    let cut = list().limit(1).list().unwrap();
    note(
        out,
        (name, "cut"),
        (&cut.entries, cut.as_of.to_string(), cut.next.as_ref().map(ToString::to_string)),
    );
    if let Some(next) = &cut.next {
        let rest = list().after(next).list().unwrap();
        note(out, (name, "rest"), (&rest.entries, rest.as_of.to_string()));
    }
    given.extend([(name, whole.as_of.to_string()), (name, cut.as_of.to_string())]);
    note(
        out,
        (name, "unread"),
        (list().unread_only().list().map(|list| list.entries), store.unread(name), store.user(name)),
    );
    let channels = || store.channels_of(name);
    note(out, (name, "channels"), (channels().list(), channels().rows(), channels().left().rows()));
    note(out, (name, "channels since"), (channels().since(15).rows(), store.has_memberships(name)));
    for set in 0..3 {
        note(
            out,
            (name, "sets"),
            (store.sets_of(name, set).list(), store.sets_of(name, set).since(3).list()),
        );
    }
}

fn since_answers(store: &Store, name: &str, token: &str, out: &mut String) {
    let from = token.parse().unwrap();
    for limit in [2, usize::MAX] {
        match store.conversations(name).limit(limit).since(&from).unwrap() {
            Update::Changes { changes, as_of, next, .. } => {
                let next = next.map(|next| next.to_string());
                note(out, (name, token), (changes, as_of.to_string(), next));
            }
            Update::Reset => note(out, (name, token), "reset"),
            other => panic!("{other:?}"),
        }
    }
}

/// One walk: replicas are disturbed, fall behind and catch up, until all of them have come as far.
fn walk(seed: u64) -> usize {
    let mut dice = Dice(seed.wrapping_mul(77));
    let entries = entries(seed, 30);
    let mut replicas: Vec<Replica> = (0..3).map(|number| Replica::new(seed, number)).collect();
    let (mut outcomes, mut tokens, mut size) = (BTreeMap::new(), Vec::<Given>::new(), 0);
    for stage in [9u64, 17, 30] {
        while replicas.iter().any(|replica| replica.index() < stage) {
            let replica = &mut replicas[dice.below(3) as usize];
            let to = (replica.index() + 1 + dice.below(4)).min(stage);
            replica.apply(&entries, to, &mut dice, &mut outcomes);
            if dice.below(3) > 0 {
                replica.disturb(&mut dice);
            }
        }
        if dice.below(3) == 0 {
            let from = dice.below(3) as usize;
            let installed = replicas[from].install();
            replicas[(from + 1) % 3] = installed;
        }
        let (mut first, mut given) = (String::new(), Vec::new());
        for (number, replica) in replicas.iter().enumerate() {
            let mut all = String::new();
            given = answers(replica.store(), &tokens, &mut all);
            if number == 0 {
                first = all;
            } else if let Some((here, there)) =
                first.lines().zip(all.lines()).find(|(here, there)| here != there)
            {
                panic!("seed {seed}, replica {number} at {stage}:\n{here}\n{there}");
            }
        }
        size += first.len();
        tokens.extend(given);
    }
    replicas.iter().for_each(|replica| replica.store().close().unwrap());
    for replica in &replicas {
        let found = chanlog::verify(&replica.dir, &replica.options).unwrap();
        assert!(found.faults.is_empty(), "seed {seed}: {:?}", found.faults);
    }
    size
}

#[test]
fn give_the_same_answers_whatever_became_of_each() {
    let walks = std::env::var("WALKS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let size: usize = (0..walks).map(walk).sum();
    assert!(size > walks as usize * 10_000, "the answers say too little: {size}");
}

/// Applies one entry with this effect at a time, which is none if it is 0.
fn next(store: &Store, time: i64, build: impl FnOnce(&mut Batch) -> &mut Batch) -> Applied {
    let (index, mut batch) = (store.position(0).unwrap().map_or(1, |at| at.index + 1), Batch::new());
    build(&mut batch);
    if time != 0 {
        batch.time(time);
    }
    store.apply(0, index, "t", &batch).unwrap()
}

#[test]
fn take_no_commit_beside_the_log() {
    let sim = SimEnv::new(1);
    let policy = RetentionPolicy::new().max_count(1);
    let store = settings(&sim).retention(policy).background(true).open(DIR).unwrap();
    let mut batch = Batch::new();
    batch.append("c", Draft::new("a", 0, "hi"));
    for refused in [store.commit(&batch), store.commit(&Batch::new())] {
        assert!(matches!(refused, Err(Error::NoPosition)), "{refused:?}");
    }
    assert!(store.submit(&batch).unwrap_err().to_string().contains("no position"));
    assert!(matches!(next(&store, 5, |b| b.append("c", Draft::new("a", 0, "one"))), Applied::Now(_)));
    assert!(matches!(next(&store, 5, |b| b.append("c", Draft::new("a", 0, "two"))), Applied::Now(_)));
    batch.position(0, 3, "t");
    store.commit(&batch).unwrap();
    let version = store.version().unwrap();
    assert!(matches!(store.enforce_retention(9, 100), Err(Error::NoPosition)));
    let trims = store.overdue(9).unwrap();
    store.seal().unwrap();
    while store.maintain().unwrap() {}
    assert_eq!((store.version().unwrap(), trims.len()), (version, 1));
    assert!(matches!(store.apply(0, 4, "t", &trims).unwrap(), Applied::Now(_)));
    assert_eq!(store.head("c").unwrap().trimmed.seq, 2);
    store.close().unwrap();
}

#[test]
fn are_replicas_from_their_creation_on() {
    let sim = SimEnv::new(2);
    let store = settings(&sim).open(DIR).unwrap();
    let _ = next(&store, 5, |b| b.append("c", Draft::new("a", 0, "hi")));
    let token = store.conversations("a").list().unwrap().as_of.to_string();
    assert!(!token.contains("0123456789abcdef"), "the lineage is shown to nobody: {token}");
    store.close().unwrap();
    drop(store);
    // What a release that knows no replicas refuses.
    let manifest = sim.read_file(format!("{DIR}/chanlog.manifest")).unwrap();
    assert_eq!(manifest[16], 1 | 2);
    for other in [options(sim.clone()).replica(LINEAGE + 1), options(sim.clone()).replica(0).read_only(true)]
    {
        let error = other.open(DIR).unwrap_err();
        assert!(
            matches!(error, Error::InvalidArgument { .. }) && error.to_string().contains("lineage"),
            "{error}"
        );
    }
    // What decides is what was said when it was made.
    let store = options(sim.clone()).payload_limit(1).client_id_window(0, Duration::ZERO).open(DIR).unwrap();
    assert!(matches!(store.commit(&Batch::new()), Err(Error::NoPosition)));
    let named = |text: &'static str| Draft::new("a", 0, text).client_id("1");
    let _ = next(&store, 6, |b| b.append("c", named("not one byte")));
    let Applied::Refused(error) = next(&store, 7, |b| b.append("c", named("other"))) else { panic!() };
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    let Applied::Refused(error) = next(&store, 7, |b| b.append("c", Draft::new("a", 0, vec![0; 5001])))
    else {
        panic!()
    };
    assert!(matches!(error, Error::TooLarge { limit: 5000, .. }), "{error}");
    let reader = options(sim.clone()).read_only(true).open(DIR).unwrap();
    assert!(matches!(
        reader.conversations("a").since(&token.parse().unwrap()).unwrap(),
        Update::Changes { .. }
    ));
    // Another store becomes none.
    let other = options(sim.clone()).open("/other").unwrap();
    other.close().unwrap();
    drop(other);
    assert!(matches!(settings(&sim).open("/other"), Err(Error::InvalidArgument { .. })));
    assert!(matches!(settings(&sim).read_only(true).open("/other"), Err(Error::InvalidArgument { .. })));
}

#[test]
fn have_the_time_of_their_batches() {
    let sim = SimEnv::new(3);
    let mut store = settings(&sim).open(DIR).unwrap();
    let left = |store: &Store| store.members("c").left().list().unwrap().len();
    let time = |store: &Store| store.position(0).unwrap().unwrap().time;
    let _ = next(&store, 0, |b| b.join("c", "a").join("c", "b"));
    assert_eq!(time(&store), Some(0), "before the first");
    let _ = next(&store, 10_000, |b| b.leave("c", "a"));
    sim.set_unix_ms(i64::MAX);
    let _ = next(&store, 9_000, |b| b.leave("c", "b"));
    assert_eq!((time(&store), left(&store)), (Some(10_000), 2), "it does not go back");
    for _ in 0..3 {
        assert_eq!(left(&store), 2);
        store.compact().unwrap();
        kill(&sim, store);
        store = settings(&sim).open(DIR).unwrap();
    }
    let _ = next(&store, 10_119, |b| b.read("c", "nobody", 1));
    assert_eq!((time(&store), left(&store)), (Some(10_119), 2), "a refusal counts");
    let held = store.view().unwrap();
    let _ = next(&store, 10_120, |b| b);
    assert_eq!(left(&store), 0);
    assert_eq!(held.members("c").left().list().unwrap().len(), 2, "a view has its own");
}

/// A merge goes by the time that it can be sure of: a later one may be lost, and then a send counts again that it would have
/// dropped.
#[test]
fn keep_what_a_lost_time_would_have_ended() {
    let sim = SimEnv::new(6);
    let open = || settings(&sim).durability(Durability::Buffered).open(DIR).unwrap();
    let store = open();
    let named = || Draft::new("a", 0, "once").client_id("1");
    let _ = next(&store, 1000, |b| b.append("c", named()));
    for _ in 0..6 {
        let _ = next(&store, 1000, |b| b.append("c", Draft::new("a", 0, "hi")));
        store.seal().unwrap();
    }
    let known = store.position(0).unwrap();
    let again = |store: &Store| match next(store, 1040, |b| b.append("c", named())) {
        Applied::Now(receipt) => receipt.outcomes()[0],
        other => panic!("{other:?}"),
    };
    assert!(matches!(again(&store), Outcome::Existed { seq: 1, .. }));
    let _ = next(&store, 1_000_000_000, |b| b);
    while store.maintain().unwrap() {}
    assert!(store.stat().unwrap().runs.count < 6, "runs were merged");
    sim.crash_after(0);
    drop(store);
    sim.power_loss_with(PowerLoss::Drop);
    let store = open();
    assert_eq!(store.position(0).unwrap(), known, "the time was lost");
    assert!(matches!(again(&store), Outcome::Existed { seq: 1, .. }));
}

#[test]
fn advance_by_refusals_and_not_by_failures() {
    let sim = SimEnv::new(4);
    let store = settings(&sim).open(DIR).unwrap();
    let mut entry = Batch::new();
    entry.append("c", Draft::new("a", 0, "hi"));
    assert!(matches!(store.apply(0, 1, "t", &entry).unwrap(), Applied::Now(_)));
    sim.fail_nth(&[chanlog::env::Op::Write], 1, std::io::ErrorKind::StorageFull);
    let full = store.apply(0, 2, "t", &entry).unwrap_err();
    assert!(matches!(full, Error::OutOfSpace { .. }), "{full}");
    assert_eq!(store.position(0).unwrap().unwrap().index, 1);
    assert!(matches!(store.apply(0, 2, "t", &entry).unwrap(), Applied::Now(_)));
    let mut refused = Batch::new();
    refused.append("c", Draft::new("a", 0, "never")).read("c", "nobody", 1);
    assert!(matches!(
        store.apply(0, 3, "t", &refused).unwrap(),
        Applied::Refused(Error::NotMember { op: 1, .. })
    ));
    let missing = store.apply(0, 5, "t", &entry).unwrap_err();
    assert!(matches!(missing, Error::OutOfOrder { applied: 3, diverged: false, .. }), "{missing}");
    let diverged = store.apply(0, 3, "u", &entry).unwrap_err();
    assert!(matches!(diverged, Error::OutOfOrder { diverged: true, .. }), "{diverged}");
    sim.fail_nth(&[chanlog::env::Op::Sync], 1, std::io::ErrorKind::Other);
    let poisoned = store.apply(0, 4, "t", &entry).unwrap_err();
    assert!(matches!(poisoned, Error::Poisoned { .. }), "{poisoned}");
    kill(&sim, store);
    sim.clear_faults();
    let store = settings(&sim).open(DIR).unwrap();
    let _ = store.apply(0, 4, "t", &entry).unwrap();
    let seqs: Vec<u64> = store.history("c").list().unwrap().iter().map(|message| message.seq).collect();
    assert_eq!(seqs, [1, 2, 3]);
}

#[test]
fn are_installed_from_a_backup() {
    let sim = SimEnv::new(5);
    let store = settings(&sim).durability(Durability::Buffered).open(DIR).unwrap();
    for text in ["one", "two"] {
        let _ = next(&store, 100, |b| b.append("c", Draft::new("a", 0, text)));
        store.seal().unwrap();
    }
    let _ = next(&store, 200, |b| b.append("c", Draft::new("a", 0, "three")));
    for (dir, linked) in [("/linked", true), ("/copied", false)] {
        if !linked {
            for nth in 1..20 {
                sim.fail_nth(&[chanlog::env::Op::Link], nth, std::io::ErrorKind::CrossesDevices);
            }
        }
        let backup = store.backup(dir).unwrap();
        assert_eq!((backup.linked > 0, backup.copied > 0), (linked, !linked));
        sim.clear_faults();
        let copy = options(sim.clone()).open(dir).unwrap();
        assert_eq!(copy.position(0).unwrap(), store.position(0).unwrap());
        assert_eq!(copy.durable_position(0).unwrap().unwrap().index, 3);
        assert!(matches!(copy.commit(&Batch::new()), Err(Error::NoPosition)));
        let (mut here, mut there) = (String::new(), String::new());
        let _ = (answers(&store, &[], &mut here), answers(&copy, &[], &mut there));
        assert_eq!(here, there);
        let _ = next(&copy, 300, |b| b.append("c", Draft::new("a", 0, "four")));
        assert_eq!(copy.head("c").unwrap().last.seq, 4);
    }
}
