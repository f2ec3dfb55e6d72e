//! Load generator that holds Tidegate against its budgets.
//!
//! Every subcommand starts what it needs (gateway, backend, baseline), runs for a bounded time, stops it all and
//! prints a table, or one JSON object with `--json`. `bench/README.md` has the commands and the figures.
//!
//! Where to go next: `scenario/` has one file per subcommand, `swarm.rs` the clients, `node.rs` the baselines.

mod backend;
mod child;
mod control;
mod gateway_process;
mod http_exchange;
mod identity;
mod node;
mod party;
mod reference;
mod report;
mod scenario;
mod swarm;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::report::Report;
use crate::scenario::{
    alerts, chat, connect, contract, echo_builtin, echo_http, fanout, idle, journal, push, startup, tokens,
};

/// Measures Tidegate against its budgets.
#[derive(Debug, Parser)]
#[command(name = "tidegate-bench", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print one JSON object instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Memory per idle connection
    Idle(idle::Arguments),
    /// Message to HTTP backend to reply, beside the backend alone
    EchoHttp(echo_http::Arguments),
    /// Built-in echo, beside a bare epoll echo
    EchoBuiltin(echo_builtin::Arguments),
    /// Signed pushes by connection id
    Push(push::Arguments),
    /// One message to many connections, beside a bare epoll loop
    Fanout(fanout::Arguments),
    /// Connect, `$connect` integration, close
    Connect(connect::Arguments),
    /// Connect with one-time token and limits, close
    Tokens(tokens::Arguments),
    /// Time to ready, memory when idle, size of the binary
    Startup(startup::Arguments),
    /// What the journal costs: the same work with it and without it, in turns; and its bounds under a storm
    Journal(journal::Arguments),
    /// Messages of the chat: stored durably, dispatched to their room
    Chat(chat::Arguments),
    /// One alert to many subscribers
    Alerts(alerts::Arguments),
    /// Access logs, templates and an authorizer: the same API with and without them, in turns
    Contract(contract::Arguments),
    /// Everything, with default durations
    All(AllArguments),
    /// A keep-alive HTTP backend that answers with the request's body
    #[command(hide = true)]
    Backend(backend::Arguments),
    /// The server side of a baseline
    #[command(hide = true)]
    Node(node::Arguments),
}

#[derive(Debug, Args)]
struct AllArguments {
    /// The `tidegate` binary
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let report = match &cli.command {
        Command::Backend(arguments) => return backend::run(arguments),
        Command::Node(arguments) => return node::run(arguments),
        Command::Idle(arguments) => idle::run(arguments)?,
        Command::EchoHttp(arguments) => echo_http::run(arguments)?,
        Command::EchoBuiltin(arguments) => echo_builtin::run(arguments)?,
        Command::Push(arguments) => push::run(arguments)?,
        Command::Fanout(arguments) => fanout::run(arguments)?,
        Command::Connect(arguments) => connect::run(arguments)?,
        Command::Tokens(arguments) => tokens::run(arguments)?,
        Command::Startup(arguments) => startup::run(arguments)?,
        Command::Journal(arguments) => journal::run(arguments)?,
        Command::Chat(arguments) => chat::run(arguments)?,
        Command::Alerts(arguments) => alerts::run(arguments)?,
        Command::Contract(arguments) => contract::run(arguments)?,
        Command::All(arguments) => run_all(&arguments.gateway),
    };
    if cli.json {
        println!("{}", report.to_json());
    } else {
        print!("{}", report.to_table());
    }
    Ok(())
}

/// Runs every scenario. One that fails becomes a line of the report, and the others still run.
fn run_all(gateway: &std::path::Path) -> Report {
    let mut all = Report::new("all");
    let scenarios: [(&str, &dyn Fn() -> anyhow::Result<Report>); 12] = [
        ("startup", &|| startup::run(&startup::Arguments::new(gateway))),
        ("idle", &|| idle::run(&idle::Arguments::new(gateway))),
        ("echo-http", &|| echo_http::run(&echo_http::Arguments::new(gateway))),
        ("echo-builtin", &|| echo_builtin::run(&echo_builtin::Arguments::new(gateway))),
        ("push", &|| push::run(&push::Arguments::new(gateway))),
        ("fanout", &|| fanout::run(&fanout::Arguments::new(gateway))),
        ("connect", &|| connect::run(&connect::Arguments::new(gateway))),
        ("tokens", &|| tokens::run(&tokens::Arguments::new(gateway))),
        ("journal", &|| journal::run(&journal::Arguments::new(gateway))),
        ("chat", &|| chat::run(&chat::Arguments::new(gateway))),
        ("alerts", &|| alerts::run(&alerts::Arguments::new(gateway))),
        ("contract", &|| contract::run(&contract::Arguments::new(gateway))),
    ];
    for (name, run) in scenarios {
        eprintln!("running {name}");
        match run() {
            Ok(report) => all.append(report),
            Err(error) => all.failed(name, &format!("{error:#}")),
        }
    }
    all
}
