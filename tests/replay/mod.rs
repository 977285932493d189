//! The recordings, sent to the program over UDP, and what arrives at its destinations.
//!
//! The configuration is the recorded one, with addresses where servers of the test listen: one that
//! takes lines and events, a real Mosquitto, and a repository service that knows the recorded apps.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::UdpSocket;
use std::sync::LazyLock;

use ringside::event::Listener;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::butler_sos::Version;
use crate::line_protocol::{Line, Value};
use crate::recordings::{Message, Recording, apps, config, rules};
use crate::support::mosquitto::{Mosquitto, PASSWORD, Subscriber, USER};
use crate::support::qrs::{self, Qrs, Site};
use crate::support::sink::{Reply, Request, Sink};
use crate::support::{DEADLINE, Ringside, number, proxy_event, user_event, wait_for};
use crate::{Mismatches, difference, expected, messages, outcome, posts};

/// What the user ids and messages of the markers begin with.
const MARKER: &str = "marker-";

/// The series of a listener's events.
const SERIES: [&str; Listener::COUNT] = ["user_events", "log_event"];

/// The series of Ringside's own numbers, which the recorded configuration has switched on.
const OWN_SERIES: [&str; 5] = [
    "event_count",
    "rejected_event_count",
    "user_events_queue",
    "log_events_queue",
    "butler_sos_errors",
];

#[test]
fn the_program_sends_influxdb_1_what_butler_sos_sent_after_the_differences() {
    replay(Version::V1, "auto", "127.42.43.1");
}

#[test]
fn the_program_sends_influxdb_2_what_butler_sos_sent_after_the_differences() {
    replay(Version::V2, "auto", "127.42.43.2");
}

#[test]
fn the_program_sends_influxdb_3_what_butler_sos_sent_after_the_differences() {
    replay(Version::V3, "auto", "127.42.43.3");
}

#[test]
fn so_does_the_program_that_receives_without_io_uring() {
    replay(Version::V1, "tokio", "127.42.43.4");
}

/// Sends all recorded datagrams to the program and compares what it sends to InfluxDB, to MQTT and to
/// New Relic. The repository service is at an address of the test's own, as its port is fixed.
fn replay(version: Version, backend: &str, qrs: &str) {
    // Worked out first, so that it takes no time from the program while that runs.
    let (recordings, wanted) = (&*RECORDINGS, &*WANTED);
    let rules = rules(version);
    let lines: Vec<Vec<Line>> = recordings
        .iter()
        .map(|recording| expected(recording.modelled(&rules, version, true), version))
        .collect();

    let servers = Servers::start(qrs);
    let mut ringside = Ringside::start_with(&servers.file(version, backend), &[]);
    // Events that came before the names would have none.
    servers.name_apps();
    ringside.wait_for_line("app names are here");
    let sent = send(recordings, &ringside);
    let stats = ringside.wait_stats("everything is delivered", |stats| {
        Listener::ALL.iter().all(|&listener| parsed(stats, listener) == sent[listener as usize])
            && stats["destinations"]
                .as_object()
                .expect("destinations")
                .values()
                .all(|to| to["delivered"] == to["assigned"])
    });
    assert_rejects(&wanted.rejected, &stats);
    let status = ringside.stop();
    assert!(status.success(), "{status}\n{}", ringside.log());

    assert_lines(&lines, version, &servers.influxdb);
    assert_messages(&wanted.messages, &servers.subscriber);
    for account in posts::ACCOUNTS {
        assert_posts(&wanted.posts, account, &servers.new_relic);
    }
}

/// All recordings.
static RECORDINGS: LazyLock<Vec<Recording>> = LazyLock::new(Recording::all);

/// What is expected whatever the version of InfluxDB.
static WANTED: LazyLock<Wanted> = LazyLock::new(Wanted::new);

struct Wanted {
    /// Datagrams that are rejected, by reason.
    rejected: [BTreeMap<&'static str, u64>; Listener::COUNT],
    /// The messages of each recording.
    messages: Vec<Vec<Message>>,
    /// The custom events of each recording: one or none.
    posts: Vec<Vec<Json>>,
}

impl Wanted {
    fn new() -> Self {
        let rules = rules(Version::V1);
        let mut wanted =
            Self { rejected: Default::default(), messages: Vec::new(), posts: Vec::new() };
        for recording in &*RECORDINGS {
            if let Err(reason) = outcome(recording, &rules) {
                let rejected = &mut wanted.rejected[recording.datagram.listener as usize];
                *rejected.entry(reason.name()).or_default() += 1;
            }
            wanted.messages.push(messages::expected(recording, &rules));
            let post = posts::expected(recording, &rules, false).map(|body| {
                let mut event: Json = serde_json::from_str(&body).expect("JSON");
                if let Some(version) = event.get_mut("butlerSosVersion") {
                    // Each program says its own.
                    *version = env!("CARGO_PKG_VERSION").into();
                }
                event
            });
            wanted.posts.push(post.into_iter().collect());
        }
        wanted
    }
}

/// The servers that the program talks to.
struct Servers {
    influxdb: Sink,
    new_relic: Sink,
    broker: Mosquitto,
    subscriber: Subscriber,
    host: String,
    site: Site,
    qrs: Qrs,
    certificates: TempDir,
}

impl Servers {
    fn start(host: &str) -> Self {
        let broker = Mosquitto::start("");
        let site = Site::new();
        Self {
            influxdb: Sink::answering(influxdb_answer),
            new_relic: Sink::answering(|_| Reply::json(202, r#"{"success":true}"#)),
            subscriber: Subscriber::to(&broker, "replay"),
            broker,
            host: host.to_owned(),
            qrs: Qrs::start(host, &site),
            site,
            certificates: tempfile::tempdir().expect("a directory"),
        }
    }

    /// Lets the repository service answer.
    fn name_apps(&self) {
        let apps = apps();
        let apps: Vec<_> = apps.iter().map(|app| (app.id.as_str(), app.name.as_str())).collect();
        self.qrs.answer("200 OK", &qrs::list(&apps));
    }

    /// The recorded configuration, on free ports.
    fn file(&self, version: Version, backend: &str) -> String {
        let certificates = self.site.export(self.certificates.path());
        let mut text = config(version).to_owned();
        for (recorded, here) in [
            // The line that says that the names are here.
            ("logLevel: warn\n", "logLevel: info\n".to_owned()),
            ("portUserActivityEvents: 9997", "portUserActivityEvents: 0".to_owned()),
            ("portLogEvents: 9996", "portLogEvents: 0".to_owned()),
            ("    port: 28086", format!("    port: {}", self.influxdb.address().port())),
            ("brokerPort: 21883", format!("brokerPort: {}", self.broker.port())),
            ("url: http://127.0.0.1:28090\n", format!("url: {}\n", self.new_relic.url())),
            ("hostIP: 127.0.0.1", format!("hostIP: {}", self.host)),
            ("certs/client.pem", certificates.client.display().to_string()),
            ("certs/client_key.pem", certificates.key.display().to_string()),
            ("certs/root.pem", certificates.root.display().to_string()),
        ] {
            assert_eq!(text.matches(recorded).count(), 1, "{recorded}");
            text = text.replace(recorded, &here);
        }
        // New Relic's times are too coarse to tell the order of events by: one request at a time.
        text + &format!(
            "  ringside:\n    flushInterval: 20ms\n    console:\n      port: 0\n    receive:\n      \
             backend: {backend}\n    deliver:\n      inFlight: 1\n    mqtt:\n      qos: 1\n      \
             username: {USER}\n      password: {PASSWORD}\n"
        )
    }
}

/// What an InfluxDB that has the database says.
fn influxdb_answer(request: &Request) -> Reply {
    match request.path.split('?').next().unwrap_or_default() {
        "/query" => Reply::json(200, r#"{"results":[{"series":[{"values":[["senseops"]]}]}]}"#),
        "/api/v2/orgs" => Reply::json(200, r#"{"orgs":[{"id":"0000000000000001"}]}"#),
        "/api/v2/buckets" => Reply::json(200, r#"{"buckets":[{"id":"0000000000000002"}]}"#),
        _ => Reply::status(204),
    }
}

/// Sends the recordings in their order, with a marker on the same port before the first and after
/// each; returns how many datagrams each port was sent. One sender's events stay in order, so what
/// arrives of a port between two markers belongs to one recording.
fn send(recordings: &[Recording], ringside: &Ringside) -> [u64; Listener::COUNT] {
    let sockets = [ringside.user_events, ringside.log_events].map(|to| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(to).expect("connect on loopback");
        socket
    });
    let mut sent = [0; Listener::COUNT];
    let mut send = |listener: Listener, payload: &[u8]| {
        sockets[listener as usize].send(payload).expect("send on loopback");
        sent[listener as usize] += 1;
        sent
    };
    let wait = |sent: [u64; Listener::COUNT]| {
        ringside.wait_stats("what was sent is parsed", |stats| {
            Listener::ALL.iter().all(|&l| parsed(stats, l) == sent[l as usize])
        });
    };
    let marker = |listener: Listener, index: usize| match listener {
        Listener::UserEvents => user_event(&format!("{MARKER}{index}")),
        Listener::LogEvents => proxy_event(&format!("{MARKER}{index}")),
    };
    // A turn that began before the names came goes on without them. It is over when its events show.
    let mut so_far = [0; Listener::COUNT];
    for listener in Listener::ALL {
        so_far = send(listener, marker(listener, recordings.len()).as_bytes());
    }
    wait(so_far);
    for (index, recording) in recordings.iter().enumerate() {
        let listener = recording.datagram.listener;
        send(listener, &recording.datagram.payload);
        so_far = send(listener, marker(listener, index).as_bytes());
        // What is on its way fits into the smallest of socket buffers, so none of it is dropped.
        if index % 50 == 49 {
            wait(so_far);
        }
    }
    so_far
}

fn parsed(stats: &Json, listener: Listener) -> u64 {
    number(stats, &format!("/listeners/{}/parsed", listener.name()))
}

/// Nothing is dropped, and what is no event, or not wanted, is rejected for its reason.
fn assert_rejects(rejected: &[BTreeMap<&str, u64>; Listener::COUNT], stats: &Json) {
    for (listener, rejected) in Listener::ALL.into_iter().zip(rejected) {
        let listener = &stats["listeners"][listener.name()];
        for (reason, count) in listener["rejected"].as_object().expect("reasons") {
            let wanted = rejected.get(reason.as_str()).copied().unwrap_or(0);
            assert_eq!(count.as_u64(), Some(wanted), "{reason}: {listener:#}");
        }
        for (reason, count) in listener["dropped"].as_object().expect("reasons") {
            assert_eq!(count.as_u64(), Some(0), "{reason}: {listener:#}");
        }
    }
}

/// What arrived of one listener, in order, by the number of the recording: `marked` tells it from the
/// marker that follows. A marker may arrive several times in a row, once for each topic.
fn by_recording<T: Clone + Debug>(
    arrived: impl IntoIterator<Item = T>,
    marked: impl Fn(&T) -> Option<usize>,
) -> BTreeMap<usize, Vec<T>> {
    let mut by_recording: BTreeMap<usize, Vec<T>> = BTreeMap::new();
    let mut waiting = Vec::new();
    for item in arrived {
        match marked(&item) {
            Some(index) => by_recording.entry(index).or_default().append(&mut waiting),
            None => waiting.push(item),
        }
    }
    assert!(waiting.is_empty(), "after the last marker: {waiting:#?}");
    by_recording
}

/// The number in the text of a marker.
fn marker(text: &str) -> Option<usize> {
    text.strip_prefix(MARKER)?.parse().ok()
}

fn assert_lines(wanted: &[Vec<Line>], version: Version, sink: &Sink) {
    let requests = sink.requests();
    let is_event = |line: &&str| {
        let series = line.split([',', ' ']).next().unwrap_or_default();
        assert!(SERIES.contains(&series) || OWN_SERIES.contains(&series), "{line}");
        SERIES.contains(&series)
    };
    let mut lines: Vec<(i64, Line)> = requests
        .iter()
        .filter(|request| request.path.contains("/write"))
        .flat_map(|request| request.text().lines().filter(is_event))
        .flat_map(|line| Line::read_all(line, version))
        .collect();
    // Requests may overtake each other; times of receipt are unique and in order.
    lines.sort_by_key(|(time, _)| *time);
    assert!(lines.is_sorted_by(|(a, _), (b, _)| a < b), "a time twice");

    let marked = |line: &Line| match line.fields.get("message") {
        Some(Value::Text(text)) => marker(text),
        _ => marker(line.tags.get("userId")?),
    };
    let received = SERIES.map(|series| {
        let of_series = lines.iter().filter(|(_, line)| line.measurement == series);
        by_recording(of_series.map(|(_, line)| line.clone()), marked)
    });
    compare(wanted, &received, version, difference);
}

fn assert_messages(wanted: &[Vec<Message>], subscriber: &Subscriber) {
    const MARKED_TOPICS: usize = 2;
    let marked = |message: &Message| {
        let json: Json = serde_json::from_str(&message.payload).expect("JSON");
        json["message"].as_str().and_then(marker).or_else(|| marker(json["userId"].as_str()?))
    };
    // The broker has taken all of them, and passes them on in its own time.
    let messages: Vec<Message> = wait_for("all messages", DEADLINE, || {
        let messages: Vec<Message> = subscriber
            .messages()
            .iter()
            .map(|message| Message {
                topic: message.topic.clone(),
                payload: String::from_utf8(message.payload.to_vec()).expect("UTF-8"),
            })
            .collect();
        let markers = messages.iter().filter(|message| message.payload.contains(MARKER)).count();
        (markers == MARKED_TOPICS * (wanted.len() + Listener::COUNT)).then_some(messages)
    });
    let received = ["qliksense/userevent", "qliksense/logevent"].map(|topic| {
        let of_listener = messages.iter().filter(|message| message.topic.starts_with(topic));
        by_recording(of_listener.cloned(), marked)
    });
    compare(wanted, &received, Version::V1, both);
}

fn assert_posts(wanted: &[Vec<Json>], account: &str, sink: &Sink) {
    let path = format!("/v1/accounts/{account}/events");
    let requests = sink.requests();
    let events: Vec<Json> = requests
        .iter()
        .filter(|request| request.path == path)
        .flat_map(|request| serde_json::from_str::<Vec<Json>>(request.text()).expect("an array"))
        .map(|mut event| {
            let time = std::mem::replace(&mut event["timestamp"], 0.into());
            assert!(time.as_u64().is_some_and(|ms| ms > 1_600_000_000_000), "{time}");
            event
        })
        .collect();
    let marked = |event: &Json| {
        let text = event["qs_message"].as_str();
        text.and_then(marker).or_else(|| marker(event["qs_userId"].as_str()?))
    };
    let received = ["qs_userEvent", "qs_logEvent"].map(|kind| {
        let of_kind = events.iter().filter(|event| event["eventType"] == kind);
        by_recording(of_kind.cloned(), marked)
    });
    compare(wanted, &received, Version::V1, both);
}

/// Compares recording by recording.
fn compare<T: PartialEq>(
    wanted: &[Vec<T>],
    received: &[BTreeMap<usize, Vec<T>>; Listener::COUNT],
    version: Version,
    explain: impl Fn(&[T], &[T]) -> String,
) {
    let mut mismatches = Mismatches::default();
    for (index, (recording, wanted)) in RECORDINGS.iter().zip(wanted).enumerate() {
        let got = &received[recording.datagram.listener as usize][&index];
        mismatches.note(recording, version, wanted == got, || explain(wanted, got));
    }
    mismatches.assert_none();
}

fn both<T: Debug>(wanted: &[T], got: &[T]) -> String {
    format!("wanted {wanted:#?}\ngot {got:#?}")
}
