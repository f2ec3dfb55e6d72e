//! Handshakes with everything on: origin list, limits, one-time token, channel rule, `$connect` integration; then close.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::{micros_each, with_cpu};
use crate::backend;
use crate::child::Helper;
use crate::control::{RouteSpec, STAGE, create_api};
use crate::gateway_process::{API_KEY, GatewayProcess};
use crate::http_exchange::{content_length, exchange, head_len};
use crate::report::{Budget, Report, median};
use crate::swarm::cycle_each;

/// Callers that fetch tokens at a time.
const CALLERS: usize = 16;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The `tidegate` binary
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
    /// Connections under way at a time
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// Rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Handshakes of each round
    #[arg(long, default_value_t = 5_000)]
    handshakes: usize,
}

impl Arguments {
    /// Defaults.
    pub fn new(gateway: &Path) -> Self {
        Self { gateway: gateway.to_owned(), concurrency: 64, rounds: 3, handshakes: 5_000 }
    }
}

/// Runs the benchmark.
pub fn run(arguments: &Arguments) -> Result<Report> {
    let gateway = GatewayProcess::start(&arguments.gateway)?;
    let backend = Helper::start(&backend::arguments(Duration::ZERO))?;
    let uri = format!("http://{}/", backend.address);
    let route = RouteSpec { key: "$connect", uri: &uri, is_two_way: false };
    let path = create_api(&gateway, &[route])?;
    let api_id = path.split('/').nth(3).context("no API in the path")?.to_owned();
    put_policy(gateway.admin, &api_id)?;
    let (mut rates, mut cpu_us, mut p99, mut issue_rates) = (vec![], vec![], vec![], vec![]);
    for round in 0..arguments.rounds.max(1) {
        let started = std::time::Instant::now();
        let tokens = issue(gateway.admin, &api_id, arguments.handshakes, round)?;
        issue_rates.push(tokens.len() as f64 / started.elapsed().as_secs_f64());
        let paths: Vec<String> =
            tokens.iter().map(|token| format!("{path}?channel=news&ws_token={token}")).collect();
        let (outcome, cpu) =
            with_cpu(gateway.pid(), || cycle_each(gateway.public, arguments.concurrency, &paths))?;
        ensure!(outcome.exchanges as usize == paths.len(), "some handshakes are missing");
        rates.push(outcome.per_second());
        cpu_us.push(micros_each(cpu, outcome.exchanges));
        p99.push(outcome.percentile_ms(0.99));
    }
    let mut report = Report::new("tokens");
    report.row("connect with token, limits and channel", median(&rates), "conn/s", Budget::AtLeast(2_000.0));
    report.row("gateway CPU per connection", median(&cpu_us), "us", Budget::None);
    report.row("p99 from connect to end", median(&p99), "ms", Budget::None);
    report.row(format!("tokens issued, {CALLERS} callers"), median(&issue_rates), "token/s", Budget::None);
    Ok(report)
}

fn put_policy(admin: SocketAddr, api_id: &str) -> Result<()> {
    let policy = json!({
        "admission": { "checks": ["token"], "connections_per_user": 100, "connections_per_address": 5000,
                       "origins": ["https://app.example"] },
        "connect_tokens": { "per_minute": 10000, "max_unspent": 10000, "lifetime": 300 },
        "attempts": { "per_address": 10000, "per_user": 10000, "window": 1 },
        "channels": { "rules": [{ "match": "news", "join": "authenticated" }] },
    });
    let path = format!("/api/apis/{api_id}/stages/{STAGE}/policy");
    let answer = exchange(admin, &request("PUT", &path, admin, &policy))?;
    ensure!(
        answer.status == 200,
        "the policy was answered {}: {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    Ok(())
}

/// Tokens for as many handshakes, of 500 users.
fn issue(admin: SocketAddr, api_id: &str, count: usize, round: usize) -> Result<Vec<String>> {
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let api_id = api_id.to_owned();
            let share = count / CALLERS + usize::from(caller < count % CALLERS);
            std::thread::spawn(move || issue_some(admin, &api_id, caller, share, round))
        })
        .collect();
    let mut tokens = Vec::with_capacity(count);
    for caller in callers {
        tokens.extend(caller.join().map_err(|_| anyhow!("a caller panicked"))??);
    }
    Ok(tokens)
}

fn issue_some(
    admin: SocketAddr,
    api_id: &str,
    caller: usize,
    count: usize,
    round: usize,
) -> Result<Vec<String>> {
    let mut stream = TcpStream::connect(admin).context("connect to the admin listener")?;
    stream.set_nodelay(true).context("set nodelay")?;
    let mut tokens = Vec::with_capacity(count);
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    for n in 0..count {
        let user = format!("u{}", (round * 7 + caller * 31 + n) % 500);
        let body = json!({ "api": api_id, "stage": STAGE, "user": user });
        stream.write_all(&request("POST", "/api/tokens", admin, &body)).context("ask for a token")?;
        received.clear();
        let body = loop {
            let n_read = stream.read(&mut chunk).context("read a token")?;
            ensure!(n_read > 0, "the admin listener has closed");
            received.extend_from_slice(&chunk[..n_read]);
            let Some(head) = head_len(&received) else { continue };
            let text = std::str::from_utf8(&received[..head]).context("a head that is no text")?;
            let length = content_length(text).context("an answer without content-length")?;
            if received.len() >= head + length {
                break received[head..head + length].to_vec();
            }
        };
        let answer: Value = serde_json::from_slice(&body).context("parse a token")?;
        let token = answer["token"].as_str().with_context(|| format!("no token in {answer}"))?;
        tokens.push(token.to_owned());
    }
    Ok(tokens)
}

fn request(method: &str, path: &str, admin: SocketAddr, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {API_KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
