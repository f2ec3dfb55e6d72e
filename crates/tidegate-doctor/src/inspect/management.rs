//! The way back: from the backend's machine to `@connections`.

use serde_json::{Value, json};
use tidegate_core::diagnosis::Diagnosis;

use super::facts;
use crate::report::{Confidence, Finding, Probe, Severity};

/// What happened to a signed request for a connection that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The name has no address.
    NoAddress,
    /// There was no connection.
    NoConnection {
        /// Nobody answered in time; otherwise it was refused.
        is_timeout: bool,
    },
    /// The certificate is not accepted.
    Untrusted {
        /// What the TLS library said.
        reason: String,
    },
    /// An answer.
    Answered {
        /// Its status.
        status: u16,
        /// `x-amzn-ErrorType`, without what follows a colon.
        error_type: String,
    },
}

/// What a backend written for API Gateway must have in its environment. `api_id`: absent where all APIs are meant. Only one
/// of the two ways is needed.
pub fn environment(
    region: &str,
    api_id: Option<&str>,
    ca: &str,
    proxy: Option<&str>,
    admin: &str,
) -> Vec<String> {
    let api = api_id.unwrap_or("API_ID");
    let mut lines = vec![
        format!(
            "AWS_ENDPOINT_URL_APIGATEWAYV2={admin}   # createApiGateway and other commands of the control plane"
        ),
        format!("AWS_CA_BUNDLE={ca}   # the CA of this gateway"),
        format!("AWS_DEFAULT_REGION={region}"),
    ];
    lines.push(match proxy {
        Some(proxy) => format!(
            "HTTPS_PROXY=http://{proxy}   # way 1: the fixed push address through the gateway's CONNECT proxy"
        ),
        None => "HTTPS_PROXY=   # way 1: set [proxy] listen in the configuration first".to_owned(),
    });
    lines.push(format!("# way 2: let {api}.execute-api.{region}.amazonaws.com resolve to this gateway's TLS listener on port 443"));
    lines
}

/// What an outcome means; nothing for 410, which is what a call for an unknown id shall get. `host`: the name that was
/// called; `addresses`: what it resolved to.
pub fn judge(seen: &Seen, host: &str, addresses: &[String]) -> Option<Finding> {
    let known = |extra: Vec<(&str, Value)>| {
        let mut known = facts([("host", host.into()), ("addresses", json!(addresses))]);
        known.extend(extra.into_iter().map(|(name, value)| (name.to_owned(), value)));
        known
    };
    let problem = |diagnosis, text: String, extra| Some(Finding::problem(diagnosis).seen(text, known(extra)));
    match seen {
        Seen::NoAddress => {
            problem(Diagnosis::MANAGEMENT_NO_EGRESS, format!("{host} does not resolve"), vec![])
        }
        Seen::NoConnection { is_timeout } => {
            let how = if *is_timeout { "does not answer" } else { "refuses the connection" };
            problem(
                Diagnosis::MANAGEMENT_NO_EGRESS,
                format!("{host} {how}"),
                vec![("timeout", (*is_timeout).into())],
            )
        }
        Seen::Untrusted { reason } => {
            let text = format!("the certificate of {host} is not accepted: {reason}");
            problem(Diagnosis::MANAGEMENT_CA_UNTRUSTED, text, vec![])
        }
        Seen::Answered { status: 410, .. } => None,
        Seen::Answered { status, error_type } => {
            let extra = vec![("status", (*status).into()), ("errorType", error_type.as_str().into())];
            let text = format!("{host} answers {status} {error_type}");
            let diagnosis = match (status, error_type.as_str()) {
                (
                    403,
                    "InvalidSignatureException" | "SignatureDoesNotMatch" | "IncompleteSignatureException",
                ) => Diagnosis::MANAGEMENT_BAD_SIGNATURE,
                (403, "UnrecognizedClientException" | "InvalidClientTokenId") => {
                    Diagnosis::MANAGEMENT_UNKNOWN_KEY
                }
                (403, "AccessDeniedException") => Diagnosis::MANAGEMENT_DENIED,
                (403, "MissingAuthenticationTokenException") => Diagnosis::MANAGEMENT_UNSIGNED,
                // The right gateway knows the API and says Gone; whoever says something else is somebody else.
                _ => {
                    let finding = Finding::new(
                        Diagnosis::MANAGEMENT_NOT_REDIRECTED,
                        Severity::Problem,
                        Confidence::Likely,
                    );
                    return Some(
                        finding.seen(format!("{text}; the gateway of this API answers 410"), known(extra)),
                    );
                }
            };
            problem(diagnosis, text, extra)
        }
    }
}

/// The probe of a report.
pub fn probe(host: &str, finding: Option<&Finding>) -> Probe {
    let findings: Vec<Finding> = finding.into_iter().cloned().collect();
    Probe {
        name: "push".to_owned(),
        result: super::definitions::worst(&findings),
        measurements: facts([("host", host.into())]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_an_unknown_id() {
        // S0-34, management.not-redirected, management.ca-untrusted, management.bad-signature, management.no-egress,
        // management.unknown-key, management.denied
        let id = |seen: Seen| judge(&seen, "h", &[]).map(|finding| finding.id);
        let answered =
            |status, error_type: &str| Seen::Answered { status, error_type: error_type.to_owned() };
        assert_eq!(id(answered(410, "GoneException")), None);
        for (seen, expected) in [
            (answered(403, "InvalidSignatureException"), "management.bad-signature"),
            (answered(403, "UnrecognizedClientException"), "management.unknown-key"),
            (answered(403, "AccessDeniedException"), "management.denied"),
            (answered(403, "ForbiddenException"), "management.not-redirected"),
            (answered(404, ""), "management.not-redirected"),
            (Seen::NoAddress, "management.no-egress"),
            (Seen::NoConnection { is_timeout: true }, "management.no-egress"),
            (Seen::Untrusted { reason: "x".to_owned() }, "management.ca-untrusted"),
        ] {
            assert_eq!(id(seen.clone()).as_deref(), Some(expected), "{seen:?}");
        }
    }

    #[test]
    fn the_environment_names_both_ways() {
        // S0-34
        let text = environment("eu-west-1", Some("abc"), "/ca.pem", Some("h:8443"), "http://a").join("\n");
        for expected in [
            "AWS_CA_BUNDLE=/ca.pem",
            "HTTPS_PROXY=http://h:8443",
            "abc.execute-api.eu-west-1.amazonaws.com",
            "AWS_ENDPOINT_URL_APIGATEWAYV2=http://a",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }
}
