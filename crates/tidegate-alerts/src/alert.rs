//! An alert: one JSON object, as its publisher wrote it.
//!
//! The members keep their order and their numbers their digits, so an alert is never made into a tree and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use tidegate_core::context::iso_time;

/// Largest alert, in bytes.
pub const MAX_BYTES: usize = 128 * 1024;

/// Longest `alert_id` that is taken for one, in bytes.
const MAX_ID_BYTES: usize = 256;

/// Ready to be sent. No `Debug`: it is a payload.
#[derive(Clone)]
pub struct Alert {
    /// Compact JSON.
    pub text: Bytes,
    /// `alert_id` of the object.
    pub id: Option<Arc<str>>,
}

/// What is wrong with an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertProblem {
    /// No object.
    NotAnObject,
    /// `type` is missing, empty or no text.
    NoType,
    /// Longer than [`MAX_BYTES`].
    TooLarge,
}

impl Alert {
    /// Takes an object as it was written; adds `timestamp` where there is none.
    ///
    /// # Errors
    /// [`AlertProblem`]
    pub fn new(written: &RawValue, now: u64) -> Result<Self, AlertProblem> {
        if written.get().len() > 2 * MAX_BYTES {
            return Err(AlertProblem::TooLarge);
        }
        let members: BTreeMap<String, &RawValue> =
            serde_json::from_str(written.get()).map_err(|_| AlertProblem::NotAnObject)?;
        let text =
            |name: &str| members.get(name).and_then(|value| serde_json::from_str::<String>(value.get()).ok());
        if text("type").is_none_or(|kind| kind.is_empty()) {
            return Err(AlertProblem::NoType);
        }
        let mut compact = compact(written.get());
        if !members.contains_key("timestamp") {
            compact.pop();
            compact.push_str(r#","timestamp":""#);
            compact.push_str(&iso_time(now));
            compact.push_str(r#""}"#);
        }
        if compact.len() > MAX_BYTES {
            return Err(AlertProblem::TooLarge);
        }
        let id = members.get("alert_id").and_then(|value| id_text(value));
        Ok(Self { text: Bytes::from(compact), id })
    }
}

/// Ids are texts or numbers.
fn id_text(value: &RawValue) -> Option<Arc<str>> {
    let written = value.get();
    let id = match written.as_bytes().first()? {
        b'"' => serde_json::from_str::<String>(written).ok()?,
        b'0'..=b'9' | b'-' => written.to_owned(),
        _ => return None,
    };
    (1..=MAX_ID_BYTES).contains(&id.len()).then(|| id.into())
}

/// Valid JSON without white space between its tokens.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut is_text, mut is_escaped) = (false, false);
    for char in json.chars() {
        if is_text {
            is_text = is_escaped || char != '"';
            is_escaped = !is_escaped && char == '\\';
        } else if matches!(char, ' ' | '\t' | '\n' | '\r') {
            continue;
        } else {
            is_text = char == '"';
        }
        out.push(char);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(json: &str) -> Result<String, AlertProblem> {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        Alert::new(&raw, 1_736_942_405_120).map(|alert| String::from_utf8(alert.text.to_vec()).unwrap())
    }

    #[test]
    fn an_alert_stays_as_it_was_written_but_for_white_space_and_a_timestamp() {
        // S3-38, S3-39: order, digits, escapes, unknown members and types.
        let written = r#"{ "type" : "x y", "z": [1.50, 1e3, 12345678901234567890], "a": "\" {\u00e9\\", "lat": 0 ,
            "timestamp": null }"#;
        assert_eq!(
            alert(written).unwrap(),
            r#"{"type":"x y","z":[1.50,1e3,12345678901234567890],"a":"\" {\u00e9\\","lat":0,"timestamp":null}"#
        );
        let added = alert(r#"{"type":"sos_alert"}"#).unwrap();
        assert_eq!(added, r#"{"type":"sos_alert","timestamp":"2025-01-15T12:00:05.120Z"}"#);
    }

    #[test]
    fn an_alert_is_an_object_with_a_type_and_of_a_size() {
        // S3-39
        for written in [r#"{"a":1}"#, r#"{"type":""}"#, r#"{"type":7}"#, "{}"] {
            assert_eq!(alert(written), Err(AlertProblem::NoType), "{written}");
        }
        for written in ["[]", "7", "null", r#""pong""#] {
            assert_eq!(alert(written), Err(AlertProblem::NotAnObject), "{written}");
        }
        let sized = |n| format!(r#"{{"type":"x","timestamp":1,"fill":"{}"}}"#, "a".repeat(n));
        let frame = sized(0).len();
        assert_eq!(alert(&sized(MAX_BYTES - frame)).unwrap().len(), MAX_BYTES);
        assert_eq!(alert(&sized(MAX_BYTES - frame + 1)), Err(AlertProblem::TooLarge));
        assert_eq!(alert(&sized(3 * MAX_BYTES)), Err(AlertProblem::TooLarge));
    }
}
