//! What is worth a look about a message although nothing failed: it went to `$default` beside the routes that were made
//! for messages, or nobody hears the answer.
//!
//! Each kind of remark is made once for a connection, so that neither a client nor a chatty application fills the
//! journal, and asked for only where somebody keeps facts.

use std::sync::Arc;

use serde_json::{Map, Value};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::nearest::nearest;
use tidegate_core::select::Selected;
use tidegate_core::snapshot::{Deployment, Stage, StagePolicy};

use super::handle::Handle;

/// Characters of a selected value that are kept.
const MAX_VALUE: usize = 64;

/// Names of members that are kept.
const MAX_NAMES: usize = 10;

/// Route keys that are kept.
const MAX_KEYS: usize = 20;

/// Longest message that may be a heartbeat, in bytes.
const MAX_HEARTBEAT: usize = 128;

/// Kinds of remarks, one bit each.
pub(super) mod kind {
    /// The message is not JSON.
    pub(in super::super) const NOT_JSON: u32 = 1;
    /// The message names no route.
    pub(in super::super) const UNNAMED: u32 = 1 << 1;
    /// The message names a route that is not there.
    pub(in super::super) const UNKNOWN: u32 = 1 << 2;
    /// A heartbeat gets no answer.
    pub(in super::super) const HEARTBEAT: u32 = 1 << 3;
    /// The client gets an answer that says nothing.
    pub(in super::super) const EMPTY: u32 = 1 << 4;
}

/// A remark with what proves it.
#[derive(Debug)]
pub(super) struct Remark {
    pub(super) diagnosis: Diagnosis,
    pub(super) facts: Facts,
}

/// Why a message went to `$default`, where the deployment has routes that it could have chosen.
pub(super) fn on_default(
    handle: &Handle,
    stage: &Stage,
    deployment: &Deployment,
    selected: &Selected,
    text: &str,
    opcode: &'static str,
) -> Option<Box<Remark>> {
    let kind = match (selected.is_json, selected.value.as_str()) {
        // A heartbeat in plain text names nothing and needs not to.
        (false, _) if is_heartbeat(text) => return None,
        (false, _) => kind::NOT_JSON,
        (true, "") => kind::UNNAMED,
        (true, "default" | "$default") => return None,
        (true, _) => kind::UNKNOWN,
    };
    let has_choice = deployment.routes.keys().any(|key| is_custom(key));
    if !has_choice || !handle.remark_once(kind) {
        return None;
    }
    let diagnosis = explain(deployment, selected, text);
    Some(Box::new(Remark { diagnosis, facts: facts_of(stage, deployment, selected, text, opcode) }))
}

/// Why a message names no route that is there.
pub(super) fn explain(deployment: &Deployment, selected: &Selected, text: &str) -> Diagnosis {
    let value = selected.value.as_str();
    match (selected.is_json, value.is_empty()) {
        (false, _) => Diagnosis::HANDLER_NOT_JSON,
        (true, true) if found_at(deployment, text).is_some() => Diagnosis::HANDLER_SELECTION_MISMATCH,
        (true, true) => Diagnosis::HANDLER_KEY_MISSING,
        (true, false) if nearest_key(deployment, value).is_some() => Diagnosis::ROUTE_KEY_MISMATCH,
        (true, false) if !is_identifier(value) => Diagnosis::HANDLER_INVALID_NAME,
        (true, false) => Diagnosis::ROUTE_NOT_CREATED,
    }
}

/// What a selection saw. Names of members and the selected value, nothing else of the message.
pub(super) fn facts_of(
    stage: &Stage,
    deployment: &Deployment,
    selected: &Selected,
    text: &str,
    opcode: &'static str,
) -> Facts {
    let mut facts = Facts::none().with("size", text.len()).with("opcode", opcode);
    facts.add("selection", expressions(stage.policy.as_deref(), deployment));
    let mut keys: Vec<&str> = deployment
        .routes
        .keys()
        .map(String::as_str)
        .filter(|key| !matches!(*key, "$connect" | "$disconnect"))
        .collect();
    keys.sort_unstable();
    keys.truncate(MAX_KEYS);
    facts.add("routeKeys", keys);
    if !selected.is_json {
        let error = serde_json::from_str::<serde::de::IgnoredAny>(text).err();
        facts.add_some("errorPosition", error.map(|error| position(text, &error)));
        return facts;
    }
    if selected.value.is_empty() {
        facts.add_some("foundAt", found_at(deployment, text));
    } else {
        facts.add("selectedValue", selected.value.chars().take(MAX_VALUE).collect::<String>());
        facts.add_some("nearest", nearest_key(deployment, &selected.value));
    }
    if let Some(members) = members(text) {
        let names: Vec<String> =
            members.keys().take(MAX_NAMES).map(|name| name.chars().take(MAX_VALUE).collect()).collect();
        facts.add("keyNames", names);
    }
    facts
}

fn expressions(policy: Option<&StagePolicy>, deployment: &Deployment) -> String {
    let own = policy.map_or(&[][..], |policy| policy.select.as_slice());
    match own.is_empty() {
        true => deployment.route_selection.as_str().to_owned(),
        false => own.iter().map(|expression| expression.as_str()).collect::<Vec<_>>().join(", "),
    }
}

/// A route that was made for messages.
fn is_custom(key: &str) -> bool {
    !key.starts_with('$') && !key.starts_with("tidegate.")
}

fn custom_keys(deployment: &Deployment) -> impl Iterator<Item = &str> {
    deployment.routes.keys().map(String::as_str).filter(|key| is_custom(key))
}

/// The key that differs by case, blanks or form, or is misspelt.
fn nearest_key<'a>(deployment: &'a Deployment, value: &str) -> Option<&'a str> {
    let form = |text: &str| -> String {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).take(128).collect()
    };
    let wanted = form(value);
    custom_keys(deployment)
        .find(|key| form(key) == wanted)
        .or_else(|| nearest(value, custom_keys(deployment)))
}

fn members(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(text).ok()
}

/// Where in a message the name of a route stands although the expression does not find it there.
fn found_at(deployment: &Deployment, text: &str) -> Option<String> {
    let is_key =
        |value: &Value| value.as_str().is_some_and(|text| custom_keys(deployment).any(|key| key == text));
    members(text)?
        .iter()
        .find_map(|(name, value)| match value {
            Value::Object(inner) => {
                inner.iter().find(|(_, value)| is_key(value)).map(|(inner, _)| format!("{name}.{inner}"))
            }
            value => is_key(value).then(|| name.clone()),
        })
        .map(|path| path.chars().take(MAX_VALUE).collect())
}

/// Whether backends that call a method by this name can have it.
fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Offset in bytes of the place that an error names.
fn position(text: &str, error: &serde_json::Error) -> usize {
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    (before + error.column().saturating_sub(1)).min(text.len())
}

/// Whether a message asks whether anybody is there.
pub(super) fn is_heartbeat(text: &str) -> bool {
    if text.len() > MAX_HEARTBEAT {
        return false;
    }
    let text = text.trim();
    if text.eq_ignore_ascii_case("ping") {
        return true;
    }
    if !text.starts_with('{') || !text.contains("ping") {
        return false;
    }
    const NAMES: [&str; 7] = ["action", "type", "event", "handler", "message", "op", "command"];
    members(text).is_some_and(|members| {
        NAMES.iter().any(|name| members.get(*name).is_some_and(|value| value == "ping"))
    })
}

/// Whether a heartbeat stays without an answer: the second one since when nothing was sent to the client. A backend
/// may well answer by a push.
pub(super) fn is_unanswered(handle: &Arc<Handle>, now: u64) -> bool {
    let since = handle.heartbeat_at();
    let is_silent = since > 0 && handle.traffic().last_sent_at < since;
    if !is_silent {
        handle.set_heartbeat_at(now);
    }
    is_silent && handle.remark_once(kind::HEARTBEAT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_are_known() {
        // conn.app-heartbeat-unanswered
        for text in ["ping", " PING\n", r#"{"type":"ping"}"#, r#"{"action": "ping", "n": 1}"#] {
            assert!(is_heartbeat(text), "{text}");
        }
        for text in
            ["pinging", r#"{"text":"ping"}"#, r#"{"type":"pong"}"#, &format!("ping{}", " ".repeat(200))]
        {
            assert!(!is_heartbeat(text), "{text}");
        }
    }

    #[test]
    fn positions_are_bytes() {
        // handler.not-json
        for (text, at) in [("hello", 0), ("{\"a\": x}", 6), ("{\n  \"a\": x}", 9), ("", 0)] {
            let error = serde_json::from_str::<serde::de::IgnoredAny>(text).unwrap_err();
            assert_eq!(position(text, &error), at, "{text:?}");
        }
    }
}
