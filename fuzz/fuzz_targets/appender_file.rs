//! Any bytes as a log appender file: no panic, and every complaint has a place in the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringside::appenders::{Expected, check};

fuzz_target!(|bytes: &[u8]| {
    let host = "ringside".parse().ok();
    let expected = Expected { host, ports: [9997, 9996], ports_known: [false; 2], folder: None };
    let checked = check(bytes, &expected);
    assert!(!checked.findings.is_empty() || !checked.sent.is_empty());
    for finding in checked.findings {
        assert!(finding.line > 0 && finding.column > 0 && !finding.what.is_empty());
    }
});
