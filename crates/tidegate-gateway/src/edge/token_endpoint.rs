//! `POST @token`: a browser exchanges its backend session for a connect token.
//!
//! Cookie and CSRF header go to the backend's own address, which says who the user is; the gateway believes nothing that
//! the browser says about itself.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use http::{Method, Request};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::notice::Place;
use tidegate_core::origin::OriginList;
use tidegate_core::policy::TokenEndpoint;
use tidegate_core::snapshot::{Stage, StagePolicy};

use super::client_address::ClientAddress;
use super::service::{Peer, refuse};
use super::{Reply, empty};
use crate::admission::cookie;
use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::tokens::{TokenRefusal, TokenRequest};

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

/// Answers a token request, or the browser's question whether it may make one.
pub(super) async fn serve(
    gateway: &Arc<Gateway>,
    peer: &Peer,
    stage: &Arc<Stage>,
    host: &str,
    request: Request<Incoming>,
) -> Reply {
    let started = std::time::Instant::now();
    let (head, _) = request.into_parts();
    let place =
        Place { api_id: Arc::clone(&stage.api_id), stage: Arc::clone(&stage.name), ..Place::default() };
    let refuse =
        |code, diagnosis, detail: &str| refuse(gateway, &place, code, Some(diagnosis), detail, started);
    let policy = stage.policy.as_ref().filter(|policy| policy.broken.is_none());
    let Some((policy, endpoint)) =
        policy.and_then(|policy| Some((policy, policy.policy.connect_tokens.endpoint.as_ref()?)))
    else {
        return refuse(
            ErrorCode::Forbidden,
            Diagnosis::TOKENREQ_WRONG_URL,
            "the stage has no token endpoint",
        );
    };
    let client =
        ClientAddress::new(peer.address.ip(), peer.is_tls, peer.listener_port, &head.headers, |address| {
            gateway.is_trusted(address)
        });
    let origin = head.headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    let allowed = match origin {
        Some(origin) if is_allowed(policy, endpoint, origin, host, client.is_secure) => {
            Some(origin.to_owned())
        }
        Some(_) => return refuse(ErrorCode::OriginRejected, Diagnosis::ORIGIN_NOT_ALLOWED, ""),
        // Browsers send it with every POST; without it nobody knows whose page asks.
        None => {
            return refuse(ErrorCode::OriginRejected, Diagnosis::ORIGIN_NOT_ALLOWED, "no Origin");
        }
    };
    let with_cors = |mut reply: Reply| {
        if let Some(origin) = allowed.as_deref().and_then(|origin| HeaderValue::from_str(origin).ok()) {
            let headers = reply.headers_mut();
            headers.insert("access-control-allow-origin", origin);
            headers.insert("access-control-allow-credentials", HeaderValue::from_static("true"));
            headers.insert("vary", HeaderValue::from_static("Origin"));
        }
        reply
    };
    if head.method == Method::OPTIONS {
        let mut reply = empty(204);
        let headers = reply.headers_mut();
        headers.insert("access-control-allow-methods", HeaderValue::from_static("POST"));
        if let Ok(names) = HeaderValue::from_str(&endpoint.headers.join(", ")) {
            headers.insert("access-control-allow-headers", names);
        }
        headers.insert("access-control-max-age", HeaderValue::from_static("600"));
        return with_cors(reply);
    }
    if head.method != Method::POST {
        let mut reply = refuse(ErrorCode::BadRequest, Diagnosis::TOKENREQ_WRONG_URL, "not a POST");
        *reply.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
        reply.headers_mut().insert("allow", HeaderValue::from_static("POST, OPTIONS"));
        return with_cors(reply);
    }
    if !head.headers.contains_key(COOKIE) {
        let reply = refuse(ErrorCode::TokenRequestRejected, Diagnosis::TOKENREQ_COOKIES_NOT_SENT, "");
        return with_cors(reply);
    }
    let passed = passed_on(endpoint, &head.headers, &client);
    let user = match gateway.backends.post_json(&endpoint.url, &Value::Null, &passed).await {
        Ok((200..=299, body)) => serde_json::from_slice::<User>(&body),
        Ok((status, body)) => {
            let diagnosis = diagnose(status, &body);
            let reply =
                refuse(ErrorCode::TokenRequestRejected, diagnosis, &format!("the backend answered {status}"));
            return with_cors(reply);
        }
        Err(failure) => {
            return with_cors(refuse(ErrorCode::IdentityUnavailable, failure.diagnosis, &failure.detail));
        }
    };
    let id = match user.as_ref().map(|user| &user.user) {
        Ok(Value::String(id)) if !id.is_empty() => id.clone(),
        Ok(Value::Number(id)) => id.to_string(),
        _ => {
            let reply = refuse(
                ErrorCode::TokenRequestRejected,
                Diagnosis::TOKENREQ_ANONYMOUS,
                "no user in the answer",
            );
            return with_cors(reply);
        }
    };
    let Ok(user) = user else {
        return with_cors(refuse(ErrorCode::Internal, Diagnosis::INTERNAL, ""));
    };
    let cookie_name = &policy.policy.connect_tokens.cookie;
    let request = TokenRequest {
        user: Some(id),
        session: user.session,
        roles: user.roles,
        claims: user.claims,
        channels: user.channels,
        origin: allowed.clone(),
        address: None,
        lifetime: None,
        session_cookie: cookie(&head.headers, cookie_name),
    };
    match gateway.issue_token(stage, request, now_millis()).await {
        Ok(issued) => {
            let mut reply = empty(200);
            let body = json!({ "token": issued.token.expose(), "expires_in": issued.expires_in });
            *reply.body_mut() = Full::new(Bytes::from(body.to_string()));
            let headers = reply.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert("cache-control", HeaderValue::from_static("no-store"));
            with_cors(reply)
        }
        Err(TokenRefusal { code, diagnosis, detail, retry_after }) => {
            let mut reply = refuse(code, diagnosis, &detail);
            if let Some(seconds) = retry_after {
                reply.headers_mut().insert("retry-after", HeaderValue::from(seconds));
            }
            with_cors(reply)
        }
    }
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
    let mut passed: Vec<(HeaderName, HeaderValue)> = names
        .chain([COOKIE, ORIGIN, http::header::REFERER, http::header::USER_AGENT])
        .filter_map(|name| headers.get(&name).map(|value| (name.clone(), value.clone())))
        .collect();
    let proto = if client.is_secure { "https" } else { "http" };
    passed.push((HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static(proto)));
    if let Ok(address) = HeaderValue::from_str(&client.ip.to_string()) {
        passed.push((HeaderName::from_static("x-forwarded-for"), address));
    }
    passed
}

/// Why a backend gave no user.
fn diagnose(status: u16, body: &[u8]) -> Diagnosis {
    let text = String::from_utf8_lossy(&body[..body.len().min(16 * 1024)]).to_lowercase();
    match status {
        404 | 405 => Diagnosis::TOKENREQ_WRONG_URL,
        429 => Diagnosis::TOKENREQ_RATE_LIMITED,
        _ if text.contains("rate limit") => Diagnosis::TOKENREQ_RATE_LIMITED,
        _ if text.contains("origin checking failed") => Diagnosis::TOKENREQ_CSRF_ORIGIN,
        _ if text.contains("csrf token missing") => Diagnosis::TOKENREQ_CSRF_MISSING,
        _ if text.contains("csrf") => Diagnosis::TOKENREQ_CSRF_INVALID,
        _ => Diagnosis::TOKENREQ_ANONYMOUS,
    }
}
