//! Starts the real binary, talks to it, and waits for conditions with a deadline.

// Each test binary uses the part that it needs.
#![allow(dead_code)]

pub mod duckdb;
pub mod influxd;
pub mod mosquitto;
pub mod numbered;
pub mod qrs;
pub mod server;
pub mod sink;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for anything that should happen at once on a quiet machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `condition` gives something; panics with `what` after `timeout`.
pub fn wait_for<T>(what: &str, timeout: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < timeout, "{what}: not within {timeout:?}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// A configuration file in the making: everything on loopback, on free ports.
#[derive(Clone, Debug)]
pub struct Config {
    /// `1`, `2` or `3`, and where; `None` for no InfluxDB.
    pub influxdb: Option<(u8, SocketAddr)>,
    /// More lines under `influxdbConfig`, indented by four.
    pub influxdb_extra: String,
    /// Lines under `ringside`, indented by four.
    pub ringside: String,
    /// `auto`, `io_uring` or `tokio`.
    pub backend: &'static str,
    /// Lines under `ringside.receive`, indented by six.
    pub receive: String,
    /// Addresses of the user-event and the log-event listener.
    pub hosts: [String; 2],
    /// Lines under both `udpServerConfig`s, indented by six.
    pub udp: String,
    /// The sources of log events to enable.
    pub sources: Vec<&'static str>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            influxdb: None,
            influxdb_extra: String::new(),
            ringside: String::new(),
            backend: "auto",
            receive: String::new(),
            hosts: ["127.0.0.1".into(), "127.0.0.1".into()],
            udp: String::new(),
            sources: vec!["engine", "proxy", "repository", "scheduler", "qixPerf"],
        }
    }
}

impl Config {
    /// Events go to an InfluxDB of `version` at `address`.
    pub fn influxdb(version: u8, address: SocketAddr) -> Self {
        Self { influxdb: Some((version, address)), ..Self::default() }
    }

    /// Adds lines under `ringside`.
    pub fn ringside(mut self, line: &str) -> Self {
        writeln!(self.ringside, "    {line}").unwrap();
        self
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let to_influxdb = self.influxdb.is_some();
        let mut text = format!(
            "Butler-SOS:\n  userEvents:\n    enable: true\n    udpServerConfig:\n      \
             serverHost: '{}'\n      portUserActivityEvents: 0\n{}    sendToInfluxdb:\n      \
             enable: {to_influxdb}\n  logEvents:\n    udpServerConfig:\n      serverHost: '{}'\n      \
             portLogEvents: 0\n{}    sendToInfluxdb:\n      enable: {to_influxdb}\n    \
             enginePerformanceMonitor:\n      enable: true\n      monitorFilter:\n        allApps:\n          \
             enable: true\n    source:\n",
            self.hosts[0], self.udp, self.hosts[1], self.udp
        );
        for source in ["engine", "proxy", "repository", "scheduler", "qixPerf"] {
            let enable = self.sources.contains(&source);
            writeln!(text, "      {source}:\n        enable: {enable}").unwrap();
        }
        if let Some((version, address)) = self.influxdb {
            write!(
                text,
                "  influxdbConfig:\n    enable: true\n    host: {}\n    port: {}\n    version: {version}\n    \
                 v1Config:\n      dbName: senseops\n    v2Config:\n      org: myorg\n      bucket: mybucket\n      \
                 token: mytoken\n    v3Config:\n      database: mydatabase\n      token: mytoken\n{}",
                address.ip(),
                address.port(),
                self.influxdb_extra
            )
            .unwrap();
        }
        write!(
            text,
            "  ringside:\n    console:\n      port: 0\n    receive:\n      backend: {}\n{}{}",
            self.backend, self.receive, self.ringside
        )
        .unwrap();
        text
    }
}

/// A running `ringside`; ended with the test.
#[derive(Debug)]
pub struct Ringside {
    child: Child,
    /// Where user events go.
    pub user_events: SocketAddr,
    /// Where log events go.
    pub log_events: SocketAddr,
    /// Where the console page is.
    pub console: SocketAddr,
    lines: Receiver<String>,
    log: Arc<Mutex<String>>,
    /// Holds the configuration file, and is the working directory.
    pub directory: tempfile::TempDir,
}

/// The path of the program under test: `RINGSIDE_BINARY`, or the one that cargo built with the tests.
pub fn binary() -> PathBuf {
    std::env::var_os("RINGSIDE_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_ringside").into(), PathBuf::from)
}

impl Ringside {
    /// Starts `ringside run` with this configuration and waits for its `ready` line.
    pub fn start(config: &Config) -> Self {
        Self::start_with(&config.text(), &[])
    }

    /// The same with the file's text and more arguments.
    pub fn start_with(config: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("ringside.yaml");
        std::fs::write(&file, config).expect("write the configuration");
        let mut command = Command::new(binary());
        command.arg("run").arg("-c").arg(&file).args(arguments);
        Self::spawn(command, directory)
    }

    /// Starts a command that prints a `ready` line.
    pub fn spawn(command: Command, directory: tempfile::TempDir) -> Self {
        Self::spawn_into(command, directory, Stdio::null())
    }

    /// The same, with its standard output going somewhere.
    pub fn spawn_into(mut command: Command, directory: tempfile::TempDir, output: Stdio) -> Self {
        command.stdin(Stdio::null()).stdout(output);
        Self::spawn_with_files(command, directory)
    }

    /// The same, with standard input and output as the command has them.
    pub fn spawn_with_files(mut command: Command, directory: tempfile::TempDir) -> Self {
        command.current_dir(directory.path()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start ringside");
        let stderr = child.stderr.take().expect("piped");
        let (sender, lines) = channel();
        let log = Arc::new(Mutex::new(String::new()));
        let copy = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                copy.lock().unwrap().push_str(&(line.clone() + "\n"));
                let _ = sender.send(line);
            }
        });
        let none = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut this = Self {
            child,
            user_events: none,
            log_events: none,
            console: none,
            lines,
            log,
            directory,
        };
        let ready = this.wait_for_line("ringside ready: ");
        for (name, address) in [
            ("user_events ", &mut this.user_events),
            ("log_events ", &mut this.log_events),
            ("console http://", &mut this.console),
        ] {
            if let Some((_, rest)) = ready.split_once(name) {
                let text = rest.split([',', ' ', '/']).next().unwrap_or_default();
                *address = text.parse().unwrap_or_else(|_| panic!("an address in {ready:?}"));
            }
        }
        this
    }

    /// Waits for a line on stderr that holds `text`.
    pub fn wait_for_line(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            match self.lines.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(error) => panic!("no line with {text:?} ({error}); so far:\n{}", self.log()),
            }
        }
    }

    /// Everything on stderr so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("/proc");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// `GET path` from the console; status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        http_get(self.console, path)
    }

    /// `/api/stats`.
    pub fn stats(&self) -> Value {
        let (status, body) = self.get("/api/stats");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Waits until `condition` holds for the statistics, and returns them.
    pub fn wait_stats(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            last = self.stats();
            assert_balanced(&last);
            if condition(&last) {
                return last;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        panic!("{what}: not within {DEADLINE:?}; last {last:#}\n{}", self.log());
    }

    /// Sends a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("signal a running process");
    }

    /// SIGTERM, then waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.wait()
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the end of ringside", DEADLINE, || self.child.try_wait().expect("wait"))
    }
}

impl Drop for Ringside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- ringside's log ---\n{}", self.log());
        }
    }
}

/// `GET path`; status and body.
pub fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connect to the console");
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    (status, if chunked { unchunk(body) } else { body.to_owned() })
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk size");
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}

/// A number deep in the statistics: `number(&stats, "/listeners/log_events/received")`.
pub fn number(stats: &Value, pointer: &str) -> u64 {
    stats.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {stats:#}"))
}

fn sum(value: &Value) -> u64 {
    value.as_object().expect("an object").values().map(|n| n.as_u64().expect("a count")).sum()
}

/// Asserts the ledger's equations on the statistics of one moment.
pub fn assert_balanced(stats: &Value) {
    for (name, l) in stats["listeners"].as_object().expect("listeners") {
        let n = |key: &str| l[key].as_u64().unwrap_or_else(|| panic!("{name}.{key}: {l:#}"));
        assert_eq!(n("received"), n("queued") + n("parsed") + sum(&l["dropped"]), "{name}: {l:#}");
        assert_eq!(n("parsed"), n("accepted") + sum(&l["rejected"]), "{name}: {l:#}");
        assert_eq!(n("accepted"), n("routed") + n("unrouted"), "{name}: {l:#}");
    }
    for (name, d) in stats["destinations"].as_object().expect("destinations") {
        let n = |key: &str| d[key].as_u64().unwrap_or_else(|| panic!("{name}.{key}: {d:#}"));
        let known = n("delivered") + n("in_flight") + n("spooled") + sum(&d["dropped"]);
        assert_eq!(n("assigned"), known, "{name}: {d:#}");
    }
}

/// Sends each payload as one datagram from one socket.
pub fn send_all(to: SocketAddr, payloads: impl IntoIterator<Item = impl AsRef<[u8]>>) -> u64 {
    let local = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(local).expect("a socket");
    let mut sent = 0;
    for payload in payloads {
        socket.send_to(payload.as_ref(), to).expect("send on loopback");
        sent += 1;
    }
    sent
}

/// A log event of the proxy with this message.
pub fn proxy_event(message: &str) -> String {
    format!(
        "/qseow-proxy/;14;20211109T153726.028+0200;2021-11-09 15:37:26,028;WARN;pro2-win1;\
         Audit.Proxy.Proxy;LAB\\qlikservice;{message};;LAB;goran;Open connection;403;AppAccess;/app/x"
    )
}

/// A user event of this user.
pub fn user_event(user: &str) -> String {
    format!(
        "/qseow-proxy-session/;pro2-win1;Start session;LAB;{user};AppAccess;/hub/;Start session for user"
    )
}
