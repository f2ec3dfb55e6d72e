//! Time to ready, memory when idle, size of the binary.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::child::resident_bytes;
use crate::gateway_process::GatewayProcess;
use crate::report::{Budget, Report, median};

/// How long the started process is left alone before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);

const MB: f64 = 1_000_000.0;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The `tidegate` binary
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
    /// How often to start it
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

impl Arguments {
    /// Defaults.
    pub fn new(gateway: &Path) -> Self {
        Self { gateway: gateway.to_owned(), rounds: 9 }
    }
}

/// Runs the benchmark.
pub fn run(arguments: &Arguments) -> Result<Report> {
    let (mut ready_ms, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds.max(1) {
        let gateway = GatewayProcess::start(&arguments.gateway)?;
        ready_ms.push(gateway.ready_after.as_secs_f64() * 1000.0);
        std::thread::sleep(SETTLE);
        resident.push(resident_bytes(gateway.pid())? as f64 / MB);
    }
    let size = std::fs::metadata(&arguments.gateway).context("look at the binary")?.len();
    let mut report = Report::new("startup");
    report.row("ready after, with an empty store (median)", median(&ready_ms), "ms", Budget::AtMost(50.0));
    report.row("RSS when idle (median)", median(&resident), "MB", Budget::AtMost(15.0));
    report.row("size of the binary", size as f64 / MB, "MB", Budget::AtMost(25.0));
    Ok(report)
}
