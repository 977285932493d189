//! What Ringside does not do yet. Each function goes when the thing itself comes.

use super::Expected;
use crate::butler_sos::Loss;

/// Excluded users are delivered.
pub fn excluded_users(expected: &mut Expected<'_>) {
    expected.judged.retain(|loss| *loss != Loss::ExcludedUser);
}

/// Performance events are delivered without asking the monitor filters.
pub fn monitor_filters(expected: &mut Expected<'_>) {
    expected.judged.retain(|loss| *loss != Loss::Filtered);
}
