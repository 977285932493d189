//! The body of `/api/stream`: the statistics once a second, as server-sent events, while somebody
//! reads them; for the page also the events, the lists and the history of [`Watch`].

use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::observe::recent::Filter;
use crate::observe::stats::{State, Stats};
use crate::observe::watch::{Watch, write_event};

/// Time between two events.
const INTERVAL: Duration = Duration::from_secs(1);

/// Single events at the beginning of a stream, and at most so many at a time later: a screen full.
const EVENTS_MAX: usize = 100;

/// Of these intervals one brings the lists: names that move every second cannot be read.
const INTERVALS_PER_LISTS: u64 = 2;

/// Never ends by itself: the connection's lifetime ends it, and the browser comes back.
pub(super) struct Events {
    state: Arc<State>,
    more: Option<More>,
    tick: Interval,
    /// One of the places for streams, free again when the connection ends.
    _place: OwnedSemaphorePermit,
}

/// What the page gets beyond the statistics.
struct More {
    watch: Arc<Watch>,
    filter: Filter,
    /// The newest event that was looked at.
    seq: u64,
    turn: u64,
    /// Whether the history was sent.
    begun: bool,
}

impl Events {
    pub(super) fn new(state: Arc<State>, place: OwnedSemaphorePermit) -> Self {
        let mut tick = interval(INTERVAL);
        // A reader that was slow gets the present state, not the past ones in a row.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { state, more: None, tick, _place: place }
    }

    /// Sends what the page shows too, of single events those that pass.
    pub(super) fn with_more(mut self, watch: Arc<Watch>, filter: Filter) -> Self {
        self.more = Some(More { watch, filter, seq: 0, turn: 0, begun: false });
        self
    }
}

impl More {
    fn write(&mut self, out: &mut String) {
        let seen = self.watch.seen();
        if !self.begun {
            // Until there is one, the page knows no series.
            self.begun = seen.history.last().is_some();
            write_event(out, "history", &seen.history);
        } else if let Some(point) = seen.history.last() {
            write_event(out, "point", point);
        }
        if self.turn.is_multiple_of(INTERVALS_PER_LISTS) {
            write_event(out, "top", &seen.top());
        }
        seen.write_events(&self.filter, self.seq, EVENTS_MAX, out);
        self.seq = seen.newest.last();
        self.turn += 1;
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
        let mut text = String::new();
        if let Some(more) = &mut self.more {
            more.write(&mut text);
        }
        // JSON has no raw newline, so one `data:` line holds it.
        let json = serde_json::to_string(&Stats::read(&self.state));
        Poll::Ready(json.ok().map(|json| {
            let _ = write!(text, "data: {json}\n\n");
            Ok(Frame::data(Bytes::from(text)))
        }))
    }
}
