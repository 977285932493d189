//! Counts of what failed outside: requests to destinations, to the repository service, to monitors.
//!
//! Whoever tries something adds its failures to its own [`Failures`]; the writer of own points takes
//! them from there now and then (see [`crate::counters::errors`]). Nothing is written at the moment of a
//! failure, so a failure cannot cause another (difference 22).

use std::sync::{Mutex, PoisonError};

/// Kinds of failures that one place counts apart. Some 13 categories and a dozen statuses are ever
/// seen; what comes after these counts as [`Category::Unknown`].
const KINDS_MAX: usize = 32;

/// What kind of failure it is: Butler SOS's `error_category`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// No answer in time.
    Timeout,
    /// Nobody listens there.
    ConnectionRefused,
    /// The name does not resolve.
    HostNotFound,
    /// The other side closed the connection.
    ConnectionReset,
    /// HTTP 401 and 403.
    AuthError,
    /// HTTP 404.
    NotFound,
    /// HTTP 429.
    RateLimited,
    /// Other answers from HTTP 500 on.
    Http5xx,
    /// Other answers from HTTP 400 on.
    Http4xx,
    /// No trust, or no TLS at all.
    CertificateError,
    /// Something else about MQTT.
    MqttError,
    /// None of these.
    Unknown,
}

impl Category {
    /// The value of the field.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::ConnectionRefused => "connection_refused",
            Self::HostNotFound => "host_not_found",
            Self::ConnectionReset => "connection_reset",
            Self::AuthError => "auth_error",
            Self::NotFound => "not_found",
            Self::RateLimited => "rate_limited",
            Self::Http5xx => "http_5xx",
            Self::Http4xx => "http_4xx",
            Self::CertificateError => "certificate_error",
            Self::MqttError => "mqtt_error",
            Self::Unknown => "unknown",
        }
    }

    /// The system's name of the error, where the category stands for exactly one: Node.js's, as in
    /// Butler SOS's field `error_code`.
    #[must_use]
    pub const fn code(self) -> Option<&'static str> {
        match self {
            Self::ConnectionRefused => Some("ECONNREFUSED"),
            Self::HostNotFound => Some("ENOTFOUND"),
            Self::ConnectionReset => Some("ECONNRESET"),
            _ => None,
        }
    }
}

/// What the errors of the system and of the libraries in use say, in lower case. The first that fits
/// decides.
const WORDS: [(&str, Category); 15] = [
    ("no answer within", Category::Timeout),
    ("timed out", Category::Timeout),
    ("timeout", Category::Timeout),
    ("deadline has elapsed", Category::Timeout),
    ("connection refused", Category::ConnectionRefused),
    ("failed to lookup address", Category::HostNotFound),
    ("dns error", Category::HostNotFound),
    ("connection reset", Category::ConnectionReset),
    ("broken pipe", Category::ConnectionReset),
    ("connection closed", Category::ConnectionReset),
    ("certificate", Category::CertificateError),
    ("tls handshake", Category::CertificateError),
    ("fatal alert", Category::CertificateError),
    ("corrupt message", Category::CertificateError),
    ("mqtt ", Category::MqttError),
];

/// One kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    /// What kind of failure it is.
    pub category: Category,
    /// The answer, where there was one.
    pub http_status: Option<u16>,
}

impl Failure {
    /// A failure of which nothing more is known.
    pub const UNKNOWN: Self = Self { category: Category::Unknown, http_status: None };

    /// Nobody answered in time.
    pub const TIMEOUT: Self = Self { category: Category::Timeout, http_status: None };

    /// An answer that is not a success.
    #[must_use]
    pub const fn http(status: u16) -> Self {
        let category = match status {
            401 | 403 => Category::AuthError,
            404 => Category::NotFound,
            429 => Category::RateLimited,
            500.. => Category::Http5xx,
            400.. => Category::Http4xx,
            _ => Category::Unknown,
        };
        Self { category, http_status: Some(status) }
    }

    /// What a reason given to the operator says: that of an answer begins with `HTTP` and its status.
    #[must_use]
    pub fn of(reason: &str) -> Self {
        let status = reason.strip_prefix("HTTP ").and_then(|rest| rest.get(..3)?.parse().ok());
        if let Some(status) = status {
            return Self::http(status);
        }
        let reason = reason.to_ascii_lowercase();
        let category = WORDS.iter().find(|(words, _)| reason.contains(words));
        let category = category.map_or(Category::Unknown, |(_, category)| *category);
        Self { category, http_status: None }
    }
}

/// Failures in one place since they were taken last. Failing is slow and rare, so a lock is cheap.
#[derive(Debug, Default)]
pub struct Failures(Mutex<Vec<(Failure, u64)>>);

impl Failures {
    /// Counts failures of a kind.
    pub fn add(&self, failure: Failure, count: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = if counts.len() < KINDS_MAX || counts.iter().any(|(it, _)| *it == failure) {
            failure
        } else {
            Failure::UNKNOWN
        };
        match counts.iter_mut().find(|(it, _)| *it == failure) {
            Some((_, counted)) => *counted = counted.saturating_add(count),
            None => counts.push((failure, count)),
        }
    }

    /// The counts since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<(Failure, u64)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_the_categories_of_butler_sos() {
        for (reason, category) in [
            ("127.0.0.1:8086: no answer within 10s", "timeout"),
            (
                "client error (Connect): tcp connect error: Connection refused (os error 111)",
                "connection_refused",
            ),
            (
                "dns error: failed to lookup address information: Name or service not known",
                "host_not_found",
            ),
            ("Connection reset by peer (os error 104)", "connection_reset"),
            ("invalid peer certificate: UnknownIssuer", "certificate_error"),
            ("mqtt broker:1883: NotAuthorized", "mqtt_error"),
            ("mqtt broker:1883: Connection refused (os error 111)", "connection_refused"),
            ("HTTP 401: unauthorized", "auth_error"),
            ("HTTP 403", "auth_error"),
            ("HTTP 404: database not found", "not_found"),
            ("HTTP 429: slow down", "rate_limited"),
            ("HTTP 503: timeout", "http_5xx"),
            ("HTTP 400: the line says: connection refused", "http_4xx"),
            ("something else", "unknown"),
        ] {
            assert_eq!(Failure::of(reason).category.name(), category, "{reason}");
        }
        assert_eq!(Failure::of("HTTP 503: timeout").http_status, Some(503));
        assert_eq!(Failure::of("connection refused").category.code(), Some("ECONNREFUSED"));
    }

    #[test]
    fn kinds_are_counted_apart_up_to_a_limit() {
        let failures = Failures::default();
        failures.add(Failure::TIMEOUT, 2);
        failures.add(Failure::TIMEOUT, 3);
        for status in 400..500 {
            failures.add(Failure::http(status), 1);
        }
        failures.add(Failure::TIMEOUT, 1);
        let counts = failures.take();
        assert_eq!(counts.len(), KINDS_MAX + 1);
        assert_eq!(counts[0], (Failure::TIMEOUT, 6));
        assert_eq!(counts[KINDS_MAX], (Failure::UNKNOWN, 100 - (KINDS_MAX as u64 - 1)));
        assert_eq!(failures.take(), []);
    }
}
