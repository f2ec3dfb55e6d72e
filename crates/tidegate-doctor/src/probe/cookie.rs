//! Cookies of a browser: which host gets them, and which handshake. Source: RFC 6265bis, sections 5.5 to 5.8.

use tidegate_auth::Secret;
use url::Url;

use super::url::Target;

/// A cookie of the browser, or one that a server sets.
#[derive(Debug, Clone)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// Its value; never shown.
    pub value: Secret,
    /// Host or domain that it belongs to, without a leading dot; none: as the command line gave it, for every host.
    pub domain: Option<String>,
    /// Not for hosts below the domain.
    pub is_host_only: bool,
    /// Only over TLS.
    pub is_secure: bool,
    /// Not for scripts.
    pub is_http_only: bool,
    /// `lax`, `strict` or `none`; none: not said, which browsers take as `lax`.
    pub same_site: Option<String>,
}

/// Why a cookie file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CookieError {
    /// A line is neither of a cookie jar nor of a `Cookie` header.
    #[error("line {line} is neither a cookie jar's nor `name=value; name=value`")]
    BadLine {
        /// Its number, from 1.
        line: usize,
    },
}

impl Cookie {
    /// Reads the file of a browser or of curl (seven fields), or lines as in a `Cookie` header.
    ///
    /// # Errors
    /// [`CookieError::BadLine`]; the line itself is not repeated.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, CookieError> {
        let mut cookies = Vec::new();
        for (line_idx, line) in text.lines().enumerate() {
            let bad = CookieError::BadLine { line: line_idx + 1 };
            let (is_http_only, line) = match line.strip_prefix("#HttpOnly_") {
                Some(rest) => (true, rest),
                None => (false, line),
            };
            if line.trim().is_empty() || (line.starts_with('#') && !is_http_only) {
                continue;
            }
            let fields: Vec<&str> = line.split('\t').collect();
            if let [domain, subdomains, _path, secure, _expires, name, value] = fields.as_slice() {
                cookies.push(Self {
                    name: (*name).to_owned(),
                    value: Secret::new(*value),
                    domain: Some(domain.trim_start_matches('.').to_ascii_lowercase()),
                    is_host_only: *subdomains == "FALSE",
                    is_secure: *secure == "TRUE",
                    is_http_only,
                    same_site: None,
                });
                continue;
            }
            let line = line.trim();
            let line = line.strip_prefix("Cookie:").or_else(|| line.strip_prefix("cookie:")).unwrap_or(line);
            for pair in line.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
                let (name, value) = pair.split_once('=').ok_or_else(|| bad.clone())?;
                if name.contains(|c: char| c.is_control() || c == ' ') || value.contains(char::is_control) {
                    return Err(bad);
                }
                cookies.push(Self {
                    name: name.to_owned(),
                    value: Secret::new(value),
                    domain: None,
                    is_host_only: false,
                    is_secure: false,
                    is_http_only: false,
                    same_site: None,
                });
            }
        }
        Ok(cookies)
    }

    /// A `Set-Cookie` of `host`.
    pub(super) fn parse_set(value: &str, host: &str) -> Option<Self> {
        let mut parts = value.split(';').map(str::trim);
        let (name, value) = parts.next()?.split_once('=')?;
        let mut cookie = Self {
            name: name.trim().to_owned(),
            value: Secret::new(value.trim()),
            domain: Some(host.to_ascii_lowercase()),
            is_host_only: true,
            is_secure: false,
            is_http_only: false,
            same_site: None,
        };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "domain" if !value.trim().trim_start_matches('.').is_empty() => {
                    cookie.domain = Some(value.trim().trim_start_matches('.').to_ascii_lowercase());
                    cookie.is_host_only = false;
                }
                "secure" => cookie.is_secure = true,
                "httponly" => cookie.is_http_only = true,
                "samesite" => cookie.same_site = Some(value.trim().to_ascii_lowercase()),
                _ => {}
            }
        }
        Some(cookie)
    }

    /// Does the browser keep it for this host?
    pub(super) fn covers(&self, host: &str) -> bool {
        let Some(domain) = &self.domain else { return true };
        let host = host.to_ascii_lowercase();
        host == *domain || (!self.is_host_only && host.ends_with(&format!(".{domain}")))
    }

    /// Is it one that says who the user is? By its name; a CSRF cookie is not.
    pub(super) fn is_session(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        !self.is_csrf() && (has(&["sess", "sid", "auth", "token", "login", "user"]) || self.is_http_only)
    }

    pub(super) fn is_csrf(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        name.contains("csrf") || name.contains("xsrf")
    }
}

/// The cookies that a client sends to the WebSocket's host, as a header value.
pub(super) fn header(cookies: &[Cookie], target: &Target) -> String {
    for_host(cookies, &target.host, target.is_tls || target.is_loopback())
}

/// The cookies for a page or an endpoint.
pub(super) fn header_for(cookies: &[Cookie], url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let is_local = host == "localhost" || host.ends_with(".localhost") || host.starts_with("127.");
    for_host(cookies, host, url.scheme() == "https" || is_local)
}

fn for_host(cookies: &[Cookie], host: &str, may_secure: bool) -> String {
    let sent = cookies.iter().filter(|cookie| cookie.covers(host) && (may_secure || !cookie.is_secure));
    let pairs: Vec<String> =
        sent.map(|cookie| format!("{}={}", cookie.name, cookie.value.expose())).collect();
    pairs.join("; ")
}

/// The registrable domain; an address and a single label stand for themselves. Source: the public suffix list.
pub(super) fn site(host: &str) -> String {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host.parse::<std::net::IpAddr>().is_ok() {
        return host;
    }
    psl::domain_str(&host).map(str::to_owned).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_browsers_and_headers() {
        let text = "# Netscape HTTP Cookie File\n.example.com\tTRUE\t/\tTRUE\t0\tsessionid\tabc\n#HttpOnly_a.example.com\tFALSE\t/\tFALSE\t0\tsid\tx\n\ncsrftoken=1; other=2\n";
        let cookies = Cookie::parse_file(text).unwrap();
        let names: Vec<&str> = cookies.iter().map(|cookie| cookie.name.as_str()).collect();
        assert_eq!(names, ["sessionid", "sid", "csrftoken", "other"]);
        assert!(cookies[0].covers("ws.example.com") && cookies[0].is_secure && !cookies[0].is_host_only);
        assert!(cookies[1].is_http_only && !cookies[1].covers("ws.a.example.com"));
        assert!(cookies[2].is_csrf() && cookies[2].covers("anything"));
        assert_eq!(Cookie::parse_file("a=b\nnothing here").unwrap_err(), CookieError::BadLine { line: 2 });
        assert!(!format!("{cookies:?}").contains("abc"));
    }

    #[test]
    fn set_cookies() {
        let cookie = Cookie::parse_set(
            "sessionid=x; Path=/; Domain=.Example.com; Secure; SameSite=Lax",
            "www.example.com",
        )
        .unwrap();
        assert!(cookie.covers("ws.example.com") && cookie.is_secure);
        assert_eq!(cookie.same_site.as_deref(), Some("lax"));
        let host_only = Cookie::parse_set("sessionid=x; HttpOnly", "www.example.com").unwrap();
        assert!(!host_only.covers("ws.example.com") && !host_only.covers("a.www.example.com"));
    }

    #[test]
    fn registrable_domains() {
        for (host, expected) in [
            ("ws.example.com", "example.com"),
            ("a.b.example.co.uk", "example.co.uk"),
            ("app.github.io", "app.github.io"),
            ("localhost", "localhost"),
            ("192.0.2.7", "192.0.2.7"),
        ] {
            assert_eq!(site(host), expected);
        }
    }
}
