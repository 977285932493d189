//! The endpoints over real loopback sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;

use serde_json::json;
use tokio::sync::oneshot;

use super::*;
use crate::event::Listener;
use crate::observe::stats::tests::sample_state;

/// Longer than anything here takes; turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server in its thread, stopped at the end of the test.
struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    fn start(part: Part, token: Option<&str>, state: State) -> Self {
        let token = token.and_then(Token::new);
        let settings =
            BindSettings { part, host: "127.0.0.1".into(), port: 0, token, config: None };
        let server = Server::bind(&[settings]).unwrap();
        let address = server.addresses().next().unwrap().1;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            server.run(&Arc::new(state), async {
                let _ = stopped.await;
            })
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    fn console() -> Self {
        Self::start(Part::Console, None, sample_state())
    }

    fn connect(&self, head: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        write!(stream, "{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
            .unwrap();
        stream
    }

    /// The whole answer to a request.
    fn ask(&self, head: &str, body: &str) -> Answer {
        let mut text = String::new();
        self.connect(head, body).read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer { head: head.to_owned(), body: body.to_owned() }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost"), "")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

#[test]
fn every_part_answers_its_own_paths_only() {
    let paths = ["/", "/api/stats", "/metrics", "/health", "/nothing"];
    for (part, expected) in [
        (Part::Console, [200, 200, 200, 200, 404]),
        (Part::Metrics, [404, 404, 200, 404, 404]),
        (Part::Health, [404, 404, 404, 200, 404]),
    ] {
        let running = Running::start(part, None, sample_state());
        let seen = paths.map(|path| running.get(path).status());
        assert_eq!(seen, expected, "{part}");
    }
}

#[test]
fn answers_have_their_types_and_the_security_headers() {
    let running = Running::console();
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/api/stats", "application/json"),
        ("/metrics", metrics::CONTENT_TYPE),
        ("/health", "application/json"),
    ] {
        let answer = running.get(path);
        assert_eq!(answer.header("content-type"), Some(kind));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
    }
    assert_eq!(running.get("/api/stats").json()["listeners"]["user_events"]["received"], 100);
    let metrics = running.get("/metrics").body;
    assert!(
        metrics.contains("\nringside_datagrams_received_total{listener=\"user_events\"} 100\n")
    );
}

#[test]
fn the_page_runs_only_its_own_script() {
    let running = Running::console();
    let nonces = [running.get("/"), running.get("/")].map(|page| {
        let policy = page.header("content-security-policy").unwrap();
        let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
        assert_eq!(nonce.len(), 32);
        assert!(
            page.body.contains(&format!("<script nonce=\"{nonce}\" src=\"assets/console.js\""))
        );
        nonce
    });
    assert_ne!(nonces[0], nonces[1]);
}

#[test]
fn the_page_has_its_files_and_no_others() {
    let running = Running::console();
    let page = running.get("/").body;
    let files: Vec<_> =
        page.split("\"assets/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        let answer = running.get(&format!("/assets/{file}"));
        let (_, ending) = file.rsplit_once('.').unwrap();
        let kind = if ending == "css" { "text/css" } else { "text/javascript" };
        assert_eq!((answer.status(), answer.body.is_empty()), (200, false), "{file}");
        assert!(answer.header("content-type").unwrap().starts_with(kind), "{file}");
    }
    for path in ["/assets/page.html", "/assets/", "/assets/..%2fmod.rs", "/assets/%2e%2e/x"] {
        assert_eq!(running.get(path).status(), 404, "{path}");
    }
}

#[test]
fn the_lists_the_history_and_the_events_are_there_from_the_start() {
    let running = Running::console();
    assert_eq!(running.get("/api/events?kind=qseow-engine&limit=5&after=7").json(), json!([]));
    let top = running.get("/api/top").json();
    assert_eq!(top["lists"]["users"], json!([]));
    assert_eq!(top["one_in"], 1.0);
    assert!(running.get("/api/history").json()["points"].is_array());
}

#[test]
fn the_pages_stream_begins_with_the_history() {
    let running = Running::console();
    let stream = running.connect("GET /api/stream?more&user=x HTTP/1.1\r\nHost: localhost", "");
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut names =
        lines.filter(|line| line.starts_with("event: ") || line.starts_with("data: {\"v"));
    let mut next = || names.next().unwrap().chars().take(14).collect::<String>();
    assert_eq!([next(), next(), next()], ["event: history", "event: top", "data: {\"versio"]);
}

#[test]
fn health_says_what_fails() {
    let answer = Running::console().get("/health");
    assert_eq!(answer.status(), 200);
    let health = answer.json();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["listeners"]["user_events"], "127.0.0.1:9997");
    assert_eq!(health["threads"]["rx-0"]["alive"], true);
    assert_eq!(health["failing_destinations"]["influxdb"], "no route to <b>host</b>");

    let mut state = sample_state();
    state.health.add_listener(Listener::LogEvents);
    let answer = Running::start(Part::Health, None, state).get("/health");
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.json()["status"], "failing");
    assert_eq!(answer.json()["listeners"]["log_events"], serde_json::Value::Null);
}

#[test]
fn rebound_names_and_other_sites_get_nothing() {
    let running = Running::console();
    let with_host =
        |host: &str| running.ask(&format!("GET /api/stats HTTP/1.1\r\nHost: {host}"), "").status();
    assert_eq!(with_host("127.0.0.1:8088"), 200);
    assert_eq!(with_host("[::1]:8088"), 200);
    assert_eq!(with_host("evil.example:8088"), 403);
    let request = "GET /api/stream HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site";
    assert_eq!(running.ask(request, "").status(), 403);
}

#[test]
fn a_token_is_demanded_and_a_form_takes_it() {
    let running = Running::start(Part::Console, Some("s3cret & more"), sample_state());
    for path in ["/api/stats", "/api/stream", "/metrics", "/health", "/nothing"] {
        let answer = running.get(path);
        assert_eq!(answer.status(), 401, "{path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let form = running.get("/");
    assert_eq!(form.status(), 401);
    assert!(form.body.contains("<form method=\"post\" action=\"login\""));

    let get = |header: &str| {
        let head = format!("GET /api/stats HTTP/1.1\r\nHost: localhost\r\n{header}");
        running.ask(&head, "").status()
    };
    assert_eq!(get("Authorization: Bearer s3cret & more"), 200);
    assert_eq!(get("Authorization: Bearer s3cret"), 401);

    let log_in = |body: &str| running.ask("POST /login HTTP/1.1\r\nHost: localhost", body);
    let wrong = log_in("token=wrong\r\n");
    assert_eq!(wrong.status(), 401);
    assert!(wrong.body.contains("<p role=\"alert\">") && !form.body.contains("<p role=\"alert\">"));
    assert_eq!(log_in(&"x".repeat(BODY_BYTES_MAX + 1)).status(), 413);
    let welcome = log_in("token=s3cret & more\r\n");
    assert_eq!((welcome.status(), welcome.header("location")), (303, Some(".")));
    let cookie = welcome.header("set-cookie").unwrap().split(';').next().unwrap();
    assert_eq!(get(&format!("Cookie: {cookie}")), 200);
}

#[test]
fn the_page_with_the_settings_takes_the_token_too() {
    let running = Running::start(Part::Config, Some("s3cret"), sample_state());
    assert_eq!(running.get("/").status(), 401);
    let welcome = running.ask("POST /login HTTP/1.1\r\nHost: localhost", "token=s3cret\r\n");
    assert_eq!(welcome.status(), 303);
    let cookie = welcome.header("set-cookie").unwrap().split(';').next().unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}");
    assert_ne!(running.ask(&head, "").status(), 401);
}

#[test]
fn bodies_that_do_not_come_keep_nobody_waiting_for_long() {
    let running = Running::start(Part::Console, Some("s3cret"), sample_state());
    let mut slow = TcpStream::connect(running.address).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    slow.write_all(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn a_stream_sends_event_after_event() {
    let running = Running::console();
    let stream = running.connect("GET /api/stream HTTP/1.1\r\nHost: localhost", "");
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut events = lines.filter_map(|line| line.strip_prefix("data: ").map(str::to_owned));
    let mut next = || {
        let event: serde_json::Value = serde_json::from_str(&events.next().unwrap()).unwrap();
        event["uptime_s"].as_f64().unwrap()
    };
    let (first, second) = (next(), next());
    assert!(second - first > 0.5, "{first} {second}");
}

#[test]
fn streams_are_bounded_and_places_come_back() {
    let running = Running::console();
    let request = "GET /api/stream HTTP/1.1\r\nHost: localhost";
    let status = |stream: &TcpStream| {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    let open: Vec<_> = (0..STREAMS_MAX).map(|_| running.connect(request, "")).collect();
    assert!(open.iter().all(|stream| status(stream) == 200));
    assert_eq!(running.ask(request, "").status(), 503);
    assert_eq!(running.get("/health").status(), 200);
    drop(open);
    // The server notices a closed connection when it next reads or writes: within a second.
    let deadline = std::time::Instant::now() + PATIENCE;
    while status(&running.connect(request, "")) != 200 {
        assert!(std::time::Instant::now() < deadline, "no place came back");
        std::thread::yield_now();
    }
}

#[test]
fn binding_fails_with_something_to_do() {
    let settings = |part, host: &str, port| BindSettings {
        part,
        host: host.into(),
        port,
        token: None,
        config: None,
    };
    let first = Server::bind(&[settings(Part::Console, "127.0.0.1", 0)]).unwrap();
    let port = first.addresses().next().unwrap().1.port();
    let error = Server::bind(&[settings(Part::Metrics, "127.0.0.1", port)]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert!(text.contains("Butler-SOS.prometheus.port"), "{text}");
    let error = Server::bind(&[settings(Part::Metrics, "192.0.2.1", 0)]).unwrap_err().to_string();
    assert!(error.contains("Butler-SOS.prometheus.host"), "{error}");
}

#[test]
fn the_console_is_not_opened_to_the_network_without_a_token() {
    let mut settings = BindSettings {
        part: Part::Console,
        host: "0.0.0.0".into(),
        port: 0,
        token: None,
        config: None,
    };
    let error = Server::bind(&[settings.clone()]).unwrap_err();
    assert!(matches!(error, Error::TokenRequired { .. }), "{error}");
    settings.token = Token::new("s3cret");
    assert!(Server::bind(&[settings.clone()]).is_ok());
    // Scrapers of Butler SOS send no token, and metrics hold counts only.
    settings.part = Part::Metrics;
    settings.token = None;
    assert!(Server::bind(&[settings]).is_ok());
}
