//! From what people see to the causes: aliases, symptoms, close codes, statuses, error texts.

use super::Diagnosis;

mod codes;
mod symptoms;
mod texts;

pub use codes::{CLOSE_CODES, CloseCode, STATUSES, Status, close_code, refused_with, status};
pub use symptoms::{SYMPTOMS, Symptom, causes_of, cross_references};
pub use texts::{MAX_TEXT, TextMatch, error_texts, ids_in, match_text};

/// Other names of ids, accepted wherever an id is. The first id is the canonical one; more stand for a set.
pub const ALIASES: &[(&str, &[Diagnosis])] = &[
    ("api.not-deployed", &[Diagnosis::STAGE_REDEPLOY_NEEDED]),
    ("backend.allowed-hosts", &[Diagnosis::BACKEND_HOST_NOT_ALLOWED]),
    ("backend.headers", &[Diagnosis::BACKEND_HEADERS_MISSING]),
    ("backend.route-param", &[Diagnosis::BACKEND_ROUTE_PARAM_MISSING]),
    ("backend.secret", &[Diagnosis::BACKEND_SECRET_MISMATCH]),
    ("cookie.domain", &[Diagnosis::COOKIE_DOMAIN_NOT_COVERING, Diagnosis::COOKIE_DIFFERENT_PARENT_DOMAIN]),
    ("domain.no-certificate", &[Diagnosis::TLS_NOT_ISSUED]),
    ("handshake.header-missing", &[Diagnosis::BACKEND_CONNECTION_HEADERS_MISSING]),
    ("push.signature", &[Diagnosis::MANAGEMENT_BAD_SIGNATURE]),
    ("push.tls", &[Diagnosis::MANAGEMENT_CA_UNTRUSTED]),
    ("push.unreachable", &[Diagnosis::MANAGEMENT_NO_EGRESS, Diagnosis::MANAGEMENT_NOT_REDIRECTED]),
    ("session.missing", &[Diagnosis::TOKEN_SESSION_MISSING]),
    ("session.stale", &[Diagnosis::PUSH_STALE_RECORDS, Diagnosis::CLEANUP_NOT_PRUNING]),
    (
        "token.invalid",
        &[
            Diagnosis::TOKEN_MISSING,
            Diagnosis::TOKEN_EXPIRED,
            Diagnosis::TOKEN_REUSED,
            Diagnosis::TOKEN_REUSED_ON_RECONNECT,
            Diagnosis::TOKEN_SESSION_CHANGED,
            Diagnosis::TOKEN_OTHER_BROWSER,
            Diagnosis::TOKEN_SESSION_MISSING,
            Diagnosis::TOKEN_ORIGIN_MISMATCH,
            Diagnosis::TOKEN_UNKNOWN,
            Diagnosis::TOKEN_CLOCK,
        ],
    ),
    ("token.session-mismatch", &[Diagnosis::TOKEN_SESSION_CHANGED]),
    ("domain.certificate-pending", &[Diagnosis::TLS_NOT_ISSUED]),
    ("domain.dns", &[Diagnosis::DNS_WRONG_TARGET]),
];

/// The ids that a name stands for: one for an id, one or several for an alias, none for anything else.
pub fn named(name: &str) -> Vec<Diagnosis> {
    if let Some(diagnosis) = Diagnosis::exact(name) {
        return vec![diagnosis];
    }
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    alias.map_or_else(Vec::new, |(_, ids)| ids.to_vec())
}

/// The other names of an id.
pub fn aliases_of(diagnosis: Diagnosis) -> impl Iterator<Item = &'static str> {
    ALIASES.iter().filter(move |(_, ids)| ids.contains(&diagnosis)).map(|(alias, _)| *alias)
}

/// Where something that was seen leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lead {
    /// To one cause.
    Cause(Diagnosis),
    /// To all causes of a symptom, by its number.
    Symptom(u8),
    /// To all causes whose id begins with this word and a dot.
    Family(&'static str),
    /// To those of a handshake status.
    Status(u16),
    /// To those of a close code.
    Close(u16),
}

/// The causes that leads stand for, in their order and each once.
pub fn follow(leads: &[Lead]) -> Vec<Diagnosis> {
    let mut causes = Vec::new();
    for lead in leads {
        let found = match *lead {
            Lead::Cause(diagnosis) => vec![diagnosis],
            Lead::Symptom(number) => causes_of(number),
            Lead::Family(family) => family_of(family),
            // Statuses and close codes lead to causes, symptoms and families only, so this ends.
            Lead::Status(code) => status(code).map_or_else(Vec::new, Status::causes),
            Lead::Close(code) => close_code(code).map_or_else(Vec::new, CloseCode::all_causes),
        };
        for diagnosis in found {
            if !causes.contains(&diagnosis) {
                causes.push(diagnosis);
            }
        }
    }
    causes
}

fn family_of(family: &str) -> Vec<Diagnosis> {
    let ids = Diagnosis::all().map(|cause| cause.diagnosis);
    ids.filter(|id| id.as_str().split_once('.').is_some_and(|(first, _)| first == family)).collect()
}

#[cfg(test)]
mod tests;
