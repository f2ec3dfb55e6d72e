//! The commands, one file each. `node.rs` has what those share that ask a running node.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::cli::{Cli, Command};
use crate::{certs, config};

mod apis;
mod apply_at_start;
mod capture;
mod channels;
mod check;
mod connect;
mod connections;
mod dev;
pub(crate) mod doctor;
mod document;
mod explain;
mod import;
mod journal;
mod node;
mod permissions;
mod publish;
mod records;
mod reload;
mod report;
mod route;
mod serve;
mod token;
mod users;

/// Runs the command that was asked for.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Dev(args) => runtime()?.block_on(dev::run(args)),
        Command::Serve(args) => runtime()?.block_on(serve::run(args)),
        Command::Connect(args) => runtime()?.block_on(connect::run(args)),
        Command::Check(args) => runtime()?.block_on(check::run(args)),
        Command::Config(args) => config::show(&args),
        Command::Certs(args) => {
            let made = certs::make(&args.data_dir, &args.region, &args.name)?;
            println!("{}", made.instructions());
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Connections(args) => ask(connections::run(args)),
        Command::Channels(args) => ask(channels::run(args)),
        Command::Users(args) => ask(users::run(args)),
        Command::Sessions(args) => ask(users::run_sessions(args)),
        Command::Publish(args) => ask(publish::run(*args)),
        Command::Broadcast(args) => ask(publish::run_broadcast(*args)),
        Command::Token(args) => ask(token::run(args)),
        Command::Permissions(args) => ask(permissions::run(args)),
        Command::Apis(args) => ask(apis::run(args)),
        Command::Plan(args) => ask(document::plan(args)),
        Command::Apply(args) => ask(document::apply(args)),
        Command::Export(args) => ask(document::export(args)),
        Command::Import(args) => ask(import::run(*args)),
        Command::Attempts(args) => ask(records::attempts(args)),
        Command::Audit(args) => ask(records::audit(args)),
        Command::Journal(args) => ask(journal::run(*args)),
        Command::Report(args) => ask(report::run(*args)),
        Command::Cleanup(args) => ask(records::cleanup(args)),
        Command::Doctor(args) => runtime()?.block_on(doctor::run(*args)),
        Command::Route(args) => ask(route::run(args)),
        Command::Reload(args) => ask(reload::run(args)),
        Command::Status(args) => ask(apis::status(args)),
        Command::Explain(args) => ask(explain::run(*args)),
        Command::Capture(args) => ask(capture::run(args)),
    }
}

/// Runs a command that asks a running node: one conversation needs no further threads.
fn ask(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    node::end(runtime.context("start the runtime")?.block_on(command))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")
}
