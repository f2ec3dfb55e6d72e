//! JSONPath as selection expressions, mappings and templates use it: Goessner's syntax, Jayway's results.
//!
//! A path of names and indexes, the usual case, is read straight from the text without building a tree; anything else
//! is evaluated over a [`Json`], whose size and depth are bounded, within [`MAX_EVALUATION_STEPS`].

use std::borrow::Cow;
use std::cell::Cell;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use self::filter::Condition;
use crate::json::Json;

mod filter;
mod parse;

/// Values that one evaluation may look at. Far above what a path over a message of the usual limit needs, unless it
/// descends again from every place that it has descended to.
pub const MAX_EVALUATION_STEPS: u64 = 200_000;

/// Longest text form of a result, in bytes.
pub const MAX_RESULT_BYTES: usize = 1024 * 1024;

/// A parsed path below `$`.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
    function: Option<Function>,
    /// Inside of a filter: it starts at `$`.
    is_absolute: bool,
    /// Names and indexes from the begin only: read from the text.
    is_plain: bool,
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

/// The evaluation would need more than [`MAX_EVALUATION_STEPS`], or the result is longer than [`MAX_RESULT_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the JSONPath needs more than {MAX_EVALUATION_STEPS} steps, or its result is too long")]
pub struct TooComplex;

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Name(String),
    /// Negative ones count from the end.
    Index(i64),
    Wildcard,
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
    },
    /// Only names or only indexes.
    Union(Vec<Step>),
    Filter(Box<Condition>),
    Descend,
}

/// What may end a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Length,
    Min,
    Max,
    Average,
    Sum,
    Keys,
    First,
    Last,
}

/// What stands at a path of a document.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// The document is not JSON.
    NotJson,
    /// Nothing stands there.
    Nothing,
    /// See [`TooComplex`].
    TooComplex,
    /// The value in its text form: a string itself, a number as written, `[a, b]`, `{k=v}`; `null` is empty.
    Text(String),
}

impl Found {
    /// The text form, empty when there is nothing.
    pub fn into_text(self) -> String {
        match self {
            Found::Text(text) => text,
            Found::NotJson | Found::Nothing | Found::TooComplex => String::new(),
        }
    }
}

/// What stands at a path of a tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Hits<'j> {
    /// Nothing.
    Nothing,
    /// The path leads to one place.
    One(&'j Json<'j>),
    /// The path may lead to several places; there may be none.
    List(Vec<&'j Json<'j>>),
    /// Computed, or made of parts of the document.
    Made(Json<'j>),
}

/// Counts what an evaluation does.
#[derive(Debug)]
pub struct Budget {
    left: Cell<u64>,
}

impl Budget {
    /// For this many steps.
    pub fn new(steps: u64) -> Self {
        Self { left: Cell::new(steps) }
    }

    /// What is left.
    pub fn left(&self) -> u64 {
        self.left.get()
    }

    fn spend(&self, steps: u64) -> Result<(), TooComplex> {
        let left = self.left.get().checked_sub(steps);
        self.left.set(left.unwrap_or(0));
        left.map(drop).ok_or(TooComplex)
    }

    /// For a copy of a value with everything in it.
    ///
    /// # Errors
    /// [`TooComplex`] when it is more than what is left.
    pub fn spend_copy(&self, value: &Json<'_>) -> Result<(), TooComplex> {
        self.spend(1)?;
        match value {
            Json::Array(items) => items.iter().try_for_each(|item| self.spend_copy(item)),
            Json::Object(members) => members.iter().try_for_each(|(_, member)| self.spend_copy(member)),
            Json::Text(text) => self.spend(text.len() as u64 / 64),
            _ => Ok(()),
        }
    }
}

impl JsonPath {
    /// Parses what follows `$`: `""`, `.a.b`, `['a'][0]`, `['a','b']`, `..x`, `[*]`, `[-1]`, `[1:3]`, `[0,2]`,
    /// `[?(@.a == 'x' && @.b > 1)]`, `.length()`.
    ///
    /// # Errors
    /// [`JsonPathError`] with the place.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        parse::parse(text)
    }

    fn new(steps: Vec<Step>, function: Option<Function>) -> Self {
        let is_plain = function.is_none()
            && steps.iter().all(|step| match step {
                Step::Name(_) => true,
                Step::Index(index) => *index >= 0,
                _ => false,
            });
        Self { steps, function, is_absolute: false, is_plain }
    }

    /// Finds the path in a JSON text.
    pub fn find(&self, json: &str) -> Found {
        if self.is_plain {
            let mut deserializer = serde_json::Deserializer::from_str(json);
            let found = Reader { steps: &self.steps }.deserialize(&mut deserializer);
            return match found.and_then(|raw| deserializer.end().map(|()| raw)) {
                Err(_) => Found::NotJson,
                Ok(None) => Found::Nothing,
                Ok(Some(raw)) => raw_to_text(raw.get()),
            };
        }
        let Ok(root) = Json::parse(json) else { return Found::NotJson };
        match self.evaluate(&root, &Budget::new(MAX_EVALUATION_STEPS)) {
            Ok(hits) => hits.into_found(),
            Err(TooComplex) => Found::TooComplex,
        }
    }

    /// Finds the path in a tree.
    ///
    /// # Errors
    /// [`TooComplex`] when the budget is used up.
    pub fn evaluate<'j>(&self, root: &'j Json<'j>, budget: &Budget) -> Result<Hits<'j>, TooComplex> {
        self.hits(root, root, budget)
    }

    fn hits<'j>(
        &self,
        start: &'j Json<'j>,
        root: &'j Json<'j>,
        budget: &Budget,
    ) -> Result<Hits<'j>, TooComplex> {
        let found = self.without_function(start, root, budget)?;
        match self.function {
            None => Ok(found),
            Some(function) => function.apply(&found, budget),
        }
    }

    fn without_function<'j>(
        &self,
        start: &'j Json<'j>,
        root: &'j Json<'j>,
        budget: &Budget,
    ) -> Result<Hits<'j>, TooComplex> {
        // Several names at the end of a path give one object with these members.
        let (steps, picked) = match self.steps.split_last() {
            Some((Step::Union(choices), before)) if matches!(choices.first(), Some(Step::Name(_))) => {
                (before, Some(choices))
            }
            _ => (self.steps.as_slice(), None),
        };
        let mut walk = Walk { root, budget, hits: Vec::new() };
        walk.walk(start, steps)?;
        let mut hits = walk.hits;
        let is_definite = steps.iter().all(|step| matches!(step, Step::Name(_) | Step::Index(_)));
        let Some(choices) = picked else {
            return Ok(match (is_definite, hits.pop()) {
                (true, None) => Hits::Nothing,
                (true, Some(hit)) => Hits::One(hit),
                (false, last) => {
                    hits.extend(last);
                    Hits::List(hits)
                }
            });
        };
        let mut made = Vec::new();
        for hit in hits.into_iter().filter(|hit| matches!(hit, Json::Object(_))) {
            let mut members = Vec::new();
            for choice in choices {
                if let Step::Name(name) = choice
                    && let Some(member) = hit.get(name)
                {
                    budget.spend_copy(member)?;
                    members.push((name.clone().into(), member.clone()));
                }
            }
            made.push(Json::Object(members));
        }
        Ok(match is_definite {
            true => made.pop().map_or(Hits::Nothing, Hits::Made),
            false => Hits::Made(Json::Array(made)),
        })
    }
}

impl<'j> Hits<'j> {
    /// The value; an array of those of a path that may lead to several places.
    ///
    /// # Errors
    /// [`TooComplex`] when the copy is larger than the budget.
    pub fn into_json(self, budget: &Budget) -> Result<Option<Cow<'j, Json<'j>>>, TooComplex> {
        Ok(match self {
            Hits::Nothing => None,
            Hits::One(value) => Some(Cow::Borrowed(value)),
            Hits::Made(value) => Some(Cow::Owned(value)),
            Hits::List(list) => {
                let mut items = Vec::with_capacity(list.len());
                for item in list {
                    budget.spend_copy(item)?;
                    items.push(item.clone());
                }
                Some(Cow::Owned(Json::Array(items)))
            }
        })
    }

    fn into_found(self) -> Found {
        let mut text = String::new();
        let is_written = match &self {
            Hits::Nothing => return Found::Nothing,
            Hits::One(Json::Null) => true,
            Hits::One(value) => value.write_java(&mut text, MAX_RESULT_BYTES),
            Hits::Made(value) => value.write_java(&mut text, MAX_RESULT_BYTES),
            Hits::List(list) => {
                text.push('[');
                let is_written = list.iter().enumerate().all(|(hit_idx, hit)| {
                    if hit_idx > 0 {
                        text.push_str(", ");
                    }
                    hit.write_java(&mut text, MAX_RESULT_BYTES)
                });
                text.push(']');
                is_written
            }
        };
        if is_written { Found::Text(text) } else { Found::TooComplex }
    }
}

fn raw_to_text(raw: &str) -> Found {
    Found::Text(match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).unwrap_or_default(),
        Some(b'{' | b'[') => match Json::parse(raw) {
            Ok(value) => return Hits::One(&value).into_found(),
            Err(_) => return Found::NotJson,
        },
        Some(b'n') => String::new(),
        _ => raw.to_owned(),
    })
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

struct Walk<'j, 'b> {
    root: &'j Json<'j>,
    budget: &'b Budget,
    hits: Vec<&'j Json<'j>>,
}

impl<'j> Walk<'j, '_> {
    fn walk(&mut self, value: &'j Json<'j>, steps: &[Step]) -> Result<(), TooComplex> {
        self.budget.spend(1)?;
        let Some((step, rest)) = steps.split_first() else {
            self.hits.push(value);
            return Ok(());
        };
        match (step, value) {
            (Step::Descend, _) => self.descend(value, rest)?,
            (Step::Union(choices), _) => {
                for choice in choices {
                    self.single(value, choice, rest)?;
                }
            }
            (Step::Wildcard, Json::Array(items)) => {
                for item in items {
                    self.walk(item, rest)?;
                }
            }
            (Step::Wildcard, Json::Object(members)) => {
                for (_, member) in members {
                    self.walk(member, rest)?;
                }
            }
            (Step::Slice { start, end, step }, Json::Array(items)) => {
                let length = items.len() as i64;
                let place = |at: i64| if at < 0 { (at + length).max(0) } else { at.min(length) };
                let (mut at, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(length)));
                while at < end {
                    if let Some(item) = items.get(at as usize) {
                        self.walk(item, rest)?;
                    }
                    at += step;
                }
            }
            (Step::Filter(condition), Json::Array(items)) => {
                for item in items {
                    if condition.admits(item, self.root, self.budget)? {
                        self.walk(item, rest)?;
                    }
                }
            }
            // Of an object the whole is asked, as Jayway does it.
            (Step::Filter(condition), Json::Object(_)) => {
                if condition.admits(value, self.root, self.budget)? {
                    self.walk(value, rest)?;
                }
            }
            _ => self.single(value, step, rest)?,
        }
        Ok(())
    }

    /// A name or an index.
    fn single(&mut self, value: &'j Json<'j>, step: &Step, rest: &[Step]) -> Result<(), TooComplex> {
        match (step, value) {
            (Step::Name(name), Json::Object(members)) => {
                self.budget.spend(members.len() as u64 / 16)?;
                value.get(name).map_or(Ok(()), |member| self.walk(member, rest))
            }
            (Step::Index(index), Json::Array(items)) => {
                let index = if *index < 0 { *index + items.len() as i64 } else { *index };
                let item = usize::try_from(index).ok().and_then(|index| items.get(index));
                item.map_or(Ok(()), |item| self.walk(item, rest))
            }
            _ => Ok(()),
        }
    }

    /// The value itself first, then what is in it.
    fn descend(&mut self, value: &'j Json<'j>, rest: &[Step]) -> Result<(), TooComplex> {
        self.budget.spend(1)?;
        // The items of an array are asked one by one below.
        let is_asked_below = matches!((rest.first(), value), (Some(Step::Filter(_)), Json::Array(_)));
        if !is_asked_below {
            self.walk(value, rest)?;
        }
        match value {
            Json::Array(items) => items.iter().try_for_each(|item| self.descend(item, rest)),
            Json::Object(members) => members.iter().try_for_each(|(_, member)| self.descend(member, rest)),
            _ => Ok(()),
        }
    }
}

impl Function {
    fn apply<'j>(self, hits: &Hits<'j>, budget: &Budget) -> Result<Hits<'j>, TooComplex> {
        let items: Vec<&Json<'_>> = match hits {
            Hits::Nothing => return Ok(Hits::Nothing),
            Hits::One(Json::Array(items)) | Hits::Made(Json::Array(items)) => items.iter().collect(),
            Hits::List(list) => list.clone(),
            Hits::One(other) => vec![*other],
            Hits::Made(other) => vec![other],
        };
        budget.spend(items.len() as u64)?;
        let number = |number: f64| Hits::Made(Json::Number(number_text(number).into()));
        let numbers = || items.iter().filter_map(|item| item.as_f64());
        Ok(match self {
            Function::Length => match (hits, items.as_slice()) {
                (Hits::One(_), [Json::Text(text)]) => number(text.encode_utf16().count() as f64),
                (Hits::One(_), [Json::Object(members)]) => number(members.len() as f64),
                (Hits::One(Json::Null | Json::Bool(_) | Json::Number(_)), _) => Hits::Nothing,
                _ => number(items.len() as f64),
            },
            Function::Keys => match hits {
                Hits::One(Json::Object(members)) => Hits::Made(Json::Array(
                    members.iter().map(|(name, _)| Json::Text(name.clone())).collect(),
                )),
                _ => Hits::Nothing,
            },
            Function::First | Function::Last => {
                let end = if self == Function::First { items.first() } else { items.last() };
                let Some(item) = end else { return Ok(Hits::Nothing) };
                budget.spend_copy(item)?;
                Hits::Made((*item).clone())
            }
            Function::Sum => number(numbers().sum()),
            Function::Min => numbers().reduce(f64::min).map_or(Hits::Nothing, number),
            Function::Max => numbers().reduce(f64::max).map_or(Hits::Nothing, number),
            Function::Average => {
                let n_numbers = numbers().count();
                match n_numbers {
                    0 => Hits::Nothing,
                    _ => number(numbers().sum::<f64>() / n_numbers as f64),
                }
            }
        })
    }
}

/// Whole numbers without a fraction.
fn number_text(number: f64) -> String {
    match number.is_finite() {
        true => number.to_string(),
        false => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

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
        check(".a[-1]", r#"{"a":[1,2]}"#, "2");
        check(".a", r#"{"a":{"z":1,"b":[{"y":null}]}}"#, "{z=1, b=[{y=null}]}");
        check(".a[0:2]", r#"{"a":[1,2,3]}"#, "[1, 2]");
        check(".a[0,2]", r#"{"a":[1,2,3]}"#, "[1, 3]");
        check(".a[?(@.n > 1)].v", r#"{"a":[{"n":1,"v":"x"},{"n":2,"v":"y"}]}"#, "[y]");
        check(".a[?(@.n == 'k')].v", r#"{"a":[{"n":"k","v":7}]}"#, "[7]");
        check(".a[?(@.n)].v", r#"{"a":[{"v":1},{"n":0,"v":2}]}"#, "[2]");
    }

    #[test]
    fn paths_are_those_of_jayway() {
        // AG-5
        let books = r#"{"store":{"book":[
            {"category":"reference","author":"A","price":8.95,"tags":["x","y"]},
            {"category":"fiction","author":"B","price":12.99,"isbn":"0-1","stock":null},
            {"category":"fiction","author":"C","price":8.99,"isbn":"0-2"}],
            "bicycle":{"color":"red","price":19.95}},"limit":10,"it's":1}"#;
        check("..author", books, "[A, B, C]");
        check(".store.*", r#"{"store":{"b":1,"a":[2]}}"#, "[1, [2]]");
        check("..price", books, "[8.95, 12.99, 8.99, 19.95]");
        check(".store.book[2].author", books, "C");
        check(".store.book[-2].author", books, "B");
        check(".store.book[0,2].author", books, "[A, C]");
        check(".store.book[:2].author", books, "[A, B]");
        check(".store.book[1:].author", books, "[B, C]");
        check(".store.book[-1:].author", books, "[C]");
        check(".store.book[::2].author", books, "[A, C]");
        check(".store.book[?(@.isbn)].author", books, "[B, C]");
        check(".store.book[?(!@.isbn)].author", books, "[A]");
        check(".store.book[?(@.stock)].author", books, "[B]");
        check(".store.book[?(@.stock == null)].author", books, "[B]");
        check(".store.book[?(@.price < $.limit)].author", books, "[A, C]");
        check(".store.book[?(@.price < 10 && @.category == 'fiction')].author", books, "[C]");
        check(".store.book[?(@.price > 10 || @.category == \"reference\")].author", books, "[A, B]");
        check(".store.book[?((@.price > 10 || @.isbn) && !(@.author == 'C'))].author", books, "[B]");
        check(".store.book[?(@.author =~ /[bc]/i)].price", books, "[12.99, 8.99]");
        check(".store.book[?(@.author in ['A', 'C'])].price", books, "[8.95, 8.99]");
        check(".store.book[?(@.author nin ['A', 'C'])].price", books, "[12.99]");
        check(".store.book[?(@.tags contains 'y')].author", books, "[A]");
        check(".store.book[?(@.tags size 2)].author", books, "[A]");
        check(".store.book[?(@.isbn != '0-1')].author", books, "[A, C]");
        check("..[?(@.color == 'red')].price", books, "[19.95]");
        check("..book[?(@.price == '8.99')].author", books, "[C]");
        check(".store.bicycle['color','price']", books, "{color=red, price=19.95}");
        check(".store.book[*]['author','isbn']", r#"{"store":{"book":[{"author":"A"}]}}"#, "[{author=A}]");
        check(".store.book.length()", books, "3");
        check(".store.bicycle.length()", books, "2");
        check(".store.bicycle.keys()", books, "[color, price]");
        check("..price.max()", books, "19.95");
        check("['it\\'s']", books, "1");
        check("..nothing", books, "[]");
        check(".store.book[9:]", books, "[]");
        for nothing in
            [".nothing", ".store.book[3]", ".store.book.author", ".store[0]", ".limit.x", ".nothing.length()"]
        {
            assert_eq!(JsonPath::parse(nothing).unwrap().find(books), Found::Nothing, "{nothing}");
        }
    }

    #[test]
    fn work_is_bounded() {
        let deep = r#"{"a":["#.repeat(63) + &"]}".repeat(63);
        let wide = format!("[{}]", vec!["{\"a\":[1,2,3]}"; 5000].join(","));
        let repeated = JsonPath::parse("..*..*..*..*..*..*").unwrap();
        assert_eq!(repeated.find(&deep), Found::TooComplex);
        assert_eq!(repeated.find(&wide), Found::TooComplex);
        let nested = JsonPath::parse("[?(@..a[?(@ in $..a)])]").unwrap();
        assert_eq!(nested.find(&wide), Found::TooComplex);
        assert!(matches!(JsonPath::parse("..a").unwrap().find(&wide), Found::Text(_)));
        // Each level prints everything below it.
        let long = format!("{}\"{}\"{}", "[".repeat(100), "x".repeat(100_000), "]".repeat(100));
        assert_eq!(JsonPath::parse("..*").unwrap().find(&long), Found::TooComplex);
        assert!(JsonPath::parse(&format!("[?{}@.a)]", "(".repeat(50))).is_err());
        assert!(JsonPath::parse(&format!("[?({}@.a)]", "!".repeat(50))).is_err());
        assert!(JsonPath::parse(&".a".repeat(100)).is_err());
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
        for bad in [
            ".",
            "[",
            "['a",
            ".a[",
            ".a[x]",
            "a",
            ".a[?(@.b ==)]",
            ".a[?(b)]",
            ".a[::0]",
            ".a.foo()",
            ".a[0,'b']",
            ".a[?(@.b =~ x)]",
            ".a[?(@.b && )]",
        ] {
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
            let plain = JsonPath::new(vec![Step::Name(name), Step::Index(index)], None);
            let walked = JsonPath { is_plain: false, ..plain.clone() };
            prop_assert_eq!(plain.find(&text), walked.find(&text));
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
