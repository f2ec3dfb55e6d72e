//! Commands that ask a running node.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Where the node is, and how the answer looks.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeArgs {
    /// Address of the node's admin listener
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "TIDEGATE_ADMIN_URL",
        default_value = "http://127.0.0.1:8081"
    )]
    pub(crate) admin_url: String,
    /// File with the key; without it TIDEGATE_KEY, or the access key of TIDEGATE_ACCESS_KEY_ID
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// File with further trusted certificates, PEM
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) cafile: Option<PathBuf>,
    /// Print the JSON of the admin API
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// One stage: needed where there are several.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ScopeArgs {
    /// Id or name of the API; not needed while there is only one
    #[arg(long, value_name = "API")]
    pub(crate) api: Option<String>,
    /// Name of the stage; not needed while the API has only one
    #[arg(long, value_name = "STAGE")]
    pub(crate) stage: Option<String>,
}

/// Narrows a list or a change.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FilterArgs {
    /// Id or name of an API: only there
    #[arg(long, value_name = "API")]
    pub(crate) api: Option<String>,
    /// Name of a stage: only there
    #[arg(long, value_name = "STAGE")]
    pub(crate) stage: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectionsArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(subcommand)]
    pub(crate) action: ConnectionsAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConnectionsAction {
    /// List what is really open
    Ls {
        #[command(flatten)]
        filter: ConnectionFilterArgs,
        /// Print only how many there are
        #[arg(long)]
        count: bool,
    },
    /// Show one connection
    Get {
        /// Id of the connection
        id: String,
    },
    /// Send a message to one connection
    Send {
        /// Id of the connection
        id: String,
        /// The message; `-` or nothing reads it from the standard input
        data: Option<String>,
    },
    /// Close one connection
    Kick {
        /// Id of the connection
        id: String,
        /// Close code: 1000, 1001, 1008, 1011 or 3000 to 4999
        #[arg(long, value_name = "CODE")]
        code: Option<u16>,
        /// Close reason, at most 123 bytes
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// List connections that have ended, from the journal: what a backend may forget
    Closed {
        /// How far back: 90, 10m, 2h, 1d
        #[arg(long, value_name = "TIME", value_parser = parse_seconds, default_value = "1d")]
        since: u64,
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// Show what is open every 2 s, until Ctrl-C; lines of JSON where the output is no terminal
    Watch(ConnectionFilterArgs),
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConnectionFilterArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Only of this user
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// Only of this session
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// Only in this channel
    #[arg(long, value_name = "NAME")]
    pub(crate) channel: Option<String>,
    /// Only of this client address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    /// Only connected at least so long ago: 90, 10m, 2h, 1d
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub(crate) min_age: Option<u64>,
    /// Only connected at most so long ago: 90, 10m, 2h, 1d
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub(crate) max_age: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct CaptureArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(subcommand)]
    pub(crate) action: CaptureAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CaptureAction {
    /// Keep the messages of a route and their answers, in memory only; what looks like a secret is taken out
    Start {
        /// Key of the route
        #[arg(long, value_name = "KEY")]
        route: String,
        /// For how long, at most an hour: 90, 10m
        #[arg(long = "for", value_name = "TIME", value_parser = parse_seconds, default_value = "1m")]
        seconds: u64,
        /// Most bytes of payload; with them it ends
        #[arg(long, value_name = "N", default_value_t = 65536)]
        bytes: u64,
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// Show what was kept; for 15 minutes after the end
    Show {
        /// Only of this connection
        #[arg(long, value_name = "ID")]
        connection: Option<String>,
    },
    /// End it now and forget what was kept
    Stop,
}

#[derive(Debug, Args)]
pub(crate) struct ChannelsArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(subcommand)]
    pub(crate) action: ChannelsAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChannelsAction {
    /// List channels that have members
    Ls {
        #[command(flatten)]
        filter: FilterArgs,
        /// Only names that begin so
        #[arg(long, value_name = "TEXT")]
        prefix: Option<String>,
    },
    /// Show who is in a channel
    Show {
        /// Name of the channel
        channel: String,
        #[command(flatten)]
        scope: ScopeArgs,
    },
    /// Put a connection into a channel, whatever the rules say
    Join {
        /// Name of the channel
        channel: String,
        /// Id of the connection
        connection: String,
    },
    /// Take a connection out of a channel
    Leave {
        /// Name of the channel
        channel: String,
        /// Id of the connection
        connection: String,
    },
    /// Ask the channel rules again about everybody, or about one user
    Recheck {
        /// Id or name of an API: only there
        #[arg(long, value_name = "API")]
        api: Option<String>,
        /// Only this user
        #[arg(long, value_name = "ID")]
        user: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct UsersArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(subcommand)]
    pub(crate) action: UsersAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UsersAction {
    /// List users that are connected
    Ls(FilterArgs),
    /// Close everything of a user; their unspent tokens are worth nothing any more
    End {
        /// Id of the user
        user: String,
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// Refuse a user for a time, and close what they have open
    Ban {
        /// Id of the user
        user: String,
        /// How long: 90, 10m, 2h, 7d
        #[arg(long = "for", value_name = "TIME", value_parser = parse_seconds, default_value = "1h")]
        seconds: u64,
        /// For operators; the user does not see it
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Id or name of an API: only there
        #[arg(long, value_name = "API")]
        api: Option<String>,
    },
    /// Lift the ban of a user
    Unban {
        /// Id of the user
        user: String,
        /// Id or name of an API: the ban of that API, not the one for all
        #[arg(long, value_name = "API")]
        api: Option<String>,
    },
    /// List bans that hold
    Bans,
    /// Give a connected user other roles or claims
    Claims {
        /// Id of the user
        user: String,
        /// Claims as a JSON object, in place of those they have; `-` reads it from the standard input
        claims: Option<String>,
        /// A role, in place of those they have; may be repeated
        #[arg(long, value_name = "ROLE")]
        role: Vec<String>,
        #[command(flatten)]
        filter: FilterArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(subcommand)]
    pub(crate) action: SessionsAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionsAction {
    /// List sessions that are connected
    Ls(FilterArgs),
    /// Close everything of a session; its unspent tokens are worth nothing any more
    End {
        /// Id of the session
        session: String,
        #[command(flatten)]
        filter: FilterArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// Name of the channel
    pub(crate) channel: String,
    /// The message; `-` or nothing reads it from the standard input
    pub(crate) data: Option<String>,
    #[command(flatten)]
    pub(crate) options: PublishOptions,
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BroadcastArgs {
    /// The message; `-` or nothing reads it from the standard input
    pub(crate) data: Option<String>,
    /// Only to this user
    #[arg(long, value_name = "ID", conflicts_with_all = ["session", "connection"])]
    pub(crate) user: Option<String>,
    /// Only to this session
    #[arg(long, value_name = "ID", conflicts_with = "connection")]
    pub(crate) session: Option<String>,
    /// Only to this connection; may be repeated
    #[arg(long, value_name = "ID")]
    pub(crate) connection: Vec<String>,
    #[command(flatten)]
    pub(crate) options: PublishOptions,
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PublishOptions {
    /// Not to this connection, for example the sender; may be repeated
    #[arg(long, value_name = "ID")]
    pub(crate) except: Vec<String>,
    /// A second call with the same key sends nothing
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(subcommand)]
    pub(crate) action: TokenAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenAction {
    /// Issue a connect token: it opens one connection, once
    Create(Box<TokenCreateArgs>),
    /// Sign a JSON Web Token with the stage's secret, for tests and service accounts
    Jwt {
        /// The payload as a JSON object; `-` reads it from the standard input
        claims: String,
        #[command(flatten)]
        scope: ScopeArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreateArgs {
    /// Id of the user; without it a token for nobody in particular
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// Id of the login: connections of one session end together
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// A role; may be repeated
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Vec<String>,
    /// Claims as a JSON object
    #[arg(long, value_name = "JSON")]
    pub(crate) claims: Option<String>,
    /// A channel that it may join, and no other; may be repeated, `prefix*` too
    #[arg(long, value_name = "NAME")]
    pub(crate) channel: Vec<String>,
    /// Origin of the page that will use it
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) origin: Option<String>,
    /// Client address that will use it
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    /// How long it may be presented, 5 to 300 s: 60, 5m
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub(crate) lifetime: Option<u64>,
    /// Connect with it at once
    #[arg(long)]
    pub(crate) connect: bool,
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PermissionsArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(subcommand)]
    pub(crate) action: PermissionsAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PermissionsAction {
    /// What the channel rules say about somebody; exit code 4 when they deny
    Check(Box<CheckArgs>),
    /// The policy of a stage
    #[command(subcommand)]
    Policy(PolicyAction),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Name of the channel
    pub(crate) channel: String,
    /// What they want to do
    #[arg(long, value_enum, default_value_t = Right::Join)]
    pub(crate) right: Right,
    /// Id of the user
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// Id of the session
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// A role; may be repeated
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Vec<String>,
    /// Claims as a JSON object
    #[arg(long, value_name = "JSON")]
    pub(crate) claims: Option<String>,
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
}

/// What somebody may do with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Right {
    /// Get its messages
    Join,
    /// Send into it
    Publish,
    /// See who is there
    Presence,
}

impl Right {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Publish => "publish",
            Self::Presence => "presence",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyAction {
    /// Print the policy as TOML, secrets masked
    Get(ScopeArgs),
    /// Replace the policy by a file, in TOML or JSON
    Set {
        /// The file; `-` reads the standard input
        file: PathBuf,
        #[command(flatten)]
        scope: ScopeArgs,
    },
    /// Remove the policy
    Rm(ScopeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CleanupArgs {
    /// Spent and expired tokens older than this go: 90, 10m; without it those whose time has come
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub(crate) token_age: Option<u64>,
    /// Attempts older than so many days go; without it those whose time has come
    #[arg(long, value_name = "DAYS")]
    pub(crate) attempt_age: Option<u64>,
    /// Only count
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AttemptsArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(subcommand)]
    pub(crate) action: AttemptsAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AttemptsAction {
    /// List handshakes and how they ended, the newest first
    Ls {
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct JournalArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(subcommand)]
    pub(crate) action: JournalAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JournalAction {
    /// List entries, the newest last
    Ls {
        #[command(flatten)]
        filter: JournalFilterArgs,
        /// At most so many, the newest
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        limit: u64,
        /// Read the journal of this data directory, without a running node
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Print entries as they come, until Ctrl-C
    Watch(JournalFilterArgs),
    /// Say how much is kept, and how much was lost
    State {
        /// Read the journal of this data directory, without a running node
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Remove a person's entries
    #[command(group = clap::ArgGroup::new("whose").required(true))]
    Erase {
        /// Id of the user: their entries, and those of their connections
        #[arg(long, value_name = "ID", group = "whose")]
        user: Option<String>,
        /// Client address
        #[arg(long, value_name = "ADDRESS", group = "whose")]
        address: Option<String>,
    },
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct JournalFilterArgs {
    /// Kinds, separated by commas: handshake, close, post, ...
    #[arg(long, value_name = "KINDS")]
    pub(crate) kind: Option<String>,
    /// Outcomes, separated by commas: ok or diagnosis ids
    #[arg(long, value_name = "IDS")]
    pub(crate) outcome: Option<String>,
    /// Only what did not go well
    #[arg(long)]
    pub(crate) failures: bool,
    /// Only of this connection
    #[arg(long, value_name = "ID")]
    pub(crate) connection: Option<String>,
    /// Only of this event or request
    #[arg(long, value_name = "ID")]
    pub(crate) request: Option<String>,
    /// Only of this attempt, by the client's reference
    #[arg(long = "ref", value_name = "REFERENCE")]
    pub(crate) client_ref: Option<String>,
    /// Only of this user
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// Only of this client address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    /// Id of an API: only there
    #[arg(long, value_name = "API")]
    pub(crate) api: Option<String>,
    /// Name of a stage: only there
    #[arg(long, value_name = "STAGE")]
    pub(crate) stage: Option<String>,
    /// Not older than this: 90, 10m, 2h, 1d
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub(crate) since: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Id of a connection, a request or a user, or a client's reference
    pub(crate) subject: String,
    /// The archive; a name with the time otherwise
    #[arg(long, short = 'o', value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(subcommand)]
    pub(crate) action: AuditAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditAction {
    /// List changes by administrators, the newest first
    Ls {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The document, in TOML or JSON; `-` reads the standard input
    pub(crate) file: PathBuf,
    /// Remove what the APIs of the document have beyond it
    #[arg(long)]
    pub(crate) prune: bool,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) plan: PlanArgs,
    /// Do not ask before a change
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

/// Form of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DocumentFormat {
    /// As people write it
    Toml,
    /// As programs write it
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Form of the document
    #[arg(long, value_enum, default_value_t = DocumentFormat::Toml)]
    pub(crate) format: DocumentFormat,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ApisArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(subcommand)]
    pub(crate) action: ApisAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApisAction {
    /// List APIs and their stages
    Ls,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// `90`, `90s`, `10m`, `2h`, `7d`: seconds.
pub(crate) fn parse_seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}`: seconds, or a number with s, m, h or d, expected");
    let (digits, factor) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3600),
        Some(b'd') => (&text[..text.len() - 1], 86_400),
        _ => (text, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_carry_a_unit() {
        for (text, seconds) in
            [("0", 0), ("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("7d", 604_800)]
        {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
        }
        for text in ["", "m", "-1", "+1", "1.5h", "1w", "99999999999999999999", "999999999999999999d", "é"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
