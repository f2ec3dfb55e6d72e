//! Negotiation of permessage-deflate, RFC 7692 section 7.
//!
//! The server side answers an offer so that neither side keeps a compression window between messages: an idle
//! connection then holds no compression state at all, and one compressed form of a message fits all connections.

use std::fmt::Write as _;

/// Name of the extension in `Sec-WebSocket-Extensions`.
const NAME: &str = "permessage-deflate";

/// Largest window, 32 KiB, and the one that applies when nothing is said. Source: RFC 7692, section 7.1.2.
const MAX_WINDOW_BITS: u8 = 15;

/// Agreed parameters of permessage-deflate on one connection.
///
/// Window bits are base-two logarithms of a size in bytes, 8 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeflateParams {
    /// The server compresses each message on its own.
    pub server_no_context_takeover: bool,
    /// The client compresses each message on its own.
    pub client_no_context_takeover: bool,
    /// Window the server may use when it compresses.
    pub server_max_window_bits: u8,
    /// Window the client may use when it compresses.
    pub client_max_window_bits: u8,
}

impl Default for DeflateParams {
    /// No context takeover on either side, windows of 32 KiB.
    fn default() -> Self {
        Self {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: MAX_WINDOW_BITS,
            client_max_window_bits: MAX_WINDOW_BITS,
        }
    }
}

/// Why a server's `Sec-WebSocket-Extensions` answer fails the handshake of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionError {
    /// The header does not follow the grammar.
    #[error("malformed Sec-WebSocket-Extensions")]
    Malformed,
    /// An extension that was not offered, or more than one.
    #[error("the server answered an extension that was not offered")]
    NotOffered,
    /// A parameter that is unknown, doubled or has a wrong value.
    #[error("the server answered an invalid permessage-deflate parameter")]
    BadParameter,
}

/// Chooses the first usable offer of a client and gives the parameters and the response header value.
///
/// `offers` is the value of `Sec-WebSocket-Extensions`; several such headers are joined with `", "` before. `None`
/// declines compression: no offer fits, or the header is malformed. The handshake goes on without it.
///
/// The answer always announces `server_no_context_takeover` and asks for `client_no_context_takeover`; a server may do
/// both unasked (RFC 7692, sections 7.1.1.1 and 7.1.1.2). An offer with an unknown, doubled or invalid parameter is
/// passed over, and so is one with `server_max_window_bits=8`, as zlib cannot compress with a window of 256 bytes.
pub fn negotiate(offers: &str) -> Option<(DeflateParams, String)> {
    let elements = parse(offers)?;
    let params =
        elements.iter().filter(|element| element.name.eq_ignore_ascii_case(NAME)).find_map(usable_offer)?;
    let mut response = format!("{NAME}; server_no_context_takeover; client_no_context_takeover");
    if let Some(bits) = params.server_bits {
        // Writing to a string cannot fail.
        let _ = write!(response, "; server_max_window_bits={bits}");
    }
    if let Some(Some(bits)) = params.client_bits {
        let _ = write!(response, "; client_max_window_bits={bits}");
    }
    let agreed = DeflateParams {
        server_max_window_bits: params.server_bits.unwrap_or(MAX_WINDOW_BITS),
        client_max_window_bits: params.client_bits.flatten().unwrap_or(MAX_WINDOW_BITS),
        ..DeflateParams::default()
    };
    Some((agreed, response))
}

/// The offer a client of this crate makes in `Sec-WebSocket-Extensions`.
pub fn offer() -> &'static str {
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
}

/// Reads a server's answer to [`offer`]. `None`: the server declined.
///
/// # Errors
/// [`ExtensionError`] when the client has to fail the connection (RFC 7692, section 5.1).
pub fn accept(response: &str) -> Result<Option<DeflateParams>, ExtensionError> {
    let elements = parse(response).ok_or(ExtensionError::Malformed)?;
    let element = match elements.as_slice() {
        [] => return Ok(None),
        [element] if element.name.eq_ignore_ascii_case(NAME) => element,
        _ => return Err(ExtensionError::NotOffered),
    };
    let params = read_params(element).ok_or(ExtensionError::BadParameter)?;
    let client_bits = match params.client_bits {
        // In an answer the parameter needs its value.
        Some(None) => return Err(ExtensionError::BadParameter),
        Some(Some(bits)) => bits,
        None => MAX_WINDOW_BITS,
    };
    Ok(Some(DeflateParams {
        server_no_context_takeover: params.server_no_context,
        client_no_context_takeover: params.client_no_context,
        server_max_window_bits: params.server_bits.unwrap_or(MAX_WINDOW_BITS),
        client_max_window_bits: client_bits,
    }))
}

fn usable_offer(element: &Element<'_>) -> Option<Params> {
    read_params(element).filter(|params| params.server_bits.is_none_or(|bits| bits > 8))
}

/// Parameters as written. `client_bits` may come without a value in an offer.
#[derive(Default)]
struct Params {
    server_no_context: bool,
    client_no_context: bool,
    server_bits: Option<u8>,
    client_bits: Option<Option<u8>>,
}

fn read_params(element: &Element<'_>) -> Option<Params> {
    let mut params = Params::default();
    for &(name, value) in &element.params {
        match (name.to_ascii_lowercase().as_str(), value) {
            ("server_no_context_takeover", None) if !params.server_no_context => {
                params.server_no_context = true
            }
            ("client_no_context_takeover", None) if !params.client_no_context => {
                params.client_no_context = true
            }
            ("server_max_window_bits", Some(value)) if params.server_bits.is_none() => {
                params.server_bits = Some(window_bits(value)?);
            }
            ("client_max_window_bits", value) if params.client_bits.is_none() => {
                params.client_bits = Some(match value {
                    Some(value) => Some(window_bits(value)?),
                    None => None,
                });
            }
            _ => return None,
        }
    }
    Some(params)
}

/// 8 to 15 in decimal without leading zeros.
fn window_bits(value: &str) -> Option<u8> {
    match value.as_bytes() {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// One extension of the list with its parameters.
struct Element<'a> {
    name: &'a str,
    params: Vec<(&'a str, Option<&'a str>)>,
}

/// Most elements and parameters that are looked at: a header with more is declined, not worked through.
const MAX_ITEMS: usize = 64;

/// `extension-list` of RFC 6455 section 9.1; empty list elements are passed over as in other HTTP lists.
fn parse(header: &str) -> Option<Vec<Element<'_>>> {
    let mut elements = Vec::new();
    let mut n_items = 0;
    let mut rest = header.trim_start_matches(BLANK);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(',') {
            rest = after.trim_start_matches(BLANK);
            continue;
        }
        let (name, after) = token(rest)?;
        let mut element = Element { name, params: Vec::new() };
        rest = after;
        while let Some(after) = rest.strip_prefix(';') {
            let (name, after) = token(after.trim_start_matches(BLANK))?;
            let (value, after) = match after.strip_prefix('=') {
                Some(after) => {
                    value(after.trim_start_matches(BLANK)).map(|(value, after)| (Some(value), after))?
                }
                None => (None, after),
            };
            element.params.push((name, value));
            rest = after;
            n_items += 1;
            if n_items > MAX_ITEMS {
                return None;
            }
        }
        n_items += 1;
        if n_items > MAX_ITEMS || !(rest.is_empty() || rest.starts_with(',')) {
            return None;
        }
        elements.push(element);
    }
    Some(elements)
}

const BLANK: [char; 2] = [' ', '\t'];

/// A token and what follows it after blanks.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
    let (token, rest) = text.split_at(end);
    (!token.is_empty()).then(|| (token, rest.trim_start_matches(BLANK)))
}

/// A token or a quoted token. What needs an escape inside quotes is no token, so escapes are not looked for.
fn value(text: &str) -> Option<(&str, &str)> {
    let Some(quoted) = text.strip_prefix('"') else { return token(text) };
    let (inner, rest) = quoted.split_once('"')?;
    let (value, after) = token(inner)?;
    after.is_empty().then(|| (value, rest.trim_start_matches(BLANK)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(offer: &str) -> Option<(u8, u8, String)> {
        negotiate(offer).map(|(params, response)| {
            assert!(params.server_no_context_takeover && params.client_no_context_takeover);
            let tail = response
                .strip_prefix("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
                .expect("the answer begins with what is always said");
            (params.server_max_window_bits, params.client_max_window_bits, tail.to_owned())
        })
    }

    #[test]
    fn offers_that_are_taken() {
        let check = |offer: &str, server: u8, client: u8, tail: &str| {
            assert_eq!(bits(offer), Some((server, client, tail.to_owned())), "{offer}");
        };
        check("permessage-deflate", 15, 15, "");
        check("Permessage-Deflate", 15, 15, "");
        check("permessage-deflate; client_max_window_bits", 15, 15, "");
        check("permessage-deflate;client_max_window_bits=11", 15, 11, "; client_max_window_bits=11");
        check("permessage-deflate; client_max_window_bits=8", 15, 8, "; client_max_window_bits=8");
        check("permessage-deflate; server_max_window_bits=10", 10, 15, "; server_max_window_bits=10");
        check("permessage-deflate; server_max_window_bits=\"9\"", 9, 15, "; server_max_window_bits=9");
        check(
            "permessage-deflate ; server_max_window_bits = 12 ; client_max_window_bits=13",
            12,
            13,
            "; server_max_window_bits=12; client_max_window_bits=13",
        );
        check("permessage-deflate; server_no_context_takeover; client_no_context_takeover", 15, 15, "");
        // The first usable element wins.
        check("x-webkit-deflate-frame, permessage-deflate", 15, 15, "");
        check("permessage-deflate; server_max_window_bits=8, permessage-deflate", 15, 15, "");
        check(
            "permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9",
            9,
            15,
            "; server_max_window_bits=9",
        );
        check(", permessage-deflate,", 15, 15, "");
        check("foo; bar=\"a\", permessage-deflate", 15, 15, "");
    }

    #[test]
    fn offers_that_are_declined() {
        for offer in [
            "",
            " ",
            "x-webkit-deflate-frame",
            "permessage-deflate-x",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; client_max_window_bits=99",
            "permessage-deflate; client_max_window_bits=10; client_max_window_bits=10",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=true",
            "permessage-deflate; mystery=1",
            "permessage-deflate;",
            "permessage-deflate; server_max_window_bits=\"10",
            "permessage-deflate extra",
            "permessage-deflate; client_max_window_bits=\"\"",
        ] {
            assert_eq!(bits(offer), None, "{offer}");
        }
    }

    #[test]
    fn a_flood_of_elements_is_declined() {
        assert_eq!(bits(&"a, ".repeat(10_000)), None);
        assert_eq!(bits(&format!("permessage-deflate{}", "; a".repeat(10_000))), None);
    }

    #[test]
    fn the_own_offer_and_its_answers() {
        let (params, response) = negotiate(offer()).expect("the own offer is usable");
        assert_eq!(accept(&response), Ok(Some(params)));
        assert_eq!(accept(""), Ok(None));
        assert_eq!(
            accept("permessage-deflate"),
            Ok(Some(DeflateParams {
                server_no_context_takeover: false,
                client_no_context_takeover: false,
                ..DeflateParams::default()
            }))
        );
        assert_eq!(accept("permessage-deflate, permessage-deflate"), Err(ExtensionError::NotOffered));
        assert_eq!(accept("permessage-bzip2"), Err(ExtensionError::NotOffered));
        assert_eq!(accept("permessage-deflate; client_max_window_bits"), Err(ExtensionError::BadParameter));
        assert_eq!(accept("permessage-deflate; a"), Err(ExtensionError::BadParameter));
        assert_eq!(accept("permessage-deflate; ="), Err(ExtensionError::Malformed));
    }
}
