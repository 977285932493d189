//! The series as tables: which tags and fields each kind of event has in each version of InfluxDB.
//!
//! Names, types and defaults are those of Butler SOS, so that existing databases, dashboards and
//! alerts go on working. Its three writers differ in places; the differences are the arrays of three
//! in these tables, one entry per version.

#[cfg(test)]
mod tests;

use super::encode::InfluxVersion;
use crate::event::{Column, Kind};

/// Where a tag or field gets its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A column of the event; empty when its kind has no such column.
    Column(Column),
    /// Directory and id of the user as `DIR\id`.
    UserFull,
    /// Whether a user is behind a performance event.
    ActivitySource,
    /// The app that the context of a user event names.
    ContextAppId,
    /// The name of the app that the event is about.
    AppName,
    /// A part of what the user agent says.
    UserAgent(UserAgentPart),
    /// Nothing: always the tag's default.
    Nothing,
}

/// What is written of a user agent. Each part may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserAgentPart {
    BrowserName,
    BrowserMajorVersion,
    OsName,
    OsVersion,
}

impl UserAgentPart {
    /// All parts, in the order of their discriminants.
    pub(super) const ALL: [Self; 4] =
        [Self::BrowserName, Self::BrowserMajorVersion, Self::OsName, Self::OsVersion];
    /// Number of parts.
    pub(super) const COUNT: usize = Self::ALL.len();
}

/// One tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct TagRow {
    pub(super) name: &'static str,
    pub(super) value: Value,
    /// What stands for an empty value, per version. An empty default leaves the tag out
    /// (difference 9).
    pub(super) default: [&'static str; InfluxVersion::COUNT],
    /// Whether version 3 gets the value without `<`, `>` and `\`.
    pub(super) stripped: bool,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldRow {
    /// Its name per version; empty where the version does not have it.
    pub(super) names: [&'static str; InfluxVersion::COUNT],
    pub(super) value: Value,
    pub(super) form: Form,
}

/// How a field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A string.
    Text,
    /// A string; left out when it is empty.
    OptionalText,
    /// An integer; left out when it is too large (difference 26).
    Integer,
    /// A float; left out when it is not finite (differences 6 and 26).
    Float,
    /// An integer as a string, 0 as the empty one.
    IntegerText,
    /// The whole event as JSON.
    RawEvent,
}

impl Form {
    /// What ends the field, with the comma before the next.
    pub(super) const fn end(self) -> &'static [u8] {
        match self {
            Self::Integer => b"i,",
            Self::Float => b",",
            Self::RawEvent => b"}\",",
            Self::Text | Self::OptionalText | Self::IntegerText => b"\",",
        }
    }
}

/// The series of one kind.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) measurement: &'static str,
    pub(super) tags: &'static [TagRow],
    pub(super) fields: &'static [FieldRow],
}

/// The table of one kind.
pub(super) const fn of(kind: Kind) -> Series {
    let (measurement, tags, fields): (_, &[TagRow], &[FieldRow]) = match kind {
        Kind::ProxySession | Kind::ProxyConnection => ("user_events", &USER_TAGS, &USER_FIELDS),
        Kind::Engine => ("log_event", &ENGINE_TAGS, &ENGINE_FIELDS),
        Kind::Proxy | Kind::Repository => ("log_event", &PROXY_TAGS, &PROXY_FIELDS),
        Kind::Scheduler => ("log_event", &SCHEDULER_TAGS, &SCHEDULER_FIELDS),
        Kind::QixPerf => ("log_event", &QIX_TAGS, &QIX_FIELDS),
    };
    Series { measurement, tags, fields }
}

/// The row number as a tag, where the operator wants it back (difference 13). Butler SOS's version 1
/// asks a number for its length and so always writes -1 for performance events.
pub(super) const fn log_row_tag(version: InfluxVersion, kind: Kind) -> TagRow {
    match (kind, version) {
        (Kind::QixPerf, InfluxVersion::V1) => or(tag("log_row", Value::Nothing), ["-1", "", ""]),
        (Kind::QixPerf, _) => or(column("log_row", Column::LogRow), ["", "", "-1"]),
        _ => column("log_row", Column::LogRow),
    }
}

/// The row number as a field (difference 13). Not called `log_row`, because InfluxDB 3 refuses a
/// field with the name of a tag, and existing tables have that tag.
pub(super) const LOG_ROW_FIELD: FieldRow = integer("log_row_field", Column::LogRow);

const UNKNOWN: [&str; 3] = ["<Unknown>", "", "Unknown"];
const MINUS_ONE: [&str; 3] = ["-1", "", "-1"];
const NOT_AVAILABLE: [&str; 3] = ["", "", "n/a"];

const USER_TAGS: [TagRow; 12] = [
    stripped("appId", Value::ContextAppId),
    stripped("appName", Value::AppName),
    stripped("event_action", Value::Column(Column::Command)),
    stripped("host", Value::Column(Column::Host)),
    stripped("origin", Value::Column(Column::Origin)),
    stripped("uaBrowserMajorVersion", Value::UserAgent(UserAgentPart::BrowserMajorVersion)),
    stripped("uaBrowserName", Value::UserAgent(UserAgentPart::BrowserName)),
    stripped("uaOsName", Value::UserAgent(UserAgentPart::OsName)),
    stripped("uaOsVersion", Value::UserAgent(UserAgentPart::OsVersion)),
    stripped("userDirectory", Value::Column(Column::UserDirectory)),
    tag("userFull", Value::UserFull),
    stripped("userId", Value::Column(Column::UserId)),
];

const USER_FIELDS: [FieldRow; 4] = [
    FieldRow {
        names: ["appId", "appId_field", "appId_field"],
        value: Value::ContextAppId,
        form: Form::OptionalText,
    },
    FieldRow {
        names: ["appName", "appName_field", "appName_field"],
        value: Value::AppName,
        form: Form::OptionalText,
    },
    text(["userFull", "userFull", "userFull_field"], Value::UserFull),
    text(["userId", "userId", "userId_field"], Value::Column(Column::UserId)),
];

const HOST: TagRow = column("host", Column::Host);
const LEVEL: TagRow = column("level", Column::Level);
const SOURCE: TagRow = column("source", Column::Source);
const SUBSYSTEM: TagRow = or(column("subsystem", Column::Subsystem), NOT_AVAILABLE);
const USER_DIRECTORY: TagRow = stripped("user_directory", Value::Column(Column::UserDirectory));
const USER_FULL: TagRow = tag("user_full", Value::UserFull);
const USER_ID: TagRow = stripped("user_id", Value::Column(Column::UserId));
const APP_ID: TagRow = stripped("app_id", Value::Column(Column::AppId));

const MESSAGE: FieldRow = column_text(["message"; 3], Column::Message);
const EXCEPTION_MESSAGE: FieldRow = column_text(["exception_message"; 3], Column::ExceptionMessage);
const RAW_EVENT: FieldRow =
    FieldRow { names: ["raw_event"; 3], value: Value::Nothing, form: Form::RawEvent };

const ENGINE_TAGS: [TagRow; 10] = [
    APP_ID,
    stripped("engine_exe_version", Value::Column(Column::EngineExeVersion)),
    HOST,
    LEVEL,
    SOURCE,
    SUBSYSTEM,
    USER_DIRECTORY,
    USER_FULL,
    USER_ID,
    stripped("windows_user", Value::Column(Column::WindowsUser)),
];

/// Engine events have no exception, command, result, origin and context: versions 2 and 3 write them
/// empty.
const ENGINE_FIELDS: [FieldRow; 8] = [
    column_text(["", "command", "command"], Column::Command),
    column_text(["", "context", "context"], Column::Context),
    column_text(["", "exception_message", "exception_message"], Column::ExceptionMessage),
    MESSAGE,
    column_text(["", "origin", "origin"], Column::Origin),
    RAW_EVENT,
    column_text(["", "result_code_field", "result_code_field"], Column::ResultCode),
    column_text(["session_id"; 3], Column::SessionId),
];

const PROXY_TAGS: [TagRow; 8] = [
    HOST,
    LEVEL,
    stripped("result_code", Value::Column(Column::ResultCode)),
    SOURCE,
    SUBSYSTEM,
    USER_DIRECTORY,
    USER_FULL,
    USER_ID,
];

const PROXY_FIELDS: [FieldRow; 7] = [
    column_text(["command"; 3], Column::Command),
    column_text(["context"; 3], Column::Context),
    EXCEPTION_MESSAGE,
    MESSAGE,
    column_text(["origin"; 3], Column::Origin),
    RAW_EVENT,
    column_text(["result_code", "result_code_field", "result_code_field"], Column::ResultCode),
];

const SCHEDULER_TAGS: [TagRow; 9] = [
    HOST,
    LEVEL,
    SOURCE,
    SUBSYSTEM,
    stripped("task_id", Value::Column(Column::TaskId)),
    stripped("task_name", Value::Column(Column::TaskName)),
    USER_DIRECTORY,
    USER_FULL,
    USER_ID,
];

const SCHEDULER_FIELDS: [FieldRow; 6] = [
    column_text(["app_id", "app_id", "app_id_field"], Column::AppId),
    column_text(["app_name", "app_name", "app_name_field"], Column::AppName),
    EXCEPTION_MESSAGE,
    column_text(["execution_id"; 3], Column::ExecutionId),
    MESSAGE,
    RAW_EVENT,
];

const QIX_TAGS: [TagRow; 15] = [
    APP_ID,
    stripped("app_name", Value::AppName),
    stripped("event_activity_source", Value::ActivitySource),
    or(stripped("host", Value::Column(Column::Host)), UNKNOWN),
    or(stripped("level", Value::Column(Column::Level)), UNKNOWN),
    or(stripped("method", Value::Column(Column::Method)), UNKNOWN),
    stripped("object_id", Value::Column(Column::ObjectId)),
    or(stripped("object_type", Value::Column(Column::ObjectType)), UNKNOWN),
    or(stripped("proxy_session_id", Value::Column(Column::ProxySessionId)), MINUS_ONE),
    or(stripped("session_id", Value::Column(Column::SessionId)), MINUS_ONE),
    SOURCE,
    or(stripped("subsystem", Value::Column(Column::Subsystem)), UNKNOWN),
    USER_DIRECTORY,
    USER_FULL,
    USER_ID,
];

const QIX_FIELDS: [FieldRow; 11] = [
    column_text(["app_id", "app_id", "app_id_field"], Column::AppId),
    FieldRow {
        names: ["handle", "", "handle"],
        value: Value::Column(Column::Handle),
        form: Form::Integer,
    },
    FieldRow {
        names: ["", "handle", ""],
        value: Value::Column(Column::Handle),
        form: Form::IntegerText,
    },
    float("lock_time", Column::LockTime),
    integer("net_ram", Column::NetRam),
    integer("peak_ram", Column::PeakRam),
    float("process_time", Column::ProcessTime),
    RAW_EVENT,
    float("traverse_time", Column::TraverseTime),
    float("validate_time", Column::ValidateTime),
    float("work_time", Column::WorkTime),
];

const fn tag(name: &'static str, value: Value) -> TagRow {
    TagRow { name, value, default: [""; InfluxVersion::COUNT], stripped: false }
}

const fn column(name: &'static str, column: Column) -> TagRow {
    tag(name, Value::Column(column))
}

const fn stripped(name: &'static str, value: Value) -> TagRow {
    TagRow { stripped: true, ..tag(name, value) }
}

const fn or(row: TagRow, default: [&'static str; InfluxVersion::COUNT]) -> TagRow {
    TagRow { default, ..row }
}

const fn text(names: [&'static str; InfluxVersion::COUNT], value: Value) -> FieldRow {
    FieldRow { names, value, form: Form::Text }
}

const fn column_text(names: [&'static str; InfluxVersion::COUNT], column: Column) -> FieldRow {
    text(names, Value::Column(column))
}

const fn integer(name: &'static str, column: Column) -> FieldRow {
    FieldRow {
        names: [name; InfluxVersion::COUNT],
        value: Value::Column(column),
        form: Form::Integer,
    }
}

const fn float(name: &'static str, column: Column) -> FieldRow {
    FieldRow {
        names: [name; InfluxVersion::COUNT],
        value: Value::Column(column),
        form: Form::Float,
    }
}
