//! Writes what packages carry beside the program: manual pages and completions for shells, from the
//! commands' own definitions. An example, so that the program need not carry the generators.
//!
//! `cargo run --example generate -- target/packaging`

use std::io;
use std::path::{Path, PathBuf};

use clap_complete::Shell;

fn main() -> io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("give the directory to write to"));
    };
    manual(&directory.join("man"))?;
    completions(&directory.join("completions"))
}

/// `ringside.1`, and a page for each command.
fn manual(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(ringside::cli::command(), directory)
}

fn completions(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell] {
        clap_complete::generate_to(shell, &mut ringside::cli::command(), "ringside", directory)?;
    }
    Ok(())
}
