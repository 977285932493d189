//! From the configuration file to Ringside's own series: event counts, queue metrics, uptime.

use super::{SettingsError, influxdb, level_of, tags};
use crate::config::{Config, Listener};
use crate::counters::queue::QueueSettings;
use crate::counters::uptime::UptimeSettings;
use crate::counters::{CountSettings, InfluxSink, SeriesSettings, Settings};
use crate::deliver::influxdb::InfluxTransport;

pub(super) fn of(config: &Config) -> Result<Settings, SettingsError> {
    let influxdb = config.influxdb_config.enable.then(|| {
        InfluxTransport::new(influxdb::server(config))
            .map(|transport| InfluxSink { version: influxdb::version(config), transport })
    });
    let uptime = &config.uptime_monitor;
    let schedule = uptime
        .enable
        .then(|| uptime.frequency.parse())
        .transpose()
        .map_err(|error| SettingsError::Schedule("uptimeMonitor.frequency", error))?;
    Ok(Settings {
        influxdb: influxdb.transpose()?,
        counts: event_counts(config),
        queues: [
            config
                .user_listener()
                .and_then(|listener| queue_metrics(&listener, "user_events_queue")),
            config.log_listener().and_then(|listener| queue_metrics(&listener, "log_events_queue")),
        ],
        uptime: schedule.map(|schedule| UptimeSettings {
            schedule,
            level: level_of(uptime.log_level),
            instance: uptime
                .store_in_influxdb
                .butler_sos_memory_usage
                .then(|| uptime.store_in_influxdb.instance_tag.clone()),
        }),
        errors: None,
    })
}

/// Each of the two counters works without the other (difference 11).
fn event_counts(config: &Config) -> Option<CountSettings> {
    let counts = &config.qlik_sense_events;
    let rejected = &config.log_events.engine_performance_monitor.track_rejected_events;
    let received = counts.event_count.enable.then(|| SeriesSettings {
        measurement: counts.event_count.influxdb.measurement_name.clone(),
        tags: tags(&counts.event_count.influxdb.tags),
    });
    let track = counts.rejected_event_count.enable && rejected.enable;
    let rejected = track.then(|| SeriesSettings {
        measurement: counts.rejected_event_count.influxdb.measurement_name.clone(),
        tags: tags(&rejected.tags),
    });
    let any = counts.influxdb.enable && (received.is_some() || rejected.is_some());
    any.then(|| CountSettings {
        every: counts.influxdb.write_frequency.duration(),
        received,
        rejected,
    })
}

fn queue_metrics(listener: &Listener<'_>, measurement: &str) -> Option<QueueSettings> {
    let (metrics, queue) = (listener.queue_metrics, listener.queue);
    let measurement = metrics.measurement_name.as_deref().unwrap_or(measurement);
    metrics.enable.then(|| QueueSettings {
        every: metrics.write_frequency.duration(),
        series: SeriesSettings { measurement: measurement.to_owned(), tags: tags(&metrics.tags) },
        max_size: queue.max_size.into(),
        capacity: u64::from(queue.max_size) + u64::from(queue.max_concurrent),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Tag;

    #[test]
    fn each_counter_has_its_own_switches_names_and_tags() {
        let mut config = crate::config::embedded_default();
        let monitor = &mut config.log_events.engine_performance_monitor;
        monitor.track_rejected_events.enable = true;
        monitor.track_rejected_events.tags = vec![Tag { name: "a".into(), value: "b".into() }];
        let counts = &mut config.qlik_sense_events;
        counts.influxdb.enable = true;
        counts.influxdb.write_frequency = crate::config::Millis::seconds(7);
        counts.event_count.enable = false;
        counts.rejected_event_count.enable = true;
        counts.rejected_event_count.influxdb.measurement_name = "no".into();
        let found = event_counts(&config).expect("rejected events are counted");
        assert_eq!(found.every, Duration::from_secs(7));
        assert!(found.received.is_none());
        let rejected = found.rejected.expect("switched on");
        assert_eq!(rejected.measurement, "no");
        assert_eq!(rejected.tags, [("a".to_owned(), "b".to_owned())]);
        config.log_events.engine_performance_monitor.track_rejected_events.enable = false;
        assert!(event_counts(&config).is_none(), "not tracked");
        config.qlik_sense_events.event_count.enable = true;
        let found = event_counts(&config).expect("received events are counted");
        assert!(found.received.is_some() && found.rejected.is_none());
        config.qlik_sense_events.influxdb.enable = false;
        assert!(event_counts(&config).is_none(), "not written");
    }
}
