//! fjall: three keyspaces of one database, each a log-structured tree, with one journal.
//!
//! Settings: 256 MiB of cache, lz4 from the third level on as it comes. A commit is one batch; buffered ones are `PersistMode::Buffer`,
//! durable ones `SyncData`. A batch can't read, so that channels and users are locked while it is made.

use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable};

use super::kv::{Get, Kv, Read, See, Table, Txn};
use super::stripes::Stripes;
use super::{CACHE, Durability};

pub struct Fjall {
    database: Database,
    tables: [Keyspace; 3],
    mode: PersistMode,
    stripes: Stripes,
}

impl Fjall {
    pub fn open(dir: &Path, durability: Durability) -> Result<Fjall> {
        let database = Database::builder(dir).cache_size(CACHE as u64).open()?;
        // Whoever asks for a head or a membership by its key finds it, nearly always.
        let options = || KeyspaceCreateOptions::default().expect_point_read_hits(true);
        let [messages, heads, members] = Table::ALL.map(|table| database.keyspace(table.name(), options));
        let mode = match durability {
            Durability::Buffered => PersistMode::Buffer,
            Durability::Durable => PersistMode::SyncData,
        };
        Ok(Fjall { tables: [messages?, heads?, members?], database, mode, stripes: Stripes::new() })
    }
}

pub struct Snapshot<'a> {
    snapshot: fjall::Snapshot,
    tables: &'a [Keyspace; 3],
}

impl Get for Snapshot<'_> {
    fn get(&self, table: Table, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(value) = self.snapshot.get(&self.tables[table as usize], key)? {
            see(&value);
        }
        Ok(())
    }
}

impl Read for Snapshot<'_> {
    fn scan(&self, table: Table, from: &[u8], to: &[u8], reverse: bool, see: See<'_>) -> Result<()> {
        let mut pairs = self.snapshot.range(&self.tables[table as usize], from..=to);
        while let Some(pair) = if reverse { pairs.next_back() } else { pairs.next() } {
            let (key, value) = pair.into_inner()?;
            if !see(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}

struct Write<'a> {
    batch: OwnedWriteBatch,
    tables: &'a [Keyspace; 3],
}

impl Get for Write<'_> {
    fn get(&self, table: Table, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(value) = self.tables[table as usize].get(key)? {
            see(&value);
        }
        Ok(())
    }
}

impl Txn for Write<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.batch.insert(&self.tables[table as usize], key, value);
        Ok(())
    }
}

impl Kv for Fjall {
    type Snapshot<'a> = Snapshot<'a>;

    fn snapshot(&self) -> Result<Snapshot<'_>> {
        Ok(Snapshot { snapshot: self.database.snapshot(), tables: &self.tables })
    }

    fn write(
        &self,
        touched: &mut dyn Iterator<Item = u64>,
        work: &mut dyn FnMut(&mut dyn Txn) -> Result<()>,
    ) -> Result<()> {
        let _locks = self.stripes.lock(touched);
        let batch = self.database.batch().durability(Some(self.mode));
        let mut write = Write { batch, tables: &self.tables };
        work(&mut write)?;
        Ok(write.batch.commit()?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    fn split(&self) -> Result<()> {
        Ok(self.tables[Table::Messages as usize].rotate_memtable_and_wait()?)
    }

    fn settle(&mut self) -> Result<()> {
        for table in &self.tables {
            table.rotate_memtable_and_wait()?;
            table.major_compact()?;
        }
        Ok(())
    }
}
