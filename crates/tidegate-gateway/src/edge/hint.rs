//! Why an address leads nowhere, looked at once more: what the client probably meant.
//!
//! Only for refusals: it compares with what exists.

use serde_json::Value;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::nearest::nearest;
use tidegate_core::snapshot::{Domain, Snapshot};

use super::address::{self, Endpoint, PATH_FORM, Unresolved};

/// Most names that are compared: refusals must not cost much. Source: our choice.
const MAX_COMPARED: usize = 1000;

/// Most names that a fact lists. Source: our choice.
const MAX_LISTED: usize = 10;

/// Longest repetition that is looked for, in segments.
const MAX_REPEATED: usize = 4;

/// What is wrong with an address.
#[derive(Debug)]
pub(super) struct Hint {
    pub(super) diagnosis: Diagnosis,
    pub(super) facts: Facts,
}

/// Looks once more at an address that was not found. `forwarded_host` is what a proxy says the client asked for.
pub(super) fn explain(
    snapshot: &Snapshot,
    host: &str,
    forwarded_host: Option<&str>,
    path: &str,
    unresolved: &Unresolved,
) -> Hint {
    let mut facts = Facts::none();
    let leads = |host: &str, path: &str| {
        address::resolve(snapshot, host, path).is_ok_and(|address| address.endpoint == Endpoint::WebSocket)
    };
    if let Some(forwarded) = forwarded_host
        && !forwarded.eq_ignore_ascii_case(host)
        && leads(forwarded, path)
    {
        return Hint { diagnosis: Diagnosis::PROXY_HOST_REWRITTEN, facts };
    }
    if let Some(shorter) = without_repetition(path, |shorter| leads(host, shorter)) {
        facts.add("nearest", shorter);
        return Hint { diagnosis: Diagnosis::PATH_DOUBLE_PREFIX, facts };
    }
    if let Some(base) = negotiated(path)
        && leads(host, base)
    {
        return Hint { diagnosis: Diagnosis::CLIENT_OTHER_PROTOCOL, facts };
    }
    let name = address::host_name(host);
    let label = name.split('.').next().unwrap_or_default();
    let in_path = path.strip_prefix(PATH_FORM).map(|rest| rest.split('/').next().unwrap_or_default());
    let api_id = if snapshot.apis.contains_key(label) { label } else { in_path.unwrap_or(label) };
    let mut diagnosis = unresolved.diagnosis;
    match diagnosis {
        Diagnosis::API_UNKNOWN => {
            let known = || snapshot.apis.keys().map(AsRef::as_ref).take(MAX_COMPARED);
            facts.add_some("nearest", nearest(api_id, known()));
            let mut similar: Vec<&str> = known().filter(|id| is_one_edit_away(id, api_id)).collect();
            similar.sort_unstable();
            similar.truncate(MAX_LISTED);
            facts.add("similar", Value::from(similar));
        }
        Diagnosis::STAGE_UNKNOWN | Diagnosis::PATH_MISSING_STAGE => {
            if let Some(api) = snapshot.apis.get(api_id) {
                let below = match in_path.filter(|_| label != api_id) {
                    Some(id) => path.get(PATH_FORM.len() + id.len()..).unwrap_or_default(),
                    None => path,
                };
                let wanted = below.trim_start_matches('/').split('/').next().unwrap_or_default();
                let known = || api.stages.keys().map(AsRef::as_ref).take(MAX_COMPARED);
                facts.add_some("nearest", nearest(wanted, known()));
                facts.add("known", listed(known()));
            }
        }
        Diagnosis::DOMAIN_NO_MAPPING => {
            if let Some(domain) = find_domain(snapshot, &name)
                && !domain.mappings.is_empty()
            {
                diagnosis = Diagnosis::DOMAIN_MAPPING_PATH;
                let wanted = path.trim_start_matches('/').split('/').next().unwrap_or_default();
                let keys = || domain.mappings.iter().map(|(key, ..)| key.as_str()).take(MAX_COMPARED);
                facts.add_some("nearest", nearest(wanted, keys()));
                facts.add("known", listed(keys()));
            }
            facts.add("domain", name);
        }
        Diagnosis::DOMAIN_UNKNOWN_HOST => {
            let known = snapshot.domains.keys().map(String::as_str).take(MAX_COMPARED);
            let of_api = || snapshot.apis.keys().map(AsRef::as_ref).take(MAX_COMPARED);
            // An API id with a slip in it is told as the id that exists, with the rest of the host.
            let api = nearest(label, of_api()).map(|id| name.replacen(label, id, 1));
            facts.add_some("nearest", nearest(&name, known).map(str::to_owned).or(api));
        }
        Diagnosis::HANDSHAKE_WRONG_PATH => {
            let known = known_paths(snapshot, label);
            facts.add_some("nearest", nearest(path, known.iter().map(String::as_str)));
        }
        _ => {}
    }
    Hint { diagnosis, facts }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> Value {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.truncate(MAX_LISTED);
    Value::from(names)
}

fn find_domain<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Domain> {
    let wildcard = || name.split_once('.').and_then(|(_, parent)| snapshot.wildcard_domains.get(parent));
    snapshot.domains.get(name).or_else(wildcard)
}

/// Paths of handshakes on a host: those of its API, or of all in the path form.
fn known_paths(snapshot: &Snapshot, label: &str) -> Vec<String> {
    if let Some(api) = snapshot.apis.get(label) {
        return api.stages.keys().take(MAX_COMPARED).map(|stage| format!("/{stage}")).collect();
    }
    snapshot
        .apis
        .values()
        .flat_map(|api| api.stages.keys().map(|stage| format!("{PATH_FORM}{}/{stage}", api.api_id)))
        .take(MAX_COMPARED)
        .collect()
}

/// The path without one repetition, if that leads somewhere: `/api/api/x` is `/api/x`.
pub(crate) fn without_repetition(path: &str, leads: impl Fn(&str) -> bool) -> Option<String> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).take(32).collect();
    for length in 1..=MAX_REPEATED {
        for start in 0..segments.len().saturating_sub(2 * length - 1) {
            let (Some(first), Some(second)) =
                (segments.get(start..start + length), segments.get(start + length..start + 2 * length))
            else {
                continue;
            };
            if first == second {
                let mut rest = segments.clone();
                rest.drain(start..start + length);
                let shorter = format!("/{}", rest.join("/"));
                if leads(&shorter) {
                    return Some(shorter);
                }
            }
        }
    }
    None
}

/// What stands before the word with which clients of other protocols begin: SockJS asks `/info`, SignalR `/negotiate`.
pub(super) fn negotiated(path: &str) -> Option<&str> {
    path.strip_suffix("/info").or_else(|| path.strip_suffix("/negotiate"))
}

/// Whether one insertion, deletion or substitution leads from one id to the other.
fn is_one_edit_away(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let (short, long) = if left.len() <= right.len() { (left, right) } else { (right, left) };
    let same = short.iter().zip(long).take_while(|(a, b)| a == b).count();
    let (Some(short_rest), Some(long_rest)) = (short.get(same..), long.get(same + 1..)) else {
        return false;
    };
    match long.len() - short.len() {
        0 => short_rest.get(1..) == Some(long_rest),
        1 => short_rest == long_rest,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_edit_is_told_from_two() {
        // api.unknown
        for (left, right, is_one) in [
            ("k3x9q2m7vd", "k3x9q2m7ve", true),
            ("k3x9q2m7vd", "k3x9q2m7v", true),
            ("k3x9q2m7vd", "k3xx9q2m7vd", true),
            ("k3x9q2m7vd", "k3x9q2m7vd", false),
            ("k3x9q2m7vd", "k3x9q2m7ev", false),
            ("k3x9q2m7vd", "k3x9q2m7vdxx", false),
            ("", "a", true),
            ("", "", false),
        ] {
            assert_eq!(is_one_edit_away(left, right), is_one, "{left} {right}");
            assert_eq!(is_one_edit_away(right, left), is_one, "{right} {left}");
        }
    }

    #[test]
    fn only_a_repetition_that_explains_it_is_one() {
        // path.double-prefix
        let leads = |known: &'static str| move |path: &str| path == known;
        assert_eq!(without_repetition("/api/api/chat", leads("/api/chat")).as_deref(), Some("/api/chat"));
        assert_eq!(without_repetition("/a/b/a/b/chat", leads("/a/b/chat")).as_deref(), Some("/a/b/chat"));
        assert_eq!(without_repetition("/prod/prod", leads("/prod")).as_deref(), Some("/prod"));
        assert_eq!(without_repetition("/api/api/chat", leads("/chat")), None);
        assert_eq!(without_repetition("/api/chat", leads("/chat")), None);
        assert_eq!(without_repetition("", leads("/")), None);
    }
}
