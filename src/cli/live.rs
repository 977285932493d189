//! What may change while the engine runs: what a reload re-reads from the file, and the addresses
//! behind names.
//!
//! Everything here is swapped between two batches, so no event is lost and none sees half of it.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_yaml::Value;
use tokio::task::JoinSet;

use super::settings;
use super::sources::{AllowedSources, Answers, NoSource, System};
use crate::config::{self, Config, Overrides};
use crate::engine;
use crate::event::Listener;
use crate::observe::logging::{self, Level};
use crate::receive::Gate;
use crate::rules::Rules;

/// Where the settings come from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The file to read again.
    pub(super) path: PathBuf,
    /// The level of the command line, which the file's does not override.
    pub(super) level: Option<Level>,
    /// What the command line says instead of the file.
    pub(super) overrides: Overrides,
}

/// The settings in force, and what has to be told when they change.
#[derive(Debug)]
pub(super) struct Live {
    config: Config,
    origin: Option<Origin>,
    rules: Arc<ArcSwap<Rules>>,
    gates: [Arc<Gate>; Listener::COUNT],
    /// Whether the log listener is bound, which does not change while the engine runs.
    log_bound: bool,
    /// What the names of senders were last.
    answers: Answers,
    /// Tasks that look names up.
    resolving: JoinSet<()>,
}

impl Live {
    /// The settings with which the engine is about to start.
    pub(super) fn new(config: &Config, origin: Option<Origin>, engine: &engine::Settings) -> Self {
        Self {
            config: config.clone(),
            origin,
            rules: Arc::clone(&engine.rules),
            gates: engine.receive.gates.clone(),
            log_bound: config.log_listener().is_some(),
            answers: Answers::default(),
            resolving: JoinSet::new(),
        }
    }

    /// Prepares the gates of the listeners, which are bound after this.
    pub(super) async fn begin(&mut self) -> Result<(), NoSource> {
        self.limit();
        let mut allowed = self.allowed();
        match &mut allowed[..] {
            // Side by side, so that both have the same 3 s.
            [first, second] => {
                let (first, second) = tokio::join!(first.begin(), second.begin());
                first.and(second)?;
            }
            others => {
                for one in others {
                    one.begin().await?;
                }
            }
        }
        for one in allowed {
            self.resolving.spawn(one.keep());
        }
        Ok(())
    }

    /// Reads the file again. Whatever is wrong with it, the settings in force stay.
    pub(super) fn reload(&mut self) {
        let Some(origin) = &self.origin else {
            tracing::warn!("reload: there is no configuration file to read again");
            return;
        };
        let loaded = match config::load_with(&origin.path, origin.overrides.clone()) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!("reload: the configuration in force stays, for the file is wrong");
                // Many lines, each with its place in the file.
                logging::say(error);
                return;
            }
        };
        let adopted = adopt(&self.config, &loaded.config);
        let rules = match settings::compiled(&adopted) {
            Ok(rules) => rules,
            Err(error) => {
                tracing::error!("reload: the configuration in force stays: {error}");
                return;
            }
        };
        logging::set_level(origin.level.unwrap_or(settings::level(&adopted)));
        for warning in &loaded.warnings {
            tracing::warn!("{warning:#}");
        }
        let mut left = differences(&adopted, &loaded.config);
        if !self.log_bound && adopted.log_listener().is_some() {
            left.push("Butler-SOS.logEvents.source".to_owned());
        }
        if !left.is_empty() {
            tracing::warn!(
                "reload: changed, but in force after a restart only: {}",
                left.join(", ")
            );
        }
        self.config = adopted;
        self.rules.store(Arc::new(rules));
        self.limit();
        self.renew_sources();
        tracing::info!("reload: the configuration was read again");
    }

    /// Sets the rate limits.
    fn limit(&self) {
        for listener in Listener::ALL {
            let rate = self.listener(listener).map(|listener| listener.rate_limit);
            let limit = rate.filter(|rate| rate.enable).map(|rate| rate.max_messages_per_minute);
            self.gates[listener as usize].limit(limit);
        }
    }

    /// Begins to look the names of the settings in force up. A former set of senders stays until
    /// there are answers.
    fn renew_sources(&mut self) {
        // Dropping the set ends the former tasks.
        self.resolving = JoinSet::new();
        let allowed = self.allowed();
        self.answers.retain(&allowed);
        for listener in Listener::ALL {
            if self.listener(listener).is_none_or(|listener| !listener.enable_source_validation) {
                self.gates[listener as usize].allow(None);
            }
        }
        for one in allowed {
            self.resolving.spawn(one.renew());
        }
    }

    /// The listeners that check senders.
    fn allowed(&self) -> Vec<AllowedSources> {
        let settings = &self.config.ringside.source_validation;
        let of = |listener: Listener| {
            let gate = &self.gates[listener as usize];
            let config = self.listener(listener)?;
            AllowedSources::of(listener, &config, settings, gate, &self.answers, System)
        };
        Listener::ALL.into_iter().filter_map(of).collect()
    }

    fn listener(&self, listener: Listener) -> Option<config::Listener<'_>> {
        match listener {
            Listener::UserEvents => self.config.user_listener(),
            Listener::LogEvents => self.config.log_listener(),
        }
    }
}

/// The settings in force with those of the file that can be changed without a restart.
fn adopt(in_force: &Config, file: &Config) -> Config {
    let mut adopted = in_force.clone();
    let (to, from) = (&mut adopted.user_events, &file.user_events);
    to.exclude_user.clone_from(&from.exclude_user);
    let (to, from) = (&mut to.udp_server_config, &from.udp_server_config);
    to.rate_limit.clone_from(&from.rate_limit);
    to.enable_source_validation = from.enable_source_validation;
    to.allowed_sources.clone_from(&from.allowed_sources);
    let (to, from) = (&mut adopted.log_events, &file.log_events);
    to.source.clone_from(&from.source);
    to.categorise.clone_from(&from.categorise);
    to.engine_performance_monitor.enable = from.engine_performance_monitor.enable;
    let filter = &from.engine_performance_monitor.monitor_filter;
    to.engine_performance_monitor.monitor_filter.clone_from(filter);
    let (to, from) = (&mut to.udp_server_config, &from.udp_server_config);
    to.rate_limit.clone_from(&from.rate_limit);
    to.enable_source_validation = from.enable_source_validation;
    to.allowed_sources.clone_from(&from.allowed_sources);
    adopted.log_level = file.log_level;
    adopted.ringside.source_validation.clone_from(&file.ringside.source_validation);
    adopted
}

/// The keys in which two configurations differ. Secrets are written as `***`, so of them only that one
/// differs is known.
fn differences(one: &Config, other: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    let value = |config| serde_yaml::to_value(config).unwrap_or_default();
    compare("Butler-SOS", &value(one), &value(other), &mut keys);
    if keys.is_empty() && one != other {
        keys.push("a password, key or token".to_owned());
    }
    keys
}

fn compare(path: &str, one: &Value, other: &Value, keys: &mut Vec<String>) {
    match (one, other) {
        (Value::Mapping(one), Value::Mapping(other)) => {
            // A section of the file has the same keys in every configuration.
            for (key, value) in one {
                let key_text = key.as_str().unwrap_or_default();
                let other = other.get(key).unwrap_or(&Value::Null);
                compare(&format!("{path}.{key_text}"), value, other, keys);
            }
        }
        _ if one != other => keys.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let text = format!("Butler-SOS:\n  userEvents:\n    enable: true\n{text}");
        config::parse(&text, "f.yaml").expect("a valid file").config
    }

    #[test]
    fn what_cannot_be_changed_is_named() {
        let old = config("");
        let new = config(
            "  logLevel: debug\n  ringside:\n    shards: 3\n    queue:\n      strict: true\n    \
             console:\n      token: abc\n",
        );
        let adopted = adopt(&old, &new);
        assert_eq!(adopted.log_level, new.log_level);
        let keys = ["ringside.shards", "ringside.queue.strict", "ringside.console.token"];
        assert_eq!(differences(&adopted, &new), keys.map(|key| format!("Butler-SOS.{key}")));
    }

    #[test]
    fn a_changed_secret_is_told_but_not_shown() {
        let with = |token| config(&format!("  ringside:\n    console:\n      token: {token}\n"));
        assert_eq!(differences(&with("one"), &with("two")), ["a password, key or token"]);
        assert_eq!(differences(&with("one"), &with("one")), [""; 0]);
    }

    #[test]
    fn what_can_be_changed_needs_no_restart() {
        let old = config("");
        let mut new = old.clone();
        new.log_level = config::LogLevel::Error;
        new.log_events.source.engine.enable = true;
        new.user_events.udp_server_config.allowed_sources = vec!["10.0.0.1".to_owned()];
        new.log_events.udp_server_config.rate_limit.enable = true;
        new.ringside.source_validation.fail_closed = true;
        assert_eq!(adopt(&old, &new), new);
    }
}
