//! Ringside's own points at `InfluxDB`: how many events came from where, and how it fares itself.
//!
//! | file | what |
//! |---|---|
//! | [`tally`] | counts of events by series, on the shards |
//! | `table` | the counts of many series |
//! | [`queue`] | state of a listener's queue |
//! | [`errors`] | what failed outside |
//! | [`uptime`] | memory and uptime of the process |
//! | [`uptime_metrics`] | the same for New Relic, beside the writer |
//! | [`writer`] | the future that makes points of all that and sends them |
//!
//! Own points have a queue, a transport and a row in the ledger of their own: they neither delay
//! events nor count among them. `docs/metrics.md` defines each field.

pub mod errors;
pub mod queue;
#[cfg(test)]
mod recorded;
mod table;
pub mod tally;
pub mod uptime;
pub mod uptime_metrics;
pub mod writer;

use std::time::Duration;

pub use tally::Tally;
use tally::{Collector, TallySettings};

use crate::deliver::influxdb::{InfluxTransport, Version};
use crate::event::Listener;
use errors::ErrorSettings;
use queue::QueueSettings;
use uptime::UptimeSettings;

/// Which own points are written, and where to.
#[derive(Debug, Default)]
pub struct Settings {
    /// Where points go; without it none are written.
    pub influxdb: Option<InfluxSink>,
    /// Counts of events.
    pub counts: Option<CountSettings>,
    /// State of the listeners' queues.
    pub queues: [Option<QueueSettings>; Listener::COUNT],
    /// Memory and uptime.
    pub uptime: Option<UptimeSettings>,
    /// What failed outside.
    pub errors: Option<ErrorSettings>,
}

/// The `InfluxDB` that gets the points.
#[derive(Debug)]
pub struct InfluxSink {
    /// Which types fields have.
    pub version: Version,
    /// Of its own, so that points and events do not wait for each other.
    pub transport: InfluxTransport,
}

/// Counts of events as points.
#[derive(Clone, Debug)]
pub struct CountSettings {
    /// Time between two points of a series.
    pub every: Duration,
    /// Received events; `None`: not counted.
    pub received: Option<SeriesSettings>,
    /// Performance events that no monitor filter accepts; `None`: not counted.
    pub rejected: Option<SeriesSettings>,
}

/// Name and configured tags of points.
#[derive(Clone, Debug, Default)]
pub struct SeriesSettings {
    /// Measurement.
    pub measurement: String,
    /// Tags, as name and value. One with the name of a tag that the points have anyway replaces it.
    pub tags: Vec<(String, String)>,
}

impl Settings {
    /// Whether there is nothing to do at all.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let points = self.counts.is_some() || self.queues.iter().any(Option::is_some);
        let lines = self.uptime.is_some() || self.errors.is_some();
        !lines && (self.influxdb.is_none() || !points)
    }

    /// A tally for each shard, and the writer's ends.
    fn tallies(&self, shards: usize) -> (Vec<Tally>, Vec<Collector>) {
        let counts = self.counts.as_ref().filter(|_| self.influxdb.is_some());
        let settings = counts.map_or_else(TallySettings::default, |counts| TallySettings {
            received: counts.received.is_some(),
            rejected: counts.rejected.is_some(),
            every: counts.every,
        });
        (0..shards).map(|_| tally::pair(settings)).unzip()
    }
}

/// Name of this host for the tag `host`, which Butler SOS leaves `undefined`.
#[must_use]
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    name.or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}
