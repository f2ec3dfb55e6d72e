//! Facts as bytes: half as long as JSON, and cheaper to write, which is what an entry of the journal mostly costs.
//!
//! Names and frequent texts are numbers of [`WORDS`]; a fact is its name and a value, a value a tag and what belongs to it.
//! Numbers are LEB128. What cannot be read is left out with everything behind it: a damaged entry loses facts, not itself.

use std::sync::LazyLock;

use serde_json::{Map, Number, Value};
use tidegate_core::journal::Facts;

/// Names of facts and texts that most entries have. Their places stand in files: words are added at the end, and none is
/// ever removed or moved. 0 is no word.
const WORDS: &[&str] = &[
    "",
    "peer",
    "peerPort",
    "clientAddress",
    "clientAddressTrusted",
    "listener",
    "plain",
    "tls",
    "proxy",
    "tlsVersion",
    "1.2",
    "1.3",
    "sni",
    "alpn",
    "http/1.1",
    "httpVersion",
    "1.0",
    "1.1",
    "2",
    "method",
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "host",
    "forwardedHost",
    "path",
    "queryNames",
    "headerNames",
    "cookieNames",
    "origin",
    "userAgent",
    "offeredSubprotocols",
    "chosenSubprotocol",
    "extensions",
    "upgradePresent",
    "connectionPresent",
    "keyPresent",
    "version",
    "13",
    "headBytes",
    "urlLength",
    "status",
    "authorizerMs",
    "tokenMs",
    "integrationMs",
    "integrationStatus",
    "integrationTarget",
    "domain",
    "mappingKey",
    "nearest",
    "check",
    "detail",
    "code",
    "fingerprint",
    "tokenAgeMs",
    "role",
    "count",
    "limit",
    "windowSeconds",
    "resetAt",
    "expected",
    "eventType",
    "CONNECT",
    "MESSAGE",
    "DISCONNECT",
    "target",
    "connection",
    "channel",
    "user",
    "session",
    "broadcast",
    "contentType",
    "length",
    "signature",
    "reused",
    "connectMs",
    "firstByteMs",
    "errorClass",
    "causeId",
    "size",
    "opcode",
    "replyStatus",
    "replyLength",
    "handled",
    "bytes",
    "caller",
    "sourceAddress",
    "isJson",
    "result",
    "connectionState",
    "open",
    "closed",
    "closedAt",
    "closeCode",
    "closeReason",
    "delivered",
    "gone",
    "slow",
    "change",
    "join",
    "leave",
    "by",
    "client",
    "gateway",
    "backend",
    "network",
    "clientCode",
    "clientReason",
    "ageMs",
    "idleMs",
    "messagesIn",
    "messagesOut",
    "bytesIn",
    "bytesOut",
    "pingsUnanswered",
    "lastPongMs",
    "queueHighWater",
    "queueBytes",
    "queueLength",
    "expiresAt",
    "what",
    "actor",
    "object",
    "lifetimeMs",
    "bindings",
    "sampledOneIn",
    "waitedMs",
    "rule",
    "connection.closed",
    "gone.client-closed",
    "client.page-left",
    "close.backend-requested",
    // Names of headers.
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "user-agent",
    "pragma",
    "cache-control",
    "no-cache",
    "accept",
    "accept-encoding",
    "accept-language",
    "cookie",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "forwarded",
    "via",
    "x-request-id",
    "traceparent",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "authorization",
    "dnt",
    "content-length",
    "content-type",
    "ws_token",
    "token",
    "sessionid",
    "csrftoken",
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate",
];

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const POSITIVE: u8 = 3;
/// `-1 - n`.
const NEGATIVE: u8 = 4;
const FLOAT: u8 = 5;
const TEXT: u8 = 6;
const WORD: u8 = 7;
const LIST: u8 = 8;
const OBJECT: u8 = 9;

/// Most values in each other that are read; facts have lists of texts.
const DEPTH: u8 = 16;

/// Places of [`Table`], a power of two several times as large as there are words.
const PLACES: usize = 1024;

/// The words by their hash: open addressing, read without a lock and mostly with one comparison.
struct Table([u8; PLACES]);

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut places = [0; PLACES];
    for (number, word) in (0_u8..=u8::MAX).zip(WORDS).skip(1) {
        let mut place = hash(word);
        while places[place] != 0 {
            place = (place + 1) % PLACES;
        }
        places[place] = number;
    }
    Table(places)
});

/// Of the length, the first and the last eight bytes.
fn hash(word: &str) -> usize {
    let bytes = word.as_bytes();
    let part = |part: Option<&[u8]>| {
        let mut eight = [0; 8];
        let part = part.unwrap_or(bytes);
        let n = part.len().min(8);
        eight[..n].copy_from_slice(&part[..n]);
        u64::from_le_bytes(eight)
    };
    let (first, last) = (
        part(bytes.first_chunk::<8>().map(|eight| &eight[..])),
        part(bytes.last_chunk::<8>().map(|eight| &eight[..])),
    );
    let mixed = (first ^ last.rotate_left(23) ^ bytes.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 54) as usize
}

/// The number of a word; none for what is not one.
fn number_of(text: &str) -> Option<u8> {
    if text.is_empty() {
        return None;
    }
    let table = &*TABLE;
    let mut place = hash(text);
    loop {
        let number = table.0[place];
        if number == 0 {
            return None;
        }
        if WORDS[usize::from(number)] == text {
            return Some(number);
        }
        place = (place + 1) % PLACES;
    }
}

/// Writes facts behind what is in the buffer.
pub(super) fn write(out: &mut Vec<u8>, facts: &Facts) {
    for (name, value) in facts.iter() {
        match number_of(name) {
            Some(number) => out.push(number),
            None => {
                out.push(0);
                write_text(out, name);
            }
        }
        write_value(out, value);
    }
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(false) => out.push(FALSE),
        Value::Bool(true) => out.push(TRUE),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => match number_of(text) {
            Some(number) => out.extend([WORD, number]),
            None => {
                out.push(TEXT);
                write_text(out, text);
            }
        },
        Value::Array(values) => {
            out.push(LIST);
            write_length(out, values.len());
            values.iter().for_each(|value| write_value(out, value));
        }
        Value::Object(members) => {
            out.push(OBJECT);
            write_length(out, members.len());
            for (name, value) in members {
                write_text(out, name);
                write_value(out, value);
            }
        }
    }
}

fn write_number(out: &mut Vec<u8>, number: &Number) {
    if let Some(positive) = number.as_u64() {
        out.push(POSITIVE);
        write_leb(out, positive);
    } else if let Some(negative) = number.as_i64() {
        out.push(NEGATIVE);
        write_leb(out, !negative as u64);
    } else {
        out.push(FLOAT);
        out.extend(number.as_f64().unwrap_or(f64::NAN).to_le_bytes());
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn write_length(out: &mut Vec<u8>, length: usize) {
    write_leb(out, length as u64);
}

fn write_leb(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads facts; of a name that was written twice the last value.
pub(super) fn read(mut bytes: &[u8]) -> Map<String, Value> {
    let mut facts = Map::new();
    while let Some((name, value)) = read_fact(&mut bytes) {
        facts.insert(name, value);
    }
    facts
}

fn read_fact(bytes: &mut &[u8]) -> Option<(String, Value)> {
    let name = match take(bytes)? {
        0 => read_text(bytes)?,
        number => (*WORDS.get(usize::from(number))?).to_owned(),
    };
    Some((name, read_value(bytes, DEPTH)?))
}

fn read_value(bytes: &mut &[u8], depth: u8) -> Option<Value> {
    Some(match take(bytes)? {
        NULL => Value::Null,
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        POSITIVE => read_leb(bytes)?.into(),
        NEGATIVE => (!read_leb(bytes)? as i64).into(),
        FLOAT => {
            let (eight, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            f64::from_le_bytes(*eight).into()
        }
        TEXT => Value::String(read_text(bytes)?),
        WORD => Value::String((*WORDS.get(usize::from(take(bytes)?))?).to_owned()),
        LIST => {
            let depth = depth.checked_sub(1)?;
            let n_values = read_leb(bytes)?;
            Value::Array((0..n_values).map(|_| read_value(bytes, depth)).collect::<Option<_>>()?)
        }
        OBJECT => {
            let depth = depth.checked_sub(1)?;
            let n_members = read_leb(bytes)?;
            let mut member = |_| Some((read_text(bytes)?, read_value(bytes, depth)?));
            Value::Object((0..n_members).map(&mut member).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn read_text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(read_leb(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(text).ok().map(str::to_owned)
}

fn read_leb(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = take(bytes)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn take(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn there_and_back(facts: Facts) {
        let mut bytes = Vec::new();
        write(&mut bytes, &facts);
        assert_eq!(read(&bytes), facts.into_map());
    }

    #[test]
    fn words_keep_their_numbers() {
        // DX-7: files hold them. A word that moves gives the facts of every older entry other names.
        for (word, number) in [("peer", 1), ("userAgent", 31), ("status", 42), ("by", 102), ("ws_token", 162)]
        {
            assert_eq!(number_of(word), Some(number), "{word}");
        }
        assert_eq!(WORDS.len(), 168, "words are added at the end; then this number grows");
        for (number, word) in WORDS.iter().enumerate().skip(1) {
            assert_eq!(number_of(word).map(usize::from), Some(number), "{word} is there twice");
        }
        assert!(WORDS.len() <= 256);
        assert_eq!((number_of(""), number_of("no word of it")), (None, None));
    }

    #[test]
    fn every_value_comes_back() {
        let values = [
            json!(null),
            json!(true),
            json!(false),
            json!(0),
            json!(127),
            json!(128),
            json!(u64::MAX),
            json!(-1),
            json!(i64::MIN),
            json!(0.25),
            json!(-1e300),
            json!(""),
            json!("tls"),
            json!("tls2"),
            json!("Grüße"),
            json!([]),
            json!(["host", "x-own", 3, [true]]),
            json!({}),
            json!({ "a": { "tls": [1] } }),
        ];
        let mut facts = Facts::none();
        for (name, value) in ["status", "ownName", "by", "limit", "x"].into_iter().cycle().zip(&values) {
            facts.add(name, value.clone());
            there_and_back(Facts::none().with(name, value.clone()));
        }
        there_and_back(facts);
    }

    #[test]
    fn half_of_what_json_takes() {
        // DX-12: what an entry costs on the disk is mostly its facts.
        let facts = Facts::none()
            .with("peer", "198.51.100.7")
            .with("listener", "tls")
            .with("httpVersion", "1.1")
            .with("path", "/prod")
            .with("headerNames", vec!["host", "upgrade", "connection", "user-agent", "origin"])
            .with("upgradePresent", true)
            .with("status", 101)
            .with("integrationMs", 3);
        let mut bytes = Vec::new();
        write(&mut bytes, &facts);
        assert!(bytes.len() * 2 < serde_json::to_vec(&facts).unwrap().len(), "{}", bytes.len());
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn texts_and_numbers_come_back(text in ".{0,80}", number in any::<i64>(), float in any::<f64>()) {
            let facts = Facts::none().with("host", text.clone()).with("limit", number).with("own", vec![text]);
            there_and_back(facts.with("float", float));
        }

        #[test]
        fn what_is_cut_off_keeps_what_is_before(cut in 0_usize..40) {
            let facts = Facts::none().with("status", 101).with("path", "/prod").with("userAgent", "Mozilla/5.0 (X11)");
            let mut bytes = Vec::new();
            write(&mut bytes, &facts);
            let all = facts.into_map();
            let found = read(&bytes[..cut.min(bytes.len())]);
            prop_assert!(found.iter().all(|(name, value)| all.get(name) == Some(value)));
        }
    }
}
