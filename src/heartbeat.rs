//! Calls a URL at regular times, so that whoever watches it knows that this process lives.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use hyper::Uri;

use crate::fetch::{self, Fetch};
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
    url: Uri,
    schedule: Schedule,
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
        Ok(Self { fetch: Fetch::new(tls, TIMEOUT, ANSWER_BYTES_MAX), url, schedule })
    }

    /// Calls now and on schedule, without end.
    pub async fn run(self) {
        // Path and query often hold the key of a check, and a user part a password.
        let host = self.url.host().unwrap_or_default();
        let warnings = RateLimited::new();
        let start = Instant::now();
        loop {
            match self.fetch.get(self.url.clone(), &[]).await {
                Ok(_) => tracing::debug!(host, "heartbeat sent"),
                Err(error) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_are_none_are_refused_and_not_shown() {
        let schedule = "every 1 hour".parse().unwrap();
        for url in ["http://", "http://a b/key", "not a url/key", "/key"] {
            let error = Heartbeat::new(url, schedule).unwrap_err();
            assert!(matches!(error, HeartbeatError::Url), "{url}");
            assert!(!error.to_string().contains("key"), "{error}");
        }
    }
}
