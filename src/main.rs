//! The `ringside` program; see [`ringside::cli`] for the commands.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringside::cli::main()
}
