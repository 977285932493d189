//! What the configuration makes of an event: excluded, filtered, categorised, named.

use ringside::event::{Kind, Listener};
use serde::Deserialize;
use serde_yaml::Value as Yaml;

use super::text::{narrow, wide};
use super::{Event, Loss, Text};

/// An app that the repository service knows.
#[derive(Clone, Debug, Deserialize)]
pub struct App {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// The parts of a configuration that decide about events.
#[derive(Clone, Debug)]
pub struct Rules {
    root: Yaml,
    apps: Vec<App>,
}

/// What the rules say about an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is written as it is.
    Plain,
    /// It is written with these categories (name and value).
    Categorised(Vec<(String, String)>),
    /// It is not written.
    Lost(Loss),
}

impl Rules {
    /// Reads a configuration file.
    pub fn new(config: &str, apps: Vec<App>) -> Self {
        let root: Yaml = serde_yaml::from_str(config).expect("the configuration is YAML");
        Self { root: root["Butler-SOS"].clone(), apps }
    }

    /// Name and value of the tags that every event of a listener gets.
    pub fn static_tags(&self, listener: Listener) -> Vec<(String, String)> {
        let section = match listener {
            Listener::UserEvents => "userEvents",
            Listener::LogEvents => "logEvents",
        };
        pairs(&self.root[section]["tags"])
    }

    /// Name and value of the static attributes of log events at New Relic.
    pub fn new_relic_attributes(&self) -> Vec<(String, String)> {
        pairs(&self.root["newRelic"]["event"]["attribute"]["static"])
    }

    fn app_name(&self, id: &str) -> Option<&str> {
        // Compared as it is written, upper and lower case.
        self.apps.iter().find(|app| app.id == id).map(|app| app.name.as_str())
    }

    /// The name of the app that an event is about; empty if there is none.
    pub fn name_of_app(&self, event: &Event) -> Text {
        let named = |id: &[u16], unknown| wide(self.app_name(&narrow(id)).unwrap_or(unknown));
        match event.kind {
            Kind::QixPerf => named(&event.text("app_id"), ""),
            Kind::ProxySession | Kind::ProxyConnection if !event.app.is_empty() => {
                named(&event.app, "<unknown app name>")
            }
            _ => Text::new(),
        }
    }

    /// What becomes of an event.
    pub fn judge(&self, event: &Event) -> Verdict {
        match event.kind {
            Kind::ProxySession | Kind::ProxyConnection if self.excludes(event) => {
                Verdict::Lost(Loss::ExcludedUser)
            }
            Kind::ProxySession | Kind::ProxyConnection => Verdict::Plain,
            Kind::QixPerf if !self.monitored(event) => Verdict::Lost(Loss::Filtered),
            Kind::QixPerf if self.looks_for_a_message(event) => Verdict::Lost(Loss::NoMessage),
            _ => Verdict::Categorised(self.categorise(event)),
        }
    }

    fn excludes(&self, event: &Event) -> bool {
        list(&self.root["userEvents"]["excludeUser"]).iter().any(|user| {
            wide(string(&user["directory"])) == event.text("user_directory")
                && wide(string(&user["userId"])) == event.text("user_id")
        })
    }

    /// Whether a monitor filter accepts a performance event. The filters look at the datagram's
    /// text, not at what became of it.
    fn monitored(&self, event: &Event) -> bool {
        let filter = &self.root["logEvents"]["enginePerformanceMonitor"]["monitorFilter"];
        let name = self.app_name(event.raw("app_id"));
        let is_app = |entry: &Yaml| {
            entry["appId"].as_str().is_none_or(|wanted| event.raw("app_id") == wanted)
                && entry["appName"].as_str().is_none_or(|wanted| name == Some(wanted))
        };
        let accepts = |section: &Yaml| {
            chosen(&section["objectType"], "ObjectTypes", event.raw("object_type"))
                && chosen(&section["method"], "Methods", event.raw("method"))
        };
        let specific = &filter["appSpecific"];
        let all = &filter["allApps"];
        let by_app = specific["enable"] == Yaml::Bool(true)
            && list(&specific["app"])
                .iter()
                .any(|app| list(&app["include"]).iter().any(is_app) && accepts(app));
        let by_all = all["enable"] == Yaml::Bool(true)
            && !list(&all["appExclude"]).iter().any(is_app)
            && accepts(all);
        by_app || by_all
    }

    /// Whether a category rule wants to look into the message.
    fn looks_for_a_message(&self, event: &Event) -> bool {
        list(&self.root["logEvents"]["categorise"]["rules"])
            .iter()
            .any(|rule| is_at_level(rule, event))
    }

    /// The categories of a log event. What has no message has an empty one.
    pub fn categorise(&self, event: &Event) -> Vec<(String, String)> {
        let section = &self.root["logEvents"]["categorise"];
        let mut found: Vec<(String, String)> = Vec::new();
        let mut matched = false;
        for rule in list(&section["rules"]) {
            if !is_at_level(rule, event) {
                continue;
            }
            if !is_about_message(rule, event) {
                continue;
            }
            if string(&rule["action"]) == "drop" {
                return Vec::new();
            }
            matched = true;
            for category in pairs(&rule["category"]) {
                if !found.contains(&category) {
                    found.push(category);
                }
            }
        }
        if !matched && section["ruleDefault"]["enable"] == Yaml::Bool(true) {
            found = self.default_categories();
        }
        found
    }

    /// The categories of events that no rule matched.
    pub fn default_categories(&self) -> Vec<(String, String)> {
        pairs(&self.root["logEvents"]["categorise"]["ruleDefault"]["category"])
    }

    /// Whether a rule that matches the event has the action `drop`.
    pub fn drops(&self, event: &Event) -> bool {
        event.kind.listener() == Listener::LogEvents
            && event.kind != Kind::QixPerf
            && list(&self.root["logEvents"]["categorise"]["rules"]).iter().any(|rule| {
                string(&rule["action"]) == "drop"
                    && is_at_level(rule, event)
                    && is_about_message(rule, event)
            })
    }
}

/// Whether a category rule applies to the event's level.
fn is_at_level(rule: &Yaml, event: &Event) -> bool {
    let level = narrow(&event.text("level")).to_lowercase();
    list(&rule["logLevel"]).iter().any(|l| string(l).to_lowercase() == level)
}

/// Whether one of a category rule's texts is in the event's message.
fn is_about_message(rule: &Yaml, event: &Event) -> bool {
    let message = narrow(&event.text("message"));
    list(&rule["filter"]).iter().any(|filter| {
        let value = string(&filter["value"]);
        match string(&filter["type"]) {
            "sw" => message.starts_with(value),
            "ew" => message.ends_with(value),
            _ => message.contains(value),
        }
    })
}

/// Whether `text` is among those that a section of the monitor filter asks for.
fn chosen(section: &Yaml, what: &str, text: &str) -> bool {
    let names = |key: String| list(&section[key.as_str()]).iter().any(|name| string(name) == text);
    if section[format!("all{what}").as_str()] == Yaml::Bool(true) {
        !names(format!("all{what}Exclude"))
    } else {
        names(format!("some{what}Include"))
    }
}

fn list(yaml: &Yaml) -> &[Yaml] {
    yaml.as_sequence().map_or(&[], Vec::as_slice)
}

fn string(yaml: &Yaml) -> &str {
    yaml.as_str().unwrap_or_default()
}

fn pairs(yaml: &Yaml) -> Vec<(String, String)> {
    list(yaml)
        .iter()
        .map(|entry| (string(&entry["name"]).to_owned(), string(&entry["value"]).to_owned()))
        .collect()
}
