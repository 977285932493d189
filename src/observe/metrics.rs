//! The metrics of `/metrics`, in Prometheus's text format 0.0.4.
//!
//! [`FAMILIES`] is the one place where a metric exists: its name, type, labels, help and where its
//! values come from. `docs/metrics.md` is held to it by a test.

#[cfg(test)]
mod tests;

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
        name: "ringside_own_points_assigned_total",
        kind: Counter,
        labels: &["destination"],
        help: "Points that Ringside wrote about itself; no events among them.",
        samples: |stats, _, out| own_points(stats, out, |points| points.assigned),
    },
    Family {
        name: "ringside_own_points_total",
        kind: Counter,
        labels: &["destination", "outcome"],
        help: "Own points with an outcome: delivered, or the reason why they will not be.",
        samples: |stats, _, out| {
            for (name, points) in &stats.own_points.0 {
                out.add(&[name, "delivered"], points.delivered);
                out.tally(name, points.dropped.iter());
            }
        },
    },
    Family {
        name: "ringside_own_points_in_flight",
        kind: Gauge,
        labels: &["destination"],
        help: "Own points in memory on their way to the destination.",
        samples: |stats, _, out| own_points(stats, out, |points| points.in_flight),
    },
    Family {
        name: "ringside_log_lines_lost_total",
        kind: Counter,
        labels: &["reason"],
        help: "Log lines that are missing: of events over the limit of a second, or in the log files.",
        samples: |stats, _, out| {
            for (reason, lines) in &stats.log_lines_lost.0 {
                out.add(&[reason], *lines);
            }
        },
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

fn own_points(stats: &Stats, out: &mut Samples<'_>, value: impl Fn(&DestinationStats) -> u64) {
    for (name, points) in &stats.own_points.0 {
        out.add(&[name], value(points));
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
