//! Against brokers that do what no real one can be told to do.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::*;
use crate::deliver::mqtt::connection::Connection;
use crate::deliver::mqtt::transport::MqttTransport;
use crate::deliver::mqtt::{MqttSettings, Qos};
use crate::deliver::{Outcome, Transport as _};

/// The shortest that the library takes.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// A few pings and their answers fit in.
const SHORT_ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

/// The test has failed if it takes longer.
const DEADLINE: Duration = Duration::from_secs(20);

/// The first byte of a packet without its flags (MQTT 3.1.1, section 2.2).
const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x30;
const PINGREQ: u8 = 0xc0;

const CONNACK: &[u8] = &[0x20, 2, 0, 0];
const PUBACK: &[u8] = &[0x40, 2, 0, 1];
const PINGRESP: &[u8] = &[0xd0, 0];

/// A client's packet, as its type and what follows the length.
type Received = (u8, Vec<u8>);

async fn receive(socket: &mut TcpStream) -> Option<Received> {
    let first = socket.read_u8().await.ok()?;
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let byte = socket.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    let mut rest = vec![0; length];
    socket.read_exact(&mut rest).await.ok()?;
    Some((first & 0xf0, rest))
}

/// A broker that serves each connection as `serve` says; and how many there were.
async fn broker<F, S>(qos: Qos, mut serve: S) -> (RumqttLink, Arc<AtomicUsize>)
where
    F: Future<Output = Option<()>> + Send + 'static,
    S: FnMut(TcpStream) -> F + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = MqttSettings {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
        qos,
        retain: false,
        credentials: None,
        tls: None,
        client_id: None,
        last_will: None,
    };
    let mut link = RumqttLink::new(&settings).unwrap();
    link.options.set_keep_alive(KEEP_ALIVE);
    link.answer_timeout = SHORT_ANSWER_TIMEOUT;
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            if receive(&mut socket).await.is_some_and(|(kind, _)| kind == CONNECT) {
                socket.write_all(CONNACK).await.unwrap();
                tokio::spawn(serve(socket));
            }
        }
    });
    (link, connections)
}

/// As a broker with a full queue behind a proxy does it.
async fn answers_only_pings(mut socket: TcpStream) -> Option<()> {
    loop {
        if let (PINGREQ, _) = receive(&mut socket).await? {
            socket.write_all(PINGRESP).await.ok()?;
        }
    }
}

#[tokio::test]
async fn who_answers_pings_and_acknowledges_nothing_has_failed() {
    let (link, _) = broker(Qos::AtLeastOnce, answers_only_pings).await;
    let (transport, jobs) = MqttTransport::new();
    let send = timeout(DEADLINE, transport.send(Bytes::from("{}\ttopic\n"), 1));
    let outcome = tokio::select! {
        outcome = send => outcome.expect("it waits for ever"),
        () = Connection::over(link).run(jobs) => unreachable!("the transport lives"),
    };
    let Outcome::Unavailable { reason, .. } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("no acknowledgement for 4 seconds"), "{reason}");
}

fn message() -> Message {
    Message { line: 0, topic: "topic".to_owned(), payload: Bytes::from("{}") }
}

/// Publishes when the broker has got the library's ping, and has not answered it yet.
async fn publish_at_a_ping(link: &mut RumqttLink, pinged: &Notify) -> Result<(), Failure> {
    tokio::select! {
        () = link.stay_connected() => unreachable!("it does not end"),
        () = pinged.notified() => {}
    }
    timeout(DEADLINE, link.publish_alone(&message())).await.expect("it waits for ever")
}

/// The library's own ping is answered behind the acknowledgement, and it wants to send another one
/// before the one that was sent behind the message is answered.
#[tokio::test]
async fn a_slow_answer_to_a_ping_is_not_held_against_a_message() {
    let pinged = Arc::new(Notify::new());
    let notify = Arc::clone(&pinged);
    let (mut link, connections) = broker(Qos::AtLeastOnce, move |mut socket| {
        let pinged = Arc::clone(&notify);
        async move {
            while receive(&mut socket).await?.0 != PUBLISH {
                pinged.notify_one();
            }
            socket.write_all(PUBACK).await.ok()?;
            sleep(KEEP_ALIVE / 2).await;
            socket.write_all(PINGRESP).await.ok()?;
            while receive(&mut socket).await?.0 == PINGREQ {
                sleep(KEEP_ALIVE * 2).await;
                socket.write_all(PINGRESP).await.ok()?;
            }
            None
        }
    })
    .await;
    publish_at_a_ping(&mut link, &pinged).await.unwrap();
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

/// The answer to the library's ping comes in one piece with the acknowledgement, behind it.
#[tokio::test]
async fn the_answer_to_an_earlier_ping_proves_nothing() {
    let pinged = Arc::new(Notify::new());
    let notify = Arc::clone(&pinged);
    let (mut link, _) = broker(Qos::AtLeastOnce, move |mut socket| {
        let pinged = Arc::clone(&notify);
        async move {
            while receive(&mut socket).await?.0 != PUBLISH {
                pinged.notify_one();
            }
            socket.write_all(&[PUBACK, PINGRESP].concat()).await.ok()?;
            // Closes at the ping behind the message, and not before.
            receive(&mut socket).await.map(drop)
        }
    })
    .await;
    let result = publish_at_a_ping(&mut link, &pinged).await;
    assert!(matches!(result, Err(Failure::Closed { taken: 0, sent: 1, .. })), "{result:?}");
}
