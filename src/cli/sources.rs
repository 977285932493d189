//! `allowedSources`: looks its names up, again and again, and tells the receivers who may send.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::task::JoinSet;

use crate::config::{self, AllowedSource, SourceValidation};
use crate::event::Listener;
use crate::receive::{Gate, Sources};

/// A listener is bound when every name was answered, or after this long.
const FIRST_ANSWERS: Duration = Duration::from_secs(3);

/// Later there is no hurry, but the look-up of a name server that is gone has to end: resolvers give
/// up after 30 s at most with their usual settings.
const ANSWERS: Duration = Duration::from_secs(30);

/// A name without any answer so far is looked up again after this long, if that is sooner than
/// `resolveInterval`.
const RETRY: Duration = Duration::from_secs(10);

/// The senders that one listener allows.
#[derive(Debug)]
pub(super) struct AllowedSources {
    listener: Listener,
    gate: Arc<Gate>,
    addresses: Vec<IpAddr>,
    blocks: Vec<IpNet>,
    names: Vec<Name>,
    settings: SourceValidation,
    /// What the operator was told last.
    told: Option<Check>,
}

/// A name and its last answer.
#[derive(Debug)]
struct Name {
    text: String,
    addresses: Vec<IpAddr>,
    /// Whether the last look-up failed, and somebody was told.
    failing: bool,
}

/// Nobody may send.
#[derive(Debug, thiserror::Error)]
#[error(
    "{section}.udpServerConfig.allowedSources: none of the names can be resolved, and \
     ringside.sourceValidation.failClosed is on; correct the names or the name service, or list \
     addresses"
)]
pub(super) struct NoSource {
    section: &'static str,
}

impl AllowedSources {
    /// The senders of the listener; `None` when they are not checked.
    pub(super) fn of(
        listener: Listener,
        config: &config::Listener<'_>,
        settings: &SourceValidation,
        gate: &Arc<Gate>,
    ) -> Option<Self> {
        let mut this = Self {
            listener,
            gate: Arc::clone(gate),
            addresses: Vec::new(),
            blocks: Vec::new(),
            names: Vec::new(),
            settings: settings.clone(),
            told: None,
        };
        // The file's checks have refused everything else.
        for entry in config.allowed_sources.iter().filter_map(|text| AllowedSource::parse(text)) {
            match entry {
                AllowedSource::Address(address) => this.addresses.push(address),
                AllowedSource::Block(block) => this.blocks.push(block),
                AllowedSource::Name(name) => {
                    let (text, addresses) = (name.to_owned(), Vec::new());
                    this.names.push(Name { text, addresses, failing: false });
                }
            }
        }
        config.enable_source_validation.then_some(this)
    }

    /// Looks the names up for the first time and applies what is known then.
    pub(super) async fn begin(&mut self) -> Result<(), NoSource> {
        self.resolve(FIRST_ANSWERS).await;
        self.apply();
        if self.settings.fail_closed && self.sources().is_empty() {
            return Err(NoSource { section: section(self.listener) });
        }
        Ok(())
    }

    /// Looks the names up and applies the answers, now and in intervals; never returns unless there
    /// are no names.
    pub(super) async fn renew(mut self) {
        if self.settings.fail_closed && !self.gate.checks_sources() {
            // Nobody slips in before the answers.
            self.gate.allow(Some(self.sources()));
        }
        self.resolve(ANSWERS).await;
        self.apply();
        self.keep().await;
    }

    /// The same, beginning after the first interval.
    pub(super) async fn keep(mut self) {
        while !self.names.is_empty() {
            let interval = self.settings.resolve_interval.duration();
            let unknown = self.names.iter().any(|name| name.addresses.is_empty());
            tokio::time::sleep(if unknown { interval.min(RETRY) } else { interval }).await;
            self.resolve(ANSWERS).await;
            self.apply();
        }
    }

    /// Looks all names up at once and waits for the answers up to `limit`. A name without an answer
    /// keeps its last one.
    async fn resolve(&mut self, limit: Duration) {
        let mut lookups = JoinSet::new();
        for (index, name) in self.names.iter().enumerate() {
            let host = (name.text.clone(), 0);
            lookups.spawn(async move {
                let answer = tokio::time::timeout(limit, tokio::net::lookup_host(host)).await;
                let addresses = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                (index, addresses.map(|found| found.map(|at| at.ip()).collect::<Vec<_>>()))
            });
        }
        while let Some(Ok((index, answer))) = lookups.join_next().await {
            self.names[index].answered(self.listener, answer);
        }
    }

    fn sources(&self) -> Sources {
        let resolved = self.names.iter().flat_map(|name| &name.addresses);
        Sources::new(self.addresses.iter().chain(resolved).copied(), self.blocks.iter().copied())
    }

    /// Tells the receivers; and the operator, when it is not as before.
    fn apply(&mut self) {
        let sources = self.sources();
        let check = if !sources.is_empty() {
            self.gate.allow(Some(sources));
            Check::Listed
        } else if self.settings.fail_closed {
            // A former set stays; without one, nobody may send.
            if !self.gate.checks_sources() {
                self.gate.allow(Some(sources));
            }
            Check::Closed
        } else {
            self.gate.allow(None);
            Check::Off
        };
        if self.told.replace(check) != Some(check) {
            check.tell(self.listener);
        }
    }
}

/// How senders are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// Those that are listed may send.
    Listed,
    /// None of the listed ones is known.
    Closed,
    /// None of the listed ones is known, so anybody may send.
    Off,
}

impl Check {
    fn tell(self, listener: Listener) {
        let listener = listener.name();
        match self {
            Self::Listed => tracing::info!("{listener}: only allowedSources may send"),
            Self::Closed => tracing::error!("{listener}: no allowedSources can be resolved"),
            Self::Off => tracing::warn!(
                "{listener}: SENDERS ARE NOT CHECKED, anybody may send: enableSourceValidation is \
                 on, but allowedSources is empty or none of its names can be resolved; set \
                 ringside.sourceValidation.failClosed to true to refuse to start instead"
            ),
        }
    }
}

impl Name {
    fn answered(&mut self, listener: Listener, answer: io::Result<Vec<IpAddr>>) {
        match answer {
            Ok(addresses) if !addresses.is_empty() => {
                self.addresses = addresses;
                self.failing = false;
            }
            Ok(_) => self.failed(listener, &"no address"),
            Err(error) => self.failed(listener, &error),
        }
    }

    fn failed(&mut self, listener: Listener, error: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.failing, true) {
            let kept = if self.addresses.is_empty() { "" } else { "; its last addresses stay" };
            tracing::warn!(
                "{}: allowedSources: `{}` cannot be resolved: {error}{kept}",
                listener.name(),
                self.text
            );
        }
    }
}

fn section(listener: Listener) -> &'static str {
    match listener {
        Listener::UserEvents => "userEvents",
        Listener::LogEvents => "logEvents",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(entries: &[&str], fail_closed: bool) -> AllowedSources {
        let server = config::UserUdpServer {
            enable_source_validation: true,
            allowed_sources: entries.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        let settings = SourceValidation { fail_closed, ..Default::default() };
        let listener = config::Listener::from(&server);
        AllowedSources::of(Listener::UserEvents, &listener, &settings, &Arc::default())
            .expect("senders are checked")
    }

    fn answer(allowed: &mut AllowedSources, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        allowed.names[0].answered(Listener::UserEvents, Ok(addresses));
        allowed.apply();
    }

    #[test]
    fn the_check_goes_on_when_a_name_resolves_and_stays_on() {
        let mut open = allowed(&["sense1"], false);
        open.apply();
        assert!(!open.gate.checks_sources(), "nothing resolved: everybody may send");
        answer(&mut open, &["10.0.0.1"]);
        assert!(open.gate.checks_sources());
        answer(&mut open, &[]);
        assert!(
            open.sources().contains("10.0.0.1".parse().expect("an address")),
            "the last answer"
        );
    }

    #[test]
    fn fail_closed_lets_nobody_in_before_a_name_resolves() {
        let mut closed = allowed(&["sense1"], true);
        closed.apply();
        assert!(closed.gate.checks_sources() && closed.sources().is_empty());
    }

    #[test]
    fn addresses_need_no_answer() {
        let mut open = allowed(&["10.0.0.1", "fd00::/8", "sense1"], false);
        open.apply();
        assert!(open.gate.checks_sources());
        assert_eq!(open.names.len(), 1);
    }
}
