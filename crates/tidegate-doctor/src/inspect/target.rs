//! One address of a backend: what its text already says.

use std::net::IpAddr;

use http::Uri;
use tidegate_core::diagnosis::Diagnosis;

/// Host names of tunnel services: their addresses change, and they answer pages of their own.
const TUNNELS: [&str; 10] = [
    "ngrok.io",
    "ngrok.app",
    "ngrok.dev",
    "ngrok-free.app",
    "ngrok-free.dev",
    "loca.lt",
    "trycloudflare.com",
    "serveo.net",
    "localhost.run",
    "lhr.life",
];

/// Words by which a package tells routes apart, as the last part of a path.
pub(super) const ROUTE_WORDS: [&str; 3] = ["disconnect", "connect", "default"];

/// Where a host is, as far as its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This machine.
    Loopback,
    /// A private network: an address of one, a name without a dot, or one that is never public.
    Private,
    /// Anywhere.
    Public,
}

/// A parsed address of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    uri: Uri,
}

impl Target {
    /// Parses an absolute address without variables.
    pub fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        (is_http && uri.host().is_some_and(|host| !host.is_empty())).then_some(Self { uri })
    }

    /// `https`?
    pub fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Without brackets.
    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    /// What stands in `Host`: with the port where one is written.
    pub fn authority(&self) -> &str {
        let authority = self.uri.authority().map_or("", http::uri::Authority::as_str);
        authority.rsplit_once('@').map_or(authority, |(_, host)| host)
    }

    /// At least `/`.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// With another path, without its query.
    pub fn with_path(&self, path: &str) -> String {
        format!("{}://{}{path}", self.uri.scheme_str().unwrap_or("http"), self.authority())
    }

    /// As it may be shown: scheme, host, port and path.
    pub fn shown(&self) -> String {
        self.with_path(self.path())
    }

    /// Where the host is.
    pub fn reach(&self) -> Reach {
        reach(self.host())
    }

    /// The host belongs to a tunnel service.
    pub fn is_tunnel(&self) -> bool {
        let host = self.host().to_ascii_lowercase();
        TUNNELS.iter().any(|known| host == *known || host.ends_with(&format!(".{known}")))
    }

    /// Path up to the last part, ending in `/`, and the last part.
    pub fn split(&self) -> (&str, &str) {
        let path = self.path();
        path.split_at(path.rfind('/').map_or(0, |slash| slash + 1))
    }

    /// A route's word that is glued to the end of the path: `/wsconnect` is `("/ws", "connect")`.
    pub fn glued(&self) -> Option<(&str, &'static str)> {
        let (_, last) = self.split();
        let word = ROUTE_WORDS.into_iter().find(|word| last.ends_with(word))?;
        let before = &last[..last.len() - word.len()];
        // `reconnect` and `user-connect` are words of their own.
        let is_glued = before.ends_with(|c: char| c.is_ascii_alphanumeric()) && !before.ends_with("re");
        is_glued.then(|| (&self.path()[..self.path().len() - word.len()], word))
    }

    /// The path without the second of two equal parts that follow each other: `/api/api/x` gives `/api/x`.
    pub fn without_doubled(&self) -> Option<String> {
        let parts: Vec<&str> = self.path().split('/').collect();
        let at = parts.windows(2).position(|pair| !pair[0].is_empty() && pair[0] == pair[1])?;
        let kept: Vec<&str> =
            parts.iter().enumerate().filter(|(idx, _)| *idx != at).map(|(_, part)| *part).collect();
        Some(kept.join("/"))
    }

    /// Was the address built from a value that was not there?
    pub fn is_from_nothing(&self) -> bool {
        let parts = self.path().split('/').chain([self.host()]);
        parts.into_iter().any(|part| matches!(part, "undefined" | "null" | "None" | "[object Object]"))
    }

    /// Is the host on the operator's list? An empty list has everybody.
    pub fn is_allowed(&self, allowed_hosts: &[String]) -> bool {
        let host = self.host().to_ascii_lowercase();
        let fits = |entry: &String| {
            let entry = entry.to_ascii_lowercase();
            match entry.strip_prefix("*.") {
                Some(parent) => {
                    host.strip_suffix(parent).is_some_and(|head| head.len() > 1 && head.ends_with('.'))
                }
                None => host == entry,
            }
        };
        allowed_hosts.is_empty() || allowed_hosts.iter().any(fits)
    }

    /// What is wrong with the text itself, with a sentence each.
    pub fn remarks(&self, allowed_hosts: &[String]) -> Vec<(Diagnosis, String)> {
        let mut remarks = Vec::new();
        if !self.is_allowed(allowed_hosts) {
            let text = format!(
                "{} is not among integration.allowed_hosts ({})",
                self.host(),
                allowed_hosts.join(", ")
            );
            remarks.push((Diagnosis::INTEGRATION_HOST_NOT_ALLOWED, text));
        }
        if !self.is_https() && self.reach() == Reach::Public {
            let text = format!("{} is plain http, and {} is not local", self.shown(), self.host());
            remarks.push((Diagnosis::INTEGRATION_NOT_HTTPS, text));
        }
        if let Some((base, word)) = self.glued() {
            let text = format!(
                "{} ends in `{word}` without a slash before it; `{}/{word}` is probably meant",
                self.path(),
                base
            );
            remarks.push((Diagnosis::INTEGRATION_MISSING_SLASH, text));
        }
        if let Some(single) = self.without_doubled() {
            remarks.push((
                Diagnosis::PATH_DOUBLE_PREFIX,
                format!("{} repeats a part; {single} does not", self.path()),
            ));
        }
        if self.is_from_nothing() {
            let text = format!("{} was built from a value that was not set", self.shown());
            remarks.push((Diagnosis::PROVISION_INVALID_TARGET, text));
        }
        remarks
    }
}

/// Where a host is, as far as its name or address says.
pub fn reach(host: &str) -> Reach {
    if let Ok(address) = host.parse::<IpAddr>() {
        return match address.to_canonical() {
            address if address.is_loopback() => Reach::Loopback,
            IpAddr::V4(v4) if v4.is_private() || v4.is_link_local() || v4.is_unspecified() => Reach::Private,
            // fc00::/7 and fe80::/10.
            IpAddr::V6(v6) if v6.segments()[0] & 0xfe00 == 0xfc00 || v6.segments()[0] & 0xffc0 == 0xfe80 => {
                Reach::Private
            }
            _ => Reach::Public,
        };
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is_below = |parent: &str| host.ends_with(parent);
    match host.as_str() {
        "localhost" => Reach::Loopback,
        _ if is_below(".localhost") => Reach::Loopback,
        _ if !host.contains('.')
            || [".local", ".internal", ".lan", ".svc", ".home.arpa"].into_iter().any(is_below) =>
        {
            Reach::Private
        }
        _ => Reach::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(url: &str) -> Vec<&'static str> {
        let target = Target::parse(url).expect(url);
        target.remarks(&[]).into_iter().map(|(diagnosis, _)| diagnosis.as_str()).collect()
    }

    #[test]
    fn the_text_of_an_address_already_tells() {
        // integration.missing-slash, integration.not-https, path.double-prefix, provision.invalid-target
        for (url, expected) in [
            ("https://b.example/ws/connect", &[][..]),
            ("https://b.example/ws/reconnect", &[]),
            ("https://b.example/ws/user-connect", &[]),
            ("http://127.0.0.1:8000/ws/connect", &[]),
            ("http://backend:8000/ws/connect", &[]),
            ("http://10.1.2.3/ws/connect", &[]),
            ("http://[::1]:8000/x", &[]),
            ("https://b.example/wsconnect", &["integration.missing-slash"]),
            ("https://b.example/wsdisconnect", &["integration.missing-slash"]),
            ("http://b.example/ws/connect", &["integration.not-https"]),
            ("https://b.example/api/api/connect", &["path.double-prefix"]),
            ("https://b.example/undefined/connect", &["provision.invalid-target"]),
        ] {
            assert_eq!(ids(url), expected, "{url}");
        }
        let target = Target::parse("https://b.example/wsconnect").unwrap();
        assert_eq!(target.glued(), Some(("/ws", "connect")));
        assert_eq!(
            Target::parse("https://h/api/api/x").unwrap().without_doubled().as_deref(),
            Some("/api/x")
        );
    }

    #[test]
    fn hosts_are_on_the_list_or_not() {
        // integration.host-not-allowed
        let list = ["b.example".to_owned(), "*.c.example".to_owned()];
        for (host, expected) in [
            ("b.example", true),
            ("B.example", true),
            ("x.c.example", true),
            ("c.example", false),
            ("xc.example", false),
        ] {
            let target = Target::parse(&format!("https://{host}/")).unwrap();
            assert_eq!(target.is_allowed(&list), expected, "{host}");
            let remarks = target.remarks(&list);
            let is_named = remarks.iter().any(|(id, _)| *id == Diagnosis::INTEGRATION_HOST_NOT_ALLOWED);
            assert_eq!(is_named, !expected, "{host}");
        }
    }

    #[test]
    fn tunnels_are_known_by_their_names() {
        for (url, expected) in [
            ("https://ab12.ngrok-free.app/x", true),
            ("https://ngrok-free.app.example/x", false),
            ("https://b.example/", false),
        ] {
            assert_eq!(Target::parse(url).unwrap().is_tunnel(), expected, "{url}");
        }
    }
}
