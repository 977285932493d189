//! The sender of the suite: ready-made events, as many as the kernel takes or at an exact rate.
//!
//! `ringside send` writes each event as it goes and so costs about twice this; a measurement of a
//! receiver on the same machine wants the sender to cost as little as it can. Here every event exists
//! before the first is sent, and what is left is the system call: `sendmmsg`, or one call with
//! `UDP_SEGMENT`, which passes the kernel's send path once for many events of one size.
//!
//! `cargo run --release --example load -- --help`. Prints one line of JSON.

mod stamp;

use std::error::Error;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, sendmmsg, sendmsg};
use ringside::synthetic::{Cluster, Mix};

/// Events for one system call; as many segments as every kernel takes.
const CALL: usize = 64;
/// Bytes of one datagram, and so of all segments of one call.
const DATAGRAM_MAX: usize = 65_507;
/// Events that exist: enough that no table of the receiver stays warm by chance.
const EVENTS: usize = 4096;
/// Bytes of events of one size; about what the events of the mix take.
const POOL_BYTES: usize = 1_500_000;
/// How often the loop wakes while it keeps a rate.
const TICK: Duration = Duration::from_micros(500);
/// The column of a performance event that holds the user's id.
const USER_ID: usize = 10;

/// Sends events and says how many.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to.
    to: SocketAddr,
    /// Events per second; 0 for as many as possible.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// How many events; goes before --for.
    #[arg(long)]
    count: Option<u64>,
    /// For how many seconds.
    #[arg(long = "for", default_value_t = 10.0)]
    seconds: f64,
    /// Performance events of this many bytes each, instead of the benchmark mix.
    #[arg(long)]
    size: Option<usize>,
    /// Source addresses, 127.0.0.1 and so on, with a socket each; each call is another's turn.
    #[arg(long, default_value_t = 1)]
    sources: u16,
    /// One call with UDP_SEGMENT instead of sendmmsg; needs --size.
    #[arg(long, requires = "size")]
    segment: bool,
    /// One event in so many carries the time at which it was sent; 0 for none.
    #[arg(long, default_value_t = 0)]
    stamp_every: usize,
}

/// Ready-made events, one after the other.
struct Events {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
    /// Where the stamp of an event is, by event.
    stamps: Vec<Option<usize>>,
}

impl Events {
    fn new(arguments: &Arguments) -> Result<Self, Box<dyn Error>> {
        let every = arguments.stamp_every;
        let mut events = Self { bytes: Vec::new(), ranges: Vec::new(), stamps: Vec::new() };
        if let Some(size) = arguments.size {
            let count = (POOL_BYTES / size.max(1)).next_multiple_of(CALL).clamp(CALL, EVENTS);
            for row in 1..=count {
                events.push(&of_size(size, row)?, every > 0 && row % every == 0);
            }
        } else {
            let mut due = 0;
            for (_, event) in Cluster::new(7, Mix::BENCHMARK, 1).take(EVENTS) {
                due += 1;
                let stamped = every > 0 && due >= every && event.starts_with(b"/qseow-qix-perf/");
                due = if stamped { 0 } else { due };
                events.push(&event, stamped);
            }
        }
        Ok(events)
    }

    fn push(&mut self, event: &[u8], stamped: bool) {
        let start = self.bytes.len();
        let mut stamp = None;
        for (column, field) in event.split(|&byte| byte == b';').enumerate() {
            if column > 0 {
                self.bytes.push(b';');
            }
            if stamped && column == USER_ID {
                stamp = Some(self.bytes.len());
                self.bytes.extend_from_slice(stamp::MARK);
                self.bytes.resize(self.bytes.len() + stamp::LEN - stamp::MARK.len(), b'0');
            } else {
                self.bytes.extend_from_slice(field);
            }
        }
        self.ranges.push(start..self.bytes.len());
        self.stamps.push(stamp);
    }

    /// Writes the present time into those of the next events that carry it.
    fn stamp(&mut self, next: Range<usize>) {
        let mut now = None;
        for at in self.stamps[next].iter().flatten() {
            let now = *now.get_or_insert_with(stamp::wall_ns);
            stamp::write(&mut self.bytes[*at..], now);
        }
    }
}

/// A performance event of exactly `size` bytes, padded in the name of the account: with all that such events
/// have where it fits, else with short texts only. The user's id is as long as a stamp, so that events with
/// and without one are of one size.
fn of_size(size: usize, row: usize) -> Result<Vec<u8>, String> {
    let (row, user) = (row % 10, "u".repeat(stamp::LEN));
    let time = "20250106T080000.000+0000;2025-01-06 08:00:00,000";
    let whole = |account: &str| {
        format!(
            "/qseow-qix-perf/;{row};{time};INFO;sense-1;System.Performance.Engine;LAB\\{account};\
             8f3b5c0e-1d2a-4b6f-9c7d-0e1f2a3b4c5d;LAB;{user};20250106T080000.000+0000;\
             b7d1e2f3-4a5b-4c6d-8e9f-0a1b2c3d4e5f;1c2d3e4f-5a6b-4c7d-8e9f-a0b1c2d3e4f5;42;Global::Get;\
             12.5;11.25;0;0.5;0;7;KmBsPz;204800;409600;barchart"
        )
    };
    let short = |account: &str| {
        format!(
            "/qseow-qix-perf/;{row};{time};INFO;s;Q;{account};1;D;{user};;;;1;Get;1;1;0;0;0;1;o;1;1;table"
        )
    };
    let padding = |least: usize| Some("a".repeat(size.checked_sub(least)?));
    if let Some(account) = padding(whole("").len()) {
        return Ok(whole(&account).into_bytes());
    }
    let account = padding(short("").len())
        .ok_or_else(|| format!("an event has {} bytes at least", short("").len()))?;
    Ok(short(&account).into_bytes())
}

/// What was sent.
#[derive(Default)]
struct Sent {
    events: u64,
    bytes: u64,
    refused: u64,
}

struct Sender {
    sockets: Vec<UdpSocket>,
    segment: Option<u16>,
    headers: MultiHeaders<()>,
    /// Events per call.
    call: usize,
    turn: usize,
}

impl Sender {
    fn new(arguments: &Arguments) -> Result<Self, Box<dyn Error>> {
        let sockets = (0..arguments.sources.max(1))
            .map(|index| {
                let local = if arguments.to.ip().is_loopback() {
                    Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + u32::from(index))
                } else {
                    Ipv4Addr::UNSPECIFIED
                };
                let socket = UdpSocket::bind((local, 0))?;
                socket.connect(arguments.to)?;
                Ok(socket)
            })
            .collect::<io::Result<Vec<_>>>()?;
        let segment = match arguments.size {
            Some(size) if arguments.segment => Some(u16::try_from(size)?),
            _ => None,
        };
        let call = segment.map_or(CALL, |size| CALL.min(DATAGRAM_MAX / usize::from(size)));
        Ok(Self { sockets, segment, headers: MultiHeaders::preallocate(CALL, None), call, turn: 0 })
    }

    /// Sends some of the events from `first` on, at most `most`; how many.
    fn send(&mut self, events: &mut Events, first: usize, most: usize) -> nix::Result<usize> {
        let last = (first + most.min(self.call)).min(events.ranges.len());
        events.stamp(first..last);
        self.turn += 1;
        let fd = self.sockets[self.turn % self.sockets.len()].as_raw_fd();
        let ranges = &events.ranges[first..last];
        if let Some(size) = self.segment {
            let all = &events.bytes[ranges[0].start..ranges[ranges.len() - 1].end];
            let control = [ControlMessage::UdpGsoSegments(&size)];
            sendmsg::<()>(fd, &[IoSlice::new(all)], &control, MsgFlags::empty(), None)?;
            return Ok(ranges.len());
        }
        let slices: [_; CALL] = std::array::from_fn(|i| {
            [IoSlice::new(ranges.get(i).map_or(&[][..], |range| &events.bytes[range.clone()]))]
        });
        let control: [ControlMessage<'_>; 0] = [];
        let (slices, flags) = (&slices[..ranges.len()], MsgFlags::empty());
        let taken = sendmmsg(fd, &mut self.headers, slices, [None; CALL], control, flags)?;
        Ok(taken.count())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut events = Events::new(&arguments)?;
    let mut sender = Sender::new(&arguments)?;
    let mut sent = Sent::default();
    let length = Duration::from_secs_f64(arguments.seconds);
    let due_at = |elapsed: Duration| match arguments.rate {
        0 => u64::MAX,
        rate => {
            let due = elapsed.as_nanos() * u128::from(rate) / 1_000_000_000;
            u64::try_from(due).unwrap_or(u64::MAX)
        }
    };
    let limit = arguments.count.unwrap_or_else(|| due_at(length));
    let end = match (arguments.count, arguments.rate) {
        (Some(_), _) => Duration::MAX,
        (None, 0) => length,
        // Whoever cannot keep the rate in twice the time never will.
        (None, _) => 2 * length,
    };
    let mut next = 0;
    let start = Instant::now();
    while sent.events < limit {
        let elapsed = start.elapsed();
        if elapsed >= end {
            break;
        }
        let mut due = due_at(elapsed).min(limit).saturating_sub(sent.events).min(16 * CALL as u64);
        if due == 0 {
            thread::sleep(TICK);
        }
        while due > 0 {
            let most = usize::try_from(due).unwrap_or(usize::MAX);
            match sender.send(&mut events, next, most) {
                Ok(taken) => {
                    sent.bytes += events.ranges[next..next + taken]
                        .iter()
                        .map(|r| r.len() as u64)
                        .sum::<u64>();
                    sent.events += taken as u64;
                    due -= taken as u64;
                    next = (next + taken) % events.ranges.len();
                }
                // The answer to an earlier datagram; nothing was sent because of it.
                Err(Errno::ECONNREFUSED) => sent.refused += 1,
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS | Errno::EAGAIN) => thread::sleep(TICK),
                Err(error) => {
                    return Err(format!("cannot send to {}: {error}", arguments.to).into());
                }
            }
        }
    }
    let Sent { events, bytes, refused } = sent;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}",
        serde_json::json!({ "sent": events, "bytes": bytes, "seconds": seconds, "refused": refused })
    );
    Ok(())
}
