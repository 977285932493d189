//! The body of `/api/stream`: the statistics once a second, as server-sent events, while somebody
//! reads them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::observe::stats::{State, Stats};

/// Time between two events.
const INTERVAL: Duration = Duration::from_secs(1);

/// Never ends by itself: the connection's lifetime ends it, and the browser comes back.
pub(super) struct Events {
    state: Arc<State>,
    tick: Interval,
    /// One of the places for streams, free again when the connection ends.
    _place: OwnedSemaphorePermit,
}

impl Events {
    pub(super) fn new(state: Arc<State>, place: OwnedSemaphorePermit) -> Self {
        let mut tick = interval(INTERVAL);
        // A reader that was slow gets the present state, not the past ones in a row.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { state, tick, _place: place }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.tick.poll_tick(context));
        // JSON has no raw newline, so one `data:` line holds it.
        let json = serde_json::to_string(&Stats::read(&self.state));
        Poll::Ready(json.ok().map(|json| {
            let event = format!("data: {json}\n\n");
            Ok(Frame::data(Bytes::from(event)))
        }))
    }
}
