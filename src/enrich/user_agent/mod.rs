//! Browser and operating system behind a user-agent text.
//!
//! The names are those of Bowser 2.14, which Butler SOS uses, because they are tag values: a browser
//! that changes its name would start a new series. What there is to know about user agents stands in
//! two tables; a cache makes sure that they are seldom asked.
//!
//! | file | what |
//! |---|---|
//! | `browsers` | table of browsers |
//! | `systems` | table of operating systems |
//! | `rules` | how a table is asked |
//! | `cache` | [`UserAgents`] |
//!
//! White space other than ASCII ends no version, as opposed to Bowser; no known browser has it.
//!
//! `benches/user_agent.rs` measures a hit and a miss of the cache.

mod browsers;
mod cache;
mod rules;
mod systems;

#[cfg(test)]
mod tests;

pub use cache::UserAgents;

use std::sync::LazyLock;

use browsers::BROWSERS;
use rules::Rules;
use systems::{IOS, MAC, SYSTEMS};

static BROWSER_RULES: LazyLock<Rules> = LazyLock::new(|| Rules::new(BROWSERS));
static SYSTEM_RULES: LazyLock<Rules> = LazyLock::new(|| Rules::new(SYSTEMS));

/// What a user-agent text says. Unknown parts are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserAgent {
    /// Name of the browser: `Chrome`.
    pub browser_name: Box<str>,
    /// Its version: `120.0.0.0`.
    pub browser_version: Box<str>,
    /// The first number of its version: `120`.
    pub browser_major_version: Box<str>,
    /// Name of the operating system: `Windows`.
    pub os_name: Box<str>,
    /// Its version: `NT 10.0`.
    pub os_version: Box<str>,
}

impl UserAgent {
    /// Reads a text, which may have `'` around or in it, as in a user event. `None` if it says
    /// nothing.
    ///
    /// Takes some microseconds: ask [`UserAgents`], which remembers.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.replace('\'', "");
        let text = text.trim();
        let (browser_name, browser_version) =
            BROWSER_RULES.find(text).or_else(|| own_name(text)).unwrap_or_default();
        let (os_name, os_version) = SYSTEM_RULES.find(text).unwrap_or_default();
        let parsed = Self {
            browser_name: browser_name.into(),
            browser_version: browser_version.into(),
            browser_major_version: major(browser_version).into(),
            os_name: os_name.into(),
            os_version: if os_name == MAC || os_name == IOS {
                os_version.replace(|c: char| c == '_' || c.is_ascii_whitespace(), ".").into()
            } else {
                os_version.into()
            },
        };
        (parsed != Self::default()).then_some(parsed)
    }
}

/// Name and version that a program gives itself: `curl/8.1 (linux)`.
///
/// The version ends at the last ` (`, or at the last space if there is no bracket at all; without
/// either there is neither name nor version.
fn own_name(text: &str) -> Option<(&str, &str)> {
    let end = if text.contains('(') {
        text.rfind(" (").max(text.rfind("\t("))?
    } else {
        text.rfind(' ')?
    };
    text[..end].rsplit_once('/')
}

/// The digits at the start of a version.
fn major(version: &str) -> &str {
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    &version[..end]
}
