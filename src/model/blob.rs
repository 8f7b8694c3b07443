//! Blobs: the fields of rows that hold bytes of any length.
//!
//! Up to [`INLINE`] bytes lie in the row itself. Longer ones are a record of their own, a *value*, and the row holds where
//! that is: merges of runs move rows, and so never rewrite a long value. A value is found by its version, which is below
//! that of every row that names it. It is never changed.

use std::sync::Arc;

use bytes::Bytes;

use super::image::{Field, Stored, Value};

/// The most bytes that lie in the row itself.
pub const INLINE: usize = 1024;

/// Bytes that a server keeps with something, such as the attributes of a membership.
///
/// Up to 1,024 bytes come with the row that they belong to. Longer ones lie elsewhere: whoever asks for one row gets them
/// too, while lists of conversations load them only if [`Conversations::with_attributes`](crate::Conversations::with_attributes)
/// says so. It is equal to bytes if it holds them.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let store = chanlog::Store::open(dir.path())?;
/// use chanlog::Batch;
/// store.commit(Batch::new().join("general", "bob").attributes("general", "bob", [7; 2000]).activate("general", "bob"))?;
/// let listed = &store.conversations("bob").list()?.entries[0].membership;
/// assert_eq!((listed.attributes.len(), listed.attributes.bytes()), (2000, None));
/// let asked = store.membership("general", "bob")?.expect("bob joined");
/// assert_eq!(asked.attributes, [7; 2000]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "Form", into = "Form")
)]
pub struct Blob(BlobBytes);

#[derive(Clone, Debug)]
enum BlobBytes {
    Here(Bytes),
    /// A value, and its bytes once they were loaded. All copies of an image share them.
    Elsewhere(Arc<(Stored, Option<Bytes>)>),
}

impl Blob {
    /// Bytes in the row itself.
    pub(crate) fn here(bytes: &[u8]) -> Blob {
        Blob(BlobBytes::Here(Bytes::copy_from_slice(bytes)))
    }

    /// A value that was not loaded.
    pub(crate) fn elsewhere(stored: Stored) -> Blob {
        Blob(BlobBytes::Elsewhere(Arc::new((stored, None))))
    }

    /// The value that it is, loaded or not.
    pub(crate) fn stored(&self) -> Option<&Stored> {
        match &self.0 {
            BlobBytes::Here(_) => None,
            BlobBytes::Elsewhere(value) => Some(&value.0),
        }
    }

    /// Takes the bytes of its value.
    pub(crate) fn fill(&mut self, bytes: Bytes) {
        if let Some(stored) = self.stored() {
            self.0 = BlobBytes::Elsewhere(Arc::new((*stored, Some(bytes))));
        }
    }

    /// How many bytes there are, loaded or not.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            BlobBytes::Here(bytes) => bytes.len(),
            BlobBytes::Elsewhere(value) => value.0.len as usize,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes; `None` if they were not loaded, which only a list leaves out, or a fault that is told beside it.
    #[must_use]
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.0 {
            BlobBytes::Here(bytes) => Some(bytes),
            BlobBytes::Elsewhere(value) => value.1.as_ref(),
        }
    }
}

impl Default for Blob {
    fn default() -> Self {
        Blob(BlobBytes::Here(Bytes::new()))
    }
}

impl PartialEq for Blob {
    /// Whether the bytes are the same, or the values, if neither was loaded.
    fn eq(&self, other: &Self) -> bool {
        match (self.bytes(), other.bytes()) {
            (None, None) => self.stored() == other.stored(),
            (bytes, others) => bytes == others,
        }
    }
}

impl Eq for Blob {}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Blob {
    fn eq(&self, other: &T) -> bool {
        self.bytes().is_some_and(|bytes| bytes == other.as_ref())
    }
}

impl Field for Blob {
    fn value(&self) -> Value<'_> {
        match &self.0 {
            BlobBytes::Here(bytes) => Value::Bytes(bytes),
            BlobBytes::Elsewhere(value) => Value::Stored(value.0),
        }
    }

    fn take(&mut self, value: Value<'_>) -> Option<()> {
        *self = match value {
            // What is read from a file is copied once: the file's bytes may go.
            Value::Bytes(bytes) => Blob::here(bytes),
            Value::Stored(stored) => Blob::elsewhere(stored),
            _ => return None,
        };
        Some(())
    }

    fn heap(&self) -> usize {
        let loaded = self.bytes().map_or(0, Bytes::len);
        loaded + self.stored().map_or(0, |_| size_of::<(Stored, Option<Bytes>)>() + 16)
    }
}

/// How a blob is serialized: its bytes, or where they are if they were not loaded.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    Bytes(Bytes),
    Stored(Stored),
}

#[cfg(feature = "serde")]
impl From<Blob> for Form {
    fn from(blob: Blob) -> Form {
        match (blob.bytes(), blob.stored()) {
            (None, Some(stored)) => Form::Stored(*stored),
            (bytes, _) => Form::Bytes(bytes.cloned().unwrap_or_default()),
        }
    }
}

#[cfg(feature = "serde")]
impl From<Form> for Blob {
    fn from(form: Form) -> Blob {
        match form {
            Form::Bytes(bytes) => Blob(BlobBytes::Here(bytes)),
            Form::Stored(stored) => Blob::elsewhere(stored),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::image::{Image, MAX_VALUE};
    use crate::model::membership::Membership;

    const STORED: Stored = Stored { version: 7, len: 2000, hash: 9 };

    #[test]
    fn bytes_and_values_are_equal_to_what_they_hold() {
        let (here, mut value) = (Blob::here(&[1; 2000]), Blob::elsewhere(STORED));
        assert_eq!((value.len(), value.bytes(), value.is_empty()), (2000, None, false));
        assert_eq!(value, Blob::elsewhere(STORED));
        assert_ne!(value, Blob::elsewhere(Stored { version: 8, ..STORED }));
        assert_ne!(value, here);
        assert_ne!(value, [1; 2000]);
        value.fill(Bytes::from(vec![1; 2000]));
        assert_eq!((&value, value.stored()), (&here, Some(&STORED)));
        assert_eq!(value, [1; 2000]);
        assert_eq!(Blob::default(), "");
    }

    #[test]
    fn a_place_where_no_value_can_be_is_none() {
        for (version, len) in [(0, 1), (1, 0), (1, MAX_VALUE + 1), (u64::MAX, u32::MAX)] {
            assert_eq!(Stored::new(version, len, 0), None, "{version} {len}");
        }
        assert_eq!(Stored::new(7, 2000, 9), Some(STORED));
    }

    #[test]
    fn an_image_names_only_values_that_are_older() {
        let mut image = Membership { version: 8, ..Membership::default() };
        image.attributes = Blob::elsewhere(STORED);
        let mut bytes = Vec::new();
        image.encode(&mut bytes);
        assert_eq!(Membership::decode(8, &bytes), Some(image.clone()));
        assert_eq!(Membership::decode(7, &bytes), None);
        // In a field that this release does not know, too.
        image.attributes = Blob::default();
        image.set(31, Value::Stored(STORED)).unwrap();
        bytes.clear();
        image.encode(&mut bytes);
        assert_eq!(Membership::decode(8, &bytes), Some(image));
        assert_eq!(Membership::decode(7, &bytes), None);
        // Cut short, and a length that can't be.
        for len in 1..bytes.len() - 1 {
            assert_eq!(Membership::decode(8, &bytes[..bytes.len() - len]), None);
        }
    }
}
