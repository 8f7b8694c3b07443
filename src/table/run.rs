//! Reads a run.

use std::path::Path;

use super::HashKey;
use super::footer::Footer;
use super::heads::HeadCursor;
use super::list::{Cursor, List, Value};
use super::names::Names;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::sealed::{Kind, Sealed, StoreId};
use crate::types::{ChannelId, Head, Row, UserId};

/// An open run.
#[derive(Debug)]
pub struct Run {
    file: Sealed,
    footer: Footer,
    key: HashKey,
}

impl Run {
    /// Opens run `id` of a store. `len` is what the manifest says, `key` what the run was built with.
    pub fn open(env: &dyn Env, dir: &Path, store: StoreId, id: u64, len: u64, key: HashKey) -> Result<Run> {
        Run::parse(Sealed::open(env, dir, Kind::Run, store, id, len)?, key)
    }

    /// Reads a sealed file as a run.
    pub fn parse(file: Sealed, key: HashKey) -> Result<Run> {
        let footer = Footer::decode(&file, &key)?;
        Ok(Run { file, footer, key })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The first and the last version that the run covers.
    pub fn versions(&self) -> (u64, u64) {
        self.footer.versions
    }

    fn row_list(&self) -> List<'_, Row> {
        List::new(&self.file, self.footer.rows)
    }

    fn member_list(&self) -> List<'_, bool> {
        List::new(&self.file, self.footer.members)
    }

    /// The row of a user in a channel.
    pub fn row(&self, user: UserId, channel: ChannelId) -> Result<Option<Row>> {
        self.row_list().get((user.0, channel.0))
    }

    /// The rows of a user in channels from `from` on, by channel, whose version is above `newer_than`; with 0, all.
    /// Blocks that hold none are skipped unread. A floor comes last, under [`FLOOR`](super::FLOOR).
    pub fn rows(&self, user: UserId, from: ChannelId, newer_than: u64) -> RowCursor<'_> {
        let cursor = self.row_list().range((user.0, from.0), (user.0, u32::MAX), newer_than);
        RowCursor { user, cursor }
    }

    /// All rows, by (user, channel).
    pub fn all_rows(&self) -> Cursor<'_, Row> {
        self.row_list().all()
    }

    /// The members of a channel, present or gone, from `from` on.
    pub fn members(&self, channel: ChannelId, from: UserId) -> MemberCursor<'_> {
        MemberCursor { cursor: self.member_list().range((channel.0, from.0), (channel.0, u32::MAX), 0) }
    }

    /// All members, by (channel, user).
    pub fn all_members(&self) -> Cursor<'_, bool> {
        self.member_list().all()
    }

    /// All heads, by channel.
    pub fn all_heads(&self) -> HeadCursor<'_> {
        HeadCursor::new(&self.file, self.footer.heads)
    }

    /// Shows all heads to `visit`, by channel. Its first error ends it.
    pub fn heads(&self, visit: &mut dyn FnMut(ChannelId, Head) -> Result<()>) -> Result<()> {
        let mut heads = self.all_heads();
        while let Some((channel, head)) = heads.next()? {
            visit(channel, head)?;
        }
        Ok(())
    }

    /// The names of the channels that are new in this run.
    pub fn channel_names(&self) -> Names<'_> {
        Names::new(&self.file, self.footer.channels)
    }

    /// The names of the users that are new in this run.
    pub fn user_names(&self) -> Names<'_> {
        Names::new(&self.file, self.footer.users)
    }

    /// An error that names this run's file.
    pub fn corrupt(&self, what: impl Into<String>) -> Error {
        self.file.corrupt(0, what)
    }

    /// Reads and checks every byte, and hands each fault to `report`.
    pub fn verify(&self, report: &mut dyn FnMut(Error)) {
        let mut bad_pages = false;
        self.file.verify(|fault| {
            bad_pages = true;
            report(fault);
        });
        // Whatever is read through a bad page is the same fault again.
        if bad_pages {
            return;
        }
        let sections = [
            self.verify_list(self.all_rows(), self.footer.rows.entries),
            self.verify_list(self.all_members(), self.footer.members.entries),
            self.heads(&mut |_, head| self.verify_version(head.version)),
            self.channel_names().verify(&self.key),
            self.user_names().verify(&self.key),
        ];
        sections.into_iter().filter_map(Result::err).for_each(report);
    }

    fn verify_list<V: Value>(&self, mut cursor: Cursor<'_, V>, expected: u64) -> Result<()> {
        let mut entries = 0;
        while let Some((_, value)) = cursor.next()? {
            self.verify_version(value.version())?;
            entries += 1;
        }
        match entries == expected {
            true => Ok(()),
            false => Err(self.corrupt(format!("a list of {entries} entries, not {expected}"))),
        }
    }

    fn verify_version(&self, version: u64) -> Result<()> {
        match version <= self.footer.versions.1 {
            true => Ok(()),
            false => Err(self.corrupt(format!("version {version} is newer than the run"))),
        }
    }
}

/// Walks over rows of one user, by channel.
pub struct RowCursor<'a> {
    user: UserId,
    cursor: Cursor<'a, Row>,
}

impl RowCursor<'_> {
    /// The next row.
    pub fn next(&mut self) -> Result<Option<(ChannelId, Row)>> {
        Ok(self.cursor.next()?.map(|((_, channel), row)| (ChannelId(channel), row)))
    }

    /// Goes forward to the first row at or after `channel`, past whole blocks where it can.
    pub fn seek(&mut self, channel: ChannelId) -> Result<()> {
        self.cursor.seek((self.user.0, channel.0))
    }
}

/// Walks over members of one channel, by user.
pub struct MemberCursor<'a> {
    cursor: Cursor<'a, bool>,
}

impl MemberCursor<'_> {
    /// The next member, and whether they are present.
    pub fn next(&mut self) -> Result<Option<(UserId, bool)>> {
        Ok(self.cursor.next()?.map(|((_, user), present)| (UserId(user), present)))
    }
}
