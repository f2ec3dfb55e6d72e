//! Mapping templates of `MOCK` integrations, in their simplest form: text with references.
//!
//! References are `$name`, `${name}`, `$!name` and `$!{name}` to `$context.*`, `$stageVariables.*` and
//! `$input.body`. An unknown reference prints itself, a quiet one nothing, as in Velocity. A template that
//! uses a directive or a method call is refused when it is compiled, so that it fails visibly instead of
//! printing itself.

use crate::context::Event;
use crate::definition::Map;

/// Longest template, in bytes. Source: the API model.
pub const MAX_TEMPLATE_BYTES: usize = 32_768;

/// A compiled template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Reference { name: String, written: String, is_quiet: bool },
}

/// The template cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Over [`MAX_TEMPLATE_BYTES`].
    #[error("the template is longer than {MAX_TEMPLATE_BYTES} bytes")]
    TooLong,
    /// A directive, a call or an index.
    #[error("`{0}` is not supported in templates yet")]
    Unsupported(String),
    /// `${` without `}`.
    #[error("`${{` without closing `}}`")]
    Unclosed,
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`TemplateError`]: an integration that has it answers as misconfigured.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateError::TooLong);
        }
        const DIRECTIVES: [&str; 9] =
            ["#set", "#if", "#else", "#end", "#foreach", "#macro", "#stop", "#break", "#["];
        if let Some(directive) = DIRECTIVES.iter().find(|directive| text.contains(*directive)) {
            return Err(TemplateError::Unsupported((*directive).to_owned()));
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            let from = &rest[at..];
            let is_quiet = from.starts_with("$!");
            let head = if is_quiet { &from[2..] } else { &from[1..] };
            let (name, after) = match head.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or(TemplateError::Unclosed)?,
                None => {
                    let end = head
                        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
                        .unwrap_or(head.len());
                    // A full stop at the end belongs to the sentence.
                    let name = head[..end].trim_end_matches('.');
                    (name, &head[name.len()..])
                }
            };
            if name.is_empty() || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
                plain.push('$');
                rest = &from[1..];
                continue;
            }
            let written = &from[..from.len() - after.len()];
            if after.starts_with('(') || after.starts_with("['") {
                return Err(TemplateError::Unsupported(format!("{written}{}", &after[..1])));
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Reference { name: name.to_owned(), written: written.to_owned(), is_quiet });
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    /// Runs the template for one event.
    pub fn render(&self, event: &Event, stage_variables: &Map, body: &str) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Reference { name, written, is_quiet } => {
                    let value = match name.split_once('.') {
                        Some(("context", variable)) => event.variable(variable),
                        Some(("stageVariables", variable)) => stage_variables.get(variable).cloned(),
                        Some(("input", "body")) => Some(body.to_owned()),
                        _ => None,
                    };
                    match value {
                        Some(value) => out.push_str(&value),
                        // An undefined variable of `$context` is empty; anything else unknown shows itself.
                        None if *is_quiet || name.starts_with("context.") => {}
                        None => out.push_str(written),
                    }
                }
            }
        }
        out
    }
}
