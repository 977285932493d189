//! A stand-in for `InfluxDB`: takes everything and keeps nothing, and is away when it is told to be.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

/// Bytes of a request: the largest that Ringside sends are 4 MiB.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The stand-in; it answers until the process ends.
#[derive(Clone, Debug)]
pub(super) struct Database {
    address: SocketAddr,
    away: Arc<AtomicBool>,
}

impl Database {
    /// Listens on a port of its own.
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let away = Arc::new(AtomicBool::new(false));
        let site = Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::clone(&away));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serve = move || {
            let served = runtime.block_on(async {
                axum::serve(tokio::net::TcpListener::from_std(listener)?, site).await
            });
            if let Err(error) = served {
                tracing::error!("the demo's database stopped: {error}");
            }
        };
        thread::Builder::new().name("demo-database".into()).spawn(serve)?;
        Ok(Self { address, away })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Goes away, or comes back.
    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }
}

async fn answer(State(away): State<Arc<AtomicBool>>, _body: Bytes) -> Response {
    if away.load(Ordering::Relaxed) {
        let text = "{\"error\":\"the demo's database takes a break\"}";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    StatusCode::NO_CONTENT.into_response()
}
