//! The numbers of a store, given to the recorder of the `metrics` facade.

use metrics::Label;

use super::report::Stat;

/// Publishes the numbers of one store.
struct Publisher<'a> {
    store: &'a str,
}

impl Publisher<'_> {
    fn labels(&self, others: &[(&'static str, &'static str)]) -> Vec<Label> {
        let store = Label::new("store", self.store.to_owned());
        let others = others.iter().map(|(name, value)| Label::from_static_parts(name, value));
        [store].into_iter().chain(others).collect()
    }

    fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &'static str)],
        value: f64,
    ) {
        metrics::describe_gauge!(name, help);
        metrics::gauge!(name, self.labels(labels)).set(value);
    }

    fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &'static str)],
        value: u64,
    ) {
        metrics::describe_counter!(name, help);
        metrics::counter!(name, self.labels(labels)).absolute(value);
    }
}

impl Stat {
    /// Gives all of it to the recorder of the [`metrics`](https://docs.rs/metrics) facade, with the label `store`: call it before
    /// each scrape, or every few seconds. Commits and reads pay nothing for it. A call costs about a hundred look-ups by the
    /// recorder, and nothing much if there is none.
    ///
    /// | gauges | labels |
    /// |---|---|
    /// | `chanlog_version`, `chanlog_channels`, `chanlog_users`, `chanlog_messages` | |
    /// | `chanlog_files`, `chanlog_file_bytes` | `kind`: `log`, `segment`, `run` |
    /// | `chanlog_memory_bytes` | `of`: `heads`, `layers`, `filters`, `views`, `feeds`, `cache` |
    /// | `chanlog_waiting` | `what`: `unwritten`, `unacknowledged`, `waiters`, `unsealed` (see [`Queues`](crate::Queues)) |
    /// | `chanlog_views`, `chanlog_damaged_files`, `chanlog_headroom_bytes` | |
    /// | `chanlog_latency_seconds` | `of`: `commit`, `sync`, `seal`, `merge`, `list`, `since`, `history`; `quantile`: `0.5`, `0.9`, `0.99`, `0.999`, `1` |
    /// | `chanlog_latency_seconds_sum` | `of` |
    ///
    /// | counters | labels |
    /// |---|---|
    /// | `chanlog_latency_seconds_count` | `of` |
    /// | `chanlog_bytes_total` | `by`: `callers`, `log`, `sealing`, `merging` |
    /// | `chanlog_syncs_total`, `chanlog_adopted_total`, `chanlog_scrubbed_bytes_total` | |
    /// | `chanlog_cache_total` | `outcome`: `hit`, `miss` |
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// store.stat()?.publish("messages");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish(&self, store: &str) {
        let to = Publisher { store };
        self.publish_sizes(&to);
        self.publish_work(&to);
        self.publish_latencies(&to);
    }

    fn publish_sizes(&self, to: &Publisher<'_>) {
        to.gauge("chanlog_version", "The version of the last change", &[], self.version as f64);
        to.gauge("chanlog_channels", "Channels", &[], self.channels as f64);
        to.gauge("chanlog_users", "Users", &[], self.users as f64);
        to.gauge("chanlog_messages", "Messages", &[], self.messages as f64);
        for (kind, files) in [("log", self.logs), ("segment", self.segments), ("run", self.runs)] {
            to.gauge("chanlog_files", "Files", &[("kind", kind)], files.count as f64);
            to.gauge("chanlog_file_bytes", "The bytes of files", &[("kind", kind)], files.bytes as f64);
        }
        let memory = [
            ("heads", self.heads),
            ("layers", self.layers),
            ("filters", self.filters),
            ("views", self.queues.view_memory),
            ("feeds", self.queues.feed_memory),
            ("cache", self.cache.bytes),
        ];
        to.gauge("chanlog_headroom_bytes", "Room that is kept on the disk", &[], self.headroom as f64);
        for (of, bytes) in memory {
            to.gauge("chanlog_memory_bytes", "Memory in use", &[("of", of)], bytes as f64);
        }
    }

    fn publish_work(&self, to: &Publisher<'_>) {
        let waiting = [
            ("unwritten", self.queues.unwritten),
            ("unacknowledged", self.queues.unacknowledged),
            ("waiters", self.queues.waiters),
            ("unsealed", self.queues.unsealed),
        ];
        for (what, count) in waiting {
            to.gauge("chanlog_waiting", "What waits at the moment", &[("what", what)], count as f64);
        }
        to.gauge("chanlog_views", "Views that are held", &[], self.queues.views as f64);
        let damaged = self.scrubbed.damaged as f64;
        to.gauge("chanlog_damaged_files", "Files in which scrubbing found damage", &[], damaged);
        let bytes = [
            ("callers", self.user_bytes),
            ("log", self.log_bytes),
            ("sealing", self.sealed_bytes),
            ("merging", self.merged_bytes),
        ];
        for (by, bytes) in bytes {
            to.counter("chanlog_bytes_total", "Bytes given or written, ever", &[("by", by)], bytes);
        }
        to.counter("chanlog_syncs_total", "Syncs of the log", &[], self.syncs);
        let scrubbed = self.scrubbed.bytes;
        to.counter(
            "chanlog_scrubbed_bytes_total",
            "Bytes of sealed files that were read again",
            &[],
            scrubbed,
        );
        to.counter("chanlog_adopted_total", "Commits written as they were prepared", &[], self.adopted);
        for (outcome, count) in [("hit", self.cache.hits), ("miss", self.cache.misses)] {
            to.counter("chanlog_cache_total", "Look-ups in the block cache", &[("outcome", outcome)], count);
        }
    }

    fn publish_latencies(&self, to: &Publisher<'_>) {
        let quantiles = [("0.5", 50.0), ("0.9", 90.0), ("0.99", 99.0), ("0.999", 99.9), ("1", 100.0)];
        for (of, histogram) in self.latencies.each() {
            let help = "How long it took";
            for (quantile, percent) in quantiles {
                let seconds = histogram.percentile(percent).as_secs_f64();
                to.gauge("chanlog_latency_seconds", help, &[("of", of), ("quantile", quantile)], seconds);
            }
            to.gauge("chanlog_latency_seconds_sum", help, &[("of", of)], histogram.sum_ns as f64 / 1e9);
            to.counter("chanlog_latency_seconds_count", help, &[("of", of)], histogram.count);
        }
    }
}
