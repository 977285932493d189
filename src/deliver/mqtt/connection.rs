//! The one connection to the broker.
//!
//! The MQTT library keeps what it has queued and what is not acknowledged yet, but forgets it when it
//! connects anew, since the broker has no session for us. So nothing is trusted to it: the connection
//! works on one batch, and the batch is done when each of its messages is. After any failure the
//! library's state is thrown away as a whole, and the batch goes back to where retries are decided.
//! That is also why acknowledgements need only be counted: whatever comes on a connection belongs to
//! the one batch that is on it, and the library breaks the connection on an acknowledgement of
//! something that was not sent.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use memchr::{memchr, memchr_iter};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, Outgoing,
    Packet, QoS, TlsError,
};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::transport::Job;
use super::{MqttError, MqttSettings, options};
use crate::deliver::Outcome;

/// Messages between us and the library; enough that it never waits for us.
const QUEUED: usize = 16;

/// A broker that says nothing for so long, though something is due, has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Wait between attempts to connect while there is nothing to send.
const IDLE_RETRY: Duration = Duration::from_secs(30);

/// The longest that a farewell may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Options, and the connection while there is one.
pub(super) struct Connection {
    options: MqttOptions,
    qos: QoS,
    retain: bool,
    live: Option<(AsyncClient, EventLoop)>,
}

/// Why a batch is not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
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
        let (client, events) = live(&mut self.live, &self.options);
        let messages = memchr_iter(TOPIC, body).count();
        let mut feed = pin!(feed(client, self.qos, self.retain, body));
        let mut done = pin!(all_done(events, self.qos, messages));
        tokio::select! {
            result = &mut done => result,
            () = &mut feed => done.await,
        }
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

/// Hands the messages of a batch to the library, as fast as it takes them.
async fn feed(client: &AsyncClient, qos: QoS, retain: bool, body: &Bytes) {
    for (payload, topic) in messages(body) {
        // The loop that takes requests outlives this, so this cannot fail.
        let _ = client.publish_bytes(topic, qos, retain, payload).await;
    }
}

/// The messages of a batch: payload and topic.
fn messages(body: &Bytes) -> impl Iterator<Item = (Bytes, String)> {
    body.split(|&byte| byte == b'\n').flat_map(|line| {
        let end = memchr(TOPIC, line).unwrap_or(line.len());
        let (payload, topics) = line.split_at(end);
        let topics = topics.split(|&byte| byte == TOPIC).skip(1);
        topics.map(|topic| (body.slice_ref(payload), String::from_utf8_lossy(topic).into_owned()))
    })
}

/// Drives the connection until so many messages are done.
async fn all_done(events: &mut EventLoop, qos: QoS, mut messages: usize) -> Result<(), Failure> {
    while messages > 0 {
        let event =
            timeout(ANSWER_TIMEOUT, events.poll()).await.map_err(|_| Failure::Silence)??;
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

impl Failure {
    fn outcome(&self, host: &str, port: u16) -> Outcome {
        let reason = format!("mqtt {host}:{port}: {self}");
        if self.is_configuration() {
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
            Self::Connection(_) | Self::Silence => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_of_a_line_is_a_message() {
        let body = Bytes::from("{\"a\":1}\tx\ty/z\n{}\tx\n");
        let read: Vec<_> = messages(&body).collect();
        let wanted = [("{\"a\":1}", "x"), ("{\"a\":1}", "y/z"), ("{}", "x")];
        assert_eq!(read, wanted.map(|(payload, topic)| (Bytes::from(payload), topic.to_owned())));
    }

    #[test]
    fn a_refused_password_is_not_an_outage() {
        let refused = |code| Failure::from(ConnectionError::ConnectionRefused(code));
        assert!(refused(ConnectReturnCode::BadUserNamePassword).is_configuration());
        assert!(!refused(ConnectReturnCode::ServiceUnavailable).is_configuration());
        assert!(!Failure::Silence.is_configuration());
    }
}
