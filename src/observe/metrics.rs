//! The metrics of `/metrics`, in Prometheus's text format 0.0.4.
//!
//! [`FAMILIES`] is the one place where a metric exists: its name, type, labels, help and where its
//! values come from. `docs/metrics.md` is held to it by a test.

mod families;

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use super::histogram::{BOUNDS_US, Distribution};
use super::host::HostCounters;
use super::stats::Stats;

pub use families::FAMILIES;

/// Media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric's values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only rises, except when the process starts anew.
    Counter,
    /// A level.
    Gauge,
    /// Counts per bucket.
    Histogram,
}

impl Type {
    /// Name in the text format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// Names of its labels, in the order of the values.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub help: &'static str,
    samples: fn(&Stats, &HostCounters, &mut Samples<'_>),
}

/// Writes the samples of one family.
struct Samples<'a> {
    family: &'a Family,
    text: &'a mut String,
}

impl Samples<'_> {
    /// One sample, with the values of the family's labels.
    fn add(&mut self, labels: &[&str], value: impl std::fmt::Display) {
        self.line("", labels, None, value);
    }

    /// One sample per reason, the first label being the same.
    fn tally(&mut self, first: &str, counts: impl Iterator<Item = (&'static str, u64)>) {
        for (reason, count) in counts {
            self.add(&[first, reason], count);
        }
    }

    /// The buckets, the sum and the count of one histogram.
    fn histogram(&mut self, label: &str, distribution: &Distribution) {
        let mut cumulative = 0;
        for (index, count) in distribution.counts.iter().enumerate() {
            cumulative += count;
            let bound = BOUNDS_US.get(index).map_or("+Inf".to_owned(), |us| decimal_seconds(*us));
            self.line("_bucket", &[label], Some(&bound), cumulative);
        }
        self.line("_sum", &[label], None, decimal_seconds(distribution.sum_us));
        self.line("_count", &[label], None, cumulative);
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[&str],
        le: Option<&str>,
        value: impl std::fmt::Display,
    ) {
        debug_assert_eq!(labels.len(), self.family.labels.len(), "{}", self.family.name);
        self.text.push_str(self.family.name);
        self.text.push_str(suffix);
        let le = le.map(|bound| ("le", bound));
        let pairs = self.family.labels.iter().copied().zip(labels.iter().copied()).chain(le);
        let mut open = '{';
        for (name, value) in pairs {
            self.text.push(open);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape_into(self.text, value);
            self.text.push('"');
            open = ',';
        }
        if open == ',' {
            self.text.push('}');
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, " {value}");
    }
}

/// Microseconds as seconds without rounding: `0.0001`, `60`.
fn decimal_seconds(microseconds: u64) -> String {
    let text = format!("{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A label's value as the text format wants it.
fn escape_into(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

/// The text of `/metrics`. Families that have no sample on this host are left out.
#[must_use]
pub fn render(stats: &Stats, host: &HostCounters) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for family in FAMILIES {
        let before = text.len();
        let Family { name, kind, help, .. } = family;
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
        let first_sample = text.len();
        (family.samples)(stats, host, &mut Samples { family, text: &mut text });
        if text.len() == first_sample {
            text.truncate(before);
        }
    }
    text
}
