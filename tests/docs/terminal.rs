//! A terminal in which the commands of a page are run: see `session.sh`.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::support::binary;

/// Longest wait for a command; a stop of the program has up to ten seconds for its drain.
const PATIENCE: Duration = Duration::from_secs(60);

/// A shell with a network and processes of its own. Ends with the value, and so does what it started.
pub struct Terminal {
    shell: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

/// What a block of commands did.
pub struct Done {
    /// What was printed, errors too.
    pub output: String,
    /// The first command that failed.
    pub failed: Option<String>,
}

impl Terminal {
    /// Opens one in this folder. Needs root, for the namespaces.
    pub fn open(folder: &Path) -> Self {
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--pid", "--fork", "--mount-proc", "--kill-child", "bash"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docs/session.sh"))
            .arg(binary())
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut shell = command.spawn().expect("start unshare (package util-linux)");
        let input = shell.stdin.take().expect("piped");
        let output = shell.stdout.take().expect("piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { shell, input, lines }
    }

    /// Runs a block.
    pub fn run(&mut self, commands: &str) -> Done {
        let block = format!("{}\n:::\n", commands.trim_end());
        self.input.write_all(block.as_bytes()).expect("the shell reads");
        let mut output = Vec::new();
        loop {
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(error) => panic!("{commands}\n{error}; so far:\n{}", output.join("\n")),
            };
            if let Some(failed) = line.strip_prefix(":::") {
                let failed = failed.trim();
                let failed = (!failed.is_empty()).then(|| failed.to_owned());
                // The line feed in front of the mark.
                return Done { output: output.join("\n").trim_end().to_owned(), failed };
            }
            output.push(line);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The shell takes everything along (--kill-child, and it is the first of its processes).
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
