//! Whether an appender sends, where to, and which of the events.

use super::super::conversion::{class, conversions};
use super::super::document::{Configuration, Filter, Text, is_class, param};
use super::super::finding::Finding;
use super::super::level::{self, Level};
use super::super::pattern::Part;
use super::super::sender::{Sender, Threshold};
use super::super::{Host, HostError};
use super::{Expected, Subject};
use crate::event::{Kind, Listener};

pub(super) const UDP_APPENDER: &str = "log4net.Appender.UdpAppender";
const PATTERN_LAYOUT: &str = "log4net.Layout.PatternLayout";
const STRING_MATCH: &str = "log4net.Filter.StringMatchFilter";
const DENY_ALL: &str = "log4net.Filter.DenyAllFilter";

pub(super) fn check(
    subject: &Subject<'_>,
    configuration: &Configuration<'_>,
    expected: &Expected,
) -> Vec<Finding> {
    let target = Target { subject, configuration, expected };
    let mut findings = target.classes();
    findings.extend(target.converters());
    findings.extend(target.address());
    findings.extend(target.port());
    findings.extend(target.encoding());
    findings.extend(target.threshold());
    findings.extend(target.filters());
    findings
}

/// If the host is known, something should go there. Appenders for others, such as a Butler SOS that
/// runs beside, are welcome in the same file.
pub(super) fn check_hosts(
    subjects: &[Subject<'_>],
    configuration: &Configuration<'_>,
    expected: &Expected,
) -> Vec<Finding> {
    let Some(host) = expected.host.as_ref().map(Host::to_string) else { return Vec::new() };
    let goes_there = |subject: &&Subject<'_>| {
        subject.param("remoteAddress").is_some_and(|to| to.value.eq_ignore_ascii_case(&host))
    };
    let elsewhere = subjects.iter().filter(|subject| {
        let same = |other: &&Subject<'_>| other.kind == subject.kind && goes_there(other);
        !goes_there(subject) && !subjects.iter().any(|other| same(&other))
    });
    let finding = |subject: &Subject<'_>| {
        let to = subject.param("remoteAddress")?;
        to.value.parse::<Host>().ok()?;
        let kind = subject.kind.name();
        let what = format!(
            "{}: it sends to {}, and no appender sends {kind} events to {host}",
            subject.named(),
            to.value
        );
        let hint = format!("write {host}, or add an appender if both are to get the events");
        Some(Finding::error(configuration.place_in(to, 0), what, hint))
    };
    elsewhere.filter_map(finding).collect()
}

struct Target<'a> {
    subject: &'a Subject<'a>,
    configuration: &'a Configuration<'a>,
    expected: &'a Expected,
}

impl Target<'_> {
    fn error(&self, at: Text<'_>, what: &str, hint: impl Into<String>) -> Finding {
        let place = self.configuration.place_in(at, 0);
        Finding::error(place, format!("{}: {what}", self.subject.named()), hint)
    }

    fn warning(&self, at: Text<'_>, what: &str, hint: impl Into<String>) -> Finding {
        let place = self.configuration.place_in(at, 0);
        Finding::warning(place, format!("{}: {what}", self.subject.named()), hint)
    }

    fn classes(&self) -> Vec<Finding> {
        let appender = self.subject.appender;
        let mut findings = Vec::new();
        if !is_class(appender.class.value, UDP_APPENDER) {
            let what = format!("its type is `{}`, which sends no datagrams", appender.class.value);
            let hint = format!(r#"write type="{UDP_APPENDER}""#);
            findings.push(self.error(appender.class, &what, hint));
        }
        if let Some(layout) = &appender.layout
            && !is_class(layout.class.value, PATTERN_LAYOUT)
        {
            let what =
                format!("its layout is `{}`, which does not use the pattern", layout.class.value);
            let hint = format!(r#"write type="{PATTERN_LAYOUT}""#);
            findings.push(self.error(layout.class, &what, hint));
        }
        findings
    }

    /// Converters that the pattern uses and that are made by another class than Sense's.
    fn converters(&self) -> Vec<Finding> {
        let Some(layout) = &self.subject.appender.layout else { return Vec::new() };
        let used = |name: &str| {
            let parts = self.subject.fields.iter().flat_map(|field| &field.parts);
            parts.clone().any(|part| matches!(part, Part::Value(value) if value.name == name))
                && conversions(self.subject.kind).any(|conversion| conversion.name == name)
        };
        let finding = |(name, given): &(Text<'_>, Text<'_>)| {
            let right = class(name.value).filter(|right| !is_class(given.value, right))?;
            used(name.value).then(|| {
                let what = format!(
                    "converter `{}` is of class `{}`; if Sense has no such class the appender does \
                     not start, and else something else arrives",
                    name.value, given.value
                );
                self.error(*given, &what, format!("write {right}"))
            })
        };
        layout.converters.iter().filter_map(finding).collect()
    }

    fn address(&self) -> Option<Finding> {
        let Some(address) = self.subject.param("remoteAddress") else {
            let what = "it has no remoteAddress: the appender does not start and nothing arrives";
            let hint =
                r#"add <param name="remoteAddress" value="HOST" /> with the host of Ringside"#;
            return Some(self.error(self.subject.appender.name, what, hint));
        };
        match address.value.parse::<Host>() {
            Ok(host) if host.is_loopback() => {
                let what = "datagrams to this host stay on the Sense server itself";
                Some(self.warning(address, what, "right only if Ringside runs there too"))
            }
            Ok(_) => None,
            Err(error) => {
                let what = format!(
                    "cannot send to `{}`: {}; the appender does not start and nothing arrives",
                    address.value.escape_debug(),
                    reason(error)
                );
                Some(self.error(
                    address,
                    &what,
                    "write the host name or the IP address of Ringside",
                ))
            }
        }
    }

    fn port(&self) -> Option<Finding> {
        let listener = self.subject.kind.listener();
        let own = self.expected.ports[listener as usize];
        let Some(port) = self.subject.param("remotePort") else {
            let what = "it has no remotePort: nothing arrives";
            let hint = format!(r#"add <param name="remotePort" value="{own}" />"#);
            return Some(self.error(self.subject.appender.name, what, hint));
        };
        let number = port.value.trim().parse::<u16>().ok().filter(|&number| number > 0);
        let hint = format!("write {own}");
        let Some(number) = number else {
            let what = format!("`{}` is not a port: nothing arrives", port.value.escape_debug());
            return Some(self.error(port, &what, hint));
        };
        let other = Listener::ALL.into_iter().find(|&other| {
            other != listener && self.expected.ports[other as usize] == number && own != number
        });
        if let Some(other) = other {
            let what = format!(
                "port {number} is that of {}: every datagram would be rejected as `unknown_type`",
                events(other)
            );
            return Some(self.error(port, &what, hint));
        }
        let what = format!("{} go to port {own}, this is {number}", events(listener));
        match (number == own, self.expected.ports_known[listener as usize]) {
            (true, _) => None,
            (false, true) => Some(self.error(port, &format!("{what}: nothing arrives"), hint)),
            (false, false) => {
                let hint = format!("right only if Ringside's configuration has port {number} too");
                Some(self.warning(port, &what, hint))
            }
        }
    }

    /// Datagrams are read as UTF-8.
    fn encoding(&self) -> Option<Finding> {
        let hint = r#"write <param name="encoding" value="utf-8" />"#;
        let Some(encoding) = self.subject.param("encoding") else {
            let what = "it has no encoding: letters such as å or é arrive as \u{FFFD}, because the \
                        default is the code page of the Sense server";
            return Some(self.error(self.subject.appender.name, what, hint));
        };
        let name = encoding.value.to_ascii_lowercase();
        let what = match name.as_str() {
            "utf-8" => return None,
            "utf8" => "Windows knows no encoding `utf8`: the appender does not start",
            "utf-16" | "utf-16be" | "utf-16le" | "unicode" | "unicodefffe" | "utf-32" => {
                "every datagram would be rejected as `malformed`: it is not UTF-8"
            }
            _ => "letters such as å or é arrive as \u{FFFD}: Ringside reads UTF-8",
        };
        Some(self.error(encoding, what, hint))
    }

    fn threshold(&self) -> Option<Finding> {
        let (kind, sender) = (self.subject.kind, self.subject.sender());
        let most = match sender.threshold {
            Threshold::None | Threshold::Info => Level::Info,
            Threshold::Chosen => Level::Fatal,
        };
        let chosen = sender.threshold == Threshold::Chosen;
        let Some(threshold) = self.subject.param("threshold") else {
            let what =
                "it has no threshold: whatever level the service logs at is sent, down to debug";
            return chosen.then(|| {
                let hint = r#"add <param name="threshold" value="warn" />"#;
                self.warning(self.subject.appender.name, what, hint)
            });
        };
        let Some(rank) = level::rank(threshold.value) else {
            let what = format!(
                "log4net knows no level `{}` and holds nothing back: everything is sent, down to debug",
                threshold.value.escape_debug()
            );
            return Some(self.error(threshold, &what, "write info, warn, error or fatal"));
        };
        if rank > most.rank() {
            let logged =
                if chosen { "no event has such a level" } else { "Sense logs them as INFO" };
            let what = format!(
                "no {} event passes the threshold `{}`: {logged}",
                kind.name(),
                threshold.value
            );
            return Some(self.error(threshold, &what, format!("write {}", most.name())));
        }
        (chosen && rank < Level::Warn.rank()).then(|| {
            let what = format!(
                "the threshold `{}` sends far more than warnings and errors",
                threshold.value
            );
            self.warning(threshold, &what, "write warn, unless that is meant")
        })
    }

    fn filters(&self) -> Option<Finding> {
        let filters = &self.subject.appender.filters;
        let sender = self.subject.sender();
        let at = filters.first().map_or(self.subject.appender.name, |filter| filter.class);
        if sender.texts.is_empty() {
            let selects =
                filters.iter().take_while(|filter| !is_class(filter.class.value, DENY_ALL));
            let nothing = passes(filters, "any message") == Some(false) && selects.count() == 0;
            let hint = "take out the DenyAllFilter, or put a filter that accepts in front of it";
            return nothing.then(|| self.error(at, "its filters let nothing pass", hint));
        }
        let missing = sender.texts.iter().find(|text| passes(filters, text) == Some(false));
        if let Some(text) = missing {
            let what = format!("its filters hold back messages with `{text}`: they never arrive");
            let hint = format!(
                r#"accept them: <filter type="{STRING_MATCH}"><param name="stringToMatch" value="{text}" /></filter>, in front of the DenyAllFilter"#
            );
            return Some(self.error(at, &what, hint));
        }
        let others = Kind::ALL.into_iter().filter(|&kind| kind != self.subject.kind);
        let mut foreign =
            others.flat_map(|kind| Sender::of(kind).texts).copied().chain(["any message"]);
        let passing = foreign.find(|text| passes(filters, text) == Some(true))?;
        let what = format!(
            "its filters let other messages pass (`{passing}`): they would arrive as {} events",
            self.subject.kind.name()
        );
        let hint = format!(
            r#"accept only what is wanted ({}) and end with <filter type="{DENY_ALL}" />"#,
            sender.texts.join(", ")
        );
        Some(self.error(at, &what, hint))
    }
}

fn events(listener: Listener) -> &'static str {
    match listener {
        Listener::UserEvents => "user events",
        Listener::LogEvents => "log events",
    }
}

fn reason(error: HostError) -> &'static str {
    match error {
        HostError::Neither => "it is neither an IP address nor a host name",
        HostError::Unspecified => "it stands for every address of a host that listens",
    }
}

/// Whether a chain of filters lets a message pass; `None` if that depends on more than the message.
fn passes(filters: &[Filter<'_>], message: &str) -> Option<bool> {
    for filter in filters {
        if is_class(filter.class.value, DENY_ALL) {
            return Some(false);
        }
        if !is_class(filter.class.value, STRING_MATCH)
            || param(&filter.params, "regexToMatch").is_some()
        {
            return None;
        }
        let text = param(&filter.params, "stringToMatch").map_or("", |text| text.value);
        if !text.is_empty() && message.contains(text) {
            let accepts = param(&filter.params, "acceptOnMatch");
            return Some(
                accepts.is_none_or(|text| !text.value.trim().eq_ignore_ascii_case("false")),
            );
        }
    }
    Some(true)
}
