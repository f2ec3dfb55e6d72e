//! Connect, `$connect` integration, close.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::{micros_each, with_cpu};
use crate::backend;
use crate::child::Helper;
use crate::control::{RouteSpec, create_api};
use crate::gateway_process::GatewayProcess;
use crate::report::{Budget, Report, median};
use crate::swarm::{Target, cycle};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The `tidegate` binary
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
    /// Connections under way at a time
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each round
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

impl Arguments {
    /// Defaults.
    pub fn new(gateway: &Path) -> Self {
        Self { gateway: gateway.to_owned(), concurrency: 64, rounds: 5, seconds: 2.0 }
    }
}

/// Runs the benchmark.
pub fn run(arguments: &Arguments) -> Result<Report> {
    let gateway = GatewayProcess::start(&arguments.gateway)?;
    let backend = Helper::start(&backend::arguments(Duration::ZERO))?;
    let uri = format!("http://{}/", backend.address);
    let route = RouteSpec { key: "$connect", uri: &uri, is_two_way: false };
    let path = create_api(&gateway, &[route])?;
    let target = Target { address: gateway.public, path: Some(path) };
    let duration = Duration::from_secs_f64(arguments.seconds);
    cycle(&target, arguments.concurrency, Duration::from_millis(500))?;
    let (mut per_core, mut rates, mut cpu_us, mut p99) = (vec![], vec![], vec![], vec![]);
    for _ in 0..arguments.rounds.max(1) {
        let (outcome, cpu) = with_cpu(gateway.pid(), || cycle(&target, arguments.concurrency, duration))?;
        per_core.push(outcome.exchanges as f64 / cpu.as_secs_f64());
        rates.push(outcome.per_second());
        cpu_us.push(micros_each(cpu, outcome.exchanges));
        p99.push(outcome.percentile_ms(0.99));
    }
    let mut report = Report::new("connect");
    let label = "connect, $connect, close: per core of the gateway";
    report.row(label, median(&per_core), "conn/s", Budget::AtLeast(3_000.0));
    report.row("rate beside clients and backend", median(&rates), "conn/s", Budget::None);
    report.row("gateway CPU per connection", median(&cpu_us), "us", Budget::None);
    report.row("p99 from connect to end", median(&p99), "ms", Budget::None);
    Ok(report)
}
