//! Events as MQTT messages, for those who act on them.
//!
//! One event becomes one JSON object that is published to one or more topics. What counts as
//! delivered depends on the quality of service: at 1 and 2 that the broker has acknowledged the message,
//! at 0, where the protocol has no acknowledgement, that it has answered a ping behind it. An event that goes to several topics
//! is delivered when all its messages are.
//!
//! | file | what |
//! |---|---|
//! | [`encode`] | topics and payload of an event |
//! | `options` | how to reach the broker: credentials, TLS, last will |
//! | `connection` | publishes one batch after the other |
//! | `link` | the way to the broker, by means of the MQTT library |
//! | [`probe`] | asks whether the broker would let us in |
//! | `suspicion` | finds the message that the broker does not take |
//! | [`transport`] | hands batches to the connection: a [`Transport`](super::Transport) |
//! | [`destination`] | both halves: a [`Destination`](super::Destination) |

pub(crate) mod connection;
pub mod destination;
pub mod encode;
pub(crate) mod link;
mod options;
pub mod probe;
mod suspicion;
pub mod transport;

use std::path::PathBuf;

pub use destination::MqttDestination;
pub use transport::MqttTransport;

use crate::secret::Secret;

/// Where the broker is and how to talk to it.
#[derive(Clone, Debug)]
pub struct MqttSettings {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Quality of service of every message.
    pub qos: Qos,
    /// Whether the broker keeps the last message of each topic for those who come later.
    pub retain: bool,
    /// User and password.
    pub credentials: Option<(String, Secret)>,
    /// Speaks TLS; `None` for plain TCP.
    pub tls: Option<Tls>,
    /// Name of this client at the broker; `None` makes one up, which stays until the process ends.
    pub client_id: Option<String>,
    /// What the broker publishes when this client is gone without a farewell.
    pub last_will: Option<LastWill>,
}

impl MqttSettings {
    /// What decides where messages go. Topics are not part of it: a message carries its own.
    pub(crate) fn identity(&self) -> String {
        format!("{:?}", (&self.host, self.port))
    }
}

/// Quality of service: how hard a message is tried to be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Qos {
    /// 0: never acknowledged; sent again if the connection breaks before a ping behind it is answered.
    #[default]
    AtMostOnce,
    /// 1: sent until it is acknowledged.
    AtLeastOnce,
    /// 2: sent until it is acknowledged, with a handshake against duplicates on one connection.
    ExactlyOnce,
}

/// Certificates, as paths of PEM files.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Authorities that may sign the broker's certificate; the system's when missing.
    pub ca: Option<PathBuf>,
    /// This client's certificate and its key, for brokers that ask for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A message that the broker publishes in this client's place.
#[derive(Clone, Debug)]
pub struct LastWill {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: String,
}

/// Why MQTT cannot be a destination with these settings.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    /// A file of certificates or keys could not be read.
    #[error("Butler-SOS.ringside.mqtt.{key}: {path}: {reason}; a readable PEM file is needed")]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system's certificate authorities could not be read.
    #[error(
        "Butler-SOS.ringside.mqtt.tls needs the system's certificate authorities, which cannot be read: {0}; \
         install them (Debian: ca-certificates) or name a file in ringside.mqtt.ca"
    )]
    Authorities(#[source] std::io::Error),
    /// Certificate and key do not go together.
    #[error("Butler-SOS.ringside.mqtt.clientCert and clientKey: {0}")]
    Tls(#[from] rustls::Error),
}
