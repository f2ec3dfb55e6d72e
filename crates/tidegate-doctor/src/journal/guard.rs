//! The second wall: what must not be in facts is taken out here, should a notice ever carry it.
//!
//! Whoever makes a notice puts names and numbers into it and nothing else. Names that clients choose (paths, headers,
//! subprotocols) may be secrets all the same, because people put tokens where they do not belong.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tidegate_core::journal::{Facts, Part};

use super::address::{AddressKey, ClientAddress};

/// In place of what looked like a secret.
pub(super) const TOKEN: &str = "<token>";

/// Longest text of a fact, in characters.
const MAX_TEXT: usize = 512;

/// Most values of a list.
const MAX_LIST: usize = 64;

/// Longest run of characters that a name may have if it mixes digits and letters.
const MAX_NAME: usize = 32;

/// Facts that are hashes, ids or public on purpose.
const PUBLIC: [&str; 6] = ["snapshotHash", "previousHash", "fingerprint", "kid", "installation", "similar"];

/// Facts whose addresses are those of servers.
const SERVERS: [&str; 7] = ["host", "forwardedHost", "target", "domain", "sni", "location", "listener"];

/// Takes out of facts what has no business there, and as much of addresses as the setting says.
pub(super) fn facts(facts: &mut Facts, addresses: ClientAddress, key: &AddressKey) {
    // Most are as they may be.
    let is_worth_a_look = |name: &str, part: Part<'_>| match part {
        Part::List(n_values) => n_values > MAX_LIST,
        Part::Text(text) => {
            text.len() > MAX_TEXT
                || may_have_secret(text.as_bytes()) && !is_public(name)
                || conceals(addresses, name) && text.contains(['.', ':'])
        }
    };
    if facts.any(is_worth_a_look) {
        facts.change(|name, value| check_fact(name, value, addresses, key));
    }
}

/// The same of facts that are values.
pub(super) fn values<'n, 'v>(
    facts: impl Iterator<Item = (&'n str, &'v mut Value)>,
    addresses: ClientAddress,
    key: &AddressKey,
) {
    facts.for_each(|(name, value)| check_fact(name, value, addresses, key));
}

fn check_fact(name: &str, value: &mut Value, addresses: ClientAddress, key: &AddressKey) {
    let addresses = if conceals(addresses, name) { addresses } else { ClientAddress::Full };
    check(value, is_public(name), addresses, key);
}

fn is_public(name: &str) -> bool {
    PUBLIC.contains(&name)
}

fn conceals(addresses: ClientAddress, name: &str) -> bool {
    addresses != ClientAddress::Full && !SERVERS.contains(&name)
}

fn check(value: &mut Value, is_public: bool, addresses: ClientAddress, key: &AddressKey) {
    match value {
        Value::String(text) => {
            if !is_public && let Some(clean) = without_secrets(text) {
                *text = clean;
            }
            if addresses != ClientAddress::Full
                && let Some(clean) = without_addresses(text, addresses, key)
            {
                *text = clean;
            }
            if text.len() > MAX_TEXT
                && let Some((cut, _)) = text.char_indices().nth(MAX_TEXT)
            {
                text.truncate(cut);
                text.push_str("...");
            }
        }
        Value::Array(values) => {
            values.truncate(MAX_LIST);
            values.iter_mut().for_each(|value| check(value, is_public, addresses, key));
        }
        Value::Object(members) => {
            members.values_mut().for_each(|value| check(value, is_public, addresses, key));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The text with what looks like a secret replaced; none where nothing does.
fn without_secrets(text: &str) -> Option<String> {
    // Nearly every text ends here.
    if !may_have_secret(text.as_bytes()) {
        return None;
    }
    replace_words(text, is_part_of_token, |word, before| {
        let is_credential = ["bearer ", "basic "].iter().any(|scheme| {
            let at = before.len().checked_sub(scheme.len());
            at.and_then(|at| before.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(scheme))
        });
        (is_credential && word.len() >= 6 || is_jwt(word) || is_random(word)).then(|| TOKEN.to_owned())
    })
}

/// Whether a text is worth a closer look: it names a scheme of credentials, has what may be a JSON Web Token, or a run
/// longer than names are, with a letter and a digit in it. One pass, nothing is copied.
fn may_have_secret(text: &[u8]) -> bool {
    // Most texts are names: too short for a run, with neither the dots nor the space that shorter secrets have.
    if text.len() <= MAX_NAME && !text.iter().any(|byte| matches!(byte, b'.' | b' ')) {
        return false;
    }
    // Of the characters since the last dot, and of the word with its dots.
    let (mut n_run, mut has_digit, mut has_letter) = (0, false, false);
    let (mut start, mut n_dots) = (0, 0);
    for (at, &byte) in text.iter().enumerate() {
        if byte == b'.' {
            n_dots += 1;
            // `{"` and `{ ` in base64.
            if n_dots == 2 && matches!(text.get(start..start + 2), Some(b"ey" | b"ew")) {
                return true;
            }
            (n_run, has_digit, has_letter) = (0, false, false);
        } else if byte.is_ascii() && is_part_of_token(char::from(byte)) {
            n_run += 1;
            has_digit |= byte.is_ascii_digit();
            has_letter |= byte.is_ascii_alphabetic();
            if n_run > MAX_NAME && has_digit && has_letter {
                return true;
            }
        } else {
            let ends_with = |scheme: &[u8]| {
                let from = at.checked_sub(scheme.len());
                from.and_then(|from| text.get(from..at)).is_some_and(|end| end.eq_ignore_ascii_case(scheme))
            };
            if byte == b' ' && (ends_with(b"bearer") || ends_with(b"basic")) {
                return true;
            }
            (n_run, has_digit, has_letter) = (0, false, false);
            (start, n_dots) = (at + 1, 0);
        }
    }
    false
}

/// The text with every address concealed; none where there is none.
fn without_addresses(text: &str, addresses: ClientAddress, key: &AddressKey) -> Option<String> {
    let is_part = |letter: char| letter.is_ascii_hexdigit() || matches!(letter, '.' | ':' | '[' | ']');
    replace_words(text, is_part, |word, _| {
        if !word.contains(['.', ':']) {
            return None;
        }
        let trimmed = word.trim_end_matches(['.', ':']);
        let concealed = addresses.conceal(trimmed, key)?;
        Some(concealed + word.get(trimmed.len()..).unwrap_or_default())
    })
}

/// Replaces words, which are runs of characters that fit, where `replace` has something instead. It is given the word
/// and all that stands before it.
fn replace_words(
    text: &str,
    is_part: impl Fn(char) -> bool,
    replace: impl Fn(&str, &str) -> Option<String>,
) -> Option<String> {
    let mut result: Option<String> = None;
    let mut done = 0;
    let mut start = None;
    for (at, letter) in text.char_indices().chain([(text.len(), '\0')]) {
        let is_in_word = at < text.len() && is_part(letter);
        match (start, is_in_word) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                start = None;
                let (before, word) =
                    (text.get(..from).unwrap_or_default(), text.get(from..at).unwrap_or_default());
                if let Some(instead) = replace(word, before) {
                    let result = result.get_or_insert_default();
                    result.push_str(text.get(done..from).unwrap_or_default());
                    result.push_str(&instead);
                    done = at;
                }
            }
            _ => {}
        }
    }
    if let Some(result) = &mut result {
        result.push_str(text.get(done..).unwrap_or_default());
    }
    result
}

/// Base64 of both alphabets, hex, and the dots of a JSON Web Token. A slash is left out: paths have it, and a token
/// between two of them is found all the same.
fn is_part_of_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '+' | '=' | '~' | '%')
}

/// Three parts in base64, the first of which is a JSON object.
fn is_jwt(word: &str) -> bool {
    let Some((header, rest)) = word.split_once('.') else { return false };
    let begin = header.get(..4).and_then(|begin| URL_SAFE_NO_PAD.decode(begin).ok());
    // A name or a space follows the brace: hosts such as `example.co.uk` begin like one otherwise.
    let is_object = |begin: &[u8]| matches!(begin, [b'{', b'"' | b' ' | b'\t' | b'\r' | b'\n', ..]);
    begin.is_some_and(|begin| is_object(&begin)) && rest.contains('.')
}

/// A long run that mixes letters and digits as no name does.
fn is_random(word: &str) -> bool {
    // Names of hosts and files have dots, UUIDs have dashes: what is between them counts.
    word.split('.').filter(|part| part.len() > MAX_NAME && !is_uuid(part)).any(|part| {
        let n_digits = part.bytes().filter(u8::is_ascii_digit).count();
        let n_letters = part.bytes().filter(u8::is_ascii_alphabetic).count();
        let n_other = part.len() - n_digits - n_letters;
        let changes = part
            .as_bytes()
            .windows(2)
            .filter(|pair| matches!(pair, [a, b] if class(*a) != class(*b)))
            .count();
        // Words joined by dashes change where a word ends; random text changes at every third character or more often.
        n_digits > 0 && n_letters > 0 && n_other * 6 < part.len() && changes * 5 >= part.len()
    })
}

fn class(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => 0,
        b'a'..=b'z' => 1,
        b'A'..=b'Z' => 2,
        _ => 3,
    }
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Both ways: as what the gateway notices, and as what comes as an entry.
    fn guarded(name: &'static str, value: Value, addresses: ClientAddress) -> Value {
        let key = AddressKey::new(&[7; 32]);
        let mut packed = Facts::none().with("status", 101).with(name, &value).with("count", 1);
        facts(&mut packed, addresses, &key);
        let mut own = value;
        values([(name, &mut own)].into_iter(), addresses, &key);
        assert_eq!(packed.get(name).as_ref(), Some(&own));
        assert_eq!((packed.get("status"), packed.get("count")), (Some(101.into()), Some(1.into())));
        own
    }

    fn clean(name: &'static str, text: &str, addresses: ClientAddress) -> String {
        guarded(name, text.into(), addresses).as_str().unwrap().to_owned()
    }

    #[test]
    fn what_looks_like_a_secret_is_replaced() {
        // DX-10
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";
        let hex = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
        let base64 = "q3Zk9fPx1LmN8vRt5wYb2cHd7sJg4aKe6uTiOp0XzVQ";
        for (text, expected) in [
            (jwt.to_owned(), TOKEN.to_owned()),
            (format!("/ws/{jwt}/x"), format!("/ws/{TOKEN}/x")),
            (format!("no key for {hex} in 60 s"), format!("no key for {TOKEN} in 60 s")),
            (format!("/prod/{base64}"), format!("/prod/{TOKEN}")),
            ("sent ewogImFsZyI6MX0.e30.x to it".to_owned(), format!("sent {TOKEN} to it")),
            ("Bearer abc123".to_owned(), format!("Bearer {TOKEN}")),
            ("sent Basic dXNlcjpwYXNz".to_owned(), format!("sent Basic {TOKEN}")),
            (format!("access_token={hex}"), TOKEN.to_owned()),
        ] {
            assert_eq!(clean("detail", &text, ClientAddress::Full), expected, "{text}");
        }
        let offered = guarded("offeredSubprotocols", json!(["v1", jwt, { "x": hex }]), ClientAddress::Full);
        assert_eq!(offered, json!(["v1", TOKEN, { "x": TOKEN }]));
    }

    #[test]
    fn names_stay_as_they_are() {
        for text in [
            "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
            "http://service-with-a-long-name.internal.example.com:8080/websocket/connect",
            "550e8400-e29b-41d4-a716-446655440000",
            "sec-websocket-extensions",
            "x-forwarded-for-original-client-address-header",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "permessage-deflate; client_max_window_bits",
            "$request.body.action",
            "application/problem+json; charset=utf-8",
            "no answer within 29000 ms",
            "no answer of example.co.uk in time",
        ] {
            assert_eq!(clean("detail", text, ClientAddress::Full), text);
        }
        let hash = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
        assert_eq!(clean("snapshotHash", hash, ClientAddress::Full), hash);
    }

    #[test]
    fn facts_have_a_bound() {
        assert_eq!(clean("path", &"a/".repeat(5000), ClientAddress::Full).len(), MAX_TEXT + 3);
        let names = guarded("headerNames", vec!["x"; 1000].into(), ClientAddress::Full);
        assert_eq!(names.as_array().map(Vec::len), Some(MAX_LIST));
    }

    #[test]
    fn addresses_are_concealed_wherever_they_stand() {
        // DX-11
        for (name, text, expected) in [
            ("peer", "203.0.113.77", "203.0.113.0/24"),
            ("peer", "2001:db8:1:2:3::4", "2001:db8:1::/48"),
            ("peer", "::ffff:203.0.113.77", "203.0.113.0/24"),
            (
                "detail",
                "11 attempts of 203.0.113.77, at most 10",
                "11 attempts of 203.0.113.0/24, at most 10",
            ),
            ("detail", "came from [2001:db8:1:2::9]:4711.", "came from 2001:db8:1::/48."),
            ("target", "http://192.0.2.7:80/ws", "http://192.0.2.7:80/ws"),
            ("host", "192.0.2.7", "192.0.2.7"),
            ("httpVersion", "1.1", "1.1"),
        ] {
            assert_eq!(clean(name, text, ClientAddress::Truncated), expected, "{text}");
        }
        let hashed = clean("peer", "203.0.113.77", ClientAddress::Hashed);
        assert!(hashed.starts_with("hmac:") && hashed.len() == 21, "{hashed}");
        assert_eq!(clean("detail", "203.0.113.77:80", ClientAddress::Hashed), hashed);
        assert_ne!(clean("peer", "203.0.113.78", ClientAddress::Hashed), hashed);
        let other = ClientAddress::Hashed.conceal("203.0.113.77", &AddressKey::new(&[8; 32]));
        assert_ne!(other.as_deref(), Some(hashed.as_str()));
    }
}
