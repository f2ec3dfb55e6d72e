//! What `tidegate explain` takes.

use std::path::PathBuf;

use clap::Args;

use super::node::{NodeArgs, parse_seconds};

const EXIT_CODES: &str = "Exit codes: 0 a proven cause, 1 nothing found, 2 wrong usage, 3 only likely or possible causes, \
    4 the journal cannot be reached.";

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Request id, connection id, client reference, close code, HTTP status, diagnosis id, `Y1` to `Y38`, or an error
    /// text; several words are one text
    #[arg(value_name = "WORDS", allow_hyphen_values = false)]
    pub(crate) words: Vec<String>,
    /// Look back so far: 90, 10m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = parse_seconds, default_value = "24h")]
    pub(crate) since: u64,
    /// Only of this user
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// Only of this client address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    /// Only of this API
    #[arg(long, value_name = "ID")]
    pub(crate) api: Option<String>,
    /// The newest failures; 10 unless a number is given
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "10", conflicts_with = "words",
        value_parser = clap::value_parser!(u64).range(1..=500))]
    pub(crate) last: Option<u64>,
    /// Read the journal of this data directory instead of asking a node
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}
