//! A real InfluxDB 1.x on a free port, with its data in a temporary folder.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::server::Server;

/// A running server. Ends with the value.
pub struct Influxd {
    server: Server,
    user: Option<(String, String)>,
}

impl Influxd {
    /// Starts a server; `http` is added to the `[http]` section of its configuration.
    pub fn start(http: &str) -> Self {
        let server = Server::new("influxd");
        let (port, path) = (server.port(), server.folder().display());
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
        std::fs::write(server.folder().join("influxdb.conf"), config).unwrap();
        let mut this = Self { server, user: None };
        this.start_again();
        this
    }

    /// Starts the server that was stopped, on the same port and data.
    pub fn start_again(&mut self) {
        let (port, config) = (self.server.port(), self.server.folder().join("influxdb.conf"));
        let up = || request(port, "GET", "/ping").is_ok();
        self.server.start(&["-config".into(), config.into()], up);
    }

    /// Ends the server without warning.
    pub fn stop(&mut self) {
        self.server.kill();
    }

    /// Asks the server to end, and waits until it has.
    pub fn shut_down(&mut self) {
        self.server.shut_down();
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Queries are made as this user from now on.
    pub fn log_in(&mut self, user: &str, password: &str) {
        self.user = Some((user.into(), password.into()));
    }

    /// The answer to an `InfluxQL` statement, which must succeed.
    pub fn query(&self, statement: &str) -> Value {
        self.query_in("", statement)
    }

    /// The same for a statement that names no database.
    pub fn query_in(&self, database: &str, statement: &str) -> Value {
        let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut path = format!("/query?db={}&q={}", escape(database), escape(statement));
        if let Some((user, password)) = &self.user {
            path += &format!("&u={}&p={}", escape(user), escape(password));
        }
        let body = request(self.port(), "POST", &path).unwrap();
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}"));
        let errors = [&answer["error"], &answer["results"][0]["error"]];
        assert!(errors.iter().all(|error| error.is_null()), "{statement}: {answer}");
        answer
    }

    /// Writes lines to a database, which must take all of them.
    pub fn write(&self, database: &str, lines: &str) {
        let answer = send(self.port(), "POST", &format!("/write?db={database}"), lines).unwrap();
        assert!(answer.is_empty(), "{answer}");
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
}

fn request(port: u16, method: &str, path: &str) -> std::io::Result<String> {
    send(port, method, path, "")
}

/// HTTP/1.0, which neither keeps the connection nor chunks the body.
fn send(port: u16, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::InvalidData)?;
    Ok(body.to_owned())
}
