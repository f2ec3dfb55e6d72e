//! Making tokens with an HMAC secret: for `tidegate token jwt`, and for tests.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::algorithm::Algorithm;
use crate::secret::Secret;

/// The token was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtSignError {
    /// No key of the configuration is a secret.
    #[error("no key is an HMAC secret, and only these sign")]
    NoSecret,
    /// The algorithm needs a private key.
    #[error("{0} does not sign with a secret")]
    NotHmac(Algorithm),
}

/// A token with `claims`, signed with `secret` by one of the three HMAC algorithms.
///
/// # Errors
/// [`JwtSignError::NotHmac`] for any other algorithm.
pub fn sign_hmac(
    secret: &[u8],
    algorithm: Algorithm,
    claims: &Map<String, Value>,
) -> Result<Secret, JwtSignError> {
    let key = hmac::Key::new(algorithm.as_hmac().ok_or(JwtSignError::NotHmac(algorithm))?, secret);
    let header = json!({ "alg": algorithm.as_str(), "typ": "JWT" }).to_string();
    let payload = Value::Object(claims.clone()).to_string();
    let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = hmac::sign(&key, token.as_bytes());
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Ok(Secret::new(token))
}
