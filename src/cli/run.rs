//! `ringside run`: settings from the file, the engine, signals, the drain.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use super::live::{Live, Origin};
use super::settings::{self, Settings};
use super::signals::{Signal, Signals};
use super::supervisor::{self, Watchdog};
use super::{EXIT_FAILED, EXIT_OK, EXIT_USAGE};
use crate::config::{self, Config, NewRelicAccount, Overrides};
use crate::engine::{Drained, Engine};
use crate::event::Listener;
use crate::observe::checkpoint::{Checkpoint, Checkpointer};
use crate::observe::ledger::Snapshot;
use crate::observe::logging::{self, Level, LogFiles};
use crate::observe::{http, stats::State};
use crate::receive::{Handle, Notice, Passed, PressureWatch};
use crate::secret::Secret;

/// Arguments of `ringside run`. Those of Butler SOS work here too.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// Configuration file; without one, events go to ./ringside-data/ and the console page
    #[arg(short = 'c', long = "configfile", alias = "config", value_name = "FILE")]
    pub configfile: Option<PathBuf>,
    /// error, warn, info, verbose, debug or silly; overrides the file
    #[arg(short = 'l', long = "loglevel", value_name = "LEVEL")]
    pub loglevel: Option<Level>,
    /// New Relic account names, which replace the accounts of the file
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub new_relic_account_name: Vec<String>,
    /// New Relic insert API keys, one for each account name
    #[arg(long, value_name = "KEY", num_args = 1..)]
    pub new_relic_api_key: Vec<Secret>,
    /// New Relic account ids, one for each account name
    #[arg(long, value_name = "ID", num_args = 1..)]
    pub new_relic_account_id: Vec<String>,
    /// Accepted for Butler SOS's sake; the file is always verified
    #[arg(long)]
    pub skip_config_verification: bool,
}

/// Runs the engine until a signal ends it; returns the exit code.
#[must_use]
pub fn run(args: &RunArgs) -> u8 {
    // The files are closed last: the drain has something to say.
    let Ok((config, origin, _log_files)) = load(args) else { return EXIT_USAGE };
    run_config(&config, origin, None, |_| ())
}

/// The file's settings, or the embedded default, where they came from, and the log files if they ask
/// for them; problems are printed.
fn load(args: &RunArgs) -> Result<(Config, Option<Origin>, Option<LogFiles>), ()> {
    let overrides = Overrides { new_relic_accounts: accounts(args).map_err(refuse)? };
    let (config, warnings) = match &args.configfile {
        None => (config::embedded_default(), Vec::new()),
        Some(path) => {
            let loaded = config::load_with(path, overrides.clone()).map_err(refuse)?;
            (loaded.config, loaded.warnings)
        }
    };
    let to_files = config.file_logging || logging::is_unattended();
    let directory = to_files.then(|| Path::new(&config.log_directory));
    let level = args.loglevel.unwrap_or(settings::level(&config));
    let log_files = logging::start(level, directory);
    for warning in warnings {
        tracing::warn!("{warning:#}");
    }
    let origin =
        args.configfile.clone().map(|path| Origin { path, level: args.loglevel, overrides });
    Ok((config, origin, log_files))
}

/// Says why the settings cannot be used; to where the log would be, if nobody would see it.
fn refuse(error: impl std::fmt::Display) {
    let directory = config::embedded_default().log_directory;
    let _files =
        logging::is_unattended().then(|| logging::start(Level::Info, Some(Path::new(&directory))));
    logging::say(error);
}

/// The accounts of New Relic on the command line: the first name goes with the first key and the
/// first id, and so on.
fn accounts(args: &RunArgs) -> Result<Vec<NewRelicAccount>, String> {
    let (names, keys) = (&args.new_relic_account_name, &args.new_relic_api_key);
    let ids = &args.new_relic_account_id;
    if names.len() != keys.len() || names.len() != ids.len() {
        return Err(format!(
            "--new-relic-account-name, --new-relic-api-key and --new-relic-account-id have {}, {} \
             and {} values; give each account one of each",
            names.len(),
            keys.len(),
            ids.len()
        ));
    }
    let empty = |text: &String| text.trim().is_empty();
    if names.iter().chain(ids).any(empty) || keys.iter().any(Secret::is_empty) {
        return Err("--new-relic-…: a value is empty; fill it in".to_owned());
    }
    let accounts = names.iter().zip(keys).zip(ids);
    Ok(accounts
        .map(|((name, key), id)| NewRelicAccount {
            account_name: name.clone(),
            insert_api_key: key.clone(),
            account_id: id.clone(),
        })
        .collect())
}

/// Runs the engine until a signal, or for `limit`; returns the exit code. `started` is called once
/// every listener is bound; what it returns is dropped before the drain begins. A reload reads `origin`
/// again.
pub(super) fn run_config<G>(
    config: &Config,
    origin: Option<Origin>,
    limit: Option<Duration>,
    started: impl FnOnce(&Engine) -> G,
) -> u8 {
    match start(config, origin) {
        Ok(running) => {
            let guest = started(&running.engine);
            running.wait(limit, guest)
        }
        Err(StartError { code, text }) => {
            tracing::error!("{text}");
            code
        }
    }
}

/// Everything that runs.
struct Running {
    engine: Engine,
    checkpointer: Checkpointer,
    console: Console,
    runtime: tokio::runtime::Runtime,
    signals: Signals,
    live: Live,
    shutdown_timeout: Duration,
}

/// Why nothing runs, and the exit code that says so.
struct StartError {
    code: u8,
    text: String,
}

impl StartError {
    fn failed(error: impl std::fmt::Display) -> Self {
        Self { code: EXIT_FAILED, text: error.to_string() }
    }
}

fn start(config: &Config, origin: Option<Origin>) -> Result<Running, StartError> {
    let Settings {
        mut engine,
        endpoints,
        app_names,
        heartbeat,
        uptime_metrics,
        spool_dir,
        shutdown_timeout,
    } = settings::of(config)
        .map_err(|error| StartError { code: error.exit_code(), text: error.to_string() })?;
    // Before there are other threads: it takes variables out of the environment.
    engine.receive.passed = Passed::from_environment().map_err(StartError::failed)?;
    let checkpoint = Checkpoint::open(&spool_dir).map_err(StartError::failed)?;
    engine.last_run = checkpoint.last_run();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::failed)?;
    // Before anybody can know that this process is there: a signal is never missed.
    let signals = Signals::new(&runtime).map_err(StartError::failed)?;
    let server = http::Server::bind(&endpoints).map_err(|error| StartError {
        code: match error {
            http::Error::TokenRequired { .. } => EXIT_USAGE,
            _ => EXIT_FAILED,
        },
        text: error.to_string(),
    })?;
    let mut live = Live::new(config, origin, &engine);
    runtime.block_on(live.begin()).map_err(StartError::failed)?;
    // Tasks begin with the first wait of this thread, which is after `ready`.
    if let Some(refresher) = app_names {
        runtime.spawn(refresher.run(Arc::clone(&engine.app_names)));
    }
    if let Some(heartbeat) = heartbeat {
        runtime.spawn(heartbeat.run());
    }
    for metrics in uptime_metrics {
        runtime.spawn(metrics.run());
    }
    let engine = Engine::start(engine).map_err(StartError::failed)?;
    let checkpointer = Checkpointer::start(checkpoint, Arc::clone(&engine.state().ledger))
        .map_err(StartError::failed)?;
    let ready = ready_line(&engine, &server);
    let console = Console::start(server, engine.state()).map_err(StartError::failed)?;
    // A promise to whoever waits for it: printed whatever the log level.
    logging::say(ready);
    supervisor::ready();
    Ok(Running { engine, checkpointer, console, runtime, signals, live, shutdown_timeout })
}

impl Running {
    /// Waits for a signal or the end of `limit`, drains, and returns the exit code.
    fn wait<G>(self, limit: Option<Duration>, guest: G) -> u8 {
        let Self { mut engine, checkpointer, console, runtime, .. } = self;
        let Self { mut signals, mut live, shutdown_timeout, .. } = self;
        let code = runtime.block_on(async move {
            let over = async {
                match limit {
                    Some(limit) => tokio::time::sleep(limit).await,
                    None => std::future::pending().await,
                }
            };
            let receivers = Arc::clone(engine.receivers());
            let state = Arc::clone(engine.state());
            let watchdog = Watchdog::from_environment();
            let failed = tokio::select! {
                () = serve(&mut signals, &mut live, &receivers, &state, watchdog) => false,
                () = over => false,
                name = engine.failed() => {
                    tracing::error!("thread {name} has ended; stopping");
                    true
                }
            };
            drop(guest);
            supervisor::stopping(shutdown_timeout);
            logging::say(format_args!(
                "draining, for at most {shutdown_timeout:?}; a second signal ends at once"
            ));
            let drained = tokio::select! {
                drained = engine.drain(shutdown_timeout) => drained,
                () = signals.stop() => {
                    tracing::error!("second signal: ending now");
                    return EXIT_FAILED;
                }
                never = watchdog.keep_patting(LOOK) => never,
            };
            report(&drained);
            checkpointer.finish();
            if drained.clean && !failed { EXIT_OK } else { EXIT_FAILED }
        });
        console.stop();
        // Not to wait for a name that is being resolved: the drain is over.
        runtime.shutdown_background();
        code
    }
}

/// How often backpressure is looked for, and systemd's watchdog told that all threads turn.
const LOOK: Duration = Duration::from_secs(1);

/// Does what the engine's threads do not do themselves, until a signal asks to stop.
async fn serve(
    signals: &mut Signals,
    live: &mut Live,
    receivers: &Handle,
    state: &State,
    watchdog: Watchdog,
) {
    let mut pressure = PressureWatch::default();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop => return,
                Signal::Reload => live.reload(),
            },
            _ = look.tick() => {
                // What `/health` answers: a thread that stands still makes the engine useless.
                if state.health.report(state.health.now()).healthy() {
                    watchdog.pat();
                }
                for notice in pressure.look(receivers, Instant::now()) {
                    match notice {
                        Notice::Detected { .. } => tracing::warn!("{notice}"),
                        Notice::Cleared { .. } => tracing::info!("{notice}"),
                    }
                }
            }
        }
    }
}

/// The line that says that every listener is bound.
fn ready_line(engine: &Engine, server: &http::Server) -> String {
    let listening = Listener::ALL.into_iter().flat_map(|listener| {
        let addresses = engine.receivers().addresses(listener).iter();
        addresses.map(move |address| format!("{} {address}", listener.name()))
    });
    let console = server.addresses().find(|(part, _)| *part == http::Part::Console);
    let console = console.map(|(_, address)| format!("console http://{address}/"));
    let backend = format!("backend {}", engine.receivers().backend().name());
    let parts: Vec<String> = listening.chain(console).chain([backend]).collect();
    format!("ringside ready: {}", parts.join(", "))
}

/// The thread that serves the endpoints; it lives until after the drain.
struct Console {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Console {
    fn start(server: http::Server, state: &Arc<State>) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let state = Arc::clone(state);
        let serve = move || {
            let stopped = async {
                let _ = stopped.await;
            };
            if let Err(error) = server.run(&state, stopped) {
                tracing::error!("the console stopped: {error}");
            }
        };
        let thread = thread::Builder::new().name("console".into()).spawn(serve)?;
        Ok(Self { stop, thread })
    }

    fn stop(self) {
        // An error means that the console has stopped already, and said so.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// Prints the ledger.
fn report(drained: &Drained) {
    let Snapshot { listeners, destinations, own_points } = &drained.ledger;
    for (listener, counts) in Listener::ALL.iter().zip(listeners) {
        let dropped = reasons(counts.dropped.iter());
        let rejected = reasons(counts.rejected.iter());
        let kernel_dropped = drained.kernel_dropped[*listener as usize];
        logging::say(format_args!(
            "ledger: {} received={} kernel_dropped={kernel_dropped} queued={} accepted={} \
             unrouted={} dropped[{dropped}] rejected[{rejected}]",
            listener.name(),
            counts.received,
            counts.queued,
            counts.accepted,
            counts.unrouted,
        ));
    }
    let destinations = destinations.iter().map(|destination| ("", destination));
    // Those who write none have nothing to read about them.
    let written = own_points.iter().filter(|destination| destination.assigned > 0);
    let own_points = written.map(|destination| ("own points to ", destination));
    for (what, destination) in destinations.chain(own_points) {
        logging::say(format_args!(
            "ledger: {what}{} assigned={} delivered={} in_flight={} spooled={} dropped[{}]",
            destination.name,
            destination.assigned,
            destination.counts.delivered,
            destination.in_flight,
            destination.counts.spooled,
            reasons(destination.dropped.iter()),
        ));
    }
}

/// The reasons that were counted, as `name=count`.
fn reasons(counts: impl Iterator<Item = (&'static str, u64)>) -> String {
    let counted = counts.filter(|(_, count)| *count > 0);
    counted.map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(" ")
}
