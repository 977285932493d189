//! `ringside check`: is this configuration file right?

use std::path::PathBuf;

use clap::Args;

use super::settings;
use super::{EXIT_OK, EXIT_USAGE};
use crate::config;
use crate::observe::host::HostCounters;

/// Arguments of `ringside check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Configuration file
    #[arg(short = 'c', long = "configfile", value_name = "FILE")]
    configfile: PathBuf,
    /// Print the settings in effect, those that the file leaves out included, as YAML; secrets as ***
    #[arg(long)]
    show: bool,
    /// Print what the kernel of this host has lost since it started: errors of UDP, fragments, and
    /// packets that came faster than they were taken
    #[arg(long)]
    host: bool,
}

/// Checks the file, prints what is found; returns the exit code.
#[must_use]
pub fn check(args: &CheckArgs) -> u8 {
    let loaded = match config::load(&args.configfile) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return EXIT_USAGE;
        }
    };
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    if let Err(error) = settings::of(&loaded.config) {
        eprintln!("error: {error}");
        return EXIT_USAGE;
    }
    if args.show {
        print!("{}", loaded.config.to_yaml());
    }
    if args.host {
        print!("{}", HostCounters::read());
    }
    eprintln!("{}: the configuration is right", args.configfile.display());
    EXIT_OK
}
