//! What may be configured: flags over environment over file over defaults, strict, all problems at once.
//!
//! Every value keeps its origin. A key that is not known is an error and names the nearest one that is.

pub(crate) mod apps;
mod keys;
pub(crate) mod lambda;
mod nearest;
mod profile;
mod shown;
mod usage_plans;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidegate_auth::{AdminKeys, ApiKey, Credential};
use tidegate_core::log::is_credential;
use tidegate_core::settings::{Profile, Settings};
use tidegate_core::signature::Signatures;
use tidegate_doctor::journal::ClientAddress;
use tidegate_gateway::{Network, UsagePlans};
use toml::{Table, Value};

pub(crate) use self::apps::{Alerts, Apps};
pub(crate) use self::keys::secrets;
pub(crate) use self::lambda::Lambda;
use self::nearest::nearest;
use self::shown::shown;
pub(crate) use self::shown::{as_json, show};
use crate::cli::ConfigArgs;

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
const INVALID_VALUE: &str = "config.invalid-value";

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
}

/// Paths of settings, their values and where these come from.
pub(crate) type Shown = BTreeMap<String, (String, &'static str)>;

/// `[journal]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct JournalSettings {
    pub(crate) enabled: bool,
    /// `full`, `truncated` or `hashed`.
    pub(crate) client_address: String,
    pub(crate) retention_days: u64,
    pub(crate) max_bytes: u64,
    pub(crate) max_entries: u64,
    /// In a second.
    pub(crate) sample_handshakes: u32,
    /// In a second.
    pub(crate) sample_posts: u32,
    /// Names of query parameters whose values are kept, beside `channel` and `v`.
    pub(crate) query_values: Vec<String>,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            client_address: "full".to_owned(),
            retention_days: 7,
            max_bytes: 512 << 20,
            max_entries: 5_000_000,
            sample_handshakes: 5000,
            sample_posts: 1000,
            query_values: Vec::new(),
        }
    }
}

/// What of `[logs]` is the process's: where lines go.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// By name, as `destinationArn` names them.
    pub(crate) targets: BTreeMap<String, LogTarget>,
    /// Target for execution logs, beside the process's own log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) execution: Option<String>,
}

/// `[logs.targets.NAME]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogTarget {
    /// Unset: `logs/NAME.log` in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<PathBuf>,
    /// Standard output, in place of a file.
    pub(crate) stdout: bool,
    /// Size at which a file is put aside.
    pub(crate) max_bytes: u64,
    /// Files that are kept beside it.
    pub(crate) max_files: u32,
}

impl Default for LogTarget {
    fn default() -> Self {
        Self { file: None, stdout: false, max_bytes: 64 << 20, max_files: 5 }
    }
}

/// Keys of `[logs]` that are the process's.
const LOG_KEYS: [&str; 2] = ["targets", "execution"];

fn is_of_process(key: &str) -> bool {
    LOG_KEYS.contains(&key)
}

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

/// Where the value of a key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Environment,
    File,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
        }
    }
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

/// Most names in `journal.query_values`. Source: our choice; every handshake that is written looks for each.
const MAX_QUERY_VALUES: usize = 16;

/// Longest `drain_spread`, in seconds: those who are closed first have long come back by then.
const MAX_DRAIN_SPREAD: u64 = 60;

/// Keys outside of sections.
const TOP_KEYS: &[&str] = &[
    "listen",
    "admin",
    "data_dir",
    "region",
    "account_id",
    "public_hostname",
    "shutdown_timeout",
    "drain_spread",
    "max_connections",
    "access_key_id",
    "secret_access_key",
    "secret_access_key_file",
    "api_key",
    "api_key_file",
    "trusted_proxies",
    "backend_ca",
    "debug_clients",
    "probe",
    "doctor_interval",
    "signatures",
];

/// Sections whose keys go to every API, and may stand below `[apis.ID]` too.
const API_SECTIONS: &[&str] =
    &["data_plane", "integration", "management", "connect", "api", "authorizer", "context", "logs"];

/// Sections of the same form that count for the whole node.
const NODE_SECTIONS: &[&str] = &["limits", "control_plane"];

/// Sections of the process.
const SECTIONS: &[&str] = &[
    "sigv4",
    "tls",
    "proxy",
    "journal",
    "apis",
    "credentials",
    "keys",
    "jwt",
    "chat",
    "apps",
    "lambda",
    "aws",
    "api_keys",
    "usage_plans",
];

/// Environment variables of this prefix that are no settings.
const OTHER_VARIABLES: &[&str] = &["TIDEGATE_LOG", "TIDEGATE_ADMIN_URL", "TIDEGATE_KEY"];

/// Loads and checks everything.
///
/// # Errors
/// All problems, not only the first.
pub(crate) fn load(args: &ConfigArgs) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut table = match &args.config {
        None => Table::new(),
        Some(path) => read_file(path).unwrap_or_else(|problem| {
            problems.push(problem);
            Table::new()
        }),
    };
    let mut origins = BTreeMap::new();
    note_origins(&table, "", Origin::File, &mut origins);
    apply_environment(&mut table, std::env::vars(), &mut origins, &mut problems);
    for (key, value) in [("listen", &args.listen), ("admin", &args.admin), ("data_dir", &args.data_dir)] {
        if let Some(value) = value {
            let value = Value::String(value.clone());
            origins.insert(key.to_owned(), (Origin::Flag, value.clone()));
            table.insert(key.to_owned(), value);
        }
    }
    if let Some(file) = &args.signatures {
        let value = Value::String(file.display().to_string());
        origins.insert("signatures".to_owned(), (Origin::Flag, value.clone()));
        table.insert("signatures".to_owned(), value);
    }
    for (section, key, value) in [
        ("limits", "profile", args.limits.map(|profile| Value::String(profile.name().to_owned()))),
        ("data_plane", "time_scale", args.time_scale.map(|scale| Value::Integer(scale.into()))),
    ] {
        let Some(value) = value else { continue };
        origins.insert(format!("{section}.{key}"), (Origin::Flag, value.clone()));
        let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(inner) = entry {
            inner.insert(key.to_owned(), value);
        }
    }
    let config = check_table(&table, &mut problems);
    match config {
        Some(mut config) if problems.is_empty() => {
            config.shown = shown(&config, &origins);
            Ok(Loaded { config })
        }
        _ => Err(problems),
    }
}

fn read_file(path: &Path) -> Result<Table, Problem> {
    let problem = |message: String| Problem { path: path.display().to_string(), message, id: INVALID_VALUE };
    let text = std::fs::read_to_string(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
    text.parse::<Table>().map_err(|error| problem(format!("is not valid TOML: {}", error.message())))
}

fn note_origins(
    table: &Table,
    prefix: &str,
    origin: Origin,
    origins: &mut BTreeMap<String, (Origin, Value)>,
) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => note_origins(inner, &path, origin, origins),
            _ => {
                origins.insert(path, (origin, value.clone()));
            }
        }
    }
}

/// `TIDEGATE_LISTEN`, `TIDEGATE_DATA_PLANE_IDLE_TIMEOUT`, ...: the path of a key in capitals.
fn apply_environment(
    table: &mut Table,
    variables: impl Iterator<Item = (String, String)>,
    origins: &mut BTreeMap<String, (Origin, Value)>,
    problems: &mut Vec<Problem>,
) {
    for (name, text) in variables {
        let Some(path) = name.strip_prefix("TIDEGATE_").map(str::to_ascii_lowercase) else { continue };
        if OTHER_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        // Numbers, booleans and lists as TOML writes them; anything else is text.
        let parsed = format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
        let value = match parsed {
            Some(value @ (Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Array(_))) => {
                value
            }
            _ => Value::String(text.clone()),
        };
        if TOP_KEYS.contains(&path.as_str()) {
            // Ids and secrets may look like numbers and are text all the same.
            let is_number = matches!(
                path.as_str(),
                "shutdown_timeout"
                    | "drain_spread"
                    | "max_connections"
                    | "trusted_proxies"
                    | "debug_clients"
                    | "probe"
                    | "doctor_interval"
            );
            let value = if is_number { value } else { Value::String(text) };
            origins.insert(path.clone(), (Origin::Environment, value.clone()));
            table.insert(path, value);
            continue;
        }
        let section = API_SECTIONS
            .iter()
            .chain(NODE_SECTIONS)
            .chain(["sigv4", "tls", "proxy", "journal", "lambda"].iter())
            .find_map(|section| {
                path.strip_prefix(*section)?.strip_prefix('_').map(|key| (*section, key.to_owned()))
            });
        let Some((section, key)) = section else {
            let message = format!("unknown variable{}", nearest(&path, TOP_KEYS.iter().copied()));
            problems.push(Problem { path: name, message, id: UNKNOWN_KEY });
            continue;
        };
        origins.insert(format!("{section}.{key}"), (Origin::Environment, value.clone()));
        let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(inner) = entry {
            inner.insert(key, value);
        }
    }
}

/// What works and is probably not meant.
pub(crate) fn warnings(config: &Config) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut warn = |path: &str, id, message: &str| {
        warnings.push(Problem { path: path.to_owned(), message: message.to_owned(), id });
    };
    if config.credentials.is_empty() {
        let message = "no credential: `serve` does not start, and nobody could sign a call";
        warn("access_key_id", "config.no-credentials", message);
    }
    if !config.admin.ip().is_loopback() {
        let message = "the admin listener can be reached from other machines, without TLS of its own";
        warn("admin", "config.admin-open", message);
    }
    if !config.listen.ip().is_loopback() && config.tls.is_none() && config.trusted_proxies.is_empty() {
        let message =
            "the public listener has neither TLS nor a proxy that ends it: clients speak in the clear";
        warn("listen", "config.no-tls", message);
    }
    warnings
}

/// What applications make possible that is probably not meant. Not for the log of each start: it is what the services whose
/// clients they serve do, too.
pub(crate) fn app_warnings(config: &Config) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut warn = |path: &str, id, message: &str| {
        warnings.push(Problem { path: path.to_owned(), message: message.to_owned(), id });
    };
    let Apps { jwt, chat, alerts, has_demo_users: _ } = &config.apps;
    if chat.is_none() && alerts.is_none() {
        return warnings;
    }
    if jwt.as_ref().is_some_and(|jwt| !jwt.require_exp) {
        let message = "off: a token without `exp` is good for ever, and its connection has no end";
        warn("jwt.require_exp", "jwt.no-expiry", message);
    }
    if !config.trusted_proxies.is_empty() {
        let message = "a proxy stands in front, clients may have their token in the query, and proxies log queries unless they are told not to: log paths without arguments, give tokens a short `exp`, and let clients that are no browsers use the header or the subprotocol";
        warn("trusted_proxies", "log.token-in-query", message);
    }
    warnings
}

/// Checks everything; `None` only together with problems.
fn check_table(table: &Table, problems: &mut Vec<Problem>) -> Option<Config> {
    for key in table.keys() {
        let all = [TOP_KEYS, API_SECTIONS, NODE_SECTIONS, SECTIONS];
        let is_known = all.iter().any(|known| known.contains(&key.as_str()));
        if !is_known {
            let known = all.into_iter().flatten().copied();
            problems.push(Problem {
                path: key.clone(),
                message: format!("unknown key{}", nearest(key, known)),
                id: UNKNOWN_KEY,
            });
        }
    }
    let mut check = Checker { table, problems };
    let listen = check.parse("listen", "127.0.0.1:8080", "address:port");
    let admin = check.parse("admin", "127.0.0.1:8081", "address:port");
    let data_dir: String = check.value("data_dir").unwrap_or_else(|| "tidegate-data".to_owned());
    let region = check.value("region").unwrap_or_else(|| "us-east-1".to_owned());
    let account_id: String = check.value("account_id").unwrap_or_else(|| "000000000000".to_owned());
    if account_id.len() != 12 || !account_id.bytes().all(|b| b.is_ascii_digit()) {
        check.problem("account_id", "12 digits expected");
    }
    let public_hostname = check.value("public_hostname");
    let shutdown_timeout: u64 = check.value("shutdown_timeout").unwrap_or(30);
    let drain_spread: u64 = check.value("drain_spread").unwrap_or(5);
    if drain_spread > MAX_DRAIN_SPREAD {
        check.problem("drain_spread", "0 to 60 seconds expected");
    }
    let max_connections: usize = check.value("max_connections").unwrap_or(1_000_000);
    let doctor_interval: u64 = check.value("doctor_interval").unwrap_or(300);
    // Proxies stand before the node, not before one API; both places of the key mean the same.
    let in_section =
        check.table.get("data_plane").and_then(|section| section.get("trusted_proxies")).cloned();
    let proxies: Vec<String> = match in_section {
        Some(value) => value
            .try_into()
            .map_err(|error: toml::de::Error| check.problem("data_plane.trusted_proxies", error.message()))
            .unwrap_or_default(),
        None => check.value("trusted_proxies").unwrap_or_default(),
    };
    let mut trusted_proxies = Vec::new();
    for proxy in proxies {
        match proxy.parse() {
            Ok(network) => trusted_proxies.push(network),
            Err(error) => check.problem("trusted_proxies", &format!("{proxy}: {error}")),
        }
    }
    let mut debug_clients: Vec<Network> = Vec::new();
    for client in check.value::<Vec<String>>("debug_clients").unwrap_or_default() {
        match client.parse::<Network>() {
            // Reasons are for developers at their own machines, not for whole networks of strangers.
            Ok(network) if network.is_wider_than(16, 48) => {
                let message = format!("{client}: wider than /16 (IPv4) or /48 (IPv6)");
                check.problem("debug_clients", &message);
            }
            Ok(network) => debug_clients.push(network),
            Err(error) => check.problem("debug_clients", &format!("{client}: {error}")),
        }
    }
    let probe = check.value("probe").unwrap_or(true);
    let credentials = check.credentials();
    let api_key = check.secret("api_key").map(|key| check.bearer_key("api_key", &key));
    let admin_keys = check.admin_keys(api_key.as_ref());
    let api_keys = api_key.into_iter().collect();
    let mut settings = check.settings(table, "", &Settings::default());
    let is_aws = settings.limits.profile == Profile::Aws;
    if is_aws {
        check.profile("", table, &mut settings);
    }
    let mut settings_by_api = HashMap::new();
    if let Some(Value::Table(apis)) = table.get("apis") {
        for (api_id, value) in apis {
            let Value::Table(sections) = value else {
                check.problem(&format!("apis.{api_id}"), "a table expected");
                continue;
            };
            let merged = merge_sections(table, sections);
            for key in sections.keys().filter(|key| !API_SECTIONS.contains(&key.as_str())) {
                let hint = nearest(key, API_SECTIONS.iter().copied());
                check.problem(&format!("apis.{api_id}.{key}"), &format!("unknown section{hint}"));
            }
            let prefix = format!("apis.{api_id}.");
            let mut settings = check.settings(&merged, &prefix, &Settings::default());
            if is_aws {
                check.profile(&prefix, sections, &mut settings);
            }
            settings_by_api.insert(api_id.clone(), Arc::new(settings));
        }
    }
    let sigv4 = check.section::<SigV4>("sigv4").unwrap_or_default();
    let tls: Option<Tls> = check.section("tls");
    if let Some(tls) = &tls
        && !tls.local_ca
        && (tls.certificate.is_none() || tls.key.is_none())
    {
        check.problem("tls", "certificate and key, or local_ca = true, expected");
    }
    let proxy = check.section::<Proxy>("proxy").and_then(|proxy| proxy.listen);
    if tls.as_ref().is_some_and(|tls| tls.listen.is_none()) && proxy.is_none() {
        check.problem("tls.listen", "missing: without it, and without [proxy], nothing uses the certificate");
    }
    if proxy.is_some() && tls.is_none() {
        check.problem("proxy", "the proxy leads to the TLS side, so [tls] is needed too");
    }
    let backend_ca: Option<String> = check.value("backend_ca");
    let signatures = check.signatures();
    let journal = check.journal();
    let logs = check.logs();
    let apps = check.apps();
    let lambda = check.lambda(&region);
    check.hook_functions(&apps, &lambda);
    let usage_plans = check.usage_plans();
    Some(Config {
        listen: listen?,
        admin: admin?,
        data_dir: data_dir.into(),
        region,
        account_id,
        public_hostname,
        shutdown_timeout: Duration::from_secs(shutdown_timeout),
        drain_spread: Duration::from_secs(drain_spread),
        max_connections,
        credentials,
        api_keys,
        admin_keys,
        trusted_proxies,
        debug_clients,
        probe,
        settings: Arc::new(settings),
        settings_by_api,
        sigv4,
        tls,
        proxy,
        backend_ca: backend_ca.map(PathBuf::from),
        signatures,
        journal,
        logs,
        shown: Shown::new(),
        doctor_interval: (doctor_interval > 0).then(|| Duration::from_secs(doctor_interval)),
        is_dev: false,
        apps,
        lambda,
        usage_plans,
    })
}

/// The sections of one API over those of all.
fn merge_sections(all: &Table, of_api: &Table) -> Table {
    let mut merged = Table::new();
    for section in API_SECTIONS {
        let mut keys = Table::new();
        for source in [all, of_api] {
            if let Some(Value::Table(inner)) = source.get(*section) {
                keys.extend(inner.clone());
            }
        }
        let is_of_api = of_api.get(*section).is_some_and(|section| section.get("trusted_proxies").is_some());
        if !is_of_api {
            keys.remove("trusted_proxies");
        }
        if *section == "logs" {
            // What is the process's may not stand below an API; there it stays, to be refused.
            let of_api = of_api.get(*section).and_then(Value::as_table);
            keys.retain(|key, _| !is_of_process(key) || of_api.is_some_and(|keys| keys.contains_key(key)));
        }
        merged.insert((*section).to_owned(), Value::Table(keys));
    }
    merged
}

struct Checker<'a> {
    table: &'a Table,
    problems: &'a mut Vec<Problem>,
}

impl Checker<'_> {
    fn problem(&mut self, path: &str, message: &str) {
        // What the deserializer and our own checks say of keys begins so.
        let id = if message.starts_with("unknown ") { UNKNOWN_KEY } else { INVALID_VALUE };
        self.problems.push(Problem { path: path.to_owned(), message: message.to_owned(), id });
    }

    fn value<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let value = self.table.get(key)?.clone();
        value.try_into().map_err(|error: toml::de::Error| self.problem(key, error.message())).ok()
    }

    fn parse<T: std::str::FromStr>(&mut self, key: &str, default: &str, form: &str) -> Option<T> {
        let text: String = match self.table.contains_key(key) {
            true => self.value(key)?,
            false => default.to_owned(),
        };
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.problem(key, &format!("`{text}`: {form} expected"));
        }
        parsed
    }

    /// A section, key by key, so that every wrong key is reported and not only the first.
    fn section<T: DeserializeOwned + Default>(&mut self, name: &str) -> Option<T> {
        let value = self.table.get(name)?;
        let Value::Table(section) = value else {
            self.problem(name, "a table expected");
            return None;
        };
        self.table_of(name, section)
    }

    /// As [`Self::section`], of a table that is at hand.
    fn table_of<T: DeserializeOwned + Default>(&mut self, name: &str, section: &Table) -> Option<T> {
        let (good, bad) = self.good_of(name, section);
        bad.is_empty().then_some(good)
    }

    /// A section without its keys that are unknown or wrong, and those keys; each of them is a problem.
    fn good_of<T: DeserializeOwned + Default>(&mut self, name: &str, section: &Table) -> (T, Vec<String>) {
        let (mut good, mut bad) = (Table::new(), Vec::new());
        for (key, value) in section {
            let alone = Table::from_iter([(key.clone(), value.clone())]);
            match Value::Table(alone).try_into::<T>() {
                Ok(_) => {
                    good.insert(key.clone(), value.clone());
                }
                Err(error) => {
                    self.problem(&format!("{name}.{key}"), error.message());
                    bad.push(key.clone());
                }
            }
        }
        (Value::Table(good).try_into().unwrap_or_default(), bad)
    }

    fn settings(&mut self, table: &Table, prefix: &str, default: &Settings) -> Settings {
        let mut good = Table::new();
        for section in API_SECTIONS.iter().chain(NODE_SECTIONS) {
            let Some(value) = table.get(*section) else { continue };
            let Value::Table(keys) = value else {
                self.problem(&format!("{prefix}{section}"), "a table expected");
                continue;
            };
            let mut good_keys = Table::new();
            for (key, value) in keys {
                if prefix.is_empty() && *section == "data_plane" && key == "trusted_proxies" {
                    continue;
                }
                if prefix.is_empty() && *section == "logs" && is_of_process(key) {
                    continue;
                }
                let alone = Table::from_iter([(key.clone(), value.clone())]);
                let outer = Table::from_iter([((*section).to_owned(), Value::Table(alone))]);
                match Value::Table(outer).try_into::<Settings>() {
                    Ok(_) => {
                        good_keys.insert(key.clone(), value.clone());
                    }
                    Err(error) => self.problem(&format!("{prefix}{section}.{key}"), error.message()),
                }
            }
            good.insert((*section).to_owned(), Value::Table(good_keys));
        }
        let settings: Settings = Value::Table(good).try_into().unwrap_or_else(|_| default.clone());
        self.check_ranges(prefix, &settings);
        settings
    }

    fn check_ranges(&mut self, prefix: &str, settings: &Settings) {
        let data_plane = &settings.data_plane;
        let ranges: [(&str, u64, std::ops::RangeInclusive<u64>); 15] = [
            ("logs.line_bytes", settings.logs.line_bytes as u64, 128..=65_536),
            ("data_plane.max_frame_bytes", data_plane.max_frame_bytes as u64, 125..=64 << 20),
            ("data_plane.max_message_bytes", data_plane.max_message_bytes as u64, 125..=64 << 20),
            ("data_plane.per_connection_concurrency", data_plane.per_connection_concurrency as u64, 1..=64),
            ("data_plane.outbound_buffer_bytes", data_plane.outbound_buffer_bytes as u64, 1024..=1 << 30),
            ("data_plane.disconnect_retries", u64::from(data_plane.disconnect_retries), 0..=100),
            ("data_plane.time_scale", u64::from(data_plane.time_scale), 1..=1_000_000),
            ("integration.retries", u64::from(settings.integration.retries), 0..=10),
            ("integration.max_timeout_ms", u64::from(settings.integration.max_timeout_ms), 50..=3_600_000),
            ("management.hold_ms", settings.management.hold_ms, 1..=60_000),
            ("integration.pool_idle_ms", settings.integration.pool_idle_ms, 1..=600_000),
            ("integration.max_parallel", settings.integration.max_parallel as u64, 1..=1_000_000),
            ("data_plane.server_ping_timeout", data_plane.server_ping_timeout, 1..=3600),
            ("authorizer.timeout_ms", settings.authorizer.timeout_ms, 1..=60_000),
            ("authorizer.max_age", settings.authorizer.max_age, 0..=31_536_000),
        ];
        for (key, value, range) in ranges {
            if !range.contains(&value) {
                let message = format!("{value} is not between {} and {}", range.start(), range.end());
                self.problem(&format!("{prefix}{key}"), &message);
            }
        }
        if let Some(name) = &settings.context.domain_name
            && (name.is_empty() || name.len() > 512 || !name.bytes().all(|b| b.is_ascii_graphic()))
        {
            self.problem(
                &format!("{prefix}context.domain_name"),
                "a host name expected, or a host and a path",
            );
        }
        if settings.api.api_key_query_parameter.as_deref() == Some("") {
            self.problem(&format!("{prefix}api.api_key_query_parameter"), "a name expected");
        }
        if let Some(host) = &settings.integration.host_header
            && (host.is_empty() || !host.bytes().all(|b| b.is_ascii_graphic()))
        {
            self.problem(
                &format!("{prefix}integration.host_header"),
                "a host name, with or without a port, expected",
            );
        }
    }

    /// Targets of access and execution logs.
    fn logs(&mut self) -> LogSettings {
        let Some(Value::Table(section)) = self.table.get("logs") else { return LogSettings::default() };
        let of_process: Table = section
            .iter()
            .filter(|(key, _)| is_of_process(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let settings: LogSettings = self.table_of("logs", &of_process).unwrap_or_default();
        for (name, target) in &settings.targets {
            let path = format!("logs.targets.{name}");
            if target.stdout && target.file.is_some() {
                self.problem(&path, "either file or stdout = true expected");
            }
            if !(64 << 10..=1 << 40).contains(&target.max_bytes) {
                let message = format!("{} is not between 65536 and 1099511627776", target.max_bytes);
                self.problem(&format!("{path}.max_bytes"), &message);
            }
            if target.max_files > 1000 {
                let message = format!("{} is not between 0 and 1000", target.max_files);
                self.problem(&format!("{path}.max_files"), &message);
            }
        }
        settings
    }

    /// The table that the file of `signatures` makes.
    fn signatures(&mut self) -> Option<Signatures> {
        let file: PathBuf = self.value("signatures")?;
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => {
                self.problem("signatures", &format!("{}: {error}", file.display()));
                return None;
            }
        };
        match Signatures::with(&text) {
            Ok(table) => Some(table),
            Err(errors) => {
                for error in errors {
                    self.problem("signatures", &format!("{}: {error}", file.display()));
                }
                None
            }
        }
    }

    fn journal(&mut self) -> JournalSettings {
        let settings: JournalSettings = self.section("journal").unwrap_or_default();
        let ranges: [(&str, u64, std::ops::RangeInclusive<u64>); 5] = [
            ("retention_days", settings.retention_days, 1..=3650),
            ("max_bytes", settings.max_bytes, 1 << 20..=1 << 40),
            ("max_entries", settings.max_entries, 1000..=1_000_000_000),
            ("sample_handshakes", settings.sample_handshakes.into(), 1..=1_000_000),
            ("sample_posts", settings.sample_posts.into(), 1..=1_000_000),
        ];
        for (key, value, range) in ranges {
            if !range.contains(&value) {
                let message = format!("{value} is not between {} and {}", range.start(), range.end());
                self.problem(&format!("journal.{key}"), &message);
            }
        }
        if ClientAddress::find(&settings.client_address).is_none() {
            let message = format!("`{}`: one of full, truncated, hashed expected", settings.client_address);
            self.problem("journal.client_address", &message);
        }
        if settings.query_values.len() > MAX_QUERY_VALUES {
            let message =
                format!("{} names, at most {MAX_QUERY_VALUES} expected", settings.query_values.len());
            self.problem("journal.query_values", &message);
        }
        // A name that says of itself that it is a secret is a mistake, whoever wrote it.
        for name in settings.query_values.iter().filter(|name| name.is_empty() || is_credential(name)) {
            let message = format!("`{name}` is the name of a secret; its values are never kept");
            self.problem("journal.query_values", &message);
        }
        settings
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
        let table = text.parse().expect("TOML");
        let mut origins = BTreeMap::new();
        note_origins(&table, "", Origin::File, &mut origins);
        let mut problems = Vec::new();
        let config = check_table(&table, &mut problems);
        assert_eq!(problems, []);
        let mut config = config.expect("a configuration");
        config.shown = shown(&config, &origins);
        config
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

    #[test]
    fn environment_and_api_sections_override() {
        let mut table: Table =
            "[data_plane]\nidle_timeout = 5\n[apis.abc.data_plane]\nmax_duration = 9\n".parse().unwrap();
        let variables =
            [("TIDEGATE_DATA_PLANE_IDLE_TIMEOUT", "7"), ("TIDEGATE_REGION", "eu-west-1"), ("PATH", "x")];
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (mut origins, mut problems) = (BTreeMap::new(), Vec::new());
        apply_environment(&mut table, variables, &mut origins, &mut problems);
        let config = check_table(&table, &mut problems).expect("a configuration");
        assert_eq!(problems, []);
        assert_eq!((config.region.as_str(), config.settings.data_plane.idle_timeout), ("eu-west-1", 7));
        let of_api = &config.settings_by_api["abc"].data_plane;
        assert_eq!((of_api.idle_timeout, of_api.max_duration), (7, 9));
    }
}
