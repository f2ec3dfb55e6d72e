//! Methods of lists and maps.

use std::sync::Arc;

use super::RenderError;
use super::evaluate::Machine;
use super::value::{Id, Members, Value};

/// A place that a list must have.
fn within(method: &'static str, index: &Value, length: usize) -> Result<usize, RenderError> {
    let place = match index {
        Value::Int(index) => usize::try_from(*index).ok().filter(|place| *place < length),
        _ => None,
    };
    place.ok_or(RenderError::Method { method, reason: "index out of range" })
}

impl Machine<'_> {
    pub(super) fn list_method(
        &mut self,
        id: Id,
        name: &str,
        arguments: &[Value],
    ) -> Result<Option<Value>, RenderError> {
        let length = self.heap.list(id).len();
        Ok(Some(match (name, arguments) {
            ("size" | "length", []) => Value::Int(length as i64),
            ("isEmpty", []) => Value::Bool(length == 0),
            ("get", [index]) => {
                let place = within("get", index, length)?;
                self.heap.list(id)[place].clone()
            }
            ("contains", [wanted]) => Value::Bool(self.find_item(id, wanted)?.is_some()),
            ("indexOf", [wanted]) => Value::Int(self.find_item(id, wanted)?.map_or(-1, |place| place as i64)),
            ("containsAll", [Value::List(others)]) => {
                let others = self.heap.list(*others).to_vec();
                let mut has_all = true;
                for other in &others {
                    has_all &= self.find_item(id, other)?.is_some();
                }
                Value::Bool(has_all)
            }
            ("add", [value]) => {
                self.heap.list_mut(id)?.push(value.clone());
                Value::Bool(true)
            }
            ("add", [index, value]) => {
                let place = within("add", index, length + 1)?;
                self.heap.spend((length - place) as u64 / 64)?;
                self.heap.list_mut(id)?.insert(place, value.clone());
                Value::Absent
            }
            ("addAll", [Value::List(others)]) => {
                let others = self.heap.list(*others).to_vec();
                self.heap.spend(others.len() as u64 / 4)?;
                self.heap.allocate(others.len() * 48)?;
                let has_more = !others.is_empty();
                self.heap.list_mut(id)?.extend(others);
                Value::Bool(has_more)
            }
            ("set", [index, value]) => {
                let place = within("set", index, length)?;
                std::mem::replace(&mut self.heap.list_mut(id)?[place], value.clone())
            }
            ("remove", [Value::Int(index)]) => {
                let place = within("remove", &Value::Int(*index), length)?;
                self.heap.spend(length as u64 / 64)?;
                self.heap.list_mut(id)?.remove(place)
            }
            ("remove", [wanted]) => match self.find_item(id, wanted)? {
                Some(place) => {
                    self.heap.list_mut(id)?.remove(place);
                    Value::Bool(true)
                }
                None => Value::Bool(false),
            },
            ("clear", []) => {
                self.heap.list_mut(id)?.clear();
                Value::Absent
            }
            ("subList", [Value::Int(start), Value::Int(end)]) => {
                let range = usize::try_from(*start).ok().zip(usize::try_from(*end).ok());
                let items = range.and_then(|(start, end)| self.heap.list(id).get(start..end));
                let reason = "index out of range";
                let items = items.ok_or(RenderError::Method { method: "subList", reason })?.to_vec();
                self.heap.new_list(items)?
            }
            _ => return Ok(None),
        }))
    }

    fn find_item(&mut self, id: Id, wanted: &Value) -> Result<Option<usize>, RenderError> {
        for place in 0..self.heap.list(id).len() {
            self.heap.spend(1)?;
            let item = self.heap.list(id)[place].clone();
            if self.heap.equal(&item, wanted)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    pub(super) fn map_method(
        &mut self,
        id: Id,
        name: &str,
        arguments: &[Value],
    ) -> Result<Option<Value>, RenderError> {
        let length = self.heap.map(id).map_or(0, |members| members.entries.len());
        Ok(Some(match (name, arguments) {
            ("size", []) => Value::Int(length as i64),
            ("isEmpty", []) => Value::Bool(length == 0),
            ("get", [key]) => {
                let key = self.heap.text_of(key)?;
                self.heap.get(id, &key)?.unwrap_or(Value::Null)
            }
            ("getOrDefault", [key, other]) => {
                let key = self.heap.text_of(key)?;
                self.heap.get(id, &key)?.unwrap_or_else(|| other.clone())
            }
            ("containsKey", [key]) => {
                let key = self.heap.text_of(key)?;
                Value::Bool(self.heap.get(id, &key)?.is_some())
            }
            ("containsValue", [wanted]) => {
                let mut has_it = false;
                for (_, value) in self.entries(id)? {
                    has_it |= self.heap.equal(&value, wanted)?;
                }
                Value::Bool(has_it)
            }
            ("put", [key, value]) => {
                let key = self.heap.text_of(key)?;
                // Printed where nobody sets a variable from it: nothing.
                self.heap.put(id, key, value.clone())?.unwrap_or(Value::Absent)
            }
            ("putAll", [Value::Map(other)]) => {
                for (key, value) in self.entries(*other)? {
                    self.heap.put(id, key, value)?;
                }
                Value::Absent
            }
            ("remove", [key]) => {
                let key = self.heap.text_of(key)?;
                self.heap.remove(id, &key)?.unwrap_or(Value::Absent)
            }
            ("keySet", []) => {
                let keys = self.entries(id)?.into_iter().map(|(key, _)| Value::Text(key)).collect();
                self.heap.new_list(keys)?
            }
            ("values", []) => {
                let values = self.entries(id)?.into_iter().map(|(_, value)| value).collect();
                self.heap.new_list(values)?
            }
            ("entrySet", []) => {
                let mut entries = Vec::with_capacity(length);
                for (key, value) in self.entries(id)? {
                    entries.push(self.heap.new_entry(Value::Text(key), value)?);
                }
                self.heap.new_list(entries)?
            }
            _ => return Ok(None),
        }))
    }

    fn entries(&mut self, id: Id) -> Result<Vec<(Arc<str>, Value)>, RenderError> {
        let entries = self.heap.map(id).map(|members: &Members| members.entries.clone()).unwrap_or_default();
        self.heap.spend(entries.len() as u64 / 4)?;
        self.heap.allocate(entries.len() * 48)?;
        Ok(entries)
    }
}
