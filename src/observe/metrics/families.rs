//! The list of metrics.

use super::Type::{Counter, Gauge, Histogram};
use super::{Family, Samples};
use crate::observe::host::{HostCounters, IpCounters};
use crate::observe::stats::{DestinationStats, ListenerStats, Stats};

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
        // The highest estimate: Prometheus would take one that falls for a restart.
        name: "ringside_upstream_lost_estimate_total",
        kind: Counter,
        labels: &["listener"],
        help: "Events lost on their way from Sense, by gaps in row numbers: the highest estimate so far.",
        samples: |stats, _, out| {
            listeners(stats, out, |listener| listener.counts.upstream_lost_peak);
        },
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
        help: "Age of the oldest event that waits, in memory or on disk; 0 when none does.",
        samples: |stats, _, out| {
            for (name, destination) in &stats.destinations.0 {
                out.add(&[name], destination.oldest_s);
            }
        },
    },
    Family {
        name: "ringside_influxdb_series",
        kind: Gauge,
        labels: &["measurement"],
        help: "Series that InfluxDB gets of events, estimated since the start.",
        samples: |stats, _, out| {
            for (name, stats) in &stats.series.0 {
                out.add(&[name], stats.series);
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
