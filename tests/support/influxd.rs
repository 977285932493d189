//! A real InfluxDB 1.x on a free port, with its data in a temporary folder.
//!
//! Included by path (`#[path = "support/influxd.rs"] mod influxd;`), so not every user needs all of it.
#![allow(dead_code, reason = "each test that includes this file uses its own part")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

/// How to get the program.
const INSTALL: &str = "apt-get install -y influxdb";

/// The server is up within a second on an idle machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server. Ends with the value.
pub struct Influxd {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
    user: Option<(String, String)>,
}

impl Influxd {
    /// Starts a server; `http` is added to the `[http]` section of its configuration.
    pub fn start(http: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let path = folder.path().display();
        let config = format!(
            r#"
            reporting-disabled = true
            bind-address = "127.0.0.1:0"
            [meta]
            dir = "{path}/meta"
            [data]
            dir = "{path}/data"
            wal-dir = "{path}/wal"
            query-log-enabled = false
            [monitor]
            store-enabled = false
            [http]
            bind-address = "127.0.0.1:{port}"
            log-enabled = false
            {http}
            "#
        );
        std::fs::write(folder.path().join("influxdb.conf"), config).unwrap();
        let mut server = Self { folder, port, child: None, user: None };
        server.start_again();
        server
    }

    /// Starts the server that was stopped, on the same port and data.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let child = Command::new("influxd")
            .arg("-config")
            .arg(self.folder.path().join("influxdb.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        match child {
            Ok(child) => self.child = Some(child),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("these tests need a real InfluxDB 1.x: install it with `{INSTALL}`")
            }
            Err(error) => panic!("influxd does not start: {error}"),
        }
        self.wait_until_up();
    }

    fn wait_until_up(&mut self) {
        let start = Instant::now();
        while self.get("/ping").is_err() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < START_TIMEOUT,
                "influxd is not up: {ended:?}\n{}",
                std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the server without warning.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the server to end, and waits until it has.
    pub fn shut_down(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
            kill(pid, Signal::SIGTERM).unwrap();
            child.wait().unwrap();
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Queries are made as this user from now on.
    pub fn log_in(&mut self, user: &str, password: &str) {
        self.user = Some((user.into(), password.into()));
    }

    /// The answer to an `InfluxQL` statement, which must succeed.
    pub fn query(&self, statement: &str) -> Value {
        let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut path = format!("/query?q={}", escape(statement));
        if let Some((user, password)) = &self.user {
            path += &format!("&u={}&p={}", escape(user), escape(password));
        }
        let body = self.request("POST", &path).unwrap();
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}"));
        let errors = [&answer["error"], &answer["results"][0]["error"]];
        assert!(errors.iter().all(|error| error.is_null()), "{statement}: {answer}");
        answer
    }

    /// The rows of the first series that a statement gives.
    pub fn rows(&self, statement: &str) -> Vec<Value> {
        let answer = self.query(statement);
        let values = &answer["results"][0]["series"][0]["values"];
        values.as_array().cloned().unwrap_or_default()
    }

    /// How many values of `field` a measurement has.
    pub fn count(&self, database: &str, measurement: &str, field: &str) -> u64 {
        let database = database.replace('"', "\\\"");
        let statement = format!(r#"SELECT COUNT("{field}") FROM "{database}".."{measurement}""#);
        self.rows(&statement).first().map_or(0, |row| row[1].as_u64().unwrap())
    }

    fn get(&self, path: &str) -> std::io::Result<String> {
        self.request("GET", path)
    }

    /// HTTP/1.0, which neither keeps the connection nor chunks the body.
    fn request(&self, method: &str, path: &str) -> std::io::Result<String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(stream, "{method} {path} HTTP/1.0\r\nContent-Length: 0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::InvalidData)?;
        Ok(body.to_owned())
    }
}

impl Drop for Influxd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
