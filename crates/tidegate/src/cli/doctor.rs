//! Arguments of `tidegate doctor`.

use std::time::Duration;

use clap::{Args, Subcommand};

pub(crate) mod inspect;
pub(crate) mod probe;

const EXAMPLES: &str = "\
Examples:
  tidegate doctor wss://ws.example.com/chat
  tidegate doctor wss://ws.example.com/chat --token - --origin https://www.example.com
  tidegate doctor ws://127.0.0.1:8080/demo/live --only handshake,echo --send ping --expect pong
  tidegate doctor wss://ws.example.com/chat --idle --admin http://127.0.0.1:8081
  tidegate doctor --api chat
  tidegate doctor --config tidegate.toml --system

Exit codes: 0 no problem, 1 a problem, 2 wrong usage, 3 something could not be tried, 4 internal error.";

/// See the manual, chapter \"Doctor\".
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    #[command(subcommand)]
    pub(crate) action: Option<DoctorAction>,
    /// The WebSocket URL, as the client has it
    pub(crate) url: Option<String>,
    /// The same as an option
    #[arg(long = "url", value_name = "URL", conflicts_with = "url", id = "url_option")]
    pub(crate) url_option: Option<String>,
    #[command(flatten)]
    pub(crate) probe: probe::ProbeArgs,
    #[command(flatten)]
    pub(crate) inspect: inspect::InspectArgs,
    /// How long each step may take, like 10s or 500ms
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Warnings count as problems for the exit code
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DoctorAction {
    /// Answer the gateway's probe in place of a backend with the names of the headers that arrive
    Reflect(inspect::ReflectArgs),
}

impl std::fmt::Debug for DoctorArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // URL, token and headers are nobody's business.
        f.debug_struct("DoctorArgs").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// A time with a unit: `10s`, `500ms`, `2m`; without one seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| "a number is missing, like 10s".to_owned())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        _ => return Err(format!("the unit `{unit}` is none of ms, s, m")),
    };
    if !(0.001..=86_400.0).contains(&seconds) {
        return Err("between 1 ms and a day, please".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, millis) in [("10s", 10_000), ("500ms", 500), ("2m", 120_000), ("3", 3000), ("1.5s", 1500)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "0", "10h", "-1s", "1e9s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
