//! Probe 12: does an open connection stay open?

use std::time::Duration;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::wire::{Event, Upgrade};
use super::{Outcome, Run, facts, likely, millis};
use crate::report::{Confidence, Finding, Severity};

/// Connections that are held.
const COUNT: usize = 3;

/// How long they are held, in seconds. Source: DX-31.
pub(super) const HOLD_SECONDS: u32 = 10;

/// A connection that ends sooner than this ended by itself. The catalogue says 100 ms at the server.
const AT_ONCE: Duration = Duration::from_millis(500);

pub(super) async fn run(run: &mut Run<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    if run.is_single_use() {
        return Outcome::skipped("a token for one connection cannot be used again");
    }
    if run.opening.as_ref().is_some_and(|opening| opening.status != Some(101)) {
        return Outcome::skipped("the handshake does not open");
    }
    let (Some(endpoint), Some(ask)) = (run.endpoint(), run.ask()) else { return outcome };
    let hold = run.options.surroundings.second * HOLD_SECONDS;
    (run.progress)(&format!("stability: {COUNT} connections are held {} s", hold.as_secs()));
    let mut tasks = JoinSet::new();
    for _ in 0..COUNT {
        let (net, endpoint, ask) = (run.net.clone(), endpoint.clone(), ask.clone());
        tasks.spawn(async move {
            match net.upgrade(&endpoint, &ask).await {
                Upgrade::Open(mut socket) => {
                    let is_tidegate = socket.answer.is_tidegate();
                    let deadline = Instant::now() + hold;
                    let end = loop {
                        let event = socket.next(deadline).await;
                        if event.is_end() || event == Event::Nothing {
                            break event;
                        }
                    };
                    let lived = socket.opened.elapsed();
                    if end == Event::Nothing {
                        socket.close().await;
                    }
                    Held { status: Some(101), end: Some(end), lived, is_tidegate }
                }
                other => {
                    let is_tidegate = other.answer().is_some_and(super::wire::Answer::is_tidegate);
                    Held { status: other.status(), end: None, lived: Duration::ZERO, is_tidegate }
                }
            }
        });
    }
    let held: Vec<Held> = tasks.join_all().await;
    let measured: Vec<_> = held
        .iter()
        .map(|held| {
            let end = held.end.as_ref().map_or_else(|| "not opened".to_owned(), Event::summary);
            json!({ "status": held.status, "livedMs": millis(held.lived), "end": end })
        })
        .collect();
    outcome.measure("connections", measured);
    judge(run, &mut outcome, &held, hold);
    outcome
}

struct Held {
    status: Option<u16>,
    end: Option<Event>,
    lived: Duration,
    is_tidegate: bool,
}

pub(super) fn reason_too_long(run: &mut Run<'_>) {
    run.add(
        Finding::problem(Diagnosis::APP_REASON_TOO_LONG)
            .seen(
                "The server's close frame has more than 125 bytes, which no client accepts.",
                facts([("limit", 123.into())]),
            )
            .next(run.again("stability")),
    );
}

fn judge(run: &mut Run<'_>, outcome: &mut Outcome, held: &[Held], hold: Duration) {
    let open: Vec<&Held> = held.iter().filter(|held| held.end.is_some()).collect();
    let refused: Vec<&Held> = held.iter().filter(|held| held.end.is_none()).collect();
    if open.is_empty() {
        outcome.inconclusive("none of the connections opened");
        return;
    }
    let kept = open.iter().filter(|held| held.end == Some(Event::Nothing)).count();
    if kept == held.len() {
        outcome.summary(format!("{kept} connections stayed open for {} s", hold.as_secs()));
        return;
    }
    if !refused.is_empty() && refused.iter().any(|held| !held.is_tidegate && held.status != Some(429)) {
        let statuses: Vec<_> = refused.iter().map(|held| held.status).collect();
        run.add(
            Finding::new(Diagnosis::PROXY_CAPACITY, Severity::Warning, Confidence::Likely)
                .seen(
                    format!(
                        "Of {} connections at the same time {} opened; one alone opens.",
                        held.len(),
                        open.len()
                    ),
                    facts([("count", open.len().into()), ("status", json!(statuses))]),
                )
                .next(run.again("handshake,stability")),
        );
    }
    let is_tidegate = open.iter().any(|held| held.is_tidegate);
    let at_once: Vec<&&Held> =
        open.iter().filter(|held| held.end != Some(Event::Nothing) && held.lived < AT_ONCE).collect();
    if open.iter().any(|held| held.end == Some(Event::CloseTooLong)) {
        reason_too_long(run);
    } else if open.iter().any(|held| held.end == Some(Event::Injected)) {
        super::upgrade_path::injected(run, "stability");
    } else if at_once.len() == open.len() {
        ended_at_once(run, &at_once, is_tidegate);
    } else {
        let lost: Vec<&&Held> = open.iter().filter(|held| held.end == Some(Event::Lost)).collect();
        let Some(first) = lost.first() else {
            if kept < open.len() {
                outcome.inconclusive("the server closed a silent connection; see the measurements");
            }
            return;
        };
        let spread = lost.iter().map(|held| held.lived).max().unwrap_or_default()
            - lost.iter().map(|held| held.lived).min().unwrap_or_default();
        // All at the same age is a limit on the way; else it may be anything.
        let diagnosis = match lost.len() == held.len() && spread < AT_ONCE {
            true => Diagnosis::PROXY_IDLE_OTHER,
            false => Diagnosis::CONN_RESET,
        };
        run.add(
            Finding::new(diagnosis, Severity::Problem, Confidence::Likely)
                .seen(
                    format!(
                        "{} of {} silent connections ended without a close frame, the first after {} ms.",
                        lost.len(),
                        held.len(),
                        millis(first.lived)
                    ),
                    facts([("ageMs", millis(first.lived).into()), ("count", lost.len().into())]),
                )
                .next(run.again_with("--idle --only idle")),
        );
    }
}

fn ended_at_once(run: &mut Run<'_>, held: &[&&Held], is_tidegate: bool) {
    let end = held.first().and_then(|held| held.end.clone()).unwrap_or(Event::Lost);
    let lived = held.iter().map(|held| held.lived).max().unwrap_or_default();
    let evidence = format!(
        "All {} connections opened and ended within {} ms: {}.",
        held.len(),
        millis(lived),
        end.summary()
    );
    let shown = |code: u16| facts([("ageMs", millis(lived).into()), ("closeCode", code.into())]);
    match end {
        _ if is_tidegate => {
            let code = if let Event::Closed { code: Some(code), .. } = end { code } else { 1006 };
            run.add(
                likely(Diagnosis::CLOSE_REFUSED_AFTER_OPEN)
                    .seen(evidence, shown(code))
                    .next("tidegate explain --last"),
            );
        }
        Event::Closed { code: Some(1011), .. } => run.add(
            Finding::problem(Diagnosis::APP_EXCEPTION_AFTER_ACCEPT)
                .seen(evidence, shown(1011))
                .next(run.again("auth,stability")),
        ),
        Event::Closed { code, .. } => run.add(
            likely(Diagnosis::CLOSE_REFUSED_AFTER_OPEN)
                .seen(evidence, shown(code.unwrap_or(1005)))
                .next(run.again("auth,stability")),
        ),
        // Which of them it is stands in the server's log only.
        _ => {
            for diagnosis in [
                Diagnosis::APP_DOUBLE_ACCEPT,
                Diagnosis::APP_EXCEPTION_AFTER_ACCEPT,
                Diagnosis::APP_REASON_TOO_LONG,
            ] {
                let finding = match diagnosis == Diagnosis::APP_REASON_TOO_LONG {
                    true => super::possible(diagnosis),
                    false => likely(diagnosis),
                };
                run.add(finding.seen(evidence.clone(), shown(1006)).next(run.again("auth,stability")));
            }
        }
    }
}
