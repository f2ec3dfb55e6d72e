//! `tidegate route`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::node::NodeArgs;

/// Routes of messages.
#[derive(Debug, Args)]
pub(crate) struct RouteArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(subcommand)]
    pub(crate) action: RouteAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RouteAction {
    /// Say where a message goes, and why not elsewhere
    Test {
        /// Id or name of the API, and the stage behind a slash: `chat/prod`
        api: String,
        /// The message; `-` or nothing reads it from the standard input
        #[arg(conflicts_with = "file")]
        message: Option<String>,
        /// Read the message from this file
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}
