//! Counting by callgrind.
//!
//! What is counted is done inside of [`counted`], by one thread, while no other runs: what callgrind tells is of the whole process.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::{Command, Stdio};
use std::{env, fs};

/// The functions of the C library that allocate.
const ALLOCATING: [&str; 6] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"];
/// What callgrind does at which function.
const FUNCTIONS: [(&str, &str); 2] = [("dump-before", "cut"), ("toggle-collect", "collect")];

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
}

/// Does the work that is to be counted. Once a run.
pub fn counted<T>(work: impl FnOnce() -> T) -> T {
    cut();
    let done = collect(work);
    cut();
    done
}

/// Before it callgrind writes what it counted since the one before. Numbers of calls it counts even where it does not collect.
#[inline(never)]
fn cut() {
    black_box(());
}

/// In it callgrind collects.
#[inline(never)]
fn collect<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

/// Runs this program with these arguments under callgrind, and tells what a unit of its work took. It prints how many units it did.
pub fn count(args: &[&str]) -> Result<Counts, String> {
    let dir = tempfile::tempdir().map_err(|e| format!("no temporary directory: {e}"))?;
    let out = dir.path().join("out");
    let program = env::current_exe().map_err(|e| format!("this program is nowhere: {e}"))?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind", "--collect-systime=yes", "--compress-strings=no"]);
    valgrind.args(FUNCTIONS.map(|(act, name)| format!("--{act}=counts::counted::{name}*")));
    valgrind.arg(format!("--callgrind-out-file={}", out.display())).arg(program).args(args);
    let done = valgrind
        .env(TUNABLES.0, TUNABLES.1)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("valgrind: {e}"))?;
    let printed = String::from_utf8_lossy(&done.stdout);
    let units: f64 = printed.trim().parse().map_err(|_| format!("{args:?} failed: {printed}"))?;
    let profile =
        fs::read_to_string(dir.path().join("out.2")).map_err(|e| format!("callgrind wrote nothing: {e}"))?;
    let total = total(&profile).ok_or("callgrind wrote what is not understood")?;
    if total.instructions == 0.0 {
        return Err(format!("callgrind did not see these functions: {FUNCTIONS:?}"));
    }
    Ok(Counts {
        instructions: total.instructions / units,
        allocations: total.allocations / units,
        calls: total.calls / units,
    })
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
    Some(Counts { instructions: *sums.get("Ir")?, allocations, calls })
}
