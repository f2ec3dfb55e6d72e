//! Variables of the Serverless Framework: `${self:custom.name}`, `${opt:stage, 'dev'}`, `${env:X}` and so on.
//!
//! What is not in the file, such as `${ssm:/path}`, becomes a mark as in `intrinsic.rs`. `${AWS::Region}` and
//! `${Name}` are no variables but belong to `Fn::Sub`, and stay.

use std::cell::Cell;

use crate::error::ImportError;
use crate::node::{Content, MAX_DEPTH, Node, Size};
use crate::template::{Options, plain};
use crate::yaml::{UNKNOWN_BEGIN, UNKNOWN_END};

/// Most steps, and most bytes, of all variables of one file.
const MAX_STEPS: usize = 1_000_000;
const MAX_MADE: usize = 32 * 1024 * 1024;

struct Variables<'a> {
    root: &'a Node,
    options: &'a Options,
    steps: Cell<usize>,
    made: Cell<usize>,
}

/// The file without variables.
///
/// # Errors
/// Variables that use each other in a circle, or beyond one of the bounds.
pub(super) fn resolve(root: &Node, options: &Options) -> Result<Node, ImportError> {
    let variables = Variables { root, options, steps: Cell::new(0), made: Cell::new(0) };
    variables.node(root, 0)
}

impl Variables<'_> {
    fn step(&self, line: usize, depth: usize) -> Result<(), ImportError> {
        self.steps.set(self.steps.get() + 1);
        let limit = match () {
            () if self.steps.get() > MAX_STEPS => format!("the variables take more than {MAX_STEPS} steps"),
            () if self.made.get() > MAX_MADE => format!("the variables make more than {MAX_MADE} bytes"),
            () if depth > 2 * MAX_DEPTH => {
                format!("variables that use each other more than {} deep, or in a circle", 2 * MAX_DEPTH)
            }
            () => return Ok(()),
        };
        Err(ImportError::at(line, limit))
    }

    fn made(&self, bytes: usize) {
        self.made.set(self.made.get().saturating_add(bytes));
    }

    fn node(&self, node: &Node, depth: usize) -> Result<Node, ImportError> {
        self.step(node.line, depth)?;
        let content = match &node.content {
            Content::Null => Content::Null,
            Content::Scalar { text, .. } if text.contains("${") => {
                let mut value = self.text(text, node.line, depth + 1)?;
                value.line = node.line;
                return Ok(value);
            }
            Content::Scalar { text, is_plain } => {
                self.made(text.len());
                Content::Scalar { text: text.clone(), is_plain: *is_plain }
            }
            Content::List(items) => {
                let items = items.iter().map(|item| self.node(item, depth + 1));
                Content::List(items.collect::<Result<_, _>>()?)
            }
            Content::Map(entries) => {
                let entries = entries.iter().map(|(key, item)| {
                    self.made(key.len());
                    // A key may have variables too: it is a text whatever they are.
                    let key = match key.contains("${") {
                        true => self.text(key, item.line, depth + 1)?.as_text().unwrap_or(key).to_owned(),
                        false => key.clone(),
                    };
                    Ok((key, self.node(item, depth + 1)?))
                });
                Content::Map(entries.collect::<Result<_, ImportError>>()?)
            }
        };
        Ok(Node { line: node.line, content })
    }

    /// A text with variables. One that is nothing but a variable may become a map or a list.
    fn text(&self, text: &str, line: usize, depth: usize) -> Result<Node, ImportError> {
        self.step(line, depth)?;
        let mut made = String::new();
        let mut rest = text;
        while let Some(begin) = rest.find("${") {
            let (before, after) = (&rest[..begin], &rest[begin + 2..]);
            let Some(end) = end_of(after) else { break };
            let inner = &after[..end];
            if !is_variable(inner) {
                made.push_str(&rest[..begin + 2]);
                rest = after;
                continue;
            }
            made.push_str(before);
            rest = &after[end + 1..];
            let value = self.variable(inner, line, depth + 1)?;
            if made.is_empty() && rest.is_empty() && before.is_empty() {
                return Ok(value);
            }
            match (&value.content, value.as_text()) {
                (_, Some(text)) => made.push_str(text),
                (Content::Null, _) => {}
                _ => {
                    let message = format!("${{{}}} is no text", plain(inner));
                    return Err(ImportError::at(line, message));
                }
            }
        }
        made.push_str(rest);
        self.made(made.len());
        Ok(Node::text(line, made))
    }

    /// What is between the braces: an address and fallbacks, separated by commas.
    fn variable(&self, inner: &str, line: usize, depth: usize) -> Result<Node, ImportError> {
        self.step(line, depth)?;
        // Inner variables first: `${self:custom.${opt:stage}}`.
        let mut first_unknown = None;
        for part in alternatives(inner) {
            let part = part.trim();
            if let Some(node) = literal(part, line) {
                return Ok(node);
            }
            let resolved;
            let address = match part.contains("${") {
                true => {
                    let node = self.text(part, line, depth + 1)?;
                    if part.starts_with("${") && end_of(&part[2..]).is_some_and(|end| end + 3 == part.len()) {
                        // A whole variable as a fallback.
                        if node.is_null()
                            || node.as_text().is_some_and(|text| text.starts_with(UNKNOWN_BEGIN))
                        {
                            first_unknown.get_or_insert(node);
                            continue;
                        }
                        return Ok(node);
                    }
                    resolved = node.as_text().unwrap_or_default().to_owned();
                    resolved.as_str()
                }
                false => part,
            };
            match self.address(address, line, depth + 1)? {
                Some(node) if !node.is_null() => return Ok(node),
                _ => {
                    let mark = format!("{UNKNOWN_BEGIN}{}{UNKNOWN_END}", unmarked(address));
                    first_unknown.get_or_insert_with(|| Node::text(line, mark));
                }
            }
        }
        Ok(first_unknown.unwrap_or_else(|| Node::null(line)))
    }

    fn address(&self, address: &str, line: usize, depth: usize) -> Result<Option<Node>, ImportError> {
        self.step(line, depth)?;
        if let Some(given) = self.options.parameters.get(address) {
            return Ok(Some(Node::text(line, given)));
        }
        let Some((source, path)) = address.split_once(':') else { return Ok(None) };
        let text = |text: Option<&String>| Ok(text.map(|text| Node::text(line, text)));
        match source {
            "opt" if path == "stage" => text(self.options.stage.as_ref()),
            "opt" if path == "region" => text(self.options.region.as_ref()),
            "env" => text(self.options.environment.get(path)),
            "aws" if path == "region" => match &self.options.region {
                Some(region) => Ok(Some(Node::text(line, region))),
                None => match self.at("provider.region", line, depth)? {
                    Some(node) => Ok(Some(node)),
                    None => Ok(Some(Node::text(line, "us-east-1"))),
                },
            },
            "aws" if path == "accountId" => text(Some(&self.options.account_id)),
            "sls" if path == "stage" => self.stage(line, depth).map(Some),
            "param" => {
                if let Some(given) = self.options.parameters.get(path) {
                    return Ok(Some(Node::text(line, given)));
                }
                let stage = self.stage(line, depth)?;
                let stage = stage.as_text().unwrap_or_default();
                for place in [
                    format!("stages.{stage}.params.{path}"),
                    format!("params.{stage}.{path}"),
                    format!("params.default.{path}"),
                    format!("stages.default.params.{path}"),
                ] {
                    if let Some(node) = self.at(&place, line, depth)? {
                        return Ok(Some(node));
                    }
                }
                Ok(None)
            }
            "self" => {
                let found = self.at(path, line, depth)?;
                match (found, path) {
                    (None, "provider.stage") => Ok(Some(Node::text(line, "dev"))),
                    (None, "provider.region") => Ok(Some(Node::text(line, "us-east-1"))),
                    (found, _) => Ok(found),
                }
            }
            _ => Ok(None),
        }
    }

    /// `sls:stage`: that of the command line, that of the provider, or `dev`.
    fn stage(&self, line: usize, depth: usize) -> Result<Node, ImportError> {
        if let Some(stage) = &self.options.stage {
            return Ok(Node::text(line, stage));
        }
        let stage = self.at("provider.stage", line, depth)?;
        Ok(stage.unwrap_or_else(|| Node::text(line, "dev")))
    }

    /// What the file has at a path, without variables.
    fn at(&self, path: &str, line: usize, depth: usize) -> Result<Option<Node>, ImportError> {
        let mut node = Place::Written(self.root);
        let mut keys = path.split('.').filter(|key| !key.is_empty()).peekable();
        while let Some(key) = keys.next() {
            self.step(line, depth)?;
            let next = match &node {
                Place::Written(node) => below(node, key).map(Place::Written),
                Place::Resolved(node) => below(node, key).cloned().map(Place::Resolved),
            };
            let Some(mut next) = next else { return Ok(None) };
            // On the way to what a variable stands for.
            if keys.peek().is_some()
                && let Place::Written(written) = &next
                && written.as_text().is_some_and(|text| text.contains("${"))
            {
                next = Place::Resolved(self.node(written, depth + 1)?);
            }
            node = next;
        }
        let node = match node {
            Place::Written(node) => self.node(node, depth + 1)?,
            Place::Resolved(node) => node,
        };
        self.made(Size::of(&node).bytes);
        Ok(Some(node).filter(|node| !node.is_null()))
    }
}

/// A place in the file, or in what a variable stands for.
enum Place<'a> {
    Written(&'a Node),
    Resolved(Node),
}

fn below<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match node.as_list() {
        Some(items) => items.get(key.parse::<usize>().ok()?),
        None => node.get(key),
    }
}

/// Where the brace closes that was opened before the text.
fn end_of(text: &str) -> Option<usize> {
    let mut n_open = 0usize;
    let bytes = text.as_bytes();
    for (idx, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if idx > 0 && bytes[idx - 1] == b'$' => n_open += 1,
            b'}' if n_open == 0 => return Some(idx),
            b'}' => n_open -= 1,
            _ => {}
        }
    }
    None
}

/// `source:address`, and not `AWS::Region`.
fn is_variable(inner: &str) -> bool {
    let inner = inner.trim_start();
    let source = inner.split(['(', ':', ',']).next().unwrap_or_default();
    let after = &inner[source.len()..];
    let is_name = source.starts_with(|c: char| c.is_ascii_alphabetic())
        && source.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    is_name && (after.starts_with('(') || (after.starts_with(':') && !after.starts_with("::")))
}

/// The parts between commas that are in no braces, parentheses or quotes.
fn alternatives(inner: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut n_open, mut quote) = (Vec::new(), 0, 0usize, None);
    for (idx, c) in inner.char_indices() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '{' | '(') => n_open += 1,
            (None, '}' | ')') => n_open = n_open.saturating_sub(1),
            (None, ',') if n_open == 0 => {
                parts.push(&inner[begin..idx]);
                begin = idx + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[begin..]);
    parts
}

fn literal(text: &str, line: usize) -> Option<Node> {
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
            return Some(Node::text(line, inner));
        }
    }
    match text {
        "null" => Some(Node::null(line)),
        "true" | "false" => Some(Node::plain(line, text)),
        _ if text.parse::<f64>().is_ok_and(f64::is_finite) => Some(Node::plain(line, text)),
        _ => None,
    }
}

fn unmarked(address: &str) -> String {
    plain(&address.replace([UNKNOWN_BEGIN, UNKNOWN_END], ""))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::yaml;

    fn resolved(text: &str, stage: Option<&str>) -> serde_json::Value {
        let options = Options {
            stage: stage.map(str::to_owned),
            environment: BTreeMap::from([("TABLE".to_owned(), "connections".to_owned())]),
            ..Options::default()
        };
        resolve(&yaml::read(text).unwrap().root, &options).unwrap().to_json()
    }

    #[test]
    fn variables_become_what_they_name() {
        let file = "service: chat\nprovider: {stage: \"${opt:stage, 'dev'}\"}\ncustom: {sizes: {dev: 1, prod: 8}, list: [a, b]}\nx: ";
        for (variable, expected) in [
            ("${self:service}-${sls:stage}", serde_json::json!("chat-dev")),
            ("${self:custom.sizes.${self:provider.stage}}", serde_json::json!(1)),
            ("${self:custom.sizes}", serde_json::json!({"dev": 1, "prod": 8})),
            ("${self:custom.list.1}", serde_json::json!("b")),
            ("${env:TABLE}", serde_json::json!("connections")),
            ("${env:MISSING, 'none'}", serde_json::json!("none")),
            ("${opt:x, self:custom.list.0}", serde_json::json!("a")),
            ("${opt:x, ${opt:y, 'z'}}", serde_json::json!("z")),
            ("a${AWS::Region}b${Name}c", serde_json::json!("a${AWS::Region}b${Name}c")),
            ("${aws:region}", serde_json::json!("us-east-1")),
            ("${ssm:/chat/key}", serde_json::json!("\u{FDD0}ssm:/chat/key\u{FDD1}")),
            ("${file(./x.yml):a}", serde_json::json!("\u{FDD0}file(./x.yml):a\u{FDD1}")),
            ("${param:missing, 5}", serde_json::json!(5)),
            ("$${x", serde_json::json!("$${x")),
        ] {
            let text = format!("{file}{}", serde_json::Value::from(variable));
            assert_eq!(resolved(&text, None)["x"], expected, "{variable}");
        }
        let text = format!("{file}\"${{self:custom.sizes.${{sls:stage}}}}\"");
        assert_eq!(resolved(&text, Some("prod"))["x"], 8);
    }

    #[test]
    fn parameters_are_those_of_the_stage_or_the_default_ones() {
        let file = "params: {default: {a: 1, b: 2}, prod: {a: 3}}\nx: ${param:a}${param:b}\n";
        assert_eq!(resolved(file, Some("prod"))["x"], "32");
        assert_eq!(resolved(file, None)["x"], "12");
    }

    #[test]
    fn circles_and_explosions_end() {
        for text in [
            "a: ${self:b}\nb: ${self:a}\n".to_owned(),
            "a: ${self:}\n".to_owned(),
            (0..40).map(|idx| format!("a{idx}: ${{self:a{0}}}${{self:a{0}}}\n", idx + 1)).collect::<String>()
                + "a40: x\n",
            (0..60)
                .map(|idx| format!("a{idx}: [\"${{self:a{0}}}\", \"${{self:a{0}}}\"]\n", idx + 1))
                .collect::<String>()
                + "a60: x\n",
        ] {
            let root = yaml::read(&text).unwrap().root;
            assert!(resolve(&root, &Options::default()).is_err(), "{text}");
        }
    }
}
