//! Probe 14: what a browser does with page, cookies and the page's token request.

use serde_json::{Value, json};
use tidegate_core::diagnosis::Diagnosis;
use url::Url;

use super::cookie::{self, Cookie};
use super::wire::{Answer, Request};
use super::{Outcome, Run, facts, signature};
use crate::report::{Confidence, Finding, Severity};

pub(super) async fn run(run: &mut Run<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut cookies = run.options.cookies.clone();
    if let Some(page) = run.options.page.clone() {
        match Url::parse(&page) {
            Ok(page) if matches!(page.scheme(), "http" | "https") => {
                look_at_page(run, &mut outcome, &page, &mut cookies).await;
            }
            _ => outcome.inconclusive("--page is no http:// or https:// URL"),
        }
    }
    if let Some(token_url) = run.options.token_url.clone() {
        match Url::parse(&token_url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => {
                token_request(run, &mut outcome, &url, &cookies).await;
            }
            _ => outcome.inconclusive("--token-url is no http:// or https:// URL"),
        }
    }
    let page_host = run.options.page.as_deref().or(run.options.token_url.as_deref());
    let page_host = page_host.and_then(|page| Some(Url::parse(page).ok()?.host_str()?.to_owned()));
    if let Some(page_host) = page_host {
        judge_cookies(run, &mut outcome, &page_host, &cookies);
    }
    outcome
}

async fn look_at_page(run: &mut Run<'_>, outcome: &mut Outcome, page: &Url, cookies: &mut Vec<Cookie>) {
    let Some(endpoint) = run.other_endpoint(page).await else {
        return outcome.inconclusive("the page's host does not resolve");
    };
    let mut request = Request::get(&page[url::Position::BeforePath..url::Position::AfterQuery]);
    let sent = cookie::header_for(cookies, page);
    if !sent.is_empty() {
        request.headers.push(("Cookie".to_owned(), sent));
    }
    let answer = match run.net.send(&endpoint, &request).await {
        Ok(answer) => answer,
        Err(trouble) => return outcome.inconclusive(format!("the page: {trouble}")),
    };
    outcome.measure("pageStatus", answer.status);
    if matches!(answer.status, 300..=399) {
        let location = answer.header("location").map(super::masked).unwrap_or_default();
        run.notes.push(format!("the page redirects to {}; it was not followed", signature::shown(&location)));
    }
    let host = page.host_str().unwrap_or_default();
    for set in answer.all("set-cookie").filter_map(|value| Cookie::parse_set(value, host)) {
        // The browser's own value stays; the attributes come from the server.
        match cookies.iter_mut().find(|known| known.name == set.name) {
            Some(known) => *known = Cookie { value: known.value.clone(), ..set },
            None => cookies.push(set),
        }
    }
    let Some(target) = run.target().cloned() else { return };
    let html = answer.text();
    let policies: Vec<String> =
        answer.all("content-security-policy").map(str::to_owned).chain(meta_policies(&html)).collect();
    outcome.measure("policies", policies.len());
    for policy in &policies {
        let Some(sources) = connect_sources(policy) else { continue };
        let url = (target.is_tls, target.host.as_str(), target.port);
        if !sources.iter().any(|source| permits(source, url, page)) {
            let shown = sources.iter().map(|source| signature::shown(source)).collect::<Vec<_>>().join(" ");
            let wanted = super::masked(&run.options.url);
            let origin = Url::parse(&wanted)
                .map(|url| url[..url::Position::BeforePath].to_owned())
                .unwrap_or_default();
            run.add(
                Finding::problem(Diagnosis::BROWSER_CSP)
                    .seen(
                        format!("The page's policy permits connections to: {shown}; not to {origin}."),
                        facts([("allowed", shown.clone().into()), ("domain", target.host.clone().into())]),
                    )
                    .fix_first(format!(
                        "Add `{origin}` to connect-src of the page's Content-Security-Policy."
                    ))
                    .next(run.again_with("--page PAGE --only browser")),
            );
        }
    }
    let plain = format!("ws://{}", target.host);
    if page.scheme() == "https" && html.contains(&plain) && !target.is_loopback() {
        run.add(
            Finding::problem(Diagnosis::BROWSER_MIXED_CONTENT)
                .seen(
                    format!("The page is https and has `{plain}` in its text."),
                    facts([("scheme", "ws".into()), ("domain", target.host.clone().into())]),
                )
                .next(run.again_with("--page PAGE --only url,browser")),
        );
    }
}

/// Policies in `<meta http-equiv>`, as far as they are written plainly.
fn meta_policies(html: &str) -> Vec<String> {
    let lower = html.to_ascii_lowercase();
    let mut policies = Vec::new();
    let mut from = 0;
    while let Some(at) = lower[from..].find("<meta").map(|at| at + from) {
        let end = lower[at..].find('>').map_or(lower.len(), |end| at + end);
        let tag = &html[at..end];
        if lower[at..end].contains("content-security-policy")
            && let Some(start) = lower[at..end].find("content=")
        {
            let value = &tag[start + 8..];
            let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
            if let Some(policy) = quote.and_then(|quote| value[1..].split(quote).next()) {
                policies.push(policy.to_owned());
            }
        }
        from = end;
    }
    policies
}

/// The sources that the policy permits for connections; nothing: all. Source: CSP 3, section 6.1.2.
fn connect_sources(policy: &str) -> Option<Vec<String>> {
    let directive = |wanted: &str| {
        policy.split(';').find_map(|directive| {
            let mut words = directive.split_whitespace();
            words.next()?.eq_ignore_ascii_case(wanted).then(|| words.map(str::to_owned).collect())
        })
    };
    directive("connect-src").or_else(|| directive("default-src"))
}

/// Does a source permit the WebSocket (TLS, host, port)? Source: CSP 3, section 6.7.2.
fn permits(source: &str, (is_tls, host, port): (bool, &str, u16), page: &Url) -> bool {
    let source = source.to_ascii_lowercase();
    let scheme = if is_tls { "wss" } else { "ws" };
    match source.as_str() {
        "*" => return true,
        // Current browsers count ws and wss of the same host as the page itself.
        "'self'" => {
            let is_same_port = page.port_or_known_default() == Some(port);
            return page.host_str() == Some(host) && is_same_port && (page.scheme() == "http" || is_tls);
        }
        "wss:" => return is_tls,
        "ws:" => return true,
        _ if source.starts_with('\'') => return false,
        _ => {}
    }
    let (given_scheme, rest) = match source.split_once("://") {
        Some((given, rest)) => (Some(given), rest),
        None => (None, source.as_str()),
    };
    let fits = match given_scheme {
        None | Some("ws") => true,
        Some(given) => given == scheme,
    };
    let rest = rest.split('/').next().unwrap_or_default();
    let (given_host, given_port) = match rest.rsplit_once(':') {
        Some((host, port)) if port == "*" || port.parse::<u16>().is_ok() => (host, Some(port)),
        _ => (rest, None),
    };
    let host_fits = match given_host.strip_prefix("*.") {
        Some(parent) => host.ends_with(&format!(".{parent}")),
        None => given_host == host || given_host == "*",
    };
    let port_fits = match given_port {
        Some("*") => true,
        Some(given) => given.parse() == Ok(port),
        None => port == if is_tls { 443 } else { 80 } || (given_scheme == Some("ws") && port == 443),
    };
    fits && host_fits && port_fits
}

/// Which session cookies reach the handshake.
fn judge_cookies(run: &mut Run<'_>, outcome: &mut Outcome, page_host: &str, cookies: &[Cookie]) {
    let Some(target) = run.target().cloned() else { return };
    let sessions: Vec<&Cookie> =
        cookies.iter().filter(|cookie| cookie.is_session() && cookie.domain.is_some()).collect();
    outcome.measure(
        "sessionCookies",
        sessions.iter().map(|cookie| signature::shown(&cookie.name)).collect::<Vec<_>>(),
    );
    let is_cross_site = cookie::site(page_host) != cookie::site(&target.host);
    outcome.measure("crossSite", is_cross_site);
    for cookie in sessions {
        let name = signature::shown(&cookie.name);
        let domain = cookie.domain.clone().unwrap_or_default();
        let shown = || {
            facts([
                ("cookieNames", vec![name.clone()].into()),
                ("domain", domain.clone().into()),
                ("host", target.host.clone().into()),
                ("sameSite", cookie.same_site.clone().into()),
                ("secure", cookie.is_secure.into()),
            ])
        };
        let what = if cookie.is_host_only { "for the host alone" } else { "for the domain" };
        let finding = if !cookie.covers(&target.host) {
            let diagnosis = match cookie::site(&domain) == cookie::site(&target.host) {
                true => Diagnosis::COOKIE_DOMAIN_NOT_COVERING,
                false => Diagnosis::COOKIE_DIFFERENT_PARENT_DOMAIN,
            };
            Finding::warning(diagnosis).seen(
                format!("Cookie `{name}` is {what} {domain}; the WebSocket's host is {}.", target.host),
                shown(),
            )
        } else if cookie.is_secure && !target.is_tls && !target.is_loopback() {
            Finding::warning(Diagnosis::COOKIE_SECURE_ON_PLAIN)
                .seen(format!("Cookie `{name}` is `Secure`, the WebSocket is ws://."), shown())
        } else if is_cross_site && cookie.same_site.as_deref() != Some("none") {
            let same_site = cookie.same_site.as_deref().unwrap_or("not set, so lax");
            Finding::warning(Diagnosis::COOKIE_SAMESITE).seen(
                format!(
                    "Page {page_host} and WebSocket {} are two sites; SameSite of `{name}` is {same_site}.",
                    target.host
                ),
                shown(),
            )
        } else if is_cross_site {
            Finding::new(Diagnosis::COOKIE_THIRD_PARTY_BLOCKED, Severity::Warning, Confidence::Possible).seen(
                format!("Attributes of `{name}` are right, but page and WebSocket are two sites: some browsers send no cookie at all."),
                shown(),
            )
        } else {
            continue;
        };
        run.add(finding.next(run.again_with("--page PAGE --cookie-file FILE --only browser")));
    }
}

/// One token request: name, its headers, what came.
struct Played {
    name: &'static str,
    status: Option<u16>,
    refusal: Option<Refusal>,
}

/// What a refusal of a token request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Csrf,
    CsrfOrigin,
    CsrfCookie,
    Anonymous,
    RateLimited,
    WrongUrl,
    Other,
}

fn refusal(answer: &Answer) -> Option<Refusal> {
    let text = answer.text();
    let has = |word: &str| text.contains(word);
    Some(match answer.status {
        200..=299 if answer.is_html() => Refusal::WrongUrl,
        200..=299 => return None,
        404 => Refusal::WrongUrl,
        _ if has("Rate limit exceeded") || answer.status == 429 => Refusal::RateLimited,
        _ if has("Origin checking failed") || has("Referer checking failed") => Refusal::CsrfOrigin,
        _ if has("CSRF cookie not set") || has("CSRF cookie.") => Refusal::CsrfCookie,
        _ if has("CSRF verification failed") || has("CSRF Failed") || has("CSRF token") => Refusal::Csrf,
        _ if has("Authentication required")
            || has("credentials were not provided")
            || answer.status == 401 =>
        {
            Refusal::Anonymous
        }
        300..=399 => Refusal::Anonymous,
        _ => Refusal::Other,
    })
}

/// What the page sends, or is to send.
#[derive(Clone)]
struct Parts {
    session: bool,
    csrf_cookie: bool,
    header: Option<String>,
    origin: bool,
}

async fn play(run: &Run<'_>, url: &Url, cookies: &[Cookie], name: &'static str, parts: &Parts) -> Played {
    let Some(endpoint) = run.other_endpoint(url).await else {
        return Played { name, status: None, refusal: Some(Refusal::Other) };
    };
    let kept: Vec<Cookie> = cookies
        .iter()
        .filter(|cookie| (parts.session || !cookie.is_session()) && (parts.csrf_cookie || !cookie.is_csrf()))
        .cloned()
        .collect();
    let mut headers = Vec::new();
    let sent = cookie::header_for(&kept, url);
    if !sent.is_empty() {
        headers.push(("Cookie".to_owned(), sent));
    }
    if parts.origin {
        let page =
            run.options.page.as_deref().and_then(|page| Url::parse(page).ok()).unwrap_or_else(|| url.clone());
        let origin = run.origin().unwrap_or_else(|| page.origin().ascii_serialization());
        headers.push(("Referer".to_owned(), format!("{origin}/")));
        headers.push(("Origin".to_owned(), origin));
    }
    if let Some(value) = &parts.header {
        headers.push(("X-CSRFToken".to_owned(), value.clone()));
    }
    headers.extend(
        run.options
            .token_headers
            .iter()
            .filter(|(name, _)| !name.eq_ignore_ascii_case("x-csrftoken"))
            .cloned(),
    );
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let request = Request { method: "POST", target: target.to_owned(), headers, body: Vec::new() };
    match run.net.send(&endpoint, &request).await {
        Ok(answer) => Played { name, status: Some(answer.status), refusal: refusal(&answer) },
        Err(_) => Played { name, status: None, refusal: Some(Refusal::Other) },
    }
}

async fn token_request(run: &mut Run<'_>, outcome: &mut Outcome, url: &Url, cookies: &[Cookie]) {
    let csrf =
        cookies.iter().find(|cookie| cookie.is_csrf() && cookie.covers(url.host_str().unwrap_or_default()));
    let correct = csrf.map(|cookie| cookie.value.expose().to_owned());
    let given = run.options.token_headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-csrftoken"));
    let given = given.map(|(_, value)| value.clone());
    let has_session =
        cookies.iter().any(|cookie| cookie.is_session() && cookie.covers(url.host_str().unwrap_or_default()));
    // With the page's own headers: exactly those. Without: as a correct page would ask.
    let header = if run.options.token_headers.is_empty() { correct.clone() } else { given.clone() };
    let base = Parts { session: true, csrf_cookie: true, header: header.clone(), origin: true };
    let first = play(run, url, cookies, "as given", &base).await;
    let mut played = Vec::new();
    let right = Parts { header: correct.clone(), ..base.clone() };
    match first.refusal {
        None => {
            played.push(
                play(run, url, cookies, "without the CSRF header", &Parts { header: None, ..base.clone() })
                    .await,
            );
            played.push(
                play(
                    run,
                    url,
                    cookies,
                    "without the session cookie",
                    &Parts { session: false, ..base.clone() },
                )
                .await,
            );
        }
        Some(Refusal::Csrf | Refusal::CsrfOrigin | Refusal::CsrfCookie | Refusal::Other) => {
            if header != correct && correct.is_some() {
                played.push(play(run, url, cookies, "with the right CSRF header", &right).await);
            }
            played.push(
                play(run, url, cookies, "without Origin", &Parts { origin: false, ..right.clone() }).await,
            );
        }
        Some(_) => {}
    }
    let measured: serde_json::Map<String, Value> =
        std::iter::once(&first).chain(&played).map(|one| (one.name.to_owned(), json!(one.status))).collect();
    outcome.measure("tokenRequests", measured);
    let Some(refused) = first.refusal else { return };
    let passes = |name: &str| played.iter().any(|one| one.name == name && !is_csrf(one.refusal));
    let status = first.status.unwrap_or_default();
    let has_cookie = correct.is_some();
    let (diagnosis, evidence) = match refused {
        Refusal::WrongUrl => {
            (Diagnosis::TOKENREQ_WRONG_URL, format!("The token request gets {status}, not a token."))
        }
        Refusal::RateLimited => {
            (Diagnosis::TOKENREQ_RATE_LIMITED, format!("{status}: the limit of token requests is reached."))
        }
        Refusal::Anonymous if has_session => (
            Diagnosis::TOKENREQ_ANONYMOUS,
            format!("{status} although a session cookie was sent: nobody is logged in by it."),
        ),
        Refusal::Anonymous => (
            Diagnosis::TOKENREQ_NO_SESSION_COOKIE,
            format!("{status}; among the cookies for this host is no session cookie."),
        ),
        _ if passes("with the right CSRF header") && header.is_none() => (
            Diagnosis::TOKENREQ_CSRF_MISSING,
            format!("{status} without X-CSRFToken, no CSRF refusal with it."),
        ),
        _ if passes("with the right CSRF header") => (
            Diagnosis::TOKENREQ_CSRF_INVALID,
            format!("{status} with the given X-CSRFToken, no CSRF refusal with the one of the cookie."),
        ),
        Refusal::CsrfOrigin => {
            (Diagnosis::TOKENREQ_CSRF_ORIGIN, format!("{status}: the CSRF page names the origin check."))
        }
        Refusal::Csrf if passes("without Origin") => (
            Diagnosis::TOKENREQ_CSRF_ORIGIN,
            format!("{status} with the page's Origin, no CSRF refusal without it."),
        ),
        Refusal::Csrf | Refusal::CsrfCookie if !has_cookie => (
            Diagnosis::TOKENREQ_CSRF_COOKIE,
            format!(
                "{status}: no CSRF cookie reaches {}; its domain or SameSite keeps it away.",
                url.host_str().unwrap_or_default()
            ),
        ),
        _ => {
            outcome.inconclusive(format!("the token request gets {status}"));
            return;
        }
    };
    let shown = facts([
        ("status", status.into()),
        (
            "cookieNames",
            cookies.iter().map(|cookie| signature::shown(&cookie.name)).collect::<Vec<_>>().into(),
        ),
    ]);
    run.add(
        Finding::problem(diagnosis)
            .seen(evidence, shown)
            .next(run.again_with("--page PAGE --token-url URL --cookie-file FILE --only browser")),
    );
}

fn is_csrf(refusal: Option<Refusal>) -> bool {
    matches!(refusal, Some(Refusal::Csrf | Refusal::CsrfOrigin | Refusal::CsrfCookie))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_permit_what_browsers_do() {
        let page = Url::parse("https://www.example.com/app").unwrap();
        let ws = (true, "ws.example.com", 443);
        for (source, expected) in [
            ("*", true),
            ("wss:", true),
            ("https:", false),
            ("'self'", false),
            ("wss://ws.example.com", true),
            ("https://ws.example.com", false),
            ("ws.example.com", true),
            ("*.example.com", true),
            ("wss://ws.example.com:8443", false),
            ("wss://ws.example.com:*", true),
            ("'none'", false),
        ] {
            assert_eq!(permits(source, ws, &page), expected, "{source}");
        }
        assert!(permits("'self'", (true, "www.example.com", 443), &page));
        assert_eq!(connect_sources("default-src 'self'; img-src *").unwrap(), ["'self'"]);
        assert_eq!(connect_sources("script-src 'self'"), None);
        let html = r#"<META http-equiv="Content-Security-Policy" content="connect-src 'self'">"#;
        assert_eq!(meta_policies(html), ["connect-src 'self'"]);
    }
}
