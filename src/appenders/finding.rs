//! What is said about a file: where, what arrives wrong, and what to do.

use roxmltree::TextPos;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something does not arrive, or arrives wrong.
    Error,
    /// It may be meant.
    Warning,
}

/// One thing to know about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong, and what comes of it.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl Finding {
    pub(super) fn error(at: TextPos, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Severity::Error, at, what, hint)
    }

    pub(super) fn warning(at: TextPos, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Severity::Warning, at, what, hint)
    }

    fn new(
        severity: Severity,
        at: TextPos,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let (what, hint) = (what.into(), hint.into());
        Self { severity, line: at.row, column: at.col, what, hint }
    }
}
