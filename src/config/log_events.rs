//! `logEvents`: lines of the Sense services' logs, and the engine's performance events.

use super::{
    monitor_filter::MonitorFilter,
    setting::{Filled, NotEmpty, choice, off, section, switched},
    udp::LogUdpServer,
    values::{Tag, Toggle},
};

section! {
    /// The pipeline of log events. It has no switch: the listener is on when a source is.
    pub struct LogEvents {
        /// The listener.
        udp_server_config: LogUdpServer = LogUdpServer::default();
        /// Tags of the events at every destination.
        tags: Vec<Tag> = Vec::new();
        /// Which services' events are accepted.
        source: Sources = Sources::default();
        /// Categories, by what a message says.
        categorise: Categorise = off();
        /// Performance events of the engine.
        engine_performance_monitor: EnginePerformanceMonitor = off();
        /// To MQTT.
        send_to_mqtt as "sendToMQTT": LogEventsToMqtt = off();
        /// Writes measurement `log_event` to InfluxDB.
        send_to_influxdb: Toggle<false> = off();
        /// To New Relic.
        send_to_new_relic: LogEventsToNewRelic = off();
    }
}

impl LogEvents {
    /// Whether the listener has anything to do.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        let Sources { engine, proxy, repository, scheduler, qix_perf } = &self.source;
        [engine, proxy, repository, scheduler].iter().any(|source| source.enable) || qix_perf.enable
    }
}

section! {
    /// The services whose events are accepted.
    pub struct Sources {
        /// Accepts `/qseow-engine/`.
        engine: Toggle<false> = off();
        /// Accepts `/qseow-proxy/`.
        proxy: Toggle<false> = off();
        /// Accepts `/qseow-repository/`.
        repository: Toggle<false> = off();
        /// Accepts `/qseow-scheduler/`.
        scheduler: Toggle<false> = off();
        /// Accepts `/qseow-qix-perf/`.
        qix_perf: Toggle<true> = off();
    }
}

choice! {
    /// The level of a log event, in a rule. Levels compare without regard to case.
    pub enum EventLevel {
        /// A service cannot go on (difference 31).
        Fatal = "fatal",
        /// Something failed.
        Error = "error",
        /// Something may fail.
        Warn = "warn",
        /// Something happened.
        Info = "info",
        /// Detail.
        Verbose = "verbose",
        /// Detail for developers.
        Debug = "debug",
        /// All detail.
        Silly = "silly",
    }
}

choice! {
    /// What a rule does with the events that it matches.
    pub enum RuleAction {
        /// Adds its categories.
        Categorise = "categorise",
        /// Drops the event and counts it as `category_drop`.
        Drop = "drop",
    }
}

choice! {
    /// Where in the message the text has to be.
    pub enum FilterType {
        /// Starts with.
        StartsWith = "sw",
        /// Ends with.
        EndsWith = "ew",
        /// Anywhere: substring of.
        SubstringOf = "so",
    }
}

section! {
    /// Categories of log events.
    pub struct Categorise {
        /// Uses the rules.
        enable: bool = false;
        /// Rules, all of which are tried in this order.
        rules: Vec<CategoryRule> = Vec::new();
        /// For events that no rule matched.
        rule_default: DefaultCategory = off();
    }
}

section! {
    /// Which events get which categories.
    pub struct CategoryRule {
        /// For the reader of the file.
        #[serde(default)]
        description: String;
        /// Levels to which the rule applies.
        log_level: Vec<EventLevel> => NotEmpty;
        /// What is done.
        action: RuleAction;
        /// Categories to add; not needed to drop.
        #[serde(default)]
        category: Vec<Category>;
        /// Texts, one of which has to be in the message.
        filter: Vec<MessageFilter> => NotEmpty;
    }
}

section! {
    /// A category: a tag at InfluxDB, an attribute elsewhere.
    pub struct Category {
        /// Name.
        name: String => Filled;
        /// Value.
        value: String;
    }
}

section! {
    /// A text that the message is searched for, case included.
    pub struct MessageFilter {
        /// Where.
        kind as "type": FilterType;
        /// The text.
        value: String;
    }
}

section! {
    /// What events get that no rule matched.
    pub struct DefaultCategory {
        /// Adds the categories.
        enable: bool = true;
        /// The categories.
        category: Vec<Category> = Vec::new();
    }
}

section! {
    /// Performance events of the engine.
    pub struct EnginePerformanceMonitor {
        /// Delivers the events; without it they are counted only.
        enable: bool = false;
        /// Adds the name of the app to the events that have its id only.
        app_name_lookup: Toggle<false> = off();
        /// Events that the filter rejects.
        track_rejected_events: RejectedEvents = off();
        /// Which events are wanted.
        monitor_filter: MonitorFilter = MonitorFilter::default();
    }
}

section! {
    /// Counters of the performance events that the filter rejects.
    pub struct RejectedEvents {
        /// Counts them.
        enable: bool = false;
        /// Tags of the counters.
        tags: Vec<Tag> = Vec::new();
    }
}

section! {
    /// Log events as MQTT messages.
    pub struct LogEventsToMqtt {
        /// Publishes them.
        enable: bool = false;
        /// The topic of all log events.
        base_topic: String = "qliksense/logevent".to_owned() => Filled;
        /// Which topics are used.
        post_to: LogTopics = LogTopics::default();
    }
}

section! {
    /// The topics of log events.
    pub struct LogTopics {
        /// Publishes to `baseTopic`.
        base_topic: bool = true;
        /// Publishes to `baseTopic` with the parts of the subsystem behind it.
        subsystem_topics: bool = true;
    }
}

section! {
    /// Log events at New Relic.
    pub struct LogEventsToNewRelic {
        /// Sends them.
        enable: bool = false;
        /// Names of accounts in `thirdPartyToolsCredentials.newRelic`.
        destination_account: Vec<String> = Vec::new();
        /// Which events.
        source: NewRelicSources = NewRelicSources::default();
    }
}

section! {
    /// The services whose events go to New Relic.
    pub struct NewRelicSources {
        /// The engine.
        engine: NewRelicSource = off();
        /// The proxy.
        proxy: NewRelicSource = off();
        /// The repository.
        repository: NewRelicSource = off();
        /// The scheduler.
        scheduler: NewRelicSource = off();
    }
}

section! {
    /// A service whose events go to New Relic.
    pub struct NewRelicSource {
        /// Sends its events.
        enable: bool = true;
        /// Which levels.
        log_level: NewRelicLevels = NewRelicLevels::default();
    }
}

section! {
    /// The levels that go to New Relic.
    pub struct NewRelicLevels {
        /// Sends FATAL (difference 16); as `error` when missing.
        fatal: Option<bool> = None;
        /// Sends ERROR.
        error: bool = true;
        /// Sends WARN.
        warn: bool = true;
    }
}

switched!(Categorise, DefaultCategory, EnginePerformanceMonitor, RejectedEvents);
switched!(LogEventsToMqtt, LogEventsToNewRelic, NewRelicSource);
