//! Regular expressions of templates, models, integration responses and JSONPath filters.
//!
//! The real service has Java's; here they are those of `regex-lite`, which always end in time that grows with
//! pattern times text. What Java has beyond them (look-around, back references, possessive quantifiers) is refused
//! when the expression is compiled. Classes such as `\d` and `\w` are ASCII, as in Java.

use regex_lite::{Regex, RegexBuilder};

/// Longest expression, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1024;

/// Largest compiled expression, in bytes: what keeps counted repetitions small.
const MAX_COMPILED_BYTES: usize = 64 * 1024;

/// A compiled expression, twice: to be found somewhere, and to fit the whole.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Box<str>,
    anywhere: Regex,
    whole: Regex,
}

/// The text is no expression that can be used here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid regular expression: {reason}")]
pub struct PatternError {
    /// For whoever wrote it.
    pub reason: String,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Pattern {
    /// Compiles an expression.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn compile(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_PATTERN_BYTES {
            let reason = format!("longer than {MAX_PATTERN_BYTES} bytes");
            return Err(PatternError { reason });
        }
        let build = |text: &str| {
            let built = RegexBuilder::new(text).size_limit(MAX_COMPILED_BYTES).nest_limit(40).build();
            built.map_err(|error| PatternError { reason: error.to_string() })
        };
        Ok(Self { anywhere: build(text)?, whole: build(&format!("\\A(?:{text})\\z"))?, text: text.into() })
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is found somewhere.
    pub fn is_found(&self, text: &str) -> bool {
        self.anywhere.is_match(text)
    }

    /// Whether the whole text fits.
    pub fn fits(&self, text: &str) -> bool {
        self.whole.is_match(text)
    }

    /// To be found somewhere.
    pub(crate) fn regex(&self) -> &Regex {
        &self.anywhere
    }

    /// What a search in a text of this length may cost, in steps of an evaluation.
    pub(crate) fn cost(&self, text: &str) -> u64 {
        1 + (text.len() as u64 * (self.text.len() as u64 + 8)) / 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_part_are_told_apart() {
        let pattern = Pattern::compile("4\\d\\d|5..").unwrap();
        assert!(pattern.fits("404") && pattern.fits("500") && !pattern.fits("4040") && !pattern.fits("200"));
        assert!(pattern.is_found("x404y"));
        assert!(Pattern::compile("(?i)not found").unwrap().fits("Not Found"));
        for bad in ["(", "a)(b", "(?=x)", "(a)\\1", &"x".repeat(2000), "(a{1000}){1000}"] {
            assert!(Pattern::compile(bad).is_err(), "{bad}");
        }
    }
}
