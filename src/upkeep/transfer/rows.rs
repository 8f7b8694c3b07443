//! Rows as fields with names, and back: generic, by what each table says of itself. The image made of the fields of an image
//! is that image, fields that this release does not know included.

use std::borrow::Cow;

use bytes::Bytes;

use super::{FieldFact, RowFact};
use crate::error::{Error, Result};
use crate::model::head::{HEADS, Head};
use crate::model::ids::{ChannelId, MAX_IDS, UserId};
use crate::model::image::{Stored, Value};
use crate::model::key::{Key, TableKey};
use crate::model::{TABLES, Table, WithTable, with_table};

/// What the table of heads is called. It is no table of rows, and the only one whose fields have no numbers for all.
const HEADS_NAME: &str = "heads";
/// What a field without a known name is called, before its number.
const UNNAMED: &str = "field_";
/// Numbers of fields are below this.
const FIELDS: u8 = 32;

/// A field with its name.
pub type NamedField = (Cow<'static, str>, FieldFact);

impl RowFact {
    /// The name of its table; `None` if this release does not know it.
    #[must_use]
    pub fn table_name(&self) -> Option<&'static str> {
        let known = TABLES.iter().find(|(number, _)| *number == self.table).map(|(_, name)| *name);
        if self.table == HEADS { Some(HEADS_NAME) } else { known }
    }

    /// The number of the table of a name.
    #[must_use]
    pub fn table_of(name: &str) -> Option<u8> {
        let known = TABLES.iter().find(|(_, known)| *known == name).map(|(number, _)| *number);
        if name == HEADS_NAME { Some(HEADS) } else { known }
    }

    /// The fields that differ from their defaults, with their names; those that this release does not know are called
    /// `field_` and their number. `None` if it does not know the table, or if the image is not valid.
    #[must_use]
    pub fn fields(&self) -> Option<Vec<NamedField>> {
        match self.table {
            HEADS => {
                let mut fields = Vec::new();
                Head::decode(self.version, &self.image)?
                    .each_field(&mut |name, value| fields.push((name.into(), value.into())));
                Some(fields)
            }
            table => with_table(table, FieldsOf(self)).flatten(),
        }
    }

    /// A row of a table that this release knows, with these fields; others have their defaults. The names of channel and user
    /// are left out.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a table that is not known, a field that is not named right, and one that can't have the
    /// value.
    pub fn with_fields(table: u8, key: [u64; 3], version: u64, fields: &[NamedField]) -> Result<RowFact> {
        let image = match table {
            HEADS => head_image(version, fields),
            table => with_table(table, ImageOf { version, fields })
                .unwrap_or_else(|| Err(Error::invalid(format!("no table has the number {table}")))),
        }?;
        Ok(RowFact { table, key, version, image: image.into(), ..RowFact::default() })
    }

    /// The key as files have it; `None` if it can't be one.
    pub(super) fn raw_key(&self) -> Option<Key> {
        Some(Key { a: self.key[0].try_into().ok()?, b: self.key[1], c: self.key[2] })
    }

    /// The channel and the user in the key, as far as they are of names.
    pub(super) fn ids(&self) -> (Option<ChannelId>, Option<UserId>) {
        let Some(key) = self.raw_key() else { return (None, None) };
        let (channel, user) = match self.table {
            HEADS => (Some(ChannelId(key.a)), None),
            table => with_table(table, IdsOf(key)).unwrap_or_default(),
        };
        (channel.filter(|channel| channel.0 < MAX_IDS), user)
    }
}

/// A key in the form of facts.
pub fn key_fact(key: Key) -> [u64; 3] {
    [key.a.into(), key.b, key.c]
}

impl From<Value<'_>> for FieldFact {
    fn from(value: Value<'_>) -> FieldFact {
        match value {
            Value::Number(number) => FieldFact::Number(number),
            Value::Signed(number) => FieldFact::Signed(number),
            Value::Mark(mark) => FieldFact::Mark(mark),
            Value::Bytes(bytes) => FieldFact::Bytes(Bytes::copy_from_slice(bytes)),
            Value::Stored(Stored { version, len, hash }) => FieldFact::Value { version, len, hash },
        }
    }
}

impl FieldFact {
    /// The value as images have it; `None` if no row of this version can have it.
    fn value_before(&self, row: u64) -> Option<Value<'_>> {
        match self {
            FieldFact::Number(number) => Some(Value::Number(*number)),
            FieldFact::Signed(number) => Some(Value::Signed(*number)),
            FieldFact::Mark(mark) => (mark.ordinal <= mark.seq).then_some(Value::Mark(*mark)),
            FieldFact::Bytes(bytes) => Some(Value::Bytes(bytes)),
            FieldFact::Value { version, len, hash } => {
                Value::Stored(Stored::new(*version, *len, *hash)?).before(row)
            }
        }
    }
}

fn refused(name: &str) -> Error {
    Error::invalid(format!("the field {name} can't have this value"))
}

fn no_field(name: &str) -> Error {
    Error::invalid(format!("the table has no field {name}"))
}

fn head_image(version: u64, fields: &[NamedField]) -> Result<Vec<u8>> {
    let mut head = Head { changed: version, ..Head::default() };
    for (name, value) in fields {
        let value = value.value_before(version).ok_or_else(|| refused(name))?;
        head.set_named(name, value)
            .ok_or_else(|| Error::invalid(format!("a head has no field {name} of this value")))?;
    }
    let mut image = Vec::new();
    head.encode(&mut image);
    Ok(image)
}

struct FieldsOf<'r>(&'r RowFact);

impl WithTable for FieldsOf<'_> {
    type Out = Option<Vec<NamedField>>;

    fn table<T: Table>(self) -> Self::Out {
        let mut fields = Vec::new();
        T::decode(self.0.version, &self.0.image)?.each_field(&mut |number, value| {
            let known = T::FIELDS.iter().find(|(known, _)| *known == number);
            let name = known.map_or_else(|| format!("{UNNAMED}{number}").into(), |(_, name)| (*name).into());
            fields.push((name, value.into()));
        });
        Some(fields)
    }
}

struct ImageOf<'f> {
    version: u64,
    fields: &'f [NamedField],
}

impl WithTable for ImageOf<'_> {
    type Out = Result<Vec<u8>>;

    fn table<T: Table>(self) -> Self::Out {
        let mut row = T::default();
        row.set_version(self.version);
        for (name, value) in self.fields {
            let known = T::FIELDS.iter().find(|(_, known)| known == name).map(|(number, _)| *number);
            let number = known.or_else(|| name.strip_prefix(UNNAMED)?.parse().ok());
            let number =
                number.filter(|number| (1..FIELDS).contains(number)).ok_or_else(|| no_field(name))?;
            let value = value.value_before(self.version).ok_or_else(|| refused(name))?;
            row.set(number, value).ok_or_else(|| refused(name))?;
        }
        let mut image = Vec::new();
        row.encode(&mut image);
        Ok(image)
    }
}

struct IdsOf(Key);

impl WithTable for IdsOf {
    type Out = (Option<ChannelId>, Option<UserId>);

    fn table<T: Table>(self) -> Self::Out {
        T::Key::from_raw(self.0).ids()
    }
}
