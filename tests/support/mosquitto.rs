//! A real Mosquitto on a free port, with its data in a temporary folder, and a client that notes what
//! it publishes.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rumqttc::{Client, Event, MqttOptions, Packet, Publish, QoS};
use tempfile::TempDir;

use super::{DEADLINE, wait_for};

/// How to get the program.
const INSTALL: &str = "apt-get install -y mosquitto";

/// Who may connect.
pub const USER: &str = "ringside";
/// Their password.
pub const PASSWORD: &str = "open sesame";

/// A running broker. Ends with the value.
pub struct Mosquitto {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Mosquitto {
    /// Starts a broker that asks for [`USER`] and [`PASSWORD`]; `more` is added to its configuration.
    pub fn start(more: &str) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let path = folder.path().display();
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {path}/passwords\n\
             user root\npersistence true\npersistence_location {path}/\nmax_queued_messages 0\n{more}\n"
        );
        std::fs::write(folder.path().join("mosquitto.conf"), config).unwrap();
        let passwords = folder.path().join("passwords");
        let made = Command::new("mosquitto_passwd")
            .args(["-b", "-c"])
            .arg(passwords)
            .args([USER, PASSWORD])
            .status();
        assert!(made.is_ok_and(|status| status.success()), "install Mosquitto with `{INSTALL}`");
        let mut broker = Self { folder, port, child: None };
        broker.start_again();
        broker
    }

    /// Starts the broker that was stopped, on the same port and data.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        match child {
            Ok(child) => self.child = Some(child),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("these tests need a real Mosquitto: install it with `{INSTALL}`")
            }
            Err(error) => panic!("mosquitto does not start: {error}"),
        }
        let folder = self.folder.path().to_owned();
        let child = self.child.as_mut().unwrap();
        wait_for("mosquitto", DEADLINE, || {
            let ended = child.try_wait().unwrap();
            let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(ended.is_none(), "mosquitto is not up: {ended:?}\n{}", log());
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()
        });
    }

    /// Ends the broker; it saves what it has for its clients.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
            kill(pid, Signal::SIGTERM).unwrap();
            child.wait().unwrap();
        }
    }

    /// What it has said since it was started last.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A client that has subscribed to everything, for as long as it lives. The broker keeps messages for
/// it while the connection is broken.
pub struct Subscriber {
    messages: Arc<Mutex<Vec<Publish>>>,
    ended: Arc<AtomicBool>,
}

impl Subscriber {
    /// Subscribes to everything.
    pub fn to(broker: &Mosquitto, name: &str) -> Self {
        let mut options = MqttOptions::new(name, "127.0.0.1", broker.port());
        options.set_credentials(USER, PASSWORD).set_clean_session(false);
        let (client, mut connection) = Client::new(options, 10);
        client.subscribe("#", QoS::ExactlyOnce).unwrap();
        let (messages, ended) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let subscribed = Arc::new(AtomicBool::new(false));
        let this = Self { messages: Arc::clone(&messages), ended: Arc::clone(&ended) };
        let flag = Arc::clone(&subscribed);
        thread::spawn(move || {
            // The client has to live: without it the connection ends.
            let _client = client;
            for event in connection.iter() {
                match event {
                    _ if ended.load(Ordering::Relaxed) => return,
                    Ok(Event::Incoming(Packet::SubAck(_))) => flag.store(true, Ordering::Relaxed),
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        messages.lock().unwrap().push(publish);
                    }
                    Ok(_) => {}
                    Err(_) => thread::park_timeout(Duration::from_millis(20)),
                }
            }
        });
        let up = || subscribed.load(Ordering::Relaxed).then_some(());
        wait_for("the subscription", DEADLINE, up);
        this
    }

    /// What came so far.
    pub fn messages(&self) -> Vec<Publish> {
        self.messages.lock().unwrap().clone()
    }

    /// The payloads that came on a topic, without repetitions.
    pub fn payloads(&self, topic: &str) -> BTreeSet<String> {
        let messages = self.messages.lock().unwrap();
        let here = messages.iter().filter(|message| message.topic == topic);
        here.map(|message| String::from_utf8(message.payload.to_vec()).unwrap()).collect()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Lines for a second listener that speaks TLS and asks for the client's certificate; its port. Puts
/// the files into `folder`: `server.pem` is what signs the broker, `client.pem` and `client.key` are
/// what it asks for.
pub fn tls_listener(folder: &Path) -> (String, u16) {
    for name in ["server", "client"] {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), made.cert.pem()).unwrap();
        let key = made.signing_key.serialize_pem();
        std::fs::write(folder.join(format!("{name}.key")), key).unwrap();
    }
    let (port, path) = (free_port(), folder.display());
    let lines = format!(
        "listener {port} 127.0.0.1\ncafile {path}/client.pem\ncertfile {path}/server.pem\n\
         keyfile {path}/server.key\nrequire_certificate true"
    );
    (lines, port)
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
