//! A small log4net, to see what a Sense service would send: it reads a file, takes what a service
//! logs, and says which datagrams leave the server. It shares no code with Ringside.
//!
//! Only what the files use is here; anything else panics.

use std::collections::BTreeMap;

use regex::Regex;
use roxmltree::{Document, Node};

/// What a service logs.
#[derive(Clone, Debug, Default)]
pub struct Logged {
    pub logger: String,
    pub level: &'static str,
    pub message: String,
    pub exception: String,
    /// Properties that the service set; log4net writes `(null)` for others.
    pub properties: BTreeMap<&'static str, String>,
    /// What Sense's converters give.
    pub row: u16,
    pub iso: String,
    pub local: String,
    pub host: String,
    pub account: String,
}

/// What leaves the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub host: String,
    pub port: u16,
    pub bytes: Vec<u8>,
}

const LEVELS: [&str; 5] = ["debug", "info", "warn", "error", "fatal"];

/// A service with a file in its folder.
#[derive(Debug)]
pub struct Log4net {
    appenders: BTreeMap<String, Appender>,
    loggers: Vec<(String, Vec<String>)>,
}

#[derive(Debug)]
struct Appender {
    /// Texts to look for; then everything else is denied.
    filters: Vec<String>,
    denies: bool,
    threshold: usize,
    host: String,
    port: u16,
    converters: BTreeMap<String, String>,
    pattern: String,
}

impl Log4net {
    pub fn read(text: &str) -> Self {
        let document = Document::parse(text).expect("XML");
        let root = document.root_element();
        let named = |name| root.children().filter(move |node| node.has_tag_name(name));
        let name = |node: Node<'_, '_>| node.attribute("name").expect("a name").to_owned();
        let loggers = named("logger").map(|node| {
            let refs = node.children().filter(Node::is_element);
            (
                name(node),
                refs.map(|node| node.attribute("ref").expect("a ref").to_owned()).collect(),
            )
        });
        Self {
            appenders: named("appender").map(|node| (name(node), Appender::read(node))).collect(),
            loggers: loggers.collect(),
        }
    }

    /// The datagrams of one event: appenders of its logger and of all above.
    pub fn log(&self, logged: &Logged) -> Vec<Datagram> {
        let mut datagrams = Vec::new();
        for (logger, appenders) in &self.loggers {
            let rest = logged.logger.strip_prefix(logger.as_str());
            if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
                let sent = appenders.iter().filter_map(|name| self.appenders[name].send(logged));
                datagrams.extend(sent);
            }
        }
        datagrams
    }
}

fn params(node: Node<'_, '_>) -> BTreeMap<String, String> {
    let params = node.children().filter(|node| node.has_tag_name("param"));
    let get = |node: Node<'_, '_>, name| node.attribute(name).expect("an attribute").to_owned();
    params.map(|node| (get(node, "name").to_lowercase(), get(node, "value"))).collect()
}

impl Appender {
    fn read(node: Node<'_, '_>) -> Self {
        assert_eq!(node.attribute("type"), Some("log4net.Appender.UdpAppender"));
        let own = params(node);
        let layout = node.children().find(|node| node.has_tag_name("layout")).expect("a layout");
        assert_eq!(layout.attribute("type"), Some("log4net.Layout.PatternLayout"));
        let converters = layout.children().filter(|node| node.has_tag_name("converter"));
        let mut filters = Vec::new();
        let mut denies = false;
        for filter in node.children().filter(|node| node.has_tag_name("filter")) {
            match filter.attribute("type").expect("a type") {
                "log4net.Filter.StringMatchFilter" => {
                    assert!(!denies, "nothing comes behind a DenyAllFilter");
                    filters.push(params(filter)["stringtomatch"].clone());
                }
                "log4net.Filter.DenyAllFilter" => denies = true,
                other => panic!("filter {other}"),
            }
        }
        let threshold = own.get("threshold").map_or(0, |name| level(name));
        assert_eq!(own["encoding"], "utf-8");
        Self {
            filters,
            denies,
            threshold,
            host: own["remoteaddress"].clone(),
            port: own["remoteport"].parse().expect("a port"),
            converters: converters
                .map(|node| {
                    let params = params(node);
                    (params["name"].clone(), params["type"].clone())
                })
                .collect(),
            pattern: params(layout)["conversionpattern"].clone(),
        }
    }

    fn send(&self, logged: &Logged) -> Option<Datagram> {
        let found = self.filters.iter().any(|text| logged.message.contains(text.as_str()));
        if level(logged.level) < self.threshold || (!found && self.denies) {
            return None;
        }
        let bytes = self.render(logged).into_bytes();
        Some(Datagram { host: self.host.clone(), port: self.port, bytes })
    }

    fn render(&self, logged: &Logged) -> String {
        let conversion = Regex::new(r"%([A-Za-z0-9]+)(?:\{([^}]*)\})?").expect("a pattern");
        let mut text = String::new();
        let mut end = 0;
        for found in conversion.captures_iter(&self.pattern) {
            let whole = found.get(0).expect("a match");
            text.push_str(&self.pattern[end..whole.start()]);
            text.push_str(&self.value(
                &found[1],
                found.get(2).map(|option| option.as_str()),
                logged,
            ));
            end = whole.end();
        }
        text + &self.pattern[end..]
    }

    fn value(&self, name: &str, option: Option<&str>, logged: &Logged) -> String {
        if let Some(class) = self.converters.get(name) {
            let class = class.strip_prefix("Qlik.Sense.Logging.log4net.Layout.Pattern.");
            return match (class.expect("a class of Sense"), option) {
                ("CounterPatternConverter", Some("9999")) => logged.row.to_string(),
                ("HostNamePatternConverter", None) => logged.host.clone(),
                ("Iso8601TimeOffsetPatternConverter", None) => logged.iso.clone(),
                ("ServiceUserNameCachedPatternConverter", None) => logged.account.clone(),
                ("EncodedMessagePatternConverter", None) => logged.message.clone(),
                ("EncodedExceptionPatternConverter", None) => logged.exception.clone(),
                other => panic!("converter {other:?}"),
            };
        }
        match (name, option) {
            ("date", None) => logged.local.clone(),
            ("level", None) => logged.level.to_owned(),
            ("logger", None) => logged.logger.clone(),
            ("message", None) => logged.message.clone(),
            ("property", Some(property)) => {
                logged.properties.get(property).cloned().unwrap_or_else(|| "(null)".to_owned())
            }
            other => panic!("conversion {other:?}"),
        }
    }
}

fn level(name: &str) -> usize {
    LEVELS.iter().position(|known| known.eq_ignore_ascii_case(name)).expect("a level")
}
