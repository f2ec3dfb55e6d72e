//! An HTTP/1.1 answer, from bytes to a value. No I/O: bytes come in any split, and nothing is read beyond the
//! end of the answer without being noticed. Source: RFC 9112.

use std::mem::MaybeUninit;
use std::time::Instant;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tidegate_core::limits;

/// Longest sum of chunk extensions and trailers of one answer, in bytes; they are read and thrown away.
const MAX_DISCARDED: usize = 16 * 1024;

/// Memory reserved for a body of known length before any of it has arrived, in bytes.
const MAX_RESERVED: usize = 64 * 1024;

/// Why bytes are no answer that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadAnswer {
    /// They are not HTTP, or the connection ended before the answer did.
    Malformed,
    /// The body is larger than [`limits::MAX_BACKEND_BODY_BYTES`].
    TooLarge,
}

/// Reads one answer.
#[derive(Debug)]
pub(super) struct AnswerReader {
    is_head_request: bool,
    wants_headers: bool,
    state: State,
    /// What has arrived of a head that is not complete.
    partial: Vec<u8>,
    /// Bytes of heads so far, those of interim answers included.
    n_head_bytes: usize,
    n_taken: usize,
    first_taken_at: Option<Instant>,
    is_reusable: bool,
    received: Received,
}

/// An answer.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) status: u16,
    /// Empty unless they were asked for, or the status is 300 or more.
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Head,
    /// So many bytes of the body are missing.
    Length(usize),
    Chunked(Chunked),
    /// The body ends with the connection.
    UntilEnd,
    Done,
}

impl AnswerReader {
    /// `wants_headers`: someone will look at them; else only their framing is read, unless the status is 300 or more.
    pub(super) fn new(is_head_request: bool, wants_headers: bool) -> Self {
        Self {
            is_head_request,
            wants_headers,
            state: State::Head,
            partial: Vec::new(),
            n_head_bytes: 0,
            n_taken: 0,
            first_taken_at: None,
            is_reusable: false,
            received: Received::default(),
        }
    }

    /// Takes what has arrived.
    ///
    /// # Errors
    /// [`BadAnswer`]; the connection must not be used again.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), BadAnswer> {
        let joined;
        let mut rest = bytes;
        self.n_taken += bytes.len();
        if self.first_taken_at.is_none() {
            self.first_taken_at = Some(Instant::now());
        }
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(bytes);
            // Only a line feed can complete a head, so a head in many small pieces is not parsed for each.
            if !bytes.contains(&b'\n') {
                return self.check_head_len(self.partial.len());
            }
            joined = std::mem::take(&mut self.partial);
            rest = &joined;
        }
        while !rest.is_empty() {
            let n_taken = match &mut self.state {
                State::Head => match self.take_head(rest)? {
                    Some(n_taken) => n_taken,
                    None => {
                        self.partial = rest.to_vec();
                        return self.check_head_len(rest.len());
                    }
                },
                State::Length(left) => {
                    let n_taken = rest.len().min(*left);
                    *left -= n_taken;
                    if *left == 0 {
                        self.state = State::Done;
                    }
                    extend(&mut self.received.body, &rest[..n_taken])?;
                    n_taken
                }
                State::Chunked(chunked) => {
                    let n_taken = chunked.take(rest, &mut self.received.body)?;
                    if matches!(chunked.at, At::Over) {
                        self.state = State::Done;
                    }
                    n_taken
                }
                State::UntilEnd => {
                    extend(&mut self.received.body, rest)?;
                    rest.len()
                }
                State::Done => {
                    // Nobody asked for more than one answer.
                    self.is_reusable = false;
                    return Ok(());
                }
            };
            rest = &rest[n_taken..];
        }
        Ok(())
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// [`BadAnswer`] unless the answer ends with it.
    pub(super) fn end(&mut self) -> Result<(), BadAnswer> {
        match self.state {
            State::UntilEnd | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            State::Head | State::Length(_) | State::Chunked(_) => Err(BadAnswer::Malformed),
        }
    }

    /// Whether the answer is complete.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Bytes that have arrived.
    pub(super) fn n_taken(&self) -> usize {
        self.n_taken
    }

    /// When the first of them arrived.
    pub(super) fn first_taken_at(&self) -> Option<Instant> {
        self.first_taken_at
    }

    /// Whether the head of the answer is complete.
    pub(super) fn has_head(&self) -> bool {
        !matches!(self.state, State::Head)
    }

    /// Whether the backend keeps the connection open for another request. Means something when the answer is
    /// complete.
    pub(super) fn is_reusable(&self) -> bool {
        self.is_reusable
    }

    /// The answer.
    pub(super) fn into_received(self) -> Received {
        self.received
    }

    fn check_head_len(&self, n_more: usize) -> Result<(), BadAnswer> {
        match self.n_head_bytes + n_more > limits::MAX_BACKEND_HEAD_BYTES {
            true => Err(BadAnswer::Malformed),
            false => Ok(()),
        }
    }

    /// Parses a head; its length, or nothing when it is not complete.
    fn take_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadAnswer> {
        let mut headers = [const { MaybeUninit::uninit() }; limits::MAX_BACKEND_HEADERS];
        let mut head = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut head,
            bytes,
            &mut headers,
        );
        let head_len = match parsed {
            Ok(httparse::Status::Complete(head_len)) => head_len,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(BadAnswer::Malformed),
        };
        self.check_head_len(head_len)?;
        self.n_head_bytes += head_len;
        let status = head.code.unwrap_or_default();
        match status {
            // Nobody asked for another protocol.
            ..100 | 101 => return Err(BadAnswer::Malformed),
            // Interim answers precede the answer. Source: RFC 9110, section 15.2.
            102..200 | 100 => return Ok(Some(head_len)),
            _ => {}
        }
        let is_http_1_1 = head.version == Some(1);
        let framing = Framing::read(head.headers, is_http_1_1)?;
        self.received.status = status;
        self.is_reusable = framing.is_reusable;
        // What is no success will have to be explained.
        if self.wants_headers || status >= 300 {
            self.received.headers = header_map(head.headers)?;
        }
        self.state = if self.is_head_request || matches!(status, 204 | 304) {
            State::Done
        } else {
            match framing.body {
                Body::Length(0) => State::Done,
                Body::Length(length) => {
                    if length > limits::MAX_BACKEND_BODY_BYTES as u64 {
                        return Err(BadAnswer::TooLarge);
                    }
                    let length = length as usize;
                    self.received.body.reserve_exact(length.min(MAX_RESERVED));
                    State::Length(length)
                }
                Body::Chunked => State::Chunked(Chunked::default()),
                Body::UntilEnd => {
                    self.is_reusable = false;
                    State::UntilEnd
                }
            }
        };
        Ok(Some(head_len))
    }
}

fn extend(body: &mut Vec<u8>, bytes: &[u8]) -> Result<(), BadAnswer> {
    if body.len() + bytes.len() > limits::MAX_BACKEND_BODY_BYTES {
        return Err(BadAnswer::TooLarge);
    }
    body.extend_from_slice(bytes);
    Ok(())
}

fn header_map(headers: &[httparse::Header<'_>]) -> Result<HeaderMap, BadAnswer> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for header in headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| BadAnswer::Malformed)?;
        let value = HeaderValue::from_bytes(header.value).map_err(|_| BadAnswer::Malformed)?;
        map.append(name, value);
    }
    Ok(map)
}

/// Where a body ends. Source: RFC 9112, section 6.3.
#[derive(Debug, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunked,
    UntilEnd,
}

struct Framing {
    body: Body,
    is_reusable: bool,
}

impl Framing {
    fn read(headers: &[httparse::Header<'_>], is_http_1_1: bool) -> Result<Self, BadAnswer> {
        let mut length = None;
        let mut last_coding: Option<&[u8]> = None;
        let (mut says_close, mut says_keep_alive) = (false, false);
        for header in headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                for value in tokens(header.value) {
                    let value = decimal(value)?;
                    // Two lengths are two ideas of where the next answer begins.
                    if length.is_some_and(|known| known != value) {
                        return Err(BadAnswer::Malformed);
                    }
                    length = Some(value);
                }
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                last_coding = tokens(header.value).last().or(last_coding);
            } else if header.name.eq_ignore_ascii_case("connection") {
                for token in tokens(header.value) {
                    says_close |= token.eq_ignore_ascii_case(b"close");
                    says_keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            }
        }
        let mut is_reusable = !says_close && (is_http_1_1 || says_keep_alive);
        let body = match (last_coding, length) {
            // HTTP/1.0 knows no codings. Source: RFC 9112, section 6.1.
            (Some(_), _) if !is_http_1_1 => return Err(BadAnswer::Malformed),
            (Some(coding), length) => {
                // The coding counts, but who sent both may mean either.
                is_reusable &= length.is_none();
                match coding.eq_ignore_ascii_case(b"chunked") {
                    true => Body::Chunked,
                    false => Body::UntilEnd,
                }
            }
            (None, Some(length)) => Body::Length(length),
            (None, None) => Body::UntilEnd,
        };
        Ok(Self { body, is_reusable })
    }
}

/// The elements of a comma-separated value.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

fn decimal(text: &[u8]) -> Result<u64, BadAnswer> {
    let is_digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| is_digits);
    text.and_then(|text| text.parse().ok()).ok_or(BadAnswer::Malformed)
}

/// A chunked body. Source: RFC 9112, section 7.1.
#[derive(Debug, Default)]
struct Chunked {
    at: At,
    /// Size of the chunk as far as it was read, then what is missing of it.
    size: usize,
    n_discarded: usize,
}

/// What the next byte is.
#[derive(Debug, Default, Clone, Copy)]
enum At {
    /// First digit of a size.
    #[default]
    Size,
    /// Further digits, or what follows them.
    SizeOrEnd,
    /// Blanks or an extension, to the end of the line.
    Extension,
    /// Line feed behind a size.
    SizeFeed,
    Data,
    /// Line end behind the data.
    DataReturn,
    DataFeed,
    /// A trailer, or the empty line that ends the body.
    Trailer,
    /// Inside a trailer.
    TrailerLine,
    TrailerFeed,
    /// Line feed of the empty line.
    LastFeed,
    Over,
}

impl Chunked {
    /// Decodes until the end of the bytes or of the body; how many bytes were taken.
    fn take(&mut self, bytes: &[u8], body: &mut Vec<u8>) -> Result<usize, BadAnswer> {
        let mut n_taken = 0;
        while let Some(&byte) = bytes.get(n_taken) {
            if matches!(self.at, At::Data) {
                let data = &bytes[n_taken..];
                let data = &data[..data.len().min(self.size)];
                extend(body, data)?;
                n_taken += data.len();
                self.size -= data.len();
                if self.size == 0 {
                    self.at = At::DataReturn;
                }
                continue;
            }
            if matches!(self.at, At::Over) {
                break;
            }
            self.at = self.step(byte)?;
            n_taken += 1;
        }
        Ok(n_taken)
    }

    fn step(&mut self, byte: u8) -> Result<At, BadAnswer> {
        Ok(match (self.at, byte) {
            (At::Size | At::SizeOrEnd, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default() as usize;
                self.size = self.size * 16 + digit;
                // Also what keeps the multiplication from overflowing.
                if self.size > limits::MAX_BACKEND_BODY_BYTES {
                    return Err(BadAnswer::TooLarge);
                }
                At::SizeOrEnd
            }
            (At::SizeOrEnd, b' ' | b'\t' | b';') => At::Extension,
            (At::SizeOrEnd | At::Extension, b'\r') => At::SizeFeed,
            (At::Extension, byte) if byte != b'\n' => self.discard(At::Extension)?,
            (At::SizeFeed, b'\n') if self.size == 0 => At::Trailer,
            (At::SizeFeed, b'\n') => At::Data,
            (At::DataReturn, b'\r') => At::DataFeed,
            (At::DataFeed, b'\n') => At::Size,
            (At::Trailer, b'\r') => At::LastFeed,
            (At::TrailerLine, b'\r') => At::TrailerFeed,
            (At::Trailer | At::TrailerLine, byte) if byte != b'\n' => self.discard(At::TrailerLine)?,
            (At::TrailerFeed, b'\n') => At::Trailer,
            (At::LastFeed, b'\n') => At::Over,
            _ => return Err(BadAnswer::Malformed),
        })
    }

    fn discard(&mut self, next: At) -> Result<At, BadAnswer> {
        self.n_discarded += 1;
        match self.n_discarded > MAX_DISCARDED {
            true => Err(BadAnswer::Malformed),
            false => Ok(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an answer in pieces of each size, then the end of the connection. Status, body, and whether the
    /// connection may be used again; it must be the same however the bytes are split.
    fn read(text: &str, is_head_request: bool) -> Result<(u16, String, bool), BadAnswer> {
        let split = |piece: usize| {
            let mut reader = AnswerReader::new(is_head_request, true);
            for bytes in text.as_bytes().chunks(piece) {
                reader.take(bytes)?;
            }
            let ended_by_itself = reader.is_done();
            reader.end()?;
            let is_reusable = ended_by_itself && reader.is_reusable();
            let received = reader.into_received();
            Ok((received.status, String::from_utf8(received.body).unwrap(), is_reusable))
        };
        let whole = split(text.len());
        for piece in 1..text.len() {
            assert_eq!(split(piece), whole, "pieces of {piece} bytes of {text:?}");
        }
        whole
    }

    fn good(text: &str, status: u16, body: &str, is_reusable: bool) {
        assert_eq!(read(text, false), Ok((status, body.to_owned(), is_reusable)), "{text:?}");
    }

    #[test]
    fn bodies_end_where_they_should() {
        good("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true);
        good("HTTP/1.1 200\r\ncontent-length: 5, 5\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true);
        good("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "", true);
        good("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true);
        good("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, "", true);
        good("HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, "until the end", false);
        good("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx", 200, "x", false);
        let head = "HTTP/1.1 201 Created\r\nTransfer-Encoding: Chunked\r\n\r\n";
        good(&format!("{head}0\r\n\r\n"), 201, "", true);
        good(
            &format!("{head}5\r\nhello\r\n00B ;x=\"y\"\r\n, and again\r\n0;z\r\nT: 1\r\nU: 2\r\n\r\n"),
            201,
            "hello, and again",
            true,
        );
    }
    #[test]
    fn connections_are_kept_only_when_both_agree() {
        good("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\na", 200, "a", false);
        good("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", 200, "a", false);
        good("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", 200, "a", true);
        // Whoever says both length and coding may mean either.
        let both = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        good(&format!("{both}1\r\na\r\n0\r\n\r\n"), 200, "a", false);
        // More than was asked for.
        good("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc", 200, "a", false);
    }

    #[test]
    fn interim_answers_are_skipped() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
        good(&format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"), 200, "a", true);
        assert_eq!(read("HTTP/1.1 101 Switching Protocols\r\n\r\n", false), Err(BadAnswer::Malformed));
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(read(answer, true), Ok((200, String::new(), true)));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let head = "HTTP/1.1 200 OK\r\n";
        for bad in [
            "\0\u{1} this is no HTTP\r\n\r\n".to_owned(),
            "HTTP/2.0 200 OK\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Le".to_owned(),
            format!("{head}Content-Length: 5\r\n\r\nhell"),
            format!("{head}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
            format!("{head}Content-Length: +5\r\n\r\nhello"),
            format!("{head}Content-Length: \r\n\r\n"),
            format!("{head}Content Length: 5\r\n\r\nhello"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n\r\n\r\n"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n0;{}\r\n\r\n", "x".repeat(MAX_DISCARDED + 1)),
            format!("{head}{}\r\n", "A: b\r\n".repeat(limits::MAX_BACKEND_HEADERS + 1)),
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        ] {
            let mut reader = AnswerReader::new(false, true);
            let result = bad.as_bytes().chunks(7).try_for_each(|bytes| reader.take(bytes));
            assert_eq!(result.and_then(|()| reader.end()), Err(BadAnswer::Malformed), "{bad:.120?}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let too_large = limits::MAX_BACKEND_BODY_BYTES + 1;
        let take_all = |head: &str, piece: &[u8], n_pieces: usize| {
            let mut reader = AnswerReader::new(false, true);
            reader.take(head.as_bytes())?;
            (0..n_pieces).try_for_each(|_| reader.take(piece))
        };
        let head = "HTTP/1.1 200 OK\r\n";
        let length = format!("{head}Content-Length: {too_large}\r\n\r\n");
        assert_eq!(take_all(&length, b"", 0), Err(BadAnswer::TooLarge));
        let chunk = format!("{head}Transfer-Encoding: chunked\r\n\r\n{too_large:x}");
        assert_eq!(take_all(&chunk, b"", 0), Err(BadAnswer::TooLarge));
        let huge = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", "f".repeat(40));
        assert_eq!(take_all(&huge, b"", 0), Err(BadAnswer::TooLarge));
        let piece = vec![b'x'; 1024 * 1024];
        assert_eq!(take_all(&format!("{head}\r\n"), &piece, 11), Err(BadAnswer::TooLarge));
        let chunks = format!("100000\r\n{}\r\n", "x".repeat(1024 * 1024));
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
        assert_eq!(take_all(&chunked, chunks.as_bytes(), 10), Ok(()));
        assert_eq!(take_all(&chunked, chunks.as_bytes(), 11), Err(BadAnswer::TooLarge));
        let endless = format!("{head}A: {}", "x".repeat(limits::MAX_BACKEND_HEAD_BYTES));
        assert_eq!(take_all(&endless, b"", 0), Err(BadAnswer::Malformed));
        assert_eq!(take_all(head, b"A: b", limits::MAX_BACKEND_HEAD_BYTES / 4), Err(BadAnswer::Malformed));
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        assert_eq!(take_all("", interim, limits::MAX_BACKEND_HEAD_BYTES / 24), Err(BadAnswer::Malformed));
    }

    #[test]
    fn headers_are_kept_where_they_are_wanted() {
        let answer = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n";
        for (wanted, expected) in [(true, vec!["1", "2"]), (false, vec![])] {
            let mut reader = AnswerReader::new(false, wanted);
            reader.take(answer).unwrap();
            let headers = reader.into_received().headers;
            assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), expected);
        }
    }
}
