//! Categories in a line: as tags, as fields where the configuration says so, and in `raw_event`.
//!
//! Which categories an event has is known only with the event, and the rules behind them can change
//! while the program runs. So what collides is found out here, per event, and not in the plan: the
//! later category of one name wins, categories win over built-in tags, configured tags over
//! categories.

use std::cmp::Ordering;

use super::escape::{RawEventText, StringField, TagName, name_bytes, without_trailing_backslashes};
use super::plan::{Dialect, Plan};
use crate::deliver::line::{Escape, Line};
use crate::rules::Category;

/// The most that a category takes in a line without its name and value: `,="",` in the tags or
/// fields, and as much as [`MEMBER`] in `raw_event`.
const FRAME: usize = 5 + MEMBER.len();

/// A category in `raw_event`.
const MEMBER: &str = r#"{\"name\":\"\",\"value\":\"\"},"#;

/// Where they stand in `raw_event`.
const MEMBERS: &str = r#",\"category\":["#;

/// How much longer a name or value can become: it stands in a tag or field and in `raw_event`.
const EXPANSION: usize = TagName::EXPANSION + RawEventText::EXPANSION;

/// What becomes of an event's categories, as positions among them; kept between events, so that
/// nothing is allocated once there is room for the most that an event has.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Written as tags, sorted by name.
    tags: Vec<usize>,
    /// Written as fields.
    fields: Vec<usize>,
}

impl Places {
    /// Finds the places of an event's categories.
    pub(super) fn find<'a, D: Dialect>(
        &'a mut self,
        plan: &Plan,
        all: Option<&'a [&'a Category]>,
    ) -> Categories<'a> {
        self.tags.clear();
        self.fields.clear();
        let list = all.unwrap_or_default();
        for (index, category) in list.iter().enumerate() {
            let again = |other: &&Category| is_written::<D>(other) && same(&other.name, category);
            let is_name = |name: &String| same(name, category);
            if !is_written::<D>(category)
                || plan.taken.iter().any(is_name)
                || list[index + 1..].iter().any(again)
            {
                continue;
            }
            let as_field = plan.as_fields.iter().any(is_name);
            let places = if as_field { &mut self.fields } else { &mut self.tags };
            places.push(index);
        }
        self.tags.sort_unstable_by(|&one, &other| by_name(&list[one].name, &list[other].name));
        Categories { all, tags: &self.tags, fields: &self.fields }
    }
}

/// The categories of one event and where they are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Categories<'a> {
    all: Option<&'a [&'a Category]>,
    /// Those not yet written.
    tags: &'a [usize],
    fields: &'a [usize],
}

impl<'a> Categories<'a> {
    /// The most that they take in a line.
    pub(super) fn bound(&self) -> usize {
        let text = |category: &&Category| category.name.len() + category.value.len();
        self.all.map_or(0, |all| {
            let text = all.iter().map(text).sum::<usize>();
            EXPANSION * text + FRAME * all.len() + MEMBERS.len() + 1
        })
    }

    /// Writes the tags that come before the built-in tag `name`, and the one of that name, which
    /// takes its place. Returns whether there is one.
    #[inline]
    pub(super) fn tags_up_to<D: Dialect>(&mut self, name: &str, line: &mut Line<'_>) -> bool {
        while let Some((category, rest)) = self.first_tag() {
            let order = by_name(&category.name, name);
            if order == Ordering::Greater {
                return false;
            }
            tag::<D>(category, line);
            self.tags = rest;
            if order == Ordering::Equal {
                return true;
            }
        }
        false
    }

    /// Writes the tags that are left.
    pub(super) fn tags_to_the_end<D: Dialect>(&mut self, line: &mut Line<'_>) {
        while let Some((category, rest)) = self.first_tag() {
            tag::<D>(category, line);
            self.tags = rest;
        }
    }

    fn first_tag(&self) -> Option<(&'a Category, &'a [usize])> {
        let (first, rest) = self.tags.split_first()?;
        Some((self.all?[*first], rest))
    }

    /// Whether one of the fields takes the place of the built-in tag `name`, which is a field too.
    #[inline]
    pub(super) fn replace_field(&self, name: &str) -> bool {
        self.fields().any(|category| same(name, category))
    }

    /// Writes the fields, each followed by a comma.
    pub(super) fn write_fields(&self, line: &mut Line<'_>) {
        for category in self.fields() {
            line.text::<TagName>(category.name.as_bytes());
            line.bytes(b"=\"");
            line.text::<StringField>(category.value.as_bytes());
            line.bytes(b"\",");
        }
    }

    fn fields(&self) -> impl Iterator<Item = &'a Category> {
        let all = self.all.unwrap_or_default();
        self.fields.iter().map(|&index| all[index])
    }

    /// Writes the member `category` of `raw_event`, with all of them.
    pub(super) fn write_member(&self, line: &mut Line<'_>) {
        let Some(all) = self.all else { return };
        line.bytes(MEMBERS.as_bytes());
        for (index, category) in all.iter().enumerate() {
            line.bytes(if index == 0 { br#"{\"name\":\""# } else { br#",{\"name\":\""# });
            line.text::<RawEventText>(category.name.as_bytes());
            line.bytes(br#"\",\"value\":\""#);
            line.text::<RawEventText>(category.value.as_bytes());
            line.bytes(br#"\"}"#);
        }
        line.byte(b']');
    }
}

fn tag<D: Dialect>(category: &Category, line: &mut Line<'_>) {
    line.byte(b',');
    line.text::<TagName>(category.name.as_bytes());
    line.byte(b'=');
    line.text::<D::Stripped>(without_trailing_backslashes(category.value.as_bytes()));
}

/// Whether a category has a name and a value in the line. One that has not is as if it were not
/// there.
fn is_written<D: Dialect>(category: &Category) -> bool {
    name_bytes(&category.name).next().is_some() && D::has_value(&category.value)
}

/// Nearly always decided by the first byte.
#[inline]
fn by_name(one: &str, other: &str) -> Ordering {
    name_bytes(one).cmp(name_bytes(other))
}

fn same(name: &str, category: &Category) -> bool {
    by_name(name, &category.name) == Ordering::Equal
}
