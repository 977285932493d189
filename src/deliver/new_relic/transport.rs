//! Posts batches to New Relic's Event API.
//!
//! Sources: New Relic's documentation, "Introduction to the Event API" (address, headers, statuses)
//! and "Data requirements and limits for custom event data" (10^6 bytes a request).

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use hyper::http::uri::{Authority, Uri};

use super::{Account, NewRelicError};
use crate::deliver::http::{Answer, Endpoint, Http, MESSAGE_MAX, Payload, escape};
use crate::deliver::{Outcome, Transport};
use crate::secret::Secret;

/// New Relic refuses requests with more bytes than this, compressed.
pub const POST_BYTES_MAX: usize = 1_000_000;

/// Waiting batches are merged into requests of up to this size before compression: what does not
/// shrink at all fits too. A shard's batch can be longer in a backlog; it shrinks to a tenth.
pub const REQUEST_BYTES_MAX: usize = POST_BYTES_MAX;

/// Timeout of Butler SOS's requests.
const TIMEOUT: Duration = Duration::from_secs(10);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A [`Transport`] to one account of New Relic.
pub struct NewRelicTransport {
    http: Http,
    path: String,
}

impl NewRelicTransport {
    /// Prepares everything and connects to nothing.
    pub fn new(account: &Account) -> Result<Self, NewRelicError> {
        let (http, folder) = client(account, TIMEOUT)?;
        Ok(Self { http, path: format!("{folder}/v1/accounts/{}/events", escape(&account.id)) })
    }
}

/// A client for the URL of an account, and the URL's path without a slash at its end.
pub(super) fn client(
    account: &Account,
    timeout: Duration,
) -> Result<(Http, String), NewRelicError> {
    let (https, authority, folder) = address(account)?;
    let endpoint = Endpoint {
        https,
        authority,
        headers: headers(account)?,
        connect_timeout: CONNECT_TIMEOUT,
        timeout,
    };
    Ok((Http::new(endpoint).map_err(NewRelicError::Certificates)?, folder))
}

/// Whether to use TLS, the server, and the path without a slash at its end.
fn address(account: &Account) -> Result<(bool, Authority, String), NewRelicError> {
    let Account { section, url, .. } = account;
    let wrong = || NewRelicError::Url { section, url: url.clone() };
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let https = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong()),
    };
    let authority = uri.authority().ok_or_else(wrong)?.clone();
    // A user in the URL would be sent to nobody.
    if authority.as_str().contains('@') || uri.query().is_some() {
        return Err(wrong());
    }
    Ok((https, authority, uri.path().trim_end_matches('/').to_owned()))
}

/// The headers of the file, and the key, which none of them replaces.
fn headers(account: &Account) -> Result<HeaderMap, NewRelicError> {
    let mut headers = HeaderMap::new();
    for (name, text) in &account.headers {
        let wrong = || NewRelicError::Header { section: account.section, name: name.clone() };
        let key = HeaderName::try_from(name).map_err(|_| wrong())?;
        if [CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING].contains(&key) {
            return Err(wrong());
        }
        headers.insert(key, value(text).ok_or_else(wrong)?);
    }
    let key = value(&account.api_key).ok_or_else(|| NewRelicError::Key(account.name.clone()))?;
    headers.insert(HeaderName::from_static("api-key"), key);
    Ok(headers)
}

fn value(text: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The lines of a batch as a JSON array.
fn array(lines: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(lines.len() + 2);
    body.push(b'[');
    body.extend_from_slice(lines.strip_suffix(b"\n").unwrap_or(lines));
    // A line feed inside a text is written as `\n`, so each that is there ends an event.
    let ends: Vec<usize> = memchr::memchr_iter(b'\n', &body).collect();
    for end in ends {
        body[end] = b',';
    }
    body.push(b']');
    body
}

impl Transport for NewRelicTransport {
    async fn send(&self, body: Bytes, _events: u32) -> Outcome {
        let payload = Payload::gzip(array(&body).into()).await;
        if payload.len() > POST_BYTES_MAX {
            return Outcome::TooLarge;
        }
        match self.http.request(Method::POST, &self.path, "application/json", payload).await {
            Err(reason) => Outcome::Unavailable { reason, after: None },
            Ok(answer) => outcome(&answer),
        }
    }

    fn unordered(&self) -> bool {
        true
    }

    fn sent_bytes(&self) -> u64 {
        self.http.sent_bytes()
    }
}

/// What an answer means. Acceptance is all that New Relic tells: it looks into the events later.
fn outcome(answer: &Answer) -> Outcome {
    let reason = reason(answer);
    match answer.status {
        200..=299 => Outcome::Delivered,
        413 => Outcome::TooLarge,
        400 => Outcome::RefusedUnnamed { reason },
        408 | 429 | 500..=599 => Outcome::Unavailable { reason, after: answer.retry_after },
        401 | 403 => Outcome::Misconfigured {
            reason: format!("{reason}; check insertApiKey and accountId of the account"),
        },
        _ => Outcome::Misconfigured { reason: format!("{reason}; check newRelic.event.url") },
    }
}

/// Status and body, for people.
pub(in crate::deliver) fn reason(answer: &Answer) -> String {
    let body = String::from_utf8_lossy(&answer.body);
    let body = body.trim();
    match body.char_indices().nth(MESSAGE_MAX) {
        Some((cut, _)) => format!("HTTP {}: {}…", answer.status, &body[..cut]),
        None if body.is_empty() => format!("HTTP {}", answer.status),
        None => format!("HTTP {}: {body}", answer.status),
    }
}

impl fmt::Debug for NewRelicTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewRelicTransport")
            .field("authority", &self.http.authority())
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
