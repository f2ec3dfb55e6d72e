//! Who wrote an answer: servers, frameworks, CDNs and their challenge pages, by headers and fixed text.

use super::token;
use super::wire::Answer;

/// What a server wrote, as it may be shown: one line, short, without tokens and without what a terminal obeys.
pub(super) fn shown(text: &str) -> String {
    let words =
        text.split_whitespace().map(|word| if token::looks_like_jwt(word) { "<token>" } else { word });
    let line = words.collect::<Vec<_>>().join(" ");
    printable(&line, 100)
}

/// Text without what a terminal obeys, marks of direction included, cut to a length in characters.
pub(super) fn printable(text: &str, length: usize) -> String {
    let is_obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    text.chars().filter(|c| !is_obeyed(*c)).take(length).collect()
}

/// Header, text in its value (lower case), name of the CDN.
const CDNS: [(&str, &str, &str); 10] = [
    ("cf-ray", "", "Cloudflare"),
    ("server", "cloudflare", "Cloudflare"),
    ("x-amz-cf-id", "", "CloudFront"),
    ("x-azure-ref", "", "Azure Front Door"),
    ("x-fastly-request-id", "", "Fastly"),
    ("x-served-by", "cache-", "Fastly"),
    ("server", "akamaighost", "Akamai"),
    ("x-sucuri-id", "", "Sucuri"),
    ("x-iinfo", "", "Imperva"),
    ("x-cdn", "imperva", "Imperva"),
];

/// The CDN whose header is on the answer.
pub(super) fn cdn(answer: &Answer) -> Option<&'static str> {
    CDNS.iter()
        .find(|(header, text, _)| answer.all(header).any(|value| value.to_ascii_lowercase().contains(text)))
        .map(|(_, _, name)| *name)
}

/// Text (lower case) of challenge and block pages.
const CHALLENGES: [&str; 10] = [
    "just a moment...",
    "attention required! | cloudflare",
    "/cdn-cgi/challenge-platform/",
    "_incapsula_resource",
    "incapsula incident id",
    "captcha-delivery.com",
    "awswafcaptcha",
    "px-captcha",
    "sucuri website firewall",
    "verify you are human",
];

/// What shows that the answer is a challenge or a block by a filter.
pub(super) fn challenge(answer: &Answer) -> Option<&'static str> {
    if !matches!(answer.status, 403 | 429 | 503) {
        return None;
    }
    if answer.header("cf-mitigated").is_some() {
        return Some("header `cf-mitigated`");
    }
    if answer.header("x-datadome").is_some() {
        return Some("header `x-datadome`");
    }
    let text = answer.text().to_ascii_lowercase();
    CHALLENGES.iter().find(|known| text.contains(**known)).copied()
}

/// What kind of server answered, by its `Server` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Speaks WSGI: has no WebSockets at all.
    Wsgi,
    /// Speaks ASGI.
    Asgi,
    /// Stands in front of others.
    Proxy,
    Unknown,
}

/// The kind and the name that shows it.
pub(super) fn kind(answer: &Answer) -> (Kind, String) {
    let server = answer.header("server").unwrap_or_default();
    let lower = server.to_ascii_lowercase();
    let has = |names: &[&str]| names.iter().any(|name| lower.contains(name));
    let kind = if has(&["gunicorn", "waitress", "wsgiserver", "werkzeug", "cheroot", "mod_wsgi", "uwsgi"]) {
        Kind::Wsgi
    } else if has(&["uvicorn", "daphne", "hypercorn", "granian"]) {
        Kind::Asgi
    } else if has(&[
        "nginx",
        "openresty",
        "apache",
        "haproxy",
        "envoy",
        "caddy",
        "traefik",
        "awselb",
        "litespeed",
        "iis",
    ]) {
        Kind::Proxy
    } else {
        Kind::Unknown
    };
    (kind, shown(server))
}

/// Is it the not-found page of Django or of FastAPI and Starlette?
pub(super) fn not_found_page(answer: &Answer) -> Option<&'static str> {
    let text = answer.text();
    if text.contains("The requested resource was not found on this server.")
        || text.contains("Using the URLconf")
    {
        return Some("Django");
    }
    if text.trim() == r#"{"detail":"Not Found"}"# || text == "Not Found" {
        return Some("Starlette");
    }
    None
}

/// Do two answers look like the same page?
pub(super) fn is_same(left: &Answer, right: &Answer) -> bool {
    left.status == right.status
        && left.header("content-type") == right.header("content-type")
        && left.body.len().abs_diff(right.body.len()) <= 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_server_reaches_the_terminal_raw() {
        // DX-64
        assert_eq!(shown("nginx\u{1b}[2J\r\n eyJhbGciOiJIUzI1NiJ9.e30.c2ln \u{202e}x"), "nginx[2J <token> x");
        assert_eq!(shown(&"a".repeat(500)).len(), 100);
    }
}
