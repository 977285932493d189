//! Delivery to a real InfluxDB 1.x: what it has at the end is what the ledger says.

mod support;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::deliver::batch::{self, Batch, BatchReceiver, BatchSender};
use ringside::deliver::clock::SystemClock;
use ringside::deliver::disk::PlainDisk;
use ringside::deliver::dispatch::{self, Parts, Settings, Spooling};
use ringside::deliver::influxdb::{Gzip, InfluxSettings, InfluxTransport, TIMEOUT_DEFAULT, Target};
use ringside::observe::ledger::{DeliverCounts, DestinationLedger, Ledger, LossReason};
use ringside::secret::Secret;

use support::influxd::Influxd;

const DATABASE: &str = "sense \"ops\"";

/// Long enough for anything here; a test that needs it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A destination and the sending end of its queue.
struct Destination {
    sender: BatchSender,
    receiver: BatchReceiver,
    ledger: Arc<DestinationLedger>,
    settings: InfluxSettings,
}

impl Destination {
    fn new(server: &Influxd) -> Self {
        let (mut senders, receiver) = batch::queue(1);
        let target = Target::V1 {
            database: DATABASE.into(),
            retention_policy: Some(("10d".into(), "10d".into())),
            credentials: None,
        };
        Self {
            sender: senders.pop().unwrap(),
            receiver,
            ledger: Arc::clone(&Ledger::new(1, 1, &["influxdb".into()]).destinations[0]),
            settings: InfluxSettings {
                https: false,
                host: "127.0.0.1".into(),
                port: server.port(),
                target,
                connect_timeout: Duration::from_secs(5),
                timeout: TIMEOUT_DEFAULT,
                gzip: Gzip::Auto,
            },
        }
    }

    fn log_in(mut self, user: &str, password: &str) -> Self {
        let Target::V1 { credentials, .. } = &mut self.settings.target else { unreachable!() };
        *credentials = Some((user.into(), Secret::from(password)));
        self
    }

    /// Delivers while `story` runs, then until everything has an outcome.
    fn deliver(self, story: impl AsyncFnOnce(&Story)) -> DeliverCounts {
        let transport = InfluxTransport::new(self.settings).unwrap();
        let settings = Settings { backoff_max: Duration::from_millis(100), ..Settings::default() };
        let clock = SystemClock::new();
        let parts = Parts {
            ledger: Arc::clone(&self.ledger),
            receiver: self.receiver,
            clock: &clock,
            settings,
            spooling: None::<Spooling<PlainDisk>>,
        };
        let given_up = async { tokio::time::sleep(PATIENCE).await };
        let delivering = dispatch::run(parts, transport, given_up, |_, _| {});
        let story = async {
            let told = Story { sender: self.sender, ledger: Arc::clone(&self.ledger) };
            story(&told).await;
        };
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async { tokio::join!(delivering, story) });
        let counts = self.ledger.delivered.read();
        assert!(counts.balanced());
        assert_eq!((counts.held, counts.lost.get(LossReason::Shutdown)), (0, 0), "{counts:?}");
        assert_eq!(self.ledger.last_error.get(), None);
        counts
    }
}

/// What a test does while events are delivered.
struct Story {
    sender: BatchSender,
    ledger: Arc<DestinationLedger>,
}

impl Story {
    /// Sends lines as one batch.
    async fn send(&self, lines: &str) {
        let events = u32::try_from(lines.lines().count()).unwrap();
        let bytes = Bytes::copy_from_slice(lines.as_bytes());
        self.until("there is room in the queue", || self.sender.has_room()).await;
        self.sender.try_send(Batch { bytes, events, oldest_ns: 1, shard: 0 }).unwrap();
    }

    async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_delivered(&self, events: u64) {
        self.until("delivered", || self.ledger.delivered.read().delivered >= events).await;
    }

    /// Waits until the destination reports an error, and gives it.
    async fn until_error(&self) -> String {
        self.until("an error is shown", || self.ledger.last_error.get().is_some()).await;
        self.ledger.last_error.get().unwrap()
    }
}

/// `count` good lines with times from `start` on: now, within any retention.
fn good(start: u64, count: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let hour = u64::try_from(now.as_nanos()).unwrap() / 3_600_000_000_000 * 3_600_000_000_000;
    (start..start + count).fold(String::new(), |mut lines, n| {
        writeln!(lines, r#"log_event,host=a\ b value={n},text="it's \"{n}\"" {}"#, hour + n)
            .unwrap();
        lines
    })
}

#[test]
fn creates_the_database_and_its_retention_policy() {
    let server = Influxd::start("");
    let mut destination = Destination::new(&server);
    destination.settings.gzip = Gzip::Always;
    let counts = destination.deliver(async |story| story.send(&good(0, 1000)).await);
    assert_eq!((counts.delivered, counts.batches, counts.retries), (1000, 1, 0));
    assert!(counts.bytes < 20_000, "compressed: {} bytes", counts.bytes);
    assert_eq!(server.count(DATABASE, "log_event", "value"), 1000);
    let policies = server.rows(r#"SHOW RETENTION POLICIES ON "sense \"ops\"""#);
    let policy = policies.iter().find(|row| row[0] == "10d").expect("the policy is there");
    assert_eq!((&policy[1], &policy[4]), (&"240h0m0s".into(), &true.into()));
}

#[test]
fn leaves_an_existing_database_alone() {
    let server = Influxd::start("");
    server.query(r#"CREATE DATABASE "sense \"ops\"""#);
    let counts = Destination::new(&server).deliver(async |story| story.send(&good(0, 10)).await);
    assert_eq!(counts.delivered, 10);
    let policies = server.rows(r#"SHOW RETENTION POLICIES ON "sense \"ops\"""#);
    assert_eq!(policies.len(), 1, "only autogen: {policies:?}");
}

#[test]
fn keeps_events_until_the_password_is_right() {
    let mut server = Influxd::start("auth-enabled = true");
    server.query("CREATE USER admin WITH PASSWORD 'secret' WITH ALL PRIVILEGES");
    server.log_in("admin", "secret");
    server.query("CREATE USER sos WITH PASSWORD 'old' WITH ALL PRIVILEGES");
    let counts = Destination::new(&server).log_in("sos", "n:ew ä").deliver(async |story| {
        story.send(&good(0, 10)).await;
        let error = story.until_error().await;
        assert!(error.contains("authorization failed") && error.contains("v1Config.auth"));
        assert!(!error.contains("n:ew"), "{error}");
        server.query("SET PASSWORD FOR sos = 'n:ew ä'");
        story.send(&good(10, 10)).await;
    });
    assert_eq!(counts.delivered, 20);
    assert!(counts.retries > 0);
    assert_eq!(server.count(DATABASE, "log_event", "value"), 20);
}

#[test]
fn a_user_who_may_only_write() {
    let mut server = Influxd::start("auth-enabled = true");
    server.query("CREATE USER admin WITH PASSWORD 'secret' WITH ALL PRIVILEGES");
    server.log_in("admin", "secret");
    server.query(r#"CREATE DATABASE "sense \"ops\"""#);
    server.query("CREATE USER writer WITH PASSWORD 'w'");
    server.query(r#"GRANT WRITE ON "sense \"ops\"" TO writer"#);
    let counts = Destination::new(&server)
        .log_in("writer", "w")
        .deliver(async |story| story.send(&good(0, 10)).await);
    assert_eq!(counts.delivered, 10);
    assert_eq!(server.count(DATABASE, "log_event", "value"), 10);
}

#[test]
fn drops_lines_that_do_not_parse_and_no_others() {
    let server = Influxd::start("");
    let counts = Destination::new(&server).deliver(async |story| {
        let bad = "log_event value=\nlog_event,host= value=1\nlog_event value=\"a': b\" 'x': y\n";
        story.send(&format!("{}{bad}{}nonsense\n", good(0, 50), good(50, 50))).await;
        story.send("nothing good at all\n").await;
    });
    assert_eq!((counts.delivered, counts.lost.get(LossReason::Refused)), (100, 5));
    assert_eq!(server.count(DATABASE, "log_event", "value"), 100);
}

#[test]
fn counts_field_type_conflicts() {
    let server = Influxd::start("");
    let counts = Destination::new(&server).deliver(async |story| {
        story.send(&good(0, 10)).await;
        story.until_delivered(10).await;
        let conflicts = good(20, 3).replace("value=", "value=\"").replace(",text", "\",text");
        story.send(&format!("{}{conflicts}{}", good(10, 5), good(15, 5))).await;
    });
    assert_eq!((counts.delivered, counts.lost.get(LossReason::Refused)), (20, 3));
    assert_eq!(server.count(DATABASE, "log_event", "value"), 20);
}

#[test]
fn a_restart_loses_nothing() {
    let mut server = Influxd::start("");
    let counts = Destination::new(&server).deliver(async |story| {
        story.send(&good(0, 100)).await;
        story.until_delivered(100).await;
        server.stop();
        for batch in 1..20 {
            story.send(&good(batch * 100, 100)).await;
        }
        let error = story.until_error().await;
        assert!(error.contains("127.0.0.1"), "{error}");
        server.start_again();
    });
    assert_eq!((counts.delivered, counts.lost.sum()), (2000, 0));
    assert_eq!(server.count(DATABASE, "log_event", "value"), 2000);
}

#[test]
fn a_dropped_database_is_made_again() {
    let server = Influxd::start("");
    let counts = Destination::new(&server).deliver(async |story| {
        story.send(&good(0, 10)).await;
        story.until_delivered(10).await;
        server.query(r#"DROP DATABASE "sense \"ops\"""#);
        story.send(&good(10, 10)).await;
    });
    assert_eq!((counts.delivered, counts.lost.sum()), (20, 0));
    assert_eq!(server.count(DATABASE, "log_event", "value"), 10);
}

#[test]
fn halves_what_is_too_large() {
    let server = Influxd::start("max-body-size = 50000");
    let counts = Destination::new(&server).deliver(async |story| {
        let giant = format!("log_event value=1,text=\"{}\" 1\n", "x".repeat(60_000));
        story.send(&format!("{}{giant}{}", good(0, 1500), good(1500, 1500))).await;
        // Far more than the server reads of a body that it refuses.
        story.send(&good(3000, 50_000)).await;
    });
    assert_eq!((counts.delivered, counts.lost.get(LossReason::Refused)), (53_000, 1));
    assert_eq!(server.count(DATABASE, "log_event", "value"), 53_000);
}
