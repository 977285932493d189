//! The HTTP sink of the measurements: answers 204 after an optional delay and prints totals.
//!
//! `cargo run --release --example sink -- [ADDRESS] [DELAY_MS] [latency]`. Prints its address, then, when
//! standard input ends, one line of JSON with what it has seen. With `latency` it also looks for the
//! sender's clock in what arrives: the time from there to the moment at which the answer is due.

#[path = "../tests/support/sink.rs"]
mod sink;
mod stamp;

use std::io::{self, Read};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memchr::memmem::Finder;
use sink::{Options, Sink};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let bind = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned()).parse()?;
    let delay = Duration::from_millis(arguments.next().unwrap_or_default().parse().unwrap_or(0));
    let latencies = arguments.next().is_some_and(|word| word == "latency").then(|| {
        let latencies = Arc::new(Mutex::new(stamp::Latencies::new()));
        (Arc::clone(&latencies), watch(latencies, delay))
    });
    let (latencies, watch) = latencies.unzip();
    let sink = Sink::start(Options { bind, delay, watch, ..Options::default() });
    println!("{}", sink.address());
    io::stdin().read_to_end(&mut Vec::new())?;
    let totals = sink.totals();
    drop(sink);
    let latency = latencies.and_then(Arc::into_inner).and_then(|l| l.into_inner().ok());
    println!(
        "{}",
        serde_json::json!({
            "requests": totals.requests, "lines": totals.lines, "bytes": totals.bytes,
            "latency": latency.map(stamp::Latencies::json),
        })
    );
    Ok(())
}

/// Notes how old the stamped events of a body are. A stamp that lies across two parts is left out.
fn watch(latencies: Arc<Mutex<stamp::Latencies>>, delay: Duration) -> sink::Watch {
    let finder = Finder::new(stamp::MARK);
    let delay = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
    Arc::new(move |part| {
        let due = stamp::wall_ns() + delay;
        let mut latencies = latencies.lock().expect("nobody panics with it");
        stamp::find_all(&finder, part, |sent| latencies.add(sent, due));
    })
}
