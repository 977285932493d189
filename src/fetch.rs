//! One GET over HTTP or HTTPS, bounded in time and size, for what is asked now and then: names of apps,
//! the heartbeat. Destinations have clients of their own, made for throughput; what all of them share is
//! here too.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;

use crate::observe::failures::Failure;

const AGENT: &str = concat!("ringside/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer to use. Never holds the path or the query of the URL: they may be secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// No connection, no trust, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
    /// The server answered with something other than success.
    #[error("the answer is HTTP {0}")]
    Status(u16),
    /// The answer is longer than it may be.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The answer was not complete in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
}

impl FetchError {
    /// What kind of failure it is.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Unreachable(text) => Failure::of(text),
            Self::Status(status) => Failure::http(*status),
            Self::TooLong(_) => Failure::UNKNOWN,
            Self::Late(_) => Failure::TIMEOUT,
        }
    }
}

/// A client for single requests.
#[derive(Debug)]
pub(crate) struct Fetch {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    timeout: Duration,
    body_max: usize,
}

impl Fetch {
    /// `timeout` is for connection and answer together; more than `body_max` bytes are an error.
    pub fn new(tls: ClientConfig, timeout: Duration, body_max: usize) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        // Requests are a minute or an hour apart: a connection kept for the next one would mostly be
        // found closed.
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self { client, timeout, body_max }
    }

    /// The body of a successful answer.
    pub async fn get(
        &self,
        uri: Uri,
        headers: &[(&'static str, HeaderValue)],
    ) -> Result<Bytes, FetchError> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri;
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.clone());
        }
        let exchange = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|error| FetchError::Unreachable(causes(&error)))?;
            if !response.status().is_success() {
                return Err(FetchError::Status(response.status().as_u16()));
            }
            let body = Limited::new(response.into_body(), self.body_max).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(|error| {
                if error.is::<LengthLimitError>() {
                    FetchError::TooLong(self.body_max)
                } else {
                    FetchError::Unreachable(causes(error.as_ref()))
                }
            })
        };
        tokio::time::timeout(self.timeout, exchange)
            .await
            .unwrap_or(Err(FetchError::Late(self.timeout)))
    }
}

/// The cryptography of all TLS here.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// TLS that trusts the system's authorities; where TLS is not used, nobody, so that none need be
/// installed.
pub(crate) fn tls(https: bool) -> io::Result<ClientConfig> {
    use hyper_rustls::ConfigBuilderExt as _;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = if https {
        builder.with_native_roots()?
    } else {
        builder.with_root_certificates(rustls::RootCertStore::empty())
    };
    Ok(builder.with_no_client_auth())
}

/// An error and what is behind it, in one line.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let shown = error.to_string();
        if !text.contains(&shown) {
            text.push_str(": ");
            text.push_str(&shown);
        }
        cause = error.source();
    }
    text
}
