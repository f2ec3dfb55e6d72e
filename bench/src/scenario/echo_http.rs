//! Message to HTTP backend to reply, beside the same backend driven directly by a keep-alive HTTP client.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::Args;

use super::{micros_each, with_cpu};
use crate::backend;
use crate::child::Helper;
use crate::control::{RouteSpec, create_api};
use crate::gateway_process::GatewayProcess;
use crate::http_exchange::exchange;
use crate::report::{Budget, Report, median};
use crate::swarm::{Exchange, Outcome, Swarm, Target, payload};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The `tidegate` binary
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
    /// Numbers of connections
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000])]
    connections: Vec<usize>,
    /// Processor time that the backend spends on each request, in microseconds; one series each
    #[arg(long, value_delimiter = ',', default_values_t = [0, 200])]
    work_us: Vec<u64>,
    /// Messages a second of the paced series, which shows the latency without a queue; 0 = none
    #[arg(long, default_value_t = 2_000)]
    pace: u64,
    /// Interleaved rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Bytes of a message
    #[arg(long, default_value_t = 100)]
    size: usize,
}

impl Arguments {
    /// Defaults.
    pub fn new(gateway: &Path) -> Self {
        Self {
            gateway: gateway.to_owned(),
            connections: vec![100, 1_000],
            work_us: vec![0, 200],
            pace: 2_000,
            rounds: 3,
            seconds: 2.0,
            size: 100,
        }
    }
}

/// Runs the benchmark.
pub fn run(arguments: &Arguments) -> Result<Report> {
    let gateway = GatewayProcess::start(&arguments.gateway)?;
    let mut report = Report::new("echo-http");
    for &work_us in &arguments.work_us {
        let backend = Helper::start(&backend::arguments(Duration::from_micros(work_us)))?;
        let uri = format!("http://{}/", backend.address);
        let route = RouteSpec { key: "$default", uri: &uri, is_two_way: true };
        let path = create_api(&gateway, &[route])?;
        for &connections in &arguments.connections {
            let sides = Sides::open(arguments, &gateway, &backend, &path, connections)?;
            series(arguments, sides, work_us, None, &mut report)?;
        }
        if arguments.pace > 0
            && let Some(&connections) = arguments.connections.first()
        {
            let sides = Sides::open(arguments, &gateway, &backend, &path, connections)?;
            series(arguments, sides, work_us, Some(arguments.pace as f64), &mut report)?;
        }
    }
    Ok(report)
}

/// Both ways to the backend, connected.
struct Sides {
    gateway_pid: u32,
    connections: usize,
    through: Swarm,
    message: Exchange,
    direct: Swarm,
    request: Exchange,
}

impl Sides {
    fn open(
        arguments: &Arguments,
        gateway: &GatewayProcess,
        backend: &Helper,
        path: &str,
        connections: usize,
    ) -> Result<Self> {
        let text = payload(arguments.size);
        let target = Target { address: gateway.public, path: Some(path.to_owned()) };
        let mut through = Swarm::open(&target, connections)?;
        let message = Exchange::echo(&text);
        let request = direct_request(backend, &text)?;
        let mut direct = Swarm::open(&Target { address: backend.address, path: None }, connections)?;
        // Also opens the gateway's connections to the backend.
        let warm_up = Duration::from_millis(500);
        through.run(&message, warm_up, None)?;
        direct.run(&request, warm_up, None)?;
        Ok(Self { gateway_pid: gateway.pid(), connections, through, message, direct, request })
    }
}

/// What a keep-alive HTTP client would send, with the length of the answer.
fn direct_request(backend: &Helper, text: &str) -> Result<Exchange> {
    let request = Bytes::from(format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nUser-Agent: tidegate-bench\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{text}",
        backend.address,
        text.len()
    ));
    let answer = exchange(backend.address, &request).context("ask the backend")?;
    ensure!(answer.status == 200 && answer.body == text.as_bytes(), "the backend does not echo");
    Ok(Exchange {
        requests: vec![request],
        reply_len: answer.n_bytes,
        reply_prefix: Bytes::from_static(b"HTTP/1.1 200"),
    })
}

fn series(
    arguments: &Arguments,
    mut sides: Sides,
    work_us: u64,
    pace: Option<f64>,
    report: &mut Report,
) -> Result<()> {
    let duration = Duration::from_secs_f64(arguments.seconds);
    let (mut rates, mut direct_rates, mut ratios, mut cpu) = (vec![], vec![], vec![], vec![]);
    let (mut p50, mut p99, mut direct_p50, mut direct_p99, mut added) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..arguments.rounds.max(1) {
        let (through, used): (Outcome, Duration) =
            with_cpu(sides.gateway_pid, || sides.through.run(&sides.message, duration, pace))?;
        let direct = sides.direct.run(&sides.request, duration, pace)?;
        rates.push(through.per_second());
        direct_rates.push(direct.per_second());
        ratios.push(through.per_second() / direct.per_second() * 100.0);
        cpu.push(micros_each(used, through.exchanges));
        p50.push(through.percentile_ms(0.5));
        p99.push(through.percentile_ms(0.99));
        direct_p50.push(direct.percentile_ms(0.5));
        direct_p99.push(direct.percentile_ms(0.99));
        added.push(through.percentile_ms(0.99) - direct.percentile_ms(0.99));
    }
    let load = match pace {
        None => format!("{} conn", sides.connections),
        Some(rate) => format!("{} conn at {rate}/s", sides.connections),
    };
    let label = match work_us {
        0 => load,
        _ => format!("{load}, backend works {work_us} us"),
    };
    // The budget speaks of full load and of 100 connections; the other figures explain.
    let is_strict = pace.is_none();
    let ratio_budget = if is_strict { Budget::AtLeast(70.0) } else { Budget::None };
    let added_budget = if sides.connections == 100 { Budget::AtMost(1.0) } else { Budget::None };
    if is_strict {
        report.row(format!("{label}: through the gateway"), median(&rates), "msg/s", Budget::None);
        report.row(format!("{label}: backend directly"), median(&direct_rates), "req/s", Budget::None);
        report.row(format!("{label}: ratio"), median(&ratios), "%", ratio_budget);
    }
    report.row(format!("{label}: p50 through"), median(&p50), "ms", Budget::None);
    report.row(format!("{label}: p50 directly"), median(&direct_p50), "ms", Budget::None);
    report.row(format!("{label}: p99 through"), median(&p99), "ms", Budget::None);
    report.row(format!("{label}: p99 directly"), median(&direct_p99), "ms", Budget::None);
    report.row(format!("{label}: p99 added"), median(&added), "ms", added_budget);
    report.row(format!("{label}: gateway CPU per message"), median(&cpu), "us", Budget::None);
    Ok(())
}
