//! Creates the database or bucket when it is missing, as Butler SOS does.
//!
//! What exists is left alone: a retention policy is made only together with its database.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::Target;
use super::answer::Answer;
use crate::deliver::http::{Http, Payload, escape};

/// Why nothing was created.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// Out of reach or busy: try again.
    Unavailable(String),
    /// The server says no, or the settings make no sense to it.
    Refused(String),
}

/// Looks for the database or bucket and creates it when it is missing.
pub(super) async fn run(http: &Http, target: &Target) -> Result<(), Problem> {
    match target {
        Target::V1 { database, retention_policy, .. } => {
            database_v1(http, database, retention_policy.as_ref()).await
        }
        Target::V2 { organisation, bucket, description, retention, .. } => {
            bucket_v2(http, organisation, bucket, description, retention).await
        }
        Target::V3 { .. } => Ok(()),
    }
}

async fn database_v1(
    http: &Http,
    database: &str,
    policy: Option<&(String, String)>,
) -> Result<(), Problem> {
    let create = create_database(database, policy)?;
    let found = ask(http, Method::GET, &query_path("SHOW DATABASES"), Bytes::new()).await?;
    let names = &found["results"][0]["series"][0]["values"];
    if names.as_array().is_some_and(|rows| rows.iter().any(|row| row[0] == database)) {
        return Ok(());
    }
    ask(http, Method::POST, &query_path(&create), Bytes::new()).await?;
    tracing::info!(database, "created the database in InfluxDB");
    Ok(())
}

fn query_path(query: &str) -> String {
    format!("/query?q={}", escape(query))
}

/// The statement that creates a database. Its retention policy becomes the default one.
fn create_database(database: &str, policy: Option<&(String, String)>) -> Result<String, Problem> {
    let database = identifier(database);
    let Some((name, duration)) = policy else { return Ok(format!("CREATE DATABASE {database}")) };
    if !is_duration(duration) {
        return Err(Problem::Refused(format!(
            "v1Config.retentionPolicy.duration: `{duration}` is not a duration such as 10d or INF"
        )));
    }
    let name = identifier(name);
    Ok(format!("CREATE DATABASE {database} WITH DURATION {duration} REPLICATION 1 NAME {name}"))
}

/// A quoted `InfluxQL` identifier.
fn identifier(name: &str) -> String {
    let escaped = name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// Whether the text is an `InfluxQL` duration, which cannot be quoted.
fn is_duration(text: &str) -> bool {
    let is_sequence = text.starts_with(|first: char| first.is_ascii_digit())
        && text.ends_with(|last: char| !last.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || "nuµmshdw".contains(c));
    is_sequence || text.eq_ignore_ascii_case("inf")
}

async fn bucket_v2(
    http: &Http,
    organisation: &str,
    bucket: &str,
    description: &str,
    retention: &str,
) -> Result<(), Problem> {
    let found =
        ask(http, Method::GET, &format!("/api/v2/orgs?org={}", escape(organisation)), Bytes::new())
            .await?;
    let Some(id) = found["orgs"][0]["id"].as_str() else {
        return Err(Problem::Refused(format!("there is no organisation `{organisation}`")));
    };
    let path = format!("/api/v2/buckets?orgID={}&name={}", escape(id), escape(bucket));
    match send(http, Method::GET, &path, Bytes::new()).await? {
        Answer { status: 404, .. } => {}
        answer => {
            let found = accepted(&answer)?;
            if found["buckets"].as_array().is_some_and(|buckets| !buckets.is_empty()) {
                return Ok(());
            }
        }
    }
    let rules = match retention_seconds(retention)? {
        0 => json!([]),
        seconds => json!([{ "type": "expire", "everySeconds": seconds }]),
    };
    let create = json!({
        "orgID": id,
        "name": bucket,
        "description": description,
        "retentionRules": rules,
    });
    ask(http, Method::POST, "/api/v2/buckets", create.to_string().into()).await?;
    tracing::info!(bucket, "created the bucket in InfluxDB");
    Ok(())
}

/// `10d`, `1h30m` in seconds; 0 for ever.
fn retention_seconds(text: &str) -> Result<u64, Problem> {
    let wrong = || {
        Problem::Refused(format!(
            "v2Config.retentionDuration: `{text}` is not a duration such as 10d, 12h or 0"
        ))
    };
    if text == "0" || text.eq_ignore_ascii_case("inf") {
        return Ok(0);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = match rest.as_bytes().first() {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 60 * 60,
            Some(b'd') => 24 * 60 * 60,
            Some(b'w') => 7 * 24 * 60 * 60,
            Some(b'y') => 365 * 24 * 60 * 60,
            _ => return Err(wrong()),
        };
        rest = &rest[1..];
        total = count.checked_mul(unit).and_then(|s| s.checked_add(total)).ok_or_else(wrong)?;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

async fn ask(http: &Http, method: Method, path: &str, body: Bytes) -> Result<Value, Problem> {
    accepted(&send(http, method, path, body).await?)
}

async fn send(http: &Http, method: Method, path: &str, body: Bytes) -> Result<Answer, Problem> {
    http.request(method, path, "application/json; charset=utf-8", Payload::plain(body))
        .await
        .map_err(Problem::Unavailable)
}

/// The answer as JSON, if it is one of success. InfluxDB 1 may answer 200 and still report an error.
fn accepted(answer: &Answer) -> Result<Value, Problem> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let error = [&body["error"], &body["message"], &body["results"][0]["error"]]
        .into_iter()
        .find_map(Value::as_str);
    match (answer.status, error) {
        (200..=299, None) => Ok(body),
        (status @ (408 | 429 | 500..=599), error) => {
            Err(Problem::Unavailable(format!("HTTP {status}: {}", error.unwrap_or("no reason"))))
        }
        (status, error) => {
            Err(Problem::Refused(format!("HTTP {status}: {}", error.unwrap_or("no reason"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_cannot_be_broken_out_of() {
        let policy = ("1\"0d".to_owned(), "10d".to_owned());
        assert_eq!(
            create_database("a\\\";DROP DATABASE \"b", Some(&policy)).unwrap(),
            r#"CREATE DATABASE "a\\\";DROP DATABASE \"b" WITH DURATION 10d REPLICATION 1 NAME "1\"0d""#
        );
        assert_eq!(create_database("a", None).unwrap(), r#"CREATE DATABASE "a""#);
        for duration in ["", "d", "10", "10d; DROP", "-1d", "10d REPLICATION 9"] {
            let policy = ("p".to_owned(), duration.to_owned());
            assert!(create_database("a", Some(&policy)).is_err(), "{duration}");
        }
        for duration in ["10d", "1h30m", "INF", "52w"] {
            assert!(is_duration(duration), "{duration}");
        }
    }

    #[test]
    fn retention_of_a_bucket() {
        for (text, seconds) in
            [("10d", 864_000), ("1h30m", 5400), ("0", 0), ("inf", 0), ("2w", 1_209_600)]
        {
            assert_eq!(retention_seconds(text), Ok(seconds), "{text}");
        }
        for text in ["", "d", "10", "10x", "99999999999999999999d", "9999999999999999y", "1é"] {
            assert!(retention_seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn answers() {
        let answer = |status, body: &str| Answer {
            status,
            retry_after: None,
            date: None,
            body: body.into(),
        };
        let fine = answer(200, r#"{"results":[{"statement_id":0}]}"#);
        assert!(accepted(&fine).is_ok());
        let error = answer(200, r#"{"results":[{"error":"retention policy conflicts"}]}"#);
        assert_eq!(
            accepted(&error),
            Err(Problem::Refused("HTTP 200: retention policy conflicts".into()))
        );
        assert!(matches!(accepted(&answer(401, "{}")), Err(Problem::Refused(_))));
        assert!(matches!(accepted(&answer(503, "")), Err(Problem::Unavailable(_))));
    }
}
