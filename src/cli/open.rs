//! Finding a store that is there already: reading commands never make one.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use chanlog::{Options, Store};

use crate::failure::{Failure, Result};

/// A store's directory holds the first of these, or, where a crash cut its creation, one of the others.
const SIGNS: [&str; 3] = ["chanlog.manifest", "chanlog.manifest.tmp", "chanlog.lock"];

/// Opens an existing store to be read, beside whoever writes it. Not a byte, name or time of it changes.
pub fn existing(dir: &Path) -> Result<Store> {
    check(dir)?;
    Ok(Options::new().read_only(true).open(dir)?)
}

/// Fails unless `dir` holds a store.
pub fn check(dir: &Path) -> Result {
    let entries = fs::read_dir(dir).map_err(|e| Failure::told(format!("{}: {e}", dir.display())))?;
    let is_sign = |name: &OsStr| SIGNS.iter().any(|sign| name == *sign);
    if entries.flatten().any(|entry| is_sign(&entry.file_name())) {
        return Ok(());
    }
    Err(Failure::told(format!("{} holds no chanlog store", dir.display())))
}

/// The bytes of a name from the command line. On Unix they are what was typed, UTF-8 or not.
pub fn name(argument: &OsStr) -> &[u8] {
    argument.as_encoded_bytes()
}

/// A command that makes a store of its own needs a directory that is absent or empty.
pub fn check_fresh(dir: &Path) -> Result {
    match fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        true => Err(Failure::told(format!("{} is not empty; a fresh directory is needed", dir.display()))),
        false => Ok(()),
    }
}
