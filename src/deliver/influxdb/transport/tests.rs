//! The requests themselves, against a server that says what it is told and keeps what it gets.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::GzDecoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::deliver::influxdb::TIMEOUT_DEFAULT;
use crate::secret::Secret;

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// One request: its head, with names in lower case as sent, and its body.
struct Heard {
    head: String,
    body: Vec<u8>,
}

impl Heard {
    fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

async fn hear(stream: &mut TcpStream) -> Heard {
    let mut bytes = Vec::new();
    loop {
        stream.read_buf(&mut bytes).await.unwrap();
        let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut request = Heard { head, body: bytes.split_off(end + 4) };
        let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
        while request.body.len() < length {
            stream.read_buf(&mut request.body).await.unwrap();
        }
        return request;
    }
}

fn settings(target: Target, port: u16) -> InfluxSettings {
    InfluxSettings {
        https: false,
        host: "127.0.0.1".into(),
        port,
        target,
        connect_timeout: Duration::from_secs(5),
        timeout: TIMEOUT_DEFAULT,
        gzip: Gzip::Auto,
    }
}

fn v2() -> Target {
    Target::V2 {
        organisation: "my org".into(),
        bucket: "b".into(),
        description: "d".into(),
        retention: "10d".into(),
        token: Secret::from("mytoken"),
    }
}

/// Sends `bodies` one after another to a server that gives `answers` on one connection.
fn converse(target: Target, answers: &[&str], bodies: &[&str]) -> (Vec<Heard>, Vec<Outcome>) {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let transport = InfluxTransport::new(settings(target, port)).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            for answer in answers {
                heard.push(hear(&mut stream).await);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            heard
        };
        let send = async {
            let mut outcomes = Vec::new();
            for body in bodies {
                let events = u32::try_from(body.lines().count()).unwrap();
                let body = Bytes::copy_from_slice(body.as_bytes());
                outcomes.push(transport.send(body, events).await);
            }
            outcomes
        };
        tokio::join!(serve, send)
    })
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn json(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn v1_writes_where_butler_sos_does() {
    let v1 = Target::V1 { database: "sense ops".into(), retention_policy: None, credentials: None };
    assert_eq!(write_path(&v1), "/write?db=sense%20ops&precision=n&rp=");
    let databases = json(r#"{"results":[{"series":[{"values":[["_internal"],["sense ops"]]}]}]}"#);
    let long = "m v=1 1\n".repeat(200);
    let (heard, outcomes) = converse(v1, &[&databases, NO_CONTENT], &[&long]);
    assert_eq!(outcomes, [Outcome::Delivered]);
    assert_eq!(heard[0].line(), "GET /query?q=SHOW%20DATABASES HTTP/1.1");
    assert_eq!(heard[1].line(), "POST /write?db=sense%20ops&precision=n&rp= HTTP/1.1");
    assert_eq!(heard[1].header("content-encoding"), None);
    assert_eq!(heard[1].header("authorization"), None);
    assert_eq!(heard[1].body, long.as_bytes());
}

#[test]
fn secrets_stay_secret() {
    let shown = format!("{:?}", InfluxTransport::new(settings(v2(), 1)).unwrap());
    assert!(shown.contains("***") && !shown.contains("mytoken"), "{shown}");
}

#[test]
fn v2_creates_the_bucket_and_writes() {
    let long = "m v=1 1\n".repeat(200);
    let (heard, outcomes) = converse(
        v2(),
        &[
            &json(r#"{"orgs":[{"id":"0123"}]}"#),
            &json(r#"{"buckets":[]}"#),
            "HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}",
            NO_CONTENT,
            NO_CONTENT,
        ],
        &["m v=1 1\n", &long],
    );
    assert_eq!(outcomes, [Outcome::Delivered, Outcome::Delivered]);
    assert!(heard.iter().all(|request| request.header("authorization") == Some("Token mytoken")));
    assert_eq!(heard[0].line(), "GET /api/v2/orgs?org=my%20org HTTP/1.1");
    assert_eq!(heard[1].line(), "GET /api/v2/buckets?orgID=0123&name=b HTTP/1.1");
    assert_eq!(heard[2].line(), "POST /api/v2/buckets HTTP/1.1");
    let created: serde_json::Value = serde_json::from_slice(&heard[2].body).unwrap();
    assert_eq!(created["retentionRules"][0]["everySeconds"], 864_000);
    let write = "POST /api/v2/write?org=my%20org&bucket=b&precision=ns HTTP/1.1";
    assert_eq!((heard[3].line(), heard[4].line()), (write, write));
    assert_eq!((heard[3].header("content-encoding"), &*heard[3].body), (None, &b"m v=1 1\n"[..]));
    assert_eq!(heard[4].header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    GzDecoder::new(&*heard[4].body).read_to_string(&mut text).unwrap();
    assert_eq!(text, long);
}

/// A token that may write and nothing else is enough, and a missing bucket is explained.
#[test]
fn v2_writes_even_when_looking_is_forbidden() {
    let forbidden = r#"{"code":"unauthorized","message":"read:orgs is unauthorized"}"#;
    let forbidden = format!(
        "HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n{forbidden}",
        forbidden.len()
    );
    let missing = r#"{"code":"not found","message":"bucket \"b\" not found"}"#;
    let missing =
        format!("HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{missing}", missing.len());
    let (heard, outcomes) = converse(
        v2(),
        &[&forbidden, NO_CONTENT, &missing, &forbidden, NO_CONTENT],
        &["m v=1 1\n", "m v=1 2\n", "m v=1 2\n"],
    );
    assert_eq!((&outcomes[0], &outcomes[2]), (&Outcome::Delivered, &Outcome::Delivered));
    let Outcome::Misconfigured { reason } = &outcomes[1] else { panic!("{outcomes:?}") };
    assert!(reason.contains("bucket \"b\" not found") && reason.contains("read:orgs"), "{reason}");
    assert!(
        heard[3].line().starts_with("GET /api/v2/orgs"),
        "looked for again: {}",
        heard[3].line()
    );
}

#[test]
fn v3_writes_without_looking() {
    let target = Target::V3 { database: "mydatabase".into(), token: Secret::from("mytoken") };
    let busy = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
    let (heard, outcomes) = converse(target, &[busy], &["m v=1 1\n"]);
    assert_eq!(heard[0].line(), "POST /api/v2/write?bucket=mydatabase&precision=ns HTTP/1.1");
    assert_eq!(heard[0].header("content-type"), Some("text/plain; charset=utf-8"));
    let Outcome::Unavailable { after, .. } = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(*after, Some(Duration::from_secs(7)));
}

#[test]
fn an_endless_answer_is_cut() {
    let target = Target::V3 { database: "d".into(), token: Secret::from("t") };
    let endless = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-length: 99999999\r\n\r\n{}",
        "x".repeat(100_000)
    );
    let (_, outcomes) = converse(target, &[&endless], &["m v=1 1\n"]);
    assert!(matches!(outcomes[0], Outcome::RefusedUnnamed { .. }), "{outcomes:?}");
}

#[test]
fn silence_and_refusal_are_named() {
    block_on(async {
        let target = || Target::V3 { database: "d".into(), token: Secret::from("t") };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut impatient = settings(target(), port);
        impatient.timeout = Duration::from_millis(50);
        let transport = InfluxTransport::new(impatient).unwrap();
        let said = |outcome| match outcome {
            Outcome::Unavailable { reason, after: None } => reason,
            other => panic!("{other:?}"),
        };
        let silent = said(transport.send(Bytes::from_static(b"m v=1 1\n"), 1).await);
        assert_eq!(silent, format!("127.0.0.1:{port}: no answer within 50ms"));
        drop(listener);
        let transport = InfluxTransport::new(settings(target(), port)).unwrap();
        let refused = said(transport.send(Bytes::from_static(b"m v=1 1\n"), 1).await);
        assert!(refused.contains("refused"), "{refused}");
    });
}
