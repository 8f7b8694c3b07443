//! chanlog, by its public interface, with its defaults.

use std::collections::VecDeque;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use chanlog::{Batch, Conversation, HistoryFrom, JoinOptions, ListChange, Message, Options, Store, Update};

use super::{Durability, Engine, Kind, Token, number};
use crate::digest::{Digest, Entry, Shown};
use crate::world::{Draft, Mark, Member};

pub struct Chanlog {
    store: Store,
    /// Whether everything is sealed and merged when the store is filled.
    seals: bool,
}

impl Chanlog {
    pub fn open(dir: &Path, durability: Durability, kind: Kind, expected: u64) -> Result<Chanlog> {
        let mut options = Options::new().durability(match durability {
            Durability::Buffered => chanlog::Durability::Buffered,
            Durability::Durable => chanlog::Durability::Sync,
        });
        if kind == Kind::ChanlogLog {
            // A record has a header, and the file has frames.
            let segment = (2 * expected).clamp(64 << 20, 4 << 30) - 1;
            options = options.log_segment(segment).memtable(4 << 30).background(false);
        }
        Ok(Chanlog { store: options.open(dir)?, seals: kind == Kind::ChanlogSealed })
    }
}

impl Engine for Chanlog {
    fn append(&self, drafts: &[Draft]) -> Result<()> {
        let mut batch = Batch::new();
        for draft in drafts {
            batch.append(name(draft.channel), sent(draft));
        }
        self.store.commit(&batch)?;
        Ok(())
    }

    fn append_in_flight(&self, drafts: &[Draft], window: usize) -> Result<bool> {
        let mut commits = VecDeque::with_capacity(window);
        let mut batch = Batch::new();
        for draft in drafts {
            if commits.len() == window {
                commits.pop_front().map(chanlog::Commit::wait).transpose()?;
            }
            batch.reset().append(name(draft.channel), sent(draft));
            commits.push_back(self.store.submit(&batch)?);
        }
        for commit in commits {
            commit.wait()?;
        }
        Ok(true)
    }

    fn last(&self, channel: u64, count: usize, digest: &mut Digest) -> Result<()> {
        self.store.history(name(channel)).reverse().limit(count).visit(&mut |message| {
            digest.message(channel, shown(&message));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(())
    }

    fn last_kept(&self, channel: u64, count: usize) -> Result<u64> {
        let kept = black_box(self.store.history(name(channel)).last(count)?);
        Ok(kept.iter().map(|message| message.seq + message.payload.len() as u64).sum())
    }

    fn range(&self, channel: u64, from: u64, count: usize, digest: &mut Digest) -> Result<()> {
        self.store.history(name(channel)).from(from).limit(count).visit(&mut |message| {
            digest.message(channel, shown(&message));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(())
    }

    fn last_seq(&self, channel: u64) -> Result<u64> {
        Ok(self.store.head(name(channel))?.last.seq)
    }

    fn join(&self, members: &[Member], unread: bool) -> Result<()> {
        let options = match unread {
            true => JoinOptions::new().history(HistoryFrom::Start).read(0),
            false => JoinOptions::new(),
        };
        let mut batch = Batch::new();
        for member in members {
            batch.join_with(name(member.channel), name(member.user), options);
        }
        self.store.commit(&batch)?;
        Ok(())
    }

    fn mark(&self, marks: &[Mark]) -> Result<()> {
        let mut batch = Batch::new();
        for Mark { member, seq } in marks {
            batch.read(name(member.channel), name(member.user), *seq);
        }
        self.store.commit(&batch)?;
        Ok(())
    }

    fn read_seq(&self, member: Member) -> Result<Option<u64>> {
        let row = self.store.membership(name(member.channel), name(member.user))?;
        Ok(row.map(|row| row.cursor().seq))
    }

    fn list(&self, user: u64, limit: usize, unread_only: bool, digest: &mut Digest) -> Result<()> {
        let mut question = self.store.conversations(name(user)).limit(limit);
        if unread_only {
            question = question.unread_only();
        }
        question.list()?.entries.iter().try_for_each(|entry| show(entry, digest))
    }

    fn token(&self, user: u64) -> Result<Token> {
        Ok(Token::Chanlog(self.store.conversations(name(user)).list()?.as_of))
    }

    fn since(&self, user: u64, token: &Token, digest: &mut Digest) -> Result<()> {
        let Token::Chanlog(token) = token else { bail!("a token of another store") };
        let Update::Changes { changes, .. } = self.store.conversations(name(user)).since(token)? else {
            bail!("the token is not known");
        };
        for change in &changes {
            let ListChange::Entry(entry) = change else { bail!("a conversation went away") };
            show(entry, digest)?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(self.store.sync()?)
    }

    fn split(&self) -> Result<()> {
        Ok(self.store.seal()?)
    }

    fn settle(&mut self) -> Result<()> {
        if self.seals {
            self.store.seal()?;
            self.store.compact()?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.store.close()?)
    }
}

fn name(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn sent(draft: &Draft) -> chanlog::Draft {
    chanlog::Draft::new(name(draft.sender), draft.at, Bytes::clone(&draft.payload)).id(draft.id)
}

fn shown(message: &Message) -> Shown<'_> {
    Shown {
        seq: message.seq,
        id: message.id.unwrap_or_default(),
        sender: number(&message.sender),
        at: message.timestamp,
        payload: &message.payload,
    }
}

fn show(entry: &Conversation, digest: &mut Digest) -> Result<()> {
    let last = entry.last.as_ref().context("an entry without its last message")?;
    let (last_seq, read_seq) = (entry.last_seq, entry.read_seq);
    digest.entry(Entry { channel: number(&entry.channel), last_seq, read_seq, last: shown(last) });
    Ok(())
}
