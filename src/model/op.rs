//! Operations: what they have in common. Each has a file in `ops`, and a line in the list of `mod.rs`.
//!
//! An operation names its fields once, to a visitor ([`Fields`]). From that come its bytes in a batch, which are its stable
//! encoding, its form by field names (JSON, other languages), and random ones for fuzzing.

use super::codec::{Put, Reader};
use super::ids::{MAX_NAME, Named};
use super::names::names;
use super::outcome::Outcome;
use super::state::Transaction;
use crate::error::{Error, Result};

/// Walks over the fields of an operation, in their order, and reads or sets them.
pub trait Fields<'a> {
    /// A channel's or a user's name.
    fn name(&mut self, label: &'static str, named: Named, value: &mut &'a [u8]);
    /// A number.
    fn number(&mut self, label: &'static str, value: &mut u64);
    /// A number that may be absent.
    fn maybe(&mut self, label: &'static str, value: &mut Option<u64>);
    /// A time in Unix milliseconds.
    fn time(&mut self, label: &'static str, value: &mut i64);
    /// Yes or no.
    fn flag(&mut self, label: &'static str, value: &mut bool);
    /// Opaque bytes.
    fn bytes(&mut self, label: &'static str, value: &mut &'a [u8]);
    /// Opaque bytes that may be absent.
    fn maybe_bytes(&mut self, label: &'static str, value: &mut Option<&'a [u8]>);
    /// A list of users' names ([`super::names`]).
    fn users(&mut self, label: &'static str, value: &mut &'a [u8]) {
        self.bytes(label, value);
    }
}

/// One operation.
pub trait Operation<'a>: Default {
    /// Its number in a batch's bytes.
    const CODE: u8;
    /// Its name.
    const NAME: &'static str;
    /// Shows its fields to a visitor.
    fn fields(&mut self, fields: &mut impl Fields<'a>);

    /// Checks what can be checked without the store, names apart.
    fn check(&self, _limits: &Limits) -> Result<()> {
        Ok(())
    }

    /// Whether it may need rows or marks that lie in files. They are then read before the writer's lock is taken.
    fn reads(&self) -> bool {
        true
    }

    /// Whether room on the disk comes of it, or it takes none to speak of beside one of which it does: it may then be written
    /// where the disk is full.
    fn makes_room(&self) -> bool {
        false
    }

    /// Does it. Whatever it reads and changes goes through the transaction.
    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome>;
}

/// What a store accepts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest payload, in bytes.
    pub payload: u32,
}

/// Defines an operation's struct and its fields. The documentation of the `Batch` method says what it does.
macro_rules! operation {
    (
        $(#[$doc:meta])*
        $name:ident = $code:literal $text:literal { $($field:ident: $kind:ident,)* }
        $($function:item)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name<'a> {
            $(pub $field: $crate::model::op::field_type!('a $kind),)*
        }

        impl<'a> $crate::model::op::Operation<'a> for $name<'a> {
            const CODE: u8 = $code;
            const NAME: &'static str = $text;

            fn fields(&mut self, fields: &mut impl $crate::model::op::Fields<'a>) {
                $($crate::model::op::show_field!(fields, self, $field, $kind);)*
            }

            $($function)*
        }
    };
}

/// The type of a field by its kind.
macro_rules! field_type {
    ($life:lifetime channel) => { &$life [u8] };
    ($life:lifetime user) => { &$life [u8] };
    ($life:lifetime number) => { u64 };
    ($life:lifetime maybe) => { Option<u64> };
    ($life:lifetime time) => { i64 };
    ($life:lifetime flag) => { bool };
    ($life:lifetime bytes) => { &$life [u8] };
    ($life:lifetime maybe_bytes) => { Option<&$life [u8]> };
    ($life:lifetime users) => { &$life [u8] };
}

/// Shows a field to a visitor, by its kind.
macro_rules! show_field {
    ($fields:ident, $self:ident, $field:ident, channel) => {
        $fields.name(stringify!($field), $crate::model::ids::Named::Channel, &mut $self.$field)
    };
    ($fields:ident, $self:ident, $field:ident, user) => {
        $fields.name(stringify!($field), $crate::model::ids::Named::User, &mut $self.$field)
    };
    ($fields:ident, $self:ident, $field:ident, $kind:ident) => {
        $fields.$kind(stringify!($field), &mut $self.$field)
    };
}

pub(crate) use {field_type, operation, show_field};

/// Writes fields.
pub struct Encoder<'o>(pub &'o mut Vec<u8>);

impl<'a> Fields<'a> for Encoder<'_> {
    fn name(&mut self, label: &'static str, _: Named, value: &mut &'a [u8]) {
        self.bytes(label, value);
    }

    fn number(&mut self, _: &'static str, value: &mut u64) {
        self.0.put_varint(*value);
    }

    fn maybe(&mut self, label: &'static str, value: &mut Option<u64>) {
        self.0.put_u8(value.is_some().into());
        if let Some(value) = value {
            self.number(label, value);
        }
    }

    fn time(&mut self, _: &'static str, value: &mut i64) {
        self.0.put_signed(*value);
    }

    fn flag(&mut self, _: &'static str, value: &mut bool) {
        self.0.put_u8((*value).into());
    }

    fn bytes(&mut self, _: &'static str, value: &mut &'a [u8]) {
        self.0.put_varint(value.len() as u64);
        self.0.put(value);
    }

    fn maybe_bytes(&mut self, label: &'static str, value: &mut Option<&'a [u8]>) {
        self.0.put_u8(value.is_some().into());
        if let Some(value) = value {
            self.bytes(label, value);
        }
    }
}

/// Reads fields. After the first one that is not valid the rest means nothing.
pub struct Decoder<'r, 'a> {
    /// What is left.
    pub reader: &'r mut Reader<'a>,
    /// Whether all was valid.
    pub good: bool,
}

impl<'a> Decoder<'_, 'a> {
    #[inline(always)]
    fn take<T>(&mut self, value: &mut T, read: impl FnOnce(&mut Reader<'a>) -> Option<T>) {
        match read(self.reader) {
            Some(read) => *value = read,
            None => self.good = false,
        }
    }
}

#[inline]
fn flag(r: &mut Reader<'_>) -> Option<bool> {
    match r.u8()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

impl<'a> Fields<'a> for Decoder<'_, 'a> {
    #[inline(always)]
    fn name(&mut self, label: &'static str, _: Named, value: &mut &'a [u8]) {
        self.bytes(label, value);
    }

    #[inline(always)]
    fn number(&mut self, _: &'static str, value: &mut u64) {
        self.take(value, |r| r.varint());
    }

    #[inline(always)]
    fn maybe(&mut self, _: &'static str, value: &mut Option<u64>) {
        self.take(value, |r| if flag(r)? { Some(Some(r.varint()?)) } else { Some(None) });
    }

    #[inline(always)]
    fn time(&mut self, _: &'static str, value: &mut i64) {
        self.take(value, |r| r.signed());
    }

    #[inline(always)]
    fn flag(&mut self, _: &'static str, value: &mut bool) {
        self.take(value, flag);
    }

    #[inline(always)]
    fn bytes(&mut self, _: &'static str, value: &mut &'a [u8]) {
        self.take(value, bytes);
    }

    #[inline(always)]
    fn maybe_bytes(&mut self, _: &'static str, value: &mut Option<&'a [u8]>) {
        self.take(value, |r| if flag(r)? { Some(Some(bytes(r)?)) } else { Some(None) });
    }
}

#[inline]
fn bytes<'a>(r: &mut Reader<'a>) -> Option<&'a [u8]> {
    let len = usize::try_from(r.varint()?).ok()?;
    r.bytes(len)
}

/// Collects the names of an operation, and checks their lengths.
#[derive(Default)]
pub struct NamesOf<'a> {
    /// The channel's name.
    pub channel: Option<&'a [u8]>,
    /// The user's name.
    pub user: Option<&'a [u8]>,
    /// The names of users in lists.
    pub listed: Vec<&'a [u8]>,
    /// A name that is empty or too long.
    pub bad: Option<(Named, usize)>,
    /// Whether a list of names is none.
    pub bad_list: bool,
}

impl NamesOf<'_> {
    fn look_at(&mut self, named: Named, name: &[u8]) {
        if !(1..=MAX_NAME).contains(&name.len()) {
            self.bad = self.bad.or(Some((named, name.len())));
        }
    }
}

impl<'a> Fields<'a> for NamesOf<'a> {
    fn name(&mut self, _: &'static str, named: Named, value: &mut &'a [u8]) {
        self.look_at(named, value);
        match named {
            Named::Channel => self.channel = Some(value),
            Named::User => self.user = Some(value),
        }
    }

    fn number(&mut self, _: &'static str, _: &mut u64) {}
    fn maybe(&mut self, _: &'static str, _: &mut Option<u64>) {}
    fn time(&mut self, _: &'static str, _: &mut i64) {}
    fn flag(&mut self, _: &'static str, _: &mut bool) {}
    fn bytes(&mut self, _: &'static str, _: &mut &'a [u8]) {}
    fn maybe_bytes(&mut self, _: &'static str, _: &mut Option<&'a [u8]>) {}

    fn users(&mut self, _: &'static str, value: &mut &'a [u8]) {
        let Some(listed) = names(value) else { return self.bad_list = true };
        listed.iter().for_each(|name| self.look_at(Named::User, name));
        self.listed.extend(listed);
    }
}

impl NamesOf<'_> {
    /// An error if a name has a wrong length, or a list of names is none.
    pub fn check(&self, op: usize) -> Result<()> {
        if self.bad_list {
            let what = "a list of users that is cut off in a name".into();
            return Err(Error::InvalidArgument { what, op: Some(op) });
        }
        let Some((named, len)) = self.bad else { return Ok(()) };
        let what = format!("a {} name of {len} bytes; 1 to {MAX_NAME} are allowed", named.word());
        Err(Error::InvalidArgument { what, op: Some(op) })
    }
}
