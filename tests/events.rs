//! What a store tells through `tracing`: each event has the name, the level and the fields that EVENTS.md lists.

#![cfg(feature = "sim")]

mod hooks;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use chanlog::env::{Op as Disk, PowerLoss, SimEnv};
use chanlog::{Batch, Draft, Durability, Options, RetentionPolicy, Store};
use hooks::{DIR, Hooked, append, options};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, span};

/// Which events anybody wants is known for the whole process, and changes as subscribers come and go: so tests take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An event, as it was told.
#[derive(Clone, Debug)]
struct Told {
    level: String,
    fields: BTreeMap<String, String>,
}

/// Notes all events, and the names of all spans.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<(String, Told)>>>, Arc<Mutex<BTreeSet<&'static str>>>);

impl Notes {
    /// The events of a name so far.
    fn of(&self, name: &str) -> Vec<Told> {
        let notes = self.0.lock().unwrap();
        notes.iter().filter(|(other, _)| other == name).map(|(_, told)| told.clone()).collect()
    }

    /// The one event of a name; its value of a field.
    fn value(&self, name: &str, field: &str) -> String {
        let told = self.of(name);
        assert_eq!(told.len(), 1, "{name}: {told:?}");
        told[0].fields[field].clone()
    }

    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

struct Values<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Values<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }
}

impl tracing::Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("chanlog")
    }
    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        self.1.lock().unwrap().insert(span.metadata().name());
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Values(&mut fields));
        assert_eq!(event.metadata().target(), "chanlog", "{fields:?}");
        assert!(fields.remove("message").is_some_and(|text| !text.is_empty()));
        let told = Told { level: event.metadata().level().as_str().to_lowercase(), fields };
        self.0.lock().unwrap().push((event.metadata().name().into(), told));
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The table of EVENTS.md: names with level and fields.
fn listed() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = include_str!("../EVENTS.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let ticked = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        // What stands in brackets are values.
        let fields = cells[3].split('(').map(|part| part.split_once(')').map_or(part, |(_, rest)| rest));
        let fields = fields.flat_map(ticked).collect();
        (ticked(cells[1]).remove(0), (cells[2].to_owned(), fields))
    })
    .collect()
}

fn fill(store: &Store) {
    for text in ["one", "two", "three", "four"] {
        append(store, "c", text, Durability::Sync).unwrap();
        store.seal().unwrap();
    }
}

/// A day with all that can be told.
fn day(notes: &Notes) {
    let sim = SimEnv::new(1);
    let store = options(sim.clone()).open(DIR).unwrap();
    fill(&store);
    while store.maintain().unwrap() {}
    store.backup("/backup").unwrap();
    store.commit(Batch::new().erase("c", 2)).unwrap();
    store.erase_now().unwrap();
    store.commit(Batch::new().trim("c", u64::MAX)).unwrap();
    store.seal().unwrap();
    while store.maintain().unwrap() {}
    append(&store, "d", "x", Durability::Sync).unwrap();
    store.seal().unwrap();
    sim.advance(Duration::from_secs(31 * 24 * 3600));
    while store.maintain().unwrap() {}
    assert!(!notes.of("scrub").is_empty());
    store.enforce_retention(0, 10).unwrap();
    store.close().unwrap();
    let spans: Vec<_> = notes.1.lock().unwrap().iter().copied().collect();
    assert_eq!(spans, ["backup", "close", "erase", "merge", "open", "retention", "seal"]);
    assert_eq!(notes.of("seal").len(), 7);
    assert_eq!(notes.value("backup", "to"), "/backup");

    // A crash, with work half done.
    let store = options(sim.clone()).open(DIR).unwrap();
    append(&store, "c", "x", Durability::Buffered).unwrap();
    append(&store, "c", "x", Durability::Sync).unwrap();
    sim.write_file("/store/seg-00000000000000ff", "half done").unwrap();
    sim.power_loss_with(PowerLoss::Drop);
    drop(store);
    notes.clear();
    let slow = sim.clone();
    let env = Hooked::new(&sim, move |op, name| {
        if op == Disk::Sync && name.starts_with("log-") {
            slow.advance(Duration::from_secs(3));
        }
        Ok(())
    });
    let store = options(env).open(DIR).unwrap();
    assert_eq!(notes.value("orphans", "files"), "1");
    assert_eq!(notes.value("open", "clean"), "false");
    assert_eq!(notes.value("open", "gap"), "true");
    append(&store, "c", "y", Durability::Sync).unwrap();
    assert!(notes.of("slow commits").iter().all(|told| told.fields["commits"] == "1"));

    // Not even a log segment fits, until the disk has room again.
    let used = sim.files().iter().map(|path| sim.read_file(path).unwrap().len() as u64).sum();
    sim.quota(Some(used));
    store.seal().unwrap();
    assert_eq!(notes.value("full", "dir"), DIR);
    sim.quota(None);

    sim.fail_nth(&[Disk::Sync], 1, ErrorKind::Other);
    append(&store, "c", "z", Durability::Sync).unwrap_err();
    store.close().unwrap_err();

    // A reader goes on without what is damaged.
    let run = sim.files().into_iter().rfind(|path| path.to_str().unwrap().contains("/run-")).unwrap();
    sim.corrupt(run, 8, 1).unwrap();
    options(sim.clone()).read_only(true).open(DIR).unwrap();
}

#[test]
fn are_those_that_the_list_has() {
    let _turn = turn();
    let notes = Notes::default();
    let all = Notes::default();
    let listed = listed();
    assert!(listed.len() > 15, "the list was not read: {listed:?}");
    struct Both(Notes, Notes);
    impl tracing::Subscriber for Both {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            self.0.enabled(metadata)
        }
        fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
            self.0.new_span(span)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &Event<'_>) {
            self.0.event(event);
            self.1.event(event);
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }
    tracing::subscriber::with_default(Both(notes.clone(), all.clone()), || day(&notes));
    let mut seen = BTreeSet::new();
    for (name, told) in &*all.0.lock().unwrap() {
        let (level, fields) = listed.get(name).unwrap_or_else(|| panic!("{name} is not in the list"));
        assert_eq!(&told.level, level, "{name}");
        assert_eq!(&told.fields.keys().cloned().collect::<BTreeSet<_>>(), fields, "{name}");
        seen.insert(name.clone());
    }
    // These need threads.
    let missing: Vec<_> = listed.keys().filter(|name| !seen.contains(*name)).collect();
    assert_eq!(missing, ["retention failed", "upkeep failed", "upkeep stopped"]);
}

#[test]
fn of_slow_commits_tell_how_many_and_what_they_waited_for() {
    let _turn = turn();
    let sim = SimEnv::new(1);
    let slow = sim.clone();
    let env = Hooked::new(&sim, move |op, name| {
        if op == Disk::Sync && name.starts_with("log-") {
            slow.advance(Duration::from_millis(300));
        }
        Ok(())
    });
    let store =
        Options::new().env(env).background(false).slow_commit(Duration::from_millis(200)).open(DIR).unwrap();
    let notes = Notes::default();
    tracing::subscriber::with_default(notes.clone(), || {
        let send = |durability| {
            let mut batch = Batch::new();
            store.submit(batch.append("c", Draft::new("u", 0, "x")).durability(durability)).unwrap()
        };
        send(Durability::Sync).wait().unwrap();
        // This one begins a segment that allows for it.
        send(Durability::Buffered).wait().unwrap();
        notes.clear();
        send(Durability::Buffered).wait().unwrap();
        assert!(notes.of("slow commits").is_empty(), "a buffered commit waits for no sync");
        let commits = [send(Durability::Sync), send(Durability::Sync)];
        commits.into_iter().for_each(|commit| drop(commit.wait().unwrap()));
    });
    let told = notes.of("slow commits");
    assert_eq!(told.len(), 1, "{told:?}");
    let wanted = [("commits", "2"), ("longest_ms", "300"), ("sync_ms", "300")];
    assert_eq!(told[0].fields, wanted.map(|(name, value)| (name.into(), value.into())).into());
}

/// Calls the store whenever something is told.
#[derive(Clone, Default)]
struct CallsBack {
    store: Arc<OnceLock<Store>>,
    told: Arc<Mutex<Vec<&'static str>>>,
}

impl tracing::Subscriber for CallsBack {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("chanlog")
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let name = event.metadata().name();
        let known = self.told.lock().unwrap().contains(&name);
        self.told.lock().unwrap().push(name);
        // Once for each name: sealing and merging would find something to do again and again.
        let Some(store) = self.store.get().filter(|_| !known) else { return };
        if name.starts_with("close") {
            return store.close().unwrap_or_default();
        }
        // Some of these fail by then, and none of them waits for ever.
        let _ = append(store, "other", "hi", Durability::Sync);
        let _ = (store.stat(), store.sync(), store.enforce_retention(0, 1), store.seal(), store.maintain());
        let _ = store.conversations("u").list();
    }
    fn enter(&self, _: &span::Id) {
        // Spans begin and end where the store can be called, too.
        let _ = self.store.get().map(Store::stat);
    }
    fn exit(&self, _: &span::Id) {
        let _ = self.store.get().map(|store| (store.stat(), store.sync()));
    }
}

/// Does something in a thread of its own, in which events call the store back. Returns what was told.
fn calling_back(work: impl FnOnce(&Arc<SimEnv>, &OnceLock<Store>) + Send + 'static) -> Vec<&'static str> {
    let (done, end) = mpsc::channel();
    std::thread::spawn(move || {
        // `tracing` asks nobody about an event that comes up for the first time while another one is told.
        let notes = Notes::default();
        tracing::subscriber::with_default(notes.clone(), || day(&notes));
        let back = CallsBack::default();
        let sim = SimEnv::new(1);
        tracing::subscriber::with_default(back.clone(), || work(&sim, &back.store));
        let told = back.told.lock().unwrap().clone();
        done.send(told).unwrap();
    });
    end.recv_timeout(Duration::from_secs(60)).expect("a subscriber that calls the store waits for ever")
}

#[test]
fn are_told_where_the_store_can_be_called() {
    let _turn = turn();
    let told = calling_back(|sim, kept| {
        let slow = sim.clone();
        let env = Hooked::new(sim, move |_, _| {
            slow.advance(Duration::from_millis(1));
            Ok(())
        });
        let open = options(env).unsealed(1).slow_commit(Duration::ZERO).seal_on_close(true);
        let store = kept.get_or_init(|| open.open(DIR).unwrap());
        // Each commit needs a segment of its own, and seals the one before.
        for _ in 0..4 {
            append(store, "c", &hooks::long(), Durability::Sync).unwrap();
        }
        fill(store);
        store.commit(Batch::new().erase("c", 2).retention("c", RetentionPolicy::new().max_count(3))).unwrap();
        store.enforce_retention(0, usize::MAX).unwrap();
        store.erase_now().unwrap();
        append(store, "c", "x", Durability::Sync).unwrap();
        store.close().unwrap();
    });
    for name in ["seal", "merge", "slow commits", "erase", "close"] {
        assert!(told.contains(&name), "{name}: {told:?}");
    }
}

#[test]
fn of_a_store_that_stopped_are_told_where_it_can_be_called() {
    let _turn = turn();
    let told = calling_back(|sim, kept| {
        let store = kept.get_or_init(|| options(sim.clone()).open(DIR).unwrap());
        append(store, "c", "x", Durability::Sync).unwrap();
        let waits = store.submit(Batch::new().append("c", Draft::new("u", 0, "y"))).unwrap();
        // The next one goes into another segment, and what is before it is synced under the writer's lock.
        sim.fail_nth(&[Disk::Sync], 1, ErrorKind::Other);
        append(store, "c", &hooks::long(), Durability::Sync).unwrap_err();
        waits.wait().unwrap_err();
        store.close().unwrap_err();
    });
    assert_eq!(told.iter().filter(|name| **name == "poisoned").count(), 1, "{told:?}");
    assert_eq!(told.last(), Some(&"close failed"));
}
