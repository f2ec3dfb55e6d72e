//! Refused handshakes: what the client reads, and what operators get to know.
//!
//! The client reads a text that is the same for all refusals of one status, and ids to ask with. Everything else goes to
//! the operator.

use std::fmt::Write as _;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Map, Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::journal::Kind;
use tidegate_core::notice::Notice;

use super::attempt::Attempt;
use super::client_reference::Ended;
use super::{Reply, aws_error};
use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::logs;

/// A refusal before there is a connection id.
pub(crate) fn refuse(
    gateway: &Gateway,
    attempt: Attempt,
    code: ErrorCode,
    diagnosis: Option<Diagnosis>,
    detail: &str,
) -> Reply {
    refuse_as(gateway, attempt, code, diagnosis, detail, Map::new())
}

/// As [`refuse`], with further members of the body.
pub(crate) fn refuse_as(
    gateway: &Gateway,
    attempt: Attempt,
    code: ErrorCode,
    diagnosis: Option<Diagnosis>,
    detail: &str,
    more: Map<String, Value>,
) -> Reply {
    let mut reply = aws_error(code, None);
    set_request_id(gateway, &attempt, &mut reply);
    // What the real service answers where nothing is at an address has this one member.
    if code != ErrorCode::Forbidden {
        let mut body = Map::from_iter([("message".to_owned(), Value::from(code.row().message))]);
        body.extend(more);
        body.insert("requestId".to_owned(), attempt.request_id().to_string().into());
        *reply.body_mut() = Full::new(Bytes::from(Value::Object(body).to_string()));
    }
    let diagnosis = diagnosis.unwrap_or(code.row().diagnosis);
    report(gateway, attempt, &mut reply, code, diagnosis, detail.to_owned());
    reply
}

/// The ids of an early refusal: that of the journal, and one in the form of the real service.
pub(crate) fn set_request_id(gateway: &Gateway, attempt: &Attempt, reply: &mut Reply) {
    let headers = reply.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&attempt.request_id().to_string()) {
        headers.insert("x-amz-apigw-id", value.clone());
        headers.insert("tidegate-request-id", value);
    }
    if let Ok(value) = HeaderValue::from_str(&gateway.uuid(attempt.request_id())) {
        headers.insert("x-amzn-requestid", value);
    }
}

/// Tells operators of a refusal whose answer is `reply`. Clients on the operator's list are told the diagnosis too.
pub(crate) fn report(
    gateway: &Gateway,
    attempt: Attempt,
    reply: &mut Reply,
    code: ErrorCode,
    diagnosis: Diagnosis,
    detail: String,
) {
    if attempt.tells_diagnosis {
        add_diagnosis(reply, code, diagnosis);
    }
    if attempt.is_dry_run {
        add_id(reply, diagnosis);
    }
    let status = reply.status().as_u16();
    logs::handshake_refused(gateway, &attempt, code, diagnosis, &detail, (Some(reply), status));
    note(gateway, attempt, code, diagnosis, &detail, status);
}

/// Tells operators of a refusal that has no answer. `status` is what the client was told, 0 if nothing.
pub(crate) fn tell(
    gateway: &Gateway,
    attempt: Attempt,
    code: ErrorCode,
    diagnosis: Diagnosis,
    detail: &str,
    status: u16,
) {
    logs::handshake_refused(gateway, &attempt, code, diagnosis, detail, (None, status));
    note(gateway, attempt, code, diagnosis, detail, status);
}

fn note(
    gateway: &Gateway,
    mut attempt: Attempt,
    code: ErrorCode,
    diagnosis: Diagnosis,
    detail: &str,
    status: u16,
) {
    if let Some(reference) = &attempt.place.client_ref {
        let ended = Ended { request_id: attempt.place.request_id, diagnosis: Some(diagnosis), status };
        gateway.client_references.note(reference, ended, now_millis());
    }
    if status > 0 {
        attempt.note("status", status);
    }
    let duration = attempt.started.elapsed();
    let is_dry_run = attempt.is_dry_run;
    let (place, facts) = attempt.into_told();
    gateway.notice(match is_dry_run {
        // Nobody wanted to connect: it is no failure, and no handshake that counts as one.
        true => Notice::Decided { place, kind: Kind::Handshake, remark: Some(diagnosis), facts },
        false => Notice::HandshakeRefused {
            place,
            status,
            code,
            diagnosis,
            detail: detail.to_owned(),
            duration,
            facts,
        },
    });
}

/// Adds the diagnosis to an answer of the gateway's own; a backend's body stays as it is.
pub(super) fn add_diagnosis(reply: &mut Reply, code: ErrorCode, diagnosis: Diagnosis) {
    reply.headers_mut().insert("tidegate-diagnosis", HeaderValue::from_static(diagnosis.as_str()));
    if code == ErrorCode::BackendRefused {
        return;
    }
    let Some(body) = body_of(reply) else { return };
    let Ok(mut members) = serde_json::from_slice::<Map<String, Value>>(&body) else { return };
    let told = json!({ "id": diagnosis.as_str(), "sentence": diagnosis.describe().title });
    members.insert("tidegate".to_owned(), told);
    *reply.body_mut() = Full::new(Bytes::from(Value::Object(members).to_string()));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
}

/// Adds the id of the diagnosis to the answer of a check: whoever asks what would become of a handshake may learn what
/// `connect-status` tells of one that was. An application's own words stay as they are.
fn add_id(reply: &mut Reply, diagnosis: Diagnosis) {
    reply.headers_mut().insert("tidegate-diagnosis", HeaderValue::from_static(diagnosis.as_str()));
    let Some(body) = body_of(reply) else { return };
    let Ok(mut members) = serde_json::from_slice::<Map<String, Value>>(&body) else { return };
    if members.contains_key("message") {
        members.insert("id".to_owned(), diagnosis.as_str().into());
        *reply.body_mut() = Full::new(Bytes::from(Value::Object(members).to_string()));
    }
}

/// The bytes of a body that is there as a whole.
fn body_of(reply: &Reply) -> Option<Bytes> {
    Some(reply.body().clone().collect().now_or_never()?.ok()?.to_bytes())
}

/// An answer as HTTP/1.1 writes it, after which the connection is closed.
pub(super) fn on_the_wire(reply: &Reply) -> Vec<u8> {
    let body = body_of(reply).unwrap_or_default();
    let reason = reply.status().canonical_reason().unwrap_or("Refused");
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", reply.status().as_u16());
    for (name, value) in reply.headers() {
        if let Ok(value) = value.to_str() {
            // Writing into a string cannot fail.
            let _ = write!(head, "{name}: {value}\r\n");
        }
    }
    let _ = write!(head, "content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}

/// Adds how long to wait.
pub(crate) fn set_retry_after(headers: &mut HeaderMap, seconds: Option<u64>) {
    if let Some(seconds) = seconds {
        headers.insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
    }
}
