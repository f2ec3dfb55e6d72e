//! Reads YAML with the short forms of CloudFormation's functions, and JSON, into a [`Node`].
//!
//! `!Ref x` becomes `{"Ref": x}`, `!Sub x` becomes `{"Fn::Sub": x}` and so on: the long and the short form are one from
//! here on. What aliases repeat counts as often as it is there, so that a small text cannot become a large tree.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use crate::error::ImportError;
use crate::node::{Content, MAX_DEPTH, Node, Size};

/// Longest template, in bytes. CloudFormation takes 1 MB.
pub const MAX_TEMPLATE: usize = 2 * 1024 * 1024;

/// Most values of a template, aliases written out.
const MAX_NODES: usize = 200_000;

/// Most entries of one map: what looks for a key reads them one after the other.
const MAX_ENTRIES: usize = 5000;

/// Most keys that are told because they are there twice.
const MAX_REPEATED: usize = 100;

/// Most bytes of texts, aliases written out.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Around what only AWS knows; see `intrinsic.rs`. Unicode has no characters there.
pub(crate) const UNKNOWN_BEGIN: char = '\u{FDD0}';
pub(crate) const UNKNOWN_END: char = '\u{FDD1}';

/// A template, and keys that are in it twice.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) root: Node,
    /// Key and line; the later one counts.
    pub(crate) repeated: Vec<(String, usize)>,
}

/// Reads the first document of a text.
///
/// # Errors
/// No YAML, no JSON, more than one document, or beyond one of the bounds.
pub(crate) fn read(text: &str) -> Result<Text, ImportError> {
    if text.len() > MAX_TEMPLATE {
        return Err(ImportError::whole(format!("the template has more than {MAX_TEMPLATE} bytes")));
    }
    if text.contains([UNKNOWN_BEGIN, UNKNOWN_END]) {
        return Err(ImportError::whole("the template has characters that Unicode does not have"));
    }
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    if text.trim_start().starts_with('{') {
        let value: serde_json::Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) if error.is_syntax() || error.is_eof() => return read_yaml(text),
            Err(error) => return Err(ImportError::at(error.line(), error.to_string())),
        };
        let root = Node::from_json(&value);
        check(Size::of(&root), 0)?;
        if has_wide_map(&root) {
            return Err(ImportError::whole(format!("a map with more than {MAX_ENTRIES} entries")));
        }
        return Ok(Text { root, repeated: Vec::new() });
    }
    read_yaml(text)
}

fn check(size: Size, line: usize) -> Result<(), ImportError> {
    let limit = match size {
        Size { n_nodes, .. } if n_nodes > MAX_NODES => format!("more than {MAX_NODES} values"),
        Size { bytes, .. } if bytes > MAX_BYTES => format!("more than {MAX_BYTES} bytes of texts"),
        Size { depth, .. } if depth > MAX_DEPTH => format!("nested more than {MAX_DEPTH} deep"),
        _ => return Ok(()),
    };
    Err(ImportError::at(line, format!("{limit}, aliases written out")))
}

fn has_wide_map(node: &Node) -> bool {
    node.entries().len() > MAX_ENTRIES
        || node.entries().iter().any(|(_, item)| has_wide_map(item))
        || node.as_list().unwrap_or_default().iter().any(has_wide_map)
}

/// A collection that is not complete.
struct Open {
    node: Node,
    anchor: usize,
    function: Option<String>,
    /// Of a map: the key whose value comes next, and its line.
    key: Option<(String, usize)>,
}

struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, Size)>,
    total: Size,
    root: Option<Node>,
    repeated: Vec<(String, usize)>,
}

fn read_yaml(text: &str) -> Result<Text, ImportError> {
    let mut builder = Builder {
        open: Vec::new(),
        anchors: HashMap::new(),
        total: Size::default(),
        root: None,
        repeated: Vec::new(),
    };
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| ImportError::at(error.marker().line(), error.info().to_owned()))?;
        builder.take(event, span.start.line())?;
    }
    match builder.root {
        Some(root) => Ok(Text { root, repeated: builder.repeated }),
        None => Err(ImportError::whole("the template is empty")),
    }
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), ImportError> {
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Alias(id) => match self.anchors.get(&id) {
                Some((node, size)) => {
                    let (mut node, size) = (node.clone(), *size);
                    node.line = line;
                    self.count(size, line)?;
                    self.put(node, line)
                }
                None => Err(ImportError::at(line, "an alias that has itself in it")),
            },
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = is_core(tag.as_deref(), "str");
                let is_plain = style == ScalarStyle::Plain && !is_text;
                let content = match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL"
                        if is_plain && function_of(tag.as_deref()).is_none() =>
                    {
                        Content::Null
                    }
                    text => Content::Scalar { text: text.to_owned(), is_plain },
                };
                self.count(Size { n_nodes: 1, bytes: text.len(), depth: 1 }, line)?;
                let function = function_of(tag.as_deref());
                self.complete(Node { line, content }, anchor, function, line)
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(Content::List(Vec::new()), anchor, tag.as_deref(), line)
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(Content::Map(Vec::new()), anchor, tag.as_deref(), line)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(done) => self.complete(done.node, done.anchor, done.function, line),
                None => Err(ImportError::at(line, "an end without a beginning")),
            },
        }
    }

    fn begin(
        &mut self,
        content: Content,
        anchor: usize,
        tag: Option<&Tag>,
        line: usize,
    ) -> Result<(), ImportError> {
        self.count(Size { n_nodes: 1, bytes: 0, depth: 1 }, line)?;
        let function = function_of(tag);
        self.open.push(Open { node: Node { line, content }, anchor, function, key: None });
        Ok(())
    }

    /// Counts what comes next to what is there.
    fn count(&mut self, size: Size, line: usize) -> Result<(), ImportError> {
        self.total.n_nodes = self.total.n_nodes.saturating_add(size.n_nodes);
        self.total.bytes = self.total.bytes.saturating_add(size.bytes);
        // A function's short form is one level more.
        let n_open = self.open.iter().map(|open| 1 + usize::from(open.function.is_some())).sum::<usize>();
        check(Size { depth: n_open + size.depth, ..self.total }, line)
    }

    fn complete(
        &mut self,
        node: Node,
        anchor: usize,
        function: Option<String>,
        end: usize,
    ) -> Result<(), ImportError> {
        let line = node.line;
        let node = match function {
            None => node,
            Some(function) => {
                self.count(Size { n_nodes: 1, bytes: function.len(), depth: 1 }, end)?;
                Node::map(line, [(function.as_str(), node)])
            }
        };
        if anchor != 0 {
            let size = Size::of(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        self.put(node, line)
    }

    fn put(&mut self, node: Node, line: usize) -> Result<(), ImportError> {
        let Some(open) = self.open.last_mut() else {
            return match self.root.replace(node) {
                None => Ok(()),
                Some(_) => Err(ImportError::at(line, "a second document in the same file")),
            };
        };
        match (&mut open.node.content, open.key.take()) {
            (Content::List(items), _) => items.push(node),
            (Content::Map(_), None) => match node.content {
                Content::Scalar { text, .. } => open.key = Some((text, line)),
                Content::Null => open.key = Some(("null".to_owned(), line)),
                _ => return Err(ImportError::at(line, "a key that is no text")),
            },
            (Content::Map(entries), Some(_)) if entries.len() >= MAX_ENTRIES => {
                return Err(ImportError::at(line, format!("a map with more than {MAX_ENTRIES} entries")));
            }
            (Content::Map(entries), Some((key, _))) if key == "<<" => merge(entries, node, line)?,
            (Content::Map(entries), Some((key, key_line))) => {
                let node = Node { line: key_line, ..node };
                match entries.iter_mut().find(|(name, _)| *name == key) {
                    None => entries.push((key, node)),
                    Some((_, old)) => {
                        *old = node;
                        if self.repeated.len() < MAX_REPEATED {
                            self.repeated.push((key, key_line));
                        }
                    }
                }
            }
            (Content::Null | Content::Scalar { .. }, _) => {}
        }
        Ok(())
    }
}

/// `<<: *anchor`: what is not there already.
fn merge(entries: &mut Vec<(String, Node)>, node: Node, line: usize) -> Result<(), ImportError> {
    let sources = match node.content {
        Content::Map(entries) => vec![entries],
        Content::List(items) => items
            .into_iter()
            .map(|item| match item.content {
                Content::Map(entries) => Ok(entries),
                _ => Err(ImportError::at(line, "`<<` wants maps")),
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(ImportError::at(line, "`<<` wants a map")),
    };
    for (key, node) in sources.into_iter().flatten() {
        if !entries.iter().any(|(name, _)| *name == key) {
            entries.push((key, node));
        }
    }
    Ok(())
}

fn is_core(tag: Option<&Tag>, name: &str) -> bool {
    tag.is_some_and(|tag| tag.suffix == name && (tag.is_yaml_core_schema() || tag.handle == "!!"))
}

/// `Ref`, `Condition` or `Fn::Name` for a local tag.
fn function_of(tag: Option<&Tag>) -> Option<String> {
    let tag = tag.filter(|tag| tag.handle == "!" && !tag.suffix.is_empty())?;
    Some(match tag.suffix.as_str() {
        "Ref" | "Condition" => tag.suffix.clone(),
        name => format!("Fn::{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> serde_json::Value {
        read(text).unwrap().root.to_json()
    }

    #[test]
    fn tags_become_functions() {
        for (text, expected) in [
            ("a: !Ref B", serde_json::json!({"a": {"Ref": "B"}})),
            ("a: !GetAtt B.Arn", serde_json::json!({"a": {"Fn::GetAtt": "B.Arn"}})),
            ("a: !Sub 'x${B}'", serde_json::json!({"a": {"Fn::Sub": "x${B}"}})),
            (
                "a: !Join ['/', [x, !Ref B]]",
                serde_json::json!({"a": {"Fn::Join": ["/", ["x", {"Ref": "B"}]]}}),
            ),
            ("a: !Condition C", serde_json::json!({"a": {"Condition": "C"}})),
            ("a: !GetAZs ''", serde_json::json!({"a": {"Fn::GetAZs": ""}})),
            ("a: !!str 5", serde_json::json!({"a": "5"})),
            (
                "a: !Select\n- 0\n- !Split [',', b]",
                serde_json::json!({"a": {"Fn::Select": [0, {"Fn::Split": [",", "b"]}]}}),
            ),
            (
                r#"{"a": {"Ref": "B"}, "b": "\ud83d\ude00"}"#,
                serde_json::json!({"a": {"Ref": "B"}, "b": "😀"}),
            ),
            ("{a: b, c: [1]}", serde_json::json!({"a": "b", "c": [1]})),
            (
                "x: &a {k: 1, l: 2}\ny: {<<: *a, l: 3}",
                serde_json::json!({"x": {"k": 1, "l": 2}, "y": {"k": 1, "l": 3}}),
            ),
        ] {
            assert_eq!(json(text), expected, "{text}");
        }
    }

    #[test]
    fn lines_are_those_of_the_keys() {
        let text = read("a:\n  b: 1\n  c:\n    - x\n").unwrap();
        let a = text.root.get("a").unwrap();
        assert_eq!((a.line, a.get("b").unwrap().line, a.get("c").unwrap().line), (1, 2, 3));
    }

    #[test]
    fn a_key_that_is_there_twice_is_told() {
        let text = read("a: 1\nb: 2\na: 3\n").unwrap();
        assert_eq!(text.root.to_json(), serde_json::json!({"a": 3, "b": 2}));
        assert_eq!(text.repeated, [("a".to_owned(), 3)]);
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        for (text, line) in [("a: 1\nb: [1\n", 0), ("a: b: c\n", 1), ("a: *b\n", 1), ("{\"a\": 1,}x", 0)] {
            let error = read(text).unwrap_err();
            assert!(line == 0 || error.line == Some(line), "{text}: {error}");
        }
        for text in ["", "# nothing\n", "a: 1\n---\nb: 2\n", "a: &a [*a]", "? [a]\n: b"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn aliases_cannot_blow_a_text_up() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for idx in 1..30 {
            let below = idx - 1;
            let aliases = vec![format!("*a{below}"); 10].join(", ");
            bomb.push_str(&format!("a{idx}: &a{idx} [{aliases}]\n"));
        }
        let error = read(&bomb).unwrap_err();
        assert!(error.message.contains("200000 values"), "{error}");

        let mut chain = "a0: &a0 [x]\n".to_owned();
        for idx in 1..200 {
            chain.push_str(&format!("a{idx}: &a{idx} [*a{}]\n", idx - 1));
        }
        assert!(read(&chain).unwrap_err().message.contains("64 deep"));

        let deep = format!("a: {}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(read(&deep).is_err());
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(100), "]".repeat(100));
        assert!(read(&deep).is_err());
        assert!(read(&"a".repeat(MAX_TEMPLATE + 1)).is_err());
    }
}
