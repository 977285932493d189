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
//! that is closed while messages are under way is made anew, and they are published one at a time; see
//! [`super::suspicion`].

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use memchr::memchr;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, Outgoing,
    Packet, PingReq, QoS, Request, TlsError,
};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::suspicion::{Suspicion, Verdict};
use super::transport::Job;
use super::{MqttError, MqttSettings, options};
use crate::deliver::Outcome;

/// Messages between us and the library; enough that it never waits for us.
const QUEUED: usize = 16;

/// A broker that says nothing for so long, though something is due, has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Wait between attempts to connect while there is nothing to send.
const IDLE_RETRY: Duration = Duration::from_secs(30);

/// Wait before a connection is made anew that was closed while messages were under way.
const PAUSE: Duration = Duration::from_millis(250);

/// The longest that a farewell may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Options, and the connection while there is one.
pub(super) struct Connection {
    options: MqttOptions,
    qos: QoS,
    retain: bool,
    live: Option<(AsyncClient, EventLoop)>,
    suspicion: Suspicion,
}

/// A message of a batch.
pub(super) struct Message {
    /// The line of the batch that it comes from; a line may have several topics.
    pub(super) line: u32,
    pub(super) topic: String,
    pub(super) payload: Bytes,
}

/// Why a batch is not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// There was no connection, or it failed with nothing of the batch sent.
    #[error(transparent)]
    Connection(ConnectionError),
    /// The connection ended when so many messages had been sent.
    #[error("{error}")]
    Closed { sent: usize, error: ConnectionError },
    /// The connection ended while this message, and no other, was under way.
    #[error("{error}; a message of {bytes} bytes to `{topic}` was under way alone")]
    ClosedAt { topic: String, bytes: usize, error: ConnectionError },
    /// It did so again and again.
    #[error(
        "the connection ends whenever it gets a message of {bytes} bytes to `{topic}`: {error}"
    )]
    Refused { line: u32, topic: String, bytes: usize, error: ConnectionError },
    #[error("no acknowledgement for {} seconds", ANSWER_TIMEOUT.as_secs())]
    Silence,
}

impl Connection {
    /// Prepares everything and connects to nothing.
    pub(super) fn new(settings: &MqttSettings) -> Result<Self, MqttError> {
        Ok(Self {
            options: options::of(settings)?,
            qos: options::qos(settings.qos),
            retain: settings.retain,
            live: None,
            suspicion: Suspicion::default(),
        })
    }

    /// Publishes batches until there are no more.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        loop {
            tokio::select! {
                biased;
                job = jobs.recv() => match job {
                    Some(job) => self.serve(job).await,
                    None => break,
                },
                () = self.stay_connected() => {}
            }
        }
        self.say_farewell().await;
    }

    /// Connects, answers and pings while there is nothing to publish. Does not end.
    async fn stay_connected(&mut self) {
        loop {
            let (_, events) = live(&mut self.live, &self.options);
            if events.poll().await.is_err() {
                // The next batch will meet the same error and report it.
                self.live = None;
                sleep(IDLE_RETRY).await;
            }
        }
    }

    async fn serve(&mut self, job: Job) {
        let Job { body, mut outcome } = job;
        let result = tokio::select! {
            result = self.publish(&body) => result,
            // The time to shut down is over.
            () = outcome.closed() => {
                self.live = None;
                return;
            }
        };
        if result.is_err() {
            self.live = None;
        }
        // All messages, which are parts of the body, are gone: its memory can be used again.
        drop(body);
        let (host, port) = self.options.broker_address();
        let result =
            result.map_or_else(|failure| failure.outcome(&host, port), |()| Outcome::Delivered);
        // Nobody waits for it if the time to shut down ended just now.
        let _ = outcome.send(result);
    }

    /// Publishes all messages of a batch and waits until each is done.
    async fn publish(&mut self, body: &Bytes) -> Result<(), Failure> {
        let messages: Vec<Message> = messages(body).collect();
        let mut rest = &messages[..];
        while let Some((first, others)) = rest.split_first() {
            if self.suspicion.is_suspect(first) {
                self.publish_alone(first, others).await?;
                rest = others;
                continue;
            }
            let suspect = rest.iter().position(|message| self.suspicion.is_suspect(message));
            let (together, others) = rest.split_at(suspect.unwrap_or(rest.len()));
            match self.publish_together(together).await {
                Ok(()) => {
                    self.suspicion.taken_together();
                    rest = others;
                }
                Err(Failure::Closed { sent, .. }) => {
                    let begin = sent - sent.min(self.under_way_max());
                    self.suspicion.closed(&rest[begin..sent]);
                    rest = &rest[begin..];
                    self.pause().await;
                }
                Err(failure) => return Err(failure),
            }
        }
        self.suspicion.delivered();
        Ok(())
    }

    /// Of the messages that were sent last, how many the broker may not have taken.
    fn under_way_max(&self) -> usize {
        match self.qos {
            // Nothing but the socket has them for certain.
            QoS::AtMostOnce => usize::MAX,
            // The library has to know that one was taken before it sends the one that comes so much
            // later. One more, since a broker may acknowledge a message and close the connection on
            // its account all the same.
            QoS::AtLeastOnce | QoS::ExactlyOnce => usize::from(options::IN_FLIGHT) + 1,
        }
    }

    /// Publishes messages as fast as the broker takes them.
    async fn publish_together(&mut self, messages: &[Message]) -> Result<(), Failure> {
        let (client, events) = live(&mut self.live, &self.options);
        let mut feed = pin!(feed(client, self.qos, self.retain, messages));
        let mut done = pin!(all_done(events, self.qos, messages.len()));
        tokio::select! {
            result = &mut done => result,
            () = &mut feed => done.await,
        }
    }

    /// Publishes a suspect until the broker takes it or it is refused.
    async fn publish_alone(
        &mut self,
        message: &Message,
        others: &[Message],
    ) -> Result<(), Failure> {
        loop {
            let error = match self.try_alone(message).await {
                Err(Failure::Closed { error, .. }) => error,
                result => return result,
            };
            let Message { line, ref topic, ref payload } = *message;
            let (topic, bytes) = (topic.clone(), payload.len());
            let verdict = self.suspicion.closed_at(message);
            if verdict == Verdict::Refused {
                return Err(Failure::Refused { line, topic, bytes, error });
            }
            self.pause().await;
            if verdict == Verdict::Unproven && !self.takes_another(line, others).await {
                return Err(Failure::ClosedAt { topic, bytes, error });
            }
        }
    }

    /// Whether the broker takes a message of another event. It comes too early, and again in its
    /// place: only if the suspect is taken after all does that matter.
    async fn takes_another(&mut self, line: u32, others: &[Message]) -> bool {
        match others.last().filter(|other| other.line != line) {
            Some(other) => self.try_alone(other).await.is_ok(),
            None => false,
        }
    }

    /// Publishes one message, and nothing else before it is certain that the broker has taken it.
    async fn try_alone(&mut self, message: &Message) -> Result<(), Failure> {
        // Only an acknowledgement tells that a message was taken, so there is one at quality of
        // service 0 too.
        let qos = if self.qos == QoS::AtMostOnce { QoS::AtLeastOnce } else { self.qos };
        let (client, events) = live(&mut self.live, &self.options);
        publish(client, qos, self.retain, message).await;
        all_done(events, qos, 1).await?;
        // Some brokers acknowledge a message before they close the connection on its account, so they
        // have to answer once more. Without this the message behind it would be blamed.
        events.pending.push_back(Request::PingReq(PingReq));
        answered(events).await?;
        self.suspicion.taken(message);
        Ok(())
    }

    /// Leaves the broker alone for a moment, before the connection is made anew.
    async fn pause(&mut self) {
        self.live = None;
        sleep(PAUSE).await;
    }

    /// Disconnects properly, so that the broker does not publish the last will.
    async fn say_farewell(&mut self) {
        let Some((client, mut events)) = self.live.take() else { return };
        if events.network.is_none() {
            return;
        }
        let farewell = async {
            // The loop that takes requests is alive, so this cannot fail.
            let _ = client.disconnect().await;
            while !matches!(events.poll().await, Err(_) | Ok(Event::Outgoing(Outgoing::Disconnect)))
            {
            }
        };
        // A broker that does not take it publishes the last will, as it should.
        let _ = timeout(FAREWELL_TIMEOUT, farewell).await;
    }
}

/// The connection, new if there is none.
fn live<'a>(
    live: &'a mut Option<(AsyncClient, EventLoop)>,
    options: &MqttOptions,
) -> &'a mut (AsyncClient, EventLoop) {
    live.get_or_insert_with(|| AsyncClient::new(options.clone(), QUEUED))
}

/// What stands before each topic of a line; see [`super::encode`].
const TOPIC: u8 = b'\t';

/// Hands messages to the library, as fast as it takes them.
async fn feed(client: &AsyncClient, qos: QoS, retain: bool, messages: &[Message]) {
    for message in messages {
        publish(client, qos, retain, message).await;
    }
}

/// Hands a message to the library.
async fn publish(client: &AsyncClient, qos: QoS, retain: bool, message: &Message) {
    let Message { topic, payload, .. } = message;
    // The loop that takes requests outlives this, so this cannot fail.
    let _ = client.publish_bytes(topic, qos, retain, payload.clone()).await;
}

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

/// Drives the connection until so many messages are done.
async fn all_done(events: &mut EventLoop, qos: QoS, mut messages: usize) -> Result<(), Failure> {
    let mut sent = 0;
    while messages > 0 {
        let event = match next(events).await? {
            Ok(event) => event,
            Err(error) => {
                // What broke while it was written is among the events that are left.
                sent += events.state.events.iter().filter(|event| is_publish(event)).count();
                return Err(if sent == 0 {
                    Failure::Connection(error)
                } else {
                    Failure::Closed { sent, error }
                });
            }
        };
        sent += usize::from(is_publish(&event));
        let done = match event {
            // Comes after the flush to the socket.
            Event::Outgoing(Outgoing::Publish(_)) => qos == QoS::AtMostOnce,
            Event::Incoming(Packet::PubAck(_)) => qos == QoS::AtLeastOnce,
            Event::Incoming(Packet::PubComp(_)) => qos == QoS::ExactlyOnce,
            _ => false,
        };
        messages -= usize::from(done);
    }
    Ok(())
}

/// Drives the connection until a ping is answered, which comes after one message.
async fn answered(events: &mut EventLoop) -> Result<(), Failure> {
    loop {
        match next(events).await? {
            Ok(Event::Incoming(Packet::PingResp)) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(Failure::Closed { sent: 1, error }),
        }
    }
}

/// What happens next on the connection.
async fn next(events: &mut EventLoop) -> Result<Result<Event, ConnectionError>, Failure> {
    timeout(ANSWER_TIMEOUT, events.poll()).await.map_err(|_| Failure::Silence)
}

fn is_publish(event: &Event) -> bool {
    matches!(event, Event::Outgoing(Outgoing::Publish(_)))
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
        assert!(!Failure::Silence.is_configuration());
    }
}
