//! Probe 10: subprotocols, as the client offers them and as they are answered.

use tidegate_core::diagnosis::Diagnosis;

use super::wire::{Ask, Upgrade};
use super::{Outcome, Run, facts, signature, token};
use crate::report::Finding;

/// Names that scripts offer by accident.
const ACCIDENTS: [&str; 3] = ["null", "undefined", "[object Object]"];

pub(super) async fn run(run: &mut Run<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    if run.is_single_use() {
        return Outcome::skipped("a token for one connection cannot be used again");
    }
    let refused = run.opening.as_ref().is_some_and(|opening| opening.status != Some(101));
    let offered = run.options.subprotocols.clone();
    if refused && offered.is_empty() {
        return Outcome::skipped("the handshake is refused");
    }
    if offered.is_empty() && run.is_at_tidegate() {
        // Known without a handshake, which its journal would have to call a failure.
        outcome.summary("none offered; a Tidegate names only what its backend chose");
        return outcome;
    }
    let Some(ask) = run.ask() else { return outcome };
    let alone = Ask { deflate: false, ..ask };
    let (name, first) = match offered.is_empty() {
        // The literal name is what `null` in a script becomes.
        true => ("null", attempt(run, &alone, vec!["null".to_owned()]).await),
        false => ("given", attempt(run, &alone, offered.clone()).await),
    };
    outcome.measure(name, first.text());
    if !offered.is_empty() {
        let none = attempt(run, &alone, Vec::new()).await;
        outcome.measure("none", none.text());
        outcome.summary(format!("offered {}: {}; none: {}", offered.len(), first.text(), none.text()));
        if first.status == Some(101) {
            judge(run, &offered, first.chosen.as_deref());
        } else if none.status == Some(101) {
            run.notes.push(
                "with the offered subprotocols the handshake is refused, without any it opens".to_owned(),
            );
        }
    } else {
        outcome.summary(format!("none offered; the name `null` gives {}", first.text()));
    }
    outcome
}

struct Answered {
    status: Option<u16>,
    chosen: Option<String>,
}

impl Answered {
    fn text(&self) -> String {
        match (self.status, &self.chosen) {
            (Some(101), Some(_)) => "101 with a choice".to_owned(),
            (Some(101), None) => "101 without a choice".to_owned(),
            (Some(status), _) => status.to_string(),
            (None, _) => "no answer".to_owned(),
        }
    }
}

async fn attempt(run: &Run<'_>, ask: &Ask, subprotocols: Vec<String>) -> Answered {
    let Some(endpoint) = run.endpoint() else { return Answered { status: None, chosen: None } };
    let upgrade = run.net.upgrade(&endpoint, &Ask { subprotocols, ..ask.clone() }).await;
    let status = upgrade.status();
    let chosen = match upgrade {
        Upgrade::Open(socket) => {
            let chosen: Vec<&str> = socket.answer.all("sec-websocket-protocol").collect();
            let chosen = (!chosen.is_empty()).then(|| chosen.join(", "));
            socket.close().await;
            chosen
        }
        _ => None,
    };
    Answered { status, chosen }
}

/// Names as they may be shown.
fn shown(names: &[String]) -> Vec<String> {
    names
        .iter()
        .map(|name| if is_token(name) { "<token>".to_owned() } else { signature::shown(name) })
        .collect()
}

/// Is the name rather a token? Shape: a JSON Web Token, or a long word without a dash or a dot of a name.
fn is_token(name: &str) -> bool {
    let is_random = name.len() >= 32 && name.bytes().any(|byte| byte.is_ascii_digit());
    token::looks_like_jwt(name) || is_random
}

fn judge(run: &mut Run<'_>, offered: &[String], chosen: Option<&str>) {
    let all = |chosen: Option<&str>| {
        facts([
            ("offeredSubprotocols", shown(offered).into()),
            ("chosenSubprotocol", chosen.map(|name| shown(&[name.to_owned()]).remove(0)).into()),
        ])
    };
    let names = shown(offered).join(", ");
    let (diagnosis, evidence) = match chosen {
        None if offered.iter().any(|name| ACCIDENTS.contains(&name.as_str())) => (
            Diagnosis::SUBPROTOCOL_NULL,
            format!("Offered {names}, a value that was not there; the 101 names none."),
        ),
        None if offered.iter().any(|name| is_token(name)) => {
            (Diagnosis::SUBPROTOCOL_TOKEN, format!("Offered {names}; the 101 names none, so browsers close."))
        }
        None => (
            Diagnosis::SUBPROTOCOL_NOT_CONFIRMED,
            format!("Offered {names}; the 101 names none, so browsers close."),
        ),
        Some(chosen) if chosen.contains(',') => {
            (Diagnosis::SUBPROTOCOL_SEVERAL, format!("Offered {names}; the 101 names several."))
        }
        Some(chosen) if !offered.iter().any(|name| name == chosen) => (
            Diagnosis::SUBPROTOCOL_NOT_OFFERED,
            format!("Offered {names}; the 101 names {}.", shown(&[chosen.to_owned()]).remove(0)),
        ),
        Some(_) => return,
    };
    run.add(Finding::problem(diagnosis).seen(evidence, all(chosen)).next(run.again("subprotocol")));
}
