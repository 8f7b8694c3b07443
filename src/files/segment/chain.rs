//! Links from what one file holds of a channel to older files that hold it too.
//!
//! A reader that looks for an old seq would otherwise walk file by file. So each file's part of a channel has two links:
//! to the part before it, and by a skew-binary rule to one possibly far back. The rule depends on the number of parts
//! before alone, and makes the number of steps logarithmic. From a part, a reader that looks for a seq follows `jump` if
//! that is not too far back, else `prev`.
//!
//! Invariants: a link names a message, of both a lesser seq and a lesser version than all that the part holds; `jump` leads
//! at least as far back as `prev`. Merges make parts fewer, and a link then leads to the part that holds its message, so
//! that no merge breaks one.

use crate::env::fault;
/// A message that a link leads to. The default leads nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its version, which tells the file; 0 if there is no message.
    pub version: u64,
    /// Its seq; 0 if there is no message.
    pub seq: u64,
}

impl Link {
    /// Whether it leads nowhere.
    pub fn is_none(&self) -> bool {
        *self == Link::default()
    }

    /// Whether it names a message.
    pub(super) fn is_some(&self) -> bool {
        self.version > 0 && self.seq > 0
    }
}

/// How a part of a channel continues in older files. The default is the first part's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The channel's last message before this part.
    pub prev: Link,
    /// The last message of some older part.
    pub jump: Link,
    /// How many parts came before when this one was made.
    pub depth: u32,
}

impl Chain {
    /// The chain of a part that follows the part `parent`, whose last message is `prev`. `jump_parent` is the chain of the
    /// part where the parent's jump leads, if it has one. Without it the new part's jump is short, and still right.
    pub fn after(prev: Link, parent: &Chain, jump_parent: Option<&Chain>) -> Chain {
        // Two equal jumps after one another make one that passes both.
        let even = |far: &&Chain| {
            let (near, next) = (parent.depth.checked_sub(far.depth), far.depth - jump_depth(far.depth));
            far.jump.is_some() && near == Some(next)
        };
        let jump = jump_parent
            .filter(|far| even(far) || fault(82) && far.jump.is_some())
            .map_or(prev, |far| far.jump);
        Chain { prev, jump, depth: parent.depth.saturating_add(1) }
    }

    /// Whether the links are none or lead backwards, the jump at least as far as the other.
    pub(super) fn is_sane(&self) -> bool {
        let Chain { prev, jump, depth } = *self;
        let back = jump.is_none() || (jump.is_some() && jump.version <= prev.version && jump.seq <= prev.seq);
        back && (prev.is_some() || (prev.is_none() && jump.is_none() && depth == 0))
    }
}

/// The depth of the part where the jump of a part of this depth leads.
fn jump_depth(depth: u32) -> u32 {
    // In skew-binary the digits stand for 2^k - 1; a jump passes the least of them that is not zero.
    let (mut rest, mut digit) = (u64::from(depth), 0);
    while rest > 0 {
        digit = (1 << (rest + 1).ilog2()) - 1;
        rest -= digit;
    }
    depth - digit as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last message of part `n`. Parts have several messages each.
    fn last(n: usize) -> Link {
        Link { version: n as u64 * 10 + 5, seq: n as u64 * 3 + 3 }
    }

    fn part(link: Link) -> usize {
        (link.seq / 3 - 1) as usize
    }

    fn chains(count: usize) -> Vec<Chain> {
        let mut chains = vec![Chain::default()];
        for n in 1..count {
            let parent = chains[n - 1];
            let jump_parent = (!parent.jump.is_none()).then(|| chains[part(parent.jump)]);
            chains.push(Chain::after(last(n - 1), &parent, jump_parent.as_ref()));
        }
        chains
    }

    #[test]
    fn any_part_is_found_in_few_steps() {
        const COUNT: usize = 10_000;
        let chains = chains(COUNT);
        let most = 2 * COUNT.next_power_of_two().ilog2() + 2;
        for target in 0..COUNT {
            for seq in [last(target).seq - 2, last(target).seq] {
                let (mut at, mut steps) = (COUNT - 1, 0);
                while at > 0 && last(at - 1).seq >= seq {
                    let Chain { prev, jump, .. } = chains[at];
                    at = part(if jump.seq >= seq { jump } else { prev });
                    steps += 1;
                }
                assert_eq!(at, target);
                assert!(steps <= most, "{steps} steps to part {target}");
            }
        }
    }

    #[test]
    fn the_depth_tells_how_far_a_jump_leads() {
        let chains = chains(2000);
        for (n, chain) in chains.iter().enumerate().skip(1) {
            assert!(chain.is_sane());
            assert_eq!((chain.depth as usize, part(chain.prev)), (n, n - 1));
            assert_eq!(part(chain.jump), jump_depth(n as u32) as usize);
        }
        assert!(jump_depth(u32::MAX) < u32::MAX);
    }

    #[test]
    fn a_chain_of_any_parents_leads_back() {
        let far = Chain { prev: last(1), jump: last(0), depth: 2 };
        for (depth, jump) in [(0, None), (9, Some(&far)), (u32::MAX, Some(&far)), (3, Some(&far))] {
            let parent = Chain { prev: last(7), jump: last(5), depth };
            let chain = Chain::after(last(8), &parent, jump);
            assert!(chain.is_sane() && chain.prev == last(8));
        }
        assert_eq!(Chain::after(last(8), &Chain::default(), None).jump, last(8));
    }
}
