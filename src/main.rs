//! The `ringside` program; see [`ringside::cli`] for the commands.

use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
use mimalloc::MiMalloc;

/// An outage fills up to 64 MiB per destination and empties them again, in blocks of 100 KB to 4 MB.
/// glibc's allocator keeps much of that for good; this one gives it back (`perf/soak.sh` shows it).
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    ringside::cli::main()
}
