//! `InfluxDB` and the heartbeat over https: certificates are checked, and the system's authorities (or those that
//! `SSL_CERT_FILE` names) decide.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use support::{Config, DEADLINE, Ringside, number, proxy_event, send_all, wait_for};
use tempfile::TempDir;

/// An HTTPS server that answers 204 to everything and counts the lines that it is sent, and calls.
struct Server {
    address: SocketAddr,
    lines: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
    certificate: String,
}

impl Server {
    fn start() -> Self {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key pair");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a certificate");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let lines = Arc::new(AtomicU64::new(0));
        let calls = Arc::new(AtomicU64::new(0));
        let counters = [Arc::clone(&lines), Arc::clone(&calls)];
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, counters) = (Arc::clone(&config), counters.clone());
                // A client that does not trust the certificate ends the connection; that is fine.
                thread::spawn(move || serve(stream, config, &counters).ok());
            }
        });
        Self { address, lines, calls, certificate: made.cert.pem() }
    }

    /// A file that makes a process trust this server.
    fn trusted(&self, directory: &TempDir) -> PathBuf {
        let file = directory.path().join("ca.pem");
        std::fs::write(&file, &self.certificate).expect("write the certificate");
        file
    }
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    [lines, calls]: &[Arc<AtomicU64>; 2],
) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    loop {
        let (mut length, mut write) = (0, false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.starts_with("GET /alive ") {
                calls.fetch_add(1, Ordering::Relaxed);
            }
            write |= line.starts_with("POST /write");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        if write {
            let count = body.iter().filter(|byte| **byte == b'\n').count() as u64;
            lines.fetch_add(count, Ordering::Relaxed);
        }
        stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        stream.get_mut().flush()?;
    }
}

fn start(server: &Server, trusted: Option<&Path>) -> Ringside {
    let config = Config::influxdb(1, server.address)
        .ringside("flushInterval: 10ms")
        .ringside("shutdownTimeout: 200ms")
        .ringside("influxdb: { https: true }")
        .text()
        .replace("host: 127.0.0.1\n    port:", "host: localhost\n    port:");
    start_with(&config, trusted)
}

fn start_with(config: &str, trusted: Option<&Path>) -> Ringside {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ringside.yaml");
    std::fs::write(&file, config).expect("write the configuration");
    let mut command = Command::new(support::binary());
    command.arg("run").arg("-c").arg(&file);
    if let Some(trusted) = trusted {
        command.env("SSL_CERT_FILE", trusted);
    }
    Ringside::spawn(command, directory)
}

#[test]
fn events_go_to_a_server_whose_certificate_is_trusted() {
    let server = Server::start();
    let directory = tempfile::tempdir().expect("a directory");
    let mut ringside = start(&server, Some(&server.trusted(&directory)));
    send_all(ringside.log_events, [proxy_event("over TLS")]);
    let arrived = || (server.lines.load(Ordering::Relaxed) == 1).then_some(());
    wait_for("the event", DEADLINE, arrived);
    ringside.wait_stats("the acknowledgement", |stats| {
        number(stats, "/destinations/influxdb/delivered") == 1
    });
    assert!(ringside.stop().success(), "{}", ringside.log());
}

#[test]
fn nothing_goes_to_a_server_whose_certificate_is_not_trusted() {
    let server = Server::start();
    let mut ringside = start(&server, None);
    send_all(ringside.log_events, [proxy_event("kept")]);
    let stats = ringside.wait_stats("the refusal", |stats| {
        stats["destinations"]["influxdb"]["last_error"].is_string()
    });
    let error = stats["destinations"]["influxdb"]["last_error"].as_str().unwrap_or_default();
    assert!(error.contains("certificate"), "{error}");
    let count = |key| number(&stats, &format!("/destinations/influxdb/{key}"));
    assert_eq!(count("in_flight") + count("spooled"), 1, "kept for later");
    ringside.stop();
    assert_eq!(server.lines.load(Ordering::Relaxed), 0);
}

fn with_heartbeat(server: &Server) -> String {
    format!(
        "{}  heartbeat:\n    enable: true\n    remoteURL: https://localhost:{}/alive\n    \
         frequency: every 1 second\n",
        Config::default().text(),
        server.address.port()
    )
}

#[test]
fn heartbeats_go_to_a_server_whose_certificate_is_trusted() {
    let server = Server::start();
    let directory = tempfile::tempdir().expect("a directory");
    let trusted = server.trusted(&directory);
    let mut ringside = start_with(&with_heartbeat(&server), Some(&trusted));
    wait_for("two heartbeats", DEADLINE, || {
        (server.calls.load(Ordering::Relaxed) >= 2).then_some(())
    });
    assert!(ringside.stop().success(), "{}", ringside.log());
    assert!(!ringside.log().contains("does not reach"), "{}", ringside.log());
}

#[test]
fn no_heartbeat_goes_to_a_server_whose_certificate_is_not_trusted() {
    let server = Server::start();
    let mut ringside = start_with(&with_heartbeat(&server), None);
    let line = ringside.wait_for_line("the heartbeat does not reach localhost");
    assert!(line.contains("certificate"), "{line}");
    assert!(ringside.stop().success(), "{}", ringside.log());
    assert_eq!(server.calls.load(Ordering::Relaxed), 0);
}
