//! `ringside`: what Butler SOS has no key for. Its validator lets the section pass, so that one file
//! serves both programs.

use std::ops::RangeInclusive;

use super::{
    Secret,
    basic::LISTEN_PORTS,
    setting::{Filled, IfGiven, Rule, choice, off, section, switched},
    values::{ByteSize, Millis, PowerOfTwo, Shards, Threads},
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

section! {
    /// Ringside's own settings.
    pub struct Ringside {
        /// How datagrams are received.
        receive: Receive = Receive::default();
        /// Threads that parse and encode; `inline`, which `auto` stands for: each receiver does it itself.
        shards: Shards = Shards::Auto;
        /// How the queue behaves when it is full.
        queue: Queue = Queue::default();
        /// A batch leaves after this time, or when it is full.
        flush_interval: Millis = Millis::seconds(1) => Millis::new(1)..=Millis::seconds(60);
        /// Size at which a batch is full; grows up to 4MiB while a backlog exists.
        batch_bytes: ByteSize = ByteSize::new(256 * KIB) => ByteSize::new(4 * KIB)..=ByteSize::new(4 * MIB);
        /// How batches are delivered.
        deliver: Deliver = Deliver::default();
        /// Writes `log_row` as a tag, as Butler SOS does; else as the integer field `log_row_field`
        /// (difference 13).
        log_row_tag: bool = false;
        /// Tags of InfluxDB that are written as string fields of the same name, to keep the number
        /// of series down; built-in tags, configured tags and categories.
        tags_as_fields: Vec<String> = Vec::new();
        /// How senders are checked.
        source_validation: SourceValidation = SourceValidation::default();
        /// Time to deliver what is there when stopped; the rest is spooled, or counted as `shutdown`.
        shutdown_timeout: Millis = Millis::seconds(10) => Millis::new(1)..=Millis::seconds(600);
        /// The page, statistics, metrics and health.
        console: Console = Console::default();
        /// Batches that a destination cannot take, on disk.
        spool: Spool = Spool::default();
        /// Events as lines of JSON.
        ndjson: Ndjson = off();
        /// Events as Parquet files.
        archive: Archive = off();
        /// What `influxdbConfig` has no key for.
        influxdb: RingsideInfluxdb = RingsideInfluxdb::default();
        /// What `mqttConfig` has no key for.
        mqtt: RingsideMqtt = RingsideMqtt::default();
        /// What `newRelic` has no key for.
        new_relic: RingsideNewRelic = RingsideNewRelic::default();
    }
}

choice! {
    /// How datagrams are taken from the kernel.
    pub enum Backend {
        /// `io_uring` where the kernel allows it, else `tokio`, with a warning.
        Auto = "auto",
        /// `io_uring`, or no start.
        IoUring = "io_uring",
        /// Readiness and system calls.
        Tokio = "tokio",
    }
}

section! {
    /// How datagrams are received.
    pub struct Receive {
        /// How datagrams are taken from the kernel.
        backend: Backend = Backend::Auto;
        /// Threads that receive; `auto` suits the machine.
        receivers: Threads = Threads::Auto;
        /// Datagrams that can be held between socket and encoder, per receiver.
        slots: u32 = 8192 => PowerOfTwo { min: 64, max: 32_768 };
        /// Bytes that the kernel holds per socket while nobody reads; twice as much is accounted.
        socket_buffer: ByteSize = ByteSize::new(32 * MIB) => ByteSize::new(4 * KIB)..=ByteSize::new(GIB);
    }
}

section! {
    /// How the queue behaves when it is full.
    pub struct Queue {
        /// Drops at `maxSize` + `maxConcurrent`, as Butler SOS documents, though slots are free
        /// (difference 32).
        strict: bool = false;
    }
}

section! {
    /// How batches are delivered.
    pub struct Deliver {
        /// Requests under way per destination, where order does not matter.
        in_flight: u16 = 4 => 1..=64;
    }
}

section! {
    /// How `allowedSources` is applied.
    pub struct SourceValidation {
        /// Refuses to start when no source can be resolved; else everybody may send until one can
        /// (difference 17).
        fail_closed: bool = false;
        /// Time between two look-ups of the names.
        resolve_interval: Millis = Millis::seconds(300) => Millis::seconds(1)..=Millis::days(1);
    }
}

section! {
    /// The page, statistics, metrics and health over HTTP.
    pub struct Console {
        /// Serves them.
        enable: bool = true;
        /// Address to listen on. Other than loopback needs `token`.
        host: String = "127.0.0.1".to_owned() => Filled;
        /// Port to listen on.
        port: u16 = 8088 => LISTEN_PORTS;
        /// What a visitor has to present.
        token: Option<Secret> = None => IfGiven(Filled);
    }
}

choice! {
    /// When batches are written to disk.
    pub enum SpoolMode {
        /// When the destination does not take them.
        OnFailure = "onFailure",
        /// Before they are sent, so that a crash loses nothing.
        Always = "always",
    }
}

choice! {
    /// What is sent first after an outage.
    pub enum SpoolOrder {
        /// New events; old ones in between.
        FreshFirst = "freshFirst",
        /// Old events, so that the order is kept.
        Strict = "strict",
    }
}

section! {
    /// Batches that a destination cannot take, on disk.
    pub struct Spool {
        /// Directory.
        dir: String = "ringside-data/spool".to_owned() => Filled;
        /// Most bytes on disk, per destination.
        max_bytes: ByteSize = ByteSize::new(8 * GIB) => ByteSize::new(MIB)..=ByteSize::new(1 << 50);
        /// Oldest batch that is kept.
        max_age: Millis = Millis::days(7) => Millis::seconds(1)..=Millis::days(3650);
        /// Time between two `fsync`.
        sync_interval: Millis = Millis::seconds(1) => Millis::new(1)..=Millis::seconds(60);
        /// When batches are written.
        mode: SpoolMode = SpoolMode::OnFailure;
        /// What is sent first after an outage.
        order: SpoolOrder = SpoolOrder::FreshFirst;
    }
}

section! {
    /// Events as lines of JSON.
    pub struct Ndjson {
        /// Writes them.
        enable: bool = false;
        /// File to append to; `-` is standard output.
        path: String = "-".to_owned() => Filled;
    }
}

section! {
    /// Events as Parquet files.
    pub struct Archive {
        /// Writes them.
        enable: bool = false;
        /// Directory.
        dir: String = "ringside-data/archive".to_owned() => Filled;
        /// Files are completed so long after their first event, or when they are large enough.
        roll_interval: Millis = Millis::seconds(900) => Millis::seconds(1)..=Millis::days(1);
        /// Bytes of all files that are being written, more or less, at which they are completed.
        roll_bytes: ByteSize = ByteSize::new(128 * MIB) => ByteSize::new(64 * KIB)..=ByteSize::new(4 * GIB);
        /// A day's files are removed when the day has been over for so long.
        max_age: Millis = Millis::days(400) => Millis::days(1)..=Millis::days(36_500);
        /// The oldest files are removed when all have more bytes than this.
        max_bytes: ByteSize = ByteSize::new(64 * GIB) => ByteSize::new(MIB)..=ByteSize::new(1 << 50);
    }
}

choice! {
    /// Whether requests are compressed.
    pub enum Gzip {
        /// Where Butler SOS's client does: InfluxDB 2 and 3.
        Auto = "auto",
        /// Always.
        On = "true",
        /// Never.
        Off = "false",
    }
}

section! {
    /// What `influxdbConfig` has no key for.
    pub struct RingsideInfluxdb {
        /// Speaks https.
        https: bool = false;
        /// Longest wait for a connection.
        connect_timeout: Millis = Millis::seconds(5) => TIMEOUT;
        /// Longest wait for the answer to a request; for version 3 `v3Config.writeTimeout` when missing.
        timeout: Option<Millis> = None => IfGiven(TIMEOUT);
        /// Compresses requests.
        gzip: Gzip = Gzip::Auto;
        /// Series of a measurement from which on the log warns of the tags that make them. The default is
        /// a tenth of `max-series-per-database` and all of `max-values-per-tag` of InfluxDB 1, as these
        /// are by default.
        series_warning: u32 = 100_000 => 1..=u32::MAX;
    }
}

/// Ten minutes: past that a connection is dead, not slow.
const TIMEOUT: RangeInclusive<Millis> = Millis::new(1)..=Millis::seconds(600);

section! {
    /// What `mqttConfig` has no key for.
    pub struct RingsideMqtt {
        /// Quality of service. At 0 `delivered` means that the broker has answered a ping that was sent
        /// behind the message, at 1 and 2 that it has acknowledged the message; what is not delivered
        /// is sent again.
        qos: u8 = 0 => 0..=2;
        /// Asks the broker to keep the last message of each topic.
        retain: bool = false;
        /// User.
        username: Option<String> = None => IfGiven(Filled);
        /// Password. Needs `username`.
        password: Option<Secret> = None => IfGiven(Filled);
        /// Speaks TLS.
        tls: bool = false;
        /// PEM file of the authorities that may sign the broker's certificate; the system's when
        /// missing.
        ca: Option<String> = None => IfGiven(Filled);
        /// PEM file of this client's certificate, for brokers that ask for one. Needs `clientKey`.
        client_cert: Option<String> = None => IfGiven(Filled);
        /// PEM file of the certificate's key.
        client_key: Option<String> = None => IfGiven(Filled);
        /// Name of this client at the broker; made up when missing.
        client_id: Option<String> = None => IfGiven(Filled);
        /// What the broker publishes when the connection breaks.
        last_will: Option<MqttLastWill> = None;
    }
}

/// What brokers accept as the topic of a message (MQTT 3.1.1, sections 1.5.3 and 4.7).
const TOPIC: Rule<str> = Rule {
    allows: |text| {
        let wrong = |c: char| matches!(c, '+' | '#') || c.is_control();
        !text.trim().is_empty() && text.len() <= 65_535 && !text.contains(wrong)
    },
    otherwise: "is not a topic",
    wanted: "text of up to 65535 bytes without `+`, `#` and control characters, not empty",
};

section! {
    /// A message that the broker publishes when the connection breaks without a farewell.
    pub struct MqttLastWill {
        /// Its topic.
        topic: String = "butler-sos/ringside".to_owned() => TOPIC;
        /// Its payload.
        payload: String = "gone".to_owned();
    }
}

section! {
    /// What `newRelic` has no key for.
    pub struct RingsideNewRelic {
        /// Scrambles user names in log events as `userEvents.sendToNewRelic.scramble` does in user
        /// events (difference 29).
        scramble_log_events: bool = false;
    }
}

switched!(Ndjson, Archive);
