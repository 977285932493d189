//! A real Mosquitto on a free port, with its data in a temporary folder, and a client that notes what
//! it publishes.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rumqttc::{Client, Event, MqttOptions, Packet, Publish, QoS};

use super::server::{Server, free_port};
use super::{DEADLINE, wait_for};

/// Who may connect.
pub const USER: &str = "ringside";
/// Their password.
pub const PASSWORD: &str = "open sesame";

/// A running broker. Ends with the value.
pub struct Mosquitto(Server);

impl Mosquitto {
    /// Starts a broker that asks for [`USER`] and [`PASSWORD`]; `more` is added to its configuration.
    pub fn start(more: &str) -> Self {
        let server = Server::new("mosquitto");
        let (port, path) = (server.port(), server.folder().display());
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {path}/passwords\n\
             user root\npersistence true\npersistence_location {path}/\nmax_queued_messages 0\n{more}\n"
        );
        std::fs::write(server.folder().join("mosquitto.conf"), config).unwrap();
        let made = Command::new("mosquitto_passwd")
            .args(["-b", "-c"])
            .arg(server.folder().join("passwords"))
            .args([USER, PASSWORD])
            .status();
        assert!(made.is_ok_and(|status| status.success()), "no mosquitto_passwd: see tests/run");
        let mut broker = Self(server);
        broker.start_again();
        broker
    }

    /// Starts the broker that was stopped, on the same port and data.
    pub fn start_again(&mut self) {
        let (port, config) = (self.0.port(), self.0.folder().join("mosquitto.conf"));
        let up = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        self.0.start(&["-c".into(), config.into()], up);
    }

    /// Ends the broker; it saves what it has for its clients.
    pub fn stop(&mut self) {
        self.0.shut_down();
    }

    /// What it has said since it was started last.
    pub fn log(&self) -> String {
        self.0.log()
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.0.port()
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
