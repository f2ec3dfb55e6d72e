//! What a backend's refusal says about its cause.
//!
//! The answer is looked at while it passes; only the id of the cause is kept.

use bytes::Bytes;
use tidegate_core::diagnosis::Diagnosis;

/// Bytes of a body that are looked at.
const LOOKED_AT: usize = 4096;

/// Status (0 = any), text in the body, cause on `$connect`, cause on a message.
///
/// The texts are those of the Django package that this gateway must serve and of Django itself.
const SIGNATURES: &[(u16, &str, Diagnosis, Diagnosis)] = &[
    (400, "Invalid request headers", Diagnosis::BACKEND_HEADERS_MISSING, Diagnosis::BACKEND_HEADERS_MISSING),
    (403, "Invalid request", Diagnosis::BACKEND_SECRET_MISMATCH, Diagnosis::BACKEND_SECRET_MISMATCH),
    (400, "Unexpected Useragent", Diagnosis::BACKEND_USERAGENT_CHECK, Diagnosis::BACKEND_USERAGENT_CHECK),
    (
        400,
        "Invalid connection ID",
        Diagnosis::BACKEND_CONNECTION_ID_FORMAT,
        Diagnosis::BACKEND_SESSION_UNKNOWN,
    ),
    (
        400,
        "Host is not in AllowedHosts",
        Diagnosis::BACKEND_HOST_NOT_ALLOWED,
        Diagnosis::BACKEND_HOST_NOT_ALLOWED,
    ),
    (400, "Host is not in Origin", Diagnosis::BACKEND_ORIGIN_MISMATCH, Diagnosis::BACKEND_ORIGIN_MISMATCH),
    (400, "Invalid channel", Diagnosis::CHANNEL_INVALID, Diagnosis::CHANNEL_INVALID),
    (400, "Invalid session", Diagnosis::TOKEN_SESSION_MISSING, Diagnosis::TOKEN_SESSION_MISSING),
    (400, "Invalid or expired token", Diagnosis::TOKEN_UNKNOWN, Diagnosis::TOKEN_UNKNOWN),
    (400, "Too many connection attempts", Diagnosis::RATELIMIT_CONNECT, Diagnosis::RATELIMIT_CONNECT),
    (403, "Permission Denied", Diagnosis::CHANNEL_FORBIDDEN, Diagnosis::PERM_USER_LACKS),
    (
        400,
        "Invalid request format (1)",
        Diagnosis::BACKEND_ROUTE_PARAM_MISNAMED,
        Diagnosis::HANDLER_KEY_MISSING,
    ),
    (403, "CSRF verification failed", Diagnosis::BACKEND_CSRF, Diagnosis::BACKEND_CSRF),
    (
        400,
        "Invalid HTTP_HOST header",
        Diagnosis::BACKEND_HOST_NOT_ALLOWED,
        Diagnosis::BACKEND_HOST_NOT_ALLOWED,
    ),
    (400, "Bad Request (400)", Diagnosis::BACKEND_HOST_NOT_ALLOWED, Diagnosis::BACKEND_HOST_NOT_ALLOWED),
];

/// The cause that an answer names, for statuses of 300 and more.
pub(super) fn diagnose(status: u16, body: &Bytes, is_connect: bool, has_token: bool) -> Option<Diagnosis> {
    if status < 300 {
        return None;
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(LOOKED_AT)]);
    let is_missing_headers = text.starts_with("Missing ") && text.trim_end().ends_with(" headers");
    if status == 400 && is_connect && is_missing_headers {
        return Some(Diagnosis::BACKEND_CONNECTION_HEADERS_MISSING);
    }
    let signature =
        SIGNATURES.iter().find(|(wanted, pattern, ..)| status == *wanted && text.contains(pattern));
    let named =
        signature.map(|(_, _, on_connect, on_message)| if is_connect { *on_connect } else { *on_message });
    Some(match (named, status) {
        (Some(Diagnosis::TOKEN_UNKNOWN), _) if !has_token => Diagnosis::TOKEN_MISSING,
        (Some(named), _) => named,
        (None, 300..400) => Diagnosis::BACKEND_REDIRECT,
        (None, 404) => Diagnosis::INTEGRATION_WRONG_URL,
        (None, 405) => Diagnosis::BACKEND_METHOD,
        (None, 500..) => Diagnosis::INTEGRATION_ERROR_STATUS,
        (None, _) => Diagnosis::BACKEND_REFUSED,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_their_cause() {
        // S0-41
        let check = |status, body: &'static str, is_connect, expected| {
            let found = diagnose(status, &Bytes::from(body), is_connect, false);
            assert_eq!(found, Some(expected), "{status} {body}");
        };
        check(400, "Missing 2 headers", true, Diagnosis::BACKEND_CONNECTION_HEADERS_MISSING);
        check(400, "Host is not in AllowedHosts ['a']", true, Diagnosis::BACKEND_HOST_NOT_ALLOWED);
        check(400, "Invalid or expired token", true, Diagnosis::TOKEN_MISSING);
        check(400, "Invalid connection ID", false, Diagnosis::BACKEND_SESSION_UNKNOWN);
        check(301, "", true, Diagnosis::BACKEND_REDIRECT);
        check(404, "", true, Diagnosis::INTEGRATION_WRONG_URL);
        check(503, "", true, Diagnosis::INTEGRATION_ERROR_STATUS);
        check(418, "", true, Diagnosis::BACKEND_REFUSED);
        assert_eq!(diagnose(204, &Bytes::new(), true, false), None);
    }
}
