//! `tidegate reload`.

use clap::Args;

use super::node::NodeArgs;

#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    /// Only say what would change; exit code 5 if anything would
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}
