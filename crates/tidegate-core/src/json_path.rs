//! JSONPath as selection expressions and mappings use it: Goessner's syntax, Jayway's results.
//!
//! A definite path (names and indexes only, the usual case) is read straight from the text without building a
//! tree; anything else is evaluated over a tree. Input is bounded by the message limit and by a nesting depth
//! of 128.

use std::fmt::Write as _;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// A parsed path below `$`.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

/// The text is no JSONPath.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSONPath at character {at}: {reason}")]
pub struct JsonPathError {
    /// Offset in the path, in bytes.
    pub at: usize,
    /// What was expected.
    pub reason: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Name(String),
    Index(i64),
    Wildcard,
    Slice { start: Option<i64>, end: Option<i64>, step: i64 },
    Union(Vec<Step>),
    Filter(Filter),
    Descend,
}

#[derive(Debug, Clone, PartialEq)]
struct Filter {
    path: Vec<Step>,
    test: Option<(Comparison, Value)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What stands at a path of a document.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// The document is not JSON.
    NotJson,
    /// Nothing stands there.
    Nothing,
    /// The value in its text form: a string itself, a number as written, `[a, b]`, `{k=v}`; `null` is empty.
    Text(String),
}

impl Found {
    /// The text form, empty when there is nothing.
    pub fn into_text(self) -> String {
        match self {
            Found::Text(text) => text,
            Found::NotJson | Found::Nothing => String::new(),
        }
    }
}

impl JsonPath {
    /// Parses what follows `$`: `""`, `.a.b`, `['a'][0]`, `..x`, `[*]`, `[1:3]`, `[?(@.a == 'x')]`.
    ///
    /// # Errors
    /// [`JsonPathError`] with the place.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let mut parser = Parser { text, at: 0 };
        let steps = parser.steps(false)?;
        if parser.at < text.len() {
            return Err(parser.error("`.` or `[` expected"));
        }
        Ok(Self { steps })
    }

    /// Finds the path in a JSON text.
    pub fn find(&self, json: &str) -> Found {
        if self.is_definite() {
            let mut deserializer = serde_json::Deserializer::from_str(json);
            let found = Reader { steps: &self.steps }.deserialize(&mut deserializer);
            return match found.and_then(|raw| deserializer.end().map(|()| raw)) {
                Err(_) => Found::NotJson,
                Ok(None) => Found::Nothing,
                Ok(Some(raw)) => Found::Text(raw_to_text(raw.get())),
            };
        }
        let Ok(root) = serde_json::from_str::<Value>(json) else { return Found::NotJson };
        let mut hits = Vec::new();
        walk(&root, &self.steps, &mut hits);
        let mut text = String::from("[");
        for (hit_idx, hit) in hits.iter().enumerate() {
            if hit_idx > 0 {
                text.push_str(", ");
            }
            write_value(hit, &mut text);
        }
        text.push(']');
        Found::Text(text)
    }

    /// The JSON value at the path, an array of hits when the path is not definite.
    pub fn value(&self, json: &str) -> Option<Value> {
        let root: Value = serde_json::from_str(json).ok()?;
        let mut hits = Vec::new();
        walk(&root, &self.steps, &mut hits);
        match self.is_definite() {
            true => hits.first().map(|value| (*value).clone()),
            false => Some(Value::Array(hits.into_iter().cloned().collect())),
        }
    }

    fn is_definite(&self) -> bool {
        self.steps.iter().all(|step| match step {
            Step::Name(_) => true,
            Step::Index(index) => *index >= 0,
            _ => false,
        })
    }
}

/// The text form of a value, as Java prints it: the real service's evaluator runs there.
fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::String(text) => out.push_str(text),
        Value::Array(items) => {
            out.push('[');
            for (item_idx, item) in items.iter().enumerate() {
                if item_idx > 0 {
                    out.push_str(", ");
                }
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (member_idx, (name, member)) in members.iter().enumerate() {
                if member_idx > 0 {
                    out.push_str(", ");
                }
                out.push_str(name);
                out.push('=');
                write_value(member, out);
            }
            out.push('}');
        }
        Value::Bool(_) | Value::Number(_) => {
            let _ = write!(out, "{value}");
        }
    }
}

fn raw_to_text(raw: &str) -> String {
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).unwrap_or_default(),
        Some(b'{' | b'[') => {
            let mut text = String::new();
            if let Ok(value) = serde_json::from_str::<Value>(raw) {
                write_value(&value, &mut text);
            }
            text
        }
        Some(b'n') => String::new(),
        _ => raw.to_owned(),
    }
}

/// Walks the text along a definite path; everything beside it is only checked.
struct Reader<'p> {
    steps: &'p [Step],
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.steps.is_empty() {
            true => <&RawValue as serde::Deserialize>::deserialize(deserializer).map(Some),
            false => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match self.steps.first() {
                // The last of several members of one name wins, as in the parsers of most backends.
                Some(Step::Name(wanted)) if *wanted == name => {
                    found = map.next_value_seed(Reader { steps: &self.steps[1..] })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let wanted = match self.steps.first() {
            Some(Step::Index(index)) => usize::try_from(*index).ok(),
            _ => None,
        };
        let mut found = None;
        for item_idx in 0usize.. {
            if Some(item_idx) == wanted {
                match seq.next_element_seed(Reader { steps: &self.steps[1..] })? {
                    Some(item) => found = item,
                    None => break,
                }
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

fn walk<'v>(value: &'v Value, steps: &[Step], hits: &mut Vec<&'v Value>) {
    let Some((step, rest)) = steps.split_first() else {
        hits.push(value);
        return;
    };
    match step {
        Step::Descend => {
            walk(value, rest, hits);
            match value {
                Value::Array(items) => items.iter().for_each(|item| walk(item, steps, hits)),
                Value::Object(members) => members.values().for_each(|member| walk(member, steps, hits)),
                _ => {}
            }
        }
        Step::Union(choices) => {
            for choice in choices {
                select(value, choice, &mut |hit| walk(hit, rest, hits));
            }
        }
        _ => select(value, step, &mut |hit| walk(hit, rest, hits)),
    }
}

fn select<'v>(value: &'v Value, step: &Step, take: &mut dyn FnMut(&'v Value)) {
    match (step, value) {
        (Step::Name(name), Value::Object(members)) => members.get(name).into_iter().for_each(take),
        (Step::Index(index), Value::Array(items)) => {
            let index = if *index < 0 { *index + items.len() as i64 } else { *index };
            usize::try_from(index).ok().and_then(|index| items.get(index)).into_iter().for_each(take);
        }
        (Step::Wildcard, Value::Array(items)) => items.iter().for_each(take),
        (Step::Wildcard, Value::Object(members)) => members.values().for_each(take),
        (Step::Slice { start, end, step }, Value::Array(items)) => {
            let length = items.len() as i64;
            let place = |at: i64| if at < 0 { (at + length).max(0) } else { at.min(length) };
            let (mut at, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(length)));
            while at < end {
                if let Some(item) = items.get(at as usize) {
                    take(item);
                }
                at += step;
            }
        }
        (Step::Filter(filter), Value::Array(items)) => {
            items.iter().filter(|item| filter.admits(item)).for_each(take);
        }
        (Step::Filter(filter), Value::Object(members)) => {
            members.values().filter(|member| filter.admits(member)).for_each(take);
        }
        _ => {}
    }
}

impl Filter {
    fn admits(&self, value: &Value) -> bool {
        let mut hits = Vec::new();
        walk(value, &self.path, &mut hits);
        let Some((comparison, wanted)) = &self.test else { return !hits.is_empty() };
        hits.iter().any(|hit| {
            let order = match (hit, wanted) {
                (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
                (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
                _ => (*hit == wanted).then_some(std::cmp::Ordering::Equal),
            };
            match comparison {
                Comparison::Equal => order.is_some_and(|order| order.is_eq()),
                Comparison::NotEqual => !order.is_some_and(|order| order.is_eq()),
                Comparison::Less => order.is_some_and(|order| order.is_lt()),
                Comparison::LessOrEqual => order.is_some_and(|order| order.is_le()),
                Comparison::Greater => order.is_some_and(|order| order.is_gt()),
                Comparison::GreaterOrEqual => order.is_some_and(|order| order.is_ge()),
            }
        })
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, reason: &'static str) -> JsonPathError {
        JsonPathError { at: self.at, reason }
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn blanks(&mut self) {
        while self.eat(" ") {}
    }

    fn steps(&mut self, in_filter: bool) -> Result<Vec<Step>, JsonPathError> {
        let mut steps = Vec::new();
        loop {
            if self.eat("..") {
                steps.push(Step::Descend);
                if !self.rest().starts_with('[') {
                    steps.push(self.name(in_filter)?);
                }
            } else if self.eat(".") {
                steps.push(self.name(in_filter)?);
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else {
                return Ok(steps);
            }
            if steps.len() > 64 {
                return Err(self.error("at most 64 steps"));
            }
        }
    }

    fn name(&mut self, in_filter: bool) -> Result<Step, JsonPathError> {
        if self.eat("*") {
            return Ok(Step::Wildcard);
        }
        let ends =
            |c: char| matches!(c, '.' | '[') || (in_filter && matches!(c, ' ' | ')' | '=' | '!' | '<' | '>'));
        let length = self.rest().find(ends).unwrap_or(self.rest().len());
        if length == 0 {
            return Err(self.error("a name expected"));
        }
        let name = self.rest()[..length].to_owned();
        self.at += length;
        Ok(Step::Name(name))
    }

    fn bracket(&mut self) -> Result<Step, JsonPathError> {
        if self.eat("?(") {
            let filter = self.filter()?;
            if !self.eat(")]") {
                return Err(self.error("`)]` expected"));
            }
            return Ok(Step::Filter(filter));
        }
        let mut choices = vec![self.choice()?];
        while self.eat(",") {
            choices.push(self.choice()?);
        }
        if !self.eat("]") {
            return Err(self.error("`]` expected"));
        }
        match choices.len() {
            1 => choices.pop().ok_or(JsonPathError { at: self.at, reason: "a name or index expected" }),
            _ => Ok(Step::Union(choices)),
        }
    }

    fn choice(&mut self) -> Result<Step, JsonPathError> {
        self.blanks();
        let step = if self.eat("*") {
            Step::Wildcard
        } else if let Some(text) = self.quoted()? {
            Step::Name(text)
        } else {
            let start = self.integer()?;
            if self.eat(":") {
                let end = self.integer()?;
                let step = if self.eat(":") { self.integer()?.unwrap_or(1) } else { 1 };
                if step < 1 {
                    return Err(self.error("a positive step expected"));
                }
                Step::Slice { start, end, step }
            } else {
                Step::Index(start.ok_or_else(|| self.error("a name or index expected"))?)
            }
        };
        self.blanks();
        Ok(step)
    }

    fn quoted(&mut self) -> Result<Option<String>, JsonPathError> {
        let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            return Ok(None);
        };
        let mut text = String::new();
        let mut escaped = false;
        for (offset, c) in self.rest().char_indices().skip(1) {
            match c {
                _ if escaped => {
                    text.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                _ if c == quote => {
                    self.at += offset + 1;
                    return Ok(Some(text));
                }
                _ => text.push(c),
            }
        }
        Err(self.error("closing quote expected"))
    }

    fn integer(&mut self) -> Result<Option<i64>, JsonPathError> {
        let rest = self.rest();
        let length = rest
            .char_indices()
            .find(|(offset, c)| !(c.is_ascii_digit() || (*offset == 0 && *c == '-')))
            .map_or(rest.len(), |(offset, _)| offset);
        if length == 0 {
            return Ok(None);
        }
        let number = rest[..length].parse().map_err(|_| self.error("an integer expected"))?;
        self.at += length;
        Ok(Some(number))
    }

    fn filter(&mut self) -> Result<Filter, JsonPathError> {
        self.blanks();
        if !self.eat("@") {
            return Err(self.error("`@` expected"));
        }
        let path = self.steps(true)?;
        self.blanks();
        let comparison = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ]
        .into_iter()
        .find(|(token, _)| self.eat(token))
        .map(|(_, comparison)| comparison);
        let Some(comparison) = comparison else { return Ok(Filter { path, test: None }) };
        self.blanks();
        let wanted = match self.quoted()? {
            Some(text) => Value::String(text),
            None => {
                let length = self.rest().find([')', ' ']).unwrap_or(self.rest().len());
                let value = serde_json::from_str(&self.rest()[..length])
                    .map_err(|_| self.error("a JSON literal expected"))?;
                self.at += length;
                value
            }
        };
        self.blanks();
        Ok(Filter { path, test: Some((comparison, wanted)) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(path: &str, json: &str, text: &str) {
        let path = JsonPath::parse(path).expect(path);
        assert_eq!(path.find(json), Found::Text(text.to_owned()), "{json}");
    }

    #[test]
    fn values_become_text() {
        check(".a", r#"{"a":"x"}"#, "x");
        check(".a.b", r#"{"a":{"b":5.0}}"#, "5.0");
        check("['a']['b c']", r#"{"a":{"b c":true}}"#, "true");
        check(".a[1]", r#"{"a":[1,"two"]}"#, "two");
        check(".a", r#"{"a":[1,"two",null]}"#, "[1, two, null]");
        check(".a", r#"{"a":{"k":1,"m":"n"}}"#, "{k=1, m=n}");
        check(".a", r#"{"a":null}"#, "");
        check(".a", r#"{"a":1,"a":2}"#, "2");
        check(".a", r#"{"a":"A\n"}"#, "A\n");
        check("..id", r#"{"a":{"id":1},"b":[{"id":2}]}"#, "[1, 2]");
        check("..id", r#"{"a":{"id":1}}"#, "[1]");
        check(".a[*]", r#"{"a":[1,2]}"#, "[1, 2]");
        check(".a[-1]", r#"{"a":[1,2]}"#, "[2]");
        check(".a[0:2]", r#"{"a":[1,2,3]}"#, "[1, 2]");
        check(".a[0,2]", r#"{"a":[1,2,3]}"#, "[1, 3]");
        check(".a[?(@.n > 1)].v", r#"{"a":[{"n":1,"v":"x"},{"n":2,"v":"y"}]}"#, "[y]");
        check(".a[?(@.n == 'k')].v", r#"{"a":[{"n":"k","v":7}]}"#, "[7]");
        check(".a[?(@.n)].v", r#"{"a":[{"v":1},{"n":0,"v":2}]}"#, "[2]");
    }

    #[test]
    fn absent_and_broken_are_told_apart() {
        let path = JsonPath::parse(".action").unwrap();
        for json in [r#"{"hello":1}"#, "[1,2]", "42", r#""action""#, "true", "null"] {
            assert_eq!(path.find(json), Found::Nothing, "{json}");
        }
        for json in ["", "hello", r#"{"action":"join""#, r#"{"action":"join"} x"#] {
            assert_eq!(path.find(json), Found::NotJson, "{json}");
        }
        // What no path leads into is only checked, without recursion, so its depth does not matter.
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(path.find(&deep), Found::Nothing);
        let wild = JsonPath::parse("..a").unwrap();
        assert_eq!(wild.find(&deep), Found::NotJson);
    }

    #[test]
    fn bad_paths_are_refused() {
        for bad in [".", "[", "['a", ".a[", ".a[x]", "a", ".a[?(@.b ==)]", ".a[?(b)]", ".a[::0]"] {
            assert!(JsonPath::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(path in ".{0,40}", json in ".{0,60}") {
            if let Ok(path) = JsonPath::parse(&path) {
                let _ = path.find(&json);
            }
        }

        #[test]
        fn reading_the_text_equals_walking_the_tree(name in "[a-c]", index in 0i64..3, json in arbitrary_json()) {
            let text = json.to_string();
            let steps = vec![Step::Name(name), Step::Index(index)];
            let path = JsonPath { steps: steps.clone() };
            let mut hits = Vec::new();
            walk(&json, &steps, &mut hits);
            let expected = match hits.first() {
                None => Found::Nothing,
                Some(value) => Found::Text(raw_to_text(&value.to_string())),
            };
            prop_assert_eq!(path.find(&text), expected);
        }
    }

    fn arbitrary_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z\"\\\\]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
