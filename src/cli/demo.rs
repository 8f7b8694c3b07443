//! `demo`: a day of a made-up instant-messaging service, a user's conversation list, and the experiment.
//!
//! The day depends on the seed only, so that two runs can be compared.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chanlog::{Batch, Commit, Draft, HistoryFrom, JoinOptions, ListChange, Outcome, Store};
use indicatif::HumanCount;

use crate::conversations::{self, Entry};
use crate::experiment;
use crate::failure::{Failure, Result};
use crate::open;
use crate::output::Output;
use crate::progress;
use crate::random::Random;
use crate::text;

/// Fill a fresh store with a day of chat, list a user's conversations, and measure what a message into a large group costs
#[derive(clap::Args)]
pub struct Args {
    /// Where to make the store, which is then kept; a temporary directory without it
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Another seed, another day
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many messages the day has
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    messages: u64,
    /// The group sizes of the experiment
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [2, 100, 10_000, 1_000_000])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    groups: Vec<u32>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

const USERS: usize = 2000;
const CHANNELS: usize = 400;
/// Monday, 2 March 2026, 00:00 UTC.
const MIDNIGHT: i64 = 1_772_409_600_000;
/// How many messages an hour of the day has, compared with the others.
const HOURS: [u64; 24] =
    [2, 1, 1, 1, 1, 2, 4, 8, 14, 18, 19, 17, 12, 14, 18, 18, 16, 14, 12, 12, 13, 12, 8, 4];
const NAMES: [&str; 16] = [
    "ana", "bo", "chen", "dara", "emeka", "fatima", "goran", "hana", "ivo", "jun", "kofi", "lena", "mei",
    "noor", "olu", "priya",
];
const TEXTS: [&str; 16] = [
    "morning!",
    "who has the keys to room 4?",
    "ok",
    "收到",
    "I'll be ten minutes late, start without me",
    "👍",
    "did the deploy go through? the dashboard still shows yesterday's numbers",
    "да, конечно",
    "see you at lunch",
    "can you look at my branch when you have a moment? no hurry",
    "haha",
    "the printer on the second floor is out of paper again",
    "thank you!!",
    "すみません、今会議中です",
    "here is the draft: https://example.com/d/8812, comments welcome until Thursday",
    "no idea, ask in the other channel",
];
/// How many commits may be on their way to the disk. They share its syncs.
const IN_FLIGHT: u64 = 256;
/// How many conversations are shown.
const SHOWN: usize = 15;

/// Runs the demonstration.
pub fn run(args: &Args) -> Result {
    let temporary = tempfile::Builder::new().prefix("chanlog-demo-").tempdir();
    let temporary = temporary.map_err(|e| Failure::told(format!("no temporary directory: {e}")))?;
    let dir = args.store.as_deref().unwrap_or(temporary.path());
    // The demonstration writes a million names, which nobody wants among their own.
    open::check_fresh(dir)?;
    let store = Store::open(dir)?;
    let mut out = Output::new();
    let mut day = Day::new(args.seed);
    let started = Instant::now();
    day.play(&store, args.messages)?;
    if !args.json {
        people_day(&mut out, dir, &day, started.elapsed())?;
    }
    list(&store, &mut out, &day.busiest(), args.json)?;
    experiment::run(&store, &args.groups, &mut out, args.json)?;
    store.close()?;
    Ok(out.flush()?)
}

struct Channel {
    name: String,
    /// The talkative ones first.
    members: Vec<usize>,
}

/// A day in the making.
struct Day {
    random: Random,
    channels: Vec<Channel>,
    /// Messages and row changes that were written.
    messages: u64,
    changes: u64,
}

impl Day {
    fn new(seed: u64) -> Day {
        let mut random = Random::new(seed);
        let channels = (0..CHANNELS).map(|number| channel(number, &mut random)).collect();
        Day { random, channels, messages: 0, changes: 0 }
    }

    /// Writes the day to a store.
    fn play(&mut self, store: &Store, messages: u64) -> Result {
        let bar = progress::count("a day of chat", messages);
        for channel in &self.channels {
            let mut batch = Batch::new();
            for user in &channel.members {
                batch.join(&channel.name, name(*user));
            }
            store.commit(&batch)?;
        }
        let mut flight = Vec::new();
        for (done, time) in times(&mut self.random, messages).into_iter().enumerate() {
            flight.push(store.submit(&self.step(time))?);
            if flight.len() as u64 == IN_FLIGHT {
                self.land(&mut flight)?;
                bar.set_position(done as u64);
            }
        }
        self.land(&mut flight)?;
        bar.finish_and_clear();
        Ok(())
    }

    fn land(&mut self, flight: &mut Vec<Commit>) -> Result {
        for commit in flight.drain(..) {
            for outcome in commit.wait()?.outcomes() {
                match outcome {
                    Outcome::Appended { .. } => self.messages += 1,
                    Outcome::Changed { .. } => self.changes += 1,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// A message, and what people do about it.
    fn step(&mut self, time: i64) -> Batch {
        let random = &mut self.random;
        let Channel { name: channel, members } = &mut self.channels[random.skewed(CHANNELS)];
        let mut batch = Batch::new();
        let sender = name(members[random.skewed(members.len())]);
        let text = TEXTS[random.below(TEXTS.len())];
        batch.append(
            &channel,
            match random.one_in(40) {
                true => Draft::new(sender, time, "started a call").silent(),
                false => Draft::new(sender, time, text),
            },
        );
        for _ in 0..random.below(4) {
            batch.read(&channel, name(members[random.below(members.len())]), u64::MAX);
        }
        if random.one_in(200) {
            batch.hide(&channel, name(members[random.below(members.len())]));
        }
        if members.len() > 2 && random.one_in(150) {
            batch.leave(&channel, name(members.remove(random.below(members.len()))));
        }
        let guest = random.below(USERS);
        if members.len() > 2 && random.one_in(150) && !members.contains(&guest) {
            batch.join_with(&channel, name(guest), JoinOptions::new().history(HistoryFrom::Start));
            members.push(guest);
        }
        batch
    }

    /// The user with most channels.
    fn busiest(&self) -> String {
        let mut counts = vec![0; USERS];
        for user in self.channels.iter().flat_map(|channel| &channel.members) {
            counts[*user] += 1;
        }
        name((0..USERS).max_by_key(|user| counts[*user]).unwrap_or_default())
    }
}

/// Some large groups, some teams, and many direct conversations.
fn channel(number: usize, random: &mut Random) -> Channel {
    let (kind, size) = match number {
        0..20 => ("town", 60 + random.below(340)),
        20..140 => ("team", 3 + random.below(38)),
        _ => ("direct", 2),
    };
    let mut members = Vec::with_capacity(size);
    while members.len() < size {
        // Some people are everywhere.
        let user = if random.one_in(3) { random.skewed(USERS) } else { random.below(USERS) };
        if !members.contains(&user) {
            members.push(user);
        }
    }
    Channel { name: format!("{kind}/{number}"), members }
}

fn name(user: usize) -> String {
    format!("{}.{}", NAMES[user % NAMES.len()], user / NAMES.len())
}

/// When messages are sent, in order: few at night, most in the middle of the day.
fn times(random: &mut Random, count: u64) -> Vec<i64> {
    let total = HOURS.iter().sum::<u64>() as usize;
    let mut times = Vec::new();
    for _ in 0..count {
        let mut pick = random.below(total) as u64;
        let hour = HOURS.iter().position(|weight| match pick.checked_sub(*weight) {
            Some(rest) => {
                pick = rest;
                false
            }
            None => true,
        });
        times.push(MIDNIGHT + hour.unwrap_or_default() as i64 * 3_600_000 + random.below(3_600_000) as i64);
    }
    times.sort_unstable();
    times
}

fn people_day(out: &mut Output, dir: &Path, day: &Day, time: Duration) -> Result {
    let (messages, changes, seconds) =
        (HumanCount(day.messages), HumanCount(day.changes), time.as_secs_f64());
    out.line(format!("A day of chat in {}", dir.display()))?;
    out.line(format!(
        "{USERS} users, {CHANNELS} channels, {messages} messages and {changes} reads, hides, joins and leaves; \
         each message durable, up to {IN_FLIGHT} on their way at once: {seconds:.2} s\n"
    ))?;
    Ok(())
}

/// Shows the list of a user.
fn list(store: &Store, out: &mut Output, user: &str, json: bool) -> Result {
    let started = Instant::now();
    let list = store.conversations(user).limit(SHOWN).list()?;
    let micros = started.elapsed().as_micros();
    if json {
        for entry in &list.entries {
            out.json(&Entry::new(user.as_bytes(), entry))?;
        }
        return Ok(());
    }
    let channels = store.channels_of(user).list()?.len();
    let entries: Vec<_> = list.entries.into_iter().map(ListChange::Entry).collect();
    out.line(format!(
        "The conversations of {}, who is in {channels} channels: the first {}, computed in {micros} µs",
        text::label(user.as_bytes()),
        entries.len()
    ))?;
    out.line(conversations::table(&entries))?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_day() {
        let day = |seed| {
            let mut day = Day::new(seed);
            let times = times(&mut day.random, 100);
            format!("{:?}", times.into_iter().map(|time| day.step(time)).collect::<Vec<_>>())
        };
        assert_eq!(day(1), day(1));
        assert_ne!(day(1), day(2));
    }

    #[test]
    fn the_times_are_those_of_one_day() {
        let times = times(&mut Random::new(1), 1000);
        assert!(times.is_sorted());
        assert!(times[0] >= MIDNIGHT && times[999] < MIDNIGHT + 86_400_000);
    }
}
