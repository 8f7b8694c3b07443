//! A small recorder for the `metrics` facade, which writes what it was given as Prometheus reads it. A server takes
//! `metrics-exporter-prometheus` or whatever it has; this one needs nothing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};

/// Holds the newest number of each name and labels.
#[derive(Clone, Default)]
pub struct Text(Arc<Mutex<Families>>);

type Families = BTreeMap<String, Family>;

/// The numbers of one name.
#[derive(Default)]
struct Family {
    kind: &'static str,
    help: String,
    /// By labels. Gauges are the bits of an f64.
    numbers: BTreeMap<String, Arc<AtomicU64>>,
}

impl Text {
    /// All numbers, in the text format of Prometheus.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &*self.0.lock().unwrap() {
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {}", family.help, family.kind);
            for (labels, number) in &family.numbers {
                let number = number.load(Ordering::Relaxed);
                let _ = match family.kind {
                    "counter" => writeln!(text, "{name}{{{labels}}} {number}"),
                    _ => writeln!(text, "{name}{{{labels}}} {}", f64::from_bits(number)),
                };
            }
        }
        text
    }

    fn describe(&self, name: &KeyName, help: &SharedString) {
        self.0.lock().unwrap().entry(name.as_str().into()).or_default().help = help.to_string();
    }

    fn number(&self, key: &Key, kind: &'static str) -> Arc<AtomicU64> {
        let escaped = |value: &str| value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels = key.labels().map(|label| format!("{}=\"{}\"", label.key(), escaped(label.value())));
        let mut families = self.0.lock().unwrap();
        let family = families.entry(key.name().into()).or_default();
        family.kind = kind;
        family.numbers.entry(labels.collect::<Vec<_>>().join(",")).or_default().clone()
    }
}

impl metrics::Recorder for Text {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.number(key, "counter"))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.number(key, "gauge"))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        // A store publishes none: it counts by itself, and tells quantiles.
        Histogram::noop()
    }
}
