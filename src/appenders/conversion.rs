//! What fills which column: the conversions that log4net's patterns are made of.
//!
//! One table over columns. The order of fields is not here: it is the layout's.

use std::fmt;

use crate::event::{Column, Kind, Listener, ROW_MAX};

/// A part of a pattern that log4net replaces by a value, `%name{option}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conversion {
    pub name: &'static str,
    pub option: Option<String>,
}

impl fmt::Display for Conversion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "%{}", self.name)?;
        self.option.as_ref().map_or(Ok(()), |option| write!(formatter, "{{{option}}}"))
    }
}

/// Converters of Sense, which a layout has to declare before its pattern can use them.
static CLASSES: [(&str, &str); 6] = [
    ("rownum", "CounterPatternConverter"),
    ("hostname", "HostNamePatternConverter"),
    ("longIso8601date", "Iso8601TimeOffsetPatternConverter"),
    ("user", "ServiceUserNameCachedPatternConverter"),
    ("encodedmessage", "EncodedMessagePatternConverter"),
    ("encodedexception", "EncodedExceptionPatternConverter"),
];

/// The namespace of those classes.
const NAMESPACE: &str = "Qlik.Sense.Logging.log4net.Layout.Pattern";

/// The class behind the name of a converter, if it is Sense's and not log4net's own.
pub(super) fn class(name: &str) -> Option<String> {
    let (_, class) = CLASSES.iter().find(|(known, _)| *known == name)?;
    Some(format!("{NAMESPACE}.{class}"))
}

/// What fills a column in events of a kind; `None` for the message type, which is text.
pub(super) fn conversion(kind: Kind, column: Column) -> Option<Conversion> {
    let plain = |name| Some(Conversion { name, option: None });
    let property =
        |name: &str| Some(Conversion { name: "property", option: Some(name.to_owned()) });
    // Engine and performance events are the engine's, which has other names for some properties.
    let engines = matches!(kind, Kind::Engine | Kind::QixPerf);
    match column {
        Column::Source => None,
        Column::LogRow => Some(Conversion { name: "rownum", option: Some(ROW_MAX.to_string()) }),
        Column::TsIso => plain("longIso8601date"),
        Column::TsLocal => plain("date"),
        Column::Level => plain("level"),
        Column::Host => plain("hostname"),
        Column::Subsystem => plain("logger"),
        Column::WindowsUser => plain("user"),
        Column::Message if kind.listener() == Listener::UserEvents => plain("message"),
        Column::Message => plain("encodedmessage"),
        Column::ExceptionMessage => plain("encodedexception"),
        Column::ProxySessionId => property("ProxySessionId"),
        Column::UserDirectory if engines => property("ActiveUserDirectory"),
        Column::UserDirectory => property("UserDirectory"),
        Column::UserId if engines => property("ActiveUserId"),
        Column::UserId => property("UserId"),
        Column::UserFull => property("User"),
        Column::EngineTs => property("EngineTimestamp"),
        Column::ProcessId => property("ProcessId"),
        Column::EngineExeVersion => property("Exe Version"),
        Column::ServerStarted => property("Server Started"),
        Column::EntryType => property("Entry Type"),
        Column::SessionId => property("SessionId"),
        Column::AppId if kind == Kind::QixPerf => property("DocId"),
        Column::AppId => property("AppId"),
        Column::Command => property("Command"),
        Column::ResultCode => property("Result"),
        Column::Origin => property("Origin"),
        Column::Context => property("Context"),
        Column::TaskName => property("TaskName"),
        Column::AppName => property("AppName"),
        Column::TaskId => property("TaskId"),
        Column::ExecutionId => property("ExecutionId"),
        Column::RequestId => property("RequestId"),
        Column::Method => property("Method"),
        Column::ProcessTime => property("ProcessTime"),
        Column::WorkTime => property("WorkTime"),
        Column::LockTime => property("LockTime"),
        Column::ValidateTime => property("ValidateTime"),
        Column::TraverseTime => property("TraverseTime"),
        Column::Handle => property("Handle"),
        Column::ObjectId => property("ObjectId"),
        Column::NetRam => property("NetRAM"),
        Column::PeakRam => property("PeakRAM"),
        Column::ObjectType => property("ObjectType"),
    }
}

/// The message type as it begins a datagram.
pub(super) fn message_type(kind: Kind) -> String {
    format!("/{}/", kind.name())
}

/// The fields after the message type, in the order of the layout.
pub(super) fn conversions(kind: Kind) -> impl Iterator<Item = Conversion> {
    kind.layout().columns().iter().filter_map(move |spec| conversion(kind, spec.column))
}

/// The whole pattern of a kind.
pub(super) fn pattern(kind: Kind) -> String {
    conversions(kind).fold(message_type(kind), |text, conversion| format!("{text};{conversion}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The patterns that Butler SOS's files have: Ringside's are a drop-in for them.
    #[test]
    fn patterns_are_those_that_sense_servers_have_today() {
        let proxy = "%rownum{9999};%longIso8601date;%date;%level;%hostname;%logger;%user;\
                     %encodedmessage;%encodedexception;%property{UserDirectory};%property{UserId};\
                     %property{Command};%property{Result};%property{Origin};%property{Context}";
        let user = "%hostname;%property{Command};%property{UserDirectory};%property{UserId};\
                    %property{Origin};%property{Context};%message";
        let engine = "%rownum{9999};%longIso8601date;%date;%level;%hostname;%logger;%user;\
                      %encodedmessage;%property{ProxySessionId};%property{ActiveUserDirectory};\
                      %property{ActiveUserId};%property{EngineTimestamp};%property{ProcessId};\
                      %property{Exe Version};%property{Server Started};%property{Entry Type};\
                      %property{SessionId};%property{AppId}";
        let scheduler = "%rownum{9999};%longIso8601date;%date;%level;%hostname;%logger;%user;\
                         %encodedmessage;%encodedexception;%property{UserDirectory};\
                         %property{UserId};%property{User};%property{TaskName};%property{AppName};\
                         %property{TaskId};%property{AppId};%property{ExecutionId}";
        let performance = "%rownum{9999};%longIso8601date;%date;%level;%hostname;%logger;%user;\
                           %property{ProxySessionId};%property{ActiveUserDirectory};\
                           %property{ActiveUserId};%property{EngineTimestamp};\
                           %property{SessionId};%property{DocId};%property{RequestId};\
                           %property{Method};%property{ProcessTime};%property{WorkTime};\
                           %property{LockTime};%property{ValidateTime};%property{TraverseTime};\
                           %property{Handle};%property{ObjectId};%property{NetRAM};\
                           %property{PeakRAM};%property{ObjectType}";
        for (kind, fields) in [
            (Kind::ProxySession, user),
            (Kind::ProxyConnection, user),
            (Kind::Engine, engine),
            (Kind::Proxy, proxy),
            (Kind::Repository, proxy),
            (Kind::Scheduler, scheduler),
            (Kind::QixPerf, performance),
        ] {
            assert_eq!(pattern(kind), format!("/{}/;{fields}", kind.name()));
        }
    }
}
