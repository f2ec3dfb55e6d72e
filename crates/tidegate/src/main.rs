//! The `tidegate` command.
//!
//! `main` parses arguments and maps the outcome to an exit code; each command is a file under `command/`.
//! `app.rs` wires store, control plane and data plane together; `config.rs` says what may be configured.
//! Commands that ask a running node go through `admin_client.rs` and never touch its files.

use std::process::ExitCode;

use clap::Parser as _;

mod access;
mod admin;
mod admin_client;
mod app;
mod apps;
mod certificates;
mod certs;
mod cli;
mod command;
mod config;
mod demo;
mod functions;
mod invoke_api;
mod log_targets;
mod metrics;
mod observe;
mod output;
mod reload;
mod stores;
mod surroundings;

/// Small allocations dominate: an allocator that gives them back and packs them densely.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match command::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegate: {error:#}");
            ExitCode::from(cli::EXIT_FAILURE)
        }
    }
}
