//! Rows of any table of the model, so that a new table is fuzzed without a line here.

use super::input::Input;
use crate::model::codec::Reader;
use crate::model::head::Head;
use crate::model::image::{Image, Patch, Stored, Value, patched, put_field, take_field};
use crate::model::key::TableKey;
use crate::model::mark::Mark;
use crate::model::{Table, WithTable, with_table};

/// Fields up to this number are tried. A field's number has five bits.
const FIELDS: usize = 32;

/// The numbers of all tables, and whether their keys are wide.
pub fn tables() -> impl Iterator<Item = (u8, bool)> {
    (0..=u8::MAX).filter_map(|number| Some((number, with_table(number, Wide)?)))
}

struct Wide;

impl WithTable for Wide {
    type Out = bool;

    fn table<T: Table>(self) -> bool {
        T::Key::WIDE
    }
}

/// The input as an image, and as a patch, of every table: what decodes reads back the same, and patching panics for none.
pub fn image(data: &[u8]) {
    let mut input = Input::new(data);
    let version = input.number();
    let len = input.u8();
    let image = input.bytes(len.into());
    let rest = input.rest();
    for (table, _) in tables() {
        let mut input = Input::new(rest);
        let made = patch(table, &mut input);
        with_table(table, Check { version, image, patches: &[&[], image, rest, &made] });
    }
    if let Some(head) = Head::decode(version, image) {
        let mut again = Vec::new();
        head.encode(&mut again);
        assert_eq!(Head::decode(version, &again), Some(head));
    }
}

/// Checks an image and patches of it.
struct Check<'a> {
    version: u64,
    image: &'a [u8],
    patches: &'a [&'a [u8]],
}

impl WithTable for Check<'_> {
    type Out = ();

    fn table<T: Table>(self) {
        let row = T::decode(self.version, self.image);
        row.iter().for_each(round_trip);
        for (before, patch) in self.patches.iter().flat_map(|patch| [(None, patch), (row.clone(), patch)]) {
            // A row's version never falls.
            let version = self.version.saturating_add(1);
            let Some(after) = patched::<T>(before, patch, version) else { continue };
            assert_eq!(after.version(), version);
            round_trip(&after);
            // A patch holds values and no steps. Only the first change of a row may note more ([`Image::changed`]).
            let again = patched(Some(after), patch, version);
            assert_eq!(patched(again.clone(), patch, version), again);
        }
    }
}

fn round_trip<T: Image>(row: &T) {
    let (mut bytes, mut again) = (Vec::new(), Vec::new());
    row.encode(&mut bytes);
    let read = T::decode(row.version(), &bytes);
    assert_eq!(read.as_ref(), Some(row));
    read.iter().for_each(|read| read.encode(&mut again));
    assert_eq!(again, bytes);
}

/// Whether bytes are an image of a table, and read back the same; `true` for a table that the model does not have.
pub fn decodes(table: u8, version: u64, image: &[u8]) -> bool {
    with_table(table, Decodes(version, image)).unwrap_or(true)
}

struct Decodes<'a>(u64, &'a [u8]);

impl WithTable for Decodes<'_> {
    type Out = bool;

    fn table<T: Table>(self) -> bool {
        let row = T::decode(self.0, self.1);
        row.iter().for_each(round_trip);
        row.is_some()
    }
}

/// The tag and the image of a row that the input chooses.
pub fn row(table: u8, version: u64, input: &mut Input<'_>) -> (u8, Vec<u8>) {
    let patch = patch(table, input);
    with_table(table, Patched { version, patch: &patch }).unwrap_or_default()
}

struct Patched<'a> {
    version: u64,
    patch: &'a [u8],
}

impl WithTable for Patched<'_> {
    type Out = (u8, Vec<u8>);

    fn table<T: Table>(self) -> (u8, Vec<u8>) {
        let row = patched::<T>(None, self.patch, self.version).unwrap_or_default();
        let mut image = Vec::new();
        row.encode(&mut image);
        (row.tag(), image)
    }
}

/// A patch of a few fields, whose values mostly have the types that the table wants.
pub fn patch(table: u8, input: &mut Input<'_>) -> Vec<u8> {
    let choice = input.u8();
    let mut patch = if choice & 1 == 0 { Patch::reset().bytes().to_vec() } else { Vec::new() };
    for _ in 0..choice / 2 % 8 {
        // Known fields have low numbers.
        let choice = input.u8();
        let number = 1 + usize::from(choice) % if choice < 240 { 20 } else { FIELDS - 1 };
        with_table(table, PutField { number: number as u8, input, out: &mut patch });
    }
    patch
}

struct PutField<'o, 'i, 'd> {
    number: u8,
    input: &'i mut Input<'d>,
    out: &'o mut Vec<u8>,
}

impl WithTable for PutField<'_, '_, '_> {
    type Out = ();

    fn table<T: Table>(self) {
        let seq = self.input.number();
        let mark = Mark { seq, ordinal: self.input.number().min(seq) };
        let bytes = self.input.bytes(4);
        let stored = Stored::new(mark.ordinal, bytes.len() as u32, seq).filter(|_| seq % 4 == 3);
        let bytes = stored.map_or(Value::Bytes(bytes), Value::Stored);
        let values =
            [Value::Number(seq), Value::Number(seq % 2), Value::Mark(mark), Value::Signed(seq as i64), bytes];
        let fits = |value: &Value<'_>| T::default().set(self.number, *value).is_some();
        // What fits at once may be a field that nobody knows.
        let value = values.into_iter().find(fits).unwrap_or(values[0]);
        let start = self.out.len();
        put_field(self.out, self.number, value);
        assert_eq!(take_field(&mut Reader::new(&self.out[start..])), Some((self.number, value)));
    }
}
