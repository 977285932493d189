//! Memory and uptime of the process as metrics of New Relic.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};

use super::uptime::Memory;
use crate::deliver::new_relic::MetricClient;
use crate::observe::failures::{Failure, Failures};
use crate::observe::logging::RateLimited;
use crate::schedule::Schedule;

/// Which metrics are sent, and what with.
#[derive(Clone, Debug)]
pub struct UptimeMetricSettings {
    /// When.
    pub schedule: Schedule,
    /// Sends the memory in use.
    pub memory: bool,
    /// Sends the uptime.
    pub uptime: bool,
    /// Attributes of every metric, as name and value. Of two with one name the later counts.
    pub attributes: Vec<(String, String)>,
}

/// Sends the metrics to one account.
#[derive(Debug)]
pub struct UptimeMetrics {
    settings: UptimeMetricSettings,
    client: MetricClient,
    failures: Arc<Failures>,
}

impl UptimeMetrics {
    /// Sends nothing yet. Each account has one of these, so that none waits for another.
    #[must_use]
    pub fn new(settings: UptimeMetricSettings, client: MetricClient) -> Self {
        Self { settings, client, failures: Arc::default() }
    }

    /// Requests that New Relic did not accept.
    #[must_use]
    pub fn failures(&self) -> &Arc<Failures> {
        &self.failures
    }

    /// Sends on schedule, without end. The uptime counts from here.
    pub async fn run(self) {
        let warnings = RateLimited::new();
        let start = Instant::now();
        loop {
            tokio::time::sleep(self.settings.schedule.until_next(SystemTime::now())).await;
            let now = SystemTime::now();
            let body = self.settings.body(now, start.elapsed(), Memory::read());
            let account = self.client.account();
            match self.client.post(body.to_string().into_bytes()).await {
                Ok(()) => tracing::debug!(account, "uptime metrics sent to New Relic"),
                Err(reason) => {
                    self.failures.add(Failure::of(&reason), 1);
                    if let Some(suppressed) = warnings.allow(start.elapsed()) {
                        tracing::warn!(
                            suppressed,
                            "uptime metrics do not reach the New Relic account {account}: {}; check \
                             newRelic.metric.url and the account's insertApiKey",
                            reason.escape_debug()
                        );
                    }
                }
            }
        }
    }
}

impl UptimeMetricSettings {
    /// The metrics in the names and units of Butler SOS: bytes and milliseconds.
    fn body(&self, now: SystemTime, uptime: Duration, memory: Memory) -> Value {
        let gauge =
            |(name, value): (&str, u64)| json!({"name": name, "type": "gauge", "value": value});
        let memory = [
            ("qs_butlerSosHeapUsed", memory.heap_used),
            ("qs_butlerSosHeapTotal", memory.heap_total),
            ("qs_butlerSosExternalMem", memory.external),
            ("qs_butlerSosProcessMem", memory.process_memory),
        ];
        let memory = memory.into_iter().filter(|_| self.memory);
        let uptime = self.uptime.then(|| ("qs_butlerSosUptimeMillisec", milliseconds(uptime)));
        let attributes = self.attributes.iter();
        let attributes: Map<String, Value> =
            attributes.map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        json!([{
            "common": {
                "timestamp": milliseconds(since_1970),
                "interval.ms": milliseconds(self.schedule.interval(now)),
                "attributes": attributes,
            },
            "metrics": memory.chain(uptime).map(gauge).collect::<Vec<_>>(),
        }])
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_the_names_and_units_of_butler_sos() {
        let settings = UptimeMetricSettings {
            schedule: "every 15 minutes".parse().unwrap(),
            memory: true,
            uptime: true,
            attributes: vec![
                ("service".into(), "first".into()),
                ("service".into(), "mine \"x\"".into()),
            ],
        };
        let memory = Memory { heap_used: 1, heap_total: 2, external: 3, process_memory: 4 };
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let body = settings.body(now, Duration::from_millis(5_678), memory);
        let gauge = |name, value: u64| json!({"name": name, "type": "gauge", "value": value});
        assert_eq!(
            body,
            json!([{
                "common": {
                    "timestamp": 1_700_000_000_123_u64,
                    "interval.ms": 900_000,
                    "attributes": { "service": "mine \"x\"" },
                },
                "metrics": [
                    gauge("qs_butlerSosHeapUsed", 1),
                    gauge("qs_butlerSosHeapTotal", 2),
                    gauge("qs_butlerSosExternalMem", 3),
                    gauge("qs_butlerSosProcessMem", 4),
                    gauge("qs_butlerSosUptimeMillisec", 5_678),
                ],
            }])
        );
        let none = UptimeMetricSettings { memory: false, uptime: false, ..settings };
        assert_eq!(none.body(now, Duration::ZERO, memory)[0]["metrics"], json!([]));
    }
}
