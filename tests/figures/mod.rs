//! How much the tests do, and what they did: `.ci/run` and `.ci/prove` set the one and print the other.

#![allow(dead_code)] // Each test file uses its own part of this.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;

/// How many times as much as usual is to be done: `CHANLOG_SCALE`.
pub fn scale() -> u64 {
    env::var("CHANLOG_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

/// Adds a line of what was done to the file that `CHANLOG_FIGURES` names.
pub fn figure(what: &str, count: u64) {
    println!("{what}: {count}");
    let Some(path) = env::var_os("CHANLOG_FIGURES") else { return };
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.unwrap().write_all(format!("{what}\t{count}\n").as_bytes()).unwrap();
}
