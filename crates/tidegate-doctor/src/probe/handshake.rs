//! Probe 8: the handshake of the real URL, and who refuses it for which reason.

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_core::diagnosis::Diagnosis;
use tokio::time::Instant;

use super::signature::{self, Kind};
use super::wire::{Answer, Ask, Endpoint, Event, Request, Trouble, Upgrade};
use super::{Identity, Opening, Outcome, Run, facts, likely, possible, upgrade_path};
use crate::report::{ClientSaw, Finding};

/// A URL beyond this may be too long for somebody, in bytes: half of the usual 8 KB for all headers.
const LONG: usize = 4096;

pub(super) async fn run(run: &mut Run<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let (Some(endpoint), Some(ask)) = (run.endpoint(), run.ask()) else { return outcome };
    let upgrade = run.net.upgrade(&endpoint, &ask).await;
    outcome.measure("status", upgrade.status());
    outcome
        .measure("server", upgrade.answer().and_then(|answer| answer.header("server")).map(signature::shown));
    outcome.measure(
        "requestId",
        upgrade.answer().and_then(|answer| answer.header("tidegate-request-id")).map(signature::shown),
    );
    let mut opening =
        Opening { status: upgrade.status(), without_token: run.spares_token(), ..Opening::default() };
    if let Some(answer) = upgrade.answer() {
        opening.is_tidegate = answer.is_tidegate();
        opening.is_empty = answer.body.is_empty();
        opening.check = answer.json().and_then(|body| Some(body.get("check")?.as_str()?.to_owned()));
        outcome.measure("ms", super::millis(answer.waited));
    }
    run.opening = Some(opening);
    match upgrade {
        Upgrade::Open(mut socket) => {
            outcome
                .measure("subprotocol", socket.answer.header("sec-websocket-protocol").map(signature::shown));
            outcome.measure("compression", socket.is_deflated);
            outcome.summary("opened (101)");
            upgrade_path::judge_head(run, &socket, "handshake");
            // What is written right behind the 101 is here within a moment; whoever greets later is no matter.
            let early = socket.next(Instant::now() + Duration::from_millis(200)).await;
            if early == Event::Injected {
                upgrade_path::injected(run, "handshake");
            }
            if run.is_single_use() {
                run.open = Some(socket);
            } else {
                socket.close().await;
            }
            compare_with_public(run, &ask).await;
        }
        Upgrade::Answered(answer) => {
            outcome.measure("contentType", answer.header("content-type").map(signature::shown));
            outcome.measure("length", answer.body.len());
            outcome.summary(format!("refused with {}", answer.status));
            if run.spares_token() && matches!(answer.status, 400 | 401 | 403) {
                outcome.inconclusive(
                    "the token is good for one connection and was not used; --spend-token uses it",
                );
                return outcome;
            }
            let before = run.findings.len();
            judge_refusal(run, &endpoint, &ask, &answer).await;
            for finding in &mut run.findings[before..] {
                finding.client_saw =
                    Some(ClientSaw { status: Some(answer.status), close_code: Some(1006), text: None });
                if let Some(request_id) = answer.header("tidegate-request-id") {
                    finding.request_id = Some(signature::shown(request_id));
                    finding.next.insert(0, format!("tidegate explain {}", signature::shown(request_id)));
                }
            }
        }
        Upgrade::Failed(trouble) => {
            outcome.inconclusive(format!("no answer to the handshake: {trouble}"));
            filtered(run, &endpoint, &ask, &trouble.to_string()).await;
            if trouble != Trouble::Budget {
                outcome.stop(format!("no answer to the handshake: {trouble}"));
            }
        }
    }
    outcome
}

async fn judge_refusal(run: &mut Run<'_>, endpoint: &Endpoint, ask: &Ask, answer: &Answer) {
    let before = run.findings.len();
    let status = answer.status;
    let server = answer.header("server").map(signature::shown);
    let shown = || {
        facts([
            ("status", status.into()),
            ("server", server.clone().into()),
            ("contentType", answer.header("content-type").map(signature::shown).into()),
            ("length", answer.body.len().into()),
        ])
    };
    let by = server.clone().map_or_else(String::new, |server| format!(" by {server}"));
    let foreign = !answer.is_tidegate();

    if foreign && let Some(mark) = signature::challenge(answer) {
        let cdn = signature::cdn(answer).unwrap_or("a filter");
        let diagnosis = Diagnosis::PROXY_BOT_PROTECTION;
        let finding = match signature::cdn(answer) {
            Some(_) => Finding::problem(diagnosis),
            None => likely(diagnosis),
        };
        run.add(
            finding
                .seen(format!("{status} from {cdn}, with a challenge ({mark})."), shown())
                .next(run.again("handshake")),
        );
        return;
    }
    match status {
        300..=399 if foreign => {
            let location =
                answer.header("location").map(|location| signature::shown(&super::masked(location)));
            let mut facts_of = shown();
            facts_of.insert("location".to_owned(), location.clone().into());
            run.add(
                Finding::problem(Diagnosis::PROXY_REDIRECT)
                    .seen(
                        format!("{status}{by} to {}; it was not followed.", location.unwrap_or_default()),
                        facts_of,
                    )
                    .next(run.again("handshake")),
            );
        }
        200 if foreign && answer.is_html() => {
            run.add(
                Finding::problem(Diagnosis::PROXY_HTML_200)
                    .seen(format!("The handshake was answered with a page{by}: 200, text/html."), shown())
                    .next(run.again("handshake")),
            );
        }
        502 if foreign => {
            let arrives_as_h2 = match &run.identity {
                Identity::Full(members) => members
                    .get("version")
                    .and_then(serde_json::Value::as_str)
                    .is_some_and(|version| version.trim_start_matches("HTTP/").starts_with('2')),
                _ => false,
            };
            let finding = match arrives_as_h2 {
                true => Finding::problem(Diagnosis::PROXY_H2_UPSTREAM).seen(
                    format!("Plain requests reach the gateway as HTTP/2; the upgrade gets 502{by}."),
                    shown(),
                ),
                false => Finding::problem(Diagnosis::PROXY_BAD_GATEWAY)
                    .seen(format!("502{by}, without a header of Tidegate."), shown()),
            };
            run.add(finding.next(run.again("tcp,identity,handshake")));
        }
        504 if foreign => run.add(
            Finding::problem(Diagnosis::PROXY_GATEWAY_TIMEOUT)
                .seen(
                    format!(
                        "504{by} after {} ms, without a header of Tidegate.",
                        super::millis(answer.waited)
                    ),
                    shown(),
                )
                .next(run.again_with("--only handshake --timeout 60s")),
        ),
        413 | 414 | 431 => too_long(run, answer, &by),
        400 if run.target().is_some_and(|target| target.length() >= LONG) => {
            let short = Ask {
                target: run.target().map(|target| target.path().to_owned()).unwrap_or_default(),
                ..ask.clone()
            };
            let shorter = run.net.upgrade(endpoint, &short).await;
            if shorter.status() != Some(400) {
                too_long(run, answer, &by);
            }
        }
        _ => {}
    }
    if run.findings.len() > before {
        return;
    }
    if matches!(status, 400 | 426) {
        malformed(run, answer, shown());
    }
    if run.findings.len() == before
        && matches!(status, 400 | 405 | 426 | 501)
        && foreign
        && let Some(cdn) = signature::cdn(answer)
    {
        run.add(
            likely(Diagnosis::PROXY_WEBSOCKETS_OFF)
                .seen(format!("{status} from {cdn}."), shown())
                .next(run.again_with("--resolve HOST:PORT:ADDRESS-OF-THE-ORIGIN")),
        );
    }
    if run.findings.len() == before && status == 426 && answer.is_tidegate() {
        match run.probe_path_opens {
            // The same proxy upgrades another path, so the rule for this one is missing.
            Some(true) => location_mismatch(run, ask.target.split('?').next().unwrap_or_default(), status),
            _ => upgrade_path::stripped(run, status),
        }
        return;
    }
    if run.findings.len() == before {
        other_paths(run, endpoint, ask, answer).await;
    }
    if run.findings.len() == before && foreign {
        filtered(run, endpoint, ask, &format!("it is answered with {status}")).await;
    }
    if run.findings.len() > before {
        return;
    }
    match foreign {
        true => run.add(
            Finding::problem(Diagnosis::BYPASS_NOT_THE_GATEWAY)
                .seen(
                    format!(
                        "{status}{by}; neither this answer nor the probe path has anything of a Tidegate."
                    ),
                    shown(),
                )
                .next(run.again("dns,identity,handshake")),
        ),
        false => of_the_gateway(run, answer),
    }
}

fn too_long(run: &mut Run<'_>, answer: &Answer, by: &str) {
    let length = run.target().map(super::url::Target::length).unwrap_or_default();
    run.add(
        Finding::problem(Diagnosis::HANDSHAKE_URL_TOO_LONG)
            .seen(
                format!("{}{by}; path and query have {length} bytes.", answer.status),
                facts([
                    ("status", answer.status.into()),
                    ("urlLength", length.into()),
                    ("server", answer.header("server").map(signature::shown).into()),
                ]),
            )
            .next(run.again("handshake")),
    );
}

/// The server says that the upgrade itself is wrong.
fn malformed(run: &mut Run<'_>, answer: &Answer, mut shown: serde_json::Map<String, serde_json::Value>) {
    let sent =
        run.options.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-version"));
    let sent_version = sent.map_or("13", |(_, version)| version.as_str()).to_owned();
    let wanted = answer.header("sec-websocket-version").map(signature::shown);
    let text = answer.text().to_ascii_lowercase();
    let names_key = text.contains("sec-websocket-key") || text.contains("sec-websocket-version");
    let is_version = wanted
        .as_ref()
        .is_some_and(|wanted| !wanted.split(',').any(|version| version.trim() == sent_version));
    let says_so = is_version || (names_key && answer.body.len() < 1000);
    if !says_so {
        return;
    }
    shown.insert("version".to_owned(), wanted.clone().into());
    let evidence = match wanted {
        Some(wanted) if is_version => {
            format!("Sent version {sent_version}; the server answers {} and takes {wanted}.", answer.status)
        }
        _ => format!(
            "{}: the server misses Sec-WebSocket-Key or -Version, or does not like it.",
            answer.status
        ),
    };
    run.add(
        Finding::problem(Diagnosis::HANDSHAKE_MALFORMED)
            .seen(evidence, shown)
            .next(run.again("upgrade-path,handshake")),
    );
}

/// The proxy upgrades the probe path and not this one.
fn location_mismatch(run: &mut Run<'_>, path: &str, status: u16) {
    let text = format!("The probe path is upgraded through the same proxy, {path} gets {status}.");
    let shown =
        facts([("path", path.into()), ("nearest", super::PROBE_PATH.into()), ("status", status.into())]);
    let finding = Finding::problem(Diagnosis::PROXY_LOCATION_MISMATCH).seen(text, shown);
    run.add(finding.next(run.again("upgrade-path,handshake")));
}

/// What the same server says about other paths: that separates a wrong path from a refusal.
async fn other_paths(run: &mut Run<'_>, endpoint: &Endpoint, ask: &Ask, answer: &Answer) {
    let Some(target) = run.target().cloned() else { return };
    let status = answer.status;
    let foreign = !answer.is_tidegate();
    let to = |path: &str| Ask { target: target.with_path(path), ..ask.clone() };
    let at = |path: &str| {
        facts([("path", target.path().into()), ("nearest", path.into()), ("status", status.into())])
    };

    if let Some(path) = target.without_repetition() {
        let shorter = run.net.upgrade(endpoint, &to(&path)).await;
        if shorter.status() != Some(status) && !matches!(shorter, Upgrade::Failed(_)) {
            let finding = match shorter.is_open() {
                true => Finding::problem(Diagnosis::PATH_DOUBLE_PREFIX),
                false => likely(Diagnosis::PATH_DOUBLE_PREFIX),
            };
            let evidence =
                format!("{} is answered with {status}, {path} with {}.", target.path(), shorter.summary());
            run.add(finding.seen(evidence, at(&path)).next(run.again("url,handshake")));
            return;
        }
    }
    let mut random = [0; 8];
    let _ = getrandom::fill(&mut random);
    let nowhere = run.net.upgrade(endpoint, &to(&format!("/tidegate-doctor-{}", hex::encode(random)))).await;
    if let Some(opening) = &mut run.opening {
        opening.random_status = nowhere.status();
    }
    let slashed = match target.path().strip_suffix('/') {
        Some(path) if !path.is_empty() => path.to_owned(),
        _ => format!("{}/", target.path()),
    };
    let sibling = run.net.upgrade(endpoint, &to(&slashed)).await;
    let same_nowhere = nowhere.answer().is_some_and(|other| signature::is_same(answer, other));
    if sibling.is_open() {
        let evidence = format!("{} is answered with {status}, {slashed} opens.", target.path());
        let diagnosis = match status {
            500 if foreign && same_nowhere => Diagnosis::BYPASS_NO_ROUTE_500,
            403 if foreign && same_nowhere => Diagnosis::BYPASS_UNKNOWN_ROUTE_403,
            _ if foreign && run.probe_path_opens == Some(true) => Diagnosis::PROXY_LOCATION_MISMATCH,
            _ => Diagnosis::HANDSHAKE_WRONG_PATH,
        };
        run.add(Finding::problem(diagnosis).seen(evidence, at(&slashed)).next(run.again("handshake")));
        return;
    }
    if foreign && run.probe_path_opens == Some(true) {
        location_mismatch(run, target.path(), status);
        return;
    }
    if !foreign {
        if same_nowhere
            && run.opening.as_ref().is_some_and(|opening| opening.check.is_none())
            && status != 429
        {
            run.add(
                likely(Diagnosis::HANDSHAKE_WRONG_PATH)
                    .seen(format!("{} gets {status}, as a path does that nobody has.", target.path()), at(""))
                    .next("tidegate apis"),
            );
        }
        return;
    }
    by_framework(run, endpoint, answer, same_nowhere).await;
}

/// An application server answers instead of a gateway.
async fn by_framework(run: &mut Run<'_>, endpoint: &Endpoint, answer: &Answer, same_nowhere: bool) {
    let Some(target) = run.target().cloned() else { return };
    let (kind, server) = signature::kind(answer);
    let status = answer.status;
    let is_empty = answer.body.is_empty();
    let shown = || {
        facts([
            ("status", status.into()),
            ("server", server.clone().into()),
            ("path", target.path().into()),
            ("length", answer.body.len().into()),
        ])
    };
    match status {
        403 if is_empty && same_nowhere => {
            // The same answer for a path that exists and closes before accepting: only another outcome of
            // the auth probe would separate them.
            run.add(
                likely(Diagnosis::BYPASS_UNKNOWN_ROUTE_403)
                    .seen("403 with an empty body, for a path that nobody has too.", shown())
                    .next(run.again("handshake,auth")),
            );
            run.add(
                possible(Diagnosis::BYPASS_CLOSE_BEFORE_ACCEPT)
                    .seen("403 with an empty body is also what a close before the accept looks like.", shown())
                    .next(run.again_with("--only handshake,auth --token - --origin ORIGIN")),
            );
        }
        403 if is_empty => run.add(
            Finding::problem(Diagnosis::BYPASS_CLOSE_BEFORE_ACCEPT)
                .seen("403 with an empty body here, another answer for a path that nobody has: the application knows the path and closes before it accepts.", shown())
                .next(run.again_with("--only handshake,auth --token - --origin ORIGIN")),
        ),
        500 if same_nowhere => run.add(
            Finding::problem(Diagnosis::BYPASS_NO_ROUTE_500)
                .seen("500, for a path that nobody has too.", shown())
                .next(run.again("handshake")),
        ),
        400 | 404 | 405 | 426 => {
            let page = run.net.send(endpoint, &Request::get(target.path()).with(&run.options.headers)).await;
            let home = run.net.send(endpoint, &Request::get("/")).await;
            let http_is_fine = home.as_ref().is_ok_and(|home| home.status < 500);
            let is_like_page = page.as_ref().is_ok_and(|page| signature::is_same(answer, page));
            let framework = signature::not_found_page(answer);
            let text = format!("The upgrade is answered with {status} by {server}, as a page would be; other requests work.");
            if kind == Kind::Wsgi && http_is_fine {
                run.add(Finding::problem(Diagnosis::BYPASS_WSGI).seen(text, shown()).next(run.again("handshake")));
            } else if kind == Kind::Asgi && is_like_page && http_is_fine {
                let finding = match answer.header("via") {
                    None => Finding::problem(Diagnosis::BYPASS_NO_WS_LIBRARY),
                    Some(_) => likely(Diagnosis::BYPASS_NO_WS_LIBRARY),
                };
                run.add(finding.seen(text, shown()).next(run.again("handshake")));
            } else if is_like_page && framework == Some("Django") {
                let text = format!("404 with Django's own page, for an upgrade and for a page alike{}.", if server.is_empty() { String::new() } else { format!(" ({server})") });
                run.add(likely(Diagnosis::BYPASS_WSGI).seen(text.clone(), shown()).next(run.again("handshake")));
                if kind == Kind::Proxy {
                    run.add(likely(Diagnosis::PROXY_UPGRADE_STRIPPED).seen(text, shown()).next(run.again_with("--resolve HOST:PORT:ADDRESS-OF-THE-SERVER")));
                }
            } else if is_like_page && (kind == Kind::Proxy || framework.is_some()) {
                run.add(
                    likely(Diagnosis::PROXY_UPGRADE_STRIPPED)
                        .seen(text, shown())
                        .next(run.again_with("--resolve HOST:PORT:ADDRESS-OF-THE-SERVER")),
                );
            }
        }
        _ => {}
    }
}

/// `ws://` fails, `wss://` on the same host works.
async fn filtered(run: &mut Run<'_>, endpoint: &Endpoint, ask: &Ask, observed: &str) {
    let Some(target) = run.target().cloned() else { return };
    let surroundings = &run.options.surroundings;
    if target.is_tls
        || target.port != surroundings.plain_port
        || run.opening.as_ref().is_some_and(|opening| opening.is_tidegate)
    {
        return;
    }
    let encrypted = Endpoint {
        address: SocketAddr::new(endpoint.address.ip(), surroundings.tls_port),
        tls: Some(target.host.clone()),
        host: target.host.clone(),
    };
    let upgrade = run.net.upgrade(&encrypted, ask).await;
    let Upgrade::Open(socket) = upgrade else { return };
    socket.close().await;
    run.add(
        Finding::problem(Diagnosis::PROXY_PORT_80_FILTER)
            .seen(
                format!(
                    "ws:// on port {}: {observed}; wss:// on port {} opens.",
                    target.port, surroundings.tls_port
                ),
                facts([("port", target.port.into())]),
            )
            .next(format!(
                "tidegate doctor {}",
                super::quoted(&super::masked(&run.options.url).replacen("ws:", "wss:", 1))
            )),
    );
}

/// The origin opens (by `--resolve`); does the CDN in front of it?
async fn compare_with_public(run: &mut Run<'_>, ask: &Ask) {
    let Some(address) = run.public_addresses.first().copied() else { return };
    let Some(mut endpoint) = run.endpoint() else { return };
    endpoint.address = SocketAddr::new(address, endpoint.address.port());
    let upgrade = run.net.upgrade(&endpoint, ask).await;
    match upgrade {
        Upgrade::Open(socket) => socket.close().await,
        Upgrade::Answered(answer) => {
            let Some(cdn) = signature::cdn(&answer) else { return };
            run.add(
                Finding::problem(Diagnosis::PROXY_WEBSOCKETS_OFF)
                    .seen(
                        format!("The origin opens; {cdn} at {address} answers {}.", answer.status),
                        facts([("status", answer.status.into()), ("address", address.to_string().into())]),
                    )
                    .next(run.again("handshake")),
            );
        }
        Upgrade::Failed(_) => {}
    }
}

/// The gateway itself refused: it knows why, and tells it to whoever may ask.
pub(super) fn of_the_gateway(run: &mut Run<'_>, answer: &Answer) {
    let check = run.opening.as_ref().and_then(|opening| opening.check.clone());
    let has_token = run.target().is_some_and(|target| target.token.is_some());
    let diagnosis = match (answer.status, check.as_deref()) {
        (_, Some("jwt")) if !has_token => Diagnosis::JWT_MISSING,
        (_, Some("jwt")) => Diagnosis::JWT_SIGNATURE,
        (_, Some("token")) if !has_token => Diagnosis::TOKEN_MISSING,
        (_, Some("token")) => Diagnosis::TOKEN_UNKNOWN,
        (_, Some("origin")) => Diagnosis::ORIGIN_NOT_ALLOWED,
        (_, Some("permission" | "channel")) => Diagnosis::CHANNEL_FORBIDDEN,
        (429, _) => Diagnosis::RATELIMIT_CONNECT,
        (401, _) => Diagnosis::AUTHORIZER_IDENTITY_MISSING,
        (403, _) => Diagnosis::AUTHORIZER_DENIED,
        (404, _) => Diagnosis::INTEGRATION_WRONG_URL,
        (502, _) => Diagnosis::INTEGRATION_REFUSED,
        (504, _) => Diagnosis::INTEGRATION_TIMEOUT,
        (503, _) => Diagnosis::LIMIT_CONNECTIONS,
        (500, _) => Diagnosis::INTEGRATION_MISSING,
        _ => Diagnosis::BACKEND_REFUSED,
    };
    let evidence = match &check {
        Some(check) => format!(
            "The gateway answered {}; its check `{}` refused.",
            answer.status,
            signature::shown(check)
        ),
        None => format!("The gateway answered {}.", answer.status),
    };
    let shown = facts([("status", answer.status.into()), ("check", check.clone().into())]);
    // Without any token the check that wants one leaves no other reason.
    let is_proven = matches!(diagnosis, Diagnosis::JWT_MISSING);
    let finding = match (is_proven, check.is_some()) {
        (true, _) => Finding::problem(diagnosis),
        (false, true) => likely(diagnosis),
        (false, false) => possible(diagnosis),
    };
    run.add(finding.seen(evidence, shown).next(run.again("handshake,auth")));
}
