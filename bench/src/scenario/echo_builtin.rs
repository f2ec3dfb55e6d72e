//! The built-in echo, beside a bare epoll loop that writes a prepared frame for every read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::{micros_each, with_cpu};
use crate::child::Helper;
use crate::control::{ECHO_URI, RouteSpec, create_api};
use crate::gateway_process::GatewayProcess;
use crate::node::{self, NodeKind};
use crate::report::{Budget, Report, median};
use crate::swarm::{Exchange, Swarm, Target, payload};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The `tidegate` binary
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
    /// Number of connections
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Interleaved rounds
    #[arg(long, default_value_t = 5)]
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
        Self { gateway: gateway.to_owned(), connections: 100, rounds: 5, seconds: 2.0, size: 100 }
    }
}

/// Runs the benchmark.
pub fn run(arguments: &Arguments) -> Result<Report> {
    let gateway = GatewayProcess::start(&arguments.gateway)?;
    let route = RouteSpec { key: "$default", uri: ECHO_URI, is_two_way: true };
    let path = create_api(&gateway, &[route])?;
    let bare = Helper::start(&node::arguments(NodeKind::BareEcho, arguments.size))?;
    let exchange = Exchange::echo(&payload(arguments.size));
    let connections = arguments.connections;
    let mut ours = Swarm::open(&Target { address: gateway.public, path: Some(path) }, connections)?;
    let mut theirs = Swarm::open(&Target { address: bare.address, path: None }, connections)?;

    let warm_up = Duration::from_millis(500);
    ours.run(&exchange, warm_up, None)?;
    theirs.run(&exchange, warm_up, None)?;
    let duration = Duration::from_secs_f64(arguments.seconds);
    let (mut rates, mut bare_rates, mut ratios) = (vec![], vec![], vec![]);
    let (mut cpu, mut bare_cpu, mut p99) = (vec![], vec![], vec![]);
    for _ in 0..arguments.rounds.max(1) {
        let (outcome, used) = with_cpu(gateway.pid(), || ours.run(&exchange, duration, None))?;
        let (bare_outcome, bare_used) = with_cpu(bare.pid(), || theirs.run(&exchange, duration, None))?;
        rates.push(outcome.per_second());
        bare_rates.push(bare_outcome.per_second());
        ratios.push(outcome.per_second() / bare_outcome.per_second() * 100.0);
        cpu.push(micros_each(used, outcome.exchanges));
        bare_cpu.push(micros_each(bare_used, bare_outcome.exchanges));
        p99.push(outcome.percentile_ms(0.99));
    }
    let mut report = Report::new("echo-builtin");
    report.row(format!("{connections} conn: gateway"), median(&rates), "msg/s", Budget::None);
    report.row(format!("{connections} conn: bare epoll"), median(&bare_rates), "msg/s", Budget::None);
    report.row(format!("{connections} conn: ratio"), median(&ratios), "%", Budget::AtLeast(90.0));
    report.row("gateway CPU per message", median(&cpu), "us", Budget::None);
    report.row("bare epoll CPU per message", median(&bare_cpu), "us", Budget::None);
    report.row("gateway p99", median(&p99), "ms", Budget::None);
    Ok(report)
}
