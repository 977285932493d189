//! One keep-alive HTTP client for writes and set-up.

use std::cell::Cell;
use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use hyper::{Method, Request, Response};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::answer::Answer;
use super::{InfluxError, InfluxSettings, Target};

/// Below InfluxDB's and common proxies' own limits, so that a request rarely meets a connection that
/// is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// More of an answer is not read: it names the lines at fault, and if they are so many, the batch is
/// cut in halves until the answers are short.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

const AGENT: &str = concat!("ringside/", env!("CARGO_PKG_VERSION"));

/// Everything but the unreserved characters of RFC 3986.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name or value as part of a query string.
pub(super) fn escape(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, QUERY)
}

pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    scheme: Scheme,
    authority: Authority,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    sent_bytes: Cell<u64>,
}

impl Http {
    pub fn new(settings: &InfluxSettings) -> Result<Self, InfluxError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(settings.connect_timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(settings.https).map_err(InfluxError::Certificates)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Ok(Self {
            client,
            scheme: if settings.https { Scheme::HTTPS } else { Scheme::HTTP },
            authority: authority(&settings.host, settings.port)?,
            authorization: authorization(&settings.target)?,
            timeout: settings.timeout,
            sent_bytes: Cell::new(0),
        })
    }

    /// Host and port, for messages.
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.get()
    }

    /// One request and its answer, or why there is none.
    pub async fn request(
        &self,
        method: Method,
        path_and_query: &str,
        content_type: &'static str,
        body: Bytes,
        gzip: bool,
    ) -> Result<Answer, String> {
        let (body, encoding) = if gzip { compress(body) } else { (body, None) };
        let path = PathAndQuery::try_from(path_and_query).map_err(|error| error.to_string())?;
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(|error| error.to_string())?;
        let length = body.len() as u64;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(encoding) = encoding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        self.sent_bytes.set(self.sent_bytes.get() + length);
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| causes(&error))?;
            read(response).await.map_err(|error| causes(&error))
        };
        tokio::time::timeout(self.timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {:?}", self.timeout)))
            .map_err(|reason| format!("{}: {reason}", self.authority))
    }
}

/// Trusts the system's authorities; where TLS is not used, nobody, so that none need be installed.
fn tls(https: bool) -> std::io::Result<rustls::ClientConfig> {
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .map_err(std::io::Error::other)?;
    let builder = if https {
        builder.with_native_roots()?
    } else {
        builder.with_root_certificates(rustls::RootCertStore::empty())
    };
    Ok(builder.with_no_client_auth())
}

fn authority(host: &str, port: u16) -> Result<Authority, InfluxError> {
    let is_ipv6 = host.parse::<std::net::Ipv6Addr>().is_ok();
    let text = if is_ipv6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let authority: Authority = text.parse().map_err(|_| InfluxError::Host(host.to_owned()))?;
    // A user part, or a port in the host, would parse too.
    if authority.host().trim_matches(['[', ']']) != host.trim_matches(['[', ']'])
        || host.is_empty()
        || text.contains('@')
    {
        return Err(InfluxError::Host(host.to_owned()));
    }
    Ok(authority)
}

fn authorization(target: &Target) -> Result<Option<HeaderValue>, InfluxError> {
    let text = match target {
        Target::V1 { credentials: None, .. } => return Ok(None),
        Target::V1 { credentials: Some((user, password)), .. } => {
            format!("Basic {}", BASE64.encode(format!("{user}:{}", password.expose())))
        }
        Target::V2 { token, .. } | Target::V3 { token, .. } => format!("Token {}", token.expose()),
    };
    let mut value = HeaderValue::try_from(text).map_err(|_| InfluxError::Credentials)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Level 1: measured at half the time of the default level for a tenth more bytes on this data.
fn compress(body: Bytes) -> (Bytes, Option<&'static str>) {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // Writing to memory does not fail; if it did, the body would go as it is.
    match encoder.write_all(&body).and_then(|()| encoder.finish()) {
        Ok(compressed) => (Bytes::from(compressed), Some("gzip")),
        Err(_) => (body, None),
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            let room = ANSWER_BYTES_MAX - bytes.len();
            bytes.extend_from_slice(&data[..data.len().min(room)]);
            if bytes.len() == ANSWER_BYTES_MAX {
                break; // The connection is closed, not drained.
            }
        }
    }
    Ok(Answer { status, retry_after, body: bytes })
}

/// An error and what is behind it, in one line.
fn causes(error: &dyn Error) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn hosts() {
        assert_eq!(authority("influx.example.com", 8086).unwrap(), "influx.example.com:8086");
        assert_eq!(authority("10.0.0.1", 1).unwrap(), "10.0.0.1:1");
        assert_eq!(authority("fe80::1", 8086).unwrap(), "[fe80::1]:8086");
        for bad in ["", "a b", "http://a", "a/b", "user@a", "a:1"] {
            assert!(authority(bad, 8086).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials() {
        let v1 =
            |credentials| Target::V1 { database: "d".into(), retention_policy: None, credentials };
        assert!(authorization(&v1(None)).unwrap().is_none());
        let header =
            authorization(&v1(Some(("me".into(), Secret::from("pä:ss"))))).unwrap().unwrap();
        assert_eq!(header, "Basic bWU6cMOkOnNz");
        assert!(header.is_sensitive());
        let v3 = |token| Target::V3 { database: "d".into(), token: Secret::from(token) };
        assert_eq!(authorization(&v3("t")).unwrap().unwrap(), "Token t");
        assert!(authorization(&v3("a\nb")).is_err());
    }

    #[test]
    fn query_strings() {
        assert_eq!(escape("my org/a&b=ä").to_string(), "my%20org%2Fa%26b%3D%C3%A4");
    }
}
