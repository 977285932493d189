//! What an answer to a write says about the lines that were sent.
//!
//! The three versions report refused lines in ways of their own (recorded in the tests below):
//!
//! | version | answer | good lines | refused lines |
//! |---|---|---|---|
//! | 1 | 400 `unable to parse '…': why`, one per line, within `partial write: … dropped=0` | written | quoted whole |
//! | 1 | 400 `partial write: … dropped=N`, the schema or retention forbids them | written | only how many |
//! | 2 | 400 `unable to parse '…': why` | not written | quoted whole |
//! | 2 | 422 `… partial write: … dropped=N` | written | only how many |
//! | 3 | 400 with `data: [{line_number, …}]` | written | numbered from 1 |
//!
//! Quoted and numbered lines are dropped and the rest is sent again, which confirms it; points that
//! are there already are overwritten with themselves. InfluxDB 1 hides lines that do not parse
//! behind a `dropped=N`, so that such a line, in the same batch as a type conflict, would be counted
//! as delivered. The encoder writes no such lines.

use std::collections::HashSet;

use serde_json::Value;

use super::Version;
use crate::deliver::Outcome;
pub use crate::deliver::http::Answer;
use crate::deliver::http::MESSAGE_MAX;

/// What the answer to a write of `events` lines in `batch` means.
#[must_use]
pub fn outcome(version: Version, answer: &Answer, batch: &[u8], events: u32) -> Outcome {
    match answer.status {
        200..=299 => Outcome::Delivered,
        413 => Outcome::TooLarge,
        400 | 422 => refused(answer, batch, events),
        408 | 429 | 500..=599 if !names_missing_policy(answer) => unavailable(answer),
        _ => misconfigured(version, answer),
    }
}

/// Whether the retention policy is missing. InfluxDB 1 says so with status 500.
#[must_use]
pub fn names_missing_policy(answer: &Answer) -> bool {
    answer.status == 500 && message(answer).starts_with("retention policy not found")
}

fn unavailable(answer: &Answer) -> Outcome {
    Outcome::Unavailable { reason: reason(answer), after: answer.retry_after }
}

fn misconfigured(version: Version, answer: &Answer) -> Outcome {
    let what_to_check = match (version, answer.status) {
        (Version::V1, 401 | 403) => "check v1Config.auth and the user's rights on the database",
        (Version::V1, 404 | 500) => "check v1Config.dbName and retentionPolicy",
        (Version::V2, 401 | 403) => "check v2Config.token and its rights on the bucket",
        (Version::V2, 404) => "check v2Config.org and v2Config.bucket",
        (Version::V3, 401 | 403) => "check v3Config.token and its rights on the database",
        (Version::V3, 404) => "check v3Config.database",
        _ => "check host, port and version in influxdbConfig: is this InfluxDB?",
    };
    Outcome::Misconfigured { reason: format!("{}; {what_to_check}", reason(answer)) }
}

fn refused(answer: &Answer, batch: &[u8], events: u32) -> Outcome {
    let reason = reason(answer);
    let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else {
        return Outcome::RefusedUnnamed { reason };
    };
    let message = message_in(&body);
    let lines = if body["data"].is_null() {
        quoted_lines(message, batch)
    } else {
        numbered_lines(&body["data"], events)
    };
    if !lines.is_empty() {
        return Outcome::RefusedLines { lines, reason };
    }
    match dropped(message) {
        Some(refused) => Outcome::Partial { refused: refused.min(events), reason },
        None => Outcome::RefusedUnnamed { reason },
    }
}

/// Versions 1 and 2: the lines of the batch that the message quotes.
fn quoted_lines(message: &str, batch: &[u8]) -> Vec<u32> {
    const BEFORE: &str = "unable to parse '";
    const AFTER: &str = "': ";
    // Places where a quoted line may end; the text of an event may look like one.
    const ENDS_TRIED: usize = 64;

    let lines = || batch.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let known: HashSet<&[u8]> = lines().collect();
    let mut refused: HashSet<&[u8]> = HashSet::new();
    let mut rest = message;
    while let Some(start) = rest.find(BEFORE) {
        rest = &rest[start + BEFORE.len()..];
        let end = rest
            .match_indices(AFTER)
            .take(ENDS_TRIED)
            .find(|(end, _)| known.contains(&rest.as_bytes()[..*end]));
        if let Some((end, _)) = end {
            refused.insert(&rest.as_bytes()[..end]);
            rest = &rest[end..];
        }
    }
    (0..)
        .zip(lines())
        .filter(|(_, line)| refused.contains(line))
        .map(|(number, _)| number)
        .collect()
}

/// Version 3: one object or a list of them, each with a `line_number` that counts from 1.
fn numbered_lines(data: &Value, events: u32) -> Vec<u32> {
    let items = data.as_array().map_or(std::slice::from_ref(data), Vec::as_slice);
    items
        .iter()
        .filter_map(|item| item["line_number"].as_u64()?.checked_sub(1))
        .filter_map(|line| u32::try_from(line).ok())
        .filter(|line| *line < events)
        .collect()
}

/// How many points the server dropped, when it wrote the others.
fn dropped(message: &str) -> Option<u32> {
    let (_, write) = message.split_once("partial write: ")?;
    let (_, count) = write.rsplit_once("dropped=")?;
    let digits = count.bytes().take_while(u8::is_ascii_digit).count();
    count[..digits].parse().ok().filter(|count| *count > 0)
}

/// Status and message, for people.
fn reason(answer: &Answer) -> String {
    let message = message(answer);
    match message.char_indices().nth(MESSAGE_MAX) {
        Some((cut, _)) => format!("HTTP {}: {}…", answer.status, &message[..cut]),
        None => format!("HTTP {}: {message}", answer.status),
    }
}

fn message(answer: &Answer) -> String {
    match serde_json::from_slice::<Value>(&answer.body) {
        Ok(body) if !message_in(&body).is_empty() => message_in(&body).to_owned(),
        _ => String::from_utf8_lossy(&answer.body).trim().to_owned(),
    }
}

/// `error` in versions 1 and 3, `message` in version 2.
fn message_in(body: &Value) -> &str {
    body["error"].as_str().or_else(|| body["message"].as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Version::{V1, V2, V3};
    use std::time::Duration;

    const BATCH: &str = "a v=1 1\nbad line\na v=2 2\nworse\nm,t= v=1\nm v=\"it's 'x': y\" z\n";
    const EVENTS: u32 = 6;

    fn said(version: Version, status: u16, body: &str) -> Outcome {
        let answer = Answer { status, retry_after: None, date: None, body: body.into() };
        outcome(version, &answer, BATCH.as_bytes(), EVENTS)
    }

    fn lines(outcome: Outcome) -> Vec<u32> {
        match outcome {
            Outcome::RefusedLines { lines, .. } => lines,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn taken() {
        for (version, status) in [(V1, 204), (V1, 200), (V2, 204), (V3, 204)] {
            assert_eq!(said(version, status, ""), Outcome::Delivered);
        }
    }

    #[test]
    fn too_large() {
        let body = r#"{"error":"Request Entity Too Large"}"#;
        assert_eq!(said(V1, 413, body), Outcome::TooLarge);
        let body = r#"{"code":"request too large","message":"unable to read data: points batch is too large"}"#;
        assert_eq!(said(V2, 413, body), Outcome::TooLarge);
    }

    /// Answers of 1.6.7, 2.7 and 3.x to what an operator can get wrong.
    #[test]
    fn wrong_configuration() {
        let v2 = r#"{"code":"unauthorized","message":"unauthorized access"}"#;
        let v2_bucket = r#"{"code":"not found","message":"bucket \"b\" not found"}"#;
        let v1_policy = r#"{"error":"retention policy not found: nope"}"#;
        for (version, status, body, shown, hint) in [
            (
                V1,
                401,
                r#"{"error":"authorization failed"}"#,
                "authorization failed",
                "v1Config.auth",
            ),
            (
                V1,
                403,
                r#"{"error":"\"u\" user is not authorized to write to database \"d\""}"#,
                "not authorized",
                "v1Config.auth",
            ),
            (V1, 404, r#"{"error":"database not found: \"d\""}"#, "database not found", "dbName"),
            (V1, 500, v1_policy, "retention policy not found", "retentionPolicy"),
            (V2, 401, v2, "unauthorized access", "v2Config.token"),
            (V2, 404, v2_bucket, "bucket \"b\" not found", "v2Config.bucket"),
            (V3, 401, "", "HTTP 401", "v3Config.token"),
            (V1, 301, "<html>moved</html>", "moved", "is this InfluxDB?"),
            (V2, 405, "", "HTTP 405", "is this InfluxDB?"),
        ] {
            let Outcome::Misconfigured { reason } = said(version, status, body) else {
                panic!("{status} {body}")
            };
            assert!(reason.contains(shown) && reason.contains(hint), "{reason}");
        }
    }

    #[test]
    fn busy() {
        for (status, body) in [
            (500, r#"{"error":"timeout"}"#),
            (
                500,
                r#"{"code":"internal error","message":"unexpected error writing points to database: timeout"}"#,
            ),
            (503, "upstream gone"),
            (502, "<html>"),
            (429, "{}"),
            (408, ""),
        ] {
            assert!(
                matches!(said(V1, status, body), Outcome::Unavailable { .. }),
                "{status} {body}"
            );
        }
        let answer = Answer {
            status: 429,
            retry_after: Some(Duration::from_secs(7)),
            date: None,
            body: vec![],
        };
        let Outcome::Unavailable { after, .. } = outcome(V2, &answer, b"a\n", 1) else { panic!() };
        assert_eq!(after, Some(Duration::from_secs(7)));
    }

    /// 1.6.7, word for word.
    #[test]
    fn v1_quotes_lines() {
        let one = r#"{"error":"partial write: unable to parse 'bad line': invalid field format dropped=0"}"#;
        assert_eq!(lines(said(V1, 400, one)), [1]);
        let all_bad = r#"{"error":"unable to parse 'worse': missing fields"}"#;
        assert_eq!(lines(said(V1, 400, all_bad)), [3]);
        let several = r#"{"error":"partial write: unable to parse 'bad line': invalid field format\nunable to parse 'worse': missing fields\nunable to parse 'm,t= v=1': missing tag value\nunable to parse 'm v=\"it's 'x': y\" z': bad timestamp dropped=0"}"#;
        assert_eq!(lines(said(V1, 400, several)), [1, 3, 4, 5]);
    }

    #[test]
    fn equal_lines_are_refused_together() {
        let body = r#"{"error":"unable to parse 'x': missing fields\nunable to parse 'x': missing fields"}"#;
        let answer = Answer { status: 400, retry_after: None, date: None, body: body.into() };
        assert_eq!(lines(outcome(V1, &answer, b"x\na v=1\nx\n", 3)), [0, 2]);
    }

    /// An event whose text looks like an error message takes no other line with it.
    #[test]
    fn a_line_that_quotes_an_error() {
        let line = r#"m s="unable to parse 'worse': ha" z"#;
        let batch = format!("worse\n{line}\n");
        let body = serde_json::json!({
            "error": format!("partial write: unable to parse '{line}': bad timestamp dropped=0")
        });
        let answer =
            Answer { status: 400, retry_after: None, date: None, body: body.to_string().into() };
        assert_eq!(lines(outcome(V1, &answer, batch.as_bytes(), 2)), [1]);
    }

    #[test]
    fn v1_and_v2_count_what_the_schema_forbids() {
        let v1 = r#"{"error":"partial write: field type conflict: input field \"v\" on measurement \"a\" is type string, already exists as type float dropped=2"}"#;
        let v2 = r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: field type conflict: input field \"v\" on measurement \"a\" is type integer, already exists as type float dropped=2"}"#;
        let old = r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: dropped 2 points outside retention policy of duration 72h0m0s - oldest point a at 2025-08-26T03:26:38Z dropped because it violates a Retention Policy Lower Bound at 2025-09-02T09:04:10Z dropped=2 for database: 0123 for retention policy: autogen"}"#;
        for (version, status, body) in [(V1, 400, v1), (V2, 422, v2), (V2, 422, old)] {
            let Outcome::Partial { refused, .. } = said(version, status, body) else {
                panic!("{body}")
            };
            assert_eq!(refused, 2);
        }
        let more = r#"{"error":"partial write: max-values-per-tag limit exceeded dropped=99"}"#;
        assert!(matches!(said(V1, 400, more), Outcome::Partial { refused: EVENTS, .. }));
    }

    #[test]
    fn v2_quotes_lines() {
        let body = r#"{"code":"invalid","message":"unable to parse 'bad line': invalid field format\nunable to parse 'm,t= v=1': missing tag value"}"#;
        assert_eq!(lines(said(V2, 400, body)), [1, 4]);
    }

    #[test]
    fn v3_numbers_lines() {
        let list = r#"{"error":"partial write of line protocol occurred","data":[{"original_line":"bad line","line_number":2,"error_message":"No fields were provided"},{"original_line":"a v=hi","line_number":6,"error_message":"invalid column type for column 'v', expected iox::column_type::field::float, got iox::column_type::field::string"}]}"#;
        assert_eq!(lines(said(V3, 400, list)), [1, 5]);
        let single = r#"{"error":"parsing failed for write_lp endpoint","data":{"original_line":"bad line","line_number":2,"error_message":"No fields were provided"}}"#;
        assert_eq!(lines(said(V3, 400, single)), [1]);
    }

    #[test]
    fn nameless_and_hostile_answers_are_searched_by_halves() {
        let deep = "[".repeat(60_000);
        let cut = r#"{"error":"partial write: unable to parse 'bad li"#;
        for body in [
            "",
            "no json",
            "null",
            "[]",
            r#"{"error":7}"#,
            r#"{"error":"partial write: dropped="}"#,
            r#"{"error":"partial write: x dropped=99999999999999"}"#,
            r#"{"error":"unable to parse 'not sent': missing fields"}"#,
            r#"{"error":"unable to parse '"}"#,
            r#"{"error":"x","data":[{"line_number":0},{"line_number":7},{"line_number":-1},{"line_number":"2"},3,null]}"#,
            r#"{"error":"x","data":"y"}"#,
            deep.as_str(),
            cut,
        ] {
            for version in [V1, V2, V3] {
                let outcome = said(version, 400, body);
                assert!(matches!(outcome, Outcome::RefusedUnnamed { .. }), "{body}: {outcome:?}");
            }
        }
        let binary = Answer { status: 400, retry_after: None, date: None, body: vec![0xff; 1000] };
        let Outcome::RefusedUnnamed { reason } = outcome(V1, &binary, b"a\n", 1) else { panic!() };
        assert!(reason.chars().count() < MESSAGE_MAX + 20);
    }
}
