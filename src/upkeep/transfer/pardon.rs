//! What becomes of damage that is met while a store is told.

use crate::error::{Error, Result};

/// Whether damage is an error, or noted and passed by.
#[derive(Debug, Default)]
pub struct Pardon {
    /// Damage is passed by.
    pub lenient: bool,
    /// What was.
    pub faults: Vec<Error>,
}

impl Pardon {
    /// Notes a fault, or gives it back.
    pub fn note(&mut self, fault: Error) -> Result<()> {
        match fault {
            Error::Corruption { .. } if self.lenient => {
                self.faults.push(fault);
                Ok(())
            }
            fault => Err(fault),
        }
    }
}
