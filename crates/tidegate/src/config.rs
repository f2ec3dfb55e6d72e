//! What may be configured: flags over environment over file over defaults, strict, all problems at once.
//!
//! Every value keeps its origin. A key that is not known is an error and names the nearest one that is.

pub(crate) mod apps;
pub(crate) mod changes;
mod check;
mod journal;
mod keys;
pub(crate) mod lambda;
mod logs;
mod nearest;
mod profile;
mod read;
mod shown;
mod usage_plans;
mod warnings;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::apps::{Alerts, Apps};
use self::check::{Checker, check_table};
pub(crate) use self::journal::JournalSettings;
pub(crate) use self::keys::secrets;
pub(crate) use self::lambda::Lambda;
pub(crate) use self::logs::{LogSettings, LogTarget};
use self::nearest::nearest;
pub(crate) use self::read::Written;
use self::read::{Origin, note_origins, read_file};
use self::shown::shown;
pub(crate) use self::shown::{as_json, show};
pub(crate) use self::warnings::{app_warnings, warnings};
use crate::cli::ConfigArgs;
use serde::{Deserialize, Serialize};
use tidegate_auth::{AdminKeys, ApiKey, Credential};
use tidegate_core::settings::Settings;
use tidegate_core::signature::Signatures;
use tidegate_gateway::{Network, UsagePlans};

/// One thing that is wrong, with the path of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) path: String,
    pub(crate) message: String,
    /// Never changes its meaning.
    pub(crate) id: &'static str,
}

/// A key that does not exist.
const UNKNOWN_KEY: &str = "config.unknown-key";

/// A value that cannot be used.
pub(crate) const INVALID_VALUE: &str = "config.invalid-value";

/// Checked values; durations are durations and nothing is absent that has a default.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) data_dir: PathBuf,
    pub(crate) region: String,
    pub(crate) account_id: String,
    pub(crate) public_hostname: Option<String>,
    pub(crate) shutdown_timeout: Duration,
    /// Time over which the closes of a drain are spread.
    pub(crate) drain_spread: Duration,
    pub(crate) max_connections: usize,
    pub(crate) credentials: Vec<Credential>,
    pub(crate) api_keys: Vec<ApiKey>,
    /// Bearer keys of the admin API; `api_key` is one of them.
    pub(crate) admin_keys: AdminKeys,
    pub(crate) trusted_proxies: Vec<Network>,
    /// Clients whose refusals name the diagnosis.
    pub(crate) debug_clients: Vec<Network>,
    /// The probe endpoint of the public listener answers.
    pub(crate) probe: bool,
    pub(crate) settings: Arc<Settings>,
    pub(crate) settings_by_api: HashMap<String, Arc<Settings>>,
    pub(crate) sigv4: SigV4,
    pub(crate) tls: Option<Tls>,
    pub(crate) proxy: Option<SocketAddr>,
    /// Trusted for backends beside the system's certificates.
    pub(crate) backend_ca: Option<PathBuf>,
    /// Known answers of backends, with the operator's own in front.
    pub(crate) signatures: Option<Signatures>,
    pub(crate) journal: JournalSettings,
    /// Where access and execution logs go.
    pub(crate) logs: LogSettings,
    /// Every value with its origin, secrets masked; for reports.
    pub(crate) shown: Shown,
    /// How often the node looks for what is wrong with its APIs; absent: never.
    pub(crate) doctor_interval: Option<Duration>,
    /// The demo page is served.
    pub(crate) is_dev: bool,
    /// Applications in the process.
    pub(crate) apps: Apps,
    /// Functions.
    pub(crate) lambda: Lambda,
    /// API keys of clients, and what they are good for.
    pub(crate) usage_plans: UsagePlans,
    /// What all this was made of, to be compared with what is written later.
    pub(crate) written: Written,
}

impl Config {
    /// The longest that any connection may be open; zero where none has an end.
    pub(crate) fn longest_connection(&self) -> Duration {
        let all = self.settings_by_api.values().chain([&self.settings]);
        let longest = all.map(|settings| settings.data_plane.max_duration).max();
        Duration::from_secs(longest.unwrap_or(0))
    }
}

/// Paths of settings, their values and where these come from.
pub(crate) type Shown = BTreeMap<String, (String, &'static str)>;

/// `[sigv4]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SigV4 {
    /// Unset: only while the public listener is on loopback.
    pub(crate) explain_mismatch: Option<bool>,
    pub(crate) allowed_hosts: Vec<String>,
    /// Seconds.
    pub(crate) clock_skew: u64,
}

impl Default for SigV4 {
    fn default() -> Self {
        Self { explain_mismatch: None, allowed_hosts: Vec::new(), clock_skew: 300 }
    }
}

/// `[tls]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    /// Makes a certificate from a CA in the data directory.
    pub(crate) local_ca: bool,
    /// Further names for that certificate.
    pub(crate) names: Vec<String>,
}

/// `[proxy]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Proxy {
    listen: Option<SocketAddr>,
}

/// A configuration that was loaded.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
}

impl Loaded {
    /// Was this key written somewhere?
    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.config.shown.get(key).is_some_and(|(_, origin)| *origin != "default")
    }
}

/// Loads and checks everything.
///
/// # Errors
/// All problems, not only the first.
pub(crate) fn load(args: &ConfigArgs) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let written = Written::read(args, &mut problems);
    check(written, problems).map(|config| Loaded { config })
}

/// Checks what is written; `problems` are those that reading it had.
///
/// # Errors
/// All problems.
pub(crate) fn check(written: Written, mut problems: Vec<Problem>) -> Result<Config, Vec<Problem>> {
    match check_table(&written.table, &mut problems) {
        Some(mut config) if problems.is_empty() => {
            config.shown = shown(&config, &written.origins);
            config.written = written;
            Ok(config)
        }
        _ => Err(problems),
    }
}

/// Nobody could sign a call.
pub(crate) fn no_credentials() -> Problem {
    Problem {
        path: "access_key_id".to_owned(),
        message: "no credential: set TIDEGATE_ACCESS_KEY_ID and TIDEGATE_SECRET_ACCESS_KEY (or TIDEGATE_SECRET_ACCESS_KEY_FILE)".to_owned(),
        id: "config.no-credentials",
    }
}

/// Prints problems as people read them.
pub(crate) fn print_problems(problems: &[Problem]) {
    for problem in problems {
        eprintln!("config: {}: {} ({})", problem.path, problem.message, problem.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn problems_of(text: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        check_table(&text.parse().expect("TOML"), &mut problems);
        problems
    }

    /// A file without problems.
    pub(super) fn config_of(text: &str) -> Config {
        check(Written::of_text(text), Vec::new()).expect("a configuration")
    }

    pub(super) fn problems(text: &str) -> Vec<String> {
        problems_of(text)
            .into_iter()
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect()
    }

    #[test]
    fn reasons_are_not_told_to_whole_networks() {
        // DX-75
        for (clients, is_fine) in [
            ("'127.0.0.1', '10.1.0.0/16', '2001:db8:1::/48'", true),
            ("'10.0.0.0/15'", false),
            ("'2001:db8::/47'", false),
            ("'0.0.0.0/0'", false),
            ("'somewhere'", false),
        ] {
            let found = problems(&format!("debug_clients = [{clients}]"));
            let is_told = found.iter().any(|problem| problem.starts_with("debug_clients: "));
            assert_eq!(is_told, !is_fine, "{clients}: {found:?}");
        }
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let found = problems(
            "listn = '127.0.0.1:1'\nadmin = 'nowhere'\ntrusted_proxies = ['10.0.0.0/99']\n\
             [data_plane]\nidle_timeout = 'long'\nidle_timout = 5\nmax_frame_bytes = 1\n[tls]\nlisten = '127.0.0.1:0'\n",
        );
        for expected in [
            "listn: unknown key; did you mean `listen`?",
            "admin: `nowhere`",
            "trusted_proxies: 10.0.0.0/99",
            "data_plane.idle_timeout: ",
            "data_plane.idle_timout: unknown field",
            "data_plane.max_frame_bytes: 1 is not between 125",
            "tls: certificate and key",
        ] {
            assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected} in {found:?}");
        }
    }
}
