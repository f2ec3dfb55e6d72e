//! JSON Web Key Sets: reading one, and finding the keys that may have signed a token.
//!
//! Fetching and refreshing is the gateway's; a set here never changes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use super::key::{VerifyingKey, WeakSecret};

/// Largest document that is read, in bytes. Source: our choice; a key with a certificate chain takes about 5 KB.
pub const MAX_JWKS_BYTES: usize = 512 * 1024;

/// Most keys of a set, usable or not. Source: our choice; it bounds the signatures tried for a token without `kid`.
pub const MAX_JWKS_KEYS: usize = 100;

/// A set of keys, as `jwks_url` or `jwks_file` has it.
#[derive(Debug, Clone)]
pub struct Jwks {
    keys: Vec<Jwk>,
    n_skipped: usize,
}

/// One usable key of a set.
#[derive(Debug, Clone)]
pub(crate) struct Jwk {
    kid: Option<String>,
    /// The only algorithm it may be used with, if it says so.
    algorithm: Option<Algorithm>,
    pub(crate) key: VerifyingKey,
}

/// The document is no key set. The set before it stays in use.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// Over [`MAX_JWKS_BYTES`].
    #[error("the key set has {n_bytes} bytes, over {MAX_JWKS_BYTES}")]
    TooLarge {
        /// Its length.
        n_bytes: usize,
    },
    /// Over [`MAX_JWKS_KEYS`].
    #[error("the key set has {n_keys} keys, over {MAX_JWKS_KEYS}")]
    TooManyKeys {
        /// How many it has.
        n_keys: usize,
    },
    /// Not a JSON object with the list `keys`. The position is told, not the content, which may hold secrets.
    #[error("the key set is no JSON object with a list of keys: line {line}, column {column}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// Counted from 1; 0 at the end of the text.
        column: usize,
    },
}

/// RFC 7517, section 5.
#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Value>,
}

/// RFC 7517, section 4, and RFC 7518, section 6; private members are not read.
#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

impl Jwks {
    /// Reads a set: RSA keys of 2,048 to 8,192 bits, EC keys on P-256 and P-384, Ed25519 and symmetric ones.
    ///
    /// Keys of other kinds, malformed ones, and those whose `use`, `key_ops` or `alg` say that they do not verify
    /// signatures we know are skipped, as RFC 7517, section 5, demands: see [`Jwks::n_skipped`].
    ///
    /// # Errors
    /// See [`JwksError`]. A set without a usable key is fine here, and no token passes it.
    pub fn parse(document: &[u8]) -> Result<Self, JwksError> {
        if document.len() > MAX_JWKS_BYTES {
            return Err(JwksError::TooLarge { n_bytes: document.len() });
        }
        let set: RawSet = serde_json::from_slice(document)
            .map_err(|error| JwksError::Malformed { line: error.line(), column: error.column() })?;
        let n_keys = set.keys.len();
        if n_keys > MAX_JWKS_KEYS {
            return Err(JwksError::TooManyKeys { n_keys });
        }
        let keys: Vec<Jwk> = set.keys.into_iter().filter_map(Jwk::read).collect();
        Ok(Self { n_skipped: n_keys - keys.len(), keys })
    }

    /// How many usable keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is usable.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys of the document are not used.
    pub fn n_skipped(&self) -> usize {
        self.n_skipped
    }

    /// Whether a key of the set could verify a signature of this algorithm.
    pub fn can_verify(&self, algorithm: Algorithm) -> bool {
        self.candidates(None, algorithm).next().is_some()
    }

    /// Whether a key is called `kid`.
    pub(crate) fn has_kid(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// Keys that may have made a signature: called `kid`, or any where the token names none, and made for
    /// `algorithm`. Ids need not be unique; all keys of the id are given.
    pub(crate) fn candidates<'a>(
        &'a self,
        kid: Option<&'a str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'a VerifyingKey> {
        self.keys
            .iter()
            .filter(move |key| kid.is_none() || key.kid.as_deref() == kid)
            .filter(move |key| key.algorithm.is_none_or(|only| only == algorithm))
            .map(|key| &key.key)
            .filter(move |key| key.is_for(algorithm))
    }

    /// The first weakness of a symmetric key.
    pub(crate) fn weak_secret(&self) -> Option<WeakSecret> {
        self.keys.iter().find_map(|key| match &key.key {
            VerifyingKey::Hmac(secret) => WeakSecret::find(secret),
            _ => None,
        })
    }
}

impl Jwk {
    fn read(value: Value) -> Option<Self> {
        let raw: RawKey = serde_json::from_value(value).ok()?;
        let is_for_signatures = raw.usage.as_deref().is_none_or(|usage| usage == "sig")
            && raw.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !is_for_signatures {
            return None;
        }
        let algorithm = match raw.alg.as_deref() {
            Some(name) => Some(Algorithm::from_name(name)?),
            None => None,
        };
        let key = match (raw.kty.as_str(), raw.crv.as_deref()) {
            ("RSA", _) => VerifyingKey::rsa(&decode(raw.n)?, &decode(raw.e)?)?,
            ("EC", Some("P-256")) => VerifyingKey::ec(&decode(raw.x)?, &decode(raw.y)?, 32)?,
            ("EC", Some("P-384")) => VerifyingKey::ec(&decode(raw.x)?, &decode(raw.y)?, 48)?,
            ("OKP", Some("Ed25519")) => VerifyingKey::ed25519(&decode(raw.x)?)?,
            ("oct", _) => {
                let secret = Zeroizing::new(URL_SAFE_NO_PAD.decode(raw.k?).ok()?);
                if secret.is_empty() {
                    return None;
                }
                VerifyingKey::Hmac(secret)
            }
            _ => return None,
        };
        if algorithm.is_some_and(|algorithm| !key.is_for(algorithm)) {
            return None;
        }
        Some(Self { kid: raw.kid, algorithm, key })
    }
}

fn decode(member: Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(member?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    // RFC 7515, appendices A.2 and A.3; RFC 8037, appendix A.2.
    const N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
    const ED_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn parse(keys: Value) -> Jwks {
        Jwks::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn keys_of_all_kinds_are_read() {
        let set = parse(json!([
            { "kty": "RSA", "kid": "r", "n": N, "e": "AQAB", "use": "sig" },
            { "kty": "EC", "kid": "e", "crv": "P-256", "x": X, "y": Y, "key_ops": ["verify"] },
            { "kty": "OKP", "kid": "d", "crv": "Ed25519", "x": ED_X, "alg": "EdDSA" },
            { "kty": "oct", "kid": "o", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ" },
        ]));
        assert_eq!((set.len(), set.n_skipped()), (4, 0));
        assert_eq!(set.candidates(Some("r"), Algorithm::Ps384).count(), 1);
        assert_eq!(set.candidates(None, Algorithm::Rs256).count(), 1);
        assert_eq!(set.candidates(Some("e"), Algorithm::Rs256).count(), 0);
        assert_eq!(set.candidates(Some("e"), Algorithm::Es384).count(), 0);
        assert_eq!(set.candidates(None, Algorithm::EdDsa).count(), 1);
        assert_eq!(set.candidates(None, Algorithm::Hs512).count(), 1);
        assert!(set.has_kid("d") && !set.has_kid("x"));
        assert!(set.can_verify(Algorithm::EdDsa) && !set.can_verify(Algorithm::Es384));
    }

    #[test]
    fn a_key_bound_to_an_algorithm_serves_no_other() {
        let set = parse(json!([{ "kty": "RSA", "n": N, "e": "AQAB", "alg": "PS256" }]));
        assert_eq!(set.candidates(None, Algorithm::Ps256).count(), 1);
        assert_eq!(set.candidates(None, Algorithm::Rs256).count(), 0);
    }

    #[test]
    fn unusable_keys_are_skipped() {
        let skipped = [
            json!({ "kty": "RSA", "n": N, "e": "AQAB", "use": "enc" }),
            json!({ "kty": "RSA", "n": N, "e": "AQAB", "key_ops": ["encrypt"] }),
            json!({ "kty": "RSA", "n": N, "e": "AQAB", "alg": "RSA-OAEP" }),
            json!({ "kty": "RSA", "n": N, "e": "AQAB", "alg": "HS256" }),
            json!({ "kty": "RSA", "n": N, "e": "" }),
            json!({ "kty": "RSA", "n": &N[..100], "e": "AQAB" }),
            json!({ "kty": "RSA", "e": "AQAB" }),
            json!({ "kty": "EC", "crv": "P-256", "x": X, "y": X }),
            json!({ "kty": "EC", "crv": "P-384", "x": X, "y": Y }),
            json!({ "kty": "EC", "crv": "P-521", "x": X, "y": Y }),
            json!({ "kty": "EC", "crv": "secp256k1", "x": X, "y": Y }),
            json!({ "kty": "OKP", "crv": "X25519", "x": ED_X }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" }),
            json!({ "kty": "oct", "k": "" }),
            json!({ "kty": "oct", "k": "not base64url!" }),
            json!({ "kty": "other" }),
            json!({ "kid": "no kty" }),
            json!({ "kty": "RSA", "kid": 7, "n": N, "e": "AQAB" }),
            json!("text"),
        ];
        for key in skipped {
            let set = parse(json!([key.clone()]));
            assert!(set.is_empty() && set.n_skipped() == 1, "{key}");
        }
        assert!(parse(json!([])).is_empty());
    }

    #[test]
    fn size_and_shape_are_bounded() {
        assert!(matches!(
            Jwks::parse(&vec![b' '; MAX_JWKS_BYTES + 1]),
            Err(JwksError::TooLarge { n_bytes }) if n_bytes == MAX_JWKS_BYTES + 1
        ));
        let many: Vec<Value> = (0..=MAX_JWKS_KEYS).map(|kid| json!({ "kty": kid })).collect();
        let document = json!({ "keys": many }).to_string();
        assert!(matches!(Jwks::parse(document.as_bytes()), Err(JwksError::TooManyKeys { n_keys: 101 })));
        for document in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[}"#, "<html>", &"[".repeat(100_000)] {
            assert!(matches!(Jwks::parse(document.as_bytes()), Err(JwksError::Malformed { .. })));
        }
    }

    #[test]
    fn a_set_prints_no_secret() {
        let set = parse(json!([{ "kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ" }]));
        assert!(!format!("{set:?}").contains("35, 53"), "bytes of the secret");
        assert!(format!("{set:?}").contains("Hmac(****)"));
    }

    proptest! {
        #[test]
        fn nothing_panics(document in prop::collection::vec(any::<u8>(), 0..200), member in "[A-Za-z0-9_-]{0,60}") {
            let _ = Jwks::parse(&document);
            parse(json!([
                { "kty": "RSA", "n": member.clone(), "e": member.clone() },
                { "kty": "EC", "crv": "P-256", "x": member.clone(), "y": member.clone() },
                { "kty": "OKP", "crv": "Ed25519", "x": member.clone() },
                { "kty": "oct", "k": member },
            ]));
        }
    }
}
