//! The management side of the public listener: pushes to one connection, to a channel, to a user, to everyone;
//! lists of what is connected; membership of channels.
//!
//! Below [`connection`] lies what API Gateway has, answer for answer. The rest is Tidegate's own, with the same callers, the
//! same rights and the same form of errors.

mod connection;
pub(crate) mod idempotency;
mod list;
mod many;
mod membership;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use tidegate_auth::{CredentialKeys, RequestParts, ResourceScope, access_denied_message, bearer_token};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::id::ConnectionId;
use tidegate_core::journal::Facts;
use tidegate_core::notice::{Notice, Place};
use tidegate_core::snapshot::Stage;

use crate::clock::now_millis;
use crate::edge::address::{Endpoint, Unresolved};
use crate::edge::{Reply, aws_error};
use crate::gateway::Gateway;

/// How long a push that waits for slow readers sleeps between two looks.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long a caller may take for its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// A refusal, complete.
pub(crate) struct Refusal {
    reply: Reply,
    code: ErrorCode,
    diagnosis: Diagnosis,
}

impl Refusal {
    fn new(code: ErrorCode, diagnosis: Diagnosis) -> Self {
        Self { reply: aws_error(code, None), code, diagnosis }
    }

    fn with_text(code: ErrorCode, diagnosis: Diagnosis, text: &str) -> Self {
        Self { reply: aws_error(code, Some(text)), code, diagnosis }
    }
}

/// An authorized call.
struct Call<'a> {
    gateway: &'a Gateway,
    stage: &'a Arc<Stage>,
    method: Method,
    query: &'a str,
    headers: &'a http::HeaderMap,
    body: Bytes,
    now: u64,
}

/// Answers a call below a stage.
pub(crate) async fn serve(
    gateway: &Gateway,
    stage: &Arc<Stage>,
    endpoint: &Endpoint,
    request: Request<Incoming>,
) -> Reply {
    let mut place =
        Place { api_id: Arc::clone(&stage.api_id), stage: Arc::clone(&stage.name), ..Place::default() };
    let result = handle(gateway, stage, endpoint, request, &mut place).await;
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
        (Some(id), Some(handle)) => {
            Ok(serve(gateway, &handle.stage, &Endpoint::Connection(id), request).await)
        }
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
            gateway.notice(Notice::PushRefused {
                facts: Facts::none(),
                place,
                status: reply.status().as_u16(),
                code,
                diagnosis,
            });
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
    endpoint: &Endpoint,
    request: Request<Incoming>,
    place: &mut Place,
) -> Result<Reply, Refusal> {
    let (head, body) = request.into_parts();
    let is_method = match endpoint {
        Endpoint::Connection(_) => matches!(head.method, Method::POST | Method::GET | Method::DELETE),
        Endpoint::Connections => head.method == Method::GET,
        Endpoint::ChannelMember(..) => matches!(head.method, Method::PUT | Method::DELETE),
        _ => head.method == Method::POST,
    };
    if !is_method {
        return Err(Refusal::new(ErrorCode::MissingAuthentication, Diagnosis::MANAGEMENT_UNSIGNED));
    }
    let limit = match endpoint {
        Endpoint::Channel(_) | Endpoint::User(_) | Endpoint::Broadcast => gateway.push_limit(stage),
        _ => stage.settings.data_plane.max_message_bytes,
    };
    let body = read_body(body, limit).await?;
    authorize(gateway, stage, endpoint, &head, &body)?;
    if gateway.is_draining() && head.method == Method::POST {
        return Err(Refusal::new(ErrorCode::Draining, Diagnosis::NODE_DRAINING));
    }
    let query = head.uri.query().unwrap_or_default();
    let call =
        Call { gateway, stage, method: head.method, query, headers: &head.headers, body, now: now_millis() };
    match endpoint {
        Endpoint::Connection(id) => connection::serve(call, id, place).await,
        Endpoint::Connections => list::serve(&call),
        Endpoint::ChannelMember(channel, id) => membership::serve(&call, channel, id, place).await,
        Endpoint::Channel(_) | Endpoint::User(_) | Endpoint::Broadcast => {
            many::serve(&call, endpoint, place).await
        }
        // Handshakes and token requests do not come here.
        Endpoint::WebSocket | Endpoint::Token => {
            Err(Refusal::new(ErrorCode::MissingAuthentication, Diagnosis::MANAGEMENT_UNSIGNED))
        }
    }
}

/// Reads a body of at most `limit` bytes.
async fn read_body(body: Incoming, limit: usize) -> Result<Bytes, Refusal> {
    let announced = body.size_hint().exact();
    let too_large = || {
        let mut refusal = Refusal::new(ErrorCode::PayloadTooLarge, Diagnosis::MESSAGE_TOO_LARGE_OUT);
        // The body is the real service's; what helps the caller stands beside it.
        let size = announced.map_or_else(|| "more".to_owned(), |size| size.to_string());
        let hint = format!(
            "{size} bytes sent, {limit} allowed; push a small notice with a URL and let the client fetch"
        );
        let headers = refusal.reply.headers_mut();
        headers.insert("x-tidegate-limit", HeaderValue::from(limit));
        if let Ok(hint) = HeaderValue::from_str(&hint) {
            headers.insert("x-tidegate-hint", hint);
        }
        refusal
    };
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
    endpoint: &Endpoint,
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
            let known = Diagnosis::find(error.diagnosis());
            Refusal { reply, code, diagnosis: known.unwrap_or(Diagnosis::MANAGEMENT_BAD_SIGNATURE) }
        })?;
    let scope = ResourceScope {
        partition: "aws",
        region: &gateway.config.region,
        account: &gateway.config.account_id,
        api_id: &stage.api_id,
        stage: &stage.name,
    };
    let resource = match endpoint {
        Endpoint::Channel(name) => scope.push_arn(head.method.as_str(), "@channels", Some(name)),
        Endpoint::ChannelMember(name, _) => scope.push_arn(head.method.as_str(), "@channels", Some(name)),
        Endpoint::User(name) => scope.push_arn(head.method.as_str(), "@users", Some(name)),
        Endpoint::Broadcast => scope.push_arn(head.method.as_str(), "@broadcast", None),
        _ => scope.manage_connections_arn(head.method.as_str()),
    };
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
