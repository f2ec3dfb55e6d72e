//! What may be written on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod import;
pub(crate) mod node;
pub(crate) mod reload;
pub(crate) mod route;

/// The command did not do what was asked.
pub(crate) const EXIT_FAILURE: u8 = 1;

/// The arguments make no sense together. The same code as for arguments that cannot be read.
pub(crate) const EXIT_USAGE: u8 = 2;

/// What was asked for is not there, or not there any more.
pub(crate) const EXIT_NOT_FOUND: u8 = 3;

/// No credential, a wrong one, or one that may not do it; for `permissions check`: denied.
pub(crate) const EXIT_REFUSED: u8 = 4;

/// `plan`, `reload --dry-run`: there is something to do.
pub(crate) const EXIT_CHANGES: u8 = 5;

/// WebSockets for plain HTTP backends, compatible with Amazon API Gateway.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 100, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused, 5 `plan` or `reload --dry-run` has something to do.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything in a temporary folder, with an echo backend or your own
    Dev(DevArgs),
    /// Serve the APIs of the data directory
    Serve(ServeArgs),
    /// Check the configuration without binding a port
    Check(CheckArgs),
    /// Print the effective configuration and where each value comes from
    Config(ConfigArgs),
    /// Make a local CA and certificates for the TLS listener
    Certs(CertsArgs),
    /// Connect to a WebSocket URL, print frames, explain close codes
    Connect(ConnectArgs),
    /// Find what is wrong: a WebSocket URL from outside; configuration, APIs, backends, this machine, logs from inside
    Doctor(Box<doctor::DoctorArgs>),
    /// List, watch, close and message connections
    Connections(node::ConnectionsArgs),
    /// List channels and who is in them
    Channels(node::ChannelsArgs),
    /// List, end and ban users
    Users(node::UsersArgs),
    /// List and end sessions
    Sessions(node::SessionsArgs),
    /// Send a message to a channel
    Publish(Box<node::PublishArgs>),
    /// Send a message to everyone of a stage, or to one user, session or list of connections
    Broadcast(Box<node::BroadcastArgs>),
    /// Issue connect tokens and JSON Web Tokens
    Token(node::TokenArgs),
    /// Ask the channel rules; read and replace policies
    Permissions(node::PermissionsArgs),
    /// List APIs and their stages
    Apis(node::ApisArgs),
    /// Say what applying a document would change
    Plan(node::PlanArgs),
    /// Make everything as a document says
    Apply(node::ApplyArgs),
    /// Print everything that is there as a document, secrets masked
    Export(node::ExportArgs),
    /// Read an API from a template, or from Amazon API Gateway, into a document
    Import(Box<import::ImportArgs>),
    /// List handshakes and how they ended
    Attempts(node::AttemptsArgs),
    /// List changes by administrators
    Audit(node::AuditArgs),
    /// What happened to connections, and why: list, watch, erase
    Journal(Box<node::JournalArgs>),
    /// Write one archive with everything about a connection, a request or a user
    Report(Box<node::ReportArgs>),
    /// Remove old records at once; it happens by itself too
    Cleanup(node::CleanupArgs),
    /// Say where a message goes
    Route(route::RouteArgs),
    /// Take over what is written in the configuration now, without dropping connections
    Reload(reload::ReloadArgs),
    /// Say how the node is
    Status(node::StatusArgs),
    /// Say why something failed, from an id, a code, a status, a diagnosis id or an error text
    Explain(Box<explain::ExplainArgs>),
    /// Keep payloads of one route for a short time, and show them
    Capture(node::CaptureArgs),
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
    /// Apply this document at the start, instead of making the API `dev0000000`
    #[arg(long, value_name = "FILE", conflicts_with = "backend")]
    pub(crate) apply: Option<PathBuf>,
    /// Your Lambda function behind all routes: `app.handler` for `handler` in `app.py`, `app.mjs` or `app.js`
    #[arg(long, value_name = "HANDLER", conflicts_with_all = ["backend", "apply"])]
    pub(crate) lambda: Option<String>,
    /// Switch an application on and serve its example page: chat, alerts, or both
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',')]
    pub(crate) app: Vec<ExampleApp>,
    /// Address of the public listener; 127.0.0.1:8080 unless configured
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Address of the admin listener; 127.0.0.1:8081 unless configured
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<String>,
    /// Configuration file for further settings
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Whose quotas are in force; `aws`: those of the service, and what it does not offer is refused
    #[arg(long, value_enum, value_name = "PROFILE")]
    pub(crate) limits: Option<LimitsProfile>,
    /// Let the ten minutes and the two hours pass so many times faster, for tests
    #[arg(long, value_name = "N")]
    pub(crate) time_scale: Option<u32>,
    /// Write the addresses as JSON into this file once ready
    #[arg(long, value_name = "FILE")]
    pub(crate) address_file: Option<PathBuf>,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// Whose quotas are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LimitsProfile {
    /// Tidegate's own, which are wide
    Tidegate,
    /// Those of the service, before a customer asks for more
    Aws,
}

impl LimitsProfile {
    /// As `limits.profile` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tidegate => "tidegate",
            Self::Aws => "aws",
        }
    }
}

/// An application with an example page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ExampleApp {
    /// Rooms and messages
    Chat,
    /// A list and a map of alerts
    Alerts,
}

impl ExampleApp {
    /// As it is in paths and in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Alerts => "alerts",
        }
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Chat => "Chat",
            Self::Alerts => "Alerts",
        }
    }
}

#[derive(Debug, Clone, Args, Default)]
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
    /// Whose quotas are in force; `aws`: those of the service, and what it does not offer is refused
    #[arg(long, value_enum, value_name = "PROFILE")]
    pub(crate) limits: Option<LimitsProfile>,
    /// Let the ten minutes and the two hours pass so many times faster, for tests
    #[arg(long, value_name = "N")]
    pub(crate) time_scale: Option<u32>,
    /// Know further answers of backends: a table of signatures, JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) signatures: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Check this document too, as `serve --apply` would take it on an empty node
    #[arg(long, value_name = "FILE")]
    pub(crate) apply: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Apply this document at the start
    #[arg(long, value_name = "FILE")]
    pub(crate) apply: Option<PathBuf>,
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

#[derive(Debug, Default, Args)]
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
