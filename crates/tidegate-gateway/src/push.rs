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

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use tidegate_auth::{CredentialKeys, RequestParts, ResourceScope, access_denied_message, bearer_token};
use tidegate_core::app;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::id::ConnectionId;
use tidegate_core::journal::{FactValue, Facts};
use tidegate_core::notice::{Notice, Place};
use tidegate_core::snapshot::Stage;

use crate::clock::now_millis;
use crate::edge::address::{Endpoint, Unresolved};
use crate::edge::{Reply, aws_error};
use crate::gateway::Gateway;
use crate::gone::WhyGone;
use crate::logs::{self, Log};

/// How long a push that waits for slow readers sleeps between two looks.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long a caller may take for its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// A refusal, complete.
pub(crate) struct Refusal {
    reply: Reply,
    code: ErrorCode,
    diagnosis: Diagnosis,
    /// What the catalogue names as proof.
    facts: Facts,
    /// What the body says beside the id, to callers who have proven who they are.
    told: Vec<(&'static str, serde_json::Value)>,
}

impl Refusal {
    fn new(code: ErrorCode, diagnosis: Diagnosis) -> Self {
        Self::with_reply(aws_error(code, None), code, diagnosis)
    }

    fn with_text(code: ErrorCode, diagnosis: Diagnosis, text: &str) -> Self {
        Self::with_reply(aws_error(code, Some(text)), code, diagnosis)
    }

    fn with_reply(reply: Reply, code: ErrorCode, diagnosis: Diagnosis) -> Self {
        Self { reply, code, diagnosis, facts: Facts::none(), told: Vec::new() }
    }

    /// The answer alone.
    pub(crate) fn into_reply(self) -> Reply {
        self.reply
    }

    /// With one more fact.
    fn with(mut self, name: &'static str, value: impl FactValue) -> Self {
        self.facts.add(name, value);
        self
    }

    /// Names the cause in a header, and in the body beside what the AWS SDKs read. A body that is empty at AWS stays so.
    fn named(mut self, body: Bytes) -> Self {
        let headers = self.reply.headers_mut();
        headers.insert("x-tidegate-diagnosis", HeaderValue::from_static(self.diagnosis.as_str()));
        // What has no place in a body that is empty at AWS; the code has its header already.
        for (name, header) in [("closedAt", "x-tidegate-closed-at"), ("reason", "x-tidegate-close-diagnosis")]
        {
            let told = self.told.iter().find(|(known, _)| *known == name);
            if let Some(value) = told.and_then(|(_, told)| HeaderValue::from_str(told.as_str()?).ok()) {
                headers.insert(header, value);
            }
        }
        let known = std::str::from_utf8(&body).ok().and_then(|body| body.trim_end().strip_suffix('}'));
        let Some(known) = known else {
            *self.reply.body_mut() = Full::new(body);
            return self;
        };
        let mut tidegate = serde_json::Map::new();
        tidegate.insert("id".to_owned(), self.diagnosis.as_str().into());
        tidegate.extend(self.told.drain(..).map(|(name, value)| (name.to_owned(), value)));
        let tidegate = serde_json::Value::Object(tidegate);
        *self.reply.body_mut() = Full::new(Bytes::from(format!(r#"{known},"tidegate":{tidegate}}}"#)));
        self
    }
}

/// Who calls, as far as that is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    /// Where the call comes from.
    pub(crate) address: IpAddr,
    /// Access key id, or which bearer key.
    pub(crate) name: Option<&'a str>,
}

/// What is said in the journal of a call, however it ends.
#[derive(Debug, Default)]
struct About {
    caller: Option<String>,
    /// The caller has proven who it is.
    is_known: bool,
    size: Option<usize>,
    is_json: Option<bool>,
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
    caller: Caller<'a>,
    /// The body is JSON; unknown where nobody keeps facts.
    is_json: Option<bool>,
}

impl Call<'_> {
    /// Who calls, from where.
    fn facts(&self) -> Facts {
        self.gateway.facts(|| self.caller.facts())
    }
}

impl Caller<'_> {
    fn facts(&self) -> Facts {
        let mut facts = Facts::none();
        facts.add_some("caller", self.name);
        facts.add("sourceAddress", self.address.to_string());
        facts
    }
}

/// Answers a call below a stage. `address` is where it comes from.
pub(crate) async fn serve(
    gateway: &Gateway,
    stage: &Arc<Stage>,
    endpoint: &Endpoint,
    address: IpAddr,
    request: Request<Incoming>,
) -> Reply {
    let mut place = Place {
        api_id: Arc::clone(&stage.api_id),
        stage: Arc::clone(&stage.name),
        request_id: Some(gateway.request_id(now_millis())),
        ..Place::default()
    };
    let mut about = About::default();
    let log = logs::of_management(stage, endpoint, address, &request);
    let result = handle(gateway, stage, endpoint, address, request, &mut place, &mut about).await;
    log_call(gateway, &log, &place, &about, &result);
    let result = match result {
        Err(refusal) => Err(describe(gateway, endpoint, address, about, refusal).await),
        ok => ok,
    };
    finish(gateway, place, result)
}

fn log_call(gateway: &Gateway, log: &Log, place: &Place, about: &About, result: &Result<Reply, Refusal>) {
    let (reply, refused) = match result {
        Ok(reply) => (reply, None),
        Err(refusal) => (&refusal.reply, Some((refusal.code, refusal.diagnosis))),
    };
    let caller = about.caller.as_deref().filter(|_| about.is_known);
    logs::managed(gateway, log, &logs::Management { place, caller, reply, refused });
}

/// Adds to a refusal what the call was, and to its body why it failed, where the caller may know.
async fn describe(
    gateway: &Gateway,
    endpoint: &Endpoint,
    address: IpAddr,
    about: About,
    mut refusal: Refusal,
) -> Refusal {
    let About { caller, is_known, size, is_json } = about;
    let own = std::mem::take(&mut refusal.facts);
    refusal.facts = gateway.facts(|| {
        let mut facts = Caller { address, name: caller.as_deref() }.facts();
        let (target, channel) = match endpoint {
            Endpoint::Channel(name) | Endpoint::ChannelMember(name, _) => ("channel", Some(name.as_str())),
            Endpoint::User(_) => ("user", None),
            Endpoint::Broadcast => ("broadcast", None),
            _ => ("connection", None),
        };
        facts.add("target", target);
        // A name of the wrong form may hold anything.
        let is_name = |name: &&str| name.parse::<tidegate_core::channel::ChannelName>().is_ok();
        facts.add_some("channel", channel.filter(is_name));
        facts.add_some("size", size);
        facts.add_some("isJson", is_json);
        facts.add("result", refusal.reply.status().as_u16());
        facts.extend(own);
        facts
    });
    if !is_known {
        return refusal;
    }
    let body = std::mem::take(refusal.reply.body_mut()).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    refusal.named(body)
}

/// Answers a call by nothing but the connection id in its path, where a setting permits that. Gives the request
/// back when it cannot.
pub(crate) async fn by_connection_id(
    gateway: &Gateway,
    address: IpAddr,
    request: Request<Incoming>,
) -> Result<Reply, Box<Request<Incoming>>> {
    let id = gateway.in_force().node.settings.all.management.resolve_by_connection_id.then(|| {
        let id = request.uri().path().rsplit('/').next().unwrap_or_default();
        percent_encoding::percent_decode_str(id).decode_utf8_lossy().into_owned()
    });
    let handle =
        id.as_deref().and_then(|id| ConnectionId::parse(id).ok()).and_then(|id| gateway.registry.find(id));
    match (id, handle) {
        (Some(id), Some(handle)) => {
            Ok(serve(gateway, &handle.stage, &Endpoint::Connection(id), address, request).await)
        }
        _ => Err(Box::new(request)),
    }
}

/// Answers a call whose address leads nowhere.
pub(crate) fn unresolved(
    gateway: &Gateway,
    unresolved: &Unresolved,
    path: &str,
    method: &Method,
    address: IpAddr,
) -> Reply {
    let mut refusal = match unresolved.is_on_domain {
        true => {
            let path = path.trim_start_matches('/');
            let text = format!("No method found matching route {path} for http method {method}");
            Refusal::with_text(ErrorCode::NotMapped, unresolved.diagnosis, &text)
        }
        false => Refusal::new(ErrorCode::Forbidden, unresolved.diagnosis),
    };
    refusal.facts = gateway.facts(|| {
        let before = path.split("/@connections").next().unwrap_or_default();
        let facts = Caller { address, name: None }.facts().with("target", "connection");
        facts
            .with("path", before.chars().take(256).collect::<String>())
            .with("detail", unresolved.detail.as_str())
    });
    let (code, diagnosis) = (refusal.code, refusal.diagnosis);
    let reply = finish(gateway, Place::default(), Err(refusal));
    logs::management_nowhere(gateway, address, method, code, diagnosis, &reply);
    reply
}

fn finish(gateway: &Gateway, mut place: Place, result: Result<Reply, Refusal>) -> Reply {
    let now = now_millis();
    let request_id = *place.request_id.get_or_insert_with(|| gateway.request_id(now));
    let mut reply = match result {
        Ok(reply) => reply,
        Err(Refusal { reply, code, diagnosis, facts, .. }) => {
            gateway.notice(Notice::PushRefused {
                facts,
                place,
                status: reply.status().as_u16(),
                code,
                diagnosis,
            });
            reply
        }
    };
    let headers = reply.headers_mut();
    for (name, value) in [
        ("x-amzn-requestid", gateway.uuid(request_id)),
        ("x-amz-apigw-id", request_id.to_string()),
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
    address: IpAddr,
    request: Request<Incoming>,
    place: &mut Place,
    about: &mut About,
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
    if let Endpoint::Connection(id) = endpoint {
        // A call that is refused before its connection is looked for is about it all the same.
        place.connection_id = ConnectionId::parse(id).ok();
    }
    about.size = body.size_hint().exact().and_then(|size| size.try_into().ok());
    let body = read_body(body, limit).await?;
    about.size = Some(body.len());
    if head.method == Method::POST && gateway.keeps_facts() {
        about.is_json = Some(serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok());
    }
    authorize(gateway, stage, endpoint, &head, &body, about)?;
    if gateway.is_draining() && head.method == Method::POST {
        return Err(Refusal::new(ErrorCode::Draining, Diagnosis::NODE_DRAINING));
    }
    // After the signature: strangers cannot use up what callers have.
    if let Err(reached) = gateway.account.admit_request(now_millis()) {
        let mut refusal = Refusal::new(ErrorCode::PushThrottled, Diagnosis::RATELIMIT_ACCOUNT)
            .with("of", "account")
            .with("limit", reached.rate)
            .with("burst", reached.burst);
        refusal.reply.headers_mut().insert("x-tidegate-limit", HeaderValue::from_static("rate"));
        return Err(refusal);
    }
    let query = head.uri.query().unwrap_or_default();
    let call = Call {
        gateway,
        stage,
        method: head.method,
        query,
        headers: &head.headers,
        body,
        now: now_millis(),
        caller: Caller { address, name: about.caller.as_deref() },
        is_json: about.is_json,
    };
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
pub(crate) async fn read_body(body: Incoming, limit: usize) -> Result<Bytes, Refusal> {
    let announced = body.size_hint().exact();
    let too_large = || {
        let mut refusal =
            Refusal::new(ErrorCode::PayloadTooLarge, Diagnosis::MESSAGE_TOO_LARGE_OUT).with("limit", limit);
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
    about: &mut About,
) -> Result<(), Refusal> {
    if let Some(key) = bearer_token(&head.headers) {
        let Some(key_idx) = gateway.in_force().node.api_keys.iter().position(|known| known.verify(key))
        else {
            return Err(Refusal::new(ErrorCode::Forbidden, Diagnosis::MANAGEMENT_UNKNOWN_KEY));
        };
        // Bearer keys have no names; their place in the configuration tells them apart.
        about.caller = Some(format!("api key {}", key_idx + 1));
        about.is_known = true;
        return Ok(());
    }
    // Not secret, and what an operator needs who looks for the caller of a call that fails.
    let access_key_id = claimed_key(&head.headers);
    let parts = RequestParts {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
    };
    let in_force = gateway.in_force();
    let credentials = &in_force.node.credentials;
    let keys = |access_key_id: &str| {
        let known = credentials.iter().find(|known| known.access_key_id == access_key_id)?;
        Some(CredentialKeys::permanent(known.secret.clone()))
    };
    let verified =
        in_force.verifier.verify(&parts, Some(body), &keys, SystemTime::now()).map_err(|error| {
            let code = ErrorCode::MissingAuthentication;
            let mut reply = aws_error(code, Some(&error.message()));
            reply.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(error.error_type()));
            let known = Diagnosis::find(error.diagnosis());
            let diagnosis = known.unwrap_or(Diagnosis::MANAGEMENT_BAD_SIGNATURE);
            let mut refusal = Refusal::with_reply(reply, code, diagnosis);
            refusal.facts.add_some("accessKeyId", access_key_id.clone());
            refusal.facts.add_some("scope", claimed_scope(&head.headers));
            if diagnosis == Diagnosis::MANAGEMENT_WRONG_REGION {
                refusal.facts.add("expected", gateway.config.region.as_str());
            }
            if diagnosis == Diagnosis::MANAGEMENT_CLOCK_SKEW {
                let date = head.headers.get("x-amz-date").and_then(|date| date.to_str().ok());
                refusal.facts.add_some("date", date.map(|date| date.chars().take(32).collect::<String>()));
                refusal.facts.add("now", now_millis());
            }
            refusal
        })?;
    about.caller = Some(verified.access_key_id.clone());
    about.is_known = true;
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
    Err(Refusal::with_reply(reply, ErrorCode::Forbidden, Diagnosis::MANAGEMENT_DENIED)
        .with("action", action)
        .with("resource", resource))
}

/// Whether the caller of an application's HTTP call may push to the stage; gives its name.
pub(crate) fn authorize_call(
    gateway: &Gateway,
    stage: &Stage,
    request: &app::Request,
) -> Result<String, Box<app::Refusal>> {
    let failed = |status: u16, message: &'static str, diagnosis| {
        Box::new(app::Refusal::new(status, message, diagnosis))
    };
    let target = match request.query.as_str() {
        "" => request.path.clone(),
        query => format!("{}?{query}", request.path),
    };
    let mut head = match Request::builder().method(request.method.clone()).uri(target).body(()) {
        Ok(request) => request.into_parts().0,
        Err(_) => return Err(failed(400, "Bad Request", Diagnosis::HANDSHAKE_MALFORMED)),
    };
    head.headers = request.headers.clone();
    if !head.headers.contains_key(http::header::AUTHORIZATION) && !target_is_signed(&request.query) {
        return Err(failed(401, "Unauthorized", Diagnosis::MANAGEMENT_UNSIGNED));
    }
    let mut about = About::default();
    let endpoint = Endpoint::Connections;
    match authorize(gateway, stage, &endpoint, &head, &request.body, &mut about) {
        Ok(()) => Ok(about.caller.unwrap_or_default()),
        Err(refusal) => {
            let mut told = failed(refusal.reply.status().as_u16(), "Forbidden", refusal.diagnosis);
            told.facts = refusal.facts;
            Err(told)
        }
    }
}

fn target_is_signed(query: &str) -> bool {
    query.contains("X-Amz-Signature=")
}

fn bad_request(text: &str) -> Refusal {
    Refusal::with_text(ErrorCode::BadRequest, Diagnosis::HANDSHAKE_MALFORMED, text)
}

/// The key that a signature names: letters and digits, or nothing.
fn claimed_key(headers: &http::HeaderMap) -> Option<String> {
    let key = claimed_credential(headers)?.split('/').next()?;
    (key.len() <= 128 && key.bytes().all(|byte| byte.is_ascii_alphanumeric())).then(|| key.to_owned())
}

/// Date, region and service that a signature names.
fn claimed_scope(headers: &http::HeaderMap) -> Option<String> {
    let (_, scope) = claimed_credential(headers)?.split_once('/')?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_');
    (scope.len() <= 128 && scope.bytes().all(is_plain)).then(|| scope.to_owned())
}

fn claimed_credential(headers: &http::HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (_, credential) = value.split_once("Credential=")?;
    credential.split([',', ' ']).next()
}

/// 410, and why as far as it is remembered.
fn gone(gateway: &Gateway, id: ConnectionId, now: u64) -> Refusal {
    let why = gateway.explain_gone(id, now);
    let mut refusal = Refusal::new(ErrorCode::Gone, why.diagnosis);
    let headers = refusal.reply.headers_mut();
    let reason = match (why.is_remembered, why.code) {
        (false, _) => "unknown",
        (true, None) => "handshake",
        (true, Some(_)) => "closed",
    };
    headers.insert("x-tidegate-gone-reason", HeaderValue::from_static(reason));
    if let Some(code) = why.code.filter(|_| why.is_remembered) {
        headers.insert("x-tidegate-close-code", HeaderValue::from(code));
    }
    if let Ok(value) = HeaderValue::from_str(why.diagnosis.as_str()) {
        headers.insert("x-tidegate-diagnosis", value);
    }
    explained(gateway, refusal, why)
}

/// With what is known of the id.
fn explained(gateway: &Gateway, mut refusal: Refusal, why: WhyGone) -> Refusal {
    refusal.facts = gateway.facts(|| why.facts());
    refusal.told = why.told();
    refusal
}
