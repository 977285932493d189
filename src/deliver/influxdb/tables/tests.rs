//! `docs/series.md` has what these tables have.

use std::fmt::Write as _;

use super::{FieldRow, Form, LOG_ROW_FIELD, Series, TagRow, UserAgentPart, Value, of};
use crate::deliver::influxdb::encode::InfluxVersion;
use crate::documented::assert_rest;
use crate::event::{Kind, Listener};

/// Kinds with the same table, together.
const KINDS: [&[Kind]; 5] = [
    &[Kind::ProxySession, Kind::ProxyConnection],
    &[Kind::Engine],
    &[Kind::Proxy, Kind::Repository],
    &[Kind::Scheduler],
    &[Kind::QixPerf],
];

#[test]
fn the_documentation_lists_every_series() {
    assert_eq!(KINDS.concat(), Kind::ALL);
    let mut text = String::new();
    for kinds in KINDS {
        let Series { measurement, tags, fields } = of(kinds[0]);
        let names: Vec<String> = kinds.iter().map(|kind| format!("`{}`", kind.name())).collect();
        let row = (kinds[0].listener() == Listener::LogEvents).then_some(LOG_ROW_FIELD);
        let _ = write!(
            text,
            "\n### {}\n\nMeasurement `{measurement}`.\n\n| tag | holds | when that is empty |\n|---|---|---|\n",
            names.join(" and ")
        );
        text.extend(tags.iter().map(tag));
        text.push_str("\n| field at 1 | at 2 | at 3 | type | holds |\n|---|---|---|---|---|\n");
        text.extend(fields.iter().chain(&row).map(field));
    }
    assert_rest("docs/series.md", &text);
}

fn tag(row: &TagRow) -> String {
    let empty = match row.default {
        [one, two, three] if one == two && two == three && one.is_empty() => String::new(),
        defaults => {
            let of = |(text, version): (&str, u8)| {
                let text = if text.is_empty() { "left out".into() } else { format!("`{text}`") };
                format!("{version}: {text}")
            };
            defaults.into_iter().zip(1..).map(of).collect::<Vec<_>>().join(", ")
        }
    };
    format!("| `{}` | {} | {empty} |\n", row.name, holds(row.value))
}

fn field(row: &FieldRow) -> String {
    assert_eq!(row.names.len(), InfluxVersion::COUNT);
    let names = row.names.map(|name| match name {
        "" => String::new(),
        name => format!("`{name}`"),
    });
    let form = match row.form {
        Form::Text | Form::IntegerText => "string",
        Form::OptionalText => "string, or left out",
        Form::Integer => "integer",
        Form::Float => "float",
        Form::RawEvent => "string of JSON",
    };
    let holds =
        if row.form == Form::RawEvent { "the whole event".into() } else { holds(row.value) };
    format!("| {} | {form} | {holds} |\n", names.join(" | "))
}

fn holds(value: Value) -> String {
    match value {
        Value::Column(column) => return format!("column `{}`", column.name()),
        Value::UserFull => "directory and id of the user",
        Value::ActivitySource => "`user` or `non-user`",
        Value::ContextAppId => "the app that the context names",
        Value::AppName => "the app's name",
        Value::UserAgent(UserAgentPart::BrowserName) => "browser",
        Value::UserAgent(UserAgentPart::BrowserMajorVersion) => "the browser's major version",
        Value::UserAgent(UserAgentPart::OsName) => "operating system",
        Value::UserAgent(UserAgentPart::OsVersion) => "the system's version",
        Value::Nothing => "",
    }
    .to_owned()
}
