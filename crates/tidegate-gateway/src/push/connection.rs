//! `@connections/{id}`: as API Gateway has it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::Full;
use tidegate_core::context::iso_time;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::id::ConnectionId;
use tidegate_core::limits;
use tidegate_core::mapping::query_values;
use tidegate_core::notice::{Notice, Place};
use tidegate_core::settings::{InvalidId, PendingPosts};
use tidegate_core::snapshot::Stage;
use tidegate_ws::{CloseCode, CloseFrame, OutboundMessage};

use super::{Call, Refusal, bad_request, explained, gone};
use crate::connection::close_reason;
use crate::connection::handle::{CloseCause, Handle, PushRefusal};
use crate::edge::{Reply, empty};
use crate::gateway::Gateway;
use crate::gone::WhyGone;

/// Answers a call on one connection.
pub(super) async fn serve(call: Call<'_>, id: &str, place: &mut Place) -> Result<Reply, Refusal> {
    let handle = find(&call, id, place)?;
    let handle = match handle.is_pending() {
        true => await_handshake(call.gateway, call.stage, handle, &call.method).await?,
        false => handle,
    };
    place.user = handle.membership_if_any().and_then(|membership| membership.identity().user.clone());
    place.client_ref.clone_from(&handle.client_ref);
    place.address = Some(handle.facts.source_ip);
    match call.method {
        Method::POST => post(&call, &handle, place),
        Method::DELETE => delete(&call, &handle),
        _ => get(call.gateway, &handle, call.now),
    }
}

/// The connection of an id, pending or open.
pub(super) fn find(call: &Call<'_>, id: &str, place: &mut Place) -> Result<Arc<Handle>, Refusal> {
    let Call { gateway, stage, now, .. } = call;
    let Ok(connection_id) = ConnectionId::parse(id) else {
        return Err(invalid_id(gateway, stage, id));
    };
    place.connection_id = Some(connection_id);
    match gateway.registry.find(connection_id) {
        Some(handle) if *handle.facts.api_id != *stage.api_id => {
            Err(Refusal::new(ErrorCode::Gone, Diagnosis::GONE_OTHER_STAGE)
                .with("connectionState", "other-stage")
                .with("symptom", Diagnosis::PUSH_OTHER_API.as_str())
                .with("belongsToApi", &*handle.facts.api_id)
                .with("belongsToStage", &*handle.facts.stage))
        }
        Some(handle) => Ok(handle),
        None => {
            let refusal = gone(gateway, connection_id, *now);
            if call.method == Method::POST {
                gateway.registry.posted(connection_id);
            }
            Err(refusal)
        }
    }
}

/// The id is no id. Perhaps it is one that was encoded once too often, or cut.
fn invalid_id(gateway: &Gateway, stage: &Stage, id: &str) -> Refusal {
    let decoded = percent_encoding::percent_decode_str(id).decode_utf8_lossy();
    let is_live = |text: &str| {
        let id = ConnectionId::parse(text).ok();
        id.and_then(|id| gateway.registry.find(id))
            .is_some_and(|handle| *handle.facts.api_id == *stage.api_id)
    };
    let completed = format!("{id}=");
    let meant = [&*decoded, &completed].into_iter().find(|text| is_live(text));
    let diagnosis = match meant {
        Some(_) => Diagnosis::CONNECTIONS_DOUBLE_ENCODED,
        None => Diagnosis::GONE_MALFORMED_ID,
    };
    let refusal = match stage.settings.management.invalid_id {
        InvalidId::Gone => Refusal::new(ErrorCode::Gone, diagnosis),
        InvalidId::BadRequest => {
            let text = format!("Invalid connectionId: {id}");
            Refusal::with_text(ErrorCode::InvalidConnectionId, diagnosis, &text)
        }
    };
    let mut refusal = refusal.with("connectionState", "malformed").with("length", id.chars().count());
    match meant {
        Some(meant) => refusal.facts.add("meant", meant),
        None => {
            let is_bad = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '='));
            refusal.facts.add_some("badCharacter", id.chars().find(|c| is_bad(*c)).map(String::from));
        }
    }
    refusal
}

/// What happens to a call for a connection whose handshake is under way.
async fn await_handshake(
    gateway: &Gateway,
    stage: &Stage,
    handle: Arc<Handle>,
    method: &Method,
) -> Result<Arc<Handle>, Refusal> {
    let settings = &stage.settings.management;
    let refuse = || {
        let mut refusal = Refusal::new(ErrorCode::Gone, Diagnosis::GONE_NEVER_ESTABLISHED);
        refusal.reply.headers_mut().insert("x-tidegate-gone-reason", HeaderValue::from_static("handshake"));
        explained(gateway, refusal, WhyGone::pending(handle.facts.connected_at))
    };
    match settings.pending_posts {
        PendingPosts::Queue if method == Method::POST => Ok(handle),
        PendingPosts::Hold => {
            let over = async {
                loop {
                    // Registered before the look, so that no end of a handshake is missed between the two.
                    let mut notified = std::pin::pin!(gateway.handshake_over.notified());
                    notified.as_mut().enable();
                    if !handle.is_pending() {
                        return;
                    }
                    notified.await;
                }
            };
            let _ = tokio::time::timeout(Duration::from_millis(settings.hold_ms), over).await;
            match handle.is_open() {
                true => Ok(handle),
                false => Err(refuse()),
            }
        }
        PendingPosts::Gone | PendingPosts::Queue => Err(refuse()),
    }
}

fn post(call: &Call<'_>, handle: &Handle, place: &Place) -> Result<Reply, Refusal> {
    let Call { gateway, body, now, .. } = call;
    let size = body.len();
    handle.push(&OutboundMessage::text(body.clone()), *now).map_err(|refusal| match refusal {
        PushRefusal::Full => {
            let limit = handle.stage.settings.data_plane.outbound_buffer_bytes;
            let mut refusal = Refusal::new(ErrorCode::SlowConsumer, Diagnosis::CONN_SLOW_CONSUMER)
                .with("connectionState", "open")
                .with("limit", limit);
            refusal.reply.headers_mut().insert("x-tidegate-limit", HeaderValue::from_static("buffer"));
            refusal
        }
        PushRefusal::Gone | PushRefusal::Pending => gone(gateway, handle.facts.connection_id, *now),
    })?;
    let facts = gateway.facts(|| {
        let state = if handle.is_pending() { "pending" } else { "open" };
        let mut facts = call.facts().with("target", "connection").with("size", size);
        facts.add_some("isJson", call.is_json);
        facts.with("result", 200).with("connectionState", state)
    });
    gateway.notice(Notice::Pushed { facts, place: place.clone(), size });
    let mut reply = empty(200);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(reply)
}

fn get(gateway: &Gateway, handle: &Handle, now: u64) -> Result<Reply, Refusal> {
    let facts = &handle.facts;
    if !handle.is_open() {
        return Err(gone(gateway, facts.connection_id, now));
    }
    let text = serde_json::Value::from;
    let body = format!(
        "{{\n  \"identity\" : {{\n    \"sourceIp\" : {},\n    \"userAgent\" : {}\n  }},\n  \"connectedAt\" : {},\n  \"lastActiveAt\" : {}\n}}",
        text(facts.source_ip.to_string()),
        text(facts.user_agent.as_deref().unwrap_or_default().to_owned()),
        text(iso_time(facts.connected_at)),
        text(iso_time(handle.last_active())),
    );
    let mut reply = empty(200);
    *reply.body_mut() = Full::new(Bytes::from(body));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(reply)
}

fn delete(call: &Call<'_>, handle: &Handle) -> Result<Reply, Refusal> {
    let Call { gateway, stage, query, now, .. } = call;
    let mut frame = CloseFrame::new(CloseCode::NORMAL, close_reason::NORMALLY);
    if stage.settings.management.custom_close
        && let Some(wanted) = query_values(query, "closeCode").next()
    {
        let code = wanted.parse().ok().filter(|code| matches!(code, 1000 | 1001 | 1008 | 1011 | 3000..=4999));
        let Some(code) = code.and_then(CloseCode::new) else {
            return Err(bad_request("closeCode must be 1000, 1001, 1008, 1011 or 3000 to 4999"));
        };
        let reason = query_values(query, "closeReason").next().unwrap_or_default();
        if reason.len() > limits::MAX_CLOSE_REASON {
            let text = format!("closeReason must have at most {} bytes", limits::MAX_CLOSE_REASON);
            return Err(bad_request(&text));
        }
        frame = CloseFrame::new(code, reason);
    }
    let mut cause = CloseCause::requested(frame, Diagnosis::CLOSE_BACKEND_REQUESTED);
    cause.facts = call.facts().with("requestedAt", *now);
    match handle.close(cause) {
        true => Ok(empty(204)),
        false => Err(gone(gateway, handle.facts.connection_id, *now)),
    }
}
