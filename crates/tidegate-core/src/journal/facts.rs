//! Facts of an event, and what can be one.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::packed::{self, Name, Part, Reader};

/// Facts that prove a cause, by name. Empty takes no memory.
///
/// Names are those of the catalogue, in camel case; values are short: numbers, names, lists of names. They are kept in the
/// form in which the journal stores them: one allocation for all.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Facts(Vec<u8>);

impl Facts {
    /// None.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// None, with room for so many bytes: a name takes one, a flag one, a number two or three, a text one more than it has.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Those of an entry of the journal. What is damaged is left out with everything behind it.
    pub fn from_packed(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// As the journal stores them.
    pub fn as_packed(&self) -> &[u8] {
        &self.0
    }

    /// Adds one.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl FactValue) -> Self {
        self.add(name, value);
        self
    }

    /// Adds one.
    pub fn add(&mut self, name: &'static str, value: impl FactValue) {
        packed::write_name(&mut self.0, name);
        value.pack(&mut self.0);
    }

    /// Adds one if there is one.
    pub fn add_some(&mut self, name: &'static str, value: Option<impl FactValue>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// Adds a list, without making one first.
    pub fn add_list(&mut self, name: &'static str, values: impl IntoIterator<Item: FactValue>) {
        packed::write_name(&mut self.0, name);
        packed::write_list(&mut self.0, values, |out, value| value.pack(out));
    }

    /// Adds what something prints as, without making a text of it first.
    pub fn add_printed(&mut self, name: &'static str, value: impl fmt::Display) {
        packed::write_name(&mut self.0, name);
        packed::write_printed(&mut self.0, value);
    }

    /// Adds those of others behind its own.
    pub fn extend(&mut self, others: Self) {
        if self.0.capacity() == 0 {
            self.0 = others.0;
        } else {
            self.0.extend(others.0);
        }
    }

    /// Adds those of others whose names it does not have.
    pub fn extend_with_new(&mut self, others: &Self) {
        let mut reader = Reader(&others.0);
        loop {
            let begin = reader.0;
            let Some(name) = reader.name() else { return };
            if reader.pass(&mut |_| false).is_none() {
                return;
            }
            if !self.has(name)
                && let Some(fact) = begin.get(..begin.len() - reader.0.len())
            {
                self.0.extend_from_slice(fact);
            }
        }
    }

    /// Looks one up; of a name that was added twice the first.
    pub fn get(&self, name: &str) -> Option<Value> {
        self.find(name)?.value()
    }

    /// A fact that is text.
    pub fn text(&self, name: &str) -> Option<String> {
        match self.get(name)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A fact that is a whole number, not below 0.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.as_u64()
    }

    /// Is there one of this name?
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The place of a fact's value.
    fn find(&self, name: &str) -> Option<Reader<'_>> {
        let name = Name::of(name);
        let mut reader = Reader(&self.0);
        loop {
            if reader.is_named(name)? {
                return Some(reader);
            }
            reader.pass(&mut |_| false)?;
        }
    }

    /// All, in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value)> {
        let mut reader = Reader(&self.0);
        std::iter::from_fn(move || Some((reader.name()?, reader.value()?)))
    }

    /// Whether any part of any value is such, by the name of its fact.
    pub fn any(&self, mut is_such: impl FnMut(&str, Part<'_>) -> bool) -> bool {
        let mut reader = Reader(&self.0);
        while let Some(name) = reader.name() {
            match reader.pass(&mut |part| is_such(name, part)) {
                Some(false) => {}
                Some(true) => return true,
                None => return false,
            }
        }
        false
    }

    /// Changes values, by name.
    pub fn change(&mut self, mut change: impl FnMut(&str, &mut Value)) {
        let mut changed = Vec::with_capacity(self.0.len());
        for (name, mut value) in self.iter() {
            change(name, &mut value);
            packed::write_name(&mut changed, name);
            packed::write_value(&mut changed, &value);
        }
        self.0 = changed;
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As an object; a name that was added twice keeps its last value.
    pub fn into_map(self) -> Map<String, Value> {
        self.iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// An object; of a name that was added twice the last value.
impl Serialize for Facts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let facts: Map<String, Value> = self.iter().map(|(name, value)| (name.to_owned(), value)).collect();
        facts.serialize(serializer)
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// What a fact can be: whatever JSON can.
pub trait FactValue {
    /// Writes it behind what is in the buffer, as a journal has it.
    fn pack(&self, out: &mut Vec<u8>);
}

impl<T: FactValue + ?Sized> FactValue for &T {
    fn pack(&self, out: &mut Vec<u8>) {
        (**self).pack(out);
    }
}

impl FactValue for Value {
    fn pack(&self, out: &mut Vec<u8>) {
        packed::write_value(out, self);
    }
}

impl FactValue for Map<String, Value> {
    fn pack(&self, out: &mut Vec<u8>) {
        packed::write_object(out, self);
    }
}

impl FactValue for bool {
    fn pack(&self, out: &mut Vec<u8>) {
        packed::write_bool(out, *self);
    }
}

impl FactValue for f64 {
    fn pack(&self, out: &mut Vec<u8>) {
        packed::write_float(out, *self);
    }
}

impl FactValue for usize {
    fn pack(&self, out: &mut Vec<u8>) {
        packed::write_unsigned(out, *self as u64);
    }
}

macro_rules! pack_as {
    ($write:ident: $($number:ty),*) => {$(
        impl FactValue for $number {
            fn pack(&self, out: &mut Vec<u8>) {
                packed::$write(out, (*self).into());
            }
        }
    )*};
}

pack_as!(write_unsigned: u8, u16, u32, u64);
pack_as!(write_signed: i32, i64);

impl FactValue for str {
    fn pack(&self, out: &mut Vec<u8>) {
        packed::write_text(out, self);
    }
}

macro_rules! pack_as_text {
    ($($text:ty),*) => {$(
        impl FactValue for $text {
            fn pack(&self, out: &mut Vec<u8>) {
                packed::write_text(out, self);
            }
        }
    )*};
}

pack_as_text!(String, Box<str>, Arc<str>, Cow<'_, str>);

/// Null for none.
impl<T: FactValue> FactValue for Option<T> {
    fn pack(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.pack(out),
            None => packed::write_null(out),
        }
    }
}

impl<T: FactValue> FactValue for [T] {
    fn pack(&self, out: &mut Vec<u8>) {
        packed::write_list(out, self, |out, value| value.pack(out));
    }
}

impl<T: FactValue> FactValue for Vec<T> {
    fn pack(&self, out: &mut Vec<u8>) {
        self.as_slice().pack(out);
    }
}

impl<T: FactValue, const N: usize> FactValue for [T; N] {
    fn pack(&self, out: &mut Vec<u8>) {
        self.as_slice().pack(out);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_packed_is_what_json_would_have() {
        let (address, missing): (std::net::IpAddr, Option<u8>) = ([192, 0, 2, 1].into(), None);
        let mut facts = Facts::with_capacity(64)
            .with("text", "tls")
            .with("own", String::from("Grüße"))
            .with("shared", Arc::<str>::from("a"))
            .with("borrowed", Cow::Borrowed("b"))
            .with("flag", true)
            .with("number", -5_i32)
            .with("positive", 5_i64)
            .with("size", usize::MAX)
            .with("ratio", 0.5)
            .with("none", missing)
            .with("not", f64::NAN)
            .with("pair", [1_u16, 300])
            .with("any", json!({ "a": [null] }));
        facts.add_list("names", ["host", "x-own"]);
        facts.add_printed("address", address);
        facts.add_some("left-out", missing);
        let expected = json!({
            "text": "tls", "own": "Grüße", "shared": "a", "borrowed": "b", "flag": true, "number": -5, "positive": 5,
            "size": usize::MAX, "ratio": 0.5, "none": null, "not": null, "pair": [1, 300], "any": { "a": [null] },
            "names": ["host", "x-own"], "address": "192.0.2.1",
        });
        assert_eq!(serde_json::to_value(&facts).unwrap(), expected);
        assert_eq!(format!("{:?}", Facts::none().with("size", 1)), r#"{"size": Number(1)}"#);
        assert_eq!((facts.get("size"), facts.text("own")), (Some(json!(usize::MAX)), Some("Grüße".into())));
        assert!(facts.has("address") && !facts.has("addres") && facts.text("size").is_none());
    }

    #[test]
    fn long_lists_and_texts_keep_what_follows_them() {
        // Their counts take two bytes, and what was written behind the first moves.
        let mut facts = Facts::none();
        facts.add_list("names", (0..200_u32).map(|n| n.to_string()));
        facts.add_printed("detail", "x".repeat(300));
        facts.add("after", 7);
        let map = facts.into_map();
        assert_eq!(map["names"].as_array().map(Vec::len), Some(200));
        assert_eq!((map["names"][199].as_str(), &map["after"]), (Some("199"), &json!(7)));
        assert_eq!(map["detail"].as_str().map(str::len), Some(300));
    }

    #[test]
    fn the_first_is_found_and_the_last_is_kept() {
        let mut facts = Facts::none().with("status", 1);
        facts.extend(Facts::none().with("own", "x").with("status", 2));
        assert_eq!(facts.get("status"), Some(json!(1)));
        assert_eq!(serde_json::to_value(&facts).unwrap(), json!({ "status": 2, "own": "x" }));
    }

    #[test]
    fn parts_are_shown_and_changed_by_name() {
        let mut facts =
            Facts::none().with("a", vec!["own", "host"]).with("b", json!({ "in": "other" })).with("c", 1);
        let mut seen = Vec::new();
        let found = facts.any(|name, part| {
            seen.push((name.to_owned(), format!("{part:?}")));
            matches!(part, Part::Text("other"))
        });
        assert!(found);
        // A word of the format is not shown.
        let text = |name: &str, part: &str| (name.to_owned(), part.to_owned());
        assert_eq!(seen, [text("a", "List(2)"), text("a", "Text(\"own\")"), text("b", "Text(\"other\")")]);
        facts.change(|name, value| {
            if name == "c" {
                *value = json!("changed");
            }
        });
        assert_eq!(
            serde_json::to_value(&facts).unwrap(),
            json!({ "a": ["own", "host"], "b": { "in": "other" }, "c": "changed" })
        );
    }
}
