//! `tidegate doctor`: looks for what is wrong, and says so.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use tidegate_doctor::report::{Report, Style};

use crate::cli::EXIT_USAGE;
use crate::cli::doctor::{DoctorAction, DoctorArgs};
use crate::cli::node::{NodeArgs, ReportArgs};
use crate::output;

pub(crate) mod inspect;
mod probe;

/// Exit code for what is nobody's fault but ours. Source: DX-62.
const EXIT_INTERNAL: u8 = 4;

pub(crate) async fn run(mut args: DoctorArgs) -> anyhow::Result<ExitCode> {
    if let Some(DoctorAction::Reflect(reflect)) = args.action {
        return inspect::reflect::run(reflect).await;
    }
    let url = args.url.clone().or_else(|| args.url_option.clone());
    match (url, args.inspect.is_asked()) {
        (Some(url), false) => probe::run(&url, &args).await,
        (None, true) => {
            if let Some(admin) = args.probe.admin.take() {
                args.inspect.admin_url = admin;
            }
            if let Some(subject) = args.inspect.bundle.clone() {
                return bundle(subject, args).await;
            }
            inspect::run(&args.inspect, &args.probe, args.json, args.strict, args.timeout).await
        }
        (Some(_), true) => {
            eprintln!(
                "tidegate: a URL is looked at from outside, the options look from inside: one at a time"
            );
            Ok(ExitCode::from(EXIT_USAGE))
        }
        (None, false) => {
            eprintln!(
                "tidegate: nothing to look at: give a WebSocket URL, or --api, --config, --system, --domain, --connection, --check-log or --watch"
            );
            Ok(ExitCode::from(EXIT_USAGE))
        }
    }
}

/// The archive of `tidegate report`, which has what the looks from inside say.
async fn bundle(subject: String, args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let node = NodeArgs {
        admin_url: args.inspect.admin_url,
        key_file: args.inspect.key_file,
        cafile: args.probe.cafile,
        json: args.json,
    };
    super::report::run(ReportArgs { subject, output: None, node }).await
}

/// Prints a report; gives the exit code that follows from it.
fn print(report: &Report, args: &DoctorArgs) -> ExitCode {
    let text = match args.json {
        true => serde_json::to_string_pretty(report).map(|json| format!("{json}\n")),
        false => Ok(report.text(Style { color: output::is_colored(), verbose: args.probe.verbose })),
    };
    match text.map_err(anyhow::Error::new).and_then(|text| Ok(output::print(&text)?)) {
        Ok(()) => ExitCode::from(report.doctor_exit_code(args.strict)),
        Err(error) => {
            eprintln!("tidegate: print the report: {error:#}");
            ExitCode::from(EXIT_INTERNAL)
        }
    }
}

/// Says on the terminal what takes long; nothing where nobody watches.
fn progress(line: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{line}");
    }
}
