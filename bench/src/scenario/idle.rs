//! Memory per idle connection: the slope of the gateway's RSS between two numbers of connections.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::child::{cpu_time, resident_bytes};
use crate::control::{ECHO_URI, RouteSpec, create_api};
use crate::gateway_process::GatewayProcess;
use crate::report::{Budget, Report};
use crate::swarm::{Exchange, Swarm, Target, payload};

/// How long connections are left alone before memory is read.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub struct Arguments {
    /// The `tidegate` binary
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
    /// Connections at the first reading
    #[arg(long, default_value_t = 2_000)]
    from: usize,
    /// Connections at the second reading; this process and the gateway need as many descriptors each
    #[arg(long, default_value_t = 18_000)]
    to: usize,
    /// Bytes of the message that each connection sends and gets once
    #[arg(long, default_value_t = 200)]
    size: usize,
}

impl Arguments {
    /// Defaults.
    pub fn new(gateway: &Path) -> Self {
        Self { gateway: gateway.to_owned(), from: 2_000, to: 18_000, size: 200 }
    }
}

/// Runs the benchmark.
pub fn run(arguments: &Arguments) -> Result<Report> {
    let Arguments { from, to, .. } = *arguments;
    ensure!(from < to, "--from must be below --to");
    let gateway = GatewayProcess::start(&arguments.gateway)?;
    let route = RouteSpec { key: "$default", uri: ECHO_URI, is_two_way: true };
    let path = create_api(&gateway, &[route])?;
    let target = Target { address: gateway.public, path: Some(path) };
    let exchange = Exchange::echo(&payload(arguments.size));

    let mut swarm = Swarm::open(&target, from)?;
    swarm.exchange_once(&exchange, 0)?;
    sleep(SETTLE);
    let first = resident_bytes(gateway.pid())?;
    swarm.grow(&target, to)?;
    swarm.exchange_once(&exchange, from)?;
    sleep(SETTLE);
    let second = resident_bytes(gateway.pid())?;
    let before = cpu_time(gateway.pid())?;
    sleep(SETTLE);
    let idle_cpu = (cpu_time(gateway.pid())? - before).as_secs_f64() / SETTLE.as_secs_f64() * 100.0;

    let slope = (second as f64 - first as f64) / (to - from) as f64;
    let mut report = Report::new("idle");
    report.row(format!("RSS per connection, {from} to {to}"), slope / 1000.0, "KB", Budget::AtMost(4.0));
    report.row(format!("RSS at {from} connections"), first as f64 / 1e6, "MB", Budget::None);
    report.row(format!("RSS at {to} connections"), second as f64 / 1e6, "MB", Budget::None);
    report.row(format!("CPU while {to} are idle"), idle_cpu, "% core", Budget::None);
    Ok(report)
}
