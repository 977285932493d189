//! What Ringside does otherwise than Butler SOS, one function for each row of the table in
//! `docs/compatibility.md` that shows in InfluxDB.
//!
//! A function takes what Butler SOS makes of one datagram and changes it into what Ringside makes of
//! it. It decides from the datagram and from what is expected, never from the name of a recording.
//! Differences in reading change the event and have it written anew, as Butler SOS would write it;
//! differences in writing change the point.

mod judging;
mod reading;
mod surplus;
mod writing;

use crate::butler_sos::{Datagram, Event, Extras, Loss, Point, Rules, Verdict, Version, write};

/// One difference.
pub type Difference = fn(&mut Expected<'_>);

/// All of them, in the order in which they apply: first what is read, then what is
/// decided, then what is written.
pub const DIFFERENCES: &[(&str, Difference)] = &[
    ("1 separators in the message", reading::difference_01_separators_in_the_message),
    ("2 missing columns are empty", reading::difference_02_missing_columns_are_empty),
    ("18 null is empty", reading::difference_18_null_is_empty),
    ("19 cut in characters", reading::difference_19_cut_in_characters),
    ("24 user agent of the whole message", reading::difference_24_user_agent_of_the_whole_message),
    ("3 forms of time", reading::difference_03_forms_of_time),
    ("28 app id in the context", reading::difference_28_app_id_in_the_context),
    ("4 upper-case UUIDs", reading::difference_04_upper_case_uuids),
    ("27 type is matched whole", reading::difference_27_type_is_matched_whole),
    ("5 drop drops", judging::difference_05_drop_drops),
    ("7 categories of performance events", judging::difference_07_categories_of_performance_events),
    ("25 raw_event is the event in JSON", writing::difference_25_raw_event_is_the_event_in_json),
    ("6 numbers that are none", writing::difference_06_numbers_that_are_none),
    ("26 numbers too large", writing::difference_26_numbers_too_large),
    ("8 incomplete user events", writing::difference_08_incomplete_user_events),
    ("23 backslash at the end of a tag", writing::difference_23_backslash_at_the_end_of_a_tag),
    ("23 line breaks in names of apps", writing::difference_23_line_breaks_in_names_of_apps),
    ("9 empty tags", writing::difference_09_empty_tags),
    ("13 row number as a field", writing::difference_13_row_number_as_a_field),
];

/// What is expected of one datagram at one version of InfluxDB.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// The datagram.
    pub datagram: &'a Datagram,
    /// The configuration's rules.
    pub rules: &'a Rules,
    /// The version.
    pub version: Version,
    /// The event that is read from the datagram.
    pub event: Event,
    /// What is written besides the event's columns.
    pub extras: Extras,
    /// Why the event is not written at all.
    pub judged: Vec<Loss>,
    /// What is written.
    pub point: Point,
    /// Why the point does not leave.
    pub refused: Vec<Loss>,
}

impl<'a> Expected<'a> {
    /// What Butler SOS makes of an event. `extras` holds the user agent, and whether MQTT is on.
    pub fn of_butler_sos(
        datagram: &'a Datagram,
        event: Event,
        rules: &'a Rules,
        version: Version,
        extras: Extras,
    ) -> Self {
        let (point, refused) = write(&event, &extras, version);
        let mut expected =
            Self { datagram, rules, version, event, extras, judged: Vec::new(), point, refused };
        expected.judge();
        expected
    }

    /// Applies the rules to the event and writes it.
    fn judge(&mut self) {
        self.extras.static_tags = self.rules.static_tags(self.datagram.listener);
        self.extras.app_name = self.rules.name_of_app(&self.event);
        (self.extras.categories, self.judged) = match self.rules.judge(&self.event) {
            Verdict::Plain => (None, Vec::new()),
            Verdict::Categorised(categories) => (Some(categories), Vec::new()),
            Verdict::Lost(loss) => (None, vec![loss]),
        };
        self.write();
    }

    /// Writes the event.
    fn write(&mut self) {
        (self.point, self.refused) = write(&self.event, &self.extras, self.version);
    }

    /// The points that arrive: one or none.
    pub fn points(&self) -> Vec<&Point> {
        if self.judged.is_empty() && self.refused.is_empty() {
            vec![&self.point]
        } else {
            Vec::new()
        }
    }

    /// Applies all differences.
    pub fn with_differences(mut self) -> Self {
        for (_, difference) in DIFFERENCES {
            difference(&mut self);
        }
        self
    }
}
