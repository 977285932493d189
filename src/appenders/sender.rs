//! Who sends what: one row for each kind of event.

use crate::event::Kind;

/// A Sense service that reads a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Runs the apps.
    Engine,
    /// Lets users in.
    Proxy,
    /// Holds users, apps and licences.
    Repository,
    /// Runs reload tasks.
    Scheduler,
}

impl Service {
    /// All that have a file.
    pub const ALL: [Self; 4] = [Self::Engine, Self::Proxy, Self::Repository, Self::Scheduler];

    /// The service's folder under [`super::SENSE_FOLDER`].
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Engine => "Engine",
            Self::Proxy => "Proxy",
            Self::Repository => "Repository",
            Self::Scheduler => "Scheduler",
        }
    }
}

/// Which events of a logger are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Threshold {
    /// All that pass the filters.
    None,
    /// Performance events are logged as INFO.
    Info,
    /// From the level on that the operator chooses.
    Chosen,
}

/// What sends one kind of event: a row of the table behind the files.
#[derive(Debug)]
pub struct Sender {
    /// The kind.
    pub kind: Kind,
    /// The service that logs such events.
    pub service: Service,
    /// Name of the appender. Butler SOS's have other names, so that both can be in one file.
    pub(super) appender: &'static str,
    /// Loggers whose events they are; a logger's name stands for all that begin with it and a dot.
    pub loggers: &'static [&'static str],
    /// Texts of which a message holds one; any message if there is none.
    pub(super) texts: &'static [&'static str],
    pub(super) threshold: Threshold,
}

impl Sender {
    /// The row of a kind.
    #[must_use]
    pub fn of(kind: Kind) -> &'static Self {
        &SENDERS[kind as usize]
    }

    /// Whether a logger's events are of this kind.
    pub(super) fn has_logger(&self, logger: &str) -> bool {
        self.loggers.iter().any(|own| is_within(logger, own))
    }
}

/// Whether a logger is another, or below it.
pub(super) fn is_within(logger: &str, above: &str) -> bool {
    logger.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// In the order of [`Kind`]'s discriminants.
static SENDERS: [Sender; Kind::COUNT] = [
    Sender {
        kind: Kind::ProxySession,
        service: Service::Proxy,
        appender: "RingsideSession",
        loggers: &["AuditActivity.Proxy"],
        texts: &["Start session for user", "Stop session for user"],
        threshold: Threshold::None,
    },
    Sender {
        kind: Kind::ProxyConnection,
        service: Service::Proxy,
        appender: "RingsideConnection",
        loggers: &["AuditActivity.Proxy"],
        texts: &["connection Opened for session", "connection Closed for session"],
        threshold: Threshold::None,
    },
    Sender {
        kind: Kind::Engine,
        service: Service::Engine,
        appender: "RingsideEngine",
        loggers: &["Performance.Engine", "System.Engine", "Session.Engine"],
        texts: &[],
        threshold: Threshold::Chosen,
    },
    Sender {
        kind: Kind::Proxy,
        service: Service::Proxy,
        appender: "RingsideProxy",
        loggers: &["Audit.Proxy", "AuditSecurity", "Security.Proxy", "System.Proxy"],
        texts: &[],
        threshold: Threshold::Chosen,
    },
    Sender {
        kind: Kind::Repository,
        service: Service::Repository,
        appender: "RingsideRepository",
        loggers: &["Service", "System.Repository", "UserManagement.Repository"],
        texts: &[],
        threshold: Threshold::Chosen,
    },
    Sender {
        kind: Kind::Scheduler,
        service: Service::Scheduler,
        appender: "RingsideScheduler",
        loggers: &["Service", "System.Scheduler"],
        texts: &[],
        threshold: Threshold::Chosen,
    },
    Sender {
        kind: Kind::QixPerf,
        service: Service::Engine,
        appender: "RingsidePerformance",
        loggers: &["QixPerformance.Engine.Engine"],
        texts: &[],
        threshold: Threshold::Info,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_where_their_kind_says() {
        for kind in Kind::ALL {
            assert_eq!(Sender::of(kind).kind, kind);
        }
    }

    #[test]
    fn loggers_below() {
        let proxy = Sender::of(Kind::Proxy);
        for (logger, own) in [
            ("System.Proxy", true),
            ("System.Proxy.Proxy.Core", true),
            ("System.ProxyX", false),
            ("System", false),
            ("system.proxy", false),
        ] {
            assert_eq!(proxy.has_logger(logger), own, "{logger}");
        }
    }
}
