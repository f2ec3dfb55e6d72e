//! What the rest of the API Gateway contract costs: access logs, templates, an authorizer; each beside the same API
//! without it, in turns.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use super::{micros_each, with_cpu};
use crate::backend;
use crate::child::Helper;
use crate::control::{Extras, create_api_with};
use crate::gateway_process::GatewayProcess;
use crate::report::{Budget, Report, median};
use crate::swarm::{Exchange, Swarm, Target, cycle, payload};

/// Share of the plain rate that the contract must keep, in percent.
const KEPT: f64 = 80.0;

/// An authorizer is one more call for each handshake, so that half of the rate is what a perfect one could keep.
const KEPT_CONNECTS: f64 = 40.0;

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
    /// Processor time that each request costs the backend beyond the echo, in microseconds
    #[arg(long, default_value_t = 0)]
    work_us: u64,
    /// Measure one API with these only, and no others
    #[arg(long, value_delimiter = ',', value_name = "EXTRAS")]
    only: Vec<Extra>,
}

/// What an API can have beyond routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Extra {
    AccessLog,
    Templates,
    Authorizer,
}

impl Arguments {
    /// Defaults.
    pub fn new(gateway: &Path) -> Self {
        let gateway = gateway.to_owned();
        let only = Vec::new();
        Self { gateway, connections: 100, concurrency: 64, rounds: 7, seconds: 1.5, work_us: 0, only }
    }
}

/// One API of the gateway.
struct Side {
    messages: Swarm,
    target: Target,
}

impl Side {
    /// Fails if the API does not do what it should, so that nothing is measured that does not work.
    fn open(
        gateway: &GatewayProcess,
        backend: &Helper,
        extras: Extras,
        n_connections: usize,
        message: &Exchange,
    ) -> Result<Self> {
        let uri = format!("http://{}", backend.address);
        let path = create_api_with(gateway, &uri, extras)?;
        let target = Target { address: gateway.public, path: Some(path) };
        let mut messages = Swarm::open(&target, n_connections).context("connect")?;
        messages.exchange_once(message, 0).context("exchange a first message")?;
        Ok(Self { messages, target })
    }
}

/// Runs the benchmark.
pub fn run(arguments: &Arguments) -> Result<Report> {
    let backend = Helper::start(&backend::arguments(Duration::from_micros(arguments.work_us)))?;
    let gateway = GatewayProcess::start(&arguments.gateway)?;
    let message = Exchange::echo(&payload(100));
    let mut report = Report::new("contract");
    let open = |extras| Side::open(&gateway, &backend, extras, arguments.connections, &message);
    let mut plain = open(Extras::default())?;
    let all = [
        ("access log", Extras { has_access_log: true, ..Extras::default() }),
        ("templates", Extras { has_templates: true, ..Extras::default() }),
        ("authorizer", Extras { has_authorizer: true, ..Extras::default() }),
        ("all three", Extras { has_access_log: true, has_templates: true, has_authorizer: true }),
    ];
    let has = |extra| arguments.only.contains(&extra);
    let only = Extras {
        has_access_log: has(Extra::AccessLog),
        has_templates: has(Extra::Templates),
        has_authorizer: has(Extra::Authorizer),
    };
    let sides = if arguments.only.is_empty() { all.to_vec() } else { vec![("these", only)] };
    for (name, extras) in sides {
        match open(extras) {
            Ok(mut side) => compare(arguments, &gateway, &mut report, name, extras, (&mut side, &mut plain))?,
            Err(error) => report.failed(name, &format!("{error:#}")),
        }
    }
    Ok(report)
}

/// What a measurement gives: rate, and processor time of the gateway for each.
type Measured = Result<(f64, f64)>;

fn compare(
    arguments: &Arguments,
    gateway: &GatewayProcess,
    report: &mut Report,
    name: &str,
    extras: Extras,
    (with, without): (&mut Side, &mut Side),
) -> Result<()> {
    let duration = Duration::from_secs_f64(arguments.seconds);
    let message = Exchange::echo(&payload(100));
    let messages = |side: &mut Side| -> Measured {
        let (outcome, cpu) = with_cpu(gateway.pid(), || side.messages.run(&message, duration, None))?;
        Ok((outcome.per_second(), micros_each(cpu, outcome.exchanges)))
    };
    let connects = |side: &mut Side| -> Measured {
        let (outcome, cpu) =
            with_cpu(gateway.pid(), || cycle(&side.target, arguments.concurrency, duration))?;
        Ok((outcome.per_second(), micros_each(cpu, outcome.exchanges)))
    };
    let kept = Budget::AtLeast(KEPT);
    in_turns(arguments, report, &format!("{name}: messages"), kept, (with, without), messages)?;
    let kept = if extras.has_authorizer { KEPT_CONNECTS } else { KEPT };
    let kept = Budget::AtLeast(kept);
    in_turns(arguments, report, &format!("{name}: connect and close"), kept, (with, without), connects)
}

/// Rounds of both sides, in both orders; the medians of what each round says of the other.
fn in_turns(
    arguments: &Arguments,
    report: &mut Report,
    what: &str,
    budget: Budget,
    (with, without): (&mut Side, &mut Side),
    measure: impl Fn(&mut Side) -> Measured,
) -> Result<()> {
    measure(with)?;
    measure(without)?;
    let (mut rates, mut cpu_ratios, mut rates_with) = (vec![], vec![], vec![]);
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
        rates_with.push(on.0);
    }
    report.row(format!("{what}, rate of without"), median(&rates), "%", budget);
    report.row(format!("{what}, gateway CPU of without"), median(&cpu_ratios), "%", Budget::None);
    report.row(format!("{what}, rate"), median(&rates_with), "1/s", Budget::None);
    Ok(())
}
