//! A destination in a network of its own, whose cable is pulled.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Command, id};
use std::thread;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

use crate::all_delivered;
use crate::support::numbered::{Stream, arrived, event};
use crate::support::sink::{Options, Sink};
use crate::support::{Config, Ringside, number};

/// `ip ...`, which must succeed.
fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output =
        output.expect("these tests need `ip`: install it with `apt-get install -y iproute2`");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {errors}");
}

/// A network namespace and the cable to it. Both end with the value.
struct Network {
    name: String,
    cable: String,
    far: SocketAddr,
}

impl Network {
    fn new() -> Self {
        // The process id makes names (15 characters at most) and addresses ours; 198.18.0.0/15 is set
        // aside for tests of networks, so nothing real is hidden.
        let id = id();
        let [.., third, fourth] = (id << 2).to_be_bytes();
        let net = format!("198.18.{third}");
        let (near, far) = (format!("{net}.{}", fourth + 1), format!("{net}.{}", fourth + 2));
        let this = Self {
            name: format!("ringside-{id}"),
            cable: format!("rs{id}"),
            far: format!("{far}:8086").parse().expect("an address"),
        };
        let (name, cable) = (&this.name, &this.cable);
        ip(&format!("netns add {name}"));
        ip(&format!("link add {cable} type veth peer name far netns {name}"));
        ip(&format!("addr add {near}/30 dev {cable}"));
        ip(&format!("link set {cable} up"));
        ip(&format!("-n {name} addr add {far}/30 dev far"));
        ip(&format!("-n {name} link set far up"));
        ip(&format!("-n {name} link set lo up"));
        this
    }

    fn link(&self, state: &str) {
        ip(&format!("-n {} link set far {state}", self.name));
    }

    /// Does something in there. Threads that it starts stay.
    fn inside<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        let inside = move || {
            let file = open(path.as_str(), OFlag::O_RDONLY, Mode::empty()).expect("the namespace");
            setns(file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
            what()
        };
        thread::scope(|scope| scope.spawn(inside).join().expect("inside"))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for arguments in [["link", "del", &self.cable], ["netns", "del", &self.name]] {
            // Nothing more can be done; another test is not disturbed, its names are others.
            let _ = Command::new("ip").args(arguments).output();
        }
    }
}

/// A sink inside.
struct Inside<'a> {
    network: &'a Network,
    sink: Option<Sink>,
}

impl<'a> Inside<'a> {
    fn start(network: &'a Network) -> Self {
        let options = Options { bind: network.far, record: true, ..Options::default() };
        Self { network, sink: Some(network.inside(|| Sink::start(options))) }
    }

    fn sink(&self) -> &Sink {
        self.sink.as_ref().expect("until it is dropped")
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // It calls itself to end, for which it needs no cable in there.
        let sink = self.sink.take();
        self.network.inside(|| drop(sink));
    }
}

#[test]
fn a_cut_link_loses_nothing() {
    if !geteuid().is_root() {
        eprintln!("NOT TESTED: a cut link, since only root may make network namespaces.");
        return;
    }
    let network = Network::new();
    let inside = Inside::start(&network);
    let config = Config::influxdb(1, network.far)
        .ringside("flushInterval: 20ms")
        .ringside("influxdb: { timeout: 1s, connectTimeout: 1s }");
    let mut ringside = Ringside::start(&config);
    let stream = Stream::start(ringside.log_events, 0, Duration::from_micros(400), event);
    ringside.wait_stats("events over there", |stats| {
        number(stats, "/destinations/influxdb/delivered") > 300
    });
    network.link("down");
    ringside
        .wait_stats("events on disk", |stats| number(stats, "/destinations/influxdb/spooled") > 0);
    stream.wait_for(1_000);
    network.link("up");
    stream.wait_for(300);
    let (sent, _) = stream.finish();
    all_delivered(&ringside, "influxdb", sent);
    assert_eq!(arrived(inside.sink()).into_iter().collect::<BTreeSet<_>>(), (0..sent).collect());
    assert!(ringside.stop().success());
}
