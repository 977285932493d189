//! `ringside check --host`: what is right and wrong about this machine and the destinations, with real
//! servers. What is wrong names the line of the file, and what to do; nothing is left behind anywhere.
#![cfg(target_os = "linux")]

mod support;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use support::influxd::Influxd;
use support::mosquitto::{Mosquitto, PASSWORD, USER};
use support::server::{free_port, nobody};
use support::sink::{Options, Reply, Sink};
use support::{Config, Ringside, binary};
use tempfile::TempDir;

/// The user `nobody`.
const NOBODY: u32 = 65_534;

/// A file in a folder of its own, which is the working folder too.
struct Host {
    folder: TempDir,
    more: Vec<(&'static str, PathBuf)>,
    user: Option<u32>,
}

/// What was said about it.
struct Checked {
    status: Option<i32>,
    findings: String,
    errors: String,
}

impl Host {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = config.replace("Butler-SOS:\n", "Butler-SOS:\n  fileLogging: false\n");
        fs::write(folder.path().join("ringside.yaml"), text).unwrap();
        Self { folder, more: Vec::new(), user: None }
    }

    fn check(&self) -> Checked {
        let mut command = Command::new(binary());
        command.args(["check", "-c", "ringside.yaml", "--host"]).current_dir(self.folder.path());
        command.envs(self.more.iter().map(|(name, value)| (name, value)));
        if let Some(user) = self.user {
            fs::set_permissions(self.folder.path(), Permissions::from_mode(0o755)).unwrap();
            command.uid(user).gid(user);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Checked {
            status: output.status.code(),
            findings: text(output.stdout),
            errors: text(output.stderr),
        }
    }
}

impl Checked {
    /// The finding with this beginning and this in it, with its hint.
    fn find(&self, begin: &str, part: &str) -> String {
        let mut lines = self.findings.lines().peekable();
        while let Some(line) = lines.next() {
            if line.starts_with(begin) && line.contains(part) {
                let hint = lines.next_if(|line| line.starts_with("  hint: ")).unwrap_or_default();
                return format!("{line}\n{hint}");
            }
        }
        panic!("no {begin:?} with {part:?} in\n{}\n{}", self.findings, self.errors);
    }

    #[track_caller]
    fn expect(&self, status: i32) {
        assert_eq!(self.status, Some(status), "{}\n{}", self.findings, self.errors);
    }
}

/// The line of the file that has a text, and the column of the value in it.
fn place(config: &str, key: &str, below: &str) -> String {
    let text = config.replace("Butler-SOS:\n", "Butler-SOS:\n  fileLogging: false\n");
    let start = text.find(below).expect(below);
    let at = start + text[start..].find(key).expect(key);
    let line = text[..at].matches('\n').count() + 1;
    let begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
    format!("ringside.yaml:{line}:{}: ", at - begin + key.len() + 1)
}

fn v1(port: u16) -> String {
    Config::influxdb(1, ([127, 0, 0, 1], port).into()).text()
}

fn with_auth(port: u16, password: &str) -> String {
    v1(port).replace(
        "      dbName: senseops\n",
        &format!(
            "      dbName: senseops\n      auth:\n        enable: true\n        username: writer\n        \
             password: {password}\n"
        ),
    )
}

fn with_broker(port: u16, password: &str) -> String {
    let login = format!("mqtt: {{ username: {USER}, password: {password} }}");
    Config::default().ringside(&login).text()
        + &format!(
            "  mqttConfig:\n    enable: true\n    brokerHost: 127.0.0.1\n    brokerPort: {port}\n"
        )
}

fn guarded_influxd() -> Influxd {
    let mut influxd = Influxd::start("auth-enabled = true");
    influxd.query("CREATE USER admin WITH PASSWORD 'root of all' WITH ALL PRIVILEGES");
    influxd.log_in("admin", "root of all");
    influxd.query("CREATE DATABASE senseops");
    influxd.query("CREATE USER writer WITH PASSWORD 'right-password'");
    influxd.query("GRANT WRITE ON senseops TO writer");
    influxd
}

#[test]
fn a_good_host_with_influxdb_that_asks_for_a_password() {
    let influxd = guarded_influxd();
    let checked = Host::new(&with_auth(influxd.port(), "right-password")).check();
    checked.expect(0);
    checked.find("ok: destination: ", "InfluxDB takes a write of no lines");
    checked.find("ok: clock: ", "that of InfluxDB agrees with ours");
    for topic in ["io_uring", "memory", "open files", "folder", "port"] {
        checked.find(&format!("ok: {topic}: "), "");
    }
    assert!(checked.errors.contains("errors: 0"), "{}", checked.errors);
    let measurements = influxd.rows("SHOW MEASUREMENTS ON senseops");
    assert!(measurements.is_empty(), "nothing was written: {measurements:?}");
}

#[test]
fn a_wrong_password_for_influxdb_is_found_and_not_shown() {
    let influxd = guarded_influxd();
    let config = with_auth(influxd.port(), "wrong-password");
    let checked = Host::new(&config).check();
    checked.expect(2);
    let finding = checked.find("error: destination: ", "does not let us write: HTTP 401");
    assert!(finding.contains("Butler-SOS.influxdbConfig.v1Config.auth: "), "{finding}");
    assert!(finding.contains("hint: check v1Config.auth.username and password"), "{finding}");
    assert!(!format!("{}{}", checked.findings, checked.errors).contains("wrong-password"));
}

#[test]
fn a_database_that_is_not_there_yet_is_a_warning_and_is_not_created() {
    let influxd = Influxd::start("");
    let checked = Host::new(&v1(influxd.port())).check();
    checked.expect(0);
    checked.find("warning: destination: ", "InfluxDB does not have `senseops` yet");
    let databases = influxd.rows("SHOW DATABASES");
    assert!(databases.iter().all(|row| row[0] != "senseops"), "{databases:?}");
}

#[test]
fn tokens_of_influxdb_2_and_3_are_tried() {
    for version in [2, 3] {
        for (status, exit, begin) in [(400, 0, "ok: "), (401, 2, "error: "), (503, 0, "warning: ")]
        {
            let answer = move |request: &support::sink::Request| {
                assert_eq!((request.method.as_str(), request.body.len()), ("POST", 0));
                assert_eq!(request.header("authorization"), Some("Token mytoken"));
                Reply::json(status, r#"{"message":"what of mytoken?"}"#)
            };
            let sink =
                Sink::start(Options { answer: Some(Arc::new(answer)), ..Options::default() });
            let checked = Host::new(&Config::influxdb(version, sink.address()).text()).check();
            checked.expect(exit);
            let finding = checked.find(&format!("{begin}destination: "), "InfluxDB ");
            assert!(!finding.contains("mytoken"), "{finding}");
        }
    }
}

#[test]
fn a_clock_that_differs_is_told() {
    let answer = |_: &support::sink::Request| Reply {
        headers: vec![("Date", "Tue, 14 Nov 2023 22:13:20 GMT".to_owned())],
        ..Reply::status(204)
    };
    let sink = Sink::start(Options { answer: Some(Arc::new(answer)), ..Options::default() });
    let checked = Host::new(&Config::influxdb(1, sink.address()).text()).check();
    checked.expect(0);
    let finding = checked.find("warning: clock: ", "that of InfluxDB is ");
    assert!(finding.contains(" s behind ours"), "{finding}");
}

#[test]
fn a_broker_lets_in_who_knows_the_password() {
    let broker = Mosquitto::start("");
    let checked = Host::new(&with_broker(broker.port(), PASSWORD)).check();
    checked.expect(0);
    checked.find("ok: destination: ", "the MQTT broker lets us in");
    let checked = Host::new(&with_broker(broker.port(), "wrong-password")).check();
    checked.expect(2);
    let finding = checked.find("error: destination: ", "the MQTT broker does not let us in");
    assert!(finding.contains("hint: check ringside.mqtt.username and password"), "{finding}");
    assert!(!checked.findings.contains("wrong-password"));
}

#[test]
fn who_has_a_port_is_named() {
    let (udp, tcp) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let config = Config::default()
        .text()
        .replace(
            "portLogEvents: 0",
            &format!("portLogEvents: {}", udp.local_addr().unwrap().port()),
        )
        .replace("port: 0", &format!("port: {}", tcp.local_addr().unwrap().port()));
    let checked = Host::new(&config).check();
    checked.expect(2);
    let holder = format!("(process {})", std::process::id());
    let finding = checked.find("error: port: ", "UDP 127.0.0.1:");
    assert!(finding.contains(&holder), "{finding}");
    assert!(finding.contains(&place(&config, "portLogEvents: ", "logEvents:")), "{finding}");
    let finding = checked.find("error: port: ", "TCP 127.0.0.1:");
    assert!(finding.contains(&holder) && finding.contains("console"), "{finding}");
}

#[test]
fn the_ports_of_a_ringside_at_work_are_no_error() {
    let config = Config::default()
        .text()
        .replace("portLogEvents: 0", &format!("portLogEvents: {}", free_port()));
    let running = Ringside::start_with(&config, &[]);
    let checked = Host::new(&config).check();
    checked.expect(0);
    let finding = checked.find("warning: port: ", "is in use by ringside (process ");
    assert!(finding.contains(&running.pid().to_string()), "{finding}");
}

#[test]
fn who_is_not_there_is_an_error() {
    let config = v1(nobody().port());
    let checked = Host::new(&config).check();
    checked.expect(2);
    let finding = checked.find("error: destination: ", "InfluxDB cannot be reached");
    assert!(finding.contains(&place(&config, "host: ", "influxdbConfig:")), "{finding}");
    assert!(finding.contains("hint: check influxdbConfig.host and port"), "{finding}");

    let checked = Host::new(&with_broker(nobody().port(), PASSWORD)).check();
    checked.expect(2);
    checked.find("error: destination: ", "the MQTT broker cannot be reached");
}

#[test]
fn a_name_that_nobody_knows_is_an_error_and_is_not_connected_to() {
    // RFC 6761: there never is such a name.
    let config = v1(8086)
        .replace("    host: 127.0.0.1\n    port: 8086", "    host: influx.invalid\n    port: 8086");
    let checked = Host::new(&config).check();
    checked.expect(2);
    let finding = checked.find("error: name: ", "influx.invalid");
    assert!(finding.contains("Butler-SOS.influxdbConfig.host: "), "{finding}");
    assert!(!checked.findings.contains(": destination: "), "{}", checked.findings);
}

/// Shows a certificate that ends in so many days, and answers 204; the address and the certificate.
fn tls_server(days: i64) -> (SocketAddr, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let day = i64::try_from(now.as_secs()).unwrap() / 86_400 + days;
    let (year, month, day) = ringside::calendar::civil_from_days(u64::try_from(day).unwrap());
    let [year, month, day] = [year, month, day].map(|n| i32::try_from(n).unwrap());
    params.not_after =
        rcgen::date_time_ymd(year, u8::try_from(month).unwrap(), u8::try_from(day).unwrap());
    let certificate = params.self_signed(&key).unwrap();
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], der)
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            // A client that ends the handshake has seen what it wanted to see.
            thread::spawn(move || serve(stream, config).ok());
        }
    });
    (address, certificate.pem())
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let mut line = String::new();
    while stream.read_line(&mut line)? > 0 {
        if line == "\r\n" {
            stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        }
        line.clear();
    }
    Ok(())
}

#[test]
fn certificates_that_end_or_have_ended_are_told() {
    for (days, exit, begin, part) in [
        (-3, 2, "error: certificate: ", "localhost: has expired on "),
        (10, 0, "warning: certificate: ", "localhost: expires on "),
        (400, 0, "ok: certificate: ", "localhost: holds until "),
    ] {
        let (address, pem) = tls_server(days);
        let config = v1(address.port())
            .replace("    host: 127.0.0.1\n    port:", "    host: localhost\n    port:")
            + "    influxdb: { https: true }\n";
        let mut host = Host::new(&config);
        let trusted = host.folder.path().join("ca.pem");
        fs::write(&trusted, pem).unwrap();
        host.more.push(("SSL_CERT_FILE", trusted));
        let checked = host.check();
        checked.expect(exit);
        checked.find(begin, part);
        let connected = if days < 0 { "error" } else { "ok" };
        checked.find(&format!("{connected}: destination: "), "InfluxDB ");
        checked.find("ok: name: ", "localhost is ");
    }
}

#[test]
fn our_own_certificates_are_looked_at_too() {
    let (_, pem) = tls_server(10);
    let config = with_broker(nobody().port(), PASSWORD)
        .replace("password: ", "tls: true, ca: own.pem, password: ");
    let host = Host::new(&config);
    fs::write(host.folder.path().join("own.pem"), pem).unwrap();
    let finding = host.check().find("warning: certificate: ", "own.pem: expires on ");
    assert!(finding.contains("Butler-SOS.ringside.mqtt.ca: "), "{finding}");
}

#[test]
fn files_that_cannot_be_read_are_all_named_with_their_lines() {
    let missing = "tls: true, ca: no-ca.pem, clientCert: no.pem, clientKey: own.key, password: ";
    let config = with_broker(nobody().port(), PASSWORD).replace("password: ", missing);
    let host = Host::new(&config);
    fs::write(host.folder.path().join("own.key"), "no key").unwrap();
    let begin = "error: certificate: ringside.yaml:";
    let unreadable =
        [("ringside.mqtt.ca: ", "no-ca.pem: "), ("ringside.mqtt.clientCert: ", "no.pem: ")];

    // Everything else is looked at all the same.
    let checked = host.check();
    checked.expect(2);
    for (key, file) in unreadable {
        assert!(checked.find(begin, file).contains(key), "{}", checked.findings);
    }
    checked.find(begin, "own.key: there is no key in it");
    checked.find("ok: port: ", "");
    checked.find("ok: folder: ", "spool");

    // Without a look at the machine they are what is wrong with the file.
    let plain = Command::new(binary())
        .args(["check", "-c", "ringside.yaml"])
        .current_dir(host.folder.path())
        .output()
        .unwrap();
    assert_eq!(plain.status.code(), Some(2));
    let told = String::from_utf8(plain.stderr).unwrap();
    assert_eq!(told.matches(begin).count(), unreadable.len(), "{told}");
    assert!(
        unreadable.iter().all(|(key, file)| told.contains(key) && told.contains(file)),
        "{told}"
    );
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error() {
    let mut host = Host::new(&Config::default().text());
    // The folder is root's, who may do anything; somebody else may not.
    host.user = Some(NOBODY);
    let checked = host.check();
    checked.expect(2);
    let finding = checked.find("error: folder: ", "the spool cannot be written by this user");
    assert!(finding.contains("Butler-SOS.ringside.spool.dir: "), "{finding}");
    assert!(finding.contains("hint: let the user that Ringside runs as write"), "{finding}");
}

#[test]
fn a_small_socket_buffer_names_the_sysctl_line() {
    let max = fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
    let max: u64 = max.trim().parse().unwrap();
    let config = Config { receive: "      socketBuffer: 1GiB\n".to_owned(), ..Config::default() };
    let mut host = Host::new(&config.text());
    host.user = Some(NOBODY);
    assert!(max < 1 << 30, "net.core.rmem_max is {max}; nothing is too much for it");
    let finding = host.check().find("warning: socket buffer: ", "instead of 1.0 GiB");
    assert!(finding.contains(&format!("(net.core.rmem_max is {max})")), "{finding}");
    assert!(finding.contains("hint: sysctl -w net.core.rmem_max="), "{finding}");
    assert!(finding.contains("Butler-SOS.ringside.receive.socketBuffer: "), "{finding}");
}
