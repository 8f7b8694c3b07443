//! How long a channel keeps its messages.

use std::time::Duration;

/// How long messages are kept, by age, by number and by bytes. What is beyond any limit may be trimmed. Without a limit, a channel's
/// policy leaves it to the store's default ([`Options::retention`](crate::Options::retention)), and the default keeps all.
///
/// ```
/// use chanlog::RetentionPolicy;
/// use std::time::Duration;
/// let policy = RetentionPolicy::new().max_age(Duration::from_secs(30 * 24 * 3600)).max_count(100_000);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct RetentionPolicy {
    pub(crate) max_age_ms: Option<u64>,
    pub(crate) max_count: Option<u64>,
    pub(crate) max_bytes: Option<u64>,
}

impl RetentionPolicy {
    /// No limits.
    pub fn new() -> RetentionPolicy {
        RetentionPolicy::default()
    }

    /// Messages go when their timestamp is older than this, at least 1 ms: from the oldest message on, up to the first one that
    /// is not so old. So one with a timestamp in the future keeps those after it, and none goes too early.
    pub fn max_age(mut self, age: Duration) -> RetentionPolicy {
        self.max_age_ms = Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX).max(1));
        self
    }

    /// The newest so many messages stay, at least 1. A great number keeps all, whatever the default says.
    pub fn max_count(mut self, messages: u64) -> RetentionPolicy {
        self.max_count = Some(messages.max(1));
        self
    }

    /// The newest messages stay that take so many bytes together, at least 1. They count as their records before compression: with
    /// their ids, and about 20 bytes each besides. Never less stays than that, and at most one block of a file more (16 KiB, or one
    /// message, if that is larger). An erased message counts as what is left of it.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes.max(1));
        self
    }

    /// Whether there is no limit.
    pub(crate) fn is_empty(&self) -> bool {
        *self == RetentionPolicy::default()
    }
}
