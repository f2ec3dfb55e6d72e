//! What `tidegate doctor` looks at from inside.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// What to look at; several may be given.
#[derive(Debug, Default, Args)]
pub(crate) struct InspectArgs {
    /// Check a configuration file, without a running node
    #[arg(long, value_name = "FILE", help_heading = "Looking from inside")]
    pub(crate) config: Option<PathBuf>,
    /// Check an API by id or name, and ask its backends; not needed to name it while there is only one
    #[arg(long, value_name = "API", num_args = 0..=1, default_missing_value = "", help_heading = "Looking from inside")]
    pub(crate) api: Option<String>,
    /// With --api: only connect to backends, send nothing
    #[arg(long, requires = "api", help_heading = "Looking from inside")]
    pub(crate) no_post: bool,
    /// With --api: say where this message would go
    #[arg(long, value_name = "MESSAGE", requires = "api", help_heading = "Looking from inside")]
    pub(crate) message: Option<String>,
    /// With --api: compare the backend's own list of connections, one id a line or JSON, with what is open; `-` reads it
    /// from the standard input
    #[arg(long, value_name = "FILE", requires = "api", help_heading = "Looking from inside")]
    pub(crate) backend_connections: Option<PathBuf>,
    /// With --backend-connections: what opened or ended so recently does not count
    #[arg(long, value_name = "TIME", value_parser = crate::cli::node::parse_seconds, default_value = "30s", help_heading = "Looking from inside")]
    pub(crate) grace: u64,
    /// Check this machine: files, ports, memory, clock, disk
    #[arg(long, help_heading = "Looking from inside")]
    pub(crate) system: bool,
    /// With --system: the directory whose file system counts
    #[arg(long, value_name = "DIR", default_value = ".", help_heading = "Looking from inside")]
    pub(crate) data_dir: PathBuf,
    /// Check a domain name: mappings, certificate, addresses
    #[arg(long, value_name = "NAME", help_heading = "Looking from inside")]
    pub(crate) domain: Option<String>,
    /// Show a connection with its channels
    #[arg(long, value_name = "ID", help_heading = "Looking from inside")]
    pub(crate) connection: Option<String>,
    /// Search a log of any program for tokens, secrets of --config, and handshakes with query values
    #[arg(long, value_name = "FILE", help_heading = "Looking from inside")]
    pub(crate) check_log: Option<PathBuf>,
    /// Show what the checks found that the node repeats
    #[arg(long, help_heading = "Looking from inside")]
    pub(crate) watch: bool,
    /// Write one archive about a connection, a request or a user, as `tidegate report` does
    #[arg(long, value_name = "ID", help_heading = "Looking from inside")]
    pub(crate) bundle: Option<String>,
    /// Address of the node's admin listener; --admin says the same
    #[arg(
        long,
        value_name = "URL",
        env = "TIDEGATE_ADMIN_URL",
        default_value = "http://127.0.0.1:8081",
        help_heading = "Looking from inside"
    )]
    pub(crate) admin_url: String,
    /// File with the key; without it TIDEGATE_KEY, or the access key of TIDEGATE_ACCESS_KEY_ID
    #[arg(long, value_name = "FILE", help_heading = "Looking from inside")]
    pub(crate) key_file: Option<PathBuf>,
}

impl InspectArgs {
    /// Is there anything to look at?
    pub(crate) fn is_asked(&self) -> bool {
        let names = [&self.api, &self.domain, &self.connection, &self.bundle];
        let files = [&self.config, &self.check_log];
        self.system
            || self.watch
            || names.iter().any(|name| name.is_some())
            || files.iter().any(|file| file.is_some())
    }
}

/// Stands in for a backend.
#[derive(Debug, Args)]
pub(crate) struct ReflectArgs {
    /// Address to listen at: that of the backend, which must not run
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub(crate) listen: SocketAddr,
    /// Write the address as JSON into this file once ready
    #[arg(long, value_name = "FILE")]
    pub(crate) address_file: Option<PathBuf>,
    /// End after this many probes
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}
