//! The keys of the opening handshake, RFC 6455 sections 4.1 and 4.2.2.
//!
//! The HTTP head itself is read and written by the caller.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Appended to the key before it is hashed. Source: RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The `Sec-WebSocket-Accept` value for a `Sec-WebSocket-Key`, which is taken as it is.
pub fn accept_key(key: &str) -> String {
    // SHA-1 proves only that the server read the key; nothing depends on its strength.
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(GUID);
    STANDARD.encode(context.finish())
}

/// A fresh `Sec-WebSocket-Key` for a client: 16 random bytes in base64.
///
/// # Panics
/// When the operating system has no random numbers.
pub fn new_key() -> String {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
    STANDARD.encode(nonce)
}

/// Whether `key` is the base64 form of 16 bytes, as a `Sec-WebSocket-Key` must be.
pub fn is_valid_key(key: &str) -> bool {
    // The length first: nothing is allocated for a hostile header.
    let mut nonce = [0; 18];
    key.len() == 24 && STANDARD.decode_slice(key, &mut nonce) == Ok(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_key_of_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn keys() {
        assert!(is_valid_key("dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(is_valid_key(&new_key()));
        assert_ne!(new_key(), new_key());
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "not base64 but 24 chars!",
            "dGhlIHNhbXBsZSBub25jZXM=",
        ] {
            assert!(!is_valid_key(key), "{key}");
        }
    }
}
