//! Addresses, headers, bodies and answers; whole conversations are in `tests/new_relic.rs`.

use super::*;

fn account() -> Account {
    Account {
        section: "event",
        url: "http://127.0.0.1:9/".into(),
        name: "First".into(),
        id: "42/a".into(),
        api_key: Secret::from("NRKEY"),
        headers: vec![("X-My-Header".into(), Secret::from("hush"))],
    }
}

fn answered(status: u16, body: &str) -> Outcome {
    outcome(&Answer {
        status,
        retry_after: Some(Duration::from_secs(7)),
        date: None,
        body: body.into(),
    })
}

#[test]
fn addresses() {
    let address = |url: &str| address(&Account { url: url.into(), ..account() });
    let shown =
        |url| address(url).map(|(https, server, folder)| (https, server.to_string(), folder));
    assert_eq!(shown("https://a.example").unwrap(), (true, "a.example".into(), String::new()));
    assert_eq!(shown("http://[::1]:81/nr/").unwrap(), (false, "[::1]:81".into(), "/nr".into()));
    for wrong in ["", "/x", "ftp://a", "http://", "http://a b", "http://me:pw@a", "http://a/?x=1"] {
        assert!(address(wrong).is_err(), "{wrong}");
    }
    assert_eq!(NewRelicTransport::new(&account()).unwrap().path, "/v1/accounts/42%2Fa/events");
}

#[test]
fn headers_are_secret_and_cannot_take_the_place_of_the_key() {
    let mut account = account();
    account.headers.push(("API-Key".into(), Secret::from("other")));
    let headers = headers(&account).unwrap();
    assert_eq!(headers["api-key"], "NRKEY");
    assert_eq!(headers["x-my-header"], "hush");
    assert!(headers.values().all(HeaderValue::is_sensitive));
    let shown = format!("{account:?} {:?}", NewRelicTransport::new(&account).unwrap());
    assert!(!shown.contains("NRKEY") && !shown.contains("hush"), "{shown}");
}

#[test]
fn what_http_cannot_carry_is_named_without_its_value() {
    for (name, text) in [("a b", "v"), ("X-A", "line\nbreak"), ("Content-Length", "1")] {
        let account = Account { headers: vec![(name.into(), Secret::from(text))], ..account() };
        let error = headers(&account).unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}`")) && !error.contains("break"), "{error}");
    }
    let account = Account { api_key: Secret::from("NR\nKEY"), ..account() };
    let error = headers(&account).unwrap_err().to_string();
    assert!(error.contains("`First`") && !error.contains("KEY"), "{error}");
}

#[test]
fn lines_become_an_array() {
    assert_eq!(array(b"{\"a\":1}\n{\"a\":\"\\n\"}\n"), b"[{\"a\":1},{\"a\":\"\\n\"}]");
    assert_eq!(array(b"{}\n"), b"[{}]");
}

#[test]
fn answers() {
    for status in [200, 202] {
        assert_eq!(answered(status, r#"{"success":true}"#), Outcome::Delivered);
    }
    assert_eq!(answered(413, ""), Outcome::TooLarge);
    let reason = "HTTP 400: no".to_owned();
    assert_eq!(answered(400, "no\n"), Outcome::RefusedUnnamed { reason });
    for status in [408, 429, 500, 503] {
        let wanted = Outcome::Unavailable {
            reason: format!("HTTP {status}"),
            after: Some(Duration::from_secs(7)),
        };
        assert_eq!(answered(status, ""), wanted);
    }
    for (status, hint) in [(401, "insertApiKey"), (403, "accountId"), (404, "url"), (302, "url")] {
        let Outcome::Misconfigured { reason } = answered(status, "x") else { panic!("{status}") };
        assert!(reason.contains(hint), "{reason}");
    }
    let Outcome::RefusedUnnamed { reason } = answered(400, &"é".repeat(1000)) else { panic!() };
    assert!(reason.chars().count() < MESSAGE_MAX + 20);
}

/// Nobody listens there, so only what is decided before sending can be said.
#[test]
fn what_is_over_the_limit_is_not_sent() {
    let transport = NewRelicTransport::new(&account()).unwrap();
    let mut random = fastrand::Rng::with_seed(16);
    let noise: String = (0..2 * POST_BYTES_MAX).map(|_| random.alphanumeric()).collect();
    let send = |body: Bytes| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(transport.send(body, 1))
    };
    assert_eq!(send(noise.into()), Outcome::TooLarge);
    let shrinks = Bytes::from("a".repeat(2 * POST_BYTES_MAX));
    assert!(matches!(send(shrinks), Outcome::Unavailable { .. }));
}
