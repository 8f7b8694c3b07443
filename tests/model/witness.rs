//! What was asked of a store, and what of it must outlive which crash.
//!
//! `asked` holds the batches since the store was opened last. The first `acknowledged` of them were acknowledged, so they
//! survive the end of the process; the first `durable` also survive the loss of power. Behind that, any whole number of
//! batches may have survived, in order and without holes.

use chanlog::{BUFFERED_WINDOW, Commit, Durability, Error, Outcome, Receipt, Result, Store};

use super::{Model, Op, Refusal, Why, batch};

/// How the last session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By a close, or by dropping the last handle.
    Close,
    /// The process ended, the machine went on.
    Crash,
    /// The machine lost power.
    PowerLoss,
}

/// Follows a store from outside.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    /// With all that was acknowledged, once nothing is pending.
    pub model: Model,
    base: Model,
    asked: Vec<Vec<Op>>,
    acknowledged: usize,
    durable: usize,
    /// Whether a buffered commit was tried in this session.
    buffered: bool,
    /// How many ends that may have taken messages the store told of so far.
    losses: u64,
}

/// A batch that was submitted and not yet waited for.
pub struct Pending {
    commit: Commit,
    durability: Durability,
    outcomes: Vec<Outcome>,
}

impl Witness {
    /// Follows a store that begins as `model`.
    pub fn new(model: Model) -> Self {
        Witness { base: model.clone(), model, ..Witness::default() }
    }

    /// Submits a batch. If the model refuses it, the store must too, in the same place.
    pub fn submit(&mut self, store: &Store, ops: &[Op], durability: Durability) -> Option<Pending> {
        let answer = store.submit(&batch(ops, durability));
        if let Some(Refusal { op: at, why }) = self.model.refusal(ops) {
            let refused = match (&answer, why) {
                (Err(Error::NotMember { op, .. }), Why::NotMember) => *op == at,
                (Err(Error::NoMessage { op, .. }), Why::NoMessage) => *op == at,
                (Err(Error::Retracted { op, .. }), Why::Retracted) => *op == at,
                (Err(Error::Conflict { op, seq, .. }), Why::Conflict { seq: first }) => {
                    (*op, *seq) == (at, first)
                }
                (Err(Error::IdTaken { op, seq, .. }), Why::IdTaken { seq: first }) => {
                    (*op, *seq) == (at, first)
                }
                (Err(Error::ConditionFailed { op, .. }), Why::Condition) => *op == at,
                (Err(Error::Gap { op, seq, .. }), Why::Gap { seq: asked }) => (*op, *seq) == (at, asked),
                _ => false,
            };
            assert!(refused, "operation {at} must be refused: {why:?}, but: {:?}", answer.map(drop));
            return None;
        }
        let commit = answer.unwrap();
        let outcomes = self.ask(ops, durability);
        Some(Pending { commit, durability, outcomes })
    }

    /// Notes that a batch is asked for, and returns what it should do.
    pub fn ask(&mut self, ops: &[Op], durability: Durability) -> Vec<Outcome> {
        self.buffered |= durability == Durability::Buffered;
        self.asked.push(ops.to_vec());
        self.model.apply(ops).expect("a batch that the model accepts")
    }

    /// Waits for a batch and compares its receipt. Batches must be waited for in order.
    pub fn wait(&mut self, pending: Pending) {
        let receipt = pending.commit.wait().unwrap();
        assert_eq!(receipt.outcomes(), pending.outcomes, "the receipt of a commit");
        self.acknowledge(pending.durability);
    }

    /// Notes that the oldest unacknowledged batch was acknowledged.
    pub fn acknowledge(&mut self, durability: Durability) {
        let something = !self.asked[self.acknowledged].is_empty();
        self.acknowledged += 1;
        if durability == Durability::Sync && something {
            self.durable = self.acknowledged;
        }
    }

    /// Commits a batch: submits it and waits.
    pub fn commit(&mut self, store: &Store, ops: &[Op], durability: Durability) {
        if let Some(pending) = self.submit(store, ops, durability) {
            self.wait(pending);
        }
    }

    /// Commits a batch that may fail. Without space it never happened; after any other error the outcome is unknown.
    pub fn try_commit(&mut self, store: &Store, ops: &[Op], durability: Durability) -> Result<Receipt> {
        let before = self.clone();
        let outcomes = self.ask(ops, durability);
        let answer = store.commit(&batch(ops, durability));
        match &answer {
            Ok(receipt) => {
                assert_eq!(receipt.outcomes(), outcomes, "the receipt of a commit");
                self.acknowledge(durability);
            }
            Err(Error::OutOfSpace { .. }) => self.undo(before),
            Err(_) => {}
        }
        answer
    }

    /// Goes back to before a commit that never happened. That it was tried may have cost the store a later gap.
    pub fn undo(&mut self, before: Witness) {
        let buffered = self.buffered;
        *self = Witness { buffered, ..before };
    }

    /// The model as readers must see it now: what was acknowledged, and nothing else.
    pub fn visible(&self) -> Model {
        self.after(self.acknowledged)
    }

    fn after(&self, batches: usize) -> Model {
        let mut model = self.base.clone();
        for ops in &self.asked[..batches] {
            model.apply(ops).unwrap();
        }
        model
    }

    /// Notes that all that was acknowledged is now durable.
    pub fn synced(&mut self) {
        self.durable = self.acknowledged;
    }

    /// Finds out which prefix a reopened store kept, and goes on from there. Returns the version that is left.
    pub fn reopened(&mut self, store: &Store, end: End) -> u64 {
        let least = if end == End::PowerLoss { self.durable } else { self.acknowledged };
        let version = store.stat().unwrap().version;
        let mut kept = least;
        let mut model = self.after(kept);
        assert!(model.version() <= version, "lost what was acknowledged: {version} of {}", model.version());
        while model.version() < version && kept < self.asked.len() {
            model.apply(&self.asked[kept]).unwrap();
            kept += 1;
        }
        assert_eq!(model.version(), version, "the store holds no whole number of batches");
        self.check_gap(store, end, kept);
        let losses = store.recovery().losses;
        (self.losses..losses).for_each(|_| model.skip_window());
        *self = Witness { losses, ..Witness::new(model) };
        version
    }

    /// A gap must come if messages may have been seen and lost, and must not come without cause. A store can't tell an end
    /// of the process from one of the machine, so that either is a cause.
    fn check_gap(&self, store: &Store, end: End, kept: usize) {
        let gap = store.recovery().losses > self.losses;
        // A send that was repeated appended nothing.
        let seen = self.visible().messages() > self.after(kept).messages();
        assert!(gap || !seen, "messages that were seen are lost, but there is no gap of {BUFFERED_WINDOW}");
        let may = end != End::Close && self.buffered;
        assert!(may || !gap, "a gap, but nothing that was seen can be lost: {end:?}");
    }

    /// Whether a loss of power now could take something that was acknowledged.
    pub fn at_risk(&self) -> bool {
        self.durable < self.acknowledged
    }
}
