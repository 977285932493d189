//! An hour of a cluster's life, and the program that has received it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ringside::event::Listener;
use ringside::synthetic::{Cluster, MONDAY_MORNING_MS, Mix, Mood};
use serde_json::json;

use crate::support::qrs::{Qrs, Site, list};
use crate::support::{Ringside, binary, number};

/// The same people and apps in every run.
const SEED: u64 = 60;
const MINUTES: u64 = 60;
/// Enough that every app, browser and complaint occurs.
const EVENTS_PER_MINUTE: usize = 100;
/// What one of the cluster's engines fails for, in minutes.
const INCIDENT: std::ops::Range<u64> = 20..30;
/// Longer than any event of the cluster.
const LONGEST: usize = 2000;

/// A Sense site for Ringside, which knows the names of its apps.
pub struct Sense {
    recording: tempfile::NamedTempFile,
    sent: [u64; Listener::COUNT],
    qrs: Qrs,
    apps: Vec<(String, String)>,
    host: &'static str,
    site: Site,
    certificates: tempfile::TempDir,
}

impl Sense {
    /// Records an hour, as `ringside send --file` reads it. `host` is where the repository service is.
    pub fn new(host: &'static str) -> Self {
        let mut cluster = Cluster::new(SEED, Mix::CLUSTER, 4);
        let mut recording = tempfile::NamedTempFile::new().expect("a file");
        let mut sent = [0; Listener::COUNT];
        let mut record = |listener: Listener, payload: &[u8]| {
            let port = ["user", "log"][listener as usize];
            let line = json!({ "port": port, "payload_b64": BASE64_STANDARD.encode(payload) });
            writeln!(recording, "{line}").expect("write");
            sent[listener as usize] += 1;
        };
        for minute in 0..MINUTES {
            cluster.set_time(MONDAY_MORNING_MS + minute * 60_000);
            cluster.set_mood(if INCIDENT.contains(&minute) { Mood::Incident } else { Mood::Work });
            for (listener, payload) in cluster.take(EVENTS_PER_MINUTE) {
                assert!(payload.len() < LONGEST);
                record(listener, &payload);
            }
        }
        // What is dropped for its size, and what is no text: a NUL in every other byte, as in UTF-16.
        for listener in Listener::ALL {
            record(listener, &[b'x'; LONGEST + 1]);
            record(listener, b"/\0q\0s\0e\0o\0w\0-\0p\0r\0o\0x\0y\0/\0;\0");
        }
        let site = Site::new();
        Self {
            recording,
            sent,
            qrs: Qrs::start(host, &site),
            apps: cluster.app_names().map(|(id, name)| (id.to_string(), name)).collect(),
            host,
            site,
            certificates: tempfile::tempdir().expect("a directory"),
        }
    }

    /// Everything that the dashboards show is switched on, as docs/grafana.md says, on free ports.
    fn file(&self, version: u8, influxdb: SocketAddr) -> String {
        let certificates = self.site.export(self.certificates.path());
        let shown = |path: &Path| path.display().to_string();
        let queue = format!(
            "maxMessageSize: {LONGEST}\n      queueMetrics: \
             {{ influxdb: {{ enable: true, writeFrequency: 100, tags: [{{ name: qs_env, value: dev }}] }} }}"
        );
        format!(
            r"
Butler-SOS:
  uptimeMonitor:
    enable: true
    frequency: every 1 second
    storeInInfluxdb: {{ butlerSOSMemoryUsage: true }}
  errorTracking: {{ enable: true, influxdb: {{ enable: true }} }}
  qlikSenseEvents:
    influxdb: {{ enable: true, writeFrequency: 100 }}
    eventCount: {{ enable: true, influxdb: {{ tags: [{{ name: qs_env, value: dev }}] }} }}
    rejectedEventCount: {{ enable: true }}
  userEvents:
    enable: true
    tags: [{{ name: qs_env, value: dev }}]
    sendToInfluxdb: {{ enable: true }}
    udpServerConfig:
      serverHost: 127.0.0.1
      portUserActivityEvents: 0
      {queue}
  logEvents:
    tags: [{{ name: qs_env, value: dev }}]
    sendToInfluxdb: {{ enable: true }}
    source:
      engine: {{ enable: true }}
      proxy: {{ enable: true }}
      repository: {{ enable: true }}
      scheduler: {{ enable: true }}
      qixPerf: {{ enable: true }}
    categorise:
      enable: true
      ruleDefault: {{ enable: true, category: [{{ name: qs_log_category, value: unknown }}] }}
    enginePerformanceMonitor:
      enable: true
      appNameLookup: {{ enable: true }}
      trackRejectedEvents: {{ enable: true, tags: [{{ name: qs_env, value: dev }}] }}
      monitorFilter:
        allApps: {{ enable: true, appExclude: [{{ appName: License Monitor }}] }}
    udpServerConfig:
      serverHost: 127.0.0.1
      portLogEvents: 0
      {queue}
  cert:
    clientCert: {client}
    clientCertKey: {key}
    clientCertCA: {root}
  appNames: {{ enableAppNameExtract: true, extractInterval: 1500, hostIP: {qrs} }}
  influxdbConfig:
    enable: true
    host: {host}
    port: {port}
    version: {version}
    v1Config: {{ dbName: {DATABASE} }}
    v2Config: {{ org: o, bucket: {DATABASE}, token: t }}
    v3Config: {{ database: {DATABASE}, token: t }}
  ringside:
    flushInterval: 20ms
    tagsAsFields: [{as_fields}]
    console: {{ port: 0 }}
    archive: {{ enable: false }}
",
            client = shown(&certificates.client),
            key = shown(&certificates.key),
            root = shown(&certificates.root),
            qrs = self.host,
            host = influxdb.ip(),
            port = influxdb.port(),
            // In version 3 it is a column of one type for all log events.
            as_fields = if version == 3 { "session_id" } else { "" },
        )
    }

    /// Starts Ringside in front of an `InfluxDB`, and lets it learn the names of the apps.
    pub fn start(&self, version: u8, influxdb: SocketAddr) -> Ringside {
        let mut ringside = Ringside::start_with(&self.file(version, influxdb), &[]);
        let apps: Vec<_> = self.apps.iter().map(|(id, name)| (&**id, &**name)).collect();
        self.qrs.answer("200 OK", &list(&apps));
        ringside.wait_for_line("app names are here");
        ringside
    }

    /// Sends the hour in a few seconds, and waits until the events are delivered.
    pub fn replay(&self, ringside: &Ringside) {
        let output = Command::new(binary())
            .args(["send", "--rate", "2000", "--file"])
            .arg(self.recording.path())
            .args(["--to", &ringside.log_events.to_string()])
            .args(["--user-to", &ringside.user_events.to_string()])
            .output()
            .expect("start ringside send");
        assert!(output.status.success(), "{output:?}");
        ringside.wait_stats("the hour is delivered", |stats| {
            let to = &stats["destinations"]["influxdb"];
            to["delivered"] == to["assigned"]
                && Listener::ALL.iter().all(|&listener| {
                    let received =
                        number(stats, &format!("/listeners/{}/received", listener.name()));
                    let queued = number(stats, &format!("/listeners/{}/queued", listener.name()));
                    received == self.sent[listener as usize] && queued == 0
                })
        });
    }
}

/// The database or bucket.
pub const DATABASE: &str = "senseops";

/// The series that Ringside writes about itself.
pub const OWN_SERIES: [&str; 6] = [
    "event_count",
    "rejected_event_count",
    "user_events_queue",
    "log_events_queue",
    "butler_sos_errors",
    "butlersos_memory_usage",
];
