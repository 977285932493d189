//! Differences in what is read from a datagram.

use ringside::enrich::UserAgent;
use ringside::event::Listener;

use super::{Expected, surplus};
use crate::butler_sos::{
    Event, Loss, Take, Value, is_lower_uuid, is_registered_uuid, narrow, sanitise, wide,
};

/// Changes the values of some columns, then has the event judged and written again.
fn change_columns(
    expected: &mut Expected<'_>,
    change: impl Fn(Take, Option<&str>) -> Option<Value>,
) {
    let mut changed = false;
    for column in &mut expected.event.columns {
        if let Some(value) = change(column.take, column.raw.as_deref())
            && value != column.value
        {
            column.value = value;
            changed = true;
        }
    }
    if changed {
        expected.judge();
    }
}

fn text(text: &str) -> Option<Value> {
    Some(Value::Text(wide(text)))
}

/// Butler SOS removes the first two slashes of a user event's type, wherever they are. Here the type
/// is matched whole, with one optional slash at either end.
pub fn difference_27_type_is_matched_whole(expected: &mut Expected<'_>) {
    if expected.datagram.listener == Listener::UserEvents {
        let named = expected.event.raw("source").to_ascii_lowercase();
        let named = named.strip_prefix('/').unwrap_or(&named);
        let named = named.strip_suffix('/').unwrap_or(named);
        if named != expected.event.kind.name() {
            expected.judged.push(Loss::UnknownType);
        }
    }
}

/// Butler SOS splits at every separator. Here the separators that are too many are given to the
/// message, or to what they most likely belong to.
pub fn difference_01_separators_in_the_message(expected: &mut Expected<'_>) {
    if expected.datagram.listener == Listener::LogEvents {
        let line = String::from_utf8_lossy(&expected.datagram.payload).into_owned();
        let pieces: Vec<&str> = line.split(';').collect();
        let pieces = surplus::assign(expected.event.kind, &pieces);
        if expected
            .event
            .columns
            .iter()
            .zip(&pieces)
            .any(|(c, piece)| c.raw.as_ref() != Some(piece))
        {
            expected.event = Event::of(expected.event.kind, &pieces);
            expected.judge();
        }
    }
}

/// Butler SOS writes `undefined` for a column that is missing. Here it is empty.
pub fn difference_02_missing_columns_are_empty(expected: &mut Expected<'_>) {
    change_columns(expected, |take, raw| match (take, raw) {
        (Take::Text(_), None) => text(""),
        _ => None,
    });
}

/// log4net writes `(null)` for a property that is not set. Here it is empty.
pub fn difference_18_null_is_empty(expected: &mut Expected<'_>) {
    change_columns(expected, |take, raw| match (take, raw) {
        (Take::Text(_), Some(raw)) if sanitise(&wide(raw), usize::MAX) == wide("(null)") => {
            text("")
        }
        _ => None,
    });
}

/// Butler SOS cuts in UTF-16 units, perhaps in the middle of a character. Here characters count.
pub fn difference_19_cut_in_characters(expected: &mut Expected<'_>) {
    change_columns(expected, |take, raw| match (take, raw) {
        (Take::Text(limit), Some(raw)) if raw.chars().any(|c| c.len_utf16() == 2) => {
            let clean = narrow(&sanitise(&wide(raw), usize::MAX));
            text(&clean.chars().take(limit).collect::<String>())
        }
        _ => None,
    });
}

/// Butler SOS reads the user agent from the message after it was cut. Here it is read from the whole
/// message. What Bowser says about the recorded user agents is compared in `tests/user_agents.rs`; of
/// messages that were cut, or of which nothing was recorded, nobody knows what it would say.
pub fn difference_24_user_agent_of_the_whole_message(expected: &mut Expected<'_>) {
    if expected.datagram.listener != Listener::UserEvents {
        return;
    }
    let whole = narrow(&sanitise(&wide(expected.event.raw("message")), usize::MAX));
    let is_cut = expected.event.text("message") != wide(&whole);
    if is_cut || expected.extras.user_agent.is_empty() {
        let agent = whole.split("UserAgent:").nth(1).and_then(UserAgent::parse);
        let agent = agent.unwrap_or_default();
        let parts = [
            ("uaBrowserName", agent.browser_name),
            ("uaBrowserMajorVersion", agent.browser_major_version),
            ("uaOsName", agent.os_name),
            ("uaOsVersion", agent.os_version),
        ];
        let known = parts.into_iter().filter(|(_, value)| !value.is_empty());
        expected.extras.user_agent =
            known.map(|(name, value)| (name.to_owned(), value.into())).collect();
        expected.write();
    }
}

/// Butler SOS takes some forms of time in some columns, with positive offsets only, and does not
/// look into the calendar. Here every form of the payload reference is taken in every column that is
/// a time, and the time has to exist.
pub fn difference_03_forms_of_time(expected: &mut Expected<'_>) {
    change_columns(expected, |take, raw| match (take, raw) {
        (Take::Time(_), Some(raw)) => text(if surplus::is_time(raw) { raw } else { "" }),
        _ => None,
    });
}

/// Butler SOS sees an app in a user event's context only when it starts with `/app/` and nothing but
/// a query follows the id. Here the first slash is optional and anything may follow.
pub fn difference_28_app_id_in_the_context(expected: &mut Expected<'_>) {
    if expected.datagram.listener == Listener::UserEvents {
        let context = narrow(&expected.event.text("context"));
        let path = context.strip_prefix('/').unwrap_or(&context);
        let id = path.strip_prefix("app/").and_then(|rest| rest.get(..36)).unwrap_or_default();
        if is_registered_uuid(id) && expected.event.app != wide(id) {
            expected.event.app = wide(id);
            expected.judge();
        }
    }
}

/// Butler SOS blanks UUIDs in upper case, or keeps the case. Here they become lower case, also where
/// the monitor filters look at an app's id.
pub fn difference_04_upper_case_uuids(expected: &mut Expected<'_>) {
    let app = wide(&narrow(&expected.event.app).to_ascii_lowercase());
    if app != expected.event.app {
        expected.event.app = app;
        expected.judge();
    }
    for column in expected.event.columns.iter_mut().filter(|column| column.take == Take::Uuid) {
        if let Some(raw) = &mut column.raw
            && is_lower_uuid(&raw.to_ascii_lowercase())
        {
            raw.make_ascii_lowercase();
        }
    }
    change_columns(expected, |take, raw| {
        let lower = raw.unwrap_or_default().to_ascii_lowercase();
        if take == Take::Uuid && is_lower_uuid(&lower) { text(&lower) } else { None }
    });
}
