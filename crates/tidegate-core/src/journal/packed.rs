//! Facts as bytes, from where they are found to the file of the journal: half as long as JSON, one allocation for all of an
//! event, nothing made twice. Making facts is what an entry of the journal mostly costs.
//!
//! Names and frequent texts are numbers of [`WORDS`]; a fact is its name and a value, a value a tag and what belongs to it.
//! Numbers are LEB128. What cannot be read is left out with everything behind it: a damaged entry loses facts, not itself.

use std::io::Write as _;
use std::sync::LazyLock;

use serde_json::{Map, Number, Value};

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

/// Bytes of the longest word.
const LONGEST_WORD: usize = 42;

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
    if text.is_empty() || text.len() > LONGEST_WORD {
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

/// The name of a fact as it is written, to look for: most are found by one byte.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name<'a> {
    Word(u8),
    Own(&'a str),
}

impl<'a> Name<'a> {
    pub(super) fn of(name: &'a str) -> Self {
        number_of(name).map_or(Self::Own(name), Self::Word)
    }
}

/// Writes the name of a fact.
pub(super) fn write_name(out: &mut Vec<u8>, name: &str) {
    match number_of(name) {
        Some(number) => out.push(number),
        None => {
            out.push(0);
            write_bytes(out, name.as_bytes());
        }
    }
}

/// Writes a value.
pub(super) fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(is_so) => write_bool(out, *is_so),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_text(out, text),
        Value::Array(values) => {
            out.push(LIST);
            write_leb(out, values.len() as u64);
            values.iter().for_each(|value| write_value(out, value));
        }
        Value::Object(members) => write_object(out, members),
    }
}

/// Writes an object.
pub(super) fn write_object(out: &mut Vec<u8>, members: &Map<String, Value>) {
    out.push(OBJECT);
    write_leb(out, members.len() as u64);
    for (name, value) in members {
        write_bytes(out, name.as_bytes());
        write_value(out, value);
    }
}

pub(super) fn write_null(out: &mut Vec<u8>) {
    out.push(NULL);
}

pub(super) fn write_bool(out: &mut Vec<u8>, is_so: bool) {
    out.push(if is_so { TRUE } else { FALSE });
}

pub(super) fn write_unsigned(out: &mut Vec<u8>, number: u64) {
    out.push(POSITIVE);
    write_leb(out, number);
}

pub(super) fn write_signed(out: &mut Vec<u8>, number: i64) {
    match u64::try_from(number) {
        Ok(number) => write_unsigned(out, number),
        Err(_) => {
            out.push(NEGATIVE);
            write_leb(out, !number as u64);
        }
    }
}

/// As JSON has it: what is not a finite number is null.
pub(super) fn write_float(out: &mut Vec<u8>, number: f64) {
    if !number.is_finite() {
        return out.push(NULL);
    }
    out.push(FLOAT);
    out.extend(number.to_le_bytes());
}

fn write_number(out: &mut Vec<u8>, number: &Number) {
    if let Some(positive) = number.as_u64() {
        write_unsigned(out, positive);
    } else if let Some(negative) = number.as_i64() {
        write_signed(out, negative);
    } else {
        write_float(out, number.as_f64().unwrap_or(f64::NAN));
    }
}

/// Writes a text, by its number if it is a word.
pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    match number_of(text) {
        Some(number) => out.extend([WORD, number]),
        None => {
            out.push(TEXT);
            write_bytes(out, text.as_bytes());
        }
    }
}

/// Writes a text that is being printed.
pub(super) fn write_printed(out: &mut Vec<u8>, text: impl std::fmt::Display) {
    out.push(TEXT);
    with_count(out, |out| {
        let start = out.len();
        // Memory takes everything; a `Display` that fails leaves what it had printed.
        let _ = out.write_fmt(format_args!("{text}"));
        out.len() - start
    });
}

/// Writes a list of values, each written by `write`.
pub(super) fn write_list<T>(
    out: &mut Vec<u8>,
    values: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(LIST);
    with_count(out, |out| values.into_iter().map(|value| write(out, value)).count());
}

/// Writes in front of what `write` writes the count that it answers. Nearly always that takes one byte, for which room is
/// left; otherwise what was written moves.
fn with_count(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> usize) {
    let at = out.len();
    out.push(0);
    let count = write(out);
    match u8::try_from(count) {
        Ok(count @ ..0x80) => out[at] = count,
        _ => {
            let mut longer = Vec::with_capacity(10);
            write_leb(&mut longer, count as u64);
            out.splice(at..=at, longer);
        }
    }
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_leb(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn write_leb(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What a walk over facts meets, beside numbers and words, in which nothing can hide.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// A text that is no word of the format, alone or in a list or an object.
    Text(&'a str),
    /// A list of so many values, before them.
    List(usize),
}

/// One fact after the other, in place.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The name of the next fact, whose value is to be read or skipped then. None at the end and before what is damaged.
    pub(super) fn name(&mut self) -> Option<&'a str> {
        match self.take()? {
            0 => self.text(),
            number => WORDS.get(usize::from(number)).copied(),
        }
    }

    /// Whether the next fact, whose value is to be read or skipped then, has this name. None at the end.
    pub(super) fn is_named(&mut self, name: Name<'_>) -> Option<bool> {
        Some(match (self.take()?, name) {
            (0, Name::Own(name)) => self.text()? == name,
            (0, Name::Word(_)) => {
                self.text()?;
                false
            }
            (number, Name::Word(word)) => number == word,
            (_, Name::Own(_)) => false,
        })
    }

    /// The value.
    pub(super) fn value(&mut self) -> Option<Value> {
        self.value_within(DEPTH)
    }

    /// Passes the value; `visit` is shown its parts and ends the walk with true.
    pub(super) fn pass(&mut self, visit: &mut impl FnMut(Part<'a>) -> bool) -> Option<bool> {
        self.pass_within(DEPTH, visit)
    }

    fn value_within(&mut self, depth: u8) -> Option<Value> {
        Some(match self.take()? {
            NULL => Value::Null,
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            POSITIVE => self.leb()?.into(),
            NEGATIVE => (!self.leb()? as i64).into(),
            FLOAT => f64::from_le_bytes(*self.chunk()?).into(),
            TEXT => self.text()?.into(),
            WORD => self.word()?.into(),
            LIST => {
                let depth = depth.checked_sub(1)?;
                let n_values = self.leb()?;
                Value::Array((0..n_values).map(|_| self.value_within(depth)).collect::<Option<_>>()?)
            }
            OBJECT => {
                let depth = depth.checked_sub(1)?;
                let n_members = self.leb()?;
                let mut member = |_| Some((self.text()?.to_owned(), self.value_within(depth)?));
                Value::Object((0..n_members).map(&mut member).collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }

    fn pass_within(&mut self, depth: u8, visit: &mut impl FnMut(Part<'a>) -> bool) -> Option<bool> {
        match self.take()? {
            NULL | FALSE | TRUE => {}
            POSITIVE | NEGATIVE => {
                self.leb()?;
            }
            FLOAT => {
                self.chunk::<8>()?;
            }
            TEXT => return self.text().map(|text| visit(Part::Text(text))),
            WORD => {
                self.take()?;
            }
            LIST => {
                let depth = depth.checked_sub(1)?;
                let n_values = self.leb()?;
                if visit(Part::List(usize::try_from(n_values).unwrap_or(usize::MAX))) {
                    return Some(true);
                }
                for _ in 0..n_values {
                    if self.pass_within(depth, visit)? {
                        return Some(true);
                    }
                }
            }
            OBJECT => {
                let depth = depth.checked_sub(1)?;
                for _ in 0..self.leb()? {
                    self.text()?;
                    if self.pass_within(depth, visit)? {
                        return Some(true);
                    }
                }
            }
            _ => return None,
        }
        Some(false)
    }

    fn word(&mut self) -> Option<&'static str> {
        WORDS.get(usize::from(self.take()?)).copied()
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.leb()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn leb(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.take()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(chunk)
    }

    fn take(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::journal::Facts;

    fn there_and_back(expected: &[(&'static str, Value)]) {
        let mut facts = Facts::none();
        for (name, value) in expected {
            facts.add(name, value.clone());
        }
        let read: Vec<(String, Value)> = facts.iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert!(
            read.iter()
                .map(|(name, value)| (&**name, value))
                .eq(expected.iter().map(|(name, value)| (*name, value)))
        );
        let object: Map<String, Value> =
            expected.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        assert_eq!(Facts::from_packed(facts.as_packed()).into_map(), object);
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
        assert_eq!(WORDS.iter().map(|word| word.len()).max(), Some(LONGEST_WORD));
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
        let names = ["status", "ownName", "by", "limit", "x"].into_iter().cycle();
        let facts: Vec<(&str, Value)> = names.zip(values).collect();
        for fact in &facts {
            there_and_back(std::slice::from_ref(fact));
        }
        there_and_back(&facts);
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
        let n_bytes = facts.as_packed().len();
        assert!(n_bytes * 2 < serde_json::to_vec(&facts).unwrap().len(), "{n_bytes}");
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let facts = Facts::from_packed(&bytes);
            let mut n_parts = 0;
            facts.any(|_, _| { n_parts += 1; false });
            let _ = (facts.get("no name of it"), facts.into_map());
        }

        #[test]
        fn texts_and_numbers_come_back(text in ".{0,80}", number in any::<i64>(), float in any::<f64>()) {
            let own = vec![text.clone()];
            there_and_back(&[("host", text.into()), ("limit", number.into()), ("own", own.into()), ("float", float.into())]);
        }

        #[test]
        fn what_is_cut_off_keeps_what_is_before(cut in 0_usize..40) {
            let facts = Facts::none().with("status", 101).with("path", "/prod").with("userAgent", "Mozilla/5.0 (X11)");
            let bytes = facts.as_packed();
            let found = Facts::from_packed(&bytes[..cut.min(bytes.len())]).into_map();
            let all = facts.into_map();
            prop_assert!(found.iter().all(|(name, value)| all.get(name) == Some(value)));
        }
    }
}
