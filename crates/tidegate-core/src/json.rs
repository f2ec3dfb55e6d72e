//! A JSON document as a tree that keeps what the text says: the order of members, and numbers as they are written.
//!
//! For what has to give parts of a document back as it came: JSONPath, mapping templates, models. Configuration and
//! the control plane use `serde_json`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

/// Deepest nesting of a document that is read into a tree.
pub const MAX_DEPTH: usize = 128;

/// Longest document that is read into a tree, in bytes: eight messages of the usual limit.
pub const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;

/// Members from which on names are looked up in a table while an object is read.
const MANY_MEMBERS: usize = 16;

/// One value with everything in it. What the text has without escapes is not copied.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'t> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// As it is written.
    Number(Cow<'t, str>),
    /// Without quotes and escapes.
    Text(Cow<'t, str>),
    /// In order.
    Array(Vec<Json<'t>>),
    /// In order; each name once, the last value counts.
    Object(Vec<Member<'t>>),
}

/// Name and value.
pub type Member<'t> = (Cow<'t, str>, Json<'t>);

/// The text is no document that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON.
    #[error("not JSON, from byte {at} on")]
    Syntax {
        /// Where.
        at: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// Longer than [`MAX_DOCUMENT_BYTES`].
    #[error("longer than {MAX_DOCUMENT_BYTES} bytes")]
    TooLong,
}

impl<'t> Json<'t> {
    /// Reads a document.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn parse(text: &'t str) -> Result<Self, JsonError> {
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(JsonError::TooLong);
        }
        let mut reader = Reader { text, at: 0 };
        reader.blanks();
        let value = reader.value(0)?;
        reader.blanks();
        match reader.at == text.len() {
            true => Ok(value),
            false => Err(reader.error()),
        }
    }

    /// The member of an object. Compares names one by one.
    pub fn get(&self, name: &str) -> Option<&Json<'t>> {
        match self {
            Json::Object(members) => {
                members.iter().find(|(known, _)| **known == *name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The value on its own, for longer than the text.
    pub fn into_owned(self) -> Json<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Json::Null => Json::Null,
            Json::Bool(value) => Json::Bool(value),
            Json::Number(digits) => Json::Number(owned(digits)),
            Json::Text(text) => Json::Text(owned(text)),
            Json::Array(items) => Json::Array(items.into_iter().map(Json::into_owned).collect()),
            Json::Object(members) => {
                let members = members.into_iter().map(|(name, member)| (owned(name), member.into_owned()));
                Json::Object(members.collect())
            }
        }
    }

    /// A number's value.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Json::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// A string's content.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Writes JSON without blanks; false when `out` would become longer than `limit`.
    pub fn write_json(&self, out: &mut String, limit: usize) -> bool {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Json::Number(digits) => out.push_str(digits),
            Json::Text(text) => quote(text, out),
            Json::Array(items) => {
                out.push('[');
                for (item_idx, item) in items.iter().enumerate() {
                    if item_idx > 0 {
                        out.push(',');
                    }
                    if !item.write_json(out, limit) {
                        return false;
                    }
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (member_idx, (name, member)) in members.iter().enumerate() {
                    if member_idx > 0 {
                        out.push(',');
                    }
                    quote(name, out);
                    out.push(':');
                    if !member.write_json(out, limit) {
                        return false;
                    }
                }
                out.push('}');
            }
        }
        out.len() <= limit
    }

    /// Writes the value as Java prints it, `[a, b]` and `{k=v}`: the real service runs there. False when `out` would
    /// become longer than `limit`.
    pub fn write_java(&self, out: &mut String, limit: usize) -> bool {
        match self {
            Json::Text(text) => out.push_str(text),
            Json::Array(items) => {
                out.push('[');
                for (item_idx, item) in items.iter().enumerate() {
                    if item_idx > 0 {
                        out.push_str(", ");
                    }
                    if !item.write_java(out, limit) {
                        return false;
                    }
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (member_idx, (name, member)) in members.iter().enumerate() {
                    if member_idx > 0 {
                        out.push_str(", ");
                    }
                    out.push_str(name);
                    out.push('=');
                    if !member.write_java(out, limit) {
                        return false;
                    }
                }
                out.push('}');
            }
            Json::Null | Json::Bool(_) | Json::Number(_) => return self.write_json(out, limit),
        }
        out.len() <= limit
    }

    /// Whether two values are the same in the sense of JSON Schema: numbers by value, objects without order.
    /// `steps` counts what is compared.
    pub(crate) fn same(&self, other: &Json<'_>, steps: &mut u64) -> bool {
        *steps += 1;
        match (self, other) {
            (Json::Number(left), Json::Number(right)) => {
                left == right || left.parse::<f64>().ok() == right.parse::<f64>().ok()
            }
            (Json::Array(left), Json::Array(right)) => {
                left.len() == right.len()
                    && left.iter().zip(right).all(|(left, right)| left.same(right, steps))
            }
            (Json::Object(left), Json::Object(right)) => {
                left.len() == right.len()
                    && left.iter().enumerate().all(|(at, (name, value))| {
                        // Mostly both have one order.
                        let twin = match right.get(at) {
                            Some((known, value)) if known == name => Some(value),
                            _ => {
                                *steps += right.len() as u64;
                                other.get(name)
                            }
                        };
                        twin.is_some_and(|twin| value.same(twin, steps))
                    })
            }
            (Json::Text(left), Json::Text(right)) => {
                *steps += (left.len() / 64) as u64;
                left == right
            }
            (left, right) => left == right,
        }
    }
}

/// Writes a string with quotes and escapes.
pub fn quote(text: &str, out: &mut String) {
    out.push('"');
    let mut clean_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[clean_from..at]);
        clean_from = at + 1;
        match escape {
            "" => drop(write!(out, "\\u{byte:04x}")),
            escape => out.push_str(escape),
        }
    }
    out.push_str(&text[clean_from..]);
    out.push('"');
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn error(&self) -> JsonError {
        JsonError::Syntax { at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str, value: Json<'t>) -> Result<Json<'t>, JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.error());
        }
        self.at += word.len();
        Ok(value)
    }

    fn value(&mut self, depth: usize) -> Result<Json<'t>, JsonError> {
        if depth >= MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            _ => Err(self.error()),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json<'t>, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.blanks();
        if self.eat(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            self.blanks();
            items.push(self.value(depth + 1)?);
            self.blanks();
            if self.eat(b']') {
                return Ok(Json::Array(items));
            }
            if !self.eat(b',') {
                return Err(self.error());
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json<'t>, JsonError> {
        self.at += 1;
        let mut members: Vec<Member<'t>> = Vec::new();
        let mut places: HashMap<Cow<'t, str>, usize> = HashMap::new();
        self.blanks();
        if self.eat(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.error());
            }
            let name = self.string()?;
            self.blanks();
            if !self.eat(b':') {
                return Err(self.error());
            }
            self.blanks();
            let value = self.value(depth + 1)?;
            if members.len() == MANY_MEMBERS && places.is_empty() {
                places.extend(members.iter().enumerate().map(|(place, (name, _))| (name.clone(), place)));
            }
            let place = match places.is_empty() {
                true => members.iter().position(|(known, _)| *known == name),
                false => places.get(&name).copied(),
            };
            match place {
                // The last of several members of one name wins, as in the parsers of most backends.
                Some(place) => members[place].1 = value,
                None => {
                    if !places.is_empty() {
                        places.insert(name.clone(), members.len());
                    }
                    members.push((name, value));
                }
            }
            self.blanks();
            if self.eat(b'}') {
                return Ok(Json::Object(members));
            }
            if !self.eat(b',') {
                return Err(self.error());
            }
        }
    }

    fn digits(&mut self) -> bool {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        self.at > start
    }

    fn number(&mut self) -> Result<Json<'t>, JsonError> {
        let start = self.at;
        self.eat(b'-');
        let is_whole = self.eat(b'0') || self.digits();
        let has_fraction = !self.eat(b'.') || self.digits();
        let mut has_exponent = true;
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if !self.eat(b'-') {
                self.eat(b'+');
            }
            has_exponent = self.digits();
        }
        if !(is_whole && has_fraction && has_exponent) {
            return Err(self.error());
        }
        let digits = &self.text[start..self.at];
        // A value that no other parser can hold is none.
        if digits.parse::<f64>().is_ok_and(f64::is_finite) {
            return Ok(Json::Number(digits.into()));
        }
        Err(self.error())
    }

    /// At a quote.
    fn string(&mut self) -> Result<Cow<'t, str>, JsonError> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(text.into());
                }
                Some(b'\\') => break,
                None | Some(0..0x20) => return Err(self.error()),
                Some(_) => self.at += 1,
            }
        }
        let mut text = self.text[start..self.at].to_owned();
        let mut clean_from = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    text.push_str(&self.text[clean_from..self.at]);
                    self.at += 1;
                    return Ok(text.into());
                }
                Some(b'\\') => {
                    text.push_str(&self.text[clean_from..self.at]);
                    self.at += 1;
                    text.push(self.escape()?);
                    clean_from = self.at;
                }
                None | Some(0..0x20) => return Err(self.error()),
                Some(_) => self.at += 1,
            }
        }
    }

    /// Behind a backslash.
    fn escape(&mut self) -> Result<char, JsonError> {
        let byte = self.peek().ok_or(self.error())?;
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut code = self.hex()?;
                if (0xd800..0xdc00).contains(&code) {
                    if !self.eat(b'\\') || !self.eat(b'u') {
                        return Err(self.error());
                    }
                    let low = self.hex()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(self.error());
                    }
                    code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                }
                char::from_u32(code).ok_or(self.error())?
            }
            _ => return Err(self.error()),
        })
    }

    fn hex(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or(self.error())?;
        let mut code = 0;
        for digit in digits {
            code = code * 16 + char::from(*digit).to_digit(16).ok_or(self.error())?;
        }
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn plain(json: &Json<'_>) -> String {
        let mut text = String::new();
        assert!(json.write_json(&mut text, usize::MAX));
        text
    }

    #[test]
    fn documents_come_back_as_they_are() {
        for text in [
            r#"{"b":1,"a":[5.0,1e2,-0,12345678901234567890123],"":null}"#,
            r#""a\"\\\n\u0001é""#,
            "[]",
            "{}",
            "[[[]],{}]",
        ] {
            assert_eq!(plain(&Json::parse(text).expect(text)), text);
        }
        assert_eq!(plain(&Json::parse(" { \"a\" : 1 , \"b\":2, \"a\" : 3 } ").unwrap()), r#"{"a":3,"b":2}"#);
        let many: Vec<String> = (0..40).map(|n| format!(r#""k{}":{n}"#, n % 30)).collect();
        let many = format!("{{{}}}", many.join(","));
        let Ok(Json::Object(members)) = Json::parse(&many) else { panic!() };
        assert_eq!((members.len(), &members[3].1), (30, &Json::Number("33".into())));
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Json::parse(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(Json::parse(&nested(MAX_DEPTH + 1)), Err(JsonError::TooDeep));
        assert_eq!(Json::parse(&nested(100_000)), Err(JsonError::TooDeep));
        assert_eq!(Json::parse(&" ".repeat(MAX_DOCUMENT_BYTES + 1)), Err(JsonError::TooLong));
        let mut out = String::new();
        assert!(!Json::parse("[1,2,3]").unwrap().write_java(&mut out, 5));
    }

    proptest! {
        #[test]
        fn what_is_json_is_json_for_others_too(
            text in r#"[\[\]{}:,"\\utfn0-9eE.+ \-aé]{0,24}"#,
        ) {
            let theirs = serde_json::from_str::<Value>(&text).ok();
            let ours = Json::parse(&text).ok();
            prop_assert_eq!(ours.is_some(), theirs.is_some(), "{}", &text);
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                prop_assert_eq!(serde_json::from_str::<Value>(&plain(&ours)).unwrap(), theirs);
            }
        }

        #[test]
        fn strings_come_back(text in any::<String>()) {
            let written = Value::from(text.as_str()).to_string();
            prop_assert_eq!(Json::parse(&written), Ok(Json::Text(text.as_str().into())));
            let mut quoted = String::new();
            quote(&text, &mut quoted);
            prop_assert_eq!(quoted, written);
        }
    }
}
