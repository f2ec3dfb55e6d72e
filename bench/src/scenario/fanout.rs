//! One message to many connections, beside a bare epoll loop that writes the same bytes to the same number of sockets.
//!
//! The gateway's data plane runs in a process of this binary, because a fan-out has no public address yet.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;

use super::{micros_each, with_cpu};
use crate::child::Helper;
use crate::node::{self, NodeKind};
use crate::report::{Budget, Report, median};
use crate::swarm::{Swarm, Target, server_head};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Connections of a single publish
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Connections of a burst
    #[arg(long, default_value_t = 8_000)]
    burst_connections: usize,
    /// Messages of a burst
    #[arg(long, default_value_t = 100)]
    burst: usize,
    /// Interleaved rounds, each with fresh connections
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Publishes, or bursts, of each round
    #[arg(long, default_value_t = 7)]
    pushes: usize,
    /// Bytes of a message
    #[arg(long, default_value_t = 256)]
    size: usize,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { connections: 10_000, burst_connections: 8_000, burst: 100, rounds: 3, pushes: 7, size: 256 }
    }
}

/// Runs the benchmark.
pub fn run(arguments: &Arguments) -> Result<Report> {
    let mut report = Report::new("fanout");
    let single = compare(arguments, arguments.connections, 1)?;
    let label = format!("1 x {} B to {}", arguments.size, arguments.connections);
    single.report(&label, Budget::AtLeast(85.0), Budget::None, &mut report);
    let burst = compare(arguments, arguments.burst_connections, arguments.burst)?;
    let label = format!("{} x {} B to {}", arguments.burst, arguments.size, arguments.burst_connections);
    burst.report(&label, Budget::None, Budget::AtLeast(1_000_000.0), &mut report);
    Ok(report)
}

#[derive(Default)]
struct Comparison {
    rates: Vec<f64>,
    bare_rates: Vec<f64>,
    ratios: Vec<f64>,
    cpu_us: Vec<f64>,
    bare_cpu_us: Vec<f64>,
}

impl Comparison {
    fn report(&self, label: &str, ratio: Budget, rate: Budget, report: &mut Report) {
        report.row(format!("{label}: gateway"), median(&self.rates), "dlv/s", rate);
        report.row(format!("{label}: bare epoll"), median(&self.bare_rates), "dlv/s", Budget::None);
        report.row(format!("{label}: ratio"), median(&self.ratios), "%", ratio);
        report.row(format!("{label}: gateway CPU each"), median(&self.cpu_us), "us", Budget::None);
        report.row(format!("{label}: bare epoll CPU each"), median(&self.bare_cpu_us), "us", Budget::None);
    }
}

/// A node with its connected clients.
struct Side {
    kind: NodeKind,
    node: Helper,
    clients: Swarm,
}

impl Side {
    fn start(kind: NodeKind, connections: usize) -> Result<Self> {
        let node = Helper::start(&node::arguments(kind, 0))?;
        let path = Some(if kind == NodeKind::Gateway { node::GATEWAY_PATH } else { "/" }.to_owned());
        let clients = Swarm::open(&Target { address: node.address, path }, connections)?;
        Ok(Self { kind, node, clients })
    }

    /// Pushes, and waits until every client has every byte.
    fn push(&mut self, count: usize, size: usize) -> Result<Duration> {
        let started = Instant::now();
        self.node.tell(&format!("push {count} {size}"))?;
        let n_bytes = count * (server_head(size).len() + size);
        let ended = self.clients.receive(n_bytes).with_context(|| format!("push to {:?}", self.kind))?;
        Ok(ended - started)
    }
}

/// The two sides take turns with their connections too: together they would need more descriptors than a process has.
fn compare(arguments: &Arguments, connections: usize, count: usize) -> Result<Comparison> {
    let mut comparison = Comparison::default();
    for _ in 0..arguments.rounds.max(1) {
        let ours = measure(NodeKind::Gateway, arguments, connections, count)?;
        let bare = measure(NodeKind::BareFanout, arguments, connections, count)?;
        comparison.rates.push(ours.per_second);
        comparison.bare_rates.push(bare.per_second);
        comparison.ratios.push(ours.per_second / bare.per_second * 100.0);
        comparison.cpu_us.push(ours.cpu_us);
        comparison.bare_cpu_us.push(bare.cpu_us);
    }
    Ok(comparison)
}

/// Deliveries a second (median of the pushes) and processor time for each.
struct Measured {
    per_second: f64,
    cpu_us: f64,
}

fn measure(kind: NodeKind, arguments: &Arguments, connections: usize, count: usize) -> Result<Measured> {
    let mut side = Side::start(kind, connections)?;
    side.push(count, arguments.size)?;
    let deliveries = (connections * count) as f64;
    let pushes = arguments.pushes.max(1);
    let (rates, cpu) = with_cpu(side.node.pid(), || {
        (0..pushes)
            .map(|_| Ok(deliveries / side.push(count, arguments.size)?.as_secs_f64()))
            .collect::<Result<Vec<f64>>>()
    })?;
    let cpu_us = micros_each(cpu, (connections * count * pushes) as u64);
    Ok(Measured { per_second: median(&rates), cpu_us })
}
