//! From the configuration file to the settings of each room. Only the commands know both.

mod counters;
pub(super) mod doctor;
mod endpoints;
mod errors;
mod influxdb;
mod mqtt;
mod new_relic;
mod receive;
mod rules;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::{EXIT_FAILED, EXIT_USAGE};
use crate::config::{Config, LogLevel, SpoolMode, SpoolOrder, Tag};
use crate::counters::uptime_metrics::UptimeMetrics;
use crate::deliver::Destination;
use crate::deliver::archive::files::Retention;
use crate::deliver::archive::{ArchiveDestination, Roll};
use crate::deliver::influxdb::{InfluxDestination, InfluxError};
use crate::deliver::mqtt::{MqttDestination, MqttError};
use crate::deliver::ndjson::NdjsonDestination;
use crate::deliver::new_relic::NewRelicError;
use crate::engine;
use crate::enrich::app_names::{self, AppNamesError};
use crate::event::Kind;
use crate::heartbeat::{Heartbeat, HeartbeatError};
use crate::observe::http::BindSettings;
use crate::observe::logging::Level;
use crate::rules::{Rules, RulesError};
use crate::schedule::UnknownSchedule;
use crate::shard;

/// What `run` needs.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) engine: engine::Settings,
    pub(super) endpoints: Vec<BindSettings>,
    pub(super) heartbeat: Option<Heartbeat>,
    /// One for each account of New Relic that gets them.
    pub(super) uptime_metrics: Vec<UptimeMetrics>,
    /// Keeps `engine.app_names` up to date, when they are wanted.
    pub(super) app_names: Option<app_names::Refresher>,
    /// What survives the process is kept here.
    pub(super) spool_dir: PathBuf,
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
    let (app_names, heartbeat) = (app_names(config)?, heartbeat(config)?);
    let uptime_metrics = new_relic::uptime_metrics(config)?;
    Ok(Settings {
        engine: engine::Settings {
            receive: receive::of(config)?,
            shard: shard::Settings {
                flush_interval: config.ringside.flush_interval.duration(),
                batch_bytes: bytes(config.ringside.batch_bytes.bytes()),
                batch_events: config.influxdb_config.max_batch_size,
                turn_leases: receive::turn_leases(config),
            },
            rules: Arc::new(ArcSwap::from_pointee(compiled(config)?)),
            app_names: Arc::default(),
            destinations: destinations(config)?,
            counters: crate::counters::Settings {
                errors: errors::of(config, app_names.as_ref(), heartbeat.as_ref(), &uptime_metrics),
                ..counters::of(config)?
            },
            in_flight: config.ringside.deliver.in_flight.into(),
            spool: Some(spool(config)),
            last_run: None,
            sampled: config.ringside.console.enable,
        },
        endpoints: endpoints::of(config),
        app_names,
        heartbeat,
        uptime_metrics,
        spool_dir: PathBuf::from(&config.ringside.spool.dir),
        shutdown_timeout: config.ringside.shutdown_timeout.duration(),
    })
}

/// The folders that the spools of this file's destinations have.
pub(super) fn spool_folders(config: &Config) -> Result<Vec<PathBuf>, SettingsError> {
    let (spool, destinations) = (spool(config), destinations(config)?);
    Ok(destinations.iter().filter_map(|destination| spool.folder(&**destination)).collect())
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

/// Which events are wanted.
pub(super) fn compiled(config: &Config) -> Result<Rules, RulesError> {
    Rules::compile(&rules::of(config))
}

fn destinations(config: &Config) -> Result<Vec<Box<dyn Destination>>, SettingsError> {
    let mut destinations: Vec<Box<dyn Destination>> = Vec::new();
    if config.influxdb_config.enable {
        let (series, server) = (influxdb::series(config), influxdb::server(config));
        let warning = config.ringside.influxdb.series_warning.into();
        destinations.push(Box::new(InfluxDestination::new(series, server, warning)?));
    }
    if config.mqtt_config.enable {
        let destination = MqttDestination::new(mqtt::messages(config), &mqtt::broker(config))?;
        destinations.push(Box::new(destination));
    }
    destinations.extend(new_relic::destinations(config)?);
    if config.ringside.archive.enable {
        destinations.push(Box::new(archive(config)));
    }
    let ndjson = &config.ringside.ndjson;
    if ndjson.enable {
        let path = PathBuf::from(&ndjson.path);
        destinations.push(Box::new(NdjsonDestination { kinds: [true; Kind::COUNT], path }));
    }
    Ok(destinations)
}

fn archive(config: &Config) -> ArchiveDestination {
    let archive = &config.ringside.archive;
    ArchiveDestination {
        dir: PathBuf::from(&archive.dir),
        roll: Roll {
            interval: archive.roll_interval.duration(),
            bytes: archive.roll_bytes.bytes(),
        },
        retention: Retention {
            max_age: archive.max_age.duration(),
            max_bytes: archive.max_bytes.bytes(),
        },
    }
}

/// The folder in which this file's archive stages events.
pub(super) fn archive_staging(config: &Config) -> Option<PathBuf> {
    spool(config).folder(&archive(config))
}

fn tags(tags: &[Tag]) -> Vec<(String, String)> {
    tags.iter().map(|tag| (tag.name.clone(), tag.value.clone())).collect()
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
    Ok(Some(Heartbeat::new(heartbeat.remote_url.expose(), schedule)?))
}
