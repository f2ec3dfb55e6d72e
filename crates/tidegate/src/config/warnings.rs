//! What works and is probably not meant.

use super::{Apps, Config, Problem};

/// What works and is probably not meant.
pub(crate) fn warnings(config: &Config) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut warn = |path: &str, id, message: &str| {
        warnings.push(Problem { path: path.to_owned(), message: message.to_owned(), id });
    };
    if config.credentials.is_empty() {
        let message = "no credential: `serve` does not start, and nobody could sign a call";
        warn("access_key_id", "config.no-credentials", message);
    }
    if !config.admin.ip().is_loopback() {
        let message = "the admin listener can be reached from other machines, without TLS of its own";
        warn("admin", "config.admin-open", message);
    }
    if !config.listen.ip().is_loopback() && config.tls.is_none() && config.trusted_proxies.is_empty() {
        let message =
            "the public listener has neither TLS nor a proxy that ends it: clients speak in the clear";
        warn("listen", "config.no-tls", message);
    }
    warnings
}

/// What applications make possible that is probably not meant. Not for the log of each start: it is what the services whose
/// clients they serve do, too.
pub(crate) fn app_warnings(config: &Config) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut warn = |path: &str, id, message: &str| {
        warnings.push(Problem { path: path.to_owned(), message: message.to_owned(), id });
    };
    let Apps { jwt, chat, alerts, has_demo_users: _ } = &config.apps;
    if chat.is_none() && alerts.is_none() {
        return warnings;
    }
    if jwt.as_ref().is_some_and(|jwt| !jwt.require_exp) {
        let message = "off: a token without `exp` is good for ever, and its connection has no end";
        warn("jwt.require_exp", "jwt.no-expiry", message);
    }
    if !config.trusted_proxies.is_empty() {
        let message = "a proxy stands in front, clients may have their token in the query, and proxies log queries unless they are told not to: log paths without arguments, give tokens a short `exp`, and let clients that are no browsers use the header or the subprotocol";
        warn("trusted_proxies", "log.token-in-query", message);
    }
    warnings
}
