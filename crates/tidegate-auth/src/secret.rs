//! A string that must not be printed: wiped when dropped, `****` in every format.
//!
//! The only way to the text is [`Secret::expose`], so a search for that word finds each place that uses a secret.

use std::fmt;

use zeroize::Zeroizing;

/// A secret text: a SigV4 secret key, a session token, a bearer key.
///
/// `Debug` and `Display` print `****`; the memory is overwritten with zeros on drop. There is no `PartialEq`:
/// compare with [`Secret::matches`].
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over `text` without a copy.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `candidate` is this secret; the time taken depends on the lengths only.
    pub fn matches(&self, candidate: &str) -> bool {
        is_equal(self.0.as_bytes(), candidate.as_bytes())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// Compares in constant time for equal lengths.
pub(crate) fn is_equal(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_stars() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "**** **** Some(****)");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn secrets_match_whole_texts_only() {
        let secret = Secret::new("hunter2");
        assert!(secret.matches("hunter2"));
        for other in ["", "hunter", "hunter22", "Hunter2"] {
            assert!(!secret.matches(other), "{other}");
        }
    }
}
