//! The store over disks and systems that differ, and over what goes wrong in other ways than by a call that fails: bytes that
//! are not written back, sectors that can't be read, files that can't be opened, calls that take long or hang.

#![cfg(feature = "sim")]

mod figures;
mod hooks;
mod model;

use std::io::ErrorKind;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use chanlog::env::{Op as Disk, PowerLoss, SimEnv, Space};
use chanlog::{Durability, Error, HistoryFrom, Options, Store};
use hooks::{DIR, append, content, files, kill, long, noise, texts};
use model::witness::{End, Witness};
use model::{Model, Name, Op, Post, batch, check};

/// The length of a day, in commits.
const DAY: u64 = 24;

fn options(sim: &Arc<SimEnv>) -> Options {
    hooks::options(sim.clone()).memtable(4 << 10).message_segment(64 << 10).block_cache(16 << 10)
}

/// What can change a disk.
fn changes() -> Vec<Disk> {
    Disk::ALL.into_iter().filter(|op| op.mutates()).collect()
}

/// The `i`-th batch: messages that hardly compress, and rows.
fn ops(model: &Model, i: u64) -> Vec<Op> {
    let channel = |i: u64| -> Name { format!("channel {}", i % 3).into_bytes() };
    let user = |i: u64| -> Name { format!("user {}", i % 4).into_bytes() };
    let payload = noise(i, (1 + i * 137 % 1700) as usize).into();
    let post = Post { sender: user(i), timestamp: i as i64, id: Some(i), payload, ..Post::default() };
    let mut ops = vec![
        Op::Append { channel: channel(i), post },
        Op::Join {
            channel: channel(i),
            user: user(i + 1),
            visible: HistoryFrom::Start,
            read: Some(0),
            role: None,
        },
        match i % 4 {
            0 => Op::Read { channel: channel(i), user: user(i), seq: 2 },
            1 => Op::Attributes { channel: channel(i), user: user(i + 1), attributes: vec![7; 1100].into() },
            2 => Op::Edit { channel: channel(i), seq: 1 + i / 5, payload: noise(i, 40).into() },
            _ => Op::Leave { channel: channel(i), user: user(i) },
        },
    ];
    while let Some(refused) = model.refused(&ops) {
        ops.remove(refused);
    }
    ops
}

fn durability(i: u64) -> Durability {
    if i % 3 == 1 { Durability::Buffered } else { Durability::Sync }
}

/// A store and what is known of it, up to a failure.
#[derive(Default)]
struct Day {
    store: Option<Store>,
    witness: Witness,
}

impl Day {
    /// Opens the store, commits, seals and merges, and closes it. Ends at the first failure.
    fn run(&mut self, sim: &Arc<SimEnv>) -> Result<(), Error> {
        let store = self.store.insert(options(sim).open(DIR)?).clone();
        self.witness.reopened(&store, End::Close);
        for i in 0..DAY {
            let ops = ops(&self.witness.model, i);
            self.witness.try_commit(&store, &ops, durability(i))?;
            if i % 6 == 5 {
                store.seal()?;
                while store.maintain()? {}
            }
        }
        self.store = None;
        store.close()?;
        self.witness.synced();
        Ok(())
    }
}

/// A day without a fault.
fn whole_day(sim: &Arc<SimEnv>) -> Witness {
    let mut day = Day::default();
    day.run(sim).unwrap();
    day.witness
}

/// Opens what an end left: it must hold what it must, and take new writes.
fn recover(sim: &Arc<SimEnv>, witness: &Witness, end: End) {
    let mut witness = witness.clone();
    let store = options(sim).open(DIR).unwrap();
    witness.reopened(&store, end);
    check::everything(&store, &witness.model);
    let ops = ops(&witness.model, 50);
    witness.commit(&store, &ops, Durability::Sync);
    kill(sim, store);
    let store = options(sim).open(DIR).unwrap();
    witness.reopened(&store, End::Crash);
    check::everything(&store, &witness.model);
}

/// Crashes at each operation of a short day, and each subset of what was not synced then, if that is little.
#[test]
fn each_subset_of_what_is_unsynced_is_recovered_from() {
    let day = |sim: &Arc<SimEnv>, witness: &mut Witness| -> Result<(), Error> {
        let store = options(sim).open(DIR)?;
        witness.reopened(&store, End::Close);
        for i in 0..5 {
            let ops = ops(&witness.model, i);
            witness.try_commit(&store, &ops, durability(i))?;
        }
        store.seal()?;
        store.close()?;
        witness.synced();
        Ok(())
    };
    let whole = SimEnv::new(0);
    day(&whole, &mut Witness::default()).unwrap();
    let (mut images, mut all) = (0, 0);
    for n in 0..whole.ops() {
        let sim = SimEnv::new(0);
        sim.vary(n);
        sim.crash_after(n);
        let mut witness = Witness::default();
        let _ = day(&sim, &mut witness);
        let unsynced = sim.unsynced() as u32;
        let most = 256 * figures::scale();
        let subsets = 1u64.checked_shl(unsynced).unwrap_or(u64::MAX);
        all += u64::from(unsynced <= 10 && subsets <= most);
        for i in 0..subsets.min(most) {
            // All of them, or some that are spread over them.
            let which = if subsets <= most { i } else { (i + n).wrapping_mul(0x9e37_79b9_7f4a_7c15) };
            let sim = sim.fork(i);
            sim.power_loss_with(PowerLoss::Only(which));
            let mut witness = witness.clone();
            let store = options(&sim).open(DIR).unwrap();
            witness.reopened(&store, End::PowerLoss);
            check::counts(&store, &witness.model);
            images += 1;
        }
    }
    figures::figure("crash images", images);
    assert!(all > whole.ops() / 4, "all subsets at {all} of {} operations", whole.ops());
}

#[test]
fn one_seed_fixes_a_run() {
    let run = |seed| {
        let sim = SimEnv::any(seed);
        sim.fail_nth(&[Disk::Sync], 5 + seed, ErrorKind::Other);
        let mut day = Day::default();
        let _ = day.run(&sim);
        sim.crash_after(0);
        drop(day);
        sim.power_loss();
        let opened = options(&sim).open(DIR).map(|store| store.stat().unwrap().version);
        (sim.trace(), content(&sim), opened.unwrap())
    };
    for seed in 0..16 {
        let (first, second) = (run(seed), run(seed));
        assert_eq!((first.0, first.2), (second.0, second.2), "seed {seed}");
        assert!(first.1 == second.1, "seed {seed}: another image");
    }
}

/// After the end of a process alone the page cache holds what nothing will write any more, unless the opening does.
#[test]
fn what_was_served_after_an_opening_outlasts_a_loss_of_power() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(DIR).unwrap();
    append(&store, "c", "durable", Durability::Sync).unwrap();
    (0..3).for_each(|_| _ = append(&store, "c", "written", Durability::Buffered).unwrap());
    kill(&sim, store);
    let store = options(&sim).open(DIR).unwrap();
    let served = texts(&store, "c");
    assert_eq!(served.len(), 4);
    sim.crash_after(0);
    drop(store);
    sim.power_loss_with(PowerLoss::Drop);
    assert_eq!(texts(&options(&sim).open(DIR).unwrap(), "c"), served);
}

#[test]
fn signals_are_not_noticed() {
    let plain = SimEnv::new(1);
    let witness = whole_day(&plain);
    for n in 2..6 {
        let sim = SimEnv::new(1);
        sim.fail_each(&Disk::ALL, n, ErrorKind::Interrupted);
        assert_eq!(whole_day(&sim).model.version(), witness.model.version());
        assert!(content(&sim) == content(&plain), "a signal at each operation {n}");
        assert!(sim.ops() > plain.ops());
    }
}

#[test]
fn a_day_is_the_same_on_any_disk() {
    for seed in 0..32 {
        let sim = SimEnv::any(seed);
        let witness = whole_day(&sim);
        sim.power_loss_with(PowerLoss::Drop);
        recover(&sim, &witness, End::Close);
    }
}

#[test]
fn bytes_that_are_not_written_back_cost_nothing_that_was_acknowledged() {
    let plain = SimEnv::new(0);
    whole_day(&plain);
    let mut told = 0;
    for n in 1..=plain.ops() {
        let sim = SimEnv::new(0);
        sim.tell_by_write(n % 2 == 0);
        sim.drop_pages(n % 3 == 0);
        let kind = if n % 5 < 2 { ErrorKind::StorageFull } else { ErrorKind::Other };
        sim.fail_write_back_at(&changes(), n, kind);
        let mut day = Day::default();
        let done = day.run(&sim);
        told += u64::from(done.is_err());
        sim.crash_after(0);
        day.store = None;
        sim.power_loss_with([PowerLoss::Drop, PowerLoss::Sectors, PowerLoss::Torn][n as usize % 3]);
        recover(&sim, &day.witness, End::PowerLoss);
    }
    assert!(told > plain.ops() / 8, "{told} of {} were told", plain.ops());
}

/// Pages that could not be written back may go from the cache, and readers of the log with them.
#[test]
fn readers_are_not_shown_what_became_of_dropped_pages() {
    let (mut right, mut refused) = (0, 0);
    for seed in 0..200 {
        let sim = SimEnv::new(seed);
        sim.drop_pages(true);
        sim.maps(seed % 2 == 0);
        let store = options(&sim).open(DIR).unwrap();
        append(&store, "c", "first", Durability::Sync).unwrap();
        let sent: Vec<String> =
            (0..3).map(|i| format!("{i}").repeat(700 + 900 * (seed as usize % 3))).collect();
        for text in &sent {
            append(&store, "c", text, Durability::Buffered).unwrap();
            // What was read once is no safer.
            assert_eq!(texts(&store, "c").into_values().last().as_ref(), Some(text));
        }
        sim.fail_nth(&[Disk::Sync], 1, ErrorKind::Other);
        store.sync().unwrap_err();
        for (seq, text) in (2..).zip(&sent) {
            match store.history("c").from(seq).to(seq).list() {
                Ok(found) => {
                    assert_eq!(found[0].payload, *text, "seed {seed}: seq {seq} is another's");
                    right += 1;
                }
                Err(Error::Corruption { .. }) => refused += 1,
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert_eq!(store.history("c").to(1).list().unwrap()[0].payload, "first", "what is durable is served");
    }
    assert!(right > 0 && refused > 0, "{right} right answers, {refused} refused");
}

#[test]
fn a_disk_that_is_full_in_other_ways_is_told_and_mended_by_room() {
    for (space, room) in [Space::Sparse, Space::Late]
        .map(|space| (0..40).map(move |i| (space, i * 1500)))
        .into_iter()
        .flatten()
    {
        let sim = SimEnv::new(room);
        sim.space(space);
        sim.quota(Some(room));
        let mut day = Day::default();
        let done = day.run(&sim);
        if let Err(error) = &done {
            let told = matches!(error, Error::OutOfSpace { .. } | Error::Poisoned { .. });
            assert!(told, "{space:?}, room for {room} bytes: {error:?}");
        }
        sim.quota(None);
        if let (Some(store), Err(Error::OutOfSpace { .. })) = (day.store.clone(), &done) {
            let ops = ops(&day.witness.model, 70);
            match day.witness.try_commit(&store, &ops, Durability::Sync) {
                Ok(_) => check::everything(&store, &day.witness.model),
                Err(error) => assert!(matches!(error, Error::Poisoned { .. }), "there is room: {error:?}"),
            }
        }
        sim.crash_after(0);
        day.store = None;
        let powerless = sim.fork(room);
        powerless.power_loss();
        recover(&powerless, &day.witness, End::PowerLoss);
        sim.crash();
        recover(&sim, &day.witness, End::Crash);
    }
}

#[test]
fn a_sector_that_can_not_be_read_is_told_and_changes_nothing() {
    let sim = SimEnv::new(1);
    let mut witness = whole_day(&sim);
    let store = options(&sim).open(DIR).unwrap();
    witness.reopened(&store, End::Close);
    let more = ops(&witness.model, DAY);
    witness.commit(&store, &more, Durability::Sync);
    kill(&sim, store);
    let mut told = 0;
    for path in files(&sim, "") {
        let whole = sim.read_file(&path).unwrap();
        for offset in (0..whole.len() as u64).step_by(2048) {
            let sim = sim.fork(offset);
            sim.spoil(&path, offset).unwrap();
            let before = content(&sim);
            match options(&sim).open(DIR) {
                // Nobody needs what lies there.
                Ok(store) => drop(store),
                Err(Error::Io { path: found, .. }) => {
                    assert_eq!(found, path, "the error names the file");
                    assert!(content(&sim) == before, "a refused opening changes nothing");
                    told += 1;
                }
                Err(error) => panic!("{} at {offset}: {error:?}", path.display()),
            }
            sim.crash();
            sim.write_file(&path, &whole).unwrap();
            let mut witness = witness.clone();
            let store = options(&sim).open(DIR).unwrap();
            witness.reopened(&store, End::Crash);
            check::everything(&store, &witness.model);
        }
    }
    assert!(told > 10, "{told} openings were refused");
}

#[test]
fn files_that_can_not_be_opened_are_told_and_tried_again() {
    let (mut failed, mut whole) = (0, false);
    for most in 0..40 {
        let sim = SimEnv::new(1);
        sim.descriptors(Some(most));
        let (mut witness, mut store) = (Witness::default(), None);
        let mut again = |error: Error| {
            assert!(matches!(error, Error::Io { .. }), "{most} files: {error:?}");
            failed += 1;
            sim.descriptors(None);
        };
        let open = || options(&sim).open(DIR);
        let store: &Store = store.insert(
            open()
                .or_else(|error| {
                    again(error);
                    open()
                })
                .unwrap(),
        );
        witness.reopened(store, End::Close);
        let mut i = 0;
        while i < DAY {
            let before = witness.clone();
            let ops = ops(&witness.model, i);
            if let Err(error) = witness.try_commit(store, &ops, Durability::Sync) {
                // A commit that could not begin a segment never was.
                witness = before;
                again(error);
                continue;
            }
            let kept =
                if i % 6 == 5 { store.seal().and_then(|()| store.maintain().map(drop)) } else { Ok(()) };
            kept.unwrap_or_else(&mut again);
            sim.descriptors(Some(most));
            i += 1;
        }
        sim.descriptors(None);
        check::everything(store, &witness.model);
        store.close().unwrap();
        let spare = sim.stats().count(Disk::Open);
        assert!(spare > 0);
        whole = most > 30;
        recover(&sim.fork(1), &witness, End::Crash);
    }
    assert!(failed > 20 && whole, "{failed} failures");
}

#[test]
fn a_slow_disk_is_told_in_numbers() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(DIR).unwrap();
    append(&store, "c", "first", Durability::Sync).unwrap();
    sim.slow_each(&[Disk::Sync], 1, Duration::from_secs(3));
    append(&store, "c", "second", Durability::Sync).unwrap();
    let latencies = store.stat().unwrap().latencies;
    for (of, histogram) in latencies.each().into_iter().filter(|(of, _)| ["commit", "sync"].contains(of)) {
        assert!(histogram.percentile(100.0) >= Duration::from_secs(3), "{of}: {histogram:?}");
    }
}

#[test]
fn a_hung_sync_holds_up_only_who_waits_for_it() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(DIR).unwrap();
    append(&store, "c", "first", Durability::Sync).unwrap();
    append(&store, "c", "early", Durability::Buffered).unwrap();
    let hang = sim.hang_nth(&[Disk::Sync], 1);
    thread::scope(|scope| {
        let promised = scope.spawn(|| store.sync());
        hang.wait();
        append(&store, "c", "second", Durability::Buffered).unwrap();
        assert_eq!(texts(&store, "c").len(), 3, "buffered commits and reads go on");
        assert!(!promised.is_finished());
        drop(hang);
        promised.join().unwrap().unwrap();
    });
    append(&store, "c", &long(), Durability::Sync).unwrap();
    let hang = sim.hang_nth(&[Disk::Sync], 1);
    thread::scope(|scope| {
        let sealing = scope.spawn(|| store.maintain());
        hang.wait();
        append(&store, "c", "third", Durability::Sync).unwrap();
        assert_eq!(texts(&store, "c").len(), 5, "commits and reads go on while a file is sealed");
        drop(hang);
        sealing.join().unwrap().unwrap();
    });
    sim.power_loss_with(PowerLoss::Drop);
    drop(store);
    assert_eq!(texts(&options(&sim).open(DIR).unwrap(), "c").len(), 5);
}

#[test]
fn a_reader_beside_a_hung_sync_sees_what_is_published_and_no_more() {
    let sim = SimEnv::new(1);
    let store = options(&sim).background(true).open(DIR).unwrap();
    append(&store, "c", "published", Durability::Sync).unwrap();
    let read = || texts(&options(&sim).read_only(true).open(DIR).unwrap(), "c").len();
    while read() == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let hang = sim.hang_nth(&[Disk::Sync], 1);
    thread::scope(|scope| {
        let writer = scope.spawn(|| append(&store, "c", "written", Durability::Sync));
        hang.wait();
        assert_eq!(read(), 1);
        drop(hang);
        writer.join().unwrap().unwrap();
    });
}

/// What no store survives that writes a sector in parts: a loss of power takes bytes that were durable in the sector of a
/// write. The last commits may be lost then, or opening is refused; but no answer is wrong.
#[test]
fn a_sector_that_loses_what_was_durable_in_it_gives_no_wrong_answer() {
    let (mut whole, mut short, mut told) = (0, 0, 0);
    for seed in 0..300 {
        let sim = SimEnv::new(seed);
        sim.sectors(if seed % 2 == 0 { 512 } else { 4096 });
        let store = options(&sim).open(DIR).unwrap();
        let sent: Vec<String> = (0..6).map(|i| format!("{i}").repeat(60)).collect();
        sent[..5].iter().for_each(|text| _ = append(&store, "c", text, Durability::Sync).unwrap());
        append(&store, "c", &sent[5], Durability::Buffered).unwrap();
        sim.crash_after(0);
        drop(store);
        sim.power_loss_with(PowerLoss::Garbled);
        match options(&sim).open(DIR) {
            Ok(store) => {
                let kept: Vec<String> = texts(&store, "c").into_values().collect();
                assert_eq!(kept, sent[..kept.len()], "seed {seed}");
                *if kept.len() < 5 { &mut short } else { &mut whole } += 1;
            }
            Err(Error::Corruption { file, .. }) => {
                assert!(file.to_string_lossy().contains("log-"), "seed {seed}: {}", file.display());
                told += 1;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    println!("{whole} kept all that was acknowledged, {short} lost some, {told} were refused");
    assert!(whole > 0 && short + told > 0);
}

#[test]
fn a_large_sector_is_no_reason_to_lose_anything() {
    for seed in 0..100 {
        let sim = SimEnv::new(seed);
        sim.sectors(4096);
        let store = options(&sim).open(DIR).unwrap();
        let mut witness = Witness::default();
        for i in 0..1 + seed % 7 {
            let ops = ops(&witness.model, i);
            witness.commit(&store, &ops, durability(i + seed));
        }
        let last = ops(&witness.model, 9);
        witness.ask(&last, Durability::Sync);
        let submitted = store.submit(&batch(&last, Durability::Sync));
        sim.crash_after(0);
        drop((submitted, store));
        sim.power_loss_with(PowerLoss::Torn);
        recover(&sim, &witness, End::PowerLoss);
    }
}
