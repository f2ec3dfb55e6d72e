//! Pages of other origins: what a browser must be told before their scripts may call.
//!
//! Calls carry their token in a header, never in a cookie, so a page can do no more than whoever gave it the token.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue,
    ORIGIN, VARY,
};
use http::{HeaderMap, Method};
use tidegate_core::app::{Request, Response};

/// Headers that calls may have.
const REQUEST_HEADERS: &str = "authorization, content-type, idempotency-key";

/// Headers that pages may read.
const EXPOSED: &str = "tidegate-request-id, retry-after";

/// Seconds that a browser remembers the answer.
const MAX_AGE: &str = "600";

/// Whether a browser asks if a page may call.
pub(crate) fn is_question(request: &Request) -> bool {
    let headers = &request.headers;
    request.method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to it, before [`admit`].
pub(crate) fn answer(method: &Method) -> Response {
    let mut response = Response { status: 204, headers: HeaderMap::new(), body: bytes::Bytes::new() };
    if let Ok(method) = HeaderValue::from_str(method.as_str()) {
        response.headers.insert(ACCESS_CONTROL_ALLOW_METHODS, method);
    }
    response.headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
    response.headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    response
}

/// Lets the page that sent `request` read `response`, if it is of an origin that may connect. `allowed` empty: any.
pub(crate) fn admit(request_origin: Option<&HeaderValue>, allowed: &[String], response: &mut Response) {
    let Some(origin) = request_origin else { return };
    let value = if allowed.is_empty() {
        HeaderValue::from_static("*")
    } else {
        response.headers.insert(VARY, HeaderValue::from_static("Origin"));
        let is_allowed = allowed.iter().any(|one| origin.as_bytes().eq_ignore_ascii_case(one.as_bytes()));
        if !is_allowed {
            return;
        }
        origin.clone()
    };
    response.headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, value);
    response.headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(origin: Option<&'static str>, allowed: &[&str]) -> Option<String> {
        let allowed: Vec<String> = allowed.iter().map(|one| (*one).to_owned()).collect();
        let mut response = answer(&Method::PUT);
        admit(origin.map(HeaderValue::from_static).as_ref(), &allowed, &mut response);
        assert_eq!(response.headers[ACCESS_CONTROL_ALLOW_METHODS], "PUT");
        let value = response.headers.get(ACCESS_CONTROL_ALLOW_ORIGIN)?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn pages_of_allowed_origins_may_read() {
        const PAGE: &str = "https://app.example.com";
        assert_eq!(seen(Some(PAGE), &[]).as_deref(), Some("*"));
        assert_eq!(seen(Some(PAGE), &["https://app.example.com"]).as_deref(), Some(PAGE));
        assert_eq!(seen(Some(PAGE), &["https://other.example.com"]), None);
        assert_eq!(seen(None, &[]), None);
    }
}
