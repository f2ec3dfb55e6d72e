//! What the journal costs: the same work with it and without it, in turns; and its bounds under a storm of attempts.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;

use super::{micros_each, with_cpu};
use crate::backend;
use crate::child::{Helper, resident_bytes};
use crate::control::{ECHO_URI, RouteSpec, create_api};
use crate::gateway_process::GatewayProcess;
use crate::report::{Budget, Report, median};
use crate::swarm::{Exchange, Swarm, Target, cycle, payload};

/// Without the journal.
const OFF: &str = "[journal]\nenabled = false\n";

/// Small enough that a storm of some seconds reaches it.
const STORM_MAX_BYTES: u64 = 32 * 1024 * 1024;

/// With a journal that is soon full.
const STORM: &str = "[journal]\nmax_bytes = 33554432\n";

#[derive(Debug, Args)]
pub struct Arguments {
    /// The `tidegate` binary
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
    /// Connections that send messages
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Connections under way at a time where they are opened and closed
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// Interleaved rounds
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Seconds of the storm
    #[arg(long, default_value_t = 15.0)]
    storm_seconds: f64,
}

impl Arguments {
    /// Defaults.
    pub fn new(gateway: &Path) -> Self {
        let gateway = gateway.to_owned();
        Self { gateway, connections: 100, concurrency: 64, rounds: 7, seconds: 1.5, storm_seconds: 15.0 }
    }
}

/// A gateway with the same two APIs.
struct Side {
    gateway: GatewayProcess,
    echo: Swarm,
    relay: Swarm,
    connect: Target,
}

/// What a round measures: rate, and processor time of the gateway for each.
type Measured = Result<(f64, f64)>;

impl Side {
    fn start(arguments: &Arguments, config: &str, backend: &Helper) -> Result<Self> {
        let gateway = GatewayProcess::start_with(&arguments.gateway, config)?;
        let uri = format!("http://{}/", backend.address);
        let route = |key, uri, is_two_way| RouteSpec { key, uri, is_two_way };
        let echo = create_api(&gateway, &[route("$default", ECHO_URI, true)])?;
        let relay = create_api(&gateway, &[route("$connect", &uri, false), route("$default", &uri, true)])?;
        let target = |path: &str| Target { address: gateway.public, path: Some(path.to_owned()) };
        let echo = Swarm::open(&target(&echo), arguments.connections)?;
        let connect = target(&relay);
        let relay = Swarm::open(&connect, arguments.connections)?;
        Ok(Self { gateway, echo, relay, connect })
    }

    fn messages(&mut self, is_echo: bool, message: &Exchange, duration: Duration) -> Measured {
        let swarm = if is_echo { &mut self.echo } else { &mut self.relay };
        let (outcome, cpu) = with_cpu(self.gateway.pid(), || swarm.run(message, duration, None))?;
        Ok((outcome.per_second(), micros_each(cpu, outcome.exchanges)))
    }

    fn connects(&mut self, concurrency: usize, duration: Duration) -> Measured {
        let (outcome, cpu) = with_cpu(self.gateway.pid(), || cycle(&self.connect, concurrency, duration))?;
        Ok((outcome.per_second(), micros_each(cpu, outcome.exchanges)))
    }
}

/// Runs the benchmark.
pub fn run(arguments: &Arguments) -> Result<Report> {
    let backend = Helper::start(&backend::arguments(Duration::ZERO))?;
    let mut report = Report::new("journal");
    {
        let mut with = Side::start(arguments, "", &backend)?;
        let mut without = Side::start(arguments, OFF, &backend)?;
        let message = Exchange::echo(&payload(100));
        let duration = Duration::from_secs_f64(arguments.seconds);
        for (what, is_echo) in [("messages, built-in echo", true), ("messages, HTTP backend", false)] {
            compare(arguments, &mut report, what, &mut with, &mut without, |side| {
                side.messages(is_echo, &message, duration)
            })?;
        }
        compare(arguments, &mut report, "connect, $connect, close", &mut with, &mut without, |side| {
            side.connects(arguments.concurrency, duration)
        })?;
    }
    storm(arguments, &backend, &mut report)?;
    Ok(report)
}

/// Rounds of both sides, in turns and in both orders; the medians of what each round says of the other.
fn compare(
    arguments: &Arguments,
    report: &mut Report,
    what: &str,
    with: &mut Side,
    without: &mut Side,
    mut measure: impl FnMut(&mut Side) -> Measured,
) -> Result<()> {
    // Warm both up: buffers, connections to the backend, pages of the journal.
    measure(with)?;
    measure(without)?;
    let (mut rates, mut cpu_ratios, mut rate_with, mut cpu_with) = (vec![], vec![], vec![], vec![]);
    for round in 0..arguments.rounds.max(1) {
        let (on, off) = if round % 2 == 0 {
            let on = measure(with)?;
            (on, measure(without)?)
        } else {
            let off = measure(without)?;
            (measure(with)?, off)
        };
        rates.push(on.0 / off.0 * 100.0);
        cpu_ratios.push(on.1 / off.1 * 100.0);
        rate_with.push(on.0);
        cpu_with.push(on.1);
    }
    report.row(
        format!("{what}: rate with the journal, of without"),
        median(&rates),
        "%",
        Budget::AtLeast(95.0),
    );
    report.row(format!("{what}: gateway CPU with, of without"), median(&cpu_ratios), "%", Budget::None);
    report.row(format!("{what}: rate with"), median(&rate_with), "1/s", Budget::None);
    report.row(format!("{what}: gateway CPU with"), median(&cpu_with), "us", Budget::None);
    Ok(())
}

/// Accepted and refused attempts as fast as they go: memory and disk stay where they may be.
fn storm(arguments: &Arguments, backend: &Helper, report: &mut Report) -> Result<()> {
    let side = Side::start(arguments, STORM, backend)?;
    let duration = Duration::from_secs_f64(arguments.storm_seconds);
    let before = resident_bytes(side.gateway.pid())?;
    let refused = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    let started = Instant::now();
    let accepted = std::thread::scope(|scope| {
        let refuser = scope.spawn(|| refuse_until(&side, &is_over, &refused));
        let outcome = cycle(&side.connect, arguments.concurrency, duration);
        is_over.store(true, Ordering::Relaxed);
        refuser.join().map_err(|_| anyhow::anyhow!("the refused client panicked"))??;
        outcome
    })?;
    let attempts = (accepted.exchanges + refused.load(Ordering::Relaxed)) as f64;
    let grown = resident_bytes(side.gateway.pid())?.saturating_sub(before);
    report.row(
        "storm: attempts",
        attempts / started.elapsed().as_secs_f64(),
        "1/s",
        Budget::AtLeast(5_000.0),
    );
    report.row(
        "storm: of them refused",
        refused.load(Ordering::Relaxed) as f64 / attempts * 100.0,
        "%",
        Budget::None,
    );
    report.row("storm: memory grown by", grown as f64 / 1e6, "MB", Budget::AtMost(64.0));
    // One sweep later it must be inside its bound; while entries arrive it may be over by what arrives between two.
    let bound = STORM_MAX_BYTES as f64 / 1e6;
    let deadline = Instant::now() + Duration::from_secs(75);
    while journal_bytes(&side.gateway)? > STORM_MAX_BYTES && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
    let bytes = journal_bytes(&side.gateway)? as f64 / 1e6;
    report.row("storm: journal on the disk after a sweep", bytes, "MB", Budget::AtMost(bound));
    Ok(())
}

/// Handshakes of a stage that does not exist, one after the other over one connection.
fn refuse_until(side: &Side, is_over: &AtomicBool, refused: &AtomicU64) -> Result<()> {
    let path = side.connect.path.as_deref().context("a path")?;
    let request = format!(
        "GET {path}x HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        side.gateway.public
    );
    let mut buffer = [0; 4096];
    let mut stream = None;
    while !is_over.load(Ordering::Relaxed) {
        let mut open = match stream.take() {
            Some(open) => open,
            None => TcpStream::connect(side.gateway.public).context("connect")?,
        };
        let answered = open.write_all(request.as_bytes()).and_then(|()| open.read(&mut buffer));
        // Closed after a refusal or instead of an answer: the next attempt has a connection of its own.
        if let Ok(1..) = answered {
            anyhow::ensure!(buffer.starts_with(b"HTTP/1.1 403"), "not refused");
            refused.fetch_add(1, Ordering::Relaxed);
            stream = Some(open);
        }
    }
    Ok(())
}

/// Bytes of the journal's files.
fn journal_bytes(gateway: &GatewayProcess) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(gateway.data_dir()).context("read the data directory")? {
        let entry = entry.context("read the data directory")?;
        let is_main = entry.file_name().to_string_lossy() == "journal.db";
        bytes += if is_main { entry.metadata().context("look at the journal")?.len() } else { 0 };
    }
    Ok(bytes)
}
