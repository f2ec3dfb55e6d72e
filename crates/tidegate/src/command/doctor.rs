//! `tidegate doctor`: from outside and from inside.

use std::process::ExitCode;

use crate::cli::doctor::{DoctorAction, DoctorArgs};

pub(crate) mod inspect;

pub(crate) async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    match args.action {
        Some(DoctorAction::Reflect(reflect)) => inspect::reflect::run(reflect).await,
        None => inspect::run(&args.inspect, args.json, args.strict, args.timeout).await,
    }
}
