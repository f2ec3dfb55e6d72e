//! Probe 1: the URL itself, before anything is sent.

use tidegate_auth::Secret;
use tidegate_core::diagnosis::Diagnosis;
use url::{Host, Position, Url};

use super::token::{self, Token};
use super::{Outcome, Run, facts};
use crate::report::Finding;

/// Text that stands for a value that was not there when the URL was built.
const UNDEFINED: [&str; 8] =
    ["undefined", "null", "${", "[object Object]", "%5Bobject%20Object%5D", "NaN", "$%7B", "{{"];

/// The URL in parts. No `Debug`: the token is in it.
#[derive(Clone)]
pub(super) struct Target {
    url: Url,
    pub(super) is_tls: bool,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Value of `Host`.
    pub(super) authority: String,
    pub(super) token: Option<Token>,
}

impl Target {
    pub(super) fn path(&self) -> &str {
        self.url.path()
    }

    /// Length of the request target, in bytes.
    pub(super) fn length(&self) -> usize {
        self.request_target().len()
    }

    /// Path and query.
    pub(super) fn request_target(&self) -> String {
        self.url[Position::BeforePath..Position::AfterQuery].to_owned()
    }

    /// Path and query with another path.
    pub(super) fn with_path(&self, path: &str) -> String {
        match self.url.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        }
    }

    /// Path and query without the token.
    pub(super) fn without_token(&self) -> String {
        self.map_token(|_| None)
    }

    /// Path and query with another token.
    pub(super) fn with_token(&self, value: &str) -> String {
        self.map_token(|_| Some(value.to_owned()))
    }

    fn map_token(&self, change: impl Fn(&str) -> Option<String>) -> String {
        let Some(token) = &self.token else { return self.request_target() };
        let mut url = self.url.clone();
        let pairs: Vec<(String, String)> = self
            .url
            .query_pairs()
            .filter_map(|(name, value)| match *name == *token.name {
                true => change(&value).map(|value| (name.into_owned(), value)),
                false => Some((name.into_owned(), value.into_owned())),
            })
            .collect();
        match pairs.is_empty() {
            true => url.set_query(None),
            false => {
                url.query_pairs_mut().clear().extend_pairs(pairs);
            }
        }
        url[Position::BeforePath..Position::AfterQuery].to_owned()
    }

    /// `https://host` as an origin.
    pub(super) fn own_origin(&self) -> String {
        format!("{}://{}", if self.is_tls { "https" } else { "http" }, self.authority)
    }

    pub(super) fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// Is the host an address and not a name?
    pub(super) fn is_address(&self) -> bool {
        matches!(self.url.host(), Some(Host::Ipv4(_) | Host::Ipv6(_)))
    }

    /// The path with one repeated prefix removed: `/api/api/x` gives `/api/x`.
    pub(super) fn without_repetition(&self) -> Option<String> {
        let segments: Vec<&str> = self.path().trim_start_matches('/').split('/').collect();
        for length in 1..=segments.len() / 2 {
            let (first, rest) = segments.split_at(length);
            if !first[0].is_empty() && rest.starts_with(first) {
                return Some(format!("/{}", rest.join("/")));
            }
        }
        None
    }

    #[cfg(test)]
    pub(super) fn parse(text: &str) -> Self {
        let url = Url::parse(text).expect("a URL");
        target(url, None, "token", (80, 443))
    }
}

/// A URL with `*` for user, password and query values, and without tokens in the path.
pub fn masked(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else {
        // What cannot be read is not repeated further than its first harmless part.
        let end = text.find(['?', '#', '@']).unwrap_or(text.len());
        return text[..end].chars().filter(|c| !c.is_control()).take(200).collect();
    };
    if !url.username().is_empty() || url.password().is_some() {
        let _ = url.set_username("*");
        let _ = url.set_password(None);
    }
    let path: Vec<String> = url
        .path()
        .split('/')
        .map(|segment| if token::looks_like_jwt(segment) { "<token>".to_owned() } else { segment.to_owned() })
        .collect();
    let query = url.query().map(|_| {
        let names: Vec<String> = url.query_pairs().map(|(name, _)| format!("{}=*", plain(&name))).collect();
        format!("?{}", names.join("&"))
    });
    let fragment = url.fragment().map(|_| "#*").unwrap_or_default();
    let front = &url[..Position::BeforePath];
    format!("{front}{}{}{fragment}", path.join("/"), query.unwrap_or_default())
}

/// A name as it may be shown: without what a terminal would obey, not longer than a name.
fn plain(name: &str) -> String {
    if token::looks_like_jwt(name) {
        return "<token>".to_owned();
    }
    super::signature::printable(name, 64)
}

fn target(mut url: Url, token: Option<(&str, Secret)>, token_name: &str, ports: (u16, u16)) -> Target {
    url.set_fragment(None);
    let is_tls = matches!(url.scheme(), "wss" | "https");
    if let Some((name, value)) = token {
        let others: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(other, _)| other != name)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        url.query_pairs_mut().clear().extend_pairs(others).append_pair(name, value.expose());
    }
    let found = url
        .query_pairs()
        .find(|(name, value)| {
            !value.is_empty()
                && (name == token_name || token::is_token_name(name) || token::looks_like_jwt(value))
        })
        .map(|(name, value)| Token { name: name.into_owned(), value: Secret::new(value.into_owned()) });
    let port = url.port().unwrap_or(if is_tls { ports.1 } else { ports.0 });
    Target {
        is_tls,
        host: url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
        port,
        authority: url[Position::BeforeHost..Position::AfterPort].to_owned(),
        token: found,
        url,
    }
}

pub(super) fn run(run: &mut Run<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let options = run.options;
    let shown = masked(&options.url);
    outcome.measure("url", shown.clone());
    let again = |url: &str| format!("tidegate doctor {}", super::quoted(url));

    let url = match Url::parse(options.url.trim()) {
        Ok(url) if matches!(url.scheme(), "ws" | "wss" | "http" | "https") && url.has_host() => url,
        parsed => {
            let why = match parsed {
                Err(url::ParseError::RelativeUrlWithoutBase) => {
                    "it is relative: scheme and host are missing".to_owned()
                }
                Err(error) => error.to_string(),
                Ok(url) => format!("its scheme is `{}`", url.scheme()),
            };
            run.add(
                Finding::problem(Diagnosis::HANDSHAKE_BAD_URL_SYNTAX)
                    .seen(
                        format!("`{shown}` cannot be used: {why}."),
                        facts([("detail", why.clone().into())]),
                    )
                    .next(again("wss://HOST/PATH")),
            );
            outcome.stop(format!("the URL cannot be used: {why}"));
            return outcome;
        }
    };

    let token = options.token.clone().map(|value| (options.token_name.as_str(), value));
    let surroundings = &options.surroundings;
    let target =
        target(url.clone(), token, &options.token_name, (surroundings.plain_port, surroundings.tls_port));

    if matches!(url.scheme(), "http" | "https") {
        let wanted = if target.is_tls { "wss" } else { "ws" };
        let corrected = masked(&options.url).replacen(url.scheme(), wanted, 1);
        run.add(
            Finding::problem(Diagnosis::HANDSHAKE_HTTPS_SCHEME)
                .seen(
                    format!("The URL begins with `{}://`. The other probes use `{wanted}://`.", url.scheme()),
                    facts([("scheme", url.scheme().into())]),
                )
                .next(again(&corrected)),
        );
    }
    let wrong = undefined_part(&url);
    if url.fragment().is_some() || wrong.is_some() {
        let what = match wrong {
            Some(part) => format!("The URL has `{part}` in it: a value was missing when it was built."),
            None => "The URL has a fragment (`#`), which the browser's constructor refuses.".to_owned(),
        };
        run.add(
            Finding::problem(Diagnosis::HANDSHAKE_BAD_URL_SYNTAX)
                .seen(what, facts([("path", masked(&options.url).into())]))
                .next(again(&masked(&options.url).replace("#*", ""))),
        );
    }
    let has = |name: &str| url.query_pairs().any(|(given, _)| given == name);
    if (has("EIO") && has("transport")) || url.path().starts_with("/socket.io/") {
        let names: Vec<String> = url.query_pairs().map(|(name, _)| plain(&name)).collect();
        run.add(
            Finding::problem(Diagnosis::CLIENT_SOCKETIO)
                .seen(
                    "Path and query are those of a Socket.IO client, which speaks a protocol of its own.",
                    facts([("path", url.path().into()), ("queryNames", names.into())]),
                )
                .next("tidegate explain client.socketio"),
        );
    }
    let page = options.page.as_deref().and_then(|page| Url::parse(page).ok());
    if page.is_some_and(|page| page.scheme() == "https") && !target.is_tls && !target.is_loopback() {
        run.add(
            Finding::problem(Diagnosis::BROWSER_MIXED_CONTENT)
                .seen(
                    "The page is `https`, the WebSocket is `ws`: browsers refuse that without a request.",
                    facts([("scheme", url.scheme().into())]),
                )
                .next(again(&masked(&options.url).replacen("ws:", "wss:", 1))),
        );
    }
    if let Some(path) = target.without_repetition() {
        outcome.measure("repeatedPrefix", true);
        outcome.measure("pathWithoutRepetition", path);
    }
    if !url.username().is_empty() || url.password().is_some() {
        run.notes.push("the URL has a user name or a password in it; browsers do not send them".to_owned());
    }
    let token_kind = match &target.token {
        None => "none",
        Some(token) if token.is_jwt() => "JSON Web Token",
        Some(_) => "opaque",
    };
    outcome.measure("token", token_kind);
    outcome.measure("length", target.length());
    let scheme = if target.is_tls { "wss" } else { "ws" };
    outcome.summary(format!("{scheme}, host {}, port {}, token: {token_kind}", target.host, target.port));
    run.target = Some(target);
    outcome
}

fn undefined_part(url: &Url) -> Option<&'static str> {
    let path = url.path().split('/').map(str::to_owned);
    let host = url.host_str().unwrap_or_default().split('.').map(str::to_owned);
    let values = url.query_pairs().map(|(_, value)| value.into_owned());
    let parts: Vec<String> = path.chain(host).chain(values).collect();
    UNDEFINED.into_iter().find(|text| {
        let is_word = text.bytes().all(|byte| byte.is_ascii_alphabetic());
        parts.iter().any(|part| if is_word { part == text } else { part.contains(text) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_secrets() {
        // DX-64
        for (url, expected) in [
            ("wss://a.example/x?token=abc&page=2", "wss://a.example/x?token=*&page=*"),
            ("wss://ada:hunter2@a.example:444/x#secret", "wss://*@a.example:444/x#*"),
            ("wss://a.example/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln/x", "wss://a.example/<token>/x"),
            ("/chat?token=abc", "/chat"),
            ("wss://a.example", "wss://a.example"),
        ] {
            let shown = masked(url);
            assert_eq!(shown.trim_end_matches('/'), expected.trim_end_matches('/'), "{url}");
        }
    }

    #[test]
    fn repeated_prefixes_are_found() {
        for (path, expected) in [
            ("/api/api/chat", Some("/api/chat")),
            ("/ws/v1/ws/v1/chat", Some("/ws/v1/chat")),
            ("/api/chat", None),
            ("/", None),
            ("//", None),
        ] {
            assert_eq!(
                Target::parse(&format!("ws://a{path}")).without_repetition().as_deref(),
                expected,
                "{path}"
            );
        }
    }

    #[test]
    fn the_token_can_be_left_out_and_replaced() {
        let target = Target::parse("ws://a/x?page=2&token=opaque");
        assert_eq!(target.without_token(), "/x?page=2");
        assert_eq!(target.with_token("other"), "/x?page=2&token=other");
        assert_eq!(Target::parse("ws://a/x?token=t").without_token(), "/x");
    }
}
