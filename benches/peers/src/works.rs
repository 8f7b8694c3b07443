//! The works that are measured, in the order of the tables.

use serde::{Deserialize, Serialize};

/// What is measured in one process.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// Fills the store that the next four use.
    Build,
    Open,
    Read,
    List,
    Write,
    Durable,
    Kill,
    Spread,
    Mixed,
}

impl Group {
    pub const ALL: [Group; 9] = [
        Group::Build,
        Group::Open,
        Group::Read,
        Group::List,
        Group::Write,
        Group::Durable,
        Group::Kill,
        Group::Spread,
        Group::Mixed,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Group::Build => "Appending, buffered",
            Group::Open => "Opening",
            Group::Read => "Reading messages",
            Group::List => "Conversation lists",
            Group::Write => "Marks, joins, and waits beside them",
            Group::Durable => "Appending, durable",
            Group::Kill => "Opening after SIGKILL",
            Group::Spread => "A channel spread over many files",
            Group::Mixed => "A steady mixed load",
        }
    }

    pub fn file(self) -> &'static str {
        match self {
            Group::Build => "append",
            Group::Open => "open",
            Group::Read => "read",
            Group::List => "list",
            Group::Write => "write",
            Group::Durable => "durable",
            Group::Kill => "kill",
            Group::Spread => "spread",
            Group::Mixed => "mixed",
        }
    }

    /// Whether it asks a store that was filled before.
    pub fn needs_build(self) -> bool {
        matches!(self, Group::Open | Group::Read | Group::List | Group::Write)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    PerSecond,
    Micros,
    Millis,
    /// Bytes for each byte that was given.
    Times,
    Count,
}

impl Unit {
    pub fn more_is_better(self) -> bool {
        self == Unit::PerSecond
    }

    pub fn show(self, value: f64) -> String {
        match self {
            Unit::PerSecond if value >= 1e6 => format!("{} M/s", three(value / 1e6)),
            Unit::PerSecond if value >= 1e3 => format!("{} k/s", three(value / 1e3)),
            Unit::PerSecond => format!("{}/s", three(value)),
            Unit::Micros if value < 0.1 => format!("{} ns", three(value * 1e3)),
            Unit::Micros if value >= 1e3 => format!("{} ms", three(value / 1e3)),
            Unit::Micros => format!("{} µs", three(value)),
            Unit::Millis if value >= 1e3 => format!("{} s", three(value / 1e3)),
            Unit::Millis => format!("{} ms", three(value)),
            Unit::Times => format!("{value:.2}"),
            Unit::Count => format!("{value:.0}"),
        }
    }
}

/// Three digits that count; four places at most.
pub fn three(value: f64) -> String {
    match value {
        _ if value < 0.01 => format!("{value:.4}"),
        _ if value < 0.1 => format!("{value:.3}"),
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub struct Work {
    pub id: &'static str,
    pub title: &'static str,
    pub unit: Unit,
    pub group: Group,
}

const fn work(group: Group, id: &'static str, title: &'static str, unit: Unit) -> Work {
    Work { id, title, unit, group }
}

pub const WORKS: [Work; 46] = [
    work(Group::Build, "append-new", "append, 256 a commit, channels made as they come", Unit::PerSecond),
    work(Group::Build, "append-old", "append, 256 a commit, all channels exist", Unit::PerSecond),
    work(Group::Build, "append-cpu", "CPU a message, all threads", Unit::Micros),
    work(Group::Build, "append-cpu-caller", "CPU a message, the calling thread", Unit::Micros),
    work(Group::Build, "written", "written / given", Unit::Times),
    work(Group::Build, "disk", "on disk / given, when settled", Unit::Times),
    work(Group::Build, "disk-used", "the same, what is only reserved apart", Unit::Times),
    work(Group::Durable, "durable-1", "append, 1 thread", Unit::PerSecond),
    work(Group::Durable, "durable-8", "append, 8 threads", Unit::PerSecond),
    work(Group::Durable, "durable-64", "append, 64 threads", Unit::PerSecond),
    work(Group::Durable, "durable-64-p99", "append, 64 threads, p99", Unit::Millis),
    work(Group::Durable, "durable-1000", "append, 1,000 threads", Unit::PerSecond),
    work(Group::Durable, "durable-1000-p99", "append, 1,000 threads, p99", Unit::Millis),
    work(Group::Durable, "in-flight-64", "append, 1 thread, 64 in flight", Unit::PerSecond),
    work(Group::Read, "last-busy", "last 20, Zipf", Unit::Micros),
    work(Group::Read, "last-any", "last 20, any channel", Unit::Micros),
    work(Group::Read, "last-busy-kept", "last 20, Zipf, as a list to keep", Unit::Micros),
    work(Group::Read, "last-any-kept", "last 20, any channel, as a list to keep", Unit::Micros),
    work(Group::Read, "middle", "50 from the middle, Zipf", Unit::Micros),
    work(Group::List, "list-200", "list of 200, top 100 with last messages", Unit::Micros),
    work(Group::List, "list-2000", "list of 2,000, top 100", Unit::Micros),
    work(Group::List, "list-20000", "list of 20,000, top 50", Unit::Micros),
    work(Group::List, "since-nothing", "since, nothing changed at all, 2,000", Unit::Micros),
    work(Group::List, "since-others", "since, only others' channels changed, 2,000", Unit::Micros),
    work(Group::List, "since-20", "since, 20 changed of 2,000", Unit::Micros),
    work(Group::List, "unread-none", "unread only, nothing unread of 2,000", Unit::Micros),
    work(Group::Write, "mark-1", "mark as read, 1 a commit", Unit::Micros),
    work(Group::Write, "mark-256", "mark as read, 256 a commit, a row", Unit::Micros),
    work(Group::Write, "join", "bulk join, 4,096 a commit, rows", Unit::PerSecond),
    work(Group::Write, "quiet-worst", "worst append, 1,000 a second", Unit::Millis),
    work(Group::Write, "beside-joins", "longest append beside one batch of joins", Unit::Millis),
    work(Group::Open, "make", "make a store", Unit::Millis),
    work(Group::Open, "open-tiny", "open a store of one message", Unit::Millis),
    work(Group::Open, "open-clean", "open the filled store, closed before", Unit::Millis),
    work(Group::Kill, "open-killed", "open, killed before", Unit::Millis),
    work(Group::Spread, "spread-first", "20 from seq 1", Unit::Micros),
    work(Group::Spread, "spread-mark", "mark as read at an old seq", Unit::Micros),
    work(Group::Mixed, "mixed-rate", "messages, 16 a commit, 2 threads", Unit::PerSecond),
    work(Group::Mixed, "mixed-send-p99", "send, p99", Unit::Micros),
    work(Group::Mixed, "mixed-send-worst", "send, worst", Unit::Millis),
    work(Group::Mixed, "mixed-over-1", "sends over 1 ms", Unit::Count),
    work(Group::Mixed, "mixed-over-10", "sends over 10 ms", Unit::Count),
    work(Group::Mixed, "mixed-over-100", "sends over 100 ms", Unit::Count),
    work(Group::Mixed, "mixed-list-p50", "list of 200, top 50, p50", Unit::Micros),
    work(Group::Mixed, "mixed-written", "written / given", Unit::Times),
    work(
        Group::Mixed,
        "mixed-disk",
        "on disk / given, when settled, what is only reserved apart",
        Unit::Times,
    ),
];

/// The result of one work in one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measure {
    pub work: String,
    pub value: f64,
    /// The sum over all that was answered.
    pub sum: Option<String>,
}
