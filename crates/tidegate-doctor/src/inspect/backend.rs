//! What to ask a backend, and what its answers mean.
//!
//! A caller sends each attempt as the gateway would send an event, marked as a probe, without anybody's cookie or token, so
//! that a correct backend refuses it before it writes anything. At most eight attempts for one address.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::signature::{self, On, Signature, Signatures, drops_forwarded};

use super::target::{Reach, Target};
use super::{facts, shown_url};
use crate::report::{Confidence, Finding, Probe, Severity};

pub use tidegate_core::signature::LOOKED_AT;

/// A word that is nobody's route.
pub const UNKNOWN_WORD: &str = "tidegate-probe";

/// Why an attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The address as it is defined.
    AsDefined,
    /// A slash in front of a glued word.
    Unglued,
    /// A slash at the end, or none.
    OtherSlash,
    /// The part before the last word.
    Base,
    /// The same place with `connect`.
    Connect,
    /// The same place with [`UNKNOWN_WORD`].
    UnknownWord,
    /// Without the repeated part of the path.
    Undoubled,
    /// With everything that browsers send, from an origin that nobody accepts: shows the check of the host.
    HostCheck,
    /// With a cookie that means nothing: does it arrive?
    Cookie,
}

/// One request to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Why.
    pub purpose: Purpose,
    /// Where.
    pub url: String,
    /// As the gateway asks about a handshake; otherwise as it sends a message.
    pub is_connect: bool,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There was an answer.
    Answered(Box<Answered>),
    /// There was none.
    Failed {
        /// Why.
        diagnosis: Diagnosis,
        /// For the operator; no address, no payload.
        detail: String,
        /// Something that is not TLS answered where TLS was expected.
        speaks_no_tls: bool,
        /// How long it took, in milliseconds.
        millis: u64,
    },
}

/// An answer of a backend. The body stays in memory and is in no report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// `Location`.
    pub location: Option<String>,
    /// `Allow`.
    pub allow: Option<String>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Server`.
    pub server: Option<String>,
    /// Its first [`LOOKED_AT`] bytes.
    pub body: Vec<u8>,
    /// Names of the headers that were sent, in lower case.
    pub sent: Vec<String>,
    /// The value of `Host` that was sent.
    pub host: String,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// A backend as routes name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its address, without variables.
    pub target: Target,
    /// Routes that call it.
    pub route_keys: Vec<String>,
}

/// What the answers say about a backend made with the Django package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageFacts {
    /// Something answered HTTP there.
    pub answers: Option<bool>,
    /// The word at the end is reached: base and slash are right.
    pub is_base_right: Option<bool>,
    /// Unknown words reach the view.
    pub has_slug: Option<bool>,
    /// The view knows the word as `route`.
    pub is_slug_named: Option<bool>,
    /// The view knows the API's id.
    pub knows_api: Option<bool>,
}

impl Backend {
    /// The first attempt.
    pub fn first(&self) -> Attempt {
        Attempt { purpose: Purpose::AsDefined, url: self.target.shown(), is_connect: self.is_connect() }
    }

    fn is_connect(&self) -> bool {
        self.route_keys.iter().any(|key| key == "$connect")
    }

    /// What else is worth asking after the first answer.
    pub fn further(&self, first: &Outcome) -> Vec<Attempt> {
        let Outcome::Answered(answer) = first else { return Vec::new() };
        let target = &self.target;
        let (base, last) = target.split();
        let attempt =
            |purpose, path: String, is_connect| Attempt { purpose, url: target.with_path(&path), is_connect };
        let connect = || attempt(Purpose::Connect, format!("{base}connect"), true);
        let unknown = || attempt(Purpose::UnknownWord, format!("{base}{UNKNOWN_WORD}"), false);
        let mut attempts = Vec::new();
        if matches!(answer.status, 404 | 301 | 302 | 307 | 308 | 500) {
            if let Some((before, word)) = target.glued() {
                attempts.push(attempt(Purpose::Unglued, format!("{before}/{word}"), self.is_connect()));
            }
            if let Some(path) = target.without_doubled() {
                attempts.push(attempt(Purpose::Undoubled, path, self.is_connect()));
            }
            let other = match target.path().strip_suffix('/') {
                Some(without) => without.to_owned(),
                None => format!("{}/", target.path()),
            };
            attempts.push(attempt(Purpose::OtherSlash, other, self.is_connect()));
        }
        if answer.status == 404 {
            attempts.push(attempt(Purpose::Base, base.to_owned(), self.is_connect()));
            if last != "connect" {
                attempts.push(connect());
            }
            attempts.push(unknown());
        } else if self.is_connect()
            && last == "connect"
            && signature(answer).is_some_and(|id| id.starts_with("dj-"))
        {
            attempts.push(unknown());
            if signature(answer) == Some("dj-conn-headers") {
                attempts.push(attempt(Purpose::HostCheck, target.path().to_owned(), true));
            }
        }
        attempts
    }

    /// What the answers mean. `further`: the attempts that were made beyond the first, with their outcomes.
    pub fn judge(
        &self,
        first: &Outcome,
        further: &[(Attempt, Outcome)],
    ) -> (Probe, Vec<Finding>, PackageFacts) {
        let mut package = PackageFacts::default();
        let mut findings = match first {
            Outcome::Failed { diagnosis, detail, speaks_no_tls, millis } => {
                package.answers = Some(false);
                self.unreachable(*diagnosis, detail, *speaks_no_tls, *millis)
            }
            Outcome::Answered(answer) => {
                package.answers = Some(true);
                let mut findings = self.answered(answer, further, &mut package);
                if let Some((_, Outcome::Answered(checked))) =
                    further.iter().find(|(attempt, _)| attempt.purpose == Purpose::HostCheck)
                    && signature(checked) == Some("dj-host")
                {
                    findings.push(self.host_not_allowed(checked));
                }
                findings
            }
        };
        for finding in &mut findings {
            finding.route_key = self.route_keys.first().cloned();
        }
        let mut measurements =
            facts([("target", self.target.shown().into()), ("routeKeys", json!(self.route_keys))]);
        if let Outcome::Answered(answer) = first {
            measurements.extend(observed(answer));
        }
        let result = super::definitions::worst(&findings);
        (Probe { name: "backend".to_owned(), result, measurements }, findings, package)
    }

    fn unreachable(
        &self,
        diagnosis: Diagnosis,
        detail: &str,
        speaks_no_tls: bool,
        millis: u64,
    ) -> Vec<Finding> {
        let target = &self.target;
        let fact = || facts([("target", target.shown().into()), ("connectMs", millis.into())]);
        let mut findings =
            vec![Finding::problem(diagnosis).seen(format!("{}: {detail}", target.shown()), fact())];
        let mut add = |diagnosis, confidence, text: String| {
            findings.push(Finding::new(diagnosis, Severity::Problem, confidence).seen(text, fact()));
        };
        if target.is_tunnel() && diagnosis == Diagnosis::INTEGRATION_DNS {
            add(
                Diagnosis::LOCAL_TUNNEL_CHANGED,
                Confidence::Likely,
                format!("{} is a name of a tunnel service and does not resolve", target.host()),
            );
        }
        if speaks_no_tls {
            let text = format!("{} is https, and what listens there answers without TLS", target.shown());
            add(Diagnosis::LOCAL_NOT_HTTPS, Confidence::Proven, text);
        }
        let is_unreached =
            matches!(diagnosis, Diagnosis::INTEGRATION_REFUSED | Diagnosis::INTEGRATION_CONNECT_TIMEOUT);
        match target.reach() {
            Reach::Loopback if is_unreached => {
                let text = format!(
                    "{} is the gateway's own machine: a backend on another one is not reached that way",
                    target.host()
                );
                add(Diagnosis::LOCAL_NOT_PUBLIC, Confidence::Possible, text);
            }
            Reach::Private if is_unreached => {
                let text =
                    format!("{} is in a private network that this machine may not reach", target.host());
                add(Diagnosis::INTEGRATION_PRIVATE_ADDRESS, Confidence::Proven, text);
            }
            _ => {}
        }
        findings
    }

    fn answered(
        &self,
        answer: &Answered,
        further: &[(Attempt, Outcome)],
        package: &mut PackageFacts,
    ) -> Vec<Finding> {
        let target = &self.target;
        let is_connect = self.is_connect();
        let status_of = |purpose: Purpose| {
            further.iter().find(|(attempt, _)| attempt.purpose == purpose).and_then(|(attempt, outcome)| {
                match outcome {
                    Outcome::Answered(answer) => Some((attempt.url.as_str(), answer.status)),
                    Outcome::Failed { .. } => None,
                }
            })
        };
        let reaches = |purpose: Purpose| {
            status_of(purpose).filter(|(_, status)| !matches!(status, 404 | 300..400 | 500..))
        };
        let unknown_reaches = reaches(Purpose::UnknownWord).is_some();
        let problem = |diagnosis: Diagnosis, confidence, text: String| {
            Finding::new(diagnosis, Severity::Problem, confidence).seen(text, observed(answer))
        };
        let proven = |diagnosis, text: String| problem(diagnosis, Confidence::Proven, text);
        let shown = target.shown();
        let signature = signature(answer);
        package.is_base_right = Some(!matches!(answer.status, 404 | 300..400 | 405 | 500..));
        match (signature, answer.status) {
            (Some("dj-secret"), _) => {
                return vec![proven(
                    Diagnosis::BACKEND_SECRET_MISMATCH,
                    format!("{shown} answers {} as to a wrong gateway secret", answer.status),
                )];
            }
            (Some("dj-headers"), _) => return self.headers_refused(answer, package),
            (Some("dj-agent"), _) => {
                package.knows_api = Some(true);
                return vec![proven(
                    Diagnosis::BACKEND_USERAGENT_CHECK,
                    format!("{shown} insists on another User-Agent"),
                )];
            }
            (Some("dj-conn-id"), _) if is_connect => {
                return vec![proven(
                    Diagnosis::BACKEND_CONNECTION_ID_FORMAT,
                    format!("{shown} refuses the form of connection ids"),
                )];
            }
            (Some("dj-format"), _) if is_connect => {
                package.knows_api = Some(true);
                package.is_slug_named = Some(false);
                package.has_slug = status_of(Purpose::UnknownWord).map(|_| unknown_reaches);
                let text = format!(
                    "{shown} answers as to a message: the view does not know the word `connect` as its parameter `route`"
                );
                return vec![proven(Diagnosis::BACKEND_ROUTE_PARAM_MISNAMED, text)];
            }
            (Some("dj-host" | "dj-disallowed"), _) => return vec![self.host_not_allowed(answer)],
            (Some("dj-csrf"), _) => {
                return vec![proven(
                    Diagnosis::BACKEND_CSRF,
                    format!("{shown} refuses POST requests without a CSRF token"),
                )];
            }
            (Some("dj-debug" | "py-trace"), _) => {
                let text = format!("{shown} answers with a page for developers (status {})", answer.status);
                let mut findings = vec![problem(Diagnosis::DEBUG_EXPOSED, Confidence::Proven, text)];
                if answer.status == 404 {
                    findings.extend(self.not_found(answer, signature, &status_of, &reaches));
                }
                return findings;
            }
            (Some("tunnel-404"), _) => {
                return vec![proven(
                    Diagnosis::LOCAL_TUNNEL_CHANGED,
                    format!("{shown} answers with the not-found page of the tunnel service"),
                )];
            }
            (Some("tunnel-page"), _) => {
                return vec![proven(
                    Diagnosis::LOCAL_TUNNEL_INTERSTITIAL,
                    format!("{shown} answers with the warning page of the tunnel service"),
                )];
            }
            // Refusals of a view that was reached and asked for what a probe does not have.
            (Some(id), 400..500) if !id.ends_with("-404") => {
                package.knows_api = Some(true);
                if is_connect {
                    package.is_slug_named = Some(true);
                    package.has_slug = status_of(Purpose::UnknownWord).map(|_| unknown_reaches);
                }
                return Vec::new();
            }
            _ => {}
        }
        match answer.status {
            404 => {
                package.has_slug = status_of(Purpose::UnknownWord).map(|_| unknown_reaches);
                self.not_found(answer, signature, &status_of, &reaches)
            }
            300..400 => {
                let location = answer.location.as_deref().unwrap_or_default();
                let is_slash = Target::parse(location).map_or(location.to_owned(), |to| to.path().to_owned())
                    == format!("{}/", target.path());
                let text = format!("{shown} answers {} to {}", answer.status, shown_url(location));
                let mut finding = proven(Diagnosis::BACKEND_REDIRECT, text);
                if is_slash {
                    finding =
                        finding.fix_first(format!("Let the address end as the backend has it: {shown}/"));
                }
                vec![finding]
            }
            405 => {
                let allow = answer.allow.as_deref().unwrap_or("nothing");
                vec![proven(Diagnosis::BACKEND_METHOD, format!("{shown} answers 405; it allows {allow}"))]
            }
            500.. => {
                let server =
                    answer.server.as_deref().map(|server| format!(" (server {server})")).unwrap_or_default();
                vec![proven(
                    Diagnosis::INTEGRATION_ERROR_STATUS,
                    format!("{shown} answers {}{server}", answer.status),
                )]
            }
            // A yes, or a refusal of whoever is not logged in: both are what a backend should say.
            _ => Vec::new(),
        }
    }

    fn not_found<'a>(
        &self,
        answer: &Answered,
        signature: Option<&str>,
        status_of: &dyn Fn(Purpose) -> Option<(&'a str, u16)>,
        reaches: &dyn Fn(Purpose) -> Option<(&'a str, u16)>,
    ) -> Vec<Finding> {
        let shown = self.target.shown();
        let found = |diagnosis, confidence, text: String| {
            vec![Finding::new(diagnosis, Severity::Problem, confidence).seen(text, observed(answer))]
        };
        if let Some((url, status)) = reaches(Purpose::Unglued) {
            let text = format!("{shown} answers 404, {url} answers {status}");
            let fix =
                format!("End the base of the address with a slash, so that {url} is called, then deploy.");
            return found(Diagnosis::INTEGRATION_MISSING_SLASH, Confidence::Proven, text)
                .into_iter()
                .map(|f| f.fix_first(fix.clone()))
                .collect();
        }
        if let Some((url, status)) = [Purpose::Undoubled, Purpose::OtherSlash].into_iter().find_map(reaches) {
            let text = format!("{shown} answers 404, {url} answers {status}");
            let fix = format!("Use {url} as the address, then deploy.");
            return found(Diagnosis::INTEGRATION_WRONG_URL, Confidence::Proven, text)
                .into_iter()
                .map(|f| f.fix_first(fix.clone()))
                .collect();
        }
        let (base, last) = self.target.split();
        let connect =
            if last == "connect" { Some(404) } else { status_of(Purpose::Connect).map(|(_, status)| status) };
        let is_unknown_missing = status_of(Purpose::UnknownWord).is_some_and(|(_, status)| status == 404);
        if let Some((url, status)) = reaches(Purpose::Base)
            && connect == Some(404)
            && is_unknown_missing
        {
            let text = format!("{base}connect and {base}{UNKNOWN_WORD} answer 404, {url} answers {status}");
            return found(Diagnosis::BACKEND_ROUTE_PARAM_MISSING, Confidence::Proven, text);
        }
        if let Some((url, status)) = reaches(Purpose::Connect).or_else(|| reaches(Purpose::UnknownWord)) {
            let text = format!("{shown} answers 404, {url} answers {status}");
            return found(Diagnosis::ROUTE_INTEGRATION_WRONG, Confidence::Proven, text);
        }
        let confidence = if signature.is_some() { Confidence::Proven } else { Confidence::Likely };
        found(
            Diagnosis::INTEGRATION_WRONG_URL,
            confidence,
            format!("{shown} answers 404, and so does everything near it"),
        )
    }

    fn headers_refused(&self, answer: &Answered, package: &mut PackageFacts) -> Vec<Finding> {
        let absent: Vec<&str> =
            demanded().into_iter().filter(|name| !answer.sent.iter().any(|sent| sent == name)).collect();
        let shown = self.target.shown();
        if !absent.is_empty() {
            let text = format!("{shown} misses headers; the gateway does not send it {}", absent.join(", "));
            let mut known = observed(answer);
            known.insert("missing".to_owned(), json!(absent));
            return vec![Finding::problem(Diagnosis::BACKEND_HEADERS_MISSING).seen(text, known)];
        }
        package.is_base_right = Some(true);
        let text = format!("{shown} refuses the headers, and the gateway sends all that the view demands");
        let possible = [
            Diagnosis::BACKEND_API_ID_UNKNOWN,
            Diagnosis::BACKEND_HEADERS_STRIPPED,
            Diagnosis::BACKEND_SERVER_DROPS_FORWARDED,
        ];
        let server = answer.server.as_deref().and_then(drops_forwarded);
        let finding = |diagnosis| {
            let mut finding = Finding::new(diagnosis, Severity::Problem, Confidence::Possible)
                .seen(text.clone(), observed(answer));
            // S0-104
            if let Some(server) = server.filter(|_| diagnosis == Diagnosis::BACKEND_SERVER_DROPS_FORWARDED) {
                let more = format!(
                    "the web server is {server}, which drops X-Forwarded-* of peers that it was not told to trust"
                );
                finding = Finding::new(diagnosis, Severity::Problem, Confidence::Likely)
                    .seen(format!("{text}; {more}"), observed(answer));
            }
            finding.next("tidegate doctor reflect --listen ADDRESS-OF-THE-BACKEND, then this command again")
        };
        possible.into_iter().map(finding).collect()
    }

    fn host_not_allowed(&self, answer: &Answered) -> Finding {
        let diagnosis = match self.target.is_tunnel() {
            true => Diagnosis::LOCAL_TUNNEL_HOST_NOT_ALLOWED,
            false => Diagnosis::BACKEND_HOST_NOT_ALLOWED,
        };
        let mut known = observed(answer);
        known.insert("host".to_owned(), answer.host.as_str().into());
        Finding::problem(diagnosis)
            .seen(format!("{} does not accept the host `{}`", self.target.shown(), answer.host), known)
            .fix_first(format!(
                "Add exactly `{}` to ALLOWED_HOSTS of the backend; patterns do not count.",
                answer.host
            ))
    }
}

/// What is kept of an answer.
fn observed(answer: &Answered) -> serde_json::Map<String, Value> {
    facts([
        ("status", answer.status.into()),
        ("contentType", json!(answer.content_type)),
        ("length", answer.body.len().into()),
        ("signature", json!(signature(answer))),
        ("firstByteMs", answer.millis.into()),
    ])
}

/// The known form of an answer, by the table of [`tidegate_core::signature`]. Which event an attempt looks like does not matter:
/// what a form means on each of them is judged here, with the attempts around it.
pub fn signature(answer: &Answered) -> Option<&'static str> {
    find(answer).map(Signature::id)
}

fn find(answer: &Answered) -> Option<&'static Signature> {
    let known = Signatures::known();
    [On::Connect, On::Message, On::Disconnect].into_iter().find_map(|on| {
        let asked = signature::Answered {
            status: answer.status,
            content_type: answer.content_type.as_deref(),
            body: &answer.body,
            // Whether a redirect adds a slash is judged with the address at hand.
            adds_slash: false,
            on,
        };
        known.find(&asked).or_else(|| known.find_beside(&asked))
    })
}

/// Headers that the Django package demands of every request, in lower case.
fn demanded() -> Vec<&'static str> {
    let headers = Signatures::known().iter().find(|known| known.id() == "dj-headers");
    headers.into_iter().flat_map(Signature::headers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(url: &str, keys: &[&str]) -> Backend {
        Backend {
            target: Target::parse(url).unwrap(),
            route_keys: keys.iter().map(|&key| key.to_owned()).collect(),
        }
    }

    fn answered(status: u16, body: &str) -> Outcome {
        let sent = demanded().into_iter().map(str::to_owned).collect();
        Outcome::Answered(Box::new(Answered {
            status,
            body: body.into(),
            sent,
            host: "b.example:8000".to_owned(),
            ..Answered::default()
        }))
    }

    /// Every path that is not named answers 404.
    fn findings(url: &str, keys: &[&str], answers: &[(&str, u16, &str)]) -> Vec<(String, Confidence)> {
        let backend = backend(url, keys);
        let outcome = |url: &str| {
            let target = Target::parse(url).unwrap();
            let known = answers.iter().find(|(path, ..)| *path == target.path());
            known.map_or_else(
                || {
                    answered(
                        404,
                        "<h1>Not Found</h1><p>The requested resource was not found on this server.</p>",
                    )
                },
                |(_, status, body)| answered(*status, body),
            )
        };
        let first = outcome(&backend.first().url);
        let attempts = backend.further(&first);
        assert!(attempts.len() < 8);
        let further: Vec<_> =
            attempts.into_iter().map(|attempt| (attempt.clone(), outcome(&attempt.url))).collect();
        let (_, findings, _) = backend.judge(&first, &further);
        findings.into_iter().map(|finding| (finding.id, finding.confidence)).collect()
    }

    fn proven(id: &str) -> Vec<(String, Confidence)> {
        vec![(id.to_owned(), Confidence::Proven)]
    }

    #[test]
    fn answers_name_their_cause() {
        // integration.missing-slash, backend.route-param-missing, backend.route-param-misnamed, integration.wrong-url,
        // route.integration-wrong, backend.csrf, backend.secret-mismatch, backend.method
        let base = "http://b.example:8000";
        let connect = &["$connect"][..];
        let good = "Missing 5 headers";
        let found = |path: &str, keys: &[&str], answers: &[(&str, u16, &str)]| {
            findings(&format!("{base}{path}"), keys, answers)
        };
        assert_eq!(
            found(
                "/ws/connect",
                connect,
                &[("/ws/connect", 400, good), ("/ws/tidegate-probe", 400, "Invalid request format (1)")]
            ),
            []
        );
        assert_eq!(
            found("/wsconnect", connect, &[("/ws/connect", 400, good)]),
            proven("integration.missing-slash")
        );
        assert_eq!(
            found("/ws/connect", connect, &[("/ws/", 400, "Invalid request format (1)")]),
            proven("backend.route-param-missing")
        );
        assert_eq!(
            found("/ws/connect", connect, &[("/ws/connect", 400, "Invalid request format (1)")]),
            proven("backend.route-param-misnamed")
        );
        assert_eq!(
            found("/api/api/connect", connect, &[("/api/connect", 400, good)]),
            proven("integration.wrong-url")
        );
        assert_eq!(found("/nothing/connect", connect, &[]), proven("integration.wrong-url"));
        assert_eq!(
            found("/ws/join", &["join"], &[("/ws/connect", 400, good)]),
            proven("route.integration-wrong")
        );
        assert_eq!(
            found(
                "/ws/connect",
                connect,
                &[("/ws/connect", 403, "CSRF verification failed. Request aborted.")]
            ),
            proven("backend.csrf")
        );
        assert_eq!(
            found("/ws/connect", connect, &[("/ws/connect", 403, "Invalid request")]),
            proven("backend.secret-mismatch")
        );
        assert_eq!(found("/ws/connect", connect, &[("/ws/connect", 405, "")]), proven("backend.method"));
        assert_eq!(
            found("/ws/connect", connect, &[("/ws/connect", 400, "Bad Request (400)")]),
            proven("backend.host-not-allowed")
        );
        assert_eq!(
            found("/ws/connect", connect, &[("/ws/connect", 500, "x")]),
            proven("integration.error-status")
        );
        // A backend of another kind says no to strangers, or yes to everybody.
        for status in [200, 204, 400, 401, 403] {
            assert_eq!(found("/c", connect, &[("/c", status, "")]), [], "{status}");
        }
    }

    #[test]
    fn refused_headers_have_three_possible_causes() {
        // backend.api-id-unknown, backend.headers-stripped, backend.server-drops-forwarded, backend.headers-missing
        let backend = backend("http://b.example:8000/ws/connect", &["$connect"]);
        let first = answered(400, "Invalid request headers");
        let (_, findings, _) = backend.judge(&first, &[]);
        let ids: Vec<&str> = findings.iter().map(|finding| finding.id.as_str()).collect();
        assert_eq!(
            ids,
            ["backend.api-id-unknown", "backend.headers-stripped", "backend.server-drops-forwarded"]
        );
        assert!(findings.iter().all(|finding| finding.confidence >= Confidence::Likely));
        let Outcome::Answered(mut answer) = first else { unreachable!() };
        answer.sent.retain(|name| name != "connectionid");
        let (_, findings, _) = backend.judge(&Outcome::Answered(answer), &[]);
        assert_eq!((findings.len(), findings[0].id.as_str()), (1, "backend.headers-missing"));
        assert_eq!(findings[0].evidence[0].facts["missing"], json!(["connectionid"]));
    }

    #[test]
    fn the_text_to_add_is_exact() {
        // backend.host-not-allowed, local.tunnel-host-not-allowed
        let answer = answered(400, "Host is not in AllowedHosts ['a']");
        let (_, findings, _) = backend("http://b.example:8000/ws/connect", &["$connect"]).judge(&answer, &[]);
        assert!(findings[0].fix[0].contains("`b.example:8000`"), "{findings:?}");
        assert!(!serde_json::to_string(&findings).unwrap().contains("['a']"));
        let (_, findings, _) =
            backend("https://ab.ngrok-free.app/ws/connect", &["$connect"]).judge(&answer, &[]);
        assert_eq!(findings[0].id, "local.tunnel-host-not-allowed");
    }

    #[test]
    fn tunnels_and_private_hosts() {
        // local.tunnel-changed, local.tunnel-interstitial, local.not-https, local.not-public, integration.private-address
        let failed = |diagnosis, speaks_no_tls| Outcome::Failed {
            diagnosis,
            detail: "x".to_owned(),
            speaks_no_tls,
            millis: 3,
        };
        let ids = |url: &str, outcome: &Outcome| {
            let (_, findings, _) = backend(url, &["$connect"]).judge(outcome, &[]);
            findings.into_iter().map(|finding| finding.id).collect::<Vec<_>>()
        };
        let tunnel = "https://ab.ngrok-free.app/ws/connect";
        assert_eq!(
            ids(tunnel, &failed(Diagnosis::INTEGRATION_DNS, false)),
            ["integration.dns", "local.tunnel-changed"]
        );
        assert_eq!(
            ids(tunnel, &answered(404, "Tunnel x not found ERR_NGROK_3200")),
            ["local.tunnel-changed"]
        );
        assert_eq!(
            ids(tunnel, &answered(200, "<html>ngrok-skip-browser-warning")),
            ["local.tunnel-interstitial"]
        );
        let tls = failed(Diagnosis::INTEGRATION_TLS, true);
        assert_eq!(ids("https://127.0.0.1:8000/x", &tls), ["integration.tls", "local.not-https"]);
        let refused = failed(Diagnosis::INTEGRATION_REFUSED, false);
        assert_eq!(ids("http://127.0.0.1:8000/x", &refused), ["integration.refused", "local.not-public"]);
        assert_eq!(
            ids("http://10.0.0.9:8000/x", &refused),
            ["integration.refused", "integration.private-address"]
        );
        assert_eq!(ids("https://b.example/x", &refused), ["integration.refused"]);
    }
}
