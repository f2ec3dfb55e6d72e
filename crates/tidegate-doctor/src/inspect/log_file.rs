//! A log of any program, searched for what should not stand in it. Lines are told by their numbers; values never.

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;

use super::facts;
use crate::report::{Finding, Probe, ProbeResult};

/// Longest part of a line that is looked at, in bytes.
const LONGEST_LINE: usize = 64 * 1024;

/// Places that are listed for each kind.
const MAX_LISTED: usize = 20;

/// Shortest secret that is searched for, in bytes: shorter ones are words.
const SHORTEST_SECRET: usize = 8;

/// Query parameters that carry proofs of identity.
const PARAMETERS: [&str; 12] = [
    "ws_token",
    "token",
    "access_token",
    "id_token",
    "jwt",
    "auth",
    "authorization",
    "ticket",
    "api_key",
    "apikey",
    "x-amz-signature",
    "x-amz-security-token",
];

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A signed token, by its form.
    Jwt,
    /// The value of a parameter that carries a token.
    Parameter,
    /// A WebSocket handshake with values in its query.
    Query,
}

/// One kind's places: line and length.
#[derive(Debug, Default)]
struct Places {
    n_all: u64,
    listed: Vec<(u64, usize)>,
}

impl Places {
    fn add(&mut self, line: u64, length: usize) {
        self.n_all += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push((line, length));
        }
    }
}

/// Searches a log, chunk by chunk. Holds one line at most.
pub struct LogSearch {
    secrets: Vec<Vec<u8>>,
    parameters: Vec<String>,
    paths: Vec<String>,
    line: Vec<u8>,
    line_number: u64,
    is_cut: bool,
    n_bytes: u64,
    tokens: Places,
    printed: Places,
    queries: Places,
}

impl std::fmt::Debug for LogSearch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogSearch").field("line_number", &self.line_number).finish_non_exhaustive()
    }
}

impl LogSearch {
    /// `secrets`: values of the configuration. `parameters`: further query parameters that carry tokens. `paths`: paths of
    /// WebSocket addresses.
    pub fn new(secrets: impl IntoIterator<Item = String>, parameters: &[String], paths: &[String]) -> Self {
        let mut secrets: Vec<Vec<u8>> = secrets
            .into_iter()
            .map(String::into_bytes)
            .filter(|secret| secret.len() >= SHORTEST_SECRET)
            .collect();
        secrets.sort();
        secrets.dedup();
        let known = PARAMETERS.iter().map(|name| (*name).to_owned());
        let parameters = known.chain(parameters.iter().map(|name| name.to_ascii_lowercase())).collect();
        Self {
            secrets,
            parameters,
            paths: paths.to_vec(),
            line: Vec::new(),
            line_number: 1,
            is_cut: false,
            n_bytes: 0,
            tokens: Places::default(),
            printed: Places::default(),
            queries: Places::default(),
        }
    }

    /// Takes the next bytes.
    pub fn take(&mut self, mut chunk: &[u8]) {
        self.n_bytes += chunk.len() as u64;
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            self.append(&chunk[..end]);
            self.end_line();
            chunk = &chunk[end + 1..];
        }
        self.append(chunk);
    }

    fn append(&mut self, bytes: &[u8]) {
        let room = LONGEST_LINE - self.line.len();
        self.is_cut |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        for secret in &self.secrets {
            if line.windows(secret.len()).any(|window| window == secret.as_slice()) {
                self.printed.add(self.line_number, secret.len());
            }
        }
        let text = String::from_utf8_lossy(&line);
        for (kind, length) in find(&text, &self.parameters, &self.paths) {
            match kind {
                Kind::Jwt | Kind::Parameter => self.tokens.add(self.line_number, length),
                Kind::Query => self.queries.add(self.line_number, length),
            }
        }
        self.line = line;
        self.line.clear();
        self.line_number += 1;
    }

    /// What was found.
    pub fn finish(mut self) -> (Probe, Vec<Finding>, Vec<String>) {
        if !self.line.is_empty() {
            self.end_line();
        }
        let mut findings = Vec::new();
        let mut add = |diagnosis, what: &str, places: &Places, is_proof: bool| {
            if places.n_all == 0 {
                return;
            }
            let mut lines: Vec<String> =
                places.listed.iter().map(|(line, length)| format!("{line} ({length})")).collect();
            let n_more = places.n_all - places.listed.len() as u64;
            if n_more > 0 {
                lines.push(format!("and {n_more} more"));
            }
            let listed: Vec<_> = places
                .listed
                .iter()
                .map(|(line, length)| json!({ "line": line, "length": length }))
                .collect();
            let finding = match is_proof {
                true => Finding::problem(diagnosis),
                false => Finding::warning(diagnosis),
            };
            let mut finding = finding.seen(
                format!("{what} in lines (length): {}", lines.join(", ")),
                facts([("places", json!(listed)), ("count", places.n_all.into())]),
            );
            finding.count = Some(places.n_all);
            findings.push(finding);
        };
        add(Diagnosis::LOG_TOKEN_IN_QUERY, "tokens", &self.tokens, true);
        add(Diagnosis::LOG_SECRET_PRINTED, "secrets of this configuration", &self.printed, true);
        if self.tokens.n_all == 0 {
            add(Diagnosis::LOG_TOKEN_IN_QUERY, "handshakes with values in the query", &self.queries, false);
        }
        let mut notes = Vec::new();
        if self.is_cut {
            notes.push(format!("of lines longer than {LONGEST_LINE} bytes only the beginning was searched"));
        }
        let result = match findings.is_empty() {
            true => ProbeResult::Ok,
            false => super::definitions::worst(&findings),
        };
        let measurements = facts([("lines", (self.line_number - 1).into()), ("bytes", self.n_bytes.into())]);
        (Probe { name: "log".to_owned(), result, measurements }, findings, notes)
    }
}

/// Everything in one line that should not stand there.
fn find(line: &str, parameters: &[String], paths: &[String]) -> Vec<(Kind, usize)> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find("eyJ") {
        let length = jwt_length(&rest[at..]);
        let is_inside = rest[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if let Some(length) = length.filter(|_| !is_inside) {
            found.push((Kind::Jwt, length));
        }
        rest = &rest[at + length.unwrap_or(3)..];
    }
    let lower = line.to_ascii_lowercase();
    let mut has_token = !found.is_empty();
    for (at, _) in line.match_indices('=') {
        let name_start = lower[..at]
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
            .map_or(0, |idx| idx + 1);
        let is_query = lower[..name_start].ends_with(['?', '&']);
        let value = query_value(&line[at + 1..]);
        let is_known = parameters.iter().any(|name| *name == lower[name_start..at]);
        if is_query && is_known && !is_masked(value) && jwt_length(value).is_none() {
            found.push((Kind::Parameter, value.len()));
            has_token = true;
        }
    }
    if !has_token && let Some(length) = handshake_query(line, paths) {
        found.push((Kind::Query, length));
    }
    found
}

fn query_value(rest: &str) -> &str {
    let end = rest.find(|c: char| {
        c.is_whitespace() || matches!(c, '&' | '"' | '\'' | '<' | '>' | ',' | ';' | ')' | ']' | '}')
    });
    &rest[..end.unwrap_or(rest.len())]
}

/// Length of a signed token at the beginning of a text: three parts of base64url.
fn jwt_length(text: &str) -> Option<usize> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let token = &text[..text.find(|c| !is_token(c)).unwrap_or(text.len())];
    let token = token.trim_end_matches('.');
    let mut parts = token.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let is_long = header.len() >= 12 && payload.len() >= 8 && signature.len() >= 16;
    (header.starts_with("eyJ") && is_long && parts.next().is_none()).then_some(token.len())
}

/// Values that say nothing: empty, stars, or a placeholder.
fn is_masked(value: &str) -> bool {
    let value = value.trim_matches(|c| matches!(c, '<' | '>' | '[' | ']' | '{' | '}'));
    let lower = value.to_ascii_lowercase();
    value.bytes().all(|byte| matches!(byte, b'*' | b'.' | b'x' | b'X' | b'-'))
        || matches!(
            lower.as_str(),
            "masked" | "redacted" | "hidden" | "token" | "filtered" | "%2a" | "%2a%2a%2a"
        )
}

/// Length of the query of a WebSocket handshake, when it has values: a request line that was answered 101, or one for a path
/// that is known.
fn handshake_query(line: &str, paths: &[String]) -> Option<usize> {
    let start = line.find("GET ")? + 4;
    let target = line[start..].split_whitespace().next()?.trim_end_matches(['"', '\'']);
    let (path, query) = target.split_once('?')?;
    let mut after = line[start + target.len()..].split_whitespace();
    let is_handshake = after.next().is_some_and(|word| word.trim_start_matches('"').starts_with("HTTP/"))
        && after.next().is_some_and(|word| word.trim_matches(['"', ',']) == "101");
    let is_known = paths.iter().any(|known| {
        path == known || path.strip_prefix(known.as_str()).is_some_and(|rest| rest.starts_with('/'))
    });
    let has_value =
        query.split('&').any(|pair| pair.split_once('=').is_some_and(|(_, value)| !is_masked(value)));
    ((is_handshake || is_known) && has_value).then_some(query.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ";

    fn search(text: &str) -> (Vec<Finding>, String) {
        let mut search = LogSearch::new(
            ["s3cret-of-the-backend".to_owned(), "short".to_owned()],
            &["ticketid".to_owned()],
            &["/chat".to_owned()],
        );
        // Odd chunks: lines are put together again.
        for chunk in text.as_bytes().chunks(7) {
            search.take(chunk);
        }
        let (_, findings, _) = search.finish();
        let shown = serde_json::to_string(&findings).unwrap();
        (findings, shown)
    }

    #[test]
    fn what_should_not_stand_in_a_log_is_found() {
        // DX-52, log.token-in-query, log.secret-printed
        let text = format!(
            "fine\n10.0.0.1 - - \"GET /chat?ws_token=abcdef0123456789 HTTP/1.1\" 101 0\nAuthorization: Bearer {JWT}\n\
             secret is s3cret-of-the-backend.\nGET /other?ticketId=77x HTTP/1.1"
        );
        let (findings, shown) = search(&text);
        let found: Vec<(&str, Option<u64>)> =
            findings.iter().map(|finding| (finding.id.as_str(), finding.count)).collect();
        assert_eq!(found, [("log.token-in-query", Some(3)), ("log.secret-printed", Some(1))]);
        assert_eq!(
            findings[0].evidence[0].facts["places"],
            json!([{ "line": 2, "length": 16 }, { "line": 3, "length": JWT.len() }, { "line": 5, "length": 3 }])
        );
        for value in ["abcdef0123456789", "eyJ", "s3cret", "77x"] {
            assert!(!shown.contains(value), "{value} in {shown}");
        }
    }

    #[test]
    fn what_is_masked_or_ordinary_is_no_finding() {
        // DX-52
        let text = "GET /chat HTTP/1.1\" 101\nGET /chat?ws_token=*** HTTP/1.1\" 101\nGET /page?id=5 HTTP/1.1\" 200 101\n\
                    sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\neyJ is how they begin\ntoken=5\nGET /x?token=<token>\n";
        assert_eq!(search(text).0, [], "{text}");
    }

    #[test]
    fn handshakes_with_values_are_a_warning() {
        // log.token-in-query
        let (findings, _) = search("GET /ws?room=5 HTTP/1.1\" 101 0\nGET /chat/x?k=1 HTTP/1.1\" 403\n");
        assert_eq!((findings.len(), findings[0].count), (1, Some(2)));
        assert_eq!(findings[0].severity, crate::report::Severity::Warning);
    }

    #[test]
    fn long_lines_cost_no_memory() {
        // DX-52
        let mut search = LogSearch::new([], &[], &[]);
        for _ in 0..200 {
            search.take(&[b'a'; 8192]);
        }
        assert!(search.line.len() <= LONGEST_LINE);
        assert_eq!(search.finish().2.len(), 1);
    }
}
