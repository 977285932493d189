//! Hands batches to the connection, which has to be looked after between batches too: a broker drops
//! a client that is silent.

use std::cell::Cell;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::deliver::{Outcome, Transport};

/// A batch for the connection, and where its outcome goes.
#[derive(Debug)]
pub(crate) struct Job {
    pub(super) body: Bytes,
    pub(super) outcome: oneshot::Sender<Outcome>,
}

/// A [`Transport`] to one broker.
#[derive(Debug)]
pub struct MqttTransport {
    jobs: mpsc::Sender<Job>,
    sent_bytes: Cell<u64>,
}

impl MqttTransport {
    /// A transport, and where the connection gets its batches.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Job>) {
        // Order matters, so there is one batch at a time.
        let (jobs, receiver) = mpsc::channel(1);
        (Self { jobs, sent_bytes: Cell::new(0) }, receiver)
    }
}

impl Transport for MqttTransport {
    async fn send(&self, body: Bytes, _events: u32) -> Outcome {
        let length = body.len() as u64;
        let (outcome, answer) = oneshot::channel();
        let sent = self.jobs.send(Job { body, outcome }).await;
        let (Ok(()), Ok(outcome)) = (sent, answer.await) else {
            return Outcome::Unavailable {
                reason: "mqtt: the connection has ended".into(),
                after: None,
            };
        };
        if outcome == Outcome::Delivered {
            self.sent_bytes.set(self.sent_bytes.get() + length);
        }
        outcome
    }

    fn unordered(&self) -> bool {
        false
    }

    fn sent_bytes(&self) -> u64 {
        self.sent_bytes.get()
    }
}
