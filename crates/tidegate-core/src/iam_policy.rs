//! IAM policy documents, as authorizers answer with them: who may do what, under which conditions.
//!
//! The rule of evaluation is IAM's: an explicit deny wins over every allow, and what nothing allows is denied. A document
//! that cannot be read as a whole is no policy at all ([`PolicyError`]): leaving out what is not understood could let
//! somebody in whom it wants to keep out. `condition.rs` has the operators.
//!
//! Source: *IAM JSON policy elements reference* and *Policy evaluation logic* in the IAM user guide.

use serde_json::Value;

use self::condition::Clause;
use crate::wildcard::is_match;

mod condition;

/// Longest resource of a statement, in characters. Source: *Output from an API Gateway Lambda authorizer* in the API
/// Gateway developer guide.
pub const MAX_RESOURCE: usize = 512;

/// Most statements of a document. Source: our choice; the size of an authorizer's answer permits about a hundred.
pub const MAX_STATEMENTS: usize = 256;

/// Resources that a decision names at most.
const MAX_NAMED: usize = 3;

/// Members of a statement.
const MEMBERS: [&str; 7] = ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"];

/// A policy document.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyDocument {
    statements: Vec<Statement>,
}

/// The text is no policy document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct PolicyError {
    /// Where, for example `Statement[0].Effect`; names of conditions and operators are not repeated.
    pub path: String,
    /// What is wrong there; no value of the document.
    pub reason: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
struct Statement {
    is_allow: bool,
    actions: Patterns,
    resources: Patterns,
    conditions: Vec<Clause>,
}

/// `Action` or `NotAction`, and likewise for resources.
#[derive(Debug, Clone, PartialEq)]
struct Patterns {
    list: Vec<String>,
    is_negated: bool,
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// `execute-api:Invoke`
    pub action: &'a str,
    /// ARN.
    pub resource: &'a str,
    /// What conditions may ask.
    pub keys: &'a ConditionKeys,
}

/// Values of condition keys such as `aws:SourceIp`. Names have no case; a name may have several values.
#[derive(Debug, Clone, Default)]
pub struct ConditionKeys {
    values: Vec<(String, String)>,
}

impl ConditionKeys {
    /// With one more value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.values.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// As [`Self::with`], if there is a value.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// `name` in lower case.
    fn of<'a>(&'a self, name: &str) -> Vec<&'a str> {
        self.values.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// What a policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It allows.
    Allow,
    /// A statement denies.
    ExplicitDeny {
        /// Its place among the statements, from 0 on.
        statement: usize,
    },
    /// No statement allows.
    NoAllow {
        /// Resources of statements that would have allowed it, had they named the one asked for; at most three.
        other_resources: Vec<String>,
    },
}

impl PolicyDocument {
    /// Reads a document: `Version`, `Statement` (an object or a list of them) and in each `Effect`, `Action` or
    /// `NotAction`, `Resource` or `NotResource`, each a text or a list, and `Condition`. `Id` and `Sid` are ignored.
    ///
    /// # Errors
    /// [`PolicyError`]: whatever is not understood, policy variables (`${...}`) and principals included.
    pub fn parse(document: &Value) -> Result<Self, PolicyError> {
        let members = document.as_object().ok_or_else(|| error("", "an object expected"))?;
        if let Some(name) =
            members.keys().find(|name| !matches!(name.as_str(), "Version" | "Id" | "Statement"))
        {
            return Err(error(if is_word(name) { name } else { "" }, "unknown member"));
        }
        match members.get("Version").map(Value::as_str) {
            None | Some(Some("2012-10-17" | "2008-10-17")) => {}
            Some(_) => return Err(error("Version", "2012-10-17 or 2008-10-17 expected")),
        }
        let statements = match members.get("Statement") {
            Some(Value::Array(list)) if list.len() > MAX_STATEMENTS => {
                return Err(error("Statement", "too many statements"));
            }
            Some(Value::Array(list)) => {
                let parse = |(idx, value)| Statement::parse(value, &format!("Statement[{idx}]"));
                list.iter().enumerate().map(parse).collect::<Result<_, _>>()?
            }
            Some(value) => vec![Statement::parse(value, "Statement")?],
            None => return Err(error("Statement", "missing")),
        };
        Ok(Self { statements })
    }

    /// Whether the policy permits an access.
    pub fn decide(&self, access: &Access<'_>) -> Decision {
        let mut is_allowed = false;
        let mut other_resources: Vec<String> = Vec::new();
        for (idx, statement) in self.statements.iter().enumerate() {
            let is_about = statement.actions.fit(access.action, true)
                && statement.conditions.iter().all(|condition| condition.holds(access.keys));
            if !is_about {
                continue;
            }
            match (statement.resources.fit(access.resource, false), statement.is_allow) {
                (true, false) => return Decision::ExplicitDeny { statement: idx },
                (true, true) => is_allowed = true,
                (false, true) => {
                    let room = MAX_NAMED.saturating_sub(other_resources.len());
                    other_resources.extend(statement.resources.list.iter().take(room).cloned());
                }
                (false, false) => {}
            }
        }
        match is_allowed {
            true => Decision::Allow,
            false => Decision::NoAllow { other_resources },
        }
    }
}

impl Statement {
    fn parse(statement: &Value, path: &str) -> Result<Self, PolicyError> {
        let members = statement.as_object().ok_or_else(|| error(path, "an object expected"))?;
        if let Some(name) = members.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
            let name = if is_word(name) { name } else { "" };
            return Err(error(&format!("{path}.{name}"), "unknown member"));
        }
        let is_allow = match members.get("Effect").and_then(Value::as_str) {
            Some("Allow") => true,
            Some("Deny") => false,
            _ => return Err(error(&format!("{path}.Effect"), "Allow or Deny expected")),
        };
        let patterns = |name: &str, negated: &str| {
            let path = format!("{path}.{name}");
            let (value, is_negated) = match (members.get(name), members.get(negated)) {
                (Some(value), None) => (value, false),
                (None, Some(value)) => (value, true),
                (None, None) => return Err(error(&path, "missing")),
                (Some(_), Some(_)) => return Err(error(&path, "only one of it and its negation expected")),
            };
            let list = texts(value).ok_or_else(|| error(&path, "a text or a list of texts expected"))?;
            if list.is_empty() {
                return Err(error(&path, "empty"));
            }
            if list.iter().any(|text| text.chars().count() > MAX_RESOURCE) {
                return Err(error(&path, "longer than 512 characters"));
            }
            if list.iter().any(|text| has_variable(text)) {
                return Err(error(&path, "policy variables are not supported"));
            }
            Ok(Patterns { list, is_negated })
        };
        let conditions = match members.get("Condition") {
            None => Vec::new(),
            Some(value) => {
                condition::parse(value).map_err(|reason| error(&format!("{path}.Condition"), reason))?
            }
        };
        Ok(Self {
            is_allow,
            actions: patterns("Action", "NotAction")?,
            resources: patterns("Resource", "NotResource")?,
            conditions,
        })
    }
}

impl Patterns {
    fn fit(&self, text: &str, ignores_case: bool) -> bool {
        let fits = |pattern: &String| match ignores_case {
            // IAM compares actions without case.
            true => is_match(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase()),
            false => is_match(pattern, text),
        };
        self.list.iter().any(fits) != self.is_negated
    }
}

fn error(path: &str, reason: &'static str) -> PolicyError {
    let path = if path.is_empty() { "policyDocument" } else { path };
    PolicyError { path: path.to_owned(), reason }
}

/// Names of members may be anything; only those that look like names are repeated.
fn is_word(name: &str) -> bool {
    name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn has_variable(text: &str) -> bool {
    text.contains("${")
}

/// A text, or a list of texts.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(list) => list.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
