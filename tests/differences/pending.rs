//! What Ringside does not do yet. Each function goes when the thing itself comes.

use super::Expected;
use crate::butler_sos::Text;

/// Log events have no categories.
pub fn categories(expected: &mut Expected<'_>) {
    expected.extras.categories = None;
    expected.write();
}

/// Names of apps are not looked up.
pub fn app_names(expected: &mut Expected<'_>) {
    expected.extras.app_name = Text::new();
    expected.write();
}

/// User agents are not parsed.
pub fn user_agents(expected: &mut Expected<'_>) {
    expected.extras.user_agent.clear();
    expected.write();
}
