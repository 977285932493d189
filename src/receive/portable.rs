//! Receiving where there is no Linux: within tokio's readiness, straight into the slots.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::UdpSocket as StdSocket;
use std::task::Poll;
use std::time::Instant;

use socket2::{MaybeUninitSlice, SockRef};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::intake::{Datagram, Inline, Intake};
use super::pace::STARVED;
use super::settings::ReceiveError;
use super::slots::{PAYLOAD, PAYLOAD_MAX};
use super::socket::{Bound, UNKNOWN_SOURCE};
use super::start::{Receiver, RingCounters, count};
use crate::event::Listener;

/// Datagrams taken from one socket before the other has its turn.
const RUN: usize = 64;

/// Receives until told to stop and the sockets are empty, or time is up.
pub(super) fn run(receiver: Receiver, inline: &mut dyn Inline) -> Result<(), ReceiveError> {
    let Receiver { mut intake, sockets, stop, ring, .. } = receiver;
    let failed = |during| move |source| ReceiveError::Run { during, source };
    let runtime = ::tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed("making a tokio runtime"))?;
    runtime
        .block_on(async {
            let sockets = sockets.into_iter().map(into_tokio).collect::<io::Result<Vec<_>>>()?;
            receive(&mut intake, inline, &sockets, &ring, || stop.requested()).await
        })
        .map_err(failed("receiving with tokio"))
}

fn into_tokio(bound: Bound) -> io::Result<(UdpSocket, Listener)> {
    bound.socket.set_nonblocking(true)?;
    Ok((UdpSocket::from_std(StdSocket::from(bound.socket))?, bound.listener))
}

async fn receive(
    intake: &mut Intake,
    inline: &mut dyn Inline,
    sockets: &[(UdpSocket, Listener)],
    counters: &RingCounters,
    stop: impl Fn() -> Option<Instant>,
) -> io::Result<()> {
    loop {
        let deadline = stop();
        let readable = poll_fn(|context| {
            let mut ready = sockets.iter().map(|(socket, _)| socket.poll_recv_ready(context));
            ready.find(Poll::is_ready).unwrap_or(Poll::Pending)
        });
        // The time-out is no error: the beat goes on, and a request to stop is seen.
        let timeout = if deadline.is_some() { STARVED } else { intake.idle() };
        if let Ok(ready) = ::tokio::time::timeout(timeout, readable).await {
            ready?;
        }
        let now = Instant::now();
        intake.start_turn();
        for (socket, listener) in sockets {
            for _ in 0..RUN {
                count(&counters.enters);
                if !receive_one(intake, socket, *listener)? {
                    break;
                }
            }
        }
        let received = intake.end_turn(inline);
        if deadline.is_some_and(|deadline| received == 0 || now >= deadline) {
            return Ok(());
        }
    }
}

/// Takes one datagram, if there is one and a slot for it.
fn receive_one(intake: &mut Intake, socket: &UdpSocket, listener: Listener) -> io::Result<bool> {
    let Some(slot) = intake.pool_mut().take() else { return Ok(false) };
    let slots = intake.pool().slots();
    let room = slots.slot_size() - PAYLOAD;
    // SAFETY: the slot was just taken from the pool, so nobody else uses it; the range lies within it.
    let buffer = unsafe {
        let start = slots.start_of(slot).add(PAYLOAD).cast::<MaybeUninit<u8>>();
        std::slice::from_raw_parts_mut(start, room)
    };
    // Into a list of buffers, because that alone tells the source of what was too long on Windows too.
    let received = socket.try_io(Interest::READABLE, || {
        SockRef::from(socket).recv_from_vectored(&mut [MaybeUninitSlice::new(buffer)])
    });
    match received {
        Ok((stored, flags, from)) => {
            let source = from.as_socket().unwrap_or(UNKNOWN_SOURCE);
            // How much longer it was nobody tells.
            let len = if flags.is_truncated() { PAYLOAD_MAX } else { stored };
            intake.admit(slot, &Datagram { listener, source, len, stored });
            Ok(true)
        }
        Err(error) => {
            intake.pool_mut().recycle(slot, 0);
            match error.kind() {
                io::ErrorKind::WouldBlock => Ok(false),
                // Windows reports an answer to something sent earlier; nothing was, so ignore it.
                io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => Ok(true),
                _ => Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::observe::ledger::{DropReason, Ledger};
    use crate::receive::start::Elsewhere;
    use crate::receive::{BackendChoice, ListenerSettings, Settings, start};

    #[test]
    fn it_receives_drops_what_is_too_long_and_drains() {
        let mut settings =
            Settings { backend: BackendChoice::Tokio, slots: 64, ..Settings::default() };
        settings.socket_buffer = 1 << 20;
        settings.listeners[Listener::LogEvents as usize] = Some(ListenerSettings {
            addresses: vec!["127.0.0.1:0".parse().expect("address")],
            max_message_size: 100,
            queue_capacity: 100,
            backpressure_threshold: 80,
            strict: false,
        });
        let ledger = Arc::new(Ledger::new(1, 1, &[]));
        let mut receivers = start(settings, &ledger).expect("start");
        let to = receivers.handle.addresses(Listener::LogEvents)[0];
        let sender = StdSocket::bind("127.0.0.1:0").expect("sender");
        // One is too long for the settings, one for a slot as well.
        for payload in [&b"one"[..], b"", &[0; 101], &[0; 1000], b"two"] {
            sender.send_to(payload, to).expect("send");
        }
        receivers.handle.stop(Instant::now() + Duration::from_secs(10));
        run(receivers.threads.remove(0), &mut Elsewhere).expect("no error");
        let end = &mut receivers.shards[0].ends[0];
        for expected in [&b"one"[..], b"", b"two"] {
            let lease = end.take().expect("lease");
            assert_eq!(end.payload(&lease).bytes(), expected);
            end.give_back(lease);
        }
        assert!(end.finished());
        let counts = ledger.receivers[0][Listener::LogEvents as usize].read();
        assert_eq!((counts.received, counts.dropped.get(DropReason::Size)), (5, 2));
    }
}
