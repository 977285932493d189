//! The seven layouts as tables: one row per column with its name, limit and check.
//!
//! Source: the UDP payload format reference of Butler SOS (8, 19, 16, 16, 18 and 26 fields).

use super::Kind;

/// The largest number of columns of any layout (performance events).
pub const COLUMNS_MAX: usize = 26;

macro_rules! columns {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// A column's meaning; the same meaning has the same name in every layout.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Column { $($(#[$doc])* $variant,)+ }

        impl Column {
            /// All columns, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Name in JSON, as in the payload reference.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

columns! {
    /// The message type.
    Source = "source",
    /// Row number in the appender's log, 1 to 9999, wrapping.
    LogRow = "log_row",
    /// Time of the event, ISO 8601.
    TsIso = "ts_iso",
    /// Time of the event in the server's zone.
    TsLocal = "ts_local",
    /// `WARN`, `ERROR`, `FATAL` or `INFO`; never checked.
    Level = "level",
    /// Host name of the Sense server.
    Host = "host",
    /// Logger name.
    Subsystem = "subsystem",
    /// The Windows account of the service.
    WindowsUser = "windows_user",
    /// The log message.
    Message = "message",
    /// Exception text; empty if none.
    ExceptionMessage = "exception_message",
    /// Proxy session; `0` when no user is behind the event.
    ProxySessionId = "proxy_session_id",
    /// User directory.
    UserDirectory = "user_directory",
    /// User id.
    UserId = "user_id",
    /// Directory and id as the service wrote them.
    UserFull = "user_full",
    /// The engine's own time.
    EngineTs = "engine_ts",
    /// Engine process.
    ProcessId = "process_id",
    /// Engine version.
    EngineExeVersion = "engine_exe_version",
    /// When the server started.
    ServerStarted = "server_started",
    /// Kind of log entry.
    EntryType = "entry_type",
    /// Engine session.
    SessionId = "session_id",
    /// App.
    AppId = "app_id",
    /// Command carried out.
    Command = "command",
    /// Result code.
    ResultCode = "result_code",
    /// Origin of the event.
    Origin = "origin",
    /// Context of the event.
    Context = "context",
    /// Reload task's name.
    TaskName = "task_name",
    /// App's name as the scheduler wrote it.
    AppName = "app_name",
    /// Reload task.
    TaskId = "task_id",
    /// Execution of a task.
    ExecutionId = "execution_id",
    /// Request number.
    RequestId = "request_id",
    /// Engine method, such as `Global::OpenApp`.
    Method = "method",
    /// Milliseconds in all.
    ProcessTime = "process_time",
    /// Milliseconds of work.
    WorkTime = "work_time",
    /// Milliseconds waiting for locks.
    LockTime = "lock_time",
    /// Milliseconds of validation.
    ValidateTime = "validate_time",
    /// Milliseconds of traversal.
    TraverseTime = "traverse_time",
    /// Object handle.
    Handle = "handle",
    /// App object.
    ObjectId = "object_id",
    /// Bytes, net.
    NetRam = "net_ram",
    /// Bytes, peak.
    PeakRam = "peak_ram",
    /// Type of the app object.
    ObjectType = "object_type",
}

/// How a field's text becomes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The message type, already matched.
    Source,
    /// Any text.
    Text,
    /// A time in one of the forms of the payload reference; else empty.
    Time,
    /// A UUID; else empty.
    Uuid,
    /// A whole number of at least `min`; else `fallback`.
    Int {
        /// The smallest accepted value.
        min: i64,
        /// The value of anything else.
        fallback: i64,
    },
    /// A number.
    Float,
}

/// One row of a layout.
#[derive(Clone, Copy, Debug)]
pub struct ColumnSpec {
    /// What the column means.
    pub column: Column,
    /// Longest text in characters; longer text is cut.
    pub limit: usize,
    /// How it is checked.
    pub check: Check,
}

/// The columns of one kind of event.
#[derive(Debug)]
pub struct Layout {
    columns: &'static [ColumnSpec],
    positions: [u8; Column::ALL.len()],
}

impl Layout {
    /// The rows, in the order of the datagram.
    #[must_use]
    pub fn columns(&self) -> &'static [ColumnSpec] {
        self.columns
    }

    /// Where a column stands, if this layout has it.
    #[must_use]
    pub fn position(&self, column: Column) -> Option<usize> {
        let position = self.positions[column as usize];
        (position != u8::MAX).then_some(usize::from(position))
    }
}

pub(super) fn of(kind: Kind) -> &'static Layout {
    let _ = kind;
    todo!()
}
