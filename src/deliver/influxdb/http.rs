//! The settings of InfluxDB as a client's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use hyper::http::uri::Authority;

use super::{InfluxError, InfluxSettings, Target};
use crate::deliver::http::{Endpoint, Http};

pub(super) fn client(settings: &InfluxSettings) -> Result<Http, InfluxError> {
    let authorization = authorization(&settings.target)?;
    Http::new(Endpoint {
        https: settings.https,
        authority: authority(&settings.host, settings.port)?,
        headers: authorization
            .into_iter()
            .map(|value| (AUTHORIZATION, value))
            .collect::<HeaderMap>(),
        connect_timeout: settings.connect_timeout,
        timeout: settings.timeout,
    })
    .map_err(InfluxError::Certificates)
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
}
