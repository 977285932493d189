//! Datagrams that were recorded earlier, read from a file of JSON lines.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::load::LoadError;
use crate::event::{Kind, Listener};

/// A datagram that was recorded earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The port it is for. If there is a target for one port only, it gets all of them.
    pub listener: Listener,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// What is read of a line; other keys are left alone.
#[derive(Deserialize)]
struct LineRead {
    payload_b64: String,
    #[serde(default)]
    port: PortRead,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PortRead {
    User,
    #[default]
    Log,
}

impl Recorded {
    /// Reads a file of JSON objects, one a line, with the datagram in `payload_b64` and optionally
    /// `port`: `user` or `log` (the default). Empty lines are passed over.
    pub fn read(path: &Path) -> Result<Vec<Self>, LoadError> {
        let failed = |line, reason: &dyn std::fmt::Display| LoadError::File {
            path: path.to_owned(),
            line,
            reason: reason.to_string(),
        };
        let file = File::open(path).map_err(|error| failed(0, &error))?;
        let mut events = Vec::new();
        for (index, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(|error| failed(index + 1, &error))?;
            if !line.trim().is_empty() {
                events.push(Self::parse(&line).map_err(|reason| failed(index + 1, &reason))?);
            }
        }
        Ok(events)
    }

    fn parse(line: &str) -> Result<Self, String> {
        let read: LineRead = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let payload = BASE64_STANDARD
            .decode(read.payload_b64)
            .map_err(|error| format!("payload_b64: {error}"))?;
        let listener = match read.port {
            PortRead::User => Listener::UserEvents,
            PortRead::Log => Listener::LogEvents,
        };
        Ok(Self { listener, payload })
    }

    /// The kind, if the datagram begins exactly as the appenders begin one.
    pub(super) fn kind(&self) -> Option<Kind> {
        let source = self.payload.strip_prefix(b"/")?.split(|&byte| byte == b'/').next()?;
        Kind::ALL.into_iter().find(|kind| kind.name().as_bytes() == source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_payload_and_perhaps_a_port() {
        let event = Recorded::parse(r#"{"id":"x","port":"user","payload_b64":"YTti"}"#).unwrap();
        assert_eq!(event, Recorded { listener: Listener::UserEvents, payload: b"a;b".to_vec() });
        let event = Recorded::parse(r#"{"payload_b64":""}"#).unwrap();
        assert_eq!(event, Recorded { listener: Listener::LogEvents, payload: Vec::new() });
    }

    #[test]
    fn a_bad_line_says_what_is_wrong() {
        let reason = |line| Recorded::parse(line).unwrap_err();
        assert!(reason("{}").contains("payload_b64"));
        assert!(reason(r#"{"payload_b64":"*"}"#).starts_with("payload_b64: "));
        assert!(reason(r#"{"payload_b64":"","port":"tcp"}"#).contains("tcp"));
    }

    #[test]
    fn the_kind_is_known_by_the_first_field() {
        let kind =
            |text: &str| Recorded { listener: Listener::LogEvents, payload: text.into() }.kind();
        assert_eq!(kind("/qseow-proxy/;1"), Some(Kind::Proxy));
        assert_eq!(kind("/qseow-proxy-session/;1"), Some(Kind::ProxySession));
        assert_eq!(kind("qseow-proxy;1"), None);
        assert_eq!(kind(""), None);
    }
}
