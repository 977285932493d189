//! The two `udpServerConfig`s: the same keys with different values, so that none can stand in for
//! another.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::sink::Sink;
use crate::support::{DEADLINE, Ringside, number, send_all, wait_for};
use crate::{ALL_SOURCES, log_event, settled, user_event};

/// A port of this address that nobody has.
fn free_port(host: &str) -> u16 {
    let socket = UdpSocket::bind((host, 0)).expect("an address of this host");
    socket.local_addr().expect("bound").port()
}

/// A file whose listeners have these lines, indented by six.
fn file(user: &str, log: &str, rest: &str) -> String {
    format!(
        "Butler-SOS:
  userEvents:
    enable: true
    udpServerConfig:
{user}    sendToInfluxdb: {{ enable: true }}
  logEvents:
    udpServerConfig:
{log}    sendToInfluxdb: {{ enable: true }}
{ALL_SOURCES}  ringside:
    console: {{ port: 0 }}
    flushInterval: 10ms
{rest}"
    )
}

#[test]
fn each_listener_is_where_the_file_says() {
    let (user, log) = ("127.0.0.2", "127.0.0.3");
    let (user_port, log_port) = (free_port(user), free_port(log));
    let text = file(
        &format!("      serverHost: {user}\n      portUserActivityEvents: {user_port}\n"),
        &format!("      serverHost: {log}\n      portLogEvents: {log_port}\n"),
        "",
    );
    let ringside = Ringside::start_with(&text, &[]);
    let address = |host: &str, port| SocketAddr::new(host.parse().expect("an address"), port);
    send_all(address(user, user_port), [user_event("Start session", "anna")]);
    send_all(address(log, log_port), ["one", "two"].map(|text| log_event("proxy", "WARN", text)));
    settled(&ringside, 1, 2);
}

#[test]
fn user_events_have_a_listener_only_when_they_are_switched_on() {
    for enable in [true, false] {
        let port = free_port("127.0.0.1");
        let text = file(
            &format!("      serverHost: 127.0.0.1\n      portUserActivityEvents: {port}\n"),
            "      serverHost: 127.0.0.1\n      portLogEvents: 0\n",
            "",
        );
        let text = text.replacen("enable: true", &format!("enable: {enable}"), 1);
        let _ringside = Ringside::start_with(&text, &[]);
        assert_eq!(UdpSocket::bind(("127.0.0.1", port)).is_err(), enable);
    }
}

#[test]
fn each_listener_admits_what_its_own_keys_allow() {
    let listener = |source: &str, size: usize, rate: u32| {
        format!(
            "      serverHost: 127.0.0.1
      maxMessageSize: {size}
      enableSourceValidation: true
      allowedSources: ['{source}']
      rateLimit: {{ enable: true, maxMessagesPerMinute: {rate} }}
"
        )
    };
    let text = file(
        &(listener("127.0.0.2", 200, 3) + "      portUserActivityEvents: 0\n"),
        &(listener("127.0.0.3", 300, 5) + "      portLogEvents: 0\n"),
        "",
    );
    let ringside = Ringside::start_with(&text, &[]);
    for to in [ringside.user_events, ringside.log_events] {
        for source in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
            let socket = UdpSocket::bind((source, 0)).expect("an address of this host");
            for size in [200, 201, 300, 301].into_iter().chain([100; 6]) {
                socket.send_to(&vec![b'x'; size], to).expect("send on loopback");
            }
        }
    }
    // Ten datagrams from each of three sources; those that are let through are no events.
    for (listener, size, rate, parsed) in [("user_events", 3, 4, 3), ("log_events", 1, 4, 5)] {
        ringside.wait_stats(listener, |stats| {
            let count = |key: &str| number(stats, &format!("/listeners/{listener}/{key}"));
            count("received") == 30
                && count("dropped/source_denied") == 20
                && count("dropped/size") == size
                && count("dropped/rate_limit") == rate
                && count("parsed") == parsed
        });
    }
}

/// Points of a measurement: tags, and fields as text.
fn points(sink: &Sink, measurement: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let point = |line: &str| {
        let (series, rest) = line.strip_prefix(measurement)?.strip_prefix(',')?.split_once(' ')?;
        let fields = rest.split(' ').next()?.split(',').filter_map(|field| field.split_once('='));
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Some((series.to_owned(), fields))
    };
    let requests = sink.requests();
    requests.iter().flat_map(|request| request.text().lines().filter_map(point)).collect()
}

/// Shorter than the default `writeFrequency`, so that one that is ignored fails the test.
const SOON: Duration = Duration::from_secs(15);

/// A listener whose queue is watched, and what is to be seen of it.
struct Queue {
    listener: &'static str,
    max_size: u32,
    max_concurrent: u32,
    threshold: u8,
}

const QUEUES: [Queue; 2] = [
    Queue { listener: "user_events", max_size: 12, max_concurrent: 1, threshold: 40 },
    Queue { listener: "log_events", max_size: 17, max_concurrent: 2, threshold: 60 },
];

impl Queue {
    fn lines(&self) -> String {
        let Self { listener, max_size, max_concurrent, threshold } = self;
        let mut lines = String::from("      serverHost: 127.0.0.1\n");
        write!(
            lines,
            "      messageQueue:
        maxSize: {max_size}
        maxConcurrent: {max_concurrent}
        backpressureThreshold: {threshold}
      queueMetrics:
        influxdb:
          enable: true
          writeFrequency: 10
          measurementName: queue_of_{listener}
          tags: [{{ name: tag_of_{listener}, value: value_of_{listener} }}]
"
        )
        .expect("a string");
        lines
    }
}

/// Floods a listener until its backpressure is told and a point tells of something in its queue.
fn flood(ringside: &mut Ringside, sink: &Sink, queue: &Queue, to: SocketAddr) {
    let Queue { listener, max_size, max_concurrent, threshold } = queue;
    let measurement = format!("queue_of_{listener}");
    let (enough, start) = (AtomicBool::new(false), Instant::now());
    thread::scope(|scope| {
        scope.spawn(|| {
            // Also ends when one of the waits below has failed.
            while !enough.load(Ordering::Relaxed) && start.elapsed() < 2 * DEADLINE {
                send_all(to, [[b'x'; 100]; 100]);
            }
        });
        let told = format!("Backpressure detected for {listener}: ");
        let line = ringside.wait_for_line(&told);
        let (tags, fields) = wait_for("something in the queue", SOON, || {
            points(sink, &measurement)
                .into_iter()
                .find(|(_, fields)| fields["queue_size"].trim_end_matches('i') != "0")
        });
        enough.store(true, Ordering::Relaxed);
        assert!(line.ends_with(&format!("(threshold: {threshold}%)")), "{line}");
        assert!(tags.contains(&format!("tag_of_{listener}=value_of_{listener}")), "{tags}");
        let field = |name: &str| fields[name].trim_end_matches('i').parse::<f64>().expect(name);
        assert_eq!(field("queue_max_size"), f64::from(*max_size));
        // The share is of both together.
        let capacity = 100.0 * field("queue_size") / field("queue_utilization_pct");
        assert!((capacity - f64::from(max_size + max_concurrent)).abs() < 1e-6, "{capacity}");
    });
}

#[test]
fn each_queue_has_its_own_size_and_points() {
    let sink = Sink::recording();
    let [user, log] = &QUEUES;
    let influxdb = format!(
        "  influxdbConfig:
    enable: true
    host: 127.0.0.1
    port: {}
    version: 2
    v2Config: {{ org: o, bucket: b, token: t, description: d, retentionDuration: 1d }}
",
        sink.address().port()
    );
    let text = file(
        &(user.lines() + "      portUserActivityEvents: 0\n"),
        &(log.lines() + "      portLogEvents: 0\n"),
        &influxdb,
    );
    let mut ringside = Ringside::start_with(&text, &[]);
    let (user_events, log_events) = (ringside.user_events, ringside.log_events);
    flood(&mut ringside, &sink, user, user_events);
    flood(&mut ringside, &sink, log, log_events);
}
