//! Paging of list operations: creation order, `maxResults`, and an opaque `nextToken`.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::limits;
use crate::table::Table;

/// One decoded `name=value` of the query string.
pub(crate) type Query = [(String, String)];

/// One page of `table`; `list` names the list, so that a token of another list is refused.
pub(crate) fn page<T: Clone, V: Serialize>(
    table: &Table<T>,
    list: &str,
    query: &Query,
    show: impl Fn(&Arc<T>) -> V,
) -> Result<Value, ApiError> {
    let size = max_results(query)?;
    let after = match parameter(query, "nextToken") {
        None => 0,
        Some(token) => read_token(list, token)?,
    };
    let mut rows = table.rows().filter(|(sequence, _)| *sequence > after);
    let mut items = Vec::new();
    let mut last = after;
    for (sequence, row) in rows.by_ref().take(size) {
        items.push(serde_json::to_value(show(row)).map_err(|_| ApiError::internal())?);
        last = sequence;
    }
    if rows.next().is_some() {
        return Ok(json!({"items": items, "nextToken": write_token(list, last)}));
    }
    Ok(json!({"items": items}))
}

fn parameter<'a>(query: &'a Query, name: &str) -> Option<&'a str> {
    query.iter().find(|(n, value)| n == name && !value.is_empty()).map(|(_, value)| value.as_str())
}

fn max_results(query: &Query) -> Result<usize, ApiError> {
    let Some((_, text)) = query.iter().find(|(name, _)| name == "maxResults") else {
        return Ok(limits::DEFAULT_PAGE);
    };
    text.parse().ok().filter(|n| (1..=limits::MAX_PAGE).contains(n)).ok_or_else(|| {
        ApiError::bad_request(format!("Invalid maxResults: must be a number from 1 to {}", limits::MAX_PAGE))
    })
}

fn write_token(list: &str, sequence: u64) -> String {
    format!("{sequence:x}.{:016x}", checksum(list, sequence))
}

fn read_token(list: &str, token: &str) -> Result<u64, ApiError> {
    let invalid = || ApiError::bad_request("Invalid nextToken");
    let (sequence, _) = token.split_once('.').ok_or_else(invalid)?;
    let sequence = u64::from_str_radix(sequence, 16).map_err(|_| invalid())?;
    if write_token(list, sequence) == token { Ok(sequence) } else { Err(invalid()) }
}

/// FNV-1a, 64 bits. It tells a token of this list from anything else; it protects nothing.
fn checksum(list: &str, sequence: u64) -> u64 {
    list.bytes().chain(sequence.to_be_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_its_list() {
        let token = write_token("apis/a/routes", 300);
        assert_eq!(read_token("apis/a/routes", &token).ok(), Some(300));
        for (list, token) in [
            ("apis/b/routes", token.as_str()),
            ("apis/a/routes", ""),
            ("apis/a/routes", "."),
            ("apis/a/routes", "12c.0"),
            ("apis/a/routes", "+12c.1"),
        ] {
            assert!(read_token(list, token).is_err(), "{list} {token}");
        }
    }
}
