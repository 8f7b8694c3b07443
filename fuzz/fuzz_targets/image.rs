#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chanlog::fuzzing::image(data));
