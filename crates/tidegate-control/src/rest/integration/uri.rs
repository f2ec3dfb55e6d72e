//! Where an integration may lead: the form of its URI, and the operator's list of permitted hosts.
//!
//! Nothing is resolved: internal names, IP literals and ports are all accepted. With a list of permitted hosts, the
//! host must be written out, because a stage variable in it could lead anywhere.

use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;

use crate::error::ApiError;

/// Checks `uri` for the integration type `kind`.
pub(in crate::rest) fn check(kind: &str, uri: &str, permitted: &[String]) -> Result<(), ApiError> {
    let because = |why: &str| {
        let slash = uri.ends_with('/');
        let facts = Facts::none().with("detail", why).with("endsWithSlash", slash).with("length", uri.len());
        (Diagnosis::PROVISION_INVALID_TARGET, facts)
    };
    let invalid = |why: &str| {
        let (diagnosis, facts) = because(why);
        ApiError::bad_request(format!("Invalid integration URI specified: {why}")).because(diagnosis, facts)
    };
    // Parsers disagree about these, and a disagreement about the host would defeat the list.
    if uri.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(invalid("control characters, spaces and backslashes are not permitted"));
    }
    if kind.starts_with("AWS") {
        if uri.starts_with("arn:") || uri.starts_with("${stageVariables.") {
            return Ok(());
        }
        let (diagnosis, facts) = because("an ARN is expected");
        return Err(ApiError::bad_request("Invalid ARN specified in the request").because(diagnosis, facts));
    }
    if let Some(name) = uri.strip_prefix("tidegate://") {
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        return if is_name { Ok(()) } else { Err(invalid("tidegate:// is followed by a built-in's name")) };
    }
    if uri.starts_with("${stageVariables.") && permitted.is_empty() {
        return Ok(());
    }
    let host = host(uri).ok_or_else(|| invalid("an absolute http:// or https:// address is expected"))?;
    if permitted.is_empty() || permitted.iter().any(|pattern| is_permitted(pattern, host)) {
        return Ok(());
    }
    let facts = Facts::none().with("detail", "the host is not on the list of permitted ones");
    Err(invalid(&format!("the host {host} is not permitted here"))
        .with_diagnosis("integration.host-not-allowed")
        .because(Diagnosis::INTEGRATION_HOST_NOT_ALLOWED, facts))
}

/// The host of an absolute HTTP address, without port and brackets.
fn host(uri: &str) -> Option<&str> {
    let scheme = uri.get(..8).filter(|s| s.eq_ignore_ascii_case("https://"));
    let scheme = scheme.or_else(|| uri.get(..7).filter(|s| s.eq_ignore_ascii_case("http://")))?;
    let rest = &uri[scheme.len()..];
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match authority.strip_prefix('[') {
        Some(literal) => literal.split_once(']')?.0,
        // A stage variable may stand for the port, too.
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    Some(host).filter(|h| !h.is_empty())
}

fn is_permitted(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(domain) => {
            let Some(at) = host.len().checked_sub(domain.len()) else { return false };
            let is_suffix = host.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(domain));
            is_suffix && at >= 2 && host.as_bytes()[at - 1] == b'.'
        }
        None => host.eq_ignore_ascii_case(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_targets_without_resolving_them() {
        for (kind, uri) in [
            ("HTTP_PROXY", "http://127.0.0.1:8000/ws/connect"),
            ("HTTP_PROXY", "http://[::1]:8000/"),
            ("HTTP", "https://backend.internal/a?b=c#d"),
            ("HTTP", "HTTPS://Backend/"),
            ("HTTP_PROXY", "https://${stageVariables.host}/x"),
            ("HTTP_PROXY", "${stageVariables.url}"),
            ("HTTP_PROXY", "tidegate://chat"),
            ("AWS_PROXY", "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/f/invocations"),
        ] {
            assert!(check(kind, uri, &[]).is_ok(), "{kind} {uri}");
        }
        for (kind, uri) in [
            ("HTTP_PROXY", "ftp://a/"),
            ("HTTP_PROXY", "a"),
            ("HTTP_PROXY", "http://"),
            ("HTTP_PROXY", "http://a b/"),
            ("HTTP_PROXY", "http://a\\@b/"),
            ("HTTP_PROXY", "tidegate://"),
            ("AWS_PROXY", "https://a/"),
        ] {
            assert!(check(kind, uri, &[]).is_err(), "{kind} {uri}");
        }
    }

    /// S0-98.
    #[test]
    fn a_list_of_hosts_is_exact_or_sub_domains() {
        let permitted = ["api.example.com".to_owned(), "*.internal".to_owned()];
        for (uri, is_fine) in [
            ("https://api.example.com/x", true),
            ("https://API.example.com:8443/x", true),
            ("https://user:pw@api.example.com/x", true),
            ("https://api.example.com@evil.com/x", false),
            ("https://evil.com/api.example.com", false),
            ("https://x.api.example.com/", false),
            ("http://a.internal/", true),
            ("http://a.b.internal/", true),
            ("http://internal/", false),
            ("http://.internal/", false),
            ("http://xinternal/", false),
            ("http://${stageVariables.host}/", false),
            ("${stageVariables.url}", false),
            ("tidegate://chat", true),
        ] {
            assert_eq!(check("HTTP_PROXY", uri, &permitted).is_ok(), is_fine, "{uri}");
        }
    }
}
