//! Which keys of a document are wrong: all of them, each with its path.
//!
//! A parser stops at the first error. So each part of a document that cannot be read is tried again by itself, alone
//! in an otherwise empty document: as all members have defaults, what then fails is at fault. No list of keys is
//! needed beside the types.

use serde::de::DeserializeOwned;
use serde_json::Value;
use tidegate_core::nearest::nearest;

use super::Problem;

/// One step from the root to a value.
#[derive(Clone)]
enum Place {
    Key(String),
    Index(usize),
}

/// All problems of `value`, which is no `T` because of `error`.
pub(super) fn locate<T: DeserializeOwned>(value: &Value, error: &serde_json::Error) -> Vec<Problem> {
    let mut problems = Vec::new();
    below::<T>(value, &mut Vec::new(), &error.to_string(), &mut problems);
    problems
}

fn below<T: DeserializeOwned>(
    value: &Value,
    path: &mut Vec<Place>,
    message: &str,
    problems: &mut Vec<Problem>,
) {
    let parts: Vec<(Place, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(k, v)| (Place::Key(k.clone()), v)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(idx, v)| (Place::Index(idx), v)).collect(),
        _ => Vec::new(),
    };
    let before = problems.len();
    // A part of a whole that has required members misses the others, alone: that is not its fault.
    let empty =
        if value.is_array() { Value::Array(Vec::new()) } else { Value::Object(serde_json::Map::new()) };
    let is_incomplete = serde_json::from_value::<T>(alone(path, empty))
        .is_err_and(|error| error.to_string().starts_with("missing field"));
    for (place, part) in parts {
        path.push(place);
        let alone = alone(path, part.clone());
        if let Err(error) = serde_json::from_value::<T>(alone) {
            let message = error.to_string();
            if !(is_incomplete && message.starts_with("missing field")) {
                below::<T>(part, path, &message, problems);
            }
        }
        path.pop();
    }
    if problems.len() == before {
        problems.push(Problem::new(show(path), explain(message)));
    }
}

/// A document with nothing in it but `part`, at `path`.
fn alone(path: &[Place], part: Value) -> Value {
    path.iter().rev().fold(part, |value, place| match place {
        Place::Key(key) => Value::Object([(key.clone(), value)].into_iter().collect()),
        Place::Index(_) => Value::Array(vec![value]),
    })
}

fn show(path: &[Place]) -> String {
    let mut text = String::new();
    for place in path {
        match place {
            Place::Index(idx) => text.push_str(&format!("[{idx}]")),
            Place::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(&super::quote(key));
            }
        }
    }
    text
}

/// The parser's text; an unknown key gets the nearest known one in place of all of them.
fn explain(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field `") else { return message.to_owned() };
    let Some((key, known)) = rest.split_once('`') else { return message.to_owned() };
    let known = known.split('`').skip(1).step_by(2);
    match nearest(key, known) {
        Some(known) => format!("unknown key; did you mean `{known}`?"),
        None => "unknown key".to_owned(),
    }
}
