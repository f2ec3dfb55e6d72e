//! AWS Signature Version 4: [`verify`] what clients send, [`sign`] what the command line and benchmarks send.
//!
//! Both sides share one canonical form (`canonical`) and one key derivation ([`keys`]). What a caller may do
//! once it is known is decided in [`crate::credential`].
//!
//! Source: "Create a signed AWS API request" (IAM user guide); signatures of boto3 and the AWS SDK for JavaScript.

mod canonical;
mod claim;
mod date;
pub mod error;
pub mod keys;
pub mod sign;
pub mod verify;

#[cfg(test)]
mod tests;

use std::time::SystemTime;

use http::HeaderMap;

use crate::secret::Secret;

pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
pub(crate) const TERMINATOR: &str = "aws4_request";
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
pub(crate) const X_AMZ_CONTENT_SHA256: &str = "x-amz-content-sha256";
pub(crate) const X_AMZ_DATE: &str = "x-amz-date";
pub(crate) const X_AMZ_SECURITY_TOKEN: &str = "x-amz-security-token";

/// Longest validity of a presigned request, in seconds: seven days.
///
/// Source: `X-Amz-Expires` in "Authenticating Requests: Using Query Parameters" (Amazon S3 API reference).
pub const MAX_EXPIRES: u32 = 604_800;

/// The parts of a request's head that a signature covers, exactly as on the wire.
///
/// There is no `Debug`: headers and query hold what must not reach a log.
#[derive(Clone, Copy)]
pub struct RequestParts<'a> {
    /// `POST`
    pub method: &'a str,
    /// The path as received, still percent-encoded: `/prod/@connections/R0oXAdfD0kwCH6w%3D`.
    pub path: &'a str,
    /// What follows the `?`, still percent-encoded; `None` and `Some("")` mean the same.
    pub query: Option<&'a str>,
    /// All header fields, with `host`.
    pub headers: &'a HeaderMap,
}

/// What belongs to an access key id, and never leaves this process.
#[derive(Debug, Clone)]
pub struct CredentialKeys {
    /// The secret access key.
    pub secret: Secret,
    /// The token that must accompany each request of a temporary credential. Without one, requests that carry a
    /// token are refused.
    pub session_token: Option<Secret>,
    /// When the credential ends, for temporary ones.
    pub expires_at: Option<SystemTime>,
}

impl CredentialKeys {
    /// The keys of a permanent credential.
    pub fn permanent(secret: Secret) -> Self {
        Self { secret, session_token: None, expires_at: None }
    }
}

/// Where a verifier finds the keys of an access key id.
///
/// Called once for each request whose scope and date are right. Implemented for closures.
pub trait CredentialSource {
    /// The keys of `access_key_id`, a text of the caller's choice; `None` if it is not known here.
    fn find(&self, access_key_id: &str) -> Option<CredentialKeys>;
}

impl<F: Fn(&str) -> Option<CredentialKeys>> CredentialSource for F {
    fn find(&self, access_key_id: &str) -> Option<CredentialKeys> {
        self(access_key_id)
    }
}

/// A query string without the signature and the session token of its signer: whoever has them could sign as the client.
/// Nothing if it has neither. Names count as they are when decoded.
pub fn without_signature(query: &str) -> Option<String> {
    let is_hidden = |pair: &&str| {
        let name = claim::decoded(pair.split('=').next().unwrap_or_default());
        matches!(&*name, "X-Amz-Signature" | "X-Amz-Security-Token")
    };
    if !query.split('&').any(|pair| is_hidden(&pair)) {
        return None;
    }
    Some(query.split('&').filter(|pair| !is_hidden(pair)).collect::<Vec<_>>().join("&"))
}
