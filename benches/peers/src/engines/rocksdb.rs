//! RocksDB: three column families of one database.
//!
//! Settings, from its wiki ("Setup Options and Basic Tuning", "Other General Options"): levels with dynamic sizes, blocks of 16 KiB in an
//! LRU cache of 256 MiB with index and filter blocks, bloom filters of 10 bits, format 5, lz4, as many background jobs as there are
//! cores, `bytes_per_sync` of 1 MiB. A commit is one batch, durable ones with `sync`, which commits of several threads share. A batch
//! can't read, so that channels and users are locked while it is made. Heads of a list are read by one `MultiGet`.

use std::path::Path;
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, CompactOptions, DB, DBCompressionType,
    Options, ReadOptions, Snapshot as DbSnapshot, WriteBatch, WriteOptions,
};

use super::kv::{Get, Kv, Read, See, Table, Txn};
use super::stripes::Stripes;
use super::{CACHE, Durability};

pub struct RocksDb {
    db: DB,
    durable: bool,
    stripes: Stripes,
}

impl RocksDb {
    pub fn open(dir: &Path, durability: Durability) -> Result<RocksDb> {
        let options = options();
        let families = Table::ALL.map(|table| (table.name(), options.clone()));
        let db = DB::open_cf_with_opts(&options, dir, families)?;
        Ok(RocksDb { db, durable: durability == Durability::Durable, stripes: Stripes::new() })
    }
}

fn options() -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_size(16 << 10);
    blocks.set_block_cache(&Cache::new_lru_cache(CACHE));
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_format_version(5);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_block_based_table_factory(&blocks);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.increase_parallelism(available_parallelism().map_or(2, |cores| cores.get() as i32));
    options.set_bytes_per_sync(1 << 20);
    options
}

fn family(db: &DB, table: Table) -> Result<&ColumnFamily> {
    db.cf_handle(table.name()).context("a column family")
}

pub struct Snapshot<'a> {
    db: &'a DB,
    snapshot: DbSnapshot<'a>,
}

impl Snapshot<'_> {
    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        options
    }
}

impl Get for Snapshot<'_> {
    fn get(&self, table: Table, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(value) = self.snapshot.get_pinned_cf(family(self.db, table)?, key)? {
            see(&value);
        }
        Ok(())
    }
}

impl Read for Snapshot<'_> {
    fn get_many(&self, table: Table, keys: &[[u8; 8]], see: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let values = self.db.batched_multi_get_cf_opt(family(self.db, table)?, keys, true, &self.options());
        for (at, value) in values.into_iter().enumerate() {
            if let Some(value) = value? {
                see(at, &value);
            }
        }
        Ok(())
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], reverse: bool, see: See<'_>) -> Result<()> {
        let mut options = self.options();
        options.set_iterate_lower_bound(from);
        // The bound is not included: the shortest key that is greater is the last one and a zero.
        options.set_iterate_upper_bound([to, &[0]].concat());
        let mut pairs = self.db.raw_iterator_cf_opt(family(self.db, table)?, options);
        if reverse {
            pairs.seek_to_last();
        } else {
            pairs.seek_to_first();
        }
        while let Some((key, value)) = pairs.item() {
            if !see(key, value) {
                break;
            }
            if reverse {
                pairs.prev();
            } else {
                pairs.next();
            }
        }
        Ok(pairs.status()?)
    }
}

struct Write<'a> {
    db: &'a DB,
    batch: WriteBatch,
}

impl Get for Write<'_> {
    fn get(&self, table: Table, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(value) = self.db.get_pinned_cf(family(self.db, table)?, key)? {
            see(&value);
        }
        Ok(())
    }
}

impl Txn for Write<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.batch.put_cf(family(self.db, table)?, key, value);
        Ok(())
    }
}

impl Kv for RocksDb {
    type Snapshot<'a> = Snapshot<'a>;

    fn snapshot(&self) -> Result<Snapshot<'_>> {
        Ok(Snapshot { db: &self.db, snapshot: self.db.snapshot() })
    }

    fn write(
        &self,
        touched: &mut dyn Iterator<Item = u64>,
        work: &mut dyn FnMut(&mut dyn Txn) -> Result<()>,
    ) -> Result<()> {
        let _locks = self.stripes.lock(touched);
        let mut write = Write { db: &self.db, batch: WriteBatch::default() };
        work(&mut write)?;
        let mut options = WriteOptions::default();
        options.set_sync(self.durable);
        Ok(self.db.write_opt(write.batch, &options)?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.db.flush_wal(true)?)
    }

    fn split(&self) -> Result<()> {
        Ok(self.db.flush_cf(family(&self.db, Table::Messages)?)?)
    }

    fn settle(&mut self) -> Result<()> {
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        for table in Table::ALL {
            let family = family(&self.db, table)?;
            self.db.flush_cf(family)?;
            self.db.compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &options);
        }
        Ok(())
    }
}
