//! Where tags begin and end, by the rules that browsers have for it.
//!
//! A parser drops what stands between a `<` that begins a tag and the end of the text when the tag is never closed. That would be
//! text of the user, so such a `<` is made an entity before.

use std::collections::HashMap;

/// How much work a parser may have with open elements: the sum, over all tags, of the elements open there. A text of 1 MiB in
/// which it is larger can take a browser's algorithm minutes, and gigabytes.
const MAX_OPEN_SUM: usize = 200_000;

/// Elements that are never open.
const VOID: &[&[u8]] =
    &[b"br", b"hr", b"img", b"input", b"wbr", b"meta", b"link", b"area", b"base", b"embed"];

/// The states in which a tag is read, after its `<` or `</` and a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Name,
    BeforeAttribute,
    AttributeName,
    AfterAttributeName,
    BeforeValue,
    DoubleQuoted,
    SingleQuoted,
    Unquoted,
    AfterQuoted,
    SelfClosing,
    Ended,
}

const STATES: [State; 10] = [
    State::Name,
    State::BeforeAttribute,
    State::AttributeName,
    State::AfterAttributeName,
    State::BeforeValue,
    State::DoubleQuoted,
    State::SingleQuoted,
    State::Unquoted,
    State::AfterQuoted,
    State::SelfClosing,
];

impl State {
    /// Source: HTML Living Standard, 13.2.5.8 and 13.2.5.32 to 13.2.5.40.
    fn next(self, byte: u8) -> Self {
        use State::*;
        let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c');
        match (self, byte) {
            (DoubleQuoted, b'"') | (SingleQuoted, b'\'') => AfterQuoted,
            (DoubleQuoted | SingleQuoted, _) => self,
            (_, b'>') => Ended,
            (BeforeValue, _) if is_space => BeforeValue,
            (BeforeValue, b'"') => DoubleQuoted,
            (BeforeValue, b'\'') => SingleQuoted,
            (BeforeValue, _) => Unquoted,
            (Unquoted, _) if is_space => BeforeAttribute,
            (Unquoted, _) => Unquoted,
            (_, b'/') => SelfClosing,
            (AttributeName | AfterAttributeName, _) if is_space => AfterAttributeName,
            (_, _) if is_space => BeforeAttribute,
            (Name, _) => Name,
            (AttributeName | AfterAttributeName, b'=') => BeforeValue,
            (_, _) => AttributeName,
        }
    }
}

/// For each place whether a tag whose name begins there comes to its end. Read from the end, so that a text of nothing but
/// beginnings takes no longer than any other.
fn tags_that_end(text: &[u8]) -> Vec<bool> {
    let mut ends = vec![false; text.len() + 1];
    // One bit for each state: from here on, in this state, the end is reached.
    let mut reaches: u16 = 0;
    for (place, &byte) in text.iter().enumerate().rev() {
        let mut now = 0;
        for state in STATES {
            let next = state.next(byte);
            if next == State::Ended || reaches & (1 << next as u16) != 0 {
                now |= 1 << state as u16;
            }
        }
        reaches = now;
        ends[place] = reaches & (1 << State::Name as u16) != 0;
    }
    ends
}

/// The text with each `<` that begins a tag or comment without end as `&lt;`. Nothing when reading it would take too much work.
pub(super) fn escape_incomplete(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let ends = tags_that_end(bytes);
    let last_close = bytes.iter().rposition(|byte| *byte == b'>');
    let last_comment_end = text.rfind("-->").max(text.rfind("--!>"));
    let mut escaped = String::with_capacity(text.len() + 16);
    let mut open = OpenElements::default();
    let mut copied = 0;
    let mut place = 0;
    while let Some(found) = bytes[place..].iter().position(|byte| *byte == b'<') {
        let start = place + found;
        let rest = &bytes[start + 1..];
        let name = start + 1 + usize::from(rest.first() == Some(&b'/'));
        place = start + 1;
        let is_complete = if bytes.get(name).is_some_and(u8::is_ascii_alphabetic) {
            if ends[name] {
                place = end_of_tag(bytes, name);
                open.tag(&bytes[name..place], name > start + 1)?;
            }
            ends[name]
        } else if rest.starts_with(b"!--") {
            // `<!-->` and `<!--->` are whole comments.
            let is_short = rest.starts_with(b"!-->") || rest.starts_with(b"!--->");
            is_short || last_comment_end.is_some_and(|end| end >= start + 4)
        } else if matches!(rest.first(), Some(b'!' | b'?' | b'/')) {
            last_close.is_some_and(|end| end > start)
        } else {
            // A parser takes it for text.
            true
        };
        if !is_complete {
            escaped.push_str(&text[copied..start]);
            escaped.push_str("&lt;");
            copied = start + 1;
        }
    }
    escaped.push_str(&text[copied..]);
    Some(escaped)
}

/// The place after the `>` of a tag that has one.
fn end_of_tag(bytes: &[u8], name: usize) -> usize {
    let mut state = State::Name;
    for (place, &byte) in bytes.iter().enumerate().skip(name) {
        state = state.next(byte);
        if state == State::Ended {
            return place + 1;
        }
    }
    bytes.len()
}

/// About how many elements are open, and what that costs.
#[derive(Default)]
struct OpenElements<'t> {
    by_name: HashMap<&'t [u8], usize>,
    n_open: usize,
    sum: usize,
}

impl<'t> OpenElements<'t> {
    /// Nothing when it has become too much.
    fn tag(&mut self, tag: &'t [u8], is_end: bool) -> Option<()> {
        let end =
            tag.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c' | b'/' | b'>'));
        let name = &tag[..end.unwrap_or(tag.len())];
        // A paragraph or an item ends where the next one begins.
        let is_own_end = name.eq_ignore_ascii_case(b"p") || name.eq_ignore_ascii_case(b"li");
        let is_void = VOID.iter().any(|void| name.eq_ignore_ascii_case(void));
        let n_of_name = self.by_name.entry(name).or_default();
        let is_inside = *n_of_name > 0;
        let opens_nothing = is_end || is_void || (is_own_end && is_inside);
        if is_end && is_inside {
            *n_of_name -= 1;
            self.n_open -= 1;
        } else if !opens_nothing {
            *n_of_name += 1;
            self.n_open += 1;
        }
        self.sum += self.n_open;
        (self.sum <= MAX_OPEN_SUM).then_some(())
    }
}
