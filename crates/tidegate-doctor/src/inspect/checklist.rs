//! The twelve questions with which the troubleshooting page of the Django package begins, answered for one API.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::backend::PackageFacts;
use super::facts;
use crate::report::{Probe, ProbeResult};

/// An answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// As it should be.
    Yes,
    /// Not as it should be.
    No,
    /// Not visible from here.
    CannotTell,
}

impl Answer {
    fn of(known: Option<bool>) -> Self {
        match known {
            Some(true) => Self::Yes,
            Some(false) => Self::No,
            None => Self::CannotTell,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::CannotTell => "cannot tell",
        }
    }
}

/// One question with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What is asked.
    pub question: &'static str,
    /// The answer.
    pub answer: Answer,
    /// Why.
    pub reason: String,
}

/// What is known when the report about an API ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// Of the backend that `$connect` calls; absent: nobody asked it.
    pub package: Option<PackageFacts>,
    /// The backend's address is https, or on this machine.
    pub is_https_or_local: Option<bool>,
    /// The API has routes, and every stage is deployed.
    pub is_deployed: bool,
    /// Its stages serve what is defined.
    pub is_current: bool,
    /// A signed call of the backend's credentials was tried: accepted or not.
    pub is_signature_accepted: Option<bool>,
    /// And permitted or not.
    pub is_permitted: Option<bool>,
    /// Domain names that lead to the API, and whether each leads to this installation as far as somebody looked.
    pub domains: Vec<(String, Option<bool>)>,
    /// Clients reach the gateway by TLS, here or at a proxy that is on the list.
    pub has_tls: Option<bool>,
    /// The policy's own tokens: none where the stage leaves them to the backend.
    pub own_tokens: Option<bool>,
}

/// The twelve lines.
pub fn lines(known: &Known) -> Vec<Line> {
    let package = known.package.unwrap_or_default();
    let line = |question, known: Option<bool>, yes: &str, no: &str, cannot: &str| {
        let answer = Answer::of(known);
        let reason = match answer {
            Answer::Yes => yes,
            Answer::No => no,
            Answer::CannotTell => cannot,
        };
        Line { question, answer, reason: reason.to_owned() }
    };
    let unasked = "the backend was not asked, or did not answer in a way that tells";
    let is_reachable = match (package.answers, known.is_https_or_local) {
        (Some(true), Some(is_right)) => Some(is_right),
        (answers, _) => answers,
    };
    let mut domains = known.domains.iter();
    let dns = match known.domains.is_empty() {
        true => None,
        false if domains.any(|(_, is_ours)| *is_ours == Some(false)) => Some(false),
        false if known.domains.iter().all(|(_, is_ours)| *is_ours == Some(true)) => Some(true),
        false => None,
    };
    let no_dns = match known.domains.is_empty() {
        true => "the API has no domain name: clients use the generated address",
        false => {
            "the addresses of its domain names are not this machine's own: a proxy may stand there; look with `tidegate doctor wss://NAME`"
        }
    };
    vec![
        line(
            "the Django application is reachable over HTTPS",
            is_reachable,
            "it answers, over HTTPS or without leaving the local network",
            "it does not answer, or only without TLS",
            unasked,
        ),
        line(
            "the API Gateway has been created and deployed",
            Some(known.is_deployed && known.is_current),
            "all stages serve what is defined",
            if known.is_deployed {
                "changes since the deployment are not live"
            } else {
                "routes, stage or deployment are missing"
            },
            "",
        ),
        line(
            "the API Gateway record in Django has the expected API ID",
            package.knows_api,
            "the view accepted a call with this id",
            "the view does not know this id",
            "only an accepted call proves it; see backend.api-id-unknown",
        ),
        line(
            "the target base endpoint is correct and ends with a trailing slash",
            package.is_base_right,
            "the address reaches the view",
            "the address does not reach the view",
            unasked,
        ),
        line(
            "the Django URL includes <slug:route>",
            package.has_slug,
            "unknown words reach the view",
            "unknown words are not found",
            unasked,
        ),
        line(
            "the slug parameter is named route",
            package.is_slug_named,
            "the view took `connect` for the handshake",
            "the view took `connect` for a message",
            unasked,
        ),
        line(
            "AWS credentials are configured correctly",
            known.is_signature_accepted,
            "a signed call was accepted",
            "a signed call was refused",
            "run this command on the backend's machine with its AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        line(
            "IAM permissions allow the action you are trying to perform",
            known.is_permitted,
            "the key may post to connections",
            "the key may not post to connections",
            "run this command on the backend's machine with its AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        line(
            "DNS points to the correct API Gateway domain",
            dns,
            "every domain name leads here",
            "a domain name leads elsewhere",
            no_dns,
        ),
        line(
            "the browser is connecting with wss://",
            known.has_tls,
            "the gateway has a TLS listener",
            "the public listener has no TLS and no trusted proxy",
            "a proxy that is on trusted_proxies ends TLS; what scheme pages use is not visible here",
        ),
        line(
            "WebSocket tokens are configured correctly if enabled",
            known.own_tokens,
            "the stage's own tokens are configured without a problem",
            "the stage's policy has problems with tokens",
            "tokens are the backend's own: only a connection with one proves it",
        ),
        line(
            "old sessions, tokens, and rate limit records are being cleaned up",
            None,
            "",
            "",
            "the gateway cleans up its own records by itself; the backend's are not visible here: schedule its command",
        ),
    ]
}

/// The lines as the last probe of a report. For APIs that look like the package's, the text form shows them all.
pub fn probe(known: &Known) -> Probe {
    let lines = lines(known);
    let count = |answer| lines.iter().filter(|line| line.answer == answer).count();
    let summary = format!(
        "{} yes, {} no, {} cannot tell",
        count(Answer::Yes),
        count(Answer::No),
        count(Answer::CannotTell)
    );
    let shown: Vec<String> = lines
        .iter()
        .enumerate()
        .map(|(idx, line)| {
            format!("{:>2}. {:<11}  {}: {}", idx + 1, line.answer.words(), line.question, line.reason)
        })
        .collect();
    let mut measurements = facts([("summary", json!(summary)), ("lines", json!(lines))]);
    if known.package.is_some() {
        measurements.insert("shown".to_owned(), json!(shown));
    }
    Probe { name: "checklist".to_owned(), result: ProbeResult::Ok, measurements }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_twelve_lines_and_each_has_a_reason() {
        // DX-50
        let all = lines(&Known::default());
        assert_eq!(all.len(), 12);
        assert!(all.iter().all(|line| !line.reason.is_empty()), "{all:?}");
        assert_eq!(all[1].answer, Answer::No);
        let package = PackageFacts {
            answers: Some(true),
            is_base_right: Some(true),
            has_slug: Some(false),
            is_slug_named: Some(true),
            knows_api: Some(true),
        };
        let known = Known {
            package: Some(package),
            is_https_or_local: Some(true),
            is_deployed: true,
            is_current: true,
            ..Known::default()
        };
        let answers: Vec<Answer> = lines(&known).iter().map(|line| line.answer).collect();
        assert_eq!(
            answers[..6],
            [Answer::Yes, Answer::Yes, Answer::Yes, Answer::Yes, Answer::No, Answer::Yes]
        );
        let domains = vec![("a.example".to_owned(), Some(true)), ("b.example".to_owned(), Some(false))];
        assert_eq!(lines(&Known { domains, ..Known::default() })[8].answer, Answer::No);
    }
}
