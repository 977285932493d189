//! `ringside health`: what a container engine is told.

mod support;

use std::process::{Command, Output};

use support::server::free_port;
use support::{Config, Ringside, binary};

/// Asks the Ringside of this file.
fn ask(file: &std::path::Path) -> Output {
    Command::new(binary()).arg("health").arg("-c").arg(file).output().expect("run ringside")
}

/// A file whose console is here and has a token.
fn file(port: u16) -> String {
    let text = Config::default().text();
    let console = format!("    console:\n      port: {port}\n      token: sesame\n");
    assert!(text.contains("    console:\n      port: 0\n"), "{text}");
    text.replace("    console:\n      port: 0\n", &console)
}

#[test]
fn a_ringside_that_works_says_so_with_the_token_of_its_file() {
    let mut ringside = Ringside::start_with(&file(free_port()), &[]);
    let path = ringside.directory.path().join("ringside.yaml");
    let output = ask(&path);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(output.status.code(), Some(0), "{answer}");
    assert_eq!(answer["status"], "ok");

    assert!(ringside.stop().success());
    let output = ask(&path);
    assert_eq!(output.status.code(), Some(1), "nobody is there");
    assert!(String::from_utf8_lossy(&output.stderr).contains("/health: "), "{output:?}");
}

#[test]
fn a_wrong_token_is_no_health() {
    let port = free_port();
    let ringside = Ringside::start_with(&file(port), &[]);
    let other = ringside.directory.path().join("other.yaml");
    std::fs::write(&other, file(port).replace("sesame", "abracadabra")).expect("write");
    let output = ask(&other);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("HTTP 401"), "{output:?}");
}
