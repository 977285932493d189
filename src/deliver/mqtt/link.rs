//! The way to the broker, one connection after the other, by means of the MQTT library.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, PingReq, QoS,
    Request, StateError,
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connection::{Failure, Message};
use super::{MqttError, MqttSettings, options};

/// Messages between us and the library; enough that it never waits for us.
const QUEUED: usize = 16;

/// A broker that acknowledges nothing for so long, though something is due, has failed. Its answers to
/// the library's pings do not count: a broker that is stuck may give them, as may a proxy before it.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Wait between attempts to connect while there is nothing to send.
const IDLE_RETRY: Duration = Duration::from_secs(30);

/// Wait before a connection is made anew that was closed while messages were under way.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);

/// The longest that a farewell may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// What is needed of the way to a broker. Whatever publishes connects first if there is no connection.
pub(crate) trait Link {
    /// Publishes messages as fast as the broker takes them, and waits until each is done.
    fn publish(&mut self, messages: &[Message]) -> impl Future<Output = Result<(), Failure>>;

    /// Publishes one message, and waits until it is certain that the broker has taken it and goes on.
    fn publish_alone(&mut self, message: &Message) -> impl Future<Output = Result<(), Failure>>;

    /// Of the messages that were sent last, how many the broker may not have taken.
    fn unsure_max(&self) -> usize;

    /// Connects, answers and pings while there is nothing to publish. Does not end.
    fn stay_connected(&mut self) -> impl Future<Output = ()>;

    /// Drops the connection, with all that is known about it.
    fn drop_connection(&mut self);

    /// Waits for [`PAUSE`].
    fn pause(&self) -> impl Future<Output = ()>;

    /// Disconnects properly, so that the broker does not publish the last will.
    fn say_farewell(&mut self) -> impl Future<Output = ()>;

    /// Host and port, for the log.
    fn address(&self) -> (String, u16);
}

/// The real one.
pub(super) struct RumqttLink {
    options: MqttOptions,
    qos: QoS,
    retain: bool,
    /// [`ANSWER_TIMEOUT`], less in tests.
    answer_timeout: Duration,
    live: Option<(AsyncClient, EventLoop)>,
}

impl RumqttLink {
    /// Prepares everything and connects to nothing.
    pub(super) fn new(settings: &MqttSettings) -> Result<Self, MqttError> {
        Ok(Self {
            options: options::of(settings)?,
            qos: options::qos(settings.qos),
            retain: settings.retain,
            answer_timeout: ANSWER_TIMEOUT,
            live: None,
        })
    }
}

impl Link for RumqttLink {
    async fn publish(&mut self, messages: &[Message]) -> Result<(), Failure> {
        let (client, events) = live(&mut self.live, &self.options);
        let mut feed = pin!(feed(client, self.qos, self.retain, messages));
        let mut done = pin!(all_done(events, self.qos, messages.len(), self.answer_timeout));
        tokio::select! {
            result = &mut done => result,
            () = &mut feed => done.await,
        }
    }

    async fn publish_alone(&mut self, message: &Message) -> Result<(), Failure> {
        // Only an acknowledgement tells that a message was taken, so there is one at quality of
        // service 0 too.
        let qos = if self.qos == QoS::AtMostOnce { QoS::AtLeastOnce } else { self.qos };
        let (client, events) = live(&mut self.live, &self.options);
        hand_over(client, qos, self.retain, message).await;
        all_done(events, qos, 1, self.answer_timeout).await?;
        // Some brokers acknowledge a message before they close the connection on its account, so they
        // have to answer once more. Without this the message behind it would be blamed.
        let answered = answered(events, self.answer_timeout).await;
        events.mqtt_options.set_keep_alive(self.options.keep_alive());
        answered
    }

    fn unsure_max(&self) -> usize {
        match self.qos {
            // Nothing but the socket has them for certain.
            QoS::AtMostOnce => usize::MAX,
            // The library has to know that one was taken before it sends the one that comes so much
            // later. One more, since a broker may acknowledge a message and close the connection on
            // its account all the same.
            QoS::AtLeastOnce | QoS::ExactlyOnce => usize::from(options::IN_FLIGHT) + 1,
        }
    }

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

    fn drop_connection(&mut self) {
        self.live = None;
    }

    async fn pause(&self) {
        sleep(PAUSE).await;
    }

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

    fn address(&self) -> (String, u16) {
        self.options.broker_address()
    }
}

/// The connection, new if there is none.
fn live<'a>(
    live: &'a mut Option<(AsyncClient, EventLoop)>,
    options: &MqttOptions,
) -> &'a mut (AsyncClient, EventLoop) {
    live.get_or_insert_with(|| AsyncClient::new(options.clone(), QUEUED))
}

/// Hands messages to the library, as fast as it takes them.
async fn feed(client: &AsyncClient, qos: QoS, retain: bool, messages: &[Message]) {
    for message in messages {
        hand_over(client, qos, retain, message).await;
    }
}

/// Hands a message to the library.
async fn hand_over(client: &AsyncClient, qos: QoS, retain: bool, message: &Message) {
    let Message { topic, payload, .. } = message;
    // The loop that takes requests outlives this, so this cannot fail.
    let _ = client.publish_bytes(topic, qos, retain, payload.clone()).await;
}

/// Drives the connection until so many messages are done.
async fn all_done(
    events: &mut EventLoop,
    qos: QoS,
    mut messages: usize,
    answer_timeout: Duration,
) -> Result<(), Failure> {
    let mut sent = 0;
    let mut deadline = Instant::now() + answer_timeout;
    while messages > 0 {
        let event = match timeout_at(deadline, events.poll()).await {
            Ok(Ok(event)) => event,
            Ok(Err(error)) => {
                // What broke while it was written is among the events that are left.
                sent += events.state.events.iter().filter(|event| is_publish(event)).count();
                return Err(failure(error, sent));
            }
            Err(_) => return Err(Failure::Silence(answer_timeout)),
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
        if done || matches!(event, Event::Incoming(Packet::ConnAck(_) | Packet::PubRec(_))) {
            deadline = Instant::now() + answer_timeout;
        }
    }
    Ok(())
}

/// Sends a ping and drives the connection until it is answered. Afterwards the library's own pings
/// have to be switched on again.
///
/// An answer does not say to which ping, and the library fails if it is to send one while another is
/// not answered. So it sends none of its own meanwhile, and one that it has sent comes first.
async fn answered(events: &mut EventLoop, answer_timeout: Duration) -> Result<(), Failure> {
    events.mqtt_options.set_keep_alive(Duration::ZERO);
    let answered = async {
        while events.state.await_pingresp || !events.state.events.is_empty() {
            events.poll().await?;
        }
        events.pending.push_back(Request::PingReq(PingReq));
        while !matches!(events.poll().await?, Event::Incoming(Packet::PingResp)) {}
        Ok(())
    };
    match timeout(answer_timeout, answered).await {
        Ok(result) => result.map_err(|error| failure(error, 1)),
        Err(_) => Err(Failure::Silence(answer_timeout)),
    }
}

/// The connection ended when so many messages had been sent.
fn failure(error: ConnectionError, sent: usize) -> Failure {
    use StateError::{AwaitPingResp, CollisionTimeout};
    match error {
        // The library has ended it, since the broker is silent or does not read. No message is the
        // cause of that.
        ConnectionError::FlushTimeout
        | ConnectionError::MqttState(AwaitPingResp | CollisionTimeout) => {
            Failure::Connection(error)
        }
        _ if sent == 0 => Failure::Connection(error),
        _ => Failure::Closed { sent, error },
    }
}

fn is_publish(event: &Event) -> bool {
    matches!(event, Event::Outgoing(Outgoing::Publish(_)))
}

#[cfg(test)]
mod tests;
