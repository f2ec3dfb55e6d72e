//! One line about an entry, and how certain an entry makes its cause.

use serde_json::Value;
use tidegate_core::diagnosis::{Cause, Diagnosis};
use tidegate_core::journal::{Entry, Kind, OK};

use crate::check::{HOUR, is_open, span};
use crate::report::{Confidence, Moment};

/// Facts that a line shows behind the words; more would hide the one that matters.
const MAX_FACTS: usize = 8;

/// Longest value of a fact in a line, in characters.
const MAX_VALUE: usize = 80;

/// Facts that are lists of everything, or that the words have already.
const NOT_SHOWN: &[&str] = &[
    "headerNames",
    "headBytes",
    "urlLength",
    "userAgent",
    "peer",
    "peerPort",
    "listener",
    "tlsVersion",
    "alpn",
    "sni",
    "method",
    "host",
    "path",
    "status",
    "eventType",
    "target",
    "by",
    "closeCode",
    "ageMs",
    "idleMs",
    "messagesIn",
    "messagesOut",
    "bytesIn",
    "bytesOut",
    "channel",
    "change",
    "caller",
    "size",
    "what",
    "actor",
    "object",
    "selectedValue",
    "upgradePresent",
    "connectionPresent",
    "keyPresent",
    "version",
    "clientAddress",
    "clientAddressTrusted",
    "extensions",
    "queueHighWater",
    "connectMs",
    "firstByteMs",
    "reused",
    "handled",
    "bytes",
    "opcode",
    "sourceAddress",
    "detail",
    "sentence",
    "code",
    "httpVersion",
    "integrationMs",
    "integrationStatus",
    "replyDropped",
    "symptom",
    "result",
    "madeAt",
];

/// How long the journal must reach back before an id that it does not know was never issued: the longest connection of the
/// original, 2 h, and a day for which ends are kept.
const KNOWS_EVERY_ID: u64 = 26 * HOUR;

/// How certain an entry makes the cause that it names: proven where the letters say that whoever wrote it can prove it.
pub(super) fn confidence(entry: &Entry, cause: &Cause, covered_since: u64) -> Confidence {
    if cause.diagnosis == Diagnosis::GONE_UNKNOWN_ID
        && entry.ts.saturating_sub(covered_since) < KNOWS_EVERY_ID
    {
        return Confidence::Possible;
    }
    let has = |letter: &str| cause.seen.split(' ').any(|seen| seen == letter);
    let own = has("G") || has("G*");
    // The letters of the row are those of a check; a handshake that no TLS answered is the same proof.
    if cause.diagnosis == Diagnosis::LOCAL_NOT_HTTPS && entry.text("errorClass") == Some("tls-not-spoken") {
        return Confidence::Proven;
    }
    let by_backend = entry.text("signature").is_some_and(|signature| !signature.is_empty());
    let is_proof = match by_backend {
        // `G* (B)`: the gateway's own feature proves it, a backend's answer only suggests it.
        true => has("B") || (own && !has("(B)")),
        false => own || has("B") || (entry.kind == Kind::Control && has("C")),
    };
    if is_proof { Confidence::Proven } else { Confidence::Likely }
}

/// A line of a timeline.
pub(super) fn moment(entry: &Entry) -> Moment {
    Moment {
        at: crate::check::time(entry.ts),
        kind: entry.kind.as_str().to_owned(),
        outcome: entry.outcome.clone(),
        text: line(entry),
        request_id: entry.request_id.clone(),
    }
}

/// What happened, without its time.
pub(super) fn line(entry: &Entry) -> String {
    let text = |name: &str| entry.text(name).unwrap_or_default();
    let number = |name: &str| entry.number(name).map(|number| number as u64);
    let mut words: Vec<String> = Vec::new();
    let mut say = |word: String| {
        if !word.trim().is_empty() {
            words.push(word);
        }
    };
    match entry.kind {
        Kind::Handshake => {
            say(format!("{}{}", text("host"), text("path")));
            if let Some(address) = entry.address.as_deref().or(entry.text("clientAddress")) {
                say(format!("from {address}"));
            }
            say(entry.user.as_deref().map_or_else(String::new, |user| format!("user {user}")));
            match number("status") {
                Some(101) => say("opened".to_owned()),
                Some(status) => say(format!("answered with {status}")),
                None => say(if is_open(entry) { "opened" } else { "not opened" }.to_owned()),
            }
        }
        Kind::Integration => {
            say(text("eventType").to_lowercase());
            say(entry.text("target").map_or_else(String::new, |target| format!("to {target}")));
            say(number("status")
                .map_or_else(|| "no answer".to_owned(), |status| format!("answered with {status}")));
            say(entry
                .duration_ms
                .map_or_else(String::new, |ms| format!("after {}", span((ms * 1000.0) as u64))));
            say(entry.text("sentence").map_or_else(String::new, |words| format!("saying {words:?}")));
        }
        Kind::Message => {
            say(entry.route_key.as_deref().map_or_else(String::new, |route| format!("route {route}")));
            say(number("handled").map_or_else(String::new, |count| format!("{count} handled in a minute")));
            say(number("size").map_or_else(String::new, bytes));
            say(entry.text("selectedValue").map_or_else(String::new, |value| format!("selected {value:?}")));
        }
        Kind::Post => {
            say(format!("to {}", entry.text("target").unwrap_or("connection")));
            say(text("channel").to_owned());
            say(number("size").map_or_else(String::new, bytes));
            say(entry.text("caller").map_or_else(String::new, |caller| format!("by {caller}")));
        }
        Kind::Close => {
            say(format!("by {}", entry.text("by").unwrap_or("somebody")));
            say(number("closeCode").map_or_else(String::new, |code| format!("with {code}")));
            say(number("ageMs").map_or_else(String::new, |age| format!("after {}", span(age * 1000))));
            say(number("idleMs").map_or_else(String::new, |idle| format!("idle for {}", span(idle * 1000))));
            if let (Some(messages_in), Some(messages_out)) = (number("messagesIn"), number("messagesOut")) {
                say(format!("{messages_in} messages in, {messages_out} out"));
            }
        }
        Kind::Membership => say(format!("{} {}", entry.text("change").unwrap_or("join"), text("channel"))),
        Kind::Control => {
            say(text("what").to_owned());
            say(text("object").to_owned());
            say(entry.text("actor").map_or_else(String::new, |actor| format!("by {actor}")));
        }
        Kind::Authorizer | Kind::Token | Kind::Jwt | Kind::UserCheck | Kind::RateLimit | Kind::Origin => {}
    }
    // How a success came about fills pages and explains nothing.
    if entry.outcome != OK {
        say(text("detail").to_owned());
        say(facts(entry));
    }
    words.join(", ")
}

fn bytes(n: u64) -> String {
    format!("{n} {}", if n == 1 { "byte" } else { "bytes" })
}

/// Facts by name, short.
fn facts(entry: &Entry) -> String {
    let shown = entry.facts.iter().filter(|(name, value)| {
        let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        // What the line begins with needs no repetition.
        let is_outcome = value.as_str() == Some(&entry.outcome);
        !NOT_SHOWN.contains(&name.as_str()) && !is_empty && !is_outcome
    });
    let shown = shown.take(MAX_FACTS).map(|(name, value)| {
        let value = match value {
            // Milliseconds since 1970; nobody reads those.
            Value::Number(number) if name.ends_with("At") => match number.as_u64() {
                Some(millis) => crate::check::time(millis.saturating_mul(crate::check::MILLI)),
                None => number.to_string(),
            },
            Value::String(text) => text.clone(),
            Value::Array(items) => {
                let items: Vec<String> = items
                    .iter()
                    .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                    .collect();
                format!("[{}]", items.join(" "))
            }
            value => value.to_string(),
        };
        let cut: String = value.chars().take(MAX_VALUE).collect();
        format!("{name} {cut}")
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(kind: Kind, outcome: Option<Diagnosis>, facts: Value) -> Entry {
        let mut entry = Entry::new(100 * HOUR, kind, outcome);
        entry.facts = facts.as_object().cloned().unwrap_or_default();
        entry
    }

    #[test]
    fn an_entry_proves_what_its_writer_can_prove() {
        // DX-2
        for (diagnosis, facts, expected) in [
            (Diagnosis::JWT_EXPIRED, json!({}), Confidence::Proven),
            (Diagnosis::TOKEN_EXPIRED, json!({}), Confidence::Proven),
            (Diagnosis::TOKEN_EXPIRED, json!({ "signature": "dj-token" }), Confidence::Likely),
            (Diagnosis::TOKEN_SESSION_MISSING, json!({ "signature": "dj-session" }), Confidence::Proven),
            (Diagnosis::BACKEND_REFUSED, json!({}), Confidence::Proven),
            (Diagnosis::HANDSHAKE_HTTPS_SCHEME, json!({}), Confidence::Likely),
            (Diagnosis::BACKEND_API_ID_UNKNOWN, json!({ "signature": "dj-headers" }), Confidence::Likely),
        ] {
            let entry = entry(Kind::Handshake, Some(diagnosis), facts);
            assert_eq!(confidence(&entry, diagnosis.describe(), 0), expected, "{diagnosis}");
        }
    }

    #[test]
    fn an_id_is_unknown_only_where_the_journal_reaches_back() {
        // connections.unknown-id DX-2
        let cause = Diagnosis::GONE_UNKNOWN_ID.describe();
        let entry = entry(Kind::Post, Some(Diagnosis::GONE_UNKNOWN_ID), json!({}));
        assert_eq!(confidence(&entry, cause, 74 * HOUR), Confidence::Proven);
        assert_eq!(confidence(&entry, cause, 74 * HOUR + 1), Confidence::Possible);
    }

    #[test]
    fn lines_say_what_happened() {
        let mut refused = entry(
            Kind::Handshake,
            Some(Diagnosis::ROLE_INSUFFICIENT),
            json!({ "host": "ws.example.com", "path": "/chat", "status": 403, "role": "user", "headerNames": ["a"] }),
        );
        refused.address = Some("192.0.2.1".to_owned());
        assert_eq!(line(&refused), "ws.example.com/chat, from 192.0.2.1, answered with 403, role user");
        let facts = json!({ "by": "network", "closeCode": 1006, "ageMs": 90_000, "idleMs": 60_000, "messagesIn": 1, "messagesOut": 2 });
        let close = entry(Kind::Close, None, facts);
        assert_eq!(line(&close), "by network, with 1006, after 90 s, idle for 60 s, 1 messages in, 2 out");
    }
}
