//! The HTTP endpoints: live page, statistics, metrics and health. See `docs/http.md`.
//!
//! They run in one thread with a runtime of its own and only read: a slow or hostile client can
//! cost that thread, never the engine. Everything a client can hold has a limit below.

mod guard;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Request, State as Extract};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::host::HostCounters;
use super::recent::Filter;
use super::stats::{Named, State, Stats, ThreadStats};
use super::watch::Watch;
use super::{metrics, page};
use guard::{Guard, Refusal};
pub use guard::{NoRandomness, Token};

/// Connections per bound address; further ones wait in the kernel. A browser opens six.
const CONNECTIONS_MAX: usize = 64;
/// Streams of statistics: so many open pages. A quarter of the connections, so that they cannot keep
/// `/health` and `/metrics` from being answered.
const STREAMS_MAX: usize = CONNECTIONS_MAX / 4;
/// Time for a request's head, for its body and answer, and for an idle connection's next request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection ends after this whatever it does, so a client that does not read cannot keep its
/// place. Open pages reconnect by themselves.
const CONNECTION_LIFETIME: Duration = Duration::from_mins(15);
/// Bytes of a request's head; hyper's minimum. A token of any sensible length fits.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a request's body: a token in a form.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// Events in an answer, unless the request says otherwise.
const EVENTS_DEFAULT: usize = 100;
/// Events in an answer at most: a hostile one has 2 KB, and clients that do not read keep it in memory.
const EVENTS_MAX: usize = 500;
/// Pause after a connection could not be accepted, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What answers at a bound address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything: the section `ringside.console`.
    Console,
    /// `/metrics` only: the section `prometheus`.
    Metrics,
    /// `/health` only: the section `dockerHealthCheck`.
    Health,
    /// The settings in effect only: the section `configVisualisation`.
    Config,
}

impl Part {
    /// The configuration section that asks for it.
    #[must_use]
    pub const fn section(self) -> &'static str {
        match self {
            Self::Console => "Butler-SOS.ringside.console",
            Self::Metrics => "Butler-SOS.prometheus",
            Self::Health => "Butler-SOS.dockerHealthCheck",
            Self::Config => "Butler-SOS.configVisualisation",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Console => "console",
            Self::Metrics => "metrics",
            Self::Health => "health check",
            Self::Config => "page with the configuration",
        })
    }
}

/// Where to answer.
#[derive(Clone, Debug)]
pub struct BindSettings {
    /// What answers there.
    pub part: Part,
    /// IP address or name of a local interface.
    pub host: String,
    /// TCP port; 0 lets the system choose.
    pub port: u16,
    /// The token of the console. Required for the console and the configuration, unless the address
    /// is a loopback address.
    pub token: Option<Token>,
    /// The settings in effect, without secrets, where they are to be shown.
    pub config: Option<Arc<str>>,
}

/// Why the endpoints cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be used.
    #[error("the {part} cannot listen on {host}:{port}: {source}; {}", hint(source, *part))]
    Bind {
        /// For what.
        part: Part,
        /// Where.
        host: String,
        /// Where.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The console would be open to the network.
    #[error(
        "the {part} on {address} can be reached from other machines and needs a token: set \
         Butler-SOS.ringside.console.token, or bind it to 127.0.0.1 with {}.host", part.section()
    )]
    TokenRequired {
        /// For what.
        part: Part,
        /// Where.
        address: SocketAddr,
    },
    /// No secret can be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

fn hint(error: &io::Error, part: Part) -> String {
    let section = part.section();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another program has this port: choose another one with {section}.port")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine does not have the address: correct {section}.host")
        }
        io::ErrorKind::PermissionDenied => {
            format!("choose a port above 1023 with {section}.port")
        }
        _ => format!("check {section}"),
    }
}

/// The bound addresses. Connections wait in the kernel until [`Server::run`].
#[derive(Debug)]
pub struct Server {
    binds: Vec<Bind>,
}

struct Bind {
    part: Part,
    listener: TcpListener,
    address: SocketAddr,
    guard: Guard,
    config: Option<Arc<str>>,
}

impl fmt::Debug for Bind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} on {}", self.part, self.address)
    }
}

impl Bind {
    fn new(settings: &BindSettings, session: &str) -> Result<Self, Error> {
        let BindSettings { part, ref host, port, ref token, ref config } = *settings;
        let open = || {
            let addresses: Vec<_> = (host.as_str(), port).to_socket_addrs()?.collect();
            let listener = TcpListener::bind(addresses.as_slice())?;
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) =
            open().map_err(|source| Error::Bind { part, host: host.clone(), port, source })?;
        // What was bound counts, not how the file names it.
        let loopback = address.ip().to_canonical().is_loopback();
        let open_to_all = matches!(part, Part::Metrics | Part::Health);
        if !open_to_all && !loopback && token.is_none() {
            return Err(Error::TokenRequired { part, address });
        }
        let guard = Guard::new(loopback, token.clone(), session);
        Ok(Self { part, listener, address, guard, config: config.clone() })
    }
}

impl Server {
    /// Binds all addresses, or none.
    pub fn bind(settings: &[BindSettings]) -> Result<Self, Error> {
        let session = guard::random_hex()?;
        let binds =
            settings.iter().map(|bind| Bind::new(bind, &session)).collect::<Result<_, _>>()?;
        Ok(Self { binds })
    }

    /// What answers where.
    pub fn addresses(&self) -> impl Iterator<Item = (Part, SocketAddr)> + '_ {
        self.binds.iter().map(|bind| (bind.part, bind.address))
    }

    /// Answers until `stop` is ready, then closes every connection. Blocks the calling thread.
    pub fn run(self, state: &Arc<State>, stop: impl Future<Output = ()>) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Dropping the runtime at the end drops the tasks, and with them the connections.
        runtime.block_on(async {
            for bind in self.binds {
                let listener = tokio::net::TcpListener::from_std(bind.listener)?;
                let watch = Arc::new(Watch::default());
                if bind.part == Part::Console {
                    tokio::spawn(Arc::clone(&watch).run(Arc::clone(state)));
                }
                let site = Arc::new(Site {
                    state: Arc::clone(state),
                    watch,
                    guard: bind.guard,
                    config: bind.config,
                    streams: Arc::new(Semaphore::new(STREAMS_MAX)),
                });
                tokio::spawn(accept(listener, router(bind.part, site)));
            }
            stop.await;
            Ok(())
        })
    }
}

/// Accepts connections as long as there is room for them.
async fn accept(listener: tokio::net::TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // The semaphore is never closed, so there is always a next place.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(converse(stream, router.clone(), place));
            }
            Err(error) => {
                tracing::debug!(%error, "a console connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one connection's requests. `_place` is free again when it ends.
async fn converse(stream: TcpStream, router: Router, _place: OwnedSemaphorePermit) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // Broken and timed-out connections are the client's affair.
    let _ = timeout(CONNECTION_LIFETIME, connection).await;
}

/// What the answers at one address are made of.
struct Site {
    state: Arc<State>,
    watch: Arc<Watch>,
    guard: Guard,
    config: Option<Arc<str>>,
    streams: Arc<Semaphore>,
}

fn router(part: Part, site: Arc<Site>) -> Router {
    let routes = match part {
        Part::Console => Router::new()
            .route("/", get(live_page))
            .route("/login", post(log_in))
            .route("/api/stats", get(stats))
            .route("/api/stream", get(events))
            .route("/api/config", get(config))
            .route("/api/events", get(newest))
            .route("/api/top", get(top))
            .route("/api/history", get(history))
            .route("/assets/{name}", get(asset))
            .route("/metrics", get(prometheus))
            .route("/health", get(health)),
        Part::Metrics => Router::new().route("/metrics", get(prometheus)),
        Part::Health => Router::new().route("/health", get(health)),
        Part::Config => Router::new().route("/", get(config)).route("/login", post(log_in)),
    };
    routes
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&site), guarded))
        .with_state(site)
}

/// Lets a request through that the guard accepts, and puts the security headers on every answer.
async fn guarded(Extract(site): Extract<Arc<Site>>, request: Request, next: Next) -> Response {
    let is_login = request.method() == Method::POST && request.uri().path() == "/login";
    let is_page = request.method() == Method::GET && request.uri().path() == "/";
    let verdict = if is_login {
        site.guard.check_origin(request.headers())
    } else {
        site.guard.check(request.headers())
    };
    let mut response = match verdict {
        // Streams begin to answer at once, so this is not about them.
        Ok(()) => match timeout(REQUEST_TIMEOUT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
        },
        Err(Refusal::Token) if is_page => html(StatusCode::UNAUTHORIZED, page::LOGIN),
        Err(Refusal::Token) => (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer")],
            format!("{}\n", Refusal::Token),
        )
            .into_response(),
        Err(refusal) => (StatusCode::FORBIDDEN, format!("{refusal}\n")).into_response(),
    };
    let headers = response.headers_mut();
    // Answers other than pages load nothing at all.
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A page whose own script and style, and no others, may run.
fn html(status: StatusCode, template: &str) -> Response {
    let Ok(nonce) = guard::random_hex() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let policy = page::policy(&nonce);
    let body = Html(page::with_nonce(template, &nonce));
    (status, [(header::CONTENT_SECURITY_POLICY, policy)], body).into_response()
}

async fn live_page() -> Response {
    html(StatusCode::OK, page::LIVE)
}

async fn log_in(Extract(site): Extract<Arc<Site>>, body: Bytes) -> Response {
    // The form is sent as text/plain, so there is nothing to decode: `token=VALUE\r\n`.
    let body = body.strip_suffix(b"\r\n").unwrap_or(&body);
    match body.strip_prefix(b"token=").and_then(|token| site.guard.log_in(token)) {
        Some(cookie) => {
            // Relative, so that it holds behind a proxy that gives the page a path.
            let headers = [(header::LOCATION, ".".to_owned()), (header::SET_COOKIE, cookie)];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        None => html(StatusCode::UNAUTHORIZED, &page::LOGIN.replacen(" hidden", "", 1)),
    }
}

/// The settings in effect as YAML; 404 where they are not to be shown.
async fn config(Extract(site): Extract<Arc<Site>>) -> Response {
    match &site.config {
        Some(config) => config.to_string().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn stats(Extract(site): Extract<Arc<Site>>) -> Json<Stats> {
    Json(Stats::read(&site.state))
}

async fn events(Extract(site): Extract<Arc<Site>>, uri: Uri) -> Response {
    let Ok(place) = Arc::clone(&site.streams).try_acquire_owned() else {
        let text = format!("{STREAMS_MAX} streams are open already\n");
        let headers = [(header::RETRY_AFTER, "10")];
        return (StatusCode::SERVICE_UNAVAILABLE, headers, text).into_response();
    };
    let mut more = false;
    let filter = Filter::from_query(uri.query().unwrap_or_default(), |name, _| {
        more |= name == "more";
    });
    let mut events = stream::Events::new(Arc::clone(&site.state), place);
    if more {
        events = events.with_more(Arc::clone(&site.watch), filter);
    }
    let body = Body::new(events);
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// The newest events that pass the query's filter, newest first.
async fn newest(Extract(site): Extract<Arc<Site>>, uri: Uri) -> Response {
    let (mut after, mut limit) = (0, EVENTS_DEFAULT);
    let filter = Filter::from_query(uri.query().unwrap_or_default(), |name, value| match name {
        "after" => after = value.parse().unwrap_or(after),
        "limit" => limit = value.parse().unwrap_or(limit),
        _ => {}
    });
    Json(site.watch.seen().newest.matching(&filter, after, limit.min(EVENTS_MAX))).into_response()
}

/// What occurred most often in the last minutes.
async fn top(Extract(site): Extract<Arc<Site>>) -> Response {
    Json(site.watch.seen().top()).into_response()
}

/// The last minutes, second by second.
async fn history(Extract(site): Extract<Arc<Site>>) -> Response {
    Json(&site.watch.seen().history).into_response()
}

/// What the page is made of.
async fn asset(Path(name): Path<String>) -> Response {
    match page::asset(&name) {
        Some((kind, text)) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn prometheus(Extract(site): Extract<Arc<Site>>) -> Response {
    let text = metrics::render(&Stats::read(&site.state), &HostCounters::read());
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

/// What `/health` answers.
#[derive(Serialize)]
struct HealthAnswer {
    /// `ok` or `failing`.
    status: &'static str,
    /// Where each listener in use is bound; `null` when it is not.
    listeners: Named<&'static str, Option<SocketAddr>>,
    threads: Named<String, ThreadStats>,
    /// The last error of each destination that does not work. Does not make the answer a 503: a
    /// restart would not help, and meanwhile events are kept.
    failing_destinations: Named<String, String>,
}

async fn health(Extract(site): Extract<Arc<Site>>) -> Response {
    let report = site.state.health.report(site.state.health.now());
    let healthy = report.healthy();
    let failing = site.state.ledger.destinations.iter().filter_map(|destination| {
        destination.last_error.get().map(|error| (destination.name.clone(), error))
    });
    let answer = HealthAnswer {
        status: if healthy { "ok" } else { "failing" },
        threads: ThreadStats::of(&report),
        listeners: Named(report.listeners.iter().map(|(l, bound)| (l.name(), *bound)).collect()),
        failing_destinations: Named(failing.collect()),
    };
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(answer)).into_response()
}
