//! JSON Schema as far as the document uses it.

use serde_json::Value;

/// Panics unless `value` fits `schema`.
pub(crate) fn assert_fits(schema: &Value, value: &Value, root: &Value) {
    if let Err(problem) = fits(schema, value, root) {
        panic!("{problem}\nschema {schema}\nvalue {value}");
    }
}

fn fits(schema: &Value, value: &Value, root: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return fits(root.pointer(reference.trim_start_matches('#')).unwrap(), value, root);
    }
    if let Some(shapes) = schema["anyOf"].as_array() {
        let results: Vec<_> = shapes.iter().map(|shape| fits(shape, value, root)).collect();
        return match results.iter().any(Result::is_ok) {
            true => Ok(()),
            false => Err(format!("{results:?}")),
        };
    }
    if let Some(wanted) = schema.get("const") {
        return if wanted == value { Ok(()) } else { Err(format!("{value} is not {wanted}")) };
    }
    let is_type = match schema["type"].as_str() {
        None => true,
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => panic!("a type {other} in the document"),
    };
    if !is_type {
        return Err(format!("{value} is no {}", schema["type"]));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{value} is none of {words:?}"));
    }
    if schema["format"] == "date-time" {
        let text = value.as_str().unwrap();
        text.parse::<jiff::Timestamp>().map_err(|error| format!("{text}: {error}"))?;
    }
    if let (Some(text), Some(min), Some(max)) =
        (value.as_str(), schema["minLength"].as_u64(), schema["maxLength"].as_u64())
        && !(min..=max).contains(&(text.chars().count() as u64))
    {
        return Err(format!("{text} has not {min} to {max} characters"));
    }
    for item in value.as_array().into_iter().flatten() {
        fits(&schema["items"], item, root)?;
    }
    let Some(members) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !members.contains_key(name.as_str().unwrap()) {
            return Err(format!("{name} is missing"));
        }
    }
    for (name, value) in members {
        match schema["properties"].get(name) {
            Some(schema) => fits(schema, value, root).map_err(|problem| format!("{name}: {problem}"))?,
            None if schema["additionalProperties"] == false => {
                return Err(format!("{name} is not documented"));
            }
            None => {}
        }
    }
    Ok(())
}
