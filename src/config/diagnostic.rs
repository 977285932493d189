//! What the operator reads when the file is wrong: where, which key, what, and what to do.
//!
//! Problems are collected, not thrown: a file with five mistakes is corrected in one round.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use super::document::{Data, Node, Path, Place, Position};

/// One problem or warning, at one place of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file as it was named on the command line.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key, such as `Butler-SOS.logEvents.udpServerConfig.portLogEvents`; empty when the file as
    /// a whole is meant.
    pub path: String,
    /// What is wrong. Never holds the value of a secret.
    pub what: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// On two lines; with `{:#}` on one, as a log has it.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)?;
        if !self.hint.is_empty() {
            let before = if f.alternate() { "; " } else { "\n  hint: " };
            write!(f, "{before}{}", self.hint)?;
        }
        Ok(())
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: {source}\n  hint: check that the file exists and that this user may read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file was read and is wrong.
    #[error("{}", lines(problems))]
    Invalid {
        /// Everything that has to be corrected, in the order of the file.
        problems: Vec<Diagnostic>,
        /// What would have been said about a file without the problems.
        warnings: Vec<Diagnostic>,
    },
}

fn lines(problems: &[Diagnostic]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What is wrong and what to do, before it is known where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub what: String,
    pub hint: String,
}

impl Fault {
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }
}

/// Collects diagnostics and knows where in the file each key stands.
#[derive(Debug)]
pub(super) struct Report<'d> {
    file: Arc<str>,
    root: &'d Node,
    /// Sections that other settings switch off, as key paths; their limits are not judged.
    pub unused: Vec<String>,
    /// Settings that the file uses and this version does nothing with yet.
    without_effect: BTreeMap<Position, String>,
    problems: Vec<(Position, Diagnostic)>,
    warnings: Vec<(Position, Diagnostic)>,
}

impl<'d> Report<'d> {
    pub fn new(file: &str, root: &'d Node) -> Self {
        Self {
            file: file.into(),
            root,
            unused: Vec::new(),
            without_effect: BTreeMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// A value that cannot be read. In a section that is switched off it does no harm, and Butler
    /// SOS accepts such a file: a warning.
    pub fn unreadable(&mut self, path: &Path<'_>, fault: Fault) {
        let place = path.locate(self.root);
        if place.disabled {
            let hint = "the section is disabled and the value is not used; correct it before use";
            self.warning_at(place.at, path.to_string(), Fault::new(fault.what, hint));
        } else {
            self.problem_at(place.at, path.to_string(), fault);
        }
    }

    /// A value of the file outside its limits. Defaults are not judged, and values of sections that are
    /// switched off neither: template files leave their placeholders there.
    pub fn outside_limits(&mut self, path: &Path<'_>, fault: Fault) {
        let place = path.locate(self.root);
        let shown = path.to_string();
        let unused = self.unused.iter().any(|section| {
            shown.strip_prefix(section.as_str()).is_some_and(|rest| rest.starts_with('.'))
        });
        if place.node.is_some() && !place.disabled && !unused {
            self.problem_at(place.at, path.to_string(), fault);
        }
    }

    /// A problem whatever the section says.
    pub fn problem(&mut self, path: &Path<'_>, fault: Fault) {
        self.problem_at(path.locate(self.root).at, path.to_string(), fault);
    }

    /// A problem at a place that the caller knows better than the path.
    pub fn problem_at(&mut self, at: Position, path: String, fault: Fault) {
        let diagnostic = self.diagnostic(at, path, fault);
        self.problems.push((at, diagnostic));
    }

    pub fn warning(&mut self, path: &Path<'_>, fault: Fault) {
        self.warning_at(path.locate(self.root).at, path.to_string(), fault);
    }

    pub fn warning_at(&mut self, at: Position, path: String, fault: Fault) {
        let diagnostic = self.diagnostic(at, path, fault);
        self.warnings.push((at, diagnostic));
    }

    /// Notes a setting that has no effect yet, if the file makes use of it.
    pub fn not_yet(&mut self, path: &Path<'_>) {
        let Place { node: Some(node), at, disabled: false } = path.locate(self.root) else {
            return;
        };
        let used = match &node.data {
            Data::Bool(on) => *on,
            Data::Integer(_) | Data::Float(_) => true,
            Data::Text(text) => !text.is_empty(),
            Data::Sequence(items) => !items.is_empty(),
            Data::Mapping(entries) => !entries.is_empty() && !node.is_disabled(),
            Data::Null => false,
        };
        if used {
            self.without_effect.insert(at, path.to_string());
        }
    }

    /// One warning for a list of keys, at the first of them.
    pub fn summarise(&mut self, keys: BTreeMap<Position, String>, what: &str, hint: &str) {
        let Some((at, _)) = keys.first_key_value() else { return };
        let at = *at;
        let names: Vec<_> = keys
            .into_values()
            .map(|path| path.strip_prefix("Butler-SOS.").unwrap_or(&path).to_owned())
            .collect();
        let what = format!("{what}: {}", names.join(", "));
        self.warning_at(at, "Butler-SOS".to_owned(), Fault::new(what, hint));
    }

    pub fn take_without_effect(&mut self) -> BTreeMap<Position, String> {
        std::mem::take(&mut self.without_effect)
    }

    /// The node of a key, when the file has the key.
    pub fn node(&self, path: &Path<'_>) -> Option<&'d Node> {
        path.locate(self.root).node
    }

    pub fn position(&self, path: &Path<'_>) -> Position {
        path.locate(self.root).at
    }

    /// Whether a section on the way to the key says `enable: false`.
    pub fn is_disabled(&self, path: &Path<'_>) -> bool {
        path.locate(self.root).disabled
    }

    pub fn problems(&self) -> usize {
        self.problems.len()
    }

    /// Problems and warnings, each in the order of the file.
    pub fn finish(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let in_order = |mut found: Vec<(Position, Diagnostic)>| {
            found.sort_by_key(|(at, _)| *at);
            found.into_iter().map(|(_, diagnostic)| diagnostic).collect()
        };
        (in_order(self.problems), in_order(self.warnings))
    }

    fn diagnostic(&self, at: Position, path: String, fault: Fault) -> Diagnostic {
        Diagnostic {
            file: Arc::clone(&self.file),
            line: at.line,
            column: at.column,
            path,
            what: fault.what,
            hint: fault.hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_it_on_one_line() {
        let diagnostic = Diagnostic {
            file: "f.yaml".into(),
            line: 2,
            column: 3,
            path: "a.b".into(),
            what: "unknown key".into(),
            hint: "remove it".into(),
        };
        assert_eq!(diagnostic.to_string(), "f.yaml:2:3: a.b: unknown key\n  hint: remove it");
        assert_eq!(format!("{diagnostic:#}"), "f.yaml:2:3: a.b: unknown key; remove it");
    }
}
