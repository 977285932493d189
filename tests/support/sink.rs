//! An HTTP/1.1 server that takes what a destination is sent and answers as it is told.
//!
//! It stands in for InfluxDB where a test asks what arrives, when, and what the sender does about
//! the answer; and in the measurements under `perf/`, where it must cost little: without recording,
//! a body is read through one buffer and only its newlines are counted (300 MB/s cost a few per
//! cent of a core). Keep-alive, `Content-Length`, `chunked` and gzip are understood.
//!
//! Included by path (`#[path = "support/sink.rs"] mod sink;`), so not every user needs all of it.
#![allow(dead_code, reason = "each test that includes this file uses its own part")]

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;

/// Bytes read at once; a few times the largest socket read that loopback gives.
const BUFFER: usize = 256 * 1024;
/// The longest request head that is read; longer ones end the connection.
const HEAD_MAX: u64 = 64 * 1024;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// 0 for the first request of this sink, then 1, and so on, over all connections.
    pub number: u64,
    /// `POST` and so on.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, decompressed; empty unless [`Options::record`] or [`Options::answer`] is set.
    pub body: Vec<u8>,
    /// When the last byte had been read.
    pub at: Instant,
}

impl Request {
    /// The value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }
}

/// What a request is answered with.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body; a status of 204 has none.
    pub body: String,
}

impl Reply {
    /// A status without a body.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    /// A status with a JSON body.
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        let headers = vec![("Content-Type", "application/json".to_owned())];
        Self { status, headers, body: body.into() }
    }
}

/// Looks at a part of a body as it is read.
pub type Watch = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// Chooses the answer to a request.
pub type Answer = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// How a sink behaves.
#[derive(Clone)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Status that writes are answered with. Other requests (creating a database, a ping) get 200
    /// and an empty result, as InfluxDB gives them.
    pub status: u16,
    /// How long each answer is held back.
    pub delay: Duration,
    /// Whether requests are kept for [`Sink::requests`] and [`Sink::bodies`].
    pub record: bool,
    /// Chooses each answer instead; it sees the body even if nothing is recorded.
    pub answer: Option<Answer>,
    /// Sees every body, part by part, as it was sent.
    pub watch: Option<Watch>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            status: 204,
            delay: Duration::ZERO,
            record: false,
            answer: None,
            watch: None,
        }
    }
}

/// What a sink has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests read to their end.
    pub requests: u64,
    /// Lines in the bodies sent to a path with `/write` in it; an unended last line is one.
    pub lines: u64,
    /// Bytes of all bodies as sent (compressed, if they were).
    pub bytes: u64,
}

/// A running server; it stops when dropped.
pub struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    options: Options,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    totals: Totals,
    recorded: Vec<Request>,
    connections: Vec<TcpStream>,
    workers: Vec<JoinHandle<()>>,
    stopping: bool,
}

impl Sink {
    /// Binds and serves in threads of its own, one per connection.
    pub fn start(options: Options) -> Self {
        let listener = TcpListener::bind(options.bind).expect("bind the sink");
        let address = listener.local_addr().expect("address of the sink");
        let shared = Arc::new(Shared { options, state: Mutex::default(), changed: Condvar::new() });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Answers every request with `answer`, and records.
    pub fn answering(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Options { record: true, answer: Some(Arc::new(answer)), ..Options::default() })
    }

    /// Records, and answers writes with 204.
    pub fn recording() -> Self {
        Self::start(Options { record: true, ..Options::default() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS`, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What arrived so far.
    pub fn totals(&self) -> Totals {
        self.shared.lock().totals
    }

    /// [`Totals::lines`].
    pub fn lines(&self) -> u64 {
        self.totals().lines
    }

    /// The recorded requests, in the order in which they were complete.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().recorded.clone()
    }

    /// The recorded bodies, decompressed.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.shared.lock().recorded.iter().map(|request| request.body.clone()).collect()
    }

    /// Waits until `done` holds, at most `timeout`; whether it did.
    pub fn wait_until(&self, timeout: Duration, done: impl Fn(&Totals) -> bool) -> bool {
        let state = self.shared.lock();
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, timeout, |state| !done(&state.totals))
            .unwrap_or_else(PoisonError::into_inner);
        done(&state.totals)
    }

    /// Waits for at least `lines` lines, at most `timeout`; whether they came.
    pub fn wait_for_lines(&self, lines: u64, timeout: Duration) -> bool {
        self.wait_until(timeout, |totals| totals.lines >= lines)
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let (connections, workers) = {
            let mut state = self.shared.lock();
            state.stopping = true;
            (std::mem::take(&mut state.connections), std::mem::take(&mut state.workers))
        };
        for connection in &connections {
            // Already closed by the other side: nothing left to end.
            let _ = connection.shutdown(Shutdown::Both);
        }
        // A connection of our own ends the wait in `accept`; refused, it has already ended.
        let _ = TcpStream::connect(self.address);
        for thread in self.acceptor.take().into_iter().chain(workers) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { return };
        let Ok(handle) = stream.try_clone() else { return };
        let mut state = shared.lock();
        if state.stopping {
            return;
        }
        state.connections.push(handle);
        let worker = Arc::clone(shared);
        // An I/O error here is the other side hanging up, which it may.
        state.workers.push(thread::spawn(move || drop(serve(&stream, &worker))));
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(BUFFER, stream);
    while let Some(head) = Head::read(&mut reader)? {
        let close = head.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        let mut body = BodyReader::new(&head, &shared.options);
        body.read(&mut reader, &head)?;
        let reply = shared.take(head, body)?;
        if !shared.options.delay.is_zero() {
            thread::sleep(shared.options.delay);
        }
        write_reply(stream, &reply)?;
        if close {
            break;
        }
    }
    stream.shutdown(Shutdown::Both)
}

impl Options {
    fn wants_bodies(&self) -> bool {
        self.record || self.answer.is_some()
    }
}

impl Shared {
    /// Counts and records a request that was read, and chooses its answer.
    fn take(&self, head: Head, body: BodyReader<'_>) -> io::Result<Reply> {
        let bytes = body.bytes;
        let (lines, body) = body.finish()?;
        let is_write = head.path.contains("/write");
        let lines = if is_write { lines } else { 0 };
        let mut request = Request {
            number: 0,
            method: head.method,
            path: head.path,
            headers: head.headers,
            body,
            at: Instant::now(),
        };
        {
            let mut state = self.lock();
            request.number = state.totals.requests;
            state.totals.requests += 1;
            state.totals.lines += lines;
            state.totals.bytes += bytes;
            if self.options.record {
                state.recorded.push(request.clone());
            }
        }
        self.changed.notify_all();
        Ok(match &self.options.answer {
            Some(answer) => answer(&request),
            None if is_write => Reply::status(self.options.status),
            None => Reply::json(200, r#"{"results":[]}"#),
        })
    }
}

struct Head {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Reads a request line and headers; `None` when the connection ends before them.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut reader = reader.take(HEAD_MAX);
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            return Err(invalid("request line"));
        };
        let (method, path) = (method.to_owned(), path.to_owned());
        let mut headers = Vec::new();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let text = line.trim_end();
            if text.is_empty() {
                return Ok(Some(Self { method, path, headers }));
            }
            let (name, value) = text.split_once(':').ok_or_else(|| invalid("header"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.header(name).is_some_and(|found| found.eq_ignore_ascii_case(value))
    }
}

/// Counts a body and, where it is needed later, keeps it.
struct BodyReader<'a> {
    watch: Option<&'a Watch>,
    gzip: bool,
    keep: bool,
    bytes: u64,
    newlines: u64,
    last: Option<u8>,
    kept: Vec<u8>,
}

impl<'a> BodyReader<'a> {
    fn new(head: &Head, options: &'a Options) -> Self {
        let gzip = head.is("content-encoding", "gzip");
        // Compressed bytes are kept, as their lines can only be counted at the end.
        let (watch, keep) = (options.watch.as_ref(), options.wants_bodies() || gzip);
        Self { watch, gzip, keep, bytes: 0, newlines: 0, last: None, kept: Vec::new() }
    }

    fn read(&mut self, reader: &mut impl BufRead, head: &Head) -> io::Result<()> {
        if head.is("transfer-encoding", "chunked") {
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let digits = line.trim_end().split(';').next().unwrap_or_default();
                let size = u64::from_str_radix(digits, 16).map_err(|_| invalid("chunk size"))?;
                self.read_exact(reader, size)?;
                line.clear();
                reader.read_line(&mut line)?;
                if size == 0 {
                    return Ok(());
                }
            }
        }
        match head.header("content-length") {
            Some(text) => {
                let length = text.parse().map_err(|_| invalid("content length"))?;
                self.read_exact(reader, length)
            }
            None => Ok(()),
        }
    }

    fn read_exact(&mut self, reader: &mut impl BufRead, mut left: u64) -> io::Result<()> {
        while left > 0 {
            let bytes = reader.fill_buf()?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let bytes = &bytes[..taken];
            self.newlines += memchr::memchr_iter(b'\n', bytes).count() as u64;
            self.last = bytes.last().copied();
            if let Some(watch) = self.watch {
                watch(bytes);
            }
            if self.keep {
                self.kept.extend_from_slice(bytes);
            }
            reader.consume(taken);
            left -= taken as u64;
            self.bytes += taken as u64;
        }
        Ok(())
    }

    /// The number of lines, and the body as text if it was kept.
    fn finish(self) -> io::Result<(u64, Vec<u8>)> {
        if !self.gzip {
            return Ok((count_lines(self.newlines, self.last), self.kept));
        }
        let mut text = Vec::new();
        MultiGzDecoder::new(&self.kept[..]).read_to_end(&mut text)?;
        let newlines = memchr::memchr_iter(b'\n', &text).count() as u64;
        Ok((count_lines(newlines, text.last().copied()), text))
    }
}

fn count_lines(newlines: u64, last: Option<u8>) -> u64 {
    newlines + u64::from(last.is_some_and(|byte| byte != b'\n'))
}

fn write_reply(mut stream: &TcpStream, reply: &Reply) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {} -\r\n", reply.status);
    for (name, value) in &reply.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if reply.status != 204 {
        text.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    text.push_str("\r\n");
    text.push_str(&reply.body);
    stream.write_all(text.as_bytes())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP/1.1: {what}"))
}
