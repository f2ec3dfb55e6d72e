//! `$input`, `$context` and `$util`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::evaluate::Machine;
use super::value::{Heap, Members, Value};
use super::{MAX_OUTPUT_BYTES, RenderError};
use crate::json::{Json, JsonError};
use crate::json_path::{Budget, JsonPath, JsonPathError};

impl<'a> Machine<'a> {
    /// `$context.{section}{name}`; absent ones print nothing.
    pub(super) fn context(&mut self, section: &'static str, name: &str) -> Result<Value, RenderError> {
        let value = match section {
            "" => self.scope.event.variable(name),
            section => self.scope.event.variable(&format!("{section}{name}")),
        };
        if let Some(value) = value {
            let is_number = matches!(name, "connectedAt" | "requestTimeEpoch" | "disconnectStatusCode");
            return match value.parse() {
                Ok(number) if is_number && section.is_empty() => Ok(Value::Int(number)),
                _ => self.heap.text(value),
            };
        }
        Ok(match (section, name) {
            ("", "identity") => Value::Context("identity."),
            ("", "authorizer") => Value::Context("authorizer."),
            ("authorizer.", "claims") if self.scope.event.has_token_claims() => {
                Value::Context("authorizer.claims.")
            }
            ("", "error") => Value::Context("error."),
            // They belong to REST APIs.
            ("", "requestOverride" | "responseOverride") => Value::Null,
            _ => Value::Absent,
        })
    }

    pub(super) fn input_method(
        &mut self,
        name: &str,
        arguments: &[Value],
    ) -> Result<Option<Value>, RenderError> {
        match (name, arguments) {
            ("body" | "getBody", []) => {
                let body = self.scope.body;
                self.heap.text(body).map(Some)
            }
            ("json", [path]) => {
                let path = self.heap.text_of(path)?;
                let mut out = String::with_capacity(self.scope.body.len());
                self.write_json(&path, &mut out)?;
                self.heap.text(out).map(Some)
            }
            ("path", [path]) => {
                let path = self.heap.text_of(path)?;
                let value = self.find(&path, |heap, found| match found {
                    None => Ok(Value::Absent),
                    Some(found) => heap.import(found),
                })?;
                Ok(Some(if value == Value::Null { Value::Absent } else { value }))
            }
            ("params", []) => self.all_parameters().map(Some),
            ("params", [wanted]) => {
                let wanted = self.heap.text_of(wanted)?;
                // In the order that the service documents.
                for place in ["path", "querystring", "header"] {
                    let all = self.all_parameters()?;
                    if let Value::Map(all) = all
                        && let Some(Value::Map(of_place)) = self.heap.get(all, place)?
                        && let Some(found) = self.heap.get(of_place, &wanted)?
                    {
                        return Ok(Some(found));
                    }
                }
                Ok(Some(Value::Absent))
            }
            _ => Ok(None),
        }
    }

    /// Appends what stands at a path of the body as JSON; `""` where nothing does.
    pub(super) fn write_json(&mut self, path: &Arc<str>, out: &mut String) -> Result<(), RenderError> {
        self.find(path, |_, found| {
            let is_written = match found {
                None => {
                    out.push_str("\"\"");
                    out.len() <= MAX_OUTPUT_BYTES
                }
                Some(found) => found.write_json(out, MAX_OUTPUT_BYTES),
            };
            if is_written { Ok(()) } else { Err(RenderError::TooLong) }
        })
    }

    fn path(&mut self, path: &Arc<str>) -> Result<Arc<JsonPath>, RenderError> {
        if let Some(known) = self.known_paths.get(path).or_else(|| self.paths.get(path)) {
            return Ok(Arc::clone(known));
        }
        self.heap.spend(16)?;
        let parsed = Arc::new(parse_path(path).map_err(RenderError::Path)?);
        if self.paths.len() < Self::MAX_KEPT {
            self.paths.insert(Arc::clone(path), Arc::clone(&parsed));
        }
        Ok(parsed)
    }

    /// The body as a tree. An empty body is an empty object, and text that is not JSON is a string, as for the service's
    /// own parser.
    fn document(&mut self) -> Result<Rc<Json<'a>>, RenderError> {
        if let Some(document) = &self.document {
            return Ok(Rc::clone(document));
        }
        let body = self.scope.body;
        self.heap.spend_bytes(body.len())?;
        self.heap.allocate(body.len().saturating_mul(4))?;
        let document = Rc::new(match Json::parse(body) {
            Ok(document) => document,
            Err(JsonError::Syntax { .. }) if body.trim().is_empty() => Json::Object(Vec::new()),
            Err(JsonError::Syntax { .. }) => Json::Text(body.into()),
            Err(error) => return Err(RenderError::Document(error)),
        });
        self.document = Some(Rc::clone(&document));
        Ok(document)
    }

    /// Hands on what stands at a path of the body; it counts as if it were copied, as it mostly is.
    fn find<T>(
        &mut self,
        path: &Arc<str>,
        take: impl FnOnce(&mut Heap, Option<&Json<'_>>) -> Result<T, RenderError>,
    ) -> Result<T, RenderError> {
        let path = self.path(path)?;
        let document = self.document()?;
        let budget = Budget::new(self.heap.steps_left());
        let hits = path.evaluate(&document, &budget).map_err(RenderError::PathTooComplex)?;
        let found = hits.into_json(&budget).map_err(RenderError::PathTooComplex)?;
        if let Some(Cow::Borrowed(found)) = &found {
            budget.spend_copy(found).map_err(RenderError::PathTooComplex)?;
        }
        self.heap.spend(self.heap.steps_left() - budget.left())?;
        take(&mut self.heap, found.as_deref())
    }

    /// `{path={}, querystring={...}, header={...}}`.
    fn all_parameters(&mut self) -> Result<Value, RenderError> {
        if let Some(known) = &self.parameters {
            return Ok(known.clone());
        }
        let mut query = Members::default();
        for (name, value) in crate::mapping::query_pairs(self.scope.query) {
            self.put_parameter(&mut query, name, value)?;
        }
        let mut header = Members { ignores_case: true, ..Members::default() };
        for (name, value) in self.scope.headers.into_iter().flatten() {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            self.put_parameter(&mut header, title_cased(name.as_str()), value)?;
        }
        let path = self.heap.new_map(Members::default())?;
        let query = self.heap.new_map(query)?;
        let header = self.heap.new_map(header)?;
        let entries = vec![("path".into(), path), ("querystring".into(), query), ("header".into(), header)];
        let all = self.heap.new_map(Members { entries, ignores_case: false })?;
        self.parameters = Some(all.clone());
        Ok(all)
    }

    /// The last value of a name counts.
    fn put_parameter(
        &mut self,
        members: &mut Members,
        name: String,
        value: String,
    ) -> Result<(), RenderError> {
        self.heap.spend(1 + members.entries.len() as u64 / 16)?;
        self.heap.allocate(name.len())?;
        let value = self.heap.text(value)?;
        match members.place(&name) {
            Some(place) => members.entries[place].1 = value,
            None => members.entries.push((name.into(), value)),
        }
        Ok(())
    }

    pub(super) fn util_method(
        &mut self,
        name: &str,
        arguments: &[Value],
    ) -> Result<Option<Value>, RenderError> {
        let [argument] = arguments else { return Ok(None) };
        if *argument == Value::Null {
            return Ok(None);
        }
        let text = self.heap.text_of(argument)?;
        // Each of them may make the text six times as long.
        self.heap.spend_bytes(text.len() * 2)?;
        let bad = |method, reason| RenderError::Method { method, reason };
        let made = match name {
            "escapeJavaScript" => escape_java_script(&text),
            "urlEncode" => form_urlencode(&text),
            "urlDecode" => {
                let decoded = form_urldecode(&text);
                decoded.ok_or_else(|| bad("urlDecode", "an incomplete or invalid `%` sequence"))?
            }
            "base64Encode" => STANDARD.encode(text.as_bytes()),
            "base64Decode" => {
                let decoded = STANDARD.decode(text.as_bytes());
                let decoded = decoded.map_err(|_| bad("base64Decode", "the text is not base64"))?;
                String::from_utf8_lossy(&decoded).into_owned()
            }
            "parseJson" => {
                let parsed = Json::parse(&text).map_err(|error| match error {
                    JsonError::Syntax { .. } => bad("parseJson", "the text is not JSON"),
                    error => RenderError::Document(error),
                })?;
                self.heap.allocate(text.len().saturating_mul(4))?;
                return self.heap.import(&parsed).map(Some);
            }
            _ => return Ok(None),
        };
        self.heap.text(made).map(Some)
    }
}

/// A path as `$input.json` and `$input.path` take it: without `$` it starts at a member.
pub(super) fn parse_path(text: &str) -> Result<JsonPath, JsonPathError> {
    let trimmed = text.trim();
    match trimmed.strip_prefix('$') {
        Some(below) => JsonPath::parse(below),
        None => JsonPath::parse(&format!(".{trimmed}")),
    }
}

/// A name as HTTP/1.1 programs are used to see it: `X-Request-Id`.
fn title_cased(name: &str) -> String {
    let mut is_first = true;
    name.chars()
        .map(|c| {
            let c = if is_first { c.to_ascii_uppercase() } else { c };
            is_first = c == '-';
            c
        })
        .collect()
}

/// As `StringEscapeUtils.escapeJavaScript` of commons-lang 2 writes it: what is not ASCII becomes `\uXXXX`.
fn escape_java_script(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\'' => out.push_str("\\'"),
            '\\' => out.push_str("\\\\"),
            '/' => out.push_str("\\/"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04X}");
                }
            }
        }
    }
    out
}

/// `application/x-www-form-urlencoded`, as `URLEncoder` writes it.
fn form_urlencode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => out.push(char::from(byte)),
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

fn form_urldecode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                out.push((high * 16 + low) as u8);
            }
            _ => out.push(byte),
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}
