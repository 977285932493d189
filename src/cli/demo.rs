//! `ringside demo`: the engine with its embedded default, a synthetic Sense cluster that sends to it
//! over loopback, and a stand-in for a database.
//!
//! The cluster lives through working days of a few minutes each. In the morning one of its engines
//! fails, some of its events are lost on the way, and the database goes away for a while, so that
//! there is something to see on the console page.

mod database;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::{EXIT_FAILED, run, settings};
use crate::config::{self, Config, InfluxdbConfig, InfluxdbVersion, Secret, V3Config};
use crate::engine::Engine;
use crate::event::Listener;
use crate::observe::logging;
use crate::observe::stats::{State, Stats};
use crate::synthetic::load::{Events, Load, Report};
use crate::synthetic::{self, Day, Mix, Pace};
use database::Database;

/// Servers of the synthetic cluster.
const SERVERS: u8 = 4;

/// The same apps and people in every demo.
const SEED: u64 = 4_747;

/// How often the demo looks whether the database is to be away.
const LOOK: Duration = Duration::from_millis(100);

/// Arguments of `ringside demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Stop after this many seconds and say what happened; without it, Ctrl-C stops
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// Events per second when the day is busiest
    #[arg(long, value_name = "N", default_value_t = 200,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// How long a working day takes
    #[arg(long, value_name = "SECONDS", default_value_t = 600,
          value_parser = clap::value_parser!(u32).range(10..=86_400))]
    day: u32,
}

/// Runs the demo; returns the exit code.
#[must_use]
pub fn demo(args: &DemoArgs) -> u8 {
    let mut config = config::embedded_default();
    logging::start(settings::level(&config), None);
    let console = &config.ringside.console;
    if let Err(error) = TcpListener::bind((&*console.host, console.port))
        && error.kind() == io::ErrorKind::AddrInUse
    {
        tracing::error!(
            "port {} of {} is in use; end the Ringside, the demo or the other program that runs here",
            console.port,
            console.host
        );
        return EXIT_FAILED;
    }
    let database = match Database::start() {
        Ok(database) => database,
        Err(error) => {
            tracing::error!("the demo's database does not start: {error}");
            return EXIT_FAILED;
        }
    };
    config.influxdb_config = of_database(&database);
    config.user_events.send_to_influxdb.enable = true;
    config.log_events.send_to_influxdb.enable = true;
    let limit = args.seconds.map(|seconds| Duration::from_secs(seconds.into()));
    #[expect(clippy::cast_precision_loss, reason = "at most a million")]
    let peak = args.rate as f64;
    let day = Day { peak, length: Duration::from_secs(args.day.into()) };
    let told = Told::default();
    let code = run::run_config(&config, None, limit, |engine| {
        introduce(&config, &day, limit);
        told.state(engine.state());
        let people = synthetic::Cluster::new(SEED, Mix::CLUSTER, SERVERS);
        engine.state().app_names.store(Arc::new(people.app_names().collect()));
        Cluster::start(load(engine, day), day, database, told.clone())
    });
    told.sum_up();
    code
}

/// The stand-in as the file would name it.
fn of_database(database: &Database) -> InfluxdbConfig {
    InfluxdbConfig {
        enable: true,
        host: database.address().ip().to_string(),
        port: database.address().port(),
        version: InfluxdbVersion::V3,
        v3_config: Some(V3Config { token: Secret::from("demo"), ..V3Config::default() }),
        ..InfluxdbConfig::default()
    }
}

/// The synthetic cluster; it stops sending when dropped.
struct Cluster {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Cluster {
    fn start(load: Load, day: Day, database: Database, told: Told) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let send = {
            let stop = Arc::clone(&stop);
            move || match load.run(&stop, |_| {}) {
                Ok(report) => told.report(report),
                Err(error) => tracing::error!("the synthetic cluster stopped: {error}"),
            }
        };
        let watch = {
            let stop = Arc::clone(&stop);
            let start = Instant::now();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    database.set_away(day.outage(start.elapsed()));
                    thread::sleep(LOOK);
                }
                // What is left can be delivered before the end.
                database.set_away(false);
            }
        };
        Self { stop, threads: vec![thread::spawn(send), thread::spawn(watch)] }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in it has been printed; the engine is to drain all the same.
            let _ = thread.join();
        }
    }
}

/// What to open and what to try.
fn introduce(config: &Config, day: &Day, limit: Option<Duration>) {
    let console = &config.ringside.console;
    let (begins, away) = day.incident();
    let (from, length) = (begins.as_secs(), away.as_secs());
    let incident = if limit.is_some_and(|limit| limit < begins + away) {
        format!("the incident would begin after {from} s: use --for {}", from + 2 * length)
    } else {
        format!(
            "wait {from} s for the incident: an engine fails and the database is away for {length} s, \
             then see what was lost and what was kept"
        )
    };
    logging::say(format_args!(
        "demo: open http://{}:{}/ : {SERVERS} synthetic Sense servers live a working day in {} s\n\
         demo: {incident}\n\
         demo: try `curl http://{0}:{1}/metrics`; the events are in {}; Ctrl-C drains and sums up",
        console.host,
        console.port,
        day.length.as_secs(),
        config.ringside.archive.dir,
    ));
}

fn load(engine: &Engine, day: Day) -> Load {
    let target = |listener| engine.receivers().addresses(listener).first().copied();
    Load {
        log: target(Listener::LogEvents),
        user: target(Listener::UserEvents),
        events: Events::Live { mix: Mix::CLUSTER, seed: SEED },
        pace: Pace::WorkingDay(day),
        count: None,
        duration: None,
        sources: SERVERS,
    }
}

/// What is known at the end.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Known>>);

/// See [`Told`].
#[derive(Debug, Default)]
struct Known {
    sent: Option<Report>,
    engine: Option<Arc<State>>,
}

impl Told {
    fn report(&self, report: Report) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).sent = Some(report);
    }

    fn state(&self, state: &Arc<State>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).engine = Some(Arc::clone(state));
    }

    /// Says what happened, after the drain.
    fn sum_up(&self) {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(report), Some(engine)) = (&told.sent, &told.engine) else { return };
        let stats = Stats::read(engine);
        let listeners = || stats.listeners.0.iter().map(|(_, listener)| listener);
        let received: u64 = listeners().map(|listener| listener.counts.received).sum();
        let accepted: u64 = listeners().map(|listener| listener.counts.accepted).sum();
        let upstream: u64 = listeners().map(|listener| listener.upstream_lost_estimate).sum();
        let delivered: Vec<String> = stats
            .destinations
            .0
            .iter()
            .map(|(name, destination)| {
                let lost = match destination.dropped.sum() {
                    0 => String::new(),
                    lost => format!(", {lost} lost"),
                };
                format!("{name} {} ({} on disk{lost})", destination.delivered, destination.spooled)
            })
            .collect();
        logging::say(format_args!(
            "demo: {} events sent in {} s, {received} received, {accepted} accepted\n\
             demo: {} log events were lost on their way on purpose; the row numbers told of {upstream}\n\
             demo: delivered: {}",
            report.sent(),
            report.elapsed.as_secs(),
            report.lost,
            delivered.join(", "),
        ));
    }
}
