//! Methods of texts and numbers. Places in a text count UTF-16 units, as Java's do.

use std::rc::Rc;
use std::sync::Arc;

use super::evaluate::Machine;
use super::value::Value;
use super::{MAX_OUTPUT_BYTES, RenderError};
use crate::pattern::Pattern;

/// Place of the unit in the text, in bytes. A place inside of a character outside the basic plane is that behind it.
fn byte_place(text: &str, unit: usize) -> Option<usize> {
    let mut units = 0;
    for (at, c) in text.char_indices() {
        if units >= unit {
            return Some(at);
        }
        units += c.len_utf16();
    }
    (units >= unit).then_some(text.len())
}

fn units(text: &str) -> i64 {
    text.encode_utf16().count() as i64
}

fn bad(method: &'static str, reason: &'static str) -> RenderError {
    RenderError::Method { method, reason }
}

impl Machine<'_> {
    pub(super) fn text_method(
        &mut self,
        text: &str,
        name: &str,
        arguments: &[Value],
    ) -> Result<Option<Value>, RenderError> {
        self.heap.spend_bytes(text.len())?;
        Ok(Some(match (name, arguments) {
            ("length", []) => Value::Int(units(text)),
            ("isEmpty", []) => Value::Bool(text.is_empty()),
            ("toLowerCase", []) => self.heap.text(text.to_lowercase())?,
            ("toUpperCase", []) => self.heap.text(text.to_uppercase())?,
            ("trim", []) => self.heap.text(text.trim_matches(|c: char| c <= ' '))?,
            ("substring", [Value::Int(start)]) => {
                let start = usize::try_from(*start).ok().and_then(|start| byte_place(text, start));
                let start = start.ok_or_else(|| bad("substring", "index out of range"))?;
                self.heap.text(&text[start..])?
            }
            ("substring", [Value::Int(start), Value::Int(end)]) => {
                let place = |unit: i64| usize::try_from(unit).ok().and_then(|unit| byte_place(text, unit));
                let part = place(*start).zip(place(*end)).and_then(|(start, end)| text.get(start..end));
                self.heap.text(part.ok_or_else(|| bad("substring", "index out of range"))?)?
            }
            ("charAt", [Value::Int(place)]) => {
                let start = usize::try_from(*place).ok().and_then(|place| byte_place(text, place));
                let found = start.and_then(|start| text[start..].chars().next());
                let found = found.ok_or_else(|| bad("charAt", "index out of range"))?;
                self.heap.text(found.to_string())?
            }
            ("parseInt", [digits]) => {
                let digits = self.heap.text_of(digits)?;
                Value::Int(digits.parse().map_err(|_| bad("parseInt", "the text is no number"))?)
            }
            ("replace" | "replaceAll" | "replaceFirst", [wanted, by]) => {
                let (wanted, by) = (self.heap.text_of(wanted)?, self.heap.text_of(by)?);
                match name {
                    "replace" => {
                        let n_found = text.matches(&*wanted).count();
                        if text.len() + n_found * by.len() > MAX_OUTPUT_BYTES {
                            return Err(RenderError::TooLong);
                        }
                        self.heap.text(text.replace(&*wanted, &by))?
                    }
                    _ => self.replace(text, &wanted, &by, name == "replaceFirst")?,
                }
            }
            ("matches", [pattern]) => {
                let pattern = self.heap.text_of(pattern)?;
                let pattern = self.pattern(&pattern)?;
                self.heap.spend(pattern.cost(text))?;
                Value::Bool(pattern.fits(text))
            }
            ("split", [pattern]) => self.split(text, pattern, 0)?,
            ("split", [pattern, Value::Int(limit)]) => self.split(text, pattern, *limit)?,
            (_, [other]) => return self.text_with_other(text, name, other),
            ("indexOf", [other, Value::Int(from)]) => {
                let other = self.heap.text_of(other)?;
                let from = byte_place(text, usize::try_from(*from).unwrap_or(0)).unwrap_or(text.len());
                let found = text[from..].find(&*other).map(|at| units(&text[..from + at]));
                Value::Int(found.unwrap_or(-1))
            }
            _ => return Ok(None),
        }))
    }

    fn text_with_other(
        &mut self,
        text: &str,
        name: &str,
        other: &Value,
    ) -> Result<Option<Value>, RenderError> {
        let is_known = matches!(
            name,
            "indexOf"
                | "lastIndexOf"
                | "startsWith"
                | "endsWith"
                | "contains"
                | "equalsIgnoreCase"
                | "compareTo"
                | "concat"
        );
        if !is_known {
            return Ok(None);
        }
        let other = self.heap.text_of(other)?;
        let place = |at: Option<usize>| Value::Int(at.map_or(-1, |at| units(&text[..at])));
        Ok(Some(match name {
            "indexOf" => place(text.find(&*other)),
            "lastIndexOf" => place(text.rfind(&*other)),
            "startsWith" => Value::Bool(text.starts_with(&*other)),
            "endsWith" => Value::Bool(text.ends_with(&*other)),
            "contains" => Value::Bool(text.contains(&*other)),
            "equalsIgnoreCase" => {
                Value::Bool(text.len() == other.len() && text.to_lowercase() == other.to_lowercase())
            }
            "compareTo" => Value::Int(match text.cmp(&other) {
                std::cmp::Ordering::Less => -1,
                std::cmp::Ordering::Equal => 0,
                std::cmp::Ordering::Greater => 1,
            }),
            _ => self.heap.text(format!("{text}{other}"))?,
        }))
    }

    fn pattern(&mut self, text: &Arc<str>) -> Result<Rc<Pattern>, RenderError> {
        if let Some(known) = self.patterns.get(text) {
            return Ok(Rc::clone(known));
        }
        // Compiling is much more work than what else a step is.
        self.heap.spend(200 + 8 * text.len() as u64)?;
        let compiled = Rc::new(Pattern::compile(text).map_err(RenderError::Pattern)?);
        if self.patterns.len() < Self::MAX_KEPT {
            self.patterns.insert(Arc::clone(text), Rc::clone(&compiled));
        }
        Ok(compiled)
    }

    /// `$1` and `\x` in the replacement are Java's.
    fn replace(
        &mut self,
        text: &str,
        pattern: &Arc<str>,
        by: &str,
        is_first: bool,
    ) -> Result<Value, RenderError> {
        let pattern = self.pattern(pattern)?;
        self.heap.spend(pattern.cost(text))?;
        let mut out = String::new();
        let mut end = 0;
        for captures in pattern.regex().captures_iter(text) {
            self.heap.spend(1 + by.len() as u64 / 16)?;
            let Some(whole) = captures.get(0) else { break };
            out.push_str(&text[end..whole.start()]);
            end = whole.end();
            let mut chars = by.chars().peekable();
            while let Some(c) = chars.next() {
                match c {
                    '\\' => {
                        out.push(chars.next().ok_or_else(|| bad("replaceAll", "a backslash at the end"))?)
                    }
                    '$' => {
                        let group = chars.next().and_then(|c| c.to_digit(10));
                        let group = group.map(|group| group as usize);
                        let group = group.filter(|group| *group < captures.len());
                        let group = group.ok_or_else(|| bad("replaceAll", "no such group"))?;
                        out.push_str(captures.get(group).map_or("", |found| found.as_str()));
                    }
                    c => out.push(c),
                }
            }
            if out.len() > MAX_OUTPUT_BYTES {
                return Err(RenderError::TooLong);
            }
            if is_first {
                break;
            }
        }
        out.push_str(&text[end..]);
        self.heap.text(out)
    }

    /// As `String.split`: empty texts at the end are left out.
    fn split(&mut self, text: &str, pattern: &Value, limit: i64) -> Result<Value, RenderError> {
        let pattern = self.heap.text_of(pattern)?;
        let pattern = self.pattern(&pattern)?;
        self.heap.spend(pattern.cost(text))?;
        let mut parts = Vec::new();
        let mut start = 0;
        for found in pattern.regex().find_iter(text) {
            let is_last = limit > 0 && parts.len() as i64 + 1 >= limit;
            if is_last {
                break;
            }
            // A match of nothing at the begin divides nothing.
            if found.end() == 0 || (found.is_empty() && found.start() == text.len()) {
                continue;
            }
            parts.push(&text[start..found.start()]);
            start = found.end();
        }
        parts.push(&text[start..]);
        if limit == 0 {
            while parts.len() > 1 && parts.last().is_some_and(|part| part.is_empty()) {
                parts.pop();
            }
        }
        let parts = parts.into_iter().map(|part| self.heap.text(part)).collect::<Result<Vec<_>, _>>()?;
        self.heap.new_list(parts)
    }

    pub(super) fn number_method(
        &mut self,
        number: &Value,
        name: &str,
        arguments: &[Value],
    ) -> Result<Option<Value>, RenderError> {
        Ok(Some(match (name, arguments) {
            ("parseInt" | "parseLong" | "valueOf", [digits]) => {
                let digits = self.heap.text_of(digits)?;
                Value::Int(digits.parse().map_err(|_| bad("parseInt", "the text is no number"))?)
            }
            ("parseDouble", [digits]) => {
                let digits = self.heap.text_of(digits)?;
                Value::Float(digits.parse().map_err(|_| bad("parseDouble", "the text is no number"))?)
            }
            ("intValue" | "longValue", []) => match number {
                Value::Int(number) => Value::Int(*number),
                other => Value::Int(other.as_f64().unwrap_or(0.0) as i64),
            },
            ("doubleValue", []) => Value::Float(number.as_f64().unwrap_or(0.0)),
            _ => return Ok(None),
        }))
    }
}
