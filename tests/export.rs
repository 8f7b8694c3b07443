//! Export and import: a store that is made of another's facts holds the same, whatever files either has, and what is no export
//! makes no store.

#![cfg(feature = "sim")]

mod model;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chanlog::env::{PowerLoss, SimEnv};
use chanlog::{
    Batch, Draft, Error, Fact, FieldFact, Import, Mark, MessageFact, Options, Result, RowFact, Store,
    StoreFact, UnknownTable, ValueFact,
};

const STORE: &str = "/store";
const COPY: &str = "/copy";

fn options(sim: &Arc<SimEnv>) -> Options {
    Options::new().env(sim.clone()).background(false).log_segment(256 << 10).message_segment(16 << 10)
}

fn facts(store: &Store) -> Vec<Fact> {
    store.view().unwrap().export().map(Result::unwrap).collect()
}

fn import(sim: &Arc<SimEnv>, dir: &str, facts: impl IntoIterator<Item = Fact>) -> Result<chanlog::Imported> {
    let mut import = Import::new(dir, options(sim))?;
    facts.into_iter().try_for_each(|fact| import.put(fact))?;
    import.finish()
}

/// A store with something in every table, names that are no text, and long values.
fn full(store: &Store) {
    let mut batch = Batch::new();
    batch.join("general", "ana").join("general", "bob").join(b"\xff\x00", "ana").join("gone", "bob");
    batch.append(
        "general",
        Draft::new("ana", 5, "hi").client_id("c1").unique_id("u1").id(9).mentions(["bob"]),
    );
    batch.append("general", Draft::new("ana", -7, vec![0xff; 3000]).silent());
    batch.append("general", Draft::new("zed", 8, "psst").quiet());
    batch.append("gone", Draft::new("bob", 1, "secret of gone"));
    store.commit(&batch).unwrap();
    store.seal().unwrap();
    for n in 0..60u8 {
        let draft = Draft::new("bob", i64::from(n), vec![n; 900]);
        store
            .commit(Batch::new().append("general", draft).append(b"\xff\x00", Draft::new("ana", 0, "x")))
            .unwrap();
    }
    let mut batch = Batch::new();
    batch
        .attributes("general", "bob", vec![7; 3000])
        .channel_attributes("general", "title")
        .class("general", 3);
    batch.user_attributes("ana", vec![8; 2000]).user_attributes("ana", vec![9; 2000]);
    batch.annotate("general", 1, "bob", ":)").edit("general", 4, vec![6; 5000]).edit("general", 5, "short");
    batch
        .retract("general", 6)
        .erase("general", 7)
        .forget("general", "bob", 9, 11)
        .deliver("general", "bob", 12);
    batch.add_to_set("general", 7, "eve").read("general", "bob", 20).pin("general", "bob", true);
    batch.trim(b"\xff\x00", 30).leave(b"\xff\x00", "ana");
    batch.leave_with("general", "bob", chanlog::LeaveOptions::new().keep_history());
    batch.delete_channel("gone").retention("general", chanlog::RetentionPolicy::new().max_count(1000));
    store.commit(&batch).unwrap();
    store.commit(Batch::new().append("gone", Draft::new("bob", 2, "again"))).unwrap();
    let _ = store.apply(3, 17, "term", &Batch::new()).unwrap();
}

#[test]
fn what_was_told_makes_a_store_that_tells_the_same() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(STORE).unwrap();
    full(&store);
    let told = facts(&store);
    let reader = options(&sim).read_only(true).open(STORE).unwrap();
    assert!(facts(&reader) == told, "a reader beside the writer tells the same");
    let made = import(&sim, COPY, told.clone()).unwrap();
    assert_eq!((made.channels, made.version), (4, store.version().unwrap()));
    assert_eq!(chanlog::verify(COPY, &options(&sim)).unwrap().faults.len(), 0);
    let copy = options(&sim).open(COPY).unwrap();
    assert!(facts(&copy) == told);
    // Many files became other files, and nothing else.
    store.seal().unwrap();
    assert!(facts(&store) == told);
    let (ours, theirs) = (store.stat().unwrap(), copy.stat().unwrap());
    assert!(theirs.segments.count > 3 && theirs.runs.count == 2, "{theirs:?}");
    assert_eq!((ours.version, ours.channels, ours.users), (theirs.version, theirs.channels, theirs.users));
    for (seq, payload) in
        [(1, &b"hi"[..]), (4, &[6; 5000]), (5, b"short"), (6, b""), (7, b""), (20, &[16; 900])]
    {
        assert_eq!(copy.history("general").from(seq).limit(1).list().unwrap()[0].payload, payload, "{seq}");
    }
    assert_eq!(copy.membership("general", "bob").unwrap(), store.membership("general", "bob").unwrap());
    assert_eq!(copy.user("ana").unwrap().unwrap().attributes, [9; 2000]);
    assert_eq!(copy.message_by_id("u1").unwrap().unwrap().message.seq, 1);
    assert_eq!(copy.position(3).unwrap().unwrap().index, 17);
    assert_eq!(copy.history("gone").list().unwrap()[0].payload, "again");
    // A client id is still known, and seqs go on.
    let again = Draft::new("ana", 5, "hi").client_id("c1");
    copy.commit(Batch::new().join("general", "ana").append("general", again)).unwrap();
    assert_eq!(copy.head("general").unwrap().last, store.head("general").unwrap().last);
    copy.commit(Batch::new().append("general", Draft::new("ana", 0, "next"))).unwrap();
    assert_eq!(copy.head("general").unwrap().last.seq, store.head("general").unwrap().last.seq + 1);
    while copy.maintain().unwrap() {}
    copy.compact().unwrap();
    assert_eq!(copy.history("general").last(1).unwrap()[0].payload, "next");
}

#[test]
fn what_nobody_reads_is_not_told() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(STORE).unwrap();
    store
        .commit(Batch::new().append("c", Draft::new("u", 0, "kept")).append("c", Draft::new("u", 0, "hush")))
        .unwrap();
    store.commit(Batch::new().edit("c", 2, vec![3; 2000]).user_attributes("u", vec![4; 2000])).unwrap();
    store.commit(Batch::new().erase("c", 2).user_attributes("u", "")).unwrap();
    store.commit(Batch::new().append("d", Draft::new("u", 0, "hush"))).unwrap();
    store.commit(Batch::new().delete_channel("d")).unwrap();
    for sealed in [false, true] {
        if sealed {
            store.seal().unwrap();
        }
        let told = facts(&store);
        let payloads: Vec<_> = told
            .iter()
            .filter_map(|fact| match fact {
                Fact::Message(message) => Some(message.payload.clone()),
                Fact::Value(value) => Some(value.bytes.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(payloads, ["kept", ""]);
    }
}

#[test]
fn gaps_after_a_loss_stay_gaps() {
    let sim = SimEnv::new(5);
    let store = options(&sim).open(STORE).unwrap();
    for channel in ["a", "b"] {
        store.commit(Batch::new().append(channel, Draft::new("u", 0, "1"))).unwrap();
    }
    let mut batch = Batch::new();
    batch.append("a", Draft::new("u", 0, "x")).durability(chanlog::Durability::Buffered);
    store.commit(&batch).unwrap();
    store.sync().unwrap();
    sim.crash_after(0);
    drop(store);
    sim.power_loss_with(PowerLoss::Drop);
    let store = options(&sim).open(STORE).unwrap();
    assert!(store.recovery().gap);
    store.commit(Batch::new().append("a", Draft::new("u", 0, "2"))).unwrap();
    let told = facts(&store);
    assert!(matches!(&told[0], Fact::Store(store) if store.losses.len() == 1), "{:?}", told[0]);
    import(&sim, COPY, told.clone()).unwrap();
    let copy = options(&sim).open(COPY).unwrap();
    assert!(facts(&copy) == told);
    for store in [&store, &copy] {
        store.commit(Batch::new().append("b", Draft::new("u", 0, "2"))).unwrap();
        assert_eq!(store.head("a").unwrap().last.seq, store.head("b").unwrap().last.seq + 1);
    }
}

#[test]
fn an_empty_store_is_a_store() {
    let sim = SimEnv::new(1);
    let told = facts(&options(&sim).open(STORE).unwrap());
    assert_eq!(told.len(), 1);
    import(&sim, COPY, told.clone()).unwrap();
    let copy = options(&sim).open(COPY).unwrap();
    assert!(facts(&copy) == told);
    copy.commit(Batch::new().append("c", Draft::new("u", 0, "first"))).unwrap();
}

#[test]
fn what_a_release_does_not_know_goes_through() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(STORE).unwrap();
    store.commit(Batch::new().join("c", "u")).unwrap();
    let mut told = facts(&store);
    let row = told.iter_mut().find_map(|fact| match fact {
        Fact::Row(row) if row.table_name() == Some("memberships") => Some(row),
        _ => None,
    });
    let row = row.unwrap();
    let mut fields = row.fields().unwrap();
    fields.push(("field_31".into(), FieldFact::Mark(Mark { seq: 9, ordinal: 3 })));
    fields.push(("field_30".into(), FieldFact::Bytes("new".into())));
    let (channel, user) = (row.channel.clone(), row.user.clone());
    *row =
        RowFact { channel, user, ..RowFact::with_fields(row.table, row.key, row.version, &fields).unwrap() };
    let unknown = Some(UnknownTable { wide: true, filtered: true, tag: 2 });
    let row = |n| RowFact {
        table: 60,
        key: [1, 1 << 40, n],
        version: 1,
        image: Bytes::from(vec![0xff, n as u8]),
        unknown,
        ..RowFact::default()
    };
    told.extend((0..40).map(row).map(Fact::Row));
    import(&sim, COPY, told.clone()).unwrap();
    let copy = options(&sim).open(COPY).unwrap();
    assert!(facts(&copy) == told);
    // Also when it was patched, sealed and merged.
    copy.commit(Batch::new().pin("c", "u", true)).unwrap();
    copy.compact().unwrap();
    let fields = facts(&copy).into_iter().find_map(|fact| match fact {
        Fact::Row(row) if row.table_name() == Some("memberships") => row.fields(),
        _ => None,
    });
    let fields = fields.unwrap();
    assert!(
        fields.iter().any(|(name, value)| name == "field_30" && *value == FieldFact::Bytes("new".into())),
        "{fields:?}"
    );
}

/// The facts of a store with a channel, a user, a membership and two messages.
fn small() -> Vec<Fact> {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(STORE).unwrap();
    store.commit(Batch::new().join("c", "u").append("c", Draft::new("u", 0, "one"))).unwrap();
    store
        .commit(Batch::new().append("c", Draft::new("u", 0, "two")).user_attributes("u", vec![1; 2000]))
        .unwrap();
    facts(&store)
}

/// What becomes of facts, each of which may be replaced by others.
fn changed(change: impl Fn(&mut Fact)) -> Vec<Fact> {
    let mut facts = small();
    facts.iter_mut().for_each(change);
    facts
}

fn messages(change: impl Fn(&mut MessageFact)) -> Vec<Fact> {
    changed(|fact| {
        if let Fact::Message(message) = fact {
            change(message);
        }
    })
}

fn rows(table: &str, change: impl Fn(&mut RowFact)) -> Vec<Fact> {
    changed(|fact| match fact {
        Fact::Row(row) if row.table_name() == Some(table) => change(row),
        _ => {}
    })
}

fn stores(change: impl Fn(&mut StoreFact)) -> Vec<Fact> {
    changed(|fact| {
        if let Fact::Store(store) = fact {
            change(store);
        }
    })
}

#[test]
fn what_is_no_export_is_refused_and_leaves_nothing() {
    let without =
        |kind: fn(&Fact) -> bool| small().into_iter().filter(|fact| !kind(fact)).collect::<Vec<_>>();
    let mut reversed = small();
    reversed.reverse();
    let mut late = small();
    late.push(late[1].clone());
    let mut twice = small();
    twice.push(Fact::Value(ValueFact { version: 3, timestamp: 0, bytes: "x".into() }));
    let bad = [
        ("no store", without(|fact| matches!(fact, Fact::Store(_)))),
        ("no name", without(|fact| matches!(fact, Fact::Channel(_)))),
        ("no user", without(|fact| matches!(fact, Fact::User(_)))),
        ("no head", without(|fact| matches!(fact, Fact::Row(row) if row.table == 0))),
        ("no messages", without(|fact| matches!(fact, Fact::Message(_)))),
        ("reversed", reversed),
        ("a name after rows", late),
        ("a version that was there", twice),
        ("nothing", Vec::new()),
        ("a later version", stores(|store| store.version = 1)),
        ("a version beyond any", stores(|store| store.version = u64::MAX)),
        ("ids beyond any", stores(|store| store.channels = u32::MAX)),
        ("more channels than versions", stores(|store| store.channels = 1000)),
        (
            "more channels than there is memory for",
            stores(|store| (store.channels, store.version) = (4_000_000_000, 5_000_000_000)),
        ),
        ("a loss that is to come", stores(|store| store.losses = vec![(99, 1)])),
        ("another name of a channel", messages(|message| message.channel = "d".into())),
        ("another name of a user", rows("memberships", |row| row.user = Some("v".into()))),
        ("an unknown channel", messages(|message| message.channel_id = 7)),
        ("an unknown sender", messages(|message| message.sender_id = u32::MAX)),
        ("beyond the end", messages(|message| message.mark.seq += 1)),
        ("an ordinal above the seq", messages(|message| message.mark.ordinal += 9)),
        ("one seq", messages(|message| message.mark = Mark { seq: 1, ordinal: 1 })),
        ("one version", messages(|message| message.version = 2)),
        ("quiet and loud", messages(|message| message.quiet = 1)),
        ("too far quiet", messages(|message| (message.quiet, message.silent) = (9, true))),
        ("a long id", messages(|message| message.client_id = vec![1; 65].into())),
        ("a key of another form", rows("memberships", |row| row.key[2] = 1)),
        ("a key that is large", rows("memberships", |row| row.key[0] = 1 << 32)),
        ("an unknown user's row", rows("memberships", |row| (row.key[0], row.user) = (9, None))),
        ("an image that is none", rows("memberships", |row| row.image = vec![0xff; 9].into())),
        ("an unknown table", rows("memberships", |row| row.table = 77)),
        ("a head that is none", rows("heads", |row| row.image = vec![0x80; 3].into())),
        ("a head of nobody", rows("heads", |row| row.key[0] = 3)),
        ("a newer row", rows("memberships", |row| row.version = 1000)),
    ];
    for (what, facts) in bad {
        let sim = SimEnv::new(1);
        let refused = import(&sim, COPY, facts);
        assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "{what}: {refused:?}");
        let left: Vec<_> = sim.files().into_iter().filter(|path| path.starts_with(COPY)).collect();
        assert!(left.is_empty(), "{what}: {left:?}");
        import(&sim, COPY, small()).unwrap();
    }
}

#[test]
fn fields_that_are_none_are_refused() {
    let image = |name: &'static str, value| RowFact::with_fields(1, [0, 0, 0], 5, &[(name.into(), value)]);
    assert!(image("pinned", FieldFact::Number(1)).is_ok());
    for (name, value) in [
        ("pinned", FieldFact::Bytes("x".into())),
        ("nonsense", FieldFact::Number(1)),
        ("field_0", FieldFact::Number(0)),
        ("field_32", FieldFact::Number(1)),
        ("base", FieldFact::Mark(Mark { seq: 1, ordinal: 2 })),
        ("attributes", FieldFact::value(5, 10, 1)),
        ("attributes", FieldFact::value(4, 0, 1)),
    ] {
        assert!(matches!(image(name, value.clone()), Err(Error::InvalidArgument { .. })), "{name} {value:?}");
    }
    assert!(RowFact::with_fields(77, [0, 0, 0], 5, &[]).is_err());
    assert!(RowFact::with_fields(0, [0, 0, 0], 5, &[("last".into(), FieldFact::Number(1))]).is_err());
}

#[test]
fn an_import_needs_an_empty_directory_and_survives_no_failure() {
    let sim = SimEnv::new(1);
    options(&sim).open(STORE).unwrap().close().unwrap();
    assert!(matches!(Import::new(STORE, options(&sim)), Err(Error::InvalidArgument { .. })));
    sim.write_file("/other/file", "not ours").unwrap();
    assert!(matches!(Import::new("/other", options(&sim)), Err(Error::NotAStore { .. })));
    let held = Import::new(COPY, options(&sim)).unwrap();
    assert!(matches!(Import::new(COPY, options(&sim)), Err(Error::Locked { .. })));
    drop(held);
    // A disk that ends work at any operation leaves no store, or the whole one.
    let told = small();
    for at in 0.. {
        let sim = SimEnv::new(at);
        sim.crash_after(at);
        let made = import(&sim, COPY, told.clone()).is_ok();
        sim.power_loss();
        let opened = options(&sim).lock_timeout(Duration::ZERO).read_only(true).open(COPY);
        match opened {
            Ok(copy) => assert!(facts(&copy) == told, "crash at {at}"),
            Err(error) => assert!(!made, "crash at {at}: {error}"),
        }
        if made {
            break;
        }
    }
}
