//! Probe 13: after how long does a silent connection end, and what keeps it?

use std::time::Duration;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::wire::{Ask, Event, Upgrade};
use super::{Outcome, Run, facts};
use crate::report::Finding;

/// Between two pings or texts, in seconds.
const INTERVAL: u32 = 20;

/// Limits that are known, in seconds. Source: catalogue, symptom 28.
const KNOWN: [(f64, &str); 11] = [
    (30.0, "reverse proxies, load balancers"),
    (55.0, "platforms"),
    (60.0, "reverse proxies, load balancers"),
    (100.0, "CDN edges"),
    (230.0, "load balancers of clouds"),
    (240.0, "load balancers of clouds"),
    (270.0, "platforms"),
    (300.0, "proxies"),
    (350.0, "network balancers, NAT"),
    (400.0, "platforms"),
    (600.0, "the gateway's own limit"),
];

/// What a connection does while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    Silent,
    Pings,
    Texts,
    /// The client's own interval.
    Heartbeat(Duration),
}

impl Habit {
    fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Pings => "pings",
            Self::Texts => "texts",
            Self::Heartbeat(_) => "heartbeat",
        }
    }
}

#[derive(Debug, Clone)]
struct Watched {
    habit: Habit,
    /// How it ended; none: it still lived, or never opened.
    end: Option<Event>,
    lived: Duration,
    /// From the last frame of either side to the end.
    quiet: Duration,
    opened: bool,
}

pub(super) async fn run(run: &mut Run<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(max) = run.options.idle else { return outcome };
    let Some(endpoint) = run.endpoint() else { return outcome };
    let use_probe_path = run.probe_path_opens == Some(true);
    let real = run.ask().filter(|_| !run.is_single_use());
    let ask = match use_probe_path {
        true => Some(Ask { target: run.probe_target(), ..Ask::default() }),
        false => real,
    };
    let Some(ask) = ask.map(|ask| Ask { idle: true, deflate: false, ..ask }) else {
        return Outcome::skipped("a token for one connection cannot be used again");
    };
    if !use_probe_path && run.opening.as_ref().is_some_and(|opening| opening.status != Some(101)) {
        return Outcome::skipped("the handshake does not open");
    }
    let second = run.options.surroundings.second;
    let mut habits = vec![Habit::Silent, Habit::Silent, Habit::Pings, Habit::Texts];
    habits.extend(run.options.heartbeat.map(Habit::Heartbeat));
    (run.progress)(&format!(
        "idle: {} connections for up to {} s; one small frame every {INTERVAL} s on two of them",
        habits.len(),
        max.as_secs()
    ));
    let text = run.options.send.clone().unwrap_or_else(|| "ping".to_owned());
    let mut tasks = JoinSet::new();
    for habit in habits {
        let (net, endpoint, ask, text) = (run.net.clone(), endpoint.clone(), ask.clone(), text.clone());
        tasks.spawn(async move {
            let Upgrade::Open(mut socket) = net.upgrade(&endpoint, &ask).await else {
                return Watched {
                    habit,
                    end: None,
                    lived: Duration::ZERO,
                    quiet: Duration::ZERO,
                    opened: false,
                };
            };
            let opened = Instant::now();
            let end_at = opened + max;
            let interval = match habit {
                Habit::Silent => max * 2,
                Habit::Pings | Habit::Texts => second * INTERVAL,
                Habit::Heartbeat(interval) => interval,
            };
            let (mut next, mut last) = (opened + interval, opened);
            let end = loop {
                match socket.next(next.min(end_at)).await {
                    Event::Nothing if Instant::now() >= end_at => break None,
                    Event::Nothing => {
                        let sent = match habit {
                            Habit::Pings => socket.ping().await,
                            _ => socket.text(&text).await,
                        };
                        if !sent {
                            break Some(Event::Lost);
                        }
                        last = Instant::now();
                        next = last + interval;
                    }
                    event if event.is_end() => break Some(event),
                    _ => last = Instant::now(),
                }
            };
            let (lived, quiet) = (opened.elapsed(), last.elapsed());
            if end.is_none() {
                socket.close().await;
            }
            Watched { habit, end, lived, quiet, opened: true }
        });
    }
    let mut watched = Vec::new();
    let mut minutes = tokio::time::interval(Duration::from_secs(30));
    minutes.tick().await;
    let started = Instant::now();
    loop {
        tokio::select! {
            done = tasks.join_next() => match done {
                Some(Ok(one)) => watched.push(one),
                Some(Err(_)) => {}
                None => break,
            },
            _ = minutes.tick() => (run.progress)(&format!(
                "idle: {} s, {} of {} connections still open",
                started.elapsed().as_secs(), tasks.len(), tasks.len() + watched.len()
            )),
        }
    }
    watched.sort_by_key(|one| one.habit.name());
    let unit = |time: Duration| (time.as_secs_f64() / second.as_secs_f64() * 10.0).round() / 10.0;
    let measured: Vec<_> = watched
        .iter()
        .map(|one| {
            let end = match (&one.end, one.opened) {
                (_, false) => "not opened".to_owned(),
                (None, _) => "still open".to_owned(),
                (Some(end), _) => end.summary(),
            };
            json!({ "habit": one.habit.name(), "livedSeconds": unit(one.lived), "end": end })
        })
        .collect();
    outcome.measure("connections", measured);
    judge(run, &mut outcome, &watched, second, max);
    outcome
}

fn judge(run: &mut Run<'_>, outcome: &mut Outcome, watched: &[Watched], second: Duration, max: Duration) {
    let unit = |time: Duration| time.as_secs_f64() / second.as_secs_f64();
    let of = |habit: Habit| watched.iter().filter(move |one| one.habit == habit && one.opened);
    if of(Habit::Silent).next().is_none() {
        outcome.inconclusive("no connection opened");
        return;
    }
    let cut = |one: &&Watched| one.end == Some(Event::Lost);
    let Some(shortest) = of(Habit::Silent).filter(cut).map(|one| one.lived).min() else {
        if let Some(closed) = of(Habit::Silent).find(|one| one.end.is_some()) {
            let end = closed.end.as_ref().map(Event::summary).unwrap_or_default();
            outcome.summary(format!("closed properly after {:.1} s: {end}", unit(closed.lived)));
            outcome.measure("limitSeconds", (unit(closed.lived) * 10.0).round() / 10.0);
            return;
        }
        outcome.summary(format!("silent connections live longer than {} s", unit(max).round()));
        return;
    };
    let limit = unit(shortest);
    let dies = |habit: Habit| of(habit).any(|one| one.end == Some(Event::Lost));
    let lives = |habit: Habit| of(habit).any(|one| one.end.is_none());
    // A second either way, as the catalogue says; the clock of a scaled second is as coarse as any.
    let tolerance = 1.0_f64.max(0.1 / second.as_secs_f64());
    let near = |seconds: f64| (limit - seconds).abs() <= tolerance;
    let known = KNOWN
        .iter()
        .filter(|(seconds, _)| near(*seconds))
        .min_by(|left, right| (left.0 - limit).abs().total_cmp(&(right.0 - limit).abs()));
    let diagnosis = match known {
        Some((60.0, _)) => Diagnosis::PROXY_IDLE_60,
        Some((100.0, _)) => Diagnosis::PROXY_IDLE_100,
        _ => Diagnosis::PROXY_IDLE_OTHER,
    };
    let helps = match (lives(Habit::Pings), lives(Habit::Texts)) {
        (true, _) => "Pings keep a connection open.",
        (false, true) => "Only messages keep a connection open, pings do not.",
        (false, false) => "Neither pings nor messages every 20 s keep one open.",
    };
    let like = known.map_or_else(String::new, |(seconds, who)| format!(" {seconds} s is usual for {who}."));
    let shown = || facts([("idleMs", ((limit * 1000.0).round() as u64).into()), ("closeCode", 1006.into())]);
    outcome.measure("limitSeconds", (limit * 10.0).round() / 10.0);
    outcome.summary(format!("silent connections are cut after {limit:.1} s"));
    run.add(
        Finding::warning(diagnosis)
            .seen(
                format!("A silent connection ended after {limit:.1} s without a close frame.{like} {helps}"),
                shown(),
            )
            .next(run.again_with("--idle --only idle")),
    );
    if dies(Habit::Pings) && lives(Habit::Texts) {
        run.add(
            Finding::warning(Diagnosis::PROXY_IDLE_COUNTS_DATA_ONLY)
                .seen(
                    format!(
                        "With pings every {INTERVAL} s a connection ended as well, with messages it lived."
                    ),
                    shown(),
                )
                .next(run.again_with("--idle --only idle")),
        );
    }
    let Some(heartbeat) = run.options.heartbeat else { return };
    let raced = watched.iter().find(|one| {
        matches!(one.habit, Habit::Heartbeat(_))
            && one.end == Some(Event::Lost)
            && (unit(heartbeat) - limit).abs() <= limit * 0.1
    });
    if let Some(raced) = raced {
        run.add(
            Finding::problem(Diagnosis::IDLE_HEARTBEAT_RACE)
                .seen(
                    format!(
                        "With a heartbeat every {:.1} s, as long as the limit of {limit:.1} s, a connection was cut after {:.1} s, {:.1} s after its last frame.",
                        unit(heartbeat),
                        unit(raced.lived),
                        unit(raced.quiet),
                    ),
                    shown(),
                )
                .next(run.again_with("--idle --heartbeat SECONDS --only idle")),
        );
    }
}
