//! The heartbeat: at start, then on schedule, and quiet about what the URL hides.

mod support;

use support::sink::{Reply, Sink};
use support::{Config, DEADLINE, Ringside, wait_for};

fn config(url: &str, frequency: &str) -> String {
    format!(
        "{}  heartbeat:\n    enable: true\n    remoteURL: {url}\n    frequency: {frequency}\n",
        Config::default().text()
    )
}

fn wait_requests(sink: &Sink, count: usize) {
    wait_for("heartbeats", DEADLINE, || (sink.requests().len() >= count).then_some(()));
}

#[test]
fn the_url_is_called_at_start_and_on_schedule() {
    let sink = Sink::recording();
    let url = format!("http://{}/some/path?key=1", sink.address());
    let mut ringside = Ringside::start_with(&config(&url, "every 1 second"), &[]);
    wait_requests(&sink, 3);
    assert!(ringside.stop().success(), "{}", ringside.log());
    for request in sink.requests() {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/some/path?key=1"));
    }
}

#[test]
fn the_first_call_does_not_wait_for_the_schedule() {
    let sink = Sink::recording();
    let url = format!("http://{}/", sink.address());
    let mut ringside = Ringside::start_with(&config(&url, "every 1 day"), &[]);
    wait_requests(&sink, 1);
    assert!(ringside.stop().success(), "{}", ringside.log());
    assert_eq!(sink.requests().len(), 1);
}

#[test]
fn failures_are_said_once_without_the_key() {
    let sink = Sink::answering(|_| Reply::status(500));
    let url = format!("http://user:hunter2@{}/hidden-key?token=hidden-too", sink.address());
    let mut ringside = Ringside::start_with(&config(&url, "every 1 second"), &["-l", "silly"]);
    wait_requests(&sink, 3);
    assert!(ringside.stop().success(), "{}", ringside.log());
    for request in sink.requests() {
        assert_eq!(request.header("authorization"), Some("Basic dXNlcjpodW50ZXIy"));
    }
    let log = ringside.log();
    assert_eq!(log.matches("the heartbeat does not reach 127.0.0.1").count(), 1, "{log}");
    assert!(log.contains("HTTP 500"), "{log}");
    assert!(!log.contains("hunter2") && !log.contains("hidden"), "{log}");
}
