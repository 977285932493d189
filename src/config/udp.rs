//! The two UDP listeners: address, queue, rate limit, allowed senders.

use super::{
    basic::{LISTEN_PORTS, WRITE_INTERVAL},
    setting::{Filled, IfGiven, off, section, switched},
    values::{Millis, Tag},
};

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
                rate_limit: RateLimit = off(), later;
                /// Bytes of the largest datagram; larger ones are dropped and counted as `size`.
                max_message_size: u32 = DATAGRAM_MAX => 1..=DATAGRAM_MAX;
                /// Accepts datagrams from `allowedSources` only.
                enable_source_validation: bool = false, later;
                /// Addresses or names of senders.
                allowed_sources: Vec<String> = Vec::new(), later;
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
