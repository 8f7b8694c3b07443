//! Images and patches: how a small row is written.
//!
//! An *image* is a whole row. A *patch* is the outcome of an operation on a row: the fields that get new values. Patches
//! stand in the log only; layers in memory and files hold images, so that the newest source that has a key is right.
//!
//! ```text
//! image    codes u8, marks, fields           (a table without marks has no codes)
//!   codes  two bits for each mark, lowest first: 0 = the zero mark, 1 = the mark before it, 2 = a seq, 3 = a seq and a lag
//!   marks  seq as a signed difference to the mark before; with code 3 then the lag (seq - ordinal) likewise
//! patch    fields; field 0 sets the row back to its default first
//! field    number * 8 + type u8, then by type:
//!          0 = a number v    1 = a mark: seq v, lag v    2 = bytes: len v, bytes    3 = a signed number
//!          4 = a value that lies elsewhere: version v, len v, hash u64 (see `blob`)
//! ```
//!
//! The mark before is the last one that is not zero. A field that has its default value is not written. Fields that this
//! release does not know are kept as they are. An image does not hold its version: that stands beside it.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::codec::{Put, Reader};
use super::key::TableKey;
use super::mark::Mark;

/// The bit of a tag that says that an image may be dropped one day.
pub const TOMBSTONE: u8 = 2;

/// A row of a table: what the kernel has to know of it. Made by the macro `image!`.
pub trait Image: Clone + Default + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// The table's number in files.
    const TABLE: u8;
    /// What its rows are found by.
    type Key: TableKey;
    /// The names of its marks and fields, by their numbers.
    const FIELDS: &'static [(u8, &'static str)];

    /// The version of the row's last change.
    fn version(&self) -> u64;
    /// Sets the version of the row's last change.
    fn set_version(&mut self, version: u64);
    /// Two bits that files keep beside the key: [`TOMBSTONE`], and one that is free.
    fn tag(&self) -> u8;
    /// How many bytes it holds beside itself.
    fn heap(&self) -> usize;
    /// Appends the image's bytes.
    fn encode(&self, out: &mut Vec<u8>);
    /// Shows the marks and fields that differ from their defaults, in the order of the image.
    fn each_field(&self, see: &mut dyn FnMut(u8, Value<'_>));
    /// The image of bytes, with the version that stands beside them; `None` if they are not valid.
    fn decode(version: u64, bytes: &[u8]) -> Option<Self> {
        let mut image = Self::default();
        image.decode_into(version, bytes)?;
        Some(image)
    }
    /// Shows the versions of the values that an image names; `None` if it is not valid.
    fn values(bytes: &[u8], see: &mut dyn FnMut(u64)) -> Option<()>;
    /// The same, in place of another row.
    fn decode_into(&mut self, version: u64, bytes: &[u8]) -> Option<()>;
    /// Sets a field to what a patch says; `None` if the value is of a wrong type.
    fn set(&mut self, number: u8, value: Value<'_>) -> Option<()>;
    /// A patch that did not set the row back changed it; its version was `before`.
    fn changed(&mut self, before: u64);
}

/// The longest value that lies outside of its row, in bytes.
pub const MAX_VALUE: u32 = 16 << 20;

/// Where a value is, and what it is checked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Stored {
    /// The version of its record.
    pub version: u64,
    /// Its length.
    pub len: u32,
    /// Its hash under the store's random key, so that equal bytes are known without reading them.
    pub hash: u64,
}

impl Stored {
    /// `None` if no value can be there.
    pub fn new(version: u64, len: u32, hash: u64) -> Option<Stored> {
        (version > 0 && (1..=MAX_VALUE).contains(&len)).then_some(Stored { version, len, hash })
    }
}

/// The value of a field in an image or a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Type 0.
    Number(u64),
    /// Type 1.
    Mark(Mark),
    /// Type 2.
    Bytes(&'a [u8]),
    /// Type 3.
    Signed(i64),
    /// Type 4.
    Stored(Stored),
}

impl Value<'_> {
    /// `None` if it can't be that of a row with this version: what a row names is older.
    pub fn before(self, version: u64) -> Option<Self> {
        match self {
            Value::Stored(stored) if stored.version >= version => None,
            value => Some(value),
        }
    }
}

/// The type of a field in memory. A field that has its default is not written in images.
pub trait Field: Default + PartialEq {
    /// The value as it is written.
    fn value(&self) -> Value<'_>;
    /// Takes a value that was read; `None` if it is of a wrong type.
    fn take(&mut self, value: Value<'_>) -> Option<()>;
    /// How many bytes it holds beside itself.
    fn heap(&self) -> usize {
        0
    }
}

impl Field for Mark {
    fn value(&self) -> Value<'_> {
        Value::Mark(*self)
    }

    fn take(&mut self, value: Value<'_>) -> Option<()> {
        let Value::Mark(mark) = value else { return None };
        *self = mark;
        Some(())
    }
}

impl Field for u64 {
    fn value(&self) -> Value<'_> {
        Value::Number(*self)
    }

    fn take(&mut self, value: Value<'_>) -> Option<()> {
        let Value::Number(number) = value else { return None };
        *self = number;
        Some(())
    }
}

impl Field for u8 {
    fn value(&self) -> Value<'_> {
        Value::Number((*self).into())
    }

    fn take(&mut self, value: Value<'_>) -> Option<()> {
        let Value::Number(number) = value else { return None };
        *self = number.try_into().ok()?;
        Some(())
    }
}

/// Opaque bytes, which all copies of an image share. What is read from a file is copied once: the file's bytes may go.
impl Field for Bytes {
    fn value(&self) -> Value<'_> {
        Value::Bytes(self)
    }

    fn take(&mut self, value: Value<'_>) -> Option<()> {
        let Value::Bytes(bytes) = value else { return None };
        *self = Bytes::copy_from_slice(bytes);
        Some(())
    }

    fn heap(&self) -> usize {
        self.len()
    }
}

impl Field for bool {
    fn value(&self) -> Value<'_> {
        Value::Number((*self).into())
    }

    fn take(&mut self, value: Value<'_>) -> Option<()> {
        let Value::Number(number @ 0..=1) = value else { return None };
        *self = number == 1;
        Some(())
    }
}

/// What stands for an absent time.
const NEVER: i64 = i64::MIN;

impl Field for Option<i64> {
    fn value(&self) -> Value<'_> {
        Value::Signed(self.unwrap_or(NEVER))
    }

    fn take(&mut self, value: Value<'_>) -> Option<()> {
        let Value::Signed(number) = value else { return None };
        *self = Some(number).filter(|number| *number != NEVER);
        Some(())
    }
}

const NUMBER: u8 = 0;
const MARK: u8 = 1;
const BYTES: u8 = 2;
const SIGNED: u8 = 3;
const STORED: u8 = 4;
/// The number of the field that sets a row back.
const RESET: u8 = 0;

/// Appends a field.
pub fn put_field(out: &mut impl Put, number: u8, value: Value<'_>) {
    let lead = number << 3;
    match value {
        Value::Number(n) => {
            out.put_u8(lead | NUMBER);
            out.put_varint(n);
        }
        Value::Mark(mark) => {
            out.put_u8(lead | MARK);
            out.put_varint(mark.seq);
            out.put_varint(mark.lag());
        }
        Value::Bytes(bytes) => {
            out.put_u8(lead | BYTES);
            out.put_varint(bytes.len() as u64);
            out.put(bytes);
        }
        Value::Signed(n) => {
            out.put_u8(lead | SIGNED);
            out.put_signed(n);
        }
        Value::Stored(Stored { version, len, hash }) => {
            out.put_u8(lead | STORED);
            out.put_varint(version);
            out.put_varint(len.into());
            out.put_u64(hash);
        }
    }
}

/// Reads a field: its number and its value.
pub fn take_field<'a>(r: &mut Reader<'a>) -> Option<(u8, Value<'a>)> {
    let lead = r.u8()?;
    let value = match lead & 7 {
        NUMBER => Value::Number(r.varint()?),
        MARK => Value::Mark(Mark::with_lag(r.varint()?, r.varint()?)?),
        BYTES => {
            let len = usize::try_from(r.varint()?).ok()?;
            Value::Bytes(r.bytes(len)?)
        }
        SIGNED => Value::Signed(r.signed()?),
        STORED => Value::Stored(Stored::new(r.varint()?, r.varint32()?, r.u64()?)?),
        _ => return None,
    };
    Some((lead >> 3, value))
}

/// Fields that few rows have set, in one place that all copies of a row share. A row with none of them set has no such place,
/// and takes 8 bytes for it.
#[derive(Clone)]
pub struct Seldom<F>(Option<Arc<F>>);

/// The fields in a [`Seldom`].
pub trait SeldomFields: Clone + Default + PartialEq + 'static {
    /// All of them with their defaults.
    fn plain() -> &'static Self;
}

impl<F> Default for Seldom<F> {
    fn default() -> Self {
        Seldom(None)
    }
}

impl<F: SeldomFields> Seldom<F> {
    /// Makes them.
    #[cfg(feature = "serde")]
    pub fn new(fields: F) -> Self {
        Seldom(Some(fields).filter(|fields| fields != F::plain()).map(Arc::new))
    }

    /// The fields.
    pub fn get(&self) -> &F {
        self.0.as_deref().unwrap_or_else(|| F::plain())
    }

    /// The fields, to be changed: this row gets a place of its own for them.
    pub fn get_mut(&mut self) -> &mut F {
        Arc::make_mut(self.0.get_or_insert_default())
    }

    /// The bytes of that place.
    pub fn heap(&self) -> usize {
        self.0.as_ref().map_or(0, |_| size_of::<F>() + 16)
    }
}

impl<F: SeldomFields> PartialEq for Seldom<F> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<F: SeldomFields> Eq for Seldom<F> {}

impl<F: SeldomFields + std::fmt::Debug> std::fmt::Debug for Seldom<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

/// Fields that this release does not know, as bytes. Nearly always there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown(Option<Arc<Box<[u8]>>>);

impl Unknown {
    /// Keeps a field in place of an earlier one of its number.
    pub fn set(&mut self, number: u8, value: Value<'_>) {
        let mut kept = Vec::new();
        let mut r = Reader::new(self.bytes());
        while let Some((other, value)) = take_field(&mut r) {
            if other != number {
                put_field(&mut kept, other, value);
            }
        }
        put_field(&mut kept, number, value);
        self.0 = Some(Arc::new(kept.into()));
    }

    /// The fields.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_deref().map_or(&[], |bytes| bytes)
    }

    /// Shows each.
    pub fn each(&self, see: &mut dyn FnMut(u8, Value<'_>)) {
        let mut r = Reader::new(self.bytes());
        while let Some((number, value)) = take_field(&mut r) {
            see(number, value);
        }
    }
}

const ZERO: u8 = 0;
const SAME: u8 = 1;
const SEQ: u8 = 2;
const SEQ_AND_LAG: u8 = 3;

/// Appends up to four marks, packed.
pub fn put_marks(marks: &[Mark], out: &mut Vec<u8>) {
    if marks.is_empty() {
        return;
    }
    let codes_at = out.len();
    out.put_u8(0);
    let mut before = Mark::default();
    for (place, mark) in marks.iter().copied().enumerate() {
        let code = code(mark, before);
        out[codes_at] |= code << (2 * place);
        if code >= SEQ {
            out.put_signed(mark.seq.wrapping_sub(before.seq) as i64);
        }
        if code == SEQ_AND_LAG {
            out.put_signed(mark.lag().wrapping_sub(before.lag()) as i64);
        }
        if code != ZERO {
            before = mark;
        }
    }
}

fn code(mark: Mark, before: Mark) -> u8 {
    match mark {
        _ if mark == Mark::default() => ZERO,
        _ if mark == before => SAME,
        _ if mark.lag() == before.lag() => SEQ,
        _ => SEQ_AND_LAG,
    }
}

/// Reads packed marks.
pub fn take_marks<const N: usize>(r: &mut Reader<'_>) -> Option<[Mark; N]> {
    let codes = if N == 0 { 0 } else { r.u8()? };
    let mut before = Mark::default();
    let mut marks = [Mark::default(); N];
    for (place, mark) in marks.iter_mut().enumerate() {
        let code = (codes >> (2 * place)) & 3;
        *mark = match code {
            ZERO => continue,
            SAME => before,
            _ => {
                let seq = before.seq.wrapping_add(r.signed()? as u64);
                let lag = match code {
                    SEQ => before.lag(),
                    _ => before.lag().wrapping_add(r.signed()? as u64),
                };
                Mark::with_lag(seq, lag)?
            }
        };
        before = *mark;
    }
    Some(marks)
}

/// The fields that an operation gives new values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch(SmallVec<[u8; 32]>);

impl Patch {
    /// A patch that changes nothing so far.
    pub fn new() -> Patch {
        Patch::default()
    }

    /// A patch that begins with a row of default values.
    pub fn reset() -> Patch {
        Patch::default().set(RESET, 0u64)
    }

    /// Also sets a field.
    #[must_use]
    pub fn set(mut self, number: u8, value: impl Field) -> Patch {
        put_field(&mut self.0, number, value.value());
        self
    }

    /// The bytes for the log.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The row after a patch, which changed it at `version`; `None` if the patch is not valid.
pub fn patched<I: Image>(before: Option<I>, patch: &[u8], version: u64) -> Option<I> {
    let mut since = before.as_ref().map(I::version);
    let mut image = before.unwrap_or_default();
    let mut r = Reader::new(patch);
    while !r.is_empty() {
        match take_field(&mut r)? {
            (RESET, Value::Number(0)) => (image, since) = (I::default(), None),
            (number, value) => image.set(number, value.before(version)?)?,
        }
    }
    if let Some(since) = since {
        image.changed(since);
    }
    image.set_version(version);
    Some(image)
}

/// Defines a table's row: `mark` fields are packed, the others cost nothing while they have their default.
///
/// Adding a field is one line. Its number is never used again, even when the field is gone. What stands `beside` is not part
/// of the image: readers fill it in. What `changed` says is done whenever a patch changes a row without setting it back.
///
/// Fields that few rows have set may stand in a part `seldom Name { .. }`, which makes a struct of that name. They are read
/// and set as if they were the row's own (by `Deref`), and cost a row that has none of them 8 bytes in all.
macro_rules! image {
    (
        $(#[$doc:meta])*
        pub struct $name:ident: table $table:literal by $key:ty;
        marks { $($(#[$mark_doc:meta])* $mark:ident = $mark_no:literal,)* }
        fields { $($(#[$field_doc:meta])* $field:ident: $type:ty = $field_no:literal,)* }
        $($(#[$seldom_doc:meta])* seldom $seldom:ident {
            $($(#[$rare_doc:meta])* $rare:ident: $rare_type:ty = $rare_no:literal,)*
        })?
        beside { $($(#[$beside_doc:meta])* $beside:ident: $beside_type:ty,)* }
        tombstone $tombstone:expr;
        $(changed $changed:expr;)?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(from = "flat::Row", into = "flat::Row"))]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$mark_doc])* pub $mark: $crate::model::mark::Mark,)*
            $($(#[$field_doc])* pub $field: $type,)*
            $($(#[$beside_doc])* pub $beside: $beside_type,)*
            /// The version of the row's last change.
            pub version: u64,
            $(pub(crate) seldom: $crate::model::image::Seldom<$seldom>,)?
            pub(crate) unknown: $crate::model::image::Unknown,
        }

        $(
            $(#[$seldom_doc])*
            #[derive(Clone, Debug, Default, PartialEq, Eq)]
            #[non_exhaustive]
            pub struct $seldom {
                $($(#[$rare_doc])* pub $rare: $rare_type,)*
            }

            impl $crate::model::image::SeldomFields for $seldom {
                fn plain() -> &'static Self {
                    static PLAIN: std::sync::LazyLock<$seldom> = std::sync::LazyLock::new($seldom::default);
                    &PLAIN
                }
            }

            impl std::ops::Deref for $name {
                type Target = $seldom;

                fn deref(&self) -> &$seldom {
                    self.seldom.get()
                }
            }

            impl std::ops::DerefMut for $name {
                fn deref_mut(&mut self) -> &mut $seldom {
                    self.seldom.get_mut()
                }
            }
        )?

        /// The row with all fields on one level, as it is serialized.
        #[cfg(feature = "serde")]
        mod flat {
            #[allow(unused_imports)]
            use super::*;

            #[derive(serde::Serialize, serde::Deserialize)]
            pub struct Row {
                $($mark: $crate::model::mark::Mark,)*
                $($field: $type,)*
                $($($rare: $rare_type,)*)?
                $($beside: $beside_type,)*
                version: u64,
            }

            impl From<$name> for Row {
                fn from(row: $name) -> Row {
                    Row {
                        $($($rare: row.$rare.clone(),)*)?
                        $($mark: row.$mark,)*
                        $($field: row.$field,)*
                        $($beside: row.$beside,)*
                        version: row.version,
                    }
                }
            }

            impl From<Row> for $name {
                fn from(row: Row) -> $name {
                    $name {
                        $(seldom: $crate::model::image::Seldom::new($seldom { $($rare: row.$rare,)* }),)?
                        $($mark: row.$mark,)*
                        $($field: row.$field,)*
                        $($beside: row.$beside,)*
                        version: row.version,
                        unknown: Default::default(),
                    }
                }
            }
        }

        /// The numbers of the fields in files.
        #[allow(non_upper_case_globals, dead_code)]
        pub(crate) mod field {
            $(pub const $mark: u8 = $mark_no;)*
            $(pub const $field: u8 = $field_no;)*
            $($(pub const $rare: u8 = $rare_no;)*)?
        }

        impl $crate::model::image::Image for $name {
            const TABLE: u8 = $table;
            type Key = $key;
            const FIELDS: &'static [(u8, &'static str)] = &[
                $(($mark_no, stringify!($mark)),)*
                $(($field_no, stringify!($field)),)*
                $($(($rare_no, stringify!($rare)),)*)?
            ];

            fn version(&self) -> u64 {
                self.version
            }

            fn set_version(&mut self, version: u64) {
                self.version = version;
            }

            fn tag(&self) -> u8 {
                let tombstone: fn(&$name) -> bool = $tombstone;
                if tombstone(self) { $crate::model::image::TOMBSTONE } else { 0 }
            }

            fn heap(&self) -> usize {
                let fields = 0 $(+ $crate::model::image::Field::heap(&self.$field))*;
                $(let fields = fields + self.seldom.heap() $(+ $crate::model::image::Field::heap(&self.$rare))*;)?
                fields + self.unknown.bytes().len()
            }

            fn changed(&mut self, _before: u64) {
                $(
                    let changed: fn(&mut $name, u64) = $changed;
                    changed(self, _before);
                )?
            }

            fn encode(&self, out: &mut Vec<u8>) {
                $crate::model::image::put_marks(&[$(self.$mark),*], out);
                $(if self.$field != <$type>::default() {
                    $crate::model::image::put_field(out, $field_no, $crate::model::image::Field::value(&self.$field));
                })*
                $($(if self.$rare != <$rare_type>::default() {
                    $crate::model::image::put_field(out, $rare_no, $crate::model::image::Field::value(&self.$rare));
                })*)?
                out.extend_from_slice(self.unknown.bytes());
            }

            fn each_field(&self, see: &mut dyn FnMut(u8, $crate::model::image::Value<'_>)) {
                $(if self.$mark != $crate::model::mark::Mark::default() {
                    see($mark_no, $crate::model::image::Field::value(&self.$mark));
                })*
                $(if self.$field != <$type>::default() {
                    see($field_no, $crate::model::image::Field::value(&self.$field));
                })*
                $($(if self.$rare != <$rare_type>::default() {
                    see($rare_no, $crate::model::image::Field::value(&self.$rare));
                })*)?
                self.unknown.each(see);
            }

            fn decode_into(&mut self, version: u64, bytes: &[u8]) -> Option<()> {
                let mut r = $crate::model::codec::Reader::new(bytes);
                let [$($mark),*] = $crate::model::image::take_marks(&mut r)?;
                *self = $name { $($mark,)* version, ..$name::default() };
                while !r.is_empty() {
                    let (number, value) = $crate::model::image::take_field(&mut r)?;
                    self.set(number, value.before(version)?)?;
                }
                Some(())
            }

            fn values(bytes: &[u8], see: &mut dyn FnMut(u64)) -> Option<()> {
                let mut r = $crate::model::codec::Reader::new(bytes);
                let [$($mark),*] = $crate::model::image::take_marks(&mut r)?;
                $(let $crate::model::mark::Mark { .. } = $mark;)*
                while !r.is_empty() {
                    if let (_, $crate::model::image::Value::Stored(stored)) = $crate::model::image::take_field(&mut r)? {
                        see(stored.version);
                    }
                }
                Some(())
            }

            fn set(&mut self, number: u8, value: $crate::model::image::Value<'_>) -> Option<()> {
                match number {
                    $($mark_no => $crate::model::image::Field::take(&mut self.$mark, value),)*
                    $($field_no => $crate::model::image::Field::take(&mut self.$field, value),)*
                    $($($rare_no => $crate::model::image::Field::take(&mut self.seldom.get_mut().$rare, value),)*)?
                    _ => {
                        self.unknown.set(number, value);
                        Some(())
                    }
                }
            }
        }
    };
}
pub(crate) use image;
