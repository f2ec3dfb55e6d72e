//! A template as a tree that remembers its lines.
//!
//! Scalars keep the text that was written: whether `1.0` is a number, a version or a stage name is decided by the
//! property that it is for. [`Content::Null`] stands for an absent value as well.

use serde_json::Value;

/// Deepest nesting of a template and of what its functions make.
pub(crate) const MAX_DEPTH: usize = 64;

/// One value of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// From 1; 0 where it is not known.
    pub(crate) line: usize,
    pub(crate) content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// `null`, and `AWS::NoValue`.
    Null,
    Scalar {
        text: String,
        /// Without quotes: may be a number or a boolean.
        is_plain: bool,
    },
    List(Vec<Node>),
    /// In the order of the text; a key is there once.
    Map(Vec<(String, Node)>),
}

impl Node {
    pub(crate) fn null(line: usize) -> Self {
        Self { line, content: Content::Null }
    }

    /// Text that is text, whatever it looks like.
    pub(crate) fn text(line: usize, text: impl Into<String>) -> Self {
        Self { line, content: Content::Scalar { text: text.into(), is_plain: false } }
    }

    /// A scalar as if it had been written without quotes.
    pub(crate) fn plain(line: usize, text: impl Into<String>) -> Self {
        Self { line, content: Content::Scalar { text: text.into(), is_plain: true } }
    }

    pub(crate) fn list(line: usize, items: Vec<Node>) -> Self {
        Self { line, content: Content::List(items) }
    }

    pub(crate) fn map<const N: usize>(line: usize, entries: [(&str, Node); N]) -> Self {
        let entries = entries.into_iter().map(|(key, node)| (key.to_owned(), node)).collect();
        Self { line, content: Content::Map(entries) }
    }

    /// `{"Ref": name}`
    pub(crate) fn reference(line: usize, name: &str) -> Self {
        Self::map(line, [("Ref", Self::text(line, name))])
    }

    /// `{"Fn::GetAtt": [name, attribute]}`
    pub(crate) fn attribute(line: usize, name: &str, attribute: &str) -> Self {
        let parts = vec![Self::text(line, name), Self::text(line, attribute)];
        Self::map(line, [("Fn::GetAtt", Self::list(line, parts))])
    }

    /// `{"Fn::Join": ["", parts]}`
    pub(crate) fn joined(line: usize, parts: Vec<Node>) -> Self {
        Self::map(line, [("Fn::Join", Self::list(line, vec![Self::text(line, ""), Self::list(line, parts)]))])
    }

    pub(crate) fn is_null(&self) -> bool {
        self.content == Content::Null
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_list(&self) -> Option<&[Node]> {
        match &self.content {
            Content::List(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn as_map(&self) -> Option<&[(String, Node)]> {
        match &self.content {
            Content::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The entries of a map; none of anything else.
    pub(crate) fn entries(&self) -> &[(String, Node)] {
        self.as_map().unwrap_or_default()
    }

    /// The value of a key that is there and not null.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        let (_, node) = self.entries().iter().find(|(name, _)| name == key)?;
        Some(node).filter(|node| !node.is_null())
    }

    /// The value below several keys.
    pub(crate) fn below(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The text below several keys.
    pub(crate) fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.below(path)?.as_text()
    }

    /// Puts a value, in place of one of the same key. Nothing happens to what is no map.
    pub(crate) fn put(&mut self, key: &str, node: Node) {
        let Content::Map(entries) = &mut self.content else { return };
        match entries.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = node,
            None => entries.push((key.to_owned(), node)),
        }
    }

    /// `true` and `false` in any case of letters, and `yes`, `no`, `on`, `off` as older YAML has them.
    pub(crate) fn as_flag(&self) -> Option<bool> {
        match self.as_text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => None,
        }
    }

    /// JSON, with numbers and booleans where they were written without quotes.
    pub(crate) fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Scalar { text, is_plain: false } => Value::String(text.clone()),
            Content::Scalar { text, is_plain: true } => plain_json(text),
            Content::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Content::Map(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.clone(), node.to_json())).collect())
            }
        }
    }

    /// The tree of a JSON value; its lines are not known.
    pub(crate) fn from_json(value: &Value) -> Self {
        let content = match value {
            Value::Null => Content::Null,
            Value::Bool(flag) => Content::Scalar { text: flag.to_string(), is_plain: true },
            Value::Number(number) => Content::Scalar { text: number.to_string(), is_plain: true },
            Value::String(text) => Content::Scalar { text: text.clone(), is_plain: false },
            Value::Array(items) => Content::List(items.iter().map(Self::from_json).collect()),
            Value::Object(members) => Content::Map(
                members.iter().map(|(key, value)| (key.clone(), Self::from_json(value))).collect(),
            ),
        };
        Self { line: 0, content }
    }
}

/// What YAML's core schema makes of a plain scalar.
fn plain_json(text: &str) -> Value {
    match text {
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    // JSON's own numbers: a leading zero is an account id, not a number.
    match text.parse::<serde_json::Number>() {
        Ok(number) if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => Value::Number(number),
        _ => Value::String(text.to_owned()),
    }
}

/// Bounded size of what several steps make together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Size {
    pub(crate) n_nodes: usize,
    /// Bytes of texts and keys.
    pub(crate) bytes: usize,
    pub(crate) depth: usize,
}

impl Size {
    pub(crate) fn of(node: &Node) -> Self {
        let mut size = Self { n_nodes: 1, bytes: 0, depth: 1 };
        match &node.content {
            Content::Null => {}
            Content::Scalar { text, .. } => size.bytes = text.len(),
            Content::List(items) => items.iter().for_each(|item| size.add(Self::of(item))),
            Content::Map(entries) => {
                for (key, item) in entries {
                    size.bytes += key.len();
                    size.add(Self::of(item));
                }
            }
        }
        size
    }

    fn add(&mut self, below: Self) {
        self.n_nodes += below.n_nodes;
        self.bytes += below.bytes;
        self.depth = self.depth.max(below.depth + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_become_what_they_look_like() {
        for (text, expected) in [
            ("29000", serde_json::json!(29000)),
            ("true", serde_json::json!(true)),
            ("0.5", serde_json::json!(0.5)),
            ("012345678901", serde_json::json!("012345678901")),
            ("python3.12", serde_json::json!("python3.12")),
            ("$connect", serde_json::json!("$connect")),
            ("1e9999", serde_json::json!("1e9999")),
        ] {
            assert_eq!(Node::plain(1, text).to_json(), expected, "{text}");
        }
        assert_eq!(Node::text(1, "29000").to_json(), serde_json::json!("29000"));
    }
}
