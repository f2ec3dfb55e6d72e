//! Lists of ids in statements.

use std::fmt::Write as _;

use tidegate_store::sql::SqlValue;
use uuid::Uuid;

/// Ids of one statement at most; longer lists are asked for in parts. A whole history with all that it answers to fits.
pub const MAX_IDS: usize = 8192;

/// A list as it stands in a statement, and what is bound to it.
#[derive(Debug)]
pub struct IdList {
    /// `?3, ?4, ?5, ?6`: goes between the parentheses of `IN ()`.
    pub placeholders: String,
    /// As many.
    pub parameters: Vec<SqlValue>,
}

/// At least one and at most [`MAX_IDS`] ids, the first of them being parameter number `first`. The last one is repeated up to the
/// next power of two, so that there are few texts of statements to prepare.
pub fn id_list(first: usize, ids: &[Uuid]) -> IdList {
    let mut list = IdList { placeholders: String::new(), parameters: Vec::new() };
    let Some(last) = ids.last() else {
        list.placeholders.push_str("NULL");
        return list;
    };
    let n_parameters = ids.len().next_power_of_two();
    for (place, id) in ids.iter().chain(std::iter::repeat(last)).take(n_parameters).enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        // Writing into a string cannot fail.
        let _ = write!(list.placeholders, "{comma}?{}", first + place);
        list.parameters.push(SqlValue::from(id.into_bytes()));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_texts_and_no_foreign_id() {
        let ids: Vec<Uuid> = (1..=5).map(Uuid::from_u128).collect();
        let list = id_list(3, &ids);
        assert_eq!(list.placeholders, "?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10");
        assert_eq!(list.parameters.len(), 8);
        assert_eq!(list.parameters[7], SqlValue::from(ids[4].into_bytes()));
        assert_eq!(id_list(1, &ids[..1]).placeholders, "?1");
        assert_eq!(id_list(1, &[]).placeholders, "NULL");
    }
}
