//! State of a listener's queue as points: the fields of Butler SOS, defined for this architecture.
//!
//! Counters are since the last point; levels are those of the moment.

use std::time::Duration;

use super::SeriesSettings;
use crate::deliver::influxdb::point::{Point, Value};
use crate::event::Listener;
use crate::observe::histogram::Distribution;
use crate::observe::ledger::{DropReason, ListenerSnapshot, RejectReason};

/// How one listener's points are written.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// Time between two points.
    pub every: Duration,
    /// Measurement and configured tags.
    pub series: SeriesSettings,
    /// `messageQueue.maxSize`.
    pub max_size: u64,
    /// `maxSize` + `maxConcurrent`, of which the utilisation is a share.
    pub capacity: u64,
}

/// Everything that a point is made of, at one moment.
#[derive(Clone, Debug)]
pub struct QueueState {
    /// The listener's part of the ledger.
    pub counts: ListenerSnapshot,
    /// Receive to encoded, of all events since the start.
    pub latency: Distribution,
    /// The longest since the last point, in nanoseconds.
    pub latency_max_ns: u64,
    /// The most leases that shards had in a turn since the last point.
    pub running: u64,
    /// Datagrams in the current window of the rate limit.
    pub rate_limit_current: u64,
    /// Whether the queue is above its threshold.
    pub backpressure: bool,
}

/// The 17 fields: what happened between two states, and the later state.
#[must_use]
pub fn fields(
    settings: &QueueSettings,
    before: &QueueState,
    now: &QueueState,
) -> [(&'static str, Value<'static>); 17] {
    let since =
        |of: fn(&ListenerSnapshot) -> u64| of(&now.counts).saturating_sub(of(&before.counts));
    let latency = now.latency.since(&before.latency);
    let max_ms = milliseconds(Duration::from_nanos(now.latency_max_ns));
    #[expect(clippy::cast_precision_loss, reason = "a mean and a share, not a count")]
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    // A bucket's upper bound may lie above the longest of all.
    let p95_ms = latency.quantile(0.95).map_or(0.0, milliseconds).min(max_ms);
    let queued = now.counts.queued;
    [
        ("queue_size", Value::Count(queued)),
        ("queue_max_size", Value::Count(settings.max_size)),
        ("queue_utilization_pct", Value::Number(100.0 * share(queued, settings.capacity))),
        ("queue_running", Value::Count(now.running)),
        ("messages_received", Value::Count(since(|c| c.received))),
        ("messages_queued", Value::Count(since(|c| c.queued + c.parsed))),
        ("messages_processed", Value::Count(since(|c| c.parsed))),
        ("messages_failed", Value::Count(since(|c| c.rejected.get(RejectReason::Malformed)))),
        ("messages_dropped_total", Value::Count(since(|c| c.dropped.sum()))),
        (
            "messages_dropped_rate_limit",
            Value::Count(since(|c| c.dropped.get(DropReason::RateLimit))),
        ),
        (
            "messages_dropped_queue_full",
            Value::Count(since(|c| c.dropped.get(DropReason::QueueFull))),
        ),
        ("messages_dropped_size", Value::Count(since(|c| c.dropped.get(DropReason::Size)))),
        ("processing_time_avg_ms", Value::Number(share(latency.sum_us, latency.count()) / 1e3)),
        ("processing_time_p95_ms", Value::Number(p95_ms)),
        ("processing_time_max_ms", Value::Number(max_ms)),
        ("rate_limit_current", Value::Count(now.rate_limit_current)),
        ("backpressure_active", Value::Count(u64::from(now.backpressure))),
    ]
}

/// A listener's point.
#[must_use]
pub fn point<'a>(
    settings: &'a QueueSettings,
    listener: Listener,
    host: &'a str,
    fields: [(&'static str, Value<'static>); 17],
) -> Point<'a> {
    let point = Point::new(&settings.series.measurement)
        .tag("queue_type", listener.name())
        .tag("host", host)
        .tags(&settings.series.tags);
    fields.into_iter().fold(point, |point, (name, value)| point.field(name, value))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::histogram::Histogram;
    use crate::observe::ledger::{Ledger, ReceiveCounts, ShardCounts};

    fn state(receive: &ReceiveCounts, shard: &ShardCounts, latency: &Histogram) -> QueueState {
        let ledger = Ledger::new(1, 1, &[]);
        ledger.receivers[0][0].publish(receive);
        ledger.shards[0][0].publish(shard);
        let [counts, _] = ledger.snapshot().listeners;
        QueueState {
            counts,
            latency: latency.snapshot(),
            latency_max_ns: latency.take_max_ns(),
            running: 9,
            rate_limit_current: 44,
            backpressure: true,
        }
    }

    #[test]
    fn each_field_counts_what_its_name_says() {
        let settings = QueueSettings {
            every: Duration::from_secs(20),
            series: SeriesSettings::default(),
            max_size: 200,
            capacity: 210,
        };
        let latency = Histogram::default();
        let mut receive = ReceiveCounts { received: 50, handed: 40, ..Default::default() };
        receive.dropped.add(DropReason::QueueFull, 10);
        let mut shard = ShardCounts { taken: 40, ..Default::default() };
        shard.rejected.add(RejectReason::Empty, 40);
        latency.record(5_000_000_000, 40);
        let before = state(&receive, &shard, &latency);

        receive.received += 200;
        receive.handed += 179;
        for (reason, count) in [
            (DropReason::QueueFull, 1),
            (DropReason::RateLimit, 2),
            (DropReason::Size, 4),
            (DropReason::SourceDenied, 14),
        ] {
            receive.dropped.add(reason, count);
        }
        shard.taken += 158;
        shard.rejected.add(RejectReason::Malformed, 3);
        shard.rejected.add(RejectReason::UnknownType, 155);
        latency.record(1_000_000, 150);
        latency.record(3_000_000, 10);
        let now = state(&receive, &shard, &latency);

        let mean = (150.0 + 10.0 * 3.0) / 160.0;
        assert_eq!(
            fields(&settings, &before, &now),
            [
                ("queue_size", Value::Count(21)),
                ("queue_max_size", Value::Count(200)),
                ("queue_utilization_pct", Value::Number(10.0)),
                ("queue_running", Value::Count(9)),
                ("messages_received", Value::Count(200)),
                ("messages_queued", Value::Count(179)),
                ("messages_processed", Value::Count(158)),
                ("messages_failed", Value::Count(3)),
                ("messages_dropped_total", Value::Count(21)),
                ("messages_dropped_rate_limit", Value::Count(2)),
                ("messages_dropped_queue_full", Value::Count(1)),
                ("messages_dropped_size", Value::Count(4)),
                ("processing_time_avg_ms", Value::Number(mean)),
                // 150 of 160 are 94 %: the 95th hundredth is in the bucket up to 5 ms, and none
                // took longer than 3 ms.
                ("processing_time_p95_ms", Value::Number(3.0)),
                ("processing_time_max_ms", Value::Number(3.0)),
                ("rate_limit_current", Value::Count(44)),
                ("backpressure_active", Value::Count(1)),
            ]
        );
    }
}
