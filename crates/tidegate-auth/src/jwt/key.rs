//! Keys that verify tokens, and which secrets are too weak to be one.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RsaParameters,
    RsaPublicKeyComponents,
};
use zeroize::Zeroizing;

use super::algorithm::Algorithm;

/// Fewest bytes of an HMAC secret that is taken without `allow_weak_secret`. Source: S3-10; RFC 7518, section 3.2.
pub const MIN_SECRET: usize = 32;

/// Fewest different bytes in a secret of at least [`MIN_SECRET`]: a random one in base 10 has nine or ten.
const MIN_DIFFERENT_BYTES: usize = 5;

/// Secrets that can be read in manuals and tutorials and are long enough to be taken for real ones.
///
/// Compared without case. Source: jwt.io (present and earlier samples), manuals of FastAPI, Supabase and Spring, the
/// key of RFC 7515, appendix A.1.
const SAMPLES: &[&str] = &[
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-384-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    "qwertyuiopasdfghjklzxcvbnm123456",
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "404e635266556a586e3272357538782f413f4428472b4b6250645367566b5970",
    "aym1sysppbydfgzld3umj1qzkobwvmkoqq-estjqlr_t-1qs0gzh75aktmn3yj0ips4hcguutwjazzr1z9caow",
    "0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "abcdefghijklmnopqrstuvwxyz123456",
    "abcdefghijklmnopqrstuvwxyz012345",
    "12345678901234567890123456789012",
];

/// What only a placeholder contains. Compared without case and with `_` and blanks as `-`.
const PLACEHOLDERS: &[&str] = &[
    "secret-key",
    "your-secret",
    "your-super-secret",
    "yoursecret",
    "my-secret",
    "mysecret",
    "super-secret",
    "supersecret",
    "256-bit-secret",
    "384-bit-secret",
    "512-bit-secret",
    "changeme",
    "change-me",
    "change-this",
    "changethis",
    "change-in-production",
    "replace-me",
    "replace-this",
    "django-insecure-",
    "insecure-secret",
    "at-least-32-characters",
    "dont-use-in-production",
];

/// Why a secret is not taken. It says nothing of the secret but this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakSecret {
    /// Anybody can try all texts of that length, or it is a word.
    #[error("the secret has fewer than {MIN_SECRET} bytes")]
    Short,
    /// It is in a manual, or it was to be replaced.
    #[error("the secret is a published sample or a placeholder")]
    Sample,
    /// It repeats a few characters.
    #[error("the secret is made of fewer than {MIN_DIFFERENT_BYTES} different characters")]
    Repetitive,
}

impl WeakSecret {
    /// What is wrong with `secret`, if anything.
    pub fn find(secret: &[u8]) -> Option<Self> {
        if secret.len() < MIN_SECRET {
            return Some(Self::Short);
        }
        let different: std::collections::BTreeSet<&u8> = secret.iter().collect();
        if different.len() < MIN_DIFFERENT_BYTES {
            return Some(Self::Repetitive);
        }
        let text = Zeroizing::new(String::from_utf8_lossy(secret).to_ascii_lowercase());
        let words = Zeroizing::new(text.replace(['_', ' '], "-"));
        let is_sample = SAMPLES.contains(&text.trim())
            || PLACEHOLDERS.iter().any(|placeholder| words.contains(placeholder));
        is_sample.then_some(Self::Sample)
    }
}

/// A key that verifies signatures of one family of algorithms.
#[derive(Clone)]
pub(crate) enum VerifyingKey {
    /// HMAC: any of its three algorithms.
    Hmac(Zeroizing<Vec<u8>>),
    /// RSA: modulus and exponent, big-endian without zeros in front.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// A point of P-256.
    P256(ParsedPublicKey),
    /// A point of P-384.
    P384(ParsedPublicKey),
    /// A point of Ed25519.
    Ed25519(ParsedPublicKey),
}

impl VerifyingKey {
    /// An RSA key of 2,048 to 8,192 bits, the range of every RSA algorithm here; `None` for any other.
    pub(crate) fn rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        let strip = |bytes: &[u8]| {
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            bytes.get(zeros..).unwrap_or_default().to_vec()
        };
        let (n, e) = (strip(n), strip(e));
        let n_bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        if !(2_048..=8_192).contains(&n_bits) {
            return None;
        }
        // Whatever the library does not take as a key would refuse every token later, without a reason.
        RsaPublicKeyComponents { n: &n, e: &e }
            .to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256)
            .ok()?;
        Some(Self::Rsa { n, e })
    }

    /// A point of P-256 or P-384, by the length of its coordinates; `None` if it is not on the curve.
    pub(crate) fn ec(x: &[u8], y: &[u8], coordinate: usize) -> Option<Self> {
        if x.len() != coordinate || y.len() != coordinate {
            return None;
        }
        // Uncompressed form of SEC 1, section 2.3.3.
        let point = [&[4], x, y].concat();
        match coordinate {
            32 => Some(Self::P256(ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?)),
            48 => Some(Self::P384(ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).ok()?)),
            _ => None,
        }
    }

    /// A public key of Ed25519.
    pub(crate) fn ed25519(x: &[u8]) -> Option<Self> {
        if x.len() != 32 {
            return None;
        }
        Some(Self::Ed25519(ParsedPublicKey::new(&ED25519, x).ok()?))
    }

    /// Whether signatures of `algorithm` are made with keys of this kind. A public key never serves as HMAC secret.
    pub(crate) fn is_for(&self, algorithm: Algorithm) -> bool {
        match self {
            Self::Hmac(_) => algorithm.is_hmac(),
            Self::Rsa { .. } => rsa_parameters(algorithm).is_some(),
            Self::P256(_) => algorithm == Algorithm::Es256,
            Self::P384(_) => algorithm == Algorithm::Es384,
            Self::Ed25519(_) => algorithm == Algorithm::EdDsa,
        }
    }

    /// Whether `signature` is that of `message`. HMACs are compared in constant time (S3-15).
    pub(crate) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.is_for(algorithm) {
            return false;
        }
        match self {
            Self::Hmac(secret) => algorithm.as_hmac().is_some_and(|algorithm| {
                hmac::verify(&hmac::Key::new(algorithm, secret), message, signature).is_ok()
            }),
            Self::Rsa { n, e } => rsa_parameters(algorithm).is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }),
            Self::P256(key) | Self::P384(key) | Self::Ed25519(key) => {
                key.verify_sig(message, signature).is_ok()
            }
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hmac(_) => "Hmac(****)",
            Self::Rsa { .. } => "Rsa",
            Self::P256(_) => "P256",
            Self::P384(_) => "P384",
            Self::Ed25519(_) => "Ed25519",
        })
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // S3-10: a symmetric secret shorter than 32 bytes, or a published sample, is weak.
    #[test]
    fn short_published_and_repetitive_secrets_are_weak() {
        for secret in ["", "secret", "changeme", "your-256-bit-secret", &"k9Zq2".repeat(6)] {
            assert_eq!(WeakSecret::find(secret.as_bytes()), Some(WeakSecret::Short), "{secret}");
        }
        for secret in [
            "a-string-secret-at-least-256-bits-long",
            "your-super-secret-jwt-token-with-at-least-32-characters-long",
            "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
            "404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970",
            "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
            "django-insecure-8#k2l3j4h5g6f7d8s9a0qwertyuiop",
            "YOUR_SECRET_KEY_CHANGE_IN_PRODUCTION_PLEASE",
            "please change me before you go live 1234",
        ] {
            assert_eq!(WeakSecret::find(secret.as_bytes()), Some(WeakSecret::Sample), "{secret}");
        }
        assert_eq!(WeakSecret::find(&[b'a'; 64]), Some(WeakSecret::Repetitive));
    }

    #[test]
    fn random_secrets_are_strong() {
        for _ in 0..1_000 {
            let mut bytes = [0; 32];
            aws_lc_rs::rand::fill(&mut bytes).unwrap();
            assert_eq!(WeakSecret::find(&bytes), None);
            assert_eq!(WeakSecret::find(hex::encode(bytes).as_bytes()), None);
        }
    }

    #[test]
    fn keys_do_not_print() {
        let key = VerifyingKey::Hmac(Zeroizing::new(b"hunter2".to_vec()));
        assert_eq!(format!("{key:?}"), "Hmac(****)");
    }
}
