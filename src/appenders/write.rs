//! Writes the files.

use std::fmt::Write as _;

use super::conversion::{class, conversions, pattern};
use super::sender::Threshold;
use super::{FILE_NAME, Host, Level, SENSE_FOLDER, Sender, Service};
use crate::event::{Kind, Listener};

/// What the files are to say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where Ringside runs.
    pub host: Host,
    /// Ports of the user-event and the log-event listener, in the order of [`Listener`].
    pub ports: [u16; Listener::COUNT],
    /// From which level on log events are sent; user events and performance events have none.
    pub level: Level,
    /// What to send.
    pub kinds: Vec<Kind>,
}

/// A file for one service.
#[derive(Clone, Debug)]
pub struct File {
    /// Whose.
    pub service: Service,
    /// What it sends.
    pub kinds: Vec<Kind>,
    /// Its content, with the line ends of Windows, where it is going to be read.
    pub text: String,
}

/// The files of those services that have something to send.
#[must_use]
pub fn write(settings: &Settings) -> Vec<File> {
    let of = |service| {
        let mut senders: Vec<&Sender> =
            settings.kinds.iter().map(|&kind| Sender::of(kind)).collect();
        senders.retain(|sender| sender.service == service);
        senders.sort_by_key(|sender| sender.kind as usize);
        senders.dedup_by_key(|sender| sender.kind);
        senders
    };
    let files = Service::ALL.into_iter().map(|service| (service, of(service)));
    files
        .filter(|(_, senders)| !senders.is_empty())
        .map(|(service, senders)| {
            let mut text = String::new();
            // Writing to a `String` does not fail.
            let _ = file(&mut text, settings, service, &senders);
            let kinds = senders.iter().map(|sender| sender.kind).collect();
            File { service, kinds, text: text.replace('\n', "\r\n") }
        })
        .collect()
}

/// Nothing needs to be escaped: a [`Host`] holds no character that means something in XML, and the
/// rest is from tables (a test reads every file back).
fn file(
    out: &mut String,
    settings: &Settings,
    service: Service,
    senders: &[&Sender],
) -> std::fmt::Result {
    let folder = service.folder();
    writeln!(out, r#"<?xml version="1.0" encoding="utf-8"?>"#)?;
    writeln!(
        out,
        "<!-- Written by Ringside {VERSION}. Belongs on every Sense server that runs the"
    )?;
    writeln!(
        out,
        "     {} service, as {SENSE_FOLDER}\\{folder}\\{FILE_NAME} -->",
        folder.to_lowercase()
    )?;
    writeln!(out, "<configuration>")?;
    for sender in senders {
        appender(out, settings, sender)?;
    }
    let mut loggers: Vec<&str> =
        senders.iter().flat_map(|sender| sender.loggers).copied().collect();
    // All appenders of a logger stand in one element: log4net keeps only the last element's.
    let mut seen = Vec::new();
    loggers.retain(|logger| {
        !seen.contains(logger) && {
            seen.push(*logger);
            true
        }
    });
    for logger in loggers {
        writeln!(out, r#"  <logger name="{logger}">"#)?;
        for sender in senders.iter().filter(|sender| sender.loggers.contains(&logger)) {
            writeln!(out, r#"    <appender-ref ref="{}" />"#, sender.appender)?;
        }
        writeln!(out, "  </logger>")?;
    }
    writeln!(out, "</configuration>")
}

/// The order of elements is that of Sense's schema: filters, parameters, layout; in the layout
/// converters before the pattern. The services refuse a file that does not conform.
fn appender(out: &mut String, settings: &Settings, sender: &Sender) -> std::fmt::Result {
    let name = sender.appender;
    writeln!(out, r#"  <appender name="{name}" type="log4net.Appender.UdpAppender">"#)?;
    for text in sender.texts {
        writeln!(out, r#"    <filter type="log4net.Filter.StringMatchFilter">"#)?;
        param(out, 6, "stringToMatch", text)?;
        writeln!(out, "    </filter>")?;
    }
    if !sender.texts.is_empty() {
        writeln!(out, r#"    <filter type="log4net.Filter.DenyAllFilter" />"#)?;
    }
    match sender.threshold {
        Threshold::None => {}
        Threshold::Info => param(out, 4, "threshold", Level::Info.name())?,
        Threshold::Chosen => param(out, 4, "threshold", settings.level.name())?,
    }
    param(out, 4, "remoteAddress", &settings.host.to_string())?;
    let port = settings.ports[sender.kind.listener() as usize];
    param(out, 4, "remotePort", &port.to_string())?;
    param(out, 4, "encoding", "utf-8")?;
    writeln!(out, r#"    <layout type="log4net.Layout.PatternLayout">"#)?;
    for conversion in conversions(sender.kind) {
        if let Some(class) = class(conversion.name) {
            writeln!(out, "      <converter>")?;
            param(out, 8, "name", conversion.name)?;
            param(out, 8, "type", &class)?;
            writeln!(out, "      </converter>")?;
        }
    }
    param(out, 6, "conversionPattern", &pattern(sender.kind))?;
    writeln!(out, "    </layout>")?;
    writeln!(out, "  </appender>")
}

fn param(out: &mut String, indent: usize, name: &str, value: &str) -> std::fmt::Result {
    writeln!(out, r#"{:indent$}<param name="{name}" value="{value}" />"#, "")
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
