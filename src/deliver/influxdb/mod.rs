//! InfluxDB 1, 2 and 3 over HTTP.
//!
//! | file | what |
//! |---|---|
//! | [`encode`] | writes events as line protocol, in the series of Butler SOS |
//! | [`point`] | writes points that are not events |
//! | [`answer`] | what an answer says about the lines that were sent |
//! | `guard` | counts the series that events go to |
//! | [`probe`] | asks whether points would be taken |
//! | [`setup`] | creates the database or bucket when it is missing |
//! | [`transport`] | puts it together: a [`Transport`](super::Transport) |
//! | [`destination`] | both halves: a [`Destination`](super::Destination) |

pub mod answer;
mod categories;
pub mod destination;
pub mod encode;
mod escape;
mod guard;
mod http;
mod plan;
pub mod point;
pub mod probe;
pub mod setup;
mod tables;
pub mod transport;
mod values;

use std::time::Duration;

pub use destination::InfluxDestination;
pub use encode::InfluxVersion as Version;
pub use transport::InfluxTransport;

use crate::secret::Secret;

/// Where InfluxDB is and how to talk to it.
#[derive(Clone, Debug)]
pub struct InfluxSettings {
    /// Whether to use TLS. The system's certificate authorities are trusted; `SSL_CERT_FILE` names
    /// others.
    pub https: bool,
    /// Name or address, without port.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database or bucket, and credentials.
    pub target: Target,
    /// An attempt to connect that takes longer has failed.
    pub connect_timeout: Duration,
    /// A request that takes longer has failed.
    pub timeout: Duration,
    /// When bodies are compressed.
    pub gzip: Gzip,
}

impl InfluxSettings {
    /// What decides where points go; credentials, timeouts and the like do not.
    pub(crate) fn identity(&self) -> String {
        let place = match &self.target {
            Target::V1 { database, .. } => ("v1", database.as_str(), ""),
            Target::V2 { organisation, bucket, .. } => ("v2", organisation.as_str(), &**bucket),
            Target::V3 { database, .. } => ("v3", database.as_str(), ""),
        };
        // As shown for debugging, texts are quoted: none can run into the next.
        format!("{:?}", (&self.host, self.port, place))
    }
}

/// Timeout of a request that Butler SOS's InfluxDB 3 client has by default (`writeTimeout`).
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Where the events go.
#[derive(Clone, Debug)]
pub enum Target {
    /// `influxdbConfig.v1Config`.
    V1 {
        /// Database, created when missing.
        database: String,
        /// Default retention policy of a database that is created: name and `InfluxQL` duration.
        /// `None` leaves it to the server.
        retention_policy: Option<(String, String)>,
        /// User and password.
        credentials: Option<(String, Secret)>,
    },
    /// `influxdbConfig.v2Config`.
    V2 {
        /// Organisation.
        organisation: String,
        /// Bucket, created when missing.
        bucket: String,
        /// Description of a bucket that is created.
        description: String,
        /// How long a bucket that is created keeps data: `10d`.
        retention: String,
        /// Token.
        token: Secret,
    },
    /// `influxdbConfig.v3Config`. The server creates the database.
    V3 {
        /// Database.
        database: String,
        /// Token.
        token: Secret,
    },
}

impl Target {
    /// Which InfluxDB it is.
    #[must_use]
    pub fn version(&self) -> Version {
        match self {
            Self::V1 { .. } => Version::V1,
            Self::V2 { .. } => Version::V2,
            Self::V3 { .. } => Version::V3,
        }
    }
}

/// When bodies are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gzip {
    /// Where Butler SOS's client does: InfluxDB 2 and 3, bodies over 1000 bytes.
    #[default]
    Auto,
    /// Bodies over 1000 bytes, whatever the version.
    Always,
    /// Not at all.
    Never,
}

/// Why InfluxDB cannot be a destination with these settings.
#[derive(Debug, thiserror::Error)]
pub enum InfluxError {
    /// The host is no host name, IPv4 or IPv6 address.
    #[error("influxdbConfig.host: `{0}` is neither a host name nor an IP address")]
    Host(String),
    /// User, password or token cannot stand in a header.
    #[error("influxdbConfig: the password or token has characters that HTTP cannot carry")]
    Credentials,
    /// The certificate authorities could not be read.
    #[error(
        "influxdbConfig: https needs the system's certificate authorities, which cannot be read: \
         {0}; install them (Debian: ca-certificates) or name a file in SSL_CERT_FILE"
    )]
    Certificates(#[source] std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_secret() {
        let target = Target::V3 { database: "d".into(), token: Secret::from("hush") };
        let shown = format!("{target:?}");
        assert!(shown.contains("***") && !shown.contains("hush"), "{shown}");
    }
}
