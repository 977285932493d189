//! `ringside appenders`: the files that make Sense servers send their events, written or checked.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{EXIT_FAILED, EXIT_OK, EXIT_USAGE};
use crate::appenders::{
    self, Checked, Expected, FILE_BYTES_MAX, FILE_NAME, Finding, Host, Level, SENSE_FOLDER,
    Severity,
};
use crate::config::{self, Config, ConfigError};
use crate::event::{Kind, Listener};

/// Arguments of `ringside appenders`.
#[derive(Args, Clone, Debug)]
pub struct AppendersArgs {
    /// Where Ringside runs, as the Sense servers reach it: a host name or an IP address
    #[arg(long, value_name = "HOST", required_unless_present = "check")]
    host: Option<Host>,
    /// Port of the user events [default: 9997, or that of the configuration file]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    user_port: Option<u16>,
    /// Port of the log events [default: 9996, or that of the configuration file]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    log_port: Option<u16>,
    /// Ringside's configuration file, for the ports
    #[arg(short = 'c', long = "configfile", value_name = "FILE")]
    configfile: Option<PathBuf>,
    /// From which level on log events are sent; user events and performance have no level
    #[arg(long, value_enum, default_value_t = LevelName::Warn, conflicts_with = "check")]
    level: LevelName,
    /// What to send, with commas in between [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST", conflicts_with = "check")]
    services: Vec<Source>,
    /// Write the files into this folder, one folder for each service
    #[arg(long, value_name = "DIR", default_value = "appenders", conflicts_with = "check")]
    out: PathBuf,
    /// Replace files that are there
    #[arg(long, conflicts_with = "check")]
    force: bool,
    /// Check files that exist instead: what would not arrive, or arrive wrong; exit code 0 or 2
    #[arg(long, value_name = "FILE", num_args = 1..)]
    check: Vec<PathBuf>,
}

/// Names of [`Level`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LevelName {
    Info,
    Warn,
    Error,
    Fatal,
}

/// What can be sent or left out.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Source {
    /// Sessions and connections of users
    UserEvents,
    /// Log of the engine service
    Engine,
    /// Performance of the engine
    QixPerf,
    /// Log of the proxy service
    Proxy,
    /// Log of the repository service
    Repository,
    /// Log of the scheduler service
    Scheduler,
}

impl Source {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::UserEvents => &[Kind::ProxySession, Kind::ProxyConnection],
            Self::Engine => &[Kind::Engine],
            Self::QixPerf => &[Kind::QixPerf],
            Self::Proxy => &[Kind::Proxy],
            Self::Repository => &[Kind::Repository],
            Self::Scheduler => &[Kind::Scheduler],
        }
    }
}

/// Why a command cannot do what it should.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "error: {}: the file is there already, and may hold appenders of other tools; nothing was \
         written\n  hint: give another --out, or --force to replace it",
        .0.display()
    )]
    Exists(PathBuf),
    #[error("error: cannot write {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("{}: {error}\n  hint: check that the file exists and that this user may read it", path.display())]
    Read { path: PathBuf, error: io::Error },
}

impl CommandError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Read { .. } | Self::Exists(_) => EXIT_USAGE,
            Self::Write { .. } => EXIT_FAILED,
        }
    }
}

/// Writes or checks files; returns the exit code.
#[must_use]
pub fn appenders(args: &AppendersArgs) -> u8 {
    let done = if args.check.is_empty() { write(args) } else { check(args) };
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        error.exit_code()
    })
}

/// The ports, and whether somebody said each of them.
fn ports(
    args: &AppendersArgs,
) -> Result<([u16; Listener::COUNT], [bool; Listener::COUNT]), ConfigError> {
    let file = args.configfile.as_ref().map(|path| config::load(path)).transpose()?;
    let given = [args.user_port, args.log_port];
    let known = given.map(|port| port.is_some() || file.is_some());
    let config = file.map_or_else(Config::default, |loaded| loaded.config);
    let configured =
        [config.user_events.udp_server_config.port, config.log_events.udp_server_config.port];
    Ok((std::array::from_fn(|index| given[index].unwrap_or(configured[index])), known))
}

fn write(args: &AppendersArgs) -> Result<u8, CommandError> {
    // Without a host clap has not let it come so far.
    let Some(host) = args.host.clone() else { return Ok(EXIT_USAGE) };
    let (ports, _) = ports(args)?;
    let all = Source::value_variants();
    let sources = if args.services.is_empty() { all } else { &args.services[..] };
    let settings = appenders::Settings {
        host,
        ports,
        level: match args.level {
            LevelName::Info => Level::Info,
            LevelName::Warn => Level::Warn,
            LevelName::Error => Level::Error,
            LevelName::Fatal => Level::Fatal,
        },
        kinds: sources.iter().flat_map(|source| source.kinds()).copied().collect(),
    };
    let files = appenders::write(&settings);
    let path = |file: &appenders::File| args.out.join(file.service.folder()).join(FILE_NAME);
    if !args.force
        && let Some(there) = files.iter().map(path).find(|path| path.symlink_metadata().is_ok())
    {
        return Err(CommandError::Exists(there));
    }
    for file in &files {
        let path = path(file);
        create(&path, &file.text, args.force)
            .map_err(|error| CommandError::Write { path, error })?;
    }
    say(&written(args, &settings, &files));
    Ok(EXIT_OK)
}

fn create(path: &Path, text: &str, replace: bool) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.write(true);
    if replace {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options.open(path)?.write_all(text.as_bytes())
}

/// What was written, and what is left to do.
fn written(
    args: &AppendersArgs,
    settings: &appenders::Settings,
    files: &[appenders::File],
) -> String {
    let mut text = String::new();
    // Writing to a `String` does not fail.
    let _ =
        writeln!(text, "Written; copy each file to every Sense server that runs the service:\n");
    let paths: Vec<(String, String)> = files
        .iter()
        .map(|file| {
            let folder = file.service.folder();
            let from = args.out.join(folder).join(FILE_NAME);
            (from.display().to_string(), format!(r"{SENSE_FOLDER}\{folder}\{FILE_NAME}"))
        })
        .collect();
    let width = paths.iter().map(|(from, _)| from.chars().count()).max().unwrap_or_default();
    for (from, to) in &paths {
        let _ = writeln!(text, "  {from:width$}  to  {to}");
    }
    let kinds: Vec<Kind> = files.iter().flat_map(|file| file.kinds.clone()).collect();
    let mut used = Listener::ALL.map(|listener| {
        let used = kinds.iter().any(|kind| kind.listener() == listener);
        used.then(|| settings.ports[listener as usize].to_string())
    });
    used.sort();
    let used: Vec<String> = used.into_iter().flatten().collect();
    let _ = writeln!(
        text,
        "\nIf a server has such a file already, put the elements of both into one; then\n\
         `ringside appenders --check FILE` says whether it is right.\n\
         Firewalls must let UDP to {}, port {}, pass.\n\
         Sense finds the file by itself, which can take minutes; restarting the service is quicker.",
        settings.host,
        used.join(" and ")
    );
    if settings.host.is_name() {
        let _ = writeln!(
            text,
            "The name {} is looked up when the file is read and not again: if its address changes,\n\
             restart the services.",
            settings.host
        );
    }
    if kinds.contains(&Kind::QixPerf) {
        let _ = writeln!(
            text,
            "Performance events come only if the engine's QIX performance log level in the QMC is Info or\n\
             Debug."
        );
    }
    text
}

fn check(args: &AppendersArgs) -> Result<u8, CommandError> {
    let (ports, ports_known) = ports(args)?;
    let mut code = EXIT_OK;
    for path in &args.check {
        let bytes = read(path).map_err(|error| CommandError::Read { path: path.clone(), error })?;
        let folder = path.canonicalize().ok();
        let folder = folder.as_deref().and_then(Path::parent).and_then(Path::file_name);
        let expected = Expected {
            host: args.host.clone(),
            ports,
            ports_known,
            folder: folder.map(|name| name.to_string_lossy().into_owned()),
        };
        let checked = appenders::check(&bytes, &expected);
        report(path, &checked);
        if !checked.is_right() {
            code = EXIT_USAGE;
        }
    }
    Ok(code)
}

/// A byte more than is allowed is enough to say that there is too much.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn report(path: &Path, checked: &Checked) {
    let shown = path.display();
    for Finding { severity, line, column, what, hint } in &checked.findings {
        let prefix = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        eprintln!("{prefix}: {shown}:{line}:{column}: {what}\n  hint: {hint}");
    }
    let is_named = path.file_name().is_some_and(|name| name.eq_ignore_ascii_case(FILE_NAME));
    if !is_named {
        eprintln!("warning: {shown}: Sense reads a file of this name only: {FILE_NAME}");
    }
    if !checked.is_right() {
        return;
    }
    let mut text = format!("{shown}: this file is right; it sends\n");
    for sent in &checked.sent {
        // Writing to a `String` does not fail.
        let _ = writeln!(
            text,
            "  {} events to {}, from {}",
            sent.kind.name(),
            sent.to,
            sent.loggers.join(", ")
        );
    }
    say(&text);
}

/// Prints a text; whoever closed the output does not want to read it.
fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
