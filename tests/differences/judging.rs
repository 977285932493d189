//! Differences in what is decided about an event.

use super::Expected;
use crate::butler_sos::Loss;

/// A category rule with the action `drop` makes Butler SOS write the event without categories. Here
/// the event is dropped.
pub fn difference_05_drop_drops(expected: &mut Expected<'_>) {
    if expected.rules.drops(&expected.event) {
        expected.judged.push(Loss::Dropped);
    }
}

/// A category rule at a performance event's level makes Butler SOS stumble over the message that
/// such an event does not have. Here no text is found in it, and it is delivered with the default
/// category.
pub fn difference_07_categories_of_performance_events(expected: &mut Expected<'_>) {
    if expected.judged.contains(&Loss::NoMessage) {
        expected.judged.retain(|loss| *loss != Loss::NoMessage);
        expected.extras.categories = Some(expected.rules.default_categories());
        expected.write();
    }
}
