//! What clients are told about a cause.
//!
//! Clients see less than operators. What says something about the client's own request or program is told by its
//! title; everything else by a sentence that its whole group shares, so that a refusal cannot be used to find out
//! which users, rules, stages or backends there are.

use super::Cause;

/// What a group of causes says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// The title of the cause: it concerns the client itself.
    Title,
    /// One sentence for all of the group.
    Text(&'static str),
}

const TOKEN: Said = Said::Text("The token was not accepted.");
const ACCESS: Said = Said::Text("Access was not granted.");
const NOTHING_HERE: Said = Said::Text("Nothing answers at this address or to this message.");
const BEHIND: Said = Said::Text("The service behind this address did not answer as it should.");
const LATER: Said = Said::Text("The service is not available at the moment; try again later.");
const FAILED: Said = Said::Text("Something failed on the server.");
const CALL: Said = Said::Text("The call was not accepted.");
const UNDELIVERED: Said = Said::Text("A message could not be delivered.");
const ATTEMPTS: Said = Said::Text("Too many attempts or messages; wait before the next one.");

/// Causes that say more, or less, than their group.
///
/// What they say concerns the one who presented the token or name, and nobody else.
const SINGLE: &[(&str, Said)] = &[
    ("jwt.missing", Said::Text("The request carries no token.")),
    ("jwt.expired", Said::Text("The token has expired.")),
    ("jwt.not-yet-valid", Said::Text("The token is not valid yet.")),
    ("jwt.jwks-unreachable", LATER),
    ("token.missing", Said::Text("The request carries no token.")),
    ("token.expired", Said::Text("The token has expired.")),
    ("token.reused", Said::Text("The token was not accepted; fetch a new one for each attempt.")),
    (
        "token.reused-on-reconnect",
        Said::Text("The token was not accepted; fetch a new one for each attempt."),
    ),
    ("origin.not-allowed", Said::Text("Connections from this page are not permitted.")),
    ("user.check-failed", LATER),
    ("channel.invalid", Said::Title),
    ("channel.too-many", Said::Title),
    ("authorizer.failed", LATER),
    ("auth.not-configured", LATER),
    ("close.access-revoked", ACCESS),
    ("chat.auth-hidden", ACCESS),
    ("ratelimit.stage", LATER),
    ("apikey.over-limit", ATTEMPTS),
    ("ratelimit.account", LATER),
];

/// Groups of causes, by the first word of their ids.
const GROUPS: &[(&str, Said)] = &[
    ("admin", CALL),
    ("api", NOTHING_HERE),
    ("apikey", ACCESS),
    ("app", BEHIND),
    ("auth", FAILED),
    ("authorizer", ACCESS),
    ("backend", BEHIND),
    ("browser", Said::Title),
    ("bypass", BEHIND),
    ("channel", ACCESS),
    ("chat", Said::Title),
    ("cleanup", FAILED),
    ("client", Said::Title),
    ("clock", Said::Title),
    ("close", Said::Title),
    ("cluster", LATER),
    ("command", CALL),
    ("config", FAILED),
    ("conn", Said::Title),
    ("connections", CALL),
    ("control", Said::Title),
    ("cookie", Said::Title),
    ("debug", FAILED),
    ("dns", Said::Title),
    ("domain", NOTHING_HERE),
    ("error", FAILED),
    ("handler", NOTHING_HERE),
    ("handshake", Said::Title),
    ("iam", ACCESS),
    ("identity", ACCESS),
    ("idle", Said::Title),
    ("integration", BEHIND),
    ("jwt", TOKEN),
    ("limit", LATER),
    ("local", BEHIND),
    ("log", FAILED),
    ("management", CALL),
    ("message", Said::Title),
    ("net", Said::Title),
    ("node", Said::Text("The server restarts or stopped; connect again.")),
    ("origin", ACCESS),
    ("path", NOTHING_HERE),
    ("perm", ACCESS),
    ("protocol", Said::Title),
    ("provision", CALL),
    ("proxy", Said::Title),
    ("publish", UNDELIVERED),
    ("push", UNDELIVERED),
    ("ratelimit", ATTEMPTS),
    ("reply", BEHIND),
    ("role", ACCESS),
    ("route", NOTHING_HERE),
    ("security", FAILED),
    ("stage", NOTHING_HERE),
    ("store", LATER),
    ("subprotocol", Said::Title),
    ("tls", Said::Title),
    ("token", TOKEN),
    ("tokenreq", ACCESS),
    ("user", ACCESS),
];

pub(super) fn to_client(cause: &Cause) -> &'static str {
    let id = cause.diagnosis.as_str();
    let single = SINGLE.iter().find(|(single, _)| *single == id);
    let group = || GROUPS.iter().find(|(group, _)| id.split('.').next() == Some(*group));
    match single.or_else(group) {
        Some((_, Said::Title)) => cause.title,
        Some((_, Said::Text(text))) => text,
        // A group that nobody decided about says nothing; a test finds it.
        None => "The request was refused.",
    }
}

#[cfg(test)]
mod tests {
    use super::super::Diagnosis;
    use super::*;

    #[test]
    fn every_group_was_decided_about() {
        // DX-72
        let groups: std::collections::BTreeSet<_> =
            Diagnosis::all().filter_map(|cause| cause.diagnosis.as_str().split('.').next()).collect();
        let listed: Vec<_> = GROUPS.iter().map(|(group, _)| *group).collect();
        assert_eq!(groups.into_iter().collect::<Vec<_>>(), listed);
        for (id, _) in SINGLE {
            assert!(Diagnosis::find(id).is_some_and(|found| found.as_str() == *id), "{id}");
        }
    }

    #[test]
    fn clients_learn_nothing_about_others() {
        // DX-14 DX-72
        let secret = [
            "jwt",
            "token",
            "user",
            "role",
            "management",
            "backend",
            "integration",
            "api",
            "stage",
            "app",
            "bypass",
        ];
        for cause in Diagnosis::all() {
            let said = cause.said_to_client();
            assert!(said.len() <= 123 && said.ends_with('.'), "{}: {said}", cause.diagnosis);
            assert!(!said.contains("://") || said == cause.title, "{}", cause.diagnosis);
            let family = cause.diagnosis.as_str().split('.').next().unwrap_or_default();
            if secret.contains(&family) {
                let is_single = SINGLE.iter().any(|(id, _)| *id == cause.diagnosis.as_str());
                assert!(is_single || said != cause.title, "{}", cause.diagnosis);
                // Nobody learns whether a user exists, or which software, rule or host refused.
                for word in
                    ["user", "role", "suspend", "banned", "Django", "API", "stage", "limit", "host", "key"]
                {
                    assert!(!said.contains(word), "{}: {said}", cause.diagnosis);
                }
            }
        }
        let said = |diagnosis: Diagnosis| diagnosis.describe().said_to_client();
        assert_eq!(said(Diagnosis::USER_NOT_FOUND), said(Diagnosis::USER_INACTIVE));
        assert_eq!(said(Diagnosis::USER_NOT_FOUND), said(Diagnosis::ROLE_INSUFFICIENT));
        assert_eq!(said(Diagnosis::USER_BANNED), said(Diagnosis::CHANNEL_FORBIDDEN));
        assert_eq!(said(Diagnosis::JWT_SIGNATURE), said(Diagnosis::TOKEN_UNKNOWN));
        assert_eq!(said(Diagnosis::API_UNKNOWN), said(Diagnosis::STAGE_NOT_DEPLOYED));
        assert_eq!(said(Diagnosis::JWT_EXPIRED), "The token has expired.");
        assert_eq!(said(Diagnosis::PROXY_UPGRADE_STRIPPED), "A proxy removed the Upgrade header.");
    }
}
