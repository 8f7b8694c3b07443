//! Text that compresses as chat does, made of words by chance: the same for the same seed.
//!
//! A vocabulary of syllables, its words drawn as often as words of a language are (Zipf), with a number or a link now and
//! then, which nothing can compress.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal, Zipf};

const WORDS: usize = 2000;
const ONSETS: [&str; 20] =
    ["", "b", "c", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "th", "w", "y", "st", "pr"];
const RIMES: [&str; 16] =
    ["a", "e", "i", "o", "u", "an", "en", "in", "on", "er", "ing", "ou", "ea", "at", "is", "ed"];

/// How many draws the table of words holds: a power of two.
const DRAWS: usize = 1 << 14;

/// Lengths of chat messages in bytes: half are below 150, few are long, and the mean is about 221.
const MEDIAN: f64 = 150.0;
const SPREAD: f64 = 0.9;
const LONGEST: f64 = 4000.0;

pub struct Text {
    words: Vec<String>,
    /// Each word as often as it is said.
    draws: Vec<u16>,
    lengths: LogNormal<f64>,
}

impl Text {
    pub fn new(seed: u64) -> Text {
        let mut random = SmallRng::seed_from_u64(seed);
        let words = (0..WORDS).map(|rank| word(&mut random, rank)).collect();
        let ranks = Zipf::new(WORDS as f64, 1.0).expect("a distribution of words");
        let draws = (0..DRAWS).map(|_| ranks.sample(&mut random) as u16 - 1).collect();
        let lengths = LogNormal::new(MEDIAN.ln(), SPREAD).expect("a distribution of lengths");
        Text { words, draws, lengths }
    }

    /// A message of a length as chats have them.
    pub fn message(&self, random: &mut SmallRng) -> Vec<u8> {
        let len = self.lengths.sample(random).clamp(4.0, LONGEST) as usize;
        self.of_length(random, len)
    }

    pub fn of_length(&self, random: &mut SmallRng, len: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(len + 40);
        while text.len() < len {
            let draw = random.random::<u32>() as usize;
            if draw >> 26 == 0 {
                text.extend_from_slice(
                    format!("https://img.example/{:016x} ", random.random::<u64>()).as_bytes(),
                );
            } else {
                text.extend_from_slice(self.words[self.draws[draw % DRAWS] as usize].as_bytes());
            }
        }
        text.truncate(len);
        text
    }
}

/// A word and the space behind it. Words that are said often are short.
fn word(random: &mut SmallRng, rank: usize) -> String {
    let syllables = 1 + usize::from(rank > 40) + usize::from(rank > 400) * random.random_range(0..2);
    let mut word: String = (0..syllables)
        .map(|_| {
            let (onset, rime) = (random.random_range(0..ONSETS.len()), random.random_range(0..RIMES.len()));
            [ONSETS[onset], RIMES[rime]].concat()
        })
        .collect();
    if random.random_range(0..12) == 0 {
        word.push(',');
    }
    word.push(' ');
    word
}
