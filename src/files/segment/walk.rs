//! Shows all records of a segment, in the order in which they lie, past whatever can't be read.
//!
//! It reads past the shared cache, one block at a time.

use super::reader::Segment;
use crate::error::{Error, Result};
use crate::files::record::Record;

/// Looks at the records of a segment.
pub trait Walker {
    /// Whether it wants records of which the least and the greatest version are these.
    fn wants(&self, versions: (u64, u64)) -> bool;
    /// Takes an encoded record, wanted or not.
    fn record(&mut self, bytes: &[u8], record: &Record<'_>) -> Result<()>;
    /// Is told of a part that can't be read. Its error ends the walk; else what follows is shown.
    fn unreadable(&mut self, fault: Error) -> Result<()>;
}

impl Segment {
    /// Shows all records to a walker: those in blocks, then the tails.
    pub fn walk(&self, walker: &mut dyn Walker) -> Result<()> {
        for n in 0..self.footer.blocks {
            self.walk_block(n, walker).or_else(|fault| pass(fault, walker))?;
        }
        for n in 0..self.footer.groups() {
            self.walk_tails(n, walker).or_else(|fault| pass(fault, walker))?;
        }
        Ok(())
    }

    fn walk_block(&self, n: u64, walker: &mut dyn Walker) -> Result<()> {
        if !walker.wants(self.handle(n)?.summary.versions) {
            return Ok(());
        }
        let block = self.load(n)?;
        for at in 0..block.len() {
            let bytes = block.encoded(at);
            let record = Record::decode(bytes).ok_or_else(|| self.corrupt("a record does not decode"))?;
            walker.record(bytes, &record)?;
        }
        Ok(())
    }

    fn walk_tails(&self, n: u64, walker: &mut dyn Walker) -> Result<()> {
        for entry in self.entries(n)? {
            let tail = self.checked(entry).and_then(|entry| self.tail_bytes(&entry));
            match tail {
                Ok(Some(bytes)) => {
                    let record =
                        Record::decode(&bytes).ok_or_else(|| self.corrupt("a tail does not decode"))?;
                    walker.record(&bytes, &record)?;
                }
                Ok(None) => {}
                Err(fault) => pass(fault, walker)?,
            }
        }
        Ok(())
    }
}

/// Damage may be passed by; any other error ends the walk.
fn pass(fault: Error, walker: &mut dyn Walker) -> Result<()> {
    match fault {
        Error::Corruption { .. } => walker.unreadable(fault),
        error => Err(error),
    }
}
