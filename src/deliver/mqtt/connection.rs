//! The one connection to the broker.
//!
//! The MQTT library keeps what it has queued and what is not acknowledged yet, but forgets it when it
//! connects anew, since the broker has no session for us. So nothing is trusted to it: the connection
//! works on one batch, and the batch is done when each of its messages is. After any failure the
//! library's state is thrown away as a whole, and the batch goes back to where retries are decided.
//! That is also why acknowledgements need only be counted: whatever comes on a connection belongs to
//! the one batch that is on it, and the library breaks the connection on an acknowledgement of
//! something that was not sent.
//!
//! One failure is dealt with here, since it belongs to a message and not to the broker: a connection
//! that is closed while messages are under way is made anew, and they are published in groups and one
//! at a time; see [`super::suspicion`].

use std::slice;
use std::time::{Duration, Instant};

use bytes::Bytes;
use memchr::memchr;
use rumqttc::{ConnectReturnCode, ConnectionError, TlsError};
use tokio::sync::mpsc;

use super::link::Link;
use super::suspicion::{Suspicion, Verdict};
use super::transport::Job;
use crate::deliver::Outcome;
use crate::observe::logging::RateLimited;

/// The way to the broker, and what is known about messages at which it closes.
pub(crate) struct Connection<L> {
    link: L,
    suspicion: Suspicion,
    /// Warnings about connections that end while messages are under way.
    warnings: RateLimited,
    start: Instant,
}

/// A message of a batch.
pub(crate) struct Message {
    /// The line of the batch that it comes from; a line may have several topics.
    pub(crate) line: u32,
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
}

/// Why a batch is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There was no connection, or it failed with nothing of the batch sent, or without regard to it.
    #[error(transparent)]
    Connection(ConnectionError),
    /// The connection ended when `sent` messages had been sent, the first of which are certainly taken.
    #[error("{error}")]
    Closed { taken: usize, sent: usize, error: ConnectionError },
    /// The connection ended while this message, and no other, was under way.
    #[error("{error}; a message of {bytes} bytes to `{topic}` was under way alone")]
    ClosedAt { topic: String, bytes: usize, error: ConnectionError },
    /// It did so again and again.
    #[error(
        "the connection ends whenever it gets a message of {bytes} bytes to `{topic}`: {error}"
    )]
    Refused { line: u32, topic: String, bytes: usize, error: ConnectionError },
    #[error("no acknowledgement for {} seconds", _0.as_secs())]
    Silence(Duration),
}

impl<L: Link> Connection<L> {
    /// Connects to nothing yet.
    pub(crate) fn over(link: L) -> Self {
        Self {
            link,
            suspicion: Suspicion::default(),
            warnings: RateLimited::new(),
            start: Instant::now(),
        }
    }

    /// Publishes batches until there are no more.
    pub(crate) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        loop {
            tokio::select! {
                biased;
                job = jobs.recv() => match job {
                    Some(job) => self.serve(job).await,
                    None => break,
                },
                () = self.link.stay_connected() => {}
            }
        }
        self.link.say_farewell().await;
    }

    async fn serve(&mut self, job: Job) {
        let Job { body, mut outcome } = job;
        let result = tokio::select! {
            result = self.publish(&body) => result,
            // The time to shut down is over.
            () = outcome.closed() => {
                self.link.drop_connection();
                return;
            }
        };
        if result.is_err() {
            self.link.drop_connection();
        }
        // All messages, which are parts of the body, are gone: its memory can be used again.
        drop(body);
        let (host, port) = self.link.address();
        let result =
            result.map_or_else(|failure| failure.outcome(&host, port), |()| Outcome::Delivered);
        // Nobody waits for it if the time to shut down ended just now.
        let _ = outcome.send(result);
    }

    /// Publishes all messages of a batch and waits until each is done.
    async fn publish(&mut self, body: &Bytes) -> Result<(), Failure> {
        let messages: Vec<Message> = messages(body).collect();
        let mut rest = &messages[..];
        while let Some(first) = rest.first() {
            let (together, others) = rest.split_at(self.suspicion.together(rest));
            if together.len() == 1 && self.suspicion.is_suspect(first) {
                self.publish_alone(first, others).await?;
                rest = others;
                continue;
            }
            match self.link.publish(together).await {
                Ok(()) => {
                    self.suspicion.taken(together);
                    rest = others;
                }
                Err(Failure::Closed { taken, sent, error }) => {
                    // The library counted, not we.
                    let sent = sent.min(together.len());
                    let taken = taken.min(sent);
                    self.suspicion.closed(&together[taken..sent], L::ALONE_MAX);
                    rest = &rest[taken..];
                    self.warn(sent - taken, &error);
                    self.pause().await;
                }
                Err(failure) => return Err(failure),
            }
        }
        self.suspicion.delivered();
        Ok(())
    }

    /// Publishes a suspect until the broker takes it or it is refused.
    async fn publish_alone(
        &mut self,
        message: &Message,
        others: &[Message],
    ) -> Result<(), Failure> {
        loop {
            let error = match self.link.publish_alone(message).await {
                Ok(()) => {
                    self.suspicion.taken(slice::from_ref(message));
                    return Ok(());
                }
                Err(Failure::Closed { error, .. }) => error,
                Err(failure) => return Err(failure),
            };
            let Message { line, ref topic, ref payload } = *message;
            let (topic, bytes) = (topic.clone(), payload.len());
            let mut verdict = self.suspicion.closed_at(message);
            self.warn(1, &error);
            if verdict != Verdict::Refused {
                self.pause().await;
            }
            if verdict == Verdict::Unproven && self.takes_another(line, others).await {
                verdict = self.suspicion.refuse(message);
            }
            match verdict {
                Verdict::Again => {}
                Verdict::Refused => return Err(Failure::Refused { line, topic, bytes, error }),
                Verdict::Unproven => return Err(Failure::ClosedAt { topic, bytes, error }),
            }
        }
    }

    /// Whether the broker takes a message of the next event. That one overtakes only what is refused
    /// if it does, and it comes again in its place.
    async fn takes_another(&mut self, line: u32, others: &[Message]) -> bool {
        match others.iter().find(|other| other.line != line) {
            Some(other) => self.link.publish_alone(other).await.is_ok(),
            None => false,
        }
    }

    /// Nobody else tells of a connection that ends and is made anew before an attempt is over.
    fn warn(&self, under_way: usize, error: &ConnectionError) {
        if let Some(suppressed) = self.warnings.allow(self.start.elapsed()) {
            let (host, port) = self.link.address();
            tracing::warn!(
                suppressed,
                "mqtt {host}:{port}: the connection ended with {under_way} messages under way: \
                 {error}; it is made anew and they are published again; see the broker's log"
            );
        }
    }

    /// Leaves the broker alone for a moment, before the connection is made anew.
    async fn pause(&mut self) {
        self.link.drop_connection();
        self.link.pause().await;
    }
}

/// What stands before each topic of a line; see [`super::encode`].
const TOPIC: u8 = b'\t';

/// The messages of a batch.
fn messages(body: &Bytes) -> impl Iterator<Item = Message> {
    (0..).zip(body.split(|&byte| byte == b'\n')).flat_map(move |(line, text)| {
        let end = memchr(TOPIC, text).unwrap_or(text.len());
        let (payload, topics) = text.split_at(end);
        let topics = topics.split(|&byte| byte == TOPIC).skip(1);
        topics.map(move |topic| Message {
            line,
            topic: String::from_utf8_lossy(topic).into_owned(),
            payload: body.slice_ref(payload),
        })
    })
}

impl Failure {
    fn outcome(&self, host: &str, port: u16) -> Outcome {
        let reason = format!("mqtt {host}:{port}: {self}");
        if let Self::Refused { line, .. } = self {
            Outcome::RefusedLines { lines: vec![*line], reason }
        } else if self.is_configuration() {
            Outcome::Misconfigured { reason }
        } else {
            Outcome::Unavailable { reason, after: None }
        }
    }

    /// Whether trying again will not help before somebody changes something.
    fn is_configuration(&self) -> bool {
        use ConnectReturnCode::{
            BadClientId, BadUserNamePassword, NotAuthorized, RefusedProtocolVersion,
        };
        match self {
            Self::Connection(ConnectionError::ConnectionRefused(code)) => matches!(
                code,
                BadClientId | BadUserNamePassword | NotAuthorized | RefusedProtocolVersion
            ),
            // A certificate that is not accepted is invalid data; a broken connection is neither.
            Self::Connection(ConnectionError::Tls(TlsError::Io(error))) => {
                error.kind() == std::io::ErrorKind::InvalidData
            }
            Self::Connection(ConnectionError::Tls(_)) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_of_a_line_is_a_message() {
        let body = Bytes::from("{\"a\":1}\tx\ty/z\n{}\tx\n");
        let read: Vec<_> = messages(&body).map(|it| (it.line, it.payload, it.topic)).collect();
        let wanted = [(0, "{\"a\":1}", "x"), (0, "{\"a\":1}", "y/z"), (1, "{}", "x")];
        assert_eq!(
            read,
            wanted.map(|(line, payload, topic)| (line, Bytes::from(payload), topic.to_owned()))
        );
    }

    #[test]
    fn a_refused_password_is_not_an_outage() {
        let refused = |code| Failure::Connection(ConnectionError::ConnectionRefused(code));
        assert!(refused(ConnectReturnCode::BadUserNamePassword).is_configuration());
        assert!(!refused(ConnectReturnCode::ServiceUnavailable).is_configuration());
        assert!(!Failure::Silence(Duration::from_secs(30)).is_configuration());
    }
}
