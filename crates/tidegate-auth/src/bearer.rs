//! Bearer API keys: `Authorization: Bearer {key}`, of which only the SHA-256 is stored.
//!
//! A plain hash is enough because keys are random texts made by us with far more entropy than anyone can try; it must
//! not be used for passwords that people choose.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::secret::{Secret, is_equal};

/// The stored form of an API key: the SHA-256 of its text.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    hash: [u8; 32],
}

impl ApiKey {
    /// The stored form of a new key.
    pub fn of(key: &Secret) -> Self {
        Self::of_text(key.expose())
    }

    pub(crate) fn of_text(text: &str) -> Self {
        Self { hash: sha256(text.as_bytes()) }
    }

    /// Reads what [`ApiKey::to_hash_hex`] wrote: 64 hexadecimal digits of either case. `None` for anything else.
    pub fn from_hash_hex(hash_hex: &str) -> Option<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(hash_hex, &mut hash).ok()?;
        Some(Self { hash })
    }

    /// The hash as 64 lower-case hexadecimal digits, to be stored.
    pub fn to_hash_hex(&self) -> String {
        hex::encode(self.hash)
    }

    /// Whether `presented` is the key; constant time with respect to the stored hash.
    pub fn verify(&self, presented: &str) -> bool {
        self.is(&Self::of_text(presented))
    }

    /// Whether both are the same key, in constant time.
    pub(crate) fn is(&self, other: &Self) -> bool {
        is_equal(&self.hash, &other.hash)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(****)")
    }
}

/// The token of `Authorization: Bearer {token}`.
///
/// `None` if the header is absent, occurs twice, has another scheme, or its token is not what RFC 6750, section 2.1,
/// allows: one or more of `A-Z a-z 0-9 - . _ ~ + /`, then any number of `=`. The scheme's case does not matter
/// (RFC 9110, section 11.1).
pub fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.trim_matches(' ').split_once(' ')?;
    let token = token.trim_start_matches(' ');
    let body = token.trim_end_matches('=');
    let is_token = !body.is_empty()
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
    (scheme.eq_ignore_ascii_case("bearer") && is_token).then_some(token)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn check(value: &str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        assert_eq!(bearer_token(&headers), expected, "{value}");
    }

    #[test]
    fn bearer_tokens_are_parsed() {
        check("Bearer abc", Some("abc"));
        check("bearer   a-._~+/9==", Some("a-._~+/9=="));
        check("BEARER abc ", Some("abc"));
        check("Bearer", None);
        check("Bearer ", None);
        check("Bearer ==", None);
        check("Bearer a b", None);
        check("Bearer a=b", None);
        check("Bearer a,b", None);
        check("Basic abc", None);
        check("AWS4-HMAC-SHA256 Credential=a", None);
        check("", None);
    }

    #[test]
    fn absent_and_repeated_headers_have_no_token() {
        let mut headers = HeaderMap::new();
        assert_eq!(bearer_token(&headers), None);
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert_eq!(bearer_token(&headers), None);
    }

    #[test]
    fn a_key_is_verified_against_its_stored_hash() {
        // SHA-256 of "abc", FIPS 180-2, appendix B.1.
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let key = ApiKey::from_hash_hex(hex).unwrap();
        assert!(key.verify("abc"));
        assert!(!key.verify("abd"));
        assert!(!key.verify(""));
        assert!(!key.verify(hex));
        assert_eq!(key, ApiKey::of(&Secret::new("abc")));
        assert_eq!(key.to_hash_hex(), hex);
        assert_eq!(format!("{key:?}"), "ApiKey(****)");
        assert_eq!(ApiKey::from_hash_hex(&hex.to_uppercase()), Some(key));
    }

    #[test]
    fn a_malformed_hash_is_refused() {
        for hash_hex in ["", "ba78", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64)] {
            assert_eq!(ApiKey::from_hash_hex(hash_hex), None, "{hash_hex}");
        }
    }

    proptest! {
        #[test]
        fn only_the_key_itself_verifies(key in ".{0,40}", other in ".{0,40}") {
            let stored = ApiKey::of(&Secret::new(key.clone()));
            prop_assert!(stored.verify(&key));
            prop_assert_eq!(stored.verify(&other), key == other);
        }
    }
}
