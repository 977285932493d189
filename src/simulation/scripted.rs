//! A destination that answers as a test says.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::clock::SimulatedClock;
use crate::deliver::{Clock, Outcome, Transport};

/// One attempt as the simulated destination saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When the attempt began.
    pub at: Duration,
    /// The lines.
    pub body: String,
}

/// A destination that answers as its script says.
pub struct Scripted<S> {
    pub clock: SimulatedClock,
    pub unordered: bool,
    /// From the number of the attempt and its lines to the answer and how long it takes; `None`
    /// never answers.
    pub script: S,
    pub seen: Rc<RefCell<Vec<Seen>>>,
    /// Lines that the destination has.
    pub stored: Rc<RefCell<Vec<String>>>,
    /// Attempts now under way, and the most that ever were.
    pub under_way: Rc<Cell<(usize, usize)>>,
}

/// What a script says about one attempt.
pub type Answer = (Duration, Option<Outcome>);

impl<S: Fn(usize, &[&str]) -> Answer> Scripted<S> {
    pub fn new(clock: &SimulatedClock, script: S) -> Self {
        Self {
            clock: clock.clone(),
            unordered: true,
            script,
            seen: Rc::default(),
            stored: Rc::default(),
            under_way: Rc::default(),
        }
    }
}

impl<S: Fn(usize, &[&str]) -> Answer> Transport for Scripted<S> {
    async fn send(&self, body: Bytes, events: u32) -> Outcome {
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.ends_with('\n'));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), events as usize);
        let number = self.seen.borrow().len();
        self.seen.borrow_mut().push(Seen { at: self.clock.now(), body: text.to_owned() });
        let (now, most) = self.under_way.get();
        self.under_way.set((now + 1, most.max(now + 1)));
        let (delay, outcome) = (self.script)(number, &lines);
        self.clock.sleep(delay).await;
        let Some(outcome) = outcome else { std::future::pending().await };
        let (now, most) = self.under_way.get();
        self.under_way.set((now - 1, most));
        if outcome == Outcome::Delivered {
            self.stored.borrow_mut().extend(lines.iter().map(|&line| line.to_owned()));
        }
        outcome
    }

    fn unordered(&self) -> bool {
        self.unordered
    }

    fn sent_bytes(&self) -> u64 {
        self.seen.borrow().iter().map(|seen| seen.body.len() as u64).sum()
    }
}
