//! The management API: `POST`, `GET` and `DELETE` on `@connections/{id}`.
//!
//! Order of checks: method, size, caller, right, id, connection. Callers are told the AWS name of every error;
//! callers whose signature was accepted also learn why an id is gone.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use tidegate_auth::{CredentialKeys, RequestParts, ResourceScope, access_denied_message, bearer_token};
use tidegate_core::context::iso_time;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::id::ConnectionId;
use tidegate_core::limits;
use tidegate_core::mapping::query_values;
use tidegate_core::notice::{ClosedBy, Notice, Place};
use tidegate_core::settings::{InvalidId, PendingPosts};
use tidegate_core::snapshot::Stage;
use tidegate_ws::{CloseCode, CloseFrame, OutboundMessage};

use crate::clock::now_millis;
use crate::connection::handle::{CloseCause, Handle, PushRefusal};
use crate::edge::address::Unresolved;
use crate::edge::{Reply, aws_error, empty};
use crate::gateway::Gateway;

/// How long a caller may take for its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// A refusal, complete.
struct Refusal {
    reply: Reply,
    code: ErrorCode,
    diagnosis: Diagnosis,
}

impl Refusal {
    fn new(code: ErrorCode, diagnosis: Diagnosis) -> Self {
        Self { reply: aws_error(code, None), code, diagnosis }
    }
}

/// Answers a call on one connection.
pub(crate) async fn serve(
    gateway: &Gateway,
    stage: &Arc<Stage>,
    id: &str,
    request: Request<Incoming>,
) -> Reply {
    let mut place =
        Place { api_id: Arc::clone(&stage.api_id), stage: Arc::clone(&stage.name), ..Place::default() };
    let result = handle(gateway, stage, id, request, &mut place).await;
    finish(gateway, place, result)
}

/// Answers a call by nothing but the connection id in its path, where a setting permits that. Gives the request
/// back when it cannot.
pub(crate) async fn by_connection_id(
    gateway: &Gateway,
    request: Request<Incoming>,
) -> Result<Reply, Box<Request<Incoming>>> {
    let id = gateway.config.settings.all.management.resolve_by_connection_id.then(|| {
        let id = request.uri().path().rsplit('/').next().unwrap_or_default();
        percent_encoding::percent_decode_str(id).decode_utf8_lossy().into_owned()
    });
    let handle =
        id.as_deref().and_then(|id| ConnectionId::parse(id).ok()).and_then(|id| gateway.registry.find(id));
    match (id, handle) {
        (Some(id), Some(handle)) => Ok(serve(gateway, &handle.stage, &id, request).await),
        _ => Err(Box::new(request)),
    }
}

/// Answers a call whose address leads nowhere.
pub(crate) fn unresolved(gateway: &Gateway, unresolved: &Unresolved, path: &str, method: &Method) -> Reply {
    let refusal = match unresolved.is_on_domain {
        true => {
            let path = path.trim_start_matches('/');
            let text = format!("No method found matching route {path} for http method {method}");
            Refusal {
                reply: aws_error(ErrorCode::NotMapped, Some(&text)),
                code: ErrorCode::NotMapped,
                diagnosis: unresolved.diagnosis,
            }
        }
        false => Refusal::new(ErrorCode::Forbidden, unresolved.diagnosis),
    };
    finish(gateway, Place::default(), Err(refusal))
}

fn finish(gateway: &Gateway, place: Place, result: Result<Reply, Refusal>) -> Reply {
    let mut reply = match result {
        Ok(reply) => reply,
        Err(Refusal { reply, code, diagnosis }) => {
            gateway.notice(Notice::PushRefused { place, status: reply.status().as_u16(), code, diagnosis });
            reply
        }
    };
    let now = now_millis();
    let headers = reply.headers_mut();
    for (name, value) in [
        ("x-amzn-requestid", gateway.uuid()),
        ("x-amz-apigw-id", gateway.request_id(now).to_string()),
        ("x-amzn-trace-id", gateway.trace_id(now)),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    reply
}

async fn handle(
    gateway: &Gateway,
    stage: &Arc<Stage>,
    id: &str,
    request: Request<Incoming>,
    place: &mut Place,
) -> Result<Reply, Refusal> {
    let (head, body) = request.into_parts();
    if !matches!(head.method, Method::POST | Method::GET | Method::DELETE) {
        return Err(Refusal::new(ErrorCode::MissingAuthentication, Diagnosis::MANAGEMENT_UNSIGNED));
    }
    let limit = stage.settings.data_plane.max_message_bytes;
    let body = read_body(body, limit).await?;
    authorize(gateway, stage, &head, &body)?;
    if gateway.is_draining() && head.method == Method::POST {
        return Err(Refusal::new(ErrorCode::Draining, Diagnosis::NODE_DRAINING));
    }
    let settings = &stage.settings.management;
    let Ok(connection_id) = ConnectionId::parse(id) else {
        return Err(invalid_id(id, settings.invalid_id));
    };
    place.connection_id = Some(connection_id);
    let now = now_millis();
    let found = gateway.registry.find(connection_id);
    let handle = match found {
        Some(handle) if *handle.facts.api_id != *stage.api_id => {
            return Err(Refusal::new(ErrorCode::Gone, Diagnosis::GONE_OTHER_STAGE));
        }
        Some(handle) => handle,
        None => return Err(gone(gateway, connection_id, now)),
    };
    let handle = match handle.is_pending() {
        true => await_handshake(gateway, stage, handle, &head.method).await?,
        false => handle,
    };
    match head.method {
        Method::POST => post(gateway, &handle, body, now, place),
        Method::DELETE => delete(gateway, stage, &handle, head.uri.query().unwrap_or_default(), now),
        _ => get(gateway, &handle, now),
    }
}

/// Reads a body of at most `limit` bytes.
async fn read_body(body: Incoming, limit: usize) -> Result<Bytes, Refusal> {
    let too_large = || Refusal::new(ErrorCode::PayloadTooLarge, Diagnosis::MESSAGE_TOO_LARGE_OUT);
    // An announced length is enough to refuse: the bytes need not come first.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) | Err(_) => Err(Refusal::new(ErrorCode::BadRequest, Diagnosis::HANDSHAKE_MALFORMED)),
    }
}

/// Who calls, and may they.
fn authorize(
    gateway: &Gateway,
    stage: &Stage,
    head: &http::request::Parts,
    body: &Bytes,
) -> Result<(), Refusal> {
    if let Some(key) = bearer_token(&head.headers) {
        return match gateway.config.api_keys.iter().any(|known| known.verify(key)) {
            true => Ok(()),
            false => Err(Refusal::new(ErrorCode::Forbidden, Diagnosis::MANAGEMENT_UNKNOWN_KEY)),
        };
    }
    let parts = RequestParts {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
    };
    let credentials = &gateway.config.credentials;
    let keys = |access_key_id: &str| {
        let known = credentials.iter().find(|known| known.access_key_id == access_key_id)?;
        Some(CredentialKeys::permanent(known.secret.clone()))
    };
    let verified =
        gateway.verifier.verify(&parts, Some(body), &keys, SystemTime::now()).map_err(|error| {
            let code = ErrorCode::MissingAuthentication;
            let mut reply = aws_error(code, Some(&error.message()));
            reply.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(error.error_type()));
            let known = Diagnosis::ALL.iter().find(|(diagnosis, _)| diagnosis.as_str() == error.diagnosis());
            Refusal {
                reply,
                code,
                diagnosis: known.map_or(Diagnosis::MANAGEMENT_BAD_SIGNATURE, |(diagnosis, _)| *diagnosis),
            }
        })?;
    let scope = ResourceScope {
        partition: "aws",
        region: &gateway.config.region,
        account: &gateway.config.account_id,
        api_id: &stage.api_id,
        stage: &stage.name,
    };
    let resource = scope.manage_connections_arn(head.method.as_str());
    let action = tidegate_auth::credential::MANAGE_CONNECTIONS;
    let is_allowed = credentials
        .iter()
        .any(|known| known.access_key_id == verified.access_key_id && known.allows(action, &resource));
    if is_allowed {
        return Ok(());
    }
    let user = format!("arn:aws:iam::{}:user/{}", gateway.config.account_id, verified.access_key_id);
    let text = access_denied_message(&user, action, &resource);
    let mut reply = aws_error(ErrorCode::Forbidden, None);
    // The capital M is the real service's.
    *reply.body_mut() = Full::new(Bytes::from(format!(r#"{{"Message":{}}}"#, serde_json::Value::from(text))));
    reply.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static("AccessDeniedException"));
    Err(Refusal { reply, code: ErrorCode::Forbidden, diagnosis: Diagnosis::MANAGEMENT_DENIED })
}

fn invalid_id(id: &str, answer: InvalidId) -> Refusal {
    if answer == InvalidId::Gone {
        return Refusal::new(ErrorCode::Gone, Diagnosis::GONE_MALFORMED_ID);
    }
    let reply = aws_error(ErrorCode::InvalidConnectionId, Some(&format!("Invalid connectionId: {id}")));
    Refusal { reply, code: ErrorCode::InvalidConnectionId, diagnosis: Diagnosis::GONE_MALFORMED_ID }
}

fn bad_request(text: &str) -> Refusal {
    let reply = aws_error(ErrorCode::BadRequest, Some(text));
    Refusal { reply, code: ErrorCode::BadRequest, diagnosis: Diagnosis::HANDSHAKE_MALFORMED }
}

/// 410, and why as far as it is remembered.
fn gone(gateway: &Gateway, id: ConnectionId, now: u64) -> Refusal {
    let remembered = gateway.gone(id, now);
    let diagnosis = remembered.map_or(Diagnosis::GONE_UNKNOWN_ID, |gone| gone.diagnosis);
    let mut refusal = Refusal::new(ErrorCode::Gone, diagnosis);
    let headers = refusal.reply.headers_mut();
    let reason = match remembered {
        None => "unknown",
        Some(gone) if gone.code == 0 => "handshake",
        Some(_) => "closed",
    };
    headers.insert("x-tidegate-gone-reason", HeaderValue::from_static(reason));
    if let Some(gone) = remembered.filter(|gone| gone.code != 0) {
        headers.insert("x-tidegate-close-code", HeaderValue::from(gone.code));
    }
    if let Ok(value) = HeaderValue::from_str(diagnosis.as_str()) {
        headers.insert("x-tidegate-diagnosis", value);
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
    gateway.notice(Notice::Pushed { place: place.clone(), size });
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
