//! redb: three tables in one file. A commit is one transaction; there is one writer at a time.
//!
//! Settings: 256 MiB of cache. A buffered commit is `Durability::None`. redb has no commit that is with the operating system only: what
//! was committed so is lost with the process, unless an `Immediate` one follows. So one in each 100 ms is that, as chanlog syncs in
//! such intervals.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};

use super::kv::{Get, Kv, Read, See, Table, Txn};
use super::{CACHE, Durability};

const SYNC_INTERVAL: Duration = Duration::from_millis(100);

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

pub struct Redb {
    database: Database,
    durability: Durability,
    /// When a commit was last made durable.
    synced: Mutex<Instant>,
}

impl Redb {
    pub fn open(dir: &Path, durability: Durability) -> Result<Redb> {
        let database = Database::builder().set_cache_size(CACHE).create(dir.join("store.redb"))?;
        let txn = database.begin_write()?;
        for table in Table::ALL {
            txn.open_table(definition(table))?;
        }
        txn.commit()?;
        Ok(Redb { database, durability, synced: Mutex::new(Instant::now()) })
    }

    fn durability(&self) -> redb::Durability {
        let mut synced = self.synced.lock().expect("no panic elsewhere");
        if self.durability == Durability::Buffered && synced.elapsed() < SYNC_INTERVAL {
            return redb::Durability::None;
        }
        *synced = Instant::now();
        redb::Durability::Immediate
    }
}

type Rows = ReadOnlyTable<&'static [u8], &'static [u8]>;

pub struct Snapshot {
    txn: ReadTransaction,
    /// Opened when they are asked for.
    tables: [OnceCell<Rows>; 3],
}

impl Snapshot {
    fn table(&self, table: Table) -> Result<&Rows> {
        let cell = &self.tables[table as usize];
        if cell.get().is_none() {
            let opened = self.txn.open_table(definition(table))?;
            return Ok(cell.get_or_init(|| opened));
        }
        Ok(cell.get().expect("it was opened"))
    }
}

impl Get for Snapshot {
    fn get(&self, table: Table, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(value) = ReadableTable::get(self.table(table)?, key)? {
            see(value.value());
        }
        Ok(())
    }
}

impl Read for Snapshot {
    fn scan(&self, table: Table, from: &[u8], to: &[u8], reverse: bool, see: See<'_>) -> Result<()> {
        let mut range = ReadableTable::range::<&[u8]>(self.table(table)?, from..=to)?;
        while let Some(pair) = if reverse { range.next_back() } else { range.next() } {
            let (key, value) = pair?;
            if !see(key.value(), value.value()) {
                break;
            }
        }
        Ok(())
    }
}

struct Write<'t> {
    tables: [redb::Table<'t, &'static [u8], &'static [u8]>; 3],
}

impl Get for Write<'_> {
    fn get(&self, table: Table, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(value) = self.tables[table as usize].get(key)? {
            see(value.value());
        }
        Ok(())
    }
}

impl Txn for Write<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.tables[table as usize].insert(key, value)?;
        Ok(())
    }
}

impl Kv for Redb {
    type Snapshot<'a> = Snapshot;

    fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot { txn: self.database.begin_read()?, tables: Default::default() })
    }

    fn write(
        &self,
        _touched: &mut dyn Iterator<Item = u64>,
        work: &mut dyn FnMut(&mut dyn Txn) -> Result<()>,
    ) -> Result<()> {
        let mut txn = self.database.begin_write()?;
        txn.set_durability(self.durability())?;
        let [messages, heads, members] = Table::ALL.map(|table| txn.open_table(definition(table)));
        let mut write = Write { tables: [messages?, heads?, members?] };
        work(&mut write)?;
        drop(write);
        Ok(txn.commit()?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.begin_write()?.commit()?)
    }

    fn settle(&mut self) -> Result<()> {
        while self.database.compact()? {}
        Ok(())
    }
}
