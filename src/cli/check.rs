//! `ringside check`: is this configuration file right?

use std::path::PathBuf;

use clap::Args;

use super::settings;
use super::{EXIT_OK, EXIT_USAGE};
use crate::config::{self, Loaded};
use crate::doctor::{self, Level, PemFile};
use crate::observe::host::HostCounters;

/// Arguments of `ringside check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Configuration file
    #[arg(short = 'c', long = "configfile", value_name = "FILE")]
    pub(super) configfile: PathBuf,
    /// Print the settings in effect, those that the file leaves out included, as YAML; secrets as ***
    #[arg(long)]
    pub(super) show: bool,
    /// Look at this machine and at the destinations as well: io_uring, socket buffer, ports, clock,
    /// disk, names, certificates, credentials; and print what the kernel has lost since it started.
    /// Exit code 2 if events would not arrive
    #[arg(long)]
    pub(super) host: bool,
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
    if args.show {
        print!("{}", loaded.config.to_yaml());
    }
    let usable = is_usable(&loaded, args.host);
    let right = !args.host || host_is_right(&loaded);
    if !(usable && right) {
        return EXIT_USAGE;
    }
    eprintln!("{}: the configuration is right", args.configfile.display());
    EXIT_OK
}

/// Prints what keeps `run` from using the file here; whether there is nothing.
fn is_usable(loaded: &Loaded, host: bool) -> bool {
    let files = settings::doctor::pem_files(loaded);
    let unreadable: Vec<_> = files.iter().filter_map(PemFile::unreadable).collect();
    if unreadable.is_empty() {
        return settings::of(&loaded.config)
            .inspect_err(|error| eprintln!("error: {error}"))
            .is_ok();
    }
    // They are among what is found on this machine.
    if !host {
        for finding in &unreadable {
            eprintln!("{finding}");
        }
    }
    false
}

/// Prints what is found on this machine and at the destinations; whether there is no error among it.
fn host_is_right(loaded: &Loaded) -> bool {
    print!("{}", HostCounters::read());
    let findings = match settings::doctor::of(loaded) {
        Ok(settings) => doctor::examine(settings),
        Err(error) => {
            eprintln!("error: {error}");
            return false;
        }
    };
    let findings = match findings {
        Ok(findings) => findings,
        Err(error) => {
            eprintln!("error: nothing can be asked: {error}");
            return false;
        }
    };
    for finding in &findings {
        println!("{finding}");
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    eprintln!("host: ok: {}, warnings: {warnings}, errors: {errors}", count(Level::Ok));
    errors == 0
}
