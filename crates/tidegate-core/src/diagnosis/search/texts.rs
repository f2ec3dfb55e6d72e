//! Error texts that people paste, from browsers, libraries, SDKs, proxies and backends.
//!
//! Text is compared in a plain form: lower case, one kind of quotes, single blanks, addresses shortened. A pattern is
//! one or more fragments that must follow each other, with ` ... ` between them; `#` stands for any number.

use super::super::Diagnosis;
use super::{Lead, SYMPTOMS, close_code, follow, named, status};

/// Longest text that is looked at, in bytes; what comes after is not read.
pub const MAX_TEXT: usize = 16 * 1024;

/// Most other things (ids, codes) that are taken out of one text.
const MAX_FOUND: usize = 16;

/// Something that was recognized in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextMatch {
    /// The known text, shortened: ` ... ` for what differs each time, `#` for a number.
    pub pattern: &'static str,
    /// What it leads to, the first one first.
    pub causes: Vec<Diagnosis>,
}

/// Texts that mean the same, and where they lead.
struct Row {
    patterns: &'static [&'static str],
    leads: &'static [Lead],
}

macro_rules! rows {
    (@lead $cause:ident) => { Lead::Cause(Diagnosis::$cause) };
    (@lead $symptom:literal) => { Lead::Symptom($symptom) };
    (@lead (close $code:literal)) => { Lead::Close($code) };
    ($([$($pattern:literal),*] => [$($lead:tt)*];)*) => {
        &[$(Row { patterns: &[$($pattern),*], leads: &[$(rows!(@lead $lead)),*] }),*]
    };
}

/// Texts in their plain form. A number in the second list is a symptom.
const ROWS: &[Row] = rows! {
    ["net::err_name_not_resolved", "enotfound", "name or service not known", "nodename nor servname provided",
        "temporary failure in name resolution", "getaddrinfo failed", "failed to lookup address information"]
        => [DNS_NO_RECORD];
    ["err_connection_refused", "econnrefused", "connection refused", "connect call failed"] => [NET_REFUSED];
    ["econnrefused ::#", "::#:# ... connection refused", "connect call failed ('::#'"]
        => [NET_LOCALHOST_IPV6 NET_REFUSED];
    ["err_connection_timed_out", "etimedout", "timed out during opening handshake"] => [NET_TIMEOUT];
    ["err_cert_date_invalid", "certificate has expired", "cert_has_expired"] => [TLS_EXPIRED];
    ["certificate is not yet valid", "cert_not_yet_valid"] => [TLS_NOT_YET_VALID CLOCK_CLIENT];
    ["err_cert_common_name_invalid", "hostname mismatch", "err_tls_cert_altname_invalid",
        "hostname/ip does not match certificate's altnames"] => [TLS_HOSTNAME_MISMATCH];
    ["err_cert_authority_invalid", "self signed certificate", "self-signed certificate",
        "depth_zero_self_signed_cert"] => [TLS_SELF_SIGNED];
    ["unable to verify the first certificate", "unable to get local issuer certificate",
        "unable_to_verify_leaf_signature"] => [TLS_INCOMPLETE_CHAIN TLS_SELF_SIGNED];
    ["err_ssl_protocol_error", "wrong version number", "wrong_version_number"]
        => [HANDSHAKE_TLS_ON_PLAIN TLS_NO_COMMON_VERSION];
    ["mixed content: ... insecure websocket endpoint", "insecure websocket endpoint",
        "an insecure websocket connection may not be initiated"] => [BROWSER_MIXED_CONTENT];
    ["refused to connect to ... content security policy", "violates the following content security policy directive",
        "content security policy directive: 'connect-src", "blocked the loading of a resource ... connect-src"]
        => [BROWSER_CSP];
    ["websocket is closed before the connection is established",
        "the connection was interrupted while the page was loading"]
        => [BROWSER_DOUBLE_MOUNT HANDSHAKE_CLIENT_GAVE_UP];
    ["sent non-empty 'sec-websocket-protocol' header but no response was received", "server sent no subprotocol"]
        => [SUBPROTOCOL_NOT_CONFIRMED SUBPROTOCOL_NULL SUBPROTOCOL_TOKEN];
    ["response must not include 'sec-websocket-protocol' header if not present in request",
        "server sent an invalid subprotocol", "server sent a subprotocol but none was requested",
        "unsupported subprotocol"] => [SUBPROTOCOL_NOT_OFFERED];
    ["was not upgraded to websocket"] => [PROXY_UPGRADE_STRIPPED PROXY_REDIRECT PROXY_HTML_200 HANDSHAKE_WRONG_PATH];
    ["'upgrade' header is missing", "invalid upgrade header", "missing upgrade header",
        "'connection' header is missing"] => [PROXY_RESPONSE_STRIPPED PROXY_UPGRADE_STRIPPED];
    ["invalid frame header", "reserved bits are on", "rsv# must be clear", "rsv# and rsv# must be clear",
        "one or more reserved bits are on", "reserved bits must be #"]
        => [PROXY_DEFLATE_BROKEN PROXY_INJECTED_BYTES PROXY_INSPECTION];
    ["failed to construct 'websocket': the subprotocol '[object object]' is invalid",
        "the subprotocol '[object object]' is invalid", "the subprotocol 'authorization' is invalid"]
        => [BROWSER_HEADERS_UNSUPPORTED];
    ["scheme isn't ws or wss", "the url's scheme must be either 'ws' or 'wss'",
        "the url's protocol must be one of 'ws:'"] => [HANDSHAKE_HTTPS_SCHEME];
    ["the url contains a fragment identifier", "failed to construct 'websocket': the url ... is invalid"]
        => [HANDSHAKE_BAD_URL_SYNTAX];
    ["insufficient resources", "err_insufficient_resources"] => [BROWSER_SOCKET_LIMIT];
    ["expected asgi message 'websocket.send' or 'websocket.close', but got 'websocket.accept'",
        "but got 'websocket.accept'"] => [APP_DOUBLE_ACCEPT];
    ["unexpected asgi message 'websocket.send', after sending 'websocket.close'",
        "after sending 'websocket.close'"] => [APP_EXCEPTION_AFTER_ACCEPT];
    ["no supported websocket library detected", "unsupported upgrade request"] => [BYPASS_NO_WS_LIBRARY];
    ["no route found for path"] => [BYPASS_NO_ROUTE_500];
    ["cannot resolve dependency", "missing # required positional argument: 'request'"] => [APP_DEPENDENCY_INJECTION];
    ["keepalive ping timeout"] => [CLIENT_KEEPALIVE_1011 CONN_PING_TIMEOUT];
    ["no close frame received or sent", "connection to remote host was lost", "unexpected eof", "abnormal closure",
        "closed abnormally"] => [(close 1006)];
    ["goneexception", "unknownerror: 410", "error 410 ... @connections", "410 gone", "410 client error"] => [25];
    ["forbiddenexception", "forbidden ... @connections", "@connections ... forbidden"]
        => [MANAGEMENT_DENIED MANAGEMENT_BAD_SIGNATURE];
    ["missing authentication token", "missingauthenticationtoken"] => [MANAGEMENT_UNSIGNED HANDSHAKE_WRONG_PATH];
    ["credential should be scoped to a valid region"] => [MANAGEMENT_WRONG_REGION];
    ["credential should be scoped to correct service"] => [MANAGEMENT_WRONG_SERVICE];
    ["signature expired", "signature not yet current", "requesttimetooskewed"] => [MANAGEMENT_CLOCK_SKEW];
    ["the security token included in the request is invalid", "unrecognizedclientexception"]
        => [MANAGEMENT_UNKNOWN_KEY];
    ["the request signature we calculated does not match", "signaturedoesnotmatch", "invalidsignatureexception"]
        => [MANAGEMENT_BAD_SIGNATURE MANAGEMENT_PATH_REWRITTEN MANAGEMENT_WRONG_REGION];
    ["is not authorized to perform: execute-api"] => [MANAGEMENT_DENIED];
    ["no method found matching route ... @connections"] => [MANAGEMENT_STAGE_WITH_DOMAIN];
    ["could not connect to the endpoint url", "no such host", "invalid url", "invalid endpoint"]
        => [MANAGEMENT_NO_ENDPOINT MANAGEMENT_BAD_SCHEME MANAGEMENT_NO_EGRESS];
    ["payloadtoolargeexception", "message too long"] => [MESSAGE_TOO_LARGE_OUT MESSAGE_TOO_LARGE];
    ["frame too large", "exceeds size limit", "max payload size exceeded"]
        => [MESSAGE_FRAME_TOO_LARGE MESSAGE_TOO_LARGE MESSAGE_INFLATE_LIMIT];
    ["limitexceededexception", "too many requests"] => [MANAGEMENT_THROTTLED RATELIMIT_STAGE];
    ["'message':'forbidden','connectionid':", "'message':'forbidden' ... 'connectionid':"]
        => [ROUTE_NO_MATCH ROUTE_NONE];
    ["'message':'internal server error'"] => [REPLY_BACKEND_FAILED INTEGRATION_FUNCTION_FAILED INTEGRATION_MISSING];
    ["endpoint request timed out"] => [REPLY_TIMEOUT];
    ["invalid or expired token"] => [TOKEN_EXPIRED TOKEN_REUSED TOKEN_SESSION_CHANGED TOKEN_UNKNOWN];
    ["invalid request headers"]
        => [BACKEND_HEADERS_MISSING BACKEND_API_ID_UNKNOWN BACKEND_HEADERS_STRIPPED BACKEND_SERVER_DROPS_FORWARDED];
    ["invalid request format (#)"] => [BACKEND_ROUTE_PARAM_MISNAMED HANDLER_KEY_MISSING];
    ["unexpected useragent"] => [BACKEND_USERAGENT_CHECK];
    ["missing # headers"] => [BACKEND_CONNECTION_HEADERS_MISSING];
    ["invalid connection id"] => [BACKEND_CONNECTION_ID_FORMAT BACKEND_SESSION_UNKNOWN];
    ["host is not in allowedhosts"] => [BACKEND_HOST_NOT_ALLOWED];
    ["host is not in origin"] => [BACKEND_ORIGIN_MISMATCH];
    ["invalid channel"] => [CHANNEL_INVALID];
    ["invalid session"] => [TOKEN_SESSION_MISSING];
    ["too many connection attempts"] => [RATELIMIT_CONNECT];
    ["permission denied"] => [CHANNEL_FORBIDDEN 18];
    ["authentication required"] => [TOKENREQ_ANONYMOUS];
    ["rate limit exceeded"] => [TOKENREQ_RATE_LIMITED RATELIMIT_CONNECT];
    ["'detail':'not found'"] => [INTEGRATION_WRONG_URL INTEGRATION_MISSING_SLASH BACKEND_ROUTE_PARAM_MISSING];
    ["append_slash"] => [INTEGRATION_MISSING_SLASH BACKEND_REDIRECT];
    ["traceback (most recent call last)", "you're seeing this error because you have debug = true"]
        => [DEBUG_EXPOSED ERROR_DETAIL_LEAK];
    ["csrf verification failed", "csrf failed"] => [TOKENREQ_CSRF_MISSING TOKENREQ_CSRF_ORIGIN BACKEND_CSRF];
    ["csrf failed: origin checking failed", "origin checking failed"]
        => [TOKENREQ_CSRF_ORIGIN TOKENREQ_CSRF_MISSING BACKEND_CSRF];
    ["invalid http_host header", "disallowedhost", "bad request (#)"] => [BACKEND_HOST_NOT_ALLOWED];
    ["immaturesignatureerror", "the token is not yet valid", "token not yet valid"] => [JWT_NOT_YET_VALID];
    ["signature has expired", "token expired", "expiredsignatureerror", "jwt expired"] => [JWT_EXPIRED];
    ["signature verification failed", "invalid signature"] => [JWT_SIGNATURE];
    ["not enough segments", "invalid token", "jwt malformed"] => [JWT_MALFORMED];
    ["missing token"] => [JWT_MISSING JWT_WRONG_PLACE];
    ["access denied: ... role required"] => [ROLE_INSUFFICIENT ROLE_DEFAULTED];
    ["authority not found"] => [USER_NOT_FOUND];
    ["invalid event type"] => [CHAT_INVALID_EVENT_TYPE CHAT_FIELD_ERROR_AS_EVENT_TYPE];
    ["emfile", "too many open files"] => [LIMIT_FILE_DESCRIPTORS];
    ["worker_connections are not enough"] => [PROXY_CAPACITY];
    ["connect() failed ... while connecting to upstream", "no live upstreams while connecting to upstream"]
        => [PROXY_BAD_GATEWAY];
    ["upstream timed out ... while reading response header from upstream"] => [PROXY_GATEWAY_TIMEOUT];
    ["upstream timed out ... while reading upstream", "upstream timed out ... while proxying upgraded connection"]
        => [PROXY_IDLE_60];
    ["eaddrnotavail", "cannot assign requested address"] => [LIMIT_EPHEMERAL_PORTS];
};

/// Texts that say little: they count only where nothing else was recognized.
const WEAK_ROWS: &[Row] = rows! {
    ["websocket connection to ... failed", "can't establish a connection to the server at",
        "websocket connection failed", "error during websocket handshake", "did not receive a valid http response",
        "websocket: bad handshake", "there was a bad response from the server", "websocket network error"]
        => [1 2 4];
};

/// Words that are followed by the status of a refused handshake.
const STATUS_TEXTS: &[(&str, &str)] = &[
    ("unexpected response code: ", "Unexpected response code: #"),
    ("unexpected server response: ", "Unexpected server response: #"),
    ("server rejected websocket connection: http ", "server rejected WebSocket connection: HTTP #"),
    ("non-101 status code: ", "non-101 status code: #"),
    ("received network error or non-101 status code", "received network error or non-101 status code"),
    ("invalid status code: ", "invalid status code: #"),
    ("invalid status ", "invalid status #"),
    ("handshake status ", "Handshake status #"),
    ("wsserverhandshakeerror: ", "WSServerHandshakeError: #"),
    ("expected http 101 response but was '", "Expected HTTP 101 response but was '#'"),
    ("the server returned status code '", "The server returned status code '#'"),
    ("got unexpected status code ", "unexpected status code #"),
    ("status code: ", "status code: #"),
    ("status code ", "status code #"),
    ("http error: ", "HTTP error: #"),
    ("http/1.1 ", "HTTP/1.1 #"),
    ("http/1.0 ", "HTTP/1.0 #"),
    ("http/1.1' ", "HTTP/1.1\" #"),
    ("http/1.0' ", "HTTP/1.0\" #"),
    ("http/2.0' ", "HTTP/2.0\" #"),
    ("httperror ", "HTTPError #"),
    ("http ", "HTTP #"),
    ("error (", "error (#)"),
    ("error occurred (", "error occurred (#)"),
];

/// Words that are followed by a close code.
const CLOSE_TEXTS: &[&str] = &[
    "close code: ",
    "close code ",
    "closecode: ",
    "code: ",
    "code:",
    "'code':",
    "code ",
    "code=",
    "received ",
    "sent ",
    "closed with ",
    "websocket: close ",
    "closed: ",
    "closed ",
    "(",
];

/// What is recognized in a text: ids, known texts with the longest first, then statuses and close codes.
///
/// Reads at most [`MAX_TEXT`] bytes, once for each known text. A diagnosis id or an alias in the text comes before
/// everything else; words of symptoms count only where nothing else was recognized.
pub fn match_text(text: &str) -> Vec<TextMatch> {
    let plain = plain(cut(text));
    let shape = shape(&plain);
    let mut found = diagnoses_in(&plain);
    let mut texts = matches_of(ROWS, &plain, &shape);
    // Stable: what the table has first stays first among texts of one length.
    texts.sort_by_key(|found| std::cmp::Reverse(found.pattern.len()));
    found.extend(texts);
    // A text says more than a number, which many causes share.
    found.extend(statuses_in(&plain));
    found.extend(close_codes_in(&plain));
    if found.is_empty() {
        found = matches_of(WEAK_ROWS, &plain, &shape);
    }
    if found.is_empty() {
        found = symptoms_in(&plain);
    }
    found
}

/// Ids of requests and connections in a text, as they stand there; at most 16.
///
/// Shape: 15 characters of base64 and `=`, as the gateway makes them.
pub fn ids_in(text: &str) -> Vec<&str> {
    let is_id_byte = |b: char| b.is_ascii_alphanumeric() || matches!(b, '+' | '/' | '-' | '_' | '=');
    let words = cut(text).split(|c: char| !is_id_byte(c));
    // `requestId=abc...=` is one word for the split above: the id is what stands behind the first `=`.
    let candidates = words.map(|word| match word.split_once('=') {
        Some((_, rest)) if rest.len() == ID_LENGTH => rest,
        _ => word,
    });
    let is_id = |word: &&str| {
        word.len() == ID_LENGTH
            && word.ends_with('=')
            && !word[..ID_LENGTH - 1].contains('=')
            && word.bytes().any(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    };
    let mut ids: Vec<&str> = Vec::new();
    for id in candidates.filter(is_id) {
        if !ids.contains(&id) && ids.len() < MAX_FOUND {
            ids.push(id);
        }
    }
    ids
}

/// Every known text with its causes, in the order of the table: for the manual's index.
pub fn error_texts() -> impl Iterator<Item = (&'static [&'static str], Vec<Diagnosis>)> {
    ROWS.iter().chain(WEAK_ROWS).map(|row| (row.patterns, follow(row.leads)))
}

/// Length of the ids of requests and connections, in characters.
const ID_LENGTH: usize = 16;

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Lower case, `'` for all quotes, single blanks, no blank after a quoted name's colon or between quoted members,
/// `<url>` for addresses. One pass over the words.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        let word: String = word.chars().map(plain_char).collect();
        // `{"message": "x", "id": 1}` and `{"message":"x","id":1}` are one form.
        let is_value = word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '\'' | '{' | '['));
        let joins = out.ends_with("':") && is_value || out.ends_with("',") && word.starts_with('\'');
        if !out.is_empty() && !joins {
            out.push(' ');
        }
        match word.find("://") {
            Some(at) => {
                let start = word[..at].rfind(|c: char| !c.is_ascii_alphanumeric()).map_or(0, |i| i + 1);
                let rest = &word[at..];
                let is_end = |c: char| matches!(c, '\'' | '<' | '>' | ')' | ']' | '}' | ',');
                let end = rest.find(is_end).unwrap_or(rest.len());
                out.push_str(&word[..start]);
                out.push_str("<url>");
                // Which API was called is the one thing in an address that matters.
                if rest[..end].contains("@connections") {
                    out.push_str("@connections");
                }
                if rest[..end].ends_with(':') {
                    out.push(':');
                }
                out.push_str(&rest[end..]);
            }
            None => out.push_str(&word),
        }
    }
    out
}

fn plain_char(c: char) -> char {
    match c {
        '"' | '`' | '\u{b4}' | '\u{2018}'..='\u{201f}' | '\u{2039}' | '\u{203a}' | '\u{ab}' | '\u{bb}' => {
            '\''
        }
        c => c.to_ascii_lowercase(),
    }
}

/// The plain form with `#` for each run of digits.
fn shape(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            c => out.push(c),
        }
    }
    out
}

/// Do the fragments of a pattern follow each other in the text?
fn contains(pattern: &str, text: &str) -> bool {
    let mut rest = text;
    for fragment in pattern.split(" ... ") {
        match rest.find(fragment) {
            Some(at) => rest = &rest[at + fragment.len()..],
            None => return false,
        }
    }
    true
}

fn matches_of(rows: &'static [Row], plain: &str, shape: &str) -> Vec<TextMatch> {
    let in_text =
        |pattern: &&&'static str| contains(pattern, if pattern.contains('#') { shape } else { plain });
    let matched = rows.iter().filter_map(|row| {
        // One entry for a row, by the longest of its texts.
        let longest = row.patterns.iter().filter(in_text).max_by_key(|pattern| pattern.len())?;
        Some(TextMatch { pattern: longest, causes: follow(row.leads) })
    });
    matched.collect()
}

/// Ids and aliases that stand in the text as words.
fn diagnoses_in(plain: &str) -> Vec<TextMatch> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let mut found: Vec<TextMatch> = Vec::new();
    let words = plain.split(|c: char| !is_part(c)).map(|word| word.trim_matches(['.', '-']));
    for word in words.filter(|word| word.contains('.')) {
        let causes = named(word);
        // The alias is shown by its id, which is also what the next question should name.
        let Some(pattern) = causes.first().map(|cause| cause.as_str()) else { continue };
        if found.len() < MAX_FOUND && !found.iter().any(|known| known.pattern == pattern) {
            found.push(TextMatch { pattern, causes });
        }
    }
    found
}

/// Numbers that stand right behind a word, each once.
fn numbers_behind<'a>(plain: &'a str, word: &'a str) -> impl Iterator<Item = u16> + 'a {
    let behind = plain.match_indices(word).filter(move |(at, _)| {
        // `barcode 1006` is no `code 1006`.
        let before = plain[..*at].chars().next_back();
        !word.starts_with(|c: char| c.is_ascii_alphanumeric())
            || before.is_none_or(|c| !c.is_ascii_alphanumeric())
    });
    behind.filter_map(move |(at, _)| {
        let rest = &plain[at + word.len()..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        // Longer runs of digits are no codes.
        if end > 4 { None } else { rest[..end].parse().ok() }
    })
}

/// Statuses of handshakes and calls. One that is not known here leads nowhere and is left out.
fn statuses_in(plain: &str) -> Vec<TextMatch> {
    let mut found: Vec<TextMatch> = Vec::new();
    let mut seen = Vec::new();
    for (word, pattern) in STATUS_TEXTS {
        for number in numbers_behind(plain, word).take(MAX_FOUND) {
            let Some(row) = status(number).filter(|_| !seen.contains(&number)) else { continue };
            seen.push(number);
            // A call of the management API is recognized by its path, or by the one status that only it has.
            let is_call = plain.contains("@connections") || row.leads.is_empty();
            let causes = if is_call { row.management_causes() } else { row.causes() };
            if !causes.is_empty() {
                found.push(TextMatch { pattern, causes });
            }
        }
    }
    found
}

fn close_codes_in(plain: &str) -> Vec<TextMatch> {
    let mut found: Vec<TextMatch> = Vec::new();
    let mut seen = Vec::new();
    for word in CLOSE_TEXTS {
        for number in numbers_behind(plain, word).take(MAX_FOUND) {
            let Some(row) = close_code(number).filter(|_| !seen.contains(&number)) else { continue };
            seen.push(number);
            let Some(pattern) = close_pattern(row.code) else { continue };
            found.push(TextMatch { pattern, causes: row.all_causes() });
        }
    }
    found
}

fn close_pattern(code: u16) -> Option<&'static str> {
    // Written out, because a pattern lives as long as the program.
    Some(match code {
        1000 => "close code 1000",
        1001 => "close code 1001",
        1002 => "close code 1002",
        1003 => "close code 1003",
        1005 => "close code 1005",
        1006 => "close code 1006",
        1007 => "close code 1007",
        1008 => "close code 1008",
        1009 => "close code 1009",
        1010 => "close code 1010",
        1011 => "close code 1011",
        1012 => "close code 1012",
        1013 => "close code 1013",
        1015 => "close code 1015",
        4001 => "code 4001",
        4002 => "code 4002",
        4003 => "code 4003",
        4004 => "code 4004",
        4005 => "code 4005",
        4006 => "code 4006",
        _ => return None,
    })
}

/// Symptoms whose words stand in the text, the longest phrase of each.
fn symptoms_in(plain: &str) -> Vec<TextMatch> {
    let is_whole = |at: usize, length: usize| {
        let is_word = |c: char| c.is_ascii_alphanumeric();
        !plain[..at].chars().next_back().is_some_and(is_word)
            && !plain[at + length..].chars().next().is_some_and(is_word)
    };
    let in_text = |word: &&&'static str| {
        plain.match_indices(**word).take(MAX_FOUND).any(|(at, matched)| is_whole(at, matched.len()))
    };
    let matched = SYMPTOMS.iter().filter_map(|symptom| {
        let longest = symptom.words.iter().filter(in_text).max_by_key(|word| word.len())?;
        Some(TextMatch { pattern: longest, causes: follow(&[Lead::Symptom(symptom.number)]) })
    });
    matched.collect()
}
