//! The YAML file → typed settings.
//!
//! The file is Butler SOS's, so that an operator changes the program and not the file. Ringside's own
//! settings live in a section that Butler SOS ignores. A missing key takes the value of Butler SOS's
//! template (lists: empty, for the template's entries are examples); a missing section is off.
//!
//! A file is read in four steps, each of which reports all that it finds:
//!
//! 1. `document`: text → a tree that knows the line and column of everything,
//! 2. `reader`: tree → structs, by serde; types and unknown keys,
//! 3. `setting`: the limits that each section declares with its keys,
//! 4. `checks`: what only shows when sections are seen together.

mod basic;
mod checks;
mod diagnostic;
mod document;
mod event_counts;
mod influxdb;
mod log_events;
mod monitor_filter;
mod mqtt;
mod new_relic;
mod places;
mod reader;
mod ringside;
mod setting;
mod udp;
mod user_events;
mod values;

use std::{collections::BTreeMap, fs::File, io::Read as _, path::Path as FilePath};

use serde::Deserialize;

pub use crate::secret::Secret;

pub use self::{
    basic::{
        AppNames, Cert, ConfigVisualisation, DockerHealthCheck, ErrorTracking,
        ErrorTrackingInfluxdb, Heartbeat, LogLevel, Prometheus, UptimeAttribute, UptimeDynamic,
        UptimeInfluxdb, UptimeMetric, UptimeMetrics, UptimeMonitor, UptimeNewRelic,
    },
    diagnostic::{ConfigError, Diagnostic},
    event_counts::{
        CountersInfluxdb, EventCount, EventCountInfluxdb, QlikSenseEvents, RejectedEventCount,
        RejectedEventCountInfluxdb,
    },
    influxdb::{
        InfluxdbConfig, InfluxdbVersion, RetentionPolicy, V1Auth, V1Config, V2Config, V3Config,
    },
    log_events::{
        Categorise, Category, CategoryRule, DefaultCategory, EnginePerformanceMonitor, EventLevel,
        FilterType, LogEvents, LogEventsToMqtt, LogEventsToNewRelic, LogTopics, MessageFilter,
        NewRelicLevels, NewRelicSource, NewRelicSources, RejectedEvents, RuleAction, Sources,
    },
    monitor_filter::{
        AllApps, AppFilter, AppObjects, AppSelector, AppSpecific, Methods, MonitorFilter,
        ObjectTypes,
    },
    mqtt::MqttConfig,
    new_relic::{
        Header, NameValue, NewRelic, NewRelicAccount, NewRelicAttribute, NewRelicEvent,
        NewRelicMetric, ThirdPartyToolsCredentials, VersionAttribute,
    },
    places::Places,
    ringside::{
        Archive, Backend, Console, Deliver, Gzip, MqttLastWill, Ndjson, Queue, Receive, Ringside,
        RingsideInfluxdb, RingsideMqtt, RingsideNewRelic, SourceValidation, Spool, SpoolMode,
        SpoolOrder,
    },
    setting::{Row, Status},
    udp::{
        AllowedSource, Listener, LogUdpServer, MessageQueue, QueueMetrics, QueueMetricsInfluxdb,
        RateLimit, UserUdpServer,
    },
    user_events::{
        ConnectionCloseTopic, ConnectionOpenTopic, EverythingTopic, ExcludedUser,
        SessionStartTopic, SessionStopTopic, UserEvents, UserEventsToMqtt, UserEventsToNewRelic,
        UserTopics,
    },
    values::{ByteSize, LeftAlone, Millis, ObjectId, Shards, Tag, Threads, Toggle},
};
use self::{
    diagnostic::{Fault, Report},
    document::{Data, Misplaced, Node, Path, Position},
    setting::{Filled, Setting as _, off, section},
};

/// The key that holds everything.
const ROOT: &str = "Butler-SOS";

/// Butler SOS's template with its comments is 50 KB; this leaves room for long lists.
const FILE_BYTES_MAX: u64 = 4 << 20;

section! {
    /// The settings of the whole file.
    pub struct Config {
        /// How much is logged. `-l` overrides it.
        log_level: LogLevel = LogLevel::Info;
        /// Also logs to files in `logDirectory`.
        file_logging: bool = true;
        /// Directory of log files.
        log_directory: String = "log".to_owned() => Filled;
        /// Counters of received and rejected events.
        qlik_sense_events: QlikSenseEvents = QlikSenseEvents::default();
        /// User events.
        user_events: UserEvents = off();
        /// Log events.
        log_events: LogEvents = LogEvents::default();
        /// InfluxDB.
        influxdb_config: InfluxdbConfig = off();
        /// MQTT.
        mqtt_config: MqttConfig = off();
        /// New Relic.
        new_relic: NewRelic = off();
        /// Credentials for services on the internet.
        third_party_tools_credentials: ThirdPartyToolsCredentials = ThirdPartyToolsCredentials::default();
        /// Certificate for Sense's own APIs.
        cert: Cert = Cert::default();
        /// Names of apps.
        app_names: AppNames = off();
        /// Metrics for Prometheus.
        prometheus: Prometheus = off();
        /// Health for container platforms.
        docker_health_check: DockerHealthCheck = off();
        /// A web page with the configuration.
        config_visualisation: ConfigVisualisation = off();
        /// Requests that say that the process lives.
        heartbeat: Heartbeat = off();
        /// Memory and uptime of the process.
        uptime_monitor: UptimeMonitor = off();
        /// Counters of own errors.
        error_tracking: ErrorTracking = off();
        /// What Butler SOS has no key for.
        ringside: Ringside = Ringside::default();
        /// Usage statistics of Butler SOS. Ringside sends none.
        anon_telemetry: LeftAlone = LeftAlone;
        /// Crash dumps of Butler SOS.
        crash_file: LeftAlone = LeftAlone;
        /// Facts about the host in the log of Butler SOS.
        system_info: LeftAlone = LeftAlone;
        /// Servers that Butler SOS asks for their health.
        servers_to_monitor: LeftAlone = LeftAlone;
        /// Sessions that Butler SOS asks the proxies for.
        user_sessions: LeftAlone = LeftAlone;
        /// Audit events, which Butler SOS gets over HTTP.
        audit_events: LeftAlone = LeftAlone;
    }
}

impl Config {
    /// The listener for user events, when it is on.
    #[must_use]
    pub fn user_listener(&self) -> Option<Listener<'_>> {
        self.user_events.enable.then(|| (&self.user_events.udp_server_config).into())
    }

    /// The uptime metrics for New Relic, when they are on. As in Butler SOS, `newRelic.enable` has no
    /// say in it.
    #[must_use]
    pub fn uptime_at_new_relic(&self) -> Option<&UptimeNewRelic> {
        let uptime = &self.uptime_monitor;
        (uptime.enable && uptime.store_new_relic.enable).then_some(&uptime.store_new_relic)
    }

    /// The settings in effect as a file of their own, with `***` for secrets.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let root = BTreeMap::from([(ROOT, self)]);
        // Every setting is a number, a text, a list or a map with texts as keys.
        serde_yaml::to_string(&root).unwrap_or_else(|error| format!("# {error}\n"))
    }

    /// The listener for log events, when it is on.
    #[must_use]
    pub fn log_listener(&self) -> Option<Listener<'_>> {
        self.log_events.is_enabled().then(|| (&self.log_events.udp_server_config).into())
    }
}

/// A configuration that can be used, with what should be said about it once.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What an operator should know, in the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// Where the settings stand.
    pub places: Places,
}

/// Reads a file. The ending of its name does not matter.
pub fn load(path: &FilePath) -> Result<Loaded, ConfigError> {
    load_with(path, Overrides::default())
}

/// What the command line says instead of the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Accounts of New Relic, in the place of all those of the file; none leaves the file's.
    pub new_relic_accounts: Vec<NewRelicAccount>,
}

impl Overrides {
    fn apply(self, config: &mut Config) {
        if !self.new_relic_accounts.is_empty() {
            config.third_party_tools_credentials.new_relic = self.new_relic_accounts;
        }
    }
}

/// Reads a file of which the command line replaces a part.
pub fn load_with(path: &FilePath, overrides: Overrides) -> Result<Loaded, ConfigError> {
    let mut bytes = Vec::new();
    // One byte over the limit tells a file that is too long from one that just fits.
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse_bytes(&bytes, &path.display().to_string(), overrides)
}

/// Reads the text of a file; `file_name` is for the messages.
pub fn parse(text: &str, file_name: &str) -> Result<Loaded, ConfigError> {
    parse_bytes(text.as_bytes(), file_name, Overrides::default())
}

fn parse_bytes(bytes: &[u8], file_name: &str, overrides: Overrides) -> Result<Loaded, ConfigError> {
    let (root, duplicates) = match text_of(bytes).and_then(document::read) {
        Ok(read) => read,
        Err(misplaced) => return Err(unreadable(misplaced, file_name)),
    };
    let mut report = Report::new(file_name, &root);
    for Misplaced { at, path, fault } in duplicates {
        report.problem_at(at, path, fault);
    }
    let (mut config, complete) = settings(&root, &mut report);
    if let Some(config) = &mut config {
        overrides.apply(config);
        report.unused = checks::unused_sections(config);
        config.check(&Path::Key(&Path::Root, ROOT), &mut report);
        // With values missing, what the sections say together would be beside the point; not so with
        // values that are missing where nobody uses them, which is no problem.
        if complete || report.problems() == 0 {
            checks::check(config, &mut report);
        }
        let keys = report.take_without_effect();
        report.summarise(
            keys,
            "accepted, but without effect in this version",
            "nothing to do; `enable: false` silences this",
        );
    }
    match (report.finish(), config) {
        ((problems, warnings), Some(config)) if problems.is_empty() => {
            Ok(Loaded { config, warnings, places: Places::new(file_name, root) })
        }
        ((problems, warnings), _) => Err(ConfigError::Invalid { problems, warnings }),
    }
}

/// The one key at the top. `node-config` lets others stand beside it.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "Butler-SOS")]
    config: Option<Config>,
}

/// The settings, and whether every value of the file got into them.
fn settings(root: &Node, report: &mut Report<'_>) -> (Option<Config>, bool) {
    if !matches!(root.data, Data::Mapping(_)) {
        let hint = "the file has to hold the key `Butler-SOS:` with the settings indented below it";
        report.problem(&Path::Root, Fault::new("the file does not begin with a key", hint));
        return (None, false);
    }
    let found = reader::read::<Document>(root, report);
    report.summarise(
        found.left_alone,
        "left to Butler SOS, not handled by Ringside",
        "keep Butler SOS running beside Ringside if they are needed, with its UDP events off",
    );
    let config = found.settings.and_then(|document| document.config);
    if config.is_none() && report.problems() == 0 {
        let hint = "indent all settings below a line `Butler-SOS:`";
        report.problem(&Path::Root, Fault::new("the key `Butler-SOS` is missing or empty", hint));
    }
    (config, found.complete)
}

fn text_of(bytes: &[u8]) -> Result<&str, Misplaced> {
    let refuse = |at, what: String, hint| {
        Err(Misplaced { at, path: String::new(), fault: Fault::new(what, hint) })
    };
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let what = format!("the file is larger than {}", ByteSize::new(FILE_BYTES_MAX));
        return refuse(Position::START, what, "is it a configuration file?");
    }
    match std::str::from_utf8(bytes) {
        // Editors on Windows put a byte order mark in front.
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let last = valid.rsplit('\n').next().unwrap_or_default();
            let line = valid.matches('\n').count() + 1;
            let at = Position { line, column: last.chars().count() + 1 };
            refuse(at, "not UTF-8".to_owned(), "save the file with the encoding UTF-8")
        }
    }
}

fn unreadable(misplaced: Misplaced, file_name: &str) -> ConfigError {
    let Misplaced { at, path, fault: Fault { what, hint } } = misplaced;
    let Position { line, column } = at;
    let problem = Diagnostic { file: file_name.into(), line, column, path, what, hint };
    ConfigError::Invalid { problems: vec![problem], warnings: Vec::new() }
}

/// What runs without a file: both listeners on loopback, all events to the archive in
/// `ringside-data/archive`, the console on port 8088.
#[must_use]
pub fn embedded_default() -> Config {
    let mut config = Config { file_logging: false, ..Config::default() };
    config.user_events.enable = true;
    let Sources { engine, proxy, repository, scheduler, qix_perf } = &mut config.log_events.source;
    for source in [engine, proxy, repository, scheduler] {
        source.enable = true;
    }
    qix_perf.enable = true;
    config.log_events.engine_performance_monitor.enable = true;
    config.log_events.engine_performance_monitor.monitor_filter.all_apps.enable = true;
    // Whoever tries it out waits for the first file.
    config.ringside.archive =
        Archive { enable: true, roll_interval: Millis::seconds(300), ..Archive::default() };
    config
}

/// Every key of the file, in the order of its sections, as `docs/configuration.md` lists them.
#[must_use]
pub fn reference() -> Vec<Row> {
    let root = Row {
        path: ROOT.to_owned(),
        kind: String::new(),
        default: String::new(),
        limits: String::new(),
        about: String::new(),
        status: Status::Used,
    };
    let mut rows = Vec::new();
    Config::describe(None, root, &mut rows);
    rows
}
