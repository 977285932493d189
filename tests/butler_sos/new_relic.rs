//! From the event object to a custom event of New Relic.

use ringside::event::Listener;
use shake::Shake256;
use shake::digest::{ExtendableOutput as _, Update as _, XofReader as _};

use super::text::{json_string, narrow, wide};
use super::write::{joined, user_of};
use super::{Event, Extras, Rules, Text};

/// The version of Butler SOS that was recorded.
const VERSION: &str = "15.0.1";

/// The body of a request to New Relic, with `0` for its time. Only some events are sent there.
pub fn custom_event(event: &Event, extras: &Extras, rules: &Rules, scramble: bool) -> String {
    let mut attributes = Attributes(Vec::new());
    match event.kind.listener() {
        Listener::UserEvents => attributes.of_user_event(event, extras, scramble),
        Listener::LogEvents => attributes.of_log_event(event, extras, rules),
    }
    let members: Vec<String> = attributes
        .0
        .iter()
        .map(|(name, value)| format!("{}:{}", json_string(&wide(name)), json_string(value)))
        .collect();
    format!("{{\"timestamp\":0,{}}}", members.join(","))
}

struct Attributes(Vec<(String, Text)>);

impl Attributes {
    fn of_user_event(&mut self, event: &Event, extras: &Extras, scramble: bool) {
        let hidden = |text: Text| if scramble { scrambled(&text) } else { text };
        let (directory, id) = user_of(event);
        self.set("qs_host", event.text("host"));
        self.set("qs_event_action", event.text("command"));
        self.set("qs_userFull", hidden(joined(&directory, &id)));
        self.set("qs_userDirectory", hidden(directory));
        self.set("qs_userId", hidden(id));
        self.set("qs_origin", event.text("origin"));
        if !event.app.is_empty() {
            self.set("qs_appId", event.app.clone());
        }
        if !extras.app_name.is_empty() {
            self.set("qs_appName", extras.app_name.clone());
        }
        for (name, value) in &extras.user_agent {
            self.set(&format!("qs_{name}"), wide(value));
        }
        self.set_all(&extras.static_tags);
        self.set("eventType", wide("qs_userEvent"));
    }

    fn of_log_event(&mut self, event: &Event, extras: &Extras, rules: &Rules) {
        let (directory, id) = user_of(event);
        for name in [
            "ts_iso",
            "ts_local",
            "source",
            "level",
            "host",
            "subsystem",
            "windows_user",
            "message",
            "exception_message",
            "user_full",
            "user_directory",
            "user_id",
            "command",
            "result_code",
            "origin",
            "context",
            "task_name",
            "app_name",
            "task_id",
            "app_id",
            "execution_id",
            "proxy_session_id",
            "engine_ts",
            "process_id",
            "engine_exe_version",
            "server_started",
            "entry_type",
            "session_id",
        ] {
            match name {
                "source" => self.set("qs_log_source", event.text(name)),
                "level" => self.set("qs_log_level", event.text(name)),
                "user_full" => self.set("qs_user_full", joined(&directory, &id)),
                "user_directory" => self.set("qs_user_directory", directory.clone()),
                "user_id" => self.set("qs_user_id", id.clone()),
                _ if event.column(name).is_some() => {
                    self.set(&format!("qs_{name}"), event.text(name));
                }
                _ => {}
            }
        }
        self.set_all(&extras.static_tags);
        self.set_all(&rules.new_relic_attributes());
        self.set("butlerSosVersion", wide(VERSION));
        self.set("eventType", wide("qs_logEvent"));
    }

    fn set_all(&mut self, attributes: &[(String, String)]) {
        for (name, value) in attributes {
            self.set(name, wide(value));
        }
    }

    /// Sets an attribute; one of that name keeps its place and takes the new value.
    fn set(&mut self, name: &str, value: Text) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

/// Eight bytes of SHAKE256, in hex.
fn scrambled(text: &[u16]) -> Text {
    let mut hasher = Shake256::default();
    hasher.update(narrow(text).as_bytes());
    let mut hash = [0; 8];
    hasher.finalize_xof().read(&mut hash);
    wide(&hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
