//! What systemd is told: that the listeners are bound, that the engine still turns, that the drain has
//! begun and how long it may take. The service manager of Windows is told the same, but for the second.
//! Without either, nobody is told.

use std::time::Duration;

/// What is waited for between the end of a drain and that of the process: the ledger is printed and
/// written, and the console's thread is joined.
const AFTER_DRAIN: Duration = Duration::from_secs(10);

/// Every listener is bound.
pub(super) fn ready() {
    #[cfg(target_os = "linux")]
    tell(&[sd_notify::NotifyState::Ready]);
    #[cfg(windows)]
    super::service::ready();
}

/// The drain begins. The unit's `TimeoutStopSec` need not know the file's `shutdownTimeout`: systemd is
/// asked for as long as it takes.
pub(super) fn stopping(drain: Duration) {
    let limit = drain + AFTER_DRAIN;
    #[cfg(target_os = "linux")]
    {
        let limit = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
        tell(&[sd_notify::NotifyState::Stopping, sd_notify::NotifyState::ExtendTimeoutUsec(limit)]);
    }
    #[cfg(windows)]
    super::service::stopping(limit);
    #[cfg(not(any(target_os = "linux", windows)))]
    let _ = limit;
}

/// systemd's watchdog: it ends a process that is silent for the unit's `WatchdogSec`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watchdog {
    wanted: bool,
}

impl Watchdog {
    /// What the environment asks for (`WATCHDOG_USEC`).
    pub(super) fn from_environment() -> Self {
        #[cfg(target_os = "linux")]
        let wanted = sd_notify::watchdog_enabled().is_some();
        #[cfg(not(target_os = "linux"))]
        let wanted = false;
        Self { wanted }
    }

    /// Says that the process works.
    pub(super) fn pat(self) {
        #[cfg(target_os = "linux")]
        if self.wanted {
            tell(&[sd_notify::NotifyState::Watchdog]);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = self.wanted;
    }

    /// Says so once per `interval`, for as long as it is polled: what bounds a drain is its own limit.
    pub(super) async fn keep_patting(self, interval: Duration) -> ! {
        let mut tick = tokio::time::interval(interval);
        loop {
            tick.tick().await;
            self.pat();
        }
    }
}

#[cfg(target_os = "linux")]
fn tell(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd was not told: {error}");
    }
}
