//! What the `metrics` facade is given.

#![cfg(all(feature = "sim", feature = "metrics"))]

mod hooks;
#[path = "../examples/metrics/text.rs"]
mod text;

use chanlog::Durability;
use chanlog::env::SimEnv;
use hooks::{DIR, append, options};
use text::Text;

#[test]
fn the_facade_gets_what_the_store_tells() {
    let store = options(SimEnv::new(1)).open(DIR).unwrap();
    for _ in 0..4 {
        append(&store, "c", "x", Durability::Sync).unwrap();
        store.seal().unwrap();
    }
    store.history("c").list().unwrap();
    let (stat, text) = (store.stat().unwrap(), Text::default());
    metrics::with_local_recorder(&text, || {
        stat.publish("a \"store\"");
        // What was counted before stays.
        stat.publish("a \"store\"");
    });
    let rendered = text.render();
    let label = r#"store="a \"store\"""#;
    for line in [
        format!("chanlog_messages{{{label}}} 4"),
        format!("chanlog_channels{{{label}}} 1"),
        format!("chanlog_files{{{label},kind=\"segment\"}} 4"),
        format!("chanlog_bytes_total{{{label},by=\"callers\"}} {}", stat.user_bytes),
        format!("chanlog_syncs_total{{{label}}} {}", stat.syncs),
        format!("chanlog_latency_seconds_count{{{label},of=\"commit\"}} 4"),
        format!("chanlog_latency_seconds_count{{{label},of=\"history\"}} 1"),
        format!("chanlog_latency_seconds{{{label},of=\"merge\",quantile=\"0.99\"}} 0"),
        "# TYPE chanlog_syncs_total counter".into(),
        "# TYPE chanlog_messages gauge".into(),
        "# HELP chanlog_messages Messages".into(),
    ] {
        assert!(rendered.lines().any(|other| other == line), "{line} is not in\n{rendered}");
    }
}

#[test]
fn all_names_are_listed_in_the_docs() {
    let store = options(SimEnv::new(1)).open(DIR).unwrap();
    let text = Text::default();
    metrics::with_local_recorder(&text, || store.stat().unwrap().publish("s"));
    let docs = include_str!("../src/upkeep/publish.rs");
    let rendered = text.render();
    let names = rendered.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let rows: Vec<_> = docs.lines().filter(|line| line.trim().starts_with("/// | `")).collect();
    let mut count = 0;
    for name in names {
        count += 1;
        assert!(rows.iter().any(|row| row.contains(&format!("`{name}`"))), "{name} is not listed");
    }
    assert!(count > 10, "{rendered}");
}
