//! A scripted day of a store, cut and hurt at every operation on the disk in turn.

#![cfg(feature = "sim")]

mod figures;
mod model;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chanlog::env::{Env, Op as Disk, PowerLoss, SimEnv};
use chanlog::{BUFFERED_WINDOW, Batch, Draft, Durability, Error, HistoryFrom, Options, Store, Update};
use model::witness::{End, Witness};
use model::{Model, Name, Op, Post, Range, batch, check};

const DIR: &str = "/store";

fn options(sim: &Arc<SimEnv>) -> Options {
    Options::new()
        .env(sim.clone())
        .log_segment(8 << 10)
        .memtable(4 << 10)
        .unsealed(1 << 20)
        .message_segment(64 << 10)
        .block_cache(16 << 10)
        .background(false)
}

fn post(channel: u64, sender: u64, number: u64) -> Op {
    // Some payloads hardly compress, so that files grow.
    let noise = |i: u64| ((i + number) * (i + 7919 * number)) as u8;
    let payload = (0..1 + number * 37 % 700).map(noise).collect();
    let post = Post {
        members_only: false,
        sender: user(sender),
        timestamp: number as i64,
        silent: number % 4 == 3,
        id: Some(number),
        client_id: None,
        unique_id: None,
        payload,
        ..Post::default()
    };
    Op::Append { channel: self::channel(channel), post }
}

fn channel(i: u64) -> Name {
    format!("channel {i}").into_bytes()
}

fn user(i: u64) -> Name {
    format!("user {i}").into_bytes()
}

/// The batch of hour `i`: messages into two channels, and a row or two.
fn hour(model: &Model, i: u64) -> Vec<Op> {
    let (c, u) = (i % 3, i % 4);
    let join = Op::Join {
        channel: channel(c),
        user: user(u),
        visible: HistoryFrom::Start,
        read: Some(0),
        role: None,
    };
    let mut ops = vec![post(c, u, i), join, post(c, u + 1, i + 100), post((c + 1) % 3, u, i + 200)];
    let row = |make: fn(Name, Name) -> Op| make(channel(c), user((u + 1) % 4));
    ops.push(match i % 5 {
        0 => row(|channel, user| Op::Hide { channel, user }),
        1 => row(|channel, user| Op::Read { channel, user, seq: 2 }),
        2 => row(|channel, user| Op::Activate { channel, user }),
        // Above 1,024 bytes they are a record of their own.
        3 => row(|channel, user| Op::Attributes { channel, user, attributes: vec![7; 1100].into() }),
        _ => row(|channel, user| Op::Leave { channel, user }),
    });
    if i % 3 == 2 {
        let payload = vec![i as u8; (i * 300) as usize].into();
        ops.push(Op::Edit { channel: channel(c), seq: 1 + i / 3, payload });
        ops.push(Op::Retract { channel: channel(c), seq: 1 + i / 4 });
        let (key, value) = (user(i % 2).into(), vec![7; (i % 5) as usize].into());
        ops.push(Op::Annotate { channel: channel(c), seq: 1 + i % 3, key, value });
        ops.push(Op::Forget { channel: channel(c), user: user(u), from: i / 2, to: i / 2 + i % 3 });
    }
    match i % 9 {
        4 => ops.push(Op::EraseUser { user: user((u + 3) % 4) }),
        7 => ops.push(Op::DeleteUser { user: user((u + 2) % 4) }),
        _ => {}
    }
    while let Some(refused) = model.refused(&ops) {
        ops.remove(refused);
    }
    ops
}

/// A store, followed by a witness, up to where something failed.
#[derive(Default)]
struct Run {
    store: Option<Store>,
    witness: Witness,
    /// The witness as it was before the commit that is under way, if one is.
    before: Option<Witness>,
}

impl Run {
    /// Creation, commits, rolls, seals, merges, a close, a second session and its close. Ends at the first failure.
    fn day(&mut self, sim: &Arc<SimEnv>, durability: impl Fn(u64) -> Durability) -> Result<(), Error> {
        for session in 0..2 {
            let store = self.store.insert(options(sim).open(DIR)?).clone();
            self.witness.reopened(&store, End::Close);
            for i in session * 14..session * 14 + 14 {
                self.before = Some(self.witness.clone());
                let ops = hour(&self.witness.model, i);
                self.witness.try_commit(&store, &ops, durability(i))?;
                self.before = None;
                match i % 7 {
                    2 => self.pipeline(&store, i, durability(i))?,
                    3 => self.finish_deletions(&store)?,
                    4 => {
                        store.sync()?;
                        self.witness.synced();
                    }
                    5 => store.seal()?,
                    6 => while store.maintain()? {},
                    _ => {}
                }
            }
            self.store = None;
            store.close()?;
            self.witness.synced();
        }
        Ok(())
    }

    /// Upkeep ends the memberships of deleted users.
    fn finish_deletions(&mut self, store: &Store) -> Result<(), Error> {
        let endings = self.witness.visible().endings();
        if endings.is_empty() {
            return Ok(());
        }
        let before = self.witness.clone();
        self.before = Some(before.clone());
        self.witness.ask(&endings, Durability::Sync);
        match store.finish_deletions(usize::MAX) {
            Ok(_) => self.witness.acknowledge(Durability::Sync),
            Err(error) => {
                if let Error::OutOfSpace { .. } = error {
                    self.witness.undo(before);
                }
                return Err(error);
            }
        }
        self.before = None;
        Ok(())
    }

    /// Three commits on their way at once.
    fn pipeline(&mut self, store: &Store, i: u64, durability: Durability) -> Result<(), Error> {
        let (mut commits, mut before) = (Vec::new(), None);
        for n in 0..3 {
            let ops = [post(n, i % 4, i + 300 + n)];
            let asked = self.witness.clone();
            self.witness.ask(&ops, durability);
            match store.submit(&batch(&ops, durability)) {
                Ok(commit) => commits.push(commit),
                Err(error) => {
                    before = Some((asked, error));
                    break;
                }
            }
        }
        let count = commits.len();
        for commit in commits {
            commit.wait()?;
            self.witness.acknowledge(durability);
        }
        let Some((mut asked, error)) = before else { return Ok(()) };
        // What was not accepted may never have been; those before it are.
        (0..count).for_each(|_| asked.acknowledge(durability));
        self.before = Some(asked);
        Err(error)
    }
}

fn mixed(i: u64) -> Durability {
    if i % 3 == 1 { Durability::Buffered } else { Durability::Sync }
}

fn sync(_: u64) -> Durability {
    Durability::Sync
}

/// A day without a fault: how many operations it takes.
fn whole_day(durability: impl Fn(u64) -> Durability) -> Arc<SimEnv> {
    let sim = SimEnv::new(0);
    let mut run = Run::default();
    run.day(&sim, durability).unwrap();
    sim
}

/// Opens what a crash left: it must verify, open, hold what it must, and take new writes. Then all of it survives a loss
/// of power and one more opening.
fn recover(sim: &Arc<SimEnv>, witness: &Witness, end: End) {
    let mut witness = witness.clone();
    let verification = chanlog::verify(DIR, &options(sim));
    let store = options(sim).open(DIR).unwrap();
    if !store.recovery().created {
        let faults = verification.unwrap().faults;
        assert!(faults.is_empty(), "a crash is no fault: {faults:?}");
    }
    assert_eq!(store.recovery().damaged, 0);
    witness.reopened(&store, end);
    check::everything(&store, &witness.model);
    let served = sim.fork(1);
    served.power_loss_with(PowerLoss::Drop);
    let again = options(&served).open(DIR).unwrap();
    check::everything(&again, &witness.model);

    let ops = hour(&witness.model, 50);
    witness.commit(&store, &ops, Durability::Sync);
    check::everything(&store, &witness.model);
    sim.crash_after(0);
    drop(store);
    sim.power_loss();
    let store = options(sim).open(DIR).unwrap();
    witness.reopened(&store, End::PowerLoss);
    check::everything(&store, &witness.model);
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_acknowledged() {
    let mut images = 0;
    for n in 0..whole_day(mixed).ops() {
        println!("crash after {n} operations");
        // The day of that seed: random keys decide how long some rows are, and so how many operations it takes.
        let sim = SimEnv::new(0);
        sim.vary(n);
        sim.crash_after(n);
        let mut run = Run::default();
        assert!(run.day(&sim, mixed).is_err() || sim.is_down(), "the day was cut");
        run.store = None;
        recover(&sim.fork(n), &run.witness, End::Crash);
        images += 2;
        let losses = [PowerLoss::Drop, PowerLoss::Keep, PowerLoss::Sectors, PowerLoss::Torn, PowerLoss::Torn];
        let random =
            [PowerLoss::Sectors, PowerLoss::Torn].into_iter().cycle().take(figures::scale() as usize - 1);
        for (seed, loss) in (n..).zip(losses.into_iter().chain(random)) {
            let sim = sim.fork(seed);
            sim.power_loss_with(loss);
            recover(&sim, &run.witness, End::PowerLoss);
            images += 2;
        }
    }
    figures::figure("crash images", images);
}

#[test]
fn a_crash_at_any_operation_of_the_recovery_of_a_crash_changes_nothing() {
    let mut double = 0;
    for n in (0..whole_day(sync).ops()).step_by(7u64.div_ceil(figures::scale()) as usize) {
        let sim = SimEnv::any(n);
        sim.crash_after(n);
        let mut run = Run::default();
        let _ = run.day(&sim, sync);
        run.store = None;
        for k in 0.. {
            println!("crash after {n} operations, and after {k} of the recovery");
            let sim = sim.fork(n * 1000 + k);
            sim.power_loss();
            sim.crash_after(k);
            let opened = options(&sim).open(DIR);
            let whole = opened.is_ok() && !sim.is_down();
            drop(opened);
            sim.power_loss();
            recover(&sim, &run.witness, End::PowerLoss);
            double += 1;
            if whole {
                break;
            }
        }
    }
    figures::figure("double crashes", double);
}

/// Reads go on with what was acknowledged; whoever writes next succeeds, as if the failed commit had never been, or is
/// told that the writer has stopped.
fn goes_on(run: &mut Run, error: &Error) {
    let Some(store) = run.store.clone() else { return };
    let known = matches!(error, Error::Io { .. } | Error::Poisoned { .. } | Error::OutOfSpace { .. });
    assert!(known, "a failed operation is no {error:?}");
    reads_go_on(&store, &run.witness.visible());
    let mut next = run.witness.clone();
    if let Some(before) = run.before.take() {
        next.undo(before);
    }
    let ops = hour(&next.model, 60);
    match next.try_commit(&store, &ops, Durability::Sync) {
        Ok(_) => run.witness = next,
        Err(Error::Poisoned { .. }) => {}
        Err(error) => assert!(store.recovery().damaged > 0, "the disk is well again, but: {error}"),
    }
    reads_go_on(&store, &run.witness.visible());
}

/// A segment that could not be opened answers with that error; all else must be right.
fn reads_go_on(store: &Store, model: &Model) {
    if let Err(error) = read_all(store, model) {
        assert!(store.recovery().damaged > 0 && matches!(error, Error::Io { .. }), "{error}");
    }
}

#[test]
fn a_failure_of_any_operation_is_told_and_mended_by_reopening() {
    let stats = whole_day(mixed).stats();
    let mut failures = 0;
    for (kind, turn) in
        Disk::ALL.into_iter().flat_map(|kind| (0..figures::scale()).map(move |turn| (kind, turn)))
    {
        for n in 1..=stats.count(kind) {
            println!("{kind:?} {n} fails, on the {turn}. disk");
            failures += 1;
            let sim = SimEnv::any(n + (turn << 32));
            // What was dropped can't be read.
            sim.drop_pages(false);
            sim.fail_nth(&[kind], n, ErrorKind::Other);
            let mut run = Run::default();
            if let Err(error) = run.day(&sim, mixed) {
                goes_on(&mut run, &error);
            }
            sim.clear_faults();
            let powerless = sim.fork(n);
            powerless.power_loss();
            recover(&powerless, &run.witness, End::PowerLoss);
            sim.crash_after(0);
            run.store = None;
            sim.crash();
            recover(&sim, &run.witness, End::Crash);
        }
    }
    figures::figure("failed operations", failures);
}

#[test]
fn a_failed_sync_stops_the_writer_and_not_the_readers() {
    let sim = SimEnv::new(1);
    let store = options(&sim).open(DIR).unwrap();
    let mut witness = Witness::default();
    witness.commit(&store, &[post(0, 0, 1)], Durability::Sync);
    sim.fail_nth(&[Disk::Sync], 1, ErrorKind::Other);
    assert!(witness.try_commit(&store, &[post(0, 0, 2)], Durability::Sync).is_err());
    for durability in [Durability::Sync, Durability::Buffered] {
        let error = store.commit(&batch(&[post(0, 0, 3)], durability)).unwrap_err();
        assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    }
    check::everything(&store, &witness.visible());
    sim.crash_after(0);
    drop(store);
    sim.power_loss();
    recover(&sim, &witness, End::PowerLoss);
}

fn bytes_on(sim: &SimEnv) -> u64 {
    content(sim).values().map(|bytes| bytes.len() as u64).sum()
}

fn content(sim: &SimEnv) -> BTreeMap<PathBuf, Vec<u8>> {
    sim.files().into_iter().map(|path| (path.clone(), sim.read_file(path).unwrap())).collect()
}

#[test]
fn a_full_disk_is_told_and_nothing_else_changes() {
    for room in [0, 1, 100, 1000, 4096, 8192, 9000, 20_000, 50_000] {
        println!("room for {room} bytes");
        let sim = SimEnv::new(room);
        let mut run = Run::default();
        run.day(&sim, mixed).unwrap();
        let store = options(&sim).open(DIR).unwrap();
        run.witness.reopened(&store, End::Close);
        sim.quota(Some(bytes_on(&sim) + room));
        let full = |error: &Error| matches!(error, Error::OutOfSpace { .. });
        let mut refused = 0;
        for i in 0..400 {
            let ops = hour(&run.witness.model, i);
            if let Err(error) = run.witness.try_commit(&store, &ops, mixed(i)) {
                assert!(full(&error), "{error:?}");
                refused += 1;
            }
            if i % 20 == 19 {
                check::everything(&store, &run.witness.model);
                for result in [store.seal(), store.maintain().map(drop)] {
                    assert!(result.as_ref().err().is_none_or(full), "{result:?}");
                }
            }
        }
        assert!(refused > 0, "the disk was never full");
        sim.quota(None);
        let ops = hour(&run.witness.model, 500);
        run.witness.commit(&store, &ops, Durability::Sync);
        store.seal().unwrap();
        while store.maintain().unwrap() {}
        check::everything(&store, &run.witness.model);
        sim.crash_after(0);
        drop(store);
        sim.power_loss();
        recover(&sim, &run.witness, End::PowerLoss);
    }
}

#[test]
fn what_a_full_disk_cut_off_is_gone_whatever_comes_next() {
    for next in 0..3 {
        for (seed, also_scrub) in (0..40).map(|i| (i, i % 2 == 0)) {
            let sim = SimEnv::new(seed);
            let options = options(&sim).log_segment(16 << 10);
            let mut witness = Witness::default();
            let store = options.clone().open(DIR).unwrap();
            witness.commit(&store, &hour(&witness.model, 0), Durability::Sync);
            store.close().unwrap();
            // A session's first write begins a segment of its own; here the next one is cut.
            let store = options.clone().open(DIR).unwrap();
            witness.commit(&store, &[with(vec![1; 10], 9)], Durability::Sync);
            sim.fail_nth(&[Disk::Write], 1, ErrorKind::StorageFull);
            if also_scrub && next > 0 {
                sim.fail_nth(&[Disk::Write], 2, ErrorKind::StorageFull);
            }
            // So may the commit itself: the file holds zeros, as the end of the payload does.
            let payload = [vec![1; 500], vec![0; 3000]].concat();
            let refused = witness.try_commit(&store, &[with(payload, 1)], Durability::Sync);
            assert!(matches!(refused, Err(Error::OutOfSpace { .. })), "{refused:?}");
            match next {
                0 => {}
                1 => store.close().unwrap(),
                _ => {
                    witness.commit(&store, &[with(vec![1; 14_000], 2)], Durability::Sync);
                    assert_eq!(
                        store.stat().unwrap().logs.count,
                        3,
                        "a session and a long message begin a segment"
                    );
                }
            }
            // As the process ends here. Dropping the store would zero what is left.
            let sim = sim.fork(seed);
            drop(store);
            let store = self::options(&sim).open(DIR).unwrap();
            check::everything(&store, &witness.model);
            assert!(store.recovery().clean || next != 1, "a close leaves nothing after the end");
            drop(store);
            recover(&sim, &witness, End::Close);
        }
    }
}

/// A message with this payload.
fn with(payload: Vec<u8>, number: u64) -> Op {
    let mut message = post(0, 0, number);
    if let Op::Append { post, .. } = &mut message {
        post.payload = payload.into();
    }
    message
}

/// Reads all there is. What comes back must be right; an error may come in its place.
fn read_all(store: &Store, model: &Model) -> Result<(), Error> {
    for channel in model.channels() {
        let found: Vec<_> = store.history(&channel).list()?.iter().map(model::Msg::from).collect();
        assert_eq!(found, model.history(&channel, &Range::default()), "history of {}", check::text(&channel));
        assert_eq!(store.head(&channel)?, model.head(&channel));
        assert_eq!(check::names(store.members(&channel).list()?), model.members(&channel));
        for user in model.users() {
            assert_eq!(store.membership(&channel, &user)?.is_some(), model.is_member(&channel, &user));
        }
    }
    for user in model.users() {
        assert_eq!(check::names(store.channels_of(&user).list()?), model.channels_of(&user));
        let found = store.conversations(&user).with_attributes().list()?.entries;
        assert_eq!(check::whole(&found)?, model.conversations(&user, false));
    }
    assert_eq!(check::names(store.channels().list()?), model.channels());
    assert_eq!(check::names(store.users().list()?), model.users());
    Ok(())
}

fn is_corruption_of(error: &Error, path: &Path) -> bool {
    matches!(error, Error::Corruption { file, .. } if file == path)
}

/// Flips a bit, and expects either the right answers or an error that names the file. A refused opening changes nothing.
fn flip(sim: &SimEnv, model: &Model, path: &Path, offset: u64) {
    let sim = sim.fork(offset);
    sim.corrupt(path, offset, 1 << (offset % 8)).unwrap();
    let before = content(&sim);
    let place = format!("{} at {offset}", path.display());
    let found = match chanlog::verify(DIR, &options(&sim)) {
        Ok(verification) => verification.faults.iter().any(|fault| is_corruption_of(fault, path)),
        Err(error) => is_corruption_of(&error, path),
    };
    assert_eq!(content(&sim), before, "verify changes nothing");
    let result = options(&sim).open(DIR).and_then(|store| read_all(&store, model));
    match result {
        Ok(()) => {}
        Err(error) => {
            assert!(is_corruption_of(&error, path), "{place}: {error}");
            assert!(found, "{place}: verify overlooks it");
        }
    }
    if options(&sim).open(DIR).is_err() {
        assert_eq!(content(&sim), before, "{place}: a refused opening changes nothing");
    }
    let name = path.file_name().unwrap().to_string_lossy();
    let sealed = name.starts_with("seg-") || name.starts_with("run-");
    assert!(found || !sealed, "{place}: verify checks every byte of a sealed file");
}

#[test]
fn a_flipped_bit_is_told_with_its_file_and_gives_no_wrong_answer() {
    let sim = SimEnv::new(3);
    let mut run = Run::default();
    run.day(&sim, mixed).unwrap();
    let model = run.witness.model;
    for (path, bytes) in content(&sim) {
        let edge = 160.min(bytes.len());
        let ends = (0..edge).step_by(3).chain(bytes.len() - edge..bytes.len());
        for offset in ends.chain((0..bytes.len()).step_by(61)) {
            flip(&sim, &model, &path, offset as u64);
        }
    }
}

#[test]
fn damage_below_the_durable_mark_is_no_torn_tail() {
    let sim = SimEnv::new(4);
    let store = options(&sim).open(DIR).unwrap();
    for i in 0..20 {
        let text = format!("needle {i:02}");
        store.commit(Batch::new().append("c", Draft::new("u", 0, text))).unwrap();
    }
    sim.crash_after(0);
    drop(store);
    sim.crash();
    for i in 0..15 {
        let needle = format!("needle {i:02}");
        let sim = sim.fork(i);
        let place = |bytes: &[u8]| bytes.windows(needle.len()).position(|part| part == needle.as_bytes());
        let (path, at) = content(&sim)
            .into_iter()
            .find_map(|(path, bytes)| Some((path, place(&bytes)?)))
            .expect("a message lies uncompressed in the log");
        sim.corrupt(&path, at as u64, 4).unwrap();
        let before = content(&sim);
        match options(&sim).open(DIR) {
            Err(Error::Corruption { file, offset, .. }) => {
                assert_eq!(file, path);
                assert!(offset <= at as u64, "the frame at {offset} holds the byte at {at}");
            }
            other => panic!("{needle}: expected corruption, not {other:?}"),
        }
        assert_eq!(content(&sim), before, "nothing is cut away");
    }
}

#[test]
fn a_message_that_is_a_copy_of_the_log_is_a_message() {
    let sim = SimEnv::new(5);
    let store = options(&sim).open(DIR).unwrap();
    let mut witness = Witness::default();
    (0..5).for_each(|i| witness.commit(&store, &[post(0, 0, i)], Durability::Sync));
    let files = content(&sim).into_values().filter(|bytes| !bytes.is_empty());
    for copy in files.collect::<Vec<_>>() {
        let Op::Append { channel, post } = post(0, 0, 9) else { unreachable!() };
        let post = Post { payload: copy.into(), ..post };
        witness.commit(&store, &[Op::Append { channel, post }], Durability::Buffered);
    }
    sim.crash_after(0);
    drop(store);
    recover(&sim.fork(0), &witness, End::Crash);
    for seed in 0..20 {
        let sim = sim.fork(seed);
        sim.power_loss_with(PowerLoss::Torn);
        recover(&sim, &witness, End::PowerLoss);
    }
}

#[test]
fn what_buffered_commits_may_lose_is_bounded() {
    let sim = SimEnv::new(6);
    let store = options(&sim).log_segment(64 << 20).memtable(64 << 20).open(DIR).unwrap();
    let mut batch = Batch::new();
    batch.durability(Durability::Buffered);
    (0..1000).for_each(|_| _ = batch.append("c", Draft::new("u", 0, "x")));
    let sent = 2 * BUFFERED_WINDOW / 1000 * 1000;
    (0..sent / 1000).for_each(|_| drop(store.commit(&batch).unwrap()));
    sim.crash_after(0);
    drop(store);
    sim.power_loss_with(PowerLoss::Drop);
    let store = options(&sim).open(DIR).unwrap();
    let kept = store.head("c").unwrap().last.seq;
    assert!(sent - kept <= BUFFERED_WINDOW, "{kept} of {sent} are left");
    assert!(store.recovery().gap);
    let next = store.commit(Batch::new().append("c", Draft::new("u", 0, "x"))).unwrap();
    let next = next.outcomes()[0].seq().unwrap();
    assert_eq!(next, kept + BUFFERED_WINDOW + 1);
    assert!(next > sent, "no seq that was seen is given again");
    let entries = store.history("c").from(kept).list().unwrap();
    assert_eq!(
        entries.iter().map(|m| (m.seq, m.ordinal)).collect::<Vec<_>>(),
        [(kept, kept), (next, kept + 1)]
    );
}

#[test]
fn a_gap_comes_once_and_only_where_messages_may_be_lost() {
    let sim = SimEnv::new(7);
    let store = options(&sim).open(DIR).unwrap();
    let append = |store: &Store, channel: &str, durability| {
        let mut batch = Batch::new();
        batch.append(channel, Draft::new("u", 0, "x")).durability(durability);
        store.commit(&batch).unwrap().outcomes()[0].seq().unwrap()
    };
    append(&store, "c", Durability::Sync);
    (0..10).for_each(|_| _ = append(&store, "c", Durability::Buffered));
    sim.crash_after(0);
    drop(store);
    sim.power_loss_with(PowerLoss::Drop);
    let store = options(&sim).open(DIR).unwrap();
    let kept = store.head("c").unwrap().last.seq;
    assert!(store.recovery().gap && (1..11).contains(&kept), "{kept} of 11 are left");
    drop(store);
    for _ in 0..3 {
        let store = options(&sim).open(DIR).unwrap();
        assert_eq!((store.head("c").unwrap().last.seq, store.recovery().losses), (kept, 1));
        store.close().unwrap();
    }
    let store = options(&sim).open(DIR).unwrap();
    assert_eq!(append(&store, "c", Durability::Sync), kept + BUFFERED_WINDOW + 1);
    assert_eq!(append(&store, "c", Durability::Sync), kept + BUFFERED_WINDOW + 2);
    assert_eq!(append(&store, "later", Durability::Sync), 1, "a channel that was made later has no gap");
    sim.crash_after(0);
    drop(store);
    sim.power_loss_with(PowerLoss::Drop);
    let store = options(&sim).open(DIR).unwrap();
    assert!(!store.recovery().gap, "nothing was buffered");
    assert_eq!(append(&store, "c", Durability::Sync), kept + BUFFERED_WINDOW + 3);
}

#[test]
fn a_loss_outlives_the_log_that_told_of_it() {
    let sim = SimEnv::new(7);
    let append = |store: &Store, channel: &str, durability| {
        let mut batch = Batch::new();
        batch.append(channel, Draft::new("u", 0, "x")).durability(durability);
        store.commit(&batch).unwrap().outcomes()[0].seq().unwrap()
    };
    let store = options(&sim).open(DIR).unwrap();
    append(&store, "c", Durability::Sync);
    append(&store, "c", Durability::Buffered);
    sim.crash_after(0);
    drop(store);
    sim.power_loss_with(PowerLoss::Drop);
    let store = options(&sim).open(DIR).unwrap();
    let kept = store.head("c").unwrap().last.seq;
    append(&store, "other", Durability::Sync);
    store.seal().unwrap();
    while store.maintain().unwrap() {}
    store.close().unwrap();
    drop(store);
    let store = options(&sim).open(DIR).unwrap();
    assert_eq!(store.recovery().losses, 1);
    assert_eq!(append(&store, "c", Durability::Sync), kept + BUFFERED_WINDOW + 1);
}

#[test]
fn a_gap_comes_after_any_end_that_left_buffered_commits_open() {
    let append = |store: &Store, durability| {
        let mut batch = Batch::new();
        batch.append("c", Draft::new("u", 0, "x")).durability(durability);
        store.commit(&batch).unwrap().outcomes()[0].seq().unwrap()
    };
    for (durability, close) in
        [Durability::Sync, Durability::Buffered].map(|d| [(d, false), (d, true)]).concat()
    {
        let sim = SimEnv::new(7);
        let store = options(&sim).open(DIR).unwrap();
        (0..3).for_each(|_| _ = append(&store, durability));
        if close {
            store.close().unwrap();
        }
        sim.crash_after(0);
        drop(store);
        // The process alone: that the machine went on is nothing that the store could rely on.
        sim.crash();
        let gap = durability == Durability::Buffered && !close;
        let store = options(&sim).open(DIR).unwrap();
        assert_eq!((store.recovery().gap, store.head("c").unwrap().last.seq), (gap, 3));
        assert_eq!(append(&store, Durability::Sync), 4 + if gap { BUFFERED_WINDOW } else { 0 });
    }
}

#[test]
fn each_session_that_may_have_lost_messages_leaves_a_gap_of_its_own() {
    let sim = SimEnv::new(7);
    let append = |durability| {
        let store = options(&sim).open(DIR).unwrap();
        let mut batch = Batch::new();
        batch.append("c", Draft::new("u", 0, "x")).durability(durability);
        let seq = store.commit(&batch).unwrap().outcomes()[0].seq().unwrap();
        sim.crash_after(0);
        drop(store);
        sim.power_loss_with(PowerLoss::Drop);
        seq
    };
    assert_eq!(append(Durability::Sync), 1);
    for lost in 0..3 {
        // Somebody saw each of them, and none is left.
        assert_eq!(append(Durability::Buffered), 2 + lost * BUFFERED_WINDOW);
    }
    let store = options(&sim).open(DIR).unwrap();
    assert_eq!((store.head("c").unwrap().last.seq, store.recovery().losses), (1, 3));
    drop(store);
    assert_eq!(append(Durability::Sync), 2 + 3 * BUFFERED_WINDOW);
    assert_eq!(append(Durability::Sync), 3 + 3 * BUFFERED_WINDOW);
}

#[test]
fn a_gap_follows_what_a_log_segment_may_hold_and_not_what_it_holds() {
    let end = |default, commits: &[Durability], roll: bool| {
        let sim = SimEnv::new(7);
        let store = options(&sim).memtable(1 << 20).durability(default).open(DIR).unwrap();
        for (at, durability) in commits.iter().enumerate() {
            if roll && at + 1 == commits.len() {
                store.seal().unwrap();
            }
            let mut batch = Batch::new();
            batch.append("c", Draft::new("u", 0, "x")).durability(*durability);
            store.commit(&batch).unwrap();
        }
        // As the process ends here. Dropping the store would write a close.
        let sim = sim.fork(7);
        drop(store);
        let store = options(&sim).open(DIR).unwrap();
        assert_eq!(store.head("c").unwrap().last.seq, commits.len() as u64);
        store.recovery().gap
    };
    use Durability::{Buffered, Sync};
    assert!(!end(Sync, &[Sync, Sync], false), "nothing could be buffered");
    assert!(end(Sync, &[Sync, Buffered, Sync], false), "one was");
    assert!(
        !end(Sync, &[Buffered, Buffered, Sync], true),
        "all that was is durable, as another segment began"
    );
    assert!(end(Sync, &[Sync, Sync, Buffered], true));
    assert!(end(Buffered, &[Sync, Sync], false), "its segments are declared for what may come");
    assert!(end(Buffered, &[Sync, Sync], true));
}

#[test]
fn a_removal_is_told_as_long_as_its_tombstone_is_kept() {
    let sim = SimEnv::new(8);
    let store = options(&sim).tombstone_age(Duration::from_secs(3600)).open(DIR).unwrap();
    store.commit(Batch::new().join("c", "alice").append("c", Draft::new("bob", 0, "x"))).unwrap();
    let token = store.conversations("alice").list().unwrap().as_of;
    store.commit(Batch::new().leave("c", "alice")).unwrap();
    for age in (0..8).map(|step| step * 1000) {
        match store.conversations("alice").since(&token).unwrap() {
            Update::Changes { changes, .. } => assert_eq!(changes.len(), 1, "a removal is never missing"),
            update => assert!(update == Update::Reset && age > 3600, "{update:?} after {age} seconds"),
        }
        store.commit(Batch::new().append("c", Draft::new("bob", 0, "x"))).unwrap();
        store.seal().unwrap();
        while store.maintain().unwrap() {}
        sim.advance(Duration::from_secs(1000));
    }
}

#[test]
fn a_directory_that_was_there_before_is_made_durable_with_the_store() {
    let sim = SimEnv::new(13);
    // An opening that a crash cut when it had made the directory.
    sim.crash_after(1);
    sim.open_dir(Path::new(DIR), true).map(drop).unwrap_err();
    sim.crash();
    sim.open_dir(Path::new(DIR), false).unwrap();
    let store = options(&sim).open(DIR).unwrap();
    let mut witness = Witness::default();
    witness.commit(&store, &[post(0, 0, 1)], Durability::Sync);
    sim.crash_after(0);
    drop(store);
    sim.power_loss_with(PowerLoss::Drop);
    recover(&sim, &witness, End::PowerLoss);
}

#[test]
fn a_clock_that_steps_back_changes_no_order() {
    let sim = SimEnv::new(9);
    let mut run = Run::default();
    sim.set_unix_ms(i64::MAX / 2);
    run.day(&sim, mixed).unwrap();
    sim.set_unix_ms(0);
    let store = options(&sim).open(DIR).unwrap();
    run.witness.reopened(&store, End::Close);
    (0..20).for_each(|i| run.witness.commit(&store, &hour(&run.witness.model.clone(), i), Durability::Sync));
    check::everything(&store, &run.witness.model);
}

#[test]
fn a_store_that_is_open_is_locked() {
    let sim = SimEnv::new(10);
    let store = options(&sim).open(DIR).unwrap();
    let before = content(&sim);
    let error = options(&sim).open(DIR).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert_eq!(content(&sim), before);
    drop(store);
    assert!(options(&sim).open(DIR).is_ok());
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let sim = SimEnv::new(11);
    sim.write_file("/store/holiday.jpg", b"\xff\xd8").unwrap();
    let before = content(&sim);
    let error = options(&sim).open(DIR).unwrap_err();
    assert!(
        matches!(error, Error::NotAStore { entry: Some(ref entry), .. } if entry == "holiday.jpg"),
        "{error}"
    );
    assert_eq!(content(&sim), before);
}

#[test]
fn a_clean_close_leaves_nothing_to_recover_and_nothing_to_lose() {
    let sim = SimEnv::new(12);
    let mut run = Run::default();
    run.day(&sim, |_| Durability::Buffered).unwrap();
    sim.power_loss_with(PowerLoss::Drop);
    let store = options(&sim).open(DIR).unwrap();
    let recovery = store.recovery();
    assert_eq!((recovery.clean, recovery.gap, recovery.torn_bytes), (true, false, 0));
    check::everything(&store, &run.witness.model);
}

#[test]
fn what_a_full_disk_refused_stays_away_whatever_comes_next() {
    let refused = Batch::new().append("refused", Draft::new("alice", 1, "late")).clone();
    let large = Batch::new().append("general", Draft::new("alice", 2, vec![7; 6 << 10])).clone();
    for seed in 0..96 {
        let sim = SimEnv::new(seed);
        let mut store = options(&sim).open(DIR).unwrap();
        if seed % 2 == 0 {
            store.commit(Batch::new().append("general", Draft::new("alice", 0, "early"))).unwrap();
            store.close().unwrap();
            store = options(&sim).open(DIR).unwrap();
        }
        // Else the failed write may be that of the segment with which a session begins.
        if seed % 4 == 0 {
            store.commit(Batch::new().append("general", Draft::new("alice", 1, "again"))).unwrap();
        }
        // By chance the failed write leaves nothing, a part, or all of it.
        sim.fail_nth(&[Disk::Write], 1, ErrorKind::StorageFull);
        assert!(matches!(store.commit(&refused), Err(Error::OutOfSpace { .. })));
        match seed / 2 % 3 {
            0 => drop(store.commit(&large).unwrap()),
            1 => store.close().unwrap(),
            _ => sim.crash_after(0),
        }
        drop(store);
        sim.crash();
        let store = options(&sim).open(DIR).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(store.head("refused").unwrap().last.seq, 0, "seed {seed}");
        store.close().unwrap();
        drop(store);
        let found = chanlog::verify(DIR, &options(&sim)).unwrap();
        assert!(found.faults.is_empty(), "seed {seed}: {:?}", found.faults);
    }
}
