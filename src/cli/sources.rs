//! `allowedSources`: looks its names up, again and again, and tells the receivers who may send.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
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

/// The name service and the time between look-ups, which tests stand in for.
pub(super) trait Resolve: Clone + Debug + Send + Sync + 'static {
    /// The addresses of a host.
    fn look_up(&self, host: &str) -> impl Future<Output = io::Result<Vec<IpAddr>>> + Send;

    /// Waits.
    fn wait(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// The system's resolver and clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct System;

impl Resolve for System {
    async fn look_up(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|at| at.ip()).collect())
    }

    fn wait(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(duration)
    }
}

/// The last answer for each name. It outlives the settings: a name service that is down while they are
/// read again takes nobody's permission.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers(Arc<Mutex<HashMap<String, Vec<IpAddr>>>>);

impl Answers {
    fn of(&self, name: &str) -> Vec<IpAddr> {
        self.with(|answers| answers.get(name).cloned()).unwrap_or_default()
    }

    fn keep(&self, name: &str, addresses: &[IpAddr]) {
        self.with(|answers| answers.insert(name.to_owned(), addresses.to_vec()));
    }

    /// Forgets the names that are no longer in the file, which is what bounds this.
    pub(super) fn retain(&self, allowed: &[AllowedSources]) {
        let is_used = |name: &str| allowed.iter().any(|it| it.names.iter().any(|n| n.text == name));
        self.with(|answers| answers.retain(|name, _| is_used(name)));
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, Vec<IpAddr>>) -> T) -> T {
        // No work here leaves the map half changed.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The senders that one listener allows.
#[derive(Debug)]
pub(super) struct AllowedSources<R = System> {
    resolver: R,
    answers: Answers,
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

impl<R: Resolve> AllowedSources<R> {
    /// The senders of the listener; `None` when they are not checked. Names that were answered before
    /// have these addresses until there are new ones.
    pub(super) fn of(
        listener: Listener,
        config: &config::Listener<'_>,
        settings: &SourceValidation,
        gate: &Arc<Gate>,
        answers: &Answers,
        resolver: R,
    ) -> Option<Self> {
        let mut this = Self {
            resolver,
            answers: answers.clone(),
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
                    let (text, addresses) = (name.to_owned(), answers.of(name));
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
            self.resolver.wait(if unknown { interval.min(RETRY) } else { interval }).await;
            self.resolve(ANSWERS).await;
            self.apply();
        }
    }

    /// Looks all names up at once and waits for the answers up to `limit`. A name without an answer
    /// keeps its last one.
    async fn resolve(&mut self, limit: Duration) {
        let mut lookups = JoinSet::new();
        for (index, name) in self.names.iter().enumerate() {
            let (resolver, host) = (self.resolver.clone(), name.text.clone());
            lookups.spawn(async move {
                let answer = tokio::time::timeout(limit, resolver.look_up(&host)).await;
                (index, answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
            });
        }
        while let Some(Ok((index, answer))) = lookups.join_next().await {
            self.answered(index, answer);
        }
    }

    fn answered(&mut self, index: usize, answer: io::Result<Vec<IpAddr>>) {
        let name = &mut self.names[index];
        name.answered(self.listener, answer);
        if !name.failing {
            self.answers.keep(&name.text, &name.addresses);
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
mod tests;
