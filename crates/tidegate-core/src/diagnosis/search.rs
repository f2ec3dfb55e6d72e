//! From what people see to the causes: aliases, symptoms, close codes, statuses, error texts.

use super::Diagnosis;

/// Other names of ids, accepted wherever an id is. The first id is the canonical one; more stand for a set.
pub const ALIASES: &[(&str, &[Diagnosis])] = &[
    ("api.not-deployed", &[Diagnosis::STAGE_REDEPLOY_NEEDED]),
    ("backend.allowed-hosts", &[Diagnosis::BACKEND_HOST_NOT_ALLOWED]),
];
