//! Known answers of backends, tunnels and proxies, and what they say about their cause.
//!
//! The table is data: [`Signatures::shipped`] reads the file beside this one, [`Signatures::with`] puts further entries
//! before it. An answer is looked at while it passes, in its first [`LOOKED_AT`] bytes; what is kept is the id of the
//! signature, never the body.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use serde::Deserialize;

use crate::diagnosis::Diagnosis;
use crate::nearest::nearest;

/// Bytes of a body that are looked at.
pub const LOOKED_AT: usize = 4096;

/// Longest refusal of `$connect` that is kept as the backend's own sentence, in bytes.
pub const MAX_SENTENCE: usize = 200;

/// Entries that [`Signatures::with`] takes, so that no answer costs more than a look.
pub const MAX_EXTRA: usize = 200;

const SHIPPED: &str = include_str!("signatures.json");

/// What was asked when the answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// `$connect`.
    Connect,
    /// A message.
    Message,
    /// `$disconnect`.
    Disconnect,
    /// The gateway's question whether somebody may have a connect token.
    Token,
}

/// An answer, as far as signatures look at it.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// Its status.
    pub status: u16,
    /// Its content type; none where nobody read the headers, then it excludes nothing.
    pub content_type: Option<&'a str>,
    /// Its body.
    pub body: &'a [u8],
    /// `Location` leads to the path that was asked for, plus a slash.
    pub adds_slash: bool,
    /// What was asked.
    pub on: On,
}

/// One known answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    id: Box<str>,
    status: Statuses,
    content_type: Option<Box<str>>,
    /// One of these is in the body.
    text: Vec<Box<str>>,
    /// Or the body, without blanks around it, is one of these; `*` stands for anything.
    pattern: Vec<Box<str>>,
    needs_slash: bool,
    /// Says something beside the cause, so that the search goes on.
    is_beside: bool,
    product: Option<Box<str>>,
    headers: Vec<Box<str>>,
    parameter: Option<Box<str>>,
    missing: Option<Diagnosis>,
    ids: HashMap<Option<On>, Vec<Diagnosis>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Statuses {
    These(Vec<u16>),
    /// 400 to 599.
    Failures,
}

/// The table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signatures {
    entries: Vec<Signature>,
    tunnel_hosts: Vec<Box<str>>,
}

/// The text is no table of signatures. What it says has the line, counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// It is not JSON of the right shape; the reason has line and column.
    #[error("{0}")]
    Shape(#[source] serde_json::Error),
    /// An id that the catalogue does not have.
    #[error("line {line}: signature `{signature}` names `{id}`, which is no diagnosis id{hint}")]
    UnknownId {
        /// Where the id stands.
        line: usize,
        /// Of the entry.
        signature: String,
        /// What it names.
        id: String,
        /// `; did you mean ...?`, or nothing.
        hint: String,
    },
    /// An entry that would fit everything, or explain nothing.
    #[error("line {line}: signature `{signature}` needs a status, a text, pattern or location, and ids")]
    Empty {
        /// Where the entry has its id.
        line: usize,
        /// Of the entry.
        signature: String,
    },
    /// Over [`MAX_EXTRA`].
    #[error("{n_entries} signatures, at most {MAX_EXTRA} expected")]
    TooMany {
        /// How many there are.
        n_entries: usize,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    signatures: Vec<RawSignature>,
    #[serde(default)]
    tunnel_hosts: Vec<Box<str>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawSignature {
    id: Box<str>,
    status: RawStatuses,
    #[serde(default)]
    content_type: Option<Box<str>>,
    #[serde(default)]
    text: Vec<Box<str>>,
    #[serde(default)]
    pattern: Vec<Box<str>>,
    #[serde(default)]
    location: Option<Location>,
    #[serde(default)]
    beside: bool,
    #[serde(default)]
    product: Option<Box<str>>,
    #[serde(default)]
    headers: Vec<Box<str>>,
    #[serde(default)]
    parameter: Option<Box<str>>,
    #[serde(default)]
    missing: Option<String>,
    ids: HashMap<RawOn, Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawStatuses {
    These(Vec<u16>),
    Failures(Failures),
}

#[derive(Debug, Deserialize)]
enum Failures {
    #[serde(rename = "4xx-5xx")]
    All,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Location {
    Slash,
}

#[derive(Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawOn {
    Any,
    Connect,
    Message,
    Disconnect,
    Token,
}

static OF_THIS_BUILD: LazyLock<Signatures> =
    LazyLock::new(|| Signatures::read(SHIPPED).expect("the shipped table is checked by a test"));

/// The table with an operator's own entries; as long as there is none, that of this build counts.
static WITH_OWN: OnceLock<Signatures> = OnceLock::new();

impl Signatures {
    /// The table that answers are matched with: that of [`Self::install`], else that of this build.
    pub fn known() -> &'static Self {
        WITH_OWN.get().unwrap_or_else(|| Self::shipped())
    }

    /// Makes it the table of this process. At the start, and once: false when there was one before, which stays.
    pub fn install(self) -> bool {
        WITH_OWN.set(self).is_ok()
    }

    /// The table of this build.
    pub fn shipped() -> &'static Self {
        &OF_THIS_BUILD
    }

    /// The table of this build behind further entries, which are tried first.
    ///
    /// # Errors
    /// Every [`SignatureError`]; their texts may be shown to whoever wrote the entries.
    pub fn with(extra: &str) -> Result<Self, Vec<SignatureError>> {
        let mut table = Self::read(extra)?;
        if table.entries.len() > MAX_EXTRA {
            return Err(vec![SignatureError::TooMany { n_entries: table.entries.len() }]);
        }
        table.entries.extend(Self::shipped().entries.iter().cloned());
        table.tunnel_hosts.extend(Self::shipped().tunnel_hosts.iter().cloned());
        Ok(table)
    }

    fn read(text: &str) -> Result<Self, Vec<SignatureError>> {
        let file: File = serde_json::from_str(text).map_err(|error| vec![SignatureError::Shape(error)])?;
        let (mut entries, mut errors) = (Vec::new(), Vec::new());
        let mut from = 0;
        for raw in file.signatures {
            // Entries stand in their order, so each begins behind the one before, even where both have one id.
            let at = position(text, from, &raw.id).unwrap_or(from);
            from = at + 1;
            match Signature::read(raw, text, at) {
                Ok(entry) => entries.push(entry),
                Err(mut of_entry) => errors.append(&mut of_entry),
            }
        }
        if errors.is_empty() { Ok(Self { entries, tunnel_hosts: file.tunnel_hosts }) } else { Err(errors) }
    }

    /// The first entry that names the cause of an answer.
    pub fn find(&self, answered: &Answered<'_>) -> Option<&Signature> {
        self.entries.iter().find(|entry| !entry.is_beside && entry.fits(answered))
    }

    /// The first entry that says something beside the cause: that the answer shows what nobody should see.
    pub fn find_beside(&self, answered: &Answered<'_>) -> Option<&Signature> {
        self.entries.iter().find(|entry| entry.is_beside && entry.fits(answered))
    }

    /// Every entry, in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Signature> {
        self.entries.iter()
    }

    /// Is the host one of a known tunnel service?
    pub fn is_tunnel(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.tunnel_hosts.iter().any(|known| {
            host.strip_suffix(known.as_ref()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

/// Where a text stands as a JSON string, at `from` or behind it.
fn position(text: &str, from: usize, wanted: &str) -> Option<usize> {
    let quoted = serde_json::Value::from(wanted).to_string();
    text.get(from..)?.find(&quoted).map(|at| from + at)
}

/// The line of a place, counted from 1.
fn line(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
}

impl Signature {
    /// Reads an entry whose id stands at `at` of the table's text.
    fn read(raw: RawSignature, text: &str, at: usize) -> Result<Self, Vec<SignatureError>> {
        let signature = raw.id.to_string();
        let mut errors = Vec::new();
        let mut find = |id: &String| {
            let found = Diagnosis::find(id);
            if found.is_none() {
                let line = line(text, position(text, at, id).unwrap_or(at));
                let hint = nearest(id, Diagnosis::all().map(|cause| cause.diagnosis.as_str()))
                    .map_or_else(String::new, |known| format!("; did you mean `{known}`?"));
                errors.push(SignatureError::UnknownId {
                    line,
                    signature: signature.clone(),
                    id: id.clone(),
                    hint,
                });
            }
            found
        };
        let mut ids = HashMap::new();
        for (on, named) in &raw.ids {
            let on = match on {
                RawOn::Any => None,
                RawOn::Connect => Some(On::Connect),
                RawOn::Message => Some(On::Message),
                RawOn::Disconnect => Some(On::Disconnect),
                RawOn::Token => Some(On::Token),
            };
            ids.insert(on, named.iter().filter_map(&mut find).collect::<Vec<_>>());
        }
        let missing = raw.missing.as_ref().and_then(&mut find);
        let status = match raw.status {
            RawStatuses::These(these) => Statuses::These(these),
            RawStatuses::Failures(Failures::All) => Statuses::Failures,
        };
        let fits_nothing = status == Statuses::These(Vec::new());
        let fits_all = raw.text.is_empty() && raw.pattern.is_empty() && raw.location.is_none();
        let names_nothing = raw.ids.is_empty() || raw.ids.values().any(Vec::is_empty);
        if fits_nothing || fits_all || names_nothing {
            errors.push(SignatureError::Empty { line: line(text, at), signature });
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            id: raw.id,
            status,
            content_type: raw.content_type,
            text: raw.text,
            pattern: raw.pattern,
            needs_slash: raw.location.is_some(),
            is_beside: raw.beside,
            product: raw.product,
            headers: raw.headers,
            parameter: raw.parameter,
            missing,
            ids,
        })
    }

    /// Its id, as it is kept.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The program that gives this answer, where that is not the backend itself.
    pub fn product(&self) -> Option<&str> {
        self.product.as_deref()
    }

    /// The causes to consider on an event, the most fitting one first.
    pub fn ids(&self, on: On) -> &[Diagnosis] {
        self.ids.get(&Some(on)).or_else(|| self.ids.get(&None)).map_or(&[], Vec::as_slice)
    }

    /// Headers that the backend demands, in lower case.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(AsRef::as_ref)
    }

    /// The query parameter that the backend demands.
    pub fn parameter(&self) -> Option<&str> {
        self.parameter.as_deref()
    }

    /// The cause when a demanded header or parameter was not sent; then it is proven.
    pub fn missing(&self) -> Option<Diagnosis> {
        self.missing
    }

    fn fits(&self, answered: &Answered<'_>) -> bool {
        let is_status = match &self.status {
            Statuses::These(these) => these.contains(&answered.status),
            Statuses::Failures => (400..600).contains(&answered.status),
        };
        if !is_status || self.ids(answered.on).is_empty() {
            return false;
        }
        if let (Some(wanted), Some(found)) = (&self.content_type, answered.content_type) {
            let essence = found.split(';').next().unwrap_or_default().trim();
            if !essence.eq_ignore_ascii_case(wanted) {
                return false;
            }
        }
        if self.needs_slash {
            return answered.adds_slash;
        }
        let body = &answered.body[..answered.body.len().min(LOOKED_AT)];
        if self.text.iter().any(|text| contains(body, text.as_bytes())) {
            return true;
        }
        let is_whole = answered.body.len() <= LOOKED_AT;
        is_whole
            && !self.pattern.is_empty()
            && std::str::from_utf8(body).is_ok_and(|body| {
                let body = body.trim().trim_matches('"');
                self.pattern.iter().any(|pattern| fits_pattern(pattern, body))
            })
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    !text.is_empty() && body.windows(text.len()).any(|window| window == text)
}

/// `*` stands for any text.
fn fits_pattern(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Web servers of backends that drop forwarded headers of peers that they were not told to trust. Source: waitress 3.0 does
/// in its default configuration, as measured.
const DROP_FORWARDED: [&str; 1] = ["waitress"];

/// The name of a web server, by the `Server` header of its answers, if it is known to drop `X-Forwarded-*` of peers that
/// it was not told to trust.
pub fn drops_forwarded(server: &str) -> Option<&'static str> {
    let server = server.to_ascii_lowercase();
    DROP_FORWARDED.into_iter().find(|known| server.starts_with(known))
}

/// What a backend says in a refusal, as an operator may keep it: one short line without markup, with
/// everything removed that looks like a token. Nothing for anything else.
pub fn sentence(body: &[u8]) -> Option<String> {
    if body.is_empty() || body.len() > MAX_SENTENCE {
        return None;
    }
    let text = std::str::from_utf8(body).ok()?.trim();
    let is_markup =
        text.contains(['<', '>']) || text.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
    (!text.is_empty() && !is_markup).then(|| without_tokens(text))
}

/// A text in which everything that looks like a token is `<token>`: long runs of letters and digits, and
/// whatever begins like a JSON Web Token.
pub fn without_tokens(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_token_character) {
        kept.push_str(&rest[..start]);
        rest = &rest[start..];
        // The parts of a JSON Web Token are divided by dots; elsewhere dots divide names of hosts.
        let belongs = |c: char| is_token_character(c) || (c == '.' && rest.starts_with("eyJ"));
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        let run = &rest[..end];
        kept.push_str(if is_token(run) { "<token>" } else { run });
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept
}

fn is_token_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '/' | '~' | '%')
}

fn is_token(run: &str) -> bool {
    let has_digit = run.bytes().any(|byte| byte.is_ascii_digit());
    let is_plain = run.bytes().all(|byte| byte.is_ascii_alphanumeric());
    run.len() >= 16 && (has_digit || run.starts_with("eyJ")) || run.len() >= 24 && is_plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str, on: On) -> Answered<'_> {
        Answered { status, content_type: None, body: body.as_bytes(), adds_slash: false, on }
    }

    fn found(status: u16, body: &str, on: On) -> Option<(&'static str, &'static str)> {
        let entry = Signatures::shipped().find(&answered(status, body, on))?;
        Some((entry.id(), entry.ids(on)[0].as_str()))
    }

    #[test]
    fn every_shipped_entry_is_readable_and_named() {
        // DX-4
        let table = Signatures::read(SHIPPED).unwrap();
        for id in [
            "dj-headers",
            "dj-secret",
            "dj-agent",
            "dj-conn-headers",
            "dj-conn-id",
            "dj-host",
            "dj-origin",
            "dj-channel",
            "dj-session",
            "dj-token",
            "dj-rate",
            "dj-perm",
            "dj-format",
            "dj-auth",
            "dj-tokenrate",
            "dj-csrf",
            "dj-disallowed",
            "dj-404",
            "fa-404",
            "dj-slash",
            "dj-debug",
            "py-trace",
            "tunnel-404",
            "tunnel-page",
            "lb-502",
            "lb-503",
            "lb-504",
        ] {
            assert!(table.iter().any(|entry| entry.id() == id), "{id}");
        }
    }

    #[test]
    fn answers_are_recognised_by_status_text_and_event() {
        // DX-4
        use On::{Connect, Disconnect, Message, Token};
        for (status, body, on, expected) in [
            (400, "Invalid request headers", Disconnect, ("dj-headers", "backend.api-id-unknown")),
            (403, "Invalid request", Connect, ("dj-secret", "backend.secret-mismatch")),
            (400, "Unexpected Useragent", Connect, ("dj-agent", "backend.useragent-check")),
            (400, "Missing 2 headers", Connect, ("dj-conn-headers", "backend.connection-headers-missing")),
            (400, "Invalid connection ID", Connect, ("dj-conn-id", "backend.connection-id-format")),
            (400, "Invalid connection ID", Message, ("dj-conn-id", "backend.session-unknown")),
            (400, "Host is not in AllowedHosts ['a']", Connect, ("dj-host", "backend.host-not-allowed")),
            (400, "Host is not in Origin", Connect, ("dj-origin", "backend.origin-mismatch")),
            (400, "Invalid channel", Message, ("dj-channel", "channel.invalid")),
            (400, "Invalid session", Connect, ("dj-session", "token.session-missing")),
            (400, "Invalid or expired token", Connect, ("dj-token", "token.unknown")),
            (400, "Too many connection attempts", Connect, ("dj-rate", "ratelimit.connect")),
            (403, "Permission Denied", Connect, ("dj-perm", "channel.forbidden")),
            (403, "Permission Denied", Message, ("dj-perm", "perm.user-lacks")),
            (400, "Invalid request format (1)", Connect, ("dj-format", "backend.route-param-misnamed")),
            (400, "Invalid request format (1)", Message, ("dj-format", "handler.key-missing")),
            (403, "Authentication required", Token, ("dj-auth", "tokenreq.anonymous")),
            (403, "Rate limit exceeded", Token, ("dj-tokenrate", "tokenreq.rate-limited")),
            (
                403,
                "<h1>CSRF verification failed. Request aborted.</h1>",
                Connect,
                ("dj-csrf", "backend.csrf"),
            ),
            (400, "<h1>Bad Request (400)</h1>", Connect, ("dj-disallowed", "backend.host-not-allowed")),
            (
                404,
                "<p>The requested resource was not found on this server.</p>",
                Message,
                ("dj-404", "integration.wrong-url"),
            ),
            (404, r#"{"detail":"Not Found"}"#, Connect, ("fa-404", "integration.wrong-url")),
            (
                500,
                "You called this URL, and you have APPEND_SLASH set",
                Message,
                ("dj-slash", "integration.missing-slash"),
            ),
            (404, "Tunnel abc.ngrok.io not found", Connect, ("tunnel-404", "local.tunnel-changed")),
            (200, "<html>ERR_NGROK_6024</html>", Connect, ("tunnel-page", "local.tunnel-interstitial")),
            (502, "<center>nginx/1.26.2</center>", Connect, ("lb-502", "integration.error-status")),
            (
                503,
                "No server is available to handle this request.",
                Connect,
                ("lb-503", "integration.error-status"),
            ),
            (504, "upstream request timeout", Message, ("lb-504", "integration.error-status")),
        ] {
            assert_eq!(found(status, body, on), Some(expected), "{status} {body}");
        }
        assert_eq!(found(400, "Unexpected Useragent", Message), None);
        assert_eq!(found(403, "Invalid request headers", Connect), None);
        assert_eq!(found(400, "something Invalid request", Connect), None);
        let far = format!("{}Invalid session", " ".repeat(LOOKED_AT));
        assert_eq!(found(400, &far, Connect), None);
    }

    #[test]
    fn a_redirect_to_the_slash_is_known_by_its_location() {
        // DX-4
        let mut redirect = answered(301, "", On::Connect);
        assert!(Signatures::shipped().find(&redirect).is_none());
        redirect.adds_slash = true;
        assert_eq!(Signatures::shipped().find(&redirect).unwrap().id(), "dj-slash");
    }

    #[test]
    fn what_nobody_should_see_is_found_beside_the_cause() {
        // DX-4
        let body = "Traceback (most recent call last):\n  File \"a.py\"";
        let trace = answered(500, body, On::Message);
        assert!(Signatures::shipped().find(&trace).is_none());
        assert_eq!(
            Signatures::shipped().find_beside(&trace).unwrap().ids(On::Message)[0].as_str(),
            "error.detail-leak"
        );
        // A message that quotes one is nobody's fault.
        assert!(Signatures::shipped().find_beside(&answered(200, body, On::Message)).is_none());
    }

    #[test]
    fn content_types_exclude_where_they_are_known() {
        let mut answer = answered(404, r#"{"detail":"Not Found"}"#, On::Connect);
        answer.content_type = Some("application/json; charset=utf-8");
        assert!(Signatures::shipped().find(&answer).is_some());
        answer.content_type = Some("text/plain");
        assert!(Signatures::shipped().find(&answer).is_none());
    }

    #[test]
    fn the_table_can_be_extended() {
        // DX-4
        let table = Signatures::with(
            r#"{"signatures": [{"id": "own", "status": [418], "pattern": ["no * tea"], "ids": {"any": ["backend.refused"]}}],
                "tunnelHosts": ["tunnel.example"]}"#,
        )
        .unwrap();
        let found = table.find(&answered(418, " no green tea\n", On::Message)).unwrap();
        assert_eq!((found.id(), found.ids(On::Message)[0].as_str()), ("own", "backend.refused"));
        assert!(table.find(&answered(400, "Invalid session", On::Connect)).is_some());
        assert!(table.is_tunnel("a.tunnel.example") && table.is_tunnel("x.ngrok-free.app"));
        assert!(!table.is_tunnel("notngrok.io"));
        for bad in [
            "[]",
            r#"{"signatures": [{"id": "x", "status": [400], "text": ["a"], "ids": {"any": ["no.such-id"]}}]}"#,
            r#"{"signatures": [{"id": "x", "status": [400], "ids": {"any": ["backend.refused"]}}]}"#,
            r#"{"signatures": [{"id": "x", "status": [400], "text": ["a"], "ids": {}}]}"#,
            r#"{"signatures": [], "more": 1}"#,
        ] {
            assert!(Signatures::with(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        // DX-4
        let text = r#"{
  "signatures": [
    { "id": "a", "status": [400], "text": ["x"],
      "ids": { "any": ["backend.redirct"] } },
    { "id": "b", "status": [400],
      "ids": { "any": ["backend.redirect"] } },
    { "id": "b", "status": [400], "text": ["backend.redirct"], "ids": { "any": [
      "no such id at all, nor anything like it"] } }
  ]
}"#;
        let said: Vec<String> = Signatures::with(text).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "line 4: signature `a` names `backend.redirct`, which is no diagnosis id; did you mean \
                 `backend.redirect`?",
                "line 5: signature `b` needs a status, a text, pattern or location, and ids",
                "line 8: signature `b` names `no such id at all, nor anything like it`, which is no diagnosis id",
            ]
        );
        let broken = Signatures::with("{\n  \"signatures\": [}\n").unwrap_err();
        assert!(broken[0].to_string().ends_with("at line 2 column 18"), "{broken:?}");
    }

    #[test]
    fn servers_that_drop_forwarded_headers_are_known() {
        // S0-104 backend.server-drops-forwarded
        for (server, known) in [
            ("waitress", Some("waitress")),
            ("Waitress/3.0", Some("waitress")),
            ("gunicorn", None),
            ("", None),
        ] {
            assert_eq!(drops_forwarded(server), known, "{server}");
        }
    }

    #[test]
    fn sentences_are_short_plain_and_without_tokens() {
        // DX-4, DX-10
        assert_eq!(sentence(b" You are banned.\n").as_deref(), Some("You are banned."));
        assert_eq!(sentence(b"<b>no</b>"), None);
        assert_eq!(sentence(&[b'a'; MAX_SENTENCE + 1]), None);
        assert_eq!(sentence(b""), None);
        assert_eq!(sentence(&[0xFF, b'a']), None);
        for (text, kept) in [
            ("token 0123456789abcdef0123456789abcdef is old", "token <token> is old"),
            ("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_x", "Bearer <token>"),
            ("key=AbCdEfGhIjKlMnOpQrStUvWxYz", "key=<token>"),
            ("Host is not in AllowedHosts ['api-1.internal.example.com:8000']", ""),
            ("session 6f1c1c9e-6e0c-4c55-9a53-0f1a2b3c4d5e", "session <token>"),
            ("internationalization", ""),
        ] {
            let expected = if kept.is_empty() { text } else { kept };
            assert_eq!(without_tokens(text), expected);
        }
    }
}
