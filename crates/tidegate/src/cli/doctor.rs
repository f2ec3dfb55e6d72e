//! `tidegate doctor`.

use std::time::Duration;

use clap::{Args, Subcommand};

pub(crate) mod inspect;

/// Looks for what is wrong.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXIT_CODES)]
pub(crate) struct DoctorArgs {
    #[command(subcommand)]
    pub(crate) action: Option<DoctorAction>,
    #[command(flatten)]
    pub(crate) inspect: inspect::InspectArgs,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Warnings count as problems for the exit code
    #[arg(long)]
    pub(crate) strict: bool,
    /// Limit of one step, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

const EXIT_CODES: &str = "Exit codes: 0 no problem, 1 a problem, 2 wrong usage, 3 no problem but something could not be tried, 4 doctor itself failed.";

#[derive(Debug, Subcommand)]
pub(crate) enum DoctorAction {
    /// Answer the gateway's probe in place of a backend with the names of the headers that arrive
    Reflect(inspect::ReflectArgs),
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    match number.parse::<u64>() {
        Ok(seconds @ 1..=600) => Ok(Duration::from_secs(seconds)),
        _ => Err("1 to 600 seconds expected".to_owned()),
    }
}
