//! What every environment keeps to, checked against each of them.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// Runs a check in an empty directory of each environment.
fn each(check: impl Fn(&dyn Env, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    check(&OsEnv::new(), dir.path());
    let sim = SimEnv::new(1);
    sim.create_dir(Path::new("/dir")).unwrap();
    check(&*sim, Path::new("/dir"));
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn content(env: &dyn Env, path: &Path) -> Vec<u8> {
    read_all(&*env.open(path, Access::Read).unwrap(), 1 << 20).unwrap()
}

#[test]
fn a_file_holds_what_was_written() {
    each(|env, dir| {
        let file = env.create(&dir.join("f")).unwrap();
        assert!(file.is_empty().unwrap());
        file.write_at(b"hello", 0).unwrap();
        file.write_at(b"world", 1000).unwrap();
        file.write_at(b"", 5000).unwrap();
        assert_eq!(file.len().unwrap(), 1005);
        let mut bytes = vec![1; 1005];
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!((&bytes[..5], &bytes[1000..]), (&b"hello"[..], &b"world"[..]));
        assert!(bytes[5..1000].iter().all(|byte| *byte == 0));
        assert_eq!(kind(file.read_at(&mut bytes, 1)), Some(ErrorKind::UnexpectedEof));
        assert_eq!(kind(file.read_at(&mut [0], 1 << 40)), Some(ErrorKind::UnexpectedEof));
        file.read_at(&mut [], 1 << 40).unwrap();
        file.sync().unwrap();
        env.sync_dir(dir).unwrap();
    });
}

#[test]
fn create_empties_what_is_there() {
    each(|env, dir| {
        let path = dir.join("f");
        let old = env.create(&path).unwrap();
        old.write_at(b"old bytes", 0).unwrap();
        let new = env.create(&path).unwrap();
        assert_eq!(new.len().unwrap(), 0);
        assert_eq!(old.len().unwrap(), 0);
        new.write_at(b"x", 8).unwrap();
        assert_eq!(content(env, &path), b"\0\0\0\0\0\0\0\0x");
    });
}

#[test]
fn what_is_missing_or_of_another_kind_is_refused() {
    each(|env, dir| {
        let none = dir.join("none");
        assert_eq!(kind(env.open(&none, Access::Read)), Some(ErrorKind::NotFound));
        assert_eq!(kind(env.open(&none, Access::Write)), Some(ErrorKind::NotFound));
        assert_eq!(kind(env.remove(&none)), Some(ErrorKind::NotFound));
        assert_eq!(kind(env.rename(&none, &dir.join("f"))), Some(ErrorKind::NotFound));
        assert_eq!(kind(env.list(&none)), Some(ErrorKind::NotFound));
        assert_eq!(kind(env.sync_dir(&none)), Some(ErrorKind::NotFound));
        assert_eq!(kind(env.create(&none.join("f"))), Some(ErrorKind::NotFound));
        assert_eq!(kind(env.lock(&none.join("f"))), Some(ErrorKind::NotFound));
        assert!(env.open(dir, Access::Read).is_err());
        assert!(env.create(dir).is_err());
        assert!(env.remove(dir).is_err());
        env.create(&dir.join("f")).unwrap();
        assert_eq!(kind(env.list(&dir.join("f"))), Some(ErrorKind::NotADirectory));
        assert_eq!(kind(env.create(&dir.join("f/g"))), Some(ErrorKind::NotADirectory));
        assert!(env.create_dir(&dir.join("f")).is_err());
    });
}

#[test]
fn directories_are_made_with_those_above_them_and_list_their_own_names() {
    each(|env, dir| {
        let deep = dir.join("a/b");
        env.create_dir(&deep).unwrap();
        env.create_dir(&deep).unwrap();
        env.create(&deep.join("f")).unwrap();
        env.create(&dir.join("ab")).unwrap();
        let names = |dir: &Path| env.list(dir).unwrap().into_iter().collect::<BTreeSet<_>>();
        assert_eq!(names(dir), ["a", "ab"].map(OsString::from).into());
        assert_eq!(names(&deep), ["f"].map(OsString::from).into());
    });
}

#[test]
fn a_rename_replaces_and_open_files_stay() {
    each(|env, dir| {
        let (a, b) = (dir.join("a"), dir.join("b"));
        let first = env.create(&a).unwrap();
        first.write_at(b"first", 0).unwrap();
        let second = env.create(&b).unwrap();
        second.write_at(b"second", 0).unwrap();
        env.rename(&a, &b).unwrap();
        assert_eq!(content(env, &b), b"first");
        assert_eq!(kind(env.open(&a, Access::Read)), Some(ErrorKind::NotFound));
        assert_eq!(read_all(&*second, 10).unwrap(), b"second");
        first.write_at(b"F", 0).unwrap();
        assert_eq!(content(env, &b), b"First");
        env.rename(&b, &b).unwrap();
        assert_eq!(content(env, &b), b"First");
    });
}

#[test]
fn a_removed_file_stays_with_those_who_have_it() {
    each(|env, dir| {
        let path = dir.join("f");
        env.create(&path).unwrap().write_at(b"bytes", 0).unwrap();
        let file = env.open(&path, Access::Read).unwrap();
        let map = file.map().unwrap().unwrap();
        env.remove(&path).unwrap();
        env.sync_dir(dir).unwrap();
        assert!(env.list(dir).unwrap().is_empty());
        assert_eq!(read_all(&*file, 5).unwrap(), b"bytes");
        drop(file);
        assert_eq!(map, &b"bytes"[..]);
        assert!(env.create(&path).unwrap().is_empty().unwrap());
    });
}

#[test]
fn a_map_of_an_empty_file_is_empty() {
    each(|env, dir| {
        env.create(&dir.join("f")).unwrap();
        let file = env.open(&dir.join("f"), Access::Read).unwrap();
        assert_eq!(file.map().unwrap(), Some(Bytes::new()));
    });
}

#[test]
fn allocating_grows_and_never_shrinks() {
    each(|env, dir| {
        let file = env.create(&dir.join("f")).unwrap();
        file.write_at(b"bytes", 0).unwrap();
        file.allocate(2000).unwrap();
        file.allocate(10).unwrap();
        let bytes = content(env, &dir.join("f"));
        assert_eq!((bytes.len(), &bytes[..5]), (2000, &b"bytes"[..]));
        assert!(bytes[5..].iter().all(|byte| *byte == 0));
        assert!(file.allocate(0).is_err());
    });
}

#[test]
fn a_file_opened_for_reading_refuses_writes() {
    each(|env, dir| {
        env.create(&dir.join("f")).unwrap().write_at(b"bytes", 0).unwrap();
        let file = env.open(&dir.join("f"), Access::Read).unwrap();
        assert!(file.write_at(b"x", 0).is_err());
        assert!(file.allocate(100).is_err());
        let file = env.open(&dir.join("f"), Access::Write).unwrap();
        file.write_at(b"B", 0).unwrap();
        assert_eq!(content(env, &dir.join("f")), b"Bytes");
    });
}

#[test]
fn a_lock_is_held_once_until_its_guard_goes() {
    each(|env, dir| {
        let (path, other) = (dir.join("lock"), dir.join("other"));
        let guard = env.lock(&path).unwrap();
        assert_eq!(kind(env.lock(&path)), Some(ErrorKind::WouldBlock));
        let _other = env.lock(&other).unwrap();
        drop(guard);
        let _guard = env.lock(&path).unwrap();
        assert_eq!(env.list(dir).unwrap().len(), 2);
    });
}

#[test]
fn a_lock_keeps_what_the_file_holds() {
    each(|env, dir| {
        env.create(&dir.join("lock")).unwrap().write_at(b"bytes", 0).unwrap();
        let _guard = env.lock(&dir.join("lock")).unwrap();
        assert_eq!(content(env, &dir.join("lock")), b"bytes");
    });
}

#[test]
fn clocks_boot_and_randomness_are_there() {
    each(|env, _| {
        assert!(env.unix_ms() > 1_600_000_000_000);
        let start = env.monotonic();
        assert!(env.monotonic() >= start);
        assert_eq!(env.boot(), env.boot());
        let (mut a, mut b) = ([0; 20], [0; 20]);
        env.random(&mut a).unwrap();
        env.random(&mut b).unwrap();
        assert_ne!(a, b);
    });
}

#[test]
fn reading_all_has_a_limit() {
    each(|env, dir| {
        let file = env.create(&dir.join("f")).unwrap();
        file.write_at(b"bytes", 0).unwrap();
        assert_eq!(kind(read_all(&*file, 4)), Some(ErrorKind::InvalidData));
    });
}

#[test]
fn files_and_directories_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let env = OsEnv::new();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    env.create_dir(&dir.path().join("a/b")).unwrap();
    env.create(&dir.path().join("f")).unwrap();
    let _guard = env.lock(&dir.path().join("lock")).unwrap();
    assert_eq!(mode(&dir.path().join("a")), 0o700);
    assert_eq!(mode(&dir.path().join("a/b")), 0o700);
    assert_eq!(mode(&dir.path().join("f")), 0o600);
    assert_eq!(mode(&dir.path().join("lock")), 0o600);
}

#[test]
fn symbolic_links_and_pipes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let env = OsEnv::new();
    let (target, link) = (dir.path().join("target"), dir.path().join("link"));
    fs::write(&target, b"bytes").unwrap();
    symlink(&target, &link).unwrap();
    assert!(env.open(&link, Access::Read).is_err());
    assert!(env.open(&link, Access::Write).is_err());
    assert!(env.create(&link).is_err());
    assert!(env.lock(&link).is_err());
    assert_eq!(fs::read(&target).unwrap(), b"bytes");

    let pipe = dir.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    assert!(env.open(&pipe, Access::Read).is_err());
    assert!(env.open(&pipe, Access::Write).is_err());
}

#[test]
fn a_map_shows_later_writes() {
    let dir = tempfile::tempdir().unwrap();
    let file = OsEnv::new().create(&dir.path().join("f")).unwrap();
    file.allocate(10).unwrap();
    let map = file.map().unwrap().unwrap();
    file.write_at(b"bytes", 5).unwrap();
    assert_eq!(&map[5..], b"bytes");
}
