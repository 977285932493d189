//! The way to the broker, one connection after the other, by means of the MQTT library.

use std::future::Future;
use std::pin::pin;
use std::slice;
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

/// Messages at quality of service 0 that are sent before a ping has to be answered. A message at which
/// the connection is closed is one of them, so there are no more than can be found in two steps.
const UNANSWERED_MAX: usize = RumqttLink::ALONE_MAX * RumqttLink::ALONE_MAX;

/// Wait between attempts to connect while there is nothing to send.
const IDLE_RETRY: Duration = Duration::from_secs(30);

/// Wait before a connection is made anew that was closed while messages were under way.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);

/// The longest that a farewell may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// What is needed of the way to a broker. Whatever publishes connects first if there is no connection.
pub(crate) trait Link {
    /// The most messages that are published one at a time to find the one at which the connection was
    /// closed. If there are more, so many groups of them are published first, one after the other.
    const ALONE_MAX: usize;

    /// Publishes messages as fast as the broker takes them, and waits until each is done. Where they
    /// are not acknowledged, the broker has to answer a ping behind some of them, and behind the last.
    fn publish(&mut self, messages: &[Message]) -> impl Future<Output = Result<(), Failure>>;

    /// Publishes one message, and waits until it is certain that the broker has taken it and goes on.
    fn publish_alone(&mut self, message: &Message) -> impl Future<Output = Result<(), Failure>>;

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

    /// Publishes messages of a batch behind `before` others, which are certainly taken, and waits until
    /// each is done; then, if asked to, until a ping is answered.
    async fn publish_behind(
        &mut self,
        before: usize,
        messages: &[Message],
        ping: bool,
    ) -> Result<(), Failure> {
        let mut sent = before;
        let error = match self.drive(messages, ping, &mut sent).await {
            Err(Failure::Connection(error)) => error,
            result => return result,
        };
        let taken = match self.qos {
            QoS::AtMostOnce => before,
            QoS::AtLeastOnce | QoS::ExactlyOnce => sent.saturating_sub(Self::ALONE_MAX),
        };
        Err(if sent == 0 || !may_be_due_to_a_message(&error) {
            Failure::Connection(error)
        } else {
            Failure::Closed { taken, sent, error }
        })
    }

    /// Does so, and counts what is sent. Fails with the error of the connection, or of silence.
    async fn drive(
        &mut self,
        messages: &[Message],
        ping: bool,
        sent: &mut usize,
    ) -> Result<(), Failure> {
        let (client, events) = live(&mut self.live, &self.options);
        {
            let mut feed = pin!(feed(client, self.qos, self.retain, messages));
            let done = all_done(events, self.qos, messages.len(), sent, self.answer_timeout);
            let mut done = pin!(done);
            tokio::select! {
                result = &mut done => result,
                () = &mut feed => done.await,
            }?;
        }
        if ping {
            let answered = answered(events, self.answer_timeout).await;
            events.mqtt_options.set_keep_alive(self.options.keep_alive());
            answered?;
        }
        Ok(())
    }
}

impl Link for RumqttLink {
    // The library has to know that one was taken before it sends the one that comes so much later. One
    // more, since a broker may acknowledge a message and close the connection on its account all the
    // same.
    const ALONE_MAX: usize = options::IN_FLIGHT as usize + 1;

    async fn publish(&mut self, messages: &[Message]) -> Result<(), Failure> {
        // Nothing but the answer to a ping tells what the broker has got without acknowledgements.
        let (together, ping) = match self.qos {
            QoS::AtMostOnce => (UNANSWERED_MAX, true),
            QoS::AtLeastOnce | QoS::ExactlyOnce => (usize::MAX, false),
        };
        let mut before = 0;
        for messages in messages.chunks(together) {
            self.publish_behind(before, messages, ping).await?;
            before += messages.len();
        }
        Ok(())
    }

    async fn publish_alone(&mut self, message: &Message) -> Result<(), Failure> {
        // Some brokers acknowledge a message before they close the connection on its account, so they
        // have to answer once more. Without this the message behind it would be blamed.
        self.publish_behind(0, slice::from_ref(message), true).await
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
    live.get_or_insert_with(|| {
        let (client, mut events) = AsyncClient::new(options.clone(), QUEUED);
        // A ping behind messages would wait until the broker's system says that it has got them.
        events.network_options.set_tcp_nodelay(true);
        (client, events)
    })
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

/// Drives the connection until so many messages are done, and counts those that are sent.
async fn all_done(
    events: &mut EventLoop,
    qos: QoS,
    mut messages: usize,
    sent: &mut usize,
    answer_timeout: Duration,
) -> Result<(), Failure> {
    let mut deadline = Instant::now() + answer_timeout;
    while messages > 0 {
        let event = match timeout_at(deadline, events.poll()).await {
            Ok(Ok(event)) => event,
            Ok(Err(error)) => {
                // What broke while it was written is among the events that are left.
                *sent += events.state.events.iter().filter(|event| is_publish(event)).count();
                return Err(Failure::Connection(error));
            }
            Err(_) => return Err(Failure::Silence(answer_timeout)),
        };
        *sent += usize::from(is_publish(&event));
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
        Ok(result) => result.map_err(Failure::Connection),
        Err(_) => Err(Failure::Silence(answer_timeout)),
    }
}

/// Not so if the library has ended the connection, since the broker is silent or does not read.
fn may_be_due_to_a_message(error: &ConnectionError) -> bool {
    use StateError::{AwaitPingResp, CollisionTimeout};
    !matches!(
        error,
        ConnectionError::FlushTimeout
            | ConnectionError::MqttState(AwaitPingResp | CollisionTimeout)
    )
}

fn is_publish(event: &Event) -> bool {
    matches!(event, Event::Outgoing(Outgoing::Publish(_)))
}

#[cfg(test)]
mod tests;
