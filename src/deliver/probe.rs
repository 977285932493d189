//! Whether a destination would take events, found out without sending it any.
//!
//! Each destination knows a question of its own that a server answers only to those who may write, and
//! that leaves nothing behind. This is what they answer with.

use std::time::SystemTime;

/// What a destination said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Whether it would take events.
    pub verdict: Verdict,
    /// What it said, or that it said nothing. Holds no secrets.
    pub what: String,
    /// What to do about it; empty when there is nothing to do.
    pub hint: String,
    /// Seconds that its clock is ahead of ours, to the second, where it shows its clock.
    pub clock_ahead: Option<i64>,
}

/// Whether a destination would take events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As far as can be known without sending one, yes.
    Takes,
    /// It may, later or after it has been prepared.
    Unsure,
    /// No, or it cannot be reached.
    Refuses,
    /// Not with these credentials.
    Forbids,
}

impl Probed {
    /// An answer without a clock.
    pub(crate) fn new(verdict: Verdict, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { verdict, what: what.into(), hint: hint.into(), clock_ahead: None }
    }

    /// The same with what the other clock showed just now.
    pub(crate) fn with_clock(self, theirs: Option<SystemTime>) -> Self {
        Self { clock_ahead: theirs.and_then(|theirs| ahead(theirs, SystemTime::now())), ..self }
    }
}

/// Whole seconds that one time is after another.
fn ahead(theirs: SystemTime, ours: SystemTime) -> Option<i64> {
    match theirs.duration_since(ours) {
        Ok(ahead) => i64::try_from(ahead.as_secs()).ok(),
        Err(behind) => i64::try_from(behind.duration().as_secs()).ok().map(|seconds| -seconds),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn clocks_are_compared_to_the_second() {
        let ours = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_900);
        for (theirs, seconds) in
            [(1_700_000_000, 0), (1_700_000_010, 9), (1_699_999_990, -10), (1_700_003_601, 3600)]
        {
            let theirs = SystemTime::UNIX_EPOCH + Duration::from_secs(theirs);
            assert_eq!(ahead(theirs, ours), Some(seconds));
        }
    }
}
