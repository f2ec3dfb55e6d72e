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
use tidegate_core::journal::Facts;
use tidegate_core::limits;
use tidegate_core::mapping::query_values;
use tidegate_core::notice::{ClosedBy, Notice, Place};
use tidegate_core::settings::{InvalidId, PendingPosts};
use tidegate_core::snapshot::Stage;
use tidegate_ws::{CloseCode, CloseFrame, OutboundMessage};

use super::{Call, Refusal, bad_request, gone};
use crate::connection::handle::{CloseCause, Handle, PushRefusal};
use crate::edge::{Reply, aws_error, empty};
use crate::gateway::Gateway;

/// Answers a call on one connection.
pub(super) async fn serve(call: Call<'_>, id: &str, place: &mut Place) -> Result<Reply, Refusal> {
    let Call { gateway, stage, now, .. } = call;
    let handle = find(gateway, stage, id, now, place)?;
    let handle = match handle.is_pending() {
        true => await_handshake(gateway, stage, handle, &call.method).await?,
        false => handle,
    };
    match call.method {
        Method::POST => post(gateway, &handle, call.body, now, place),
        Method::DELETE => delete(gateway, stage, &handle, call.query, now),
        _ => get(gateway, &handle, now),
    }
}

/// The connection of an id, pending or open.
pub(super) fn find(
    gateway: &Gateway,
    stage: &Stage,
    id: &str,
    now: u64,
    place: &mut Place,
) -> Result<Arc<Handle>, Refusal> {
    let Ok(connection_id) = ConnectionId::parse(id) else {
        return Err(invalid_id(id, stage.settings.management.invalid_id));
    };
    place.connection_id = Some(connection_id);
    match gateway.registry.find(connection_id) {
        Some(handle) if *handle.facts.api_id != *stage.api_id => {
            Err(Refusal::new(ErrorCode::Gone, Diagnosis::GONE_OTHER_STAGE))
        }
        Some(handle) => Ok(handle),
        None => Err(gone(gateway, connection_id, now)),
    }
}

fn invalid_id(id: &str, answer: InvalidId) -> Refusal {
    if answer == InvalidId::Gone {
        return Refusal::new(ErrorCode::Gone, Diagnosis::GONE_MALFORMED_ID);
    }
    let reply = aws_error(ErrorCode::InvalidConnectionId, Some(&format!("Invalid connectionId: {id}")));
    Refusal { reply, code: ErrorCode::InvalidConnectionId, diagnosis: Diagnosis::GONE_MALFORMED_ID }
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
        refusal
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

fn post(gateway: &Gateway, handle: &Handle, body: Bytes, now: u64, place: &Place) -> Result<Reply, Refusal> {
    let size = body.len();
    handle.push(&OutboundMessage::text(body), now).map_err(|refusal| match refusal {
        PushRefusal::Full => {
            let mut refusal = Refusal::new(ErrorCode::SlowConsumer, Diagnosis::CONN_SLOW_CONSUMER);
            refusal.reply.headers_mut().insert("x-tidegate-limit", HeaderValue::from_static("buffer"));
            refusal
        }
        PushRefusal::Gone | PushRefusal::Pending => gone(gateway, handle.facts.connection_id, now),
    })?;
    gateway.notice(Notice::Pushed { facts: Facts::none(), place: place.clone(), size });
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

fn delete(
    gateway: &Gateway,
    stage: &Stage,
    handle: &Handle,
    query: &str,
    now: u64,
) -> Result<Reply, Refusal> {
    let mut frame = CloseFrame::new(CloseCode::NORMAL, "Connection Closed Normally");
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
    let cause = CloseCause {
        code: frame.code.as_u16(),
        reason: frame.reason.clone(),
        frame: Some(frame),
        by: ClosedBy::Backend,
        diagnosis: Diagnosis::CLOSE_BACKEND_REQUESTED,
        gone: Diagnosis::GONE_SERVER_CLOSED,
    };
    match handle.close(cause) {
        true => Ok(empty(204)),
        false => Err(gone(gateway, handle.facts.connection_id, now)),
    }
}
