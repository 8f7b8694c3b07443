//! Drives each fuzz target with what the fuzzer found worth keeping (`tests/corpus`), and with random bytes, a few thousand in all, so
//! that none of them rots between the fuzzer's runs.

#![cfg(feature = "fuzzing")]

mod figures;

use std::fs;
use std::path::Path;

use chanlog::fuzzing;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngSeed};

/// The inputs that a fuzzer found to reach something that no other does, one a line in hexadecimal.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/corpus/{target}.txt"));
    let text = fs::read_to_string(path).unwrap();
    let byte = |at: usize, line: &str| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
    text.lines().map(|line| (0..line.len()).step_by(2).map(|at| byte(at, line)).collect()).collect()
}

/// One test for each target: how many inputs it gets, and how long they are at most.
macro_rules! targets {
    ($($target:ident: $cases:literal, $len:literal;)*) => {$(
        #[test]
        fn $target() {
            let kept = corpus(stringify!($target));
            assert!(kept.len() > 10);
            kept.iter().for_each(|data| fuzzing::$target(data));
            let failure_persistence = Some(Box::new(FileFailurePersistence::WithSource("regressions")) as _);
            // The same inputs at each run, so that a failure is one of the change under test. The fuzzer looks for new ones.
            let random = std::env::var_os("CHANLOG_RANDOM").is_some();
            let rng_seed = if random { RngSeed::Random } else { RngSeed::Fixed(1) };
            let cases = $cases * figures::scale() as u32;
            let config = ProptestConfig { cases, failure_persistence, rng_seed, ..ProptestConfig::default() };
            proptest!(config, |(data in vec(any::<u8>(), 0..$len))| fuzzing::$target(&data));
            figures::figure("executions of decoders", u64::from(cases) + kept.len() as u64);
        }
    )*};
}

targets! {
    record: 20000, 200;
    change: 20000, 400;
    image: 10000, 120;
    batch: 2000, 120;
    manifest: 20000, 60;
    token: 5000, 80;
    sealed: 20000, 60;
    segment: 5000, 60;
    run: 5000, 60;
    log: 3000, 300;
    store: 1000, 60;
    ops: 500, 400;
}
