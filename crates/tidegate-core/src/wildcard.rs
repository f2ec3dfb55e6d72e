//! Patterns with `*` and `?`, as policies and allow rules have them.

/// Whether the whole `text` fits `pattern`, in which `*` stands for any number of characters and `?` for one.
///
/// Only the last `*` is ever retried, because an earlier one that stopped at the first fit has left the most text
/// for the rest. So there are at most `pattern.len() * text.len()` steps, whatever the pattern, and no allocation.
/// `?` stands for one byte where the text is not ASCII; ARNs are ASCII.
pub fn is_match(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut pattern_idx, mut text_idx) = (0, 0);
    // Position after the last `*`, and where in the text that star ends for now.
    let mut retry: Option<(usize, usize)> = None;
    while let Some(&byte) = text.get(text_idx) {
        match pattern.get(pattern_idx) {
            Some(b'*') => {
                pattern_idx += 1;
                retry = Some((pattern_idx, text_idx));
            }
            Some(&wanted) if wanted == b'?' || wanted == byte => {
                pattern_idx += 1;
                text_idx += 1;
            }
            _ => {
                let Some((after_star, star_end)) = retry else { return false };
                pattern_idx = after_star;
                text_idx = star_end + 1;
                retry = Some((after_star, text_idx));
            }
        }
    }
    pattern.get(pattern_idx..).unwrap_or_default().iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_patterns_end_soon() {
        let text = "a".repeat(4_000);
        for pattern in
            ["*a".repeat(1_000) + "b", "a*".repeat(1_000) + "b", "*?".repeat(1_000) + "b", "*".repeat(2_000)]
        {
            assert_eq!(is_match(&pattern, &text), pattern.ends_with('*'));
        }
    }

    /// What the pattern language means, with exponential cost.
    pub(crate) fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), None) => naive(rest, text),
            (Some((b'*', rest)), Some((_, tail))) => naive(rest, text) || naive(pattern, tail),
            (Some((wanted, rest)), Some((byte, tail))) => {
                (*wanted == b'?' || wanted == byte) && naive(rest, tail)
            }
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn wildcards_mean_what_the_plain_model_says(pattern in "[ab*?]{0,10}", text in "[ab]{0,12}") {
            prop_assert_eq!(is_match(&pattern, &text), naive(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
