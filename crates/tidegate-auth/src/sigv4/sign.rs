//! Signs requests: for the command line, benchmarks and tests.
//!
//! It signs what it is given and sends nothing. The result is what boto3 would make of the same headers.

use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, HOST, InvalidHeaderValue, TRANSFER_ENCODING, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::canonical::{self, CanonicalRequest};
use super::date::{AmzDate, to_unix_seconds};
use super::keys::{KeyScope, SigningKeyCache};
use super::{
    ALGORITHM, CredentialKeys, MAX_EXPIRES, RequestParts, UNSIGNED_PAYLOAD, X_AMZ_CONTENT_SHA256, X_AMZ_DATE,
    X_AMZ_SECURITY_TOKEN,
};

/// Signs requests with one access key, for one region and service.
#[derive(Debug)]
pub struct Signer {
    access_key_id: String,
    keys: CredentialKeys,
    region: String,
    service: String,
    signing_keys: SigningKeyCache,
}

/// What a signature says about the body.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// Signs the body's hash without a header for it, as boto3 does.
    Body(&'a [u8]),
    /// Signs the body's hash and sends it in `x-amz-content-sha256`, as the SDK for JavaScript does.
    BodyWithHash(&'a [u8]),
    /// Sends `x-amz-content-sha256: UNSIGNED-PAYLOAD`.
    Unsigned,
}

/// Why a request cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The headers lack `host`, which must be signed.
    #[error("request has no host header")]
    HostMissing,
    /// The validity is not 1 to [`MAX_EXPIRES`] seconds.
    #[error("validity of {seconds} s is not 1 to {MAX_EXPIRES} s")]
    ExpiresOutOfRange {
        /// The validity that was asked for.
        seconds: u64,
    },
    /// Access key id, region, service or session token hold characters that no header can carry.
    #[error("build header {name}")]
    InvalidHeader {
        /// The header's name.
        name: HeaderName,
        /// The cause.
        #[source]
        source: InvalidHeaderValue,
    },
}

impl Signer {
    /// A signer for `region` and `service`, for example `us-east-1` and `execute-api`.
    pub fn new(
        access_key_id: impl Into<String>,
        keys: CredentialKeys,
        region: impl Into<String>,
        service: impl Into<String>,
    ) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            keys,
            region: region.into(),
            service: service.into(),
            signing_keys: SigningKeyCache::new(),
        }
    }

    /// The headers that must be added to the request, replacing those of the same name: `authorization`,
    /// `x-amz-date`, and as needed `x-amz-content-sha256` and `x-amz-security-token`.
    ///
    /// All of `parts.headers` is signed but `authorization`, `transfer-encoding`, `user-agent` and `x-amzn-trace-id`,
    /// which proxies change.
    ///
    /// # Errors
    /// [`SignError::HostMissing`], [`SignError::InvalidHeader`].
    pub fn sign(
        &self,
        parts: &RequestParts<'_>,
        payload: Payload<'_>,
        now: SystemTime,
    ) -> Result<HeaderMap, SignError> {
        let date = AmzDate::from_unix_seconds(to_unix_seconds(now));
        let (payload_hash, is_hash_sent) = match payload {
            Payload::Body(body) => (canonical::payload_hash(body), false),
            Payload::BodyWithHash(body) => (canonical::payload_hash(body), true),
            Payload::Unsigned => (UNSIGNED_PAYLOAD.to_owned(), true),
        };
        let mut added = HeaderMap::new();
        add(&mut added, HeaderName::from_static(X_AMZ_DATE), date.as_str())?;
        if is_hash_sent {
            add(&mut added, HeaderName::from_static(X_AMZ_CONTENT_SHA256), &payload_hash)?;
        }
        if let Some(token) = &self.keys.session_token {
            add(&mut added, HeaderName::from_static(X_AMZ_SECURITY_TOKEN), token.expose())?;
        }
        let mut headers = parts.headers.clone();
        for (name, value) in &added {
            headers.insert(name, value.clone());
        }

        let parts = RequestParts { headers: &headers, ..*parts };
        let signed_headers = signed_headers(&headers)?;
        let scope = self.scope(&date);
        let signature = self.signature(&parts, &signed_headers, &payload_hash, &date, &scope);
        let authorization = format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={signature}",
            self.access_key_id,
            scope.credential_scope(),
            signed_headers.join(";")
        );
        add(&mut added, AUTHORIZATION, &authorization)?;
        Ok(added)
    }

    /// The whole query string of a presigned request without a body, `parts.query` at its start.
    ///
    /// It is valid for `expires`, 1 s to seven days. Only `host` is signed, so that a browser can use the URL.
    ///
    /// # Errors
    /// [`SignError::HostMissing`], [`SignError::ExpiresOutOfRange`].
    pub fn presign(
        &self,
        parts: &RequestParts<'_>,
        expires: Duration,
        now: SystemTime,
    ) -> Result<String, SignError> {
        let seconds = expires.as_secs();
        if !(1..=u64::from(MAX_EXPIRES)).contains(&seconds) {
            return Err(SignError::ExpiresOutOfRange { seconds });
        }
        if !parts.headers.contains_key(HOST) {
            return Err(SignError::HostMissing);
        }
        let date = AmzDate::from_unix_seconds(to_unix_seconds(now));
        let scope = self.scope(&date);
        let credential = canonical::encode(&format!("{}/{}", self.access_key_id, scope.credential_scope()));
        let mut query = parts.query.unwrap_or_default().to_owned();
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(&format!(
            "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={credential}&X-Amz-Date={}&X-Amz-Expires={seconds}\
             &X-Amz-SignedHeaders=host",
            date.as_str()
        ));
        if let Some(token) = &self.keys.session_token {
            query.push_str("&X-Amz-Security-Token=");
            query.push_str(&canonical::encode(token.expose()));
        }
        let parts = RequestParts { query: Some(&query), ..*parts };
        let signed_headers = [HOST.as_str().to_owned()];
        let signature = self.signature(&parts, &signed_headers, &canonical::payload_hash(b""), &date, &scope);
        Ok(format!("{query}&X-Amz-Signature={signature}"))
    }

    fn scope<'a>(&'a self, date: &'a AmzDate) -> KeyScope<'a> {
        KeyScope {
            access_key_id: &self.access_key_id,
            day: date.day(),
            region: &self.region,
            service: &self.service,
        }
    }

    fn signature(
        &self,
        parts: &RequestParts<'_>,
        signed_headers: &[String],
        payload_hash: &str,
        date: &AmzDate,
        scope: &KeyScope<'_>,
    ) -> String {
        let request_hash = CanonicalRequest::new(parts, signed_headers, None, payload_hash)
            .hash(&canonical::uri(parts.path));
        let text = canonical::string_to_sign(date, &scope.credential_scope(), &request_hash);
        canonical::signature(&self.signing_keys.signing_key(scope, &self.keys.secret), &text)
    }
}

fn add(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), SignError> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|source| SignError::InvalidHeader { name: name.clone(), source })?;
    value.set_sensitive(name == AUTHORIZATION || name == X_AMZ_SECURITY_TOKEN);
    headers.insert(name, value);
    Ok(())
}

fn signed_headers(headers: &HeaderMap) -> Result<Vec<String>, SignError> {
    if !headers.contains_key(HOST) {
        return Err(SignError::HostMissing);
    }
    let unsigned = [AUTHORIZATION, TRANSFER_ENCODING, USER_AGENT, HeaderName::from_static("x-amzn-trace-id")];
    let mut names: Vec<String> =
        headers.keys().filter(|name| !unsigned.contains(name)).map(|name| name.as_str().to_owned()).collect();
    names.sort_unstable();
    Ok(names)
}
