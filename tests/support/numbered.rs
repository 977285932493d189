//! Events with numbers, so that the far end can say which of them it has.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::sink::Sink;
use super::{DEADLINE, proxy_event, wait_for};

/// Characters in the message of a [`long_event`], less than the 1000 after which messages are cut.
const LONG: usize = 900;

/// A log event of the proxy that holds its number.
pub fn event(number: u64) -> String {
    proxy_event(&format!("number <{number}>"))
}

/// The same with a message that no compression makes much shorter.
pub fn long_event(number: u64) -> String {
    let mut random = fastrand::Rng::with_seed(number);
    let noise: String = (0..LONG).map(|_| random.alphanumeric()).collect();
    proxy_event(&format!("number <{number}> {noise}"))
}

/// The numbers in `text`, one from each line that has an event.
pub fn numbers(text: &str) -> impl Iterator<Item = u64> {
    text.lines().map(|line| {
        let (_, rest) = line.split_once("number <").unwrap_or_else(|| panic!("none in {line}"));
        let number = rest.split('>').next().unwrap_or_default();
        number.parse().unwrap_or_else(|_| panic!("none in {line}"))
    })
}

/// The numbers of the events that a sink was sent, in the order in which they came.
pub fn arrived(sink: &Sink) -> Vec<u64> {
    let requests = sink.requests();
    let writes = requests.iter().filter(|request| request.path.contains("/write"));
    writes.flat_map(|request| numbers(request.text()).collect::<Vec<_>>()).collect()
}

/// The same in any order; panics when an event came twice.
pub fn arrived_once(sink: &Sink) -> BTreeSet<u64> {
    let numbers = arrived(sink);
    let once: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!(once.len(), numbers.len(), "some came twice");
    once
}

/// Sends numbered events, one after the other from one socket, until it is finished or dropped.
pub struct Stream {
    sent: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    sender: Option<JoinHandle<Vec<Instant>>>,
}

impl Stream {
    /// Sends `event(first)`, `event(first + 1)`, and so on to `to`, with this pause between two.
    pub fn start(to: SocketAddr, first: u64, pause: Duration, event: fn(u64) -> String) -> Self {
        let (sent, over) = (Arc::new(AtomicU64::new(first)), Arc::new(AtomicBool::new(false)));
        let (count, stop) = (Arc::clone(&sent), Arc::clone(&over));
        let sender = thread::spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let mut times = Vec::new();
            while !stop.load(Ordering::Acquire) {
                let number = count.load(Ordering::Relaxed);
                socket.send_to(event(number).as_bytes(), to).expect("send on loopback");
                times.push(Instant::now());
                count.store(number + 1, Ordering::Release);
                thread::sleep(pause);
            }
            times
        });
        Self { sent, over, sender: Some(sender) }
    }

    /// The number that comes next.
    pub fn next(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Waits until so many more were sent.
    pub fn wait_for(&self, more: u64) {
        let until = self.next() + more;
        wait_for("more traffic", DEADLINE, || (self.next() >= until).then_some(()));
    }

    /// Ends it; the number that would have come next, and when each event was sent.
    pub fn finish(mut self) -> (u64, Vec<Instant>) {
        self.over.store(true, Ordering::Release);
        let times = self.sender.take().expect("it runs").join().expect("the sender");
        (self.next(), times)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(sender) = self.sender.take() {
            // What went wrong there has been printed.
            let _ = sender.join();
        }
    }
}
