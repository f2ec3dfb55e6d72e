//! Reading the members of a request body: types, lengths, and what an absent, `null` or empty member means.
//!
//! Absent and `null` are the same: not given. Every reader refuses a member of the wrong type.

use serde_json::Value;
use tidegate_core::definition::Map;

use crate::error::ApiError;
use crate::limits;

/// The members of a request body or of an object in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Members(serde_json::Map<String, Value>);

impl Members {
    /// `Null` counts as an empty object: some clients send no body when no member is set.
    pub(crate) fn new(body: Value) -> Result<Self, ApiError> {
        match body {
            Value::Object(members) => Ok(Self(members)),
            Value::Null => Ok(Self::default()),
            _ => Err(ApiError::bad_request("Invalid request body: a JSON object is expected")),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Whether the member is there with a value that says something: not `null`, `false`, `""`, `[]` or `{}`.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        match self.get(name) {
            None | Some(Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(members)) => !members.is_empty(),
            Some(_) => true,
        }
    }

    /// Text of at most `longest` characters.
    pub(crate) fn text(&self, name: &str, longest: usize) -> Result<Option<String>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| wrong_type(name, "a string"))?;
        check_length(name, text, longest)?;
        Ok(Some(text.to_owned()))
    }

    /// Text of 1 to `longest` characters, if given.
    pub(crate) fn filled_text(&self, name: &str, longest: usize) -> Result<Option<String>, ApiError> {
        let text = self.text(name, longest)?;
        if text.as_deref() == Some("") {
            return Err(ApiError::bad_request(format!("Invalid value for {name}: must not be empty")));
        }
        Ok(text)
    }

    /// Text of 1 to `longest` characters.
    pub(crate) fn required_text(&self, name: &str, longest: usize) -> Result<String, ApiError> {
        self.filled_text(name, longest)?.ok_or_else(|| missing(name))
    }

    /// One of `permitted`, if given; `""` is returned as such.
    pub(crate) fn choice(&self, name: &str, permitted: &[&str]) -> Result<Option<String>, ApiError> {
        let Some(text) = self.text(name, limits::EXPRESSION)? else { return Ok(None) };
        if text.is_empty() || permitted.contains(&text.as_str()) {
            return Ok(Some(text));
        }
        Err(ApiError::bad_request(format!(
            "Invalid value for {name}: {text}. Must be one of [{}]",
            permitted.join(", ")
        )))
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.get(name).map(|value| value.as_bool().ok_or_else(|| wrong_type(name, "a boolean"))).transpose()
    }

    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name).map(|value| value.as_i64().ok_or_else(|| wrong_type(name, "an integer"))).transpose()
    }

    /// A finite number that is not negative.
    pub(crate) fn rate(&self, name: &str) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| wrong_type(name, "a number"))?;
        if number.is_finite() && number >= 0.0 {
            return Ok(Some(number));
        }
        Err(ApiError::bad_request(format!("Invalid value for {name}: must not be negative")))
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Self>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Self(members.clone()))),
            Some(_) => Err(wrong_type(name, "an object")),
        }
    }

    /// Objects by key.
    pub(crate) fn objects(&self, name: &str) -> Result<Option<Vec<(String, Self)>>, ApiError> {
        let Some(outer) = self.object(name)? else { return Ok(None) };
        let mut entries = Vec::new();
        for (key, value) in outer.0 {
            match value {
                Value::Object(members) => entries.push((key, Self(members))),
                _ => return Err(wrong_type(&format!("{name}.{key}"), "an object")),
            }
        }
        Ok(Some(entries))
    }

    pub(crate) fn object_list(&self, name: &str) -> Result<Option<Vec<Self>>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| match item {
                    Value::Object(members) => Ok(Self(members.clone())),
                    _ => Err(wrong_type(name, "a list of objects")),
                })
                .collect::<Result<Vec<_>, _>>()
                .map(Some),
            Some(_) => Err(wrong_type(name, "a list")),
        }
    }

    pub(crate) fn text_list(&self, name: &str) -> Result<Option<Vec<String>>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let items = value.as_array().ok_or_else(|| wrong_type(name, "a list"))?;
        items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| wrong_type(name, "a list of strings")))
            .collect::<Result<Vec<_>, _>>()
            .map(Some)
    }

    /// Texts by key, at most [`limits::MAP_ENTRIES`].
    pub(crate) fn text_map(&self, name: &str) -> Result<Option<Map>, ApiError> {
        let Some(object) = self.object(name)? else { return Ok(None) };
        let mut map = Map::new();
        for (key, value) in object.0 {
            let Value::String(text) = value else {
                return Err(wrong_type(&format!("{name}.{key}"), "a string"));
            };
            map.insert(key, text);
        }
        if map.len() > limits::MAP_ENTRIES {
            return Err(ApiError::bad_request(format!(
                "Invalid value for {name}: at most {} entries are permitted",
                limits::MAP_ENTRIES
            )));
        }
        Ok(Some(map))
    }

    /// The member as it was sent.
    pub(crate) fn raw(&self, name: &str) -> Option<Value> {
        self.get(name).cloned()
    }
}

/// Replaces `member` by what was given; `""` removes it. For optional members that cannot be empty.
pub(crate) fn replace(member: &mut Option<String>, given: Option<String>) {
    if let Some(text) = given {
        *member = Some(text).filter(|t| !t.is_empty());
    }
}

/// Merges the entries that were given into `member`; an entry with the value `""` is removed, and so is a map
/// without entries.
pub(crate) fn merge(member: &mut Option<Map>, given: Option<Map>) {
    if let Some(given) = given {
        let map = member.get_or_insert_default();
        merge_map(map, given);
        if map.is_empty() {
            *member = None;
        }
    }
}

/// As [`merge`], for templates: an empty one is a template too, so it counts where there is nothing to remove yet.
/// Source: what Terraform's provider reads back from the service.
pub(crate) fn merge_templates(member: &mut Option<Map>, given: Map, is_new: bool) {
    match is_new {
        true => *member = Some(given).filter(|map| !map.is_empty()),
        false => merge(member, Some(given)),
    }
}

/// As [`merge`], for a map that is shown even when it is empty.
pub(crate) fn merge_map(map: &mut Map, given: Map) {
    for (key, value) in given {
        if value.is_empty() {
            map.remove(&key);
        } else {
            map.insert(key, value);
        }
    }
}

pub(crate) fn check_length(name: &str, text: &str, longest: usize) -> Result<(), ApiError> {
    if text.len() <= longest || text.chars().count() <= longest {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "Invalid value for {name}: at most {longest} characters are permitted"
    )))
}

pub(crate) fn missing(name: &str) -> ApiError {
    ApiError::bad_request(format!("Missing required member: {name}"))
}

fn wrong_type(name: &str, expected: &str) -> ApiError {
    ApiError::bad_request(format!("Invalid value for {name}: {expected} is expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> Map {
        entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_merge_sets_removes_and_keeps() {
        let mut member = Some(map(&[("a", "1"), ("b", "2")]));
        merge(&mut member, Some(map(&[("b", ""), ("c", "3")])));
        assert_eq!(member, Some(map(&[("a", "1"), ("c", "3")])));
        merge(&mut member, None);
        assert_eq!(member, Some(map(&[("a", "1"), ("c", "3")])));
        merge(&mut member, Some(map(&[("a", ""), ("c", "")])));
        assert_eq!(member, None);
    }

    #[test]
    fn lengths_are_in_characters() {
        assert!(check_length("name", "ééé", 3).is_ok());
        assert!(check_length("name", "éééé", 3).is_err());
    }
}
