//! Posts metrics to New Relic's Metric API.
//!
//! Metrics are levels of a moment, sent every some minutes: one that does not arrive is not sent
//! again, because the next one says more. Source: New Relic's documentation, "Report metrics via the
//! Metric API".

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;

use super::transport::{client, reason};
use super::{Account, NewRelicError};
use crate::deliver::http::{Http, Payload};

/// Timeout of Butler SOS's requests to the Metric API.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The Metric API, for one account.
pub struct MetricClient {
    http: Http,
    path: String,
    account: String,
}

impl MetricClient {
    /// Prepares everything and connects to nothing. Unlike that of events, the URL has the whole path.
    pub fn new(account: &Account) -> Result<Self, NewRelicError> {
        let (http, path) = client(account, TIMEOUT)?;
        let path = if path.is_empty() { "/".to_owned() } else { path };
        Ok(Self { http, path, account: account.name.clone() })
    }

    /// Name of the account in the configuration.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// Posts a body in JSON. An error says why New Relic does not have it.
    pub async fn post(&self, body: Vec<u8>) -> Result<(), String> {
        let payload = Payload::plain(Bytes::from(body));
        let answer =
            self.http.request(Method::POST, &self.path, "application/json", payload).await?;
        if (200..300).contains(&answer.status) { Ok(()) } else { Err(reason(&answer)) }
    }
}

impl fmt::Debug for MetricClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricClient")
            .field("authority", &self.http.authority())
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
