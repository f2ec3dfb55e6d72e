//! `tidegate doctor`: looks for what is wrong, and says so.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use tidegate_doctor::report::{Report, Style};

use crate::cli::EXIT_USAGE;
use crate::cli::doctor::DoctorArgs;
use crate::output;

mod probe;

/// Exit code for what is nobody's fault but ours. Source: DX-62.
const EXIT_INTERNAL: u8 = 4;

pub(crate) async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let Some(url) = args.url.clone().or_else(|| args.url_option.clone()) else {
        eprintln!("tidegate: a WebSocket URL is missing, like wss://ws.example.com/chat");
        return Ok(ExitCode::from(EXIT_USAGE));
    };
    probe::run(&url, &args).await
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
