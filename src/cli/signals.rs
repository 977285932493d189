//! What asks a running process to stop, or to read its file again.

use std::io;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Stop,
    Reload,
}

#[cfg(unix)]
pub(super) use unix::Signals;
#[cfg(windows)]
pub(super) use windows::Signals;

impl Signals {
    /// The next signal that asks to stop.
    pub(super) async fn stop(&mut self) {
        while self.next().await != Signal::Stop {}
    }
}

#[cfg(unix)]
mod unix {
    use tokio::runtime::Runtime;
    use tokio::signal::unix::{self, SignalKind, signal};

    use super::{Signal, io};

    /// SIGTERM and SIGINT ask to stop, SIGHUP to read the file again.
    pub(in crate::cli) struct Signals {
        hangup: unix::Signal,
        terminate: unix::Signal,
        interrupt: unix::Signal,
    }

    impl Signals {
        pub(in crate::cli) fn new(runtime: &Runtime) -> io::Result<Self> {
            let _context = runtime.enter();
            Ok(Self {
                hangup: signal(SignalKind::hangup())?,
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            })
        }

        pub(in crate::cli) async fn next(&mut self) -> Signal {
            tokio::select! {
                _ = self.terminate.recv() => Signal::Stop,
                _ = self.interrupt.recv() => Signal::Stop,
                _ = self.hangup.recv() => Signal::Reload,
            }
        }
    }
}

#[cfg(windows)]
mod windows {
    use tokio::runtime::Runtime;
    use tokio::signal::windows::{self, CtrlBreak, CtrlC, CtrlClose, CtrlShutdown};

    use super::super::service;
    use super::{Signal, io};

    /// Ctrl-C, Ctrl-Break, the end of the console window and of Windows ask to stop, and nothing asks for
    /// a reload. A service hears the service manager alone, which tells it of the end of Windows too.
    pub(in crate::cli) enum Signals {
        Console { c: CtrlC, r#break: CtrlBreak, close: CtrlClose, shutdown: CtrlShutdown },
        Service,
    }

    impl Signals {
        pub(in crate::cli) fn new(runtime: &Runtime) -> io::Result<Self> {
            if service::is_running() {
                return Ok(Self::Service);
            }
            let _context = runtime.enter();
            Ok(Self::Console {
                c: windows::ctrl_c()?,
                r#break: windows::ctrl_break()?,
                close: windows::ctrl_close()?,
                shutdown: windows::ctrl_shutdown()?,
            })
        }

        pub(in crate::cli) async fn next(&mut self) -> Signal {
            match self {
                Self::Service => return service::signal().await,
                Self::Console { c, r#break, close, shutdown } => tokio::select! {
                    _ = c.recv() => {}
                    _ = r#break.recv() => {}
                    _ = close.recv() => {}
                    _ = shutdown.recv() => {}
                },
            }
            Signal::Stop
        }
    }
}
