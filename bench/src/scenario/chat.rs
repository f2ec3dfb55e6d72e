//! Messages of the chat, stored durably and dispatched to everybody in their room; beside the Python package.
//!
//! Each sender has one message under way and sends the next when its own dispatch has come, which is after the commit.
//! Every dispatch to everybody is counted: a run in which one is lost fails.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::{Map, Value, json};

use super::{micros_each, with_cpu};
use crate::gateway_process::GatewayProcess;
use crate::identity::{SECRET, token};
use crate::party::Party;
use crate::reference::{Place, PythonServer};
use crate::report::{Budget, Report, median};
use crate::swarm::Outcome;

/// Id of the first user; lower ones are the package's own.
const FIRST_USER: usize = 10;

/// Handshakes, and rooms, under way at a time; the package is slow at both.
const WINDOW: usize = 32;

/// How long nothing comes until everything has come that nobody waits for.
const QUIET: Duration = Duration::from_millis(400);

/// Load before what is measured.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct Arguments {
    /// The `tidegate` binary
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
    /// Rooms of ten
    #[arg(long, default_value_t = 100)]
    rooms: usize,
    /// Members of these rooms that send, one message under way each
    #[arg(long, default_value_t = 64)]
    senders: usize,
    /// Members of the large room
    #[arg(long, default_value_t = 100)]
    large: usize,
    /// Members of the large room that send
    #[arg(long, default_value_t = 16)]
    large_senders: usize,
    /// Messages a second at which the latency is looked at too
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Rooms of ten of the package
    #[arg(long, default_value_t = 8)]
    reference_rooms: usize,
    /// Interleaved rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Bytes of a message's content
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Lines of the gateway's `[chat]`
    #[arg(long, default_value = "", value_name = "TOML")]
    settings: String,
    #[command(flatten)]
    place: Place,
}

impl Arguments {
    /// Defaults.
    pub fn new(gateway: &Path) -> Self {
        Self {
            gateway: gateway.to_owned(),
            rooms: 100,
            senders: 64,
            large: 100,
            large_senders: 16,
            rate: 500.0,
            reference_rooms: 8,
            rounds: 3,
            seconds: 4.0,
            size: 100,
            settings: String::new(),
            place: Place::none(),
        }
    }
}

/// Runs the benchmark.
pub fn run(arguments: &Arguments) -> Result<Report> {
    let mut report = Report::new("chat");
    let duration = Duration::from_secs_f64(arguments.seconds);
    {
        let mut side = Side::gateway(arguments, arguments.rooms, 10)?;
        let mut measured = Measured::default();
        side.talk(WARM_UP, arguments.senders, None, arguments.size)?;
        for _ in 0..arguments.rounds.max(1) {
            measured.add(side.talk(duration, arguments.senders, None, arguments.size)?);
        }
        let label = format!("{} rooms of 10, {} senders", arguments.rooms, arguments.senders);
        measured.report(&label, 10, [Budget::AtLeast(3000.0), Budget::AtMost(50.0)], &mut report);
        let mut paced = Measured::default();
        for _ in 0..arguments.rounds.max(1) {
            paced.add(side.talk(duration, arguments.rooms, Some(arguments.rate), arguments.size)?);
        }
        let label = format!("{} rooms of 10, {:.0}/s", arguments.rooms, arguments.rate);
        report.row(format!("{label}: 95% within"), median(&paced.p95), "ms", Budget::AtMost(50.0));
        report.row(format!("{label}: gateway CPU each"), median(&paced.cpu_us), "us", Budget::None);
    }
    {
        let mut side = Side::gateway(arguments, 1, arguments.large)?;
        let mut measured = Measured::default();
        side.talk(WARM_UP, arguments.large_senders, None, arguments.size)?;
        for _ in 0..arguments.rounds.max(1) {
            measured.add(side.talk(duration, arguments.large_senders, None, arguments.size)?);
        }
        let label = format!("room of {}, {} senders", arguments.large, arguments.large_senders);
        measured.report(&label, arguments.large, [Budget::None; 2], &mut report);
    }
    if arguments.place.reference {
        compare(arguments, duration, &mut report)?;
    }
    Ok(report)
}

/// The same small load for both, in turns.
fn compare(arguments: &Arguments, duration: Duration, report: &mut Report) -> Result<()> {
    for (rooms, size) in [(arguments.reference_rooms, 10), (1, arguments.large)] {
        let mut ours = Side::gateway(arguments, rooms, size)?;
        let mut theirs = Side::package(arguments, rooms, size)?;
        let (mut our, mut their) = (Measured::default(), Measured::default());
        let (mut rates, mut costs) = (Vec::new(), Vec::new());
        for _ in 0..arguments.rounds.max(1) {
            their.add(theirs.talk(duration, rooms, None, arguments.size)?);
            our.add(ours.talk(duration, rooms, None, arguments.size)?);
            let last = |values: &[f64]| values.last().copied().unwrap_or_default();
            rates.push(last(&our.rates) / last(&their.rates));
            costs.push(last(&their.cpu_us) / last(&our.cpu_us));
        }
        let label = format!("{rooms} x {size}, a sender each");
        our.report(&format!("{label}: gateway"), size, [Budget::None; 2], report);
        their.report(&format!("{label}: package"), size, [Budget::None; 2], report);
        report.row(format!("{label}: rate, times the package's"), median(&rates), "", Budget::None);
        report.row(format!("{label}: CPU, package's of gateway's"), median(&costs), "", Budget::None);
    }
    Ok(())
}

#[derive(Default)]
struct Measured {
    rates: Vec<f64>,
    p50: Vec<f64>,
    p95: Vec<f64>,
    p99: Vec<f64>,
    cpu_us: Vec<f64>,
}

impl Measured {
    fn add(&mut self, (outcome, cpu): (Outcome, Duration)) {
        self.rates.push(outcome.per_second());
        self.p50.push(outcome.percentile_ms(0.5));
        self.p95.push(outcome.percentile_ms(0.95));
        self.p99.push(outcome.percentile_ms(0.99));
        self.cpu_us.push(micros_each(cpu, outcome.exchanges));
    }

    fn report(&self, label: &str, room: usize, [rate, latency]: [Budget; 2], report: &mut Report) {
        report.row(format!("{label}: stored"), median(&self.rates), "msg/s", rate);
        let dispatches = median(&self.rates) * room as f64;
        report.row(format!("{label}: dispatched"), dispatches, "1/s", Budget::None);
        report.row(format!("{label}: p50"), median(&self.p50), "ms", Budget::None);
        report.row(format!("{label}: p99"), median(&self.p99), "ms", latency);
        report.row(format!("{label}: CPU of each message"), median(&self.cpu_us), "us", Budget::None);
    }
}

enum Server {
    Gateway(GatewayProcess),
    Package(PythonServer),
}

/// A server with rooms, everybody in them connected.
struct Side {
    server: Server,
    party: Party,
    rooms: Vec<String>,
    room_size: usize,
    n_sent: u64,
}

impl Side {
    fn gateway(arguments: &Arguments, rooms: usize, room_size: usize) -> Result<Self> {
        let config = format!("[jwt]\nsecret = \"{SECRET}\"\n[chat]\n{}\n", arguments.settings);
        let process = GatewayProcess::start_with(&arguments.gateway, &config)?;
        Self::furnish(Server::Gateway(process), rooms, room_size)
    }

    fn package(arguments: &Arguments, rooms: usize, room_size: usize) -> Result<Self> {
        let users = (0..rooms * room_size).map(|idx| {
            let mut user = claims(idx);
            user.insert("id".to_owned(), (FIRST_USER + idx).into());
            Value::Object(user)
        });
        Self::furnish(Server::Package(arguments.place.chat(&users.collect())?), rooms, room_size)
    }

    fn furnish(server: Server, rooms: usize, room_size: usize) -> Result<Self> {
        let address = match &server {
            Server::Gateway(process) => process.public,
            Server::Package(process) => process.address,
        };
        let paths = (0..rooms * room_size).map(|idx| {
            let mut claims = claims(idx);
            claims.insert("user_id".to_owned(), (FIRST_USER + idx).into());
            Ok(format!("/messaging/?token={}", token(claims)?))
        });
        let paths: Vec<String> = paths.collect::<Result<_>>()?;
        let party = Party::open(address, &paths, WINDOW).context("connect everybody")?;
        let mut side = Self { server, party, rooms: vec![String::new(); rooms], room_size, n_sent: 0 };
        side.party.be_quiet(QUIET)?;
        side.make_rooms().context("make the rooms")?;
        side.party.be_quiet(QUIET)?;
        Ok(side)
    }

    fn make_rooms(&mut self) -> Result<()> {
        for idx in 0..self.rooms.len() {
            let first = idx * self.room_size;
            let members: Vec<usize> = (first..first + self.room_size).map(|idx| FIRST_USER + idx).collect();
            let name = format!("room {idx};");
            let event = json!({ "event_type": "room.create", "data": {
                "type": "GroupChat", "name": name, "participants": members, "max_participants": self.room_size,
            }});
            self.party.ask(first, &event.to_string(), &name)?;
            let mut arrivals = Vec::new();
            while arrivals.is_empty() {
                arrivals = self.party.arrivals(None)?;
            }
            let text = &arrivals[0].text;
            let frame: Value = serde_json::from_slice(text).context("parse a room")?;
            let id = frame["data"]["id"].as_str();
            let id = id.with_context(|| format!("no id in {}", String::from_utf8_lossy(text)))?;
            id.clone_into(&mut self.rooms[idx]);
        }
        Ok(())
    }

    fn pid(&self) -> u32 {
        match &self.server {
            Server::Gateway(process) => process.pid(),
            Server::Package(process) => process.pid(),
        }
    }

    /// Senders go round the rooms: with no more of them than rooms, each has a room of its own.
    fn talk(
        &mut self,
        duration: Duration,
        senders: usize,
        pace: Option<f64>,
        size: usize,
    ) -> Result<(Outcome, Duration)> {
        ensure!(senders <= self.rooms.len() * self.room_size, "more senders than members");
        let pid = self.pid();
        let before = (self.n_sent, self.party.n_frames);
        let result = with_cpu(pid, || self.send_for(duration, senders, pace, size));
        if let (Err(_), Server::Package(process)) = (&result, &self.server) {
            eprintln!("{}", process.log());
        }
        let (outcome, cpu) = result?;
        self.party.settle(before.1 + (self.n_sent - before.0) * self.room_size as u64)?;
        Ok((outcome, cpu))
    }

    fn send_for(
        &mut self,
        duration: Duration,
        senders: usize,
        pace: Option<f64>,
        size: usize,
    ) -> Result<Outcome> {
        let rooms = self.rooms.len();
        let member = |turn: usize| (turn % rooms) * self.room_size + turn / rooms;
        let mut free: Vec<usize> = (0..senders).map(member).collect();
        let mut latencies = Vec::new();
        let started = Instant::now();
        let mut n_begun = 0_u64;
        let mut n_open = 0_usize;
        loop {
            let elapsed = started.elapsed();
            let is_over = elapsed >= duration;
            if is_over && n_open == 0 {
                break;
            }
            let due = pace.map_or(u64::MAX, |rate| (elapsed.as_secs_f64() * rate) as u64);
            while !is_over && n_begun < due && !free.is_empty() {
                let idx = free.swap_remove(n_begun as usize % free.len());
                self.send(idx, size)?;
                n_begun += 1;
                n_open += 1;
            }
            for arrival in self.party.arrivals(pace.map(|_| Duration::from_millis(1)))? {
                n_open -= 1;
                latencies.push(arrival.latency);
                free.push(arrival.idx);
            }
        }
        Ok(Outcome::of(&latencies, started.elapsed()))
    }

    fn send(&mut self, idx: usize, size: usize) -> Result<()> {
        self.n_sent += 1;
        let marker = format!("m-{};", self.n_sent);
        let room = &self.rooms[idx / self.room_size];
        let event = format!(
            r#"{{"event_type":"message.send","data":{{"room_id":"{room}","content":"{marker:.<size$}"}}}}"#
        );
        self.party.ask(idx, &event, &marker)
    }
}

fn claims(idx: usize) -> Map<String, Value> {
    let number = FIRST_USER + idx;
    let claims = json!({
        "username": format!("user{number}"), "email": format!("user{number}@example.test"),
        "first_name": "Mira", "last_name": "Holm",
    });
    let Value::Object(claims) = claims else { return Map::new() };
    claims
}
