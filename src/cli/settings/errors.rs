//! From `errorTracking` and the sections of what may fail to the errors that are tracked.

use std::sync::Arc;

use crate::config::{Config, InfluxdbVersion};
use crate::counters::errors::{ErrorSettings, ErrorSource};
use crate::counters::uptime_metrics::UptimeMetrics;
use crate::enrich::app_names::Refresher;
use crate::heartbeat::Heartbeat;

/// Errors of destinations, of the look-up of app names, of the heartbeat and of uptime metrics, as far as these are in
/// use. Types and tags are Butler SOS's where it has them.
pub(super) fn of(
    config: &Config,
    app_names: Option<&Refresher>,
    heartbeat: Option<&Heartbeat>,
    uptime_metrics: &[UptimeMetrics],
) -> Option<ErrorSettings> {
    let tracking = &config.error_tracking;
    let points = tracking.influxdb.enable && config.influxdb_config.enable;
    let measurement = points.then(|| tracking.influxdb.measurement_name.clone());
    let log_summary = tracking.log_summary.enable;
    if !tracking.enable || (measurement.is_none() && !log_summary) {
        return None;
    }
    let app_names = app_names.map(|refresher| {
        let host = config.app_names.host_ip.clone().unwrap_or_default();
        let source = ErrorSource { error_type: "APP_NAMES_EXTRACT", tags: vec![("host", host)] };
        (source, Arc::clone(refresher.failures()))
    });
    let heartbeat = heartbeat.map(|heartbeat| {
        // Butler SOS does not track these. The URL may be secret.
        let source = ErrorSource { error_type: "HEARTBEAT", tags: Vec::new() };
        (source, Arc::clone(heartbeat.failures()))
    });
    let uptime_metrics = uptime_metrics.iter().map(|metrics| {
        let url = config.new_relic.metric.url.clone();
        let tags = vec![("destination_host", url), ("module", "UPTIME_NEW_RELIC".to_owned())];
        (ErrorSource { error_type: "NEW_RELIC_POST", tags }, Arc::clone(metrics.failures()))
    });
    Some(ErrorSettings {
        measurement,
        log_summary,
        destinations: destinations(config),
        others: app_names.into_iter().chain(heartbeat).chain(uptime_metrics).collect(),
    })
}

/// Names in the ledger, and whose errors theirs are. Those that are not in use are ignored.
fn destinations(config: &Config) -> Vec<(String, ErrorSource)> {
    let influxdb = &config.influxdb_config;
    let scheme = if config.ringside.influxdb.https { "https" } else { "http" };
    let url = format!("{scheme}://{}:{}", influxdb.host, influxdb.port);
    let influxdb = ErrorSource {
        error_type: match influxdb.version {
            InfluxdbVersion::V1 => "INFLUXDB_V1_WRITE",
            InfluxdbVersion::V2 => "INFLUXDB_V2_WRITE",
            InfluxdbVersion::V3 => "INFLUXDB_V3_WRITE",
        },
        tags: vec![("destination_host", url)],
    };
    let broker = config.mqtt_config.broker_host.clone().unwrap_or_default();
    let mqtt = ErrorSource { error_type: "MQTT_PUBLISH", tags: vec![("host", broker)] };
    let ndjson = ErrorSource { error_type: "NDJSON_WRITE", tags: Vec::new() };
    let accounts = config.third_party_tools_credentials.new_relic.iter().map(|account| {
        let url = config.new_relic.event.url.clone();
        let tags = vec![("destination_host", url)];
        let name = format!("new_relic:{}", account.account_name);
        (name, ErrorSource { error_type: "NEW_RELIC_POST", tags })
    });
    let named = [("influxdb", influxdb), ("mqtt", mqtt), ("ndjson", ndjson)];
    let named = named.into_iter().map(|(name, source)| (name.to_owned(), source));
    named.chain(accounts).collect()
}
