//! Counting by callgrind.
//!
//! What is counted is done inside of [`counted`], by one thread, while no other runs: what callgrind tells is of the whole process. A run
//! may count several works, one after the other, and prints a line for each.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::{env, fs, thread};

use chanlog::Store;

/// The functions of the C library that allocate.
const ALLOCATING: [&str; 6] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"];
/// What callgrind does at which function.
const FUNCTIONS: [(&str, &str); 3] =
    [("zero-before", "begin"), ("toggle-collect", "collect"), ("dump-before", "end")];

/// What the C library is told: to copy by the same code on every processor, sixteen bytes at a time. With longer steps the number of
/// them depends on where on the heap something happens to lie.
const TUNABLES: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2,-AVX2_Usable,-AVX512F,-AVX512VL,-ERMS,-SSSE3",
);

/// What a unit of some work took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counts {
    /// Machine instructions of the process; those of the kernel are not seen.
    pub instructions: f64,
    /// Calls that allocate, or allocate again.
    pub allocations: f64,
    /// System calls. A look at a clock is none, as the kernel answers it in the process.
    pub calls: f64,
    /// Bytes of the log.
    pub bytes: f64,
}

/// Does a work that is to be counted, and says what it was, and of how many units.
pub fn counted<T>(store: &Store, name: &str, units: u64, work: impl FnOnce() -> T) -> T {
    let before = store.stat().expect("numbers").log_bytes;
    begin();
    let done = collect(work);
    end();
    let bytes = store.stat().expect("numbers").log_bytes - before;
    println!("{name}\t{units}\t{bytes}");
    done
}

/// Before it callgrind forgets what it counted: calls it counts even where it does not collect.
#[inline(never)]
fn begin() {
    black_box("begin");
}

/// In it callgrind collects.
#[inline(never)]
fn collect<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

/// Before it callgrind writes what it counted. It does something else than `begin`, or the compiler would make one function of them.
#[inline(never)]
fn end() {
    black_box("the end");
}

/// What a run counted: the names of its works, and what a unit of each took.
pub type Works = Vec<(String, Counts)>;

/// Counts by several runs of this program with these arguments, as many at a time as there are cores.
pub fn count_all(runs: &[Vec<String>]) -> Result<Vec<Works>, String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Relaxed);
            let Some(args) = runs.get(at) else { return done };
            done.push((at, count(args)));
        }
    };
    let mut done: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, works)| works).collect()
}

/// Runs this program with these arguments under callgrind, and tells what a unit of each of its works took.
fn count(args: &[String]) -> Result<Works, String> {
    let dir = tempfile::tempdir().map_err(|e| format!("no temporary directory: {e}"))?;
    let out = dir.path().join("out");
    let program = env::current_exe().map_err(|e| format!("this program is nowhere: {e}"))?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind", "--collect-systime=yes", "--compress-strings=no"]);
    valgrind.args(FUNCTIONS.map(|(act, name)| format!("--{act}=counts::counted::{name}*")));
    valgrind.arg(format!("--callgrind-out-file={}", out.display())).arg(program).args(args);
    let done = valgrind.env(TUNABLES.0, TUNABLES.1).stderr(Stdio::inherit());
    let done = done.output().map_err(|e| format!("valgrind: {e}"))?;
    if !done.status.success() {
        return Err(format!("{args:?} failed under valgrind: {}", done.status));
    }
    let printed = String::from_utf8_lossy(&done.stdout);
    let of = |(work, line)| {
        let profile = fs::read_to_string(dir.path().join(format!("out.{}", work + 1)));
        let profile = profile.map_err(|e| format!("callgrind wrote nothing: {e}"))?;
        of_unit(line, &profile).ok_or(format!("callgrind did not see {line:?}, or {FUNCTIONS:?}"))
    };
    printed.lines().enumerate().map(of).collect()
}

/// The name of a work, and what a unit of it took.
fn of_unit(line: &str, profile: &str) -> Option<(String, Counts)> {
    let mut columns = line.split('\t');
    let (name, units, bytes) = (columns.next()?, columns.next()?, columns.next()?);
    let (units, bytes): (f64, f64) = (units.parse().ok()?, bytes.parse().ok()?);
    let total = total(profile).filter(|total| total.instructions > 0.0)?;
    let of_unit = Counts {
        instructions: total.instructions / units,
        allocations: total.allocations / units,
        calls: total.calls / units,
        bytes: bytes / units,
    };
    Some((name.into(), of_unit))
}

/// The sums of a profile.
fn total(profile: &str) -> Option<Counts> {
    let line = |head| profile.lines().find_map(|line| line.strip_prefix(head));
    let sums = line("summary:")?.split_whitespace();
    let sums: BTreeMap<&str, f64> =
        line("events:")?.split_whitespace().zip(sums.filter_map(|sum| sum.parse().ok())).collect();
    let (mut allocations, mut clocks, mut callee) = (0.0, 0.0, "");
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("cfn=") {
            // Of a symbol with a version the name is before it.
            callee = name.split('@').next().unwrap_or(name);
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let calls: f64 = calls.split(' ').next()?.parse().ok()?;
            if ALLOCATING.contains(&callee) {
                allocations += calls;
            } else if callee == "clock_gettime" {
                clocks += calls;
            }
        }
    }
    let calls = sums.get("sysCount").copied().unwrap_or_default() - clocks;
    Some(Counts { instructions: *sums.get("Ir")?, allocations, calls, bytes: 0.0 })
}

/// A number without a fraction, its digits in groups of three.
pub fn whole(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}
