//! Writes a run, section by section.

use std::path::Path;

use super::HashKey;
use super::footer::Footer;
use super::heads::HeadsWriter;
use super::list::ListWriter;
use super::names::{NamesWriter, Place};
use super::output::Output;
use super::value::valid;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::sealed::{Kind, SealedWriter, StoreId};
use crate::types::{ChannelId, Head, Row, UserId};

/// The sections, in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Rows,
    Members,
    Heads,
    Channels,
    Users,
    End,
}

/// A run in the making. Feed the sections in the order of its methods, each sorted; an empty one may be left out.
pub struct RunBuilder<'p> {
    out: Output<'p>,
    key: HashKey,
    section: Section,
    rows: ListWriter<Row>,
    members: ListWriter<bool>,
    heads: HeadsWriter,
    footer: Footer,
}

impl<'p> RunBuilder<'p> {
    /// Makes the file. `pace` is told of written bytes every now and then; it may wait, and an error from it stops the
    /// build.
    pub fn create(
        env: &dyn Env,
        dir: &Path,
        store: StoreId,
        id: u64,
        key: HashKey,
        pace: impl FnMut(u64) -> Result<()> + 'p,
    ) -> Result<Self> {
        Ok(RunBuilder {
            out: Output::new(SealedWriter::create(env, dir, Kind::Run, store, id)?, pace),
            key,
            section: Section::Rows,
            rows: ListWriter::new(),
            members: ListWriter::new(),
            heads: HeadsWriter::default(),
            footer: Footer::default(),
        })
    }

    /// Ends the sections before `section`.
    fn enter(&mut self, section: Section) -> Result<()> {
        if self.section > section {
            return Err(Error::invalid("a section of a run is out of order"));
        }
        if self.section <= Section::Rows && section > Section::Rows {
            self.footer.rows = self.rows.finish(&mut self.out)?;
        }
        if self.section <= Section::Members && section > Section::Members {
            self.footer.members = self.members.finish(&mut self.out)?;
        }
        if self.section <= Section::Heads && section > Section::Heads {
            self.footer.heads = self.heads.finish(&self.out);
        }
        self.section = section;
        Ok(())
    }

    /// Appends a row, by user and channel.
    pub fn row(&mut self, user: UserId, channel: ChannelId, row: &Row) -> Result<()> {
        self.enter(Section::Rows)?;
        if ![row.base, row.read, row.own, row.deleted].into_iter().all(valid) {
            return Err(Error::invalid("a mark has an ordinal above its seq"));
        }
        self.rows.push(&mut self.out, (user.0, channel.0), *row)
    }

    /// Appends a member, by channel and user. `present` is false for one that left.
    pub fn member(&mut self, channel: ChannelId, user: UserId, present: bool) -> Result<()> {
        self.enter(Section::Members)?;
        self.members.push(&mut self.out, (channel.0, user.0), present)
    }

    /// Appends a head, by channel.
    pub fn head(&mut self, channel: ChannelId, head: &Head) -> Result<()> {
        self.enter(Section::Heads)?;
        self.heads.push(&mut self.out, channel, head)
    }

    /// The names of new channels, in the order of their ids, which begin with `first`.
    pub fn channels<N: AsRef<[u8]>>(&mut self, first: u32, names: impl IntoIterator<Item = N>) -> Result<()> {
        let (count, mut sorted) = sort(first, names)?;
        self.sorted_channels(first, count, &mut || Ok(sorted.next()))
    }

    /// The names of new users, in the order of their ids, which begin with `first`.
    pub fn users<N: AsRef<[u8]>>(&mut self, first: u32, names: impl IntoIterator<Item = N>) -> Result<()> {
        let (count, mut sorted) = sort(first, names)?;
        self.sorted_users(first, count, &mut || Ok(sorted.next()))
    }

    /// Like [`RunBuilder::channels`], from a source that gives them in byte order.
    pub(super) fn sorted_channels<N: AsRef<[u8]>>(
        &mut self,
        first: u32,
        count: u32,
        source: &mut dyn FnMut() -> Result<Option<(N, u32)>>,
    ) -> Result<()> {
        self.enter(Section::Channels)?;
        self.footer.channels = self.names(first, count, source)?;
        self.enter(Section::Users)
    }

    /// Like [`RunBuilder::users`], from a source that gives them in byte order.
    pub(super) fn sorted_users<N: AsRef<[u8]>>(
        &mut self,
        first: u32,
        count: u32,
        source: &mut dyn FnMut() -> Result<Option<(N, u32)>>,
    ) -> Result<()> {
        self.enter(Section::Users)?;
        self.footer.users = self.names(first, count, source)?;
        self.enter(Section::End)
    }

    fn names<N: AsRef<[u8]>>(
        &mut self,
        first: u32,
        count: u32,
        source: &mut dyn FnMut() -> Result<Option<(N, u32)>>,
    ) -> Result<Place> {
        let mut names = NamesWriter::new(&self.out, self.key, first, count)?;
        while let Some((name, id)) = source()? {
            names.push(&mut self.out, name.as_ref(), id)?;
        }
        names.finish(&mut self.out)
    }

    /// Ends the run, which covers the versions from the first to the second, and syncs it. Returns its length.
    pub fn finish(mut self, versions: (u64, u64)) -> Result<u64> {
        self.enter(Section::End)?;
        self.footer.versions = versions;
        self.out.finish(&self.footer.encode(&self.key))
    }
}

/// Gives names their ids, and sorts them. Returns their number too.
fn sort<N: AsRef<[u8]>>(
    first: u32,
    names: impl IntoIterator<Item = N>,
) -> Result<(u32, impl Iterator<Item = (N, u32)>)> {
    let mut sorted: Vec<(N, u32)> = names.into_iter().zip(first..=u32::MAX).collect();
    let count = u32::try_from(sorted.len()).map_err(|_| Error::invalid("there are no ids left"))?;
    sorted.sort_unstable_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()));
    Ok((count, sorted.into_iter()))
}
