//! What the kernel has lost before it reached a socket is shown, in `/metrics` and by `check --host`.
#![cfg(target_os = "linux")]

mod support;

use std::net::UdpSocket;
use std::process::Command;

use socket2::SockRef;
use support::{Config, Ringside, binary};

/// More than fits a socket's smallest buffer, many times over.
const DATAGRAMS: u64 = 1000;

/// Overfills the buffer of a socket that nobody reads; how many datagrams the kernel dropped for sure.
fn overfill() -> u64 {
    let full = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    SockRef::from(&full).set_recv_buffer_size(0).expect("the least");
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for _ in 0..DATAGRAMS {
        sender.send_to(&[0; 500], full.local_addr().expect("bound")).expect("send on loopback");
    }
    full.set_nonblocking(true).expect("a socket");
    let taken = std::iter::from_fn(|| full.recv(&mut [0; 500]).ok()).count() as u64;
    assert!(taken < DATAGRAMS, "nothing was dropped");
    DATAGRAMS - taken
}

/// The number after `name` in a text.
fn number_after(text: &str, name: &str) -> u64 {
    let (_, rest) = text.split_once(name).unwrap_or_else(|| panic!("no {name} in {text}"));
    let number = rest.trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    number.parse().unwrap_or_else(|_| panic!("no number after {name} in {text}"))
}

#[test]
fn what_the_kernel_drops_is_shown() {
    let ringside = Ringside::start(&Config::default());
    let file = ringside.directory.path().join("checked.yaml");
    std::fs::write(&file, Config::default().text()).expect("a file");
    let check = || {
        let output =
            Command::new(binary()).arg("check").arg("-c").arg(&file).arg("--host").output();
        let output = output.expect("runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let shown = || {
        let (metrics, check) = (ringside.get("/metrics").1, check());
        let metric = |name: &str| number_after(&metrics, &format!("\n{name}{{ip=\"4\"}}"));
        let line = |name: &str| number_after(&check, &format!("host: IPv4: {name}"));
        number_after(&metrics, "\nringside_host_softnet_dropped_total");
        number_after(&check, "host: softnet dropped");
        [
            [metric("ringside_host_udp_in_errors_total"), line("Udp InErrors")],
            [metric("ringside_host_udp_rcvbuf_errors_total"), line("Udp RcvbufErrors")],
            [metric("ringside_host_ip_reassembly_failures_total"), line("Ip ReasmFails")],
        ]
    };
    let before = shown();
    let dropped = overfill();
    let after = shown();
    for shown_by in [0, 1] {
        assert!(after[0][shown_by] >= before[0][shown_by] + dropped, "{before:?} {after:?}");
        assert!(after[1][shown_by] >= before[1][shown_by] + dropped, "{before:?} {after:?}");
        assert!(after[2][shown_by] >= before[2][shown_by], "{before:?} {after:?}");
    }
}
