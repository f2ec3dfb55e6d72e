//! Selection expressions: from a message to the key of a route, a template or a model.
//!
//! Grammar and cases: *Selection expressions* in the API Gateway developer guide. An expression is compiled
//! once, at deployment; evaluating it reads at most its own paths from the message.

use crate::json_path::{Found, JsonPath, JsonPathError};

/// A compiled expression such as `$request.body.action` or `${request.body.service}/${request.body.action}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    text: Box<str>,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Literal(String),
    Body(JsonPath),
    /// A variable that is not about the body: its name without the dollar.
    Variable(String),
}

/// The text is no selection expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// `${` without `}`.
    #[error("`${{` without closing `}}`")]
    Unclosed,
    /// A dollar with no variable behind it.
    #[error("`$` without a variable name; write `\\$` for a dollar")]
    NoVariable,
    /// A variable that does not exist here.
    #[error("unknown variable `${name}`")]
    UnknownVariable {
        /// As written, without the dollar.
        name: String,
    },
    /// What follows `request.body` is no JSONPath.
    #[error("in `${name}`")]
    Path {
        /// As written, without the dollar.
        name: String,
        /// Where.
        #[source]
        source: JsonPathError,
    },
}

/// The value of an expression for one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// The message is JSON. When it is not and the expression reads the body, [`Self::value`] means nothing.
    pub is_json: bool,
    /// The value; absent variables are empty.
    pub value: String,
}

impl Expression {
    /// Compiles an expression.
    ///
    /// # Errors
    /// [`ExpressionError`]; the text of it may be shown to whoever wrote the expression.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let source = text;
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("\\$") {
                literal.push('$');
                rest = after;
                continue;
            }
            let Some(after) = rest.strip_prefix('$') else {
                literal.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            };
            let (name, after) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or(ExpressionError::Unclosed)?,
                None => after.split_at(after.find(|c| !is_variable_character(c)).unwrap_or(after.len())),
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(variable(name)?);
            rest = after;
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { text: source.into(), parts })
    }

    /// Evaluates for a message. Variables other than the body's come from `variable`; unknown ones are empty.
    pub fn evaluate(&self, message: &str, variable: &dyn Fn(&str) -> Option<String>) -> Selected {
        let mut selected = Selected { is_json: true, value: String::new() };
        for part in &self.parts {
            match part {
                Part::Literal(text) => selected.value.push_str(text),
                Part::Body(path) => match path.find(message) {
                    Found::NotJson => selected.is_json = false,
                    Found::Nothing | Found::TooComplex => {}
                    Found::Text(text) => selected.value.push_str(&text),
                },
                Part::Variable(name) => selected.value.push_str(&variable(name).unwrap_or_default()),
            }
        }
        selected
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Selects nothing: its value is always empty.
    pub fn empty() -> Self {
        Self { text: Box::default(), parts: Vec::new() }
    }

    /// Evaluates where only the message may be read.
    pub fn select(&self, message: &str) -> Selected {
        self.evaluate(message, &|_| None)
    }

    /// Whether some message could give this value: the fixed parts of the expression stand in it, in their order.
    pub fn can_give(&self, value: &str) -> bool {
        let mut rest = value;
        let mut is_anchored = true;
        for part in &self.parts {
            let Part::Literal(text) = part else {
                is_anchored = false;
                continue;
            };
            // The first place is the best one: it leaves the most for what follows.
            match rest.find(text.as_str()) {
                Some(at) if at == 0 || !is_anchored => rest = &rest[at + text.len()..],
                _ => return false,
            }
            is_anchored = true;
        }
        match self.parts.last() {
            Some(Part::Literal(text)) if !rest.is_empty() => {
                self.parts.len() > 1 && value.ends_with(text.as_str()) && rest.len() >= text.len()
            }
            None => value.is_empty(),
            _ => true,
        }
    }

    /// Every variable reads the message, as `RouteSelectionExpression` demands.
    pub fn reads_only_body(&self) -> bool {
        self.parts.iter().all(|part| !matches!(part, Part::Variable(_)))
    }
}

fn is_variable_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.-[]'\"*@(),:".contains(c)
}

fn variable(name: &str) -> Result<Part, ExpressionError> {
    if name.is_empty() {
        return Err(ExpressionError::NoVariable);
    }
    if let Some(path) = name.strip_prefix("request.body")
        && (path.is_empty() || path.starts_with(['.', '[']))
    {
        return JsonPath::parse(path)
            .map(Part::Body)
            .map_err(|source| ExpressionError::Path { name: name.to_owned(), source });
    }
    // `response.statuscode` is what some tools write for `integration.response.statuscode`.
    let known =
        ["request.header.", "integration.response.", "context.", "stageVariables.", "request.querystring."];
    if known.iter().any(|prefix| name.starts_with(prefix) && name.len() > prefix.len())
        || matches!(name, "response.statuscode" | "request.basepath" | "default")
    {
        return Ok(Part::Variable(name.to_owned()));
    }
    Err(ExpressionError::UnknownVariable { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(expression: &str, message: &str, value: &str) {
        let expression = Expression::parse(expression).expect(expression);
        assert_eq!(expression.select(message).value, value, "{message}");
    }

    #[test]
    fn expressions_select() {
        // AG-5, S0-47
        check("$request.body.action", r#"{"action":"join"}"#, "join");
        check("$request.body.action", r#"{"action":5}"#, "5");
        check("$request.body.action", r#"{"action":null}"#, "");
        check("$request.body.action", r#"{"action":{"a":1}}"#, "{a=1}");
        check("$request.body.action", r#"{"hello":1}"#, "");
        check("${request.body.service}/${request.body.action}", r#"{"service":"a","action":"b"}"#, "a/b");
        check("${request.body.action}-${request.body.nope}", r#"{"action":"join"}"#, "join-");
        check("${request.body.version}-beta", r#"{"version":2}"#, "2-beta");
        check("$request.body['x-y']", r#"{"x-y":"z"}"#, "z");
        check(r"\$default", "{}", "$default");
        check("always", "not json", "always");
    }

    #[test]
    fn values_that_no_message_gives() {
        // handler.selection-mismatch
        for (expression, value, expected) in [
            ("$request.body.action", "join", true),
            ("$request.body.action", "", true),
            ("${request.body.a}/${request.body.b}", "x/y", true),
            ("${request.body.a}/${request.body.b}", "join", false),
            ("v1-${request.body.a}", "v1-join", true),
            ("v1-${request.body.a}", "join", false),
            ("${request.body.a}-x", "join-x", true),
            ("${request.body.a}-x", "a-x-x", true),
            ("${request.body.a}-x", "a-xy", false),
            ("always", "always", true),
            ("always", "always2", false),
        ] {
            assert_eq!(
                Expression::parse(expression).unwrap().can_give(value),
                expected,
                "{expression} {value}"
            );
        }
    }

    #[test]
    fn not_json_is_said() {
        let expression = Expression::parse("$request.body.action").unwrap();
        assert!(!expression.select("hello").is_json);
        assert!(expression.select(r#""join""#).is_json);
    }

    #[test]
    fn variables_beside_the_body_are_asked_for() {
        let expression = Expression::parse("$request.header.x-api-key").unwrap();
        assert!(!expression.reads_only_body());
        let selected =
            expression.evaluate("", &|name| (name == "request.header.x-api-key").then(|| "k".to_owned()));
        assert_eq!(selected.value, "k");
    }

    #[test]
    fn bad_expressions_are_refused() {
        for bad in ["$", "${request.body.a", "$nope", "${}", "$request.body[", "$request.bodyx"] {
            assert!(Expression::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(expression in ".{0,60}", message in ".{0,60}") {
            if let Ok(expression) = Expression::parse(&expression) {
                expression.select(&message);
            }
        }
    }
}
