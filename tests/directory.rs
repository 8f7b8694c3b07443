//! The directory of a store: it is one and the same from the opening on, whatever happens to its path, and it has one writer.
//!
//! A process has one working directory, and a fork copies all threads' locks as they are, so that the tests here take turns.
#![cfg(feature = "sim")]
#![allow(unsafe_code)]

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chanlog::env::{Env, Op, OsEnv, SimEnv};
use chanlog::{Batch, Draft, Error, Options, Result, Store};

/// The system's calls that the standard library has no name for.
mod system {
    unsafe extern "C" {
        pub fn fork() -> i32;
        pub fn _exit(code: i32) -> !;
        pub fn pause() -> i32;
        pub fn kill(process: i32, signal: i32) -> i32;
        pub fn waitpid(process: i32, status: *mut i32, options: i32) -> i32;
        pub fn pthread_self() -> usize;
        pub fn pthread_kill(thread: usize, signal: i32) -> i32;
        pub fn signal(number: i32, handler: usize) -> usize;
    }
    pub const KILL: i32 = 9;
    /// What a profiler's timer sends.
    pub const PROF: i32 = 27;
}

/// Held by each test.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn options() -> Options {
    Options::new().log_segment(8 << 10).background(false)
}

fn append(store: &Store, text: &str) -> Result<()> {
    store.commit(Batch::new().append("c", Draft::new("u", 0, text.to_owned()))).map(drop)
}

fn texts(store: &Store) -> Vec<String> {
    let list = store.history("c").list().unwrap();
    list.iter().map(|message| String::from_utf8(message.payload.to_vec()).unwrap()).collect()
}

/// Writes so much that the store goes on in another file.
fn fill(store: &Store) -> Result<()> {
    append(store, &"x".repeat(9000))
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_relative_path_is_meant_from_where_the_store_was_opened() {
    let _turn = turn();
    let root = tempfile::tempdir().unwrap();
    let (a, b) = (root.path().join("a"), root.path().join("b"));
    for dir in [&a, &b] {
        fs::create_dir_all(dir.join("data")).unwrap();
    }
    let before = std::env::current_dir().unwrap();
    std::env::set_current_dir(&a).unwrap();
    let store = options().open("data").unwrap();
    append(&store, "first").unwrap();
    std::env::set_current_dir(&b).unwrap();
    fill(&store).unwrap();
    store.seal().unwrap();
    store.close().unwrap();
    std::env::set_current_dir(before).unwrap();
    assert_eq!(names(&b.join("data")), [""; 0]);
    assert_eq!(texts(&options().open(a.join("data")).unwrap()).len(), 2);
}

#[test]
fn a_store_whose_directory_moves_away_leaves_the_next_one_there_alone() {
    let _turn = turn();
    let root = tempfile::tempdir().unwrap();
    let (here, there) = (root.path().join("here"), root.path().join("there"));
    let old = options().open(&here).unwrap();
    append(&old, "old").unwrap();
    fs::rename(&here, &there).unwrap();
    let new = options().open(&here).unwrap();
    append(&new, "new").unwrap();
    assert!(matches!(options().open(&there), Err(Error::Locked { .. })), "it is the old one's");
    new.close().unwrap();
    fill(&old).unwrap();
    old.seal().unwrap();
    old.close().unwrap();
    assert_eq!(texts(&options().open(&here).unwrap()), ["new"]);
    assert_eq!(texts(&options().open(&there).unwrap()).len(), 2);
}

#[test]
fn no_file_can_be_removed_that_lets_a_second_writer_in() {
    let _turn = turn();
    let root = tempfile::tempdir().unwrap();
    // What an older release left.
    fs::write(root.path().join("chanlog.lock"), b"").unwrap();
    let store = options().open(root.path()).unwrap();
    append(&store, "first").unwrap();
    fs::remove_file(root.path().join("chanlog.lock")).unwrap();
    assert!(matches!(options().open(root.path()), Err(Error::Locked { .. })));
    assert!(!names(root.path()).contains(&"chanlog.lock".into()), "there is no such file to remove");
    drop(store);
    assert_eq!(texts(&options().open(root.path()).unwrap()), ["first"]);
}

#[test]
fn a_forked_child_does_not_keep_a_store_locked() {
    let _turn = turn();
    let root = tempfile::tempdir().unwrap();
    let store = options().open(root.path()).unwrap();
    // SAFETY: the child calls nothing but `pause` and `_exit`, which may follow a fork of a process with threads.
    let child = unsafe { system::fork() };
    if child == 0 {
        // SAFETY: as above.
        unsafe {
            system::pause();
            system::_exit(0)
        }
    }
    assert!(child > 0);
    store.close().unwrap();
    let again = options().open(root.path());
    // SAFETY: it is this test's own child, which it waits for once.
    unsafe {
        system::kill(child, system::KILL);
        system::waitpid(child, std::ptr::null_mut(), 0);
    }
    again.expect("the store was closed, though the child still has its descriptors");
}

#[test]
fn a_forked_child_does_not_give_its_parents_lock_away() {
    let _turn = turn();
    let root = tempfile::tempdir().unwrap();
    let dir = OsEnv::new().open_dir(root.path(), false).unwrap();
    let guard = dir.lock().unwrap();
    // SAFETY: the child lets go of its copy of the guard, which takes no lock of another thread, and exits.
    let child = unsafe { system::fork() };
    if child == 0 {
        drop(guard);
        // SAFETY: as above.
        unsafe { system::_exit(0) }
    }
    assert!(child > 0);
    // SAFETY: it is this test's own child, which it waits for once.
    unsafe { system::waitpid(child, std::ptr::null_mut(), 0) };
    let taken = dir.lock().map(drop);
    assert_eq!(taken.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
}

#[test]
fn an_allocation_that_a_signal_interrupts_is_tried_again() {
    let sim = SimEnv::new(1);
    let store = options().env(sim.clone()).open("/store").unwrap();
    append(&store, "first").unwrap();
    sim.fail_nth(&[Op::Allocate], 1, ErrorKind::Interrupted);
    fill(&store).unwrap();
    fill(&store).unwrap();
    assert_eq!(texts(&store).len(), 3);
}

extern "C" fn nothing(_: i32) {}

/// The same on a real file system whose allocation a signal interrupts, with signals as a profiler sends them.
#[test]
fn a_profiler_does_not_stop_the_writer() {
    let _turn = turn();
    if !Path::new("/dev/shm").is_dir() {
        return;
    }
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = Options::new().log_segment(32 << 20).background(false).open(dir.path()).unwrap();
    // SAFETY: the handler does nothing, so that it may interrupt anything.
    unsafe { system::signal(system::PROF, nothing as *const () as usize) };
    // SAFETY: it only tells of the thread, which lives longer than the one that sends signals.
    let me = unsafe { system::pthread_self() };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                // SAFETY: the thread lives until the scope has ended.
                unsafe { system::pthread_kill(me, system::PROF) };
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        let all = (0..8).try_for_each(|i| {
            append(&store, &i.to_string())?;
            store.seal()
        });
        done.store(true, Ordering::SeqCst);
        all
    })
    .unwrap();
    append(&store, "after").unwrap();
    assert_eq!(texts(&store).len(), 9);
}
