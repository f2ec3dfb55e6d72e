//! The commands, one file each.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::cli::{Cli, Command};
use crate::{certs, config};

mod connect;
mod dev;
mod serve;

/// Runs the command that was asked for.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Dev(args) => runtime()?.block_on(dev::run(args)),
        Command::Serve(args) => runtime()?.block_on(serve::run(args)),
        Command::Connect(args) => runtime()?.block_on(connect::run(args)),
        Command::Check(args) => Ok(config::check(&args)),
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
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")
}
