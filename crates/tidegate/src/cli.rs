//! What may be written on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The command did not do what was asked.
pub(crate) const EXIT_FAILURE: u8 = 1;

/// WebSockets for plain HTTP backends, compatible with Amazon API Gateway.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 100, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything in a temporary folder, with an echo backend or your own
    Dev(DevArgs),
    /// Serve the APIs of the data directory
    Serve(ServeArgs),
    /// Check the configuration without binding a port
    Check(ConfigArgs),
    /// Print the effective configuration and where each value comes from
    Config(ConfigArgs),
    /// Make a local CA and certificates for the TLS listener
    Certs(CertsArgs),
    /// Connect to a WebSocket URL, print frames, explain close codes
    Connect(ConnectArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Base URL of your backend; without it an echo runs inside
    #[arg(long, value_name = "URL")]
    pub(crate) backend: Option<String>,
    /// Address of the public listener
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Address of the admin listener
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub(crate) admin: SocketAddr,
    /// Configuration file for further settings
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Write the addresses as JSON into this file once ready
    #[arg(long, value_name = "FILE")]
    pub(crate) address_file: Option<PathBuf>,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Args, Default)]
pub(crate) struct ConfigArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address of the public listener
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Address of the admin listener
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<String>,
    /// Where state is kept
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Write the addresses as JSON into this file once ready
    #[arg(long, value_name = "FILE")]
    pub(crate) address_file: Option<PathBuf>,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One object a line
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct CertsArgs {
    /// Where state is kept
    #[arg(long, value_name = "DIR", default_value = "tidegate-data")]
    pub(crate) data_dir: PathBuf,
    /// Further host names for the certificate
    #[arg(long, value_name = "HOST")]
    pub(crate) name: Vec<String>,
    /// Region in the fixed push address of AWS clients
    #[arg(long, default_value = "us-east-1")]
    pub(crate) region: String,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// ws:// or wss:// URL
    pub(crate) url: String,
    /// Header of the handshake, `Name: value`; may be repeated
    #[arg(short = 'H', long, value_name = "HEADER")]
    pub(crate) header: Vec<String>,
    /// Offer a subprotocol; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) subprotocol: Vec<String>,
    /// Send this text once connected; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub(crate) send: Vec<String>,
    /// End after this many messages
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// File with further trusted certificates, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) cafile: Option<PathBuf>,
    /// Print one JSON object per frame
    #[arg(long)]
    pub(crate) json: bool,
}
