//! A server's program on a free port of 127.0.0.1, with its files in a temporary folder.

use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{DEADLINE, wait_for};

/// A server that can be ended and started again. Ends with the value.
pub struct Server {
    program: &'static str,
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// A server that does not run yet.
    pub fn new(program: &'static str) -> Self {
        Self { program, folder: tempfile::tempdir().unwrap(), port: free_port(), child: None }
    }

    /// Starts the program and waits until it is `up`.
    pub fn start(&mut self, arguments: &[OsString], up: impl Fn() -> bool) {
        assert!(self.child.is_none(), "{} runs already", self.program);
        let log = self.folder.path().join("log");
        let child = Command::new(self.program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn();
        let child = match child {
            Ok(child) => self.child.insert(child),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("these tests need a real {}: `tests/run` installs it", self.program)
            }
            Err(error) => panic!("{} does not start: {error}", self.program),
        };
        wait_for(self.program, 2 * DEADLINE, || {
            let ended = child.try_wait().unwrap();
            let log = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "{} is not up: {ended:?}\n{}", self.program, log());
            up().then_some(())
        });
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end, and waits until it has.
    pub fn shut_down(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
            kill(pid, Signal::SIGTERM).unwrap();
            child.wait().unwrap();
        }
    }

    /// What it has said since it was started last.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An address where nobody listens; it stays free, as far as a test can tell, until it is used.
pub fn nobody() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// A port that nobody listens at.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
