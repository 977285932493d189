//! What is known about an event beyond what it says itself: the name of its app, the browser behind
//! it, its categories.
//!
//! | file | what |
//! |---|---|
//! | [`app_names`] | names of apps by id, asked of the Qlik Sense repository service |
//! | [`user_agent`] | browser and operating system behind a user-agent text |

pub mod app_names;
pub mod user_agent;

pub use app_names::AppNames;
pub use user_agent::{UserAgent, UserAgents};

use crate::event::Event;
use crate::rules::Category;

/// Stands for the name of an app that the repository service does not know, in user events.
pub const UNKNOWN_APP: &str = "<unknown app name>";

/// An event and all that is known about it: what destinations write.
#[derive(Clone, Copy, Debug)]
pub struct Enriched<'a> {
    /// The event.
    pub event: &'a Event<'a>,
    /// When it was received, in nanoseconds since 1970; unique within a run.
    pub received_ns: u64,
    /// The name of the app that the event is about. For user events: the name, or [`UNKNOWN_APP`],
    /// exactly when [`Event::context_app_id`] has an app. For performance events: the name, when
    /// look-up is on and the app is known. `None` for all others.
    pub app_name: Option<&'a str>,
    /// The browser of a user event whose message has a user agent.
    pub user_agent: Option<&'a UserAgent>,
    /// Categories of a log event, without duplicates, in the order of the rules; `None` when
    /// categories are off, and for user events.
    pub categories: Option<&'a [&'a Category]>,
}

impl<'a> Enriched<'a> {
    /// An event about which nothing more is known.
    #[must_use]
    pub fn plain(event: &'a Event<'a>, received_ns: u64) -> Self {
        Self { event, received_ns, app_name: None, user_agent: None, categories: None }
    }
}
