//! What every environment keeps to, checked against each of them.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::sync::{AtomicU64, Ordering};
use super::*;

/// Runs a check in an empty directory of each environment.
fn each(check: impl Fn(&dyn Env, &dyn Dir)) {
    let place = tempfile::tempdir().unwrap();
    let env = OsEnv::new();
    check(&env, &*env.open_dir(place.path(), false).unwrap());
    let sim = SimEnv::new(1);
    check(&*sim, &*sim.open_dir(Path::new("/dir"), true).unwrap());
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn content(dir: &dyn Dir, name: &str) -> Vec<u8> {
    read_all(&*dir.open(name, Access::Read).unwrap(), 1 << 20).unwrap()
}

fn names(dir: &dyn Dir) -> BTreeSet<OsString> {
    dir.list().unwrap().into_iter().collect()
}

/// The directory of that name in another one.
fn below(env: &dyn Env, dir: &dyn Dir, name: &str, make: bool) -> io::Result<Arc<dyn Dir>> {
    env.open_dir(&dir.path().join(name), make)
}

#[test]
fn a_file_holds_what_was_written() {
    each(|_, dir| {
        let file = dir.create("f").unwrap();
        assert!(file.is_empty().unwrap());
        file.advise(Advice::Random);
        file.write_at(b"hello", 0).unwrap();
        file.write_at(b"world", 1000).unwrap();
        file.write_at(b"", 5000).unwrap();
        assert_eq!(file.len().unwrap(), 1005);
        file.advise(Advice::Sequential);
        let mut bytes = vec![1; 1005];
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!((&bytes[..5], &bytes[1000..]), (&b"hello"[..], &b"world"[..]));
        assert!(bytes[5..1000].iter().all(|byte| *byte == 0));
        assert_eq!(kind(file.read_at(&mut bytes, 1)), Some(ErrorKind::UnexpectedEof));
        assert_eq!(kind(file.read_at(&mut [0], 1 << 40)), Some(ErrorKind::UnexpectedEof));
        file.read_at(&mut [], 1 << 40).unwrap();
        file.sync().unwrap();
        dir.sync().unwrap();
    });
}

#[test]
fn create_empties_what_is_there() {
    each(|_, dir| {
        let old = dir.create("f").unwrap();
        old.write_at(b"old bytes", 0).unwrap();
        let new = dir.create("f").unwrap();
        assert_eq!(new.len().unwrap(), 0);
        assert_eq!(old.len().unwrap(), 0);
        new.write_at(b"x", 8).unwrap();
        assert_eq!(content(dir, "f"), b"\0\0\0\0\0\0\0\0x");
    });
}

#[test]
fn what_is_missing_or_of_another_kind_is_refused() {
    each(|env, dir| {
        assert_eq!(kind(dir.open("none", Access::Read)), Some(ErrorKind::NotFound));
        assert_eq!(kind(dir.open("none", Access::Write)), Some(ErrorKind::NotFound));
        assert_eq!(kind(dir.remove("none")), Some(ErrorKind::NotFound));
        assert_eq!(kind(dir.rename("none", "f")), Some(ErrorKind::NotFound));
        assert_eq!(kind(below(env, dir, "none", false)), Some(ErrorKind::NotFound));
        below(env, dir, "dir", true).unwrap();
        assert!(dir.open("dir", Access::Read).is_err());
        assert!(dir.open("dir", Access::Write).is_err());
        assert!(dir.create("dir").is_err());
        assert!(dir.remove("dir").is_err());
        dir.create("f").unwrap();
        assert_eq!(kind(below(env, dir, "f", false)), Some(ErrorKind::NotADirectory));
        assert!(below(env, dir, "f", true).is_err());
        assert_eq!(names(dir), ["dir", "f"].map(OsString::from).into());
    });
}

#[test]
fn no_name_leads_out_of_its_directory() {
    each(|env, dir| {
        let inner = below(env, dir, "inner", true).unwrap();
        dir.create("f").unwrap().write_at(b"bytes", 0).unwrap();
        inner.create("g").unwrap();
        let root = dir.path().join("f");
        for name in ["", ".", "..", "../f", "./g", "g/", "g/..", root.to_str().unwrap()] {
            assert_eq!(kind(inner.create(name)), Some(ErrorKind::InvalidInput), "{name}");
            assert_eq!(kind(inner.open(name, Access::Read)), Some(ErrorKind::InvalidInput), "{name}");
            assert_eq!(kind(inner.rename(name, "h")), Some(ErrorKind::InvalidInput), "{name}");
            assert_eq!(kind(inner.rename("g", name)), Some(ErrorKind::InvalidInput), "{name}");
            assert_eq!(kind(inner.remove(name)), Some(ErrorKind::InvalidInput), "{name}");
        }
        assert_eq!(content(dir, "f"), b"bytes");
    });
}

#[test]
fn directories_are_made_with_those_above_them_and_list_their_own_names() {
    each(|env, dir| {
        let deep = below(env, dir, "a/b", true).unwrap();
        assert_eq!(deep.path(), dir.path().join("a/b"));
        deep.create("f").unwrap();
        dir.create("ab").unwrap();
        assert_eq!(names(&*below(env, dir, "a/b", true).unwrap()), ["f"].map(OsString::from).into());
        assert_eq!(names(dir), ["a", "ab"].map(OsString::from).into());
        // A list begins anew each time.
        assert_eq!(names(dir), names(dir));
    });
}

#[test]
fn a_rename_replaces_and_open_files_stay() {
    each(|_, dir| {
        let first = dir.create("a").unwrap();
        first.write_at(b"first", 0).unwrap();
        let second = dir.create("b").unwrap();
        second.write_at(b"second", 0).unwrap();
        dir.rename("a", "b").unwrap();
        assert_eq!(content(dir, "b"), b"first");
        assert_eq!(kind(dir.open("a", Access::Read)), Some(ErrorKind::NotFound));
        assert_eq!(read_all(&*second, 10).unwrap(), b"second");
        first.write_at(b"F", 0).unwrap();
        assert_eq!(content(dir, "b"), b"First");
        dir.rename("b", "b").unwrap();
        assert_eq!(content(dir, "b"), b"First");
    });
}

#[test]
fn a_removed_file_stays_with_those_who_have_it() {
    each(|_, dir| {
        dir.create("f").unwrap().write_at(b"bytes", 0).unwrap();
        let file = dir.open("f", Access::Read).unwrap();
        let map = file.map().unwrap().unwrap();
        dir.remove("f").unwrap();
        dir.sync().unwrap();
        assert!(names(dir).is_empty());
        assert_eq!(read_all(&*file, 5).unwrap(), b"bytes");
        drop(file);
        assert_eq!(map, &b"bytes"[..]);
        assert!(dir.create("f").unwrap().is_empty().unwrap());
    });
}

#[test]
fn a_map_of_an_empty_file_is_empty() {
    each(|_, dir| {
        dir.create("f").unwrap();
        let file = dir.open("f", Access::Read).unwrap();
        assert_eq!(file.map().unwrap(), Some(Bytes::new()));
    });
}

#[test]
fn allocating_grows_and_never_shrinks() {
    each(|_, dir| {
        let file = dir.create("f").unwrap();
        file.write_at(b"bytes", 0).unwrap();
        file.allocate(2000).unwrap();
        file.allocate(10).unwrap();
        let bytes = content(dir, "f");
        assert_eq!((bytes.len(), &bytes[..5]), (2000, &b"bytes"[..]));
        assert!(bytes[5..].iter().all(|byte| *byte == 0));
        assert!(file.allocate(0).is_err());
    });
}

#[test]
fn a_file_opened_for_reading_refuses_writes() {
    each(|_, dir| {
        dir.create("f").unwrap().write_at(b"bytes", 0).unwrap();
        let file = dir.open("f", Access::Read).unwrap();
        assert!(file.write_at(b"x", 0).is_err());
        assert!(file.allocate(100).is_err());
        let file = dir.open("f", Access::Write).unwrap();
        file.write_at(b"B", 0).unwrap();
        assert_eq!(content(dir, "f"), b"Bytes");
    });
}

#[test]
fn a_lock_is_held_once_until_its_guard_goes() {
    each(|env, dir| {
        let again = env.open_dir(dir.path(), false).unwrap();
        let other = below(env, dir, "other", true).unwrap();
        let guard = dir.lock().unwrap();
        assert_eq!(kind(dir.lock()), Some(ErrorKind::WouldBlock), "through the same handle");
        assert_eq!(kind(again.lock()), Some(ErrorKind::WouldBlock), "through another one");
        let _other = other.lock().unwrap();
        drop(guard);
        let guard = again.lock().unwrap();
        assert_eq!(kind(dir.lock()), Some(ErrorKind::WouldBlock));
        // It does not hang on the handle.
        drop(again);
        assert_eq!(kind(dir.lock()), Some(ErrorKind::WouldBlock));
        drop(guard);
        let _guard = dir.lock().unwrap();
        assert_eq!(names(dir), ["other"].map(OsString::from).into(), "a lock makes no file");
    });
}

#[test]
fn clocks_threads_and_randomness_are_there() {
    each(|env, _| {
        assert!(env.unix_ms() > 1_600_000_000_000);
        let start = env.monotonic();
        assert!(env.monotonic() >= start);
        let (mut a, mut b) = ([0; 20], [0; 20]);
        env.random(&mut a).unwrap();
        env.random(&mut b).unwrap();
        assert_ne!(a, b);
        let (tell, told) = std::sync::mpsc::channel();
        let work = move || tell.send(std::thread::current().name().map(String::from)).unwrap();
        env.spawn("worker", Box::new(work)).unwrap().join();
        assert_eq!(told.try_recv().unwrap().as_deref(), Some("worker"));
    });
}

#[test]
fn reading_all_has_a_limit() {
    each(|_, dir| {
        let file = dir.create("f").unwrap();
        file.write_at(b"bytes", 0).unwrap();
        assert_eq!(kind(read_all(&*file, 4)), Some(ErrorKind::InvalidData));
    });
}

/// An empty directory of the real system.
fn real() -> (tempfile::TempDir, Arc<dyn Dir>) {
    let place = tempfile::tempdir().unwrap();
    let dir = OsEnv::new().open_dir(place.path(), false).unwrap();
    (place, dir)
}

#[test]
fn files_and_directories_are_private() {
    let (place, dir) = real();
    let mode = |name: &str| fs::metadata(place.path().join(name)).unwrap().permissions().mode() & 0o777;
    below(&OsEnv::new(), &*dir, "a/b", true).unwrap();
    dir.create("f").unwrap();
    let _guard = lock_file(place.path()).unwrap();
    assert_eq!(mode("a"), 0o700);
    assert_eq!(mode("a/b"), 0o700);
    assert_eq!(mode("f"), 0o600);
    assert_eq!(mode("chanlog.lock"), 0o600);
}

/// Takes the lock that a directory has where it can't be locked itself.
fn lock_file(path: &Path) -> io::Result<os::Lock> {
    os::lock_file(&fs::File::open(path).unwrap())
}

#[test]
fn a_lock_file_stands_in_for_a_directory_that_can_not_be_locked() {
    let (place, _) = real();
    let path = place.path().join("chanlog.lock");
    fs::write(&path, b"bytes").unwrap();
    let guard = lock_file(place.path()).unwrap();
    assert_eq!(kind(lock_file(place.path())), Some(ErrorKind::WouldBlock));
    drop(guard);
    let guard = lock_file(place.path()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"bytes", "it keeps what it holds");
    drop(guard);
    fs::remove_file(&path).unwrap();
    symlink(place.path().join("target"), &path).unwrap();
    assert!(lock_file(place.path()).is_err());
}

/// Many take the lock and remove its file before they let go: no two may have it at once.
#[test]
fn a_lock_file_that_is_removed_meanwhile_is_locked_anew() {
    let (place, _) = real();
    let holders = AtomicU64::new(0);
    let taken = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..3000 {
                    let Ok(_guard) = lock_file(place.path()) else { continue };
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two have the lock");
                    taken.fetch_add(1, Ordering::SeqCst);
                    holders.fetch_sub(1, Ordering::SeqCst);
                    fs::remove_file(place.path().join("chanlog.lock")).unwrap();
                }
            });
        }
    });
    assert!(taken.load(Ordering::SeqCst) > 0);
}

#[test]
fn a_handle_stays_with_its_directory() {
    let (place, dir) = real();
    let (here, there) = (place.path().join("here"), place.path().join("there"));
    let old = below(&OsEnv::new(), &*dir, "here", true).unwrap();
    old.create("f").unwrap();
    fs::rename(&here, &there).unwrap();
    let new = below(&OsEnv::new(), &*dir, "here", true).unwrap();
    let _locks = (old.lock().unwrap(), new.lock().unwrap());
    assert_eq!(
        kind(below(&OsEnv::new(), &*dir, "there", false).unwrap().lock()),
        Some(ErrorKind::WouldBlock)
    );
    old.rename("f", "g").unwrap();
    old.create("h").unwrap();
    old.sync().unwrap();
    assert_eq!(names(&*old), ["g", "h"].map(OsString::from).into());
    assert!(names(&*new).is_empty());
    old.remove("g").unwrap();
    assert!(!there.join("g").exists() && there.join("h").exists());
}

#[test]
fn no_descriptor_outlives_an_exec() {
    let (place, dir) = real();
    let _held = (dir.create("f").unwrap(), dir.lock().unwrap(), lock_file(place.path()).unwrap());
    let list = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(!list.contains(place.path().to_str().unwrap()), "{list}");
}

#[test]
fn symbolic_links_and_pipes_are_refused() {
    let (place, dir) = real();
    let target = place.path().join("target");
    fs::write(&target, b"bytes").unwrap();
    symlink(&target, place.path().join("link")).unwrap();
    assert!(dir.open("link", Access::Read).is_err());
    assert!(dir.open("link", Access::Write).is_err());
    assert!(dir.create("link").is_err());
    assert_eq!(fs::read(&target).unwrap(), b"bytes");

    let pipe = place.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    assert!(dir.open("pipe", Access::Read).is_err());
    assert!(dir.open("pipe", Access::Write).is_err());
    assert!(dir.create("pipe").is_err());
}

#[test]
fn an_allocation_gets_through_signals_that_come_all_the_time() {
    use rustix::io::Errno;
    for len in [1, 4096, 1 << 20, (32 << 20) + 5] {
        let mut end = 0;
        os::reserve(len, |offset, part| {
            assert_eq!(offset, end);
            if part > 100_000 {
                return Err(Errno::INTR);
            }
            end += part;
            Ok(())
        })
        .unwrap();
        assert_eq!(end, len);
    }
    let mut calls = 0;
    os::reserve(32 << 20, |_, _| {
        calls += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(calls, 1, "without a signal it is one call");
    assert_eq!(os::reserve(1 << 20, |_, _| Err(Errno::NOSPC)), Err(Errno::NOSPC));
}

#[test]
fn a_map_shows_later_writes() {
    let (_place, dir) = real();
    let file = dir.create("f").unwrap();
    file.allocate(10).unwrap();
    let map = file.map().unwrap().unwrap();
    file.write_at(b"bytes", 5).unwrap();
    assert_eq!(&map[5..], b"bytes");
}
