//! Origins of pages that may open connections.

use std::net::Ipv6Addr;

/// A list of origins: `https://a.example`, `http://localhost:8000`, `https://*.example.com` for sub-domains only.
#[derive(Debug, Clone, Default)]
pub struct OriginList {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    is_https: bool,
    /// In lower case; of a list's `*.example.com` it is `.example.com`.
    host: String,
    port: u16,
}

/// The text is no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("https://host, http://host:port or https://*.host expected, without a path")]
pub struct OriginError;

impl OriginList {
    /// Compiles a list.
    ///
    /// # Errors
    /// The position and the fault of each entry that is no origin.
    pub fn parse(entries: &[String]) -> Result<Self, Vec<(usize, OriginError)>> {
        let mut list = Self::default();
        let mut errors = Vec::new();
        for (idx, text) in entries.iter().enumerate() {
            match Entry::parse(text, true) {
                Some(entry) => list.entries.push(entry),
                None => errors.push((idx, OriginError)),
            }
        }
        if errors.is_empty() { Ok(list) } else { Err(errors) }
    }

    /// Nothing is on the list.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the value of an `Origin` header is on the list. Scheme and host are compared without regard to case,
    /// a port that is not written is the scheme's. `null`, and what is no origin, never is.
    pub fn contains(&self, origin: &str) -> bool {
        let Some(origin) = Entry::parse(origin, false) else { return false };
        self.entries.iter().any(|entry| {
            entry.is_https == origin.is_https
                && entry.port == origin.port
                && match entry.host.starts_with('.') {
                    true => origin.host.len() > entry.host.len() && origin.host.ends_with(&entry.host),
                    false => entry.host == origin.host,
                }
        })
    }
}

impl Entry {
    fn parse(text: &str, may_be_pattern: bool) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_https = match scheme {
            _ if scheme.eq_ignore_ascii_case("https") => true,
            _ if scheme.eq_ignore_ascii_case("http") => false,
            _ => return None,
        };
        // The brackets of an IPv6 address hold colons.
        let after_address = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority.get(after_address..)?.rfind(':') {
            Some(colon) => {
                (&authority[..after_address + colon], Some(&authority[after_address + colon + 1..]))
            }
            None => (authority, None),
        };
        let port = match port {
            None => {
                if is_https {
                    443
                } else {
                    80
                }
            }
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
        };
        let host = host.to_ascii_lowercase();
        let host = match host.strip_prefix('*') {
            Some(suffix) if may_be_pattern && is_host_name(suffix.strip_prefix('.')?) => suffix.to_owned(),
            None if is_host_name(&host) || is_bracketed_address(&host) => host,
            _ => return None,
        };
        Some(Self { is_https, host, port })
    }
}

fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    host.split('.').all(is_label)
}

fn is_bracketed_address(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Result<OriginList, Vec<(usize, OriginError)>> {
        OriginList::parse(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn origins_are_compared_as_origins() {
        // S0-42
        let check = |entry: &str, origin: &str, is_on_list| {
            assert_eq!(list(&[entry]).expect(entry).contains(origin), is_on_list, "{entry} {origin}");
        };
        check("https://a.example", "https://a.example", true);
        check("https://a.example", "HTTPS://A.Example:443", true);
        check("https://a.example:443", "https://a.example", true);
        check("http://a.example:80", "http://a.example", true);
        check("https://a.example", "http://a.example", false);
        check("https://a.example", "http://a.example:443", false);
        check("https://a.example", "https://a.example:8443", false);
        check("https://a.example", "https://b.a.example", false);
        check("https://a.example", "https://a.example.evil.example", false);
        check("https://a.example", "https://evil.example/https://a.example", false);
        check("https://a.example", "https://a.example@evil.example", false);
        check("https://a.example", "null", false);
        check("https://a.example", "", false);
        check("https://*.example.com", "https://a.example.com", true);
        check("https://*.example.com", "https://a.b.EXAMPLE.com", true);
        check("https://*.example.com", "https://example.com", false);
        check("https://*.example.com", "https://.example.com", false);
        check("https://*.example.com", "https://evilexample.com", false);
        check("https://*.example.com", "https://*.example.com", false);
        check("https://*.example.com:8443", "https://a.example.com:8443", true);
        check("http://[::1]:8000", "http://[::1]:8000", true);
        check("http://[::1]:8000", "http://[::1]", false);
        check("http://127.0.0.1:8000", "http://127.0.0.1:8000", true);
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for bad in [
            "",
            "*",
            "a.example",
            "https://",
            "https://a.example/",
            "https://a.example:",
            "https://a.example:99999",
            "https://a.example:+1",
            "ftp://a.example",
            "https://*",
            "https://*.",
            "https://*example.com",
            "https://a.*.example.com",
            "https://u@a.example",
            "https://a..example",
            "https://[::1",
            "https://[x]",
            "https://ä.example",
            "null",
        ] {
            assert_eq!(list(&["https://a.example", bad]).unwrap_err(), [(1, OriginError)], "{bad}");
        }
    }
}
