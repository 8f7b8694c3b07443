//! Batches: what a caller asks to be written, as bytes.

use super::codec::{Put, Reader};
use super::ids::Named;
use super::op::{Encoder, Fields, Operation};
use crate::error::{Error, Result};

/// What an acknowledgement of a commit promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// On disk: it survives the loss of power. No reader sees it earlier.
    #[default]
    Sync,
    /// With the operating system: it survives the end of the process, but a loss of power may take the last ones. What
    /// may be lost is bounded by [`Options::sync_interval`](crate::Options::sync_interval) and by
    /// [`BUFFERED_WINDOW`](crate::BUFFERED_WINDOW) messages.
    Buffered,
}

/// Operations that are written together or not at all, in order, each seeing the ones before it.
///
/// Names are 1 to 255 bytes, any bytes. A batch can be committed several times. It keeps its operations as bytes in one
/// buffer, so that adding one allocates nothing of its own.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use chanlog::{Batch, Draft, Store};
/// let store = Store::open(dir.path())?;
/// let mut batch = Batch::new();
/// batch.join("general", "alice").join("general", "bob");
/// batch.append("general", Draft::new("alice", 1_700_000_000_000, "hello"));
/// let receipt = store.commit(&batch)?;
/// assert_eq!(receipt.outcomes()[2].seq(), Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    count: usize,
    pub(crate) durability: Option<Durability>,
    pub(crate) time: Option<i64>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Batch::default()
    }

    /// How many operations it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it holds no operation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Removes all operations, and keeps the buffer, the chosen durability and the time.
    pub fn reset(&mut self) -> &mut Self {
        self.bytes.clear();
        self.count = 0;
        self
    }

    /// Chooses the durability of this batch, in place of the store's.
    pub fn durability(&mut self, durability: Durability) -> &mut Self {
        self.durability = Some(durability);
        self
    }

    /// Says the batch's time, in Unix milliseconds. In a replica ([`Options::replica`](crate::Options::replica)) the greatest one so
    /// far stands in place of the clock; it is no part of [`Batch::as_bytes`], so that it is to be replicated beside them. Any
    /// other store has a clock, and ignores it.
    pub fn time(&mut self, unix_ms: i64) -> &mut Self {
        self.time = Some(unix_ms);
        self
    }

    /// Adds an operation.
    pub(crate) fn push<'a, O: Operation<'a>>(&mut self, mut op: O) -> &mut Self {
        self.bytes.put_u8(O::CODE);
        op.fields(&mut Encoder(&mut self.bytes));
        self.count += 1;
        self
    }

    /// The operations as bytes: a stable encoding, for programs in other languages.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The batch whose operations have these bytes.
    ///
    /// ```
    /// use chanlog::Batch;
    /// let mut batch = Batch::new();
    /// batch.join("general", "alice");
    /// let same = Batch::from_bytes(batch.as_bytes())?;
    /// assert_eq!(same.len(), 1);
    /// # Ok::<(), chanlog::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] names the first operation that is not valid.
    pub fn from_bytes(bytes: &[u8]) -> Result<Batch> {
        let mut reader = Reader::new(bytes);
        let mut count = 0;
        while !reader.is_empty() {
            let op = super::Op::decode(&mut reader);
            op.ok_or_else(|| Error::InvalidArgument { what: "no valid operation".into(), op: Some(count) })?;
            count += 1;
        }
        Ok(Batch { bytes: bytes.into(), count, durability: None, time: None })
    }

    /// Whether it may be written where the disk is full: all of it makes room, or only goes with what does.
    pub(crate) fn makes_room(&self) -> bool {
        self.ops().all(|op| op.makes_room())
    }

    /// The operations.
    pub(crate) fn ops(&self) -> impl Iterator<Item = super::Op<'_>> {
        let mut reader = Reader::new(&self.bytes);
        // What was pushed decodes.
        std::iter::from_fn(move || super::Op::decode(&mut reader))
    }
}

/// The value of an operation's field, see [`Batch::operation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Argument<'a> {
    /// A name, a payload, or a list of names, each with its length as a varint before it.
    Bytes(&'a [u8]),
    /// A seq or another number; also a time.
    Number(i128),
    /// Yes or no.
    Flag(bool),
}

impl Batch {
    /// The names of all operations, for [`Batch::operation`].
    pub const OPERATIONS: &'static [&'static str] = super::Op::NAMES;

    /// Adds an operation by its name, with fields by their names: for formats such as JSON, which then know every operation
    /// that there is. The fields of an operation are those of its method here. Names and payloads are bytes.
    ///
    /// ```
    /// use chanlog::{Argument, Batch};
    /// let mut batch = Batch::new();
    /// batch.operation("read", &mut |field| match field {
    ///     "channel" => Some(Argument::Bytes(b"general")),
    ///     "user" => Some(Argument::Bytes(b"alice")),
    ///     "seq" => Some(Argument::Number(7)),
    ///     _ => None,
    /// })?;
    /// assert_eq!(batch.as_bytes(), Batch::new().read("general", "alice", 7).as_bytes());
    /// # Ok::<(), chanlog::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if there is no such operation, a field is missing, or its value is of a wrong kind.
    pub fn operation<'a>(
        &mut self,
        name: &str,
        fields: &mut dyn FnMut(&str) -> Option<Argument<'a>>,
    ) -> Result<&mut Self> {
        let unknown = || Error::invalid(format!("there is no operation {name:?}"));
        let mut op = super::Op::named(name).ok_or_else(unknown)?;
        let mut given = Given { fields, wrong: None };
        op.fields(&mut given);
        if let Some(label) = given.wrong {
            let what = format!("the operation {:?} needs a field {label:?} of another kind", op.name());
            return Err(Error::invalid(what));
        }
        op.encode(&mut self.bytes);
        self.count += 1;
        Ok(self)
    }
}

/// Takes the fields of an operation from arguments.
struct Given<'f, 'a> {
    fields: &'f mut dyn FnMut(&str) -> Option<Argument<'a>>,
    /// The first field that is missing or wrong.
    wrong: Option<&'static str>,
}

impl<'a> Given<'_, 'a> {
    fn take<T>(
        &mut self,
        label: &'static str,
        value: &mut T,
        convert: impl FnOnce(Option<Argument<'a>>) -> Option<T>,
    ) {
        match convert((self.fields)(label)) {
            Some(given) => *value = given,
            None => self.wrong = self.wrong.or(Some(label)),
        }
    }
}

impl<'a> Fields<'a> for Given<'_, 'a> {
    fn name(&mut self, label: &'static str, _: Named, value: &mut &'a [u8]) {
        self.bytes(label, value);
    }

    fn number(&mut self, label: &'static str, value: &mut u64) {
        self.take(label, value, |given| match given? {
            Argument::Number(number) => number.try_into().ok(),
            _ => None,
        });
    }

    fn maybe(&mut self, label: &'static str, value: &mut Option<u64>) {
        self.take(label, value, |given| match given {
            None => Some(None),
            Some(Argument::Number(number)) => number.try_into().ok().map(Some),
            Some(_) => None,
        });
    }

    fn time(&mut self, label: &'static str, value: &mut i64) {
        self.take(label, value, |given| match given? {
            Argument::Number(number) => number.try_into().ok(),
            _ => None,
        });
    }

    fn flag(&mut self, label: &'static str, value: &mut bool) {
        self.take(label, value, |given| match given {
            None => Some(false),
            Some(Argument::Flag(flag)) => Some(flag),
            Some(_) => None,
        });
    }

    fn bytes(&mut self, label: &'static str, value: &mut &'a [u8]) {
        self.take(label, value, |given| match given? {
            Argument::Bytes(bytes) => Some(bytes),
            _ => None,
        });
    }

    fn maybe_bytes(&mut self, label: &'static str, value: &mut Option<&'a [u8]>) {
        self.take(label, value, |given| match given {
            None => Some(None),
            Some(Argument::Bytes(bytes)) => Some(Some(bytes)),
            Some(_) => None,
        });
    }

    fn users(&mut self, label: &'static str, value: &mut &'a [u8]) {
        self.take(label, value, |given| match given {
            None => Some(&[][..]),
            Some(Argument::Bytes(list)) => Some(list),
            Some(_) => None,
        });
    }
}
