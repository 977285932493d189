//! The last minutes, second by second: what the page's charts show when it is opened.
//!
//! Envelope: [`POINTS_MAX`] points of some thirty numbers, 150 KB.

use std::collections::VecDeque;

use serde::Serialize;

use super::histogram::Distribution;
use super::stats::{DestinationStats, ListenerStats, Stats};

/// One a second: ten minutes.
pub const POINTS_MAX: usize = 600;

/// The series, in the order of a point's values. `NAME` in a path is replaced.
type Series = Vec<String>;

/// One second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Seconds since 1970 at its end.
    pub at_s: u64,
    /// A value for each series; `null` where there is none.
    pub values: Vec<Option<f32>>,
}

/// The last seconds.
#[derive(Debug, Default, Serialize)]
pub struct History {
    /// What the values of each point are; see `docs/http.md`.
    pub series: Series,
    /// Oldest first.
    pub points: VecDeque<Point>,
    #[serde(skip)]
    before: Option<Box<Stats>>,
}

impl History {
    /// Adds what happened since the call before; the first call only begins.
    pub fn add(&mut self, stats: Stats) {
        if let Some(before) = &self.before {
            let seconds = stats.uptime_s - before.uptime_s;
            if seconds <= 0.0 {
                return;
            }
            let since = Since { now: &stats, before, seconds };
            let (series, values) = since.columns().into_iter().unzip();
            self.series = series;
            if self.points.len() == POINTS_MAX {
                self.points.pop_front();
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole seconds since 1970"
            )]
            let at_s = (stats.started_s + stats.uptime_s).round() as u64;
            // Rounded, two of them can fall into one second.
            let at_s = self.points.back().map_or(at_s, |last| at_s.max(last.at_s + 1));
            self.points.push_back(Point { at_s, values });
        }
        self.before = Some(Box::new(stats));
    }

    /// The newest point.
    #[must_use]
    pub fn last(&self) -> Option<&Point> {
        self.points.back()
    }
}

/// Two states, `seconds` apart.
struct Since<'a> {
    now: &'a Stats,
    before: &'a Stats,
    seconds: f64,
}

impl Since<'_> {
    /// The name and the value of every series.
    fn columns(&self) -> Vec<(String, Option<f32>)> {
        let mut columns = Vec::new();
        for ((name, now), (_, before)) in self.now.listeners.0.iter().zip(&self.before.listeners.0)
        {
            columns.push((
                format!("received:{name}"),
                Some(self.rate(now.counts.received, before.counts.received)),
            ));
            columns.push((format!("lost:{name}"), Some(self.rate(lost(now), lost(before)))));
            let upstream = [now, before].map(|l| l.upstream_lost_estimate);
            columns.push((format!("upstream:{name}"), Some(self.rate(upstream[0], upstream[1]))));
            let sources = now.accepted_by_source.0.iter().zip(&before.accepted_by_source.0);
            for ((source, now), (_, before)) in sources {
                columns.push((format!("accepted:{source}"), Some(self.rate(*now, *before))));
            }
        }
        for (name, now) in &self.now.destinations.0 {
            let before = self.before.destinations.0.iter().find(|(before, _)| before == name);
            let before = before.map_or(now, |(_, before)| before);
            columns.push((
                format!("delivered:{name}"),
                Some(self.rate(now.delivered, before.delivered)),
            ));
            columns.push((
                format!("refused:{name}"),
                Some(self.rate(given_up(now), given_up(before))),
            ));
            columns.push((format!("waiting:{name}"), Some(level(now.in_flight + now.spooled))));
            columns.push((format!("lag:{name}"), Some(rounded(now.oldest_s))));
        }
        for ((stage, now), (_, before)) in self.now.latency.0.iter().zip(&self.before.latency.0) {
            let distribution: Distribution = now.distribution.since(&before.distribution);
            for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                let value = distribution.quantile(quantile).map(|latency| latency.as_secs_f64());
                columns.push((format!("{name}:{stage}"), value.map(rounded)));
            }
        }
        columns
    }

    #[expect(clippy::cast_precision_loss, reason = "rounded for a chart")]
    fn rate(&self, now: u64, before: u64) -> f32 {
        // The estimate of what was lost upstream falls when late events arrive.
        rounded(now.saturating_sub(before) as f64 / self.seconds)
    }
}

/// Datagrams that Ringside or the kernel dropped.
fn lost(listener: &ListenerStats) -> u64 {
    listener.counts.dropped.iter().map(|(_, count)| count).sum::<u64>() + listener.kernel_dropped
}

/// Events that will not be delivered.
fn given_up(destination: &DestinationStats) -> u64 {
    destination.dropped.iter().map(|(_, count)| count).sum()
}

#[expect(clippy::cast_precision_loss, reason = "rounded for a chart")]
fn level(count: u64) -> f32 {
    rounded(count as f64)
}

/// Four digits: more than a chart shows, and shorter to send.
#[expect(clippy::cast_possible_truncation, reason = "for a chart")]
fn rounded(value: f64) -> f32 {
    if value == 0.0 {
        return 0.0;
    }
    let scale = 10_f64.powf(3.0 - value.abs().log10().floor());
    ((value * scale).round() / scale) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;
    use crate::observe::stats::tests::sample_stats;

    #[test]
    fn a_point_holds_what_happened_in_its_second() {
        let mut history = History::default();
        let mut stats = sample_stats();
        history.add(stats.clone());
        assert_eq!(history.last(), None, "of one state nothing follows");
        stats.uptime_s += 2.0;
        let user = &mut stats.listeners.0[0].1;
        user.counts.received += 500;
        user.kernel_dropped += 30;
        user.accepted_by_source.0[Kind::ProxySession as usize].1 += 469;
        stats.destinations.0[0].1.delivered += 12_345;
        history.add(stats.clone());
        let last = history.last().unwrap();
        assert_eq!(last.values.len(), history.series.len());
        let value = |name: &str| {
            let at = history.series.iter().position(|series| series == name);
            last.values[at.unwrap_or_else(|| panic!("no {name} in {:?}", history.series))]
        };
        assert_eq!(last.at_s, 1_700_000_002);
        assert_eq!(value("received:user_events"), Some(250.0));
        assert_eq!(value("lost:user_events"), Some(15.0));
        assert_eq!(value("lost:log_events"), Some(0.0));
        assert_eq!(value("accepted:qseow-proxy-session"), Some(234.5));
        assert_eq!(value("delivered:influxdb"), Some(6173.0), "four digits");
        assert_eq!(value("lag:influxdb"), Some(1.5));
        assert_eq!(value("p99:delivered"), None, "nothing in this second");
        for _ in 0..POINTS_MAX + 3 {
            stats.uptime_s += 1.0;
            history.add(stats.clone());
        }
        assert_eq!(history.points.len(), POINTS_MAX);
    }
}
