//! JSON Web Tokens of this run.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use tidegate_auth::jwt::{Algorithm, sign_hmac};

/// Signs the tokens of a run; it protects nothing.
pub const SECRET: &str = "the-secret-of-the-benchmarks-0123456789-abcdef";

/// How long a token is good for, in seconds.
const LIFETIME: u64 = 3600;

/// A token with these claims, good for an hour.
pub fn token(mut claims: Map<String, Value>) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?.as_secs();
    claims.insert("iat".to_owned(), now.into());
    claims.insert("exp".to_owned(), (now + LIFETIME).into());
    let signed = sign_hmac(SECRET.as_bytes(), Algorithm::Hs256, &claims).context("sign a token")?;
    Ok(signed.expose().to_owned())
}
