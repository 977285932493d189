//! The commands. They read their arguments, build settings from the configuration, start what does
//! the work, and turn the result into an exit code; logic of their own they have none.

pub mod appenders;
pub mod archive;
pub mod check;
pub mod demo;
pub mod health;
mod live;
pub mod run;
pub mod send;
#[cfg(windows)]
pub mod service;
mod settings;
mod signals;
mod sources;
pub mod spool;
mod supervisor;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Stopped cleanly.
const EXIT_OK: u8 = 0;
/// Failed at run time.
const EXIT_FAILED: u8 = 1;
/// Bad usage or configuration; the number that clap uses for usage errors as well.
const EXIT_USAGE: u8 = 2;

/// The exit codes of all commands, and what they mean.
pub const EXIT_CODES: [(u8, &str); 3] = [
    (EXIT_OK, "stopped cleanly"),
    (EXIT_FAILED, "failed at run time"),
    (EXIT_USAGE, "bad usage or configuration"),
];

#[derive(Debug, Parser)]
#[command(
    name = "ringside",
    version,
    about = "Receives the UDP events of Qlik Sense and delivers them, counting every loss",
    arg_required_else_help = true,
    after_help = exit_codes()
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the engine; without -c, events go to ./ringside-data/ and to the console page
    Run(run::RunArgs),
    /// Validate a configuration file
    Check(check::CheckArgs),
    /// Ask a running Ringside whether it works; exit code 0 if it does, 1 if not
    Health(health::HealthArgs),
    /// Run the engine with a synthetic Sense cluster, no services needed
    Demo(demo::DemoArgs),
    /// Send synthetic events, to test an installation under load
    Send(send::SendArgs),
    /// Look at events that wait on disk; nothing is changed
    Spool(spool::SpoolArgs),
    /// Write the log appender files that make Sense servers send events, or check such files
    Appenders(appenders::AppendersArgs),
    /// Look at the archive of Parquet files; nothing is changed
    Archive(archive::ArchiveArgs),
    /// Install or remove Ringside as a service of Windows
    #[cfg(windows)]
    Service(service::ServiceArgs),
}

/// The line under the help.
fn exit_codes() -> String {
    let codes = EXIT_CODES.map(|(code, meaning)| format!("{code} {meaning}"));
    format!("Exit codes: {}", codes.join(", "))
}

/// Runs the command line; the result is one of [`EXIT_CODES`].
#[must_use]
pub fn main() -> ExitCode {
    let code = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Health(args) => health::health(&args),
        Command::Demo(args) => demo::demo(&args),
        Command::Send(args) => return send::send(args),
        Command::Spool(args) => spool::spool(&args),
        Command::Appenders(args) => appenders::appenders(&args),
        Command::Archive(args) => archive::archive(&args),
        #[cfg(windows)]
        Command::Service(args) => service::service(args),
    };
    ExitCode::from(code)
}

/// The commands and their options, for whoever writes manual pages or completions of them.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}
