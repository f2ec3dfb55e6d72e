//! One message to many connections, beside a bare epoll loop that writes the same bytes to the same number of sockets.
//!
//! The gateway is told by signed `POST /@broadcast` over one keep-alive connection, as a backend would. Some clients
//! among the others never read; every answer must have counted everybody.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use super::{micros_each, with_cpu};
use crate::child::Helper;
use crate::control::{ECHO_URI, RouteSpec, create_api, signed_post, signer};
use crate::gateway_process::GatewayProcess;
use crate::http_exchange::exchange;
use crate::node::{self, NodeKind};
use crate::report::{Budget, Report, median};
use crate::swarm::{Swarm, Target, payload, server_head};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The `tidegate` binary
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
    /// Clients of the gateway that never read, beside the others
    #[arg(long, default_value_t = 100)]
    silent: usize,
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

impl Arguments {
    /// Defaults.
    pub fn new(gateway: &Path) -> Self {
        Self {
            gateway: gateway.to_owned(),
            silent: 100,
            connections: 10_000,
            burst_connections: 8_000,
            burst: 100,
            rounds: 3,
            pushes: 7,
            size: 256,
        }
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

/// A server with its connected clients.
#[expect(clippy::large_enum_variant, reason = "there is one of them at a time")]
enum Side {
    Gateway {
        process: GatewayProcess,
        /// One complete publish.
        request: Vec<u8>,
        answer_len: usize,
        publisher: TcpStream,
        clients: Swarm,
        /// Connected, and never read from.
        _silent: Swarm,
    },
    Bare {
        node: Helper,
        clients: Swarm,
    },
}

impl Side {
    fn gateway(arguments: &Arguments, connections: usize) -> Result<Self> {
        let process = GatewayProcess::start(&arguments.gateway)?;
        let route = RouteSpec { key: "unused", uri: ECHO_URI, is_two_way: false };
        let path = create_api(&process, &[route])?;
        let target = Target { address: process.public, path: Some(path.clone()) };
        let clients = Swarm::open(&target, connections)?;
        let silent = Swarm::open(&target, arguments.silent)?;
        let text = payload(arguments.size);
        let request = signed_post(
            &signer("execute-api"),
            process.public,
            &format!("{path}/@broadcast"),
            text.as_bytes(),
            "application/octet-stream",
        )?;
        let answer = exchange(process.public, &request).context("publish once")?;
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        let everybody = format!(r#"{{"delivered":{},"gone":0,"slow":0}}"#, connections + arguments.silent);
        ensure!(told == everybody, "the answer to a publish was {told} instead of {everybody}");
        let publisher = TcpStream::connect(process.public).context("connect the publisher")?;
        publisher.set_nodelay(true).context("set nodelay")?;
        let mut side = Self::Gateway {
            process,
            request,
            answer_len: answer.n_bytes,
            publisher,
            clients,
            _silent: silent,
        };
        // What the first publish brought.
        side.receive(1, arguments.size)?;
        Ok(side)
    }

    fn bare(connections: usize) -> Result<Self> {
        let node = Helper::start(&node::arguments(NodeKind::BareFanout, 0))?;
        let clients =
            Swarm::open(&Target { address: node.address, path: Some("/".to_owned()) }, connections)?;
        Ok(Self::Bare { node, clients })
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Gateway { process, .. } => process.pid(),
            Self::Bare { node, .. } => node.pid(),
        }
    }

    fn receive(&mut self, count: usize, size: usize) -> Result<Instant> {
        let n_bytes = count * (server_head(size).len() + size);
        match self {
            Self::Gateway { clients, .. } | Self::Bare { clients, .. } => clients.receive(n_bytes),
        }
    }

    /// Publishes, and waits until every client has every byte.
    fn push(&mut self, count: usize, size: usize) -> Result<Duration> {
        let started = Instant::now();
        let answers = match self {
            Self::Bare { node, .. } => {
                node.tell(&format!("push {count} {size}"))?;
                None
            }
            Self::Gateway { publisher, request, answer_len, .. } => {
                let (mut stream, request) =
                    (publisher.try_clone().context("share a socket")?, request.clone());
                let mut expected = vec![0; *answer_len];
                Some(std::thread::spawn(move || -> Result<()> {
                    for _ in 0..count {
                        stream.write_all(&request).context("publish")?;
                        stream.read_exact(&mut expected).context("read an answer")?;
                        ensure!(expected.starts_with(b"HTTP/1.1 200"), "a publish was refused");
                    }
                    Ok(())
                }))
            }
        };
        let ended = self.receive(count, size).context("wait for the messages")?;
        if let Some(answers) = answers {
            answers.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
        }
        Ok(ended - started)
    }
}

/// The two sides take turns with their connections too: together they would need more descriptors than a process has.
fn compare(arguments: &Arguments, connections: usize, count: usize) -> Result<Comparison> {
    let mut comparison = Comparison::default();
    for _ in 0..arguments.rounds.max(1) {
        let ours = measure(Side::gateway(arguments, connections)?, arguments, connections, count)?;
        let bare = measure(Side::bare(connections)?, arguments, connections, count)?;
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

fn measure(mut side: Side, arguments: &Arguments, connections: usize, count: usize) -> Result<Measured> {
    side.push(count, arguments.size)?;
    let deliveries = (connections * count) as f64;
    let pushes = arguments.pushes.max(1);
    let (rates, cpu) = with_cpu(side.pid(), || {
        (0..pushes)
            .map(|_| Ok(deliveries / side.push(count, arguments.size)?.as_secs_f64()))
            .collect::<Result<Vec<f64>>>()
    })?;
    let cpu_us = micros_each(cpu, (connections * count * pushes) as u64);
    Ok(Measured { per_second: median(&rates), cpu_us })
}
