//! The HTTP client that the destinations share: keep-alive, TLS, gzip, timeouts.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aho_corasick::{AhoCorasick, MatchKind};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER,
    USER_AGENT,
};
use hyper::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use hyper::{Method, Request, Response};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::task::spawn_blocking;

use crate::fetch;

/// Below InfluxDB's and common proxies' own limits, so that a request rarely meets a connection that
/// is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// More of an answer is not read: it names the lines at fault, and if they are so many, the batch is
/// cut in halves until the answers are short.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Characters of a server's message that are passed on.
pub(super) const MESSAGE_MAX: usize = 300;

/// Shorter secrets are not looked for in answers: they would be found everywhere.
const MASKED_MIN: usize = 6;

const AGENT: &str = concat!("ringside/", env!("CARGO_PKG_VERSION"));

/// Everything but the unreserved characters of RFC 3986.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name or value as part of a path or query string.
pub(super) fn escape(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, QUERY)
}

/// An answer of a server, as far as it matters.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, from now on.
    pub retry_after: Option<Duration>,
    /// What the server's clock showed, to the second: `Date`.
    pub date: Option<SystemTime>,
    /// The first 64 KiB of the body, with `***` for what it repeats of the request's secret headers:
    /// it ends up in logs and on the console.
    pub body: Vec<u8>,
}

/// Where the server is and how it is talked to.
pub(super) struct Endpoint {
    /// Whether to use TLS. The system's certificate authorities are trusted.
    pub https: bool,
    /// Host and port.
    pub authority: Authority,
    /// Headers of every request.
    pub headers: HeaderMap,
    /// An attempt to connect that takes longer has failed.
    pub connect_timeout: Duration,
    /// A request that takes longer has failed.
    pub timeout: Duration,
}

/// The body of a request.
pub(super) struct Payload {
    bytes: Bytes,
    gzip: bool,
}

impl Payload {
    /// Bytes as they are.
    pub fn plain(bytes: Bytes) -> Self {
        Self { bytes, gzip: false }
    }

    /// Compresses with level 1: measured at half the time of the default level for a tenth more
    /// bytes on this data. Even so it takes longer than everything else that is done for a batch, so
    /// it is done on a thread that blocks nobody; there are as many as requests under way.
    pub async fn gzip(bytes: Bytes) -> Self {
        let plain = bytes.clone();
        match spawn_blocking(move || compress(&bytes)).await {
            Ok(Ok(compressed)) => Self { bytes: Bytes::from(compressed), gzip: true },
            // Writing to memory does not fail; if it did, the body would go as it is.
            Ok(Err(_)) | Err(_) => Self::plain(plain),
        }
    }

    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    scheme: Scheme,
    authority: Authority,
    headers: HeaderMap,
    timeout: Duration,
    /// Finds the secrets of the headers.
    secrets: Option<AhoCorasick>,
    sent_bytes: AtomicU64,
}

impl Http {
    /// Prepares everything and connects to nothing. Fails when the certificate authorities cannot
    /// be read.
    pub fn new(endpoint: Endpoint) -> std::io::Result<Self> {
        let Endpoint { https, authority, mut headers, connect_timeout, timeout } = endpoint;
        let secrets = secrets(&headers);
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(https)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        let scheme = if https { Scheme::HTTPS } else { Scheme::HTTP };
        let sent_bytes = AtomicU64::new(0);
        Ok(Self { client, scheme, authority, headers, timeout, secrets, sent_bytes })
    }

    /// Host and port, for messages.
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// One request and its answer, or why there is none.
    pub async fn request(
        &self,
        method: Method,
        path_and_query: &str,
        content_type: &'static str,
        body: Payload,
    ) -> Result<Answer, String> {
        let path = PathAndQuery::try_from(path_and_query).map_err(|error| error.to_string())?;
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(|error| error.to_string())?;
        let length = body.len() as u64;
        let mut request = Request::new(Full::new(body.bytes));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if body.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        self.sent_bytes.fetch_add(length, Ordering::Relaxed);
        let exchange = async {
            let response =
                self.client.request(request).await.map_err(|error| fetch::causes(&error))?;
            let answer = read(response).await.map_err(|error| fetch::causes(&error))?;
            Ok(Answer { body: masked(self.secrets.as_ref(), answer.body), ..answer })
        };
        tokio::time::timeout(self.timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {:?}", self.timeout)))
            .map_err(|reason| format!("{}: {reason}", self.authority))
    }
}

/// What finds the values of sensitive headers; `None` when there are none.
fn secrets(headers: &HeaderMap) -> Option<AhoCorasick> {
    let sensitive = headers.iter().filter(|(_, value)| value.is_sensitive());
    let values = sensitive.map(|(name, value)| match value.as_bytes() {
        // After the scheme: `Token …`, `Basic …`.
        value if name == AUTHORIZATION => {
            value.rsplit(|&byte| byte == b' ').next().unwrap_or(value)
        }
        value => value,
    });
    let values: Vec<&[u8]> = values.filter(|value| value.len() >= MASKED_MIN).collect();
    // Fails for more patterns than fit into headers.
    let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&values).ok();
    finder.filter(|_| !values.is_empty())
}

fn masked(secrets: Option<&AhoCorasick>, body: Vec<u8>) -> Vec<u8> {
    match secrets {
        Some(secrets) => secrets.replace_all_bytes(&body, &vec!["***"; secrets.patterns_len()]),
        None => body,
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

/// How long the server asks to be left alone: a number of seconds, or until a date. A date is
/// compared with the server's own clock where it says how late it is there.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let asked = text(RETRY_AFTER)?;
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(asked).ok()?;
    // What is over need not be waited for.
    Some(until.duration_since(date(headers).unwrap_or(now)).unwrap_or_default())
}

/// What the server's clock shows.
fn date(headers: &HeaderMap) -> Option<SystemTime> {
    let text = headers.get(DATE)?.to_str().ok()?;
    httpdate::parse_http_date(text.trim()).ok()
}

async fn read(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers(), SystemTime::now());
    let date = date(response.headers());
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
    Ok(Answer { status, retry_after, date, body: bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_do_not_repeat_secrets() {
        let mut headers = HeaderMap::new();
        let mut insert = |name, text, is_secret| {
            let mut value = HeaderValue::from_static(text);
            value.set_sensitive(is_secret);
            headers.insert(name, value);
        };
        insert("authorization", "Token my-token", true);
        insert("api-key", "my-token-and-more", true);
        insert("x-short", "short", true);
        insert("x-open", "application/json", false);
        let body = b"my-token-and-more? my-token; short application/json \xff".to_vec();
        let shown = masked(secrets(&headers).as_ref(), body);
        assert_eq!(shown, b"***? ***; short application/json \xff");
        assert_eq!(masked(secrets(&HeaderMap::new()).as_ref(), b"as it is".to_vec()), b"as it is");
    }

    #[test]
    fn when_to_come_back() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let asked = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        let later = ("retry-after", "Tue, 14 Nov 2023 22:13:50 GMT");
        assert_eq!(asked(&[("retry-after", " 7 ")]), Some(7));
        assert_eq!(asked(&[later]), Some(30));
        let theirs = ("date", "Tue, 14 Nov 2023 22:13:45 GMT");
        assert_eq!(asked(&[later, theirs]), Some(5), "their clock is a little fast");
        assert_eq!(asked(&[later, ("date", "soon")]), Some(30));
        assert_eq!(asked(&[("retry-after", "Tue, 14 Nov 2023 22:13:19 GMT")]), Some(0));
        for wrong in ["", "soon", "-1", "1.5", "Tue, 99 Nov 2023 22:13:50 GMT"] {
            assert_eq!(asked(&[("retry-after", wrong)]), None, "{wrong}");
        }
        assert_eq!(asked(&[]), None);
    }

    #[test]
    fn query_strings() {
        assert_eq!(escape("my org/a&b=ä").to_string(), "my%20org%2Fa%26b%3D%C3%A4");
    }
}
