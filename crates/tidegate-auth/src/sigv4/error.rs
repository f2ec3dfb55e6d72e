//! Why a signature was refused: one variant for each answer that AWS gives, with its words.
//!
//! [`SignatureError::message`] is for the caller. `Display` and `Debug` are for logs and hold nothing of the
//! `Authorization` header, the query string or signed header values.

use super::date::AmzDate;
use crate::secret::Secret;

/// What AWS says about a wrong signature, before the canonical strings.
const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. \
    Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";

/// The reasons for which a signature does not identify a caller.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SignatureError {
    /// Neither an `Authorization` header nor signing parameters in the query string.
    #[error("request is not signed")]
    MissingAuthenticationToken,
    /// A signature is announced, but parts of it are missing or cannot be read.
    #[error("signature is incomplete")]
    IncompleteSignature {
        /// The caller's text; it repeats the `Authorization` header.
        message: Secret,
    },
    /// The access key id is not known here, or its session token is not the right one.
    #[error("access key is unknown")]
    UnrecognizedClient,
    /// The temporary credential has ended.
    #[error("session token has expired")]
    ExpiredToken,
    /// The signature is another than the one calculated here.
    #[error("signature does not match: {reason}")]
    Mismatch {
        /// Our best explanation.
        reason: MismatchReason,
        /// Canonical request and string to sign as AWS words them, only if the verifier explains mismatches.
        explanation: Option<Secret>,
    },
    /// The request's date is too long ago.
    #[error("signature expired: {date} is earlier than {limit}")]
    Expired {
        /// The request's date, `20250115T120000Z`.
        date: String,
        /// The earliest date that would have been accepted.
        limit: String,
        /// The present time.
        now: String,
        /// How long a signature is valid, in seconds.
        validity_seconds: i64,
    },
    /// The request's date is too far in the future.
    #[error("signature not yet current: {date} is later than {limit}")]
    NotYetCurrent {
        /// The request's date, `20250115T120000Z`.
        date: String,
        /// The latest date that would have been accepted.
        limit: String,
        /// The present time.
        now: String,
        /// By how much clocks may differ, in seconds.
        skew_seconds: i64,
    },
    /// The credential scope names another service.
    #[error("signed for another service than {expected}")]
    WrongService {
        /// The service of this listener.
        expected: String,
    },
    /// The credential scope names another region.
    #[error("signed for another region")]
    WrongRegion,
    /// The day in the credential scope is not the day of the request's date.
    #[error("credential scope has another day than the request")]
    ScopeDateMismatch {
        /// The day in the scope.
        scope_day: String,
        /// The request's date.
        date: String,
    },
}

/// What made a signature differ, as far as can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MismatchReason {
    /// Nothing but the signature differs: usually a wrong secret.
    #[error("wrong secret or changed request")]
    Signature,
    /// The signature would be right for another encoding of the same path, so something between rewrote it.
    #[error("path was decoded or encoded again on its way")]
    PathRewritten,
    /// `host` is not among the signed headers.
    #[error("host is not a signed header")]
    HostNotSigned,
    /// A header that is said to be signed did not arrive.
    #[error("a signed header is absent")]
    SignedHeaderAbsent,
    /// `x-amz-content-sha256` is signed, but is not the hash of the body.
    #[error("body does not have the signed hash")]
    PayloadHash,
}

impl SignatureError {
    /// The HTTP status of the answer: always 403.
    pub fn status(&self) -> u16 {
        403
    }

    /// The value of `x-amzn-ErrorType`.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::MissingAuthenticationToken => "MissingAuthenticationTokenException",
            Self::IncompleteSignature { .. } => "IncompleteSignatureException",
            Self::UnrecognizedClient => "UnrecognizedClientException",
            Self::ExpiredToken => "ExpiredTokenException",
            Self::Mismatch { .. }
            | Self::Expired { .. }
            | Self::NotYetCurrent { .. }
            | Self::WrongService { .. }
            | Self::WrongRegion
            | Self::ScopeDateMismatch { .. } => "InvalidSignatureException",
        }
    }

    /// The `message` of the answer, in the words of AWS. It may repeat what the caller sent: not for logs.
    pub fn message(&self) -> String {
        match self {
            Self::MissingAuthenticationToken => "Missing Authentication Token".to_owned(),
            Self::IncompleteSignature { message } => message.expose().to_owned(),
            Self::UnrecognizedClient => "The security token included in the request is invalid.".to_owned(),
            Self::ExpiredToken => "The security token included in the request is expired".to_owned(),
            Self::Mismatch { explanation: None, .. } => MISMATCH.to_owned(),
            Self::Mismatch { explanation: Some(text), .. } => format!("{MISMATCH}\n\n{}", text.expose()),
            Self::Expired { date, limit, now, validity_seconds } => {
                let validity = in_minutes(*validity_seconds);
                format!("Signature expired: {date} is now earlier than {limit} ({now} - {validity})")
            }
            Self::NotYetCurrent { date, limit, now, skew_seconds } => {
                let skew = in_minutes(*skew_seconds);
                format!("Signature not yet current: {date} is still later than {limit} ({now} + {skew})")
            }
            Self::WrongService { expected } => {
                format!("Credential should be scoped to correct service: '{expected}'.")
            }
            Self::WrongRegion => "Credential should be scoped to a valid region.".to_owned(),
            Self::ScopeDateMismatch { scope_day, date } => {
                let day = date.split('T').next().unwrap_or_default();
                format!(
                    "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                     '{scope_day}' != '{day}', from '{date}'."
                )
            }
        }
    }

    /// The diagnosis id of the catalogue.
    pub fn diagnosis(&self) -> &'static str {
        match self {
            Self::MissingAuthenticationToken => "management.unsigned",
            Self::UnrecognizedClient | Self::ExpiredToken => "management.unknown-key",
            Self::Expired { .. } | Self::NotYetCurrent { .. } => "management.clock-skew",
            Self::WrongService { .. } => "management.wrong-service",
            Self::WrongRegion => "management.wrong-region",
            Self::Mismatch { reason: MismatchReason::PathRewritten, .. } => "management.path-rewritten",
            Self::IncompleteSignature { .. } | Self::Mismatch { .. } | Self::ScopeDateMismatch { .. } => {
                "management.bad-signature"
            }
        }
    }

    pub(super) fn expired(date: &AmzDate, now: i64, validity_seconds: i64) -> Self {
        Self::Expired {
            date: date.as_str().to_owned(),
            limit: AmzDate::from_unix_seconds(now.saturating_sub(validity_seconds)).as_str().to_owned(),
            now: AmzDate::from_unix_seconds(now).as_str().to_owned(),
            validity_seconds,
        }
    }

    pub(super) fn not_yet_current(date: &AmzDate, now: i64, skew_seconds: i64) -> Self {
        Self::NotYetCurrent {
            date: date.as_str().to_owned(),
            limit: AmzDate::from_unix_seconds(now.saturating_add(skew_seconds)).as_str().to_owned(),
            now: AmzDate::from_unix_seconds(now).as_str().to_owned(),
            skew_seconds,
        }
    }

    pub(super) fn mismatch(reason: MismatchReason, explanation: Option<Secret>) -> Self {
        Self::Mismatch { reason, explanation }
    }
}

/// `5 min.`, or seconds where minutes would not be exact.
fn in_minutes(seconds: i64) -> String {
    if seconds % 60 == 0 { format!("{} min.", seconds / 60) } else { format!("{seconds} sec.") }
}
