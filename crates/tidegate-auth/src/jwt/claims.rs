//! The claims of a token whose signature is right: are they in time, for us, and complete; and whose token is it.

use serde_json::{Map, Number, Value};
use tidegate_core::policy::{Jwt, JwtClaims};

use super::refusal::{JwtReason, MalformedPart};

/// Claims that are Tidegate's to read and not the application's; they do not go into an identity's claims.
pub(crate) const REGISTERED: [&str; 4] = ["exp", "nbf", "iat", "jti"];

/// Milliseconds since 1970 of a NumericDate (RFC 7519, section 2): a number of seconds, perhaps with a fraction.
/// Beyond the range of the type the nearest value.
pub(crate) fn milliseconds(value: &Value) -> Option<i64> {
    let Value::Number(number) = value else { return None };
    if let Some(seconds) = number.as_i64() {
        return Some(seconds.saturating_mul(1_000));
    }
    // A conversion from a float saturates; JSON has no NaN.
    #[expect(clippy::cast_possible_truncation, reason = "it saturates, and the number is compared only")]
    number.as_f64().map(|seconds| (seconds * 1_000.0) as i64)
}

/// `exp`, `nbf`, `iat`, `iss` and `aud`, and what the policy requires, in the order of the decision table (alerts.md,
/// section 4). Answers `exp` in milliseconds.
pub(crate) fn check(
    options: &Jwt,
    claims: &Map<String, Value>,
    now_ms: u64,
) -> Result<Option<i64>, JwtReason> {
    let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let leeway_ms = options.leeway.saturating_mul(1_000);
    let leeway = i64::try_from(leeway_ms).unwrap_or(i64::MAX);
    let exp = time(claims, "exp")?;
    if let Some(exp) = exp
        && now >= exp.saturating_add(leeway)
    {
        return Err(JwtReason::Expired { exp, now: now_ms, leeway: leeway_ms });
    }
    for claim in ["nbf", "iat"] {
        if let Some(from) = time(claims, claim)?
            && from > now.saturating_add(leeway)
        {
            return Err(JwtReason::NotYetValid { claim, from, now: now_ms, leeway: leeway_ms });
        }
    }
    if let Some(expected) = &options.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(expected)
    {
        return Err(JwtReason::Issuer { expected: expected.clone() });
    }
    if let Some(expected) = &options.audience
        && !has_audience(claims.get("aud"), expected)
    {
        return Err(JwtReason::Audience { expected: expected.clone() });
    }
    let names = missing(options, claims);
    if !names.is_empty() {
        return Err(JwtReason::ClaimsMissing { names });
    }
    Ok(exp)
}

fn time(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<i64>, JwtReason> {
    let Some(value) = claims.get(claim).filter(|value| !value.is_null()) else { return Ok(None) };
    match milliseconds(value) {
        Some(time) => Ok(Some(time)),
        None => Err(JwtReason::Malformed { part: MalformedPart::Claim(claim), hint: None }),
    }
}

fn has_audience(aud: Option<&Value>, expected: &str) -> bool {
    match aud {
        Some(Value::String(text)) => text == expected,
        Some(Value::Array(items)) => items.iter().any(|item| item.as_str() == Some(expected)),
        _ => false,
    }
}

/// Names of the claims that are absent, empty or of no use: the user, `exp` where it is required, and
/// `claims.required`.
fn missing(options: &Jwt, claims: &Map<String, Value>) -> Vec<String> {
    let names = &options.claims;
    let mut missing = Vec::new();
    if user(names, claims).is_none() {
        missing.push(names.user.clone());
    }
    if options.require_exp && claims.get("exp").is_none_or(Value::is_null) {
        missing.push("exp".to_owned());
    }
    for name in &names.required {
        if find(claims, name).is_none_or(is_empty) && !missing.contains(name) {
            missing.push(name.clone());
        }
    }
    missing
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The claim called `name`; if there is none and the name has dots, the member at that path, as in
/// `realm_access.roles`. The whole name goes first because names that are addresses (`https://a.example/roles`) have
/// dots too.
pub(crate) fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    rest.split('.').try_fold(claims.get(first)?, |value, member| value.as_object()?.get(member))
}

/// The user's id: the first of the names that the token has.
pub(super) fn user(names: &JwtClaims, claims: &Map<String, Value>) -> Option<String> {
    let mut found =
        std::iter::once(&names.user).chain(&names.user_fallback).filter_map(|name| find(claims, name));
    found.find(|value| !value.is_null()).and_then(id_text)
}

/// An id: a text that is not blank, or a whole number in decimal. Any other number is none, because two large numbers
/// can be read as the same one, and that would make one user of two.
pub(crate) fn id_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => (!text.trim().is_empty()).then(|| text.clone()),
        Value::Number(number) => whole_number(number),
        _ => None,
    }
}

fn whole_number(number: &Number) -> Option<String> {
    /// 2^53: from here on not every whole number is a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.is_i64() || number.is_u64() {
        return Some(number.to_string());
    }
    let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT)?;
    #[expect(clippy::cast_possible_truncation, reason = "the line above has excluded it")]
    Some((float as i64).to_string())
}

/// Roles: one text, or the texts of a list; blank ones do not count. None at all gives `default_role`, and `true`.
pub(crate) fn roles(options: &Jwt, claims: &Map<String, Value>) -> (Vec<String>, bool) {
    let is_role = |text: &&str| !text.trim().is_empty();
    let roles: Vec<String> = match find(claims, &options.claims.roles) {
        Some(Value::String(text)) => {
            Some(text.as_str()).filter(is_role).map(str::to_owned).into_iter().collect()
        }
        Some(Value::Array(items)) => {
            items.iter().filter_map(Value::as_str).filter(is_role).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    if roles.is_empty() && !options.default_role.is_empty() {
        return (vec![options.default_role.clone()], true);
    }
    (roles, false)
}
