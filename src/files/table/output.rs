//! Where a run is written to: a sealed file that asks for leave now and then, so that a long write yields to others and
//! can be stopped.

use crate::error::Result;
use crate::files::sealed::SealedWriter;

/// How many bytes may be written between two calls of the pace.
const STRIDE: u64 = 64 * 1024;

/// A paced sealed file in the making.
pub struct Output<'p> {
    file: SealedWriter,
    pace: Box<dyn FnMut(u64) -> Result<()> + 'p>,
    unpaced: u64,
}

impl<'p> Output<'p> {
    /// `pace` is told of written bytes, may wait, and stops the write by an error.
    pub fn new(file: SealedWriter, pace: impl FnMut(u64) -> Result<()> + 'p) -> Self {
        Output { file, pace: Box::new(pace), unpaced: 0 }
    }

    /// The offset in the file of the next byte.
    pub fn position(&self) -> u64 {
        self.file.position()
    }

    /// Appends content.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for part in bytes.chunks(STRIDE as usize) {
            self.file.write(part)?;
            self.unpaced += part.len() as u64;
            if self.unpaced >= STRIDE {
                (self.pace)(std::mem::take(&mut self.unpaced))?;
            }
        }
        Ok(())
    }

    /// Appends an array of integers, without a second copy of all of it.
    pub fn write_u64s(&mut self, values: &[u64]) -> Result<()> {
        let mut buffer = Vec::with_capacity(8 * values.len().min(1024));
        for part in values.chunks(1024) {
            buffer.clear();
            buffer.extend(part.iter().flat_map(|value| value.to_le_bytes()));
            self.write(&buffer)?;
        }
        Ok(())
    }

    /// Ends the file and syncs it. Returns its length.
    pub fn finish(mut self, footer: &[u8]) -> Result<u64> {
        (self.pace)(self.unpaced)?;
        self.file.finish(footer)
    }
}
