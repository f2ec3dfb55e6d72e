//! One alert to many subscribers, published by HTTP; beside an alert manager of the usual kind in Python.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::{Map, Value, json};

use super::{micros_each, with_cpu};
use crate::gateway_process::GatewayProcess;
use crate::http_exchange::{Answer, exchange};
use crate::identity::{SECRET, token};
use crate::party::Party;
use crate::reference::{Place, PythonServer};
use crate::report::{Budget, Report, median};

/// Handshakes under way at a time.
const WINDOW: usize = 64;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The `tidegate` binary
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
    /// Subscribers
    #[arg(long, default_value_t = 10_000)]
    subscribers: usize,
    /// Subscribers where the Python original is measured too
    #[arg(long, default_value_t = 2_000)]
    reference_subscribers: usize,
    /// Interleaved rounds, each with fresh connections
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Publishes of each round
    #[arg(long, default_value_t = 7)]
    publishes: usize,
    /// Bytes of an alert
    #[arg(long, default_value_t = 256)]
    size: usize,
    #[command(flatten)]
    place: Place,
}

impl Arguments {
    /// Defaults.
    pub fn new(gateway: &Path) -> Self {
        Self {
            gateway: gateway.to_owned(),
            subscribers: 10_000,
            reference_subscribers: 2_000,
            rounds: 3,
            publishes: 7,
            size: 256,
            place: Place::none(),
        }
    }
}

/// Runs the benchmark.
pub fn run(arguments: &Arguments) -> Result<Report> {
    let mut report = Report::new("alerts");
    let mut measured = Measured::default();
    for _ in 0..arguments.rounds.max(1) {
        measured.add(&Side::gateway(arguments, arguments.subscribers)?.measure(arguments)?);
    }
    let label = format!("{} B to {}", arguments.size, arguments.subscribers);
    measured.report(&label, &mut report);
    if arguments.place.reference {
        let subscribers = arguments.reference_subscribers;
        let (mut ours, mut theirs) = (Measured::default(), Measured::default());
        let mut ratios = Vec::new();
        for _ in 0..arguments.rounds.max(1) {
            // Connections too take turns: together they would need more descriptors than a process has.
            let their = Side::python(arguments, subscribers)?.measure(arguments)?;
            let our = Side::gateway(arguments, subscribers)?.measure(arguments)?;
            ratios.push(our.rate / their.rate);
            theirs.add(&their);
            ours.add(&our);
        }
        let label = format!("{} B to {subscribers}", arguments.size);
        ours.report(&format!("{label}: gateway"), &mut report);
        theirs.report(&format!("{label}: Python"), &mut report);
        let label = format!("{label}: rate, times the Python original's");
        report.row(label, median(&ratios), "", Budget::None);
        let cpu = median(&theirs.cpu_us) / median(&ours.cpu_us);
        let label = format!("{} B to {subscribers}: CPU, Python's of gateway's", arguments.size);
        report.row(label, cpu, "", Budget::None);
    }
    Ok(report)
}

/// Of one round: medians of its publishes.
struct Round {
    last_ms: f64,
    rate: f64,
    cpu_us: f64,
}

#[derive(Default)]
struct Measured {
    last_ms: Vec<f64>,
    rates: Vec<f64>,
    cpu_us: Vec<f64>,
}

impl Measured {
    fn add(&mut self, round: &Round) {
        self.last_ms.push(round.last_ms);
        self.rates.push(round.rate);
        self.cpu_us.push(round.cpu_us);
    }

    fn report(&self, label: &str, report: &mut Report) {
        let slowest = self.last_ms.iter().copied().fold(0.0, f64::max);
        report.row(format!("{label}: last delivery after"), median(&self.last_ms), "ms", Budget::None);
        report.row(format!("{label}: the same, slowest round"), slowest, "ms", Budget::None);
        report.row(format!("{label}: delivered"), median(&self.rates), "dlv/s", Budget::None);
        report.row(format!("{label}: CPU of each delivery"), median(&self.cpu_us), "us", Budget::None);
    }
}

enum Server {
    Gateway(GatewayProcess),
    Python(PythonServer),
}

/// A server with its subscribers.
struct Side {
    server: Server,
    party: Party,
    request: Vec<u8>,
    subscribers: usize,
}

impl Side {
    fn gateway(arguments: &Arguments, subscribers: usize) -> Result<Self> {
        let config = format!("[jwt]\nsecret = \"{SECRET}\"\n[apps.alerts]\n");
        let process = GatewayProcess::start_with(&arguments.gateway, &config)?;
        Self::subscribe(Server::Gateway(process), arguments, subscribers)
    }

    fn python(arguments: &Arguments, subscribers: usize) -> Result<Self> {
        Self::subscribe(Server::Python(arguments.place.alerts()?), arguments, subscribers)
    }

    fn subscribe(server: Server, arguments: &Arguments, subscribers: usize) -> Result<Self> {
        let address = match &server {
            Server::Gateway(process) => process.public,
            Server::Python(process) => process.address,
        };
        let path = |idx| Ok(format!("/api/alerts/subscribe?token={}", token(claims(idx, "authority"))?));
        let paths: Vec<String> = (0..subscribers).map(path).collect::<Result<_>>()?;
        let party = Party::open(address, &paths, WINDOW).context("connect everybody")?;
        let request = request(address, arguments.size)?;
        Ok(Self { server, party, request, subscribers })
    }

    fn measure(&mut self, arguments: &Arguments) -> Result<Round> {
        let (address, pid) = match &self.server {
            Server::Gateway(process) => (process.public, process.pid()),
            Server::Python(process) => (process.address, process.pid()),
        };
        // Warms up.
        self.publish(address)?;
        let publishes = arguments.publishes.max(1);
        let (times, cpu) = with_cpu(pid, || {
            (0..publishes).map(|_| Ok(self.publish(address)?.as_secs_f64())).collect::<Result<Vec<f64>>>()
        })?;
        let last = median(&times);
        let cpu_us = micros_each(cpu, (self.subscribers * publishes) as u64);
        Ok(Round { last_ms: last * 1e3, rate: self.subscribers as f64 / last, cpu_us })
    }

    /// From the call to the last delivery.
    fn publish(&mut self, address: SocketAddr) -> Result<Duration> {
        let due = self.party.n_frames + self.subscribers as u64;
        let request = self.request.clone();
        let started = Instant::now();
        let calling = std::thread::spawn(move || exchange(address, &request));
        self.party.settle(due)?;
        let elapsed = started.elapsed();
        let answer: Answer = calling.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
        let told: Value = serde_json::from_slice(&answer.body).context("parse the answer")?;
        ensure!(
            answer.status == 200 && told["connections"] == self.subscribers,
            "a publish was answered {}: {told}",
            answer.status
        );
        Ok(elapsed)
    }
}

/// One complete publish.
fn request(address: SocketAddr, size: usize) -> Result<Vec<u8>> {
    let alert = |text: &str| json!({"type": "sos_alert", "timestamp": "2026-01-31T12:00:00Z", "severity": "high", "text": text});
    let filling = "x".repeat(size.saturating_sub(alert("").to_string().len()));
    let body = json!({ "channel": "authority", "alert": alert(&filling) }).to_string();
    let bearer = token(claims(0, "service"))?;
    let head = format!(
        "POST /api/alerts/publish HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {bearer}\r\n\
         Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Ok(head.into_bytes())
}

fn claims(idx: usize, role: &str) -> Map<String, Value> {
    let id = format!("user{idx}");
    let claims = json!({ "sub": id, "email": format!("{id}@example.test"), "role": role });
    let Value::Object(claims) = claims else { return Map::new() };
    claims
}
