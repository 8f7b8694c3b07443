//! Deliberate faults: mistakes that stand in the code behind numbers, to show that a test catches each of them.
//!
//! A build with `--cfg deliberate_faults` makes the one that the environment variable `CHANLOG_FAULT` names. Any other build
//! makes none: there [`fault`] is a constant, and what it guards is compiled away. `tests/deliberate.md` lists them.

/// Whether the mistake of this number is to be made.
#[cfg(not(deliberate_faults))]
#[inline(always)]
pub const fn fault(_number: u32) -> bool {
    false
}

/// Whether the mistake of this number is to be made.
#[cfg(deliberate_faults)]
pub fn fault(number: u32) -> bool {
    super::os::chosen_fault() == number
}

/// Does a step, unless the mistake of this number is to forget it.
#[inline(always)]
pub fn unless<E>(number: u32, step: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    if fault(number) { Ok(()) } else { step() }
}

/// Does a step that can't fail, unless the mistake of this number is to forget it.
#[inline(always)]
pub fn skip(number: u32, step: impl FnOnce()) {
    if !fault(number) {
        step();
    }
}
