//! Hints for people: which of the names that exist comes closest to one that does not.

/// Longest text, in bytes, that is compared: what clients send must not cost much.
const MAX_COMPARED: usize = 128;

/// Edits that still count as a misspelling.
const MAX_EDITS: usize = 3;

/// The candidate that is at most three edits away and not another word altogether; letter case counts for
/// nothing. Among equals the smaller text in byte order.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_COMPARED {
        return None;
    }
    let name: Vec<char> = name.to_lowercase().chars().collect();
    candidates
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= 4 * MAX_EDITS)
        .map(|candidate| (edits(&name, candidate), candidate))
        // A word of which more changes than stays is no misspelling.
        .filter(|(edits, candidate)| *edits <= MAX_EDITS && 2 * edits <= name.len().max(candidate.len()))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and substitutions between two texts.
fn edits(left: &[char], right: &str) -> usize {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (left_idx, left_char) in left.iter().enumerate() {
        if row.iter().all(|edits| *edits > MAX_EDITS) {
            // It only grows from here.
            return MAX_EDITS + 1;
        }
        let mut diagonal = row[0];
        row[0] = left_idx + 1;
        for (right_idx, right_char) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(left_char != right_char);
            diagonal = row[right_idx + 1];
            row[right_idx + 1] = substituted.min(row[right_idx] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_are_recognised_and_other_words_are_not() {
        let known = ["general", "send_message", "join"];
        let check = |name: &str, hint: Option<&str>| {
            assert_eq!(nearest(name, known.iter().copied()), hint, "{name}");
        };
        check("Genral", Some("general"));
        check("sendMessage", Some("send_message"));
        check("jion", Some("join"));
        check("joim", Some("join"));
        check("quit", None);
        check("", None);
        check(&"g".repeat(300), None);
    }
}
