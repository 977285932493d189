//! From one process to the next: what a crash took with it is counted, and a socket that systemd
//! passes on loses nothing.
#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::sink::{Reply, Request, Sink};
use support::{
    Config, DEADLINE, Ringside, binary, number, proxy_event, send_all, user_event, wait_for,
};

/// A sink that can stop answering.
struct Holding {
    sink: Sink,
    hold: &'static AtomicBool,
    /// Lines that it has acknowledged.
    acknowledged: &'static AtomicU64,
}

impl Holding {
    fn start() -> Self {
        // They live as long as the sink's threads, which is to the end of the process.
        let hold: &AtomicBool = Box::leak(Box::default());
        let acknowledged: &AtomicU64 = Box::leak(Box::default());
        let sink = Sink::answering(move |request: &Request| {
            if !request.path.contains("/write") {
                return Reply::json(200, r#"{"results":[]}"#);
            }
            let start = Instant::now();
            while hold.load(Ordering::Acquire) && start.elapsed() < DEADLINE {
                thread::park_timeout(Duration::from_millis(5));
            }
            let lines = memchr::memchr_iter(b'\n', &request.body).count();
            acknowledged.fetch_add(lines as u64, Ordering::AcqRel);
            Reply::status(204)
        });
        Self { sink, hold, acknowledged }
    }

    fn hold(&self, hold: bool) {
        self.hold.store(hold, Ordering::Release);
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        // The sink waits for its threads.
        self.hold(false);
    }
}

fn with_spool(sink: &Sink, folder: &Path) -> Config {
    Config::influxdb(1, sink.address())
        .ringside("flushInterval: 10ms")
        .ringside(&format!("spool: {{ dir: '{}' }}", folder.display()))
}

/// Waits until the checkpoint has not changed for three of its intervals.
fn wait_until_stable(file: &Path) {
    let mut last = (Instant::now(), Vec::new());
    wait_for("a stable checkpoint", DEADLINE, || {
        let now = std::fs::read(file).unwrap_or_default();
        if now.is_empty() || now != last.1 {
            last = (Instant::now(), now);
        }
        (last.0.elapsed() > Duration::from_millis(300)).then_some(())
    });
}

const CRASH: &str = "/destinations/influxdb/dropped/crash";

#[test]
fn after_kill_9_the_next_start_says_how_much_was_in_memory() {
    let server = Holding::start();
    let folder = tempfile::tempdir().expect("a folder");
    let spool = folder.path().join("spool");
    let config = with_spool(&server.sink, &spool);

    let mut ringside = Ringside::start(&config);
    assert!(!spool.exists(), "no trace while nothing was received");
    send_all(ringside.log_events, (0..100).map(|n| proxy_event(&n.to_string())));
    ringside.wait_stats("a hundred events at the far end", |stats| {
        number(stats, "/destinations/influxdb/delivered") == 100
    });
    server.hold(true);
    send_all(ringside.log_events, (0..1_234).map(|n| proxy_event(&n.to_string())));
    ringside.wait_stats("all events read", |stats| {
        number(stats, "/listeners/log_events/accepted") == 1_334
    });
    wait_until_stable(&spool.join("ledger"));
    ringside.signal(Signal::SIGKILL);
    ringside.wait();
    let lost = 1_334 - server.acknowledged();
    assert_eq!(lost, 1_234);
    server.hold(false);

    let mut second = Ringside::start(&config);
    let stats = second.wait_stats("what was lost", |stats| number(stats, CRASH) > 0);
    assert_eq!(number(&stats, CRASH), lost);
    assert_eq!(number(&stats, "/destinations/influxdb/assigned"), lost);
    assert!(second.log().contains("1234"), "{}", second.log());
    assert!(second.stop().success(), "{}", second.log());

    let mut third = Ringside::start(&config);
    assert_eq!(number(&third.stats(), CRASH), 0, "counted once, and the stop was clean");
    assert!(!third.log().contains("crash"), "{}", third.log());
    assert!(third.stop().success());
}

#[test]
fn under_load_the_crash_count_is_right_to_within_a_moment_of_traffic() {
    // The promise is 100 ms; other tests keep the processors busy.
    const WITHIN: Duration = Duration::from_millis(500);
    let server = Holding::start();
    server.hold(true);
    let folder = tempfile::tempdir().expect("a folder");
    let config = with_spool(&server.sink, folder.path());
    let mut ringside = Ringside::start(&config);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut sent = Vec::new();
    while sent.len() < 2_000 {
        let event = proxy_event(&sent.len().to_string());
        socket.send_to(event.as_bytes(), ringside.log_events).expect("send on loopback");
        sent.push(Instant::now());
        thread::sleep(Duration::from_micros(500));
    }
    let end = Instant::now();
    ringside.signal(Signal::SIGKILL);
    ringside.wait();
    server.hold(false);

    let surely = sent.iter().filter(|at| end.duration_since(**at) > WITHIN).count() as u64;
    assert!(surely > 0);
    let crash =
        |stats: &Value| number(stats, CRASH) + number(stats, "/listeners/log_events/dropped/crash");
    let mut second = Ringside::start(&config);
    // It is ready before it has looked into its spool.
    let stats = second.wait_stats("the crash is counted", |stats| crash(stats) >= surely);
    assert!(crash(&stats) <= sent.len() as u64, "{stats:#}");
    assert!(second.stop().success());
}

#[test]
fn a_second_process_is_refused_the_folder() {
    let server = Holding::start();
    let folder = tempfile::tempdir().expect("a folder");
    let config = with_spool(&server.sink, folder.path());
    let mut ringside = Ringside::start(&config);
    send_all(ringside.log_events, [proxy_event("one")]);
    wait_until_stable(&folder.path().join("ledger"));
    let file = folder.path().join("second.yaml");
    std::fs::write(&file, config.text()).expect("write the configuration");
    let output = Command::new(binary()).args(["run", "-c"]).arg(&file).output().expect("run it");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("another ringside") && errors.contains("spool.dir"), "{errors}");
    assert!(ringside.stop().success());
}

/// `ringside run` as systemd starts it: with these files from descriptor 3 on.
fn activated(files: [OwnedFd; 2], config: &Path) -> Command {
    let [first, second] = files;
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(
            "exec 3<&0 4<&1 </dev/null >/dev/null; \
             LISTEN_FDS=2 LISTEN_PID=$$ exec \"$0\" run -c \"$1\"",
        )
        .arg(binary())
        .arg(config)
        .stdin(Stdio::from(first))
        .stdout(Stdio::from(second));
    command
}

/// A configuration whose listeners have these ports.
fn on_ports(config: &Config, user: SocketAddr, log: SocketAddr) -> String {
    config
        .text()
        .replace("ActivityEvents: 0", &format!("ActivityEvents: {}", user.port()))
        .replace("portLogEvents: 0", &format!("portLogEvents: {}", log.port()))
}

fn sockets() -> [UdpSocket; 2] {
    ["127.0.0.1:0", "127.0.0.1:0"].map(|address| UdpSocket::bind(address).expect("a socket"))
}

fn start_activated(sockets: &[UdpSocket; 2], config: &Config) -> Ringside {
    let [user, log] = [0, 1].map(|n| sockets[n].local_addr().expect("bound"));
    let directory = tempfile::tempdir().expect("a folder");
    let file = directory.path().join("ringside.yaml");
    std::fs::write(&file, on_ports(config, user, log)).expect("write the configuration");
    let files = [0, 1].map(|n| sockets[n].try_clone().expect("a descriptor").into());
    let ringside = Ringside::spawn_with_files(activated(files, &file), directory);
    assert_eq!([ringside.user_events, ringside.log_events], [user, log]);
    ringside
}

/// Sends numbered events to both until told to stop, counting them.
fn send_numbered(to: [SocketAddr; 2], sent: &AtomicU64, over: &AtomicBool) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    while !over.load(Ordering::Acquire) {
        let number = sent.load(Ordering::Acquire);
        let name = format!("n{number}n");
        let (event, to) = match number % 2 {
            0 => (user_event(&name), to[0]),
            _ => (proxy_event(&name), to[1]),
        };
        socket.send_to(event.as_bytes(), to).expect("send on loopback");
        sent.store(number + 1, Ordering::Release);
        thread::sleep(Duration::from_millis(1));
    }
}

/// The numbers of [`send_numbered`] that arrived.
fn arrived(sink: &Sink) -> BTreeSet<u64> {
    let mut numbers = BTreeSet::new();
    for body in sink.bodies() {
        for line in String::from_utf8(body).expect("UTF-8").lines() {
            let (_, rest) = line
                .split_once("userId=\"n")
                .or_else(|| line.split_once("message=\"n"))
                .unwrap_or_else(|| panic!("a number in {line}"));
            let (number, _) = rest.split_once('n').expect("its end");
            assert!(numbers.insert(number.parse().expect("a number")), "twice: {line}");
        }
    }
    numbers
}

fn sockets_go_from_one_process_to_the_next_under_load(backend: &'static str) {
    let sink = Sink::recording();
    let config = Config { backend, ..Config::influxdb(1, sink.address()) };
    let config = config.ringside("flushInterval: 10ms");
    let sockets = sockets();
    let to = [0, 1].map(|n| sockets[n].local_addr().expect("bound"));
    let (sent, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let wait_sent = |more: u64| {
        let until = sent.load(Ordering::Acquire) + more;
        wait_for("more traffic", DEADLINE, || {
            (sent.load(Ordering::Acquire) >= until).then_some(())
        });
    };
    thread::scope(|scope| {
        let mut first = start_activated(&sockets, &config);
        scope.spawn(|| send_numbered(to, &sent, &over));
        // Whatever fails, the sender ends with the scope.
        let _over = OnDrop(&over);
        wait_sent(300);
        assert!(first.stop().success(), "{}", first.log());
        let before = sink.lines();
        assert!(before > 0, "the first process took part");
        // While nobody reads, the sockets keep what comes.
        wait_sent(100);
        let mut second = start_activated(&sockets, &config);
        wait_sent(100);
        over.store(true, Ordering::Release);
        let all = wait_for("the last event", DEADLINE, || {
            let sent = sent.load(Ordering::Acquire);
            (sink.lines() >= sent).then_some(sent)
        });
        let stats = second.stats();
        for listener in ["user_events", "log_events"] {
            let dropped = format!("/listeners/{listener}/kernel_dropped");
            assert_eq!(number(&stats, &dropped), 0, "{stats:#}");
        }
        assert!(second.stop().success(), "{}", second.log());
        assert_eq!(arrived(&sink), (0..sent.load(Ordering::Acquire)).collect(), "of {all}");
    });
}

/// Sets a flag when dropped.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn sockets_go_from_one_process_to_the_next_under_load_with_io_uring() {
    sockets_go_from_one_process_to_the_next_under_load("io_uring");
}

#[test]
fn sockets_go_from_one_process_to_the_next_under_load_with_tokio() {
    sockets_go_from_one_process_to_the_next_under_load("tokio");
}

/// The errors of a run that ends by itself.
fn refused(files: [OwnedFd; 2], config: &str) -> String {
    let directory = tempfile::tempdir().expect("a folder");
    let file = directory.path().join("ringside.yaml");
    std::fs::write(&file, config).expect("write the configuration");
    let errors = File::create(directory.path().join("errors")).expect("a file");
    let mut child = activated(files, &file)
        .current_dir(directory.path())
        .stderr(errors)
        .spawn()
        .expect("start ringside");
    let status = wait_for("its end", DEADLINE, || child.try_wait().expect("wait"));
    assert_eq!(status.code(), Some(1));
    std::fs::read_to_string(directory.path().join("errors")).expect("its errors")
}

#[test]
fn passed_sockets_that_do_not_fit_are_errors_that_say_what_to_do() {
    let config = Config::default();
    let [user, log] = sockets();
    let [user_at, log_at] = [&user, &log].map(|socket| socket.local_addr().expect("bound"));

    // Only one of the two has a listener.
    let nobody = refused(
        [user.try_clone().expect("a descriptor").into(), log.into()],
        &on_ports(&config, user_at, SocketAddr::from(([0, 0, 0, 0], 0))),
    );
    assert!(nobody.contains(&log_at.to_string()), "{nobody}");
    assert!(nobody.contains("ListenDatagram="), "{nobody}");

    let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let not_udp = refused([user.into(), tcp.into()], &on_ports(&config, user_at, log_at));
    assert!(not_udp.contains("fd 4 is not a valid udp socket"), "{not_udp}");
    assert!(not_udp.contains("ListenDatagram="), "{not_udp}");
}

/// A `ringside` that tells this socket what it tells systemd.
struct Told {
    socket: UnixDatagram,
    ringside: Ringside,
}

impl Told {
    fn start(variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let file = directory.path().join("ringside.yaml");
        std::fs::write(&file, Config::default().text()).expect("write the configuration");
        let mut command = Command::new(binary());
        command.arg("run").arg("-c").arg(&file).env("NOTIFY_SOCKET", &path);
        command.envs(variables.iter().copied());
        Self { socket, ringside: Ringside::spawn(command, directory) }
    }

    fn next(&self) -> String {
        let mut buffer = [0; 512];
        let length = self.socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_and_for_how_long_it_stops() {
    let mut told = Told::start(&[]);
    assert!(told.next().contains("READY=1"));
    assert!(told.ringside.stop().success());
    // The drain's 10 s and 10 s for what is behind it.
    let stopping = told.next();
    assert!(stopping.contains("STOPPING=1"), "{stopping}");
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC=20000000"), "{stopping}");
}

#[test]
fn systemds_watchdog_hears_from_an_engine_that_turns_if_it_asks_to() {
    let mut told = Told::start(&[("WATCHDOG_USEC", "30000000")]);
    assert!(told.next().contains("READY=1"));
    for _ in 0..2 {
        assert_eq!(told.next().trim(), "WATCHDOG=1");
    }
    assert!(told.ringside.stop().success());
}
