//! Probe 15, with `--chat`: how a chat server answers what is wrong.
//!
//! Speaks the protocol of the chat application (`event_type` and `data`, errors with `code` and `detail`), which other servers
//! speak too. It sends three messages, none of which can change anything: an event that nobody knows, a known one without its
//! data, and one that is no object. Nothing that the server writes is repeated; codes and forms are.

use serde_json::{Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tokio::time::Instant;

use super::wire::{Event, Socket, Upgrade};
use super::{Outcome, Run, facts};
use crate::report::{Confidence, Finding, Severity};

/// An event that no chat has.
const UNKNOWN: &str = r#"{"event_type":"tidegate.doctor","data":{}}"#;

/// One that every chat has, and that says something about a room; without a room it is about nothing.
const WITHOUT_DATA: &str = r#"{"event_type":"message.typing"}"#;

/// JSON, and no event.
const NO_OBJECT: &str = "[]";

/// What the documents have the server say to an event that it does not know.
const INVALID_EVENT_TYPE: &str = "invalid event type";

/// Frames that are passed over while an answer is waited for: what others say in the meantime.
const MAX_OTHERS: usize = 200;

/// An answer, as far as its form goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    /// `{"error": "invalid event type"}`.
    InvalidEventType,
    /// `{"error": {"code": ..., "detail": ...}}` with a documented code.
    Error(u64),
    /// Some other object or text; its form in a few words.
    Other(String),
    Nothing,
    Ended(String),
}

impl Said {
    fn words(&self) -> String {
        match self {
            Self::InvalidEventType => format!("{INVALID_EVENT_TYPE:?}"),
            Self::Error(code) => format!("an error with code {code}"),
            Self::Other(form) => form.clone(),
            Self::Nothing => "nothing".to_owned(),
            Self::Ended(how) => format!("the end of the connection: {how}"),
        }
    }
}

pub(super) async fn run(run: &mut Run<'_>) -> Outcome {
    let opened = run.opening.as_ref().is_none_or(|opening| opening.status == Some(101));
    if !opened {
        return Outcome::skipped("the handshake does not open");
    }
    if run.spares_token() {
        return Outcome::skipped("the token would be used up: --spend-token permits that");
    }
    let mut outcome = Outcome::default();
    let (Some(ask), Some(endpoint)) = (run.ask(), run.endpoint()) else { return outcome };
    let mut socket = match run.open.take() {
        Some(socket) => socket,
        None => match run.net.upgrade(&endpoint, &ask).await {
            Upgrade::Open(socket) => socket,
            other => {
                outcome.inconclusive(format!("the real URL does not open: {}", other.summary()));
                return outcome;
            }
        },
    };
    let unknown = say(run, &mut socket, UNKNOWN).await;
    outcome.measure("unknownEvent", unknown.words());
    if matches!(unknown, Said::Nothing | Said::Ended(_)) {
        outcome.inconclusive(format!(
            "an event that nobody knows gets {}: no chat of this kind",
            unknown.words()
        ));
        socket.close().await;
        return outcome;
    }
    let without_data = say(run, &mut socket, WITHOUT_DATA).await;
    outcome.measure("withoutData", without_data.words());
    judge(run, &unknown, &without_data);
    if !matches!(without_data, Said::Ended(_)) {
        let no_object = say(run, &mut socket, NO_OBJECT).await;
        outcome.measure("noObject", no_object.words());
        if let Said::Ended(how) = &no_object {
            run.add(Finding::new(Diagnosis::CHAT_NOT_JSON, Severity::Warning, Confidence::Proven).seen(
                format!("At a message that is no JSON object the server ends the connection: {how}."),
                facts([]),
            ));
        }
    }
    socket.close().await;
    outcome
}

/// What the first two answers prove.
fn judge(run: &mut Run<'_>, unknown: &Said, without_data: &Said) {
    let mut differs = Vec::new();
    if *unknown != Said::InvalidEventType {
        differs.push(format!("an event that nobody knows gets {}", unknown.words()));
    }
    match without_data {
        Said::Error(4006) => run.add(
            Finding::new(Diagnosis::CHAT_SHAPE_AS_INTERNAL, Severity::Warning, Confidence::Proven).seen(
                "A known event without `data` gets the code 4006, which stands for internal errors.",
                facts([("code", json!(4006)), ("event", json!("message.typing"))]),
            ),
        ),
        // The server may not have the event at all.
        Said::InvalidEventType => run.add(
            Finding::new(Diagnosis::CHAT_FIELD_ERROR_AS_EVENT_TYPE, Severity::Warning, Confidence::Likely)
                .seen(
                    "An event of the documents without `data` is called an unknown kind of event.",
                    facts([("event", json!("message.typing"))]),
                ),
        ),
        Said::Other(form) => differs.push(format!("an event without `data` gets {form}")),
        Said::Error(_) | Said::Nothing | Said::Ended(_) => {}
    }
    if !differs.is_empty() {
        let text = format!("Errors do not have the documented form: {}.", differs.join("; "));
        run.add(
            Finding::new(Diagnosis::CHAT_CUSTOM_HANDLER, Severity::Warning, Confidence::Proven)
                .seen(text, facts([("forms", json!(differs))])),
        );
    }
}

/// Sends a message and waits for what the server says to it.
async fn say(run: &Run<'_>, socket: &mut Socket, text: &str) -> Said {
    let deadline = Instant::now() + run.net.timeout.min(std::time::Duration::from_secs(3));
    if !socket.text(text).await {
        return Said::Ended("it is gone".to_owned());
    }
    for _ in 0..MAX_OTHERS {
        match socket.next(deadline).await {
            Event::Text(text) => {
                if let Some(said) = read(&text) {
                    return said;
                }
            }
            Event::Nothing => return Said::Nothing,
            event if event.is_end() => return Said::Ended(event.summary()),
            _ => {}
        }
    }
    Said::Nothing
}

/// A frame as an answer; none for what is said to everybody.
fn read(text: &str) -> Option<Said> {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return Some(Said::Other("a text".to_owned()));
    };
    let Value::Object(members) = &value else {
        return Some(Said::Other("JSON that is no object".to_owned()));
    };
    // Dispatches and notifications.
    if members.contains_key("eventType") {
        return None;
    }
    let error = &value["error"];
    let is_known_code = |code: &u64| (4001..=4006).contains(code);
    match (error.as_str(), error["code"].as_u64().filter(is_known_code), members.len()) {
        (Some(INVALID_EVENT_TYPE), _, 1) => Some(Said::InvalidEventType),
        (None, Some(code), 1) if error.get("detail").is_some() => Some(Said::Error(code)),
        _ => {
            // Names of members are the form; there may be many, and any.
            let names: Vec<&str> =
                members.keys().map(String::as_str).filter(|name| name.len() <= 32).take(5).collect();
            Some(Said::Other(format!("an object with {}", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_their_form() {
        // chat.custom-handler DX-64
        for (text, expected) in [
            (r#"{"error": "invalid event type"}"#, Some(Said::InvalidEventType)),
            (r#"{"error": {"code": 4006, "detail": "secret"}}"#, Some(Said::Error(4006))),
            (r#"{"type": "broadcast_group", "eventType": "message.dispatch", "data": {}}"#, None),
            (r#"{"eventType": "chat.notifications", "data": {}}"#, None),
            (r#"{"error": {"code": 4003}}"#, Some(Said::Other("an object with error".to_owned()))),
            (r#"{"error": "unknown"}"#, Some(Said::Other("an object with error".to_owned()))),
            (
                r#"{"errors": ["secret"], "status": 400}"#,
                Some(Said::Other("an object with errors, status".to_owned())),
            ),
            ("secret", Some(Said::Other("a text".to_owned()))),
            ("[1]", Some(Said::Other("JSON that is no object".to_owned()))),
        ] {
            let said = read(text);
            assert_eq!(said, expected, "{text}");
            assert!(said.is_none_or(|said| !said.words().contains("secret")), "{text}");
        }
    }
}
