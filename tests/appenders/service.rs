//! What Sense services log, kind by kind: the properties that they set, and what each column of
//! the payload reference should hold because of it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringside::event::{Column, Kind};

use super::log4net::Logged;

/// An event as a service logs it, and the text that should arrive in each column.
#[derive(Clone, Debug)]
pub struct Case {
    pub kind: Kind,
    pub logged: Logged,
    pub arrives: BTreeMap<&'static str, String>,
}

/// Property and column; both from the payload reference and the files in use today.
type Names = &'static [(&'static str, Column)];

const USER: Names = &[
    ("Command", Column::Command),
    ("UserDirectory", Column::UserDirectory),
    ("UserId", Column::UserId),
    ("Origin", Column::Origin),
    ("Context", Column::Context),
];
const ENGINE: Names = &[
    ("ProxySessionId", Column::ProxySessionId),
    ("ActiveUserDirectory", Column::UserDirectory),
    ("ActiveUserId", Column::UserId),
    ("EngineTimestamp", Column::EngineTs),
    ("ProcessId", Column::ProcessId),
    ("Exe Version", Column::EngineExeVersion),
    ("Server Started", Column::ServerStarted),
    ("Entry Type", Column::EntryType),
    ("SessionId", Column::SessionId),
    ("AppId", Column::AppId),
];
const PROXY: Names = &[
    ("UserDirectory", Column::UserDirectory),
    ("UserId", Column::UserId),
    ("Command", Column::Command),
    ("Result", Column::ResultCode),
    ("Origin", Column::Origin),
    ("Context", Column::Context),
];
const SCHEDULER: Names = &[
    ("UserDirectory", Column::UserDirectory),
    ("UserId", Column::UserId),
    ("User", Column::UserFull),
    ("TaskName", Column::TaskName),
    ("AppName", Column::AppName),
    ("TaskId", Column::TaskId),
    ("AppId", Column::AppId),
    ("ExecutionId", Column::ExecutionId),
];
const PERFORMANCE: Names = &[
    ("ProxySessionId", Column::ProxySessionId),
    ("ActiveUserDirectory", Column::UserDirectory),
    ("ActiveUserId", Column::UserId),
    ("EngineTimestamp", Column::EngineTs),
    ("SessionId", Column::SessionId),
    ("DocId", Column::AppId),
    ("RequestId", Column::RequestId),
    ("Method", Column::Method),
    ("ProcessTime", Column::ProcessTime),
    ("WorkTime", Column::WorkTime),
    ("LockTime", Column::LockTime),
    ("ValidateTime", Column::ValidateTime),
    ("TraverseTime", Column::TraverseTime),
    ("Handle", Column::Handle),
    ("ObjectId", Column::ObjectId),
    ("NetRAM", Column::NetRam),
    ("PeakRAM", Column::PeakRam),
    ("ObjectType", Column::ObjectType),
];

/// The service's file, a logger, a level, words that its messages hold, and the properties.
fn of(kind: Kind) -> (&'static str, &'static str, &'static str, &'static str, Names) {
    match kind {
        Kind::ProxySession => {
            ("Proxy", "AuditActivity.Proxy.X", "INFO", "Stop session for user", USER)
        }
        Kind::ProxyConnection => {
            ("Proxy", "AuditActivity.Proxy", "INFO", "connection Opened for session", USER)
        }
        Kind::Engine => ("Engine", "System.Engine.Engine", "WARN", "", ENGINE),
        Kind::Proxy => ("Proxy", "Audit.Proxy.Proxy.Core", "ERROR", "", PROXY),
        Kind::Repository => ("Repository", "System.Repository.Core", "FATAL", "", PROXY),
        Kind::Scheduler => ("Scheduler", "Service", "WARN", "", SCHEDULER),
        Kind::QixPerf => ("Engine", "QixPerformance.Engine.Engine", "INFO", "", PERFORMANCE),
    }
}

/// The folder of the file that sends a kind.
pub fn folder(kind: Kind) -> &'static str {
    of(kind).0
}

/// What people and programs put into names and messages.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9 ._-]{0,20}",
        1 => "[^;]{0,20}".prop_map(|text: String| text.replace(';', "")),
        1 => Just("å, é; 'quoted' \"twice\" \\ %property{UserId} {0} </x> \u{1F600}".replace(';', "")),
        1 => Just("line\r\nanother\tline\u{0}".to_owned()),
        1 => "[a-z]{900,1100}",
    ]
}

/// Messages hold separators too.
fn message() -> impl Strategy<Value = String> {
    proptest::collection::vec(text(), 1..5).prop_map(|parts| parts.join(";"))
}

fn uuid() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u128>().prop_map(|id| uuid::Uuid::from_u128(id).to_string()),
        any::<u128>().prop_map(|id| uuid::Uuid::from_u128(id).to_string().to_uppercase()),
    ]
}

/// A value of a property; `None` if the service did not set it.
fn value(column: Column) -> BoxedStrategy<Option<String>> {
    let set = match column {
        Column::ProxySessionId
        | Column::ProcessId
        | Column::SessionId
        | Column::AppId
        | Column::TaskId
        | Column::ExecutionId => uuid().boxed(),
        Column::UserFull => "[A-Z]{1,8}\\\\[a-z]{1,8}".boxed(),
        Column::RequestId | Column::Handle | Column::NetRam | Column::PeakRam => {
            (0_i64..1_000_000_000_000).prop_map(|number| number.to_string()).boxed()
        }
        Column::ProcessTime
        | Column::WorkTime
        | Column::LockTime
        | Column::ValidateTime
        | Column::TraverseTime => {
            (0_u32..10_000_000).prop_map(|number| (f64::from(number) / 1000.0).to_string()).boxed()
        }
        _ => text().boxed(),
    };
    proptest::option::weighted(0.9, set).boxed()
}

/// Events of a kind.
pub fn cases(kind: Kind) -> impl Strategy<Value = Case> {
    let (_, logger, level, words, names) = of(kind);
    let values: Vec<_> = names.iter().map(|(_, column)| value(*column)).collect();
    (values, message(), text(), text(), text(), 1_u16..=9999).prop_map(
        move |(values, message, exception, host, account, row)| {
            let set = names.iter().zip(values).filter_map(|(name, value)| Some((*name, value?)));
            let set: Vec<_> = set.collect();
            let message = format!("{message}{words}{message}");
            let mut logged = Logged {
                logger: logger.to_owned(),
                level,
                message,
                exception,
                properties: set.iter().map(|((name, _), value)| (*name, value.clone())).collect(),
                row,
                iso: "20211109T153726.028+0200".to_owned(),
                local: "2021-11-09 15:37:26,028".to_owned(),
                host,
                account,
            };
            if kind == Kind::Engine {
                logged.exception.clear(); // The engine has none.
            }
            let arrives = arrives(kind, &logged, names, &set);
            Case { kind, logged, arrives }
        },
    )
}

fn arrives(
    kind: Kind,
    logged: &Logged,
    names: Names,
    set: &[((&'static str, Column), String)],
) -> BTreeMap<&'static str, String> {
    let mut arrives = BTreeMap::new();
    for (_, column) in names {
        arrives.insert(column.name(), "(null)".to_owned());
    }
    for ((_, column), value) in set {
        arrives.insert(column.name(), value.clone());
    }
    arrives.insert("source", format!("/{}/", kind.name()));
    arrives.insert("host", logged.host.clone());
    if kind != Kind::QixPerf {
        arrives.insert("message", logged.message.clone());
    }
    if matches!(kind, Kind::ProxySession | Kind::ProxyConnection) {
        return arrives;
    }
    arrives.insert("log_row", logged.row.to_string());
    arrives.insert("ts_iso", logged.iso.clone());
    arrives.insert("ts_local", logged.local.clone());
    arrives.insert("level", logged.level.to_owned());
    arrives.insert("subsystem", logged.logger.clone());
    arrives.insert("windows_user", logged.account.clone());
    if matches!(kind, Kind::Proxy | Kind::Repository | Kind::Scheduler) {
        arrives.insert("exception_message", logged.exception.clone());
    }
    arrives
}
