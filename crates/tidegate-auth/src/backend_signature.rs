//! Signed requests to a backend: the header `Tidegate-Signature`, which proves that a request came from this gateway,
//! is fresh, and was not changed on the way.
//!
//! ```text
//! Tidegate-Signature: t=1700000000,v1=5f8d...64 lower-case hexadecimal digits
//! ```
//!
//! `t` is the time in seconds since 1970; `v1` is HMAC-SHA-256, under the shared secret as it is written (UTF-8), of
//!
//! ```text
//! {t}.{method}.{path_and_query}.{connection_id}.{lower-case hexadecimal SHA-256 of the body}
//! ```
//!
//! with the method in upper case, path and query as on the wire (without the fragment; no `?` if there is no query),
//! and an empty connection id for a request that belongs to none. In Python a backend checks it in five lines:
//!
//! ```text
//! t, v1 = (part.split("=", 1)[1] for part in header.split(",")[:2])
//! body_hash = hashlib.sha256(body).hexdigest()
//! text = f"{t}.{method}.{path_and_query}.{connection_id}.{body_hash}"
//! expected = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
//! ok = hmac.compare_digest(v1, expected) and abs(time.time() - int(t)) <= 300
//! ```
//!
//! The text is read in one way only: time and method hold no dot, and from the right neither the body's hash nor a
//! connection id does, so the dots of a path cannot move a border.
//!
//! The module uses HMAC, SHA-256 and hexadecimal digits, and of this crate only the comparison in constant time.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;

use crate::secret::Secret;

/// The header, in lower case.
pub const TIDEGATE_SIGNATURE: &str = "tidegate-signature";

/// Most `v1` members that are looked at. Source: our choice; the gateway sends one.
const MAX_SIGNATURES: usize = 8;

/// Longest header that is read, in bytes: [`MAX_SIGNATURES`] members and room for others.
const MAX_HEADER: usize = 1_024;

/// What a signature covers, beside the time.
///
/// There is no `Debug`: a body is a payload.
#[derive(Clone, Copy)]
pub struct SignedRequest<'a> {
    /// `POST`, in upper case.
    pub method: &'a str,
    /// `/ws/?x=1`, as on the wire.
    pub path_and_query: &'a str,
    /// The connection, or empty.
    pub connection_id: &'a str,
    /// The body as on the wire, perhaps empty.
    pub body: &'a [u8],
}

/// Why a signature is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BackendSignatureError {
    /// Not `t={seconds},v1={hexadecimal digits}`.
    #[error("the signature header is malformed")]
    Malformed,
    /// The time differs by more than the tolerance: a replay, or clocks that differ.
    #[error("the signature is {age_s} s old")]
    Stale {
        /// Seconds; negative when it is from the future.
        age_s: i64,
    },
    /// None of the secrets made it.
    #[error("the signature is wrong")]
    Mismatch,
}

/// The value of [`TIDEGATE_SIGNATURE`] for a request sent at `timestamp_s`, in seconds since 1970.
pub fn sign_backend_request(secret: &Secret, timestamp_s: u64, request: SignedRequest<'_>) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let timestamp = timestamp_s.to_string();
    let signature = hmac::sign(&key, canonical(&timestamp, request).as_bytes());
    format!("t={timestamp},v1={}", hex::encode(signature))
}

/// Whether `header` is the signature of `request` under one of `secrets`, made within `tolerance_s` of `now_s`, before
/// or after it.
///
/// Members of the header other than `t` and `v1` are passed over, so that later versions can be added; of several `v1`
/// one must fit. Every secret is tried, each in constant time.
///
/// # Errors
/// [`BackendSignatureError`]. A wrong signature is reported before a wrong time, so that only who knows the secret
/// learns about clocks.
pub fn verify_backend_request(
    header: &str,
    secrets: &[Secret],
    now_s: u64,
    tolerance_s: u64,
    request: SignedRequest<'_>,
) -> Result<(), BackendSignatureError> {
    let (timestamp, signatures) = parse(header).ok_or(BackendSignatureError::Malformed)?;
    let made_s: u64 = timestamp.parse().map_err(|_| BackendSignatureError::Malformed)?;
    // The digits as they came are what was signed.
    let text = canonical(timestamp, request);
    let mut is_verified = false;
    for secret in secrets {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        for signature in &signatures {
            is_verified |= hmac::verify(&key, text.as_bytes(), signature).is_ok();
        }
    }
    if !is_verified {
        return Err(BackendSignatureError::Mismatch);
    }
    if now_s.abs_diff(made_s) > tolerance_s {
        let age = i128::from(now_s) - i128::from(made_s);
        let age_s = i64::try_from(age).unwrap_or(if age < 0 { i64::MIN } else { i64::MAX });
        return Err(BackendSignatureError::Stale { age_s });
    }
    Ok(())
}

fn canonical(timestamp: &str, request: SignedRequest<'_>) -> String {
    let SignedRequest { method, path_and_query, connection_id, body } = request;
    let body_hash = hex::encode(digest(&SHA256, body));
    format!("{timestamp}.{method}.{path_and_query}.{connection_id}.{body_hash}")
}

/// The one `t`, only digits, and the signatures.
fn parse(header: &str) -> Option<(&str, Vec<[u8; 32]>)> {
    if header.len() > MAX_HEADER {
        return None;
    }
    let mut timestamp = None;
    let mut signatures = Vec::new();
    for member in header.split(',') {
        match member.trim().split_once('=')? {
            ("t", value) => {
                let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                if !is_number || timestamp.replace(value).is_some() {
                    return None;
                }
            }
            ("v1", value) => {
                let mut signature = [0; 32];
                hex::decode_to_slice(value, &mut signature).ok()?;
                signatures.push(signature);
            }
            _ => {}
        }
    }
    let is_bounded = (1..=MAX_SIGNATURES).contains(&signatures.len());
    timestamp.filter(|_| is_bounded).map(|timestamp| (timestamp, signatures))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_700_000_000;
    const REQUEST: SignedRequest<'_> = SignedRequest {
        method: "POST",
        path_and_query: "/ws/?route=a.b",
        connection_id: "R0oXAdfD0kwCH6w=",
        body: br#"{"action":"join"}"#,
    };

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    fn verify(
        header: &str,
        secrets: &[&str],
        now_s: u64,
        request: SignedRequest<'_>,
    ) -> Result<(), BackendSignatureError> {
        let secrets: Vec<Secret> = secrets.iter().copied().map(Secret::new).collect();
        verify_backend_request(header, &secrets, now_s, 300, request)
    }

    /// Computed with the five lines of Python above. S0-97
    #[test]
    fn the_header_is_what_other_languages_compute() {
        assert_eq!(
            sign_backend_request(&secret("shared"), NOW, REQUEST),
            "t=1700000000,v1=c3aae46c892ff668c7e79199507bc6589b134051e68842687400fd63e126b27c"
        );
        let empty = SignedRequest { method: "GET", path_and_query: "/", connection_id: "", body: b"" };
        assert_eq!(
            sign_backend_request(&secret("shared"), NOW, empty),
            "t=1700000000,v1=c2562ac7cd2971cb140aae97a39a50936bb72fd0f96961de86b6384a9b079b16"
        );
    }

    // S0-97: over method, path, connection id, time and body hash.
    #[test]
    fn every_part_is_covered() {
        let header = sign_backend_request(&secret("shared"), NOW, REQUEST);
        assert_eq!(verify(&header, &["shared"], NOW, REQUEST), Ok(()));
        for changed in [
            SignedRequest { method: "PUT", ..REQUEST },
            SignedRequest { path_and_query: "/ws/?route=a.c", ..REQUEST },
            SignedRequest { connection_id: "R0oXAdfD0kwCH6w_", ..REQUEST },
            SignedRequest { body: b"{}", ..REQUEST },
        ] {
            assert_eq!(verify(&header, &["shared"], NOW, changed), Err(BackendSignatureError::Mismatch));
        }
        let later = header.replace("t=1700000000", "t=1700000001");
        assert_eq!(verify(&later, &["shared"], NOW, REQUEST), Err(BackendSignatureError::Mismatch));
        let same_time = header.replace("t=1700000000", "t=01700000000");
        assert_eq!(verify(&same_time, &["shared"], NOW, REQUEST), Err(BackendSignatureError::Mismatch));
    }

    // S0-97: a list of secrets for rotation.
    #[test]
    fn any_of_several_secrets_verifies() {
        let header = sign_backend_request(&secret("old"), NOW, REQUEST);
        assert_eq!(verify(&header, &["new", "old"], NOW, REQUEST), Ok(()));
        assert_eq!(verify(&header, &["new"], NOW, REQUEST), Err(BackendSignatureError::Mismatch));
        assert_eq!(verify(&header, &[], NOW, REQUEST), Err(BackendSignatureError::Mismatch));
        let both = format!("{header},v1={},v2=x", "0".repeat(64));
        assert_eq!(verify(&both, &["old"], NOW, REQUEST), Ok(()));
    }

    #[test]
    fn a_signature_holds_for_the_tolerance() {
        let header = sign_backend_request(&secret("shared"), NOW, REQUEST);
        for now_s in [NOW - 300, NOW, NOW + 300] {
            assert_eq!(verify(&header, &["shared"], now_s, REQUEST), Ok(()));
        }
        assert_eq!(
            verify(&header, &["shared"], NOW + 301, REQUEST),
            Err(BackendSignatureError::Stale { age_s: 301 })
        );
        assert_eq!(
            verify(&header, &["shared"], NOW - 301, REQUEST),
            Err(BackendSignatureError::Stale { age_s: -301 })
        );
        let far = sign_backend_request(&secret("shared"), u64::MAX, REQUEST);
        assert_eq!(
            verify(&far, &["shared"], 0, REQUEST),
            Err(BackendSignatureError::Stale { age_s: i64::MIN })
        );
    }

    #[test]
    fn malformed_headers_are_refused() {
        let v1 = "0".repeat(64);
        let many = format!("t=1{}", format!(",v1={v1}").repeat(9));
        for header in [
            "",
            "t=1",
            &format!("v1={v1}"),
            &format!("t=,v1={v1}"),
            &format!("t=-1,v1={v1}"),
            &format!("t=+1,v1={v1}"),
            &format!("t=1,t=2,v1={v1}"),
            &format!("t=99999999999999999999,v1={v1}"),
            &format!("t=1,v1={}", &v1[1..]),
            &format!("t=1,v1={v1},x"),
            &format!("t=1,v1={v1},x={}", "y".repeat(1_024)),
            &many,
        ] {
            assert_eq!(
                verify(header, &["shared"], 1, REQUEST),
                Err(BackendSignatureError::Malformed),
                "{header}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_header_panics_and_none_passes_by_chance(header in ".{0,120}", shape in "t=[0-9]{0,12},v1=[0-9a-f]{64}") {
            prop_assert!(verify(&header, &["shared"], NOW, REQUEST).is_err());
            prop_assert!(verify(&shape, &["shared"], NOW, REQUEST).is_err());
        }
    }
}
