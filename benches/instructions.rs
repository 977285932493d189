//! Instructions per event of each stage, counted by callgrind and held against a baseline.
//!
//! Times depend on the machine and on what else runs on it; the number of instructions does not. So
//! this is what tells whether a change costs something, and which function it costs it in:
//!
//! ```text
//! cargo bench --bench instructions                counts, and fails where one grew by 5 %
//! cargo bench --bench instructions -- --bless     makes these counts the baseline
//! ```
//!
//! The profile of each stage is left in `target/callgrind/`, for `callgrind_annotate`.
//!
//! This program runs itself again under valgrind, which counts in [`counted`] only and writes a
//! profile each time that function ends.

#[path = "instructions/baseline.rs"]
mod baseline;
#[path = "workload/busy_rules.rs"]
mod busy_rules;
#[path = "workload/encoders.rs"]
mod encoders;
#[path = "workload/events.rs"]
mod events;
#[path = "workload/floor.rs"]
mod floor;
#[path = "workload/receive.rs"]
mod receive;
#[path = "instructions/stages.rs"]
mod stages;
#[path = "instructions/valgrind.rs"]
mod valgrind;

use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;

use baseline::Counts;
// `workload/receive.rs` compiles sources that expect it here.
use ringside::event;

/// Asks this program for what runs under valgrind.
const STAGES: &str = "--stages";

/// The one function in which instructions are counted.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    // A call at the end of a function is a jump, after which it would be left before the work is done.
    black_box(());
}

fn main() -> ExitCode {
    let asked = |argument: &str| std::env::args().any(|given| given == argument);
    // `cargo test` does not say `--bench`: then it is enough that every stage still runs.
    if asked(STAGES) || !asked("--bench") {
        println!("{}", processor());
        stages::run();
        return ExitCode::SUCCESS;
    }
    match count(asked("--bless")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn count(bless: bool) -> Result<(), String> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt"));
    let counts = valgrind::count()?;
    if bless {
        return counts.write(&path);
    }
    counts.compare(&Counts::read(&path)?)
}

/// What decides which variant of a vectorised function runs. Under valgrind this is the processor that
/// it emulates, at most that of the machine.
fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    let features = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let features: [(&str, bool); 0] = [];
    let has = features.into_iter().filter_map(|(name, has)| has.then_some(name));
    std::iter::once(std::env::consts::ARCH).chain(has).collect::<Vec<_>>().join(" ")
}
