//! Signed `POST /@connections/{id}` over keep-alive connections.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use clap::Args;

use super::{micros_each, with_cpu};
use crate::control::{ECHO_URI, RouteSpec, create_api, signed_post, signer};
use crate::gateway_process::GatewayProcess;
use crate::http_exchange::exchange;
use crate::report::{Budget, Report, median};
use crate::swarm::{Exchange, Swarm, Target, payload};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The `tidegate` binary
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
    /// Connections that are pushed to in turn
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    /// Callers at a time
    #[arg(long, default_value_t = 16)]
    callers: usize,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each round
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Bytes of a message
    #[arg(long, default_value_t = 256)]
    size: usize,
}

impl Arguments {
    /// Defaults.
    pub fn new(gateway: &Path) -> Self {
        Self {
            gateway: gateway.to_owned(),
            connections: 1_000,
            callers: 16,
            rounds: 5,
            seconds: 2.0,
            size: 256,
        }
    }
}

/// Runs the benchmark.
pub fn run(arguments: &Arguments) -> Result<Report> {
    let gateway = GatewayProcess::start(&arguments.gateway)?;
    // No message selects the route, so each is answered with an error frame, which names the connection.
    let route = RouteSpec { key: "unused", uri: ECHO_URI, is_two_way: false };
    let path = create_api(&gateway, &[route])?;
    let target = Target { address: gateway.public, path: Some(path.clone()) };
    let mut receivers = Swarm::open(&target, arguments.connections)?;
    let ask = tidegate_ws::ClientEncoder::new(None).text("who am I?");
    let answers = receivers.collect(&ask, |answer| answer.ends_with(b"}"))?;
    let text = payload(arguments.size);
    let execute_api = signer("execute-api");
    // Signed once and sent again and again: the gateway verifies each, and the callers cost little.
    let requests = answers
        .iter()
        .map(|answer| {
            let id = connection_id(answer)?.replace('=', "%3D");
            let path = format!("{path}/@connections/{id}");
            let content_type = "application/octet-stream";
            let request = signed_post(&execute_api, gateway.public, &path, text.as_bytes(), content_type)?;
            Ok(Bytes::from(request))
        })
        .collect::<Result<Vec<_>>>()?;
    let answer = exchange(gateway.public, &requests[0]).context("push once")?;
    ensure!(answer.status == 200, "a push was answered {}", answer.status);
    let pushes =
        Exchange { requests, reply_len: answer.n_bytes, reply_prefix: Bytes::from_static(b"HTTP/1.1 200") };
    let mut callers = Swarm::open(&Target { address: gateway.public, path: None }, arguments.callers)?;

    let stop = AtomicBool::new(false);
    let duration = Duration::from_secs_f64(arguments.seconds);
    let (measured, n_drained) = std::thread::scope(|scope| {
        let drain = scope.spawn(|| receivers.drain(&|| stop.load(Ordering::Relaxed)));
        let measured = (|| {
            callers.run(&pushes, Duration::from_millis(500), None)?;
            let mut rounds = Vec::new();
            for _ in 0..arguments.rounds.max(1) {
                rounds.push(with_cpu(gateway.pid(), || callers.run(&pushes, duration, None))?);
            }
            Ok::<_, anyhow::Error>(rounds)
        })();
        stop.store(true, Ordering::Relaxed);
        (measured, drain.join().map_err(|_| anyhow!("the receivers panicked")))
    });
    ensure!(n_drained?? > 0, "no push reached a client");
    let measured = measured?;

    let of = |value: &dyn Fn(&crate::swarm::Outcome, Duration) -> f64| {
        median(&measured.iter().map(|(outcome, cpu)| value(outcome, *cpu)).collect::<Vec<_>>())
    };
    let mut report = Report::new("push");
    report.row(
        format!(
            "signed push of {} B, {} callers: per core of the gateway",
            arguments.size, arguments.callers
        ),
        of(&|outcome, cpu| outcome.exchanges as f64 / cpu.as_secs_f64()),
        "push/s",
        Budget::AtLeast(15_000.0),
    );
    report.row("rate beside the callers", of(&|outcome, _| outcome.per_second()), "push/s", Budget::None);
    report.row(
        "gateway CPU per push",
        of(&|outcome, cpu| micros_each(cpu, outcome.exchanges)),
        "us",
        Budget::None,
    );
    report.row("p99", of(&|outcome, _| outcome.percentile_ms(0.99)), "ms", Budget::None);
    Ok(report)
}

/// The id in an error frame.
fn connection_id(answer: &[u8]) -> Result<String> {
    // The frame's head is not text, so look from the first brace on.
    let start = answer.iter().position(|&byte| byte == b'{').context("no error frame")?;
    let frame: serde_json::Value =
        serde_json::from_slice(&answer[start..]).context("parse an error frame")?;
    Ok(frame["connectionId"].as_str().context("an error frame without connectionId")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_in_the_error_frame() {
        let frame = b"\x81\x40{\"message\": \"Forbidden\", \"connectionId\":\"R0oXAdfD0kwCH6w=\", \"requestId\":\"x\"}";
        assert_eq!(connection_id(frame).expect("an id"), "R0oXAdfD0kwCH6w=");
        assert!(connection_id(b"").is_err());
    }
}
