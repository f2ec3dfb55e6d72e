//! A key set of an issuer: whether the tokens of the configuration can be verified with it.

use serde_json::json;
use tidegate_auth::jwt::{Algorithm, Jwks, check_set};
use tidegate_core::diagnosis::Diagnosis;

use super::definitions::worst;
use super::facts;
use crate::probe::clock::http_date;
use crate::report::{Confidence, Finding, Probe, Severity};

/// How far an issuer's clock may be behind, in seconds. Source: tokens of usual issuers live for this long at least.
const SHORTEST_LIFE: i64 = 300;

/// What is known of a key set.
#[derive(Debug, Clone, Copy)]
pub struct KeySetView<'a> {
    /// Position in `jwt.keys`.
    pub position: usize,
    /// Address, as it may be shown, or file.
    pub target: &'a str,
    /// It is a file: one that cannot be read is a wrong setting.
    pub is_file: bool,
    /// Algorithms that are permitted for it.
    pub algorithms: &'a [String],
    /// Weak symmetric keys are taken.
    pub allow_weak_secret: bool,
    /// Seconds that clocks may differ.
    pub leeway: u64,
    /// The set, or why there is none.
    pub set: Result<&'a Jwks, &'a str>,
    /// The `Date` of the answer and when it came, in milliseconds since 1970; none for files and answers of caches.
    pub date: Option<(&'a str, u64)>,
}

/// What was measured, and what is wrong.
pub fn check(view: &KeySetView<'_>) -> (Probe, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut measurements =
        facts([("target", view.target.into()), ("path", format!("jwt.keys[{}]", view.position).into())]);
    let about = |text: String| format!("{}: {text}", view.target);
    match view.set {
        Err(error) => {
            let known = facts([("target", view.target.into()), ("error", error.into())]);
            let diagnosis = match view.is_file {
                true => Diagnosis::CONFIG_INVALID_VALUE,
                false => Diagnosis::JWT_JWKS_UNREACHABLE,
            };
            findings.push(Finding::problem(diagnosis).seen(about(error.to_owned()), known));
        }
        Ok(set) => {
            let verifies = Algorithm::ALL.into_iter().filter(|algorithm| set.can_verify(*algorithm));
            let verifies: Vec<&str> = verifies.map(Algorithm::as_str).collect();
            let (n_keys, n_skipped) = (set.len(), set.n_skipped());
            let summary = format!("{n_keys} usable keys ({}), {n_skipped} skipped", verifies.join(", "));
            measurements.insert("summary".to_owned(), about(summary).into());
            measurements.insert("keys".to_owned(), n_keys.into());
            measurements.insert("skipped".to_owned(), n_skipped.into());
            measurements.insert("algorithms".to_owned(), json!(verifies));
            findings.extend(of_keys(view, set, &verifies));
        }
    }
    if let Some(ahead_ms) = view.date.and_then(|(date, at)| ahead(date, at)) {
        measurements.insert("clockAheadMs".to_owned(), ahead_ms.into());
        findings.extend(of_clock(view, ahead_ms / 1000));
    }
    (Probe { name: "key set".to_owned(), result: worst(&findings), measurements }, findings)
}

fn of_keys(view: &KeySetView<'_>, set: &Jwks, verifies: &[&str]) -> Option<Finding> {
    if set.is_empty() {
        let text = match set.n_skipped() {
            0 => "the key set is empty".to_owned(),
            n => format!("none of its {n} keys can verify a signature that is known here"),
        };
        let known = facts([("target", view.target.into()), ("error", text.as_str().into())]);
        let text = format!("{}: {text}", view.target);
        return Some(Finding::problem(Diagnosis::JWT_JWKS_UNREACHABLE).seen(text, known));
    }
    let permitted: Vec<Algorithm> =
        view.algorithms.iter().filter_map(|name| Algorithm::from_name(name)).collect();
    if let Err(error) = check_set(view.position, set, &permitted, view.allow_weak_secret) {
        let known = facts([("target", view.target.into())]);
        let text = format!("{}: the node does not take the set: {error}", view.target);
        return Some(Finding::problem(Diagnosis::CONFIG_WEAK_SECRET).seen(text, known));
    }
    if permitted.iter().any(|algorithm| set.can_verify(*algorithm)) {
        return None;
    }
    let text = format!(
        "{}: its keys are for {}, and jwt.keys[{}] permits {}: none of its tokens can be right",
        view.target,
        verifies.join(", "),
        view.position,
        view.algorithms.join(", ")
    );
    let known = facts([
        ("target", view.target.into()),
        ("algorithms", json!(verifies)),
        ("permitted", json!(view.algorithms)),
    ]);
    // The issuer may publish the right key a moment later.
    let finding = Finding::new(Diagnosis::JWT_ALG_NOT_ALLOWED, Severity::Problem, Confidence::Likely);
    Some(finding.seen(text, known))
}

/// Milliseconds by which the issuer's clock is ahead of this one. The header has whole seconds: on the average half of one
/// has passed since.
fn ahead(date: &str, received_at: u64) -> Option<i64> {
    let now = i64::try_from(received_at).ok()?;
    http_date(date)?.checked_mul(1000)?.checked_add(500)?.checked_sub(now)
}

/// A token from the future is refused at once, one from a clock that is behind only when it lives for a short time.
fn of_clock(view: &KeySetView<'_>, ahead: i64) -> Option<Finding> {
    let leeway = i64::try_from(view.leeway).unwrap_or(i64::MAX);
    let (diagnosis, text) = if ahead > leeway.saturating_add(1) {
        let text = format!(
            "{}: its clock is {ahead} s ahead of this one, and jwt.leeway is {leeway} s: fresh tokens come from the future",
            view.target
        );
        (Diagnosis::JWT_NOT_YET_VALID, text)
    } else if ahead < -leeway.saturating_add(SHORTEST_LIFE) {
        let text = format!(
            "{}: its clock is {} s behind this one, and jwt.leeway is {leeway} s: tokens that live for minutes have expired when they come",
            view.target, -ahead
        );
        (Diagnosis::JWT_EXPIRED, text)
    } else {
        return None;
    };
    let known = facts([("target", view.target.into()), ("aheadMs", ahead.saturating_mul(1000).into())]);
    Some(Finding::new(diagnosis, Severity::Warning, Confidence::Likely).seen(text, known))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::report::ProbeResult;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW: u64 = 784_111_777_000;

    fn ec() -> Value {
        // RFC 7515, appendix A.3.
        json!({ "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" })
    }

    fn jwks(keys: Value) -> Jwks {
        Jwks::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    fn look(
        set: Result<&Jwks, &str>,
        algorithms: &[&str],
        date: Option<(&str, u64)>,
    ) -> (Probe, Vec<Finding>) {
        let algorithms: Vec<String> = algorithms.iter().map(|&name| name.to_owned()).collect();
        check(&KeySetView {
            position: 0,
            target: "https://id.example/keys",
            is_file: false,
            algorithms: &algorithms,
            allow_weak_secret: false,
            leeway: 30,
            set,
            date,
        })
    }

    fn ids(found: &[Finding]) -> Vec<(&str, Severity, Confidence)> {
        found.iter().map(|found| (found.id.as_str(), found.severity, found.confidence)).collect()
    }

    #[test]
    fn a_set_is_measured_and_a_good_one_has_no_finding() {
        // DX-48
        let set = jwks(json!([ec(), { "kty": "EC", "crv": "P-521" }]));
        let (probe, found) =
            look(Ok(&set), &["RS256", "ES256"], Some(("Sun, 06 Nov 1994 08:49:37 GMT", NOW + 400)));
        assert_eq!((ids(&found), probe.result), (vec![], ProbeResult::Ok));
        let measured = Value::Object(probe.measurements);
        assert_eq!(
            measured,
            json!({ "target": "https://id.example/keys", "path": "jwt.keys[0]", "keys": 1, "skipped": 1,
                "algorithms": ["ES256"], "clockAheadMs": 100,
                "summary": "https://id.example/keys: 1 usable keys (ES256), 1 skipped" })
        );
    }

    #[test]
    fn a_set_that_verifies_no_token_is_a_problem() {
        // DX-48, jwt.jwks-unreachable
        use Confidence::{Likely, Proven};
        let unreachable = ("jwt.jwks-unreachable", Severity::Problem, Proven);
        let (probe, found) = look(Err("status 404"), &["ES256"], None);
        assert_eq!((ids(&found), probe.result), (vec![unreachable], ProbeResult::Problem));
        assert_eq!(found[0].evidence[0].facts["error"], "status 404");
        for empty in [json!([]), json!([{ "kty": "EC", "crv": "P-521" }])] {
            assert_eq!(ids(&look(Ok(&jwks(empty)), &["ES256"], None).1), [unreachable]);
        }
        let other = look(Ok(&jwks(json!([ec()]))), &["RS256"], None).1;
        assert_eq!(ids(&other), [("jwt.alg-not-allowed", Severity::Problem, Likely)]);
        let weak = jwks(json!([{ "kty": "oct", "k": "c2hvcnQ" }]));
        let found = look(Ok(&weak), &["HS256"], None).1;
        assert_eq!(ids(&found), [("config.weak-secret", Severity::Problem, Proven)]);
        assert!(!format!("{found:?}").contains("c2hvcnQ"), "{found:?}");
    }

    #[test]
    fn clocks_that_differ_are_told() {
        // DX-48
        let set = jwks(json!([ec()]));
        let at = |now: u64| {
            let found = look(Ok(&set), &["ES256"], Some(("Sun, 06 Nov 1994 08:49:37 GMT", now))).1;
            found.first().map(|finding| (finding.id.clone(), finding.severity, finding.confidence))
        };
        let told = |id: &str| Some((id.to_owned(), Severity::Warning, Confidence::Likely));
        assert_eq!(at(NOW - 30_000), None);
        assert_eq!(at(NOW - 40_000), told("jwt.not-yet-valid"));
        assert_eq!(at(NOW + 300_000), None);
        assert_eq!(at(NOW + 340_000), told("jwt.expired"));
        assert_eq!(look(Ok(&set), &["ES256"], Some(("yesterday", NOW))).1, []);
    }
}
