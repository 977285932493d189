//! The metrics of `/metrics`, in Prometheus's text format 0.0.4.
//!
//! [`FAMILIES`] is the one place where a metric exists: its name, type, labels, help and where its
//! values come from. `docs/metrics.md` is held to it by a test.

use std::fmt::Write as _;

use super::histogram::{BOUNDS_US, Distribution};
use super::host::{HostCounters, IpCounters};
use super::stats::{DestinationStats, ListenerStats, Stats};

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

use Type::{Counter, Gauge, Histogram};

/// Every metric, in the order of the text.
pub static FAMILIES: &[Family] = &[
    Family {
        name: "ringside_build_info",
        kind: Gauge,
        labels: &["version", "backend"],
        help: "Always 1; the labels say which version runs and how it receives.",
        samples: |stats, _, out| out.add(&[stats.version, stats.backend], 1),
    },
    Family {
        name: "ringside_datagrams_received_total",
        kind: Counter,
        labels: &["listener"],
        help: "Datagrams that the kernel handed over.",
        samples: |stats, _, out| listeners(stats, out, |listener| listener.counts.received),
    },
    Family {
        name: "ringside_datagrams_dropped_total",
        kind: Counter,
        labels: &["listener", "reason"],
        help: "Datagrams dropped before they were read.",
        samples: |stats, _, out| {
            for (name, listener) in &stats.listeners.0 {
                out.tally(name, listener.counts.dropped.iter());
            }
        },
    },
    Family {
        name: "ringside_events_rejected_total",
        kind: Counter,
        labels: &["listener", "reason"],
        help: "Datagrams that were read and are not accepted events.",
        samples: |stats, _, out| {
            for (name, listener) in &stats.listeners.0 {
                out.tally(name, listener.counts.rejected.iter());
            }
        },
    },
    Family {
        name: "ringside_events_accepted_total",
        kind: Counter,
        labels: &["listener", "source"],
        help: "Events accepted, by message type.",
        samples: |stats, _, out| {
            for (name, listener) in &stats.listeners.0 {
                out.tally(name, listener.accepted_by_source.0.iter().copied());
            }
        },
    },
    Family {
        name: "ringside_events_unrouted_total",
        kind: Counter,
        labels: &["listener"],
        help: "Accepted events that no enabled destination wants.",
        samples: |stats, _, out| listeners(stats, out, |listener| listener.counts.unrouted),
    },
    Family {
        name: "ringside_events_noted_total",
        kind: Counter,
        labels: &["listener", "note"],
        help: "Things noticed about events that were kept.",
        samples: |stats, _, out| {
            for (name, listener) in &stats.listeners.0 {
                out.tally(name, listener.counts.notes.iter());
            }
        },
    },
    Family {
        name: "ringside_kernel_drops_total",
        kind: Counter,
        labels: &["listener"],
        help: "Datagrams that the kernel dropped on the listener's sockets, unseen by Ringside.",
        samples: |stats, _, out| listeners(stats, out, |listener| listener.kernel_dropped),
    },
    Family {
        // Not a counter: late events are taken off, and Prometheus would take that for a restart.
        name: "ringside_upstream_lost_estimate",
        kind: Gauge,
        labels: &["listener"],
        help: "Events lost between Sense and the socket, by gaps in row numbers; less what arrived late.",
        samples: |stats, _, out| listeners(stats, out, |listener| listener.upstream_lost_estimate),
    },
    Family {
        name: "ringside_queue_events",
        kind: Gauge,
        labels: &["listener"],
        help: "Datagrams handed to shards and not yet read.",
        samples: |stats, _, out| listeners(stats, out, |listener| listener.counts.queued),
    },
    Family {
        name: "ringside_queue_backpressure",
        kind: Gauge,
        labels: &["listener"],
        help: "1 while the queue is above its backpressureThreshold, else 0.",
        samples: |stats, _, out| listeners(stats, out, |listener| listener.backpressure.into()),
    },
    Family {
        name: "ringside_receive_events_total",
        kind: Counter,
        labels: &["event"],
        help: "What the receivers did: system calls, requests made anew, pauses, errors.",
        samples: |stats, _, out| {
            for (event, count) in &stats.receive.0 {
                out.add(&[event], *count);
            }
        },
    },
    Family {
        name: "ringside_listener_bound",
        kind: Gauge,
        labels: &["listener"],
        help: "1 while the listener is bound, 0 when it is not or not in use.",
        samples: |stats, _, out| listeners(stats, out, |l| u64::from(l.address.is_some())),
    },
    Family {
        name: "ringside_socket_buffer_bytes",
        kind: Gauge,
        labels: &["listener"],
        help: "Receive buffer that the kernel granted the listener's sockets.",
        samples: |stats, _, out| listeners(stats, out, |listener| listener.socket_buffer_bytes),
    },
    Family {
        name: "ringside_destination_assigned_events_total",
        kind: Counter,
        labels: &["destination"],
        help: "Events encoded for the destination.",
        samples: |stats, _, out| destinations(stats, out, |destination| destination.assigned),
    },
    Family {
        name: "ringside_destination_events_total",
        kind: Counter,
        labels: &["destination", "outcome"],
        help: "Events with an outcome: delivered, or the reason why they will not be.",
        samples: |stats, _, out| {
            for (name, destination) in &stats.destinations.0 {
                out.add(&[name, "delivered"], destination.delivered);
                out.tally(name, destination.dropped.iter());
            }
        },
    },
    Family {
        name: "ringside_destination_in_flight_events",
        kind: Gauge,
        labels: &["destination"],
        help: "Events in memory on their way to the destination.",
        samples: |stats, _, out| destinations(stats, out, |destination| destination.in_flight),
    },
    Family {
        name: "ringside_destination_oldest_seconds",
        kind: Gauge,
        labels: &["destination"],
        help: "Age of the oldest event held for sending; 0 when none is held.",
        samples: |stats, _, out| {
            for (name, destination) in &stats.destinations.0 {
                out.add(&[name], destination.oldest_s);
            }
        },
    },
    Family {
        name: "ringside_destination_batches_total",
        kind: Counter,
        labels: &["destination"],
        help: "Batches that the destination acknowledged.",
        samples: |stats, _, out| destinations(stats, out, |destination| destination.batches),
    },
    Family {
        name: "ringside_destination_retries_total",
        kind: Counter,
        labels: &["destination"],
        help: "Sends that were tried again.",
        samples: |stats, _, out| destinations(stats, out, |destination| destination.retries),
    },
    Family {
        name: "ringside_destination_sent_bytes_total",
        kind: Counter,
        labels: &["destination"],
        help: "Bytes sent, after compression.",
        samples: |stats, _, out| destinations(stats, out, |destination| destination.sent_bytes),
    },
    Family {
        name: "ringside_destination_failing",
        kind: Gauge,
        labels: &["destination"],
        help: "1 while the destination's last error stands, else 0.",
        samples: |stats, _, out| {
            destinations(stats, out, |d| u64::from(d.last_error.is_some()));
        },
    },
    Family {
        name: "ringside_spool_events",
        kind: Gauge,
        labels: &["destination"],
        help: "Events on disk that wait for the destination.",
        samples: |stats, _, out| destinations(stats, out, |destination| destination.spooled),
    },
    Family {
        name: "ringside_spool_bytes",
        kind: Gauge,
        labels: &["destination"],
        help: "Bytes on disk that wait for the destination.",
        samples: |stats, _, out| destinations(stats, out, |destination| destination.spool_bytes),
    },
    Family {
        name: "ringside_event_latency_seconds",
        kind: Histogram,
        labels: &["stage"],
        help: "Time from an event's receipt until it is in a batch, and until it is delivered.",
        samples: |stats, _, out| {
            for (stage, latency) in &stats.latency.0 {
                out.histogram(stage, &latency.distribution);
            }
        },
    },
    Family {
        name: "ringside_thread_beat_age_seconds",
        kind: Gauge,
        labels: &["thread"],
        help: "Time since the thread last turned; from 5 s on it counts as stalled.",
        samples: |stats, _, out| {
            for (name, thread) in &stats.threads.0 {
                out.add(&[name], thread.beat_age_s);
            }
        },
    },
    Family {
        name: "ringside_host_udp_in_errors_total",
        kind: Counter,
        labels: &["ip"],
        help: "UDP datagrams the host's kernel could not deliver (InErrors), all programs together.",
        samples: |_, host, out| ip_versions(host, out, |ip| ip.udp_in_errors),
    },
    Family {
        name: "ringside_host_udp_rcvbuf_errors_total",
        kind: Counter,
        labels: &["ip"],
        help: "UDP datagrams dropped on full socket buffers (RcvbufErrors), all programs together.",
        samples: |_, host, out| ip_versions(host, out, |ip| ip.udp_rcvbuf_errors),
    },
    Family {
        name: "ringside_host_ip_reassembly_failures_total",
        kind: Counter,
        labels: &["ip"],
        help: "Fragmented datagrams that could not be put together (ReasmFails).",
        samples: |_, host, out| ip_versions(host, out, |ip| ip.reassembly_failures),
    },
    Family {
        name: "ringside_host_softnet_dropped_total",
        kind: Counter,
        labels: &[],
        help: "Packets dropped because a processor's receive backlog was full.",
        samples: |_, host, out| {
            if let Some(softnet) = host.softnet {
                out.add(&[], softnet.dropped);
            }
        },
    },
    Family {
        name: "ringside_host_softnet_squeezed_total",
        kind: Counter,
        labels: &[],
        help: "Times that a processor stopped receiving packets with work left.",
        samples: |_, host, out| {
            if let Some(softnet) = host.softnet {
                out.add(&[], softnet.time_squeezed);
            }
        },
    },
    Family {
        name: "process_resident_memory_bytes",
        kind: Gauge,
        labels: &[],
        help: "Resident memory.",
        samples: |_, host, out| {
            if let Some(bytes) = host.resident_bytes {
                out.add(&[], bytes);
            }
        },
    },
    Family {
        name: "process_start_time_seconds",
        kind: Gauge,
        labels: &[],
        help: "When the process started, in seconds since 1970.",
        samples: |stats, _, out| out.add(&[], stats.started_s),
    },
];

fn listeners(stats: &Stats, out: &mut Samples<'_>, value: impl Fn(&ListenerStats) -> u64) {
    for (name, listener) in &stats.listeners.0 {
        out.add(&[name], value(listener));
    }
}

fn destinations(stats: &Stats, out: &mut Samples<'_>, value: impl Fn(&DestinationStats) -> u64) {
    for (name, destination) in &stats.destinations.0 {
        out.add(&[name], value(destination));
    }
}

fn ip_versions(host: &HostCounters, out: &mut Samples<'_>, value: impl Fn(&IpCounters) -> u64) {
    for (name, counters) in [("4", &host.ipv4), ("6", &host.ipv6)] {
        if let Some(counters) = counters {
            out.add(&[name], value(counters));
        }
    }
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;
    use crate::observe::host::Softnet;
    use crate::observe::ledger::{DropReason, LossReason, Note, Reason, RejectReason};
    use crate::observe::stats::tests::sample_stats;

    fn sample_host() -> HostCounters {
        let ip = IpCounters { udp_in_errors: 1, udp_rcvbuf_errors: 2, reassembly_failures: 3 };
        HostCounters {
            ipv4: Some(ip),
            ipv6: Some(ip),
            softnet: Some(Softnet { dropped: 4, time_squeezed: 5 }),
            resident_bytes: Some(6),
        }
    }

    /// Splits a sample line into series (name and labels) and value; panics on bad syntax.
    fn sample(line: &str) -> (&str, &str, f64) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            Some((name, rest)) => (name, rest.strip_suffix('}').expect(line)),
            None => (series, ""),
        };
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        let mut rest = labels;
        while !rest.is_empty() {
            let (label, after) = rest.split_once("=\"").expect(line);
            assert!(label.bytes().all(|b| b.is_ascii_lowercase()), "{line}");
            let mut escaped = false;
            let end = after.find(|c| {
                let closes = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                closes
            });
            rest = &after[end.expect(line) + 1..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        (name, labels, value.parse().unwrap_or_else(|_| panic!("{line}")))
    }

    /// Checks the text as strictly as `promtool check metrics` and returns the samples.
    fn check(text: &str) -> BTreeMap<String, f64> {
        assert!(text.ends_with('\n'));
        let mut families = HashSet::new();
        let mut samples = BTreeMap::new();
        let (mut family, mut kind) = ("", "");
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                family = help.split_once(' ').unwrap().0;
                assert!(families.insert(family), "{family} twice");
            } else if let Some(typed) = line.strip_prefix("# TYPE ") {
                let (name, found) = typed.split_once(' ').unwrap();
                assert_eq!(name, family);
                kind = found;
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            } else {
                let (name, _, value) = sample(line);
                let suffix = name.strip_prefix(family).expect(line);
                let suffixes: &[&str] =
                    if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&suffix), "{line} in {family}");
                let series = line.rsplit_once(' ').unwrap().0.to_owned();
                assert!(samples.insert(series, value).is_none(), "{line} twice");
            }
        }
        samples
    }

    #[test]
    fn the_text_is_valid_and_complete() {
        let text = render(&sample_stats(), &sample_host());
        let samples = check(&text);
        let expect = [
            ("ringside_datagrams_received_total{listener=\"user_events\"}", 100.0),
            (
                "ringside_datagrams_dropped_total{listener=\"user_events\",reason=\"rate_limit\"}",
                10.0,
            ),
            (
                "ringside_events_rejected_total{listener=\"user_events\",reason=\"excluded_user\"}",
                15.0,
            ),
            (
                "ringside_events_accepted_total{listener=\"user_events\",source=\"qseow-proxy-session\"}",
                65.0,
            ),
            ("ringside_kernel_drops_total{listener=\"log_events\"}", 32.0),
            ("ringside_queue_events{listener=\"user_events\"}", 10.0),
            (
                "ringside_destination_events_total{destination=\"influxdb\",outcome=\"delivered\"}",
                40.0,
            ),
            (
                "ringside_destination_events_total{destination=\"influxdb\",outcome=\"overflow\"}",
                7.0,
            ),
            ("ringside_destination_oldest_seconds{destination=\"influxdb\"}", 1.5),
            ("ringside_spool_bytes{destination=\"new_relic:First \\\"A\\\"\"}", 0.0),
            ("ringside_event_latency_seconds_bucket{stage=\"batch\",le=\"0.0002\"}", 0.0),
            ("ringside_event_latency_seconds_bucket{stage=\"batch\",le=\"0.0005\"}", 60.0),
            ("ringside_event_latency_seconds_bucket{stage=\"batch\",le=\"+Inf\"}", 60.0),
            ("ringside_event_latency_seconds_count{stage=\"batch\"}", 60.0),
            ("ringside_event_latency_seconds_sum{stage=\"delivered\"}", 48.0),
            ("ringside_host_udp_rcvbuf_errors_total{ip=\"6\"}", 2.0),
            ("ringside_host_softnet_dropped_total", 4.0),
            ("process_start_time_seconds", 1_699_999_940.0),
        ];
        for (series, value) in expect {
            assert_eq!(samples.get(series), Some(&value), "{series}\n{text}");
        }
        for family in FAMILIES {
            assert!(text.contains(&format!("# TYPE {} ", family.name)), "{}", family.name);
        }
    }

    #[test]
    fn unknown_numbers_are_left_out() {
        let text = render(&sample_stats(), &HostCounters::default());
        check(&text);
        assert!(!text.contains("ringside_host_"));
        assert!(!text.contains("process_resident"));
    }

    #[test]
    fn label_values_cannot_break_a_line() {
        let mut text = String::new();
        escape_into(&mut text, "a\\b\"c\nd");
        assert_eq!(text, r#"a\\b\"c\nd"#);
    }

    #[test]
    fn the_documentation_lists_each_metric() {
        let documented = include_str!("../../docs/metrics.md");
        let types = [Counter, Gauge, Histogram].map(|kind| format!("` | {} | ", kind.name()));
        let is_metric = |line: &&str| types.iter().any(|kind| line.contains(kind));
        let rows: HashSet<&str> = documented.lines().filter(is_metric).collect();
        let expected: Vec<String> = FAMILIES
            .iter()
            .map(|Family { name, kind, labels, help, .. }| {
                let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
                format!("| `{name}` | {} | {} | {help} |", kind.name(), labels.join(", "))
            })
            .collect();
        for row in &expected {
            assert!(rows.contains(row.as_str()), "docs/metrics.md needs the row\n{row}");
        }
        assert_eq!(rows.len(), expected.len(), "docs/metrics.md has rows of no metric");
        for reason in
            [DropReason::NAMES, RejectReason::NAMES, LossReason::NAMES, Note::NAMES].concat()
        {
            assert!(documented.contains(&format!("\n| {reason} | ")), "docs/metrics.md: {reason}");
        }
    }
}
