//! What stores are made of.

use std::sync::Arc;

use chanlog::{Draft, Durability, Options};

use crate::fixture::{Operation, channel, payload, random, user};
use crate::steady::SteadyEnv;

/// How many users have sent or joined something.
pub const USERS: u64 = 1024;

/// Nothing runs in the background, and two runs do the same.
pub fn options() -> Options {
    let env = Arc::new(SteadyEnv::default());
    Options::new().background(false).durability(Durability::Buffered).env(env)
}

/// A message to a channel.
pub fn append_to(place: u64, n: u64) -> Operation {
    Operation::Append(channel(place), draft(n))
}

/// The `n`-th message.
pub fn draft(n: u64) -> Draft {
    Draft::new(user(random(n) % USERS), 1_780_000_000_000 + n as i64, payload(n))
}

/// An id as clients make them.
pub fn id(n: u64) -> String {
    format!("{:032x}", u128::from(random(n)) << 64 | u128::from(n))
}
