//! Certificates: names and dates, read from DER without trusting anything in it.

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;

use super::facts;
use crate::report::Finding;

/// From so many days before its end on, a certificate is worth a warning.
pub const WARN_DAYS: i64 = 21;

/// What is read of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Certificate {
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// DNS names and IP addresses that it is for.
    pub names: Vec<String>,
}

/// Whether a name of a certificate or domain covers a host: equal, or a wildcard for one label.
pub fn covers(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (pattern.to_ascii_lowercase(), host.trim_end_matches('.').to_ascii_lowercase());
    match pattern.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => pattern == host,
    }
}

/// One element: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let n_bytes = usize::from(first & 0x7f);
            let (bytes, rest) = rest.split_at_checked(n_bytes)?;
            (bytes.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

/// Reads names and dates. Source: RFC 5280, section 4.1.
pub fn read(der: &[u8]) -> Option<Certificate> {
    const SEQUENCE: u8 = 0x30;
    const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
    let (tag, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate).filter(|_| tag == SEQUENCE)?;
    // [0] version, serial, signature, issuer, validity, subject, key, then the optional parts.
    if rest.first() == Some(&0xa0) {
        rest = element(rest)?.2;
    }
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, validity, after) = element(rest)?;
    let (begin_tag, begin, second) = element(validity)?;
    let (end_tag, end, _) = element(second)?;
    rest = after;
    for _ in 0..2 {
        rest = element(rest)?.2;
    }
    let mut names = Vec::new();
    while let Some((tag, content, after)) = element(rest) {
        rest = after;
        if tag != 0xa3 {
            continue;
        }
        let (_, mut extensions, _) = element(content)?;
        while let Some((_, extension, after)) = element(extensions) {
            extensions = after;
            let (_, id, mut value) = element(extension)?;
            if id != SUBJECT_ALT_NAME {
                continue;
            }
            // A `critical` flag may stand before the value.
            while let Some((tag, content, after)) = element(value) {
                value = after;
                if tag == 0x04 {
                    names = alternative_names(element(content)?.1);
                }
            }
        }
    }
    Some(Certificate { not_before: time(begin_tag, begin)?, not_after: time(end_tag, end)?, names })
}

fn alternative_names(mut rest: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while let Some((tag, content, after)) = element(rest) {
        rest = after;
        match (tag, content.len()) {
            (0x82, _) => names.extend(std::str::from_utf8(content).ok().map(str::to_owned)),
            (0x87, 4) => names
                .extend(<[u8; 4]>::try_from(content).ok().map(|ip| std::net::Ipv4Addr::from(ip).to_string())),
            (0x87, 16) => names.extend(
                <[u8; 16]>::try_from(content).ok().map(|ip| std::net::Ipv6Addr::from(ip).to_string()),
            ),
            _ => {}
        }
    }
    names
}

/// Seconds since 1970 of `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, content: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        // RFC 5280, section 4.1.2.5.1: 50 and more is the last century.
        0x17 => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        0x18 => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    // Days from civil, for the Gregorian calendar.
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, month_index) = (shifted.div_euclid(400), (month + 9) % 12);
    let year_of_era = shifted - era * 400;
    let day_of_year = (153 * month_index + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// What a certificate says about a host. `now`: seconds since 1970. `host`: absent where no name is expected.
pub fn check(certificate: &Certificate, host: Option<&str>, now: i64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let days = |seconds: i64| seconds.div_euclid(86_400);
    let dates = || {
        facts([
            ("notBefore", certificate.not_before.into()),
            ("notAfter", certificate.not_after.into()),
            ("now", now.into()),
        ])
    };
    if now > certificate.not_after {
        let text = format!("it ended {} days ago", days(now - certificate.not_after));
        findings.push(Finding::problem(Diagnosis::TLS_EXPIRED).seen(text, dates()));
    } else if certificate.not_after - now < WARN_DAYS * 86_400 {
        let text = format!("it ends in {} days", days(certificate.not_after - now));
        findings.push(Finding::warning(Diagnosis::TLS_EXPIRED).seen(text, dates()));
    }
    if now < certificate.not_before {
        let text =
            format!("it begins in {} days by this machine's clock", days(certificate.not_before - now) + 1);
        findings.push(Finding::problem(Diagnosis::TLS_NOT_YET_VALID).seen(text, dates()));
    }
    if let Some(host) = host
        && !certificate.names.iter().any(|name| covers(name, host))
    {
        let text = format!("it is for {}, not for {host}", certificate.names.join(", "));
        let named = facts([("certificateNames", json!(certificate.names)), ("host", host.into())]);
        findings.push(Finding::problem(Diagnosis::TLS_HOSTNAME_MISMATCH).seen(text, named));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_one_label() {
        for (pattern, host, expected) in [
            ("ws.example.com", "WS.example.com", true),
            ("*.example.com", "ws.example.com", true),
            ("*.example.com", "a.ws.example.com", false),
            ("*.example.com", "example.com", false),
            ("127.0.0.1", "127.0.0.1", true),
        ] {
            assert_eq!(covers(pattern, host), expected, "{pattern} {host}");
        }
    }

    #[test]
    fn times_are_read() {
        assert_eq!(time(0x17, b"700101000000Z"), Some(0));
        assert_eq!(time(0x18, b"20300228235959Z"), Some(1_898_553_599));
        assert_eq!(time(0x17, b"240229120000Z"), Some(1_709_208_000));
        assert_eq!(time(0x17, b"24"), None);
        assert_eq!(element(&[0x30, 0x85, 1, 1, 1, 1, 1]), None);
    }
}
