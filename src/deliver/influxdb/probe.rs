//! Would InfluxDB take points? It is sent a write of no lines.
//!
//! All versions look at who asks, and versions 1 and 2 also for the database or bucket, before they
//! look at the lines. What they think of there being none differs, and says that the rest was right:
//! version 1 takes it (204), version 2 answers 400 (`writing requires points`), version 3 either.

use bytes::Bytes;
use hyper::Method;

use super::transport::write_path;
use super::{InfluxError, InfluxSettings, Target, Version, http};
use crate::deliver::http::{Answer, Payload};
use crate::deliver::new_relic::transport::reason;
use crate::deliver::probe::{Probed, Verdict};

/// Asks once; nothing is created and nothing is written.
pub async fn probe(settings: &InfluxSettings) -> Result<Probed, InfluxError> {
    let http = http::client(settings)?;
    let (path, text) = (write_path(&settings.target), "text/plain; charset=utf-8");
    let answer = http.request(Method::POST, &path, text, Payload::plain(Bytes::new())).await;
    Ok(match answer {
        Ok(answer) => judge(&settings.target, &answer).with_clock(answer.date),
        Err(error) => unreachable(settings, &error),
    })
}

fn unreachable(settings: &InfluxSettings, error: &str) -> Probed {
    let hint = if error.contains("certificate") {
        "check that the server's certificate is for this name and not expired, and that its authority is \
         among the system's; SSL_CERT_FILE names others"
    } else if settings.https {
        "check influxdbConfig.host and port, that InfluxDB runs and speaks https, and that no firewall \
         is in between"
    } else {
        "check influxdbConfig.host and port, that InfluxDB runs, and that no firewall is in between; if \
         it speaks https, set ringside.influxdb.https"
    };
    Probed::new(Verdict::Refuses, format!("cannot be reached: {error}"), hint)
}

fn judge(target: &Target, answer: &Answer) -> Probed {
    let said = reason(answer);
    let version = target.version();
    match answer.status {
        200..=299 => Probed::new(Verdict::Takes, "takes a write of no lines", ""),
        400 if version != Version::V1 => {
            Probed::new(Verdict::Takes, "lets us write; a write of no lines was sent", "")
        }
        401 | 403 => {
            Probed::new(Verdict::Forbids, format!("does not let us write: {said}"), who(target))
        }
        404 => missing(target, &said),
        408 | 429 | 500..=599 => Probed::new(
            Verdict::Unsure,
            format!("answers, but cannot take writes now: {said}"),
            "see its log; events are kept until it can",
        ),
        _ => Probed::new(
            Verdict::Refuses,
            format!("does not answer as InfluxDB does: {said}"),
            "check influxdbConfig.host, port and version: something else may listen there",
        ),
    }
}

/// What to do about credentials.
fn who(target: &Target) -> &'static str {
    match target {
        Target::V1 { credentials: None, .. } => {
            "the server wants a user: set v1Config.auth with enable, username and password"
        }
        Target::V1 { .. } => {
            "check v1Config.auth.username and password, and that the user may write: GRANT ALL ON the \
             database TO the user"
        }
        Target::V2 { .. } => {
            "check v2Config.token: it has to be a token of this organisation that may write to the bucket"
        }
        Target::V3 { .. } => "check v3Config.token",
    }
}

/// The database or bucket is not there, which is mended with the first event.
fn missing(target: &Target, said: &str) -> Probed {
    match target {
        Target::V2 { organisation, .. } if said.contains("organization") => Probed::new(
            Verdict::Refuses,
            format!("has no organisation `{organisation}`: {said}"),
            "check v2Config.org",
        ),
        Target::V1 { database: name, .. } | Target::V2 { bucket: name, .. } => Probed::new(
            Verdict::Unsure,
            format!("does not have `{name}` yet: {said}"),
            "nothing, if the credentials may create it, which is done before the first write; else create \
             it",
        ),
        Target::V3 { database, .. } => Probed::new(
            Verdict::Unsure,
            format!("does not know `{database}`: {said}"),
            "check v3Config.database, and influxdbConfig.version",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn verdict(target: &Target, status: u16, body: &str) -> Verdict {
        judge(target, &Answer { status, retry_after: None, date: None, body: body.into() }).verdict
    }

    #[test]
    fn what_each_version_answers_to_a_write_of_nothing() {
        let credentials = Some(("me".to_owned(), Secret::from("hush")));
        let v1 = Target::V1 { database: "d".into(), retention_policy: None, credentials };
        let v2 = Target::V2 {
            organisation: "o".into(),
            bucket: "b".into(),
            description: String::new(),
            retention: "10d".into(),
            token: Secret::from("hush"),
        };
        let v3 = Target::V3 { database: "d".into(), token: Secret::from("hush") };
        for target in [&v1, &v2, &v3] {
            assert_eq!(verdict(target, 204, ""), Verdict::Takes);
            assert_eq!(verdict(target, 401, ""), Verdict::Forbids);
            assert_eq!(verdict(target, 403, ""), Verdict::Forbids);
            assert_eq!(verdict(target, 503, ""), Verdict::Unsure);
            assert_eq!(verdict(target, 302, ""), Verdict::Refuses);
        }
        let no_points = r#"{"code":"invalid","message":"writing requires points"}"#;
        assert_eq!(verdict(&v1, 400, no_points), Verdict::Refuses, "version 1 does not say so");
        assert_eq!(verdict(&v2, 400, no_points), Verdict::Takes);
        assert_eq!(verdict(&v3, 400, ""), Verdict::Takes);
        assert_eq!(verdict(&v1, 404, r#"{"error":"database not found: \"d\""}"#), Verdict::Unsure);
        let no_bucket = r#"{"code":"not found","message":"bucket \"b\" not found"}"#;
        assert_eq!(verdict(&v2, 404, no_bucket), Verdict::Unsure);
        let no_org = r#"{"code":"not found","message":"organization name \"o\" not found"}"#;
        assert_eq!(verdict(&v2, 404, no_org), Verdict::Refuses);
    }

    #[test]
    fn a_server_that_wants_a_user_is_told_from_a_wrong_password() {
        let v1 =
            |credentials| Target::V1 { database: "d".into(), retention_policy: None, credentials };
        assert!(who(&v1(None)).contains("wants a user"));
        assert!(who(&v1(Some(("me".into(), Secret::from("x"))))).contains("password"));
    }
}
