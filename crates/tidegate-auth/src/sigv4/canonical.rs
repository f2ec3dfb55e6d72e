//! The canonical form of a request, on which signer and verifier must agree to the byte.
//!
//! Nothing here decodes what arrived: path and query are taken in their received encoding, because that is what the
//! SDKs sign.

use std::borrow::Cow;

use aws_lc_rs::digest::{Context, SHA256, digest};
use aws_lc_rs::hmac::{Key, sign};
use http::header::HOST;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::claim::decoded;
use super::date::AmzDate;
use super::{ALGORITHM, RequestParts};

/// Everything but `A-Z a-z 0-9 - _ . ~`.
const ENCODED_IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const ENCODED_IN_PATH: &AsciiSet = &ENCODED_IN_QUERY.remove(b'/');

/// A request in canonical form, except for the canonical URI, which may be tried in several encodings.
pub(super) struct CanonicalRequest {
    method: String,
    /// Query, headers, names of signed headers and payload hash.
    tail: Vec<u8>,
}

impl CanonicalRequest {
    /// `signed_headers` is lower case, sorted and without repetition; all of them must have a value.
    /// `host` replaces the value of the `host` header.
    pub(super) fn new(
        parts: &RequestParts<'_>,
        signed_headers: &[String],
        host: Option<&str>,
        payload_hash: &str,
    ) -> Self {
        let mut tail = Vec::with_capacity(512);
        write_query(parts.query.unwrap_or_default(), &mut tail);
        tail.push(b'\n');
        for name in signed_headers {
            tail.extend_from_slice(name.as_bytes());
            tail.push(b':');
            match host {
                Some(host) if name == HOST.as_str() => write_header_value(host.as_bytes(), &mut tail),
                _ => {
                    for (idx, value) in parts.headers.get_all(name).iter().enumerate() {
                        if idx > 0 {
                            tail.push(b',');
                        }
                        write_header_value(value.as_bytes(), &mut tail);
                    }
                }
            }
            tail.push(b'\n');
        }
        tail.push(b'\n');
        tail.extend_from_slice(signed_headers.join(";").as_bytes());
        tail.push(b'\n');
        tail.extend_from_slice(payload_hash.as_bytes());
        Self { method: parts.method.to_ascii_uppercase(), tail }
    }

    /// The canonical request with the given canonical URI, for a person to read.
    pub(super) fn to_text(&self, canonical_uri: &str) -> String {
        format!("{}\n{canonical_uri}\n{}", self.method, String::from_utf8_lossy(&self.tail))
    }

    /// SHA-256 of the canonical request with the given canonical URI, in hexadecimal.
    pub(super) fn hash(&self, canonical_uri: &str) -> String {
        let mut context = Context::new(&SHA256);
        for part in [self.method.as_bytes(), b"\n", canonical_uri.as_bytes(), b"\n", &self.tail] {
            context.update(part);
        }
        hex::encode(context.finish())
    }
}

/// The text that is signed for a canonical request.
pub(super) fn string_to_sign(date: &AmzDate, credential_scope: &str, request_hash: &str) -> String {
    format!("{ALGORITHM}\n{}\n{credential_scope}\n{request_hash}", date.as_str())
}

/// The signature of a string to sign, in lower-case hexadecimal.
pub(super) fn signature(key: &Key, string_to_sign: &str) -> String {
    hex::encode(sign(key, string_to_sign.as_bytes()))
}

/// SHA-256 of a body, in lower-case hexadecimal.
pub(super) fn payload_hash(body: &[u8]) -> String {
    hex::encode(digest(&SHA256, body))
}

/// Percent-encodes everything but unreserved characters.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED_IN_QUERY).to_string()
}

/// The canonical URI: no dot segments, no repeated slashes, and encoded once more than received.
///
/// A trailing `/.` or `/..` leaves no slash, as in boto3 and the SDK for JavaScript (the one for Rust leaves one).
pub(super) fn uri(path: &str) -> String {
    let normal =
        if path.contains("//") || path.contains("/.") { normalize(path) } else { Cow::Borrowed(path) };
    if normal.is_empty() { "/".to_owned() } else { utf8_percent_encode(&normal, ENCODED_IN_PATH).to_string() }
}

fn normalize(path: &str) -> Cow<'_, str> {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    let last = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    Cow::Owned(format!("/{}{last}", segments.join("/")))
}

/// Canonical URIs that the client may have signed if something on the way decoded or encoded the path.
///
/// They explain a mismatch; none of them makes a signature valid.
pub(super) fn rewritten_uris(path: &str) -> Vec<String> {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let encoded = utf8_percent_encode(&decoded, ENCODED_IN_PATH).to_string();
    // What boto3 and the SDK for JavaScript send: `/prod/@connections/R0oXAdfD0kwCH6w%3D`.
    let as_sdks_send = encoded.replace("%40", "@");
    let mut uris = vec![uri(&decoded), uri(&encoded), uri(&as_sdks_send), encoded, as_sdks_send];
    uris.sort_unstable();
    uris.dedup();
    uris
}

fn write_query(query: &str, out: &mut Vec<u8>) {
    let mut parameters: Vec<(&str, &str)> = query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
        .filter(|&(name, _)| decoded(name) != "X-Amz-Signature")
        .collect();
    parameters.sort_unstable();
    for (idx, (name, value)) in parameters.into_iter().enumerate() {
        if idx > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.as_bytes());
    }
}

/// Without spaces at the ends, and with one for each run of spaces.
fn write_header_value(value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    for word in value.split(|&byte| byte == b' ').filter(|word| !word.is_empty()) {
        if out.len() > start {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_encoded_once_more() {
        let check = |path: &str, expected: &str| assert_eq!(uri(path), expected, "{path}");
        check("/prod/@connections/R0oXAdfD0kwCH6w%3D", "/prod/%40connections/R0oXAdfD0kwCH6w%253D");
        check("/prod/%40connections/a=", "/prod/%2540connections/a%3D");
        check("/a-b_c.d~e", "/a-b_c.d~e");
        check("/ä b", "/%C3%A4%20b");
        check("", "/");
        check("/", "/");
        check("//", "/");
        check("/a//b///c", "/a/b/c");
        check("/a/", "/a/");
        check("/a//", "/a/");
        check("/a/./b/../c", "/a/c");
        check("/../a", "/a");
        check("/a/..", "/");
        check("/a/../", "/");
        check("/a/.", "/a");
        check("/a/.b/..c/d.", "/a/.b/..c/d.");
    }

    #[test]
    fn a_query_is_sorted_as_received() {
        let check = |query: &str, expected: &str| {
            let mut out = Vec::new();
            write_query(query, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{query}");
        };
        check("", "");
        check("b=2&a=1", "a=1&b=2");
        check("a=2&a=1&a", "a=&a=1&a=2");
        check("a-=1&a=1", "a=1&a-=1");
        check("a=%2f&b=+&c=a=b", "a=%2f&b=+&c=a=b");
        check("B=1&a=1&A=1", "A=1&B=1&a=1");
        check("X-Amz-Signature=abc&z=1&X-Amz-Date=d", "X-Amz-Date=d&z=1");
        check("&a=1&&", "a=1");
    }

    #[test]
    fn header_values_are_trimmed_collapsed_and_joined() {
        let mut headers = HeaderMap::new();
        for value in ["  a   b  ", "", " c"] {
            headers.append(HeaderName::from_static("x-list"), HeaderValue::from_static(value));
        }
        let parts = RequestParts { method: "get", path: "/", query: None, headers: &headers };
        let request = CanonicalRequest::new(&parts, &["x-list".to_owned()], None, "hash");
        assert_eq!(request.to_text("/"), "GET\n/\n\nx-list:a b,,c\n\nx-list\nhash");
        assert_eq!(request.hash("/"), payload_hash(request.to_text("/").as_bytes()));
    }

    proptest! {
        #[test]
        fn a_canonical_path_is_a_fixed_point_of_normalizing(path in "/[a./%]{0,20}") {
            let normal = normalize(&path);
            prop_assert_eq!(normalize(&normal), &*normal);
            prop_assert!(normal.starts_with('/') && !normal.contains("//"));
        }
    }
}
