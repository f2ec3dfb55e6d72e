//! Probe 11: messages there and back.

use std::time::Duration;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tokio::time::Instant;

use super::wire::{Ask, Event, Socket, Upgrade};
use super::{Identity, Outcome, Run, facts, likely, millis};
use crate::report::{Confidence, Finding, Severity};

/// Messages of each size.
const COUNT: usize = 5;

/// Sizes in bytes. Source: DX-31.
const SIZES: [usize; 3] = [4, 1024, 31 * 1024];

/// Between two messages.
const PAUSE: Duration = Duration::from_millis(60);

pub(super) async fn run(run: &mut Run<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    if run.identity == Identity::Unknown {
        let _ = super::identity::learn(run).await;
    }
    let is_own = run.options.send.is_some() || run.options.expect.is_some();
    if !is_own && run.probe_path_opens == Some(true) {
        through_probe_path(run, &mut outcome).await;
        return outcome;
    }
    let opened = run.opening.as_ref().is_none_or(|opening| opening.status == Some(101));
    if !opened || run.spares_token() {
        return Outcome::skipped("the handshake does not open");
    }
    real(run, &mut outcome).await;
    outcome
}

async fn open(run: &mut Run<'_>, ask: &Ask) -> Result<Box<Socket>, String> {
    let Some(endpoint) = run.endpoint() else { return Err("no address".to_owned()) };
    match run.net.upgrade(&endpoint, ask).await {
        Upgrade::Open(socket) => Ok(socket),
        other => Err(other.summary()),
    }
}

/// What came of a row of messages.
#[derive(Default)]
struct Row {
    /// When each was sent.
    sent: Vec<Instant>,
    /// When each answer came.
    back: Vec<Instant>,
    altered: usize,
    end: Option<Event>,
}

async fn row(socket: &mut Socket, texts: &[String], limit: Duration, same: bool) -> Row {
    let mut row = Row::default();
    let mut next = Instant::now();
    let deadline = Instant::now() + PAUSE * COUNT as u32 + limit;
    while row.back.len() < texts.len() {
        let sending = row.sent.len() < texts.len();
        let until = if sending { next } else { deadline };
        match socket.next(until).await {
            Event::Text(text) => {
                if same && texts.get(row.back.len()) != Some(&text) {
                    row.altered += 1;
                }
                row.back.push(Instant::now());
            }
            Event::Nothing if sending => {
                row.sent.push(Instant::now());
                if !socket.text(&texts[row.sent.len() - 1]).await {
                    row.end = Some(Event::Lost);
                    break;
                }
                next = Instant::now() + PAUSE;
            }
            Event::Nothing => break,
            event if event.is_end() => {
                row.end = Some(event);
                break;
            }
            _ => {}
        }
    }
    row
}

async fn through_probe_path(run: &mut Run<'_>, outcome: &mut Outcome) {
    let ask = Ask { target: run.probe_target(), ..Ask::default() };
    let mut socket = match open(run, &ask).await {
        Ok(socket) => socket,
        Err(reason) => return outcome.inconclusive(format!("the probe path does not open again: {reason}")),
    };
    let mut times = Vec::new();
    for size in SIZES {
        let texts: Vec<String> = (0..COUNT).map(|n| pattern(size, n)).collect();
        let row = row(&mut socket, &texts, run.net.timeout, true).await;
        let trips: Vec<Duration> = row.sent.iter().zip(&row.back).map(|(sent, back)| *back - *sent).collect();
        let fastest = trips.iter().min().copied().unwrap_or_default();
        times.push(json!({ "bytes": size, "answers": row.back.len(), "fastestMs": millis(fastest) }));
        if row.altered > 0 || row.end.is_some() || row.back.len() < texts.len() {
            let what = match &row.end {
                Some(end) => end.summary(),
                None => format!(
                    "{} of {} messages came back, {} altered",
                    row.back.len(),
                    texts.len(),
                    row.altered
                ),
            };
            if row.end == Some(Event::Injected) {
                super::upgrade_path::injected(run, "echo");
            } else if row.altered > 0 || matches!(row.end, Some(Event::Broken(_))) {
                run.add(
                    Finding::problem(Diagnosis::PROXY_INSPECTION)
                        .seen(
                            format!("Messages of {size} bytes do not come back as they were sent: {what}."),
                            facts([("size", size.into()), ("count", row.altered.into())]),
                        )
                        .next(run.again("tls,echo")),
                );
            } else {
                outcome.inconclusive(what);
            }
            break;
        }
        if let Some(finding) = held_back(run, &row, fastest) {
            run.add(finding);
            break;
        }
    }
    if let Some(fastest) = times.first() {
        outcome.summary(format!("echo in {} ms", fastest["fastestMs"]));
    }
    outcome.measure("echoes", times);
    socket.close().await;
}

/// Text that no two positions of share with a shifted one.
fn pattern(size: usize, n: usize) -> String {
    let digits = format!("{n}");
    let filler =
        (0..size.saturating_sub(digits.len())).map(|at| char::from(b'a' + ((at * 7 + at / 26) % 26) as u8));
    digits.chars().chain(filler).collect()
}

/// Answers that come late and together were held back on the way.
fn held_back(run: &Run<'_>, row: &Row, fastest: Duration) -> Option<Finding> {
    let first_sent = row.sent.first()?;
    let sends = *row.sent.last()? - *first_sent;
    let arrivals = *row.back.last()? - *row.back.first()?;
    let round_trip = run.tcp_round_trip.unwrap_or_default();
    let slowest = *row.back.first()? - *first_sent;
    let is_late = slowest > round_trip * 10 + Duration::from_millis(150);
    (is_late && arrivals * 4 < sends).then(|| {
        Finding::problem(Diagnosis::PROXY_BUFFERING)
            .seen(
                format!(
                    "{} messages sent over {} ms came back within {} ms, the first after {} ms; a TCP round trip takes {} ms.",
                    row.back.len(),
                    millis(sends),
                    millis(arrivals),
                    millis(slowest),
                    millis(round_trip),
                ),
                facts([("firstByteMs", millis(slowest).into()), ("fastestMs", millis(fastest).into())]),
            )
            .next(run.again("upgrade-path,echo"))
    })
}

/// The real URL, with the client's own message.
async fn real(run: &mut Run<'_>, outcome: &mut Outcome) {
    let Some(ask) = run.ask() else { return };
    let mut socket = match run.open.take() {
        Some(socket) => socket,
        None => match open(run, &ask).await {
            Ok(socket) => socket,
            Err(reason) => return outcome.inconclusive(format!("the real URL does not open: {reason}")),
        },
    };
    let send = run.options.send.clone().unwrap_or_else(|| "ping".to_owned());
    let expect = run.options.expect.clone();
    let is_tidegate = socket.answer.is_tidegate() || run.identity != Identity::Foreign;
    let count = if expect.is_some() { COUNT } else { 1 };
    // Nothing needs to answer a message that nobody expects an answer to: a moment is enough.
    let limit = if expect.is_some() { run.net.timeout } else { run.net.timeout.min(Duration::from_secs(1)) };
    let deadline = Instant::now() + limit;
    let (mut n_good, mut n_other, mut end) = (0, 0, None);
    for _ in 0..count {
        if !socket.text(&send).await {
            end = Some(Event::Lost);
            break;
        }
        loop {
            match socket.next(deadline).await {
                Event::Text(text) if expect.as_ref().is_none_or(|expect| text.contains(expect.as_str())) => {
                    n_good += 1;
                    break;
                }
                Event::Text(_) | Event::Binary(_) => n_other += 1,
                Event::Nothing => break,
                event if event.is_end() => {
                    end = Some(event);
                    break;
                }
                _ => {}
            }
        }
        if end.is_some() || n_good == 0 {
            break;
        }
    }
    outcome.measure("answers", n_good);
    outcome.measure("otherMessages", n_other);
    let observed = facts([("size", send.len().into()), ("count", n_good.into())]);
    match end {
        Some(Event::Injected) => super::upgrade_path::injected(run, "echo"),
        Some(Event::CloseTooLong) => super::stability::reason_too_long(run),
        Some(Event::Broken(tidegate_ws::DecodeError::ReservedBits)) => run.add(
            Finding::problem(Diagnosis::PROXY_DEFLATE_BROKEN)
                .seen("The server sends compressed frames that nobody agreed on.", observed)
                .next(run.again("upgrade-path,echo")),
        ),
        // A text that the client never sends proves nothing about the application.
        Some(end) if run.options.send.is_none() => outcome.inconclusive(format!(
            "the server ends the connection after the text `ping` ({}); --send TEXT sends what the client does",
            end.summary()
        )),
        Some(end) if !is_tidegate && matches!(end, Event::Lost | Event::Closed { code: Some(1011), .. }) => {
            outcome.measure("end", end.summary());
            run.add(
                likely(Diagnosis::APP_EXCEPTION_AFTER_ACCEPT)
                    .seen(format!("After a message of {} bytes: {}.", send.len(), end.summary()), observed)
                    .next(run.again_with("--only echo --send TEXT")),
            );
        }
        Some(end) => outcome.inconclusive(format!("the server ends the connection: {}", end.summary())),
        None if expect.is_some() && n_good == 0 => {
            let is_heartbeat = send.to_ascii_lowercase().contains("ping");
            let diagnosis = match (is_heartbeat, is_tidegate) {
                (true, _) => Some(Diagnosis::CONN_APP_HEARTBEAT_UNANSWERED),
                (false, true) => Some(Diagnosis::REPLY_NO_ROUTE_RESPONSE),
                (false, false) => None,
            };
            let text = format!(
                "A message of {} bytes got no answer with the expected text within {} s.",
                send.len(),
                limit.as_secs()
            );
            match diagnosis {
                Some(diagnosis) => run.add(
                    // Only the gateway knows whether the backend answered with something that was dropped.
                    Finding::new(diagnosis, Severity::Problem, Confidence::Likely)
                        .seen(text, observed)
                        .next("tidegate doctor --api ID --message TEXT"),
                ),
                None => outcome.inconclusive(text),
            }
        }
        None => outcome.summary(match (n_good, expect.is_some()) {
            (0, _) => "no answer, and none was expected".to_owned(),
            (n, true) => format!("{n} answers as expected"),
            (n, false) => format!("{n} answer(s)"),
        }),
    }
    socket.close().await;
}
