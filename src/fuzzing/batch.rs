//! Batches of operations from the model's list, so that a new operation is fuzzed without a line here.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::input::{Input, mutate};
use super::store::{Digest, open};
use crate::env::SimEnv;
use crate::model::Op;
use crate::model::batch::{Argument, Batch};
use crate::model::ids::{MAX_NAME, Named};
use crate::model::op::Fields;

/// Few names, so that operations meet.
const NAMES: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b"e"];
static LONG: [u8; MAX_NAME + 1] = [b'n'; MAX_NAME + 1];

/// The input's bytes as a batch, or a valid one's changed by them: what decodes is written again with the same bytes, and is
/// committed to a small store.
pub fn batch(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.u8();
    let bytes = match choice % 2 {
        0 => input.rest().to_vec(),
        _ => {
            let mut bytes = Vec::new();
            for _ in 0..=choice / 2 % 4 {
                operation(&mut input, b"a payload", &mut bytes);
            }
            mutate(bytes, &mut input)
        }
    };
    let Ok(batch) = Batch::from_bytes(&bytes) else { return };
    round_trip(&batch, &bytes);
    commit(&batch);
}

/// Every operation, as bytes and by the names of its fields, is what it was.
fn round_trip(batch: &Batch, bytes: &[u8]) {
    let (mut again, mut named, mut count) = (Vec::new(), Batch::new(), 0);
    for mut op in batch.ops() {
        count += 1;
        op.encode(&mut again);
        let mut arguments = Arguments::default();
        op.fields(&mut arguments);
        let added = named.operation(op.name(), &mut |label| arguments.0.get(label).copied());
        added.expect("an operation is made of its own fields");
    }
    assert_eq!((batch.len(), named.len()), (count, count));
    assert!(batch.as_bytes() == bytes && again == bytes && named.as_bytes() == bytes);
}

/// The store is as it was if the batch is refused, and opens as it is if it is not.
fn commit(batch: &Batch) {
    let sim = example().fork(0);
    let store = open(&sim).expect("the example opens");
    let before = Digest::read(&store);
    match store.commit(batch) {
        Ok(receipt) => assert_eq!(receipt.outcomes().len(), batch.len()),
        Err(_) => assert!(Digest::read(&store) == before, "a refused batch left something"),
    }
    let after = Digest::read(&store);
    store.close().expect("a store without a fault closes");
    drop(store);
    let store = open(&sim).expect("what was written opens");
    assert!(Digest::read(&store) == after, "another state after opening");
}

/// A store in which some of the few names mean something.
fn example() -> &'static Arc<SimEnv> {
    static EXAMPLE: OnceLock<Arc<SimEnv>> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        let sim = SimEnv::new(4);
        let store = open(&sim).expect("an empty store is made");
        for i in 0..12usize {
            let channel = NAMES[i % 2];
            let mut batch = Batch::new();
            batch.join(channel, NAMES[i % 3]);
            batch.append(channel, crate::Draft::new(NAMES[i % 5], 0, "a message"));
            store.commit(&batch).expect("the batch is valid");
            if i == 7 {
                store.seal().expect("the simulated disk has room");
            }
        }
        store.close().expect("a store without a fault closes");
        sim
    })
}

/// Appends an operation that the input chooses to the bytes of a batch. Its payload, if it has one, is `payload`. Returns
/// the name of its channel.
pub fn operation<'a>(input: &mut Input<'_>, payload: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let choice = input.u8();
    let name = match choice % 16 {
        // The two on which most others build.
        0..=5 => "append",
        6..=8 => "join",
        _ => Batch::OPERATIONS[input.below(Batch::OPERATIONS.len())],
    };
    let mut op = Op::named(name).expect("it is in the list");
    let mut random = Random { input, payload, channel: &[] };
    op.fields(&mut random);
    let channel = random.channel;
    op.encode(out);
    channel
}

/// Sets fields to what the input says.
struct Random<'i, 'd, 'a> {
    input: &'i mut Input<'d>,
    payload: &'a [u8],
    channel: &'a [u8],
}

impl<'a> Fields<'a> for Random<'_, '_, 'a> {
    fn name(&mut self, _: &'static str, named: Named, value: &mut &'a [u8]) {
        *value = match self.input.u8() {
            253 => &[],
            254 => &LONG[..MAX_NAME],
            255 => &LONG,
            choice => NAMES[usize::from(choice) % NAMES.len()],
        };
        if named == Named::Channel {
            self.channel = value;
        }
    }

    fn number(&mut self, _: &'static str, value: &mut u64) {
        *value = self.input.number();
    }

    fn maybe(&mut self, _: &'static str, value: &mut Option<u64>) {
        let choice = self.input.u8();
        *value = (choice % 2 == 1).then(|| self.input.number());
    }

    fn time(&mut self, _: &'static str, value: &mut i64) {
        *value = self.input.number() as i64;
    }

    fn flag(&mut self, _: &'static str, value: &mut bool) {
        *value = self.input.u8() % 4 == 3;
    }

    fn bytes(&mut self, _: &'static str, value: &mut &'a [u8]) {
        *value = self.payload;
    }

    fn maybe_bytes(&mut self, _: &'static str, value: &mut Option<&'a [u8]>) {
        let choice = self.input.u8();
        let len = usize::from(choice / 2).min(self.payload.len());
        *value = (choice % 2 == 1).then(|| &self.payload[..len]);
    }

    fn users(&mut self, _: &'static str, value: &mut &'a [u8]) {
        *value = match self.input.u8() {
            253 => b"\0",
            254 => b"\x05abcd",
            255 => b"\x01a\x01b\x01c\x01a",
            choice => &b"\x01a\x01b\x01z"[..usize::from(choice % 4) * 2 % 7],
        };
    }
}

/// The fields of an operation by their names.
#[derive(Default)]
struct Arguments<'a>(BTreeMap<&'static str, Argument<'a>>);

impl<'a> Fields<'a> for Arguments<'a> {
    fn name(&mut self, label: &'static str, _: Named, value: &mut &'a [u8]) {
        self.bytes(label, value);
    }

    fn number(&mut self, label: &'static str, value: &mut u64) {
        self.0.insert(label, Argument::Number((*value).into()));
    }

    fn maybe(&mut self, label: &'static str, value: &mut Option<u64>) {
        self.0.extend(value.map(|value| (label, Argument::Number(value.into()))));
    }

    fn time(&mut self, label: &'static str, value: &mut i64) {
        self.0.insert(label, Argument::Number((*value).into()));
    }

    fn flag(&mut self, label: &'static str, value: &mut bool) {
        self.0.insert(label, Argument::Flag(*value));
    }

    fn bytes(&mut self, label: &'static str, value: &mut &'a [u8]) {
        self.0.insert(label, Argument::Bytes(value));
    }

    fn maybe_bytes(&mut self, label: &'static str, value: &mut Option<&'a [u8]>) {
        self.0.extend(value.map(|value| (label, Argument::Bytes(value))));
    }
}
