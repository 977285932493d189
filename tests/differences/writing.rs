//! Differences in what is written of an event.

use super::Expected;
use crate::butler_sos::{Field, Loss, Text, Value, Version, narrow, wide, write};

/// Butler SOS has the tags of its MQTT messages in `raw_event`, and for version 1 a backslash before
/// the first `\'` of every string, which is not valid JSON any more. Here neither is.
pub fn difference_25_raw_event_is_the_event_in_json(expected: &mut Expected<'_>) {
    if expected.extras.mqtt {
        expected.extras.mqtt = false;
        expected.write();
    }
    if expected.version == Version::V1 {
        let point = &mut expected.point;
        let texts = point.fields.iter_mut().filter_map(|(_, field)| match field {
            Field::Text(text) => Some(text),
            _ => None,
        });
        for text in point.tags.iter_mut().map(|(_, value)| value).chain(texts) {
            if let Some(at) = text.windows(3).position(|units| units == wide("\\\\'")) {
                text.remove(at);
            }
        }
    }
}

/// Butler SOS writes `NaN` to version 1 and loses the event for version 2. Here the field is left
/// out.
pub fn difference_06_numbers_that_are_none(expected: &mut Expected<'_>) {
    let is_none = |field: &Field| matches!(field, Field::Float(number) if number.is_nan());
    expected.point.fields.retain(|(_, field)| !is_none(field));
    expected.refused.retain(|loss| *loss != Loss::NotANumber);
}

/// Numbers that InfluxDB cannot hold: Butler SOS writes them to version 1, which refuses the line,
/// and loses the event for versions 2 and 3. Here the field is left out.
pub fn difference_26_numbers_too_large(expected: &mut Expected<'_>) {
    let too_large = |field: &Field| match field {
        Field::Float(number) => number.is_infinite(),
        Field::Int(number) => number.abs() >= 2_f64.powi(63),
        Field::Text(_) => false,
    };
    expected.point.fields.retain(|(_, field)| !too_large(field));
    expected.refused.retain(|loss| *loss != Loss::TooLarge);
}

/// Butler SOS does not write a user event that lacks host, command, directory, user or origin. Here
/// it is written without what it lacks.
pub fn difference_08_incomplete_user_events(expected: &mut Expected<'_>) {
    expected.refused.retain(|loss| *loss != Loss::MissingColumn);
}

/// A backslash at the end of a tag escapes what follows and breaks the line. Here it is cut off; if
/// nothing is left, what stands for an empty value is written.
pub fn difference_23_backslash_at_the_end_of_a_tag(expected: &mut Expected<'_>) {
    let backslash = u16::from(b'\\');
    let mut emptied = expected.event.clone();
    for column in &mut emptied.columns {
        if ["host", "level", "subsystem", "method", "object_type"].contains(&column.name) {
            column.value = Value::Text(Text::new());
        }
    }
    let (defaults, _) = write(&emptied, &expected.extras, expected.version);
    for (name, value) in &mut expected.point.tags {
        if value.last() == Some(&backslash) {
            let end = value.iter().rposition(|unit| *unit != backslash).map_or(0, |last| last + 1);
            value.truncate(end);
            if value.is_empty() {
                value.extend(
                    defaults
                        .tag(name)
                        .filter(|default| !default.ends_with(&[backslash]))
                        .unwrap_or_default(),
                );
            }
        }
    }
}

/// A line break in the name of an app breaks the line for version 1, and is legal in a string. Here it
/// is escaped in tags as for version 2, and a space in strings, so that one event is one line.
pub fn difference_23_line_breaks_in_names_of_apps(expected: &mut Expected<'_>) {
    if expected.version == Version::V1 {
        for (_, value) in &mut expected.point.tags {
            let text = narrow(value).replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
            if text != narrow(value) {
                *value = wide(&text);
            }
        }
    }
    for (_, field) in &mut expected.point.fields {
        if let Field::Text(text) = field {
            for unit in
                text.iter_mut().filter(|unit| [u16::from(b'\n'), u16::from(b'\r')].contains(*unit))
            {
                *unit = u16::from(b' ');
            }
        }
    }
}

/// Butler SOS writes empty tags to version 1, which refuses the line. Here they are left out.
pub fn difference_09_empty_tags(expected: &mut Expected<'_>) {
    expected.point.tags.retain(|(_, value)| !value.is_empty());
}

/// Butler SOS has the row number as a tag. Here it is an integer field.
pub fn difference_13_row_number_as_a_field(expected: &mut Expected<'_>) {
    expected.point.tags.retain(|(name, _)| name != "log_row");
    let row = expected.event.number("log_row");
    if row.abs() < 2_f64.powi(63) {
        expected.point.fields.push(("log_row_field".to_owned(), Field::Int(row)));
    }
}
