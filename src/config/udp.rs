//! The two UDP listeners: address, queue, rate limit, allowed senders.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    basic::{LISTEN_PORTS, WRITE_INTERVAL},
    setting::{Filled, IfGiven, off, section, switched},
    values::{Millis, Tag},
};
use crate::host_name::is_host_name;

/// Most bytes that one UDP datagram over IPv4 can carry: 65 535 less 8 (UDP header) and 20 (IP header).
const DATAGRAM_MAX: u32 = 65_507;

/// The two listeners differ in the key of the port only.
macro_rules! udp_server {
    ($(#[doc = $about:literal])+ $name:ident, $key:literal, $port:literal) => {
        section! {
            $(#[doc = $about])+
            pub struct $name {
                /// Address to listen on, IPv4 or IPv6, or a name that resolves to one.
                server_host: String = "127.0.0.1".to_owned() => Filled;
                /// UDP port. 0 lets the system choose.
                port as $key: u16 = $port => LISTEN_PORTS;
                /// How much may wait.
                message_queue: MessageQueue = MessageQueue::default();
                /// How much may come.
                rate_limit: RateLimit = off();
                /// Bytes of the largest datagram; larger ones are dropped and counted as `size`.
                max_message_size: u32 = DATAGRAM_MAX => 1..=DATAGRAM_MAX;
                /// Accepts datagrams from `allowedSources` only.
                enable_source_validation: bool = false;
                /// Senders: IPv4 or IPv6 addresses, blocks such as `10.0.0.0/8`, or names, which are
                /// resolved at start and every `ringside.sourceValidation.resolveInterval`.
                allowed_sources: Vec<String> = Vec::new();
                /// State of the queue as points of InfluxDB.
                queue_metrics: QueueMetrics = QueueMetrics::default();
            }
        }
    };
}

udp_server! {
    /// The listener for user events.
    UserUdpServer, "portUserActivityEvents", 9997
}

udp_server! {
    /// The listener for log events.
    LogUdpServer, "portLogEvents", 9996
}

section! {
    /// The queue between the socket and the parsers.
    pub struct MessageQueue {
        /// Butler SOS's parallel handlers. Here: added to `maxSize`, and with
        /// `ringside.queue.strict` the most that a shard takes in a turn.
        max_concurrent: u32 = 10 => 1..=100_000;
        /// Events that may wait; the documented capacity is `maxSize` + `maxConcurrent`.
        max_size: u32 = 200 => 1..=10_000_000;
        /// Percentage of the capacity from which on backpressure is reported.
        backpressure_threshold: u8 = 80 => 1..=100;
    }
}

section! {
    /// A limit on what a listener accepts.
    pub struct RateLimit {
        /// Limits the rate.
        enable: bool = false;
        /// Datagrams in a window of 60 s, over all senders; the rest is counted as `rate_limit`.
        max_messages_per_minute: u32 = 600 => 1..=u32::MAX;
    }
}

section! {
    /// State of the queue.
    pub struct QueueMetrics {
        /// As points of InfluxDB.
        influxdb: QueueMetricsInfluxdb = off();
    }
}

section! {
    /// State of the queue as points of InfluxDB.
    pub struct QueueMetricsInfluxdb {
        /// Writes them.
        enable: bool = false;
        /// Time between two points.
        write_frequency: Millis = Millis::seconds(20) => WRITE_INTERVAL;
        /// Measurement; `user_events_queue` or `log_events_queue` when missing.
        measurement_name: Option<String> = None => IfGiven(Filled);
        /// Tags of the points.
        tags: Vec<Tag> = Vec::new();
    }
}

switched!(RateLimit, QueueMetricsInfluxdb);

/// An entry of `allowedSources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedSource<'c> {
    /// One address.
    Address(IpAddr),
    /// All addresses of a block.
    Block(IpNet),
    /// All addresses that this name resolves to.
    Name(&'c str),
}

impl<'c> AllowedSource<'c> {
    /// Reads an entry; `None` when it can be neither.
    #[must_use]
    pub fn parse(text: &'c str) -> Option<Self> {
        let text = text.trim();
        let address = text.parse().map(Self::Address).ok();
        let block = || text.parse().map(Self::Block).ok();
        address.or_else(block).or_else(|| is_host_name(text).then_some(Self::Name(text)))
    }
}

/// What both listeners have in common, whichever section it came from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Listener<'c> {
    /// Address or name to listen on; not resolved yet.
    pub host: &'c str,
    /// Port; 0 lets the system choose.
    pub port: u16,
    /// How much may wait.
    pub queue: &'c MessageQueue,
    /// How much may come.
    pub rate_limit: &'c RateLimit,
    /// Bytes of the largest datagram.
    pub max_message_size: u32,
    /// Whether only `allowed_sources` may send.
    pub enable_source_validation: bool,
    /// Addresses or names of senders; not resolved yet.
    pub allowed_sources: &'c [String],
    /// State of the queue as points of InfluxDB.
    pub queue_metrics: &'c QueueMetricsInfluxdb,
}

macro_rules! as_listener {
    ($($server:ty),+) => {$(
        impl<'c> From<&'c $server> for Listener<'c> {
            fn from(server: &'c $server) -> Self {
                Self {
                    host: &server.server_host,
                    port: server.port,
                    queue: &server.message_queue,
                    rate_limit: &server.rate_limit,
                    max_message_size: server.max_message_size,
                    enable_source_validation: server.enable_source_validation,
                    allowed_sources: &server.allowed_sources,
                    queue_metrics: &server.queue_metrics.influxdb,
                }
            }
        }
    )+};
}

as_listener!(UserUdpServer, LogUdpServer);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_addresses_blocks_or_names() {
        let parse = AllowedSource::parse;
        let address = |text: &str| Some(AllowedSource::Address(text.parse().expect("an address")));
        let block = |text: &str| Some(AllowedSource::Block(text.parse().expect("a block")));
        for text in ["10.0.0.1", "::1", "::ffff:10.0.0.1"] {
            assert_eq!(parse(text), address(text));
        }
        for text in ["10.0.0.0/8", "fd00::/8", "::ffff:10.0.0.0/104"] {
            assert_eq!(parse(text), block(text));
        }
        for text in ["sense1", "pro2-win1.lab.local", "SENSE_1.", "1host", "3com.example"] {
            assert_eq!(parse(text), Some(AllowedSource::Name(text)));
        }
        assert_eq!(parse(" 10.0.0.1 "), address("10.0.0.1"));
    }

    #[test]
    fn mistyped_entries_are_none_of_these() {
        let long = "a".repeat(64);
        for text in [
            "",
            ".",
            "10.0.0",
            "10.0.0.256",
            "10.0.0.0/33",
            "10.0.0.0/",
            "fd00::/129",
            "[::1]",
            "10.0.0.1:9997",
            "a b",
            "a..b",
            "-a",
            "a-",
            "sense*.lab",
            "http://sense",
            &long,
        ] {
            assert_eq!(AllowedSource::parse(text), None, "{text:?}");
        }
    }
}
