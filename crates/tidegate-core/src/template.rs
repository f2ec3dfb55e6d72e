//! Mapping templates: the Velocity subset of the service, with its variables `$input`, `$context`, `$stageVariables`
//! and `$util`.
//!
//! A template is parsed at deployment and run for each event. Running it is bounded in steps, memory, output and
//! depth, whatever the template and the message say, and reads nothing but its [`Scope`]. Where Velocity versions
//! differ, it is 1.7: `#set` with nothing on its right side changes nothing, and everything but `false` and nothing is
//! true.

use std::collections::HashMap;
use std::sync::Arc;

use crate::context::Event;
use crate::definition::Map;
use crate::json::JsonError;
use crate::json_path::{JsonPath, JsonPathError, TooComplex};
use crate::pattern::PatternError;

use self::node::{Macro, Node};

mod builtin;
mod collection;
mod evaluate;
mod node;
mod parse;
#[cfg(test)]
mod tests;
mod text;
mod value;

/// Longest template, in bytes. Source: the API model.
pub const MAX_TEMPLATE_BYTES: usize = 32_768;

/// Rounds of a `#foreach`; what is behind them is left out. Source: the service's quotas.
pub const MAX_ITERATIONS: usize = 1000;

/// Longest output, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 1024 * 1024;

/// What a run may do: nodes, operations, items, and blocks of 64 bytes that are looked at or written.
pub const MAX_STEPS: u64 = 500_000;

/// What a run may allocate in all, in bytes.
pub const MAX_MEMORY_BYTES: usize = 16 * 1024 * 1024;

/// How deep expressions, directives, macros and values may stand in one another in a run.
pub const MAX_DEPTH: usize = 100;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    nodes: Vec<Node>,
    macros: Vec<Macro>,
    /// Paths that are written out.
    paths: HashMap<Arc<str>, Arc<JsonPath>>,
}

/// The text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Over [`MAX_TEMPLATE_BYTES`].
    #[error("the template is longer than {MAX_TEMPLATE_BYTES} bytes")]
    TooLong,
    /// A directive or an expression that cannot be understood.
    #[error("line {line}: {reason}")]
    Syntax {
        /// From 1.
        line: usize,
        /// What was expected.
        reason: String,
    },
}

/// What a template may read.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// `$context`.
    pub event: &'a Event,
    /// `$stageVariables`.
    pub stage_variables: &'a Map,
    /// `$input`: the message, or the backend's body in a response template.
    pub body: &'a str,
    /// Of `$input.params()`: handshake headers; `$connect` only.
    pub headers: Option<&'a http::HeaderMap>,
    /// Of `$input.params()`: raw query string of the handshake; `$connect` only.
    pub query: &'a str,
}

/// Why a template gave no text: an `API_CONFIGURATION_ERROR`. Contains no part of a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Over [`MAX_STEPS`].
    #[error("the template needs more than {MAX_STEPS} steps")]
    TooManySteps,
    /// Over [`MAX_MEMORY_BYTES`].
    #[error("the template needs more than {MAX_MEMORY_BYTES} bytes of memory")]
    TooMuchMemory,
    /// Over [`MAX_OUTPUT_BYTES`].
    #[error("the output is longer than {MAX_OUTPUT_BYTES} bytes")]
    TooLong,
    /// Over [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// A method that throws.
    #[error("{method}: {reason}")]
    Method {
        /// Its name.
        method: &'static str,
        /// What it did not like.
        reason: &'static str,
    },
    /// The path of `$input.json` or `$input.path` is none.
    #[error("$input: {0}")]
    Path(JsonPathError),
    /// The path takes too many steps.
    #[error("$input: {0}")]
    PathTooComplex(TooComplex),
    /// The body is too large or nested too deep to be read.
    #[error("the body is {0}")]
    Document(JsonError),
    /// The pattern of a method is none.
    #[error("{0}")]
    Pattern(PatternError),
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// [`TemplateError`]: an integration that has it answers as misconfigured.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateError::TooLong);
        }
        parse::parse(text)
    }

    /// Runs the template.
    ///
    /// # Errors
    /// [`RenderError`].
    pub fn render(&self, scope: &Scope<'_>) -> Result<String, RenderError> {
        evaluate::render(self, scope)
    }
}
