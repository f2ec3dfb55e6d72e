//! Taking a token apart. What comes out of here is not verified.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::MAX_TOKEN;
use super::refusal::{JwtReason, JwtRefusal, MalformedHint, MalformedPart, TokenFacts};

/// A token in its parts.
pub(crate) struct Unverified<'a> {
    pub(crate) algorithm: String,
    pub(crate) kid: Option<String>,
    /// What the signature covers: the first two parts as they came.
    pub(crate) signing_input: &'a str,
    pub(crate) signature: Vec<u8>,
    pub(crate) claims: Map<String, Value>,
    length: usize,
}

/// RFC 7515, section 4. A member that occurs twice is an error, as section 4 there permits.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

impl<'a> Unverified<'a> {
    /// Reads `token`: three parts of base64url, the first two JSON objects.
    ///
    /// The payload is read before the signature is checked, so that a refusal can name claims and times, and so that
    /// a wrong signature costs the same time as a right one up to the decision (S3-15).
    pub(crate) fn parse(token: &'a str) -> Result<Self, JwtRefusal> {
        if token.is_empty() {
            return Err(JwtRefusal::new(JwtReason::Missing));
        }
        if token.len() > MAX_TOKEN {
            return Err(JwtRefusal::new(JwtReason::TooLong { length: token.len() }));
        }
        Self::parse_parts(token).map_err(|part| {
            JwtRefusal::new(JwtReason::Malformed { part, hint: MalformedHint::find(token, part) })
        })
    }

    fn parse_parts(token: &'a str) -> Result<Self, MalformedPart> {
        let n_parts = token.split('.').count();
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(MalformedPart::Parts { n_parts });
        };
        let signing_input = token.get(..header.len() + 1 + payload.len()).unwrap_or_default();
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| MalformedPart::HeaderEncoding)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| MalformedPart::Header)?;
        // RFC 7515, section 4.1.11: whoever does not know a critical extension must refuse.
        if header.crit.is_some() {
            return Err(MalformedPart::CriticalHeader);
        }
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| MalformedPart::PayloadEncoding)?;
        let claims = serde_json::from_slice(&payload).map_err(|_| MalformedPart::Payload)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| MalformedPart::SignatureEncoding)?;
        let Header { alg: algorithm, kid, .. } = header;
        Ok(Self { algorithm, kid, signing_input, signature, claims, length: token.len() })
    }

    /// A refusal with what the token says about itself.
    pub(crate) fn refuse(&self, reason: JwtReason) -> JwtRefusal {
        let facts = TokenFacts::of(self.length, &self.algorithm, self.kid.as_deref(), &self.claims);
        JwtRefusal { reason, token: Some(Box::new(facts)) }
    }
}

impl MalformedHint {
    fn find(token: &str, part: MalformedPart) -> Option<Self> {
        let begins_with_bearer = token.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("bearer"))
            && !token.starts_with("eyJ");
        let is_placeholder = ["undefined", "null", "None", "nil", "[object Object]", "true", "false"]
            .contains(&token)
            || ["${", "{{", "<%", "%(", "$("].iter().any(|start| token.starts_with(start));
        if begins_with_bearer {
            Some(Self::BearerPrefix)
        } else if is_placeholder {
            Some(Self::Placeholder)
        } else if token.contains(['"', '\'', '`']) {
            Some(Self::Quotes)
        } else if token.contains('%') {
            Some(Self::EncodedTwice)
        } else if token.contains(char::is_whitespace) {
            Some(Self::WhiteSpace)
        } else if token.contains(['+', '/', '=']) {
            Some(Self::PlainBase64)
        } else if part == (MalformedPart::Parts { n_parts: 5 }) {
            Some(Self::Encrypted)
        } else if token.starts_with("eyJ") {
            Some(Self::CutOff)
        } else {
            None
        }
    }
}
