//! The one merge of all sources of a table: rows of one group in order, each once, from the newest source that has it.
//!
//! Layers are copied out in small steps, so that no lock is held while a file is read. Rows in files are decoded only when
//! it is their turn.

use std::vec;

use super::layer::{Layer, same_group};
use super::view::View;
use crate::env::fault;
use crate::env::sync::{Arc, Mutex};
use crate::error::{Error, Result};
use crate::files::table::{Cursor, Run, RunEntry};
use crate::model::Table;
use crate::model::key::{Key, TableKey};

/// How many rows are copied out of a layer at once: few at first, as a walk that leaps wants no more of them.
const STEP: usize = 8;
/// Up to how many later.
const MOST: usize = 128;

/// Rows that can't be read: those of a table with keys between two others.
#[derive(Clone, Debug)]
pub struct LostRows {
    /// The table's number; `None` if any may be meant.
    pub table: Option<u8>,
    /// The greatest key before them, and the least after them.
    pub between: (Key, Key),
    /// What is wrong.
    pub fault: Error,
}

/// Takes note of rows that can't be read, while a walk goes on behind them.
pub type LostNotes = Arc<Mutex<Vec<LostRows>>>;

/// A walk over rows.
pub struct Scan<'v, T: Table> {
    /// Newest first.
    sources: Vec<RowSource<'v, T>>,
}

/// One source, and the row that is next there.
enum RowSource<'v, T: Table> {
    Layer(LayerRows<T>),
    Run(RunRows<'v, T>),
}

struct LayerRows<T: Table> {
    layer: Arc<Layer>,
    version: u64,
    newer_than: u64,
    /// Rows that were copied out, and the place of the next one.
    copied: Vec<(T::Key, T)>,
    at: usize,
    /// Where to copy on.
    next: Option<T::Key>,
    /// The groups after that.
    groups: vec::IntoIter<u32>,
    /// How many to copy.
    step: usize,
}

struct RunRows<'v, T: Table> {
    run: &'v Run,
    cursor: Cursor<'v>,
    current: Option<(T::Key, RunEntry<'v>)>,
    /// Where damage is noted, if the walk is to go on behind it.
    lost: Option<LostNotes>,
}

impl View {
    /// The rows of `from`'s group from there on, of those newer than `newer_than` (0 = all).
    pub(crate) fn scan<T: Table>(&self, from: T::Key, newer_than: u64) -> Result<Scan<'_, T>> {
        Scan::new(self, from, newer_than)
    }
}

impl<'v, T: Table> Scan<'v, T> {
    /// Begins at `from`.
    pub fn new(view: &'v View, from: T::Key, newer_than: u64) -> Result<Scan<'v, T>> {
        let mut sources = Vec::with_capacity(view.moment.files.runs.len() + 1);
        for layer in view.layers() {
            let mut rows = LayerRows::new(layer.clone(), view.version(), newer_than, from);
            rows.copy();
            if rows.key().is_some() {
                sources.push(RowSource::Layer(rows));
            }
        }
        for run in view.moment.files.runs.iter().rev() {
            let section = run.section(T::TABLE);
            if section.entries() == 0 || newer_than > 0 && section.newest() <= newer_than {
                continue;
            }
            let last = Key { a: from.group(), b: u64::MAX, c: u64::MAX };
            let cursor = section.range(from.raw(), last, newer_than);
            let mut rows = RunRows { run, cursor, current: None, lost: None };
            rows.step()?;
            if rows.current.is_some() {
                sources.push(RowSource::Run(rows));
            }
        }
        Ok(Scan { sources })
    }

    /// All rows of the table, group after group. With `lost`, what can't be read is noted there and left out: of a row with an
    /// older image in another file that one is shown then.
    pub fn whole(view: &'v View, lost: Option<LostNotes>) -> Result<Scan<'v, T>> {
        let mut sources = Vec::new();
        for layer in view.layers() {
            let mut rows = LayerRows::whole(layer.clone(), view.version());
            rows.copy();
            if rows.key().is_some() {
                sources.push(RowSource::Layer(rows));
            }
        }
        for run in view.moment.files.runs.iter().rev() {
            let cursor = run.section(T::TABLE).all();
            let mut rows = RunRows { run, cursor, current: None, lost: lost.clone() };
            rows.step()?;
            if rows.current.is_some() {
                sources.push(RowSource::Run(rows));
            }
        }
        Ok(Scan { sources })
    }

    /// The next row.
    pub fn next(&mut self) -> Result<Option<(T::Key, T)>> {
        let mut row = T::default();
        Ok(self.next_into(&mut row)?.map(|key| (key, row)))
    }

    /// Puts the next row in place of another, and returns its key. Without a next one the other may be lost too.
    #[inline]
    pub fn next_into(&mut self, row: &mut T) -> Result<Option<T::Key>> {
        let [only] = &mut self.sources[..] else { return self.next_of_many(row) };
        let key = only.key();
        if key.is_some() {
            only.take(row)?;
        }
        Ok(key)
    }

    fn next_of_many(&mut self, row: &mut T) -> Result<Option<T::Key>> {
        let Some(key) = self.peek() else { return Ok(None) };
        let (mut found, mut ended) = (false, false);
        for source in &mut self.sources {
            if source.key() != Some(key) {
                continue;
            }
            // The first one is the newest.
            match std::mem::replace(&mut found, true) {
                false => source.take(row)?,
                true if fault(99) => {}
                true => source.step()?,
            }
            ended |= source.key().is_none();
        }
        if ended {
            self.sources.retain(|source| source.key().is_some());
        }
        Ok(Some(key))
    }

    /// Goes forward to the first row at or after `key`. Blocks of rows in between are not read.
    pub fn seek(&mut self, key: T::Key) -> Result<()> {
        for source in &mut self.sources {
            if source.key().is_some_and(|at| at < key) {
                source.seek(key)?;
            }
        }
        self.sources.retain(|source| source.key().is_some());
        Ok(())
    }

    /// The key that is next.
    pub fn peek(&self) -> Option<T::Key> {
        self.sources.iter().filter_map(RowSource::key).min()
    }
}

impl<T: Table> RowSource<'_, T> {
    fn key(&self) -> Option<T::Key> {
        match self {
            RowSource::Layer(rows) => rows.key(),
            RowSource::Run(rows) => rows.current.map(|(key, _)| key),
        }
    }

    /// Takes the row that is next, which there is, and steps on.
    #[inline]
    fn take(&mut self, row: &mut T) -> Result<()> {
        match self {
            RowSource::Layer(rows) => {
                rows.take(row);
                Ok(())
            }
            RowSource::Run(rows) => rows.take(row),
        }
    }

    fn step(&mut self) -> Result<()> {
        match self {
            RowSource::Layer(rows) => {
                rows.step();
                Ok(())
            }
            RowSource::Run(rows) => rows.step(),
        }
    }

    fn seek(&mut self, key: T::Key) -> Result<()> {
        match self {
            RowSource::Layer(rows) => {
                rows.seek(key);
                Ok(())
            }
            RowSource::Run(rows) => {
                rows.cursor.seek(key.raw())?;
                rows.step()
            }
        }
    }
}

impl<T: Table> LayerRows<T> {
    fn new(layer: Arc<Layer>, version: u64, newer_than: u64, from: T::Key) -> Self {
        let groups = Vec::new().into_iter();
        LayerRows {
            layer,
            version,
            newer_than,
            copied: Vec::new(),
            at: 0,
            next: Some(from),
            groups,
            step: STEP,
        }
    }

    /// All groups.
    fn whole(layer: Arc<Layer>, version: u64) -> Self {
        let groups = layer.groups::<T>().into_iter();
        LayerRows { layer, version, newer_than: 0, copied: Vec::new(), at: 0, next: None, groups, step: MOST }
    }

    /// Where to copy on: in the present group, or at the first key of the next.
    fn place(&mut self) -> Option<T::Key> {
        let first = |group: u32| T::Key::from_raw(Key { a: group, ..Key::default() });
        self.next.take().or_else(|| self.groups.next().map(first))
    }

    fn key(&self) -> Option<T::Key> {
        self.copied.get(self.at).map(|(key, _)| *key)
    }

    /// Copies the next rows out.
    fn copy(&mut self) {
        self.copied.clear();
        self.at = 0;
        while let Some(from) = self.place() {
            self.next = self.layer.rows(from, self.version, self.newer_than, self.step, &mut self.copied);
            self.step = (self.step * 4).min(MOST);
            if !self.copied.is_empty() {
                return;
            }
        }
    }

    fn take(&mut self, row: &mut T) {
        if let Some((_, copied)) = self.copied.get_mut(self.at) {
            std::mem::swap(row, copied);
        }
        self.step();
    }

    fn step(&mut self) {
        self.at += 1;
        if self.at >= self.copied.len() {
            self.copy();
        }
    }

    fn seek(&mut self, key: T::Key) {
        self.at += self.copied[self.at..].partition_point(|(other, _)| *other < key);
        if self.at == self.copied.len() {
            self.step = STEP;
            self.next = self.next.map(|next| next.max(key)).filter(|next| same_group(*next, key));
            self.copy();
        }
    }
}

impl<'v, T: Table> RunRows<'v, T> {
    fn step(&mut self) -> Result<()> {
        self.current = match &self.lost {
            None => self.cursor.next()?,
            Some(_) => self.next_whole(),
        }
        .map(|entry| (T::Key::from_raw(entry.key), entry));
        Ok(())
    }

    /// The next entry that can be read. What can't is noted.
    fn next_whole(&mut self) -> Option<RunEntry<'v>> {
        loop {
            let (between, fault) = match self.cursor.next() {
                Ok(Some(entry)) if T::decode(entry.version, entry.image).is_none() => {
                    let fault = self.cursor.corrupt(format!("a row of table {} does not decode", T::TABLE));
                    ((entry.key, entry.key), fault)
                }
                Ok(next) => return next,
                Err(fault) => (self.cursor.pass(), fault),
            };
            if let Some(lost) = &self.lost {
                lost.lock().push(LostRows { table: Some(T::TABLE), between, fault });
            }
        }
    }

    fn take(&mut self, row: &mut T) -> Result<()> {
        if let Some((_, entry)) = &self.current
            && row.decode_into(entry.version, entry.image).is_none()
        {
            return Err(self.run.corrupt(format!("a row of table {} does not decode", T::TABLE)));
        }
        self.step()
    }
}
