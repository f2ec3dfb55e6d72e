//! Requests as a gateway sends them.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, StatusCode};
use axum::response::Response;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use tower_service::Service as _;

/// All headers that are demanded.
pub(crate) const HEADERS: [(&str, &str); 8] = [
    ("Host", "app.example.com"),
    ("X-Forwarded-For", "203.0.113.7, 10.0.0.1"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Port", "443"),
    ("X-Amzn-Trace-Id", "Root=1-67891233-abcdef012345678912345678"),
    ("X-Amzn-Apigateway-Api-Id", "k3x9q2m7vd"),
    ("connectionId", "awG5LZAAAAIcZCg="),
    ("User-Agent", "Firefox, AmazonAPIGateway_k3x9q2m7vd"),
];

pub(crate) fn event(path: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::builder().method("POST").uri(path);
    for (name, value) in HEADERS {
        request = request.header(name, value);
    }
    request.body(body.into()).expect("a request")
}

pub(crate) fn with(mut request: Request<Body>, name: &str, value: &str) -> Request<Body> {
    let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
    request.headers_mut().append(name, HeaderValue::from_str(value).expect("a value"));
    request
}

pub(crate) fn without(mut request: Request<Body>, name: &str) -> Request<Body> {
    request.headers_mut().remove(name).expect("the header was there");
    request
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// `v1` of a signature, written down once more from its description.
pub(crate) fn v1(secret: &str, seconds: u64, method: &str, path: &str, id: &str, body: &str) -> String {
    let text = format!("{seconds}.{method}.{path}.{id}.{}", hex::encode(Sha256::digest(body)));
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key").chain_update(text);
    hex::encode(mac.finalize().into_bytes())
}

pub(crate) async fn call(app: &Router, request: Request<Body>) -> Response {
    app.clone().call(request).await.expect("routers do not fail")
}

pub(crate) async fn answer(app: &Router, request: Request<Body>) -> (StatusCode, String) {
    let (parts, body) = call(app, request).await.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    (parts.status, String::from_utf8(body.to_vec()).expect("text"))
}
