//! Who may read the endpoints.
//!
//! * Bound to loopback, only requests that name a loopback host are answered: a web page that makes
//!   its own name resolve to 127.0.0.1 (DNS rebinding) still sends that name.
//! * Requests that a browser sends on behalf of another site are refused, except following a link.
//! * With a token, programs send `Authorization: Bearer TOKEN`. Browsers log in with a form and get
//!   a cookie that holds a random key of this process instead of the token.

use std::fmt;
use std::net::IpAddr;

use axum::http::{HeaderMap, header};
use rustls::crypto::SecureRandom;
use subtle::ConstantTimeEq;

/// The secret that opens the console.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token; `None` when the text is empty.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

/// Name of the cookie of browsers that have logged in.
const COOKIE: &str = "ringside_session";

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("this console is bound to loopback: open it as localhost or 127.0.0.1")]
    Host,
    #[error("requests from other sites are not answered")]
    OtherSite,
    #[error("a token is needed: log in at / or send `Authorization: Bearer TOKEN`")]
    Token,
}

/// The rules of one bound address.
pub(super) struct Guard {
    loopback: bool,
    login: Option<Login>,
}

struct Login {
    token: Token,
    session: String,
}

impl Guard {
    /// Rules for an address that is `loopback` or not, open to who has the token, if there is one.
    /// `session` is the same for all addresses: cookies belong to a host, whatever its port.
    pub(super) fn new(loopback: bool, token: Option<Token>, session: &str) -> Self {
        let login = token.map(|token| Login { token, session: session.to_owned() });
        Self { loopback, login }
    }

    /// Whether a request with these headers is answered.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        self.check_origin(headers)?;
        match &self.login {
            Some(login) if !login.opened_by(headers) => Err(Refusal::Token),
            _ => Ok(()),
        }
    }

    /// The part of [`Guard::check`] that also holds before somebody has logged in.
    pub(super) fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.loopback && !names_loopback(headers) {
            return Err(Refusal::Host);
        }
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let other_site = matches!(text("sec-fetch-site"), Some("cross-site" | "same-site"));
        if other_site && text("sec-fetch-mode") != Some("navigate") {
            return Err(Refusal::OtherSite);
        }
        Ok(())
    }

    /// The `Set-Cookie` header for a browser that sent `token`, if that is the right one. It is sent
    /// along when a link from another site is followed; what can be asked for changes nothing.
    pub(super) fn log_in(&self, token: &[u8]) -> Option<String> {
        let login = self.login.as_ref()?;
        equal(token, login.token.0.as_bytes())
            .then(|| format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Lax", login.session))
    }
}

impl Login {
    fn opened_by(&self, headers: &HeaderMap) -> bool {
        let bearer = headers.get_all(header::AUTHORIZATION).iter().any(|value| {
            let (scheme, token) = value.as_bytes().split_at(value.len().min("Bearer ".len()));
            scheme.eq_ignore_ascii_case(b"Bearer ") && equal(token, self.token.0.as_bytes())
        });
        bearer || self.has_cookie(headers)
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(name, value)| name == COOKIE && equal(value.as_bytes(), self.session.as_bytes()))
    }
}

/// Compares in a time that tells the length of the secret at most.
fn equal(given: &[u8], secret: &[u8]) -> bool {
    given.ct_eq(secret).into()
}

/// Whether the request names its host, and only loopback hosts.
fn names_loopback(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter().peekable();
    hosts.peek().is_some() && hosts.all(|host| host.to_str().is_ok_and(is_loopback_host))
}

/// `localhost`, `127.x.y.z` or `[::1]`, with or without a port.
fn is_loopback_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's source of random numbers does not work")]
pub struct NoRandomness;

/// 128 random bits in hexadecimal digits.
pub(super) fn random_hex() -> Result<String, NoRandomness> {
    // The random source of the TLS library: one source of secrets in the program.
    let source: &dyn SecureRandom = rustls::crypto::ring::default_provider().secure_random;
    let mut bytes = [0; 16];
    source.fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn loopback_hosts() {
        let ours =
            ["localhost", "LOCALHOST:8088", "127.0.0.1:8088", "127.1.2.3", "[::1]:1", "[::1]"];
        for host in ours {
            assert!(is_loopback_host(host), "{host}");
        }
        let others = [
            "",
            "evil.example",
            "127.0.0.1.evil.example:8088",
            "localhost.evil.example",
            "10.0.0.1",
        ];
        for host in others {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn loopback_answers_only_its_own_names() {
        let guard = Guard::new(true, None, "k");
        assert_eq!(guard.check(&headers(&[])), Err(Refusal::Host));
        assert_eq!(guard.check(&headers(&[("host", "localhost:8088")])), Ok(()));
        let two = headers(&[("host", "localhost"), ("host", "evil.example")]);
        assert_eq!(guard.check(&two), Err(Refusal::Host));
        assert_eq!(Guard::new(false, None, "k").check(&headers(&[("host", "sense")])), Ok(()));
    }

    #[test]
    fn other_sites_may_link_but_not_read() {
        let guard = Guard::new(false, None, "k");
        let from = |site, mode| {
            guard.check(&headers(&[("sec-fetch-site", site), ("sec-fetch-mode", mode)]))
        };
        assert_eq!(from("same-origin", "cors"), Ok(()));
        assert_eq!(from("none", "navigate"), Ok(()));
        assert_eq!(from("cross-site", "navigate"), Ok(()));
        assert_eq!(from("cross-site", "no-cors"), Err(Refusal::OtherSite));
        assert_eq!(from("same-site", "cors"), Err(Refusal::OtherSite));
    }

    #[test]
    fn the_token_or_the_cookie_opens() {
        let guard = Guard::new(false, Token::new("s3cret"), "k3y");
        let with = |name, value: &str| guard.check(&headers(&[(name, value)]));
        assert_eq!(guard.check(&headers(&[])), Err(Refusal::Token));
        assert_eq!(with("authorization", "Bearer s3cret"), Ok(()));
        assert_eq!(with("authorization", "bearer s3cret"), Ok(()));
        for wrong in ["Bearer s3cre", "Bearer s3cret ", "s3cret", "Basic s3cret", "Bearer"] {
            assert_eq!(with("authorization", wrong), Err(Refusal::Token), "{wrong}");
        }
        assert_eq!(guard.log_in(b"wrong"), None);
        let cookie = guard.log_in(b"s3cret").unwrap();
        assert!(cookie.ends_with("; HttpOnly; SameSite=Lax"));
        assert!(!cookie.contains("s3cret"));
        let session = cookie.split(';').next().unwrap();
        assert_eq!(with("cookie", &format!("theme=dark; {session}")), Ok(()));
        assert_eq!(with("cookie", "ringside_session="), Err(Refusal::Token));
        assert_eq!(Guard::new(false, None, "k").log_in(b""), None);
        let other = Guard::new(false, Token::new("s3cret"), "k4y");
        assert_eq!(other.check(&headers(&[("cookie", session)])), Err(Refusal::Token));
    }

    #[test]
    fn the_token_is_never_shown() {
        assert_eq!(format!("{:?}", Token::new("s3cret")), "Some(Token(…))");
        assert_eq!(Token::new(""), None);
    }
}
