//! The YAML file as a tree that knows where everything stands.
//!
//! Built from the parser's events rather than taken from a ready-made loader, because ready-made trees
//! let a second key of the same name win in silence and copy aliases without a limit.

use std::{borrow::Cow, collections::HashMap, fmt};

use saphyr::Scalar;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::diagnostic::Fault;

/// A file has about 700 nodes when every key of the template is given; lists of filters and
/// exclusions may be long. The limit stops aliases that multiply themselves.
const NODES_MAX: usize = 100_000;

/// The deepest key of the template is at level 9. The limit keeps recursion over the tree short.
const DEPTH_MAX: usize = 64;

/// Where something begins, both from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    pub const START: Self = Self { line: 1, column: 1 };
}

impl From<Marker> for Position {
    fn from(marker: Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

/// A value of the document.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Names the node in sets; the nodes of an alias share the ids of what it points to.
    pub id: usize,
    pub at: Position,
    pub data: Data,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(super) enum Data {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A key of a mapping, with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub key_at: Position,
    pub value: Node,
}

impl Node {
    pub fn entries(&self) -> &[Entry] {
        if let Data::Mapping(entries) = &self.data { entries } else { &[] }
    }

    pub fn items(&self) -> &[Self] {
        if let Data::Sequence(items) = &self.data { items } else { &[] }
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// Whether the mapping says of itself that it is off. `appNames` has a word of its own for it.
    pub fn is_disabled(&self) -> bool {
        ["enable", "enableAppNameExtract"].iter().any(|key| {
            self.get(key).is_some_and(|entry| matches!(entry.value.data, Data::Bool(false)))
        })
    }

    fn size(&self) -> usize {
        1 + match &self.data {
            Data::Sequence(items) => items.iter().map(Self::size).sum(),
            Data::Mapping(entries) => entries.iter().map(|entry| entry.value.size()).sum(),
            _ => 0,
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.data {
            Data::Sequence(items) => items.iter().map(Self::depth).max(),
            Data::Mapping(entries) => entries.iter().map(|entry| entry.value.depth()).max(),
            _ => None,
        }
        .unwrap_or(0)
    }
}

/// The way from the root of the document to a key; lives on the stack of whoever walks the tree.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    /// Several keys with dots between them.
    Keys(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

/// What is at the end of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'d> {
    /// `None` when the file does not have the key; `at` is then the nearest section that it has.
    pub node: Option<&'d Node>,
    /// The value if it is a scalar or an item of a list, else the key that leads to it.
    pub at: Position,
    /// A section on the way says `enable: false`.
    pub disabled: bool,
}

impl<'d> Place<'d> {
    fn key(self, key: &str) -> Self {
        let Some(node) = self.node else { return self };
        let disabled = self.disabled || node.is_disabled();
        match node.get(key) {
            None => Self { node: None, disabled, ..self },
            Some(Entry { key_at, value, .. }) => {
                let branch = matches!(value.data, Data::Sequence(_) | Data::Mapping(_));
                let at = if branch { *key_at } else { value.at };
                Self { node: Some(value), at, disabled }
            }
        }
    }

    fn index(self, index: usize) -> Self {
        let Some(Node { data: Data::Sequence(items), .. }) = self.node else {
            return Self { node: None, ..self };
        };
        let node = items.get(index);
        Self { node, at: node.map_or(self.at, |node| node.at), ..self }
    }
}

impl Path<'_> {
    pub fn locate<'d>(&self, root: &'d Node) -> Place<'d> {
        match self {
            Self::Root => Place { node: Some(root), at: root.at, disabled: false },
            Self::Key(parent, key) => parent.locate(root).key(key),
            Self::Keys(parent, keys) => keys.split('.').fold(parent.locate(root), Place::key),
            Self::Index(parent, index) => parent.locate(root).index(*index),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Path::Root, key) => f.write_str(key),
            Self::Key(parent, key) | Self::Keys(parent, key) => write!(f, "{parent}.{key}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A fault of the text itself, with its place.
#[derive(Debug)]
pub(super) struct Misplaced {
    pub at: Position,
    /// The key, empty when the text could not be read that far.
    pub path: String,
    pub fault: Fault,
}

impl Misplaced {
    fn new(at: Position, what: impl Into<String>, hint: &str) -> Self {
        Self { at, path: String::new(), fault: Fault::new(what, hint) }
    }
}

/// Reads a document. Duplicate keys do not end the reading: they come back beside the tree, which
/// keeps the first of them.
pub(super) fn read(text: &str) -> Result<(Node, Vec<Misplaced>), Misplaced> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let at = Position::from(*error.marker());
            Misplaced::new(at, format!("not valid YAML: {}", error.info()), yaml_hint(text, at))
        })?;
        builder.take(event, span.start.into())?;
    }
    let root = builder.root.ok_or_else(|| {
        let hint = "the file has to hold the key `Butler-SOS` with the settings below it";
        Misplaced::new(Position::START, "the file is empty", hint)
    })?;
    Ok((root, builder.duplicates))
}

fn yaml_hint(text: &str, at: Position) -> &'static str {
    // A scanner stops at the tab or on the line after it.
    let near = text.lines().skip(at.line.saturating_sub(2)).take(2);
    let tab = |line: &str| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    if near.into_iter().any(tab) {
        "indent with spaces: YAML forbids tabs there"
    } else {
        "look at this line and the one before: indentation, quotes, a colon without a space"
    }
}

/// A collection whose end has not been seen.
#[derive(Debug)]
struct Open {
    node: Node,
    anchor: usize,
    /// The key that waits for its value, in a mapping.
    key: Option<(String, Position)>,
}

#[derive(Debug, Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    duplicates: Vec<Misplaced>,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Position) -> Result<(), Misplaced> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if self.wants_key() {
                    self.key(text.into_owned(), at);
                    return Ok(());
                }
                let data = scalar(text, style, tag.as_ref());
                let node = self.node(at, data)?;
                self.add(node, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(at, anchor, Data::Sequence(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(at, anchor, Data::Mapping(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { mut node, anchor, .. }) = self.open.pop() else { return Ok(()) };
                merge(&mut node);
                self.add(node, anchor)
            }
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::DocumentStart(_) if self.root.is_some() => {
                let hint = "keep one: everything after the second `---` would be lost";
                Err(Misplaced::new(at, "the file holds more than one YAML document", hint))
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn wants_key(&self) -> bool {
        self.open
            .last()
            .is_some_and(|open| matches!(open.node.data, Data::Mapping(_)) && open.key.is_none())
    }

    fn key(&mut self, key: String, at: Position) {
        let first = self.open.last().and_then(|open| open.node.get(&key));
        if let Some(first) = first.filter(|_| key != MERGE) {
            let what = format!(
                "the key `{key}` is here a second time; the first is at line {}, column {}",
                first.key_at.line, first.key_at.column
            );
            let path = format!("{}{key}", self.prefix());
            self.duplicates.push(Misplaced {
                at,
                path,
                fault: Fault::new(what, "keep one of them"),
            });
        }
        if let Some(open) = self.open.last_mut() {
            open.key = Some((key, at));
        }
    }

    /// The path of what is open, with the dot that a key after it needs.
    fn prefix(&self) -> String {
        let mut prefix = String::new();
        for open in &self.open {
            match (&open.node.data, &open.key) {
                (Data::Sequence(items), _) => {
                    prefix.pop();
                    prefix.push_str(&format!("[{}].", items.len()));
                }
                (_, Some((key, _))) => prefix.push_str(&format!("{key}.")),
                (_, None) => {}
            }
        }
        prefix
    }

    fn node(&mut self, at: Position, data: Data) -> Result<Node, Misplaced> {
        self.count(1, at)?;
        Ok(Node { id: self.nodes, at, data })
    }

    fn count(&mut self, more: usize, at: Position) -> Result<(), Misplaced> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > NODES_MAX {
            let what = format!("the file has more than {NODES_MAX} values, aliases included");
            return Err(Misplaced::new(at, what, "shorten the lists; do not nest aliases"));
        }
        Ok(())
    }

    fn nested(&self, more: usize, at: Position) -> Result<(), Misplaced> {
        if self.open.len() + more > DEPTH_MAX {
            let what = format!("the file is nested deeper than {DEPTH_MAX} levels");
            return Err(Misplaced::new(at, what, "no setting is deeper than 10"));
        }
        Ok(())
    }

    fn begin(&mut self, at: Position, anchor: usize, data: Data) -> Result<(), Misplaced> {
        if self.wants_key() {
            let what = "a key is a list or a section";
            return Err(Misplaced::new(
                at,
                what,
                "keys are plain words; values after `{` need quotes",
            ));
        }
        self.nested(1, at)?;
        let node = self.node(at, data)?;
        self.open.push(Open { node, anchor, key: None });
        Ok(())
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<(), Misplaced> {
        let Some(node) = self.anchors.get(&anchor) else {
            let what = "an alias points to a value that is not complete yet";
            return Err(Misplaced::new(at, what, "write the value out"));
        };
        let node = Node { at, ..node.clone() };
        self.nested(node.depth(), at)?;
        self.count(node.size(), at)?;
        self.add(node, 0)
    }

    /// Puts a finished node into what is open around it. Anchor 0 means none.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Misplaced> {
        if anchor != 0 {
            // The copy is bounded like an alias: anchors within anchors would multiply.
            self.count(node.size(), node.at)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.data {
            Data::Sequence(items) => items.push(node),
            Data::Mapping(entries) => {
                if let Some((key, key_at)) = open.key.take()
                    && (key == MERGE || entries.iter().all(|entry| entry.key != key))
                {
                    entries.push(Entry { key, key_at, value: node });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The key that copies the entries of an alias into a mapping. Not YAML 1.2, but js-yaml, which reads
/// the file for Butler SOS, knows it.
const MERGE: &str = "<<";

fn merge(node: &mut Node) {
    let Data::Mapping(entries) = &mut node.data else { return };
    while let Some(index) = entries.iter().position(|entry| entry.key == MERGE) {
        let merged = entries.remove(index).value;
        let sources = match merged.data {
            Data::Sequence(items) => items,
            _ => vec![merged],
        };
        for entry in sources.iter().flat_map(Node::entries) {
            if entries.iter().all(|own| own.key != entry.key) {
                entries.push(entry.clone());
            }
        }
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Cow<'_, Tag>>) -> Data {
    let original = text.clone();
    match Scalar::parse_from_cow_and_metadata(text, style, tag) {
        Some(Scalar::Null) => Data::Null,
        Some(Scalar::Boolean(value)) => Data::Bool(value),
        Some(Scalar::Integer(value)) => Data::Integer(value),
        Some(Scalar::FloatingPoint(value)) => Data::Float(value.into_inner()),
        Some(Scalar::String(value)) => Data::Text(value.into_owned()),
        // A tag that does not fit its value, such as `!!int x`: text, which the reader will refuse.
        None => Data::Text(original.into_owned()),
    }
}
