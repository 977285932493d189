//! Counts, as they are kept in a file and compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Growth of a count from which on it fails.
const GROWTH_MAX: f64 = 0.05;

/// Above these lines of the file.
const HEAD: &str = "\
# Instructions per event of each stage, as callgrind counts them. Made by
#     cargo bench --bench instructions -- --bless
# which also says, without `--bless`, what has changed since.
";

/// Instructions per event of each stage, and what they depend on besides the source.
#[derive(Debug)]
pub struct Counts {
    /// The compiler.
    pub compiler: String,
    /// The processor, as valgrind presents it.
    pub processor: String,
    /// Name and instructions per event, in the order in which they were counted.
    pub stages: Vec<(String, f64)>,
}

impl Counts {
    /// Counts of this compiler.
    pub fn new(processor: String, stages: Vec<(String, f64)>) -> Result<Self, String> {
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
        let output = Command::new(&rustc).arg("--version").output();
        let output = output.map_err(|error| format!("{rustc}: {error}"))?;
        let compiler = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Self { compiler, processor, stages })
    }

    /// What a file says.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text =
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut counts =
            Self { compiler: String::new(), processor: String::new(), stages: Vec::new() };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line.split_once(' ').map(|(name, value)| (name, value.trim())) {
                Some(("compiler", value)) => value.clone_into(&mut counts.compiler),
                Some(("processor", value)) => value.clone_into(&mut counts.processor),
                Some((name, value)) => {
                    let count = value.parse();
                    let count = count.map_err(|_| format!("{}: {line}", path.display()))?;
                    counts.stages.push((name.to_owned(), count));
                }
                None => return Err(format!("{}: {line}", path.display())),
            }
        }
        Ok(counts)
    }

    /// Makes a file of them.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let head = [("compiler", &self.compiler), ("processor", &self.processor)];
        let head = head.map(|(name, value)| format!("{name:39} {value}\n"));
        let stages = self.stages.iter().map(|(name, count)| format!("{name:39} {count:9.1}\n"));
        let text: String = head.into_iter().chain(stages).collect();
        fs::write(path, HEAD.to_owned() + &text)
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Prints them beside what was accepted; an error when one has grown too much, or when the two
    /// cannot be compared.
    pub fn compare(&self, accepted: &Self) -> Result<(), String> {
        let before: BTreeMap<_, _> = accepted.stages.iter().cloned().collect();
        let (mut grown, mut shrunk) = (Vec::new(), false);
        println!("{:39} {:>9} {:>9} {:>8}", "instructions per event", "baseline", "now", "change");
        for (name, now) in &self.stages {
            let Some(before) = before.get(name) else {
                println!("{name:39} {:>9} {now:9.1} {:>8}", "", "new");
                grown.push(format!("{name} is not in the baseline"));
                continue;
            };
            let change = now / before - 1.0;
            println!("{name:39} {before:9.1} {now:9.1} {:+7.1} %", change * 100.0);
            shrunk |= change <= -GROWTH_MAX;
            if change >= GROWTH_MAX {
                grown.push(format!("{name} grew by {:.1} %", change * 100.0));
            }
        }
        let counted = |name: &str| self.stages.iter().any(|(stage, _)| stage == name);
        grown.extend(
            before
                .keys()
                .filter(|name| !counted(name))
                .map(|name| format!("{name} is in the baseline, but is not counted any more")),
        );
        if shrunk {
            println!("\nAt least one shrank by 5 % or more: keep it so with `--bless`.");
        }
        if grown.is_empty() { Ok(()) } else { Err(self.failure(accepted, &grown)) }
    }

    fn failure(&self, accepted: &Self, grown: &[String]) -> String {
        let mut lines = vec![String::new()];
        lines.extend(grown.iter().cloned());
        for (before, now) in
            [(&accepted.compiler, &self.compiler), (&accepted.processor, &self.processor)]
        {
            if before != now {
                lines.push(format!("The baseline was made with {before}, this with {now}."));
            }
        }
        lines.push(
            "The profile of a stage, by function:\n    \
             callgrind_annotate --auto=no --threshold=100 target/callgrind/STAGE.out\n\
             To accept these counts, and commit benches/instructions.txt:\n    \
             cargo bench --bench instructions -- --bless"
                .to_owned(),
        );
        lines.join("\n")
    }
}
