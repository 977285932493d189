//! Reads a conversion pattern as log4net does.
//!
//! After `%` come a minimum and a maximum width (`-5.20`), the name of a converter and an option in
//! braces. log4net takes the longest name that it knows and that the text begins with; names are
//! compared letter by letter. If there is none, it drops the `%` and the rest is text. So `%rownum`
//! without its converter is `%r` (milliseconds since the start) and the text `ownum`.

use std::ops::Range;

/// The converters that log4net has itself, and the name under which they are known here.
static BUILT_IN: [(&str, &str); 49] = [
    ("a", "appdomain"),
    ("appdomain", "appdomain"),
    ("aspnet-cache", "aspnet-cache"),
    ("aspnet-context", "aspnet-context"),
    ("aspnet-request", "aspnet-request"),
    ("aspnet-session", "aspnet-session"),
    ("C", "type"),
    ("class", "type"),
    ("type", "type"),
    ("c", "logger"),
    ("logger", "logger"),
    ("d", "date"),
    ("date", "date"),
    ("exception", "exception"),
    ("F", "file"),
    ("file", "file"),
    ("l", "location"),
    ("location", "location"),
    ("L", "line"),
    ("line", "line"),
    ("literal", "literal"),
    ("m", "message"),
    ("message", "message"),
    ("M", "method"),
    ("method", "method"),
    ("n", "newline"),
    ("newline", "newline"),
    ("p", "level"),
    ("level", "level"),
    ("P", "property"),
    ("property", "property"),
    ("properties", "property"),
    ("X", "property"),
    ("mdc", "property"),
    ("r", "timestamp"),
    ("timestamp", "timestamp"),
    ("stacktrace", "stacktrace"),
    ("stacktracedetail", "stacktracedetail"),
    ("t", "thread"),
    ("thread", "thread"),
    ("u", "identity"),
    ("identity", "identity"),
    ("utcdate", "utcdate"),
    ("utcDate", "utcdate"),
    ("UtcDate", "utcdate"),
    ("w", "username"),
    ("username", "username"),
    ("x", "ndc"),
    ("ndc", "ndc"),
];

/// A value that log4net fills in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    /// Its name; that of the long form for log4net's own.
    pub name: &'a str,
    pub option: Option<&'a str>,
    /// Fewest characters; spaces fill it up.
    pub min: usize,
    /// Most characters; the first ones are cut off.
    pub max: Option<usize>,
}

/// A part of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Value(Value<'a>),
}

/// What stands between two separators.
#[derive(Clone, Debug, Default)]
pub(super) struct PatternField<'a> {
    pub parts: Vec<Part<'a>>,
    /// Where it stands in the pattern.
    pub range: Range<usize>,
}

impl<'a> PatternField<'a> {
    /// The only part, if it is a value.
    pub fn value(&self) -> Option<Value<'a>> {
        match self.parts[..] {
            [Part::Value(value)] => Some(value),
            _ => None,
        }
    }
}

/// The fields of a pattern; `declared` are the converters that the layout adds to log4net's own.
pub(super) fn fields<'a>(pattern: &'a str, declared: &[&'a str]) -> Vec<PatternField<'a>> {
    let mut reader = Reader { pattern, declared, fields: vec![PatternField::default()] };
    let mut at = 0;
    while at < pattern.len() {
        let rest = &pattern[at..];
        let text = rest.find('%').unwrap_or(rest.len());
        if text > 0 {
            reader.text(at, text);
            at += text;
        } else if rest == "%" {
            reader.text(at, 1);
            at += 1;
        } else if rest.starts_with("%%") {
            reader.text(at, 1);
            at += 2;
        } else {
            at = reader.value(at + 1);
        }
    }
    reader.end(pattern.len());
    reader.fields
}

struct Reader<'a, 'd> {
    pattern: &'a str,
    declared: &'d [&'a str],
    fields: Vec<PatternField<'a>>,
}

impl<'a> Reader<'a, '_> {
    fn push(&mut self, part: Part<'a>) {
        if let Some(field) = self.fields.last_mut() {
            field.parts.push(part);
        }
    }

    /// The field before this byte is complete.
    fn end(&mut self, at: usize) {
        if let Some(field) = self.fields.last_mut() {
            field.range.end = at;
        }
    }

    fn text(&mut self, at: usize, len: usize) {
        let mut start = at;
        for (index, piece) in self.pattern[at..at + len].split(';').enumerate() {
            if index > 0 {
                self.end(start - 1);
                let range = start..start;
                self.fields.push(PatternField { parts: Vec::new(), range });
            }
            if !piece.is_empty() {
                self.push(Part::Text(piece));
            }
            start += piece.len() + 1;
        }
    }

    /// What stands after a `%`; returns where the rest begins.
    fn value(&mut self, at: usize) -> usize {
        let mut rest = &self.pattern[at..];
        rest = rest.strip_prefix('-').unwrap_or(rest);
        let min = number(&mut rest);
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let max = number(&mut rest);
        let built_in = BUILT_IN.iter().map(|&(name, meaning)| (name, meaning));
        let declared = self.declared.iter().map(|&name| (name, name));
        // The layout's own come last and win where they have the name of a built-in.
        let known = built_in.chain(declared).filter(|(name, _)| rest.starts_with(name));
        let longest = known.filter(|(name, _)| !name.is_empty()).max_by_key(|(name, _)| name.len());
        let Some((name, meaning)) = longest else {
            return self.pattern.len() - rest.len();
        };
        rest = &rest[name.len()..];
        let mut option = None;
        if let Some(braced) = rest.strip_prefix('{') {
            // Without an end it is no option, but the brace is gone.
            rest = braced;
            if let Some((inside, behind)) = braced.split_once('}') {
                (option, rest) = (Some(inside), behind);
            }
        }
        let min = min.unwrap_or_default();
        self.push(Part::Value(Value { name: meaning, option, min, max }));
        self.pattern.len() - rest.len()
    }
}

/// Takes the digits that the text begins with. A width beyond any datagram is as good as the widest.
fn number(rest: &mut &str) -> Option<usize> {
    const WIDEST: usize = 65_535;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, behind) = rest.split_at(digits);
    *rest = behind;
    (digits > 0).then(|| number.parse().map_or(WIDEST, |number: usize| number.min(WIDEST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(pattern: &'a str, declared: &[&'a str]) -> Vec<Vec<Part<'a>>> {
        fields(pattern, declared).into_iter().map(|field| field.parts).collect()
    }

    fn value<'a>(name: &'a str, option: Option<&'a str>) -> Part<'a> {
        Part::Value(Value { name, option, min: 0, max: None })
    }

    #[test]
    fn fields_are_text_and_values() {
        let read = read("/type/;%rownum{9999};a%date b;%property{Exe Version};", &["rownum"]);
        assert_eq!(
            read,
            [
                vec![Part::Text("/type/")],
                vec![value("rownum", Some("9999"))],
                vec![Part::Text("a"), value("date", None), Part::Text(" b")],
                vec![value("property", Some("Exe Version"))],
                vec![],
            ]
        );
    }

    #[test]
    fn ranges_are_those_of_the_fields() {
        let pattern = "/type/;%m;;%5.7p{x}";
        let read = fields(pattern, &[]);
        let texts: Vec<&str> = read.iter().map(|field| &pattern[field.range.clone()]).collect();
        assert_eq!(texts, ["/type/", "%m", "", "%5.7p{x}"]);
        assert_eq!(
            read[3].value(),
            Some(Value { name: "level", option: Some("x"), min: 5, max: Some(7) })
        );
    }

    #[test]
    fn names_are_the_longest_known() {
        assert_eq!(
            read("%rownum{9}", &[]),
            [vec![value("timestamp", None), Part::Text("ownum{9}")]]
        );
        assert_eq!(read("%hostname", &[]), [vec![Part::Text("hostname")]]);
        assert_eq!(read("%user", &[]), [vec![value("identity", None), Part::Text("ser")]]);
        assert_eq!(read("%user", &["user"]), [vec![value("user", None)]]);
        assert_eq!(read("%username", &["user"]), [vec![value("username", None)]]);
        assert_eq!(read("%Date", &[]), [vec![Part::Text("Date")]]);
    }

    #[test]
    fn odd_ends() {
        assert_eq!(read("%", &[]), [vec![Part::Text("%")]]);
        assert_eq!(read("5%%", &[]), [vec![Part::Text("5"), Part::Text("%")]]);
        assert_eq!(read("%-", &[]), [vec![]]);
        assert_eq!(read("%m{x", &[]), [vec![value("message", None), Part::Text("x")]]);
        assert_eq!(read("%99999999999999999999m", &[]).len(), 1);
        assert_eq!(read("", &[""]), [vec![]]);
    }
}
