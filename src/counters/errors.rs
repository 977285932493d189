//! Errors as points and in the log: what Butler SOS calls error tracking.
//!
//! Butler SOS writes a point per error, and an error while that is written is an error again
//! (difference 22). Here failures are only counted where they happen. The writer collects the counts,
//! and makes of each kind of failure one point with their number, at most every [`EVERY`]. How many
//! points there are is thus bounded by the configuration, not by what fails; and what fails of own
//! points is not collected at all.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crate::deliver::influxdb::point::{Point, Value};
use crate::event::Listener;
use crate::observe::failures::{Category, Failure, Failures};
use crate::observe::ledger::{Ledger, RejectReason};
use crate::observe::logging::RateLimited;

/// Time between two points of a series. The first error is written at once; during an outage of a
/// destination, a failed attempt every few seconds becomes six points a minute.
pub const EVERY: Duration = Duration::from_secs(10);

const DAY_NS: u64 = 24 * 60 * 60 * 1_000_000_000;

/// Which errors are tracked, and how.
#[derive(Debug)]
pub struct ErrorSettings {
    /// `errorTracking.influxdb.measurementName`; `None`: no points.
    pub measurement: Option<String>,
    /// Whether the log says how many errors a day has had.
    pub log_summary: bool,
    /// Errors of destinations, by name of the destination.
    pub destinations: Vec<(String, ErrorSource)>,
    /// Errors of others.
    pub others: Vec<(ErrorSource, Arc<Failures>)>,
}

/// Whose errors they are.
#[derive(Clone, Debug)]
pub struct ErrorSource {
    /// Value of the tag `error_type`.
    pub error_type: &'static str,
    /// Further tags.
    pub tags: Vec<(&'static str, String)>,
}

/// Where failures are counted.
#[derive(Debug)]
enum Place {
    Destination(usize),
    Listener(Listener),
    Other(Arc<Failures>),
}

/// What has been collected.
#[derive(Debug)]
pub(super) struct Errors {
    measurement: Option<String>,
    log_summary: bool,
    places: Vec<(ErrorSource, Place)>,
    /// Malformed datagrams that have been collected.
    malformed: [u64; Listener::COUNT],
    /// What is to be written, by index of the place. At most some 30 kinds for each.
    pending: BTreeMap<(usize, Failure), u64>,
    /// No point is written before.
    not_before: Duration,
    /// The day that is counted, since 1970.
    day: Option<u64>,
    today: BTreeMap<(&'static str, Category), u64>,
    /// Whether the log does not have all of today.
    unsaid: bool,
    limit: RateLimited,
    /// The end has come, and nothing is collected any more.
    closed: bool,
}

impl Errors {
    /// Nothing has been collected yet.
    pub fn new(settings: ErrorSettings, ledger: &Ledger) -> Self {
        let index = |name: &str| {
            ledger.destinations.iter().position(|destination| destination.name == name)
        };
        let destinations = settings
            .destinations
            .into_iter()
            .filter_map(|(name, source)| Some((source, Place::Destination(index(&name)?))));
        let listeners = Listener::ALL.map(|listener| {
            let (error_type, module) = match listener {
                Listener::UserEvents => ("UDP_USER_EVENT", "UDP_USER_EVENTS"),
                Listener::LogEvents => ("UDP_LOG_EVENT", "UDP_LOG_EVENTS"),
            };
            let tags = vec![("module", module.to_owned())];
            (ErrorSource { error_type, tags }, Place::Listener(listener))
        });
        let others = settings.others.into_iter();
        let others = others.map(|(source, failures)| (source, Place::Other(failures)));
        Self {
            measurement: settings.measurement,
            log_summary: settings.log_summary,
            places: destinations.chain(listeners).chain(others).collect(),
            malformed: [0; Listener::COUNT],
            pending: BTreeMap::new(),
            not_before: Duration::ZERO,
            day: None,
            today: BTreeMap::new(),
            unsaid: false,
            limit: RateLimited::new(),
            closed: false,
        }
    }

    /// Takes what was counted since the last call. What fails after the end is in the log only: the
    /// drain does not wait for errors that it causes itself.
    pub fn collect(&mut self, ledger: &Ledger, ended: bool) {
        if std::mem::replace(&mut self.closed, ended) {
            return;
        }
        let listeners = ledger.snapshot().listeners;
        for (index, (source, place)) in self.places.iter().enumerate() {
            let failures = match place {
                Place::Destination(index) => ledger.destinations[*index].failures.take(),
                Place::Other(failures) => failures.take(),
                Place::Listener(listener) => {
                    let now = listeners[*listener as usize].rejected.get(RejectReason::Malformed);
                    let before = std::mem::replace(&mut self.malformed[*listener as usize], now);
                    vec![(Failure::UNKNOWN, now.saturating_sub(before))]
                }
            };
            for (failure, count) in failures.into_iter().filter(|(_, count)| *count > 0) {
                *self.pending.entry((index, failure)).or_default() += count;
                *self.today.entry((source.error_type, failure.category)).or_default() += count;
                self.unsaid = true;
            }
        }
    }

    /// What the log is to say now, if anything: soon after an error, but at most once a minute, at
    /// midnight (UTC), when counts begin anew, and at the end. Butler SOS says it with every error.
    pub fn summary(&mut self, now: Duration, wall_ns: u64, ended: bool) -> Option<String> {
        let day = wall_ns / DAY_NS;
        let over = self.day.replace(day).is_some_and(|counted| counted != day);
        let due = self.unsaid && (ended || self.limit.allow(now).is_some());
        let text = (self.log_summary && !self.today.is_empty() && (over || due))
            .then(|| self.text(if over { "of the day that is over" } else { "today" }));
        if over {
            self.today.clear();
        }
        if over || due {
            self.unsaid = false;
        }
        text
    }

    fn text(&self, when: &str) -> String {
        let total: u64 = self.today.values().sum();
        let mut text = format!("errors {when} (UTC): {total} in all");
        for ((error_type, category), count) in &self.today {
            // Writing to a String cannot fail.
            let _ = write!(text, "; {error_type} {} {count}", category.name());
        }
        text
    }

    /// Whether points are to be written now.
    pub fn is_due(&self, now: Duration, ended: bool) -> bool {
        !self.pending.is_empty() && (ended || self.not_before <= now)
    }

    /// Whether nothing is left to write.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The points that are to be written. Category and status are fields, so points of one series are
    /// to have different times.
    pub fn points(&self) -> impl Iterator<Item = Point<'_>> {
        let points = self.measurement.iter().flat_map(|measurement| {
            self.pending.iter().map(move |entry| (measurement.as_str(), entry))
        });
        points.map(|(measurement, ((place, failure), count))| {
            let source = &self.places[*place].0;
            let point = Point::new(measurement).tag("error_type", source.error_type);
            let point =
                source.tags.iter().fold(point, |point, (name, value)| point.tag(name, value));
            let category = failure.category;
            let point = point.field("error_category", Value::Text(category.name()));
            let code = category.code().map(|code| ("error_code", Value::Text(code)));
            let status = failure.http_status.map(u64::from);
            let status = status.map(|status| ("http_status", Value::Count(status)));
            let count = Some(("error_count", Value::Count(*count)));
            let fields = [code, count, status].into_iter().flatten();
            fields.fold(point, |point, (name, value)| point.field(name, value))
        })
    }

    /// The points have been written, or nobody wants any.
    pub fn written(&mut self, now: Duration) {
        self.pending.clear();
        self.not_before = now + EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::batch::Buffer;
    use crate::deliver::influxdb::Version;
    use crate::observe::ledger::{ReceiveCounts, ShardCounts};

    fn bench() -> (Errors, Ledger) {
        let ledger = Ledger::new(1, 1, &["mqtt".into(), "influxdb".into()]);
        let source = ErrorSource {
            error_type: "INFLUXDB_V2_WRITE",
            tags: vec![("destination_host", "http://a:8086".into())],
        };
        let settings = ErrorSettings {
            measurement: Some("my_errors".into()),
            log_summary: true,
            destinations: vec![("influxdb".into(), source)],
            others: Vec::new(),
        };
        (Errors::new(settings, &ledger), ledger)
    }

    fn fail(ledger: &Ledger, reason: &str, count: u64) {
        ledger.destinations[1].failures.add(Failure::of(reason), count);
    }

    fn lines(errors: &Errors, version: Version) -> Vec<String> {
        let mut out = Buffer::default();
        for point in errors.points() {
            point.write(version, 7, &mut out);
        }
        String::from_utf8(out.to_vec()).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_kind_of_failure_is_one_point_with_their_number() {
        let (mut errors, ledger) = bench();
        fail(&ledger, "HTTP 503: busy", 2);
        fail(&ledger, "connection refused", 1);
        errors.collect(&ledger, false);
        fail(&ledger, "HTTP 503: busy", 3);
        let received = ReceiveCounts { received: 4, handed: 4, ..Default::default() };
        ledger.receivers[0][Listener::LogEvents as usize].publish(&received);
        let mut counts = ShardCounts { taken: 4, ..Default::default() };
        counts.rejected.add(RejectReason::Malformed, 4);
        ledger.shards[0][Listener::LogEvents as usize].publish(&counts);
        errors.collect(&ledger, false);
        errors.collect(&ledger, false);
        let series = "my_errors,error_type=INFLUXDB_V2_WRITE,destination_host=http://a:8086";
        let udp = "my_errors,error_type=UDP_LOG_EVENT,module=UDP_LOG_EVENTS";
        for (version, i) in [(Version::V1, ""), (Version::V2, "i")] {
            assert_eq!(
                lines(&errors, version),
                [
                    format!(
                        "{series} error_category=\"connection_refused\",\
                         error_code=\"ECONNREFUSED\",error_count=1{i} 7"
                    ),
                    format!(
                        "{series} error_category=\"http_5xx\",error_count=5{i},http_status=503{i} 7"
                    ),
                    format!("{udp} error_category=\"unknown\",error_count=4{i} 7"),
                ]
            );
        }
    }

    #[test]
    fn a_series_has_a_point_at_once_and_then_one_per_interval() {
        let (mut errors, ledger) = bench();
        let mut written = Vec::new();
        for second in 0..25 {
            fail(&ledger, "timed out", 1);
            errors.collect(&ledger, false);
            let now = Duration::from_secs(second);
            if errors.is_due(now, false) {
                assert_eq!(errors.points().count(), 1);
                errors.written(now);
                written.push(second);
            }
        }
        assert_eq!(written, [0, 10, 20]);
        assert!(errors.is_due(Duration::from_secs(25), true), "the end waits for nothing");
    }

    #[test]
    fn the_log_has_each_day_once_and_counts_begin_anew() {
        let (mut errors, ledger) = bench();
        let midnight = 20_000 * DAY_NS;
        let say = |errors: &mut Errors, seconds: u64, ended| {
            errors.collect(&ledger, ended);
            errors.summary(Duration::from_secs(seconds), midnight + seconds * 1_000_000_000, ended)
        };
        assert_eq!(say(&mut errors, 1, false), None, "no error, no word");
        fail(&ledger, "HTTP 401", 2);
        let first = "errors today (UTC): 2 in all; INFLUXDB_V2_WRITE auth_error 2";
        assert_eq!(say(&mut errors, 2, false).as_deref(), Some(first));
        fail(&ledger, "timed out", 1);
        assert_eq!(say(&mut errors, 3, false), None, "once a minute");
        let both = "3 in all; INFLUXDB_V2_WRITE timeout 1; INFLUXDB_V2_WRITE auth_error 2";
        assert_eq!(say(&mut errors, 63, false), Some(format!("errors today (UTC): {both}")));
        assert_eq!(say(&mut errors, 200, false), None, "nothing new");
        let day = 24 * 60 * 60;
        let over = format!("errors of the day that is over (UTC): {both}");
        assert_eq!(say(&mut errors, day, false), Some(over));
        assert_eq!(say(&mut errors, 2 * day, false), None, "a day without errors");
        fail(&ledger, "HTTP 429", 1);
        let end = "errors today (UTC): 1 in all; INFLUXDB_V2_WRITE rate_limited 1";
        assert_eq!(say(&mut errors, 2 * day + 1, true).as_deref(), Some(end));
    }
}
