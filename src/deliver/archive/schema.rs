//! What the archive keeps of an event: the columns of each kind, derived from its layout.
//!
//! Each value has an [`Item`], which has a number in staged records ([`super::record`]) and a name in
//! Parquet files. Both stay what they are: files are read for years, and records by the next version.

use std::sync::{Arc, LazyLock};

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::errors::ParquetError;
use parquet::schema::types::{Type as ParquetType, TypePtr};

use crate::event::{Check, Column, ColumnSpec, Kind, Listener};

macro_rules! extras {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// What is known beyond the columns of the datagram.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Extra { $($(#[$doc])* $variant,)+ }

        impl Extra {
            /// All of them, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

extras! {
    /// `user` or `non-user`, of performance events.
    ActivitySource = "event_activity_source",
    /// Of the user agent.
    BrowserName = "browser_name",
    /// Of the user agent.
    BrowserVersion = "browser_version",
    /// Of the user agent.
    BrowserMajorVersion = "browser_major_version",
    /// Of the user agent.
    OsName = "os_name",
    /// Of the user agent.
    OsVersion = "os_version",
    /// A JSON array of objects of `name` and `value`.
    Categories = "categories",
}

/// A value of an event, other than its kind and its receive time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A column of the datagram, or what stands for one that this kind does not have.
    Column(Column),
    /// Something else.
    Extra(Extra),
}

/// Numbers of extras begin here: there is room for columns that Qlik may add.
const EXTRAS: u8 = 64;

const _: () = assert!(Column::ALL.len() <= EXTRAS as usize);

impl Item {
    /// Numbers are below this.
    pub const END: usize = EXTRAS as usize + Extra::ALL.len();

    /// Its number in staged records.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Column(column) => column as u8,
            Self::Extra(extra) => EXTRAS + extra as u8,
        }
    }

    /// Its name in Parquet files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Column(column) => column.name(),
            Self::Extra(extra) => extra.name(),
        }
    }
}

/// The type of a column in Parquet files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// UTF-8; a UUID too, since not every reader has a type for these.
    Text,
    /// 64 bits, signed.
    Int,
    /// 64 bits, floating.
    Float,
    /// Microseconds since 1970, in UTC.
    Moment,
    /// What calendar and clock of the server showed, in microseconds since they showed 1970.
    Local,
}

impl Type {
    fn of(spec: &ColumnSpec) -> Self {
        match (spec.column, spec.check) {
            (Column::TsLocal, _) => Self::Local,
            // Of performance events, times are text to Butler SOS.
            (Column::TsIso | Column::EngineTs | Column::ServerStarted, _) => Self::Moment,
            (_, Check::Int { .. }) => Self::Int,
            (_, Check::Float) => Self::Float,
            (_, Check::Source | Check::Text | Check::Time | Check::Uuid) => Self::Text,
        }
    }

    /// As the documentation and `ringside archive schema` write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int => "int64",
            Self::Float => "double",
            Self::Moment => "timestamp, UTC",
            Self::Local => "timestamp, local",
        }
    }

    fn parquet(self, name: &str, optional: bool) -> Result<ParquetType, ParquetError> {
        let (physical, logical) = match self {
            Self::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Self::Int => (Physical::INT64, None),
            Self::Float => (Physical::DOUBLE, None),
            Self::Moment | Self::Local => {
                let utc = self == Self::Moment;
                (Physical::INT64, Some(LogicalType::timestamp(utc, TimeUnit::MICROS)))
            }
        };
        let repetition = if optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        ParquetType::primitive_type_builder(name, physical)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .build()
    }
}

/// When Ringside received the event.
pub const RECEIVED: &str = "received";
/// The same in nanoseconds since 1970: unique within a run, so that events can be told apart.
pub const RECEIVED_NS: &str = "received_ns";
/// Values that the type of their column cannot hold, as a JSON object of column and text.
pub const UNTYPED: &str = "untyped";

/// The columns of one kind: [`RECEIVED`] and [`RECEIVED_NS`], these, and [`UNTYPED`].
#[derive(Debug)]
pub struct Schema {
    /// In the order of the file.
    pub items: Vec<(Item, Type)>,
    /// The same for the Parquet library.
    pub parquet: TypePtr,
}

impl Schema {
    /// The schema of a kind.
    #[must_use]
    pub fn of(kind: Kind) -> &'static Self {
        static SCHEMAS: LazyLock<[Schema; Kind::COUNT]> = LazyLock::new(|| {
            // Names are not empty and types fit together; a test makes all of them.
            Kind::ALL.map(|kind| Schema::new(kind).expect("a valid schema"))
        });
        &SCHEMAS[kind as usize]
    }

    fn new(kind: Kind) -> Result<Self, ParquetError> {
        let columns = kind.layout().columns();
        let own = columns.iter().map(|spec| (Item::Column(spec.column), Type::of(spec)));
        let more = beyond(kind).into_iter().map(|item| (item, Type::Text));
        let items: Vec<_> = own.chain(more).collect();
        let mut fields =
            vec![Type::Moment.parquet(RECEIVED, false)?, Type::Int.parquet(RECEIVED_NS, false)?];
        for (item, kind) in &items {
            fields.push(kind.parquet(item.name(), true)?);
        }
        fields.push(Type::Text.parquet(UNTYPED, true)?);
        let fields = fields.into_iter().map(Arc::new).collect();
        let root = ParquetType::group_type_builder("event").with_fields(fields).build()?;
        Ok(Self { items, parquet: Arc::new(root) })
    }

    /// All columns with their types, in the order of the file.
    pub fn columns(&self) -> impl Iterator<Item = (&'static str, Type)> + '_ {
        let items = self.items.iter().map(|(item, kind)| (item.name(), *kind));
        let first = [(RECEIVED, Type::Moment), (RECEIVED_NS, Type::Int)];
        first.into_iter().chain(items).chain([(UNTYPED, Type::Text)])
    }
}

/// What there is besides the columns of the datagram.
fn beyond(kind: Kind) -> Vec<Item> {
    let columns: &[Column] = match kind.listener() {
        Listener::UserEvents => &[Column::UserFull, Column::AppId, Column::AppName],
        Listener::LogEvents if kind == Kind::QixPerf => &[Column::UserFull, Column::AppName],
        Listener::LogEvents => &[Column::UserFull],
    };
    let extras: &[Extra] = match kind.listener() {
        Listener::UserEvents => &[
            Extra::BrowserName,
            Extra::BrowserVersion,
            Extra::BrowserMajorVersion,
            Extra::OsName,
            Extra::OsVersion,
        ],
        Listener::LogEvents if kind == Kind::QixPerf => &[Extra::ActivitySource, Extra::Categories],
        Listener::LogEvents => &[Extra::Categories],
    };
    let missing = |column: &&Column| kind.layout().position(**column).is_none();
    let columns = columns.iter().filter(missing).map(|&column| Item::Column(column));
    columns.chain(extras.iter().map(|&extra| Item::Extra(extra))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_each_name_once() {
        for kind in Kind::ALL {
            let schema = Schema::of(kind);
            let names: Vec<&str> = schema.columns().map(|(name, _)| name).collect();
            let fields = schema.parquet.get_fields();
            let written: Vec<&str> = fields.iter().map(|field| field.name()).collect();
            assert_eq!(names, written, "{}", kind.name());
            let mut unique = names.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), names.len(), "{}", kind.name());
        }
    }

    #[test]
    fn a_column_has_one_type_in_all_kinds() {
        let mut types = std::collections::BTreeMap::new();
        for kind in Kind::ALL {
            for (name, kind) in Schema::of(kind).columns() {
                assert_eq!(*types.entry(name).or_insert(kind), kind, "{name}");
            }
        }
        assert_eq!(types["ts_iso"], Type::Moment);
        assert_eq!(types["ts_local"], Type::Local);
        assert_eq!(types["net_ram"], Type::Int);
        assert_eq!(types["process_time"], Type::Float);
        assert_eq!(types["app_id"], Type::Text);
    }

    #[test]
    fn numbers_stay_what_they_are() {
        // Records that an earlier version has staged are read by these numbers. New items go to the
        // end of their list; none is ever taken out.
        let columns = Column::ALL.iter().map(|&column| Item::Column(column));
        let items = columns.chain(Extra::ALL.iter().map(|&extra| Item::Extra(extra)));
        let text: Vec<_> = items.map(|item| format!("{}={}", item.number(), item.name())).collect();
        assert_eq!(
            text.join(" "),
            "0=source 1=log_row 2=ts_iso 3=ts_local 4=level 5=host 6=subsystem 7=windows_user \
             8=message 9=exception_message 10=proxy_session_id 11=user_directory 12=user_id \
             13=user_full 14=engine_ts 15=process_id 16=engine_exe_version 17=server_started \
             18=entry_type 19=session_id 20=app_id 21=command 22=result_code 23=origin 24=context \
             25=task_name 26=app_name 27=task_id 28=execution_id 29=request_id 30=method \
             31=process_time 32=work_time 33=lock_time 34=validate_time 35=traverse_time 36=handle \
             37=object_id 38=net_ram 39=peak_ram 40=object_type 64=event_activity_source \
             65=browser_name 66=browser_version 67=browser_major_version 68=os_name 69=os_version \
             70=categories"
        );
        assert_eq!(Kind::ALL.map(|kind| kind as u8), [0, 1, 2, 3, 4, 5, 6]);
    }
}
