//! JSON Web Tokens: find one in a handshake, verify it, and say whose it is.
//!
//! - [`find`]: where a token may be ([`find_token`]), and the usual wrong places.
//! - [`JwtVerifier`]: signature, times, issuer, audience, claims; the answer is a [`VerifiedJwt`] or a [`JwtRefusal`].
//! - [`jwks`]: key sets, which the gateway fetches; [`key`]: which secrets are too weak.
//! - [`sign`]: tokens of our own.
//!
//! A verifier never changes. When a key set was fetched anew, [`JwtVerifier::with_set`] makes the next verifier, which
//! shares everything else; the gateway keeps the present one behind an atomic pointer, so no check waits for a lock.
//!
//! The order of the checks is that of the decision table: shape, algorithm and key, signature, times, issuer and
//! audience, claims. Nothing that a token says decides anything but the choice of the key before its signature is
//! verified. All candidate keys are tried whichever of them fits, and HMACs are compared in constant time.
//!
//! Source: RFC 7519, RFC 7515, RFC 8725 (best current practices).

pub mod algorithm;
mod claims;
pub mod find;
pub mod jwks;
pub mod key;
mod parse;
pub mod refusal;
pub mod sign;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use tidegate_core::identity::{AuthKind, Identity};
use tidegate_core::policy::Jwt;
use zeroize::Zeroizing;

pub use algorithm::Algorithm;
pub use find::{FoundToken, find_token};
pub use jwks::{Jwks, JwksError};
pub use key::WeakSecret;
pub use refusal::{JwtReason, JwtRefusal, MalformedHint, MalformedPart, Place, TokenFacts};
pub use sign::{JwtSignError, sign_hmac};

use crate::secret::Secret;
use key::VerifyingKey;
use parse::Unverified;

/// Longest token, in bytes; a longer one is refused before it is looked at. Source: S3-14.
pub const MAX_TOKEN: usize = 8_192;

/// Largest leeway, in seconds. Source: S3-13.
pub const MAX_LEEWAY: u64 = 300;

/// One entry of `jwt.keys`, with its secret or key set read.
#[derive(Debug, Clone)]
pub struct KeySource {
    /// Names of the permitted algorithms.
    pub algorithms: Vec<String>,
    /// The key or keys.
    pub keys: SourceKeys,
}

/// What verifies.
#[derive(Debug, Clone)]
pub enum SourceKeys {
    /// An HMAC secret.
    Secret(Secret),
    /// A key set; `None` until it was fetched for the first time.
    Set(Option<KeySet>),
}

/// A key set and its age.
#[derive(Debug, Clone)]
pub struct KeySet {
    /// The keys.
    pub jwks: Arc<Jwks>,
    /// When it was read, in milliseconds since 1970.
    pub fetched_at: u64,
}

/// What is wrong with a configuration of JSON Web Tokens. `key` is the position in `jwt.keys`, from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtConfigError {
    /// Nothing could verify a token.
    #[error("jwt.keys is empty: at least one key expected")]
    NoKeys,
    /// The list of algorithms is empty.
    #[error("jwt.keys[{key}].algorithms is empty: HS256, RS256, ES256 or others expected")]
    NoAlgorithms {
        /// Which key.
        key: usize,
    },
    /// A name that is none of an algorithm, such as `none`.
    #[error("jwt.keys[{key}].algorithms: `{name}` is not one of {}", Algorithm::ALL.map(Algorithm::as_str).join(", "))]
    UnknownAlgorithm {
        /// Which key.
        key: usize,
        /// The name.
        name: String,
    },
    /// A secret cannot verify this algorithm.
    #[error("jwt.keys[{key}].algorithms: {algorithm} needs a key set, and this key is a secret")]
    NotHmac {
        /// Which key.
        key: usize,
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// The secret, or a symmetric key of the set, is weak.
    #[error("jwt.keys[{key}]: {problem}; set jwt.allow_weak_secret to take it all the same")]
    WeakSecret {
        /// Which key.
        key: usize,
        /// Why.
        problem: WeakSecret,
    },
    /// The secret is empty; that is never taken.
    #[error("jwt.keys[{key}]: the secret is empty")]
    EmptySecret {
        /// Which key.
        key: usize,
    },
    /// [`JwtVerifier::with_set`] for a key that is a secret or does not exist.
    #[error("jwt.keys[{key}] is no key set")]
    NotASet {
        /// Which key.
        key: usize,
    },
    /// Over [`MAX_LEEWAY`].
    #[error("jwt.leeway is {leeway}: at most {MAX_LEEWAY} expected")]
    Leeway {
        /// What was given.
        leeway: u64,
    },
    /// `claims.user` is empty.
    #[error("jwt.claims.user is empty: the name of a claim expected")]
    NoUserClaim,
}

/// Verifies tokens of one stage.
#[derive(Clone)]
pub struct JwtVerifier {
    options: Arc<Jwt>,
    sources: Vec<Source>,
}

#[derive(Clone)]
struct Source {
    algorithms: Arc<[Algorithm]>,
    keys: Keys,
}

#[derive(Clone)]
enum Keys {
    Secret(Arc<VerifyingKey>),
    Set(Option<KeySet>),
}

impl JwtVerifier {
    /// A verifier with the options of a policy and its keys, which take the place of [`Jwt::keys`].
    ///
    /// # Errors
    /// Every problem of the configuration, see [`JwtConfigError`]. No secret is in them.
    pub fn new(options: &Jwt, keys: Vec<KeySource>) -> Result<Self, Vec<JwtConfigError>> {
        let mut errors = Vec::new();
        if keys.is_empty() {
            errors.push(JwtConfigError::NoKeys);
        }
        if options.leeway > MAX_LEEWAY {
            errors.push(JwtConfigError::Leeway { leeway: options.leeway });
        }
        if options.claims.user.is_empty() {
            errors.push(JwtConfigError::NoUserClaim);
        }
        let sources = keys
            .into_iter()
            .enumerate()
            .map(|(key, source)| Source::new(key, source, options.allow_weak_secret, &mut errors))
            .collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        // The keys of the policy stay out, so that no second copy of a secret lives as long as the verifier.
        let options = Jwt { keys: Vec::new(), ..options.clone() };
        Ok(Self { options: Arc::new(options), sources })
    }

    /// The same verifier with another key set at position `key` of `jwt.keys`.
    ///
    /// # Errors
    /// [`JwtConfigError::NotASet`] when there is none, [`JwtConfigError::WeakSecret`] when the set has a weak symmetric
    /// key that the configuration would use; keep the set before it in both cases.
    pub fn with_set(&self, key: usize, set: KeySet) -> Result<Self, JwtConfigError> {
        let mut next = self.clone();
        let Some(source) = next.sources.get_mut(key) else { return Err(JwtConfigError::NotASet { key }) };
        let Keys::Set(present) = &mut source.keys else { return Err(JwtConfigError::NotASet { key }) };
        check_set(key, &set.jwks, &source.algorithms, self.options.allow_weak_secret)?;
        *present = Some(set);
        Ok(next)
    }

    /// The key set at position `key`, if it has been fetched.
    pub fn set(&self, key: usize) -> Option<&KeySet> {
        match &self.sources.get(key)?.keys {
            Keys::Set(set) => set.as_ref(),
            Keys::Secret(_) => None,
        }
    }

    /// Verifies `token` at the time `now_ms`, in milliseconds since 1970.
    ///
    /// A token is valid from `nbf - leeway` and `iat - leeway` until just before `exp + leeway`.
    ///
    /// # Errors
    /// [`JwtRefusal`] says which check failed. The order is that of the decision table, so a token that is forged and
    /// expired is reported as forged.
    pub fn verify(&self, token: &str, now_ms: u64) -> Result<VerifiedJwt, JwtRefusal> {
        let unverified = Unverified::parse(token)?;
        let refuse = |reason| unverified.refuse(reason);
        let algorithm = Algorithm::from_name(&unverified.algorithm)
            .ok_or_else(|| refuse(JwtReason::AlgorithmNotAllowed))?;
        let candidates = self.candidates(algorithm, unverified.kid.as_deref()).map_err(refuse)?;
        // No early end: which key fits must not show in the time.
        let mut is_verified = false;
        for key in candidates {
            is_verified |= key.verify(algorithm, unverified.signing_input.as_bytes(), &unverified.signature);
        }
        if !is_verified {
            return Err(refuse(JwtReason::Signature));
        }
        let exp = claims::check(&self.options, &unverified.claims, now_ms).map_err(refuse)?;
        Ok(VerifiedJwt::new(&self.options, unverified.claims, exp))
    }

    /// Signs `claims` with the first HMAC secret and the first algorithm of that key.
    ///
    /// # Errors
    /// [`JwtSignError::NoSecret`] if all keys are key sets.
    pub fn sign(&self, claims: &Map<String, Value>) -> Result<Secret, JwtSignError> {
        let signer = self.sources.iter().find_map(|source| match &source.keys {
            Keys::Secret(key) => Some((key.as_ref(), *source.algorithms.first()?)),
            Keys::Set(_) => None,
        });
        match signer {
            Some((VerifyingKey::Hmac(secret), algorithm)) => sign_hmac(secret, algorithm, claims),
            _ => Err(JwtSignError::NoSecret),
        }
    }

    /// Every key that may have signed a token with this header, or why there is none.
    fn candidates<'a>(
        &'a self,
        algorithm: Algorithm,
        kid: Option<&'a str>,
    ) -> Result<Vec<&'a VerifyingKey>, JwtReason> {
        let mut candidates = Vec::new();
        let mut is_permitted = false;
        let mut is_kid_known = false;
        let mut is_set_absent = false;
        let mut fetched_at = None;
        for source in &self.sources {
            let is_listed = source.algorithms.contains(&algorithm);
            is_permitted |= is_listed;
            match &source.keys {
                Keys::Secret(key) => candidates.extend(is_listed.then_some(key.as_ref())),
                Keys::Set(set) => {
                    let set = set.as_ref();
                    is_kid_known |= kid.is_some_and(|kid| set.is_some_and(|set| set.jwks.has_kid(kid)));
                    if !is_listed {
                        continue;
                    }
                    is_set_absent |= set.is_none_or(|set| set.jwks.is_empty());
                    fetched_at = fetched_at.max(set.map(|set| set.fetched_at));
                    candidates.extend(set.into_iter().flat_map(|set| set.jwks.candidates(kid, algorithm)));
                }
            }
        }
        if !candidates.is_empty() {
            Ok(candidates)
        } else if !is_permitted {
            Err(JwtReason::AlgorithmNotAllowed)
        } else if is_set_absent {
            Err(JwtReason::JwksUnreachable)
        } else if is_kid_known {
            // The key is there, and either it or its configuration is for other algorithms.
            Err(JwtReason::AlgorithmNotAllowed)
        } else {
            Err(JwtReason::UnknownKey { fetched_at })
        }
    }
}

impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVerifier").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: &dyn fmt::Debug = match &self.keys {
            Keys::Secret(key) => key,
            Keys::Set(set) => set,
        };
        f.debug_struct("Source").field("algorithms", &self.algorithms).field("keys", keys).finish()
    }
}

impl Source {
    /// Every problem goes into `errors`; what is answered is of use only if there is none.
    fn new(key: usize, source: KeySource, allow_weak: bool, errors: &mut Vec<JwtConfigError>) -> Self {
        if source.algorithms.is_empty() {
            errors.push(JwtConfigError::NoAlgorithms { key });
        }
        let mut algorithms = Vec::new();
        for name in source.algorithms {
            match Algorithm::from_name(&name) {
                Some(algorithm) => algorithms.push(algorithm),
                None => errors.push(JwtConfigError::UnknownAlgorithm { key, name }),
            }
        }
        let keys = match source.keys {
            SourceKeys::Secret(secret) => {
                let not_hmac = algorithms.iter().filter(|algorithm| !algorithm.is_hmac());
                errors.extend(not_hmac.map(|&algorithm| JwtConfigError::NotHmac { key, algorithm }));
                let bytes = secret.expose().as_bytes();
                if bytes.is_empty() {
                    errors.push(JwtConfigError::EmptySecret { key });
                } else if let Some(problem) = WeakSecret::find(bytes)
                    && !allow_weak
                {
                    errors.push(JwtConfigError::WeakSecret { key, problem });
                }
                Keys::Secret(Arc::new(VerifyingKey::Hmac(Zeroizing::new(bytes.to_vec()))))
            }
            SourceKeys::Set(set) => {
                if let Some(set) = &set {
                    errors.extend(check_set(key, &set.jwks, &algorithms, allow_weak).err());
                }
                Keys::Set(set)
            }
        };
        Self { algorithms: algorithms.into(), keys }
    }
}

/// Whether a verifier takes a key set at position `key`. A weak symmetric key matters only where HMAC is permitted.
///
/// # Errors
/// [`JwtConfigError::WeakSecret`]
pub fn check_set(
    key: usize,
    jwks: &Jwks,
    algorithms: &[Algorithm],
    allow_weak: bool,
) -> Result<(), JwtConfigError> {
    if allow_weak || !algorithms.iter().any(|algorithm| algorithm.is_hmac()) {
        return Ok(());
    }
    jwks.weak_secret().map_or(Ok(()), |problem| Err(JwtConfigError::WeakSecret { key, problem }))
}

/// A token that every check has passed.
#[derive(Clone)]
pub struct VerifiedJwt {
    user: String,
    session: Option<String>,
    roles: Vec<String>,
    has_default_role: bool,
    token_id: Option<String>,
    expires_at: Option<u64>,
    /// Names of the top-level claims that became members of the identity.
    converted: Vec<String>,
    claims: Map<String, Value>,
}

impl VerifiedJwt {
    fn new(options: &Jwt, claims: Map<String, Value>, exp: Option<i64>) -> Self {
        let names = &options.claims;
        let id = |name: &str| claims::find(&claims, name).and_then(claims::id_text);
        let leeway = i64::try_from(options.leeway.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let (roles, has_default_role) = claims::roles(options, &claims);
        Self {
            user: claims::user(names, &claims).unwrap_or_default(), // `claims::check` has seen it
            session: Some(names.session.as_str()).filter(|name| !name.is_empty()).and_then(id),
            roles,
            has_default_role,
            token_id: id("jti"),
            expires_at: exp.map(|exp| u64::try_from(exp.saturating_add(leeway)).unwrap_or(0)),
            converted: [&names.user, &names.roles, &names.session]
                .into_iter()
                .chain(&names.user_fallback)
                .cloned()
                .collect(),
            claims,
        }
    }

    /// The user's id; a number in decimal.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The roles, or the default role.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// `jti`, by which a single token can be revoked (S3-17).
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// `exp + leeway` in milliseconds since 1970: from then on [`JwtVerifier::verify`] refuses the token, and a
    /// connection that was opened with it is to be closed if the policy says so (S3-16).
    pub fn expires_at(&self) -> Option<u64> {
        self.expires_at
    }

    /// All claims as they are in the token, numbers as numbers.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Who that is. The identity's claims are those of the token without `exp`, `nbf`, `iat`, `jti` and what became
    /// user, roles and session; its `expires_at` is [`VerifiedJwt::expires_at`], leeway included.
    pub fn into_identity(self) -> Identity {
        let Self { user, session, roles, has_default_role, token_id, expires_at, converted, claims } = self;
        let claims: BTreeMap<String, Value> = claims
            .into_iter()
            .filter(|(name, _)| !claims::REGISTERED.contains(&name.as_str()) && !converted.contains(name))
            .collect();
        Identity {
            user: Some(user.into()),
            session: session.map(Into::into),
            auth: AuthKind::Jwt,
            roles,
            has_default_role,
            claims,
            expires_at,
            channels: None,
            token_id,
        }
    }
}

impl fmt::Debug for VerifiedJwt {
    /// Claims are about people: only their names are printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedJwt")
            .field("expires_at", &self.expires_at)
            .field("claims", &self.claims.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
