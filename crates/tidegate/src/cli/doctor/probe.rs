//! Arguments of `tidegate doctor <url>`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tidegate_doctor::probe::{self, Resolve};

use super::duration;

/// No `Debug`: the token is in it.
#[derive(Args)]
pub(crate) struct ProbeArgs {
    /// Token to put into the URL; `-` reads it from standard input
    #[arg(long, value_name = "TOKEN", help_heading = "Options for <URL>")]
    pub(crate) token: Option<String>,
    /// File with the token
    #[arg(long, value_name = "FILE", conflicts_with = "token", help_heading = "Options for <URL>")]
    pub(crate) token_file: Option<PathBuf>,
    /// Query parameter that carries the token
    #[arg(long, value_name = "NAME", default_value = "token", help_heading = "Options for <URL>")]
    pub(crate) token_name: String,
    /// Use the token even if it is good for one connection only
    #[arg(long, help_heading = "Options for <URL>")]
    pub(crate) spend_token: bool,
    /// `Origin` of the page that opens the WebSocket
    #[arg(long, value_name = "ORIGIN", help_heading = "Options for <URL>")]
    pub(crate) origin: Option<String>,
    /// Cookies: a browser's or curl's cookie file, or `name=value; name=value`
    #[arg(long, value_name = "FILE", help_heading = "Options for <URL>")]
    pub(crate) cookie_file: Option<PathBuf>,
    /// Offer a subprotocol; may be repeated
    #[arg(long, value_name = "NAME", help_heading = "Options for <URL>")]
    pub(crate) subprotocol: Vec<String>,
    /// Further header of the handshake, `Name: value`; may be repeated
    #[arg(short = 'H', long, value_name = "HEADER", value_parser = header, help_heading = "Options for <URL>")]
    pub(crate) header: Vec<(String, String)>,
    /// The page that opens the WebSocket: its scheme, policy and cookies
    #[arg(long, value_name = "URL", help_heading = "Options for <URL>")]
    pub(crate) page: Option<String>,
    /// Where the page gets its connect token
    #[arg(long, value_name = "URL", help_heading = "Options for <URL>")]
    pub(crate) token_url: Option<String>,
    /// Header of the page's token request as the browser shows it; may be repeated. Without: those of a correct page
    #[arg(long, value_name = "HEADER", value_parser = header, requires = "token_url", help_heading = "Options for <URL>")]
    pub(crate) token_header: Vec<(String, String)>,
    /// Use this address instead of what DNS says; may be repeated
    #[arg(long, value_name = "HOST:PORT:ADDRESS", value_parser = resolve, help_heading = "Options for <URL>")]
    pub(crate) resolve: Vec<Resolve>,
    /// Ask this name server instead of those of the system; may be repeated
    #[arg(long, value_name = "ADDRESS", value_parser = resolver, help_heading = "Options for <URL>")]
    pub(crate) resolver: Vec<SocketAddr>,
    /// File with further trusted certificates, PEM
    #[arg(long, value_name = "FILE", help_heading = "Options for <URL>")]
    pub(crate) cafile: Option<PathBuf>,
    /// Measure when silent connections are cut, for up to this long
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "130s", value_parser = duration, help_heading = "Options for <URL>")]
    pub(crate) idle: Option<Duration>,
    /// Interval of the client's own heartbeat, for --idle
    #[arg(long, value_name = "TIME", requires = "idle", value_parser = duration, help_heading = "Options for <URL>")]
    pub(crate) heartbeat: Option<Duration>,
    /// Message for the echo probe
    #[arg(long, value_name = "TEXT", help_heading = "Options for <URL>")]
    pub(crate) send: Option<String>,
    /// Text that the answer to it contains
    #[arg(long, value_name = "TEXT", help_heading = "Options for <URL>")]
    pub(crate) expect: Option<String>,
    /// The address is that of a chat: say three wrong things to it, and look at the forms of its errors
    #[arg(long, help_heading = "Options for <URL>")]
    pub(crate) chat: bool,
    /// A request (`POST`) that makes the server send a message to everybody: is it sent to all connections? `{marker}` in
    /// address or body stands for a word that differs each time
    #[arg(long, value_name = "URL", help_heading = "Options for <URL>")]
    pub(crate) publish_url: Option<String>,
    /// Body of that request
    #[arg(
        long,
        value_name = "TEXT",
        requires = "publish_url",
        default_value = "",
        hide_default_value = true,
        help_heading = "Options for <URL>"
    )]
    pub(crate) publish_body: String,
    /// Header of that request, `Name: value`; may be repeated
    #[arg(long, value_name = "HEADER", value_parser = header, requires = "publish_url", help_heading = "Options for <URL>")]
    pub(crate) publish_header: Vec<(String, String)>,
    /// What each connection sends first, so that it gets the message
    #[arg(long, value_name = "TEXT", requires = "publish_url", help_heading = "Options for <URL>")]
    pub(crate) subscribe: Option<String>,
    /// Only these probes, by name or number
    #[arg(long, value_name = "PROBE,...", value_delimiter = ',', value_parser = name, help_heading = "Options for <URL>")]
    pub(crate) only: Vec<&'static str>,
    /// Admin listener of the gateway that is meant: it gives a ticket for its probe endpoint
    #[arg(long, value_name = "URL", help_heading = "Options for <URL>")]
    pub(crate) admin: Option<String>,
    /// Print the measurements of all probes
    #[arg(short, long, help_heading = "Options for <URL>")]
    pub(crate) verbose: bool,
}

fn name(text: &str) -> Result<&'static str, String> {
    probe::name_of(text.trim()).ok_or_else(|| format!("the probes are {}", probe::NAMES.join(", ")))
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("`Name: value` expected")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_name) || value.contains(['\r', '\n', '\0']) {
        return Err("`Name: value` expected".to_owned());
    }
    Ok((name.to_owned(), value.trim().to_owned()))
}

fn resolve(text: &str) -> Result<Resolve, String> {
    let expected = || "HOST:PORT:ADDRESS expected".to_owned();
    let (host, rest) = text.split_once(':').ok_or_else(expected)?;
    let (port, address) = rest.split_once(':').ok_or_else(expected)?;
    let address: IpAddr = address.trim_matches(['[', ']']).parse().map_err(|_| expected())?;
    Ok(Resolve { host: host.to_ascii_lowercase(), port: port.parse().map_err(|_| expected())?, address })
}

fn resolver(text: &str) -> Result<SocketAddr, String> {
    let address =
        text.parse::<SocketAddr>().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)));
    address.map_err(|_| "an address, with or without a port, is expected".to_owned())
}
