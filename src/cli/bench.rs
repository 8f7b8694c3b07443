//! `bench`: how long a store's main works take on this machine and its disk.
//!
//! All works are done on one store, in order: it is filled and sealed, then messages come in as they do on a server, and it is read.
//! So what is read is sealed for the most part, and the newest messages are in the log.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use chanlog::{Batch, Draft, Durability, Options, Store, SyncToken};
use indicatif::HumanCount;

use crate::failure::{Failure, Result};
use crate::open;
use crate::output::Output;
use crate::random::Random;
use crate::stopwatch::{Stopwatch, Work, timed};

/// Measure how long a store's main works take, on this disk
#[derive(clap::Args)]
pub struct Args {
    /// Where to make the store, which is then kept; a temporary directory in the current one without it
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How many messages the store is filled with
    #[arg(long, value_name = "N", default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1000..))]
    messages: u64,
    /// What an earlier run with as many messages printed as JSON, to be compared with
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// So many users send.
const SENDERS: usize = 1000;
/// Channels of which somebody has a conversation list.
const CHANNELS: u64 = 4000;
/// Users with so many conversations each.
const LISTS: [u64; 2] = [200, 2000];
/// How many messages each channel gets whose history is read.
const HISTORY: u64 = 500;
const THREADS: u64 = 64;
/// 2 March 2026.
const BEGIN: i64 = 1_772_409_600_000;
const TEXT: &str = "did the deploy go through? the dashboard still shows yesterday's numbers, and nobody answers in \
                    the other channel; I'll be ten minutes late, start without me";

/// Measures, and prints what it measured.
pub fn run(args: &Args) -> Result {
    let mut stopwatch = Stopwatch::new(args.messages, args.against.as_deref())?;
    match &args.dir {
        Some(dir) => measure(dir, args.messages, &mut stopwatch)?,
        None => {
            let here = tempfile::Builder::new().prefix("chanlog-bench-").tempdir_in(".");
            let here =
                here.map_err(|e| Failure::told(format!("no directory can be made here: {e}; see --dir")))?;
            measure(here.path(), args.messages, &mut stopwatch)?;
        }
    }
    let mut out = Output::new();
    if args.json {
        stopwatch.measured.iter().try_for_each(|measured| out.json(measured))?;
    } else {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        out.line(format!(
            "A store of {} messages, {cores} cores. A unit's time is a mean; with threads, of all of them together.",
            HumanCount(args.messages)
        ))?;
        out.line(stopwatch.table())?;
    }
    Ok(out.flush()?)
}

fn measure(dir: &Path, messages: u64, stopwatch: &mut Stopwatch) -> Result {
    open::check_fresh(dir)?;
    let made = Made::new(Store::open(dir)?, messages);
    made.fill(stopwatch)?;
    made.send(stopwatch)?;
    made.look(stopwatch)?;
    made.store.close()?;
    reopen(dir, stopwatch)
}

/// A store in the making.
struct Made {
    store: Store,
    messages: u64,
    /// Channels with histories.
    busy: u64,
    chat: Mutex<Chat>,
}

/// Messages, one after the other.
struct Chat {
    random: Random,
    sent: i64,
}

impl Chat {
    fn draft(&mut self) -> Draft {
        self.sent += 1;
        let (sender, end) = (self.random.below(SENDERS), 5 + self.random.skewed(TEXT.len() - 5));
        Draft::new(user(sender as u64), BEGIN + self.sent, &TEXT[..end])
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random.below(n as usize) as u64
    }
}

impl Made {
    fn new(store: Store, messages: u64) -> Made {
        let chat = Mutex::new(Chat { random: Random::new(1), sent: 0 });
        // Half of the messages go to these.
        Made { store, messages, busy: (messages / 2 / HISTORY).clamp(1, CHANNELS / 2), chat }
    }

    fn chat(&self) -> std::sync::MutexGuard<'_, Chat> {
        self.chat.lock().expect("no panic")
    }

    /// Makes channels, messages and memberships, and seals them.
    fn fill(&self, stopwatch: &mut Stopwatch) -> Result {
        let work = Work {
            name: "make channels, 250 in a commit",
            unit: "channels",
            units: 250,
            calls: CHANNELS / 250,
        };
        stopwatch.measure(&work, |call| self.append(call * 250..(call + 1) * 250, Durability::Sync))?;
        let calls = self.messages.div_ceil(256);
        let work = Work { name: "append, 256 in a commit, buffered", unit: "messages", units: 256, calls };
        stopwatch.measure(&work, |call| {
            let mut chat = self.chat();
            let channels =
                (0..256).map(|n| chat.below(if (call + n) % 2 == 0 { self.busy } else { CHANNELS }));
            let channels: Vec<_> = channels.collect();
            drop(chat);
            self.append(channels, Durability::Buffered)
        })?;
        for (list, count) in LISTS.into_iter().enumerate() {
            let mut batch = Batch::new();
            (0..count).for_each(|n| _ = batch.join(channel(listed(count, n)), lister(list)));
            self.store.commit(&batch)?;
        }
        let calls = (self.messages / 4 / 4096).max(2);
        let work = Work { name: "join, 4,096 in a commit, buffered", unit: "rows", units: 4096, calls };
        stopwatch.measure(&work, |call| {
            let mut batch = Batch::new();
            batch.durability(Durability::Buffered);
            for n in call * 4096..(call + 1) * 4096 {
                batch.join(channel(n % CHANNELS), user(n / CHANNELS));
            }
            timed(|| self.store.commit(&batch))
        })?;
        self.store.seal()?;
        while self.store.maintain()? {}
        Ok(())
    }

    /// Commits a message to each of these channels.
    fn append(&self, channels: impl IntoIterator<Item = u64>, durability: Durability) -> Result<Duration> {
        let mut batch = Batch::new();
        batch.durability(durability);
        let mut chat = self.chat();
        channels.into_iter().for_each(|n| _ = batch.append(channel(n), chat.draft()));
        drop(chat);
        timed(|| self.store.commit(&batch))
    }

    /// Sends and marks as read, one message a commit.
    fn send(&self, stopwatch: &mut Stopwatch) -> Result {
        let one = |n: u64, durability| self.append([n * 7 % CHANNELS], durability);
        let work = Work { name: "append, durable", unit: "messages", units: 1, calls: self.messages / 125 };
        stopwatch.measure(&work, |n| one(n, Durability::Sync))?;
        let work = Work {
            name: "append, durable, 64 threads",
            unit: "messages",
            units: 1,
            calls: self.messages / 8,
        };
        stopwatch.together(&work, THREADS, |n| one(n, Durability::Sync))?;
        let work = Work { name: "append, buffered", unit: "messages", units: 1, calls: self.messages / 25 };
        stopwatch.measure(&work, |n| one(n, Durability::Buffered))?;
        let work = Work {
            name: "append and mark as read, buffered",
            unit: "pairs",
            units: 1,
            calls: self.messages / 25,
        };
        stopwatch.measure(&work, |n| {
            let mut batch = Batch::new();
            let channel = channel(listed(LISTS[1], n % LISTS[1]));
            batch.append(&channel, self.chat().draft()).read(&channel, lister(1), u64::MAX);
            timed(|| self.store.commit(batch.durability(Durability::Buffered)))
        })
    }

    /// Reads lists and histories.
    fn look(&self, stopwatch: &mut Stopwatch) -> Result {
        let names = ["list, first 50 of 200 conversations", "list, first 50 of 2,000 conversations"];
        for (list, name) in names.into_iter().enumerate() {
            let work = Work { name, unit: "lists", units: 1, calls: self.messages / 100 };
            let ask = || self.store.conversations(lister(list)).limit(50).list();
            stopwatch.measure(&work, |_| timed(ask))?;
        }
        let names = ["since, 5 changed of 200 conversations", "since, 5 changed of 2,000 conversations"];
        for (list, name) in names.into_iter().enumerate() {
            // Of a list that was cut the token stands for what was not told, too.
            let token: SyncToken = self.store.conversations(lister(list)).list()?.as_of;
            let count = LISTS[list];
            self.append((0..5).map(|n| listed(count, n * (count / 5))), Durability::Buffered)?;
            let work = Work { name, unit: "updates", units: 1, calls: self.messages / 25 };
            let ask = || self.store.conversations(lister(list)).since(&token);
            stopwatch.measure(&work, |_| timed(ask))?;
        }
        let work = Work { name: "history, last 20", unit: "pages", units: 1, calls: self.messages / 25 };
        stopwatch.measure(&work, |_| {
            let channel = channel(self.chat().below(self.busy));
            timed(|| self.store.history(channel).last(20))
        })?;
        let work =
            Work { name: "history, 50 from the middle", unit: "pages", units: 1, calls: self.messages / 25 };
        stopwatch.measure(&work, |_| {
            let channel = channel(self.chat().below(self.busy));
            timed(|| self.store.history(channel).from(HISTORY / 2).limit(50).list())
        })
    }
}

/// Opens the store some times, each after a close that left the log as it was.
fn reopen(dir: &Path, stopwatch: &mut Stopwatch) -> Result {
    let work = Work { name: "open", unit: "times", units: 1, calls: 10 };
    stopwatch.measure(&work, |_| {
        let mut opened = None;
        let time = timed(|| Options::new().background(false).open(dir).map(|store| opened = Some(store)))?;
        opened.map_or(Ok(()), |store: Store| store.close())?;
        Ok(time)
    })
}

/// The `n`-th channel of the user who has `count`: they are spread over all.
fn listed(count: u64, n: u64) -> u64 {
    n * (CHANNELS / count)
}

fn channel(n: u64) -> String {
    format!("channel/{n}")
}

fn user(n: u64) -> String {
    format!("user/{n}")
}

/// Who has a list of conversations.
fn lister(list: usize) -> String {
    format!("list/{}", LISTS[list])
}
