//! `ringside demo`: the engine with its embedded default, and a synthetic Sense cluster that sends to
//! it over loopback.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;

use super::{run, settings};
use crate::config::{self, Config};
use crate::engine::Engine;
use crate::event::Listener;
use crate::observe::logging;
use crate::synthetic::Mix;
use crate::synthetic::Pace;
use crate::synthetic::load::{Events, Load};

/// Servers of the synthetic cluster.
const SERVERS: u8 = 4;

/// Arguments of `ringside demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Stop after this many seconds; without it, Ctrl-C stops
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// Events per second
    #[arg(long, value_name = "N", default_value_t = 200,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
}

/// Runs the demo; returns the exit code.
#[must_use]
pub fn demo(args: &DemoArgs) -> u8 {
    let config = config::embedded_default();
    logging::start(settings::level(&config), None);
    let limit = args.seconds.map(|seconds| Duration::from_secs(seconds.into()));
    run::run_config(&config, None, limit, |engine| {
        introduce(&config, args.rate);
        Cluster::start(load(engine, args.rate))
    })
}

/// The synthetic cluster; it stops sending when dropped.
struct Cluster {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Cluster {
    fn start(load: Load) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            if let Err(error) = load.run(&stopped, |_| {}) {
                tracing::error!("the synthetic cluster stopped: {error}");
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed; the engine is to drain all the same.
            let _ = thread.join();
        }
    }
}

/// What to open and what to try.
fn introduce(config: &Config, rate: u64) {
    let console = &config.ringside.console;
    logging::say(format_args!(
        "demo: {SERVERS} synthetic Sense servers send {rate} events/s\n\
         demo: open http://{}:{}/ and watch; `curl http://{0}:{1}/metrics` for Prometheus\n\
         demo: the events are in {}; Ctrl-C drains and prints the ledger",
        console.host, console.port, config.ringside.ndjson.path,
    ));
}

fn load(engine: &Engine, rate: u64) -> Load {
    let target = |listener| engine.receivers().addresses(listener).first().copied();
    Load {
        log: target(Listener::LogEvents),
        user: target(Listener::UserEvents),
        events: Events::Cluster { mix: Mix::CLUSTER, seed: None },
        pace: Pace::Steady(rate),
        count: None,
        duration: None,
        sources: SERVERS,
    }
}
