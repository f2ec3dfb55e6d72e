//! Verifies a signature: from the parts of a request and the present time to the access key that signed it.
//!
//! Checks that need no secret come first, in the order scope, date, key; the body is hashed last where it can be.
//! Whether the caller may do what it asks for is [`crate::credential`]'s business.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac::Key;
use http::header::HOST;

use super::canonical::{self, CanonicalRequest};
use super::claim::{Claim, Form};
use super::date::to_unix_seconds;
use super::error::{MismatchReason, SignatureError};
use super::keys::{KeyScope, SigningKeyCache};
use super::{CredentialKeys, CredentialSource, RequestParts, UNSIGNED_PAYLOAD, X_AMZ_CONTENT_SHA256};
use crate::secret::{Secret, is_equal};

/// By how much the clocks of caller and gateway may differ, unless configured otherwise.
///
/// Source: "Signature Version 4 request elements" (IAM user guide): five minutes.
pub const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Verifies the signatures for one listener.
///
/// It keeps the signing keys used last, so make one and share it.
#[derive(Debug)]
pub struct Verifier {
    /// The region that signatures must name, for example `us-east-1`.
    pub region: String,
    /// The service that signatures must name: `execute-api` or `apigateway`.
    pub service: String,
    /// By how much the caller's clock may differ; [`CLOCK_SKEW`] by default.
    pub clock_skew: Duration,
    /// Whether the answer to a wrong signature shows what should have been signed. Off by default, because it
    /// repeats signed header values.
    pub explain_mismatch: bool,
    /// Hosts that a proxy in front may name in `X-Forwarded-Host`; such a value takes the place of `Host`.
    /// Empty by default: `Host` counts as sent.
    pub allowed_hosts: Vec<String>,
    signing_keys: SigningKeyCache,
}

/// A caller that is who it says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The access key that signed the request.
    pub access_key_id: String,
    /// Names of the headers that the signature covers: lower case, sorted, `host` among them.
    pub signed_headers: Vec<String>,
    /// Whether the signature stood in the query string.
    pub is_presigned: bool,
    /// Whether the signature covers the body; not so for `UNSIGNED-PAYLOAD`.
    pub is_payload_signed: bool,
    /// How the client encoded the path when it signed.
    pub path_encoding: PathEncoding,
}

/// How a client encodes the path for its canonical request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathEncoding {
    /// Once more than it is sent, as AWS wants it.
    Double,
    /// As it is sent. AWS refuses such signatures, this verifier accepts them.
    ///
    /// The price: a signature for the path `/a%3D` also fits the path `/a%253D`, which is its canonical form. A
    /// well-formed connection id has no such twin, so in `@connections` this reaches no other connection.
    AsReceived,
}

impl Verifier {
    /// A verifier with the default settings for `region` and `service`.
    pub fn new(region: impl Into<String>, service: impl Into<String>) -> Self {
        Self {
            region: region.into(),
            service: service.into(),
            clock_skew: CLOCK_SKEW,
            explain_mismatch: false,
            allowed_hosts: Vec::new(),
            signing_keys: SigningKeyCache::new(),
        }
    }

    /// Verifies the signature in the `Authorization` header or, if there is none, in the query string.
    ///
    /// `body` is the whole body; `None` (a handshake) counts as an empty one. `now` is the present time.
    ///
    /// # Errors
    /// The first of: missing or incomplete signature, day of the scope, region, service, date, unknown key, expired or
    /// wrong session token, mismatch.
    pub fn verify(
        &self,
        parts: &RequestParts<'_>,
        body: Option<&[u8]>,
        credentials: &dyn CredentialSource,
        now: SystemTime,
    ) -> Result<Verified, SignatureError> {
        let claim = Claim::of(parts)?;
        self.check_scope(&claim)?;
        self.check_date(&claim, to_unix_seconds(now))?;
        let access_key_id = claim.scope.access_key_id.as_str();
        let keys = credentials.find(access_key_id).ok_or(SignatureError::UnrecognizedClient)?;
        check_session(&claim, &keys, now)?;

        let body = body.unwrap_or_default();
        let declared_hash = declared_payload_hash(&claim, parts);
        let payload_hash = declared_hash.map_or_else(|| canonical::payload_hash(body), str::to_owned);
        let request =
            CanonicalRequest::new(parts, &claim.signed_headers, self.forwarded_host(parts), &payload_hash);
        let scope =
            KeyScope { access_key_id, day: &claim.scope.day, region: &self.region, service: &self.service };
        let attempt = Attempt {
            claim: &claim,
            credential_scope: scope.credential_scope(),
            key: &self.signing_keys.signing_key(&scope, &keys.secret),
            request,
        };
        let fail = |reason| {
            let explanation = self.explain_mismatch.then(|| attempt.explain(&canonical::uri(parts.path)));
            SignatureError::mismatch(reason, explanation)
        };

        if !claim.signed_headers.iter().any(|name| name == HOST.as_str()) {
            return Err(fail(MismatchReason::HostNotSigned));
        }
        if claim.signed_headers.iter().any(|name| !parts.headers.contains_key(name)) {
            return Err(fail(MismatchReason::SignedHeaderAbsent));
        }
        let path_encoding = if attempt.is_signed_with(&canonical::uri(parts.path)) {
            PathEncoding::Double
        } else if attempt.is_signed_with(parts.path) {
            PathEncoding::AsReceived
        } else if canonical::rewritten_uris(parts.path).iter().any(|uri| attempt.is_signed_with(uri)) {
            return Err(fail(MismatchReason::PathRewritten));
        } else {
            return Err(fail(MismatchReason::Signature));
        };
        let is_payload_signed = declared_hash != Some(UNSIGNED_PAYLOAD);
        if let Some(declared) = declared_hash
            && is_payload_signed
            && declared != canonical::payload_hash(body)
        {
            return Err(fail(MismatchReason::PayloadHash));
        }
        Ok(Verified {
            access_key_id: access_key_id.to_owned(),
            is_presigned: claim.form != Form::Header,
            is_payload_signed,
            path_encoding,
            signed_headers: claim.signed_headers,
        })
    }

    fn check_scope(&self, claim: &Claim<'_>) -> Result<(), SignatureError> {
        let scope = &claim.scope;
        if scope.day != claim.date.day() {
            return Err(SignatureError::ScopeDateMismatch {
                scope_day: scope.day.clone(),
                date: claim.date.as_str().to_owned(),
            });
        }
        if scope.region != self.region {
            return Err(SignatureError::WrongRegion);
        }
        if scope.service != self.service {
            return Err(SignatureError::WrongService { expected: self.service.clone() });
        }
        Ok(())
    }

    fn check_date(&self, claim: &Claim<'_>, now: i64) -> Result<(), SignatureError> {
        let skew = i64::try_from(self.clock_skew.as_secs()).unwrap_or(i64::MAX);
        let validity = match claim.form {
            Form::Presigned { expires: Some(expires) } => i64::from(expires),
            Form::Header | Form::Presigned { expires: None } => skew,
        };
        let age = now.saturating_sub(claim.date.unix_seconds());
        if age > validity {
            return Err(SignatureError::expired(&claim.date, now, validity));
        }
        if age < -skew {
            return Err(SignatureError::not_yet_current(&claim.date, now, skew));
        }
        Ok(())
    }

    /// The host that the client called, if a proxy has replaced it and may say so.
    fn forwarded_host<'a>(&self, parts: &RequestParts<'a>) -> Option<&'a str> {
        let host = parts.headers.get("x-forwarded-host")?.to_str().ok()?;
        self.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host)).then_some(host)
    }
}

/// A temporary credential must not have ended and needs its token; a permanent one has no token.
fn check_session(claim: &Claim<'_>, keys: &CredentialKeys, now: SystemTime) -> Result<(), SignatureError> {
    if keys.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Err(SignatureError::ExpiredToken);
    }
    let is_right = match (&keys.session_token, &claim.session_token) {
        (None, None) => true,
        (Some(expected), Some(token)) => expected.matches(token),
        (None, Some(_)) | (Some(_), None) => false,
    };
    if is_right { Ok(()) } else { Err(SignatureError::UnrecognizedClient) }
}

/// The value of `x-amz-content-sha256`, if it is signed. A value that is not ASCII is the hash of no body.
fn declared_payload_hash<'a>(claim: &Claim<'_>, parts: &RequestParts<'a>) -> Option<&'a str> {
    let value = parts.headers.get(X_AMZ_CONTENT_SHA256)?;
    let is_signed = claim.signed_headers.iter().any(|name| name == X_AMZ_CONTENT_SHA256);
    is_signed.then(|| value.to_str().unwrap_or_default())
}

/// A claim with all that is needed to calculate its signature, except for the canonical URI.
struct Attempt<'a> {
    claim: &'a Claim<'a>,
    credential_scope: String,
    key: &'a Key,
    request: CanonicalRequest,
}

impl Attempt<'_> {
    fn is_signed_with(&self, canonical_uri: &str) -> bool {
        let expected = canonical::signature(self.key, &self.string_to_sign(canonical_uri));
        is_equal(expected.as_bytes(), self.claim.signature.as_bytes())
    }

    fn string_to_sign(&self, canonical_uri: &str) -> String {
        let hash = self.request.hash(canonical_uri);
        canonical::string_to_sign(&self.claim.date, &self.credential_scope, &hash)
    }

    fn explain(&self, canonical_uri: &str) -> Secret {
        let request = self.request.to_text(canonical_uri);
        let string_to_sign = self.string_to_sign(canonical_uri);
        Secret::new(format!(
            "The Canonical String for this request should have been\n'{request}'\n\n\
             The String-to-Sign should have been\n'{string_to_sign}'\n"
        ))
    }
}
