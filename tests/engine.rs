//! The contract of `ringside run`: what goes in, what comes out, what is counted, how it ends. Every
//! test here holds for both backends.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::sink::{Options, Reply, Sink};
use support::{
    Config, DEADLINE, Ringside, binary, number, proxy_event, send_all, user_event, wait_for,
};

/// The same tests on each backend.
macro_rules! on_each_backend {
    ($($test:ident,)+) => {
        mod io_uring { $(#[test] fn $test() { super::$test("io_uring"); })+ }
        mod tokio { $(#[test] fn $test() { super::$test("tokio"); })+ }
    };
}

on_each_backend! {
    events_of_both_ports_reach_influxdb,
    every_datagram_has_a_place_in_the_ledger,
    the_largest_datagram_arrives_whole,
    ipv6_and_dual_stack,
    an_event_arrives_within_the_flush_interval,
    sigterm_drains,
    sigterm_drains_under_a_flood,
    unsent_events_are_counted_at_shutdown,
    without_a_destination_events_are_unrouted,
}

fn config(sink: &Sink, backend: &'static str) -> Config {
    Config { backend, ..Config::influxdb(1, sink.address()) }
}

fn events_of_both_ports_reach_influxdb(backend: &'static str) {
    let sink = Sink::recording();
    let mut ringside = Ringside::start(&config(&sink, backend));
    assert_eq!(ringside.stats()["backend"], backend);
    send_all(ringside.user_events, [user_event("goran")]);
    send_all(ringside.log_events, [proxy_event("Something; happened")]);
    assert!(sink.wait_for_lines(2, DEADLINE), "{}", ringside.log());
    let body: String =
        sink.bodies().iter().map(|b| String::from_utf8_lossy(b).into_owned()).collect();
    assert!(body.contains("user_events,"), "{body}");
    assert!(body.contains(r#"message="Something; happened""#), "{body}");
    assert!(ringside.stop().success());
}

fn every_datagram_has_a_place_in_the_ledger(backend: &'static str) {
    let sink = Sink::start(Options::default());
    let mut config = config(&sink, backend);
    config.sources = vec!["engine", "repository", "scheduler", "qixPerf"];
    config.udp = "      maxMessageSize: 300\n".into();
    let mut ringside = Ringside::start(&config);
    let repository = proxy_event("kept").replace("/qseow-proxy/", "/QSEOW-Repository/");
    send_all(
        ringside.log_events,
        [
            b"".to_vec(),
            b"hello".to_vec(),
            proxy_event("its source is off").into_bytes(),
            proxy_event(&"x".repeat(300)).into_bytes(),
            repository.clone().into_bytes(),
            repository.replace(";403;AppAccess;/app/x", "").into_bytes(),
            [repository.as_bytes(), b"\xff"].concat(),
        ],
    );
    let stats = ringside.wait_stats("seven datagrams", |stats| {
        number(stats, "/listeners/log_events/received") == 7
            && number(stats, "/destinations/influxdb/delivered") == 3
    });
    for (path, expected) in [
        ("rejected/empty", 1),
        ("rejected/unknown_type", 1),
        ("rejected/source_disabled", 1),
        ("dropped/size", 1),
        ("accepted", 3),
        ("routed", 3),
        ("notes/short", 1),
        ("notes/invalid_utf8", 1),
        ("queued", 0),
    ] {
        let pointer = format!("/listeners/log_events/{path}");
        assert_eq!(number(&stats, &pointer), expected, "{pointer} {stats:#}");
    }
    assert!(ringside.stop().success());
}

fn the_largest_datagram_arrives_whole(backend: &'static str) {
    for host in ["127.0.0.1", "::1"] {
        let sink = Sink::recording();
        let mut config = config(&sink, backend);
        config.hosts = [host.into(), host.into()];
        let mut ringside = Ringside::start(&config);
        let mut event = user_event("goran");
        // The user agent stands at the very end: it is only found when every byte has arrived.
        event.push_str(&"é".repeat((65_507 - event.len()) / 2));
        event.push_str(&"!".repeat(65_507 - event.len()));
        assert_eq!(event.len(), 65_507);
        send_all(ringside.user_events, [event]);
        let stats = ringside.wait_stats("one event", |stats| {
            number(stats, "/destinations/influxdb/delivered") == 1
        });
        assert_eq!(number(&stats, "/listeners/user_events/notes/invalid_utf8"), 0);
        assert!(ringside.stop().success());
    }
}

fn ipv6_and_dual_stack(backend: &'static str) {
    let sink = Sink::start(Options::default());
    let mut config = config(&sink, backend);
    config.hosts = ["::1".into(), "::".into()];
    let mut ringside = Ringside::start(&config);
    send_all(ringside.user_events, [user_event("over-v6")]);
    let port = ringside.log_events.port();
    for to in ["127.0.0.1", "::1"] {
        let to = SocketAddr::new(to.parse().expect("an address"), port);
        send_all(to, [proxy_event("either way")]);
    }
    assert!(sink.wait_for_lines(3, DEADLINE), "{}", ringside.log());
    assert!(ringside.stop().success());
}

fn an_event_arrives_within_the_flush_interval(backend: &'static str) {
    for (interval, promise) in [(None, 1_500), (Some("flushInterval: 10ms"), 50)] {
        let sink = Sink::recording();
        let mut config = config(&sink, backend);
        if let Some(interval) = interval {
            config = config.ringside(interval);
        }
        let mut ringside = Ringside::start(&config);
        // The first request opens the connection; each of the others is measured. The machine may
        // be busy with other tests, so the promise is held by the median.
        let mut took = Vec::new();
        for n in 0..8 {
            let start = Instant::now();
            send_all(ringside.log_events, [proxy_event("now")]);
            assert!(sink.wait_for_lines(n + 1, DEADLINE), "{}", ringside.log());
            took.push(start.elapsed());
        }
        took.remove(0);
        took.sort();
        assert!(took[3] < Duration::from_millis(promise), "{took:?}, promised {promise} ms");
        assert!(ringside.stop().success());
    }
}

fn sigterm_drains(backend: &'static str) {
    let sink = Sink::start(Options::default());
    let mut config = config(&sink, backend);
    config = config.ringside("flushInterval: 60s");
    let mut ringside = Ringside::start(&config);
    let sent = send_all(ringside.log_events, (0..5_000).map(|n| proxy_event(&n.to_string())));
    // Everything is in the socket buffer or further; nothing has been flushed by time yet.
    assert!(ringside.stop().success(), "{}", ringside.log());
    let log = ringside.log();
    assert_eq!(sink.lines(), counted(&log, "delivered"), "{log}");
    assert_eq!(sink.lines() + counted(&log, "kernel_dropped"), sent, "{log}");
}

/// The last number of this name in the ledger that is printed at the end.
fn counted(log: &str, name: &str) -> u64 {
    log.lines()
        .filter(|line| line.contains("ledger: "))
        .filter_map(|line| line.split_once(&format!(" {name}="))?.1.split([' ', ',']).next())
        .filter_map(|text| text.parse::<u64>().ok())
        .next_back()
        .unwrap_or_else(|| panic!("{name} in {log}"))
}

fn sigterm_drains_under_a_flood(backend: &'static str) {
    let sink = Sink::start(Options::default());
    // Small buffers, so that the flood also overruns them.
    let mut config = config(&sink, backend).ringside("shutdownTimeout: 20s");
    config.receive = "      socketBuffer: 64KiB\n      slots: 256\n".into();
    let mut ringside = Ringside::start(&config);
    let (to, over) = (ringside.log_events, AtomicBool::new(false));
    let sent = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let event = proxy_event("flood");
            let mut sent = 0_u64;
            while !over.load(Ordering::Relaxed) {
                // Refused once the socket is closed; what was sent before is counted.
                sent += u64::from(socket.send_to(event.as_bytes(), to).is_ok());
            }
            sent
        });
        ringside.wait_stats("the flood", |stats| {
            number(stats, "/listeners/log_events/received") > 5_000
        });
        let start = Instant::now();
        let status = ringside.stop();
        let took = start.elapsed();
        over.store(true, Ordering::Relaxed);
        assert!(status.success(), "{}", ringside.log());
        assert!(took < Duration::from_secs(20), "{took:?}");
        flood.join().expect("the flood")
    });
    let log = ringside.log();
    let delivered = counted(&log, "delivered");
    assert_eq!(sink.lines(), delivered, "{log}");
    assert_eq!(counted(&log, "assigned"), delivered, "nothing is left: {log}");
    assert_eq!(counted(&log, "in_flight"), 0, "{log}");
    assert_eq!(counted(&log, "queued"), 0, "{log}");
    let (received, refused) = (counted(&log, "received"), counted(&log, "kernel_dropped"));
    assert_eq!(received, delivered + dropped(&log), "{log}");
    assert!(refused > 0, "the door was closed: {log}");
    assert!(received + refused <= sent, "{sent}: {log}");
}

/// What the last listener dropped for any reason.
fn dropped(log: &str) -> u64 {
    let line = log.lines().rfind(|line| line.contains("ledger: log_events")).expect("its line");
    let reasons = line.split_once("dropped[").and_then(|(_, rest)| rest.split_once(']'));
    let (reasons, _) = reasons.expect("its reasons");
    let count = |reason: &str| reason.split_once('=')?.1.parse::<u64>().ok();
    reasons.split_whitespace().filter_map(count).sum()
}

/// A folder that nobody can make: what a destination does not take stays in memory.
const NO_SPOOL: &str = "spool: { dir: /dev/null/spool }";

fn unsent_events_are_counted_at_shutdown(backend: &'static str) {
    let sink = Sink::answering(|_| Reply::status(503));
    let config = config(&sink, backend).ringside("shutdownTimeout: 300ms").ringside(NO_SPOOL);
    let mut ringside = Ringside::start(&config);
    send_all(ringside.log_events, (0..10).map(|n| proxy_event(&n.to_string())));
    ringside.wait_stats("ten events read", |stats| {
        number(stats, "/listeners/log_events/accepted") == 10
    });
    wait_for("a spool in trouble", DEADLINE, || {
        ringside.log().contains("the spool: cannot").then_some(())
    });
    assert_eq!(ringside.stop().code(), Some(1));
    assert!(ringside.log().contains("shutdown=10"), "{}", ringside.log());
}

fn without_a_destination_events_are_unrouted(backend: &'static str) {
    let mut ringside = Ringside::start(&Config { backend, ..Config::default() });
    send_all(ringside.log_events, [proxy_event("for nobody")]);
    let stats = ringside
        .wait_stats("one event", |stats| number(stats, "/listeners/log_events/parsed") == 1);
    assert_eq!(number(&stats, "/listeners/log_events/unrouted"), 1);
    assert!(ringside.stop().success(), "{}", ringside.log());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let sink = Sink::answering(|_| Reply::status(503));
    let config =
        Config::influxdb(1, sink.address()).ringside("shutdownTimeout: 60s").ringside(NO_SPOOL);
    let mut ringside = Ringside::start(&config);
    send_all(ringside.log_events, [proxy_event("stuck")]);
    ringside
        .wait_stats("one event read", |stats| number(stats, "/listeners/log_events/accepted") == 1);
    wait_for("a spool in trouble", DEADLINE, || {
        ringside.log().contains("the spool: cannot").then_some(())
    });
    ringside.signal(Signal::SIGTERM);
    ringside.wait_for_line("draining");
    let start = Instant::now();
    ringside.signal(Signal::SIGINT);
    assert_eq!(ringside.wait().code(), Some(1));
    assert!(start.elapsed() < Duration::from_secs(5));
}

fn run_to_the_end(config: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ringside.yaml");
    std::fs::write(&file, config).expect("write the configuration");
    let mut child = Command::new(binary())
        .args(["run", "-c"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start ringside");
    let status = wait_for("its end", DEADLINE, || child.try_wait().expect("wait"));
    let mut errors = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().expect("piped"), &mut errors)
        .expect("UTF-8");
    (status.code(), errors)
}

#[test]
fn a_port_in_use_is_an_error_that_says_what_to_do() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = taken.local_addr().expect("bound").port();
    for backend in ["io_uring", "tokio"] {
        let text = Config { backend, ..Config::default() }
            .text()
            .replace("portLogEvents: 0", &format!("portLogEvents: {port}"));
        let (code, errors) = run_to_the_end(&text);
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.contains(&format!("UDP port {port} on 127.0.0.1 is in use")), "{errors}");
        assert!(errors.contains("choose another port"), "{errors}");
    }
}

#[test]
fn an_address_of_another_host_is_an_error_that_says_what_to_do() {
    // 192.0.2.0/24 is reserved for documentation (RFC 5737).
    let config = Config { hosts: ["127.0.0.1".into(), "192.0.2.1".into()], ..Config::default() };
    let (code, errors) = run_to_the_end(&config.text());
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("192.0.2.1"), "{errors}");
    assert!(errors.contains("address"), "{errors}");
}

#[test]
fn a_wrong_file_is_a_usage_error() {
    let (code, errors) = run_to_the_end("Butler-SOS:\n  logEvents: 7\n");
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("ringside.yaml:2:"), "{errors}");
    assert!(errors.contains("logEvents"), "{errors}");
}

#[test]
fn ndjson_to_a_file() {
    let config = Config::default()
        .ringside("flushInterval: 10ms")
        .ringside("ndjson: { enable: true, path: events.ndjson }");
    let mut ringside = Ringside::start(&config);
    send_all(ringside.log_events, [proxy_event("Grüße; \"quoted\"")]);
    send_all(ringside.user_events, [user_event("goran")]);
    ringside.wait_stats("two events", |stats| number(stats, "/destinations/ndjson/delivered") == 2);
    assert!(ringside.stop().success());
    let text =
        std::fs::read_to_string(ringside.directory.path().join("events.ndjson")).expect("the file");
    let events: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(events.len(), 2);
    assert!(events.iter().any(|event| event["message"] == "Grüße; \"quoted\""), "{text}");
    assert!(events.iter().any(|event| event["user_id"] == "goran"), "{text}");
}

#[test]
fn ndjson_to_standard_output() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ringside.yaml");
    let config = Config::default()
        .ringside("flushInterval: 10ms")
        .ringside("ndjson: { enable: true, path: '-' }");
    std::fs::write(&file, config.text()).expect("write the configuration");
    let output = std::fs::File::create(directory.path().join("out")).expect("a file");
    let mut command = Command::new(binary());
    command.arg("run").arg("-c").arg(&file);
    let mut ringside = Ringside::spawn_into(command, directory, output.into());
    send_all(ringside.log_events, [proxy_event("to stdout")]);
    ringside.wait_stats("one event", |stats| number(stats, "/destinations/ndjson/delivered") == 1);
    assert!(ringside.stop().success());
    let text = std::fs::read_to_string(ringside.directory.path().join("out")).expect("the output");
    let event: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
    assert_eq!(event["message"], "to stdout");
}

#[test]
fn metrics_and_health_have_ports_of_their_own_when_the_file_says_so() {
    let free = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound").port()
    };
    let (metrics, health) = (free(), free());
    let text = Config::default().text().replace(
        "  ringside:\n",
        &format!(
            "  prometheus: {{ enable: true, host: 127.0.0.1, port: {metrics} }}\n  \
             dockerHealthCheck: {{ enable: true, port: {health} }}\n  ringside:\n"
        ),
    );
    let mut ringside = Ringside::start_with(&text, &[]);
    assert!(!ringside.log().contains("prometheus"), "nothing to warn about: {}", ringside.log());
    let get = |port, path| support::http_get(SocketAddr::from(([127, 0, 0, 1], port)), path);
    let (status, body) = get(metrics, "/metrics");
    assert_eq!(status, 200);
    assert!(body.contains("ringside_datagrams_received_total"), "{body}");
    assert_eq!(get(health, "/health").0, 200);
    assert_eq!(get(metrics, "/api/stats").0, 404, "only what it is for");
    assert!(ringside.stop().success());
}

#[test]
fn the_settings_are_shown_without_secrets_when_the_file_says_so() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    let with = |enable: bool| {
        Config::default().text().replace(
            "  ringside:\n",
            &format!(
                "  configVisualisation: {{ enable: {enable}, host: 127.0.0.1, port: {port} }}\n  \
                 newRelic: {{ event: {{ header: [{{ name: X-Key, value: hush-hush }}] }} }}\n  \
                 ringside:\n"
            ),
        )
    };
    let mut ringside = Ringside::start_with(&with(true), &[]);
    let own = support::http_get(SocketAddr::from(([127, 0, 0, 1], port)), "/");
    for (status, text) in [ringside.get("/api/config"), own] {
        assert_eq!(status, 200);
        assert!(text.contains("Butler-SOS:") && text.contains("configVisualisation:"), "{text}");
        assert!(text.contains("X-Key") && text.contains("***"), "{text}");
        assert!(!text.contains("hush"), "{text}");
    }
    assert!(ringside.stop().success());
    let mut ringside = Ringside::start_with(&with(false), &[]);
    assert_eq!(ringside.get("/api/config").0, 200, "the console always shows them");
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(ringside.stop().success());
}

#[test]
fn events_are_logged_one_by_one_when_the_level_asks_for_it() {
    for (level, shows) in [
        ("info", None),
        ("verbose", Some("qseow-proxy-session accepted: host=")),
        ("debug", Some("qseow-proxy-session accepted: host=")),
        ("silly", Some("[/qseow-proxy-session/;")),
    ] {
        let mut ringside = Ringside::start_with(&Config::default().text(), &["-l", level]);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let event = user_event("hello\u{1b}[2J");
        socket.send_to(event.as_bytes(), ringside.user_events).expect("send on loopback");
        ringside.wait_stats("the event is parsed", |stats| {
            number(stats, "/listeners/user_events/parsed") == 1
        });
        assert!(ringside.stop().success());
        let log = ringside.log();
        match shows {
            Some(text) => assert!(log.contains(text), "{level}: {log}"),
            None => assert!(!log.contains("qseow-proxy-session"), "{level}: {log}"),
        }
        assert!(!log.contains('\u{1b}'), "{level}: {log}");
    }
}

#[test]
fn without_a_file_events_go_to_the_data_folder() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(binary());
    // Its incident lasts from 4.2 to 6.7 s, the database is away from 5 to 7.5 s.
    command.arg("demo").args(["--for", "9", "--rate", "300", "--day", "40"]);
    let mut ringside = Ringside::spawn(command, directory);
    let (status, page) = ringside.get("/");
    assert_eq!(status, 200);
    assert!(page.contains("Ringside"), "{page}");
    assert!(ringside.wait().success(), "{}", ringside.log());
    let output = Command::new(binary())
        .args(["archive", "tail", "-n", "100000"])
        .current_dir(ringside.directory.path())
        .output()
        .expect("the archive");
    let events = String::from_utf8(output.stdout).expect("UTF-8").lines().count();
    assert!(events > 500, "{events} events; {}", ringside.log());
    demo_sums_up(&ringside.log(), events as u64);
}

/// What the demo says first and last.
fn demo_sums_up(log: &str, kept: u64) {
    let said: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("demo: ")).collect();
    assert_eq!(said.len(), 6, "{log}");
    assert!(said[0].starts_with("open http://127.0.0.1:8088/"), "{log}");
    let numbers = |line: &str| -> Vec<u64> {
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
    };
    let &[sent, _seconds, received, accepted] = &numbers(said[3])[..] else { panic!("{log}") };
    assert!(sent == received && accepted == kept, "{log}");
    let lost = numbers(said[4]);
    assert!(lost[0] > 0 && lost[1] > 0 && lost[1] <= lost[0], "{log}");
    let influxdb = numbers(said[5]);
    assert_eq!(influxdb[0] + influxdb[1], accepted, "what the database missed is on disk: {log}");
}

#[test]
fn it_is_ready_before_its_destinations_are() {
    // Nothing listens on port 1 of loopback.
    let config = Config::influxdb(1, SocketAddr::from(([127, 0, 0, 1], 1)))
        .ringside("shutdownTimeout: 100ms");
    let mut ringside = Ringside::start(&config);
    let (status, health) = ringside.get("/health");
    assert_eq!(status, 200, "{health}");
    ringside.stop();
}
