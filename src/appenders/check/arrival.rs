//! What arrives in which column: a pattern is rendered and read back. Where that is not what should
//! arrive, the pattern is compared with the right one, to say why.

use super::super::conversion::{Conversion, class, pattern};
use super::super::document::Configuration;
use super::super::finding::Finding;
use super::super::pattern::{Part, PatternField, Value};
use super::Subject;
use super::sample::{Wanted, has_arrived, is_filled_by, render, wanted};
use crate::event::{self, COLUMNS_MAX, Column, Event, Kind, ROW_MAX};

/// More steps than this are not listed: the whole pattern is quicker to copy.
const STEPS_MAX: usize = 4;
/// With more fields than this no comparison says anything that helps: no layout has a tenth.
const FIELDS_MAX: usize = 10 * COLUMNS_MAX;
/// Columns that are named one by one.
const COLUMNS_NAMED: usize = 3;

pub(super) fn check(subject: &Subject<'_>, configuration: &Configuration<'_>) -> Vec<Finding> {
    if subject.fields.len() > FIELDS_MAX {
        let place = configuration.place_in(subject.pattern, 0);
        let what = format!("{}: the pattern has {} fields", subject.named(), subject.fields.len());
        let hint = format!("the right pattern is {}", pattern(subject.kind));
        return vec![Finding::error(place, what, hint)];
    }
    let wanted = wanted(subject.kind);
    let rendered: Vec<String> = subject.fields.iter().map(|field| render(field, &wanted)).collect();
    let line = rendered.join(";");
    let mut scratch = Vec::new();
    let Ok(event) = event::parse(subject.kind.listener(), line.as_bytes(), &mut scratch) else {
        return Vec::new(); // Its first field is what gave it its kind.
    };
    let comparison = Comparison { subject, configuration, wanted, rendered, event };
    let steps = comparison.align();
    let mut findings = comparison.flaws(&steps);
    findings.extend(comparison.misplaced(&steps));
    findings.extend(comparison.tolerated(&steps));
    if findings.is_empty() {
        findings.extend(comparison.trailing(&steps));
    }
    findings
}

/// How a field differs from the conversion that it is meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kinship {
    Same,
    /// Its converter is not declared.
    Undeclared,
    /// A property's name in other letters.
    Case,
    /// Widths, or text around it.
    Dressed,
    Other,
}

/// Where a field and a column stand to each other, by index in `fields[1..]` and in `wanted`.
#[derive(Clone, Copy, Debug)]
enum Step {
    Pair(usize, usize, Kinship),
    Surplus(usize),
    Missing(usize),
}

struct Comparison<'a> {
    subject: &'a Subject<'a>,
    configuration: &'a Configuration<'a>,
    wanted: Vec<Wanted>,
    rendered: Vec<String>,
    event: Event<'a>,
}

impl Comparison<'_> {
    /// The fields after the message type.
    fn fields(&self) -> &[PatternField<'_>] {
        &self.subject.fields[1..]
    }

    /// A field as the file has it.
    fn source(&self, field: usize) -> &str {
        &self.subject.pattern.value[self.fields()[field].range.clone()]
    }

    fn kinship(&self, field: usize, column: usize) -> Kinship {
        let wanted = &self.wanted[column];
        if self.rendered[field + 1] == wanted.value {
            return Kinship::Same;
        }
        let conversion = &wanted.conversion;
        let lacks = class(conversion.name).is_some()
            && !self.subject.declared.contains(&conversion.name)
            && self.source(field).contains(&format!("%{}", conversion.name));
        if lacks {
            return Kinship::Undeclared;
        }
        let is_named = |value: &Value<'_>| {
            let option = conversion.option.as_deref().zip(value.option);
            value.name == "property"
                && option.is_some_and(|(a, b)| a.trim().eq_ignore_ascii_case(b.trim()))
        };
        let mut values = self.fields()[field].parts.iter().filter_map(|part| match part {
            Part::Value(value) => Some(value),
            Part::Text(_) => None,
        });
        match (values.next(), values.all(|value| value.name == "newline")) {
            (Some(value), true) if is_filled_by(conversion, value) => Kinship::Dressed,
            (Some(value), true) if is_named(value) => Kinship::Case,
            _ => Kinship::Other,
        }
    }

    /// The longest common subsequence of fields and columns.
    fn align(&self) -> Vec<Step> {
        let (fields, columns) = (self.fields().len(), self.wanted.len());
        let mut longest = vec![vec![0_usize; columns + 1]; fields + 1];
        for field in (0..fields).rev() {
            for column in (0..columns).rev() {
                longest[field][column] = if self.kinship(field, column) == Kinship::Other {
                    longest[field + 1][column].max(longest[field][column + 1])
                } else {
                    longest[field + 1][column + 1] + 1
                };
            }
        }
        let (mut field, mut column, mut steps) = (0, 0, Vec::new());
        while field < fields || column < columns {
            let kinship = (field < fields && column < columns).then(|| self.kinship(field, column));
            match kinship {
                Some(kinship) if kinship != Kinship::Other => {
                    steps.push(Step::Pair(field, column, kinship));
                    (field, column) = (field + 1, column + 1);
                }
                Some(_) if longest[field][column + 1] >= longest[field + 1][column] => {
                    steps.push(Step::Missing(column));
                    column += 1;
                }
                None if field == fields => {
                    steps.push(Step::Missing(column));
                    column += 1;
                }
                _ => {
                    steps.push(Step::Surplus(field));
                    field += 1;
                }
            }
        }
        steps
    }

    /// Columns that do not hold what they should.
    fn wrong(&self) -> impl Iterator<Item = &Wanted> {
        self.wanted.iter().filter(|wanted| !has_arrived(&self.event, wanted))
    }

    /// What a column holds instead.
    fn instead(&self, wanted: &Wanted) -> String {
        let raw = String::from_utf8_lossy(self.event.raw(wanted.column)).into_owned();
        let field = self.rendered[1..].iter().position(|rendered| *rendered == raw);
        match field {
            _ if raw.is_empty() => "would be empty".to_owned(),
            Some(field) => format!("would hold `{}`", self.source(field)),
            None => format!("would hold text such as `{}`", raw.escape_debug()),
        }
    }

    /// Fields that stand where they should, and are not what they should.
    fn flaws(&self, steps: &[Step]) -> Vec<Finding> {
        let flaw = |step: &Step| {
            let Step::Pair(field, column, kinship) = *step else { return None };
            let wanted = &self.wanted[column];
            if has_arrived(&self.event, wanted) {
                return None;
            }
            let source = self.source(field);
            let (why, hint) = match kinship {
                Kinship::Same | Kinship::Other => return None,
                Kinship::Undeclared => undeclared(&wanted.conversion, &self.fields()[field]),
                Kinship::Case => (
                    format!(
                        "`{source}` is always empty: names of properties are compared letter by letter"
                    ),
                    format!("write `{}`", wanted.conversion),
                ),
                Kinship::Dressed => (
                    format!("`{source}` adds something to the value or cuts it"),
                    format!("write `{}` alone", wanted.conversion),
                ),
            };
            let place =
                self.configuration.place_in(self.subject.pattern, self.fields()[field].range.start);
            let what = format!(
                "{}: field {}, {}: {why}",
                self.subject.named(),
                wanted.index + 1,
                wanted.column.name()
            );
            Some(Finding::error(place, what, hint))
        };
        steps.iter().filter_map(flaw).collect()
    }

    /// Columns that hold what belongs elsewhere.
    fn misplaced(&self, steps: &[Step]) -> Option<Finding> {
        let explained = |wanted: &&Wanted| {
            !steps.iter().any(|step| {
                matches!(step, Step::Pair(field, column, kinship)
                    if *kinship != Kinship::Same
                        && self.wanted[*column].column == wanted.column
                        && field == column)
            })
        };
        let wrong: Vec<&Wanted> = self.wrong().filter(explained).collect();
        let first = wrong.first()?;
        let mut named: Vec<String> = wrong
            .iter()
            .take(COLUMNS_NAMED)
            .map(|wanted| format!("{} {}", wanted.column.name(), self.instead(wanted)))
            .collect();
        if wrong.len() > COLUMNS_NAMED {
            let more = wrong.len() - COLUMNS_NAMED;
            named.push(format!(
                "{more} more column{} would be wrong",
                if more == 1 { "" } else { "s" }
            ));
        }
        let (have, want) = (self.fields().len() + 1, self.wanted.len() + 1);
        let count = if have == want {
            "the fields are not those of the layout".to_owned()
        } else {
            format!(
                "the pattern has {have} fields, {} events have {want}",
                self.subject.kind.name()
            )
        };
        let end = self.subject.pattern.value.len();
        let at = steps.iter().copied().find(|step| !matches!(step, Step::Pair(..))).map_or_else(
            || self.fields().get(first.index - 1).map_or(end, |field| field.range.start),
            |step| match step {
                Step::Pair(field, ..) | Step::Surplus(field) => self.fields()[field].range.start,
                Step::Missing(column) => {
                    self.fields().get(column).map_or(end, |field| field.range.start)
                }
            },
        );
        let place = self.configuration.place_in(self.subject.pattern, at);
        let what = format!("{}: {count}: {}", self.subject.named(), named.join(", "));
        Some(Finding::error(place, what, self.advice(steps)))
    }

    /// Fields behind the last column, which the parser ignores as long as it can.
    fn trailing(&self, steps: &[Step]) -> Option<Finding> {
        let (have, want) = (self.fields().len() + 1, self.wanted.len() + 1);
        let first = self.fields().get(self.wanted.len())?;
        let place = self.configuration.place_in(self.subject.pattern, first.range.start);
        let what = format!(
            "{}: the pattern has {have} fields, {} events have {want}: what is behind them is \
             ignored, but then a `;` in a message can shift columns",
            self.subject.named(),
            self.subject.kind.name()
        );
        Some(Finding::warning(place, what, self.advice(steps)))
    }

    /// The steps to the right pattern.
    fn advice(&self, steps: &[Step]) -> String {
        let missing = steps.iter().filter_map(|step| match step {
            Step::Missing(column) => Some(*column),
            _ => None,
        });
        let mut surplus: Vec<usize> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Surplus(field) => Some(*field),
                _ => None,
            })
            .collect();
        let mut advice = Vec::new();
        for column in missing {
            let wanted = &self.wanted[column];
            let (conversion, number) = (&wanted.conversion, wanted.index + 1);
            let moved =
                surplus.iter().position(|&field| self.kinship(field, column) == Kinship::Same);
            advice.push(if let Some(moved) = moved {
                let source = self.source(surplus.remove(moved));
                format!("move `{source}`: it is to be field {number}")
            } else {
                format!("put in `{conversion}` as field {number}")
            });
        }
        advice.extend(surplus.iter().map(|&field| format!("take out `{}`", self.source(field))));
        if advice.is_empty() || advice.len() > STEPS_MAX {
            return format!("the right pattern is {}", pattern(self.subject.kind));
        }
        advice.join("; ")
    }

    /// What arrives where it should, and yet is not the best.
    fn tolerated(&self, steps: &[Step]) -> Vec<Finding> {
        let note = |step: &Step| {
            let Step::Pair(field, column, Kinship::Same) = *step else { return None };
            let wanted = &self.wanted[column];
            let value = self.fields()[field].value()?;
            let what = remark(wanted, &value, self.subject.kind)?;
            let place =
                self.configuration.place_in(self.subject.pattern, self.fields()[field].range.start);
            let what = format!("{}: {what}", self.subject.named());
            Some(Finding::warning(place, what, format!("write `{}`", wanted.conversion)))
        };
        steps.iter().filter_map(note).collect()
    }
}

/// What log4net makes of a name that no converter was declared for.
fn undeclared(conversion: &Conversion, field: &PatternField<'_>) -> (String, String) {
    let name = conversion.name;
    let parts = field.parts.iter().map(|part| match part {
        Part::Text(text) => format!("the text `{text}`"),
        Part::Value(value) => format!("`%{}`", value.name),
    });
    let taken = parts.collect::<Vec<_>>().join(" and ");
    let why = format!("the layout declares no converter `{name}`: log4net takes it for {taken}");
    let class = class(name).unwrap_or_default();
    let hint = format!(
        r#"add <converter><param name="name" value="{name}" /><param name="type" value="{class}" /></converter> to the layout, before the pattern"#
    );
    (why, hint)
}

fn remark(wanted: &Wanted, value: &Value<'_>, kind: Kind) -> Option<String> {
    let rows = ROW_MAX.to_string();
    match (wanted.column, value.name) {
        (Column::LogRow, _) if value.option != Some(rows.as_str()) => Some(format!(
            "row numbers do not go from 1 to {rows} and begin again: the estimate of what is lost \
             before it reaches Ringside (`upstream_lost_estimate`) would be wrong"
        )),
        (Column::Message, "message") if wanted.conversion.name != "message" => Some(format!(
            "`%message` sends the message as it is: a `;` in it may shift later columns of {} events",
            kind.name()
        )),
        (Column::ExceptionMessage, "exception") => {
            Some("`%exception` sends the exception as it is, with all its lines".to_owned())
        }
        _ if value.max.is_some_and(|max| max < wanted.limit) => Some(format!(
            "{} is cut to its last {} characters; Ringside keeps the first {}",
            wanted.column.name(),
            value.max.unwrap_or_default(),
            wanted.limit
        )),
        _ => None,
    }
}
