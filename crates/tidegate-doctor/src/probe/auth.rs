//! Probe 9: the handshake with and without each thing that may be checked.

use serde_json::{Map, Value, json};
use tidegate_core::diagnosis::Diagnosis;

use super::wire::{Answer, Ask, Request, Upgrade};
use super::{Opening, Outcome, Run, facts, likely};
use crate::report::{Confidence, Finding, Severity};

/// What one variant came to.
struct Variant {
    name: &'static str,
    status: Option<u16>,
    is_empty: bool,
    is_tidegate: bool,
}

pub(super) async fn run(run: &mut Run<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    if run.opening.is_none() {
        // Asked for alone: the handshake as the client does it is what all is compared with.
        let _ = super::handshake::run(run).await;
    }
    let (Some(opening), Some(ask), Some(target)) = (run.opening.clone(), run.ask(), run.target().cloned())
    else {
        outcome.inconclusive("there is no handshake to compare with");
        return outcome;
    };
    let opened = opening.status == Some(101);
    let mut variants: Vec<Variant> = Vec::new();
    if let Some(token) = target.token.clone() {
        if !opening.without_token {
            let none = Ask { target: target.without_token(), ..ask.clone() };
            variants.push(attempt(run, "without token", &none).await);
        }
        let broken = Ask { target: target.with_token(&token.broken()), ..ask.clone() };
        variants.push(attempt(run, "with a broken token", &broken).await);
        if token.is_jwt() {
            let mut moved = Ask { target: target.without_token(), ..ask.clone() };
            moved.headers.push(("Authorization".to_owned(), format!("Bearer {}", token.value.expose())));
            variants.push(attempt(run, "with the token in a header", &moved).await);
        }
    }
    let is_spared = opening.without_token;
    if !opened && !is_spared && matches!(opening.status, Some(400 | 401 | 403)) {
        let without = |headers: &[(String, String)]| -> Vec<(String, String)> {
            headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("origin")).cloned().collect()
        };
        let own = target.own_origin();
        if run.origin().is_some() {
            let none = Ask { headers: without(&ask.headers), ..ask.clone() };
            variants.push(attempt(run, "without Origin", &none).await);
        }
        if run.origin().as_deref() != Some(own.as_str()) {
            let mut headers = without(&ask.headers);
            headers.push(("Origin".to_owned(), own));
            variants.push(attempt(run, "with the host's own Origin", &Ask { headers, ..ask.clone() }).await);
        }
    }
    let measured: Map<String, Value> = std::iter::once(("as given".to_owned(), json!(opening.status)))
        .chain(variants.iter().map(|variant| (variant.name.to_owned(), json!(variant.status))))
        .collect();
    outcome.summary(
        measured.iter().map(|(name, status)| format!("{name}: {status}")).collect::<Vec<_>>().join(", "),
    );
    outcome.measure("variants", measured);
    let dry = match opening.is_tidegate {
        true => dry_run(run, &ask).await,
        false => None,
    };
    if let Some(answer) = &dry {
        outcome.measure("dryRun", answer.status);
    }
    let is_told = dry.is_some_and(|answer| judge_dry_run(run, &mut outcome, &opening, &answer));
    judge_origin(run, &opening, &variants);
    judge_token(run, &opening, &variants);
    judge_failure(run, &opening, &variants);
    if is_spared && !is_told {
        outcome.inconclusive("the token is good for one connection and was not used; --spend-token uses it");
    }
    outcome
}

/// Asks a Tidegate what its checks say, with the token: a dry run opens nothing and uses nothing up.
async fn dry_run(run: &Run<'_>, ask: &Ask) -> Option<Answer> {
    let endpoint = run.endpoint()?;
    let mut request = Request::get(run.target()?.request_target()).with(&ask.headers);
    request.headers.push(("Tidegate-Check".to_owned(), "1".to_owned()));
    run.net.send(&endpoint, &request).await.ok()
}

/// What the dry run says beyond the handshake; answers whether it said anything. A node of an older version takes it for
/// a request that is no handshake.
fn judge_dry_run(run: &mut Run<'_>, outcome: &mut Outcome, opening: &Opening, answer: &Answer) -> bool {
    let body = answer.json().unwrap_or_default();
    if answer.status == 200 && body["ok"] == true {
        if opening.without_token {
            outcome.summary("a dry run with the token passes; the token was not used up");
        }
        return true;
    }
    let Some(check) = body["check"].as_str() else { return false };
    outcome.measure("dryRunCheck", super::signature::shown(check));
    if opening.without_token {
        // The handshake was tried without the token, so nothing was said about it yet.
        if let Some(opening) = &mut run.opening {
            opening.check = Some(check.to_owned());
        }
        super::handshake::of_the_gateway(run, answer);
    }
    true
}

async fn attempt(run: &Run<'_>, name: &'static str, ask: &Ask) -> Variant {
    let Some(endpoint) = run.endpoint() else {
        return Variant { name, status: None, is_empty: false, is_tidegate: false };
    };
    let upgrade = run.net.upgrade(&endpoint, ask).await;
    let answer = upgrade.answer();
    let variant = Variant {
        name,
        status: upgrade.status(),
        is_empty: answer.is_some_and(|answer| answer.body.is_empty()),
        is_tidegate: answer.is_some_and(super::wire::Answer::is_tidegate),
    };
    if let Upgrade::Open(socket) = upgrade {
        socket.close().await;
    }
    variant
}

fn judge_origin(run: &mut Run<'_>, opening: &Opening, variants: &[Variant]) {
    let opens =
        |name: &str| variants.iter().any(|variant| variant.name == name && variant.status == Some(101));
    let (own, none) = (opens("with the host's own Origin"), opens("without Origin"));
    if !own && !none {
        return;
    }
    let sent = run.origin();
    let status = opening.status.unwrap_or_default();
    let how = if own { "with the host's own" } else { "without" };
    let evidence = match &sent {
        Some(origin) => format!("{status} with `Origin: {origin}`, 101 {how} Origin."),
        None => format!("{status} without Origin, 101 with the host's own Origin."),
    };
    let diagnosis = match opening.is_tidegate {
        true => Diagnosis::ORIGIN_NOT_ALLOWED,
        false => Diagnosis::BYPASS_ORIGIN_VALIDATOR,
    };
    let finding = Finding::problem(diagnosis)
        .seen(evidence, facts([("origin", sent.into()), ("status", status.into())]))
        .next(run.again_with("--origin ORIGIN --only handshake,auth"));
    // It opens with another Origin: the path exists, and what refused is known now.
    // What the refusal alone only suggested.
    let suggested = [
        Diagnosis::BYPASS_UNKNOWN_ROUTE_403,
        Diagnosis::BYPASS_CLOSE_BEFORE_ACCEPT,
        Diagnosis::BYPASS_NOT_THE_GATEWAY,
        Diagnosis::AUTHORIZER_DENIED,
        diagnosis,
    ];
    run.findings.retain(|finding| suggested.iter().all(|wrong| wrong.as_str() != finding.id));
    run.add(finding);
}

/// A foreign application that refuses before it accepts hides why.
fn judge_token(run: &mut Run<'_>, opening: &Opening, variants: &[Variant]) {
    let hidden = variants.iter().find(|variant| {
        variant.status == Some(403)
            && variant.is_empty
            && !variant.is_tidegate
            && matches!(variant.name, "without token" | "with a broken token")
    });
    let (Some(hidden), Some(101), false) = (hidden, opening.status, opening.is_tidegate) else { return };
    let evidence = format!("101 with the token, 403 with an empty body {}.", hidden.name);
    let path = run.target().map(|target| target.path().to_ascii_lowercase()).unwrap_or_default();
    let shown = facts([("status", 403.into()), ("length", 0.into())]);
    // It works with the right token; that the reason is hidden is good to know.
    run.add(
        Finding::new(Diagnosis::BYPASS_CLOSE_BEFORE_ACCEPT, Severity::Info, Confidence::Proven)
            .seen(evidence.clone(), shown.clone())
            .next("tidegate explain bypass.close-before-accept"),
    );
    if path.split('/').any(|segment| segment.contains("chat")) {
        run.add(
            Finding::new(Diagnosis::CHAT_AUTH_HIDDEN, Severity::Info, Confidence::Proven)
                .seen(evidence, shown)
                .next("tidegate explain chat.auth-hidden"),
        );
    }
}

/// 500 whatever the token: it is not the token.
fn judge_failure(run: &mut Run<'_>, opening: &Opening, variants: &[Variant]) {
    let is_here_only = opening.random_status.is_some_and(|status| status != 500);
    if opening.status != Some(500) || opening.is_tidegate || !is_here_only {
        return;
    }
    let all_fail = variants
        .iter()
        .filter(|variant| matches!(variant.name, "without token" | "with a broken token"))
        .all(|variant| variant.status == Some(500));
    if !all_fail {
        return;
    }
    run.findings.retain(|finding| finding.id != Diagnosis::BYPASS_NOT_THE_GATEWAY.as_str());
    let tried = if variants.is_empty() { "without a token" } else { "with and without a token" };
    run.add(
        likely(Diagnosis::APP_DEPENDENCY_INJECTION)
            .seen(
                format!("500 {tried}, and only for this path: the application fails before its own check."),
                facts([("status", 500.into())]),
            )
            .next(run.again("handshake,auth")),
    );
}
