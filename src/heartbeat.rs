//! Calls a URL at regular times, so that whoever watches it knows that this process lives.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::Uri;
use hyper::header::HeaderValue;
use percent_encoding::percent_decode_str;

use crate::fetch::{self, Fetch};
use crate::observe::failures::Failures;
use crate::observe::logging::RateLimited;
use crate::schedule::Schedule;

/// A monitoring service answers in milliseconds; past this it is out of order.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Nothing of the answer is used. More than a page of text is not what such a service sends.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why no heartbeat can be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum HeartbeatError {
    /// The URL is none. It is not shown: it may hold a secret.
    #[error(
        "Butler-SOS.heartbeat.remoteURL: not a URL; use http:// or https://, a host and a path, with \
         special characters written as %.."
    )]
    Url,
    /// The system's certificate authorities cannot be read.
    #[error(
        "Butler-SOS.heartbeat.remoteURL: the system's certificate authorities cannot be read: \
         {0}; install them (package ca-certificates), or name a file in SSL_CERT_FILE"
    )]
    Authorities(io::Error),
}

/// Sends heartbeats.
#[derive(Debug)]
pub struct Heartbeat {
    fetch: Fetch,
    /// Without a user part: the libraries below would log it.
    url: Uri,
    authorization: Option<HeaderValue>,
    schedule: Schedule,
    failures: Arc<Failures>,
}

impl Heartbeat {
    /// Calls nobody yet.
    pub fn new(url: &str, schedule: Schedule) -> Result<Self, HeartbeatError> {
        let url: Uri = url.parse().map_err(|_| HeartbeatError::Url)?;
        if url.host().is_none_or(str::is_empty) {
            return Err(HeartbeatError::Url);
        }
        let https = url.scheme_str() == Some("https");
        let tls = fetch::tls(https).map_err(HeartbeatError::Authorities)?;
        let (url, authorization) = without_user(url).ok_or(HeartbeatError::Url)?;
        let fetch = Fetch::new(tls, TIMEOUT, ANSWER_BYTES_MAX);
        Ok(Self { fetch, url, authorization, schedule, failures: Arc::default() })
    }

    /// Calls that failed.
    #[must_use]
    pub fn failures(&self) -> &Arc<Failures> {
        &self.failures
    }

    /// Calls now and on schedule, without end.
    pub async fn run(self) {
        // No more than the host is shown: path and query often hold the key of a check.
        let host = self.url.host().unwrap_or_default();
        let headers: Vec<_> =
            self.authorization.iter().map(|value| ("authorization", value.clone())).collect();
        let warnings = RateLimited::new();
        let start = Instant::now();
        loop {
            match self.fetch.get(self.url.clone(), &headers).await {
                Ok(_) => tracing::debug!(host, "heartbeat sent"),
                Err(error) => {
                    self.failures.add(error.failure(), 1);
                    if let Some(suppressed) = warnings.allow(start.elapsed()) {
                        tracing::warn!(
                            suppressed,
                            "the heartbeat does not reach {host}: {error}; check heartbeat.remoteURL \
                             and that this host may call it"
                        );
                    }
                }
            }
            tokio::time::sleep(self.schedule.until_next(SystemTime::now())).await;
        }
    }
}

/// The URL without its user part, and that part as the header that it stands for.
fn without_user(url: Uri) -> Option<(Uri, Option<HeaderValue>)> {
    let mut parts = url.into_parts();
    let authority = parts.authority.take()?;
    let (user, host) = match authority.as_str().rsplit_once('@') {
        None => (None, authority.as_str()),
        Some((user, host)) => (Some(user), host),
    };
    let authorization = match user {
        None => None,
        Some(user) => {
            let user: Vec<u8> = percent_decode_str(user).collect();
            let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(user))).ok()?;
            value.set_sensitive(true);
            Some(value)
        }
    };
    parts.authority = Some(host.parse().ok()?);
    Some((Uri::from_parts(parts).ok()?, authorization))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_are_none_are_refused_and_not_shown() {
        let schedule: Schedule = "every 1 hour".parse().unwrap();
        for url in ["http://", "http://a b/key", "not a url/key", "/key"] {
            let error = Heartbeat::new(url, schedule.clone()).unwrap_err();
            assert!(matches!(error, HeartbeatError::Url), "{url}");
            assert!(!error.to_string().contains("key"), "{error}");
        }
    }
}
