//! Which key was probably meant.

/// `; did you mean X?` for a key that is close to a known one.
pub(super) fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> String {
    let best = known.map(|known| (distance(key, known), known)).min();
    match best {
        Some((distance, known)) if distance <= 3 => format!("; did you mean `{known}`?"),
        _ => String::new(),
    }
}

/// Edit distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (left_idx, left_char) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = left_idx + 1;
        for (right_idx, right_char) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(left_char != *right_char);
            diagonal = row[right_idx + 1];
            row[right_idx + 1] = substituted.min(row[right_idx] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}
