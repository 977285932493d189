//! `ringside spool`: what waits on disk, whether it is whole, and the way out for what is not sent by
//! itself. Files are only read, so that a running process does not mind.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::settings::{self, SettingsError};
use super::{EXIT_FAILED, EXIT_OK, EXIT_USAGE};
use crate::calendar::write_date_time;
use crate::config::{self, Config, ConfigError};
use crate::deliver::spool::SpoolError;
use crate::deliver::spool::inspect::{self, Content, Folder};

/// Arguments of `ringside spool`.
#[derive(Args, Clone, Debug)]
pub struct SpoolArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    place: Place,
}

/// Which spool.
#[derive(Args, Clone, Debug)]
struct Place {
    /// Configuration file that says where the spool is and which destinations there are
    #[arg(short = 'c', long = "configfile", value_name = "FILE", global = true)]
    configfile: Option<PathBuf>,
    /// The spool's directory; the one of the file, or ringside-data/spool, if it is not given
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// List the folders: whose events, how many, and with -c whether they will be sent
    Ls,
    /// Read everything and check it; exit code 0 if it is whole, 1 if something is damaged
    Verify {
        /// Folders as `ls` names them; all if none is given
        #[arg(value_name = "FOLDER")]
        folders: Vec<PathBuf>,
    },
    /// Write a folder's events, one a line, in the format of its destination
    Export {
        /// A folder as `ls` names it
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
        /// A new file for them; standard output if it is not given
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Why a command cannot do what it should.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("error: {0}")]
    Settings(#[from] SettingsError),
    #[error("error: {0}")]
    Spool(#[from] SpoolError),
    #[error(
        "error: {}: no such folder in {}; `ringside spool ls` lists them",
        folder.display(), dir.display()
    )]
    Unknown { folder: PathBuf, dir: PathBuf },
    #[error("error: cannot create {}: {error}", path.display())]
    Create { path: PathBuf, error: io::Error },
    #[error("error: cannot write {to}: {error}; not everything was written")]
    Write { to: String, error: io::Error },
}

impl CommandError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Unknown { .. } => EXIT_USAGE,
            Self::Settings(error) => error.exit_code(),
            Self::Spool(_) | Self::Create { .. } | Self::Write { .. } => EXIT_FAILED,
        }
    }
}

/// Looks at a spool; returns the exit code.
#[must_use]
pub fn spool(args: &SpoolArgs) -> u8 {
    let done = Spools::find(&args.place).and_then(|spools| match &args.command {
        Command::Ls => spools.list(),
        Command::Verify { folders } => spools.verify(folders),
        Command::Export { folder, out } => spools.export(folder, out.as_deref()),
    });
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        error.exit_code()
    })
}

struct Spools {
    dir: PathBuf,
    /// The file's settings, if there is a file.
    config: Option<Config>,
}

impl Spools {
    fn find(place: &Place) -> Result<Self, CommandError> {
        let loaded = place.configfile.as_ref().map(|path| config::load(path)).transpose()?;
        let config = loaded.map(|loaded| loaded.config);
        let configured = config.as_ref().map(|config| config.ringside.spool.dir.clone());
        let default = || Config::default().ringside.spool.dir;
        let dir = place.dir.clone();
        let dir = dir.unwrap_or_else(|| PathBuf::from(configured.unwrap_or_else(default)));
        Ok(Self { dir, config })
    }

    fn list(&self) -> Result<u8, CommandError> {
        let folders = inspect::folders(&self.dir)?;
        let mut rows =
            vec![["FOLDER", "DESTINATION", "EVENTS", "BYTES", "OLDEST", ""].map(str::to_owned)];
        let own = self.config.as_ref().map(settings::spool_folders).transpose()?;
        rows.extend(folders.iter().map(|folder| row(folder, own.as_deref())));
        if folders.is_empty() {
            eprintln!("{}: nothing waits here", self.dir.display());
            return Ok(EXIT_OK);
        }
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(table(&rows).as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|error| CommandError::Write { to: "the list".into(), error })?;
        Ok(EXIT_OK)
    }

    fn verify(&self, wanted: &[PathBuf]) -> Result<u8, CommandError> {
        let folders = if wanted.is_empty() {
            inspect::folders(&self.dir)?.into_iter().map(|folder| folder.path).collect()
        } else {
            wanted.iter().map(|folder| self.folder(folder)).collect::<Result<Vec<_>, _>>()?
        };
        if folders.is_empty() {
            eprintln!("{}: nothing waits here", self.dir.display());
        }
        let mut code = EXIT_OK;
        for folder in folders {
            let content = inspect::verify(&folder)?;
            let line = format!("{}: {}\n", shown(&folder), verdict(&content));
            let written = io::stdout().write_all(line.as_bytes());
            written.map_err(|error| CommandError::Write { to: "the result".into(), error })?;
            if content.damaged_records > 0 {
                code = EXIT_FAILED;
            }
        }
        Ok(code)
    }

    fn export(&self, folder: &Path, out: Option<&Path>) -> Result<u8, CommandError> {
        let folder = self.folder(folder)?;
        let content = match out {
            None => {
                let mut stdout = BufWriter::new(io::stdout().lock());
                let to = || "standard output".to_owned();
                let content = write_lines(&folder, &mut stdout, to)?;
                stdout.flush().map_err(|error| CommandError::Write { to: to(), error })?;
                content
            }
            Some(path) => {
                let mut file = create(path)
                    .map_err(|error| CommandError::Create { path: path.to_owned(), error })?;
                let to = || path.display().to_string();
                let content = write_lines(&folder, &mut file, to)?;
                // Whoever reads "written" may delete the folder.
                file.sync_all().map_err(|error| CommandError::Write { to: to(), error })?;
                content
            }
        };
        eprintln!("{}: {} events written", shown(&folder), content.events - content.delivered);
        if content.damaged_records > 0 {
            eprintln!("{}: {}", shown(&folder), verdict(&content));
            return Ok(EXIT_FAILED);
        }
        Ok(EXIT_OK)
    }

    /// A folder by its name or its path.
    fn folder(&self, folder: &Path) -> Result<PathBuf, CommandError> {
        let path = self.dir.join(folder);
        if path.is_dir() {
            return Ok(path);
        }
        Err(CommandError::Unknown { folder: folder.to_owned(), dir: self.dir.clone() })
    }
}

/// `own` are the folders of the file's destinations, if there is a file. Only their names count: the
/// directory may be another one.
fn row(folder: &Folder, own: Option<&[PathBuf]>) -> [String; 6] {
    let name = |path: &Path| path.file_name().map(ToOwned::to_owned);
    let belongs = own.map(|own| own.iter().any(|own| name(own) == name(&folder.path)));
    let note = match belongs {
        None => "",
        Some(true) => "of a destination of this file",
        Some(false) => "of former settings: not sent by itself; export it or delete the folder",
    };
    let destination = if folder.destination.is_empty() { "-" } else { folder.destination.as_str() };
    [
        shown(&folder.path),
        destination.to_owned(),
        folder.events.to_string(),
        folder.bytes.to_string(),
        folder.oldest_ns.map_or_else(|| "-".to_owned(), time),
        note.to_owned(),
    ]
}

fn write_lines(
    folder: &Path,
    out: &mut impl Write,
    to: impl Fn() -> String,
) -> Result<Content, CommandError> {
    inspect::export(folder, |record| {
        out.write_all(&record.lines).map_err(|error| CommandError::Write { to: to(), error })
    })
}

/// A new file that only its owner may read: events name users.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn verdict(content: &Content) -> String {
    let Content { records, events, damaged_records, damaged, torn_bytes, .. } = content;
    let mut text = format!("{records} records, {events} events");
    // Writing to a `String` does not fail.
    let _ = match damaged_records {
        0 => write!(text, ", whole"),
        _ => write!(text, "; damaged: {damaged_records} records, {damaged} events"),
    };
    if *torn_bytes > 0 {
        let _ =
            write!(text, "; {torn_bytes} bytes at the end are still being written, or never were");
    }
    text
}

/// A folder's name; it may be anybody's.
fn shown(folder: &Path) -> String {
    folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().escape_debug().to_string()
}

fn time(ns: u64) -> String {
    let mut text = String::new();
    // Writing to a `String` does not fail.
    let _ = write_date_time(&mut text, ns / 1_000_000_000);
    text + "Z"
}

/// Columns as wide as they must be; numbers stand at the right.
fn table(rows: &[[String; 6]]) -> String {
    const RIGHT: [bool; 6] = [false, false, true, true, false, false];
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 6] = std::array::from_fn(|column| width(column).unwrap_or_default());
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).zip(RIGHT).map(|((cell, width), right)| {
            if right { format!("{cell:>width$}") } else { format!("{cell:width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let row = |cells: [&str; 6]| cells.map(str::to_owned);
        let rows = [row(["A", "B", "N", "M", "T", ""]), row(["é1", "b", "10", "1", "-", "of"])];
        assert_eq!(table(&rows), "A   B   N  M  T\né1  b  10  1  -  of\n");
    }

    #[test]
    fn verdicts() {
        let whole = Content { records: 2, events: 5, ..Content::default() };
        assert_eq!(verdict(&whole), "2 records, 5 events, whole");
        let bad = Content { damaged_records: 1, damaged: 3, torn_bytes: 7, ..whole };
        assert_eq!(
            verdict(&bad),
            "2 records, 5 events; damaged: 1 records, 3 events; 7 bytes at the end are still being \
             written, or never were"
        );
    }

    #[test]
    fn nobodys_names_are_escaped() {
        assert_eq!(shown(Path::new("/spool/a\u{1b}[2J")), "a\\u{1b}[2J");
    }
}
