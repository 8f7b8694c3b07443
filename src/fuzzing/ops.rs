//! Whole lives of a store: batches, reads, maintenance, reopening, faults and crashes, as the input says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;

use super::batch::operation;
use super::input::Input;
use super::store::{DIR, Digest, open, options};
use crate::env::{Op as DiskOp, SimEnv};
use crate::error::{Error, Result};
use crate::model::Op;
use crate::model::batch::{Batch, Durability};
use crate::model::message::MessageState;
use crate::model::outcome::Outcome;
use crate::store::Store;

/// How many steps one life has at most.
const STEPS: usize = 200;

/// A store's life and what it has promised.
struct Life {
    sim: Arc<SimEnv>,
    store: Option<Store>,
    /// What was acknowledged or seen: the payload of each seq of each channel, and whether no loss of power may take it.
    promised: BTreeMap<(Bytes, u64), (Bytes, bool)>,
    messages: u64,
}

/// Runs one life. What was acknowledged as durable must be there to its end, and no seq may change its message.
pub fn ops(data: &[u8]) {
    let mut life = Life { sim: SimEnv::new(3), store: None, promised: BTreeMap::new(), messages: 0 };
    let mut input = Input::new(data);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        life.step(&mut input);
    }
    life.sim.clear_faults();
    life.end(|sim| sim.crash());
    let store = life.reopen().expect("a store opens after a crash");
    store.close().expect("a store without a fault closes");
    drop(store);
    life.store = None;
    let found = crate::verify(DIR, &options(&life.sim)).expect("it can be verified");
    assert!(found.faults.is_empty(), "{:?}", found.faults);
}

impl Life {
    fn step(&mut self, input: &mut Input<'_>) {
        let Ok(store) = self.open() else {
            // A fault struck while opening: the next process tries again.
            return self.end(|sim| sim.crash());
        };
        match input.u8() % 32 {
            0..=13 => self.commit(&store, input),
            14..=17 => drop((0..=input.u8() % 4).map(|_| store.maintain()).collect::<Vec<_>>()),
            18 | 19 => drop(store.seal()),
            20 | 21 => drop(Digest::read(&store)),
            22 => self.sync(store.sync()),
            23 | 24 => {
                self.sync(store.close());
                drop(store);
                self.store = None;
            }
            25 => self.sim.crash_after(input.u8().into()),
            26 => self.sim.fail_nth(&DiskOp::ALL, 1 + u64::from(input.u8()), ErrorKind::StorageFull),
            27 => {
                self.sim.fail_nth(&[DiskOp::Write, DiskOp::Sync], 1 + u64::from(input.u8()), ErrorKind::Other)
            }
            28 | 29 => {
                drop(store);
                self.end(|sim| sim.crash());
            }
            _ => {
                drop(store);
                self.end(|sim| sim.power_loss());
                self.promised.retain(|_, (_, durable)| *durable);
            }
        }
    }

    /// The open store, opened now if need be.
    fn open(&mut self) -> Result<Store> {
        match &self.store {
            Some(store) => Ok(store.clone()),
            None => self.reopen(),
        }
    }

    /// Opens the store and checks its promises. What is there after that is durable.
    fn reopen(&mut self) -> Result<Store> {
        let store = open(&self.sim)?;
        self.store = Some(store.clone());
        self.check(&store)?;
        Ok(store)
    }

    fn check(&mut self, store: &Store) -> Result<()> {
        let (mut found, mut altered) = (BTreeMap::new(), BTreeSet::new());
        let mut trimmed = BTreeMap::new();
        for channel in store.channels().list()? {
            trimmed.insert(channel.clone(), store.head(&channel)?.trimmed.seq);
            for message in store.history(&channel).list()? {
                if message.state != MessageState::Sent {
                    altered.insert((channel.clone(), message.seq));
                }
                found.insert((channel.clone(), message.seq), (message.payload, true));
            }
        }
        for (place, (payload, _)) in &self.promised {
            let found = found.get(place).map(|found| &found.0);
            let gone = altered.contains(place) || trimmed.get(&place.0).is_some_and(|last| place.1 <= *last);
            assert!(found == Some(payload) || gone, "seq {place:?}: {found:?}");
        }
        self.promised = found;
        Ok(())
    }

    /// Ends the process as it is, and then lets something happen to its disk.
    fn end(&mut self, fate: impl FnOnce(&SimEnv)) {
        self.sim.crash_after(0);
        self.store = None;
        fate(&self.sim);
    }

    fn sync(&mut self, synced: Result<()>) {
        if synced.is_ok() {
            self.promised.values_mut().for_each(|promise| promise.1 = true);
        }
    }

    fn commit(&mut self, store: &Store, input: &mut Input<'_>) {
        let (mut bytes, mut sent) = (Vec::new(), Vec::new());
        let choice = input.u8();
        for _ in 0..=choice % 4 {
            let payload = self.payload(input);
            let channel = Bytes::copy_from_slice(operation(input, &payload, &mut bytes));
            sent.push((channel, payload));
        }
        let mut batch = Batch::from_bytes(&bytes).expect("all its operations are valid");
        let durability = if choice & 64 == 0 { Durability::Sync } else { Durability::Buffered };
        match store.commit(batch.durability(durability)) {
            Ok(receipt) => {
                assert_eq!(receipt.outcomes().len(), sent.len());
                for ((outcome, op), (channel, payload)) in
                    receipt.outcomes().iter().zip(batch.ops()).zip(sent)
                {
                    self.forget(&op);
                    // One that was sent before keeps its own payload.
                    let &Outcome::Appended { seq, .. } = outcome else { continue };
                    let promise = (payload, durability == Durability::Sync);
                    let before = self.promised.insert((channel, seq), promise);
                    assert_eq!(before, None, "seq {seq} was given out twice");
                }
            }
            // Whether it is there will show.
            Err(Error::Poisoned { .. }) => {
                batch.ops().for_each(|op| self.forget(&op));
                self.end(|sim| sim.crash());
            }
            Err(_) => {}
        }
    }

    /// Nothing is promised of a channel that was deleted, or perhaps was: its name begins anew.
    fn forget(&mut self, op: &Op<'_>) {
        if let Op::DeleteChannel(delete) = op {
            self.promised.retain(|(channel, _), _| channel != delete.channel);
        }
    }

    /// A payload unlike any other.
    fn payload(&mut self, input: &mut Input<'_>) -> Bytes {
        self.messages += 1;
        let mut payload = self.messages.to_le_bytes().to_vec();
        let (choice, len) = (input.u8(), input.u8());
        payload.resize(8 + usize::from(len) * (1 + usize::from(choice / 128) * 7), choice);
        payload.into()
    }
}
