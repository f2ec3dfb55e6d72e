//! What is written where: the file, the environment and flags, as one table with the origin of each value.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher as _};
use std::path::Path;

use toml::{Table, Value};

use super::{INVALID_VALUE, Problem, UNKNOWN_KEY, nearest};
use crate::cli::ConfigArgs;

/// Keys outside of sections.
pub(super) const TOP_KEYS: &[&str] = &[
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
pub(super) const API_SECTIONS: &[&str] =
    &["data_plane", "integration", "management", "connect", "api", "authorizer", "context", "logs"];

/// Sections of the same form that count for the whole node.
pub(super) const NODE_SECTIONS: &[&str] = &["limits", "control_plane"];

/// Sections of the process.
pub(super) const SECTIONS: &[&str] = &[
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

/// Settings that name a file and do not say so by their name.
const FILES: [&str; 4] = ["backend_ca", "signatures", "tls.certificate", "tls.key"];

/// A configuration as it is written, before anything of it is checked.
#[derive(Clone, Default)]
pub(crate) struct Written {
    pub(super) table: Table,
    /// By path: where the value of a key comes from, and the value.
    pub(super) origins: BTreeMap<String, (Origin, Value)>,
    /// By path: what the files hold that settings name, as a hash; nothing for files that cannot be read.
    pub(super) files: BTreeMap<String, Option<u64>>,
}

/// Secrets are in it.
impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").field("keys", &self.origins.keys()).finish_non_exhaustive()
    }
}

/// Where the value of a key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Environment,
    File,
}

impl Origin {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
        }
    }
}

impl Written {
    /// File, environment and flags.
    pub(super) fn read(args: &ConfigArgs, problems: &mut Vec<Problem>) -> Self {
        let mut table = match &args.config {
            None => Table::new(),
            Some(path) => read_file(path).unwrap_or_else(|problem| {
                problems.push(problem);
                Table::new()
            }),
        };
        let mut origins = BTreeMap::new();
        note_origins(&table, "", Origin::File, &mut origins);
        apply_environment(&mut table, std::env::vars(), &mut origins, problems);
        apply_flags(&mut table, args, &mut origins);
        let files = fingerprints(&table);
        Self { table, origins, files }
    }

    /// Takes what files hold that stand below `root` as what they held when they were read.
    pub(crate) fn look_at_files_of(&mut self, root: &str) {
        let Some(section) = self.table.get(root) else { return };
        let mut files = BTreeMap::new();
        note_files(section, root, root, &mut files);
        self.files.extend(files);
    }

    /// A file with this text, and nothing else.
    #[cfg(test)]
    pub(super) fn of_text(text: &str) -> Self {
        let table: Table = text.parse().expect("TOML");
        let mut origins = BTreeMap::new();
        note_origins(&table, "", Origin::File, &mut origins);
        let files = fingerprints(&table);
        Self { table, origins, files }
    }
}

/// Hashes of the files that settings name, taken before they are read for good: what is written meanwhile is seen the next
/// time.
fn fingerprints(table: &Table) -> BTreeMap<String, Option<u64>> {
    let mut files = BTreeMap::new();
    for (key, value) in table {
        note_files(value, key, key, &mut files);
    }
    files
}

fn note_files(value: &Value, path: &str, name: &str, files: &mut BTreeMap<String, Option<u64>>) {
    match value {
        Value::Table(members) => {
            for (name, member) in members {
                note_files(member, &format!("{path}.{name}"), name, files);
            }
        }
        // Lists are compared as a whole, so the files of all their items count for the list.
        Value::Array(items) => {
            let mut of_items = BTreeMap::new();
            for item in items {
                let Value::Table(members) = item else { continue };
                for (name, member) in members {
                    let path = format!("{path}.{}", of_items.len());
                    note_files(member, &path, name, &mut of_items);
                }
            }
            if !of_items.is_empty() {
                let all: Vec<_> = of_items.into_values().collect();
                files.insert(path.to_owned(), Some(hash(&all)));
            }
        }
        Value::String(file) if name.ends_with("_file") || FILES.contains(&path) => {
            files.insert(path.to_owned(), std::fs::read(file).ok().map(|bytes| hash(&bytes)));
        }
        _ => {}
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn apply_flags(table: &mut Table, args: &ConfigArgs, origins: &mut BTreeMap<String, (Origin, Value)>) {
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
}

pub(super) fn read_file(path: &Path) -> Result<Table, Problem> {
    let problem = |message: String| Problem { path: path.display().to_string(), message, id: INVALID_VALUE };
    let text = std::fs::read_to_string(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
    text.parse::<Table>().map_err(|error| problem(format!("is not valid TOML: {}", error.message())))
}

pub(super) fn note_origins(
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

#[cfg(test)]
mod tests {
    use super::super::check_table;
    use super::*;

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

    #[test]
    fn files_that_settings_name_are_known_by_what_they_hold() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let text = format!("api_key_file = '{0}'\n[[keys]]\nkey_file = '{0}'\n", path.display());
        let files = || Written::of_text(&text).files;
        assert_eq!(files()["api_key_file"], None);
        std::fs::write(&path, "one").expect("write");
        let one = files();
        assert_eq!(one, files());
        std::fs::write(&path, "two").expect("write");
        let two = files();
        assert!(one["api_key_file"] != two["api_key_file"] && one["keys"] != two["keys"]);
        assert!(!format!("{:?}", Written::of_text("api_key = 'hidden'")).contains("hidden"));
    }
}
