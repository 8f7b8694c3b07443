//! What disks and systems do that differ, and what goes wrong in other ways than by a failed call.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::thread;

use super::inode::SECTOR;
use super::*;

const FILE: &str = "/dir/f";

/// The length of a sector that has eight of the smallest.
const LARGE: usize = 4096;

/// A machine with a durable file of `len` bytes `o`, and the file.
fn with_file(seed: u64, len: usize) -> (Arc<SimEnv>, Arc<dyn File>) {
    let sim = SimEnv::new(seed);
    sim.open_dir(Path::new("/dir"), true).unwrap();
    sim.write_file(FILE, vec![b'o'; len]).unwrap();
    let file = open(&sim);
    (sim, file)
}

fn dir(sim: &SimEnv) -> Arc<dyn Dir> {
    sim.open_dir(Path::new("/dir"), false).unwrap()
}

/// The file, opened once more.
fn open(sim: &SimEnv) -> Arc<dyn File> {
    dir(sim).open("f", Access::Write).unwrap()
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// The number that the system gives an error.
fn number<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn content(sim: &SimEnv) -> Vec<u8> {
    sim.read_file(FILE).unwrap()
}

fn first(file: &dyn File) -> u8 {
    let mut byte = [0];
    file.read_at(&mut byte, 0).unwrap();
    byte[0]
}

/// What `see` finds after losses of power with many seeds.
fn outcomes<T: Ord>(sim: &SimEnv, loss: PowerLoss, see: impl Fn(&SimEnv) -> T) -> BTreeSet<T> {
    let outcome = |seed| {
        let fork = sim.fork(seed);
        fork.power_loss_with(loss);
        see(&fork)
    };
    (0..400).map(outcome).collect()
}

#[test]
fn a_large_sector_is_kept_or_lost_as_a_whole() {
    let (sim, file) = with_file(1, 2 * LARGE);
    sim.sectors(LARGE);
    file.write_at(&[b'n'; 2 * LARGE], 0).unwrap();
    let seen = outcomes(&sim, PowerLoss::Sectors, |sim| {
        let bytes = content(sim);
        for sector in bytes.chunks(LARGE) {
            assert!(sector.iter().all(|byte| *byte == sector[0]));
        }
        [bytes[0], bytes[LARGE]]
    });
    assert_eq!(seen.len(), 4);
}

#[test]
fn each_unsynced_thing_can_be_kept_by_itself() {
    let (sim, file) = with_file(1, 2 * SECTOR);
    assert_eq!(sim.unsynced(), 0);
    dir(&sim).create("g").unwrap();
    file.write_at(&[b'n'; 3 * SECTOR], 0).unwrap();
    assert_eq!(sim.unsynced(), 5, "a name, three sectors and a length");
    let seen: BTreeSet<_> = (0..1 << 5)
        .map(|which| {
            let fork = sim.fork(1);
            fork.power_loss_with(PowerLoss::Only(which));
            assert_eq!(fork.unsynced(), 0);
            (fork.files().len(), content(&fork))
        })
        .collect();
    // Without the length the third sector is not seen.
    assert_eq!(seen.len(), 2 * (4 * 2 + 4));
    sim.sectors(LARGE);
    assert_eq!(sim.unsynced(), 3);
}

#[test]
fn a_large_sector_is_as_it_was_after_one_of_its_writes() {
    let (sim, file) = with_file(1, LARGE);
    sim.sectors(LARGE);
    file.write_at(b"a", 0).unwrap();
    file.write_at(b"b", 3000).unwrap();
    let seen = outcomes(&sim, PowerLoss::Sectors, |sim| [content(sim)[0], content(sim)[3000]]);
    assert_eq!(seen, [*b"oo", *b"ao", *b"ab"].into());
}

#[test]
fn a_large_sector_tears_anywhere() {
    let (sim, file) = with_file(1, LARGE);
    sim.sectors(LARGE);
    file.write_at(&[b'n'; LARGE], 0).unwrap();
    let seen = outcomes(&sim, PowerLoss::Torn, |sim| {
        let bytes = content(sim);
        let new = bytes.iter().take_while(|byte| **byte == b'n').count();
        assert!(bytes[new..].iter().all(|byte| *byte == b'o'));
        new
    });
    assert!(seen.iter().any(|new| new % SECTOR != 0) && seen.iter().any(|new| *new > SECTOR), "{seen:?}");
}

#[test]
fn a_garbled_sector_loses_what_was_durable_in_it() {
    let (sim, file) = with_file(1, SECTOR);
    file.write_at(b"new", 0).unwrap();
    let lost = |sim: &SimEnv| content(sim)[10..].iter().any(|byte| *byte != b'o');
    assert_eq!(outcomes(&sim, PowerLoss::Torn, lost), [false].into());
    assert_eq!(outcomes(&sim, PowerLoss::Garbled, lost), [false, true].into());
    // No seed draws it by itself.
    for seed in 0..400 {
        let fork = sim.fork(seed);
        fork.power_loss();
        assert!(!lost(&fork));
    }
}

#[test]
fn a_failed_sync_may_drop_pages() {
    let (mut seen, mut later) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..100 {
        let (sim, file) = with_file(seed, 2);
        sim.drop_pages(true);
        file.write_at(b"n", 0).unwrap();
        sim.fail_nth(&[Op::Sync], 1, ErrorKind::Other);
        file.sync().unwrap_err();
        let shown = first(&*file);
        file.sync().unwrap();
        sim.power_loss();
        seen.insert(shown);
        later.insert(content(&sim)[0] == shown);
    }
    assert_eq!(seen, [b'n', b'o'].into(), "readers see what the disk has");
    assert_eq!(later, [true].into(), "and it stays");
}

#[test]
fn a_failure_to_write_back_is_told_once_to_each_open_file() {
    let (sim, writer) = with_file(1, 3);
    let other = open(&sim);
    writer.write_at(b"n", 0).unwrap();
    sim.fail_write_back(ErrorKind::StorageFull);
    let late = open(&sim);
    for file in [&other, &writer, &late] {
        assert_eq!(kind(file.sync()), Some(ErrorKind::StorageFull));
        file.sync().unwrap();
    }
    assert_eq!(open(&sim).sync().ok(), Some(()), "whoever opens it later is not told");
    let lost = outcomes(&sim, PowerLoss::Keep, |sim| content(sim)[0]);
    assert_eq!(lost, [b'o'].into(), "no sync wrote it");

    let (sim, writer) = with_file(1, 3);
    writer.write_at(b"n", 0).unwrap();
    sim.fail_write_back(ErrorKind::Other);
    drop(writer);
    assert_eq!(kind(open(&sim).sync()), Some(ErrorKind::Other), "somebody has to hear of it");
    let file = open(&sim);
    file.sync().unwrap();
    sim.fail_write_back(ErrorKind::Other);
    file.sync().unwrap();
}

#[test]
fn a_failed_sync_is_told_to_others_who_have_the_file_open() {
    let (sim, writer) = with_file(1, 3);
    let other = open(&sim);
    writer.write_at(b"n", 0).unwrap();
    sim.fail_nth(&[Op::Sync], 1, ErrorKind::Other);
    writer.sync().unwrap_err();
    writer.sync().unwrap();
    other.sync().unwrap_err();
    other.sync().unwrap();
}

#[test]
fn a_write_may_tell_of_earlier_bytes() {
    let (sim, file) = with_file(1, 3);
    sim.tell_by_write(true);
    file.write_at(b"n", 0).unwrap();
    sim.fail_write_back_at(&[Op::Write], 1, ErrorKind::StorageFull);
    assert_eq!(kind(file.write_at(b"n", 1)), Some(ErrorKind::StorageFull));
    assert_eq!(content(&sim), b"noo");
    file.write_at(b"n", 1).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&sim, PowerLoss::Drop, |sim| content(sim)[1]), [b'n'].into());
}

#[test]
fn a_sparse_file_finds_the_disk_full_within_its_length() {
    let (sim, file) = with_file(1, SECTOR);
    sim.space(Space::Sparse);
    sim.quota(Some(3 * SECTOR as u64));
    file.allocate(100 * SECTOR as u64).unwrap();
    file.write_at(&[1; SECTOR], 5 * SECTOR as u64).unwrap();
    let refused = file.write_at(&[1; 3 * SECTOR], 6 * SECTOR as u64);
    assert_eq!(kind(refused), Some(ErrorKind::StorageFull));
    assert_eq!(file.len().unwrap(), 100 * SECTOR as u64);
    file.write_at(&[2; 2 * SECTOR], 0).unwrap_err();
    file.write_at(&[2; SECTOR], 0).unwrap();
    assert_eq!(content(&sim)[5 * SECTOR..6 * SECTOR], [1; SECTOR]);
}

#[test]
fn a_full_disk_may_be_told_by_the_sync() {
    let (sim, file) = with_file(1, SECTOR);
    sim.space(Space::Late);
    sim.quota(Some(2 * SECTOR as u64));
    file.allocate(10 * SECTOR as u64).unwrap();
    file.write_at(&[b'n'; 2 * SECTOR], SECTOR as u64).unwrap();
    assert_eq!(kind(file.sync()), Some(ErrorKind::StorageFull));
    assert_eq!(outcomes(&sim, PowerLoss::Keep, |sim| content(sim).len()), [SECTOR].into());
    sim.quota(None);
    file.write_at(&[b'n'; 2 * SECTOR], SECTOR as u64).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&sim, PowerLoss::Drop, |sim| content(sim).len()), [10 * SECTOR].into());
}

#[test]
fn a_spoiled_sector_is_read_again_when_it_was_written_whole() {
    let (sim, file) = with_file(1, 4 * SECTOR);
    sim.spoil(FILE, 2 * SECTOR as u64 + 7).unwrap();
    let read = |offset: usize, len: usize| number(file.read_at(&mut vec![0; len], offset as u64));
    assert_eq!([read(0, 2 * SECTOR), read(3 * SECTOR, SECTOR)], [None, None]);
    assert_eq!([read(0, 2 * SECTOR + 1), read(3 * SECTOR - 1, 1)], [Some(5), Some(5)]);
    assert_eq!(number(file.map()), Some(5));
    let reader = dir(&sim).open("f", Access::Read).unwrap();
    assert_eq!(number(reader.map()), Some(5));
    assert_eq!(number(file.write_at(b"part", 2 * SECTOR as u64)), Some(5));
    sim.power_loss();
    let file = open(&sim);
    assert_eq!(number(file.read_at(&mut [0], 2 * SECTOR as u64)), Some(5), "it stays so");
    file.write_at(&[1; SECTOR], 2 * SECTOR as u64).unwrap();
    file.read_at(&mut [0; 4 * SECTOR], 0).unwrap();
}

#[test]
fn writes_show_up_in_maps() {
    let (sim, file) = with_file(1, 2 * SECTOR);
    let map = file.map().unwrap().unwrap();
    assert_eq!(map, vec![b'o'; 2 * SECTOR]);
    let again = open(&sim);
    again.write_at(b"new", SECTOR as u64 - 1).unwrap();
    assert_eq!(map[SECTOR - 1..SECTOR + 2], *b"new");
    assert_eq!(again.map().unwrap().unwrap(), map, "all maps are one memory");
    sim.corrupt(FILE, 0, 1).unwrap();
    assert_eq!(map[0], b'o' ^ 1);
    again.write_at(b"beyond", 2 * SECTOR as u64).unwrap();
    assert_eq!(map.len(), 2 * SECTOR);
    let fork = sim.fork(1);
    open(&fork).write_at(b"x", 0).unwrap();
    sim.power_loss_with(PowerLoss::Drop);
    assert_eq!(map[SECTOR - 1..SECTOR + 2], *b"new", "a process that ended writes no more");
    sim.maps(false);
    assert_eq!(open(&sim).map().unwrap(), None);
}

#[test]
fn a_process_has_so_many_files_open_and_no_more() {
    let (sim, file) = with_file(1, 3);
    sim.descriptors(Some(2));
    let dir = dir(&sim);
    let second = dir.create("g").unwrap();
    assert_eq!(number(dir.open("f", Access::Read)), Some(24));
    assert_eq!(number(dir.create("h")), Some(24));
    assert_eq!(number(dir.create("f")), Some(24));
    assert_eq!((content(&sim), sim.files().len()), (b"ooo".to_vec(), 2), "nothing was made or emptied");
    drop(second);
    drop(dir.open("f", Access::Read).unwrap());
    sim.crash();
    assert!(file.len().is_err());
    let _both = [open(&sim), open(&sim)];
}

#[test]
fn each_nth_operation_fails_until_the_faults_are_cleared() {
    let (sim, file) = with_file(1, 3);
    sim.fail_each(&[Op::Read], 3, ErrorKind::Other);
    let fails: Vec<bool> = (0..9).map(|_| file.read_at(&mut [0], 0).is_err()).collect();
    assert_eq!(fails, [false, false, true].repeat(3));
    sim.fail_each(&Op::ALL, 2, ErrorKind::Interrupted);
    sim.clear_faults();
    sim.fail_each(&Op::ALL, 2, ErrorKind::Interrupted);
    for _ in 0..9 {
        file.write_at(b"new", 0).unwrap();
        file.sync().unwrap();
    }
}

#[test]
fn a_slow_operation_takes_its_time() {
    let (sim, file) = with_file(1, 3);
    sim.slow_each(&[Op::Sync], 2, Duration::from_secs(3));
    let since = sim.monotonic();
    (0..4).for_each(|_| file.sync().unwrap());
    assert_eq!(sim.monotonic() - since, Duration::from_secs(6));
}

#[test]
fn an_operation_hangs_alone() {
    let (sim, file) = with_file(1, 3);
    let hang = sim.hang_nth(&[Op::Sync], 1);
    file.write_at(b"new", 0).unwrap();
    thread::scope(|scope| {
        let syncing = scope.spawn(|| file.sync());
        hang.wait();
        assert!(!syncing.is_finished());
        assert_eq!(first(&*open(&sim)), b'n', "others go on");
        assert_eq!(sim.stats().count(Op::Sync), 0);
        drop(hang);
        syncing.join().unwrap().unwrap();
    });
    assert_eq!(sim.stats().count(Op::Sync), 1);
    let hang = sim.hang_nth(&[Op::Write], 1);
    thread::scope(|scope| {
        let writing = scope.spawn(|| file.write_at(b"late", 0));
        hang.wait();
        sim.crash();
        drop(hang);
        assert!(writing.join().unwrap().is_err(), "its process has ended");
    });
    assert_eq!(content(&sim), b"new");
}

#[test]
fn any_machine_is_that_of_its_seed() {
    let run = |seed| {
        let sim = SimEnv::any(seed);
        let dir = sim.open_dir(Path::new("/dir"), true).unwrap();
        let file = dir.create("f").unwrap();
        dir.sync().unwrap();
        sim.fail_nth(&[Op::Sync], 2, ErrorKind::Other);
        let map = file.allocate(5000).and_then(|()| file.map()).unwrap();
        for i in 0..20 {
            file.write_at(&vec![i; 700], u64::from(i) * 300).unwrap();
            let _ = file.sync();
        }
        let mut shown = vec![0; 5000];
        file.read_at(&mut shown, 0).unwrap();
        assert!(map.is_none_or(|map| map == shown));
        file.write_at(&[b'n'; 5000], 0).unwrap();
        sim.power_loss();
        (
            sim.trace(),
            sim.files(),
            sim.files().iter().map(|path| sim.read_file(path).unwrap()).collect::<Vec<_>>(),
        )
    };
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        assert_eq!(run(seed), run(seed));
        seen.insert(run(seed));
    }
    assert!(seen.len() > 25, "{} different runs", seen.len());
}
