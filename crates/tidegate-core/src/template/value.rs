//! Values of a running template.
//!
//! Lists and maps live in a [`Heap`] that ends with the run, so values that contain one another leak nothing.

use std::sync::Arc;

use super::{MAX_DEPTH, MAX_MEMORY_BYTES, MAX_OUTPUT_BYTES, MAX_STEPS, RenderError};
use crate::json::Json;

/// What a reference can give.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Nothing: the reference prints itself.
    Null,
    /// Nothing, of a source that prints nothing then: `$input.path`, `$input.params`, `$context`.
    Absent,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// A number with more digits than others hold; as written.
    Digits(Arc<str>),
    Text(Arc<str>),
    List(Id),
    Map(Id),
    /// Of an `entrySet()`.
    Entry(Id),
    Input,
    Util,
    /// `$context.{name}.`; empty for `$context` itself.
    Context(&'static str),
    /// `$foreach` of the loop at this level.
    Foreach(usize),
}

/// Place in a [`Heap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(u32);

#[derive(Debug)]
enum Object {
    List(Vec<Value>),
    Map(Members),
    Entry(Value, Value),
}

/// A map's entries, in order.
#[derive(Debug, Default, Clone)]
pub(super) struct Members {
    pub(super) entries: Vec<(Arc<str>, Value)>,
    /// Names of headers.
    pub(super) ignores_case: bool,
}

impl Members {
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        let exact = self.entries.iter().position(|(known, _)| **known == *name);
        exact.or_else(|| {
            let is_alike = |(known, _): &(Arc<str>, Value)| known.eq_ignore_ascii_case(name);
            self.entries.iter().position(is_alike).filter(|_| self.ignores_case)
        })
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.place(name).map(|place| &self.entries[place].1)
    }
}

/// Lists, maps and budgets of a run.
#[derive(Debug)]
pub(super) struct Heap {
    objects: Vec<Object>,
    steps_left: u64,
    memory_left: usize,
}

/// Bytes that one item of a list or map counts for.
const ITEM_BYTES: usize = 48;

impl Heap {
    pub(super) fn new() -> Self {
        Self { objects: Vec::new(), steps_left: MAX_STEPS, memory_left: MAX_MEMORY_BYTES }
    }

    pub(super) fn spend(&mut self, steps: u64) -> Result<(), RenderError> {
        self.steps_left = self.steps_left.checked_sub(steps).ok_or(RenderError::TooManySteps)?;
        Ok(())
    }

    pub(super) fn steps_left(&self) -> u64 {
        self.steps_left
    }

    /// For looking at a text or writing one.
    pub(super) fn spend_bytes(&mut self, bytes: usize) -> Result<(), RenderError> {
        self.spend(bytes as u64 / 64)
    }

    pub(super) fn allocate(&mut self, bytes: usize) -> Result<(), RenderError> {
        self.memory_left = self.memory_left.checked_sub(bytes).ok_or(RenderError::TooMuchMemory)?;
        Ok(())
    }

    /// A text of a method's making.
    pub(super) fn text(&mut self, text: impl Into<Arc<str>> + AsRef<str>) -> Result<Value, RenderError> {
        let length = text.as_ref().len();
        if length > MAX_OUTPUT_BYTES {
            return Err(RenderError::TooLong);
        }
        self.spend_bytes(length)?;
        self.allocate(length + ITEM_BYTES)?;
        Ok(Value::Text(text.into()))
    }

    fn keep(&mut self, object: Object, n_items: usize) -> Result<Id, RenderError> {
        self.allocate(ITEM_BYTES * (n_items + 1))?;
        self.spend(n_items as u64 / 4)?;
        let id = u32::try_from(self.objects.len()).map_err(|_| RenderError::TooMuchMemory)?;
        self.objects.push(object);
        Ok(Id(id))
    }

    pub(super) fn new_list(&mut self, items: Vec<Value>) -> Result<Value, RenderError> {
        let n_items = items.len();
        self.keep(Object::List(items), n_items).map(Value::List)
    }

    pub(super) fn new_map(&mut self, members: Members) -> Result<Value, RenderError> {
        let n_items = members.entries.len();
        self.keep(Object::Map(members), n_items).map(Value::Map)
    }

    pub(super) fn new_entry(&mut self, key: Value, value: Value) -> Result<Value, RenderError> {
        self.keep(Object::Entry(key, value), 2).map(Value::Entry)
    }

    pub(super) fn list(&self, id: Id) -> &[Value] {
        match &self.objects[id.0 as usize] {
            Object::List(items) => items,
            _ => &[],
        }
    }

    /// For changes: counts room for one more item.
    pub(super) fn list_mut(&mut self, id: Id) -> Result<&mut Vec<Value>, RenderError> {
        self.allocate(ITEM_BYTES)?;
        match &mut self.objects[id.0 as usize] {
            Object::List(items) => Ok(items),
            _ => Err(RenderError::TooDeep),
        }
    }

    pub(super) fn map(&self, id: Id) -> Option<&Members> {
        match &self.objects[id.0 as usize] {
            Object::Map(members) => Some(members),
            _ => None,
        }
    }

    pub(super) fn entry(&self, id: Id) -> Option<(&Value, &Value)> {
        match &self.objects[id.0 as usize] {
            Object::Entry(key, value) => Some((key, value)),
            _ => None,
        }
    }

    pub(super) fn get(&mut self, id: Id, name: &str) -> Result<Option<Value>, RenderError> {
        let Some(members) = self.map(id) else { return Ok(None) };
        let found = members.get(name).cloned();
        let steps = members.entries.len() as u64 / 16;
        self.spend(steps)?;
        Ok(found)
    }

    /// The value that was there before.
    pub(super) fn put(&mut self, id: Id, name: Arc<str>, value: Value) -> Result<Option<Value>, RenderError> {
        let steps = self.map(id).map_or(0, |members| members.entries.len() as u64 / 16);
        self.spend(1 + steps)?;
        self.allocate(ITEM_BYTES + name.len())?;
        let Object::Map(members) = &mut self.objects[id.0 as usize] else { return Ok(None) };
        Ok(match members.place(&name) {
            Some(place) => Some(std::mem::replace(&mut members.entries[place].1, value)),
            None => {
                members.entries.push((name, value));
                None
            }
        })
    }

    pub(super) fn remove(&mut self, id: Id, name: &str) -> Result<Option<Value>, RenderError> {
        let steps = self.map(id).map_or(0, |members| members.entries.len() as u64 / 16);
        self.spend(1 + steps)?;
        let Object::Map(members) = &mut self.objects[id.0 as usize] else { return Ok(None) };
        Ok(members.place(name).map(|place| members.entries.remove(place).1))
    }

    /// A part of a document as values of its own.
    pub(super) fn import(&mut self, json: &Json<'_>) -> Result<Value, RenderError> {
        self.spend(1)?;
        Ok(match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(digits) => number(digits),
            Json::Text(text) => self.text(&**text)?,
            Json::Array(items) => {
                let items = items.iter().map(|item| self.import(item)).collect::<Result<_, _>>()?;
                self.new_list(items)?
            }
            Json::Object(members) => {
                let mut entries = Vec::with_capacity(members.len());
                for (name, member) in members {
                    self.allocate(name.len())?;
                    entries.push((Arc::from(&**name), self.import(member)?));
                }
                self.new_map(Members { entries, ignores_case: false })?
            }
        })
    }

    /// Appends the text form, as Java prints it.
    pub(super) fn write(&mut self, value: &Value, out: &mut String) -> Result<(), RenderError> {
        self.write_at(value, out, 0)?;
        match out.len() > MAX_OUTPUT_BYTES {
            true => Err(RenderError::TooLong),
            false => Ok(()),
        }
    }

    fn write_at(&mut self, value: &Value, out: &mut String, depth: usize) -> Result<(), RenderError> {
        if depth > MAX_DEPTH {
            return Err(RenderError::TooDeep);
        }
        if out.len() > MAX_OUTPUT_BYTES {
            return Err(RenderError::TooLong);
        }
        self.spend(1)?;
        let before = out.len();
        match value {
            Value::Null => out.push_str("null"),
            Value::Absent => {}
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Int(number) => out.push_str(&number.to_string()),
            Value::Float(number) => out.push_str(&java_double(*number)),
            Value::Text(text) | Value::Digits(text) => out.push_str(text),
            Value::Input => out.push_str("$input"),
            Value::Util => out.push_str("$util"),
            Value::Context(_) => out.push_str("$context"),
            Value::Foreach(_) => out.push_str("$foreach"),
            Value::List(id) => {
                out.push('[');
                for item_idx in 0..self.list(*id).len() {
                    if item_idx > 0 {
                        out.push_str(", ");
                    }
                    let item = self.list(*id).get(item_idx).cloned().unwrap_or(Value::Null);
                    self.write_at(&item, out, depth + 1)?;
                }
                out.push(']');
                return Ok(());
            }
            Value::Map(id) => {
                out.push('{');
                let n_entries = self.map(*id).map_or(0, |members| members.entries.len());
                for entry_idx in 0..n_entries {
                    if entry_idx > 0 {
                        out.push_str(", ");
                    }
                    let entry = self.map(*id).and_then(|members| members.entries.get(entry_idx)).cloned();
                    let Some((name, value)) = entry else { break };
                    out.push_str(&name);
                    out.push('=');
                    self.write_at(&value, out, depth + 1)?;
                }
                out.push('}');
                return Ok(());
            }
            Value::Entry(id) => {
                let entry = self.entry(*id).map(|(key, value)| (key.clone(), value.clone()));
                if let Some((key, value)) = entry {
                    self.write_at(&key, out, depth + 1)?;
                    out.push('=');
                    self.write_at(&value, out, depth + 1)?;
                }
                return Ok(());
            }
        }
        self.spend_bytes(out.len() - before)
    }

    /// The text form as a text of its own.
    pub(super) fn text_of(&mut self, value: &Value) -> Result<Arc<str>, RenderError> {
        if let Value::Text(text) | Value::Digits(text) = value {
            return Ok(Arc::clone(text));
        }
        let mut out = String::new();
        self.write(value, &mut out)?;
        self.allocate(out.len())?;
        Ok(out.into())
    }

    /// `==`: numbers by value, everything else that is not of one kind by its text.
    pub(super) fn equal(&mut self, left: &Value, right: &Value) -> Result<bool, RenderError> {
        Ok(match (left, right) {
            (Value::Null | Value::Absent, Value::Null | Value::Absent) => true,
            (Value::Absent, Value::Text(text)) | (Value::Text(text), Value::Absent) => text.is_empty(),
            (Value::Null | Value::Absent, _) | (_, Value::Null | Value::Absent) => false,
            (Value::Bool(left), Value::Bool(right)) => left == right,
            (Value::Text(left), Value::Text(right)) => {
                self.spend_bytes(left.len().min(right.len()))?;
                left == right
            }
            _ => match (left.as_f64(), right.as_f64()) {
                (Some(left), Some(right)) => left == right,
                _ => self.text_of(left)? == self.text_of(right)?,
            },
        })
    }
}

impl Value {
    /// Everything but `false` and nothing.
    pub(super) fn is_true(&self) -> bool {
        !matches!(self, Value::Null | Value::Absent | Value::Bool(false))
    }

    pub(super) fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            Value::Digits(digits) => digits.parse().ok(),
            _ => None,
        }
    }
}

/// A number of a document.
pub(super) fn number(digits: &str) -> Value {
    if let Ok(number) = digits.parse() {
        return Value::Int(number);
    }
    match digits.contains(['.', 'e', 'E']) {
        true => digits.parse().map_or(Value::Null, Value::Float),
        false => Value::Digits(digits.into()),
    }
}

/// As `Double.toString` writes it.
fn java_double(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let magnitude = number.abs();
    if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        return format!("{number:?}");
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match digits.contains('.') {
        true => format!("{digits}E{exponent}"),
        false => format!("{digits}.0E{exponent}"),
    }
}
