//! The form of JSON values: one description that checks what callers send and is written into the OpenAPI document.

use serde_json::{Map, Value, json};
use tidegate_control::declarative::Problem;
use tidegate_core::channel::ChannelName;

/// The form of a value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Text of so many characters.
    Text {
        min: usize,
        max: usize,
    },
    /// Name of a channel.
    Channel,
    /// A point in time, RFC 3339.
    Time,
    /// A whole number.
    Integer {
        min: u64,
        max: u64,
    },
    Boolean,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A list of at most so many.
    List {
        of: &'static Shape,
        max: usize,
    },
    /// An object whose members are free.
    Object,
    /// Anything.
    Any,
    /// One of several forms.
    Either(&'static [Shape]),
    /// An object with these members and no others.
    Record(&'static [Member]),
    /// As the shape, or `null`.
    Nullable(&'static Shape),
    /// The value `true`.
    True,
}

/// A member of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) is_required: bool,
    /// What it means.
    pub(crate) text: &'static str,
}

/// A member that must be there.
pub(crate) const fn required(name: &'static str, shape: Shape, text: &'static str) -> Member {
    Member { name, shape, is_required: true, text }
}

/// A member that may be absent.
pub(crate) const fn optional(name: &'static str, shape: Shape, text: &'static str) -> Member {
    Member { name, shape, is_required: false, text }
}

/// Text that is not empty and at most so long.
pub(crate) const fn text(max: usize) -> Shape {
    Shape::Text { min: 1, max }
}

/// Problems of one request that are reported; a caller needs no more to see what is wrong.
const MAX_PROBLEMS: usize = 100;

impl Shape {
    /// Notes everything that is wrong with `value`, which is at `path`.
    pub(crate) fn check(&self, value: &Value, path: &str, problems: &mut Vec<Problem>) {
        if problems.len() >= MAX_PROBLEMS {
            return;
        }
        let mut wrong = |message: String| {
            problems.push(Problem { path: path.to_owned(), message, diagnosis: None });
        };
        match (self, value) {
            (Self::Text { min, max }, Value::String(text)) => {
                let length = text.chars().count();
                if !(*min..=*max).contains(&length) {
                    wrong(format!("{length} characters, {min} to {max} expected"));
                }
            }
            (Self::Channel, Value::String(text)) => {
                if let Err(error) = ChannelName::parse(text) {
                    wrong(error.to_string());
                }
            }
            (Self::Time, Value::String(text)) => {
                if parse_time(text).is_none() {
                    wrong("a time like 2030-01-02T03:04:05Z expected".to_owned());
                }
            }
            (Self::Integer { min, max }, Value::Number(number)) => match number.as_u64() {
                Some(number) if (*min..=*max).contains(&number) => {}
                _ => wrong(format!("{number} is no whole number from {min} to {max}")),
            },
            (Self::Boolean, Value::Bool(_)) | (Self::Object, Value::Object(_)) | (Self::Any, _) => {}
            (Self::True, Value::Bool(true)) | (Self::Nullable(_), Value::Null) => {}
            (Self::OneOf(words), Value::String(text)) => {
                if !words.contains(&text.as_str()) {
                    wrong(format!("`{text}`: one of {} expected", words.join(", ")));
                }
            }
            (Self::List { of, max }, Value::Array(items)) => {
                if items.len() > *max {
                    wrong(format!("{} members, at most {max} expected", items.len()));
                    return;
                }
                for (item_idx, item) in items.iter().enumerate() {
                    of.check(item, &format!("{path}[{item_idx}]"), problems);
                }
            }
            (Self::Nullable(shape), value) => shape.check(value, path, problems),
            (Self::Either(shapes), value) => {
                let is_any = shapes.iter().any(|shape| {
                    let mut of_one = Vec::new();
                    shape.check(value, path, &mut of_one);
                    of_one.is_empty()
                });
                if !is_any {
                    let words: Vec<_> = shapes.iter().map(Self::words).collect();
                    wrong(format!("{} expected", words.join(" or ")));
                }
            }
            (Self::Record(members), Value::Object(given)) => check_record(members, given, path, problems),
            (shape, _) => wrong(format!("{} expected", shape.words())),
        }
    }

    /// As people say it.
    fn words(&self) -> String {
        match self {
            Self::Text { .. } => "text".to_owned(),
            Self::Channel => "the name of a channel".to_owned(),
            Self::Time => "a time like 2030-01-02T03:04:05Z".to_owned(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Boolean => "true or false".to_owned(),
            Self::True => "true".to_owned(),
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::List { .. } => "a list".to_owned(),
            Self::Object | Self::Record(_) => "an object".to_owned(),
            Self::Any => "a value".to_owned(),
            Self::Nullable(shape) => shape.words(),
            Self::Either(shapes) => shapes.iter().map(Self::words).collect::<Vec<_>>().join(" or "),
        }
    }

    /// The JSON Schema (2020-12, as OpenAPI 3.1 has it).
    pub(crate) fn schema(&self) -> Value {
        match self {
            Self::Text { min: 0, max: usize::MAX } => json!({ "type": "string" }),
            Self::Text { min, max } => json!({ "type": "string", "minLength": min, "maxLength": max }),
            Self::Channel => json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$" }),
            Self::Time => json!({ "type": "string", "format": "date-time" }),
            Self::Integer { min, max: u64::MAX } => json!({ "type": "integer", "minimum": min }),
            Self::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
            Self::Boolean => json!({ "type": "boolean" }),
            Self::True => json!({ "const": true }),
            Self::OneOf(words) => json!({ "type": "string", "enum": words }),
            Self::List { of, max: usize::MAX } => json!({ "type": "array", "items": of.schema() }),
            Self::List { of, max } => json!({ "type": "array", "items": of.schema(), "maxItems": max }),
            Self::Object => json!({ "type": "object" }),
            Self::Any => json!({}),
            Self::Either(shapes) => {
                json!({ "anyOf": shapes.iter().map(Self::schema).collect::<Vec<_>>() })
            }
            Self::Nullable(shape) => json!({ "anyOf": [shape.schema(), { "type": "null" }] }),
            Self::Record(members) => {
                let mut properties = Map::new();
                for member in *members {
                    let mut schema = member.shape.schema();
                    schema["description"] = member.text.into();
                    properties.insert(member.name.to_owned(), schema);
                }
                let required: Vec<_> =
                    members.iter().filter(|member| member.is_required).map(|member| member.name).collect();
                json!({
                    "type": "object",
                    "properties": properties,
                    "required": required,
                    "additionalProperties": false,
                })
            }
        }
    }

    /// The value of a text in a path or query, where it has this form.
    pub(crate) fn parse(&self, text: &str) -> Value {
        match self {
            Self::Integer { .. } => {
                // `+1` and `01` are not how numbers are written.
                let number = text.parse::<u64>().ok().filter(|number| number.to_string() == text);
                number.map_or_else(|| text.into(), Value::from)
            }
            Self::Boolean if text == "true" || text == "false" => (text == "true").into(),
            _ => text.into(),
        }
    }
}

fn check_record(members: &[Member], given: &Map<String, Value>, path: &str, problems: &mut Vec<Problem>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for (name, value) in given {
        match members.iter().find(|member| member.name == name) {
            Some(member) => member.shape.check(value, &below(name), problems),
            None if problems.len() >= MAX_PROBLEMS => return,
            None => {
                let known = members.iter().map(|member| member.name);
                let hint = tidegate_core::nearest::nearest(name, known)
                    .map(|known| format!("; did you mean `{known}`?"))
                    .unwrap_or_default();
                let message = format!("unknown member{hint}");
                problems.push(Problem { path: below(name), message, diagnosis: None });
            }
        }
    }
    for member in members.iter().filter(|member| member.is_required && !given.contains_key(member.name)) {
        problems.push(Problem { path: below(member.name), message: "missing".to_owned(), diagnosis: None });
    }
}

/// Milliseconds since 1970 of an RFC 3339 time from 1970 on.
pub(crate) fn parse_time(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}
