//! Which loggers give their events to which appenders.

use super::super::document::{Configuration, Logger, Text};
use super::super::finding::Finding;
use super::super::level;
use super::super::sender::{Sender, Service, Threshold, is_within};
use super::{Expected, Subject};
use crate::event::Kind;

pub(super) fn check(
    subjects: &[Subject<'_>],
    configuration: &Configuration<'_>,
    expected: &Expected,
) -> Vec<Finding> {
    let wiring = Wiring { subjects, configuration };
    let mut findings = wiring.names();
    findings.extend(wiring.references());
    findings.extend(wiring.repeated_loggers());
    findings.extend(wiring.service(expected));
    for subject in subjects {
        findings.extend(wiring.loggers_of(subject));
        findings.extend(wiring.twice(subject));
    }
    findings
}

/// Letters that a name may differ in to be taken for another.
const NEAR: usize = 2;

struct Wiring<'a> {
    subjects: &'a [Subject<'a>],
    configuration: &'a Configuration<'a>,
}

impl Wiring<'_> {
    fn error(&self, at: Text<'_>, what: String, hint: impl Into<String>) -> Finding {
        Finding::error(self.configuration.place_in(at, 0), what, hint)
    }

    fn warning(&self, at: Text<'_>, what: String, hint: impl Into<String>) -> Finding {
        Finding::warning(self.configuration.place_in(at, 0), what, hint)
    }

    fn loggers(&self, appender: &str) -> impl Iterator<Item = &Logger<'_>> {
        self.configuration.loggers.iter().filter(move |logger| logger.has_ref(appender))
    }

    /// Names that two appenders have, or that Sense does not allow.
    fn names(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let appenders = &self.configuration.appenders;
        for (index, appender) in appenders.iter().enumerate() {
            let name = appender.name;
            if appenders[..index].iter().any(|before| before.name.value == name.value) {
                let what = format!(
                    "a second appender `{}`: log4net uses the first and never this one",
                    name.value
                );
                findings.push(self.error(name, what, "give it another name, and its loggers too"));
            }
            if name.value.is_empty() || name.value.starts_with('$') {
                let what = format!(
                    "an appender cannot be called `{}`: the services refuse the whole file",
                    name.value
                );
                findings.push(self.error(name, what, "give it a name that does not begin with $"));
            }
        }
        findings
    }

    /// References to appenders that are not there.
    fn references(&self) -> Vec<Finding> {
        let appenders = &self.configuration.appenders;
        let mut findings = Vec::new();
        for logger in &self.configuration.loggers {
            for reference in &logger.refs {
                if appenders.iter().any(|appender| appender.name.value == reference.value) {
                    continue;
                }
                let what = format!(
                    "{} refers to appender `{}`, which the file does not have: its events go nowhere",
                    named(logger),
                    reference.value
                );
                let near = appenders.iter().map(|appender| appender.name.value);
                let hint = match nearest(reference.value, near) {
                    Some(name) => format!("write ref=\"{name}\""),
                    None => "name an appender of this file".to_owned(),
                };
                findings.push(self.error(*reference, what, hint));
            }
        }
        findings
    }

    /// log4net drops a logger's appenders whenever it comes to an element for that logger.
    fn repeated_loggers(&self) -> Vec<Finding> {
        let loggers = &self.configuration.loggers;
        let ours = |logger: &&Logger<'_>| {
            self.subjects.iter().any(|subject| logger.has_ref(subject.appender.name.value))
        };
        let finding = |(index, first): (usize, &Logger<'_>)| {
            let again =
                loggers[index + 1..].iter().find(|later| later.name.value == first.name.value)?;
            ours(&first).then(|| {
                let place = self.configuration.place_in(again.name, 0);
                let what = format!(
                    "{} stands a second time, at line {}; only the appenders of the last one are \
                     used, so what this one sends never arrives",
                    named(first),
                    place.row
                );
                self.error(first.name, what, "put all its appender-ref into one element")
            })
        };
        loggers.iter().enumerate().filter_map(finding).collect()
    }

    /// One file is for one service.
    fn service(&self, expected: &Expected) -> Vec<Finding> {
        let mut findings = Vec::new();
        let Some(first) = self.subjects.first() else { return findings };
        let service = first.sender().service;
        let foreign = self.subjects.iter().find(|subject| subject.sender().service != service);
        if let Some(foreign) = foreign {
            let what = format!(
                "{} sends {} events and `{}` sends {} events: no service logs both, so some never come",
                foreign.named(),
                foreign.kind.name(),
                first.appender.name.value,
                first.kind.name()
            );
            findings.push(self.error(foreign.pattern, what, "make a file for each service"));
        }
        let lies_with = Service::ALL.into_iter().find(|service| {
            expected.folder.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(service.folder()))
        });
        if let Some(folder) = lies_with.filter(|&folder| folder != service && foreign.is_none()) {
            let (here, there) = (folder.folder(), service.folder());
            let what = format!(
                "{} sends {} events, and the file lies in the folder `{here}`: that service logs none",
                first.named(),
                first.kind.name()
            );
            findings.push(self.error(
                first.pattern,
                what,
                format!("put it into the folder `{there}`"),
            ));
        }
        findings
    }

    fn loggers_of(&self, subject: &Subject<'_>) -> Vec<Finding> {
        let name = subject.appender.name;
        let sender = subject.sender();
        let mut findings = Vec::new();
        if self.loggers(name.value).next().is_none() {
            let what = format!("no logger refers to {}: nothing arrives from it", subject.named());
            let logger = sender.loggers[0];
            let hint = format!(
                r#"add <logger name="{logger}"><appender-ref ref="{}" /></logger>"#,
                name.value
            );
            findings.push(self.error(name, what, hint));
            return findings;
        }
        for logger in self.loggers(name.value) {
            findings.extend(self.logger(subject, logger));
        }
        let sends = |logger: &&&str| {
            self.loggers(name.value).any(|own| {
                own.name.value.is_empty()
                    || is_within(logger, own.name.value)
                    || is_within(own.name.value, logger)
            })
        };
        let silent: Vec<&str> =
            sender.loggers.iter().filter(|logger| !sends(logger)).copied().collect();
        if !silent.is_empty() {
            let what = format!("{}: nothing is sent of {}", subject.named(), silent.join(", "));
            let hint = "add a logger element with this appender-ref for each, unless that is meant";
            findings.push(self.warning(name, what, hint));
        }
        findings
    }

    /// One logger of an appender.
    fn logger(&self, subject: &Subject<'_>, logger: &Logger<'_>) -> Vec<Finding> {
        let (at, name, kind) = (logger.name, logger.name.value, subject.kind);
        let sender = subject.sender();
        let mut findings = Vec::new();
        let others: Vec<Kind> =
            Kind::ALL.into_iter().filter(|&other| Sender::of(other).has_logger(name)).collect();
        if !others.is_empty() && !others.contains(&kind) {
            let what = format!(
                "logger `{name}` has {} events, and {} sends them as {} events",
                others[0].name(),
                subject.named(),
                kind.name()
            );
            findings.push(self.error(at, what, "refer to an appender for that kind"));
        } else if others.is_empty() && !sender.loggers.iter().any(|own| is_within(own, name)) {
            let near = nearest(name, sender.loggers.iter().copied());
            if let Some(near) = near.filter(|_| !name.is_empty()) {
                let what =
                    format!("no logger of Sense is known as `{name}`: nothing may come of it");
                findings.push(self.warning(at, what, format!("write {near}")));
            }
        }
        if !logger.additive {
            let what = format!("{} keeps its events from Sense's own log files", named(logger));
            findings.push(self.warning(at, what, r#"take out additivity="false""#));
        }
        let own = sender.threshold != Threshold::Chosen;
        let least = if own { level::Level::Info } else { level::Level::Fatal };
        let level = logger.level.and_then(|text| Some((text, level::rank(text.value)?)));
        if let Some((text, _)) = level.filter(|(_, rank)| *rank > least.rank()) {
            let what = format!(
                "{} logs nothing below level `{}`: no {} event arrives",
                named(logger),
                text.value,
                kind.name()
            );
            findings.push(self.error(text, what, "take out the level; the QMC sets it"));
        }
        findings
    }

    /// An event goes to the appenders of its logger and of all loggers above.
    fn twice(&self, subject: &Subject<'_>) -> Vec<Finding> {
        let above = |below: &Logger<'_>, above: &Logger<'_>| {
            let (below, above) = (below.name.value, above.name.value);
            below != above && (above.is_empty() || is_within(below, above))
        };
        let name = subject.appender.name.value;
        let finding = |logger: &Logger<'_>| {
            let parent =
                self.loggers(name).find(|parent| logger.additive && above(logger, parent))?;
            let what = format!(
                "{} and {} both refer to `{name}`: events of the first arrive twice",
                named(logger),
                named(parent)
            );
            Some(self.error(logger.name, what, "take out the appender-ref of one of them"))
        };
        let mut findings: Vec<Finding> = self.loggers(name).filter_map(finding).collect();
        findings.extend(self.same_events(subject));
        findings
    }

    /// Two appenders that send the same events to the same place.
    fn same_events(&self, subject: &Subject<'_>) -> Option<Finding> {
        let to = |subject: &Subject<'_>| {
            ["remoteAddress", "remotePort"]
                .map(|name| subject.param(name).map(|text| text.value.to_ascii_lowercase()))
        };
        let before = self.subjects.iter().take_while(|other| !std::ptr::eq(*other, subject));
        let other =
            before.filter(|other| other.kind == subject.kind && to(other) == to(subject)).last()?;
        let own = |logger: &&Logger<'_>| logger.has_ref(other.appender.name.value);
        let shared = self.loggers(subject.appender.name.value).find(own)?;
        let what = format!(
            "{} gives its events to `{}` and `{}`, which send them to the same place: they may arrive twice",
            named(shared),
            other.appender.name.value,
            subject.appender.name.value
        );
        Some(self.warning(shared.name, what, "take out one of them"))
    }
}

fn named(logger: &Logger<'_>) -> String {
    match logger.name.value {
        "" => "the root logger".to_owned(),
        name => format!("logger `{name}`"),
    }
}

fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let distance = |known: &str| strsim::osa_distance(&name.to_lowercase(), &known.to_lowercase());
    known
        .map(|known| (distance(known), known))
        .filter(|(far, _)| *far <= NEAR)
        .min()
        .map(|(_, known)| known)
}
