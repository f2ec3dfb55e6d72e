//! `POST @token`: a browser exchanges its backend session for a connect token.
//!
//! Cookie and CSRF header go to the backend's own address, which says who the user is; the gateway believes nothing that
//! the browser says about itself.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, COOKIE, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, REFERER, RETRY_AFTER, USER_AGENT, VARY,
};
use http::{Method, Request};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::journal::Facts;
use tidegate_core::notice::Notice;
use tidegate_core::origin::OriginList;
use tidegate_core::policy::TokenEndpoint;
use tidegate_core::snapshot::{Stage, StagePolicy};

use super::attempt::Attempt;
use super::client_address::ClientAddress;
use super::refusal::set_request_id;
use super::{Reply, aws_error, empty};
use crate::admission::cookie;
use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::tokens::{self, TokenRefusal, TokenRequest};

/// What the backend says about a user.
#[derive(Debug, Deserialize)]
struct User {
    #[serde(default)]
    user: Value,
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    claims: std::collections::BTreeMap<String, Value>,
    #[serde(default)]
    channels: Option<Vec<String>>,
}

/// Tells operators that there is no token, and words the answer.
fn refuse(
    gateway: &Gateway,
    mut attempt: Attempt,
    code: ErrorCode,
    diagnosis: Diagnosis,
    detail: &str,
    more: Facts,
) -> Reply {
    let row = code.row();
    let mut reply = aws_error(code, None);
    set_request_id(gateway, &attempt, &mut reply);
    let body = json!({ "message": row.message, "requestId": attempt.request_id().to_string() });
    *reply.body_mut() = Full::new(Bytes::from(body.to_string()));
    attempt.note("status", row.status);
    attempt.note_all(more);
    if !detail.is_empty() {
        attempt.note("detail", detail);
    }
    if attempt.tells_diagnosis {
        super::refusal::add_diagnosis(&mut reply, code, diagnosis);
    }
    let (place, facts) = attempt.into_told();
    gateway.notice(Notice::TokenRequested { place, refused: Some(diagnosis), facts });
    reply
}

/// Answers a token request, or the browser's question whether it may make one.
pub(super) async fn serve(
    gateway: &Arc<Gateway>,
    client: &ClientAddress,
    stage: &Arc<Stage>,
    host: &str,
    request: Request<Incoming>,
    mut attempt: Attempt,
) -> Reply {
    let (head, _) = request.into_parts();
    if let Some((_, endpoint)) = settings_of(stage) {
        // Which of the wanted names came is half of the proof of most refusals.
        let wanted: Vec<&str> = endpoint.headers.iter().take(20).map(String::as_str).collect();
        attempt.note("wantedHeaders", wanted);
    }
    let cookie_name = stage.policy.as_ref().map_or("", |policy| &policy.policy.connect_tokens.cookie);
    if !cookie_name.is_empty() {
        attempt.note("wantedCookie", cookie_name);
    }
    let refuse_with = |code, diagnosis, detail: &str, facts: Facts| {
        refuse(gateway, attempt.clone(), code, diagnosis, detail, facts)
    };
    let refuse = |code, diagnosis, detail: &str| refuse_with(code, diagnosis, detail, Facts::none());
    if let Some(problem) = stage.policy.as_ref().and_then(|policy| policy.broken.as_deref()) {
        return refuse(ErrorCode::PolicyBroken, Diagnosis::CONFIG_INVALID_VALUE, problem);
    }
    let Some((policy, endpoint)) = settings_of(stage) else {
        return refuse(
            ErrorCode::Forbidden,
            Diagnosis::TOKENREQ_WRONG_URL,
            "the stage has no token endpoint",
        );
    };
    let Some(origin) = head.headers.get(ORIGIN) else {
        // Browsers send it with every POST; without it nobody knows whose page asks.
        return refuse(ErrorCode::OriginRejected, Diagnosis::ORIGIN_NOT_ALLOWED, "no Origin");
    };
    let Some(page) =
        origin.to_str().ok().filter(|page| is_allowed(policy, endpoint, page, host, client.is_secure))
    else {
        return refuse(ErrorCode::OriginRejected, Diagnosis::ORIGIN_NOT_ALLOWED, "");
    };
    let with_cors = |mut reply: Reply| {
        let headers = reply.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(VARY, HeaderValue::from_static("Origin"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        reply
    };
    if head.method == Method::OPTIONS {
        let mut reply = empty(204);
        let headers = reply.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        // The body is not read, but pages that call JSON services name its type.
        let names: Vec<&str> = endpoint.headers.iter().map(String::as_str).chain(["content-type"]).collect();
        if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        return with_cors(reply);
    }
    if head.method != Method::POST {
        let mut reply = refuse(ErrorCode::BadRequest, Diagnosis::TOKENREQ_WRONG_URL, "not a POST");
        *reply.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("POST, OPTIONS"));
        return with_cors(reply);
    }
    if !head.headers.contains_key(COOKIE) {
        let reply = refuse(ErrorCode::TokenRequestRejected, Diagnosis::TOKENREQ_COOKIES_NOT_SENT, "");
        return with_cors(reply);
    }
    let passed = passed_on(endpoint, &head.headers, client);
    let user = match gateway.backends.post_json(&endpoint.url, &Value::Null, &passed).await {
        Ok((200..=299, body)) => serde_json::from_slice::<User>(&body),
        Ok((status, body)) => {
            let detail = format!("the backend answered {status}");
            let reply = match status {
                500.. => refuse(ErrorCode::IdentityUnavailable, Diagnosis::INTEGRATION_ERROR_STATUS, &detail),
                _ => {
                    let diagnosis = diagnose(status, &body, endpoint, cookie_name, &head.headers);
                    refuse(ErrorCode::TokenRequestRejected, diagnosis, &detail)
                }
            };
            return with_cors(reply);
        }
        Err(failure) => {
            return with_cors(refuse(ErrorCode::IdentityUnavailable, failure.diagnosis, &failure.detail));
        }
    };
    let anonymous = |detail: &str| {
        with_cors(refuse(ErrorCode::TokenRequestRejected, Diagnosis::TOKENREQ_ANONYMOUS, detail))
    };
    let Ok(user) = user else {
        return anonymous("the backend's answer is not the expected JSON object");
    };
    let id = match &user.user {
        Value::String(id) if !id.is_empty() => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return anonymous("no user in the backend's answer"),
    };
    let request = TokenRequest {
        user: Some(id.clone()),
        session: user.session.filter(|session| !session.is_empty()),
        roles: user.roles,
        claims: user.claims,
        channels: user.channels,
        origin: Some(page.to_owned()),
        address: None,
        lifetime: None,
        session_cookie: cookie(&head.headers, cookie_name),
    };
    let bindings = tokens::bindings(&request);
    match gateway.tokens.issue(stage, request, now_millis()).await {
        Ok(issued) => {
            let body = json!({ "token": issued.token.expose(), "expires_in": issued.expires_in });
            let mut reply = super::json(200, &body);
            set_request_id(gateway, &attempt, &mut reply);
            if attempt.keeps_facts {
                attempt.note_all(gateway.tokens.facts_of(&issued, bindings));
            }
            attempt.note("status", 200);
            let (mut place, facts) = attempt.into_told();
            place.user = Some(id.into());
            gateway.notice(Notice::TokenRequested { place, refused: None, facts });
            with_cors(reply)
        }
        Err(TokenRefusal { code, diagnosis, detail, retry_after, facts }) => {
            let mut reply = refuse_with(code, diagnosis, &detail, facts);
            if let Some(seconds) = retry_after {
                reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            with_cors(reply)
        }
    }
}

/// The policy of a stage with a token endpoint, and the endpoint.
fn settings_of(stage: &Stage) -> Option<(&Arc<StagePolicy>, &TokenEndpoint)> {
    let policy = stage.policy.as_ref()?;
    Some((policy, policy.policy.connect_tokens.endpoint.as_ref()?))
}

fn is_allowed(
    policy: &StagePolicy,
    endpoint: &TokenEndpoint,
    origin: &str,
    host: &str,
    is_secure: bool,
) -> bool {
    if !endpoint.origins.is_empty() {
        return policy.token_origins.contains(origin);
    }
    let own = format!("{}://{host}", if is_secure { "https" } else { "http" });
    OriginList::parse(&[own]).is_ok_and(|list| list.contains(origin))
}

/// Cookie, CSRF headers, and whose browser it is.
fn passed_on(
    endpoint: &TokenEndpoint,
    headers: &HeaderMap,
    client: &ClientAddress,
) -> Vec<(HeaderName, HeaderValue)> {
    let names = endpoint.headers.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
    let mut names: Vec<HeaderName> = names
        // Where a request comes from is not for the browser to say.
        .filter(|name| !name.as_str().starts_with("x-forwarded-"))
        .chain([COOKIE, ORIGIN, REFERER, USER_AGENT])
        .collect();
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    let values = |name: &HeaderName| {
        headers.get_all(name).iter().map(|value| (name.clone(), value.clone())).collect::<Vec<_>>()
    };
    let mut passed: Vec<(HeaderName, HeaderValue)> = names.iter().flat_map(values).collect();
    let proto = if client.is_secure { "https" } else { "http" };
    passed.push((HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static(proto)));
    if let Ok(address) = HeaderValue::from_str(&client.ip.to_string()) {
        passed.push((HeaderName::from_static("x-forwarded-for"), address));
    }
    passed
}

/// Why a backend gave no user: what it says, and what the request lacks. Source: the texts of Django's CSRF check and of
/// the package's token view.
fn diagnose(
    status: u16,
    body: &[u8],
    endpoint: &TokenEndpoint,
    cookie_name: &str,
    headers: &HeaderMap,
) -> Diagnosis {
    let text = String::from_utf8_lossy(&body[..body.len().min(16 * 1024)]).to_lowercase();
    let has_csrf_header = endpoint.headers.iter().any(|name| headers.contains_key(name.as_str()));
    match status {
        404 | 405 => Diagnosis::TOKENREQ_WRONG_URL,
        429 => Diagnosis::TOKENREQ_RATE_LIMITED,
        _ if text.contains("rate limit") => Diagnosis::TOKENREQ_RATE_LIMITED,
        _ if text.contains("origin checking failed") => Diagnosis::TOKENREQ_CSRF_ORIGIN,
        _ if text.contains("csrf cookie not set") => Diagnosis::TOKENREQ_CSRF_COOKIE,
        _ if text.contains("csrf token missing") => Diagnosis::TOKENREQ_CSRF_MISSING,
        _ if text.contains("csrf") && !has_csrf_header => Diagnosis::TOKENREQ_CSRF_MISSING,
        _ if text.contains("csrf") => Diagnosis::TOKENREQ_CSRF_INVALID,
        _ if !cookie_name.is_empty() && cookie(headers, cookie_name).is_none() => {
            Diagnosis::TOKENREQ_NO_SESSION_COOKIE
        }
        _ => Diagnosis::TOKENREQ_ANONYMOUS,
    }
}
