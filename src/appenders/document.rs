//! Reads a file into what log4net makes of it: appenders and loggers, with the place of everything
//! that can be said to be wrong.
//!
//! Parameters are found in any case of letters, as log4net finds them; names of elements and
//! attributes are not. What log4net and Sense do not know is not read, but noted.

use std::borrow::Cow;

use roxmltree::{Attribute, Document, Node, TextPos};

use super::finding::Finding;

/// A text of the file and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    pub value: &'a str,
    /// Byte of the file at which it begins.
    pub start: usize,
}

/// `<param name="…" value="…" />`
#[derive(Clone, Copy, Debug)]
pub(super) struct Param<'a> {
    pub name: &'a str,
    pub value: Text<'a>,
}

/// A filter and its parameters.
#[derive(Clone, Debug)]
pub(super) struct Filter<'a> {
    pub class: Text<'a>,
    pub params: Vec<Param<'a>>,
}

/// A layout: converters that its pattern may use, and the pattern.
#[derive(Clone, Debug)]
pub(super) struct Layout<'a> {
    pub class: Text<'a>,
    /// Name and class.
    pub converters: Vec<(Text<'a>, Text<'a>)>,
    pub params: Vec<Param<'a>>,
}

/// An appender.
#[derive(Clone, Debug)]
pub(super) struct Appender<'a> {
    pub name: Text<'a>,
    pub class: Text<'a>,
    pub filters: Vec<Filter<'a>>,
    pub params: Vec<Param<'a>>,
    pub layout: Option<Layout<'a>>,
}

/// A logger; the root logger has an empty name, of which all others are below.
#[derive(Clone, Debug)]
pub(super) struct Logger<'a> {
    pub name: Text<'a>,
    pub additive: bool,
    pub level: Option<Text<'a>>,
    pub refs: Vec<Text<'a>>,
}

/// A file.
#[derive(Debug)]
pub(super) struct Configuration<'a> {
    document: &'a Document<'a>,
    pub appenders: Vec<Appender<'a>>,
    pub loggers: Vec<Logger<'a>>,
    /// What Sense's schema does not allow.
    pub findings: Vec<Finding>,
}

/// The last parameter of this name: it is the one that counts.
pub(super) fn param<'a>(params: &[Param<'a>], name: &str) -> Option<Text<'a>> {
    let named = params.iter().rev().find(|param| param.name.eq_ignore_ascii_case(name));
    named.map(|param| param.value)
}

/// Whether a class is this one: log4net looks it up in any case, with or without its assembly.
pub(super) fn is_class(class: &str, name: &str) -> bool {
    let class = class.split(',').next().unwrap_or_default().trim();
    class.eq_ignore_ascii_case(name)
}

/// The order of elements that Sense's schema has, as far as it is known: a sequence for each element.
static SEQUENCES: [(&str, &[&str]); 2] = [
    ("appender", &["filter", "evaluator", "lossyevaluator", "param"]),
    ("layout", &["converter", "param"]),
];

/// Every element of the schema.
static ELEMENTS: [&str; 10] = [
    "appender",
    "appender-ref",
    "configuration",
    "converter",
    "evaluator",
    "filter",
    "layout",
    "logger",
    "lossyevaluator",
    "param",
];

/// What happens to a file that does not conform.
const REFUSED: &str =
    "the services compare the file with Sense's schema and refuse all of it: nothing would arrive";

impl<'a> Configuration<'a> {
    pub fn read(document: &'a Document<'a>) -> Self {
        let mut read =
            Self { document, appenders: Vec::new(), loggers: Vec::new(), findings: Vec::new() };
        let root = document.root_element();
        if !root.has_tag_name("configuration") {
            let what = format!("the outermost element is <{}>; {REFUSED}", root.tag_name().name());
            read.error(root, what, "call it <configuration>");
        }
        for element in root.descendants().filter(Node::is_element) {
            read.conform(element);
        }
        for element in root.children().filter(Node::is_element) {
            match element.tag_name().name() {
                "appender" => read.appenders.push(appender(element)),
                "logger" | "category" => {
                    let name = attribute(element, "name");
                    read.loggers.push(logger(element, name));
                }
                "root" => {
                    let name = Text { value: "", start: element.range().start };
                    read.loggers.push(logger(element, name));
                }
                _ => {}
            }
        }
        read
    }

    /// The line and column of a byte of the file.
    pub fn place(&self, start: usize) -> TextPos {
        self.document.text_pos_at(start)
    }

    /// The place of a byte of a text. Where characters are written as entities, that of the text.
    pub fn place_in(&self, text: Text<'_>, at: usize) -> TextPos {
        let source = &self.document.input_text()[text.start..];
        let offset = if source.starts_with(text.value) { at } else { 0 };
        self.place(text.start + offset)
    }

    fn error(&mut self, element: Node<'_, '_>, what: String, hint: impl Into<String>) {
        let place = self.place(element.range().start);
        self.findings.push(Finding::error(place, what, hint));
    }

    /// Notes what the schema does not allow.
    fn conform(&mut self, element: Node<'a, 'a>) {
        let name = element.tag_name().name();
        let meant =
            ELEMENTS.iter().find(|known| **known != name && known.eq_ignore_ascii_case(name));
        if let Some(meant) = meant {
            let what = format!("no element is called <{name}>; {REFUSED}");
            self.error(element, what, format!("write <{meant}>"));
        }
        let inside = element.parent_element().map_or("", |parent| parent.tag_name().name());
        let holds_params = ["appender", "layout", "filter", "converter"].contains(&inside);
        if holds_params && !ELEMENTS.contains(&name) && element.attribute("value").is_some() {
            let value = element.attribute("value").unwrap_or_default();
            let what = format!("parameters are not written as <{name} value=\"…\">; {REFUSED}");
            self.error(element, what, format!(r#"write <param name="{name}" value="{value}" />"#));
        }
        self.conform_order(element);
    }

    /// Notes children that come after some that they should come before.
    fn conform_order(&mut self, element: Node<'a, 'a>) {
        let name = element.tag_name().name();
        let Some((_, sequence)) = SEQUENCES.iter().find(|(known, _)| *known == name) else {
            return;
        };
        let mut last = 0;
        for child in element.children().filter(Node::is_element) {
            let own = child.tag_name().name();
            let Some(rank) = sequence.iter().position(|known| *known == own) else { continue };
            if rank < last {
                let early = sequence[last];
                let what = format!("<{own}> comes after <{early}> in this {name}; {REFUSED}");
                self.error(child, what, format!("put every <{own}> in front of every <{early}>"));
            }
            last = last.max(rank);
        }
    }
}

/// The value of an attribute; if there is none, an empty text at the element.
fn attribute<'a>(element: Node<'a, 'a>, name: &str) -> Text<'a> {
    let start = element.range().start;
    element.attribute_node(name).map_or(Text { value: "", start }, |attribute| text_of(&attribute))
}

/// A parameter in either of log4net's two forms.
fn params<'a>(element: Node<'a, 'a>) -> Vec<Param<'a>> {
    let children = element.children().filter(Node::is_element);
    let written = children.filter(|child| child.has_attribute("value"));
    written
        .map(|child| {
            let own = child.tag_name().name();
            let name = child.attribute("name").filter(|name| own == "param" && !name.is_empty());
            Param { name: name.unwrap_or(own), value: attribute(child, "value") }
        })
        .collect()
}

fn appender<'a>(element: Node<'a, 'a>) -> Appender<'a> {
    let named = |name| element.children().filter(move |child| child.has_tag_name(name));
    let filter = |filter| Filter { class: attribute(filter, "type"), params: params(filter) };
    Appender {
        name: attribute(element, "name"),
        class: attribute(element, "type"),
        filters: named("filter").map(filter).collect(),
        params: params(element),
        layout: named("layout").next_back().map(layout),
    }
}

fn layout<'a>(element: Node<'a, 'a>) -> Layout<'a> {
    let converters = element.children().filter(|child| child.has_tag_name("converter"));
    let converter = |converter: Node<'a, 'a>| {
        let given = params(converter);
        let nothing = Text { value: "", start: converter.range().start };
        let get = |name| param(&given, name).unwrap_or(nothing);
        (get("name"), get("type"))
    };
    Layout {
        class: attribute(element, "type"),
        converters: converters.map(converter).collect(),
        params: params(element),
    }
}

fn logger<'a>(element: Node<'a, 'a>, name: Text<'a>) -> Logger<'a> {
    let children = |name| element.children().filter(move |child| child.has_tag_name(name));
    let additivity = element.attribute("additivity").unwrap_or_default();
    let level = children("level").chain(children("priority")).next_back();
    Logger {
        name,
        additive: !additivity.trim().eq_ignore_ascii_case("false"),
        level: level.map(|level| attribute(level, "value")),
        refs: children("appender-ref").map(|child| attribute(child, "ref")).collect(),
    }
}

fn text_of<'a>(attribute: &Attribute<'a, 'a>) -> Text<'a> {
    Text { value: attribute.value(), start: attribute.range_value().start }
}

/// Names of encodings with two bytes for a character, in lower case.
const UTF16_NAMES: [&str; 3] = ["utf-16", "ucs-2", "iso-10646-ucs-2"];

/// The encoding that the XML declaration names.
fn declared_encoding(text: &str) -> Option<&str> {
    let (declaration, _) = text.strip_prefix("<?xml")?.split_once("?>")?;
    let (_, value) = declaration.split_once("encoding")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    value[1..].split(quote).next()
}

/// The characters of a file, as the XML reader of the Sense server finds them.
pub(super) fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Finding> {
    let start = TextPos::new(1, 1);
    let save = "save it as UTF-8";
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let is_not = "the file begins as UTF-16 and is not; Sense cannot read it";
        let (pairs, []) = bytes.as_chunks::<2>() else {
            return Err(Finding::error(start, is_not, save));
        };
        let text: Result<String, _> =
            char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect();
        let text = text.map_err(|_| Finding::error(start, is_not, save))?;
        // .NET's reader of XML goes on with the encoding that is declared.
        if let Some(declared) = declared_encoding(&text)
            && !UTF16_NAMES.contains(&declared.to_ascii_lowercase().as_str())
        {
            let what = format!(
                "the file is UTF-16 and says that it is {}; Sense cannot read it",
                declared.escape_debug()
            );
            return Err(Finding::error(start, what, save));
        }
        Ok(Cow::Owned(text))
    };
    match bytes {
        [0xFF, 0xFE, rest @ ..] => return utf16(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => return utf16(rest, u16::from_be_bytes),
        _ => {}
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = &bytes[..error.valid_up_to()];
        let line = valid.split(|&byte| byte == b'\n').next_back().unwrap_or_default();
        let row = memchr::memchr_iter(b'\n', valid).count() + 1;
        let col = String::from_utf8_lossy(line).chars().count() + 1;
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let place = TextPos::new(number(row), number(col));
        Finding::error(place, "the file is not UTF-8 text from here on", save)
    })?;
    if declared_encoding(text)
        .is_some_and(|name| UTF16_NAMES.contains(&name.to_ascii_lowercase().as_str()))
    {
        let what = "the file says that it is UTF-16 and is not; Sense cannot read it";
        return Err(Finding::error(start, what, r#"write encoding="utf-8" in its first line"#));
    }
    Ok(Cow::Borrowed(text))
}
