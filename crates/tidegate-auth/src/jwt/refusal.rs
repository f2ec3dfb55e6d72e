//! Why a token was refused: the diagnosis, the one text for the client, and facts for the operator.
//!
//! Facts never hold a token, a part of one or the value of a claim. From a token whose signature has not been
//! verified they hold what S3-14 permits: `alg`, `kid`, three times and the names of the claims, each cut to a bound.

use std::fmt;

use serde_json::{Map, Value};

/// Longest `alg`, `kid` or name that a fact holds, in characters. Source: our choice.
const MAX_FACT: usize = 64;

/// Most names of claims that a fact holds. Source: our choice.
const MAX_NAMES: usize = 32;

/// A refused token, or none.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct JwtRefusal {
    /// Why.
    pub reason: JwtReason,
    /// What the token said about itself, as far as it could be read.
    pub token: Option<Box<TokenFacts>>,
}

/// Why a token is refused. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtReason {
    /// No source has one.
    #[error("no token")]
    Missing,
    /// No source has one, but something that looks like one is elsewhere.
    #[error("no token where it is looked for, but one in {0}")]
    WrongPlace(Place),
    /// Two sources hold different tokens.
    #[error("different tokens in {first} and {second}")]
    Ambiguous {
        /// The first source.
        first: Place,
        /// The first that differs from it.
        second: Place,
    },
    /// Over [`super::MAX_TOKEN`].
    #[error("the token has {length} bytes")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// No JSON Web Token.
    #[error("not a JSON Web Token: {part}")]
    Malformed {
        /// What could not be read.
        part: MalformedPart,
        /// The mistake that was probably made.
        hint: Option<MalformedHint>,
    },
    /// `none`, an unknown one, or one that the selected key is not configured for.
    #[error("the algorithm is not permitted")]
    AlgorithmNotAllowed,
    /// No key has this `kid`, or none fits the algorithm.
    #[error("no key has this id")]
    UnknownKey {
        /// When the key set was fetched last; `None` for sets without a time.
        fetched_at: Option<u64>,
    },
    /// The only keys that could verify it were never fetched.
    #[error("the key set could not be fetched")]
    JwksUnreachable,
    /// No key verifies it.
    #[error("the signature is wrong")]
    Signature,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired {
        /// `exp`.
        exp: i64,
        /// The time of the check.
        now: u64,
        /// The configured leeway in milliseconds.
        leeway: u64,
    },
    /// `nbf` or `iat` is in the future.
    #[error("the token is not valid yet: {claim}")]
    NotYetValid {
        /// `nbf` or `iat`.
        claim: &'static str,
        /// Its value.
        from: i64,
        /// The time of the check.
        now: u64,
        /// The configured leeway in milliseconds.
        leeway: u64,
    },
    /// `iss` differs.
    #[error("the issuer is another one")]
    Issuer {
        /// What is configured.
        expected: String,
    },
    /// `aud` lacks what is configured.
    #[error("the audience is another one")]
    Audience {
        /// What is configured.
        expected: String,
    },
    /// Claims that are absent or empty.
    #[error("claims are missing: {}", names.join(", "))]
    ClaimsMissing {
        /// Their names, which are the configured ones.
        names: Vec<String>,
    },
}

/// A place in a handshake. It has a name and never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A query parameter.
    Query(String),
    /// A header.
    Header(String),
    /// `Sec-WebSocket-Protocol`.
    Subprotocol,
    /// A cookie.
    Cookie(String),
}

/// The part of a token that could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedPart {
    /// Not two dots.
    #[error("it has {n_parts} parts and not 3")]
    Parts {
        /// How many it has.
        n_parts: usize,
    },
    /// The first part is no base64url without padding.
    #[error("the header is no base64url")]
    HeaderEncoding,
    /// The first part holds no JSON object with a text `alg`.
    #[error("the header is no JSON object with an algorithm")]
    Header,
    /// `crit` names extensions, of which we know none.
    #[error("the header has critical extensions")]
    CriticalHeader,
    /// The second part is no base64url without padding.
    #[error("the payload is no base64url")]
    PayloadEncoding,
    /// The second part holds no JSON object.
    #[error("the payload is no JSON object")]
    Payload,
    /// The third part is no base64url without padding.
    #[error("the signature is no base64url")]
    SignatureEncoding,
    /// A claim of the standard is not of its type.
    #[error("the claim {0} is of another type")]
    Claim(&'static str),
}

/// A usual mistake that leads to a malformed token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MalformedHint {
    /// `Bearer ` stands before the token.
    BearerPrefix,
    /// The token is in quotes.
    Quotes,
    /// The token was URL-encoded twice.
    EncodedTwice,
    /// White space is around or in the token.
    WhiteSpace,
    /// `undefined`, `null`, `[object Object]` or an unfilled template.
    Placeholder,
    /// The plain base64 alphabet, or padding.
    PlainBase64,
    /// The token is encrypted (five parts).
    Encrypted,
    /// The beginning is a token's, the end is missing.
    CutOff,
}

/// What a token says about itself. Nothing here has been verified unless the reason implies it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenFacts {
    /// Its length in bytes.
    pub length: usize,
    /// Header `alg`.
    pub algorithm: String,
    /// Header `kid`.
    pub kid: Option<String>,
    /// `exp` in milliseconds since 1970.
    pub exp: Option<i64>,
    /// `nbf` in milliseconds since 1970.
    pub nbf: Option<i64>,
    /// `iat` in milliseconds since 1970.
    pub iat: Option<i64>,
    /// Names of its claims, the first 32 of them.
    pub claim_names: Vec<String>,
}

impl JwtRefusal {
    pub(crate) fn new(reason: JwtReason) -> Self {
        Self { reason, token: None }
    }

    /// The id of the catalogue.
    pub fn diagnosis(&self) -> &'static str {
        match &self.reason {
            JwtReason::Missing => "jwt.missing",
            JwtReason::WrongPlace(_) => "jwt.wrong-place",
            JwtReason::Ambiguous { .. } => "jwt.ambiguous",
            JwtReason::TooLong { .. } => "jwt.too-long",
            JwtReason::Malformed { .. } => "jwt.malformed",
            JwtReason::AlgorithmNotAllowed => "jwt.alg-not-allowed",
            JwtReason::UnknownKey { .. } => "jwt.unknown-key",
            JwtReason::JwksUnreachable => "jwt.jwks-unreachable",
            JwtReason::Signature => "jwt.signature",
            JwtReason::Expired { .. } => "jwt.expired",
            JwtReason::NotYetValid { .. } => "jwt.not-yet-valid",
            JwtReason::Issuer { .. } => "jwt.issuer",
            JwtReason::Audience { .. } => "jwt.audience",
            JwtReason::ClaimsMissing { .. } => "jwt.claims-missing",
        }
    }

    /// All that the client is told.
    pub fn client_text(&self) -> &'static str {
        match &self.reason {
            JwtReason::Missing | JwtReason::WrongPlace(_) => "Missing token",
            JwtReason::Expired { .. } => "Token expired",
            JwtReason::NotYetValid { .. } => "Token not yet valid",
            JwtReason::ClaimsMissing { .. } => "Invalid token payload",
            JwtReason::JwksUnreachable => "Service unavailable",
            _ => "Invalid token",
        }
    }

    /// Status of the refused handshake: 503 when the fault is not the client's, else 403.
    pub fn status(&self) -> u16 {
        if self.reason == JwtReason::JwksUnreachable { 503 } else { 403 }
    }

    /// Whether the client brought no token to any place that is read. Only then may a policy that requires no proof
    /// of identity let it in as nobody; any other refusal stands.
    pub fn is_missing(&self) -> bool {
        matches!(self.reason, JwtReason::Missing | JwtReason::WrongPlace(_))
    }

    /// Whether fetching the key sets again may help (at most every 30 s, S3-11).
    pub fn needs_refresh(&self) -> bool {
        matches!(self.reason, JwtReason::UnknownKey { .. } | JwtReason::JwksUnreachable)
    }

    /// What an operator may see, as names and texts for log and journal.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        match &self.reason {
            JwtReason::Missing | JwtReason::Signature | JwtReason::AlgorithmNotAllowed => {}
            JwtReason::WrongPlace(place) => facts.push(("place", place.to_string())),
            JwtReason::Ambiguous { first, second } => facts.push(("places", format!("{first}, {second}"))),
            JwtReason::TooLong { length } => facts.push(("length", length.to_string())),
            JwtReason::Malformed { part, hint } => {
                facts.push(("part", part.to_string()));
                facts.extend(hint.map(|hint| ("hint", hint.to_string())));
            }
            JwtReason::UnknownKey { fetched_at } => {
                facts.extend(fetched_at.map(|at| ("keys_fetched_at", at.to_string())));
            }
            JwtReason::JwksUnreachable => {}
            JwtReason::Expired { now, leeway, .. } => {
                facts.push(("now", now.to_string()));
                facts.push(("leeway", leeway.to_string()));
            }
            JwtReason::NotYetValid { claim, from, now, leeway } => {
                let ahead = from.saturating_sub(i64::try_from(*now).unwrap_or(i64::MAX));
                facts.push(("claim", (*claim).to_owned()));
                facts.push(("ahead", ahead.to_string()));
                facts.push(("now", now.to_string()));
                facts.push(("leeway", leeway.to_string()));
            }
            JwtReason::Issuer { expected } => {
                facts.push(("claim", "iss".to_owned()));
                facts.push(("expected", expected.clone()));
            }
            JwtReason::Audience { expected } => {
                facts.push(("claim", "aud".to_owned()));
                facts.push(("expected", expected.clone()));
            }
            JwtReason::ClaimsMissing { names } => facts.push(("missing", names.join(", "))),
        }
        if let Some(token) = &self.token {
            facts.push(("token_length", token.length.to_string()));
            facts.push(("alg", token.algorithm.clone()));
            facts.extend(token.kid.clone().map(|kid| ("kid", kid)));
            facts.extend(token.exp.map(|exp| ("exp", exp.to_string())));
            facts.extend(token.nbf.map(|nbf| ("nbf", nbf.to_string())));
            facts.extend(token.iat.map(|iat| ("iat", iat.to_string())));
            facts.push(("claims", token.claim_names.join(", ")));
        }
        facts
    }
}

impl TokenFacts {
    pub(crate) fn of(length: usize, algorithm: &str, kid: Option<&str>, claims: &Map<String, Value>) -> Self {
        let time = |name: &str| super::claims::milliseconds(claims.get(name)?);
        Self {
            length,
            algorithm: printable(algorithm),
            kid: kid.map(printable),
            exp: time("exp"),
            nbf: time("nbf"),
            iat: time("iat"),
            claim_names: claims.keys().take(MAX_NAMES).map(|name| printable(name)).collect(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(name) => write!(f, "query parameter {name}"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Subprotocol => f.write_str("header sec-websocket-protocol"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
        }
    }
}

impl fmt::Display for MalformedHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BearerPrefix => "it begins with `Bearer `",
            Self::Quotes => "it is in quotes",
            Self::EncodedTwice => "it was URL-encoded twice",
            Self::WhiteSpace => "it has white space",
            Self::Placeholder => "it is a placeholder such as `undefined`",
            Self::PlainBase64 => "it is plain base64 or has padding",
            Self::Encrypted => "it is encrypted",
            Self::CutOff => "its end is missing",
        })
    }
}

/// `text` for a log: at most [`MAX_FACT`] characters, control characters replaced.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(MAX_FACT).map(|char| if char.is_control() { '?' } else { char }).collect()
}
