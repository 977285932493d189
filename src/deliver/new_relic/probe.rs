//! Can New Relic be reached?
//!
//! Its Event API has no question that a key answers without events: whether the key is right shows
//! with the first of them. So this asks for a page that does not exist, and any answer will do.

use bytes::Bytes;
use hyper::Method;

use super::transport::client;
use super::{Account, NewRelicError};
use crate::deliver::http::Payload;
use crate::deliver::probe::{Probed, Verdict};
use std::time::Duration;

/// As long as for events.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks once; nothing is inserted, and the key is not sent.
pub async fn probe(account: &Account) -> Result<Probed, NewRelicError> {
    let nobody = Account { api_key: "none".into(), headers: Vec::new(), ..account.clone() };
    let (http, folder) = client(&nobody, TIMEOUT)?;
    let (path, kind) = (format!("{folder}/"), "application/json");
    let answer = http.request(Method::GET, &path, kind, Payload::plain(Bytes::new())).await;
    Ok(match answer {
        Ok(answer) => Probed::new(
            Verdict::Takes,
            "can be reached; whether it takes the key shows with the first events",
            "",
        )
        .with_clock(answer.date),
        Err(error) => Probed::new(
            Verdict::Refuses,
            format!("cannot be reached: {error}"),
            "check newRelic.event.url, and that this host may call it: firewalls, and the system's \
             certificate authorities",
        ),
    })
}
