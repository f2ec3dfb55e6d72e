//! Pages of lists: `limit`, and `next_token`, which says behind which item the next page begins.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::call::Call;
use crate::refusal::Refusal;
use crate::shape::{Member, Shape, optional};

/// Items of a page unless the caller says otherwise.
const PAGE: u64 = 100;

/// Largest page.
const MAX_PAGE: u64 = 1000;

/// Parameter of every list.
pub(crate) const LIMIT: Member =
    optional("limit", Shape::Integer { min: 1, max: MAX_PAGE }, "Items of a page; 100 unless given.");

/// Parameter of every list.
pub(crate) const NEXT_TOKEN: Member =
    optional("next_token", Shape::Text { min: 1, max: 4096 }, "From the page before.");

/// Member of the answer of every list.
pub(crate) const NEXT: Member =
    optional("next_token", Shape::Text { min: 1, max: 4096 }, "There is more; absent at the end.");

/// Items of the page that was asked for.
pub(crate) fn limit(call: &Call) -> usize {
    usize::try_from(call.number("limit").unwrap_or(PAGE)).unwrap_or(usize::MAX)
}

/// The place that a token names.
///
/// # Errors
/// 400: it is not one of ours.
pub(crate) fn after(call: &Call) -> Result<Option<String>, Refusal> {
    let Some(token) = call.text("next_token") else { return Ok(None) };
    let place = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    place.map(Some).ok_or_else(bad_token)
}

/// 400 for a token that no page gave.
pub(crate) fn bad_token() -> Refusal {
    Refusal::problem("next_token", "is not one of this list")
}

/// The token of a place.
pub(crate) fn token(place: &str) -> Value {
    Value::from(URL_SAFE_NO_PAD.encode(place))
}

/// A page of items that are all there, in the order of their keys.
///
/// # Errors
/// As [`after`].
pub(crate) fn page<T>(
    call: &Call,
    mut items: Vec<T>,
    key: impl Fn(&T) -> String,
) -> Result<(Vec<T>, Option<Value>), Refusal> {
    items.sort_by_cached_key(&key);
    if let Some(after) = after(call)? {
        let begin = items.partition_point(|item| key(item) <= after);
        items.drain(..begin);
    }
    let limit = limit(call);
    let next = (items.len() > limit).then(|| {
        items.truncate(limit);
        items.last().map(|item| token(&key(item)))
    });
    Ok((items, next.flatten()))
}

/// `{name: items, "next_token": ...}`.
pub(crate) fn list(name: &str, items: Vec<Value>, next: Option<Value>) -> Value {
    let mut body = serde_json::Map::new();
    body.insert(name.to_owned(), Value::Array(items));
    if let Some(next) = next {
        body.insert("next_token".to_owned(), next);
    }
    Value::Object(body)
}
