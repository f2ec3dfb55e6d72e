//! Probe 7: an upgrade to the probe endpoint, through the same proxies: what arrives, what comes back.

use serde_json::Value;
use tidegate_core::diagnosis::Diagnosis;
use tokio::time::Instant;

use super::wire::{Ask, Event, Socket, Upgrade};
use super::{Identity, Outcome, Run, facts, likely};
use crate::report::Finding;

pub(super) async fn run(run: &mut Run<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    if run.identity == Identity::Unknown {
        let _ = super::identity::learn(run).await;
    }
    if run.identity == Identity::Foreign {
        return Outcome::skipped("the server has no probe endpoint; the handshake shows what it shows");
    }
    let Some(endpoint) = run.endpoint() else { return outcome };
    let ask = |deflate| Ask { target: run.probe_target(), deflate, ..Ask::default() };
    let with = run.net.upgrade(&endpoint, &ask(true)).await;
    let without = run.net.upgrade(&endpoint, &ask(false)).await;
    outcome.measure("withExtensions", with.summary());
    outcome.measure("withoutExtensions", without.summary());
    run.probe_path_opens = Some(without.is_open() || with.is_open());
    let mut echoes = Vec::new();
    for (name, upgrade) in [("withExtensions", with), ("withoutExtensions", without)] {
        match upgrade {
            Upgrade::Open(mut socket) => {
                judge_head(run, &socket, "upgrade-path");
                let is_deflated = socket.is_deflated;
                let echo = echo(&mut socket, run).await;
                outcome.measure(&format!("{name}Echo"), echo.summary());
                if echo == Event::Injected {
                    injected(run, "upgrade-path");
                }
                echoes.push((is_deflated, echo));
                socket.close().await;
            }
            Upgrade::Answered(answer) => {
                let body = super::identity::arrival(&answer.json().unwrap_or_default());
                judge_arrival(run, &body, answer.status, answer.is_tidegate());
            }
            Upgrade::Failed(trouble) => {
                outcome.inconclusive(format!("upgrade to the probe path: {trouble}"));
            }
        }
    }
    if let [(true, with), (false, without)] = echoes.as_slice() {
        let works = |event: &Event| matches!(event, Event::Text(_));
        if works(without) && !works(with) && *with != Event::Injected {
            run.add(
                Finding::problem(Diagnosis::PROXY_DEFLATE_BROKEN)
                    .seen(
                        format!(
                            "With permessage-deflate agreed on, a message came back as: {}; without it, as it was sent.",
                            with.summary()
                        ),
                        facts([("extensions", "permessage-deflate".into()), ("detail", with.summary().into())]),
                    )
                    .next(run.again("upgrade-path")),
            );
        }
    }
    if let Some(true) = run.probe_path_opens {
        outcome.summary("upgrades arrive whole");
    }
    outcome
}

/// One message there and back; compressed where that was agreed on.
async fn echo(socket: &mut Socket, run: &Run<'_>) -> Event {
    // Long enough to be compressed, and worth it.
    let text = "tidegate-doctor ".repeat(32);
    if !socket.text(&text).await {
        return Event::Lost;
    }
    match socket.next(Instant::now() + run.net.timeout).await {
        Event::Text(back) if back == text => Event::Text(back),
        // Not what was sent: as good as broken.
        Event::Text(back) => Event::Binary(back.len()),
        other => other,
    }
}

/// The upgrade was answered as a plain request: what of it arrived?
fn judge_arrival(run: &mut Run<'_>, body: &Value, status: u16, is_tidegate: bool) {
    let names: Vec<String> = body
        .get("headerNames")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|name| Some(name.as_str()?.to_ascii_lowercase()))
        .collect();
    let version = body.get("version").and_then(Value::as_str).unwrap_or_default();
    let upgrade_present = body.get("upgrade").is_some_and(|upgrade| !upgrade.is_null());
    let knows = body.get("method").is_some();
    let shown = facts([
        ("status", status.into()),
        ("httpVersion", if knows { version.into() } else { Value::Null }),
        ("upgradePresent", if knows { upgrade_present.into() } else { Value::Null }),
        ("headerNames", names.clone().into()),
        ("peer", body.get("peer").cloned().unwrap_or_default()),
    ]);
    if knows && version.ends_with("1.0") {
        run.add(
            Finding::problem(Diagnosis::PROXY_HTTP10)
                .seen("The upgrade was sent as HTTP/1.1 and arrived as HTTP/1.0.", shown.clone())
                .next(run.again("upgrade-path,handshake")),
        );
    }
    if knows && !upgrade_present {
        let key = match names.iter().any(|name| name == "sec-websocket-key") {
            true => "Sec-WebSocket-Key arrived, Upgrade did not.",
            false => "Neither Upgrade nor Sec-WebSocket-Key arrived.",
        };
        run.add(
            Finding::problem(Diagnosis::PROXY_UPGRADE_STRIPPED)
                .seen(format!("{key} The request arrived as {version}."), shown)
                .next(run.again("upgrade-path,handshake")),
        );
    } else if !knows && is_tidegate && status == 426 {
        stripped(run, status);
    }
}

/// A Tidegate answers a proper upgrade with 426: something on the way changed it.
pub(super) fn stripped(run: &mut Run<'_>, status: u16) {
    let text = "A complete upgrade was sent, and the gateway saw none: it answered 426.";
    let shown = || facts([("status", status.into())]);
    if run.has(Diagnosis::PROXY_UPGRADE_STRIPPED) || run.has(Diagnosis::PROXY_HTTP10) {
        return;
    }
    for diagnosis in [Diagnosis::PROXY_UPGRADE_STRIPPED, Diagnosis::PROXY_HTTP10] {
        let finding = likely(diagnosis).seen(text, shown());
        run.add(finding.next(run.again_with("--only identity,upgrade-path --admin URL")));
    }
}

/// What a 101 must have. Source: RFC 6455, section 4.1.
pub(super) fn judge_head(run: &mut Run<'_>, socket: &Socket, probe: &str) {
    let missing: Vec<&str> = [("Upgrade", socket.has_upgrade), ("Connection", socket.has_connection)]
        .into_iter()
        .filter_map(|(name, is_there)| (!is_there).then_some(name))
        .collect();
    if !missing.is_empty() {
        let names: Vec<String> =
            socket.answer.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        run.add(
            Finding::problem(Diagnosis::PROXY_RESPONSE_STRIPPED)
                .seen(
                    format!("The 101 came without {}; browsers then refuse it.", missing.join(" and ")),
                    facts([("headerNames", names.into()), ("status", 101.into())]),
                )
                .next(run.again(probe)),
        );
    }
    if !socket.accept_fits {
        run.notes.push(
            "the 101's Sec-WebSocket-Accept does not fit the key that was sent: a browser refuses it"
                .to_owned(),
        );
    }
}

/// An HTTP answer came where frames belong.
pub(super) fn injected(run: &mut Run<'_>, probe: &str) {
    run.add(
        Finding::problem(Diagnosis::PROXY_INJECTED_BYTES)
            .seen("The first bytes after the 101 are `HTTP/1.`.", facts([("status", 101.into())]))
            .next(run.again(probe)),
    );
}
