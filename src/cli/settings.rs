//! From the configuration file to the settings of each room. Only the commands know both.

mod new_relic;
mod rules;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::{EXIT_FAILED, EXIT_USAGE};
use crate::config::{
    self, Backend, Config, Gzip, InfluxdbVersion, Listener, LogLevel, SpoolMode, SpoolOrder, Tag,
    Threads,
};
use crate::counters::queue::QueueSettings;
use crate::counters::uptime::UptimeSettings;
use crate::counters::{self, CountSettings, InfluxSink, SeriesSettings};
use crate::deliver::influxdb::encode::EncoderSettings;
use crate::deliver::influxdb::{
    self, InfluxDestination, InfluxError, InfluxSettings, InfluxTransport, Target,
};
use crate::deliver::mqtt::encode::{self as mqtt_encode, LogTopics, UserTopics};
use crate::deliver::mqtt::{LastWill, MqttDestination, MqttError, MqttSettings, Qos, Tls};
use crate::deliver::ndjson::NdjsonDestination;
use crate::deliver::new_relic::NewRelicError;
use crate::deliver::{Destination, influxdb::Version};
use crate::engine;
use crate::enrich::app_names::{self, AppNamesError};
use crate::event::{self, Kind};
use crate::heartbeat::{Heartbeat, HeartbeatError};
use crate::observe::http::{BindSettings, Part, Token};
use crate::observe::logging::Level;
use crate::receive::{self, BackendChoice, ListenerSettings};
use crate::rules::{Rules, RulesError};
use crate::schedule::UnknownSchedule;
use crate::shard;

/// What `run` needs.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) engine: engine::Settings,
    pub(super) endpoints: Vec<BindSettings>,
    pub(super) heartbeat: Option<Heartbeat>,
    /// Keeps `engine.app_names` up to date, when they are wanted.
    pub(super) app_names: Option<app_names::Refresher>,
    pub(super) shutdown_timeout: Duration,
}

/// Why a valid file cannot be used on this host.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettingsError {
    /// A listener's host does not resolve.
    #[error(
        "Butler-SOS.{section}.udpServerConfig.serverHost: `{host}` cannot be resolved: {error}; \
         use an address of this host, or 0.0.0.0 for all of them"
    )]
    Host { section: &'static str, host: String, error: io::Error },
    /// Names of apps cannot be asked for with these settings.
    #[error(transparent)]
    AppNames(#[from] AppNamesError),
    /// Nobody can be called with these settings.
    #[error(transparent)]
    Heartbeat(#[from] HeartbeatError),
    /// The file has an unknown schedule, which its checks would have found.
    #[error("Butler-SOS.{0}: {1}")]
    Schedule(&'static str, UnknownSchedule),
    /// `InfluxDB` cannot be talked to with these settings.
    #[error(transparent)]
    Influx(#[from] InfluxError),
    /// The MQTT broker cannot be talked to with these settings.
    #[error(transparent)]
    Mqtt(#[from] MqttError),
    /// The rules cannot be compiled.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// New Relic cannot be talked to with these settings.
    #[error(transparent)]
    NewRelic(#[from] NewRelicError),
}

impl SettingsError {
    /// The exit code that says whose fault it is.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Host { .. } => EXIT_FAILED,
            Self::AppNames(_)
            | Self::Heartbeat(_)
            | Self::Schedule(..)
            | Self::Influx(_)
            | Self::Mqtt(_)
            | Self::NewRelic(_)
            | Self::Rules(_) => EXIT_USAGE,
        }
    }
}

/// The log level of the file.
pub(super) fn level(config: &Config) -> Level {
    level_of(config.log_level)
}

fn level_of(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warn,
        LogLevel::Info => Level::Info,
        LogLevel::Verbose => Level::Verbose,
        LogLevel::Debug => Level::Debug,
        LogLevel::Silly => Level::Silly,
    }
}

/// The settings of all rooms.
pub(super) fn of(config: &Config) -> Result<Settings, SettingsError> {
    Ok(Settings {
        engine: engine::Settings {
            receive: receive(config)?,
            shard: shard::Settings {
                flush_interval: config.ringside.flush_interval.duration(),
                batch_bytes: bytes(config.ringside.batch_bytes.bytes()),
                batch_events: config.influxdb_config.max_batch_size,
                turn_leases: turn_leases(config),
            },
            rules: Arc::new(ArcSwap::from_pointee(compiled(config)?)),
            app_names: Arc::default(),
            destinations: destinations(config)?,
            counters: counters(config)?,
            in_flight: config.ringside.deliver.in_flight.into(),
            spool: Some(spool(config)),
        },
        endpoints: endpoints(config),
        app_names: app_names(config)?,
        heartbeat: heartbeat(config)?,
        shutdown_timeout: config.ringside.shutdown_timeout.duration(),
    })
}

fn spool(config: &Config) -> engine::SpoolSettings {
    let spool = &config.ringside.spool;
    engine::SpoolSettings {
        dir: PathBuf::from(&spool.dir),
        max_bytes: spool.max_bytes.bytes(),
        max_age: spool.max_age.duration(),
        sync_interval: spool.sync_interval.duration(),
        strict: spool.order == SpoolOrder::Strict,
        always: spool.mode == SpoolMode::Always,
    }
}

/// Sizes of the file are limited to what every supported platform can address.
fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

fn receive(config: &Config) -> Result<receive::Settings, SettingsError> {
    let ringside = &config.ringside;
    let strict = ringside.queue.strict;
    let user = config.user_listener().map(|l| listener(&l, "userEvents", strict)).transpose()?;
    let log = config.log_listener().map(|l| listener(&l, "logEvents", strict)).transpose()?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (receivers, shards) = threads_for(cores);
    Ok(receive::Settings {
        listeners: [user, log],
        backend: match ringside.receive.backend {
            Backend::Auto => BackendChoice::Auto,
            Backend::IoUring => BackendChoice::IoUring,
            Backend::Tokio => BackendChoice::Tokio,
        },
        receivers: threads(ringside.receive.receivers, receivers),
        shards: threads(ringside.shards, shards),
        slots: ringside.receive.slots as usize,
        socket_buffer: bytes(ringside.receive.socket_buffer.bytes()),
        ..receive::Settings::default()
    })
}

fn threads(setting: Threads, auto: usize) -> usize {
    match setting {
        Threads::Auto => auto,
        Threads::Fixed(count) => count.into(),
    }
}

/// Receivers and shards that `auto` stands for. One of each measured best on 2 cores
/// (docs/performance.md). Per event a shard needs about twice a receiver's time: with more cores, half
/// of them become shards and an eighth receivers.
fn threads_for(cores: usize) -> (usize, usize) {
    ((cores / 8).max(1), (cores / 2).max(1))
}

/// With a strict queue a shard works on no more at a time than Butler SOS would.
fn turn_leases(config: &Config) -> usize {
    if !config.ringside.queue.strict {
        return shard::TURN_LEASES;
    }
    [config.user_listener(), config.log_listener()]
        .iter()
        .flatten()
        .map(|listener| listener.queue.max_concurrent as usize)
        .fold(shard::TURN_LEASES, usize::min)
}

fn listener(
    listener: &Listener<'_>,
    section: &'static str,
    strict: bool,
) -> Result<ListenerSettings, SettingsError> {
    let addresses: Vec<SocketAddr> = (listener.host, listener.port)
        .to_socket_addrs()
        .map_err(|error| SettingsError::Host { section, host: listener.host.to_owned(), error })?
        .collect();
    let queue = listener.queue;
    Ok(ListenerSettings {
        addresses,
        max_message_size: listener.max_message_size as usize,
        queue_capacity: queue.max_size as usize + queue.max_concurrent as usize,
        backpressure_threshold: queue.backpressure_threshold,
        strict,
    })
}

/// Which events are wanted.
pub(super) fn compiled(config: &Config) -> Result<Rules, RulesError> {
    Rules::compile(&rules::of(config))
}

fn destinations(config: &Config) -> Result<Vec<Box<dyn Destination>>, SettingsError> {
    let mut destinations: Vec<Box<dyn Destination>> = Vec::new();
    if config.influxdb_config.enable {
        let destination = InfluxDestination::new(series(config), influxdb_server(config))?;
        destinations.push(Box::new(destination));
    }
    if config.mqtt_config.enable {
        let destination = MqttDestination::new(messages(config), &mqtt_broker(config))?;
        destinations.push(Box::new(destination));
    }
    destinations.extend(new_relic::destinations(config)?);
    let ndjson = &config.ringside.ndjson;
    if ndjson.enable {
        let path = PathBuf::from(&ndjson.path);
        destinations.push(Box::new(NdjsonDestination { kinds: [true; Kind::COUNT], path }));
    }
    Ok(destinations)
}

fn counters(config: &Config) -> Result<counters::Settings, SettingsError> {
    let influxdb = config.influxdb_config.enable.then(|| {
        InfluxTransport::new(influxdb_server(config))
            .map(|transport| InfluxSink { version: version(config), transport })
    });
    let uptime = &config.uptime_monitor;
    let schedule = uptime
        .enable
        .then(|| uptime.frequency.parse())
        .transpose()
        .map_err(|error| SettingsError::Schedule("uptimeMonitor.frequency", error))?;
    Ok(counters::Settings {
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

fn tags(tags: &[Tag]) -> Vec<(String, String)> {
    tags.iter().map(|tag| (tag.name.clone(), tag.value.clone())).collect()
}

fn series(config: &Config) -> EncoderSettings {
    EncoderSettings {
        version: version(config),
        user_tags: tags(&config.user_events.tags),
        log_tags: tags(&config.log_events.tags),
        tags_as_fields: config.ringside.tags_as_fields.clone(),
        log_row_tag: config.ringside.log_row_tag,
        kinds: Kind::ALL.map(|kind| match kind.listener() {
            event::Listener::UserEvents => config.user_events.send_to_influxdb.enable,
            event::Listener::LogEvents => config.log_events.send_to_influxdb.enable,
        }),
    }
}

fn version(config: &Config) -> Version {
    match config.influxdb_config.version {
        InfluxdbVersion::V1 => Version::V1,
        InfluxdbVersion::V2 => Version::V2,
        InfluxdbVersion::V3 => Version::V3,
    }
}

fn influxdb_server(config: &Config) -> InfluxSettings {
    let influxdb = &config.influxdb_config;
    let extra = &config.ringside.influxdb;
    // The file's checks have made sure that the section of the version is there; the template's
    // values stand in where it is not.
    let v1 = influxdb.v1_config.clone().unwrap_or_default();
    let v2 = influxdb.v2_config.clone().unwrap_or_default();
    let v3 = influxdb.v3_config.clone().unwrap_or_default();
    let timeout = match (extra.timeout, influxdb.version) {
        (Some(timeout), _) => timeout.duration(),
        (None, InfluxdbVersion::V3) => v3.write_timeout.duration(),
        (None, _) => influxdb::TIMEOUT_DEFAULT,
    };
    let target = match influxdb.version {
        InfluxdbVersion::V1 => Target::V1 {
            database: v1.db_name,
            retention_policy: Some((v1.retention_policy.name, v1.retention_policy.duration)),
            credentials: v1.auth.enable.then_some((v1.auth.username, v1.auth.password)),
        },
        InfluxdbVersion::V2 => Target::V2 {
            organisation: v2.org,
            bucket: v2.bucket,
            description: v2.description,
            retention: v2.retention_duration,
            token: v2.token,
        },
        InfluxdbVersion::V3 => Target::V3 { database: v3.database, token: v3.token },
    };
    InfluxSettings {
        https: extra.https,
        host: influxdb.host.clone(),
        port: influxdb.port,
        target,
        connect_timeout: extra.connect_timeout.duration(),
        timeout,
        gzip: match extra.gzip {
            Gzip::Auto => influxdb::Gzip::Auto,
            Gzip::On => influxdb::Gzip::Always,
            Gzip::Off => influxdb::Gzip::Never,
        },
    }
}

/// The file's checks have made sure that host and certificates are given where names are wanted.
fn app_names(config: &Config) -> Result<Option<app_names::Refresher>, SettingsError> {
    let names = &config.app_names;
    if !names.enable_app_name_extract {
        return Ok(None);
    }
    let path = |file: &Option<String>| file.as_ref().map(PathBuf::from).unwrap_or_default();
    let settings = app_names::Settings {
        host: names.host_ip.clone().unwrap_or_default(),
        interval: names.extract_interval.duration(),
        certificates: app_names::Certificates {
            client: path(&config.cert.client_cert),
            key: path(&config.cert.client_cert_key),
            root: path(&config.cert.client_cert_ca),
        },
    };
    Ok(Some(app_names::Refresher::new(&settings)?))
}

fn heartbeat(config: &Config) -> Result<Option<Heartbeat>, SettingsError> {
    let heartbeat = &config.heartbeat;
    if !heartbeat.enable {
        return Ok(None);
    }
    let schedule = heartbeat
        .frequency
        .parse()
        .map_err(|error| SettingsError::Schedule("heartbeat.frequency", error))?;
    Ok(Some(Heartbeat::new(&heartbeat.remote_url, schedule)?))
}

fn messages(config: &Config) -> mqtt_encode::EncoderSettings {
    let (user, log) = (&config.user_events.send_to_mqtt, &config.log_events.send_to_mqtt);
    mqtt_encode::EncoderSettings {
        user: user.enable.then(|| user_topics(&user.post_to)),
        log: log.enable.then(|| LogTopics {
            base: log.base_topic.clone(),
            to_base: log.post_to.base_topic,
            to_subsystem: log.post_to.subsystem_topics,
        }),
        user_tags: tags(&config.user_events.tags),
        log_tags: tags(&config.log_events.tags),
    }
}

fn user_topics(topics: &config::UserTopics) -> UserTopics {
    let config::UserTopics {
        everything_topic: everything,
        session_start_topic: start,
        session_stop_topic: stop,
        connection_open_topic: open,
        connection_close_topic: close,
    } = topics;
    let commands = [
        ("Start session", start.enable, &start.topic),
        ("Stop session", stop.enable, &stop.topic),
        ("Open connection", open.enable, &open.topic),
        ("Close connection", close.enable, &close.topic),
    ];
    UserTopics {
        everything: everything.enable.then(|| everything.topic.clone()),
        commands: commands
            .into_iter()
            .filter(|(_, enable, _)| *enable)
            .map(|(command, _, topic)| (command, topic.clone()))
            .collect(),
    }
}

fn mqtt_broker(config: &Config) -> MqttSettings {
    let extra = &config.ringside.mqtt;
    let path = |path: &Option<String>| path.as_ref().map(PathBuf::from);
    MqttSettings {
        // The file's checks have made sure that there is one.
        host: config.mqtt_config.broker_host.clone().unwrap_or_default(),
        port: config.mqtt_config.broker_port,
        qos: match extra.qos {
            0 => Qos::AtMostOnce,
            1 => Qos::AtLeastOnce,
            _ => Qos::ExactlyOnce,
        },
        retain: extra.retain,
        credentials: extra
            .username
            .clone()
            .map(|user| (user, extra.password.clone().unwrap_or_default())),
        tls: extra.tls.then(|| Tls {
            ca: path(&extra.ca),
            client: path(&extra.client_cert).zip(path(&extra.client_key)),
        }),
        client_id: extra.client_id.clone(),
        last_will: extra
            .last_will
            .clone()
            .map(|will| LastWill { topic: will.topic, payload: will.payload }),
    }
}

fn endpoints(config: &Config) -> Vec<BindSettings> {
    let mut endpoints = Vec::new();
    let console = &config.ringside.console;
    let token = console.token.as_ref().and_then(|token| Token::new(token.expose()));
    let visualisation = &config.config_visualisation;
    // Secrets are hidden whatever `obfuscate` says.
    let shown: Option<Arc<str>> = visualisation.enable.then(|| config.to_yaml().into());
    if console.enable {
        endpoints.push(BindSettings {
            part: Part::Console,
            host: console.host.clone(),
            port: console.port,
            token: token.clone(),
            config: shown.clone(),
        });
    }
    if config.prometheus.enable {
        let (host, port) = (config.prometheus.host.clone(), config.prometheus.port);
        endpoints.push(BindSettings { part: Part::Metrics, host, port, token: None, config: None });
    }
    if config.docker_health_check.enable {
        let (host, port) = ("localhost".to_owned(), config.docker_health_check.port);
        endpoints.push(BindSettings { part: Part::Health, host, port, token: None, config: None });
    }
    if visualisation.enable {
        let (host, port) = (visualisation.host.clone(), visualisation.port);
        endpoints.push(BindSettings { part: Part::Config, host, port, token, config: shown });
    }
    endpoints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_one_of_each_on_two_cores_and_more_on_more() {
        let expected = [(1, (1, 1)), (2, (1, 1)), (4, (1, 2)), (8, (1, 4)), (16, (2, 8))];
        for (cores, threads) in expected {
            assert_eq!(threads_for(cores), threads, "{cores} cores");
        }
    }

    #[test]
    fn tags_become_fields_where_the_file_says_so() {
        let mut config = crate::config::embedded_default();
        assert!(series(&config).tags_as_fields.is_empty());
        config.ringside.tags_as_fields = vec!["host".into()];
        assert_eq!(series(&config).tags_as_fields, ["host"]);
    }

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

    #[test]
    fn a_strict_queue_limits_the_turn() {
        let mut config = crate::config::embedded_default();
        assert_eq!(turn_leases(&config), shard::TURN_LEASES);
        config.ringside.queue.strict = true;
        config.user_events.udp_server_config.message_queue.max_concurrent = 7;
        config.log_events.udp_server_config.message_queue.max_concurrent = 3;
        assert_eq!(turn_leases(&config), 3, "the smaller of both listeners");
        config.log_events.udp_server_config.message_queue.max_concurrent = 20;
        assert_eq!(turn_leases(&config), 7);
    }
}
