//! What a backend's refusal says about its cause.
//!
//! The answer is looked at while it passes, against the table of [`tidegate_core::signature`]; only ids, names and
//! numbers are kept of it, and of a short refusal of `$connect` the sentence.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderMap;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, LOCATION, SERVER};
use tidegate_core::context::EventKind;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::mapping::query_values;
use tidegate_core::signature::{Answered, On, Signature, Signatures, drops_forwarded, sentence};
use tidegate_core::snapshot::IntegrationKind;

use super::http::Outgoing;
use super::http::dial::Origin;
use super::{Answer, Call, Failure, Judged};
use crate::gateway::Gateway;

/// Messages of this many bytes are near the limit at which backends see an empty one.
const NEAR_BODY_LIMIT: usize = 120 * 1024;

/// Longest header value that becomes a fact.
const MAX_FACT: usize = 256;

/// Finds the cause of an answer that is no success, and what else it shows.
pub(super) fn judge(gateway: &Gateway, call: &Call<'_>, request: &Outgoing, answer: &mut Answer) {
    // A page instead of data is the one success that is worth a look.
    let is_page = answer.body.trim_ascii_start().starts_with(b"<");
    if answer.status < 300 && !is_page {
        return;
    }
    let on = match call.event.kind {
        EventKind::Connect => On::Connect,
        EventKind::Disconnect { .. } => On::Disconnect,
        EventKind::Message { .. } => On::Message,
    };
    let location = value(&answer.headers, LOCATION);
    let answered = Answered {
        status: answer.status,
        content_type: value(&answer.headers, CONTENT_TYPE),
        body: &answer.body,
        adds_slash: location.is_some_and(|location| adds_slash(location, request.uri.path())),
        on,
    };
    let known = Signatures::known();
    let signature = known.find(&answered);
    let beside = known.find_beside(&answered);
    if answer.status < 300 && signature.is_none() {
        return;
    }
    let sent = Sent { call, request };
    let (mut cause, mut candidates) = match signature {
        Some(signature) => sent.cause(signature, on),
        None => sent.cause_of_status(answer.status),
    };
    // S0-104: of the servers that are known to do it, it is the first to think of.
    let drops = Diagnosis::BACKEND_SERVER_DROPS_FORWARDED;
    if candidates.contains(&drops) && value(&answer.headers, SERVER).and_then(drops_forwarded).is_some() {
        cause = drops;
        candidates.retain(|id| *id != drops);
        candidates.insert(0, drops);
    }
    let facts = gateway.facts(|| {
        let mut facts = Facts::none();
        facts.add_some("contentType", answered.content_type.map(short));
        facts.add_some(
            "location",
            location.map(|location| short(location.split('?').next().unwrap_or_default())),
        );
        facts.add_some("server", value(&answer.headers, SERVER).map(short));
        facts.add_some("allow", value(&answer.headers, ALLOW).map(short));
        facts.add_some("signature", signature.or(beside).map(Signature::id));
        facts.add_some("product", signature.and_then(Signature::product));
        if candidates.len() > 1 {
            let candidates: Vec<&str> = candidates.iter().map(|id| id.as_str()).collect();
            facts.add("candidates", candidates);
        }
        if let Some(signature) = signature {
            sent.tell(signature, cause, &mut facts);
        }
        if on == On::Connect {
            facts.add_some("sentence", sentence(&answer.body));
        }
        facts
    });
    let judged = Judged {
        facts,
        leak: beside.and_then(|signature| signature.ids(on).first().copied()),
        is_remarkable: answer.status < 300,
    };
    answer.diagnosis = Some(cause);
    answer.judged = Some(Box::new(judged));
}

/// A backend has accepted a connection: it knows the API, and its address is right.
pub(super) fn note_accepted(call: &Call<'_>) {
    let deployment = call.stage.deployment.as_ref();
    if let Some(route) = deployment.and_then(|deployment| deployment.routes.get(&*call.event.route_key)) {
        route.seen.has_worked.store(true, Ordering::Relaxed);
    }
}

/// The cause that follows from where the backend was looked for.
pub(super) fn explain_no_connection(mut failure: Failure, origin: Origin<'_>) -> Failure {
    let is_tunnel = Signatures::known().is_tunnel(origin.host);
    let nearness = Nearness::of(origin.host);
    let is_timeout = failure.diagnosis == Diagnosis::INTEGRATION_CONNECT_TIMEOUT;
    let not_tls = failure.facts.get("errorClass").is_some_and(|class| class == "tls-not-spoken");
    let (diagnosis, others): (_, &[Diagnosis]) = match (failure.diagnosis, nearness) {
        (Diagnosis::INTEGRATION_DNS, _) if is_tunnel => (Diagnosis::LOCAL_TUNNEL_CHANGED, &[]),
        (Diagnosis::INTEGRATION_TLS, Nearness::Loopback | Nearness::Private) if not_tls => {
            (Diagnosis::LOCAL_NOT_HTTPS, &[])
        }
        (_, Nearness::Private) if is_timeout => {
            (Diagnosis::INTEGRATION_PRIVATE_ADDRESS, &[Diagnosis::LOCAL_NOT_PUBLIC])
        }
        // A backend that is not running, or one that runs on the developer's machine and not on this one.
        (Diagnosis::INTEGRATION_REFUSED, Nearness::Loopback) => (
            Diagnosis::INTEGRATION_REFUSED,
            &[Diagnosis::INTEGRATION_PRIVATE_ADDRESS, Diagnosis::LOCAL_NOT_PUBLIC],
        ),
        (known, _) => (known, &[]),
    };
    failure.diagnosis = diagnosis;
    failure.facts.add("host", origin.host);
    if !others.is_empty() {
        let candidates: Vec<&str> =
            std::iter::once(diagnosis).chain(others.iter().copied()).map(Diagnosis::as_str).collect();
        failure.facts.add("candidates", candidates);
    }
    failure
}

/// How far away an address may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nearness {
    Loopback,
    Private,
    Elsewhere,
}

impl Nearness {
    fn of(host: &str) -> Self {
        let is_local_name = host.eq_ignore_ascii_case("localhost");
        match host.parse::<IpAddr>() {
            Ok(address) if address.is_loopback() => Self::Loopback,
            Ok(IpAddr::V4(address)) if address.is_private() || address.is_link_local() => Self::Private,
            Ok(IpAddr::V6(address)) if address.is_unique_local() || address.is_unicast_link_local() => {
                Self::Private
            }
            Err(_) if is_local_name => Self::Loopback,
            _ => Self::Elsewhere,
        }
    }
}

/// What was asked.
struct Sent<'a> {
    call: &'a Call<'a>,
    request: &'a Outgoing,
}

impl Sent<'_> {
    /// The most fitting cause, and all that fit.
    fn cause(&self, signature: &Signature, on: On) -> (Diagnosis, Vec<Diagnosis>) {
        let mut candidates = signature.ids(on).to_vec();
        let lacks_parameter =
            signature.parameter().is_some_and(|name| query_values(self.call.query, name).next().is_none());
        if let Some(missing) = signature.missing()
            && (lacks_parameter || !self.missing_headers(signature).is_empty())
        {
            return (missing, vec![missing]);
        }
        // A backend that has accepted a call knows the API.
        if candidates.len() > 1 && self.has_accepted() {
            candidates.retain(|id| *id != Diagnosis::BACKEND_API_ID_UNKNOWN);
        }
        let is_large = self.call.body.len() >= NEAR_BODY_LIMIT;
        let first = match candidates.first().copied() {
            Some(Diagnosis::HANDLER_KEY_MISSING) if on == On::Message && is_large => {
                Diagnosis::MESSAGE_BACKEND_BODY_LIMIT
            }
            Some(Diagnosis::BACKEND_HOST_NOT_ALLOWED) if self.is_tunnel() => {
                Diagnosis::LOCAL_TUNNEL_HOST_NOT_ALLOWED
            }
            Some(Diagnosis::INTEGRATION_WRONG_URL) => self.wrong_url(),
            Some(first) => first,
            None => Diagnosis::BACKEND_REFUSED,
        };
        candidates.retain(|id| *id != first);
        candidates.insert(0, first);
        (first, candidates)
    }

    /// The cause of an answer that nobody knows.
    fn cause_of_status(&self, status: u16) -> (Diagnosis, Vec<Diagnosis>) {
        let cause = match status {
            300..400 => Diagnosis::BACKEND_REDIRECT,
            404 => self.wrong_url(),
            405 if self.is_only_this_route() => Diagnosis::ROUTE_INTEGRATION_WRONG,
            405 => Diagnosis::BACKEND_METHOD,
            500 if self.lacks_default_handler() => Diagnosis::INTEGRATION_HANDLER_UNDEFINED,
            500.. => Diagnosis::INTEGRATION_ERROR_STATUS,
            _ => Diagnosis::BACKEND_REFUSED,
        };
        let others: &[Diagnosis] = match (cause, status) {
            (Diagnosis::ROUTE_INTEGRATION_WRONG, 405) => &[Diagnosis::BACKEND_METHOD],
            (Diagnosis::ROUTE_INTEGRATION_WRONG, _) => &[Diagnosis::INTEGRATION_WRONG_URL],
            (Diagnosis::INTEGRATION_HANDLER_UNDEFINED, _) => &[Diagnosis::INTEGRATION_ERROR_STATUS],
            (Diagnosis::INTEGRATION_WRONG_URL, _) => &[Diagnosis::BACKEND_ROUTE_PARAM_MISSING],
            _ => &[],
        };
        (cause, std::iter::once(cause).chain(others.iter().copied()).collect())
    }

    /// Which of the reasons for a 404.
    fn wrong_url(&self) -> Diagnosis {
        let key = self.call.event.route_key.trim_start_matches('$');
        let last = self.request.uri.path().rsplit('/').next().unwrap_or_default();
        // `.../wsconnect`: a base without a slash, glued to the name of the route.
        let is_glued = last.len() > key.len() && last.ends_with(key);
        match (is_glued, self.is_only_this_route()) {
            (true, _) => Diagnosis::INTEGRATION_MISSING_SLASH,
            (false, true) => Diagnosis::ROUTE_INTEGRATION_WRONG,
            (false, false) => Diagnosis::INTEGRATION_WRONG_URL,
        }
    }

    /// Other integrations of the deployment work, and this route has never.
    fn is_only_this_route(&self) -> bool {
        let Some(deployment) = &self.call.stage.deployment else { return false };
        let Some(route) = deployment.routes.get(&*self.call.event.route_key) else { return false };
        matches!(self.call.event.kind, EventKind::Message { .. })
            && !route.seen.has_worked.load(Ordering::Relaxed)
            && deployment.routes.values().any(|other| {
                !Arc::ptr_eq(&other.integration, &route.integration)
                    && matches!(other.integration.kind, IntegrationKind::Http(_))
                    && other.seen.has_worked.load(Ordering::Relaxed)
            })
    }

    fn has_accepted(&self) -> bool {
        let deployment = self.call.stage.deployment.as_ref();
        deployment.is_some_and(|deployment| {
            deployment.routes.values().any(|route| route.seen.has_worked.load(Ordering::Relaxed))
        })
    }

    /// 500 on `$default` only.
    fn lacks_default_handler(&self) -> bool {
        let Some(deployment) = &self.call.stage.deployment else { return false };
        let Some(route) = deployment.routes.get("$default") else { return false };
        &*self.call.event.route_key == "$default"
            && !route.seen.has_worked.load(Ordering::Relaxed)
            && deployment.routes.values().any(|other| {
                // A backend that accepts connections may still fail on every message.
                !other.key.starts_with('$') && other.seen.has_worked.load(Ordering::Relaxed)
            })
    }

    fn is_tunnel(&self) -> bool {
        Signatures::known().is_tunnel(Origin::of(&self.request.uri).host)
    }

    /// Header lines that left, without their values.
    fn header_names(&self) -> impl Iterator<Item = &str> {
        let head_len = self.request.bytes.len() - self.call.body.len();
        let head = std::str::from_utf8(&self.request.bytes[..head_len]).unwrap_or_default();
        head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name)
    }

    fn missing_headers<'s>(&self, signature: &'s Signature) -> Vec<&'s str> {
        let is_missing = |wanted: &&str| !self.header_names().any(|name| name.eq_ignore_ascii_case(wanted));
        signature.headers().filter(is_missing).collect()
    }

    /// What proves the cause that a signature names.
    fn tell(&self, signature: &Signature, cause: Diagnosis, facts: &mut Facts) {
        if signature.headers().next().is_some() {
            let names: Vec<String> = self.header_names().map(str::to_ascii_lowercase).collect();
            facts.add("headerNames", names);
            facts.add("requiredHeaders", signature.headers().collect::<Vec<_>>());
            facts.add("missingHeaders", self.missing_headers(signature));
        }
        if let Some(parameter) = signature.parameter() {
            facts.add("parameter", parameter);
        }
        match cause {
            // What has to be on the backend's list is this text, port included.
            Diagnosis::BACKEND_HOST_NOT_ALLOWED
            | Diagnosis::LOCAL_TUNNEL_HOST_NOT_ALLOWED
            | Diagnosis::BACKEND_ORIGIN_MISMATCH => {
                let settings = &self.call.stage.settings.integration;
                let authority = self.request.uri.authority().map_or("", |authority| authority.as_str());
                facts.add("host", settings.host_header.as_deref().unwrap_or(authority));
                let origin =
                    self.call.headers.and_then(|headers| headers.get(http::header::ORIGIN)?.to_str().ok());
                facts.add_some("origin", origin.map(short));
            }
            Diagnosis::BACKEND_SESSION_UNKNOWN => {
                facts.add("openSince", self.call.event.connection.connected_at);
            }
            Diagnosis::MESSAGE_BACKEND_BODY_LIMIT => facts.add("size", self.call.body.len()),
            // The view reads another key than this one, or the message has neither.
            Diagnosis::HANDLER_KEY_MISSING => {
                let deployment = self.call.stage.deployment.as_ref();
                facts
                    .add_some("selection", deployment.map(|known| known.route_selection.as_str().to_owned()));
            }
            _ => {}
        }
    }
}

fn value(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn short(text: &str) -> String {
    text.chars().take(MAX_FACT).collect()
}

/// Whether a `Location` is the path that was asked for with a slash behind it.
fn adds_slash(location: &str, path: &str) -> bool {
    let location = location.split(['?', '#']).next().unwrap_or_default();
    let target = match location.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => location,
    };
    target.strip_suffix('/') == Some(path)
}

#[cfg(test)]
mod tests {
    use tidegate_core::error::ErrorCode;

    use super::*;

    #[test]
    fn a_location_that_only_adds_a_slash() {
        // integration.missing-slash
        assert!(adds_slash("/ws/", "/ws"));
        assert!(adds_slash("https://b.example:8000/ws/connect/?x=1", "/ws/connect"));
        assert!(!adds_slash("https://b.example/login/", "/ws"));
        assert!(!adds_slash("/ws", "/ws"));
    }

    #[test]
    fn where_a_backend_was_looked_for_is_part_of_the_cause() {
        // integration.private-address, local.tunnel-changed, local.not-https
        let check = |uri: &str, before: Diagnosis, class: &'static str, after: Diagnosis| {
            let uri: http::Uri = uri.parse().unwrap();
            let failure = Failure::new(ErrorCode::IntegrationFailure, before, "").with("errorClass", class);
            let explained = explain_no_connection(failure, Origin::of(&uri));
            assert_eq!(explained.diagnosis, after, "{uri}");
            explained.facts
        };
        let timeout = Diagnosis::INTEGRATION_CONNECT_TIMEOUT;
        check("http://10.1.2.3/", timeout, "timeout", Diagnosis::INTEGRATION_PRIVATE_ADDRESS);
        check("http://[fd00::1]/", timeout, "unreachable", Diagnosis::INTEGRATION_PRIVATE_ADDRESS);
        check("http://192.0.2.1/", timeout, "timeout", timeout);
        let dns = Diagnosis::INTEGRATION_DNS;
        check("https://abc.ngrok-free.app/", dns, "dns", Diagnosis::LOCAL_TUNNEL_CHANGED);
        check("https://b.example/", dns, "dns", dns);
        let tls = Diagnosis::INTEGRATION_TLS;
        check("https://localhost:8000/", tls, "tls-not-spoken", Diagnosis::LOCAL_NOT_HTTPS);
        check("https://localhost:8000/", tls, "certificate", tls);
        let facts = check(
            "http://127.0.0.1:1/",
            Diagnosis::INTEGRATION_REFUSED,
            "refused",
            Diagnosis::INTEGRATION_REFUSED,
        );
        let candidates = facts.get("candidates").unwrap();
        let candidates = candidates.as_array().unwrap();
        assert!(candidates.iter().any(|id| id == "integration.private-address"));
    }
}
