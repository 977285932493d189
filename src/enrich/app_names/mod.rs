//! Names of apps by id, asked of the Qlik Sense repository service.
//!
//! Events name apps by id; people know them by name. The repository service (QRS) has the list. It is
//! asked for it at start and then at regular times; in between, and while it cannot be reached, the
//! names that came last are used.

mod tls;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use hyper::Uri;
use hyper::header::HeaderValue;
use serde::Deserialize;
use uuid::Uuid;

pub use tls::{CertError, Certificates};

use super::UNKNOWN_APP;
use crate::event::{Column, Event, Kind};
use crate::fetch::{Fetch, FetchError};
use crate::observe::failures::{Failure, Failures};
use crate::observe::logging::RateLimited;

/// The port of the repository service, which Sense does not let anybody change.
pub(crate) const QRS_PORT: u16 = 4242;

/// The account that the exported certificates stand for; it may read everything.
const QLIK_USER: HeaderValue =
    HeaderValue::from_static("UserDirectory=Internal; UserId=sa_repository");

/// The service wants a key of this length, the same in header and query, against cross-site requests.
const XRF_KEY_LENGTH: usize = 16;

/// A busy repository takes seconds for some thousand apps; past this it is dead, not slow.
const TIMEOUT: Duration = Duration::from_mins(1);

/// An app takes about 1 KB of the list: room for some 60 000 apps, several times the largest site.
const LIST_BYTES_MAX: usize = 64 << 20;

/// Names of apps by id.
#[derive(Debug, Default)]
pub struct AppNames(HashMap<Uuid, Box<str>>);

impl AppNames {
    /// The name of an app, if it is known.
    #[must_use]
    pub fn get(&self, app: &Uuid) -> Option<&str> {
        self.0.get(app).map(AsRef::as_ref)
    }

    /// The name of the app that an event is about, as in
    /// [`Enriched::app_name`](super::Enriched::app_name).
    #[must_use]
    pub fn of_event(&self, event: &Event<'_>) -> Option<&str> {
        match event.kind() {
            Kind::ProxySession | Kind::ProxyConnection => {
                event.context_app_id().map(|app| self.get(&app).unwrap_or(UNKNOWN_APP))
            }
            Kind::QixPerf => event.uuid(Column::AppId).and_then(|app| self.get(&app)),
            _ => None,
        }
    }

    /// Number of apps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no app is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the list of the repository service. Entries whose id is no GUID are left out: no event
    /// could name them. An error when it is no list of apps.
    pub fn from_json(list: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct App {
            id: String,
            name: String,
        }
        let apps: Vec<App> = serde_json::from_slice(list)?;
        Ok(apps.into_iter().filter_map(|app| Some((app.id.parse().ok()?, app.name))).collect())
    }
}

impl FromIterator<(Uuid, String)> for AppNames {
    fn from_iter<I: IntoIterator<Item = (Uuid, String)>>(apps: I) -> Self {
        Self(apps.into_iter().map(|(id, name)| (id, name.into())).collect())
    }
}

/// Where names come from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Host name or address of the repository service.
    pub host: String,
    /// Time between two requests.
    pub interval: Duration,
    /// What this client shows, and whom it trusts.
    pub certificates: Certificates,
}

/// Why names cannot be asked for at all.
#[derive(Debug, thiserror::Error)]
pub enum AppNamesError {
    /// The host is none.
    #[error("Butler-SOS.appNames.hostIP: `{0}` is not a host; use an address or a name")]
    Host(String),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertError),
}

/// Why one request brought no names.
#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the answer is not a list of apps: {0}")]
    List(#[from] serde_json::Error),
}

impl RefreshError {
    /// What kind of failure it is.
    fn failure(&self) -> Failure {
        match self {
            Self::Fetch(error) => error.failure(),
            Self::List(_) => Failure::UNKNOWN,
        }
    }

    /// What an operator can do about it.
    fn hint(&self) -> &'static str {
        match self {
            Self::Fetch(FetchError::Status(401 | 403)) => {
                "export the certificates again from the QMC, from the site that hostIP belongs to"
            }
            Self::Fetch(FetchError::Unreachable(text)) if text.contains("certificate") => {
                "check that cert.* are the certificates of the site that hostIP belongs to"
            }
            Self::Fetch(FetchError::Unreachable(_) | FetchError::Late(_)) => {
                "check appNames.hostIP, that the repository service runs, and that no firewall \
                 closes port 4242"
            }
            Self::Fetch(FetchError::Status(_) | FetchError::TooLong(_)) | Self::List(_) => {
                "check that hostIP is the host of the repository service, and its log"
            }
        }
    }
}

/// Keeps names up to date.
#[derive(Debug)]
pub struct Refresher {
    fetch: Fetch,
    host: String,
    authority: String,
    interval: Duration,
    failures: Arc<Failures>,
}

impl Refresher {
    /// Reads the certificates; asks for nothing yet.
    pub fn new(settings: &Settings) -> Result<Self, AppNamesError> {
        let host = &settings.host;
        let authority = if host.parse::<std::net::Ipv6Addr>().is_ok() {
            format!("[{host}]:{QRS_PORT}")
        } else {
            format!("{host}:{QRS_PORT}")
        };
        let is_host = authority
            .parse::<hyper::http::uri::Authority>()
            .is_ok_and(|parsed| parsed.port_u16() == Some(QRS_PORT) && !parsed.host().is_empty())
            && !authority.contains('@');
        if !is_host {
            return Err(AppNamesError::Host(host.clone()));
        }
        let tls = tls::client(&settings.certificates)?;
        Ok(Self {
            fetch: Fetch::new(tls, TIMEOUT, LIST_BYTES_MAX),
            host: host.clone(),
            authority,
            interval: settings.interval,
            failures: Arc::default(),
        })
    }

    /// Requests that brought no names.
    #[must_use]
    pub fn failures(&self) -> &Arc<Failures> {
        &self.failures
    }

    /// Asks now and at every interval, without end. What came last stays when a request fails.
    pub async fn run(self, names: Arc<ArcSwap<AppNames>>) {
        let warnings = RateLimited::new();
        let start = Instant::now();
        let mut ticks = tokio::time::interval(self.interval);
        // After a slow answer the next request is due an interval later, not at once.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut well = false;
        loop {
            ticks.tick().await;
            match self.ask().await {
                Ok(list) => {
                    let apps = list.len();
                    // Before it is said, so that whoever reads it can rely on the names.
                    names.store(Arc::new(list));
                    if !well {
                        tracing::info!(apps, host = %self.host, "app names are here");
                    }
                    well = true;
                }
                Err(error) => {
                    well = false;
                    self.failures.add(error.failure(), 1);
                    if let Some(suppressed) = warnings.allow(start.elapsed()) {
                        let known = names.load().len();
                        tracing::warn!(
                            suppressed,
                            "app names cannot be asked of {}: {error}; {}; the {known} names known \
                             stay in use",
                            self.authority,
                            error.hint(),
                        );
                    }
                }
            }
        }
    }

    /// Asks once, within `limit`: how many apps there are, or why that is not known and what to do.
    pub async fn probe(&self, limit: Duration) -> Result<usize, (String, &'static str)> {
        let late = || RefreshError::from(FetchError::Late(limit));
        let answer = tokio::time::timeout(limit, self.ask()).await.unwrap_or_else(|_| Err(late()));
        answer.map(|names| names.len()).map_err(|error| (error.to_string(), error.hint()))
    }

    async fn ask(&self) -> Result<AppNames, RefreshError> {
        let key: String =
            std::iter::repeat_with(fastrand::alphanumeric).take(XRF_KEY_LENGTH).collect();
        let uri = Uri::builder()
            .scheme("https")
            .authority(self.authority.as_str())
            .path_and_query(format!("/qrs/app?Xrfkey={key}"))
            .build()
            .map_err(|error| FetchError::Unreachable(error.to_string()))?;
        let key = HeaderValue::try_from(key)
            .map_err(|error| FetchError::Unreachable(error.to_string()))?;
        let headers = [("x-qlik-user", QLIK_USER), ("x-qlik-xrfkey", key)];
        let list = self.fetch.get(uri, &headers).await?;
        Ok(AppNames::from_json(&list)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_taken_from_the_list() {
        let list = r#"[
            {"id":"E7AF59A0-c243-480d-9571-08727551a66f","privileges":null,"name":"Sales \"24\"","stream":{}},
            {"id":"none","name":"no id"}]"#;
        let names = AppNames::from_json(list.as_bytes()).unwrap();
        let id = "e7af59a0-c243-480d-9571-08727551a66f".parse().unwrap();
        assert_eq!((names.get(&id), names.len()), (Some("Sales \"24\""), 1));
        assert!(AppNames::from_json(b"[]").unwrap().is_empty());
        for wrong in ["", "{}", r#"[{"id":"x"}]"#, "<html>"] {
            assert!(AppNames::from_json(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts_are_judged_before_anything_is_read() {
        for host in ["", "a b", "a/b", "me@a", "a:1", "https://a"] {
            let settings = Settings {
                host: host.to_owned(),
                interval: TIMEOUT,
                certificates: Certificates::default(),
            };
            let error = Refresher::new(&settings).unwrap_err();
            assert!(matches!(error, AppNamesError::Host(_)), "{host}: {error}");
        }
    }
}
