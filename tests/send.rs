//! The load generator against plain sockets: it sends what it says, as fast as it is told.

mod support;

use std::collections::HashSet;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ringside::event::{Column, Field, Flags, Kind, Listener, parse};
use ringside::synthetic::load::{Events, Load, Report};
use ringside::synthetic::{Cluster, Mix, Pace, Recorded};

/// Datagrams that a socket of default size holds without anybody reading.
const FITS: u64 = 100;

fn receiver() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Everything that the socket holds. Loopback delivers within the sending call, so what was sent
/// is there.
fn drain(socket: &UdpSocket) -> Vec<(IpAddr, Vec<u8>)> {
    let mut buffer = vec![0; 65_536];
    let mut datagrams = Vec::new();
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        datagrams.push((from.ip(), buffer[..length].to_vec()));
    }
    datagrams
}

fn load(log: SocketAddr) -> Load {
    Load {
        log: Some(log),
        user: None,
        events: Events::Cluster { mix: Mix::CLUSTER, seed: Some(1) },
        pace: Pace::Unlimited,
        count: Some(FITS),
        duration: None,
        sources: 1,
    }
}

fn run(load: &Load) -> Report {
    load.run(&AtomicBool::new(false), |_| ()).unwrap()
}

#[test]
fn counts_what_arrives_on_both_ports() {
    let (log, log_address) = receiver();
    let (user, user_address) = receiver();
    let report = run(&Load { user: Some(user_address), ..load(log_address) });
    let (logs, users) = (drain(&log), drain(&user));
    assert_eq!(report.sent(), FITS);
    assert_eq!(report.by_listener, [users.len() as u64, logs.len() as u64]);
    assert_eq!(report.by_kind.iter().sum::<u64>(), FITS);
    let bytes: usize = logs.iter().chain(&users).map(|(_, payload)| payload.len()).sum();
    assert_eq!(report.bytes, bytes as u64);
    assert!(!users.is_empty());
    for (listener, datagrams) in [(Listener::UserEvents, users), (Listener::LogEvents, logs)] {
        for (_, payload) in datagrams {
            let source = payload.split(|&byte| byte == b'/').nth(1).unwrap();
            let kind = Kind::ALL.into_iter().find(|kind| kind.name().as_bytes() == source);
            assert_eq!(kind.map(Kind::listener), Some(listener));
        }
    }
}

#[test]
fn every_event_of_every_kind_is_read_without_remark() {
    let mut scratch = Vec::new();
    let mut seen = HashSet::new();
    for (listener, payload) in Cluster::new(3, Mix::CLUSTER, 4).take(5000) {
        let event = parse(listener, &payload, &mut scratch).unwrap();
        let text = String::from_utf8_lossy(&payload);
        assert_eq!(event.flags, Flags::default(), "{text}");
        for (column, field) in event.columns() {
            assert!(
                !matches!(field, Field::Uuid(None) if column != Column::ProxySessionId),
                "{text}"
            );
            assert!(!matches!(field, Field::Float(number) if number.is_nan()), "{text}");
        }
        seen.insert(event.kind());
    }
    assert_eq!(seen.len(), Kind::COUNT);
}

#[test]
fn the_same_seed_sends_the_same_bytes_at_any_pace() {
    let (socket, address) = receiver();
    let send = |seed, pace| {
        let events = Events::Cluster { mix: Mix::CLUSTER, seed: Some(seed) };
        run(&Load { events, pace, ..load(address) });
        drain(&socket)
    };
    let first = send(5, Pace::Unlimited);
    assert_eq!(first.len() as u64, FITS);
    assert_eq!(first, send(5, Pace::Steady(5000)));
    assert_ne!(first, send(6, Pace::Unlimited));
}

#[test]
fn keeps_the_rate_and_never_exceeds_it() {
    let (_socket, address) = receiver();
    let second = Duration::from_secs(1);
    let load =
        Load { pace: Pace::Steady(20_000), count: None, duration: Some(second), ..load(address) };
    // A busy machine can delay the last events of one run, hardly those of three.
    let on_time = (0..3).any(|_| {
        let report = run(&load);
        assert_eq!(report.sent(), 20_000);
        assert!(report.elapsed >= second, "{report:?}");
        report.elapsed <= second.mul_f64(1.02)
    });
    assert!(on_time);
}

#[test]
fn each_source_has_an_address_of_its_own() {
    let (socket, address) = receiver();
    run(&Load { sources: 3, ..load(address) });
    let sources: HashSet<_> = drain(&socket).into_iter().map(|(from, _)| from).collect();
    let expected = (1..=3).map(|last| IpAddr::from([127, 0, 0, last])).collect();
    assert_eq!(sources, expected);
}

#[test]
fn a_file_is_sent_as_it_is_and_in_order() {
    let payloads: [&[u8]; 4] = [b"/qseow-engine/;1", b"", b"\xff\x00;", b"/qseow-proxy-session/;h"];
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for (payload, port) in payloads.iter().zip(["log", "log", "log", "user"]) {
        let text = BASE64_STANDARD.encode(payload);
        writeln!(file, r#"{{"id":"x","port":"{port}","payload_b64":"{text}"}}"#).unwrap();
    }
    let events = || Events::Recorded(Recorded::read(file.path()).unwrap());
    let (log, log_address) = receiver();
    let (user, user_address) = receiver();
    let received = |socket| drain(socket).into_iter().map(|(_, payload)| payload);

    let once = Load { events: events(), count: None, ..load(log_address) };
    let report = run(&once);
    assert_eq!(report.by_listener, [0, 4]);
    assert!(received(&log).eq(payloads.map(<[u8]>::to_vec)));

    let both =
        Load { user: Some(user_address), events: events(), count: Some(6), ..load(log_address) };
    let report = run(&both);
    assert_eq!(report.by_listener, [1, 5]);
    assert_eq!(report.by_kind[Kind::Engine as usize], 2);
    assert_eq!(received(&user).collect::<Vec<_>>(), [payloads[3]]);
    let expected = [0, 1, 2, 0, 1].map(|index: usize| payloads[index].to_vec());
    assert!(received(&log).eq(expected));
}

#[cfg(target_os = "linux")]
#[test]
fn says_so_when_nobody_listens_and_goes_on() {
    let (socket, address) = receiver();
    drop(socket);
    let report = run(&load(address));
    assert_eq!(report.sent(), FITS);
    assert!(report.refused > 0);
}

#[test]
fn the_command_reports_in_json() {
    let (log, log_address) = receiver();
    let (user, user_address) = receiver();
    let output = Command::new(support::binary())
        .args(["send", "--to", &log_address.to_string(), "--user-to", &user_address.to_string()])
        .args(["--count", "100", "--rate", "0", "--seed", "1", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let (logs, users) = (drain(&log), drain(&user));
    assert_eq!(report["sent"], FITS);
    assert_eq!(report["log"], logs.len());
    assert_eq!(report["user"], users.len());
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("sent 100 events, "));
}

#[test]
fn wrong_usage_ends_with_2() {
    for target in ["127.0.0.1", "no such host:1"] {
        let output = Command::new(support::binary())
            .args(["send", "--to", target, "--count", "1"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(target), "{output:?}");
    }
}
