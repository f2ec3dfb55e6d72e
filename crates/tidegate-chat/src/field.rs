//! Fields of events: texts, numbers and truth values as clients of the package write them.

use serde_json::Value;

/// What is said of a field that is absent.
pub const REQUIRED: &str = "This field is required.";
/// What is said of `null`.
pub const NULL: &str = "This field may not be null.";
/// What is said of a text without anything in it.
pub const BLANK: &str = "This field may not be blank.";
/// What is said of a URL that is none.
pub const URL: &str = "Enter a valid URL.";

/// A text: trimmed, numbers in decimal. It may be empty.
///
/// # Errors
/// What is wrong with it, for the client.
pub fn text(value: &Value, max_chars: Option<usize>) -> Result<String, String> {
    let text = match value {
        Value::Null => return Err(NULL.to_owned()),
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => return Err("Not a valid string.".to_owned()),
    };
    if text.contains('\0') {
        return Err("Null characters are not allowed.".to_owned());
    }
    match max_chars {
        Some(max) if text.chars().count() > max => {
            Err(format!("Ensure this field has no more than {max} characters."))
        }
        _ => Ok(text),
    }
}

/// As [`text`], and not empty.
///
/// # Errors
/// What is wrong with it, for the client.
pub fn filled_text(value: &Value, max_chars: Option<usize>) -> Result<String, String> {
    let text = text(value, max_chars)?;
    if text.is_empty() { Err(BLANK.to_owned()) } else { Ok(text) }
}

/// A whole number that is not negative: a number or decimal text.
///
/// # Errors
/// What is wrong with it, for the client.
pub fn integer(value: &Value) -> Result<i64, String> {
    let number = match value {
        Value::Null => return Err(NULL.to_owned()),
        Value::Number(number) => number.as_i64().or_else(|| {
            number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15).map(|f| f as i64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match number {
        None => Err("A valid integer is required.".to_owned()),
        Some(number) if number < 0 => Err("Ensure this value is greater than or equal to 0.".to_owned()),
        Some(number) => Ok(number),
    }
}

/// A truth value as events that create something write it.
///
/// # Errors
/// What is wrong with it, for the client.
pub fn boolean(value: &Value) -> Result<bool, String> {
    let known = match value {
        Value::Null => return Err(NULL.to_owned()),
        Value::Bool(value) => Some(*value),
        Value::Number(number) => match number.as_f64() {
            Some(1.0) => Some(true),
            Some(0.0) => Some(false),
            _ => None,
        },
        Value::String(text) => match text.trim() {
            "t" | "T" | "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON"
            | "1" => Some(true),
            "f" | "F" | "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off"
            | "OFF" | "0" => Some(false),
            _ => None,
        },
        Value::Array(_) | Value::Object(_) => None,
    };
    known.ok_or_else(|| "Must be a valid boolean.".to_owned())
}
