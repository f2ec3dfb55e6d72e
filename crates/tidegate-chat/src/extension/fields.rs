//! Additional fields without code: `[chat.fields.*]`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::error::ChatError;
use crate::field::REQUIRED;
use crate::settings::extension::{FieldRule, FieldType};

/// Rules by name, as settings have them.
pub type Rules = BTreeMap<String, FieldRule>;

fn wrong(rule: &FieldRule) -> &'static str {
    match rule.r#type {
        FieldType::String => "Not a valid string.",
        FieldType::Number => "A valid number is required.",
        FieldType::Integer => "A valid integer is required.",
        FieldType::Boolean => "Must be a valid boolean.",
        FieldType::Array => "Not a valid list.",
        FieldType::Object => "Not a valid object.",
        FieldType::Any => "Not a valid value.",
    }
}

/// `null` empties a field that need not be there.
fn takes(rule: &FieldRule, value: &Value) -> bool {
    rule.r#type.takes(value) || (value.is_null() && !rule.required)
}

/// The additional fields of something new: those of `extra_fields`, and defaults. `Null` without any. What is wrong goes
/// to `errors`, so that it is told with the errors of the built-in fields.
pub fn at_creation(rules: &Rules, extra: &Map<String, Value>, errors: &mut Map<String, Value>) -> Value {
    let mut fields = Map::new();
    for (name, rule) in rules {
        match extra.get(name) {
            None if rule.required => {
                errors.insert(name.clone(), json!([REQUIRED]));
            }
            None => {
                if let Some(default) = &rule.default {
                    fields.insert(name.clone(), default.clone());
                }
            }
            Some(value) if takes(rule, value) => {
                fields.insert(name.clone(), value.clone());
            }
            Some(_) => {
                errors.insert(name.clone(), json!([wrong(rule)]));
            }
        }
    }
    if fields.is_empty() { Value::Null } else { Value::Object(fields) }
}

/// As [`at_creation`], where nothing else can be wrong.
///
/// # Errors
/// 4003 with all fields.
pub fn of_new(rules: &Rules, extra: &Map<String, Value>) -> Result<Value, ChatError> {
    let mut errors = Map::new();
    let fields = at_creation(rules, extra, &mut errors);
    if errors.is_empty() { Ok(fields) } else { Err(ChatError::Fields(errors)) }
}

/// The stored fields after an update; nothing where it changes none. Names that may not be updated are ignored.
///
/// # Errors
/// 4003 with all fields whose value is of the wrong type.
pub fn of_update(
    rules: &Rules,
    stored: &Value,
    update: &Map<String, Value>,
) -> Result<Option<Value>, ChatError> {
    let mut fields = stored.as_object().cloned().unwrap_or_default();
    let mut errors = Map::new();
    let mut is_changed = false;
    for (name, rule) in rules.iter().filter(|(_, rule)| rule.updatable) {
        match update.get(name) {
            None => {}
            Some(value) if takes(rule, value) => {
                is_changed |= fields.insert(name.clone(), value.clone()).as_ref() != Some(value);
            }
            Some(_) => {
                errors.insert(name.clone(), json!([wrong(rule)]));
            }
        }
    }
    match errors.is_empty() {
        false => Err(ChatError::Fields(errors)),
        true if is_changed => Ok(Some(Value::Object(fields))),
        true => Ok(None),
    }
}

/// Adds the fields of the settings to an object; those that it was stored without are `null`, or have their default.
pub fn show(shown: &mut Map<String, Value>, stored: &Value, rules: &Rules) {
    for (name, rule) in rules {
        let value = stored.get(name).or(rule.default.as_ref()).cloned().unwrap_or_default();
        shown.insert(name.clone(), value);
    }
}
