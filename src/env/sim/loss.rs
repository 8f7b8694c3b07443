//! What a loss of power leaves over. Owns the seeded choice between the versions that unsynced state went through.

/// A small generator of random numbers (splitmix64). The same seed gives the same numbers.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Fills a buffer.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes()[..part.len()]);
        }
    }
}

/// How a loss of power treats what was not synced. What was synced always stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PowerLoss {
    /// Nothing unsynced survives.
    Drop,
    /// All unsynced state survives, except what a failed sync gave up.
    Keep,
    /// Each sector, length and name goes its own way, by chance: old, new, or anything it was in between.
    Sectors,
    /// Like `Sectors`, and a sector may begin with new bytes and end with old ones.
    Torn,
    /// Like `Torn`, and what follows the new bytes in a torn sector is neither old nor new: what was durable there is lost.
    /// Few disks do so, and nothing that writes a sector in parts can survive it. Never drawn by a seed alone.
    Garbled,
    /// The `n`-th unsynced thing survives, as it is, if bit `n` is set, of at most 64: changes of names in their order, then of
    /// each file its sectors and its length. [`unsynced`](super::SimEnv::unsynced) tells how many there are. Never drawn by a seed.
    Only(u64),
}

/// The choices of one loss of power.
pub struct Dice<'a> {
    loss: PowerLoss,
    /// How many units of [`SECTOR`](super::inode::SECTOR) bytes a sector has.
    pub unit: usize,
    /// How many of 16 unsynced things survive in the random modes. It varies, so that some losses take nearly all and
    /// some nearly nothing.
    odds: u64,
    /// How many unsynced things were decided about.
    decided: u32,
    rng: &'a mut Rng,
}

impl<'a> Dice<'a> {
    /// Draws the odds; without a `loss`, also how to treat unsynced state.
    pub fn new(loss: Option<PowerLoss>, unit: usize, rng: &'a mut Rng) -> Self {
        let any = [
            PowerLoss::Drop,
            PowerLoss::Keep,
            PowerLoss::Sectors,
            PowerLoss::Sectors,
            PowerLoss::Torn,
            PowerLoss::Torn,
        ];
        let drawn = any[rng.below(any.len() as u64) as usize];
        let odds = [1, 4, 8, 12, 15][rng.below(5) as usize];
        Dice { loss: loss.unwrap_or(drawn), unit, odds, decided: 0, rng }
    }

    /// Whether something unsynced survives. `dirty` is false if a failed sync gave it up.
    pub fn survives(&mut self, dirty: bool) -> bool {
        self.decided += 1;
        match self.loss {
            PowerLoss::Only(which) => which.checked_shr(self.decided - 1).unwrap_or(0) & 1 == 1,
            PowerLoss::Drop => false,
            PowerLoss::Keep => dirty,
            PowerLoss::Sectors | PowerLoss::Torn | PowerLoss::Garbled => self.rng.below(16) < self.odds,
        }
    }

    /// One of `count` versions, as the mode has it; `None` for the newest.
    fn version(&mut self, count: usize) -> Option<usize> {
        match self.loss {
            PowerLoss::Keep | PowerLoss::Drop | PowerLoss::Only(_) => None,
            _ => Some(self.rng.below(count as u64) as usize),
        }
    }

    /// Where a surviving sector of `len` bytes is torn: so many bytes are new. `None` if it is whole.
    pub fn tear(&mut self, len: usize) -> Option<usize> {
        let tears = matches!(self.loss, PowerLoss::Torn | PowerLoss::Garbled);
        let torn = tears && self.rng.below(2) == 0;
        torn.then(|| 1 + self.rng.below(len as u64 - 1) as usize)
    }

    /// What stands in place of the old bytes of a torn sector; `None` if they stay.
    pub fn garbage(&mut self, len: usize) -> Option<Vec<u8>> {
        let mut garbage = vec![0; len];
        (self.loss == PowerLoss::Garbled).then(|| self.rng.fill(&mut garbage))?;
        Some(garbage)
    }

    /// How many of `len` changes survive, if they survive in their order; `None` if each has its own fate.
    pub fn prefix(&mut self, len: usize) -> Option<usize> {
        match self.loss {
            PowerLoss::Drop | PowerLoss::Keep | PowerLoss::Only(_) => None,
            PowerLoss::Sectors | PowerLoss::Torn | PowerLoss::Garbled => {
                (self.rng.below(2) == 0).then(|| self.rng.below(len as u64 + 1) as usize)
            }
        }
    }
}

/// The values that something had since its last successful sync, oldest first.
#[derive(Clone, Debug)]
pub struct Unsynced<T> {
    /// With the number of the write that made each.
    versions: Vec<(u64, T)>,
    /// Whether the next sync writes the last version. A failed sync clears it, as Linux marks pages clean that it could
    /// not write: no later sync tries them again.
    dirty: bool,
}

impl<T> Default for Unsynced<T> {
    fn default() -> Self {
        Unsynced { versions: Vec::new(), dirty: false }
    }
}

impl<T: Clone> Unsynced<T> {
    /// Adds the newest value, made by a write of that number.
    pub fn push(&mut self, write: u64, value: T) {
        self.versions.push((write, value));
        self.dirty = true;
    }

    /// What a sync makes durable, if there is anything to write.
    pub fn sync(&mut self) -> Option<T> {
        if self.dirty { Some(std::mem::take(self).versions.pop()?.1) } else { None }
    }

    /// Takes note that a sync failed.
    pub fn give_up(&mut self) {
        self.dirty = false;
    }

    /// Whether a failed sync left something behind that the next one won't write.
    pub fn is_given_up(&self) -> bool {
        !self.dirty && !self.is_empty()
    }

    /// Whether the next sync writes anything.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// The numbers of the writes that made the versions.
    pub fn writes(&self) -> impl Iterator<Item = u64> {
        self.versions.iter().map(|version| version.0)
    }

    /// The value after the write of that number; `None` for the durable one.
    pub fn at(&self, write: u64) -> Option<T> {
        self.versions.iter().rev().find(|version| version.0 <= write).map(|version| version.1.clone())
    }

    /// Whether the durable value is the only one that is left.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    /// The version that survives a loss of power; `None` for the durable one.
    pub fn survivor(&self, dice: &mut Dice<'_>) -> Option<T> {
        survivor([self].into_iter(), dice).and_then(|write| self.at(write))
    }
}

/// The number of the last write that survives of things that the disk writes at once; `None` if none does.
pub fn survivor<'u, T: Clone + 'u>(
    parts: impl Iterator<Item = &'u Unsynced<T>> + Clone,
    dice: &mut Dice<'_>,
) -> Option<u64> {
    let mut writes: Vec<u64> = parts.clone().flat_map(Unsynced::writes).collect();
    writes.sort_unstable();
    writes.dedup();
    if writes.is_empty() || !dice.survives(parts.clone().any(Unsynced::is_dirty)) {
        return None;
    }
    let chosen = dice.version(writes.len()).unwrap_or(writes.len() - 1);
    Some(writes[chosen])
}
