//! SQLite by rusqlite, with SQLite's own sources: one file with a write-ahead log.
//!
//! Tables are clustered by their keys (`WITHOUT ROWID`), so that a channel's messages and a user's rows are neighbours. One connection
//! writes, under a lock of this process, which is fairer than its busy handler; each reader takes a connection from a pool. Statements
//! are prepared once a connection. Buffered commits are `synchronous=NORMAL`, which its documentation names for this mode, durable ones
//! `FULL`.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use super::{CACHE, Durability, Engine, Token};
use crate::digest::{Digest, Entry, Shown};
use crate::world::{Draft, Mark, Member};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS messages (
        channel INTEGER, seq INTEGER, id INTEGER, sender INTEGER, at INTEGER, payload BLOB,
        PRIMARY KEY (channel, seq)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS heads (channel INTEGER PRIMARY KEY, seq INTEGER, id INTEGER);
    CREATE TABLE IF NOT EXISTS members (
        user INTEGER, channel INTEGER, read INTEGER, PRIMARY KEY (user, channel)
    ) WITHOUT ROWID;
";

const ADD_HEAD: &str = "INSERT INTO heads VALUES (?1, 1, ?2)
    ON CONFLICT DO UPDATE SET seq = seq + 1, id = excluded.id RETURNING seq";
const ADD_MESSAGE: &str = "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)";
const LAST: &str =
    "SELECT seq, id, sender, at, payload FROM messages WHERE channel = ? ORDER BY seq DESC LIMIT ?";
const RANGE: &str =
    "SELECT seq, id, sender, at, payload FROM messages WHERE channel = ? AND seq >= ? ORDER BY seq LIMIT ?";
const LAST_SEQ: &str = "SELECT seq FROM heads WHERE channel = ?";
const JOIN: &str = "INSERT OR IGNORE INTO members VALUES (?, ?, ?)";
const MARK: &str =
    "UPDATE members SET read = max(read, min(?3, ifnull((SELECT seq FROM heads WHERE channel = ?2), 0)))
    WHERE user = ?1 AND channel = ?2";
const READ_SEQ: &str = "SELECT read FROM members WHERE user = ? AND channel = ?";
/// The conversations of a user, ranked, and then the last messages of those that are shown.
const LIST: &str = "WITH top AS MATERIALIZED (
        SELECT heads.channel, heads.seq, heads.id, members.read FROM members JOIN heads USING (channel)
        WHERE members.user = ?1 AND (?2 OR heads.seq > members.read) ORDER BY heads.id DESC LIMIT ?3
    ) SELECT m.seq, m.id, m.sender, m.at, m.payload, top.channel, top.seq, top.read
    FROM top CROSS JOIN messages m ON m.channel = top.channel AND m.seq = top.seq ORDER BY top.id DESC";
const SINCE: &str = "WITH due AS MATERIALIZED (
        SELECT heads.channel, heads.seq, heads.id, members.read FROM members JOIN heads USING (channel)
        WHERE members.user = ?1 AND heads.id > ?2
    ) SELECT m.seq, m.id, m.sender, m.at, m.payload, due.channel, due.seq, due.read
    FROM due CROSS JOIN messages m ON m.channel = due.channel AND m.seq = due.seq ORDER BY due.id";
const NEWEST: &str = "SELECT max(heads.id) FROM members JOIN heads USING (channel) WHERE members.user = ?";

pub struct Sqlite {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    durability: Durability,
    /// How many commits there were since it was opened: if none was made, nothing changed.
    version: AtomicU64,
}

impl Sqlite {
    pub fn open(dir: &Path, durability: Durability) -> Result<Sqlite> {
        let path = dir.join("store.sqlite");
        let writer = connect(&path, durability)?;
        writer.execute_batch(SCHEMA)?;
        let (writer, readers) = (Mutex::new(writer), Mutex::default());
        Ok(Sqlite { path, writer, readers, durability, version: AtomicU64::new(0) })
    }

    /// A statement of one of the readers.
    fn read<R>(&self, sql: &str, ask: impl FnOnce(&mut Statement<'_>) -> Result<R>) -> Result<R> {
        let idle = self.readers.lock().expect("no panic elsewhere").pop();
        let connection = idle.map_or_else(|| connect(&self.path, self.durability), Ok)?;
        let answer = ask(&mut *connection.prepare_cached(sql)?)?;
        self.readers.lock().expect("no panic elsewhere").push(connection);
        Ok(answer)
    }

    fn write(&self, work: impl FnOnce(&Connection) -> Result<()>) -> Result<()> {
        let mut writer = self.writer.lock().expect("no panic elsewhere");
        let txn = writer.transaction()?;
        work(&txn)?;
        txn.commit()?;
        self.version.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}

fn connect(path: &Path, durability: Durability) -> Result<Connection> {
    let connection = Connection::open(path)?;
    let synchronous = match durability {
        Durability::Buffered => "NORMAL",
        Durability::Durable => "FULL",
    };
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "cache_size", -((CACHE / 1024) as i64))?;
    connection.pragma_update(None, "mmap_size", 64_i64 << 30)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

impl Engine for Sqlite {
    fn append(&self, drafts: &[Draft]) -> Result<()> {
        self.write(|txn| {
            let mut add_head = txn.prepare_cached(ADD_HEAD)?;
            let mut add_message = txn.prepare_cached(ADD_MESSAGE)?;
            for Draft { channel, id, sender, at, payload } in drafts {
                let seq: u64 = add_head.query_row(params![channel, id], |row| row.get(0))?;
                add_message.execute(params![channel, seq, id, sender, at, &payload[..]])?;
            }
            Ok(())
        })
    }

    fn last(&self, channel: u64, count: usize, digest: &mut Digest) -> Result<()> {
        self.read(LAST, |ask| {
            let mut rows = ask.query(params![channel, count])?;
            while let Some(row) = rows.next()? {
                digest.message(channel, shown(row)?);
            }
            Ok(())
        })
    }

    fn range(&self, channel: u64, from: u64, count: usize, digest: &mut Digest) -> Result<()> {
        self.read(RANGE, |ask| {
            let mut rows = ask.query(params![channel, from, count])?;
            while let Some(row) = rows.next()? {
                digest.message(channel, shown(row)?);
            }
            Ok(())
        })
    }

    fn last_seq(&self, channel: u64) -> Result<u64> {
        let seq = self.read(LAST_SEQ, |ask| Ok(ask.query_row([channel], |row| row.get(0)).optional()?))?;
        Ok(seq.unwrap_or_default())
    }

    fn join(&self, members: &[Member], unread: bool) -> Result<()> {
        self.write(|txn| {
            let mut last_seq = txn.prepare_cached(LAST_SEQ)?;
            let mut join = txn.prepare_cached(JOIN)?;
            for Member { user, channel } in members {
                let read = match unread {
                    true => 0,
                    false => last_seq.query_row([channel], |row| row.get(0)).optional()?.unwrap_or(0_u64),
                };
                join.execute(params![user, channel, read])?;
            }
            Ok(())
        })
    }

    fn mark(&self, marks: &[Mark]) -> Result<()> {
        self.write(|txn| {
            let mut mark = txn.prepare_cached(MARK)?;
            for &Mark { member: Member { user, channel }, seq } in marks {
                let seq = i64::try_from(seq).unwrap_or(i64::MAX);
                if mark.execute(params![user, channel, seq])? != 1 {
                    bail!("a mark of somebody who is no member");
                }
            }
            Ok(())
        })
    }

    fn read_seq(&self, member: Member) -> Result<Option<u64>> {
        let Member { user, channel } = member;
        self.read(READ_SEQ, |ask| Ok(ask.query_row([user, channel], |row| row.get(0)).optional()?))
    }

    fn list(&self, user: u64, limit: usize, unread_only: bool, digest: &mut Digest) -> Result<()> {
        self.read(LIST, |ask| {
            let mut rows = ask.query(params![user, !unread_only, limit])?;
            while let Some(row) = rows.next()? {
                show(row, digest)?;
            }
            Ok(())
        })
    }

    fn token(&self, user: u64) -> Result<Token> {
        let version = self.version.load(Ordering::Acquire);
        let id: Option<u64> = self.read(NEWEST, |ask| Ok(ask.query_row([user], |row| row.get(0))?))?;
        Ok(Token::Newest { id: id.unwrap_or_default(), version })
    }

    fn since(&self, user: u64, token: &Token, digest: &mut Digest) -> Result<()> {
        let Token::Newest { id, version } = *token else { bail!("a token of another store") };
        if version == self.version.load(Ordering::Acquire) {
            return Ok(());
        }
        self.read(SINCE, |ask| {
            let mut rows = ask.query(params![user, id])?;
            while let Some(row) = rows.next()? {
                show(row, digest)?;
            }
            Ok(())
        })
    }

    fn sync(&self) -> Result<()> {
        self.checkpoint("FULL")
    }

    fn settle(&mut self) -> Result<()> {
        self.readers.lock().expect("no panic elsewhere").clear();
        self.checkpoint("TRUNCATE")
    }

    fn close(self: Box<Self>) -> Result<()> {
        let Sqlite { writer, readers, .. } = *self;
        drop(readers);
        let writer = writer.into_inner().expect("no panic elsewhere");
        writer.close().map_err(|(_, error)| error).context("closing")
    }
}

impl Sqlite {
    fn checkpoint(&self, mode: &str) -> Result<()> {
        let writer = self.writer.lock().expect("no panic elsewhere");
        let busy: i64 = writer.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(0))?;
        if busy != 0 {
            bail!("a checkpoint found the database busy");
        }
        Ok(())
    }
}

fn shown<'r>(row: &'r Row<'_>) -> Result<Shown<'r>> {
    let payload = row.get_ref(4)?.as_blob()?;
    Ok(Shown { seq: row.get(0)?, id: row.get(1)?, sender: row.get(2)?, at: row.get(3)?, payload })
}

fn show(row: &Row<'_>, digest: &mut Digest) -> Result<()> {
    let last = shown(row)?;
    digest.entry(Entry { channel: row.get(5)?, last_seq: row.get(6)?, read_seq: row.get(7)?, last });
    Ok(())
}
