//! What becomes of an answer: everything in it is summed up, so that the answers of two stores can be compared; or, where time is
//! measured, only touched.

/// A message as a store shows it.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    pub seq: u64,
    pub id: u64,
    pub sender: u64,
    pub at: i64,
    pub payload: &'a [u8],
}

/// An entry of a conversation list as a store shows it.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    pub channel: u64,
    pub last_seq: u64,
    pub read_seq: u64,
    pub last: Shown<'a>,
}

/// A message that somebody keeps.
pub struct Kept {
    /// Seq, id, sender and time.
    pub numbers: [u64; 4],
    pub payload: Vec<u8>,
}

#[derive(Default)]
enum Care {
    /// Looks at each answer, as its user would at least.
    #[default]
    Touch,
    /// A checksum over every byte.
    Check(crc32fast::Hasher),
    Keep(Vec<Kept>),
}

#[derive(Default)]
pub struct Digest {
    care: Care,
    count: u64,
    touched: u64,
}

impl Digest {
    pub fn touching() -> Digest {
        Digest::default()
    }

    pub fn checking() -> Digest {
        Digest { care: Care::Check(crc32fast::Hasher::new()), ..Digest::default() }
    }

    pub fn keeping(messages: usize) -> Digest {
        Digest { care: Care::Keep(Vec::with_capacity(messages)), ..Digest::default() }
    }

    pub fn message(&mut self, channel: u64, message: Shown<'_>) {
        self.count += 1;
        let Shown { seq, id, sender, at, payload } = message;
        match &mut self.care {
            Care::Touch => {
                let first = payload.first().copied().unwrap_or_default();
                self.touched = self.touched.wrapping_add(seq ^ id ^ u64::from(first));
            }
            Care::Check(hasher) => {
                [channel, seq, id, sender, at as u64]
                    .iter()
                    .for_each(|number| hasher.update(&number.to_le_bytes()));
                hasher.update(payload);
            }
            Care::Keep(kept) => {
                kept.push(Kept { numbers: [seq, id, sender, at as u64], payload: payload.into() });
            }
        }
    }

    pub fn entry(&mut self, entry: Entry<'_>) {
        self.numbers(&[entry.last_seq, entry.read_seq]);
        self.message(entry.channel, entry.last);
    }

    pub fn numbers(&mut self, numbers: &[u64]) {
        match &mut self.care {
            Care::Check(hasher) => numbers.iter().for_each(|number| hasher.update(&number.to_le_bytes())),
            _ => numbers.iter().for_each(|number| self.touched = self.touched.wrapping_add(*number)),
        }
    }

    /// How many messages and entries were shown.
    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn kept(self) -> Vec<Kept> {
        match self.care {
            Care::Keep(kept) => kept,
            _ => Vec::new(),
        }
    }

    /// The sum of all that was shown, for comparing.
    pub fn sum(self) -> String {
        match self.care {
            Care::Check(hasher) => format!("{}:{:08x}", self.count, hasher.finalize()),
            _ => self.count.to_string(),
        }
    }
}
