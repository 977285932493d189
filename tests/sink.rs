//! The stand-in server that other tests trust: what it counts and records is what was sent.

#[path = "support/sink.rs"]
mod sink;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use sink::{Reply, Sink, Totals};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends raw bytes on one connection and reads until the sink closes it.
fn exchange(sink: &Sink, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(sink.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn counts_lines_over_keep_alive_chunks_and_gzip() {
    let sink = Sink::recording();
    let zipped = gzip(b"e 1\nf 2\n");
    let mut bytes = b"POST /write?db=a HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\na 1\nb 2\
        POST /write HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nc 1\nd\r\n3\r\n 2\n\r\n0\r\n\r\n\
        POST /query HTTP/1.1\r\nContent-Length: 3\r\n\r\nq=1"
        .to_vec();
    let head = format!(
        "POST /api/v2/write HTTP/1.1\r\nConnection: close\r\nContent-Encoding: gzip\r\n\
         Content-Length: {}\r\n\r\n",
        zipped.len()
    );
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(&zipped);

    let answers = exchange(&sink, &bytes);

    assert_eq!(answers.matches("HTTP/1.1 204 ").count(), 3);
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 1);
    let bytes = 7 + 8 + 3 + zipped.len() as u64;
    assert_eq!(sink.totals(), Totals { requests: 4, lines: 6, bytes });
    assert_eq!(sink.bodies(), [&b"a 1\nb 2"[..], b"c 1\nd 2\n", b"q=1", b"e 1\nf 2\n"]);
    assert_eq!(sink.requests()[3].header("content-encoding"), Some("gzip"));
}

#[test]
fn answers_as_told_and_wakes_whoever_waits() {
    let sink = Sink::answering(|request| match request.number {
        0 => Reply::json(429, "{}"),
        _ => Reply::status(204),
    });
    let request = b"POST /write HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\na\n";
    assert!(exchange(&sink, request).starts_with("HTTP/1.1 429 "));
    assert!(exchange(&sink, request).starts_with("HTTP/1.1 204 "));
    assert!(sink.wait_for_lines(2, TIMEOUT));
    assert!(!sink.wait_for_lines(3, Duration::ZERO));
}
