//! New Relic: user and log events as custom events of an account.
//!
//! | file | what |
//! |---|---|
//! | [`encode`] | writes events as JSON, with the attributes that Butler SOS gives them |
//! | [`scramble`] | replaces names of users by a hash |
//! | [`transport`] | posts batches to the Event API: a [`Transport`](super::Transport) |
//! | [`metrics`] | posts metrics to the Metric API |
//! | [`probe`] | asks whether New Relic can be reached |
//! | [`destination`] | both halves: a [`Destination`](super::Destination) |
//!
//! Every account is a destination of its own, so that one that fails does not keep the others from
//! getting their events (difference 30).

pub mod destination;
pub mod encode;
pub mod metrics;
pub mod probe;
pub mod scramble;
pub mod transport;

pub use destination::NewRelicDestination;
pub use encode::EncoderSettings;
pub use metrics::MetricClient;
pub use transport::NewRelicTransport;

use crate::secret::Secret;

/// An account and how to get there.
#[derive(Clone, Debug)]
pub struct Account {
    /// The section of `newRelic` that `url` and `headers` are from: `event` or `metric`.
    pub section: &'static str,
    /// Scheme, host and path; of events the path is what a proxy needs, if any.
    pub url: String,
    /// Its name in the configuration.
    pub name: String,
    /// Its id at New Relic.
    pub id: String,
    /// The key that lets us insert.
    pub api_key: Secret,
    /// Further headers, as name and value.
    pub headers: Vec<(String, Secret)>,
}

impl Account {
    /// What decides where events go. A key may be replaced by another of the same account.
    pub(crate) fn identity(&self) -> String {
        format!("{:?}", (&self.url, &self.id))
    }
}

/// Why New Relic cannot be a destination with these settings.
#[derive(Debug, thiserror::Error)]
pub enum NewRelicError {
    /// The URL does not name a server.
    #[error(
        "newRelic.{section}.url: `{url}` is not a URL; use one such as \
         https://insights-collector.newrelic.com"
    )]
    Url {
        /// Where it is.
        section: &'static str,
        /// What is there.
        url: String,
    },
    /// The key cannot stand in a header.
    #[error(
        "thirdPartyToolsCredentials.newRelic: the insertApiKey of `{0}` has characters that HTTP \
         cannot carry; copy it anew"
    )]
    Key(String),
    /// A header of the file cannot be sent.
    #[error(
        "newRelic.{section}.header: `{name}` cannot be sent: its name or value has characters that HTTP \
         cannot carry, or it is one that every request has already; correct or remove it"
    )]
    Header {
        /// Where it is.
        section: &'static str,
        /// Its name.
        name: String,
    },
    /// The certificate authorities could not be read.
    #[error(
        "newRelic: https needs the system's certificate authorities, which cannot be read: {0}; \
         install them (Debian: ca-certificates) or name a file in SSL_CERT_FILE"
    )]
    Certificates(#[source] std::io::Error),
}
