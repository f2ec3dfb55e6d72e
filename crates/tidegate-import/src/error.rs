//! Why there is no document.

use std::fmt;

/// A template that cannot be read, or an API that cannot be described.
///
/// Shown as `line 12: a key that is no text`. It names keys and never values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportError {
    /// From 1, where the template has one.
    pub line: Option<usize>,
    /// For whoever wrote it.
    pub message: String,
}

impl ImportError {
    pub(crate) fn at(line: usize, message: impl Into<String>) -> Self {
        Self { line: Some(line).filter(|line| *line > 0), message: message.into() }
    }

    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self { line: None, message: message.into() }
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for ImportError {}
