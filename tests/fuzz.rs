//! Drives each fuzz target with random bytes, a few thousand in all, so that none of them rots between the fuzzer's runs.

#![cfg(feature = "fuzzing")]

use chanlog::fuzzing;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngSeed};

/// One test for each target: how many inputs it gets, and how long they are at most.
macro_rules! targets {
    ($($target:ident: $cases:literal, $len:literal;)*) => {$(
        #[test]
        fn $target() {
            let failure_persistence = Some(Box::new(FileFailurePersistence::WithSource("regressions")) as _);
            // The same inputs at each run, so that a failure is one of the change under test. The fuzzer looks for new ones.
            let random = std::env::var_os("CHANLOG_RANDOM").is_some();
            let rng_seed = if random { RngSeed::Random } else { RngSeed::Fixed(1) };
            let config =
                ProptestConfig { cases: $cases, failure_persistence, rng_seed, ..ProptestConfig::default() };
            proptest!(config, |(data in vec(any::<u8>(), 0..$len))| fuzzing::$target(&data));
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
