//! Fresh identifiers and time texts.

use jiff::Timestamp;

use crate::error::ApiError;

const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Length of an API and VPC link id, in characters.
pub(crate) const LONG: usize = 10;

/// Length of every other id, in characters.
pub(crate) const SHORT: usize = 7;

/// `length` characters `[a-z0-9]`, the first one a letter, that `is_taken` does not know.
///
/// # Errors
/// 500 when the system has no randomness.
pub(crate) fn fresh(length: usize, is_taken: impl Fn(&str) -> bool) -> Result<String, ApiError> {
    loop {
        let mut id = String::with_capacity(length);
        while id.len() < length {
            let mut bytes = [0_u8; 32];
            fill(&mut bytes)?;
            for byte in bytes {
                // 252 is the largest multiple of 36 in a byte: no letter is likelier than another.
                let symbol = char::from(ALPHABET[usize::from(byte % 36)]);
                let fits = byte < 252 && !(id.is_empty() && symbol.is_ascii_digit());
                if fits && id.len() < length {
                    id.push(symbol);
                }
            }
        }
        if !is_taken(&id) {
            return Ok(id);
        }
    }
}

/// UUID v4 text, as `x-amzn-RequestId` has it.
///
/// # Errors
/// 500 when the system has no randomness.
pub(crate) fn request_id() -> Result<String, ApiError> {
    let mut bytes = [0_u8; 16];
    fill(&mut bytes)?;
    let value = u128::from_be_bytes(bytes);
    let value = (value & !(0xf << 76)) | (0x4 << 76);
    let value = (value & !(0x3 << 62)) | (0x2 << 62);
    let hex = format!("{value:032x}");
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

fn fill(bytes: &mut [u8]) -> Result<(), ApiError> {
    getrandom::fill(bytes).map_err(|error| {
        tracing::error!(%error, diag = "auth.internal", "no randomness");
        ApiError::internal()
    })
}

/// ISO 8601 text in whole seconds: `2025-01-15T12:00:00Z`.
pub(crate) fn timestamp(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// Whether `id` may be chosen as an API id: a lower-case DNS label of at most [`crate::limits::API_ID`] characters.
pub(crate) fn is_api_id(id: &str) -> bool {
    (1..=crate::limits::API_ID).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !id.starts_with('-')
        && !id.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_their_form() {
        for _ in 0..500 {
            let id = fresh(SHORT, |_| false).expect("randomness");
            assert_eq!(id.len(), 7);
            assert!(is_api_id(&id) && id.as_bytes()[0].is_ascii_lowercase(), "{id}");
            let uuid = request_id().expect("randomness");
            assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"), "{uuid}");
            assert!("89ab".contains(&uuid[19..20]), "{uuid}");
        }
    }

    #[test]
    fn times_are_whole_seconds() {
        let time: Timestamp = "2025-01-15T12:00:00.987Z".parse().expect("a time");
        assert_eq!(timestamp(time), "2025-01-15T12:00:00Z");
    }
}
