//! What each key of `ringside.spool` changes, seen from outside of the real binary.

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::Value;
use support::numbered::arrived;
use support::server::nobody;
use support::sink::{Options, Reply, Sink};
use support::{Config, DEADLINE, Ringside, number, proxy_event, send_all, wait_for};

const ASSIGNED: &str = "/destinations/influxdb/assigned";
const DELIVERED: &str = "/destinations/influxdb/delivered";
const SPOOLED: &str = "/destinations/influxdb/spooled";

fn config(to: SocketAddr, spool: &Path, more: &str) -> Config {
    Config::influxdb(1, to)
        .ringside("flushInterval: 10ms")
        .ringside("deliver: { inFlight: 1 }")
        .ringside(&format!("spool: {{ dir: '{}'{more} }}", spool.display()))
}

/// The folders of destinations.
fn folders(spool: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(spool).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

fn segments(spool: &Path) -> Vec<PathBuf> {
    let files = folders(spool).into_iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files = files.map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect()
}

#[test]
fn the_oldest_give_way_when_max_bytes_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let more = ", mode: always, maxBytes: 1MiB";
    let mut ringside = Ringside::start(&config(nobody(), folder.path(), more));
    // Letters without order: they take as much room on disk.
    let mut random = fastrand::Rng::with_seed(1);
    let mut message = || (0..1000).map(|_| random.alphanumeric()).collect::<String>();
    let full = "/destinations/influxdb/dropped/spool_full";
    let mut stats = Value::Null;
    for round in 1..=15 {
        send_all(ringside.log_events, (0..200).map(|_| proxy_event(&message())));
        stats = ringside.wait_stats("all written", |stats| {
            number(stats, SPOOLED) + number(stats, full) == 200 * round
        });
    }
    assert!(number(&stats, full) > 200, "more than fits: {stats:#}");
    assert!(number(&stats, SPOOLED) > 200, "the youngest stay: {stats:#}");
    let bytes: u64 = segments(folder.path()).iter().map(|s| s.metadata().unwrap().len()).sum();
    assert!(bytes <= 1 << 20, "{bytes}");
    assert!(ringside.stop().success());
}

#[test]
fn events_expire_at_max_age() {
    let folder = tempfile::tempdir().unwrap();
    let mut ringside = Ringside::start(&config(nobody(), folder.path(), ", maxAge: 1s"));
    send_all(ringside.log_events, (0..10).map(|n| proxy_event(&n.to_string())));
    ringside.wait_stats("all are too old", |stats| {
        number(stats, "/destinations/influxdb/dropped/expired") == 10
    });
    assert!(ringside.stop().success());
}

#[test]
fn mode_says_whether_a_destination_that_works_has_a_spool() {
    let sink = Sink::start(Options::default());
    for (mode, written) in [("onFailure", false), ("always", true)] {
        let folder = tempfile::tempdir().unwrap();
        let config = config(sink.address(), folder.path(), &format!(", mode: {mode}"));
        let mut ringside = Ringside::start(&config);
        send_all(ringside.log_events, (0..10).map(|n| proxy_event(&n.to_string())));
        ringside.wait_stats("delivered", |stats| number(stats, DELIVERED) == 10);
        assert_eq!(folders(folder.path()).len(), usize::from(written), "{mode}");
        assert!(ringside.stop().success());
    }
}

/// Answers when it is open.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(open, DEADLINE, |open| !*open).unwrap());
    }
}

/// The order in which events come of which 20 waited on disk when the last one was sent.
fn after_an_outage(order: &str) -> Vec<u64> {
    let folder = tempfile::tempdir().unwrap();
    let address = nobody();
    let event = |number: u64| [proxy_event(&format!("number <{number}>"))];
    // Written one by one, so that they are records of their own, which are read one by one.
    let config = config(address, folder.path(), &format!(", mode: always, order: {order}"));
    let mut down = Ringside::start(&config);
    for number in 0..20 {
        send_all(down.log_events, event(number));
        down.wait_stats("on disk", |stats| self::number(stats, SPOOLED) == number + 1);
    }
    assert!(down.stop().success());

    let gate = Gate::default();
    let answer = {
        let gate = gate.clone();
        move |request: &support::sink::Request| {
            if !request.path.starts_with("/write") {
                return Reply::json(200, r#"{"results":[]}"#);
            }
            gate.pass();
            Reply::status(204)
        }
    };
    let answer = Some(Arc::new(answer) as support::sink::Answer);
    let sink = Sink::start(Options { bind: address, record: true, answer, ..Options::default() });
    // What is new goes to the destination directly, if it may.
    let config = Config { ringside: config.ringside.replace("always", "onFailure"), ..config };
    let mut up = Ringside::start(&config);
    wait_for("a first request", DEADLINE, || (!arrived(&sink).is_empty()).then_some(()));
    send_all(up.log_events, event(20));
    up.wait_stats("the new event", |stats| number(stats, ASSIGNED) == 21);
    gate.open();
    up.wait_stats("everything is delivered", |stats| number(stats, DELIVERED) == 21);
    assert!(up.stop().success());
    arrived(&sink)
}

#[test]
fn order_says_whether_what_is_new_waits_for_what_is_old() {
    assert_eq!(after_an_outage("strict"), (0..21).collect::<Vec<_>>());
    let mut fresh = after_an_outage("freshFirst");
    // How early the new one comes depends on when its batch leaves; that it may is what matters here.
    fresh.sort_unstable();
    assert_eq!(fresh, (0..21).collect::<Vec<_>>(), "each once");
}

/// The interval is also that in which what is delivered is removed. Two processes differ in it alone,
/// so the slower one is late by comparison, whatever the machine does.
#[test]
fn the_disk_is_tended_at_sync_interval() {
    let sink = Sink::start(Options::default());
    let [rarely, often] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let start = |folder: &Path, more: &str| {
        Ringside::start(&config(sink.address(), folder, &format!(", mode: always{more}")))
    };
    let mut slow = start(rarely.path(), ", syncInterval: 60s");
    let mut quick = start(often.path(), "");
    let deliver = |ringside: &Ringside, total: u64| {
        send_all(ringside.log_events, [proxy_event("one")]);
        ringside.wait_stats("delivered", |stats| number(stats, DELIVERED) == total);
    };
    deliver(&slow, 1);
    // A segment is removed at the second look after it was written to: three times are three
    // intervals at least.
    for round in 1..=3 {
        deliver(&quick, round);
        wait_for("an empty folder", DEADLINE, || segments(often.path()).is_empty().then_some(()));
    }
    assert_eq!(segments(rarely.path()).len(), 1, "not looked at yet");
    assert!(slow.stop().success() && quick.stop().success());
}
