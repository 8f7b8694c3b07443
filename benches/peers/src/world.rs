//! What every store is given: who is a member of what, and which messages are sent. All of it follows from the seed.
//!
//! Channels and users are numbers, in every store 8 bytes, big-endian. Who sends is never one whose list is asked for, so that
//! no store has to know that one's own messages count as read.

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use serde::{Deserialize, Serialize};

use crate::text::Text;

/// How large it all is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scale {
    pub name: String,
    pub messages: u64,
    pub channels: u64,
    /// Questions for each work that reads.
    pub reads: u64,
    /// Users with 200, 2,000 and 20,000 channels each.
    pub users: [u64; 3],
    /// Rows of the bulk join.
    pub joins: u64,
    /// Durable commits, by 1, 8, 64 and 1,000 threads.
    pub durable: [u64; 4],
    /// Messages that are not sealed when the process is killed.
    pub killed: u64,
    /// Over how many segments the old channel is spread.
    pub segments: u64,
    /// Seconds of quiet load.
    pub quiet: u64,
    /// Operations in the one large batch of joins.
    pub large: u64,
    /// Messages of the mixed load.
    pub mixed: u64,
}

impl Scale {
    pub fn named(name: &str) -> Option<Scale> {
        let name_of = name.to_owned();
        Some(match name {
            "small" => Scale {
                name: name_of,
                messages: 50_000,
                channels: 20_000,
                reads: 1000,
                users: [4, 4, 1],
                joins: 20_000,
                durable: [200, 400, 1280, 2000],
                killed: 20_000,
                segments: 50,
                quiet: 1,
                large: 6000,
                mixed: 20_000,
            },
            "medium" => Scale {
                name: name_of,
                messages: 300_000,
                channels: 30_000,
                reads: 10_000,
                users: [10, 6, 1],
                joins: 200_000,
                durable: [1000, 2000, 6400, 10_000],
                killed: 250_000,
                segments: 500,
                quiet: 3,
                large: 60_000,
                mixed: 200_000,
            },
            "full" => Scale {
                name: name_of,
                messages: 2_000_000,
                channels: 100_000,
                reads: 100_000,
                users: [20, 20, 2],
                joins: 1_000_000,
                durable: [10_000, 20_000, 64_000, 100_000],
                killed: 250_000,
                segments: 2000,
                quiet: 20,
                large: 60_000,
                mixed: 10_000_000,
            },
            _ => return None,
        })
    }
}

/// How many channels each of a kind of users has.
pub const SIZES: [u64; 3] = [200, 2000, 20_000];

/// Users who send, and are in no list.
const SENDERS: u64 = 10_000;
const FIRST_SENDER: u64 = 1_000_000_000;
/// Users of the bulk join.
const FIRST_JOINER: u64 = 2_000_000_000;

/// How much more often some channels are written than others.
const SKEW: f64 = 1.0;

const BEGIN: i64 = 1_700_000_000_000;

/// A message to be sent.
#[derive(Clone)]
pub struct Draft {
    pub channel: u64,
    /// Ascends in the order of sending, as ids of servers do.
    pub id: u64,
    pub sender: u64,
    /// Unix milliseconds.
    pub at: i64,
    pub payload: Bytes,
}

impl Draft {
    /// What the caller gave: the payload, id, sender and time.
    pub fn given(&self) -> u64 {
        self.payload.len() as u64 + 24
    }
}

/// A user in a channel.
#[derive(Clone, Copy)]
pub struct Member {
    pub user: u64,
    pub channel: u64,
}

/// A member who has read up to a seq.
#[derive(Clone, Copy)]
pub struct Mark {
    pub member: Member,
    pub seq: u64,
}

pub struct World {
    pub scale: Scale,
    seed: u64,
    text: Text,
    zipf: Zipf<f64>,
}

impl World {
    pub fn new(scale: Scale, seed: u64) -> World {
        let zipf = Zipf::new(scale.channels as f64, SKEW).expect("a distribution of channels");
        World { text: Text::new(seed), zipf, seed, scale }
    }

    /// Chance for one purpose, the `n`-th time.
    pub fn random(&self, purpose: &str, n: u64) -> SmallRng {
        let purpose = u64::from(crc32fast::hash(purpose.as_bytes())) << 32;
        SmallRng::seed_from_u64(self.seed ^ purpose ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A channel by how often channels are written. Those that are next to each other by number have nothing in common.
    pub fn busy(&self, random: &mut SmallRng) -> u64 {
        let rank = self.zipf.sample(random) as u64 - 1;
        rank * self.odd() % self.scale.channels
    }

    pub fn any(&self, random: &mut SmallRng) -> u64 {
        random.random_range(0..self.scale.channels)
    }

    /// A number without common factor with any number of channels that a scale has.
    fn odd(&self) -> u64 {
        7919
    }

    /// The `n`-th message, to a channel by chance.
    pub fn draft(&self, n: u64) -> Draft {
        let mut random = self.random("draft", n);
        let channel = self.busy(&mut random);
        self.draft_in(channel, n)
    }

    /// The `n`-th message, to this channel.
    pub fn draft_in(&self, channel: u64, n: u64) -> Draft {
        let mut random = self.random("text", n);
        let payload = self.text.message(&mut random);
        draft(&mut random, channel, n, payload)
    }

    /// The `n`-th message of the mixed load: 70 % 256 bytes, 25 % 1 KiB, 4 % 4 KiB, 1 % 16 KiB.
    pub fn mixed(&self, channel: u64, n: u64) -> Draft {
        let mut random = self.random("mixed", n);
        let len = match random.random_range(0..100) {
            0..70 => 256,
            70..95 => 1024,
            95..99 => 4096,
            _ => 16_384,
        };
        let payload = self.text.of_length(&mut random, len);
        draft(&mut random, channel, n, payload)
    }

    /// So much text in a row.
    pub fn text(&self, len: usize) -> Vec<u8> {
        self.text.of_length(&mut self.random("limits", 0), len)
    }

    /// All users whose lists have one of the sizes.
    pub fn users(&self, size: u64) -> impl Iterator<Item = u64> + use<> {
        let kind = SIZES.iter().position(|each| *each == size).expect("a size of lists");
        let first = 1000 * (kind as u64 + 1);
        first..first + self.scale.users[kind]
    }

    /// The `n`-th channel of a user who has `size`: they are spread over all.
    pub fn channel_of(&self, user: u64, size: u64, n: u64) -> u64 {
        let step = self.scale.channels / size;
        n * step + user % step
    }

    pub fn channels_of(&self, user: u64, size: u64) -> impl Iterator<Item = u64> {
        (0..size).map(move |n| self.channel_of(user, size, n))
    }

    /// All who are members from the beginning.
    pub fn members(&self) -> impl Iterator<Item = Member> {
        let of_user =
            move |size, user| self.channels_of(user, size).map(move |channel| Member { user, channel });
        SIZES.into_iter().flat_map(move |size| self.users(size).flat_map(move |user| of_user(size, user)))
    }

    /// The `n`-th row of the bulk join: ten groups, one after the other, each of the same users in another order.
    pub fn joiner(&self, n: u64) -> Member {
        let users = (self.scale.joins / 10).max(1);
        let (group, place) = (n / users, n % users);
        let user = FIRST_JOINER + (place * self.odd() + group) % users;
        Member { user, channel: group * self.odd() % self.scale.channels }
    }
}

fn draft(random: &mut SmallRng, channel: u64, n: u64, payload: Vec<u8>) -> Draft {
    let sender = FIRST_SENDER + random.random_range(0..SENDERS);
    Draft { channel, id: n + 1, sender, at: BEGIN + n as i64, payload: payload.into() }
}
