//! Writes batches to InfluxDB.

#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;
use hyper::Method;
use tokio::sync::Mutex;

use super::setup::{self, Problem};
use super::{Gzip, InfluxError, InfluxSettings, Target, answer, http};
use crate::deliver::http::{Http, Payload, escape};
use crate::deliver::{Outcome, Transport};

/// Bodies up to this size are not worth compressing: the limit of Butler SOS's clients
/// (`gzipThreshold`).
const GZIP_ABOVE: usize = 1000;

const NOT_FOUND: u16 = 404;

/// A [`Transport`] to one InfluxDB.
///
/// Before the first write, and again when the server says that the database is not there, it is
/// looked for and created when missing. That fails for users who may write and no more, so the write
/// is tried all the same.
pub struct InfluxTransport {
    http: Http,
    target: Target,
    write_path: String,
    gzip: bool,
    /// Held while the set-up runs, so that parallel requests wait for it.
    setup: Mutex<Setup>,
}

enum Setup {
    Due,
    Done,
    /// The server would not let us; only of interest if the write fails too.
    Refused(String),
}

impl InfluxTransport {
    /// Prepares everything and connects to nothing.
    pub fn new(settings: InfluxSettings) -> Result<Self, InfluxError> {
        let http = http::client(&settings)?;
        let gzip = match settings.gzip {
            Gzip::Auto => !matches!(settings.target, Target::V1 { .. }),
            Gzip::Always => true,
            Gzip::Never => false,
        };
        let write_path = write_path(&settings.target);
        Ok(Self { http, target: settings.target, write_path, gzip, setup: Mutex::new(Setup::Due) })
    }

    /// Looks for the database, if that is due. `Some` when the server cannot be reached.
    async fn set_up(&self) -> Option<Outcome> {
        let mut state = self.setup.lock().await;
        if !matches!(*state, Setup::Due) {
            return None;
        }
        *state = match setup::run(&self.http, &self.target).await {
            Ok(()) => Setup::Done,
            Err(Problem::Refused(reason)) => Setup::Refused(reason),
            Err(Problem::Unavailable(reason)) => {
                return Some(Outcome::Unavailable { reason, after: None });
            }
        };
        None
    }

    /// The database is not there: create it next time. Adds why that did not work last time.
    async fn set_up_again(&self, outcome: Outcome) -> Outcome {
        let mut state = self.setup.lock().await;
        match (std::mem::replace(&mut *state, Setup::Due), outcome) {
            (Setup::Refused(why), Outcome::Misconfigured { reason }) => {
                Outcome::Misconfigured { reason: format!("{reason}; creating it failed: {why}") }
            }
            (_, outcome) => outcome,
        }
    }
}

impl Transport for InfluxTransport {
    async fn send(&self, body: Bytes, events: u32) -> Outcome {
        if let Some(unreachable) = self.set_up().await {
            return unreachable;
        }
        let gzip = self.gzip && body.len() > GZIP_ABOVE;
        let text = "text/plain; charset=utf-8";
        let payload =
            if gzip { Payload::gzip(body.clone()).await } else { Payload::plain(body.clone()) };
        match self.http.request(Method::POST, &self.write_path, text, payload).await {
            Err(reason) => Outcome::Unavailable { reason, after: None },
            Ok(answer) => {
                let outcome = answer::outcome(self.target.version(), &answer, &body, events);
                if answer.status == NOT_FOUND || answer::names_missing_policy(&answer) {
                    self.set_up_again(outcome).await
                } else {
                    outcome
                }
            }
        }
    }

    fn unordered(&self) -> bool {
        true
    }

    fn sent_bytes(&self) -> u64 {
        self.http.sent_bytes()
    }
}

impl fmt::Debug for InfluxTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InfluxTransport")
            .field("authority", &self.http.authority())
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// The addresses that Butler SOS's clients write to; timestamps are in nanoseconds throughout.
pub(super) fn write_path(target: &Target) -> String {
    match target {
        // `rp=`: the database's default retention policy.
        Target::V1 { database, .. } => format!("/write?db={}&precision=n&rp=", escape(database)),
        Target::V2 { organisation, bucket, .. } => format!(
            "/api/v2/write?org={}&bucket={}&precision=ns",
            escape(organisation),
            escape(bucket)
        ),
        Target::V3 { database, .. } => {
            format!("/api/v2/write?bucket={}&precision=ns", escape(database))
        }
    }
}
