//! Levels of log4net, as far as thresholds name them.

/// From which level on log events are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything worth a line; many times the warnings.
    Info,
    /// Warnings and worse: what Butler SOS's files say.
    Warn,
    /// Errors and worse.
    Error,
    /// Only what ends a service.
    Fatal,
}

impl Level {
    /// All that can be chosen.
    pub const ALL: [Self; 4] = [Self::Info, Self::Warn, Self::Error, Self::Fatal];

    /// As a threshold in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    pub(super) const fn rank(self) -> u32 {
        match self {
            Self::Info => INFO,
            Self::Warn => WARN,
            Self::Error => ERROR,
            Self::Fatal => FATAL,
        }
    }
}

const INFO: u32 = 40_000;
const WARN: u32 = 60_000;
const ERROR: u32 = 70_000;
const FATAL: u32 = 110_000;

/// log4net's own table.
static RANKS: [(&str, u32); 17] = [
    ("all", 0),
    ("verbose", 10_000),
    ("finest", 10_000),
    ("trace", 20_000),
    ("finer", 20_000),
    ("debug", 30_000),
    ("fine", 30_000),
    ("info", INFO),
    ("notice", 50_000),
    ("warn", WARN),
    ("error", ERROR),
    ("severe", 80_000),
    ("critical", 90_000),
    ("alert", 100_000),
    ("fatal", FATAL),
    ("emergency", 120_000),
    ("off", u32::MAX),
];

/// How severe a level of this name is, in any case; `None` when log4net does not know it.
pub(super) fn rank(name: &str) -> Option<u32> {
    RANKS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|&(_, rank)| rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_chosen_is_known() {
        for level in Level::ALL {
            assert_eq!(rank(level.name()), Some(level.rank()));
            assert_eq!(rank(&level.name().to_uppercase()), Some(level.rank()));
        }
        assert!(Level::ALL.is_sorted_by_key(|level| level.rank()));
        for name in ["", "warning", "err", "warn "] {
            assert_eq!(rank(name), None, "{name:?}");
        }
    }
}
