//! Each rule of the simulated disk, with many seeds where chance decides.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use super::inode::SECTOR;
use super::*;

const FILE: &str = "/dir/f";

fn path(name: &str) -> PathBuf {
    Path::new("/dir").join(name)
}

/// A machine with an empty durable directory.
fn sim(seed: u64) -> Arc<SimEnv> {
    let sim = SimEnv::new(seed);
    sim.open_dir(Path::new("/dir"), true).unwrap();
    sim
}

/// An open directory, which is there.
fn open(sim: &SimEnv, path: &str) -> Arc<dyn Dir> {
    sim.open_dir(Path::new(path), false).unwrap()
}

/// The directory that the tests work in.
fn dir(sim: &SimEnv) -> Arc<dyn Dir> {
    open(sim, "/dir")
}

/// A machine with a durable file of `len` bytes `o`, and the file.
fn with_file(seed: u64, len: usize) -> (Arc<SimEnv>, Arc<dyn File>) {
    let sim = sim(seed);
    sim.write_file(FILE, vec![b'o'; len]).unwrap();
    let file = dir(&sim).open("f", Access::Write).unwrap();
    (sim, file)
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// What `see` finds after losses of power with many seeds.
fn outcomes<T: Ord>(sim: &SimEnv, loss: Option<PowerLoss>, see: impl Fn(&SimEnv) -> T) -> BTreeSet<T> {
    let outcome = |seed| {
        let fork = sim.fork(seed);
        match loss {
            Some(loss) => fork.power_loss_with(loss),
            None => fork.power_loss(),
        }
        see(&fork)
    };
    (0..400).map(outcome).collect()
}

fn content(sim: &SimEnv) -> Option<Vec<u8>> {
    sim.read_file(FILE).ok()
}

#[test]
fn synced_bytes_and_names_survive_every_loss() {
    let sim = sim(1);
    let file = dir(&sim).create("f").unwrap();
    file.write_at(&[7; 2000], 0).unwrap();
    file.sync().unwrap();
    dir(&sim).create("gone").unwrap();
    dir(&sim).remove("gone").unwrap();
    open(&sim, "/dir").sync().unwrap();
    assert_eq!(outcomes(&sim, None, content), [Some(vec![7; 2000])].into());
    assert_eq!(outcomes(&sim, None, SimEnv::files), [vec![path("f")]].into());
}

#[test]
fn unsynced_bytes_may_go_or_stay() {
    let (sim, file) = with_file(1, 3);
    file.write_at(b"new", 0).unwrap();
    assert_eq!(outcomes(&sim, Some(PowerLoss::Drop), content), [Some(b"ooo".to_vec())].into());
    assert_eq!(outcomes(&sim, Some(PowerLoss::Keep), content), [Some(b"new".to_vec())].into());
    let both = [Some(b"ooo".to_vec()), Some(b"new".to_vec())].into();
    assert_eq!(outcomes(&sim, Some(PowerLoss::Sectors), content), both);
    assert!(outcomes(&sim, None, content).is_superset(&both));
}

#[test]
fn each_sector_goes_its_own_way() {
    let (sim, file) = with_file(1, 3 * SECTOR);
    file.write_at(&[b'n'; 3 * SECTOR], 0).unwrap();
    let seen = outcomes(&sim, Some(PowerLoss::Sectors), |sim| {
        let bytes = content(sim).unwrap();
        for sector in bytes.chunks(SECTOR) {
            assert!(sector.iter().all(|byte| *byte == sector[0]));
        }
        [bytes[0], bytes[SECTOR], bytes[2 * SECTOR]]
    });
    assert_eq!(seen.len(), 8);
}

#[test]
fn any_version_since_the_sync_may_be_on_disk() {
    let (sim, file) = with_file(1, 1);
    for version in [b"a", b"b", b"c"] {
        file.write_at(version, 0).unwrap();
    }
    let seen = outcomes(&sim, Some(PowerLoss::Sectors), |sim| content(sim).unwrap()[0]);
    assert_eq!(seen, [b'a', b'b', b'c', b'o'].into());
}

#[test]
fn a_torn_sector_is_new_first_and_old_then() {
    let (sim, file) = with_file(1, SECTOR);
    file.write_at(&[b'n'; SECTOR], 0).unwrap();
    let seen = outcomes(&sim, Some(PowerLoss::Torn), |sim| {
        let bytes = content(sim).unwrap();
        let new = bytes.iter().take_while(|byte| **byte == b'n').count();
        assert!(bytes[new..].iter().all(|byte| *byte == b'o'));
        new
    });
    assert!(seen.len() > 50 && seen.contains(&0) && seen.contains(&SECTOR));
}

#[test]
fn length_and_bytes_survive_apart() {
    let (sim, file) = with_file(1, 2);
    file.write_at(b"new", 2).unwrap();
    let seen = outcomes(&sim, Some(PowerLoss::Sectors), |sim| content(sim).unwrap());
    let expected = [&b"oo"[..], b"oo\0\0\0", b"oonew"].map(<[u8]>::to_vec);
    assert_eq!(seen, expected.into());
}

#[test]
fn bytes_behind_a_lost_length_never_come_back() {
    let (sim, file) = with_file(1, 2);
    file.write_at(b"new", 2).unwrap();
    outcomes(&sim, Some(PowerLoss::Sectors), |sim| {
        let lost = content(sim).unwrap().len() == 2;
        dir(sim).open("f", Access::Write).unwrap().allocate(600).unwrap();
        assert!(!lost || content(sim).unwrap()[2..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn an_allocation_is_durable_with_the_sync() {
    let (sim, file) = with_file(1, 2);
    file.allocate(1000).unwrap();
    let len = |sim: &SimEnv| content(sim).unwrap().len();
    assert_eq!(outcomes(&sim, None, len), [2, 1000].into());
    file.sync().unwrap();
    assert_eq!(outcomes(&sim, None, len), [1000].into());
}

#[test]
fn a_truncating_create_may_be_lost_or_kept() {
    let (sim, _) = with_file(1, 3);
    let file = dir(&sim).create("f").unwrap();
    assert_eq!(outcomes(&sim, Some(PowerLoss::Drop), content), [Some(b"ooo".to_vec())].into());
    assert_eq!(outcomes(&sim, Some(PowerLoss::Keep), content), [Some(vec![])].into());
    file.write_at(b"n", 0).unwrap();
    let seen = outcomes(&sim, Some(PowerLoss::Sectors), |sim| content(sim).unwrap());
    assert!([&b"ooo"[..], b"", b"n"].iter().all(|bytes| seen.contains(*bytes)));
    file.sync().unwrap();
    assert_eq!(outcomes(&sim, None, content), [Some(b"n".to_vec())].into());
}

#[test]
fn a_name_needs_the_sync_of_its_directory() {
    let sim = sim(1);
    let file = dir(&sim).create("f").unwrap();
    file.write_at(b"new", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&sim, None, content), [None, Some(b"new".to_vec())].into());
    open(&sim, "/").sync().unwrap();
    assert_eq!(outcomes(&sim, Some(PowerLoss::Drop), content), [None].into());
    open(&sim, "/dir").sync().unwrap();
    assert_eq!(outcomes(&sim, None, content), [Some(b"new".to_vec())].into());
}

#[test]
fn a_directory_needs_the_sync_of_the_one_above() {
    let sim = SimEnv::new(1);
    // That of the root, the last, fails in a way that the opening lets pass.
    sim.fail_nth(&[Op::SyncDir], 2, ErrorKind::PermissionDenied);
    let dir = sim.open_dir(Path::new("/a/b"), true).unwrap();
    dir.create("f").unwrap().sync().unwrap();
    dir.sync().unwrap();
    assert_eq!(outcomes(&sim, Some(PowerLoss::Drop), SimEnv::files), [vec![]].into());
    let sim = SimEnv::new(1);
    let dir = sim.open_dir(Path::new("/a/b"), true).unwrap();
    dir.create("f").unwrap().sync().unwrap();
    assert_eq!(outcomes(&sim, Some(PowerLoss::Drop), SimEnv::files), [vec![]].into());
    dir.sync().unwrap();
    assert_eq!(outcomes(&sim, None, SimEnv::files), [vec!["/a/b/f".into()]].into());
}

#[test]
fn a_rename_happens_whole_or_not_at_all() {
    let sim = sim(1);
    sim.write_file(path("new"), b"new").unwrap();
    sim.write_file(path("now"), b"old").unwrap();
    dir(&sim).rename("new", "now").unwrap();
    let seen = outcomes(&sim, None, |sim| (sim.files().len(), sim.read_file(path("now")).unwrap()));
    assert_eq!(seen, [(2, b"old".to_vec()), (1, b"new".to_vec())].into());
}

#[test]
fn changes_of_one_name_keep_their_order_and_others_do_not() {
    let sim = sim(1);
    for name in ["a", "b"] {
        dir(&sim).create(name).unwrap();
        dir(&sim).rename(name, &name.to_uppercase()).unwrap();
    }
    let seen = outcomes(&sim, Some(PowerLoss::Sectors), SimEnv::files);
    let each = |low: &str, high: &str| [None, Some(path(low)), Some(path(high))];
    let mut expected = BTreeSet::new();
    for a in each("a", "A") {
        for b in each("b", "B") {
            let mut files: Vec<_> = a.iter().cloned().chain(b).collect();
            files.sort();
            expected.insert(files);
        }
    }
    assert_eq!(seen, expected);
}

#[test]
fn a_removed_file_may_come_back_with_its_synced_bytes() {
    let (sim, file) = with_file(1, 3);
    dir(&sim).remove("f").unwrap();
    drop(file);
    sim.crash();
    assert_eq!(outcomes(&sim, None, content), [None, Some(b"ooo".to_vec())].into());
}

#[test]
fn a_crash_of_the_process_keeps_the_cache_unsynced() {
    let (sim, file) = with_file(1, 3);
    let handle = dir(&sim);
    let guard = dir(&sim).lock().unwrap();
    file.write_at(b"new", 0).unwrap();
    sim.crash();
    assert!(handle.list().is_err() && handle.open("f", Access::Read).is_err() && handle.lock().is_err());
    assert!(file.len().is_err() && file.sync().is_err() && file.read_at(&mut [0], 0).is_err());
    assert_eq!(content(&sim).unwrap(), b"new");
    let again = dir(&sim).lock().unwrap();
    drop(guard); // That of the dead process must not free the new one.
    assert_eq!(kind(dir(&sim).lock()), Some(ErrorKind::WouldBlock));
    drop(again);
    sim.power_loss_with(PowerLoss::Drop);
    assert_eq!(content(&sim).unwrap(), b"ooo");
}

#[test]
fn a_sync_after_a_process_crash_covers_what_came_before() {
    let (sim, file) = with_file(1, 3);
    file.write_at(b"new", 0).unwrap();
    sim.crash();
    dir(&sim).open("f", Access::Read).unwrap().sync().unwrap();
    assert_eq!(outcomes(&sim, None, content), [Some(b"new".to_vec())].into());
}

#[test]
fn the_nth_operation_fails_once() {
    let (sim, file) = with_file(1, 3);
    sim.fail_nth(&[Op::Read, Op::Open], 2, ErrorKind::PermissionDenied);
    file.sync().unwrap();
    file.read_at(&mut [0], 0).unwrap();
    assert_eq!(kind(dir(&sim).open("f", Access::Read)), Some(ErrorKind::PermissionDenied));
    dir(&sim).open("f", Access::Read).unwrap().map().unwrap();
    sim.fail_nth(&Op::ALL, 1, ErrorKind::Other);
    sim.clear_faults();
    file.sync().unwrap();
}

/// Does one operation of a kind, in a directory that is there.
fn attempt(sim: &SimEnv, dir: &dyn Dir, file: &dyn File, op: Op) -> io::Result<()> {
    match op {
        Op::CreateDir => sim.open_dir(&path("new"), true).map(drop),
        Op::List => dir.list().map(drop),
        Op::Create => dir.create("c").map(drop),
        Op::Open => dir.open("f", Access::Read).map(drop),
        Op::Rename => dir.rename("f", "g"),
        Op::Link => dir.link("f", &*sim.open_dir(std::path::Path::new("/"), false)?),
        Op::Remove => dir.remove("f"),
        Op::SyncDir => dir.sync(),
        Op::Lock => dir.lock().map(drop),
        Op::Read => file.read_at(&mut [0], 0),
        Op::Write => file.write_at(b"n", 0),
        Op::Sync => file.sync(),
        Op::Allocate => file.allocate(100),
    }
}

#[test]
fn every_kind_of_operation_can_fail_and_counts() {
    for op in Op::ALL {
        let (sim, file) = with_file(1, 3);
        let dir = dir(&sim);
        let (ops, count) = (sim.ops(), sim.stats().count(op));
        sim.fail_nth(&[op], 1, ErrorKind::TimedOut);
        assert_eq!(kind(attempt(&sim, &*dir, &*file, op)), Some(ErrorKind::TimedOut), "{op:?}");
        if op != Op::Write {
            assert_eq!((sim.files(), content(&sim)), (vec![path("f")], Some(b"ooo".to_vec())), "{op:?}");
        }
        attempt(&sim, &*dir, &*file, op).unwrap();
        // Two directories above the one that is made are synced too.
        let above = if op == Op::CreateDir { 2 } else { 0 };
        assert_eq!(sim.ops() - ops, above + if op.mutates() { 2 } else { 0 }, "{op:?}");
        assert_eq!(sim.stats().count(op) - count, 2, "{op:?}");
    }
}

#[test]
fn a_failed_sync_gives_bytes_up_until_they_are_written_again() {
    let (sim, file) = with_file(1, 2 * SECTOR);
    file.write_at(b"one", 0).unwrap();
    file.write_at(b"two", 2 * SECTOR as u64).unwrap();
    sim.fail_nth(&[Op::Sync], 1, ErrorKind::Other);
    assert_eq!(kind(file.sync()), Some(ErrorKind::Other));
    let mut shown = [0; 3];
    file.read_at(&mut shown, 0).unwrap();
    assert_eq!(&shown, b"one");

    file.sync().unwrap();
    let old = vec![b'o'; 2 * SECTOR];
    assert_eq!(outcomes(&sim, Some(PowerLoss::Drop), content), [Some(old.clone())].into());
    assert_eq!(outcomes(&sim, Some(PowerLoss::Keep), content), [Some(old)].into());

    file.write_at(b"two", 2 * SECTOR as u64).unwrap();
    file.sync().unwrap();
    let seen = outcomes(&sim, Some(PowerLoss::Drop), |sim| {
        let bytes = content(sim).unwrap();
        (bytes[..3].to_vec(), bytes[2 * SECTOR..].to_vec())
    });
    assert_eq!(seen, [(b"ooo".to_vec(), b"two".to_vec())].into());
}

#[test]
fn a_failed_directory_sync_gives_names_up() {
    let sim = sim(1);
    dir(&sim).create("f").unwrap();
    sim.fail_nth(&[Op::SyncDir], 1, ErrorKind::Other);
    assert!(open(&sim, "/dir").sync().is_err());
    open(&sim, "/dir").sync().unwrap();
    assert_eq!(sim.files(), [path("f")]);
    assert_eq!(outcomes(&sim, Some(PowerLoss::Keep), SimEnv::files), [vec![]].into());
    assert_eq!(outcomes(&sim, Some(PowerLoss::Sectors), SimEnv::files), [vec![], vec![path("f")]].into());
    dir(&sim).rename("f", "g").unwrap();
    open(&sim, "/dir").sync().unwrap();
    assert_eq!(outcomes(&sim, None, SimEnv::files), [vec![path("g")]].into());
}

#[test]
fn a_failed_write_may_have_written_a_first_part() {
    let mut lengths = BTreeSet::new();
    for seed in 0..100 {
        let (sim, file) = with_file(seed, 0);
        sim.fail_nth(&[Op::Write], 1, ErrorKind::Other);
        assert_eq!(kind(file.write_at(b"bytes", 0)), Some(ErrorKind::Other));
        let bytes = content(&sim).unwrap();
        assert!(b"bytes".starts_with(&bytes));
        assert_eq!(sim.stats().bytes_written, bytes.len() as u64);
        lengths.insert(bytes.len());
    }
    assert_eq!(lengths, (0..=5).collect());
}

#[test]
fn a_quota_fills_and_frees() {
    let (sim, file) = with_file(1, 600);
    sim.quota(Some(1000));
    assert_eq!(kind(file.allocate(1001)), Some(ErrorKind::StorageFull));
    file.allocate(900).unwrap();
    file.write_at(&[b'n'; 900], 0).unwrap();
    let other = dir(&sim).create("g").unwrap();
    assert_eq!(kind(other.write_at(&[1; 101], 0)), Some(ErrorKind::StorageFull));
    assert!(other.len().unwrap() <= 100);
    dir(&sim).remove("f").unwrap();
    assert_eq!(kind(other.write_at(&[1; 1000], 0)), Some(ErrorKind::StorageFull));
    drop(file);
    other.write_at(&[1; 1000], 0).unwrap();
    sim.quota(None);
    other.write_at(&[1; 5000], 0).unwrap();
}

#[test]
fn a_disk_over_its_quota_still_takes_writes_within_files() {
    let (sim, file) = with_file(1, 600);
    sim.quota(Some(100));
    file.write_at(&[b'n'; 600], 0).unwrap();
    assert_eq!(kind(file.write_at(b"n", 600)), Some(ErrorKind::StorageFull));
}

#[test]
fn after_the_crash_point_every_call_fails() {
    let (sim, file) = with_file(1, 3);
    let dir = dir(&sim);
    let ops = sim.ops();
    sim.crash_after(1);
    file.write_at(b"n", 0).unwrap();
    file.read_at(&mut [0], 0).unwrap();
    assert!(!sim.is_down());
    assert!(file.sync().is_err());
    assert!(sim.is_down());
    assert_eq!(sim.ops(), ops + 1);
    for op in Op::ALL {
        assert!(attempt(&sim, &*dir, &*file, op).is_err(), "{op:?}");
    }
    assert!(file.len().is_err() && file.map().is_err() && sim.random(&mut [0]).is_err());
    assert_eq!(sim.ops(), ops + 1);
    assert_eq!(outcomes(&sim, Some(PowerLoss::Keep), content), [Some(b"noo".to_vec())].into());
    sim.crash();
    let file = open(&sim, "/dir").open("f", Access::Read).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&sim, Some(PowerLoss::Drop), content), [Some(b"noo".to_vec())].into());
}

#[test]
fn a_write_at_the_crash_point_may_be_partial() {
    let mut lengths = BTreeSet::new();
    for seed in 0..100 {
        let (sim, file) = with_file(seed, 0);
        sim.crash_after(0);
        assert!(file.write_at(b"bytes", 0).is_err());
        sim.crash();
        lengths.insert(content(&sim).unwrap().len());
    }
    assert_eq!(lengths, (0..=5).collect());
}

#[test]
fn stats_tell_bytes_by_file() {
    let (sim, file) = with_file(1, 3);
    file.write_at(b"ab", 0).unwrap();
    file.write_at(b"c", 2).unwrap();
    dir(&sim).create("g").unwrap().write_at(b"defg", 0).unwrap();
    dir(&sim).open("f", Access::Read).unwrap().map().unwrap();
    let stats = sim.stats();
    assert_eq!((stats.bytes_written, stats.bytes_read), (7, 3));
    assert_eq!((stats.count(Op::Write), stats.count(Op::Sync)), (3, 0));
    assert_eq!(stats.files, [(path("f"), 3), (path("g"), 4)].into());
}

#[test]
fn a_map_of_a_file_open_for_reading_is_its_bytes() {
    let (sim, _) = with_file(1, 3);
    let reader = dir(&sim).open("f", Access::Read).unwrap();
    assert_eq!(reader.map().unwrap().unwrap(), &b"ooo"[..]);
}

#[test]
fn forks_go_their_own_ways() {
    let (sim, file) = with_file(1, 3);
    let _guard = dir(&sim).lock().unwrap();
    file.write_at(b"new", 0).unwrap();
    let fork = sim.fork(2);
    let _other = dir(&fork).lock().unwrap();
    assert_eq!(content(&fork).unwrap(), b"new");
    dir(&fork).open("f", Access::Write).unwrap().write_at(b"fork", 0).unwrap();
    dir(&fork).remove("f").unwrap();
    assert_eq!(content(&sim).unwrap(), b"new");
    file.write_at(b"more", 0).unwrap();
    fork.power_loss_with(PowerLoss::Drop);
    assert_eq!(content(&fork).unwrap(), b"ooo");
    assert_eq!(fork.stats().count(Op::Write), 1);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let (sim, file) = with_file(seed, 3000);
        let mut random = [0; 16];
        sim.random(&mut random).unwrap();
        file.write_at(&[b'n'; 5000], 0).unwrap();
        dir(&sim).create("g").unwrap();
        sim.power_loss();
        (random, sim.files(), content(&sim))
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn clocks_move_only_when_told() {
    let sim = sim(1);
    let (unix, mono) = (sim.unix_ms(), sim.monotonic());
    assert_eq!((sim.unix_ms(), mono), (unix, Duration::ZERO));
    sim.advance(Duration::from_millis(1500));
    assert_eq!((sim.unix_ms(), sim.monotonic()), (unix + 1500, Duration::from_millis(1500)));
    sim.set_unix_ms(5);
    assert_eq!((sim.unix_ms(), sim.monotonic()), (5, Duration::from_millis(1500)));
}

#[test]
fn planted_files_and_damage_are_durable() {
    let sim = SimEnv::new(1);
    sim.write_file("/a/b/f", vec![1; 1000]).unwrap();
    sim.corrupt("a/b/../b/./f", 700, 0x80).unwrap();
    assert_eq!(kind(sim.corrupt("/a/b/f", 1000, 1)), Some(ErrorKind::UnexpectedEof));
    let mut expected = vec![1; 1000];
    expected[700] = 0x81;
    assert_eq!(sim.read_file("/a/b/f").unwrap(), expected);
    sim.power_loss_with(PowerLoss::Drop);
    assert_eq!(sim.read_file("/a/b/f").unwrap(), expected);
    sim.write_file("/a/b/f", b"short").unwrap();
    sim.power_loss_with(PowerLoss::Drop);
    assert_eq!(sim.read_file("/a/b/f").unwrap(), b"short");
    assert!(sim.write_file("/a/b", b"").is_err());
    assert!(sim.write_file("/a/b/f/g/h", b"").is_err());
}

#[test]
fn wild_offsets_are_refused() {
    let (_, file) = with_file(1, 3);
    assert_eq!(kind(file.write_at(b"x", u64::MAX)), Some(ErrorKind::FileTooLarge));
    assert_eq!(kind(file.write_at(b"x", 1 << 40)), Some(ErrorKind::FileTooLarge));
    assert_eq!(kind(file.allocate(u64::MAX)), Some(ErrorKind::FileTooLarge));
}

#[test]
fn a_handle_stays_with_its_directory() {
    let (sim, file) = with_file(1, 3);
    let old = dir(&sim);
    let lock = old.lock().unwrap();
    file.write_at(b"new", 0).unwrap();
    sim.rename_dir("/dir", "/old").unwrap();
    assert_eq!(kind(sim.open_dir(Path::new("/dir"), false)), Some(ErrorKind::NotFound));
    let new = sim.open_dir(Path::new("/dir"), true).unwrap();
    let _new_lock = new.lock().unwrap();
    assert_eq!(kind(open(&sim, "/old").lock()), Some(ErrorKind::WouldBlock));
    old.create("g").unwrap();
    old.rename("f", "h").unwrap();
    new.create("i").unwrap();
    assert_eq!(sim.files(), ["/dir/i", "/old/g", "/old/h"].map(PathBuf::from));
    drop(lock);
    let _lock = open(&sim, "/old").lock().unwrap();
    assert_eq!(outcomes(&sim, Some(PowerLoss::Drop), SimEnv::files), [vec!["/old/f".into()]].into());
    assert_eq!(kind(sim.rename_dir("/dir", "/old")), Some(ErrorKind::AlreadyExists));
    assert_eq!(kind(sim.rename_dir("/dir", "/dir/deeper")), Some(ErrorKind::AlreadyExists));
    assert_eq!(kind(sim.rename_dir("/none", "/other")), Some(ErrorKind::NotFound));
}

#[test]
fn a_signal_interrupts_and_nothing_is_lost_by_it() {
    for op in Op::ALL {
        let (sim, file) = with_file(1, 3);
        let dir = dir(&sim);
        file.write_at(b"new", 0).unwrap();
        sim.fail_nth(&[op], 1, ErrorKind::Interrupted);
        let count = sim.stats().count(op);
        attempt(&sim, &*dir, &*file, op).unwrap();
        assert_eq!(sim.stats().count(op) - count, 2, "{op:?}");
        if op == Op::Sync {
            assert_eq!(outcomes(&sim, Some(PowerLoss::Drop), content), [Some(b"new".to_vec())].into());
        }
    }
}

#[test]
fn a_directory_whose_sync_failed_is_made_anew() {
    let sim = SimEnv::new(1);
    sim.fail_nth(&[Op::SyncDir], 2, ErrorKind::Other);
    assert_eq!(kind(sim.open_dir(Path::new("/a/b"), true)), Some(ErrorKind::Other));
    assert_eq!(kind(sim.open_dir(Path::new("/a"), false)), Some(ErrorKind::NotFound));
    let dir = sim.open_dir(Path::new("/a/b"), true).unwrap();
    dir.create("f").unwrap();
    dir.sync().unwrap();
    assert_eq!(outcomes(&sim, None, SimEnv::files), [vec!["/a/b/f".into()]].into());
}
