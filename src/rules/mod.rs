//! Which events are wanted, and which categories they have.
//!
//! The configuration says it in lists; every event is asked about. So the lists are compiled once into
//! what answers fastest, and [`Rules::judge`] looks up borrowed text and allocates nothing.
//!
//! | file | what |
//! |---|---|
//! | `users` | users whose events are not wanted |
//! | [`monitor`] | which performance events are wanted |
//! | [`categorise`] | categories of log events, by what the message says |

pub mod categorise;
pub mod monitor;
mod users;

#[cfg(test)]
mod tests;

use smallvec::SmallVec;

use crate::event::{Event, Kind, Listener};
use crate::observe::ledger::RejectReason;

use categorise::{Categorise, Categoriser};
use monitor::{Monitor, MonitorFilter};
use users::Users;

/// The sources that the configuration enables, per [`Kind`].
///
/// User events have one switch (`userEvents.enable`); log events one each
/// (`logEvents.source.<name>.enable`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnabledKinds(pub [bool; Kind::COUNT]);

impl EnabledKinds {
    /// Whether events of this kind are wanted.
    #[must_use]
    pub fn contains(self, kind: Kind) -> bool {
        self.0[kind as usize]
    }
}

/// A category: a tag at `InfluxDB`, a member of the event elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Category {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// The categories of one event. More than eight are rare, and then they are allocated.
pub type Categories<'r> = SmallVec<[&'r Category; 8]>;

/// A user whose events are not wanted. Both parts have to match, case included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExcludedUser {
    /// User directory.
    pub directory: String,
    /// User id.
    pub id: String,
}

/// What is to be decided, in the words of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Sources whose events are wanted at all.
    pub enabled: EnabledKinds,
    /// Users whose user events are not wanted (`userEvents.excludeUser`).
    pub excluded_users: Vec<ExcludedUser>,
    /// Which performance events are wanted
    /// (`logEvents.enginePerformanceMonitor.monitorFilter`); `None` lets all of them pass.
    pub monitor_filter: Option<MonitorFilter>,
    /// Categories of log events (`logEvents.categorise`); `None` when they are off.
    pub categorise: Option<Categorise>,
    /// Whether destinations get the names of performance events' apps
    /// (`logEvents.enginePerformanceMonitor.appNameLookup`). The filter knows them in any case.
    pub app_name_lookup: bool,
}

impl Settings {
    /// Accepts all events of these kinds, without categories.
    #[must_use]
    pub fn accepting(enabled: EnabledKinds) -> Self {
        Self {
            enabled,
            excluded_users: Vec::new(),
            monitor_filter: None,
            categorise: None,
            app_name_lookup: true,
        }
    }
}

/// Why rules cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The texts of all filters are too much for one matcher (it counts its states in 31 bits).
    #[error(
        "Butler-SOS.logEvents.categorise.rules: the texts of the filters are too many to be searched \
         for at once: {0}; use fewer or shorter ones"
    )]
    Texts(#[from] aho_corasick::BuildError),
}

/// Everything that decides about an event, made ready for looking up.
#[derive(Debug)]
pub struct Rules {
    enabled: EnabledKinds,
    excluded_users: Users,
    monitor: Option<Monitor>,
    categoriser: Option<Categoriser>,
    app_name_lookup: bool,
}

impl Rules {
    /// Rules that accept all events of these kinds, without categories.
    #[must_use]
    pub fn accepting(enabled: EnabledKinds) -> Self {
        Self {
            enabled,
            excluded_users: Users::default(),
            monitor: None,
            categoriser: None,
            app_name_lookup: true,
        }
    }

    /// Compiles the settings.
    pub fn compile(settings: &Settings) -> Result<Self, RulesError> {
        Ok(Self {
            enabled: settings.enabled,
            excluded_users: Users::new(&settings.excluded_users),
            monitor: settings.monitor_filter.as_ref().map(Monitor::new),
            categoriser: settings.categorise.as_ref().map(Categoriser::new).transpose()?,
            app_name_lookup: settings.app_name_lookup,
        })
    }

    /// Whether an event is wanted, and its categories (`None` when they are off, and for user
    /// events). `app_name` is the name of a performance event's app, if it is known.
    ///
    /// The categories are put into `room`, which is emptied first: to return them by value would cost
    /// as much as to find them.
    pub fn judge<'r, 'c>(
        &'r self,
        event: &Event<'_>,
        app_name: Option<&str>,
        room: &'c mut Categories<'r>,
    ) -> Result<Option<&'c [&'r Category]>, RejectReason> {
        if !self.enabled.contains(event.kind()) {
            return Err(RejectReason::SourceDisabled);
        }
        if event.kind().listener() == Listener::UserEvents {
            let excluded = self.excluded_users.contains(event);
            return if excluded { Err(RejectReason::ExcludedUser) } else { Ok(None) };
        }
        if event.kind() == Kind::QixPerf
            && let Some(monitor) = &self.monitor
            && !monitor.accepts(event, app_name)
        {
            return Err(RejectReason::Filter);
        }
        let Some(categoriser) = &self.categoriser else { return Ok(None) };
        room.clear();
        categoriser.judge(event, room)?;
        Ok(Some(room))
    }

    /// The name of the app that destinations get: the name that is known, unless it is a performance
    /// event's and these are to be left without.
    #[must_use]
    pub fn written_app_name<'n>(
        &self,
        event: &Event<'_>,
        app_name: Option<&'n str>,
    ) -> Option<&'n str> {
        app_name.filter(|_| self.app_name_lookup || event.kind() != Kind::QixPerf)
    }
}
