//! The seven layouts as tables: one row per column with its name, limit and check.
//!
//! Source: the UDP payload format reference of Butler SOS (8, 19, 16, 16, 18 and 26 fields), and,
//! where that says otherwise, what Butler SOS does: performance events keep their three times as
//! text, and so do `engine_ts` and `server_started` of engine events; only engine events insist on a
//! `log_row` above zero.

use super::Kind;
use super::scan::offset;

/// The largest number of columns of any layout (performance events).
pub const COLUMNS_MAX: usize = 26;

/// The highest row number that appenders give to log events; the next one is 1.
pub const ROW_MAX: u16 = 9999;

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
    /// Row number in the appender's log, 1 to [`ROW_MAX`], wrapping.
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
    /// Longest text in characters; longer text is cut. Zero for what is not kept as text.
    pub limit: usize,
    /// How it is checked.
    pub check: Check,
}

/// What to do with more fields than columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surplus {
    /// The last column takes the rest, separators included: that is its format, not a surplus.
    LastColumn,
    /// Trailing fields are ignored: no column can hold a separator.
    Ignore,
    /// Either trailing fields are new, or one of these columns holds separators; the first of them
    /// is the most likely.
    Weigh(&'static [usize]),
}

/// The columns of one kind of event.
#[derive(Debug)]
pub struct Layout {
    columns: &'static [ColumnSpec],
    pub(super) checks: Checks,
    positions: [u8; Column::ALL.len()],
    pub(super) surplus: Surplus,
}

/// Columns by what they are asked for, one bit each: no branch for each column that depends on which
/// it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checks {
    /// Longest texts in characters; no limit for what is no text.
    pub limits: [u32; LANES],
    pub texts: u32,
    pub times: u32,
    pub uuids: u32,
    /// Whole numbers.
    pub wholes: u32,
    /// Those of them that may not be zero.
    pub positive: u32,
    pub decimals: u32,
}

/// Columns that are looked at together: whole vector registers of them.
pub(super) const LANES: usize = 32;

impl Checks {
    const fn of(columns: &[ColumnSpec]) -> Self {
        let mut checks = Self {
            limits: [u32::MAX; LANES],
            texts: 0,
            times: 0,
            uuids: 0,
            wholes: 0,
            positive: 0,
            decimals: 0,
        };
        let mut index = 0;
        while index < columns.len() {
            let bit = 1 << index;
            match columns[index].check {
                Check::Source => {}
                Check::Text => {
                    checks.texts |= bit;
                    checks.limits[index] = offset(columns[index].limit);
                }
                Check::Time => checks.times |= bit,
                Check::Uuid => checks.uuids |= bit,
                Check::Int { min, .. } => {
                    assert!(min <= 1, "a number without a sign is large enough, but perhaps zero");
                    checks.wholes |= bit;
                    if min == 1 {
                        checks.positive |= bit;
                    }
                }
                Check::Float => checks.decimals |= bit,
            }
            index += 1;
        }
        checks
    }
}

/// In [`Layout::positions`]: the layout has no such column.
const ABSENT: u8 = u8::MAX;

impl Layout {
    const fn new(columns: &'static [ColumnSpec], surplus: Surplus) -> Self {
        assert!(columns.len() <= COLUMNS_MAX);
        let mut positions = [ABSENT; Column::ALL.len()];
        let mut position = 0_u8;
        while (position as usize) < columns.len() {
            positions[columns[position as usize].column as usize] = position;
            position += 1;
        }
        Self { columns, checks: Checks::of(columns), positions, surplus }
    }

    /// The rows, in the order of the datagram.
    #[must_use]
    pub fn columns(&self) -> &'static [ColumnSpec] {
        self.columns
    }

    /// Where a column stands, if this layout has it.
    #[must_use]
    pub fn position(&self, column: Column) -> Option<usize> {
        let position = self.positions[column as usize];
        (position != ABSENT).then_some(usize::from(position))
    }
}

pub(super) fn of(kind: Kind) -> &'static Layout {
    &LAYOUTS[kind as usize]
}

/// In the order of [`Kind`]'s discriminants.
static LAYOUTS: [Layout; Kind::COUNT] = [
    Layout::new(&USER, Surplus::LastColumn),
    Layout::new(&USER, Surplus::LastColumn),
    Layout::new(&ENGINE, Surplus::Weigh(&[MESSAGE])),
    Layout::new(&PROXY, Surplus::Weigh(&[MESSAGE])),
    Layout::new(&PROXY, Surplus::Weigh(&[MESSAGE])),
    Layout::new(&SCHEDULER, Surplus::Weigh(&[MESSAGE, EXCEPTION, TASK_NAME, APP_NAME])),
    Layout::new(&QIX_PERF, Surplus::Ignore),
];

/// Position of the message in the layouts of log events.
pub(super) const MESSAGE: usize = 8;
const EXCEPTION: usize = 9;
const TASK_NAME: usize = 13;
const APP_NAME: usize = 14;

const SOURCE: ColumnSpec = ColumnSpec { column: Column::Source, limit: 0, check: Check::Source };

const fn text(column: Column, limit: usize) -> ColumnSpec {
    ColumnSpec { column, limit, check: Check::Text }
}

const fn time(column: Column) -> ColumnSpec {
    ColumnSpec { column, limit: 50, check: Check::Time }
}

const fn uuid(column: Column) -> ColumnSpec {
    ColumnSpec { column, limit: 0, check: Check::Uuid }
}

const fn int(column: Column, min: i64, fallback: i64) -> ColumnSpec {
    ColumnSpec { column, limit: 0, check: Check::Int { min, fallback } }
}

const fn float(column: Column) -> ColumnSpec {
    ColumnSpec { column, limit: 0, check: Check::Float }
}

/// Any whole number will do.
const ANY: i64 = i64::MIN;

static USER: [ColumnSpec; 8] = [
    SOURCE,
    text(Column::Host, 100),
    text(Column::Command, 100),
    text(Column::UserDirectory, 100),
    text(Column::UserId, 100),
    text(Column::Origin, 200),
    text(Column::Context, 500),
    text(Column::Message, 1000),
];

static ENGINE: [ColumnSpec; 19] = [
    SOURCE,
    int(Column::LogRow, 1, -1),
    time(Column::TsIso),
    time(Column::TsLocal),
    text(Column::Level, 20),
    text(Column::Host, 100),
    text(Column::Subsystem, 200),
    text(Column::WindowsUser, 100),
    text(Column::Message, 1000),
    uuid(Column::ProxySessionId),
    text(Column::UserDirectory, 100),
    text(Column::UserId, 100),
    text(Column::EngineTs, 50),
    uuid(Column::ProcessId),
    text(Column::EngineExeVersion, 50),
    text(Column::ServerStarted, 50),
    text(Column::EntryType, 50),
    uuid(Column::SessionId),
    uuid(Column::AppId),
];

/// Also the repository's.
static PROXY: [ColumnSpec; 16] = [
    SOURCE,
    int(Column::LogRow, ANY, -1),
    time(Column::TsIso),
    time(Column::TsLocal),
    text(Column::Level, 20),
    text(Column::Host, 100),
    text(Column::Subsystem, 200),
    text(Column::WindowsUser, 100),
    text(Column::Message, 1000),
    text(Column::ExceptionMessage, 1000),
    text(Column::UserDirectory, 100),
    text(Column::UserId, 100),
    text(Column::Command, 200),
    text(Column::ResultCode, 50),
    text(Column::Origin, 200),
    text(Column::Context, 200),
];

static SCHEDULER: [ColumnSpec; 18] = [
    SOURCE,
    int(Column::LogRow, ANY, -1),
    time(Column::TsIso),
    time(Column::TsLocal),
    text(Column::Level, 20),
    text(Column::Host, 100),
    text(Column::Subsystem, 200),
    text(Column::WindowsUser, 100),
    text(Column::Message, 1000),
    text(Column::ExceptionMessage, 1000),
    text(Column::UserDirectory, 100),
    text(Column::UserId, 100),
    text(Column::UserFull, 200),
    text(Column::TaskName, 200),
    text(Column::AppName, 200),
    uuid(Column::TaskId),
    uuid(Column::AppId),
    uuid(Column::ExecutionId),
];

static QIX_PERF: [ColumnSpec; 26] = [
    SOURCE,
    int(Column::LogRow, ANY, -1),
    text(Column::TsIso, 50),
    text(Column::TsLocal, 50),
    text(Column::Level, 20),
    text(Column::Host, 100),
    text(Column::Subsystem, 200),
    text(Column::WindowsUser, 100),
    uuid(Column::ProxySessionId),
    text(Column::UserDirectory, 100),
    text(Column::UserId, 100),
    text(Column::EngineTs, 50),
    uuid(Column::SessionId),
    uuid(Column::AppId),
    int(Column::RequestId, 0, -99),
    text(Column::Method, 100),
    float(Column::ProcessTime),
    float(Column::WorkTime),
    float(Column::LockTime),
    float(Column::ValidateTime),
    float(Column::TraverseTime),
    int(Column::Handle, ANY, -99),
    text(Column::ObjectId, 100),
    int(Column::NetRam, 0, -1),
    int(Column::PeakRam, 0, -1),
    text(Column::ObjectType, 100),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_columns_of_the_payload_reference() {
        let counts = Kind::ALL.map(|kind| kind.layout().columns().len());
        assert_eq!(counts, [8, 8, 19, 16, 16, 18, 26]);
    }

    #[test]
    fn positions_agree_with_the_rows() {
        for kind in Kind::ALL {
            let layout = kind.layout();
            for &column in Column::ALL {
                let row = layout.columns().iter().position(|spec| spec.column == column);
                assert_eq!(layout.position(column), row, "{} {}", kind.name(), column.name());
            }
        }
    }

    #[test]
    fn columns_that_may_hold_separators_are_where_the_table_says() {
        let expected =
            [Column::Message, Column::ExceptionMessage, Column::TaskName, Column::AppName];
        let Surplus::Weigh(columns) = Kind::Scheduler.layout().surplus else { panic!() };
        let named: Vec<Column> =
            columns.iter().map(|&at| Kind::Scheduler.layout().columns()[at].column).collect();
        assert_eq!(named, expected);
        for kind in [Kind::Engine, Kind::Proxy, Kind::Repository] {
            assert_eq!(kind.layout().columns()[MESSAGE].column, Column::Message);
            assert_eq!(kind.layout().surplus, Surplus::Weigh(&[MESSAGE]));
        }
    }
}
