//! Logging and the sections around the pipeline: health, metrics, heartbeat, uptime, own errors.

use std::ops::RangeInclusive;

use super::{
    Secret,
    new_relic::NameValue,
    setting::{Filled, IfGiven, Rule, Switched, choice, off, section, switched},
    values::{Millis, Toggle},
};
use crate::schedule::Schedule;

choice! {
    /// How much is logged. Butler SOS's words.
    pub enum LogLevel {
        /// Only what needs somebody to act.
        Error = "error",
        /// Also what may need it.
        Warn = "warn",
        /// Also what happens at start, stop and reload.
        Info = "info",
        /// Also each batch.
        Verbose = "verbose",
        /// Also each decision.
        Debug = "debug",
        /// Everything.
        Silly = "silly",
    }
}

/// A listener's port: 0 lets the system choose, for tests.
pub(super) const LISTEN_PORTS: RangeInclusive<u16> = 0..=65_535;

/// The port of a server elsewhere.
pub(super) const REMOTE_PORTS: RangeInclusive<u16> = 1..=65_535;

/// How often something is written. A week is longer than any dashboard's window.
pub(super) const WRITE_INTERVAL: RangeInclusive<Millis> = Millis::new(1)..=Millis::days(7);

/// A text schedule of the `later` library, such as `every 15 minutes`.
const SCHEDULE: Rule<str> = Rule {
    allows: |text| text.parse::<Schedule>().is_ok(),
    otherwise: "is not a schedule",
    wanted: "text such as `every 15 minutes` or `at 10:15 am`",
};

pub(super) const HTTP_URL: Rule<str> = Rule {
    allows: |text| {
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace))
    },
    otherwise: "is not a URL",
    wanted: "a URL that begins with http:// or https://",
};

section! {
    /// A web page with the configuration.
    pub struct ConfigVisualisation {
        /// Serves the page.
        enable: bool = false;
        /// Address to listen on.
        host: String = "localhost".to_owned() => Filled;
        /// Port to listen on.
        port: u16 = 3100 => LISTEN_PORTS;
        /// Hides secrets on the page; they stay hidden with `false` too.
        obfuscate: bool = true;
    }
}

section! {
    /// A request to a URL at regular times, to say that the process lives.
    pub struct Heartbeat {
        /// Sends the requests.
        enable: bool = false;
        /// Called with GET at start and then on schedule. Who knows it can pretend to live, so it is a secret.
        remote_url as "remoteURL": Secret = Secret::from("http://my.monitoring.server/some/path/") => HTTP_URL;
        /// When.
        frequency: String = "every 1 hour".to_owned() => SCHEDULE;
    }
}

section! {
    /// `/health` for container platforms.
    pub struct DockerHealthCheck {
        /// Serves `/health` on loopback.
        enable: bool = false;
        /// Port to listen on. The health script of Butler SOS's image expects 12398.
        port: u16 = 12_398 => LISTEN_PORTS;
    }
}

section! {
    /// Memory and uptime of the process itself.
    pub struct UptimeMonitor {
        /// Logs memory and uptime on schedule.
        enable: bool = true;
        /// When.
        frequency: String = "every 15 minutes".to_owned() => SCHEDULE;
        /// Level of the log line.
        log_level: LogLevel = LogLevel::Verbose;
        /// To InfluxDB.
        store_in_influxdb: UptimeInfluxdb = UptimeInfluxdb::default();
        /// To New Relic.
        store_new_relic: UptimeNewRelic = off();
    }
}

section! {
    /// Uptime and memory as points of InfluxDB.
    pub struct UptimeInfluxdb {
        /// Writes measurement `butlersos_memory_usage`.
        butler_sos_memory_usage as "butlerSOSMemoryUsage": bool = true;
        /// Value of the tag `butler_sos_instance`.
        instance_tag: String = "DEV".to_owned();
    }
}

section! {
    /// Uptime and memory as metrics of New Relic.
    pub struct UptimeNewRelic {
        /// Sends them.
        enable: bool = false;
        /// Names of accounts in `thirdPartyToolsCredentials.newRelic`.
        destination_account: Vec<String> = Vec::new();
        /// Which metrics.
        metric: UptimeMetric = UptimeMetric::default();
        /// What is added to them.
        attribute: UptimeAttribute = UptimeAttribute::default();
    }
}

section! {
    /// Which uptime metrics are sent.
    pub struct UptimeMetric {
        /// The metrics.
        dynamic: UptimeMetrics = UptimeMetrics::default();
    }
}

section! {
    /// A switch for each uptime metric.
    pub struct UptimeMetrics {
        /// Sends the memory in use.
        butler_memory_usage: Toggle<true> = off();
        /// Sends the uptime.
        butler_uptime: Toggle<true> = off();
    }
}

section! {
    /// Attributes of the uptime metrics.
    pub struct UptimeAttribute {
        /// Attributes with fixed values.
        fixed as "static": Vec<NameValue> = Vec::new();
        /// Attributes with values of the moment.
        dynamic: UptimeDynamic = UptimeDynamic::default();
    }
}

section! {
    /// Attributes of the uptime metrics that are not fixed.
    pub struct UptimeDynamic {
        /// Adds the version.
        butler_version: Toggle<true> = off();
    }
}

section! {
    /// Counters of the process's own errors.
    pub struct ErrorTracking {
        /// Counts errors.
        enable: bool = true;
        /// Logs a summary of the day.
        log_summary: Toggle<true> = off();
        /// Writes points to InfluxDB.
        influxdb: ErrorTrackingInfluxdb = off();
    }
}

section! {
    /// Error counters as points of InfluxDB.
    pub struct ErrorTrackingInfluxdb {
        /// Writes one point per error.
        enable: bool = true;
        /// Measurement.
        measurement_name: String = "butler_sos_errors".to_owned() => Filled;
    }
}

section! {
    /// Metrics for Prometheus on a port of their own.
    pub struct Prometheus {
        /// Serves them.
        enable: bool = false;
        /// Address to listen on.
        host: String = "127.0.0.1".to_owned() => Filled;
        /// Port to listen on.
        port: u16 = 9842 => LISTEN_PORTS;
        /// Address for the metrics of the process.
        node_metrics_host: String = "0.0.0.0".to_owned() => Filled, later;
        /// Port for the metrics of the process.
        node_metrics_port: u16 = 9001 => LISTEN_PORTS, later;
    }
}

section! {
    /// The client certificate for Sense's own APIs; needed to look up the names of apps.
    pub struct Cert {
        /// Path of `client.pem`.
        client_cert: Option<String> = None => IfGiven(Filled);
        /// Path of `client_key.pem`.
        client_cert_key: Option<String> = None => IfGiven(Filled);
        /// Path of `root.pem`.
        client_cert_ca as "clientCertCA": Option<String> = None => IfGiven(Filled);
        /// Password of the key. Keys have to be exported without one.
        client_cert_passphrase: Secret = Secret::default(), later;
    }
}

section! {
    /// Names of apps, asked for at the repository service.
    pub struct AppNames {
        /// Asks for them.
        enable_app_name_extract: bool = true;
        /// Time between two requests.
        extract_interval: Millis = Millis::seconds(60) => Millis::new(1)..=Millis::days(7);
        /// Host of the repository service.
        host_ip as "hostIP": Option<String> = None => IfGiven(Filled);
    }
}

switched!(ConfigVisualisation, Heartbeat, DockerHealthCheck, UptimeMonitor, UptimeNewRelic);
switched!(ErrorTracking, ErrorTrackingInfluxdb, Prometheus);

impl Switched for AppNames {
    fn switch_off(&mut self) {
        self.enable_app_name_extract = false;
    }
}
