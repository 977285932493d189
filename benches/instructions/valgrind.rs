//! Runs this program again under callgrind.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::baseline::Counts;

/// Counts all stages.
pub fn count() -> Result<Counts, String> {
    let folder = target().join("callgrind");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=instructions::counted"])
        .arg("--dump-after=instructions::counted")
        .arg(format!("--callgrind-out-file={}", folder.join("part").display()))
        .arg(program)
        .arg(crate::STAGES)
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => "valgrind is missing: apt-get install valgrind".to_owned(),
            _ => format!("valgrind: {error}"),
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("valgrind failed ({}):\n{said}", output.status));
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    let mut lines = lines.lines();
    let processor = lines.next().unwrap_or_default().to_owned();
    let mut stages = Vec::new();
    for (index, stage) in lines.enumerate() {
        let (name, events) = stage.split_once(' ').ok_or("a stage without events")?;
        let events: f64 = events.parse().map_err(|_| "events that are no number")?;
        let part = folder.join(format!("part.{}", index + 1));
        stages.push((name.to_owned(), instructions_in(&part)? / events));
        let named = folder.join(format!("{}.out", name.replace('/', "-")));
        fs::rename(&part, &named).map_err(|error| format!("{}: {error}", part.display()))?;
    }
    Counts::new(processor, stages)
}

/// `target`, wherever cargo was told to have it: this program is in `target/release/deps`.
fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.ancestors().nth(3).unwrap_or(Path::new("target")).to_owned()
}

/// The sum of a profile.
fn instructions_in(profile: &Path) -> Result<f64, String> {
    let text =
        fs::read_to_string(profile).map_err(|error| format!("{}: {error}", profile.display()))?;
    text.lines()
        .find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")))
        .and_then(|sum| sum.trim().parse().ok())
        .ok_or_else(|| format!("{}: no sum in this profile", profile.display()))
}
