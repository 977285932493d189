//! `ringside archive`: what is in the archive, what its columns are, and its newest events. Files are
//! only read, so that a running process does not mind.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{EXIT_FAILED, EXIT_OK, EXIT_USAGE, settings};
use crate::config::{self, ConfigError};
use crate::deliver::archive::read::{self, ReadError};
use crate::deliver::archive::schema::Schema;
use crate::event::Kind;

/// Arguments of `ringside archive`.
#[derive(Args, Clone, Debug)]
pub struct ArchiveArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    place: Place,
}

/// Which archive.
#[derive(Args, Clone, Debug)]
struct Place {
    /// Configuration file that says where the archive is; ringside-data/archive without one
    #[arg(short = 'c', long = "configfile", value_name = "FILE", global = true)]
    configfile: Option<PathBuf>,
    /// The archive's directory, in the place of the file's; what is not yet in its files is not shown
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// List kinds and days: how many files, events and bytes
    Ls,
    /// List the columns of each kind
    Schema {
        /// One kind, such as qseow-engine; all if none is given
        #[arg(value_name = "KIND", value_parser = kind)]
        kind: Option<Kind>,
    },
    /// Write the newest events as lines of JSON, those among them that are in no file yet
    Tail {
        /// How many
        #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 10)]
        lines: usize,
        /// One kind, such as qseow-engine; all if none is given
        #[arg(long, value_name = "KIND", value_parser = kind)]
        kind: Option<Kind>,
    },
}

fn kind(text: &str) -> Result<Kind, String> {
    let names = Kind::ALL.map(Kind::name);
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == text);
    kind.ok_or_else(|| format!("no such kind; use one of: {}", names.join(", ")))
}

/// Why a command cannot do what it should.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("error: {0}")]
    Read(#[from] ReadError),
    #[error("error: cannot write the result: {0}")]
    Write(#[from] io::Error),
}

/// Looks at an archive; returns the exit code.
#[must_use]
pub fn archive(args: &ArchiveArgs) -> u8 {
    let done = match &args.command {
        Command::Schema { kind } => schema(*kind),
        Command::Ls => Archive::find(&args.place).and_then(|archive| archive.list()),
        Command::Tail { lines, kind } => {
            Archive::find(&args.place).and_then(|archive| archive.tail(*lines, *kind))
        }
    };
    match done {
        Ok(()) => EXIT_OK,
        // Whoever reads has seen enough.
        Err(CommandError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => EXIT_OK,
        Err(error) => {
            eprintln!("{error}");
            if matches!(error, CommandError::Config(_)) { EXIT_USAGE } else { EXIT_FAILED }
        }
    }
}

struct Archive {
    dir: PathBuf,
    staging: Option<PathBuf>,
}

impl Archive {
    fn find(place: &Place) -> Result<Self, CommandError> {
        if let Some(dir) = &place.dir {
            return Ok(Self { dir: dir.clone(), staging: None });
        }
        let config = match &place.configfile {
            Some(path) => config::load(path)?.config,
            None => config::embedded_default(),
        };
        let staging = settings::archive_staging(&config);
        Ok(Self { dir: PathBuf::from(config.ringside.archive.dir), staging })
    }

    fn list(&self) -> Result<(), CommandError> {
        let (partitions, refused) = read::partitions(&self.dir)?;
        if let Some(refused) = refused {
            eprintln!("warning: {refused}; what is in there is not listed");
        }
        let mut out = io::stdout().lock();
        if partitions.is_empty() {
            eprintln!("{}: no files", self.dir.display());
        } else {
            writeln!(
                out,
                "{:10}  {:22}  {:>6}  {:>12}  {:>14}",
                "DATE", "KIND", "FILES", "EVENTS", "BYTES"
            )?;
        }
        for (partition, content) in partitions {
            let read::Content { files, events, bytes } = content;
            let (date, kind) = (partition.date(), partition.kind().name());
            writeln!(out, "{date}  {kind:22}  {files:>6}  {events:>12}  {bytes:>14}")?;
        }
        let staged = self.staging.as_deref().map(read::staged).transpose()?.unwrap_or_default();
        if staged > 0 {
            writeln!(out, "{staged} more events are staged and will be in the next files")?;
        }
        Ok(out.flush()?)
    }

    fn tail(&self, lines: usize, kind: Option<Kind>) -> Result<(), CommandError> {
        let mut out = io::stdout().lock();
        for line in read::tail(&self.dir, self.staging.as_deref(), lines, kind)? {
            writeln!(out, "{line}")?;
        }
        Ok(out.flush()?)
    }
}

fn schema(kind: Option<Kind>) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    for kind in Kind::ALL.into_iter().filter(|each| kind.is_none_or(|kind| kind == *each)) {
        writeln!(out, "kind={}", kind.name())?;
        for (name, kind) in Schema::of(kind).columns() {
            writeln!(out, "  {name:24}{}", kind.name())?;
        }
    }
    Ok(out.flush()?)
}
