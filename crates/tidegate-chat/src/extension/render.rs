//! What settings change about objects and errors.

use serde_json::{Map, Value, json};

use crate::error::ChatError;
use crate::model::User;
use crate::settings::Settings;
use crate::settings::extension::{DetailForm, RenderDrop};

/// A user's object as `[chat.render.user]` has it.
pub fn user(user: &User, mut shown: Map<String, Value>, settings: &Settings) -> Map<String, Value> {
    let render = &settings.render.user;
    if render.is_plain() {
        return shown;
    }
    let claim = |name: &str| user.claims.get(name).cloned().unwrap_or(Value::Null);
    if render.fields.is_empty() {
        shown.extend(render.claims.iter().map(|name| (name.clone(), claim(name))));
        return shown;
    }
    let id = shown.get("id").cloned().unwrap_or_default();
    let mut chosen = Map::from_iter([("id".to_owned(), id)]);
    for name in render.fields.iter().chain(&render.claims) {
        let value = shown.remove(name).unwrap_or_else(|| claim(name));
        chosen.entry(name.clone()).or_insert(value);
    }
    chosen
}

/// A message's object as `[chat.render.message]` and `[chat.fields.message]` have it.
pub fn message(shown: &mut Map<String, Value>, fields: &Value, settings: &Settings) {
    super::fields::show(shown, fields, &settings.fields.message);
    leave_out(shown, &settings.render.message);
}

/// A room's object as `[chat.render.room]`, `[chat.fields.*]` and `[chat.type_names]` have it.
pub fn room(shown: &mut Map<String, Value>, room: &crate::model::Room, settings: &Settings) {
    super::fields::show(shown, &room.fields, settings.fields.of_room(room.kind));
    if let Some(name) = shown.get_mut("type") {
        *name = Value::from(settings.type_names.of(room.kind));
    }
    leave_out(shown, &settings.render.room);
}

fn leave_out(shown: &mut Map<String, Value>, render: &RenderDrop) {
    for name in render.drop.iter().filter(|name| !["id", "type"].contains(&name.as_str())) {
        shown.remove(name);
    }
}

/// The frame of an error as `[chat.errors]` has it.
pub fn error_frame(error: &ChatError, settings: &Settings) -> Value {
    let forms = &settings.errors;
    if forms.wrap_invalid_event && matches!(error, ChatError::InvalidEventType) {
        return json!({ "error": { "code": 4003, "detail": "invalid event type" } });
    }
    let mut frame = error.frame();
    if forms.validation.detail == DetailForm::Text
        && frame.pointer("/error/code") == Some(&json!(4003))
        && let Some(detail) = frame.pointer_mut("/error/detail")
    {
        let mut texts = Vec::new();
        flatten("", detail, &mut texts);
        *detail = Value::from(texts.join(" "));
    }
    frame
}

/// Every text of a detail, with the field that it is about.
fn flatten(field: &str, detail: &Value, texts: &mut Vec<String>) {
    match detail {
        Value::String(text) if field.is_empty() => texts.push(text.clone()),
        Value::String(text) => texts.push(format!("{field}: {text}")),
        Value::Array(items) => items.iter().for_each(|item| flatten(field, item, texts)),
        Value::Object(members) => {
            for (name, inner) in members {
                let path = match (field.is_empty(), name.as_str()) {
                    (false, "non_field_errors") => field.to_owned(),
                    (true, "non_field_errors") => String::new(),
                    (true, name) => name.to_owned(),
                    (false, name) => format!("{field}.{name}"),
                };
                flatten(&path, inner, texts);
            }
        }
        other => texts.push(other.to_string()),
    }
}
