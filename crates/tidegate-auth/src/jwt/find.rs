//! Where a handshake may carry a JSON Web Token, and where people put it by mistake.

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL};
use tidegate_core::policy::Jwt;

use super::refusal::{JwtReason, JwtRefusal, Place, printable};
use crate::connect_token::ConnectToken;
use crate::secret::Secret;
use crate::subprotocol::{offered_subprotocols, query_pairs, query_values};

/// A token that was found.
#[derive(Debug, Clone)]
pub struct FoundToken {
    /// The token as it is to be verified. It may be anything but empty.
    pub token: Secret,
    /// Where it was.
    pub place: Place,
    /// The handshake offers `tidegate.bearer`, so that is the subprotocol to answer; the token never is.
    pub answers_bearer: bool,
}

/// The token of a handshake, from its raw query (what follows the `?`) and its headers.
///
/// Looked at in this order: the query parameter [`Jwt::parameter`], `Authorization: Bearer`, the subprotocol pair
/// `tidegate.bearer, {token}`, the cookie [`Jwt::cookie`]. An empty value counts as absent. The same token in several
/// places is fine.
///
/// # Errors
/// [`JwtReason::Ambiguous`] when two values differ, whichever places they are in; [`JwtReason::WrongPlace`] when there
/// is none but something of a token's shape is elsewhere; otherwise [`JwtReason::Missing`].
pub fn find_token(query: &str, headers: &HeaderMap, options: &Jwt) -> Result<FoundToken, JwtRefusal> {
    let offered = offered_subprotocols(headers);
    let in_query = query_values(query, &options.parameter)
        .filter(|_| !options.parameter.is_empty())
        .map(|token| (Place::Query(options.parameter.clone()), token));
    let in_header = bearer_values(headers)
        .map(|token| (Place::Header(AUTHORIZATION.as_str().to_owned()), token.to_owned()));
    // A connect token uses the same pair.
    let in_subprotocol = offered
        .token
        .filter(|token| ConnectToken::parse(token).is_err())
        .map(|token| (Place::Subprotocol, token.to_owned()));
    let in_cookie = cookies(headers)
        .filter(|(name, value)| *name == options.cookie && !name.is_empty() && !value.is_empty())
        .map(|(name, value)| (Place::Cookie(name.to_owned()), value.to_owned()));
    let mut found = in_query.chain(in_header).chain(in_subprotocol).chain(in_cookie);
    let Some((place, token)) = found.next() else {
        let reason = wrong_place(query, headers, options).map_or(JwtReason::Missing, JwtReason::WrongPlace);
        return Err(JwtRefusal::new(reason));
    };
    let token = Secret::new(token);
    for (other, value) in found {
        if !token.matches(&value) {
            return Err(JwtRefusal::new(JwtReason::Ambiguous { first: place, second: other }));
        }
    }
    Ok(FoundToken { token, place, answers_bearer: offered.has_bearer })
}

/// What follows the scheme in each `Authorization: Bearer` that is not empty; taken as it is, so that a malformed
/// token is reported as such and not as missing.
fn bearer_values(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(AUTHORIZATION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .filter_map(|value| value.trim().split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty())
}

/// Names and values of all cookies (RFC 6265, section 4.2.1), values without the quotes around them.
pub(crate) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| {
            let value = value.trim();
            let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            (name.trim(), unquoted.unwrap_or(value))
        })
}

/// The first place that is not read and holds something of a token's shape.
fn wrong_place(query: &str, headers: &HeaderMap, options: &Jwt) -> Option<Place> {
    for (name, value) in query_pairs(query) {
        if is_token_shaped(&value) {
            return Some(Place::Query(safe_name(&name)));
        }
        // `wss://host/?eyJ...`: the token itself stands where the name should be.
        if is_token_shaped(&name) {
            return Some(Place::Query("without a name".to_owned()));
        }
    }
    for (name, value) in headers {
        let Ok(value) = value.to_str() else { continue };
        if name == COOKIE {
            continue;
        }
        if name == SEC_WEBSOCKET_PROTOCOL {
            if value.split(',').any(|item| is_token_shaped(item.trim())) {
                return Some(Place::Subprotocol);
            }
        } else if is_token_shaped(value) {
            return Some(Place::Header(name.as_str().to_owned()));
        }
    }
    cookies(headers)
        .find(|(name, value)| *name != options.cookie && is_token_shaped(value))
        .map(|(name, _)| Place::Cookie(safe_name(name)))
}

/// Three parts of base64url, the first of which begins like a JSON object; perhaps behind `Bearer `.
fn is_token_shaped(value: &str) -> bool {
    let start = value.trim_start_matches(['"', '\'', ' ']);
    let bare = match start.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case("bearer ") => start.get(7..).unwrap_or_default(),
        _ => start,
    };
    let bare = bare.trim_matches(['"', '\'', ' ']);
    let is_base64url =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    // `eyJ` is `{"`, `ewo` and `eyA` are `{` with a line end or a blank.
    ["eyJ", "eyA", "ewo", "ew0"].iter().any(|start| bare.starts_with(start))
        && bare.split('.').count() == 3
        && bare.split('.').all(is_base64url)
}

/// A name that the client chose. One that could itself hold a piece of a token is withheld.
fn safe_name(name: &str) -> String {
    let is_plain = name.len() <= 40 && !name.contains("eyJ");
    if is_plain { printable(name) } else { "with a long name".to_owned() }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
    const OTHER: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIyIn0.c2lnbmF0dXJl";

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn options() -> Jwt {
        Jwt { cookie: "access".to_owned(), ..Jwt::default() }
    }

    fn found(query: &str, pairs: &[(&str, &str)]) -> (String, String, bool) {
        let found = find_token(query, &headers(pairs), &options()).unwrap();
        (found.token.expose().to_owned(), found.place.to_string(), found.answers_bearer)
    }

    fn refused(query: &str, pairs: &[(&str, &str)]) -> JwtRefusal {
        find_token(query, &headers(pairs), &options()).unwrap_err()
    }

    // S3-9: sources in this order.
    #[test]
    fn tokens_are_found_in_every_source() {
        let token = TOKEN.to_owned();
        let bearer = format!("Bearer {TOKEN}");
        let pair = format!("tidegate.bearer, {TOKEN}");
        let cookie = format!("a=b; access={TOKEN}");
        let query = format!("x=1&token={TOKEN}");
        assert_eq!(found(&query, &[]), (token.clone(), "query parameter token".to_owned(), false));
        assert_eq!(
            found("", &[("authorization", &bearer)]),
            (token.clone(), "header authorization".to_owned(), false)
        );
        assert_eq!(
            found("", &[("sec-websocket-protocol", &pair)]),
            (token.clone(), "header sec-websocket-protocol".to_owned(), true)
        );
        assert_eq!(found("", &[("cookie", &cookie)]), (token.clone(), "cookie access".to_owned(), false));
        // The same token everywhere is one token; the first source is named, and the pair still answered.
        let all = [
            ("cookie", cookie.as_str()),
            ("sec-websocket-protocol", pair.as_str()),
            ("authorization", bearer.as_str()),
        ];
        assert_eq!(found(&query, &all), (token.clone(), "query parameter token".to_owned(), true));
        assert_eq!(found("", &all).1, "header authorization");
        assert_eq!(found("", &all[..2]).1, "header sec-websocket-protocol");
    }

    // S3-9: two sources holding different tokens are refused.
    #[test]
    fn different_tokens_are_ambiguous() {
        let query = format!("token={TOKEN}");
        let bearer = format!("Bearer {OTHER}");
        let refusal = refused(&query, &[("authorization", &bearer)]);
        assert_eq!((refusal.diagnosis(), refusal.client_text()), ("jwt.ambiguous", "Invalid token"));
        assert_eq!(refusal.facts(), [("places", "query parameter token, header authorization".to_owned())]);
        let pair = format!("tidegate.bearer, {OTHER}");
        assert_eq!(refused(&query, &[("sec-websocket-protocol", &pair)]).diagnosis(), "jwt.ambiguous");
        let cookie = format!("access={OTHER}");
        assert_eq!(refused(&query, &[("cookie", &cookie)]).diagnosis(), "jwt.ambiguous");
        assert_eq!(refused(&format!("{query}&token={OTHER}"), &[]).diagnosis(), "jwt.ambiguous");
    }

    // S3-9: an empty value counts as missing.
    #[test]
    fn empty_values_are_missing() {
        for (query, pairs) in [
            ("", vec![]),
            ("token=", vec![]),
            ("token", vec![("authorization", "Bearer ")]),
            ("", vec![("authorization", "Basic YTpi"), ("cookie", "access=; access=\"\"; token=1")]),
            ("", vec![("sec-websocket-protocol", "tidegate.bearer")]),
        ] {
            let refusal = refused(query, &pairs);
            assert_eq!(refusal.diagnosis(), "jwt.missing", "{query} {pairs:?}");
            assert_eq!((refusal.client_text(), refusal.status()), ("Missing token", 403));
            assert!(refusal.is_missing());
        }
    }

    // S0-73: the pair may hold a connect token, which is none of ours.
    #[test]
    fn a_connect_token_in_the_pair_is_no_jwt() {
        let pair = format!("tidegate.bearer, {}", "0a".repeat(32));
        assert_eq!(refused("", &[("sec-websocket-protocol", &pair)]).diagnosis(), "jwt.missing");
    }

    #[test]
    fn misplaced_tokens_are_noticed_and_only_their_place_is_told() {
        let bearer = format!("Bearer {TOKEN}");
        let cookie = format!("a=b; jwt={TOKEN}");
        let long_name = format!("{}={TOKEN}", "x".repeat(50));
        for (query, pairs, place) in [
            (format!("access_token={TOKEN}"), vec![], "query parameter access_token"),
            (format!("jwt=Bearer%20{TOKEN}"), vec![], "query parameter jwt"),
            (format!("x=1&{TOKEN}"), vec![], "query parameter without a name"),
            (long_name, vec![], "query parameter with a long name"),
            (String::new(), vec![("x-access-token", TOKEN)], "header x-access-token"),
            (String::new(), vec![("authorization", TOKEN)], "header authorization"),
            (String::new(), vec![("x-auth", &bearer)], "header x-auth"),
            (String::new(), vec![("sec-websocket-protocol", TOKEN)], "header sec-websocket-protocol"),
            (String::new(), vec![("cookie", &cookie)], "cookie jwt"),
        ] {
            let refusal = refused(&query, &pairs);
            assert_eq!(refusal.diagnosis(), "jwt.wrong-place", "{query} {pairs:?}");
            assert_eq!(refusal.facts(), [("place", place.to_owned())]);
            assert_eq!(refusal.client_text(), "Missing token");
            assert!(refusal.is_missing());
            let printed = format!("{refusal} {refusal:?}");
            assert!(!printed.contains("c2lnbmF0dXJl") && !printed.contains("eyJ"), "{printed}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(query in ".{0,80}", values in prop::collection::vec("[ -~]{0,60}", 4)) {
            let names = ["authorization", "cookie", "sec-websocket-protocol", "x-token"];
            let pairs: Vec<(&str, &str)> = names.into_iter().zip(values.iter().map(String::as_str)).collect();
            let _ = find_token(&query, &headers(&pairs), &options());
        }
    }
}
