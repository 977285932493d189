//! The commands. They read their arguments, build settings from the configuration, start what does
//! the work, and turn the result into an exit code; logic of their own they have none.

pub mod check;
pub mod demo;
mod live;
pub mod run;
pub mod send;
mod settings;
mod sources;
pub mod spool;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Stopped cleanly.
const EXIT_OK: u8 = 0;
/// Failed at run time.
const EXIT_FAILED: u8 = 1;
/// Bad usage or configuration; the number that clap uses for usage errors as well.
const EXIT_USAGE: u8 = 2;

#[derive(Debug, Parser)]
#[command(
    name = "ringside",
    version,
    about = "Receives the UDP events of Qlik Sense and delivers them, counting every loss",
    arg_required_else_help = true
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
    /// Run the engine with a synthetic Sense cluster, no services needed
    Demo(demo::DemoArgs),
    /// Send synthetic events, to test an installation under load
    Send(send::SendArgs),
    /// Look at events that wait on disk; nothing is changed
    Spool(spool::SpoolArgs),
}

/// Runs the command line. Exit codes: 0 stopped cleanly, 1 failed at run time, 2 bad usage or
/// configuration.
#[must_use]
pub fn main() -> ExitCode {
    let code = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Demo(args) => demo::demo(&args),
        Command::Send(args) => return send::send(args),
        Command::Spool(args) => spool::spool(&args),
    };
    ExitCode::from(code)
}
