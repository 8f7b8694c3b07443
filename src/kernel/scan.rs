//! The one merge of all sources of a table: rows of one group in order, each once, from the newest source that has it.
//!
//! Layers are copied out in small steps, so that no lock is held while a file is read. Rows in files are decoded only when
//! it is their turn.

use super::layer::{Layer, same_group};
use super::view::View;
use crate::env::sync::Arc;
use crate::error::Result;
use crate::files::table::{Cursor, Entry, Run};
use crate::model::Table;
use crate::model::image::Image;
use crate::model::key::{Key, TableKey};

/// How many rows are copied out of a layer at once.
const STEP: usize = 128;

/// A walk over rows.
pub struct Scan<'v, T: Table> {
    /// Newest first.
    sources: Vec<Source<'v, T>>,
}

/// One source, and the row that is next there.
enum Source<'v, T: Table> {
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
}

struct RunRows<'v, T: Table> {
    run: &'v Run,
    cursor: Cursor<'v>,
    current: Option<(T::Key, Entry<'v>)>,
}

impl<'v, T: Table> Scan<'v, T> {
    /// Begins at `from`.
    pub fn new(view: &'v View, from: T::Key, newer_than: u64) -> Result<Scan<'v, T>> {
        let mut sources = Vec::with_capacity(view.moment.files.runs.len() + 1);
        for layer in view.layers() {
            let mut rows = LayerRows::new(layer.clone(), view.version(), newer_than, from);
            rows.copy();
            if rows.key().is_some() {
                sources.push(Source::Layer(rows));
            }
        }
        for run in view.moment.files.runs.iter().rev() {
            let section = run.section(T::TABLE);
            if section.entries() == 0 || newer_than > 0 && section.newest() <= newer_than {
                continue;
            }
            let last = Key { a: from.group(), b: u32::MAX, c: u64::MAX };
            let mut rows =
                RunRows { run, cursor: section.range(from.raw(), last, newer_than), current: None };
            rows.step()?;
            if rows.current.is_some() {
                sources.push(Source::Run(rows));
            }
        }
        Ok(Scan { sources })
    }

    /// The next row.
    pub fn next(&mut self) -> Result<Option<(T::Key, T)>> {
        let Some(key) = self.sources.iter().filter_map(Source::key).min() else { return Ok(None) };
        let mut found = None;
        let mut ended = false;
        for source in self.sources.iter_mut().filter(|source| source.key() == Some(key)) {
            if found.is_none() {
                found = source.take()?;
            } else {
                source.step()?;
            }
            ended |= source.key().is_none();
        }
        if ended {
            self.sources.retain(|source| source.key().is_some());
        }
        Ok(found.map(|row| (key, row)))
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
        self.sources.iter().filter_map(Source::key).min()
    }
}

impl<T: Table> Source<'_, T> {
    fn key(&self) -> Option<T::Key> {
        match self {
            Source::Layer(rows) => rows.key(),
            Source::Run(rows) => rows.current.map(|(key, _)| key),
        }
    }

    /// Takes the row that is next, and steps on.
    fn take(&mut self) -> Result<Option<T>> {
        match self {
            Source::Layer(rows) => Ok(rows.take()),
            Source::Run(rows) => rows.take(),
        }
    }

    fn step(&mut self) -> Result<()> {
        match self {
            Source::Layer(rows) => {
                rows.take();
                Ok(())
            }
            Source::Run(rows) => rows.step(),
        }
    }

    fn seek(&mut self, key: T::Key) -> Result<()> {
        match self {
            Source::Layer(rows) => {
                rows.seek(key);
                Ok(())
            }
            Source::Run(rows) => {
                rows.cursor.seek(key.raw())?;
                rows.step()
            }
        }
    }
}

impl<T: Table> LayerRows<T> {
    fn new(layer: Arc<Layer>, version: u64, newer_than: u64, from: T::Key) -> Self {
        LayerRows { layer, version, newer_than, copied: Vec::new(), at: 0, next: Some(from) }
    }

    fn key(&self) -> Option<T::Key> {
        self.copied.get(self.at).map(|(key, _)| *key)
    }

    /// Copies the next rows out.
    fn copy(&mut self) {
        self.copied.clear();
        self.at = 0;
        while let Some(from) = self.next.take() {
            self.next = self.layer.rows(from, self.version, self.newer_than, STEP, &mut self.copied);
            if !self.copied.is_empty() {
                return;
            }
        }
    }

    fn take(&mut self) -> Option<T> {
        let row = std::mem::take(&mut self.copied.get_mut(self.at)?.1);
        self.at += 1;
        if self.at == self.copied.len() {
            self.copy();
        }
        Some(row)
    }

    fn seek(&mut self, key: T::Key) {
        self.at += self.copied[self.at..].partition_point(|(other, _)| *other < key);
        if self.at == self.copied.len() {
            self.next = self.next.map(|next| next.max(key)).filter(|next| same_group(*next, key));
            self.copy();
        }
    }
}

impl<T: Table> RunRows<'_, T> {
    fn step(&mut self) -> Result<()> {
        self.current = self.cursor.next()?.map(|entry| (T::Key::from_raw(entry.key), entry));
        Ok(())
    }

    fn take(&mut self) -> Result<Option<T>> {
        let Some((_, entry)) = self.current else { return Ok(None) };
        let row = <T as Image>::decode(entry.version, entry.image);
        let row =
            row.ok_or_else(|| self.run.corrupt(format!("a row of table {} does not decode", T::TABLE)))?;
        self.step()?;
        Ok(Some(row))
    }
}
