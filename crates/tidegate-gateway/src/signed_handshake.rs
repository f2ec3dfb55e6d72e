//! `AWS_IAM` on `$connect`: handshakes that are signed with Signature Version 4, in headers or in the query string.
//!
//! Who may sign are the credentials of the configuration; what they may do are their rules.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Uri};
use tidegate_auth::credential::INVOKE;
use tidegate_auth::sigv4::without_signature;
use tidegate_auth::{CredentialKeys, RequestParts, SignatureError, access_denied_message};
use tidegate_core::context::Caller;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::snapshot::Stage;

use crate::authorizer::{Refusal, connect_arn};
use crate::edge::client_reference;
use crate::gateway::Gateway;
use crate::integration::Failure;

/// Begin of an `Authorization` header that carries a signature.
const SCHEME: &str = "AWS4-HMAC-SHA256";

/// The present time, for signatures. Tests set it.
#[derive(Clone)]
pub struct SignatureClock(pub Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Default for SignatureClock {
    fn default() -> Self {
        Self(Arc::new(SystemTime::now))
    }
}

impl std::fmt::Debug for SignatureClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignatureClock")
    }
}

/// Who has signed a handshake, if they may connect.
pub(crate) fn verify(
    gateway: &Gateway,
    stage: &Stage,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Caller, Refusal> {
    let in_force = gateway.in_force();
    let credentials = &in_force.node.credentials;
    let keys = |access_key_id: &str| {
        let known = credentials.iter().find(|known| known.access_key_id == access_key_id)?;
        Some(CredentialKeys::permanent(known.secret.clone()))
    };
    let now = (gateway.config.signature_clock.0)();
    let query = uri.query().unwrap_or_default();
    let verify = |query: &str| {
        let parts = RequestParts { method: "GET", path: uri.path(), query: Some(query), headers };
        in_force.verifier.verify(&parts, None, &keys, now)
    };
    let verified = verify(query).or_else(|error| {
        // Clients add their reference to an address that somebody else has signed.
        let signed = client_reference::strip(query);
        match error {
            SignatureError::Mismatch { .. } if signed != query => verify(&signed),
            error => Err(error),
        }
    });
    let verified = verified.map_err(|error| refused(&error))?;
    let arn = connect_arn(gateway, stage);
    let access_key = verified.access_key_id;
    let account_id = gateway.config.account_id.clone();
    let user_arn = format!("arn:aws:iam::{account_id}:user/{access_key}");
    let is_allowed =
        credentials.iter().any(|known| known.access_key_id == access_key && known.allows(INVOKE, &arn));
    if !is_allowed {
        let detail = "no rule of the access key covers it";
        let failure = Failure::new(ErrorCode::AccessDenied, Diagnosis::MANAGEMENT_DENIED, detail)
            .with("accessKeyId", access_key)
            .with("action", INVOKE)
            .with("resource", arn.as_str());
        return Err(Refusal::worded(failure, access_denied_message(&user_arn, INVOKE, &arn)));
    }
    Ok(Caller { account_id, caller: access_key.clone(), user: access_key.clone(), user_arn, access_key })
}

fn refused(error: &SignatureError) -> Refusal {
    let code = match error {
        SignatureError::MissingAuthenticationToken => ErrorCode::MissingAuthentication,
        SignatureError::ExpiredToken => ErrorCode::ExpiredToken,
        _ => ErrorCode::InvalidSignature,
    };
    // What the error displays is made for logs; its message repeats what the client sent.
    let failure = Failure::new(code, Diagnosis::IAM_CONNECT_UNSIGNED, error.to_string())
        .with("signature", error.error_type())
        .with("causeId", error.diagnosis());
    Refusal { error_type: Some(error.error_type()), ..Refusal::worded(failure, error.message()) }
}

/// Takes the signature out of what backends get.
pub(crate) fn strip(headers: &mut HeaderMap, query: &mut String) {
    strip_headers(headers);
    headers.remove("x-amz-security-token");
    if let Some(shown) = without_signature(query) {
        *query = shown;
    }
}

/// Takes `Authorization` out of headers where it carries a signature, as the real service does towards backends,
/// whatever the route demands. Source: *Important notes* of the API Gateway developer guide.
pub(crate) fn strip_headers(headers: &mut HeaderMap) {
    let is_signature = |value: &http::HeaderValue| value.as_bytes().starts_with(SCHEME.as_bytes());
    if headers.get_all(AUTHORIZATION).iter().any(is_signature) {
        headers.remove(AUTHORIZATION);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_do_not_reach_backends() {
        // AG-13
        let check = |query: &str, authorization: &str, left: &str, stays: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, authorization.parse().unwrap());
            headers.insert("x-amz-security-token", "secret".parse().unwrap());
            let mut query = query.to_owned();
            strip(&mut headers, &mut query);
            assert_eq!((query.as_str(), headers.contains_key(AUTHORIZATION)), (left, stays));
            assert!(!headers.contains_key("x-amz-security-token"));
        };
        check("a=1&X-Amz-Signature=b&X-Amz-Date=c&X-Amz-Security-Token=d", "x", "a=1&X-Amz-Date=c", true);
        check("a=%20&b", "AWS4-HMAC-SHA256 Credential=x", "a=%20&b", false);
        check("", "Bearer x", "", true);
        check("X-Amz-Signature", "", "", true);
        // An encoded character does not make it another parameter.
        check("a=1&X-Amz-Sign%61ture=b&%58-Amz-Security%2DToken=d&c=%41", "x", "a=1&c=%41", true);
        check("X-Amz-Signature2=b&x-amz-signature=c", "x", "X-Amz-Signature2=b&x-amz-signature=c", true);
    }
}
