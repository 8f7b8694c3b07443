//! LMDB by heed: three databases in one environment. A commit is one transaction; there is one writer at a time, and readers see the
//! pages of the map.
//!
//! Settings: no read-ahead, as reads are small and anywhere; a map that is never full; readers without thread-local slots, as a
//! server has many threads. Buffered commits are `MDB_NOSYNC`, without a writable map, so that a process that dies harms nothing.

use std::ops::Bound;
use std::path::Path;

use anyhow::Result;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};

use super::Durability;
use super::kv::{Get, Kv, Read, See, Table, Txn};

type Db = Database<'static, Bytes, Bytes>;

/// Room for the map; only what is used is on disk.
const MAP: usize = 64 << 30;
const READERS: u32 = 2048;

pub struct Lmdb {
    env: Env<WithoutTls>,
    tables: [Db; 3],
}

impl Lmdb {
    #[allow(unsafe_code, reason = "heed can't know who else opens the files, or that a lost sync is meant")]
    pub fn open(dir: &Path, durability: Durability) -> Result<Lmdb> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP).max_dbs(Table::ALL.len() as u32).max_readers(READERS);
        let flags = match durability {
            Durability::Buffered => EnvFlags::NO_READ_AHEAD | EnvFlags::NO_SYNC,
            Durability::Durable => EnvFlags::NO_READ_AHEAD,
        };
        // SAFETY: no one else opens this directory, and a loss of power is no part of what is measured.
        let env = unsafe {
            options.flags(flags);
            options.open(dir)?
        };
        let tables = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
            let [messages, heads, members] =
                Table::ALL.map(|table| opener.create_database(txn, Some(table.name())));
            heed::Result::Ok(CommitOrAbort::<_, ()>::Commit([messages?, heads?, members?]))
        })?;
        Ok(Lmdb { tables: tables.unwrap_commit(), env })
    }
}

pub struct Snapshot<'a> {
    txn: RoTxn<'a, WithoutTls>,
    tables: &'a [Db; 3],
}

impl Get for Snapshot<'_> {
    fn get(&self, table: Table, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.tables[table as usize].get(&self.txn, key)?.into_iter().for_each(see);
        Ok(())
    }
}

impl Read for Snapshot<'_> {
    fn scan(&self, table: Table, from: &[u8], to: &[u8], reverse: bool, see: See<'_>) -> Result<()> {
        let range = (Bound::Included(from), Bound::Included(to));
        let table = &self.tables[table as usize];
        if reverse {
            each(table.rev_range(&self.txn, &range)?, see)
        } else {
            each(table.range(&self.txn, &range)?, see)
        }
    }
}

fn each<'t>(pairs: impl Iterator<Item = heed::Result<(&'t [u8], &'t [u8])>>, see: See<'_>) -> Result<()> {
    for pair in pairs {
        let (key, value) = pair?;
        if !see(key, value) {
            break;
        }
    }
    Ok(())
}

struct Write<'a> {
    txn: RwTxn<'a>,
    tables: &'a [Db; 3],
}

impl Get for Write<'_> {
    fn get(&self, table: Table, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.tables[table as usize].get(&self.txn, key)?.into_iter().for_each(see);
        Ok(())
    }
}

impl Txn for Write<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.tables[table as usize].put(&mut self.txn, key, value)?)
    }
}

impl Kv for Lmdb {
    type Snapshot<'a> = Snapshot<'a>;

    fn snapshot(&self) -> Result<Snapshot<'_>> {
        Ok(Snapshot { txn: self.env.read_txn()?, tables: &self.tables })
    }

    fn write(
        &self,
        _touched: &mut dyn Iterator<Item = u64>,
        work: &mut dyn FnMut(&mut dyn Txn) -> Result<()>,
    ) -> Result<()> {
        let mut write = Write { txn: self.env.write_txn()?, tables: &self.tables };
        work(&mut write)?;
        Ok(write.txn.commit()?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }
}
