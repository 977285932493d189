//! Who may send, how much, and in which order that is checked, against the real program; and what
//! SIGHUP changes of it while events pour in.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{
    Config, Ringside, binary, http_get, number, proxy_event, send_all, user_event, wait_for,
};

/// Lines under both `udpServerConfig`s.
fn with_udp(lines: &[&str]) -> Config {
    let udp = lines.iter().map(|line| format!("      {line}\n")).collect();
    Config { udp, ..Config::default() }
}

/// Sends from this address; any of 127.0.0.0/8 is this host on Linux.
fn send_from(source: &str, to: SocketAddr, payload: &str) {
    let source = SocketAddr::new(source.parse().expect("an address"), 0);
    let socket = UdpSocket::bind(source).expect("an address of this host");
    socket.send_to(payload.as_bytes(), to).expect("send on loopback");
}

/// Ends a flood when what waits for its effect is done or has failed: a test that only waits for the
/// thread would never end.
struct EndOfFlood<'a>(&'a AtomicBool);

impl Drop for EndOfFlood<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A process that does not outlive the test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn log(stats: &Value, key: &str) -> u64 {
    number(stats, &format!("/listeners/log_events/{key}"))
}

fn wait_received(ringside: &Ringside, count: u64) -> Value {
    ringside.wait_stats("datagrams", |stats| {
        log(stats, "received") == count && log(stats, "queued") == 0
    })
}

#[test]
fn only_allowed_sources_may_send_over_either_version_of_ip() {
    for backend in ["io_uring", "tokio"] {
        let mut config = with_udp(&[
            "enableSourceValidation: true",
            "allowedSources: ['127.0.0.2', '127.0.5.0/24', '::ffff:127.0.0.9', '::1']",
        ]);
        config.backend = backend;
        config.hosts[1] = "::".into();
        let ringside = Ringside::start(&config);
        let port = ringside.log_events.port();
        let v4 = SocketAddr::from(([127, 0, 0, 1], port));
        let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
        for source in ["127.0.0.2", "127.0.5.200", "127.0.0.9"] {
            send_from(source, v4, &proxy_event("allowed"));
        }
        send_from("::1", v6, &proxy_event("allowed"));
        for source in ["127.0.0.1", "127.0.4.255", "127.0.6.0"] {
            send_from(source, v4, &proxy_event("denied"));
        }
        let stats = wait_received(&ringside, 7);
        assert_eq!((log(&stats, "accepted"), log(&stats, "dropped/source_denied")), (4, 3));
    }
}

#[test]
fn without_the_switch_everybody_may_send() {
    let config = with_udp(&["enableSourceValidation: false", "allowedSources: ['127.0.0.2']"]);
    let ringside = Ringside::start(&config);
    send_from("127.0.0.1", ringside.log_events, &proxy_event("anybody"));
    assert_eq!(log(&wait_received(&ringside, 1), "accepted"), 1);
}

#[test]
fn names_are_resolved() {
    let config = with_udp(&["enableSourceValidation: true", "allowedSources: [localhost]"]);
    let ringside = Ringside::start(&config);
    send_from("127.0.0.1", ringside.log_events, &proxy_event("localhost"));
    send_from("127.0.0.2", ringside.log_events, &proxy_event("somebody else"));
    let stats = wait_received(&ringside, 2);
    assert_eq!((log(&stats, "accepted"), log(&stats, "dropped/source_denied")), (1, 1));
}

/// A name of RFC 6761 that never resolves.
const UNRESOLVED: [&str; 2] = ["enableSourceValidation: true", "allowedSources: [sense.invalid]"];

#[test]
fn when_no_name_resolves_everybody_may_send_and_that_is_said() {
    let mut ringside = Ringside::start(&with_udp(&UNRESOLVED));
    send_from("127.0.0.1", ringside.log_events, &proxy_event("anybody"));
    assert_eq!(log(&wait_received(&ringside, 1), "accepted"), 1);
    assert!(ringside.log().contains("SENDERS ARE NOT CHECKED"), "{}", ringside.log());
    assert!(ringside.stop().success());
}

#[test]
fn fail_closed_refuses_to_start_when_no_name_resolves() {
    let config = with_udp(&UNRESOLVED).ringside("sourceValidation: { failClosed: true }");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("ringside.yaml");
    std::fs::write(&file, config.text()).expect("write the configuration");
    let log = directory.path().join("log");
    let mut child = Started(
        Command::new(binary())
            .arg("run")
            .arg("-c")
            .arg(&file)
            .stderr(std::fs::File::create(&log).expect("a file"))
            .spawn()
            .expect("start"),
    );
    let ended = || child.0.try_wait().expect("a child");
    let status = wait_for("the refusal to start", support::DEADLINE, ended);
    let said = std::fs::read_to_string(&log).expect("its log");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("failClosed is on"), "{said}");
    assert!(!said.contains("ready"), "{said}");
}

#[test]
fn the_limit_is_exact_over_all_receivers() {
    let mut config = with_udp(&["rateLimit:", "  enable: true", "  maxMessagesPerMinute: 123"]);
    config.receive = "      receivers: 2\n".into();
    let ringside = Ringside::start(&config);
    thread::scope(|scope| {
        for host in 1..=10 {
            let to = ringside.log_events;
            scope.spawn(move || {
                let socket = UdpSocket::bind((format!("127.0.0.{host}"), 0)).expect("a socket");
                for _ in 0..100 {
                    socket.send_to(proxy_event("x").as_bytes(), to).expect("send on loopback");
                }
            });
        }
    });
    let stats = wait_received(&ringside, 1_000);
    assert_eq!((log(&stats, "accepted"), log(&stats, "dropped/rate_limit")), (123, 877));
    assert_eq!(number(&stats, "/listeners/user_events/dropped/rate_limit"), 0);
}

#[test]
fn a_limit_that_is_not_enabled_limits_nothing() {
    let config = with_udp(&["rateLimit:", "  enable: false", "  maxMessagesPerMinute: 1"]);
    let ringside = Ringside::start(&config);
    send_all(ringside.log_events, [proxy_event("a"), proxy_event("b"), proxy_event("c")]);
    assert_eq!(log(&wait_received(&ringside, 3), "accepted"), 3);
}

#[test]
fn the_order_is_source_size_rate() {
    let config = with_udp(&[
        "enableSourceValidation: true",
        "allowedSources: ['127.0.0.1']",
        "maxMessageSize: 300",
        "rateLimit:",
        "  enable: true",
        "  maxMessagesPerMinute: 2",
    ]);
    let ringside = Ringside::start(&config);
    let (short, long) = (proxy_event("x"), proxy_event(&"x".repeat(300)));
    for payload in [&long, &short, &long] {
        send_from("127.0.0.2", ringside.log_events, payload);
    }
    // Neither the stranger's nor the long ones count for the rate.
    for payload in [&long, &short, &long, &short, &short, &long] {
        send_from("127.0.0.1", ringside.log_events, payload);
    }
    let stats = wait_received(&ringside, 9);
    for (key, count) in [
        ("dropped/source_denied", 3),
        ("dropped/size", 3),
        ("dropped/rate_limit", 1),
        ("accepted", 2),
    ] {
        assert_eq!(log(&stats, key), count, "{key}");
    }
}

#[test]
fn backpressure_is_told_and_so_is_its_end() {
    let config = with_udp(&[
        "messageQueue:",
        "  maxSize: 9",
        "  maxConcurrent: 1",
        "  backpressureThreshold: 50",
    ]);
    let mut ringside = Ringside::start(&config);
    let (to, enough) = (ringside.log_events, AtomicBool::new(false));
    let line = thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                send_all(to, (0..100).map(|_| proxy_event("x")));
            }
        });
        let _end = EndOfFlood(&enough);
        ringside.wait_for_line("[UDP Queue] Backpressure detected for log_events: ")
    });
    assert!(line.contains(" warn: ") && line.ends_with("% (threshold: 50%)"), "{line}");
    let utilization = line.split("utilization ").nth(1).and_then(|rest| rest.split('%').next());
    assert!(utilization.expect(&line).parse::<f64>().expect(&line) > 50.0, "{line}");
    let line = ringside.wait_for_line("[UDP Queue] Backpressure cleared for log_events");
    assert!(line.contains(" info: "), "{line}");
}

#[test]
fn gaps_in_row_numbers_are_upstream_losses() {
    let ringside = Ringside::start(&Config::default());
    let event = |row: u32| proxy_event("x").replace(";14;", &format!(";{row};"));
    send_all(ringside.log_events, [1, 2, 6, 5, 9].map(event));
    let stats = wait_received(&ringside, 5);
    assert_eq!(log(&stats, "upstream_lost_estimate"), 4);
    let (_, metrics) = ringside.get("/metrics");
    let sample = "ringside_upstream_lost_estimate_total{listener=\"log_events\"} 4";
    assert!(metrics.contains(sample), "{metrics}");
}

fn reload(ringside: &mut Ringside, text: &str, until: &str) -> String {
    std::fs::write(ringside.directory.path().join("ringside.yaml"), text).expect("write");
    ringside.signal(Signal::SIGHUP);
    ringside.wait_for_line(until)
}

const RELOADED: &str = "reload: the configuration was read again";

#[test]
fn sighup_changes_the_rules_under_load_and_loses_nothing() {
    let mut ringside = Ringside::start(&Config::default());
    let without_proxy = Config { sources: vec!["engine"], ..Config::default() };
    let (to, enough, sent) = (ringside.log_events, AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                sent.fetch_add(send_all(to, (0..50).map(|_| proxy_event("x"))), Ordering::Relaxed);
            }
        });
        let _end = EndOfFlood(&enough);
        ringside.wait_stats("events", |stats| log(stats, "accepted") > 100);
        reload(&mut ringside, &without_proxy.text(), RELOADED);
        let disabled = "rejected/source_disabled";
        let stats = ringside.wait_stats("the new rule", |stats| log(stats, disabled) > 100);
        let accepted = log(&stats, "accepted");
        reload(&mut ringside, &Config::default().text(), RELOADED);
        ringside.wait_stats("the old rule", |stats| log(stats, "accepted") > accepted + 100);
    });
    let sent = sent.into_inner();
    let stats = wait_received(&ringside, sent);
    assert_eq!(log(&stats, "accepted") + log(&stats, "rejected/source_disabled"), sent);
    assert!(ringside.stop().success());
}

#[test]
fn sighup_changes_excluded_users_categories_and_the_monitor_filter() {
    let mut ringside = Ringside::start(&Config::default());
    let perf = "/qseow-qix-perf/;1;;;INFO;host;Qix;LAB\\service;;LAB;goran;;;\
                d1ace221-b80e-4754-bb53-0a7edb3a7a5b;7;Global::OpenApp;1;1;1;1;1;3;ObjId;1;1;sheet";
    let send = |ringside: &Ringside| {
        send_all(ringside.user_events, [user_event("goran")]);
        send_all(ringside.log_events, [proxy_event("no need of this"), perf.to_owned()]);
    };
    let user = |stats: &Value, key| number(stats, &format!("/listeners/user_events/{key}"));
    send(&ringside);
    ringside.wait_stats("all is accepted", |stats| {
        (user(stats, "accepted"), log(stats, "accepted")) == (1, 2)
    });
    let text = Config::default()
        .text()
        .replacen("        allApps:\n          enable: true", "        allApps:\n          enable: false", 1)
        .replacen(
            "  userEvents:\n",
            "  userEvents:\n    excludeUser: [{ directory: LAB, userId: goran }]\n",
            1,
        )
        .replacen(
            "  logEvents:\n",
            "  logEvents:\n    categorise:\n      enable: true\n      rules:\n        - action: drop\n          \
             logLevel: [WARN]\n          filter: [{ type: sw, value: no need }]\n",
            1,
        );
    reload(&mut ringside, &text, RELOADED);
    send(&ringside);
    let stats = ringside.wait_stats("all is rejected", |stats| {
        (user(stats, "parsed"), log(stats, "parsed")) == (2, 4)
    });
    assert_eq!(user(&stats, "rejected/excluded_user"), 1, "{stats:#}");
    assert_eq!(log(&stats, "rejected/category_drop"), 1, "{stats:#}");
    assert_eq!(log(&stats, "rejected/filter"), 1, "{stats:#}");
}

/// One reload after the other, each with other rules, another rate limit and other senders, all of
/// which let these events in: received = sent, whatever is swapped meanwhile.
#[test]
fn reloads_without_end_under_load_lose_nothing() {
    const RELOADS: usize = 40;
    let stricter = with_udp(&[
        "enableSourceValidation: true",
        "allowedSources: ['127.0.0.0/8', localhost]",
        "rateLimit: { enable: true, maxMessagesPerMinute: 1000000 }",
    ]);
    for backend in ["io_uring", "tokio"] {
        let of = |config: &Config| Config { backend, ..config.clone() };
        let texts = [of(&Config::default()).text(), of(&stricter).text()];
        let mut ringside = Ringside::start_with(&texts[0], &[]);
        let (to, console) = (ringside.log_events, ringside.console);
        let received = || {
            let (_, stats) = http_get(console, "/api/stats");
            log(&serde_json::from_str(&stats).expect("JSON"), "received")
        };
        let (enough, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let events = (0..100).map(|_| proxy_event("x"));
                    let so_far = sent.fetch_add(send_all(to, events), Ordering::Relaxed) + 100;
                    // No more at a time than fit into the socket's buffer, or the kernel drops some.
                    let came = || (received() == so_far).then_some(());
                    wait_for("what was sent", support::DEADLINE, came);
                }
            });
            let _end = EndOfFlood(&enough);
            for reload in 0..RELOADS {
                let file = ringside.directory.path().join("ringside.yaml");
                std::fs::write(file, &texts[(reload + 1) % 2]).expect("write");
                ringside.signal(Signal::SIGHUP);
                wait_for("the reload", support::DEADLINE, || {
                    (ringside.log().matches(RELOADED).count() > reload).then_some(())
                });
            }
        });
        let sent = sent.into_inner();
        let stats = wait_received(&ringside, sent);
        assert_eq!(log(&stats, "accepted"), sent, "{stats:#}");
        assert!(sent > 100, "there was load");
        assert!(ringside.stop().success());
    }
}

#[test]
fn sighup_with_a_wrong_file_keeps_the_old_one() {
    let mut ringside = Ringside::start(&Config::default());
    let wrong = Config { sources: vec!["engine"], ..Config::default() }.text();
    let wrong = wrong.replace("enable: true", "enable: perhaps");
    let line = reload(&mut ringside, &wrong, "reload:");
    assert!(line.contains("the configuration in force stays"), "{line}");
    let line = ringside.wait_for_line("perhaps");
    assert!(line.contains("ringside.yaml:3:"), "the place in the file: {line}");
    send_all(ringside.log_events, [proxy_event("still accepted")]);
    assert_eq!(log(&wait_received(&ringside, 1), "accepted"), 1);
}

#[test]
fn sighup_changes_senders_rate_and_level_and_names_the_rest() {
    let mut ringside = Ringside::start(&Config::default());
    let stricter = with_udp(&[
        "enableSourceValidation: true",
        "allowedSources: ['127.0.0.2']",
        "rateLimit: { enable: true, maxMessagesPerMinute: 1 }",
    ]);
    let text = stricter.ringside("shards: 3").ringside("flushInterval: 77ms").text();
    let line = reload(&mut ringside, &text, "after a restart only");
    for key in ["Butler-SOS.ringside.shards", "Butler-SOS.ringside.flushInterval"] {
        assert!(line.contains(key), "{line}");
    }
    ringside.wait_for_line("log_events: only allowedSources may send");
    send_from("127.0.0.1", ringside.log_events, &proxy_event("denied now"));
    for _ in 0..3 {
        send_from("127.0.0.2", ringside.log_events, &proxy_event("allowed, one a minute"));
    }
    let stats = wait_received(&ringside, 4);
    assert_eq!(log(&stats, "dropped/source_denied"), 1);
    assert_eq!((log(&stats, "accepted"), log(&stats, "dropped/rate_limit")), (1, 2));

    let quiet =
        Config::default().text().replacen("Butler-SOS:\n", "Butler-SOS:\n  logLevel: error\n", 1);
    std::fs::write(ringside.directory.path().join("ringside.yaml"), quiet).expect("write");
    let said = ringside.log().matches(RELOADED).count();
    ringside.signal(Signal::SIGHUP);
    // It says nothing at this level: that everybody may send again shows that it was read.
    wait_for("the check to be off", support::DEADLINE, || {
        send_from("127.0.0.3", ringside.log_events, &proxy_event("anybody"));
        (log(&ringside.stats(), "accepted") > 1).then_some(())
    });
    assert_eq!(ringside.log().matches(RELOADED).count(), said);
}
