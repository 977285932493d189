//! The HTTP sink of `perf/throughput.sh`: answers 204 after an optional delay and prints totals.
//!
//! `cargo run --release --example sink -- [ADDRESS] [DELAY_MS]`. Prints its address, then, when
//! standard input ends, one line of JSON with what it has seen.

#[path = "../tests/support/sink.rs"]
mod sink;

use std::io::{self, Read};
use std::time::Duration;

use sink::{Options, Sink};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let bind = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned()).parse()?;
    let delay = Duration::from_millis(arguments.next().unwrap_or_default().parse().unwrap_or(0));
    let sink = Sink::start(Options { bind, delay, ..Options::default() });
    println!("{}", sink.address());
    io::stdin().read_to_end(&mut Vec::new())?;
    let totals = sink.totals();
    println!(
        "{{\"requests\":{},\"lines\":{},\"bytes\":{}}}",
        totals.requests, totals.lines, totals.bytes
    );
    Ok(())
}
