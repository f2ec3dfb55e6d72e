//! One line about an entry, and how certain an entry makes its cause.

use serde_json::Value;
use tidegate_core::diagnosis::{Cause, Diagnosis};
use tidegate_core::journal::{Entry, Kind, OK};

use crate::check::{HOUR, is_open, span};
use crate::report::{Confidence, Moment};

use super::{MAX_PAYLOAD, Passed, Payload};

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
    "known",
    "sentence",
    "code",
    "integrationMs",
    "integrationStatus",
    "replyDropped",
    "symptom",
    "result",
    "madeAt",
];

/// Facts that are in every entry of a handshake and prove little: shown only where they are the proof.
const RARELY_SHOWN: &[&str] = &[
    "check",
    "code",
    "cookieNames",
    "claimNames",
    "closeReason",
    "httpVersion",
    "integrationMs",
    "queryNames",
    "queueBytes",
    "tokenMs",
];

/// Facts that are times, in milliseconds since 1970.
const TIMES: &[&str] =
    &["exp", "nbf", "iat", "now", "firstUsedAt", "resetAt", "closedAt", "keysFetchedAt", "requestedAt"];

/// Facts that are durations in milliseconds.
const DURATIONS: &[&str] = &["leeway", "aheadMs", "tokenAgeMs", "lifetimeMs", "waitedMs", "clientLeftMs"];

/// The facts that prove a cause, which come first and are always shown. Source: column "proof" of the catalogue.
fn proof(id: &str) -> &'static [&'static str] {
    let (family, _) = id.split_once('.').unwrap_or((id, ""));
    match id {
        "handshake.url-too-long" => &["urlLength", "headBytes", "limit"],
        "client.socketio" | "client.other-protocol" => &["queryNames", "method"],
        "proxy.http10" => &["httpVersion", "keyPresent"],
        "proxy.host-rewritten" => &["host", "forwardedHost"],
        "proxy.upgrade-stripped" => {
            &["keyPresent", "version", "upgradePresent", "connectionPresent", "httpVersion", "peer"]
        }
        "handshake.malformed" | "handshake.not-websocket" => {
            &["upgradePresent", "connectionPresent", "keyPresent", "version", "userAgent"]
        }
        "jwt.missing" | "jwt.wrong-place" | "token.missing" => &["place", "parameter", "queryNames"],
        "jwt.expired" => &["exp", "now", "leeway"],
        "jwt.not-yet-valid" => &["claim", "aheadMs", "leeway"],
        "token.session-missing" => &["cookieNames"],
        "origin.not-allowed" => &["origin", "allowedOrigins"],
        _ => match family {
            "tokenreq" => &["wantedCookie", "cookieNames", "wantedHeaders", "origin"],
            "identity" | "cookie" => &["wantedCookie", "cookieNames", "origin", "host"],
            _ => &[],
        },
    }
}

/// How long the journal must reach back before an id that it does not know was never issued: the longest connection of the
/// original, 2 h, and a day for which ends are kept.
const KNOWS_EVERY_ID: u64 = 26 * HOUR;

/// How certain an entry makes the cause that it names: proven where the letters say that whoever wrote it can prove it.
pub(crate) fn confidence(entry: &Entry, cause: &Cause, covered_since: u64) -> Confidence {
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
        text: words(entry).join(", "),
        request_id: entry.request_id.clone(),
    }
}

/// A line of a timeline about a captured payload.
pub(super) fn payload(payload: &Payload) -> Moment {
    let whose = if payload.from_client { "message of the client" } else { "answer of its route" };
    let said = match &payload.text {
        None => "no text".to_owned(),
        Some(text) => {
            let cut: String = text.chars().take(MAX_PAYLOAD).collect();
            if cut.len() < text.len() { format!("{cut}...") } else { cut }
        }
    };
    Moment {
        at: crate::check::time(payload.at),
        kind: "payload".to_owned(),
        outcome: OK.to_owned(),
        text: format!("{whose}, {}: {said}", bytes(payload.size as u64)),
        request_id: Some(payload.request_id.clone()).filter(|id| !id.is_empty()),
    }
}

/// A line of a timeline about one of the newest messages of an open connection.
pub(super) fn passed(passed: &Passed) -> Moment {
    let way = if passed.from_client { "from the client" } else { "to the client" };
    Moment {
        at: crate::check::time(passed.at),
        kind: "frame".to_owned(),
        outcome: OK.to_owned(),
        text: format!("{way}, {}", bytes(passed.size)),
        request_id: None,
    }
}

/// What happened and the facts of it, without its time.
pub(super) fn line(entry: &Entry) -> String {
    let mut words = words(entry);
    // How a success came about fills pages and explains nothing.
    if entry.outcome != OK {
        words.extend(Some(facts(entry)).filter(|facts| !facts.is_empty()));
    }
    words.join(", ")
}

/// What happened, in a few words.
fn words(entry: &Entry) -> Vec<String> {
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
                _ if entry.fact("dryRun").is_some() => say("a question what it would come to".to_owned()),
                Some(101) => say("opened".to_owned()),
                Some(status) => match number("closeCode") {
                    Some(code) => say(format!("opened, and closed with {code} as a refusal")),
                    None => say(format!("answered with {status}")),
                },
                // A remark on the way, whatever came of it.
                None if entry.outcome != OK => {}
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
    if entry.outcome != OK {
        say(text("detail").to_owned());
    }
    words
}

fn bytes(n: u64) -> String {
    format!("{n} {}", if n == 1 { "byte" } else { "bytes" })
}

/// Facts by name, short, those that prove the outcome first.
fn facts(entry: &Entry) -> String {
    let proof = proof(&entry.outcome);
    let first = proof.iter().filter_map(|name| Some((*name, entry.facts.get(*name)?)));
    let others = entry.facts.iter().map(|(name, value)| (name.as_str(), value)).filter(|(name, value)| {
        let is_noise = NOT_SHOWN.contains(name) || RARELY_SHOWN.contains(name) || proof.contains(name);
        // Nothing in a list is nothing to read.
        !is_noise && !value.as_array().is_some_and(Vec::is_empty)
    });
    let shown = first.chain(others).filter(|(_, value)| !value.is_null());
    let shown = shown.take(MAX_FACTS).map(|(name, value)| {
        let millis = value.as_u64().or_else(|| value.as_f64().filter(|ms| *ms >= 0.0).map(|ms| ms as u64));
        let value = match value {
            _ if TIMES.contains(&name) && millis.is_some() => {
                crate::check::time(millis.unwrap_or_default().saturating_mul(1000))
            }
            _ if DURATIONS.contains(&name) && millis.is_some() => {
                span(millis.unwrap_or_default().saturating_mul(1000))
            }
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
    fn the_proof_comes_first_and_can_be_read() {
        // DX-60 jwt.expired proxy.upgrade-stripped
        let facts = json!({
            "alg": "HS256", "check": "jwt", "claimNames": ["exp"], "code": "IdentityRejected", "cookieNames": [],
            "detail": "the token has expired", "exp": 1_767_322_800_000_u64, "fingerprint": "f", "httpVersion": "1.1",
            "leeway": 30_000, "now": 1_767_322_900_000_u64, "status": 403, "queryNames": ["token"]
        });
        assert_eq!(
            line(&entry(Kind::Handshake, Some(Diagnosis::JWT_EXPIRED), facts)),
            "answered with 403, the token has expired, exp 2026-01-02T03:00:00.000Z, now 2026-01-02T03:01:40.000Z, \
             leeway 30 s, alg HS256, fingerprint f"
        );
        let facts = json!({
            "status": 426, "keyPresent": true, "version": "13", "upgradePresent": false, "connectionPresent": false,
            "httpVersion": "1.1", "peer": "10.0.3.7", "code": "UpgradeRequired", "headerNames": ["host"]
        });
        assert_eq!(
            line(&entry(Kind::Handshake, Some(Diagnosis::PROXY_UPGRADE_STRIPPED), facts)),
            "answered with 426, keyPresent true, version 13, upgradePresent false, connectionPresent false, \
             httpVersion 1.1, peer 10.0.3.7"
        );
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
        assert_eq!(moment(&refused).text, "ws.example.com/chat, from 192.0.2.1, answered with 403");
        // A remark is no answer: the handshake may have opened.
        let remark = entry(
            Kind::Handshake,
            Some(Diagnosis::SUBPROTOCOL_NOT_CONFIRMED),
            json!({ "host": "h", "path": "/", "offeredSubprotocols": ["v1"], "answeredSubprotocols": [] }),
        );
        assert_eq!(line(&remark), "h/, offeredSubprotocols [v1]");
        let facts = json!({ "by": "network", "closeCode": 1006, "ageMs": 90_000, "idleMs": 60_000, "messagesIn": 1, "messagesOut": 2 });
        let close = entry(Kind::Close, None, facts);
        assert_eq!(line(&close), "by network, with 1006, after 90 s, idle for 60 s, 1 messages in, 2 out");
    }
}
