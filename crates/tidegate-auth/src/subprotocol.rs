//! The subprotocol pair `tidegate.bearer, {token}`: how a browser sends a token outside the URL.
//!
//! `new WebSocket(url, ["tidegate.bearer", token])` offers two subprotocols. The second is the token and is never
//! answered, passed on or logged; the first must be answered, because a browser closes a connection whose subprotocol
//! was not confirmed. A JSON Web Token has dots, a connect token has none, so one name serves both.

use http::HeaderMap;
use http::header::SEC_WEBSOCKET_PROTOCOL;

/// The first half of the pair, and the subprotocol to answer.
pub const BEARER_SUBPROTOCOL: &str = "tidegate.bearer";

/// What a handshake offers, with the pair taken out.
///
/// There is no `Debug`: the token is in it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct OfferedSubprotocols<'a> {
    /// Whether [`BEARER_SUBPROTOCOL`] was offered, so that it is the one to answer.
    pub has_bearer: bool,
    /// What follows it; `None` if nothing does.
    pub token: Option<&'a str>,
    /// Everything else, in the order of the offer: what a backend may see.
    pub others: Vec<&'a str>,
}

/// Reads `Sec-WebSocket-Protocol`, in one header or several (RFC 6455, section 4.1). Values that are no visible ASCII
/// are passed over. Only the first pair counts; a second one is dropped, so that no token gets among the others.
pub fn offered_subprotocols(headers: &HeaderMap) -> OfferedSubprotocols<'_> {
    let mut offered = OfferedSubprotocols::default();
    let mut items = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|item| !item.is_empty());
    while let Some(item) = items.next() {
        if item == BEARER_SUBPROTOCOL {
            let token = items.next();
            offered.token = if offered.has_bearer { offered.token } else { token };
            offered.has_bearer = true;
        } else {
            offered.others.push(item);
        }
    }
    offered
}

/// The values of query parameter `name`, decoded as forms are: percent signs, and `+` for a blank. Empty ones are left
/// out: an empty token is a missing one.
pub(crate) fn query_values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    query_pairs(query).filter(move |(key, value)| key == name && !value.is_empty()).map(|(_, value)| value)
}

/// Names and values of a query, decoded. Bytes that are no UTF-8 become U+FFFD, which is in no token.
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

fn decode(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(values: &[&str], has_bearer: bool, token: Option<&str>, others: &[&str]) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(value).unwrap());
        }
        let offered = offered_subprotocols(&headers);
        assert_eq!((offered.has_bearer, offered.token), (has_bearer, token), "{values:?}");
        assert_eq!(offered.others, others, "{values:?}");
    }

    // S3-9: the pair, answered without the token.
    #[test]
    fn the_pair_is_taken_out_of_the_offer() {
        check(&[], false, None, &[]);
        check(&["chat, superchat"], false, None, &["chat", "superchat"]);
        check(&["tidegate.bearer, a.b.c"], true, Some("a.b.c"), &[]);
        check(&["chat,tidegate.bearer,a.b.c , v2"], true, Some("a.b.c"), &["chat", "v2"]);
        check(&["tidegate.bearer", "a.b.c"], true, Some("a.b.c"), &[]);
        check(&["tidegate.bearer"], true, None, &[]);
        check(&["tidegate.bearer, ,"], true, None, &[]);
        check(&["tidegate.bearer, a, tidegate.bearer, b, c"], true, Some("a"), &["c"]);
        check(&["Tidegate.Bearer, a.b.c"], false, None, &["Tidegate.Bearer", "a.b.c"]);
    }

    #[test]
    fn query_values_are_decoded_once() {
        let values = |query| query_values(query, "token").collect::<Vec<_>>();
        assert_eq!(values("token=a.b.c&x=1"), ["a.b.c"]);
        assert_eq!(values("to%6ben=a%2Eb&token=c+d"), ["a.b", "c d"]);
        assert_eq!(values("token=%2522"), ["%22"]);
        assert_eq!(values("token=%ff%fe"), ["\u{fffd}\u{fffd}"]);
        assert!(values("token=&Token=a&token&x=token=1").is_empty());
    }
}
